//! Commands that change an item: the numbers of their lines, and the block behind.

use strata_protocol::{
    ArithVerb, ClientError, Request, Step, Store, StoreVerb, VALUE_MAX_BYTES, block_ends_well,
};

use crate::{SILENT, invalid, only, request, set};

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
