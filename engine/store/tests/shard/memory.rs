//! What a shard promises about memory, claim by claim, through its public interface: how its limit changes, and what
//! items cost.

use strata_store::{Deadline, DeleteOutcome, Eviction, NewItem, Seconds, SetOutcome, Unique};

use super::bench::{Bench, EVICTING, MIB};

/// What one call may sweep at most: what a store pays at once, and what is left of its last batch.
const SWEPT_MAX: u64 = 160 + 16;
/// What a server gives each upkeep.
const UPKEEP_ITEMS: u32 = 48;

/// Items of a full shard of 64 MiB.
const FILL: u32 = 900_000;
/// One in so many of those is popular.
const POPULAR_OF: u32 = 40;

/// Fetches one of the popular items among those up to `number`.
fn fetch_popular(bench: &mut Bench, number: u32) {
    let turn = number.wrapping_mul(7919) % (number.min(FILL) / POPULAR_OF + 1);
    bench.has(turn * POPULAR_OF);
}

/// Fills a shard of 64 MiB; some items are fetched again and again meanwhile.
fn full_of_64_mib(eviction: Eviction) -> Bench {
    let mut bench = Bench::of_mib(64, 64, eviction);
    for number in 0..FILL {
        bench.store(number, &[1; 64], Deadline::Never);
        fetch_popular(&mut bench, number);
    }
    bench
}

/// How many of the popular items are there, and how many of as many others. Looking makes the others popular too.
fn popular_and_others(bench: &mut Bench) -> (usize, usize) {
    let numbers = (0..FILL).step_by(POPULAR_OF as usize);
    let popular = numbers.clone().filter(|&number| bench.has(number)).count();
    let others = numbers.filter(|&number| bench.has(number + 1)).count();
    (popular, others)
}

#[test]
fn stores_alone_shrink_memory_in_small_steps_and_are_never_refused() {
    for eviction in EVICTING {
        let mut bench = full_of_64_mib(eviction);
        let forced = bench.counters().forced_reclaims;
        bench.limit(16);
        assert_eq!(bench.present(), 64 * MIB, "nothing happens at once");
        let (mut sets, mut longest, mut given_up) = (0, 0, 0);
        while bench.present() > 16 * MIB {
            let swept = bench.swept();
            let outcome = bench.store(FILL + sets, &[1; 64], Deadline::Never);
            assert_eq!(outcome, SetOutcome::Stored);
            longest = longest.max(bench.swept() - swept);
            fetch_popular(&mut bench, FILL + sets);
            sets += 1;
            while bench.shard.discard_page(|_, range| given_up += range.len()) {}
            // Each store sweeps five times what it writes, and three quarters of that are gained.
            assert!(sets < 300_000, "{} MiB present", bench.present() / MIB);
        }
        assert!(longest <= SWEPT_MAX, "one store swept {longest} items");
        assert_eq!(given_up, 48 * MIB);
        assert_eq!(bench.counters().forced_reclaims, forced);
        // What stays is what a shard of that size would hold, and the popular before all.
        let items = bench.counters().items as usize;
        assert!(items * 130 > 16 * MIB, "{items} items are left in 16 MiB");
        let (after, all) = (popular_and_others(&mut bench), (FILL / POPULAR_OF) as usize);
        assert!(
            eviction == Eviction::Fifo || after.0 * 10 > all * 9 && after.1 * 3 < after.0,
            "{after:?} of {all}"
        );
        let newest = FILL + sets - 20_000..FILL + sets;
        assert_eq!(bench.held(newest), 20_000);
    }
}

#[test]
fn upkeep_alone_shrinks_memory_within_its_budget() {
    for eviction in EVICTING {
        let mut bench = full_of_64_mib(eviction);
        let items = bench.counters().items;
        bench.limit(16);
        let (mut calls, mut longest) = (0, 0);
        loop {
            let swept = bench.swept();
            let more = bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS);
            longest = longest.max(bench.swept() - swept);
            calls += 1;
            assert!(
                calls < items as u32,
                "{} MiB present",
                bench.present() / MIB
            );
            if !more {
                break;
            }
        }
        assert_eq!(bench.present(), 16 * MIB);
        assert!(longest <= u64::from(UPKEEP_ITEMS) + 16, "{longest} swept");
        let (after, all) = (popular_and_others(&mut bench), (FILL / POPULAR_OF) as usize);
        assert!(
            eviction == Eviction::Fifo || after.0 * 10 > all * 9 && after.1 * 3 < after.0,
            "{after:?} of {all}"
        );
        assert!(!bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS), "it rests");
    }
}

#[test]
fn memory_that_has_grown_holds_more() {
    for eviction in EVICTING {
        let mut bench = Bench::of_mib(64, 16, eviction);
        let fill = |bench: &mut Bench, from: u32| {
            for number in from..from + 900_000 {
                assert_eq!(
                    bench.store(number, &[1; 64], Deadline::Never),
                    SetOutcome::Stored
                );
            }
            bench.counters().items
        };
        let small = fill(&mut bench, 0);
        bench.limit(64);
        assert_eq!(bench.present(), 16 * MIB, "pages are admitted one by one");
        let mut prepared = Vec::new();
        while bench.shard.admit_page(|_, range| prepared.push(range)) {}
        assert_eq!(prepared.first().map(|range| range.start), Some(16 * MIB));
        assert_eq!(
            prepared.iter().map(|range| range.len()).sum::<usize>(),
            48 * MIB
        );
        let grown = fill(&mut bench, 1_000_000);
        assert!(grown * 10 > small * 39, "{small} items, then {grown}");
        bench.limit(16);
        while bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS) {}
        assert_eq!(bench.present(), 16 * MIB);
        let again = fill(&mut bench, 2_000_000);
        assert!(again * 20 > small * 19, "{small} items, then {again}");
        assert_eq!(bench.counters().forced_reclaims, 0);
    }
}

#[test]
fn a_change_of_mind_needs_no_memory_twice() {
    for eviction in EVICTING {
        let mut bench = Bench::of_mib(64, 64, eviction);
        bench.limit(16);
        while bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS) {}
        bench.limit(64);
        while bench
            .shard
            .admit_page(|_, range| panic!("{range:?} was never given up"))
        {}
        assert_eq!(bench.present(), 64 * MIB);
        assert!(
            !bench
                .shard
                .discard_page(|_, range| panic!("{range:?} is in use"))
        );
    }
}

#[test]
fn limits_out_of_range_are_refused_and_change_nothing() {
    let mut bench = Bench::of_mib(64, 16, Eviction::Merge);
    let range = bench.shard.memory_limits();
    // Pages of 32 KiB: twice the largest item is more than 33 of them.
    assert_eq!(range, 2 * MIB..=64 * MIB);
    for bytes in [0, 2 * MIB - 1, 64 * MIB + 1, usize::MAX] {
        let refused = bench.shard.set_memory_limit(bytes).expect_err("refused");
        assert_eq!((refused.asked_bytes, refused.range), (bytes, range.clone()));
        assert_eq!(bench.shard.memory_limit(), 16 * MIB);
    }
    for bytes in [2 * MIB, 64 * MIB] {
        assert_eq!(bench.shard.set_memory_limit(bytes), Ok(()));
        assert_eq!(bench.shard.memory_limit(), bytes);
    }
}

#[test]
fn the_least_memory_is_reached_and_works_with_many_ttls() {
    for eviction in EVICTING {
        let mut bench = Bench::of_mib(64, 64, eviction);
        let mut number = 0;
        let mut fill = |bench: &mut Bench| {
            for _ in 0..300_000u32 {
                let deadline = Deadline::At(Seconds(1 + (number % 1000) * 2593));
                assert_eq!(bench.store(number, &[1; 64], deadline), SetOutcome::Stored);
                number += 1;
            }
        };
        fill(&mut bench);
        let least = *bench.shard.memory_limits().start();
        assert_eq!(least, ((32 + 2) * 128) << 10);
        bench.shard.set_memory_limit(least).expect("in range");
        let mut calls = 0;
        while bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS) {
            calls += 1;
            assert!(calls < 100_000, "{} bytes present", bench.present());
        }
        assert_eq!(bench.present(), least);
        fill(&mut bench);
        assert_eq!(bench.present(), least);
        let items = bench.counters().items;
        assert!(items > 10_000, "{items} items");
        let most = vec![1; bench.shard.item_max_value(16, 0)];
        for number in 0..20 {
            let stored = bench.store(number, &most, Deadline::Never);
            assert_eq!(stored, SetOutcome::Stored, "the largest item");
        }
        assert!(bench.has(19));
    }
}

#[test]
fn without_eviction_memory_shrinks_as_far_as_nothing_is_lost() {
    let mut bench = Bench::of_mib(64, 64, Eviction::None);
    let count = 300_000;
    for number in 0..count {
        assert_eq!(
            bench.store(number, &[1; 64], Deadline::Never),
            SetOutcome::Stored
        );
    }
    // Three in four are dead, spread over all segments.
    for number in (0..count).filter(|number| number % 4 != 0) {
        let outcome = bench.with_key(number, |shard, key| shard.delete(key, Seconds(0)));
        assert_eq!(outcome, DeleteOutcome::Deleted);
    }
    bench.limit(6);
    while bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS) {}
    let present = bench.present();
    assert!(present > 6 * MIB, "75 000 items of 88 bytes are more");
    assert!(present < 12 * MIB, "{present} bytes present");
    assert_eq!(bench.held(0..count), count as usize / 4);
    assert_eq!(bench.counters().evictions, 0);
    assert!(!bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS), "it rests");
    // What is deleted later counts too.
    for number in (0..count).step_by(8) {
        bench.with_key(number, |shard, key| shard.delete(key, Seconds(0)));
    }
    while bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS) {}
    assert_eq!(bench.present(), 6 * MIB);
    assert_eq!(bench.held(0..count), count as usize / 8);
}

#[test]
fn a_loan_delays_shrinking_and_keeps_its_bytes() {
    for eviction in EVICTING {
        let mut bench = Bench::of_mib(8, 8, eviction);
        let value: Vec<u8> = (0..500_000u32).map(|i| (i >> 3) as u8).collect();
        bench.store(0, &value, Deadline::Never);
        let item = bench.with_key(0, |shard, key| {
            let hit = shard.get(key, Seconds(0), Unique::Unasked);
            hit.expect("there").item
        });
        let loan = bench.shard.lend(item).expect("few pages are lent");
        for number in 1..100_000 {
            bench.store(number, &[1; 64], Deadline::Never);
        }
        bench.limit(2);
        while bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS) {}
        while bench
            .shard
            .discard_page(|memory, range| memory[range].fill(0xdb))
        {}
        let mut read = Vec::new();
        while read.len() < loan.len() {
            read.extend_from_slice(bench.shard.loan_bytes(&loan, read.len()));
        }
        assert!(read == value);
        bench.shard.give_back(loan);
        while bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS) {}
        assert_eq!(bench.present(), 2 * MIB);
    }
}

#[test]
fn after_growing_eightfold_small_items_fill_the_table_first_and_others_do_not() {
    let fill = |value_bytes: usize, count: u32| {
        let mut bench = Bench::of_mib(32, 4, Eviction::Merge);
        bench.limit(32);
        bench.admit_all();
        for number in 0..count {
            let outcome = bench.store(number, &[1; 256][..value_bytes], Deadline::Never);
            assert_eq!(outcome, SetOutcome::Stored);
        }
        let held = bench.held(0..count) as u64;
        assert_eq!(held, bench.counters().items);
        (bench.counters(), bench.shard.usage())
    };
    // 256 rows of 255 columns.
    let hash_buckets = 256 * 255;
    let (counters, usage) = fill(4, 700_000);
    assert!(counters.table_evictions > 10_000, "{counters:?}");
    assert_eq!(usage.hash_buckets, hash_buckets);
    assert!(usage.table_load() > 0.95, "{usage:?}");
    assert!(
        usage.pages_free > 0,
        "memory is not what is short: {usage:?}"
    );
    let (counters, usage) = fill(64, 700_000);
    // So many columns, of so few rows each, leave a key without a slot now and then: by the seed, up to 49 times here.
    assert!(counters.table_evictions < 100, "{counters:?} {usage:?}");
    assert!(counters.evictions > 10_000, "{counters:?}");
}

#[test]
fn the_table_is_roomy_while_memory_is_and_full_when_memory_is() {
    let load = |bench: &Bench| {
        let usage = bench.shard.usage();
        usage.hash_entries as f64 / (usage.hash_buckets * 9) as f64
    };
    let mut bench = Bench::of_mib(64, 64, Eviction::S3Fifo);
    let mut number = 0;
    while bench.shard.usage().pages_free * 4 > bench.shard.usage().pages_total {
        for _ in 0..1000 {
            bench.store(number, &[b'v'; 64], Deadline::Never);
            number += 1;
        }
    }
    let roomy = load(&bench);
    assert!((0.75..0.8).contains(&roomy), "{roomy} full");
    for more in number..4 * number {
        bench.store(more, &[b'v'; 64], Deadline::Never);
    }
    assert!(bench.shard.counters().evictions > 0);
    let full = load(&bench);
    assert!((0.88..0.92).contains(&full), "{full} full");
}

#[test]
fn a_thousand_ttls_hold_nearly_as_much_as_one() {
    let fill = |ttls: u32| {
        let mut bench = Bench::of_mib(64, 64, Eviction::Merge);
        let count = 1_500_000;
        for number in 0..count {
            let ttl = 60 + number % ttls * 2592;
            bench.store(number, &[1; 64], Deadline::At(Seconds(ttl)));
        }
        bench.held(0..count)
    };
    let (one, thousand) = (fill(1), fill(1000));
    assert!(
        thousand * 10 >= one * 7,
        "{thousand} items with a thousand ttls, {one} with one"
    );
}

#[test]
fn deadlines_of_days_are_told_by_the_header() {
    // Memory is filled over and over while hours go by, and a part of the items is fetched and moved.
    for (ttl_seconds, spread_seconds) in
        [(86_400, 0), (86_400, 3_600), (604_800, 0), (604_800, 3_600)]
    {
        for eviction in EVICTING {
            let mut bench = Bench::of_mib(16, 16, eviction);
            for number in 0..600_000u32 {
                let now = number / 15;
                let spread = number.wrapping_mul(7919) % (spread_seconds + 1);
                let item = NewItem {
                    flags: 0,
                    deadline: Deadline::At(Seconds(now + ttl_seconds - spread)),
                    value: &[1; 64],
                };
                bench.with_key(number, |shard, key| {
                    assert_eq!(shard.set(key, item, Seconds(now)), SetOutcome::Stored);
                });
                bench.with_key(number / 4 * 3, |shard, key| {
                    shard.get(key, Seconds(now), Unique::Unasked);
                });
            }
            let counters = bench.counters();
            assert!(counters.evictions > 300_000, "{counters:?}");
            assert!(
                eviction == Eviction::Fifo || counters.moved > 50_000,
                "{counters:?}"
            );
            // A deadline written out costs four bytes.
            let far_bytes = counters.bytes - 86 * counters.items;
            assert!(
                far_bytes * 100 < 4 * counters.items,
                "{far_bytes} bytes for {} items of ttl {ttl_seconds}, {eviction:?}",
                counters.items
            );
        }
    }
}

#[test]
fn uniques_nobody_asked_for_and_flags_of_zero_cost_no_bytes() {
    let each = |flags: u32, wanted: Unique| {
        let mut bench = Bench::of_mib(8, 8, Eviction::None);
        // One in two stays, so that the others' room is compacted: an item pays for its unique when it moves.
        for number in 0..60_000 {
            let item = NewItem {
                flags,
                deadline: Deadline::Never,
                value: &[1; 64],
            };
            bench.with_key(number, |shard, key| {
                assert_eq!(shard.set(key, item, Seconds(0)), SetOutcome::Stored);
                assert!(shard.get(key, Seconds(0), wanted).is_some());
            });
            if number % 2 == 1 {
                bench.with_key(number, |shard, key| shard.delete(key, Seconds(0)));
            }
        }
        bench.limit(4);
        while bench.shard.upkeep(Seconds(0), UPKEEP_ITEMS) {}
        let counters = bench.counters();
        assert_eq!((counters.items, counters.evictions), (30_000, 0));
        assert!(counters.moved >= 10_000, "{counters:?}");
        counters.bytes as f64 / counters.items as f64
    };
    // A header of six bytes, a key of sixteen, the value.
    assert_eq!(each(0, Unique::Unasked), 86.0);
    assert_eq!(each(1, Unique::Unasked), 90.0);
    let seen = each(0, Unique::Wanted);
    assert!(seen > 86.0 && seen <= 94.0, "{seen}");
}

#[test]
fn the_end_of_a_sealed_segment_takes_what_fits_there() {
    let mut bench = Bench::of_mib(8, 8, Eviction::None);
    let page_bytes = bench.shard.usage().page_bytes;
    let (long, short) = (page_bytes * 9 / 16, page_bytes * 6 / 16);
    let before = bench.shard.usage().pages_segment;
    for (number, value_bytes) in [long, long, long, short, short].into_iter().enumerate() {
        let stored = bench.store(number as u32, &vec![7; value_bytes], Deadline::Never);
        assert_eq!(stored, SetOutcome::Stored);
    }
    // The open segment takes the first of the short ones; the other would open a fourth.
    assert_eq!(bench.shard.usage().pages_segment - before, 3);
}

/// A store that finds no page free sweeps segments until one is: what that takes is bounded by what fits a page, however
/// large the memory is, because a sweep that keeps things gains at least a quarter of a page.
#[test]
fn a_store_that_has_to_win_a_page_sweeps_no_more_than_a_few_pages_hold() {
    for eviction in EVICTING {
        let mut bench = full_of_64_mib(eviction);
        let usage = bench.shard.usage();
        let page_items = (usage.page_bytes as u64) * usage.items / usage.bytes;
        let before = bench.counters().forced_reclaims;
        let mut longest = 0;
        // All chains need a page at the same time, so that the reserve for them is not there yet.
        for number in 0..100_000 {
            let deadline = Deadline::At(Seconds(60 << (number % 10)));
            let swept = bench.swept();
            bench.store(FILL + number, &[1; 64], deadline);
            longest = longest.max(bench.swept() - swept);
            fetch_popular(&mut bench, FILL + number);
        }
        let forced = bench.counters().forced_reclaims - before;
        assert!(forced > 0, "no store had to win a page, {eviction:?}");
        assert!(
            longest <= 2 * page_items + SWEPT_MAX,
            "one store swept {longest} items, {page_items} fit a page, {eviction:?}"
        );
    }
}
