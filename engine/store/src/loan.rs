//! Loans: a reader keeps a value for a while, although the item may be deleted, replaced or moved meanwhile.
//!
//! A loan pins the pages the value lies in. A pinned page is neither written to nor given out again; when all in it
//! has died it waits as a zombie for its last loan.
//!
//! Always true: at most half of the pages are lent; the bytes of a loan do not change until it is given back.

use crate::segment::arena::{Memory, NO_PAGE};
use crate::shard::Shard;
use crate::value::{ItemRef, Placement};
use crate::{item, item::Header};

/// A value on loan. Give it back with [`Shard::give_back`]; a loan that is lost keeps its pages for ever.
#[derive(Debug)]
#[must_use = "a loan that is not given back keeps its pages for ever"]
pub struct Loan {
    page: u32,
    epoch: u64,
    placement: Placement,
}

impl Loan {
    /// Length in bytes of the value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.placement.len
    }

    /// Whether the value has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.placement.len == 0
    }
}

impl<M: Memory> Shard<M> {
    /// Lends the value of an item just found. `None` when half of the pages would be lent, or when the item has gone
    /// since it was found: then the value must be copied at once instead.
    pub fn lend(&mut self, item: ItemRef) -> Option<Loan> {
        let page = self.arena.page_of(item.location);
        let notes = self.arena.page(page);
        if !notes.is_segment() || notes.epoch != item.epoch {
            return None;
        }
        let header = Header::read(self.arena.bytes(), item.location);
        if header.has(item::DEAD) {
            return None;
        }
        let placement = Placement::of(self.arena.bytes(), item.location, header);
        let extensions = (placement.len - placement.head_len).div_ceil(self.arena.page_bytes());
        if self.arena.lent_count() + 1 + extensions > self.arena.page_count() / 2 {
            return None;
        }
        let epoch = notes.epoch;
        self.arena.pin(page);
        let mut extension = placement.first_page;
        for _ in 0..extensions {
            self.arena.pin(extension);
            extension = self.arena.page(extension).next;
        }
        debug_assert_eq!(extension, NO_PAGE);
        Some(Loan {
            page,
            epoch,
            placement,
        })
    }

    /// The bytes of a loan from `offset` on, as far as they lie in one piece. Not empty while `offset` is below the
    /// length.
    ///
    /// # Panics
    /// When `offset` is not below the length of the value.
    #[must_use]
    pub fn loan_bytes(&self, loan: &Loan, offset: usize) -> &[u8] {
        let (at, len) = loan.placement.run(&self.arena.pages, offset);
        &self.arena.bytes()[at..at + len]
    }

    /// The bytes of a loan from `offset` on, piece by piece; none is empty.
    pub fn loan_pieces(&self, loan: &Loan, offset: usize) -> impl Iterator<Item = &[u8]> {
        let (placement, pages) = (loan.placement, &self.arena.pages);
        let page_bytes = 1usize << pages.shift;
        let mut page = placement.first_page;
        let beyond = offset.saturating_sub(placement.head_len);
        if offset < placement.len {
            for _ in 0..beyond >> pages.shift {
                page = pages.list[page as usize].next;
            }
        }
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= placement.len {
                return None;
            }
            let (start, len) = if at < placement.head_len {
                (placement.head_at + at, placement.head_len - at)
            } else {
                let inside = (at - placement.head_len) & (page_bytes - 1);
                let start = ((page as usize) << pages.shift) + inside;
                page = pages.list[page as usize].next;
                (start, (page_bytes - inside).min(placement.len - at))
            };
            at += len;
            Some(&self.arena.bytes()[start..start + len])
        })
    }

    /// Ends a loan. Pages that died meanwhile and that nobody else reads become free.
    ///
    /// # Panics
    /// When the loan is not of this shard, as far as its pages tell.
    pub fn give_back(&mut self, loan: Loan) {
        let notes = self.arena.pages.list.get(loan.page as usize);
        assert!(
            notes.is_some_and(|notes| notes.loans > 0 && notes.epoch == loan.epoch),
            "a loan of page {} epoch {} is given back to a shard that has {notes:?} there",
            loan.page,
            loan.epoch,
        );
        self.arena.unpin(loan.page);
        let mut extension = loan.placement.first_page;
        for _ in 0..(loan.placement.len - loan.placement.head_len).div_ceil(self.arena.page_bytes())
        {
            let next = self.arena.page(extension).next;
            self.arena.unpin(extension);
            extension = next;
        }
    }
}
