//! Ghosts: what the table remembers of items dropped before they were judged, so that a key that comes back soon is
//! known again.
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
//! The last bit is where an entry has the top bit of its frequency, which no entry sets. The stamp is the number of the
//! ghost since the start; how many came after it is its age.
//!
//! Always true: the slot of a ghost is empty to everybody else (its tag is zero), so no lookup meets a ghost, none makes
//! the table grow, and an entry takes the slot of one without asking; `ghosts` counts them.

use super::bucket::{self, SLOTS};
use super::{Candidates, Place, Table};

/// Bits of a stamp. A ghost that outlives so many others looks young again, which costs no more than one item in the
/// wrong queue.
const STAMP_MASK: u32 = (1 << 31) - 1;

impl Table {
    /// Ghosts in the table.
    pub fn ghosts(&self) -> usize {
        self.ghosts
    }

    /// Leaves a ghost of an item whose entry has just been taken out.
    pub fn leave_ghost(&mut self, memory: &mut [u8], place: Place, tag: u16) {
        debug_assert_eq!(
            bucket::tag(bucket::view(memory, place.bucket_at), place.slot),
            0
        );
        self.ghost_clock = (self.ghost_clock + 1) & STAMP_MASK;
        bucket::put_ghost(memory, place.bucket_at, place.slot, tag, self.ghost_clock);
        self.ghosts += 1;
    }

    /// Whether the key with this tag and these candidates has left a ghost no older than `age_max`; it is gone then.
    pub fn take_ghost(
        &mut self,
        memory: &mut [u8],
        Candidates { first, second, .. }: Candidates,
        wanted: u16,
        age_max: u32,
    ) -> bool {
        if self.ghosts == 0 {
            return false;
        }
        let mut found = false;
        for bucket_at in [first, second] {
            for slot in 0..SLOTS {
                let bucket = bucket::view(memory, bucket_at);
                if let Some((tag, stamp)) = bucket::ghost(bucket, slot)
                    && tag == wanted
                {
                    found |= self.age(stamp) <= age_max;
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

    /// The slot of a bucket that an entry takes, of the `free` ones: one without a ghost, or that of the oldest.
    #[inline(always)]
    pub(super) fn slot_of(&self, memory: &[u8], bucket_at: usize, free: u32) -> usize {
        if self.ghosts == 0 {
            free.trailing_zeros() as usize
        } else {
            self.slot_among_ghosts(memory, bucket_at, free)
        }
    }

    fn slot_among_ghosts(&self, memory: &[u8], bucket_at: usize, free: u32) -> usize {
        let bucket = bucket::view(memory, bucket_at);
        (0..SLOTS)
            .filter(|&slot| free & 1 << slot != 0)
            .max_by_key(|&slot| match bucket::ghost(bucket, slot) {
                Some((_, stamp)) => self.age(stamp),
                None => u32::MAX,
            })
            .expect("some slot is free")
    }

    /// An entry is about to be written to an empty slot.
    #[inline(always)]
    pub(super) fn give_way(&mut self, memory: &[u8], bucket_at: usize, slot: usize) {
        if self.ghosts != 0 && bucket::ghost(bucket::view(memory, bucket_at), slot).is_some() {
            self.ghosts -= 1;
        }
    }

    /// A bucket is about to be taken away.
    pub(super) fn give_way_all(&mut self, memory: &[u8], bucket_at: usize) {
        for slot in 0..SLOTS {
            self.give_way(memory, bucket_at, slot);
        }
    }
}
