//! The keys of a retrieval line: how many, how long, and what stands between them.

use strata_protocol::{ClientError, GetKind, KEY_MAX_BYTES, LINE_MAX_BYTES, Request, Step};

use crate::{get, invalid, key_of, only, steps};

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
