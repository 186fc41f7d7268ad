//! Files for HdrHistogram's tools: percentile spectra, histogram logs, and the interval log.
//!
//! Always true: file names, units and columns are those memtier_benchmark writes for
//! `--hdr-file-prefix` (milliseconds in the `.txt`, microseconds in the `.hgrm`), so that what
//! reads its files reads these; an invalid run says so in their comments. The interval log is in nanoseconds, with its maxima in
//! milliseconds.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};

use super::{Report, ms, named_tallies};
use crate::run::Outcome;

/// Steps of a spectrum each time the distance to 100 % halves, as memtier has it.
const STEPS_PER_HALVING: u32 = 5;

/// Largest value of a histogram in microseconds.
const US_MAX: u64 = 6_000_000_000;

/// Writes the files of all runs. The error is a sentence.
pub fn write_percentiles(report: &Report, prefix: &str) -> Result<(), String> {
    let put = |path: String, text: String| {
        std::fs::write(&path, text).map_err(|error| format!("--hdr-file-prefix: {path}: {error}"))
    };
    for (index, run) in report.session.runs.iter().enumerate() {
        let number = index + 1;
        for (name, mut tally) in named_tallies(report, &run.outcome) {
            let upper = name.to_uppercase();
            let (stem, what) = match name {
                "FULL" => (format!("{prefix}_FULL_RUN_{number}"), "Full Run".into()),
                _ => (format!("{prefix}_{upper}_command_run_{number}"), upper),
            };
            let histogram = tally.latency.histogram();
            // What stands behind `#` is passed over by all that read these.
            let doubts: String = (run.invalid.iter())
                .map(|sentence| format!("#[INVALID: {sentence}]\n"))
                .collect();
            put(format!("{stem}.txt"), spectrum(histogram) + &doubts)?;
            let log = log(histogram, &what, &doubts, &run.outcome);
            put(format!("{stem}.hgrm"), log)?;
        }
    }
    Ok(())
}

/// The percentile spectrum in the classic form of HdrHistogram, in milliseconds.
pub fn spectrum(histogram: &Histogram<u64>) -> String {
    let mut out = String::new();
    spectrum_into(histogram, &mut out).expect("a string takes any text");
    out
}

fn spectrum_into(histogram: &Histogram<u64>, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    for step in histogram.iter_quantiles(STEPS_PER_HALVING) {
        let value_ms = ms(step.value_iterated_to());
        let quantile = step.quantile_iterated_to();
        let count = step.count_since_last_iteration() + counted_before(histogram, &step);
        if quantile < 1.0 {
            let odds = 1.0 / (1.0 - quantile);
            writeln!(
                out,
                "{value_ms:12.6} {quantile:14.12} {count:10} {odds:14.2}"
            )?;
        } else {
            writeln!(
                out,
                "{value_ms:12.6} {quantile:14.12} {count:10}          inf"
            )?;
        }
    }
    writeln!(
        out,
        "#[Mean    = {:12.6}, StdDeviation   = {:12.6}]",
        histogram.mean() / 1e6,
        histogram.stdev() / 1e6
    )?;
    writeln!(
        out,
        "#[Max     = {:12.6}, Total count    = {:12}]",
        ms(histogram.max()),
        histogram.len()
    )?;
    writeln!(
        out,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.buckets(),
        2_u64 << (u64::from(histogram.sigfig()) * 10 / 3)
    )
}

/// Values counted up to the step before this one.
fn counted_before(
    histogram: &Histogram<u64>,
    step: &hdrhistogram::iterators::IterationValue<u64>,
) -> u64 {
    let upto = histogram.count_between(0, step.value_iterated_to());
    upto.saturating_sub(step.count_since_last_iteration())
}

/// Seconds since 1970.
fn epoch(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_secs_f64()
}

/// A histogram log of one line, which memtier calls `.hgrm`.
fn log(histogram: &Histogram<u64>, what: &str, doubts: &str, outcome: &Outcome) -> String {
    let start = epoch(outcome.started);
    let end = start + outcome.measured.as_secs_f64();
    let in_us = in_us(histogram);
    format!(
        "#[{what} command HDR latency histogram results]\n\
         #[Histogram log format version 1.2]\n\
         #[StartTime: {start:.3} (seconds since epoch)]\n\
         {doubts}\"StartTimestamp\",\"EndTimestamp\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n\
         {start:.3},{end:.3},{}.0,{}\n",
        in_us.max(),
        compressed(&in_us)
    )
}

/// The histogram in microseconds, memtier's unit.
pub fn in_us(histogram: &Histogram<u64>) -> Histogram<u64> {
    let mut in_us = Histogram::<u64>::new_with_bounds(1, US_MAX, 3).expect("the bounds are valid");
    for step in histogram.iter_recorded() {
        let value_us = step.value_iterated_to() / 1000;
        in_us.saturating_record_n(value_us, step.count_at_value());
    }
    in_us
}

/// The compressed form HdrHistogram's tools read.
pub fn compressed(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .expect("writing to memory does not fail");
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Writes the interval log of the headline's runs. The error is a sentence.
pub fn write_intervals(report: &Report, path: &Path) -> Result<(), String> {
    std::fs::write(path, intervals(report))
        .map_err(|error| format!("--interval-log: {}: {error}", path.display()))
}

/// The interval log: all requests without a tag, and if there are several kinds each of them with
/// its own.
pub fn intervals(report: &Report) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let started = report.session.runs.first().map(|run| run.outcome.started);
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(&format!("strata-load {}", env!("CARGO_PKG_VERSION")))
        .add_comment(&report.command.replace('\n', " "))
        .add_comment(&report.loop_sentence())
        .with_start_time(started.unwrap_or(UNIX_EPOCH))
        .with_max_value_divisor(1e6)
        .begin_log_with(&mut bytes, &mut serializer)
        .expect("writing to memory does not fail");
    for sentence in report.invalid() {
        writer
            .write_comment(&format!("INVALID: {}", sentence.replace('\n', " ")))
            .expect("writing to memory does not fail");
    }
    for run in &report.session.runs {
        let outcome = &run.outcome;
        let named = named_tallies(report, outcome);
        // One kind is all requests.
        let shown = if named.len() > 2 { named.len() } else { 1 };
        // By time, as readers expect it: the kinds of an interval stand together.
        let longest = named[..shown]
            .iter()
            .map(|(_, tally)| tally.timeline.intervals().len())
            .max()
            .unwrap_or(0);
        for index in 0..longest {
            for (name, tally) in &named[..shown] {
                let tag = (*name != "FULL").then(|| Tag::new(name)).flatten();
                let interval = Duration::from_nanos(tally.timeline.interval_ns());
                let Some(seen) = tally.timeline.intervals().get(index) else {
                    continue;
                };
                let start = outcome.started + interval * index as u32;
                let since = start.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
                writer
                    .write_histogram(&seen.latency, since, interval, tag)
                    .expect("writing to memory does not fail");
            }
        }
    }
    drop(writer);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spectrum_has_the_columns_plotters_read() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        for value_ms in 1..=1000 {
            histogram.record(value_ms * 1_000_000).unwrap();
        }
        let text = spectrum(&histogram);
        let lines: Vec<&str> = text.lines().collect();
        let head: Vec<&str> = lines[0].split_whitespace().collect();
        assert_eq!(
            head,
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        let mut counts = Vec::new();
        for line in lines[2..].iter().take_while(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words.len(), 4, "{line}");
            let (value, count): (f64, f64) = (words[0].parse().unwrap(), words[2].parse().unwrap());
            assert!((value / count - 1.0).abs() < 0.001, "{line}");
            counts.push(count);
        }
        assert!(counts.is_sorted());
        assert_eq!(counts.last(), Some(&1000.0));
        assert!(text.contains("Total count    =         1000]"), "{text}");
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
    }
}
