//! The sans-I/O half of one connection: which requests are outstanding, which replies they
//! expect, whether those came, and what they lead to.
//!
//! Always true: replies are matched to requests in the order sent; a reply cut into any pieces
//! gives the same result as the whole; and what is remembered is bounded by the depth, never by
//! what the server sends.
//!
//! Three replies lead to a request that the stream did not name: the value read for a cas to the
//! cas, a miss to a write where the workload asks for that, and a counter that is not there to an
//! add of it. Such a request is due when the reply was seen, and has its place in the depth kept.
//!
//! `ask` renders requests, `answer` takes replies; here is what both share.

use std::collections::VecDeque;

use strata_protocol::client::REPLY_LINE_MAX_BYTES;

use crate::kind::Kind;
use crate::tally::Tally;
use crate::workload::values::Check;

mod answer;
mod ask;
mod fixed;
pub mod meta;
pub mod terms;

pub use terms::{Dialect, Terms, Verify};

/// What an answer may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Nothing,
    /// A value read is written back changed.
    Cas,
    /// A miss is filled.
    SetOnMiss,
    /// A counter that is missing is added.
    AddCounter,
}

struct Outstanding {
    due_ns: u64,
    sent_ns: u64,
    /// The first of its keys.
    key: u64,
    bytes: u32,
    key_count: u32,
    value_bytes: u32,
    exptime: u32,
    kind: Kind,
    then: Then,
}

/// A request that a reply has led to.
struct FollowUp {
    kind: Kind,
    key: u64,
    /// For a cas.
    unique: u64,
    value_bytes: u32,
    exptime: u32,
    /// When the reply was seen.
    due_ns: u64,
}

/// The data block of a hit while it arrives.
struct Block {
    /// Bytes of value still to come.
    value_left: usize,
    /// Bytes of the line end still to come.
    end_left: u8,
    /// `None`: not among the sample.
    check: Option<Check>,
    key: u64,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

/// One connection without its socket.
pub struct Pipeline {
    outstanding: VecDeque<Outstanding>,
    /// Keys of the outstanding retrievals that have not been found or passed over.
    keys: VecDeque<u64>,
    follow_ups: VecDeque<FollowUp>,
    depth: usize,
    /// Beginning of a line whose end has not come.
    line: Vec<u8>,
    block: Option<Block>,
    /// Of the retrieval in front: keys found and passed over so far, the unique of the last, and
    /// bytes of its reply.
    hits: u32,
    passed: u32,
    unique: Option<u64>,
    reply_bytes: u64,
    sample_in: u32,
    /// Of the newest value that a reply led to.
    version: u64,
    /// Opaques of the newest request sent and of the newest answered.
    opaque_sent: u32,
    opaque_answered: u32,
    set_on_miss: bool,
    /// Its number among the connections of all threads.
    index: usize,
}

impl Pipeline {
    /// Connection number `index` of a run, on which at most `depth` requests of `keys_per_get`
    /// keys are outstanding.
    pub fn new(index: u64, depth: usize, keys_per_get: usize, set_on_miss: bool) -> Self {
        Self {
            outstanding: VecDeque::with_capacity(depth),
            keys: VecDeque::with_capacity(depth * keys_per_get),
            follow_ups: VecDeque::new(),
            depth,
            line: Vec::with_capacity(REPLY_LINE_MAX_BYTES + 1),
            block: None,
            hits: 0,
            passed: 0,
            unique: None,
            reply_bytes: 0,
            sample_in: 0,
            // Apart from the versions of every stream.
            version: (1 << 63) | (index << 40),
            opaque_sent: 0,
            opaque_answered: 0,
            set_on_miss,
            index: index as usize,
        }
    }

    /// Changes how many requests of `keys_per_get` keys may be outstanding.
    pub fn set_depth(&mut self, depth: usize, keys_per_get: usize) {
        self.depth = depth;
        let more = |capacity: usize, length: usize| capacity.saturating_sub(length);
        self.outstanding
            .reserve(more(depth, self.outstanding.len()));
        self.keys
            .reserve(more(depth * keys_per_get, self.keys.len()));
    }

    /// Whether another request may be sent.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.unfinished_count() < self.depth
    }

    /// Requests sent and not answered.
    #[inline]
    pub fn outstanding_count(&self) -> usize {
        self.outstanding.len()
    }

    /// Requests sent and not answered, and those that replies have led to.
    #[inline]
    pub fn unfinished_count(&self) -> usize {
        self.outstanding.len() + self.follow_ups.len()
    }

    /// Whether a reply has led to a request that was not sent yet.
    #[inline]
    pub fn has_follow_up(&self) -> bool {
        !self.follow_ups.is_empty()
    }

    /// Gives up on what is outstanding: each counts with its age.
    pub fn give_up(&mut self, now_ns: u64, tally: &mut Tally) {
        for request in self.outstanding.drain(..) {
            tally.gave_up(request.kind, request.due_ns, Some(request.sent_ns), now_ns);
        }
        self.keys.clear();
        // What was not sent was not offered either.
        self.follow_ups.clear();
        self.block = None;
        self.line.clear();
        self.hits = 0;
        self.passed = 0;
        self.unique = None;
        self.reply_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
