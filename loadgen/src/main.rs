//! The `strata-load` binary.
fn main() {}
