//! CAS uniques: when they change, and who is bound by them.

use strata_store::{
    Arithmetic, Deadline, Eviction, Key, NewItem, Seconds, SetOutcome, TouchOutcome, Unique,
};

use super::bench::{Bench, MIB, at, hasher};

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
