//! What the page and other programs are told: `/stats.json`, `/config`, `/hotkeys`.
//!
//! Numbers are numbers and units stand in the names. Counters are totals, so that whoever asks twice
//! can tell what happened in between; histograms are told as the buckets that hold something.

use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use super::Report;
use crate::boot::Control;
use crate::config::{HOT_KEYS_TOLD, IoChoice, SAMPLE_EVERY};
use crate::hotkeys::ranking;
use crate::latency::Class;
use crate::session::Tail;
use crate::stats::held::by_seconds;
use crate::stats::latency::{QUANTILES, long_ticks};
use crate::stats::{self, Figure, Snapshot};

/// `/stats.json`. What nobody counts is null.
pub fn stats(report: &Report, control: &Control) -> String {
    let now = control.clock.now();
    let sum = &report.sum;
    let settings = &control.shared.process.settings;
    let general = stats::general(sum, &control.shared, &now);
    let general: Map<String, Value> = general
        .into_iter()
        .map(|(name, value)| (name.to_owned(), figure(value)))
        .collect();
    let (sampled, hot) = hot_keys(&report.hot, HOT_KEYS_TOLD);
    json!({
        "name": concat!("strata ", env!("CARGO_PKG_VERSION")),
        "elapsed_ms": now.elapsed_ns / 1_000_000,
        "stats": general,
        "workers": workers(sum),
        "latency": settings.latency.then(|| latency(control)),
        "long_ticks": ticks(sum),
        "ttl": held(&report.shape.ttl, "ttl_min_s"),
        "ages": held(&report.shape.ages, "age_min_s"),
        "hot_sampled": sampled * u64::from(SAMPLE_EVERY),
        "hot_keys": settings.hot_keys.then_some(hot),
    })
    .to_string()
}

/// `/hotkeys`.
pub fn hotkeys(text: &[u8], most: usize) -> String {
    let (sampled, list) = hot_keys(text, most);
    json!({"sampled": sampled, "sampled_one_in": SAMPLE_EVERY, "hot_keys": list}).to_string()
}

/// `/config`: the settings in force, by memcached's names where it has them.
pub fn config(control: &Control) -> String {
    let shared = &control.shared;
    let settings = &shared.process.settings;
    let mut text = Vec::new();
    stats::settings(shared, &mut Tail(&mut text));
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(|line| line.strip_prefix("STAT "));
    let mut all: Map<String, Value> = lines
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), figure(Figure::Text(value.to_owned()))))
        .collect();
    let addresses =
        |list: &[SocketAddr]| -> Vec<String> { list.iter().map(SocketAddr::to_string).collect() };
    let io = match settings.io {
        IoChoice::Epoll => "epoll",
        IoChoice::Auto | IoChoice::Uring => "io_uring",
    };
    let own = [
        ("listen", json!(addresses(&shared.process.bound))),
        (
            "shard_listen",
            json!(addresses(&shared.process.shards_bound)),
        ),
        ("io", json!(io)),
        ("pinned", json!(settings.pin)),
        ("drain_seconds", json!(settings.drain.as_secs())),
        ("lock_memory", json!(settings.lock_memory)),
        ("watch_enabled", json!(settings.watch)),
        ("admin_token", json!(settings.admin_token.is_some())),
        ("without_effect", json!(settings.unheeded)),
    ];
    all.extend(own.map(|(name, value)| (name.to_owned(), value)));
    Value::Object(all).to_string()
}

/// A number where it is one.
fn figure(figure: Figure) -> Value {
    match figure {
        Figure::Count(count) => json!(count),
        Figure::Text(text) => match (text.parse::<u64>(), text.parse::<f64>()) {
            (Ok(count), _) => json!(count),
            (_, Ok(number)) if number.is_finite() => json!(number),
            _ => json!(text),
        },
    }
}

fn workers(sum: &Snapshot) -> Vec<Value> {
    let mut list: Vec<_> = sum.workers.iter().collect();
    list.sort_by_key(|worker| worker.index);
    let one = |worker: &&stats::WorkerFigures| {
        let numbers = worker.numbers();
        let numbers = numbers.into_iter();
        let numbers = numbers.map(|(name, _, _, number)| (name.to_owned(), json!(number)));
        let mut told: Map<String, Value> = numbers.collect();
        told.insert("index".into(), json!(worker.index));
        Value::Object(told)
    };
    list.iter().map(one).collect()
}

fn latency(control: &Control) -> Value {
    let one = |class: Class| {
        let durations = control.shared.durations(class, None);
        let mut told = json!({
            "count": durations.count,
            "max_ns": durations.max_ns,
            "buckets": durations.buckets().collect::<Vec<_>>(),
        });
        for (name, share) in QUANTILES {
            told[format!("{name}_ns")] = json!(durations.quantile_ns(share));
        }
        (class.name().to_owned(), told)
    };
    Value::Object(Class::ALL.into_iter().map(one).collect())
}

fn ticks(sum: &Snapshot) -> Vec<Value> {
    let one = |(worker, tick): &(usize, crate::latency::ticks::LongTick)| {
        let mut told = json!({
            "worker": worker,
            "took_us": tick.took_ns as f64 / 1000.0,
            "unix_s": tick.unix_s,
            "events": tick.events,
            "lent_bytes": tick.lent_bytes,
        });
        for (name, number) in tick.work.numbers() {
            told[name] = json!(number);
        }
        told
    };
    long_ticks(sum).iter().map(one).collect()
}

fn held(text: &[u8], least: &str) -> Vec<Value> {
    let one = |(seconds, [segments, items, bytes]): (Option<u32>, [u64; 3])| json!({least: seconds, "segments": segments, "items": items, "bytes": bytes});
    by_seconds(text).into_iter().map(one).collect()
}

fn hot_keys(text: &[u8], most: usize) -> (u64, Vec<Value>) {
    let (sampled, list) = ranking(text, most);
    let round = |number: f64| (number * 1000.0).round() / 1000.0;
    let list = list.into_iter().map(|hot| {
        json!({
            "key": hot.key,
            "percent": round(hot.percent),
            "percent_least": round(hot.percent_least),
            "writes_percent": round(hot.writes_percent),
        })
    });
    (sampled, list.collect())
}
