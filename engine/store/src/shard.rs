//! The shard: the only type that sees the table, the segments and the time together.
//!
//! Always true between two calls: every item not marked dead has one entry in the table and every entry leads to such
//! an item; the notes of each page agree with the items in it (`audit` recounts both).

use crate::counters::{Counters, Usage};
use crate::item::{self, Header};
use crate::key::{KEY_BYTES_MAX, Key, KeyHasher};
use crate::number;
use crate::reclaim::Reclaim;
use crate::segment::arena::{Arena, Kind, LOCATION_BITS, Memory, NO_PAGE, PAGE_BYTES_MIN};
use crate::segment::chains::Chains;
use crate::table::{Entry, LINE_BYTES, Place, Table, bucket};
use crate::ttl::{Deadline, NEVER, Seconds, TtlBuckets};
use crate::value::{self, Hit, ItemRef, Placement, Value};

/// What memcached charges an item besides key, value and flags: its header, the CAS unique, the key's NUL, and CR LF.
const MEMCACHED_ITEM_BYTES: usize = 48 + 8 + 1 + 2;
/// The least memory a shard works in.
const MEMORY_BYTES_MIN: usize = 1 << 20;
/// The largest item limit.
const ITEM_MAX_BYTES: u32 = 1 << 30;
/// A touch that shortens the life of an item leaves it in place if its segment lives no longer than this besides twice
/// the new ttl; otherwise the item moves where its space comes back in time.
const TOUCH_SLACK_SECONDS: u32 = 60;
/// Up to this count the frequency of an item counts every fetch; above, one in `frequency`.
const FREQUENCY_EXACT: u8 = 16;
/// Cache lines of an item a prefetch asks for at most; the processor itself follows a longer run.
const PREFETCH_LINES_MAX: usize = 4;
/// The frequency stops here.
const FREQUENCY_MAX: u8 = 127;

/// What happens when memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The popular items of old segments are packed together and the others dropped; a store always finds room.
    Merge,
    /// Nothing is dropped; a store that finds no room answers [`SetOutcome::NoMemory`].
    None,
}

/// What a shard is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// The largest item, counted as memcached counts (see [`Shard::item_max_value`]): 1 KiB to 1 GiB, and no more than
    /// half of the shard's memory.
    pub item_max_bytes: u32,
    /// What happens when memory is full.
    pub eviction: Eviction,
    /// Seeds the sampling of fetch frequencies. Not the hash: that is the [`KeyHasher`]'s.
    pub seed: u64,
}

/// The memory is too small for a shard with these limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// Bytes passed in.
    pub have_bytes: usize,
    /// Bytes needed: 1 MiB, or twice the largest item.
    pub need_bytes: usize,
}

impl std::fmt::Display for TooSmall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a shard needs {} bytes of memory (at least twice the largest item) but has {}",
            self.need_bytes, self.have_bytes
        )
    }
}

impl std::error::Error for TooSmall {}

/// What is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewItem<'a> {
    /// Opaque to the store; costs four bytes unless zero.
    pub flags: u32,
    /// When the item dies. One that has passed already removes the old item and stores nothing.
    pub deadline: Deadline,
    /// The value.
    pub value: &'a [u8],
}

/// Whether a lookup hands out the CAS unique. One that is handed out may cost the item eight bytes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// [`Hit::cas`] is zero.
    Unasked,
    /// [`Hit::cas`] is the unique.
    Wanted,
}

/// How a store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// The item is there (or was stored with a deadline in the past).
    Stored,
    /// The condition of add, replace, append or prepend was not met.
    NotStored,
    /// The CAS unique is another one by now.
    Exists,
    /// Compare-and-swap of an item that is not there.
    NotFound,
    /// Larger than the limit. A set also removed the old item.
    TooLarge,
    /// No room, and nothing may be (or, with too many loans, could be) dropped. A set also removed the old item.
    NoMemory,
}

/// How a delete ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It was there.
    Deleted,
    /// It was not.
    NotFound,
}

/// How a touch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchOutcome {
    /// The item has the new deadline.
    Touched,
    /// There is no such item.
    NotFound,
    /// The item would have had to move and there was no room; it keeps its old deadline.
    NoMemory,
}

/// Which way a number goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Up, wrapping at 2^64.
    Incr,
    /// Down, stopping at 0.
    Decr,
}

/// How incr or decr ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithOutcome {
    /// The new number.
    Value(u64),
    /// There is no such item.
    NotFound,
    /// The value is not a number as memcached reads it, or is large.
    NonNumeric,
    /// The number grew and there was no room for it; the old one stays.
    NoMemory,
}

/// Under which condition an item is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Absent,
    Present,
    Unique(u64),
}

/// Why an item leaves the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Command,
    Expired,
    Flushed,
    Evicted,
}

/// What is written with a new item besides its value.
struct Draft<'a> {
    key: Key<'a>,
    flags: u32,
    deadline: u32,
    value_len: usize,
    bits: u8,
}

/// A new item, in its segment but not in the table yet.
struct Written {
    location: usize,
    placement: Placement,
}

/// There is no room and none can be made.
pub(crate) struct NoMemory;

/// One shard of the cache. `M` is its memory: any slice of bytes, whose contents at the start do not matter.
pub struct Shard<M> {
    pub(crate) arena: Arena<M>,
    pub(crate) table: Table,
    pub(crate) chains: Chains,
    pub(crate) ttl: TtlBuckets,
    pub(crate) hasher: KeyHasher,
    pub(crate) eviction: Eviction,
    pub(crate) counters: Counters,
    pub(crate) reclaim: Reclaim,
    item_max_bytes: usize,
    /// Epoch of the next segment opened.
    next_epoch: u64,
    /// Items of segments of an earlier epoch are flushed.
    pub(crate) flush_epoch: u64,
    /// When a delayed flush comes due; `NEVER` when none is pending.
    flush_at: u32,
    random: u64,
    /// Cache lines an item of average size reaches into at most, for prefetching.
    prefetch_lines: usize,
}

impl<M: Memory> Shard<M> {
    /// A shard in `memory`. Allocates its notes (64 bytes a page and some more) here and nothing later.
    ///
    /// # Errors
    /// [`TooSmall`] when `memory` is less than 1 MiB or less than twice the largest item.
    ///
    /// # Panics
    /// When the item limit is not between 1 KiB and 1 GiB.
    pub fn new(memory: M, hasher: KeyHasher, config: ShardConfig) -> Result<Self, TooSmall> {
        assert!(
            (1024..=ITEM_MAX_BYTES).contains(&config.item_max_bytes),
            "the item limit of {} bytes is not between 1 KiB and 1 GiB",
            config.item_max_bytes
        );
        let have_bytes = memory.as_ref().len();
        let need_bytes = MEMORY_BYTES_MIN.max(2 * config.item_max_bytes as usize);
        if have_bytes < need_bytes {
            return Err(TooSmall {
                have_bytes,
                need_bytes,
            });
        }
        let mut arena = Arena::new(memory);
        let table = Table::new(&mut arena);
        let ttl = TtlBuckets::new(arena.page_count());
        Ok(Self {
            table,
            chains: Chains::new(ttl.count()),
            ttl,
            hasher,
            eviction: config.eviction,
            counters: Counters::default(),
            reclaim: Reclaim::new(arena.page_count()),
            item_max_bytes: config.item_max_bytes as usize,
            next_epoch: 1,
            flush_epoch: 0,
            flush_at: NEVER,
            random: config.seed | 1,
            prefetch_lines: 2,
            arena,
        })
    }

    /// The largest value accepted for a key of `key_len` bytes: memcached's own sum, so that both refuse the same
    /// items. (With the default of 1 MiB: 1 048 517 less the key, less 4 when flags are not 0.) Saturates at 0.
    #[must_use]
    pub fn item_max_value(&self, key_len: usize, flags: u32) -> usize {
        let flags_bytes = if flags == 0 { 0 } else { item::FLAGS_BYTES };
        self.item_max_bytes
            .saturating_sub(MEMCACHED_ITEM_BYTES + key_len + flags_bytes)
    }

    /// Starts loading the hash buckets of a key. First of two steps that make a batch of lookups overlap.
    #[inline]
    pub fn prefetch_buckets(&self, hash: crate::KeyHash) {
        self.table.prefetch_buckets(self.arena.bytes(), hash);
    }

    /// Starts loading the items a lookup of this hash would read. Second step, when the buckets have arrived.
    #[inline]
    pub fn prefetch_item(&self, hash: crate::KeyHash) {
        self.table
            .prefetch_item(self.arena.bytes(), hash, self.prefetch_lines);
    }

    /// Looks a key up and counts the fetch.
    #[inline(always)]
    pub fn get(&mut self, key: Key<'_>, now: Seconds, unique: Unique) -> Option<Hit<'_>> {
        let (entry, mut header, deadline) = self.fetch(key, now.0)?;
        self.bump(entry.place);
        let first_fetch = !header.has(item::FETCHED);
        let wanted = item::FETCHED
            | if unique == Unique::Wanted {
                item::SEEN
            } else {
                0
            };
        if header.bits & wanted != wanted {
            header.bits |= wanted;
            header.write(self.arena.bytes_mut(), entry.location);
        }
        Some(self.hit(entry.location, header, deadline, unique, first_fetch))
    }

    /// Gives the item a new deadline and looks it up. When it cannot be moved for lack of memory it keeps the old
    /// deadline. A deadline that has passed hands the value out for the last time (only without memory to move it, and
    /// with a segment that cannot tell the present second, the item is removed and this is a miss).
    pub fn get_and_touch(
        &mut self,
        key: Key<'_>,
        deadline: Deadline,
        now: Seconds,
        unique: Unique,
    ) -> Option<Hit<'_>> {
        if deadline.raw() <= now.0 {
            return self.get_last(key, now, unique);
        }
        self.touch(key, deadline, now);
        self.get(key, now, unique)
    }

    /// Looks a key up and ends its life: the value is handed out once more, the next reader misses.
    fn get_last(&mut self, key: Key<'_>, now: Seconds, unique: Unique) -> Option<Hit<'_>> {
        let (entry, mut header, _) = self.fetch(key, now.0)?;
        if self.set_deadline(entry.location, header, now.0) {
            let first_fetch = !header.has(item::FETCHED);
            header = Header::read(self.arena.bytes(), entry.location);
            header.bits |= item::FETCHED;
            header.write(self.arena.bytes_mut(), entry.location);
            return Some(self.hit(entry.location, header, now.0, unique, first_fetch));
        }
        // Its segment is months old and cannot tell the present, so the item moves to one that can.
        if self.touch(key, Deadline::At(Seconds(now.0 + 1)), now) == TouchOutcome::Touched {
            return self.get_last(key, now, unique);
        }
        self.unlink(key);
        None
    }

    #[inline(always)]
    fn hit(
        &self,
        location: usize,
        header: Header,
        deadline: u32,
        unique: Unique,
        first_fetch: bool,
    ) -> Hit<'_> {
        let memory = self.arena.bytes();
        let page = self.arena.page(self.arena.page_of(location));
        let placement = Placement::of(memory, location, header);
        Hit {
            flags: header.flags(memory, location),
            cas: if unique == Unique::Wanted {
                self.unique_of(location, header)
            } else {
                0
            },
            deadline: Deadline::from_raw(deadline),
            value: Value::new(memory, &self.arena.pages, placement),
            item: ItemRef {
                location,
                epoch: page.epoch,
            },
            first_fetch,
        }
    }

    /// The CAS unique: written in the item, or else made of when its segment was opened and where in it the item is.
    /// Both grow only, so no unique returns.
    #[inline]
    pub(crate) fn unique_of(&self, location: usize, header: Header) -> u64 {
        if header.has(item::CAS) {
            return item::read_u64(self.arena.bytes(), header.unique_at(location));
        }
        let page = self.arena.page_of(location);
        self.arena.page(page).epoch << 20 | (location - self.arena.start_of(page)) as u64
    }

    /// Counts a fetch in the table entry: exactly while it is small, by chance later, so it grows like a logarithm.
    #[inline(always)]
    fn bump(&mut self, place: Place) {
        let frequency = bucket::frequency(
            bucket::view(self.arena.bytes(), place.bucket_at),
            place.slot,
        );
        if frequency >= FREQUENCY_MAX {
            return;
        }
        if frequency >= FREQUENCY_EXACT && !self.one_in(u32::from(frequency)) {
            return;
        }
        bucket::set_frequency(
            self.arena.bytes_mut(),
            place.bucket_at,
            place.slot,
            frequency + 1,
        );
    }

    /// True with a chance of one in `count`.
    #[inline(always)]
    fn one_in(&mut self, count: u32) -> bool {
        ((self.random() >> 32) * u64::from(count)) >> 32 == 0
    }

    #[inline(always)]
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// The visible item of a key. An item met after its deadline or a flush is removed on the spot.
    #[inline(always)]
    pub(crate) fn lookup(&mut self, key: Key<'_>, now: u32) -> Option<(Entry, Header)> {
        let (entry, header, _) = self.find_visible(key, now).ok()?;
        Some((entry, header))
    }

    /// As `lookup`, for commands that fetch: tells the deadline too, and counts what made it miss.
    #[inline(always)]
    fn fetch(&mut self, key: Key<'_>, now: u32) -> Option<(Entry, Header, u32)> {
        match self.find_visible(key, now) {
            Ok(found) => Some(found),
            Err(reason) => {
                match reason {
                    Some(Reason::Expired) => self.counters.get_expired += 1,
                    Some(Reason::Flushed) => self.counters.get_flushed += 1,
                    _ => {}
                }
                None
            }
        }
    }

    #[inline(always)]
    fn find_visible(
        &mut self,
        key: Key<'_>,
        now: u32,
    ) -> Result<(Entry, Header, u32), Option<Reason>> {
        self.pass_time(now);
        let Some(entry) = self.table.find(self.arena.bytes(), key.hash, key.bytes) else {
            return Err(None);
        };
        let header = Header::read(self.arena.bytes(), entry.location);
        let deadline = self.deadline_of(entry.location, header);
        match self.gone(entry.location, deadline, now) {
            None => Ok((entry, header, deadline)),
            Some(reason) => {
                self.bury(entry, header, reason);
                Err(Some(reason))
            }
        }
    }

    /// Why an item must not be seen, if it must not.
    #[inline(always)]
    pub(crate) fn gone(&self, location: usize, deadline: u32, now: u32) -> Option<Reason> {
        let page = self.arena.page(self.arena.page_of(location));
        if page.epoch < self.flush_epoch {
            Some(Reason::Flushed)
        } else if deadline <= now {
            Some(Reason::Expired)
        } else {
            None
        }
    }

    /// Runs a delayed flush that has come due.
    #[inline(always)]
    pub(crate) fn pass_time(&mut self, now: u32) {
        if now >= self.flush_at {
            self.flush_now();
        }
    }

    /// Stores whether or not the key is there.
    pub fn set(&mut self, key: Key<'_>, item: NewItem<'_>, now: Seconds) -> SetOutcome {
        self.store(key, item, Condition::Always, now)
    }

    /// Stores if the key is not there; otherwise counts as a fetch of what is.
    pub fn add(&mut self, key: Key<'_>, item: NewItem<'_>, now: Seconds) -> SetOutcome {
        self.store(key, item, Condition::Absent, now)
    }

    /// Stores if the key is there.
    pub fn replace(&mut self, key: Key<'_>, item: NewItem<'_>, now: Seconds) -> SetOutcome {
        self.store(key, item, Condition::Present, now)
    }

    /// Stores if the key is there and its CAS unique is still `unique`.
    pub fn compare_and_swap(
        &mut self,
        key: Key<'_>,
        item: NewItem<'_>,
        unique: u64,
        now: Seconds,
    ) -> SetOutcome {
        self.store(key, item, Condition::Unique(unique), now)
    }

    fn store(
        &mut self,
        key: Key<'_>,
        item: NewItem<'_>,
        condition: Condition,
        now: Seconds,
    ) -> SetOutcome {
        let key_len = key.bytes.len();
        assert!(
            (1..=KEY_BYTES_MAX).contains(&key_len),
            "a key of {key_len} bytes"
        );
        let now = now.0;
        // The buckets arrive while the item is being written.
        self.table.prefetch_buckets(self.arena.bytes(), key.hash);
        self.pass_time(now);
        let outcome = if item.value.len() > self.item_max_value(key_len, item.flags) {
            self.counters.too_large += 1;
            SetOutcome::TooLarge
        } else {
            if condition != Condition::Always {
                let found = self.lookup(key, now);
                let refusal = match (condition, found) {
                    (Condition::Absent, Some((entry, _))) => {
                        self.bump(entry.place);
                        Some(SetOutcome::NotStored)
                    }
                    (Condition::Present, None) => Some(SetOutcome::NotStored),
                    (Condition::Unique(_), None) => Some(SetOutcome::NotFound),
                    (Condition::Unique(unique), Some((entry, header)))
                        if self.unique_of(entry.location, header) != unique =>
                    {
                        Some(SetOutcome::Exists)
                    }
                    _ => None,
                };
                if let Some(refusal) = refusal {
                    return refusal;
                }
            }
            let deadline = item.deadline.raw();
            if deadline <= now {
                self.unlink(key);
                return SetOutcome::Stored;
            }
            let draft = Draft {
                key,
                flags: item.flags,
                deadline,
                value_len: item.value.len(),
                bits: 0,
            };
            match self.write(&draft, now) {
                Ok(written) => {
                    value::write(&mut self.arena, &written.placement, 0, item.value);
                    match self.publish(key, written.location) {
                        Ok(()) => SetOutcome::Stored,
                        Err(NoMemory) => SetOutcome::NoMemory,
                    }
                }
                Err(NoMemory) => SetOutcome::NoMemory,
            }
        };
        if outcome == SetOutcome::NoMemory {
            self.counters.no_memory += 1;
        }
        if outcome != SetOutcome::Stored && condition == Condition::Always {
            // As memcached does: rather no value than one its writer believes replaced.
            self.unlink(key);
        }
        outcome
    }

    /// Adds bytes after the value. Flags and deadline stay.
    pub fn append(&mut self, key: Key<'_>, bytes: &[u8], now: Seconds) -> SetOutcome {
        self.extend(key, bytes, now.0, true)
    }

    /// Adds bytes before the value. Flags and deadline stay.
    pub fn prepend(&mut self, key: Key<'_>, bytes: &[u8], now: Seconds) -> SetOutcome {
        self.extend(key, bytes, now.0, false)
    }

    fn extend(&mut self, key: Key<'_>, bytes: &[u8], now: u32, after: bool) -> SetOutcome {
        if bytes.len() > self.item_max_value(key.bytes.len(), 0) {
            self.counters.too_large += 1;
            return SetOutcome::TooLarge;
        }
        let Some((entry, header)) = self.lookup(key, now) else {
            return SetOutcome::NotStored;
        };
        let flags = header.flags(self.arena.bytes(), entry.location);
        let old = Placement::of(self.arena.bytes(), entry.location, header);
        let value_len = old.len + bytes.len();
        if value_len > self.item_max_value(key.bytes.len(), flags) {
            return SetOutcome::NotStored;
        }
        let draft = Draft {
            key,
            flags,
            deadline: self.deadline_of(entry.location, header),
            value_len,
            bits: header.bits & item::FETCHED,
        };
        let Ok(written) = self.write(&draft, now) else {
            self.counters.no_memory += 1;
            return SetOutcome::NotStored;
        };
        // Making room may have moved the old item, or dropped it.
        let Some((entry, header)) = self.lookup(key, now) else {
            self.discard(written.location);
            return SetOutcome::NotStored;
        };
        let old = Placement::of(self.arena.bytes(), entry.location, header);
        let (old_from, new_from) = if after {
            (0, old.len)
        } else {
            (bytes.len(), 0)
        };
        value::copy(&mut self.arena, &old, &written.placement, old_from);
        value::write(&mut self.arena, &written.placement, new_from, bytes);
        self.replace_entry(entry, written.location);
        SetOutcome::Stored
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

    /// Removes a key without an answer and without asking the time: for a set that has failed before it got here.
    pub fn unlink(&mut self, key: Key<'_>) {
        if let Some(entry) = self.table.find(self.arena.bytes(), key.hash, key.bytes) {
            let header = Header::read(self.arena.bytes(), entry.location);
            self.bury(entry, header, Reason::Command);
        }
    }

    /// Adds to or subtracts from a number. As in memcached the value keeps its length when the result is shorter
    /// (padded with spaces) and grows when it is longer; flags and deadline stay.
    pub fn arith(
        &mut self,
        key: Key<'_>,
        arithmetic: Arithmetic,
        delta: u64,
        now: Seconds,
    ) -> ArithOutcome {
        let now = now.0;
        let Some((entry, header)) = self.lookup(key, now) else {
            return ArithOutcome::NotFound;
        };
        if header.has(item::LARGE) {
            return ArithOutcome::NonNumeric;
        }
        let value_at = header.value_at(entry.location);
        let old_len = header.value_len as usize;
        let Some(old) = number::parse(&self.arena.bytes()[value_at..value_at + old_len]) else {
            return ArithOutcome::NonNumeric;
        };
        let new = match arithmetic {
            Arithmetic::Incr => old.wrapping_add(delta),
            Arithmetic::Decr => old.saturating_sub(delta),
        };
        let mut buffer = [0; number::DIGITS_MAX];
        let digits = number::write(&mut buffer, new);
        let page = self.arena.page_of(entry.location);
        let page = self.arena.page(page);
        // A unique that somebody knows must change, and bytes that somebody reads must not.
        if digits.len() <= old_len && !header.has(item::SEEN) && page.loans == 0 {
            fill_number(self.arena.bytes_mut(), value_at, old_len, digits);
            return ArithOutcome::Value(new);
        }
        let value_len = old_len.max(digits.len());
        let draft = Draft {
            key,
            flags: header.flags(self.arena.bytes(), entry.location),
            deadline: self.deadline_of(entry.location, header),
            value_len,
            bits: header.bits & item::FETCHED,
        };
        let Ok(written) = self.write(&draft, now) else {
            self.counters.no_memory += 1;
            return ArithOutcome::NoMemory;
        };
        fill_number(
            self.arena.bytes_mut(),
            written.placement.head_at,
            value_len,
            digits,
        );
        match self.publish(key, written.location) {
            Ok(()) => ArithOutcome::Value(new),
            Err(NoMemory) => ArithOutcome::NoMemory,
        }
    }

    /// Gives an item a new deadline. Its CAS unique stays.
    pub fn touch(&mut self, key: Key<'_>, deadline: Deadline, now: Seconds) -> TouchOutcome {
        let (deadline, now) = (deadline.raw(), now.0);
        let Some((entry, header)) = self.lookup(key, now) else {
            return TouchOutcome::NotFound;
        };
        if deadline <= now {
            self.bury(entry, header, Reason::Command);
            return TouchOutcome::Touched;
        }
        if self.touch_in_place(entry.location, header, deadline, now) {
            return TouchOutcome::Touched;
        }
        let size = moved_size(header, deadline, now);
        let Ok(page) = self.make_room(size, 0, deadline, now) else {
            return TouchOutcome::NoMemory;
        };
        let Some((entry, header)) = self.lookup(key, now) else {
            return TouchOutcome::NotFound;
        };
        self.relocate(entry.place, entry.location, header, page, deadline, now);
        TouchOutcome::Touched
    }

    fn touch_in_place(&mut self, location: usize, header: Header, deadline: u32, now: u32) -> bool {
        let index = self.arena.page_of(location);
        let page = self.arena.page(index);
        // The open segment would take the item as a new one, so it may as well keep it.
        let at_home = page.kind == Kind::Open
            && usize::from(page.ttl_bucket) == self.ttl.index(deadline, now);
        if !at_home && deadline != page.max_deadline {
            let pinned = page.max_deadline - now;
            let too_long = page.max_deadline == NEVER
                || pinned / 2 > (deadline - now).saturating_add(TOUCH_SLACK_SECONDS);
            if deadline > page.max_deadline || too_long {
                return false;
            }
        }
        if !self.set_deadline(location, header, deadline) {
            return false;
        }
        let page = self.arena.page_mut(index);
        page.max_deadline = page.max_deadline.max(deadline);
        true
    }

    /// Writes a deadline into an item where it is, if the item can tell it.
    fn set_deadline(&mut self, location: usize, mut header: Header, deadline: u32) -> bool {
        if header.has(item::FAR) {
            if deadline == NEVER {
                return false;
            }
            item::write_u32(self.arena.bytes_mut(), header.far_at(location), deadline);
            return true;
        }
        let base = self.arena.page(self.arena.page_of(location)).base;
        let Some(delta) = delta_of(base, deadline) else {
            return false;
        };
        header.delta = delta;
        header.write(self.arena.bytes_mut(), location);
        true
    }

    /// When an item dies.
    #[inline(always)]
    pub(crate) fn deadline_of(&self, location: usize, header: Header) -> u32 {
        if header.delta == item::DELTA_NEVER {
            NEVER
        } else if header.has(item::FAR) {
            item::read_u32(self.arena.bytes(), header.far_at(location))
        } else {
            self.arena.page(self.arena.page_of(location)).base + header.delta
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
        }
        self.flush_epoch = self.next_epoch;
        self.reclaim.look_again(self.arena.page_count());
    }

    /// Totals and present state.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sets the totals of [`Shard::counters`] to zero; what is held now stays counted.
    pub fn reset_counters(&mut self) {
        self.counters.reset();
    }

    /// How the memory is used. Walks the notes of all pages.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage {
            page_bytes: self.arena.page_bytes(),
            pages_total: self.arena.page_count(),
            pages_free: self.arena.free_count(),
            pages_lent: self.arena.lent_count(),
            items: self.counters.items,
            bytes: self.counters.bytes,
            hash_buckets: self.table.bucket_count(),
            hash_entries: self.table.entries(),
            side_bytes: size_of_val(&self.arena.pages.list[..])
                + size_of_val(&self.chains.chains[..])
                + self.table.side_bytes(),
            ..Usage::default()
        };
        for page in &self.arena.pages.list {
            match page.kind {
                Kind::Free => {}
                Kind::Table => usage.pages_table += 1,
                Kind::Open | Kind::Sealed | Kind::Target => usage.pages_segment += 1,
                Kind::Extension => usage.pages_extension += 1,
                Kind::Zombie => usage.pages_zombie += 1,
            }
        }
        usage
    }

    /// Whether an open segment takes an item of `size` bytes with this deadline.
    #[inline]
    fn accepts(&self, page: u32, size: usize, deadline: u32, now: u32) -> bool {
        let notes = self.arena.page(page);
        notes.used as usize + size <= self.arena.page_bytes()
            && (deadline == NEVER
                || now.saturating_sub(notes.opened_at) <= self.ttl.seal_age(deadline - now))
    }

    /// Finds or opens a segment with room for an item of `size` bytes, and sees to it that `extensions` pages are free.
    #[inline]
    fn make_room(
        &mut self,
        size: usize,
        extensions: usize,
        deadline: u32,
        now: u32,
    ) -> Result<u32, NoMemory> {
        self.keep_pace(size + extensions * self.arena.page_bytes(), now);
        let chain = self.ttl.index(deadline, now);
        let open = self.chains.chains[chain].open;
        if extensions == 0 && open != NO_PAGE && self.accepts(open, size, deadline, now) {
            return Ok(open);
        }
        self.make_room_slowly(size, extensions, deadline, now)
    }

    #[cold]
    fn make_room_slowly(
        &mut self,
        size: usize,
        extensions: usize,
        deadline: u32,
        now: u32,
    ) -> Result<u32, NoMemory> {
        debug_assert!(size <= self.arena.page_bytes());
        let chain = self.ttl.index(deadline, now);
        loop {
            let open = self.chains.chains[chain].open;
            if open != NO_PAGE && !self.accepts(open, size, deadline, now) {
                self.chains.seal(&mut self.arena, open);
                self.free_if_empty(open);
            }
            let open = self.chains.chains[chain].open;
            let need = extensions + usize::from(open == NO_PAGE);
            if self.may_take(need) {
                if open != NO_PAGE {
                    return Ok(open);
                }
                let page = self
                    .open_segment(Kind::Open, chain, now)
                    .expect("a page was free");
                return Ok(page);
            }
            self.reclaim_by_force(need, now)?;
        }
    }

    /// Opens a segment at the young end of its chain.
    pub(crate) fn open_segment(&mut self, kind: Kind, ttl_bucket: usize, now: u32) -> Option<u32> {
        let page = self.arena.take(kind)?;
        let notes = self.arena.page_mut(page);
        notes.epoch = self.next_epoch;
        notes.base = now;
        notes.opened_at = now;
        notes.ttl_bucket = ttl_bucket as u16;
        self.next_epoch += 1;
        // Sizes change slowly, so a look at each new segment is enough.
        let average = (self.counters.bytes / self.counters.items.max(1)) as usize;
        self.prefetch_lines = (1 + (average + LINE_BYTES - 2) / LINE_BYTES).min(PREFETCH_LINES_MAX);
        self.chains.push(&mut self.arena, page);
        Some(page)
    }

    /// Takes `size` bytes at the end of a segment for an item that is live from now on.
    pub(crate) fn reserve(&mut self, page: u32, size: usize, deadline: u32) -> usize {
        let start = self.arena.start_of(page);
        let page_bytes = self.arena.page_bytes();
        let notes = self.arena.page_mut(page);
        let at = start + notes.used as usize;
        notes.used += size as u32;
        assert!(
            notes.used as usize <= page_bytes,
            "segment {page} would hold {} of {page_bytes} bytes",
            notes.used
        );
        notes.live_bytes += size as u32;
        notes.live_items += 1;
        notes.max_deadline = notes.max_deadline.max(deadline);
        at
    }

    /// Writes all of a new item but its value.
    fn write(&mut self, draft: &Draft<'_>, now: u32) -> Result<Written, NoMemory> {
        let key_len = draft.key.bytes.len();
        let flags_bytes = if draft.flags == 0 {
            0
        } else {
            item::FLAGS_BYTES
        };
        let far = TtlBuckets::is_far(draft.deadline, now);
        let fixed =
            item::HEADER_BYTES + key_len + flags_bytes + if far { item::FAR_BYTES } else { 0 };
        let (head_len, extensions) = value::cut(self.arena.page_bytes(), fixed, draft.value_len);
        let large_bytes = if extensions == 0 {
            0
        } else {
            item::LARGE_BYTES
        };
        let size = fixed + large_bytes + head_len;
        let page = self.make_room(size, extensions, draft.deadline, now)?;
        let location = self.reserve(page, size, draft.deadline);
        let header = Header {
            key_len: key_len as u8,
            bits: draft.bits
                | if draft.flags == 0 { 0 } else { item::FLAGS }
                | if extensions == 0 { 0 } else { item::LARGE },
            value_len: head_len as u32,
            delta: if far {
                0
            } else {
                delta_of(self.arena.page(page).base, draft.deadline).expect(NEAR)
            },
        };
        let header = Header {
            bits: header.bits | if far { item::FAR } else { 0 },
            ..header
        };
        let mut first_page = NO_PAGE;
        for _ in 0..extensions {
            // Last page first, so that each knows the next.
            let extension = self.arena.take(Kind::Extension).expect("room was made");
            self.arena.page_mut(extension).next = first_page;
            first_page = extension;
        }
        let memory = self.arena.bytes_mut();
        header.write(memory, location);
        let key_at = location + item::HEADER_BYTES;
        memory[key_at..key_at + key_len].copy_from_slice(draft.key.bytes);
        if draft.flags != 0 {
            item::write_u32(memory, key_at + key_len, draft.flags);
        }
        if far {
            item::write_u32(memory, header.far_at(location), draft.deadline);
        }
        if extensions != 0 {
            let large_at = header.value_at(location) - item::LARGE_BYTES;
            item::write_u32(memory, large_at, first_page);
            item::write_u32(memory, large_at + 4, draft.value_len as u32);
        }
        self.counters.items += 1;
        self.counters.total_items += 1;
        self.counters.bytes += (size + extensions * self.arena.page_bytes()) as u64;
        let placement = Placement {
            head_at: header.value_at(location),
            head_len,
            first_page,
            len: draft.value_len,
        };
        Ok(Written {
            location,
            placement,
        })
    }

    /// Leads the table to a new item and removes the old one of the same key.
    #[inline]
    fn publish(&mut self, key: Key<'_>, location: usize) -> Result<(), NoMemory> {
        let places = self.table.candidates(self.arena.bytes(), key.hash);
        if let Some(entry) = self.table.find_among(self.arena.bytes(), places, key.bytes) {
            self.replace_entry(entry, location);
            return Ok(());
        }
        if self
            .table
            .insert(self.arena.bytes_mut(), key.hash, places, location, 0)
            .is_err()
        {
            if self.eviction == Eviction::None {
                self.discard(location);
                return Err(NoMemory);
            }
            let least = self.table.least_frequent(self.arena.bytes(), key.hash);
            self.counters.table_evictions += 1;
            let header = Header::read(self.arena.bytes(), least.location);
            self.bury(least, header, Reason::Evicted);
            let again = self
                .table
                .insert(self.arena.bytes_mut(), key.hash, places, location, 0);
            assert!(
                again.is_ok(),
                "a slot of this key's buckets was just emptied"
            );
        }
        let may_take_page = self.may_take(1);
        self.table.grow(&mut self.arena, may_take_page);
        Ok(())
    }

    fn replace_entry(&mut self, entry: Entry, location: usize) {
        bucket::set_location(
            self.arena.bytes_mut(),
            entry.place.bucket_at,
            entry.place.slot,
            location,
        );
        let old = Header::read(self.arena.bytes(), entry.location);
        self.kill(entry.location, old);
    }

    /// Takes back an item that was written but is not in the table.
    fn discard(&mut self, location: usize) {
        self.counters.total_items -= 1;
        let header = Header::read(self.arena.bytes(), location);
        self.kill(location, header);
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
            }
        }
        self.table.remove(self.arena.bytes_mut(), entry.place);
        self.kill(entry.location, header);
    }

    /// Marks an item dead and gives its extension pages back; frees its segment if it was the last one there.
    #[inline]
    fn kill(&mut self, location: usize, mut header: Header) {
        debug_assert!(!header.has(item::DEAD));
        let size = header.size();
        let mut bytes = size;
        if header.has(item::LARGE) {
            let large = header.large(self.arena.bytes(), location);
            let mut extension = large.first_page;
            while extension != NO_PAGE {
                let next = self.arena.page(extension).next;
                self.arena.release(extension);
                bytes += self.arena.page_bytes();
                extension = next;
            }
        }
        header.bits |= item::DEAD;
        header.write(self.arena.bytes_mut(), location);
        self.counters.items -= 1;
        self.counters.bytes -= bytes as u64;
        let page = self.arena.page_of(location);
        self.forget(page, size);
    }

    /// Takes an item off the notes of its segment.
    fn forget(&mut self, page: u32, size: usize) {
        let notes = self.arena.page_mut(page);
        notes.live_items -= 1;
        notes.live_bytes -= size as u32;
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

    /// Writes an item again in another segment, perhaps with another deadline, and leads its entry there. The unique
    /// goes along if somebody knows it.
    ///
    /// The caller has made room for `moved_size` bytes.
    pub(crate) fn relocate(
        &mut self,
        place: Place,
        from: usize,
        header: Header,
        to_page: u32,
        deadline: u32,
        now: u32,
    ) {
        let unique = self.unique_of(from, header);
        let new_size = moved_size(header, deadline, now);
        let to = self.reserve(to_page, new_size, deadline);
        let far = TtlBuckets::is_far(deadline, now);
        let new_header = Header {
            bits: header.bits & !(item::FAR | item::CAS)
                | if far { item::FAR } else { 0 }
                | if header.bits & (item::SEEN | item::CAS) == 0 {
                    0
                } else {
                    item::CAS
                },
            delta: if far {
                0
            } else {
                delta_of(self.arena.page(to_page).base, deadline).expect(NEAR)
            },
            ..header
        };
        let memory = self.arena.bytes_mut();
        memory.copy_within(from..header.far_at(from), to);
        new_header.write(memory, to);
        if far {
            item::write_u32(memory, new_header.far_at(to), deadline);
        }
        if new_header.has(item::CAS) {
            item::write_u64(memory, new_header.unique_at(to), unique);
        }
        memory.copy_within(
            header.rest_at(from)..from + header.size(),
            new_header.rest_at(to),
        );
        bucket::set_location(memory, place.bucket_at, place.slot, to);
        Header {
            bits: header.bits | item::DEAD,
            ..header
        }
        .write(memory, from);
        self.counters.bytes = self.counters.bytes + new_size as u64 - header.size() as u64;
        let page = self.arena.page_of(from);
        self.forget(page, header.size());
    }
}

/// What an item that can be told by its delta must satisfy; see `TtlBuckets::seal_age`.
const NEAR: &str = "a near deadline fits the delta of a segment that takes items";

/// Bytes of an item once it has moved: with its unique if somebody knows it, and with a far deadline written out.
pub(crate) fn moved_size(header: Header, deadline: u32, now: u32) -> usize {
    let bits = header.bits & !(item::FAR | item::CAS)
        | if TtlBuckets::is_far(deadline, now) {
            item::FAR
        } else {
            0
        }
        | if header.bits & (item::SEEN | item::CAS) == 0 {
            0
        } else {
            item::CAS
        };
    Header { bits, ..header }.size()
}

/// A deadline as the header tells it, if it can.
#[inline(always)]
pub(crate) fn delta_of(base: u32, deadline: u32) -> Option<u32> {
    if deadline == NEVER {
        return Some(item::DELTA_NEVER);
    }
    deadline
        .checked_sub(base)
        .filter(|&delta| delta <= item::DELTA_MAX)
}

fn fill_number(memory: &mut [u8], at: usize, len: usize, digits: &[u8]) {
    memory[at..at + digits.len()].copy_from_slice(digits);
    memory[at + digits.len()..at + len].fill(b' ');
}

const _: () =
    assert!(PAGE_BYTES_MIN > item::HEADER_BYTES + KEY_BYTES_MAX + 24 && LOCATION_BITS == 40);
