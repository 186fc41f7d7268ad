//! What the meta commands ask beyond the classic ones: items that are stale, the one client that is to make an item anew,
//! when an item was last fetched, items made by a miss, and CAS uniques that clients choose.
//!
//! An item has a place for such notes only when there is something to note; it gets one by moving.
//!
//! ```text
//!              invalidate              fetch                  fetch
//!   fresh item ----------> STALE ----------------> STALE, SENT ----> STALE, SENT
//!        |                        stale, won                   stale, sent
//!        | fetch, too little left to live (recache), or made by that fetch (vivify)
//!        +--------------------------------> SENT: won, and sent for those who follow
//!   set over any of them: a fresh item; of an older unique, if that is allowed: STALE as before, with the new value
//! ```
//!
//! # When an item was last fetched
//!
//! To the second, for an item that has a place for it: one written within an hour of a fetch that asked for it
//! ([`Fetch::idle`]), or asked for itself, if the memory to move it was there. Of any other it is only known when it was
//! written to where it stands, so that is what is told for it: to the second if that was the last second in which its
//! segment took new items, else when the segment was opened. So the first answer a shard ever gives may be too long,
//! by what has been fetched of the item since, and by what its segment had taken up before it; it is too short only
//! for an item that eviction has moved without its being fetched.
//!
//! Always true: at most one fetch is told that it has won, until the item is invalidated or written anew; a unique that
//! the shard makes for an invalidated item is greater than any it has made before.

use super::relocate::moved_size_as;
use super::write::{Draft, fill_number};
use super::{Arithmetic, NewItem, NoMemory, Reason, SetOutcome, Shard, Unique};
use crate::item::{self, Ext, Header, SENT, STALE};
use crate::key::Key;
use crate::number;
use crate::segment::arena::Memory;
use crate::table::Entry;
use crate::ttl::{Deadline, NEVER, Seconds};
use crate::value::{self, Hit, Placement};

/// So long after a fetch that asked for the last access new items get a place to note theirs.
const ACCESS_NOTED_SECONDS: u32 = 60 * 60;

/// Bytes of the longest value whose unique is looked at before it is found to be no number. A longer one memcached
/// keeps in chunks, which it refuses to count before anything else.
const COMPARED_VALUE_MAX: usize = 512 * 1024;

/// How an item is fetched.
#[derive(Clone, Copy, Debug)]
pub struct Fetch {
    /// Whether the unique is handed out.
    pub unique: Unique,
    /// Whether it counts as a fetch.
    pub counts: bool,
    /// Whether it is asked when the item was last fetched.
    pub idle: bool,
    /// The item's deadline from now on. One that has passed hands the value out for the last time. Left undone when the
    /// item would have to move and there is no room.
    pub deadline: Option<Deadline>,
    /// Whoever comes first when the item dies before this is to make it anew.
    pub recache: Option<Deadline>,
    /// Whether that is compared with the new deadline instead of the old one.
    pub recache_after: bool,
    /// Makes an item on a miss.
    pub vivify: Option<Vivify>,
}

impl Default for Fetch {
    fn default() -> Self {
        Self {
            unique: Unique::Unasked,
            counts: true,
            idle: false,
            deadline: None,
            recache: None,
            recache_after: false,
            vivify: None,
        }
    }
}

/// The empty item that a fetch makes on a miss.
#[derive(Clone, Copy, Debug)]
pub struct Vivify {
    /// Its deadline. When it has passed, the item is handed out and then gone.
    pub deadline: Deadline,
    /// Its unique; 0 for any.
    pub unique: u64,
}

/// What a fetch found.
#[derive(Clone, Copy, Debug)]
pub struct Fetched<'a> {
    /// The item, with its deadline as it is now.
    pub hit: Hit<'a>,
    /// The deadline it had.
    pub deadline_before: Deadline,
    /// Seconds since it was last fetched, or else written; 0 unless asked for.
    pub idle_seconds: u32,
    /// Whether this fetch has made it.
    pub made: bool,
    /// Whether it is out of date.
    pub stale: bool,
    /// Whether an earlier fetch was told to make it anew.
    pub sent: bool,
    /// Whether this one is to.
    pub won: bool,
}

/// Which condition an [`MetaSet`] has besides its unique, and where the value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// None.
    Set,
    /// The key is not there.
    Add,
    /// The key is there.
    Replace,
    /// Behind what is there.
    Append,
    /// Before what is there.
    Prepend,
}

/// How an item is stored.
#[derive(Clone, Copy, Debug)]
pub struct MetaSet {
    /// Condition and place.
    pub mode: SetMode,
    /// The unique the item must have. For append and prepend 0 is any; add does not look at it.
    pub compare: Option<u64>,
    /// Whether one that it had earlier is good enough for set and replace; then the item is stale afterwards, and its
    /// deadline stays.
    pub stale: bool,
    /// The unique of what is stored; 0 for any.
    pub unique: u64,
    /// Append and prepend store on a miss too, with this deadline.
    pub vivify: Option<Deadline>,
    /// Whether the unique of what is stored is asked for.
    pub wanted: Unique,
}

/// How that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaSetOutcome {
    /// In short.
    pub outcome: SetOutcome,
    /// The unique of what is stored, if asked for; 0 if nothing is.
    pub unique: u64,
    /// The length of the value that is stored now; of the one in the request if nothing is.
    pub value_bytes: usize,
}

/// How an item is removed, or kept as one that is out of date.
#[derive(Clone, Copy, Debug, Default)]
pub struct Invalidation {
    /// The unique the item must have.
    pub compare: Option<u64>,
    /// Keeps the item and marks it as stale, with a new unique.
    pub stale: bool,
    /// Keeps the item without its value, with these client flags and, unless it becomes stale, its unique. It is a new
    /// item: without a deadline if none is given.
    pub clear: Option<u32>,
    /// The deadline of an item that is kept.
    pub deadline: Option<Deadline>,
    /// Its unique; 0 for any.
    pub unique: u64,
}

/// How that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidationOutcome {
    /// It is as asked.
    Done,
    /// There is no such item.
    NotFound,
    /// It has another unique.
    Exists,
    /// There is no room for what is to be noted; the item is as it was.
    NoMemory,
}

/// How a number is counted up or down.
#[derive(Clone, Copy, Debug)]
pub struct Counting {
    /// Which way.
    pub arithmetic: Arithmetic,
    /// By how much.
    pub delta: u64,
    /// The unique the item must have; 0 for any.
    pub compare: u64,
    /// Its unique from now on; 0 for any.
    pub unique: u64,
    /// Its deadline from now on.
    pub deadline: Option<Deadline>,
    /// The number and the deadline of an item that is made on a miss.
    pub vivify: Option<(u64, Deadline)>,
    /// Whether the unique is asked for.
    pub wanted: Unique,
}

impl Default for Counting {
    fn default() -> Self {
        Self {
            arithmetic: Arithmetic::Incr,
            delta: 1,
            compare: 0,
            unique: 0,
            deadline: None,
            vivify: None,
            wanted: Unique::Unasked,
        }
    }
}

/// A number that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What it is now.
    pub value: u64,
    /// The item's unique, if asked for.
    pub unique: u64,
    /// The deadline it had.
    pub deadline_before: Deadline,
    /// Whether it was made.
    pub made: bool,
}

/// How counting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountOutcome {
    /// The new number.
    Counted(Counted),
    /// There is no such item.
    NotFound,
    /// The item has another unique.
    Exists,
    /// The value is not a number as memcached reads it, or is large.
    NonNumeric,
    /// There was no room for the item; the old one stays.
    NoMemory,
}

/// What there is to tell of an item without fetching it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// When it dies.
    pub deadline: Deadline,
    /// Seconds since it was last fetched, or else written.
    pub idle_seconds: u32,
    /// Its unique.
    pub unique: u64,
    /// Whether it has been fetched.
    pub fetched: bool,
    /// Bytes it takes in its segment and in pages of its own.
    pub item_bytes: usize,
}

impl<M: Memory> Shard<M> {
    /// Looks a key up as a meta command does.
    #[inline]
    pub fn fetch_meta(&mut self, key: Key<'_>, how: &Fetch, now: Seconds) -> Option<Fetched<'_>> {
        let now = now.0;
        if how.idle {
            self.access_noted_until = now.saturating_add(ACCESS_NOTED_SECONDS);
        }
        let Some((entry, mut header, deadline)) = self.fetch(self.table.pair(key.hash), key, now)
        else {
            return self.vivify(key, how, now);
        };
        let special = how.idle || !how.counts || how.deadline.is_some() || how.recache.is_some();
        if special || header.has(item::EXT) {
            return self.fetch_noted(key, how, now);
        }
        self.bump(entry.place);
        let first_fetch = !header.has(item::FETCHED);
        self.mark(entry.location, &mut header, item::FETCHED, how.unique, now);
        Some(Fetched {
            hit: self.hit(entry.location, header, deadline, how.unique, first_fetch),
            deadline_before: Deadline::from_raw(deadline),
            idle_seconds: 0,
            made: false,
            stale: false,
            sent: false,
            won: false,
        })
    }

    /// A fetch that has something to read or write in the notes of an item, or in its deadline.
    fn fetch_noted(&mut self, key: Key<'_>, how: &Fetch, now: u32) -> Option<Fetched<'_>> {
        let (mut entry, mut header) = self.lookup(key, now)?;
        let before = self.deadline_of(entry.location, header);
        let idle_seconds = now.saturating_sub(self.accessed_at(entry.location, header));
        let state = header
            .ext(self.arena.bytes(), entry.location)
            .map_or(0, |ext| ext.state);
        let (stale, sent) = (state & STALE != 0, state & SENT != 0);
        let wanted = how.deadline.map_or(before, Deadline::raw);
        let compared = if how.recache_after { wanted } else { before };
        let late = how
            .recache
            .is_some_and(|limit| compared != NEVER && compared < limit.raw());
        let mut won = (stale || late) && !sent;

        let past = wanted <= now;
        if past {
            header.delta = item::DELTA_PAST;
            header.write(self.arena.bytes_mut(), entry.location);
        }
        // Who wins an item that is gone at once needs no note of it.
        let needs_notes = !header.has(item::EXT) && (won || how.idle && how.counts);
        let settled = past || wanted == before;
        if !past && (needs_notes || !settled) {
            let in_place = !needs_notes && self.touch_in_place(entry.location, header, wanted, now);
            if !in_place {
                let unique = (header.bits & (item::SEEN | item::CAS) != 0)
                    .then(|| self.unique_of(entry.location, header));
                let moved = self.move_as(
                    key,
                    wanted,
                    now,
                    unique,
                    header.has(item::EXT) || needs_notes,
                );
                match moved {
                    Moved::To => {}
                    // Nobody else can be kept from winning, so nobody does.
                    Moved::NoRoom => won &= !needs_notes,
                    Moved::Gone => return self.vivify(key, how, now),
                }
            }
            (entry, header) = self.lookup(key, now)?;
        }

        let location = entry.location;
        let first_fetch = !header.has(item::FETCHED);
        if how.counts {
            self.bump(entry.place);
        }
        let fetched = if how.counts { item::FETCHED } else { 0 };
        self.mark(location, &mut header, fetched, how.unique, now);
        if won && let Some(ext) = header.ext(self.arena.bytes(), location) {
            let ext = Ext {
                state: ext.state | SENT,
                ..ext
            };
            header.set_ext(self.arena.bytes_mut(), location, ext);
        }
        let deadline = if past {
            now
        } else {
            self.deadline_of(location, header)
        };
        Some(Fetched {
            hit: self.hit(location, header, deadline, how.unique, first_fetch),
            deadline_before: Deadline::from_raw(before),
            idle_seconds: if how.idle { idle_seconds } else { 0 },
            made: false,
            stale,
            sent,
            won,
        })
    }

    /// Makes the item that a fetch has missed, if it asks for that and there is room.
    #[cold]
    fn vivify(&mut self, key: Key<'_>, how: &Fetch, now: u32) -> Option<Fetched<'_>> {
        let vivify = how.vivify?;
        let deadline = vivify.deadline.raw();
        let past = deadline <= now;
        let draft = Draft {
            deadline: if past { NEVER } else { deadline },
            unique: vivify.unique,
            ext: Some(Ext {
                accessed: now,
                state: SENT,
            }),
            ..self.blank(key)
        };
        let location = self.make(&draft, &[], now).ok()?;
        let mut header = Header::read(self.arena.bytes(), location);
        if past {
            header.delta = item::DELTA_PAST;
        }
        if how.counts {
            header.bits |= item::FETCHED;
        }
        if how.unique == Unique::Wanted {
            header.bits |= item::SEEN;
        }
        header.write(self.arena.bytes_mut(), location);
        let deadline = if past { now } else { deadline };
        Some(Fetched {
            hit: self.hit(location, header, deadline, how.unique, true),
            deadline_before: Deadline::Never,
            idle_seconds: 0,
            made: true,
            stale: false,
            sent: false,
            won: true,
        })
    }

    /// Stores as a meta command does. What is too large removes what is there, whatever the mode.
    pub fn set_meta(
        &mut self,
        key: Key<'_>,
        item: NewItem<'_>,
        how: &MetaSet,
        now: Seconds,
    ) -> MetaSetOutcome {
        let now = now.0;
        let ended = |outcome| MetaSetOutcome {
            outcome,
            unique: 0,
            value_bytes: item.value.len(),
        };
        if item.value.len() > self.item_max_value(key.bytes.len(), item.flags) {
            self.counters.too_large += 1;
            self.unlink(key, Seconds(now));
            return ended(SetOutcome::TooLarge);
        }
        self.pass_time(now);
        let found = self.lookup(key, now);
        let joins = matches!(how.mode, SetMode::Append | SetMode::Prepend);
        let mut deadline = item.deadline.raw();
        let mut ext = self.ext_of_new(now);
        match (how.mode, found, how.compare) {
            (SetMode::Add, Some((entry, header)), _) => {
                self.bump(entry.place);
                self.note_access(entry.location, header, now);
                return ended(SetOutcome::NotStored);
            }
            (SetMode::Add, None, _) => {}
            (SetMode::Set | SetMode::Replace, None, Some(_)) => {
                return ended(SetOutcome::NotFound);
            }
            (SetMode::Replace, None, None) => return ended(SetOutcome::NotStored),
            (SetMode::Set | SetMode::Replace, Some((entry, header)), Some(unique)) => {
                if unique != self.unique_of(entry.location, header) {
                    if !how.stale || !self.is_older(unique, entry, header) {
                        return ended(SetOutcome::Exists);
                    }
                    deadline = self.deadline_of(entry.location, header);
                    let before = header.ext(self.arena.bytes(), entry.location);
                    ext = Some(Ext {
                        accessed: now,
                        state: before.map_or(0, |ext| ext.state & SENT) | STALE,
                    });
                }
            }
            (SetMode::Append | SetMode::Prepend, Some((entry, header)), compare) => {
                let unique = compare.unwrap_or(0);
                if unique != 0 && unique != self.unique_of(entry.location, header) {
                    return ended(SetOutcome::Exists);
                }
                let after = how.mode == SetMode::Append;
                let (outcome, location, value_bytes) =
                    self.extend(key, item.value, how.unique, now, after);
                if outcome != SetOutcome::Stored {
                    return ended(SetOutcome::NotStored);
                }
                return MetaSetOutcome {
                    outcome,
                    unique: self.tell_unique(location, how.wanted),
                    value_bytes,
                };
            }
            (SetMode::Append | SetMode::Prepend, None, _) => match how.vivify {
                None => return ended(SetOutcome::NotStored),
                Some(vivify) => deadline = vivify.raw(),
            },
            (SetMode::Set | SetMode::Replace, _, None) => {}
        }
        if deadline <= now {
            // It is stored, and gone before anybody can ask for it.
            self.unlink(key, Seconds(now));
            return MetaSetOutcome {
                unique: self.unique_or_new(how.unique),
                ..ended(SetOutcome::Stored)
            };
        }
        let draft = Draft {
            flags: item.flags,
            deadline,
            unique: how.unique,
            ext,
            ..self.blank(key)
        };
        match self.make(&draft, item.value, now) {
            Ok(location) => MetaSetOutcome {
                unique: self.tell_unique(location, how.wanted),
                ..ended(SetOutcome::Stored)
            },
            Err(NoMemory) => {
                if how.mode == SetMode::Set && !joins && how.compare.is_none() {
                    self.unlink(key, Seconds(now));
                }
                ended(SetOutcome::NoMemory)
            }
        }
    }

    /// Removes a key, or leaves an item that is stale or empty in its place.
    pub fn invalidate(
        &mut self,
        key: Key<'_>,
        how: &Invalidation,
        now: Seconds,
    ) -> InvalidationOutcome {
        let now = now.0;
        let found = match self.fetch(self.table.pair(key.hash), key, now) {
            Some((entry, header, _)) => (entry, header),
            None => return InvalidationOutcome::NotFound,
        };
        let (entry, header) = found;
        let unique = self.unique_of(entry.location, header);
        if how.compare.is_some_and(|compare| compare != unique) {
            return InvalidationOutcome::Exists;
        }
        let deadline = match (how.deadline, how.clear) {
            (Some(deadline), _) => deadline.raw(),
            (None, Some(_)) => NEVER,
            (None, None) => self.deadline_of(entry.location, header),
        };
        if !how.stale && how.clear.is_none() || deadline <= now {
            self.bury(entry, header, Reason::Command);
            return InvalidationOutcome::Done;
        }
        let unique = match (how.unique, how.stale) {
            (0, true) => self.new_unique(),
            (0, false) => unique,
            (chosen, _) => chosen,
        };
        if let Some(flags) = how.clear {
            let ext = Ext {
                accessed: now,
                state: STALE,
            };
            let draft = Draft {
                flags,
                deadline,
                unique,
                ext: if how.stale {
                    Some(ext)
                } else {
                    self.ext_of_new(now)
                },
                ..self.blank(key)
            };
            return match self.make(&draft, &[], now) {
                Ok(_) => InvalidationOutcome::Done,
                Err(NoMemory) => InvalidationOutcome::NoMemory,
            };
        }
        match self.move_as(key, deadline, now, Some(unique), true) {
            Moved::Gone => return InvalidationOutcome::NotFound,
            Moved::NoRoom => return InvalidationOutcome::NoMemory,
            Moved::To => {}
        }
        let (entry, mut header) = self.lookup(key, now).expect("the item has just moved");
        header.bits |= item::SEEN;
        header.write(self.arena.bytes_mut(), entry.location);
        let ext = header
            .ext(self.arena.bytes(), entry.location)
            .expect("the item has moved to get its notes");
        let ext = Ext {
            state: STALE,
            ..ext
        };
        header.set_ext(self.arena.bytes_mut(), entry.location, ext);
        InvalidationOutcome::Done
    }

    /// Adds to or subtracts from a number, as [`Shard::arith`] does.
    pub fn count(&mut self, key: Key<'_>, how: &Counting, now: Seconds) -> CountOutcome {
        let now = now.0;
        let Some((entry, header)) = self.lookup(key, now) else {
            return self.count_missed(key, how, now);
        };
        let value_len = Placement::of(self.arena.bytes(), entry.location, header).len;
        if value_len == 0 || value_len > COMPARED_VALUE_MAX {
            return CountOutcome::NonNumeric;
        }
        if how.compare != 0 && how.compare != self.unique_of(entry.location, header) {
            return CountOutcome::Exists;
        }
        if header.has(item::LARGE) {
            return CountOutcome::NonNumeric;
        }
        let value_at = header.value_at(entry.location);
        let old_len = usize::from(header.value_len);
        let Some(old) = number::parse(&self.arena.bytes()[value_at..value_at + old_len]) else {
            return CountOutcome::NonNumeric;
        };
        let value = match how.arithmetic {
            Arithmetic::Incr => old.wrapping_add(how.delta),
            Arithmetic::Decr => old.saturating_sub(how.delta),
        };
        let before = self.deadline_of(entry.location, header);
        let deadline = how.deadline.map_or(before, Deadline::raw);
        let counted = |unique| {
            CountOutcome::Counted(Counted {
                value,
                unique,
                deadline_before: Deadline::from_raw(before),
                made: false,
            })
        };
        if deadline <= now {
            // It is counted, and gone before anybody can ask for it.
            self.bury(entry, header, Reason::Command);
            return counted(self.unique_or_new(how.unique));
        }

        let mut buffer = [0; number::DIGITS_MAX];
        let digits = number::write(&mut buffer, value);
        let loans = self.arena.page(self.arena.page_of(entry.location)).loans;
        // A unique that somebody knows must change, and bytes that somebody reads must not.
        let in_place = digits.len() <= old_len
            && !header.has(item::SEEN)
            && loans == 0
            && how.unique == 0
            && (deadline == before || self.touch_in_place(entry.location, header, deadline, now));
        if in_place {
            let header = Header::read(self.arena.bytes(), entry.location);
            fill_number(self.arena.bytes_mut(), value_at, old_len, digits);
            self.note_access(entry.location, header, now);
            return counted(self.tell_unique(entry.location, how.wanted));
        }
        let grown = digits.len() > old_len;
        let value_len = old_len.max(digits.len());
        // A number that has grown is a new item; else what is known of it stays.
        let ext = match header.ext(self.arena.bytes(), entry.location) {
            Some(ext) if !grown => Some(Ext {
                accessed: now,
                ..ext
            }),
            _ => self.ext_of_new(now),
        };
        let draft = Draft {
            deadline,
            bits: if grown {
                0
            } else {
                header.bits & item::FETCHED
            },
            unique: how.unique,
            ext,
            ..self.redraft(key, entry, header, value_len)
        };
        let Ok(written) = self.write(&draft, now) else {
            self.counters.no_memory += 1;
            return CountOutcome::NoMemory;
        };
        let at = written.placement.head_at;
        fill_number(self.arena.bytes_mut(), at, value_len, digits);
        let pair = self.table.prefetch_pair(self.arena.bytes(), key.hash);
        match self.publish(key, pair, written.location, now) {
            Ok(()) => counted(self.tell_unique(written.location, how.wanted)),
            Err(NoMemory) => CountOutcome::NoMemory,
        }
    }

    /// Makes the number that is not there, if that is asked for.
    #[cold]
    fn count_missed(&mut self, key: Key<'_>, how: &Counting, now: u32) -> CountOutcome {
        let Some((initial, deadline)) = how.vivify else {
            return CountOutcome::NotFound;
        };
        let counted = |unique| {
            CountOutcome::Counted(Counted {
                value: initial,
                unique,
                deadline_before: Deadline::Never,
                made: true,
            })
        };
        if deadline.raw() <= now {
            return counted(self.unique_or_new(how.unique));
        }
        let mut buffer = [0; number::DIGITS_MAX];
        let digits = number::write(&mut buffer, initial);
        let draft = Draft {
            deadline: deadline.raw(),
            unique: how.unique,
            ext: self.ext_of_new(now),
            ..self.blank(key)
        };
        match self.make(&draft, digits, now) {
            Ok(location) => counted(self.tell_unique(location, how.wanted)),
            Err(NoMemory) => CountOutcome::NoMemory,
        }
    }

    /// Tells of an item without fetching it.
    pub fn inspect(&mut self, key: Key<'_>, now: Seconds) -> Option<Inspected> {
        let now = now.0;
        let (entry, header, deadline) = self.fetch(self.table.pair(key.hash), key, now)?;
        let location = entry.location;
        Some(Inspected {
            deadline: Deadline::from_raw(deadline),
            idle_seconds: now.saturating_sub(self.accessed_at(location, header)),
            unique: self.tell_unique(location, Unique::Wanted),
            fetched: header.has(item::FETCHED),
            item_bytes: header.size()
                + self.extensions_of(location, header) * self.arena.page_bytes(),
        })
    }

    /// The place for notes that a new item gets, if new items get one at present.
    #[inline(always)]
    pub(super) fn ext_of_new(&self, now: u32) -> Option<Ext> {
        (now < self.access_noted_until).then_some(Ext {
            accessed: now,
            state: 0,
        })
    }

    /// When an item was last fetched, or else written, as far as that is known.
    pub(super) fn accessed_at(&self, location: usize, header: Header) -> u32 {
        if let Some(ext) = header.ext(self.arena.bytes(), location) {
            return ext.accessed;
        }
        let index = self.arena.page_of(location);
        let page = self.arena.page(index);
        let offset = (location - self.arena.start_of(index)) as u32;
        if offset >= page.written_from {
            page.written_at
        } else {
            page.opened_at
        }
    }

    /// Whether a unique is one that a key had before the present item. Of uniques the shard makes it has told none
    /// greater than the next segment's; those that clients choose are theirs to order.
    fn is_older(&self, unique: u64, entry: Entry, header: Header) -> bool {
        let bound = if header.has(item::CAS) {
            self.unique_of(entry.location, header)
        } else {
            self.next_epoch << 20
        };
        unique != 0 && unique < bound
    }

    /// A unique greater than any that was made before. No segment will have its epoch.
    fn new_unique(&mut self) -> u64 {
        self.next_epoch += 1;
        (self.next_epoch - 1) << 20
    }

    /// The unique that a client has chosen, or else a new one.
    fn unique_or_new(&mut self, chosen: u64) -> u64 {
        if chosen == 0 {
            self.new_unique()
        } else {
            chosen
        }
    }

    /// The unique of an item, if it is wanted; then it must survive from now on.
    fn tell_unique(&mut self, location: usize, wanted: Unique) -> u64 {
        if wanted == Unique::Unasked {
            return 0;
        }
        let mut header = Header::read(self.arena.bytes(), location);
        header.bits |= item::SEEN;
        header.write(self.arena.bytes_mut(), location);
        self.unique_of(location, header)
    }

    /// An item of a key with nothing in it.
    fn blank<'a>(&mut self, key: Key<'a>) -> Draft<'a> {
        let pair = self.table.prefetch_pair(self.arena.bytes(), key.hash);
        Draft {
            key,
            queue: self.queue_for(key, pair),
            flags: 0,
            deadline: NEVER,
            value_len: 0,
            bits: 0,
            unique: 0,
            ext: None,
        }
    }

    /// Writes a new item with this value and leads the table to it; tells where it is.
    fn make(&mut self, draft: &Draft<'_>, value: &[u8], now: u32) -> Result<usize, NoMemory> {
        let draft = Draft {
            value_len: value.len(),
            ..*draft
        };
        let made = self.write(&draft, now).and_then(|written| {
            value::write(&mut self.arena, &written.placement, 0, value);
            let pair = self.table.prefetch_pair(self.arena.bytes(), draft.key.hash);
            self.publish(draft.key, pair, written.location, now)
                .map(|()| written.location)
        });
        if made.is_err() {
            self.counters.no_memory += 1;
        }
        made
    }

    /// Moves the item of a key to a place with this deadline, with this unique if any, and with notes or without.
    fn move_as(
        &mut self,
        key: Key<'_>,
        deadline: u32,
        now: u32,
        unique: Option<u64>,
        noted: bool,
    ) -> Moved {
        let Some((entry, header)) = self.lookup(key, now) else {
            return Moved::Gone;
        };
        let size = moved_size_as(header, unique.is_some(), noted);
        let room = self.make_room(self.queue_of(entry.location), size, 0, deadline, now);
        // Making room may have moved the item, or dropped it.
        let Some((entry, header)) = self.lookup(key, now) else {
            return Moved::Gone;
        };
        let Ok(page) = room else {
            return Moved::NoRoom;
        };
        let from = entry.location;
        let ext = noted.then(|| {
            header.ext(self.arena.bytes(), from).unwrap_or(Ext {
                accessed: self.accessed_at(from, header),
                state: 0,
            })
        });
        self.relocate_as(entry.place, from, header, page, deadline, unique, ext);
        Moved::To
    }
}

/// How moving an item ended.
enum Moved {
    /// It has moved.
    To,
    /// There was no room.
    NoRoom,
    /// It was dropped to make room.
    Gone,
}
