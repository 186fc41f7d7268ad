//! One hash bucket: a cache line of eight entries.
//!
//! ```text
//!  0        2        4             14       16            22            28              58            64
//! +--------+--------+---  ...  ---+--------+-------------+-------------+---   ...   ---+-------------+
//! | tag 0  | tag 1  |             | tag 7  | entry 0     | entry 1     |               | entry 7     |
//! +--------+--------+---  ...  ---+--------+-------------+-------------+---   ...   ---+-------------+
//!                                           location: 40 bits, frequency: 8 bits
//! ```
//!
//! Always true: a slot is empty exactly when its tag is zero. The six bytes of an empty slot may hold a ghost
//! (`ghosts`): then the top bit of the last one is set, which in an entry it never is.

/// Bytes of a bucket: a cache line.
pub(crate) const BUCKET_BYTES: usize = 64;
/// Entries in a bucket.
pub(crate) const SLOTS: usize = 8;

const TAG_BYTES: usize = 2;
const ENTRY_BYTES: usize = 6;
const ENTRIES_AT: usize = SLOTS * TAG_BYTES;
/// The bit of the last byte that tells a ghost. No frequency has it.
pub(crate) const GHOST: u8 = 0x80;
/// The same bit, seen as one of the stamp.
const GHOST_STAMP: u32 = (GHOST as u32) << 24;

const _: () = assert!(ENTRIES_AT + SLOTS * ENTRY_BYTES == BUCKET_BYTES);

pub(crate) use super::scan::matches;

pub(crate) type Bucket = [u8; BUCKET_BYTES];

#[inline(always)]
pub(crate) fn view(memory: &[u8], at: usize) -> &Bucket {
    memory[at..at + BUCKET_BYTES]
        .try_into()
        .expect("a bucket's bytes")
}

fn view_mut(memory: &mut [u8], at: usize) -> &mut Bucket {
    (&mut memory[at..at + BUCKET_BYTES])
        .try_into()
        .expect("a bucket's bytes")
}

#[inline(always)]
pub(crate) fn tag(bucket: &Bucket, slot: usize) -> u16 {
    u16::from_le_bytes([bucket[slot * TAG_BYTES], bucket[slot * TAG_BYTES + 1]])
}

/// Where the item of a slot is. Only meaningful for a slot in use.
#[inline(always)]
pub(crate) fn location(bucket: &Bucket, slot: usize) -> usize {
    // Reading the two bytes before the entry and shifting them out keeps the eight-byte read inside the bucket.
    let at = ENTRIES_AT - 2 + (slot & (SLOTS - 1)) * ENTRY_BYTES;
    let word = u64::from_le_bytes(bucket[at..at + 8].try_into().expect("eight bytes"));
    (word >> 16) as usize & ((1 << 40) - 1)
}

#[inline(always)]
pub(crate) fn frequency(bucket: &Bucket, slot: usize) -> u8 {
    bucket[ENTRIES_AT + slot * ENTRY_BYTES + 5]
}

#[inline(always)]
pub(crate) fn set_frequency(memory: &mut [u8], at: usize, slot: usize, frequency: u8) {
    memory[at + ENTRIES_AT + slot * ENTRY_BYTES + 5] = frequency;
}

/// Leads an entry to another place; tag and frequency stay.
#[inline(always)]
pub(crate) fn set_location(memory: &mut [u8], at: usize, slot: usize, location: usize) {
    let here = at + ENTRIES_AT + slot * ENTRY_BYTES;
    memory[here..here + 5].copy_from_slice(&(location as u64).to_le_bytes()[..5]);
}

#[inline(always)]
pub(crate) fn put(
    memory: &mut [u8],
    at: usize,
    slot: usize,
    tag: u16,
    location: usize,
    frequency: u8,
) {
    debug_assert!(tag != 0 && location < 1 << 40 && frequency & GHOST == 0);
    let bucket = view_mut(memory, at);
    bucket[slot * TAG_BYTES..][..TAG_BYTES].copy_from_slice(&tag.to_le_bytes());
    let word = location as u64 | u64::from(frequency) << 40;
    bucket[ENTRIES_AT + slot * ENTRY_BYTES..][..ENTRY_BYTES]
        .copy_from_slice(&word.to_le_bytes()[..ENTRY_BYTES]);
}

#[inline(always)]
pub(crate) fn clear(memory: &mut [u8], at: usize, slot: usize) {
    memory[at + slot * TAG_BYTES..][..TAG_BYTES].fill(0);
}

/// Moves an entry to an empty slot of another bucket (or the same).
pub(crate) fn move_entry(memory: &mut [u8], from: (usize, usize), to: (usize, usize)) {
    let source = view(memory, from.0);
    let (tag, location, frequency) = (
        tag(source, from.1),
        location(source, from.1),
        frequency(source, from.1),
    );
    clear(memory, from.0, from.1);
    put(memory, to.0, to.1, tag, location, frequency);
}

/// Makes all slots of a bucket empty, without ghosts, whatever its bytes were.
pub(crate) fn clear_all(memory: &mut [u8], at: usize) {
    memory[at..at + BUCKET_BYTES].fill(0);
}

/// Tag and stamp of the ghost in a slot, if the slot is empty and has one.
#[inline(always)]
pub(crate) fn ghost(bucket: &Bucket, slot: usize) -> Option<(u16, u32)> {
    let at = ENTRIES_AT + slot * ENTRY_BYTES;
    if tag(bucket, slot) != 0 || bucket[at + ENTRY_BYTES - 1] & GHOST == 0 {
        return None;
    }
    let stamp: [u8; 4] = bucket[at + TAG_BYTES..at + ENTRY_BYTES]
        .try_into()
        .expect("four bytes");
    Some((
        u16::from_le_bytes([bucket[at], bucket[at + 1]]),
        u32::from_le_bytes(stamp) & !GHOST_STAMP,
    ))
}

/// Writes a ghost into an empty slot.
pub(crate) fn put_ghost(memory: &mut [u8], at: usize, slot: usize, tag: u16, stamp: u32) {
    let here = &mut view_mut(memory, at)[ENTRIES_AT + slot * ENTRY_BYTES..][..ENTRY_BYTES];
    here[..TAG_BYTES].copy_from_slice(&tag.to_le_bytes());
    here[TAG_BYTES..].copy_from_slice(&(stamp | GHOST_STAMP).to_le_bytes());
}

/// Removes the ghost of an empty slot.
pub(crate) fn clear_ghost(memory: &mut [u8], at: usize, slot: usize) {
    memory[at + ENTRIES_AT + (slot + 1) * ENTRY_BYTES - 1] = 0;
}

/// The empty slots, a bit each.
#[inline(always)]
pub(crate) fn empties(bucket: &Bucket) -> u32 {
    matches(bucket, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back_and_leave_their_neighbours_alone() {
        let mut memory = vec![0u8; 192];
        for slot in 0..SLOTS {
            put(
                &mut memory,
                64,
                slot,
                0x0101 * (slot as u16 + 1),
                (1 << 40) - 1 - slot,
                100 + slot as u8,
            );
        }
        set_location(&mut memory, 64, 3, 0x12_3456_789a);
        set_frequency(&mut memory, 64, 4, 7);
        clear(&mut memory, 64, 5);
        for slot in 0..SLOTS {
            let bucket = view(&memory, 64);
            let expected = (
                if slot == 5 {
                    0
                } else {
                    0x0101 * (slot as u16 + 1)
                },
                if slot == 3 {
                    0x12_3456_789a
                } else {
                    (1 << 40) - 1 - slot
                },
                if slot == 4 { 7 } else { 100 + slot as u8 },
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
    fn a_ghost_is_an_empty_slot_until_an_entry_takes_it() {
        let mut memory = vec![0xffu8; 64];
        clear_all(&mut memory, 0);
        put(&mut memory, 0, 3, 0xbeef, (1 << 40) - 1, !GHOST);
        assert_eq!(ghost(view(&memory, 0), 3), None);
        clear(&mut memory, 0, 3);
        assert_eq!(
            ghost(view(&memory, 0), 3),
            None,
            "what was there is no ghost"
        );
        put_ghost(&mut memory, 0, 3, 0xbeef, 0x7654_3210);
        let bucket = view(&memory, 0);
        assert_eq!(ghost(bucket, 3), Some((0xbeef, 0x7654_3210)));
        assert_eq!((empties(bucket), matches(bucket, 0xbeef)), (0xff, 0));
        put(&mut memory, 0, 3, 0xbeef, 5, 0);
        assert_eq!(ghost(view(&memory, 0), 3), None);
        put_ghost(&mut memory, 0, 7, 1, 2);
        clear_ghost(&mut memory, 0, 7);
        assert_eq!(ghost(view(&memory, 0), 7), None);
    }

    #[test]
    fn a_moved_entry_takes_its_frequency_along() {
        let mut memory = vec![0xffu8; 128];
        clear_all(&mut memory, 0);
        clear_all(&mut memory, 64);
        put(&mut memory, 0, 2, 0xbeef, 12_345, 99);
        move_entry(&mut memory, (0, 2), (64, 7));
        let (from, to) = (view(&memory, 0), view(&memory, 64));
        assert_eq!((empties(from), empties(to)), (0xff, 0x7f));
        assert_eq!(
            (tag(to, 7), location(to, 7), frequency(to, 7)),
            (0xbeef, 12_345, 99)
        );
    }
}
