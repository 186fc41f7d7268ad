//! What watchers are told of a worker's commands, and the counts by prefix: everything about a
//! command that costs something only while somebody wants to know it.
//!
//! ```text
//! command --> Observer::execute --> Keeper                       (only while `on`)
//!                   |
//!                   v                         a batch a tick
//!                  Log: lines of this tick ---------------------> workers that have watchers
//!                                          \--------------------> standard error (-v)
//!
//! batch:  | lost u64 | kinds u16 | len u16 | line ... | kinds u16 | len u16 | line ... |
//! ```
//!
//! Always true: nothing here waits for a watcher. A worker's lines of one tick are bounded; those
//! beyond are lost, and how many is part of the batch. Lines are numbered (`gid`) in the order they
//! were written on all workers.

use std::io::Write;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU64, Ordering};

use strata_protocol::binary::{Arith, Command, Head, Status};
use strata_protocol::meta::{Options, Words};
use strata_protocol::reply::Sink;
use strata_protocol::{MetaVerb, StoreVerb, WatchKinds};
use strata_store::{Deadline, Evicted, Key, Peek, Seconds};

use crate::clock::Now;
use crate::config::LOG_LINE_MAX_BYTES;
use crate::execute::{Keeper, Outcome};
use crate::message::Op;
use crate::stats::prefixes::{Counted, Prefixes};

/// The number of the last line of all workers.
static LINE_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Bytes before the first line of a batch.
const BATCH_HEAD_BYTES: usize = 8;
/// Bytes before each line.
const LINE_HEAD_BYTES: usize = 4;

const _: () = assert!(LOG_LINE_MAX_BYTES <= u16::MAX as usize);

/// The lines of one tick of one worker.
#[derive(Debug, Default)]
pub struct Log {
    batch: Vec<u8>,
    /// Kinds of the lines in the batch.
    kinds: WatchKinds,
    room: usize,
    lost: u64,
    /// Lines written since it was last asked.
    written: u64,
}

impl Log {
    /// A log that takes so many bytes a tick.
    #[must_use]
    pub fn new(room: usize) -> Self {
        Self {
            room,
            ..Self::default()
        }
    }

    /// Adds a line that `write` makes behind its time and number.
    pub fn line(&mut self, now: &Now, kind: WatchKinds, write: impl FnOnce(&mut Vec<u8>)) {
        if self.batch.len() + LINE_HEAD_BYTES + LOG_LINE_MAX_BYTES
            > self.room.max(LOG_LINE_MAX_BYTES) + BATCH_HEAD_BYTES + LINE_HEAD_BYTES
        {
            self.lost += 1;
            return;
        }
        if self.batch.is_empty() {
            self.batch.extend_from_slice(&[0; BATCH_HEAD_BYTES]);
        }
        let head_at = self.batch.len();
        self.batch.extend_from_slice(&kind.bits().to_le_bytes());
        self.batch.extend_from_slice(&[0; 2]);
        let line_at = self.batch.len();
        let number = LINE_NUMBER.fetch_add(1, Ordering::Relaxed) + 1;
        // memcached's form, in which the microseconds are not filled up with zeros.
        let micros = now.elapsed_ns / 1000 % 1_000_000;
        let _ = write!(self.batch, "ts={}.{micros} gid={number} ", now.unix_s);
        write(&mut self.batch);
        self.batch.truncate(line_at + LOG_LINE_MAX_BYTES - 1);
        self.batch.push(b'\n');
        let len = (self.batch.len() - line_at) as u16;
        self.batch[head_at + 2..line_at].copy_from_slice(&len.to_le_bytes());
        self.kinds = self.kinds.and(kind);
        self.written += 1;
    }

    /// Whether there is anything to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.lost == 0
    }

    /// Takes the batch, the kinds of its lines, how many lines it has, and how many were lost.
    pub fn take(&mut self) -> (Vec<u8>, WatchKinds, u64, u64) {
        let mut batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            batch.extend_from_slice(&[0; BATCH_HEAD_BYTES]);
        }
        batch[..BATCH_HEAD_BYTES].copy_from_slice(&self.lost.to_le_bytes());
        let kinds = std::mem::take(&mut self.kinds);
        let (written, lost) = (self.written, self.lost);
        (self.written, self.lost) = (0, 0);
        (batch, kinds, written, lost)
    }
}

/// How many lines were lost before a batch.
#[must_use]
pub fn lost_of(batch: &[u8]) -> u64 {
    let mut lost = [0; BATCH_HEAD_BYTES];
    lost.copy_from_slice(&batch[..BATCH_HEAD_BYTES]);
    u64::from_le_bytes(lost)
}

/// Adds lines that were lost before a batch.
pub fn add_lost(batch: &mut [u8], lines: u64) {
    let lost = lost_of(batch) + lines;
    batch[..BATCH_HEAD_BYTES].copy_from_slice(&lost.to_le_bytes());
}

/// The lines of a batch.
pub fn lines_of(batch: &[u8]) -> impl Iterator<Item = (WatchKinds, &[u8])> {
    let mut rest = &batch[BATCH_HEAD_BYTES..];
    std::iter::from_fn(move || {
        let [a, b, c, d, behind @ ..] = rest else {
            return None;
        };
        let kinds = WatchKinds::from_bits(u16::from_le_bytes([*a, *b]));
        let (line, behind) = behind.split_at(u16::from_le_bytes([*c, *d]).into());
        rest = behind;
        Some((kinds, line))
    })
}

/// Writes a key so that it has neither blanks nor line ends.
pub fn uri_encode(key: &[u8], out: &mut Vec<u8>) {
    for &byte in key {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Whose connection an event is about, as a watcher is told.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Address, or `unix`.
    pub ip: String,
    /// Port, 0 for a unix socket.
    pub port: u16,
}

/// The side of a worker that looks at its commands.
#[derive(Debug, Default)]
pub struct Observer {
    /// Whether commands have to come this way.
    pub on: bool,
    /// What somebody watches.
    pub kinds: WatchKinds,
    /// Whether commands are counted by prefix.
    pub count_prefixes: bool,
    delimiter: u8,
    /// Those counts.
    pub prefixes: Prefixes,
    /// The lines of this tick.
    pub log: Log,
}

/// The first bytes of a reply, which tell how the command went.
struct Said<'a, S> {
    out: &'a mut S,
    mute: bool,
    first: [u8; 16],
    len: usize,
}

impl<S: Sink> Sink for Said<'_, S> {
    fn put(&mut self, bytes: &[u8]) {
        let take = bytes.len().min(self.first.len() - self.len);
        self.first[self.len..self.len + take].copy_from_slice(&bytes[..take]);
        self.len += take;
        if !self.mute {
            self.out.put(bytes);
        }
    }
}

impl Observer {
    /// An observer that nobody has asked yet.
    #[must_use]
    pub fn new(log_bytes: usize, delimiter: u8) -> Self {
        Self {
            delimiter,
            log: Log::new(log_bytes),
            ..Self::default()
        }
    }

    /// Whether somebody watches this.
    #[must_use]
    pub fn watches(&self, kind: WatchKinds) -> bool {
        self.kinds.meets(kind)
    }

    /// Has the keeper execute a command, and tells of it. `fd` names the client's connection.
    #[cold]
    #[allow(clippy::too_many_arguments)]
    pub fn execute(
        &mut self,
        keeper: &mut Keeper,
        now: &Now,
        fd: RawFd,
        op: Op,
        key: Key<'_>,
        value: &[u8],
        quiet: bool,
        out: &mut impl Sink,
    ) -> Outcome {
        if key.bytes.is_empty() {
            return keeper.execute(now, op, key, value, quiet, out);
        }
        let before = Before::of(keeper.shard.peek(key, now.seconds));
        // A value that is not taken is told of first, and only a set looks for what it would have
        // replaced.
        let refused = matches!(op, Op::Refuse { .. } | Op::RefusePacket { .. });
        if !refused {
            self.fetch(now, fd, key.bytes, &before);
        }
        // What is silenced on the wire is told all the same.
        let mute = quiet && matches!(op, Op::Store { .. } | Op::Refuse { .. } | Op::Delete);
        let mut said = Said {
            out,
            mute,
            first: [0; 16],
            len: 0,
        };
        let outcome = keeper.execute(now, op, key, value, quiet && !mute, &mut said);
        let said = &said.first[..said.len];
        if let (true, Some(what)) = (self.count_prefixes, counted(op, &before)) {
            let counted = self.prefixes.count(self.delimiter, key.bytes, what);
            keeper.counters.prefixes_uncounted += u64::from(!counted);
        }
        if let Some(mutation) = mutation(now, op, value, said, &before) {
            if mutation.looks_again {
                self.fetch(now, fd, key.bytes, &before);
            }
            if self.watches(WatchKinds::MUTATIONS) {
                self.mutation(now, fd, key.bytes, &mutation);
            }
        }
        if refused && unlinks(op) {
            self.fetch(now, fd, key.bytes, &before);
        }
        if let Some((command, size)) = deletion(op, value, said, &before) {
            self.log.line(now, WatchKinds::DELETIONS, |line| {
                line.extend_from_slice(b"type=deleted key=");
                uri_encode(key.bytes, line);
                let _ = write!(line, " cmd={command} clsid=1 size={size}");
            });
        }
        outcome
    }

    fn fetch(&mut self, now: &Now, fd: RawFd, key: &[u8], found: &Before) {
        if !self.watches(WatchKinds::FETCHERS) {
            return;
        }
        let status = found.status;
        let class = u8::from(found.value_bytes.is_some());
        let size = found.value_bytes.unwrap_or(0);
        self.log.line(now, WatchKinds::FETCHERS, |line| {
            line.extend_from_slice(b"type=item_get key=");
            uri_encode(key, line);
            let _ = write!(line, " status={status} clsid={class} cfd={fd} size={size}");
        });
    }

    fn mutation(&mut self, now: &Now, fd: RawFd, key: &[u8], mutation: &Mutation) {
        let Mutation {
            command,
            status,
            size,
            ..
        } = mutation;
        let ttl = match mutation.deadline {
            Deadline::Never => 0,
            // A deadline that has passed wraps, as memcached's does.
            Deadline::At(at) => at.0.wrapping_sub(now.seconds.0),
        };
        self.log.line(now, WatchKinds::MUTATIONS, |line| {
            line.extend_from_slice(b"type=item_store key=");
            uri_encode(key, line);
            let _ = write!(
                line,
                " status={status} cmd={command} ttl={ttl} clsid=1 cfd={fd} size={size}"
            );
        });
    }

    /// Tells of an item that was dropped to make room. How long ago it was asked for is as true as
    /// `mg` with `l` is.
    pub fn evicted(&mut self, now: &Now, item: &Evicted) {
        let fetched = if item.fetched { "yes" } else { "no" };
        let ttl = match item.deadline {
            Deadline::Never => -1,
            Deadline::At(Seconds(at)) => i64::from(at) - i64::from(now.seconds.0),
        };
        let size = item.value_bytes;
        let idle_s = now.seconds.0.saturating_sub(item.accessed.0);
        self.log.line(now, WatchKinds::EVICTIONS, |line| {
            line.extend_from_slice(b"type=eviction key=");
            uri_encode(&item.key, line);
            let _ = write!(
                line,
                " fetch={fetched} ttl={ttl} la={idle_s} clsid=1 size={size}"
            );
        });
    }

    /// Adds to what was lost before it could be noted.
    pub fn lost(&mut self, lines: u64) {
        self.log.lost += lines;
    }

    /// Tells of a connection that begins, or that ends for a reason.
    pub fn connection(&mut self, now: &Now, fd: RawFd, peer: &Peer, ended: Option<&str>) {
        let Peer { ip, port } = peer;
        let transport = if ip == "unix" { "local" } else { "tcp" };
        self.log.line(now, WatchKinds::CONNEVENTS, |line| {
            let _ = match ended {
                None => write!(
                    line,
                    "type=conn_new rip={ip} rport={port} transport={transport} cfd={fd}"
                ),
                Some(reason) => write!(
                    line,
                    "type=conn_close rip={ip} rport={port} transport={transport} reason={reason} cfd={fd}"
                ),
            };
        });
    }

    /// Tells of the line of a command as it came.
    pub fn command(&mut self, now: &Now, fd: RawFd, input: &[u8]) {
        let end = input.iter().position(|byte| *byte == b'\n');
        let text = &input[..end.unwrap_or(input.len())];
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        self.log.line(now, WatchKinds::RAWCMDS, |line| {
            let _ = write!(line, "<{fd} ");
            line.extend(text.iter().map(|byte| match byte {
                b' '..=b'~' => *byte,
                _ => b'?',
            }));
        });
    }

    /// Tells of something the server did by itself or was told to.
    pub fn event(&mut self, now: &Now, text: std::fmt::Arguments<'_>) {
        self.log.line(now, WatchKinds::SYSEVENTS, |line| {
            let _ = line.write_fmt(text);
        });
    }
}

/// What there was before a command.
struct Before {
    /// As a watcher is told.
    status: &'static str,
    /// Length of the value, if there was an item.
    value_bytes: Option<usize>,
    deadline: Deadline,
}

impl Before {
    fn of(found: Peek<'_>) -> Self {
        let (status, sight) = match found {
            Peek::Absent => ("not_found", None),
            Peek::Expired => ("expired", None),
            Peek::Flushed => ("flushed", None),
            Peek::Here(sight) => ("found", Some(sight)),
        };
        Self {
            status,
            value_bytes: sight.map(|sight| sight.value_bytes),
            deadline: sight.map_or(Deadline::Never, |sight| sight.deadline),
        }
    }
}

/// What was stored or was to be, as a watcher is told.
struct Mutation {
    command: &'static str,
    status: &'static str,
    deadline: Deadline,
    size: usize,
    /// The command has first looked once more for what it stores.
    looks_again: bool,
}

impl Mutation {
    fn new(command: &'static str, status: &'static str, deadline: Deadline, size: usize) -> Self {
        Self {
            command,
            status,
            deadline,
            size,
            looks_again: false,
        }
    }

    /// The value was added to one that was there, whose deadline stays.
    fn grown(self, before: &Before) -> Self {
        let Some(value_bytes) = before.value_bytes else {
            return self;
        };
        Self {
            deadline: before.deadline,
            size: self.size + value_bytes,
            ..self
        }
    }
}

/// A storage command's name.
fn name(verb: StoreVerb) -> &'static str {
    match verb {
        StoreVerb::Set => "set",
        StoreVerb::Add => "add",
        StoreVerb::Replace => "replace",
        StoreVerb::Append => "append",
        StoreVerb::Prepend => "prepend",
        StoreVerb::Cas => "cas",
    }
}

/// What the prefix of the key counts, which is nothing for meta commands, as in memcached.
fn counted(op: Op, before: &Before) -> Option<Counted> {
    let fetched = match before.value_bytes {
        Some(_) => Counted::Hit,
        None => Counted::Miss,
    };
    match op {
        Op::Get { .. } | Op::GetAndTouch { .. } => Some(fetched),
        Op::Store { .. } | Op::Refuse { .. } | Op::RefusePacket { .. } => Some(Counted::Set),
        Op::Delete => Some(Counted::Delete),
        Op::Packet { head, .. } => {
            let (command, _) = Command::of(head.opcode)?;
            match command {
                Command::Get
                | Command::GetKey
                | Command::Touch
                | Command::GetAndTouch
                | Command::GetKeyAndTouch => Some(fetched),
                Command::Delete => Some(Counted::Delete),
                _ => command.store_verb().map(|_| Counted::Set),
            }
        }
        _ => None,
    }
}

/// What a command has stored or tried to, by what it has said.
fn mutation(now: &Now, op: Op, value: &[u8], said: &[u8], before: &Before) -> Option<Mutation> {
    match op {
        Op::Store { verb, deadline, .. } => {
            let status = status_of_words(said);
            let stored = Mutation::new(name(verb), status, deadline, value.len());
            let extends = matches!(verb, StoreVerb::Append | StoreVerb::Prepend);
            match extends && status == "stored" {
                true => Some(stored.grown(before)),
                false => Some(stored),
            }
        }
        Op::Refuse { verb, too_large } => {
            let status = refusal(too_large);
            Some(Mutation::new(name(verb), status, Deadline::Never, 0))
        }
        // memcached no longer knows which one it was.
        Op::RefusePacket { too_large, .. } => {
            let status = refusal(too_large);
            Some(Mutation::new("null", status, Deadline::Never, 0))
        }
        Op::Meta {
            verb, words_bytes, ..
        } => {
            let (words, value) = value.split_at(usize::from(words_bytes));
            meta_mutation(now, verb, words, value, said, before)
        }
        Op::Packet {
            head,
            cas,
            deadline,
            ..
        } => packet_mutation(head, cas, deadline, value, said, before),
        _ => None,
    }
}

fn meta_mutation(
    now: &Now,
    verb: MetaVerb,
    words: &[u8],
    value: &[u8],
    said: &[u8],
    before: &Before,
) -> Option<Mutation> {
    let options = Options::read(Words::of_text(words));
    let deadline = now.deadline(options.exptime.into());
    let is_there = before.value_bytes.is_some();
    match verb {
        MetaVerb::Set => {
            let status = status_of_words(said);
            let (verb, extends) = match options.mode {
                b'E' => (StoreVerb::Add, false),
                b'A' => (StoreVerb::Append, true),
                b'P' => (StoreVerb::Prepend, true),
                _ if options.has(b'C') => (StoreVerb::Cas, false),
                b'R' => (StoreVerb::Replace, false),
                _ => (StoreVerb::Set, false),
            };
            let deadline = match extends && options.has(b'N') {
                true => now.deadline(options.vivify.into()),
                false => deadline,
            };
            let stored = Mutation::new(name(verb), status, deadline, value.len());
            match extends && status == "stored" {
                true => Some(stored.grown(before)),
                false => Some(stored),
            }
        }
        // Its deadline comes later, and is not told.
        MetaVerb::Arith if !is_there && options.has(b'N') && is_done(said) => {
            Some(made(options.initial, Deadline::Never))
        }
        // `x` stores an empty value before anything else is done.
        MetaVerb::Delete if is_there && options.has(b'x') && is_done(said) => {
            let deadline = match options.has(b'T') {
                true => deadline,
                false => Deadline::Never,
            };
            Some(Mutation {
                looks_again: true,
                ..Mutation::new("set", "stored", deadline, 0)
            })
        }
        _ => None,
    }
}

fn packet_mutation(
    head: Head,
    cas: u64,
    deadline: Deadline,
    value: &[u8],
    said: &[u8],
    before: &Before,
) -> Option<Mutation> {
    let (command, _) = Command::of(head.opcode)?;
    // A quiet success says nothing.
    let code = match said.get(6..8) {
        Some(code) => u16::from_be_bytes([code[0], code[1]]),
        None => Status::Success.code(),
    };
    let done = code == Status::Success.code();
    if command.arith_verb().is_some() {
        let initial = Arith::read(value).initial?;
        return (done && before.value_bytes.is_none()).then(|| made(initial, deadline));
    }
    let verb = command.store_verb()?;
    let extends = matches!(verb, StoreVerb::Append | StoreVerb::Prepend);
    let compares = cas != 0 && !extends;
    let status = if done {
        "stored"
    } else if code == Status::TooLarge.code() {
        "too_large"
    } else if code == Status::OutOfMemory.code() {
        "no_memory"
    } else if code == Status::Exists.code() && cas != 0 {
        "exists"
    } else if code == Status::NotFound.code() && compares {
        "not_found"
    } else {
        "not_stored"
    };
    let verb = if compares { StoreVerb::Cas } else { verb };
    let stored = Mutation::new(name(verb), status, deadline, value.len());
    match extends && done {
        true => Some(stored.grown(before)),
        false => Some(stored),
    }
}

/// A number that was made where there was none.
fn made(initial: u64, deadline: Deadline) -> Mutation {
    let digits = initial.checked_ilog10().unwrap_or(0) as usize + 1;
    Mutation {
        looks_again: true,
        ..Mutation::new("add", "stored", deadline, digits)
    }
}

/// Whether a meta command has done what it was to; a quiet one says nothing then.
fn is_done(said: &[u8]) -> bool {
    said.is_empty() || said.starts_with(b"HD") || said.starts_with(b"VA")
}

fn refusal(too_large: bool) -> &'static str {
    if too_large { "too_large" } else { "no_memory" }
}

/// Whether a value that is not taken makes its command drop what is there.
fn unlinks(op: Op) -> bool {
    match op {
        Op::Refuse { verb, .. } => verb == StoreVerb::Set,
        Op::RefusePacket { head, .. } => {
            let command = Command::of(head.opcode).map(|(command, _)| command);
            command.and_then(Command::store_verb) == Some(StoreVerb::Set)
        }
        _ => false,
    }
}

/// How a store of the text protocol went.
fn status_of_words(said: &[u8]) -> &'static str {
    match said {
        b"STORED\r\n" => "stored",
        b"NOT_STORED\r\n" => "not_stored",
        b"EXISTS\r\n" => "exists",
        b"NOT_FOUND\r\n" => "not_found",
        // Of the meta commands; a quiet one says nothing when it has stored.
        [] | [b'H', b'D', ..] => "stored",
        [b'N', b'S', ..] => "not_stored",
        [b'E', b'X', ..] => "exists",
        [b'N', b'F', ..] => "not_found",
        _ => refusal(said.starts_with(b"SERVER_ERROR ob")),
    }
}

/// The command and the size of a deletion, if it is one; memcached tells of none over the binary
/// protocol.
fn deletion(op: Op, value: &[u8], said: &[u8], before: &Before) -> Option<(&'static str, usize)> {
    let value_bytes = before.value_bytes?;
    match op {
        Op::Delete if said.starts_with(b"DELETED") => Some(("delete", value_bytes)),
        Op::Meta {
            verb: MetaVerb::Delete,
            words_bytes,
            ..
        } if is_done(said) => {
            let options = Options::read(Words::of_text(&value[..usize::from(words_bytes)]));
            match (options.has(b'I'), options.has(b'x')) {
                (true, _) => None,
                (false, true) => Some(("md", 0)),
                (false, false) => Some(("md", value_bytes)),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_batch_says_what_it_lost() {
        let now = Now::after(1_700_000_000, Duration::from_micros(5_000_007));
        let mut log = Log::new(2 * LOG_LINE_MAX_BYTES);
        for at in 0..100 {
            let kind = if at % 2 == 0 {
                WatchKinds::FETCHERS
            } else {
                WatchKinds::DELETIONS
            };
            log.line(&now, kind, |line| line.resize(line.len() + 200, b'x'));
        }
        let (batch, kinds, written, lost) = log.take();
        assert_eq!(kinds, WatchKinds::FETCHERS.and(WatchKinds::DELETIONS));
        assert_eq!((written + lost, lost_of(&batch)), (100, lost));
        assert!(lost > 50 && written > 2);
        let lines: Vec<_> = lines_of(&batch).collect();
        assert_eq!(lines.len() as u64, written);
        assert!(lines[0].1.starts_with(b"ts=1700000005.7 gid=") && lines[0].1.ends_with(b"xx\n"));
        assert!(lines[1].0.meets(WatchKinds::DELETIONS));
        assert!(log.is_empty());
    }

    #[test]
    fn keys_are_encoded_as_memcached_does() {
        let mut text = Vec::new();
        uri_encode(b"a%20-b._~/\xff", &mut text);
        assert_eq!(text, b"a%2520-b._~%2F%FF");
    }
}
