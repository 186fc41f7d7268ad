//! One shard of the cache.
#![forbid(unsafe_code)]
