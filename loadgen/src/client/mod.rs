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

use std::collections::VecDeque;

use strata_protocol::client::{self as wire, REPLY_LINE_MAX_BYTES, Reply};
use strata_protocol::{ArithVerb, GetKind, Store, StoreVerb};

use crate::kind::Kind;
use crate::tally::{Done, Tally};
use crate::workload::values::Check;
use crate::workload::{Ask, Requests};

pub mod meta;
pub mod terms;

pub use terms::{Dialect, Terms, Verify};

use meta::Condition;

/// Of the hits of a connection one in this many has its value compared, unless all are.
const SAMPLE_EVERY: u32 = 8;

/// What a new counter holds.
const COUNTER_START: &[u8] = b"0";

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

    /// Appends the request that a reply has led to, if there is one, and says when it was due.
    pub fn offer_follow_up(
        &mut self,
        terms: &Terms,
        sent_ns: u64,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let next = self.follow_ups.pop_front()?;
        let before = out.len();
        if next.kind == Kind::Add {
            let key = terms.keys.counter(next.key);
            self.store(
                Kind::Add,
                key.as_ref(),
                &next,
                COUNTER_START.len(),
                terms,
                out,
            );
            out.extend_from_slice(COUNTER_START);
        } else {
            let key = terms.keys.key(next.key);
            let value_bytes = next.value_bytes as usize;
            self.store(next.kind, key.as_ref(), &next, value_bytes, terms, out);
            self.version += 1;
            terms.tape.render(next.key, value_bytes, self.version, out);
        }
        out.extend_from_slice(b"\r\n");
        self.outstanding.push_back(Outstanding {
            due_ns: next.due_ns,
            sent_ns,
            key: next.key,
            bytes: (out.len() - before) as u32,
            key_count: 1,
            value_bytes: next.value_bytes,
            exptime: next.exptime,
            kind: next.kind,
            then: Then::Nothing,
        });
        Some(next.due_ns)
    }

    /// The line of a write.
    fn store(
        &mut self,
        kind: Kind,
        key: &[u8],
        write: &FollowUp,
        value_bytes: usize,
        terms: &Terms,
        out: &mut Vec<u8>,
    ) {
        if terms.dialect == Dialect::Meta {
            let condition = match kind {
                Kind::Add => Condition::Absent,
                Kind::Cas => Condition::Unique(write.unique),
                _ => Condition::None,
            };
            let opaque = self.next_opaque();
            meta::store_line(
                out,
                key,
                value_bytes as u32,
                write.exptime,
                condition,
                opaque,
            );
            return;
        }
        let line = Store {
            verb: match kind {
                Kind::Add => StoreVerb::Add,
                Kind::Cas => StoreVerb::Cas,
                _ => StoreVerb::Set,
            },
            key,
            flags: 0,
            exptime: write.exptime.into(),
            value_bytes: value_bytes as u32,
            cas: write.unique,
            noreply: false,
        };
        wire::store_line(&mut |bytes: &[u8]| out.extend_from_slice(bytes), &line);
    }

    fn next_opaque(&mut self) -> u32 {
        self.opaque_sent = self.opaque_sent.wrapping_add(1);
        self.opaque_sent
    }

    /// Appends the request `ask` to `out`. Further keys of a retrieval come from `requests`.
    #[inline]
    pub fn offer(
        &mut self,
        ask: &Ask,
        requests: &mut Requests,
        terms: &Terms,
        due_ns: u64,
        sent_ns: u64,
        out: &mut Vec<u8>,
    ) {
        debug_assert!(self.has_room());
        let before = out.len();
        let (kind, then) = match ask.kind {
            Kind::Cas => (Kind::Get, Then::Cas),
            Kind::Get if self.set_on_miss && ask.key_count == 1 => (Kind::Get, Then::SetOnMiss),
            Kind::Incr => (Kind::Incr, Then::AddCounter),
            kind => (kind, Then::Nothing),
        };
        match kind {
            Kind::Get
                if ask.key_count == 1 && then != Then::Cas && terms.dialect == Dialect::Classic =>
            {
                // By far the most frequent request, rendered without a copy of its key.
                self.keys.push_back(ask.key);
                out.extend_from_slice(b"get ");
                terms.keys.append(ask.key, out);
                out.extend_from_slice(b"\r\n");
            }
            Kind::Get | Kind::Gat => {
                if terms.dialect == Dialect::Meta {
                    self.meta_get(ask, then, requests, terms, out);
                } else {
                    let keys = &mut self.keys;
                    let drawn = (0..ask.key_count).map(|index| {
                        let key = if index == 0 {
                            ask.key
                        } else {
                            requests.get_key()
                        };
                        keys.push_back(key);
                        terms.keys.key(key)
                    });
                    let verb = match (kind, then) {
                        (Kind::Gat, _) => GetKind::Gat,
                        (_, Then::Cas) => GetKind::Gets,
                        _ => GetKind::Get,
                    };
                    let mut sink = |bytes: &[u8]| out.extend_from_slice(bytes);
                    wire::retrieve(&mut sink, verb, ask.exptime.into(), drawn);
                }
            }
            Kind::Set | Kind::Add | Kind::Cas => {
                let write = FollowUp {
                    kind,
                    key: ask.key,
                    unique: 0,
                    value_bytes: ask.value_bytes,
                    exptime: ask.exptime,
                    due_ns,
                };
                let key = terms.keys.key(ask.key);
                let value_bytes = ask.value_bytes as usize;
                self.store(kind, key.as_ref(), &write, value_bytes, terms, out);
                terms.tape.render(ask.key, value_bytes, ask.version, out);
                out.extend_from_slice(b"\r\n");
            }
            Kind::Delete | Kind::Incr | Kind::Touch => self.other(kind, ask, terms, out),
        }
        self.outstanding.push_back(Outstanding {
            due_ns,
            sent_ns,
            key: ask.key,
            bytes: (out.len() - before) as u32,
            key_count: ask.key_count,
            value_bytes: ask.value_bytes,
            exptime: ask.exptime,
            kind,
            then,
        });
    }

    fn meta_get(
        &mut self,
        ask: &Ask,
        then: Then,
        requests: &mut Requests,
        terms: &Terms,
        out: &mut Vec<u8>,
    ) {
        let exptime = (ask.kind == Kind::Gat).then_some(ask.exptime);
        for index in 0..ask.key_count {
            let key = if index == 0 {
                ask.key
            } else {
                requests.get_key()
            };
            self.keys.push_back(key);
            let opaque = self.next_opaque();
            let key = terms.keys.key(key);
            meta::get(out, key.as_ref(), then == Then::Cas, exptime, opaque);
        }
    }

    fn other(&mut self, kind: Kind, ask: &Ask, terms: &Terms, out: &mut Vec<u8>) {
        let key = match kind {
            Kind::Incr => terms.keys.counter(ask.key),
            _ => terms.keys.key(ask.key),
        };
        let key = key.as_ref();
        if terms.dialect == Dialect::Meta {
            let opaque = self.next_opaque();
            match kind {
                Kind::Delete => meta::delete(out, key, opaque),
                Kind::Touch => meta::touch(out, key, ask.exptime, opaque),
                _ => meta::incr(out, key, opaque),
            }
            return;
        }
        let mut sink = |bytes: &[u8]| out.extend_from_slice(bytes);
        match kind {
            Kind::Delete => wire::delete(&mut sink, key, false),
            Kind::Touch => wire::touch(&mut sink, key, ask.exptime.into(), false),
            _ => wire::arith(&mut sink, ArithVerb::Incr, key, 1, false),
        }
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
                let ended = block.value_left == 0 && block.end_left == 0;
                self.reply_bytes += taken as u64;
                if ended {
                    self.block = None;
                    self.value_ended(now_ns, terms, tally);
                }
                input = &input[taken..];
                continue;
            }
            if self.line.is_empty() {
                let expected = self
                    .take_expected_hit(input, now_ns, terms, tally)
                    .or_else(|| self.take_expected_store(input, now_ns, terms, tally));
                if let Some(taken) = expected {
                    input = &input[taken..];
                    continue;
                }
                let Some((taken, reply, opaque)) = self.parse(input, terms) else {
                    self.line.extend_from_slice(input);
                    return Ok(());
                };
                self.reply_bytes += taken as u64;
                self.take_line(reply, opaque, now_ns, terms, tally)?;
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
            let outcome = match self.parse(&line, terms) {
                None => {
                    self.line = line;
                    continue;
                }
                Some((taken, reply, opaque)) => {
                    self.reply_bytes += taken as u64;
                    self.take_line(reply, opaque, now_ns, terms, tally)
                }
            };
            self.line = line;
            self.line.clear();
            outcome?;
        }
        Ok(())
    }

    #[inline]
    fn parse<'a>(&self, input: &'a [u8], terms: &Terms) -> Option<(usize, Reply<'a>, Option<u32>)> {
        match terms.dialect {
            Dialect::Classic => wire::reply(input).map(|(taken, reply)| (taken, reply, None)),
            Dialect::Meta => {
                let kind = self
                    .outstanding
                    .front()
                    .map_or(Kind::Get, |front| front.kind);
                meta::reply(input, kind)
            }
        }
    }

    /// Compares the opaque, where there is one, and takes the reply.
    #[inline]
    fn take_line(
        &mut self,
        reply: Reply,
        opaque: Option<u32>,
        now_ns: u64,
        terms: &Terms,
        tally: &mut Tally,
    ) -> Result<(), Nonsense> {
        if terms.dialect == Dialect::Meta {
            self.opaque_answered = self.opaque_answered.wrapping_add(1);
            let expected = self.opaque_answered;
            if let Some(opaque) = opaque
                && opaque != expected
            {
                tally.faults.misplaced += 1;
                tally.faults.note(|| {
                    format!("request {expected} was answered with the opaque of {opaque}")
                });
            }
        }
        self.take_reply(reply, now_ns, terms, tally)
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
        let value_bytes = terms.fixed_bytes?;
        let key = *self.keys.front()?;
        let any = terms.verify == Verify::Nothing;
        let rest = input.strip_prefix(b"VALUE ")?;
        let rest = terms.keys.after_key(key, any, rest)?;
        let rest = rest.strip_prefix(&*terms.value_head)?;
        let (value, rest) = rest.split_at_checked(value_bytes)?;
        let rest = rest.strip_prefix(END)?;
        match terms.verify {
            Verify::Nothing => {}
            Verify::Sampled if self.sample_in > 0 => self.sample_in -= 1,
            Verify::Sampled | Verify::Everything => {
                let mut check = Check::new(key, value_bytes);
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
        self.finish(now_ns, false, tally);
        Some(taken)
    }

    /// The same for the answer to a write.
    #[inline]
    fn take_expected_store(
        &mut self,
        input: &[u8],
        now_ns: u64,
        terms: &Terms,
        tally: &mut Tally,
    ) -> Option<usize> {
        const STORED: &[u8] = b"STORED\r\n";
        let front = self.outstanding.front()?;
        let expected = front.kind == Kind::Set && terms.dialect == Dialect::Classic;
        if !expected || !input.starts_with(STORED) {
            return None;
        }
        tally.stored += 1;
        self.hits = 1;
        self.reply_bytes = STORED.len() as u64;
        self.finish(now_ns, false, tally);
        Some(STORED.len())
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
        let mut failed = false;
        match (kind, reply) {
            (Kind::Get | Kind::Gat, Reply::Value(head)) => {
                if front.then == Then::Cas && head.cas.is_none() {
                    tally.faults.errors += 1;
                    tally
                        .faults
                        .note(|| "a gets was answered without a unique".into());
                }
                self.unique = head.cas;
                let index = self.find(head.key, unseen, terms, tally);
                self.start_block(index, head.value_bytes as usize, terms, tally);
                return Ok(());
            }
            (Kind::Get | Kind::Gat, Reply::End) => {
                if terms.dialect == Dialect::Meta {
                    self.keys.pop_front();
                    self.passed += 1;
                    if unseen > 1 {
                        return Ok(());
                    }
                } else {
                    self.keys.drain(..unseen as usize);
                }
            }
            // The meta protocol wraps the number into a value.
            (Kind::Incr, Reply::Value(head)) if terms.dialect == Dialect::Meta => {
                self.hits = 1;
                self.block = Some(Block {
                    value_left: head.value_bytes as usize,
                    end_left: 2,
                    check: None,
                    key: 0,
                });
                return Ok(());
            }
            (Kind::Set | Kind::Add | Kind::Cas, Reply::Stored) => {
                tally.stored += 1;
                self.hits = 1;
            }
            (Kind::Delete, Reply::Deleted)
            | (Kind::Touch, Reply::Touched)
            | (Kind::Incr, Reply::Number(_)) => self.hits = 1,
            // The condition did not hold: an ordinary outcome, counted as a miss.
            (Kind::Add, Reply::NotStored)
            | (Kind::Cas, Reply::Exists | Reply::NotFound)
            | (Kind::Delete | Kind::Touch | Kind::Incr, Reply::NotFound) => {}
            (
                _,
                Reply::Error
                | Reply::ClientError(_)
                | Reply::ServerError(_)
                | Reply::NotStored
                | Reply::Exists
                | Reply::NotFound,
            ) => {
                failed = true;
                tally.faults.errors += 1;
                tally
                    .faults
                    .note(|| format!("a {} was answered {}", kind.name(), shown(reply)));
                if kind.reads() && terms.dialect == Dialect::Meta {
                    // Each key has a line and a reply of its own.
                    self.keys.pop_front();
                    self.passed += 1;
                    if unseen > 1 {
                        return Ok(());
                    }
                } else if kind.reads() {
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
            (_, Reply::Malformed(_)) => {
                let what = format!("sent what is no reply to a {}", kind.name());
                return Err(nonsense(tally, &what, reply));
            }
            _ => {
                tally.faults.misplaced += 1;
                let what = format!("answered a {} as if it were another command", kind.name());
                return Err(nonsense(tally, &what, reply));
            }
        }
        self.finish(now_ns, failed, tally);
        Ok(())
    }

    /// A value is complete. It ends a request of the meta protocol, whose values are not listed.
    #[inline]
    fn value_ended(&mut self, now_ns: u64, terms: &Terms, tally: &mut Tally) {
        let key_count = self.outstanding.front().map_or(0, |front| front.key_count);
        if terms.dialect == Dialect::Meta && self.hits + self.passed >= key_count {
            self.finish(now_ns, false, tally);
        }
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
        // In the meta protocol each key has a reply of its own.
        let candidates = match terms.dialect {
            Dialect::Classic => unseen as usize,
            Dialect::Meta => 1,
        };
        for missed in 0..candidates {
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
            if !terms.allows(index, value_bytes as u32) {
                tally.faults.wrong_values += 1;
                tally.faults.note(|| {
                    format!(
                        "a value has {value_bytes} bytes instead of {}",
                        terms.expected_bytes(index)
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
    fn finish(&mut self, now_ns: u64, failed: bool, tally: &mut Tally) {
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
            bytes_sent: u64::from(done.bytes),
            bytes_received: self.reply_bytes,
        });
        if done.then != Then::Nothing && !failed {
            self.follow(&done, now_ns);
        }
        self.hits = 0;
        self.passed = 0;
        self.unique = None;
        self.reply_bytes = 0;
    }

    /// What the answer to `done` leads to.
    fn follow(&mut self, done: &Outstanding, now_ns: u64) {
        let found = self.hits > 0;
        let (kind, unique) = match (done.then, found, self.unique) {
            (Then::Cas, true, Some(unique)) => (Kind::Cas, unique),
            (Then::SetOnMiss, false, _) => (Kind::Set, 0),
            (Then::AddCounter, false, _) => (Kind::Add, 0),
            _ => return,
        };
        self.follow_ups.push_back(FollowUp {
            kind,
            key: done.key,
            unique,
            value_bytes: done.value_bytes,
            exptime: done.exptime,
            due_ns: now_ns,
        });
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
mod tests;
