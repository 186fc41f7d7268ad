//! `cargo xtask conformance`: what does the wire say?
//!
//! The transcripts in `server/transcripts` are written by hand and played to Strata and to a real memcached. The
//! memcached is the oracle for the transcripts, and the transcripts are the contract for Strata: a line that only one
//! of the two satisfies is an error in the other or in the line. Each transcript is played to a fresh server, once
//! as it stands and once cut into pieces, because where a request is cut must not matter.
//!
//! With `--random` the dialogues are drawn from a seed instead, and the memcached's answers are the contract: see [`random`].

mod packet;
mod pattern;
mod player;
mod random;
mod target;
mod transcript;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::process::Memcached;
use crate::stage::Outcome;
use crate::workspace::{Workspace, find_program};
use pattern::Names;
use player::{Cut, Difference, Played};
use target::Target;
use transcript::{Action, Deed, Transcript};

/// Below the workspace root.
const TRANSCRIPTS: &str = "server/transcripts";
/// Plays that run at the same time; each is a server and a client that mostly wait for each other.
const PLAYERS: usize = 4;
/// Commands of a random run, unless told otherwise.
const RANDOM_COMMANDS: u64 = 300_000;

/// Which servers and which transcripts.
#[derive(Args)]
pub struct Options {
    /// `strata`, `memcached`, or a command line that starts a server to be held to what Strata is held to; both
    /// Strata and memcached when it is not given.
    #[arg(long)]
    server: Option<String>,
    /// A memcached to play to; may be given more than once. The one on the PATH when it is not given.
    #[arg(long)]
    memcached: Vec<PathBuf>,
    /// Only transcripts whose name contains this.
    #[arg(long)]
    filter: Option<String>,
    /// The seed of the random cuts; every run prints its own.
    #[arg(long)]
    seed: Option<u64>,
    /// Play to an optimised Strata instead of one with its debug assertions on.
    #[arg(long)]
    release: bool,
    /// Instead of the transcripts, play dialogues drawn from this seed to Strata and to a memcached, and compare.
    #[arg(long, value_name = "SEED")]
    random: Option<u64>,
    /// How many random commands.
    #[arg(long, default_value_t = RANDOM_COMMANDS)]
    commands: u64,
    /// The protocol of the random dialogues.
    #[arg(long, value_enum, default_value_t = random::Dialect::All)]
    dialect: random::Dialect,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            server: None,
            memcached: Vec::new(),
            filter: None,
            seed: None,
            release: false,
            random: None,
            commands: RANDOM_COMMANDS,
            dialect: random::Dialect::All,
        }
    }
}

impl Options {
    /// Random dialogues instead of the transcripts.
    pub fn random(seed: u64, commands: u64) -> Self {
        Self {
            random: Some(seed),
            commands,
            ..Self::default()
        }
    }
}

/// Plays everything; an error if anything differed, and not-run if there is no memcached to play to.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let memcacheds = memcacheds(options)?;
    if let Some(seed) = options.random {
        return run_random(workspace, options, &memcacheds, seed);
    }
    let transcripts = read_transcripts(workspace, options)?;
    let mut targets = stratas(workspace, options)?;
    let wants_memcached = matches!(options.server.as_deref(), None | Some("memcached"));
    if wants_memcached {
        targets.extend(memcacheds.iter().map(Target::memcached));
    }
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{} transcripts, cuts from --seed {seed}", transcripts.len());
    let failed: usize = targets
        .iter()
        .map(|target| play_all(target, &transcripts, seed))
        .sum();
    if failed > 0 {
        bail!("{failed} transcript(s) differed; repeat with --filter NAME --seed {seed}");
    }
    if wants_memcached && memcacheds.is_empty() {
        return Ok(Outcome::NotRun(
            "no memcached on the PATH to hold the transcripts against".into(),
        ));
    }
    Ok(Outcome::Passed)
}

/// Random dialogues: with one worker, whose uniques are all its own, then with two, between which keys travel.
fn run_random(
    workspace: &Workspace,
    options: &Options,
    memcacheds: &[Memcached],
    seed: u64,
) -> Result<Outcome> {
    if memcacheds.is_empty() {
        return Ok(Outcome::NotRun(
            "no memcached on the PATH to compare random dialogues with".into(),
        ));
    }
    let targets = stratas(workspace, options)?;
    ensure!(
        !targets.is_empty(),
        "--random compares Strata with a memcached"
    );
    let plays = (targets.len() * memcacheds.len()) as u64;
    for memcached in memcacheds {
        for (at, target) in targets.iter().enumerate() {
            let plan = random::Plan {
                seed: seed.wrapping_add(at as u64),
                commands: options.commands.div_ceil(plays),
                dialect: options.dialect,
            };
            random::run(target, memcached, &plan)?;
        }
    }
    Ok(Outcome::Passed)
}

/// What is to be held to Strata's lines: with one worker, and with two; none if only memcached is.
fn stratas(workspace: &Workspace, options: &Options) -> Result<Vec<Target>> {
    let command = match options.server.as_deref() {
        Some("memcached") => return Ok(Vec::new()),
        Some("strata") | None => {
            let strata = workspace.build_server(options.release)?;
            vec![strata.to_string_lossy().into_owned()]
        }
        Some(other) => other.split_whitespace().map(str::to_owned).collect(),
    };
    ensure!(!command.is_empty(), "--server is empty");
    Ok(vec![
        Target::strata(&command, 1),
        Target::strata(&command, 2),
    ])
}

fn memcacheds(options: &Options) -> Result<Vec<Memcached>> {
    if options.memcached.is_empty() {
        return find_program("memcached")
            .map(|path| Memcached::at(&path))
            .into_iter()
            .collect();
    }
    options
        .memcached
        .iter()
        .map(|path| Memcached::at(path))
        .collect()
}

/// What the clients of each transcript send, by its name and theirs: the bytes that need no answer to be known.
pub fn sent(workspace: &Workspace) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for transcript in read_transcripts(workspace, &Options::default())? {
        let mut of_clients = BTreeMap::<char, Vec<u8>>::new();
        for step in &transcript.steps {
            let Action::On(client, deed) = &step.action else {
                continue;
            };
            if let Deed::Send(pattern) | Deed::SendPacket(pattern) | Deed::Flood(_, pattern) = deed
                && let Ok(bytes) = pattern.bytes(&Names::new())
            {
                of_clients.entry(*client).or_default().extend(bytes);
            }
        }
        let named = |(client, bytes)| (format!("{}-{client}", transcript.name), bytes);
        all.extend(of_clients.into_iter().map(named));
    }
    Ok(all)
}

fn read_transcripts(workspace: &Workspace, options: &Options) -> Result<Vec<Transcript>> {
    let folder = workspace.root.join(TRANSCRIPTS);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_wanted = options
            .filter
            .as_ref()
            .is_none_or(|filter| name.contains(filter.as_str()));
        if path.extension().is_some_and(|extension| extension == "txt") && is_wanted {
            paths.push((name, path));
        }
    }
    paths.sort();
    ensure!(
        !paths.is_empty(),
        "no transcript in {TRANSCRIPTS} has such a name"
    );
    let read = |(name, path): &(String, PathBuf)| {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Transcript::parse(name, &text).map_err(anyhow::Error::msg)
    };
    paths.iter().map(read).collect()
}

/// Plays every transcript to one target and prints what differed; the number of plays that did.
fn play_all(target: &Target, transcripts: &[Transcript], seed: u64) -> usize {
    let (wanted, skipped): (Vec<&Transcript>, Vec<&Transcript>) = transcripts
        .iter()
        .partition(|transcript| target.plays_transcript(transcript));
    // A server that does not start at all would say so once for each transcript.
    if let Err(error) = target.start(&[]) {
        eprintln!("{}: does not start: {error:#}", target.name);
        return wanted.len();
    }
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                while let Some(transcript) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = play_cuts(target, transcript, seed);
                    tally
                        .lock()
                        .expect("no player panics while it counts")
                        .add(transcript, result);
                }
            });
        }
    });
    let mut tally = tally.into_inner().expect("all players are done");
    eprintln!(
        "{}: {} of {} transcripts as written",
        target.name,
        tally.passed,
        wanted.len()
    );
    if tally.skipped_lines + skipped.len() > 0 {
        let names: Vec<&str> = skipped
            .iter()
            .map(|transcript| transcript.name.as_str())
            .collect();
        let lines = tally.skipped_lines;
        eprintln!(
            "    not for this server: {lines} lines, {} transcripts {}",
            names.len(),
            names.join(" ")
        );
    }
    tally.failed.sort();
    for name in &tally.failed {
        eprintln!("    differed: {name}");
    }
    tally.failed.len()
}

/// What came of the transcripts played so far.
#[derive(Default)]
struct Tally {
    passed: usize,
    skipped_lines: usize,
    failed: Vec<String>,
}

impl Tally {
    fn add(&mut self, transcript: &Transcript, result: Result<Played, String>) {
        match result {
            Ok(played) => {
                self.passed += 1;
                self.skipped_lines += played.skipped_lines;
            }
            Err(text) => {
                eprintln!("{text}");
                self.failed.push(transcript.name.clone());
            }
        }
    }
}

/// Plays a transcript as it stands, then cut; the first play that differs is the last.
fn play_cuts(target: &Target, transcript: &Transcript, seed: u64) -> Result<Played, String> {
    let played = play_one(target, transcript, Cut::Whole)?;
    if transcript.may_be_cut {
        play_one(target, transcript, Cut::Bytes)?;
        play_one(target, transcript, Cut::Random(seed))?;
    }
    Ok(played)
}

fn play_one(target: &Target, transcript: &Transcript, cut: Cut) -> Result<Played, String> {
    let title = format!("DIFFERS {}.txt, {}, {cut:?}", transcript.name, target.name);
    let mut server = target
        .start(&transcript.flags)
        .map_err(|error| format!("{title}\n    {error:#}"))?;
    let played = player::play(transcript, target, &mut server, cut);
    played.map_err(|Difference { line, story }| format!("{title}, line {line}\n{story}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transcript_can_be_read() {
        let workspace = Workspace::find().expect("the workspace");
        let transcripts = read_transcripts(&workspace, &Options::default()).expect("transcripts");
        assert!(
            transcripts
                .iter()
                .all(|transcript| !transcript.steps.is_empty())
        );
    }
}
