//! The steps that every protocol has: stores, lookups, loans, numbers, touches.

use super::expect::model_number;
use super::{BATCH_KEYS_MAX, Rig, Source};
use crate::{
    ArithOutcome, Arithmetic, CountOutcome, Counted, Counters, Counting, Deadline, DeleteOutcome,
    Key, NewItem, Peek, Seconds, SetOutcome, TouchOutcome, Unique,
};

impl Rig {
    pub(super) fn step_store(&mut self, source: &mut impl Source, choice: u32) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let value = self.any_value(source)?;
        let deadline = self.any_deadline(source)?;
        let flags = if source.below(4)? == 0 {
            source.next()?
        } else {
            0
        };
        let now = Seconds(self.model.now);
        let item = NewItem {
            flags,
            deadline,
            value: &value,
        };
        let too_large = value.len() > self.shard.item_max_value(key_bytes.len(), flags);
        let past = matches!(deadline, Deadline::At(at) if at <= now);
        let had = self
            .model
            .items
            .get(&key_bytes)
            .map(|expected| expected.version);
        let before = *self.shard.counters();
        let (doing, outcome) = match choice {
            0..24 => ("set", self.shard.set(key, item, now)),
            24..27 => ("add", self.shard.add(key, item, now)),
            27..30 => ("replace", self.shard.replace(key, item, now)),
            _ => {
                let last = self.model.last_unique.get(&key_bytes).copied();
                let unique = if source.below(4)? == 0 {
                    u64::from(source.next()?)
                } else {
                    last.unwrap_or(1)
                };
                let outcome = self.shard.compare_and_swap(key, item, unique, now);
                let known = self
                    .model
                    .uniques
                    .get(&(key_bytes.clone(), unique))
                    .copied();
                match outcome {
                    SetOutcome::Stored => {
                        // A unique nobody was told may be guessed; one that was told must be of this very value.
                        assert!(had.is_some(), "compare-and-swap stores over nothing");
                        assert!(
                            known.is_none() || known == had,
                            "compare-and-swap takes an old unique"
                        );
                    }
                    SetOutcome::Exists => assert!(
                        had.is_some() && known != had,
                        "the present unique is refused"
                    ),
                    SetOutcome::NotFound => self.model.missed(&key_bytes, "cas"),
                    _ => {}
                }
                ("cas", outcome)
            }
        };
        assert_eq!(
            outcome == SetOutcome::TooLarge,
            too_large,
            "{doing} of {} bytes: {outcome:?}",
            value.len()
        );
        let after = self.shard.counters();
        let counted = [
            after.too_large - before.too_large,
            after.no_memory - before.no_memory,
            after.total_items - before.total_items,
        ];
        let is = |wanted| u64::from(outcome == wanted);
        assert_eq!(
            counted,
            [
                is(SetOutcome::TooLarge),
                is(SetOutcome::NoMemory),
                is(SetOutcome::Stored) * u64::from(!past),
            ],
            "{doing}: {outcome:?}"
        );
        match outcome {
            SetOutcome::Stored => {
                if doing == "add" {
                    self.model.missed(&key_bytes, doing);
                }
                assert!(
                    doing != "replace" || had.is_some(),
                    "replace stores over nothing"
                );
                if past {
                    self.model.items.remove(&key_bytes);
                } else {
                    self.model.store(&key_bytes, value, flags, deadline, false);
                }
            }
            SetOutcome::NotStored => match doing {
                "add" => {
                    assert!(had.is_some(), "add finds something where nothing is");
                    self.model.looked_at(&key_bytes);
                }
                "replace" => self.model.missed(&key_bytes, doing),
                _ => panic!("{doing} ends with {outcome:?}"),
            },
            SetOutcome::Exists | SetOutcome::NotFound => assert_eq!(doing, "cas"),
            SetOutcome::TooLarge | SetOutcome::NoMemory => {
                if outcome == SetOutcome::NoMemory {
                    self.refuse(doing);
                }
                if doing == "set" {
                    self.model.items.remove(&key_bytes);
                }
            }
        }
        Some(())
    }

    pub(super) fn step_extend(&mut self, source: &mut impl Source) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let bytes = self.any_value(source)?;
        let now = Seconds(self.model.now);
        let after = source.below(2)? == 0;
        let before = self.shard.counters().no_memory;
        let outcome = if after {
            self.shard.append(key, &bytes, now)
        } else {
            self.shard.prepend(key, &bytes, now)
        };
        let had = self.model.items.get(&key_bytes).cloned();
        match outcome {
            SetOutcome::Stored => {
                let had = had.expect("append to nothing is not stored");
                let value = if after {
                    [had.value, bytes].concat()
                } else {
                    [bytes, had.value].concat()
                };
                assert!(value.len() <= self.shard.item_max_value(key_bytes.len(), had.flags));
                self.model
                    .store(&key_bytes, value, had.flags, had.deadline, false);
            }
            SetOutcome::NotStored if self.shard.counters().no_memory > before => {
                self.refuse("append")
            }
            SetOutcome::NotStored => {
                let fits = had.is_some_and(|had| {
                    had.value.len() + bytes.len()
                        <= self.shard.item_max_value(key_bytes.len(), had.flags)
                });
                if fits {
                    self.model.forget(&key_bytes, "append");
                }
            }
            SetOutcome::TooLarge => {
                assert!(bytes.len() > self.shard.item_max_value(key_bytes.len(), 0))
            }
            _ => panic!("append ends with {outcome:?}"),
        }
        Some(())
    }

    /// Lookups in a batch, whose loads a caller makes overlap.
    pub(super) fn step_batch(&mut self, source: &mut impl Source) -> Option<()> {
        let keys: Option<Vec<_>> = (0..source.below(BATCH_KEYS_MAX)?)
            .map(|_| self.any_key(source))
            .collect();
        let keys = keys?;
        let hashes = keys.iter().map(|key| self.hasher.hash(key));
        let probes: Vec<_> = hashes
            .map(|hash| self.shard.prefetch_buckets(hash))
            .collect();
        for &probe in &probes {
            self.shard.prefetch_item(probe);
        }
        // What was found of the keys must hold, or be found again, whatever happens to the table meanwhile.
        for _ in 0..source.below(4)? {
            self.step_store(source, 0)?;
        }
        let now = Seconds(self.model.now);
        for (bytes, probe) in keys.iter().zip(probes) {
            let hit = self.shard.get_probed(probe, bytes, now, Unique::Unasked);
            self.model
                .check_hit(bytes, Unique::Unasked, hit, "get of a batch");
        }
        Some(())
    }

    pub(super) fn step_unique(&mut self, source: &mut impl Source) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let now = Seconds(self.model.now);
        match self.shard.unique(key, now) {
            None => self.model.missed(&key_bytes, "unique"),
            Some(unique) => {
                assert!(
                    self.model.items.contains_key(&key_bytes),
                    "{} has a unique at {}, where nothing should be",
                    key_bytes.escape_ascii(),
                    self.model.now
                );
                self.model.told(&key_bytes, unique, "unique");
            }
        }
        Some(())
    }

    pub(super) fn step_read(&mut self, source: &mut impl Source, choice: u32) -> Option<()> {
        if choice == 40 {
            return self.step_batch(source);
        }
        if choice == 41 {
            return self.step_unique(source);
        }
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let now = Seconds(self.model.now);
        let wanted = if source.below(2)? == 0 {
            Unique::Wanted
        } else {
            Unique::Unasked
        };
        if choice < 50 {
            let probe = self.shard.prefetch_buckets(key.hash);
            self.shard.prefetch_item(probe);
        }
        if choice < 57 {
            let counted = |rig: &Self| {
                let Counters {
                    get_expired,
                    get_flushed,
                    ..
                } = *rig.shard.counters();
                (get_expired, get_flushed)
            };
            let (expired, flushed) = counted(self);
            let wanted_counts = match self.shard.peek(key, now) {
                Peek::Expired => (expired + 1, flushed),
                Peek::Flushed => (expired, flushed + 1),
                Peek::Absent | Peek::Here(_) => (expired, flushed),
            };
            self.model
                .check_hit(&key_bytes, wanted, self.shard.get(key, now, wanted), "get");
            assert_eq!(counted(self), wanted_counts, "get_expired, get_flushed");
            return Some(());
        }
        let deadline = self.any_deadline(source)?;
        let past = matches!(deadline, Deadline::At(at) if at <= now);
        let hit = self.shard.get_and_touch(key, deadline, now, wanted);
        if let Some(expected) = self.model.items.get_mut(&key_bytes)
            && let Some(hit) = &hit
        {
            // A touch that finds no room leaves the deadline as it was.
            if !(self.rules.may_refuse && hit.deadline == expected.deadline) {
                expected.deadline = if past { Deadline::At(now) } else { deadline };
            }
        }
        if hit.is_none() && past && self.rules.may_refuse {
            self.model.items.remove(&key_bytes);
        }
        self.model.check_hit(&key_bytes, wanted, hit, "gat");
        if past {
            self.model.items.remove(&key_bytes);
        }
        Some(())
    }

    pub(super) fn step_lend(&mut self, source: &mut impl Source) -> Option<()> {
        if source.below(2)? == 0 {
            if !self.loans.is_empty() {
                let (loan, bytes) = self
                    .loans
                    .swap_remove(source.below(self.loans.len() as u32)? as usize);
                self.check_loan(&loan, &bytes);
                self.shard.give_back(loan);
            }
            return Some(());
        }
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let hit = self
            .shard
            .get(key, Seconds(self.model.now), Unique::Unasked);
        let item = hit.map(|hit| hit.item);
        self.model
            .check_hit(&key_bytes, Unique::Unasked, hit, "get to lend");
        if let Some(item) = item
            && self.loans.len() < 6
            && let Some(loan) = self.shard.lend(item)
        {
            let bytes = self.model.items[&key_bytes].value.clone();
            self.check_loan(&loan, &bytes);
            self.loans.push((loan, bytes));
            let usage = self.shard.usage();
            assert!(usage.pages_lent <= usage.pages_total / 2, "{usage:?}");
        }
        Some(())
    }

    pub(super) fn step_delete(&mut self, source: &mut impl Source, choice: u32) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        if choice == 67 {
            self.shard.unlink(key, Seconds(self.model.now));
            self.model.items.remove(&key_bytes);
            return Some(());
        }
        match self.shard.delete(key, Seconds(self.model.now)) {
            DeleteOutcome::Deleted => {
                assert!(
                    self.model.items.remove(&key_bytes).is_some(),
                    "deletes where nothing is"
                );
            }
            DeleteOutcome::NotFound => self.model.missed(&key_bytes, "delete"),
        }
        Some(())
    }

    pub(super) fn step_arith(&mut self, source: &mut impl Source) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let delta = match source.below(4)? {
            0 => u64::MAX - u64::from(source.below(3)?),
            1 => u64::from(source.below(100_000)?),
            _ => u64::from(source.below(20)?),
        };
        let arithmetic = if source.below(2)? == 0 {
            Arithmetic::Incr
        } else {
            Arithmetic::Decr
        };
        let now = Seconds(self.model.now);
        let mut how = Counting {
            arithmetic,
            delta,
            ..Counting::default()
        };
        let plain = source.below(2)? == 0;
        if !plain {
            how.compare = match source.below(3)? {
                0 => self.any_unique(source, &key_bytes)?,
                _ => 0,
            };
            if source.below(3)? == 0 {
                how.unique = self.model.choose_unique();
            }
            if source.below(3)? == 0 {
                how.deadline = Some(self.any_deadline(source)?);
            }
            if source.below(3)? == 0 {
                how.vivify = Some((u64::from(source.below(30)?), self.any_deadline(source)?));
            }
            if source.below(2)? == 0 {
                how.wanted = Unique::Wanted;
            }
        }
        let outcome = if plain {
            match self.shard.arith(key, arithmetic, delta, now) {
                ArithOutcome::Value(value) => CountOutcome::Counted(Counted {
                    value,
                    unique: 0,
                    deadline_before: self.model.items[&key_bytes].deadline,
                    made: false,
                }),
                ArithOutcome::NotFound => CountOutcome::NotFound,
                ArithOutcome::NonNumeric => CountOutcome::NonNumeric,
                ArithOutcome::NoMemory => CountOutcome::NoMemory,
            }
        } else {
            self.shard.count(key, &how, now)
        };
        let had = self.model.items.get(&key_bytes).cloned();
        let version_of_compare = self.model.uniques.get(&(key_bytes.clone(), how.compare));
        match outcome {
            CountOutcome::Counted(counted) if counted.made => {
                self.model.missed(&key_bytes, "arith");
                let (initial, deadline) = how.vivify.expect("makes a number unasked");
                assert_eq!(counted.value, initial);
                let value = initial.to_string().into_bytes();
                self.model.store(&key_bytes, value, 0, deadline, false);
                self.end_counting(&key_bytes, &how, &counted, deadline);
            }
            CountOutcome::Counted(counted) => {
                let had = had.expect("counts where nothing is");
                assert!(
                    how.compare == 0 || version_of_compare == Some(&had.version),
                    "counts in spite of the unique"
                );
                let old = model_number(&had.value).expect("counts what is no number");
                let wanted = match arithmetic {
                    Arithmetic::Incr => old.wrapping_add(delta),
                    Arithmetic::Decr => old.saturating_sub(delta),
                };
                assert_eq!(counted.value, wanted);
                assert_eq!(counted.deadline_before, had.deadline);
                let value = format!("{wanted:<width$}", width = had.value.len()).into_bytes();
                let grown = value.len() > had.value.len();
                let deadline = how.deadline.unwrap_or(had.deadline);
                self.model.store(
                    &key_bytes,
                    value,
                    had.flags,
                    deadline,
                    had.fetched && !grown,
                );
                if !grown {
                    let expected = self.model.items.get_mut(&key_bytes).expect("just stored");
                    (expected.stale, expected.sent) = (had.stale, had.sent);
                    expected.noted |= had.noted;
                    // Counted where it stands, it gets no place for notes.
                    expected.noted &= had.noted;
                }
                self.end_counting(&key_bytes, &how, &counted, deadline);
            }
            CountOutcome::NonNumeric => {
                let had = had.expect("something is there that is no number");
                // Large values are not read as numbers at all.
                assert!(
                    model_number(&had.value).is_none()
                        || had.value.len() + 300 > self.page_bytes as usize
                );
            }
            CountOutcome::Exists => {
                let had = had.expect("something is there that has a unique");
                assert_ne!(version_of_compare, Some(&had.version));
            }
            CountOutcome::NotFound => self.model.missed(&key_bytes, "arith"),
            CountOutcome::NoMemory => self.refuse("arith"),
        }
        Some(())
    }

    pub(super) fn step_touch(&mut self, source: &mut impl Source) -> Option<()> {
        let key_bytes = self.any_key(source)?;
        let key = Key {
            hash: self.hasher.hash(&key_bytes),
            bytes: &key_bytes,
        };
        let deadline = self.any_deadline(source)?;
        let now = Seconds(self.model.now);
        match self.shard.touch(key, deadline, now) {
            TouchOutcome::Touched => {
                let expected = self
                    .model
                    .items
                    .get_mut(&key_bytes)
                    .expect("touches where nothing is");
                expected.deadline = deadline;
                self.model.fetched(&key_bytes);
                if matches!(deadline, Deadline::At(at) if at <= now) {
                    self.model.items.remove(&key_bytes);
                }
            }
            TouchOutcome::NotFound => self.model.missed(&key_bytes, "touch"),
            TouchOutcome::NoMemory => {
                self.model.fetched(&key_bytes);
                self.refuse("touch");
            }
        }
        Some(())
    }
}
