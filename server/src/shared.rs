//! What all workers share: facts that do not change, and three small numbers that do.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crossbeam_channel::Sender;

use crate::stats::Process;

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

/// See the module's page.
#[derive(Debug)]
pub struct Shared {
    /// Settings, addresses.
    pub process: Process,
    /// The connection limit.
    pub gate: Gate,
    verbosity: AtomicU8,
    stop: Sender<()>,
}

impl Shared {
    /// `stop` is told when a client asks the server to end.
    #[must_use]
    pub fn new(process: Process, stop: Sender<()>) -> Self {
        Self {
            gate: Gate::new(process.settings.conns_max),
            verbosity: AtomicU8::new(process.settings.verbosity),
            process,
            stop,
        }
    }

    /// Asks the main thread to end the server.
    pub fn request_stop(&self) {
        // A full channel means that somebody has asked already.
        let _ = self.stop.try_send(());
    }

    /// How much is said on standard error.
    #[must_use]
    pub fn verbosity(&self) -> u8 {
        self.verbosity.load(Ordering::Relaxed)
    }

    /// See `verbosity`.
    pub fn set_verbosity(&self, level: u8) {
        self.verbosity.store(level, Ordering::Relaxed);
    }
}
