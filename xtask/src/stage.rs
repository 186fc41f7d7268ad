//! Stages of a long run: each announces itself, is timed, and ends in one line of the table at the end.
//!
//! A stage that could not run is never silent and never green: it is its own kind of outcome, and a strict run
//! counts it as a failure.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How a stage ended.
pub enum Outcome {
    /// It ran and everything held.
    Passed,
    /// It could not run, and why.
    NotRun(String),
}

impl Outcome {
    /// Says what did not run, for a stage that is a whole command.
    pub fn print(self) {
        if let Self::NotRun(reason) = self {
            eprintln!("NOT RUN: {reason}");
        }
    }
}

/// The stages run so far.
pub struct Stages {
    strict: bool,
    lines: Vec<Line>,
}

struct Line {
    name: &'static str,
    time: Duration,
    end: End,
}

enum End {
    Passed,
    Failed(String),
    NotRun(String),
}

impl Stages {
    /// An empty table. `strict` turns a stage that did not run into a failure.
    pub fn new(strict: bool) -> Self {
        Self {
            strict,
            lines: Vec::new(),
        }
    }

    /// Runs one stage and remembers how it ended. An error fails this stage only; the next ones still run.
    pub fn run(&mut self, name: &'static str, stage: impl FnOnce() -> Result<Outcome>) {
        eprintln!("\n=== {name} ===");
        let start = Instant::now();
        let end = match stage() {
            Ok(Outcome::Passed) => End::Passed,
            Ok(Outcome::NotRun(reason)) if self.strict => End::Failed(format!("NOT RUN: {reason}")),
            Ok(Outcome::NotRun(reason)) => End::NotRun(reason),
            Err(error) => End::Failed(format!("{error:#}")),
        };
        let time = start.elapsed();
        eprintln!(
            "=== {name}: {} in {:.1} s ===",
            end.word(),
            time.as_secs_f64()
        );
        if let End::Failed(reason) | End::NotRun(reason) = &end {
            eprintln!("    {reason}");
        }
        self.lines.push(Line { name, time, end });
    }

    /// Whether no stage failed.
    pub fn all_well(&self) -> bool {
        !self
            .lines
            .iter()
            .any(|line| matches!(line.end, End::Failed(_)))
    }

    /// The table: one line a stage, then the totals as the last line.
    pub fn table(&self) -> String {
        let mut table = String::new();
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        for line in &self.lines {
            let reason = match &line.end {
                End::Passed => {
                    passed += 1;
                    ""
                }
                End::Failed(reason) => {
                    failed += 1;
                    reason
                }
                End::NotRun(reason) => {
                    skipped += 1;
                    reason
                }
            };
            let first = reason.lines().next().unwrap_or_default();
            let (name, seconds, word) = (line.name, line.time.as_secs_f64(), line.end.word());
            let text = format!("{name:<14} {seconds:>7.1} s  {word:<8} {first}");
            writeln!(table, "{}", text.trim_end()).expect("a String takes everything");
        }
        write!(table, "{passed} passed, {failed} failed, {skipped} skipped")
            .expect("a String takes everything");
        table
    }
}

impl End {
    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "pass",
            Self::Failed(_) => "FAIL",
            Self::NotRun(_) => "NOT RUN",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(strict: bool) -> Stages {
        let mut stages = Stages::new(strict);
        stages.run("good", || Ok(Outcome::Passed));
        stages.run("absent", || Ok(Outcome::NotRun("no such tool".into())));
        stages
    }

    #[test]
    fn a_stage_that_did_not_run_is_shown_and_counted_apart() {
        let stages = stages(false);
        assert!(stages.all_well());
        let table = stages.table();
        assert!(table.contains("NOT RUN  no such tool"), "{table}");
        assert!(table.ends_with("1 passed, 0 failed, 1 skipped"), "{table}");
    }

    #[test]
    fn a_strict_run_fails_when_a_stage_did_not_run() {
        let stages = stages(true);
        assert!(!stages.all_well());
        assert!(stages.table().ends_with("1 passed, 1 failed, 0 skipped"));
    }

    #[test]
    fn a_failed_stage_does_not_stop_the_next() {
        let mut stages = Stages::new(false);
        stages.run("bad", || anyhow::bail!("it broke"));
        stages.run("good", || Ok(Outcome::Passed));
        assert!(!stages.all_well());
        assert!(stages.table().ends_with("1 passed, 1 failed, 0 skipped"));
    }
}
