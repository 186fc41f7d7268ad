//! The report on the terminal, in the columns memtier_benchmark prints.
//!
//! Always true: an invalid run says INVALID before and after its numbers.

use std::fmt::Write;

use super::{Report, mean_ms, ms, totals};
use crate::tally::KindTally;

const RULE_CHARACTERS: usize = 118;

/// Renders the whole report.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    write(report, &mut out).expect("a string takes any text");
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let plan = report.plan;
    let outcome = &report.outcome;
    verdict(report, out)?;
    writeln!(out, "{}", report.loop_sentence())?;
    writeln!(out, "{:<9} Threads", plan.threads)?;
    writeln!(out, "{:<9} Connections per thread", plan.connections)?;
    match plan.length {
        crate::plan::Length::Time(time) => writeln!(out, "{:<9} Seconds", time.as_secs_f64())?,
        crate::plan::Length::Requests(count) => {
            writeln!(out, "{count:<9} Requests per client")?;
        }
    }
    if let Some(filled) = outcome.filled {
        writeln!(
            out,
            "{filled:<9} Keys filled, in {:.2} s",
            outcome.fill_time.as_secs_f64()
        )?;
    }
    writeln!(
        out,
        "{:<9.2} CPUs used by the generator over {}, {:.0} % of its time busy",
        outcome.tally.cpu_ns as f64 / 1e9 / report.seconds(),
        outcome.io,
        outcome.tally.busy_ns as f64 / 1e7 / report.seconds() / plan.threads as f64
    )?;
    if outcome.interrupted {
        writeln!(out, "Interrupted before its end.")?;
    }
    writeln!(out, "\n\nALL STATS")?;
    table(report, out)?;
    if report.is_open() {
        parts(report, out)?;
    }
    if report.histogram {
        distribution(report, out)?;
    }
    verdict(report, out)
}

fn verdict(report: &Report, out: &mut String) -> std::fmt::Result {
    if report.invalid.is_empty() {
        return Ok(());
    }
    writeln!(out, "INVALID: this run does not measure what it claims.")?;
    for sentence in &report.invalid {
        writeln!(out, "INVALID: {sentence}")?;
    }
    Ok(())
}

fn table(report: &Report, out: &mut String) -> std::fmt::Result {
    let rule = "=".repeat(RULE_CHARACTERS + 16 * report.percentiles.len().saturating_sub(3));
    let thin = "-".repeat(rule.len());
    writeln!(out, "{rule}")?;
    write!(
        out,
        "{:<8}{:>14}{:>14}{:>14}{:>15}",
        "Type", "Ops/sec", "Hits/sec", "Misses/sec", "Avg. Latency"
    )?;
    for percentile in &report.percentiles {
        write!(out, "{:>16}", format!("p{percentile} Latency"))?;
    }
    writeln!(out, "{:>14}", "KB/sec")?;
    writeln!(out, "{thin}")?;
    let mut all = totals(&report.outcome);
    let mut sets = report.outcome.tally.sets.clone();
    let mut gets = report.outcome.tally.gets.clone();
    row(report, "Sets", &mut sets, false, out)?;
    row(report, "Gets", &mut gets, true, out)?;
    row(report, "Totals", &mut all, true, out)?;
    writeln!(out)
}

fn row(
    report: &Report,
    name: &str,
    tally: &mut KindTally,
    reads: bool,
    out: &mut String,
) -> std::fmt::Result {
    let seconds = report.seconds();
    write!(out, "{name:<8}{:>14.2}", tally.count as f64 / seconds)?;
    if reads {
        write!(
            out,
            "{:>14.2}{:>14.2}",
            tally.hits as f64 / seconds,
            tally.misses as f64 / seconds
        )?;
    } else {
        write!(out, "{:>14}{:>14}", "---", "---")?;
    }
    if tally.count == 0 {
        write!(out, "{:>15}", "---")?;
        for _ in &report.percentiles {
            write!(out, "{:>16}", "---")?;
        }
    } else {
        write!(out, "{:>15.5}", mean_ms(&mut tally.latency))?;
        for percentile in &report.percentiles {
            let value_ns = tally
                .latency
                .histogram()
                .value_at_quantile(percentile / 100.0);
            write!(out, "{:>16.5}", ms(value_ns))?;
        }
    }
    let bytes = tally.bytes_sent + tally.bytes_received;
    writeln!(out, "{:>14.2}", bytes as f64 / 1024.0 / seconds)
}

/// The three histograms of an open loop side by side.
fn parts(report: &Report, out: &mut String) -> std::fmt::Result {
    let mut all = totals(&report.outcome);
    let mut lateness = report.outcome.tally.lateness.clone();
    writeln!(
        out,
        "Offered {} requests, answered in time {}, unanswered {}, unsent {}",
        report.outcome.tally.offered,
        report.outcome.tally.answered_in_time,
        report.outcome.tally.unanswered,
        report.outcome.tally.unsent
    )?;
    write!(out, "{:<38}", "From - to (msec)")?;
    for percentile in &report.percentiles {
        write!(out, "{:>12}", format!("p{percentile}"))?;
    }
    writeln!(out, "{:>12}", "max")?;
    for (name, latencies) in [
        ("due - done (latency)", &mut all.latency),
        ("sent - done (service)", &mut all.service),
        ("due - sent (lag)", &mut all.lag),
        ("  of it the generator's own lateness", &mut lateness),
    ] {
        write!(out, "{name:<38}")?;
        let histogram = latencies.histogram();
        for percentile in &report.percentiles {
            let value_ns = histogram.value_at_quantile(percentile / 100.0);
            write!(out, "{:>12.5}", ms(value_ns))?;
        }
        writeln!(out, "{:>12.5}", ms(histogram.max()))?;
    }
    writeln!(out)
}

fn distribution(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "Request Latency Distribution")?;
    writeln!(out, "{:<10}{:>12}{:>16}", "Type", "<= msec", "Percent")?;
    writeln!(out, "{}", "-".repeat(72))?;
    for (name, tally) in [
        ("SET", &report.outcome.tally.sets),
        ("GET", &report.outcome.tally.gets),
    ] {
        let mut latency = tally.latency.clone();
        for (value_ms, percent) in steps(&mut latency) {
            writeln!(out, "{name:<10}{value_ms:>12.5}{percent:>16.6}")?;
        }
        writeln!(out, "---")?;
    }
    Ok(())
}

/// The curve of a histogram: milliseconds and percent at or below, five steps each time the
/// distance to 100 % halves.
pub(super) fn steps(latencies: &mut crate::tally::Latencies) -> Vec<(f64, f64)> {
    const STEPS_PER_HALVING: u32 = 5;
    let histogram = latencies.histogram();
    if histogram.is_empty() {
        return Vec::new();
    }
    histogram
        .iter_quantiles(STEPS_PER_HALVING)
        .map(|step| {
            (
                ms(step.value_iterated_to()),
                step.quantile_iterated_to() * 100.0,
            )
        })
        .collect()
}
