//! Requests in a steady state allocate nothing, whatever they ask and in which dialect.

use strata_load::client::{Dialect, Pipeline, Terms, Verify};
use strata_load::fairness::Fairness;
use strata_load::kind::Kind;
use strata_load::tally::Tally;
use strata_load::windows::Windows;
use strata_load::workload::values::Tape;
use strata_load::workload::{Amount, KeySpace, Mix, Pattern, Requests, Spread, Weighted, Workload};

/// Requests in flight.
const DEPTH: usize = 16;

fn workload(kind: Kind, key_count: u32, pattern: Pattern, sizes: Amount) -> Workload {
    let list = [Weighted {
        kind,
        key_count,
        weight: 1,
    }];
    Workload {
        keys: KeySpace::new("memtier-", 0, 999_999),
        set_pattern: pattern,
        get_pattern: pattern,
        mix: Mix::Weights(list.into()),
        sizes,
        lives: Amount::Drawn(Spread::Range(1, 100)),
        fresh_share: 0.1,
        set_on_miss: kind == Kind::Get && key_count == 1,
    }
}

/// What a server with every item of 32 bytes says to a line; one that misses if `miss`.
fn answer(asked: &[u8], miss: bool, tape: &Tape, reply: &mut Vec<u8>) {
    let line = asked.strip_suffix(b"\r").unwrap_or(asked);
    let mut words = line.split(|&byte| byte == b' ');
    match words.next() {
        Some(b"get" | b"gets") => {
            let gets = line.starts_with(b"gets");
            for key in words.filter(|_| !miss) {
                reply.extend_from_slice(b"VALUE ");
                reply.extend_from_slice(key);
                reply.extend_from_slice(if gets { b" 0 32 7\r\n" } else { b" 0 32\r\n" });
                let mut index = 0;
                for digit in key.iter().skip("memtier-".len()) {
                    index = index * 10 + u64::from(digit - b'0');
                }
                tape.render(index, 32, 5, reply);
                reply.extend_from_slice(b"\r\n");
            }
            reply.extend_from_slice(b"END\r\n");
        }
        Some(b"set" | b"add" | b"cas") => {
            reply.extend_from_slice(b"STORED\r\n");
        }
        Some(b"delete") => reply.extend_from_slice(b"DELETED\r\n"),
        Some(b"incr") => reply.extend_from_slice(b"7\r\n"),
        Some(b"touch") => reply.extend_from_slice(b"TOUCHED\r\n"),
        _ => {}
    }
}

/// Drives `turns` rounds of a full pipeline.
fn drive(
    turns: usize,
    miss: bool,
    pipeline: &mut Pipeline,
    requests: &mut Requests,
    terms: &Terms,
    tally: &mut Tally,
    buffers: &mut (Vec<u8>, Vec<u8>),
) {
    let (out, reply) = buffers;
    let mut now_ns = 1_000;
    for _ in 0..turns {
        reply.clear();
        while pipeline.has_room() || pipeline.has_follow_up() {
            out.clear();
            if pipeline.offer_follow_up(terms, now_ns, out).is_none() {
                let ask = requests.next_ask();
                pipeline.offer(&ask, requests, terms, now_ns, now_ns, out);
            }
            // The first line alone: what follows it is a value.
            let line = out.iter().position(|&byte| byte == b'\n').unwrap();
            answer(&out[..line], miss, &terms.tape, reply);
        }
        // Cut in two, so that lines and values are carried over.
        let (front, back) = reply.split_at(reply.len() / 2);
        now_ns += 10_000;
        pipeline.receive(front, now_ns, terms, tally).unwrap();
        pipeline.receive(back, now_ns, terms, tally).unwrap();
    }
}

#[test]
fn a_request_in_a_steady_state_allocates_nothing() {
    let fixed = Amount::Fixed(32);
    let list = Amount::ByKey(Spread::weighted(&[(32, 3), (32, 1)]));
    let zipf = Pattern::Scrambled { exponent: 0.99 };
    for (kind, key_count, pattern, sizes, miss) in [
        (Kind::Get, 1, Pattern::Uniform, &fixed, false),
        (Kind::Get, 1, zipf, &list, false),
        (Kind::Get, 1, zipf, &fixed, true),
        (Kind::Get, 10, Pattern::Uniform, &fixed, false),
        (Kind::Set, 1, Pattern::Sequential, &fixed, false),
        (Kind::Set, 1, zipf, &list, false),
        (Kind::Cas, 1, Pattern::Uniform, &fixed, false),
        (Kind::Delete, 1, Pattern::Uniform, &fixed, false),
        (Kind::Incr, 1, Pattern::Uniform, &fixed, false),
        (Kind::Touch, 1, Pattern::Uniform, &fixed, false),
    ] {
        let workload = workload(kind, key_count, pattern, sizes.clone());
        let terms = Terms::new(&workload, Dialect::Classic, Verify::Sampled);
        let mut requests = Requests::new(&workload, 1, 0, 1);
        let set_on_miss = workload.set_on_miss;
        let mut pipeline = Pipeline::new(0, DEPTH, key_count as usize, set_on_miss);
        let mut tally = Tally::new(0..2_000_000_000, true);
        tally.reserve_timelines(|kind| workload.occurs(kind));
        tally.windows = Windows::new(100_000_000, 2_000_000_000);
        tally.fairness = Fairness::new(0, 1);
        let mut buffers = (Vec::new(), Vec::new());
        let mut turn = |turns, tally: &mut Tally| {
            drive(
                turns,
                miss,
                &mut pipeline,
                &mut requests,
                &terms,
                tally,
                &mut buffers,
            );
        };
        let first = allocation_counter::measure(|| turn(100, &mut tally));
        // The buffers grow once, which also shows that allocations are seen.
        assert!(first.count_total > 0, "{kind:?}");
        let before = tally.count();
        let info = allocation_counter::measure(|| turn(1000, &mut tally));
        assert!(tally.faults.none(), "{kind:?}: {:?}", tally.faults);
        let done = tally.count() - before;
        assert!(done >= 16_000, "{kind:?}: {done}");
        assert_eq!(
            info.count_total, 0,
            "{kind:?} {key_count} {pattern:?} {miss}"
        );
    }
}
