//! The rules of the protocol, one claim each. What is expected is what memcached 1.6.45 does with the same bytes.

use strata_protocol::{
    ArithVerb, ClientError, DetailSwitch, GetKey, GetKind, INPUT_MIN_BYTES, KEY_MAX_BYTES,
    LINE_MAX_BYTES, Parser, Request, ShutdownMode, StatsSubject, Step, Store, StoreVerb,
    VALUE_MAX_BYTES, block_ends_well,
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
fn a_retrieval_line_has_no_limit() {
    for (command, kind, exptime) in [
        ("get", GetKind::Get, 0),
        ("gets", GetKind::Gets, 0),
        ("gat 10", GetKind::Gat, 10),
        ("gats -1", GetKind::Gats, -1),
    ] {
        let count = 5000;
        let line = format!("{command}{}\r\nversion\r\n", " key".repeat(count));
        let steps = steps(line.as_bytes());
        assert_eq!(steps.len(), count + 1);
        assert_eq!(steps[0], get(kind, exptime, b"key", true, false));
        assert!(
            steps[1..count - 1]
                .iter()
                .all(|step| *step == get(kind, exptime, b"key", false, false))
        );
        assert_eq!(
            steps[count - 1..],
            [
                get(kind, exptime, b"key", false, true),
                Step::Request(Request::Version)
            ]
        );
    }
}

#[test]
fn a_long_retrieval_line_behind_a_few_spaces_is_an_unknown_command() {
    let line = |spaces: usize| {
        format!("{}get{}\r\nmn\r\n", " ".repeat(spaces), " key".repeat(1000)).into_bytes()
    };
    assert_eq!(
        steps(&line(100)),
        [
            invalid(ClientError::UnknownCommand),
            Step::Request(Request::Nop)
        ]
    );
    assert_eq!(steps(&line(101)), [Step::Lost]);
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
fn a_long_key_on_a_retrieval_line_replaces_all_its_replies() {
    let bad = key_of(KEY_MAX_BYTES + 1);
    for line in [
        "get KEY\r\n",
        "get a KEY\n",
        "gets KEY b\r\n",
        "gat 0 a b  KEY\r\n",
        "get a KEY noreply\r\n",
    ] {
        let line = line.replace("KEY", &bad);
        assert_eq!(
            only(line.as_bytes()),
            invalid(ClientError::GetKeyTooLong),
            "{line}"
        );
    }
    assert_eq!(
        only(format!("gat x {bad}\r\n").as_bytes()),
        invalid(ClientError::BadExptime)
    );
    let good = key_of(KEY_MAX_BYTES);
    assert_eq!(
        only(format!("get {good}\r\n").as_bytes()),
        get(GetKind::Get, 0, good.as_bytes(), true, true)
    );
    let line = format!("get {good} {good}\r\n");
    assert_eq!(
        steps(line.as_bytes()),
        [
            get(GetKind::Get, 0, good.as_bytes(), true, false),
            get(GetKind::Get, 0, good.as_bytes(), false, true)
        ]
    );
}

#[test]
fn a_long_key_beyond_the_line_limit_is_found_after_earlier_keys() {
    let line = format!(
        "get{} {} c\r\nmn\r\n",
        " key".repeat(600),
        key_of(KEY_MAX_BYTES + 1)
    );
    let steps = steps(line.as_bytes());
    assert_eq!(
        steps[..600]
            .iter()
            .filter(|step| matches!(step, Step::Request(Request::Get(key)) if !key.last))
            .count(),
        600
    );
    assert_eq!(
        steps[600..],
        [
            invalid(ClientError::GetKeyTooLong),
            Step::Request(Request::Nop)
        ]
    );
}

#[test]
fn a_key_with_too_many_spaces_behind_it_loses_the_connection() {
    let line = |spaces: usize| format!("get k{}\r\n", " ".repeat(spaces)).into_bytes();
    assert_eq!(
        only(&line(LINE_MAX_BYTES - 1)),
        get(GetKind::Get, 0, b"k", true, true)
    );
    assert_eq!(steps(&line(LINE_MAX_BYTES)), [Step::Lost]);
}

#[test]
fn any_number_of_spaces_may_stand_before_the_first_key() {
    let line = |key: &str| format!("get {}{key}\r\n", " ".repeat(10_000)).into_bytes();
    assert_eq!(only(&line("k")), get(GetKind::Get, 0, b"k", true, true));
    assert_eq!(only(&line("")), invalid(ClientError::BadFormat));
}

#[test]
fn keys_are_handed_out_in_order_with_repeats() {
    let expected = [
        get(GetKind::Gets, 0, b"b", true, false),
        get(GetKind::Gets, 0, b"a", false, false),
        get(GetKind::Gets, 0, b"b", false, true),
    ];
    assert_eq!(steps(b"gets b  a b \r\n"), expected);
}

#[test]
fn gat_wants_a_32_bit_exptime() {
    assert_eq!(
        only(b"gat 10 k\r\n"),
        get(GetKind::Gat, 10, b"k", true, true)
    );
    assert_eq!(
        only(b"gat -2147483648 k\r\n"),
        get(GetKind::Gat, i64::from(i32::MIN), b"k", true, true)
    );
    assert_eq!(only(b"gat - k\r\n"), get(GetKind::Gat, 0, b"k", true, true));
    for exptime in ["x", "2147483648", "+1", "000000000001"] {
        assert_eq!(
            only(format!("gat {exptime} k\r\n").as_bytes()),
            invalid(ClientError::BadExptime),
            "{exptime}"
        );
        assert_eq!(
            only(format!("gats {exptime} k noreply\r\n").as_bytes()),
            invalid(ClientError::BadExptime),
            "{exptime}"
        );
    }
    let long = format!("gat x{}\r\nmn\r\n", " key".repeat(1000));
    assert_eq!(
        steps(long.as_bytes()),
        [
            invalid(ClientError::BadExptime),
            Step::Request(Request::Nop)
        ]
    );
}

#[test]
fn storage_lines_have_six_verbs() {
    for (word, verb) in [
        ("set", StoreVerb::Set),
        ("add", StoreVerb::Add),
        ("replace", StoreVerb::Replace),
        ("append", StoreVerb::Append),
        ("prepend", StoreVerb::Prepend),
    ] {
        let line = format!("{word} key 7 -3 12 noreply\r\n");
        let expected = Store {
            verb,
            key: b"key",
            flags: 7,
            exptime: -3,
            value_bytes: 12,
            cas: 0,
            noreply: true,
        };
        assert_eq!(request(line.as_bytes()), Request::Store(expected));
    }
    let expected = Store {
        verb: StoreVerb::Cas,
        key: b"key",
        flags: 7,
        exptime: 0,
        value_bytes: 1,
        cas: u64::MAX,
        noreply: false,
    };
    assert_eq!(
        request(b"cas key 7 0 1 18446744073709551615\r\n"),
        Request::Store(expected)
    );
    assert_eq!(expected.block_bytes(), 3);
}

#[test]
fn flags_and_exptime_of_a_storage_line_are_truncated() {
    assert_eq!(
        request(b"set k 4294967296 4294967297 1\r\n"),
        set(b"k", 0, 1, 1, false)
    );
    assert_eq!(
        request(b"set k 4294967295 2147483648 1\r\n"),
        set(b"k", u32::MAX, i64::from(i32::MIN), 1, false)
    );
    assert_eq!(
        request(b"set k 0 99999999999 1\r\n"),
        set(b"k", 0, 1_215_752_191, 1, false)
    );
    assert_eq!(request(b"set k +1 -1 1\r\n"), set(b"k", 1, -1, 1, false));
}

#[test]
fn bad_flags_exptime_or_unique_swallow_the_block() {
    for line in [
        "set k -1 0 3",
        "set k x 0 3",
        "set k 1x 0 3",
        "set k 0 x 3",
        "set k 0 9223372036854775808 3",
        "set k 18446744073709551616 0 3",
        "cas k 0 0 3",
        "cas k 0 0 3 x",
    ] {
        assert_eq!(
            only(format!("{line}\r\n").as_bytes()),
            Step::Invalid {
                error: Some(ClientError::BadFormat),
                skip: 5
            },
            "{line}"
        );
        assert_eq!(
            only(format!("{line} noreply\r\n").as_bytes()),
            Step::Invalid {
                error: None,
                skip: 5
            },
            "{line}"
        );
    }
}

#[test]
fn a_bad_length_swallows_nothing_and_is_never_silent() {
    for bytes in [
        "-1",
        "x",
        "1x",
        "2147483646",
        "99999999999",
        "000000000001",
        "+1",
        "noreply",
    ] {
        assert_eq!(
            only(format!("set k 0 0 {bytes}\r\n").as_bytes()),
            invalid(ClientError::BadFormat),
            "{bytes}"
        );
        assert_eq!(
            only(format!("set k 0 0 {bytes} noreply\r\n").as_bytes()),
            invalid(ClientError::BadFormat),
            "{bytes}"
        );
    }
    assert_eq!(
        request(b"set k 0 0 2147483645\r\n"),
        set(b"k", 0, 0, VALUE_MAX_BYTES, false)
    );
    assert_eq!(request(b"set k 0 0 -\r\n"), set(b"k", 0, 0, 0, false));
    assert_eq!(
        request(b"set k 0 0 00000000001\r\n"),
        set(b"k", 0, 0, 1, false)
    );
}

#[test]
fn only_carriage_return_and_line_feed_end_a_block() {
    assert!(block_ends_well(*b"\r\n"));
    for tail in [*b"\n\r", *b"x\n", *b"\r\r", *b"\n\n"] {
        assert!(!block_ends_well(tail));
    }
}

#[test]
fn a_delta_is_an_unsigned_64_bit_number() {
    let expected = Request::Arith {
        verb: ArithVerb::Decr,
        key: b"k",
        delta: u64::MAX,
        noreply: true,
    };
    assert_eq!(
        request(b"decr k 18446744073709551615 noreply\r\n"),
        expected
    );
    for delta in ["x", "-1", "+1", "18446744073709551616", "1x"] {
        assert_eq!(
            only(format!("incr k {delta}\r\n").as_bytes()),
            invalid(ClientError::BadDelta),
            "{delta}"
        );
        assert_eq!(
            only(format!("incr k {delta} noreply\r\n").as_bytes()),
            SILENT,
            "{delta}"
        );
    }
    assert_eq!(only(b"incr k noreply\r\n"), SILENT);
}

#[test]
fn touch_wants_a_32_bit_exptime() {
    assert_eq!(
        request(b"touch k 10 noreply\r\n"),
        Request::Touch {
            key: b"k",
            exptime: 10,
            noreply: true
        }
    );
    assert_eq!(
        request(b"touch k -1\r\n"),
        Request::Touch {
            key: b"k",
            exptime: -1,
            noreply: false
        }
    );
    for exptime in ["x", "2147483648", "1x"] {
        assert_eq!(
            only(format!("touch k {exptime}\r\n").as_bytes()),
            invalid(ClientError::BadExptime),
            "{exptime}"
        );
        assert_eq!(
            only(format!("touch k {exptime} noreply\r\n").as_bytes()),
            SILENT,
            "{exptime}"
        );
    }
    assert_eq!(only(b"touch k noreply\r\n"), SILENT);
}

#[test]
fn flush_all_has_an_optional_exptime() {
    assert_eq!(
        request(b"flush_all\r\n"),
        Request::FlushAll {
            exptime: Some(0),
            noreply: false
        }
    );
    assert_eq!(
        request(b"  flush_all\r\n"),
        Request::FlushAll {
            exptime: Some(0),
            noreply: false
        }
    );
    assert_eq!(
        request(b"flush_all noreply\r\n"),
        Request::FlushAll {
            exptime: Some(0),
            noreply: true
        }
    );
    assert_eq!(
        request(b"flush_all -1\r\n"),
        Request::FlushAll {
            exptime: Some(-1),
            noreply: false
        }
    );
    assert_eq!(
        request(b"flush_all 10 20\r\n"),
        Request::FlushAll {
            exptime: Some(10),
            noreply: false
        }
    );
    assert_eq!(
        request(b"flush_all 10 noreply\r\n"),
        Request::FlushAll {
            exptime: Some(10),
            noreply: true
        }
    );
    for (line, noreply) in [
        (&b"flush_all x\r\n"[..], false),
        (b"flush_all x noreply\r\n", true),
    ] {
        let exptime = None;
        assert_eq!(request(line), Request::FlushAll { exptime, noreply });
    }
}

#[test]
fn flush_prefix_wants_a_prefix() {
    let longest = "p".repeat(250);
    for (words, prefix, noreply) in [
        ("flush_prefix user", "user", false),
        ("  flush_prefix user more words", "user", false),
        ("flush_prefix user noreply", "user", true),
        ("flush_prefix noreply", "noreply", false),
        (&*format!("flush_prefix {longest}"), &*longest, false),
    ] {
        let prefix = prefix.as_bytes();
        let line = format!("{words}\r\n");
        assert_eq!(
            request(line.as_bytes()),
            Request::FlushPrefix { prefix, noreply }
        );
    }
    let bad = |error| Step::Invalid {
        error: Some(error),
        skip: 0,
    };
    assert_eq!(only(b"flush_prefix\r\n"), bad(ClientError::UnknownCommand));
    let line = format!("flush_prefix {longest}p\r\n");
    assert_eq!(only(line.as_bytes()), bad(ClientError::BadFormat));
    let line = format!("flush_prefix {longest}p noreply\r\n");
    assert_eq!(only(line.as_bytes()), SILENT);
}

#[test]
fn cache_memlimit_wants_megabytes() {
    for (line, megabytes, noreply) in [
        (&b"cache_memlimit 8\r\n"[..], 8, false),
        (b"  cache_memlimit 1000000000\r\n", 1_000_000_000, false),
        (b"cache_memlimit 64 more words\r\n", 64, false),
        (b"cache_memlimit 64 noreply\r\n", 64, true),
    ] {
        assert_eq!(request(line), Request::MemoryLimit { megabytes, noreply });
    }
    for (words, error) in [
        ("7", ClientError::MemoryLimitTooSmall),
        ("0", ClientError::MemoryLimitTooSmall),
        ("1000000001", ClientError::MemoryLimitInBytes),
        ("4294967295", ClientError::MemoryLimitInBytes),
        ("4294967296", ClientError::UnknownCommand),
        ("-1", ClientError::UnknownCommand),
        ("64m", ClientError::UnknownCommand),
        ("", ClientError::UnknownCommand),
    ] {
        let line = format!("cache_memlimit {words}\r\n");
        assert_eq!(only(line.as_bytes()), invalid(error), "{words}");
        let line = format!("cache_memlimit {words} noreply\r\n");
        assert_eq!(only(line.as_bytes()), SILENT, "{words}");
    }
}

#[test]
fn verbosity_wants_a_level() {
    assert_eq!(
        request(b"verbosity 1\r\n"),
        Request::Verbosity {
            level: 1,
            noreply: false
        }
    );
    assert_eq!(
        request(b" verbosity 9 noreply\r\n"),
        Request::Verbosity {
            level: 9,
            noreply: true
        }
    );
    assert_eq!(only(b"verbosity\r\n"), invalid(ClientError::BadFormat));
    assert_eq!(only(b"verbosity -1\r\n"), invalid(ClientError::BadFormat));
    assert_eq!(only(b"verbosity noreply\r\n"), SILENT);
}

#[test]
fn shutdown_takes_any_prefix_of_graceful() {
    let shutdown = |mode, noreply| Request::Shutdown { mode, noreply };
    assert_eq!(
        request(b"shutdown\r\n"),
        shutdown(ShutdownMode::Immediate, false)
    );
    assert_eq!(
        request(b" shutdown graceful\r\n"),
        shutdown(ShutdownMode::Graceful, false)
    );
    assert_eq!(
        request(b"shutdown g\r\n"),
        shutdown(ShutdownMode::Graceful, false)
    );
    assert_eq!(
        request(b"shutdown gracefully\r\n"),
        shutdown(ShutdownMode::Unknown, false)
    );
    assert_eq!(
        request(b"shutdown graceful x\r\n"),
        shutdown(ShutdownMode::Unknown, false)
    );
    assert_eq!(
        request(b"shutdown noreply\r\n"),
        shutdown(ShutdownMode::Unknown, true)
    );
}

#[test]
fn stats_takes_prefixes_of_some_subjects() {
    let cases = [
        ("", StatsSubject::General),
        (" reset", StatsSubject::Reset),
        (" r", StatsSubject::Reset),
        (" settings", StatsSubject::Settings),
        (" s", StatsSubject::Settings),
        (" con x", StatsSubject::Conns),
        (" items", StatsSubject::Items),
        (" slabs", StatsSubject::Slabs),
        (" sizes", StatsSubject::Sizes),
        (" workers", StatsSubject::Workers),
        (" worker", StatsSubject::Unknown),
        (" item", StatsSubject::Unknown),
        (" slab", StatsSubject::Unknown),
        (" settingsx", StatsSubject::Unknown),
        (" noreply", StatsSubject::Unknown),
        (" detail on", StatsSubject::Detail(DetailSwitch::On)),
        (" detail of", StatsSubject::Detail(DetailSwitch::Off)),
        (" d d", StatsSubject::Detail(DetailSwitch::Dump)),
        (
            " cachedump 63 0",
            StatsSubject::Cachedump {
                class_id: 63,
                limit: 0,
            },
        ),
    ];
    for (words, subject) in cases {
        assert_eq!(
            request(format!("stats{words}\r\n").as_bytes()),
            Request::Stats(subject),
            "{words:?}"
        );
    }
    assert_eq!(only(b"stats detail\r\n"), invalid(ClientError::DetailUsage));
    assert_eq!(
        only(b"stats detail x\r\n"),
        invalid(ClientError::DetailUsage)
    );
    assert_eq!(only(b"stats c\r\n"), invalid(ClientError::CachedumpUsage));
    assert_eq!(
        only(b"stats cachedump 64 1\r\n"),
        invalid(ClientError::CachedumpClass)
    );
    assert_eq!(
        only(b"stats cachedump x 1\r\n"),
        invalid(ClientError::BadFormat)
    );
    assert_eq!(
        only(b"stats cachedump 64 x noreply\r\n"),
        invalid(ClientError::BadFormat)
    );
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
