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
//!        dropped, leaves a ghost                         dropped, leaves a ghost
//! ```
//!
//! What differs from the paper: how large the small queue is follows from what comes back of either (`balance`); a fetch
//! pays for an average item's worth of bytes, so that an item of twice the average needs two to stay and one of less than
//! a third is given a chance in the main queue unfetched; and one fetch is enough in the small queue, where segments wait
//! longer than single items would. What each brought is in perf/notes/eviction-policies.md.
//!
//! Both queues are ordered by the age of their segments over all TTL buckets. What moves goes to the segment of its TTL
//! bucket that also takes new items of the main queue.
//!
//! Always true: an item changes from the small to the main queue and not back, unless the room that a touch made for it in
//! the small queue moved it to main meanwhile; and it is evicted or moved at each look.
//! When pages run short, each sweep gains at least a quarter of a page although everything was fetched.

use super::PACE_ITEMS;
use super::policy::Keep;
use crate::item::{self, Header};
use crate::key::Key;
use crate::segment::arena::{Kind, Memory, NO_PAGE, Queue};
use crate::segment::chains::{Chain, Chains};
use crate::shard::{Eviction, Shard};
use crate::table::Pair;

/// Fetches beyond this many do not help an item in the main queue, and no item needs more to stay.
const FREQUENCY_CAP: u8 = 3;
/// An item in the small queue whose size is less than one part in so many of the average moves on unfetched: it costs so
/// little there that the chance is worth it. All such items together are less than that part of the bytes.
const CHANCE_ONE_IN: usize = 3;
/// When pages run short, a swept segment keeps no more than so many quarters of a page. A store pays with
/// `PACE_ITEMS` times its bytes, so that a quarter a sweep is more than it takes, although everything was fetched.
const SHORT_KEEPS_QUARTERS: usize = 3;

const _: () = assert!(PACE_ITEMS * (4 - SHORT_KEEPS_QUARTERS) > 4);

/// Fetches an item of so many bytes needs to stay.
#[inline]
pub(super) fn price(bytes: usize, average_bytes: usize) -> u8 {
    (1..FREQUENCY_CAP)
        .find(|&price| bytes < (usize::from(price) + 1) * average_bytes)
        .unwrap_or(FREQUENCY_CAP)
}

/// Whether an item of `queue` moves on although it was not fetched.
#[inline]
pub(super) fn is_given_a_chance(queue: Queue, bytes: usize, average_bytes: usize) -> bool {
    queue == Queue::Small && bytes < average_bytes / CHANCE_ONE_IN
}

/// The frequency of an item from `queue` that stays, for which it has paid its price.
#[inline]
pub(super) fn frequency_after(queue: Queue, frequency: u8, price: u8) -> u8 {
    match queue {
        Queue::Small => 0,
        Queue::Main => frequency.min(FREQUENCY_CAP) - price,
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
        let tag = key.hash.tag();
        let ghost = self.table.take_ghost(self.arena.bytes_mut(), places, tag);
        let Some((queue, age)) = ghost else {
            return Queue::Small;
        };
        self.reclaim
            .balance
            .came_back(queue, age, self.counters.items);
        self.counters.ghost_hits += 1;
        Queue::Main
    }

    /// The segment to sweep next and what to keep of it.
    pub(super) fn choose_of_queues(&self, force: bool) -> Option<(u32, Keep)> {
        let pages = self
            .arena
            .page_count()
            .saturating_sub(self.table.chunk_count());
        let small_pages = self.chains.small_pages;
        let order = if self.reclaim.balance.is_over(small_pages, pages) {
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
        let average_bytes = (self.counters.bytes / self.counters.items.max(1)).max(1) as usize;
        let most_bytes = if self.arena.free_count() < self.reclaim.short_below {
            self.arena.page_bytes() / 4 * SHORT_KEEPS_QUARTERS
        } else {
            usize::MAX
        };
        let keep = Keep::Fetched {
            average_bytes,
            most_bytes,
        };
        Some((page, keep))
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
        let Chain { open, remnant, .. } =
            self.chains.chains[Chains::index(Queue::Main, ttl_bucket)];
        let found = [open, remnant]
            .into_iter()
            .find(|&page| page != NO_PAGE && self.fits(page, size, deadline));
        if found.is_some() {
            return found;
        }
        if open != NO_PAGE {
            self.retire(open, deadline, now);
        }
        self.open_segment(Kind::Open, Queue::Main, ttl_bucket, deadline, now)
    }

    /// Bytes of the item at `location` with its extension pages.
    #[inline]
    pub(super) fn whole_bytes(&self, location: usize, header: Header) -> usize {
        header.size() + self.extensions_of(location, header) * self.arena.page_bytes()
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
