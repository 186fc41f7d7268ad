//! `cargo xtask test`: every check there is, in the order in which they fail fastest.
//!
//! A stage whose tool is missing does not run and says so. With `--strict`, or `CI=true` in the environment, that
//! is a failure: a machine that checks nothing must not look like a machine that found nothing.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::stage::{Outcome, Stages};
use crate::tidy::{self, files::Files};
use crate::workspace::{Workspace, find_program, run as run_command};
use crate::{clients, conformance};

/// The random dialogues of a run: long enough to meet most rules, short enough to wait for.
const RANDOM_SEED: u64 = 1;
const RANDOM_COMMANDS: u64 = 20_000;

/// What to run, and how strictly.
#[derive(Args)]
pub struct Options {
    /// Count a stage that could not run as a failure; `CI=true` in the environment does the same.
    #[arg(long)]
    strict: bool,
}

/// Runs all stages and prints their table; an error if any failed.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let strict =
        options.strict || std::env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let mut stages = Stages::new(strict);
    stages.run("format", || {
        command(workspace, &["fmt", "--all", "--check"])
    });
    stages.run("tidy", || tidy::run(workspace).map(|()| Outcome::Passed));
    stages.run("clippy", || {
        command(
            workspace,
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ],
        )
    });
    stages.run("tests", || tests(workspace));
    stages.run("doctests", || {
        command(workspace, &["test", "--doc", "--workspace"])
    });
    stages.run("docs", || docs(workspace));
    stages.run("loom", || loom(workspace));
    stages.run("conformance", || {
        conformance::run(workspace, &conformance::Options::default())
    });
    // The same dialogues in every run, so that what fails here is what the change did.
    stages.run("random", || {
        conformance::run(
            workspace,
            &conformance::Options::random(RANDOM_SEED, RANDOM_COMMANDS),
        )
    });
    stages.run("clients", || {
        clients::run(workspace, &clients::Options::default())
    });
    println!("\n{}", stages.table());
    ensure!(stages.all_well(), "not all stages passed");
    Ok(())
}

fn command(workspace: &Workspace, arguments: &[&str]) -> Result<Outcome> {
    run_command(&mut workspace.cargo(arguments))?;
    Ok(Outcome::Passed)
}

fn tests(workspace: &Workspace) -> Result<Outcome> {
    if find_program("cargo-nextest").is_some() {
        return command(workspace, &["nextest", "run", "--workspace"]);
    }
    command(
        workspace,
        &["test", "--workspace", "--lib", "--bins", "--tests"],
    )
}

fn docs(workspace: &Workspace) -> Result<Outcome> {
    run_command(
        workspace
            .cargo(&["doc", "--workspace", "--no-deps"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )?;
    Ok(Outcome::Passed)
}

/// Loom replaces the atomics of the mailbox and of lanes by its own and runs every interleaving. That is another build of the
/// crate, so it has a target folder of its own and does not throw away the ordinary one.
fn loom(workspace: &Workspace) -> Result<Outcome> {
    let files = Files::read(&workspace.root)?;
    let server = files
        .rust()
        .filter(|file| file.path.starts_with("server/src/"));
    let exists = server
        .map(|file| &file.text)
        .any(|text| text.contains("cfg(loom)") || text.contains("cfg(all(test, loom"));
    if !exists {
        return Ok(Outcome::NotRun(
            "no file of server/src has a loom test, so NO INTERLEAVING WAS CHECKED".into(),
        ));
    }
    let target = workspace.target.join("loom");
    let mut command = workspace.cargo(&[
        "test",
        "--package",
        "strata-server",
        "--release",
        "--lib",
        "interleavings",
    ]);
    command
        .env("RUSTFLAGS", "--cfg loom")
        // Optimised enough to try every interleaving, without the minutes that whole-program optimisation takes.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_TARGET_DIR", target);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .context("cargo test under loom")?;
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    ensure!(
        output.status.success(),
        "the tests under loom ended with {}",
        output.status
    );
    // A filter that matches nothing passes, so the number of tests is part of the result.
    ensure!(
        !text.contains("ok. 0 passed"),
        "the loom build has no test whose name contains `interleavings`"
    );
    Ok(Outcome::Passed)
}
