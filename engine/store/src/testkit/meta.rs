//! The steps that ask what the meta commands ask.

use super::expect::Expected;
use super::{Rig, Source};
use crate::{
    Counted, Counting, Deadline, Fetch, Invalidation, InvalidationOutcome, Key, MetaSet, NewItem,
    Seconds, SetMode, SetOutcome, Unique, Vivify,
};

impl Rig {
    /// Takes note of what a count tells of the unique, and whether anything is left.
    pub(super) fn end_counting(
        &mut self,
        key: &[u8],
        how: &Counting,
        counted: &Counted,
        deadline: Deadline,
    ) {
        if how.wanted == Unique::Wanted {
            if how.unique != 0 {
                assert_eq!(counted.unique, how.unique);
            }
            self.model.told(key, counted.unique, "arith");
        }
        if matches!(deadline, Deadline::At(at) if at.0 <= self.model.now) {
            self.model.items.remove(key);
        }
    }

    /// A unique for a condition: the last one told, or one that nobody has.
    pub(super) fn any_unique(&self, source: &mut impl Source, key: &[u8]) -> Option<u64> {
        let last = self.model.last_unique.get(key).copied();
        Some(if source.below(4)? == 0 {
            u64::MAX
        } else {
            last.unwrap_or(u64::MAX)
        })
    }

    pub(super) fn step_fetch_meta(&mut self, source: &mut impl Source) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let now = Seconds(self.model.now);
        let mut how = Fetch {
            counts: source.below(4)? > 0,
            idle: source.below(4)? == 0,
            recache_after: source.below(2)? == 0,
            ..Fetch::default()
        };
        if source.below(2)? == 0 {
            how.unique = Unique::Wanted;
        }
        if source.below(4)? == 0 {
            how.deadline = Some(self.any_deadline(source)?);
        }
        if source.below(3)? == 0 {
            how.recache = Some(self.any_deadline(source)?);
        }
        if source.below(3)? == 0 {
            how.vivify = Some(Vivify {
                deadline: self.any_deadline(source)?,
                unique: if source.below(2)? == 0 {
                    self.model.choose_unique()
                } else {
                    0
                },
            });
        }
        if how.idle {
            self.model.noted_until = now.0.saturating_add(3600);
        }
        let is_past = |deadline| matches!(deadline, Deadline::At(at) if at <= now);
        let found = self.shard.fetch_meta(key, &how, now);
        let Some(found) = found else {
            self.model.missed(&key_bytes, "mg");
            if how.vivify.is_some() {
                self.refuse("vivify");
            }
            return Some(());
        };
        self.model.won += u64::from(found.won);
        if found.made {
            let vivify = how.vivify.expect("makes an item unasked");
            assert!(found.won && !found.sent && !found.stale);
            self.model.missed(&key_bytes, "mg");
            self.model
                .store(&key_bytes, Vec::new(), 0, vivify.deadline, false);
            let expected = self.model.items.get_mut(&key_bytes).expect("just stored");
            let past = is_past(vivify.deadline);
            expected.sent = true;
            expected.noted = true;
            if past {
                expected.deadline = Deadline::At(now);
            }
            self.model
                .check_hit(&key_bytes, how.unique, Some(found.hit), "vivify");
            let expected = self.model.items.get_mut(&key_bytes).expect("just stored");
            expected.fetched = how.counts;
            if past {
                self.model.items.remove(&key_bytes);
            }
            return Some(());
        }
        let Some(had) = self.model.items.get(&key_bytes).cloned() else {
            panic!("mg finds {} where nothing is", key_bytes.escape_ascii());
        };
        assert_eq!((found.stale, found.sent), (had.stale, had.sent));
        assert_eq!(found.deadline_before, had.deadline);
        let wanted = how.deadline.unwrap_or(had.deadline);
        let compared = if how.recache_after {
            wanted
        } else {
            had.deadline
        };
        let late = match (compared, how.recache) {
            (Deadline::At(at), Some(Deadline::At(limit))) => at < limit,
            (Deadline::At(_), Some(Deadline::Never)) => true,
            _ => false,
        };
        let wins = (had.stale || late) && !had.sent;
        // Without room to note it nobody wins.
        assert!(
            found.won == wins || wins && self.rules.may_refuse,
            "{found:?}"
        );
        if how.idle && had.noted {
            assert_eq!(found.idle_seconds, now.0 - had.accessed, "{had:?}");
        }
        let past = is_past(wanted);
        let (won, noted) = (found.won, how.counts && (how.idle || found.won));
        let may_refuse = self.rules.may_refuse;
        let expected = self.model.items.get_mut(&key_bytes).expect("just seen");
        if !(may_refuse && found.hit.deadline == had.deadline) {
            expected.deadline = if past { Deadline::At(now) } else { wanted };
        }
        self.model
            .check_hit(&key_bytes, how.unique, Some(found.hit), "mg");
        let expected = self.model.items.get_mut(&key_bytes).expect("just seen");
        if !how.counts {
            (expected.fetched, expected.accessed) = (had.fetched, had.accessed);
        }
        expected.sent |= won;
        expected.noted |= noted && !may_refuse;
        if past {
            self.model.items.remove(&key_bytes);
        }
        Some(())
    }

    pub(super) fn step_set_meta(&mut self, source: &mut impl Source) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let now = Seconds(self.model.now);
        let value = self.any_value(source)?;
        let deadline = self.any_deadline(source)?;
        let flags = source.below(3)?;
        let item = NewItem {
            flags,
            deadline,
            value: &value,
        };
        let modes = [
            SetMode::Set,
            SetMode::Add,
            SetMode::Replace,
            SetMode::Append,
            SetMode::Prepend,
        ];
        let mode = modes[source.below(5)? as usize];
        let had = self.model.items.get(&key_bytes).cloned();
        let mut how = MetaSet {
            mode,
            compare: None,
            stale: source.below(2)? == 0,
            unique: 0,
            vivify: None,
            wanted: Unique::Unasked,
        };
        if source.below(2)? == 0 {
            how.compare = Some(self.any_unique(source, &key_bytes)?);
        }
        if source.below(3)? == 0 {
            how.unique = self.model.choose_unique();
        }
        if source.below(2)? == 0 {
            how.wanted = Unique::Wanted;
        }
        // With nothing before it, what is joined could not be told from what is made.
        if source.below(2)? == 0 && had.as_ref().is_none_or(|had| !had.value.is_empty()) {
            how.vivify = Some(self.any_deadline(source)?);
        }
        let known = how
            .compare
            .and_then(|unique| self.model.uniques.get(&(key_bytes.clone(), unique)))
            .copied();
        let present = had.as_ref().map(|had| had.version);
        let too_large = value.len() > self.shard.item_max_value(key_bytes.len(), flags);
        let no_memory = self.shard.counters().no_memory;
        let stored = self.shard.set_meta(key, item, &how, now);
        let joins = matches!(mode, SetMode::Append | SetMode::Prepend);
        assert_eq!(
            stored.outcome == SetOutcome::TooLarge,
            too_large,
            "{stored:?}"
        );
        match stored.outcome {
            SetOutcome::Stored => {}
            outcome => {
                assert_eq!((stored.unique, stored.value_bytes), (0, value.len()));
                match outcome {
                    SetOutcome::TooLarge => {
                        self.model.items.remove(&key_bytes);
                    }
                    SetOutcome::NoMemory => {
                        self.refuse("ms");
                        if mode == SetMode::Set && how.compare.is_none() {
                            self.model.items.remove(&key_bytes);
                        }
                    }
                    SetOutcome::Exists => assert!(had.is_some() && known != present),
                    SetOutcome::NotFound => self.model.missed(&key_bytes, "ms"),
                    SetOutcome::NotStored if mode == SetMode::Add => {
                        assert!(had.is_some());
                        self.model.looked_at(&key_bytes);
                    }
                    SetOutcome::NotStored if self.shard.counters().no_memory > no_memory => {
                        self.refuse("ms");
                    }
                    _ => {
                        let fits = had.is_some_and(|had| {
                            !joins
                                || had.value.len() + value.len()
                                    <= self.shard.item_max_value(key_bytes.len(), had.flags)
                        });
                        if fits {
                            self.model.forget(&key_bytes, "ms");
                        }
                    }
                }
                return Some(());
            }
        }
        let joined = match (&had, mode) {
            (Some(had), SetMode::Append) => Some([&had.value[..], &value].concat()),
            (Some(had), SetMode::Prepend) => Some([&value, &had.value[..]].concat()),
            _ => None,
        };
        let joined = joined.filter(|joined| joined.len() == stored.value_bytes);
        let mut deadline = deadline;
        let mut stale = None;
        if let Some(joined) = joined {
            let had = had.expect("what was joined");
            assert!(how.compare.is_none() || known == present);
            deadline = had.deadline;
            self.model
                .store(&key_bytes, joined, had.flags, deadline, false);
        } else {
            assert_eq!(stored.value_bytes, value.len());
            match mode {
                SetMode::Set | SetMode::Replace if how.compare.is_some() => {
                    let had = had.expect("a unique where nothing is");
                    if known != present {
                        assert!(
                            how.stale && known < present,
                            "takes a unique that is not it"
                        );
                        deadline = had.deadline;
                        stale = Some(had.sent);
                    }
                }
                SetMode::Set => {}
                SetMode::Replace => assert!(had.is_some()),
                SetMode::Add => self.model.missed(&key_bytes, "ms"),
                SetMode::Append | SetMode::Prepend => {
                    self.model.missed(&key_bytes, "ms");
                    deadline = how.vivify.expect("joined to nothing");
                }
            }
            self.model.store(&key_bytes, value, flags, deadline, false);
        }
        if let Some(sent) = stale {
            let expected = self.model.items.get_mut(&key_bytes).expect("just stored");
            (expected.stale, expected.sent, expected.noted) = (true, sent, true);
        }
        if how.wanted == Unique::Wanted {
            if how.unique != 0 {
                assert_eq!(stored.unique, how.unique);
            }
            self.model.told(&key_bytes, stored.unique, "ms");
        }
        if matches!(deadline, Deadline::At(at) if at <= now) {
            self.model.items.remove(&key_bytes);
        }
        Some(())
    }

    pub(super) fn step_invalidate(&mut self, source: &mut impl Source) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let now = Seconds(self.model.now);
        let mut how = Invalidation {
            stale: source.below(4)? > 0,
            ..Invalidation::default()
        };
        if source.below(3)? == 0 {
            how.compare = Some(self.any_unique(source, &key_bytes)?);
        }
        if source.below(3)? == 0 {
            how.clear = Some(source.below(3)?);
        }
        if source.below(3)? == 0 {
            how.deadline = Some(self.any_deadline(source)?);
        }
        if source.below(3)? == 0 {
            how.unique = self.model.choose_unique();
        }
        let had = self.model.items.get(&key_bytes).cloned();
        let known = how
            .compare
            .and_then(|unique| self.model.uniques.get(&(key_bytes.clone(), unique)))
            .copied();
        match self.shard.invalidate(key, &how, now) {
            InvalidationOutcome::NotFound => self.model.missed(&key_bytes, "md"),
            InvalidationOutcome::NoMemory => self.refuse("md"),
            InvalidationOutcome::Exists => {
                assert!(how.compare.is_some());
                assert_ne!(known, Some(had.expect("something is there").version));
            }
            InvalidationOutcome::Done => {
                let had = had.expect("invalidates where nothing is");
                assert!(how.compare.is_none() || known == Some(had.version));
                let mut expected = Expected {
                    stale: how.stale,
                    sent: false,
                    ..had
                };
                if how.stale || how.unique != 0 {
                    self.model.version += 1;
                    expected.version = self.model.version;
                }
                if let Some(flags) = how.clear {
                    expected = Expected {
                        value: Vec::new(),
                        flags,
                        deadline: Deadline::Never,
                        fetched: false,
                        accessed: now.0,
                        noted: how.stale || now.0 < self.model.noted_until,
                        ..expected
                    };
                }
                expected.deadline = how.deadline.unwrap_or(expected.deadline);
                let past = matches!(expected.deadline, Deadline::At(at) if at <= now);
                if past || !how.stale && how.clear.is_none() {
                    self.model.items.remove(&key_bytes);
                } else {
                    self.model.items.insert(key_bytes, expected);
                }
            }
        }
        Some(())
    }

    pub(super) fn step_inspect(&mut self, source: &mut impl Source) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let now = Seconds(self.model.now);
        let Some(inspected) = self.shard.inspect(key, now) else {
            self.model.missed(&key_bytes, "me");
            return Some(());
        };
        let Some(had) = self.model.items.get(&key_bytes).cloned() else {
            panic!("me finds {} where nothing is", key_bytes.escape_ascii());
        };
        assert_eq!(inspected.deadline, had.deadline);
        assert_eq!(inspected.fetched, had.fetched);
        assert!(inspected.item_bytes > key_bytes.len() + had.value.len());
        if had.noted {
            assert_eq!(inspected.idle_seconds, now.0 - had.accessed);
        }
        self.model.told(&key_bytes, inspected.unique, "me");
        Some(())
    }
}
