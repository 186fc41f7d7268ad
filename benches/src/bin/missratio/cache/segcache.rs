//! The `segcache` crate with merge eviction, the reference implementation of the segment store.
//!
//! Segments are smaller than the usual 1 MiB where
//! memory is small, so that there are always some hundreds to choose from. Its table has a fixed size, a power of two:
//! two sizes are tried and the better one counts.
//!
//! In release 0.4.4 a merge can begin at a segment that meanwhile belongs to another ttl's chain, after which a chain may
//! end in a segment that takes nothing: a store then waits for ever. It shows where several ttls expire while memory is
//! full. Such a replay has no result.
//!
//! Always true: segments, their headers and the table are within what it was given.

use std::sync::Arc;
use std::time::Duration;

use segcache::Segcache;
use strata_benches::SEGCACHE_EVICTION;

use super::{Cache, clock};
use crate::draw::VALUE_BYTES_MAX;
use crate::trace::{KEY_BYTES_MAX, Trace, key_room};

/// Sizes of the table that are tried.
pub const VARIANTS: usize = 2;

/// Bytes of a slot of its table.
const SLOT_BYTES: usize = 8;
/// Bytes of a segment's header, outside the segment.
const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of an item beside key and value: header, and half of the alignment.
const ITEM_BYTES: usize = 12 + 4;
/// At least so many segments, unless they would be too small for the largest value.
const SEGMENTS: usize = 512;
/// Smallest segment: holds the largest value.
const SEGMENT_BYTES_MIN: usize = 64 << 10;
/// Its usual segment.
const SEGMENT_BYTES_MAX: usize = 1 << 20;

/// The cache and what it is asked with.
pub struct Peer {
    trace: Arc<Trace>,
    cache: Segcache,
    charged_bytes: usize,
    key: [u8; KEY_BYTES_MAX],
    value: Vec<u8>,
}

impl Peer {
    /// A cache of `limit_bytes` with everything. Variant 0 has at least a slot for each item that is expected, variant
    /// 1 half as many.
    pub fn new(trace: &Arc<Trace>, limit_bytes: usize, variant: usize) -> Self {
        clock::set(0);
        let count = trace.catalogue.count();
        let bodies: usize = (0..count as u32)
            .map(|object| trace.catalogue.body_bytes(object))
            .sum();
        let item_bytes = bodies / count + ITEM_BYTES;
        // A cache does not hold more than fits, nor more than there is.
        let expected = (limit_bytes / (item_bytes + SLOT_BYTES)).min(count);
        let slots = expected.next_power_of_two().max(1 << 10) >> variant;
        let table_bytes = slots * SLOT_BYTES;
        let segment_bytes = (limit_bytes / SEGMENTS)
            .next_power_of_two()
            .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let segments = (limit_bytes - table_bytes) / (segment_bytes + SEGMENT_HEADER_BYTES);
        let cache = Segcache::builder()
            .heap_size(segments * segment_bytes)
            .segment_size(segment_bytes as i32)
            .hash_power(slots.trailing_zeros() as u8)
            .eviction(SEGCACHE_EVICTION)
            .build()
            .expect("the machine has this much memory");
        Self {
            trace: Arc::clone(trace),
            cache,
            charged_bytes: table_bytes + segments * (segment_bytes + SEGMENT_HEADER_BYTES),
            key: key_room(),
            value: vec![b'v'; VALUE_BYTES_MAX as usize],
        }
    }
}

impl Cache for Peer {
    fn begin_second(&mut self, now: u32) {
        clock::set(now);
        self.cache.expire();
    }

    fn get(&mut self, object: u32) -> bool {
        clock::begin_request();
        let key = self.trace.catalogue.key(object, &mut self.key);
        self.cache.get(key).is_some()
    }

    /// A store it refuses leaves the item out, which is a miss later.
    fn set(&mut self, object: u32) {
        clock::begin_request();
        let catalogue = &self.trace.catalogue;
        let ttl = Duration::from_secs(u64::from(catalogue.ttl(object)));
        let value = &self.value[..catalogue.value_bytes(object)];
        let key = catalogue.key(object, &mut self.key);
        let _ = self.cache.insert(key, value, None, ttl);
    }

    fn add(&mut self, object: u32) {
        let key = self.trace.catalogue.key(object, &mut self.key);
        if self.cache.get_no_freq_incr(key).is_none() {
            self.set(object);
        }
    }

    fn replace(&mut self, object: u32) {
        let key = self.trace.catalogue.key(object, &mut self.key);
        if self.cache.get_no_freq_incr(key).is_some() {
            self.set(object);
        }
    }

    fn delete(&mut self, object: u32) {
        clock::begin_request();
        let key = self.trace.catalogue.key(object, &mut self.key);
        self.cache.delete(key);
    }

    /// It counts them only when built for tests.
    fn items(&self) -> Option<u64> {
        None
    }

    fn charged_bytes(&self) -> usize {
        self.charged_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Catalogue;
    use crate::workload::Operation;

    #[test]
    fn items_expire_by_the_invented_clock() {
        let catalogue = Catalogue::of(&[(10, 50, 100), (10, 50, 0)]);
        let trace = Arc::new(Trace::of(&[(Operation::Get, 0)], catalogue));
        let mut peer = Peer::new(&trace, 8 << 20, 0);
        peer.begin_second(5);
        peer.set(0);
        peer.set(1);
        peer.begin_second(60);
        assert!(peer.get(0) && peer.get(1));
        peer.begin_second(106);
        assert!(!peer.get(0) && peer.get(1));
    }
}
