//! What comes of attacks, as a record and as a table.
//!
//! Always true: a run whose figures are not to be believed reaches no goal.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::attacker::MANY;
use super::door::Figures;
use super::seen::{Both, Seen};
use super::{MEMORY_MIB, PROCESS_SLACK_MIB};
use crate::record_file::Origin;
use crate::spread::cell;

/// The p99 of the well-behaved may become so many times what it was.
const P99_TIMES_MAX: f64 = 2.0;
/// Idle connections may cost so much each.
const IDLE_BYTES_MAX: u64 = 1024;

/// What came of one attack.
#[derive(Debug, Default, Serialize)]
pub struct Run {
    pub attack: &'static str,
    pub tells: &'static str,
    pub limit: &'static str,
    #[serde(flatten)]
    pub seen: Both,
    /// The same of the memcached.
    pub memcached: Option<Both>,
    /// The longest tick of the server during the attack, and what it did.
    pub longest_tick: String,
    pub resident_before_kib: u64,
    pub resident_during_kib: u64,
    pub peak_kib: u64,
    pub promised_kib: u64,
    /// Figures of `stats` and `stats workers` at the end of the attack.
    pub counters: Figures,
    /// What the attacker says.
    pub did: String,
}

/// All of them, and how they were made.
#[derive(Serialize)]
pub struct Record {
    #[serde(flatten)]
    pub origin: Origin,
    pub seconds: f64,
    pub rounds: usize,
    pub rate: u32,
    pub cores: String,
    /// The version of the memcached, if there was one.
    pub memcached: Option<String>,
    pub runs: Vec<Run>,
}

impl Run {
    fn is_bounded(&self) -> bool {
        self.peak_kib <= self.promised_kib
    }

    fn is_quick(&self) -> bool {
        let times = self.seen.times;
        times.is_some_and(|times| times.median <= P99_TIMES_MAX)
    }

    fn verdict(&self) -> &'static str {
        match (self.seen.invalid(), self.is_quick(), self.is_bounded()) {
            (Some(_), _, false) => "INVALID, memory exceeded",
            (Some(_), _, true) => "INVALID",
            (None, true, true) => "reached",
            (None, false, true) => "p99 missed",
            (None, true, false) => "memory missed",
            (None, false, false) => "both missed",
        }
    }

    /// One line of what came of it.
    pub fn line(&self) -> String {
        format!(
            "{:<18} p99 {:.3} -> {:.3} ms, times {}{}, peak {} of {} MiB: {}; {}",
            self.attack,
            self.seen.before.p99_ms,
            self.seen.during.p99_ms,
            cell(self.seen.times, 2),
            match &self.memcached {
                Some(seen) => format!(", memcached's {}", cell(seen.times, 2)),
                None => String::new(),
            },
            self.peak_kib >> 10,
            self.promised_kib >> 10,
            self.verdict(),
            self.seen.invalid().unwrap_or_else(|| self.did.clone()),
        )
    }
}

/// The record for people.
pub fn markdown(record: &Record) -> Result<String> {
    let mut text = record.origin.heading();
    writeln!(
        text,
        "A well-behaved open loop of {} requests a second over 50 connections (a tenth of them sets, 32-byte values), {} s \
         before and {} s during each attack in turn, in {} rounds; {}, `-t 1 -m {MEMORY_MIB}`. Figures are of the middle \
         window of a tenth of a second, which hides what strikes fewer than half of them; *slow p99* is what a tenth of \
         the windows exceed. Windows in which the client was late itself are left out; *counted* is how many of those \
         during the attack are not. *p99 times* is the middle of the rounds and in parentheses the least and the most of \
         them: of six, these two hold the true middle between them in 31 of 32 cases. The attacker has the kernel's idle priority: it takes what the server leaves \
         of its core and nothing of the client's, while the kernel's part of what it sends is paid on the server's core. \
         A process of the same priority keeps that core awake in both. *Stolen* is what the host took of the machine's \
         cores during the attack. Goal: the p99 of the well-behaved at most doubles in the middle round, and the peak of \
         the server's resident memory stays within what it promises at its start and {PROCESS_SLACK_MIB} MiB for the \
         process.{}\n",
        record.rate,
        record.seconds,
        record.seconds,
        record.rounds,
        record.cores,
        match &record.memcached {
            Some(version) => format!(
                " *memcached's* are the times of memcached {version}, attacked in the same way a moment before: what it feels \
                 too is the machine's."
            ),
            None => String::new(),
        }
    )?;
    writeln!(
        text,
        "| attack | p50 ms | p99 ms | p99.9 ms | slow p99 ms | p99 times | memcached's | counted | stolen | peak MiB | allowed MiB | goal |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|---|")?;
    for run in &record.runs {
        let pair = |of: fn(&Seen) -> f64| {
            format!("{:.3} → {:.3}", of(&run.seen.before), of(&run.seen.during))
        };
        let control = match &run.memcached {
            None => "-".to_owned(),
            Some(seen) if seen.invalid().is_some() => "invalid".to_owned(),
            Some(seen) => cell(seen.times, 2),
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {control} | {} of {} | {:.2} | {} | {} | {} |",
            run.attack,
            pair(|seen| seen.p50_ms),
            pair(|seen| seen.p99_ms),
            pair(|seen| seen.p999_ms),
            pair(|seen| seen.slow_p99_ms),
            cell(run.seen.times, 2),
            run.seen.during.windows,
            run.seen.during.of,
            run.seen.during.stolen_cores,
            run.peak_kib >> 10,
            run.promised_kib >> 10,
            run.verdict()
        )?;
    }
    writeln!(text)?;
    for run in &record.runs {
        let counters: Vec<String> = run
            .counters
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        writeln!(
            text,
            "- **{}**: {}. Limit: {}. The attacker: {}. `stats`: {}. Longest tick: {}.",
            run.attack,
            run.tells,
            run.limit,
            run.did,
            counters.join(", "),
            run.longest_tick
        )?;
        if run.attack == "idle_10000" {
            let grown = run
                .resident_during_kib
                .saturating_sub(run.resident_before_kib);
            let each = (grown << 10) / MANY as u64;
            let goal = if each <= IDLE_BYTES_MAX {
                "reached"
            } else {
                "missed"
            };
            writeln!(
                text,
                "  Resident memory grew by {grown} KiB, {each} bytes a connection; goal {IDLE_BYTES_MAX}: {goal}."
            )?;
        }
        if let Some(why) = run.seen.invalid() {
            writeln!(text, "  INVALID: {why}")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::seen::{Block, Window};
    use super::*;

    fn run(before_ms: f64, during_ms: f64, peak_kib: u64) -> Run {
        let block = |p99_ms| Block {
            windows: vec![
                Window {
                    p50_ms: 0.0,
                    p99_ms,
                    p999_ms: 0.0,
                    lag_p99_ms: 0.0,
                };
                2
            ],
            of: 2,
            ..Block::default()
        };
        Run {
            seen: Both::of(&[(block(before_ms), block(during_ms))]),
            peak_kib,
            promised_kib: 100,
            ..Run::default()
        }
    }

    #[test]
    fn a_goal_is_reached_by_both_figures_or_not() {
        assert_eq!(run(0.1, 0.19, 100).verdict(), "reached");
        assert_eq!(run(0.1, 0.21, 100).verdict(), "p99 missed");
        assert_eq!(run(0.1, 0.1, 101).verdict(), "memory missed");
        assert_eq!(run(0.1, 0.3, 101).verdict(), "both missed");
    }

    #[test]
    fn an_invalid_run_reaches_no_goal() {
        let mut wrong = run(0.1, 0.1, 1);
        wrong.seen.during.invalid.push("A reply was wrong.".into());
        assert_eq!(wrong.verdict(), "INVALID");
        wrong.peak_kib = 101;
        assert_eq!(wrong.verdict(), "INVALID, memory exceeded");
    }

    #[test]
    fn a_table_tells_times_with_their_extremes() {
        let record = Record {
            origin: Origin::default(),
            seconds: 1.0,
            rounds: 1,
            rate: 1,
            cores: String::new(),
            memcached: None,
            runs: vec![run(0.1, 0.25, 1)],
        };
        let text = markdown(&record).expect("text");
        assert!(
            text.contains("| 2.50 (2.50..2.50) | - | 2 of 2 |"),
            "{text}"
        );
    }
}
