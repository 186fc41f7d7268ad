//! Where a new item goes: the open segment of its TTL bucket, the remnant of one, or a page won for it.

use super::deadline::{base_for, far_bytes};
use super::{NoMemory, Shard};
use crate::segment::arena::{Kind, Memory, NO_PAGE, Queue};
use crate::segment::chains::{Chain, Chains};
use crate::table::LINE_BYTES;
use crate::ttl::NEVER;

/// Bytes of an item a prefetch asks for at most; the processor itself follows a longer run.
const PREFETCH_BYTES_MAX: usize = 4 * LINE_BYTES;

impl<M: Memory> Shard<M> {
    /// Whether a segment takes an item of `size` bytes with this deadline.
    #[inline]
    fn accepts(&self, page: u32, size: usize, deadline: u32, now: u32) -> bool {
        self.fits(page, size, deadline) && self.is_young(page, deadline, now)
    }

    /// Whether a segment has room for an item, for its deadline where that has to be written out, and for a mark where it is
    /// older than a flush of a prefix.
    #[inline]
    pub(crate) fn fits(&self, page: u32, size: usize, deadline: u32) -> bool {
        let notes = self.arena.page(page);
        notes.used as usize + size + far_bytes(notes.base, deadline) <= self.arena.page_bytes()
            && (notes.epoch >= self.suspect_epoch || self.can_mark(page))
    }

    /// Whether a segment was opened so recently that its items will expire soon after each other.
    #[inline]
    fn is_young(&self, page: u32, deadline: u32, now: u32) -> bool {
        deadline == NEVER
            || now.saturating_sub(self.arena.page(page).opened_at)
                <= self.ttl.seal_age(deadline - now)
    }

    /// Seals an open segment that an item with this deadline does not go to. It becomes the remnant of its chain if it has
    /// more room left than the one there is.
    pub(crate) fn retire(&mut self, open: u32, deadline: u32, now: u32) {
        let index = Chains::index_of(self.arena.page(open));
        self.chains.seal(&mut self.arena, open);
        let remnant = self.chains.chains[index].remnant;
        if remnant == NO_PAGE
            || self.arena.page(open).used < self.arena.page(remnant).used
            || !self.is_young(remnant, deadline, now)
        {
            self.chains.chains[index].remnant = open;
        }
        self.free_if_empty(open);
    }

    /// Finds or opens a segment of a queue with room for an item of `size` bytes, and for its deadline where that has
    /// to be written out, and sees to it that `extensions` pages are free.
    #[inline(always)]
    pub(super) fn make_room(
        &mut self,
        queue: Queue,
        size: usize,
        extensions: usize,
        deadline: u32,
        now: u32,
    ) -> Result<u32, NoMemory> {
        self.keep_pace(size + extensions * self.arena.page_bytes(), now);
        let chain = Chains::index(queue, self.ttl.index(deadline, now));
        let open = self.chains.chains[chain].open;
        if extensions == 0 && open != NO_PAGE && self.accepts(open, size, deadline, now) {
            return Ok(open);
        }
        self.make_room_slowly(queue, size, extensions, deadline, now)
    }

    #[cold]
    fn make_room_slowly(
        &mut self,
        queue: Queue,
        size: usize,
        extensions: usize,
        deadline: u32,
        now: u32,
    ) -> Result<u32, NoMemory> {
        debug_assert!(size <= self.arena.page_bytes());
        let ttl_bucket = self.ttl.index(deadline, now);
        let chain = Chains::index(queue, ttl_bucket);
        loop {
            let Chain { open, remnant, .. } = self.chains.chains[chain];
            let found = [open, remnant]
                .into_iter()
                .find(|&page| page != NO_PAGE && self.accepts(page, size, deadline, now));
            if found.is_none() && open != NO_PAGE {
                self.retire(open, deadline, now);
            }
            let need = extensions + usize::from(found.is_none());
            if self.may_take(need) {
                if let Some(page) = found {
                    return Ok(page);
                }
                let page = self
                    .open_segment(Kind::Open, queue, ttl_bucket, deadline, now)
                    .expect("a page was free");
                return Ok(page);
            }
            self.reclaim_by_force(need, now)?;
        }
    }

    /// Opens a segment at the young end of its chain. `deadline` is that of its first item.
    pub(crate) fn open_segment(
        &mut self,
        kind: Kind,
        queue: Queue,
        ttl_bucket: usize,
        deadline: u32,
        now: u32,
    ) -> Option<u32> {
        let page = self.arena.take(kind)?;
        let notes = self.arena.page_mut(page);
        notes.epoch = self.next_epoch;
        notes.base = base_for(deadline, now);
        notes.opened_at = now;
        notes.written_at = now;
        notes.written_from = 0;
        notes.ttl_bucket = ttl_bucket as u16;
        notes.queue = queue;
        self.next_epoch += 1;
        // Sizes change slowly, so a look at each new segment is enough.
        let average = (self.counters.bytes / self.counters.items.max(1)) as usize;
        self.prefetch_bytes = average.clamp(1, PREFETCH_BYTES_MAX);
        self.chains.push(&mut self.arena, page);
        self.follow_need();
        Some(page)
    }

    /// Takes `size` bytes at the end of a segment for an item that is live from now on, and notes the second if it is
    /// written anew.
    #[inline(always)]
    pub(crate) fn reserve(
        &mut self,
        page: u32,
        size: usize,
        deadline: u32,
        written_at: Option<u32>,
    ) -> usize {
        if self.arena.page(page).epoch < self.suspect_epoch {
            self.mark_segment(page);
        }
        let start = self.arena.start_of(page);
        let page_bytes = self.arena.page_bytes();
        let padded = self.arena.pages.padded(size);
        let notes = self.arena.page_mut(page);
        let at = start + notes.used as usize;
        if let Some(now) = written_at
            && notes.written_at != now
        {
            notes.written_at = now;
            notes.written_from = notes.used;
        }
        notes.used += padded as u32;
        assert!(
            notes.used as usize <= page_bytes,
            "segment {page} would hold {} of {page_bytes} bytes",
            notes.used
        );
        notes.live_bytes += padded as u32;
        notes.live_items += 1;
        notes.max_deadline = notes.max_deadline.max(deadline);
        at
    }
}
