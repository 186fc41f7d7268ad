//! Counts of durations that one thread adds to and any thread reads.
//!
//! ```text
//! units of 32 ns:  0 1 2 ... 63 | 64 66 .. 126 | 128 132 .. 252 | ...
//!                  one each     | 32 of two    | 32 of four     | 32 an octave, to 68 s
//! ```
//!
//! Always true: a bucket's upper edge is in it and its lower edge is not, so a power of two of
//! nanoseconds divides the counts exactly; a duration is told at most 3.2 % too long beyond two
//! microseconds, never too short. There is one writer, so adding is a plain load and store; a
//! reader sees each count at some moment of the recent past, and not all of the same.

use std::sync::atomic::{AtomicU64, Ordering};

/// `log2` of the nanoseconds that are told apart at best.
const UNIT_SHIFT: u32 = 5;

/// `log2` of the buckets an octave.
const OCTAVE_SHIFT: u32 = 5;

/// Durations of so many units or more are in the last bucket: 68 seconds.
const UNITS_MAX: u64 = 1 << 31;

/// Buckets of one histogram.
pub const BUCKETS: usize = bucket_of_units(UNITS_MAX - 1) + 1;

const _: () = assert!(BUCKETS == 864 && bucket_of_units(63) == 63 && bucket_of_units(64) == 64);
const _: () =
    assert!(last_unit(63) == 63 && last_unit(64) == 65 && last_unit(BUCKETS - 1) == UNITS_MAX - 1);

const fn bucket_of_units(units: u64) -> usize {
    let octave = (units | (1 << OCTAVE_SHIFT)).ilog2() - OCTAVE_SHIFT;
    ((octave as usize) << OCTAVE_SHIFT) + (units >> octave) as usize
}

/// The largest number of units in a bucket.
const fn last_unit(bucket: usize) -> u64 {
    let octave = (bucket >> OCTAVE_SHIFT).saturating_sub(1);
    let first = bucket - (octave << OCTAVE_SHIFT);
    ((first as u64 + 1) << octave) - 1
}

fn bucket_of(ns: u64) -> usize {
    bucket_of_units((ns.saturating_sub(1) >> UNIT_SHIFT).min(UNITS_MAX - 1))
}

/// The longest duration a bucket stands for, in nanoseconds.
#[must_use]
pub fn upper_edge_ns(bucket: usize) -> u64 {
    (last_unit(bucket) + 1) << UNIT_SHIFT
}

/// See the module's page.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
            sum_ns: AtomicU64::new(0),
            max_ns: AtomicU64::new(0),
        }
    }
}

/// Adds to a number that no other thread writes.
#[inline]
fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

impl Histogram {
    /// Adds `count` durations. Only one thread may.
    #[inline]
    pub fn record(&self, ns: u64, count: u32) {
        let count = u64::from(count);
        add(&self.counts[bucket_of(ns)], count);
        add(&self.sum_ns, ns * count);
        if ns > self.max_ns.load(Ordering::Relaxed) {
            self.max_ns.store(ns, Ordering::Relaxed);
        }
    }

    /// Sets everything to zero. Only the thread that records may.
    pub fn reset(&self) {
        for number in self.counts.iter().chain([&self.sum_ns, &self.max_ns]) {
            number.store(0, Ordering::Relaxed);
        }
    }
}

/// What histograms held when they were read, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durations {
    counts: Vec<u64>,
    /// Durations recorded.
    pub count: u64,
    /// Their sum.
    pub sum_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            count: 0,
            sum_ns: 0,
            max_ns: 0,
        }
    }
}

impl Durations {
    /// Adds what a histogram holds.
    pub fn add(&mut self, histogram: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&histogram.counts) {
            let count = count.load(Ordering::Relaxed);
            *sum += count;
            self.count += count;
        }
        self.sum_ns += histogram.sum_ns.load(Ordering::Relaxed);
        let max_ns = histogram.max_ns.load(Ordering::Relaxed);
        self.max_ns = self.max_ns.max(max_ns);
    }

    /// The duration that `share` of all do not exceed, in nanoseconds; 0 of none.
    #[must_use]
    pub fn quantile_ns(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count.max(1));
        let mut below = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += count;
            if below >= rank {
                return upper_edge_ns(bucket).min(self.max_ns);
            }
        }
        0
    }

    /// The buckets that hold something: the longest duration each stands for, in nanoseconds, and how
    /// many it holds.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let all = self.counts.iter().enumerate();
        all.filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| (upper_edge_ns(bucket), *count))
    }

    /// How many lasted at most `2^log2_ns` nanoseconds.
    #[must_use]
    pub fn up_to(&self, log2_ns: u32) -> u64 {
        let edge_ns = 1 << log2_ns;
        let within = |bucket: &usize| upper_edge_ns(*bucket) <= edge_ns;
        (0..BUCKETS)
            .take_while(within)
            .map(|bucket| self.counts[bucket])
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(durations: &[u64]) -> Durations {
        let histogram = Histogram::default();
        for ns in durations {
            histogram.record(*ns, 1);
        }
        let mut read = Durations::default();
        read.add(&histogram);
        read
    }

    #[test]
    fn every_duration_is_in_the_bucket_whose_edges_surround_it() {
        let mut ns: u64 = 0;
        while ns < 60_000_000_000 {
            let bucket = bucket_of(ns);
            let below = bucket.checked_sub(1).map_or(0, upper_edge_ns);
            let edge = upper_edge_ns(bucket);
            assert!((below < ns || ns == 0) && ns <= edge, "{below} {ns} {edge}");
            assert!(edge - ns <= 32 || (edge - ns) as f64 <= 0.032 * ns as f64);
            ns += 1 + ns / 177;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_durations_and_never_too_short() {
        let all: Vec<u64> = (1..=10_000).map(|at| at * at * 7).collect();
        let read = of(&all);
        assert_eq!((read.count, read.max_ns), (10_000, 700_000_000));
        assert_eq!(read.sum_ns, all.iter().sum::<u64>());
        for share in [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0] {
            let exact = all[(share * 10_000.0_f64).ceil() as usize - 1];
            let told = read.quantile_ns(share);
            assert!(told >= exact && told as f64 <= exact as f64 * 1.032 + 32.0);
        }
        assert_eq!(Durations::default().quantile_ns(0.5), 0);
    }

    #[test]
    fn a_power_of_two_divides_the_counts_exactly() {
        let read = of(&[1 << 10, (1 << 10) + 1, 1 << 20, (1 << 20) + 1, 1 << 33]);
        assert_eq!((read.up_to(9), read.up_to(10), read.up_to(11)), (0, 1, 2));
        assert_eq!((read.up_to(20), read.up_to(21), read.up_to(33)), (3, 4, 5));
    }

    #[test]
    fn a_reset_histogram_is_empty() {
        let histogram = Histogram::default();
        histogram.record(1_000_000, 5);
        histogram.reset();
        let mut read = Durations::default();
        read.add(&histogram);
        assert_eq!(read, Durations::default());
    }
}
