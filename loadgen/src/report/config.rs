//! What was asked for, by memtier's names: for the JSON file and for `--show-config`.

use serde_json::{Map, Value, json};

use super::Report;
use crate::client::{Dialect, Verify};
use crate::plan::{Length, Pace, Plan};
use crate::transport::{Address, Family};
use crate::trial::Trials;
use crate::workload::{Amount, Mix, Pattern, Spread};

/// The configuration of a report.
pub fn configuration(report: &Report) -> Value {
    let runs = report.session.runs.len() as u32;
    of_plan(report.plan(), &Trials::Runs(runs))
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// What memtier writes for a range that was not given.
const NO_RANGE: &str = "0:0";

fn or(value: Value, otherwise: &str) -> Value {
    match value {
        Value::Null => json!(otherwise),
        value => value,
    }
}

/// A number as memtier writes those that it counts in whole ones, as long as this is one.
pub fn whole_if_it_is(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

/// The configuration of a plan, in memtier's order and with what memtier has not behind it. What
/// only memtier has is as it writes that when it is not used, so that its readers find it.
pub fn of_plan(plan: &Plan, trials: &Trials) -> Value {
    let workload = &plan.workload;
    let (server, port, socket) = match &plan.addresses[..] {
        [Address::Unix(path)] => (Value::Null, 0, json!(path.display().to_string())),
        [Address::Tcp(host, port)] => (json!(host), *port, Value::Null),
        _ => (json!(plan.servers()), 0, Value::Null),
    };
    let (pipeline, rate, arrival) = match plan.pace {
        Pace::Closed { depth } => (depth, 0.0, Value::Null),
        Pace::Open {
            rate,
            depth,
            arrival,
        } => (depth, rate, json!(arrival.name())),
    };
    let (ratio, keys_per_get) = match &workload.mix {
        Mix::Ratio {
            sets,
            gets,
            keys_per_get,
        } => (json!(format!("{sets}:{gets}")), *keys_per_get),
        _ => (Value::Null, 1),
    };
    let size = |fixed: bool, name: fn(&Spread) -> Option<String>| match &workload.sizes {
        Amount::Fixed(bytes) if fixed => json!(bytes),
        Amount::Fixed(_) => Value::Null,
        Amount::Drawn(spread) | Amount::ByKey(spread) | Amount::Growing(spread, ..) => {
            name(spread).map_or(Value::Null, Value::from)
        }
    };
    let of_gauss = |one: fn(f64, f64) -> f64| match workload.get_pattern {
        Pattern::Gauss { median, deviation } => one(median, deviation),
        _ => 0.0,
    };
    let tls = plan.tls.as_ref().map(|tls| tls.wanted.clone());
    let tls = tls.unwrap_or_default();
    let place_and_length = json!({
        "server": server,
        "port": port,
        "uri": "",
        "unix socket": socket,
        "address family": match plan.family {
            Family::Any => "Unspecified",
            Family::V4 => "AF_INET",
            Family::V6 => "AF_INET6",
        },
        "protocol": match plan.dialect {
            Dialect::Classic => "memcache_text",
            Dialect::Meta => "memcache_meta",
        },
        "out_file": null,
        "tls": if plan.tls.is_some() { "true" } else { "false" },
        "cert": tls.cert,
        "key": tls.key,
        "cacert": tls.cacert,
        "tls_skip_verify": if tls.skip_verify { "true" } else { "false" },
        "sni": tls.sni,
        "client_stats": null,
        "run_count": match trials {
            Trials::Runs(count) => *count,
            _ => 1,
        },
        "debug": 0,
        "requests": match plan.length {
            Length::Requests(count) => count,
            _ => 0,
        },
        "rate_limit": 0,
        "clients": plan.connections,
        "threads": plan.threads,
        "test_time": match plan.length {
            Length::Time(time) => whole_if_it_is(time.as_secs_f64()),
            _ => json!(0),
        },
    });
    let load = json!({
        "ratio": ratio,
        "pipeline": pipeline,
        "data_size": size(true, |_| None),
        "data_offset": 0,
        "random_data": "true",
        "data_size_range": or(size(false, range), NO_RANGE),
        "data_size_list": or(size(false, list), ""),
        "data_size_pattern": if matches!(workload.sizes, Amount::Growing(..)) { "S" } else { "R" },
        "expiry_range": or(amount(&workload.lives), NO_RANGE),
        "data_import": null,
        "data_verify": flag(plan.verify == Verify::Everything),
        "verify_only": "false",
        "generate_keys": "false",
        "key_prefix": workload.keys.prefix(),
        "key_minimum": workload.keys.minimum(),
        "key_maximum": workload.keys.maximum(),
        "key_pattern": format!(
            "{}:{}",
            workload.set_pattern.letter(),
            workload.get_pattern.letter()
        ),
        "key_stddev": of_gauss(|_, deviation| deviation),
        "key_median": of_gauss(|median, _| median),
        "key_zipf_exp": match workload.get_pattern {
            Pattern::Zipf { exponent }
            | Pattern::Scrambled { exponent }
            | Pattern::Latest { exponent } => exponent,
            _ => 0.0,
        },
        "reconnect_interval": plan.reconnect_interval.unwrap_or(0),
        "connection_timeout": whole_if_it_is(plan.connect_timeout.unwrap_or_default().as_secs_f64()),
        "thread_conn_start_min_jitter_micros": 0,
        "thread_conn_start_max_jitter_micros": 0,
        "multi_key_get": if keys_per_get == 1 { 0 } else { keys_per_get },
        "authenticate": "",
        "select-db": 0,
        "no-expiry": "false",
        "wait-ratio": NO_RANGE,
        "num-slaves": NO_RANGE,
        "wait-timeout": "0-0",
        "print-all-runs": "false",
    });
    let beyond_memtier = json!({
        "distinct_client_seed": flag(plan.distinct_seeds),
        "seed": plan.seed,
        "rate": rate,
        "arrival": arrival,
        "ops": ops(&workload.mix),
        "set_on_miss": flag(workload.set_on_miss),
        "fresh_share": workload.fresh_share,
        "warmup": plan.warmup.as_secs_f64(),
        "fill": flag(plan.fill),
        "expect_hits": plan.expect_hits,
        "wait": if plan.looks { "look" } else { "sleep" },
        "silence": whole_if_it_is(plan.silence.as_secs_f64()),
    });
    let mut all = Map::new();
    for part in [place_and_length, load, beyond_memtier] {
        if let Value::Object(members) = part {
            all.extend(members);
        }
    }
    all.into()
}

/// The lines of `--show-config`.
pub fn lines(configuration: &Value) -> String {
    let empty = Map::new();
    configuration
        .as_object()
        .unwrap_or(&empty)
        .iter()
        .map(|(name, value)| match value {
            Value::Null => format!("{name} = \n"),
            Value::String(text) => format!("{name} = {text}\n"),
            other => format!("{name} = {other}\n"),
        })
        .collect()
}

fn range(spread: &Spread) -> Option<String> {
    match spread {
        Spread::Range(least, most) => Some(format!("{least}:{most}")),
        _ => None,
    }
}

fn list(spread: &Spread) -> Option<String> {
    let Spread::Weighted(list) = spread else {
        return None;
    };
    let mut before = 0;
    let words: Vec<String> = list
        .iter()
        .map(|&(until, number)| {
            let weight = until - before;
            before = until;
            format!("{number}:{weight}")
        })
        .collect();
    Some(words.join(","))
}

fn amount(amount: &Amount) -> Value {
    match amount {
        Amount::Fixed(0) => Value::Null,
        Amount::Fixed(number) => json!(format!("{number}:{number}")),
        Amount::Drawn(spread) | Amount::ByKey(spread) | Amount::Growing(spread, ..) => {
            json!(range(spread).or_else(|| list(spread)))
        }
    }
}

fn ops(mix: &Mix) -> Value {
    let Mix::Weights(list) = mix else {
        return Value::Null;
    };
    let words: Vec<String> = list
        .iter()
        .map(|one| match one.key_count {
            1 => format!("{}:{}", one.kind.name(), one.weight),
            keys => format!("mget{keys}:{}", one.weight),
        })
        .collect();
    json!(words.join(","))
}
