//! What all workers share: facts that do not change, and a few small numbers that do.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Sender;
use strata_store::Seconds;

use crate::clock::Clock;
use crate::config::DUMP_PATIENCE_S;
use crate::latency::{Board, Class, Durations};
use crate::stats::Process;
use crate::tls::Tls;
use crate::watch::Watch;

/// Counts the connections of the whole server against its limit.
#[derive(Debug)]
pub struct Gate {
    open: AtomicUsize,
    limit: usize,
}

impl Gate {
    /// A gate for at most `limit` connections.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            open: AtomicUsize::new(0),
            limit,
        }
    }

    /// Lets one more in; false when the limit is reached.
    pub fn enter(&self) -> bool {
        if self.open.fetch_add(1, Ordering::Relaxed) < self.limit {
            return true;
        }
        self.leave();
        false
    }

    /// One has left.
    pub fn leave(&self) {
        let before = self.open.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a connection left that never entered");
    }

    /// Connections open now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// The one dump of all items that may go on at a time, so that not every tick walks many slices.
///
/// Always true: a dump that does not move for [`DUMP_PATIENCE_S`], because its client does not read,
/// loses its turn to the next one that is asked for.
#[derive(Debug, Default)]
pub struct DumpTurn {
    /// The number of the dump whose turn it is, 0 for none.
    holder: AtomicU64,
    /// When that one last moved.
    moved_s: AtomicU32,
    /// The last number.
    last: AtomicU64,
}

impl DumpTurn {
    /// The number of a new dump, if it may begin.
    pub fn take(&self, now: Seconds) -> Option<u64> {
        let holder = self.holder.load(Ordering::Relaxed);
        if holder != 0 && now.0 < self.moved_s.load(Ordering::Relaxed) + DUMP_PATIENCE_S {
            return None;
        }
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.moved_s.store(now.0, Ordering::Relaxed);
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = self
            .holder
            .compare_exchange(holder, number, success, failure);
        taken.ok().map(|_| number)
    }

    /// Whether it is still this one's turn, which moves on now.
    pub fn go_on(&self, number: u64, now: Seconds) -> bool {
        let holds = self.holder.load(Ordering::Relaxed) == number;
        if holds {
            self.moved_s.store(now.0, Ordering::Relaxed);
        }
        holds
    }

    /// Ends a dump's turn, if it still has it.
    pub fn leave(&self, number: u64) {
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.holder.compare_exchange(number, 0, success, failure);
    }

    /// Whether a dump goes on.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.holder.load(Ordering::Relaxed) != 0
    }
}

/// What became of operators' connections that the admin endpoint did not serve to their end.
#[derive(Debug, Default)]
pub struct Operators {
    /// Refused because there were too many.
    pub refused: AtomicU64,
    /// Cut off because they took too long.
    pub cut: AtomicU64,
}

/// What the main thread is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// End the server: a client says so.
    Stop,
    /// End the server: a signal says so, and a second one means at once.
    Signal,
    /// Read the operator's files again.
    Reload,
}

/// See the module's page.
#[derive(Debug)]
pub struct Shared {
    /// Settings, addresses.
    pub process: Process,
    /// The connection limit.
    pub gate: Gate,
    /// Whose turn it is to dump all items.
    pub dump_turn: DumpTurn,
    /// Who watches what.
    pub watch: Watch,
    /// Operators who were not served.
    pub operators: Operators,
    /// Bytes for items and table of all shards, as last set.
    memory_limit: AtomicUsize,
    /// What all shards can be set to.
    memory_least: AtomicUsize,
    memory_most: AtomicUsize,
    /// Whether the search through all items is allowed (`lru_crawler`).
    crawler: AtomicBool,
    /// TLS, where a listener has it.
    pub tls: Option<Arc<Tls>>,
    /// The clock, where a test may move it.
    pub clock: Option<Clock>,
    /// Whether the server has begun to stop.
    stops: AtomicBool,
    /// What the workers record of the time their requests take, of those that have begun.
    boards: Box<[OnceLock<Arc<Board>>]>,
    notices: Sender<Notice>,
}

impl Shared {
    /// `notices` goes to the main thread.
    #[must_use]
    pub fn new(process: Process, notices: Sender<Notice>) -> Self {
        Self {
            gate: Gate::new(process.settings.conns_max),
            dump_turn: DumpTurn::default(),
            operators: Operators::default(),
            watch: Watch::new(
                process.settings.workers,
                process.settings.verbosity,
                process.settings.count_prefixes,
                false,
            ),
            boards: (0..process.settings.workers)
                .map(|_| OnceLock::new())
                .collect(),
            memory_limit: AtomicUsize::new(process.settings.memory_bytes),
            memory_least: AtomicUsize::new(0),
            memory_most: AtomicUsize::new(usize::MAX),
            process,
            crawler: AtomicBool::new(true),
            tls: None,
            stops: AtomicBool::new(false),
            clock: None,
            notices,
        }
    }

    /// The server begins to stop.
    pub fn begin_stop(&self) {
        self.stops.store(true, Ordering::Relaxed);
    }

    /// Whether the server has begun to stop.
    #[must_use]
    pub fn stops(&self) -> bool {
        self.stops.load(Ordering::Relaxed)
    }

    /// The board of a worker, made by whoever asks first: the worker itself, so that the memory is on
    /// the node of the core that writes it.
    #[must_use]
    pub fn board(&self, worker: usize) -> Arc<Board> {
        Arc::clone(self.boards[worker].get_or_init(Arc::default))
    }

    /// How long the requests of a class took, on all workers or on one of them.
    #[must_use]
    pub fn durations(&self, class: Class, worker: Option<usize>) -> Durations {
        let mut sum = Durations::default();
        for (index, board) in self.boards.iter().enumerate() {
            if let (Some(board), true) = (board.get(), worker.is_none_or(|it| it == index)) {
                sum.add(board.of(class));
            }
        }
        sum
    }

    /// Asks the main thread to end the server.
    pub fn request_stop(&self) {
        // A full channel means that somebody has asked already.
        let _ = self.notices.try_send(Notice::Stop);
    }

    /// Memory for items and table of all shards, in bytes.
    #[must_use]
    pub fn memory_limit(&self) -> usize {
        self.memory_limit.load(Ordering::Relaxed)
    }

    /// The most it can be set to.
    #[must_use]
    pub fn memory_most(&self) -> usize {
        self.memory_most.load(Ordering::Relaxed)
    }

    /// Sets it; the workers are to be told. False, and nothing has changed, when a shard cannot
    /// have its share.
    pub fn set_memory_limit(&self, bytes: usize) -> bool {
        let least = self.memory_least.load(Ordering::Relaxed);
        let possible = (least..=self.memory_most()).contains(&bytes);
        if possible {
            self.memory_limit.store(bytes, Ordering::Relaxed);
        }
        possible
    }

    /// One worker's share of the memory, in bytes. Whoever has heard of a change sees it.
    #[must_use]
    pub fn memory_share(&self) -> usize {
        self.memory_limit() / self.process.settings.workers
    }

    /// A worker tells what its shard can be set to.
    pub fn bound_memory(&self, share: &RangeInclusive<usize>) {
        let workers = self.process.settings.workers;
        let (least, most) = (share.start() * workers, share.end() * workers);
        self.memory_least.fetch_max(least, Ordering::Relaxed);
        self.memory_most.fetch_min(most, Ordering::Relaxed);
    }

    /// Whether the search through all items is allowed.
    #[must_use]
    pub fn crawler(&self) -> bool {
        self.crawler.load(Ordering::Relaxed)
    }

    /// Allows or forbids it; what it was before.
    pub fn set_crawler(&self, allowed: bool) -> bool {
        self.crawler.swap(allowed, Ordering::Relaxed)
    }
}
