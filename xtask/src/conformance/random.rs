//! `cargo xtask conformance --random SEED`: do Strata and a real memcached answer the same to what nobody wrote down?
//!
//! Dialogues are drawn, played to both, and the answers compared byte for byte, but for uniques and times ([`reply`]).
//! A difference is played again on fresh keys; if it shows again, the dialogue is made as short as it can be
//! ([`shrink`]) and printed. One that does not show again came of a clock's tick between two commands, and is counted.
//! What is known to differ, and why, is listed in [`explained`] and not asked.

mod dialogue;
mod draw;
mod duel;
mod explained;
mod packets;
mod reply;
mod shrink;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};

pub use draw::Dialect;

use super::target::Target;
use crate::process::{Memcached, Version};
use dialogue::{Command, Context, Dialogue, Stamp};
use duel::Duel;

/// The memcached whose refusals Strata's are. Older ones refuse other lines, in other words, and know fewer flags.
const SPOILED_SINCE: Version = [1, 6, 45];
/// How many differences end a run.
const DIFFERENCES_MAX: usize = 5;
/// How often a difference must show again before it is believed.
const CONFIRMATIONS: usize = 2;
/// How many of a hundred thousand dialogues may differ once and never again.
const FLEETING_MAX_PER_100_000: usize = 50;

/// What to play.
pub struct Plan {
    /// Where chance begins.
    pub seed: u64,
    /// How many commands.
    pub commands: u64,
    /// In which protocol.
    pub dialect: Dialect,
}

/// Plays random dialogues to a Strata and a memcached.
///
/// # Errors
/// They differ, one of them ends, or cannot be started.
pub fn run(strata: &Target, memcached: &Memcached, plan: &Plan) -> Result<()> {
    // One thread serves memcached's connections in the order in which they are written to, and no other one holds items
    // now and then, which shows: a number that somebody holds is not padded in place.
    let memcached_flags = [
        "-m",
        "1024",
        "-t",
        "1",
        "-o",
        "no_lru_maintainer,no_lru_crawler",
    ];
    let memcached_flags = memcached_flags.map(str::to_owned);
    let strata_flags = ["-m", "1024"].map(str::to_owned);
    let reference = Target::memcached(memcached);
    eprintln!(
        "{} and {}: {} commands, --random {}",
        strata.name, reference.name, plan.commands, plan.seed
    );
    let shared_uniques = strata.workers > 1;
    let mut duel = Duel::new(
        reference.start(&memcached_flags)?,
        strata.start(&strata_flags)?,
        shared_uniques,
    );
    let plain = memcached.version < SPOILED_SINCE;
    if plain {
        eprintln!(
            "    classic lines that are in order, and packets: older versions answer the rest differently"
        );
        ensure!(
            plan.dialect != Dialect::Meta,
            "meta commands are not compared with memcached before {}",
            SPOILED_SINCE.map(|number| number.to_string()).join(".")
        );
    }
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let bar = ProgressBar::new(plan.commands).with_style(ProgressStyle::with_template(
        "{wide_bar} {human_pos} of {human_len} commands, {per_sec}, {eta} left",
    )?);
    let mut tally = Tally::default();
    while tally.commands < plan.commands && tally.differences.len() < DIFFERENCES_MAX {
        let mut dialogue = draw::dialogue(&mut rng, plan.dialect, plain);
        tally.leave_out(&mut dialogue, memcached);
        if dialogue.has_foreign_unique() {
            *tally.left_out.entry(explained::FOREIGN_UNIQUE).or_default() += 1;
            continue;
        }
        dialogue.split();
        tally.dialogues += 1;
        tally.commands += dialogue.command_count() as u64;
        bar.set_position(tally.commands);
        let Some(story) = duel.differs(&dialogue, false)? else {
            continue;
        };
        let mut again = 0;
        for _ in 0..CONFIRMATIONS {
            again += usize::from(duel.differs(&dialogue, true)?.is_some());
        }
        if again < CONFIRMATIONS {
            tally.fleeting.push(story);
            continue;
        }
        let short = shrink::shrink(dialogue, plain, |shorter| {
            is_asked(shorter, memcached) && matches!(duel.differs(shorter, false), Ok(Some(_)))
        });
        // The last word belongs to a play in which nothing is hurried.
        let story = duel.differs(&short, true)?.unwrap_or(story);
        bar.suspend(|| eprintln!("DIFFERS\n{story}"));
        tally.differences.push(story);
    }
    bar.finish_and_clear();
    tally.print();
    ensure!(
        tally.differences.is_empty(),
        "{} dialogue(s) differed; repeat with --random {}",
        tally.differences.len(),
        plan.seed
    );
    let fleeting_max = 2 + tally.dialogues * FLEETING_MAX_PER_100_000 / 100_000;
    ensure!(
        tally.fleeting.len() <= fleeting_max,
        "{} dialogues differed once; a tick of the clock explains {fleeting_max}",
        tally.fleeting.len()
    );
    Ok(())
}

/// What was played so far.
#[derive(Default)]
struct Tally {
    dialogues: usize,
    commands: u64,
    left_out: BTreeMap<&'static str, u64>,
    differences: Vec<String>,
    fleeting: Vec<String>,
}

impl Tally {
    /// Takes out of a dialogue what is known to differ.
    fn leave_out(&mut self, dialogue: &mut Dialogue, memcached: &Memcached) {
        for turn in &mut dialogue.turns {
            turn.commands
                .retain(|command| match reason(command, memcached) {
                    Some(why) => {
                        *self.left_out.entry(why).or_default() += 1;
                        false
                    }
                    None => true,
                });
        }
    }

    fn print(&self) {
        const SHOWN: usize = 3;
        eprintln!(
            "    {} commands in {} dialogues",
            self.commands, self.dialogues
        );
        for (why, count) in &self.left_out {
            eprintln!("    {count} not asked: {why}");
        }
        if !self.fleeting.is_empty() {
            eprintln!("    {} differed once and not again", self.fleeting.len());
        }
        for story in self.fleeting.iter().take(SHOWN) {
            eprint!("  once:\n{story}");
        }
    }
}

fn reason(command: &Command, memcached: &Memcached) -> Option<&'static str> {
    if matches!(command, Command::Packet(_)) {
        return None;
    }
    let context = Context {
        stamp: Stamp(0),
        uniques: &[],
    };
    explained::reason(&command.bytes(&context), memcached.version)
}

/// Whether nothing of a dialogue is known to differ. What is shortened could otherwise become what nobody asks.
fn is_asked(dialogue: &Dialogue, memcached: &Memcached) -> bool {
    let commands = dialogue.turns.iter().flat_map(|turn| &turn.commands);
    commands
        .into_iter()
        .all(|command| reason(command, memcached).is_none())
}
