//! Lookups: the item of a key if it may be seen, how often it is fetched, and its CAS unique.
//!
//! Always true: an item met after its deadline or a flush is removed on the spot and never handed out.

use super::{Reason, Shard, Unique};
use crate::item::{self, Ext, Header};
use crate::key::{Key, KeyHash};
use crate::segment::arena::{Memory, Page};
use crate::table::{Entry, Pair, Place, bucket};
use crate::ttl::{Deadline, Seconds};
use crate::value::{Hit, ItemRef, Placement, Value};

/// Up to this count the frequency of an item counts every fetch; above, one in `frequency`.
const FREQUENCY_EXACT: u8 = 16;

/// A lookup under way: a key's hash, and where its hash buckets are. Of use to the shard that made it alone; the shard
/// may change in between.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    hash: KeyHash,
    pair: Pair,
}

impl<M: Memory> Shard<M> {
    /// Starts loading the hash buckets of a key. First of three steps that make a batch of lookups overlap: each is done
    /// for all keys before the next.
    #[inline]
    pub fn prefetch_buckets(&self, hash: KeyHash) -> Probe {
        let pair = self.table.prefetch_pair(self.arena.bytes(), hash);
        Probe { hash, pair }
    }

    /// Starts loading the items the lookup would read. Second step, when the buckets have arrived.
    #[inline]
    pub fn prefetch_item(&self, probe: Probe) {
        let memory = self.arena.bytes();
        self.table
            .prefetch_item(memory, probe.pair, probe.hash, self.prefetch_bytes);
    }

    /// As [`Shard::get`], of the key whose hash the probe was made of. Third step, when the item has arrived.
    #[inline(always)]
    pub fn get_probed(
        &mut self,
        probe: Probe,
        key: &[u8],
        now: Seconds,
        unique: Unique,
    ) -> Option<Hit<'_>> {
        let key = Key {
            hash: probe.hash,
            bytes: key,
        };
        self.get_in(probe.pair, key, now, unique)
    }

    /// Looks a key up and counts the fetch.
    #[inline(always)]
    pub fn get(&mut self, key: Key<'_>, now: Seconds, unique: Unique) -> Option<Hit<'_>> {
        self.get_in(self.table.pair(key.hash), key, now, unique)
    }

    #[inline(always)]
    fn get_in(
        &mut self,
        pair: Pair,
        key: Key<'_>,
        now: Seconds,
        unique: Unique,
    ) -> Option<Hit<'_>> {
        let (entry, mut header, deadline) = self.fetch(pair, key, now.0)?;
        self.bump(entry.place);
        let first_fetch = !header.has(item::FETCHED);
        self.mark(entry.location, &mut header, item::FETCHED, unique, now.0);
        Some(self.hit(entry.location, header, deadline, unique, first_fetch))
    }

    /// Notes in an item that it was fetched, if `fetched` is that bit, and that its unique has been told.
    #[inline(always)]
    pub(super) fn mark(
        &mut self,
        location: usize,
        header: &mut Header,
        fetched: u8,
        unique: Unique,
        now: u32,
    ) {
        let wanted = fetched
            | if unique == Unique::Wanted {
                item::SEEN
            } else {
                0
            };
        // An item without notes whose bits are set already, as most are, is only read.
        if header.bits & (wanted | item::EXT) != wanted {
            header.bits |= wanted;
            self.write_marks(location, *header, fetched, now);
        }
    }

    // Apart, so that a fetch of an item that is only read keeps nothing in registers for it.
    #[cold]
    #[inline(never)]
    fn write_marks(&mut self, location: usize, header: Header, fetched: u8, now: u32) {
        header.write_bits(self.arena.bytes_mut(), location);
        if fetched != 0 {
            self.note_access(location, header, now);
        }
    }

    /// Notes when an item was last fetched or its value counted up, if it has a place for that.
    #[inline]
    pub(super) fn note_access(&mut self, location: usize, header: Header, now: u32) {
        if let Some(ext) = header.ext(self.arena.bytes(), location) {
            let ext = Ext {
                accessed: now,
                ..ext
            };
            header.set_ext(self.arena.bytes_mut(), location, ext);
        }
    }

    /// The CAS unique of a key as it is now, which counts as handed out; the item counts as fetched by nobody.
    ///
    /// For a command whose answer names the unique of what it wrote, or that must meet one.
    pub fn unique(&mut self, key: Key<'_>, now: Seconds) -> Option<u64> {
        let (entry, mut header) = self.lookup(key, now.0)?;
        if !header.has(item::SEEN) {
            header.bits |= item::SEEN;
            header.write(self.arena.bytes_mut(), entry.location);
        }
        Some(self.unique_of(entry.location, header))
    }

    /// Gives the item a new deadline and looks it up. When it cannot be moved for lack of memory it keeps the old
    /// deadline. A deadline that has passed hands the value out for the last time.
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
        // The fetch is counted by the lookup, which tells whether it is the first.
        self.touch_as(key, deadline, now.0, 0);
        self.get(key, now, unique)
    }

    /// Looks a key up and ends its life: the value is handed out once more, the next reader misses.
    fn get_last(&mut self, key: Key<'_>, now: Seconds, unique: Unique) -> Option<Hit<'_>> {
        let pair = self.table.pair(key.hash);
        let (entry, mut header, _) = self.fetch(pair, key, now.0)?;
        let first_fetch = !header.has(item::FETCHED);
        header.bits |= item::FETCHED;
        header.delta = item::DELTA_PAST;
        header.write(self.arena.bytes_mut(), entry.location);
        Some(self.hit(entry.location, header, now.0, unique, first_fetch))
    }

    #[inline(always)]
    pub(super) fn hit(
        &self,
        location: usize,
        header: Header,
        deadline: u32,
        unique: Unique,
        first_fetch: bool,
    ) -> Hit<'_> {
        let memory = self.arena.bytes();
        let page = self.arena.page(self.arena.page_of(location));
        // One branch for all that an item may have, since nearly none has any of it.
        let (flags, placement) = if header.is_bare() {
            (0, Placement::beside(location, header))
        } else {
            (
                header.flags(memory, location),
                Placement::of(memory, location, header),
            )
        };
        Hit {
            flags,
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
    pub(super) fn bump(&mut self, place: Place) {
        let frequency = bucket::frequency(
            bucket::view(self.arena.bytes(), place.bucket_at),
            place.slot,
        );
        if frequency >= bucket::FREQUENCY_MAX {
            return;
        }
        if frequency >= FREQUENCY_EXACT && !self.one_in(u32::from(frequency)) {
            return;
        }
        bucket::raise_frequency(self.arena.bytes_mut(), place.bucket_at, place.slot);
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
        let pair = self.table.pair(key.hash);
        let (entry, header, _) = self.fetch(pair, key, now)?;
        Some((entry, header))
    }

    /// As `lookup`, and tells the deadline too. What made it miss is counted, whatever the command was for, as memcached
    /// does.
    #[inline(always)]
    pub(super) fn fetch(
        &mut self,
        pair: Pair,
        key: Key<'_>,
        now: u32,
    ) -> Option<(Entry, Header, u32)> {
        match self.find_visible(pair, key, now) {
            Ok(found) => Some(found),
            Err(reason) => {
                self.count_met(reason);
                None
            }
        }
    }

    /// Counts that a command has met what is gone.
    #[inline(always)]
    pub(super) fn count_met(&mut self, reason: Option<Reason>) {
        match reason {
            Some(Reason::Expired) => self.counters.get_expired += 1,
            Some(Reason::Flushed) => self.counters.get_flushed += 1,
            _ => {}
        }
    }

    #[inline(always)]
    fn find_visible(
        &mut self,
        pair: Pair,
        key: Key<'_>,
        now: u32,
    ) -> Result<(Entry, Header, u32), Option<Reason>> {
        self.pass_time(now);
        let found = self
            .table
            .find(self.arena.bytes(), pair, key.hash, key.bytes);
        let Some(entry) = found else {
            return Err(None);
        };
        let header = Header::read(self.arena.bytes(), entry.location);
        let notes = self.arena.page(self.arena.page_of(entry.location));
        let deadline = self.deadline_in(notes, entry.location, header);
        match self.gone_in(notes, entry.location, deadline, now) {
            None => Ok((entry, header, deadline)),
            Some(reason) => {
                self.bury_met(entry, reason);
                Err(Some(reason))
            }
        }
    }

    // Apart, and with a header of its own, so that a lookup that finds what may be seen packs none for the call.
    #[cold]
    #[inline(never)]
    fn bury_met(&mut self, entry: Entry, reason: Reason) {
        let header = Header::read(self.arena.bytes(), entry.location);
        self.bury(entry, header, reason);
    }

    /// Why an item must not be seen, if it must not.
    #[inline(always)]
    pub(crate) fn gone(&self, location: usize, deadline: u32, now: u32) -> Option<Reason> {
        let notes = self.arena.page(self.arena.page_of(location));
        self.gone_in(notes, location, deadline, now)
    }

    /// As `gone`, of an item in the segment with these notes.
    #[inline(always)]
    fn gone_in(&self, notes: &Page, location: usize, deadline: u32, now: u32) -> Option<Reason> {
        if notes.epoch < self.suspect_epoch && self.is_flushed(location) {
            Some(Reason::Flushed)
        } else if deadline <= now {
            Some(Reason::Expired)
        } else {
            None
        }
    }
}
