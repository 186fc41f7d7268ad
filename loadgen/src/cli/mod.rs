//! The command line: memtier_benchmark's names with memtier's meanings, and ours beside them.
//!
//! Always true: whatever cannot be carried out is refused here, in a sentence that names the
//! option, before anything is sent; and an option that was given wins over a preset.
//!
//! Here stand the options. `planned` makes a plan of them, `asked` the workload in it, with
//! `words` for the single words; `refused` has the options of memtier's that mean nothing here.

use std::path::PathBuf;

use clap::{ArgAction, Parser, ValueEnum};

mod asked;
mod planned;
pub mod refused;
pub mod words;

use crate::trial::Trials;

/// Most times a run is repeated.
const RUN_COUNT_MAX: u32 = 1000;

const OURS: &str = "Beyond memtier";

/// A load generator for memcached servers whose tail can be believed.
#[derive(Parser, Debug)]
#[command(
    name = "strata-load",
    version,
    args_override_self = true,
    infer_long_args = true,
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
    /// Server, or several with commas between them, each with a port of its own if it likes: a key then has its server by --distribution
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
    #[arg(short = 'p', long, default_value_t = 11211, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Unix socket, instead of address and port
    #[arg(short = 'S', long, value_name = "PATH")]
    unix_socket: Option<PathBuf>,
    /// Addresses of version 4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,
    /// Addresses of version 6 only
    #[arg(short = '6', long)]
    ipv6: bool,
    /// Protocol: memcache_text or memcache_meta
    #[arg(short = 'P', long, default_value = "memcache_text")]
    protocol: String,
    /// Speak TLS, 1.2 or 1.3
    #[arg(long)]
    pub tls: bool,
    /// Our certificate, in PEM, for servers that ask for one
    #[arg(long, value_name = "FILE")]
    pub cert: Option<String>,
    /// Its key, in PEM [default: in the same file]
    #[arg(long, value_name = "FILE")]
    pub key: Option<String>,
    /// Who vouches for servers, in PEM [default: whom this host trusts]
    #[arg(long, value_name = "FILE")]
    pub cacert: Option<String>,
    /// Take any server for what it says it is
    #[arg(long)]
    pub tls_skip_verify: bool,
    /// Versions of TLS: TLSv1.2, TLSv1.3 or both with a comma [default: both]
    #[arg(long, value_name = "LIST")]
    tls_protocols: Option<String>,
    /// The name that servers are asked to have [default: as they are named]
    #[arg(long, value_name = "NAME")]
    pub sni: Option<String>,
    /// Seconds that connecting may take, 0 for any [default: 0]
    #[arg(allow_negative_numbers = true, long, value_name = "SECS")]
    connection_timeout: Option<f64>,
    /// Seconds that a server may say nothing while it owes replies, before a fill or a run without --test-time gives up [default: 30]
    #[arg(allow_negative_numbers = true, long, value_name = "SECS", help_heading = OURS)]
    silence: Option<f64>,
    /// Requests after which a connection is replaced [default: never]
    #[arg(long, value_name = "N")]
    reconnect_interval: Option<u64>,
    /// Threads [default: 4]
    #[arg(short = 't', long, value_name = "N")]
    threads: Option<usize>,
    /// Connections of each thread [default: 50]
    #[arg(short = 'c', long, value_name = "N")]
    clients: Option<usize>,
    /// Requests of each connection, or `allkeys`: as many as there are keys, with P:P as many as its part has [default: 10000]
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "test_time")]
    requests: Option<String>,
    /// Seconds to run instead
    #[arg(allow_negative_numbers = true, long, value_name = "SECS")]
    test_time: Option<f64>,
    /// Requests a second of each connection: an open loop of that rate with constant arrivals
    #[arg(allow_negative_numbers = true, long, value_name = "N")]
    rate_limiting: Option<f64>,
    /// Times the whole is repeated
    #[arg(short = 'x', long, value_name = "N", default_value_t = 1)]
    run_count: u32,
    /// Writes to reads, as set:get [default: 1:10]
    #[arg(long, value_name = "S:G")]
    ratio: Option<String>,
    /// Outstanding requests of each connection [default: 1 closed, at most 1024 open]
    #[arg(long, value_name = "N")]
    pipeline: Option<usize>,
    /// Keys on one get, up to the ratio's reads
    #[arg(long, value_name = "N")]
    multi_key_get: Option<u32>,
    /// Bytes of a value [default: 32]
    #[arg(short = 'd', long, value_name = "BYTES")]
    data_size: Option<u32>,
    /// Bytes of a value, between two numbers
    #[arg(long, value_name = "A-B", conflicts_with_all = ["data_size", "data_size_list"])]
    data_size_range: Option<String>,
    /// Bytes of a value, from a list with weights
    #[arg(long, value_name = "SIZE:WEIGHT,...", conflicts_with = "data_size")]
    data_size_list: Option<String>,
    /// R: sizes are drawn; S: they grow evenly with the index of the key
    #[arg(long, value_name = "R|S", default_value = "R")]
    data_size_pattern: String,
    /// Accepted: values are never regular here
    #[arg(short = 'R', long)]
    random_data: bool,
    /// Exptime of writes, drawn from a-b
    #[arg(long, value_name = "A-B")]
    expiry_range: Option<String>,
    /// Check every byte of every hit, not a sample
    #[arg(long)]
    data_verify: bool,
    /// What keys begin with [default: memtier-]
    #[arg(long, value_name = "TEXT")]
    key_prefix: Option<String>,
    /// First index of the keys [default: 0]
    #[arg(long, value_name = "N")]
    key_minimum: Option<u64>,
    /// Last index of the keys [default: 10000000]
    #[arg(long, value_name = "N")]
    key_maximum: Option<u64>,
    /// How keys are chosen, as set:get: R uniform, S sequential, G Gaussian, Z Zipf, P parallel, Y scrambled Zipf, and for gets L latest [default: R:R]
    #[arg(long, value_name = "S:G")]
    key_pattern: Option<String>,
    /// Centre of the Gaussian [default: middle of the range]
    #[arg(long, value_name = "N")]
    key_median: Option<f64>,
    /// Deviation of the Gaussian [default: a sixth of the range]
    #[arg(long, value_name = "N")]
    key_stddev: Option<f64>,
    /// Exponent of Zipf, between 0 and 5 [default: 1]
    #[arg(long, value_name = "E")]
    key_zipf_exp: Option<f64>,
    /// Accepted: there is nothing more to print
    #[arg(short = 'D', long)]
    debug: bool,
    /// Give each connection a seed of its own
    #[arg(long)]
    distinct_client_seed: bool,
    /// Take the seed from the clock
    #[arg(long)]
    randomize: bool,
    /// Leave out the latency distribution
    #[arg(long)]
    pub hide_histogram: bool,
    /// Percentiles to print
    #[arg(long, value_name = "LIST", default_value = "50,99,99.9")]
    print_percentiles: String,
    /// Print the configuration before the run
    #[arg(long)]
    pub show_config: bool,
    /// With --run-count, report every run and not only best, worst and all together
    #[arg(long)]
    pub print_all_runs: bool,
    /// Write the text to a file instead of the terminal
    #[arg(short = 'o', long, value_name = "PATH")]
    pub out_file: Option<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "PATH")]
    pub json_out_file: Option<PathBuf>,
    /// Write percentile files PREFIX_FULL_RUN_1.txt, .hgrm and those of each verb
    #[arg(long, value_name = "PREFIX")]
    pub hdr_file_prefix: Option<String>,
    /// How several servers share the keys: by libmemcached's weighted ketama, or by its CRC hash and their order (modula), which is how Strata's --shard-ports share them
    #[arg(long, value_name = "RULE", help_heading = OURS, default_value = "ketama")]
    distribution: String,
    /// Open loop: requests a second of all connections together
    #[arg(allow_negative_numbers = true, long, value_name = "TOTAL", help_heading = OURS)]
    rate: Option<f64>,
    /// How requests of an open loop are spaced [default: poisson]
    #[arg(long, value_name = "KIND", help_heading = OURS)]
    arrival: Option<ArrivalArg>,
    /// Open loops at several rates, from:to:step or a list, for --test-time each
    #[arg(long, value_name = "RATES", help_heading = OURS, conflicts_with_all = ["rate", "rate_limiting", "search", "run_count"])]
    sweep: Option<String>,
    /// Find the highest rate that holds this, such as 'p99.9<1ms'
    #[arg(long, value_name = "OBJECTIVE", help_heading = OURS, conflicts_with_all = ["rate", "rate_limiting", "run_count"])]
    search: Option<String>,
    /// Verbs and their weights instead of --ratio: get:80,set:15,mget10:5
    #[arg(long, value_name = "VERB:WEIGHT,...", help_heading = OURS, conflicts_with_all = ["ratio", "multi_key_get"])]
    ops: Option<String>,
    /// Write what a get of one key has missed
    #[arg(long, help_heading = OURS)]
    set_on_miss: bool,
    /// Defaults with a name: ycsb-a to ycsb-d, etc, twitter-1 to twitter-54 (but not 5)
    #[arg(long, value_name = "NAME", help_heading = OURS, conflicts_with = "workload")]
    preset: Option<String>,
    /// Defaults from a file like those of perf/workloads
    #[arg(long, value_name = "FILE", help_heading = OURS)]
    workload: Option<PathBuf>,
    /// Replay a trace in Twitter's form, plain, gzip or zstd
    #[arg(long, value_name = "FILE", help_heading = OURS, conflicts_with_all = [
        "ratio", "ops", "preset", "workload", "multi_key_get", "data_size", "data_size_range", "data_size_list",
        "expiry_range", "key_prefix", "key_minimum", "key_maximum", "key_pattern", "fill", "sweep", "search"
    ])]
    trace: Option<PathBuf>,
    /// Replay at this multiple of the recorded times, as an open loop
    #[arg(allow_negative_numbers = true, long, value_name = "X", help_heading = OURS, requires = "trace", conflicts_with_all = ["rate", "rate_limiting"])]
    trace_speed: Option<f64>,
    /// Write every key once before the run and count them
    #[arg(long, help_heading = OURS)]
    fill: bool,
    /// Seconds of unmeasured load before the run
    #[arg(allow_negative_numbers = true, long, value_name = "SECS", default_value_t = 0.0, help_heading = OURS)]
    warmup: f64,
    /// Lowest share of hits of a valid run
    #[arg(allow_negative_numbers = true, long, value_name = "RATIO", help_heading = OURS)]
    expect_hits: Option<f64>,
    /// Core of the first thread; the others take those after it
    #[arg(long, value_name = "CORE", help_heading = OURS)]
    pin: Option<usize>,
    /// Print a line to standard error when measuring begins and when it ends
    #[arg(long, help_heading = OURS)]
    pub announce: bool,
    /// Open loop: percentiles of each piece of the measured time that is so long, and of the middle one of them
    #[arg(allow_negative_numbers = true, long, value_name = "SECS", help_heading = OURS, conflicts_with_all = ["run_count", "trace"])]
    window: Option<f64>,
    /// Tell how the slowest connection fared (takes a kilobyte each)
    #[arg(long, help_heading = OURS)]
    per_connection: bool,
    /// Seed of everything drawn
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = OURS)]
    seed: u64,
    /// How closely replies are checked; `nothing` is for responders with a canned answer
    #[arg(long, value_name = "HOW", default_value = "sampled", help_heading = OURS)]
    verify: VerifyArg,
    /// How bytes are moved
    #[arg(long, value_name = "KIND", default_value = "auto", help_heading = OURS)]
    io: IoArg,
    /// How an idle thread waits: look for 50 us before it sleeps, or sleep at once as memtier does
    #[arg(long, value_name = "HOW", default_value = "look", help_heading = OURS)]
    wait: WaitArg,
    /// Write a page with curves
    #[arg(long, value_name = "FILE.html", help_heading = OURS)]
    pub report: Option<PathBuf>,
    /// Write an interval log for HdrHistogram's tools
    #[arg(long, value_name = "FILE.hlog", help_heading = OURS)]
    pub interval_log: Option<PathBuf>,
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
enum WaitArg {
    Look,
    Sleep,
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
                Ok(percent) if percent > 0.0 && percent <= 100.0 => Ok(percent),
                _ => Err(format!(
                    "--print-percentiles: {word:?} is not a number above 0 and up to 100"
                )),
            })
            .collect()
    }

    /// Which runs are made of the plan.
    pub fn trials(&self) -> Result<Trials, String> {
        if self.run_count == 0 || self.run_count > RUN_COUNT_MAX {
            return Err(format!(
                "--run-count: {} is not between 1 and {RUN_COUNT_MAX}",
                self.run_count
            ));
        }
        let timed = |option: &str| match self.test_time {
            Some(_) => Ok(()),
            None => Err(format!("{option}: needs --test-time")),
        };
        match (&self.sweep, &self.search) {
            (Some(rates), _) => {
                timed("--sweep")?;
                Ok(Trials::Sweep(words::sweep(rates)?))
            }
            (_, Some(objective)) => {
                timed("--search")?;
                Ok(Trials::Search(words::objective(objective)?))
            }
            _ => Ok(Trials::Runs(self.run_count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::{Length, Pace, Plan};
    use crate::schedule::Arrival;
    use crate::workload::{Amount, Mix, Pattern};

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
        let mix = Mix::Ratio {
            sets: 1,
            gets: 10,
            keys_per_get: 1,
        };
        assert_eq!(workload.mix, mix);
        assert_eq!(workload.sizes, Amount::Fixed(32));
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
            ("--data-size-range 9-3", "--data-size-range"),
            ("--data-size-list 1:0", "--data-size-list"),
            (
                "--data-size-range 1-3 --data-size-pattern Q",
                "--data-size-pattern",
            ),
            ("--data-size-range 1-3 -d 4", "--data-size"),
            ("--key-pattern L:L", "--key-pattern"),
            ("--key-pattern R:L", "--key-pattern"),
            ("--ops get:1 --ratio 1:1", "--ops"),
            ("--preset ycsb-q", "--preset"),
            ("--workload /nowhere.toml", "--workload"),
            ("--trace /nowhere.csv", "--trace"),
            ("--trace-speed 2", "--trace"),
            ("--rate-limiting 0", "--rate-limiting"),
            ("--rate 5 --rate-limiting 5 --test-time 1", "--rate"),
            ("--arrival constant", "--arrival"),
            ("--rate 1e-300 --test-time 1", "--rate"),
            ("--rate 1e12 --test-time 1", "--rate"),
            ("--rate-limiting 1e8 --test-time 1", "--rate-limiting"),
            ("--test-time 1e15", "--test-time"),
            ("--test-time 1 --warmup 1e15", "--warmup"),
            ("-t 1025", "--threads"),
            ("-t 1024 -c 1000000000000000000", "--clients"),
            ("-c 1 -t 1 --pipeline 100000000", "--pipeline"),
            (
                "-c 1000 -t 1 --ratio 0:9000 --multi-key-get 9000 --pipeline 2",
                "--pipeline",
            ),
            (
                "-c 1000 -t 1 --ratio 0:65536 --multi-key-get 65536",
                "--multi-key-get",
            ),
            ("--key-maximum 18446744073709551615", "--key-maximum"),
            ("--preset ycsb-b --key-maximum 1000", "--key-maximum"),
            ("--connection-timeout -1", "--connection-timeout"),
            ("--silence 0", "--silence"),
            ("--key-pattern G:G --key-median 20000000", "--key-median"),
            ("--key-median 500", "--key-median"),
            ("--key-pattern Z:R --key-stddev 5", "--key-stddev"),
            ("--key-zipf-exp 9", "--key-zipf-exp"),
            ("--sweep 10 -n 5", "--sweep: needs --test-time"),
            ("--search p99<1ms -n 5", "--search: needs --test-time"),
            (
                "--trace-speed 2 --test-time 1 --key-maximum 9",
                "--trace-speed: needs --trace",
            ),
            ("--expect-hits 1 --ratio 1:0", "--expect-hits"),
            ("-p 0", "--port"),
            ("--piepline 4", "--pipeline"),
            ("--window 0.1 --test-time 1", "--window"),
            ("--window 0 --test-time 1 --rate 1", "--window"),
            ("--window 2 --test-time 1 --rate 1", "--window"),
            ("--window 0.001 --test-time 1 --rate 1", "--window"),
        ] {
            let sentence = plan(arguments).expect_err(arguments);
            assert!(sentence.contains(option), "{arguments}: {sentence}");
        }
    }

    #[test]
    fn what_trials_cannot_be_made_names_its_option() {
        let trials = |arguments: &str| {
            let words = std::iter::once("strata-load").chain(arguments.split_whitespace());
            Args::try_parse_from(words)
                .map_err(|error| error.to_string())?
                .trials()
        };
        for (arguments, option) in [
            ("-x 0", "--run-count"),
            ("--sweep 1:2:1", "--sweep"),
            ("--search p99<1ms", "--search"),
            ("--sweep 1:x:1 --test-time 1", "--sweep"),
            ("--search p99 --test-time 1", "--search"),
            ("--sweep 1 --search p99<1ms --test-time 1", "--sweep"),
        ] {
            let sentence = trials(arguments).expect_err(arguments);
            assert!(sentence.contains(option), "{arguments}: {sentence}");
        }
        assert_eq!(trials("-x 3"), Ok(Trials::Runs(3)));
    }

    #[test]
    fn an_option_wins_over_its_preset() {
        let preset = plan("--preset ycsb-a").unwrap().workload;
        assert_eq!(preset.keys.prefix(), "user");
        assert_eq!(preset.sizes, Amount::Fixed(1000));
        assert_eq!(preset.get_pattern, Pattern::Scrambled { exponent: 0.99 });
        let own = plan("--preset ycsb-a -d 10 --key-prefix k --ratio 0:1 --key-pattern R:R");
        let own = own.unwrap().workload;
        assert_eq!(own.keys.prefix(), "k");
        assert_eq!(own.sizes, Amount::Fixed(10));
        assert_eq!(own.get_pattern, Pattern::Uniform);
        assert!(!own.mix.has(crate::kind::Kind::Set));
    }

    #[test]
    fn all_keys_are_walked_once_by_parallel_clients_together_and_by_each_of_others() {
        let requests = |arguments: &str| plan(arguments).unwrap().length;
        let range = "-n allkeys --key-minimum 1 --key-maximum 1000 -t 2 -c 15";
        let parallel = requests(&format!("{range} --key-pattern P:P"));
        assert_eq!(parallel, Length::Requests(34));
        let each = requests(&format!("{range} --key-pattern S:S"));
        assert_eq!(each, Length::Requests(1000));
    }

    #[test]
    fn a_fill_over_tls_never_has_a_second_request_in_a_record() {
        let depth = |line: &str| plan(line).unwrap().fill_depth();
        assert_eq!(depth("--fill --tls --tls-skip-verify"), 1);
        assert!(depth("--fill") > 1);
    }

    #[test]
    fn a_connection_timeout_of_0_is_none() {
        assert_eq!(
            plan("--connection-timeout=0").unwrap().connect_timeout,
            None
        );
    }

    #[test]
    fn a_limit_of_each_connection_is_an_open_loop_of_their_sum() {
        let plan = plan("-t 2 -c 5 -n 1000 --rate-limiting 100").unwrap();
        let Pace::Open { rate, arrival, .. } = plan.pace else {
            panic!()
        };
        assert_eq!((rate, arrival), (1000.0, Arrival::Constant));
        assert_eq!(plan.length, Length::Time(Duration::from_secs(10)));
    }

    #[test]
    fn no_option_is_both_understood_and_refused() {
        use clap::CommandFactory;
        for option in Args::command().get_arguments() {
            let name = format!("--{}", option.get_long().unwrap_or_default());
            assert_eq!(refused::sentence(&name), None);
            if let Some(letter) = option.get_short() {
                assert_eq!(refused::sentence(&format!("-{letter}")), None);
            }
        }
    }

    #[test]
    fn a_refused_option_is_told_from_a_value_that_looks_like_it() {
        let said = |arguments: &str| {
            let words = std::iter::once("strata-load").chain(arguments.split(' '));
            match Args::try_parse_from(words) {
                Ok(_) => None,
                Err(error) => Some(refused::of(&error).unwrap_or_default()),
            }
        };
        for (arguments, part) in [
            ("-t 1 --select-db=3 -c 2", "--select-db: is for Redis"),
            ("-auser:word", "-a: "),
            ("-a user:word", "-a: "),
            ("--command GET", "--ops"),
        ] {
            let sentence = said(arguments).unwrap();
            assert!(sentence.contains(part), "{arguments}: {sentence}");
        }
        assert_eq!(said("-n 1 --key-prefix=--tls --out-file=-u"), None);
        assert_eq!(said("-t 1 --ratio=1:1 --key-prefix u -D --debug"), None);
        // Unknown, but not memtier's: the usual words with the nearest name.
        assert_eq!(said("--piepline 4"), Some(String::new()));
    }

    #[test]
    fn a_long_option_may_be_shortened_as_getopt_allows() {
        let shortened = plan("--thr 2 --cli 3 --pipe 4 --test 1").unwrap();
        assert_eq!((shortened.threads, shortened.connections), (2, 3));
        assert_eq!(shortened.pace, Pace::Closed { depth: 4 });
        let sentence = plan("--key-m 4").unwrap_err();
        assert!(sentence.contains("--key-m"), "{sentence}");
    }

    #[test]
    fn an_open_loop_over_many_connections_keeps_to_its_bound() {
        let plan = plan("-t 1 -c 100000 --rate 1000 --test-time 1").unwrap();
        let Pace::Open { depth, .. } = plan.pace else {
            panic!()
        };
        assert_eq!(depth, crate::plan::OUTSTANDING_MAX / 100_000);
    }
}
