//! The keys a worker's clients ask for most: a Space-Saving sketch of a sample of their requests.
//!
//! ```text
//! requests:  . . . x . . . . . . x . . x      one in SAMPLE_EVERY on average, at random distances
//!                  |             |     |
//! ranks:  [ key a, count 90, error 0 | key b, count 41, error 2 | ... ]    HOT_KEYS_KEPT of them
//! ```
//!
//! A sampled key that is kept counts one more; one that is not takes the place of the last, and that
//! one's count with it, as its error (Metwally, Agrawal and El Abbadi, 2005). Counts are halved every
//! [`HALVE_EVERY_S`] seconds, so that what is told is about the last minute.
//!
//! Always true: counts fall with the rank; a key was sampled at most `count` times and at least
//! `count - error` times, but for what was halved; no count exceeds its error by more than the key was
//! sampled; every key with more than one in [`HOT_KEYS_KEPT`] of the samples is kept. Nothing is
//! allocated after the start.

use std::io::Write;

use arrayvec::ArrayVec;
use strata_store::{KEY_BYTES_MAX, Seconds};

use crate::config::{BATCH_MAX, HALVE_EVERY_S, HOT_KEYS_KEPT, SAMPLE_EVERY};
use crate::observe::uri_encode;

/// Fingerprints that are compared with one branch.
const COMPARED_AT_ONCE: usize = 32;

/// Samples a key must have had for certain to be told.
const SAMPLES_SURE: u64 = 4;

/// What is kept of one key, beside its fingerprint.
#[derive(Clone, Copy, Debug)]
struct Entry {
    count: u32,
    error: u32,
    /// How many of the samples changed the item.
    writes: u32,
    /// Where the key is.
    place: u16,
}

/// See the module's page.
#[derive(Debug)]
pub struct HotKeys {
    /// By rank, like `entries`; apart, so that they are compared many at once.
    fingerprints: ArrayVec<u32, HOT_KEYS_KEPT>,
    entries: ArrayVec<Entry, HOT_KEYS_KEPT>,
    keys: Box<[ArrayVec<u8, KEY_BYTES_MAX>]>,
    sampled: u32,
    /// Requests until the next sample, that one included.
    left: u32,
    dice: u64,
    halved: Seconds,
}

const _: () = assert!(HOT_KEYS_KEPT <= u16::MAX as usize && BATCH_MAX <= u8::MAX as usize);

impl HotKeys {
    /// An empty sketch. The seed sets which requests are sampled.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut sketch = Self {
            fingerprints: ArrayVec::new(),
            entries: ArrayVec::new(),
            keys: vec![ArrayVec::new(); HOT_KEYS_KEPT].into(),
            sampled: 0,
            left: 0,
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            halved: Seconds(0),
        };
        sketch.left = sketch.distance();
        sketch
    }

    /// A random distance, so that no rhythm of the requests hides a key.
    fn distance(&mut self) -> u32 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        1 + ((self.dice >> 32) as u32) % (2 * SAMPLE_EVERY - 1)
    }

    /// Lets a batch of requests pass unless some of them are to be sampled; then false, and
    /// [`HotKeys::picks`] knows which.
    #[inline]
    #[must_use]
    pub fn pass(&mut self, requests: usize) -> bool {
        let passes = (requests as u32) < self.left;
        if passes {
            self.left -= requests as u32;
        }
        passes
    }

    /// Which of the requests of a batch that did not pass are to be sampled.
    #[cold]
    pub fn picks(&mut self, requests: usize) -> ArrayVec<u8, BATCH_MAX> {
        let mut picks = ArrayVec::new();
        let mut at = self.left;
        while at <= requests as u32 {
            picks.push((at - 1) as u8);
            at += self.distance();
        }
        self.left = at - requests as u32;
        picks
    }

    /// Takes a sample.
    #[cold]
    pub fn sample(&mut self, key: &[u8], write: bool, now: Seconds) {
        self.halve_when_due(now);
        self.sampled += 1;
        let fingerprint = crc32fast::hash(key);
        let rank = match self.find(fingerprint, key) {
            Some(rank) => rank,
            None => self.admit(fingerprint, key),
        };
        let entry = &mut self.entries[rank];
        let before = entry.count;
        entry.count += 1;
        entry.writes += u32::from(write);
        // It goes before those that had as many.
        let first = self.entries.partition_point(|entry| entry.count > before);
        let first = first.min(rank);
        self.entries.swap(first, rank);
        self.fingerprints.swap(first, rank);
    }

    fn find(&self, fingerprint: u32, key: &[u8]) -> Option<usize> {
        // Without a branch inside, so that many are compared at once; nearly all chunks have none.
        let mut from = 0;
        for chunk in self.fingerprints.chunks(COMPARED_AT_ONCE) {
            let same = chunk.iter().map(|other| u32::from(*other == fingerprint));
            if same.sum::<u32>() > 0 {
                let same = |rank: &usize| {
                    let place = usize::from(self.entries[*rank].place);
                    self.fingerprints[*rank] == fingerprint && self.keys[place][..] == *key
                };
                if let Some(rank) = (from..from + chunk.len()).find(same) {
                    return Some(rank);
                }
            }
            from += COMPARED_AT_ONCE;
        }
        None
    }

    /// Makes a place for a key, the last one, and returns its rank.
    fn admit(&mut self, fingerprint: u32, key: &[u8]) -> usize {
        let (place, error) = match self.entries.is_full() {
            false => (self.entries.len() as u16, 0),
            true => {
                self.fingerprints.pop();
                let last = self.entries.pop();
                last.map_or((0, 0), |last| (last.place, last.count))
            }
        };
        let kept = &mut self.keys[usize::from(place)];
        kept.clear();
        kept.extend(key.iter().copied().take(KEY_BYTES_MAX));
        self.fingerprints.push(fingerprint);
        self.entries.push(Entry {
            count: error,
            error,
            writes: 0,
            place,
        });
        self.entries.len() - 1
    }

    /// How often everything is to be halved by now.
    fn halvings(&self, now: Seconds) -> u32 {
        (now.0.saturating_sub(self.halved.0) / HALVE_EVERY_S).min(31)
    }

    fn halve_when_due(&mut self, now: Seconds) {
        let halvings = self.halvings(now);
        if halvings == 0 {
            return;
        }
        self.halved = now;
        self.sampled >>= halvings;
        for entry in &mut self.entries {
            entry.count >>= halvings;
            entry.error >>= halvings;
            entry.writes >>= halvings;
        }
        // The order stays. Those that are nothing any more stand last and are the first to go.
    }

    /// This worker's part of what all tell: a line a key, `key count error writes 0`, and one with
    /// the number of samples behind a `=`, which is in no key as it is written here.
    pub fn part(&self, now: Seconds, text: &mut Vec<u8>) {
        let halvings = self.halvings(now);
        let _ = writeln!(text, "= {} 0 0 0", self.sampled >> halvings);
        for entry in &self.entries {
            let [count, error, writes] =
                [entry.count, entry.error, entry.writes].map(|number| number >> halvings);
            if count > 0 {
                uri_encode(&self.keys[usize::from(entry.place)], text);
                let _ = writeln!(text, " {count} {error} {writes} 0");
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.fingerprints.clear();
        self.entries.clear();
        self.sampled = 0;
    }
}

/// A key that is asked for much.
#[derive(Clone, Debug, PartialEq)]
pub struct HotKey {
    /// As `watch` writes keys.
    pub key: String,
    /// The share of all requests that ask for it, in percent, as far as the samples tell.
    pub percent: f64,
    /// What it is at least.
    pub percent_least: f64,
    /// The share of its requests that change the item, in percent.
    pub writes_percent: f64,
}

/// Of the parts of one or all workers, the number of samples and at most `most` keys, those asked for
/// most first. A key that may be there by its error alone is left out.
#[must_use]
pub fn ranking(text: &[u8], most: usize) -> (u64, Vec<HotKey>) {
    let mut sums = crate::stats::lines::sum(text);
    let sampled = sums.remove(&b"="[..]).map_or(0, |[sampled, ..]| sampled);
    let mut list: Vec<_> = sums
        .into_iter()
        .filter(|(_, [count, error, ..])| {
            let sure = count.saturating_sub(*error);
            sure >= SAMPLES_SURE && 2 * sure >= *count
        })
        .collect();
    list.sort_by_key(|(_, [count, ..])| std::cmp::Reverse(*count));
    list.truncate(most);
    let percent = |part: u64, of: u64| part as f64 * 100.0 / of.max(1) as f64;
    let list = list
        .into_iter()
        .map(|(key, [count, error, writes, _])| HotKey {
            key: String::from_utf8_lossy(&key).into_owned(),
            percent: percent(count, sampled),
            percent_least: percent(count - error, sampled),
            writes_percent: percent(writes, count - error).min(100.0),
        });
    (sampled, list.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HOT_KEYS_TOLD;

    const KEYS: usize = 1_000_000;

    /// Draws keys of a million as a Zipf law of exponent 0.99 has it: the key's number is its rank.
    struct Zipf {
        sums: Vec<f64>,
        dice: u64,
    }

    impl Zipf {
        fn new() -> Self {
            let mut sum = 0.0;
            let weights = (1..=KEYS).map(|rank| {
                sum += (rank as f64).powf(-0.99);
                sum
            });
            Self {
                sums: weights.collect(),
                dice: 88_172_645_463_325_252,
            }
        }

        fn share(&self, rank: usize) -> f64 {
            (rank as f64).powf(-0.99) / self.sums[KEYS - 1]
        }

        fn next(&mut self) -> usize {
            self.dice ^= self.dice << 13;
            self.dice ^= self.dice >> 7;
            self.dice ^= self.dice << 17;
            let at = (self.dice >> 11) as f64 / (1_u64 << 53) as f64 * self.sums[KEYS - 1];
            1 + self.sums.partition_point(|sum| *sum < at)
        }
    }

    fn load(sketch: &mut HotKeys, requests: usize, now: Seconds, mut key: impl FnMut() -> String) {
        let mut done = 0;
        while done < requests {
            let batch = 1 + done % BATCH_MAX;
            let keys: Vec<String> = (0..batch).map(|_| key()).collect();
            done += batch;
            if !sketch.pass(batch) {
                for at in sketch.picks(batch) {
                    let key = keys[usize::from(at)].as_bytes();
                    sketch.sample(key, done % 4 == 0, now);
                }
            }
        }
    }

    #[test]
    fn a_key_with_a_hundredth_of_a_zipf_load_over_a_million_keys_is_found_and_ranked() {
        let mut zipf = Zipf::new();
        // The rank whose share is nearest to one percent.
        let hundredth = (1..20).find(|rank| zipf.share(*rank) < 0.01).expect("one") - 1;
        assert!((0.01..0.012).contains(&zipf.share(hundredth)));
        for seed in 1..6 {
            let mut sketch = HotKeys::new(seed);
            load(&mut sketch, 2_000_000, Seconds(5), || {
                format!("user:{}", zipf.next())
            });
            let mut text = Vec::new();
            sketch.part(Seconds(5), &mut text);
            let (sampled, list) = ranking(&text, HOT_KEYS_TOLD);
            let expected = 2_000_000 / u64::from(SAMPLE_EVERY);
            assert!(sampled.abs_diff(expected) < expected / 20, "{sampled}");
            let name = format!("user%3A{hundredth}");
            let rank = list.iter().position(|hot| hot.key == name).expect("found") + 1;
            assert!(rank.abs_diff(hundredth) <= 2, "{rank} for {hundredth}");
            let told = &list[rank - 1];
            assert!((0.6..1.6).contains(&told.percent), "{told:?}");
            assert!(told.percent_least <= told.percent && told.percent_least > 0.5);
            assert_eq!(list[0].key, "user%3A1");
        }
    }

    #[test]
    fn a_load_without_a_hot_key_shows_none() {
        let mut sketch = HotKeys::new(1);
        let mut at = 0;
        load(&mut sketch, 1_000_000, Seconds(5), || {
            at = (at + 7919) % KEYS;
            format!("k{at}")
        });
        let mut text = Vec::new();
        sketch.part(Seconds(5), &mut text);
        assert_eq!(ranking(&text, 100).1, []);
    }

    #[test]
    fn a_key_that_nobody_asks_for_any_more_is_forgotten() {
        let mut sketch = HotKeys::new(1);
        load(&mut sketch, 100_000, Seconds(5), || "yesterday".into());
        let told = |sketch: &HotKeys, now| {
            let mut text = Vec::new();
            sketch.part(Seconds(now), &mut text);
            ranking(&text, 10).1
        };
        assert!(told(&sketch, 5)[0].percent > 99.9);
        load(&mut sketch, 20_000, Seconds(5 + 4 * HALVE_EVERY_S), || {
            "today".into()
        });
        let list = told(&sketch, 5 + 4 * HALVE_EVERY_S);
        assert_eq!(list[0].key, "today");
        assert_eq!(told(&sketch, 5 + 20 * HALVE_EVERY_S), []);
    }
}
