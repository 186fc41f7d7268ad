//! What the programs and the benchmarks here share.
//!
//! Always true: wherever the segcache crate stands beside our store, it is set up in the same way.

use segcache::Policy;

/// How the segcache crate evicts in every comparison: by merging, four segments into one and eight at most, the numbers
/// of its documentation and of the paper (NSDI '21).
pub const SEGCACHE_EVICTION: Policy = Policy::Merge {
    max: 8,
    merge: 4,
    compact: 2,
};
