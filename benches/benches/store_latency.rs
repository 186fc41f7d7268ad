//! The longest single call of a store while it evicts and expires.
//!
//! ```text
//! cargo bench -p strata-benches --bench store_latency              # 10 million operations, three times
//! cargo bench -p strata-benches --bench store_latency -- --quick   # one million
//! ```
//!
//! Every call is timed by itself: gets, sets, and the upkeep a server does between batches. Half of the operations are
//! gets, values are 32 to 512 bytes, ttls from three seconds to a day, and memory is a quarter of what the keys need.
//!
//! Our shard does the same work in every round, so the least of three rounds is what a call costs when nobody takes the
//! core away; the first round alone is shown beside it. The peer reads the clock itself, so its rounds differ and
//! only the first means something.

mod common;

use std::time::Instant;

use common::peer::{self, Pages};
use common::{MIB, Random, Store, VALUE_BYTES_MAX, fill_value, key, strata};

const MEMORY_BYTES: usize = 288 * MIB;
const HASH_POWER: u8 = 21;
/// Keys in use: four times as many as fit.
const KEYS: u64 = 5_000_000;
const VALUE_BYTES: [usize; 4] = [32, 64, 128, 512];
const TTLS_SECONDS: [u32; 4] = [3, 20, 300, 86_400];
/// Operations between two calls of upkeep.
const UPKEEP_EVERY: u64 = 64;
/// Operations to one second of invented time.
const SECOND_EVERY: u64 = 20_000;
const ROUNDS: usize = 3;

/// Runs all operations; lowers `least_ns` to the time of each call where it was shorter.
fn round(store: &mut impl Store, operations: u64, least_ns: &mut [u32]) {
    let mut random = Random::new(21);
    let mut value = [b'v'; VALUE_BYTES_MAX];
    let mut out = [0; VALUE_BYTES_MAX];
    // Memory is full before the first call is timed.
    for _ in 0..KEYS / 2 {
        let index = random.below(KEYS);
        let len = VALUE_BYTES[(index % 4) as usize];
        fill_value(&mut value, index);
        store.set_for(&key(index), &value[..len], TTLS_SECONDS[3]);
    }
    let mut calls = least_ns.iter_mut();
    let mut note = |start: Instant| {
        let took = u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX);
        let least = calls.next().expect("room for each call");
        *least = took.min(*least);
    };
    for operation in 0..operations {
        // The square of a uniform number: some keys are asked for much more often than others.
        let index = random.below(KEYS) * random.below(KEYS) / KEYS;
        let key = key(index);
        if random.below(2) == 0 {
            let start = Instant::now();
            let hit = store.get(&key, &mut out);
            note(start);
            assert!(hit.is_none_or(|len| common::is_value(&out[..len], index)));
        } else {
            let len = VALUE_BYTES[(index % 4) as usize];
            let ttl_seconds = TTLS_SECONDS[random.below(4) as usize];
            fill_value(&mut value, index);
            let start = Instant::now();
            store.set_for(&key, &value[..len], ttl_seconds);
            note(start);
        }
        if operation % UPKEEP_EVERY == 0 {
            let start = Instant::now();
            store.upkeep();
            note(start);
        }
        if operation % SECOND_EVERY == 0 {
            let start = Instant::now();
            store.pass_second();
            note(start);
        }
    }
}

fn show(name: &str, sorted_ns: &mut [u32]) {
    sorted_ns.sort_unstable();
    let at = |share: f64| sorted_ns[((sorted_ns.len() - 1) as f64 * share) as usize];
    let microseconds = |ns: u32| f64::from(ns) / 1000.0;
    let over = |bound: u32| sorted_ns.iter().filter(|&&ns| ns > bound).count();
    println!(
        "{name:<28} p50 {:>7.2}  p99 {:>7.2}  p99.9 {:>7.2}  p99.99 {:>7.2}  p99.999 {:>8.2}  max {:>9.2}   \
         over 20: {}, over 200: {}",
        microseconds(at(0.5)),
        microseconds(at(0.99)),
        microseconds(at(0.999)),
        microseconds(at(0.9999)),
        microseconds(at(0.999_99)),
        microseconds(sorted_ns[sorted_ns.len() - 1]),
        over(20_000),
        over(200_000),
    );
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick" || argument == "--test");
    let operations: u64 = if quick { 1_000_000 } else { 10_000_000 };
    let calls = operations + operations.div_ceil(UPKEEP_EVERY) + operations.div_ceil(SECOND_EVERY);
    let mut least_ns = vec![u32::MAX; calls as usize];
    println!("{operations} operations under eviction and expiry; microseconds a call");

    let mut clock_ns = vec![u32::MAX; 1_000_000];
    for least in &mut clock_ns {
        let start = Instant::now();
        *least = start.elapsed().as_nanos() as u32;
    }
    show("nothing but the clock", &mut clock_ns);

    for round_index in 0..ROUNDS {
        let mut ours = strata::new(MEMORY_BYTES);
        round(&mut ours, operations, &mut least_ns);
        let counters = ours.shard.counters();
        assert!(
            counters.evictions > 0 && counters.expired > 0 && counters.moved > 0,
            "nothing was evicted, expired or moved: {counters:?}"
        );
        if round_index == 0 {
            show("strata, first round", &mut least_ns.clone());
            println!(
                "    evictions {}, expired {}, moved {}, stores that had to wait for a page {}",
                counters.evictions, counters.expired, counters.moved, counters.forced_reclaims
            );
        }
    }
    show("strata, least of three", &mut least_ns);

    for (name, pages) in [
        ("segcache", Pages::Small),
        ("segcache on huge pages", Pages::Huge),
    ] {
        let mut peer = peer::new(MEMORY_BYTES - (8 << HASH_POWER), HASH_POWER, pages);
        least_ns.fill(u32::MAX);
        round(&mut peer, operations, &mut least_ns);
        show(name, &mut least_ns);
    }
}
