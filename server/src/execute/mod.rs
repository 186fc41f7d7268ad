//! Request x shard x now -> reply.
//!
//! A [`Keeper`] is a shard with the counters and the loans that belong to it. It sees no session:
//! the same code answers this worker's sessions and other workers' visits, and writes the reply
//! as the client will see it.
//!
//! What a command does and what it counts stands here once, and ends with an outcome; the words for
//! the outcome are here for the text protocol and in `binary` for the other. The meta commands ask and tell more than
//! the others, and stand in `meta`.

mod binary;
mod meta;

use std::io::IoSlice;

use arrayvec::ArrayVec;
use strata_protocol::meta::Words;
use strata_protocol::reply::{self, Sink};
use strata_protocol::{ArithVerb, ClientError, ServerError, StoreVerb};
use strata_store::{
    Arithmetic, CountOutcome, Counting, Deadline, DeleteOutcome, Hit, ItemRef, Key, Loan, NewItem,
    Probe, SetOutcome, Shard, TouchOutcome, Unique,
};

use crate::clock::Now;
use crate::config::{LEND_MIN_BYTES, PARTS_MAX, PIECE_BYTES};
use crate::memory::Memory;
use crate::message::{Lent, Op};
use crate::stats::Counters;

pub use meta::MetaCall;

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
                let outcome = self.store(now, key, verb, item, unique);
                match outcome {
                    _ if quiet => {}
                    SetOutcome::Stored => out.put(reply::STORED),
                    _ => out.put(words_for(outcome)),
                }
            }
            _ => return self.execute_rare(now, op, key, value, quiet, out),
        }
        Outcome::Done
    }

    fn execute_rare(
        &mut self,
        now: &Now,
        op: Op,
        key: Key<'_>,
        value: &[u8],
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
                let Some(hit) = self.fetch_and_touch(now, key, deadline, with_cas) else {
                    return reply_miss(last, out);
                };
                return match reply_hit(&hit, key.bytes, with_cas, last, out) {
                    None => Outcome::Done,
                    Some(large) => self.lend(key.bytes, large, out),
                };
            }
            Op::Delete => match self.delete(now, key) {
                DeleteOutcome::Deleted => reply::DELETED,
                DeleteOutcome::NotFound => reply::NOT_FOUND,
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
            Op::Arith { verb, delta } => match self.arith(now, key, verb, delta, 0) {
                CountOutcome::Counted(counted) => {
                    let value = counted.value;
                    if !quiet {
                        reply::number(out, value);
                    }
                    return Outcome::Done;
                }
                CountOutcome::NotFound => {
                    self.miss_number(verb);
                    reply::NOT_FOUND
                }
                CountOutcome::NonNumeric => ClientError::NonNumeric.wire(),
                CountOutcome::NoMemory => ServerError::OutOfMemory.wire(),
                CountOutcome::Exists => panic!("no unique was asked for"),
            },
            Op::Refuse { verb, too_large } => {
                self.refuse(now, key, verb, too_large);
                if too_large {
                    ServerError::TooLarge.wire()
                } else {
                    ServerError::OutOfMemoryStoring.wire()
                }
            }
            Op::RefusePacket { head, too_large } => {
                self.refuse_packet(now, head, too_large, key, out);
                return Outcome::Done;
            }
            Op::Packet {
                head,
                cas,
                flags,
                deadline,
            } => {
                let item = NewItem {
                    flags,
                    deadline,
                    value,
                };
                return self.execute_packet(now, head, cas, key, item, out);
            }
            Op::Meta {
                verb,
                base64,
                words_bytes,
            } => {
                let (words, value) = value.split_at(usize::from(words_bytes));
                let call = MetaCall {
                    verb,
                    base64,
                    words: Words::of_text(words),
                    value,
                };
                return self.execute_meta(now, key, call, out);
            }
            Op::Flush { at } => {
                self.shard.flush(at, seconds);
                return Outcome::Done;
            }
            Op::FlushPrefix { prefix } => {
                if self.shard.flush_prefix(prefix, seconds).is_err() {
                    out.put(ServerError::FlushesMany.wire());
                }
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
            | Op::ResetLatency
            | Op::Snapshot
            | Op::Tell(_)
            | Op::Lines
            | Op::Scan { .. }
            | Op::Adopt(_) => {
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
        let Some(hit) = self.fetch(now, probe, key, with_cas) else {
            return reply_miss(last, out);
        };
        match reply_hit(&hit, key, with_cas, last, out) {
            None => Outcome::Done,
            Some(large) => self.lend(key, large, out),
        }
    }

    #[inline(always)]
    fn fetch(&mut self, now: &Now, probe: Probe, key: &[u8], with_cas: bool) -> Option<Hit<'_>> {
        self.counters.cmd_get += 1;
        let unique = self.unique(with_cas);
        let hit = self.shard.get_probed(probe, key, now.seconds, unique);
        match hit {
            Some(_) => self.counters.get_hits += 1,
            None => self.counters.get_misses += 1,
        }
        hit
    }

    fn fetch_and_touch(
        &mut self,
        now: &Now,
        key: Key<'_>,
        deadline: Deadline,
        with_cas: bool,
    ) -> Option<Hit<'_>> {
        self.counters.cmd_touch += 1;
        let unique = self.unique(with_cas);
        let hit = self.shard.get_and_touch(key, deadline, now.seconds, unique);
        match hit {
            Some(_) => self.counters.touch_hits += 1,
            None => self.counters.touch_misses += 1,
        }
        hit
    }

    fn delete(&mut self, now: &Now, key: Key<'_>) -> DeleteOutcome {
        let outcome = self.shard.delete(key, now.seconds);
        match outcome {
            DeleteOutcome::Deleted => self.counters.delete_hits += 1,
            DeleteOutcome::NotFound => self.counters.delete_misses += 1,
        }
        outcome
    }

    /// Counts up or down, if the item has the unique `compare` or that is 0. That there is nothing to count with is the caller's to note, who may
    /// begin with a number of its own ([`Keeper::miss_number`]).
    fn arith(
        &mut self,
        now: &Now,
        key: Key<'_>,
        verb: ArithVerb,
        delta: u64,
        compare: u64,
    ) -> CountOutcome {
        let (arithmetic, hits) = match verb {
            ArithVerb::Incr => (Arithmetic::Incr, &mut self.counters.incr_hits),
            ArithVerb::Decr => (Arithmetic::Decr, &mut self.counters.decr_hits),
        };
        let how = Counting {
            arithmetic,
            delta,
            compare,
            ..Counting::default()
        };
        let outcome = self.shard.count(key, &how, now.seconds);
        *hits += u64::from(matches!(outcome, CountOutcome::Counted(_)));
        outcome
    }

    /// Notes that a storage command's value was not taken.
    fn refuse(&mut self, now: &Now, key: Key<'_>, verb: StoreVerb, too_large: bool) {
        // A failing set leaves no stale value behind; the other verbs leave what is there.
        if verb == StoreVerb::Set {
            self.shard.unlink(key, now.seconds);
        }
        if too_large {
            self.counters.store_too_large += 1;
        } else {
            self.counters.store_no_memory += 1;
        }
    }

    fn miss_number(&mut self, verb: ArithVerb) {
        match verb {
            ArithVerb::Incr => self.counters.incr_misses += 1,
            ArithVerb::Decr => self.counters.decr_misses += 1,
        }
    }

    fn store(
        &mut self,
        now: &Now,
        key: Key<'_>,
        verb: StoreVerb,
        item: NewItem<'_>,
        unique: u64,
    ) -> SetOutcome {
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
        if outcome == SetOutcome::Stored {
            return outcome;
        }
        match outcome {
            // An old value that can not grow is no error of the command.
            SetOutcome::TooLarge | SetOutcome::NoMemory
                if matches!(verb, StoreVerb::Append | StoreVerb::Prepend) =>
            {
                return SetOutcome::NotStored;
            }
            SetOutcome::TooLarge => self.counters.store_too_large += 1,
            SetOutcome::NoMemory => self.counters.store_no_memory += 1,
            _ => {}
        }
        outcome
    }

    /// Answers with a value too large to be copied: lends it, so that the session sends it piece
    /// by piece however slowly its client reads.
    #[cold]
    fn lend(&mut self, key: &[u8], large: Large, out: &mut impl Sink) -> Outcome {
        let Some(lent) = self.lend_out(large.item, large.value_bytes, value_tail(large.last))
        else {
            out.put(ServerError::OutOfMemoryReplying.wire());
            return reply_miss(large.last, out);
        };
        reply::value_head(out, key, large.flags, large.value_bytes, large.cas);
        Outcome::Lent(lent)
    }

    /// Begins a loan of a value that `tail` follows; none when too much of the store is already in
    /// the hands of slow readers.
    fn lend_out(&mut self, item: ItemRef, value_bytes: usize, tail: &'static [u8]) -> Option<Lent> {
        let loan = self.shard.lend(item)?;
        let value_bytes = value_bytes as u32;
        let entry = Some((loan, value_bytes));
        let loan = match self.free.pop() {
            Some(number) => {
                self.lent[number as usize] = entry;
                number
            }
            None => {
                self.lent.push(entry);
                self.lent.len() as u32 - 1
            }
        };
        Some(Lent {
            loan,
            value_bytes,
            tail,
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

/// What the text protocol says to a storage command.
fn words_for(outcome: SetOutcome) -> &'static [u8] {
    match outcome {
        SetOutcome::Stored => reply::STORED,
        SetOutcome::NotStored => reply::NOT_STORED,
        SetOutcome::Exists => reply::EXISTS,
        SetOutcome::NotFound => reply::NOT_FOUND,
        SetOutcome::TooLarge => ServerError::TooLarge.wire(),
        SetOutcome::NoMemory => ServerError::OutOfMemoryStoring.wire(),
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
