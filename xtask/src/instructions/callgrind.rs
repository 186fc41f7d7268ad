//! Counting the instructions of a process, with valgrind's callgrind.
//!
//! Always true: what is counted is every instruction of all threads of the process in user mode, from its first to its
//! last; a file of anything else is refused.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::find_program;

/// The program.
const VALGRIND: &str = "valgrind";

/// What valgrind calls itself.
///
/// # Errors
/// It is not there; the message says what that means.
pub fn version() -> Result<String> {
    ensure!(
        find_program(VALGRIND).is_some(),
        "NOTHING IS COUNTED: valgrind counts instructions and is not on the PATH (Debian: apt-get install valgrind)"
    );
    let output = Command::new(VALGRIND).arg("--version").output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Words that run the program behind them and leave the count in a file when it ends.
pub fn words(file: &Path) -> [String; 4] {
    [
        VALGRIND.into(),
        "--quiet".into(),
        "--tool=callgrind".into(),
        format!("--callgrind-out-file={}", file.display()),
    ]
}

/// The count that a program has left.
pub fn total(file: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("callgrind has written no {}", file.display()))?;
    total_of(&text).with_context(|| file.display().to_string())
}

fn total_of(text: &str) -> Result<u64> {
    let after = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(name));
        found.with_context(|| format!("no {name:?}"))
    };
    let events = after("events: ")?.trim();
    ensure!(events == "Ir", "it counts {events} and not Ir alone");
    after("totals: ")?.trim().parse().context("totals")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::run_bounded;

    #[test]
    fn the_total_is_that_of_instructions_alone() {
        let file = "version: 1\nevents: Ir\nsummary: 70\n\nfn=(1)\n1 70\n\ntotals: 70\n";
        assert_eq!(total_of(file).expect("a count"), 70);
        for (odd, says) in [
            (file.replace("Ir", "Ir Dr"), "Ir Dr"),
            (file.replace("totals", "total"), "no \"totals: \""),
            (file.replace("totals: 70", "totals: many"), "totals"),
        ] {
            let error = format!("{:#}", total_of(&odd).expect_err("refused"));
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_program_that_does_more_counts_more_and_one_that_does_the_same_as_much() {
        if let Err(error) = version() {
            eprintln!("NOT RUN: {error}");
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let count = |last: &str| {
            let file = folder.path().join("out");
            let [first, rest @ ..] = words(&file);
            let mut command = Command::new(first);
            // Output goes where it costs the same each time.
            command.args(rest).args(["seq", last]);
            command.stdout(std::process::Stdio::null());
            // Words of the environment are read by the loader, and some of them differ from run to run.
            command
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap_or_default());
            run_bounded(&mut command, Duration::from_secs(60)).expect("it runs");
            total(&file).expect("a count")
        };
        let (short, again, long) = (count("1000"), count("1000"), count("20000"));
        let per_line = (long - short) as f64 / 19000.0;
        assert!(short.abs_diff(again) < 1000, "{short} {again}");
        assert!((1.0..10_000.0).contains(&per_line), "{short} {long}");
    }
}
