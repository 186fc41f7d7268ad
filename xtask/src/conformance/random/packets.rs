//! Draws packets of the binary protocol.
//!
//! Always true: a body is as long as its packet says, so that the next packet begins where both servers look for it.

use fastrand::Rng;

use super::dialogue::{Packet, Word};
use super::draw::pick;

/// What an opcode wants before its key.
#[derive(Clone, Copy)]
enum Extras {
    None,
    /// Client flags and exptime.
    Item,
    /// Delta, first number, exptime.
    Count,
    /// Exptime.
    Time,
}

/// Opcodes, quiet twins included, with their extras and whether they bring a key and a value.
const KINDS: [(&[u8], Extras, bool, bool); 9] = [
    // get, getq, getk, getkq
    (&[0x00, 0x09, 0x0c, 0x0d], Extras::None, true, false),
    (&[0x00, 0x0c], Extras::None, true, false),
    // set, add, replace
    (
        &[0x01, 0x01, 0x11, 0x02, 0x12, 0x03, 0x13],
        Extras::Item,
        true,
        true,
    ),
    (&[0x01], Extras::Item, true, true),
    // delete
    (&[0x04, 0x14], Extras::None, true, false),
    // incr, decr
    (&[0x05, 0x15, 0x06, 0x16], Extras::Count, true, false),
    // append, prepend
    (&[0x0e, 0x19, 0x0f, 0x1a], Extras::None, true, true),
    // touch, gat, gatq, gatk, gatkq
    (&[0x1c, 0x1d, 0x1e, 0x23, 0x24], Extras::Time, true, false),
    // noop, version
    (&[0x0a, 0x0b], Extras::None, false, false),
];

/// Draws a packet about one of the first `keys` keys.
pub fn draw(rng: &mut Rng, keys: usize) -> Packet {
    if rng.u32(..50) == 0 {
        let opcodes = [
            0x08, 0x18, 0x07, 0x17, 0x1b, 0x20, 0x22, 0x25, 0x40, 0x60, 0xff,
        ];
        // Without extras and key: of an opcode it does not know, memcached skips them twice.
        return Packet {
            opcode: pick(rng, &opcodes),
            opaque: rng.u32(..100),
            ..Packet::default()
        };
    }
    let mut packet = usual(rng, keys);
    if rng.u32(..25) == 0 {
        match rng.u32(..5) {
            0 => packet.extras = vec![0; rng.usize(..24)],
            1 => packet.key = None,
            2 => packet.key = Some(Word::Key(vec![b'l'; rng.usize(240..260)])),
            3 => packet.value = vec![b'j'; rng.usize(1..9)],
            // A key that is longer than the body.
            _ => packet.lie = 300,
        }
    }
    packet
}

fn usual(rng: &mut Rng, keys: usize) -> Packet {
    let (opcodes, extras, has_key, has_value) = pick(rng, &KINDS);
    let exptime = pick(rng, &[0u32, 0, 0, 4000, 2_592_001, 4_102_444_800, u32::MAX]);
    let number = |rng: &mut Rng| pick(rng, &[0u64, 1, 5, 100, u64::MAX]);
    let extras = match extras {
        Extras::None => Vec::new(),
        Extras::Item => {
            let flags = pick(rng, &[0u32, 1, 0xdead_beef]);
            [flags.to_be_bytes(), exptime.to_be_bytes()].concat()
        }
        Extras::Count => {
            let (delta, initial) = (number(rng), number(rng));
            let mut extras = delta.to_be_bytes().to_vec();
            extras.extend(initial.to_be_bytes());
            extras.extend(exptime.to_be_bytes());
            extras
        }
        Extras::Time => exptime.to_be_bytes().to_vec(),
    };
    let values: [&[u8]; 8] = [
        b"",
        b"1",
        b"10",
        b"99",
        b"text",
        b"18446744073709551615",
        b"5 ",
        b"a\r\nb",
    ];
    let value = pick(rng, &values);
    let cas = match rng.u32(..8) {
        0 | 1 => Some(Word::Unique {
            lead: Vec::new(),
            ago: pick(rng, &[0, 0, 1, 2]),
            more: 0,
        }),
        2 => Some(Word::Text(pick(rng, &["1", "18446744073709551615"]).into())),
        _ => None,
    };
    let name = [&b"a"[..], b"bb", b"c-c", b"d\xff"][rng.usize(..keys)];
    Packet {
        opcode: pick(rng, opcodes),
        extras,
        key: has_key.then(|| Word::Key(name.to_vec())),
        value: if has_value {
            value.to_vec()
        } else {
            Vec::new()
        },
        cas,
        opaque: rng.u32(..100),
        lie: 0,
    }
}
