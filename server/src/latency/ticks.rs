//! The longest ticks of a worker, with what they were doing.
//!
//! Always true: nothing is kept of a tick that is shorter than those that are kept, so a tick pays
//! for a few numbers to compare with, and one comparison.

use arrayvec::ArrayVec;

use crate::config::LONG_TICKS_KEPT;

/// What a worker has done, in numbers that grow; the difference of two is what a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Commands with a key of its own clients, here or sent on.
    pub commands: u64,
    /// Requests of other workers served.
    pub visits: u64,
    /// Bytes received.
    pub read_bytes: u64,
    /// Items dropped to make room.
    pub evicted: u64,
    /// Items removed after their deadline.
    pub expired: u64,
    /// Items moved inside the store.
    pub moved: u64,
}

impl Work {
    /// What was done since `before`. The numbers may have been set to zero in between.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            commands: self.commands.saturating_sub(before.commands),
            visits: self.visits.saturating_sub(before.visits),
            read_bytes: self.read_bytes.saturating_sub(before.read_bytes),
            evicted: self.evicted.saturating_sub(before.evicted),
            expired: self.expired.saturating_sub(before.expired),
            moved: self.moved.saturating_sub(before.moved),
        }
    }

    /// Names and numbers, as they are told.
    #[must_use]
    pub fn numbers(&self) -> [(&'static str, u64); 6] {
        [
            ("commands", self.commands),
            ("visits", self.visits),
            ("read_bytes", self.read_bytes),
            ("evicted", self.evicted),
            ("expired", self.expired),
            ("moved", self.moved),
        ]
    }
}

/// One tick that took long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongTick {
    /// How long.
    pub took_ns: u64,
    /// When it began, in unix time.
    pub unix_s: u64,
    /// Completions it handled.
    pub events: usize,
    /// Bytes of large values that it sent from where they lie.
    pub lent_bytes: usize,
    /// What else it did.
    pub work: Work,
}

/// The longest since the last reset, the longest first.
#[derive(Clone, Debug, Default)]
pub struct LongTicks {
    list: ArrayVec<LongTick, LONG_TICKS_KEPT>,
    /// What a tick must exceed to be kept.
    floor_ns: u64,
}

impl LongTicks {
    /// Whether a tick of this length is to be kept.
    #[inline]
    #[must_use]
    pub fn wants(&self, took_ns: u64) -> bool {
        took_ns > self.floor_ns
    }

    /// Keeps a tick that is wanted.
    #[cold]
    pub fn keep(&mut self, tick: LongTick) {
        if self.list.is_full() {
            self.list.pop();
        }
        let longer = |kept: &LongTick| kept.took_ns >= tick.took_ns;
        let at = self.list.partition_point(longer);
        self.list.insert(at, tick);
        if self.list.is_full() {
            self.floor_ns = self.list.last().map_or(0, |last| last.took_ns);
        }
    }

    /// Forgets all of them.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// The longest first.
    #[must_use]
    pub fn list(&self) -> &[LongTick] {
        &self.list
    }

    /// The longest, in microseconds.
    #[must_use]
    pub fn longest_us(&self) -> u64 {
        self.list.first().map_or(0, |tick| tick.took_ns / 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_are_kept_in_order() {
        let mut ticks = LongTicks::default();
        for at in 0..1000_u64 {
            let took_ns = at * 7919 % 1000;
            if ticks.wants(took_ns) {
                ticks.keep(LongTick {
                    took_ns,
                    ..LongTick::default()
                });
            }
        }
        let kept: Vec<u64> = ticks.list().iter().map(|tick| tick.took_ns).collect();
        let expected: Vec<u64> = (0..LONG_TICKS_KEPT as u64).map(|at| 999 - at).collect();
        assert_eq!(kept, expected);
        assert!(!ticks.wants(expected[LONG_TICKS_KEPT - 1]));
        ticks.reset();
        assert!(ticks.wants(1) && ticks.list().is_empty());
    }
}
