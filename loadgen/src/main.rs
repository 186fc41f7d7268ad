//! The `strata-load` binary: parse, run, report.
//!
//! Exit codes: 0 for a valid run, 1 for a failed or invalid one, 2 for a command line that cannot
//! be carried out.

use std::cell::RefCell;
use std::path::Path;
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
    if let Some(sentence) = refused::sentence(words.iter().skip(1).cloned()) {
        return usage(&sentence);
    }
    let args = Args::parse();
    let checked = args
        .plan()
        .and_then(|plan| Ok((plan, args.percentiles()?, args.trials()?)));
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

/// Writes the report in every form asked for.
fn write_all(args: &Args, report: &Report) -> Result<(), String> {
    let text = text::render(report);
    match &args.out_file {
        Some(path) => put("--out-file", path, text)?,
        None => print!("{text}"),
    }
    if let Some(path) = &args.json_out_file {
        put(
            "--json-out-file",
            path,
            format!("{:#}\n", json::render(report)),
        )?;
    }
    if let Some(path) = &args.report {
        put("--report", path, page::render(report))?;
    }
    if let Some(path) = &args.interval_log {
        files::write_intervals(report, path)?;
    }
    if let Some(prefix) = &args.hdr_file_prefix {
        files::write_percentiles(report, prefix)?;
    }
    Ok(())
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
