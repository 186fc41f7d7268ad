//! `cargo xtask missratio`: what the eviction policies keep, beside other stores at equal memory.
//!
//! The replays are a program of `benches`; its documentation tells how they are made. This command builds it, hands our
//! options on, and tells it where records of this machine belong.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::record_file::{self, Origin};
use crate::workspace::{Workspace, run as run_command};

/// What to replay, and how much of it. Without options everything, for a record.
#[derive(Args)]
pub struct Options {
    /// Workloads by name, separated by commas [default: all]
    #[arg(long)]
    workload: Option<String>,
    /// Policies by name, separated by commas [default: all]
    #[arg(long)]
    policy: Option<String>,
    /// Requests of a workload of length 1 [default: 2 million]
    #[arg(long)]
    requests: Option<usize>,
    /// Memory sizes as shares of the live bytes, separated by commas [default: 1/32, 1/8 and 1/2]
    #[arg(long)]
    shares: Option<String>,
    /// Popularity drifts in percent of the ranks an hour, separated by commas [default: 0,5]
    #[arg(long)]
    drift: Option<String>,
    /// Short runs without drift, for a look; no record unless asked for
    #[arg(long)]
    quick: bool,
    /// Write a record although it is a quick run
    #[arg(long, conflicts_with = "no_record")]
    record: bool,
    /// Print the table only
    #[arg(long)]
    no_record: bool,
    /// Replays at the same time
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

/// Builds the program and runs it.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    run_command(&mut workspace.cargo(&[
        "build",
        "--profile",
        "quick",
        "--package",
        "strata-benches",
        "--bin",
        "missratio",
    ]))?;
    let mut command = Command::new(workspace.target.join("quick/missratio"));
    command.args(["--threads", &options.threads.to_string()]);
    let requests = options.requests.map(|requests| requests.to_string());
    for (name, value) in [
        ("--workload", &options.workload),
        ("--policy", &options.policy),
        ("--requests", &requests),
        ("--shares", &options.shares),
        ("--drift", &options.drift),
    ] {
        if let Some(value) = value {
            command.args([name, value]);
        }
    }
    if options.quick {
        command.arg("--quick");
    }
    if options.record || !options.quick && !options.no_record {
        let origin = Origin::here(workspace)?;
        command
            .arg("--record")
            .arg(record_file::stem(workspace, &origin, Some("missratio"))?)
            .args(["--machine", &origin.machine])
            .args(["--date", &origin.date])
            .args(["--commit", &origin.commit])
            .args(["--command", &origin.command]);
    }
    run_command(&mut command)
}
