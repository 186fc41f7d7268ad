//! The time inside a tick, and what an exptime means at that time.
//!
//! Time is counted in whole seconds since shortly before the server's start, as memcached counts
//! it, from a clock that nobody sets. The wall clock is read once, to understand absolute
//! exptimes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strata_protocol::{ClockStep, Expiry};
use strata_store::{Deadline, Seconds};

/// The server starts at this second, so that "a moment before the start" is a time too.
const FIRST_SECOND: u32 = 2;

/// How far a test has moved the clock; the same for all workers.
#[derive(Debug, Default)]
pub struct Shift {
    ahead_s: AtomicU64,
    /// Seconds since the start at which it was stopped, and one; 0 while it goes.
    stopped_s: AtomicU64,
}

impl Shift {
    /// Moves the clock; whoever reads it next sees that.
    pub fn step(&self, clock: &Clock, step: ClockStep) {
        match step {
            ClockStep::Forward(seconds) => {
                self.ahead_s.fetch_add(seconds.into(), Ordering::SeqCst);
            }
            ClockStep::Pause => {
                let stopped_s = clock.started.elapsed().as_secs() + 1;
                let _ = self.stopped_s.compare_exchange(
                    0,
                    stopped_s,
                    Ordering::SeqCst,
                    Ordering::SeqCst,
                );
            }
            ClockStep::Resume => self.stopped_s.store(0, Ordering::SeqCst),
        }
    }

    fn shifted(&self, elapsed: Duration) -> Duration {
        let base = match self.stopped_s.load(Ordering::SeqCst) {
            0 => elapsed,
            stopped_s => Duration::from_secs(stopped_s - 1),
        };
        base + Duration::from_secs(self.ahead_s.load(Ordering::SeqCst))
    }
}

/// Turns the machine's clocks into [`Seconds`]; a copy for each worker.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_unix_s: u64,
    /// Only where a test may move it.
    shift: Option<&'static Shift>,
}

/// The time of one tick.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Seconds on the server's clock.
    pub seconds: Seconds,
    /// The same moment in unix time.
    pub unix_s: u64,
    /// Nanoseconds since the server's start.
    pub elapsed_ns: u64,
}

impl Clock {
    /// Starts the server's clock.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            started_unix_s: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or(Duration::ZERO)
                .as_secs(),
            shift: None,
        }
    }

    /// A clock that [`Clock::step`] moves.
    #[must_use]
    pub fn start_movable() -> Self {
        Self {
            // One for each start of a server that is tested, as long as its process lives.
            shift: Some(Box::leak(Box::default())),
            ..Self::start()
        }
    }

    /// Moves the clock for everybody who has a copy of it; false when it is not one to be moved.
    pub fn step(&self, step: ClockStep) -> bool {
        if let Some(shift) = self.shift {
            shift.step(self, step);
        }
        self.shift.is_some()
    }

    /// Reads the clock.
    #[must_use]
    pub fn now(&self) -> Now {
        let elapsed = self.started.elapsed();
        match self.shift {
            None => Now::after(self.started_unix_s, elapsed),
            Some(shift) => Now {
                // How long a tick takes is nobody's to move.
                elapsed_ns: Now::after(0, elapsed).elapsed_ns,
                ..Now::after(self.started_unix_s, shift.shifted(elapsed))
            },
        }
    }
}

impl Now {
    /// The time `elapsed` after a start at `started_unix_s`.
    #[must_use]
    pub fn after(started_unix_s: u64, elapsed: Duration) -> Self {
        let seconds = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX - FIRST_SECOND);
        Self {
            seconds: Seconds(FIRST_SECOND + seconds),
            unix_s: started_unix_s + elapsed.as_secs(),
            // Enough for five hundred years.
            elapsed_ns: elapsed.as_secs() * 1_000_000_000 + u64::from(elapsed.subsec_nanos()),
        }
    }

    /// Seconds since the server's start.
    #[must_use]
    pub fn uptime_s(&self) -> u32 {
        self.seconds.0 - FIRST_SECOND
    }

    /// When an item with this exptime dies.
    #[must_use]
    pub fn deadline(&self, exptime: i64) -> Deadline {
        match Expiry::from_exptime(exptime) {
            Expiry::Never => Deadline::Never,
            Expiry::Relative(ttl_s) => Deadline::At(Seconds(self.seconds.0.saturating_add(ttl_s))),
            Expiry::Absolute(unix_s) => Deadline::At(self.at_unix(u64::from(unix_s))),
            Expiry::Immediate => Deadline::At(Seconds(0)),
        }
    }

    /// When a `flush_all` with this exptime takes effect: 0 and less mean now.
    #[must_use]
    pub fn flush_at(&self, exptime: i64) -> Seconds {
        match self.deadline(exptime) {
            Deadline::Never => self.seconds,
            Deadline::At(at) => at.max(self.seconds),
        }
    }

    /// A time of the server's clock in unix time.
    #[must_use]
    pub fn unix_of(&self, at: Seconds) -> u64 {
        (self.unix_s + u64::from(at.0)).saturating_sub(u64::from(self.seconds.0))
    }

    fn at_unix(&self, unix_s: u64) -> Seconds {
        let now = u64::from(self.seconds.0);
        let at = (now + unix_s).saturating_sub(self.unix_s);
        Seconds(u32::try_from(at).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Now {
        Now::after(1_700_000_000, Duration::from_millis(10_900))
    }

    #[test]
    fn exptimes_mean_what_memcached_means_by_them() {
        assert_eq!(now().seconds, Seconds(12));
        assert_eq!(now().deadline(0), Deadline::Never);
        assert_eq!(now().deadline(1), Deadline::At(Seconds(13)));
        assert_eq!(
            now().deadline(2_592_000),
            Deadline::At(Seconds(12 + 2_592_000))
        );
        assert_eq!(now().deadline(-1), Deadline::At(Seconds(0)));
        // Beyond thirty days an exptime is a date.
        assert_eq!(now().deadline(1_700_000_030), Deadline::At(Seconds(32)));
        assert_eq!(now().deadline(1_700_000_000), Deadline::At(Seconds(2)));
        assert_eq!(now().deadline(2_592_001), Deadline::At(Seconds(0)));
    }

    #[test]
    fn a_clock_moves_for_all_its_copies_and_only_when_it_may() {
        let clock = Clock::start_movable();
        let copy = clock;
        assert!(clock.step(ClockStep::Pause) && clock.step(ClockStep::Forward(100)));
        let before = copy.now();
        assert!(clock.step(ClockStep::Forward(50)));
        let after = copy.now();
        assert_eq!(after.seconds.0 - before.seconds.0, 50);
        assert_eq!(after.unix_s - before.unix_s, 50);
        assert!(after.elapsed_ns - before.elapsed_ns < 50_000_000_000);
        assert!(!Clock::start().step(ClockStep::Forward(1)));
    }

    #[test]
    fn a_flush_is_never_in_the_past() {
        assert_eq!(now().flush_at(0), Seconds(12));
        assert_eq!(now().flush_at(-1), Seconds(12));
        assert_eq!(now().flush_at(10), Seconds(22));
        assert_eq!(now().flush_at(1_700_000_000), Seconds(12));
    }
}
