//! Hash flooding: what an attacker gains who chooses the keys, without the seed and with it.
//!
//! A lookup compares only the items whose tag is in one of its key's two buckets, eighteen at most; there are no chains to
//! make longer. Keys that all have one hash therefore cost each other their places, not the others their time.

use crate::{
    Deadline, Eviction, HASH_SEED_WORDS, Key, KeyHasher, NewItem, Seconds, SetOutcome, Shard,
    ShardConfig, Unique,
};

type Words = [u64; HASH_SEED_WORDS];

const KNOWN: Words = [31, 41, 59, 26, 53, 58, 97, 93];
const OTHER: Words = [27, 18, 28, 18, 28, 45, 90, 45];
const KEYS: u64 = 10_000;
/// Entries that keys of one hash have room for.
const ROOM: usize = 2 * super::bucket::SLOTS;

/// Different keys that all have one hash under `words`, computed as an attacker would who knows them.
///
/// The hash multiplies the first word of such a key, mixed with a secret, by the second. Choosing that secret for the
/// first makes the product zero, so the second comes through unchanged and the last word can undo it.
fn crafted(words: &Words) -> impl Iterator<Item = [u8; 32]> + use<> {
    let secret = words[3] | 0x0100_0001_0000_0001;
    (0..KEYS).map(move |i| {
        let word = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut key = [0; 32];
        key[..8].copy_from_slice(&secret.to_le_bytes());
        key[8..16].copy_from_slice(&word.to_le_bytes());
        key[24..].copy_from_slice(&(word ^ 0x5555).to_le_bytes());
        key
    })
}

fn shard(words: &Words, eviction: Eviction) -> (Shard<Vec<u8>>, KeyHasher) {
    let hasher = KeyHasher::new(*words);
    let config = ShardConfig {
        item_max_bytes: 64 << 10,
        eviction,
        seed: 1,
    };
    let shard = Shard::new(vec![0; 8 << 20], hasher.clone(), config).expect("enough memory");
    (shard, hasher)
}

fn set(shard: &mut Shard<Vec<u8>>, hasher: &KeyHasher, bytes: &[u8]) -> SetOutcome {
    let key = Key {
        hash: hasher.hash(bytes),
        bytes,
    };
    let item = NewItem {
        flags: 0,
        deadline: Deadline::Never,
        value: b"value",
    };
    shard.set(key, item, Seconds(1))
}

fn is_there(shard: &mut Shard<Vec<u8>>, hasher: &KeyHasher, bytes: &[u8]) -> bool {
    let key = Key {
        hash: hasher.hash(bytes),
        bytes,
    };
    shard.get(key, Seconds(1), Unique::Unasked).is_some()
}

/// Items a lookup of this key compares at most.
fn compared(shard: &Shard<Vec<u8>>, hasher: &KeyHasher, bytes: &[u8]) -> u32 {
    let hash = hasher.hash(bytes);
    let candidates = shard
        .table
        .candidates_of(shard.arena.bytes(), shard.table.pair(hash), hash);
    candidates.slots.count_ones()
}

#[test]
fn keys_that_collide_under_one_seed_spread_evenly_under_another() {
    let known = KeyHasher::new(KNOWN);
    let one = known.hash(&crafted(&KNOWN).next().expect("a key"));
    assert!(crafted(&KNOWN).all(|key| known.hash(&key) == one));

    let (mut shard, hasher) = shard(&OTHER, Eviction::Merge);
    for key in crafted(&KNOWN) {
        assert_eq!(set(&mut shard, &hasher, &key), SetOutcome::Stored);
    }
    assert_eq!(shard.counters().table_evictions, 0);
    let (mut total, mut most) = (0, 0);
    for key in crafted(&KNOWN) {
        assert!(is_there(&mut shard, &hasher, &key));
        let compared = compared(&shard, &hasher, &key);
        (total, most) = (total + compared, most.max(compared));
    }
    // One is the key itself.
    assert!(most <= 4, "{most} items compared");
    assert!(
        u64::from(total) < KEYS + KEYS / 50,
        "{total} compared in {KEYS} lookups"
    );
}

/// Why all eight words are drawn at random and not the first alone.
#[test]
fn the_first_word_of_the_seed_does_not_help_against_who_knows_the_others() {
    let mut words = KNOWN;
    words[0] = OTHER[0];
    let hasher = KeyHasher::new(words);
    let one = hasher.hash(&crafted(&KNOWN).next().expect("a key"));
    assert!(crafted(&KNOWN).all(|key| hasher.hash(&key) == one));
}

#[test]
fn with_the_seed_known_a_lookup_still_compares_eighteen_items_at_most() {
    for eviction in [
        Eviction::Merge,
        Eviction::S3Fifo,
        Eviction::Fifo,
        Eviction::None,
    ] {
        let (mut shard, hasher) = shard(&KNOWN, eviction);
        let others: Vec<String> = (0..KEYS).map(|i| format!("other{i}")).collect();
        for key in &others {
            assert_eq!(set(&mut shard, &hasher, key.as_bytes()), SetOutcome::Stored);
        }
        let mut refused = 0;
        for key in crafted(&KNOWN) {
            refused += u64::from(set(&mut shard, &hasher, &key) == SetOutcome::NoMemory);
            assert!(compared(&shard, &hasher, &key) <= ROOM as u32);
        }
        let counters = *shard.counters();
        let flooded = if eviction == Eviction::None {
            refused
        } else {
            counters.table_evictions
        };
        assert!(flooded >= KEYS - ROOM as u64, "{eviction:?}: {counters:?}");
        // The flood takes the eighteen places it fits in, and nobody else's.
        let left = crafted(&KNOWN)
            .filter(|key| is_there(&mut shard, &hasher, key))
            .count();
        assert!(left <= ROOM, "{eviction:?}: {left} of the flood are left");
        let lost = others
            .iter()
            .filter(|key| !is_there(&mut shard, &hasher, key.as_bytes()))
            .count();
        assert!(lost <= ROOM, "{eviction:?}: {lost} others are lost");
        for key in &others {
            assert!(compared(&shard, &hasher, key.as_bytes()) <= 4);
        }
        shard.audit().expect("an audit");
    }
}
