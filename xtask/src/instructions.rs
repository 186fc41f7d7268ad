//! `cargo xtask instructions`: how many instructions a request takes of the server in user mode, counted and not timed.
//!
//! Where two builds or two settings differ by a hundredth, times of a shared machine cannot tell them apart, and counts
//! can. A server runs under valgrind's callgrind twice, for a shorter and for a longer load, and the difference is divided
//! by the operations between them: its start, the fill and its end are in both. It is some fifty times slower than its
//! client then, so that a tick finds many connections ready, as under full load.
//!
//! What it is not: time in the kernel, misses of caches and branches, or the ring, which valgrind does not have: the server
//! runs with `--io epoll`, and without its admin endpoint, whose thread has a ring too. What happens by the clock, as a beat
//! of upkeep does, comes fifty times as often between two requests, so what it takes is counted too high.
//!
//! Always true: each count is of a load whose replies were right; a ratio is taken within a repeat, and stands beside its
//! extremes; what the ratio is of the CPU is said only where a record of `cargo xtask perf` tells the user's share of it.

mod callgrind;
mod record;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::perf::subject::{STRATA, Subject};
use crate::perf::workload::Workload;
use crate::process::run_bounded;
use crate::record_file::{self, Origin};
use crate::report::{number, reasons, strata_of};
use crate::workspace::Workspace;
use record::{Count, Ratio, Record, Section, Share};

/// Workloads counted when none is named: all that watches the server on, beside all of it off.
const USUAL: [&str; 4] = [
    "everything_on_get_1",
    "everything_on_get_16",
    "everything_on_get_64",
    "everything_on_set_16",
];

/// How long one load may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What to count, and how.
#[derive(Args)]
pub struct Options {
    /// Workloads by name, files of perf/workloads [default: everything on beside everything off]
    workloads: Vec<String>,
    /// How often each is counted, with a server of its own
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Operations of the shorter load
    #[arg(long, default_value_t = 20_000)]
    shorter: u64,
    /// Operations of the longer load
    #[arg(long, default_value_t = 100_000)]
    longer: u64,
    /// Profile that server and client are built with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Keep what callgrind wrote of the longer loads in this folder, for callgrind_annotate
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Name of the machine, the folder of perf/records [default: from processor, cores and kernel]
    #[arg(long)]
    machine: Option<String>,
    /// Print the table only
    #[arg(long)]
    no_record: bool,
}

/// Counts, prints, and writes the record.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let valgrind = callgrind::version()?;
    ensure!(options.repeats > 0, "--repeats: must be above 0");
    ensure!(
        options.shorter < options.longer,
        "--longer: {} operations are not more than the {} of the shorter load",
        options.longer,
        options.shorter
    );
    if let Some(folder) = &options.keep {
        std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let names: Vec<&str> = match options.workloads.is_empty() {
        true => USUAL.to_vec(),
        false => options.workloads.iter().map(String::as_str).collect(),
    };
    let workloads = Workload::read_named(&workspace.root.join("perf/workloads"), &names)?;
    let profile = options.profile.as_str();
    let strata = workspace.build_with("strata-server", "strata", profile)?;
    let counter = Counter {
        subject: Subject::like_memcached(STRATA, &strata.to_string_lossy())?,
        load: workspace.build_with("strata-load", "strata-load", profile)?,
        options,
    };
    let origin = Origin {
        folder: options.machine.clone(),
        ..Origin::here(workspace)?
    };
    let earlier = record_file::folder(workspace, &origin);
    let mut sections = Vec::new();
    for workload in &workloads {
        let counts = counter
            .counts(workload)
            .with_context(|| workload.name.clone())?;
        let ratio = |variant| {
            let share = Share::in_records(&earlier, &workload.name, variant)?;
            Ratio::of(workload, &counts, variant, share)
        };
        let variants = counts.iter().skip(1);
        let ratios = variants
            .map(|count| ratio(&count.subject))
            .collect::<Result<_>>()?;
        sections.push(Section {
            workload: workload.name.clone(),
            about: workload.about.clone(),
            counts,
            ratios,
        });
    }
    let record = Record {
        origin,
        valgrind,
        profile: profile.to_owned(),
        version: counter.subject.version.clone(),
        repeats: options.repeats,
        shorter: options.shorter,
        longer: options.longer,
        sections,
    };
    let text = record::markdown(&record);
    println!("{text}");
    if !options.no_record {
        record_file::write(
            workspace,
            &record.origin,
            Some("instructions"),
            &record,
            &text,
        )?;
    }
    Ok(())
}

struct Counter<'a> {
    subject: Subject,
    load: PathBuf,
    options: &'a Options,
}

impl Counter<'_> {
    /// Strata's counts under a workload, and behind them those of its variants.
    fn counts(&self, workload: &Workload) -> Result<Vec<Count>> {
        let mut asked = vec![(STRATA.to_owned(), workload.clone())];
        for variant in &workload.variants {
            asked.push((variant.subject(), workload.varied(variant)));
        }
        let mut counts: Vec<Count> = Vec::new();
        for (subject, _) in &asked {
            counts.push(Count {
                subject: subject.clone(),
                per_operation: Vec::new(),
            });
        }
        for repeat in 0..self.options.repeats {
            for ((subject, workload), count) in asked.iter().zip(&mut counts) {
                let one = self.count(workload, subject)?;
                eprintln!(
                    "{:<22} repeat {} {subject:<14} {one:.1} instructions an operation",
                    workload.name,
                    repeat + 1
                );
                count.per_operation.push(one);
            }
        }
        Ok(counts)
    }

    /// Instructions of one operation.
    fn count(&self, workload: &Workload, subject: &str) -> Result<f64> {
        let workload = countable(workload);
        let (few, of_few) = self.whole(&workload, subject, self.options.shorter)?;
        let (many, of_many) = self.whole(&workload, subject, self.options.longer)?;
        ensure!(
            of_many > of_few,
            "the longer load had {of_many} operations and the shorter one {of_few}"
        );
        Ok((many as f64 - few as f64) / (of_many - of_few))
    }

    /// Instructions of a server from its start to its end, and the operations between.
    fn whole(&self, workload: &Workload, subject: &str, operations: u64) -> Result<(u64, f64)> {
        let folder = tempfile::tempdir().context("a folder for the count")?;
        let counted = folder.path().join("callgrind.out");
        let report = folder.path().join("report.json");
        let mut server = self
            .subject
            .start(workload, "", &callgrind::words(&counted))?;
        let requests = workload.requests_of_each_client(operations);
        let mut command = Command::new(&self.load);
        command
            .args(workload.address_arguments(server.port))
            .args(workload.load_arguments(false))
            .args(["--pipeline", &workload.depth().to_string()])
            .args(["--requests", &requests.to_string()])
            // A client that looks would take the server's processor where there is one for both.
            .args(["--wait", "sleep", "--hide-histogram", "--json-out-file"])
            .arg(&report)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // An invalid run ends with a failure too, and its report says why; its other words stand on our standard error.
        let ended = run_bounded(&mut command, PATIENCE);
        let said = strata_of(&report)
            .with_context(|| format!("strata-load: {ended:?}\n{}", server.log()))?;
        let invalid = reasons(&said)?;
        ensure!(invalid.is_empty(), "INVALID: {}", invalid.join(" "));
        server.end()?;
        let instructions = callgrind::total(&counted)?;
        if let Some(keep) = &self.options.keep
            && operations == self.options.longer
        {
            let name = format!("{}-{}.out", workload.name, subject.replace(", ", "-"));
            std::fs::copy(&counted, keep.join(name))?;
        }
        Ok((instructions, number(&said, "keys")?))
    }
}

/// A workload as valgrind can run it.
fn countable(workload: &Workload) -> Workload {
    let mut countable = workload.clone();
    let server = &mut countable.server;
    server.scrape_s = None;
    // The endpoint's thread has a ring of its own: without one it keeps valgrind, which runs one thread at a time, busy.
    let words = &mut server.strata_arguments;
    words.retain(|word| word != "--admin" && !word.contains("{admin}"));
    server
        .strata_arguments
        .extend(["--io", "epoll"].map(str::to_owned));
    countable
}
