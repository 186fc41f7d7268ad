//! The command line: memtier_benchmark's names with memtier's meanings, and ours beside them.
//!
//! Always true: whatever cannot be carried out is refused here, in a sentence that names the
//! option, before anything is sent.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use strata_protocol::KEY_MAX_BYTES;

use crate::client::Verify;
use crate::plan::{Io, Length, OPEN_DEPTH, Pace, Plan};
use crate::schedule::Arrival;
use crate::transport::Address;
use crate::workload::{KeySpace, Pattern, Workload};

/// Largest value a memcached can be told to take.
const VALUE_BYTES_MAX: usize = 1 << 30;

/// Requests on each connection when neither a number nor a time is given, as memtier does.
const REQUESTS_DEFAULT: u64 = 10_000;

/// A load generator for memcached servers whose tail can be believed.
#[derive(Parser, Debug)]
#[command(
    name = "strata-load",
    version,
    args_override_self = true,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub struct Args {
    /// Show this help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Show the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// Server address
    #[arg(
        short = 's',
        long = "server",
        visible_alias = "host",
        visible_short_alias = 'h',
        value_name = "ADDR",
        default_value = "localhost"
    )]
    server: String,
    /// Server port
    #[arg(short = 'p', long, default_value_t = 11211)]
    port: u16,
    /// Unix socket, instead of address and port
    #[arg(short = 'S', long, value_name = "PATH")]
    unix_socket: Option<PathBuf>,
    /// Protocol; memcache_text is the one spoken
    #[arg(short = 'P', long, default_value = "memcache_text")]
    protocol: String,
    /// Threads
    #[arg(short = 't', long, default_value_t = 4)]
    threads: usize,
    /// Connections of each thread
    #[arg(short = 'c', long, default_value_t = 50)]
    clients: usize,
    /// Requests of each connection, or `allkeys` [default: 10000]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "test_time")]
    requests: Option<String>,
    /// Seconds to run instead
    #[arg(allow_negative_numbers = true, long, value_name = "SECS")]
    test_time: Option<f64>,
    /// Writes to reads, as set:get
    #[arg(long, default_value = "1:10")]
    ratio: String,
    /// Outstanding requests of each connection [default: 1 closed, at most 1024 open]
    #[arg(long, value_name = "N")]
    pipeline: Option<usize>,
    /// Bytes of a value
    #[arg(short = 'd', long, value_name = "BYTES", default_value_t = 32)]
    data_size: usize,
    /// What keys begin with
    #[arg(long, default_value = "memtier-")]
    key_prefix: String,
    /// First index of the keys
    #[arg(long, value_name = "N", default_value_t = 0)]
    key_minimum: u64,
    /// Last index of the keys
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    key_maximum: u64,
    /// How keys are chosen, as set:get: R uniform, S sequential, G Gaussian, Z Zipf, P parallel
    #[arg(long, default_value = "R:R")]
    key_pattern: String,
    /// Centre of the Gaussian [default: middle of the range]
    #[arg(long, value_name = "N")]
    key_median: Option<f64>,
    /// Deviation of the Gaussian [default: a sixth of the range]
    #[arg(long, value_name = "N")]
    key_stddev: Option<f64>,
    /// Exponent of Zipf, between 0 and 5
    #[arg(long, value_name = "E", default_value_t = 1.0)]
    key_zipf_exp: f64,
    /// Keys on one get, up to the ratio's reads
    #[arg(long, value_name = "N", default_value_t = 0)]
    multi_key_get: u32,
    /// Exptime of writes, drawn from a-b
    #[arg(long, value_name = "A-B")]
    expiry_range: Option<String>,
    /// Check every byte of every hit, not a sample
    #[arg(long)]
    data_verify: bool,
    /// Give each connection a seed of its own
    #[arg(long)]
    distinct_client_seed: bool,
    /// Leave out the latency distribution
    #[arg(long)]
    pub hide_histogram: bool,
    /// Percentiles to print
    #[arg(long, value_name = "LIST", default_value = "50,99,99.9")]
    print_percentiles: String,
    /// Write the report as JSON
    #[arg(long, value_name = "PATH")]
    pub json_out_file: Option<PathBuf>,
    /// Open loop: requests a second of all connections together
    #[arg(
        allow_negative_numbers = true,
        long,
        value_name = "TOTAL",
        help_heading = "Beyond memtier"
    )]
    rate: Option<f64>,
    /// How requests of an open loop are spaced
    #[arg(
        long,
        value_name = "KIND",
        default_value = "poisson",
        help_heading = "Beyond memtier"
    )]
    arrival: ArrivalArg,
    /// Write every key once before the run and count them
    #[arg(long, help_heading = "Beyond memtier")]
    fill: bool,
    /// Seconds of unmeasured load before the run
    #[arg(
        allow_negative_numbers = true,
        long,
        value_name = "SECS",
        default_value_t = 0.0,
        help_heading = "Beyond memtier"
    )]
    warmup: f64,
    /// Lowest share of hits of a valid run
    #[arg(
        allow_negative_numbers = true,
        long,
        value_name = "RATIO",
        help_heading = "Beyond memtier"
    )]
    expect_hits: Option<f64>,
    /// Core of the first thread; the others take those after it
    #[arg(long, value_name = "CORE", help_heading = "Beyond memtier")]
    pin: Option<usize>,
    /// Print a line to standard error when measuring begins and when it ends
    #[arg(long, help_heading = "Beyond memtier")]
    pub announce: bool,
    /// Seed of everything drawn
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Beyond memtier"
    )]
    seed: u64,
    /// How closely replies are checked; `nothing` is for responders with a canned answer
    #[arg(
        long,
        value_name = "HOW",
        default_value = "sampled",
        help_heading = "Beyond memtier"
    )]
    verify: VerifyArg,
    /// How bytes are moved
    #[arg(
        long,
        value_name = "KIND",
        default_value = "auto",
        help_heading = "Beyond memtier"
    )]
    io: IoArg,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ArrivalArg {
    Constant,
    Poisson,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VerifyArg {
    Nothing,
    Sampled,
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum IoArg {
    Auto,
    Uring,
    Epoll,
}

impl Args {
    /// The percentiles to print, in percent.
    pub fn percentiles(&self) -> Result<Vec<f64>, String> {
        self.print_percentiles
            .split(',')
            .map(|word| match word.trim().parse() {
                Ok(percent) if percent > 0.0 && percent < 100.0 => Ok(percent),
                _ => Err(format!(
                    "--print-percentiles: {word:?} is not a number between 0 and 100"
                )),
            })
            .collect()
    }

    /// Checks everything and makes the plan; the error is a sentence naming the option.
    pub fn plan(&self) -> Result<Plan, String> {
        if self.protocol != "memcache_text" {
            return Err(format!(
                "--protocol: {} is not spoken here; the protocol is memcache_text",
                self.protocol
            ));
        }
        above_zero("--threads", self.threads)?;
        above_zero("--clients", self.clients)?;
        let length = self.length()?;
        let pace = self.pace(length)?;
        let warmup = seconds("--warmup", self.warmup)?;
        if !warmup.is_zero() && matches!(length, Length::Requests(_)) {
            return Err(
                "--warmup: needs --test-time, because a number of requests has no warm part".into(),
            );
        }
        if let Some(ratio) = self.expect_hits
            && !(0.0..=1.0).contains(&ratio)
        {
            return Err(format!("--expect-hits: {ratio} is not between 0 and 1"));
        }
        let verify = match (self.data_verify, self.verify) {
            (true, VerifyArg::Nothing) => {
                return Err("--data-verify: contradicts --verify nothing".into());
            }
            (true, _) | (_, VerifyArg::All) => Verify::Everything,
            (_, VerifyArg::Sampled) => Verify::Sampled,
            (_, VerifyArg::Nothing) => Verify::Nothing,
        };
        Ok(Plan {
            address: match &self.unix_socket {
                Some(path) => Address::Unix(path.clone()),
                None => Address::Tcp(self.server.clone(), self.port),
            },
            threads: self.threads,
            connections: self.clients,
            pace,
            length,
            warmup,
            workload: self.workload()?,
            seed: self.seed,
            distinct_seeds: self.distinct_client_seed,
            fill: self.fill,
            expect_hits: self.expect_hits,
            verify,
            pin: self.pin,
            io: match self.io {
                IoArg::Auto => Io::Auto,
                IoArg::Uring => Io::Uring,
                IoArg::Epoll => Io::Epoll,
            },
        })
    }

    fn length(&self) -> Result<Length, String> {
        if let Some(time) = self.test_time {
            let time = seconds("--test-time", time)?;
            if time.is_zero() {
                return Err("--test-time: must be above 0".into());
            }
            return Ok(Length::Time(time));
        }
        let requests = match self.requests.as_deref() {
            None => REQUESTS_DEFAULT,
            Some("allkeys") => self.key_maximum.saturating_sub(self.key_minimum) + 1,
            Some(number) => number
                .parse()
                .map_err(|_| format!("--requests: {number:?} is neither a number nor allkeys"))?,
        };
        if requests == 0 {
            return Err("--requests: must be above 0".into());
        }
        Ok(Length::Requests(requests))
    }

    fn pace(&self, length: Length) -> Result<Pace, String> {
        let Some(rate) = self.rate else {
            let depth = self.pipeline.unwrap_or(1);
            above_zero("--pipeline", depth)?;
            return Ok(Pace::Closed { depth });
        };
        let depth = self.pipeline.unwrap_or(OPEN_DEPTH);
        above_zero("--pipeline", depth)?;
        if !rate.is_finite() || rate <= 0.0 {
            return Err(format!("--rate: {rate} is not above 0"));
        }
        if matches!(length, Length::Requests(_)) {
            return Err("--rate: needs --test-time".into());
        }
        Ok(Pace::Open {
            rate,
            depth,
            arrival: match self.arrival {
                ArrivalArg::Constant => Arrival::Constant,
                ArrivalArg::Poisson => Arrival::Poisson,
            },
        })
    }

    fn workload(&self) -> Result<Workload, String> {
        if self.key_minimum > self.key_maximum {
            return Err(format!(
                "--key-minimum: {} is above --key-maximum {}",
                self.key_minimum, self.key_maximum
            ));
        }
        let key_bytes = self.key_prefix.len() + self.key_maximum.to_string().len();
        if key_bytes > KEY_MAX_BYTES {
            return Err(format!(
                "--key-prefix: keys would have up to {key_bytes} bytes and memcached takes {KEY_MAX_BYTES}"
            ));
        }
        if self
            .key_prefix
            .bytes()
            .any(|byte| byte <= b' ' || byte == 0x7f)
        {
            return Err(
                "--key-prefix: spaces and control characters cannot be part of a key".into(),
            );
        }
        if self.data_size > VALUE_BYTES_MAX {
            return Err(format!(
                "--data-size: {} is above the {VALUE_BYTES_MAX} any memcached takes",
                self.data_size
            ));
        }
        let (set_share, get_share) = pair("--ratio", &self.ratio, ':')?;
        if set_share == 0 && get_share == 0 {
            return Err("--ratio: 0:0 asks for nothing".into());
        }
        let (set_pattern, get_pattern) = self.patterns()?;
        let exptime = match &self.expiry_range {
            None => (0, 0),
            Some(range) => pair("--expiry-range", range, '-')?,
        };
        if exptime.0 > exptime.1 {
            return Err(format!(
                "--expiry-range: {} is above {}",
                exptime.0, exptime.1
            ));
        }
        Ok(Workload {
            keys: KeySpace::new(&self.key_prefix, self.key_minimum, self.key_maximum),
            set_pattern,
            get_pattern,
            set_share,
            get_share,
            keys_per_get: self.multi_key_get.max(1),
            value_bytes: self.data_size,
            exptime,
        })
    }

    fn patterns(&self) -> Result<(Pattern, Pattern), String> {
        let bad = || {
            format!(
                "--key-pattern: {:?} is not two letters of R, S, G, Z, P with a colon between",
                self.key_pattern
            )
        };
        let (set, get) = self.key_pattern.split_once(':').ok_or_else(bad)?;
        if (set == "P") != (get == "P") {
            return Err("--key-pattern: P must stand on both sides".into());
        }
        let pattern = |letter: &str| match letter {
            "R" => Ok(Pattern::Uniform),
            "S" => Ok(Pattern::Sequential),
            "P" => Ok(Pattern::Parallel),
            "G" => self.gauss(),
            "Z" if self.key_zipf_exp > 0.0 && self.key_zipf_exp < 5.0 => Ok(Pattern::Zipf {
                exponent: self.key_zipf_exp,
            }),
            "Z" => Err(format!(
                "--key-zipf-exp: {} is not between 0 and 5",
                self.key_zipf_exp
            )),
            _ => Err(bad()),
        };
        Ok((pattern(set)?, pattern(get)?))
    }

    fn gauss(&self) -> Result<Pattern, String> {
        let (minimum, maximum) = (self.key_minimum as f64, self.key_maximum as f64);
        let median = self.key_median.unwrap_or((minimum + maximum) / 2.0);
        let deviation = self
            .key_stddev
            .unwrap_or(((maximum - minimum) / 6.0).max(1.0));
        // A centre outside the range would have every draw drawn again.
        if !(minimum..=maximum).contains(&median) {
            return Err(format!("--key-median: {median} is not one of the keys"));
        }
        if !deviation.is_finite() || deviation <= 0.0 {
            return Err(format!("--key-stddev: {deviation} is not above 0"));
        }
        Ok(Pattern::Gauss { median, deviation })
    }
}

fn above_zero(option: &str, value: usize) -> Result<(), String> {
    if value == 0 {
        return Err(format!("{option}: must be above 0"));
    }
    Ok(())
}

fn seconds(option: &str, value: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| format!("{option}: {value} is not a number of seconds"))
}

fn pair(option: &str, text: &str, between: char) -> Result<(u32, u32), String> {
    let numbers = text
        .split_once(between)
        .and_then(|(one, other)| Some((one.parse().ok()?, other.parse().ok()?)));
    numbers.ok_or_else(|| {
        format!("{option}: {text:?} is not two numbers with {between:?} between them")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &str) -> Result<Plan, String> {
        let words = std::iter::once("strata-load").chain(arguments.split_whitespace());
        Args::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .plan()
    }

    #[test]
    fn defaults_are_memtiers() {
        let plan = plan("").unwrap();
        assert_eq!((plan.threads, plan.connections), (4, 50));
        assert_eq!(plan.length, Length::Requests(10_000));
        assert_eq!(plan.pace, Pace::Closed { depth: 1 });
        let workload = plan.workload;
        assert_eq!((workload.set_share, workload.get_share), (1, 10));
        assert_eq!(workload.value_bytes, 32);
        assert_eq!(workload.keys.maximum(), 10_000_000);
    }

    #[test]
    fn a_script_of_memtiers_is_understood() {
        let plan = plan(
            "-s 127.0.0.1 -p 11211 --protocol=memcache_text -t 1 -c 16 --pipeline=8 --ratio=1:9 \
             -d 256 --key-pattern=Z:Z --key-maximum=5000 --key-zipf-exp=0.99 \
             --distinct-client-seed --test-time=30 --hide-histogram --print-percentiles 50,99.99",
        )
        .unwrap();
        assert_eq!(plan.pace, Pace::Closed { depth: 8 });
        assert_eq!(plan.length, Length::Time(Duration::from_secs(30)));
        assert_eq!(plan.workload.get_pattern, Pattern::Zipf { exponent: 0.99 });
        assert!(plan.distinct_seeds);
    }

    #[test]
    fn what_cannot_be_done_names_its_option() {
        for (arguments, option) in [
            ("--ratio 0:0", "--ratio"),
            ("--ratio 1-2", "--ratio"),
            ("--key-pattern P:R", "--key-pattern"),
            ("--key-pattern X:R", "--key-pattern"),
            ("--key-pattern Z:Z --key-zipf-exp 5", "--key-zipf-exp"),
            ("--key-minimum 5 --key-maximum 4", "--key-minimum"),
            ("--expiry-range 9-3", "--expiry-range"),
            ("--rate 100", "--rate"),
            ("--rate 0 --test-time 1", "--rate"),
            ("--rate 10 --test-time 1 --pipeline 0", "--pipeline"),
            ("-n 5 --test-time 1", "--test-time"),
            ("-n many", "--requests"),
            ("-P redis", "--protocol"),
            (&format!("--key-prefix {}", "x".repeat(243)), "--key-prefix"),
            ("-t 0", "--threads"),
            ("--pipeline 0", "--pipeline"),
            ("--warmup 1", "--warmup"),
            ("--warmup -1", "--warmup"),
            ("--expect-hits 1.5", "--expect-hits"),
            ("--data-verify --verify nothing", "--data-verify"),
            ("--key-pattern G:G --key-median 20000000", "--key-median"),
            ("--piepline 4", "--pipeline"),
        ] {
            let sentence = plan(arguments).expect_err(arguments);
            assert!(sentence.contains(option), "{arguments}: {sentence}");
        }
    }
}
