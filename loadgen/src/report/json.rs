//! The report as JSON in memtier_benchmark's layout (format version 2), with what memtier does
//! not measure under the key `Strata`.
//!
//! Always true: latencies are milliseconds as in memtier's files, and `Strata.valid` is `false`
//! whenever the text says INVALID.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde_json::{Map, Value, json};

use super::{Report, mean_ms, ms, text, totals};
use crate::client::Verify;
use crate::plan::{Length, Pace};
use crate::tally::{KindTally, Latencies};
use crate::transport::Address;
use crate::workload::Pattern;

/// Percentiles that every file carries, besides those asked for.
const PERCENTILES: [f64; 4] = [50.0, 99.0, 99.9, 99.99];

/// Renders the whole report.
pub fn render(report: &Report) -> Value {
    let plan = report.plan;
    let mut stats = Map::new();
    let finished = report.outcome.started + report.outcome.measured;
    stats.insert(
        "Runtime".into(),
        json!({
            "Start time": epoch_ms(report.outcome.started),
            "Finish time": epoch_ms(finished),
            "Total duration": report.outcome.measured.as_millis() as u64,
            "Time unit": "MILLISECONDS",
            "Interrupted": flag(report.outcome.interrupted),
        }),
    );
    let mut sets = report.outcome.tally.sets.clone();
    let mut gets = report.outcome.tally.gets.clone();
    let mut all = totals(&report.outcome);
    let errors = report.outcome.tally.faults.lost_connections;
    stats.insert("Sets".into(), kind(report, &mut sets, 0));
    stats.insert("Gets".into(), kind(report, &mut gets, 0));
    stats.insert("Waits".into(), kind(report, &mut KindTally::default(), 0));
    stats.insert("Totals".into(), kind(report, &mut all, errors));
    stats.insert("SET".into(), curve(&mut sets.latency));
    stats.insert("GET".into(), curve(&mut gets.latency));
    stats.insert("WAIT".into(), json!([]));
    json!({
        "configuration": configuration(report),
        "run information": {
            "Threads": plan.threads,
            "Connections per thread": plan.connections,
            "Requests per client": requests(report),
            "Format version": 2,
        },
        "Strata": ours(report, &mut all),
        "ALL STATS": stats,
    })
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn epoch_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis() as u64
}

fn requests(report: &Report) -> u64 {
    match report.plan.length {
        Length::Requests(count) => count,
        Length::Time(_) => 0,
    }
}

fn configuration(report: &Report) -> Value {
    let plan = report.plan;
    let workload = &plan.workload;
    let (server, port, socket) = match &plan.address {
        Address::Tcp(host, port) => (json!(host), *port, Value::Null),
        Address::Unix(path) => (Value::Null, 0, json!(path.display().to_string())),
    };
    let (least, most) = workload.exptime;
    let (pipeline, rate) = match plan.pace {
        Pace::Closed { depth } => (depth, 0.0),
        Pace::Open { rate, depth, .. } => (depth, rate),
    };
    json!({
        "server": server,
        "port": port,
        "unix socket": socket,
        "protocol": "memcache_text",
        "run_count": 1,
        "requests": requests(report),
        "rate_limit": 0,
        "rate": rate,
        "clients": plan.connections,
        "threads": plan.threads,
        "test_time": match plan.length {
            Length::Time(time) => time.as_secs_f64(),
            Length::Requests(_) => 0.0,
        },
        "ratio": format!("{}:{}", workload.set_share, workload.get_share),
        "pipeline": pipeline,
        "data_size": workload.value_bytes,
        "expiry_range": if most == 0 { Value::Null } else { json!(format!("{least}-{most}")) },
        "data_verify": flag(plan.verify == Verify::Everything),
        "key_prefix": workload.keys.prefix(),
        "key_minimum": workload.keys.minimum(),
        "key_maximum": workload.keys.maximum(),
        "key_pattern": format!("{}:{}", letter(workload.set_pattern), letter(workload.get_pattern)),
        "key_zipf_exp": match workload.get_pattern {
            Pattern::Zipf { exponent } => json!(exponent),
            _ => Value::Null,
        },
        "multi_key_get": if workload.keys_per_get == 1 { 0 } else { workload.keys_per_get },
        "distinct_client_seed": flag(plan.distinct_seeds),
        "seed": plan.seed,
    })
}

fn letter(pattern: Pattern) -> char {
    match pattern {
        Pattern::Uniform => 'R',
        Pattern::Gauss { .. } => 'G',
        Pattern::Sequential => 'S',
        Pattern::Parallel => 'P',
        Pattern::Zipf { .. } => 'Z',
    }
}

fn ours(report: &Report, all: &mut KindTally) -> Value {
    let tally = &report.outcome.tally;
    let seconds = report.seconds();
    let mut lateness = tally.lateness.clone();
    let open = match report.plan.pace {
        Pace::Closed { .. } => Value::Null,
        Pace::Open { rate, arrival, .. } => json!({
            "rate": rate,
            "arrival": format!("{arrival:?}").to_lowercase(),
            "offered": tally.offered,
            "answered in time": tally.answered_in_time,
            "unanswered": tally.unanswered,
            "unsent": tally.unsent,
            "latency, due to done (msec)": summary(report, &mut all.latency),
            "service, sent to done (msec)": summary(report, &mut all.service),
            "lag, due to sent (msec)": summary(report, &mut all.lag),
            "lateness, the generator's part of it (msec)": summary(report, &mut lateness),
        }),
    };
    json!({
        "valid": report.invalid.is_empty(),
        "invalid": report.invalid,
        "loop": report.plan.pace.name(),
        "meaning": report.loop_sentence(),
        "open": open,
        "measured seconds": report.outcome.measured.as_secs_f64(),
        "requests": all.count,
        "keys": all.key_count,
        "hits": all.hits,
        "misses": all.misses,
        "errors": tally.faults.errors,
        "wrong values": tally.faults.wrong_values,
        "misplaced replies": tally.faults.misplaced,
        "lost connections": tally.faults.lost_connections,
        "unanswered": tally.unanswered,
        "filled": report.outcome.filled,
        "fill seconds": report.outcome.fill_time.as_secs_f64(),
        "generator": {
            "version": env!("CARGO_PKG_VERSION"),
            "io": report.outcome.io,
            "cpu share": tally.cpu_ns as f64 / 1e9 / seconds / report.plan.threads as f64,
            "busy share": tally.busy_ns as f64 / 1e9 / seconds / report.plan.threads as f64,
            "turns": tally.turns,
        },
    })
}

fn percentiles(report: &Report) -> Vec<f64> {
    let mut all = PERCENTILES.to_vec();
    all.extend(&report.percentiles);
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

fn summary(report: &Report, latencies: &mut Latencies) -> Value {
    let mut map = Map::new();
    let mean = mean_ms(latencies);
    let histogram = latencies.histogram();
    map.insert("mean".into(), json!(mean));
    for percentile in percentiles(report) {
        let value_ns = histogram.value_at_quantile(percentile / 100.0);
        map.insert(format!("p{percentile:.2}"), json!(ms(value_ns)));
    }
    map.insert("max".into(), json!(ms(histogram.max())));
    map.into()
}

fn kind(report: &Report, tally: &mut KindTally, connection_errors: u64) -> Value {
    let seconds = report.seconds();
    let mean = mean_ms(&mut tally.latency);
    let sum = tally.latency.sum_ns() as f64 / 1e6;
    let histogram = tally.latency.histogram();
    let (least, most) = (ms(histogram.min()), ms(histogram.max()));
    let mut points = Map::new();
    for percentile in percentiles(report) {
        let value_ns = histogram.value_at_quantile(percentile / 100.0);
        points.insert(format!("p{percentile:.2}"), json!(ms(value_ns)));
    }
    points.insert(
        "Histogram log format".into(),
        json!({ "Compressed Histogram": compressed(histogram) }),
    );
    let mut series = Map::new();
    for (second, point) in tally.seconds.iter().enumerate() {
        if point.count > 0 {
            series.insert(
                second.to_string(),
                json!({
                    "Count": point.count,
                    "Average Latency": point.sum_ns as f64 / 1e6 / point.count as f64,
                    "Accumulated Latency": point.sum_ns as f64 / 1e6,
                    "Max Latency": ms(point.max_ns),
                }),
            );
        }
    }
    let kb = |bytes: u64| bytes as f64 / 1024.0 / seconds;
    json!({
        "Count": tally.count,
        "Ops/sec": tally.count as f64 / seconds,
        "Hits/sec": tally.hits as f64 / seconds,
        "Misses/sec": tally.misses as f64 / seconds,
        "Connection Errors/sec": connection_errors as f64 / seconds,
        "Connection Errors": connection_errors,
        "Latency": mean,
        "Average Latency": mean,
        "Accumulated Latency": sum,
        "Min Latency": least,
        "Max Latency": most,
        "KB/sec": kb(tally.bytes_sent + tally.bytes_received),
        "KB/sec RX/TX": kb(tally.bytes_sent + tally.bytes_received),
        "KB/sec RX": kb(tally.bytes_received),
        "KB/sec TX": kb(tally.bytes_sent),
        "Time-Serie": series,
        "Percentile Latencies": points,
    })
}

/// The histogram in microseconds, memtier's unit, in the compressed form HdrHistogram tools read.
fn compressed(histogram: &Histogram<u64>) -> String {
    let mut in_us =
        Histogram::<u64>::new_with_bounds(1, 6_000_000_000, 3).expect("the bounds are valid");
    for step in histogram.iter_recorded() {
        let value_us = step.value_iterated_to() / 1000;
        in_us.saturating_record_n(value_us, step.count_at_value());
    }
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(&in_us, &mut bytes)
        .expect("writing to memory does not fail");
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn curve(latencies: &mut Latencies) -> Value {
    text::steps(latencies)
        .into_iter()
        .map(|(value_ms, percent)| json!({ "<=msec": value_ms, "percent": percent }))
        .collect()
}
