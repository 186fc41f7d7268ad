//! Received bytes to [`Intent`]s, whatever their cut.
//!
//! Always true: the same bytes give the same intents, however they are cut; a value that is too long
//! to wait in the carry buffer is taken in piece by piece, or swallowed to its end.

use strata_protocol::binary::{self, Head, Status};
use strata_protocol::meta::Options;
use strata_protocol::{
    ClientError, GetKey, KEY_MAX_BYTES, Meta, MetaVerb, Parser, Request, Step, Store, StoreVerb,
    block_ends_well,
};

use crate::config::{CARRY_STORE_BYTES, Protocol};

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

    /// Whether the next byte belongs to a line: where none is left, nothing has to be asked to know
    /// that no intent is.
    #[inline(always)]
    pub fn in_lines(&self) -> bool {
        self.in_lines
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

    /// Whether the next byte is the first of a line, and nothing of the stream is under way.
    #[inline(always)]
    pub fn begins_a_line(&self) -> bool {
        self.in_lines && self.parser.begins_a_line()
    }

    /// The key of a retrieval of one key, if that is all of `input` and nothing else is under way. None says nothing.
    #[inline(always)]
    pub fn lone_get<'a>(&self, input: &'a [u8]) -> Option<GetKey<'a>> {
        if !self.in_lines {
            return None;
        }
        self.parser.lone_get(input)
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

// A batch of the rarer ones is moved about.
const _: () = assert!(size_of::<Intent<'_>>() <= 72);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Packet, REQUEST};

    const LIMITS: IntakeLimits = IntakeLimits {
        item_max_bytes: 1 << 20,
        room: 1 << 20,
    };

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
        Packet {
            magic: REQUEST,
            opcode,
            opaque: 7,
            cas: 9,
            extras,
            key,
            value,
            ..Packet::default()
        }
        .bytes()
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
