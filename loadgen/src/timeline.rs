//! Results over time: what was done in each interval, and how long it took.
//!
//! Always true: the number of intervals is bounded by [`INTERVALS_MAX`]; a run that outlasts them
//! makes each twice as long and goes on, so that recording allocates nothing and forgets nothing.
//! Latencies of an interval have two digits; those of the whole run are elsewhere with three.
//! Equal latencies in a row, which a batch of pipelined requests produces, touch the histogram
//! once, when another one comes or [`Timeline::settle`] is called.

use hdrhistogram::Histogram;

use crate::tally::{Done, LATENCY_MAX_NS};

/// Most intervals of a run: ten minutes of seconds, and what comes after its end.
pub const INTERVALS_MAX: usize = 602;

/// Length of an interval of a run that fits.
const INTERVAL_NS: u64 = 1_000_000_000;

/// What was done in one interval.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Requests done.
    pub count: u64,
    /// Sum of their latencies in nanoseconds.
    pub sum_ns: u64,
    /// Bytes of their requests.
    pub bytes_sent: u64,
    /// Bytes of their replies.
    pub bytes_received: u64,
    /// Their latencies in nanoseconds.
    pub latency: Histogram<u32>,
}

impl Interval {
    fn new() -> Self {
        Self {
            count: 0,
            sum_ns: 0,
            bytes_sent: 0,
            bytes_received: 0,
            latency: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 2)
                .expect("the bounds are valid"),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        if other.count > 0 {
            self.latency
                .add(&other.latency)
                .expect("all histograms have the same bounds");
        }
    }

    fn clear(&mut self) {
        self.count = 0;
        self.sum_ns = 0;
        self.bytes_sent = 0;
        self.bytes_received = 0;
        self.latency.reset();
    }
}

/// The intervals of a run. One without any records nothing.
#[derive(Clone, Debug)]
pub struct Timeline {
    interval_ns: u64,
    intervals: Vec<Interval>,
    /// The interval of the newest request, and when it begins and ends.
    index: usize,
    from_ns: u64,
    until_ns: u64,
    /// Latency of the newest requests, and how many have not reached the histogram.
    latency_ns: u64,
    pending: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            interval_ns: INTERVAL_NS,
            intervals: Vec::new(),
            index: 0,
            from_ns: 0,
            until_ns: 0,
            latency_ns: 0,
            pending: 0,
        }
    }
}

impl Timeline {
    /// Intervals for a window of this length, or for one of unknown length.
    pub fn new(window_ns: u64) -> Self {
        let count = window_ns
            .div_ceil(INTERVAL_NS)
            .clamp(1, INTERVALS_MAX as u64);
        // An even number, so that neighbours can be joined in pairs.
        let count = count.next_multiple_of(2) as usize;
        Self {
            intervals: (0..count).map(|_| Interval::new()).collect(),
            ..Self::default()
        }
    }

    /// Length of an interval.
    pub fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// The intervals up to and with the last in which anything was done.
    pub fn intervals(&self) -> &[Interval] {
        let last = self
            .intervals
            .iter()
            .rposition(|interval| interval.count > 0);
        &self.intervals[..last.map_or(0, |last| last + 1)]
    }

    /// The last interval in which anything was done.
    pub fn newest(&self) -> Option<&Interval> {
        self.intervals().last()
    }

    /// Gives back the intervals that were not used.
    pub fn trim(&mut self) {
        self.settle();
        let used = self.intervals().len();
        self.intervals
            .truncate(used.next_multiple_of(2).min(self.intervals.len()));
        self.intervals.shrink_to_fit();
    }

    /// Records requests that were done `at_ns` after the window began.
    #[inline]
    pub fn record(&mut self, at_ns: u64, latency_ns: u64, done: &Done) {
        if self.intervals.is_empty() {
            return;
        }
        let same_interval = (self.from_ns..self.until_ns).contains(&at_ns);
        if latency_ns != self.latency_ns || !same_interval {
            self.settle();
            self.latency_ns = latency_ns;
            if !same_interval {
                self.find(at_ns);
            }
        }
        self.pending += done.count;
        let interval = &mut self.intervals[self.index];
        interval.count += done.count;
        interval.sum_ns += latency_ns * done.count;
        interval.bytes_sent += done.bytes_sent;
        interval.bytes_received += done.bytes_received;
    }

    /// Hands the newest latencies to their histogram: before anything is read.
    #[inline]
    pub fn settle(&mut self) {
        if self.pending > 0 {
            let count = u32::try_from(self.pending).unwrap_or(u32::MAX);
            self.intervals[self.index]
                .latency
                .saturating_record_n(self.latency_ns, count);
            self.pending = 0;
        }
    }

    /// Makes the interval of this time the newest one.
    fn find(&mut self, at_ns: u64) {
        let mut index = (at_ns / self.interval_ns) as usize;
        while index >= self.intervals.len() {
            self.coarsen();
            index = (at_ns / self.interval_ns) as usize;
        }
        self.index = index;
        self.from_ns = index as u64 * self.interval_ns;
        self.until_ns = self.from_ns + self.interval_ns;
    }

    /// Joins neighbours: half as many intervals in use, each twice as long.
    #[cold]
    fn coarsen(&mut self) {
        self.settle();
        // The newest interval is another one now.
        (self.from_ns, self.until_ns) = (0, 0);
        self.interval_ns *= 2;
        for index in 0..self.intervals.len() / 2 {
            // What stands at `index` has been joined to an earlier one and is empty, but for the
            // first, which stays where it is.
            self.intervals.swap(index, 2 * index);
            let (front, back) = self.intervals.split_at_mut(2 * index + 1);
            front[index].merge(&back[0]);
            back[0].clear();
        }
    }

    /// Adds what another thread, or another kind, did in the same window.
    pub fn merge(&mut self, mut other: Self) {
        self.settle();
        other.settle();
        if other.intervals.is_empty() {
            return;
        }
        if self.intervals.is_empty() {
            *self = other;
            return;
        }
        while self.interval_ns < other.interval_ns {
            self.coarsen();
        }
        while other.interval_ns < self.interval_ns {
            other.coarsen();
        }
        (self.from_ns, self.until_ns) = (0, 0);
        if self.intervals.len() < other.intervals.len() {
            std::mem::swap(&mut self.intervals, &mut other.intervals);
        }
        for (mine, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            mine.merge(theirs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    const SECOND_NS: u64 = 1_000_000_000;

    fn done() -> Done {
        Done {
            kind: Kind::Get,
            connection: 0,
            due_ns: 0,
            sent_ns: 0,
            done_ns: 0,
            count: 1,
            key_count: 1,
            hits: 1,
            bytes_sent: 3,
            bytes_received: 5,
        }
    }

    fn counts(timeline: &mut Timeline) -> Vec<u64> {
        timeline.settle();
        let intervals = timeline.intervals();
        for interval in intervals {
            assert_eq!(interval.latency.len(), interval.count);
            assert_eq!(interval.bytes_received, 5 * interval.count);
        }
        intervals.iter().map(|interval| interval.count).collect()
    }

    #[test]
    fn each_second_has_its_own() {
        let mut timeline = Timeline::new(3 * SECOND_NS);
        for at_ns in [0, 1, SECOND_NS - 1, SECOND_NS, 2 * SECOND_NS + 5] {
            timeline.record(at_ns, 1000, &done());
        }
        assert_eq!(counts(&mut timeline), [3, 1, 1]);
    }

    #[test]
    fn a_run_that_outlasts_its_intervals_doubles_them_and_forgets_nothing() {
        let mut timeline = Timeline::new(6 * SECOND_NS);
        for second in 0..11 {
            for _ in 0..=second {
                timeline.record(second * SECOND_NS, 1000, &done());
            }
        }
        assert_eq!(timeline.interval_ns(), 2 * SECOND_NS);
        assert_eq!(counts(&mut timeline), [3, 7, 11, 15, 19, 11]);
        timeline.record(40 * SECOND_NS, 1000, &done());
        assert_eq!(timeline.interval_ns(), 8 * SECOND_NS);
        assert_eq!(counts(&mut timeline), [36, 30, 0, 0, 0, 1]);
    }

    #[test]
    fn threads_of_different_pace_are_merged_by_time() {
        let mut long = Timeline::new(u64::MAX);
        let mut short = Timeline::new(2 * SECOND_NS);
        for second in 0..8 {
            long.record(second * SECOND_NS, 1000, &done());
            short.record(second * SECOND_NS, 1000, &done());
        }
        assert_eq!(counts(&mut long), [1; 8]);
        assert_eq!(counts(&mut short), [4, 4]);
        long.merge(short);
        assert_eq!(counts(&mut long), [8, 8]);
    }
}
