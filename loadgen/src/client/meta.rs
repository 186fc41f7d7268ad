//! The client's half of the meta commands: `mg`, `ms`, `md`, `ma`, each with the key and an
//! opaque asked back.
//!
//! Always true: a reply is told in the words of the classic protocol, so that what follows needs
//! to know only one; and an opaque that comes back is handed on to be compared.

use strata_protocol::client::{REPLY_LINE_MAX_BYTES, Reply, ValueHead};

use crate::kind::Kind;

/// The end of every request line.
fn end(out: &mut Vec<u8>, opaque: u32) {
    out.extend_from_slice(b" O");
    out.extend_from_slice(itoa::Buffer::new().format(opaque).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// A retrieval of one key: with its unique for a cas to come, with a new exptime for `gat`.
pub fn get(out: &mut Vec<u8>, key: &[u8], unique: bool, exptime: Option<u32>, opaque: u32) {
    out.extend_from_slice(b"mg ");
    out.extend_from_slice(key);
    out.extend_from_slice(b" k v");
    if unique {
        out.extend_from_slice(b" c");
    }
    if let Some(exptime) = exptime {
        out.extend_from_slice(b" T");
        number(out, exptime);
    }
    end(out, opaque);
}

/// A new exptime without the value.
pub fn touch(out: &mut Vec<u8>, key: &[u8], exptime: u32, opaque: u32) {
    out.extend_from_slice(b"mg ");
    out.extend_from_slice(key);
    out.extend_from_slice(b" T");
    number(out, exptime);
    end(out, opaque);
}

/// The line of a write; the value and its line end are to follow.
pub fn store_line(
    out: &mut Vec<u8>,
    key: &[u8],
    value_bytes: u32,
    exptime: u32,
    condition: Condition,
    opaque: u32,
) {
    out.extend_from_slice(b"ms ");
    out.extend_from_slice(key);
    out.push(b' ');
    number(out, value_bytes);
    if exptime > 0 {
        out.extend_from_slice(b" T");
        number(out, exptime);
    }
    match condition {
        Condition::None => {}
        Condition::Absent => out.extend_from_slice(b" ME"),
        Condition::Unique(unique) => {
            out.extend_from_slice(b" C");
            number(out, unique);
        }
    }
    end(out, opaque);
}

/// When a write takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    None,
    /// When there is no such item.
    Absent,
    /// When the item has this unique.
    Unique(u64),
}

/// A removal.
pub fn delete(out: &mut Vec<u8>, key: &[u8], opaque: u32) {
    out.extend_from_slice(b"md ");
    out.extend_from_slice(key);
    end(out, opaque);
}

/// An addition of one.
pub fn incr(out: &mut Vec<u8>, key: &[u8], opaque: u32) {
    out.extend_from_slice(b"ma ");
    out.extend_from_slice(key);
    out.extend_from_slice(b" v");
    end(out, opaque);
}

/// Parses one line of a reply to a request of `kind`: how many bytes it is, what it says in
/// classic words, and its opaque if it has one. `None` if more bytes are needed.
pub fn reply(input: &[u8], kind: Kind) -> Option<(usize, Reply<'_>, Option<u32>)> {
    let window = &input[..input.len().min(REPLY_LINE_MAX_BYTES + 1)];
    let Some(newline_at) = memchr::memchr(b'\n', window) else {
        return (window.len() > REPLY_LINE_MAX_BYTES).then_some((
            window.len(),
            Reply::Malformed(window),
            None,
        ));
    };
    let line = &window[..newline_at];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let (reply, opaque) = read(line, kind).unwrap_or((Reply::Malformed(line), None));
    Some((newline_at + 1, reply, opaque))
}

fn read(line: &[u8], kind: Kind) -> Option<(Reply<'_>, Option<u32>)> {
    let mut words = line.split(|&byte| byte == b' ');
    let code = words.next()?;
    let value_bytes = match code {
        b"VA" => Some(digits(words.next()?)?.try_into().ok()?),
        _ => None,
    };
    if let Some(text) = line.strip_prefix(b"CLIENT_ERROR ") {
        return Some((Reply::ClientError(text), None));
    }
    if let Some(text) = line.strip_prefix(b"SERVER_ERROR ") {
        return Some((Reply::ServerError(text), None));
    }
    let (mut key, mut cas, mut opaque) = (&b""[..], None, None);
    for word in words {
        match word.split_first()? {
            (b'k', rest) => key = rest,
            (b'c', rest) => cas = Some(digits(rest)?),
            (b'O', rest) => opaque = Some(digits(rest)?.try_into().ok()?),
            _ => {}
        }
    }
    let reply = match code {
        b"VA" => Reply::Value(ValueHead {
            key,
            flags: 0,
            value_bytes: value_bytes?,
            cas,
        }),
        b"EN" if kind == Kind::Touch => Reply::NotFound,
        b"EN" => Reply::End,
        b"HD" => match kind {
            Kind::Set | Kind::Add | Kind::Cas => Reply::Stored,
            Kind::Delete => Reply::Deleted,
            Kind::Touch => Reply::Touched,
            Kind::Get | Kind::Gat | Kind::Incr => Reply::Ok,
        },
        b"NS" => Reply::NotStored,
        b"EX" => Reply::Exists,
        b"NF" => Reply::NotFound,
        b"ERROR" => Reply::Error,
        _ => return None,
    };
    Some((reply, opaque))
}

fn digits(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_lines_of_the_meta_protocol() {
        let mut out = Vec::new();
        get(&mut out, b"a", false, None, 1);
        get(&mut out, b"a", true, Some(60), 2);
        touch(&mut out, b"a", 9, 3);
        store_line(&mut out, b"a", 2, 0, Condition::None, 4);
        store_line(&mut out, b"a", 2, 7, Condition::Absent, 5);
        store_line(&mut out, b"a", 2, 0, Condition::Unique(77), 6);
        delete(&mut out, b"a", 7);
        incr(&mut out, b"a", 8);
        let expected = "mg a k v O1\r\nmg a k v c T60 O2\r\nmg a T9 O3\r\nms a 2 O4\r\n\
                        ms a 2 T7 ME O5\r\nms a 2 C77 O6\r\nmd a O7\r\nma a v O8\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn replies_are_told_in_classic_words() {
        let value = Reply::Value(ValueHead {
            key: b"a",
            flags: 0,
            value_bytes: 3,
            cas: Some(9),
        });
        for (line, kind, expected, opaque) in [
            ("VA 3 ka c9 O5", Kind::Get, value, Some(5)),
            ("EN", Kind::Get, Reply::End, None),
            ("EN O7", Kind::Touch, Reply::NotFound, Some(7)),
            ("HD O1", Kind::Set, Reply::Stored, Some(1)),
            ("HD O1", Kind::Delete, Reply::Deleted, Some(1)),
            ("HD O1", Kind::Touch, Reply::Touched, Some(1)),
            ("NS O1", Kind::Add, Reply::NotStored, Some(1)),
            ("EX O1", Kind::Cas, Reply::Exists, Some(1)),
            ("NF O1", Kind::Delete, Reply::NotFound, Some(1)),
            ("ERROR", Kind::Get, Reply::Error, None),
            (
                "CLIENT_ERROR bad",
                Kind::Get,
                Reply::ClientError(b"bad"),
                None,
            ),
            ("VA x", Kind::Get, Reply::Malformed(b"VA x"), None),
            ("XX", Kind::Get, Reply::Malformed(b"XX"), None),
        ] {
            let text = format!("{line}\r\nrest");
            let found = reply(text.as_bytes(), kind);
            assert_eq!(found, Some((line.len() + 2, expected, opaque)), "{line}");
        }
        assert_eq!(reply(b"VA 3", Kind::Get), None);
    }
}
