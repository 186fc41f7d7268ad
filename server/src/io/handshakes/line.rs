//! Connections that wait, in the order they came: for a step of their handshake, or for the end of its time.
//!
//! Always true: whoever no longer waits is passed over, although its entry is still there; and there are no
//! more entries than [`LINE_SLACK`] times the connections there have been at once, however many come and go.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::ConnIndex;

/// Entries a connection, of which one at most is of somebody who waits: so the others are taken out so seldom
/// that it costs each a constant time.
const LINE_SLACK: usize = 2;

/// One that waits, or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub conn: ConnIndex,
    /// No other entry has it, because an index is used again and one connection may wait again.
    pub number: u64,
    pub since: Instant,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Line(VecDeque<Entry>);

impl Line {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts one at the end. `conns` have been there at once; `waits` says who still does.
    pub fn push(&mut self, entry: Entry, conns: usize, waits: impl Fn(&Entry) -> bool) {
        if self.0.len() >= LINE_SLACK * conns {
            self.0.retain(waits);
        }
        self.0.push_back(entry);
    }

    /// Takes out the first that `waits`.
    pub fn next(&mut self, waits: impl Fn(&Entry) -> bool) -> Option<Entry> {
        std::iter::from_fn(|| self.0.pop_front()).find(waits)
    }

    /// Takes out the first that `waits`, if it has done so for as long as `most`.
    pub fn next_late(
        &mut self,
        now: Instant,
        most: Duration,
        waits: impl Fn(&Entry) -> bool,
    ) -> Option<Entry> {
        let first = loop {
            let first = self.0.front()?;
            if waits(first) {
                break first;
            }
            self.0.pop_front();
        };
        match now.duration_since(first.since) < most {
            true => None,
            false => self.0.pop_front(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64, since: Instant) -> Entry {
        Entry {
            conn: number as ConnIndex % 3,
            number,
            since,
        }
    }

    #[test]
    fn the_first_that_still_waits_is_next() {
        let mut line = Line::default();
        for number in 0..6 {
            line.push(entry(number, Instant::now()), 10, |_| true);
        }
        let waits = |entry: &Entry| entry.number % 2 == 1;
        let mut next = || line.next(waits).map(|entry| entry.number);
        assert_eq!(
            [next(), next(), next(), next()],
            [Some(1), Some(3), Some(5), None]
        );
        assert!(line.is_empty());
    }

    #[test]
    fn who_waits_too_long_is_taken_out_and_not_sooner() {
        let (mut line, began) = (Line::default(), Instant::now());
        let most = Duration::from_secs(10);
        for number in 0..4 {
            line.push(
                entry(number, began + Duration::from_secs(number)),
                10,
                |_| true,
            );
        }
        // The one in front waits no more, and holds nobody back.
        let mut late = |after_ms| {
            let now = began + Duration::from_millis(after_ms);
            let late = line.next_late(now, most, |entry| entry.number > 0);
            late.map(|entry| entry.number)
        };
        assert_eq!(late(10_999), None);
        assert_eq!(late(11_000), Some(1));
        assert_eq!(late(11_000), None);
        assert_eq!(
            [late(14_000), late(14_000), late(14_000)],
            [Some(2), Some(3), None]
        );
    }

    #[test]
    fn however_many_come_and_go_the_line_is_bounded_and_nobody_loses_a_place() {
        let mut line = Line::default();
        // Of three connections the first waits all the time, and the others leave and come again.
        for number in 0..10_000 {
            let waits = |entry: &Entry| entry.number == 0 || entry.number + 2 > number;
            line.push(entry(number, Instant::now()), 3, waits);
            assert!(line.len() <= LINE_SLACK * 3, "{} entries", line.len());
        }
        let waits = |entry: &Entry| [0, 9_998, 9_999].contains(&entry.number);
        let next: Vec<u64> = std::iter::from_fn(|| line.next(waits))
            .map(|entry| entry.number)
            .collect();
        assert_eq!(next, [0, 9_998, 9_999]);
    }
}
