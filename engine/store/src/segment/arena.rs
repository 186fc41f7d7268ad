//! The arena: the caller's memory cut into equal pages, with 64 bytes of notes for each.
//!
//! ```text
//! memory   | page 0 | page 1 | page 2 | page 3 | page 4 | page 5 ...
//! each is    table    open     extension free     absent   not noted yet
//!            a chunk of the table, a segment, part of a large value, free, or beyond the memory limit
//! ```
//!
//! A location is the offset of a byte in the whole arena; its page is the location shifted.
//!
//! The *limit* is how many pages may be in use. Those there are, used or free, are *present*; the others are *absent*.
//! Any page may be absent, whichever became free first while there were too many, so that no item has to move only
//! because of where it lies. A page that has left keeps its bytes until `discard` hands it to the caller, and one that
//! is admitted again meanwhile still has them. Pages that have never been present have no notes yet, so neither their
//! bytes nor their notes have ever been touched.
//!
//! Always true: every page is in exactly one state; free pages and only those are on the free list, absent ones on the
//! list of those that left or of those that are gone; nobody reads or writes an absent page; pages are admitted only
//! below the limit and leave only above it; a page that is lent keeps its bytes and leaves its state only for `Zombie`,
//! from which the last loan frees it.

use crate::table::bucket;
use std::ops::Range;

/// Memory a shard works in: anything that is a slice of bytes, and stays the same slice.
///
/// `as_ref` and `as_mut` must give the same bytes at each call, as a `Vec<u8>`, a box or a mapping does. Only those of a
/// page that has left use may change otherwise.
pub trait Memory: AsRef<[u8]> + AsMut<[u8]> {}
impl<M: AsRef<[u8]> + AsMut<[u8]>> Memory for M {}

/// "No page", where a page number may be missing.
pub(crate) const NO_PAGE: u32 = u32::MAX;

/// Smallest page.
pub(crate) const PAGE_BYTES_MIN: usize = 16 << 10;
/// Largest page. What is kept in reserve is counted in pages, and a store that is out of them sweeps one before it ends: both
/// are for small pages. Against them stands what is lost at the ends of segments (perf/notes/store-sets.md).
pub(crate) const PAGE_BYTES_MAX: usize = 256 << 10;
/// A shard has at least this many pages, unless they would be smaller than [`PAGE_BYTES_MIN`].
const PAGE_COUNT_GOAL: usize = 512;
/// Bytes of the largest shard: 1 TiB.
const SHARD_BYTES_MAX: usize = 1 << 40;
/// Up to so many bytes a location in the table has bits for each byte. Larger memory is told in coarser granules, at whose
/// multiples items begin.
const FINE_BYTES_MAX: usize = 1 << bucket::LOCATION_BITS;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// On the free list.
    Free,
    /// A chunk of the hash table.
    Table,
    /// A segment that takes new items.
    Open,
    /// A segment that takes no more.
    Sealed,
    /// A segment that takes the survivors of others.
    Target,
    /// Part of a large value.
    Extension,
    /// Dead, but somebody still reads it.
    Zombie,
    /// Beyond the memory limit.
    Absent,
}

/// Which queue a segment stands in. Where a policy admits through a small queue, new items wait in `Small` until they
/// are judged; everywhere else all segments are in `Main`. Its number is where its chains begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Queue {
    Main = 0,
    Small = QUEUE_CHAINS as u16,
}

/// Chains of a queue at most: a constant, so that stores need not look up where a queue begins.
pub(crate) const QUEUE_CHAINS: usize = 256;

/// The notes about one page: one cache line, so a lookup pays for one.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(crate) struct Page {
    /// Which opening of a segment this is. Grows with every opening and never repeats.
    pub epoch: u64,
    /// Deadlines of the items here count from this second.
    pub base: u32,
    /// No item here is visible at this second or later.
    pub max_deadline: u32,
    /// Bytes written.
    pub used: u32,
    /// Bytes of items not dead, padded.
    pub live_bytes: u32,
    /// Items not dead.
    pub live_items: u32,
    /// Next page of the chain, of the list of free or absent pages, or of the large value.
    pub next: u32,
    /// Previous segment of the chain.
    pub prev: u32,
    /// When the segment was opened.
    pub opened_at: u32,
    /// The last second in which an item was written here anew, and where the first of that second stands.
    pub written_at: u32,
    pub written_from: u32,
    /// How many loans pin it.
    pub loans: u32,
    /// Whose chain the segment is in.
    pub ttl_bucket: u16,
    /// And in which queue of that TTL bucket.
    pub queue: Queue,
    pub kind: Kind,
}

const _: () = assert!(size_of::<Page>() == 64);

impl Page {
    const FREE: Self = Self {
        epoch: 0,
        base: 0,
        max_deadline: 0,
        used: 0,
        live_bytes: 0,
        live_items: 0,
        next: NO_PAGE,
        prev: NO_PAGE,
        opened_at: 0,
        written_at: 0,
        written_from: 0,
        loans: 0,
        ttl_bucket: 0,
        queue: Queue::Main,
        kind: Kind::Free,
    };

    pub fn is_segment(&self) -> bool {
        matches!(self.kind, Kind::Open | Kind::Sealed | Kind::Target)
    }
}

/// The notes of all pages that have ever been present, and their size.
pub(crate) struct Pages {
    pub list: Vec<Page>,
    pub shift: u32,
    /// `log2` of the bytes at whose multiples items begin.
    pub granule_shift: u32,
}

impl Pages {
    /// The bytes an item of `size` takes until the next one begins.
    #[inline(always)]
    pub fn padded(&self, size: usize) -> usize {
        let below = (1usize << self.granule_shift) - 1;
        (size + below) & !below
    }
}

/// `log2` of the granule for so much memory, in use or not.
pub(crate) fn granule_shift_for(bytes: usize) -> u32 {
    let granules = bytes.min(SHARD_BYTES_MAX).div_ceil(FINE_BYTES_MAX);
    granules.next_power_of_two().trailing_zeros()
}

/// Pages of one kind, threaded through their notes.
#[derive(Clone, Copy, Debug)]
struct PageList {
    head: u32,
    count: usize,
}

impl PageList {
    const EMPTY: Self = Self {
        head: NO_PAGE,
        count: 0,
    };

    fn push(&mut self, pages: &mut Pages, page: u32, kind: Kind) {
        pages.list[page as usize] = Page {
            kind,
            next: self.head,
            ..Page::FREE
        };
        self.head = page;
        self.count += 1;
    }

    #[inline]
    fn pop(&mut self, pages: &Pages) -> Option<u32> {
        let page = self.head;
        if page == NO_PAGE {
            return None;
        }
        self.head = pages.list[page as usize].next;
        self.count -= 1;
        Some(page)
    }

    fn walk(&self, pages: &Pages, kind: Kind) -> Result<usize, String> {
        let mut count = 0;
        let mut page = self.head;
        while page != NO_PAGE {
            let notes = &pages.list[page as usize];
            if notes.kind != kind || notes.loans > 0 {
                return Err(format!(
                    "page {page} is on the list of {kind:?} pages but {notes:?}"
                ));
            }
            count += 1;
            if count > pages.list.len() {
                return Err(format!("the list of {kind:?} pages is a ring"));
            }
            page = notes.next;
        }
        if count != self.count {
            return Err(format!(
                "{count} pages on the list of {kind:?} pages, {} noted",
                self.count
            ));
        }
        Ok(count)
    }
}

/// The memory and its pages.
pub(crate) struct Arena<M> {
    memory: M,
    pub pages: Pages,
    free: PageList,
    /// Absent pages the caller has not been told of.
    left: PageList,
    /// Absent pages the caller has been told of.
    gone: PageList,
    /// Pages that may be present.
    limit: usize,
    /// Pages the memory has room for.
    most: usize,
    lent_count: usize,
}

impl<M: Memory> Arena<M> {
    /// Cuts `memory` into pages, of which the first `limit_bytes` are present. What is left over after the last whole
    /// page is not used. `granule_shift` is that of [`granule_shift_for`] or more.
    pub fn new(memory: M, limit_bytes: usize, granule_shift: u32) -> Self {
        let bytes = memory.as_ref().len().min(SHARD_BYTES_MAX);
        let page_bytes = Self::page_bytes_for(limit_bytes);
        let most = bytes / page_bytes;
        assert!(
            bytes <= FINE_BYTES_MAX << granule_shift && 1 << granule_shift <= PAGE_BYTES_MIN,
            "{bytes} bytes in granules of 2^{granule_shift}"
        );
        let limit = (limit_bytes / page_bytes).min(most);
        assert!(
            most < NO_PAGE as usize,
            "{most} pages need more than 32 bits"
        );
        // Room for the notes of all, so that the list never moves; what is not used of it is not touched either.
        let mut list = Vec::with_capacity(most);
        list.resize(limit, Page::FREE);
        let mut arena = Self {
            memory,
            pages: Pages {
                list,
                shift: page_bytes.trailing_zeros(),
                granule_shift,
            },
            free: PageList::EMPTY,
            left: PageList::EMPTY,
            gone: PageList::EMPTY,
            limit,
            most,
            lent_count: 0,
        };
        for page in (0..limit as u32).rev() {
            arena.put_on_free_list(page);
        }
        arena
    }

    fn page_bytes_for(bytes: usize) -> usize {
        let goal = (bytes / PAGE_COUNT_GOAL).max(1);
        let floor = 1usize << (usize::BITS - 1 - goal.leading_zeros());
        floor.clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX)
    }

    /// The caller's memory.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        self.memory.as_ref()
    }

    #[inline(always)]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut()
    }

    #[inline(always)]
    pub fn page_bytes(&self) -> usize {
        1 << self.pages.shift
    }

    #[inline(always)]
    pub fn page_of(&self, location: usize) -> u32 {
        (location >> self.pages.shift) as u32
    }

    #[inline(always)]
    pub fn start_of(&self, page: u32) -> usize {
        (page as usize) << self.pages.shift
    }

    #[inline(always)]
    pub fn page(&self, page: u32) -> &Page {
        &self.pages.list[page as usize]
    }

    #[inline(always)]
    pub fn page_mut(&mut self, page: u32) -> &mut Page {
        &mut self.pages.list[page as usize]
    }

    /// The pages there are to work with: those present, without those that are only waiting to leave.
    #[inline]
    pub fn page_count(&self) -> usize {
        self.present_count().min(self.limit)
    }

    /// Pages in use or free.
    #[inline]
    pub fn present_count(&self) -> usize {
        self.pages.list.len() - self.left.count - self.gone.count
    }

    /// Pages the memory has room for.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Pages that may be present.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Sets how many pages may be present. Nothing comes or leaves by this alone.
    pub fn set_limit(&mut self, pages: usize) {
        assert!(
            pages <= self.most,
            "a limit of {pages} pages, there is room for {}",
            self.most
        );
        self.limit = pages;
    }

    /// Pages present beyond the limit.
    #[inline]
    pub fn surplus(&self) -> usize {
        self.present_count().saturating_sub(self.limit)
    }

    #[inline(always)]
    pub fn free_count(&self) -> usize {
        self.free.count
    }

    /// Pages pinned by at least one loan.
    pub fn lent_count(&self) -> usize {
        self.lent_count
    }

    /// The bytes of a page.
    fn range_of(&self, page: u32) -> Range<usize> {
        let start = self.start_of(page);
        start..start + self.page_bytes()
    }

    /// Makes a free page absent, if there are too many. `false` when none is free or all may stay.
    pub fn dismiss(&mut self) -> bool {
        if self.surplus() == 0 {
            return false;
        }
        let Some(page) = self.free.pop(&self.pages) else {
            return false;
        };
        self.left.push(&mut self.pages, page, Kind::Absent);
        true
    }

    /// Makes an absent page free, if there may be more. `prepare` gets its bytes unless they have never been given up.
    /// `false` when there are as many as may be.
    pub fn admit(&mut self, prepare: impl FnOnce(&mut M, Range<usize>)) -> bool {
        if self.present_count() >= self.limit {
            return false;
        }
        if let Some(page) = self.left.pop(&self.pages) {
            self.put_on_free_list(page);
            return true;
        }
        let page = self.gone.pop(&self.pages).unwrap_or_else(|| {
            self.pages.list.push(Page::FREE);
            self.pages.list.len() as u32 - 1
        });
        let range = self.range_of(page);
        prepare(&mut self.memory, range);
        self.put_on_free_list(page);
        true
    }

    /// Hands the bytes of one page that has left to `give_up`. `false` when all have been.
    pub fn discard(&mut self, give_up: impl FnOnce(&mut M, Range<usize>)) -> bool {
        let Some(page) = self.left.pop(&self.pages) else {
            return false;
        };
        self.gone.push(&mut self.pages, page, Kind::Absent);
        let range = self.range_of(page);
        give_up(&mut self.memory, range);
        true
    }

    fn put_on_free_list(&mut self, page: u32) {
        self.free.push(&mut self.pages, page, Kind::Free);
    }

    /// Takes a free page and makes it `kind`.
    pub fn take(&mut self, kind: Kind) -> Option<u32> {
        let page = self.free.pop(&self.pages)?;
        let notes = &mut self.pages.list[page as usize];
        debug_assert_eq!(notes.kind, Kind::Free, "page {page} is on the free list");
        *notes = Page { kind, ..Page::FREE };
        Some(page)
    }

    /// Ends a page's use. Its bytes stay until the last loan is given back; `next` and `epoch` stay with them, because
    /// a loan finds its way by them.
    pub fn release(&mut self, page: u32) {
        let notes = &mut self.pages.list[page as usize];
        assert!(
            !matches!(notes.kind, Kind::Free | Kind::Zombie | Kind::Absent),
            "page {page} is released twice, it is {:?}",
            notes.kind
        );
        if notes.loans > 0 {
            notes.kind = Kind::Zombie;
        } else {
            self.put_on_free_list(page);
        }
    }

    /// One more loan reads this page.
    pub fn pin(&mut self, page: u32) {
        let notes = &mut self.pages.list[page as usize];
        notes.loans += 1;
        if notes.loans == 1 {
            self.lent_count += 1;
        }
    }

    /// One loan less. The last one frees a page that has died meanwhile.
    pub fn unpin(&mut self, page: u32) {
        let notes = &mut self.pages.list[page as usize];
        assert!(notes.loans > 0, "page {page} is given back but not lent");
        notes.loans -= 1;
        if notes.loans == 0 {
            self.lent_count -= 1;
            if self.pages.list[page as usize].kind == Kind::Zombie {
                self.put_on_free_list(page);
            }
        }
    }

    /// Walks the lists of free and of absent pages, and gives the length of each; for audits.
    pub fn walk_lists(&self) -> Result<(usize, usize), String> {
        let free = self.free.walk(&self.pages, Kind::Free)?;
        let left = self.left.walk(&self.pages, Kind::Absent)?;
        let gone = self.gone.walk(&self.pages, Kind::Absent)?;
        Ok((free, left + gone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn granules_are_bytes_until_memory_is_larger_than_entries_can_tell() {
        for (bytes, granule_bytes) in [
            (1 << 20, 1),
            (16 << 30, 1),
            ((16 << 30) + 1, 2),
            (33 << 30, 4),
            (1 << 40, 64),
            (1 << 45, 64),
        ] {
            assert_eq!(1 << granule_shift_for(bytes), granule_bytes, "{bytes}");
        }
    }

    #[test]
    fn page_size_follows_the_memory() {
        for (bytes, page_bytes) in [
            (1 << 20, 16 << 10),
            (64 << 20, 128 << 10),
            (1 << 30, 256 << 10),
            (100 << 20, 128 << 10),
            (8 << 30, 256 << 10),
        ] {
            assert_eq!(
                Arena::<Vec<u8>>::page_bytes_for(bytes),
                page_bytes,
                "{bytes}"
            );
        }
    }

    #[test]
    fn a_lent_page_outlives_its_release() {
        let mut arena = Arena::new(vec![0u8; 64 << 10], 64 << 10, 0);
        let page = arena.take(Kind::Extension).expect("a free page");
        arena.pin(page);
        arena.pin(page);
        arena.release(page);
        assert_eq!((arena.free_count(), arena.lent_count()), (3, 1));
        arena.unpin(page);
        assert_eq!(arena.page(page).kind, Kind::Zombie);
        arena.unpin(page);
        assert_eq!((arena.free_count(), arena.lent_count()), (4, 0));
        assert_eq!(arena.walk_lists(), Ok((4, 0)));
    }

    #[test]
    fn pages_leave_above_the_limit_and_come_below_it() {
        let mut arena = Arena::new(vec![0u8; 128 << 10], 64 << 10, 0);
        assert!(!arena.admit(|_, _| panic!("the limit is reached")));
        assert!(!arena.dismiss());
        arena.set_limit(3);
        assert!(arena.dismiss());
        assert!(!arena.dismiss());
        // One whose bytes were never given up comes back as it is.
        arena.set_limit(4);
        assert!(arena.admit(|_, _| panic!("its bytes are there")));
        assert!(!arena.discard(|_, _| panic!("none has left")));
        arena.set_limit(3);
        assert!(arena.dismiss());
        let mut gone = Vec::new();
        assert!(arena.discard(|_, range| gone.push(range)));
        assert!(!arena.discard(|_, _| panic!("told twice")));
        assert_eq!(arena.walk_lists(), Ok((3, 1)));
        // It comes first, then those that never were.
        arena.set_limit(6);
        let mut came = Vec::new();
        while arena.admit(|_, range| came.push(range)) {}
        let page = PAGE_BYTES_MIN;
        gone.extend([4 * page..5 * page, 5 * page..6 * page]);
        assert_eq!(came, gone);
        assert_eq!((arena.free_count(), arena.surplus()), (6, 0));
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn releasing_a_free_page_panics() {
        let mut arena = Arena::new(vec![0u8; 64 << 10], 64 << 10, 0);
        arena.release(1);
    }
}
