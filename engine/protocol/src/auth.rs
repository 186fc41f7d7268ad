//! What a client says before a server that asks for a password lets it in.
//!
//! ```text
//! set <any key> <any flags> <any exptime> <bytes>\r\n
//! <user> <password>\r\n
//! ```
//!
//! What it always keeps true: as with the [`crate::Parser`], the steps depend on the stream alone and not on how it was cut,
//! and nothing but these lines is ever understood, except for `version` and `quit` at a door that is [`polite`](Door::polite).
//!
//! ```
//! use strata_protocol::auth::{Door, Knock};
//!
//! let mut door = Door::default();
//! assert_eq!(door.next(b"set x 0 0 8\r\nbob pa"), (13, Knock::More));
//! let knock = Knock::Name { user: b"bob", password: b"pass" };
//! assert_eq!(door.next(b"bob pass\r\n"), (10, knock));
//! ```

use crate::error::ClientError;
use crate::number::strict_u32;
use crate::token::Tokens;
use crate::{LINE_MAX_BYTES, scan};

/// Shortest line, without its `\n`.
const LINE_MIN_BYTES: usize = 6;
/// Longest pair of name and password that is listened to.
const TOKEN_MAX_BYTES: u32 = 16_384;
/// Longest pair that is understood; of a longer one only its end is looked at, and it is nobody's.
pub const TOKEN_HELD_BYTES: usize = 1024;

/// The reading side of a connection whose client is not known yet. It holds no bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Door {
    place: Place,
    /// Whether `version` and `quit` are understood besides.
    polite: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Line,
    /// Before a pair of so many bytes, its line end included.
    Token(usize),
    /// Inside a pair that is too long to be anybody's.
    Long {
        left: usize,
        has_space: bool,
        tail: [u8; 2],
    },
}

/// What the front of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knock<'a> {
    /// More bytes are needed. Some may have been consumed all the same.
    More,
    /// Close the connection without a word.
    Lost,
    /// It asks for the version, of a door that tells it.
    Version,
    /// Answer this, and listen on.
    Refused(ClientError),
    /// Somebody says who it is.
    Name {
        /// All before the first space.
        user: &'a [u8],
        /// All behind it.
        password: &'a [u8],
    },
}

impl Door {
    /// A door that tells the version and lets go, which memcached's does not: the default.
    #[must_use]
    pub fn polite() -> Self {
        Self {
            polite: true,
            ..Self::default()
        }
    }

    /// Takes the next step from the front of `input`, which is every byte that is not consumed yet, and says how many bytes it used.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (usize, Knock<'a>) {
        match self.place {
            Place::Line => self.line(input),
            Place::Token(bytes) if input.len() < bytes => (0, Knock::More),
            Place::Token(bytes) => {
                self.place = Place::Line;
                (bytes, judge(&input[..bytes]))
            }
            Place::Long {
                left,
                has_space,
                tail,
            } => {
                let take = left.min(input.len());
                let taken = &input[..take];
                let tail = match *taken {
                    [] => tail,
                    [last] => [tail[1], last],
                    [.., before, last] => [before, last],
                };
                let has_space = has_space || taken.contains(&b' ');
                if take < left {
                    self.place = Place::Long {
                        left: left - take,
                        has_space,
                        tail,
                    };
                    return (take, Knock::More);
                }
                self.place = Place::Line;
                let error = match (tail, has_space) {
                    (tail, _) if tail != *b"\r\n" => ClientError::AuthTermination,
                    (_, false) => ClientError::AuthFormat,
                    (_, true) => ClientError::AuthFailure,
                };
                (take, Knock::Refused(error))
            }
        }
    }

    fn line<'a>(&mut self, input: &'a [u8]) -> (usize, Knock<'a>) {
        let window = &input[..input.len().min(LINE_MAX_BYTES + 1)];
        let Some(newline_at) = scan::newline(window) else {
            let lost = window.len() > LINE_MAX_BYTES;
            return (0, if lost { Knock::Lost } else { Knock::More });
        };
        if newline_at < LINE_MIN_BYTES {
            return (0, Knock::Lost);
        }
        let used = newline_at + 1;
        let line = &window[..newline_at];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let words = Tokens::split(line);
        if self.polite {
            match words.get(0) {
                Some(b"version") => return (used, Knock::Version),
                Some(b"quit") => return (used, Knock::Lost),
                _ => {}
            }
        }
        let bytes = match line.starts_with(b"set") {
            true => words.get(4).and_then(strict_u32),
            false => None,
        };
        let bytes = match bytes {
            None => return (used, Knock::Refused(ClientError::Unauthenticated)),
            Some(bytes) if bytes > TOKEN_MAX_BYTES => {
                return (used, Knock::Refused(ClientError::AuthTooLong));
            }
            Some(bytes) => bytes as usize + 2,
        };
        self.place = if bytes <= TOKEN_HELD_BYTES {
            Place::Token(bytes)
        } else {
            Place::Long {
                left: bytes,
                has_space: false,
                tail: [0; 2],
            }
        };
        let (more, knock) = self.next(&input[used..]);
        (used + more, knock)
    }
}

/// What a whole pair with its line end says.
fn judge(token: &[u8]) -> Knock<'_> {
    let Some(token) = token.strip_suffix(b"\r\n") else {
        return Knock::Refused(ClientError::AuthTermination);
    };
    match token.iter().position(|&byte| byte == b' ') {
        None => Knock::Refused(ClientError::AuthFormat),
        Some(space) => Knock::Name {
            user: &token[..space],
            password: &token[space + 1..],
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// What a stream says when it comes in pieces of `cut` bytes.
    fn knocks(stream: &[u8], cut: usize) -> Vec<std::string::String> {
        let (mut door, mut carry, mut list) = (Door::default(), Vec::new(), Vec::new());
        for piece in stream.chunks(cut) {
            carry.extend_from_slice(piece);
            loop {
                let (used, knock) = door.next(&carry);
                let text = std::format!("{knock:?}");
                let (more, lost) = (knock == Knock::More, knock == Knock::Lost);
                carry.drain(..used);
                if more {
                    break;
                }
                list.push(text);
                if lost {
                    return list;
                }
            }
        }
        list
    }

    #[test]
    fn any_cut_says_the_same() {
        let mut stream = Vec::new();
        stream.extend_from_slice(b"version\r\nset x 0 0 4\r\nu pw\r\nset x 0 0 4\nu_pw\r\n");
        stream.extend_from_slice(b"set x 0 0 3\r\nu pw\nset x 0 0 x\r\nset x 0 0 16385\r\n");
        for pair in [&b"a"[..], b"a b"] {
            stream.extend_from_slice(b"set long 0 0 9000\r\n");
            stream.extend(pair.iter().cycle().take(9000));
            stream.extend_from_slice(b"\r\n");
        }
        stream.extend_from_slice(b"set x 0 0 5000 noreply\r\n");
        stream.extend(core::iter::repeat_n(b' ', 5002));
        stream.extend_from_slice(b"set x 0 0 0\r\n\r\nmn\r\n");
        let whole = knocks(&stream, stream.len());
        let refused = [
            "Unauthenticated",
            "AuthFormat",
            "AuthTermination",
            "AuthTooLong",
            "AuthFailure",
        ];
        for word in refused {
            assert!(whole.iter().any(|said| said.contains(word)), "{whole:?}");
        }
        assert_eq!(whole.last().map(|said| &said[..]), Some("Lost"));
        assert_eq!(whole.len(), 11, "{whole:?}");
        for cut in [1, 2, 7, 100, 4096] {
            assert_eq!(knocks(&stream, cut), whole, "cut at {cut}");
        }
    }

    #[test]
    fn only_a_polite_door_tells_the_version_and_lets_go() {
        let stream = b"version\r\nget k\r\nversion\n quit now\r\n";
        let refused = Knock::Refused(ClientError::Unauthenticated);
        for (mut door, expected) in [
            (Door::default(), [refused, refused, refused, refused]),
            (
                Door::polite(),
                [Knock::Version, refused, Knock::Version, Knock::Lost],
            ),
        ] {
            let mut used = 0;
            for knock in expected {
                let (taken, found) = door.next(&stream[used..]);
                used += taken;
                assert_eq!(found, knock);
            }
        }
    }

    #[test]
    fn a_line_without_end_is_lost_beyond_the_limit() {
        let mut door = Door::default();
        let line = [b's'; LINE_MAX_BYTES + 1];
        assert_eq!(door.next(&line[1..]), (0, Knock::More));
        assert_eq!(door.next(&line), (0, Knock::Lost));
        assert_eq!(door.next(b"quit\r\n"), (0, Knock::Lost));
    }
}
