//! The `strata-load` binary: parse, run, report.
//!
//! Exit codes: 0 for a valid run, 1 for a failed or invalid one, 2 for a command line that cannot
//! be carried out.

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use strata_load::cli::{Args, refused};
use strata_load::live::Line;
use strata_load::report::{Report, config, files, json, machine, page, text};
use strata_load::run::{self, News};
use strata_load::trial;

fn main() -> ExitCode {
    // The words as text, for reports; what is no text cannot be an option of ours either.
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => match refused::of(&error) {
            Some(sentence) => return usage(&sentence),
            None => error.exit(),
        },
    };
    let checked = args
        .plan()
        .and_then(|plan| Ok((plan, args.percentiles()?, args.trials()?)))
        .and_then(|checked| outputs_can_be_written(&args).map(|()| checked));
    let (plan, percentiles, trials) = match checked {
        Ok(checked) => checked,
        Err(sentence) => return usage(&sentence),
    };
    if args.show_config {
        eprint!("{}", config::lines(&config::of_plan(&plan, &trials)));
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The first signal asks the run to end and report; a second one kills as usual.
        let registered = signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        if let Err(error) = registered {
            eprintln!("strata-load: signals cannot be caught, so Ctrl-C will not report: {error}");
        }
    }
    let line = RefCell::new(Line::default());
    let session = trial::carry_out(&plan, &trials, |plan| {
        let keys_to_fill = plan.fill.then(|| plan.workload.keys.count());
        let outcome = run::run(plan, &stop, &|news| match news {
            News::Phase(phase) if args.announce => eprintln!("phase: {phase:?}"),
            News::Phase(_) => {}
            News::Progress(progress) => line.borrow_mut().show(progress, keys_to_fill),
        });
        line.borrow_mut().clear();
        outcome
    });
    let session = match session {
        Ok(session) => session,
        Err(sentence) => {
            eprintln!("strata-load: {sentence}");
            return ExitCode::FAILURE;
        }
    };
    let report = Report {
        session: &session,
        percentiles,
        histogram: !args.hide_histogram,
        every_run: args.print_all_runs,
        command: quoted(&words),
        machine: machine::describe(),
    };
    if let Err(sentence) = write_all(&args, &report) {
        eprintln!("strata-load: {sentence}");
        return ExitCode::FAILURE;
    }
    if report.invalid().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn usage(sentence: &str) -> ExitCode {
    eprintln!("strata-load: {sentence}");
    ExitCode::from(2)
}

/// The files asked for, each with its option.
fn outputs(args: &Args) -> Vec<(&'static str, PathBuf)> {
    let percentiles = args
        .hdr_file_prefix
        .as_ref()
        .map(|prefix| PathBuf::from(format!("{prefix}_FULL_RUN_1.txt")));
    let all = [
        ("--out-file", args.out_file.clone()),
        ("--json-out-file", args.json_out_file.clone()),
        ("--report", args.report.clone()),
        ("--interval-log", args.interval_log.clone()),
        ("--hdr-file-prefix", percentiles),
    ];
    let asked = all.into_iter();
    asked
        .filter_map(|(option, path)| Some((option, path?)))
        .collect()
}

/// A long run whose results cannot be kept is better not begun. What is in the files stays there.
fn outputs_can_be_written(args: &Args) -> Result<(), String> {
    for (option, path) in outputs(args) {
        let is_new = !path.exists();
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| format!("{option}: {}: {error}", path.display()))?;
        if is_new {
            // A run that fails leaves no empty file; one that cannot be removed harms nobody.
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(())
}

/// Writes the report in every form asked for; one that cannot be written does not keep the others
/// from it. The error is the sentences about those.
fn write_all(args: &Args, report: &Report) -> Result<(), String> {
    let mut failed = Vec::new();
    for (option, path) in outputs(args) {
        let written = match option {
            "--out-file" => put(option, &path, text::render(report)),
            "--json-out-file" => put(option, &path, format!("{:#}\n", json::render(report))),
            "--report" => put(option, &path, page::render(report)),
            "--interval-log" => files::write_intervals(report, &path),
            _ => match &args.hdr_file_prefix {
                Some(prefix) => files::write_percentiles(report, prefix),
                None => Ok(()),
            },
        };
        failed.extend(written.err());
    }
    if args.out_file.is_none() {
        // Whoever reads it may have gone, as `head` does; the verdict is in the exit code too.
        let _ = std::io::stdout().write_all(text::render(report).as_bytes());
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("\nstrata-load: ")),
    }
}

fn put(option: &str, path: &Path, text: String) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{option}: {}: {error}", path.display()))
}

/// The words as they can be given to a shell.
fn quoted(words: &[String]) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=:,./@%+".contains(letter);
    let words: Vec<String> = words
        .iter()
        .map(|word| {
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', "'\\''"))
            }
        })
        .collect();
    words.join(" ")
}
