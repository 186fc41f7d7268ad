//! What a run is told as: [`text`] for people, [`json`] for programs.
//!
//! Always true: both say whether the loop was open or closed and whether the run is valid, before
//! any number.

use crate::plan::{Pace, Plan};
use crate::run::Outcome;
use crate::tally::{KindTally, Latencies};

pub mod json;
pub mod text;

/// A run with everything a report needs.
pub struct Report<'a> {
    /// What was asked.
    pub plan: &'a Plan,
    /// What happened.
    pub outcome: Outcome,
    /// Why the run is invalid; empty when it is valid.
    pub invalid: Vec<String>,
    /// Percentiles to print, in percent.
    pub percentiles: Vec<f64>,
    /// Whether the latency distribution is printed.
    pub histogram: bool,
}

impl Report<'_> {
    fn is_open(&self) -> bool {
        matches!(self.plan.pace, Pace::Open { .. })
    }

    /// The sentence that says what the latencies are.
    pub fn loop_sentence(&self) -> String {
        match self.plan.pace {
            Pace::Closed { depth } => format!(
                "Closed loop: {} connections with {depth} outstanding {} each. Latency runs from \
                 sending; while the server stalls nothing is sent, so the tail is understated.",
                self.plan.connection_count(),
                if depth == 1 { "request" } else { "requests" }
            ),
            Pace::Open {
                rate,
                depth,
                arrival,
            } => format!(
                "Open loop: {rate} requests a second over {} connections, {} arrivals, at most \
                 {depth} outstanding on each. Latency runs from the moment a request was due.",
                self.plan.connection_count(),
                format!("{arrival:?}").to_lowercase()
            ),
        }
    }

    fn seconds(&self) -> f64 {
        self.outcome.measured.as_secs_f64().max(1e-9)
    }
}

/// Sets and gets together.
fn totals(outcome: &Outcome) -> KindTally {
    let (sets, gets) = (&outcome.tally.sets, &outcome.tally.gets);
    let joined = |one: &Latencies, other: &Latencies| {
        let mut joined = one.clone();
        joined.merge(other.clone());
        joined
    };
    let mut seconds = sets.seconds.clone();
    for (mine, theirs) in seconds.iter_mut().zip(&gets.seconds) {
        mine.count += theirs.count;
        mine.sum_ns += theirs.sum_ns;
        mine.max_ns = mine.max_ns.max(theirs.max_ns);
    }
    KindTally {
        count: sets.count + gets.count,
        key_count: sets.key_count + gets.key_count,
        hits: gets.hits,
        misses: gets.misses,
        bytes_sent: sets.bytes_sent + gets.bytes_sent,
        bytes_received: sets.bytes_received + gets.bytes_received,
        latency: joined(&sets.latency, &gets.latency),
        service: joined(&sets.service, &gets.service),
        lag: joined(&sets.lag, &gets.lag),
        seconds,
    }
}

/// Milliseconds, the unit of memtier's reports.
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn mean_ms(latencies: &mut Latencies) -> f64 {
    let count = latencies.histogram().len();
    latencies.sum_ns() as f64 / 1e6 / count.max(1) as f64
}
