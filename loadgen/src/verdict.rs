//! Whether a run may be believed.
//!
//! Always true: every reason not to is a plain sentence, and a run is valid exactly when there is
//! none.

use crate::plan::{Pace, Plan};
use crate::run::Outcome;
use crate::tally::Tally;
use crate::windows::Summary;

/// A generator whose lag at the 99th percentile exceeds this share of the reported latency there
/// measured itself.
pub const LAG_SHARE_MAX: f64 = 0.10;

/// Below this share of the offered rate the server was measured at another load than asked.
pub const ACHIEVED_SHARE_MIN: f64 = 0.99;

/// The middle of windows of which a smaller share counts is that of a selection.
pub const WINDOWS_SHARE_MIN: f64 = 0.5;

/// The reasons why the run is invalid. Empty: it is valid.
pub fn reasons(plan: &Plan, outcome: &mut Outcome) -> Vec<String> {
    let mut reasons = apart_from_lag(plan, outcome);
    if matches!(plan.pace, Pace::Open { .. }) {
        reasons.extend(lag(plan.threads, outcome));
    }
    reasons
}

/// The reasons why the middle of the run's windows is invalid, of which the lag of the run as a
/// whole is none. Empty: it is valid.
pub fn reasons_of_windows(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let mut reasons = apart_from_lag(plan, outcome);
    if let Some(Summary { of, counted, .. }) = outcome.tally.windows.summary()
        && (counted as f64) < of as f64 * WINDOWS_SHARE_MIN
    {
        reasons.push(format!(
            "The generator was in time in only {counted} of {of} windows."
        ));
    }
    reasons
}

fn apart_from_lag(plan: &Plan, outcome: &Outcome) -> Vec<String> {
    let mut reasons = Vec::new();
    let expected = plan.workload.keys.count();
    if let Some(filled) = outcome.filled
        && filled != expected
    {
        reasons.push(format!(
            "The fill stored {filled} of {expected} keys, so the run did not ask for what it meant to."
        ));
    }
    let faults = &outcome.tally.faults;
    if faults.wrong_values > 0 {
        let written_before = match plan.fill {
            true => "",
            false => " If something else wrote them before this run, see --fill.",
        };
        reasons.push(format!(
            "The server returned {} wrong {}.{written_before}",
            faults.wrong_values,
            plural(faults.wrong_values, "value", "values")
        ));
    }
    if faults.misplaced > 0 {
        reasons.push(format!(
            "{} {} to another request than the one in turn.",
            faults.misplaced,
            plural(faults.misplaced, "reply belonged", "replies belonged")
        ));
    }
    if faults.lost_connections > 0 {
        reasons.push(format!(
            "{} of {} connections ended before the run did.",
            faults.lost_connections,
            plan.connection_count()
        ));
    }
    if faults.errors > 0 {
        reasons.push(format!(
            "The server answered {} {} with an error.",
            faults.errors,
            plural(faults.errors, "request", "requests")
        ));
    }
    for sentence in &faults.first {
        reasons.push(format!("First seen: {sentence}."));
    }
    let unanswered = outcome.tally.unanswered;
    if unanswered > 0 {
        let counted = match plan.pace {
            Pace::Open { .. } => "; in the latencies they count with their age",
            Pace::Closed { .. } => "",
        };
        reasons.push(format!(
            "{unanswered} {} never answered{counted}.",
            plural(unanswered, "request was", "requests were")
        ));
    }
    if outcome.tally.count() == 0 {
        reasons.push("Not one request was answered inside the measured time.".into());
    }
    if let Some(expected) = plan.expect_hits {
        let (hits, misses) = outcome.tally.hits_and_misses();
        let asked = hits + misses;
        let ratio = hits as f64 / asked.max(1) as f64;
        if asked == 0 || ratio < expected {
            reasons.push(format!(
                "The hit ratio was {ratio:.6} ({} missing), below the expected {expected}.",
                asked - hits
            ));
        }
    }
    if let Pace::Open { rate, .. } = plan.pace {
        let tally = &outcome.tally;
        let share = tally.answered_in_time as f64 / tally.offered.max(1) as f64;
        if share < ACHIEVED_SHARE_MIN {
            reasons.push(format!(
                "Only {:.2} % of the offered {rate} requests a second were answered in time.",
                share * 100.0
            ));
        }
    }
    reasons
}

/// Why the generator is in doubt, if it is.
fn lag(threads: usize, outcome: &mut Outcome) -> Option<String> {
    let tally = &mut outcome.tally;
    let (lag_ns, latency_ns) = lag_and_latency_ns(tally);
    is_late(lag_ns, latency_ns).then(|| {
        format!(
            "The generator lagged: it sent {:.3} ms late at the 99th percentile, \
             more than a tenth of the {:.3} ms reported there.{}",
            lag_ns as f64 / 1e6,
            latency_ns as f64 / 1e6,
            crowding(threads)
        )
    })
}

/// Whether what limited the run was the generator or the machine it ran on: it was late, and there
/// was nothing wrong with the replies.
pub fn was_late(outcome: &mut Outcome) -> bool {
    let tally = &mut outcome.tally;
    if !tally.open || !tally.faults.none() || tally.unanswered > 0 {
        return false;
    }
    let (lag_ns, latency_ns) = lag_and_latency_ns(tally);
    is_late(lag_ns, latency_ns)
}

fn is_late(lag_ns: u64, latency_ns: u64) -> bool {
    lag_ns as f64 > latency_ns as f64 * LAG_SHARE_MAX
}

/// The generator's own lateness and the latency, both at the 99th percentile.
fn lag_and_latency_ns(tally: &mut Tally) -> (u64, u64) {
    let latency_ns = tally.totals().latency.histogram().value_at_quantile(0.99);
    let lag_ns = tally.lateness.histogram().value_at_quantile(0.99);
    (lag_ns, latency_ns)
}

/// What to do about a generator whose threads are in each other's way, or the server's.
fn crowding(threads: usize) -> String {
    match std::thread::available_parallelism() {
        Ok(cores) if threads >= cores.get() => format!(
            " Its {threads} {} want a core each and leave one to the server, and there {} \
             {cores}: see --threads.",
            plural(threads as u64, "thread", "threads"),
            plural(cores.get() as u64, "is", "are"),
        ),
        _ => String::new(),
    }
}

fn plural<'a>(count: u64, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}
