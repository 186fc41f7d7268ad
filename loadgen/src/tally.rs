//! What one thread saw: counters, latencies and everything that makes a run invalid.
//!
//! Always true: only requests inside the measured window are counted as results, while errors
//! and wrong values count whenever they are met; and recording allocates nothing.

use std::ops::Range;

use hdrhistogram::Histogram;

use crate::fairness::Fairness;
use crate::kind::{KIND_COUNT, Kind};
use crate::plan::DRAIN;
use crate::timeline::Timeline;
use crate::windows::Windows;

/// Longest latency told apart from longer ones, in nanoseconds.
pub const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// A histogram of nanoseconds with three digits. Equal values in a row, which a batch of
/// pipelined requests produces, touch it once.
#[derive(Clone)]
pub struct Latencies {
    histogram: Histogram<u64>,
    value_ns: u64,
    pending: u64,
    sum_ns: u128,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            histogram: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)
                .expect("the bounds are valid"),
            value_ns: 0,
            pending: 0,
            sum_ns: 0,
        }
    }
}

impl Latencies {
    /// Records one value.
    #[inline]
    pub fn record(&mut self, value_ns: u64) {
        self.record_times(value_ns, 1);
    }

    /// Records one value `count` times.
    #[inline]
    pub fn record_times(&mut self, value_ns: u64, count: u64) {
        if value_ns == self.value_ns {
            self.pending += count;
        } else {
            self.settle();
            self.value_ns = value_ns;
            self.pending = count;
        }
    }

    fn settle(&mut self) {
        if self.pending > 0 {
            self.histogram
                .saturating_record_n(self.value_ns, self.pending);
            self.sum_ns += u128::from(self.value_ns) * u128::from(self.pending);
            self.pending = 0;
        }
    }

    /// Adds what another thread recorded.
    pub fn merge(&mut self, mut other: Self) {
        self.settle();
        other.settle();
        self.sum_ns += other.sum_ns;
        self.histogram
            .add(other.histogram)
            .expect("all histograms have the same bounds");
    }

    /// The histogram, complete.
    pub fn histogram(&mut self) -> &Histogram<u64> {
        self.settle();
        &self.histogram
    }

    /// Sum of all values in nanoseconds.
    pub fn sum_ns(&mut self) -> u128 {
        self.settle();
        self.sum_ns
    }
}

/// Results of one kind of request.
#[derive(Clone, Default)]
pub struct KindTally {
    /// Requests done. A retrieval of many keys is one request.
    pub count: u64,
    /// Keys asked for or written.
    pub key_count: u64,
    /// Keys found; of other kinds, requests that took effect.
    pub hits: u64,
    /// The others: not found, or a condition that did not hold.
    pub misses: u64,
    /// Bytes of requests.
    pub bytes_sent: u64,
    /// Bytes of replies.
    pub bytes_received: u64,
    /// From due (open loop) or sent (closed loop) to done: the headline.
    pub latency: Latencies,
    /// From sent to done. Open loop only.
    pub service: Latencies,
    /// From due to sent: waiting with the generator, for whatever reason. Open loop only.
    pub lag: Latencies,
    /// By the time at which a request was done.
    pub timeline: Timeline,
}

impl KindTally {
    /// Adds what another thread, or another kind, has seen.
    pub fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.key_count += other.key_count;
        self.hits += other.hits;
        self.misses += other.misses;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        self.latency.merge(other.latency);
        self.service.merge(other.service);
        self.lag.merge(other.lag);
        self.timeline.merge(other.timeline);
    }
}

/// Requests of one kind that were due, sent and answered at the same times (nanoseconds of the run's clock); more than
/// one where they were sent and answered together.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// What they were.
    pub kind: Kind,
    /// Number of their connection among those of all threads.
    pub connection: usize,
    /// When they were due; in a closed loop, when they were sent.
    pub due_ns: u64,
    /// When they were handed to the kernel.
    pub sent_ns: u64,
    /// When their replies had been received.
    pub done_ns: u64,
    /// How many there are.
    pub count: u64,
    /// Keys they had.
    pub key_count: u64,
    /// Keys found.
    pub hits: u64,
    /// Bytes of the requests.
    pub bytes_sent: u64,
    /// Bytes of the replies.
    pub bytes_received: u64,
}

/// What went wrong, counted, with the first instance in words.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// `ERROR`, `CLIENT_ERROR`, `SERVER_ERROR` and refused writes.
    pub errors: u64,
    /// Values with a wrong byte or of a wrong length.
    pub wrong_values: u64,
    /// Replies that belong to another request.
    pub misplaced: u64,
    /// Connections that ended early or stopped making sense.
    pub lost_connections: u64,
    /// The first of each, as a sentence, at most [`Faults::FIRST_MAX`].
    pub first: Vec<String>,
}

impl Faults {
    /// Most sentences kept.
    pub const FIRST_MAX: usize = 4;

    /// Keeps the sentence if there is room. Off the hot path: it may allocate.
    #[cold]
    pub fn note(&mut self, sentence: impl FnOnce() -> String) {
        if self.first.len() < Self::FIRST_MAX {
            let sentence = sentence();
            if !self.first.contains(&sentence) {
                self.first.push(sentence);
            }
        }
    }

    /// Whether there were none.
    pub fn none(&self) -> bool {
        self.errors + self.wrong_values + self.misplaced + self.lost_connections == 0
    }

    fn merge(&mut self, other: Self) {
        self.errors += other.errors;
        self.wrong_values += other.wrong_values;
        self.misplaced += other.misplaced;
        self.lost_connections += other.lost_connections;
        for sentence in other.first {
            self.note(|| sentence);
        }
    }
}

/// All that one thread, or after merging a whole run, has to tell.
#[derive(Clone, Default)]
pub struct Tally {
    /// Closed loop: done inside it counts. Open loop: due inside it counts.
    pub window_ns: Range<u64>,
    /// Whether latencies run from due times.
    pub open: bool,
    /// One of each kind of request.
    kinds: [KindTally; KIND_COUNT],
    /// Requests due inside the window. Open loop only.
    pub offered: u64,
    /// Those of them that were answered before the window ended. Open loop only.
    pub answered_in_time: u64,
    /// How late the generator itself was: the part of due to sent in which a connection could
    /// have taken the request. Open loop only.
    pub lateness: Latencies,
    /// The same by the time at which a request was due, all kinds together, if asked for. Open loop only.
    pub windows: Windows,
    /// Latencies by connection, all kinds together, if asked for.
    pub fairness: Fairness,
    /// Requests sent but not answered when the run gave up waiting.
    pub unanswered: u64,
    /// Requests due but never sent. Open loop only.
    pub unsent: u64,
    /// Errors.
    pub faults: Faults,
    /// Writes acknowledged at any time: what a fill counts.
    pub stored: u64,
    /// CPU time of the threads inside the window, in nanoseconds.
    pub cpu_ns: u64,
    /// Time inside the window in turns that had something to do, in nanoseconds; the rest was
    /// spent looking or sleeping.
    pub busy_ns: u64,
    /// How often the threads' loops went round inside the window.
    pub turns: u64,
}

impl Tally {
    /// A tally of the window `window_ns` of the run's clock.
    pub fn new(window_ns: Range<u64>, open: bool) -> Self {
        Self {
            window_ns,
            open,
            ..Self::default()
        }
    }

    /// Reserves the time series of the kinds that can occur, so that recording does not allocate.
    pub fn reserve_timelines(&mut self, occurs: impl Fn(Kind) -> bool) {
        let mut window_ns = self.window_ns.end.saturating_sub(self.window_ns.start);
        if self.open {
            // What was due inside the window is done until the drain ends.
            window_ns = window_ns.saturating_add(DRAIN.as_nanos() as u64);
        }
        for kind in Kind::ALL {
            if occurs(kind) {
                self.of_mut(kind).timeline = Timeline::new(window_ns);
            }
        }
    }

    /// Gives back what the time series did not use.
    pub fn trim_timelines(&mut self) {
        for kind in &mut self.kinds {
            kind.timeline.trim();
        }
    }

    /// Results of one kind of request.
    #[inline]
    pub fn of(&self, kind: Kind) -> &KindTally {
        &self.kinds[kind.index()]
    }

    /// Results of one kind of request.
    #[inline]
    pub fn of_mut(&mut self, kind: Kind) -> &mut KindTally {
        &mut self.kinds[kind.index()]
    }

    /// All kinds together.
    pub fn totals(&self) -> KindTally {
        let mut totals = KindTally::default();
        for kind in &self.kinds {
            totals.merge(kind.clone());
        }
        totals
    }

    /// Requests done, of all kinds.
    pub fn count(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.count).sum()
    }

    /// Keys found and missed by retrievals.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        let reading = Kind::ALL.into_iter().filter(|kind| kind.reads());
        reading.fold((0, 0), |(hits, misses), kind| {
            let of_kind = self.of(kind);
            (hits + of_kind.hits, misses + of_kind.misses)
        })
    }

    /// Records requests that were answered.
    #[inline]
    pub fn done(&mut self, done: &Done) {
        let counted_by_ns = if self.open { done.due_ns } else { done.done_ns };
        if !self.window_ns.contains(&counted_by_ns) {
            return;
        }
        if self.open && done.done_ns < self.window_ns.end {
            self.answered_in_time += done.count;
        }
        let of_kind = &mut self.kinds[done.kind.index()];
        of_kind.count += done.count;
        of_kind.key_count += done.key_count;
        of_kind.hits += done.hits;
        of_kind.misses += done.key_count - done.hits;
        of_kind.bytes_sent += done.bytes_sent;
        of_kind.bytes_received += done.bytes_received;
        let latency_ns = done.done_ns.saturating_sub(done.due_ns);
        of_kind.latency.record_times(latency_ns, done.count);
        self.fairness
            .record(done.connection, latency_ns, done.count);
        if self.open {
            let due_ns = done.due_ns - self.window_ns.start;
            self.windows.record(due_ns, latency_ns, done.count);
            let service_ns = done.done_ns.saturating_sub(done.sent_ns);
            of_kind.service.record_times(service_ns, done.count);
            let lag_ns = done.sent_ns.saturating_sub(done.due_ns);
            of_kind.lag.record_times(lag_ns, done.count);
        }
        of_kind.timeline.record(
            done.done_ns.saturating_sub(self.window_ns.start),
            latency_ns,
            done,
        );
    }

    /// Records how late a request of an open loop was by the generator's own fault.
    #[inline]
    pub fn sent(&mut self, due_ns: u64, late_ns: u64) {
        if self.window_ns.contains(&due_ns) {
            self.offered += 1;
            self.lateness.record(late_ns);
            let at_ns = due_ns - self.window_ns.start;
            self.windows.record_lateness(at_ns, late_ns);
        }
    }

    /// Records the age of a request that was never answered (`sent_ns` given) or never sent.
    pub fn gave_up(&mut self, kind: Kind, due_ns: u64, sent_ns: Option<u64>, now_ns: u64) {
        match sent_ns {
            Some(_) => self.unanswered += 1,
            None => self.unsent += 1,
        }
        if !self.open || !self.window_ns.contains(&due_ns) {
            return;
        }
        let of_kind = &mut self.kinds[kind.index()];
        let age_ns = now_ns.saturating_sub(due_ns);
        of_kind.latency.record(age_ns);
        self.windows
            .record(due_ns - self.window_ns.start, age_ns, 1);
        match sent_ns {
            Some(sent_ns) => {
                of_kind.service.record(now_ns.saturating_sub(sent_ns));
                of_kind.lag.record(sent_ns.saturating_sub(due_ns));
            }
            None => of_kind.lag.record(age_ns),
        }
    }

    /// Adds what another thread saw in the same window.
    pub fn merge(&mut self, other: Self) {
        self.window_ns = self.window_ns.start.min(other.window_ns.start)
            ..self.window_ns.end.max(other.window_ns.end);
        self.open |= other.open;
        for (mine, theirs) in self.kinds.iter_mut().zip(other.kinds) {
            mine.merge(theirs);
        }
        self.offered += other.offered;
        self.answered_in_time += other.answered_in_time;
        self.lateness.merge(other.lateness);
        self.windows.merge(other.windows);
        self.fairness.merge(other.fairness);
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
        self.faults.merge(other.faults);
        self.stored += other.stored;
        self.cpu_ns += other.cpu_ns;
        self.busy_ns += other.busy_ns;
        self.turns += other.turns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(due_ns: u64, sent_ns: u64, done_ns: u64) -> Done {
        Done {
            kind: Kind::Get,
            connection: 0,
            due_ns,
            sent_ns,
            done_ns,
            count: 1,
            key_count: 1,
            hits: 1,
            bytes_sent: 10,
            bytes_received: 20,
        }
    }

    #[test]
    fn an_open_loop_counts_what_was_due_inside_the_window() {
        let mut tally = Tally::new(100..200, true);
        tally.done(&done(99, 100, 150));
        tally.done(&done(100, 110, 250));
        tally.done(&done(150, 160, 180));
        assert_eq!(tally.of_mut(Kind::Get).count, 2);
        assert_eq!(tally.answered_in_time, 1);
        assert_eq!(tally.of_mut(Kind::Get).latency.histogram().max(), 150);
        assert_eq!(tally.of_mut(Kind::Get).service.histogram().max(), 140);
        assert_eq!(tally.of_mut(Kind::Get).lag.histogram().max(), 10);
    }

    #[test]
    fn a_closed_loop_counts_what_was_done_inside_the_window() {
        let mut tally = Tally::new(100..200, false);
        tally.done(&done(90, 90, 110));
        tally.done(&done(190, 190, 210));
        assert_eq!(tally.of_mut(Kind::Get).count, 1);
        assert_eq!(tally.of_mut(Kind::Get).latency.sum_ns(), 20);
    }

    #[test]
    fn a_reply_after_the_end_leaves_the_intervals_as_they_are() {
        const SECOND_NS: u64 = 1_000_000_000;
        let mut tally = Tally::new(0..2 * SECOND_NS, true);
        tally.reserve_timelines(|kind| kind == Kind::Get);
        for due_ns in [0, SECOND_NS, 2 * SECOND_NS - 1] {
            tally.done(&done(due_ns, due_ns, due_ns + 10));
        }
        tally.trim_timelines();
        let timeline = &tally.of(Kind::Get).timeline;
        assert_eq!(timeline.interval_ns(), SECOND_NS);
        let counts: Vec<u64> = timeline.intervals().iter().map(|one| one.count).collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    #[test]
    fn runs_of_equal_values_are_all_recorded() {
        let mut latencies = Latencies::default();
        for value_ns in [5, 5, 5, 7, 7, 5] {
            latencies.record(value_ns);
        }
        assert_eq!(latencies.sum_ns(), 34);
        assert_eq!(latencies.histogram().len(), 6);
        assert_eq!(latencies.histogram().count_at(5), 4);
    }

    #[test]
    fn an_unanswered_request_counts_with_its_age() {
        let mut tally = Tally::new(0..1000, true);
        tally.gave_up(Kind::Get, 500, Some(600), 5500);
        tally.gave_up(Kind::Get, 500, None, 4500);
        assert_eq!((tally.unanswered, tally.unsent), (1, 1));
        let latency = tally.of_mut(Kind::Get).latency.histogram();
        assert!(latency.equivalent(latency.max(), 5000));
        let lag = tally.of_mut(Kind::Get).lag.histogram();
        assert!(lag.equivalent(lag.max(), 4000));
    }
}
