//! What a run does, complete and checked: the command line turned into plain values.
//!
//! Always true: a [`Plan`] that exists can be carried out; every contradiction was refused when it
//! was made (see `cli`).

use std::time::Duration;

use crate::client::{Dialect, Verify};
use crate::placement::Distribution;
use crate::schedule::Arrival;
use crate::transport::{Address, Family, tls};
use crate::workload::Workload;

/// Requests outstanding on one connection of an open loop, at most, unless told otherwise. A server that stalls for a
/// tenth of a second is then still offered what is due; beyond it, requests wait with the
/// generator and their lateness shows as lag.
pub const OPEN_DEPTH: usize = 1024;

/// Requests outstanding on one connection while filling.
const FILL_DEPTH: usize = 32;

/// The same over TLS. A memcached before 1.6.39 sleeps on a write that came in the same record as the end of the value
/// before it (perf/notes/tls.md), and a fill is not what shall be measured.
const FILL_DEPTH_TLS: usize = 1;

/// How long a server may say nothing, unless it is told, while it owes replies and nothing else ends the wait: in a fill,
/// and in a run of so many requests or of a trace.
pub const SILENCE: Duration = Duration::from_secs(30);

/// Threads of a run, at most.
pub const THREADS_MAX: usize = 1024;

/// Connections of a run, at most: what one address has ports for, sixteen times.
pub const CONNECTIONS_MAX: usize = 1 << 20;

/// Keys outstanding on all connections together, at most: room for them is taken before the run,
/// about 50 bytes each.
pub const OUTSTANDING_MAX: usize = 1 << 24;

/// Bytes of requests a connection renders ahead of its socket; one request may exceed it.
pub const OUT_BYTES: usize = 64 * 1024;

/// How long a run waits for outstanding replies after its end.
pub const DRAIN: Duration = Duration::from_secs(1);

/// How a run is paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each connection keeps `depth` requests outstanding and sends when a reply came.
    Closed {
        /// At least one.
        depth: usize,
    },
    /// Requests are due at times that do not depend on the server.
    Open {
        /// All threads together, requests a second. For a recording, its average.
        rate: f64,
        /// Requests outstanding on one connection, at most; what is due beyond that waits.
        depth: usize,
        /// How they are spaced.
        arrival: Arrival,
    },
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After this time.
    Time(Duration),
    /// After this many requests of each client.
    Requests(u64),
    /// When the trace ends.
    Trace,
}

/// Which transport carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// io_uring if the host lets us, else epoll.
    Auto,
    /// io_uring or fail.
    Uring,
    /// epoll.
    Epoll,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers; with more than one, each key has its own.
    pub addresses: Vec<Address>,
    /// By which rule.
    pub distribution: Distribution,
    /// What addresses a name may lead to.
    pub family: Family,
    /// What TLS takes, if it is spoken.
    pub tls: Option<tls::Setup>,
    /// How long connecting may take.
    pub connect_timeout: Option<Duration>,
    /// Requests after which a connection is replaced.
    pub reconnect_interval: Option<u64>,
    /// What is spoken.
    pub dialect: Dialect,
    /// Generator threads.
    pub threads: usize,
    /// Clients of each thread: connections, or with several servers sets of one to each.
    pub connections: usize,
    /// Closed or open.
    pub pace: Pace,
    /// The measured part.
    pub length: Length,
    /// Unmeasured load before it.
    pub warmup: Duration,
    /// Length of the windows that have percentiles of their own, if there are any.
    pub window: Option<Duration>,
    /// Whether each connection has latencies of its own.
    pub per_connection: bool,
    /// Keys, values, mix.
    pub workload: Workload,
    /// How much faster than recorded a trace is replayed.
    pub trace_speed: f64,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Whether connections draw from seeds of their own.
    pub distinct_seeds: bool,
    /// Write every key once before the run.
    pub fill: bool,
    /// Lowest share of hits of a valid run.
    pub expect_hits: Option<f64>,
    /// How closely replies are looked at.
    pub verify: Verify,
    /// Core of the first thread; the others take those that follow.
    pub pin: Option<usize>,
    /// The transport.
    pub io: Io,
    /// Whether a thread with nothing to do looks for a while before it sleeps.
    pub looks: bool,
    /// How long a server may say nothing where no time ends the wait; see [`SILENCE`].
    pub silence: Duration,
}

impl Plan {
    /// Clients of all threads.
    pub fn client_count(&self) -> usize {
        self.threads * self.connections
    }

    /// Connections of all threads.
    pub fn connection_count(&self) -> usize {
        self.client_count() * self.addresses.len()
    }

    /// Requests outstanding on one connection while filling.
    pub fn fill_depth(&self) -> usize {
        match self.tls {
            Some(_) => FILL_DEPTH_TLS,
            None => FILL_DEPTH,
        }
    }

    /// The servers, for sentences.
    pub fn servers(&self) -> String {
        let names: Vec<String> = self.addresses.iter().map(Address::to_string).collect();
        names.join(", ")
    }
}

impl Pace {
    /// `closed` or `open`.
    pub fn name(&self) -> &'static str {
        match self {
            Pace::Closed { .. } => "closed",
            Pace::Open { .. } => "open",
        }
    }
}
