//! One hash bucket: a cache line of nine entries.
//!
//! ```text
//!  0        2        4             16       18            23            28              58            63  64
//! +--------+--------+---  ...  ---+--------+-------------+-------------+---   ...   ---+-------------+---+
//! | tag 0  | tag 1  |             | tag 8  | entry 0     | entry 1     |               | entry 8     | - |
//! +--------+--------+---  ...  ---+--------+-------------+-------------+---   ...   ---+-------------+---+
//!                                           location: 34 bits, frequency: 6 bits
//! ```
//!
//! A location is counted in granules here, which are bytes unless the memory is larger than 16 GiB (`Pages`).
//!
//! The five bytes of an empty slot have room for two ghosts (`ghosts`), of twenty bits each:
//!
//! ```text
//!  0                  12               20                 32               40
//! +------------------+----------------+------------------+----------------+
//! | mark: 12 bits    | stamp: 8 bits  | mark: 12 bits    | stamp: 8 bits  |
//! +------------------+----------------+------------------+----------------+
//!  \______________ younger __________/ \_______________ older ___________/
//! ```
//!
//! Always true: a slot is empty exactly when its tag is zero; then its five bytes are ghosts. No mark is zero, so twenty
//! bits of zero are no ghost.

/// Bytes of a bucket: a cache line.
pub(crate) const BUCKET_BYTES: usize = 64;
/// Entries in a bucket.
pub(crate) const SLOTS: usize = 9;
/// Ghosts an empty slot has room for.
pub(crate) const SLOT_GHOSTS: usize = 2;
/// Bits of a location in granules.
pub(crate) const LOCATION_BITS: u32 = 34;
/// The largest frequency.
pub(crate) const FREQUENCY_MAX: u8 = (1 << (8 * ENTRY_BYTES - LOCATION_BITS as usize)) - 1;

const TAG_BYTES: usize = 2;
const ENTRY_BYTES: usize = 5;
const ENTRIES_AT: usize = SLOTS * TAG_BYTES;
/// Reading the bytes before an entry and shifting them out keeps a read of eight bytes inside the bucket.
const BEFORE_BYTES: usize = 8 - ENTRY_BYTES;
/// Where the frequency begins in the last byte of an entry.
const FREQUENCY_SHIFT: u32 = LOCATION_BITS - 8 * (ENTRY_BYTES as u32 - 1);
/// Bits of a ghost.
const GHOST_BITS: u32 = 20;
/// Bits of its mark; the others are its stamp.
pub(crate) const MARK_BITS: u32 = 12;

const _: () = assert!(ENTRIES_AT + SLOTS * ENTRY_BYTES < BUCKET_BYTES);
const _: () = assert!(SLOT_GHOSTS * GHOST_BITS as usize <= 8 * ENTRY_BYTES);
const _: () = assert!(MARK_BITS + u8::BITS == GHOST_BITS);

pub(crate) use super::scan::matches;

pub(crate) type Bucket = [u8; BUCKET_BYTES];

/// The ghosts of an empty slot, the youngest first. `0` is none, less than `1 << GHOST_BITS` is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ghosts(u64);

impl Ghosts {
    const ONE: u64 = (1 << GHOST_BITS) - 1;

    pub fn count(self) -> usize {
        usize::from(self.0 != 0) + usize::from(self.0 > Self::ONE)
    }

    /// Adds a ghost. When there are two already the older goes.
    pub fn push(self, mark: u16, stamp: u8) -> Self {
        debug_assert!(mark != 0 && mark < 1 << MARK_BITS);
        let young = u64::from(mark) | u64::from(stamp) << MARK_BITS;
        Self((self.0 & Self::ONE) << GHOST_BITS | young)
    }

    /// The younger one; the older is `rest`.
    #[inline(always)]
    pub fn first(self) -> (u16, u8) {
        let mark = self.0 as u16 & ((1 << MARK_BITS) - 1);
        (mark, (self.0 >> MARK_BITS) as u8)
    }

    /// All but the youngest.
    #[inline(always)]
    pub fn rest(self) -> Self {
        Self(self.0 >> GHOST_BITS)
    }

    /// All but the oldest of two.
    pub fn without_rest(self) -> Self {
        Self(self.0 & Self::ONE)
    }
}

#[inline(always)]
pub(crate) fn view(memory: &[u8], at: usize) -> &Bucket {
    memory[at..at + BUCKET_BYTES]
        .try_into()
        .expect("a bucket's bytes")
}

#[inline(always)]
fn view_mut(memory: &mut [u8], at: usize) -> &mut Bucket {
    (&mut memory[at..at + BUCKET_BYTES])
        .try_into()
        .expect("a bucket's bytes")
}

#[inline(always)]
pub(crate) fn tag(bucket: &Bucket, slot: usize) -> u16 {
    u16::from_le_bytes([bucket[slot * TAG_BYTES], bucket[slot * TAG_BYTES + 1]])
}

/// The five bytes of a slot as a number.
#[inline(always)]
fn entry(bucket: &Bucket, slot: usize) -> u64 {
    let at = ENTRIES_AT - BEFORE_BYTES + slot * ENTRY_BYTES;
    let word = bucket[at..].first_chunk().expect("an entry of the bucket");
    u64::from_le_bytes(*word) >> (8 * BEFORE_BYTES)
}

#[inline(always)]
fn set_entry(bucket: &mut Bucket, slot: usize, entry: u64) {
    bucket[ENTRIES_AT + slot * ENTRY_BYTES..][..ENTRY_BYTES]
        .copy_from_slice(&entry.to_le_bytes()[..ENTRY_BYTES]);
}

#[inline(always)]
fn set_tag(bucket: &mut Bucket, slot: usize, tag: u16) {
    bucket[slot * TAG_BYTES..][..TAG_BYTES].copy_from_slice(&tag.to_le_bytes());
}

/// Where the item of a slot is, in granules. Only meaningful for a slot in use.
#[inline(always)]
pub(crate) fn location(bucket: &Bucket, slot: usize) -> u64 {
    entry(bucket, slot) & ((1 << LOCATION_BITS) - 1)
}

#[inline(always)]
pub(crate) fn frequency(bucket: &Bucket, slot: usize) -> u8 {
    bucket[ENTRIES_AT + slot * ENTRY_BYTES + ENTRY_BYTES - 1] >> FREQUENCY_SHIFT
}

/// Counts one more. The frequency must be less than [`FREQUENCY_MAX`].
#[inline(always)]
pub(crate) fn raise_frequency(memory: &mut [u8], at: usize, slot: usize) {
    memory[at + ENTRIES_AT + slot * ENTRY_BYTES + ENTRY_BYTES - 1] += 1 << FREQUENCY_SHIFT;
}

#[inline(always)]
pub(crate) fn set_frequency(memory: &mut [u8], at: usize, slot: usize, frequency: u8) {
    debug_assert!(frequency <= FREQUENCY_MAX);
    let byte = &mut memory[at + ENTRIES_AT + slot * ENTRY_BYTES + ENTRY_BYTES - 1];
    *byte = *byte & ((1 << FREQUENCY_SHIFT) - 1) | frequency << FREQUENCY_SHIFT;
}

/// Leads an entry to another place; tag and frequency stay.
#[inline(always)]
pub(crate) fn set_location(memory: &mut [u8], at: usize, slot: usize, location: u64) {
    debug_assert!(location < 1 << LOCATION_BITS);
    let bucket = view_mut(memory, at);
    let frequency = entry(bucket, slot) >> LOCATION_BITS << LOCATION_BITS;
    set_entry(bucket, slot, frequency | location);
}

#[inline(always)]
pub(crate) fn put(
    memory: &mut [u8],
    at: usize,
    slot: usize,
    tag: u16,
    location: u64,
    frequency: u8,
) {
    debug_assert!(tag != 0 && location < 1 << LOCATION_BITS && frequency <= FREQUENCY_MAX);
    let bucket = view_mut(memory, at);
    set_tag(bucket, slot, tag);
    set_entry(
        bucket,
        slot,
        location | u64::from(frequency) << LOCATION_BITS,
    );
}

/// Makes a slot empty, without ghosts.
#[inline(always)]
pub(crate) fn clear(memory: &mut [u8], at: usize, slot: usize) {
    let bucket = view_mut(memory, at);
    set_tag(bucket, slot, 0);
    set_entry(bucket, slot, 0);
}

/// Moves an entry to an empty slot of another bucket (or the same).
pub(crate) fn move_entry(memory: &mut [u8], from: (usize, usize), to: (usize, usize)) {
    let source = view(memory, from.0);
    let (tag, entry) = (tag(source, from.1), entry(source, from.1));
    clear(memory, from.0, from.1);
    let target = view_mut(memory, to.0);
    set_tag(target, to.1, tag);
    set_entry(target, to.1, entry);
}

/// Moves an entry to an empty slot of a bucket that is still being made.
#[inline(always)]
pub(crate) fn take_entry(
    memory: &mut [u8],
    at: usize,
    slot: usize,
    to: &mut Bucket,
    to_slot: usize,
) {
    let source = view_mut(memory, at);
    set_tag(to, to_slot, tag(source, slot));
    set_entry(to, to_slot, entry(source, slot));
    set_tag(source, slot, 0);
    set_entry(source, slot, 0);
}

/// The ghosts of an empty slot.
#[inline(always)]
pub(crate) fn ghosts(bucket: &Bucket, slot: usize) -> Ghosts {
    debug_assert_eq!(tag(bucket, slot), 0);
    Ghosts(entry(bucket, slot))
}

/// Writes the ghosts of an empty slot.
#[inline(always)]
pub(crate) fn set_ghosts(memory: &mut [u8], at: usize, slot: usize, ghosts: Ghosts) {
    let bucket = view_mut(memory, at);
    debug_assert_eq!(tag(bucket, slot), 0);
    set_entry(bucket, slot, ghosts.0);
}

/// The empty slots, a bit each.
#[inline(always)]
pub(crate) fn empties(bucket: &Bucket) -> u32 {
    matches(bucket, 0)
}

/// How many slots these are.
///
/// Not every processor this is built for counts bits, and what the compiler does there takes three times as long.
#[inline(always)]
pub(crate) fn count(slots: u32) -> u32 {
    // Each copy of the bits has another quarter of them where every fourth bit is looked at; the product adds those up.
    const COPIES: u64 = 1 | 1 << 15 | 1 << 30 | 1 << 45;
    const FOURTHS: u64 = 0x1111_1111_1111_1111;
    let spread = u64::from(slots).wrapping_mul(COPIES) & FOURTHS;
    (spread.wrapping_mul(FOURTHS) >> 60) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCATION_MAX: u64 = (1 << LOCATION_BITS) - 1;

    #[test]
    fn entries_read_back_and_leave_their_neighbours_alone() {
        let mut memory = vec![0u8; 192];
        for slot in 0..SLOTS {
            put(
                &mut memory,
                64,
                slot,
                0x0101 * (slot as u16 + 1),
                LOCATION_MAX - slot as u64,
                50 + slot as u8,
            );
        }
        set_location(&mut memory, 64, 3, 0x2_3456_789a);
        set_frequency(&mut memory, 64, 4, 7);
        raise_frequency(&mut memory, 64, 6);
        clear(&mut memory, 64, 5);
        for slot in (0..SLOTS).filter(|&slot| slot != 5) {
            let bucket = view(&memory, 64);
            let expected = (
                0x0101 * (slot as u16 + 1),
                if slot == 3 {
                    0x2_3456_789a
                } else {
                    LOCATION_MAX - slot as u64
                },
                [50, 51, 52, 53, 7, 0, 57, 57, 58][slot],
            );
            assert_eq!(
                (
                    tag(bucket, slot),
                    location(bucket, slot),
                    frequency(bucket, slot)
                ),
                expected
            );
        }
        assert_eq!(empties(view(&memory, 64)), 1 << 5);
        assert!(
            memory[..64]
                .iter()
                .chain(&memory[128..])
                .all(|&byte| byte == 0)
        );
    }

    #[test]
    fn ghosts_stand_in_empty_slots_until_an_entry_takes_them() {
        let mut memory = vec![0; 64];
        let (all, none) = ((1 << SLOTS) - 1, Ghosts::default());
        for slot in 0..SLOTS {
            put(&mut memory, 0, slot, 0xbeef, LOCATION_MAX, FREQUENCY_MAX);
            clear(&mut memory, 0, slot);
            let left = ghosts(view(&memory, 0), slot);
            assert_eq!(left, none, "what was there is no ghost");
        }
        let one = none.push(0xfff, 0);
        let two = one.push(1, 0xff);
        for (ghosts_there, count) in [(none, 0), (one, 1), (two, 2)] {
            set_ghosts(&mut memory, 0, 8, ghosts_there);
            let bucket = view(&memory, 0);
            assert_eq!(ghosts(bucket, 8), ghosts_there);
            assert_eq!(ghosts(bucket, 8).count(), count);
            assert_eq!(ghosts(bucket, 7), none);
            assert_eq!((empties(bucket), matches(bucket, 0xbeef)), (all, 0));
        }
        assert_eq!((two.first(), two.rest()), ((1, 0xff), one));
        assert_eq!(two.without_rest().rest(), none);
        assert_eq!(two.push(5, 5).rest(), two.without_rest());
        put(&mut memory, 0, 8, 0xbeef, 5, 0);
        assert_eq!(location(view(&memory, 0), 8), 5);
        clear(&mut memory, 0, 8);
        assert_eq!(ghosts(view(&memory, 0), 8), none);
    }

    #[test]
    fn a_moved_entry_takes_its_frequency_along() {
        let mut memory = vec![0; 128];
        put(&mut memory, 0, 2, 0xbeef, 12_345, 61);
        move_entry(&mut memory, (0, 2), (64, 8));
        let (from, to) = (view(&memory, 0), view(&memory, 64));
        assert_eq!((empties(from), empties(to)), (0x1ff, 0xff));
        assert_eq!(
            (tag(to, 8), location(to, 8), frequency(to, 8)),
            (0xbeef, 12_345, 61)
        );
        let mut made = [0; BUCKET_BYTES];
        take_entry(&mut memory, 64, 8, &mut made, 3);
        assert_eq!(memory, [0; 128], "nothing is left of it");
        assert_eq!(
            (tag(&made, 3), location(&made, 3), frequency(&made, 3)),
            (0xbeef, 12_345, 61)
        );
    }

    #[test]
    fn slots_are_counted_right() {
        for slots in 0..1u32 << SLOTS {
            assert_eq!(count(slots), slots.count_ones(), "{slots:#b}");
        }
    }
}
