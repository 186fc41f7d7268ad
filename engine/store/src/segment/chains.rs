//! One chain of segments for each TTL bucket, oldest first.
//!
//! Always true: epochs grow along a chain; only the last segment of a chain may be open; a segment is in the chain of
//! its TTL bucket from its opening until it is freed.

use super::arena::{Arena, Kind, Memory, NO_PAGE};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub head: u32,
    pub tail: u32,
    /// The segment new items go to; `NO_PAGE` when none is open.
    pub open: u32,
    pub len: u32,
}

pub(crate) struct Chains {
    pub chains: Vec<Chain>,
}

impl Chains {
    pub fn new(count: usize) -> Self {
        assert!(
            count <= usize::from(u16::MAX),
            "{count} TTL buckets need more than 16 bits"
        );
        Self {
            chains: vec![
                Chain {
                    head: NO_PAGE,
                    tail: NO_PAGE,
                    open: NO_PAGE,
                    len: 0
                };
                count
            ],
        }
    }

    /// Puts a segment at the young end of the chain of its TTL bucket.
    pub fn push<M: Memory>(&mut self, arena: &mut Arena<M>, page: u32) {
        let chain = &mut self.chains[usize::from(arena.page(page).ttl_bucket)];
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
        }
    }

    /// Takes a segment out of its chain, wherever it stands.
    pub fn remove<M: Memory>(&mut self, arena: &mut Arena<M>, page: u32) {
        let (prev, next) = (arena.page(page).prev, arena.page(page).next);
        let chain = &mut self.chains[usize::from(arena.page(page).ttl_bucket)];
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
        }
        let notes = arena.page_mut(page);
        notes.prev = NO_PAGE;
        notes.next = NO_PAGE;
    }

    /// Ends the taking of new items in an open segment.
    pub fn seal<M: Memory>(&mut self, arena: &mut Arena<M>, page: u32) {
        let notes = arena.page_mut(page);
        debug_assert!(matches!(notes.kind, Kind::Open | Kind::Target));
        notes.kind = Kind::Sealed;
        let chain = &mut self.chains[usize::from(notes.ttl_bucket)];
        if chain.open == page {
            chain.open = NO_PAGE;
        }
    }
}
