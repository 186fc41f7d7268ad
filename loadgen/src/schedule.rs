//! When requests are due: the arrivals of an open loop, computed from a seed or recorded.
//!
//! Always true: due times depend on the seed and the rate, or on the recording, alone, never on what the server or the
//! generator did, and they never decrease. A generator that is late finds the same due times
//! waiting for it: nothing is skipped.

use rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Least and most requests a second of an open loop. Beyond either, due times differ by more or
/// less than a clock of nanoseconds can tell within a run.
pub const RATE_MIN: f64 = 1e-6;
/// See [`RATE_MIN`].
pub const RATE_MAX: f64 = 1e8;

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Evenly.
    Constant,
    /// As independent events: exponential gaps.
    Poisson,
    /// As in the trace that is replayed.
    Recorded,
}

impl Arrival {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Arrival::Constant => "constant",
            Arrival::Poisson => "poisson",
            Arrival::Recorded => "recorded",
        }
    }
}

/// The sequence of due times of one thread, in nanoseconds after its start. It ends if it was
/// recorded.
pub struct Schedule {
    arrival: Arrival,
    /// Recorded due times, and how many of them have passed.
    recorded: Vec<u64>,
    passed: usize,
    /// Requests to come; the largest number is endless.
    left: u64,
    gap_ns: f64,
    next_ns: f64,
    random: Xoshiro256PlusPlus,
}

impl Schedule {
    /// `rate` requests a second, divided evenly among `thread_count` threads, of which this is
    /// number `thread`. Constant arrivals of the threads interleave.
    pub fn new(arrival: Arrival, rate: f64, seed: u64, thread: u64, thread_count: u64) -> Self {
        assert!(rate > 0.0, "rate {rate}");
        let gap_ns = 1e9 * thread_count as f64 / rate;
        let mut schedule = Self {
            arrival,
            recorded: Vec::new(),
            passed: 0,
            left: u64::MAX,
            gap_ns,
            next_ns: 0.0,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        };
        match arrival {
            Arrival::Constant => schedule.next_ns = gap_ns * thread as f64 / thread_count as f64,
            Arrival::Poisson => schedule.advance(),
            Arrival::Recorded => unreachable!("a recording has no rate"),
        }
        schedule
    }

    /// Due times from a recording, which never decrease.
    pub fn recorded(due_ns: Vec<u64>) -> Self {
        let next_ns = due_ns.first().map_or(0.0, |&due_ns| due_ns as f64);
        Self {
            arrival: Arrival::Recorded,
            left: due_ns.len() as u64,
            recorded: due_ns,
            passed: 0,
            gap_ns: 0.0,
            next_ns,
            random: Xoshiro256PlusPlus::seed_from_u64(0),
        }
    }

    /// Ends after so many requests.
    pub fn of_at_most(mut self, requests: u64) -> Self {
        self.left = requests;
        self
    }

    /// Whether there is no further request.
    #[inline]
    pub fn ended(&self) -> bool {
        self.left == 0
    }

    /// When the next request is due; never, if there is none.
    #[inline]
    pub fn due_ns(&self) -> u64 {
        if self.ended() {
            return u64::MAX;
        }
        self.next_ns as u64
    }

    /// Goes on to the request after it.
    #[inline]
    pub fn advance(&mut self) {
        if self.left != u64::MAX {
            self.left = self.left.saturating_sub(1);
        }
        let gaps = match self.arrival {
            Arrival::Constant => 1.0,
            Arrival::Poisson => Exp1.sample(&mut self.random),
            Arrival::Recorded => {
                self.passed += 1;
                if let Some(&due_ns) = self.recorded.get(self.passed) {
                    self.next_ns = due_ns as f64;
                }
                return;
            }
        };
        self.next_ns += self.gap_ns * gaps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dues(mut schedule: Schedule, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                let due_ns = schedule.due_ns();
                schedule.advance();
                due_ns
            })
            .collect()
    }

    #[test]
    fn constant_arrivals_of_two_threads_interleave() {
        let first = dues(Schedule::new(Arrival::Constant, 1000.0, 1, 0, 2), 3);
        let second = dues(Schedule::new(Arrival::Constant, 1000.0, 1, 1, 2), 3);
        assert_eq!(first, [0, 2_000_000, 4_000_000]);
        assert_eq!(second, [1_000_000, 3_000_000, 5_000_000]);
    }

    #[test]
    fn poisson_arrivals_have_the_offered_rate_and_exponential_gaps() {
        let dues = dues(Schedule::new(Arrival::Poisson, 1e6, 1, 0, 1), 100_000);
        let span_ns = *dues.last().unwrap() as f64;
        assert!((span_ns / 1e8 - 1.0).abs() < 0.02, "{span_ns}");
        // A gap exceeds its mean with probability 1/e.
        let long = dues.windows(2).filter(|w| w[1] - w[0] > 1000).count() as f64;
        assert!((long / 1e5 - 0.3679).abs() < 0.01, "{long}");
    }

    #[test]
    fn same_seed_gives_the_same_due_times_and_another_seed_others() {
        let poisson = |seed| dues(Schedule::new(Arrival::Poisson, 1e5, seed, 0, 1), 1000);
        assert_eq!(poisson(3), poisson(3));
        assert_ne!(poisson(3), poisson(4));
    }

    #[test]
    fn a_recorded_schedule_keeps_its_times_and_ends() {
        let mut schedule = Schedule::recorded(vec![5, 5, 9]);
        assert_eq!(
            dues(Schedule::recorded(vec![5, 5, 9]), 4),
            [5, 5, 9, u64::MAX]
        );
        for _ in 0..3 {
            assert!(!schedule.ended());
            schedule.advance();
        }
        assert!(schedule.ended());
        assert!(Schedule::recorded(Vec::new()).ended());
    }
}
