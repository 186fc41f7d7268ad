//! Options of memtier_benchmark that mean nothing here, each with the sentence that says why.
//!
//! Always true: a script that uses one of them learns so before anything is sent.

/// What only Redis has.
const REDIS: &str = "is for Redis alone, and memcached has nothing like it";
/// What has not been built.
const ABSENT: &str = "is not in this tool";
/// What waits for the server.
const TLS: &str = "there is no TLS in this tool";

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
    ("--statsd-host", ABSENT),
    ("--statsd-port", ABSENT),
    ("--statsd-prefix", ABSENT),
    ("--statsd-run-label", ABSENT),
    ("--graphite-port", ABSENT),
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
    ("--thread-conn-start-min-jitter-micros", ABSENT),
    ("--thread-conn-start-max-jitter-micros", ABSENT),
    ("--debug", "there is nothing more to print"),
    ("-D", "there is nothing more to print"),
    ("--tls", TLS),
    ("--cert", TLS),
    ("--key", TLS),
    ("--cacert", TLS),
    ("--tls-skip-verify", TLS),
    ("--tls-protocols", TLS),
    ("--sni", TLS),
];

/// The sentence about the first such option among `arguments`.
pub fn sentence(arguments: impl IntoIterator<Item = String>) -> Option<String> {
    arguments.into_iter().find_map(|argument| {
        let name = argument
            .split_once('=')
            .map_or(&*argument, |(name, _)| name);
        let (name, reason) = REFUSED.iter().find(|(refused, _)| *refused == name)?;
        Some(format!("{name}: {reason}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_option_is_refused_with_its_name_and_a_reason() {
        let said = |text: &str| sentence(text.split(' ').map(String::from));
        let refused = said("-t 1 --select-db=3 -c 2").unwrap();
        assert!(refused.starts_with("--select-db: "), "{refused}");
        assert!(refused.contains("Redis"), "{refused}");
        assert!(said("--command GET").unwrap().contains("--ops"));
        assert_eq!(said("-t 1 --ratio=1:1 --key-prefix u"), None);
    }
}
