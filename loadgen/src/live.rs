//! What a run looks like while it runs: threads tell now and then, somebody may look.
//!
//! Always true: a thread tells at most a few times a second and into memory of its own, so that
//! being looked at costs the run nothing.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::kind::Kind;
use crate::tally::Tally;

/// How often a thread tells, and the line is written anew.
pub const BEAT: Duration = Duration::from_millis(250);

/// What one thread tells.
#[derive(Debug, Default)]
// Two cache lines, so that neighbours do not share any with prefetching.
#[repr(align(128))]
pub struct Pulse {
    next_ns: AtomicU64,
    stored: AtomicU64,
    count: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    p99_ns: AtomicU64,
}

impl Pulse {
    /// Tells, if it is time to.
    #[inline]
    pub fn beat(&self, now_ns: u64, tally: &Tally) {
        if now_ns >= self.next_ns.load(Ordering::Relaxed) {
            self.tell(now_ns, tally);
        }
    }

    #[cold]
    fn tell(&self, now_ns: u64, tally: &Tally) {
        let next_ns = now_ns + BEAT.as_nanos() as u64;
        self.next_ns.store(next_ns, Ordering::Relaxed);
        let (hits, misses) = tally.hits_and_misses();
        let newest = Kind::ALL
            .into_iter()
            .filter_map(|kind| tally.of(kind).timeline.newest())
            .map(|interval| interval.latency.value_at_quantile(0.99));
        self.stored.store(tally.stored, Ordering::Relaxed);
        self.count.store(tally.count(), Ordering::Relaxed);
        self.hits.store(hits, Ordering::Relaxed);
        self.misses.store(misses, Ordering::Relaxed);
        self.p99_ns
            .store(newest.max().unwrap_or(0), Ordering::Relaxed);
    }
}

/// What all threads have told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Since the run's clock began.
    pub now: Duration,
    /// Whether connecting and filling are over.
    pub begun: bool,
    /// How much of the measured time has passed and is left; unknown where requests are counted.
    pub of: Option<(Duration, Duration)>,
    /// Writes acknowledged.
    pub stored: u64,
    /// Requests done inside the measured window.
    pub count: u64,
    /// Keys found.
    pub hits: u64,
    /// Keys missed.
    pub misses: u64,
    /// The worst of the threads' newest p99.
    pub p99_ns: u64,
}

impl Progress {
    /// Adds up what threads have told.
    pub fn of(
        pulses: &[Pulse],
        now: Duration,
        begun: bool,
        of: Option<(Duration, Duration)>,
    ) -> Self {
        let mut progress = Self {
            now,
            begun,
            of,
            ..Self::default()
        };
        for pulse in pulses {
            progress.stored += pulse.stored.load(Ordering::Relaxed);
            progress.count += pulse.count.load(Ordering::Relaxed);
            progress.hits += pulse.hits.load(Ordering::Relaxed);
            progress.misses += pulse.misses.load(Ordering::Relaxed);
            progress.p99_ns = progress.p99_ns.max(pulse.p99_ns.load(Ordering::Relaxed));
        }
        progress
    }

    /// The line that is written anew, given the progress of the line before.
    pub fn line(&self, before: &Self, keys_to_fill: Option<u64>) -> String {
        let seconds = (self.now.saturating_sub(before.now))
            .as_secs_f64()
            .max(1e-3);
        if !self.begun {
            return match keys_to_fill {
                Some(keys) if self.stored > 0 => format!("fill  {} of {keys} keys", self.stored),
                _ => "connect".into(),
            };
        }
        if self.count == 0 {
            return "warm-up".into();
        }
        let rate = self.count.saturating_sub(before.count) as f64 / seconds;
        let asked = self.hits + self.misses;
        let hits = match asked {
            0 => "-".into(),
            _ => format!("{:.2} %", self.hits as f64 * 100.0 / asked as f64),
        };
        let time = match self.of {
            Some((passed, left)) => format!(
                "{:3.0} %  {:.0} s left",
                passed.as_secs_f64() * 100.0 / (passed + left).as_secs_f64().max(1e-9),
                left.as_secs_f64().ceil()
            ),
            None => format!("{} done", self.count),
        };
        format!(
            "{time}  {rate:.0} requests/s  hits {hits}  p99 {:.3} ms",
            self.p99_ns as f64 / 1e6
        )
    }
}

/// Writes the line to standard error, if that is a terminal.
pub struct Line {
    to_terminal: bool,
    before: Progress,
    written: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            to_terminal: io::stderr().is_terminal(),
            before: Progress::default(),
            written: false,
        }
    }
}

impl Line {
    /// Writes it anew.
    pub fn show(&mut self, progress: &Progress, keys_to_fill: Option<u64>) {
        if self.to_terminal {
            // A line that cannot be written is not worth a failed run.
            let _ = write!(
                io::stderr(),
                "\r\x1b[K{}",
                progress.line(&self.before, keys_to_fill)
            );
            self.written = true;
        }
        self.before = *progress;
    }

    /// Takes it away before anything else is written.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.written) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_rate_hits_tail_and_time_left() {
        let before = Progress {
            now: Duration::from_secs(4),
            count: 1000,
            ..Progress::default()
        };
        let progress = Progress {
            now: Duration::from_secs(6),
            begun: true,
            of: Some((Duration::from_secs(5), Duration::from_secs(15))),
            stored: 10,
            count: 9000,
            hits: 3,
            misses: 1,
            p99_ns: 1_500_000,
        };
        assert_eq!(
            progress.line(&before, None),
            " 25 %  15 s left  4000 requests/s  hits 75.00 %  p99 1.500 ms"
        );
        let filling = Progress {
            stored: 10,
            ..Progress::default()
        };
        assert_eq!(filling.line(&before, Some(50)), "fill  10 of 50 keys");
        let connecting = Progress::default();
        assert_eq!(connecting.line(&before, Some(50)), "connect");
        // Writes of the warm-up are not those of the fill.
        let warming = Progress {
            begun: true,
            ..filling
        };
        assert_eq!(warming.line(&before, Some(50)), "warm-up");
    }

    #[test]
    fn a_thread_tells_no_more_often_than_its_beat() {
        let pulse = Pulse::default();
        let mut tally = Tally::new(0..u64::MAX, false);
        tally.stored = 1;
        pulse.beat(1, &tally);
        tally.stored = 2;
        pulse.beat(BEAT.as_nanos() as u64, &tally);
        let stored = |pulse| Progress::of(std::slice::from_ref(pulse), BEAT, true, None).stored;
        assert_eq!(stored(&pulse), 1);
        pulse.beat(BEAT.as_nanos() as u64 + 1, &tally);
        assert_eq!(stored(&pulse), 2);
    }
}
