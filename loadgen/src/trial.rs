//! One run or many: repetitions, a sweep over rates, a search for the highest that holds an
//! objective.
//!
//! Always true: each run of a sweep or search is judged by itself, like any other run; and a
//! search ends after at most [`SEARCH_RUNS_MAX`] rates. A run of a search that is invalid says
//! nothing about the rate, so it is repeated before the rate counts as too high.

use crate::plan::{Pace, Plan};
use crate::run::Outcome;
use crate::schedule::RATE_MAX;
use crate::verdict;

/// Most rates of a search.
pub const SEARCH_RUNS_MAX: usize = 32;

/// How often a search makes a run at one rate, as long as none is valid.
const SEARCH_ATTEMPTS: usize = 3;

/// Where a search begins, in requests a second.
const SEARCH_START: f64 = 1000.0;

/// A search ends when the lowest rate that failed is within this factor of the highest that held.
const SEARCH_CLOSE: f64 = 1.02;

/// A search gives up below this rate.
const SEARCH_LEAST: f64 = 1.0;

/// Percentiles of each point of a sweep.
pub const POINT_PERCENTILES: [f64; 4] = [50.0, 99.0, 99.9, 99.99];

/// A percentile of the latency and what it has to stay below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// In percent.
    pub percentile: f64,
    /// In nanoseconds.
    pub limit_ns: u64,
}

impl Objective {
    fn held_by(&self, run: &Run) -> bool {
        let mut totals = run.outcome.tally.totals();
        let histogram = totals.latency.histogram();
        histogram.value_at_quantile(self.percentile / 100.0) < self.limit_ns
    }
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "p{} below {} ms",
            self.percentile,
            self.limit_ns as f64 / 1e6
        )
    }
}

/// Which runs are made of a plan.
#[derive(Clone, Debug, PartialEq)]
pub enum Trials {
    /// The plan as it is, so many times.
    Runs(u32),
    /// An open loop at each of these rates.
    Sweep(Vec<f64>),
    /// Open loops at rates that depend on how the ones before went.
    Search(Objective),
}

/// A run and whether to believe it.
pub struct Run {
    /// What happened.
    pub outcome: Outcome,
    /// Why it is invalid; empty when it is valid.
    pub invalid: Vec<String>,
}

/// One run of a sweep or search, in short.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Requests a second that were offered.
    pub rate: f64,
    /// Requests a second that were answered.
    pub achieved: f64,
    /// Latencies at [`POINT_PERCENTILES`], in nanoseconds.
    pub latency_ns: [u64; 4],
    /// The longest latency.
    pub max_ns: u64,
    /// Whether the objective held, if there is one.
    pub held: Option<bool>,
    /// Why the run is invalid; empty when it is valid.
    pub invalid: Vec<String>,
}

impl Point {
    fn new(rate: f64, run: &Run) -> Self {
        let mut totals = run.outcome.tally.totals();
        let seconds = run.outcome.measured.as_secs_f64().max(1e-9);
        let achieved = totals.count as f64 / seconds;
        let histogram = totals.latency.histogram();
        Self {
            rate,
            achieved,
            latency_ns: POINT_PERCENTILES
                .map(|percentile| histogram.value_at_quantile(percentile / 100.0)),
            max_ns: histogram.max(),
            held: None,
            invalid: run.invalid.clone(),
        }
    }
}

/// All that was made of a plan.
pub struct Session {
    /// Repetitions; of a sweep the valid run at the highest rate, of a search the one that held at
    /// the highest, or if none did the last at the lowest.
    pub runs: Vec<Run>,
    /// The points of a sweep or search, in the order made.
    pub points: Vec<Point>,
    /// What a search held.
    pub objective: Option<Objective>,
    /// Why a search found nothing.
    pub failure: Option<String>,
    /// The plan of the runs kept.
    pub plan: Plan,
}

/// Carries out all runs. `make` carries out one; the error is a sentence for the user.
pub fn carry_out(
    plan: &Plan,
    trials: &Trials,
    mut make: impl FnMut(&Plan) -> Result<Outcome, String>,
) -> Result<Session, String> {
    let mut plan = plan.clone();
    let mut judged = |plan: &Plan| {
        let mut outcome = make(plan)?;
        let invalid = verdict::reasons(plan, &mut outcome);
        Ok::<Run, String>(Run { outcome, invalid })
    };
    let mut session = Session {
        runs: Vec::new(),
        points: Vec::new(),
        objective: None,
        failure: None,
        plan: plan.clone(),
    };
    match trials {
        Trials::Runs(count) => {
            for _ in 0..*count {
                let run = judged(&plan)?;
                let interrupted = run.outcome.interrupted;
                session.runs.push(run);
                // What one run has filled the next one finds.
                plan.fill = false;
                if interrupted {
                    break;
                }
            }
        }
        Trials::Sweep(rates) => {
            let mut best: Option<(f64, bool)> = None;
            for &rate in rates {
                let trial = at_rate(&plan, rate);
                let run = judged(&trial)?;
                let valid = run.invalid.is_empty();
                let interrupted = run.outcome.interrupted;
                session.points.push(Point::new(rate, &run));
                if best.is_none_or(|(highest, was_valid)| (valid, rate) > (was_valid, highest)) {
                    best = Some((rate, valid));
                    session.runs = vec![run];
                    session.plan = trial;
                }
                plan.fill = false;
                if interrupted {
                    break;
                }
            }
        }
        Trials::Search(objective) => {
            session.objective = Some(*objective);
            let mut search = Search::default();
            let mut any_held = false;
            'rates: while let Some(rate) = search.next_rate() {
                let mut trial = at_rate(&plan, rate);
                let mut held = false;
                for _ in 0..SEARCH_ATTEMPTS {
                    let run = judged(&trial)?;
                    (plan.fill, trial.fill) = (false, false);
                    let valid = run.invalid.is_empty();
                    let interrupted = run.outcome.interrupted;
                    held = valid && objective.held_by(&run);
                    let mut point = Point::new(rate, &run);
                    point.held = Some(held);
                    session.points.push(point);
                    let lowest = session.points.iter().all(|earlier| rate <= earlier.rate);
                    if held || (!any_held && lowest) {
                        session.runs = vec![run];
                        session.plan = trial.clone();
                    }
                    any_held |= held;
                    if interrupted {
                        break 'rates;
                    }
                    if valid {
                        break;
                    }
                }
                search.tell(held);
            }
            if !any_held {
                session.failure = Some(nothing_held(*objective, &session.points));
            }
        }
    }
    Ok(session)
}

fn nothing_held(objective: Objective, points: &[Point]) -> String {
    let lowest = points
        .iter()
        .min_by(|one, other| one.rate.total_cmp(&other.rate));
    let why = match lowest {
        None => "no run was made".into(),
        Some(point) => match point.invalid.first() {
            Some(sentence) => format!("at {:.0} a second: {sentence}", point.rate),
            None => format!(
                "at {:.0} a second p99.9 was {:.3} ms",
                point.rate,
                point.latency_ns[2] as f64 / 1e6
            ),
        },
    };
    let why = why.trim_end_matches('.');
    format!("--search: no rate held {objective}; {why}.")
}

/// The plan as an open loop of this rate.
fn at_rate(plan: &Plan, rate: f64) -> Plan {
    let mut trial = plan.clone();
    if let Pace::Open { rate: of_plan, .. } = &mut trial.pace {
        *of_plan = rate;
    }
    trial
}

/// The rates of a search: doubled until one fails (or halved until one holds), then closing in.
#[derive(Debug, Default)]
struct Search {
    held: Option<f64>,
    failed: Option<f64>,
    runs: usize,
}

impl Search {
    /// The rate to try; `None` when there is nothing more to learn.
    fn next_rate(&self) -> Option<f64> {
        if self.runs == SEARCH_RUNS_MAX {
            return None;
        }
        let rate = match (self.held, self.failed) {
            (None, None) => SEARCH_START,
            (Some(held), None) if held == RATE_MAX => return None,
            (Some(held), None) => (held * 2.0).min(RATE_MAX),
            (None, Some(failed)) => failed / 2.0,
            // Rates are whole numbers.
            (Some(held), Some(failed))
                if failed - held <= (held * (SEARCH_CLOSE - 1.0)).max(1.0) =>
            {
                return None;
            }
            (Some(held), Some(failed)) => (held * failed).sqrt(),
        };
        (rate >= SEARCH_LEAST).then(|| rate.round().max(SEARCH_LEAST))
    }

    /// How the last one went.
    fn tell(&mut self, held: bool) {
        let Some(rate) = self.next_rate() else {
            return;
        };
        self.runs += 1;
        if held {
            self.held = Some(rate);
        } else {
            self.failed = Some(rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(limit: f64) -> (Option<f64>, usize) {
        let mut search = Search::default();
        while let Some(rate) = search.next_rate() {
            search.tell(rate <= limit);
        }
        (search.held, search.runs)
    }

    #[test]
    fn a_search_comes_within_two_percent_from_below() {
        for limit in [3.0, 70.0, 1000.0, 123_456.0, 9e6] {
            let (held, runs) = found(limit);
            let held = held.unwrap();
            // Rates are whole numbers.
            assert!(
                held <= limit && held * SEARCH_CLOSE + 1.0 >= limit,
                "{held} of {limit}"
            );
            assert!(runs < SEARCH_RUNS_MAX, "{runs}");
        }
    }

    #[test]
    fn a_search_ends_when_nothing_holds_and_when_everything_does() {
        assert_eq!(found(0.0).0, None);
        let (held, runs) = found(f64::INFINITY);
        assert_eq!(held, Some(RATE_MAX));
        assert!(runs < SEARCH_RUNS_MAX, "{runs}");
    }
}
