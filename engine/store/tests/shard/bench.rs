//! A shard and what the tests ask of it, in few words.

use strata_store::{
    ArithOutcome, Arithmetic, Counters, Deadline, Eviction, Key, KeyHasher, Loan, NewItem, Seconds,
    SetOutcome, Shard, ShardConfig, Unique,
};

pub const MIB: usize = 1 << 20;

/// The policies that make room by dropping items.
pub const EVICTING: [Eviction; 3] = [Eviction::Merge, Eviction::S3Fifo, Eviction::Fifo];

pub fn hasher() -> KeyHasher {
    KeyHasher::new([3, 1, 4, 1, 5, 9, 2, 6])
}

/// A shard with shorthand for its keys; every test ends with an audit.
pub struct Bench {
    pub shard: Shard<Vec<u8>>,
    pub hasher: KeyHasher,
}

impl Bench {
    pub fn new(memory_bytes: usize, item_max_bytes: u32, eviction: Eviction) -> Self {
        Self::with_limit(memory_bytes, memory_bytes, item_max_bytes, eviction)
    }

    pub fn with_limit(
        memory_bytes: usize,
        limit_bytes: usize,
        item_max_bytes: u32,
        eviction: Eviction,
    ) -> Self {
        let config = ShardConfig {
            item_max_bytes,
            eviction,
            seed: 7,
        };
        let memory = vec![0; memory_bytes];
        let shard = Shard::with_limit(memory, limit_bytes, hasher(), config);
        Self {
            shard: shard.expect("enough memory"),
            hasher: hasher(),
        }
    }

    pub fn roomy() -> Self {
        Self::new(8 * MIB, MIB as u32, Eviction::Merge)
    }

    pub fn key<'a>(&self, text: &'a str) -> Key<'a> {
        Key {
            hash: self.hasher.hash(text.as_bytes()),
            bytes: text.as_bytes(),
        }
    }

    pub fn set(&mut self, key: &str, value: &[u8], deadline: Deadline, now: u32) -> SetOutcome {
        self.shard.set(
            self.key(key),
            NewItem {
                flags: 0,
                deadline,
                value,
            },
            Seconds(now),
        )
    }

    pub fn get(&mut self, key: &str, now: u32) -> Option<Vec<u8>> {
        let key = self.key(key);
        self.shard
            .get(key, Seconds(now), Unique::Unasked)
            .map(|hit| hit.value.to_vec())
    }

    pub fn unique(&mut self, key: &str, now: u32) -> u64 {
        let key = self.key(key);
        self.shard
            .get(key, Seconds(now), Unique::Wanted)
            .expect("there")
            .cas
    }

    /// What a key holds, if it is there and few enough pages are lent.
    pub fn lend(&mut self, key: &str) -> Option<Loan> {
        let key = self.key(key);
        let hit = self.shard.get(key, Seconds(0), Unique::Unasked)?;
        let item = hit.item;
        self.shard.lend(item)
    }

    pub fn arith(&mut self, key: &str, arithmetic: Arithmetic, delta: u64) -> ArithOutcome {
        self.shard
            .arith(self.key(key), arithmetic, delta, Seconds(0))
    }

    pub fn counters(&self) -> Counters {
        *self.shard.counters()
    }
}

/// Numbered keys of 16 bytes, and limits in MiB.
impl Bench {
    pub fn of_mib(memory_mib: usize, limit_mib: usize, eviction: Eviction) -> Self {
        Self::with_limit(memory_mib * MIB, limit_mib * MIB, MIB as u32, eviction)
    }

    pub fn with_key<T>(
        &mut self,
        number: u32,
        act: impl FnOnce(&mut Shard<Vec<u8>>, Key<'_>) -> T,
    ) -> T {
        let bytes = format!("key{number:013}").into_bytes();
        let key = Key {
            hash: self.hasher.hash(&bytes),
            bytes: &bytes,
        };
        act(&mut self.shard, key)
    }

    pub fn store(&mut self, number: u32, value: &[u8], deadline: Deadline) -> SetOutcome {
        let item = NewItem {
            flags: 0,
            deadline,
            value,
        };
        self.with_key(number, |shard, key| shard.set(key, item, Seconds(0)))
    }

    pub fn has(&mut self, number: u32) -> bool {
        self.with_key(number, |shard, key| {
            shard.get(key, Seconds(0), Unique::Unasked).is_some()
        })
    }

    pub fn held(&mut self, numbers: std::ops::Range<u32>) -> usize {
        numbers.filter(|&number| self.has(number)).count()
    }

    pub fn limit(&mut self, mib: usize) {
        self.shard
            .set_memory_limit(mib * MIB)
            .expect("a limit in range");
    }

    pub fn admit_all(&mut self) {
        while self.shard.admit_page(|_, _| {}) {}
    }

    /// Bytes in use or free.
    pub fn present(&self) -> usize {
        let usage = self.shard.usage();
        usage.pages_total * usage.page_bytes
    }

    /// Items the sweeps have met so far, whatever became of them.
    pub fn swept(&self) -> u64 {
        let counters = self.counters();
        counters.moved + counters.evictions + counters.expired + counters.flushed
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.shard.audit().expect("audit");
        }
    }
}

pub fn at(second: u32) -> Deadline {
    Deadline::At(Seconds(second))
}
