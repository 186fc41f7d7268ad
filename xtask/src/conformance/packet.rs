//! How a transcript writes a packet of the binary protocol: the opcode's name, then what is in it.
//!
//! ```text
//! set key=k flags=7 exptime=0 value=hello      a request: what is not named is not there, or 0
//! get flags=7 value=hello cas={num:c}          a reply
//! get status=1 value="Not found"
//! 0x60 key=cluster                             an opcode without a name
//! get key=k key-length=300                     a length that is not true
//! ```
//!
//! Extras are `flags` (4 bytes), `delta` and `initial` (8), `exptime` (4), in this order, or `extras` as bytes; `key` and
//! `value` are written as `super::pattern` says, in quotes if there is a blank in them; `number` is a value of 8 bytes.
//! `opaque`, which a reply repeats, is the same number everywhere unless it is named. `cas` may be the name of a number.
//! `magic`, `key-length`, `extras-length` and `body-length` make a packet that lies.

use super::pattern::{Part, Pattern};

/// Bytes of a header.
const HEADER_BYTES: usize = 24;
/// The opaque of a packet that names none.
const OPAQUE: u32 = 0x5eed_0001;

/// Opcodes that have a name.
const NAMES: [(&str, u8); 33] = [
    ("get", 0x00),
    ("set", 0x01),
    ("add", 0x02),
    ("replace", 0x03),
    ("delete", 0x04),
    ("incr", 0x05),
    ("decr", 0x06),
    ("quit", 0x07),
    ("flush", 0x08),
    ("getq", 0x09),
    ("noop", 0x0a),
    ("version", 0x0b),
    ("getk", 0x0c),
    ("getkq", 0x0d),
    ("append", 0x0e),
    ("prepend", 0x0f),
    ("stat", 0x10),
    ("setq", 0x11),
    ("addq", 0x12),
    ("replaceq", 0x13),
    ("deleteq", 0x14),
    ("incrq", 0x15),
    ("decrq", 0x16),
    ("quitq", 0x17),
    ("flushq", 0x18),
    ("appendq", 0x19),
    ("prependq", 0x1a),
    ("verbosity", 0x1b),
    ("touch", 0x1c),
    ("gat", 0x1d),
    ("gatq", 0x1e),
    ("gatk", 0x23),
    ("gatkq", 0x24),
];

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Request,
    /// From the server.
    Reply,
}

/// The opcode of a name, or of a number.
pub fn opcode(word: &str) -> Result<u8, String> {
    if let Some((_, opcode)) = NAMES.iter().find(|(name, _)| *name == word) {
        return Ok(*opcode);
    }
    number(word)
        .ok()
        .and_then(|number| u8::try_from(number).ok())
        .ok_or_else(|| format!("no such opcode: {word}"))
}

/// Reads a packet; the result is its bytes.
pub fn parse(text: &str, direction: Direction) -> Result<Pattern, String> {
    let mut words = split(text)?.into_iter();
    let opcode = opcode(words.next().ok_or("a packet without an opcode")?)?;
    let mut magic = match direction {
        Direction::Request => 0x80,
        Direction::Reply => 0x81,
    };
    let (mut key, mut value) = (Vec::new(), Vec::new());
    // In the order of the packet, whatever the order of the words.
    let mut extras: [Vec<u8>; 5] = Default::default();
    let (mut status, mut opaque, mut cas) = (0, OPAQUE, Part::Literal(vec![0; 8]));
    let (mut key_bytes, mut extras_bytes, mut body_bytes) = (None, None, None);
    for word in words {
        let (name, text) = word
            .split_once('=')
            .ok_or_else(|| format!("not a field: {word}"))?;
        match name {
            "key" => key = literal(text)?,
            "value" => value = literal(text)?,
            "number" => value = number(text)?.to_be_bytes().to_vec(),
            "flags" => extras[0] = narrow(text)?.to_be_bytes().to_vec(),
            "delta" => extras[1] = number(text)?.to_be_bytes().to_vec(),
            "initial" => extras[2] = number(text)?.to_be_bytes().to_vec(),
            "exptime" => extras[3] = narrow(text)?.to_be_bytes().to_vec(),
            "extras" => extras[4] = literal(text)?,
            "status" => status = narrow(text)? as u16,
            "opaque" => opaque = narrow(text)?,
            "cas" => cas = unique(text)?,
            "magic" => magic = narrow(text)? as u8,
            "key-length" => key_bytes = Some(narrow(text)? as u16),
            "extras-length" => extras_bytes = Some(narrow(text)? as u8),
            "body-length" => body_bytes = Some(narrow(text)?),
            _ => return Err(format!("no such field: {name}")),
        }
    }
    let extras = extras.concat();
    let body = [extras.as_slice(), &key, &value].concat();
    let mut head = vec![magic, opcode];
    head.extend(key_bytes.unwrap_or(key.len() as u16).to_be_bytes());
    head.extend([extras_bytes.unwrap_or(extras.len() as u8), 0]);
    head.extend(status.to_be_bytes());
    head.extend(body_bytes.unwrap_or(body.len() as u32).to_be_bytes());
    head.extend(opaque.to_be_bytes());
    let parts = vec![Part::Literal(head), cas, Part::Literal(body)];
    Ok(Pattern { parts })
}

/// Takes the packet at the front of `bytes`: its opcode, and a line of its opcode's name, key and value, as far as they
/// are there. Returns how many bytes it has; none while it is not complete.
pub fn take(bytes: &[u8]) -> Option<(usize, u8, Vec<u8>)> {
    let header = bytes.get(..HEADER_BYTES)?;
    let key_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let extras_bytes = usize::from(header[4]);
    let body_bytes = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES + body_bytes)?;
    let opcode = header[1];
    let known = NAMES.iter().find(|(_, known)| *known == opcode);
    let mut line = known.map_or("?", |(name, _)| *name).as_bytes().to_vec();
    let (key, value) = body.get(extras_bytes..)?.split_at_checked(key_bytes)?;
    for word in [key, value] {
        if !word.is_empty() {
            line.push(b' ');
            line.extend_from_slice(word);
        }
    }
    Some((HEADER_BYTES + body_bytes, opcode, line))
}

/// Splits at blanks that are not in quotes.
fn split(text: &str) -> Result<Vec<&str>, String> {
    let (mut words, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            '"' if !escaped => quoted = !quoted,
            ' ' if !quoted => {
                words.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        escaped = character == '\\' && !escaped;
    }
    words.push(&text[start..]);
    if quoted {
        return Err(format!("no closing quote: {text}"));
    }
    words.retain(|word| !word.is_empty());
    Ok(words)
}

/// The bytes of a field that has definite ones.
fn literal(text: &str) -> Result<Vec<u8>, String> {
    let inside = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let pattern = Pattern::parse(inside.unwrap_or(text), b"")?;
    pattern.bytes(&Default::default())
}

/// A number in decimal digits, or in hexadecimal ones behind `0x`.
fn number(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| format!("not a number: {text}"))
}

fn narrow(text: &str) -> Result<u32, String> {
    u32::try_from(number(text)?).map_err(|_| format!("not a number of 32 bits: {text}"))
}

fn unique(text: &str) -> Result<Part, String> {
    let pattern = Pattern::parse(text, b"")?;
    match pattern.parts.as_slice() {
        [Part::Number(name)] => Ok(Part::Wide(name.clone())),
        _ => Ok(Part::Literal(number(text)?.to_be_bytes().to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str, direction: Direction) -> Vec<u8> {
        let pattern = parse(text, direction).expect(text);
        pattern.bytes(&Default::default()).expect(text)
    }

    #[test]
    fn a_packet_is_as_long_as_it_says() {
        let set = bytes(
            "set value=\"a b\" key=k exptime=2 flags=1 cas=3",
            Direction::Request,
        );
        let expected = b"\x80\x01\0\x01\x08\0\0\0\0\0\0\x0c\x5e\xed\0\x01\0\0\0\0\0\0\0\x03\0\0\0\x01\0\0\0\x02ka b";
        assert_eq!(set, expected);
        let lie = bytes(
            "get key=k key-length=300 body-length=0x1000",
            Direction::Request,
        );
        assert_eq!(
            (&lie[2..4], &lie[8..12]),
            (&[1, 44][..], &[0, 0, 16, 0][..])
        );
    }

    #[test]
    fn packets_are_taken_as_lines() {
        let stat = bytes("stat key=pid value=17", Direction::Reply);
        let both = [&stat[..], &bytes("0x99 flags=1", Direction::Reply)].concat();
        let (len, opcode, line) = take(&both).expect("whole");
        assert_eq!(
            (len, opcode, &line[..]),
            (stat.len(), 0x10, &b"stat pid 17"[..])
        );
        assert_eq!(take(&both[len..]), Some((28, 0x99, b"?".to_vec())));
        assert_eq!(take(&stat[..stat.len() - 1]), None);
    }

    #[test]
    fn what_is_no_packet_is_an_error() {
        for text in [
            "",
            "put",
            "get k",
            "get keys=k",
            "get status=x",
            "get value=\"x",
            "0x100",
        ] {
            assert!(parse(text, Direction::Reply).is_err(), "{text}");
        }
    }
}
