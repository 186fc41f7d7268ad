//! The report on the terminal, in the columns memtier_benchmark prints.
//!
//! Always true: an invalid run says INVALID before and after its numbers.

use std::fmt::Write;

use super::{Report, Section, mean_ms, ms, seconds};
use crate::plan::Length;
use crate::run::Outcome;
use crate::tally::KindTally;
use crate::trial::POINT_PERCENTILES;
use crate::verdict::reasons_of_windows;
use crate::windows::WINDOW_PERCENTILES;

const RULE_CHARACTERS: usize = 118;

/// Renders the whole report.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    write(report, &mut out).expect("a string takes any text");
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let plan = report.plan();
    verdict(report, out)?;
    writeln!(out, "{}", report.loop_sentence())?;
    writeln!(out, "{:<9} Threads", plan.threads)?;
    writeln!(out, "{:<9} Connections per thread", plan.connections)?;
    match plan.length {
        Length::Time(time) => writeln!(out, "{:<9} Seconds", time.as_secs_f64())?,
        Length::Requests(count) => writeln!(out, "{count:<9} Requests per client")?,
        Length::Trace => writeln!(out, "{:<9} As long as the trace", "")?,
    }
    points(report, out)?;
    for section in report.sections() {
        head(report, &section, out)?;
        writeln!(out, "\n\n{}", section.title)?;
        table(report, &section.outcome, out)?;
        if report.is_open() {
            parts(report, &section.outcome, out)?;
            windows(report, &section.outcome, out)?;
        }
        if let Some(slowest) = section.outcome.tally.fairness.slowest() {
            writeln!(
                out,
                "Of {} connections the slowest had p50 {:.3} and p99 {:.3} msec; answered were from {} to {} requests each.\n",
                slowest.of,
                ms(slowest.p50_ns),
                ms(slowest.p99_ns),
                slowest.fewest,
                slowest.most
            )?;
        }
        if report.histogram {
            distribution(report, &section.outcome, out)?;
        }
    }
    verdict(report, out)
}

fn verdict(report: &Report, out: &mut String) -> std::fmt::Result {
    let invalid = report.invalid();
    if invalid.is_empty() {
        return Ok(());
    }
    writeln!(out, "INVALID: this run does not measure what it claims.")?;
    for sentence in &invalid {
        writeln!(out, "INVALID: {sentence}")?;
    }
    Ok(())
}

/// What the generator did for a section.
fn head(report: &Report, section: &Section, out: &mut String) -> std::fmt::Result {
    let outcome = &section.outcome;
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
        outcome.tally.cpu_ns as f64 / 1e9 / seconds(outcome),
        outcome.io,
        outcome.tally.busy_ns as f64 / 1e7 / seconds(outcome) / report.plan().threads as f64
    )?;
    if outcome.interrupted {
        writeln!(out, "Interrupted before its end.")?;
    }
    Ok(())
}

/// The runs of a sweep or search, one a line.
fn points(report: &Report, out: &mut String) -> std::fmt::Result {
    let session = report.session;
    if session.points.is_empty() {
        return Ok(());
    }
    match session.objective {
        Some(objective) => writeln!(out, "\nSEARCH for the highest rate with {objective}")?,
        None => writeln!(out, "\nSWEEP")?,
    }
    write!(out, "{:>14}{:>14}", "Offered/sec", "Done/sec")?;
    for percentile in POINT_PERCENTILES {
        write!(out, "{:>14}", format!("p{percentile} msec"))?;
    }
    writeln!(out, "{:>14}", "max msec")?;
    for point in &session.points {
        write!(out, "{:>14.0}{:>14.0}", point.rate, point.achieved)?;
        for latency_ns in point.latency_ns {
            write!(out, "{:>14.5}", ms(latency_ns))?;
        }
        write!(out, "{:>14.5}", ms(point.max_ns))?;
        writeln!(out, "  {}", point.words())?;
    }
    if let Some(conclusion) = &session.conclusion {
        writeln!(out, "{conclusion}")?;
    }
    if let crate::plan::Pace::Open { rate, .. } = report.plan().pace {
        writeln!(
            out,
            "\nWhat follows is the run at {rate} requests a second."
        )?;
    }
    Ok(())
}

fn table(report: &Report, outcome: &Outcome, out: &mut String) -> std::fmt::Result {
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
    for kind in report.kinds() {
        let mut tally = outcome.tally.of(kind).clone();
        let counts = kind != crate::kind::Kind::Set;
        row(report, outcome, kind.title(), &mut tally, counts, out)?;
    }
    let mut all = outcome.tally.totals();
    // As memtier has it, hits are those of reads.
    (all.hits, all.misses) = outcome.tally.hits_and_misses();
    row(report, outcome, "Totals", &mut all, true, out)?;
    writeln!(out)
}

fn row(
    report: &Report,
    outcome: &Outcome,
    name: &str,
    tally: &mut KindTally,
    reads: bool,
    out: &mut String,
) -> std::fmt::Result {
    let seconds = seconds(outcome);
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
fn parts(report: &Report, outcome: &Outcome, out: &mut String) -> std::fmt::Result {
    let mut all = outcome.tally.totals();
    let mut lateness = outcome.tally.lateness.clone();
    writeln!(
        out,
        "Offered {} requests, answered in time {}, unanswered {}, unsent {}",
        outcome.tally.offered,
        outcome.tally.answered_in_time,
        outcome.tally.unanswered,
        outcome.tally.unsent
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

/// The middle of the windows and the slowest tenth of them, if there are any.
fn windows(report: &Report, outcome: &Outcome, out: &mut String) -> std::fmt::Result {
    let windows = &outcome.tally.windows;
    let Some(summary) = windows.summary() else {
        return Ok(());
    };
    for sentence in reasons_of_windows(report.plan(), outcome) {
        writeln!(out, "INVALID windows: {sentence}")?;
    }
    write!(
        out,
        "{:<38}",
        format!(
            "{} of {} windows of {} s",
            summary.counted,
            summary.of,
            windows.length_ns() as f64 / 1e9
        )
    )?;
    for percentile in WINDOW_PERCENTILES {
        write!(out, "{:>12}", format!("p{percentile}"))?;
    }
    writeln!(out)?;
    for (name, values_ns) in [
        ("the middle one", summary.middle_ns),
        ("a tenth of them had more than", summary.slow_ns),
        (
            "the generator's lateness in the middle",
            summary.lateness_ns,
        ),
    ] {
        write!(out, "{name:<38}")?;
        for value_ns in values_ns {
            write!(out, "{:>12.5}", ms(value_ns))?;
        }
        writeln!(out)?;
    }
    writeln!(out)
}

fn distribution(report: &Report, outcome: &Outcome, out: &mut String) -> std::fmt::Result {
    writeln!(out, "Request Latency Distribution")?;
    writeln!(out, "{:<10}{:>12}{:>16}", "Type", "<= msec", "Percent")?;
    writeln!(out, "{}", "-".repeat(72))?;
    for kind in report.kinds() {
        let name = kind.name().to_uppercase();
        let mut latency = outcome.tally.of(kind).latency.clone();
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
