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
//! Always true: one step is away from a worker at most, so a lane of one slot has room; neither side waits
//! for the other ([`crate::lanes`]), and the worker is rung when a step is made.

mod line;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConnection;

use super::{ConnIndex, Ringer};
use crate::background::yield_to_workers;
use crate::config::HANDSHAKES_OVERDUE_MS;
use crate::lanes::{Inbox, Lane, Lanes, inbox, lane};

pub(super) use line::{Entry, Line};

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

/// The worker's end.
pub struct Helper {
    given: Lane<Box<Step>>,
    made: Lanes<Box<Step>>,
    away: bool,
    /// How long the thread may bring nothing.
    patience: Duration,
    /// When it last brought something, or began to have something to do, or the worker helped itself.
    heard: Instant,
}

/// The thread's end.
pub struct Hand {
    given: Inbox<Box<Step>>,
    made: Lane<Box<Step>>,
}

/// Both ends; `ringer` wakes the worker.
#[must_use]
pub fn pair(ringer: &Arc<dyn Ringer>) -> (Helper, Hand) {
    pair_with(Duration::from_millis(HANDSHAKES_OVERDUE_MS), ringer)
}

/// Both ends, where the worker waits so long for the thread.
pub(super) fn pair_with(patience: Duration, ringer: &Arc<dyn Ringer>) -> (Helper, Hand) {
    let (mut gives, takes) = inbox(1, 1);
    let (brings, made) = lane(1, ringer);
    let helper = Helper {
        given: gives.pop().expect("one"),
        made,
        away: false,
        patience,
        heard: Instant::now(),
    };
    let hand = Hand {
        given: takes,
        made: brings,
    };
    (helper, hand)
}

/// Sends a step, the only one there is.
fn hand_on(lane: &mut Lane<Box<Step>>, step: Box<Step>) {
    if let Err(step) = lane.send(step) {
        panic!("connection {}: a second step is away", step.conn);
    }
}

impl Helper {
    /// Whether a step is away.
    pub(super) fn is_busy(&self) -> bool {
        self.away
    }

    /// Gives the `next` step away, if there is one, unless one is away already.
    pub(super) fn give(&mut self, now: Instant, next: impl FnOnce() -> Option<Box<Step>>) {
        if self.away {
            return;
        }
        if let Some(step) = next() {
            self.away = true;
            self.heard = now;
            hand_on(&mut self.given, step);
        }
    }

    /// The one that was away, if it is made.
    pub(super) fn take(&mut self, now: Instant) -> Option<Box<Step>> {
        let step = self.made.take()?;
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
}

impl Hand {
    /// Makes steps until the worker is gone.
    pub fn work(mut self) {
        yield_to_workers();
        while let Ok(step) = self.given.receive(None) {
            self.make(step);
        }
    }

    fn make(&mut self, mut step: Box<Step>) {
        step.make();
        hand_on(&mut self.made, step);
    }

    /// Makes the step that waits, if there is one.
    #[cfg(test)]
    pub(super) fn make_one(&mut self) {
        if let Some(step) = self.given.take() {
            self.make(step);
        }
    }
}
