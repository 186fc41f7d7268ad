//! `cargo xtask conformance`: what does the wire say?
//!
//! The transcripts in `server/transcripts` are written by hand and played to Strata and to a real memcached. The
//! memcached is the oracle for the transcripts, and the transcripts are the contract for Strata: a line that only one
//! of the two satisfies is an error in the other or in the line. Each transcript is played to a fresh server, once
//! as it stands and once cut into pieces, because where a request is cut must not matter.

mod pattern;
mod player;
mod target;
mod transcript;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::process::Memcached;
use crate::stage::Outcome;
use crate::workspace::{Workspace, find_program};
use player::{Cut, Difference, Played};
use target::Target;
use transcript::Transcript;

/// Below the workspace root.
const TRANSCRIPTS: &str = "server/transcripts";
/// Plays that run at the same time; each is a server and a client that mostly wait for each other.
const PLAYERS: usize = 4;

/// Which servers and which transcripts.
#[derive(Args, Default)]
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
}

/// Plays everything; an error if anything differed, and not-run if there is no memcached to play to.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let transcripts = read_transcripts(workspace, options)?;
    let memcacheds = memcacheds(options)?;
    let mut targets = Vec::new();
    match options.server.as_deref() {
        Some("memcached") => {}
        Some("strata") | None => {
            let strata = workspace
                .build_server(options.release)?
                .to_string_lossy()
                .into_owned();
            targets.extend(
                [1, 2].map(|workers| Target::strata(std::slice::from_ref(&strata), workers)),
            );
        }
        Some(other) => {
            let command: Vec<String> = other.split_whitespace().map(str::to_owned).collect();
            ensure!(!command.is_empty(), "--server is empty");
            targets.extend([1, 2].map(|workers| Target::strata(&command, workers)));
        }
    }
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
        bail!("{failed} play(s) differed; repeat with --filter NAME --seed {seed}");
    }
    if wants_memcached && memcacheds.is_empty() {
        return Ok(Outcome::NotRun(
            "no memcached on the PATH to hold the transcripts against".into(),
        ));
    }
    Ok(Outcome::Passed)
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
    let (wanted, skipped): (Vec<_>, Vec<_>) = transcripts
        .iter()
        .partition(|transcript| target.plays_transcript(transcript));
    let plays: Vec<(&Transcript, Cut)> = wanted
        .iter()
        .flat_map(|transcript| cuts(transcript, seed))
        .collect();
    let next = AtomicUsize::new(0);
    let results = Mutex::new((0, 0, Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..PLAYERS {
            scope.spawn(|| {
                while let Some((transcript, cut)) = plays.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let result = play_one(target, transcript, *cut);
                    let mut results = results.lock().expect("no player panics while it counts");
                    match result {
                        Ok(played) => {
                            results.0 += 1;
                            results.1 += played.skipped_lines;
                        }
                        Err(text) => {
                            eprintln!("{text}");
                            results.2.push(format!("{} ({cut:?})", transcript.name));
                        }
                    }
                }
            });
        }
    });
    let (passed, skipped_lines, mut failed) = results.into_inner().expect("all players are done");
    failed.sort();
    eprintln!(
        "{}: {passed} of {} plays as written",
        target.name,
        plays.len()
    );
    if skipped_lines + skipped.len() > 0 {
        let names: Vec<&str> = skipped
            .iter()
            .map(|transcript| transcript.name.as_str())
            .collect();
        eprintln!(
            "    not for this server: {skipped_lines} lines, {} transcripts {}",
            names.len(),
            names.join(" ")
        );
    }
    for name in &failed {
        eprintln!("    differed: {name}");
    }
    failed.len()
}

fn cuts(transcript: &Transcript, seed: u64) -> Vec<(&Transcript, Cut)> {
    let mut cuts = vec![(transcript, Cut::Whole)];
    if transcript.may_be_cut {
        cuts.extend([(transcript, Cut::Bytes), (transcript, Cut::Random(seed))]);
    }
    cuts
}

fn play_one(target: &Target, transcript: &Transcript, cut: Cut) -> Result<Played, String> {
    let title = format!("DIFFERS {}.txt, {}, {cut:?}", transcript.name, target.name);
    let mut server = target
        .start(transcript)
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
