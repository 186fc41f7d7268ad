//! The report as one page for a browser.
//!
//! Always true: the page is complete in itself (style and charts are inside, nothing is loaded);
//! an invalid run says so first and largest; and the command line that made it is on it.

use std::fmt::Write;

use hdrhistogram::Histogram;

use super::chart::{Axis, Line, Scale, escaped, figure};
use super::{Report, config, mean_ms, ms, named_tallies, seconds};
use crate::run::Outcome;
use crate::tally::{KindTally, Latencies};
use crate::trial::{POINT_PERCENTILES, Trials};

const STYLE: &str = include_str!("page.css");

/// Steps of a curve each time the distance to 100 % halves.
const STEPS_PER_HALVING: u32 = 10;

const LATENCY: Axis = Axis {
    label: "milliseconds",
    scale: Scale::Log,
};
const TIME: Axis = Axis {
    label: "seconds since measuring began",
    scale: Scale::Linear,
};

/// Renders the whole page.
pub fn render(report: &Report) -> String {
    let mut out = String::new();
    write(report, &mut out).expect("a string takes any text");
    out
}

fn write(report: &Report, out: &mut String) -> std::fmt::Result {
    let sections = report.sections();
    let Some(headline) = sections.last() else {
        return Ok(());
    };
    let outcome = &headline.outcome;
    let servers = report.plan().servers();
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>strata-load: {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        escaped(&servers)
    )?;
    invalid(report, out)?;
    writeln!(out, "<h1>Load on {}</h1>", escaped(&servers))?;
    writeln!(out, "<p>{}</p>", escaped(&report.loop_sentence()))?;
    if !report.session.points.is_empty() {
        sweep(report, out)?;
    }
    if sections.len() > 1 {
        writeln!(out, "<h2>{}</h2>", escaped(&headline.title))?;
    }
    table(report, outcome, out)?;
    percentiles(report, outcome, out)?;
    // Repeated runs lie one over the other.
    let run_count = report.session.runs.len() as f64;
    let length_s = outcome.measured.as_secs_f64() / run_count;
    over_time(&outcome.tally.totals(), length_s, run_count, out)?;
    about(report, outcome, out)?;
    writeln!(out, "</body>\n</html>")
}

fn invalid(report: &Report, out: &mut String) -> std::fmt::Result {
    let sentences = report.invalid();
    if sentences.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<div class=\"invalid\" role=\"alert\"><strong>INVALID</strong>\
         This run does not measure what it claims.<ul>"
    )?;
    for sentence in sentences {
        writeln!(out, "<li>{}</li>", escaped(&sentence))?;
    }
    writeln!(out, "</ul></div>")
}

fn table(report: &Report, outcome: &Outcome, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "<div class=\"scroll\"><table><thead><tr><th>Requests</th><th>per second</th>\
         <th>hits</th><th>mean ms</th>"
    )?;
    for percentile in &report.percentiles {
        write!(out, "<th>p{percentile} ms</th>")?;
    }
    writeln!(out, "<th>max ms</th></tr></thead><tbody>")?;
    for (name, mut tally) in named_tallies(report, outcome) {
        let (hits, misses) = match name {
            "FULL" => outcome.tally.hits_and_misses(),
            "set" => (0, 0),
            _ => (tally.hits, tally.misses),
        };
        let hits = match hits + misses {
            0 => "–".into(),
            asked => format!("{:.3} %", hits as f64 * 100.0 / asked as f64),
        };
        let name = if name == "FULL" { "all" } else { name };
        write!(
            out,
            "<tr><td>{name}</td><td>{:.0}</td><td>{hits}</td><td>{:.4}</td>",
            tally.count as f64 / seconds(outcome),
            mean_ms(&mut tally.latency)
        )?;
        let histogram = tally.latency.histogram();
        for percentile in &report.percentiles {
            let value_ns = histogram.value_at_quantile(percentile / 100.0);
            write!(out, "<td>{:.4}</td>", ms(value_ns))?;
        }
        writeln!(out, "<td>{:.4}</td></tr>", ms(histogram.max()))?;
    }
    writeln!(out, "</tbody></table></div>")
}

/// The curve of a histogram up to its last value.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let count = histogram.len().max(1) as f64;
    // Beyond this share lies less than one value: the axis would go on without end.
    let last = 1.0 - 0.5 / count;
    histogram
        .iter_quantiles(STEPS_PER_HALVING)
        .map(|step| {
            let share = step.quantile_iterated_to().min(last);
            (share, step.value_iterated_to())
        })
        // Below a microsecond there is nothing to see but decades of axis.
        .filter(|&(_, value_ns)| value_ns >= 1000)
        .map(|(share, value_ns)| (share, ms(value_ns)))
        .collect()
}

fn percentiles(report: &Report, outcome: &Outcome, out: &mut String) -> std::fmt::Result {
    let line =
        |name: &str, latencies: &mut Latencies| Line::new(name, curve(latencies.histogram()));
    let mut lines = Vec::new();
    if report.is_open() {
        let mut all = outcome.tally.totals();
        lines.push(line("due to done: the latency", &mut all.latency));
        lines.push(line("sent to done: the service", &mut all.service));
        lines.push(line("due to sent: the lag", &mut all.lag));
    } else {
        for (name, mut tally) in named_tallies(report, outcome).into_iter().skip(1).take(4) {
            lines.push(line(name, &mut tally.latency));
        }
    }
    let axis = Axis {
        label: "percentile",
        scale: Scale::Percentile,
    };
    let note = if report.is_open() {
        "Where latency and service part, requests waited for their turn."
    } else {
        "Closed loop: what a stall would have delayed was not sent, so the right end is understated."
    };
    out.push_str(&figure(
        "Latency by percentile",
        note,
        &axis,
        &LATENCY,
        &lines,
    ));
    Ok(())
}

fn over_time(all: &KindTally, length_s: f64, run_count: f64, out: &mut String) -> std::fmt::Result {
    let timeline = &all.timeline;
    let interval_s = timeline.interval_ns() as f64 / 1e9;
    let mut rate = Vec::new();
    let mut tails = [const { Vec::new() }; 3];
    for (index, interval) in timeline.intervals().iter().enumerate() {
        let from = index as f64 * interval_s;
        let at = from + 0.5 * interval_s;
        // The end of the run cuts its last interval short, and what was done after it is no rate.
        let measured_s = (length_s - from).min(interval_s);
        if index == 0 || measured_s >= 0.5 * interval_s {
            let in_interval = interval.count as f64 / run_count;
            rate.push((from + 0.5 * measured_s, in_interval / measured_s.max(1e-9)));
        }
        if interval.count > 0 {
            let quantiles = [0.5, 0.99, 1.0];
            for (tail, quantile) in tails.iter_mut().zip(quantiles) {
                tail.push((at, ms(interval.latency.value_at_quantile(quantile).max(1))));
            }
        }
    }
    let rate_axis = Axis {
        label: "requests a second",
        scale: Scale::Linear,
    };
    let note =
        format!("Requests done in each {interval_s:.0} s, but for a rest below half of that.");
    let lines = [Line::new("done", rate)];
    out.push_str(&figure(
        "Throughput over time",
        &note,
        &TIME,
        &rate_axis,
        &lines,
    ));
    let lines: Vec<Line> = ["p50", "p99", "max"]
        .into_iter()
        .zip(tails)
        .map(|(name, points)| Line::new(name, points))
        .collect();
    let title = "Latency over time, by when requests were done";
    out.push_str(&figure(title, "", &TIME, &LATENCY, &lines));
    Ok(())
}

fn sweep(report: &Report, out: &mut String) -> std::fmt::Result {
    let session = report.session;
    let mut points: Vec<_> = session.points.iter().collect();
    points.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    let doubted: Vec<bool> = points
        .iter()
        .map(|point| !point.invalid.is_empty())
        .collect();
    let mut lines: Vec<Line> = POINT_PERCENTILES
        .iter()
        .enumerate()
        .map(|(index, percentile)| Line {
            name: format!("p{percentile}"),
            points: points
                .iter()
                .map(|point| (point.rate, ms(point.latency_ns[index].max(1))))
                .collect(),
            doubted: doubted.clone(),
        })
        .collect();
    lines.truncate(4);
    let axis = Axis {
        label: "requests a second, offered",
        scale: Scale::Linear,
    };
    let (title, note) = match session.objective {
        None => ("Latency against load".to_string(), String::new()),
        Some(objective) => (
            "Latency against load, as searched".to_string(),
            format!("Searched: the highest rate with {objective}. "),
        ),
    };
    let note = format!("{note}Hollow points are runs that are not to be believed.");
    writeln!(out, "<h2>{} rates</h2>", points.len())?;
    if let Some(conclusion) = &session.conclusion {
        writeln!(out, "<p>{}</p>", escaped(conclusion))?;
    }
    out.push_str(&figure(&title, &note, &axis, &LATENCY, &lines));
    write!(
        out,
        "<div class=\"scroll\"><table><thead><tr><th>Offered</th><th></th><th>done per second</th>"
    )?;
    for percentile in POINT_PERCENTILES {
        write!(out, "<th>p{percentile} ms</th>")?;
    }
    writeln!(
        out,
        "<th>max ms</th><th class=\"words\">judgement</th></tr></thead><tbody>"
    )?;
    for point in points {
        write!(
            out,
            "<tr><td>{:.0}</td><td>{}</td><td>{:.0}</td>",
            point.rate,
            point.judgement.name(),
            point.achieved
        )?;
        for latency_ns in point.latency_ns {
            write!(out, "<td>{:.4}</td>", ms(latency_ns))?;
        }
        writeln!(
            out,
            "<td>{:.4}</td><td class=\"words\">{}</td></tr>",
            ms(point.max_ns),
            escaped(&point.words())
        )?;
    }
    writeln!(out, "</tbody></table></div>")?;
    if let crate::plan::Pace::Open { rate, .. } = report.plan().pace {
        writeln!(out, "<h2>The run at {rate} requests a second</h2>")?;
    }
    Ok(())
}

fn about(report: &Report, outcome: &Outcome, out: &mut String) -> std::fmt::Result {
    writeln!(out, "<h2>How it was made</h2>")?;
    writeln!(out, "<pre>{}</pre>", escaped(&report.command))?;
    writeln!(out, "<div class=\"scroll\"><table><tbody>")?;
    let mut row = |name: &str, value: &str| {
        writeln!(
            out,
            "<tr><td>{}</td><td class=\"words\">{}</td></tr>",
            escaped(name),
            escaped(value)
        )
    };
    for (name, value) in &report.machine {
        row(name, value)?;
    }
    let tally = &outcome.tally;
    row("Bytes moved by", outcome.io)?;
    row(
        "Measured",
        &format!("{:.2} s", outcome.measured.as_secs_f64()),
    )?;
    row(
        "Generator",
        &format!(
            "{:.2} CPUs, busy for {:.0} % of its time",
            tally.cpu_ns as f64 / 1e9 / seconds(outcome),
            tally.busy_ns as f64 / 1e7 / seconds(outcome) / report.plan().threads as f64
        ),
    )?;
    if let Some(filled) = outcome.filled {
        let time = outcome.fill_time.as_secs_f64();
        row("Filled", &format!("{filled} keys in {time:.2} s"))?;
    }
    if outcome.interrupted {
        row("Interrupted", "before its end")?;
    }
    writeln!(out, "</tbody></table></div>\n<h2>Configuration</h2>")?;
    let trials = Trials::Runs(report.session.runs.len() as u32);
    let configuration = config::of_plan(report.plan(), &trials);
    writeln!(
        out,
        "<pre>{}</pre>",
        escaped(&config::lines(&configuration))
    )
}
