//! Replies to bytes. Fixed replies are constants, the others are functions that write to a [`Sink`].
//!
//! ```
//! use strata_protocol::reply;
//!
//! let mut out = Vec::new();
//! let mut sink = |bytes: &[u8]| out.extend_from_slice(bytes);
//! reply::value_head(&mut sink, b"greeting", 7, 5, Some(42));
//! sink(b"hello\r\n");
//! sink(reply::END);
//! assert_eq!(out, b"VALUE greeting 7 5 42\r\nhello\r\nEND\r\n");
//! ```

pub mod meta;

use crate::number::{DIGITS_MAX, write_before};

/// Takes the bytes of replies or requests in order. The caller's buffer implements it; so does any closure that takes a byte slice.
pub trait Sink {
    /// Appends `bytes`.
    fn put(&mut self, bytes: &[u8]);
}

impl<F: FnMut(&[u8])> Sink for F {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self(bytes);
    }
}

/// A storage command has stored.
pub const STORED: &[u8] = b"STORED\r\n";
/// The condition of an `add`, `replace`, `append` or `prepend` does not hold.
pub const NOT_STORED: &[u8] = b"NOT_STORED\r\n";
/// The item has another CAS unique.
pub const EXISTS: &[u8] = b"EXISTS\r\n";
/// No such item.
pub const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";
/// The item is removed.
pub const DELETED: &[u8] = b"DELETED\r\n";
/// The item has its new deadline.
pub const TOUCHED: &[u8] = b"TOUCHED\r\n";
/// Done.
pub const OK: &[u8] = b"OK\r\n";
/// The end of a list of values or statistics.
pub const END: &[u8] = b"END\r\n";
/// The counters are zero.
pub const RESET: &[u8] = b"RESET\r\n";
/// The answer to `mn`.
pub const MN: &[u8] = b"MN\r\n";
/// Same as [`crate::ClientError::UnknownCommand`].
pub const ERROR: &[u8] = crate::ClientError::UnknownCommand.wire();

/// Longest text between a key and its value: three spaces, three numbers, a line end.
const VALUE_TAIL_MAX_BYTES: usize = 3 * (1 + DIGITS_MAX) + 2;

/// `VALUE <key> <flags> <value_bytes>[ <cas>]`, a full line. The value and `\r\n` follow it.
#[inline(always)]
pub fn value_head(
    out: &mut impl Sink,
    key: &[u8],
    flags: u32,
    value_bytes: usize,
    cas: Option<u64>,
) {
    // Built backwards from the line end, so that no number must be measured first. The key is put
    // on its own: clearing a buffer that could hold it costs more than two further puts.
    let mut tail = [0; VALUE_TAIL_MAX_BYTES];
    let mut start = tail.len() - 2;
    tail[start..].copy_from_slice(b"\r\n");
    if let Some(cas) = cas {
        start = write_before(&mut tail, start, cas) - 1;
        tail[start] = b' ';
    }
    start = write_before(&mut tail, start, value_bytes as u64) - 1;
    tail[start] = b' ';
    start = write_before(&mut tail, start, u64::from(flags)) - 1;
    tail[start] = b' ';
    out.put(b"VALUE ");
    out.put(key);
    out.put(&tail[start..]);
}

/// The new value of a number, a full line.
#[inline]
pub fn number(out: &mut impl Sink, value: u64) {
    let mut line = [0; DIGITS_MAX + 2];
    line[DIGITS_MAX..].copy_from_slice(b"\r\n");
    let start = write_before(&mut line, DIGITS_MAX, value);
    out.put(&line[start..]);
}

/// The digits of a number, with nothing before or behind them.
pub fn digits<R>(value: u64, with: impl FnOnce(&[u8]) -> R) -> R {
    let mut text = [0; DIGITS_MAX];
    let start = write_before(&mut text, DIGITS_MAX, value);
    with(&text[start..])
}

/// `STAT <name> <value>`, a full line. After the last one comes [`END`].
pub fn stat(out: &mut impl Sink, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    out.put(b"STAT ");
    out.put(name.as_ref());
    out.put(b" ");
    out.put(value.as_ref());
    out.put(b"\r\n");
}

/// `STAT <name> <value>` of a number.
pub fn stat_number(out: &mut impl Sink, name: impl AsRef<[u8]>, value: u64) {
    out.put(b"STAT ");
    out.put(name.as_ref());
    out.put(b" ");
    number(out, value);
}

/// `VERSION <version>`, a full line.
pub fn version(out: &mut impl Sink, version: impl AsRef<[u8]>) {
    out.put(b"VERSION ");
    out.put(version.as_ref());
    out.put(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn text(write: impl FnOnce(&mut dyn FnMut(&[u8]))) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut |bytes: &[u8]| out.extend_from_slice(bytes));
        out
    }

    #[test]
    fn value_head_holds_its_longest_case() {
        let key = [b'k'; crate::KEY_MAX_BYTES];
        let head = text(|mut out| value_head(&mut out, &key, u32::MAX, usize::MAX, Some(u64::MAX)));
        let expected = std::format!(
            "VALUE {} {} {} {}\r\n",
            "k".repeat(250),
            u32::MAX,
            usize::MAX,
            u64::MAX
        );
        assert_eq!(head, expected.as_bytes());
    }

    #[test]
    fn value_head_without_unique_has_two_numbers() {
        assert_eq!(
            text(|mut out| value_head(&mut out, b"k", 0, 0, None)),
            b"VALUE k 0 0\r\n"
        );
        assert_eq!(
            text(|mut out| value_head(&mut out, b"k", 0, 0, Some(0))),
            b"VALUE k 0 0 0\r\n"
        );
    }

    #[test]
    fn other_replies_are_full_lines() {
        assert_eq!(
            text(|mut out| number(&mut out, u64::MAX)),
            b"18446744073709551615\r\n"
        );
        assert_eq!(
            text(|mut out| stat(&mut out, "evictions", "on")),
            b"STAT evictions on\r\n"
        );
        assert_eq!(
            text(|mut out| stat_number(&mut out, "pid", 10)),
            b"STAT pid 10\r\n"
        );
        assert_eq!(
            text(|mut out| version(&mut out, "1.2.3")),
            b"VERSION 1.2.3\r\n"
        );
        assert_eq!(ERROR, b"ERROR\r\n");
    }
}
