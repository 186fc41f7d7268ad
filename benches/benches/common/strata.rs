//! Our shard, in memory as the server reserves it: huge pages where the kernel gives them, touched beforehand.

use strata_server::memory::Memory;
use strata_store::{
    Deadline, Eviction, Key, KeyHasher, NewItem, Seconds, SetOutcome, Shard, ShardConfig, Unique,
};

use super::{Store, TTL_SECONDS};

/// Items of upkeep between two batches, as a tick of the server has.
const UPKEEP_ITEMS: u32 = 64;

/// One shard and what it needs.
pub struct Strata<M> {
    /// The shard itself.
    pub shard: Shard<M>,
    /// The hasher its keys are hashed with.
    pub hasher: KeyHasher,
    now: Seconds,
}

/// Memory for one shard.
pub fn memory(bytes: usize) -> Memory {
    Memory::reserve(bytes, true).expect("the machine has this much memory")
}

/// A shard in memory of its own.
pub fn new(bytes: usize) -> Strata<Memory> {
    over(memory(bytes))
}

/// A shard in memory that is there already.
pub fn over<M: strata_store::Memory>(memory: M) -> Strata<M> {
    let hasher = KeyHasher::new([
        0x243f_6a88_85a3_08d3,
        0x1319_8a2e_0370_7344,
        0xa409_3822_299f_31d0,
        0x082e_fa98_ec4e_6c89,
        0x4528_21e6_38d0_1377,
        0xbe54_66cf_34e9_0c6c,
        0xc0ac_29b7_c97c_50dd,
        0x3f84_d5b5_b547_0917,
    ]);
    let config = ShardConfig {
        item_max_bytes: 64 << 10,
        eviction: Eviction::S3Fifo,
        seed: 7,
    };
    let shard = Shard::new(memory, hasher.clone(), config).expect("memory for a shard");
    Strata {
        shard,
        hasher,
        now: Seconds(1),
    }
}

impl<M: strata_store::Memory> Strata<M> {
    /// Gets a batch in stages, so that the loads of its keys overlap. Gives the number of hits; all values are copied
    /// to `out`, one after the other.
    #[inline]
    pub fn get_batch<const N: usize>(&mut self, keys: &[[u8; 16]; N], out: &mut [u8]) -> usize {
        let probes = keys
            .each_ref()
            .map(|key| self.shard.prefetch_buckets(self.hasher.hash(key)));
        for probe in probes {
            self.shard.prefetch_item(probe);
        }
        let (mut hits, mut at) = (0, 0);
        for (probe, key) in probes.into_iter().zip(keys) {
            if let Some(hit) = self.shard.get_probed(probe, key, self.now, Unique::Unasked) {
                let value = hit.value.as_slice().expect("a small value is in one piece");
                out[at..at + value.len()].copy_from_slice(value);
                at += value.len();
                hits += 1;
            }
        }
        hits
    }
}

impl<M: strata_store::Memory> Store for Strata<M> {
    #[inline]
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize> {
        let key = Key {
            hash: self.hasher.hash(key),
            bytes: key,
        };
        let hit = self.shard.get(key, self.now, Unique::Unasked)?;
        let value = hit.value.as_slice().expect("a small value is in one piece");
        out[..value.len()].copy_from_slice(value);
        Some(value.len())
    }

    #[inline]
    fn set(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.set_for(key, value, TTL_SECONDS)
    }

    #[inline]
    fn set_for(&mut self, key: &[u8], value: &[u8], ttl_seconds: u32) -> bool {
        let key = Key {
            hash: self.hasher.hash(key),
            bytes: key,
        };
        let deadline = Deadline::At(Seconds(self.now.0 + ttl_seconds));
        let item = NewItem {
            flags: 0,
            deadline,
            value,
        };
        self.shard.set(key, item, self.now) == SetOutcome::Stored
    }

    #[inline]
    fn upkeep(&mut self) {
        self.shard.upkeep(self.now, UPKEEP_ITEMS);
    }

    #[inline]
    fn pass_second(&mut self) {
        self.now.0 += 1;
    }
}
