//! Replies in the order of the requests, whoever makes them and whenever they are ready.
//!
//! ```text
//!   requests   1     2     3     4     5
//!              |     |     |     |     |
//!   out  [ 1 ready, may be sent ]
//!   slots            [ 2 waiting | 3 filled | 4 lent | 5 waiting ]
//!   held                          [ 3's bytes, 4's head ]
//! ```
//!
//! Always true: only a filled front moves to `out`, so reply order is request order by construction.
//! A lent value at the front streams as fast as the client reads: from where it lies when this worker
//! has lent it, and in pieces that are copied to `out` when another has.

use std::collections::VecDeque;

use strata_protocol::reply::Sink;

use crate::config::{HELD_KEEP_BYTES, HELD_MAX_BYTES, OUT_HIGH_BYTES, SLOTS_MAX};
use crate::message::Lent;
use crate::stats::Gather;

/// Writes to the end of a buffer.
pub struct Tail<'a>(pub &'a mut Vec<u8>);

impl Sink for Tail<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// A lent value on its way to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The worker whose shard has lent it.
    pub owner: usize,
    /// The owner's number of the loan.
    pub loan: u32,
    /// The next byte to fetch.
    pub at: u32,
    /// The value's length.
    pub value_bytes: u32,
    /// What follows the value in its reply.
    pub tail: &'static [u8],
    /// Whether the owner has been asked for the piece at `at`.
    pub asked: bool,
}

impl Stream {
    /// The way of a value that `owner` has lent, none of it sent.
    #[must_use]
    pub fn new(owner: usize, lent: Lent) -> Self {
        Self {
            owner,
            loan: lent.loan,
            at: 0,
            value_bytes: lent.value_bytes,
            tail: lent.tail,
            asked: false,
        }
    }

    /// Whether the piece that was asked for ends the loan, so that nobody has to.
    #[must_use]
    pub fn ends_by_itself(&self) -> bool {
        self.asked && self.at + crate::config::PIECE_BYTES as u32 >= self.value_bytes
    }
}

/// The place of one reply.
#[derive(Debug)]
pub enum Slot {
    /// Another worker will fill it.
    Waiting,
    /// Every worker has to answer.
    Gathering(Box<Gather>),
    /// Ready, at these bytes of `held`.
    Filled {
        /// Where in `held`.
        start: u32,
        /// How many.
        len: u32,
    },
    /// A value that streams once this slot is the front; its head is at these bytes of `held`.
    Lent {
        /// Where in `held`.
        start: u32,
        /// How many.
        len: u32,
        /// The value.
        stream: Stream,
    },
}

/// The replies of one session, in the order of its requests.
#[derive(Debug, Default)]
pub struct Replies {
    /// Bytes that may be sent.
    pub out: Vec<u8>,
    slots: VecDeque<Slot>,
    /// Number of the front slot; slots are numbered from the session's first, wrapping.
    first: u32,
    /// Bytes of filled slots behind an unfilled one; emptied with the last slot.
    held: Vec<u8>,
    /// Slots that are lent values.
    lent: usize,
    /// The front is a lent value whose head is already in `out`.
    streaming: bool,
}

impl Replies {
    /// Lets `write` add a reply that is ready now.
    #[inline]
    pub fn ready<R>(&mut self, write: impl FnOnce(&mut Tail<'_>) -> R) -> R {
        if self.slots.is_empty() {
            return write(&mut Tail(&mut self.out));
        }
        let start = self.held.len();
        let result = write(&mut Tail(&mut self.held));
        let len = (self.held.len() - start) as u32;
        match self.slots.back_mut() {
            // Neighbours that are both ready are one slot.
            Some(Slot::Filled { start: at, len: l }) if (*at + *l) as usize == start => *l += len,
            _ if len == 0 => {}
            _ => self.slots.push_back(Slot::Filled {
                start: start as u32,
                len,
            }),
        }
        result
    }

    /// Adds a lent value; its head was just written with [`Replies::ready`].
    pub fn lend(&mut self, stream: Stream) {
        self.lent += 1;
        self.slots.push_back(Slot::Lent {
            start: 0,
            len: 0,
            stream,
        });
        self.advance();
    }

    /// Adds a place for a reply that another worker will make, and returns its number.
    #[inline]
    pub fn wait(&mut self) -> u32 {
        self.slots.push_back(Slot::Waiting);
        self.number_of_last()
    }

    /// Adds a place for a reply that all workers make together.
    pub fn gather(&mut self, gather: Box<Gather>) -> u32 {
        self.slots.push_back(Slot::Gathering(gather));
        self.number_of_last()
    }

    fn number_of_last(&self) -> u32 {
        self.first.wrapping_add(self.slots.len() as u32 - 1)
    }

    fn index_of(&self, number: u32) -> usize {
        let index = number.wrapping_sub(self.first) as usize;
        assert!(
            index < self.slots.len(),
            "reply {number} of {} from {}",
            self.slots.len(),
            self.first
        );
        index
    }

    /// Puts a reply that is nothing but bytes into its place; false, and nothing is done, when that
    /// place is for something else.
    #[inline]
    pub fn fill_plain(&mut self, number: u32, bytes: &[u8]) -> bool {
        let index = self.index_of(number);
        let Slot::Waiting = &mut self.slots[index] else {
            return false;
        };
        if index == 0 {
            self.out.extend_from_slice(bytes);
            self.pop();
            self.advance();
        } else {
            // What is in front is not ready, so nothing moves.
            let start = self.held.len() as u32;
            let len = bytes.len() as u32;
            self.held.extend_from_slice(bytes);
            self.slots[index] = Slot::Filled { start, len };
        }
        true
    }

    /// Puts a reply, or a piece of one, into its place. `lent` follows the bytes.
    pub fn fill(&mut self, number: u32, bytes: &[u8], lent: Option<Stream>) {
        let index = self.index_of(number);
        match &mut self.slots[index] {
            Slot::Waiting => {}
            Slot::Lent { stream, .. } => {
                assert!(
                    index == 0 && self.streaming && stream.asked,
                    "a piece of reply {number} that nobody asked for"
                );
                stream.asked = false;
                stream.at += bytes.len() as u32;
                self.out.extend_from_slice(bytes);
                self.end_stream_if_done();
                return;
            }
            other => panic!("reply {number} is {other:?}, not waiting"),
        }
        let Some(stream) = lent else {
            self.fill_plain(number, bytes);
            return;
        };
        let start = self.held.len() as u32;
        let len = bytes.len() as u32;
        self.held.extend_from_slice(bytes);
        self.lent += 1;
        self.slots[index] = Slot::Lent { start, len, stream };
        self.advance();
    }

    /// The reply of this number if all workers make it together.
    pub fn gathering(&mut self, number: u32) -> Option<&mut Gather> {
        let index = self.index_of(number);
        match &mut self.slots[index] {
            Slot::Gathering(gather) => Some(gather),
            _ => None,
        }
    }

    /// Turns a complete gathering into its text.
    pub fn gathered(&mut self, number: u32, write: impl FnOnce(Gather, &mut Tail<'_>)) {
        let index = self.index_of(number);
        let Slot::Gathering(gather) = std::mem::replace(&mut self.slots[index], Slot::Waiting)
        else {
            panic!("reply {number} is not gathering");
        };
        let start = self.held.len();
        write(*gather, &mut Tail(&mut self.held));
        let len = (self.held.len() - start) as u32;
        self.slots[index] = Slot::Filled {
            start: start as u32,
            len,
        };
        self.advance();
    }

    fn pop(&mut self) {
        self.slots.pop_front();
        self.first = self.first.wrapping_add(1);
        if self.slots.is_empty() {
            if self.held.capacity() > HELD_KEEP_BYTES {
                self.held = Vec::new();
            } else {
                self.held.clear();
            }
        }
    }

    /// Moves the filled front to `out`.
    fn advance(&mut self) {
        while let Some(front) = self.slots.front() {
            match *front {
                Slot::Filled { start, len } => {
                    let range = start as usize..(start + len) as usize;
                    self.out.extend_from_slice(&self.held[range]);
                    self.pop();
                }
                Slot::Lent { start, len, .. } => {
                    if !self.streaming {
                        self.streaming = true;
                        let range = start as usize..(start + len) as usize;
                        self.out.extend_from_slice(&self.held[range]);
                    }
                    return;
                }
                Slot::Waiting | Slot::Gathering(_) => return,
            }
        }
    }

    /// The lent value that is being sent, if the front is one, and where its bytes go.
    pub fn streaming(&mut self) -> Option<(&mut Stream, &mut Vec<u8>)> {
        match self.slots.front_mut() {
            Some(Slot::Lent { stream, .. }) => Some((stream, &mut self.out)),
            _ => None,
        }
    }

    /// Whether a lent value is among the replies.
    #[must_use]
    pub fn lends(&self) -> bool {
        self.lent > 0
    }

    /// What follows the reply of the lent value at the front and is ready.
    #[must_use]
    pub fn behind_stream(&self) -> &[u8] {
        match self.slots.get(1) {
            Some(Slot::Filled { start, len }) => {
                &self.held[*start as usize..(*start + *len) as usize]
            }
            _ => &[],
        }
    }

    /// Notes that `sent` bytes have gone out of `out`, then `offered` bytes of the lent value at
    /// the front, then its tail and what is behind it. True when the value is all sent; then
    /// the stream has ended.
    pub fn sent_parts(&mut self, sent: usize, offered: usize) -> bool {
        let from_out = sent.min(self.out.len());
        self.out.drain(..from_out);
        let from_value = (sent - from_out).min(offered);
        let from_behind = sent - from_out - from_value;
        let Some((stream, _)) = self.streaming() else {
            panic!("{from_value} bytes of no lent value are sent");
        };
        stream.at += from_value as u32;
        let done = stream.at == stream.value_bytes;
        self.end_stream_if_done();
        self.out.drain(..from_behind);
        done
    }

    /// The number of the front slot.
    #[must_use]
    pub fn front(&self) -> u32 {
        self.first
    }

    /// The number the next slot will have.
    #[must_use]
    pub fn back(&self) -> u32 {
        self.first.wrapping_add(self.slots.len() as u32)
    }

    /// Ends the stream with the value's tail when all of it is in `out`.
    pub fn end_stream_if_done(&mut self) {
        if let Some(Slot::Lent { stream, .. }) = self.slots.front()
            && stream.at >= stream.value_bytes
        {
            self.out.extend_from_slice(stream.tail);
            self.streaming = false;
            self.lent -= 1;
            self.pop();
            self.advance();
        }
    }

    /// How many further requests may be planned before a bound is reached; 0 also while a lent
    /// value is under way or enough is waiting to be sent.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        if self.out.len() >= OUT_HIGH_BYTES || self.held.len() >= HELD_MAX_BYTES || self.lent > 0 {
            return 0;
        }
        SLOTS_MAX - self.slots.len().min(SLOTS_MAX)
    }

    /// Room taken by replies held here.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        let held = if self.held.is_empty() {
            0
        } else {
            self.held.capacity()
        };
        self.out.capacity() + held
    }

    /// Whether the reply behind those in `out` is on its way from another worker.
    #[inline]
    #[must_use]
    pub fn awaits_peer(&self) -> bool {
        matches!(self.slots.front(), Some(Slot::Waiting))
    }

    /// Whether every reply has moved to `out`.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether there is no buffer and no place for replies that wait.
    #[inline]
    #[must_use]
    pub fn is_bare(&self) -> bool {
        self.slots.capacity() == 0 && self.held.capacity() == 0
    }

    /// Takes a buffer and places for replies that wait; both empty.
    pub fn furnish(&mut self, held: Vec<u8>, slots: VecDeque<Slot>) {
        self.held = held;
        self.slots = slots;
    }

    /// Gives the buffer and the places back, while no reply waits.
    pub fn strip(&mut self) -> (Vec<u8>, VecDeque<Slot>) {
        debug_assert!(self.slots.is_empty() && self.held.is_empty());
        (
            std::mem::take(&mut self.held),
            std::mem::take(&mut self.slots),
        )
    }

    /// Forgets all replies and returns the lent values that somebody has to give back.
    pub fn abandon(&mut self) -> Vec<Stream> {
        self.out = Vec::new();
        self.held = Vec::new();
        self.lent = 0;
        self.streaming = false;
        let slots = std::mem::take(&mut self.slots);
        slots
            .into_iter()
            .filter_map(|slot| match slot {
                Slot::Lent { stream, .. } if !stream.ends_by_itself() => Some(stream),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies_with_waiting() -> (Replies, u32) {
        let mut replies = Replies::default();
        replies.ready(|out| out.put(b"1"));
        let number = replies.wait();
        replies.ready(|out| out.put(b"3"));
        (replies, number)
    }

    #[test]
    fn a_ready_reply_waits_behind_an_unfilled_one() {
        let (mut replies, number) = replies_with_waiting();
        assert_eq!(replies.out, b"1");
        let last = replies.wait();
        replies.fill(last, b"4", None);
        assert_eq!(replies.out, b"1");
        replies.fill(number, b"2", None);
        assert_eq!(replies.out, b"1234");
        assert!(replies.settled());
        replies.ready(|out| out.put(b"5"));
        assert_eq!(replies.out, b"12345");
    }

    #[test]
    fn a_lent_value_streams_in_its_place() {
        let (mut replies, number) = replies_with_waiting();
        let stream = Stream {
            owner: 1,
            loan: 0,
            at: 0,
            value_bytes: 4,
            tail: b"\r\nEND\r\n",
            asked: false,
        };
        replies.fill(number, b"head ", Some(stream));
        assert_eq!(replies.out, b"1head ");
        assert_eq!(replies.room(), 0, "one large value at a time");
        let front = replies.front();
        if let Some((stream, _)) = replies.streaming() {
            stream.asked = true;
        }
        replies.fill(front, b"va", None);
        if let Some((stream, _)) = replies.streaming() {
            stream.asked = true;
        }
        replies.fill(front, b"lu", None);
        assert_eq!(replies.out, b"1head valu\r\nEND\r\n3");
        assert!(replies.settled() && replies.room() > 0);
    }

    #[test]
    fn abandoned_loans_are_handed_back() {
        let (mut replies, number) = replies_with_waiting();
        let stream = Stream {
            owner: 1,
            loan: 9,
            at: 0,
            value_bytes: 1 << 20,
            tail: b"\r\n",
            asked: false,
        };
        replies.fill(number, b"head", Some(stream));
        assert_eq!(replies.abandon(), vec![stream]);
        assert!(replies.settled());
    }
}
