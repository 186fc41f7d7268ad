//! Workloads with a name, and workload files: where the defaults of a command line come from.
//!
//! Always true: a preset only sets defaults; an option given beside it wins. The synthetic
//! streams called `twitter-N` are drawn from published statistics of cluster N and are not its
//! trace.
//!
//! What the statistics do not say is chosen here: a value's size is log-normal by key (sigma
//! 0.7) around the published mean; the exptime is drawn by key from the published shares; the
//! popular keys are a million, drawn by the published exponent of Zipf and scrambled, beside the
//! published share of requests for keys that are never asked for again; a miss is followed by a
//! write where the recorded writes are too few to be those (under a tenth of all requests). An
//! exptime beyond 30 days becomes 30 days, and `prepend` becomes `set`.

use rand_core::SeedableRng;
use rand_distr::{Distribution, LogNormal};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::Deserialize;

use super::spread::{Amount, Spread};
use super::trace::EXPTIME_MAX;
use super::{Mix, Weighted};
use crate::kind::Kind;

const TWITTER: &str = include_str!("twitter.txt");

/// Largest value of a preset: below the largest item of a memcached that was told nothing.
const VALUE_BYTES_MAX: f64 = 1_000_000.0;

/// Spread of the sizes around their mean, see the module.
const SIZE_SIGMA: f64 = 0.7;

/// Popular keys of a preset that does not say.
const KEY_COUNT: u64 = 1_000_000;

/// Below this share of writes a stream does not contain the writes that follow its misses.
const WRITES_AFTER_MISSES: f64 = 0.1;

/// Defaults for a command line; `None` leaves the usual one.
#[derive(Clone, Debug, Default)]
pub struct Preset {
    /// What it is, in a sentence.
    pub about: String,
    /// Threads.
    pub threads: Option<usize>,
    /// Connections of each.
    pub clients: Option<usize>,
    /// Outstanding requests of each in a closed loop.
    pub depth: Option<usize>,
    /// What keys begin with.
    pub key_prefix: Option<String>,
    /// First index.
    pub key_minimum: Option<u64>,
    /// Last index.
    pub key_maximum: Option<u64>,
    /// Patterns in memtier's letters.
    pub key_pattern: Option<String>,
    /// Exponent of Zipf.
    pub zipf_exponent: Option<f64>,
    /// Which verb comes when.
    pub mix: Option<Mix>,
    /// Bytes of values.
    pub sizes: Option<Amount>,
    /// Exptimes.
    pub lives: Option<Amount>,
    /// Share of requests to fresh keys.
    pub fresh_share: f64,
    /// Whether a miss is followed by a write.
    pub set_on_miss: bool,
    /// Lowest share of hits of a valid run.
    pub expect_hits: Option<f64>,
    /// Whether each connection has latencies of its own.
    pub per_connection: bool,
}

/// Names of all presets, for sentences.
pub fn names() -> String {
    "ycsb-a, ycsb-b, ycsb-c, ycsb-d, etc, twitter-1 to twitter-54 (but not 5)".into()
}

/// The preset of that name.
pub fn named(name: &str) -> Option<Preset> {
    match name {
        "ycsb-a" => Some(ycsb("A: half reads, half updates", "1:1", "Y:Y", Some(0.5))),
        "ycsb-b" => Some(ycsb("B: mostly reads", "1:19", "Y:Y", Some(0.95))),
        "ycsb-c" => Some(ycsb("C: reads only", "0:1", "Y:Y", None)),
        "ycsb-d" => Some(ycsb("D: reads of the latest", "1:19", "P:L", Some(0.95))),
        "etc" => Some(etc()),
        _ => twitter(name.strip_prefix("twitter-")?),
    }
}

fn weights(list: &[(Kind, f64)]) -> Mix {
    Mix::Weights(
        list.iter()
            .map(|&(kind, share)| Weighted {
                kind,
                key_count: 1,
                weight: (share * 10_000.0).round() as u32,
            })
            .collect(),
    )
}

/// Cooper and others: Benchmarking Cloud Serving Systems with YCSB, 2010. Records of ten fields
/// of 100 bytes; Zipf with 0.99.
fn ycsb(about: &str, ratio: &str, pattern: &str, reads: Option<f64>) -> Preset {
    let reads = reads.unwrap_or(1.0);
    Preset {
        about: format!("YCSB {about} ({ratio})"),
        key_prefix: Some("user".into()),
        key_minimum: Some(1_000_000_000_000),
        key_maximum: Some(1_000_000_000_000 + KEY_COUNT - 1),
        key_pattern: Some(pattern.into()),
        zipf_exponent: Some(0.99),
        mix: Some(weights(&[(Kind::Get, reads), (Kind::Set, 1.0 - reads)])),
        sizes: Some(Amount::Fixed(1000)),
        ..Preset::default()
    }
}

/// Facebook's ETC: Atikoglu and others, Workload Analysis of a Large-Scale Key-Value Store,
/// SIGMETRICS 2012. Sizes of values as published: a discrete head up to 14 bytes, then a
/// generalised Pareto distribution. Keys have the mean length of the published distribution;
/// popularity is Zipf 0.99, of which the paper has no number.
fn etc() -> Preset {
    const HEAD: [f64; 15] = [
        0.00536, 0.00047, 0.17820, 0.09239, 0.00018, 0.02740, 0.00065, 0.00606, 0.00023, 0.00837,
        0.00837, 0.08989, 0.00092, 0.00326, 0.01980,
    ];
    const LOCATION: f64 = 15.0;
    const SCALE: f64 = 214.476;
    const SHAPE: f64 = 0.348_238;
    let size = |share: f64| {
        let mut left = share;
        for (bytes, part) in HEAD.iter().enumerate() {
            if left < *part {
                return bytes as f64;
            }
            left -= part;
        }
        let tail = 1.0 - HEAD.iter().sum::<f64>();
        let share = (left / tail).min(1.0 - 1e-9);
        let bytes = LOCATION + SCALE * ((1.0 - share).powf(-SHAPE) - 1.0) / SHAPE;
        bytes.min(VALUE_BYTES_MAX)
    };
    Preset {
        about: "Facebook ETC: 30 reads to a write, values from a few bytes to a megabyte".into(),
        key_prefix: Some(padded("etc", 36)),
        key_minimum: Some(KEY_COUNT),
        key_maximum: Some(2 * KEY_COUNT - 1),
        key_pattern: Some("Y:Y".into()),
        zipf_exponent: Some(0.99),
        mix: Some(weights(&[(Kind::Get, 0.9677), (Kind::Set, 0.0323)])),
        sizes: Some(Amount::ByKey(Spread::table(size))),
        ..Preset::default()
    }
}

/// A prefix of keys with seven digits that are `key_bytes` long altogether, if that is possible.
fn padded(name: &str, key_bytes: usize) -> String {
    const DIGITS: usize = 7;
    format!("{name:-<width$}", width = key_bytes.saturating_sub(DIGITS))
}

fn twitter(number: &str) -> Option<Preset> {
    let row = TWITTER.lines().find_map(|line| {
        let mut fields = line.split('|').map(str::trim);
        (fields.next() == Some(number)).then(|| fields.collect::<Vec<_>>())
    })?;
    let &[
        key_bytes,
        value_bytes,
        once,
        first,
        operations,
        exponent,
        exptimes,
    ] = row.as_slice()
    else {
        return None;
    };
    let percent = |text: &str| text.parse::<f64>().ok().map(|percent| percent / 100.0);
    let shares = operations
        .split(' ')
        .map(share)
        .collect::<Option<Vec<(&str, f64)>>>()?;
    let of = |name: &str| {
        let found = shares.iter().find(|(other, _)| *other == name);
        found.map_or(0.0, |(_, share)| *share)
    };
    // A cas is asked as a read and the write after it, so its read is not asked again.
    let reads = of("get") + (of("gets") - of("cas")).max(0.0);
    let list = [
        (Kind::Get, reads),
        (Kind::Set, of("set") + of("prepend")),
        (Kind::Add, of("add")),
        (Kind::Cas, of("cas")),
        (Kind::Delete, of("delete")),
        (Kind::Incr, of("incr")),
    ];
    let writes = of("set") + of("add") + of("prepend");
    let lives = match exptimes.strip_prefix("range ") {
        Some(range) => {
            let (least, most) = range.split_once('-')?;
            Spread::Range(least.parse().ok()?, most.parse().ok()?)
        }
        None => {
            let list = exptimes
                .split(' ')
                .map(|word| {
                    let (seconds, share) = share(word)?;
                    let seconds = seconds.parse::<u32>().ok()?.min(EXPTIME_MAX);
                    Some((seconds, (share * 10_000.0) as u32))
                })
                .collect::<Option<Vec<_>>>()?;
            Spread::weighted(&list)
        }
    };
    let listed: Vec<(Kind, f64)> = list.into_iter().filter(|(_, share)| *share > 0.0).collect();
    Some(Preset {
        about: format!("synthetic, after the statistics of Twitter's cluster {number}"),
        key_prefix: Some(padded(&format!("t{number}-"), key_bytes.parse().ok()?)),
        key_minimum: Some(KEY_COUNT),
        key_maximum: Some(2 * KEY_COUNT - 1),
        key_pattern: Some("Y:Y".into()),
        zipf_exponent: Some(exponent.parse().ok()?),
        mix: Some(weights(&listed)),
        sizes: Some(log_normal(value_bytes.parse().ok()?)),
        lives: Some(Amount::ByKey(lives)),
        fresh_share: percent(once)? * percent(first)?,
        set_on_miss: reads > 0.0 && writes < WRITES_AFTER_MISSES,
        ..Preset::default()
    })
}

fn share(word: &str) -> Option<(&str, f64)> {
    let (name, share) = word.split_once(':')?;
    Some((name, share.parse().ok()?))
}

/// Sizes by key with this mean. The quantiles are those of a sample, drawn once from a fixed
/// seed: the same in every run.
fn log_normal(mean: f64) -> Amount {
    const SAMPLE: usize = 1 << 17;
    if mean < 2.0 {
        return Amount::Fixed(1);
    }
    let location = mean.ln() - SIZE_SIGMA * SIZE_SIGMA / 2.0;
    let distribution = LogNormal::new(location, SIZE_SIGMA).expect("the deviation is above 0");
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut sample: Vec<f64> = (0..SAMPLE)
        .map(|_| distribution.sample(&mut random))
        .collect();
    sample.sort_by(f64::total_cmp);
    Amount::ByKey(Spread::table(|share| {
        sample[(share * SAMPLE as f64) as usize].clamp(1.0, VALUE_BYTES_MAX)
    }))
}

/// A file of `perf/workloads`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    /// What the server is to be given: not the client's affair.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read so that a misspelt field beside it is refused"
    )]
    server: toml::Table,
    load: Load,
    #[expect(
        dead_code,
        reason = "read so that a misspelt field beside it is refused"
    )]
    latency: Option<toml::Table>,
    /// These are the affair of whoever compares servers: who takes part, the same with something different,
    /// and what is aimed at.
    #[serde(default)]
    #[expect(
        dead_code,
        reason = "read so that a misspelt field beside it is refused"
    )]
    subjects: Vec<String>,
    #[expect(
        dead_code,
        reason = "read so that a misspelt field beside it is refused"
    )]
    variants: Option<Vec<toml::Table>>,
    #[expect(
        dead_code,
        reason = "read so that a misspelt field beside it is refused"
    )]
    goals: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Load {
    connections: usize,
    depth: usize,
    keys: u64,
    value_bytes: u32,
    ratio: String,
    pattern: Option<String>,
    zipf_exponent: Option<f64>,
    keys_per_get: Option<u32>,
    exptime: Option<String>,
    #[serde(default)]
    per_connection: bool,
    expect_hits: Option<f64>,
    /// Which server is asked for which key: said by `--server` and `--distribution`.
    #[expect(
        dead_code,
        reason = "read so that a misspelt field beside it is refused"
    )]
    shards: Option<String>,
}

/// Index of the first key of a workload file: with it all keys have 16 bytes.
const FILE_KEY_MINIMUM: u64 = 10_000_000;

/// Reads the text of a workload file. The error is a sentence with the line.
pub fn file(text: &str) -> Result<Preset, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let load = file.load;
    if load.keys == 0 {
        return Err("keys: must be above 0".into());
    }
    let (sets, gets) = crate::cli::words::pair("ratio", &load.ratio, ':')?;
    if sets + gets == 0 {
        return Err("ratio: 0:0 asks for nothing".into());
    }
    let lives = match &load.exptime {
        None => None,
        Some(range) => {
            let (least, most) = crate::cli::words::pair("exptime", range, '-')?;
            if least > most {
                return Err(format!("exptime: {least} is above {most}"));
            }
            Some(Amount::Drawn(Spread::Range(least, most)))
        }
    };
    Ok(Preset {
        about: file.about,
        threads: Some(1),
        clients: Some(load.connections),
        depth: Some(load.depth),
        key_minimum: Some(FILE_KEY_MINIMUM),
        key_maximum: Some(FILE_KEY_MINIMUM + load.keys - 1),
        key_pattern: load.pattern,
        zipf_exponent: load.zipf_exponent,
        mix: Some(Mix::Ratio {
            sets,
            gets,
            keys_per_get: load.keys_per_get.unwrap_or(1).max(1),
        }),
        sizes: Some(Amount::Fixed(load.value_bytes)),
        lives,
        expect_hits: load.expect_hits,
        per_connection: load.per_connection,
        ..Preset::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cluster_of_the_table_is_a_preset() {
        for number in (1..=54).filter(|&number| number != 5) {
            let preset = named(&format!("twitter-{number}")).unwrap_or_else(|| panic!("{number}"));
            assert!(preset.key_prefix.unwrap().len() + 7 <= 250);
            assert!(preset.lives.unwrap().most() <= EXPTIME_MAX);
            assert!((0.0..1.0).contains(&preset.fresh_share));
            let Some(Mix::Weights(list)) = preset.mix else {
                panic!("{number}")
            };
            assert!(list.iter().any(|one| one.weight > 0));
        }
        assert!(named("twitter-5").is_none());
        assert!(named("twitter-55").is_none());
        assert!(named("ycsb-z").is_none());
    }

    #[test]
    fn cluster_52_is_what_the_table_says() {
        let preset = named("twitter-52").unwrap();
        let prefix = preset.key_prefix.unwrap();
        assert_eq!(prefix.len() + 7, 20);
        let Some(Mix::Weights(list)) = preset.mix else {
            panic!()
        };
        let weights: Vec<(Kind, u32)> = list.iter().map(|one| (one.kind, one.weight)).collect();
        let expected = [(Kind::Get, 9100), (Kind::Add, 400), (Kind::Cas, 200)];
        assert_eq!(weights, expected);
        let sizes = preset.sizes.unwrap();
        let mut sum = 0.0;
        for key in 0..100_000 {
            sum += f64::from(sizes.of_key(key, super::super::SIZE_SALT).unwrap());
        }
        assert!((sum / 1e5 / 273.0 - 1.0).abs() < 0.02, "{sum}");
        assert!((preset.fresh_share - 0.1936 * 0.0307).abs() < 1e-9);
    }

    #[test]
    fn etc_has_its_head_and_its_tail() {
        let sizes = named("etc").unwrap().sizes.unwrap();
        let drawn: Vec<u32> = (0..100_000)
            .map(|key| sizes.of_key(key, super::super::SIZE_SALT).unwrap())
            .collect();
        let share =
            |test: fn(u32) -> bool| drawn.iter().filter(|&&bytes| test(bytes)).count() as f64 / 1e5;
        assert!((share(|bytes| bytes == 2) - 0.1782).abs() < 0.005);
        assert!((share(|bytes| bytes < 15) - 0.44155).abs() < 0.006);
        // The Pareto part exceeds 1000 bytes with (1 + k 985 / s)^(-1/k) = 0.0697.
        assert!((share(|bytes| bytes > 1000) - 0.55845 * 0.0697).abs() < 0.004);
    }

    #[test]
    fn the_projects_workload_files_can_be_read_and_a_misspelt_one_not() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/workloads");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            file(&text).unwrap_or_else(|sentence| panic!("{}: {sentence}", path.display()));
            count += 1;
        }
        assert!(count >= 14, "{count}");
        let odd = "about = \"x\"\n[load]\nconnections = 1\ndepht = 1\n";
        let sentence = file(odd).unwrap_err();
        assert!(
            sentence.contains("depht") && sentence.contains("line 4"),
            "{sentence}"
        );
    }
}
