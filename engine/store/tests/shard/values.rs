//! Large values and loans.

use strata_store::{Deadline, Eviction, Seconds, SetOutcome, TouchOutcome, Unique};

use super::bench::{Bench, MIB, at};

#[test]
fn large_values_come_back_in_pieces_and_give_their_pages_back() {
    let mut bench = Bench::roomy();
    let value: Vec<u8> = (0..1_000_000u32)
        .map(|i| (i >> 5) as u8 ^ i as u8)
        .collect();
    let free = bench.shard.usage().pages_free;
    assert_eq!(bench.set("big", &value, at(50), 0), SetOutcome::Stored);
    assert_eq!(bench.get("big", 0).as_deref(), Some(&value[..]));
    let usage = bench.shard.usage();
    assert_eq!(usage.pages_extension, 1_000_000 / usage.page_bytes);
    assert_eq!(
        bench.shard.append(bench.key("big"), b"tail", Seconds(0)),
        SetOutcome::Stored
    );
    assert_eq!(bench.get("big", 0), Some([&value[..], b"tail"].concat()));
    bench.shard.delete(bench.key("big"), Seconds(0));
    assert!(
        bench.shard.usage().pages_free >= free - 1,
        "only the open segment is left"
    );
}

#[test]
fn a_value_too_long_for_its_header_stands_beside_the_item_whole() {
    let mut bench = Bench::new(64 * MIB, MIB as u32, Eviction::S3Fifo);
    let page_bytes = bench.shard.usage().page_bytes;
    assert_eq!(page_bytes, 128 << 10);
    let value: Vec<u8> = (0..page_bytes as u32).map(|i| (i >> 5) as u8).collect();
    for len in [65_534, 65_535, 65_536, 65_537, 100_001, page_bytes - 60] {
        let free = bench.shard.usage().pages_free;
        let stored = bench.set("long", &value[..len], at(90_000), 0);
        assert_eq!(stored, SetOutcome::Stored);
        let key = bench.key("long");
        for deadline in [at(50), Deadline::Never] {
            let touched = bench.shard.touch(key, deadline, Seconds(0));
            assert_eq!(touched, TouchOutcome::Touched);
            let hit = bench.shard.get(key, Seconds(0), Unique::Wanted);
            let hit = hit.expect("there");
            assert_eq!(hit.value.as_slice(), Some(&value[..len]), "{len} bytes");
            assert_eq!(hit.deadline, deadline);
        }
        let loan = bench.lend("long").expect("nothing is lent");
        assert_eq!(bench.shard.loan_bytes(&loan, 3), &value[3..len]);
        bench.shard.give_back(loan);
        assert_eq!(bench.shard.usage().pages_extension, 0);
        bench.shard.audit().expect("audit");
        bench.shard.append(key, b"tail", Seconds(0));
        let longer = bench.get("long", 0).expect("there");
        assert!(longer[..len] == value[..len] && &longer[len..] == b"tail");
        bench.shard.audit().expect("audit");
        bench.shard.delete(key, Seconds(0));
        assert!(bench.shard.usage().pages_free + 4 >= free, "{len} bytes");
    }
}

#[test]
fn a_loan_outlives_its_item() {
    let mut bench = Bench::roomy();
    let value: Vec<u8> = (0..100_000u32).map(|i| (i >> 3) as u8).collect();
    bench.set("big", &value, Deadline::Never, 0);
    let loan = bench.lend("big").expect("few pages are lent");
    bench.set("big", &[0; 100_000], Deadline::Never, 0);
    bench.shard.flush(Seconds(1), Seconds(1));
    while bench.shard.upkeep(Seconds(2), 100) {}
    for i in 0..2000 {
        bench.set(&format!("k{i}"), &[0xee; 10_000], Deadline::Never, 2);
    }
    let mut read = Vec::new();
    while read.len() < loan.len() {
        read.extend_from_slice(bench.shard.loan_bytes(&loan, read.len()));
    }
    assert!(read == value);
    let lent = bench.shard.usage().pages_lent;
    assert!(lent > 1);
    bench.shard.give_back(loan);
    assert_eq!(
        (
            bench.shard.usage().pages_lent,
            bench.shard.usage().pages_zombie
        ),
        (0, 0)
    );
}

#[test]
fn at_most_half_of_the_pages_are_lent() {
    let mut bench = Bench::new(MIB, 100 << 10, Eviction::Merge);
    let mut loans = Vec::new();
    for i in 0..40 {
        let name = format!("big{i}");
        bench.set(&name, &[7; 50_000], Deadline::Never, 0);
        match bench.lend(&name) {
            Some(loan) => loans.push(loan),
            None => break,
        }
    }
    let usage = bench.shard.usage();
    assert!(
        usage.pages_lent <= usage.pages_total / 2 && usage.pages_lent > usage.pages_total / 3,
        "{usage:?}"
    );
    assert_eq!(
        bench.set("still", &[1; 1000], Deadline::Never, 0),
        SetOutcome::Stored
    );
    for loan in loans {
        bench.shard.give_back(loan);
    }
}

#[test]
#[should_panic(expected = "is given back to a shard that has")]
fn giving_a_loan_to_another_shard_panics() {
    let (mut one, mut other) = (Bench::roomy(), Bench::roomy());
    one.set("k", b"v", Deadline::Never, 0);
    let loan = one.lend("k").expect("few pages are lent");
    other.shard.give_back(loan);
}
