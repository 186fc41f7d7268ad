//! The hash table: linear hashing over 64-byte hash buckets, in chunks that are pages of the arena.
//!
//! A key may stand in either of two buckets. The table grows by splitting one bucket at a time and shrinks by undoing
//! the last split, so no call does more than a handful of entries' work. It holds no hashes: a split reads the keys
//! of the at most eight entries of one bucket again.
//!
//! Always true: an entry stands in one of the two buckets its key addresses; no location stands in two entries;
//! `entries` counts the slots in use.

pub(crate) mod bucket;
mod scan;

use crate::item;
use crate::key::{KeyHash, KeyHasher};
use crate::prefetch;
use crate::segment::arena::{Arena, Kind, Memory};
use bucket::{BUCKET_BYTES, SLOTS};

/// The first choice is taken while it has fewer entries than this; after that the emptier of both.
const FIRST_CHOICE_FILL: u32 = 6;
/// Load above which the table grows, in entries to 16 buckets (of 128 slots): 0.90.
const GROW_ABOVE: usize = 115;
/// Load below which the table may shrink when memory is short, in the same unit: 0.62.
const SHRINK_BELOW: usize = 80;
/// Splits done by one insertion at most. One for every seven insertions is the steady rate.
const SPLITS_PER_INSERT: u32 = 2;
/// How far entries are pushed on to make room: `SLOTS` at the first level, `SLOTS * SLOTS` at the second.
const DISPLACE_DEPTH: u32 = 2;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Offset of the bucket in the arena.
    pub bucket_at: usize,
    pub slot: usize,
}

/// An entry found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub place: Place,
    pub location: usize,
}

/// Both buckets were full and no entry could be pushed on.
#[derive(Debug)]
pub(crate) struct NoSlot;

pub(crate) struct Table {
    /// Page of each chunk.
    directory: Vec<u32>,
    bucket_count: usize,
    /// The next power of two at or above `bucket_count`, less one.
    mask: usize,
    /// `log2` of the buckets in a chunk.
    chunk_shift: u32,
    page_shift: u32,
    entries: usize,
}

impl Table {
    /// A table of one chunk.
    ///
    /// # Panics
    /// When the arena has no free page.
    pub fn new<M: Memory>(arena: &mut Arena<M>) -> Self {
        let page = arena
            .take(Kind::Table)
            .expect("a new arena has a page for the table");
        let start = arena.start_of(page);
        let page_bytes = arena.page_bytes();
        arena.bytes_mut()[start..start + page_bytes].fill(0);
        // Sixteen bytes of items to the byte of table is more than any load needs; the directory never reallocates.
        let mut directory = Vec::with_capacity(arena.page_count());
        directory.push(page);
        let bucket_count = page_bytes / BUCKET_BYTES;
        Self {
            directory,
            bucket_count,
            mask: bucket_count - 1,
            chunk_shift: bucket_count.trailing_zeros(),
            page_shift: arena.page_shift(),
            entries: 0,
        }
    }

    pub fn entries(&self) -> usize {
        self.entries
    }

    pub fn bucket_count(&self) -> usize {
        self.bucket_count
    }

    pub fn chunk_count(&self) -> usize {
        self.directory.len()
    }

    /// Pages of the chunks.
    pub fn chunks(&self) -> &[u32] {
        &self.directory
    }

    #[inline(always)]
    fn index(&self, address: u32) -> usize {
        let index = address as usize & self.mask;
        if index < self.bucket_count {
            index
        } else {
            index & (self.mask >> 1)
        }
    }

    #[inline(always)]
    pub fn bucket_at(&self, index: usize) -> usize {
        let page = self.directory[index >> self.chunk_shift] as usize;
        (page << self.page_shift) | ((index & ((1 << self.chunk_shift) - 1)) * BUCKET_BYTES)
    }

    /// Offsets of the two buckets a key may be in.
    #[inline(always)]
    pub fn both(&self, hash: KeyHash) -> (usize, usize) {
        (
            self.bucket_at(self.index(hash.first())),
            self.bucket_at(self.index(hash.second())),
        )
    }

    /// Looks for the entry of a key.
    #[inline(always)]
    pub fn find(&self, memory: &[u8], hash: KeyHash, key: &[u8]) -> Option<Entry> {
        let tag = hash.tag();
        let (first, second) = self.both(hash);
        prefetch::line(memory, second);
        if let Some(entry) = Self::find_in(memory, first, tag, key) {
            return Some(entry);
        }
        Self::find_in(memory, second, tag, key)
    }

    #[inline(always)]
    fn find_in(memory: &[u8], bucket_at: usize, tag: u16, key: &[u8]) -> Option<Entry> {
        let bucket = bucket::view(memory, bucket_at);
        let mut mask = bucket::matches(bucket, tag);
        while mask != 0 {
            let slot = mask.trailing_zeros() as usize;
            let location = bucket::location(bucket, slot);
            if same_key(memory, location, key) {
                return Some(Entry {
                    place: Place { bucket_at, slot },
                    location,
                });
            }
            mask &= mask - 1;
        }
        None
    }

    /// Looks for the entry that leads to `location`, whose key has this hash.
    #[inline]
    pub fn find_location(&self, memory: &[u8], hash: KeyHash, location: usize) -> Option<Place> {
        let tag = hash.tag();
        let (first, second) = self.both(hash);
        for bucket_at in [first, second] {
            let bucket = bucket::view(memory, bucket_at);
            let mut mask = bucket::matches(bucket, tag);
            while mask != 0 {
                let slot = mask.trailing_zeros() as usize;
                if bucket::location(bucket, slot) == location {
                    return Some(Place { bucket_at, slot });
                }
                mask &= mask - 1;
            }
        }
        None
    }

    /// Starts loading both buckets of a key.
    #[inline(always)]
    pub fn prefetch_buckets(&self, memory: &[u8], hash: KeyHash) {
        let (first, second) = self.both(hash);
        prefetch::line(memory, first);
        prefetch::line(memory, second);
    }

    /// Starts loading the items a lookup of this hash would compare. Reads both buckets.
    #[inline(always)]
    pub fn prefetch_item(&self, memory: &[u8], hash: KeyHash) {
        let tag = hash.tag();
        let (first, second) = self.both(hash);
        for bucket_at in [first, second] {
            let bucket = bucket::view(memory, bucket_at);
            let mut mask = bucket::matches(bucket, tag);
            while mask != 0 {
                let location = bucket::location(bucket, mask.trailing_zeros() as usize);
                prefetch::line(memory, location);
                prefetch::line(memory, location + 64);
                mask &= mask - 1;
            }
        }
    }

    /// Adds an entry for a key that has none.
    pub fn insert<M: Memory>(
        &mut self,
        arena: &mut Arena<M>,
        hasher: &KeyHasher,
        hash: KeyHash,
        location: usize,
        frequency: u8,
    ) -> Result<(), NoSlot> {
        let place = self.room_for(arena, hasher, hash).ok_or(NoSlot)?;
        bucket::put(
            arena.bytes_mut(),
            place.bucket_at,
            place.slot,
            hash.tag(),
            location,
            frequency,
        );
        self.entries += 1;
        Ok(())
    }

    fn room_for<M: Memory>(
        &self,
        arena: &mut Arena<M>,
        hasher: &KeyHasher,
        hash: KeyHash,
    ) -> Option<Place> {
        let (first, second) = self.both(hash);
        let free_first = bucket::empties(bucket::view(arena.bytes(), first));
        if SLOTS as u32 - free_first.count_ones() < FIRST_CHOICE_FILL {
            return Some(Place {
                bucket_at: first,
                slot: free_first.trailing_zeros() as usize,
            });
        }
        let free_second = bucket::empties(bucket::view(arena.bytes(), second));
        if free_first | free_second != 0 {
            return Some(if free_second.count_ones() > free_first.count_ones() {
                Place {
                    bucket_at: second,
                    slot: free_second.trailing_zeros() as usize,
                }
            } else {
                Place {
                    bucket_at: first,
                    slot: free_first.trailing_zeros() as usize,
                }
            });
        }
        for depth in 0..DISPLACE_DEPTH {
            for bucket_at in [first, second] {
                if let Some(slot) = self.displace(arena, hasher, bucket_at, depth) {
                    return Some(Place { bucket_at, slot });
                }
            }
        }
        None
    }

    /// Empties one slot of a full bucket by moving its entry to the entry's other bucket; gives the slot.
    ///
    /// Entries only ever move into a bucket with room, so the bucket being helped is not refilled on the way.
    fn displace<M: Memory>(
        &self,
        arena: &mut Arena<M>,
        hasher: &KeyHasher,
        bucket_at: usize,
        depth: u32,
    ) -> Option<usize> {
        let full = *bucket::view(arena.bytes(), bucket_at);
        for slot in 0..SLOTS {
            prefetch::line(arena.bytes(), bucket::location(&full, slot));
        }
        let mut others = [bucket_at; SLOTS];
        for (slot, other) in others.iter_mut().enumerate() {
            let hash = hasher.hash(item::key_at(arena.bytes(), bucket::location(&full, slot)));
            let (first, second) = self.both(hash);
            *other = if first == bucket_at { second } else { first };
        }
        for (slot, &other) in others.iter().enumerate() {
            if depth == 0 {
                let free = bucket::empties(bucket::view(arena.bytes(), other));
                if free != 0 {
                    bucket::move_entry(
                        arena.bytes_mut(),
                        (bucket_at, slot),
                        (other, free.trailing_zeros() as usize),
                    );
                    return Some(slot);
                }
            } else if other != bucket_at
                && let Some(freed) = self.displace(arena, hasher, other, depth - 1)
            {
                bucket::move_entry(arena.bytes_mut(), (bucket_at, slot), (other, freed));
                return Some(slot);
            }
        }
        None
    }

    /// Takes an entry out.
    pub fn remove(&mut self, memory: &mut [u8], place: Place) {
        bucket::clear(memory, place.bucket_at, place.slot);
        self.entries -= 1;
    }

    /// The entry counted least among the two buckets of a key: the one to lose when nothing else makes room.
    pub fn least_frequent(&self, memory: &[u8], hash: KeyHash) -> Entry {
        let (first, second) = self.both(hash);
        [first, second]
            .into_iter()
            .flat_map(|bucket_at| (0..SLOTS).map(move |slot| Place { bucket_at, slot }))
            .filter(|place| bucket::tag(bucket::view(memory, place.bucket_at), place.slot) != 0)
            .min_by_key(|place| {
                bucket::frequency(bucket::view(memory, place.bucket_at), place.slot)
            })
            .map(|place| Entry {
                place,
                location: bucket::location(bucket::view(memory, place.bucket_at), place.slot),
            })
            .expect("a key that found no slot has sixteen neighbours")
    }

    /// Splits buckets until the load is right again, a few at a time. `may_take_page` allows a new chunk.
    #[inline]
    pub fn grow<M: Memory>(
        &mut self,
        arena: &mut Arena<M>,
        hasher: &KeyHasher,
        may_take_page: bool,
    ) {
        if self.entries * 16 <= self.bucket_count * GROW_ABOVE {
            return;
        }
        for _ in 0..SPLITS_PER_INSERT {
            if self.entries * 16 <= self.bucket_count * GROW_ABOVE
                || !self.split(arena, hasher, may_take_page)
            {
                return;
            }
        }
    }

    fn parent_of(child: usize) -> usize {
        child - (1 << (usize::BITS - 1 - child.leading_zeros()))
    }

    fn set_bucket_count(&mut self, count: usize) {
        self.bucket_count = count;
        self.mask = count.next_power_of_two() - 1;
    }

    /// Adds one bucket and moves there what now belongs there.
    fn split<M: Memory>(
        &mut self,
        arena: &mut Arena<M>,
        hasher: &KeyHasher,
        may_take_page: bool,
    ) -> bool {
        let child = self.bucket_count;
        if child >= 1 << 32 {
            return false;
        }
        if child >> self.chunk_shift == self.directory.len() {
            if !may_take_page {
                return false;
            }
            let Some(page) = arena.take(Kind::Table) else {
                return false;
            };
            self.directory.push(page);
        }
        let parent = Self::parent_of(child);
        let parent_at = self.bucket_at(parent);
        let child_at = self.bucket_at(child);
        let old = *bucket::view(arena.bytes(), parent_at);
        let used = !bucket::empties(&old) & 0xff;
        let mut left = used;
        while left != 0 {
            prefetch::line(
                arena.bytes(),
                bucket::location(&old, left.trailing_zeros() as usize),
            );
            left &= left - 1;
        }
        let mut stay = used;
        let mut left = used;
        while left != 0 {
            let slot = left.trailing_zeros() as usize;
            left &= left - 1;
            let hash = hasher.hash(item::key_at(arena.bytes(), bucket::location(&old, slot)));
            // The address that led here decides. When both did, either will do, and the first is asked first later.
            let address = if self.index(hash.first()) == parent {
                hash.first()
            } else {
                hash.second()
            };
            debug_assert_eq!(
                self.index(address),
                parent,
                "an entry stands in one of its two buckets"
            );
            let wide = (child + 1).next_power_of_two() - 1;
            if address as usize & wide == child {
                stay &= !(1 << slot);
            }
        }
        bucket::share_out(
            arena.bytes_mut(),
            &old,
            parent_at,
            stay,
            child_at,
            used & !stay,
        );
        self.set_bucket_count(child + 1);
        // The next split's keys are asked for now: some insertions pass before they are read.
        let next_parent = Self::parent_of(child + 1);
        prefetch::line(arena.bytes(), self.bucket_at(next_parent));
        true
    }

    /// Whether the table is far larger than it needs to be.
    pub fn could_shrink(&self) -> bool {
        self.bucket_count > 1 << self.chunk_shift
            && self.entries * 16 < (self.bucket_count - 1) * SHRINK_BELOW
    }

    /// Undoes the last split. `false` when the entries of the last bucket find no room elsewhere.
    pub fn shrink<M: Memory>(&mut self, arena: &mut Arena<M>, hasher: &KeyHasher) -> bool {
        let child = self.bucket_count - 1;
        let parent = Self::parent_of(child);
        let (child_at, parent_at) = (self.bucket_at(child), self.bucket_at(parent));
        for source_at in [child_at, parent_at] {
            for slot in 0..SLOTS {
                let (child_view, parent_view) = (
                    bucket::view(arena.bytes(), child_at),
                    bucket::view(arena.bytes(), parent_at),
                );
                let free = bucket::empties(child_view).count_ones()
                    + bucket::empties(parent_view).count_ones();
                if free >= SLOTS as u32 {
                    break;
                }
                let source = bucket::view(arena.bytes(), source_at);
                if bucket::tag(source, slot) == 0 {
                    continue;
                }
                let hash = hasher.hash(item::key_at(arena.bytes(), bucket::location(source, slot)));
                let (first, second) = self.both(hash);
                let other = if first == source_at { second } else { first };
                let room = bucket::empties(bucket::view(arena.bytes(), other));
                if other != child_at && other != parent_at && room != 0 {
                    bucket::move_entry(
                        arena.bytes_mut(),
                        (source_at, slot),
                        (other, room.trailing_zeros() as usize),
                    );
                }
            }
        }
        let free_child = bucket::empties(bucket::view(arena.bytes(), child_at));
        let free_parent = bucket::empties(bucket::view(arena.bytes(), parent_at));
        if free_child.count_ones() + free_parent.count_ones() < SLOTS as u32 {
            return false;
        }
        let mut left = !free_child & 0xff;
        let mut room = free_parent;
        while left != 0 {
            let (slot, to) = (
                left.trailing_zeros() as usize,
                room.trailing_zeros() as usize,
            );
            bucket::move_entry(arena.bytes_mut(), (child_at, slot), (parent_at, to));
            left &= left - 1;
            room &= room - 1;
        }
        self.set_bucket_count(child);
        if child & ((1 << self.chunk_shift) - 1) == 0 {
            let page = self
                .directory
                .pop()
                .expect("the last chunk is the one just emptied");
            arena.release(page);
        }
        true
    }
}

/// Whether the item at `location` has this key. The tag has matched already, so it nearly always does.
#[inline(always)]
fn same_key(memory: &[u8], location: usize, key: &[u8]) -> bool {
    let start = location + item::HEADER_BYTES;
    usize::from(memory[location]) == key.len() && memory[start..start + key.len()] == *key
}
