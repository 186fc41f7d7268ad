//! What is asked: keys, values, lives and the mix of verbs, all of it computed from a seed.
//!
//! - [`keys`]: numbers and their texts. [`pattern`]: which comes next.
//! - [`spread`]: sizes and lives. [`values`]: bytes that can be checked.
//! - [`preset`]: workloads with a name. [`trace`]: a recorded one.
//!
//! Always true: two [`Requests`] built from the same arguments yield the same requests in the
//! same order, whatever the server answers and however fast it does. What a request leads to by
//! its answer (the write after a miss, the cas after its read) is the connection's to ask, in the
//! order of those answers.

use std::collections::VecDeque;
use std::sync::Arc;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

pub mod keys;
pub mod pattern;
pub mod preset;
pub mod spread;
pub mod trace;
pub mod values;

use crate::kind::Kind;
use crate::placement::Placement;
use pattern::{Picker, below};
use spread::{LIFE_SALT, SIZE_SALT};

pub use keys::KeySpace;
pub use pattern::{Pattern, share};
pub use spread::{Amount, Spread};
pub use trace::Trace;
pub use values::mix;

/// Where keys that are asked for only once begin, counted from the last key of the range; each
/// stream has this many of them to itself before it repeats.
const FRESH_PER_STREAM: u64 = 1 << 32;

/// Most streams of fresh keys: their indices stay below 2^48 and so below 16 digits.
const FRESH_STREAMS: u64 = 1 << 15;

/// Digits of the index of a fresh key, at most.
pub const FRESH_DIGITS: usize = 16;

/// One verb of a weighted mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighted {
    /// What is asked.
    pub kind: Kind,
    /// Keys on it; above one for retrievals only.
    pub key_count: u32,
    /// Its share among the weights of the mix.
    pub weight: u32,
}

/// Which verb comes when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mix {
    /// memtier's cycle: so many sets, then so many keys read.
    Ratio {
        /// Writes in each cycle; they come first.
        sets: u32,
        /// Keys read in each cycle.
        gets: u32,
        /// Keys on one retrieval line, at least one.
        keys_per_get: u32,
    },
    /// Each drawn by its weight.
    Weights(Arc<[Weighted]>),
    /// As recorded.
    Recorded(Arc<Trace>),
}

impl Mix {
    /// Keys on the longest retrieval line.
    pub fn keys_per_get(&self) -> u32 {
        match self {
            Mix::Ratio {
                gets, keys_per_get, ..
            } => (*keys_per_get).min(*gets).max(1),
            Mix::Weights(list) => list.iter().map(|one| one.key_count).max().unwrap_or(1),
            Mix::Recorded(_) => 1,
        }
    }

    /// Whether requests of this kind can occur.
    pub fn has(&self, kind: Kind) -> bool {
        match self {
            Mix::Ratio { sets, gets, .. } => match kind {
                Kind::Set => *sets > 0,
                Kind::Get => *gets > 0,
                _ => false,
            },
            Mix::Weights(list) => list.iter().any(|one| {
                one.weight > 0
                    && (one.kind == kind
                        // A cas begins with a read, and a counter with an add.
                        || (one.kind == Kind::Cas && kind == Kind::Get)
                        || (one.kind == Kind::Incr && kind == Kind::Add))
            }),
            Mix::Recorded(_) => true,
        }
    }
}

/// Everything that decides which requests are made, except the seed.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The keys.
    pub keys: KeySpace,
    /// Which keys are written, removed and counted.
    pub set_pattern: Pattern,
    /// Which keys are read and touched.
    pub get_pattern: Pattern,
    /// Which verb comes when.
    pub mix: Mix,
    /// Bytes of values.
    pub sizes: Amount,
    /// The exptime of writes and touches; 0 never expires.
    pub lives: Amount,
    /// Share of requests that go to a key nobody has asked for before or will again.
    pub fresh_share: f64,
    /// Whether a miss of a single key is followed by a write of it.
    pub set_on_miss: bool,
}

impl Workload {
    /// Whether requests of this kind can occur.
    pub fn occurs(&self, kind: Kind) -> bool {
        self.mix.has(kind) || (self.set_on_miss && kind == Kind::Set)
    }

    /// The largest value.
    pub fn value_bytes_max(&self) -> usize {
        let of_trace = match &self.mix {
            Mix::Recorded(trace) => trace.value_bytes_max(),
            _ => 0,
        };
        self.sizes.most().max(of_trace) as usize
    }
}

/// One request. Further keys of a retrieval are drawn from the stream it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What is asked.
    pub kind: Kind,
    /// Keys on it.
    pub key_count: u32,
    /// The first of them.
    pub key: u64,
    /// Of the value, for writes.
    pub version: u64,
    /// Of the value.
    pub value_bytes: u32,
    /// For writes and touches.
    pub exptime: u32,
}

impl Ask {
    const NOTHING: Self = Self {
        kind: Kind::Get,
        key_count: 0,
        key: 0,
        version: 0,
        value_bytes: 0,
        exptime: 0,
    };
}

/// Where a stream stands in its mix.
enum Turn {
    Ratio {
        sets: u32,
        gets: u32,
        keys_per_get: u32,
        sets_done: u32,
        gets_done: u32,
    },
    Weights {
        list: Arc<[Weighted]>,
        sum: u64,
    },
    Recorded {
        trace: Arc<Trace>,
        stream: usize,
        next: usize,
    },
}

/// The stream of requests of one connection (closed loop) or of one thread (open loop).
pub struct Requests {
    random: Xoshiro256PlusPlus,
    sets: Picker,
    gets: Picker,
    turn: Turn,
    sizes: Amount,
    lives: Amount,
    version: u64,
    set_on_miss: bool,
    /// As a share of 2^64; 0 draws nothing.
    fresh_below: u64,
    fresh_next: u64,
    /// Where keys of one retrieval belong to several servers.
    parts: Option<Box<Parts>>,
}

/// A retrieval of many keys on its way to several servers: each is asked for those it has, in a
/// request of its own.
struct Parts {
    placement: Arc<Placement>,
    keys: KeySpace,
    /// The retrieval that is being divided.
    whole: Ask,
    /// Keys by server.
    of_server: Vec<Vec<u64>>,
    /// The server whose part comes next.
    next: usize,
    /// Keys of the newest part after its first.
    rest: VecDeque<u64>,
}

impl Requests {
    /// The stream with number `stream` of `stream_count`. Streams with different `seed`s draw
    /// different keys; the number decides what a parallel pattern walks and which versions are
    /// written.
    pub fn new(workload: &Workload, seed: u64, stream: u64, stream_count: u64) -> Self {
        let turn = match &workload.mix {
            &Mix::Ratio {
                sets,
                gets,
                keys_per_get,
            } => {
                assert!(sets + gets > 0, "a mix of nothing");
                assert!(keys_per_get > 0, "a get of no keys");
                Turn::Ratio {
                    sets,
                    gets,
                    keys_per_get,
                    sets_done: 0,
                    gets_done: 0,
                }
            }
            Mix::Weights(list) => {
                let sum = list.iter().map(|one| u64::from(one.weight)).sum();
                assert!(sum > 0, "a mix of nothing");
                Turn::Weights {
                    list: Arc::clone(list),
                    sum,
                }
            }
            Mix::Recorded(trace) => Turn::Recorded {
                trace: Arc::clone(trace),
                stream: trace.stream(stream, stream_count),
                next: 0,
            },
        };
        Self {
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            sets: Picker::new(workload.set_pattern, &workload.keys, stream, stream_count),
            gets: Picker::new(workload.get_pattern, &workload.keys, stream, stream_count),
            turn,
            sizes: workload.sizes.clone(),
            lives: workload.lives.clone(),
            version: (stream + 1) << 40,
            set_on_miss: workload.set_on_miss,
            fresh_below: (workload.fresh_share * u64::MAX as f64) as u64,
            fresh_next: workload.keys.maximum() + 1 + stream % FRESH_STREAMS * FRESH_PER_STREAM,
            parts: None,
        }
    }

    /// The same stream for the servers of `placement`: a retrieval of keys that belong to several of
    /// them becomes as many requests.
    pub fn parted(mut self, workload: &Workload, placement: &Arc<Placement>) -> Self {
        let keys_per_get = workload.mix.keys_per_get() as usize;
        if keys_per_get > 1 {
            self.parts = Some(Box::new(Parts {
                placement: Arc::clone(placement),
                keys: workload.keys.clone(),
                whole: Ask::NOTHING,
                of_server: (0..placement.server_count())
                    .map(|_| Vec::with_capacity(keys_per_get))
                    .collect(),
                next: usize::MAX,
                rest: VecDeque::with_capacity(keys_per_get),
            }));
        }
        self
    }

    /// The stream that writes keys `first..=last` once, in order.
    pub fn fill(workload: &Workload, first: u64, last: u64, stream: u64) -> Self {
        let writes = Workload {
            mix: Mix::Ratio {
                sets: 1,
                gets: 0,
                keys_per_get: 1,
            },
            fresh_share: 0.0,
            ..workload.clone()
        };
        let mut fill = Self::new(&writes, stream, stream, stream + 1);
        fill.sets = Picker::walk(first, last);
        // Versions of a fill lie below those of every run.
        fill.version = stream;
        fill
    }

    /// Requests left; all but a recorded stream are endless.
    pub fn left(&self) -> u64 {
        match &self.turn {
            Turn::Recorded {
                trace,
                stream,
                next,
            } => (trace.part(*stream).len() - next) as u64,
            _ => u64::MAX,
        }
    }

    /// What comes next. Panics when nothing is left.
    #[inline]
    pub fn next_ask(&mut self) -> Ask {
        match self.parts.take() {
            None => self.draw(),
            Some(mut parts) => {
                let ask = self.next_part(&mut parts);
                self.parts = Some(parts);
                ask
            }
        }
    }

    fn next_part(&mut self, parts: &mut Parts) -> Ask {
        parts.rest.clear();
        loop {
            while let Some(of_server) = parts.of_server.get_mut(parts.next) {
                parts.next += 1;
                let Some((&key, rest)) = of_server.split_first() else {
                    continue;
                };
                let mut ask = Ask {
                    key,
                    key_count: 1 + rest.len() as u32,
                    ..parts.whole
                };
                parts.rest.extend(rest);
                of_server.clear();
                self.write_beside(&mut ask);
                return ask;
            }
            let ask = self.draw();
            if ask.key_count == 1 {
                return ask;
            }
            parts.whole = ask;
            parts.next = 0;
            for index in 0..ask.key_count {
                let key = if index == 0 { ask.key } else { self.read_key() };
                let server = parts.placement.server_of(parts.keys.key(key).as_ref());
                parts.of_server[server].push(key);
            }
        }
    }

    #[inline]
    fn draw(&mut self) -> Ask {
        let (kind, key_count) = match &mut self.turn {
            Turn::Ratio {
                sets,
                gets,
                keys_per_get,
                sets_done,
                gets_done,
            } => {
                if sets_done == sets && gets_done == gets {
                    *sets_done = 0;
                    *gets_done = 0;
                }
                if sets_done < sets {
                    *sets_done += 1;
                    (Kind::Set, 1)
                } else {
                    let key_count = (*keys_per_get).min(*gets - *gets_done);
                    *gets_done += key_count;
                    (Kind::Get, key_count)
                }
            }
            Turn::Weights { list, sum } => {
                let mut point = below(&mut self.random, *sum);
                let mut chosen = list[0];
                for one in list.iter() {
                    chosen = *one;
                    if point < u64::from(one.weight) {
                        break;
                    }
                    point -= u64::from(one.weight);
                }
                (chosen.kind, chosen.key_count)
            }
            Turn::Recorded {
                trace,
                stream,
                next,
            } => {
                let record = trace.record(*stream, *next);
                *next += 1;
                self.version += 1;
                return Ask {
                    kind: record.kind,
                    key_count: 1,
                    key: u64::from(record.key),
                    version: self.version,
                    value_bytes: record.value_bytes,
                    exptime: record.exptime,
                };
            }
        };
        let reads = matches!(kind, Kind::Get | Kind::Gat | Kind::Touch);
        let key = if reads {
            self.read_key()
        } else {
            self.set_key()
        };
        let mut ask = Ask {
            kind,
            key_count,
            key,
            version: 0,
            value_bytes: 0,
            exptime: 0,
        };
        self.write_beside(&mut ask);
        ask
    }

    /// Draws what a request writes, or would write after a miss.
    #[inline]
    fn write_beside(&mut self, ask: &mut Ask) {
        if self.set_on_miss || !matches!(ask.kind, Kind::Get | Kind::Delete) {
            self.version += 1;
            ask.version = self.version;
            ask.value_bytes = self.sizes.draw(ask.key, SIZE_SALT, &mut self.random);
            ask.exptime = self.lives.draw(ask.key, LIFE_SALT, &mut self.random);
        }
    }

    /// Index of the next key to read, after the first, of the retrieval that came last.
    #[inline]
    pub fn get_key(&mut self) -> u64 {
        match self.parts.as_mut().and_then(|parts| parts.rest.pop_front()) {
            Some(key) => key,
            None => self.read_key(),
        }
    }

    #[inline]
    fn read_key(&mut self) -> u64 {
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        let written = self.sets.position();
        self.gets.pick(&mut self.random, written)
    }

    #[inline]
    fn set_key(&mut self) -> u64 {
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        self.sets.pick(&mut self.random, 0)
    }

    #[inline]
    fn fresh(&mut self) -> Option<u64> {
        if self.fresh_below == 0 || self.random.next_u64() >= self.fresh_below {
            return None;
        }
        let fresh = self.fresh_next;
        self.fresh_next += 1;
        Some(fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(set_pattern: Pattern, get_pattern: Pattern) -> Workload {
        Workload {
            keys: KeySpace::new("k", 1, 1000),
            set_pattern,
            get_pattern,
            mix: Mix::Ratio {
                sets: 1,
                gets: 10,
                keys_per_get: 1,
            },
            sizes: Amount::Fixed(32),
            lives: Amount::Fixed(0),
            fresh_share: 0.0,
            set_on_miss: false,
        }
    }

    fn keys(requests: &mut Requests, count: usize) -> Vec<u64> {
        (0..count).map(|_| requests.get_key()).collect()
    }

    fn asks(workload: &Workload, seed: u64, count: usize) -> Vec<Ask> {
        let mut requests = Requests::new(workload, seed, 0, 1);
        (0..count).map(|_| requests.next_ask()).collect()
    }

    fn weights(list: &[(Kind, u32)]) -> Mix {
        Mix::Weights(
            list.iter()
                .map(|&(kind, weight)| Weighted {
                    kind,
                    key_count: 1,
                    weight,
                })
                .collect(),
        )
    }

    #[test]
    fn same_seed_draws_the_same_keys_and_another_seed_others() {
        for pattern in [
            Pattern::Uniform,
            Pattern::Zipf { exponent: 0.99 },
            Pattern::Gauss {
                median: 500.0,
                deviation: 100.0,
            },
        ] {
            let workload = workload(pattern, pattern);
            let once = keys(&mut Requests::new(&workload, 7, 0, 1), 100);
            assert_eq!(once, keys(&mut Requests::new(&workload, 7, 0, 1), 100));
            assert_ne!(once, keys(&mut Requests::new(&workload, 8, 0, 1), 100));
        }
    }

    #[test]
    fn keys_stay_inside_the_range_and_reach_its_ends() {
        for pattern in [
            Pattern::Uniform,
            Pattern::Zipf { exponent: 0.5 },
            Pattern::Gauss {
                median: 500.0,
                deviation: 400.0,
            },
            Pattern::Sequential,
            Pattern::Parallel,
        ] {
            let workload = workload(pattern, pattern);
            let drawn = keys(&mut Requests::new(&workload, 1, 0, 1), 100_000);
            assert_eq!(drawn.iter().min(), Some(&1), "{pattern:?}");
            assert_eq!(drawn.iter().max(), Some(&1000), "{pattern:?}");
        }
    }

    #[test]
    fn zipf_follows_its_exponent() {
        let workload = workload(Pattern::Uniform, Pattern::Zipf { exponent: 1.0 });
        let drawn = keys(&mut Requests::new(&workload, 1, 0, 1), 200_000);
        let count = |key| drawn.iter().filter(|&&drawn| drawn == key).count() as f64;
        // With exponent 1 the first key is chosen 1/H(1000) = 13.36 % of the time.
        assert!((count(1) / 200_000.0 - 0.1336).abs() < 0.003);
        assert!((count(1) / count(10) - 10.0).abs() < 0.7);
    }

    #[test]
    fn a_scrambled_zipf_has_the_same_popularities_elsewhere() {
        let pattern = Pattern::Scrambled { exponent: 1.0 };
        let workload = workload(Pattern::Uniform, pattern);
        let drawn = keys(&mut Requests::new(&workload, 1, 0, 1), 200_000);
        let mut counts = vec![0; 1001];
        for key in drawn {
            counts[key as usize] += 1;
        }
        let (top, _) = counts
            .iter()
            .enumerate()
            .max_by_key(|(_, count)| **count)
            .unwrap();
        assert_ne!(top, 1);
        assert!((f64::from(counts[top]) / 200_000.0 - 0.1336).abs() < 0.003);
    }

    #[test]
    fn reads_of_the_latest_follow_the_writes() {
        let mut workload = workload(Pattern::Parallel, Pattern::Latest { exponent: 0.99 });
        workload.mix = weights(&[(Kind::Set, 1), (Kind::Get, 9)]);
        let mut requests = Requests::new(&workload, 1, 1, 2);
        let mut newest = 1000;
        let mut newest_read = 0;
        for _ in 0..10_000 {
            let ask = requests.next_ask();
            assert!((501..=1000).contains(&ask.key), "{ask:?}");
            if ask.kind == Kind::Set {
                newest = ask.key;
            } else {
                newest_read += u32::from(ask.key == newest);
            }
        }
        // The first rank of Zipf 0.99 over 500 keys is drawn 14.3 % of the time.
        assert!((1150..1450).contains(&newest_read), "{newest_read}");
    }

    #[test]
    fn mix_of_one_to_three_by_pairs_keeps_its_ratio() {
        let mut workload = workload(Pattern::Uniform, Pattern::Uniform);
        workload.mix = Mix::Ratio {
            sets: 1,
            gets: 3,
            keys_per_get: 2,
        };
        let kinds: Vec<(Kind, u32)> = asks(&workload, 1, 6)
            .iter()
            .map(|ask| (ask.kind, ask.key_count))
            .collect();
        let cycle = [(Kind::Set, 1), (Kind::Get, 2), (Kind::Get, 1)];
        assert_eq!(kinds, [cycle, cycle].concat());
    }

    #[test]
    fn a_parted_retrieval_asks_each_server_for_the_keys_it_has() {
        use crate::placement::Distribution;
        use crate::transport::Address;
        let addresses = [1, 2, 3].map(|port| Address::Tcp("a".into(), port));
        let placement = Arc::new(Placement::new(Distribution::Ketama, &addresses));
        let mut workload = workload(Pattern::Uniform, Pattern::Uniform);
        workload.mix = Mix::Ratio {
            sets: 1,
            gets: 20,
            keys_per_get: 10,
        };
        let mut whole = Requests::new(&workload, 1, 0, 1);
        let mut parted = Requests::new(&workload, 1, 0, 1).parted(&workload, &placement);
        let mut part_count = 0;
        for _ in 0..300 {
            let ask = whole.next_ask();
            let mut left: Vec<u64> = (0..ask.key_count)
                .map(|index| if index == 0 { ask.key } else { whole.get_key() })
                .collect();
            while !left.is_empty() {
                let part = parted.next_ask();
                assert_eq!(part.kind, ask.kind);
                let server = |key| placement.server_of(workload.keys.key(key).as_ref());
                for index in 0..part.key_count {
                    let key = if index == 0 {
                        part.key
                    } else {
                        parted.get_key()
                    };
                    assert_eq!(server(key), server(part.key));
                    let at = left.iter().position(|&other| other == key);
                    left.swap_remove(at.expect("a key of the whole"));
                }
                part_count += 1;
            }
        }
        // All but a few retrievals of ten keys need all three servers.
        assert!((650..=700).contains(&part_count), "{part_count}");
    }

    #[test]
    fn weights_keep_their_shares_and_their_order_by_the_seed() {
        let mut workload = workload(Pattern::Uniform, Pattern::Uniform);
        workload.mix = weights(&[(Kind::Get, 70), (Kind::Delete, 20), (Kind::Touch, 10)]);
        let drawn = asks(&workload, 5, 100_000);
        assert_eq!(drawn, asks(&workload, 5, 100_000));
        assert_ne!(drawn, asks(&workload, 6, 100_000));
        for (kind, share) in [(Kind::Get, 0.7), (Kind::Delete, 0.2), (Kind::Touch, 0.1)] {
            let count = drawn.iter().filter(|ask| ask.kind == kind).count();
            assert!(
                (count as f64 / 1e5 - share).abs() < 0.006,
                "{kind:?} {count}"
            );
        }
    }

    #[test]
    fn fresh_keys_are_new_each_time_and_on_each_stream() {
        let mut workload = workload(Pattern::Uniform, Pattern::Uniform);
        workload.fresh_share = 0.25;
        let mut fresh = Vec::new();
        for stream in 0..4 {
            let mut requests = Requests::new(&workload, 3, stream, 4);
            let drawn = keys(&mut requests, 10_000);
            fresh.extend(drawn.into_iter().filter(|&key| key > 1000));
        }
        assert!((9_500..10_500).contains(&fresh.len()), "{}", fresh.len());
        let count = fresh.len();
        fresh.sort_unstable();
        fresh.dedup();
        assert_eq!(fresh.len(), count);
        assert!(fresh[count - 1].to_string().len() <= FRESH_DIGITS);
    }
}
