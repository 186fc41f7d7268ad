//! A trace: the requests of one workload, drawn once and replayed to every policy at every memory size.
//!
//! ```text
//! request  | operation 3 bits | object 29 bits |       its time follows from its place
//! object   key length, value size and ttl, each from the object's number
//! ```
//!
//! Always true: the same workload, drift, length and seed give the same trace; a one-hit object stands in it once.

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::draw::{Ranks, below, bytes_of, mix, ttl_of, unit};
use crate::workload::{Objects, Operation, Workload};

/// The popular set never has fewer objects, however short the run: a handful of objects would say nothing.
const POPULAR_MIN: usize = 200_000;
/// Bits of an object's number in a request.
const OBJECT_BITS: u32 = 29;
/// Longest key of any workload.
pub const KEY_BYTES_MAX: usize = 250;
/// Letters of a key that tell objects apart; the rest is filling.
const KEY_LETTERS: usize = 8;

const OPERATIONS: [Operation; 7] = [
    Operation::Get,
    Operation::LoneGet,
    Operation::Set,
    Operation::Add,
    Operation::Cas,
    Operation::Incr,
    Operation::Delete,
];

/// What there is to know of the objects, by number.
#[derive(Default)]
pub struct Catalogue {
    key_bytes: Vec<u8>,
    value_bytes: Vec<u16>,
    ttl: Vec<u32>,
}

impl Catalogue {
    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.ttl.len()
    }

    /// Bytes of its value.
    #[inline]
    pub fn value_bytes(&self, object: u32) -> usize {
        usize::from(self.value_bytes[object as usize])
    }

    /// Bytes of its key and value.
    #[inline]
    pub fn body_bytes(&self, object: u32) -> usize {
        usize::from(self.key_bytes[object as usize]) + self.value_bytes(object)
    }

    /// Seconds it lives after a store; 0 is for ever.
    #[inline]
    pub fn ttl(&self, object: u32) -> u32 {
        self.ttl[object as usize]
    }

    /// Its key, in `room`. Two objects have the same key only if they are the same.
    #[inline]
    pub fn key<'a>(&self, object: u32, room: &'a mut [u8; KEY_BYTES_MAX]) -> &'a [u8] {
        // An odd factor keeps numbers apart and spreads neighbours over all letters.
        let word = u64::from(object.wrapping_mul(0x9e37_79b1));
        let spread = (word | word << 16) & 0x0000_ffff_0000_ffff;
        let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
        let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        let letters = spread + 0x6161_6161_6161_6161;
        room[..KEY_LETTERS].copy_from_slice(&letters.to_le_bytes());
        &room[..usize::from(self.key_bytes[object as usize])]
    }

    /// A catalogue of given objects: key bytes, value bytes, ttl.
    #[cfg(test)]
    pub fn of(objects: &[(u8, u16, u32)]) -> Self {
        Self {
            key_bytes: objects.iter().map(|object| object.0).collect(),
            value_bytes: objects.iter().map(|object| object.1).collect(),
            ttl: objects.iter().map(|object| object.2).collect(),
        }
    }

    fn push(&mut self, workload: &Workload) -> u32 {
        let object = self.ttl.len() as u32;
        let key =
            bytes_of(workload.keys, object, 1).clamp(KEY_LETTERS as u32, KEY_BYTES_MAX as u32);
        self.key_bytes.push(key as u8);
        self.value_bytes
            .push(bytes_of(workload.values, object, 2) as u16);
        self.ttl.push(ttl_of(workload.ttls, object));
        object
    }
}

/// A room for keys whose filling is there already.
pub fn key_room() -> [u8; KEY_BYTES_MAX] {
    [b'k'; KEY_BYTES_MAX]
}

/// Requests and what they ask for.
pub struct Trace {
    requests: Vec<u32>,
    /// The objects.
    pub catalogue: Catalogue,
    /// Virtual seconds from the first request to the last.
    pub seconds: u32,
    /// Requests before counting begins.
    pub warm_up: usize,
    /// Distinct objects requested.
    pub distinct: usize,
    /// Of these, the ones requested once.
    pub one_hit: usize,
}

impl Trace {
    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// A request.
    #[inline]
    pub fn request(&self, index: usize) -> (Operation, u32) {
        let word = self.requests[index];
        (
            OPERATIONS[(word >> OBJECT_BITS) as usize],
            word & ((1 << OBJECT_BITS) - 1),
        )
    }

    /// Draws a trace. `drift` is the share of the ranks that get another object each hour.
    pub fn draw(workload: &Workload, drift: f64, count: usize, seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ named(workload.name));
        let (popular, fresh_share) = match workload.objects {
            Objects::Count(objects) => (objects, 0.0),
            Objects::Published {
                compulsory,
                one_hit,
            } => {
                let popular = (1.0 - one_hit) * compulsory * count as f64;
                ((popular as usize).max(POPULAR_MIN), one_hit * compulsory)
            }
        };
        let mut catalogue = Catalogue::default();
        let mut by_rank: Vec<u32> = (0..popular).map(|_| catalogue.push(workload)).collect();
        for rank in (1..popular).rev() {
            by_rank.swap(rank, below(&mut random, rank + 1));
        }
        let scan_objects = workload.scan.map_or(0, |scan| scan.objects);
        let scanned: Vec<u32> = (0..scan_objects)
            .map(|_| catalogue.push(workload))
            .collect();
        let mut scan_cursor = 0;

        let ranks = Ranks::new(workload.popularity, popular);
        let operations = cumulative(workload);
        let swaps = drift * popular as f64 * workload.hours / 2.0;
        let mut swapped = 0;
        let mut requests = Vec::with_capacity(count);
        for index in 0..count {
            while (swapped as f64) < swaps * index as f64 / count as f64 {
                let (one, two) = (below(&mut random, popular), below(&mut random, popular));
                by_rank.swap(one, two);
                swapped += 1;
            }
            let word = random.next_u64();
            let chance = unit(word);
            let scans = workload.scan.is_some_and(|scan| {
                (index * 2 * scan.times / count) % 2 == 1 && unit(mix(word)) < scan.share
            });
            let object = if scans {
                let object = scanned[scan_cursor];
                scan_cursor = (scan_cursor + 1) % scanned.len();
                object
            } else if unit(mix(word ^ 1)) < fresh_share {
                catalogue.push(workload)
            } else {
                by_rank[ranks.draw(&mut random)]
            };
            assert!(
                object < 1 << OBJECT_BITS,
                "object {object} has too many bits"
            );
            let operation = operations.partition_point(|&(share, _)| share <= chance);
            let operation = operations[operation.min(operations.len() - 1)].1;
            let code = OPERATIONS.iter().position(|&other| other == operation);
            let code = code.expect("every operation has a code") as u32;
            requests.push(code << OBJECT_BITS | object);
        }

        let mut trace = Self {
            requests,
            catalogue,
            seconds: (workload.hours * 3600.0) as u32,
            warm_up: count / 3,
            distinct: 0,
            one_hit: 0,
        };
        trace.count_objects();
        trace
    }

    /// A trace of given requests, all of them counted, one each second.
    #[cfg(test)]
    pub fn of(requests: &[(Operation, u32)], catalogue: Catalogue) -> Self {
        let word = |&(operation, object): &(Operation, u32)| {
            let code = OPERATIONS.iter().position(|&other| other == operation);
            (code.expect("a code") as u32) << OBJECT_BITS | object
        };
        let mut trace = Self {
            requests: requests.iter().map(word).collect(),
            catalogue,
            seconds: requests.len() as u32,
            warm_up: 0,
            distinct: 0,
            one_hit: 0,
        };
        trace.count_objects();
        trace
    }

    fn count_objects(&mut self) {
        let mut times = vec![0u8; self.catalogue.count()];
        for index in 0..self.len() {
            let times = &mut times[self.request(index).1 as usize];
            *times = (*times + 1).min(2);
        }
        self.distinct = times.iter().filter(|&&times| times > 0).count();
        self.one_hit = times.iter().filter(|&&times| times == 1).count();
    }
}

/// A number for a name, so that no two workloads are drawn alike.
fn named(name: &str) -> u64 {
    name.bytes()
        .fold(0, |word, byte| mix(word ^ u64::from(byte)))
}

/// Share of the requests up to each operation.
fn cumulative(workload: &Workload) -> Vec<(f64, Operation)> {
    let whole: f64 = workload.operations.iter().map(|(_, weight)| weight).sum();
    let mut up_to = 0.0;
    let operations = workload.operations.iter().map(|&(operation, weight)| {
        up_to += weight / whole;
        (up_to, operation)
    });
    operations.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::ALL;
    use std::collections::HashSet;

    fn workload(name: &str) -> &'static Workload {
        let found = ALL.iter().find(|workload| workload.name == name);
        found.expect("a workload")
    }

    #[test]
    fn a_seed_draws_one_trace() {
        let draw = |seed| Trace::draw(workload("cluster29"), 0.05, 50_000, seed).requests;
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn operations_have_their_shares() {
        let trace = Trace::draw(workload("cluster14"), 0.0, 100_000, 3);
        for (operation, wanted) in [
            (Operation::Get, 0.65),
            (Operation::Delete, 0.22),
            (Operation::Set, 0.13),
        ] {
            let seen = (0..trace.len()).filter(|&index| trace.request(index).0 == operation);
            let share = seen.count() as f64 / trace.len() as f64;
            assert!((share - wanted).abs() < 0.01, "{operation:?}: {share}");
        }
    }

    #[test]
    fn two_thirds_of_a_write_heavy_row_are_objects_met_once() {
        let trace = Trace::draw(workload("cluster12"), 0.0, 1_000_000, 3);
        // The published shares, 0.7945 times 0.8143; popular objects drawn once come on top.
        assert!(trace.one_hit >= 630_000, "{}", trace.one_hit);
        assert!(trace.distinct < 850_000, "{}", trace.distinct);
    }

    #[test]
    fn drift_changes_who_is_popular() {
        let early_and_late = |drift| {
            let trace = Trace::draw(workload("cluster52"), drift, 300_000, 9);
            let objects = |range: std::ops::Range<usize>| -> HashSet<u32> {
                let mut times = std::collections::HashMap::new();
                for index in range {
                    *times.entry(trace.request(index).1).or_insert(0) += 1;
                }
                let often = times.into_iter().filter(|&(_, times)| times > 100);
                often.map(|(object, _)| object).collect()
            };
            let (early, late) = (objects(0..100_000), objects(200_000..300_000));
            early.intersection(&late).count() as f64 / early.len() as f64
        };
        assert!(early_and_late(0.0) > 0.8);
        assert!(early_and_late(0.05) < 0.2);
    }

    #[test]
    fn keys_of_different_objects_differ() {
        let catalogue = Catalogue::of(&[(10, 1, 0); 10_000]);
        let mut room = key_room();
        let keys: HashSet<Vec<u8>> = (0..10_000)
            .map(|object| catalogue.key(object, &mut room).to_vec())
            .collect();
        assert_eq!(keys.len(), 10_000);
        assert!(keys.iter().all(|key| key.len() == 10));
    }
}
