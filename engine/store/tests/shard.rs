//! What one shard promises, claim by claim, through its public interface.

use strata_store::{
    ArithOutcome, Arithmetic, Counters, Deadline, DeleteOutcome, Eviction, Key, KeyHasher, NewItem,
    Seconds, SetOutcome, Shard, ShardConfig, TooSmall, TouchOutcome, Unique,
};

const MIB: usize = 1 << 20;

/// The policies that make room by dropping items.
const EVICTING: [Eviction; 3] = [Eviction::Merge, Eviction::S3Fifo, Eviction::Fifo];

fn hasher() -> KeyHasher {
    KeyHasher::new([3, 1, 4, 1, 5, 9, 2, 6])
}

/// A shard with shorthand for text keys; every test ends with an audit.
struct Bench {
    shard: Shard<Vec<u8>>,
    hasher: KeyHasher,
}

impl Bench {
    fn new(memory_bytes: usize, item_max_bytes: u32, eviction: Eviction) -> Self {
        let config = ShardConfig {
            item_max_bytes,
            eviction,
            seed: 7,
        };
        let shard = Shard::new(vec![0; memory_bytes], hasher(), config).expect("enough memory");
        Self {
            shard,
            hasher: hasher(),
        }
    }

    fn roomy() -> Self {
        Self::new(8 * MIB, MIB as u32, Eviction::Merge)
    }

    fn key<'a>(&self, text: &'a str) -> Key<'a> {
        Key {
            hash: self.hasher.hash(text.as_bytes()),
            bytes: text.as_bytes(),
        }
    }

    fn set(&mut self, key: &str, value: &[u8], deadline: Deadline, now: u32) -> SetOutcome {
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

    fn get(&mut self, key: &str, now: u32) -> Option<Vec<u8>> {
        let key = self.key(key);
        self.shard
            .get(key, Seconds(now), Unique::Unasked)
            .map(|hit| hit.value.to_vec())
    }

    fn unique(&mut self, key: &str, now: u32) -> u64 {
        let key = self.key(key);
        self.shard
            .get(key, Seconds(now), Unique::Wanted)
            .expect("there")
            .cas
    }

    fn arith(&mut self, key: &str, arithmetic: Arithmetic, delta: u64) -> ArithOutcome {
        self.shard
            .arith(self.key(key), arithmetic, delta, Seconds(0))
    }

    fn counters(&self) -> Counters {
        *self.shard.counters()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.shard.audit().expect("audit");
        }
    }
}

fn at(second: u32) -> Deadline {
    Deadline::At(Seconds(second))
}

#[test]
fn expired_item_is_a_miss_and_not_a_second_before() {
    let mut bench = Bench::roomy();
    for ttl in [
        1,
        2,
        7,
        8,
        9,
        100,
        1_000_000,
        1 << 23,
        (1 << 23) + 1,
        1 << 24,
        1 << 30,
    ] {
        let key = format!("ttl{ttl}");
        assert_eq!(bench.set(&key, b"v", at(5 + ttl), 5), SetOutcome::Stored);
    }
    for ttl in [
        1,
        2,
        7,
        8,
        9,
        100,
        1_000_000,
        1 << 23,
        (1 << 23) + 1,
        1 << 24,
        1 << 30,
    ] {
        let key = format!("ttl{ttl}");
        assert!(bench.get(&key, 5 + ttl - 1).is_some(), "{ttl}");
        assert!(bench.get(&key, 5 + ttl).is_none(), "{ttl}");
    }
    assert_eq!(
        (bench.counters().get_expired, bench.counters().items),
        (11, 0)
    );
}

#[test]
fn deadline_in_the_past_removes_the_old_item() {
    let mut bench = Bench::roomy();
    bench.set("k", b"old", Deadline::Never, 10);
    assert_eq!(bench.set("k", b"new", at(10), 10), SetOutcome::Stored);
    assert_eq!(bench.get("k", 10), None);
}

#[test]
fn expired_segments_come_back_without_being_read() {
    let mut bench = Bench::new(MIB, 10 << 10, Eviction::Merge);
    let free = bench.shard.usage().pages_free;
    for i in 0..2000 {
        bench.set(&format!("k{i}"), &[1; 100], at(30), 0);
    }
    assert!(bench.shard.usage().pages_free < free - 10);
    while bench.shard.upkeep(Seconds(29), 100) {}
    assert_eq!(bench.counters().items, 2000);
    while bench.shard.upkeep(Seconds(30), 100) {}
    assert_eq!(
        (bench.counters().items, bench.counters().expired),
        (0, 2000)
    );
    assert_eq!(bench.shard.usage().pages_segment, 0);
}

#[test]
fn upkeep_of_large_items_comes_to_rest() {
    // Two items to a page and a quarter of it unused: nothing that packing them again could gain.
    let mut store = Bench::new(1 << 20, 16 << 10, Eviction::None);
    let mut count = 0;
    while store.set(&format!("key{count}"), &[7; 6000], Deadline::Never, 1) == SetOutcome::Stored {
        count += 1;
    }
    assert!(count > 80, "{count} items");
    let moved = store.counters().moved;
    let calls = (0..1000).take_while(|_| store.shard.upkeep(Seconds(1), 48));
    assert!(calls.count() < 100, "upkeep found more to do each time");
    assert!(store.counters().moved - moved < 200);
}

#[test]
fn upkeep_does_no_more_than_its_budget() {
    let mut bench = Bench::new(MIB, 10 << 10, Eviction::Merge);
    for i in 0..2000 {
        bench.set(&format!("k{i}"), &[1; 100], at(30), 0);
    }
    let (mut before, mut more) = (bench.counters().expired, true);
    while more {
        more = bench.shard.upkeep(Seconds(30), 16);
        let now = bench.counters().expired;
        assert!(now - before <= 32, "{} items in a call of 16", now - before);
        before = now;
    }
    assert_eq!(before, 2000);
}

#[test]
fn counting_follows_memcached() {
    let mut bench = Bench::roomy();
    bench.set("n", b"10", Deadline::Never, 0);
    assert_eq!(
        bench.arith("n", Arithmetic::Decr, 4),
        ArithOutcome::Value(6)
    );
    assert_eq!(
        bench.get("n", 0),
        Some(b"6 ".to_vec()),
        "decr pads to the old length"
    );
    assert_eq!(
        bench.arith("n", Arithmetic::Incr, 1),
        ArithOutcome::Value(7)
    );
    assert_eq!(
        bench.get("n", 0),
        Some(b"7 ".to_vec()),
        "and incr keeps the padding"
    );
    assert_eq!(
        bench.arith("n", Arithmetic::Incr, 993),
        ArithOutcome::Value(1000)
    );
    assert_eq!(
        bench.get("n", 0),
        Some(b"1000".to_vec()),
        "until the number needs more"
    );
    assert_eq!(
        bench.arith("n", Arithmetic::Decr, 5000),
        ArithOutcome::Value(0)
    );
    assert_eq!(bench.get("n", 0), Some(b"0   ".to_vec()));
    bench.set("n", u64::MAX.to_string().as_bytes(), Deadline::Never, 0);
    assert_eq!(
        bench.arith("n", Arithmetic::Incr, 2),
        ArithOutcome::Value(1)
    );
    bench.set("n", b"x", Deadline::Never, 0);
    assert_eq!(
        bench.arith("n", Arithmetic::Incr, 2),
        ArithOutcome::NonNumeric
    );
    assert_eq!(
        bench.arith("absent", Arithmetic::Incr, 2),
        ArithOutcome::NotFound
    );
}

#[test]
fn counting_keeps_flags_and_deadline() {
    let mut bench = Bench::roomy();
    let key = Key {
        hash: hasher().hash(b"n"),
        bytes: b"n",
    };
    bench.shard.set(
        key,
        NewItem {
            flags: 0xdead_beef,
            deadline: at(50),
            value: b"9",
        },
        Seconds(0),
    );
    assert_eq!(
        bench.arith("n", Arithmetic::Incr, 1),
        ArithOutcome::Value(10)
    );
    let hit = bench
        .shard
        .get(key, Seconds(49), Unique::Unasked)
        .expect("there");
    assert_eq!(
        (hit.flags, hit.deadline, hit.value.to_vec()),
        (0xdead_beef, at(50), b"10".to_vec())
    );
    assert_eq!(bench.get("n", 50), None);
}

#[test]
fn every_change_gives_a_new_unique_and_touch_does_not() {
    let mut bench = Bench::roomy();
    let mut seen = Vec::new();
    bench.set("n", b"1", at(100), 0);
    for _ in 0..3 {
        seen.push(bench.unique("n", 0));
        assert_eq!(bench.unique("n", 0), *seen.last().unwrap());
        let key = bench.key("n");
        for deadline in [at(100_000), at(10), Deadline::Never, at(1 << 30)] {
            assert_eq!(
                bench.shard.touch(key, deadline, Seconds(0)),
                TouchOutcome::Touched
            );
            assert_eq!(
                bench.unique("n", 0),
                *seen.last().unwrap(),
                "touch keeps it"
            );
        }
        bench.arith("n", Arithmetic::Incr, 1);
        seen.push(bench.unique("n", 0));
        bench.shard.append(bench.key("n"), b"0", Seconds(0));
        seen.push(bench.unique("n", 0));
        bench.set("n", b"1", at(100), 0);
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
}

#[test]
fn asking_for_the_unique_alone_binds_it_and_is_no_fetch() {
    let mut bench = Bench::roomy();
    assert_eq!(bench.shard.unique(bench.key("n"), Seconds(0)), None);
    bench.set("n", b"10", at(9), 0);
    let unique = bench.shard.unique(bench.key("n"), Seconds(0));
    // The number would fit in place, but somebody knows the unique.
    bench.arith("n", Arithmetic::Incr, 1);
    let changed = bench.shard.unique(bench.key("n"), Seconds(0));
    assert!(changed.is_some() && changed != unique);
    let key = bench.key("n");
    let hit = bench.shard.get(key, Seconds(8), Unique::Wanted);
    let hit = hit.expect("stored");
    assert!(Some(hit.cas) == changed && hit.first_fetch);
    assert_eq!(bench.shard.unique(bench.key("n"), Seconds(9)), None);
}

#[test]
fn a_unique_survives_being_moved() {
    let mut bench = Bench::new(MIB, 10 << 10, Eviction::None);
    // One item in ten stays, so compaction moves it about.
    let mut uniques = Vec::new();
    for i in 0..1500 {
        let key = format!("stay{i}");
        bench.set(&key, &[2; 100], Deadline::Never, 0);
        for _ in 0..9 {
            bench.set("churn", &[3; 100], Deadline::Never, 0);
        }
        uniques.push((key.clone(), bench.unique(&key, 0)));
    }
    assert!(bench.counters().moved >= 500, "{:?}", bench.counters());
    for (key, unique) in uniques {
        assert_eq!(bench.unique(&key, 0), unique);
        let item = NewItem {
            flags: 0,
            deadline: Deadline::Never,
            value: b"swapped",
        };
        let key = Key {
            hash: hasher().hash(key.as_bytes()),
            bytes: key.as_bytes(),
        };
        assert_eq!(
            bench.shard.compare_and_swap(key, item, unique, Seconds(0)),
            SetOutcome::Stored
        );
        assert_eq!(
            bench.shard.compare_and_swap(key, item, unique, Seconds(0)),
            SetOutcome::Exists
        );
    }
}

#[test]
fn without_eviction_a_full_shard_refuses_and_keeps_all() {
    let mut bench = Bench::new(MIB, 10 << 10, Eviction::None);
    let mut stored = 0;
    while bench.set(&format!("k{stored}"), &[9; 1000], Deadline::Never, 0) == SetOutcome::Stored {
        stored += 1;
    }
    assert!(stored > 900, "{stored} items of 1000 bytes in a MiB");
    assert!((0..stored).all(|i| bench.get(&format!("k{i}"), 0).is_some()));
    assert_eq!(bench.counters().evictions, 0);
    // A set that is refused removes the old value, as in memcached; its room lets the next one in.
    for i in 0..40 {
        assert_eq!(
            bench.shard.delete(bench.key(&format!("k{i}")), Seconds(0)),
            DeleteOutcome::Deleted
        );
    }
    assert_eq!(
        bench.set("more", &[9; 1000], Deadline::Never, 0),
        SetOutcome::Stored
    );
}

#[test]
fn without_eviction_overwriting_goes_on_for_ever() {
    let mut bench = Bench::new(MIB, 10 << 10, Eviction::None);
    // Seven tenths of the memory live.
    for round in 0..60u32 {
        for i in 0..700 {
            let key = format!("k{}", (i * 7919 + round * 31) % 700);
            assert_eq!(
                bench.set(&key, &[round as u8; 1000], Deadline::Never, 0),
                SetOutcome::Stored,
                "round {round}"
            );
        }
    }
    assert_eq!(
        (bench.counters().items, bench.counters().evictions),
        (700, 0)
    );
}

#[test]
fn a_full_shard_evicts_and_never_refuses() {
    for eviction in EVICTING {
        let mut bench = Bench::new(MIB, 10 << 10, eviction);
        for i in 0..100_000 {
            assert_eq!(
                bench.set(&format!("k{i}"), &[1; 40], Deadline::Never, 0),
                SetOutcome::Stored
            );
        }
        let counters = bench.counters();
        assert_eq!(counters.items + counters.evictions, 100_000);
        assert!(counters.items > 12_000, "{eviction:?} {counters:?}");
        assert_eq!(
            (counters.forced_reclaims, counters.table_evictions),
            (0, 0),
            "stores keep ahead of need"
        );
    }
}

#[test]
fn stores_keep_ahead_of_need_although_all_is_fetched() {
    for eviction in EVICTING {
        let mut bench = Bench::new(MIB, 10 << 10, eviction);
        for i in 0..100_000 {
            bench.set(&format!("k{i}"), &[1; 40], Deadline::Never, 0);
            // Everything that is there is fetched often, so nothing looks worth dropping.
            for back in 0..8 {
                bench.get(&format!("k{}", i - i.min(back * 1000)), 0);
            }
        }
        let counters = bench.counters();
        assert_eq!(counters.items + counters.evictions, 100_000);
        assert_eq!(
            (counters.forced_reclaims, counters.table_evictions),
            (0, 0),
            "{eviction:?}"
        );
    }
}

#[test]
fn no_store_sweeps_more_than_some_dozens_of_items() {
    for eviction in EVICTING {
        let mut bench = Bench::new(4 * MIB, 10 << 10, eviction);
        let mut dice = 1u64;
        let mut most = 0;
        for i in 0..200_000u64 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let before = bench.counters();
            // Sizes and lifetimes of all kinds; a third comes back, and what comes back is fetched.
            let name = if dice >> 62 == 0 {
                (dice >> 33) % 5000
            } else {
                i
            };
            let ttl = [10, 300, 5000, 100_000][(dice >> 40) as usize % 4];
            let value = [3; 400];
            let value = &value[..20 + (dice >> 50) as usize % 300];
            let now = (i / 100) as u32;
            let key = format!("k{name}");
            bench.set(&key, value, at(now + ttl), now);
            let after = bench.counters();
            let handled = (after.moved + after.evictions + after.expired)
                - (before.moved + before.evictions + before.expired);
            most = most.max(handled);
            bench.get(&key, now);
        }
        let counters = bench.counters();
        eprintln!(
            "{eviction:?} most {most} forced {} {counters:?}",
            counters.forced_reclaims
        );
        assert!(counters.evictions > 10_000, "{counters:?}");
        assert!(most <= 64, "{eviction:?}: {most} items in one store");
        assert_eq!(counters.forced_reclaims, 0, "{eviction:?}");
    }
}

#[test]
fn popular_items_survive_eviction() {
    for eviction in [Eviction::Merge, Eviction::S3Fifo] {
        let mut bench = Bench::new(MIB, 10 << 10, eviction);
        for i in 0..500 {
            bench.set(&format!("hot{i}"), &[1; 40], at(10_000), 0);
        }
        for i in 0..50_000 {
            bench.set(&format!("cold{i}"), &[1; 40], at(10_000), 0);
            bench.get(&format!("hot{}", i % 500), 0);
        }
        let survivors = (0..500)
            .filter(|i| bench.get(&format!("hot{i}"), 0).is_some())
            .count();
        assert!(
            survivors > 480,
            "{eviction:?}: {survivors} of 500 fetched a hundred times each are left"
        );
        assert!(bench.counters().moved >= 500);
    }
}

#[test]
fn what_is_fetched_outlives_a_scan_in_the_main_queue() {
    let mut bench = Bench::new(MIB, 10 << 10, Eviction::S3Fifo);
    for i in 0..2000 {
        bench.set(&format!("hot{i}"), &[1; 40], at(10_000), 0);
        bench.get(&format!("hot{i}"), 0);
        // Where all was fetched, some of it may go when the table takes a page meanwhile.
        bench.set(&format!("cold{i}"), &[1; 40], at(10_000), 0);
    }
    // Ten times the memory passes by and nobody asks for them.
    for i in 0..150_000 {
        bench.set(&format!("once{i}"), &[1; 40], at(10_000), 0);
    }
    assert_eq!(bench.counters().promotions, 2000);
    assert!(bench.shard.usage().ghosts > 1000);
    assert!((0..2000).all(|i| bench.get(&format!("hot{i}"), 0).is_some()));
}

#[test]
fn what_is_no_longer_fetched_leaves_the_main_queue() {
    let mut bench = Bench::new(MIB, 10 << 10, Eviction::S3Fifo);
    // Each item is fetched once while it is new, and of the first thousand each tenth now and then.
    for i in 0..60_000 {
        bench.set(&format!("k{i}"), &[1; 40], at(10_000), 0);
        bench.get(&format!("k{i}"), 0);
        bench.get(&format!("k{}", i % 100 * 10), 0);
    }
    let counters = bench.counters();
    assert!(counters.reinsertions > 100, "{counters:?}");
    let of_first = |bench: &mut Bench, step: usize, from: usize| {
        let there = |i: usize| bench.get(&format!("k{i}"), 0).is_some();
        (from..1000)
            .step_by(step)
            .map(there)
            .filter(|&there| there)
            .count()
    };
    assert_eq!(of_first(&mut bench, 10, 0), 100, "those still fetched stay");
    assert_eq!(of_first(&mut bench, 10, 5), 0, "the others do not");
}

#[test]
fn a_key_that_comes_back_soon_is_known_and_one_that_comes_late_is_not() {
    let mut bench = Bench::new(MIB, 10 << 10, Eviction::S3Fifo);
    let fill = |bench: &mut Bench, from: u32, count: u32| {
        for i in from..from + count {
            bench.set(&format!("once{i}"), &[1; 40], Deadline::Never, 0);
        }
    };
    fill(&mut bench, 0, 50_000);
    let gone = |bench: &mut Bench, i: u32| bench.get(&format!("once{i}"), 0).is_none();
    // Nothing was fetched, so the first stored were the first dropped.
    let youngest = bench.counters().evictions as u32;
    // Two keys of one mark in one pair of hash buckets are taken for each other.
    let before = bench.counters().ghost_hits;
    assert!(
        before < 150,
        "{before} of 50000 new keys were taken for known"
    );
    for i in youngest - 500..youngest {
        bench.set(&format!("once{i}"), &[1; 40], Deadline::Never, 0);
    }
    let soon = bench.counters().ghost_hits - before;
    assert!(soon > 400, "{soon} of 500 just dropped were known");
    for i in 0..500 {
        bench.set(&format!("once{i}"), &[1; 40], Deadline::Never, 0);
    }
    let late = bench.counters().ghost_hits - before - soon;
    assert!(late < 20, "{late} of 500 dropped long ago were known");
    // What was known outlives what was not.
    fill(&mut bench, 100_000, 20_000);
    let known = (youngest - 500..youngest)
        .filter(|&i| !gone(&mut bench, i))
        .count();
    let unknown = (0..500).filter(|&i| !gone(&mut bench, i)).count();
    assert!(
        known > 400 && unknown <= 5,
        "{known} known, {unknown} unknown are left"
    );
}

#[test]
fn large_values_pass_through_both_queues() {
    let mut bench = Bench::new(4 * MIB, 200 << 10, Eviction::S3Fifo);
    for i in 0..2000u32 {
        let value = vec![i as u8; 50_000 + (i as usize * 7919) % 50_000];
        let key = format!("k{i}");
        assert_eq!(
            bench.set(&key, &value, Deadline::Never, 0),
            SetOutcome::Stored
        );
        if i % 3 == 0 {
            assert_eq!(bench.get(&key, 0).as_deref(), Some(&value[..]));
        }
        if i % 100 == 0 {
            bench.shard.audit().expect("an audit");
        }
    }
    let (counters, usage) = (bench.counters(), bench.shard.usage());
    assert!(
        counters.promotions > 100 && counters.evictions > 1000,
        "{counters:?}"
    );
    assert!(usage.pages_small <= usage.pages_total / 4, "{usage:?}");
}

#[test]
fn fifo_drops_the_oldest_whatever_was_fetched() {
    let mut bench = Bench::new(MIB, 10 << 10, Eviction::Fifo);
    // Two lifetimes in turn, so that the oldest is found over all chains.
    for i in 0..50_000 {
        let deadline = if i % 2 == 0 { at(1000) } else { at(90_000) };
        bench.set(&format!("k{i}"), &[1; 40], deadline, 0);
        bench.get("k0", 0);
    }
    let held: Vec<bool> = (0..50_000)
        .map(|i| bench.get(&format!("k{i}"), 0).is_some())
        .collect();
    let oldest = held.iter().position(|&held| held).expect("some are held");
    assert_eq!(bench.counters().items + bench.counters().evictions, 50_000);
    assert!(
        50_000 - oldest > 12_000,
        "only the last {}",
        50_000 - oldest
    );
    // Segments of two chains fill at one pace, so what is held begins at most two segments' worth apart.
    let missing = held[oldest..].iter().filter(|&&held| !held).count();
    assert!(
        missing < 600,
        "{missing} of those younger than item {oldest} are missing"
    );
}

#[test]
fn many_ttls_hold_nearly_as_much_as_one() {
    let fill = |eviction, ttls: u32| {
        let mut bench = Bench::new(16 * MIB, 10 << 10, eviction);
        for i in 0..400_000u32 {
            bench.set(
                &format!("key{i:013}"),
                &[1; 64],
                at(3600 + i % ttls * 86),
                0,
            );
        }
        bench.counters().items
    };
    for eviction in EVICTING {
        let (one, thousand) = (fill(eviction, 1), fill(eviction, 1000));
        assert!(
            thousand * 10 > one * 8,
            "{eviction:?}: {thousand} items with a thousand ttls, {one} with one"
        );
    }
}

#[test]
fn flush_forgets_what_was_and_not_what_comes() {
    let mut bench = Bench::roomy();
    bench.set("old", b"1", Deadline::Never, 5);
    bench.shard.flush(Seconds(5), Seconds(5));
    bench.set("new", b"2", Deadline::Never, 5);
    assert_eq!(
        (bench.get("old", 5), bench.get("new", 5)),
        (None, Some(b"2".to_vec()))
    );
    assert_eq!(bench.counters().get_flushed, 1);

    bench.shard.flush(Seconds(20), Seconds(5));
    bench.shard.flush(Seconds(10), Seconds(6));
    bench.set("before", b"3", Deadline::Never, 9);
    assert!(bench.get("new", 9).is_some());
    assert_eq!(
        (bench.get("new", 10), bench.get("before", 10)),
        (None, None)
    );
    bench.set("after", b"4", Deadline::Never, 10);
    assert!(
        bench.get("after", 20).is_some(),
        "the later flush replaced the earlier one"
    );
}

#[test]
fn large_values_come_back_in_pieces_and_give_their_pages_back() {
    let mut bench = Bench::roomy();
    let value: Vec<u8> = (0..1_000_000u32)
        .map(|i| (i >> 5) as u8 ^ i as u8)
        .collect();
    let free = bench.shard.usage().pages_free;
    assert_eq!(bench.set("big", &value, at(50), 0), SetOutcome::Stored);
    assert_eq!(bench.get("big", 0).as_deref(), Some(&value[..]));
    let usage = bench.shard.usage();
    assert_eq!(usage.pages_extension, 1_000_000 / usage.page_bytes);
    assert_eq!(
        bench.shard.append(bench.key("big"), b"tail", Seconds(0)),
        SetOutcome::Stored
    );
    assert_eq!(bench.get("big", 0), Some([&value[..], b"tail"].concat()));
    bench.shard.delete(bench.key("big"), Seconds(0));
    assert!(
        bench.shard.usage().pages_free >= free - 1,
        "only the open segment is left"
    );
}

#[test]
fn a_value_too_long_for_its_header_stands_beside_the_item_whole() {
    let mut bench = Bench::new(64 * MIB, MIB as u32, Eviction::S3Fifo);
    let page_bytes = bench.shard.usage().page_bytes;
    assert_eq!(page_bytes, 128 << 10);
    let value: Vec<u8> = (0..page_bytes as u32).map(|i| (i >> 5) as u8).collect();
    for len in [65_534, 65_535, 65_536, 65_537, 100_001, page_bytes - 60] {
        let free = bench.shard.usage().pages_free;
        let stored = bench.set("long", &value[..len], at(90_000), 0);
        assert_eq!(stored, SetOutcome::Stored);
        let key = bench.key("long");
        for deadline in [at(50), Deadline::Never] {
            let touched = bench.shard.touch(key, deadline, Seconds(0));
            assert_eq!(touched, TouchOutcome::Touched);
            let hit = bench.shard.get(key, Seconds(0), Unique::Wanted);
            let hit = hit.expect("there");
            assert_eq!(hit.value.as_slice(), Some(&value[..len]), "{len} bytes");
            assert_eq!(hit.deadline, deadline);
        }
        let hit = bench.shard.get(key, Seconds(0), Unique::Unasked);
        let item = hit.expect("there").item;
        let loan = bench.shard.lend(item).expect("nothing is lent");
        assert_eq!(bench.shard.loan_bytes(&loan, 3), &value[3..len]);
        bench.shard.give_back(loan);
        assert_eq!(bench.shard.usage().pages_extension, 0);
        bench.shard.audit().expect("audit");
        bench.shard.append(key, b"tail", Seconds(0));
        let longer = bench.get("long", 0).expect("there");
        assert!(longer[..len] == value[..len] && &longer[len..] == b"tail");
        bench.shard.audit().expect("audit");
        bench.shard.delete(key, Seconds(0));
        assert!(bench.shard.usage().pages_free + 4 >= free, "{len} bytes");
    }
}

#[test]
fn a_loan_outlives_its_item() {
    let mut bench = Bench::roomy();
    let value: Vec<u8> = (0..100_000u32).map(|i| (i >> 3) as u8).collect();
    bench.set("big", &value, Deadline::Never, 0);
    let key = bench.key("big");
    let item = bench
        .shard
        .get(key, Seconds(0), Unique::Unasked)
        .expect("there")
        .item;
    let loan = bench.shard.lend(item).expect("few pages are lent");
    bench.set("big", &[0; 100_000], Deadline::Never, 0);
    bench.shard.flush(Seconds(1), Seconds(1));
    while bench.shard.upkeep(Seconds(2), 100) {}
    for i in 0..2000 {
        bench.set(&format!("k{i}"), &[0xee; 10_000], Deadline::Never, 2);
    }
    let mut read = Vec::new();
    while read.len() < loan.len() {
        read.extend_from_slice(bench.shard.loan_bytes(&loan, read.len()));
    }
    assert!(read == value);
    let lent = bench.shard.usage().pages_lent;
    assert!(lent > 1);
    bench.shard.give_back(loan);
    assert_eq!(
        (
            bench.shard.usage().pages_lent,
            bench.shard.usage().pages_zombie
        ),
        (0, 0)
    );
}

#[test]
fn at_most_half_of_the_pages_are_lent() {
    let mut bench = Bench::new(MIB, 100 << 10, Eviction::Merge);
    let mut loans = Vec::new();
    for i in 0..40 {
        let name = format!("big{i}");
        let key = bench.key(&name);
        bench.shard.set(
            key,
            NewItem {
                flags: 0,
                deadline: Deadline::Never,
                value: &[7; 50_000],
            },
            Seconds(0),
        );
        let item = bench
            .shard
            .get(key, Seconds(0), Unique::Unasked)
            .map(|hit| hit.item);
        match item.and_then(|item| bench.shard.lend(item)) {
            Some(loan) => loans.push(loan),
            None => break,
        }
    }
    let usage = bench.shard.usage();
    assert!(
        usage.pages_lent <= usage.pages_total / 2 && usage.pages_lent > usage.pages_total / 3,
        "{usage:?}"
    );
    assert_eq!(
        bench.set("still", &[1; 1000], Deadline::Never, 0),
        SetOutcome::Stored
    );
    for loan in loans {
        bench.shard.give_back(loan);
    }
}

#[test]
#[should_panic(expected = "is given back to a shard that has")]
fn giving_a_loan_to_another_shard_panics() {
    let (mut one, mut other) = (Bench::roomy(), Bench::roomy());
    one.set("k", b"v", Deadline::Never, 0);
    let key = one.key("k");
    let item = one
        .shard
        .get(key, Seconds(0), Unique::Unasked)
        .expect("there")
        .item;
    let loan = one.shard.lend(item).expect("few pages are lent");
    other.shard.give_back(loan);
}

#[test]
fn limits_are_memcacheds() {
    let mut bench = Bench::roomy();
    assert_eq!(bench.shard.item_max_value(3, 0), 1_048_517 - 3);
    assert_eq!(bench.shard.item_max_value(3, 1), 1_048_517 - 3 - 4);
    let most = vec![5; bench.shard.item_max_value(3, 0)];
    assert_eq!(
        bench.set("key", &most, Deadline::Never, 0),
        SetOutcome::Stored
    );
    assert_eq!(bench.get("key", 0).as_deref(), Some(&most[..]));
    let more = vec![5; most.len() + 1];
    assert_eq!(
        bench.set("key", &more, Deadline::Never, 0),
        SetOutcome::TooLarge
    );
    assert_eq!(
        bench.get("key", 0),
        None,
        "a failing set removes the old value"
    );
}

#[test]
fn a_shard_needs_a_mebibyte_and_twice_its_largest_item() {
    let config = |item_max_bytes| ShardConfig {
        item_max_bytes,
        eviction: Eviction::Merge,
        seed: 1,
    };
    let new = |bytes, limit| Shard::new(vec![0; bytes], hasher(), config(limit)).err();
    assert_eq!(new(MIB, 512 << 10), None);
    assert_eq!(
        new(MIB - 1, 1024),
        Some(TooSmall {
            have_bytes: MIB - 1,
            need_bytes: MIB
        })
    );
    assert_eq!(
        new(MIB, MIB as u32),
        Some(TooSmall {
            have_bytes: MIB,
            need_bytes: 2 * MIB
        })
    );
}

#[test]
fn gat_in_the_past_hands_the_value_out_once() {
    let mut bench = Bench::roomy();
    for deadline in [Deadline::Never, at(100), at(1 << 30)] {
        bench.set("k", b"v", deadline, 10);
        let key = bench.key("k");
        let hit = bench
            .shard
            .get_and_touch(key, at(0), Seconds(12), Unique::Unasked);
        assert_eq!(hit.and_then(|hit| hit.value.as_slice()), Some(&b"v"[..]));
        assert_eq!(bench.get("k", 12), None);
    }
}

#[test]
fn no_row_of_the_table_stops_growing() {
    // Few rows of many columns: here entries pushed out of a row are likeliest to have it as their other row.
    for seed in 0..4u64 {
        let hasher = KeyHasher::new([seed + 3, 1, 4, 1, 5, 9, 2, 6]);
        let config = ShardConfig {
            item_max_bytes: 64 << 10,
            eviction: Eviction::Merge,
            seed: 7,
        };
        let mut shard = Shard::new(vec![0; 4 * MIB], hasher.clone(), config).expect("memory");
        for i in 0..150_000u64 {
            let bytes = i.to_le_bytes();
            let hash = hasher.hash(&bytes);
            let item = NewItem {
                flags: 0,
                deadline: Deadline::Never,
                value: &[],
            };
            let key = Key {
                hash,
                bytes: &bytes,
            };
            assert_eq!(shard.set(key, item, Seconds(0)), SetOutcome::Stored);
            let usage = shard.usage();
            // The table grows above a load of 131 in 144; some insertions may pass while it lacks a page.
            assert!(
                usage.table_load() <= 0.94,
                "seed {seed}, item {i}: {usage:?}"
            );
        }
        shard.audit().expect("an audit");
    }
}
