//! `strata doctor`: looks at this host with the settings in mind, and says what to change.
//!
//! Always true: a person and a program are told the same, and the exit status says whether anything hurts. What is
//! looked at, and when it is said to hurt, is in `checks`.
//!
//! ```text
//! strata doctor [--json] [any option of the server, which may also stand in a file and the environment]
//! ```

mod checks;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use crate::args::Args;
use crate::args::layers::{EX_USAGE, Gathered, gather};
use crate::host::Host;
use checks::examine;

/// The word that asks for it, in front of all options.
pub const COMMAND: &str = "doctor";

/// Checks the host for a server with these options and says what to change.
#[derive(Parser, Debug)]
#[command(
    name = "strata doctor",
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true
)]
struct Asked {
    /// Print what is found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Args,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// As it should be.
    Fine,
    /// Works, and could be better or cannot be told.
    Note,
    /// Will hurt.
    Hurts,
}

impl Mark {
    fn word(self) -> &'static str {
        match self {
            Mark::Fine => "ok",
            Mark::Note => "note",
            Mark::Hurts => "HURTS",
        }
    }
}

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How bad it is.
    pub mark: Mark,
    /// What there is and, where something is to be done, what.
    pub sentence: String,
}

fn finding(what: &'static str, mark: Mark, sentence: impl Into<String>) -> Finding {
    Finding {
        what,
        mark,
        sentence: sentence.into(),
    }
}

/// Runs the command with its words, the program's name and `doctor` in front.
#[must_use]
pub fn run(words: &[OsString]) -> ExitCode {
    let Gathered {
        options: asked,
        listing,
    } = match gather::<Asked>(&words[1..], std::env::vars_os()) {
        Ok(gathered) => gathered,
        Err(refusal) => return refusal.tell("strata doctor"),
    };
    let host = Host::here();
    let machine = host.machine();
    let settings = match asked.server.settings(machine) {
        Ok(settings) => settings,
        Err(sentence) => {
            eprintln!("strata doctor: {sentence}");
            return ExitCode::from(EX_USAGE);
        }
    };
    if asked.server.print_config {
        print!("{listing}");
        return ExitCode::SUCCESS;
    }
    let findings = examine(&host, machine, &settings, try_ring().err().as_deref());
    let text = match asked.json {
        true => as_json(&findings),
        false => as_text(&findings),
    };
    print!("{text}");
    match hurts(&findings) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Whether the kernel gives us a ring.
fn try_ring() -> Result<(), String> {
    match io_uring::IoUring::new(8) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn hurts(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.mark == Mark::Hurts)
}

fn as_text(findings: &[Finding]) -> String {
    let mut out = String::new();
    let width = findings.iter().map(|finding| finding.what.len()).max();
    let width = width.unwrap_or(0);
    for Finding {
        what,
        mark,
        sentence,
    } in findings
    {
        writeln!(out, "{:<5}  {what:<width$}  {sentence}", mark.word())
            .expect("a string takes all");
    }
    out
}

fn as_json(findings: &[Finding]) -> String {
    let list: Vec<serde_json::Value> = findings
        .iter()
        .map(|one| json!({ "check": one.what, "mark": one.mark.word(), "sentence": one.sentence }))
        .collect();
    let whole = json!({ "hurts": hurts(findings), "findings": list });
    format!("{whole:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_as_the_text() {
        let findings = [
            finding("memory", Mark::Fine, "enough"),
            finding("swap", Mark::Hurts, "swapoff -a"),
        ];
        let text = "ok     memory  enough\nHURTS  swap    swapoff -a\n";
        assert_eq!(as_text(&findings), text);
        let whole: serde_json::Value = serde_json::from_str(&as_json(&findings)).expect("JSON");
        let one =
            |check, mark, sentence| json!({ "check": check, "mark": mark, "sentence": sentence });
        let expected = [
            one("memory", "ok", "enough"),
            one("swap", "HURTS", "swapoff -a"),
        ];
        assert_eq!(whole, json!({ "hurts": true, "findings": expected }));
        assert!(!hurts(&findings[..1]));
    }
}
