//! Which policy keeps what will be asked for? Replays synthetic workloads in process, with an invented clock, through
//! our shard, the segcache crate, an exact LRU and a plain S3-FIFO, and counts their misses at equal memory.
//!
//! ```text
//! workload --draw--> trace --replay--> each policy at each memory size --> table, JSON, SVG
//! ```
//!
//! Always true: every policy meets the same requests at the same virtual seconds with the same memory, all of it
//! counted; there is no socket, no sleep, and no real time in any result.
//!
//! `cargo xtask missratio` builds and runs this, and knows where records belong.

mod cache;
mod draw;
mod plot;
mod replay;
mod report;
mod trace;
mod workload;

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use cache::lru::Lru;
use cache::{POLICIES, Policy};
use replay::{Outcome, replay};
use report::{Entry, Row, Run, Section};
use trace::Trace;
use workload::Workload;

/// Requests of a workload of length 1.
const REQUESTS: usize = 2_000_000;
/// The same with `--quick`.
const REQUESTS_QUICK: usize = 600_000;
/// Memory sizes, as shares of the live bytes.
const SHARES: [f64; 3] = [1.0 / 32.0, 1.0 / 8.0, 1.0 / 2.0];
/// Ranks that change their object in an hour, in percent.
const DRIFTS: [f64; 2] = [0.0, 5.0];
/// How often a store that waits for ever is tried; the peer's hash has another seed each time.
const TRIES: usize = 3;
/// No store is asked to work in less; smaller sizes are left out.
const MEMORY_BYTES_MIN: usize = 2 << 20;

/// Replays synthetic workloads and counts what each eviction policy misses.
#[derive(Parser)]
struct Args {
    /// Workloads, by name [default: all]
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    /// Policies, by name [default: all]
    #[arg(long, value_delimiter = ',')]
    policy: Vec<String>,
    /// Requests of a workload of length 1
    #[arg(long)]
    requests: Option<usize>,
    /// Memory sizes, as shares of the live bytes [default: 1/32, 1/8 and 1/2]
    #[arg(long, value_delimiter = ',')]
    shares: Vec<f64>,
    /// Drifts to run, in percent of the ranks an hour [default: 0,5]
    #[arg(long, value_delimiter = ',')]
    drift: Vec<f64>,
    /// Short runs without drift: a look, not a record
    #[arg(long)]
    quick: bool,
    /// Replays at the same time
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Seed of all traces
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Replay one store only and print its outcome: memory in bytes, policy, variant
    #[arg(long, hide = true, num_args = 3, value_names = ["BYTES", "POLICY", "VARIANT"])]
    alone: Option<Vec<String>>,
    /// Where to write the record: files of this path and ending; none is written without
    #[arg(long, value_name = "STEM")]
    record: Option<PathBuf>,
    /// For the record: the machine
    #[arg(long, default_value = "")]
    machine: String,
    /// For the record: the day
    #[arg(long, default_value = "")]
    date: String,
    /// For the record: the commit
    #[arg(long, default_value = "")]
    commit: String,
    /// For the record: the command
    #[arg(long, default_value = "")]
    command: String,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.quick {
        args.requests.get_or_insert(REQUESTS_QUICK);
    }
    if args.shares.is_empty() {
        args.shares = SHARES.to_vec();
    }
    if args.drift.is_empty() {
        args.drift = if args.quick { &DRIFTS[..1] } else { &DRIFTS }.to_vec();
    }
    let result = match &args.alone {
        Some(store) => alone(&args, store),
        None => run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("missratio: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

fn run(args: &Args) -> Result<(), Failure> {
    let workloads = chosen(workload::ALL, &args.workload, |workload| workload.name)?;
    let policies = chosen(POLICIES, &args.policy, |(name, _)| name)?;
    if args.shares.iter().any(|&share| share <= 0.0) || args.threads == 0 {
        return Err("--shares and --threads must be above 0".into());
    }
    let base = args.requests.unwrap_or(REQUESTS);
    let mut plans: Vec<(&Workload, f64)> = Vec::new();
    for &drift in &args.drift {
        for workload in &workloads {
            if drift == 0.0 || workload.drifts {
                plans.push((workload, drift / 100.0));
            }
        }
    }
    let replays: usize = policies.iter().map(|(_, policy)| policy.variants()).sum();
    let replays = replays * args.shares.len() + 1;
    let requests = |workload: &Workload| (base as f64 * workload.length) as usize;
    let total: usize = plans.iter().map(|(one, _)| requests(one) * replays).sum();
    let bar = ProgressBar::new(total as u64);
    bar.set_style(ProgressStyle::with_template(
        "{msg:22} {wide_bar} {human_pos} of {human_len} requests, {per_sec}, {eta} left",
    )?);

    let names: Vec<&str> = policies.iter().map(|(name, _)| *name).collect();
    let mut record = Run {
        machine: args.machine.clone(),
        date: args.date.clone(),
        commit: args.commit.clone(),
        command: args.command.clone(),
        requests: base,
        seed: args.seed,
        sections: Vec::new(),
    };
    print!("{}", report::head(&names));
    for (workload, drift) in plans {
        let title = format!(
            "{} {}",
            workload.name,
            if drift > 0.0 { "drifting" } else { "" }
        );
        bar.set_message(title);
        let section = section(args, workload, drift, requests(workload), &policies, &bar);
        bar.suspend(|| print!("{}", report::lines(&section, &names)));
        record.sections.push(section);
        // After each workload, so that a long run that is cut short has not been for nothing.
        if let Some(stem) = &args.record {
            write(stem, &record, &names)?;
        }
    }
    bar.finish_and_clear();
    if let Some(stem) = &args.record {
        eprintln!("wrote {}.md and beside it JSON and SVG", stem.display());
    }
    Ok(())
}

/// Those of `all` that are named, or all of them.
fn chosen<T: Copy>(
    all: &[T],
    names: &[String],
    name: impl Fn(&T) -> &'static str,
) -> Result<Vec<T>, Failure> {
    for wanted in names {
        if !all.iter().any(|one| name(one) == wanted) {
            let known: Vec<&str> = all.iter().map(&name).collect();
            return Err(format!("no {wanted:?}; there are {}", known.join(", ")).into());
        }
    }
    let wanted = |one: &&T| names.is_empty() || names.iter().any(|wanted| name(one) == wanted);
    Ok(all.iter().filter(wanted).copied().collect())
}

/// What a process does that was started for one store.
fn alone(args: &Args, store: &[String]) -> Result<(), Failure> {
    let workloads = chosen(workload::ALL, &args.workload, |workload| workload.name)?;
    let policies = chosen(POLICIES, &store[1..2], |(name, _)| name)?;
    let ([workload], [(_, policy)], [drift]) = (&workloads[..], &policies[..], &args.drift[..])
    else {
        return Err("--alone: wants one workload, one policy and one drift".into());
    };
    let count = args.requests.ok_or("--alone: wants --requests")?;
    let trace = Arc::new(Trace::draw(workload, drift / 100.0, count, args.seed));
    let memory_bytes = store[0].parse()?;
    let mut cache = policy.open(&trace, memory_bytes, store[2].parse()?);
    let outcome = replay(&trace, &mut *cache, &|_| {});
    assert!(
        cache.charged_bytes() <= memory_bytes,
        "{} bytes",
        cache.charged_bytes()
    );
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

/// Replays one store in a process of its own. `None` when it waits for ever, each time it is tried.
fn elsewhere(
    args: &Args,
    (workload, drift, requests): (&Workload, f64, usize),
    memory_bytes: usize,
    (name, variant): (&str, usize),
) -> Option<Outcome> {
    for _ in 0..TRIES {
        let output = Command::new(std::env::current_exe().expect("the path of this program"))
            .args(["--workload", workload.name])
            .args(["--drift", &(drift * 100.0).to_string()])
            .args(["--requests", &requests.to_string()])
            .args(["--seed", &args.seed.to_string()])
            .args([
                "--alone",
                &memory_bytes.to_string(),
                name,
                &variant.to_string(),
            ])
            .stderr(Stdio::inherit())
            .output()
            .expect("this program can be started once more");
        if output.status.code() == Some(cache::clock::STUCK) {
            continue;
        }
        assert!(
            output.status.success(),
            "{name} on {} ended with {}",
            workload.name,
            output.status
        );
        return Some(serde_json::from_slice(&output.stdout).expect("an outcome"));
    }
    None
}

/// One store to replay a trace through.
#[derive(Clone, Copy)]
struct Job {
    row: usize,
    policy: usize,
    variant: usize,
}

fn section(
    args: &Args,
    workload: &Workload,
    drift: f64,
    requests: usize,
    policies: &[(&str, Policy)],
    bar: &ProgressBar,
) -> Section {
    let trace = Arc::new(Trace::draw(workload, drift, requests, args.seed));
    let progress = |done: usize| bar.inc(done as u64);
    let unlimited = {
        let mut cache = Lru::new(&trace, usize::MAX, 0);
        replay(&trace, &mut cache, &progress)
    };
    // Whole pages, so that no store loses a part of one.
    let memory_bytes =
        |share: f64| ((unlimited.charged_bytes * share) as usize).next_multiple_of(64 << 10);
    let shares: Vec<f64> = args
        .shares
        .iter()
        .copied()
        .filter(|&share| memory_bytes(share) >= MEMORY_BYTES_MIN)
        .collect();
    let left_out = args.shares.len() - shares.len();
    let stores: usize = policies.iter().map(|(_, policy)| policy.variants()).sum();
    progress(left_out * stores * trace.len());

    // The largest stores first, so that the threads end at about the same time.
    let mut rows: Vec<usize> = (0..shares.len()).collect();
    rows.sort_by(|&one, &other| shares[other].total_cmp(&shares[one]));
    let mut jobs = Vec::new();
    for row in rows {
        for (policy, (_, kind)) in policies.iter().enumerate() {
            let variants = 0..kind.variants();
            jobs.extend(variants.map(|variant| Job {
                row,
                policy,
                variant,
            }));
        }
    }
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(Job, Option<Outcome>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| {
                while let Some(&job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (name, policy) = policies[job.policy];
                    let memory_bytes = memory_bytes(shares[job.row]);
                    let outcome = if policy.needs_a_process() {
                        let outcome = elsewhere(
                            args,
                            (workload, drift, requests),
                            memory_bytes,
                            (name, job.variant),
                        );
                        progress(requests);
                        outcome
                    } else {
                        let mut cache = policy.open(&trace, memory_bytes, job.variant);
                        let outcome = replay(&trace, &mut *cache, &progress);
                        assert!(
                            cache.charged_bytes() <= memory_bytes,
                            "{name} used {} of {memory_bytes} bytes",
                            cache.charged_bytes()
                        );
                        Some(outcome)
                    };
                    let mut outcomes = outcomes.lock().expect("no replay panics with the lock");
                    outcomes.push((job, outcome));
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().expect("all replays have ended");
    let result = |row: usize, index: usize| {
        let tried = outcomes
            .iter()
            .filter(|(job, _)| job.row == row && job.policy == index)
            .filter_map(|(_, outcome)| *outcome);
        let best = tried.min_by_key(|outcome| outcome.misses);
        Entry {
            policy: policies[index].0.to_owned(),
            miss_ratio: best.map(|outcome| outcome.miss_ratio()),
            items: best.and_then(|outcome| outcome.items),
        }
    };
    let rows = shares.iter().enumerate().map(|(row, &share)| Row {
        share,
        memory_bytes: memory_bytes(share),
        results: (0..policies.len())
            .map(|index| result(row, index))
            .collect(),
    });
    let published = workload.published();
    Section {
        workload: workload.name.to_owned(),
        about: workload.about.to_owned(),
        drift_percent: drift * 100.0,
        requests,
        hours: workload.hours,
        distinct: trace.distinct,
        mean_frequency: requests as f64 / trace.distinct as f64,
        published_mean_frequency: published.map(|(frequency, _)| frequency),
        one_hit_share: trace.one_hit as f64 / trace.distinct as f64,
        published_one_hit_share: published.map(|(_, share)| share),
        gets: unlimited.gets,
        live_mib: unlimited.charged_bytes / f64::from(1 << 20),
        unlimited_miss_ratio: unlimited.miss_ratio(),
        rows: rows.collect(),
    }
}

/// Writes Markdown, JSON and a picture for each drift.
fn write(stem: &std::path::Path, record: &Run, policies: &[&str]) -> Result<(), Failure> {
    let file = |ending: &str| {
        let mut path = stem.as_os_str().to_owned();
        path.push(ending);
        PathBuf::from(path)
    };
    if let Some(folder) = stem.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut pictures = Vec::new();
    for (drifts, ending, title) in [
        (
            false,
            ".svg",
            "Miss ratio against memory, all of it counted",
        ),
        (true, "-drift.svg", "The same with drifting popularity"),
    ] {
        let sections: Vec<&Section> = record
            .sections
            .iter()
            .filter(|section| (section.drift_percent > 0.0) == drifts)
            .collect();
        if sections.is_empty() {
            continue;
        }
        let path = file(ending);
        plot::draw(&path, title, &sections, policies)?;
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        pictures.push(name);
    }
    std::fs::write(file(".md"), report::markdown(record, policies, &pictures))?;
    std::fs::write(file(".json"), serde_json::to_string_pretty(record)? + "\n")?;
    Ok(())
}
