//! What a shard should hold: a map with deadlines, and what clients were told.
//!
//! Always true: `items` is what may be seen at the second the model is at.

use std::collections::HashMap;

use crate::{Deadline, Hit, Unique};

#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) value: Vec<u8>,
    pub(super) flags: u32,
    pub(super) deadline: Deadline,
    /// Grows with every change of a value, over all keys.
    pub(super) version: u64,
    pub(super) fetched: bool,
    pub(super) stale: bool,
    pub(super) sent: bool,
    /// When it was last fetched, or else written.
    pub(super) accessed: u32,
    /// Whether the shard must know that.
    pub(super) noted: bool,
}

/// What a shard should hold.
pub(super) struct Model {
    pub(super) items: HashMap<Vec<u8>, Expected>,
    /// Which version a unique of a key was handed out for.
    pub(super) uniques: HashMap<(Vec<u8>, u64), u64>,
    pub(super) last_unique: HashMap<Vec<u8>, u64>,
    pub(super) now: u32,
    pub(super) flush_at: Option<u32>,
    pub(super) version: u64,
    pub(super) may_forget: bool,
    pub(super) forgotten: u64,
    pub(super) hits: u64,
    /// Until when new items note when they are fetched.
    pub(super) noted_until: u32,
    /// Uniques chosen so far.
    pub(super) chosen: u64,
    /// Fetches that were told to make an item anew.
    pub(super) won: u64,
    /// Keys that turned out to be missing in the step at hand, and what found it.
    pub(super) missing: Vec<(Vec<u8>, String)>,
}

impl Model {
    /// Moves the clock and drops what time takes away, so that `items` is what is visible.
    pub(super) fn pass_time(&mut self, now: u32) {
        self.now = now;
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.items.clear();
        }
        self.items.retain(|_, expected| match expected.deadline {
            Deadline::Never => true,
            Deadline::At(at) => now < at.0,
        });
    }

    /// The shard does not have what the model has.
    pub(super) fn forget(&mut self, key: &[u8], doing: &str) {
        assert!(
            self.may_forget,
            "{doing} misses {} at {}",
            key.escape_ascii(),
            self.now
        );
        assert!(self.items.remove(key).is_some());
        self.forgotten += 1;
        self.missing.push((key.to_vec(), doing.to_owned()));
    }

    pub(super) fn missed(&mut self, key: &[u8], doing: &str) {
        if self.items.contains_key(key) {
            self.forget(key, doing);
        }
    }

    pub(super) fn store(
        &mut self,
        key: &[u8],
        value: Vec<u8>,
        flags: u32,
        deadline: Deadline,
        fetched: bool,
    ) {
        self.version += 1;
        let expected = Expected {
            value,
            flags,
            deadline,
            version: self.version,
            fetched,
            stale: false,
            sent: false,
            accessed: self.now,
            noted: self.now < self.noted_until,
        };
        self.items.insert(key.to_vec(), expected);
    }

    /// The item of a key counts as fetched, if it is there.
    pub(super) fn fetched(&mut self, key: &[u8]) {
        let now = self.now;
        if let Some(expected) = self.items.get_mut(key) {
            expected.fetched = true;
            expected.accessed = now;
        }
    }

    /// The item of a key counts as used although it is not fetched.
    pub(super) fn looked_at(&mut self, key: &[u8]) {
        let now = self.now;
        if let Some(expected) = self.items.get_mut(key) {
            expected.accessed = now;
        }
    }

    /// A unique was told for the present value of a key.
    pub(super) fn told(&mut self, key: &[u8], unique: u64, doing: &str) {
        assert_ne!(unique, 0, "a unique is never zero");
        let present = self.items[key].version;
        let version = *self
            .uniques
            .entry((key.to_vec(), unique))
            .or_insert(present);
        assert_eq!(
            version,
            present,
            "{doing}: unique {unique} of {} returns",
            key.escape_ascii()
        );
        if let Some(last) = self.last_unique.insert(key.to_vec(), unique)
            && self.uniques.get(&(key.to_vec(), last)) == Some(&present)
        {
            assert_eq!(
                last, unique,
                "{doing}: the unique changed although the value did not"
            );
        }
    }

    /// A unique that a client chooses.
    pub(super) fn choose_unique(&mut self) -> u64 {
        self.chosen += 1;
        1 << 63 | self.chosen
    }

    /// Compares a lookup with what should be there.
    pub(super) fn check_hit(
        &mut self,
        key: &[u8],
        wanted: Unique,
        hit: Option<Hit<'_>>,
        doing: &str,
    ) {
        let Some(hit) = hit else {
            return self.missed(key, doing);
        };
        let Some(expected) = self.items.get_mut(key) else {
            panic!(
                "{doing} finds {} at {}, where nothing should be: {hit:?}",
                key.escape_ascii(),
                self.now
            )
        };
        self.hits += 1;
        assert_eq!(
            hit.value.len(),
            expected.value.len(),
            "{doing} {}: length",
            key.escape_ascii()
        );
        assert!(
            hit.value.pieces().all(|piece| !piece.is_empty()),
            "{doing}: an empty piece"
        );
        assert!(
            hit.value.to_vec() == expected.value,
            "{doing} {}: another value",
            key.escape_ascii()
        );
        assert_eq!(hit.flags, expected.flags, "{doing}: flags");
        assert_eq!(hit.deadline, expected.deadline, "{doing}: deadline");
        assert_eq!(
            hit.first_fetch,
            !expected.fetched,
            "{doing} {}: first fetch",
            key.escape_ascii()
        );
        self.fetched(key);
        if wanted == Unique::Unasked {
            assert_eq!(hit.cas, 0);
            return;
        }
        self.told(key, hit.cas, doing);
    }
}

/// Numbers in values, read digit by digit as memcached does; a second reading, independent of the shard's.
pub(super) fn model_number(value: &[u8]) -> Option<u64> {
    let text: String = value.iter().map(|&byte| char::from(byte)).collect();
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let end = text
        .find([' ', '\t', '\n', '\x0b', '\x0c', '\r', '\0'])
        .unwrap_or(text.len());
    let word = &text[..end];
    match word.strip_prefix('-') {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => digits
            .parse::<u64>()
            .ok()
            .map(u64::wrapping_neg)
            .filter(|&number| number < 1 << 63),
        Some(_) => None,
        None => word.parse().ok(),
    }
}
