//! The report as JSON in memtier_benchmark's layout (format version 2), with what memtier does
//! not measure under the key `Strata`.
//!
//! Always true: latencies are milliseconds as in memtier's files, and `Strata.valid` is `false`
//! whenever the text says INVALID.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::config::{configuration, whole_if_it_is};
use super::files::{compressed, in_us};
use super::{Report, mean_ms, ms, seconds, text};
use crate::kind::Kind;
use crate::plan::{Length, Pace};
use crate::run::Outcome;
use crate::tally::{KindTally, Latencies};
use crate::timeline::Timeline;
use crate::trial::{Judgement, POINT_PERCENTILES};
use crate::verdict::reasons_of_windows;
use crate::windows::WINDOW_PERCENTILES;

/// Percentiles that every file carries, besides those asked for.
const PERCENTILES: [f64; 4] = [50.0, 99.0, 99.9, 99.99];

/// Renders the whole report.
pub fn render(report: &Report) -> Value {
    let plan = report.plan();
    let mut whole = Map::new();
    whole.insert("configuration".into(), configuration(report));
    let mut information = Map::new();
    information.insert("Threads".into(), json!(plan.threads));
    information.insert("Connections per thread".into(), json!(plan.connections));
    let (length, value) = match plan.length {
        Length::Requests(count) => ("Requests per client", json!(count)),
        Length::Time(time) => ("Seconds", whole_if_it_is(time.as_secs_f64())),
        Length::Trace => ("Requests per client", json!(0)),
    };
    information.insert(length.into(), value);
    information.insert("Format version".into(), json!(2));
    whole.insert("run information".into(), information.into());
    let sections = report.sections();
    if let Some(headline) = sections.last() {
        whole.insert("Strata".into(), ours(report, &headline.outcome));
    }
    for section in &sections {
        whole.insert(section.title.clone(), stats(report, &section.outcome));
    }
    whole.into()
}

/// The results of one section in memtier's layout.
fn stats(report: &Report, outcome: &Outcome) -> Value {
    let mut stats = Map::new();
    let finished = outcome.started + outcome.measured;
    stats.insert(
        "Runtime".into(),
        json!({
            "Start time": epoch_ms(outcome.started),
            "Finish time": epoch_ms(finished),
            "Total duration": outcome.measured.as_millis() as u64,
            "Time unit": "MILLISECONDS",
            "Interrupted": flag(outcome.interrupted),
        }),
    );
    let errors = outcome.tally.faults.lost_connections;
    for of_kind in report.kinds() {
        let mut tally = outcome.tally.of(of_kind).clone();
        if of_kind == Kind::Set {
            // As memtier has it, a write neither hits nor misses.
            (tally.hits, tally.misses) = (0, 0);
        }
        stats.insert(of_kind.title().into(), kind(report, outcome, &mut tally, 0));
    }
    let mut none = KindTally::default();
    stats.insert("Waits".into(), kind(report, outcome, &mut none, 0));
    let mut all = outcome.tally.totals();
    (all.hits, all.misses) = outcome.tally.hits_and_misses();
    stats.insert("Totals".into(), kind(report, outcome, &mut all, errors));
    for of_kind in report.kinds() {
        let mut latency = outcome.tally.of(of_kind).latency.clone();
        stats.insert(of_kind.name().to_uppercase(), curve(&mut latency));
    }
    // As memtier has it where nothing was done.
    stats.insert("WAIT".into(), json!([{ "<=msec": 0.0, "percent": 100.0 }]));
    stats.into()
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn epoch_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis() as u64
}

fn ours(report: &Report, outcome: &Outcome) -> Value {
    let tally = &outcome.tally;
    let mut all = tally.totals();
    let (hits, misses) = tally.hits_and_misses();
    let seconds = seconds(outcome);
    let threads = report.plan().threads as f64;
    let mut lateness = tally.lateness.clone();
    let open = match report.plan().pace {
        Pace::Closed { .. } => Value::Null,
        Pace::Open { rate, arrival, .. } => json!({
            "rate": rate,
            "arrival": arrival.name(),
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
        "valid": report.invalid().is_empty(),
        "invalid": report.invalid(),
        "loop": report.plan().pace.name(),
        "meaning": report.loop_sentence(),
        "open": open,
        "measured seconds": outcome.measured.as_secs_f64(),
        "requests": all.count,
        "keys": all.key_count,
        "hits": hits,
        "misses": misses,
        "errors": tally.faults.errors,
        "wrong values": tally.faults.wrong_values,
        "misplaced replies": tally.faults.misplaced,
        "lost connections": tally.faults.lost_connections,
        "unanswered": tally.unanswered,
        "filled": outcome.filled,
        "fill seconds": outcome.fill_time.as_secs_f64(),
        "generator": {
            "version": env!("CARGO_PKG_VERSION"),
            "io": outcome.io,
            "cpu share": tally.cpu_ns as f64 / 1e9 / seconds / threads,
            "busy share": tally.busy_ns as f64 / 1e9 / seconds / threads,
            "turns": tally.turns,
        },
        "command": report.command,
        "machine": report.machine.iter().map(|(name, value)| (name.to_string(), json!(value))).collect::<Map<_, _>>(),
        "objective": report.session.objective.map(|objective| objective.to_string()),
        "points": points(report),
        "conclusion": report.session.conclusion,
        "windows": windows(report, outcome),
        "slowest connection": tally.fairness.slowest().map(|slowest| json!({
            "connections": slowest.of,
            "p50.00": ms(slowest.p50_ns),
            "p99.00": ms(slowest.p99_ns),
            "fewest requests": slowest.fewest,
            "most requests": slowest.most,
        })),
    })
}

/// The windows of an open loop, if it has any.
fn windows(report: &Report, outcome: &Outcome) -> Value {
    let windows = &outcome.tally.windows;
    let Some(summary) = windows.summary() else {
        return Value::Null;
    };
    let at = |values_ns: [u64; WINDOW_PERCENTILES.len()]| {
        let named = WINDOW_PERCENTILES.iter().zip(values_ns);
        named
            .map(|(percentile, ns)| (format!("p{percentile:.2}"), json!(ms(ns))))
            .collect::<Map<_, _>>()
    };
    let each = windows.figures().into_iter().map(|window| {
        json!({
            "requests": window.count,
            "counts": window.counts,
            "latency, due to done (msec)": at(window.latency_ns),
            "lateness (msec)": at(window.lateness_ns),
        })
    });
    json!({
        "seconds": windows.length_ns() as f64 / 1e9,
        "of": summary.of,
        "counted": summary.counted,
        "invalid": reasons_of_windows(report.plan(), outcome),
        "middle window (msec)": at(summary.middle_ns),
        "slowest tenth of windows (msec)": at(summary.slow_ns),
        "middle window's lateness (msec)": at(summary.lateness_ns),
        "each": each.collect::<Vec<_>>(),
    })
}

/// The runs of a sweep or search.
fn points(report: &Report) -> Value {
    let points = report.session.points.iter().map(|point| {
        let mut map = Map::new();
        map.insert("rate".into(), json!(point.rate));
        map.insert("achieved".into(), json!(point.achieved));
        for (percentile, latency_ns) in POINT_PERCENTILES.iter().zip(point.latency_ns) {
            map.insert(format!("p{percentile:.2}"), json!(ms(latency_ns)));
        }
        map.insert("max".into(), json!(ms(point.max_ns)));
        map.insert("lateness p99.00".into(), json!(ms(point.lateness_ns)));
        map.insert("runs".into(), json!(point.runs));
        let held = |_| point.judgement == Judgement::Held;
        map.insert("held".into(), json!(point.objective_ns.map(held)));
        let late = point.judgement == Judgement::Late;
        map.insert("generator late".into(), json!(late));
        map.insert("valid".into(), json!(point.invalid.is_empty()));
        map.insert("invalid".into(), json!(point.invalid));
        Value::from(map)
    });
    points.collect()
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

fn kind(
    report: &Report,
    outcome: &Outcome,
    tally: &mut KindTally,
    connection_errors: u64,
) -> Value {
    let seconds = seconds(outcome);
    let mean = mean_ms(&mut tally.latency);
    let sum = (tally.latency.sum_ns() / 1_000_000) as u64;
    let histogram = tally.latency.histogram();
    let (least, most) = (ms(histogram.min()), ms(histogram.max()));
    let mut points = Map::new();
    for percentile in percentiles(report) {
        let value_ns = histogram.value_at_quantile(percentile / 100.0);
        points.insert(format!("p{percentile:.2}"), json!(ms(value_ns)));
    }
    points.insert(
        "Histogram log format".into(),
        json!({ "Compressed Histogram": compressed(&in_us(histogram)) }),
    );
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
        "Time-Serie": series(&percentiles(report), &tally.timeline),
        "Percentile Latencies": points,
    })
}

/// Results over time by the second in which they begin. In a run longer than its intervals each
/// has several seconds.
fn series(percentiles: &[f64], timeline: &Timeline) -> Value {
    let mut series = Map::new();
    for (index, interval) in timeline.intervals().iter().enumerate() {
        if interval.count == 0 {
            continue;
        }
        let second = timeline.interval_ns() * index as u64 / 1_000_000_000;
        let latency = &interval.latency;
        let mut point = Map::new();
        point.insert("Count".into(), json!(interval.count));
        point.insert("Bytes RX".into(), json!(interval.bytes_received));
        point.insert("Bytes TX".into(), json!(interval.bytes_sent));
        let sum_ms = interval.sum_ns as f64 / 1e6;
        point.insert(
            "Average Latency".into(),
            json!(sum_ms / interval.count as f64),
        );
        point.insert("Accumulated Latency".into(), json!(sum_ms as u64));
        point.insert("Min Latency".into(), json!(ms(latency.min())));
        point.insert("Max Latency".into(), json!(ms(latency.max())));
        for percentile in percentiles {
            let value_ns = latency.value_at_quantile(percentile / 100.0);
            point.insert(format!("p{percentile:.2}"), json!(ms(value_ns)));
        }
        series.insert(second.to_string(), point.into());
    }
    series.into()
}

fn curve(latencies: &mut Latencies) -> Value {
    text::steps(latencies)
        .into_iter()
        .map(|(value_ms, percent)| json!({ "<=msec": value_ms, "percent": percent }))
        .collect()
}
