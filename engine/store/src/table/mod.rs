//! The hash table: 64-byte hash buckets in rows and columns.
//!
//! ```text
//!              column 0    column 1    column 2 (being added)
//!   row 0     | bucket |  | bucket |  | bucket |
//!   row 1     | bucket |  | bucket |  | bucket |
//!   row 2     | bucket |  | bucket |              <- cursor: rows from here on have two columns still
//!   row 3     | bucket |  | bucket |
//! ```
//!
//! A key may stand in two rows: one given by its hash, the other by that row and the tag, such that each leads to the
//! other (as in a cuckoo filter). The tag also gives the column (`owners`). So where else an entry may go is told by the
//! entry alone, and no key is read to make room. The number of rows never changes. The table grows by a bucket at a
//! time: the row under the cursor gets one more, and the entries whose tags the new column owns move there. No row is
//! ever much fuller than another, which splitting buckets in halves could not promise: there, buckets still to be split
//! are twice as full as the others, and two choices of a place cannot make up for it. While there is plenty of free memory
//! the table is kept at 0.79 of its slots, where entries are seldom pushed on; as memory fills up it becomes fuller, up to
//! 0.91, and so is never larger than a full memory needs it.
//!
//! A column is some pages of the arena, or one. The table starts with one column, about a 256th of the memory.
//!
//! The rows are made for the memory at the start and there are at most 255 columns. So the table leads to 0.91 * 255 * 9
//! entries a row, or one for every 8 to 16 bytes of the memory at the start (8 when that is a power of two, 16 just
//! below one). Smaller items there cannot be, or hardly; but when a shard grows to eight times that memory, items of
//! less than 63 to 126 bytes fill the table before they fill the memory, and then each new one evicts another
//! (`table_evictions`).
//!
//! Always true: an entry stands in one of the two buckets its key addresses; no location stands in two entries;
//! `entries` counts the slots in use. An empty slot may hold a ghost (`ghosts`), which nothing here but the choice among
//! empty slots takes notice of.

pub(crate) mod bucket;
#[cfg(test)]
mod flood;
pub(crate) mod ghosts;
mod owners;
mod scan;

use crate::item;
use crate::key;
use crate::key::KeyHash;
use crate::prefetch;
use crate::segment::arena::{Arena, Kind, Memory};
use bucket::{BUCKET_BYTES, SLOTS};
use owners::{COLUMNS_MAX, Owners};

/// Bytes of memory to one row.
const MEMORY_TO_ROW: usize = 16 << 10;
/// The first choice is taken while it has fewer entries than this; after that the emptier of both.
const FIRST_CHOICE_FILL: u32 = 5;
/// The table may shrink, when memory is short, below this many eighths of the load at which it grows.
const SHRINK_BELOW_EIGHTHS: usize = 6;
/// Buckets added by one insertion at most. One for every eight insertions is the steady rate.
const STEPS_PER_INSERT: u32 = 2;
/// How far entries are pushed on to make room: `SLOTS` buckets are looked at on the first level, `SLOTS * SLOTS` on the
/// second. In the fullest table one insertion in four pushes an entry on and looks at three.
const DISPLACE_DEPTH: u32 = 2;
/// Buckets to push an entry on to are asked for so many at a time: one of three mostly has room, and more would load
/// lines for nothing.
const DISPLACE_AHEAD: usize = 3;
const _: () = assert!(SLOTS.is_multiple_of(DISPLACE_AHEAD));
/// Bytes of a cache line.
pub(crate) const LINE_BYTES: usize = 64;
/// Buckets whose slots have a bit each in a number of 64 bits.
const MASKS_IN_WORD: usize = u64::BITS as usize / SLOTS;
const _: () = assert!(COLUMNS_MAX * SLOTS <= u16::MAX as usize);
/// Buckets of the next row asked for beforehand.
const ROW_PREFETCH: usize = 24;

/// Load above which the table grows, in entries to 16 buckets (of 144 slots), when memory is short. The first columns make
/// the rows that have them much emptier than those that have not, so they come early; they are small.
fn grow_above(columns: usize) -> usize {
    match columns {
        1 => 79,
        2 => 95,
        3 => 104,
        _ => 131,
    }
}

/// The same, while more than one page in [`ROOMY_ONE_IN`] is free. A table less full pushes fewer entries on, and what it
/// takes more is not missed yet: items of one size that fill the rest of the memory fill the table to what it is told
/// above. How much that is worth: perf/notes/store-sets.md.
const ROOMY_GROW_ABOVE: usize = 114;
/// See [`ROOMY_GROW_ABOVE`].
const ROOMY_ONE_IN: usize = 8;

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Offset of the bucket in the arena.
    pub bucket_at: usize,
    pub slot: usize,
}

/// Slots worth a look. Good until buckets are added or taken away; `slots` until an entry of theirs changes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Candidates {
    first: usize,
    second: usize,
    /// A bit for each slot of the first bucket, then for each of the second.
    slots: u32,
}

impl Candidates {
    /// The first that `look` makes something of.
    ///
    /// In which of the two buckets a key is cannot be guessed, so no branch depends on it: nearly always there is one
    /// candidate or none, and its bucket is picked by arithmetic. A branch guessed wrong costs more than the second scan.
    #[inline(always)]
    fn find<T>(mut self, look: impl Fn(Place) -> Option<T>) -> Option<T> {
        while let Some(place) = self.next() {
            if let Some(found) = look(place) {
                return Some(found);
            }
        }
        None
    }

    /// Takes the next one.
    #[inline(always)]
    fn next(&mut self) -> Option<Place> {
        if self.slots == 0 {
            return None;
        }
        let index = self.slots.trailing_zeros() as usize;
        self.slots &= self.slots - 1;
        let second = 0usize.wrapping_sub(usize::from(index >= SLOTS));
        Some(Place {
            bucket_at: self.first ^ (self.first ^ self.second) & second,
            slot: index - (SLOTS & second),
        })
    }
}

/// The two buckets of a key, found once for several steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    at: (usize, usize),
    /// The table's shape when they were found.
    shape: u32,
}

/// An entry found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub place: Place,
    pub location: usize,
}

/// No row: where none has to be left out.
const NO_ROW: usize = usize::MAX;

/// Both buckets were full and no entry could be pushed on.
#[derive(Debug)]
pub(crate) struct NoSlot;

pub(crate) struct Table {
    /// Where the pages of the columns begin in the arena, one column after the other.
    directory: Vec<usize>,
    owners: Owners,
    /// `log2` of the rows.
    row_shift: u32,
    /// `log2` of the pages of a column.
    column_shift: u32,
    /// Columns that all rows have.
    columns: usize,
    /// Rows below this have one column more.
    cursor: usize,
    /// `log2` of the buckets in a page.
    chunk_shift: u32,
    /// The rows less one: cuts a hash to a row.
    row_mask: usize,
    /// The buckets in a page less one.
    chunk_mask: usize,
    entries: usize,
    ghosts: usize,
    /// What ghosts left now are stamped with, and how many have been.
    ghost_stamp: u8,
    ghosts_in_unit: usize,
    /// `log2` of the bytes in which entries count locations.
    granule_shift: u32,
    /// Entries above which the table grows.
    grow_above: usize,
    /// Whether so much memory is free that the table need not be full.
    roomy: bool,
    /// Changes whenever a bucket is added or taken away, and with it where keys may be.
    shape: u32,
}

impl Table {
    /// A table of one column.
    ///
    /// # Panics
    /// When the arena has too few free pages.
    pub fn new<M: Memory>(arena: &mut Arena<M>) -> Self {
        let page_bytes = arena.page_bytes();
        let chunk_shift = (page_bytes / BUCKET_BYTES).trailing_zeros();
        let wanted = (arena.page_count() * page_bytes / MEMORY_TO_ROW).max(1);
        let row_shift = (usize::BITS - 1 - wanted.leading_zeros()).clamp(chunk_shift, 32);
        // The table can have no more pages than there is room for, so the directory never reallocates; and no more than
        // its columns have.
        let column_shift = row_shift - chunk_shift;
        let mut directory = Vec::with_capacity(arena.most().min(COLUMNS_MAX << column_shift));
        for _ in 0..1usize << column_shift {
            let page = arena
                .take(Kind::Table)
                .expect("a new arena has pages for the table");
            let start = arena.start_of(page);
            arena.bytes_mut()[start..start + page_bytes].fill(0);
            directory.push(start);
        }
        Self {
            directory,
            owners: Owners::new(),
            row_shift,
            column_shift,
            columns: 1,
            cursor: 0,
            chunk_shift,
            row_mask: (1 << row_shift) - 1,
            chunk_mask: (1 << chunk_shift) - 1,
            entries: 0,
            ghosts: 0,
            ghost_stamp: 0,
            ghosts_in_unit: 0,
            granule_shift: arena.pages.granule_shift,
            grow_above: (grow_above(1) << row_shift) / 16,
            roomy: true,
            shape: 0,
        }
    }

    pub fn row_count(&self) -> usize {
        1 << self.row_shift
    }

    /// Buckets of a row.
    pub fn columns_of(&self, row: usize) -> usize {
        self.columns + usize::from(row < self.cursor)
    }

    pub fn entries(&self) -> usize {
        self.entries
    }

    pub fn bucket_count(&self) -> usize {
        (self.columns << self.row_shift) + self.cursor
    }

    /// Where the pages of the table begin.
    pub fn chunks(&self) -> &[usize] {
        &self.directory
    }

    /// Bytes of what is noted beside the arena.
    pub fn side_bytes(&self) -> usize {
        size_of_val(&self.directory[..]) + size_of::<Owners>() + self.owners.side_bytes()
    }

    pub fn chunk_count(&self) -> usize {
        self.directory.len()
    }

    /// Pages of one column: the least the table is ever made of.
    pub fn column_pages(&self) -> usize {
        1 << self.column_shift
    }

    /// Offsets of all buckets.
    pub fn buckets(&self) -> impl Iterator<Item = usize> {
        (0..1usize << self.row_shift).flat_map(move |row| {
            (0..self.columns_of(row)).map(move |column| self.bucket_at(row, column))
        })
    }

    /// The row a hash addresses.
    #[inline(always)]
    fn row(&self, hash: KeyHash) -> usize {
        hash.row() as usize & self.row_mask
    }

    /// The other row of an entry that stands in `row`. It is never the same, and its other row is `row`.
    #[inline(always)]
    fn other_row(&self, row: usize, tag: u16) -> usize {
        row ^ (key::row_step(tag) as usize & self.row_mask)
    }

    /// Where the bucket is that may hold this tag in a row.
    #[inline(always)]
    fn bucket_of(&self, row: usize, tag: u16) -> usize {
        let column = self.owners.of(tag)[usize::from(row < self.cursor)];
        self.bucket_at(row, usize::from(column))
    }

    #[inline(always)]
    pub fn bucket_at(&self, row: usize, column: usize) -> usize {
        self.directory[(column << self.column_shift) + (row >> self.chunk_shift)]
            + (row & self.chunk_mask) * BUCKET_BYTES
    }

    /// Offsets of the two buckets a key may be in.
    #[inline(always)]
    pub fn both(&self, hash: KeyHash) -> (usize, usize) {
        let (row, tag) = (self.row(hash), hash.tag());
        let other = self.other_row(row, tag);
        (self.bucket_of(row, tag), self.bucket_of(other, tag))
    }

    /// Where a key with this tag may be: its two buckets, and the slots of both that have the tag.
    #[inline(always)]
    fn candidates_in(memory: &[u8], (first, second): (usize, usize), tag: u16) -> Candidates {
        let in_first = bucket::matches(bucket::view(memory, first), tag);
        let in_second = bucket::matches(bucket::view(memory, second), tag);
        Candidates {
            first,
            second,
            slots: in_first | in_second << SLOTS,
        }
    }

    /// Where the item of an entry is.
    #[inline(always)]
    pub fn location_at(&self, memory: &[u8], place: Place) -> usize {
        let granules = bucket::location(bucket::view(memory, place.bucket_at), place.slot);
        (granules as usize) << self.granule_shift
    }

    /// Leads an entry to another place.
    #[inline(always)]
    pub fn set_location(&self, memory: &mut [u8], place: Place, location: usize) {
        debug_assert_eq!(location & ((1 << self.granule_shift) - 1), 0);
        let granules = (location >> self.granule_shift) as u64;
        bucket::set_location(memory, place.bucket_at, place.slot, granules);
    }

    /// Looks for the entry of a key with this hash, whose buckets were found before.
    #[inline(always)]
    pub fn find(&self, memory: &[u8], pair: Pair, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        self.find_among(memory, self.candidates_of(memory, pair, hash), key)
    }

    /// As `find`, of the candidates of the key's hash.
    #[inline(always)]
    pub fn find_among(
        &self,
        memory: &[u8],
        mut candidates: Candidates,
        key: &[u8],
    ) -> Option<Entry> {
        // A loop and no closure: the compiler puts a loop in line wherever this is.
        while let Some(place) = candidates.next() {
            let location = self.location_at(memory, place);
            // The value is likely to begin on the next line, or at least to reach into it.
            prefetch::line(memory, location + LINE_BYTES);
            if same_key(memory, location, key) {
                return Some(Entry { place, location });
            }
        }
        None
    }

    /// Looks for the entry that leads to `location`, whose key has this hash.
    pub fn find_location(&self, memory: &[u8], hash: KeyHash, location: usize) -> Option<Place> {
        self.find_location_in(memory, self.both(hash), hash.tag(), location)
    }

    /// As `find_location`, in the two buckets of a key with this tag.
    #[inline(always)]
    pub fn find_location_in(
        &self,
        memory: &[u8],
        both: (usize, usize),
        tag: u16,
        location: usize,
    ) -> Option<Place> {
        Self::candidates_in(memory, both, tag)
            .find(|place| (self.location_at(memory, place) == location).then_some(place))
    }

    /// Starts loading both buckets of a key, and says where they are: good until the table grows or shrinks.
    #[inline(always)]
    pub fn prefetch_buckets(&self, memory: &[u8], hash: KeyHash) -> (usize, usize) {
        let (first, second) = self.both(hash);
        prefetch::line(memory, first);
        prefetch::line(memory, second);
        (first, second)
    }

    /// Both buckets of a key, for a caller that may make the table grow or shrink before it asks for the candidates.
    #[inline(always)]
    pub fn pair(&self, hash: KeyHash) -> Pair {
        Pair {
            at: self.both(hash),
            shape: self.shape,
        }
    }

    /// As `pair`, and starts loading them.
    #[inline(always)]
    pub fn prefetch_pair(&self, memory: &[u8], hash: KeyHash) -> Pair {
        Pair {
            at: self.prefetch_buckets(memory, hash),
            shape: self.shape,
        }
    }

    /// Where a key may be whose buckets were found before.
    #[inline(always)]
    pub fn candidates_of(&self, memory: &[u8], pair: Pair, hash: KeyHash) -> Candidates {
        let at = if pair.shape == self.shape {
            pair.at
        } else {
            self.both(hash)
        };
        Self::candidates_in(memory, at, hash.tag())
    }

    /// Starts loading the first `item_bytes` bytes of the items a lookup of this hash would compare. Reads both buckets.
    #[inline(always)]
    pub fn prefetch_item(&self, memory: &[u8], pair: Pair, hash: KeyHash, item_bytes: usize) {
        self.candidates_of(memory, pair, hash).find(|place| {
            let location = self.location_at(memory, place);
            prefetch_bytes(memory, location, item_bytes);
            None::<()>
        });
    }

    /// Adds an entry for a key that has none. `candidates` are those of its hash.
    #[inline]
    pub fn insert(
        &mut self,
        memory: &mut [u8],
        hash: KeyHash,
        candidates: Candidates,
        location: usize,
        frequency: u8,
    ) -> Result<(), NoSlot> {
        let place = self.room_for(memory, hash, candidates).ok_or(NoSlot)?;
        bucket::put(
            memory,
            place.bucket_at,
            place.slot,
            hash.tag(),
            (location >> self.granule_shift) as u64,
            frequency,
        );
        self.entries += 1;
        Ok(())
    }

    #[inline]
    fn room_for(
        &mut self,
        memory: &mut [u8],
        hash: KeyHash,
        Candidates { first, second, .. }: Candidates,
    ) -> Option<Place> {
        let free_first = bucket::empties(bucket::view(memory, first));
        let count_first = bucket::count(free_first);
        if SLOTS as u32 - count_first < FIRST_CHOICE_FILL {
            return Some(Place {
                bucket_at: first,
                slot: self.claim(memory, first, free_first),
            });
        }
        let free_second = bucket::empties(bucket::view(memory, second));
        if free_first | free_second != 0 {
            return Some(if bucket::count(free_second) > count_first {
                Place {
                    bucket_at: second,
                    slot: self.claim(memory, second, free_second),
                }
            } else {
                Place {
                    bucket_at: first,
                    slot: self.claim(memory, first, free_first),
                }
            });
        }
        self.make_slot(memory, hash, first, second)
    }

    /// Pushes an entry on from one of the two full buckets of a hash.
    #[cold]
    fn make_slot(
        &mut self,
        memory: &mut [u8],
        hash: KeyHash,
        first: usize,
        second: usize,
    ) -> Option<Place> {
        let row = self.row(hash);
        let other = self.other_row(row, hash.tag());
        for depth in 0..DISPLACE_DEPTH {
            for (row, bucket_at) in [(row, first), (other, second)] {
                if let Some(slot) = self.displace(memory, row, bucket_at, depth, NO_ROW) {
                    return Some(Place { bucket_at, slot });
                }
            }
        }
        None
    }

    /// Empties one slot of a full bucket by moving its entry to the entry's other bucket; gives the slot.
    ///
    /// Entries only ever move into a bucket with room, so the bucket being helped is not refilled on the way. No entry
    /// moves into row `except`: whoever empties that row would otherwise get back what he gave away.
    fn displace(
        &mut self,
        memory: &mut [u8],
        row: usize,
        bucket_at: usize,
        depth: u32,
        except: usize,
    ) -> Option<usize> {
        let full = *bucket::view(memory, bucket_at);
        for first in (0..SLOTS).step_by(DISPLACE_AHEAD) {
            let others: [(usize, usize); DISPLACE_AHEAD] = std::array::from_fn(|ahead| {
                let tag = bucket::tag(&full, first + ahead);
                let other = self.other_row(row, tag);
                (other, self.bucket_of(other, tag))
            });
            for (_, other_at) in others {
                prefetch::line(memory, other_at);
            }
            for (slot, (other, other_at)) in (first..).zip(others) {
                if other == except {
                    continue;
                }
                if depth == 0 {
                    let free = bucket::empties(bucket::view(memory, other_at));
                    if free != 0 {
                        let to_slot = self.claim(memory, other_at, free);
                        bucket::move_entry(memory, (bucket_at, slot), (other_at, to_slot));
                        return Some(slot);
                    }
                } else if let Some(freed) =
                    self.displace(memory, other, other_at, depth - 1, except)
                {
                    bucket::move_entry(memory, (bucket_at, slot), (other_at, freed));
                    return Some(slot);
                }
            }
        }
        None
    }

    /// Takes an entry out.
    #[inline]
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
                location: self.location_at(memory, place),
            })
            .expect("a key that found no slot has neighbours")
    }

    /// Adds buckets until the load is right again, a few at a time. `may_take_page` allows another page.
    #[inline]
    pub fn grow<M: Memory>(&mut self, arena: &mut Arena<M>, may_take_page: bool) {
        for _ in 0..STEPS_PER_INSERT {
            if self.entries <= self.grow_above || !self.expand_row(arena, may_take_page) {
                return;
            }
        }
    }

    /// Gives the row under the cursor one bucket more and moves there what it owns. `false` when that cannot be now.
    fn expand_row<M: Memory>(&mut self, arena: &mut Arena<M>, may_take_page: bool) -> bool {
        // A column taken back whole and not begun upon counts as the next one again.
        self.finish_column();
        if self.columns == COLUMNS_MAX {
            return false;
        }
        let (row, column) = (self.cursor, self.columns);
        if row & self.chunk_mask == 0 {
            let index = (column << self.column_shift) + (row >> self.chunk_shift);
            // A page taken for a step that then failed is there already.
            if index == self.directory.len() {
                if !may_take_page {
                    return false;
                }
                let Some(page) = arena.take(Kind::Table) else {
                    return false;
                };
                self.directory.push(arena.start_of(page));
            }
        }
        let memory = arena.bytes_mut();
        let (mut moving, mut count) = self.moving(memory, row, column);
        for depth in 0..=DISPLACE_DEPTH {
            if count <= SLOTS {
                break;
            }
            // Too many for one bucket: some go to their other row, pushing others on if they must.
            for from in 0..column {
                let from_at = self.bucket_at(row, from);
                for slot in 0..SLOTS {
                    let tag = bucket::tag(bucket::view(memory, from_at), slot);
                    if count > SLOTS
                        && tag != 0
                        && usize::from(self.owners.of(tag)[1]) == column
                        && self.move_to_other(memory, row, from_at, slot, depth)
                    {
                        count -= 1;
                    }
                }
            }
            (moving, count) = self.moving(memory, row, column);
        }
        if count > SLOTS {
            return false;
        }
        let mut to = [0; BUCKET_BYTES];
        for (to_slot, from) in moving[..count].iter().enumerate() {
            let (from, slot) = (usize::from(*from) / SLOTS, usize::from(*from) % SLOTS);
            bucket::take_entry(memory, self.bucket_at(row, from), slot, &mut to, to_slot);
        }
        let to_at = self.bucket_at(row, column);
        memory[to_at..to_at + BUCKET_BYTES].copy_from_slice(&to);
        self.cursor += 1;
        self.finish_column();
        self.reshaped();
        // Some insertions pass before the next row's turn.
        for column in 0..self.columns.min(ROW_PREFETCH) {
            prefetch::line(memory, self.bucket_at(self.cursor, column));
        }
        true
    }

    /// A bucket was added or taken away.
    fn reshaped(&mut self) {
        self.shape = self.shape.wrapping_add(1);
        self.follow_load();
    }

    fn follow_load(&mut self) {
        let most = if self.roomy {
            ROOMY_GROW_ABOVE
        } else {
            usize::MAX
        };
        self.grow_above = self.bucket_count() * grow_above(self.columns).min(most) / 16;
    }

    /// So many pages of all are free.
    pub fn follow_free(&mut self, free: usize, pages: usize) {
        self.roomy = free * ROOMY_ONE_IN > pages;
        self.follow_load();
    }

    /// The entries of a row that a new column owns, each as `column * SLOTS + slot`, and how many there are: those beyond
    /// a bucket's are only counted.
    fn moving(&self, memory: &[u8], row: usize, column: usize) -> ([u16; SLOTS], usize) {
        let (mut found, mut count) = ([0; SLOTS], 0);
        // One entry in as many as there are columns moves: a branch at each entry, or each bucket, would often be guessed
        // wrong. So those of several buckets become one number first.
        for first in (0..column).step_by(MASKS_IN_WORD) {
            let mut slots = 0u64;
            for from in first..column.min(first + MASKS_IN_WORD) {
                let bucket = bucket::view(memory, self.bucket_at(row, from));
                let leaving = self.owners.leaving(bucket) & !bucket::empties(bucket);
                slots |= u64::from(leaving) << ((from - first) * SLOTS);
            }
            while slots != 0 {
                if count < SLOTS {
                    found[count] = (first * SLOTS) as u16 + slots.trailing_zeros() as u16;
                }
                count += 1;
                slots &= slots - 1;
            }
        }
        (found, count)
    }

    /// Counts the column under way as there, when all rows have it.
    fn finish_column(&mut self) {
        if self.cursor == 1 << self.row_shift {
            self.cursor = 0;
            self.columns += 1;
            self.owners.advance();
        }
    }

    /// Moves an entry to its other row, if there is room or some can be made within `depth` moves.
    fn move_to_other(
        &mut self,
        memory: &mut [u8],
        row: usize,
        from_at: usize,
        slot: usize,
        depth: u32,
    ) -> bool {
        let tag = bucket::tag(bucket::view(memory, from_at), slot);
        let other = self.other_row(row, tag);
        let other_at = self.bucket_of(other, tag);
        let free = bucket::empties(bucket::view(memory, other_at));
        let room = if free != 0 {
            Some(self.claim(memory, other_at, free))
        } else {
            (0..depth).find_map(|depth| self.displace(memory, other, other_at, depth, row))
        };
        let Some(to_slot) = room else { return false };
        bucket::move_entry(memory, (from_at, slot), (other_at, to_slot));
        true
    }

    /// Whether the table is far larger than it needs to be.
    pub fn could_shrink(&self) -> bool {
        let columns = if self.cursor == 0 {
            self.columns - 1
        } else {
            self.columns
        };
        let shrunk = self.bucket_count() - 1;
        columns > 0 && self.entries * 16 < shrunk * grow_above(columns) / 8 * SHRINK_BELOW_EIGHTHS
    }

    /// Takes the last bucket away. `false` when its entries find no room elsewhere.
    pub fn shrink<M: Memory>(&mut self, arena: &mut Arena<M>) -> bool {
        if self.cursor == 0 {
            self.columns -= 1;
            self.cursor = 1 << self.row_shift;
            self.owners.retreat();
            self.reshaped();
        }
        let (row, column) = (self.cursor - 1, self.columns);
        let from_at = self.bucket_at(row, column);
        // An entry goes back to the column that owned its tag before, or to its other row when that is full.
        for slot in 0..SLOTS {
            let tag = bucket::tag(bucket::view(arena.bytes(), from_at), slot);
            if tag == 0 {
                continue;
            }
            let back = self.owners.of(tag)[0];
            let wanting = (0..SLOTS).filter(|&slot| {
                let tag = bucket::tag(bucket::view(arena.bytes(), from_at), slot);
                tag != 0 && self.owners.of(tag)[0] == back
            });
            let wanting = wanting.count() as u32;
            let free = bucket::empties(bucket::view(
                arena.bytes(),
                self.bucket_at(row, usize::from(back)),
            ));
            if wanting > free.count_ones()
                && !self.move_to_other(arena.bytes_mut(), row, from_at, slot, 0)
            {
                return false;
            }
        }
        for slot in 0..SLOTS {
            let tag = bucket::tag(bucket::view(arena.bytes(), from_at), slot);
            if tag != 0 {
                let to_at = self.bucket_at(row, usize::from(self.owners.of(tag)[0]));
                let free = bucket::empties(bucket::view(arena.bytes(), to_at));
                assert!(free != 0, "room was counted for the entries of row {row}");
                let to_slot = self.claim(arena.bytes(), to_at, free);
                bucket::move_entry(arena.bytes_mut(), (from_at, slot), (to_at, to_slot));
            }
        }
        self.forget_ghosts(arena.bytes(), from_at);
        self.cursor -= 1;
        self.reshaped();
        if row & self.chunk_mask == 0 {
            let start = self
                .directory
                .pop()
                .expect("the last page is the one just emptied");
            arena.release(arena.page_of(start));
        }
        true
    }
}

/// Starts loading the lines of `count` bytes from `location` on.
#[inline(always)]
fn prefetch_bytes(memory: &[u8], location: usize, count: usize) {
    let last = location + count - 1;
    // Where an item begins in its line decides how many lines it reaches into. That cannot be guessed, so the last line
    // may be asked for twice rather than counted.
    let mut at = location;
    prefetch::line(memory, at);
    for _ in 0..count.div_ceil(LINE_BYTES) {
        at = (at + LINE_BYTES).min(last);
        prefetch::line(memory, at);
    }
}

/// Whether the item at `location` has this key. The tag has matched already, so it nearly always does.
#[inline(always)]
fn same_key(memory: &[u8], location: usize, key: &[u8]) -> bool {
    let start = location + item::HEADER_BYTES;
    usize::from(memory[location]) == key.len() && same_bytes(&memory[start..start + key.len()], key)
}

/// Whether two slices of one length are equal. Keys are short: for them words compared in place beat a call.
#[inline(always)]
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let word = |bytes: &[u8], at: usize| {
        u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    };
    let len = b.len();
    if a.len() != len {
        return false;
    }
    if !(8..=32).contains(&len) {
        return a == b;
    }
    // The words overlap where the length is not a multiple of eight.
    let mut differ = word(a, 0) ^ word(b, 0) | word(a, len - 8) ^ word(b, len - 8);
    if len > 16 {
        differ |= word(a, 8) ^ word(b, 8) | word(a, len - 16) ^ word(b, len - 16);
    }
    differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_bytes_sees_each_byte() {
        for len in 0..=40usize {
            let a: Vec<u8> = (0..len as u8).collect();
            assert!(same_bytes(&a, &a.clone()));
            for at in 0..len {
                let mut b = a.clone();
                b[at] ^= 0x80;
                assert!(!same_bytes(&a, &b), "byte {at} of {len}");
            }
        }
        assert!(!same_bytes(&[1; 9], &[1; 8]));
    }
}
