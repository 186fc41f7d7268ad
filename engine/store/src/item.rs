//! The bytes of one item inside a segment.
//!
//! ```text
//! +---------+------+-----------+----------------+-----+-------+----------+--------+----------+-------------+
//! | key_len | bits | value_len | deadline delta | key | flags | deadline | unique | large    | value       |
//! | u8      | u8   | u24       | u24            |     | 4 B?  | 4 B?     | 8 B?   | 4 + 4 B? | value_len B |
//! +---------+------+-----------+----------------+-----+-------+----------+--------+----------+-------------+
//!  \__________ one little-endian u64 __________/       FLAGS   FAR        CAS      LARGE
//! ```
//!
//! A part marked `?` is there only when its bit is set. The deadline is the base of the segment plus delta, or, months
//! away, written out. `large` is the first extension page and the length of the
//! whole value; `value_len` then counts only the part of the value that stands here.
//!
//! Always true: an item is as long as its header says, so a segment can be walked from its first byte to its last.
//! An item is in the table exactly as long as it is not marked DEAD.

/// Bytes of the fixed header.
pub(crate) const HEADER_BYTES: usize = 8;
/// Bytes of the optional client flags.
pub(crate) const FLAGS_BYTES: usize = 4;
/// Bytes of the optional deadline written out.
pub(crate) const FAR_BYTES: usize = 4;
/// Bytes of the optional explicit CAS unique.
pub(crate) const UNIQUE_BYTES: usize = 8;
/// Bytes of the optional description of a large value.
pub(crate) const LARGE_BYTES: usize = 8;

/// The delta that says "no deadline".
pub(crate) const DELTA_NEVER: u32 = 0xff_ffff;
/// The largest delta that is a time.
pub(crate) const DELTA_MAX: u32 = DELTA_NEVER - 1;

/// Client flags other than zero follow the key.
pub(crate) const FLAGS: u8 = 0x01;
/// The CAS unique is written in the item instead of being derived from its place.
pub(crate) const CAS: u8 = 0x02;
/// A client has been told the CAS unique, so it must survive a move and must change with the value.
pub(crate) const SEEN: u8 = 0x04;
/// The value continues in extension pages.
pub(crate) const LARGE: u8 = 0x08;
/// Deleted or replaced: no table entry leads here.
pub(crate) const DEAD: u8 = 0x10;
/// Has been fetched at least once.
pub(crate) const FETCHED: u8 = 0x20;

/// The deadline is written out.
pub(crate) const FAR: u8 = 0x40;

/// The fixed header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub key_len: u8,
    pub bits: u8,
    pub value_len: u32,
    pub delta: u32,
}

impl Header {
    #[inline(always)]
    pub fn read(memory: &[u8], at: usize) -> Self {
        let bytes: [u8; 8] = memory[at..at + 8].try_into().expect("eight bytes");
        let word = u64::from_le_bytes(bytes);
        Self {
            key_len: word as u8,
            bits: (word >> 8) as u8,
            value_len: (word >> 16) as u32 & 0xff_ffff,
            delta: (word >> 40) as u32,
        }
    }

    #[inline(always)]
    pub fn write(self, memory: &mut [u8], at: usize) {
        debug_assert!(self.value_len <= 0xff_ffff && self.delta <= DELTA_NEVER);
        let word = u64::from(self.key_len)
            | u64::from(self.bits) << 8
            | u64::from(self.value_len) << 16
            | u64::from(self.delta) << 40;
        memory[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }

    #[inline(always)]
    pub fn has(self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    /// Bytes between key and value.
    #[inline(always)]
    pub fn extras_len(self) -> usize {
        // Nearly all items have none. Told by one branch, the place of the value does not wait for the sum.
        if self.bits & (FLAGS | FAR | CAS | LARGE) == 0 {
            return 0;
        }
        (if self.has(FLAGS) { FLAGS_BYTES } else { 0 })
            + (if self.has(FAR) { FAR_BYTES } else { 0 })
            + (if self.has(CAS) { UNIQUE_BYTES } else { 0 })
            + (if self.has(LARGE) { LARGE_BYTES } else { 0 })
    }

    /// Bytes of the whole item in its segment.
    #[inline(always)]
    pub fn size(self) -> usize {
        HEADER_BYTES + usize::from(self.key_len) + self.extras_len() + self.value_len as usize
    }

    /// Where the part of the value that stands in the segment begins, for an item at `at`.
    #[inline(always)]
    pub fn value_at(self, at: usize) -> usize {
        at + HEADER_BYTES + usize::from(self.key_len) + self.extras_len()
    }

    /// Where the deadline stands that is written out, or would, for an item at `at`.
    #[inline(always)]
    pub fn far_at(self, at: usize) -> usize {
        let flags = if self.has(FLAGS) { FLAGS_BYTES } else { 0 };
        at + HEADER_BYTES + usize::from(self.key_len) + flags
    }

    /// Where the explicit unique stands, or would, for an item at `at`.
    #[inline(always)]
    pub fn unique_at(self, at: usize) -> usize {
        self.far_at(at) + if self.has(FAR) { FAR_BYTES } else { 0 }
    }

    /// Where the parts begin that never change when an item moves: large, and the value.
    #[inline(always)]
    pub fn rest_at(self, at: usize) -> usize {
        self.unique_at(at) + if self.has(CAS) { UNIQUE_BYTES } else { 0 }
    }

    /// The client flags of the item at `at`.
    #[inline(always)]
    pub fn flags(self, memory: &[u8], at: usize) -> u32 {
        if self.has(FLAGS) {
            read_u32(memory, at + HEADER_BYTES + usize::from(self.key_len))
        } else {
            0
        }
    }

    /// First extension page and length of the whole value, for a large item at `at`.
    #[inline(always)]
    pub fn large(self, memory: &[u8], at: usize) -> Large {
        debug_assert!(self.has(LARGE));
        let here = self.value_at(at) - LARGE_BYTES;
        Large {
            first_page: read_u32(memory, here),
            value_len: read_u32(memory, here + 4),
        }
    }
}

/// What an item says of its value when that does not fit beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Large {
    /// The first extension page; each page knows the next.
    pub first_page: u32,
    /// Length of the whole value, both parts.
    pub value_len: u32,
}

/// The key of the item at `at`.
#[inline(always)]
pub(crate) fn key_at(memory: &[u8], at: usize) -> &[u8] {
    let key_len = usize::from(memory[at]);
    &memory[at + HEADER_BYTES..at + HEADER_BYTES + key_len]
}

#[inline(always)]
pub(crate) fn read_u32(memory: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(memory[at..at + 4].try_into().expect("four bytes"))
}

#[inline(always)]
pub(crate) fn read_u64(memory: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(memory[at..at + 8].try_into().expect("eight bytes"))
}

#[inline(always)]
pub(crate) fn write_u32(memory: &mut [u8], at: usize, value: u32) {
    memory[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[inline(always)]
pub(crate) fn write_u64(memory: &mut [u8], at: usize, value: u64) {
    memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_reads_back_as_written() {
        let mut memory = [0u8; 24];
        for header in [
            Header {
                key_len: 250,
                bits: 0x3f,
                value_len: 0xff_fffe,
                delta: DELTA_NEVER,
            },
            Header {
                key_len: 1,
                bits: 0,
                value_len: 0,
                delta: 0,
            },
            Header {
                key_len: 7,
                bits: FLAGS | LARGE,
                value_len: 0x01_0203,
                delta: 0x04_0506,
            },
        ] {
            header.write(&mut memory, 9);
            assert_eq!(Header::read(&memory, 9), header);
        }
    }

    #[test]
    fn parts_follow_each_other_without_gap() {
        let header = Header {
            key_len: 3,
            bits: FLAGS | CAS | LARGE,
            value_len: 5,
            delta: 0,
        };
        assert_eq!(header.value_at(100), 100 + 8 + 3 + 4 + 8 + 8);
        assert_eq!(header.size(), 8 + 3 + 4 + 8 + 8 + 5);
        let bare = Header { bits: 0, ..header };
        assert_eq!(bare.size(), 8 + 3 + 5);
    }
}
