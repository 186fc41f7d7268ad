//! How items leave: delete, flush, and the bookkeeping that every end of an item shares.
//!
//! Always true: an item leaves the table and is marked dead in one step, and a sealed segment in which nothing lives is
//! free (unless a sweep is walking it, which frees it at its end).

use super::{DeleteOutcome, Reason, Shard};
use crate::item::{self, Header};
use crate::key::Key;
use crate::segment::arena::{Kind, Memory, NO_PAGE, Queue};
use crate::table::Entry;
use crate::ttl::{NEVER, Seconds};

impl<M: Memory> Shard<M> {
    /// Runs a delayed flush that has come due.
    #[inline(always)]
    pub(crate) fn pass_time(&mut self, now: u32) {
        if now >= self.flush_at {
            self.flush_now();
        }
    }

    /// Removes a key.
    pub fn delete(&mut self, key: Key<'_>, now: Seconds) -> DeleteOutcome {
        match self.lookup(key, now.0) {
            Some((entry, header)) => {
                self.bury(entry, header, Reason::Command);
                DeleteOutcome::Deleted
            }
            None => DeleteOutcome::NotFound,
        }
    }

    /// Removes a key without an answer: for a set that has failed before it got here.
    pub fn unlink(&mut self, key: Key<'_>, now: Seconds) {
        let pair = self.table.pair(key.hash);
        if let Some(entry) = self
            .table
            .find(self.arena.bytes(), pair, key.hash, key.bytes)
        {
            let header = Header::read(self.arena.bytes(), entry.location);
            let deadline = self.deadline_of(entry.location, header);
            let reason = self.gone(entry.location, deadline, now.0);
            self.count_met(reason);
            self.bury(entry, header, Reason::Command);
        }
    }

    /// Forgets all items: at once when `at` is not in the future, otherwise when a call comes with `now >= at`, and
    /// then also those stored meanwhile. A later flush replaces one that is pending.
    pub fn flush(&mut self, at: Seconds, now: Seconds) {
        self.pass_time(now.0);
        self.flush_at = at.0.min(NEVER - 1);
        self.pass_time(now.0);
    }

    fn flush_now(&mut self) {
        self.flush_at = NEVER;
        self.end_target();
        for index in 0..self.chains.chains.len() {
            let open = self.chains.chains[index].open;
            if open != NO_PAGE {
                self.chains.seal(&mut self.arena, open);
            }
            self.chains.chains[index].remnant = NO_PAGE;
        }
        self.flush_epoch = self.next_epoch;
        self.suspect_epoch = self.next_epoch;
        self.prefixes.clear();
        self.reclaim.look_again(self.arena.pages.list.len());
    }

    /// Takes an item out of the table and marks it dead.
    #[inline]
    pub(crate) fn bury(&mut self, entry: Entry, header: Header, reason: Reason) {
        let fetched = header.has(item::FETCHED);
        match reason {
            Reason::Command => {}
            Reason::Expired => {
                self.counters.expired += 1;
                self.counters.expired_unfetched += u64::from(!fetched);
            }
            Reason::Flushed => self.counters.flushed += 1,
            Reason::Evicted => {
                self.counters.evictions += 1;
                self.counters.evicted_unfetched += u64::from(!fetched);
                if self.witness.room > 0 {
                    self.note_eviction(entry.location, header);
                }
            }
        }
        self.table.remove(self.arena.bytes_mut(), entry.place);
        self.kill(entry.location, header);
    }

    /// Marks an item dead and gives its extension pages back; frees its segment if it was the last one there.
    #[inline]
    pub(super) fn kill(&mut self, location: usize, mut header: Header) {
        debug_assert!(!header.has(item::DEAD));
        let size = header.size();
        let mut bytes = size;
        if header.has(item::LARGE) {
            let large = header.large(self.arena.bytes(), location);
            let mut extension = large.first_page;
            if self.queue_of(location) == Queue::Small {
                self.chains.small_pages -= self.extensions_of(location, header);
            }
            while extension != NO_PAGE {
                let next = self.arena.page(extension).next;
                self.arena.release(extension);
                bytes += self.arena.page_bytes();
                extension = next;
            }
        }
        header.bits |= item::DEAD;
        header.write_bits(self.arena.bytes_mut(), location);
        self.counters.items -= 1;
        self.counters.bytes -= bytes as u64;
        let page = self.arena.page_of(location);
        self.forget(page, size);
    }

    /// Takes an item off the notes of its segment.
    pub(super) fn forget(&mut self, page: u32, size: usize) {
        let padded = self.arena.pages.padded(size);
        let notes = self.arena.page_mut(page);
        notes.live_items -= 1;
        notes.live_bytes -= padded as u32;
        if notes.live_items == 0 {
            self.free_if_empty(page);
        }
    }

    /// Frees a sealed segment in which nothing lives, unless a sweep is still walking it.
    pub(crate) fn free_if_empty(&mut self, page: u32) {
        let notes = self.arena.page(page);
        if notes.live_items == 0 && notes.kind == Kind::Sealed && !self.reclaim.is_sweeping(page) {
            self.free_segment(page);
        }
    }

    /// Frees a segment in which nothing lives.
    pub(crate) fn free_segment(&mut self, page: u32) {
        debug_assert_eq!(self.arena.page(page).live_items, 0);
        self.chains.remove(&mut self.arena, page);
        self.arena.release(page);
        self.counters.segments_reclaimed += 1;
    }
}
