//! Ghosts: what the table remembers of items it has dropped, so that a key that comes back soon is known again, and
//! from which queue it went.
//!
//! Ghosts live in the bytes that an empty slot has no use for, two to a slot (`bucket` has the drawing). A ghost is marked
//! with eleven bits made of the key's tag and one for the queue. So one in several hundred new keys is taken for another,
//! which costs no more than an item in the wrong queue, and the ghost it finds still names the queue that left it. Were the
//! queue told by a second mark of the key instead, half of those taken for another would be counted for the wrong queue, and
//! one that drops nothing would seem worth more memory: perf/notes/eviction-policies.md.
//!
//! A stamp counts units of a 64th of the items, in ghosts left; how many units began after it is a ghost's age. So an age
//! is as fine, and a stamp comes round as late, for large items as for small ones. A ghost older than half the items is
//! not known again, and goes when the next one is left in its bucket: in a table that is not full it would otherwise live
//! until its stamp has come round and it looks young.
//!
//! Always true: the slot of a ghost is empty to everybody else (its tag is zero), so no lookup meets a ghost, none makes
//! the table grow, and an entry takes the slot of ghosts without asking; `ghosts` counts them.

use super::bucket::{self, Ghosts, MARK_BITS, SLOTS};
use super::{Candidates, Place, Table};
use crate::key;
use crate::segment::arena::Queue;

/// `log2` of the units of a stamp in the time that as many ghosts are left as there are items.
const UNITS_SHIFT: u32 = 6;
/// The age in units up to which a ghost is known: half the items. Where there is room for older ones, keys that come back
/// so late are not worth a place in the main queue: perf/notes/eviction-policies.md.
const KNOWN_UNITS: u8 = 1 << (UNITS_SHIFT - 1);
// An old ghost looks young only if none is left in its bucket for seven times as long, and a bucket has several items.
const _: () = assert!(KNOWN_UNITS as u32 * 8 == 1 << u8::BITS);

/// What a key whose item was in `queue` leaves of its tag. It is never zero.
#[inline]
fn mark(tag: u16, queue: Queue) -> u16 {
    // The tags of one bucket share some of their bits, so all of them have a say.
    let of_key = (key::tag_product(tag) >> (u32::BITS - (MARK_BITS - 1))) as u16;
    of_key.max(1) << 1 | u16::from(queue == Queue::Main)
}

impl Table {
    /// Ghosts in the table.
    pub fn ghosts(&self) -> usize {
        self.ghosts
    }

    /// Leaves a ghost of an item of `queue` whose entry has just been taken out.
    pub fn leave_ghost(&mut self, memory: &mut [u8], place: Place, tag: u16, queue: Queue) {
        self.pass_ghost_time();
        self.ghosts += 1;
        // Beside another one if it can, so that the next entry finds a slot without any.
        let mut free = bucket::empties(bucket::view(memory, place.bucket_at));
        let mut here = (place.slot, Ghosts::default());
        while free != 0 {
            let slot = free.trailing_zeros() as usize;
            let ghosts = bucket::ghosts(bucket::view(memory, place.bucket_at), slot);
            let known = self.known_of(ghosts);
            if known != ghosts {
                self.ghosts -= ghosts.count() - known.count();
                bucket::set_ghosts(memory, place.bucket_at, slot, known);
            }
            if known.count() == 1 {
                here = (slot, known);
            }
            free &= free - 1;
        }
        let (slot, ghosts) = here;
        let ghosts = ghosts.push(mark(tag, queue), self.ghost_stamp);
        bucket::set_ghosts(memory, place.bucket_at, slot, ghosts);
    }

    /// The ghost that the key with this tag and these candidates has left, if it is not too old: the queue its item was
    /// dropped from, and about how many ghosts came after it. It is gone then.
    pub fn take_ghost(
        &mut self,
        memory: &mut [u8],
        Candidates { first, second, .. }: Candidates,
        tag: u16,
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
            let units = self.units_since(stamp);
            if units <= KNOWN_UNITS {
                let age = (u64::from(units) * self.entries as u64) >> UNITS_SHIFT;
                found = Some((queue, age));
            }
            bucket::set_ghosts(memory, place.bucket_at, place.slot, kept);
            self.ghosts -= 1;
        }
        found
    }

    /// One more ghost is left.
    fn pass_ghost_time(&mut self) {
        self.ghosts_in_unit += 1;
        if self.ghosts_in_unit << UNITS_SHIFT >= self.entries {
            self.ghosts_in_unit = 0;
            self.ghost_stamp = self.ghost_stamp.wrapping_add(1);
        }
    }

    /// How many units began after a ghost with this stamp was left.
    fn units_since(&self, stamp: u8) -> u8 {
        self.ghost_stamp.wrapping_sub(stamp)
    }

    /// Those of a slot that are not too old.
    fn known_of(&self, ghosts: Ghosts) -> Ghosts {
        let is_known = |ghosts: Ghosts| self.units_since(ghosts.first().1) <= KNOWN_UNITS;
        if !is_known(ghosts) {
            Ghosts::default()
        } else if !is_known(ghosts.rest()) {
            ghosts.without_rest()
        } else {
            ghosts
        }
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
        // The younger, the more.
        let worth = |ghosts: Ghosts| match ghosts.first() {
            (0, _) => 0,
            (_, stamp) => u32::from(u8::MAX - self.units_since(stamp)) + 1,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyHash;
    use crate::{Eviction, HASH_SEED_WORDS, KeyHasher, Shard, ShardConfig};

    fn shard() -> Shard<Vec<u8>> {
        let config = ShardConfig {
            item_max_bytes: 64 << 10,
            eviction: Eviction::S3Fifo,
            seed: 1,
        };
        let hasher = KeyHasher::new([7; HASH_SEED_WORDS]);
        Shard::new(vec![0; 4 << 20], hasher, config).expect("enough memory")
    }

    fn hashes(from: u64) -> impl Iterator<Item = KeyHash> {
        (from..).map(|i| KeyHash(i.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// An entry takes a slot in the first bucket of a key and leaves a ghost there.
    fn leave(shard: &mut Shard<Vec<u8>>, hash: KeyHash, queue: Queue) {
        let (bucket_at, _) = shard.table.both(hash);
        let memory = shard.arena.bytes_mut();
        let free = bucket::empties(bucket::view(memory, bucket_at));
        let slot = shard.table.claim(memory, bucket_at, free);
        bucket::clear(memory, bucket_at, slot);
        let place = Place { bucket_at, slot };
        shard.table.leave_ghost(memory, place, hash.tag(), queue);
    }

    fn take(shard: &mut Shard<Vec<u8>>, hash: KeyHash) -> Option<(Queue, u64)> {
        let pair = shard.table.pair(hash);
        let places = shard.table.candidates_of(shard.arena.bytes(), pair, hash);
        let memory = shard.arena.bytes_mut();
        shard.table.take_ghost(memory, places, hash.tag())
    }

    #[test]
    fn marks_of_the_queues_have_nothing_in_common() {
        let of = |queue| (1..=u16::MAX).map(move |tag| mark(tag, queue));
        for (small, main) in of(Queue::Small).zip(of(Queue::Main)) {
            assert!(small != 0 && main < 1 << MARK_BITS);
            assert_eq!((small & 1, main), (0, small | 1));
        }
    }

    #[test]
    fn a_key_taken_for_another_finds_the_queue_that_dropped_the_other() {
        for queue in [Queue::Small, Queue::Main] {
            let mut shard = shard();
            shard.table.entries = 20_000;
            for hash in hashes(0).take(5000) {
                leave(&mut shard, hash, queue);
            }
            let found: Vec<_> = hashes(1 << 40)
                .take(50_000)
                .filter_map(|hash| take(&mut shard, hash))
                .map(|(queue, _)| queue)
                .collect();
            assert!(
                (50..5000).contains(&found.len()),
                "{} by chance",
                found.len()
            );
            assert!(found.iter().all(|&of| of == queue), "{found:?}");
        }
    }

    #[test]
    fn a_ghost_older_than_half_the_items_goes_when_the_next_comes() {
        let mut shard = shard();
        shard.table.entries = 512;
        let of_one_bucket = |tag: u64| KeyHash(tag << 32 | 77);
        let (bucket_at, _) = shard.table.both(of_one_bucket(1));
        let left = |shard: &Shard<Vec<u8>>| {
            let noted = shard.table.ghosts();
            let bucket = bucket::view(shard.arena.bytes(), bucket_at);
            assert_eq!(noted, ghosts_in(bucket));
            noted
        };
        let pass = |shard: &mut Shard<Vec<u8>>, ghosts: usize| {
            (0..ghosts).for_each(|_| shard.table.pass_ghost_time());
        };
        leave(&mut shard, of_one_bucket(1), Queue::Small);
        pass(&mut shard, 100);
        leave(&mut shard, of_one_bucket(2), Queue::Small);
        pass(&mut shard, 150);
        leave(&mut shard, of_one_bucket(3), Queue::Main);
        assert_eq!(left(&shard), 3);
        pass(&mut shard, 50);
        assert_eq!(take(&mut shard, of_one_bucket(1)), None, "300 came after");
        assert_eq!(left(&shard), 2);
        pass(&mut shard, 100);
        leave(&mut shard, of_one_bucket(4), Queue::Main);
        assert_eq!(left(&shard), 2, "the second is as old as the first was");
        pass(&mut shard, 300);
        leave(&mut shard, of_one_bucket(1), Queue::Small);
        assert_eq!(left(&shard), 1);
    }

    #[test]
    fn ages_are_as_fine_for_few_items_as_for_many() {
        // Of one item to a row, and of a hundred.
        for items in [256usize, 25_600] {
            // A stamp comes round after four times the items.
            for eighths in (0..24).filter(|&eighths| eighths != 4) {
                let mut shard = shard();
                shard.table.entries = items;
                let hash = KeyHash(5 << 32 | 77);
                leave(&mut shard, hash, Queue::Small);
                let passing = items * eighths / 8;
                (0..passing).for_each(|_| shard.table.pass_ghost_time());
                let found = take(&mut shard, hash);
                let is_right = match found {
                    Some((_, age)) => {
                        passing <= items / 2 && age.abs_diff(passing as u64) <= items as u64 / 32
                    }
                    None => passing > items / 2,
                };
                assert!(is_right, "{found:?} for {passing} of {items}");
            }
        }
    }
}
