//! Request x shard x now -> reply.
//!
//! A [`Keeper`] is a shard with the counters and the loans that belong to it. It sees no session:
//! the same code answers this worker's sessions and other workers' visits, and writes the reply
//! as the client will see it.

use std::io::IoSlice;

use arrayvec::ArrayVec;
use strata_protocol::reply::{self, Sink};
use strata_protocol::{ArithVerb, ClientError, ServerError, StoreVerb};
use strata_store::{
    ArithOutcome, Arithmetic, DeleteOutcome, Hit, ItemRef, Key, Loan, NewItem, Probe, SetOutcome,
    Shard, TouchOutcome, Unique,
};

use crate::clock::Now;
use crate::config::{LEND_MIN_BYTES, PARTS_MAX, PIECE_BYTES};
use crate::memory::Memory;
use crate::message::{Lent, Op};
use crate::stats::Counters;

/// A shard and what its worker keeps beside it.
pub struct Keeper {
    /// The items.
    pub shard: Shard<Memory>,
    /// What the commands did.
    pub counters: Counters,
    /// Values lent to sessions here and elsewhere, by loan number.
    lent: Vec<Option<(Loan, u32)>>,
    /// Loan numbers that are free.
    free: Vec<u32>,
    /// Whether uniques are shown.
    cas: bool,
}

/// What remains to be done for a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// The value and what comes behind it follow.
    Lent(Lent),
}

impl Keeper {
    /// Takes over an empty shard. Without `cas`, uniques read as 0 and `cas` is compared with 0.
    #[must_use]
    pub fn new(shard: Shard<Memory>, cas: bool) -> Self {
        Self {
            shard,
            counters: Counters::default(),
            lent: Vec::new(),
            free: Vec::new(),
            cas,
        }
    }

    /// Does what is asked and writes the reply; writes nothing when `quiet`.
    #[inline]
    pub fn execute(
        &mut self,
        now: &Now,
        op: Op,
        key: Key<'_>,
        value: &[u8],
        quiet: bool,
        out: &mut impl Sink,
    ) -> Outcome {
        match op {
            Op::Get { with_cas, last } => {
                let probe = self.shard.prefetch_buckets(key.hash);
                return self.get(now, probe, key.bytes, with_cas, last, out);
            }
            Op::Store {
                verb,
                flags,
                deadline,
                unique,
            } => {
                let item = NewItem {
                    flags,
                    deadline,
                    value,
                };
                let text = self.store(now, key, verb, item, unique);
                if !quiet {
                    out.put(text);
                }
            }
            _ => return self.execute_rare(now, op, key, quiet, out),
        }
        Outcome::Done
    }

    fn execute_rare(
        &mut self,
        now: &Now,
        op: Op,
        key: Key<'_>,
        quiet: bool,
        out: &mut impl Sink,
    ) -> Outcome {
        let seconds = now.seconds;
        let text = match op {
            Op::GetAndTouch {
                with_cas,
                deadline,
                last,
            } => {
                self.counters.cmd_touch += 1;
                let hit = self
                    .shard
                    .get_and_touch(key, deadline, seconds, self.unique(with_cas));
                let Some(hit) = hit else {
                    self.counters.touch_misses += 1;
                    return reply_miss(last, out);
                };
                self.counters.touch_hits += 1;
                return match reply_hit(&hit, key.bytes, with_cas, last, out) {
                    None => Outcome::Done,
                    Some(large) => self.lend(key.bytes, large, out),
                };
            }
            Op::Delete => match self.shard.delete(key, seconds) {
                DeleteOutcome::Deleted => {
                    self.counters.delete_hits += 1;
                    reply::DELETED
                }
                DeleteOutcome::NotFound => {
                    self.counters.delete_misses += 1;
                    reply::NOT_FOUND
                }
            },
            Op::Touch { deadline } => {
                self.counters.cmd_touch += 1;
                match self.shard.touch(key, deadline, seconds) {
                    TouchOutcome::Touched => {
                        self.counters.touch_hits += 1;
                        reply::TOUCHED
                    }
                    TouchOutcome::NotFound => {
                        self.counters.touch_misses += 1;
                        reply::NOT_FOUND
                    }
                    TouchOutcome::NoMemory => ServerError::OutOfMemory.wire(),
                }
            }
            Op::Arith { verb, delta } => {
                let (arith, hits, misses) = match verb {
                    ArithVerb::Incr => (
                        Arithmetic::Incr,
                        &mut self.counters.incr_hits,
                        &mut self.counters.incr_misses,
                    ),
                    ArithVerb::Decr => (
                        Arithmetic::Decr,
                        &mut self.counters.decr_hits,
                        &mut self.counters.decr_misses,
                    ),
                };
                match self.shard.arith(key, arith, delta, seconds) {
                    ArithOutcome::Value(value) => {
                        *hits += 1;
                        if !quiet {
                            reply::number(out, value);
                        }
                        return Outcome::Done;
                    }
                    ArithOutcome::NotFound => {
                        *misses += 1;
                        reply::NOT_FOUND
                    }
                    ArithOutcome::NonNumeric => ClientError::NonNumeric.wire(),
                    ArithOutcome::NoMemory => ServerError::OutOfMemory.wire(),
                }
            }
            Op::Refuse { verb, too_large } => {
                // A failing set leaves no stale value behind; the other verbs leave what is there.
                if verb == StoreVerb::Set {
                    self.shard.unlink(key);
                }
                if too_large {
                    self.counters.store_too_large += 1;
                    ServerError::TooLarge.wire()
                } else {
                    self.counters.store_no_memory += 1;
                    ServerError::OutOfMemoryStoring.wire()
                }
            }
            Op::Flush { at } => {
                self.shard.flush(at, seconds);
                return Outcome::Done;
            }
            Op::ResetStats => {
                self.counters.reset();
                self.shard.reset_counters();
                return Outcome::Done;
            }
            Op::ReadLoan { loan, offset } => {
                self.read_loan(loan, offset, out);
                return Outcome::Done;
            }
            Op::DropLoan { loan } => {
                self.drop_loan(loan);
                return Outcome::Done;
            }
            Op::Attend => return Outcome::Done,
            Op::Get { .. }
            | Op::Store { .. }
            | Op::MemoryLimit
            | Op::Snapshot
            | Op::Tell(_)
            | Op::Lines
            | Op::Scan { .. }
            | Op::Adopt => {
                panic!("{op:?} is not for the shard")
            }
        };
        if !quiet {
            out.put(text);
        }
        Outcome::Done
    }

    /// Whether the store has to remember that a client has seen the unique.
    fn unique(&self, with_cas: bool) -> Unique {
        if with_cas && self.cas {
            Unique::Wanted
        } else {
            Unique::Unasked
        }
    }

    /// [`Op::Get`], of the key whose hash the probe was made of.
    #[inline]
    pub fn get(
        &mut self,
        now: &Now,
        probe: Probe,
        key: &[u8],
        with_cas: bool,
        last: bool,
        out: &mut impl Sink,
    ) -> Outcome {
        self.counters.cmd_get += 1;
        let unique = self.unique(with_cas);
        let Some(hit) = self.shard.get_probed(probe, key, now.seconds, unique) else {
            self.counters.get_misses += 1;
            return reply_miss(last, out);
        };
        self.counters.get_hits += 1;
        match reply_hit(&hit, key, with_cas, last, out) {
            None => Outcome::Done,
            Some(large) => self.lend(key, large, out),
        }
    }

    fn store(
        &mut self,
        now: &Now,
        key: Key<'_>,
        verb: StoreVerb,
        item: NewItem<'_>,
        unique: u64,
    ) -> &'static [u8] {
        let seconds = now.seconds;
        self.counters.cmd_set += 1;
        let outcome = match verb {
            StoreVerb::Set => self.shard.set(key, item, seconds),
            StoreVerb::Add => self.shard.add(key, item, seconds),
            StoreVerb::Replace => self.shard.replace(key, item, seconds),
            StoreVerb::Append => self.shard.append(key, item.value, seconds),
            StoreVerb::Prepend => self.shard.prepend(key, item.value, seconds),
            // With uniques off every item's reads as 0, which no item has: never a match.
            StoreVerb::Cas if !self.cas => self.shard.compare_and_swap(key, item, 0, seconds),
            StoreVerb::Cas => self.shard.compare_and_swap(key, item, unique, seconds),
        };
        if verb == StoreVerb::Cas {
            match outcome {
                SetOutcome::Stored => self.counters.cas_hits += 1,
                SetOutcome::Exists => self.counters.cas_badval += 1,
                SetOutcome::NotFound => self.counters.cas_misses += 1,
                _ => {}
            }
        }
        match outcome {
            SetOutcome::Stored => reply::STORED,
            SetOutcome::NotStored => reply::NOT_STORED,
            SetOutcome::Exists => reply::EXISTS,
            SetOutcome::NotFound => reply::NOT_FOUND,
            // An old value that can not grow is no error of the command.
            SetOutcome::TooLarge | SetOutcome::NoMemory
                if matches!(verb, StoreVerb::Append | StoreVerb::Prepend) =>
            {
                reply::NOT_STORED
            }
            SetOutcome::TooLarge => {
                self.counters.store_too_large += 1;
                ServerError::TooLarge.wire()
            }
            SetOutcome::NoMemory => {
                self.counters.store_no_memory += 1;
                ServerError::OutOfMemoryStoring.wire()
            }
        }
    }

    /// Answers with a value too large to be copied: lends it, so that the session sends it piece
    /// by piece however slowly its client reads.
    #[cold]
    fn lend(&mut self, key: &[u8], large: Large, out: &mut impl Sink) -> Outcome {
        let Some(loan) = self.shard.lend(large.item) else {
            // Too much of the store is already in the hands of slow readers.
            out.put(ServerError::OutOfMemoryReplying.wire());
            return reply_miss(large.last, out);
        };
        reply::value_head(out, key, large.flags, large.value_bytes, large.cas);
        let entry = Some((loan, large.value_bytes as u32));
        let number = match self.free.pop() {
            Some(number) => {
                self.lent[number as usize] = entry;
                number
            }
            None => {
                self.lent.push(entry);
                self.lent.len() as u32 - 1
            }
        };
        Outcome::Lent(Lent {
            loan: number,
            value_bytes: large.value_bytes as u32,
            tail: value_tail(large.last),
        })
    }

    /// Writes the next piece of a lent value, at most [`PIECE_BYTES`]; with the last one the loan
    /// ends.
    pub fn read_loan(&mut self, number: u32, offset: u32, out: &mut impl Sink) {
        let Some((loan, value_bytes)) = &self.lent[number as usize] else {
            panic!("loan {number} is not out");
        };
        let end = value_bytes.min(&(offset + PIECE_BYTES as u32)).to_owned();
        let mut at = offset;
        while at < end {
            let run = self.shard.loan_bytes(loan, at as usize);
            let take = run.len().min((end - at) as usize);
            out.put(&run[..take]);
            at += take as u32;
        }
        if end == *value_bytes {
            self.drop_loan(number);
        }
    }

    /// Adds the pieces of a lent value from `offset` on to `parts`, at most `most` bytes, leaving
    /// two places free. How many bytes that were.
    pub fn loan_parts<'a>(
        &'a self,
        number: u32,
        offset: u32,
        most: usize,
        parts: &mut ArrayVec<IoSlice<'a>, PARTS_MAX>,
    ) -> usize {
        let Some((loan, _)) = &self.lent[number as usize] else {
            panic!("loan {number} is not out");
        };
        let mut left = most;
        for piece in self.shard.loan_pieces(loan, offset as usize) {
            if left == 0 || parts.remaining_capacity() <= 2 {
                break;
            }
            let take = piece.len().min(left);
            parts.push(IoSlice::new(&piece[..take]));
            left -= take;
        }
        most - left
    }

    /// Ends a loan.
    pub fn drop_loan(&mut self, number: u32) {
        let Some((loan, _)) = self.lent[number as usize].take() else {
            panic!("loan {number} is not out");
        };
        self.shard.give_back(loan);
        self.free.push(number);
    }

    /// How many values are lent.
    #[must_use]
    pub fn loans(&self) -> usize {
        self.lent.len() - self.free.len()
    }
}

/// A hit whose value is lent rather than copied.
struct Large {
    item: ItemRef,
    flags: u32,
    value_bytes: usize,
    cas: Option<u64>,
    last: bool,
}

/// What follows a value, which may be the last of its command.
#[inline]
fn value_tail(last: bool) -> &'static [u8] {
    if last { b"\r\nEND\r\n" } else { b"\r\n" }
}

/// Writes what a key without an item brings.
#[inline]
fn reply_miss(last: bool, out: &mut impl Sink) -> Outcome {
    if last {
        out.put(reply::END);
    }
    Outcome::Done
}

/// Writes a hit whole, or says what has to be lent.
#[inline(always)]
fn reply_hit(
    hit: &Hit<'_>,
    key: &[u8],
    with_cas: bool,
    last: bool,
    out: &mut impl Sink,
) -> Option<Large> {
    let cas = with_cas.then_some(hit.cas);
    let value_bytes = hit.value.len();
    if value_bytes > LEND_MIN_BYTES {
        return Some(Large {
            item: hit.item,
            flags: hit.flags,
            value_bytes,
            cas,
            last,
        });
    }
    reply::value_head(out, key, hit.flags, value_bytes, cas);
    match hit.value.as_slice() {
        Some(value) => out.put(value),
        None => hit.value.pieces().for_each(|piece| out.put(piece)),
    }
    out.put(value_tail(last));
    None
}
