//! A full shard: what goes, what stays, and what a store pays.

use strata_store::{Deadline, DeleteOutcome, Eviction, Seconds, SetOutcome};

use super::bench::{Bench, EVICTING, MIB, at};

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
fn what_only_lacks_the_end_of_a_segment_is_not_packed_again_and_again() {
    let mut bench = Bench::new(4 * MIB, 10 << 10, Eviction::S3Fifo);
    let (mut dice, stores) = (1u64, 20_000);
    for _ in 0..stores {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let name = (dice >> 33) % 900;
        // One in four is alone in its segment, whose end no other of its kind fits in.
        let len = if name % 4 == 0 { 9000 } else { 700 + name * 2 };
        bench.set(
            &format!("k{name}"),
            &[3; 9000][..len as usize],
            Deadline::Never,
            0,
        );
        bench.shard.upkeep(Seconds(0), 48);
    }
    let counters = bench.counters();
    assert!(counters.moved > 0, "{counters:?}");
    assert!(counters.moved < 2 * stores, "{counters:?}");
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
fn pages_of_a_value_that_a_touch_takes_through_both_queues_are_counted_once() {
    // To make room for a touched item the shard may sweep that item itself into the main queue, and the touch then moves
    // it to a segment of the small one.
    let mut bench = Bench::new(2 * MIB, 200 << 10, Eviction::S3Fifo);
    let value = vec![3; 3 * bench.shard.usage().page_bytes];
    let mut draw = 1u32;
    for _ in 0..4_000 {
        draw = draw.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (number, ttl) = (draw >> 8 & 31, at(1 << (draw >> 16 & 15)));
        if !bench.has(number) {
            bench.store(number, &value, ttl);
        }
        bench.with_key(number, |shard, key| shard.touch(key, ttl, Seconds(0)));
        bench.store(100 + number, &value[..400], ttl);
        bench.shard.audit().expect("an audit");
    }
    let evictions = bench.counters().evictions;
    assert!(evictions > 20, "{evictions} evictions");
}
