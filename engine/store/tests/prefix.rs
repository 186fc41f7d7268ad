//! Flushes of one prefix of the keys.

use strata_store::{
    Deadline, Eviction, FlushesMany, Key, KeyHasher, NewItem, Peek, Seconds, SetOutcome, Shard,
    ShardConfig, TouchOutcome, Unique,
};

const NOW: Seconds = Seconds(100);

struct Cache {
    shard: Shard<Vec<u8>>,
    hasher: KeyHasher,
}

impl Cache {
    fn new(eviction: Eviction) -> Self {
        let hasher = KeyHasher::new([3, 1, 4, 1, 5, 9, 2, 6]);
        let config = ShardConfig {
            item_max_bytes: 64 << 10,
            eviction,
            seed: 1,
        };
        let shard = Shard::new(vec![0; 2 << 20], hasher.clone(), config).expect("enough memory");
        Self { shard, hasher }
    }

    fn key<'a>(&self, key: &'a str) -> Key<'a> {
        let bytes = key.as_bytes();
        Key {
            hash: self.hasher.hash(bytes),
            bytes,
        }
    }

    fn try_set(&mut self, key: &str, value: &[u8]) -> SetOutcome {
        let item = NewItem {
            flags: 0,
            deadline: Deadline::Never,
            value,
        };
        self.shard.set(self.key(key), item, NOW)
    }

    fn set(&mut self, key: &str) {
        assert_eq!(self.try_set(key, key.as_bytes()), SetOutcome::Stored);
    }

    fn has(&mut self, key: &str) -> bool {
        let hit = self.shard.get(self.key(key), NOW, Unique::Unasked);
        hit.is_some_and(|hit| hit.value.as_slice() == Some(key.as_bytes()))
    }

    fn flush(&mut self, prefix: &str) -> Result<(), FlushesMany> {
        let hash = self.hasher.hash(prefix.as_bytes());
        self.shard.flush_prefix(hash, NOW)
    }

    /// Upkeep until there is nothing to do.
    fn clean(&mut self) {
        while self.shard.upkeep(NOW, 20) {}
        assert_eq!(self.shard.usage().prefixes_flushed, 0);
        self.shard.audit().expect("an audit");
    }
}

const POLICIES: [Eviction; 4] = [
    Eviction::Merge,
    Eviction::S3Fifo,
    Eviction::Fifo,
    Eviction::None,
];

#[test]
fn what_has_the_prefix_is_a_miss_and_the_rest_stays() {
    for upkeep in [false, true] {
        let mut cache = Cache::new(Eviction::S3Fifo);
        let others = ["a", "ab:1", "b:a:1", ":a:1", "b"];
        for key in ["a:1", "a:", "a:b:2"].iter().chain(&others) {
            cache.set(key);
        }
        cache.flush("a").expect("room for a flush");
        if upkeep {
            cache.clean();
        }
        for key in ["a:1", "a:", "a:b:2"] {
            assert_eq!(
                cache.shard.peek(cache.key(key), NOW) == Peek::Flushed,
                !upkeep
            );
            assert!(!cache.has(key), "{key}");
        }
        for key in others {
            assert!(cache.has(key), "{key}");
        }
        let counters = cache.shard.counters();
        assert_eq!((counters.flushed, counters.items), (3, 5));
        // The empty prefix is one like any other.
        cache.flush("").expect("room for a flush");
        assert!(!cache.has(":a:1") && cache.has("b:a:1"));
        cache.shard.audit().expect("an audit");
    }
}

#[test]
fn what_is_written_after_the_flush_is_there_however_often_that_happens() {
    for eviction in POLICIES {
        let mut cache = Cache::new(eviction);
        cache.set("b:before");
        for round in 0..200 {
            let key = format!("a:{round}");
            cache.set(&key);
            if round % 3 > 0 {
                cache.flush("a").expect("room for a flush");
                assert!(!cache.has(&key), "{key}");
                cache.set("a:again");
                cache.flush("c").expect("room for a flush");
                assert!(cache.has("a:again"), "round {round}");
            }
            cache.shard.audit().expect("an audit");
        }
        assert!(cache.has("b:before"));
        cache.clean();
        assert!(cache.has("a:again") && cache.has("b:before"));
    }
}

#[test]
fn an_item_that_moves_keeps_what_the_flushes_make_of_it() {
    let mut cache = Cache::new(Eviction::None);
    cache.set("a:lost");
    cache.flush("a").expect("room for a flush");
    cache.set("a:kept");
    let far = Deadline::At(Seconds(1_000_000));
    let touched = |cache: &mut Cache, key| cache.shard.touch(cache.key(key), far, NOW);
    assert_eq!(touched(&mut cache, "a:lost"), TouchOutcome::NotFound);
    assert_eq!(touched(&mut cache, "a:kept"), TouchOutcome::Touched);
    assert!(cache.has("a:kept") && !cache.has("a:lost"));
    cache.flush("a").expect("room for a flush");
    assert!(!cache.has("a:kept"));
    cache.clean();
}

#[test]
fn upkeep_gives_back_what_a_flushed_prefix_held() {
    let mut cache = Cache::new(Eviction::None);
    let value = [b'v'; 1000];
    let mut count = 0u64;
    while cache.try_set(&format!("{}:{count}", count % 2), &value) == SetOutcome::Stored {
        count += 1;
    }
    cache.flush("0").expect("room for a flush");
    cache.clean();
    assert_eq!(cache.shard.counters().flushed, count.div_ceil(2));
    for at in 0..count / 3 {
        assert_eq!(
            cache.try_set(&format!("new:{at}"), &value),
            SetOutcome::Stored,
            "{at} of {count}"
        );
    }
}

#[test]
fn flushes_beyond_the_bound_are_refused_until_upkeep_has_been_round() {
    let mut cache = Cache::new(Eviction::S3Fifo);
    cache.set("p0:x");
    for at in 0..4096 {
        cache.flush(&format!("p{at}")).expect("room for a flush");
    }
    cache.set("one:x");
    assert_eq!(cache.flush("one"), Err(FlushesMany));
    assert!(cache.has("one:x"));
    // Those that are remembered can be flushed again.
    cache.set("p7:x");
    assert_eq!(cache.flush("p7"), Ok(()));
    assert!(!cache.has("p0:x") && !cache.has("p7:x"));
    cache.shard.audit().expect("an audit");
    cache.clean();
    assert_eq!(cache.flush("one"), Ok(()));
    assert!(!cache.has("one:x"));
}

#[test]
fn another_delimiter_makes_other_prefixes() {
    let mut cache = Cache::new(Eviction::Merge);
    cache.shard.delimit_prefixes(b'/');
    for key in ["a/1", "a:1", "a:b/1"] {
        cache.set(key);
    }
    cache.flush("a").expect("room for a flush");
    assert!(!cache.has("a/1") && cache.has("a:1") && cache.has("a:b/1"));
}

#[test]
fn who_never_flushes_a_prefix_pays_no_byte() {
    let mut cache = Cache::new(Eviction::Merge);
    let side_bytes = cache.shard.usage().side_bytes;
    cache.set("a:1");
    let bytes = cache.shard.counters().bytes;
    assert_eq!(bytes, 6 + 3 + 3, "a header of six bytes, key and value");
    cache.flush("a").expect("room for a flush");
    cache.set("a:1");
    assert_eq!(cache.shard.counters().bytes, bytes);
    assert!(cache.shard.usage().side_bytes > side_bytes);
}

#[test]
fn a_flush_of_everything_ends_the_flushes_of_prefixes() {
    let mut cache = Cache::new(Eviction::S3Fifo);
    cache.set("a:1");
    cache.flush("a").expect("room for a flush");
    cache.shard.flush(NOW, NOW);
    assert_eq!(cache.shard.usage().prefixes_flushed, 0);
    cache.set("a:2");
    assert!(cache.has("a:2") && !cache.has("a:1"));
    cache.flush("a").expect("room for a flush");
    assert!(!cache.has("a:2"));
    cache.clean();
}
