//! What can be seen of a shard without being its client.

use std::collections::HashMap;

use strata_store::{
    Arithmetic, Deadline, Eviction, Key, KeyHasher, NewItem, Peek, ScanPlace, Seconds, Shard,
    ShardConfig, Unique,
};

const MIB: usize = 1 << 20;

fn shard(memory_bytes: usize) -> (Shard<Vec<u8>>, KeyHasher) {
    let hasher = KeyHasher::new([2, 7, 1, 8, 2, 8, 1, 8]);
    let config = ShardConfig {
        item_max_bytes: 256 << 10,
        eviction: Eviction::S3Fifo,
        seed: 5,
    };
    let shard = Shard::new(vec![0; memory_bytes], hasher.clone(), config);
    (shard.expect("enough memory"), hasher)
}

fn key<'a>(hasher: &KeyHasher, text: &'a str) -> Key<'a> {
    Key {
        hash: hasher.hash(text.as_bytes()),
        bytes: text.as_bytes(),
    }
}

fn item(value: &[u8], flags: u32, deadline: Deadline) -> NewItem<'_> {
    NewItem {
        flags,
        deadline,
        value,
    }
}

#[test]
fn a_peek_sees_what_a_get_would_and_leaves_no_trace() {
    let (mut shard, hasher) = shard(8 * MIB);
    let key = key(&hasher, "k");
    assert_eq!(shard.peek(key, Seconds(5)), Peek::Absent);
    let at_20 = Deadline::At(Seconds(20));
    shard.set(key, item(b"value", 7, at_20), Seconds(5));
    for _ in 0..3 {
        let Peek::Here(sight) = shard.peek(key, Seconds(19)) else {
            panic!("it is there");
        };
        assert_eq!((sight.key, sight.value_bytes), (&b"k"[..], 5));
        assert_eq!((sight.flags, sight.deadline), (7, at_20));
        assert!(!sight.fetched && sight.unique > 0);
    }
    let seen = shard
        .get(key, Seconds(19), Unique::Wanted)
        .expect("a hit")
        .cas;
    match shard.peek(key, Seconds(19)) {
        Peek::Here(sight) => assert!(sight.fetched && sight.unique == seen),
        other => panic!("{other:?}"),
    }
    assert_eq!(shard.peek(key, Seconds(20)), Peek::Expired);
    assert_eq!(shard.counters().get_expired, 0);
    shard.flush(Seconds(10), Seconds(6));
    assert_eq!(shard.peek(key, Seconds(10)), Peek::Flushed);
    // The flush that is due comes before the deadline, as for a get.
    assert_eq!(shard.peek(key, Seconds(20)), Peek::Flushed);
    assert!(shard.get(key, Seconds(20), Unique::Unasked).is_none());
    assert_eq!(shard.counters().get_flushed, 1);
    shard.audit().expect("in order");
}

type Command = fn(&mut Shard<Vec<u8>>, Key<'_>, Seconds);

#[test]
fn every_command_counts_what_it_met_expired() {
    let (mut shard, hasher) = shard(8 * MIB);
    let key = key(&hasher, "k");
    let (before, after) = (Seconds(5), Seconds(20));
    let commands: [Command; 10] = [
        |shard, key, now| assert!(shard.get(key, now, Unique::Unasked).is_none()),
        |shard, key, now| {
            let hit = shard.get_and_touch(key, Deadline::Never, now, Unique::Unasked);
            assert!(hit.is_none());
        },
        |shard, key, now| _ = shard.touch(key, Deadline::Never, now),
        |shard, key, now| _ = shard.delete(key, now),
        |shard, key, now| _ = shard.append(key, b"x", now),
        |shard, key, now| _ = shard.arith(key, Arithmetic::Incr, 1, now),
        |shard, key, now| _ = shard.replace(key, item(b"v", 0, Deadline::Never), now),
        |shard, key, now| _ = shard.add(key, item(b"v", 0, Deadline::Never), now),
        |shard, key, now| _ = shard.set(key, item(b"v", 0, Deadline::Never), now),
        |shard, key, now| shard.unlink(key, now),
    ];
    for (at, command) in commands.into_iter().enumerate() {
        shard.set(key, item(b"1", 0, Deadline::At(Seconds(10))), before);
        command(&mut shard, key, after);
        assert_eq!(shard.counters().get_expired, at as u64 + 1, "command {at}");
        shard.delete(key, after);
    }
    // What can be seen is not counted.
    for _ in 0..2 {
        shard.set(key, item(b"2", 0, Deadline::Never), after);
    }
    assert_eq!(shard.counters().get_expired, 10);
    shard.audit().expect("in order");
}

#[test]
fn a_scan_meets_every_item_once_however_it_is_sliced() {
    let (mut shard, hasher) = shard(16 * MIB);
    let mut expected = HashMap::new();
    for at in 0..20_000u32 {
        let text = format!("key{at}");
        let deadline = match at % 3 {
            0 => Deadline::Never,
            1 => Deadline::At(Seconds(50)),
            _ => Deadline::At(Seconds(5000)),
        };
        let value = vec![b'v'; at as usize % 100];
        shard.set(key(&hasher, &text), item(&value, at, deadline), Seconds(5));
        if at % 3 != 1 {
            expected.insert(text.into_bytes(), (value.len(), at, deadline));
        }
    }
    for slice in [1, 7, 100_000] {
        let mut seen = HashMap::new();
        let (mut place, mut slices) = (Some(ScanPlace::default()), 0);
        while let Some(from) = place {
            let mut shown = 0;
            place = shard.scan(from, slice, Seconds(60), |sight| {
                shown += 1;
                let what = (sight.value_bytes, sight.flags, sight.deadline);
                let before = seen.insert(sight.key.to_vec(), what);
                assert_eq!(before, None, "{:?} twice", sight.key);
            });
            assert!(shown <= 9 * slice, "{shown} items in {slice} buckets");
            slices += 1;
        }
        assert_eq!(seen, expected);
        assert!(slices > 1000 / slice);
    }
}

#[test]
fn evictions_are_told_to_whoever_watches_as_far_as_there_is_room() {
    let (mut shard, hasher) = shard(MIB);
    let fill = |shard: &mut Shard<Vec<u8>>, from: u32| {
        for at in from..from + 20_000 {
            let text = format!("key{at}");
            let new = item(&[b'v'; 100], 0, Deadline::Never);
            shard.set(key(&hasher, &text), new, Seconds(5));
        }
    };
    fill(&mut shard, 0);
    assert!(shard.counters().evictions > 1000);
    let mut told = 0u64;
    assert_eq!(shard.take_evictions(|_| told += 1), 0);
    assert_eq!(told, 0, "nobody watched");

    shard.watch_evictions(500);
    let before = shard.counters().evictions;
    fill(&mut shard, 20_000);
    let missed = shard.take_evictions(|evicted| {
        assert!(evicted.key.starts_with(b"key") && evicted.value_bytes == 100);
        told += 1;
    });
    assert_eq!(told, 500);
    assert_eq!(told + missed, shard.counters().evictions - before);
    shard.watch_evictions(0);
    fill(&mut shard, 40_000);
    assert_eq!(shard.take_evictions(|_| panic!("nobody watches")), 0);
    shard.audit().expect("in order");
}

#[test]
fn items_are_counted_by_how_long_they_were_to_live() {
    let (mut shard, hasher) = shard(8 * MIB);
    for (at, ttl) in [10, 10, 1000, 1 << 24].into_iter().enumerate() {
        let text = format!("k{at}");
        let deadline = Deadline::At(Seconds(5 + ttl));
        shard.set(key(&hasher, &text), item(b"v", 0, deadline), Seconds(5));
    }
    shard.set(
        key(&hasher, "ever"),
        item(b"v", 0, Deadline::Never),
        Seconds(5),
    );
    let mut classes = Vec::new();
    shard.ttl_classes(|class| classes.push((class.ttl_min, class.items)));
    let items: Vec<u64> = classes.iter().map(|(_, items)| *items).collect();
    assert_eq!(items, [2, 1, 1, 1]);
    assert_eq!(classes[3].0, None);
    assert_eq!(classes[2].0, Some((1 << 23) + 1));
    assert!(classes[0].0.is_some_and(|ttl| ttl <= 10));
    assert!(classes[1].0.is_some_and(|ttl| (500..=1000).contains(&ttl)));
}
