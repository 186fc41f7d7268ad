//! What a call of the store costs, beside the `segcache` crate, in one run and on the same keys.
//!
//! ```text
//! cargo bench -p strata-benches --bench store                 # about ten minutes, 2 GiB
//! cargo bench -p strata-benches --bench store -- --quick      # about two minutes
//! cargo bench -p strata-benches --bench store -- get_hit/20k  # a part
//! ```
//!
//! Time is the processor time of this thread, so that a neighbour who takes the core away is not measured. It is for one
//! operation, drawing its key and copying the value out included, and each get is checked to be the
//! hit (or the miss) it is meant to be. `segcache_huge` is the same crate with huge pages put under it from outside;
//! its own interface has none.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::cpu_time::{CpuTime, now};
use common::peer::{self, Pages};
use common::{MIB, Random, Store, VALUE_BYTES_MAX, fill, fill_value, fill_what_fits, key, strata};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

/// Items that fit the caches of a core.
const FEW: u64 = 20_000;
/// Items that do not.
const MANY: u64 = 4_000_000;
/// Value of all items but those of the eviction benchmark.
const VALUE_BYTES: usize = 64;
/// Keys to a batch.
const BATCH: usize = 16;

/// Memory for `FEW` and for `MANY` items, roomy for both stores.
const FEW_BYTES: usize = 32 * MIB;
const MANY_BYTES: usize = 704 * MIB;
/// Memory of the eviction benchmark.
const EVICTION_BYTES: usize = 288 * MIB;
/// Slots of the peer's table, of eight bytes each. It comes off the memory of its segments. A fuller table than these
/// refuses a few of the items, and then not every get is a hit.
const FEW_HASH_POWER: u8 = 18;
const MANY_HASH_POWER: u8 = 24;
const EVICTION_HASH_POWER: u8 = 23;

fn peer_of(bytes: usize, hash_power: u8, pages: Pages) -> peer::Peer {
    peer::new(bytes - (8 << hash_power), hash_power, pages)
}

type Group<'a> = BenchmarkGroup<'a, CpuTime>;

fn get_hits(group: &mut Group<'_>, name: &str, store: &mut impl Store, count: u64) {
    let mut random = Random::new(11);
    let mut out = [0; VALUE_BYTES_MAX];
    // Settles the frequencies: a counter that is new is written at every fetch.
    for _ in 0..2 * count {
        assert!(store.get(&key(random.below(count)), &mut out).is_some());
    }
    let (mut gets, mut hits) = (0u64, 0u64);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            gets += 1;
            let len = store.get(&key(random.below(count)), &mut out);
            hits += u64::from(len == Some(VALUE_BYTES));
            black_box(&out);
        });
    });
    assert_eq!(gets, hits, "{name}: every get is a hit");
}

fn get_misses(group: &mut Group<'_>, name: &str, store: &mut impl Store, count: u64) {
    let mut random = Random::new(12);
    let mut out = [0; VALUE_BYTES_MAX];
    let mut hits = 0u64;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let len = store.get(&key(count + random.below(count)), &mut out);
            hits += u64::from(len.is_some());
        });
    });
    assert_eq!(hits, 0, "{name}: every get is a miss");
}

fn get_batches<M: strata_store::Memory>(
    group: &mut Group<'_>,
    name: &str,
    store: &mut strata::Strata<M>,
    count: u64,
) {
    let mut random = Random::new(13);
    let mut out = [0; BATCH * VALUE_BYTES];
    let (mut gets, mut hits) = (0u64, 0u64);
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            gets += BATCH as u64;
            let keys: [_; BATCH] = std::array::from_fn(|_| key(random.below(count)));
            hits += store.get_batch(&keys, &mut out) as u64;
            black_box(&out);
        });
    });
    group.throughput(Throughput::Elements(1));
    assert_eq!(gets, hits, "{name}: every get is a hit");
}

fn few(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("get_hit/20k");
    group.throughput(Throughput::Elements(1));
    let mut ours = strata::new(FEW_BYTES);
    fill(&mut ours, FEW, VALUE_BYTES);
    get_hits(&mut group, "strata", &mut ours, FEW);
    get_batches(&mut group, "strata_by_16", &mut ours, FEW);
    drop(ours);
    for (name, pages) in [("segcache", Pages::Small), ("segcache_huge", Pages::Huge)] {
        let mut peer = peer_of(FEW_BYTES, FEW_HASH_POWER, pages);
        fill(&mut peer, FEW, VALUE_BYTES);
        get_hits(&mut group, name, &mut peer, FEW);
    }
    group.finish();
}

fn many(c: &mut Criterion<CpuTime>) {
    let mut ours = strata::new(MANY_BYTES);
    fill(&mut ours, MANY, VALUE_BYTES);
    let mut group = c.benchmark_group("get_hit/4m");
    group.throughput(Throughput::Elements(1));
    get_hits(&mut group, "strata", &mut ours, MANY);
    get_batches(&mut group, "strata_by_16", &mut ours, MANY);
    group.finish();
    let mut group = c.benchmark_group("get_miss/4m");
    group.throughput(Throughput::Elements(1));
    get_misses(&mut group, "strata", &mut ours, MANY);
    group.finish();
    drop(ours);
    for (name, pages) in [("segcache", Pages::Small), ("segcache_huge", Pages::Huge)] {
        let mut peer = peer_of(MANY_BYTES, MANY_HASH_POWER, pages);
        fill(&mut peer, MANY, VALUE_BYTES);
        let mut group = c.benchmark_group("get_hit/4m");
        group.throughput(Throughput::Elements(1));
        get_hits(&mut group, name, &mut peer, MANY);
        group.finish();
        let mut group = c.benchmark_group("get_miss/4m");
        group.throughput(Throughput::Elements(1));
        get_misses(&mut group, name, &mut peer, MANY);
        group.finish();
    }
}

/// The whole way from an empty store to `MANY` items, in memory touched before.
fn set_into_space(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("set_into_space/4m");
    group.throughput(Throughput::Elements(MANY));
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(8));
    let timed = |store: &mut dyn FnMut()| {
        let start = now();
        store();
        now() - start
    };
    let mut memory = strata::memory(MANY_BYTES);
    group.bench_function("strata", |bencher| {
        bencher.iter_custom(|rounds| {
            (0..rounds)
                .map(|_| {
                    let mut ours = strata::over(memory.as_mut());
                    let time = timed(&mut || fill(&mut ours, MANY, VALUE_BYTES));
                    assert_eq!(ours.shard.counters().items, MANY);
                    time
                })
                .sum()
        });
    });
    drop(memory);
    for (name, pages) in [("segcache", Pages::Small), ("segcache_huge", Pages::Huge)] {
        let mut peer = peer_of(MANY_BYTES, MANY_HASH_POWER, pages);
        fill(&mut peer, MANY, VALUE_BYTES);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                (0..rounds)
                    .map(|_| {
                        peer.cache.clear();
                        timed(&mut || fill(&mut peer, MANY, VALUE_BYTES))
                    })
                    .sum()
            });
        });
    }
    group.finish();
}

fn set_new_keys(
    group: &mut Group<'_>,
    name: &str,
    store: &mut impl Store,
    from: u64,
    value_bytes: usize,
) {
    let mut value = [b'v'; VALUE_BYTES_MAX];
    let mut index = from;
    let mut refused = 0u64;
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            fill_value(&mut value, index);
            refused += u64::from(!store.set(&key(index), &value[..value_bytes]));
            index += 1;
        });
    });
    // The peer's table does not grow, and a set that finds its two hash buckets full is refused now and then.
    let sets = index - from;
    assert!(
        refused * 100 <= sets,
        "{name}: {refused} of {sets} sets were refused"
    );
}

fn set_with_eviction(c: &mut Criterion<CpuTime>) {
    for value_bytes in [32usize, 64, 128, 512] {
        // Twice as many as fit if they cost nothing but their bytes.
        let first = (2 * EVICTION_BYTES / (value_bytes + common::KEY_BYTES)) as u64;
        let mut group = c.benchmark_group(format!("set_with_eviction/{value_bytes}"));
        group.throughput(Throughput::Elements(1));
        let mut ours = strata::new(EVICTION_BYTES);
        fill(&mut ours, first, value_bytes);
        set_new_keys(&mut group, "strata", &mut ours, first, value_bytes);
        assert!(ours.shard.counters().evictions > 0);
        drop(ours);
        for (name, pages) in [("segcache", Pages::Small), ("segcache_huge", Pages::Huge)] {
            let mut peer = peer_of(EVICTION_BYTES, EVICTION_HASH_POWER, pages);
            let refused = fill_what_fits(&mut peer, first, value_bytes);
            assert!(
                refused * 100 <= first,
                "{name}: {refused} of {first} sets were refused"
            );
            set_new_keys(&mut group, name, &mut peer, first, value_bytes);
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = few, many, set_into_space, set_with_eviction
}
criterion_main!(benches);
