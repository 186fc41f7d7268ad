//! `stats latency`: how long requests took inside the server, and its longest ticks. Strata's own;
//! [`crate::latency`] says what is counted.

use strata_protocol::reply::Sink;

use super::{Snapshot, line};
use crate::config::LONG_TICKS_KEPT;
use crate::latency::ticks::LongTick;
use crate::latency::{Class, Durations};
use crate::shared::Shared;

/// The quantiles that are told, by name.
pub const QUANTILES: [(&str, f64); 4] = [
    ("p50", 0.5),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.9999),
];

/// Nanoseconds as microseconds, to the tenth.
#[must_use]
pub fn micros(ns: u64) -> String {
    format!("{}.{}", ns / 1000, ns % 1000 / 100)
}

/// The classes of which requests were answered since the last reset.
pub fn classes(shared: &Shared) -> impl Iterator<Item = (Class, Durations)> {
    Class::ALL
        .into_iter()
        .map(|class| (class, shared.durations(class, None)))
        .filter(|(_, durations)| durations.count > 0)
}

/// The longest ticks of all workers, the longest first, each with its worker.
#[must_use]
pub fn long_ticks(sum: &Snapshot) -> Vec<(usize, LongTick)> {
    let mut ticks: Vec<(usize, LongTick)> = Vec::new();
    for worker in &sum.workers {
        ticks.extend(worker.long_ticks.iter().map(|tick| (worker.index, *tick)));
    }
    ticks.sort_by_key(|(_, tick)| std::cmp::Reverse(tick.took_ns));
    ticks.truncate(LONG_TICKS_KEPT);
    ticks
}

/// The lines, without the last.
pub(super) fn latency(sum: &Snapshot, shared: &Shared, out: &mut impl Sink) {
    for (class, durations) in classes(shared) {
        let name = class.name();
        line(out, &format!("{name}:count"), durations.count);
        for (quantile, share) in QUANTILES {
            let ns = durations.quantile_ns(share);
            line(out, &format!("{name}:{quantile}_us"), micros(ns));
        }
        line(out, &format!("{name}:max_us"), micros(durations.max_ns));
    }
    for (at, (worker, tick)) in long_ticks(sum).into_iter().enumerate() {
        let name = |what: &str| format!("long_tick_{at}:{what}");
        line(out, &name("us"), micros(tick.took_ns));
        line(out, &name("worker"), worker);
        line(out, &name("unix_s"), tick.unix_s);
        line(out, &name("events"), tick.events);
        line(out, &name("lent_bytes"), tick.lent_bytes);
        for (what, number) in tick.work.numbers() {
            line(out, &name(what), number);
        }
    }
}
