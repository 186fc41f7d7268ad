//! What is asked: keys, values, the mix of verbs, all of it computed from a seed.
//!
//! Always true: two [`Requests`] built from the same arguments yield the same requests in the
//! same order, whatever the server answers and however fast it does; and a value is a function of
//! its key, its length and a version stored inside it, so that any hit can be checked without
//! remembering what was written.
//!
//! Layout of a value of [`VERSIONED_BYTES`] or more:
//!
//! ```text
//! 0          8                                   length
//! | version ^ hash(key, length) | slice of the tape |
//! ```
//!
//! The slice begins at an offset drawn from key, length and version. A shorter value has no room
//! for a version and is a slice of the tape alone.

use rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, Normal, Zipf};
use rand_xoshiro::Xoshiro256PlusPlus;
use strata_protocol::KEY_MAX_BYTES;

/// Values at least this long carry a version in their first eight bytes.
pub const VERSIONED_BYTES: usize = 16;

/// How many different slices the tape offers to values of one length. Small enough to stay in a
/// core's own cache, large enough that a foreign value passes once in 65 536 times.
const TAPE_OFFSETS: usize = 1 << 16;

/// The keys of a run: a prefix followed by a decimal index between two bounds, both included.
#[derive(Clone, Debug)]
pub struct KeySpace {
    prefix: Box<str>,
    minimum: u64,
    maximum: u64,
}

impl KeySpace {
    /// Keys `{prefix}{minimum}` to `{prefix}{maximum}`. Panics when the range is empty or a key
    /// would be longer than [`KEY_MAX_BYTES`].
    pub fn new(prefix: &str, minimum: u64, maximum: u64) -> Self {
        assert!(minimum <= maximum, "keys {minimum}..={maximum}");
        let space = Self {
            prefix: prefix.into(),
            minimum,
            maximum,
        };
        let longest = space.key_bytes_max();
        assert!(longest <= KEY_MAX_BYTES, "keys of {longest} bytes");
        space
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.maximum - self.minimum + 1
    }

    /// What every key begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The smallest index.
    pub fn minimum(&self) -> u64 {
        self.minimum
    }

    /// The largest index.
    pub fn maximum(&self) -> u64 {
        self.maximum
    }

    /// Bytes of the longest key.
    pub fn key_bytes_max(&self) -> usize {
        self.prefix.len() + itoa::Buffer::new().format(self.maximum).len()
    }

    /// The key of `index`.
    #[inline]
    pub fn key(&self, index: u64) -> Key {
        let mut number = itoa::Buffer::new();
        let digits = number.format(index).as_bytes();
        let (prefix_bytes, length) = (self.prefix.len(), self.prefix.len() + digits.len());
        let mut bytes = [0; KEY_MAX_BYTES];
        bytes[..prefix_bytes].copy_from_slice(self.prefix.as_bytes());
        bytes[prefix_bytes..length].copy_from_slice(digits);
        Key {
            bytes,
            length: length as u8,
        }
    }
}

/// The text of one key.
#[derive(Clone, Copy)]
pub struct Key {
    bytes: [u8; KEY_MAX_BYTES],
    length: u8,
}

const _: () = assert!(KEY_MAX_BYTES <= u8::MAX as usize);

impl AsRef<[u8]> for Key {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// How keys are chosen, with memtier's letters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// `R`: each key equally likely.
    Uniform,
    /// `G`: a normal distribution over the indices; draws outside the range are drawn again.
    Gauss {
        /// The most likely index.
        median: f64,
        /// In indices.
        deviation: f64,
    },
    /// `S`: each connection walks the whole range in order.
    Sequential,
    /// `P`: the range is divided among the connections, each walks its part in order.
    Parallel,
    /// `Z`: the n-th key of the range is chosen with a probability proportional to n^-exponent.
    Zipf {
        /// Above 0 and below 5.
        exponent: f64,
    },
}

enum Picker {
    Uniform {
        minimum: u64,
        count: u64,
    },
    Gauss {
        normal: Normal<f64>,
        minimum: f64,
        maximum: f64,
    },
    Walk {
        minimum: u64,
        maximum: u64,
        next: u64,
    },
    Zipf {
        zipf: Zipf<f64>,
        minimum: u64,
    },
}

impl Picker {
    fn new(pattern: Pattern, space: &KeySpace, connection: u64, connection_count: u64) -> Self {
        match pattern {
            Pattern::Uniform => Picker::Uniform {
                minimum: space.minimum,
                count: space.count(),
            },
            Pattern::Gauss { median, deviation } => Picker::Gauss {
                normal: Normal::new(median, deviation).expect("the deviation was checked"),
                minimum: space.minimum as f64,
                maximum: space.maximum as f64,
            },
            Pattern::Sequential => Picker::walk(space.minimum, space.maximum),
            Pattern::Parallel => {
                let (minimum, maximum) = share(space, connection, connection_count)
                    // More connections than keys: the surplus walks the whole range.
                    .unwrap_or((space.minimum, space.maximum));
                Picker::walk(minimum, maximum)
            }
            Pattern::Zipf { exponent } => Picker::Zipf {
                zipf: Zipf::new(space.count() as f64, exponent).expect("the exponent was checked"),
                minimum: space.minimum,
            },
        }
    }

    fn walk(minimum: u64, maximum: u64) -> Self {
        Picker::Walk {
            minimum,
            maximum,
            next: minimum,
        }
    }

    #[inline]
    fn pick(&mut self, random: &mut Xoshiro256PlusPlus) -> u64 {
        match self {
            Picker::Uniform { minimum, count } => *minimum + below(random, *count),
            Picker::Walk {
                minimum,
                maximum,
                next,
            } => {
                let index = *next;
                *next = if index == *maximum {
                    *minimum
                } else {
                    index + 1
                };
                index
            }
            Picker::Zipf { zipf, minimum } => *minimum + zipf.sample(random) as u64 - 1,
            Picker::Gauss {
                normal,
                minimum,
                maximum,
            } => loop {
                let index = normal.sample(random).round();
                if index >= *minimum && index <= *maximum {
                    return index as u64;
                }
            },
        }
    }
}

/// The part of the range that connection `connection` of `connection_count` walks alone: first
/// and last index, or `None` when there are more connections than keys and this one gets none.
pub fn share(space: &KeySpace, connection: u64, connection_count: u64) -> Option<(u64, u64)> {
    let cut =
        |n: u64| (u128::from(space.count()) * u128::from(n) / u128::from(connection_count)) as u64;
    let (first, end) = (cut(connection), cut(connection + 1));
    (first < end).then(|| (space.minimum + first, space.minimum + end - 1))
}

/// A number below `bound`, uniformly: the high half of a 128-bit product. The bias, at most
/// `bound / 2^64`, is far below what any run can see.
#[inline]
fn below(random: &mut Xoshiro256PlusPlus, bound: u64) -> u64 {
    ((u128::from(random.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// Everything that decides which requests are made, except the seed.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The keys.
    pub keys: KeySpace,
    /// Which keys are written.
    pub set_pattern: Pattern,
    /// Which keys are read.
    pub get_pattern: Pattern,
    /// Writes in each cycle of the mix; they come first, as memtier does it.
    pub set_share: u32,
    /// Keys read in each cycle of the mix.
    pub get_share: u32,
    /// Keys on one retrieval line, at least one.
    pub keys_per_get: u32,
    /// Bytes of every value.
    pub value_bytes: usize,
    /// The exptime of writes is drawn from this range, both ends included; `(0, 0)` never expires.
    pub exptime: (u32, u32),
}

/// The next request of a stream; its keys are then drawn from the stream it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Read this many keys, each from [`Requests::get_key`].
    Get {
        /// At least one.
        key_count: u32,
    },
    /// Write one key from [`Requests::set_key`].
    Set,
}

/// The stream of requests of one connection (closed loop) or of one thread (open loop).
pub struct Requests {
    random: Xoshiro256PlusPlus,
    sets: Picker,
    gets: Picker,
    set_share: u32,
    get_share: u32,
    keys_per_get: u32,
    sets_done: u32,
    gets_done: u32,
    version: u64,
    exptime: (u32, u32),
}

impl Requests {
    /// The stream with number `stream` of `stream_count`. Streams with different `seed`s draw
    /// different keys; the number decides what a parallel pattern walks and which versions are
    /// written.
    pub fn new(workload: &Workload, seed: u64, stream: u64, stream_count: u64) -> Self {
        assert!(
            workload.set_share + workload.get_share > 0,
            "a mix of nothing"
        );
        assert!(workload.keys_per_get > 0, "a get of no keys");
        Self {
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            sets: Picker::new(workload.set_pattern, &workload.keys, stream, stream_count),
            gets: Picker::new(workload.get_pattern, &workload.keys, stream, stream_count),
            set_share: workload.set_share,
            get_share: workload.get_share,
            keys_per_get: workload.keys_per_get,
            sets_done: 0,
            gets_done: 0,
            version: (stream + 1) << 40,
            exptime: workload.exptime,
        }
    }

    /// The stream that writes keys `first..=last` once, in order.
    pub fn fill(workload: &Workload, first: u64, last: u64, stream: u64) -> Self {
        let mut fill = Self::new(workload, stream, stream, stream + 1);
        fill.sets = Picker::walk(first, last);
        fill.set_share = 1;
        fill.get_share = 0;
        // Versions of a fill lie below those of every run.
        fill.version = stream;
        fill
    }

    /// What comes next.
    #[inline]
    pub fn next_verb(&mut self) -> Verb {
        if self.sets_done == self.set_share && self.gets_done == self.get_share {
            self.sets_done = 0;
            self.gets_done = 0;
        }
        if self.sets_done < self.set_share {
            self.sets_done += 1;
            return Verb::Set;
        }
        let key_count = self.keys_per_get.min(self.get_share - self.gets_done);
        self.gets_done += key_count;
        Verb::Get { key_count }
    }

    /// Index of the next key to read.
    #[inline]
    pub fn get_key(&mut self) -> u64 {
        self.gets.pick(&mut self.random)
    }

    /// Index, version and exptime of the next write.
    #[inline]
    pub fn set_key(&mut self) -> (u64, u64, u32) {
        let key = self.sets.pick(&mut self.random);
        self.version += 1;
        let (least, most) = self.exptime;
        let exptime = if least == most {
            least
        } else {
            least + below(&mut self.random, u64::from(most - least) + 1) as u32
        };
        (key, self.version, exptime)
    }
}

/// The bytes all values are cut from.
pub struct Tape {
    bytes: Box<[u8]>,
}

impl Tape {
    /// A tape for values of up to `value_bytes_max`. The same on every machine and in every run:
    /// one run may fill a server and a later one check it.
    pub fn new(value_bytes_max: usize) -> Self {
        let mut bytes = vec![0; TAPE_OFFSETS + value_bytes_max];
        Xoshiro256PlusPlus::seed_from_u64(0x5354_5241_5441).fill_bytes(&mut bytes);
        Self {
            bytes: bytes.into(),
        }
    }

    /// Appends the value of `key` with `length` bytes in `version`.
    #[inline]
    pub fn render(&self, key: u64, length: usize, version: u64, out: &mut Vec<u8>) {
        let hash = mix(key ^ (length as u64) << 48);
        if length < VERSIONED_BYTES {
            out.extend_from_slice(self.slice(hash, 0, length));
        } else {
            out.extend_from_slice(&(version ^ hash).to_le_bytes());
            out.extend_from_slice(self.slice(hash, version, length - 8));
        }
    }

    #[inline]
    fn slice(&self, hash: u64, version: u64, length: usize) -> &[u8] {
        // Rotated, because the first eight bytes hold `version ^ hash`: unrotated, a foreign value
        // would lead to the offset it was written with, and pass.
        let offset = mix(hash.rotate_left(32) ^ version) as usize % TAPE_OFFSETS;
        &self.bytes[offset..offset + length]
    }
}

/// A check of one value whose bytes may arrive in any number of pieces.
#[derive(Clone, Copy, Debug)]
pub struct Check {
    hash: u64,
    length: usize,
    at: usize,
    head: [u8; 8],
    right: bool,
}

impl Check {
    /// Expects a value of `key` with `length` bytes, in whichever version it names.
    pub fn new(key: u64, length: usize) -> Self {
        Self {
            hash: mix(key ^ (length as u64) << 48),
            length,
            at: 0,
            head: [0; 8],
            right: true,
        }
    }

    /// Compares the next `piece`. Panics when more bytes come than were announced.
    #[inline]
    pub fn feed(&mut self, tape: &Tape, mut piece: &[u8]) {
        assert!(
            self.at + piece.len() <= self.length,
            "{} bytes after {} of {}",
            piece.len(),
            self.at,
            self.length
        );
        let head_bytes = if self.length < VERSIONED_BYTES { 0 } else { 8 };
        if self.at < head_bytes {
            let count = piece.len().min(head_bytes - self.at);
            self.head[self.at..self.at + count].copy_from_slice(&piece[..count]);
            self.at += count;
            piece = &piece[count..];
        }
        if piece.is_empty() {
            return;
        }
        let version = if head_bytes == 0 {
            0
        } else {
            u64::from_le_bytes(self.head) ^ self.hash
        };
        let expected = tape.slice(self.hash, version, self.length - head_bytes);
        let from = self.at - head_bytes;
        self.right &= expected[from..from + piece.len()] == *piece;
        self.at += piece.len();
    }

    /// Whether all bytes came and each was right.
    #[inline]
    pub fn passed(&self) -> bool {
        self.right && self.at == self.length
    }
}

/// A bijection of 64-bit numbers that spreads neighbours: the finaliser of SplitMix64 (Steele,
/// Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
#[inline]
pub fn mix(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(set_pattern: Pattern, get_pattern: Pattern) -> Workload {
        Workload {
            keys: KeySpace::new("k", 1, 1000),
            set_pattern,
            get_pattern,
            set_share: 1,
            get_share: 10,
            keys_per_get: 1,
            value_bytes: 32,
            exptime: (0, 0),
        }
    }

    fn keys(requests: &mut Requests, count: usize) -> Vec<u64> {
        (0..count).map(|_| requests.get_key()).collect()
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
    fn parallel_shares_cover_every_key_once() {
        for (key_count, connection_count) in [(1000, 7), (1000, 1), (3, 8)] {
            let space = KeySpace::new("k", 5, 4 + key_count);
            let mut seen: Vec<u64> = (0..connection_count)
                .filter_map(|connection| share(&space, connection, connection_count))
                .flat_map(|(first, last)| first..=last)
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (5..5 + key_count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn mix_of_one_to_three_by_pairs_keeps_its_ratio() {
        let mut workload = workload(Pattern::Uniform, Pattern::Uniform);
        workload.get_share = 3;
        workload.keys_per_get = 2;
        let mut requests = Requests::new(&workload, 1, 0, 1);
        let verbs: Vec<Verb> = (0..6).map(|_| requests.next_verb()).collect();
        let cycle = [
            Verb::Set,
            Verb::Get { key_count: 2 },
            Verb::Get { key_count: 1 },
        ];
        assert_eq!(verbs, [cycle, cycle].concat());
    }

    #[test]
    fn a_value_passes_its_check_however_it_is_cut() {
        let tape = Tape::new(100);
        for length in [0, 1, 7, 8, 15, 16, 17, 32, 100] {
            let mut value = Vec::new();
            tape.render(42, length, 9, &mut value);
            assert_eq!(value.len(), length);
            for cut in 0..=length {
                let mut check = Check::new(42, length);
                check.feed(&tape, &value[..cut]);
                assert_eq!(check.passed(), cut == length);
                check.feed(&tape, &value[cut..]);
                assert!(check.passed(), "length {length} cut at {cut}");
            }
        }
    }

    #[test]
    fn any_wrong_byte_fails_the_check() {
        let tape = Tape::new(64);
        for length in [1, 15, 16, 64] {
            let mut value = Vec::new();
            tape.render(42, length, 9, &mut value);
            for index in 0..length {
                value[index] ^= 1;
                let mut check = Check::new(42, length);
                check.feed(&tape, &value);
                assert!(!check.passed(), "byte {index} of {length}");
                value[index] ^= 1;
            }
        }
    }

    #[test]
    fn another_keys_value_fails_the_check() {
        let tape = Tape::new(64);
        let mut value = Vec::new();
        tape.render(43, 32, 9, &mut value);
        let mut check = Check::new(42, 32);
        check.feed(&tape, &value);
        assert!(!check.passed());
    }

    #[test]
    fn a_key_is_its_prefix_and_its_index() {
        let space = KeySpace::new("memtier-", 1, 200);
        assert_eq!(space.key(20).as_ref(), b"memtier-20");
        let longest = KeySpace::new(&"x".repeat(KEY_MAX_BYTES - 1), 1, 9);
        assert_eq!(longest.key(9).as_ref().len(), KEY_MAX_BYTES);
    }
}
