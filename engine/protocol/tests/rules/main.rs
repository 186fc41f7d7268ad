//! The rules of the protocol, one claim each. What is expected is what memcached 1.6.45 does with the same bytes.

mod retrieval;
mod storage;
mod whole;

use strata_protocol::{
    ArithVerb, ClientError, GetKey, GetKind, INPUT_MIN_BYTES, KEY_MAX_BYTES, LINE_MAX_BYTES,
    Parser, Request, Step, Store, StoreVerb,
};

/// The one step a whole input is.
#[track_caller]
fn only(input: &[u8]) -> Step<'_> {
    let (consumed, step) = Parser::new().next(input);
    assert_eq!(
        consumed,
        input.len(),
        "{:?} leaves bytes behind",
        String::from_utf8_lossy(input)
    );
    step
}

#[track_caller]
fn request(input: &[u8]) -> Request<'_> {
    match only(input) {
        Step::Request(request) => request,
        other => panic!("{:?} is {other:?}", String::from_utf8_lossy(input)),
    }
}

fn invalid(error: ClientError) -> Step<'static> {
    Step::Invalid {
        error: Some(error),
        skip: 0,
    }
}

const SILENT: Step<'static> = Step::Invalid {
    error: None,
    skip: 0,
};

/// The keys of a line and how the line ends: all steps of an input.
fn steps(mut input: &[u8]) -> Vec<Step<'_>> {
    let mut parser = Parser::new();
    let mut steps = Vec::new();
    while !input.is_empty() {
        let (consumed, step) = parser.next(input);
        input = &input[consumed..];
        steps.push(step);
        if matches!(step, Step::Incomplete | Step::Lost) {
            break;
        }
    }
    steps
}

fn get(kind: GetKind, exptime: i64, key: &[u8], first: bool, last: bool) -> Step<'_> {
    Step::Request(Request::Get(GetKey {
        kind,
        exptime,
        key,
        first,
        last,
    }))
}

fn set(key: &[u8], flags: u32, exptime: i64, value_bytes: u32, noreply: bool) -> Request<'_> {
    Request::Store(Store {
        verb: StoreVerb::Set,
        key,
        flags,
        exptime,
        value_bytes,
        cas: 0,
        noreply,
    })
}

fn key_of(bytes: usize) -> String {
    "k".repeat(bytes)
}

#[test]
fn a_line_ends_with_or_without_carriage_return() {
    assert_eq!(request(b"version\n"), Request::Version);
    assert_eq!(request(b"version\r\n"), Request::Version);
    assert_eq!(request(b"set k 1 2 3\n"), set(b"k", 1, 2, 3, false));
    assert_eq!(only(b"get k\n"), get(GetKind::Get, 0, b"k", true, true));
    assert_eq!(
        only(b"get k\r\r\n"),
        get(GetKind::Get, 0, b"k\r", true, true)
    );
}

#[test]
fn commands_are_lower_case() {
    assert_eq!(only(b"GET k\r\n"), invalid(ClientError::UnknownCommand));
    assert_eq!(
        only(b"Set k 0 0 1\r\n"),
        invalid(ClientError::UnknownCommand)
    );
}

#[test]
fn a_line_under_four_bytes_is_malformed() {
    for line in ["\n", "\r\n", "a\n", "a\r\n", " \n", "mn\n"] {
        assert_eq!(
            only(line.as_bytes()),
            invalid(ClientError::BadFormat),
            "{line:?}"
        );
    }
    assert_eq!(request(b"mn\r\n"), Request::Nop);
    assert_eq!(only(b"abc\n"), invalid(ClientError::UnknownCommand));
}

#[test]
fn an_unknown_command_is_an_error_unless_its_last_word_is_noreply() {
    for line in [
        "bogus\r\n",
        "    \r\n",
        "\tget a\r\n",
        "get\ta\r\n",
        " get a\r\n",
        "getx a\r\n",
        "bogus noreply x\r\n",
    ] {
        assert_eq!(
            only(line.as_bytes()),
            invalid(ClientError::UnknownCommand),
            "{line:?}"
        );
    }
    for line in [
        "bogus noreply\r\n",
        "noreply\r\n",
        " get a noreply\r\n",
        "bogus noreply \r\n",
    ] {
        assert_eq!(only(line.as_bytes()), SILENT, "{line:?}");
    }
}

#[test]
fn too_few_words_are_malformed_whatever_the_last_one_is() {
    let lines = [
        "get\r\n",
        "get \r\n",
        "gets\r\n",
        "gat\r\n",
        "gat 10\r\n",
        "gat x\r\n",
        "gats 10 \r\n",
        "set a\r\n",
        "set a 0 0\r\n",
        "set a 0 noreply\r\n",
        "cas\r\n",
        "append a 1 2\r\n",
        "delete\r\n",
        "incr a\r\n",
        "decr noreply\r\n",
        "touch a\r\n",
        "touch noreply\r\n",
        "delete \r\n",
    ];
    for line in lines {
        assert_eq!(
            only(line.as_bytes()),
            invalid(ClientError::BadFormat),
            "{line:?}"
        );
    }
}

#[test]
fn further_words_are_ignored() {
    assert_eq!(request(b"set a 0 0 2 bogus\r\n"), set(b"a", 0, 0, 2, false));
    assert_eq!(
        request(b"delete a 5\r\n"),
        Request::Delete {
            key: b"a",
            noreply: false
        }
    );
    assert_eq!(request(b"version noreply\r\n"), Request::Version);
    assert_eq!(request(b"quit now\r\n"), Request::Quit);
    assert_eq!(request(b"mn x y\r\n"), Request::Nop);
    assert_eq!(
        request(b"incr a 1 x\r\n"),
        Request::Arith {
            verb: ArithVerb::Incr,
            key: b"a",
            delta: 1,
            noreply: false
        }
    );
}

#[test]
fn noreply_counts_only_as_the_last_word() {
    assert_eq!(
        request(b"set a 0 0 2 noreply\r\n"),
        set(b"a", 0, 0, 2, true)
    );
    assert_eq!(
        request(b"set a 0 0 2 q  noreply \n"),
        set(b"a", 0, 0, 2, true)
    );
    assert_eq!(
        request(b"set a 0 0 2 noreply q\r\n"),
        set(b"a", 0, 0, 2, false)
    );
    assert_eq!(
        request(b"set noreply 0 0 2\r\n"),
        set(b"noreply", 0, 0, 2, false)
    );
    assert_eq!(
        request(b"delete noreply\r\n"),
        Request::Delete {
            key: b"noreply",
            noreply: true
        }
    );
    assert_eq!(
        only(b"get noreply\r\n"),
        get(GetKind::Get, 0, b"noreply", true, true)
    );
}

#[test]
fn words_beyond_the_limit_do_not_exist() {
    // The command and its four arguments are five words; a `noreply` as the 23rd counts.
    let line =
        |more: usize, end: &str| format!("set a 0 0 2{} {end}\r\n", " q".repeat(more)).into_bytes();
    assert_eq!(request(&line(17, "noreply")), set(b"a", 0, 0, 2, true));
    assert_eq!(request(&line(17, "noreply z")), set(b"a", 0, 0, 2, true));
    assert_eq!(request(&line(18, "noreply")), set(b"a", 0, 0, 2, false));
}

#[test]
fn a_request_of_http_loses_the_connection() {
    assert_eq!(only(b"GET / HTTP/1.1\r\n"), Step::Lost);
    assert_eq!(only(b"POST /x y HTTP/\n"), Step::Lost);
    assert_eq!(only(b"HTTP/1.1\r\n"), invalid(ClientError::UnknownCommand));
    assert_eq!(
        only(b"GET / http/1.1\r\n"),
        invalid(ClientError::UnknownCommand)
    );
    assert_eq!(
        request(b"set a 0 0 2 HTTP/1.1\r\n"),
        set(b"a", 0, 0, 2, false)
    );
}

#[test]
fn a_line_beyond_the_limit_loses_the_connection() {
    let mut line = vec![b'x'; LINE_MAX_BYTES];
    assert_eq!(Parser::new().next(&line), (0, Step::Incomplete));
    line.push(b'\n');
    assert_eq!(only(&line), invalid(ClientError::UnknownCommand));
    line.insert(0, b'x');
    assert_eq!(steps(&line), [Step::Lost]);
    assert_eq!(steps(&line[..LINE_MAX_BYTES + 1]), [Step::Lost]);
    let padded_set = format!("set a 0 0 1{}\r\n", " ".repeat(LINE_MAX_BYTES));
    assert_eq!(steps(padded_set.as_bytes()), [Step::Lost]);
}

#[test]
fn keys_have_at_most_250_bytes() {
    let (good, bad) = (key_of(KEY_MAX_BYTES), key_of(KEY_MAX_BYTES + 1));
    for (line, skip) in [
        ("set KEY 0 0 3", 5),
        ("cas KEY 0 0 3 1", 5),
        ("delete KEY", 0),
        ("incr KEY x", 0),
        ("decr KEY 1", 0),
        ("touch KEY x", 0),
    ] {
        let loud = format!("{}\r\n", line.replace("KEY", &bad));
        assert_eq!(
            only(loud.as_bytes()),
            Step::Invalid {
                error: Some(ClientError::BadFormat),
                skip
            },
            "{line}"
        );
        let silent = format!("{} noreply\r\n", line.replace("KEY", &bad));
        assert_eq!(
            only(silent.as_bytes()),
            Step::Invalid { error: None, skip },
            "{line}"
        );
        let fine = format!("{}\r\n", line.replace("KEY", &good).replace('x', "1"));
        assert!(matches!(only(fine.as_bytes()), Step::Request(_)), "{line}");
    }
}

#[test]
fn pipelined_commands_are_separate_steps() {
    let expected = [
        Step::Request(Request::Version),
        get(GetKind::Get, 0, b"a", true, true),
        Step::Request(Request::Quit),
        Step::Incomplete,
    ];
    assert_eq!(steps(b"version\r\nget a\r\nquit\r\nget"), expected);
}

#[test]
fn an_incomplete_line_consumes_nothing() {
    for input in [
        "",
        "g",
        "get",
        "get ",
        "get key",
        "get key\r",
        "get a b c",
        "set k 0 0 5",
        "set k 0 0 5\r",
        "version",
    ] {
        assert_eq!(
            Parser::new().next(input.as_bytes()),
            (0, Step::Incomplete),
            "{input:?}"
        );
    }
}

#[test]
fn the_smallest_input_buffer_never_stalls() {
    // The worst that can be undecided: a key with spaces up to the limit and half a line end.
    let stream = format!(
        "get {} k{}\r\r\n",
        "k ".repeat(1500),
        " ".repeat(LINE_MAX_BYTES - 1)
    );
    let mut parser = Parser::new();
    let (mut start, mut held_most, mut keys) = (0, 0, 0);
    for end in 1..=stream.len() {
        loop {
            let (consumed, step) = parser.next(&stream.as_bytes()[start..end]);
            start += consumed;
            if step == Step::Incomplete {
                break;
            }
            assert!(matches!(step, Step::Request(_)), "{step:?}");
            keys += 1;
            if start == end {
                break;
            }
        }
        held_most = held_most.max(end - start);
    }
    assert_eq!((start, keys), (stream.len(), 1502));
    assert_eq!(held_most, INPUT_MIN_BYTES - 1);
}
