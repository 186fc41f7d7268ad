//! What well-behaved clients see before and during an attack, as figures.
//!
//! Before and during are measured in turn, a block of windows each, and compared within a round: what the machine is
//! like for some seconds is then in both. A window in which the client itself was late is left out, by its own
//! lateness alone and never by a latency; a block that keeps fewer than two makes no pair.
//!
//! Always true: what is compared is what the client saw, its own lateness within the windows that count among it
//! before as during: taking off what is as long as the figure leaves nothing to compare with; figures of too few pairs
//! are marked with the reason, and so are those of a client that was not answered rightly.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::report::{number, reasons};
use crate::spread::Spread;

/// Windows that must count for a block to tell anything.
const WINDOWS_LEAST: usize = 2;
/// How the client says that it was late in too many windows: here that is decided over a block.
const LATE: &str = "The generator was in time in only";
/// How it says that not all was answered before the end. A block is so short that the machine's last gap decides
/// that, and what was due then has its latency in a window all the same.
const SHORT: &str = "of the offered";

/// One window of a client's time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// How late the client was itself.
    pub lag_p99_ms: f64,
}

/// What one measurement saw.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    /// The windows in which the client was in time.
    pub windows: Vec<Window>,
    /// How many there were with the others.
    pub of: usize,
    /// Cores that the host took away meanwhile.
    pub stolen_cores: f64,
    /// Why it is not to be believed.
    pub invalid: Vec<String>,
}

/// Several blocks in a few figures, of the middle window unless they say otherwise.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Seen {
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    /// The p99 that a tenth of the windows exceed.
    pub slow_p99_ms: f64,
    /// How late the client was itself.
    pub lag_p99_ms: f64,
    /// Windows that count, and those there were.
    pub windows: usize,
    pub of: usize,
    pub stolen_cores: f64,
    pub invalid: Vec<String>,
}

/// What the well-behaved saw of a server, and what the attack did to it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Both {
    pub before: Seen,
    pub during: Seen,
    /// How many times the p99 became, round by round.
    pub times: Option<Spread>,
    /// Why there are too few rounds to tell.
    pub too_few: Option<String>,
}

impl Block {
    /// Reads what the client reports of its windows.
    pub fn read(report: &Value) -> Result<Self> {
        let of_windows = &report["windows"];
        let each = of_windows["each"].as_array().context("no windows")?;
        let mut block = Self {
            of: each.len(),
            ..Self::default()
        };
        for window in each {
            let latency = &window["latency, due to done (msec)"];
            let counts = window["counts"].as_bool();
            if counts.context("a window without a verdict")? {
                block.windows.push(Window {
                    p50_ms: number(latency, "p50.00")?,
                    p99_ms: number(latency, "p99.00")?,
                    p999_ms: number(latency, "p99.90")?,
                    lag_p99_ms: number(&window["lateness (msec)"], "p99.00")?,
                });
            }
        }
        let reasons = reasons(of_windows)?.into_iter();
        block.invalid = reasons
            .filter(|why| !why.starts_with(LATE) && !why.contains(SHORT))
            .collect();
        Ok(block)
    }

    /// The p99 of the middle window, if enough windows count.
    fn middle_p99_ms(&self) -> Option<f64> {
        let enough = self.windows.len() >= WINDOWS_LEAST;
        enough
            .then(|| at(&self.windows, 0.5, |window| window.p99_ms))
            .flatten()
    }
}

/// What so great a part of the windows does not exceed.
fn at<'a>(
    windows: impl IntoIterator<Item = &'a Window>,
    part: f64,
    of: impl Fn(&Window) -> f64,
) -> Option<f64> {
    let mut all: Vec<f64> = windows.into_iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    let rank = (all.len() as f64 * part) as usize;
    all.get(rank).or(all.last()).copied()
}

impl Seen {
    fn of<'a>(blocks: impl Iterator<Item = &'a Block> + Clone) -> Self {
        let windows = || blocks.clone().flat_map(|block| &block.windows);
        let figure = |part, of: fn(&Window) -> f64| at(windows(), part, of).unwrap_or_default();
        let mut invalid: Vec<String> = blocks
            .clone()
            .flat_map(|block| block.invalid.clone())
            .collect();
        invalid.dedup();
        Self {
            p50_ms: figure(0.5, |window| window.p50_ms),
            p99_ms: figure(0.5, |window| window.p99_ms),
            p999_ms: figure(0.5, |window| window.p999_ms),
            slow_p99_ms: figure(0.9, |window| window.p99_ms),
            lag_p99_ms: figure(0.5, |window| window.lag_p99_ms),
            windows: windows().count(),
            of: blocks.clone().map(|block| block.of).sum(),
            stolen_cores: blocks.clone().map(|block| block.stolen_cores).sum::<f64>()
                / blocks.count().max(1) as f64,
            invalid,
        }
    }
}

impl Both {
    /// Of rounds, each a block before the attack and one during it.
    pub fn of(rounds: &[(Block, Block)]) -> Self {
        let times = Spread::of(rounds.iter().filter_map(|(before, during)| {
            Some(during.middle_p99_ms()? / before.middle_p99_ms()?.max(0.001))
        }));
        let pairs = times.map_or(0, |times| times.count);
        let is_enough = pairs > 0 && 2 * pairs >= rounds.len();
        Self {
            before: Seen::of(rounds.iter().map(|(before, _)| before)),
            during: Seen::of(rounds.iter().map(|(_, during)| during)),
            times,
            too_few: (!is_enough).then(|| {
                let of = rounds.len();
                format!("The client was in time in only {pairs} of {of} rounds.")
            }),
        }
    }

    /// Why it is not to be believed.
    pub fn invalid(&self) -> Option<String> {
        let both = [("before", &self.before), ("during", &self.during)];
        let each = both
            .into_iter()
            .flat_map(|(when, seen)| seen.invalid.iter().map(move |why| format!("{when}: {why}")));
        let reasons: Vec<String> = each.chain(self.too_few.clone()).collect();
        (!reasons.is_empty()).then(|| reasons.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(p99_ms: &[f64], of: usize) -> Block {
        let windows = p99_ms.iter().map(|p99_ms| Window {
            p50_ms: p99_ms / 2.0,
            p99_ms: *p99_ms,
            p999_ms: 2.0 * p99_ms,
            lag_p99_ms: 0.0,
        });
        Block {
            windows: windows.collect(),
            of,
            ..Block::default()
        }
    }

    #[test]
    fn a_figure_is_the_middle_windows_and_times_are_the_middle_rounds() {
        let rounds = [
            (block(&[1.0, 9.0, 2.0], 3), block(&[2.0, 3.0, 90.0], 3)),
            // A disturbed round: all of it is slow, before and during.
            (block(&[50.0, 60.0, 70.0], 3), block(&[60.0; 3], 3)),
            (block(&[1.0, 1.0, 1.0], 3), block(&[4.0, 4.0, 4.0], 3)),
        ];
        let both = Both::of(&rounds);
        let times = both.times.expect("three pairs");
        assert_eq!((times.least, times.median, times.most), (1.0, 1.5, 4.0));
        let before = &both.before;
        assert_eq!(
            (before.p50_ms, before.p99_ms, before.p999_ms),
            (1.0, 2.0, 4.0)
        );
        assert_eq!(
            (before.slow_p99_ms, before.windows, before.of),
            (70.0, 9, 9)
        );
        assert_eq!(both.invalid(), None);
    }

    #[test]
    fn a_block_of_which_too_little_counts_makes_no_pair() {
        let good = || (block(&[1.0; 2], 8), block(&[3.0; 2], 8));
        let spoiled = || (block(&[1.0], 8), block(&[1.0; 8], 8));
        let both = Both::of(&[good(), spoiled()]);
        assert_eq!(both.times.map(|times| times.median), Some(3.0));
        assert_eq!(both.invalid(), None);
        let both = Both::of(&[good(), spoiled(), spoiled()]);
        assert_eq!(
            both.invalid().as_deref(),
            Some("The client was in time in only 1 of 3 rounds.")
        );
        assert!(Both::of(&[]).invalid().is_some());
    }

    #[test]
    fn a_client_as_late_as_its_figure_does_not_blow_times_up() {
        let late = |p99_ms, lag_p99_ms| {
            let mut block = block(&[p99_ms; 2], 2);
            for window in &mut block.windows {
                window.lag_p99_ms = lag_p99_ms;
            }
            block
        };
        let both = Both::of(&[(late(0.05, 0.05), late(0.1, 0.04))]);
        assert_eq!(both.times.map(|times| times.median), Some(2.0));
    }

    #[test]
    fn what_was_answered_wrongly_is_told_with_when_it_was() {
        let mut wrong = block(&[1.0; 2], 2);
        wrong.invalid.push("A reply was wrong.".into());
        let both = Both::of(&[(block(&[1.0; 2], 2), wrong)]);
        assert_eq!(
            both.invalid().as_deref(),
            Some("during: A reply was wrong.")
        );
    }

    #[test]
    fn a_report_is_read_without_the_windows_that_do_not_count() {
        let curve = serde_json::json!({ "p50.00": 0.1, "p99.00": 0.2, "p99.90": 0.3 });
        let window = |counts| {
            serde_json::json!({
                "counts": counts,
                "latency, due to done (msec)": curve,
                "lateness (msec)": { "p99.00": 0.05 },
            })
        };
        let late = format!("{LATE} 1 of 9 windows.");
        let short = format!("Only 93.98 % {SHORT} 10000 requests a second were answered in time.");
        let report = serde_json::json!({ "windows": {
            "invalid": [late, short, "A reply was wrong."],
            "each": [window(true), window(false)],
        }});
        let block = Block::read(&report).expect("figures");
        let expected = Window {
            p50_ms: 0.1,
            p99_ms: 0.2,
            p999_ms: 0.3,
            lag_p99_ms: 0.05,
        };
        assert_eq!((block.windows, block.of), (vec![expected], 2));
        assert_eq!(block.invalid, ["A reply was wrong."]);
    }
}
