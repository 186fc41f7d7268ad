//! How long requests are in the server, counted by the server itself.
//!
//! ```text
//!            tick                 tick                     tick
//!   |-- clock --------|   |-- clock -----------|   |-- clock --------|
//!        ^ last byte of a request is seen                reply given to the kernel ^
//!     ^                                                                            ^
//!     +------------------------- what is counted ---------------------------------+
//! ```
//!
//! A request's time begins with the tick in which the worker sees its last byte, at the reading of
//! the clock that begins every tick, and ends with the tick in which the last of its reply was
//! handed to the kernel, at the reading that ends it. So there is no reading of the clock a request:
//! those that begin and end in one tick, which are nearly all, are counted by class as they come,
//! and recorded together when the tick ends.
//!
//! Inside are: parsing, TLS where a listener has it, the requests that were served before it in the same tick, the way to
//! another worker and back with all that it waits for there, waiting for a share of the tick, for
//! credits and for room behind replies that the client does not take, a large value up to the last
//! piece that the kernel took, and, while ticks follow each other, the system call that hands the
//! replies over. Outside are: the time between the arrival of the bytes at the host and the tick
//! that sees them (the kernel's receive path, and a worker that is in a long tick or was not
//! scheduled; the longest ticks tell of that), the last system call before a worker sleeps, the
//! kernel's send path, the network and the client.
//!
//! Always true: the figure errs on the long side. A get of many keys is one request, and lasts until its
//! last key is answered. Requests that one receive brought, and of which one had to wait, count as
//! answered together, with the last of them. What has no reply counts as answered with the replies
//! before it. Requests of a connection that is gone before the answer are not counted.

pub mod histogram;
pub mod ticks;
pub mod waiting;

use strata_protocol::binary::Command;
use strata_protocol::{GetKey, MetaVerb, Request};

use crate::session::Intent;
pub use histogram::{Durations, Histogram};

/// Classes of requests that are told apart.
pub const CLASSES: usize = 6;

/// A class of requests, in all protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `get`, `gets`, `mg`, and the Gets of the binary protocol.
    Get,
    /// Everything that brings a value.
    Set,
    /// `touch`, `gat`, `gats`.
    Touch,
    /// `delete`, `md`.
    Delete,
    /// `incr`, `decr`, `ma`.
    Arith,
    /// Whatever is about no item, or about all, and what was no request.
    Other,
}

impl Class {
    /// All of them, in the order they are told.
    pub const ALL: [Self; CLASSES] = [
        Self::Get,
        Self::Set,
        Self::Touch,
        Self::Delete,
        Self::Arith,
        Self::Other,
    ];

    /// As operators read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Touch => "touch",
            Self::Delete => "delete",
            Self::Arith => "arith",
            Self::Other => "other",
        }
    }

    /// The class of an intent.
    #[must_use]
    pub fn of(intent: &Intent<'_>) -> Self {
        match intent {
            Intent::Get(GetKey { kind, .. }) if kind.touches() => Self::Touch,
            Intent::Get(_) => Self::Get,
            Intent::Store(..)
            | Intent::Taken(_)
            | Intent::TooLarge(_)
            | Intent::NoRoom(_)
            | Intent::MetaTooLarge(_)
            | Intent::PacketTooLarge(_) => Self::Set,
            Intent::Meta(meta, _) => match meta.verb {
                MetaVerb::Get => Self::Get,
                MetaVerb::Set => Self::Set,
                MetaVerb::Delete => Self::Delete,
                MetaVerb::Arith => Self::Arith,
                MetaVerb::Debug => Self::Other,
            },
            Intent::Packet(packet, _) => match packet.command {
                Command::Get | Command::GetKey => Self::Get,
                Command::Touch | Command::GetAndTouch | Command::GetKeyAndTouch => Self::Touch,
                Command::Delete => Self::Delete,
                Command::Increment | Command::Decrement => Self::Arith,
                command if command.store_verb().is_some() => Self::Set,
                _ => Self::Other,
            },
            Intent::Request(request) => match request {
                Request::Delete { .. } => Self::Delete,
                Request::Arith { .. } => Self::Arith,
                Request::Touch { .. } => Self::Touch,
                _ => Self::Other,
            },
            Intent::PacketRefused { .. } | Intent::Answer(_) | Intent::More | Intent::Lost => {
                Self::Other
            }
        }
    }
}

/// Numbers by class; two that stay zero make it as wide as the processor adds at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u32; 8]);

const _: () = assert!(CLASSES <= 8);

impl Tally {
    /// Counts requests of a class.
    #[inline]
    pub fn count(&mut self, class: Class, requests: u32) {
        self.0[class as usize] += requests;
    }

    /// Adds another's and leaves that empty.
    #[inline]
    pub fn take_in(&mut self, other: &mut Self) {
        for (sum, more) in self.0.iter_mut().zip(&other.0) {
            *sum += more;
        }
        other.0 = [0; 8];
    }

    /// Whether nothing was counted.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 8]
    }
}

/// The histograms of one worker, which that worker adds to and everybody reads.
#[derive(Debug, Default)]
pub struct Board([Histogram; CLASSES]);

impl Board {
    /// Records that all these requests took so long.
    #[inline]
    pub fn record(&self, ns: u64, tally: &Tally) {
        for (histogram, requests) in self.0.iter().zip(tally.0) {
            if requests > 0 {
                histogram.record(ns, requests);
            }
        }
    }

    /// Sets everything to zero; only its worker may.
    pub fn reset(&self) {
        self.0.iter().for_each(Histogram::reset);
    }

    /// The histogram of a class.
    #[must_use]
    pub fn of(&self, class: Class) -> &Histogram {
        &self.0[class as usize]
    }
}
