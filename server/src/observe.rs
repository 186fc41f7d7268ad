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
        let (status, value_bytes) = match keeper.shard.peek(key, now.seconds) {
            Peek::Absent => ("not_found", None),
            Peek::Expired => ("expired", None),
            Peek::Flushed => ("flushed", None),
            Peek::Here(sight) => ("found", Some(sight.value_bytes)),
        };
        if self.watches(WatchKinds::FETCHERS) {
            let class = u8::from(value_bytes.is_some());
            let size = value_bytes.unwrap_or(0);
            self.log.line(now, WatchKinds::FETCHERS, |line| {
                line.extend_from_slice(b"type=item_get key=");
                uri_encode(key.bytes, line);
                let _ = write!(line, " status={status} clsid={class} cfd={fd} size={size}");
            });
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
        let counted = match op {
            Op::Get { .. } | Op::GetAndTouch { .. } if value_bytes.is_some() => Some(Counted::Hit),
            Op::Get { .. } | Op::GetAndTouch { .. } => Some(Counted::Miss),
            Op::Store { .. } | Op::Refuse { .. } => Some(Counted::Set),
            Op::Delete => Some(Counted::Delete),
            Op::Meta { verb, .. } => match verb {
                MetaVerb::Get if value_bytes.is_some() => Some(Counted::Hit),
                MetaVerb::Get => Some(Counted::Miss),
                MetaVerb::Set => Some(Counted::Set),
                MetaVerb::Delete => Some(Counted::Delete),
                _ => None,
            },
            _ => None,
        };
        if let (true, Some(what)) = (self.count_prefixes, counted) {
            self.prefixes.count(self.delimiter, key.bytes, what);
        }
        match op {
            Op::Store { verb, deadline, .. } if self.watches(WatchKinds::MUTATIONS) => {
                let extends = matches!(verb, StoreVerb::Append | StoreVerb::Prepend);
                let grown = extends && said.starts_with(b"STORED");
                let size = value.len() + if grown { value_bytes.unwrap_or(0) } else { 0 };
                self.mutation(now, fd, key.bytes, verb, said, deadline, size);
            }
            Op::Refuse { verb, .. } if self.watches(WatchKinds::MUTATIONS) => {
                self.mutation(now, fd, key.bytes, verb, said, Deadline::Never, 0);
            }
            // A mode and a deadline stand among the flags, and are not told.
            Op::Meta {
                verb: MetaVerb::Set,
                words_bytes,
                ..
            } if self.watches(WatchKinds::MUTATIONS) => {
                let size = value.len() - usize::from(words_bytes);
                self.mutation(
                    now,
                    fd,
                    key.bytes,
                    StoreVerb::Set,
                    said,
                    Deadline::Never,
                    size,
                );
            }
            Op::Meta {
                verb: MetaVerb::Delete,
                ..
            } if value_bytes.is_some()
                && (said.is_empty() || said.starts_with(b"HD"))
                && self.watches(WatchKinds::DELETIONS) =>
            {
                self.deletion(now, key.bytes, "md", value_bytes.unwrap_or(0));
            }
            Op::Delete if said.starts_with(b"DELETED") && self.watches(WatchKinds::DELETIONS) => {
                let size = value_bytes.unwrap_or(0);
                self.deletion(now, key.bytes, "delete", size);
            }
            _ => {}
        }
        outcome
    }

    fn deletion(&mut self, now: &Now, key: &[u8], command: &str, size: usize) {
        self.log.line(now, WatchKinds::DELETIONS, |line| {
            line.extend_from_slice(b"type=deleted key=");
            uri_encode(key, line);
            let _ = write!(line, " cmd={command} clsid=1 size={size}");
        });
    }

    #[allow(clippy::too_many_arguments)]
    fn mutation(
        &mut self,
        now: &Now,
        fd: RawFd,
        key: &[u8],
        verb: StoreVerb,
        said: &[u8],
        deadline: Deadline,
        size: usize,
    ) {
        let status = match said {
            b"STORED\r\n" => "stored",
            b"NOT_STORED\r\n" => "not_stored",
            b"EXISTS\r\n" => "exists",
            b"NOT_FOUND\r\n" => "not_found",
            // Of the meta commands; a quiet one says nothing when it has stored.
            [] | [b'H', b'D', ..] => "stored",
            [b'N', b'S', ..] => "not_stored",
            [b'E', b'X', ..] => "exists",
            [b'N', b'F', ..] => "not_found",
            _ if said.starts_with(b"SERVER_ERROR ob") => "too_large",
            _ => "no_memory",
        };
        let command = match verb {
            StoreVerb::Set => "set",
            StoreVerb::Add => "add",
            StoreVerb::Replace => "replace",
            StoreVerb::Append => "append",
            StoreVerb::Prepend => "prepend",
            StoreVerb::Cas => "cas",
        };
        let ttl = match deadline {
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

    /// Tells of an item that was dropped to make room. When it was last asked for is not known.
    pub fn evicted(&mut self, now: &Now, item: &Evicted) {
        let fetched = if item.fetched { "yes" } else { "no" };
        let ttl = match item.deadline {
            Deadline::Never => -1,
            Deadline::At(Seconds(at)) => i64::from(at) - i64::from(now.seconds.0),
        };
        let size = item.value_bytes;
        self.log.line(now, WatchKinds::EVICTIONS, |line| {
            line.extend_from_slice(b"type=eviction key=");
            uri_encode(&item.key, line);
            let _ = write!(line, " fetch={fetched} ttl={ttl} la=0 clsid=1 size={size}");
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
