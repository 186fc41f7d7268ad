//! What was measured, as a table for people and as JSON for programs.
//!
//! Always true: a run that is invalid contributes no number to a median, only its reasons; each
//! median stands beside its extremes and the number of rounds behind it; ratios are taken within a
//! round, where both sides met the same machine, and say how sure they are.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::OTHERS_MAX;
use super::subject::STRATA;
use super::turns::TURN;
use super::workload::Workload;
use crate::record_file::Origin;
use crate::spread::{Estimate, Spread, cell};

/// One run of one subject.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Shot {
    /// Which round it belongs to.
    pub round: usize,
    /// How often it was made again, because others disturbed it.
    pub made_again: usize,
    /// Whether it has no numbers at all, because a server or a client failed.
    pub lost: bool,
    /// Why its numbers do not count; empty when they do.
    pub invalid: Vec<String>,
    /// Keys a second, read or written.
    pub ops_per_s: f64,
    /// The measured time.
    pub seconds: f64,
    /// Server time in user mode for each key, in microseconds.
    pub user_us: f64,
    /// Server time in the kernel for each key, in microseconds.
    pub system_us: f64,
    /// Share of the measured time the server's threads ran, 1 for each core.
    pub server_share: f64,
    /// Context switches of the server for a thousand keys.
    pub switches_per_thousand: f64,
    /// Resident memory of the server at the end, in MiB.
    pub resident_mib: f64,
    /// Hits among the keys read.
    pub hit_ratio: Option<f64>,
    /// Share of its time in which the client had something to do.
    pub client_busy: f64,
    /// Cores kept busy by neither server nor client.
    pub others: f64,
    /// Cores taken by the host.
    pub stolen: f64,
    /// Offered requests a second; open loop only.
    pub rate: Option<f64>,
    /// Milliseconds from due to done at [`PERCENTILES`]; open loop only.
    pub latency_ms: Option<[f64; 4]>,
    /// Milliseconds from due to sent at the 99th percentile; open loop only.
    pub lag_p99_ms: Option<f64>,
    /// The same run by pieces of its time; open loop only.
    pub windows: Option<Windows>,
    /// The connection that was served worst, where the workload asks for it.
    pub slowest: Option<Slowest>,
}

/// An open loop by windows of its time, as `strata-load --window` tells them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Windows {
    /// Why they do not count, which the lag of the whole run does not decide; empty when they do.
    pub invalid: Vec<String>,
    /// Length of a window in milliseconds.
    pub length_ms: f64,
    /// Windows in which the generator was in time.
    pub counted: f64,
    /// All of them.
    pub of: f64,
    /// Milliseconds of the middle window at the first three of [`PERCENTILES`].
    pub middle_ms: [f64; 3],
    /// Of the window that a tenth of them exceed.
    pub slow_ms: [f64; 3],
    /// How late the generator was in the middle window, which is a part of the latency there.
    pub lateness_ms: [f64; 3],
}

impl Windows {
    /// The middle window in the words of a line about its run.
    pub fn line(&self) -> String {
        let [p50, p99, p999] = self.middle_ms;
        let which = if self.invalid.is_empty() {
            "middle window"
        } else {
            "too few windows"
        };
        format!(
            "; {which} p50 {p50:.3} ms, p99 {p99:.3} ms, p99.9 {p999:.3} ms ({} of {})",
            self.counted, self.of
        )
    }
}

/// The worst that any connection met.
#[derive(Clone, Debug, Serialize)]
pub struct Slowest {
    /// The highest median of any, in milliseconds.
    pub p50_ms: f64,
    /// The highest 99th percentile of any.
    pub p99_ms: f64,
    /// Fewest requests that any had answered.
    pub fewest: f64,
    /// Most.
    pub most: f64,
}

/// The percentiles of an open loop, with the names they have in reports.
pub const PERCENTILES: [&str; 4] = ["p50.00", "p99.00", "p99.90", "p99.99"];

impl Shot {
    /// A run that failed. Its reason is the first line of the error, because behind it is what a program printed.
    pub fn lost(error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        let reason = text.lines().next().unwrap_or_default();
        Self {
            lost: true,
            invalid: vec![format!("No figures: {reason}.")],
            ..Self::default()
        }
    }

    /// How much of a core others had, the host among them.
    pub fn disturbance(&self) -> f64 {
        self.others.max(self.stolen)
    }

    /// Server time for each key, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

/// All runs of one subject under one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// The subject's name.
    pub subject: String,
    /// What it says it is.
    pub version: String,
    /// Whether it was given as a peer.
    pub peer: bool,
    /// Closed loop: how much it does, and for how much CPU.
    pub peak: Vec<Shot>,
    /// Open loop: latency at the same offered rate for all.
    pub latency: Vec<Shot>,
}

/// All runs under one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The workload's name.
    pub workload: String,
    /// What it is for.
    pub about: String,
    /// What is to be known of how it was measured here.
    pub note: Option<String>,
    /// By subject.
    pub series: Vec<Series>,
}

/// A whole record.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Where, when, what and how.
    #[serde(flatten)]
    pub origin: Origin,
    /// Rounds of each.
    pub rounds: usize,
    /// Seconds of each run.
    pub seconds: f64,
    /// Rounds of each in the open loop.
    pub open_rounds: usize,
    /// Seconds of each of its runs.
    pub open_seconds: f64,
    /// Cores of servers and of the client.
    pub cores: String,
    /// By workload.
    pub sections: Vec<Section>,
    /// What was aimed at.
    pub goals: Vec<Goal>,
}

/// Something aimed at, and what was reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// Of which workload.
    pub workload: String,
    /// Which ratio.
    pub ratio: String,
    /// The most it may be.
    pub at_most: f64,
    /// What it is; absent when there is no round in which the runs of both sides are valid.
    pub reached: Option<Estimate>,
}

/// The goals of these workloads, as far as both sides were measured.
pub fn goals(workloads: &[Workload], sections: &[Section]) -> Vec<Goal> {
    let mut all = Vec::new();
    for workload in workloads {
        let name = workload.name.as_str();
        let Some(section) = sections.iter().find(|one| one.workload == name) else {
            continue;
        };
        let Some(strata) = section.of(STRATA) else {
            continue;
        };
        let mut add = |what: &str, subject: &str, at_most: f64, reached: Option<Estimate>| {
            all.push(Goal {
                workload: name.into(),
                ratio: format!("{what} ÷ {subject}"),
                at_most,
                reached,
            });
        };
        let named = |goals: &BTreeMap<String, f64>| -> Vec<(String, f64)> {
            let named = goals.iter();
            named
                .map(|(name, at_most)| (workload.subject_of(name), *at_most))
                .collect()
        };
        let mut cpu_to = named(&workload.goals.cpu_to);
        if let Some(at_most) = workload.goals.cpu_to_peers {
            let peers = section.series.iter().filter(|one| one.peer);
            cpu_to.extend(peers.map(|peer| (peer.subject.clone(), at_most)));
        }
        for (subject, at_most) in cpu_to {
            if let Some(other) = section.of(&subject) {
                let reached = ratio(&strata.peak, &other.peak, Shot::cpu_us);
                add("CPU", &subject, at_most, reached);
            }
        }
        for (subject, at_most) in named(&workload.goals.p999_to) {
            if let Some(other) = section.of(&subject)
                && !strata.latency.is_empty()
            {
                let reached = windows_ratio(&strata.latency, &other.latency);
                add("p99.9 of the middle window", &subject, at_most, reached);
            }
        }
    }
    all
}

impl Section {
    /// An empty section.
    pub fn new(workload: &Workload) -> Self {
        Self {
            workload: workload.name.clone(),
            about: workload.about.clone(),
            note: None,
            series: Vec::new(),
        }
    }

    /// The runs of a subject.
    fn of(&self, subject: &str) -> Option<&Series> {
        self.series.iter().find(|one| one.subject == subject)
    }

    /// Adds a sentence that is to be known of how it was measured.
    pub fn remark(&mut self, sentence: &str) {
        let note = self.note.get_or_insert_default();
        if !note.is_empty() {
            note.push(' ');
        }
        note.push_str(sentence);
    }

    /// The subjects that had an open loop.
    fn open_loops(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|one| !one.latency.is_empty())
    }

    /// All of its runs.
    fn shots(&self) -> impl Iterator<Item = &Shot> {
        let series = self.series.iter();
        series.flat_map(|series| series.peak.iter().chain(&series.latency))
    }

    /// How many of them failed.
    pub fn lost(&self) -> usize {
        self.shots().filter(|shot| shot.lost).count()
    }

    /// Length of a window of its open loop.
    fn window_ms(&self) -> f64 {
        let shots = self.open_loops().flat_map(|series| &series.latency);
        let mut windows = shots.filter_map(|shot| shot.windows.as_ref());
        windows.next().map_or(0.0, |windows| windows.length_ms)
    }
}

fn valid<'a>(shots: &'a [Shot], value: impl Fn(&Shot) -> f64 + 'a) -> Option<Spread> {
    let counted = shots.iter().filter(|shot| shot.invalid.is_empty());
    Spread::of(counted.map(value))
}

/// Ratio of two series round by round.
fn ratio(ours: &[Shot], theirs: &[Shot], value: impl Fn(&Shot) -> f64) -> Option<Estimate> {
    let counted = |shot: &Shot| shot.invalid.is_empty().then(|| value(shot));
    ratio_of(ours, theirs, counted)
}

/// Ratio of the p99.9 of middle windows round by round.
fn windows_ratio(ours: &[Shot], theirs: &[Shot]) -> Option<Estimate> {
    let p999_ms = |shot: &Shot| windows_valid(shot).map(|windows| windows.middle_ms[2]);
    ratio_of(ours, theirs, p999_ms)
}

/// Ratio round by round of what counts on both sides.
fn ratio_of(
    ours: &[Shot],
    theirs: &[Shot],
    value: impl Fn(&Shot) -> Option<f64>,
) -> Option<Estimate> {
    let ratios = ours.iter().filter_map(|one| {
        let other = theirs.iter().find(|other| other.round == one.round)?;
        Some(value(one)? / value(other)?)
    });
    Estimate::of(ratios)
}

/// The windows of a run, if they count.
fn windows_valid(shot: &Shot) -> Option<&Windows> {
    let windows = shot.windows.as_ref()?;
    windows.invalid.is_empty().then_some(windows)
}

fn middle(estimate: Option<Estimate>) -> String {
    estimate.map_or("".into(), |estimate| format!("{:.3}", estimate.median))
}

fn short(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("".into(), |spread| format!("{:.digits$}", spread.median))
}

/// The record as Markdown.
pub fn markdown(record: &Record) -> String {
    let mut out = String::new();
    write_record(record, &mut out).expect("a string takes any text");
    out
}

fn write_record(record: &Record, out: &mut String) -> std::fmt::Result {
    out.push_str(&record.origin.heading());
    writeln!(
        out,
        "Medians of {} interleaved rounds of {} s, least and most in parentheses; {}. Each run has \
         a server of its own. *CPU* is user and system time of the server process in the measured \
         time, divided by the keys read or written in it. Ratios are taken within a round, in which \
         closed loops run by turns of {} ms. The open loop had {} rounds of {} s.",
        record.rounds,
        record.seconds,
        record.cores,
        TURN.as_millis(),
        record.open_rounds,
        record.open_seconds
    )?;
    for section in &record.sections {
        writeln!(out, "\n## {}\n\n{}.\n", section.workload, section.about)?;
        if let Some(note) = &section.note {
            writeln!(out, "{note}\n")?;
        }
        peak_table(section, out)?;
        if section.open_loops().next().is_some() {
            latency_table(section, out)?;
            window_table(section, out)?;
        }
        slowest_table(section, out)?;
        invalid_list(section, out)?;
    }
    goal_table(&record.goals, out)?;
    writeln!(out, "\n## Versions\n")?;
    let mut seen = Vec::new();
    for series in record.sections.iter().flat_map(|section| &section.series) {
        let line = (&series.subject, &series.version);
        if !seen.contains(&line) {
            writeln!(out, "- {}: {}", line.0, line.1)?;
            seen.push(line);
        }
    }
    Ok(())
}

fn peak_table(section: &Section, out: &mut String) -> std::fmt::Result {
    let (memcached, floor) = (section.of("memcached"), section.of("null-ring"));
    writeln!(
        out,
        "Closed loop. Where the server is below 100 % busy the client was the limit, and CPU is the figure to look at.\n"
    )?;
    writeln!(
        out,
        "| server | CPU µs/op | user | system | ÷ memcached | ÷ null-ring | ops/s | server busy | client busy | switches/1000 | RSS MiB | hit ratio |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
    for series in &section.series {
        let shots = &series.peak;
        let against = |other: Option<&Series>| match other {
            Some(other) => middle(ratio(shots, &other.peak, Shot::cpu_us)),
            None => String::new(),
        };
        let hits = shots
            .iter()
            .filter(|shot| shot.invalid.is_empty())
            .filter_map(|shot| shot.hit_ratio);
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} % | {} % | {} | {} | {} |",
            series.subject,
            cell(valid(shots, Shot::cpu_us), 3),
            short(valid(shots, |shot| shot.user_us), 3),
            short(valid(shots, |shot| shot.system_us), 3),
            against(memcached),
            against(floor),
            cell(valid(shots, |shot| shot.ops_per_s), 0),
            short(valid(shots, |shot| shot.server_share * 100.0), 0),
            short(valid(shots, |shot| shot.client_busy * 100.0), 0),
            short(valid(shots, |shot| shot.switches_per_thousand), 2),
            short(valid(shots, |shot| shot.resident_mib), 0),
            short(Spread::of(hits), 4),
        )?;
    }
    let Some(strata) = section.of(STRATA) else {
        return Ok(());
    };
    let others = section.series.iter().filter(|one| one.subject != STRATA);
    for (index, other) in others.enumerate() {
        if index == 0 {
            writeln!(
                out,
                "\nCPU of {STRATA} in the same rounds: the middle ratio, the limits it lies between, and how surely.\n"
            )?;
        }
        let ratio = ratio(&strata.peak, &other.peak, Shot::cpu_us);
        let words = ratio.map_or("invalid".into(), |ratio| {
            format!(
                "{:.3} ({}, {})",
                ratio.median,
                limits(ratio),
                certainty(ratio)
            )
        });
        writeln!(out, "- ÷ {}: {words}", other.subject)?;
    }
    Ok(())
}

fn limits(of: Estimate) -> String {
    format!("{:.3}..{:.3}", of.low, of.high)
}

fn certainty(of: Estimate) -> String {
    let plural = if of.rounds == 1 { "" } else { "s" };
    format!(
        "{:.0} % by {} round{plural}",
        of.confidence * 100.0,
        of.rounds
    )
}

fn goal_table(goals: &[Goal], out: &mut String) -> std::fmt::Result {
    if goals.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n## Goals\n\nThe middle of the rounds' ratios says yes or NO. It is *not decided* where the limits have the goal \
         between them, or there are too few rounds for limits that hold at 95 %: another run may well say the other.\n"
    )?;
    writeln!(
        out,
        "| workload | ratio | at most | reached | between | surely | |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for goal in goals {
        write!(
            out,
            "| {} | {} | {} | ",
            goal.workload, goal.ratio, goal.at_most
        )?;
        match goal.reached {
            None => writeln!(out, "invalid | | | |")?,
            Some(reached) => writeln!(
                out,
                "{:.3} | {} | {} | {}{} |",
                reached.median,
                limits(reached),
                certainty(reached),
                if reached.median <= goal.at_most {
                    "yes"
                } else {
                    "NO"
                },
                if reached.decides(goal.at_most) {
                    ""
                } else {
                    ", not decided"
                },
            )?,
        }
    }
    Ok(())
}

fn latency_table(section: &Section, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "\nOpen loop, Poisson arrivals, the same rate for all; milliseconds from the moment a request was due.\n"
    )?;
    writeln!(
        out,
        "| server | offered/s | p50 | p99 | p99.9 | p99.99 | generator's lag p99 | client busy | CPU µs/op |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for series in section.open_loops() {
        let shots = &series.latency;
        let rate = short(Spread::of(shots.iter().filter_map(|shot| shot.rate)), 0);
        let at = |index: usize| {
            cell(
                valid(shots, |shot| {
                    shot.latency_ms.map_or(f64::NAN, |latency| latency[index])
                }),
                3,
            )
        };
        writeln!(
            out,
            "| {} | {rate} | {} | {} | {} | {} | {} | {} % | {} |",
            series.subject,
            at(0),
            at(1),
            at(2),
            at(3),
            short(valid(shots, |shot| shot.lag_p99_ms.unwrap_or(f64::NAN)), 3),
            short(valid(shots, |shot| shot.client_busy * 100.0), 0),
            short(valid(shots, Shot::cpu_us), 3),
        )?;
    }
    Ok(())
}

fn window_table(section: &Section, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "\nThe same runs by windows of {} ms, each with percentiles of its own: the middle window of a run, and the \
         p99.9 that a tenth of its windows exceed. The middle hides what strikes fewer than half of the windows, so the \
         machine's gaps as well as any rare stall of the server's. *Counted* are windows in which the generator was in time; \
         what it was late nevertheless is a part of the latency.\n",
        section.window_ms()
    )?;
    writeln!(
        out,
        "| server | p50 | p99 | p99.9 | p99.9 ÷ memcached | ÷ null-ring | p99.9 of the slowest tenth | lateness p99.9 | counted |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|")?;
    for series in section.open_loops() {
        let of = |value: &dyn Fn(&Windows) -> f64| {
            Spread::of(series.latency.iter().filter_map(windows_valid).map(value))
        };
        let against = |subject: &str| {
            let other = section.of(subject)?;
            windows_ratio(&series.latency, &other.latency)
        };
        let all = series
            .latency
            .iter()
            .filter_map(|shot| shot.windows.as_ref());
        let (counted, whole) = all.fold((0.0, 0.0), |(counted, whole), windows| {
            (counted + windows.counted, whole + windows.of)
        });
        let share = match whole {
            0.0 => String::new(),
            _ => format!("{:.0} %", 100.0 * counted / whole),
        };
        writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {share} |",
            series.subject,
            cell(of(&|windows| windows.middle_ms[0]), 3),
            cell(of(&|windows| windows.middle_ms[1]), 3),
            cell(of(&|windows| windows.middle_ms[2]), 3),
            middle(against("memcached")),
            middle(against("null-ring")),
            short(of(&|windows| windows.slow_ms[2]), 3),
            short(of(&|windows| windows.lateness_ms[2]), 3),
        )?;
    }
    Ok(())
}

fn slowest_table(section: &Section, out: &mut String) -> std::fmt::Result {
    fn shots(series: &Series) -> [(&'static str, &[Shot]); 2] {
        [("closed", &series.peak), ("open", &series.latency)]
    }
    let asked = |shots: &[Shot]| shots.iter().any(|shot| shot.slowest.is_some());
    let rows: Vec<_> = section
        .series
        .iter()
        .flat_map(|series| shots(series).map(|(which, shots)| (&series.subject, which, shots)))
        .filter(|(_, _, shots)| asked(shots))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\nThe connection that was served worst, in milliseconds: the highest median and the highest 99th percentile of \
         any connection, and the fewest and most requests that one had answered.\n"
    )?;
    writeln!(out, "| server | loop | p50 | p99 | fewest | most |")?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    for (subject, which, shots) in rows {
        let of = |value: fn(&Slowest) -> f64| {
            valid(shots, move |shot| {
                shot.slowest.as_ref().map_or(f64::NAN, value)
            })
        };
        writeln!(
            out,
            "| {subject} | {which} | {} | {} | {} | {} |",
            cell(of(|slowest| slowest.p50_ms), 1),
            cell(of(|slowest| slowest.p99_ms), 1),
            short(of(|slowest| slowest.fewest), 0),
            short(of(|slowest| slowest.most), 0),
        )?;
    }
    Ok(())
}

fn invalid_list(section: &Section, out: &mut String) -> std::fmt::Result {
    let mut lines = Vec::new();
    for series in &section.series {
        for (which, shots) in [("closed", &series.peak), ("open", &series.latency)] {
            let bad = shots.iter().filter(|shot| !shot.invalid.is_empty());
            for shot in bad {
                lines.push(format!(
                    "- {}, {which} loop, round {}: {}",
                    series.subject,
                    shot.round + 1,
                    shot.invalid.join(" ")
                ));
            }
        }
    }
    if !lines.is_empty() {
        writeln!(out, "\nInvalid runs, not counted above:\n")?;
        for line in lines {
            writeln!(out, "{line}")?;
        }
    }
    let made_again: usize = section.shots().map(|shot| shot.made_again).sum();
    if made_again > 0 {
        writeln!(
            out,
            "\nMade again, because others had too much of a core: {made_again} of {} runs.",
            made_again + section.shots().count()
        )?;
    }
    let disturbed = || {
        section
            .shots()
            .map(Shot::disturbance)
            .filter(|&had| had > OTHERS_MAX)
    };
    if disturbed().count() > 0 {
        writeln!(
            out,
            "\nIn {} of the runs above they had too much nevertheless, up to {:.0} %: the machine was not quiet.",
            disturbed().count(),
            disturbed().fold(0.0, f64::max) * 100.0
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::workload;
    use super::*;

    fn shot(round: usize, user_us: f64, invalid: &[&str]) -> Shot {
        Shot {
            round,
            user_us,
            invalid: invalid.iter().map(|&reason| reason.to_owned()).collect(),
            ..Shot::default()
        }
    }

    #[test]
    fn an_invalid_run_contributes_no_number() {
        let shots = [
            shot(0, 1.0, &[]),
            shot(1, 100.0, &["It is off."]),
            shot(2, 3.0, &[]),
        ];
        let spread = valid(&shots, Shot::cpu_us).expect("two runs");
        assert_eq!((spread.median, spread.most, spread.count), (2.0, 3.0, 2));
        assert_eq!(cell(valid(&shots[1..2], Shot::cpu_us), 1), "invalid");
    }

    #[test]
    fn a_ratio_pairs_runs_of_the_same_round() {
        let ours = [shot(0, 1.0, &[]), shot(1, 4.0, &[]), shot(2, 9.0, &[])];
        let theirs = [shot(2, 3.0, &[]), shot(0, 2.0, &[]), shot(1, 1.0, &["x"])];
        let ratio = ratio(&ours, &theirs, Shot::cpu_us).expect("two pairs");
        assert_eq!((ratio.low, ratio.high, ratio.rounds), (0.5, 3.0, 2));
    }

    #[test]
    fn a_goal_says_yes_or_no_and_whether_its_rounds_decide_it() {
        let goal = |ratios: &[f64]| Goal {
            workload: "w".into(),
            ratio: "r".into(),
            at_most: 1.5,
            reached: Estimate::of(ratios.iter().copied()),
        };
        let goals = [
            goal(&[1.0, 1.1, 1.2, 1.3, 1.4, 1.5]),
            goal(&[1.0, 1.1, 1.2, 1.3, 1.4, 1.6]),
            goal(&[1.0, 1.6, 1.6, 1.6, 1.6, 1.6]),
            goal(&[1.6; 6]),
            goal(&[1.5, 1.5, 1.5]),
            goal(&[]),
        ];
        let mut text = String::new();
        goal_table(&goals, &mut text).expect("text");
        let ends: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| w | r | 1.5 | "))
            .collect();
        let expected = [
            "1.250 | 1.000..1.500 | 97 % by 6 rounds | yes |",
            "1.250 | 1.000..1.600 | 97 % by 6 rounds | yes, not decided |",
            "1.600 | 1.000..1.600 | 97 % by 6 rounds | NO, not decided |",
            "1.600 | 1.600..1.600 | 97 % by 6 rounds | NO |",
            "1.500 | 1.500..1.500 | 75 % by 3 rounds | yes, not decided |",
            "invalid | | | |",
        ];
        assert_eq!(ends, expected, "{text}");
    }

    fn series(subject: &str, cpu: f64, p999: f64) -> Series {
        Series {
            subject: subject.into(),
            version: String::new(),
            peer: subject == "guest",
            peak: vec![shot(0, cpu, &[])],
            latency: vec![Shot {
                // The lag of the whole run does not decide on its windows.
                invalid: vec!["It was late.".into()],
                windows: Some(Windows {
                    middle_ms: [0.0, 0.0, p999],
                    ..Windows::default()
                }),
                ..Shot::default()
            }],
        }
    }

    #[test]
    fn goals_compare_what_the_workload_names() {
        let workload = workload(
            "[[variants]]\nname = \"one worker\"\n[goals]\ncpu_to_peers = 1.0\n\
             [goals.cpu_to]\nmemcached = 0.6\n\"one worker\" = 1.3\nnull-ring = 2.0\n\
             [goals.p999_to]\n\"one worker\" = 1.5\n",
        );
        let section = Section {
            workload: "w".into(),
            about: String::new(),
            note: None,
            series: vec![
                series("strata", 1.0, 3.0),
                series("memcached", 2.0, 9.0),
                series("strata, one worker", 0.8, 2.0),
                series("guest", 4.0, 1.0),
            ],
        };
        let found: Vec<(String, f64, f64)> = goals(&[workload], &[section])
            .into_iter()
            .map(|goal| {
                let reached = goal.reached.expect("a round of both").median;
                (goal.ratio, goal.at_most, reached)
            })
            .collect();
        let expected = [
            ("CPU ÷ memcached", 0.6, 0.5),
            ("CPU ÷ strata, one worker", 1.3, 1.25),
            ("CPU ÷ guest", 1.0, 0.25),
            ("p99.9 of the middle window ÷ strata, one worker", 1.5, 1.5),
        ];
        assert_eq!(
            found,
            expected.map(|(what, most, is)| (what.to_owned(), most, is))
        );
    }

    #[test]
    fn what_strata_is_compared_with_stands_with_its_limits() {
        let section = Section {
            series: vec![series("strata", 1.0, 3.0), series("memcached", 2.0, 9.0)],
            ..Section::new(&workload(""))
        };
        let mut text = String::new();
        peak_table(&section, &mut text).expect("text");
        let line = "- ÷ memcached: 0.500 (0.500..0.500, 0 % by 1 round)\n";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("÷ strata"), "{text}");
    }

    #[test]
    fn a_lost_run_is_named_without_what_a_program_printed() {
        let error = anyhow::anyhow!("it ended with 3\nat /some/where");
        let mut section = Section::new(&workload(""));
        section.series.push(Series {
            subject: "s".into(),
            version: "v".into(),
            peer: false,
            peak: vec![Shot::lost(&error)],
            latency: vec![Shot::lost(&error)],
        });
        let mut text = String::new();
        latency_table(&section, &mut text).expect("text");
        window_table(&section, &mut text).expect("text");
        invalid_list(&section, &mut text).expect("text");
        let line = "- s, open loop, round 1: No figures: it ended with 3.\n";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("where") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn an_invalid_run_is_named_with_its_reason() {
        let record = Record {
            origin: Origin::default(),
            rounds: 1,
            seconds: 1.0,
            open_rounds: 1,
            open_seconds: 1.0,
            cores: "cores".into(),
            goals: Vec::new(),
            sections: vec![Section {
                workload: "w".into(),
                about: "a".into(),
                note: None,
                series: vec![Series {
                    subject: "s".into(),
                    version: "v".into(),
                    peer: false,
                    peak: vec![shot(0, 77.25, &["It is off."])],
                    latency: Vec::new(),
                }],
            }],
        };
        let text = markdown(&record);
        assert!(
            text.contains("s, closed loop, round 1: It is off."),
            "{text}"
        );
        assert!(!text.contains("77.25"), "{text}");
    }
}
