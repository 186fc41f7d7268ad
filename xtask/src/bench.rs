//! `cargo xtask bench`: the store's benchmarks in one run on one machine, as a record with ratios.
//!
//! The benchmarks themselves are in `benches`; each asserts that it did what its name says. This command runs them, reads
//! what criterion wrote, and puts our figures beside those of the `segcache` crate.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::record_file::{self, Origin};
use crate::workspace::Workspace;

/// One line of the table: what is measured, by whom, and the most it may take of the peer's time.
struct Question {
    what: &'static str,
    group: &'static str,
    ours: &'static str,
    goal: f64,
}

/// The peer as it comes, and on huge pages put under it from outside.
const PEERS: [&str; 2] = ["segcache", "segcache_huge"];

const QUESTIONS: [Question; 9] = [
    question("GET hit, 20 k items", "get_hit/20k", "strata", 0.5),
    question("GET hit, 4 M items", "get_hit/4m", "strata", 0.5),
    question(
        "GET hit, 4 M items, batches of 16",
        "get_hit/4m",
        "strata_by_16",
        1.0 / 6.0,
    ),
    question("GET miss, 4 M items", "get_miss/4m", "strata", 0.5),
    question(
        "SET into space, 4 M items",
        "set_into_space/4m",
        "strata",
        0.5,
    ),
    question(
        "SET with eviction, 32 B",
        "set_with_eviction/32",
        "strata",
        0.5,
    ),
    question(
        "SET with eviction, 64 B",
        "set_with_eviction/64",
        "strata",
        0.5,
    ),
    question(
        "SET with eviction, 128 B",
        "set_with_eviction/128",
        "strata",
        0.5,
    ),
    question(
        "SET with eviction, 512 B",
        "set_with_eviction/512",
        "strata",
        0.5,
    ),
];

const fn question(
    what: &'static str,
    group: &'static str,
    ours: &'static str,
    goal: f64,
) -> Question {
    Question {
        what,
        group,
        ours,
        goal,
    }
}

/// How thoroughly.
#[derive(Args)]
pub struct Options {
    /// A tenth of the time, for a look; writes no record
    #[arg(long)]
    quick: bool,
    /// The core to run on
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// Print the table only
    #[arg(long)]
    no_record: bool,
}

#[derive(Serialize)]
struct Record {
    #[serde(flatten)]
    origin: Origin,
    rows: Vec<Row>,
    /// What the benchmarks that are not criterion's printed.
    held: Vec<String>,
    latency: Vec<String>,
}

/// Nanoseconds an operation, medians.
#[derive(Serialize)]
struct Row {
    what: &'static str,
    ours_ns: f64,
    peers_ns: [f64; PEERS.len()],
    goal: f64,
}

/// Runs all, prints, and writes the record.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    bench(workspace, options, "store")?;
    let folder = workspace.target.join("criterion");
    let rows = QUESTIONS
        .iter()
        .map(|question| {
            let peer = |name: &&str| nanoseconds(&folder, question.group, name);
            let peers: Vec<f64> = PEERS.iter().map(peer).collect::<Result<_>>()?;
            Ok(Row {
                what: question.what,
                ours_ns: nanoseconds(&folder, question.group, question.ours)?,
                peers_ns: peers.try_into().expect("one figure for each peer"),
                goal: question.goal,
            })
        })
        .collect::<Result<_>>()?;
    let record = Record {
        origin: Origin::here(workspace)?,
        rows,
        held: bench(workspace, options, "store_held")?,
        latency: bench(workspace, options, "store_latency")?,
    };
    let text = markdown(&record)?;
    println!("{text}");
    if !options.no_record && !options.quick {
        record_file::write(workspace, &record.origin, Some("store"), &record, &text)?;
    }
    Ok(())
}

/// Runs one benchmark on its core and gives the lines it printed.
fn bench(workspace: &Workspace, options: &Options, name: &str) -> Result<Vec<String>> {
    // Built first: the compiler may use every core.
    let arguments = ["bench", "--package", "strata-benches", "--bench", name];
    crate::workspace::run(workspace.cargo(&arguments).arg("--no-run"))?;
    let mut command = std::process::Command::new("taskset");
    command
        .args(["--cpu-list", &options.core.to_string()])
        .arg(workspace.cargo(&[]).get_program())
        .args(arguments)
        .arg("--")
        .args(options.quick.then_some("--quick"))
        .current_dir(&workspace.root)
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start taskset")?;
    let stream = child.stdout.take().context("its output is piped")?;
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        eprintln!("{line}");
        lines.push(line);
    }
    let status = child.wait()?;
    ensure!(status.success(), "the benchmark {name} ended with {status}");
    Ok(lines)
}

/// The median time of one operation of a benchmark, as criterion wrote it.
fn nanoseconds(folder: &Path, group: &str, name: &str) -> Result<f64> {
    let folder = folder.join(group.replace('/', "_")).join(name).join("new");
    let read = |file: &str| -> Result<Value> {
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    };
    per_operation(&read("estimates.json")?, &read("benchmark.json")?)
        .with_context(|| format!("{group}/{name}"))
}

fn per_operation(estimates: &Value, benchmark: &Value) -> Result<f64> {
    let median = estimates["median"]["point_estimate"]
        .as_f64()
        .context("no median")?;
    let operations = benchmark["throughput"]["Elements"]
        .as_f64()
        .context("no number of operations")?;
    Ok(median / operations)
}

fn markdown(record: &Record) -> Result<String> {
    let mut text = record.origin.heading();
    text.push_str(
        "Nanoseconds an operation in process, on one core; medians of criterion in one run, processor time of the \
         thread. Keys of 16 bytes, values of 64 unless told. The ratio is ours to the `segcache` crate as it comes.\n\n",
    );
    writeln!(
        text,
        "| measurement | strata | segcache | segcache, huge pages | ratio | goal | ratio, huge pages |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for row in &record.rows {
        let [peer, huge] = row.peers_ns;
        writeln!(
            text,
            "| {} | {:.1} | {:.1} | {:.1} | {:.3} | {:.3} | {:.3} |",
            row.what,
            row.ours_ns,
            peer,
            huge,
            row.ours_ns / peer,
            row.goal,
            row.ours_ns / huge
        )?;
    }
    for (title, lines) in [
        ("Items held in the same memory", &record.held),
        ("The longest call", &record.latency),
    ] {
        writeln!(text, "\n## {title}\n\n```")?;
        for line in lines {
            writeln!(text, "{line}")?;
        }
        writeln!(text, "```")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_divided_by_its_operations() {
        let estimates = serde_json::json!({ "median": { "point_estimate": 1600.0 } });
        let benchmark = serde_json::json!({ "throughput": { "Elements": 16 } });
        assert_eq!(per_operation(&estimates, &benchmark).ok(), Some(100.0));
        assert!(per_operation(&benchmark, &estimates).is_err());
    }

    #[test]
    fn the_table_has_both_ratios() {
        let record = Record {
            origin: Origin::default(),
            rows: vec![Row {
                what: "GET",
                ours_ns: 50.0,
                peers_ns: [200.0, 100.0],
                goal: 0.5,
            }],
            held: vec!["held".into()],
            latency: Vec::new(),
        };
        let text = markdown(&record).expect("a table");
        assert!(
            text.contains("| GET | 50.0 | 200.0 | 100.0 | 0.250 | 0.500 | 0.500 |"),
            "{text}"
        );
        assert!(text.contains("```\nheld\n```"), "{text}");
    }
}
