//! When an item dies, and touch.
//!
//! An item tells its deadline as seconds after the base of its segment, or, too far from it, writes it out. The base is
//! chosen by the first item of the segment, whose deadline comes to stand in the middle of what can be told: those that
//! follow it at a ttl of a day do so for nine hours, and those that were stored up to nine hours earlier and are moved
//! there fit too.
//!
//! ```text
//! now        base             deadline of the first item          base + DELTA_MAX
//!  |          |<-- nine hours -->|<----------- nine hours ----------->|
//! ```
//!
//! Always true: `max_deadline` of a segment is no earlier than the deadline of any item in it.

use super::relocate::moved_size;
use super::{Reason, Shard, TouchOutcome, Unique};
use crate::item::{self, Header};
use crate::key::Key;
use crate::segment::arena::{Kind, Memory, Page};
use crate::ttl::{Deadline, NEVER, Seconds};

/// The base of a segment is so much earlier than the deadline of its first item, but never in the past.
const BASE_LEAD_SECONDS: u32 = 1 << 15;

/// A touch that shortens the life of an item leaves it in place if its segment lives no longer than this besides twice
/// the new ttl; otherwise the item moves where its space comes back in time.
const TOUCH_SLACK_SECONDS: u32 = 60;

impl<M: Memory> Shard<M> {
    /// Gives an item a new deadline. Its CAS unique stays. Counts as a fetch.
    pub fn touch(&mut self, key: Key<'_>, deadline: Deadline, now: Seconds) -> TouchOutcome {
        self.touch_as(key, deadline, now.0, item::FETCHED)
    }

    /// As `touch`; counts as a fetch if `fetched` is that bit.
    pub(super) fn touch_as(
        &mut self,
        key: Key<'_>,
        deadline: Deadline,
        now: u32,
        fetched: u8,
    ) -> TouchOutcome {
        let deadline = deadline.raw();
        let Some((entry, mut header)) = self.lookup(key, now) else {
            return TouchOutcome::NotFound;
        };
        if deadline <= now {
            self.bury(entry, header, Reason::Command);
            return TouchOutcome::Touched;
        }
        if fetched != 0 {
            self.mark(entry.location, &mut header, fetched, Unique::Unasked, now);
        }
        if self.touch_in_place(entry.location, header, deadline, now) {
            return TouchOutcome::Touched;
        }
        let size = moved_size(header);
        let queue = self.queue_of(entry.location);
        let Ok(page) = self.make_room(queue, size, 0, deadline, now) else {
            return TouchOutcome::NoMemory;
        };
        let Some((entry, header)) = self.lookup(key, now) else {
            return TouchOutcome::NotFound;
        };
        self.relocate(entry.place, entry.location, header, page, deadline);
        TouchOutcome::Touched
    }

    pub(super) fn touch_in_place(
        &mut self,
        location: usize,
        header: Header,
        deadline: u32,
        now: u32,
    ) -> bool {
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
    pub(super) fn set_deadline(
        &mut self,
        location: usize,
        mut header: Header,
        deadline: u32,
    ) -> bool {
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
        let notes = self.arena.page(self.arena.page_of(location));
        self.deadline_in(notes, location, header)
    }

    /// As `deadline_of`, of an item in the segment with these notes.
    #[inline(always)]
    pub(super) fn deadline_in(&self, notes: &Page, location: usize, header: Header) -> u32 {
        if header.delta >= item::DELTA_PAST {
            if header.delta == item::DELTA_NEVER {
                NEVER
            } else {
                0
            }
        } else if header.has(item::FAR) {
            item::read_u32(self.arena.bytes(), header.far_at(location))
        } else {
            notes.base + u32::from(header.delta)
        }
    }
}

/// The base of a segment that is opened for an item with this deadline.
pub(super) fn base_for(deadline: u32, now: u32) -> u32 {
    match deadline {
        NEVER => now,
        _ => deadline.saturating_sub(BASE_LEAD_SECONDS).max(now),
    }
}

/// A deadline as the header tells it, if it can.
#[inline(always)]
pub(crate) fn delta_of(base: u32, deadline: u32) -> Option<u16> {
    if deadline == NEVER {
        return Some(item::DELTA_NEVER);
    }
    let delta = deadline.checked_sub(base)?;
    (delta <= u32::from(item::DELTA_MAX)).then_some(delta as u16)
}

/// Bytes it costs to write a deadline out where the header cannot tell it.
#[inline(always)]
pub(crate) fn far_bytes(base: u32, deadline: u32) -> usize {
    match delta_of(base, deadline) {
        Some(_) => 0,
        None => item::FAR_BYTES,
    }
}
