//! One shard of the cache: a hash table over append-only segments, both in memory the caller brings.
//!
//! ```text
//!   key --hash--> hash bucket (64 B, 9 entries) --location--> item in a segment
//!                                                              segments of like ttl form a chain
//! ```
//!
//! Everything is computed from the arguments: time is an argument, so is the seed of the hash, and there is one owner
//! (`&mut self`). No command on an item allocates; after [`Shard::new`] only the first [`Shard::flush_prefix`] does, for
//! what it remembers, and what lists items or evictions for somebody who asked. Items and table never use more than the
//! memory they were given, and no call does a long piece of work: expiry, eviction and growth of the table advance by a
//! few items a call. How much of its memory a shard uses can be changed at any time ([`Shard::set_memory_limit`]).
//!
//! What always holds:
//! - a value is returned only for its own key, only before its deadline, and only if it was written after the last
//!   flush that has come due, of everything or of its prefix;
//! - in [`Eviction::None`] an item goes away only by a command, its deadline or a flush; in the other policies also by
//!   an eviction, which is counted;
//! - the CAS unique of a key never repeats with another value, unless a client chooses it, or takes the value alone away;
//! - of several clients that ask for an item which is to be made anew, one is told to do it.
//!
//! ```
//! use strata_store::{Deadline, Eviction, Key, KeyHasher, NewItem, Seconds, SetOutcome, Shard, ShardConfig, Unique};
//!
//! let hasher = KeyHasher::new([1, 2, 3, 4, 5, 6, 7, 8]);
//! let config = ShardConfig { item_max_bytes: 64 << 10, eviction: Eviction::Merge, seed: 9 };
//! let mut shard = Shard::new(vec![0u8; 1 << 20], hasher.clone(), config)?;
//!
//! let key = Key { hash: hasher.hash(b"greeting"), bytes: b"greeting" };
//! let item = NewItem { flags: 0, deadline: Deadline::At(Seconds(10)), value: b"hello" };
//! assert_eq!(shard.set(key, item, Seconds(0)), SetOutcome::Stored);
//! assert_eq!(shard.get(key, Seconds(9), Unique::Unasked).unwrap().value.as_slice(), Some(&b"hello"[..]));
//! assert!(shard.get(key, Seconds(10), Unique::Unasked).is_none());
//! # Ok::<(), strata_store::TooSmall>(())
//! ```
#![deny(unsafe_code)]

mod audit;
mod counters;
mod item;
mod key;
mod loan;
mod number;
mod prefetch;
mod reclaim;
mod segment;
mod shard;
mod table;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
mod ttl;
mod value;

pub use counters::{Counters, Usage};
pub use key::{HASH_SEED_WORDS, KEY_BYTES_MAX, Key, KeyHash, KeyHasher};
pub use loan::Loan;
pub use segment::arena::Memory;
pub use shard::{
    ArithOutcome, Arithmetic, CountOutcome, Counted, Counting, DeleteOutcome, Evicted, Eviction,
    Fetch, Fetched, FlushesMany, Inspected, Invalidation, InvalidationOutcome, LimitOutOfRange,
    MetaSet, MetaSetOutcome, NewItem, Peek, Probe, ScanPlace, SegmentSight, SetMode, SetOutcome,
    Shard, ShardConfig, Sight, TooSmall, TouchOutcome, TtlClass, Unique, Vivify,
};
pub use ttl::{Deadline, Seconds};
pub use value::{Hit, ItemRef, Pieces, Value};
