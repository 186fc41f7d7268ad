//! What runs are told as: [`text`] for people, [`json`] for programs, [`page`] for a browser,
//! [`files`] for HdrHistogram's tools.
//!
//! Always true: each of them says if the runs are invalid, and all but the histogram files say so
//! before any number, as they say whether the loop was open or closed.

use std::time::Duration;

use crate::kind::Kind;
use crate::plan::{Pace, Plan};
use crate::run::Outcome;
use crate::tally::{KindTally, Latencies};
use crate::trial::Session;

pub mod chart;
pub mod config;
pub mod files;
pub mod json;
pub mod machine;
pub mod page;
pub mod text;

/// Everything a report needs.
pub struct Report<'a> {
    /// What was done.
    pub session: &'a Session,
    /// Percentiles to print, in percent.
    pub percentiles: Vec<f64>,
    /// Whether the latency distribution is printed.
    pub histogram: bool,
    /// Whether every run is printed, not only the best, the worst and all together.
    pub every_run: bool,
    /// The words it was started with.
    pub command: String,
    /// What it ran on, one line each.
    pub machine: Vec<(&'static str, String)>,
}

/// Results under one title.
pub struct Section {
    /// As memtier calls it.
    pub title: String,
    /// The results.
    pub outcome: Outcome,
}

impl Report<'_> {
    /// The plan of the runs.
    pub fn plan(&self) -> &Plan {
        &self.session.plan
    }

    /// Whether latency runs from due times.
    pub fn is_open(&self) -> bool {
        matches!(self.plan().pace, Pace::Open { .. })
    }

    /// Why the runs are not to be believed; empty when they are.
    pub fn invalid(&self) -> Vec<String> {
        let runs = &self.session.runs;
        let mut all: Vec<String> = self.session.failure.iter().cloned().collect();
        for (index, run) in runs.iter().enumerate() {
            for sentence in &run.invalid {
                all.push(if runs.len() > 1 {
                    format!("Run {}: {sentence}", index + 1)
                } else {
                    sentence.clone()
                });
            }
        }
        all
    }

    /// The sections in memtier's order: the only run, or of several the best, the worst, and all
    /// together. The last one is the headline. Histograms are added up, never averaged.
    pub fn sections(&self) -> Vec<Section> {
        let runs = &self.session.runs;
        let section = |title: &str, index: usize| Section {
            title: title.into(),
            outcome: runs[index].outcome.clone(),
        };
        if runs.len() == 1 {
            return vec![section("ALL STATS", 0)];
        }
        let rate = |index: &usize| {
            let outcome = &runs[*index].outcome;
            outcome.tally.count() as f64 / seconds(outcome)
        };
        let by_rate = |one: &usize, other: &usize| rate(one).total_cmp(&rate(other));
        let mut sections = Vec::new();
        if self.every_run {
            for index in 0..runs.len() {
                sections.push(section(&format!("RUN #{} RESULTS", index + 1), index));
            }
        }
        let best = (0..runs.len()).max_by(by_rate).unwrap_or(0);
        let worst = (0..runs.len()).min_by(by_rate).unwrap_or(0);
        sections.push(section("BEST RUN RESULTS", best));
        sections.push(section("WORST RUN RESULTS", worst));
        let title = format!("AGGREGATED AVERAGE RESULTS ({} runs)", runs.len());
        let mut all = section(&title, 0);
        for run in &runs[1..] {
            let outcome = run.outcome.clone();
            all.outcome.tally.merge(outcome.tally);
            all.outcome.measured += outcome.measured;
            all.outcome.fill_time += outcome.fill_time;
            all.outcome.interrupted |= outcome.interrupted;
        }
        sections.push(all);
        sections
    }

    /// The kinds that have a row: memtier's two, and those that occur.
    pub fn kinds(&self) -> Vec<Kind> {
        let workload = &self.plan().workload;
        Kind::ALL
            .into_iter()
            .filter(|&kind| {
                matches!(kind, Kind::Set | Kind::Get)
                    || (workload.occurs(kind)
                        && self
                            .session
                            .runs
                            .iter()
                            .any(|run| run.outcome.tally.of(kind).count > 0))
            })
            .collect()
    }

    /// The sentence that says what the latencies are.
    pub fn loop_sentence(&self) -> String {
        let plan = self.plan();
        let connections = match plan.addresses.len() {
            1 => format!("{} connections", plan.connection_count()),
            servers => format!(
                "{} clients with a connection to each of {servers} servers",
                plan.client_count()
            ),
        };
        match plan.pace {
            Pace::Closed { depth } => format!(
                "Closed loop: {connections} with {depth} outstanding {} each. Latency runs from \
                 sending; while the server stalls nothing is sent, so the tail is understated.",
                if depth == 1 { "request" } else { "requests" }
            ),
            Pace::Open {
                rate,
                depth,
                arrival,
            } => format!(
                "Open loop: {rate} requests a second over {connections}, {} arrivals, at most \
                 {depth} outstanding on each. Latency runs from the moment a request was due.",
                arrival.name()
            ),
        }
    }
}

/// The measured time.
fn seconds(outcome: &Outcome) -> f64 {
    outcome.measured.max(Duration::from_nanos(1)).as_secs_f64()
}

/// Milliseconds, the unit of memtier's reports.
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

fn mean_ms(latencies: &mut Latencies) -> f64 {
    let count = latencies.histogram().len();
    latencies.sum_ns() as f64 / 1e6 / count.max(1) as f64
}

/// One or all kinds of a section by name, for files and pages: `FULL` first.
fn named_tallies(report: &Report, outcome: &Outcome) -> Vec<(&'static str, KindTally)> {
    let mut all = vec![("FULL", outcome.tally.totals())];
    for kind in report.kinds() {
        let of_kind = outcome.tally.of(kind);
        if of_kind.count > 0 {
            all.push((kind.name(), of_kind.clone()));
        }
    }
    all
}
