//! `cargo xtask fuzz`: cargo-fuzz over `engine/fuzz`, for a bounded time, stopping at the first finding.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::MetadataCommand;
use clap::Args;

use crate::workspace::{Workspace, find_program, run as run_command};

/// Which target, and for how long.
#[derive(Args)]
pub struct Options {
    /// The target to fuzz; all of them, one after the other, when it is not given.
    target: Option<String>,
    /// Seconds to spend on each target.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
}

/// Fuzzes the wanted targets one after the other.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    ensure!(
        find_program("cargo-fuzz").is_some(),
        "cargo-fuzz is missing: cargo install cargo-fuzz"
    );
    let folder = workspace.root.join("engine/fuzz");
    let metadata = MetadataCommand::new()
        .manifest_path(folder.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("engine/fuzz has no readable Cargo.toml")?;
    let all = metadata
        .packages
        .iter()
        .flat_map(|package| &package.targets);
    let all: Vec<&str> = all
        .filter(|target| target.is_bin())
        .map(|target| target.name.as_str())
        .collect();
    let wanted = match &options.target {
        Some(name) => {
            ensure!(
                all.contains(&name.as_str()),
                "no fuzz target `{name}`; there are: {}",
                all.join(", ")
            );
            vec![name.as_str()]
        }
        None => all,
    };
    let limit = format!("-max_total_time={}", options.seconds);
    for target in wanted {
        // Through rustup, because the sanitizers need a nightly compiler whatever compiler builds the rest.
        let mut command = Command::new("rustup");
        command
            .args(["run", "nightly", "cargo", "fuzz", "run", "--fuzz-dir"])
            .arg(&folder)
            .args([target, "--", &limit]);
        // A dictionary of the same name knows the words that chance rarely finds.
        let words = folder.join(format!("{target}.dict"));
        if words.is_file() {
            command.arg(format!("-dict={}", words.display()));
        }
        command
            .current_dir(&workspace.root)
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO");
        run_command(&mut command)?;
    }
    Ok(())
}
