//! The meta commands: `mg`, `ms`, `md`, `ma` and `me`, whose flags say what to do and what to answer. (`mn` has no flags and is [`crate::Request::Nop`].)
//!
//! ```text
//! mg|md|ma key flag*         ms key bytes flag*   then bytes of data and \r\n         me key [b word]
//! ```
//!
//! A flag is a word: a letter, and for some letters a value behind it. Each letter may stand once, and one that any meta command knows is accepted by all.
//!
//! | flag | means | `mg` | `ms` | `md` | `ma` |
//! |---|---|---|---|---|---|
//! | `b` | the key is in base64 | x | x | x | x |
//! | `k` | answer the key; behind one in base64 comes ` b` | x | x | x | x |
//! | `O`*text* | answer the same; at most [`OPAQUE_MAX_BYTES`] | x | x | x | x |
//! | `q` | no answer to `EN` (`mg`) or to `HD` and `VA` (others) | x | x | x | x |
//! | `c` `t` | answer the CAS unique; seconds to live, -1 for ever | x | `c` | | x |
//! | `s` | answer the length of the value | x | x | | |
//! | `f` `h` `l` | answer the client flags; whether it was fetched before; seconds since it last was | x | | | |
//! | `v` | answer the value | x | | | x |
//! | `C`*unique* | only if the unique is this; for `mg`, no value if it is | x | x | x | x |
//! | `E`*unique* | what is written gets this unique | x | x | x | x |
//! | `T`*exptime* | the item's exptime from now on | x | x | with `I` or `x` | x |
//! | `N`*exptime* | a miss makes an item with this exptime | x | with `MA` and `MP` | | x |
//! | `R`*exptime* | whoever asks first when less is left to live is to make it anew | x | | | |
//! | `u` | the fetch does not count | x | | | |
//! | `I` | `ms`: an older unique stores, and the item is stale; `md`: mark as stale instead of removing | | x | x | |
//! | `F`*flags* | the client flags | | x | with `x` | |
//! | `x` | remove the value and the client flags, keep the item | | | x | |
//! | `M`*mode* | `ms`: `E` add, `A` append, `P` prepend, `R` replace, `S` set; `ma`: `I` `+` up, `D` `-` down | | x | | x |
//! | `J`*number* `D`*number* | the first number of an item made by `N`; by how much | | | | x |
//! | `P` `L` | for proxies, ignored | x | x | x | x |
//!
//! What is asked for is answered in the order of the flags. Then, for `mg`, ` Z` when another client has been told to make the item anew, ` X` when it is stale, ` W` when this
//! client is the one to make it anew.
//!
//! Errors are answered in spite of `q`. The data block of an `ms` whose flags are refused is swallowed; that of one whose words or length are refused is not.
//!
//! A key is at most [`KEY_MAX_BYTES`] as written, also in base64. `me` decodes its key only if a further word follows its `b`, as memcached does.
//!
//! Differs from memcached on purpose: an opaque that is too long is refused before anything is done, whereas memcached may have touched or counted by then;
//! and `k` answers the key in base64 if the request had it so, whereas memcached does if the item was stored so (and writes the bytes of one that `N` made as they are, line ends included).

mod base64;
mod options;

pub(crate) use base64::encode;
pub use options::Options;

use crate::command::{Line, loud};
use crate::error::ClientError;
use crate::number::strict_i32;
use crate::request::Request;
use crate::{KEY_MAX_BYTES, TOKENS_MAX, VALUE_MAX_BYTES};

/// Longest word of an opaque, its `O` included.
pub const OPAQUE_MAX_BYTES: usize = 32;

/// Most words of a meta line, command and key included.
pub const META_WORDS_MAX: usize = 20;

/// The meta commands that are about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVerb {
    /// `mg`.
    Get,
    /// `ms`.
    Set,
    /// `md`.
    Delete,
    /// `ma`.
    Arith,
    /// `me`.
    Debug,
}

/// The line of a meta command. Its flags have been found right; [`Options::read`] tells what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta<'a> {
    /// Which meta command it is.
    pub verb: MetaVerb,
    /// Whether the key is in base64.
    base64: bool,
    /// The key as it stands in the line.
    wire: &'a [u8],
    /// The flags; for `me` further words without a meaning.
    pub words: Words<'a>,
    /// Length of the value in bytes, at most [`VALUE_MAX_BYTES`]; 0 for all but `ms`.
    pub value_bytes: u32,
}

// Beside its value a request must not grow beyond a cache line.
const _: () = assert!(size_of::<Meta<'_>>() <= 40);

impl<'a> Meta<'a> {
    /// The key.
    #[inline]
    #[must_use]
    pub fn key(&self) -> MetaKey<'a> {
        MetaKey {
            wire: self.wire,
            base64: self.base64,
        }
    }

    /// How many bytes of the input behind the line belong to it: the value of an `ms` and its line end.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        if self.verb == MetaVerb::Set {
            u64::from(self.value_bytes) + 2
        } else {
            0
        }
    }
}

/// The key of a meta command as it stands in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaKey<'a> {
    wire: &'a [u8],
    base64: bool,
}

impl<'a> MetaKey<'a> {
    /// Whether it is written in base64.
    #[must_use]
    pub fn is_base64(&self) -> bool {
        self.base64
    }

    /// The key itself, unless it is written in base64.
    #[inline]
    #[must_use]
    pub fn plain(&self) -> Option<&'a [u8]> {
        if self.base64 { None } else { Some(self.wire) }
    }

    /// The key itself, 1 to 250 bytes; `buffer` is where it is decoded if it has to be.
    #[inline]
    pub fn bytes<'b>(&self, buffer: &'b mut [u8; KEY_MAX_BYTES]) -> &'b [u8]
    where
        'a: 'b,
    {
        if !self.base64 {
            return self.wire;
        }
        let len = base64::decode(self.wire, buffer).expect("the parser has decoded it before");
        &buffer[..len]
    }
}

/// The flags of a meta line, as they were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// Flags that a parser has found right, from [`Words::text`].
    #[must_use]
    pub fn of_text(text: &'a [u8]) -> Self {
        Self(text)
    }

    /// The words and the spaces between them; shorter than a line.
    #[must_use]
    pub fn text(&self) -> &'a [u8] {
        self.0
    }

    /// What each word begins with, in order.
    pub fn letters(self) -> impl Iterator<Item = u8> {
        let mut words = self;
        core::iter::from_fn(move || words.take().map(|word| word[0]))
    }

    /// Takes the next word off the front.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<&'a [u8]> {
        let start = self.0.iter().position(|&byte| byte != b' ')?;
        let text = &self.0[start..];
        let end = text
            .iter()
            .position(|&byte| byte == b' ')
            .unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        self.0 = rest;
        Some(word)
    }
}

/// Reads the line of a meta command.
pub(crate) fn read(verb: MetaVerb, line: &[u8]) -> Line<'_> {
    let mut words = Words(&line[2..]);
    let Some(wire) = words.take() else {
        return loud(ClientError::BadFormat);
    };
    let mut value_bytes = 0;
    let mut before = 2;
    let mut length = None;
    if verb == MetaVerb::Set {
        length = words.take();
        before = 3;
    }
    // What can be no flag at all is found before the length is read, and then no data is swallowed.
    if !begin_well(words, TOKENS_MAX - before) {
        return loud(ClientError::BadFormat);
    }
    if verb == MetaVerb::Set {
        let Some(bytes) = length
            .and_then(strict_i32)
            .and_then(|bytes| u32::try_from(bytes).ok())
            .filter(|&bytes| bytes <= VALUE_MAX_BYTES)
        else {
            return loud(ClientError::BadFormat);
        };
        value_bytes = bytes;
    }
    match flags(verb, wire, words, before) {
        Ok(base64) => Request::Meta(Meta {
            verb,
            base64,
            wire,
            words,
            value_bytes,
        })
        .into(),
        Err(error) => Line::Invalid {
            error: Some(error),
            skip: if verb == MetaVerb::Set {
                u64::from(value_bytes) + 2
            } else {
                0
            },
        },
    }
}

/// Whether each of the words that are looked at begins with a letter, with one of the six characters between the cases, or with a digit.
#[inline]
fn begin_well(mut words: Words<'_>, seen: usize) -> bool {
    for _ in 0..seen {
        match words.take() {
            None => return true,
            Some([b'A'..=b'z' | b'0'..=b'9', ..]) => {}
            Some(_) => return false,
        }
    }
    true
}

/// Finds out whether the flags of a line are right, and whether its key is in base64.
fn flags(
    verb: MetaVerb,
    wire: &[u8],
    mut words: Words<'_>,
    before: usize,
) -> Result<bool, ClientError> {
    if verb == MetaVerb::Debug {
        let base64 = words.take() == Some(b"b") && words.take().is_some();
        let mut buffer = [0; KEY_MAX_BYTES];
        let readable = !base64 || base64::decode(wire, &mut buffer).is_some();
        return if wire.len() <= KEY_MAX_BYTES && readable {
            Ok(base64)
        } else {
            Err(ClientError::BadFormat)
        };
    }
    let options = match Options::check(wire, words, META_WORDS_MAX - before) {
        Ok(options) => options,
        // What is wrong with the flags of an `ma` is not told apart.
        Err(_) if verb == MetaVerb::Arith => return Err(ClientError::ArithFlag),
        Err(error) => return Err(error),
    };
    match (verb, options.mode) {
        (MetaVerb::Set, 0 | b'E' | b'A' | b'P' | b'R' | b'S') => {}
        (MetaVerb::Set, _) => return Err(ClientError::StoreMode),
        (MetaVerb::Arith, 0 | b'I' | b'+' | b'D' | b'-') => {}
        (MetaVerb::Arith, _) => return Err(ClientError::ArithMode),
        _ => {}
    }
    if options.opaque_bytes > OPAQUE_MAX_BYTES {
        return Err(ClientError::OpaqueTooLong);
    }
    Ok(options.has(b'b'))
}
