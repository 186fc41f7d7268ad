//! Ghosts: what the table remembers of items it has dropped, so that a key that comes back soon is known again, and
//! from which queue it went.
//!
//! A ghost lives in the six bytes that an empty slot has no use for:
//!
//! ```text
//!  0        2                              6
//! +--------+--------------------------+---+
//! | tag    | stamp: 31 bits           | 1 |
//! +--------+--------------------------+---+
//! ```
//!
//! The tag is the key's for an item of the small queue, and its complement for one of the main queue; so a key may be taken
//! for another, which costs no more than an item in the wrong queue. The last bit is where an entry has the top bit of its frequency, which no entry sets. The stamp is the number of the
//! ghost since the start; how many came after it is its age.
//!
//! Always true: the slot of a ghost is empty to everybody else (its tag is zero), so no lookup meets a ghost, none makes
//! the table grow, and an entry takes the slot of one without asking; `ghosts` counts them.

use super::bucket::{self, SLOTS};
use super::{Candidates, Place, Table};
use crate::segment::arena::Queue;

/// Bits of a stamp. A ghost that outlives so many others looks young again, which costs no more than one item in the
/// wrong queue.
const STAMP_MASK: u32 = (1 << 31) - 1;

/// What marks the ghost of a key with this tag.
#[inline]
fn mark(tag: u16, queue: Queue) -> u16 {
    match queue {
        Queue::Small => tag,
        Queue::Main => !tag,
    }
}

impl Table {
    /// Ghosts in the table.
    pub fn ghosts(&self) -> usize {
        self.ghosts
    }

    /// Leaves a ghost of an item of `queue` whose entry has just been taken out.
    pub fn leave_ghost(&mut self, memory: &mut [u8], place: Place, tag: u16, queue: Queue) {
        debug_assert_eq!(
            bucket::tag(bucket::view(memory, place.bucket_at), place.slot),
            0
        );
        self.ghost_clock = (self.ghost_clock + 1) & STAMP_MASK;
        let (mark, stamp) = (mark(tag, queue), self.ghost_clock);
        bucket::put_ghost(memory, place.bucket_at, place.slot, mark, stamp);
        self.ghosts += 1;
    }

    /// The ghost no older than `age_max` that the key with this tag and these candidates has left: the queue its item was
    /// dropped from, and how many ghosts came after it. It is gone then.
    pub fn take_ghost(
        &mut self,
        memory: &mut [u8],
        Candidates { first, second, .. }: Candidates,
        tag: u16,
        age_max: u32,
    ) -> Option<(Queue, u32)> {
        if self.ghosts == 0 {
            return None;
        }
        let mut found = None;
        let marks = [Queue::Small, Queue::Main].map(|queue| (queue, mark(tag, queue)));
        for bucket_at in [first, second] {
            for slot in 0..SLOTS {
                let bucket = bucket::view(memory, bucket_at);
                if let Some((mark, stamp)) = bucket::ghost(bucket, slot)
                    && let Some(&(queue, _)) = marks.iter().find(|&&(_, wanted)| wanted == mark)
                {
                    let age = self.age(stamp);
                    if age <= age_max {
                        found = Some((queue, age));
                    }
                    bucket::clear_ghost(memory, bucket_at, slot);
                    self.ghosts -= 1;
                }
            }
        }
        found
    }

    fn age(&self, stamp: u32) -> u32 {
        self.ghost_clock.wrapping_sub(stamp) & STAMP_MASK
    }

    /// The slot of a bucket that an entry is about to take, of the `free` ones: one without a ghost, or that of the
    /// oldest, which goes.
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
        let age = |slot| bucket::ghost(bucket, slot).map_or(u32::MAX, |(_, stamp)| self.age(stamp));
        let slot = (0..SLOTS)
            .filter(|&slot| free & 1 << slot != 0)
            .max_by_key(|&slot| age(slot))
            .expect("some slot is free");
        self.ghosts -= usize::from(bucket::ghost(bucket, slot).is_some());
        slot
    }

    /// A bucket is about to be taken away, and its ghosts with it.
    pub(super) fn forget_ghosts(&mut self, memory: &[u8], bucket_at: usize) {
        let bucket = bucket::view(memory, bucket_at);
        let is_ghost = |&slot: &usize| bucket::ghost(bucket, slot).is_some();
        self.ghosts -= (0..SLOTS).filter(is_ghost).count();
    }
}
