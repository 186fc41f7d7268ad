//! Counters, and the texts of `stats` made of them.
//!
//! Each worker counts in plain numbers of its own. Whoever wants to know asks all workers, adds
//! their [`Snapshot`]s up, and renders the sum with memcached's names in memcached's order, so
//! that its tools and exporters read it. What Strata has no such thing of is zero.
//!
//! Each subject is a file: `general`, `classes` (items and slabs), `conns`, `settings`,
//! `prefixes` (detail), and Strata's own `workers`, `latency`, `hotkeys` and `held` (segments, ttl
//! and, for the admin endpoint, ages).

mod classes;
pub mod conns;
pub mod counters;
pub mod general;
pub mod held;
mod hotkeys;
pub mod latency;
pub(crate) mod lines;
pub mod prefixes;
pub mod settings;
pub mod workers;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;

use strata_protocol::WatchKinds;
use strata_protocol::binary::{self, Head};
use strata_protocol::reply::{self, Sink};
use strata_store as store;

use crate::clock::Now;
use crate::config::{CACHEDUMP_MAX_BYTES, Settings};
use crate::session::Tail;
use crate::shared::Shared;
pub use conns::{connection, is_unix, listener};
pub use counters::Counters;
pub use general::{Figure, general};
pub use settings::settings;
pub use workers::{QueueMarks, WorkerFigures};

/// What `version` and `stats` say: the memcached release whose behaviour this is, because
/// clients decide by its number what they may send, and behind a space what it really is.
pub const VERSION: &str = concat!("1.6.45 strata-", env!("CARGO_PKG_VERSION"));

/// The answer to `stats sizes` where sizes are not told.
pub const SIZES_DISABLED: &[u8] = b"STAT sizes_status disabled\r\nEND\r\n";

/// The answer to `stats latency` where nobody counts.
const LATENCY_DISABLED: &[u8] = b"STAT latency_status disabled\r\n";

/// The answer to `stats hotkeys` where nobody looks for them.
const HOTKEYS_DISABLED: &[u8] = b"STAT hotkeys_status disabled\r\n";

/// One worker's figures, or the sum of several.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What the commands did.
    pub counters: Counters,
    /// What the store did.
    pub store: store::Counters,
    /// What the store holds.
    pub usage: store::Usage,
    /// Sessions open now.
    pub sessions: u64,
    /// Values on loan to readers now.
    pub loans: u64,
    /// Bytes of half-received large values now.
    pub intake_bytes: u64,
    /// What is told of each worker by itself, in the order they answered.
    pub workers: Vec<WorkerFigures>,
}

impl Snapshot {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Snapshot) {
        self.counters.add(&other.counters);
        self.store.add(&other.store);
        self.usage.add(&other.usage);
        self.sessions += other.sessions;
        self.loans += other.loans;
        self.intake_bytes += other.intake_bytes;
        self.workers.extend_from_slice(&other.workers);
    }

    /// The longest tick of all workers, in microseconds, if ticks are timed.
    #[must_use]
    pub fn longest_tick_us(&self) -> Option<u64> {
        let workers = self.workers.iter();
        workers.filter_map(|worker| worker.longest_tick_us).max()
    }
}

/// What is made of the answers of all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A fixed reply once all have answered; empty for `noreply`.
    Done(&'static [u8]),
    /// A fixed reply once all have answered, unless one of them refuses.
    Agreed(&'static [u8]),
    /// `stats`.
    General,
    /// `stats items`.
    Items,
    /// `stats slabs`.
    Slabs,
    /// `stats conns`.
    Connections,
    /// `stats workers`.
    Workers,
    /// `stats latency`.
    Latency,
    /// `stats hotkeys`, at most so many, 0 for the usual number.
    Hotkeys(u32),
    /// `stats segments`.
    Segments,
    /// `stats ttl`.
    Ttl,
    /// `stats detail dump`.
    Prefixes,
    /// `stats cachedump` of at most so many items, 0 for no limit.
    Cachedump(u32),
    /// `watch`: the session becomes a watcher.
    Watch(WatchKinds),
}

/// What a worker tells as text, its part of what all of them tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Its open connections.
    Connections,
    /// How long its items have to live.
    Ttl,
    /// Its counts by prefix.
    Prefixes,
    /// How old its segments are.
    Ages,
    /// The keys its clients ask for most.
    Hotkeys,
    /// Some of its items, at most so many; 0 for no limit.
    Cachedump(u32),
}

/// A reply that all workers make together.
#[derive(Debug)]
pub struct Gather {
    /// What was asked.
    pub question: Question,
    /// The packet that asked, if one did: then the reply is packets too.
    pub packet: Option<Head>,
    /// Workers that have not answered.
    pub awaited: usize,
    /// The sum of the snapshots that have come.
    pub sum: Snapshot,
    /// The texts that have come.
    pub text: Vec<u8>,
}

/// Facts about the process that `stats` mentions and no worker counts.
#[derive(Clone, Debug)]
pub struct Process {
    /// The settings in force.
    pub settings: Settings,
    /// The addresses really listened on, in the order given.
    pub bound: Vec<std::net::SocketAddr>,
    /// Where each worker listens for itself at the first of them; empty without `--shard-ports`.
    pub shards_bound: Vec<std::net::SocketAddr>,
}

fn line(out: &mut impl Sink, name: &str, value: impl Display) {
    // Statistics are rare and rendered off any request's path, so a formatted line may allocate.
    let mut text = Vec::with_capacity(64);
    let _ = write!(text, "STAT {name} {value}\r\n");
    out.put(&text);
}

/// Writes a reply that is made of lines, as packets if a packet asked.
pub fn figures(packet: Option<Head>, lines: &[u8], out: &mut impl Sink) {
    match packet {
        None => out.put(lines),
        Some(head) => packets(head, lines, out),
    }
}

/// The reply to `stats sizes`: how many items there are of each size, the smallest first.
#[must_use]
pub fn sizes(counts: &BTreeMap<u32, u64>) -> Vec<u8> {
    let mut lines = Vec::new();
    for (size, count) in counts {
        line(&mut Tail(&mut lines), &size.to_string(), count);
    }
    lines.extend_from_slice(reply::END);
    lines
}

/// Writes the reply of a complete gathering.
pub fn render(gather: &Gather, shared: &Shared, now: &Now, out: &mut impl Sink) {
    match gather.packet {
        None => render_lines(gather, shared, now, out),
        // One figure is all of these lines, the last one too.
        Some(head) if gather.question == Question::Prefixes => {
            let mut lines = Vec::new();
            prefixes::dump(&gather.text, &mut Tail(&mut lines));
            binary::reply::stat(out, head.opaque, b"detailed", &lines);
            binary::reply::success(out, head, 0);
        }
        Some(head) => {
            let mut lines = Vec::new();
            render_lines(gather, shared, now, &mut Tail(&mut lines));
            packets(head, &lines, out);
        }
    }
}

/// Turns a reply made of lines into packets: one for each figure, and an empty one for the line that is the last. No line
/// is no packet.
pub fn packets(head: Head, lines: &[u8], out: &mut impl Sink) {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let figure = line.strip_suffix(b"\r\n").unwrap_or(line);
        let Some(figure) = figure.strip_prefix(b"STAT ") else {
            binary::reply::success(out, head, 0);
            continue;
        };
        // No name has a space in it.
        let name_bytes = figure.iter().position(|byte| *byte == b' ');
        let (name, value) = figure.split_at(name_bytes.unwrap_or(figure.len()));
        binary::reply::stat(out, head.opaque, name, value.get(1..).unwrap_or_default());
    }
}

fn render_lines(gather: &Gather, shared: &Shared, now: &Now, out: &mut impl Sink) {
    match gather.question {
        Question::Done(text) => out.put(text),
        Question::Agreed(text) => match gather.text.split_inclusive(|byte| *byte == b'\n').next() {
            Some(refusal) => out.put(refusal),
            None => out.put(text),
        },
        Question::General => {
            for (name, value) in general(&gather.sum, shared, now) {
                line(out, name, value);
            }
            out.put(reply::END);
        }
        Question::Items => {
            classes::items(&gather.sum, out);
            out.put(reply::END);
        }
        Question::Slabs => {
            classes::slabs(&gather.sum, out);
            out.put(reply::END);
        }
        Question::Connections => {
            conns::in_order(&gather.text, out);
            out.put(reply::END);
        }
        Question::Workers => {
            workers::workers(&gather.sum, out);
            out.put(reply::END);
        }
        Question::Latency => {
            match shared.process.settings.latency {
                true => latency::latency(&gather.sum, shared, out),
                false => out.put(LATENCY_DISABLED),
            }
            out.put(reply::END);
        }
        Question::Hotkeys(limit) => {
            match shared.process.settings.hot_keys {
                true => hotkeys::hotkeys(&gather.text, limit, out),
                false => out.put(HOTKEYS_DISABLED),
            }
            out.put(reply::END);
        }
        Question::Segments => {
            held::segments(&gather.sum, out);
            out.put(reply::END);
        }
        Question::Ttl => {
            held::ttls(&gather.text, out);
            out.put(reply::END);
        }
        Question::Prefixes => prefixes::dump(&gather.text, out),
        Question::Cachedump(limit) => {
            cachedump(&gather.text, limit, out);
            out.put(reply::END);
        }
        Question::Watch(_) => out.put(reply::OK),
    }
}

/// One worker's line of `stats cachedump` about an item; none of further items beyond its share.
pub fn cachedump_part(item: &store::Sight<'_>, now: &Now, share_bytes: usize, text: &mut Vec<u8>) {
    let deadline_s = match item.deadline {
        store::Deadline::Never => 0,
        store::Deadline::At(at) => now.unix_of(at),
    };
    let before = text.len();
    text.extend_from_slice(b"ITEM ");
    text.extend_from_slice(item.key);
    let _ = write!(text, " [{} b; {deadline_s} s]\r\n", item.value_bytes);
    if text.len() > share_bytes {
        text.truncate(before);
    }
}

/// How many bytes of `stats cachedump` one of so many workers may tell.
#[must_use]
pub fn cachedump_share(workers: usize) -> usize {
    CACHEDUMP_MAX_BYTES / workers
}

fn cachedump(text: &[u8], limit: u32, out: &mut impl Sink) {
    let most = if limit == 0 {
        usize::MAX
    } else {
        limit as usize
    };
    for line in text.split_inclusive(|byte| *byte == b'\n').take(most) {
        out.put(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_packets_with_a_last_one_that_is_empty() {
        let head = Head {
            opcode: 0x10,
            opaque: 5,
        };
        let mut out = Vec::new();
        let lines = b"STAT a b c\r\nSTAT d \r\nEND\r\n";
        packets(head, lines, &mut Tail(&mut out));
        let bodies: [(u8, &[u8]); 3] = [(1, b"ab c"), (1, b"d"), (0, b"")];
        let expected = bodies.map(|(key_bytes, body)| {
            let mut packet = vec![0x81, 0x10, 0, key_bytes, 0, 0, 0, 0, 0, 0, 0];
            packet.extend([body.len() as u8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0]);
            packet.extend_from_slice(body);
            packet
        });
        assert_eq!(out, expected.concat());
        out.clear();
        packets(head, b"", &mut Tail(&mut out));
        assert_eq!(out, b"");
    }
}
