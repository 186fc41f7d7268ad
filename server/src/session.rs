//! One client connection without its socket: bytes in, ordered reply slots out.
//!
//! The [`Reader`] turns received bytes into [`Intent`]s. [`Replies`] keeps the replies in the
//! order of the requests, whoever makes them and whenever they are ready:
//!
//! ```text
//!   requests   1     2     3     4     5
//!              |     |     |     |     |
//!   out  [ 1 ready, may be sent ]
//!   slots            [ 2 waiting | 3 filled | 4 lent | 5 waiting ]
//!   held                          [ 3's bytes, 4's head ]
//! ```
//!
//! Only a filled front moves to `out`, so reply order is request order by construction. A lent
//! value at the front streams as fast as the client reads: from where it lies when this worker has
//! lent it, and in pieces that are copied to `out` when another has.
//! A session never sees a shard.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::RawFd;

use strata_protocol::auth::Door;
use strata_protocol::binary::{self, Head, Status};
use strata_protocol::meta::Options;
use strata_protocol::reply::Sink;
use strata_protocol::{
    ClientError, GetKey, KEY_MAX_BYTES, Meta, MetaVerb, Parser, Request, Step, Store, StoreVerb,
    WatchKinds, block_ends_well,
};

use strata_store::ScanPlace;

use crate::config::{
    CARRY_STORE_BYTES, HELD_KEEP_BYTES, HELD_MAX_BYTES, OUT_HIGH_BYTES, Protocol, SLOTS_MAX,
};
use crate::latency::waiting::WaitIndex;
use crate::message::Lent;
use crate::stats::Gather;

/// What the client wants next.
#[derive(Debug)]
pub enum Intent<'a> {
    /// One key of a retrieval.
    Get(GetKey<'a>),
    /// A storage command with its value.
    Store(Store<'a>, &'a [u8]),
    /// A storage command whose value was too long for the carry buffer, complete.
    Taken(Box<Intake>),
    /// A storage command whose value is not taken: too large for an item.
    TooLarge(Store<'a>),
    /// A storage command whose value is not taken: no memory to receive it.
    NoRoom(Box<Intake>),
    /// A meta command with its value, if it is an `ms`.
    Meta(Meta<'a>, &'a [u8]),
    /// An `ms` whose value is not taken: too large for an item.
    MetaTooLarge(Meta<'a>),
    /// Any other command.
    Request(Request<'a>),
    /// A packet of the binary protocol with its value, if it brings one.
    Packet(binary::Request<'a>, &'a [u8]),
    /// A packet whose value is not taken: too large for an item.
    PacketTooLarge(binary::Request<'a>),
    /// A packet that cannot be carried out; when it is the last, the connection is to be closed
    /// behind the reply.
    PacketRefused {
        /// What the reply repeats.
        head: Head,
        /// What it says.
        status: Status,
        /// Whether it is the last.
        last: bool,
    },
    /// A reply that needs no shard; empty for an error that `noreply` silences.
    Answer(&'static [u8]),
    /// The bytes end inside a command.
    More,
    /// The connection is to be closed without a further word.
    Lost,
}

/// A storage command whose value arrives piece by piece.
#[derive(Debug)]
pub struct Intake {
    /// Which storage command.
    pub verb: StoreVerb,
    /// The client's flags.
    pub flags: u32,
    /// As on the wire.
    pub exptime: i64,
    /// What the unique must be, for `cas`.
    pub unique: u64,
    /// Whether the reply is to be left out.
    pub noreply: bool,
    /// The packet that began it, if it was no line.
    pub packet: Option<Head>,
    /// That it is an `ms`: whether it had its key in base64, and how many bytes of flags stand behind the key.
    pub meta: Option<(bool, u16)>,
    /// How much of `bytes` is the key.
    pub key_bytes: usize,
    /// Key and flags, then as much of value and line end as has arrived; the line end is cut off when the
    /// intake is complete. A packet's value has none.
    pub bytes: Vec<u8>,
    /// How much of value and line end has not arrived.
    missing: usize,
}

/// What a reader may take in.
#[derive(Clone, Copy, Debug)]
pub struct IntakeLimits {
    /// The largest item, as memcached counts it.
    pub item_max_bytes: u32,
    /// How many more bytes of large values the worker can hold.
    pub room: usize,
}

/// What memcached adds to key and value when it compares an item with `-I`: a header of 48 bytes,
/// the unique, a zero behind the key, the value's line end, and the flags when there are any.
#[must_use]
pub fn item_bytes(key_bytes: usize, value_bytes: u64, flags: u32) -> u64 {
    let flags_bytes = if flags == 0 { 0 } else { 4 };
    48 + 8 + key_bytes as u64 + 1 + flags_bytes + value_bytes + 2
}

/// Bytes to intents; keeps its place across any cut of the input.
#[derive(Debug, Default)]
pub struct Reader {
    /// The next byte belongs to a line: the client speaks the text protocol, and no data block is
    /// under way. It is what the three fields below say, told by one look.
    in_lines: bool,
    /// What the client speaks; [`Protocol::Auto`] until its first byte tells.
    protocol: Protocol,
    parser: Parser,
    /// Bytes of a refused data block that are still to come.
    swallow: u64,
    intake: Option<Box<Intake>>,
    /// Large values begun so far; wraps.
    intakes: u32,
}

impl Reader {
    /// A reader at the start of a connection.
    #[must_use]
    pub fn speaking(protocol: Protocol) -> Self {
        Self {
            protocol,
            ..Self::default()
        }
    }

    /// The key of a retrieval at the front of `input`, if that is the next intent, and how many
    /// bytes it takes. None says nothing: then [`Reader::next`] knows more.
    #[inline(always)]
    pub fn next_get<'a>(&mut self, input: &'a [u8]) -> Option<(usize, GetKey<'a>)> {
        if !self.in_lines {
            return None;
        }
        self.parser.next_get(input)
    }

    /// The `set` at the front of `input` with its value, if that is the next intent and all of it
    /// has arrived, and how many bytes it takes. None says nothing.
    #[inline(always)]
    pub fn next_set<'a>(
        &mut self,
        input: &'a [u8],
        limits: &IntakeLimits,
    ) -> Option<(usize, Store<'a>, &'a [u8])> {
        if !self.in_lines {
            return None;
        }
        let (line_end, store) = self.parser.next_set(input)?;
        let value_end = line_end + store.value_bytes as usize;
        let size = item_bytes(store.key.len(), u64::from(store.value_bytes), store.flags);
        let tail = input.get(value_end..value_end + 2)?;
        (tail == b"\r\n" && size <= u64::from(limits.item_max_bytes))
            .then(|| (value_end + 2, store, &input[line_end..value_end]))
    }

    /// Takes the next intent from the front of `input` and says how many bytes it used.
    /// [`Intent::More`] may have used some.
    #[inline]
    pub fn next<'a>(&mut self, input: &'a [u8], limits: &IntakeLimits) -> (usize, Intent<'a>) {
        if self.in_lines {
            return self.next_line(input, 0, limits);
        }
        self.next_of_any(input, limits)
    }

    /// As [`Reader::next`], wherever the next byte belongs.
    fn next_of_any<'a>(&mut self, input: &'a [u8], limits: &IntakeLimits) -> (usize, Intent<'a>) {
        let mut used = 0;
        if self.swallow > 0 {
            let take = self.swallow.min(input.len() as u64);
            self.swallow -= take;
            used = take as usize;
            if self.swallow > 0 {
                return (used, Intent::More);
            }
        }
        if self.intake.is_some() {
            return self.take_in(input, used, limits);
        }
        if self.protocol == Protocol::Auto {
            self.protocol = match input.first() {
                None => return (used, Intent::More),
                Some(&binary::REQUEST_MAGIC) => Protocol::Binary,
                Some(_) => Protocol::Ascii,
            };
        }
        if self.protocol == Protocol::Binary {
            return self.next_packet(input, used, limits);
        }
        self.in_lines = true;
        self.next_line(input, used, limits)
    }

    #[inline]
    fn next_line<'a>(
        &mut self,
        input: &'a [u8],
        used: usize,
        limits: &IntakeLimits,
    ) -> (usize, Intent<'a>) {
        let (consumed, step) = self.parser.next(&input[used..]);
        let after = used + consumed;
        match step {
            Step::Request(Request::Get(get)) => (after, Intent::Get(get)),
            Step::Request(Request::Store(store)) => self.store(input, used, after, store, limits),
            Step::Request(Request::Meta(meta)) => self.meta(input, used, after, meta, limits),
            Step::Request(request) => (after, Intent::Request(request)),
            Step::Incomplete => (after, Intent::More),
            Step::Invalid { error, skip } => {
                self.swallow(skip);
                (after, Intent::Answer(error.map_or(b"", ClientError::wire)))
            }
            Step::Lost => (after, Intent::Lost),
        }
    }

    fn swallow(&mut self, bytes: u64) {
        self.swallow = bytes;
        self.in_lines = false;
    }

    /// Whether a large value is being taken in, and how many of its bytes are here.
    #[must_use]
    pub fn intake_bytes(&self) -> usize {
        self.intake.as_ref().map_or(0, |intake| intake.bytes.len())
    }

    /// The number of the large value that is being taken in, if one is: no other of this
    /// session's has it.
    #[must_use]
    pub fn intake_number(&self) -> Option<u32> {
        self.intake.as_ref().map(|_| self.intakes)
    }

    /// The next intent of a client that speaks the binary protocol.
    fn next_packet<'a>(
        &mut self,
        input: &'a [u8],
        used: usize,
        limits: &IntakeLimits,
    ) -> (usize, Intent<'a>) {
        let (consumed, step) = binary::read(&input[used..]);
        let after = used + consumed;
        match step {
            binary::Step::Request(request) => match request.command.store_verb() {
                None => (after, Intent::Packet(request, &[])),
                Some(verb) => self.store_packet(input, used, after, request, verb, limits),
            },
            binary::Step::Incomplete => (after, Intent::More),
            binary::Step::Refused {
                head,
                status,
                skip,
                last,
            } => {
                self.swallow(skip);
                (after, Intent::PacketRefused { head, status, last })
            }
            binary::Step::Lost => (after, Intent::Lost),
        }
    }

    fn store_packet<'a>(
        &mut self,
        input: &'a [u8],
        start: usize,
        value_start: usize,
        request: binary::Request<'a>,
        verb: StoreVerb,
        limits: &IntakeLimits,
    ) -> (usize, Intent<'a>) {
        let value_bytes = request.value_bytes as usize;
        let size = item_bytes(request.key().len(), value_bytes as u64, request.flags());
        if size > u64::from(limits.item_max_bytes) {
            self.swallow(value_bytes as u64);
            return (value_start, Intent::PacketTooLarge(request));
        }
        let rest = &input[value_start..];
        if let Some(value) = rest.get(..value_bytes) {
            return (value_start + value_bytes, Intent::Packet(request, value));
        }
        if value_start - start + value_bytes <= CARRY_STORE_BYTES {
            // The header is read again when the value is complete.
            return (start, Intent::More);
        }
        let intake = Intake {
            verb,
            flags: request.flags(),
            exptime: request.exptime(),
            unique: request.cas,
            noreply: false,
            packet: Some(request.head),
            meta: None,
            key_bytes: request.key().len(),
            bytes: first_bytes(request.key(), rest),
            missing: value_bytes,
        };
        self.begin_intake(intake, input, value_start, limits)
    }

    #[inline]
    fn store<'a>(
        &mut self,
        input: &'a [u8],
        line_start: usize,
        line_end: usize,
        store: Store<'a>,
        limits: &IntakeLimits,
    ) -> (usize, Intent<'a>) {
        let value_bytes = store.value_bytes as usize;
        let size = item_bytes(store.key.len(), u64::from(store.value_bytes), store.flags);
        if size > u64::from(limits.item_max_bytes) {
            self.swallow(store.block_bytes());
            return (line_end, Intent::TooLarge(store));
        }
        let block = &input[line_end..];
        if let Some(tail) = block.get(value_bytes..value_bytes + 2) {
            let used = line_end + value_bytes + 2;
            if block_ends_well([tail[0], tail[1]]) {
                return (used, Intent::Store(store, &block[..value_bytes]));
            }
            return (used, Intent::Answer(bad_chunk(store.noreply)));
        }
        if line_end - line_start + value_bytes + 2 <= CARRY_STORE_BYTES {
            // The line is parsed again when its data block is complete.
            return (line_start, Intent::More);
        }
        let intake = Intake {
            verb: store.verb,
            flags: store.flags,
            exptime: store.exptime,
            unique: store.cas,
            noreply: store.noreply,
            packet: None,
            meta: None,
            key_bytes: store.key.len(),
            bytes: first_bytes(store.key, block),
            missing: value_bytes + 2,
        };
        self.begin_intake(intake, input, line_end, limits)
    }

    fn meta<'a>(
        &mut self,
        input: &'a [u8],
        line_start: usize,
        line_end: usize,
        meta: Meta<'a>,
        limits: &IntakeLimits,
    ) -> (usize, Intent<'a>) {
        if meta.verb != MetaVerb::Set {
            return (line_end, Intent::Meta(meta, &[]));
        }
        let value_bytes = meta.value_bytes as usize;
        let mut buffer = [0; KEY_MAX_BYTES];
        let key = meta.key().bytes(&mut buffer);
        let flags = Options::read(meta.words).client_flags;
        let size = item_bytes(key.len(), u64::from(meta.value_bytes), flags);
        if size > u64::from(limits.item_max_bytes) {
            self.swallow(meta.block_bytes());
            return (line_end, Intent::MetaTooLarge(meta));
        }
        let block = &input[line_end..];
        if let Some(tail) = block.get(value_bytes..value_bytes + 2) {
            let used = line_end + value_bytes + 2;
            if block_ends_well([tail[0], tail[1]]) {
                return (used, Intent::Meta(meta, &block[..value_bytes]));
            }
            return (used, Intent::Answer(bad_chunk(false)));
        }
        if line_end - line_start + value_bytes + 2 <= CARRY_STORE_BYTES {
            // The line is parsed again when its data block is complete.
            return (line_start, Intent::More);
        }
        let words = meta.words.text();
        let mut bytes = Vec::with_capacity(key.len() + words.len() + block.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(words);
        let intake = Intake {
            verb: StoreVerb::Set,
            flags,
            exptime: 0,
            unique: 0,
            noreply: false,
            packet: None,
            meta: Some((meta.key().is_base64(), words.len() as u16)),
            key_bytes: key.len(),
            bytes,
            missing: value_bytes + 2,
        };
        self.begin_intake(intake, input, line_end, limits)
    }

    fn begin_intake<'a>(
        &mut self,
        intake: Intake,
        input: &'a [u8],
        used: usize,
        limits: &IntakeLimits,
    ) -> (usize, Intent<'a>) {
        self.intakes = self.intakes.wrapping_add(1);
        self.intake = Some(Box::new(intake));
        self.in_lines = false;
        self.take_in(input, used, limits)
    }

    /// Adds what has arrived of a large value.
    fn take_in<'a>(
        &mut self,
        input: &'a [u8],
        used: usize,
        limits: &IntakeLimits,
    ) -> (usize, Intent<'a>) {
        let Some(mut intake) = self.intake.take() else {
            panic!("no intake under way");
        };
        let rest = &input[used..];
        let take = intake.missing.min(rest.len());
        if take > limits.room {
            self.swallow(intake.missing as u64);
            return (used, Intent::NoRoom(intake));
        }
        let len = intake.bytes.len() + take;
        if len > intake.bytes.capacity() {
            // Doubling, but never beyond what was announced.
            let whole = intake.bytes.len() + intake.missing;
            let grown = whole.min(len.max(intake.bytes.capacity() * 2));
            intake.bytes.reserve_exact(grown - intake.bytes.len());
        }
        intake.bytes.extend_from_slice(&rest[..take]);
        intake.missing -= take;
        let used = used + take;
        if intake.missing > 0 {
            self.intake = Some(intake);
            return (used, Intent::More);
        }
        if intake.packet.is_some() {
            return (used, Intent::Taken(intake));
        }
        let end = intake.bytes.len() - 2;
        let tail = [intake.bytes[end], intake.bytes[end + 1]];
        intake.bytes.truncate(end);
        if block_ends_well(tail) {
            (used, Intent::Taken(intake))
        } else {
            (used, Intent::Answer(bad_chunk(intake.noreply)))
        }
    }
}

/// A buffer that begins with the key and has room for what has arrived of the value.
fn first_bytes(key: &[u8], arrived: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + arrived.len());
    bytes.extend_from_slice(key);
    bytes
}

fn bad_chunk(noreply: bool) -> &'static [u8] {
    if noreply {
        b""
    } else {
        ClientError::BadDataChunk.wire()
    }
}

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
        if index == 0 && lent.is_none() {
            self.out.extend_from_slice(bytes);
            self.pop();
            self.advance();
            return;
        }
        let start = self.held.len() as u32;
        let len = bytes.len() as u32;
        self.held.extend_from_slice(bytes);
        self.slots[index] = match lent {
            None => Slot::Filled { start, len },
            Some(stream) => {
                self.lent += 1;
                Slot::Lent { start, len, stream }
            }
        };
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

/// What a connection is for.
#[derive(Debug, Default)]
pub enum Role {
    /// Requests and replies.
    #[default]
    Client,
    /// It has not said yet who it is, and a password is asked for.
    Stranger(Door),
    /// It gets lines about what happens, and is not listened to.
    Watcher(Watcher),
    /// It gets all items as lines; its next request waits.
    Dump(Box<Dump>),
}

/// A connection that watches.
#[derive(Debug, Default)]
pub struct Watcher {
    /// What it is told of; nothing until every worker knows of it.
    pub kinds: WatchKinds,
    /// Lines it has lost since it last got one.
    pub skipped: u64,
}

/// What a walk through all items tells of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpForm {
    /// What is known of it.
    Meta,
    /// A command that fetches it.
    Mg,
    /// How large it is, four bytes that are counted and not sent.
    Size,
}

/// How far a walk through all items has come.
#[derive(Debug)]
pub struct Dump {
    /// What is told.
    pub form: DumpForm,
    /// The number of its turn, if it is one of those that go on one at a time.
    pub turn: Option<u64>,
    /// The packet that asked, if one did.
    pub packet: Option<Head>,
    /// Of the sizes met so far, rounded up to [`SIZE_STEP_BYTES`](crate::config::SIZE_STEP_BYTES),
    /// how many items have them. No more of them than sizes that an item can have.
    pub sizes: BTreeMap<u32, u64>,
    /// The worker whose shard is walked; behind the last one it is done.
    pub owner: usize,
    /// Where the next slice begins.
    pub place: ScanPlace,
    /// Whether another worker has been asked for it.
    pub asked: bool,
}

/// One client connection.
#[derive(Debug, Default)]
pub struct Session {
    /// Which use of this index it is; replies to an earlier one are dropped.
    pub generation: u32,
    /// Whether the index is in use.
    pub open: bool,
    /// Bytes to intents.
    pub reader: Reader,
    /// Received bytes that no intent has used yet.
    pub carry: Vec<u8>,
    /// Replies in order.
    pub replies: Replies,
    /// The back end is sending a buffer of this session.
    pub sending: bool,
    /// Room that buffer takes.
    pub sending_bytes: usize,
    /// Its part of the worker's sum of reply bytes.
    pub counted_bytes: usize,
    /// Its part of the worker's sum of waiting input.
    pub counted_carry_bytes: usize,
    /// The back end was asked to stop receiving.
    pub paused: bool,
    /// The client will send no more.
    pub ended: bool,
    /// No further request is read; the session closes when its replies are sent.
    pub draining: bool,
    /// The back end is closing the connection.
    pub closing: bool,
    /// It is in the worker's list of sessions to look at.
    pub queued: bool,
    /// It is in the worker's list of sessions that wait for a credit of a peer.
    pub parked: bool,
    /// It waits for a credit of a peer, or has used up its share of this tick.
    pub held_back: bool,
    /// It has waited for a credit of a peer and has its share of them in this tick.
    pub let_on: bool,
    /// When it last sent something, in seconds on the server's clock.
    pub active_s: u32,
    /// When it last made a request.
    pub asked_s: u32,
    /// Since when its requests wait, of those that do.
    pub wait: WaitIndex,
    /// The number of its large value that is in the worker's list of those.
    pub listed_intake: Option<u32>,
    /// What it is for.
    pub role: Role,
    /// Why it ends, as a watcher is told; an error unless something else is known.
    pub ends_for: Option<&'static str>,
    /// The number of its descriptor, which names it in `stats conns`.
    pub fd: RawFd,
}

// A batch of the rarer ones is moved about.
const _: () = assert!(size_of::<Intent<'_>>() <= 72);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: IntakeLimits = IntakeLimits {
        item_max_bytes: 1 << 20,
        room: 1 << 20,
    };

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

    /// Reads `input` cut at every multiple of `cut` and lists what came out.
    fn read(input: &[u8], cut: usize, limits: &IntakeLimits) -> Vec<String> {
        let mut reader = Reader::default();
        let (mut carry, mut list) = (Vec::new(), Vec::new());
        for part in input.chunks(cut) {
            carry.extend_from_slice(part);
            let mut used = 0;
            loop {
                let (n, intent) = reader.next(&carry[used..], limits);
                used += n;
                match intent {
                    Intent::More => break,
                    Intent::Store(store, value) => {
                        list.push(format!("store {:?} {} bytes", store.key, value.len()));
                    }
                    Intent::Meta(meta, value) => {
                        let key = meta.key().bytes(&mut [0; KEY_MAX_BYTES]).to_vec();
                        let words = meta.words.text();
                        list.push(format!("meta {key:?} {words:?} {} bytes", value.len()));
                    }
                    Intent::Taken(intake) if intake.meta.is_some() => {
                        let (key, rest) = intake.bytes.split_at(intake.key_bytes);
                        let words_bytes = intake.meta.expect("just seen").1;
                        let (words, value) = rest.split_at(usize::from(words_bytes));
                        list.push(format!("meta {key:?} {words:?} {} bytes", value.len()));
                    }
                    Intent::Packet(request, value) => list.push(format!(
                        "packet {:?} {:?} {} {} {} with {} bytes",
                        request.head,
                        request.key(),
                        request.flags(),
                        request.exptime(),
                        request.cas,
                        value.len()
                    )),
                    Intent::Taken(intake) if intake.packet.is_some() => list.push(format!(
                        "packet {:?} {:?} {} {} {} with {} bytes",
                        intake.packet.expect("just looked at"),
                        &intake.bytes[..intake.key_bytes],
                        intake.flags,
                        intake.exptime,
                        intake.unique,
                        intake.bytes.len() - intake.key_bytes
                    )),
                    Intent::Lost => {
                        list.push("Lost".into());
                        return list;
                    }
                    Intent::Taken(intake) => list.push(format!(
                        "store {:?} {} bytes",
                        &intake.bytes[..intake.key_bytes],
                        intake.bytes.len() - intake.key_bytes
                    )),
                    other => list.push(format!("{other:?}")),
                }
            }
            carry.drain(..used);
        }
        list
    }

    #[test]
    fn any_cut_gives_the_same_intents() {
        let mut input = Vec::new();
        for value_bytes in [0, 5, 5000, 9000, 100_000] {
            input.extend_from_slice(format!("set k{value_bytes} 1 0 {value_bytes}\r\n").as_bytes());
            input.extend_from_slice(&vec![b'v'; value_bytes]);
            input.extend_from_slice(b"\r\nget a b\r\n");
            let line = format!("ms bWV0YQ== {value_bytes} b T30 Oopaque\r\n");
            input.extend_from_slice(line.as_bytes());
            input.extend_from_slice(&vec![b'v'; value_bytes]);
            input.extend_from_slice(b"\r\nmg bWV0YQ== b v\r\n");
        }
        input.extend_from_slice(b"ms big 2000000 T0\r\n");
        input.extend_from_slice(&vec![b'v'; 2_000_000]);
        input.extend_from_slice(b"\r\nms bad 20000 q\r\n");
        input.extend_from_slice(&vec![b'v'; 20_001]);
        input.extend_from_slice(b"\nms bad 3 v v\r\nmn!\r\n");
        input.extend_from_slice(b"set big 0 0 2000000\r\n");
        input.extend_from_slice(&vec![b'v'; 2_000_000]);
        input.extend_from_slice(b"\r\nset bad 0 0 2\r\nxyz\r\nversion\r\n");
        input.extend_from_slice(b"set bad2 0 0 20000 noreply\r\n");
        input.extend_from_slice(&vec![b'v'; 20_001]);
        input.extend_from_slice(b"\nversion\r\n");
        let whole = read(&input, input.len(), &LIMITS);
        assert!(whole.iter().any(|line| line.starts_with("TooLarge")));
        assert!(whole.iter().any(|line| line.starts_with("MetaTooLarge")));
        for cut in [1, 7, 1000, 16384] {
            assert_eq!(read(&input, cut, &LIMITS), whole, "cut at {cut}");
        }
    }

    fn packet(opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
        let body_bytes = (extras.len() + key.len() + value.len()) as u32;
        let mut packet = vec![
            0x80,
            opcode,
            0,
            key.len() as u8,
            extras.len() as u8,
            0,
            0,
            0,
        ];
        packet.extend(body_bytes.to_be_bytes());
        packet.extend([0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 9]);
        [&packet, extras, key, value].concat()
    }

    const NOOP: u8 = 0x0a;

    #[test]
    fn any_cut_gives_the_same_intents_of_packets() {
        let mut input = Vec::new();
        for value_bytes in [0, 5, 5000, 8000, 9000, 100_000] {
            for (opcode, extras) in [(0x01, &[1; 8][..]), (0x1a, b"")] {
                input.extend(packet(opcode, extras, b"key", &vec![b'v'; value_bytes]));
                input.extend(packet(0x0d, b"", b"key", b""));
            }
        }
        input.extend(packet(0x11, &[0; 8], b"big", &vec![b'v'; 2_000_000]));
        input.extend(packet(0x60, b"extras", b"key", &vec![b'v'; 20_000]));
        input.extend(packet(NOOP, b"", b"", b""));
        input.extend(packet(NOOP, b"", b"k", b""));
        let whole = read(&input, input.len(), &LIMITS);
        let count = |start| whole.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!(count("packet"), 25);
        assert_eq!((count("PacketTooLarge"), count("PacketRefused")), (1, 2));
        for cut in [1, 7, 1000, 16384] {
            assert_eq!(read(&input, cut, &LIMITS), whole, "cut at {cut}");
        }
    }

    #[test]
    fn the_first_byte_decides_for_good() {
        let get = [
            &packet(NOOP, b"", b"", b"")[..],
            b"get k\r\n, and much more than a header",
        ]
        .concat();
        assert!(
            read(&get, 1, &LIMITS)[1..]
                .iter()
                .any(|line| line == "Lost")
        );
        let mut reader = Reader::default();
        let (used, _) = reader.next(b"mn\r\n", &LIMITS);
        let packet = packet(0x00, b"", b"\n", b"");
        assert_eq!(used, 4);
        assert!(matches!(
            reader.next(&packet, &LIMITS).1,
            Intent::Answer(b"ERROR\r\n")
        ));
        for (protocol, input) in [
            (Protocol::Ascii, &packet[..]),
            (Protocol::Binary, b"get k\r\n, and much more than a header"),
        ] {
            let intent = Reader::speaking(protocol).next(input, &LIMITS).1;
            let expected = match protocol {
                Protocol::Ascii => matches!(intent, Intent::Answer(_)),
                _ => matches!(intent, Intent::Lost),
            };
            assert!(expected, "{protocol:?}");
        }
    }

    #[test]
    fn a_value_without_room_is_swallowed_whole() {
        let limits = IntakeLimits {
            item_max_bytes: 1 << 20,
            room: 10_000,
        };
        let mut input = b"set k 0 0 50000\r\n".to_vec();
        input.extend_from_slice(&vec![b'v'; 50_000]);
        input.extend_from_slice(b"\r\nversion\r\n");
        let list = read(&input, 16_384, &limits);
        assert_eq!(list.len(), 2);
        assert!(list[0].starts_with("NoRoom") && list[1].contains("Version"));
    }

    #[test]
    fn the_largest_value_is_memcacheds() {
        assert_eq!(item_bytes(1, 1_048_517 - 1, 0), 1 << 20);
        assert_eq!(item_bytes(1, 1_048_517 - 1 - 4, 9), 1 << 20);
    }
}
