//! memcached's binary protocol: packets instead of lines.
//!
//! A packet is a header of [`HEADER_BYTES`] bytes and a body; numbers are big-endian.
//!
//! ```text
//!          0     1        2..4       4       5     6..8       8..12    12..16   16..24
//!  head  | 80  | opcode | key len  | extras | 0  | 0        | body   | opaque | CAS     |   request
//!        | 81  | opcode | key len  | extras | 0  | status   | body   | opaque | CAS     |   reply
//!  body  | extras | key | value |                 body = extras + key + value, in bytes
//! ```
//!
//! A reply repeats the opcode and the opaque of its request ([`Head`]). Opcodes that end in `Q` are quiet: a retrieval leaves out a miss, every other command
//! leaves out its success. What is wrong is said by both.
//!
//! | command | extras of the request | body of the reply |
//! |---|---|---|
//! | Get, GetK, their quiet forms | | flags, key if `K`, value; a miss of a `K` form is its key, of the others a text |
//! | Set, Add, Replace | flags, exptime | |
//! | Append, Prepend, Delete, Noop, Quit | | |
//! | Increment, Decrement | delta (8 bytes), initial (8), exptime; `ffffffff` creates nothing | the number (8 bytes) |
//! | Flush | exptime, or nothing | |
//! | Version | | text |
//! | Stat | | one reply for each figure, name as key and figure as value, then one with neither |
//! | Touch, GAT, GATK, their quiet forms | exptime | as Get, a Touch without value |
//!
//! A CAS other than 0 in a Set, Add, Replace, Append, Prepend, Delete, Increment or Decrement is what the item's unique must be. An exptime has no sign.
//!
//! # Reading requests
//!
//! ```
//! use strata_protocol::binary::{self, Command, Step};
//!
//! let mut input: &[u8] = b"\x80\x01\0\x01\x08\0\0\0\0\0\0\x0e\0\0\0\x2a\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0khello";
//! let (consumed, step) = binary::read(input);
//! let Step::Request(set) = step else { panic!() };
//! assert_eq!((set.command, set.key(), set.flags(), set.value_bytes), (Command::Set, &b"k"[..], 7, 5));
//!
//! // The value belongs to the caller: it may be larger than any buffer. Nothing follows it.
//! input = &input[consumed..];
//! assert_eq!(input, b"hello");
//! ```
//!
//! # What is malformed
//!
//! A first byte other than `80` costs the connection without a word ([`Step::Lost`]). Lengths that contradict each other, that are beyond a limit, or that
//! are not those of the command cost it with a last reply. An opcode that nobody knows costs nothing. Four of memcached 1.6.45's habits are kept, because
//! what is in use may rely on them: there is no Verbosity (`1b`); SASL opcodes are unknown but malformed ones still cost the connection; a body that is
//! longer than the extras and the key of a Touch, GAT or Stat is read as the next packet; and a header is judged when extras and key have arrived.
//!
//! Some are not. memcached skips the extras and the key of an unknown opcode twice and so loses its place in the stream; here its body is skipped once.
//! A key that exceeds a small buffer hangs memcached up without a reply; here it is malformed as any other long key. And a stream that goes wrong does not
//! cost the replies that came before.
//!
//! What a server makes of a request it may decide otherwise in two corners: memcached does not count a packet's value among those that were too large, and
//! tells an Increment that both has another unique and meets an empty value of the value; Strata counts it, and tells of the unique.

mod read;
pub mod reply;

pub use read::{Step, read};

use crate::request::{ArithVerb, StoreVerb};

/// The length of a header.
pub const HEADER_BYTES: usize = 24;

/// The first byte of a request. No line of the text protocol begins with it that memcached would know, so it tells the protocols apart.
pub const REQUEST_MAGIC: u8 = 0x80;

/// The first byte of a reply.
pub const REPLY_MAGIC: u8 = 0x81;

/// The longest body, in bytes.
pub const BODY_MAX_BYTES: u32 = 1 << 30;

/// The exptime of an Increment or Decrement that is not to create a number.
const CREATE_NOTHING: u32 = u32::MAX;

/// What a reply repeats of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// As on the wire, whether or not it is known.
    pub opcode: u8,
    /// The client's own, of no meaning here.
    pub opaque: u32,
}

/// The commands, quiet or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Return flags and value.
    Get,
    /// Return flags, key and value.
    GetKey,
    /// Give an item a new deadline and return its flags.
    Touch,
    /// Give an item a new deadline and return flags and value.
    GetAndTouch,
    /// Give an item a new deadline and return flags, key and value.
    GetKeyAndTouch,
    /// Store.
    Set,
    /// Store if the key does not exist.
    Add,
    /// Store if the key exists.
    Replace,
    /// Put the value behind what is there.
    Append,
    /// Put the value before what is there.
    Prepend,
    /// Remove an item.
    Delete,
    /// Add to a number, or create it.
    Increment,
    /// Subtract from a number, or create it.
    Decrement,
    /// Make every item older than a point in time a miss.
    Flush,
    /// Do nothing, and send what is ready.
    Noop,
    /// Ask for the version.
    Version,
    /// Ask for statistics; the key names the subject.
    Stat,
    /// Close the connection once the earlier replies, and this one's, are sent.
    Quit,
}

impl Command {
    /// The command of an opcode, and whether it is a quiet form.
    #[must_use]
    pub const fn of(opcode: u8) -> Option<(Self, bool)> {
        Some(match opcode {
            0x00 => (Command::Get, false),
            0x01 => (Command::Set, false),
            0x02 => (Command::Add, false),
            0x03 => (Command::Replace, false),
            0x04 => (Command::Delete, false),
            0x05 => (Command::Increment, false),
            0x06 => (Command::Decrement, false),
            0x07 => (Command::Quit, false),
            0x08 => (Command::Flush, false),
            0x09 => (Command::Get, true),
            0x0a => (Command::Noop, false),
            0x0b => (Command::Version, false),
            0x0c => (Command::GetKey, false),
            0x0d => (Command::GetKey, true),
            0x0e => (Command::Append, false),
            0x0f => (Command::Prepend, false),
            0x10 => (Command::Stat, false),
            0x11 => (Command::Set, true),
            0x12 => (Command::Add, true),
            0x13 => (Command::Replace, true),
            0x14 => (Command::Delete, true),
            0x15 => (Command::Increment, true),
            0x16 => (Command::Decrement, true),
            0x17 => (Command::Quit, true),
            0x18 => (Command::Flush, true),
            0x19 => (Command::Append, true),
            0x1a => (Command::Prepend, true),
            0x1c => (Command::Touch, false),
            0x1d => (Command::GetAndTouch, false),
            0x1e => (Command::GetAndTouch, true),
            0x23 => (Command::GetKeyAndTouch, false),
            0x24 => (Command::GetKeyAndTouch, true),
            _ => return None,
        })
    }

    /// Which storage command of the text protocol does the same. None for commands that bring no value.
    #[must_use]
    pub const fn store_verb(self) -> Option<StoreVerb> {
        Some(match self {
            Command::Set => StoreVerb::Set,
            Command::Add => StoreVerb::Add,
            Command::Replace => StoreVerb::Replace,
            Command::Append => StoreVerb::Append,
            Command::Prepend => StoreVerb::Prepend,
            _ => return None,
        })
    }

    /// Which arithmetic command of the text protocol does the same, where there is a number.
    #[must_use]
    pub const fn arith_verb(self) -> Option<ArithVerb> {
        Some(match self {
            Command::Increment => ArithVerb::Incr,
            Command::Decrement => ArithVerb::Decr,
            _ => return None,
        })
    }

    /// Whether an item gets a new deadline and nothing else.
    #[must_use]
    pub const fn touches(self) -> bool {
        matches!(
            self,
            Command::Touch | Command::GetAndTouch | Command::GetKeyAndTouch
        )
    }

    /// Whether the reply names the key.
    #[must_use]
    pub const fn returns_key(self) -> bool {
        matches!(self, Command::GetKey | Command::GetKeyAndTouch)
    }

    /// Whether the key is an item's.
    #[must_use]
    pub const fn has_key(self) -> bool {
        !matches!(
            self,
            Command::Flush | Command::Noop | Command::Version | Command::Stat | Command::Quit
        )
    }
}

/// One request. Its value, if the command has one, follows in the input and is the caller's to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What the reply repeats.
    pub head: Head,
    /// What to do.
    pub command: Command,
    /// Whether the expected outcome is to be left unsaid.
    pub quiet: bool,
    extras_bytes: u8,
    /// Length of the value in bytes; 0 for a command without one.
    pub value_bytes: u32,
    /// What the item's unique must be; 0 for any.
    pub cas: u64,
    /// Extras, then key: one borrow instead of two, because requests are moved about.
    front: &'a [u8],
}

impl<'a> Request<'a> {
    /// 1 to 250 bytes of any kind where the command has an item; the subject of a Stat, which may be empty.
    #[inline]
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        &self.front[usize::from(self.extras_bytes)..]
    }

    /// As long as the command wants them.
    #[must_use]
    pub fn extras(&self) -> &'a [u8] {
        &self.front[..usize::from(self.extras_bytes)]
    }

    /// The flags of what is to be stored; 0 where the command has none.
    #[must_use]
    pub fn flags(&self) -> u32 {
        match self.command {
            Command::Set | Command::Add | Command::Replace => number_at(self.extras(), 0),
            _ => 0,
        }
    }

    /// The exptime, 0 where the request has none; see [`crate::Expiry`]. It is never negative.
    #[must_use]
    pub fn exptime(&self) -> i64 {
        i64::from(match self.extras_bytes {
            4 => number_at(self.front, 0),
            8 => number_at(self.front, 4),
            20 => number_at(self.front, 16),
            _ => 0,
        })
    }
}

/// The extras of an Increment or Decrement, but for the exptime of what it creates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arith {
    /// By how much.
    pub delta: u64,
    /// What to store where there is no item; None creates nothing.
    pub initial: Option<u64>,
}

impl Arith {
    /// Reads [`Request::extras`] of an Increment or Decrement.
    ///
    /// # Panics
    /// When they are another command's.
    #[must_use]
    pub fn read(extras: &[u8]) -> Self {
        let wide =
            |at| u64::from(number_at(extras, at)) << 32 | u64::from(number_at(extras, at + 4));
        Self {
            delta: wide(0),
            initial: (number_at(extras, 16) != CREATE_NOTHING).then_some(wide(8)),
        }
    }
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As wanted.
    Success,
    /// No such item, or no such subject of a Stat.
    NotFound,
    /// There is such an item, or it has another unique.
    Exists,
    /// The value is larger than an item may be.
    TooLarge,
    /// Malformed.
    Invalid,
    /// Nothing to append to, or no room to.
    NotStored,
    /// Arithmetic on something that is not a number.
    NonNumeric,
    /// Not allowed.
    Refused,
    /// No such opcode.
    UnknownCommand,
    /// No memory for it.
    OutOfMemory,
}

impl Status {
    /// As on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Status::Success => 0,
            Status::NotFound => 1,
            Status::Exists => 2,
            Status::TooLarge => 3,
            Status::Invalid => 4,
            Status::NotStored => 5,
            Status::NonNumeric => 6,
            Status::Refused => 0x20,
            Status::UnknownCommand => 0x81,
            Status::OutOfMemory => 0x82,
        }
    }

    /// The body of a reply with this status.
    #[must_use]
    pub const fn text(self) -> &'static [u8] {
        match self {
            Status::Success => b"",
            Status::NotFound => b"Not found",
            Status::Exists => b"Data exists for key.",
            Status::TooLarge => b"Too large.",
            Status::Invalid => b"Invalid arguments",
            Status::NotStored => b"Not stored.",
            Status::NonNumeric => b"Non-numeric server-side value for incr or decr",
            Status::Refused => b"Auth failure.",
            Status::UnknownCommand => b"Unknown command",
            Status::OutOfMemory => b"Out of memory",
        }
    }
}
