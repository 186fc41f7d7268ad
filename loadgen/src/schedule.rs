//! When requests are due: the arrivals of an open loop, computed from a seed.
//!
//! Always true: due times depend on the seed and the rate alone, never on what the server or the
//! generator did, and they never decrease. A generator that is late finds the same due times
//! waiting for it: nothing is skipped.

use rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1};
use rand_xoshiro::Xoshiro256PlusPlus;

/// How arrivals are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Evenly.
    Constant,
    /// As independent events: exponential gaps.
    Poisson,
}

/// The endless sequence of due times of one thread, in nanoseconds after its start.
pub struct Schedule {
    arrival: Arrival,
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
            gap_ns,
            next_ns: 0.0,
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
        };
        match arrival {
            Arrival::Constant => schedule.next_ns = gap_ns * thread as f64 / thread_count as f64,
            Arrival::Poisson => schedule.advance(),
        }
        schedule
    }

    /// When the next request is due.
    #[inline]
    pub fn due_ns(&self) -> u64 {
        self.next_ns as u64
    }

    /// Goes on to the request after it.
    #[inline]
    pub fn advance(&mut self) {
        let gaps = match self.arrival {
            Arrival::Constant => 1.0,
            Arrival::Poisson => Exp1.sample(&mut self.random),
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
}
