//! memcached's protocols as pure functions: bytes to [`Request`]s, replies to bytes, and for clients of the text protocol the other direction.
//!
//! The crate never sees an item, a socket or a clock. It does not allocate, needs nothing but `core`, and borrows every key from the caller's buffer.
//! Its reference is memcached 1.6.45: where that server's documentation and its binary disagree, the binary is followed.
//!
//! This page is about the text protocol; [`binary`] has the other.
//!
//! # Reading requests
//!
//! ```
//! use strata_protocol::{Parser, Request, Step, block_ends_well};
//!
//! let mut input: &[u8] = b"set greeting 7 0 5\r\nhello\r\nget greeting name\r\n";
//! let mut parser = Parser::new();
//!
//! let (consumed, step) = parser.next(input);
//! input = &input[consumed..];
//! let Step::Request(Request::Store(store)) = step else { panic!() };
//! assert_eq!((store.key, store.flags, store.value_bytes), (&b"greeting"[..], 7, 5));
//!
//! // The data block belongs to the caller: it may be larger than any buffer.
//! let block = &input[..store.block_bytes() as usize];
//! assert!(block_ends_well([block[5], block[6]]));
//! input = &input[block.len()..];
//!
//! // A retrieval line is one request for each key.
//! for (key, first, last) in [(&b"greeting"[..], true, false), (b"name", false, true)] {
//!     let (consumed, step) = parser.next(input);
//!     input = &input[consumed..];
//!     let Step::Request(Request::Get(get)) = step else { panic!() };
//!     assert_eq!((get.key, get.first, get.last), (key, first, last));
//! }
//! assert_eq!(parser.next(input), (0, Step::Incomplete));
//! ```
//!
//! # Grammar
//!
//! A line ends with `\n`; one `\r` before it belongs to the line end. Words are separated by spaces, and by nothing else.
//! Only the first [`TOKENS_MAX`] words of a line are looked at, except that a retrieval line has as many keys as it likes.
//!
//! ```text
//! get|gets key+                                   gat|gats exptime key+
//! set|add|replace|append|prepend key flags exptime bytes [noreply]      then bytes of data and \r\n
//! cas key flags exptime bytes unique [noreply]                          then bytes of data and \r\n
//! delete key [noreply]          incr|decr key delta [noreply]           touch key exptime [noreply]
//! flush_all [exptime] [noreply] verbosity level [noreply]               shutdown [graceful]
//! cache_memlimit megabytes [noreply]               flush_prefix prefix [noreply]
//! stats [subject]               version               mn                quit
//! watch [kind]*                 lru_crawler order [scope] [noreply]     slabs|lru|extstore order ... [noreply]
//! refresh_certs                 debugtime p|r|seconds [noreply]
//! mg|md|ma key flag*            me key [b word]
//! ms key bytes flag*                                                    then bytes of data and \r\n
//! ```
//!
//! The flags of the meta commands are explained in [`meta`]; `noreply` is no flag.
//!
//! Further words are ignored. `noreply` counts only as the last word, and there it also silences an unknown command and most malformed ones;
//! it does not silence a line with too few words, a storage line whose `bytes` is not a length, a retrieval line, or `stats`.
//! `shutdown`, `flush_all`, `flush_prefix`, `cache_memlimit`, `verbosity`, `lru_crawler`, `slabs`, `lru`, `extstore`, `refresh_certs` and `debugtime` may be
//! preceded by spaces, no other command may.
//! Numbers are strict decimal digits (at most 11 characters for 32 bits, 22 for 64 bits), except the flags and exptime of a storage command,
//! which follow C's `strtoul` and `strtol`: a sign, leading white space, and truncation to 32 bits.
//!
//! # What the parser remembers
//!
//! A line of at most [`LINE_MAX_BYTES`] bytes is parsed when its end has arrived; until then the parser holds nothing and is shown the same bytes again.
//! So the only thing to remember is the place inside a retrieval line whose keys are handed out one at a time.
//! However the input is cut, the requests, the errors and the bytes consumed are the same.
//! [`INPUT_MIN_BYTES`] bytes of input are always enough for the next step.
//!
//! A longer line is an error that costs the connection ([`Step::Lost`]), unless it is a retrieval line. That one is parsed as it arrives,
//! and then a key which is too long is only found after earlier keys have been handed out: their replies stand, the error follows them, and the rest of the line is swallowed.
//! On a line within the limit the error comes instead of all its replies.
//!
//! Three corners are more regular than memcached's, whose answer there depends on how TCP cut the line:
//! any non-retrieval line beyond the limit is lost even if it arrives in one piece, `gat` and `gats` lines are as unbounded as `get` lines,
//! and a key together with the spaces behind it must fit [`LINE_MAX_BYTES`].
//! Two more differ on purpose. When a retrieval line names a key that is too long, memcached also drops unsent replies of earlier commands;
//! and if the last key of that line is `noreply` it sends the error's empty line without the error. Here the error is all there is, and in full.
//!
//! # Adding a command
//!
//! Its shape is a variant of [`Request`]; its words and rules are one arm in `command.rs`; its wire texts are in [`reply`] and in `error.rs`.
//! `parser.rs` knows only how lines are cut, and two shortcuts for lines that carry most of the traffic.
#![no_std]
#![forbid(unsafe_code)]

pub mod auth;
pub mod binary;
pub mod client;
mod command;
mod error;
mod expiry;
mod manage;
pub mod meta;
mod number;
mod parser;
pub mod reply;
mod request;
mod scan;
mod token;

pub use error::{ClientError, ServerError};
pub use expiry::{Expiry, RELATIVE_MAX_SECONDS};
pub use meta::{Meta, MetaVerb};
pub use parser::{Parser, Step};
pub use request::{
    ArithVerb, ClockStep, CrawlScope, CrawlerOrder, DetailSwitch, GetKey, GetKind, Request,
    ShutdownMode, StatsSubject, Store, StoreVerb, WatchKinds, block_ends_well,
};

/// Longest key in bytes.
pub const KEY_MAX_BYTES: usize = 250;

/// Longest line in bytes, not counting its `\n`, that is not a retrieval line.
pub const LINE_MAX_BYTES: usize = 2048;

/// How many words of a line are looked at. Words beyond are as if they were not there, so a `noreply` among them has no effect.
///
/// memcached's table of words has 24 places, and the last one marks the end.
pub const TOKENS_MAX: usize = 23;

/// Whoever shows a [`Parser`] this many bytes gets a step that is not [`Step::Incomplete`] with nothing consumed; the lower bound of an input buffer.
pub const INPUT_MIN_BYTES: usize = LINE_MAX_BYTES + 2;

/// Largest value a storage command can announce, in bytes: what memcached adds for the line end must still fit a signed 32-bit number.
pub const VALUE_MAX_BYTES: u32 = i32::MAX as u32 - 2;

#[cfg(test)]
extern crate std;
