//! The sans-I/O half of one connection: which requests are outstanding, which replies they
//! expect, and whether those came.
//!
//! Always true: replies are matched to requests in the order sent; a reply cut into any pieces
//! gives the same result as the whole; and what is remembered is bounded by the depth, never by
//! what the server sends.

use std::collections::VecDeque;

use strata_protocol::client::{self as wire, REPLY_LINE_MAX_BYTES, Reply};
use strata_protocol::{Store, StoreVerb};

use crate::tally::{Done, Tally};
use crate::workload::{Check, KeySpace, Requests, Tape, Verb};

/// Of the hits of a connection one in this many has its value compared, unless all are.
const SAMPLE_EVERY: u32 = 8;

/// The two kinds of request the report tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A retrieval of one or more keys.
    Get,
    /// A write.
    Set,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Set => "set",
        }
    }
}

/// How closely replies are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Only that they are replies to a request of that kind: for responders with a canned answer.
    Nothing,
    /// Keys and lengths always, the bytes of one hit in eight.
    Sampled,
    /// Keys, lengths and all bytes.
    Everything,
}

/// What all connections of a run share.
pub struct Terms {
    /// The keys.
    pub keys: KeySpace,
    /// Where values come from.
    pub tape: Tape,
    /// Bytes of every value.
    pub value_bytes: usize,
    /// How closely replies are looked at.
    pub verify: Verify,
    /// What stands between the key and the value of a hit.
    value_head: Box<[u8]>,
}

impl Terms {
    /// Terms for keys and values of `value_bytes`.
    pub fn new(keys: KeySpace, value_bytes: usize, verify: Verify) -> Self {
        Self {
            keys,
            tape: Tape::new(value_bytes),
            value_bytes,
            verify,
            value_head: format!(" 0 {value_bytes}\r\n").into_bytes().into(),
        }
    }

    /// What follows the key `index` at the front of `input`, if that is what stands there. Where
    /// nothing is verified any key of the same length will do.
    #[inline]
    fn after_key<'a>(&self, index: u64, input: &'a [u8]) -> Option<&'a [u8]> {
        let mut number = itoa::Buffer::new();
        let digits = number.format(index).as_bytes();
        let prefix = self.keys.prefix().as_bytes();
        let (key, rest) = input.split_at_checked(prefix.len() + digits.len())?;
        let right = self.verify == Verify::Nothing
            || (key[..prefix.len()] == *prefix && key[prefix.len()..] == *digits);
        right.then_some(rest)
    }
}

struct Outstanding {
    kind: Kind,
    key_count: u32,
    due_ns: u64,
    sent_ns: u64,
    bytes: u64,
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
    depth: usize,
    /// Beginning of a line whose end has not come.
    line: Vec<u8>,
    block: Option<Block>,
    /// Of the retrieval in front: keys found and passed over so far, and bytes of its reply.
    hits: u32,
    passed: u32,
    reply_bytes: u64,
    sample_in: u32,
}

impl Pipeline {
    /// A connection on which at most `depth` requests of `keys_per_get` keys are outstanding.
    pub fn new(depth: usize, keys_per_get: usize) -> Self {
        Self {
            outstanding: VecDeque::with_capacity(depth),
            keys: VecDeque::with_capacity(depth * keys_per_get),
            depth,
            line: Vec::with_capacity(REPLY_LINE_MAX_BYTES + 1),
            block: None,
            hits: 0,
            passed: 0,
            reply_bytes: 0,
            sample_in: 0,
        }
    }

    /// Changes how many requests may be outstanding.
    pub fn set_depth(&mut self, depth: usize) {
        self.depth = depth;
    }

    /// Whether another request may be sent.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.outstanding.len() < self.depth
    }

    /// Requests sent and not answered.
    pub fn outstanding_count(&self) -> usize {
        self.outstanding.len()
    }

    /// Appends the next request of the stream to `out`.
    #[inline]
    pub fn offer(
        &mut self,
        requests: &mut Requests,
        terms: &Terms,
        due_ns: u64,
        sent_ns: u64,
        out: &mut Vec<u8>,
    ) {
        debug_assert!(self.has_room());
        let before = out.len();
        let (kind, key_count) = match requests.next_verb() {
            Verb::Get { key_count } => {
                let keys = &mut self.keys;
                let drawn = (0..key_count).map(|_| {
                    let key = requests.get_key();
                    keys.push_back(key);
                    terms.keys.key(key)
                });
                wire::get(&mut |bytes: &[u8]| out.extend_from_slice(bytes), drawn);
                (Kind::Get, key_count)
            }
            Verb::Set => {
                let (key, version, exptime) = requests.set_key();
                let name = terms.keys.key(key);
                let line = Store {
                    verb: StoreVerb::Set,
                    key: name.as_ref(),
                    flags: 0,
                    exptime: exptime.into(),
                    value_bytes: terms.value_bytes as u32,
                    cas: 0,
                    noreply: false,
                };
                wire::store_line(&mut |bytes: &[u8]| out.extend_from_slice(bytes), &line);
                terms.tape.render(key, terms.value_bytes, version, out);
                out.extend_from_slice(b"\r\n");
                (Kind::Set, 1)
            }
        };
        self.outstanding.push_back(Outstanding {
            kind,
            key_count,
            due_ns,
            sent_ns,
            bytes: (out.len() - before) as u64,
        });
    }

    /// Takes what the server sent, at `now_ns` of the run's clock.
    ///
    /// `Err` means the stream can no longer be told apart into replies; the reason is noted in
    /// the tally and the connection has to end.
    pub fn receive(
        &mut self,
        mut input: &[u8],
        now_ns: u64,
        terms: &Terms,
        tally: &mut Tally,
    ) -> Result<(), Nonsense> {
        while !input.is_empty() {
            if let Some(block) = &mut self.block {
                let taken = Self::take_block(block, input, terms, tally)?;
                if block.value_left == 0 && block.end_left == 0 {
                    self.block = None;
                }
                self.reply_bytes += taken as u64;
                input = &input[taken..];
                continue;
            }
            if self.line.is_empty() {
                if let Some(taken) = self.take_expected_hit(input, now_ns, terms, tally) {
                    input = &input[taken..];
                    continue;
                }
                let Some((taken, reply)) = wire::reply(input) else {
                    self.line.extend_from_slice(input);
                    return Ok(());
                };
                self.reply_bytes += taken as u64;
                self.take_reply(reply, now_ns, terms, tally)?;
                input = &input[taken..];
                continue;
            }
            // Bytes are added up to the line's end, so the line alone is what is carried over.
            let before = self.line.len();
            let until = memchr::memchr(b'\n', input).map_or(input.len(), |end| end + 1);
            let until = until.min(REPLY_LINE_MAX_BYTES + 1 - before);
            self.line.extend_from_slice(&input[..until]);
            input = &input[until..];
            let line = std::mem::take(&mut self.line);
            let outcome = match wire::reply(&line) {
                None => {
                    self.line = line;
                    continue;
                }
                Some((taken, reply)) => {
                    self.reply_bytes += taken as u64;
                    self.take_reply(reply, now_ns, terms, tally)
                }
            };
            self.line = line;
            self.line.clear();
            outcome?;
        }
        Ok(())
    }

    /// The shortcut for the one reply that is all but certain: the hit of a single key, whole.
    /// Everything but the value is known beforehand, so it is compared and not parsed. `None`
    /// leaves the reply to the general way, which also says what is wrong with it.
    #[inline]
    fn take_expected_hit(
        &mut self,
        input: &[u8],
        now_ns: u64,
        terms: &Terms,
        tally: &mut Tally,
    ) -> Option<usize> {
        const END: &[u8] = b"\r\nEND\r\n";
        let front = self.outstanding.front()?;
        if front.kind != Kind::Get || front.key_count != 1 || self.hits > 0 {
            return None;
        }
        let key = *self.keys.front()?;
        let rest = terms.after_key(key, input.strip_prefix(b"VALUE ")?)?;
        let rest = rest.strip_prefix(&*terms.value_head)?;
        let (value, rest) = rest.split_at_checked(terms.value_bytes)?;
        let rest = rest.strip_prefix(END)?;
        match terms.verify {
            Verify::Nothing => {}
            Verify::Sampled if self.sample_in > 0 => self.sample_in -= 1,
            Verify::Sampled | Verify::Everything => {
                let mut check = Check::new(key, terms.value_bytes);
                check.feed(&terms.tape, value);
                if !check.passed() {
                    // Still the sample's turn when the general way looks at it.
                    return None;
                }
                self.sample_in = SAMPLE_EVERY - 1;
            }
        }
        let taken = input.len() - rest.len();
        self.keys.pop_front();
        self.hits = 1;
        self.reply_bytes = taken as u64;
        self.finish(now_ns, tally);
        Some(taken)
    }

    #[inline]
    fn take_reply(
        &mut self,
        reply: Reply,
        now_ns: u64,
        terms: &Terms,
        tally: &mut Tally,
    ) -> Result<(), Nonsense> {
        let Some(front) = self.outstanding.front() else {
            return Err(nonsense(tally, "sent a reply nobody asked for", reply));
        };
        let kind = front.kind;
        let unseen = front.key_count - self.hits - self.passed;
        match (kind, reply) {
            (Kind::Get, Reply::Value(head)) => {
                let index = self.find(head.key, unseen, terms, tally);
                self.start_block(index, head.value_bytes as usize, terms, tally);
                return Ok(());
            }
            (Kind::Get, Reply::End) => {
                self.keys.drain(..unseen as usize);
            }
            (Kind::Set, Reply::Stored) => {
                tally.stored += 1;
                self.hits = 1;
            }
            (
                _,
                Reply::Error
                | Reply::ClientError(_)
                | Reply::ServerError(_)
                | Reply::NotStored
                | Reply::Exists
                | Reply::NotFound,
            ) => {
                tally.faults.errors += 1;
                tally
                    .faults
                    .note(|| format!("a {} was answered {}", kind.name(), shown(reply)));
                if kind == Kind::Get {
                    self.keys.drain(..unseen as usize);
                }
            }
            (Kind::Get, Reply::Stored) => {
                tally.faults.misplaced += 1;
                return Err(nonsense(tally, "answered a get as if it were a set", reply));
            }
            (Kind::Set, Reply::Value(_) | Reply::End) => {
                tally.faults.misplaced += 1;
                return Err(nonsense(tally, "answered a set as if it were a get", reply));
            }
            _ => {
                return Err(nonsense(
                    tally,
                    "sent what is no reply to a get or set",
                    reply,
                ));
            }
        }
        self.finish(now_ns, tally);
        Ok(())
    }

    /// Which of the `unseen` keys of the retrieval in front was found. Keys before it were
    /// missed: a server answers in the order asked. `None` when it is none of them.
    #[inline]
    fn find(&mut self, key: &[u8], unseen: u32, terms: &Terms, tally: &mut Tally) -> Option<u64> {
        if unseen == 0 {
            tally.faults.misplaced += 1;
            tally
                .faults
                .note(|| "a get was answered with more values than it had keys".into());
            return None;
        }
        self.hits += 1;
        if terms.verify == Verify::Nothing {
            self.keys.pop_front();
            return None;
        }
        for missed in 0..unseen as usize {
            if terms.keys.key(self.keys[missed]).as_ref() == key {
                self.passed += missed as u32;
                let index = self.keys[missed];
                self.keys.drain(..=missed);
                return Some(index);
            }
        }
        let asked = self.keys.pop_front();
        tally.faults.misplaced += 1;
        tally.faults.note(|| {
            let asked = asked.map(|asked| terms.keys.key(asked));
            format!(
                "a get of {} was answered with the key {}",
                asked.map_or_else(String::new, |asked| asked
                    .as_ref()
                    .escape_ascii()
                    .to_string()),
                key.escape_ascii()
            )
        });
        None
    }

    #[inline]
    fn start_block(
        &mut self,
        index: Option<u64>,
        value_bytes: usize,
        terms: &Terms,
        tally: &mut Tally,
    ) {
        let mut check = None;
        if let Some(index) = index {
            if value_bytes != terms.value_bytes {
                tally.faults.wrong_values += 1;
                tally.faults.note(|| {
                    format!(
                        "a value has {value_bytes} bytes instead of {}",
                        terms.value_bytes
                    )
                });
            } else if terms.verify == Verify::Everything || self.sample_in == 0 {
                self.sample_in = SAMPLE_EVERY - 1;
                check = Some(Check::new(index, value_bytes));
            } else {
                self.sample_in -= 1;
            }
        }
        self.block = Some(Block {
            value_left: value_bytes,
            end_left: 2,
            check,
            key: index.unwrap_or(0),
        });
    }

    /// Takes bytes of the data block; returns how many.
    #[inline]
    fn take_block(
        block: &mut Block,
        input: &[u8],
        terms: &Terms,
        tally: &mut Tally,
    ) -> Result<usize, Nonsense> {
        let of_value = input.len().min(block.value_left);
        if let Some(check) = &mut block.check {
            check.feed(&terms.tape, &input[..of_value]);
            if of_value == block.value_left && !check.passed() {
                let key = block.key;
                tally.faults.wrong_values += 1;
                tally.faults.note(|| {
                    let name = terms.keys.key(key);
                    format!(
                        "the value of {} has a wrong byte",
                        name.as_ref().escape_ascii()
                    )
                });
            }
            if of_value == block.value_left {
                block.check = None;
            }
        }
        block.value_left -= of_value;
        let mut taken = of_value;
        while block.value_left == 0 && block.end_left > 0 && taken < input.len() {
            let expected = if block.end_left == 2 { b'\r' } else { b'\n' };
            if input[taken] != expected {
                return Err(nonsense(
                    tally,
                    "did not end a value where it had to end",
                    Reply::Malformed(&input[taken..]),
                ));
            }
            block.end_left -= 1;
            taken += 1;
        }
        Ok(taken)
    }

    #[inline]
    fn finish(&mut self, now_ns: u64, tally: &mut Tally) {
        let done = self
            .outstanding
            .pop_front()
            .expect("a reply is only taken when a request is outstanding");
        tally.done(&Done {
            kind: done.kind,
            due_ns: done.due_ns,
            sent_ns: done.sent_ns,
            done_ns: now_ns,
            key_count: done.key_count,
            hits: self.hits,
            bytes_sent: done.bytes,
            bytes_received: self.reply_bytes,
        });
        self.hits = 0;
        self.passed = 0;
        self.reply_bytes = 0;
    }

    /// Gives up on what is outstanding: each counts with its age.
    pub fn give_up(&mut self, now_ns: u64, tally: &mut Tally) {
        for request in self.outstanding.drain(..) {
            tally.gave_up(request.kind, request.due_ns, Some(request.sent_ns), now_ns);
        }
        self.keys.clear();
        self.block = None;
        self.line.clear();
        self.hits = 0;
        self.passed = 0;
        self.reply_bytes = 0;
    }
}

/// Notes why a connection cannot go on.
#[cold]
fn nonsense(tally: &mut Tally, what: &str, reply: Reply) -> Nonsense {
    tally
        .faults
        .note(|| format!("the server {what}: {}", shown(reply)));
    Nonsense
}

/// A reply as text, cut where it gets long.
fn shown(reply: Reply) -> String {
    const SHOWN_BYTES: usize = 60;
    let (word, text) = match reply {
        Reply::Error => ("ERROR", &b""[..]),
        Reply::ClientError(text) => ("CLIENT_ERROR ", text),
        Reply::ServerError(text) => ("SERVER_ERROR ", text),
        Reply::Malformed(text) => ("", text),
        Reply::Value(head) => ("VALUE ", head.key),
        other => return format!("{other:?}"),
    };
    let text = &text[..text.len().min(SHOWN_BYTES)];
    format!("\"{word}{}\"", text.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{Pattern, Workload};

    fn setting(set_share: u32, get_share: u32, keys_per_get: u32) -> (Requests, Terms) {
        let workload = Workload {
            keys: KeySpace::new("k", 1, 9),
            set_pattern: Pattern::Sequential,
            get_pattern: Pattern::Sequential,
            set_share,
            get_share,
            keys_per_get,
            value_bytes: 20,
            exptime: (0, 0),
        };
        let terms = Terms::new(workload.keys.clone(), 20, Verify::Everything);
        (Requests::new(&workload, 1, 0, 1), terms)
    }

    /// Offers `count` requests and returns their bytes and the pipeline that expects replies.
    fn offered(
        count: usize,
        keys_per_get: u32,
        requests: &mut Requests,
        terms: &Terms,
    ) -> (Pipeline, Vec<u8>) {
        let mut pipeline = Pipeline::new(count, keys_per_get as usize);
        let mut out = Vec::new();
        for _ in 0..count {
            pipeline.offer(requests, terms, 10, 10, &mut out);
        }
        assert!(!pipeline.has_room());
        (pipeline, out)
    }

    fn hit(key: u64, terms: &Terms) -> Vec<u8> {
        let mut reply = format!("VALUE k{key} 0 20\r\n").into_bytes();
        terms.tape.render(key, 20, 5, &mut reply);
        reply.extend_from_slice(b"\r\n");
        reply
    }

    fn tally() -> Tally {
        Tally::new(0..u64::MAX, false)
    }

    #[test]
    fn requests_are_rendered_in_the_order_of_the_mix() {
        let (mut requests, terms) = setting(1, 3, 2);
        let (_, out) = offered(3, 2, &mut requests, &terms);
        let text = out.escape_ascii().to_string();
        assert!(text.starts_with("set k1 0 0 20\\r\\n"), "{text}");
        assert!(
            text.ends_with("\\r\\nget k1 k2\\r\\nget k3\\r\\n"),
            "{text}"
        );
    }

    #[test]
    fn hits_misses_and_stores_are_counted_however_the_replies_are_cut() {
        let (_, terms) = setting(1, 3, 2);
        let mut replies = b"STORED\r\n".to_vec();
        replies.extend(hit(2, &terms));
        replies.extend_from_slice(b"END\r\n");
        replies.extend(hit(3, &terms));
        replies.extend_from_slice(b"END\r\n");
        for piece_bytes in 1..=replies.len() {
            let (mut requests, terms) = setting(1, 3, 2);
            let (mut pipeline, _) = offered(3, 2, &mut requests, &terms);
            let mut tally = tally();
            for piece in replies.chunks(piece_bytes) {
                pipeline.receive(piece, 20, &terms, &mut tally).unwrap();
            }
            assert_eq!(pipeline.outstanding_count(), 0);
            assert_eq!((tally.sets.count, tally.gets.count), (1, 2));
            assert_eq!((tally.gets.hits, tally.gets.misses), (2, 1));
            let received = tally.sets.bytes_received + tally.gets.bytes_received;
            assert_eq!(received, replies.len() as u64, "pieces of {piece_bytes}");
            assert!(tally.faults.none(), "{:?}", tally.faults);
        }
    }

    #[test]
    fn a_wrong_byte_is_a_wrong_value_and_the_stream_goes_on() {
        let (mut requests, terms) = setting(0, 1, 1);
        let (mut pipeline, _) = offered(2, 1, &mut requests, &terms);
        let mut replies = hit(1, &terms);
        replies[30] ^= 1;
        replies.extend_from_slice(b"END\r\n");
        replies.extend(hit(2, &terms));
        replies.extend_from_slice(b"END\r\n");
        let mut tally = tally();
        pipeline.receive(&replies, 20, &terms, &mut tally).unwrap();
        assert_eq!(tally.faults.wrong_values, 1);
        assert_eq!(tally.faults.first, ["the value of k1 has a wrong byte"]);
        assert_eq!(tally.gets.hits, 2);
    }

    #[test]
    fn a_value_of_another_length_is_wrong() {
        let (mut requests, terms) = setting(0, 1, 1);
        let (mut pipeline, _) = offered(1, 1, &mut requests, &terms);
        let mut tally = tally();
        let reply = b"VALUE k1 0 3\r\nabc\r\nEND\r\n";
        pipeline.receive(reply, 20, &terms, &mut tally).unwrap();
        assert_eq!(tally.faults.wrong_values, 1);
        assert_eq!(pipeline.outstanding_count(), 0);
    }

    #[test]
    fn swapped_replies_are_misplaced() {
        let (mut requests, terms) = setting(0, 1, 1);
        let (mut pipeline, _) = offered(2, 1, &mut requests, &terms);
        let mut replies = hit(2, &terms);
        replies.extend_from_slice(b"END\r\n");
        replies.extend(hit(1, &terms));
        replies.extend_from_slice(b"END\r\n");
        let mut tally = tally();
        pipeline.receive(&replies, 20, &terms, &mut tally).unwrap();
        assert_eq!(tally.faults.misplaced, 2);
        assert_eq!(
            tally.faults.first[0],
            "a get of k1 was answered with the key k2"
        );
    }

    #[test]
    fn a_reply_of_the_other_kind_ends_the_connection() {
        let (mut requests, terms) = setting(1, 1, 1);
        let (mut pipeline, _) = offered(2, 1, &mut requests, &terms);
        let mut tally = tally();
        let outcome = pipeline.receive(b"END\r\n", 20, &terms, &mut tally);
        assert_eq!(outcome, Err(Nonsense));
        assert_eq!(tally.faults.misplaced, 1);
    }

    #[test]
    fn errors_answer_their_request_and_are_counted() {
        let (mut requests, terms) = setting(1, 1, 1);
        let (mut pipeline, _) = offered(2, 1, &mut requests, &terms);
        let mut tally = tally();
        let replies = b"SERVER_ERROR out of memory storing object\r\nEND\r\n";
        pipeline.receive(replies, 20, &terms, &mut tally).unwrap();
        assert_eq!(tally.faults.errors, 1);
        assert_eq!(tally.gets.misses, 1);
        assert_eq!(pipeline.outstanding_count(), 0);
    }

    #[test]
    fn endless_lines_unasked_replies_and_bad_line_ends_are_nonsense() {
        let endless = vec![b'a'; REPLY_LINE_MAX_BYTES + 1];
        let overlong = b"VALUE k1 0 1\r\nabc\r\nEND\r\n";
        let unasked = b"END\r\nEND\r\n";
        for (reply, verify) in [
            (&endless[..], Verify::Everything),
            (overlong, Verify::Nothing),
            (unasked, Verify::Everything),
        ] {
            let (mut requests, mut terms) = setting(0, 1, 1);
            terms.verify = verify;
            let (mut pipeline, _) = offered(1, 1, &mut requests, &terms);
            let outcome = pipeline.receive(reply, 20, &terms, &mut tally());
            assert_eq!(outcome, Err(Nonsense));
        }
    }
}
