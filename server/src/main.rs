//! The `strata` binary: reads what is asked for and runs the server, or the check of its host.

use std::ffi::OsString;
use std::process::ExitCode;

use strata_server::access;
use strata_server::args::Args;
use strata_server::args::layers::{EX_USAGE, Gathered, gather};
use strata_server::boot::{self, StartError};
use strata_server::doctor;
use strata_server::host::Host;

/// No such user, in the numbers of `sysexits.h` that memcached uses.
const EX_NOUSER: u8 = 67;
/// The system refused something.
const EX_OSERR: u8 = 71;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == doctor::COMMAND) {
        return doctor::run(&words);
    }
    if words
        .get(1)
        .is_some_and(|word| word == access::HASH_COMMAND)
    {
        return access::hash_password();
    }
    let Gathered {
        options: args,
        listing,
    } = match gather::<Args>(&words, std::env::vars_os()) {
        Ok(gathered) => gathered,
        Err(refusal) => return refusal.tell("strata"),
    };
    if args.license {
        println!("Strata is licensed under MIT or Apache-2.0, as you like.");
        return ExitCode::SUCCESS;
    }
    let mut pid_file = args.pidfile.clone();
    let mut settings = match args.settings(Host::here().machine()) {
        Ok(mut settings) => {
            if args.daemon {
                // Files are where they were named, wherever the process goes.
                for path in settings.paths().chain(&mut pid_file) {
                    *path = std::path::absolute(&path).unwrap_or(path.clone());
                }
            }
            settings
        }
        Err(sentence) => {
            eprintln!("strata: {sentence}");
            return ExitCode::from(EX_USAGE);
        }
    };
    if args.print_config {
        print!("{listing}");
        return ExitCode::SUCCESS;
    }
    // A start that fails earlier must leave the file of the server that runs already.
    let mut pid_file_is_ours = false;
    let core_files = match args.core_files {
        true => boot::allow_core_files(),
        false => Ok(()),
    };
    boot::raise_lock_limit(&settings);
    // What only root may do comes before `-u`, and what needs a thread after `-d`.
    let started = core_files
        .and_then(|()| boot::raise_file_limit(&settings))
        .and_then(|()| boot::bind(&mut settings))
        .and_then(|listeners| Ok((listeners, boot::read_files(&settings)?)))
        .map_err(|error| (EX_OSERR, error))
        .and_then(|(listeners, files)| {
            if args.daemon {
                let verbose = settings.verbosity > 0;
                boot::detach(args.core_files, verbose).map_err(|error| (EX_OSERR, error))?;
            }
            if let Some(path) = &pid_file {
                boot::write_pid_file(path).map_err(|error| (EX_OSERR, error))?;
                pid_file_is_ours = true;
            }
            if let Some(user) = &args.user {
                boot::become_user(user, args.core_files).map_err(|error| (EX_NOUSER, error))?;
            }
            boot::run(settings, listeners, files).map_err(|error| (EX_OSERR, error))
        });
    if let Some(path) = &pid_file
        && pid_file_is_ours
    {
        let _ = std::fs::remove_file(path);
    }
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, StartError(sentence))) => {
            eprintln!("strata: {sentence}");
            ExitCode::from(code)
        }
    }
}
