//! `cargo xtask perf`: what a client sees and what it costs the server, beside peers and the
//! floor, on one machine in one sitting.
//!
//! Always true: every run has a freshly started server on its own cores and the client on another, and both go before
//! whatever else runs there, as far as that is allowed, in an open loop the server at once. Closed loops of a round run
//! by turns of a few hundredths of a second ([`turns`]), open loops and what cannot stand still behind each other; in
//! either, each comes as often before another as behind it. The server's counters are read when the client says that
//! measuring begins and ends. A run whose client, hits or replies are in doubt is recorded with the reason and never as
//! a number; so is one that came to no figures, because a server or a client failed, but for a peer that cannot do what
//! is asked: the other runs go on, every run ends in a bounded time, and the command fails when all is written. A run
//! that others disturbed is made again, a few times; where that did not help the record says so.

mod client;
mod figures;
mod record;
pub mod subject;
mod turns;
pub mod usage;
pub mod workload;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::process::{favoured, may_be_urgent, urgent};
use crate::record_file::{self, Origin};
use crate::workspace::{Workspace, find_program};
use client::{Client, MEASURED, MEASURING};
use record::{Record, Section, Series, Shot, Windows};
use subject::{OURS, Running, STRATA, Subject, THIN};
use turns::{Pair, take_turns};
use usage::Usage;
use workload::Workload;

/// Workloads measured when none is named.
const USUAL: [&str; 3] = ["get_depth_1", "get_depth_16", "get_depth_64"];

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

/// When a client ends by itself whom nobody tells that all have had their turns.
const TURNS_END_S: f64 = 3600.0;

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
    let load = workspace.build("strata-load", "strata-load", true)?;
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
        let path = workspace.build("strata-server", "strata", true)?;
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
        let path = workspace.build("strata-benches", "null_responder", true)?;
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
        let bear_turns = entries.iter().all(|(_, one)| one.load.bears_turns());
        for round in 0..rounds {
            let turns: Vec<usize> = order(present.len(), round)
                .into_iter()
                .map(|turn| present[turn])
                .collect();
            let shots = match pace {
                Pace::Closed if bear_turns && turns.len() > 1 => {
                    undisturbed(|| self.by_turns(entries, &turns))
                }
                _ => (turns.iter())
                    .flat_map(|&index| undisturbed(|| vec![self.alone(&entries[index], pace)]))
                    .collect(),
            };
            for (index, mut shot) in turns.into_iter().zip(shots) {
                let (subject, workload) = &entries[index];
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
    fn alone(&self, entry: &Entry, pace: Pace) -> Shot {
        let run = || {
            let limit = self.limit(pace);
            let (mut server, mut client) = self.start(entry, pace, self.seconds(pace))?;
            let id = server.id();
            let used = || {
                client.reach(MEASURING, limit)?;
                let before = Usage::of(id)?;
                client.reach(MEASURED, limit)?;
                let used = Usage::of(id)?.since(before);
                Ok((client.report(limit)?, used))
            };
            let (report, used) = server.blame(used())?;
            figures::alone(&report, &used, pace)
        };
        run().unwrap_or_else(|error| lost(entry, &error))
    }

    /// A closed-loop run of each of some entries, by turns.
    fn by_turns(&self, entries: &[Entry], which: &[usize]) -> Vec<Shot> {
        let limit = self.limit(Pace::Closed);
        let ready = |&index: &usize| {
            let (server, client) = self.start(&entries[index], Pace::Closed, TURNS_END_S)?;
            Pair::ready(server, client, limit)
        };
        let mut pairs: Vec<Result<Pair>> = which.iter().map(ready).collect();
        let mut running: Vec<&mut Pair> = pairs.iter_mut().flatten().collect();
        let others = take_turns(&mut running, self.options.seconds);
        let finish = |pair: Pair| {
            let others = others.as_ref().map_err(|error| anyhow!("{error:#}"))?;
            let (report, used, ran_s) = pair.finish(limit)?;
            figures::by_turns(&report, &used, ran_s, *others)
        };
        (which.iter().zip(pairs))
            .map(|(&index, pair)| {
                pair.and_then(finish)
                    .unwrap_or_else(|error| lost(&entries[index], &error))
            })
            .collect()
    }

    /// Starts a server and its client, which measures for `seconds` or until it is told to end.
    fn start(
        &self,
        (subject, workload): &Entry,
        pace: Pace,
        seconds: f64,
    ) -> Result<(Running, Client)> {
        let options = self.options;
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
        let server = subject.start(workload, &cores, &placed.map(str::to_owned))?;
        let core = options.client_core.to_string();
        let mut words: Vec<String> = favoured(&core).map(str::to_owned).into();
        words.push(self.load.display().to_string());
        words.extend(workload.address_arguments(server.port));
        words.extend(workload.load_arguments(subject.canned));
        let mut say = |option: &str, value: String| words.extend([option.into(), value]);
        say("--warmup", options.warmup.to_string());
        say("--test-time", seconds.to_string());
        say("--pin", core.clone());
        match pace {
            Pace::Closed => say("--pipeline", workload.depth().to_string()),
            Pace::Open { rate } => {
                say("--rate", rate.to_string());
                say("--window", window_seconds(rate, seconds).to_string());
            }
        }
        Ok((server, Client::start(&words)?))
    }

    /// How long anything may take that a client does.
    fn limit(&self, pace: Pace) -> Duration {
        Duration::from_secs_f64(self.options.warmup + self.seconds(pace)) + CLIENT_PATIENCE
    }

    /// Measured seconds of a run.
    fn seconds(&self, pace: Pace) -> f64 {
        match pace {
            Pace::Closed => self.options.seconds,
            Pace::Open { .. } => self.options.open_seconds,
        }
    }
}

/// A run without figures, of which the user hears why.
fn lost((subject, workload): &Entry, error: &anyhow::Error) -> Shot {
    eprintln!("{} under {}: {error:#}", subject.name, workload.name);
    Shot::lost(error)
}

/// Runs of one moment, made again while others disturb them, but for so long only; then the least disturbed stand. Others
/// are not the subject's doing, so this favours nobody.
fn undisturbed(mut run: impl FnMut() -> Vec<Shot>) -> Vec<Shot> {
    let worst = |shots: &[Shot]| shots.iter().map(Shot::disturbance).fold(0.0, f64::max);
    let mut best = run();
    for made_again in 1..=AGAIN_MAX {
        if worst(&best) <= OTHERS_MAX {
            break;
        }
        let shots = run();
        if worst(&shots) < worst(&best) {
            best = shots;
        }
        for shot in &mut best {
            shot.made_again = made_again;
        }
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
            let mut shots = undisturbed(|| {
                let others = *left.next().expect("no run more than these");
                let worse = Shot {
                    others,
                    ..Shot::default()
                };
                vec![Shot::default(), worse]
            });
            let shot = shots.pop().expect("two runs");
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
}
