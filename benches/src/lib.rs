//! Null responders and helpers the benchmarks share.
