//! Percentiles by window: the measured time of an open loop in pieces, each with its own.
//!
//! Always true: a request belongs to the window in which it was due, so that what a stall delays
//! counts where the stall was; whether a window counts is decided by the generator's own lateness
//! alone, never by a latency; all windows are reserved before the first request.
//!
//! A machine that takes a core away for some milliseconds spoils the percentiles of the whole run,
//! but only the windows it strikes. The middle of the windows says how long requests take when
//! nothing of the kind happens. It hides whatever strikes fewer than half of them, so it stands
//! beside the slowest tenth of the windows and the percentiles of the whole run.
//!
//! The rule for a whole run, that lag is below a tenth of the latency, would choose windows by
//! what is to be measured: where requests are quick the same lag is a larger share, so the quick
//! windows would be left out (perf/notes/tails.md).

use hdrhistogram::Histogram;

use crate::tally::LATENCY_MAX_NS;

/// Most windows of a run: a minute of tenths of a second, about 30 KB each.
pub const WINDOWS_MAX: usize = 600;

/// A window in which the generator was later than this at the 99th percentile does not count: what
/// it has to do itself takes half as long (perf/notes/load-generator.md), and the rest is a core
/// that was taken away.
pub const LATENESS_MAX_NS: u64 = 50_000;

/// Percentiles of a window.
pub const WINDOW_PERCENTILES: [f64; 3] = [50.0, 99.0, 99.9];

/// One piece of the measured time.
#[derive(Clone)]
struct Window {
    /// From due to done.
    latency: Histogram<u32>,
    /// How late the generator was, as in [`crate::tally::Tally::lateness`].
    lateness: Histogram<u32>,
}

impl Window {
    fn new() -> Self {
        // Two digits: 1 % is far below what windows differ by.
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 2).expect("valid bounds");
        Self {
            latency: histogram.clone(),
            lateness: histogram,
        }
    }
}

/// What a window has to tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Requests due in it.
    pub count: u64,
    /// Their latencies at [`WINDOW_PERCENTILES`], in nanoseconds.
    pub latency_ns: [u64; 3],
    /// How late the generator was at the same percentiles.
    pub lateness_ns: [u64; 3],
    /// Whether the generator was in time.
    pub counts: bool,
}

/// What all windows have to tell together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Windows of the measured time.
    pub of: usize,
    /// Those of them that count.
    pub counted: usize,
    /// Of these the middle one's latency at each of [`WINDOW_PERCENTILES`], in nanoseconds.
    pub middle_ns: [u64; 3],
    /// The same of the window that a tenth of them exceed.
    pub slow_ns: [u64; 3],
    /// The middle one's lateness.
    pub lateness_ns: [u64; 3],
}

/// The windows of a run. One without any records nothing.
#[derive(Clone, Default)]
pub struct Windows {
    length_ns: u64,
    windows: Vec<Window>,
}

impl Windows {
    /// As many windows of `length_ns` as fit into `measured_ns`; what is left behind the last is in none.
    pub fn new(length_ns: u64, measured_ns: u64) -> Self {
        let count = (measured_ns / length_ns) as usize;
        assert!(
            count <= WINDOWS_MAX,
            "{count} windows are more than {WINDOWS_MAX}"
        );
        Self {
            length_ns,
            windows: vec![Window::new(); count],
        }
    }

    /// Length of a window.
    pub fn length_ns(&self) -> u64 {
        self.length_ns
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Records requests that were due `at_ns` after the measured time began.
    #[inline]
    pub fn record(&mut self, at_ns: u64, latency_ns: u64, count: u64) {
        if let Some(window) = self.at(at_ns) {
            window
                .latency
                .saturating_record_n(latency_ns, count.min(u64::from(u32::MAX)) as u32);
        }
    }

    /// Records how late a request due at that time was sent by the generator's own fault.
    #[inline]
    pub fn record_lateness(&mut self, at_ns: u64, late_ns: u64) {
        if let Some(window) = self.at(at_ns) {
            window.lateness.saturating_record(late_ns);
        }
    }

    #[inline]
    fn at(&mut self, at_ns: u64) -> Option<&mut Window> {
        if self.windows.is_empty() {
            return None;
        }
        self.windows.get_mut((at_ns / self.length_ns) as usize)
    }

    /// Adds what another thread saw in the same measured time.
    pub fn merge(&mut self, other: Self) {
        if self.windows.is_empty() {
            *self = other;
            return;
        }
        for (mine, theirs) in self.windows.iter_mut().zip(&other.windows) {
            for (mine, theirs) in [
                (&mut mine.latency, &theirs.latency),
                (&mut mine.lateness, &theirs.lateness),
            ] {
                mine.add(theirs)
                    .expect("all histograms have the same bounds");
            }
        }
    }

    /// What each has to tell. One in which nothing was due does not count.
    pub fn figures(&self) -> Vec<Figures> {
        let of = |window: &Window| {
            let at = |histogram: &Histogram<u32>| {
                WINDOW_PERCENTILES.map(|percentile| histogram.value_at_quantile(percentile / 100.0))
            };
            let (latency_ns, lateness_ns) = (at(&window.latency), at(&window.lateness));
            let count = window.latency.len();
            Figures {
                count,
                latency_ns,
                lateness_ns,
                counts: count > 0 && lateness_ns[1] <= LATENESS_MAX_NS,
            }
        };
        self.windows.iter().map(of).collect()
    }

    /// What they have to tell together, if there are any.
    pub fn summary(&self) -> Option<Summary> {
        if self.windows.is_empty() {
            return None;
        }
        let figures = self.figures();
        let counted: Vec<&Figures> = figures.iter().filter(|window| window.counts).collect();
        // Each percentile has a middle window of its own.
        let at = |of: fn(&Figures) -> [u64; 3], share: f64| {
            std::array::from_fn(|index| {
                let mut all: Vec<u64> = counted.iter().map(|one| of(one)[index]).collect();
                all.sort_unstable();
                let last = all.len().saturating_sub(1);
                all.get((last as f64 * share).round() as usize)
                    .copied()
                    .unwrap_or(0)
            })
        };
        Some(Summary {
            of: figures.len(),
            counted: counted.len(),
            middle_ns: at(|one| one.latency_ns, 0.5),
            slow_ns: at(|one| one.latency_ns, 0.9),
            lateness_ns: at(|one| one.lateness_ns, 0.5),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH_NS: u64 = 100_000_000;

    fn near(found_ns: u64, expected_ns: u64) -> bool {
        found_ns.abs_diff(expected_ns) * 100 <= expected_ns
    }

    /// Ten windows of a thousand requests, each of `latency_ns` and sent at once.
    fn even(latency_ns: u64) -> Windows {
        let mut windows = Windows::new(TENTH_NS, 10 * TENTH_NS);
        for at in 0..10_000 {
            windows.record(at * 100_000, latency_ns, 1);
            windows.record_lateness(at * 100_000, 0);
        }
        windows
    }

    #[test]
    fn a_gap_in_one_window_leaves_the_others_as_they_are() {
        let mut windows = even(200_000);
        // Two in a hundred of the fourth.
        for _ in 0..20 {
            windows.record(3 * TENTH_NS + 5, 9_000_000, 1);
        }
        let figures = windows.figures();
        for (index, window) in figures.iter().enumerate() {
            let expected = if index == 3 { 9_000_000 } else { 200_000 };
            assert!(near(window.latency_ns[2], expected), "{index}: {window:?}");
        }
        let summary = windows.summary().expect("windows");
        assert_eq!((summary.counted, summary.of), (10, 10));
        assert!(near(summary.middle_ns[2], 200_000), "{summary:?}");
    }

    #[test]
    fn what_strikes_two_windows_of_ten_shows_in_the_slowest_tenth_and_what_strikes_six_in_the_middle()
     {
        let mut windows = even(200_000);
        for (struck, middle_ns, slow_ns) in [(2, 200_000, 9_000_000), (6, 9_000_000, 9_000_000)] {
            for window in 0..struck {
                windows.record(window * TENTH_NS, 9_000_000, 20);
            }
            let summary = windows.summary().expect("windows");
            assert!(near(summary.middle_ns[2], middle_ns), "{summary:?}");
            assert!(near(summary.slow_ns[2], slow_ns), "{summary:?}");
        }
    }

    #[test]
    fn a_window_in_which_the_generator_was_late_does_not_count() {
        let mut windows = even(200_000);
        for _ in 0..20 {
            windows.record_lateness(7 * TENTH_NS, LATENESS_MAX_NS * 11 / 10);
            windows.record_lateness(8 * TENTH_NS, LATENESS_MAX_NS * 9 / 10);
        }
        let counted: Vec<bool> = windows.figures().iter().map(|one| one.counts).collect();
        let mut expected = [true; 10];
        expected[7] = false;
        assert_eq!(counted, expected);
        assert_eq!(windows.summary().expect("windows").counted, 9);
    }

    #[test]
    fn an_empty_window_does_not_count_and_what_is_behind_the_last_is_in_none() {
        let mut windows = Windows::new(TENTH_NS, 3 * TENTH_NS - 1);
        windows.record(0, 1000, 1);
        windows.record(2 * TENTH_NS, 1000, 1);
        let counts: Vec<u64> = windows.figures().iter().map(|one| one.count).collect();
        assert_eq!(counts, [1, 0]);
        assert_eq!(windows.summary().expect("windows").counted, 1);
        assert_eq!(Windows::default().summary(), None);
    }

    #[test]
    fn threads_are_merged_window_by_window() {
        let mut windows = Windows::default();
        windows.merge(even(1000));
        windows.merge(even(1000));
        assert!(windows.figures().iter().all(|window| window.count == 2000));
    }
}
