//! Random operations on a shard and on a map with deadlines: the shard may forget where memory is short, never lie.
//!
//! `STRATA_SEED` repeats one run, `STRATA_OPERATIONS` sets the length of each.

use crate::Eviction;
use crate::testkit::{Rig, Rules, Seeded};

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number"))
    })
}

/// The policies that make room by dropping items.
const EVICTING: [Eviction; 3] = [Eviction::Merge, Eviction::S3Fifo, Eviction::Fifo];

/// Runs each policy with each seed; a panic is preceded by the seed that repeats it.
fn drive_each(rules: Rules, operations: u64, check: impl Fn(&mut Rig)) {
    for eviction in EVICTING {
        drive(Rules { eviction, ..rules }, operations, &check);
    }
}

/// Runs each seed; a panic is preceded by the seed that repeats it.
fn drive(rules: Rules, operations: u64, check: impl Fn(&mut Rig)) {
    struct Telling(u64, Eviction);
    impl Drop for Telling {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!(
                    "repeat this run with STRATA_SEED={}; the policy is {:?}",
                    self.0, self.1
                );
            }
        }
    }
    let operations = from_env("STRATA_OPERATIONS").unwrap_or(operations);
    let seeds = from_env("STRATA_SEED").map_or(1..5, |seed| seed..seed + 1);
    for seed in seeds {
        let _telling = Telling(seed, rules.eviction);
        let mut rig = Rig::new(rules, seed);
        rig.run(&mut Seeded::new(seed), operations);
        assert_eq!(rig.operations(), operations);
        rig.end_loans();
        check(&mut rig);
    }
}

const ROOMY: Rules = Rules {
    memory_bytes: 16 << 20,
    item_max_bytes: 200 << 10,
    eviction: Eviction::Merge,
    keys: 300,
    value_bytes: 200,
    large_one_in: 60,
    may_forget: false,
    may_refuse: false,
    audit_every: 50,
    lasting_of_four: 1,
    flushes: true,
    prefixes: false,
    delimiter: b':',
    grow_times: 1,
    granule_shift: 0,
};

#[test]
fn roomy_memory_forgets_nothing() {
    let rules = Rules {
        prefixes: true,
        ..ROOMY
    };
    drive_each(rules, 40_000, |rig| {
        assert!(rig.hits() > 2_000, "{} hits", rig.hits());
        assert!(rig.won() > 200, "{} won", rig.won());
        let flushes = rig.prefix_flushes();
        assert!(flushes > 100, "{flushes} flushes of a prefix");
        let counters = rig.totals();
        assert!(counters.flushed > 100, "{counters:?}");
        let unfetched = counters.expired_unfetched;
        assert!(
            unfetched > 100 && unfetched < counters.expired,
            "{counters:?}"
        );
    });
}

#[test]
fn audit_agrees_after_each_operation() {
    let rules = Rules {
        memory_bytes: 2 << 20,
        item_max_bytes: 60 << 10,
        audit_every: 1,
        prefixes: true,
        may_forget: true,
        may_refuse: true,
        ..ROOMY
    };
    drive_each(rules, 4_000, |rig| assert!(rig.prefix_flushes() > 10));
}

#[test]
fn audit_agrees_whatever_the_granule_is() {
    for granule_shift in [1, 2, 6] {
        let rules = Rules {
            memory_bytes: 1 << 20,
            item_max_bytes: 100 << 10,
            keys: 5_000,
            value_bytes: 1_000,
            granule_shift,
            lasting_of_four: 3,
            audit_every: 50,
            flushes: false,
            may_forget: true,
            may_refuse: true,
            ..ROOMY
        };
        drive_each(rules, 20_000, |rig| {
            let counters = rig.totals();
            assert!(counters.evictions > 100, "{counters:?}");
        });
    }
}

#[test]
fn many_small_items_grow_the_table() {
    let rules = Rules {
        keys: 60_000,
        value_bytes: 40,
        large_one_in: 0,
        flushes: false,
        audit_every: 5_000,
        ..ROOMY
    };
    drive_each(rules, 150_000, |rig| {
        let usage = rig.shard.usage();
        assert!(usage.pages_table > 1, "{usage:?}");
    });
}

#[test]
fn tight_memory_forgets_only_what_it_evicts() {
    let rules = Rules {
        memory_bytes: 1 << 20,
        item_max_bytes: 100 << 10,
        keys: 5_000,
        may_forget: true,
        may_refuse: true,
        large_one_in: 200,
        flushes: false,
        lasting_of_four: 3,
        audit_every: 200,
        ..ROOMY
    };
    drive_each(rules, 100_000, |rig| {
        assert!(rig.totals().evictions > 1000, "{:?}", rig.totals());
        assert!(rig.hits() > 1000, "{} hits", rig.hits());
        let counters = rig.totals();
        let of_queues = [
            counters.ghost_hits,
            counters.promotions,
            counters.reinsertions,
        ];
        assert!(
            if rig.rules().eviction == Eviction::S3Fifo {
                of_queues.iter().all(|&count| count > 100)
            } else {
                of_queues == [0; 3]
            },
            "{counters:?}"
        );
    });
}

#[test]
fn what_is_flushed_by_its_prefix_stays_so_wherever_items_move() {
    let rules = Rules {
        memory_bytes: 1 << 20,
        item_max_bytes: 100 << 10,
        keys: 20_000,
        may_forget: true,
        may_refuse: true,
        large_one_in: 200,
        flushes: false,
        prefixes: true,
        lasting_of_four: 3,
        audit_every: 200,
        ..ROOMY
    };
    drive_each(rules, 100_000, |rig| {
        let counters = rig.totals();
        assert!(
            counters.evictions > 1000 && counters.flushed > 1000,
            "{counters:?}"
        );
        let moves = rig.rules().eviction != Eviction::Fifo;
        assert!(!moves || counters.moved > 100, "{counters:?}");
        assert!(rig.prefix_flushes() > 100);
    });
}

#[test]
fn tight_memory_of_small_items_never_refuses() {
    let rules = Rules {
        memory_bytes: 1 << 20,
        item_max_bytes: 10 << 10,
        keys: 60_000,
        value_bytes: 100,
        may_forget: true,
        may_refuse: false,
        large_one_in: 0,
        flushes: false,
        lasting_of_four: 3,
        audit_every: 1000,
        ..ROOMY
    };
    drive_each(rules, 200_000, |rig| {
        assert!(rig.totals().evictions > 1000, "{:?}", rig.totals())
    });
}

#[test]
fn without_eviction_nothing_is_forgotten() {
    let rules = Rules {
        memory_bytes: 1 << 20,
        item_max_bytes: 60 << 10,
        eviction: Eviction::None,
        keys: 20_000,
        may_refuse: true,
        large_one_in: 200,
        flushes: false,
        lasting_of_four: 3,
        audit_every: 200,
        ..ROOMY
    };
    drive(rules, 60_000, |rig| {
        assert!(rig.refused() > 100, "{} refused", rig.refused());
        assert_eq!(rig.totals().evictions, 0);
    });
}

#[test]
fn memory_that_grows_and_shrinks_forgets_only_what_it_evicts() {
    let rules = Rules {
        memory_bytes: 1 << 20,
        item_max_bytes: 60 << 10,
        keys: 20_000,
        may_forget: true,
        may_refuse: true,
        large_one_in: 200,
        flushes: false,
        lasting_of_four: 3,
        audit_every: 500,
        grow_times: 4,
        ..ROOMY
    };
    drive_each(rules, 60_000, |rig| {
        assert!(rig.limit_changes() > 100, "{} changes", rig.limit_changes());
        let counters = rig.totals();
        assert!(counters.evictions > 1000, "{counters:?}");
        assert!(rig.hits() > 1000, "{} hits", rig.hits());
    });
}

#[test]
fn small_items_are_never_refused_while_memory_shrinks() {
    let rules = Rules {
        memory_bytes: 1 << 20,
        item_max_bytes: 10 << 10,
        keys: 60_000,
        value_bytes: 100,
        may_forget: true,
        may_refuse: false,
        large_one_in: 0,
        flushes: false,
        lasting_of_four: 3,
        audit_every: 2000,
        grow_times: 5,
        ..ROOMY
    };
    drive_each(rules, 100_000, |rig| {
        assert!(rig.limit_changes() > 100, "{} changes", rig.limit_changes());
        assert!(rig.totals().evictions > 1000);
    });
}

#[test]
fn without_eviction_shrinking_forgets_nothing() {
    let rules = Rules {
        memory_bytes: 1 << 20,
        item_max_bytes: 60 << 10,
        eviction: Eviction::None,
        keys: 20_000,
        may_refuse: true,
        large_one_in: 200,
        flushes: false,
        lasting_of_four: 3,
        audit_every: 500,
        grow_times: 3,
        ..ROOMY
    };
    drive(rules, 40_000, |rig| {
        assert!(rig.limit_changes() > 60, "{} changes", rig.limit_changes());
        assert_eq!(rig.totals().evictions, 0);
    });
}

#[test]
fn audit_agrees_after_each_operation_while_memory_changes() {
    let rules = Rules {
        memory_bytes: 1 << 20,
        item_max_bytes: 60 << 10,
        keys: 2_000,
        audit_every: 1,
        may_forget: true,
        may_refuse: true,
        grow_times: 2,
        ..ROOMY
    };
    drive_each(rules, 3_000, |rig| assert!(rig.limit_changes() > 0));
}
