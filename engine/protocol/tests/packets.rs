//! The rules of the binary protocol, one claim each, and that they hold however the bytes are cut. What is expected is what memcached 1.6.45 does with the
//! same bytes, but where the module's page says otherwise.

#[path = "stream/packets.rs"]
mod stream;

use proptest::collection::vec;
use proptest::prelude::*;
use strata_protocol::binary::{
    Arith, BODY_MAX_BYTES, Command, HEADER_BYTES, Head, Request, Status, Step, read, reply,
};
use strata_protocol::{INPUT_MIN_BYTES, KEY_MAX_BYTES};
use stream::run;

/// What a header says, which need not be true.
#[derive(Clone, Copy, Debug)]
struct Says {
    magic: u8,
    opcode: u8,
    key: u16,
    extras: u8,
    body: u32,
    cas: u64,
}

const OPAQUE: u32 = 0xfeed_0001;

fn header(says: Says) -> Vec<u8> {
    let mut bytes = vec![says.magic, says.opcode];
    bytes.extend(says.key.to_be_bytes());
    bytes.extend([says.extras, 0, 0, 0]);
    bytes.extend(says.body.to_be_bytes());
    bytes.extend(OPAQUE.to_be_bytes());
    bytes.extend(says.cas.to_be_bytes());
    assert_eq!(bytes.len(), HEADER_BYTES);
    bytes
}

fn packet(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    let says = Says {
        magic: 0x80,
        opcode,
        key: key.len() as u16,
        extras: extras.len() as u8,
        body: (extras.len() + key.len() + value.len()) as u32,
        cas: 0,
    };
    [&header(says), extras, key, value].concat()
}

fn head(opcode: u8) -> Head {
    Head {
        opcode,
        opaque: OPAQUE,
    }
}

#[track_caller]
fn request(bytes: &[u8]) -> Request<'_> {
    match read(bytes) {
        (_, Step::Request(request)) => request,
        other => panic!("{} is {other:?}", bytes.escape_ascii()),
    }
}

fn refused(opcode: u8, status: Status, skip: u64, last: bool) -> Step<'static> {
    Step::Refused {
        head: head(opcode),
        status,
        skip,
        last,
    }
}

/// Every opcode there is: what it is called, whether it is quiet, the length of its extras, and whether it has a key.
const OPCODES: [(u8, Command, bool, usize, bool); 32] = [
    (0x00, Command::Get, false, 0, true),
    (0x01, Command::Set, false, 8, true),
    (0x02, Command::Add, false, 8, true),
    (0x03, Command::Replace, false, 8, true),
    (0x04, Command::Delete, false, 0, true),
    (0x05, Command::Increment, false, 20, true),
    (0x06, Command::Decrement, false, 20, true),
    (0x07, Command::Quit, false, 0, false),
    (0x08, Command::Flush, false, 0, false),
    (0x09, Command::Get, true, 0, true),
    (0x0a, Command::Noop, false, 0, false),
    (0x0b, Command::Version, false, 0, false),
    (0x0c, Command::GetKey, false, 0, true),
    (0x0d, Command::GetKey, true, 0, true),
    (0x0e, Command::Append, false, 0, true),
    (0x0f, Command::Prepend, false, 0, true),
    (0x10, Command::Stat, false, 0, false),
    (0x11, Command::Set, true, 8, true),
    (0x12, Command::Add, true, 8, true),
    (0x13, Command::Replace, true, 8, true),
    (0x14, Command::Delete, true, 0, true),
    (0x15, Command::Increment, true, 20, true),
    (0x16, Command::Decrement, true, 20, true),
    (0x17, Command::Quit, true, 0, false),
    (0x18, Command::Flush, true, 4, false),
    (0x19, Command::Append, true, 0, true),
    (0x1a, Command::Prepend, true, 0, true),
    (0x1c, Command::Touch, false, 4, true),
    (0x1d, Command::GetAndTouch, false, 4, true),
    (0x1e, Command::GetAndTouch, true, 4, true),
    (0x23, Command::GetKeyAndTouch, false, 4, true),
    (0x24, Command::GetKeyAndTouch, true, 4, true),
];

#[test]
fn every_opcode_is_its_command() {
    let extras = [1; 20];
    for (opcode, command, quiet, extras_bytes, has_key) in OPCODES {
        let key: &[u8] = if has_key { b"k" } else { b"" };
        let bytes = packet(opcode, &extras[..extras_bytes], key, b"");
        let (consumed, step) = read(&bytes);
        assert_eq!(consumed, bytes.len());
        let Step::Request(request) = step else {
            panic!("{opcode:#x} is {step:?}");
        };
        assert_eq!(request.head, head(opcode));
        assert_eq!(
            (request.command, request.quiet),
            (command, quiet),
            "{opcode:#x}"
        );
        assert_eq!((request.cas, request.value_bytes), (0, 0));
        assert_eq!(request.key(), key);
        assert_eq!(request.extras(), &extras[..extras_bytes]);
        assert_eq!(command.has_key(), has_key, "{opcode:#x}");
    }
    let known = (0..=255).filter(|opcode| Command::of(*opcode).is_some());
    assert_eq!(known.count(), OPCODES.len());
}

#[test]
fn a_value_follows_its_request() {
    for opcode in [0x01, 0x02, 0x03, 0x11, 0x12, 0x13] {
        let bytes = packet(opcode, b"\0\0\0\x07\xff\xff\xff\xfe", b"key", b"value");
        let set = request(&bytes);
        assert_eq!(
            (set.flags(), set.exptime(), set.value_bytes),
            (7, 0xffff_fffe, 5)
        );
        assert_eq!(read(&bytes).0, bytes.len() - 5);
    }
    for opcode in [0x0e, 0x0f, 0x19, 0x1a] {
        let bytes = packet(opcode, b"", b"key", b"value");
        let append = request(&bytes);
        assert_eq!(
            (append.flags(), append.exptime(), append.value_bytes),
            (0, 0, 5)
        );
    }
}

#[test]
fn arithmetic_has_a_delta_and_perhaps_an_initial_number() {
    let extras = |exptime: u32| {
        let mut extras = 0x0102_0304_0506_0708u64.to_be_bytes().to_vec();
        extras.extend(u64::MAX.to_be_bytes());
        extras.extend(exptime.to_be_bytes());
        extras
    };
    let delta = 0x0102_0304_0506_0708;
    let bytes = packet(0x05, &extras(9), b"n", b"");
    assert_eq!(request(&bytes).exptime(), 9);
    let initial = Some(u64::MAX);
    assert_eq!(
        Arith::read(request(&bytes).extras()),
        Arith { delta, initial }
    );
    let bytes = packet(0x16, &extras(u32::MAX), b"n", b"");
    let initial = None;
    assert_eq!(
        Arith::read(request(&bytes).extras()),
        Arith { delta, initial }
    );
}

#[test]
fn an_exptime_has_no_sign() {
    for opcode in [0x1c, 0x1d, 0x1e, 0x23, 0x24] {
        let bytes = packet(opcode, &[0xff; 4], b"k", b"");
        assert_eq!(request(&bytes).exptime(), 0xffff_ffff);
    }
    assert_eq!(
        request(&packet(0x08, &[0, 0, 1, 0], b"", b"")).exptime(),
        256
    );
    assert_eq!(request(&packet(0x08, b"", b"", b"")).exptime(), 0);
}

#[test]
fn the_unique_is_wide() {
    let mut bytes = packet(0x04, b"", b"k", b"");
    bytes[16..24].copy_from_slice(&0x8877_6655_4433_2211u64.to_be_bytes());
    assert_eq!(request(&bytes).cas, 0x8877_6655_4433_2211);
}

#[test]
fn lengths_that_are_not_the_commands_cost_the_connection() {
    for (opcode, command, _, extras_bytes, has_key) in OPCODES {
        let extras = [0; 21];
        let key: &[u8] = if has_key { b"k" } else { b"" };
        let mut wrong = vec![packet(opcode, &extras[..extras_bytes + 1], key, b"")];
        if extras_bytes > 0 && command != Command::Flush {
            wrong.push(packet(opcode, &extras[..extras_bytes - 1], key, b""));
        }
        if has_key {
            wrong.push(packet(opcode, &extras[..extras_bytes], b"", b""));
        } else if command != Command::Stat {
            wrong.push(packet(opcode, &extras[..extras_bytes], b"k", b""));
        }
        let takes_more = command.touches() || command == Command::Stat;
        if command.store_verb().is_none() && !takes_more {
            wrong.push(packet(opcode, &extras[..extras_bytes], key, b"v"));
        }
        for bytes in wrong {
            let step = read(&bytes).1;
            assert_eq!(
                step,
                refused(opcode, Status::Invalid, 0, true),
                "{opcode:#x}"
            );
        }
    }
}

#[test]
fn what_a_touch_or_a_stat_has_too_much_is_the_next_packet() {
    for (opcode, extras) in [
        (0x1c, 4),
        (0x1d, 4),
        (0x1e, 4),
        (0x23, 4),
        (0x24, 4),
        (0x10, 0),
    ] {
        let bytes = packet(opcode, &[0; 4][..extras], b"key", b"more");
        let (consumed, step) = read(&bytes);
        assert!(matches!(
            step,
            Step::Request(Request { value_bytes: 0, .. })
        ));
        assert_eq!(&bytes[consumed..], b"more");
    }
}

#[test]
fn an_unknown_opcode_costs_its_body_and_no_more() {
    for opcode in [0x1b, 0x1f, 0x25, 0x60, 0xff] {
        let bytes = packet(opcode, b"ex", b"key", b"value");
        let (consumed, step) = read(&bytes);
        assert_eq!(&bytes[consumed..], b"value");
        assert_eq!(step, refused(opcode, Status::UnknownCommand, 5, false));
    }
}

#[test]
fn sasl_is_unknown_but_must_be_well_formed() {
    let unknown = |opcode, skip| refused(opcode, Status::UnknownCommand, skip, false);
    let invalid = |opcode| refused(opcode, Status::Invalid, 0, true);
    for (opcode, extras, key, value, step) in [
        (0x20, "", "", "", unknown(0x20, 0)),
        (0x21, "", "PLAIN", "12345", unknown(0x21, 5)),
        (0x22, "", "PLAIN", "", unknown(0x22, 0)),
        (0x20, "", "k", "", invalid(0x20)),
        (0x20, "", "", "v", invalid(0x20)),
        (0x21, "", "", "v", invalid(0x21)),
        (0x22, "x", "k", "", invalid(0x22)),
    ] {
        let bytes = packet(opcode, extras.as_bytes(), key.as_bytes(), value.as_bytes());
        assert_eq!(read(&bytes).1, step);
    }
}

#[test]
fn limits_of_the_header_cost_the_connection() {
    let says = Says {
        magic: 0x80,
        opcode: 0x01,
        key: 1,
        extras: 8,
        body: 9,
        cas: 0,
    };
    let with = |says: Says| {
        let mut bytes = header(says);
        bytes.resize(INPUT_MIN_BYTES, b'x');
        bytes
    };
    let unknown = refused(0x01, Status::UnknownCommand, 0, true);
    let invalid = refused(0x01, Status::Invalid, 0, true);
    for (says, step) in [
        (Says { body: 8, ..says }, unknown),
        (Says { body: 0, ..says }, unknown),
        (
            Says {
                key: u16::MAX,
                ..says
            },
            unknown,
        ),
        (
            Says {
                body: BODY_MAX_BYTES + 1,
                ..says
            },
            invalid,
        ),
        (
            Says {
                body: u32::MAX,
                ..says
            },
            invalid,
        ),
        (
            Says {
                key: 251,
                body: 9999,
                ..says
            },
            invalid,
        ),
        (
            Says {
                key: u16::MAX,
                body: 99_999,
                ..says
            },
            invalid,
        ),
    ] {
        assert_eq!(read(&with(says)).1, step, "{says:?}");
    }
    let largest = with(Says {
        body: BODY_MAX_BYTES,
        ..says
    });
    assert_eq!(request(&largest).value_bytes, BODY_MAX_BYTES - 9);
    let longest = with(Says {
        key: 250,
        body: 258,
        ..says
    });
    assert_eq!(request(&longest).key().len(), KEY_MAX_BYTES);
}

#[test]
fn another_first_byte_is_no_packet() {
    for magic in [0x81, 0x00, b'g'] {
        let mut bytes = packet(0x0a, b"", b"", b"");
        bytes[0] = magic;
        assert_eq!(read(&bytes), (0, Step::Lost));
        assert_eq!(read(&bytes[..23]), (0, Step::Incomplete));
    }
}

#[test]
fn replies_name_their_parts() {
    let mut out = Vec::new();
    let mut sink = |bytes: &[u8]| out.extend_from_slice(bytes);
    reply::miss_of_key(&mut sink, head(0x0c), b"key");
    reply::number(&mut sink, head(0x05), 3, u64::MAX);
    reply::stat(&mut sink, OPAQUE, b"pid", b"17");
    reply::hit(&mut sink, head(0x0c), 2, 1, b"key", 100_000);
    let expected = [
        &b"\x81\x0c\0\x03\0\0\0\x01\0\0\0\x03\xfe\xed\0\x01\0\0\0\0\0\0\0\0key"[..],
        b"\x81\x05\0\0\0\0\0\0\0\0\0\x08\xfe\xed\0\x01\0\0\0\0\0\0\0\x03\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x81\x10\0\x03\0\0\0\0\0\0\0\x05\xfe\xed\0\x01\0\0\0\0\0\0\0\0pid17",
        b"\x81\x0c\0\x03\x04\0\0\0\0\x01\x86\xa7\xfe\xed\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x01key",
    ];
    assert_eq!(out, expected.concat());
}

/// Packets that are mostly right.
fn some_packet() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        20 => prop::sample::select(OPCODES.map(|(opcode, ..)| opcode).to_vec()),
        1 => any::<u8>(),
    ];
    let right = (opcode, 0usize..300, 0usize..3000, any::<bool>()).prop_map(
        |(opcode, key, value, sound)| {
            let (_, command, _, extras, has_key) = OPCODES
                .into_iter()
                .find(|(known, ..)| *known == opcode)
                .unwrap_or((opcode, Command::Get, false, 3, true));
            let key = vec![
                b'k';
                if sound {
                    key.clamp(1, 250) * usize::from(has_key)
                } else {
                    key
                }
            ];
            let value = vec![
                b'v';
                if sound && command.store_verb().is_none() {
                    0
                } else {
                    value
                }
            ];
            packet(opcode, &[1; 20][..extras], &key, &value)
        },
    );
    let wrong = (any::<[u8; 24]>(), vec(any::<u8>(), 0..40)).prop_map(|(mut header, rest)| {
        header[0] = 0x80;
        header[8] &= 0x41;
        [&header[..], &rest].concat()
    });
    prop_oneof![12 => right, 1 => wrong, 1 => vec(any::<u8>(), 0..40)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_give_what_the_whole_gives(packets in vec(some_packet(), 0..20), pieces in vec(1usize..600, 0..60)) {
        let stream = packets.concat();
        prop_assert_eq!(run(&stream, pieces), run(&stream, []));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn single_bytes_give_what_the_whole_gives(packets in vec(some_packet(), 0..6)) {
        let stream = packets.concat();
        prop_assert_eq!(run(&stream, std::iter::repeat_n(1, stream.len())), run(&stream, []));
    }
}
