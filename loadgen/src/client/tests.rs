//! Replies of all kinds, right and wrong, cut into all kinds of pieces.

use super::*;
use crate::workload::{Amount, KeySpace, Mix, Pattern, Requests, Weighted, Workload};

fn workload(mix: Mix) -> Workload {
    Workload {
        keys: KeySpace::new("k", 1, 9),
        set_pattern: Pattern::Sequential,
        get_pattern: Pattern::Sequential,
        mix,
        sizes: Amount::Fixed(20),
        lives: Amount::Fixed(0),
        fresh_share: 0.0,
        set_on_miss: false,
    }
}

fn setting(sets: u32, gets: u32, keys_per_get: u32) -> (Requests, Terms) {
    let workload = workload(Mix::Ratio {
        sets,
        gets,
        keys_per_get,
    });
    made_of(&workload, Dialect::Classic)
}

/// One request of each kind in turn is not what weights do, so each gets a stream of its own.
fn only(kind: Kind, key_count: u32, dialect: Dialect) -> (Requests, Terms) {
    let list = [Weighted {
        kind,
        key_count,
        weight: 1,
    }];
    made_of(&workload(Mix::Weights(list.into())), dialect)
}

fn made_of(workload: &Workload, dialect: Dialect) -> (Requests, Terms) {
    let terms = Terms::new(workload, dialect, Verify::Everything);
    (Requests::new(workload, 1, 0, 1), terms)
}

/// Offers `count` requests and returns their bytes and the pipeline that expects replies.
fn offered(
    count: usize,
    keys_per_get: u32,
    requests: &mut Requests,
    terms: &Terms,
) -> (Pipeline, Vec<u8>) {
    let mut pipeline = Pipeline::new(0, count, keys_per_get as usize, false);
    let mut out = Vec::new();
    for _ in 0..count {
        let ask = requests.next_ask();
        pipeline.offer(&ask, requests, terms, 10, 10, &mut out);
    }
    assert!(!pipeline.has_room());
    (pipeline, out)
}

fn hit(key: u64, terms: &Terms) -> Vec<u8> {
    let mut reply = format!("VALUE k{key} 0 20\r\n").into_bytes();
    terms.tape.render(key, 20, 5, &mut reply);
    reply.extend_from_slice(b"\r\n");
    reply
}

fn tally() -> Tally {
    Tally::new(0..u64::MAX, false)
}

#[test]
fn requests_are_rendered_in_the_order_of_the_mix() {
    let (mut requests, terms) = setting(1, 3, 2);
    let (_, out) = offered(3, 2, &mut requests, &terms);
    let text = out.escape_ascii().to_string();
    assert!(text.starts_with("set k1 0 0 20\\r\\n"), "{text}");
    assert!(
        text.ends_with("\\r\\nget k1 k2\\r\\nget k3\\r\\n"),
        "{text}"
    );
}

#[test]
fn hits_misses_and_stores_are_counted_however_the_replies_are_cut() {
    let (_, terms) = setting(1, 3, 2);
    let mut replies = b"STORED\r\n".to_vec();
    replies.extend(hit(2, &terms));
    replies.extend_from_slice(b"END\r\n");
    replies.extend(hit(3, &terms));
    replies.extend_from_slice(b"END\r\n");
    for piece_bytes in 1..=replies.len() {
        let (mut requests, terms) = setting(1, 3, 2);
        let (mut pipeline, _) = offered(3, 2, &mut requests, &terms);
        let mut tally = tally();
        for piece in replies.chunks(piece_bytes) {
            pipeline.receive(piece, 20, &terms, &mut tally).unwrap();
        }
        assert_eq!(pipeline.outstanding_count(), 0);
        assert_eq!(
            (tally.of(Kind::Set).count, tally.of(Kind::Get).count),
            (1, 2)
        );
        assert_eq!(
            (tally.of(Kind::Get).hits, tally.of(Kind::Get).misses),
            (2, 1)
        );
        let received = tally.of(Kind::Set).bytes_received + tally.of(Kind::Get).bytes_received;
        assert_eq!(received, replies.len() as u64, "pieces of {piece_bytes}");
        assert!(tally.faults.none(), "{:?}", tally.faults);
    }
}

#[test]
fn a_wrong_byte_is_a_wrong_value_and_the_stream_goes_on() {
    let (mut requests, terms) = setting(0, 1, 1);
    let (mut pipeline, _) = offered(2, 1, &mut requests, &terms);
    let mut replies = hit(1, &terms);
    replies[30] ^= 1;
    replies.extend_from_slice(b"END\r\n");
    replies.extend(hit(2, &terms));
    replies.extend_from_slice(b"END\r\n");
    let mut tally = tally();
    pipeline.receive(&replies, 20, &terms, &mut tally).unwrap();
    assert_eq!(tally.faults.wrong_values, 1);
    assert_eq!(tally.faults.first, ["the value of k1 has a wrong byte"]);
    assert_eq!(tally.of(Kind::Get).hits, 2);
}

#[test]
fn a_value_of_another_length_is_wrong() {
    let (mut requests, terms) = setting(0, 1, 1);
    let (mut pipeline, _) = offered(1, 1, &mut requests, &terms);
    let mut tally = tally();
    let reply = b"VALUE k1 0 3\r\nabc\r\nEND\r\n";
    pipeline.receive(reply, 20, &terms, &mut tally).unwrap();
    assert_eq!(tally.faults.wrong_values, 1);
    assert_eq!(pipeline.outstanding_count(), 0);
}

#[test]
fn swapped_replies_are_misplaced() {
    let (mut requests, terms) = setting(0, 1, 1);
    let (mut pipeline, _) = offered(2, 1, &mut requests, &terms);
    let mut replies = hit(2, &terms);
    replies.extend_from_slice(b"END\r\n");
    replies.extend(hit(1, &terms));
    replies.extend_from_slice(b"END\r\n");
    let mut tally = tally();
    pipeline.receive(&replies, 20, &terms, &mut tally).unwrap();
    assert_eq!(tally.faults.misplaced, 2);
    assert_eq!(
        tally.faults.first[0],
        "a get of k1 was answered with the key k2"
    );
}

#[test]
fn a_reply_of_the_other_kind_ends_the_connection() {
    let (mut requests, terms) = setting(1, 1, 1);
    let (mut pipeline, _) = offered(2, 1, &mut requests, &terms);
    let mut tally = tally();
    let outcome = pipeline.receive(b"END\r\n", 20, &terms, &mut tally);
    assert_eq!(outcome, Err(Nonsense));
    assert_eq!(tally.faults.misplaced, 1);
}

#[test]
fn errors_answer_their_request_and_are_counted() {
    let (mut requests, terms) = setting(1, 1, 1);
    let (mut pipeline, _) = offered(2, 1, &mut requests, &terms);
    let mut tally = tally();
    let replies = b"SERVER_ERROR out of memory storing object\r\nEND\r\n";
    pipeline.receive(replies, 20, &terms, &mut tally).unwrap();
    assert_eq!(tally.faults.errors, 1);
    assert_eq!(tally.of(Kind::Get).misses, 1);
    assert_eq!(pipeline.outstanding_count(), 0);
}

#[test]
fn endless_lines_unasked_replies_and_bad_line_ends_are_nonsense() {
    let endless = vec![b'a'; REPLY_LINE_MAX_BYTES + 1];
    let overlong = b"VALUE k1 0 1\r\nabc\r\nEND\r\n";
    let unasked = b"END\r\nEND\r\n";
    for (reply, verify) in [
        (&endless[..], Verify::Everything),
        (overlong, Verify::Nothing),
        (unasked, Verify::Everything),
    ] {
        let (mut requests, mut terms) = setting(0, 1, 1);
        terms.verify = verify;
        let (mut pipeline, _) = offered(1, 1, &mut requests, &terms);
        let outcome = pipeline.receive(reply, 20, &terms, &mut tally());
        assert_eq!(outcome, Err(Nonsense));
    }
}

/// A value of a hit with its line end.
fn block(key: u64, terms: &Terms) -> Vec<u8> {
    let mut block = Vec::new();
    terms.tape.render(key, 20, 5, &mut block);
    block.extend_from_slice(b"\r\n");
    block
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[test]
fn every_kind_is_asked_answered_and_counted_in_both_dialects() {
    // What stands on the wire, a reply that says yes, and one that says no.
    let cases = [
        (
            Kind::Add,
            Dialect::Classic,
            "add k1 0 0 20\\r\\n",
            "STORED",
            "NOT_STORED",
        ),
        (
            Kind::Delete,
            Dialect::Classic,
            "delete k1\\r\\n",
            "DELETED",
            "NOT_FOUND",
        ),
        (
            Kind::Touch,
            Dialect::Classic,
            "touch k1 0\\r\\n",
            "TOUCHED",
            "NOT_FOUND",
        ),
        (
            Kind::Incr,
            Dialect::Classic,
            "incr k1# 1\\r\\n",
            "7",
            "NOT_FOUND",
        ),
        (Kind::Set, Dialect::Meta, "ms k1 20 O1\\r\\n", "HD O1", ""),
        (
            Kind::Add,
            Dialect::Meta,
            "ms k1 20 ME O1\\r\\n",
            "HD O1",
            "NS O2",
        ),
        (
            Kind::Delete,
            Dialect::Meta,
            "md k1 O1\\r\\n",
            "HD O1",
            "NF O2",
        ),
        (
            Kind::Touch,
            Dialect::Meta,
            "mg k1 T0 O1\\r\\n",
            "HD O1",
            "EN",
        ),
        (
            Kind::Incr,
            Dialect::Meta,
            "ma k1# v O1\\r\\n",
            "VA 1 O1\r\n7",
            "NF O2",
        ),
    ];
    for (kind, dialect, asked, yes, no) in cases {
        let (mut requests, terms) = only(kind, 1, dialect);
        let count = if no.is_empty() { 1 } else { 2 };
        let (_, out) = offered(count, 1, &mut requests, &terms);
        assert!(text(&out).starts_with(asked), "{}", text(&out));
        let replies = if no.is_empty() {
            format!("{yes}\r\n")
        } else {
            format!("{yes}\r\n{no}\r\n")
        };
        for piece_bytes in 1..=replies.len() {
            let mut tally = tally();
            let (mut requests, terms) = only(kind, 1, dialect);
            let (mut pipeline, _) = offered(count, 1, &mut requests, &terms);
            for piece in replies.as_bytes().chunks(piece_bytes) {
                pipeline.receive(piece, 20, &terms, &mut tally).unwrap();
            }
            assert!(
                tally.faults.none(),
                "{kind:?} {dialect:?} {:?}",
                tally.faults
            );
            let seen = tally.of(kind);
            assert_eq!(
                (seen.count, seen.hits),
                (count as u64, 1),
                "{kind:?} {dialect:?}"
            );
            assert_eq!(seen.misses, count as u64 - 1, "{kind:?} {dialect:?}");
            assert_eq!(pipeline.outstanding_count(), 0);
        }
    }
}

#[test]
fn a_cas_follows_its_read_with_the_unique_it_saw() {
    for dialect in [Dialect::Classic, Dialect::Meta] {
        let (mut requests, terms) = only(Kind::Cas, 1, dialect);
        let (mut pipeline, out) = offered(2, 1, &mut requests, &terms);
        let (asked, head, end, miss, write, stored) = match dialect {
            Dialect::Classic => (
                "gets k1\\r\\ngets k2\\r\\n",
                "VALUE k1 0 20 77\r\n",
                "END\r\n",
                "END\r\n",
                "cas k1 0 0 20 77\\r\\n",
                "STORED\r\n",
            ),
            Dialect::Meta => (
                "mg k1 k v c O1\\r\\nmg k2 k v c O2\\r\\n",
                "VA 20 kk1 c77 O1\r\n",
                "",
                "EN\r\n",
                "ms k1 20 C77 O3\\r\\n",
                "HD O3\r\n",
            ),
        };
        assert_eq!(text(&out), asked);
        let mut tally = tally();
        let replies = [
            head.as_bytes(),
            &block(1, &terms),
            end.as_bytes(),
            miss.as_bytes(),
        ];
        pipeline
            .receive(&replies.concat(), 20, &terms, &mut tally)
            .unwrap();
        assert!(pipeline.has_follow_up());
        let mut out = Vec::new();
        // Due when its read was answered; the miss leads to nothing.
        assert_eq!(pipeline.offer_follow_up(&terms, 30, &mut out), Some(20));
        assert_eq!(pipeline.offer_follow_up(&terms, 30, &mut out), None);
        assert!(text(&out).starts_with(write), "{}", text(&out));
        pipeline
            .receive(stored.as_bytes(), 50, &terms, &mut tally)
            .unwrap();
        assert!(tally.faults.none(), "{:?}", tally.faults);
        assert_eq!(
            (tally.of(Kind::Get).hits, tally.of(Kind::Get).misses),
            (1, 1)
        );
        assert_eq!(tally.of(Kind::Cas).hits, 1);
        assert_eq!(tally.of_mut(Kind::Cas).latency.sum_ns(), 30);
    }
}

#[test]
fn a_miss_leads_to_a_write_and_a_missing_counter_to_an_add() {
    let mut with = workload(Mix::Ratio {
        sets: 0,
        gets: 1,
        keys_per_get: 1,
    });
    with.set_on_miss = true;
    let (mut requests, terms) = made_of(&with, Dialect::Classic);
    let mut pipeline = Pipeline::new(0, 1, 1, true);
    let mut out = Vec::new();
    let ask = requests.next_ask();
    pipeline.offer(&ask, &mut requests, &terms, 10, 10, &mut out);
    let mut tally = tally();
    pipeline
        .receive(b"END\r\n", 20, &terms, &mut tally)
        .unwrap();
    // Its place is kept.
    assert!(!pipeline.has_room());
    out.clear();
    pipeline.offer_follow_up(&terms, 20, &mut out).unwrap();
    assert!(
        text(&out).starts_with("set k1 0 0 20\\r\\n"),
        "{}",
        text(&out)
    );

    let (mut requests, terms) = only(Kind::Incr, 1, Dialect::Classic);
    let (mut pipeline, _) = offered(1, 1, &mut requests, &terms);
    pipeline
        .receive(b"NOT_FOUND\r\n", 20, &terms, &mut tally)
        .unwrap();
    out.clear();
    pipeline.offer_follow_up(&terms, 20, &mut out).unwrap();
    assert_eq!(text(&out), "add k1# 0 0 1\\r\\n0\\r\\n");
}

#[test]
fn meta_retrievals_of_many_keys_are_answered_one_by_one() {
    let (mut requests, terms) = only(Kind::Get, 3, Dialect::Meta);
    let (mut pipeline, out) = offered(1, 3, &mut requests, &terms);
    assert_eq!(
        text(&out),
        "mg k1 k v O1\\r\\nmg k2 k v O2\\r\\nmg k3 k v O3\\r\\n"
    );
    let mut tally = tally();
    let replies = [
        b"VA 20 kk1 O1\r\n",
        &block(1, &terms)[..],
        b"EN\r\nVA 20 kk3 O3\r\n",
        &block(3, &terms),
    ];
    pipeline
        .receive(&replies.concat(), 20, &terms, &mut tally)
        .unwrap();
    assert!(tally.faults.none(), "{:?}", tally.faults);
    let seen = tally.of(Kind::Get);
    assert_eq!((seen.count, seen.hits, seen.misses), (1, 2, 1));
    assert_eq!(pipeline.outstanding_count(), 0);
}

#[test]
fn a_foreign_opaque_is_misplaced_though_the_key_is_right() {
    let (mut requests, terms) = only(Kind::Get, 1, Dialect::Meta);
    let (mut pipeline, _) = offered(1, 1, &mut requests, &terms);
    let mut tally = tally();
    let reply = [b"VA 20 kk1 O2\r\n", &block(1, &terms)[..]].concat();
    pipeline.receive(&reply, 20, &terms, &mut tally).unwrap();
    assert_eq!(tally.faults.misplaced, 1);
    assert_eq!(
        tally.faults.first,
        ["request 1 was answered with the opaque of 2"]
    );
}

#[test]
fn sizes_by_key_are_checked_by_key() {
    let mut sized = workload(Mix::Ratio {
        sets: 0,
        gets: 1,
        keys_per_get: 1,
    });
    sized.sizes = Amount::Growing(crate::workload::Spread::Range(11, 19), 1, 9);
    let (mut requests, terms) = made_of(&sized, Dialect::Classic);
    let (mut pipeline, _) = offered(2, 1, &mut requests, &terms);
    let mut replies = b"VALUE k1 0 11\r\n".to_vec();
    terms.tape.render(1, 11, 5, &mut replies);
    replies.extend_from_slice(b"\r\nEND\r\nVALUE k2 0 11\r\n");
    terms.tape.render(2, 11, 5, &mut replies);
    replies.extend_from_slice(b"\r\nEND\r\n");
    let mut tally = tally();
    pipeline.receive(&replies, 20, &terms, &mut tally).unwrap();
    assert_eq!(tally.faults.wrong_values, 1);
    assert_eq!(tally.faults.first, ["a value has 11 bytes instead of 12"]);
}
