//! The `segcache` crate, the reference implementation of the same idea.
//!
//! Its interface knows nothing of huge pages: it maps its segments itself, on 4 KiB pages. [`Pages::Huge`] has the
//! kernel put them together afterwards, from outside, so that the comparison can be made on equal pages too.

use std::time::Duration;

use segcache::{Segcache, Value};
use strata_benches::SEGCACHE_EVICTION;

use super::{MIB, Store, TTL_SECONDS, collapse};

/// Which pages it stands on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pages {
    /// As it comes.
    Small,
    /// Put together after it was made.
    Huge,
}

/// A cache and its ttl.
pub struct Peer {
    /// The cache itself.
    pub cache: Segcache,
}

/// A cache of so much memory for segments and `2^hash_power` slots of eight bytes.
pub fn new(heap_bytes: usize, hash_power: u8, pages: Pages) -> Peer {
    let cache = Segcache::builder()
        .heap_size(heap_bytes)
        .segment_size(MIB as i32)
        .hash_power(hash_power)
        .eviction(SEGCACHE_EVICTION)
        .build()
        .expect("the machine has this much memory");
    if pages == Pages::Huge {
        collapse::collapse_large_maps(8 * MIB);
    }
    Peer { cache }
}

impl Store for Peer {
    #[inline]
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        let item = self.cache.get(key)?;
        match item.value() {
            Value::Bytes(value) => {
                out[..value.len()].copy_from_slice(value);
                Some(value.len())
            }
            Value::U64(_) => None,
        }
    }

    #[inline]
    fn set(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.set_for(key, value, TTL_SECONDS)
    }

    #[inline]
    fn set_for(&mut self, key: &[u8], value: &[u8], ttl_seconds: u32) -> bool {
        let ttl = Duration::from_secs(u64::from(ttl_seconds));
        self.cache.insert(key, value, None, ttl).is_ok()
    }

    fn pass_second(&mut self) {
        // By its own clock less than a second may have passed, and then there is nothing to do.
        self.cache.expire();
    }
}
