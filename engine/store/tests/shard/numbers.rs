//! Values that are numbers.

use strata_store::{ArithOutcome, Arithmetic, Deadline, Key, NewItem, Seconds, Unique};

use super::bench::{Bench, at, hasher};

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
