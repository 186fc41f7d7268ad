//! Keys and their hash: one keyed 64-bit hash a key, cut into disjoint uses.
//!
//! ```text
//!  63            48 47            32 31                             0
//! +----------------+----------------+--------------------------------+
//! |  shard choice  |      tag       |              row               |
//! +----------------+----------------+--------------------------------+
//! ```
//!
//! Always true: nothing inside a shard looks at the top 16 bits, which decide the shard. All keys of one shard agree
//! in some of them, so a table that used them would leave most of its buckets empty.

use rapidhash::v3::{RapidSecrets, rapidhash_v3_inline};

/// Longest key in bytes, as memcached has it (`KEY_MAX_LENGTH`).
pub const KEY_BYTES_MAX: usize = 250;

/// How many random words a [`KeyHasher`] is made of.
pub const HASH_SEED_WORDS: usize = 8;

/// An odd constant with no short pattern (2^32 divided by the golden ratio, the next prime).
const MIX: u32 = 0x9e37_79b1;

/// The keyed hash. All shards of a server share one, so a key is hashed once.
///
/// rapidhash v3 in its protected form, with the seed *and* all seven secrets drawn at random: with the published
/// secrets, colliding keys can be computed without knowing the seed.
#[derive(Clone)]
pub struct KeyHasher {
    secrets: RapidSecrets,
}

impl KeyHasher {
    /// Makes a hasher of random words. The same words give the same hashes.
    #[must_use]
    pub fn new(seed: [u64; HASH_SEED_WORDS]) -> Self {
        let [first, rest @ ..] = seed;
        // A multiplication by zero forgets the key, so no secret may be zero or nearly so.
        let secrets = rest.map(|word| word | 0x0100_0001_0000_0001);
        Self {
            secrets: RapidSecrets {
                seed: first | 1,
                secrets,
            },
        }
    }

    /// The hash of `key`.
    #[inline]
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(rapidhash_v3_inline::<true, true, true>(key, &self.secrets))
    }
}

impl std::fmt::Debug for KeyHasher {
    /// Says nothing of the seed: whoever reads a log must not learn to build colliding keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher { .. }")
    }
}

/// The 64-bit hash of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyHash(pub(crate) u64);

impl KeyHash {
    /// Which of `shard_count` shards owns the key: the top 32 bits, scaled. `shard_count` need not be a power of two.
    #[inline]
    #[must_use]
    pub fn shard(self, shard_count: usize) -> usize {
        debug_assert!(0 < shard_count && shard_count <= 1 << 16);
        (((self.0 >> 32) * shard_count as u64) >> 32) as usize
    }

    /// Sixteen bits that tell entries of one hash bucket apart. Never zero, which marks an empty slot.
    #[inline]
    pub(crate) fn tag(self) -> u16 {
        let tag = (self.0 >> 32) as u16;
        if tag == 0 { 1 } else { tag }
    }

    /// The row of the table, before it is cut to the size of the table.
    #[inline]
    pub(crate) fn row(self) -> u32 {
        self.0 as u32
    }
}

/// What leads from either row of a tag to the other, by exclusive or, before it is cut to the size of the table.
/// Odd, so that the rows differ.
#[inline]
pub(crate) fn row_step(tag: u16) -> u32 {
    let product = tag_product(tag);
    // The low bits of the product know nothing of the upper bits of the tag.
    (product ^ product >> 15) | 1
}

/// A tag times a constant that spreads it over all bits; the upper ones know most of it.
#[inline(always)]
pub(crate) fn tag_product(tag: u16) -> u32 {
    u32::from(tag).wrapping_mul(MIX)
}

/// A key together with its hash. `bytes` is 1 to [`KEY_BYTES_MAX`] long; a store of any other length panics.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// The hash of `bytes` by the hasher the shard was made with.
    pub hash: KeyHash,
    /// The key itself.
    pub bytes: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher() -> KeyHasher {
        KeyHasher::new([11, 22, 33, 44, 55, 66, 77, 88])
    }

    #[test]
    fn shard_choice_is_balanced_and_in_range() {
        let mut counts = [0u32; 3];
        for i in 0..30_000u32 {
            counts[hasher().hash(&i.to_le_bytes()).shard(3)] += 1;
        }
        assert!(
            counts.iter().all(|&c| (9_500..10_500).contains(&c)),
            "{counts:?}"
        );
    }

    #[test]
    fn shard_bits_do_not_reach_the_table() {
        let low = KeyHash(0x0000_1234_5678_9abc);
        let high = KeyHash(0xffff_1234_5678_9abc);
        assert_eq!((low.tag(), low.row()), (high.tag(), high.row()));
        assert_ne!(low.shard(1000), high.shard(1000));
    }

    #[test]
    fn tag_is_never_zero() {
        assert_eq!(KeyHash(0xffff_0000_1111_2222).tag(), 1);
    }

    #[test]
    fn seed_matters() {
        let other = KeyHasher::new([12, 22, 33, 44, 55, 66, 77, 88]);
        for i in 0..1000u32 {
            assert_ne!(
                hasher().hash(&i.to_le_bytes()),
                other.hash(&i.to_le_bytes())
            );
        }
    }

    #[test]
    fn steps_between_rows_are_spread_and_never_stay() {
        let mut seen = std::collections::HashSet::new();
        for tag in 1..=u16::MAX {
            assert_eq!(row_step(tag) & 1, 1, "tag {tag} must leave its row");
            seen.insert(row_step(tag) & 0xffff);
        }
        // One bit is given away, and the mixing lets some meet.
        assert!(seen.len() > 20_000, "{} steps in 2^15", seen.len());
    }
}
