//! What the store's benchmarks share: keys and values, and both stores behind one trait.
//!
//! Always true: both stores get the same keys, the same values, the same ttl and the same memory, and both copy a
//! value out; what differs is the store.
// Each benchmark is a crate of its own and uses only part of this.
#![allow(dead_code)]

pub mod collapse;
pub mod cpu_time;
pub mod peer;
pub mod strata;

/// Length of every key.
pub const KEY_BYTES: usize = 16;
/// One day, which no benchmark lasts.
pub const TTL_SECONDS: u32 = 86_400;
/// Bytes in a MiB.
pub const MIB: usize = 1 << 20;
/// Longest value of any benchmark.
pub const VALUE_BYTES_MAX: usize = 512;

/// What a store is asked.
pub trait Store {
    /// Copies the value to the front of `out` and gives its length, if the key is there.
    fn get(&mut self, key: &[u8], out: &mut [u8]) -> Option<usize>;
    /// Stores; whether it did.
    fn set(&mut self, key: &[u8], value: &[u8]) -> bool;
    /// As `set`, with a ttl of its own.
    fn set_for(&mut self, key: &[u8], value: &[u8], ttl_seconds: u32) -> bool;
    /// What a server does between two batches of requests, if the store wants it.
    fn upkeep(&mut self) {}
    /// One more second has passed. A store that reads the clock itself cannot be told.
    fn pass_second(&mut self) {}
}

/// The key of an index: sixteen letters from `a` to `p`. Two indices have the same key only if they are the same.
#[inline(always)]
pub fn key(index: u64) -> [u8; KEY_BYTES] {
    // An odd factor keeps indices apart and spreads neighbours over all letters.
    let word = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let nibbles = 0x0f0f_0f0f_0f0f_0f0f;
    let letters = 0x6161_6161_6161_6161;
    let low = (word & nibbles) + letters;
    let high = ((word >> 4) & nibbles) + letters;
    let mut key = [0; KEY_BYTES];
    key[..8].copy_from_slice(&low.to_le_bytes());
    key[8..].copy_from_slice(&high.to_le_bytes());
    key
}

/// Writes the value of an index: its number first, so that a hit on a foreign value is noticed.
#[inline(always)]
pub fn fill_value(value: &mut [u8], index: u64) {
    value[..8].copy_from_slice(&index.to_le_bytes());
}

/// Whether `value` is the value of this index.
#[inline(always)]
pub fn is_value(value: &[u8], index: u64) -> bool {
    value[..8] == index.to_le_bytes()
}

/// Xorshift: cheap enough to draw each index while being measured.
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers. The seed must not be zero.
    pub fn new(seed: u64) -> Self {
        assert!(seed != 0, "xorshift never leaves zero");
        Self(seed)
    }

    /// A number below `count`.
    #[inline(always)]
    pub fn below(&mut self, count: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) * count) >> 32
    }
}

/// Stores the values of the indices below `count`, all of which must be accepted.
pub fn fill(store: &mut impl Store, count: u64, value_bytes: usize) {
    let refused = fill_what_fits(store, count, value_bytes);
    assert_eq!(refused, 0, "{refused} of {count} items were refused");
}

/// Stores the values of the indices below `count`; how many were refused.
pub fn fill_what_fits(store: &mut impl Store, count: u64, value_bytes: usize) -> u64 {
    let mut value = [b'v'; VALUE_BYTES_MAX];
    let mut refused = 0;
    for index in 0..count {
        fill_value(&mut value, index);
        refused += u64::from(!store.set(&key(index), &value[..value_bytes]));
    }
    refused
}

/// How many of the indices in `range` have their value.
pub fn readable(store: &mut impl Store, range: std::ops::Range<u64>) -> u64 {
    let mut out = [0; VALUE_BYTES_MAX];
    range
        .filter(|&index| {
            let Some(len) = store.get(&key(index), &mut out) else {
                return false;
            };
            assert!(
                is_value(&out[..len], index),
                "a foreign value for item {index}"
            );
            true
        })
        .count() as u64
}
