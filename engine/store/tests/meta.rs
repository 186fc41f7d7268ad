//! What a shard promises to the meta commands, claim by claim, through its public interface.

use strata_store::{
    CountOutcome, Counting, Deadline, Eviction, Fetch, Fetched, Inspected, Invalidation,
    InvalidationOutcome, Key, KeyHasher, MetaSet, MetaSetOutcome, NewItem, Seconds, SetMode,
    SetOutcome, Shard, ShardConfig, Unique, Vivify,
};

struct Bench {
    shard: Shard<Vec<u8>>,
    hasher: KeyHasher,
}

impl Bench {
    fn new() -> Self {
        let hasher = KeyHasher::new([2, 7, 1, 8, 2, 8, 1, 8]);
        let config = ShardConfig {
            item_max_bytes: 64 << 10,
            eviction: Eviction::Merge,
            seed: 3,
        };
        Self {
            shard: Shard::new(vec![0; 4 << 20], hasher.clone(), config).expect("enough memory"),
            hasher,
        }
    }

    fn key<'a>(&self, text: &'a str) -> Key<'a> {
        Key {
            hash: self.hasher.hash(text.as_bytes()),
            bytes: text.as_bytes(),
        }
    }

    fn set(&mut self, key: &str, deadline: Deadline, now: u32) {
        let item = NewItem {
            flags: 0,
            deadline,
            value: b"value",
        };
        let outcome = self.shard.set(self.key(key), item, Seconds(now));
        assert_eq!(outcome, SetOutcome::Stored);
    }

    fn fetch(&mut self, key: &str, how: &Fetch, now: u32) -> Fetched<'_> {
        let key = self.key(key);
        let found = self.shard.fetch_meta(key, how, Seconds(now));
        found.expect("there")
    }

    fn idle(&mut self, key: &str, now: u32) -> u32 {
        let how = Fetch {
            idle: true,
            ..Fetch::default()
        };
        self.fetch(key, &how, now).idle_seconds
    }

    fn inspect(&mut self, key: &str, now: u32) -> Inspected {
        let key = self.key(key);
        self.shard.inspect(key, Seconds(now)).expect("there")
    }

    fn set_as(&mut self, key: &str, how: &MetaSet, deadline: Deadline, now: u32) -> MetaSetOutcome {
        let item = NewItem {
            flags: 0,
            deadline,
            value: b"other",
        };
        self.shard.set_meta(self.key(key), item, how, Seconds(now))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.shard.audit().expect("audit");
        }
    }
}

const SET: MetaSet = MetaSet {
    mode: SetMode::Set,
    compare: None,
    stale: false,
    unique: 0,
    vivify: None,
    wanted: Unique::Wanted,
};

const STALE: Invalidation = Invalidation {
    compare: None,
    stale: true,
    clear: None,
    deadline: None,
    unique: 0,
};

fn at(second: u32) -> Deadline {
    Deadline::At(Seconds(second))
}

#[test]
fn the_last_access_is_exact_once_it_is_asked_for() {
    let mut bench = Bench::new();
    bench.set("asked", Deadline::Never, 10);
    assert_eq!(bench.idle("asked", 25), 15);
    assert_eq!(bench.idle("asked", 25), 0);
    bench
        .shard
        .get(bench.key("asked"), Seconds(40), Unique::Unasked);
    assert_eq!(bench.idle("asked", 47), 7);
    // One that is written after that knows without being asked.
    bench.set("later", at(100_000), 50);
    bench
        .shard
        .get(bench.key("later"), Seconds(60), Unique::Unasked);
    bench
        .shard
        .touch(bench.key("later"), Deadline::Never, Seconds(70));
    assert_eq!(bench.inspect("later", 95).idle_seconds, 25);
}

#[test]
fn before_it_is_asked_for_the_last_access_is_when_the_item_was_written_at_the_latest() {
    let mut bench = Bench::new();
    bench.set("early", Deadline::Never, 10);
    bench.set("middle", Deadline::Never, 20);
    bench.set("late", Deadline::Never, 30);
    bench.set("last", Deadline::Never, 30);
    // Those of the last second are told apart from what the segment took before.
    assert_eq!(bench.inspect("last", 100).idle_seconds, 70);
    assert_eq!(bench.inspect("late", 100).idle_seconds, 70);
    assert_eq!(bench.inspect("middle", 100).idle_seconds, 90);
    assert_eq!(bench.inspect("early", 100).idle_seconds, 90);
}

#[test]
fn an_item_that_nobody_asks_about_has_no_notes() {
    let mut bench = Bench::new();
    let plain = 6 + 3 + 5;
    bench.set("one", Deadline::Never, 10);
    bench.inspect("one", 10);
    bench.set("two", Deadline::Never, 10);
    bench.fetch("two", &Fetch::default(), 11);
    assert_eq!(bench.inspect("two", 11).item_bytes, plain);
    bench.idle("one", 20);
    // The item itself moves, with the unique that was told, and new ones get their place for an hour.
    assert_eq!(bench.inspect("one", 20).item_bytes, plain + 5 + 8);
    bench.set("six", Deadline::Never, 20 + 3599);
    assert_eq!(bench.inspect("six", 3619).item_bytes, plain + 5);
    bench.set("ten", Deadline::Never, 20 + 3600);
    assert_eq!(bench.inspect("ten", 3620).item_bytes, plain);
}

#[test]
fn of_those_who_find_it_stale_or_nearly_dead_one_wins() {
    let mut bench = Bench::new();
    bench.set("k", at(100), 0);
    let late = Fetch {
        recache: Some(at(200)),
        ..Fetch::default()
    };
    let marks = |found: Fetched<'_>| (found.won, found.sent, found.stale);
    assert_eq!(
        marks(bench.fetch("k", &Fetch::default(), 1)),
        (false, false, false)
    );
    assert_eq!(marks(bench.fetch("k", &late, 1)), (true, false, false));
    assert_eq!(marks(bench.fetch("k", &late, 1)), (false, true, false));
    let key = bench.key("k");
    let done = bench.shard.invalidate(key, &STALE, Seconds(2));
    assert_eq!(done, InvalidationOutcome::Done);
    assert_eq!(
        marks(bench.fetch("k", &Fetch::default(), 3)),
        (true, false, true)
    );
    assert_eq!(marks(bench.fetch("k", &late, 3)), (false, true, true));
    bench.set("k", Deadline::Never, 4);
    assert_eq!(marks(bench.fetch("k", &late, 5)), (false, false, false));
}

#[test]
fn a_miss_that_makes_an_item_wins_it() {
    let mut bench = Bench::new();
    let how = Fetch {
        vivify: Some(Vivify {
            deadline: at(50),
            unique: 77,
        }),
        unique: Unique::Wanted,
        ..Fetch::default()
    };
    let found = bench.fetch("k", &how, 10);
    assert!(found.made && found.won && found.hit.first_fetch);
    assert_eq!((found.hit.cas, found.hit.value.len()), (77, 0));
    let found = bench.fetch("k", &how, 11);
    assert!(!found.made && !found.won && found.sent && !found.hit.first_fetch);
    let key = bench.key("k");
    assert!(bench.shard.get(key, Seconds(50), Unique::Unasked).is_none());
}

#[test]
fn an_older_unique_is_known_as_such_whichever_segments_the_items_were_in() {
    let mut bench = Bench::new();
    // The segment for long lives is opened first, so what is written there later has the smaller unique.
    bench.set("opens", Deadline::Never, 0);
    bench.set("k", at(1000), 0);
    let older = bench.inspect("k", 0).unique;
    bench.set("k", Deadline::Never, 1);
    let newer = bench.inspect("k", 1).unique;
    assert!(newer < older);
    let how = MetaSet {
        compare: Some(older),
        ..SET
    };
    let refused = bench.set_as("k", &how, at(99), 2);
    assert_eq!(refused.outcome, SetOutcome::Exists);
    let stored = bench.set_as("k", &MetaSet { stale: true, ..how }, at(99), 2);
    assert_eq!(stored.outcome, SetOutcome::Stored);
    let found = bench.fetch("k", &Fetch::default(), 3);
    assert!(found.stale && found.won);
    assert_eq!(found.hit.deadline, Deadline::Never);
    assert_eq!(found.hit.value.to_vec(), b"other");
    // Nobody has been told of a unique to come.
    let how = MetaSet {
        compare: Some(u64::MAX),
        stale: true,
        ..SET
    };
    assert_eq!(
        bench.set_as("k", &how, at(99), 4).outcome,
        SetOutcome::Exists
    );
}

#[test]
fn a_unique_that_a_client_chose_stays_until_the_item_changes() {
    let mut bench = Bench::new();
    let how = MetaSet { unique: 5, ..SET };
    assert_eq!(bench.set_as("n", &how, Deadline::Never, 0).unique, 5);
    let key = bench.key("n");
    bench.shard.touch(key, at(9_000_000), Seconds(1));
    assert_eq!(bench.inspect("n", 1).unique, 5);
    bench.set("n", Deadline::Never, 2);
    assert_ne!(bench.inspect("n", 2).unique, 5);
}

#[test]
fn a_count_in_place_changes_a_unique_that_was_told() {
    let mut bench = Bench::new();
    let how = Counting {
        vivify: Some((10, Deadline::Never)),
        wanted: Unique::Wanted,
        ..Counting::default()
    };
    let mut uniques = Vec::new();
    for value in 10..14 {
        let key = bench.key("n");
        let CountOutcome::Counted(counted) = bench.shard.count(key, &how, Seconds(0)) else {
            panic!("not counted");
        };
        assert_eq!((counted.value, counted.made), (value, value == 10));
        uniques.push(counted.unique);
    }
    uniques.sort_unstable();
    uniques.dedup();
    assert_eq!(uniques.len(), 4);
}
