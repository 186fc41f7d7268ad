//! The `strata-load` binary: parse, run, report.
//!
//! Exit codes: 0 for a valid run, 1 for a failed or invalid one, 2 for a command line that cannot
//! be carried out.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use strata_load::cli::Args;
use strata_load::report::{Report, json, text};
use strata_load::{run, verdict};

fn main() -> ExitCode {
    let args = Args::parse();
    let (plan, percentiles) = match (args.plan(), args.percentiles()) {
        (Ok(plan), Ok(percentiles)) => (plan, percentiles),
        (Err(sentence), _) | (_, Err(sentence)) => {
            eprintln!("strata-load: {sentence}");
            return ExitCode::from(2);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The first signal asks the run to end and report; a second one kills as usual.
        let registered = signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)));
        if let Err(error) = registered {
            eprintln!("strata-load: signals cannot be caught, so Ctrl-C will not report: {error}");
        }
    }
    let mut outcome = match run::run(&plan, &stop, &|phase| {
        if args.announce {
            eprintln!("phase: {phase:?}");
        }
    }) {
        Ok(outcome) => outcome,
        Err(sentence) => {
            eprintln!("strata-load: {sentence}");
            return ExitCode::FAILURE;
        }
    };
    let invalid = verdict::reasons(&plan, &mut outcome);
    let report = Report {
        plan: &plan,
        outcome,
        invalid,
        percentiles,
        histogram: !args.hide_histogram,
    };
    print!("{}", text::render(&report));
    if let Some(path) = &args.json_out_file {
        let text = format!("{:#}\n", json::render(&report));
        if let Err(error) = std::fs::write(path, text) {
            eprintln!("strata-load: --json-out-file {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    if report.invalid.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
