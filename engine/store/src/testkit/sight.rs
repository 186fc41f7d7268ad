//! The steps of who looks at a shard without being a client of it.
//!
//! Always true: nothing here changes what the model expects, but for items that turn out to be gone.

use std::collections::HashSet;

use super::expect::Model;
use super::{Rig, Source};
use crate::{Key, Peek, ScanPlace, Seconds, Sight};

impl Rig {
    /// Looks at one item, or at all of them.
    pub(super) fn step_look(&mut self, source: &mut impl Source) -> Option<()> {
        if source.below(32)? == 0 {
            return self.step_scan(source);
        }
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        match self.shard.peek(key, Seconds(self.model.now)) {
            Peek::Here(sight) => self.model.check_sight(&sight),
            Peek::Absent | Peek::Expired | Peek::Flushed => self.model.missed(&key_bytes, "peek"),
        }
        Some(())
    }

    /// Goes round the table in slices, and meets each item once.
    fn step_scan(&mut self, source: &mut impl Source) -> Option<()> {
        let slice = source.below(40)? as usize + 1;
        let now = Seconds(self.model.now);
        let mut met = HashSet::new();
        let mut place = Some(ScanPlace::default());
        while let Some(from) = place {
            place = self.shard.scan(from, slice, now, |sight| {
                self.model.check_sight(&sight);
                assert!(
                    met.insert(sight.key.to_vec()),
                    "a scan meets {} twice",
                    sight.key.escape_ascii()
                );
            });
        }
        let unmet = |key: &&Vec<u8>| !met.contains(*key);
        let unmet: Vec<_> = self.model.items.keys().filter(unmet).cloned().collect();
        for key in unmet {
            self.model.missed(&key, "scan");
        }
        Some(())
    }

    /// Compares what is told of all segments, TTL buckets and pages with each other.
    pub(super) fn check_totals(&self) {
        let (mut segments, mut items, mut bytes) = (0, 0, 0);
        self.shard.segments(|segment| {
            assert!(segment.opened_at.0 <= self.model.now);
            segments += 1;
            items += segment.items;
            bytes += segment.bytes;
        });
        let usage = self.shard.usage();
        assert_eq!((segments, items), (usage.pages_segment, usage.items));
        let mut shortest = Some(0);
        self.shard.ttl_classes(|class| {
            let longer = class.ttl_min.is_none_or(|ttl| Some(ttl) > shortest);
            assert!(shortest.is_some() && longer, "{class:?} after {shortest:?}");
            shortest = class.ttl_min;
            segments -= class.segments;
            items -= class.items;
            bytes -= class.bytes;
        });
        assert_eq!((segments, items, bytes), (0, 0, 0), "in no TTL bucket");
        let used = usage.pages_segment + usage.pages_table + usage.pages_extension;
        assert_eq!(
            used + usage.pages_free + usage.pages_zombie,
            usage.pages_total,
            "{usage:?}"
        );
    }
}

impl Model {
    /// Compares what is seen of an item with what should be there.
    fn check_sight(&self, sight: &Sight<'_>) {
        let key = sight.key.escape_ascii();
        let Some(had) = self.items.get(sight.key) else {
            panic!("{key} is seen at {} where nothing is", self.now)
        };
        assert_eq!(sight.value_bytes, had.value.len(), "{key}: length");
        assert_eq!(sight.flags, had.flags, "{key}: flags");
        assert_eq!(sight.deadline, had.deadline, "{key}: deadline");
        assert_eq!(sight.fetched, had.fetched, "{key}: fetched");
        assert!(sight.accessed.0 <= self.now, "{key}: {:?}", sight.accessed);
        if had.noted {
            assert_eq!(sight.accessed.0, had.accessed, "{key}: accessed");
        }
        assert!(sight.item_bytes > sight.key.len() + sight.value_bytes);
        if let Some(last) = self.last_unique.get(sight.key)
            && self.uniques.get(&(sight.key.to_vec(), *last)) == Some(&had.version)
        {
            assert_eq!(sight.unique, *last, "{key}: a unique that was told changed");
        }
    }
}
