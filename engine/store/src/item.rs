//! The bytes of one item inside a segment.
//!
//! ```text
//! +---------+------+-----------+----------------+-----+-------+----------+--------+----------+--------------+-------+
//! | key_len | bits | value_len | deadline delta | key | flags | deadline | unique | ext      | large        | value |
//! | u8      | u8   | u16       | u16            |     | 4 B?  | 4 B?     | 8 B?   | 4 + 1 B? | 4 + 4 + 4 B? |       |
//! +---------+------+-----------+----------------+-----+-------+----------+--------+----------+--------------+-------+
//!  \______________ little-endian ______________/       FLAGS   FAR        CAS      EXT        LARGE
//! ```
//!
//! A part marked `?` is there only when its bit is set. The deadline is the base of the segment plus delta; one that is
//! too far from the base is written out. `ext` is when the item was last fetched and what the meta commands know of its
//! state. A value of more than 65535 bytes is *large*, and so is one that goes on in extension pages: `large` is the first
//! of those pages, the bytes of the value that stand here, and its whole length. `value_len` counts the bytes here, of a
//! large value in units of sixteen, the last one padded.
//!
//! Always true: an item is as long as its header says, so a segment can be walked from its first byte to its last.
//! An item is in the table exactly as long as it is not marked DEAD.

use crate::segment::arena::PAGE_BYTES_MAX;

/// Bytes of the fixed header.
pub(crate) const HEADER_BYTES: usize = 6;
/// Bytes of the optional client flags.
pub(crate) const FLAGS_BYTES: usize = 4;
/// Bytes of the optional deadline written out.
pub(crate) const FAR_BYTES: usize = 4;
/// Bytes of the optional explicit CAS unique.
pub(crate) const UNIQUE_BYTES: usize = 8;
/// Bytes of the optional notes of the meta commands.
pub(crate) const EXT_BYTES: usize = 5;
/// Bytes of the optional description of a large value.
pub(crate) const LARGE_BYTES: usize = 12;

/// The longest value that is not large.
pub(crate) const PLAIN_VALUE_MAX: usize = u16::MAX as usize;
/// What stands of a large value beside the item is padded to a multiple of this, so that its header can count it.
pub(crate) const LARGE_UNIT_BYTES: usize = 16;

const _: () =
    assert!((PAGE_BYTES_MAX - HEADER_BYTES - LARGE_BYTES) / LARGE_UNIT_BYTES <= u16::MAX as usize);

/// The delta that says "no deadline".
pub(crate) const DELTA_NEVER: u16 = 0xffff;
/// The delta of an item whose time is over, wherever the base of its segment is.
pub(crate) const DELTA_PAST: u16 = DELTA_NEVER - 1;
/// The largest delta that is a time.
pub(crate) const DELTA_MAX: u16 = DELTA_PAST - 1;

/// Client flags other than zero follow the key.
pub(crate) const FLAGS: u8 = 0x01;
/// The CAS unique is written in the item instead of being derived from its place.
pub(crate) const CAS: u8 = 0x02;
/// A client has been told the CAS unique, so it must survive a move and must change with the value.
pub(crate) const SEEN: u8 = 0x04;
/// The value is large: its length is written out, and it may continue in extension pages.
pub(crate) const LARGE: u8 = 0x08;
/// Deleted or replaced: no table entry leads here.
pub(crate) const DEAD: u8 = 0x10;
/// Has been fetched at least once.
pub(crate) const FETCHED: u8 = 0x20;
/// The deadline is written out.
pub(crate) const FAR: u8 = 0x40;
/// The meta commands have noted something of the item.
pub(crate) const EXT: u8 = 0x80;

/// The fixed header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub key_len: u8,
    pub bits: u8,
    /// Bytes of the value, or, if it is large, units of [`LARGE_UNIT_BYTES`] that stand here.
    pub value_len: u16,
    pub delta: u16,
}

impl Header {
    #[inline(always)]
    pub fn read(memory: &[u8], at: usize) -> Self {
        let bytes: &[u8; HEADER_BYTES] =
            memory[at..at + HEADER_BYTES].try_into().expect("six bytes");
        let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Self {
            key_len: word as u8,
            bits: (word >> 8) as u8,
            value_len: (word >> 16) as u16,
            delta: u16::from_le_bytes([bytes[4], bytes[5]]),
        }
    }

    #[inline(always)]
    pub fn write(self, memory: &mut [u8], at: usize) {
        let word =
            u32::from(self.key_len) | u32::from(self.bits) << 8 | u32::from(self.value_len) << 16;
        let bytes = &mut memory[at..at + HEADER_BYTES];
        bytes[..4].copy_from_slice(&word.to_le_bytes());
        bytes[4..].copy_from_slice(&self.delta.to_le_bytes());
    }

    /// Writes only the bits.
    #[inline(always)]
    pub fn write_bits(self, memory: &mut [u8], at: usize) {
        memory[at + 1] = self.bits;
    }

    #[inline(always)]
    pub fn has(self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    /// Whether nothing stands between key and value, as in nearly all items.
    #[inline(always)]
    pub fn is_bare(self) -> bool {
        self.bits & (FLAGS | FAR | CAS | EXT | LARGE) == 0
    }

    /// Bytes between key and value.
    #[inline(always)]
    pub fn extras_len(self) -> usize {
        // Told by one branch, the place of the value does not wait for the sum.
        if self.is_bare() {
            return 0;
        }
        (if self.has(FLAGS) { FLAGS_BYTES } else { 0 })
            + (if self.has(FAR) { FAR_BYTES } else { 0 })
            + (if self.has(CAS) { UNIQUE_BYTES } else { 0 })
            + (if self.has(EXT) { EXT_BYTES } else { 0 })
            + (if self.has(LARGE) { LARGE_BYTES } else { 0 })
    }

    /// Bytes of the whole item in its segment.
    #[inline(always)]
    pub fn size(self) -> usize {
        HEADER_BYTES + usize::from(self.key_len) + self.extras_len() + self.head_room()
    }

    /// Bytes that stand here of the value, and of its padding if it is large.
    #[inline(always)]
    pub fn head_room(self) -> usize {
        let unit = if self.has(LARGE) { LARGE_UNIT_BYTES } else { 1 };
        usize::from(self.value_len) * unit
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

    /// Where the notes of the meta commands stand, or would, for an item at `at`.
    #[inline(always)]
    pub fn ext_at(self, at: usize) -> usize {
        self.unique_at(at) + if self.has(CAS) { UNIQUE_BYTES } else { 0 }
    }

    /// Where the parts begin that never change when an item moves: large, and the value.
    #[inline(always)]
    pub fn rest_at(self, at: usize) -> usize {
        self.ext_at(at) + if self.has(EXT) { EXT_BYTES } else { 0 }
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

    /// What the meta commands have noted of the item at `at`, if they have.
    #[inline(always)]
    pub fn ext(self, memory: &[u8], at: usize) -> Option<Ext> {
        let here = self.ext_at(at);
        self.has(EXT).then(|| Ext {
            accessed: read_u32(memory, here),
            state: memory[here + 4],
        })
    }

    /// Writes those notes into the item at `at`, which has room for them.
    #[inline(always)]
    pub fn set_ext(self, memory: &mut [u8], at: usize, ext: Ext) {
        debug_assert!(self.has(EXT));
        let here = self.ext_at(at);
        write_u32(memory, here, ext.accessed);
        memory[here + 4] = ext.state;
    }

    /// What the large item at `at` says of its value.
    #[inline(always)]
    pub fn large(self, memory: &[u8], at: usize) -> Large {
        debug_assert!(self.has(LARGE));
        let here = self.value_at(at) - LARGE_BYTES;
        Large {
            first_page: read_u32(memory, here),
            head_len: read_u32(memory, here + 4),
            value_len: read_u32(memory, here + 8),
        }
    }

    /// Writes what the large item at `at` says of its value.
    pub fn set_large(self, memory: &mut [u8], at: usize, large: Large) {
        debug_assert!(self.has(LARGE));
        let here = self.value_at(at) - LARGE_BYTES;
        write_u32(memory, here, large.first_page);
        write_u32(memory, here + 4, large.head_len);
        write_u32(memory, here + 8, large.value_len);
    }
}

/// What the meta commands note of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ext {
    /// When it was last fetched, or else written, in seconds.
    pub accessed: u32,
    /// Bits of its state: `STALE` and `SENT`.
    pub state: u8,
}

/// The item is out of date, and is handed out all the same until somebody has made it anew.
pub(crate) const STALE: u8 = 0x01;
/// Some client has been told to make the item anew.
pub(crate) const SENT: u8 = 0x02;

/// What an item says of its value when that does not fit beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Large {
    /// The first extension page; each page knows the next. `NO_PAGE` when the whole value stands beside the item.
    pub first_page: u32,
    /// Length of the part beside the item.
    pub head_len: u32,
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
                bits: 0xff,
                value_len: u16::MAX,
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
                bits: FLAGS | CAS,
                value_len: 0x0203,
                delta: 0x0506,
            },
        ] {
            header.write(&mut memory, 9);
            assert_eq!(Header::read(&memory, 9), header);
            let bits = !header.bits;
            let changed = Header { bits, ..header };
            changed.write_bits(&mut memory, 9);
            assert_eq!(Header::read(&memory, 9), changed);
        }
    }

    #[test]
    fn parts_follow_each_other_without_gap() {
        let header = Header {
            key_len: 3,
            bits: FLAGS | CAS | EXT | LARGE,
            value_len: 2,
            delta: 0,
        };
        assert_eq!(header.far_at(100), 100 + 6 + 3 + 4);
        assert_eq!(header.unique_at(100), header.far_at(100));
        assert_eq!(header.ext_at(100), header.unique_at(100) + 8);
        assert_eq!(header.rest_at(100), header.ext_at(100) + 5);
        assert_eq!(header.value_at(100), header.rest_at(100) + 12);
        assert_eq!(header.size(), 6 + 3 + 4 + 8 + 5 + 12 + 32);
        let far = Header {
            bits: FAR,
            ..header
        };
        assert_eq!(far.value_at(0), 6 + 3 + 4);
        let bare = Header { bits: 0, ..header };
        assert_eq!(bare.size(), 6 + 3 + 2);
    }

    #[test]
    fn parts_read_back_beside_each_other() {
        let mut memory = [0u8; 64];
        let header = Header {
            key_len: 3,
            bits: FLAGS | FAR | CAS | EXT | LARGE,
            value_len: 1,
            delta: 0,
        };
        let (at, all) = (2, [0xee; 4]);
        memory[at + 9..at + 13].copy_from_slice(&all);
        write_u32(&mut memory, header.far_at(at), u32::MAX);
        write_u64(&mut memory, header.unique_at(at), u64::MAX);
        let ext = Ext {
            accessed: 0x0102_0304,
            state: 0x55,
        };
        let large = Large {
            first_page: 7,
            head_len: 9,
            value_len: 70_009,
        };
        header.set_ext(&mut memory, at, ext);
        header.set_large(&mut memory, at, large);
        memory[header.value_at(at)..at + header.size()].fill(0xff);
        assert_eq!(header.flags(&memory, at), u32::from_le_bytes(all));
        assert_eq!(header.ext(&memory, at), Some(ext));
        assert_eq!(header.large(&memory, at), large);
        assert_eq!(read_u64(&memory, header.unique_at(at)), u64::MAX);
        let without = Header {
            bits: LARGE,
            ..header
        };
        assert_eq!(without.ext(&memory, at), None);
    }
}
