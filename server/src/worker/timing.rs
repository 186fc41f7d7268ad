//! What a worker notes of the time its requests take; see [`crate::latency`] for what the figure is.
//!
//! Always true: what a turn counted is either answered in this tick, and then recorded when the tick
//! ends, or waits in [`Waiting`] until its replies have left. When nobody is left nothing waits. Without
//! a board (`--no-latency`) nothing is counted, and nobody ever waits.

use super::*;
use crate::latency::Board;
use crate::latency::ticks::{LongTick, LongTicks, Work};
use crate::latency::waiting::Waiting;
use crate::latency::{Class, Tally};

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// Where it is recorded for everybody to read, if it is.
    board: Option<Arc<Board>>,
    /// When the present tick began.
    began_ns: u64,
    began_unix_s: u64,
    /// Completions it had to handle.
    pub events: usize,
    /// What had been done until then.
    before: Work,
    /// Requests of the present turn.
    turn: Tally,
    /// Requests that came and are answered in the present tick.
    tick: Tally,
    /// Requests that came earlier and are answered in the present tick, with the time they came;
    /// at most [`GROUPS_MAX`](crate::config::GROUPS_MAX) a session.
    done: Vec<(u64, Tally)>,
    /// The others.
    pub waiting: Waiting,
    /// The longest ticks since the start or the last reset.
    pub longest: LongTicks,
}

impl Timing {
    /// Records to a board that others read, or nothing.
    pub fn on(board: Option<Arc<Board>>) -> Self {
        Self {
            board,
            ..Self::default()
        }
    }

    /// Whether anything is recorded.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.board.is_some()
    }

    /// Counts requests of the present turn.
    #[inline]
    pub fn count(&mut self, class: Class, requests: u32) {
        if self.is_on() {
            self.turn.count(class, requests);
        }
    }

    /// Counts a request of a session at rest whose reply leaves in this tick. Not by way of the turn, which is
    /// two thirds of what it costs to time a get that comes alone (perf/notes/observing.md).
    #[inline]
    pub fn count_answered(&mut self, class: Class) {
        if self.is_on() {
            self.tick.count(class, 1);
        }
    }

    /// The longest tick in microseconds, if ticks are timed.
    pub fn longest_us(&self) -> Option<u64> {
        self.is_on().then(|| self.longest.longest_us())
    }

    /// Sets everything to zero that was recorded.
    #[cold]
    pub fn reset(&mut self) {
        if let Some(board) = &self.board {
            board.reset();
        }
        self.longest.reset();
    }
}

impl Worker {
    #[inline]
    pub(super) fn tick_begins(&mut self, now: &Now, events: usize) {
        if !self.timing.is_on() {
            return;
        }
        self.timing.began_ns = now.elapsed_ns;
        self.timing.began_unix_s = now.unix_s;
        self.timing.events = events;
        self.timing.before = self.work();
    }

    #[inline]
    fn work(&self) -> Work {
        let (counters, store) = (&self.keeper.counters, self.keeper.shard.counters());
        Work {
            commands: counters.commands_local + counters.commands_remote,
            visits: counters.visits_served,
            read_bytes: counters.bytes_read,
            evicted: store.evictions,
            expired: store.expired,
            moved: store.moved,
        }
    }

    /// Whether somebody wants to know when ticks end.
    #[inline]
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.timing.is_on()
    }

    /// Tells when the last tick ended, in nanoseconds since the server's start.
    #[inline]
    pub fn ticked(&mut self, ended_ns: u64) {
        let timing = &mut self.timing;
        let Some(board) = &timing.board else { return };
        let took_ns = ended_ns.saturating_sub(timing.began_ns);
        if !timing.tick.is_empty() {
            board.record(took_ns, &timing.tick);
            timing.tick = Tally::default();
        }
        for (since_ns, tally) in timing.done.drain(..) {
            board.record(ended_ns.saturating_sub(since_ns), &tally);
        }
        if timing.longest.wants(took_ns) {
            self.keep_tick(took_ns);
        }
    }

    #[cold]
    fn keep_tick(&mut self, took_ns: u64) {
        let work = self.work().since(&self.timing.before);
        self.timing.longest.keep(LongTick {
            took_ns,
            unix_s: self.timing.began_unix_s,
            events: self.timing.events,
            lent_bytes: self.lent_budget - self.lent_left,
            work,
        });
    }

    /// Takes up what a turn counted that has used so many bytes of its input and left so many.
    #[inline]
    pub(super) fn turned(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        used: usize,
        left: usize,
        pause: Pause,
    ) {
        if !self.timing.is_on() {
            return;
        }
        let session = &self.sessions[conn as usize];
        let done = matches!(pause, Pause::Empty | Pause::End) || left == 0;
        if done && session.wait.is_none() && !session.sending && session.replies.settled() {
            // Its replies leave in this tick.
            let timing = &mut self.timing;
            timing.tick.take_in(&mut timing.turn);
        } else {
            self.turned_with_a_wait(now, conn, used, left, done);
        }
    }

    fn turned_with_a_wait(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        used: usize,
        left: usize,
        done: bool,
    ) {
        let session = &mut self.sessions[conn as usize];
        let Timing { waiting, turn, .. } = &mut self.timing;
        let wait = &mut session.wait;
        let oldest_ns = waiting.oldest_ns(*wait);
        if !turn.is_empty() {
            let slot_end = session.replies.back();
            waiting.begin(wait, oldest_ns.unwrap_or(now.elapsed_ns), slot_end, turn);
        }
        waiting.used(*wait, used);
        if done {
            waiting.drained(wait);
        } else if !waiting.has_input(*wait) {
            waiting.receive(wait, left, now.elapsed_ns);
        }
    }

    /// Notes input that is kept without a turn.
    #[inline]
    pub(super) fn input_waits(&mut self, now: &Now, conn: ConnIndex, bytes: usize) {
        if !self.timing.is_on() {
            return;
        }
        let session = &mut self.sessions[conn as usize];
        let waiting = &mut self.timing.waiting;
        // What was kept is otherwise the beginning of a request, and its end may have come now.
        if waiting.has_input(session.wait) || session.replies.room() == 0 || session.held_back {
            waiting.receive(&mut session.wait, bytes, now.elapsed_ns);
        }
    }

    /// Takes up what is answered, once a session's replies were handed over as far as they are ready.
    #[inline]
    pub(super) fn handed_over(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        if session.wait.is_some() && session.replies.out.is_empty() {
            let Timing { waiting, done, .. } = &mut self.timing;
            waiting.answered(&mut session.wait, session.replies.front(), done);
        }
    }

    /// Counts an intent of the present turn.
    #[inline]
    pub(super) fn count_intent(&mut self, intent: &Intent<'_>) {
        if !self.timing.is_on() {
            return;
        }
        let requests = match intent {
            Intent::Get(get) => u32::from(get.last),
            // A key that was left out in the middle of a get.
            Intent::More => 0,
            _ => 1,
        };
        self.timing.turn.count(Class::of(intent), requests);
    }
}
