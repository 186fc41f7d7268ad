//! The hearing half of a [`Pipeline`]: bytes become replies, each compared with what the request
//! in front may be answered.
//!
//! Always true: a reply that is not the expected one is counted as a fault and told in words, never
//! passed over; and a shortcut that does not recognise a reply leaves it to the general way.

use strata_protocol::client::{self as wire, REPLY_LINE_MAX_BYTES, Reply};

use super::{Block, Dialect, FollowUp, Nonsense, Outstanding, Pipeline, Terms, Then, Verify, meta};
use crate::kind::Kind;
use crate::tally::{Done, Tally};
use crate::workload::values::Check;

/// Of the hits of a connection one in this many has its value compared, unless all are.
const SAMPLE_EVERY: u32 = 8;

impl Pipeline {
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
                input = self.take_expected(input, now_ns, terms, tally);
                if input.is_empty() {
                    break;
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

    /// The shortcut for replies that are all but certain, in any number: a hit of a single key, whole, and the answer
    /// to a write. What is known beforehand is compared and not parsed, and replies to requests that were sent together
    /// are counted together. Stops at the first reply it does not recognise, which the general way then looks at;
    /// returns what is left from there.
    #[inline]
    fn take_expected<'a>(
        &mut self,
        mut input: &'a [u8],
        now_ns: u64,
        terms: &Terms,
        tally: &mut Tally,
    ) -> &'a [u8] {
        if self.hits + self.passed > 0 {
            // In the middle of a reply.
            return input;
        }
        let mut batch: Option<Done> = None;
        while let Some(front) = self.outstanding.front() {
            let rest = match front.kind {
                Kind::Get if front.key_count == 1 && front.then != Then::Cas => {
                    self.after_hit(input, terms)
                }
                Kind::Set if terms.dialect == Dialect::Classic => input.strip_prefix(b"STORED\r\n"),
                _ => None,
            };
            let Some(rest) = rest else {
                break;
            };
            let done = self.outstanding.pop_front().expect("it was in front");
            if done.kind == Kind::Get {
                self.keys.pop_front();
            } else {
                tally.stored += 1;
            }
            let bytes_received = (input.len() - rest.len()) as u64;
            input = rest;
            match &mut batch {
                Some(batch)
                    if batch.kind == done.kind
                        && batch.due_ns == done.due_ns
                        && batch.sent_ns == done.sent_ns =>
                {
                    batch.count += 1;
                    batch.key_count += 1;
                    batch.hits += 1;
                    batch.bytes_sent += u64::from(done.bytes);
                    batch.bytes_received += bytes_received;
                }
                _ => {
                    let next = Done {
                        kind: done.kind,
                        connection: self.index,
                        due_ns: done.due_ns,
                        sent_ns: done.sent_ns,
                        done_ns: now_ns,
                        count: 1,
                        key_count: 1,
                        hits: 1,
                        bytes_sent: u64::from(done.bytes),
                        bytes_received,
                    };
                    if let Some(batch) = batch.replace(next) {
                        tally.done(&batch);
                    }
                }
            }
        }
        if let Some(batch) = batch {
            tally.done(&batch);
        }
        input
    }

    /// What follows the hit of the key in front at the front of `input`, if that is what stands there.
    #[inline]
    fn after_hit<'a>(&mut self, input: &'a [u8], terms: &Terms) -> Option<&'a [u8]> {
        const END: &[u8] = b"\r\nEND\r\n";
        let value_bytes = terms.fixed_bytes?;
        let key = *self.keys.front()?;
        let rest = if terms.verify == Verify::Nothing {
            terms.keys.after_any(key, input.strip_prefix(b"VALUE ")?)?
        } else {
            terms.keys.after_name(key, terms.hit_head.strip(input)?)?
        };
        let (value, rest) = terms
            .value_head
            .strip(rest)?
            .split_at_checked(value_bytes)?;
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
        Some(rest)
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
            connection: self.index,
            due_ns: done.due_ns,
            sent_ns: done.sent_ns,
            done_ns: now_ns,
            count: 1,
            key_count: u64::from(done.key_count),
            hits: u64::from(self.hits),
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
