//! The client's side against the server's: what is rendered parses back.

use proptest::collection::vec;
use proptest::prelude::*;
use strata_protocol::client::{self, Reply, ValueHead};
use strata_protocol::{
    ArithVerb, ClientError, GetKey, GetKind, Parser, Request, ServerError, StatsSubject, Step,
    Store, StoreVerb, reply,
};

fn rendered(write: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut |bytes: &[u8]| out.extend_from_slice(bytes));
    out
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(
        any::<u8>().prop_filter("a key byte", |byte| !matches!(byte, b' ' | b'\n' | b'\r')),
        1..=250,
    )
}

fn verb() -> impl Strategy<Value = StoreVerb> {
    prop::sample::select(vec![
        StoreVerb::Set,
        StoreVerb::Add,
        StoreVerb::Replace,
        StoreVerb::Append,
        StoreVerb::Prepend,
        StoreVerb::Cas,
    ])
}

fn kind() -> impl Strategy<Value = GetKind> {
    prop::sample::select(vec![
        GetKind::Get,
        GetKind::Gets,
        GetKind::Gat,
        GetKind::Gats,
    ])
}

fn assert_parses(bytes: &[u8], expected: Request<'_>) {
    assert_eq!(
        Parser::new().next(bytes),
        (bytes.len(), Step::Request(expected)),
        "{:?}",
        String::from_utf8_lossy(bytes)
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rendered_requests_parse_back(
        key in key(), verb in verb(), flags: u32, exptime: i32, value_bytes in 0..=strata_protocol::VALUE_MAX_BYTES, cas: u64, noreply: bool, delta: u64, level: u32,
    ) {
        let (key, exptime) = (&key[..], i64::from(exptime));
        let cas = if verb == StoreVerb::Cas { cas } else { 0 };
        let store = Store { verb, key, flags, exptime, value_bytes, cas, noreply };
        assert_parses(&rendered(|mut out| client::store_line(&mut out, &store)), Request::Store(store));
        assert_parses(&rendered(|mut out| client::delete(&mut out, key, noreply)), Request::Delete { key, noreply });
        for verb in [ArithVerb::Incr, ArithVerb::Decr] {
            assert_parses(&rendered(|mut out| client::arith(&mut out, verb, key, delta, noreply)), Request::Arith { verb, key, delta, noreply });
        }
        assert_parses(&rendered(|mut out| client::touch(&mut out, key, exptime, noreply)), Request::Touch { key, exptime, noreply });
        assert_parses(&rendered(|mut out| client::flush_all(&mut out, exptime, noreply)), Request::FlushAll { exptime: Some(exptime), noreply });
        assert_parses(&rendered(|mut out| client::verbosity(&mut out, level, noreply)), Request::Verbosity { level, noreply });
        let megabytes = level.clamp(8, 1_000_000_000);
        assert_parses(&rendered(|mut out| client::cache_memlimit(&mut out, megabytes, noreply)), Request::MemoryLimit { megabytes, noreply });
    }

    #[test]
    fn rendered_keys_parse_back(keys in vec(key(), 1..60), kind in kind(), exptime: i32) {
        let exptime = if kind.touches() { i64::from(exptime) } else { 0 };
        let line = rendered(|mut out| client::retrieve(&mut out, kind, exptime, &keys));
        let mut parser = Parser::new();
        let mut at = 0;
        for (index, key) in keys.iter().enumerate() {
            let (consumed, step) = parser.next(&line[at..]);
            let expected = GetKey { kind, exptime, key, first: index == 0, last: index + 1 == keys.len() };
            prop_assert_eq!(step, Step::Request(Request::Get(expected)));
            at += consumed;
        }
        prop_assert_eq!(at, line.len());
    }

    #[test]
    fn rendered_values_parse_back(key in key(), flags: u32, value_bytes in 0..=strata_protocol::VALUE_MAX_BYTES, cas: Option<u64>) {
        let line = rendered(|mut out| reply::value_head(&mut out, &key, flags, value_bytes as usize, cas));
        let expected = Reply::Value(ValueHead { key: &key, flags, value_bytes, cas });
        prop_assert_eq!(client::reply(&line), Some((line.len(), expected)));
        for end in 0..line.len() {
            prop_assert_eq!(client::reply(&line[..end]), None);
        }
    }

    #[test]
    fn any_bytes_are_a_reply_of_their_length_or_incomplete(bytes in vec(any::<u8>(), 0..3000)) {
        if let Some((consumed, _)) = client::reply(&bytes) {
            prop_assert!(consumed > 0 && consumed <= bytes.len());
        }
    }
}

#[test]
fn every_fixed_reply_parses_back() {
    let replies = [
        (reply::STORED, Reply::Stored),
        (reply::NOT_STORED, Reply::NotStored),
        (reply::EXISTS, Reply::Exists),
        (reply::NOT_FOUND, Reply::NotFound),
        (reply::DELETED, Reply::Deleted),
        (reply::TOUCHED, Reply::Touched),
        (reply::OK, Reply::Ok),
        (reply::END, Reply::End),
        (reply::RESET, Reply::Reset),
        (reply::MN, Reply::Nop),
        (reply::ERROR, Reply::Error),
        (
            ClientError::BadDataChunk.wire(),
            Reply::ClientError(b"bad data chunk"),
        ),
        (
            ServerError::TooLarge.wire(),
            Reply::ServerError(b"object too large for cache"),
        ),
        (
            ServerError::ShutdownDisabled.wire(),
            Reply::ServerError(b"shutdown not enabled"),
        ),
        (b"18446744073709551615\r\n", Reply::Number(u64::MAX)),
        (b"VERSION 1.6.45\r\n", Reply::Version(b"1.6.45")),
        (
            b"STAT evictions on\r\n",
            Reply::Stat {
                name: b"evictions",
                value: b"on",
            },
        ),
    ];
    for (bytes, expected) in replies {
        assert_eq!(client::reply(bytes), Some((bytes.len(), expected)));
    }
}

#[test]
fn lines_that_are_no_reply_are_malformed() {
    let lines = [
        "STORED x",
        "VALUE k 0",
        "VALUE  0 0",
        "VALUE k x 0",
        "VALUE k 0 0 ",
        "VALUE k 0 0 1 1",
        "VALUE k 4294967296 0",
        "-1",
        "18446744073709551616",
        "stored",
        "STAT x",
        "",
    ];
    for line in lines {
        let bytes = format!("{line}\r\n");
        assert_eq!(
            client::reply(bytes.as_bytes()),
            Some((bytes.len(), Reply::Malformed(line.as_bytes())))
        );
    }
    let endless = vec![b'x'; client::REPLY_LINE_MAX_BYTES + 10];
    let beginning = &endless[..client::REPLY_LINE_MAX_BYTES + 1];
    assert_eq!(
        client::reply(&endless),
        Some((beginning.len(), Reply::Malformed(beginning)))
    );
}

#[test]
fn whole_commands_render_as_a_person_would_type_them() {
    assert_eq!(
        rendered(|mut out| client::set(&mut out, b"k", 1, -2, b"abc", true)),
        b"set k 1 -2 3 noreply\r\nabc\r\n"
    );
    assert_eq!(
        rendered(|mut out| client::get(&mut out, ["a"])),
        b"get a\r\n"
    );
    assert_eq!(
        rendered(|mut out| client::gets(&mut out, ["a", "b"])),
        b"gets a b\r\n"
    );
    assert_eq!(
        rendered(|mut out| client::stats(&mut out, "")),
        b"stats\r\n"
    );
    assert_eq!(
        rendered(|mut out| client::stats(&mut out, "items")),
        b"stats items\r\n"
    );
    assert_parses(b"stats items\r\n", Request::Stats(StatsSubject::Items));
    assert_parses(client::VERSION, Request::Version);
    assert_parses(client::NOP, Request::Nop);
    assert_parses(client::QUIT, Request::Quit);
}
