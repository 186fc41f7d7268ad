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

/// The configuration of a plan, in memtier's order and with what memtier has not behind it.
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
    json!({
        "server": server,
        "port": port,
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
        "run_count": match trials {
            Trials::Runs(count) => *count,
            _ => 1,
        },
        "requests": match plan.length {
            Length::Requests(count) => count,
            _ => 0,
        },
        "rate_limit": 0,
        "clients": plan.connections,
        "threads": plan.threads,
        "test_time": match plan.length {
            Length::Time(time) => time.as_secs_f64(),
            _ => 0.0,
        },
        "ratio": ratio,
        "pipeline": pipeline,
        "data_size": size(true, |_| None),
        "data_size_range": size(false, range),
        "data_size_list": size(false, list),
        "data_size_pattern": if matches!(workload.sizes, Amount::Growing(..)) { "S" } else { "R" },
        "expiry_range": amount(&workload.lives),
        "data_verify": flag(plan.verify == Verify::Everything),
        "key_prefix": workload.keys.prefix(),
        "key_minimum": workload.keys.minimum(),
        "key_maximum": workload.keys.maximum(),
        "key_pattern": format!(
            "{}:{}",
            workload.set_pattern.letter(),
            workload.get_pattern.letter()
        ),
        "key_zipf_exp": match workload.get_pattern {
            Pattern::Zipf { exponent }
            | Pattern::Scrambled { exponent }
            | Pattern::Latest { exponent } => json!(exponent),
            _ => Value::Null,
        },
        "reconnect_interval": plan.reconnect_interval.unwrap_or(0),
        "multi_key_get": if keys_per_get == 1 { 0 } else { keys_per_get },
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
    })
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
        Spread::Range(least, most) => Some(format!("{least}-{most}")),
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
        Amount::Fixed(number) => json!(format!("{number}-{number}")),
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
