//! Cuts a stream of bytes into lines and keys, and keeps the place inside a retrieval line.
//!
//! What it always keeps true: the steps and the bytes consumed depend on the stream alone, never on how it was cut into inputs.
//! So every decision here is made from bytes at fixed distances from where the line or the key begins, and waits until they have arrived.

use crate::command::{self, Line};
use crate::error::ClientError;
use crate::number::{plain, plain_word, strict_i32};
use crate::request::{GetKey, GetKind, Request, Store, StoreVerb};
use crate::{KEY_MAX_BYTES, LINE_MAX_BYTES, VALUE_MAX_BYTES, scan};

/// Most spaces that may stand before a `get` on a line beyond the limit; memcached looks no further.
const LONG_LINE_SPACES_MAX: usize = 100;

/// Shortest line, its `\n` included. Anything shorter is malformed before it is looked at.
const LINE_MIN_BYTES: usize = 4;

/// Resumable parser of the request stream of one connection.
///
/// It holds no bytes: the caller keeps what is not consumed, adds what arrives, and shows it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parser {
    place: Place,
}

const _: () = assert!(size_of::<Parser>() <= 32);

/// Where in the stream the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At the start of a line.
    #[default]
    LineStart,
    /// Inside a retrieval line, where a key or a space before one stands.
    Keys {
        kind: GetKind,
        exptime: i32,
        first: bool,
    },
    /// Inside a line whose rest is to be swallowed.
    LineRest,
}

/// What the front of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A request.
    Request(Request<'a>),
    /// More bytes are needed. Some may have been consumed all the same.
    Incomplete,
    /// A malformed command.
    Invalid {
        /// What to answer; nothing if the client asked for no reply.
        error: Option<ClientError>,
        /// How many bytes of the stream, behind those consumed, the caller must drop before it calls again, over as many reads as it takes.
        skip: u64,
    },
    /// Close the connection without a word: a line beyond the limit, or a request of HTTP.
    Lost,
}

impl Parser {
    /// A parser at the start of a stream.
    pub const fn new() -> Self {
        Parser {
            place: Place::LineStart,
        }
    }

    /// Parses at the front of `input`, which is every byte of the stream that is not consumed yet.
    /// Returns how many bytes of it are consumed, and what they were.
    ///
    /// After [`Step::Lost`] the connection is over; what further calls return means nothing.
    #[inline]
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Step<'a>) {
        if let Some((consumed, get)) = self.next_get(input) {
            return (consumed, Step::Request(Request::Get(get)));
        }
        if let Some((consumed, store)) = self.next_set(input) {
            return (consumed, Step::Request(Request::Store(store)));
        }
        match self.place {
            Place::LineStart => self.line(input),
            Place::Keys {
                kind,
                exptime,
                first,
            } => self.key(input, kind, exptime, first),
            Place::LineRest => match scan::newline(input) {
                None => (input.len(), Step::Incomplete),
                Some(at) => {
                    self.place = Place::LineStart;
                    let (consumed, step) = self.next(&input[at + 1..]);
                    (at + 1 + consumed, step)
                }
            },
        }
    }

    /// The key of a retrieval at the front of `input`, if that is what [`Parser::next`] would find there; and how many
    /// bytes it takes. None says nothing: then `next` knows more.
    ///
    /// Most requests are such keys. Asked for in this way, one does not go through the shape of all requests.
    #[inline(always)]
    pub fn next_get<'a>(&mut self, input: &'a [u8]) -> Option<(usize, GetKey<'a>)> {
        match self.place {
            Place::LineStart => line_of_one_key(input),
            Place::Keys { .. } => self.plain_key(input),
            Place::LineRest => None,
        }
    }

    /// Whether the next byte is the first of a line.
    #[inline(always)]
    pub fn begins_a_line(&self) -> bool {
        self.place == Place::LineStart
    }

    /// The key of a retrieval of one key, if that is all of `input`, and then nothing of the stream is under way before or
    /// behind it. None says nothing.
    #[inline(always)]
    pub fn lone_get<'a>(&self, input: &'a [u8]) -> Option<GetKey<'a>> {
        let (consumed, get) = match self.place {
            Place::LineStart => line_of_one_key(input)?,
            _ => return None,
        };
        (consumed == input.len()).then_some(get)
    }

    /// The line of a `set` at the front of `input`, if that is what [`Parser::next`] would find there; and how many bytes
    /// it takes. None says nothing: then `next` knows more.
    #[inline(always)]
    pub fn next_set<'a>(&mut self, input: &'a [u8]) -> Option<(usize, Store<'a>)> {
        match (self.place, input) {
            (Place::LineStart, [b's', b'e', b't', b' ', ..]) => plain_set(input),
            _ => None,
        }
    }

    /// A line without a shortcut.
    fn line<'a>(&mut self, input: &'a [u8]) -> (usize, Step<'a>) {
        let window = &input[..input.len().min(LINE_MAX_BYTES + 1)];
        let Some(newline_at) = scan::newline(window) else {
            if window.len() <= LINE_MAX_BYTES {
                return (0, Step::Incomplete);
            }
            return self.long_line(input);
        };
        let consumed = newline_at + 1;
        if consumed < LINE_MIN_BYTES {
            return (
                consumed,
                Step::Invalid {
                    error: Some(ClientError::BadFormat),
                    skip: 0,
                },
            );
        }
        let line = &window[..newline_at];
        match command::read(line.strip_suffix(b"\r").unwrap_or(line)) {
            Line::Request(request) => (consumed, Step::Request(request)),
            Line::Keys {
                kind,
                exptime,
                keys_at,
            } => {
                let (consumed, step) = self.key(&input[keys_at..], kind, exptime, true);
                (keys_at + consumed, step)
            }
            Line::Invalid { error, skip } => (consumed, Step::Invalid { error, skip }),
            Line::Lost => (consumed, Step::Lost),
        }
    }

    /// A line that has no end within the limit. Only what stands within the limit decides what it is.
    #[cold]
    fn long_line<'a>(&mut self, input: &'a [u8]) -> (usize, Step<'a>) {
        let head = &input[..LINE_MAX_BYTES + 1];
        let spaces = scan::spaces(head);
        let command = &head[spaces..];
        let is_get = command.starts_with(b"get ") || command.starts_with(b"gets ");
        if spaces > 0 {
            if spaces > LONG_LINE_SPACES_MAX || !is_get {
                return (0, Step::Lost);
            }
            // memcached spares such a line and then does not know the command, because spaces stand before it.
            return self.swallow(0, ClientError::UnknownCommand);
        }
        if is_get {
            let (kind, keys_at) = if command[3] == b' ' {
                (GetKind::Get, 4)
            } else {
                (GetKind::Gets, 5)
            };
            let (consumed, step) = self.key(&input[keys_at..], kind, 0, true);
            return (keys_at + consumed, step);
        }
        let (kind, exptime_at) = match head {
            [b'g', b'a', b't', b' ', ..] => (GetKind::Gat, 4),
            [b'g', b'a', b't', b's', b' ', ..] => (GetKind::Gats, 5),
            _ => return (0, Step::Lost),
        };
        let exptime_at = exptime_at + scan::spaces(&head[exptime_at..]);
        let Some(exptime_bytes) = scan::word_end(&head[exptime_at..]) else {
            return (0, Step::Lost);
        };
        let keys_at = exptime_at + exptime_bytes;
        match strict_i32(&head[exptime_at..keys_at]) {
            None => self.swallow(keys_at, ClientError::BadExptime),
            Some(exptime) => {
                let (consumed, step) = self.key(&input[keys_at..], kind, exptime, true);
                (keys_at + consumed, step)
            }
        }
    }

    /// Reports an error and leaves the rest of the line to be swallowed.
    fn swallow<'a>(&mut self, consumed: usize, error: ClientError) -> (usize, Step<'a>) {
        self.place = Place::LineRest;
        (
            consumed,
            Step::Invalid {
                error: Some(error),
                skip: 0,
            },
        )
    }

    /// The shortcut for the next key of a retrieval line: no space before it, and one behind it or the line's end.
    #[inline]
    fn plain_key<'a>(&mut self, input: &'a [u8]) -> Option<(usize, GetKey<'a>)> {
        let Place::Keys {
            kind,
            exptime,
            first,
        } = self.place
        else {
            return None;
        };
        let window = &input[..input.len().min(KEY_MAX_BYTES + 2)];
        let end = scan::word_end(window)?;
        let last = window[end] == b'\n';
        let mut key = &window[..end];
        if last {
            key = key.strip_suffix(b"\r").unwrap_or(key);
        } else if matches!(input.get(end + 1), None | Some(b' ' | b'\r' | b'\n')) {
            return None;
        }
        if key.is_empty() || key.len() > KEY_MAX_BYTES {
            return None;
        }
        Some((end + 1, self.hand_out(kind, exptime, key, first, last)))
    }

    /// The next key of a retrieval line. A key is handed out when it is known whether another one follows.
    fn key<'a>(
        &mut self,
        input: &'a [u8],
        kind: GetKind,
        exptime: i32,
        first: bool,
    ) -> (usize, Step<'a>) {
        self.place = Place::Keys {
            kind,
            exptime,
            first,
        };
        let start = scan::spaces(input);
        let rest = &input[start..];
        match line_end(rest) {
            LineEnd::Unknown => return (start, Step::Incomplete),
            LineEnd::Here(bytes) => {
                self.place = Place::LineStart;
                return (
                    start + bytes,
                    Step::Invalid {
                        error: Some(ClientError::BadFormat),
                        skip: 0,
                    },
                );
            }
            LineEnd::No => {}
        }

        // One byte beyond the longest key is a `\r` or makes the key too long; two beyond are always too many.
        let window = &rest[..rest.len().min(KEY_MAX_BYTES + 2)];
        let Some(end) = scan::word_end(window) else {
            if window.len() < KEY_MAX_BYTES + 2 {
                return (start, Step::Incomplete);
            }
            return self.swallow(start, ClientError::GetKeyTooLong);
        };
        let ends_line = window[end] == b'\n';
        let mut key = &rest[..end];
        if ends_line {
            key = key.strip_suffix(b"\r").unwrap_or(key);
        }
        if key.len() > KEY_MAX_BYTES {
            return self.swallow(start, ClientError::GetKeyTooLong);
        }

        let (last, consumed) = if ends_line {
            (true, end + 1)
        } else {
            let next = end + scan::spaces(&rest[end..]);
            if next > LINE_MAX_BYTES {
                return (start, Step::Lost);
            }
            match line_end(&rest[next..]) {
                LineEnd::Unknown => return (start, Step::Incomplete),
                LineEnd::Here(bytes) => (true, next + bytes),
                LineEnd::No => (false, next),
            }
        };
        let get = self.hand_out(kind, exptime, key, first, last);
        (start + consumed, Step::Request(Request::Get(get)))
    }

    /// Moves on behind a key of a retrieval line.
    #[inline(always)]
    fn hand_out<'a>(
        &mut self,
        kind: GetKind,
        exptime: i32,
        key: &'a [u8],
        first: bool,
        last: bool,
    ) -> GetKey<'a> {
        self.place = if last {
            Place::LineStart
        } else {
            Place::Keys {
                kind,
                exptime,
                first: false,
            }
        };
        GetKey {
            kind,
            exptime: exptime.into(),
            key,
            first,
            last,
        }
    }
}

/// Whether a line ends at the front of some bytes.
enum LineEnd {
    /// Yes, with this many bytes.
    Here(usize),
    /// No, something else stands there.
    No,
    /// The bytes that would tell have not arrived.
    Unknown,
}

fn line_end(bytes: &[u8]) -> LineEnd {
    match bytes {
        [] | [b'\r'] => LineEnd::Unknown,
        [b'\n', ..] => LineEnd::Here(1),
        [b'\r', b'\n', ..] => LineEnd::Here(2),
        _ => LineEnd::No,
    }
}

/// The shortcut for a retrieval line of one key at the front of `input`.
#[inline(always)]
fn line_of_one_key(input: &[u8]) -> Option<(usize, GetKey<'_>)> {
    match input {
        [b'g', b'e', b't', b' ', ..] => lone_key(input, GetKind::Get, 4),
        [b'g', b'e', b't', b's', b' ', ..] => lone_key(input, GetKind::Gets, 5),
        _ => None,
    }
}

/// The shortcut for a retrieval line of one key, found in one pass. None leaves the line to the general way, which says the same of it.
#[inline(always)]
fn lone_key(input: &[u8], kind: GetKind, key_at: usize) -> Option<(usize, GetKey<'_>)> {
    let window = &input[key_at..input.len().min(key_at + KEY_MAX_BYTES + 2)];
    let end = scan::word_end(window)?;
    if window[end] != b'\n' {
        return None;
    }
    let key = &window[..end];
    let key = key.strip_suffix(b"\r").unwrap_or(key);
    if key.is_empty() || key.len() > KEY_MAX_BYTES {
        return None;
    }
    let get = GetKey {
        kind,
        exptime: 0,
        key,
        first: true,
        last: true,
    };
    Some((key_at + end + 1, get))
}

/// The shortcut for a `set` line with single spaces and plain numbers, read from left to right. None leaves the line to the general way, which says the same of it.
#[inline]
fn plain_set(input: &[u8]) -> Option<(usize, Store<'_>)> {
    let window = &input[4..input.len().min(4 + KEY_MAX_BYTES + 1)];
    let key_bytes = scan::word_end(window)?;
    if key_bytes == 0 || window[key_bytes] != b' ' {
        return None;
    }
    let mut at = 4 + key_bytes + 1;
    let flags = plain_word(input, &mut at)?;
    let exptime = plain_word(input, &mut at)?;
    let value_bytes = plain(input, &mut at)?;
    if value_bytes > u64::from(VALUE_MAX_BYTES) {
        return None;
    }
    // The line ends behind the length, or a `noreply` does.
    let (noreply, end_bytes) = match &input[at..] {
        [b'\r', b'\n', ..] => (false, 2),
        [b'\n', ..] => (false, 1),
        [
            b' ',
            b'n',
            b'o',
            b'r',
            b'e',
            b'p',
            b'l',
            b'y',
            b'\r',
            b'\n',
            ..,
        ] => (true, 10),
        _ => return None,
    };
    let store = Store {
        verb: StoreVerb::Set,
        key: &input[4..4 + key_bytes],
        flags: flags as u32,
        exptime: i64::from(exptime as i32),
        value_bytes: value_bytes as u32,
        cas: 0,
        noreply,
    };
    Some((at + end_bytes, store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn shortcuts_say_what_the_general_way_says() {
        let commands: [&[u8]; 3] = [b"get ", b"gets ", b"set "];
        let keys: [&[u8]; 6] = [
            b"k",
            b"key-of-some-length",
            b"k\r",
            &[b'k'; 249],
            &[b'k'; 250],
            &[b'k'; 251],
        ];
        let numbers: [&[u8]; 16] = [
            b"0",
            b"3",
            b"-1",
            b"4294967295",
            b"4294967296",
            b"9999999999",
            b"10000000000",
            b"00000000001",
            b"0000000003",
            b"000000000003",
            b"2147483645",
            b"2147483646",
            b"x",
            b"+1",
            b"1\t",
            b"",
        ];
        let ends: [&[u8]; 8] = [
            b"\r\n",
            b"\n",
            b" noreply\r\n",
            b" noreply\n",
            b" \r\n",
            b" x\r\n",
            b"\r",
            b"",
        ];
        let mut seed = 7u64;
        let (mut gets, mut sets, mut keys_behind) = (0, 0, 0);
        for _ in 0..200_000 {
            let mut random = |below: usize| {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (seed >> 33) as usize % below
            };
            let mut input = Vec::from(commands[random(3)]);
            input.extend_from_slice(keys[random(keys.len())]);
            for _ in 0..[0, 3, 3, 3, 1, 4][random(6)] {
                input.push(b' ');
                input.extend_from_slice(numbers[random(numbers.len())]);
            }
            input.extend_from_slice(ends[random(ends.len())]);

            let (mut short, mut general) = (Parser::new(), Parser::new());
            let step = short.next(&input);
            assert_eq!(step, general.line(&input), "{input:?}");
            assert_eq!(short, general);
            let mut rest = &input[step.0..];
            while let Place::Keys {
                kind,
                exptime,
                first,
            } = general.place
            {
                let step = short.next(rest);
                let same = general.key(rest, kind, exptime, first);
                assert_eq!(step, same, "{input:?} from {rest:?}");
                assert_eq!(short, general);
                keys_behind += usize::from(matches!(step.1, Step::Request(_)));
                if matches!(step.1, Step::Incomplete | Step::Lost) {
                    break;
                }
                rest = &rest[step.0..];
            }
            match input[0] {
                b'g' => {
                    gets += usize::from(
                        lone_key(&input, GetKind::Get, if input[3] == b' ' { 4 } else { 5 })
                            .is_some(),
                    )
                }
                _ => sets += usize::from(plain_set(&input).is_some()),
            }
        }
        // Otherwise the comparison compares little.
        assert!(
            gets > 2_000 && sets > 500 && keys_behind > 10_000,
            "only {gets} and {sets} lines took a shortcut, and {keys_behind} keys were not alone"
        );
    }
}
