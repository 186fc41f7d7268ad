//! A server that says nothing any more, where no end in time would end the wait for it.
//!
//! Always true: a wait is over only after nothing has moved for the whole limit, however slow it was before.

use std::time::Duration;

/// How long nothing has moved.
pub struct Silence {
    limit_ns: u64,
    since_ns: u64,
}

impl Silence {
    /// Nothing has moved since `now_ns`, and may not for `limit`.
    pub fn new(limit: Duration, now_ns: u64) -> Self {
        Self {
            limit_ns: limit.as_nanos() as u64,
            since_ns: now_ns,
        }
    }

    /// Whether it has lasted for too long. `quiet`: something is awaited, and nothing has moved since the last call.
    #[inline]
    pub fn is_too_long(&mut self, now_ns: u64, quiet: bool) -> bool {
        if !quiet {
            self.since_ns = now_ns;
        }
        now_ns - self.since_ns > self.limit_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_without_a_break_is_too_long() {
        let mut silence = Silence::new(Duration::from_nanos(10), 100);
        assert!(!silence.is_too_long(110, true));
        // A server as slow as can be is not silent.
        assert!(!silence.is_too_long(111, false));
        assert!(!silence.is_too_long(121, true));
        assert!(silence.is_too_long(122, true));
    }
}
