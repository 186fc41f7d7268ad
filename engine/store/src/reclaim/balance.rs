//! How much of memory the small queue has, found by what comes back.
//!
//! An item that comes back soon after it was dropped would have been a hit, had its queue been a little longer. So the
//! hits on young ghosts of a queue, to the bytes it dropped meanwhile, tell what a byte more is worth there, and memory
//! goes to the queue where it is worth more: the idea of ARC (FAST '03) and of the S3-FIFO paper's adaptive variant, with
//! misses saved to the byte in the place of hits. Where popularity stands still the small queue ends near its least
//! share; where it moves, or where ttls end most lives in the main queue, much of main is no longer asked for, and the
//! small queue grows until main is swept often enough to find that out.
//!
//! A queue that drops nothing has nothing to lose: while only the other one has ghosts that come back, it shrinks.
//!
//! Always true: the share stays between its bounds, and changes by a twenty-fifth of itself at most in the time that a
//! sixteenth of the items are dropped in.

use crate::segment::arena::Queue;

/// Shares are in parts of this.
const WHOLE: u64 = 1 << 16;
/// The small queue's share at the start: the paper's tenth.
const SHARE_FIRST: u64 = WHOLE / 10;
/// And at least: a twentieth.
const SHARE_MIN: u64 = WHOLE / 20;
/// And at most: nine tenths.
const SHARE_MAX: u64 = WHOLE / 10 * 9;
/// A ghost is young while no more items were dropped after it than one in so many that there are; as many make a step.
const STEP_ONE_IN: u64 = 16;
/// A step changes the share by one part in so many at most.
const CHANGE_ONE_IN: i64 = 25;
/// At each step one part in so many of what was seen is forgotten.
const FORGET_ONE_IN: u64 = 16;
/// So many hits make a step half as large as it might be, so that a few by chance change little.
const DOUBT_HITS: u64 = 16;
/// One dropped item in so many seems to come back although another key has come: ghosts do not know whole keys.
const CHANCE_ONE_IN: u64 = 512;
/// A queue counts as if it had dropped at least one byte for so many of the other's.
const DROPPED_LEAST_ONE_IN: u64 = 64;
/// Hits are counted in units of one in so many, so that forgetting a part of a few leaves a part.
const HIT: u64 = 1 << 10;
/// Denominator of fractions within a step.
const FINE: u64 = 1 << 8;

/// What a queue has dropped lately and what came back of it.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// In units of 1 / [`HIT`].
    hits: u64,
    items: u64,
    bytes: u64,
}

impl Seen {
    /// Hits beyond those by chance.
    fn worth(self) -> u64 {
        self.hits.saturating_sub(self.items * HIT / CHANCE_ONE_IN)
    }

    fn forget(&mut self) {
        for count in [&mut self.hits, &mut self.items, &mut self.bytes] {
            *count -= *count / FORGET_ONE_IN;
        }
    }
}

/// The share and the evidence for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balance {
    share: u64,
    small: Seen,
    main: Seen,
    /// Items dropped since the last step.
    since_step: u64,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            share: SHARE_FIRST,
            small: Seen::default(),
            main: Seen::default(),
            since_step: 0,
        }
    }
}

impl Balance {
    /// Whether so many of all pages are more than the small queue's share.
    pub fn is_over(&self, small_pages: usize, pages: usize) -> bool {
        small_pages as u64 * WHOLE > pages as u64 * self.share
    }

    fn seen(&mut self, queue: Queue) -> &mut Seen {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    /// A key has come back whose item was dropped from `queue`, `age` items ago of `items` that there are.
    pub fn came_back(&mut self, queue: Queue, age: u64, items: u64) {
        if age * STEP_ONE_IN < items {
            self.seen(queue).hits += HIT;
        }
    }

    /// An item is dropped from `queue`; `items` are left.
    pub fn drop_from(&mut self, queue: Queue, bytes: usize, items: u64) {
        let seen = self.seen(queue);
        seen.items += 1;
        seen.bytes += bytes as u64;
        self.since_step += 1;
        if self.since_step * STEP_ONE_IN >= items {
            self.since_step = 0;
            self.step();
        }
    }

    fn step(&mut self) {
        let (small, main) = (self.small, self.main);
        let bytes = |one: Seen, other: Seen| one.bytes + other.bytes / DROPPED_LEAST_ONE_IN + 1;
        // Hits to the byte of each, over a common denominator.
        let of_small = u128::from(small.worth()) * u128::from(bytes(main, small));
        let of_main = u128::from(main.worth()) * u128::from(bytes(small, main));
        let sum = of_small + of_main;
        if sum > 0 {
            let lead = |one: u128| (one * u128::from(FINE) / sum) as i64;
            let hits = small.worth() + main.worth();
            let trust = (hits * FINE / (hits + DOUBT_HITS * HIT)) as i64;
            let most = (self.share as i64) / CHANGE_ONE_IN;
            let change = most * (lead(of_small) - lead(of_main)) * trust / (FINE * FINE) as i64;
            self.share = self
                .share
                .saturating_add_signed(change)
                .clamp(SHARE_MIN, SHARE_MAX);
        }
        self.small.forget();
        self.main.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEMS: u64 = 10_000;

    /// The share in percent after `rounds` rounds in which each queue drops so many items of 100 bytes, of which so many
    /// come back.
    fn share_after(rounds: usize, small: (usize, usize), main: (usize, usize)) -> u64 {
        let mut balance = Balance::default();
        for _ in 0..rounds {
            for (queue, (dropped, back)) in [(Queue::Small, small), (Queue::Main, main)] {
                (0..dropped).for_each(|_| balance.drop_from(queue, 100, ITEMS));
                (0..back).for_each(|_| balance.came_back(queue, 5, ITEMS));
            }
        }
        balance.share * 100 / WHOLE
    }

    #[test]
    fn memory_goes_where_a_byte_more_saves_more_misses() {
        assert_eq!(share_after(400, (1000, 100), (1000, 20)), 89);
        assert_eq!(share_after(400, (1000, 20), (1000, 100)), 4);
        // As many hits, and those of main to a tenth of the bytes.
        assert_eq!(share_after(400, (1000, 50), (100, 50)), 4);
    }

    #[test]
    fn a_queue_that_drops_nothing_gives_way() {
        assert_eq!(share_after(400, (1000, 50), (0, 0)), 89);
    }

    #[test]
    fn what_comes_back_by_chance_changes_nothing() {
        assert_eq!(share_after(400, (1000, 1), (0, 0)), 9);
    }

    #[test]
    fn old_ghosts_tell_nothing() {
        let mut balance = Balance::default();
        for _ in 0..100_000 {
            balance.drop_from(Queue::Small, 100, ITEMS);
            balance.came_back(Queue::Small, ITEMS / STEP_ONE_IN, ITEMS);
        }
        assert_eq!(balance.share, SHARE_FIRST);
    }

    #[test]
    fn the_share_moves_slowly() {
        // A whole memory's worth of items is dropped and half of them come back: not twice the share yet.
        assert!(share_after(10, (1000, 500), (0, 0)) < 20);
    }
}
