//! Time: deadlines to the second, and what upkeep does about what has expired.

use strata_store::{Deadline, Eviction, Seconds, SetOutcome, Unique};

use super::bench::{Bench, MIB, at};

#[test]
fn expired_item_is_a_miss_and_not_a_second_before() {
    let mut bench = Bench::roomy();
    let ttls = [
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
    ];
    for ttl in ttls {
        let key = format!("ttl{ttl}");
        assert_eq!(bench.set(&key, b"v", at(5 + ttl), 5), SetOutcome::Stored);
    }
    for ttl in ttls {
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
