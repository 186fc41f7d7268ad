//! Looking at a shard without being a client of it: one item, all items in slices, what was evicted, how long items live.
//!
//! Always true: nothing here counts as a fetch or changes what any later command finds. A scan meets an item that stays
//! where it is in the table exactly once, however it is cut into slices; one whose entry moves meanwhile (because the
//! table grows or shrinks, or makes room) may be met twice or not at all.

use super::{Reason, Shard};
use crate::item::{self, Header};
use crate::key::Key;
use crate::segment::arena::{Memory, NO_PAGE};
use crate::table::Place;
use crate::table::bucket::{self, SLOTS};
use crate::ttl::{Deadline, Seconds};
use crate::value::Placement;

/// What can be said of an item without fetching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// Length of its value.
    pub value_bytes: usize,
    /// The client's flags.
    pub flags: u32,
    /// When it stops being visible.
    pub deadline: Deadline,
    /// Its CAS unique at present. Nobody is promised that it stays, because nobody has asked for it.
    pub unique: u64,
    /// Whether it was ever fetched.
    pub fetched: bool,
    /// When it was last fetched, or else written, as far as that is known.
    pub accessed: Seconds,
    /// Bytes it takes in its segment, its header among them, and whole extension pages.
    pub item_bytes: usize,
}

/// What a command would find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// Nothing.
    Absent,
    /// An item whose time has run out.
    Expired,
    /// An item from before a flush.
    Flushed,
    /// This one.
    Here(Sight<'a>),
}

/// How far a scan has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanPlace {
    row: usize,
    column: usize,
}

/// An item that was dropped to make room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Its key.
    pub key: Box<[u8]>,
    /// Length of its value.
    pub value_bytes: usize,
    /// When it would have stopped being visible.
    pub deadline: Deadline,
    /// Whether it was ever fetched.
    pub fetched: bool,
    /// When it was last fetched, or else written, as far as that is known.
    pub accessed: Seconds,
}

/// The items of one TTL bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlClass {
    /// The shortest ttl its items were stored with; `None` for items that never expire.
    pub ttl_min: Option<u32>,
    /// Segments of both queues.
    pub segments: usize,
    /// Items in them.
    pub items: u64,
    /// Bytes of those items in their segments.
    pub bytes: u64,
}

/// What is known of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSight {
    /// When it was begun.
    pub opened_at: Seconds,
    /// Items in it.
    pub items: u64,
    /// Bytes of those items in it.
    pub bytes: u64,
}

/// Evictions that are kept until somebody takes them.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    pub room: usize,
    seen: Vec<Evicted>,
    missed: u64,
}

impl<M: Memory> Shard<M> {
    /// What a command with this key would find now.
    #[must_use]
    pub fn peek(&self, key: Key<'_>, now: Seconds) -> Peek<'_> {
        let pair = self.table.pair(key.hash);
        match self
            .table
            .find(self.arena.bytes(), pair, key.hash, key.bytes)
        {
            None => Peek::Absent,
            Some(entry) => self.peek_at(entry.location, now),
        }
    }

    fn peek_at(&self, location: usize, now: Seconds) -> Peek<'_> {
        let memory = self.arena.bytes();
        let header = Header::read(memory, location);
        let deadline = self.deadline_of(location, header);
        match self.gone(location, deadline, now.0) {
            Some(Reason::Flushed) => Peek::Flushed,
            // A delayed flush that is due takes everything, at the next command.
            _ if now.0 >= self.flush_at => Peek::Flushed,
            Some(_) => Peek::Expired,
            None => Peek::Here(Sight {
                key: item::key_at(memory, location),
                value_bytes: Placement::of(memory, location, header).len,
                flags: header.flags(memory, location),
                deadline: Deadline::from_raw(deadline),
                unique: self.unique_of(location, header),
                fetched: header.has(item::FETCHED),
                accessed: Seconds(self.accessed_at(location, header)),
                item_bytes: header.size()
                    + self.extensions_of(location, header) * self.arena.page_bytes(),
            }),
        }
    }

    /// Shows the visible items of so many hash buckets, of at most nine items each, from `place` on. Where to go on,
    /// or `None` when that was all.
    #[must_use]
    pub fn scan(
        &self,
        place: ScanPlace,
        buckets: usize,
        now: Seconds,
        mut show: impl FnMut(Sight<'_>),
    ) -> Option<ScanPlace> {
        let memory = self.arena.bytes();
        let ScanPlace {
            mut row,
            mut column,
        } = place;
        for _ in 0..buckets {
            // A row has lost its last column meanwhile, or was at its end.
            while column >= self.table.columns_of(row) {
                (row, column) = (row + 1, 0);
                if row >= self.table.row_count() {
                    return None;
                }
            }
            let bucket_at = self.table.bucket_at(row, column);
            let view = bucket::view(memory, bucket_at);
            for slot in (0..SLOTS).filter(|&slot| bucket::tag(view, slot) != 0) {
                let location = self.table.location_at(memory, Place { bucket_at, slot });
                if let Peek::Here(sight) = self.peek_at(location, now) {
                    show(sight);
                }
            }
            column += 1;
        }
        Some(ScanPlace { row, column })
    }

    /// Shows the TTL buckets that hold something, the shortest first.
    pub fn ttl_classes(&self, mut show: impl FnMut(TtlClass)) {
        let mut classes = vec![(0, 0, 0); self.ttl.count()];
        for chain in &self.chains.chains {
            let mut page = chain.head;
            while page != NO_PAGE {
                let notes = self.arena.page(page);
                let (segments, items, bytes) = &mut classes[usize::from(notes.ttl_bucket)];
                *segments += 1;
                *items += u64::from(notes.live_items);
                *bytes += u64::from(notes.live_bytes);
                page = notes.next;
            }
        }
        for (index, (segments, items, bytes)) in classes.into_iter().enumerate() {
            if segments > 0 {
                show(TtlClass {
                    ttl_min: self.ttl.shortest(index),
                    segments,
                    items,
                    bytes,
                });
            }
        }
    }

    /// Shows every segment that items can be found in, in no particular order.
    pub fn segments(&self, mut show: impl FnMut(SegmentSight)) {
        for chain in &self.chains.chains {
            let mut page = chain.head;
            while page != NO_PAGE {
                let notes = self.arena.page(page);
                show(SegmentSight {
                    opened_at: Seconds(notes.opened_at),
                    items: u64::from(notes.live_items),
                    bytes: u64::from(notes.live_bytes),
                });
                page = notes.next;
            }
        }
    }

    /// Keeps notes of at most `room` evictions until they are taken; 0 keeps none, which costs nothing. Each note is
    /// allocated.
    pub fn watch_evictions(&mut self, room: usize) {
        self.witness.room = room;
        if room == 0 {
            self.witness = Witness::default();
        }
    }

    /// Hands out the evictions noted since the last call, and how many there was no room for.
    pub fn take_evictions(&mut self, mut show: impl FnMut(&Evicted)) -> u64 {
        for evicted in self.witness.seen.drain(..) {
            show(&evicted);
        }
        std::mem::take(&mut self.witness.missed)
    }

    #[cold]
    pub(super) fn note_eviction(&mut self, location: usize, header: Header) {
        if self.witness.seen.len() >= self.witness.room {
            self.witness.missed += 1;
            return;
        }
        let memory = self.arena.bytes();
        self.witness.seen.push(Evicted {
            key: item::key_at(memory, location).into(),
            value_bytes: Placement::of(memory, location, header).len,
            deadline: Deadline::from_raw(self.deadline_of(location, header)),
            fetched: header.has(item::FETCHED),
            accessed: Seconds(self.accessed_at(location, header)),
        });
    }
}
