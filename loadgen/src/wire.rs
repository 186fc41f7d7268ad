//! The client's side of the classic text protocol, as far as the generator speaks it: rendering
//! `get` and `set`, and reading the first line of a reply.
//!
//! Always true: nothing here allocates once the caller's buffer has reached its size, and no line
//! is read before all of it is there.

/// The longest reply line that is not an error of the peer's: `VALUE`, a key of 250 bytes, flags,
/// length, and room for an error text.
pub const REPLY_LINE_BYTES_MAX: usize = 2048;

/// Appends ` <flags> <exptime> <bytes>\r\n`, the rest of a `set` line after its key.
#[inline]
pub fn set_tail(exptime: u32, value_bytes: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b" 0 ");
    number(u64::from(exptime), out);
    out.push(b' ');
    number(value_bytes as u64, out);
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// One line of a reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A hit; `value_bytes` and a line end follow.
    Value {
        /// The key found.
        key: &'a [u8],
        /// Length of its value.
        value_bytes: usize,
    },
    /// The end of a retrieval.
    End,
    /// A write was done.
    Stored,
    /// A write was refused without being an error: `NOT_STORED`, `EXISTS`, `NOT_FOUND`.
    Declined(&'a [u8]),
    /// `ERROR`, `CLIENT_ERROR ...` or `SERVER_ERROR ...`.
    Error(&'a [u8]),
    /// None of these.
    Foreign(&'a [u8]),
}

/// Reads a line that ends with a line feed.
pub fn line(line: &[u8]) -> Line<'_> {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    match text {
        b"END" => Line::End,
        b"STORED" => Line::Stored,
        b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND" => Line::Declined(text),
        _ => {
            if let Some(rest) = text.strip_prefix(b"VALUE ") {
                value(rest).unwrap_or(Line::Foreign(text))
            } else if text == b"ERROR"
                || text.starts_with(b"CLIENT_ERROR")
                || text.starts_with(b"SERVER_ERROR")
            {
                Line::Error(text)
            } else {
                Line::Foreign(text)
            }
        }
    }
}

/// `<key> <flags> <bytes>[ <cas>]`.
#[inline]
fn value(rest: &[u8]) -> Option<Line<'_>> {
    let key_bytes = memchr::memchr(b' ', rest)?;
    let (key, rest) = rest.split_at(key_bytes);
    let mut words = rest[1..].split(|&byte| byte == b' ');
    let _flags = digits(words.next()?)?;
    let value_bytes = digits(words.next()?)?;
    Some(Line::Value {
        key,
        value_bytes: usize::try_from(value_bytes).ok()?,
    })
}

/// A decimal number of at most ten digits.
#[inline]
fn digits(word: &[u8]) -> Option<u64> {
    if word.is_empty() || word.len() > 10 {
        return None;
    }
    word.iter().try_fold(0, |number, &byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        let hit = Line::Value {
            key: b"key",
            value_bytes: 32,
        };
        assert_eq!(line(b"VALUE key 0 32\r\n"), hit);
        assert_eq!(line(b"VALUE key 7 32 12345\r\n"), hit);
        assert_eq!(line(b"END\r\n"), Line::End);
        assert_eq!(line(b"STORED\r\n"), Line::Stored);
        assert_eq!(line(b"NOT_STORED\r\n"), Line::Declined(b"NOT_STORED"));
        assert_eq!(line(b"ERROR\r\n"), Line::Error(b"ERROR"));
        assert_eq!(
            line(b"SERVER_ERROR out of memory storing object\r\n"),
            Line::Error(b"SERVER_ERROR out of memory storing object")
        );
    }

    #[test]
    fn malformed_value_lines_are_foreign() {
        for text in [
            &b"VALUE key 0 x\r\n"[..],
            b"VALUE key 0\r\n",
            b"VALUE key\r\n",
            b"VALUE key 0 99999999999\r\n",
            b"HTTP/1.1 400 Bad Request\r\n",
        ] {
            assert!(matches!(line(text), Line::Foreign(_)), "{text:?}");
        }
    }

    #[test]
    fn a_set_line_has_its_fields_in_order() {
        let mut out = b"set k".to_vec();
        set_tail(60, 32, &mut out);
        assert_eq!(out, b"set k 0 60 32\r\n");
    }
}
