//! The memory limit: how much of its memory a shard uses at present.
//!
//! ```text
//! grow     set_memory_limit -> admit_page ...            each page is prepared by the caller, then free
//! shrink   set_memory_limit -> upkeep, stores ...        evict as ever, and free pages leave
//!                           -> discard_page ...          each page that left is given up by the caller
//! ```
//!
//! Always true: the bytes beyond the limit are not touched; nothing is refused because the limit is on its way; however
//! far it is off, no call does more for it than it does for eviction.

use std::ops::{Range, RangeInclusive};

use super::{MEMORY_BYTES_MIN, Shard};
use crate::segment::arena::Memory;

/// Pages a shard needs besides the smallest table: what a merge keeps free, and some to choose among.
const PAGES_MIN: usize = 32;

/// A shard cannot have this memory limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitOutOfRange {
    /// Bytes asked for.
    pub asked_bytes: usize,
    /// Bytes that can be had.
    pub range: RangeInclusive<usize>,
}

impl std::fmt::Display for LimitOutOfRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a memory limit of {} bytes is not between {} and {}",
            self.asked_bytes,
            self.range.start(),
            self.range.end()
        )
    }
}

impl std::error::Error for LimitOutOfRange {}

impl<M: Memory> Shard<M> {
    /// The memory limits this shard can have, in bytes. The least is 1 MiB, twice the largest item, or 32 pages and the
    /// smallest table, whichever is most, but no more than the limit it began with; the most is all its memory.
    #[must_use]
    pub fn memory_limits(&self) -> RangeInclusive<usize> {
        let page_bytes = self.arena.page_bytes();
        let pages = PAGES_MIN + self.table.column_pages();
        let needed = MEMORY_BYTES_MIN
            .max(2 * self.item_max_bytes)
            .max(pages * page_bytes);
        needed.min(self.first_limit_bytes)..=self.arena.memory().as_ref().len()
    }

    /// Bytes of one page: memory comes into use and leaves it by so many.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        self.arena.page_bytes()
    }

    /// All the memory, in use or not.
    #[must_use]
    pub fn memory(&self) -> &M {
        self.arena.memory()
    }

    /// The memory limit in whole pages. While the shard grows or shrinks it has less or more; see [`Shard::usage`].
    #[must_use]
    pub fn memory_limit(&self) -> usize {
        self.arena.limit() * self.arena.page_bytes()
    }

    /// Sets how much of its memory the shard may use, in bytes; what is no whole page is left out.
    ///
    /// A higher limit takes effect with each call of [`Shard::admit_page`]. A lower one takes effect by and by: each
    /// [`Shard::upkeep`] and each store does its usual share of work to get within it, evicting what eviction would take
    /// next, and the pages that leave are to be had from [`Shard::discard_page`]. Where nothing may be evicted it is
    /// reached as far as the free and the dead bytes allow.
    ///
    /// # Errors
    /// When the limit is not one of [`Shard::memory_limits`]; then it stays what it was.
    pub fn set_memory_limit(&mut self, bytes: usize) -> Result<(), LimitOutOfRange> {
        let range = self.memory_limits();
        if !range.contains(&bytes) {
            return Err(LimitOutOfRange {
                asked_bytes: bytes,
                range,
            });
        }
        let pages = (bytes / self.arena.page_bytes()).min(self.arena.most());
        self.arena.set_limit(pages);
        self.follow_limit();
        Ok(())
    }

    /// Takes one page more into use, if the memory limit allows it; `false` when it does not. `prepare` is called with
    /// the bytes beforehand, so that whoever owns the memory can have it backed, unless the page has left only just now
    /// and its bytes were not given up.
    pub fn admit_page(&mut self, prepare: impl FnOnce(&mut M, Range<usize>)) -> bool {
        let admitted = self.arena.admit(prepare);
        if admitted {
            self.follow_limit();
        }
        admitted
    }

    /// Hands the bytes of one page that has left use to `give_up`, which may let go of them: what they hold does not
    /// matter any more. Each page is handed out once until it comes into use again. `false` when there is none.
    pub fn discard_page(&mut self, give_up: impl FnOnce(&mut M, Range<usize>)) -> bool {
        self.arena.discard(give_up)
    }
}
