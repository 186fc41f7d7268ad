//! What a shard is made of and takes: sizes, flushes, rows.

use strata_store::{
    Deadline, Eviction, Key, KeyHasher, NewItem, Seconds, SetOutcome, Shard, ShardConfig, TooSmall,
};

use super::bench::{Bench, MIB, hasher};

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
