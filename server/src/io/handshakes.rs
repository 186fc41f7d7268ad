//! Handshakes beside the worker: a thread that makes their costly steps while the worker has nothing to do.
//!
//! ```text
//!   worker, TlsIo   -- Step: connection, records -->   Hand: reads the records, makes the answer
//!                   <-- Step: plain bytes, outcome --
//! ```
//!
//! A step that agrees on keys and signs takes as long as thousands of requests, and in a flood of them that
//! would stand between any two ticks. The thread works only while no worker on its core has anything
//! to do ([`crate::background`]), and runs on whatever core has room. Where none has, a handshake would take
//! seconds: then the worker makes a step itself each [`HANDSHAKES_OVERDUE_MS`].
//!
//! Always true: one step is away from a worker at most, so neither side needs room; the worker never waits for
//! the thread. That may lose its core at any instruction and not get it back for long, and whoever spun until
//! it has finished a hand-over, as lock-free channels do, would keep it from just that. So the worker only
//! *tries* the two slots, and finds out in a later tick what it did not find out in this one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rustls::ServerConnection;

use super::{ConnIndex, Ringer};
use crate::background::yield_to_workers;
use crate::config::HANDSHAKES_OVERDUE_MS;

/// One step of a handshake on its way.
pub(super) struct Step {
    pub conn: ConnIndex,
    /// Which use of that index it is.
    pub number: u64,
    pub tls: ServerConnection,
    /// Records of the client.
    pub input: Vec<u8>,
    /// What was behind the handshake.
    pub plain: Vec<u8>,
    /// Whether the peer has said that it sends no more.
    pub opened: Result<bool, rustls::Error>,
}

impl Step {
    fn make(&mut self) {
        self.opened = super::tls::open(&mut self.tls, &self.input, &mut self.plain);
    }
}

/// Where a step lies that changes hands.
type Slot = Mutex<Option<Box<Step>>>;

/// What both ends share.
#[derive(Default)]
struct Desk {
    given: Slot,
    made: Slot,
    /// The worker is gone.
    closed: AtomicBool,
}

/// The worker's end.
pub struct Helper {
    desk: Arc<Desk>,
    /// Who is to be woken; nobody in a test that is both.
    thread: Option<Thread>,
    away: bool,
    /// How long the thread may bring nothing.
    patience: Duration,
    /// When it last brought something, or began to have something to do, or the worker helped itself.
    heard: Instant,
}

/// The thread's end.
pub struct Hand(Arc<Desk>);

/// Both ends.
#[must_use]
pub fn pair() -> (Helper, Hand) {
    pair_with(Duration::from_millis(HANDSHAKES_OVERDUE_MS))
}

/// Both ends, where the worker waits so long for the thread.
pub(super) fn pair_with(patience: Duration) -> (Helper, Hand) {
    let desk = Arc::new(Desk::default());
    let helper = Helper {
        desk: Arc::clone(&desk),
        thread: None,
        away: false,
        patience,
        heard: Instant::now(),
    };
    (helper, Hand(desk))
}

/// Does something with a slot unless the other end does so at this moment.
fn try_with<T>(slot: &Slot, work: impl FnOnce(&mut Option<Box<Step>>) -> T) -> Option<T> {
    match slot.try_lock() {
        Ok(mut step) => Some(work(&mut step)),
        Err(TryLockError::Poisoned(step)) => Some(work(&mut step.into_inner())),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The same for who can wait.
fn with<T>(slot: &Slot, work: impl FnOnce(&mut Option<Box<Step>>) -> T) -> T {
    work(&mut slot.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Helper {
    /// The thread that has the other end, which is to be woken from now on.
    pub fn wakes(&mut self, thread: Thread) {
        self.thread = Some(thread);
    }

    /// Whether a step is away.
    pub(super) fn is_busy(&self) -> bool {
        self.away
    }

    /// Gives the `next` step away, if there is one, unless one is away already or the thread is just
    /// looking.
    pub(super) fn give(&mut self, now: Instant, next: impl FnOnce() -> Option<Box<Step>>) {
        if self.away {
            return;
        }
        self.away = try_with(&self.desk.given, |slot| {
            *slot = next();
            slot.is_some()
        })
        .unwrap_or_default();
        if self.away {
            self.heard = now;
            self.wake();
        }
    }

    /// The one that was away, if it is made.
    pub(super) fn take(&mut self, now: Instant) -> Option<Box<Step>> {
        if !self.away {
            return None;
        }
        let step = try_with(&self.desk.made, Option::take)??;
        self.away = false;
        self.heard = now;
        Some(step)
    }

    /// Whether the worker has to make one itself now, because none has come for too long.
    pub(super) fn is_overdue(&mut self, now: Instant) -> bool {
        let overdue = self.away && now.duration_since(self.heard) >= self.patience;
        if overdue {
            self.heard = now;
        }
        overdue
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.desk.closed.store(true, Ordering::Relaxed);
        self.wake();
    }
}

impl Hand {
    /// Makes steps until the worker is gone, which is rung after each.
    pub fn work(&self, ringer: &dyn Ringer) {
        yield_to_workers();
        while !self.0.closed.load(Ordering::Relaxed) {
            match self.make_one() {
                true => ringer.ring(),
                false => std::thread::park(),
            }
        }
    }

    /// Makes the step that waits; whether one did.
    pub(super) fn make_one(&self) -> bool {
        let Some(mut step) = with(&self.0.given, Option::take) else {
            return false;
        };
        step.make();
        with(&self.0.made, |slot| *slot = Some(step));
        true
    }
}
