//! S3-FIFO on segments: new items wait in a small queue; those fetched there move on to the main queue, the others
//! leave a ghost (SOSP '23, "FIFO queues are all you need for cache eviction").
//!
//! ```text
//!              new key                                    key whose ghost is found
//!                 |                                                 |
//!                 v            fetched                              v             fetched again
//!        | small segments | ------------> | main segments of the same TTL bucket | ----+
//!                 |                                                 |       ^          |
//!                 v                                                 v       +----------+
//!        dropped, leaves a ghost                                 dropped
//! ```
//!
//! Both queues are ordered by the age of their segments over all TTL buckets. What moves goes to the segment of its TTL
//! bucket that also takes new items of the main queue.
//!
//! Always true: an item changes from the small to the main queue and never back, and is evicted or moved at each look.
//! When pages run short, each sweep gains at least a quarter of a page although everything was fetched.

use super::PACE_ITEMS;
use super::policy::Keep;
use crate::item::{self, Header};
use crate::key::Key;
use crate::segment::arena::{Kind, Memory, NO_PAGE, Queue};
use crate::segment::chains::Chains;
use crate::shard::{Eviction, Shard};
use crate::table::Pair;

/// The small queue is swept while it has more than one page in so many.
const SMALL_ONE_IN: usize = 10;
/// Fetches in the small queue that lead to the main queue.
const PROMOTE_AT: u8 = 1;
/// Fetches that keep an item in the main queue.
const REINSERT_AT: u8 = 1;
/// Fetches beyond this many do not help an item in the main queue.
const FREQUENCY_CAP: u8 = 3;
/// When pages run short, a swept segment keeps no more than so many quarters of a page. A store pays with
/// `PACE_ITEMS` times its bytes, so that a quarter a sweep is more than it takes, although everything was fetched.
const SHORT_KEEPS_QUARTERS: usize = 3;

const _: () = assert!(PACE_ITEMS * (4 - SHORT_KEEPS_QUARTERS) > 4);

/// The frequency of an item from `queue` that was fetched enough to stay.
pub(super) fn frequency_after(queue: Queue, frequency: u8) -> u8 {
    match queue {
        Queue::Small => 0,
        Queue::Main => frequency.min(FREQUENCY_CAP) - 1,
    }
}

impl<M: Memory> Shard<M> {
    /// The queue a value for `key` is stored in: that of the value it replaces, if any; main if the key has left a
    /// ghost, which goes; small otherwise.
    #[inline]
    pub(crate) fn queue_for(&mut self, key: Key<'_>, pair: Pair) -> Queue {
        if self.eviction != Eviction::S3Fifo {
            Queue::Main
        } else if !self.reclaim.has_judged {
            // The buckets need not have arrived yet to know this.
            Queue::Small
        } else {
            self.queue_of_two(key, pair)
        }
    }

    // Apart, so that stores under the other policies keep nothing in registers for it.
    #[inline(never)]
    fn queue_of_two(&mut self, key: Key<'_>, pair: Pair) -> Queue {
        let places = self.table.candidates_of(self.arena.bytes(), pair, key.hash);
        if let Some(entry) = self.table.find_among(self.arena.bytes(), places, key.bytes) {
            return self.queue_of(entry.location);
        }
        // As long as it would have been remembered by a queue of ghosts as long as the main queue.
        let age_max = self.counters.items;
        if self
            .table
            .take_ghost(self.arena.bytes_mut(), places, key.hash.tag(), age_max)
        {
            self.counters.ghost_hits += 1;
            Queue::Main
        } else {
            Queue::Small
        }
    }

    /// The segment to sweep next and what to keep of it.
    pub(super) fn choose_of_queues(&self, force: bool) -> Option<(u32, Keep)> {
        let pages = self
            .arena
            .page_count()
            .saturating_sub(self.table.chunk_count());
        let order = if self.chains.small_pages * SMALL_ONE_IN > pages {
            [Queue::Small, Queue::Main]
        } else {
            [Queue::Main, Queue::Small]
        };
        let sealed = order
            .into_iter()
            .find_map(|queue| self.oldest_of(queue, false));
        let page = sealed.or_else(|| {
            order
                .into_iter()
                .find_map(|queue| self.oldest_of(queue, force))
        })?;
        let least = match self.arena.page(page).queue {
            Queue::Small => PROMOTE_AT,
            Queue::Main => REINSERT_AT,
        };
        let most_bytes = if self.arena.free_count() < self.reclaim.short_below {
            self.arena.page_bytes() / 4 * SHORT_KEEPS_QUARTERS
        } else {
            usize::MAX
        };
        Some((page, Keep::Fetched { least, most_bytes }))
    }

    /// The main segment for an item from `source` that stays, opened if need be.
    pub(super) fn main_segment_for(
        &mut self,
        source: u32,
        size: usize,
        deadline: u32,
        now: u32,
    ) -> Option<u32> {
        let ttl_bucket = usize::from(self.arena.page(source).ttl_bucket);
        let open = self.chains.chains[Chains::index(Queue::Main, ttl_bucket)].open;
        if open != NO_PAGE {
            if self.fits(open, size, deadline) {
                return Some(open);
            }
            self.chains.seal(&mut self.arena, open);
            self.free_if_empty(open);
        }
        self.open_segment(Kind::Open, Queue::Main, ttl_bucket, deadline, now)
    }

    /// Extension pages of the item at `location`.
    pub(crate) fn extensions_of(&self, location: usize, header: Header) -> usize {
        if !header.has(item::LARGE) {
            return 0;
        }
        let large = header.large(self.arena.bytes(), location);
        ((large.value_len - large.head_len) as usize).div_ceil(self.arena.page_bytes())
    }
}
