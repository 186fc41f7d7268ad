//! Sessions that keep others waiting or nobody busy: half-sent large values, and idle connections.
//!
//! A large value that is still arriving takes up room that all sessions of the worker share. While
//! there is enough for everybody it may take as long as it likes; when somebody lacks room, those
//! that have taken longer than their patience are cut off, oldest first, until there is enough. So
//! nobody holds the room by holding still, and the connections cut are the ones that did.
//!
//! Always true: a value that is being taken in is in the list, in the order they began; an entry
//! whose value is done, or whose session is gone, is dropped when it is met, and the list never has
//! more than twice as many entries as there are sessions.

use strata_store::Seconds;

use super::*;
use crate::config::{IDLE_LOOK_MAX, INTAKE_LOOK_MAX, INTAKE_PACE_BYTES, INTAKE_PATIENCE_S};

/// A large value that was being taken in when it was listed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    conn: ConnIndex,
    generation: u32,
    number: Option<u32>,
    since: Seconds,
}

impl Half {
    pub(super) fn new(conn: ConnIndex, generation: u32, number: Option<u32>, now: &Now) -> Self {
        Self {
            conn,
            generation,
            number,
            since: now.seconds,
        }
    }
}

/// How far the search for idle sessions has come.
#[derive(Debug, Default)]
pub(super) struct IdleSweep {
    /// The session to look at next, while a search is under way.
    next: Option<usize>,
    /// No session can be idle for too long before this second.
    due_s: u32,
    /// What that second will be, as far as this search has seen.
    next_due_s: u32,
}

impl Worker {
    /// Adds a value to the list of those that are arriving.
    pub(super) fn list_half(&mut self, half: Half) {
        if self.halves.len() >= 2 * self.sessions.len() {
            let sessions = &self.sessions;
            self.halves.retain(|half| is_arriving(sessions, half));
        }
        self.halves.push_back(half);
    }

    /// Cuts off large values that have taken too long, oldest first, until `wanted` bytes of room
    /// are won or none is left that has; never the one of session `but`.
    #[cold]
    pub(super) fn make_intake_room(&mut self, now: &Now, but: ConnIndex, wanted: usize) {
        let (mut won, mut at) = (0, 0);
        while won < wanted && at < self.halves.len().min(INTAKE_LOOK_MAX) {
            let half = self.halves[at];
            if !is_arriving(&self.sessions, &half) {
                self.halves.remove(at);
                continue;
            }
            let held = self.sessions[half.conn as usize].reader.intake_bytes();
            let patience_s = INTAKE_PATIENCE_S + (held / INTAKE_PACE_BYTES) as u32;
            let took_s = now.seconds.0.saturating_sub(half.since.0);
            if half.conn == but || took_s <= patience_s {
                at += 1;
                continue;
            }
            self.halves.remove(at);
            won += held;
            self.cut_intake(half.conn);
        }
    }

    /// Forgets a half-received value and lets its session end once its replies are sent.
    fn cut_intake(&mut self, conn: ConnIndex) {
        self.keeper.counters.intake_cuts += 1;
        let session = &mut self.sessions[conn as usize];
        self.intake_bytes -= session.reader.intake_bytes();
        session.reader = Reader::default();
        session.carry = Vec::new();
        session.draining = true;
        self.count_carry(conn);
        self.look_at(conn);
    }

    /// Ends sessions that have made no request for too long, looking at a bounded number of them.
    /// True when the search goes on in the next tick.
    pub(super) fn sweep_idle(&mut self, io: &mut impl Io, now: &Now) -> bool {
        let timeout_s = self.shared.process.settings.idle_timeout_s;
        let now_s = now.seconds.0;
        let Some(first) = self.idle_sweep.next.or_else(|| {
            let due = timeout_s > 0 && now_s >= self.idle_sweep.due_s;
            due.then_some(0)
        }) else {
            return false;
        };
        if first == 0 {
            self.idle_sweep.next_due_s = now_s.saturating_add(timeout_s).saturating_add(1);
        }
        let last = (first + IDLE_LOOK_MAX).min(self.sessions.len());
        for at in first..last {
            let session = &mut self.sessions[at];
            if !session.open || session.closing || session.draining {
                continue;
            }
            // memcached's rule: a connection is idle when it is waited for, not while it waits.
            let listens = matches!(
                session.role,
                Role::Watcher(_) | Role::Dump(_) | Role::Guest(_)
            );
            let waiting =
                session.sending || session.held_back || !session.replies.settled() || listens;
            let since_s = match session.reader.intake_number() {
                Some(_) => session.active_s,
                None => session.asked_s,
            };
            let due_s = since_s.saturating_add(timeout_s).saturating_add(1);
            if waiting {
                self.idle_sweep.next_due_s = now_s + 1;
            } else if now_s < due_s {
                self.idle_sweep.next_due_s = self.idle_sweep.next_due_s.min(due_s);
            } else if stats::is_unix(session.fd) {
                // Looked at again when it would be due again.
                session.asked_s = now_s;
            } else {
                self.keeper.counters.idle_kicks += 1;
                session.ends_for = Some("idle_timeout");
                self.end(io, at as ConnIndex);
            }
        }
        let more = last < self.sessions.len();
        self.idle_sweep.next = more.then_some(last);
        if !more {
            self.idle_sweep.due_s = self.idle_sweep.next_due_s;
        }
        more
    }
}

/// Whether the value is still being taken in.
fn is_arriving(sessions: &[Session], half: &Half) -> bool {
    let session = &sessions[half.conn as usize];
    session.generation == half.generation && session.reader.intake_number() == half.number
}
