//! `cargo xtask soak`: a night's worth of random operations on the store, beside its reference model.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::workspace::{Workspace, run as run_command};

/// How long, and from where.
#[derive(Args)]
pub struct Options {
    /// Operations in all
    #[arg(long, default_value_t = 10_000_000)]
    operations: u64,
    /// The first seed, to repeat a run [default: drawn, and printed]
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the store's soak and shows how far it is.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let what = [
        "--release",
        "--package",
        "strata-store",
        "--features",
        "testkit",
        "--example",
        "soak",
    ];
    run_command(workspace.cargo(&["build"]).args(what))?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1 << 53));
    eprintln!(
        "cargo xtask soak --seed {seed} --operations {}",
        options.operations
    );
    let mut child = workspace
        .cargo(&["run", "--quiet"])
        .args(what)
        .arg("--")
        .args([seed.to_string(), options.operations.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the soak")?;
    // Hidden by itself where nobody looks.
    let bar = ProgressBar::new(options.operations).with_style(ProgressStyle::with_template(
        "{wide_bar} {human_pos} of {human_len} operations, {per_sec}, {eta} left",
    )?);
    let stream = child.stdout.take().context("its output is piped")?;
    let mut done = 0;
    for line in BufReader::new(stream).lines() {
        done = line?.parse().context("a number of operations")?;
        bar.set_position(done);
    }
    bar.finish_and_clear();
    let status = child.wait()?;
    ensure!(
        status.success() && done == options.operations,
        "the soak ended with {status} after {done} operations"
    );
    println!("{done} operations from the seed {seed}: nothing found");
    Ok(())
}
