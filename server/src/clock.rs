//! The time inside a tick, and what an exptime means at that time.
//!
//! Time is counted in whole seconds since shortly before the server's start, as memcached counts
//! it, from a clock that nobody sets. The wall clock is read once, to understand absolute
//! exptimes.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use strata_protocol::Expiry;
use strata_store::{Deadline, Seconds};

/// The server starts at this second, so that "a moment before the start" is a time too.
const FIRST_SECOND: u32 = 2;

/// Turns the machine's clocks into [`Seconds`]; a copy for each worker.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    started_unix_s: u64,
}

/// The time of one tick.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Seconds on the server's clock.
    pub seconds: Seconds,
    /// The same moment in unix time.
    pub unix_s: u64,
    /// Microseconds since the server's start.
    pub elapsed_us: u64,
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
        }
    }

    /// Reads the clock.
    #[must_use]
    pub fn now(&self) -> Now {
        Now::after(self.started_unix_s, self.started.elapsed())
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
            elapsed_us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
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
    fn a_flush_is_never_in_the_past() {
        assert_eq!(now().flush_at(0), Seconds(12));
        assert_eq!(now().flush_at(-1), Seconds(12));
        assert_eq!(now().flush_at(10), Seconds(22));
        assert_eq!(now().flush_at(1_700_000_000), Seconds(12));
    }
}
