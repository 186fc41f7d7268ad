//! The workloads: what is asked for, how often, how large it is and how long it lives.
//!
//! The Twitter ones are *synthetic, parameterised on the published row of a cluster* (`twitter/cache-trace`,
//! `stat/2020Mar.md`, CC-BY; OSDI '20): means of key and value, Zipf exponent, operation mix, ttl shares, and how many
//! distinct and one-hit objects there are. They are not the traces. Meta's is the popularity curve of `kvcache_reg`, a
//! hit-ratio configuration of CacheLib's `cachebench` (Apache-2.0).
//!
//! Always true: a workload is only numbers; nothing is drawn here.
//!
//! A replay is a spatial sample of a long real run: the keys a hash chooses, with all their requests. Its requests
//! stand for [`Workload::hours`], chosen for each workload so that several lifetimes pass and yet as many objects are
//! alive at a time as leave a cache something to choose from.

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Counted; a miss is filled by a set.
    Get,
    /// Counted; a miss stays one.
    LoneGet,
    /// Stores.
    Set,
    /// Stores if absent.
    Add,
    /// Stores if present, as a compare-and-swap does that was not overtaken.
    Cas,
    /// A fetch that is not counted and fills nothing. The number it leaves has the size of the one it found.
    Incr,
    /// Removes.
    Delete,
}

/// How popular the objects are, in order of rank.
#[derive(Clone, Copy, Debug)]
pub enum Popularity {
    /// The chance of rank r goes with r to the power of minus this.
    Zipf(f64),
    /// Points of a cumulative curve: share of the objects, share of the requests. Even between two points.
    Curve(&'static [(f64, f64)]),
}

/// How many objects there are.
#[derive(Clone, Copy, Debug)]
pub enum Objects {
    /// As a row of the Twitter table has it. Of all requests `compulsory` meet an object for the first time; of those
    /// objects `one_hit` are never met again.
    Published {
        /// Distinct objects to a request.
        compulsory: f64,
        /// Share of the objects requested once.
        one_hit: f64,
    },
    /// So many, each as popular as its rank says.
    Count(usize),
}

/// Lengths or sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Bytes {
    /// All the same.
    Fixed(u32),
    /// Each length between the two as often.
    Between(u32, u32),
    /// Lognormal with this mean. Only means are published; the deviation of the logarithm is [`DEVIATION`].
    Mean(f64),
    /// Points of a cumulative curve: share of the objects, bytes. Even in the logarithm between two points.
    Quantiles(&'static [(f64, f64)]),
}

/// Standard deviation of the logarithm of a value's size.
pub const DEVIATION: f64 = 0.75;

/// Lifetimes in seconds from `least` to `most`, even between them, of a share of the objects. Never is 0.
#[derive(Clone, Copy, Debug)]
pub struct Ttl {
    /// Weight among the lifetimes of the workload.
    pub share: f64,
    /// Shortest.
    pub least: u32,
    /// Longest.
    pub most: u32,
}

/// Objects read one after the other, again and again, beside the popular ones.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// How many there are.
    pub objects: usize,
    /// Share of the requests that belong to a scan, while one goes on.
    pub share: f64,
    /// Scans in the whole run. Each is followed by a pause of the same length.
    pub times: usize,
}

/// All there is to know about a workload.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Name on the command line.
    pub name: &'static str,
    /// One line for the record.
    pub about: &'static str,
    /// Requests, in units of the run's.
    pub length: f64,
    /// Hours they stand for.
    pub hours: f64,
    /// Whether popularity drifts in half of its runs.
    pub drifts: bool,
    /// Objects.
    pub objects: Objects,
    /// Their popularity.
    pub popularity: Popularity,
    /// Key lengths.
    pub keys: Bytes,
    /// Value sizes.
    pub values: Bytes,
    /// Weights of the operations.
    pub operations: &'static [(Operation, f64)],
    /// Lifetimes.
    pub ttls: &'static [Ttl],
    /// Scans, if any.
    pub scan: Option<Scan>,
}

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

const fn ttl(share: f64, seconds: u32) -> Ttl {
    Ttl {
        share,
        least: seconds,
        most: seconds,
    }
}

const fn published(compulsory_percent: f64, one_hit_percent: f64) -> Objects {
    Objects::Published {
        compulsory: compulsory_percent / 100.0,
        one_hit: one_hit_percent / 100.0,
    }
}

use Operation::{Add, Cas, Delete, Get, Incr, LoneGet, Set};

/// Every workload there is.
pub const ALL: &[Workload] = &[
    Workload {
        name: "cluster2",
        about: "very skewed, small values, reads only",
        // So skewed that only a long run meets many objects.
        length: 5.0,
        hours: 168.0,
        drifts: true,
        objects: Objects::Count(1_000_000),
        popularity: Popularity::Zipf(1.4908),
        keys: Bytes::Fixed(21),
        values: Bytes::Mean(68.0),
        operations: &[(Get, 1.0)],
        ttls: &[ttl(0.59, 4 * DAY), ttl(0.41, 2 * DAY)],
        scan: None,
    },
    Workload {
        name: "cluster4",
        about: "six ttls from a minute to a day, values of 2.4 KB",
        length: 1.0,
        hours: 24.0,
        drifts: true,
        objects: published(3.77, 29.33),
        popularity: Popularity::Zipf(1.1004),
        keys: Bytes::Fixed(67),
        values: Bytes::Mean(2439.0),
        operations: &[(Get, 0.93), (Set, 0.07)],
        ttls: &[
            ttl(0.39, MINUTE),
            ttl(0.24, 5 * MINUTE),
            ttl(0.13, HOUR),
            ttl(0.12, 10 * MINUTE),
            ttl(0.09, 4 * HOUR),
            ttl(0.03, DAY),
        ],
        scan: None,
    },
    Workload {
        name: "cluster7",
        about: "ttls spread around 1.8 hours, a fifth writes, values of 1.9 KB",
        length: 1.0,
        hours: 16.0,
        drifts: true,
        objects: published(1.37, 0.01),
        popularity: Popularity::Zipf(1.0666),
        keys: Bytes::Fixed(17),
        values: Bytes::Mean(1936.0),
        operations: &[(Get, 0.82), (Set, 0.18)],
        ttls: &[
            ttl(0.28, 108 * MINUTE),
            ttl(0.24, 102 * MINUTE),
            ttl(0.23, 114 * MINUTE),
            ttl(0.13, 96 * MINUTE),
            ttl(0.12, 2 * HOUR),
        ],
        scan: None,
    },
    Workload {
        name: "cluster10",
        about: "each object added and read about once, all equally popular",
        length: 1.0,
        hours: 48.0,
        drifts: true,
        objects: published(49.99, 0.08),
        popularity: Popularity::Zipf(0.0),
        keys: Bytes::Fixed(22),
        values: Bytes::Mean(2333.0),
        operations: &[(Add, 0.50), (Get, 0.50)],
        ttls: &[ttl(1.0, 2 * HOUR)],
        scan: None,
    },
    Workload {
        name: "cluster12",
        about: "four fifths writes, most objects never read, five minutes to live",
        length: 1.0,
        hours: 2.5,
        drifts: true,
        objects: published(79.45, 81.43),
        popularity: Popularity::Zipf(0.3048),
        keys: Bytes::Fixed(44),
        values: Bytes::Mean(1030.0),
        operations: &[(Set, 0.80), (Get, 0.20)],
        ttls: &[ttl(0.98, 300), ttl(0.02, 299)],
        scan: None,
    },
    Workload {
        name: "cluster14",
        about: "a fifth deletes, one day to live",
        length: 2.0,
        hours: 120.0,
        drifts: true,
        objects: published(2.82, 10.94),
        popularity: Popularity::Zipf(1.2959),
        keys: Bytes::Fixed(96),
        values: Bytes::Mean(414.0),
        operations: &[(Get, 0.65), (Delete, 0.22), (Set, 0.13)],
        ttls: &[ttl(1.0, DAY)],
        scan: None,
    },
    Workload {
        name: "cluster19",
        about: "little skew, a quarter writes, ttls spread around 7 hours",
        length: 1.0,
        hours: 48.0,
        drifts: true,
        objects: published(21.2, 7.46),
        popularity: Popularity::Zipf(0.735),
        keys: Bytes::Fixed(42),
        values: Bytes::Mean(101.0),
        operations: &[(Get, 0.75), (Set, 0.25)],
        ttls: &[Ttl {
            share: 1.0,
            least: 396 * MINUTE,
            most: 450 * MINUTE,
        }],
        scan: None,
    },
    Workload {
        name: "cluster22",
        about: "counters: tiny values under long keys",
        length: 1.0,
        hours: 96.0,
        drifts: true,
        objects: published(23.43, 41.48),
        popularity: Popularity::Zipf(0.7624),
        keys: Bytes::Fixed(54),
        values: Bytes::Mean(4.0),
        operations: &[(Get, 0.72), (Incr, 0.18), (Set, 0.10)],
        ttls: &[ttl(0.85, DAY), ttl(0.11, HOUR), ttl(0.03, 30 * MINUTE)],
        scan: None,
    },
    Workload {
        name: "cluster29",
        about: "an hour or two to live, a tenth writes",
        length: 1.0,
        hours: 12.0,
        drifts: true,
        objects: published(4.45, 23.04),
        popularity: Popularity::Zipf(1.2323),
        keys: Bytes::Fixed(36),
        values: Bytes::Mean(799.0),
        operations: &[(Get, 0.86), (Set, 0.13)],
        ttls: &[ttl(0.67, HOUR), ttl(0.33, 2 * HOUR)],
        scan: None,
    },
    Workload {
        name: "cluster45",
        about: "little skew, half the objects met once, 15 days to live",
        length: 1.0,
        hours: 240.0,
        drifts: true,
        objects: published(35.07, 48.74),
        popularity: Popularity::Zipf(0.6372),
        keys: Bytes::Fixed(10),
        values: Bytes::Mean(120.0),
        operations: &[(Add, 0.15), (Get, 0.85)],
        ttls: &[ttl(1.0, 15 * DAY)],
        scan: None,
    },
    Workload {
        name: "cluster52",
        about: "the Segcache paper's main one: three ttls from half a day to two weeks",
        length: 2.0,
        hours: 168.0,
        drifts: true,
        objects: published(3.07, 19.36),
        popularity: Popularity::Zipf(1.2117),
        keys: Bytes::Fixed(20),
        values: Bytes::Mean(273.0),
        operations: &[(Get, 0.93), (Add, 0.04), (Cas, 0.02)],
        ttls: &[ttl(0.65, DAY), ttl(0.27, 14 * DAY), ttl(0.07, 12 * HOUR)],
        scan: None,
    },
    Workload {
        name: "kvcache",
        about: "Meta's kvcache_reg popularity and value sizes; a seventh of the gets fills nothing",
        length: 1.0,
        hours: 24.0,
        drifts: false,
        objects: Objects::Count(1_000_000),
        popularity: Popularity::Curve(&[
            (1e-5, 0.296),
            (1e-4, 0.412),
            (1e-3, 0.569),
            (1e-2, 0.724),
            (0.1, 0.868),
            (0.5, 0.975),
            (1.0, 1.0),
        ]),
        // Published as 16 to 255; memcached's keys end at 250.
        keys: Bytes::Between(16, 250),
        values: Bytes::Quantiles(&[
            (0.0, 16.0),
            (0.5, 159.0),
            (0.9, 191.0),
            (0.99, 959.0),
            (0.999, 12_991.0),
            (1.0, 60_000.0),
        ]),
        operations: &[(Get, 0.85), (LoneGet, 0.135), (Set, 0.015)],
        ttls: &[ttl(1.0, 0)],
        scan: None,
    },
    Workload {
        name: "ycsb",
        about: "YCSB's scrambled Zipf 0.99, 1 KB, a twentieth updates, no ttl",
        length: 1.0,
        hours: 24.0,
        drifts: false,
        objects: Objects::Count(400_000),
        popularity: Popularity::Zipf(0.99),
        keys: Bytes::Fixed(23),
        values: Bytes::Fixed(1000),
        operations: &[(Get, 0.95), (Set, 0.05)],
        ttls: &[ttl(1.0, 0)],
        scan: None,
    },
    Workload {
        name: "scan",
        about: "Zipf 0.99 over 400 thousand objects, and at times two fifths of the requests read as many others in order",
        length: 1.0,
        hours: 24.0,
        drifts: false,
        objects: Objects::Count(400_000),
        popularity: Popularity::Zipf(0.99),
        keys: Bytes::Fixed(24),
        values: Bytes::Mean(300.0),
        operations: &[(Get, 1.0)],
        ttls: &[ttl(1.0, 0)],
        scan: Some(Scan {
            objects: 400_000,
            share: 0.4,
            times: 8,
        }),
    },
];

impl Workload {
    /// How often the published objects are requested on average, and which share of them once.
    pub fn published(&self) -> Option<(f64, f64)> {
        match self.objects {
            Objects::Published {
                compulsory,
                one_hit,
            } => Some((1.0 / compulsory, one_hit)),
            Objects::Count(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_curves_rise() {
        for (index, workload) in ALL.iter().enumerate() {
            assert!(
                ALL[..index].iter().all(|other| other.name != workload.name),
                "{} twice",
                workload.name
            );
            if let Popularity::Curve(points) = workload.popularity {
                assert!(points.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
                assert_eq!(points.last(), Some(&(1.0, 1.0)));
            }
            let weight: f64 = workload.operations.iter().map(|(_, weight)| weight).sum();
            assert!((0.98..=1.001).contains(&weight), "{}", workload.name);
        }
    }
}
