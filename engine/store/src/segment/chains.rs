//! One chain of segments for each TTL bucket and queue, oldest first.
//!
//! ```text
//! 0                                                     256
//! | TTL bucket 0, main | TTL bucket 1, main | ... | - | TTL bucket 0, small | TTL bucket 1, small | ...
//! ```
//!
//! An item that is too long for what is left of the open segment goes to a new one, but the sealed segment with most room
//! left, the *remnant*, still takes what fits there: where items differ in size, half of what would be lost at the ends of
//! segments is filled so.
//!
//! Always true: epochs grow along a chain; at most one segment of a chain is open, and its remnant is sealed, in that chain
//! and not being swept; a segment is in the chain of its TTL
//! bucket and queue from its opening until it is freed; `small_pages` counts the segments of the small queue and the
//! extension pages of the large values in it.

use super::arena::{Arena, Kind, Memory, NO_PAGE, Page, QUEUE_CHAINS, Queue};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub head: u32,
    pub tail: u32,
    /// The segment new items go to; `NO_PAGE` when none is open.
    pub open: u32,
    /// The sealed segment that takes what fits in it and not in the open one; `NO_PAGE` when there is none.
    pub remnant: u32,
    pub len: u32,
}

pub(crate) struct Chains {
    pub chains: Vec<Chain>,
    /// Chains with an open segment.
    pub open_count: usize,
    /// Pages the small queue holds.
    pub small_pages: usize,
    ttl_bucket_count: usize,
}

impl Chains {
    pub fn new(ttl_bucket_count: usize) -> Self {
        assert!(
            ttl_bucket_count <= QUEUE_CHAINS,
            "{ttl_bucket_count} TTL buckets to a queue of {QUEUE_CHAINS} chains"
        );
        Self {
            open_count: 0,
            small_pages: 0,
            ttl_bucket_count,
            chains: vec![
                Chain {
                    head: NO_PAGE,
                    tail: NO_PAGE,
                    open: NO_PAGE,
                    remnant: NO_PAGE,
                    len: 0
                };
                QUEUE_CHAINS + ttl_bucket_count
            ],
        }
    }

    /// The number of the chain of a TTL bucket in a queue.
    #[inline(always)]
    pub fn index(queue: Queue, ttl_bucket: usize) -> usize {
        queue as usize + ttl_bucket
    }

    /// The number of the chain a segment belongs to.
    #[inline(always)]
    pub fn index_of(notes: &Page) -> usize {
        Self::index(notes.queue, usize::from(notes.ttl_bucket))
    }

    /// The numbers of all chains of a queue.
    pub fn of_queue(&self, queue: Queue) -> std::ops::Range<usize> {
        let first = Self::index(queue, 0);
        first..first + self.ttl_bucket_count
    }

    /// Puts a segment at the young end of the chain of its TTL bucket.
    pub fn push<M: Memory>(&mut self, arena: &mut Arena<M>, page: u32) {
        let index = Self::index_of(arena.page(page));
        let chain = &mut self.chains[index];
        self.small_pages += usize::from(arena.page(page).queue == Queue::Small);
        arena.page_mut(page).prev = chain.tail;
        arena.page_mut(page).next = NO_PAGE;
        if chain.tail == NO_PAGE {
            chain.head = page;
        } else {
            arena.page_mut(chain.tail).next = page;
        }
        chain.tail = page;
        chain.len += 1;
        if arena.page(page).kind == Kind::Open {
            debug_assert_eq!(chain.open, NO_PAGE);
            chain.open = page;
            self.open_count += 1;
        }
    }

    /// Takes a segment out of its chain, wherever it stands.
    pub fn remove<M: Memory>(&mut self, arena: &mut Arena<M>, page: u32) {
        let (prev, next) = (arena.page(page).prev, arena.page(page).next);
        let index = Self::index_of(arena.page(page));
        let chain = &mut self.chains[index];
        self.small_pages -= usize::from(arena.page(page).queue == Queue::Small);
        if prev == NO_PAGE {
            chain.head = next;
        } else {
            arena.page_mut(prev).next = next;
        }
        if next == NO_PAGE {
            chain.tail = prev;
        } else {
            arena.page_mut(next).prev = prev;
        }
        chain.len -= 1;
        if chain.open == page {
            chain.open = NO_PAGE;
            self.open_count -= 1;
        }
        self.close(arena, page);
        let notes = arena.page_mut(page);
        notes.prev = NO_PAGE;
        notes.next = NO_PAGE;
    }

    /// Ends the taking of new items in an open segment.
    pub fn seal<M: Memory>(&mut self, arena: &mut Arena<M>, page: u32) {
        let notes = arena.page_mut(page);
        debug_assert!(matches!(notes.kind, Kind::Open | Kind::Target));
        notes.kind = Kind::Sealed;
        let index = Self::index_of(arena.page(page));
        let chain = &mut self.chains[index];
        if chain.open == page {
            chain.open = NO_PAGE;
            self.open_count -= 1;
        }
    }

    /// A sealed segment takes nothing more, even if it is the remnant of its chain.
    pub fn close<M: Memory>(&mut self, arena: &Arena<M>, page: u32) {
        let chain = &mut self.chains[Self::index_of(arena.page(page))];
        if chain.remnant == page {
            chain.remnant = NO_PAGE;
        }
    }
}
