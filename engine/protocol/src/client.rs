//! The client's side: requests to bytes, bytes to replies. For load generators and tests.
//!
//! ```
//! use strata_protocol::client::{self, Reply};
//!
//! let mut out = Vec::new();
//! client::get(&mut |bytes: &[u8]| out.extend_from_slice(bytes), [b"a", b"b"]);
//! assert_eq!(out, b"get a b\r\n");
//!
//! let mut input: &[u8] = b"VALUE a 0 2\r\nhi\r\nEND\r\n";
//! let (consumed, reply) = client::reply(input).unwrap();
//! let Reply::Value(value) = reply else { panic!() };
//! assert_eq!((value.key, value.value_bytes), (&b"a"[..], 2));
//! input = &input[consumed + value.block_bytes() as usize..];
//! assert_eq!(client::reply(input), Some((5, Reply::End)));
//! assert_eq!(client::reply(b"EN"), None);
//! ```

use crate::number::{DIGITS_MAX, plain, plain_word, strict_u32, strict_u64, write_before};
use crate::reply::Sink;
use crate::request::{ArithVerb, GetKind, Store, StoreVerb};
use crate::scan;

/// Longest line of a reply in bytes, not counting its `\n`. No server that is well has longer ones.
pub const REPLY_LINE_MAX_BYTES: usize = 2048;

fn number(out: &mut impl Sink, value: u64) {
    let mut text = [0; DIGITS_MAX];
    let start = write_before(&mut text, DIGITS_MAX, value);
    out.put(&text[start..]);
}

fn signed(out: &mut impl Sink, value: i64) {
    if value < 0 {
        out.put(b"-");
    }
    number(out, value.unsigned_abs());
}

fn end_of_line(out: &mut impl Sink, noreply: bool) {
    out.put(if noreply { b" noreply\r\n" } else { b"\r\n" });
}

fn key_list<K: AsRef<[u8]>>(out: &mut impl Sink, keys: impl IntoIterator<Item = K>) {
    for key in keys {
        out.put(b" ");
        out.put(key.as_ref());
    }
    out.put(b"\r\n");
}

/// `get` of one key or more.
pub fn get<K: AsRef<[u8]>>(out: &mut impl Sink, keys: impl IntoIterator<Item = K>) {
    retrieve(out, GetKind::Get, 0, keys);
}

/// `gets` of one key or more.
pub fn gets<K: AsRef<[u8]>>(out: &mut impl Sink, keys: impl IntoIterator<Item = K>) {
    retrieve(out, GetKind::Gets, 0, keys);
}

/// Any retrieval command of one key or more. The exptime is left out where the command has none.
pub fn retrieve<K: AsRef<[u8]>>(
    out: &mut impl Sink,
    kind: GetKind,
    exptime: i64,
    keys: impl IntoIterator<Item = K>,
) {
    out.put(match kind {
        GetKind::Get => b"get",
        GetKind::Gets => b"gets",
        GetKind::Gat => b"gat",
        GetKind::Gats => b"gats",
    });
    if kind.touches() {
        out.put(b" ");
        signed(out, exptime);
    }
    key_list(out, keys);
}

/// The line of a storage command. The value and `\r\n` are to follow.
pub fn store_line(out: &mut impl Sink, store: &Store<'_>) {
    out.put(match store.verb {
        StoreVerb::Set => b"set ",
        StoreVerb::Add => b"add ",
        StoreVerb::Replace => b"replace ",
        StoreVerb::Append => b"append ",
        StoreVerb::Prepend => b"prepend ",
        StoreVerb::Cas => b"cas ",
    });
    out.put(store.key);
    out.put(b" ");
    number(out, store.flags.into());
    out.put(b" ");
    signed(out, store.exptime);
    out.put(b" ");
    number(out, store.value_bytes.into());
    if store.verb == StoreVerb::Cas {
        out.put(b" ");
        number(out, store.cas);
    }
    end_of_line(out, store.noreply);
}

/// `set` of a whole value.
///
/// # Panics
/// If the value is longer than a storage line can say.
pub fn set(out: &mut impl Sink, key: &[u8], flags: u32, exptime: i64, value: &[u8], noreply: bool) {
    assert!(
        value.len() <= crate::VALUE_MAX_BYTES as usize,
        "a value of {} bytes cannot be announced",
        value.len()
    );
    store_line(
        out,
        &Store {
            verb: StoreVerb::Set,
            key,
            flags,
            exptime,
            value_bytes: value.len() as u32,
            cas: 0,
            noreply,
        },
    );
    out.put(value);
    out.put(b"\r\n");
}

/// `delete`.
pub fn delete(out: &mut impl Sink, key: &[u8], noreply: bool) {
    out.put(b"delete ");
    out.put(key);
    end_of_line(out, noreply);
}

/// `incr` or `decr`.
pub fn arith(out: &mut impl Sink, verb: ArithVerb, key: &[u8], delta: u64, noreply: bool) {
    out.put(match verb {
        ArithVerb::Incr => b"incr ",
        ArithVerb::Decr => b"decr ",
    });
    out.put(key);
    out.put(b" ");
    number(out, delta);
    end_of_line(out, noreply);
}

/// `touch`.
pub fn touch(out: &mut impl Sink, key: &[u8], exptime: i64, noreply: bool) {
    out.put(b"touch ");
    out.put(key);
    out.put(b" ");
    signed(out, exptime);
    end_of_line(out, noreply);
}

/// `flush_all`; 0 is now.
pub fn flush_all(out: &mut impl Sink, exptime: i64, noreply: bool) {
    out.put(b"flush_all ");
    signed(out, exptime);
    end_of_line(out, noreply);
}

/// `verbosity`.
pub fn verbosity(out: &mut impl Sink, level: u32, noreply: bool) {
    out.put(b"verbosity ");
    number(out, level.into());
    end_of_line(out, noreply);
}

/// `cache_memlimit`.
pub fn cache_memlimit(out: &mut impl Sink, megabytes: u32, noreply: bool) {
    out.put(b"cache_memlimit ");
    number(out, megabytes.into());
    end_of_line(out, noreply);
}

/// `stats`, of everything if `subject` is empty.
pub fn stats(out: &mut impl Sink, subject: &str) {
    out.put(b"stats");
    if !subject.is_empty() {
        out.put(b" ");
        out.put(subject.as_bytes());
    }
    out.put(b"\r\n");
}

/// The line that asks for the version.
pub const VERSION: &[u8] = b"version\r\n";
/// The line that does nothing and is answered with `MN`.
pub const NOP: &[u8] = b"mn\r\n";
/// The line that closes the connection.
pub const QUIT: &[u8] = b"quit\r\n";

/// One line of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The line before a value. The value and `\r\n` follow in the input and are the caller's to take.
    Value(ValueHead<'a>),
    /// The end of a list of values or statistics.
    End,
    /// A storage command has stored.
    Stored,
    /// The condition of a storage command does not hold.
    NotStored,
    /// The item has another CAS unique.
    Exists,
    /// No such item.
    NotFound,
    /// The item is removed.
    Deleted,
    /// The item has its new deadline.
    Touched,
    /// Done.
    Ok,
    /// The counters are zero.
    Reset,
    /// The answer to `mn`.
    Nop,
    /// The new value of a number.
    Number(u64),
    /// The server's version.
    Version(&'a [u8]),
    /// One statistic.
    Stat {
        /// Its name.
        name: &'a [u8],
        /// The rest of the line.
        value: &'a [u8],
    },
    /// The server does not know the command.
    Error,
    /// The text behind `CLIENT_ERROR`.
    ClientError(&'a [u8]),
    /// The text behind `SERVER_ERROR`.
    ServerError(&'a [u8]),
    /// A line that is none of these, or the beginning of a line beyond [`REPLY_LINE_MAX_BYTES`].
    Malformed(&'a [u8]),
}

/// The line before a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueHead<'a> {
    /// The key.
    pub key: &'a [u8],
    /// What the client stored with the value.
    pub flags: u32,
    /// Length of the value in bytes.
    pub value_bytes: u32,
    /// The CAS unique, for `gets` and `gats`.
    pub cas: Option<u64>,
}

impl ValueHead<'_> {
    /// How many bytes follow the line: the value and its line end.
    pub fn block_bytes(&self) -> u64 {
        u64::from(self.value_bytes) + 2
    }
}

/// Parses one line of a reply at the front of `input`. Returns how many bytes it is and what it says, or none if more bytes are needed.
#[inline]
pub fn reply(input: &[u8]) -> Option<(usize, Reply<'_>)> {
    if let Some(found) = plain_value(input) {
        return Some(found);
    }
    let window = &input[..input.len().min(REPLY_LINE_MAX_BYTES + 1)];
    let Some(newline_at) = scan::newline(window) else {
        return if window.len() > REPLY_LINE_MAX_BYTES {
            Some((window.len(), Reply::Malformed(window)))
        } else {
            None
        };
    };
    let line = &window[..newline_at];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    Some((newline_at + 1, read(line).unwrap_or(Reply::Malformed(line))))
}

/// The shortcut for the line before a value, read from left to right.
/// None leaves the line to the general way, which says the same of it.
#[inline]
fn plain_value(input: &[u8]) -> Option<(usize, Reply<'_>)> {
    const KEY_AT: usize = 6;
    let from_key = input.strip_prefix(b"VALUE ")?;
    let key_bytes = scan::word_end(&from_key[..from_key.len().min(crate::KEY_MAX_BYTES + 1)])?;
    if key_bytes == 0 || from_key[key_bytes] != b' ' {
        return None;
    }
    let mut at = KEY_AT + key_bytes + 1;
    let flags = plain_word(input, &mut at)?.try_into().ok()?;
    let value_bytes = plain(input, &mut at)?.try_into().ok()?;
    if !input[at..].starts_with(b"\r\n") {
        return None;
    }
    let head = ValueHead {
        key: &from_key[..key_bytes],
        flags,
        value_bytes,
        cas: None,
    };
    Some((at + 2, Reply::Value(head)))
}

fn read(line: &[u8]) -> Option<Reply<'_>> {
    let word_bytes = line
        .iter()
        .position(|&byte| byte == b' ')
        .unwrap_or(line.len());
    let (word, rest) = line.split_at(word_bytes);
    let Some(rest) = rest.strip_prefix(b" ") else {
        return Some(match word {
            b"END" => Reply::End,
            b"STORED" => Reply::Stored,
            b"NOT_STORED" => Reply::NotStored,
            b"EXISTS" => Reply::Exists,
            b"NOT_FOUND" => Reply::NotFound,
            b"DELETED" => Reply::Deleted,
            b"TOUCHED" => Reply::Touched,
            b"OK" => Reply::Ok,
            b"RESET" => Reply::Reset,
            b"MN" => Reply::Nop,
            b"ERROR" => Reply::Error,
            b"" => return None,
            digits => Reply::Number(strict_u64(digits)?),
        });
    };
    Some(match word {
        b"VALUE" => Reply::Value(value_head(rest)?),
        b"STAT" => {
            let name_bytes = rest.iter().position(|&byte| byte == b' ')?;
            Reply::Stat {
                name: &rest[..name_bytes],
                value: &rest[name_bytes + 1..],
            }
        }
        b"VERSION" => Reply::Version(rest),
        b"CLIENT_ERROR" => Reply::ClientError(rest),
        // memcached writes one of its errors with a colon.
        b"SERVER_ERROR" | b"SERVER_ERROR:" => Reply::ServerError(rest),
        _ => return None,
    })
}

fn value_head(rest: &[u8]) -> Option<ValueHead<'_>> {
    let mut words = rest.split(|&byte| byte == b' ');
    let head = ValueHead {
        key: words.next().filter(|key| !key.is_empty())?,
        flags: filled(words.next()).and_then(strict_u32)?,
        value_bytes: filled(words.next()).and_then(strict_u32)?,
        cas: match words.next() {
            None => None,
            word => Some(filled(word).and_then(strict_u64)?),
        },
    };
    if words.next().is_some() {
        None
    } else {
        Some(head)
    }
}

/// A word that has something in it; the strict numbers take nothing for 0.
fn filled(word: Option<&[u8]>) -> Option<&[u8]> {
    word.filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortcut_says_what_the_general_way_says() {
        let keys: [&[u8]; 5] = [b"k", b"key-of-some-length", b"", &[b'k'; 250], &[b'k'; 251]];
        let numbers: [&[u8]; 8] = [
            b"0",
            b"32",
            b"4294967295",
            b"4294967296",
            b"04294967295",
            b"0000000001",
            b"x",
            b"",
        ];
        let ends: [&[u8]; 6] = [b"\r\n", b"\n", b" \r\n", b" 7\r\n", b"\r", b""];
        let mut taken = 0;
        for key in keys {
            for flags in numbers {
                for value_bytes in numbers {
                    for end in ends {
                        let line = [b"VALUE ", key, b" ", flags, b" ", value_bytes, end].concat();
                        let general = line.strip_suffix(b"\n").map(|text| {
                            let text = text.strip_suffix(b"\r").unwrap_or(text);
                            (line.len(), read(text).unwrap_or(Reply::Malformed(text)))
                        });
                        assert_eq!(reply(&line), general);
                        taken += usize::from(plain_value(&line).is_some());
                    }
                }
            }
        }
        // Otherwise the comparison compares little.
        assert!(taken > 40, "only {taken} lines took the shortcut");
    }
}
