//! The arena: the caller's memory cut into equal pages, with 64 bytes of notes for each.
//!
//! ```text
//! memory   | page 0 | page 1 | page 2 | page 3 | ...
//! each is    table    open     extension free          a chunk of the table, a segment, part of a large value, or free
//! ```
//!
//! A location is the offset of a byte in the whole arena; its page is the location shifted.
//!
//! Always true: every page is in exactly one state; free pages and only those are on the free list; a page that is
//! lent keeps its bytes and leaves its state only for `Zombie`, from which the last loan frees it.

/// Memory a shard works in: anything that is a slice of bytes, and stays the same slice.
///
/// `as_ref` and `as_mut` must give the same bytes at each call, as a `Vec<u8>`, a box or a mapping does.
pub trait Memory: AsRef<[u8]> + AsMut<[u8]> {}
impl<M: AsRef<[u8]> + AsMut<[u8]>> Memory for M {}

/// "No page", where a page number may be missing.
pub(crate) const NO_PAGE: u32 = u32::MAX;

/// Smallest page.
pub(crate) const PAGE_BYTES_MIN: usize = 16 << 10;
/// Largest page. Offsets in a page have 20 bits, which the CAS unique relies on.
pub(crate) const PAGE_BYTES_MAX: usize = 1 << 20;
/// A shard has at least this many pages, unless they would be smaller than [`PAGE_BYTES_MIN`].
const PAGE_COUNT_GOAL: usize = 512;
/// Bits of a location: 1 TiB to a shard.
pub(crate) const LOCATION_BITS: u32 = 40;

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
    /// Bytes of items not dead.
    pub live_bytes: u32,
    /// Items not dead.
    pub live_items: u32,
    /// Next page of the chain, the free list or the large value.
    pub next: u32,
    /// Previous segment of the chain.
    pub prev: u32,
    /// When the segment was opened.
    pub opened_at: u32,
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
        loans: 0,
        ttl_bucket: 0,
        queue: Queue::Main,
        kind: Kind::Free,
    };

    pub fn is_segment(&self) -> bool {
        matches!(self.kind, Kind::Open | Kind::Sealed | Kind::Target)
    }
}

/// The notes of all pages, and their size.
pub(crate) struct Pages {
    pub list: Vec<Page>,
    pub shift: u32,
}

/// The memory and its pages.
pub(crate) struct Arena<M> {
    memory: M,
    pub pages: Pages,
    free_head: u32,
    free_count: usize,
    lent_count: usize,
}

impl<M: Memory> Arena<M> {
    /// Cuts `memory` into pages. What is left over after the last whole page is not used.
    pub fn new(memory: M) -> Self {
        let bytes = memory.as_ref().len();
        let page_bytes = Self::page_bytes_for(bytes);
        let count = (bytes / page_bytes).min(1 << (LOCATION_BITS - page_bytes.trailing_zeros()));
        assert!(
            count < NO_PAGE as usize,
            "{count} pages need more than 32 bits"
        );
        let mut arena = Self {
            memory,
            pages: Pages {
                list: vec![Page::FREE; count],
                shift: page_bytes.trailing_zeros(),
            },
            free_head: NO_PAGE,
            free_count: 0,
            lent_count: 0,
        };
        for page in (0..count as u32).rev() {
            arena.put_on_free_list(page);
        }
        arena
    }

    fn page_bytes_for(bytes: usize) -> usize {
        let goal = (bytes / PAGE_COUNT_GOAL).max(1);
        let floor = 1usize << (usize::BITS - 1 - goal.leading_zeros());
        floor.clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX)
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

    pub fn page_count(&self) -> usize {
        self.pages.list.len()
    }

    #[inline(always)]
    pub fn free_count(&self) -> usize {
        self.free_count
    }

    /// Pages pinned by at least one loan.
    pub fn lent_count(&self) -> usize {
        self.lent_count
    }

    fn put_on_free_list(&mut self, page: u32) {
        self.pages.list[page as usize] = Page {
            next: self.free_head,
            ..Page::FREE
        };
        self.free_head = page;
        self.free_count += 1;
    }

    /// Takes a free page and makes it `kind`.
    pub fn take(&mut self, kind: Kind) -> Option<u32> {
        let page = self.free_head;
        if page == NO_PAGE {
            return None;
        }
        let notes = &mut self.pages.list[page as usize];
        debug_assert_eq!(notes.kind, Kind::Free, "page {page} is on the free list");
        self.free_head = notes.next;
        *notes = Page { kind, ..Page::FREE };
        self.free_count -= 1;
        Some(page)
    }

    /// Ends a page's use. Its bytes stay until the last loan is given back; `next` and `epoch` stay with them, because
    /// a loan finds its way by them.
    pub fn release(&mut self, page: u32) {
        let notes = &mut self.pages.list[page as usize];
        assert!(
            !matches!(notes.kind, Kind::Free | Kind::Zombie),
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

    /// The free list, walked; for audits.
    pub fn walk_free_list(&self) -> Result<usize, String> {
        let mut count = 0;
        let mut page = self.free_head;
        while page != NO_PAGE {
            let notes = self.page(page);
            if notes.kind != Kind::Free {
                return Err(format!(
                    "page {page} is on the free list but {:?}",
                    notes.kind
                ));
            }
            count += 1;
            if count > self.pages.list.len() {
                return Err("the free list is a ring".into());
            }
            page = notes.next;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_size_follows_the_memory() {
        for (bytes, page_bytes) in [
            (1 << 20, 16 << 10),
            (64 << 20, 128 << 10),
            (1 << 30, 1 << 20),
            (100 << 20, 128 << 10),
            (8 << 30, 1 << 20),
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
        let mut arena = Arena::new(vec![0u8; 64 << 10]);
        let page = arena.take(Kind::Extension).expect("a free page");
        arena.pin(page);
        arena.pin(page);
        arena.release(page);
        assert_eq!((arena.free_count(), arena.lent_count()), (3, 1));
        arena.unpin(page);
        assert_eq!(arena.page(page).kind, Kind::Zombie);
        arena.unpin(page);
        assert_eq!((arena.free_count(), arena.lent_count()), (4, 0));
        assert_eq!(arena.walk_free_list(), Ok(4));
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn releasing_a_free_page_panics() {
        let mut arena = Arena::new(vec![0u8; 64 << 10]);
        arena.release(1);
    }
}
