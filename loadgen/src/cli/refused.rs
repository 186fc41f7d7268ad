//! Options of memtier_benchmark that mean nothing here, each with the sentence that says why.
//!
//! Always true: a script that uses one of them learns so before anything is sent.

use clap::error::{ContextKind, ContextValue};

/// What only Redis has.
const REDIS: &str = "is for Redis alone, and memcached has nothing like it";
/// What has not been built.
const STATSD: &str =
    "is not in this tool; --json-out-file and --interval-log have the results by the second";
/// Neither has this.
const JITTER: &str = "is not in this tool: connections are all there before anything is measured";
/// Names with the reason, and with what to use instead where there is something.
const REFUSED: &[(&str, &str)] = &[
    ("--uri", REDIS),
    ("-u", REDIS),
    (
        "--cluster-mode",
        "is for Redis alone; name several servers with --server a,b,c",
    ),
    ("--select-db", REDIS),
    ("--wait-ratio", REDIS),
    ("--num-slaves", REDIS),
    ("--wait-timeout", REDIS),
    (
        "--command",
        "is for Redis alone; weigh memcached's verbs with --ops",
    ),
    (
        "--command-ratio",
        "is for Redis alone; weigh memcached's verbs with --ops",
    ),
    (
        "--command-key-pattern",
        "is for Redis alone; see --key-pattern",
    ),
    ("--command-stats-breakdown", REDIS),
    (
        "--monitor-input",
        "is for Redis alone; replay a trace with --trace",
    ),
    ("--monitor-pattern", REDIS),
    ("--scan-incremental-iteration", REDIS),
    ("--scan-incremental-max-iterations", REDIS),
    ("--data-offset", REDIS),
    (
        "--authenticate",
        "memcached's text protocols authenticate with a set, which is not in this tool",
    ),
    (
        "-a",
        "memcached's text protocols authenticate with a set, which is not in this tool",
    ),
    (
        "--data-import",
        "is not in this tool; replay a trace with --trace",
    ),
    (
        "--generate-keys",
        "belongs to --data-import, which is not in this tool",
    ),
    (
        "--no-expiry",
        "belongs to --data-import, which is not in this tool",
    ),
    (
        "--verify-only",
        "is not in this tool; --ratio 0:1 --data-verify reads and checks",
    ),
    (
        "--client-stats",
        "is not in this tool; --json-out-file has results by the second",
    ),
    ("--statsd-host", STATSD),
    ("--statsd-port", STATSD),
    ("--statsd-prefix", STATSD),
    ("--statsd-run-label", STATSD),
    ("--graphite-port", STATSD),
    (
        "--clients-start",
        "is not in this tool; --sweep goes through several loads",
    ),
    (
        "--clients-step",
        "is not in this tool; --sweep goes through several loads",
    ),
    (
        "--step-duration",
        "is not in this tool; --sweep goes through several loads",
    ),
    (
        "--reconnect-on-error",
        "a lost connection makes a run invalid and is not replaced",
    ),
    (
        "--max-reconnect-attempts",
        "a lost connection makes a run invalid and is not replaced",
    ),
    (
        "--reconnect-backoff-factor",
        "a lost connection makes a run invalid and is not replaced",
    ),
    ("--thread-conn-start-min-jitter-micros", JITTER),
    ("--thread-conn-start-max-jitter-micros", JITTER),
];

/// The sentence about one option, by its name.
pub fn sentence(name: &str) -> Option<String> {
    let (name, reason) = REFUSED.iter().find(|(refused, _)| *refused == name)?;
    Some(format!("{name}: {reason}"))
}

/// The sentence about the option that a command line was refused for, if it is one of these.
pub fn of(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = argument.split(['=', ' ']).next()?;
    sentence(name)
}
