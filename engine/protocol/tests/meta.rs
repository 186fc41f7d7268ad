//! The rules of the meta commands' lines, one claim each. What is expected is what memcached 1.6.45 does with the same bytes.

use strata_protocol::meta::{META_WORDS_MAX, OPAQUE_MAX_BYTES, Options};
use strata_protocol::{ClientError, KEY_MAX_BYTES, Meta, MetaVerb, Parser, Request, Step};

#[track_caller]
fn only(input: &[u8]) -> Step<'_> {
    let (consumed, step) = Parser::new().next(input);
    let text = input.escape_ascii();
    assert_eq!(consumed, input.len(), "{text} leaves bytes behind");
    step
}

#[track_caller]
fn meta(input: &[u8]) -> Meta<'_> {
    match only(input) {
        Step::Request(Request::Meta(meta)) => meta,
        other => panic!("{} is {other:?}", input.escape_ascii()),
    }
}

#[track_caller]
fn options(input: &[u8]) -> Options {
    Options::read(meta(input).words)
}

/// The error of a line and how many bytes it swallows.
#[track_caller]
fn refused(input: &[u8]) -> (ClientError, u64) {
    match only(input) {
        Step::Invalid {
            error: Some(error),
            skip,
        } => (error, skip),
        other => panic!("{} is {other:?}", input.escape_ascii()),
    }
}

fn key_of(meta: Meta<'_>) -> Vec<u8> {
    meta.key().bytes(&mut [0; KEY_MAX_BYTES]).to_vec()
}

#[test]
fn each_command_has_a_key_and_flags() {
    for (line, verb) in [
        ("mg  k  v t \r\n", MetaVerb::Get),
        ("md k v t\n", MetaVerb::Delete),
        ("ma k v t\r\n", MetaVerb::Arith),
        ("me k v t\r\n", MetaVerb::Debug),
        ("ms k 7 v t\r\n", MetaVerb::Set),
    ] {
        let meta = meta(line.as_bytes());
        assert_eq!((meta.verb, key_of(meta)), (verb, b"k".to_vec()), "{line:?}");
        let store = verb == MetaVerb::Set;
        assert_eq!(meta.value_bytes, if store { 7 } else { 0 });
        assert_eq!(meta.block_bytes(), if store { 9 } else { 0 });
        let options = Options::read(meta.words);
        assert!(options.has(b'v') && options.has(b't') && !options.has(b'k'));
        assert!(options.has_any(b"kv") && !options.has_any(b"kc"));
    }
}

#[test]
fn flags_carry_numbers() {
    let options =
        options(b"ma k N-5 T30 R2592001 F4294967295 C18446744073709551615 E7 J8 D9 MD Oab\r\n");
    assert_eq!(
        (options.vivify, options.exptime, options.recache),
        (-5, 30, 2_592_001)
    );
    assert_eq!(options.client_flags, u32::MAX);
    assert_eq!((options.compare, options.unique), (u64::MAX, 7));
    assert_eq!((options.initial, options.delta, options.mode), (8, 9, b'D'));
    assert_eq!(options.opaque_bytes, 3);
    assert_eq!(self::options(b"mg k T-\r\n").exptime, 0);
    assert_eq!(self::options(b"ma k\r\n").delta, 1);
}

#[test]
fn a_line_without_key_or_length_is_malformed() {
    for line in [
        "mg\r\n", "mg \r\n", "md\r\n", "ma  \r\n", "me\r\n", "ms\r\n", "ms k\r\n",
    ] {
        assert_eq!(
            refused(line.as_bytes()),
            (ClientError::BadFormat, 0),
            "{line:?}"
        );
    }
}

#[test]
fn an_ms_without_a_right_length_swallows_nothing() {
    for length in ["x", "S2", "-1", "2147483646", "99999999999"] {
        let line = format!("ms k {length} v v\r\n");
        assert_eq!(
            refused(line.as_bytes()),
            (ClientError::BadFormat, 0),
            "{line:?}"
        );
    }
    assert_eq!(meta(b"ms k 2147483645\r\n").value_bytes, 2_147_483_645);
}

#[test]
fn an_ms_with_wrong_flags_swallows_its_data() {
    for (flags, error) in [
        ("v v", ClientError::DuplicateFlag),
        ("Z", ClientError::InvalidFlag),
        ("Tx", ClientError::BadToken),
        ("MX", ClientError::StoreMode),
        ("M", ClientError::StoreMode),
    ] {
        let line = format!("ms k 5 {flags}\r\n");
        assert_eq!(refused(line.as_bytes()), (error, 7), "{line:?}");
    }
    let line = format!("ms {} 5\r\n", "k".repeat(251));
    assert_eq!(refused(line.as_bytes()), (ClientError::BadFormat, 7));
}

#[test]
fn a_word_that_can_be_no_flag_makes_the_line_malformed_before_all_else() {
    for line in [
        "mg k {",
        "mg k Z {",
        "mg k v v {",
        "ms k 2 {",
        "md k \u{e9}",
        "me k -",
        "ma k ,",
    ] {
        let line = format!("{line}\r\n");
        assert_eq!(
            refused(line.as_bytes()),
            (ClientError::BadFormat, 0),
            "{line:?}"
        );
    }
    // Beyond the words that are looked at nothing matters.
    let line = format!("mg k{} {{\r\n", " v".repeat(21));
    assert_eq!(refused(line.as_bytes()).0, ClientError::OptionsTooLong);
    let line = format!("mg k{} {{\r\n", " v".repeat(20));
    assert_eq!(refused(line.as_bytes()).0, ClientError::BadFormat);
}

#[test]
fn letters_and_digits_that_no_command_knows_are_invalid() {
    for word in ["Z", "5", "_", "[", "n", "i", "noreply", "S2", "z"] {
        let line = format!("mg k {word}\r\n");
        assert_eq!(
            refused(line.as_bytes()),
            (ClientError::InvalidFlag, 0),
            "{line:?}"
        );
    }
}

#[test]
fn a_letter_goes_before_a_number_and_the_last_wrong_number_is_told() {
    for (flags, error) in [
        ("Tx", ClientError::BadToken),
        ("T", ClientError::BadToken),
        ("N", ClientError::BadToken),
        ("R4294967296", ClientError::BadToken),
        ("C-1", ClientError::BadToken),
        ("E", ClientError::BadToken),
        ("Jx", ClientError::BadInitial),
        ("Dx", ClientError::BadMetaDelta),
        ("Fx", ClientError::BadFormat),
        ("Fx Tx", ClientError::BadToken),
        ("Tx Fx", ClientError::BadToken),
        ("Tx Jx", ClientError::BadInitial),
        ("Tx v v", ClientError::DuplicateFlag),
        ("Tx v Z", ClientError::InvalidFlag),
    ] {
        let line = format!("mg k {flags}\r\n");
        assert_eq!(refused(line.as_bytes()), (error, 0), "{line:?}");
    }
}

#[test]
fn an_ma_tells_no_wrong_flag_from_another() {
    for flags in ["Dx", "Z", "v v", "Tx", "b"] {
        let line = format!("ma k {flags}\r\n");
        assert_eq!(
            refused(line.as_bytes()),
            (ClientError::ArithFlag, 0),
            "{line:?}"
        );
    }
    for mode in ["Mx", "M", "Mi", "ME"] {
        let line = format!("ma k {mode}\r\n");
        assert_eq!(
            refused(line.as_bytes()),
            (ClientError::ArithMode, 0),
            "{line:?}"
        );
    }
    for mode in ["MI", "M+", "MD", "M-", "MDECR"] {
        options(format!("ma k {mode}\r\n").as_bytes());
    }
}

#[test]
fn every_command_takes_every_letter_once() {
    let flags = "k v h c f t s l O u q I x P L N1";
    for line in [format!("mg k {flags}\r\n"), format!("ms k 0 {flags}\r\n")] {
        meta(line.as_bytes());
    }
    let all = [
        "k", "v", "h", "c", "f", "t", "s", "l", "O", "u", "q", "I", "x", "P1", "L2", "N1", "T2",
        "R3",
    ];
    assert_eq!(all.len() + 2, META_WORDS_MAX);
    meta(format!("mg k {}\r\n", all.join(" ")).as_bytes());
    for line in [
        format!("mg k {} C1\r\n", all.join(" ")),
        format!("md k {} Z\r\n", all.join(" ")),
    ] {
        assert_eq!(
            refused(line.as_bytes()),
            (ClientError::OptionsTooLong, 0),
            "{line:?}"
        );
    }
    let line = format!("ms k 3 {}\r\n", all.join(" "));
    assert_eq!(refused(line.as_bytes()), (ClientError::OptionsTooLong, 5));
}

#[test]
fn an_opaque_has_a_limit() {
    let longest = "x".repeat(OPAQUE_MAX_BYTES - 1);
    for command in ["mg k", "ms k 2", "md k", "ma k"] {
        meta(format!("{command} O{longest}\r\n").as_bytes());
        let (error, _) = refused(format!("{command} O{longest}x\r\n").as_bytes());
        assert_eq!(error, ClientError::OpaqueTooLong);
    }
}

#[test]
fn a_key_may_be_written_in_base64() {
    let found = meta(b"mg Zm8gbw== v b\r\n");
    assert!(found.key().is_base64());
    assert_eq!(key_of(found), b"fo o");
    assert_eq!(key_of(meta(b"mg Zm8gbw== v\r\n")), b"Zm8gbw==");
    for command in ["mg Zm8 b", "ms Zm8 2 b", "md Zm8 b"] {
        let (error, _) = refused(format!("{command}\r\n").as_bytes());
        assert_eq!(error, ClientError::KeyEncoding);
    }
    let longest = format!("mg {} b\r\n", "A".repeat(248));
    assert_eq!(key_of(meta(longest.as_bytes())), [0; 186]);
    assert_eq!(
        refused(format!("mg {} b\r\n", "A".repeat(252)).as_bytes()).0,
        ClientError::BadFormat
    );
}

#[test]
fn me_decodes_its_key_only_before_a_further_word() {
    assert_eq!(key_of(meta(b"me Zm9v b\r\n")), b"Zm9v");
    assert_eq!(key_of(meta(b"me Zm9v b x\r\n")), b"foo");
    assert_eq!(key_of(meta(b"me Zm9v bb x\r\n")), b"Zm9v");
    assert_eq!(refused(b"me Z b x\r\n"), (ClientError::BadFormat, 0));
    // Nothing else about its words matters.
    meta(b"me k v v Z Tx\r\n");
}
