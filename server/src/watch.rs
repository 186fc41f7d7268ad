//! What all workers know of watchers: which kinds are watched, and from where.
//!
//! Always true: whoever changes something raises the epoch afterwards, so a worker that looks at
//! the epoch once a tick misses nothing, and pays one load of a line that hardly ever changes.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering};

use strata_protocol::WatchKinds;

/// See the module's page.
#[derive(Debug)]
pub struct Watch {
    epoch: AtomicU64,
    /// What the watchers of each worker want.
    by_worker: Box<[AtomicU16]>,
    count: AtomicUsize,
    verbosity: AtomicU8,
    prefixes: AtomicBool,
    /// Whether somebody writes lines to standard error.
    stderr: bool,
}

impl Watch {
    /// Nobody watches yet. With `stderr`, somebody writes lines for `-v` to standard error.
    #[must_use]
    pub fn new(workers: usize, verbosity: u8, prefixes: bool, stderr: bool) -> Self {
        Self {
            // Every worker starts at 0 and so looks at once.
            epoch: AtomicU64::new(1),
            by_worker: (0..workers).map(|_| AtomicU16::new(0)).collect(),
            count: AtomicUsize::new(0),
            verbosity: AtomicU8::new(verbosity),
            prefixes: AtomicBool::new(prefixes),
            stderr,
        }
    }

    /// Changes whenever something else here does.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    fn raise(&self) {
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Everything that is watched by somebody.
    #[must_use]
    pub fn kinds(&self) -> WatchKinds {
        let workers = 0..self.by_worker.len();
        workers
            .map(|worker| self.kinds_of(worker))
            .fold(self.stderr_kinds(), WatchKinds::and)
    }

    /// What the watchers of one worker want.
    #[must_use]
    pub fn kinds_of(&self, worker: usize) -> WatchKinds {
        WatchKinds::from_bits(self.by_worker[worker].load(Ordering::Relaxed))
    }

    /// A worker tells what its watchers want.
    pub fn set_kinds(&self, worker: usize, kinds: WatchKinds) {
        self.by_worker[worker].store(kinds.bits(), Ordering::Relaxed);
        self.raise();
    }

    /// What goes to standard error: with `-v` connections and events, with `-vv` commands too.
    #[must_use]
    pub fn stderr_kinds(&self) -> WatchKinds {
        let events = WatchKinds::CONNEVENTS.and(WatchKinds::SYSEVENTS);
        match self.verbosity() {
            _ if !self.stderr => WatchKinds::NONE,
            0 => WatchKinds::NONE,
            1 => events,
            _ => events.and(WatchKinds::RAWCMDS).and(WatchKinds::EVICTIONS),
        }
    }

    /// One more watcher, if there are fewer than `most`.
    pub fn enter(&self, most: usize) -> bool {
        if self.count.fetch_add(1, Ordering::Relaxed) < most {
            return true;
        }
        self.leave();
        false
    }

    /// One watcher less.
    pub fn leave(&self) {
        let before = self.count.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a watcher left that never entered");
    }

    /// How many watchers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// How much is said on standard error.
    #[must_use]
    pub fn verbosity(&self) -> u8 {
        self.verbosity.load(Ordering::Relaxed)
    }

    /// See `verbosity`.
    pub fn set_verbosity(&self, level: u8) {
        self.verbosity.store(level, Ordering::Relaxed);
        self.raise();
    }

    /// Whether commands are counted by prefix.
    #[must_use]
    pub fn prefixes(&self) -> bool {
        self.prefixes.load(Ordering::Relaxed)
    }

    /// See `prefixes`.
    pub fn set_prefixes(&self, count: bool) {
        self.prefixes.store(count, Ordering::Relaxed);
        self.raise();
    }
}
