//! What the counters and the notes of evictions must say after each step.
//!
//! Always true: while all evictions are noted, the model knows what the shard has dropped, so that whatever else is
//! missing is lost; and an item that has gone without a command is counted as evicted, expired or flushed.

use std::collections::HashMap;

use super::{Rig, Source};
use crate::{Counters, Evicted, Key, Peek, Seconds};

/// Room for the evictions of any step.
pub(super) const ROOM_FOR_ALL: usize = 1 << 20;

/// What was counted before the step at hand.
#[derive(Default)]
pub(super) struct Ledger {
    before: Counters,
    refused_before: u64,
    /// The totals of before the last reset.
    reset: Counters,
    /// Evictions the shard has room to note.
    room: usize,
    /// Whether the model has been told of every eviction.
    all_told: bool,
}

impl Ledger {
    /// Of a shard that is new and notes so many evictions.
    pub(super) fn new(room: usize) -> Self {
        Self {
            room,
            all_told: true,
            ..Self::default()
        }
    }
}

impl Rig {
    /// Totals since the start, whatever was reset in between.
    #[must_use]
    pub fn totals(&self) -> Counters {
        let mut totals = self.ledger.reset;
        totals.add(self.shard.counters());
        totals
    }

    /// Watches evictions in another way, or begins to count anew.
    pub(super) fn step_account(&mut self, source: &mut impl Source) -> Option<()> {
        match source.below(8)? {
            0 => {
                let (items, bytes) = (self.ledger.before.items, self.ledger.before.bytes);
                let held = Counters {
                    items,
                    bytes,
                    ..Counters::default()
                };
                let totals = self.totals();
                self.ledger.reset = Counters {
                    items: 0,
                    bytes: 0,
                    ..totals
                };
                self.shard.reset_counters();
                assert_eq!(*self.shard.counters(), held);
                self.ledger.before = held;
            }
            choice => {
                self.ledger.room = [ROOM_FOR_ALL, 3, 0][choice as usize % 3];
                self.shard.watch_evictions(self.ledger.room);
                if self.ledger.room == ROOM_FOR_ALL {
                    self.forget_what_is_gone();
                }
            }
        }
        Some(())
    }

    /// Has the model forget what was dropped while nobody watched.
    fn forget_what_is_gone(&mut self) {
        let keys: Vec<_> = self.model.items.keys().cloned().collect();
        for key in keys {
            if !self.has(&key) {
                self.model.forget(&key, "a look");
            }
        }
        self.model.missing.clear();
        self.ledger.all_told = true;
    }

    fn has(&self, bytes: &[u8]) -> bool {
        let hash = self.hasher.hash(bytes);
        let found = self
            .shard
            .peek(Key { hash, bytes }, Seconds(self.model.now));
        matches!(found, Peek::Here(_))
    }

    /// Compares the counters with what the step may have done. `only_looks` is of a step that stores and deletes nothing.
    pub(super) fn check_counters(&mut self, only_looks: bool) {
        let (before, after) = (self.ledger.before, *self.shard.counters());
        let gone = |counters: &Counters| counters.evictions + counters.expired + counters.flushed;
        let explained = before.items + after.total_items - before.total_items;
        let found = after.items + gone(&after) - gone(&before);
        assert!(
            found == explained || found < explained && !only_looks,
            "{explained} items are to be accounted for, {found} are: {before:?} {after:?}"
        );
        let refused = self.refused - self.ledger.refused_before;
        assert!(after.no_memory - before.no_memory <= refused);
        self.check_evictions(&before, &after);
        (self.ledger.before, self.ledger.refused_before) = (after, self.refused);
    }

    /// Compares the evictions noted with those counted, and has the model forget them.
    fn check_evictions(&mut self, before: &Counters, after: &Counters) {
        let mut noted: HashMap<Box<[u8]>, Vec<Evicted>> = HashMap::new();
        let (mut count, mut unfetched) = (0, 0);
        let unnoted = self.shard.take_evictions(|evicted| {
            count += 1;
            unfetched += u64::from(!evicted.fetched);
            let of_key = noted.entry(evicted.key.clone()).or_default();
            of_key.push(evicted.clone());
        });
        let missing = std::mem::take(&mut self.model.missing);
        if self.ledger.room == 0 {
            assert_eq!((count, unnoted), (0, 0), "nobody watches");
            self.ledger.all_told = false;
            return;
        }
        assert!(count <= self.ledger.room as u64);
        assert_eq!(count + unnoted, after.evictions - before.evictions);
        self.ledger.all_told &= unnoted == 0;
        if unnoted == 0 {
            let counted = after.evicted_unfetched - before.evicted_unfetched;
            assert_eq!(unfetched, counted, "evicted unfetched");
        }
        let is_lost = |(key, _): &&(Vec<u8>, _)| !noted.contains_key(&key[..]);
        if self.ledger.all_told
            && let Some((key, doing)) = missing.iter().find(is_lost)
        {
            let (key, now) = (key.escape_ascii(), self.model.now);
            panic!("{doing} misses {key} at {now}, which was not evicted");
        }
        for (bytes, evictions) in noted {
            let Some(had) = self.model.items.get(&bytes[..]) else {
                continue;
            };
            // It may have been stored again.
            if self.has(&bytes) {
                continue;
            }
            // Of several versions dropped in one step the last is the model's.
            if let [evicted] = &evictions[..]
                && unnoted == 0
            {
                assert_eq!(evicted.value_bytes, had.value.len(), "{evicted:?}");
                assert_eq!(evicted.deadline, had.deadline, "{evicted:?}");
                assert_eq!(evicted.fetched, had.fetched, "{evicted:?}");
                assert!(!had.noted || evicted.accessed.0 == had.accessed);
            }
            self.model.forget(&bytes, "an eviction");
        }
        self.model.missing.clear();
    }
}
