//! `cargo xtask perf`: what a client sees and what it costs the server, beside peers and the
//! floor, on one machine in one sitting.
//!
//! Always true: every run has a freshly started server on its own cores and the client on
//! another, and both go before whatever else runs there, as far as that is allowed, in an open loop
//! the server at once; what is compared takes turns within a round, and each comes as often before
//! another as behind it; the server's counters are read when the client says that measuring begins and ends; a run whose client, hits or replies are in
//! doubt is recorded with the reason and never as a number; so is one that came to no figures,
//! because a server or a client failed, but for a peer that cannot do what is asked: the other runs go
//! on, every run ends in a bounded time, and the command fails when all is written. A run that others
//! disturbed is made again, a few times; where that did not help the record says so.

mod record;
pub mod subject;
pub mod usage;
pub mod workload;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::process::{favoured, favoured_command, may_be_urgent, urgent};
use crate::record_file::{self, Origin};
use crate::report::{number, reasons, strata_of};
use crate::workspace::{Workspace, find_program, run as run_command};
use record::{PERCENTILES, Record, Section, Series, Shot, Slowest, Windows};
use subject::{OURS, Running, STRATA, Subject, THIN};
use usage::Usage;
use workload::Workload;

/// Workloads measured when none is named.
const USUAL: [&str; 3] = ["get_depth_1", "get_depth_16", "get_depth_64"];

/// An open-loop client that has something to do for a larger share of its time measures itself.
const CLIENT_BUSY_MAX: f64 = 0.95;

/// How much of a core others may have during a run, the host among them, before it is made again.
const OTHERS_MAX: f64 = 0.05;

/// How often a run is made again in which they had more.
const AGAIN_MAX: usize = 2;

/// Shortest window of an open loop: short beside the distance of two gaps of the machine
/// (perf/notes/tails.md).
const WINDOW_SECONDS: f64 = 0.02;

/// Requests of a window, at least, so that there is one in it behind the 99.9th percentile.
const WINDOW_REQUESTS: f64 = 1200.0;

/// Windows of a run, at least, so that it has a middle and a slowest tenth.
const WINDOWS_LEAST: f64 = 20.0;

/// How much longer than its warm-up and its measured time a client may take: it fills the server
/// before them, writes its report behind them, and waits for what is on its way.
const CLIENT_PATIENCE: Duration = Duration::from_secs(120);

/// What to measure, and how.
#[derive(Args)]
pub struct Options {
    /// Workloads by name, files of perf/workloads [default: the three of GET hits]
    workloads: Vec<String>,
    /// All of perf/workloads
    #[arg(long, conflicts_with = "workloads")]
    all: bool,
    /// Of strata, memcached, null-ring, thin-ring, null-epoll and null-glommio only these; peers that are given run wherever Strata is not alone
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The memcached to compare with [default: from PATH]
    #[arg(long, value_name = "PATH")]
    memcached: Option<PathBuf>,
    /// The memcached to compare with over TLS, where that one has none
    #[arg(long, value_name = "PATH")]
    memcached_tls: Option<PathBuf>,
    /// Another server: 'name=command with {port}'; {threads}, {memory} and {cores} are filled in too
    #[arg(long, value_name = "NAME=COMMAND")]
    peer: Vec<String>,
    /// Rounds of each
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Measured seconds of each run
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Unmeasured seconds before them
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// First core of the servers
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the client
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Rounds of each in the open loop: more and shorter ones, because a gap of the machine spoils a whole run
    #[arg(long, default_value_t = 6)]
    open_rounds: usize,
    /// Measured seconds of each run in the open loop
    #[arg(long, default_value_t = 2.0)]
    open_seconds: f64,
    /// Offered requests a second in the open loop, instead of the workload's share of the peak
    #[arg(long)]
    rate: Option<f64>,
    /// Leave out the open loop
    #[arg(long)]
    no_latency: bool,
    /// Name of the machine, the folder of perf/records [default: from processor, cores and kernel]
    #[arg(long)]
    machine: Option<String>,
    /// Print the table only
    #[arg(long)]
    no_record: bool,
}

/// Measures, prints, and writes the record.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    ensure!(options.rounds > 0, "--rounds: must be above 0");
    ensure!(options.open_rounds > 0, "--open-rounds: must be above 0");
    ensure!(
        options.open_seconds >= WINDOW_SECONDS * WINDOWS_LEAST,
        "--open-seconds: {WINDOWS_LEAST} windows of {WINDOW_SECONDS} s do not go into {}",
        options.open_seconds
    );
    ensure!(
        options.server_core != options.client_core,
        "--client-core: server and client on one core measure each other"
    );
    ensure!(
        find_program("taskset").is_some(),
        "taskset pins the servers and is not on the PATH; it comes with util-linux"
    );
    let workloads = choose(workspace, options)?;
    let subjects = subjects(workspace, options, &workloads)?;
    let load = build(workspace, "strata-load", "strata-load")?;
    let bench = Bench { load, options };
    let mut record = Record {
        origin: Origin {
            folder: options.machine.clone(),
            ..Origin::here(workspace)?
        },
        rounds: options.rounds,
        seconds: options.seconds,
        open_rounds: options.open_rounds,
        open_seconds: options.open_seconds,
        cores: format!(
            "servers from core {}, in the open loop {}, client on core {}",
            options.server_core,
            if may_be_urgent() {
                "at a real-time priority"
            } else {
                "before others but not at once, which real-time priorities would do"
            },
            options.client_core
        ),
        sections: Vec::new(),
        goals: Vec::new(),
    };
    let mut plan = Vec::new();
    for workload in &workloads {
        plan.push((workload, entries(workload, &subjects)?));
    }
    for (workload, entries) in &plan {
        record.sections.push(bench.section(workload, entries));
    }
    record.goals = record::goals(&workloads, &record.sections);
    let text = record::markdown(&record);
    println!("{text}");
    if !options.no_record {
        record_file::write(workspace, &record.origin, None, &record, &text)?;
    }
    let lost = record.sections.iter().map(Section::lost).sum::<usize>();
    ensure!(lost == 0, "{lost} runs came to no figures");
    Ok(())
}

fn choose(workspace: &Workspace, options: &Options) -> Result<Vec<Workload>> {
    let folder = workspace.root.join("perf/workloads");
    if options.all {
        return Workload::read_all(&folder);
    }
    let names: Vec<&str> = match options.workloads.is_empty() {
        true => USUAL.to_vec(),
        false => options.workloads.iter().map(String::as_str).collect(),
    };
    Workload::read_named(&folder, &names)
}

fn subjects(
    workspace: &Workspace,
    options: &Options,
    workloads: &[Workload],
) -> Result<Vec<Subject>> {
    let peers: Vec<Subject> = options
        .peer
        .iter()
        .map(|text| Subject::peer(text))
        .collect::<Result<_>>()?;
    for name in &options.only {
        ensure!(
            OURS.contains(&name.as_str()),
            "--only: no subject {name:?}; there are {}",
            OURS.join(", ")
        );
    }
    let invited = |name: &str| workloads.iter().any(|one| one.invites(name));
    let named = |name: &str| options.only.is_empty() || options.only.iter().any(|one| one == name);
    let wanted = |name: &str| named(name) && invited(name);
    let mut subjects = Vec::new();
    if wanted("strata") {
        let path = build(workspace, "strata-server", "strata")?;
        subjects.push(Subject::like_memcached(STRATA, &path.to_string_lossy())?);
    }
    if wanted("memcached") {
        let path = match &options.memcached {
            Some(path) => path.clone(),
            None => find_program("memcached").context(
                "no memcached on the PATH: name one with --memcached, or leave it out with --only",
            )?,
        };
        let mut memcached = Subject::like_memcached("memcached", &path.to_string_lossy())?;
        if let Some(path) = &options.memcached_tls {
            let mut over_tls = Subject::like_memcached("memcached", &path.to_string_lossy())?;
            ensure!(
                over_tls.takes_tls,
                "--memcached-tls: {} was built without TLS",
                path.display()
            );
            over_tls.for_tls_alone = true;
            memcached.takes_tls = false;
            subjects.push(over_tls);
        }
        subjects.push(memcached);
    }
    let kinds: Vec<&str> = ["ring", "epoll", "glommio"]
        .into_iter()
        .filter(|kind| wanted(&format!("null-{kind}")))
        .collect();
    if !kinds.is_empty() || wanted(THIN) {
        let path = build(workspace, "strata-benches", "null_responder")?;
        for kind in kinds {
            subjects.push(Subject::null(kind, &path.to_string_lossy()));
        }
        if wanted(THIN) {
            subjects.push(Subject::thin(&path.to_string_lossy()));
        }
    }
    subjects.extend(peers);
    Ok(subjects)
}

/// Builds a release binary and gives its path.
fn build(workspace: &Workspace, package: &str, binary: &str) -> Result<PathBuf> {
    run_command(&mut workspace.cargo(&[
        "build",
        "--release",
        "--package",
        package,
        "--bin",
        binary,
    ]))?;
    Ok(workspace.target.join("release").join(binary))
}

/// How fast a run is asked to be.
#[derive(Clone, Copy)]
enum Pace {
    Closed,
    Open { rate: f64 },
}

/// Somebody under something.
type Entry = (Subject, Workload);

/// Who takes part in a workload, and under what: Strata under each of its variants too.
fn entries(workload: &Workload, subjects: &[Subject]) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::new();
    for subject in subjects {
        let invited = match subject.is_peer() {
            true => workload.invites_peers(),
            false => workload.invites(&subject.name),
        };
        let able = (!subject.for_gets_alone || workload.suits_a_canned_answer())
            && match workload.server.tls {
                true => subject.takes_tls,
                false => !subject.for_tls_alone,
            };
        if !invited || !able {
            continue;
        }
        entries.push((subject.clone(), workload.clone()));
        if subject.name == STRATA {
            for variant in &workload.variants {
                let mut subject = subject.clone();
                subject.name = variant.subject();
                entries.push((subject, workload.varied(variant)));
            }
        }
    }
    ensure!(!entries.is_empty(), "{}: nobody to measure", workload.name);
    Ok(entries)
}

struct Bench<'a> {
    load: PathBuf,
    options: &'a Options,
}

impl Bench<'_> {
    fn section(&self, workload: &Workload, entries: &[Entry]) -> Section {
        let mut section = Section::new(workload);
        if let Some(crowding) = self.crowding(workload) {
            section.remark(&crowding);
        }
        if workload.server.tls {
            section.remark("Servers without TLS are left out.");
        }
        for (subject, _) in entries {
            section.series.push(Series {
                subject: subject.name.clone(),
                version: subject.version.clone(),
                peer: subject.is_peer(),
                peak: Vec::new(),
                latency: Vec::new(),
            });
        }
        let mut present: Vec<usize> = (0..entries.len()).collect();
        self.rounds(entries, &mut present, Pace::Closed, &mut section);
        if let Some(latency) = &workload.latency
            && !self.options.no_latency
        {
            let rate = match self.options.rate {
                Some(rate) => Ok(rate),
                None => peak(&section).map(|peak| (peak * latency.share_of_peak).round()),
            };
            match rate {
                Ok(rate) => {
                    self.rounds(entries, &mut present, Pace::Open { rate }, &mut section);
                }
                Err(error) => {
                    for &index in &present {
                        section.series[index].latency.push(Shot::lost(&error));
                    }
                }
            }
        }
        section.series = (section.series.into_iter().enumerate())
            .filter_map(|(index, series)| present.contains(&index).then_some(series))
            .collect();
        section
    }

    /// The cores of a server: those from the first on, as many as it has workers and as there are,
    /// never the client's. A server beside its client would be measured by what the client leaves it.
    fn cores(&self, workers: usize) -> Vec<usize> {
        let options = self.options;
        let last = std::thread::available_parallelism().map_or(1, |count| count.get());
        (options.server_core..last.max(options.server_core + 1))
            .filter(|core| *core != options.client_core)
            .take(workers)
            .collect()
    }

    /// What is to be known of a workload with more workers than cores.
    fn crowding(&self, workload: &Workload) -> Option<String> {
        let (workers, cores) = (workload.server.threads, self.cores(workload.server.threads));
        (cores.len() < workers).then(|| {
            format!(
                "The {workers} workers shared {} of the cores, because the client has one to itself.",
                cores.len()
            )
        })
    }

    /// All rounds at a pace of those who are `present`. A peer that fails before it has any figures cannot do what is asked:
    /// it is left out from then on, and the section says why.
    fn rounds(
        &self,
        entries: &[Entry],
        present: &mut Vec<usize>,
        pace: Pace,
        section: &mut Section,
    ) {
        let rounds = match pace {
            Pace::Closed => self.options.rounds,
            Pace::Open { .. } => self.options.open_rounds,
        };
        for round in 0..rounds {
            let turns: Vec<usize> = order(present.len(), round)
                .into_iter()
                .map(|turn| present[turn])
                .collect();
            for index in turns {
                let (subject, workload) = &entries[index];
                let mut shot = undisturbed(|| {
                    self.shot(workload, subject, pace).unwrap_or_else(|error| {
                        eprintln!("{} under {}: {error:#}", subject.name, workload.name);
                        Shot::lost(&error)
                    })
                });
                shot.round = round;
                say(workload, subject, &shot);
                let series = &mut section.series[index];
                if shot.lost && subject.is_peer() && series.peak.is_empty() {
                    present.retain(|&each| each != index);
                    section.remark(&format!(
                        "{} is left out, because its first run failed. {}",
                        subject.name,
                        shot.invalid.join(" ")
                    ));
                    continue;
                }
                match pace {
                    Pace::Closed => series.peak.push(shot),
                    Pace::Open { .. } => series.latency.push(shot),
                }
            }
        }
    }

    /// One run of one subject.
    fn shot(&self, workload: &Workload, subject: &Subject, pace: Pace) -> Result<Shot> {
        let cores: Vec<String> = self
            .cores(workload.server.threads)
            .iter()
            .map(usize::to_string)
            .collect();
        let cores = cores.join(",");
        let placed = match pace {
            Pace::Closed => favoured(&cores),
            Pace::Open { .. } => urgent(&cores),
        };
        let mut server = subject.start(workload, &cores, &placed.map(str::to_owned))?;
        let shot = self.shot_at(&server, workload, subject, pace);
        match server.ended()? {
            // What the client says of it is a consequence.
            Some(status) => bail!("{} ended with {status}\n{}", subject.name, server.log()),
            None => shot,
        }
    }

    /// One run against a server that listens.
    fn shot_at(
        &self,
        server: &Running,
        workload: &Workload,
        subject: &Subject,
        pace: Pace,
    ) -> Result<Shot> {
        let options = self.options;
        let folder = tempfile::tempdir().context("a folder for the report")?;
        let file = folder.path().join("report.json");
        let core = options.client_core.to_string();
        let seconds = match pace {
            Pace::Closed => options.seconds,
            Pace::Open { .. } => options.open_seconds,
        };
        let mut command = favoured_command(&core);
        command
            .arg(&self.load)
            .args(workload.address_arguments(server.port))
            .args(workload.load_arguments(subject.canned))
            .args(["--test-time", &seconds.to_string()])
            .args(["--warmup", &options.warmup.to_string()])
            .args(["--pin", &options.client_core.to_string()])
            .args(["--announce", "--hide-histogram", "--json-out-file"])
            .arg(&file);
        match pace {
            Pace::Closed => command.args(["--pipeline", &workload.depth().to_string()]),
            Pace::Open { rate } => command
                .args(["--rate", &rate.to_string()])
                .args(["--window", &window_seconds(rate, seconds).to_string()]),
        };
        let limit = Duration::from_secs_f64(options.warmup + seconds) + CLIENT_PATIENCE;
        let (used, words) = watch(command, server.id(), limit)?;
        // What it said last is why.
        let last = words.lines().next_back().unwrap_or("strata-load gave up");
        let report = strata_of(&file).with_context(|| format!("{last}\n{words}"))?;
        let Some(used) = used else {
            bail!("strata-load did not say when it measured\n{words}");
        };
        assess(&report, used, pace)
    }
}

/// A run, made again while others disturb it, but for so long only; then the least disturbed one stands. Others are not
/// the subject's doing, so this favours nobody.
fn undisturbed(mut run: impl FnMut() -> Shot) -> Shot {
    let mut best = run();
    for made_again in 1..=AGAIN_MAX {
        if best.disturbance() <= OTHERS_MAX {
            break;
        }
        let shot = run();
        if shot.disturbance() < best.disturbance() {
            best = shot;
        }
        best.made_again = made_again;
    }
    best
}

/// Who comes after whom in a round. Each has each place as often, and each other as often before as behind it, so that
/// neither a slow change of the machine nor what the last one left behind is for or against anybody.
fn order(count: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.rotate_left(round / 2 % count.max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Length of the windows of an open loop: as short as its rate allows.
fn window_seconds(rate: f64, seconds: f64) -> f64 {
    (WINDOW_REQUESTS / rate)
        .max(WINDOW_SECONDS)
        .min(seconds / WINDOWS_LEAST)
}

/// Runs the client and reads the counters of the server, a process id, when it says so. Returns
/// what was used in between, and what the client said.
///
/// # Errors
/// It cannot be started, or has not ended when `limit` has passed; then it is ended.
fn watch(mut command: Command, server: u32, limit: Duration) -> Result<(Option<Usage>, String)> {
    let deadline = Instant::now() + limit;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start strata-load")?;
    let mut words = String::new();
    let (mut before, mut used) = (None, None);
    let stream = child.stderr.take().context("its standard error is piped")?;
    let (sender, lines) = mpsc::channel();
    // A pipe has no read with a time limit, a channel has. The thread ends with the pipe, so with the client.
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left).as_deref() {
            Ok("phase: Measuring") => before = Usage::of(server).ok(),
            Ok("phase: Measured") => {
                used = before.and_then(|before| Some(Usage::of(server).ok()?.since(before)));
            }
            Ok(line) => {
                words.push_str(line);
                words.push('\n');
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill()?;
                child.wait()?;
                bail!("strata-load did not end within {limit:?}\n{words}");
            }
        }
    }
    // An invalid run ends with a failure too, and its report says why.
    child.wait()?;
    Ok((used, words))
}

/// Turns the client's report and the server's counters into figures.
fn assess(ours: &Value, used: Usage, pace: Pace) -> Result<Shot> {
    let keys = number(ours, "keys")?;
    let seconds = number(ours, "measured seconds")?;
    let (hits, misses) = (number(ours, "hits")?, number(ours, "misses")?);
    let generator = &ours["generator"];
    let client_busy = number(generator, "busy share")?;
    let client_cpu = number(generator, "cpu share")?;
    let mut invalid = reasons(ours)?;
    let (mut rate, mut latency_ms, mut lag_p99_ms, mut windows) = (None, None, None, None);
    if let Pace::Open { rate: offered } = pace {
        let mut found = windows_of(&ours["windows"])?;
        if client_busy > CLIENT_BUSY_MAX {
            let saturated = format!(
                "The client was saturated: busy for {:.0} % of its time.",
                client_busy * 100.0
            );
            found.invalid.push(saturated.clone());
            invalid.push(saturated);
        }
        rate = Some(offered);
        latency_ms = Some(percentiles(&ours["open"]["latency, due to done (msec)"])?);
        windows = Some(found);
        lag_p99_ms = Some(number(&ours["open"]["lag, due to sent (msec)"], "p99.00")?);
    }
    let per_key = 1e6 / keys.max(1.0);
    let server_share = used.cpu_s / seconds;
    Ok(Shot {
        round: 0,
        made_again: 0,
        lost: false,
        invalid,
        ops_per_s: keys / seconds,
        seconds,
        user_us: used.user_s * per_key,
        system_us: used.system_s * per_key,
        server_share,
        switches_per_thousand: used.switches as f64 * 1000.0 / keys.max(1.0),
        resident_mib: used.resident_kib as f64 / 1024.0,
        hit_ratio: (hits + misses > 0.0).then(|| hits / (hits + misses)),
        client_busy,
        // By the time between the readings: a client with thousands of connections says late that it has measured, and
        // what it and the server did until then would be that of others.
        others: ((used.machine_busy_s - used.cpu_s) / used.at_s - client_cpu).max(0.0),
        stolen: used.machine_stolen_s / used.at_s,
        rate,
        latency_ms,
        lag_p99_ms,
        windows,
        slowest: slowest_of(&ours["slowest connection"])?,
    })
}

/// As many of the percentiles as are asked for.
fn percentiles<const COUNT: usize>(latency: &Value) -> Result<[f64; COUNT]> {
    let mut values = [0.0; COUNT];
    for (value, name) in values.iter_mut().zip(PERCENTILES) {
        *value = number(latency, name)?;
    }
    Ok(values)
}

fn windows_of(report: &Value) -> Result<Windows> {
    Ok(Windows {
        invalid: reasons(report)?,
        length_ms: number(report, "seconds")? * 1e3,
        counted: number(report, "counted")?,
        of: number(report, "of")?,
        middle_ms: percentiles(&report["middle window (msec)"])?,
        slow_ms: percentiles(&report["slowest tenth of windows (msec)"])?,
        lateness_ms: percentiles(&report["middle window's lateness (msec)"])?,
    })
}

fn slowest_of(report: &Value) -> Result<Option<Slowest>> {
    if report.is_null() {
        return Ok(None);
    }
    Ok(Some(Slowest {
        p50_ms: number(report, "p50.00")?,
        p99_ms: number(report, "p99.00")?,
        fewest: number(report, "fewest requests")?,
        most: number(report, "most requests")?,
    }))
}

/// Operations a second of memcached, or of the first subject with a valid run.
fn peak(section: &Section) -> Result<f64> {
    let of = |series: &Series| {
        let valid = series.peak.iter().filter(|shot| shot.invalid.is_empty());
        let mut all: Vec<f64> = valid.map(|shot| shot.ops_per_s).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    };
    let memcached = section
        .series
        .iter()
        .find(|series| series.subject == "memcached");
    memcached
        .and_then(of)
        .or_else(|| section.series.iter().find_map(of))
        .context("no valid closed-loop run to take a rate from; give one with --rate")
}

/// One line for a run, as it ends.
fn say(workload: &Workload, subject: &Subject, shot: &Shot) {
    let figures = if !shot.invalid.is_empty() {
        format!("INVALID: {}", shot.invalid.join(" "))
    } else if let Some([p50, p99, p999, _]) = shot.latency_ms {
        format!("p50 {p50:.3} ms, p99 {p99:.3} ms, p99.9 {p999:.3} ms")
    } else {
        format!(
            "{:.3} us CPU/op, {:.0} ops/s",
            shot.cpu_us(),
            shot.ops_per_s
        )
    };
    let windows = shot.windows.as_ref().map_or(String::new(), Windows::line);
    eprintln!(
        "{:<16} round {} {:<14} {figures}{windows}",
        workload.name,
        shot.round + 1,
        subject.name
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least that a workload says, and something more.
    pub(super) fn workload(more: &str) -> Workload {
        let least = "about = \"a\"\n[load]\nconnections = 1\ndepth = 1\nkeys = 1\nvalue_bytes = 1\nratio = \"0:1\"\n";
        let mut workload: Workload = toml::from_str(&format!("{least}{more}")).expect("a workload");
        workload.name = "w".into();
        workload
    }

    fn report(busy: f64, invalid: &[&str]) -> Value {
        let percentiles = serde_json::json!({
            "p50.00": 0.1, "p99.00": 0.2, "p99.90": 0.3, "p99.99": 0.4
        });
        serde_json::json!({
            "keys": 1000, "measured seconds": 2.0, "hits": 900, "misses": 100, "invalid": invalid,
            "generator": { "busy share": busy, "cpu share": 1.0 },
            "open": {
                "latency, due to done (msec)": percentiles,
                "lag, due to sent (msec)": percentiles,
            },
            "windows": {
                "seconds": 0.02, "of": 100, "counted": 70, "invalid": [],
                "middle window's lateness (msec)": percentiles,
                "middle window (msec)": percentiles,
                "slowest tenth of windows (msec)": percentiles,
            },
        })
    }

    fn used() -> Usage {
        Usage {
            at_s: 2.0,
            cpu_s: 2.0,
            user_s: 0.5,
            system_s: 1.5,
            switches: 7,
            resident_kib: 2048,
            machine_busy_s: 4.5,
            machine_stolen_s: 0.0,
        }
    }

    #[test]
    fn figures_are_per_key_and_per_second() {
        let shot = assess(&report(1.0, &[]), used(), Pace::Closed).expect("figures");
        assert!(shot.invalid.is_empty());
        assert_eq!((shot.user_us, shot.system_us), (500.0, 1500.0));
        assert_eq!((shot.ops_per_s, shot.server_share), (500.0, 1.0));
        assert_eq!(shot.hit_ratio, Some(0.9));
        assert_eq!((shot.switches_per_thousand, shot.resident_mib), (7.0, 2.0));
        assert!((shot.others - 0.25).abs() < 1e-9);
    }

    #[test]
    fn a_saturated_client_makes_an_open_run_invalid_but_not_a_closed_one() {
        let open = Pace::Open { rate: 10.0 };
        let shot = assess(&report(0.96, &[]), used(), open).expect("figures");
        assert!(shot.invalid[0].contains("saturated"), "{:?}", shot.invalid);
        assert_eq!(shot.windows.expect("windows").invalid, shot.invalid);
        let shot = assess(&report(0.94, &[]), used(), open).expect("figures");
        assert!(shot.invalid.is_empty(), "{:?}", shot.invalid);
        assert_eq!(shot.latency_ms, Some([0.1, 0.2, 0.3, 0.4]));
        let shot = assess(&report(0.96, &[]), used(), Pace::Closed).expect("figures");
        assert!(shot.invalid.is_empty(), "{:?}", shot.invalid);
    }

    #[test]
    fn a_server_that_does_not_start_loses_its_runs_and_a_peer_that_does_not_is_left_out() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let line = ["perf", "--rounds", "2"];
        let bench = Bench {
            load: "false".into(),
            options: &<Line as clap::Parser>::parse_from(line).options,
        };
        let workload = workload("[latency]\nshare_of_peak = 0.5\n");
        let peer = Subject::peer("guest=false {port}").expect("a peer");
        let mut ours = peer.clone();
        ours.name = "memcached".into();
        let entries = entries(&workload, &[peer, ours]).expect("entries");
        let section = bench.section(&workload, &entries);
        let note = section.note.as_deref().unwrap_or_default();
        assert!(note.contains("guest is left out"), "{note}");
        let [series] = &section.series[..] else {
            panic!("{:?}", section.series);
        };
        assert_eq!(series.subject, "memcached");
        let rounds: Vec<usize> = series.peak.iter().map(|shot| shot.round).collect();
        assert_eq!(rounds, [0, 1]);
        let reason = &series.peak[0].invalid[0];
        assert!(reason.contains("ended with exit status: 1"), "{reason}");
        // There is no rate to offer, and the record says so.
        let reason = &series.latency[0].invalid[0];
        assert!(reason.contains("no valid closed-loop run"), "{reason}");
        assert_eq!(section.lost(), 3);
    }

    #[test]
    fn a_disturbed_run_is_made_again_and_at_last_the_least_disturbed_stands() {
        for (others, stands) in [
            (&[0.05][..], 0.05),
            (&[0.2, 0.0], 0.0),
            (&[0.2, 0.06, 0.04], 0.04),
            (&[0.2, 0.06, 0.07], 0.06),
        ] {
            let mut left = others.iter();
            let shot = undisturbed(|| Shot {
                others: *left.next().expect("no run more than these"),
                ..Shot::default()
            });
            assert_eq!(left.next(), None, "{others:?}");
            assert_eq!((shot.others, shot.made_again), (stands, others.len() - 1));
        }
    }

    #[test]
    fn a_memcached_for_tls_alone_takes_part_there_alone() {
        let mut plain = Subject::peer("guest=false {port}").expect("a peer");
        plain.name = "memcached".into();
        let mut over_tls = plain.clone();
        over_tls.version = "over TLS".into();
        (over_tls.takes_tls, over_tls.for_tls_alone) = (true, true);
        let subjects = [plain, over_tls];
        let versions = |workload: &Workload| -> Vec<String> {
            let entries = entries(workload, &subjects).expect("entries");
            let versions = entries.into_iter().map(|(subject, _)| subject.version);
            versions.collect()
        };
        assert_eq!(versions(&workload("")), ["false {port}"]);
        assert_eq!(versions(&workload("[server]\ntls = true\n")), ["over TLS"]);
    }

    #[test]
    fn a_peer_takes_part_where_strata_is_not_alone() {
        let peer = Subject::peer("guest=false {port}").expect("a peer");
        let mut strata = peer.clone();
        strata.name = STRATA.into();
        let subjects = [strata, peer];
        let names = |invited: &[&str]| -> Vec<String> {
            let workload = Workload {
                subjects: invited.iter().map(|&name| name.to_owned()).collect(),
                ..workload("")
            };
            let entries = entries(&workload, &subjects).expect("entries");
            entries
                .into_iter()
                .map(|(subject, _)| subject.name)
                .collect()
        };
        assert_eq!(names(&[]), [STRATA, "guest"]);
        assert_eq!(names(&[STRATA, "memcached"]), [STRATA, "guest"]);
        assert_eq!(names(&[STRATA]), [STRATA]);
    }

    #[test]
    fn each_comes_as_often_before_another_as_behind_it_and_has_each_place_as_often() {
        for count in 0..6 {
            let orders: Vec<Vec<usize>> = (0..2 * count).map(|round| order(count, round)).collect();
            for one in 0..count {
                for place in 0..count {
                    let times = orders.iter().filter(|order| order[place] == one).count();
                    assert_eq!(times, 2, "{orders:?}");
                }
                for other in (0..count).filter(|&other| other != one) {
                    let at = |order: &[usize], who| order.iter().position(|&each| each == who);
                    let before = |order: &&Vec<usize>| at(order, one) < at(order, other);
                    assert_eq!(orders.iter().filter(before).count(), count, "{orders:?}");
                }
            }
        }
    }

    #[test]
    fn what_a_client_that_dies_said_is_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such host >&2; exit 3"]);
        let limit = Duration::from_secs(20);
        let (used, words) = watch(command, std::process::id(), limit).expect("it ended");
        assert!(used.is_none());
        assert_eq!(words, "no such host\n");
    }

    #[test]
    fn a_client_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let error = watch(command, std::process::id(), Duration::from_millis(20));
        let error = error.expect_err("it hangs").to_string();
        assert!(error.contains("did not end"), "{error}");
    }

    #[test]
    fn the_clients_own_verdict_is_kept() {
        let shot = assess(&report(0.5, &["It lied."]), used(), Pace::Closed).expect("figures");
        assert_eq!(shot.invalid, ["It lied."]);
    }

    #[test]
    fn windows_have_a_verdict_of_their_own() {
        let open = Pace::Open { rate: 10.0 };
        let shot = assess(&report(0.5, &["It was late."]), used(), open).expect("figures");
        assert_eq!(shot.invalid, ["It was late."]);
        let windows = shot.windows.expect("windows");
        assert!(windows.invalid.is_empty(), "{:?}", windows.invalid);
        assert_eq!(windows.middle_ms, [0.1, 0.2, 0.3]);
        assert!(shot.slowest.is_none());
    }

    #[test]
    fn the_slowest_connection_is_taken_over() {
        let mut report = report(0.5, &[]);
        report["slowest connection"] = serde_json::json!({
            "connections": 9, "p50.00": 1.0, "p99.00": 2.0, "fewest requests": 3, "most requests": 4
        });
        let shot = assess(&report, used(), Pace::Closed).expect("figures");
        let slowest = shot.slowest.expect("a slowest connection");
        assert_eq!((slowest.p50_ms, slowest.p99_ms), (1.0, 2.0));
        assert_eq!((slowest.fewest, slowest.most), (3.0, 4.0));
    }
}
