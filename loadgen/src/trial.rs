//! One run or many: repetitions, a sweep over rates, a search for the highest that holds an
//! objective.
//!
//! Always true: each run of a sweep or search is judged by itself, like any other run; a search
//! ends after at most [`SEARCH_RUNS_MAX`] rates; and a rate at which the generator was late is never
//! held against the server: the run is repeated, and if that does not help the conclusion says so.

use crate::plan::{Pace, Plan};
use crate::run::Outcome;
use crate::schedule::RATE_MAX;
use crate::verdict;

/// Most rates of a search.
pub const SEARCH_RUNS_MAX: usize = 32;

/// How often a run at one rate of a sweep or search is made, as long as none is of use.
const ATTEMPTS: usize = 3;

/// A search ends when at so many rates in a row the generator was late and none has held: it would
/// be late at lower ones too.
const LATE_RATES_MAX: usize = 3;

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
    fn latency_ns(&self, run: &Run) -> u64 {
        let mut totals = run.outcome.tally.totals();
        let histogram = totals.latency.histogram();
        histogram.value_at_quantile(self.percentile / 100.0)
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
    /// Whether that is the generator's fault alone.
    pub late: bool,
}

/// What a run at one rate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Valid, and there is no objective.
    Valid,
    /// Valid, and the objective held.
    Held,
    /// Valid, and the objective was missed.
    Exceeded,
    /// Nothing: the generator was late.
    Late,
    /// Nothing: it is invalid for another reason.
    Invalid,
}

impl Judgement {
    fn of(run: &Run, objective: Option<Objective>) -> Self {
        match objective {
            _ if run.late => Self::Late,
            _ if !run.invalid.is_empty() => Self::Invalid,
            None => Self::Valid,
            Some(objective) if objective.latency_ns(run) < objective.limit_ns => Self::Held,
            Some(_) => Self::Exceeded,
        }
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Held => "held",
            Self::Exceeded => "exceeded",
            Self::Late | Self::Invalid => "INVALID",
        }
    }

    /// Whether the run may be believed.
    pub fn is_valid(self) -> bool {
        !matches!(self, Self::Late | Self::Invalid)
    }
}

/// One rate of a sweep or search, in short.
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
    /// The latency at the percentile of the objective, if there is one.
    pub objective_ns: Option<u64>,
    /// The generator's own lateness at the 99th percentile.
    pub lateness_ns: u64,
    /// What the run says.
    pub judgement: Judgement,
    /// Why it is invalid; empty when it is valid.
    pub invalid: Vec<String>,
    /// Runs that were made at this rate. The others were invalid, and the figures are the last one's.
    pub runs: usize,
}

impl Point {
    fn new(rate: f64, run: &Run, objective: Option<Objective>, runs: usize) -> Self {
        let mut totals = run.outcome.tally.totals();
        let seconds = run.outcome.measured.as_secs_f64().max(1e-9);
        let achieved = totals.count as f64 / seconds;
        let histogram = totals.latency.histogram();
        let mut lateness = run.outcome.tally.lateness.clone();
        Self {
            rate,
            achieved,
            latency_ns: POINT_PERCENTILES
                .map(|percentile| histogram.value_at_quantile(percentile / 100.0)),
            max_ns: histogram.max(),
            objective_ns: objective.map(|objective| objective.latency_ns(run)),
            lateness_ns: lateness.histogram().value_at_quantile(0.99),
            judgement: Judgement::of(run, objective),
            invalid: run.invalid.clone(),
            runs,
        }
    }

    /// The judgement for a reader.
    pub fn words(&self) -> String {
        let runs = match (self.runs, self.judgement.is_valid()) {
            (1, _) => String::new(),
            (runs, true) => format!(" in run {runs} at this rate"),
            (runs, false) => format!(" in each of {runs} runs"),
        };
        let why = match self.judgement {
            Judgement::Late => format!(
                ": the generator was late, by {:.3} ms at p99",
                self.lateness_ns as f64 / 1e6
            ),
            Judgement::Invalid => self
                .invalid
                .first()
                .map_or(String::new(), |why| format!(": {why}")),
            _ => String::new(),
        };
        format!("{}{runs}{why}", self.judgement.name())
    }
}

/// All that was made of a plan.
pub struct Session {
    /// Repetitions; of a sweep the valid run at the highest rate, of a search the one that held at
    /// the highest, or if none did the last at the lowest.
    pub runs: Vec<Run>,
    /// The rates of a sweep or search, in the order tried.
    pub points: Vec<Point>,
    /// What a search held.
    pub objective: Option<Objective>,
    /// Why a search found nothing.
    pub failure: Option<String>,
    /// What ended a search that found something, or which rates of a sweep say nothing.
    pub conclusion: Option<String>,
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
        let late = verdict::was_late(&mut outcome);
        Ok::<Run, String>(Run {
            outcome,
            invalid,
            late,
        })
    };
    let mut session = Session {
        runs: Vec::new(),
        points: Vec::new(),
        objective: None,
        failure: None,
        conclusion: None,
        plan: plan.clone(),
    };
    // At one rate, until a run is of use or there were enough; what one has filled the next finds.
    let mut at_rate = |plan: &mut Plan, rate: f64, objective| {
        if let Pace::Open { rate: of_plan, .. } = &mut plan.pace {
            *of_plan = rate;
        }
        for runs in 1.. {
            let run = judged(plan)?;
            plan.fill = false;
            let useful = match objective {
                Some(_) => run.invalid.is_empty(),
                // A sweep shows what is wrong; only lateness is not the server's.
                None => !run.late,
            };
            if useful || run.outcome.interrupted || runs == ATTEMPTS {
                let point = Point::new(rate, &run, objective, runs);
                return Ok::<(Point, Run), String>((point, run));
            }
        }
        unreachable!("the attempts are counted")
    };
    match trials {
        Trials::Runs(count) => {
            for _ in 0..*count {
                let run = judged(&plan)?;
                let interrupted = run.outcome.interrupted;
                session.runs.push(run);
                plan.fill = false;
                if interrupted {
                    break;
                }
            }
        }
        Trials::Sweep(rates) => {
            let mut best: Option<(bool, f64)> = None;
            for &rate in rates {
                let (point, run) = at_rate(&mut plan, rate, None)?;
                let this = (point.judgement.is_valid(), rate);
                let interrupted = run.outcome.interrupted;
                session.points.push(point);
                if best.is_none_or(|best| this > best) {
                    best = Some(this);
                    session.runs = vec![run];
                    session.plan = plan.clone();
                }
                if interrupted {
                    break;
                }
            }
            session.conclusion = doubted(&session.points);
        }
        Trials::Search(objective) => {
            session.objective = Some(*objective);
            let mut search = Search::default();
            let mut interrupted = false;
            while let Some(rate) = search.next_rate()
                && !interrupted
            {
                let (point, run) = at_rate(&mut plan, rate, Some(*objective))?;
                let judgement = point.judgement;
                interrupted = run.outcome.interrupted;
                let lowest = session.points.iter().all(|earlier| rate <= earlier.rate);
                session.points.push(point);
                if judgement == Judgement::Held || (search.held.is_none() && lowest) {
                    session.runs = vec![run];
                    session.plan = plan.clone();
                }
                search.tell(judgement);
            }
            let mut sentence = found(*objective, &session.points);
            if interrupted {
                sentence += " The search was interrupted.";
            }
            match search.held {
                Some(_) => session.conclusion = Some(sentence),
                None => session.failure = Some(format!("--search: {sentence}")),
            }
        }
    }
    Ok(session)
}

/// Which rates of a sweep say nothing of the server, if there are such.
fn doubted(points: &[Point]) -> Option<String> {
    let late: Vec<String> = (points.iter())
        .filter(|point| point.judgement == Judgement::Late)
        .map(|point| format!("{:.0}", point.rate))
        .collect();
    (!late.is_empty()).then(|| {
        format!(
            "At {} requests a second the generator was late: it or this machine was the limit, and \
             what is shown there says nothing of the server.",
            late.join(", ")
        )
    })
}

/// What a search has found, and what kept it from more.
fn found(objective: Objective, points: &[Point]) -> String {
    let by_rate = |one: &&Point, other: &&Point| one.rate.total_cmp(&other.rate);
    let held = points
        .iter()
        .filter(|point| point.judgement == Judgement::Held);
    let highest = held.max_by(by_rate);
    let highest_rate = highest.map_or(0.0, |point| point.rate);
    let beyond = points.iter().filter(|point| point.rate > highest_rate);
    let what = match highest {
        Some(point) => format!("{objective} held up to {:.0} requests a second", point.rate),
        None => format!("no rate held {objective}"),
    };
    let Some(next) = beyond.min_by(by_rate) else {
        return format!("{what}, and no higher rate was tried.");
    };
    let rate = next.rate;
    let why = match next.judgement {
        Judgement::Late => format!(
            "at {rate:.0} the generator was late in each of {} runs (by {:.3} ms at p99), so the limit \
             was the generator or this machine, and the server may do more.",
            next.runs,
            next.lateness_ns as f64 / 1e6
        ),
        Judgement::Invalid => {
            let sentence = next.invalid.first().map_or("", String::as_str);
            format!("at {rate:.0} the generator was in time, but no run was valid: {sentence}")
        }
        _ => format!(
            "at {rate:.0} p{} was {:.3} ms with the generator in time, so the limit was the server.",
            objective.percentile,
            next.objective_ns.unwrap_or(0) as f64 / 1e6
        ),
    };
    format!("{what}; {why}")
}

/// The rates of a search: doubled until one fails (or halved until one holds), then closing in.
#[derive(Debug, Default)]
struct Search {
    held: Option<f64>,
    failed: Option<f64>,
    rates: usize,
    /// Rates in a row at which the generator was late.
    late_rates: usize,
}

impl Search {
    /// The rate to try; `None` when there is nothing more to learn.
    fn next_rate(&self) -> Option<f64> {
        let futile = self.held.is_none() && self.late_rates == LATE_RATES_MAX;
        if self.rates == SEARCH_RUNS_MAX || futile {
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
    fn tell(&mut self, judgement: Judgement) {
        let Some(rate) = self.next_rate() else {
            return;
        };
        self.rates += 1;
        self.late_rates = match judgement {
            Judgement::Late => self.late_rates + 1,
            _ => 0,
        };
        if judgement == Judgement::Held {
            self.held = Some(rate);
        } else {
            self.failed = Some(rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::kind::Kind;
    use crate::tally::{Done, Tally};

    /// Up to `limit` the objective holds.
    fn searched(limit: f64) -> (Option<f64>, usize) {
        let mut search = Search::default();
        while let Some(rate) = search.next_rate() {
            search.tell(match rate <= limit {
                true => Judgement::Held,
                false => Judgement::Exceeded,
            });
        }
        (search.held, search.rates)
    }

    const OBJECTIVE: Objective = Objective {
        percentile: 99.0,
        limit_ns: 1_000_000,
    };

    /// A search on a generator that is in time up to one rate and a server that holds up to
    /// another; `make` is told how often a rate has been tried before.
    fn session(late_from: impl Fn(f64, usize) -> bool, exceeds_from: f64) -> Session {
        let plan = plan_of("--search p99<1ms --test-time 1");
        let mut tried = std::collections::HashMap::new();
        carry_out(&plan, &Trials::Search(OBJECTIVE), |plan| {
            let Pace::Open { rate, .. } = plan.pace else {
                panic!()
            };
            let before: &mut usize = tried.entry(rate as u64).or_default();
            let late = late_from(rate, *before);
            *before += 1;
            Ok(outcome(late, rate >= exceeds_from))
        })
        .unwrap()
    }

    fn plan_of(arguments: &str) -> Plan {
        use clap::Parser;
        let words = std::iter::once("strata-load").chain(arguments.split_whitespace());
        let args = crate::cli::Args::try_parse_from(words).unwrap();
        args.plan().unwrap()
    }

    fn outcome(late: bool, slow: bool) -> Outcome {
        const SECOND_NS: u64 = 1_000_000_000;
        let mut tally = Tally::new(0..SECOND_NS, true);
        let latency_ns = if slow { 2_000_000 } else { 500_000 };
        let late_ns = if late { 400_000 } else { 1000 };
        for due_ns in (0..100).map(|index| index * 1_000_000) {
            tally.offered += 1;
            tally.lateness.record(late_ns);
            tally.done(&Done {
                kind: Kind::Get,
                connection: 0,
                due_ns,
                sent_ns: due_ns + late_ns,
                done_ns: due_ns + latency_ns,
                count: 1,
                key_count: 1,
                hits: 1,
                bytes_sent: 1,
                bytes_received: 1,
            });
        }
        Outcome {
            tally,
            measured: Duration::from_secs(1),
            started: SystemTime::UNIX_EPOCH,
            filled: None,
            fill_time: Duration::ZERO,
            interrupted: false,
            io: "epoll",
        }
    }

    #[test]
    fn a_search_says_that_the_server_was_the_limit() {
        let session = session(|_, _| false, 50_000.0);
        assert_eq!(session.failure, None);
        let said = session.conclusion.unwrap();
        assert!(said.starts_with("p99 below 1 ms held up to 49"), "{said}");
        assert!(said.contains("p99 was 2."), "{said}");
        assert!(said.ends_with("so the limit was the server."), "{said}");
        assert!(session.points.iter().all(|point| point.runs == 1));
    }

    #[test]
    fn a_search_says_that_the_generator_was_the_limit() {
        let session = session(|rate, _| rate > 20_000.0, 50_000.0);
        let said = session.conclusion.unwrap();
        assert!(
            said.contains("the generator was late in each of 3 runs"),
            "{said}"
        );
        assert!(said.ends_with("the server may do more."), "{said}");
        let words = |judgement| {
            let mut points = session.points.iter();
            points
                .find(|point| point.judgement == judgement)
                .map(Point::words)
        };
        assert_eq!(words(Judgement::Exceeded), None);
        let late = words(Judgement::Late).unwrap();
        assert!(
            late.starts_with("INVALID in each of 3 runs: the generator was late"),
            "{late}"
        );
    }

    #[test]
    fn a_late_run_of_a_search_is_made_again() {
        let session = session(|_, before| before == 0, 50_000.0);
        let said = session.conclusion.unwrap();
        assert!(said.ends_with("so the limit was the server."), "{said}");
        assert!(session.points.iter().all(|point| point.runs == 2));
        assert_eq!(session.points[0].words(), "held in run 2 at this rate");
    }

    #[test]
    fn a_generator_that_is_always_late_ends_the_search_soon_and_blames_nobody_else() {
        let session = session(|_, _| true, 50_000.0);
        assert_eq!(session.points.len(), LATE_RATES_MAX);
        let said = session.failure.unwrap();
        assert!(
            said.starts_with("--search: no rate held p99 below 1 ms; at 250 the"),
            "{said}"
        );
        assert!(
            said.contains("the limit was the generator or this machine"),
            "{said}"
        );
        assert_eq!(session.conclusion, None);
    }

    #[test]
    fn a_sweep_names_the_rates_that_say_nothing() {
        let plan = plan_of("--sweep 10:30:10 --test-time 1");
        let rates = Trials::Sweep(vec![10.0, 20.0, 30.0]);
        let late = |rate: f64| rate > 15.0;
        let session = carry_out(&plan, &rates, |plan| match plan.pace {
            Pace::Open { rate, .. } => Ok(outcome(late(rate), false)),
            Pace::Closed { .. } => panic!(),
        });
        let session = session.unwrap();
        let said = session.conclusion.unwrap();
        assert!(
            said.starts_with("At 20, 30 requests a second the generator was late"),
            "{said}"
        );
        let runs: Vec<usize> = session.points.iter().map(|point| point.runs).collect();
        assert_eq!(runs, [1, 3, 3]);
        assert!(session.runs[0].invalid.is_empty());
    }

    #[test]
    fn a_search_comes_within_two_percent_from_below() {
        for limit in [3.0, 70.0, 1000.0, 123_456.0, 9e6] {
            let (held, runs) = searched(limit);
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
        assert_eq!(searched(0.0).0, None);
        let (held, runs) = searched(f64::INFINITY);
        assert_eq!(held, Some(RATE_MAX));
        assert!(runs < SEARCH_RUNS_MAX, "{runs}");
    }
}
