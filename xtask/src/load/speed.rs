//! `cargo xtask load speed`: how many requests strata-load makes on one core beside memtier_benchmark, and whether both
//! see the same latency where a server gives them the time to.
//!
//! Always true: both tools have the same core, the same options and a responder of their own on the other core; they
//! take turns, who is first in one round is last in the next; and a run that calls itself invalid, or that could not
//! check what it was answered, counts for nothing.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tempfile::TempDir;

use super::{Tool, in_turn, memtier, strata};
use crate::perf::usage::Usage;
use crate::process::with_parent_death;
use crate::record_file::{self, Origin};
use crate::report::{number, reasons};
use crate::spread::{Spread, cell};
use crate::workspace::{Workspace, find_program};

/// How long a responder may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(5);

/// The rest of the slow responder. Long beside what either tool needs for itself.
const REST_US: u32 = 1000;

/// The key that the responders know, so that their value can be checked.
const KEY: &str = "10000000";

/// What to measure, and how.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Rounds of each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measured seconds of each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Only these of the loads: depth-1, depth-16, depth-64, one-connection, one-connection-resting
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The memtier_benchmark to compare with [default: from PATH]
    #[arg(long, value_name = "PATH")]
    memtier: Option<PathBuf>,
    /// Core of the responder
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the tools
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Name of the machine, the folder of perf/records [default: from processor, cores and kernel]
    #[arg(long)]
    machine: Option<String>,
    /// Print the tables only
    #[arg(long)]
    no_record: bool,
}

/// What a load is looked at for.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Goal {
    /// At least so many times memtier's requests a second.
    Times(f64),
    /// A median latency that differs from memtier's by at most this share.
    Within(f64),
    /// A median latency to look at.
    Latency,
}

/// A load that both tools understand.
struct Load {
    name: &'static str,
    about: &'static str,
    responder: &'static [&'static str],
    options: &'static [&'static str],
    ours: &'static [&'static str],
    goal: Goal,
}

const LOADS: &[Load] = &[
    Load {
        name: "depth-1",
        about: "50 connections, one request in flight on each",
        responder: &["--kind=ring"],
        options: &["--clients=50", "--pipeline=1"],
        ours: &[],
        goal: Goal::Times(1.5),
    },
    Load {
        name: "depth-16",
        about: "50 connections, 16 in flight on each",
        responder: &["--kind=ring"],
        options: &["--clients=50", "--pipeline=16"],
        ours: &[],
        goal: Goal::Times(3.0),
    },
    Load {
        name: "depth-64",
        about: "50 connections, 64 in flight on each",
        responder: &["--kind=ring"],
        options: &["--clients=50", "--pipeline=64"],
        ours: &[],
        goal: Goal::Times(3.0),
    },
    Load {
        name: "one-connection",
        about: "one connection, one in flight, both tools asleep until the answer comes",
        responder: &["--kind=ring"],
        options: &["--clients=1", "--pipeline=1"],
        ours: &["--wait=sleep"],
        goal: Goal::Latency,
    },
    Load {
        name: "one-connection-resting",
        about: "the same, answered after a rest of a millisecond",
        responder: &["--kind=rest"],
        options: &["--clients=1", "--pipeline=1"],
        ours: &["--wait=sleep"],
        goal: Goal::Within(0.05),
    },
];

/// One run of one tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Shot {
    /// Why its numbers do not count; empty when they do.
    invalid: Vec<String>,
    ops_per_s: f64,
    p50_ms: f64,
    /// Share of the tool's life in which the responder ran.
    responder_share: f64,
}

/// All runs under one load, by round.
#[derive(Serialize)]
struct Section {
    load: &'static str,
    about: &'static str,
    goal: Goal,
    memtier: Vec<Shot>,
    strata: Vec<Shot>,
}

#[derive(Serialize)]
struct Record {
    #[serde(flatten)]
    origin: Origin,
    memtier: String,
    rounds: u32,
    seconds: u32,
    cores: String,
    sections: Vec<Section>,
}

/// Measures, prints, and writes the record.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    ensure!(
        options.server_core != options.client_core,
        "--client-core: the responder and a tool on one core measure each other"
    );
    ensure!(
        find_program("taskset").is_some(),
        "taskset pins the tools and is not on the PATH; it comes with util-linux"
    );
    for name in &options.only {
        let known: Vec<&str> = LOADS.iter().map(|load| load.name).collect();
        ensure!(
            known.contains(&name.as_str()),
            "--only: no load {name:?}; there are {}",
            known.join(", ")
        );
    }
    let memtier = match &options.memtier {
        Some(path) => path.clone(),
        None => memtier(false)?,
    };
    let programs = [
        (Tool::Memtier, memtier),
        (Tool::Strata, strata(workspace, false)?),
    ];
    let responder = workspace.build("strata-benches", "null_responder", true)?;
    let mut sections = Vec::new();
    for load in LOADS {
        if !options.only.is_empty() && !options.only.iter().any(|name| name == load.name) {
            continue;
        }
        let mut shots = [const { Vec::new() }; 2];
        for round in 0..options.rounds {
            for place in in_turn(round, programs.len()) {
                let (tool, program) = &programs[place];
                let shot = load
                    .shot(*tool, program, &responder, options)
                    .with_context(|| format!("{} under {}", tool.word(), load.name))?;
                eprintln!(
                    "{} {} {}: {:.0} ops/s, p50 {:.4} ms, responder {:.0} % busy {}",
                    load.name,
                    round + 1,
                    tool.word(),
                    shot.ops_per_s,
                    shot.p50_ms,
                    shot.responder_share * 100.0,
                    shot.invalid.join(" ")
                );
                shots[place].push(shot);
            }
        }
        let [memtier, strata] = shots;
        sections.push(Section {
            load: load.name,
            about: load.about,
            goal: load.goal,
            memtier,
            strata,
        });
    }
    let record = Record {
        origin: Origin {
            folder: options.machine.clone(),
            ..Origin::here(workspace)?
        },
        memtier: version(&programs[0].1)?,
        rounds: options.rounds,
        seconds: options.seconds,
        cores: format!(
            "responder on core {}, tool on core {}",
            options.server_core, options.client_core
        ),
        sections,
    };
    let text = markdown(&record)?;
    println!("{text}");
    if !options.no_record {
        record_file::write(workspace, &record.origin, Some("load"), &record, &text)?;
    }
    Ok(())
}

/// What memtier_benchmark says it is.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

impl Load {
    /// One run of one tool against a responder of its own.
    fn shot(
        &self,
        tool: Tool,
        program: &Path,
        responder: &Path,
        options: &Options,
    ) -> Result<Shot> {
        let server = Responder::start(responder, self.responder, options.server_core)?;
        let file = server.folder.path().join("result.json");
        let core = options.client_core.to_string();
        let mut command = Command::new("taskset");
        command
            .args(["--cpu-list", &core])
            .arg(program)
            .args(["--server=127.0.0.1", "--protocol=memcache_text"])
            .arg(format!("--port={}", server.port))
            .args(["--threads=1", "--ratio=0:1", "--data-size=32"])
            .args(["--key-minimum", KEY, "--key-maximum", KEY])
            .args(self.options)
            .arg(format!("--test-time={}", options.seconds))
            .arg("--hide-histogram")
            .arg(format!("--json-out-file={}", file.display()));
        if tool == Tool::Strata {
            command.args(self.ours).args(["--pin", &core]);
        }
        let log = server.folder.path().join("tool");
        command
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let (began, before) = (Instant::now(), server.cpu_s()?);
        let status = command.status().context("cannot start taskset")?;
        let words = || std::fs::read_to_string(&log).unwrap_or_default();
        // An invalid run fails too, and its result says why.
        ensure!(
            file.exists(),
            "it ended with {status} and without a result\n{}",
            words()
        );
        let responder_share = (server.cpu_s()? - before) / began.elapsed().as_secs_f64();
        let result: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)
            .with_context(|| format!("its result is no JSON\n{}", words()))?;
        let mut shot = read(&result, tool)?;
        shot.responder_share = responder_share;
        Ok(shot)
    }
}

/// What a result file says.
fn read(result: &Value, tool: Tool) -> Result<Shot> {
    let totals = &result["ALL STATS"]["Totals"];
    let ops_per_s = number(totals, "Ops/sec")?;
    let p50_ms = number(&totals["Percentile Latencies"], "p50.00")?;
    let hits_per_s = number(&result["ALL STATS"]["Gets"], "Hits/sec")?;
    let mut invalid: Vec<String> = Vec::new();
    if tool == Tool::Strata {
        invalid.extend(reasons(&result["Strata"])?);
    }
    // Both print two decimals.
    if (hits_per_s - ops_per_s).abs() > 0.02 {
        invalid.push(format!(
            "Only {hits_per_s} of {ops_per_s} a second were hits."
        ));
    }
    Ok(Shot {
        invalid,
        ops_per_s,
        p50_ms,
        responder_share: 0.0,
    })
}

/// A null responder on its core; ends with its guard.
struct Responder {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Responder {
    fn start(program: &Path, arguments: &[&str], core: usize) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the results")?;
        let port_file = folder.path().join("port");
        let child = with_parent_death(&[program.display().to_string()])
            .args(arguments)
            .arg(format!("--rest-us={REST_US}"))
            .arg(format!("--cpu={core}"))
            .arg("--port-file")
            .arg(&port_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut responder = Self {
            child,
            port: 0,
            folder,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            // It is renamed into place, so a port that is there is whole.
            if let Ok(text) = std::fs::read_to_string(&port_file) {
                responder.port = text.trim().parse().context("its port")?;
                return Ok(responder);
            }
            if let Some(status) = responder.child.try_wait()? {
                bail!("the responder ended with {status}");
            }
            ensure!(Instant::now() < deadline, "the responder does not listen");
            std::thread::sleep(GLANCE);
        }
    }

    /// Seconds its threads have run.
    fn cpu_s(&self) -> Result<f64> {
        let usage = Usage::of(self.child.id())?;
        Ok(usage.user_s + usage.system_s)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and `wait` only collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Section {
    /// What `value` is over the valid runs of a tool.
    fn spread(shots: &[Shot], value: impl Fn(&Shot) -> f64) -> Option<Spread> {
        let valid = shots.iter().filter(|shot| shot.invalid.is_empty());
        Spread::of(valid.map(value))
    }

    /// What `value` of ours is to memtier's, round by round.
    fn ratio(&self, value: impl Fn(&Shot) -> f64) -> Option<Spread> {
        let rounds = self.memtier.iter().zip(&self.strata);
        let valid =
            rounds.filter(|(one, other)| one.invalid.is_empty() && other.invalid.is_empty());
        Spread::of(valid.map(|(one, other)| value(other) / value(one)))
    }

    /// The goal in words, and whether it is reached.
    fn verdict(&self) -> (String, &'static str) {
        let answer = |reached: Option<bool>| match reached {
            Some(true) => "yes",
            Some(false) => "no",
            None => "invalid",
        };
        match self.goal {
            Goal::Times(least) => {
                let ratio = self.ratio(|shot| shot.ops_per_s);
                let reached = ratio.map(|ratio| ratio.median >= least);
                (format!("at least {least}"), answer(reached))
            }
            Goal::Within(share) => {
                let ratio = self.ratio(|shot| shot.p50_ms);
                let reached = ratio.map(|ratio| (ratio.median - 1.0).abs() <= share);
                (format!("within {:.0} %", share * 100.0), answer(reached))
            }
            Goal::Latency => ("none".into(), ""),
        }
    }
}

fn markdown(record: &Record) -> Result<String> {
    let mut out = record.origin.heading();
    writeln!(
        out,
        "Medians of {} rounds of {} s, least and most in parentheses; ratios are taken within a round. {}. Each run has a \
         null responder of its own, which gives the same hit to every request; strata-load compares key and length of \
         each hit, and every eighth value byte by byte, memtier_benchmark does not look. {}.",
        record.rounds,
        record.seconds,
        capital(&record.cores),
        record.memtier
    )?;
    let of = |wanted: fn(&Goal) -> bool| {
        let sections = record.sections.iter();
        sections.filter(move |section| wanted(&section.goal))
    };
    let mut speed = of(|goal| matches!(goal, Goal::Times(_))).peekable();
    if speed.peek().is_some() {
        writeln!(
            out,
            "\n## Requests a second\n\n| load | memtier_benchmark | strata-load | ratio | goal | reached | responder busy with each |\n|---|---|---|---|---|---|---|"
        )?;
    }
    for section in speed {
        let rate = |shots| cell(Section::spread(shots, |shot| shot.ops_per_s), 0);
        let busy = |shots| {
            Section::spread(shots, |shot| shot.responder_share * 100.0)
                .map_or(String::new(), |busy| format!("{:.0} %", busy.median))
        };
        let (goal, reached) = section.verdict();
        writeln!(
            out,
            "| {} | {} | {} | {} | {goal} | {reached} | {}, {} |",
            section.about,
            rate(&section.memtier),
            rate(&section.strata),
            cell(section.ratio(|shot| shot.ops_per_s), 2),
            busy(&section.memtier),
            busy(&section.strata),
        )?;
    }
    let mut latency = of(|goal| !matches!(goal, Goal::Times(_))).peekable();
    if latency.peek().is_some() {
        writeln!(
            out,
            "\n## Median latency in milliseconds\n\n| load | memtier_benchmark | strata-load | ratio | goal | reached |\n|---|---|---|---|---|---|"
        )?;
    }
    for section in latency {
        let p50 = |shots| cell(Section::spread(shots, |shot| shot.p50_ms), 4);
        let (goal, reached) = section.verdict();
        writeln!(
            out,
            "| {} | {} | {} | {} | {goal} | {reached} |",
            section.about,
            p50(&section.memtier),
            p50(&section.strata),
            cell(section.ratio(|shot| shot.p50_ms), 3),
        )?;
    }
    let mut heading = "\nInvalid runs, not counted above:\n\n";
    for section in &record.sections {
        for (tool, shots) in [("memtier", &section.memtier), ("strata", &section.strata)] {
            for (round, shot) in shots.iter().enumerate() {
                if shot.invalid.is_empty() {
                    continue;
                }
                let reasons = shot.invalid.join(" ");
                writeln!(
                    out,
                    "{heading}- {}, {tool}, round {}: {reasons}",
                    section.load,
                    round + 1
                )?;
                heading = "";
            }
        }
    }
    Ok(out)
}

/// A sentence's beginning.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shot(ops_per_s: f64, p50_ms: f64, invalid: &[&str]) -> Shot {
        Shot {
            invalid: invalid.iter().map(|reason| reason.to_string()).collect(),
            ops_per_s,
            p50_ms,
            responder_share: 0.5,
        }
    }

    fn section(goal: Goal, memtier: Vec<Shot>, strata: Vec<Shot>) -> Section {
        Section {
            load: "name",
            about: "what it is",
            goal,
            memtier,
            strata,
        }
    }

    #[test]
    fn an_invalid_round_counts_for_neither_tool_and_is_told() {
        let one = section(
            Goal::Times(3.0),
            vec![shot(10.0, 1.0, &[]), shot(10.0, 1.0, &[])],
            vec![shot(29.0, 1.0, &[]), shot(9000.0, 1.0, &["It is off."])],
        );
        assert_eq!(one.verdict(), ("at least 3".into(), "no"));
        let record = Record {
            origin: Origin::default(),
            memtier: "memtier".into(),
            rounds: 2,
            seconds: 1,
            cores: "cores".into(),
            sections: vec![one],
        };
        let text = markdown(&record).expect("a text");
        assert!(text.contains("name, strata, round 2: It is off."), "{text}");
        assert!(!text.contains("9000"), "{text}");
        assert!(text.contains("| 2.90 (2.90..2.90) |"), "{text}");
    }

    #[test]
    fn latencies_agree_in_both_directions() {
        let of = |ours: f64| {
            let sides = (vec![shot(1.0, 1.0, &[])], vec![shot(1.0, ours, &[])]);
            section(Goal::Within(0.05), sides.0, sides.1).verdict().1
        };
        assert_eq!(
            [of(0.94), of(0.96), of(1.04), of(1.06)],
            ["no", "yes", "yes", "no"]
        );
        let nothing = section(Goal::Within(0.05), Vec::new(), Vec::new());
        assert_eq!(nothing.verdict().1, "invalid");
    }

    #[test]
    fn a_miss_makes_a_run_invalid() {
        let result = |hits: f64| {
            json!({ "ALL STATS": {
                "Gets": { "Hits/sec": hits },
                "Totals": { "Ops/sec": 100.0, "Percentile Latencies": { "p50.00": 0.5 } },
            } })
        };
        let fine = read(&result(100.0), Tool::Memtier).expect("a result");
        assert_eq!(
            fine,
            Shot {
                responder_share: 0.0,
                ..shot(100.0, 0.5, &[])
            }
        );
        let missed = read(&result(99.0), Tool::Memtier).expect("a result");
        assert_eq!(missed.invalid.len(), 1);
        // Ours says itself whether it is valid, and without that nothing is known.
        assert!(read(&result(100.0), Tool::Strata).is_err());
    }

    #[test]
    fn loads_differ_by_name() {
        for (index, load) in LOADS.iter().enumerate() {
            assert!(
                LOADS[index + 1..]
                    .iter()
                    .all(|other| other.name != load.name)
            );
        }
    }
}
