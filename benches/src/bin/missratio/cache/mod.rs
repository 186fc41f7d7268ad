//! The stores that are compared, behind one trait.
//!
//! Always true: a store is told the time, sees keys and values of the same lengths as all others, and is charged all
//! the memory it uses.

pub mod clock;
pub mod links;
pub mod lru;
pub mod s3fifo;
pub mod segcache;
pub mod strata;

use std::sync::Arc;

use strata_store::Eviction;

use crate::trace::Trace;

/// What memcached uses for an item beside key and value: 48 bytes of header, 8 of CAS unique, 3 of NUL and CR LF, 8 of
/// hash pointer and the usual loss in a slab class. The two classic policies are charged this.
pub const CLASSIC_ITEM_BYTES: usize = 72;

/// What a store is asked. Objects are numbers in the catalogue of the trace.
pub trait Cache {
    /// A later second has begun, not always the next: nothing was asked in those between. A server has spare time in every second, so upkeep may be done to its end.
    fn begin_second(&mut self, now: u32);
    /// A few more requests have passed, as between two ticks of a server.
    fn tick(&mut self) {}
    /// Looks up and counts the fetch; whether it is there.
    fn get(&mut self, object: u32) -> bool;
    /// Stores.
    fn set(&mut self, object: u32);
    /// Stores if it is absent; otherwise counts as a fetch, as it does in memcached.
    fn add(&mut self, object: u32) {
        if !self.get(object) {
            self.set(object);
        }
    }
    /// Stores if it is present.
    fn replace(&mut self, object: u32);
    /// Removes.
    fn delete(&mut self, object: u32);
    /// Items held now, if the store tells.
    fn items(&self) -> Option<u64>;
    /// Bytes charged now: for a store that reserves its memory, all of it.
    fn charged_bytes(&self) -> usize;
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// This project's shard.
    Strata(Eviction),
    /// The segcache crate, merge eviction.
    Segcache,
    /// An exact LRU.
    Lru,
    /// S3-FIFO over single items, as published.
    S3Fifo,
}

/// All of them with the names they have on the command line and in the record; the first is the one that is judged.
pub const POLICIES: &[(&str, Policy)] = &[
    ("strata-s3fifo", Policy::Strata(Eviction::S3Fifo)),
    ("strata-merge", Policy::Strata(Eviction::Merge)),
    ("strata-fifo", Policy::Strata(Eviction::Fifo)),
    ("segcache", Policy::Segcache),
    ("lru", Policy::Lru),
    ("s3fifo", Policy::S3Fifo),
];

impl Policy {
    /// A fresh store of `memory_bytes` in all for the objects of `trace`, with room for variants the policy has none of.
    pub fn open(self, trace: &Arc<Trace>, memory_bytes: usize, variant: usize) -> Box<dyn Cache> {
        match self {
            Self::Strata(eviction) => Box::new(strata::Strata::new(trace, memory_bytes, eviction)),
            Self::Segcache => Box::new(segcache::Peer::new(trace, memory_bytes, variant)),
            Self::Lru => Box::new(lru::Lru::new(trace, memory_bytes, CLASSIC_ITEM_BYTES)),
            Self::S3Fifo => Box::new(s3fifo::S3Fifo::new(trace, memory_bytes, CLASSIC_ITEM_BYTES)),
        }
    }

    /// Whether a replay may end without a result.
    pub fn needs_a_process(self) -> bool {
        self == Self::Segcache
    }

    /// How many ways of setting it up are tried; the best counts.
    pub fn variants(self) -> usize {
        match self {
            Self::Segcache => segcache::VARIANTS,
            _ => 1,
        }
    }
}
