//! What travels between workers: a visit (a request to the owner of a key) and a homecoming (its
//! reply). Both are filled in place in mailbox slots, and their bytes live in a [`Parcel`].

use std::mem::offset_of;
use std::os::fd::{OwnedFd, RawFd};

use strata_protocol::binary::Head;
use strata_protocol::reply::Sink;
use strata_protocol::{ArithVerb, MetaVerb, StoreVerb};
use strata_store::{Deadline, KeyHash, ScanPlace, Seconds};

use crate::config::{Entry, INLINE_BYTES, SPILL_KEEP_BYTES};
use crate::session::DumpForm;
use crate::stats::{Snapshot, Topic};

/// The place a reply will take in its session, named from afar. A ticket whose generation is not
/// the session's names a session that is gone; its reply is counted and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    /// Which session of the worker.
    pub session: u32,
    /// Which use of that session's index.
    pub generation: u32,
    /// Which reply of that session, counted from its first; wraps.
    pub slot: u32,
}

impl Ticket {
    /// The ticket of a request whose reply nobody waits for.
    pub const NOBODY: Self = Self {
        session: u32::MAX,
        generation: u32::MAX,
        slot: u32::MAX,
    };
}

/// What is asked of a shard. Times are absolute, so that it means the same on every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read an item; `with_cas` hands out its unique.
    Get {
        /// Whether the reply names the unique.
        with_cas: bool,
        /// Whether it is the last of its command, so that the list ends behind it.
        last: bool,
    },
    /// Read an item and give it a new deadline.
    GetAndTouch {
        /// Whether the reply names the unique.
        with_cas: bool,
        /// The new deadline.
        deadline: Deadline,
        /// As in `Get`.
        last: bool,
    },
    /// Store an item.
    Store {
        /// Which storage command.
        verb: StoreVerb,
        /// The client's flags.
        flags: u32,
        /// The item's deadline.
        deadline: Deadline,
        /// What the unique must be, for `cas`.
        unique: u64,
    },
    /// A storage command whose value is not taken.
    Refuse {
        /// Which storage command.
        verb: StoreVerb,
        /// Whether the value is larger than an item may be; else memory for it was lacking.
        too_large: bool,
    },
    /// Remove an item.
    Delete,
    /// Count up or down.
    Arith {
        /// Which of the two.
        verb: ArithVerb,
        /// By how much.
        delta: u64,
    },
    /// Give an item a new deadline.
    Touch {
        /// The new deadline.
        deadline: Deadline,
    },
    /// What a packet of the binary protocol asks. Of an Increment or Decrement the extras stand where another's value does.
    Packet {
        /// What the reply repeats.
        head: Head,
        /// What the unique must be; 0 for any.
        cas: u64,
        /// The client's flags.
        flags: u32,
        /// The deadline of what is stored or touched.
        deadline: Deadline,
    },
    /// A meta command. Its flags stand before the value.
    Meta {
        /// Which one.
        verb: MetaVerb,
        /// Whether the request had the key in base64.
        base64: bool,
        /// How many bytes the flags are.
        words_bytes: u16,
    },
    /// A packet of the binary protocol whose value is not taken.
    RefusePacket {
        /// What the reply repeats.
        head: Head,
        /// Whether the value is larger than an item may be; else memory for it was lacking.
        too_large: bool,
    },
    /// Forget everything written before a time.
    Flush {
        /// That time.
        at: Seconds,
    },
    /// Forget everything whose key has a prefix.
    FlushPrefix {
        /// The prefix's hash.
        prefix: KeyHash,
    },
    /// Take up the memory limit that all workers share.
    MemoryLimit,
    /// Report counters.
    Snapshot,
    /// Nothing but an answer: whoever gives it has begun a tick after it was asked.
    Attend,
    /// Tell something as text.
    Tell(Topic),
    /// Give these log lines to watchers.
    Lines,
    /// The next slice of a dump of all items.
    Scan {
        /// What is told of each.
        form: DumpForm,
        /// Where the slice begins.
        place: ScanPlace,
    },
    /// Set the counters to zero.
    ResetStats,
    /// Forget how long requests took.
    ResetLatency,
    /// The next piece of a lent value.
    ReadLoan {
        /// Which loan of the owner's.
        loan: u32,
        /// From which byte on.
        offset: u32,
    },
    /// Give a lent value back unread.
    DropLoan {
        /// Which loan of the owner's.
        loan: u32,
    },
    /// Take over a connection.
    Adopt(Entry),
}

/// Bytes in a message: in place when few, else in a buffer the slot keeps for its next use.
///
/// The length alone tells where they are, so that few bytes touch the cache lines they lie in and
/// no others: each line of a message is carried from core to core.
#[derive(Debug)]
#[repr(C)]
pub struct Parcel {
    len: usize,
    inline: [u8; INLINE_BYTES],
    spill: Vec<u8>,
}

impl Default for Parcel {
    fn default() -> Self {
        Self {
            len: 0,
            inline: [0; INLINE_BYTES],
            spill: Vec::new(),
        }
    }
}

impl Parcel {
    /// Empties the parcel, keeping a small buffer and giving back a large one. Of a parcel without
    /// one nothing is touched but the length.
    #[inline]
    pub fn clear(&mut self) {
        if self.len > INLINE_BYTES {
            self.clear_spill();
        }
        self.len = 0;
    }

    #[cold]
    fn clear_spill(&mut self) {
        if self.spill.capacity() > SPILL_KEEP_BYTES {
            self.spill = Vec::new();
        } else {
            self.spill.clear();
        }
    }

    /// Gives a large buffer back as soon as its content is used up, instead of with the next use.
    #[inline]
    pub fn used(&mut self) {
        if self.len > INLINE_BYTES {
            self.clear();
        }
    }

    /// Takes `bytes` over as the whole content, without a copy unless they are few.
    pub fn adopt(&mut self, bytes: Vec<u8>) {
        self.clear();
        if bytes.len() <= INLINE_BYTES {
            self.put(&bytes);
        } else {
            self.len = bytes.len();
            self.spill = bytes;
        }
    }

    /// The content.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        if self.len <= INLINE_BYTES {
            &self.inline[..self.len]
        } else {
            &self.spill
        }
    }

    #[cold]
    fn put_spilling(&mut self, bytes: &[u8]) {
        if self.len <= INLINE_BYTES {
            self.spill.clear();
            self.spill.extend_from_slice(&self.inline[..self.len]);
        }
        self.spill.extend_from_slice(bytes);
        self.len = self.spill.len();
    }
}

impl Sink for Parcel {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let len = self.len + bytes.len();
        if len <= INLINE_BYTES {
            self.inline[self.len..len].copy_from_slice(bytes);
            self.len = len;
        } else {
            self.put_spilling(bytes);
        }
    }
}

/// A value too large to be copied, which a shard has lent for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lent {
    /// The owner's number of the loan.
    pub loan: u32,
    /// The value's length.
    pub value_bytes: u32,
    /// What follows the value in its reply.
    pub tail: &'static [u8],
}

/// A request to another worker.
///
/// What every request has comes first and the key right behind it, so that a get takes two cache
/// lines, which processors fetch as a pair.
#[derive(Debug)]
#[repr(C, align(128))]
pub struct Visit {
    /// The key's hash.
    pub hash: KeyHash,
    /// What to do.
    pub op: Op,
    /// Where the reply belongs.
    pub ticket: Ticket,
    /// The descriptor of the client's connection, which names it in log lines.
    pub asker: RawFd,
    /// How much of the parcel is the key; the rest is the value.
    pub key_bytes: u8,
    /// Whether the reply is to be left out (`noreply`).
    pub quiet: bool,
    /// Key and value.
    pub parcel: Parcel,
    /// The connection of an [`Op::Adopt`].
    pub fd: Option<OwnedFd>,
}

impl Visit {
    /// Makes it a request without key and value, as far as the shard is concerned.
    pub fn errand(&mut self, ticket: Ticket, op: Op) {
        self.ticket = ticket;
        self.op = op;
        self.key_bytes = 0;
        self.quiet = true;
        self.parcel.clear();
    }
}

impl Default for Visit {
    fn default() -> Self {
        Self {
            ticket: Ticket::default(),
            hash: KeyHash::default(),
            op: Op::Delete,
            key_bytes: 0,
            quiet: false,
            asker: -1,
            parcel: Parcel::default(),
            fd: None,
        }
    }
}

/// What a reply brings besides its bytes.
#[derive(Debug, Default)]
pub enum Extra {
    /// Nothing.
    #[default]
    Nothing,
    /// A lent value, which follows the bytes.
    Lent(Lent),
    /// After [`Op::Scan`]: where the next slice begins, if there is one.
    Scanned(Option<ScanPlace>),
    /// The answer to [`Op::Snapshot`].
    Snapshot(Box<Snapshot>),
}

/// A reply to another worker. The short one of a get takes two or three cache lines.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub struct Homecoming {
    /// What it brings besides its bytes.
    pub extra: Extra,
    /// Where it belongs.
    pub ticket: Ticket,
    /// The reply as it goes to the client, or the part of it before a lent value.
    pub parcel: Parcel,
}

// The key of a get, and most of its reply, share the first two lines with what names them.
const _: () = assert!(offset_of!(Visit, parcel) + offset_of!(Parcel, inline) <= 96);
const _: () = assert!(offset_of!(Homecoming, parcel) + offset_of!(Parcel, inline) <= 64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_holds_what_was_put_whatever_the_pieces() {
        for total in [0, 1, INLINE_BYTES - 1, INLINE_BYTES, INLINE_BYTES + 1, 5000] {
            let bytes: Vec<u8> = (0..total).map(|i| i as u8).collect();
            for piece in [1, 7, 100, 5000] {
                let mut parcel = Parcel::default();
                for part in bytes.chunks(piece) {
                    parcel.put(part);
                }
                assert_eq!(parcel.bytes(), bytes);
                parcel.clear();
                assert_eq!(parcel.bytes(), b"");
                parcel.put(b"next");
                assert_eq!(parcel.bytes(), b"next");
            }
        }
    }

    #[test]
    fn a_large_buffer_is_not_kept() {
        let mut parcel = Parcel::default();
        for give_back in [Parcel::clear, Parcel::used] {
            parcel.adopt(vec![1; SPILL_KEEP_BYTES + 1]);
            assert_eq!(parcel.bytes().len(), SPILL_KEEP_BYTES + 1);
            give_back(&mut parcel);
            assert_eq!(parcel.bytes(), b"");
            assert_eq!(parcel.spill.capacity(), 0);
        }
    }
}
