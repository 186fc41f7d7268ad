//! Our shard, in memory as the server reserves it.
//!
//! Always true: the memory of the shard and its notes outside of it are within what it was given; a hit has the length
//! and the beginning of the object's own value.

use std::sync::Arc;

use strata_server::config::UPKEEP_ITEMS;
use strata_server::memory::Memory;
use strata_store::{
    Deadline, Eviction, HASH_SEED_WORDS, Key, KeyHasher, NewItem, Seconds, SetOutcome, Shard,
    ShardConfig, Unique,
};

use super::Cache;
use crate::draw::{VALUE_BYTES_MAX, mix};
use crate::trace::{KEY_BYTES_MAX, Trace, key_room};

/// Limit of an item, beyond all values of the workloads with their keys.
const ITEM_BYTES_MAX: u32 = 64 << 10;

/// The notes of the table grow with it; this share of the memory is left to them.
const NOTES_GROW_ONE_IN: usize = 256;
/// Calls for upkeep in a second at most: far fewer than the ticks of a server with nothing else to do.
const CALLS_A_SECOND: usize = 128;

/// A shard and what it is asked with.
pub struct Strata {
    trace: Arc<Trace>,
    shard: Shard<Memory>,
    hasher: KeyHasher,
    limit_bytes: usize,
    memory_bytes: usize,
    now: Seconds,
    key: [u8; KEY_BYTES_MAX],
    value: Vec<u8>,
}

impl Strata {
    /// A shard of `limit_bytes` with everything.
    pub fn new(trace: &Arc<Trace>, limit_bytes: usize, eviction: Eviction) -> Self {
        let mut seed = [0; HASH_SEED_WORDS];
        for (index, word) in seed.iter_mut().enumerate() {
            *word = mix(index as u64);
        }
        let hasher = KeyHasher::new(seed);
        let config = ShardConfig {
            item_max_bytes: ITEM_BYTES_MAX,
            eviction,
            seed: 7,
        };
        let shard = |bytes| {
            let memory = Memory::reserve(bytes, false).expect("the machine has this much memory");
            Shard::new(memory, hasher.clone(), config).expect("memory for a shard")
        };
        // The notes outside the memory grow with it, so the first shard tells how much a second has to leave for them.
        let side_bytes = shard(limit_bytes).usage().side_bytes;
        let memory_bytes = limit_bytes - side_bytes - limit_bytes / NOTES_GROW_ONE_IN;
        Self {
            trace: Arc::clone(trace),
            shard: shard(memory_bytes),
            hasher,
            limit_bytes,
            memory_bytes,
            now: Seconds(0),
            key: key_room(),
            value: vec![b'v'; VALUE_BYTES_MAX as usize],
        }
    }

    fn store(
        &mut self,
        object: u32,
        how: impl Fn(&mut Shard<Memory>, Key<'_>, NewItem<'_>, Seconds) -> SetOutcome,
    ) {
        let catalogue = &self.trace.catalogue;
        let bytes = catalogue.key(object, &mut self.key);
        let hash = self.hasher.hash(bytes);
        let value = &mut self.value[..catalogue.value_bytes(object)];
        if let Some(front) = value.first_chunk_mut() {
            *front = object.to_le_bytes();
        }
        let deadline = match catalogue.ttl(object) {
            0 => Deadline::Never,
            ttl => Deadline::At(Seconds(self.now.0 + ttl)),
        };
        let item = NewItem {
            flags: 0,
            deadline,
            value,
        };
        let outcome = how(&mut self.shard, Key { hash, bytes }, item, self.now);
        assert!(
            matches!(outcome, SetOutcome::Stored | SetOutcome::NotStored),
            "storing object {object} ended with {outcome:?}"
        );
    }
}

impl Cache for Strata {
    fn begin_second(&mut self, now: u32) {
        self.now = Seconds(now);
        let mut calls = 1;
        while self.shard.upkeep(self.now, UPKEEP_ITEMS) && calls < CALLS_A_SECOND {
            calls += 1;
        }
    }

    fn tick(&mut self) {
        self.shard.upkeep(self.now, UPKEEP_ITEMS);
    }

    fn get(&mut self, object: u32) -> bool {
        let bytes = self.trace.catalogue.key(object, &mut self.key);
        let hash = self.hasher.hash(bytes);
        let Some(hit) = self
            .shard
            .get(Key { hash, bytes }, self.now, Unique::Unasked)
        else {
            return false;
        };
        let wanted = self.trace.catalogue.value_bytes(object);
        assert_eq!(hit.value.len(), wanted, "length of object {object}");
        if let Some(front) = hit
            .value
            .pieces()
            .next()
            .and_then(|piece| piece.first_chunk())
        {
            assert_eq!(u32::from_le_bytes(*front), object, "a foreign value");
        }
        true
    }

    fn set(&mut self, object: u32) {
        self.store(object, |shard, key, item, now| shard.set(key, item, now));
    }

    fn add(&mut self, object: u32) {
        self.store(object, |shard, key, item, now| shard.add(key, item, now));
    }

    fn replace(&mut self, object: u32) {
        self.store(object, |shard, key, item, now| {
            shard.replace(key, item, now)
        });
    }

    fn delete(&mut self, object: u32) {
        let bytes = self.trace.catalogue.key(object, &mut self.key);
        let hash = self.hasher.hash(bytes);
        self.shard.delete(Key { hash, bytes }, self.now);
    }

    fn items(&self) -> Option<u64> {
        Some(self.shard.counters().items)
    }

    fn charged_bytes(&self) -> usize {
        let side_bytes = self.shard.usage().side_bytes;
        assert!(
            self.memory_bytes + side_bytes <= self.limit_bytes,
            "{} bytes and notes of {side_bytes} are more than {}",
            self.memory_bytes,
            self.limit_bytes
        );
        self.memory_bytes + side_bytes
    }
}
