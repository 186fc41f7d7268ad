//! `cargo xtask fuzz`: cargo-fuzz over `engine/fuzz`, for a bounded time, stopping at the first finding.
//!
//! Always true: nothing but cargo-fuzz is needed beside what builds the rest. The flags a fuzzer wants are for nightly
//! compilers only; `RUSTC_BOOTSTRAP` has the compiler at hand take them.
//!
//! The targets that read a protocol begin with what the transcripts say, so that they need not guess a command before
//! they can get it wrong.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cargo_metadata::MetadataCommand;
use clap::{Args, ValueEnum};

use crate::conformance;
use crate::workspace::{Workspace, find_program, run as run_command};

/// A longer input tells a fuzzer no more, and every run of it takes longer.
const INPUT_MAX_BYTES: usize = 4096;
/// The targets whose input is a byte that says how many sizes of pieces follow, and then what a client sends.
const TARGETS_OF_STREAMS: &[&str] = &["requests", "packets"];

/// What looks over the target's shoulder.
#[derive(Clone, Copy, ValueEnum)]
enum Sanitizer {
    /// Every access to memory.
    Address,
    /// Nothing: twice as many runs, and the only choice where the compiler has no such library.
    None,
}

/// Which target, and for how long.
#[derive(Args)]
pub struct Options {
    /// The target to fuzz; all of them, one after the other, when it is not given.
    target: Option<String>,
    /// Seconds to spend on each target.
    #[arg(long, default_value_t = 600)]
    seconds: u32,
    /// What looks over the target's shoulder.
    #[arg(long, value_enum, default_value_t = Sanitizer::Address)]
    sanitizer: Sanitizer,
}

/// Fuzzes the wanted targets one after the other.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    ensure!(
        find_program("cargo-fuzz").is_some(),
        "cargo-fuzz is missing: cargo install cargo-fuzz --locked"
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
    let sanitizer = options.sanitizer.to_possible_value();
    let sanitizer = sanitizer.context("every sanitizer has a name")?;
    for target in wanted {
        let corpus = folder.join("corpus").join(target);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        let mut command = workspace.cargo(&["fuzz", "run", "--fuzz-dir"]);
        command
            .arg(&folder)
            .args(["--sanitizer", sanitizer.get_name(), target])
            .arg(&corpus);
        if TARGETS_OF_STREAMS.contains(&target) {
            command.arg(write_seeds(workspace)?);
        }
        command.args([
            "--",
            "-print_final_stats=1",
            &format!("-max_len={INPUT_MAX_BYTES}"),
            &format!("-max_total_time={}", options.seconds),
        ]);
        // A dictionary of the same name knows the words that chance rarely finds.
        let words = folder.join(format!("{target}.dict"));
        if words.is_file() {
            command.arg(format!("-dict={}", words.display()));
        }
        run_command(command.env("RUSTC_BOOTSTRAP", "1"))?;
    }
    Ok(())
}

/// Writes what each client of the transcripts sends as an input of its own; the folder they are in.
fn write_seeds(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("fuzz-seeds");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for (name, bytes) in conformance::sent(workspace)? {
        if let Some(input) = seed(&bytes) {
            let path = folder.join(name);
            fs::write(&path, input).with_context(|| path.display().to_string())?;
        }
    }
    Ok(folder)
}

/// What a client sends as an input: no sizes of pieces, then the bytes. None of what is too long to be of use.
fn seed(sent: &[u8]) -> Option<Vec<u8>> {
    (sent.len() < INPUT_MAX_BYTES).then(|| [&[0], sent].concat())
}
