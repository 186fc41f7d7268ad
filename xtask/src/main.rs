//! The developer's hands: one command for each thing a person or a machine does to this project.
//!
//! `cargo xtask test` is the whole answer to "is it sound"; every other command is one of its stages by itself, or a
//! tool that is too slow for it. This crate depends on none of the others: it builds them and looks at them from
//! outside, as a client and as a reader.

mod attack;
mod bench;
mod clients;
mod conformance;
mod fuzz;
mod held;
mod instructions;
mod load;
mod missratio;
mod perf;
mod process;
mod record_file;
mod report;
mod setup;
mod soak;
mod spread;
mod stage;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use stage::Outcome;
use workspace::Workspace;

/// Works on Strata.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything that has to hold: format, lints, tests, docs, tidy, conformance, clients.
    Test(test::Options),
    /// Check the rules no compiler knows: arrows between crates, a pure engine, where unsafe may live.
    Tidy,
    /// Play the transcripts, or dialogues drawn at random, to Strata and to a real memcached.
    Conformance(conformance::Options),
    /// Run real clients against the real binary.
    Clients(clients::Options),
    /// Fuzz one target of engine/fuzz, or all of them.
    Fuzz(fuzz::Options),
    /// Drive the store with random operations for hours, beside its reference model.
    Soak(soak::Options),
    /// Measure Strata beside its peers and the floor, in interleaved rounds, and write the record.
    Perf(perf::Options),
    /// Count the instructions of a request, with everything on beside everything off, and write the record.
    Instructions(instructions::Options),
    /// Attack a server in many ways, measure what a well-behaved client sees of it, and write the record.
    Attack(attack::Options),
    /// Run one of the usual loads with strata-load or memtier_benchmark, or compare two results.
    Load(load::Options),
    /// Run the store's benchmarks beside the segcache crate, and write the record.
    Bench(bench::Options),
    /// Count what a server holds in its memory beside a real memcached, and write the record.
    Held(held::Options),
    /// Replay synthetic workloads through the eviction policies and other stores, and write the record.
    Missratio(missratio::Options),
    /// Install what conformance and clients need: Debian packages, a Python environment, Node packages, a crate's sources.
    Setup,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = Workspace::find().and_then(|workspace| match arguments.command {
        Command::Test(options) => test::run(&workspace, &options),
        Command::Tidy => tidy::run(&workspace),
        Command::Conformance(options) => conformance::run(&workspace, &options).map(Outcome::print),
        Command::Clients(options) => clients::run(&workspace, &options).map(Outcome::print),
        Command::Fuzz(options) => fuzz::run(&workspace, &options),
        Command::Soak(options) => soak::run(&workspace, &options),
        Command::Perf(options) => perf::run(&workspace, &options),
        Command::Instructions(options) => instructions::run(&workspace, &options),
        Command::Attack(options) => attack::run(&workspace, &options),
        Command::Load(options) => load::run(&workspace, &options),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Held(options) => held::run(&workspace, &options),
        Command::Missratio(options) => missratio::run(&workspace, &options),
        Command::Setup => setup::run(&workspace),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
