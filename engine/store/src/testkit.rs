//! Random operations on a shard beside a reference model: a map with deadlines.
//!
//! Operations are drawn from a [`Source`]: a seeded generator in tests, the input in fuzzing. After each the answers
//! are compared. What the model allows a shard to do depends on [`Rules::may_forget`]: a shard that evicts may miss an
//! item, once for each eviction it counts, and only that very one while its evictions are watched; it may never return a
//! wrong, foreign, expired or flushed one.
//!
//! Everything here panics with the operation at hand when the shard is wrong.

mod classic;
mod course;
mod expect;
mod ledger;
mod meta;
#[cfg(test)]
mod model;
mod rules;
mod sight;
mod source;

pub use rules::Rules;
pub use source::{FromBytes, Seeded, Source};

use std::collections::HashMap;

use crate::{Deadline, HASH_SEED_WORDS, KeyHasher, Loan, Seconds, Shard, ShardConfig};
use expect::Model;
use ledger::{Ledger, ROOM_FOR_ALL};

/// Stores of one burst at most: they are drawn from a single choice, so that an input of a few hundred bytes fills a
/// shard.
const BURST_STORES_MAX: u32 = 800;

/// Lookups of one batch at most.
const BATCH_KEYS_MAX: u32 = 20;

/// What the bytes of a page are set to when the shard has no use for them. It is looked at again later: nobody may have
/// written there.
const UNUSED: u8 = 0xdb;

/// A shard, its model, and the comparison.
pub struct Rig {
    /// The shard under test.
    pub shard: Shard<Vec<u8>>,
    hasher: KeyHasher,
    rules: Rules,
    model: Model,
    ledger: Ledger,
    loans: Vec<(Loan, Vec<u8>)>,
    page_bytes: u32,
    /// By page: whether the shard has no use for it, as far as it has told.
    unused: Vec<bool>,
    limit_changes: u64,
    prefix_flushes: u64,
    operations: u64,
    refused: u64,
}

/// One of a few prefixes of keys.
fn any_prefix(number: u32) -> String {
    format!("p{}", number % 5)
}

/// A ttl near which something changes: borders of TTL buckets, of the delta, of the clock.
fn any_ttl(source: &mut impl Source) -> Option<u64> {
    Some(match source.below(16)? {
        0..8 => u64::from(source.below(20)?) + 1,
        8..11 => u64::from(source.below(2000)?) + 1,
        11..14 => {
            let octave = 1u64 << source.below(31)?;
            let border = octave + octave / 8 * u64::from(source.below(8)?);
            (border + u64::from(source.below(3)?))
                .saturating_sub(1)
                .max(1)
        }
        14 => (1 << 16) - 6 + u64::from(source.below(8)?),
        _ => u64::from(source.below(1 << 31)?) + 1,
    })
}

/// Bytes that tell which value they belong to and where in it they stand.
fn pattern(version: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        let word = (version << 24 | bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

impl Rig {
    /// A fresh shard and an empty model. `seed` is for the hash.
    #[must_use]
    pub fn new(rules: Rules, seed: u64) -> Self {
        let mut words = Seeded::new(seed);
        let mut word = || u64::from(words.next().unwrap_or(1));
        let hash_seed: [u64; HASH_SEED_WORDS] = std::array::from_fn(|_| word() << 32 | word());
        let hasher = KeyHasher::new(hash_seed);
        let config = ShardConfig {
            item_max_bytes: rules.item_max_bytes,
            eviction: rules.eviction,
            seed,
        };
        // Memory that is not zero at the start, as nothing promises that it is.
        let memory = vec![UNUSED; rules.memory_bytes * rules.grow_times as usize];
        let (limit, granule_shift) = (rules.memory_bytes, rules.granule_shift);
        let mut shard = Shard::with_granule(memory, limit, hasher.clone(), config, granule_shift)
            .expect("the rules give enough memory");
        shard.delimit_prefixes(rules.delimiter);
        shard.watch_evictions(ROOM_FOR_ALL);
        let usage = shard.usage();
        let mut unused = vec![false; usage.pages_total];
        unused.resize(usage.pages_total + usage.pages_absent, true);
        Self {
            page_bytes: usage.page_bytes as u32,
            unused,
            limit_changes: 0,
            prefix_flushes: 0,
            shard,
            hasher,
            rules,
            model: Model {
                items: HashMap::new(),
                uniques: HashMap::new(),
                last_unique: HashMap::new(),
                now: 1,
                flush_at: None,
                version: 0,
                may_forget: rules.may_forget,
                forgotten: 0,
                hits: 0,
                noted_until: 0,
                chosen: 0,
                won: 0,
                missing: Vec::new(),
            },
            ledger: Ledger::new(ROOM_FOR_ALL),
            loans: Vec::new(),
            operations: 0,
            refused: 0,
        }
    }

    /// What kind of run it is.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Operations done so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Lookups that found what the model had.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.model.hits
    }

    /// Items the model had and the shard did not.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.model.forgotten
    }

    /// Fetches that were told to make an item anew.
    #[must_use]
    pub fn won(&self) -> u64 {
        self.model.won
    }

    /// Times the memory limit was changed.
    #[must_use]
    pub fn limit_changes(&self) -> u64 {
        self.limit_changes
    }

    /// How often a prefix was flushed.
    #[must_use]
    pub fn prefix_flushes(&self) -> u64 {
        self.prefix_flushes
    }

    /// Stores refused for lack of memory.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    fn any_key(&self, source: &mut impl Source) -> Option<Vec<u8>> {
        // Small numbers are drawn more often, so some keys are popular.
        let bound = source.below(self.rules.keys)? + 1;
        let number = source.below(bound)?;
        let mut key = format!("k{number}").into_bytes();
        if self.rules.prefixes && number % 16 > 8 {
            let delimiter = char::from(self.rules.delimiter);
            key = format!("{}{delimiter}{number}", any_prefix(number)).into_bytes();
        }
        let padded = match number % 16 {
            0 => 250,
            1 => 33,
            2 => 16,
            3 if number < 100 => return Some(vec![b'0' + number as u8]),
            _ => 0,
        };
        while key.len() < padded {
            key.push(b'_');
        }
        Some(key)
    }

    fn any_value(&mut self, source: &mut impl Source) -> Option<Vec<u8>> {
        self.model.version += 1;
        if source.below(6)? == 0 {
            return Some(match source.below(10)? {
                0 => u64::MAX.to_string().into_bytes(),
                1 => b"1 2".to_vec(),
                2 => b"-1".to_vec(),
                3 => b"99".to_vec(),
                4 => b"".to_vec(),
                _ => source.below(1000)?.to_string().into_bytes(),
            });
        }
        let len = if self.rules.large_one_in != 0 && source.below(self.rules.large_one_in)? == 0 {
            // Around whole pages the way a value is cut changes.
            match source.below(2)? {
                0 => self.page_bytes * (source.below(3)? + 1) + source.below(600)? - 300,
                _ => source.below(self.rules.item_max_bytes + 100)?,
            }
            .min(self.rules.item_max_bytes + 100)
        } else {
            source.below(self.rules.value_bytes)?
        };
        Some(pattern(self.model.version, len as usize))
    }

    fn any_deadline(&self, source: &mut impl Source) -> Option<Deadline> {
        let now = self.model.now;
        if source.below(4)? < self.rules.lasting_of_four {
            return Some(Deadline::Never);
        }
        if source.below(40)? == 0 {
            return Some(Deadline::At(Seconds(now - source.below(now.min(3))?)));
        }
        let at = (u64::from(now) + any_ttl(source)?).min(u64::from(u32::MAX) - 1);
        Some(Deadline::At(Seconds(at as u32)))
    }

    fn refuse(&mut self, doing: &str) {
        assert!(
            self.rules.may_refuse,
            "{doing} is refused for lack of memory at {}",
            self.model.now
        );
        self.refused += 1;
    }

    /// Does operations until the source runs dry or `count` are done.
    pub fn run(&mut self, source: &mut impl Source, count: u64) {
        for _ in 0..count {
            if self.step(source).is_none() {
                break;
            }
        }
        self.audit();
    }

    /// Does one operation and compares. `None` when the source has run dry.
    pub fn step(&mut self, source: &mut impl Source) -> Option<()> {
        self.operations += 1;
        let choice = source.below(126)?;
        match choice {
            100..108 => self.step_fetch_meta(source)?,
            108..113 => self.step_set_meta(source)?,
            113..117 => self.step_invalidate(source)?,
            117..120 => self.step_inspect(source)?,
            120..124 => self.step_look(source)?,
            124 => self.step_account(source)?,
            125 if source.below(8)? == 0 => self.step_burst(source)?,
            125 => self.step_batch(source)?,
            0..35 => self.step_store(source, choice)?,
            35..40 => self.step_extend(source)?,
            40..62 => self.step_read(source, choice)?,
            62..67 => self.step_lend(source)?,
            67..73 => self.step_delete(source, choice)?,
            73..80 => self.step_arith(source)?,
            80..87 => self.step_touch(source)?,
            _ => self.step_time(source, choice)?,
        }
        // Lookups, loans, looks from outside, and time.
        let only_looks = matches!(choice, 41..57 | 62..67 | 87..100 | 117..125);
        self.check_counters(only_looks);
        let counters = self.totals();
        let forgotten = self.model.forgotten;
        assert!(
            forgotten <= counters.evictions,
            "{forgotten} items are missing, {} were evicted",
            counters.evictions
        );
        if !self.rules.may_forget {
            assert_eq!(
                counters.evictions,
                0,
                "nothing may be evicted: {counters:?} {:?}",
                self.shard.usage()
            );
            assert!(counters.items >= self.model.items.len() as u64);
        }
        if self.operations.is_multiple_of(self.rules.audit_every) {
            self.audit();
        }
        Some(())
    }

    /// Recounts, and compares all loans with what was lent.
    pub fn audit(&self) {
        if let Err(error) = self.shard.audit() {
            panic!("audit after operation {}: {error}", self.operations);
        }
        for (loan, bytes) in &self.loans {
            self.check_loan(loan, bytes);
        }
        if self.rules.grow_times > 1 {
            self.check_unused();
        }
        self.check_totals();
    }

    /// Pages the shard has no use for are as they were left.
    fn check_unused(&self) {
        let memory = self.shard.memory();
        let page_bytes = self.page_bytes as usize;
        for (page, _) in self
            .unused
            .iter()
            .enumerate()
            .filter(|(_, unused)| **unused)
        {
            let bytes = &memory[page * page_bytes..][..page_bytes];
            assert!(
                bytes.iter().all(|&byte| byte == UNUSED),
                "page {page} is touched, though it is not in use"
            );
        }
    }

    /// Gives all loans back and checks that nothing stays lent.
    pub fn end_loans(&mut self) {
        while let Some((loan, bytes)) = self.loans.pop() {
            self.check_loan(&loan, &bytes);
            self.shard.give_back(loan);
        }
        let usage = self.shard.usage();
        assert_eq!((usage.pages_lent, usage.pages_zombie), (0, 0));
        self.audit();
    }

    fn check_loan(&self, loan: &Loan, bytes: &[u8]) {
        assert_eq!(loan.len(), bytes.len());
        let mut done = 0;
        while done < bytes.len() {
            let run = self.shard.loan_bytes(loan, done);
            assert!(!run.is_empty());
            assert!(
                *run == bytes[done..done + run.len()],
                "a loan changed at {done} of {}",
                bytes.len()
            );
            done += run.len();
        }
        for from in [0, bytes.len() / 3, bytes.len()] {
            let pieces: Vec<_> = self.shard.loan_pieces(loan, from).collect();
            assert!(pieces.iter().all(|piece| !piece.is_empty()));
            assert!(
                pieces.concat() == bytes[from..],
                "the pieces of a loan from {from} on are other bytes"
            );
        }
    }
}
