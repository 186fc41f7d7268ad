//! Random operations on a shard beside a reference model: a map with deadlines.
//!
//! Operations are drawn from a [`Source`]: a seeded generator in tests, the input in fuzzing. After each the answers
//! are compared. What the model allows a shard to do depends on [`Rules::may_forget`]: a shard that evicts may miss an
//! item, once for each eviction it counts; it may never return a wrong, foreign, expired or flushed one.
//!
//! Everything here panics with the operation at hand when the shard is wrong.

#[cfg(test)]
mod model;

use std::collections::HashMap;

use crate::{
    ArithOutcome, Arithmetic, CountOutcome, Counted, Counting, Deadline, DeleteOutcome, Eviction,
    Fetch, HASH_SEED_WORDS, Hit, Invalidation, InvalidationOutcome, Key, KeyHasher, Loan, MetaSet,
    NewItem, Seconds, SetMode, SetOutcome, Shard, ShardConfig, TouchOutcome, Unique, Vivify,
};

/// Lookups of one batch at most.
const BATCH_KEYS_MAX: u32 = 20;

/// Where the choices come from.
pub trait Source {
    /// The next choice; `None` when there are no more.
    fn next(&mut self) -> Option<u32>;

    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: u32) -> Option<u32> {
        Some(self.next()? % bound)
    }
}

/// Choices from a seed, without end.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The same seed gives the same choices.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Source for Seeded {
    fn next(&mut self) -> Option<u32> {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some((word >> 32) as u32)
    }
}

/// Choices from bytes: two bytes each while they last.
#[derive(Clone, Debug)]
pub struct FromBytes<'a>(pub &'a [u8]);

impl Source for FromBytes<'_> {
    fn next(&mut self) -> Option<u32> {
        let (two, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        // Spread over all 32 bits, so that large bounds are reached too.
        Some(u32::from(u16::from_le_bytes(*two)).wrapping_mul(0x0001_0001))
    }
}

/// What kind of run it is.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Bytes of memory.
    pub memory_bytes: usize,
    /// The item limit.
    pub item_max_bytes: u32,
    /// What the shard does when full.
    pub eviction: Eviction,
    /// Number of different keys.
    pub keys: u32,
    /// Most values are shorter than this.
    pub value_bytes: u32,
    /// One value in so many is of any length up to the limit; 0 for none.
    pub large_one_in: u32,
    /// Whether items may be missing, as long as evictions account for it.
    pub may_forget: bool,
    /// Whether stores may be refused for lack of memory.
    pub may_refuse: bool,
    /// `audit` after every so many operations.
    pub audit_every: u64,
    /// How many of four items never expire; time empties memory otherwise.
    pub lasting_of_four: u32,
    /// Whether flushes are drawn: they empty everything, so a run that is to fill memory goes without.
    pub flushes: bool,
    /// Whether some keys have prefixes, and flushes of those are drawn.
    pub prefixes: bool,
    /// The shard is given so many times its memory, and its limit is changed now and then; 1 for neither.
    pub grow_times: u32,
    /// Items begin at multiples of `1 << granule_shift` bytes, as in a shard of more than 16 GiB.
    pub granule_shift: u32,
}

impl Rules {
    /// Any kind of small shard. `None` when the source has too few choices left.
    pub fn draw(source: &mut impl Source) -> Option<Self> {
        let policies = [
            Eviction::None,
            Eviction::Merge,
            Eviction::S3Fifo,
            Eviction::Fifo,
        ];
        let eviction = policies[source.below(policies.len() as u32)? as usize];
        let flushes;
        Some(Self {
            memory_bytes: (1 << 20) + source.below(1 << 16)? as usize,
            item_max_bytes: 1024 << source.below(10)?,
            eviction,
            keys: [3, 40, 500, 5000][source.below(4)? as usize],
            value_bytes: [20, 300, 4000][source.below(3)? as usize],
            large_one_in: [0, 2, 20][source.below(3)? as usize],
            may_forget: eviction != Eviction::None,
            may_refuse: true,
            audit_every: 64,
            lasting_of_four: source.below(5)?,
            prefixes: {
                flushes = source.below(4)?;
                flushes < 2
            },
            flushes: flushes.is_multiple_of(2),
            grow_times: source.below(4)? + 1,
            granule_shift: [0, 0, 1, 6][source.below(4)? as usize],
        })
    }
}

#[derive(Clone, Debug)]
struct Expected {
    value: Vec<u8>,
    flags: u32,
    deadline: Deadline,
    /// Grows with every change of a value, over all keys.
    version: u64,
    fetched: bool,
    stale: bool,
    sent: bool,
    /// When it was last fetched, or else written.
    accessed: u32,
    /// Whether the shard must know that.
    noted: bool,
}

/// What a shard should hold.
struct Model {
    items: HashMap<Vec<u8>, Expected>,
    /// Which version a unique of a key was handed out for.
    uniques: HashMap<(Vec<u8>, u64), u64>,
    last_unique: HashMap<Vec<u8>, u64>,
    now: u32,
    flush_at: Option<u32>,
    version: u64,
    may_forget: bool,
    forgotten: u64,
    hits: u64,
    /// Until when new items note when they are fetched.
    noted_until: u32,
    /// Uniques chosen so far.
    chosen: u64,
    /// Fetches that were told to make an item anew.
    won: u64,
}

impl Model {
    /// Moves the clock and drops what time takes away, so that `items` is what is visible.
    fn pass_time(&mut self, now: u32) {
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
    fn forget(&mut self, key: &[u8], doing: &str) {
        assert!(
            self.may_forget,
            "{doing} misses {} at {}",
            key.escape_ascii(),
            self.now
        );
        assert!(self.items.remove(key).is_some());
        self.forgotten += 1;
    }

    fn missed(&mut self, key: &[u8], doing: &str) {
        if self.items.contains_key(key) {
            self.forget(key, doing);
        }
    }

    fn store(&mut self, key: &[u8], value: Vec<u8>, flags: u32, deadline: Deadline, fetched: bool) {
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
    fn fetched(&mut self, key: &[u8]) {
        let now = self.now;
        if let Some(expected) = self.items.get_mut(key) {
            expected.fetched = true;
            expected.accessed = now;
        }
    }

    /// The item of a key counts as used although it is not fetched.
    fn looked_at(&mut self, key: &[u8]) {
        let now = self.now;
        if let Some(expected) = self.items.get_mut(key) {
            expected.accessed = now;
        }
    }

    /// A unique was told for the present value of a key.
    fn told(&mut self, key: &[u8], unique: u64, doing: &str) {
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
    fn choose_unique(&mut self) -> u64 {
        self.chosen += 1;
        1 << 63 | self.chosen
    }

    /// Compares a lookup with what should be there.
    fn check_hit(&mut self, key: &[u8], wanted: Unique, hit: Option<Hit<'_>>, doing: &str) {
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

/// Numbers in values, read digit by digit as memcached does; a second reading, independent of the shard's.
fn model_number(value: &[u8]) -> Option<u64> {
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
        let shard = Shard::with_granule(memory, limit, hasher.clone(), config, granule_shift)
            .expect("the rules give enough memory");
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
            },
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
            key = format!("{}:{number}", any_prefix(number)).into_bytes();
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
        let choice = source.below(120)?;
        match choice {
            100..108 => self.step_fetch_meta(source)?,
            108..113 => self.step_set_meta(source)?,
            113..117 => self.step_invalidate(source)?,
            117..120 => self.step_inspect(source)?,
            0..35 => self.step_store(source, choice)?,
            35..40 => self.step_extend(source)?,
            40..62 => self.step_read(source, choice)?,
            62..67 => self.step_lend(source)?,
            67..73 => self.step_delete(source, choice)?,
            73..80 => self.step_arith(source)?,
            80..87 => self.step_touch(source)?,
            _ => self.step_time(source, choice)?,
        }
        let counters = *self.shard.counters();
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
    }

    fn step_store(&mut self, source: &mut impl Source, choice: u32) -> Option<()> {
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

    fn step_extend(&mut self, source: &mut impl Source) -> Option<()> {
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
    fn step_batch(&mut self, source: &mut impl Source) -> Option<()> {
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

    fn step_unique(&mut self, source: &mut impl Source) -> Option<()> {
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

    fn step_read(&mut self, source: &mut impl Source, choice: u32) -> Option<()> {
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
            self.model
                .check_hit(&key_bytes, wanted, self.shard.get(key, now, wanted), "get");
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

    fn step_lend(&mut self, source: &mut impl Source) -> Option<()> {
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

    fn step_delete(&mut self, source: &mut impl Source, choice: u32) -> Option<()> {
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

    fn step_arith(&mut self, source: &mut impl Source) -> Option<()> {
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

    /// Takes note of what a count tells of the unique, and whether anything is left.
    fn end_counting(&mut self, key: &[u8], how: &Counting, counted: &Counted, deadline: Deadline) {
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
    fn any_unique(&self, source: &mut impl Source, key: &[u8]) -> Option<u64> {
        let last = self.model.last_unique.get(key).copied();
        Some(if source.below(4)? == 0 {
            u64::MAX
        } else {
            last.unwrap_or(u64::MAX)
        })
    }

    fn step_fetch_meta(&mut self, source: &mut impl Source) -> Option<()> {
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

    fn step_set_meta(&mut self, source: &mut impl Source) -> Option<()> {
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

    fn step_invalidate(&mut self, source: &mut impl Source) -> Option<()> {
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

    fn step_inspect(&mut self, source: &mut impl Source) -> Option<()> {
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

    fn step_touch(&mut self, source: &mut impl Source) -> Option<()> {
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

    /// Changes the memory limit now and then, and lets some pages come and go.
    fn step_limit(&mut self, source: &mut impl Source) -> Option<()> {
        if source.below(30)? == 0 {
            let limits = self.shard.memory_limits();
            let (least, most) = (*limits.start(), *limits.end());
            let bytes = match source.below(8)? {
                0 => least,
                1 => most,
                2 => most + 1,
                3 => least - 1,
                _ => least + source.below((most - least) as u32 + 1)? as usize,
            };
            let before = self.shard.memory_limit();
            let set = self.shard.set_memory_limit(bytes);
            assert_eq!(set.is_ok(), limits.contains(&bytes), "{set:?}");
            let now = self.shard.memory_limit();
            match set {
                Ok(()) => assert!(now <= bytes && bytes - now < self.page_bytes as usize),
                Err(_) => assert_eq!(now, before),
            }
            self.limit_changes += 1;
            self.audit();
        }
        let page_bytes = self.page_bytes as usize;
        let unused = &mut self.unused;
        for _ in 0..source.below(6)? {
            let admitted = self.shard.admit_page(|memory, range| {
                assert!(range.start.is_multiple_of(page_bytes) && range.len() == page_bytes);
                let page = range.start / page_bytes;
                assert!(unused[page], "page {page} comes into use twice");
                unused[page] = false;
                assert!(memory[range].iter().all(|&byte| byte == UNUSED));
            });
            let usage = self.shard.usage();
            let present_bytes = usage.pages_total * page_bytes;
            let limit = self.shard.memory_limit();
            assert!(present_bytes <= limit || !admitted);
            assert!(present_bytes >= limit || admitted);
        }
        for _ in 0..source.below(6)? {
            self.shard.discard_page(|memory, range| {
                assert!(range.start.is_multiple_of(page_bytes) && range.len() == page_bytes);
                let page = range.start / page_bytes;
                assert!(!unused[page], "page {page} leaves use twice");
                unused[page] = true;
                memory[range].fill(UNUSED);
            });
        }
        Some(())
    }

    fn step_time(&mut self, source: &mut impl Source, choice: u32) -> Option<()> {
        let now = self.model.now;
        match choice {
            87..95 => {
                if self.rules.grow_times > 1 {
                    self.step_limit(source)?;
                }
                let budget = if source.below(4)? == 0 {
                    source.below(2000)?
                } else {
                    source.below(20)?
                };
                self.shard.upkeep(Seconds(now), budget);
            }
            95 if self.rules.flushes && source.below(8)? == 0 => {
                let at = if source.below(2)? == 0 {
                    now
                } else {
                    now + source.below(30)?
                };
                self.shard.flush(Seconds(at), Seconds(now));
                self.model.flush_at = Some(at);
                self.model.pass_time(now);
            }
            96 if self.rules.prefixes => {
                let prefix = any_prefix(source.next()?);
                let hash = self.hasher.hash(prefix.as_bytes());
                assert_eq!(self.shard.flush_prefix(hash, Seconds(now)), Ok(()));
                let start = format!("{prefix}:").into_bytes();
                self.model.items.retain(|key, _| !key.starts_with(&start));
                self.prefix_flushes += 1;
            }
            _ => {
                // Far jumps take a share of the time left, so that time does not run out.
                let far = u64::from((1u32 << 31).saturating_sub(now)) / 16;
                let step = if source.below(30)? == 0 {
                    any_ttl(source)?.min(far)
                } else {
                    u64::from(source.below(3)?)
                };
                self.model.pass_time(now + step as u32);
            }
        }
        Some(())
    }
}
