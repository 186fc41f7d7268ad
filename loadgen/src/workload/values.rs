//! Values that can be checked: a function of key, length and a version stored inside.
//!
//! Always true: any hit can be checked without remembering what was written, byte by byte and
//! however it arrives.
//!
//! Layout of a value of [`VERSIONED_BYTES`] or more:
//!
//! ```text
//! 0          8                                   length
//! | version ^ hash(key, length) | slice of the tape |
//! ```
//!
//! The slice begins at an offset drawn from key, length and version. A shorter value has no room
//! for a version and is a slice of the tape alone.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Values at least this long carry a version in their first eight bytes.
pub const VERSIONED_BYTES: usize = 16;

/// How many different slices the tape offers to values of one length. Small enough to stay in a
/// core's own cache, large enough that a foreign value passes once in 65 536 times.
const TAPE_OFFSETS: usize = 1 << 16;

/// The bytes all values are cut from.
pub struct Tape {
    bytes: Box<[u8]>,
}

impl Tape {
    /// A tape for values of up to `value_bytes_max`. The same on every machine and in every run:
    /// one run may fill a server and a later one check it.
    pub fn new(value_bytes_max: usize) -> Self {
        let mut bytes = vec![0; TAPE_OFFSETS + value_bytes_max];
        Xoshiro256PlusPlus::seed_from_u64(0x5354_5241_5441).fill_bytes(&mut bytes);
        Self {
            bytes: bytes.into(),
        }
    }

    /// Whether values of this length can be cut from it.
    pub fn holds(&self, length: usize) -> bool {
        TAPE_OFFSETS + length <= self.bytes.len()
    }

    /// Appends the value of `key` with `length` bytes in `version`.
    #[inline]
    pub fn render(&self, key: u64, length: usize, version: u64, out: &mut Vec<u8>) {
        let hash = mix(key ^ (length as u64) << 48);
        if length < VERSIONED_BYTES {
            out.extend_from_slice(self.slice(hash, 0, length));
        } else {
            out.extend_from_slice(&(version ^ hash).to_le_bytes());
            out.extend_from_slice(self.slice(hash, version, length - 8));
        }
    }

    #[inline]
    fn slice(&self, hash: u64, version: u64, length: usize) -> &[u8] {
        // Rotated, because the first eight bytes hold `version ^ hash`: unrotated, a foreign value
        // would lead to the offset it was written with, and pass.
        let offset = mix(hash.rotate_left(32) ^ version) as usize % TAPE_OFFSETS;
        &self.bytes[offset..offset + length]
    }
}

/// A check of one value whose bytes may arrive in any number of pieces.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    hash: u64,
    length: usize,
    at: usize,
    head: [u8; 8],
    right: bool,
}

impl Check {
    /// Expects a value of `key` with `length` bytes, in whichever version it names.
    pub fn new(key: u64, length: usize) -> Self {
        Self {
            hash: mix(key ^ (length as u64) << 48),
            length,
            at: 0,
            head: [0; 8],
            right: true,
        }
    }

    /// Compares the next `piece`. Panics when more bytes come than were announced.
    #[inline]
    pub fn feed(&mut self, tape: &Tape, mut piece: &[u8]) {
        assert!(
            self.at + piece.len() <= self.length,
            "{} bytes after {} of {}",
            piece.len(),
            self.at,
            self.length
        );
        let head_bytes = if self.length < VERSIONED_BYTES { 0 } else { 8 };
        if self.at < head_bytes {
            let count = piece.len().min(head_bytes - self.at);
            self.head[self.at..self.at + count].copy_from_slice(&piece[..count]);
            self.at += count;
            piece = &piece[count..];
        }
        if piece.is_empty() {
            return;
        }
        let version = if head_bytes == 0 {
            0
        } else {
            u64::from_le_bytes(self.head) ^ self.hash
        };
        let expected = tape.slice(self.hash, version, self.length - head_bytes);
        let from = self.at - head_bytes;
        self.right &= expected[from..from + piece.len()] == *piece;
        self.at += piece.len();
    }

    /// Whether all bytes came and each was right.
    #[inline]
    pub fn passed(&self) -> bool {
        self.right && self.at == self.length
    }
}

/// A bijection of 64-bit numbers that spreads neighbours: the finaliser of SplitMix64 (Steele,
/// Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[inline]
pub fn mix(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_passes_its_check_however_it_is_cut() {
        let tape = Tape::new(100);
        for length in [0, 1, 7, 8, 15, 16, 17, 32, 100] {
            let mut value = Vec::new();
            tape.render(42, length, 9, &mut value);
            assert_eq!(value.len(), length);
            for cut in 0..=length {
                let mut check = Check::new(42, length);
                check.feed(&tape, &value[..cut]);
                assert_eq!(check.passed(), cut == length);
                check.feed(&tape, &value[cut..]);
                assert!(check.passed(), "length {length} cut at {cut}");
            }
        }
    }

    /// A later build checks what an earlier one wrote, and the null responders give this value to everybody who asks.
    #[test]
    fn a_value_stays_the_same_from_build_to_build() {
        let mut value = Vec::new();
        Tape::new(32).render(10_000_000, 32, 0, &mut value);
        assert_eq!(
            value,
            b"\xdfTn2h\xe2\x8d\xe8^\xab\x13\x88x^^\xd6\xba\xeb7~\xfc\xea\xdcr\x9d\xdd \x7b\xc8\x12\x0c\xc3"
        );
    }

    #[test]
    fn any_wrong_byte_fails_the_check() {
        let tape = Tape::new(64);
        for length in [1, 15, 16, 64] {
            let mut value = Vec::new();
            tape.render(42, length, 9, &mut value);
            for index in 0..length {
                value[index] ^= 1;
                let mut check = Check::new(42, length);
                check.feed(&tape, &value);
                assert!(!check.passed(), "byte {index} of {length}");
                value[index] ^= 1;
            }
        }
    }

    #[test]
    fn another_keys_value_fails_the_check() {
        let tape = Tape::new(64);
        let mut value = Vec::new();
        tape.render(43, 32, 9, &mut value);
        let mut check = Check::new(42, 32);
        check.feed(&tape, &value);
        assert!(!check.passed());
    }
}
