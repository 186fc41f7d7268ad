//! Flushes of one prefix of the keys: constant time for the command, and nothing in the items.
//!
//! The *prefix* of a key is what stands before its first delimiter; a key without one has none. A flush notes the hash
//! of a prefix and takes an epoch for itself, so that a segment opened later has a greater one than a segment opened
//! before. Whatever lives in a later segment was written after the flush, or was moved there and found alive. An older
//! segment that still takes items gets a *mark* when the first is placed there after a flush:
//!
//! ```text
//!             flush of "a" = epoch 7
//!                      v
//! segment 4  | a:1 b:1 | (from here on: 7) a:2 b:2 ...       a:1 is flushed, a:2 is not
//! segment 8            | a:3 b:3 ...                         nobody looks: 8 is after 7
//! ```
//!
//! So a lookup asks for the prefix only if a flush is remembered and the segment is older than the newest one; otherwise the
//! branch is the one for the flush of everything. Upkeep walks the older segments once and drops what is flushed; when it
//! has been round, the flush is forgotten, and lookups are what they were. Why not otherwise: a generation in each item
//! would cost bytes to those who never flush a prefix, and to seal all open segments, as the flush of everything does,
//! would cost memory with each flush.
//!
//! Always true: a flush that is remembered is newer than the round of cleaning that will have it forgotten; a moved item
//! was found alive; a segment older than the newest flush takes an item only with a mark as new as that flush.
//!
//! Two prefixes whose keyed 64-bit hashes are equal would be flushed together.

use std::collections::VecDeque;

use super::{Reason, Shard};
use crate::item::{self, Header};
use crate::key::{KeyHash, KeyHasher};
use crate::segment::arena::Memory;
use crate::table::Entry;
use crate::ttl::Seconds;

/// Flushes that are remembered at a time.
const FLUSHES_MAX: usize = 4096;
/// Slots for them: half stay empty, so that a search is short.
const FLUSH_SLOTS: usize = 2 * FLUSHES_MAX;
/// Marks that are remembered at a time. A segment that can have no further one takes no further items.
const MARKS_MAX: usize = 4096;
/// Marks of one segment: a lookup may have to pass them all.
const SEGMENT_MARKS_MAX: u32 = 32;

/// The delimiter unless another is chosen, as memcached has it.
const DELIMITER: u8 = b':';

/// As many prefixes are flushed and not yet cleaned up as can be remembered. Nothing was flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlushesMany;

/// A flush that is remembered; of epoch 0 there is none.
#[derive(Clone, Copy, Debug, Default)]
struct Flush {
    prefix: u64,
    epoch: u64,
}

/// From this offset on a segment holds only what was placed there after a flush.
#[derive(Clone, Copy, Debug)]
struct Mark {
    page: u32,
    from: u32,
    /// The flush that was the newest.
    epoch: u64,
    /// The number of the mark before it in this page.
    previous: u64,
    /// How many marks the segment has with this one.
    count: u32,
}

/// The round of cleaning that is under way.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// The newest flush it cleans up after.
    until: u64,
    page: usize,
    /// The segment that is being walked, by its epoch, and where the next item begins.
    epoch: u64,
    at: usize,
}

/// What is remembered of flushed prefixes.
pub(crate) struct PrefixFlushes {
    delimiter: u8,
    /// The newest flush that is remembered; 0 when there is none.
    newest: u64,
    count: usize,
    /// A hash table, and another to rebuild it in. Both are empty until the first flush.
    slots: Vec<Flush>,
    spare: Vec<Flush>,
    /// The marks by age. The first has the number `forgotten_marks + 1`.
    marks: VecDeque<Mark>,
    forgotten_marks: u64,
    /// The number of the newest mark of each page, which may be forgotten by now.
    mark_of_page: Vec<u64>,
    round: Option<Round>,
}

impl PrefixFlushes {
    pub fn new() -> Self {
        Self {
            delimiter: DELIMITER,
            newest: 0,
            count: 0,
            slots: Vec::new(),
            spare: Vec::new(),
            marks: VecDeque::new(),
            forgotten_marks: 0,
            mark_of_page: Vec::new(),
            round: None,
        }
    }

    /// Bytes of what is remembered.
    pub fn side_bytes(&self) -> usize {
        (self.slots.capacity() + self.spare.capacity()) * size_of::<Flush>()
            + self.marks.capacity() * size_of::<Mark>()
            + self.mark_of_page.capacity() * size_of::<u64>()
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Everything is flushed, so nothing has to be remembered.
    pub fn clear(&mut self) {
        self.forget(self.newest);
    }

    /// The slot of a prefix, or the empty one where it would stand.
    fn slot(&self, prefix: u64) -> usize {
        let mut at = prefix as usize % FLUSH_SLOTS;
        while self.slots[at].epoch != 0 && self.slots[at].prefix != prefix {
            at = (at + 1) % FLUSH_SLOTS;
        }
        at
    }

    /// Notes a flush; `false` when that would be too many.
    fn remember(&mut self, flush: Flush, page_count: usize) -> bool {
        if self.slots.is_empty() {
            self.slots = vec![Flush::default(); FLUSH_SLOTS];
            self.spare = self.slots.clone();
            self.marks.reserve_exact(MARKS_MAX);
            self.mark_of_page = vec![0; page_count];
        }
        let slot = self.slot(flush.prefix);
        if self.slots[slot].epoch == 0 {
            if self.count == FLUSHES_MAX {
                return false;
            }
            self.count += 1;
        }
        self.slots[slot] = flush;
        self.newest = flush.epoch;
        true
    }

    /// Forgets the flushes up to one, and the marks that tell nothing about later ones.
    fn forget(&mut self, until: u64) {
        self.round = None;
        if self.count == 0 {
            return;
        }
        std::mem::swap(&mut self.slots, &mut self.spare);
        self.slots.fill(Flush::default());
        self.count = 0;
        for at in 0..FLUSH_SLOTS {
            let flush = self.spare[at];
            if flush.epoch > until {
                let slot = self.slot(flush.prefix);
                self.slots[slot] = flush;
                self.count += 1;
            }
        }
        if self.count == 0 {
            self.newest = 0;
        }
        while self.marks.front().is_some_and(|mark| mark.epoch <= until) {
            self.marks.pop_front();
            self.forgotten_marks += 1;
        }
    }

    /// The last flush of the prefix of a key; 0 when none is remembered.
    fn flush_of(&self, hasher: &KeyHasher, key: &[u8]) -> u64 {
        if self.count == 0 {
            return 0;
        }
        match key.iter().position(|&byte| byte == self.delimiter) {
            Some(end) => self.slots[self.slot(hasher.hash(&key[..end]).0)].epoch,
            None => 0,
        }
    }

    fn mark(&self, number: u64) -> Option<&Mark> {
        let index = number.checked_sub(self.forgotten_marks + 1)?;
        self.marks.get(index as usize)
    }

    /// Whether what stands at an offset of a page was placed there after a flush. The segment is older than the flush.
    fn is_later(&self, page: u32, offset: usize, flush: u64) -> bool {
        let mut next = self.mark(self.mark_of_page[page as usize]);
        while let Some(mark) = next {
            // A mark of the page's earlier life is older than the segment, and so than the flush.
            if mark.epoch < flush {
                return false;
            }
            if mark.from as usize <= offset {
                return true;
            }
            next = self.mark(mark.previous);
        }
        false
    }

    /// How many marks a segment has with the next one; `None` when the last is as new as the newest flush.
    fn next_mark(&self, page: u32, epoch: u64) -> Option<u32> {
        match self.mark(self.mark_of_page[page as usize]) {
            Some(mark) if mark.epoch == self.newest => None,
            Some(mark) if mark.epoch > epoch => Some(mark.count + 1),
            _ => Some(1),
        }
    }
}

impl<M: Memory> Shard<M> {
    /// Chooses the byte that ends the prefix of a key; `:` unless this is called. It holds for flushes to come, so it is
    /// chosen before the first.
    pub fn delimit_prefixes(&mut self, delimiter: u8) {
        self.prefixes.delimiter = delimiter;
    }

    /// Forgets all items whose keys begin with a prefix and the delimiter; `prefix` is the hash of the former, made as
    /// that of a key. Takes the same short time however many they are: what is flushed is dropped when a command meets
    /// it, and by [`Shard::upkeep`]. The first call allocates the notes, 384 KiB and eight bytes a page.
    ///
    /// # Errors
    /// [`FlushesMany`] when 4096 prefixes are flushed that upkeep has not cleaned up yet.
    pub fn flush_prefix(&mut self, prefix: KeyHash, now: Seconds) -> Result<(), FlushesMany> {
        self.pass_time(now.0);
        let flush = Flush {
            prefix: prefix.0,
            epoch: self.next_epoch,
        };
        if !self.prefixes.remember(flush, self.arena.most()) {
            return Err(FlushesMany);
        }
        self.next_epoch += 1;
        self.suspect_epoch = flush.epoch;
        Ok(())
    }

    /// Whether an item was written before a flush, of everything or of its prefix.
    #[cold]
    #[inline(never)]
    pub(super) fn is_flushed(&self, location: usize) -> bool {
        let page = self.arena.page_of(location);
        let epoch = self.arena.page(page).epoch;
        if epoch < self.flush_epoch {
            return true;
        }
        let key = item::key_at(self.arena.bytes(), location);
        let flush = self.prefixes.flush_of(&self.hasher, key);
        let offset = location - self.arena.start_of(page);
        epoch < flush && !self.prefixes.is_later(page, offset, flush)
    }

    /// Whether a segment older than the newest flush has a mark as new as that, or can have one.
    #[cold]
    #[inline(never)]
    pub(crate) fn can_mark(&self, page: u32) -> bool {
        let next = self.prefixes.next_mark(page, self.arena.page(page).epoch);
        next.is_none_or(|count| count <= SEGMENT_MARKS_MAX && self.prefixes.marks.len() < MARKS_MAX)
    }

    /// Marks what is placed in a segment from now on as later than the newest flush.
    #[cold]
    #[inline(never)]
    pub(super) fn mark_segment(&mut self, page: u32) {
        let notes = self.arena.page(page);
        let (epoch, from) = (notes.epoch, notes.used);
        let Some(count) = self.prefixes.next_mark(page, epoch) else {
            return;
        };
        let prefixes = &mut self.prefixes;
        assert!(
            prefixes.marks.len() < MARKS_MAX,
            "segment {page} was to get a mark and there are {MARKS_MAX}"
        );
        let previous = prefixes.mark_of_page[page as usize];
        prefixes.marks.push_back(Mark {
            page,
            from,
            epoch: prefixes.newest,
            previous,
            count,
        });
        let number = prefixes.forgotten_marks + prefixes.marks.len() as u64;
        prefixes.mark_of_page[page as usize] = number;
    }

    /// Whether some of what is flushed by its prefix may still be there.
    pub(crate) fn is_to_clean(&self) -> bool {
        self.prefixes.count > 0
    }

    /// Drops flushed items of the segments older than a flush, looking at about `budget_items`. Returns how many.
    pub(crate) fn clean(&mut self, budget_items: usize) -> usize {
        let mut looked_at = 0;
        while looked_at < budget_items && self.is_to_clean() {
            let until = self.prefixes.newest;
            let mut round = self.prefixes.round.unwrap_or(Round {
                until,
                page: 0,
                epoch: 0,
                at: 0,
            });
            let Some(notes) = self.arena.pages.list.get(round.page) else {
                self.prefixes.forget(round.until);
                self.suspect_epoch = self.flush_epoch.max(self.prefixes.newest);
                continue;
            };
            looked_at += 1;
            let start = self.arena.start_of(round.page as u32);
            if round.epoch == 0 {
                (round.epoch, round.at) = (notes.epoch, start);
            }
            // A segment that is gone took what was flushed along.
            let is_same = notes.is_segment() && notes.epoch == round.epoch;
            if is_same && notes.epoch < round.until && round.at < start + notes.used as usize {
                round.at += self.clean_item(round.at);
            } else {
                (round.page, round.epoch) = (round.page + 1, 0);
            }
            self.prefixes.round = Some(round);
        }
        looked_at
    }

    /// Drops an item if it is flushed. Returns how many bytes further the next one begins.
    fn clean_item(&mut self, at: usize) -> usize {
        let header = Header::read(self.arena.bytes(), at);
        let padded = self.arena.pages.padded(header.size());
        if header.has(item::DEAD) || !self.is_flushed(at) {
            return padded;
        }
        let memory = self.arena.bytes();
        let hash = self.hasher.hash(item::key_at(memory, at));
        let buckets = self.table.prefetch_buckets(memory, hash);
        let place = self
            .table
            .find_location_in(memory, buckets, hash.tag(), at)
            .unwrap_or_else(|| panic!("the item at {at} is not dead and not in the table"));
        let entry = Entry {
            place,
            location: at,
        };
        self.bury(entry, header, Reason::Flushed);
        padded
    }

    /// Compares what is remembered of prefixes with itself and the segments; for `audit`.
    pub(crate) fn audit_prefixes(&self) -> Result<(), String> {
        let prefixes = &self.prefixes;
        let flushes = || prefixes.slots.iter().filter(|flush| flush.epoch != 0);
        let newest = flushes().map(|flush| flush.epoch).max().unwrap_or(0);
        if flushes().count() != prefixes.count || newest != prefixes.newest {
            return Err(format!(
                "{} prefixes flushed up to {newest}, noted {} up to {}",
                flushes().count(),
                prefixes.count,
                prefixes.newest
            ));
        }
        if self.suspect_epoch != self.flush_epoch.max(newest) || newest >= self.next_epoch {
            return Err(format!(
                "flushes of {} and {newest}, of earlier epochs than {} what is suspected, next {}",
                self.flush_epoch, self.suspect_epoch, self.next_epoch
            ));
        }
        if let Some(flush) =
            flushes().find(|flush| prefixes.slots[prefixes.slot(flush.prefix)].epoch != flush.epoch)
        {
            return Err(format!("{flush:?} is not found"));
        }
        for (index, mark) in prefixes.marks.iter().enumerate() {
            let number = prefixes.forgotten_marks + 1 + index as u64;
            let previous = prefixes.mark(mark.previous);
            let notes = self.arena.page(mark.page);
            let of_this_life = notes.is_segment() && notes.epoch < mark.epoch;
            if mark.previous >= number
                || previous.is_some_and(|previous| {
                    previous.page != mark.page || previous.epoch >= mark.epoch
                })
                || of_this_life && mark.from > notes.used
                || prefixes.mark_of_page[mark.page as usize] < number
            {
                return Err(format!("mark {number}: {mark:?} after {previous:?}"));
            }
        }
        Ok(())
    }
}
