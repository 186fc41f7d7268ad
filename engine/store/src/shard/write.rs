//! Commands that make an item: set and its kin, append and prepend, incr and decr.
//!
//! Each writes the whole new item first, then leads the table to it, then marks the old one dead; so a call that finds
//! no room leaves things as they were, but for a set, after which the key is gone (as in memcached).

use super::deadline::delta_of;
use super::meta::{CountOutcome, Counting};
use super::{ArithOutcome, Arithmetic, Eviction, NewItem, NoMemory, Reason, SetOutcome, Shard};
use crate::item::{self, Ext, Header, Large};
use crate::key::{KEY_BYTES_MAX, Key};
use crate::prefetch;
use crate::segment::arena::{Kind, Memory, NO_PAGE, Queue};
use crate::table::{Entry, LINE_BYTES, Pair};
use crate::ttl::Seconds;
use crate::value::{self, Cut, Placement};

/// So far ahead of where an item is written the lines of the next ones are asked for.
const WRITE_AHEAD_BYTES: usize = 8 * LINE_BYTES;

/// Under which condition an item is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    Absent,
    Present,
    Unique(u64),
}

/// What is written with a new item besides its value.
pub(super) struct Draft<'a> {
    pub key: Key<'a>,
    pub queue: Queue,
    pub flags: u32,
    pub deadline: u32,
    pub value_len: usize,
    pub bits: u8,
    /// The CAS unique, if it is not to be derived from the place; 0 if it is.
    pub unique: u64,
    /// What the meta commands have to note.
    pub ext: Option<Ext>,
}

/// A new item, in its segment but not in the table yet.
pub(super) struct Written {
    pub location: usize,
    pub placement: Placement,
}

impl<M: Memory> Shard<M> {
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
        let pair = self.table.prefetch_pair(self.arena.bytes(), key.hash);
        self.pass_time(now);
        let outcome = if item.value.len() > self.item_max_value(key_len, item.flags) {
            self.counters.too_large += 1;
            SetOutcome::TooLarge
        } else {
            if condition != Condition::Always {
                let found = self.lookup(key, now);
                let refusal = match (condition, found) {
                    (Condition::Absent, Some((entry, header))) => {
                        self.bump(entry.place);
                        self.note_access(entry.location, header, now);
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
                self.unlink(key, Seconds(now));
                return SetOutcome::Stored;
            }
            let queue = self.queue_for(key, pair);
            // Told apart here, so that an item without notes is not asked for them at each turn.
            if now < self.access_noted_until {
                self.store_noted(key, pair, queue, item, now)
            } else {
                let draft = Draft {
                    key,
                    queue,
                    flags: item.flags,
                    deadline,
                    value_len: item.value.len(),
                    bits: 0,
                    unique: 0,
                    ext: None,
                };
                match self.write_in_line(&draft, now) {
                    Ok(written) => {
                        value::write(&mut self.arena, &written.placement, 0, item.value);
                        match self.publish_in_line(key, pair, written.location, now) {
                            Ok(()) => SetOutcome::Stored,
                            Err(NoMemory) => SetOutcome::NoMemory,
                        }
                    }
                    Err(NoMemory) => SetOutcome::NoMemory,
                }
            }
        };
        if outcome == SetOutcome::NoMemory {
            self.counters.no_memory += 1;
        }
        if outcome != SetOutcome::Stored && condition == Condition::Always {
            // As memcached does: rather no value than one its writer believes replaced.
            self.unlink(key, Seconds(now));
        }
        outcome
    }

    /// Adds bytes after the value. Flags and deadline stay.
    pub fn append(&mut self, key: Key<'_>, bytes: &[u8], now: Seconds) -> SetOutcome {
        self.extend(key, bytes, 0, now.0, true).0
    }

    /// Adds bytes before the value. Flags and deadline stay.
    pub fn prepend(&mut self, key: Key<'_>, bytes: &[u8], now: Seconds) -> SetOutcome {
        self.extend(key, bytes, 0, now.0, false).0
    }

    /// Makes the value longer. How that ended, and where the item is and how long its value if it is stored. What is
    /// made is a new item: nobody has fetched it yet.
    pub(super) fn extend(
        &mut self,
        key: Key<'_>,
        bytes: &[u8],
        unique: u64,
        now: u32,
        after: bool,
    ) -> (SetOutcome, usize, usize) {
        if bytes.len() > self.item_max_value(key.bytes.len(), 0) {
            self.counters.too_large += 1;
            return (SetOutcome::TooLarge, 0, 0);
        }
        const NOT_STORED: (SetOutcome, usize, usize) = (SetOutcome::NotStored, 0, 0);
        let Some((entry, header)) = self.lookup(key, now) else {
            return NOT_STORED;
        };
        let old = Placement::of(self.arena.bytes(), entry.location, header);
        let draft = Draft {
            unique,
            ext: self.ext_of_new(now),
            ..self.redraft(key, entry, header, old.len + bytes.len())
        };
        if draft.value_len > self.item_max_value(key.bytes.len(), draft.flags) {
            return NOT_STORED;
        }
        let Ok(written) = self.write(&draft, now) else {
            self.counters.no_memory += 1;
            return NOT_STORED;
        };
        // Making room may have moved the old item, or dropped it.
        let Some((entry, header)) = self.lookup(key, now) else {
            self.discard(written.location);
            return NOT_STORED;
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
        (SetOutcome::Stored, written.location, draft.value_len)
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
        let how = Counting {
            arithmetic,
            delta,
            ..Counting::default()
        };
        match self.count(key, &how, now) {
            CountOutcome::Counted(counted) => ArithOutcome::Value(counted.value),
            CountOutcome::NotFound => ArithOutcome::NotFound,
            CountOutcome::NonNumeric => ArithOutcome::NonNumeric,
            CountOutcome::NoMemory => ArithOutcome::NoMemory,
            CountOutcome::Exists => panic!("no unique was asked for"),
        }
    }

    /// The queue an item is in.
    #[inline]
    pub(crate) fn queue_of(&self, location: usize) -> Queue {
        self.arena.page(self.arena.page_of(location)).queue
    }

    /// An item that is there, with a value of another length: flags and deadline stay.
    pub(super) fn redraft<'a>(
        &self,
        key: Key<'a>,
        entry: Entry,
        header: Header,
        value_len: usize,
    ) -> Draft<'a> {
        Draft {
            key,
            queue: self.queue_of(entry.location),
            flags: header.flags(self.arena.bytes(), entry.location),
            deadline: self.deadline_of(entry.location, header),
            value_len,
            bits: 0,
            unique: 0,
            ext: None,
        }
    }

    /// Stores an item with a place for notes, whatever is there.
    #[cold]
    #[inline(never)]
    fn store_noted(
        &mut self,
        key: Key<'_>,
        pair: Pair,
        queue: Queue,
        item: NewItem<'_>,
        now: u32,
    ) -> SetOutcome {
        let draft = Draft {
            key,
            queue,
            flags: item.flags,
            deadline: item.deadline.raw(),
            value_len: item.value.len(),
            bits: 0,
            unique: 0,
            ext: self.ext_of_new(now),
        };
        let Ok(written) = self.write(&draft, now) else {
            return SetOutcome::NoMemory;
        };
        value::write(&mut self.arena, &written.placement, 0, item.value);
        match self.publish(key, pair, written.location, now) {
            Ok(()) => SetOutcome::Stored,
            Err(NoMemory) => SetOutcome::NoMemory,
        }
    }

    /// As `write_in_line`, for what is stored less often.
    #[inline(never)]
    pub(super) fn write(&mut self, draft: &Draft<'_>, now: u32) -> Result<Written, NoMemory> {
        self.write_in_line(draft, now)
    }

    /// Writes all of a new item but its value. In line, because what a set does not have is then left out.
    #[inline(always)]
    fn write_in_line(&mut self, draft: &Draft<'_>, now: u32) -> Result<Written, NoMemory> {
        let key_len = draft.key.bytes.len();
        let flags_bytes = if draft.flags == 0 {
            0
        } else {
            item::FLAGS_BYTES
        };
        let fixed = item::HEADER_BYTES + key_len + flags_bytes;
        let cut = Cut::new(self.arena.page_bytes(), fixed, draft.value_len);
        let (large, extensions) = (cut.large, cut.extensions);
        let unique_bytes = if draft.unique == 0 {
            0
        } else {
            item::UNIQUE_BYTES
        };
        let near_size = fixed
            + unique_bytes
            + if draft.ext.is_some() {
                item::EXT_BYTES
            } else {
                0
            }
            + if large { item::LARGE_BYTES } else { 0 }
            + cut.head_room;
        let page = self.make_room(draft.queue, near_size, extensions, draft.deadline, now)?;
        let delta = delta_of(self.arena.page(page).base, draft.deadline);
        let far = delta.is_none();
        let size = near_size + if far { item::FAR_BYTES } else { 0 };
        let location = self.reserve(page, size, draft.deadline, Some(now));
        let header = Header {
            key_len: key_len as u8,
            bits: draft.bits
                | if draft.flags == 0 { 0 } else { item::FLAGS }
                | if draft.unique == 0 {
                    0
                } else {
                    item::CAS | item::SEEN
                }
                | if draft.ext.is_some() { item::EXT } else { 0 }
                | if large { item::LARGE } else { 0 }
                | if far { item::FAR } else { 0 },
            value_len: cut.header_value_len(),
            delta: delta.unwrap_or(0),
        };
        if draft.queue == Queue::Small {
            self.chains.small_pages += extensions;
        }
        let mut first_page = NO_PAGE;
        for _ in 0..extensions {
            // Last page first, so that each knows the next.
            let extension = self.arena.take(Kind::Extension).expect("room was made");
            self.arena.page_mut(extension).next = first_page;
            first_page = extension;
        }
        let memory = self.arena.bytes_mut();
        prefetch::line(memory, location + WRITE_AHEAD_BYTES);
        header.write(memory, location);
        let key_at = location + item::HEADER_BYTES;
        memory[key_at..key_at + key_len].copy_from_slice(draft.key.bytes);
        if draft.flags != 0 {
            item::write_u32(memory, key_at + key_len, draft.flags);
        }
        if far {
            item::write_u32(memory, header.far_at(location), draft.deadline);
        }
        if draft.unique != 0 {
            item::write_u64(memory, header.unique_at(location), draft.unique);
        }
        if let Some(ext) = draft.ext {
            header.set_ext(memory, location, ext);
        }
        if large {
            let large = Large {
                first_page,
                head_len: cut.head_len as u32,
                value_len: draft.value_len as u32,
            };
            header.set_large(memory, location, large);
        }
        self.counters.items += 1;
        self.counters.total_items += 1;
        self.counters.bytes += (size + extensions * self.arena.page_bytes()) as u64;
        let placement = Placement {
            head_at: header.value_at(location),
            head_len: cut.head_len,
            first_page,
            len: draft.value_len,
        };
        Ok(Written {
            location,
            placement,
        })
    }

    /// As `publish_in_line`, for what is stored less often.
    #[inline(never)]
    pub(super) fn publish(
        &mut self,
        key: Key<'_>,
        pair: Pair,
        location: usize,
        now: u32,
    ) -> Result<(), NoMemory> {
        self.publish_in_line(key, pair, location, now)
    }

    /// Leads the table to a new item and removes the old one of the same key.
    #[inline(always)]
    fn publish_in_line(
        &mut self,
        key: Key<'_>,
        pair: Pair,
        location: usize,
        now: u32,
    ) -> Result<(), NoMemory> {
        let places = self.table.candidates_of(self.arena.bytes(), pair, key.hash);
        if let Some(entry) = self.table.find_among(self.arena.bytes(), places, key.bytes) {
            // A plain set has not looked for what it replaces.
            let old = Header::read(self.arena.bytes(), entry.location);
            let deadline = self.deadline_of(entry.location, old);
            let reason = self.gone(entry.location, deadline, now);
            self.count_met(reason);
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

    #[inline(always)]
    fn replace_entry(&mut self, entry: Entry, location: usize) {
        self.table
            .set_location(self.arena.bytes_mut(), entry.place, location);
        let old = Header::read(self.arena.bytes(), entry.location);
        self.kill(entry.location, old);
    }

    /// Takes back an item that was written but is not in the table.
    fn discard(&mut self, location: usize) {
        self.counters.total_items -= 1;
        let header = Header::read(self.arena.bytes(), location);
        self.kill(location, header);
    }
}

pub(super) fn fill_number(memory: &mut [u8], at: usize, len: usize, digits: &[u8]) {
    memory[at..at + digits.len()].copy_from_slice(digits);
    memory[at + digits.len()..at + len].fill(b' ');
}
