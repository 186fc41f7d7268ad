//! Ghosts: what the table remembers of items it has dropped, so that a key that comes back soon is known again, and
//! from which queue it went.
//!
//! Ghosts live in the bytes that an empty slot has no use for, two to a slot (`bucket` has the drawing). A ghost is marked
//! with twelve bits made of the key's tag and the queue, so one in several hundred new keys is taken for another, which
//! costs no more than an item in the wrong queue. Its stamp counts the ghosts left since the start, in units of a quarter
//! of the table's rows; how many units came after it is its age.
//!
//! Always true: the slot of a ghost is empty to everybody else (its tag is zero), so no lookup meets a ghost, none makes
//! the table grow, and an entry takes the slot of ghosts without asking; `ghosts` counts them.

use super::bucket::{self, Ghosts, MARK_BITS, SLOTS};
use super::{Candidates, Place, Table};
use crate::key;
use crate::segment::arena::Queue;

/// `log2` of the units of a stamp in as many ghosts as the table has rows. After 256 units, 64 ghosts to a row, a ghost
/// looks young again. Few live that long, since entries take their slots.
const UNITS_SHIFT: u32 = 2;

/// What a key whose item was in `queue` leaves of its tag. It is never zero.
#[inline]
fn mark(tag: u16, queue: Queue) -> u16 {
    // The tags of one bucket share some of their bits, so all of them have a say.
    let of_small = (key::tag_product(tag) >> (u32::BITS - MARK_BITS)) as u16;
    let mark = match queue {
        Queue::Small => of_small,
        Queue::Main => !of_small & ((1 << MARK_BITS) - 1),
    };
    mark.max(1)
}

impl Table {
    /// Ghosts in the table.
    pub fn ghosts(&self) -> usize {
        self.ghosts
    }

    /// Leaves a ghost of an item of `queue` whose entry has just been taken out.
    pub fn leave_ghost(&mut self, memory: &mut [u8], place: Place, tag: u16, queue: Queue) {
        self.ghosts_left += 1;
        self.ghosts += 1;
        let bucket = bucket::view(memory, place.bucket_at);
        // Beside another one if it can, so that the next entry finds a slot without any.
        let mut free = bucket::empties(bucket);
        let mut here = (place.slot, Ghosts::default());
        while free != 0 {
            let slot = free.trailing_zeros() as usize;
            let ghosts = bucket::ghosts(bucket, slot);
            if ghosts.count() == 1 {
                here = (slot, ghosts);
                break;
            }
            free &= free - 1;
        }
        let (slot, ghosts) = here;
        let ghosts = ghosts.push(mark(tag, queue), self.stamp());
        bucket::set_ghosts(memory, place.bucket_at, slot, ghosts);
    }

    /// The ghost no older than `age_max` others that the key with this tag and these candidates has left: the queue its
    /// item was dropped from, and about how many ghosts came after it. It is gone then.
    pub fn take_ghost(
        &mut self,
        memory: &mut [u8],
        Candidates { first, second, .. }: Candidates,
        tag: u16,
        age_max: u64,
    ) -> Option<(Queue, u64)> {
        if self.ghosts == 0 {
            return None;
        }
        let (of_small, of_main) = (mark(tag, Queue::Small), mark(tag, Queue::Main));
        let queue_of = |(mark, _): (u16, u8)| match mark {
            _ if mark == of_small => Some(Queue::Small),
            _ if mark == of_main => Some(Queue::Main),
            _ => None,
        };
        let free = bucket::empties(bucket::view(memory, first))
            | bucket::empties(bucket::view(memory, second)) << SLOTS;
        let empty = Candidates {
            first,
            second,
            slots: free,
        };
        let mut found = None;
        while let Some((place, kept, queue, stamp)) = empty.find(|place| {
            let ghosts = bucket::ghosts(bucket::view(memory, place.bucket_at), place.slot);
            let (young, old) = (ghosts.first(), ghosts.rest().first());
            let of_young = queue_of(young).map(|queue| (place, ghosts.rest(), queue, young.1));
            of_young
                .or_else(|| queue_of(old).map(|queue| (place, ghosts.without_rest(), queue, old.1)))
        }) {
            let age = self.age(stamp);
            if age <= age_max {
                found = Some((queue, age));
            }
            bucket::set_ghosts(memory, place.bucket_at, place.slot, kept);
            self.ghosts -= 1;
        }
        found
    }

    /// The present, as ghosts tell it.
    fn stamp(&self) -> u8 {
        (self.ghosts_left >> self.stamp_shift()) as u8
    }

    /// `log2` of the ghosts to a unit of a stamp.
    fn stamp_shift(&self) -> u32 {
        self.row_shift - UNITS_SHIFT
    }

    /// About how many were left after the one with this stamp.
    fn age(&self, stamp: u8) -> u64 {
        u64::from(self.stamp().wrapping_sub(stamp)) << self.stamp_shift()
    }

    /// The slot of a bucket that an entry is about to take, of the `free` ones: one without ghosts, or the one whose
    /// ghosts are least worth keeping, which go.
    #[inline(always)]
    pub(super) fn claim(&mut self, memory: &[u8], bucket_at: usize, free: u32) -> usize {
        if self.ghosts == 0 {
            free.trailing_zeros() as usize
        } else {
            self.claim_among_ghosts(memory, bucket_at, free)
        }
    }

    #[inline(never)]
    fn claim_among_ghosts(&mut self, memory: &[u8], bucket_at: usize, free: u32) -> usize {
        let bucket = bucket::view(memory, bucket_at);
        let now = self.stamp();
        // The younger, the more.
        let worth = |ghosts: Ghosts| match ghosts.first() {
            (0, _) => 0,
            (_, stamp) => u32::from(u8::MAX - now.wrapping_sub(stamp)) + 1,
        };
        let mut least = (u32::MAX, 0, Ghosts::default());
        let mut left = free;
        while left != 0 && least.0 != 0 {
            let slot = left.trailing_zeros() as usize;
            let ghosts = bucket::ghosts(bucket, slot);
            let both = worth(ghosts) + worth(ghosts.rest());
            if both < least.0 {
                least = (both, slot, ghosts);
            }
            left &= left - 1;
        }
        let (_, slot, ghosts) = least;
        self.ghosts -= ghosts.count();
        slot
    }

    /// A bucket is about to be taken away, and its ghosts with it.
    pub(super) fn forget_ghosts(&mut self, memory: &[u8], bucket_at: usize) {
        self.ghosts -= ghosts_in(bucket::view(memory, bucket_at));
    }
}

/// Ghosts in all slots of a bucket.
pub(crate) fn ghosts_in(bucket: &bucket::Bucket) -> usize {
    let free = bucket::empties(bucket);
    (0..SLOTS)
        .filter(|slot| free & 1 << slot != 0)
        .map(|slot| bucket::ghosts(bucket, slot).count())
        .sum()
}
