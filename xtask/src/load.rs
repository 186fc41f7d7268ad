//! `cargo xtask load`: the usual loads as command lines that strata-load and memtier_benchmark both
//! understand, and two result files side by side; and the record of both tools' speed.
//!
//! Always true: every command line is printed before it runs, so that it can be typed again; and a
//! comparison says first which file is of a closed loop and which is invalid.

mod compare;
mod speed;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};

use crate::workspace::{Workspace, find_program};

/// A load by name.
struct Script {
    name: &'static str,
    about: &'static str,
    /// Keys of the fill and of the run.
    keys: &'static [&'static str],
    /// What the fill writes, `None` for a load that needs none.
    fill: Option<&'static [&'static str]>,
    /// The run.
    load: &'static [&'static str],
    /// What strata-load is told beside it, to do what memtier_benchmark does unasked.
    ours: &'static [&'static str],
}

/// The memtier way of writing every key once.
const FILL: &[&str] = &[
    "--ratio=1:0",
    "--key-pattern=P:P",
    "--requests=allkeys",
    "--pipeline=32",
    "--hide-histogram",
];

/// Rounds of a comparison of both tools, unless told otherwise.
const ROUNDS_OF_BOTH: u32 = 5;

const THOUSAND: &[&str] = &["--key-minimum=1", "--key-maximum=1000"];
const MILLION: &[&str] = &["--key-minimum=1", "--key-maximum=1000000"];
const ZIPF: &[&str] = &[
    "--key-minimum=1",
    "--key-maximum=1000000",
    "--key-zipf-exp=0.99",
];

const SCRIPTS: &[Script] = &[
    Script {
        name: "default",
        about: "what memtier_benchmark does when told nothing: one write to ten reads of 32 bytes, 200 connections",
        keys: &["--key-minimum=1"],
        fill: None,
        load: &["--threads=4", "--clients=50", "--ratio=1:10"],
        ours: &[],
    },
    Script {
        name: "one-connection",
        about: "reads over a single connection: the round trip, where both tools have to agree",
        keys: THOUSAND,
        fill: Some(&["--data-size=32"]),
        load: &[
            "--threads=1",
            "--clients=1",
            "--ratio=0:1",
            "--data-size=32",
        ],
        ours: &["--wait=sleep"],
    },
    Script {
        name: "read",
        about: "reads of 32 bytes over 50 connections, one in flight each",
        keys: THOUSAND,
        fill: Some(&["--data-size=32"]),
        load: &[
            "--threads=1",
            "--clients=50",
            "--ratio=0:1",
            "--data-size=32",
        ],
        ours: &[],
    },
    Script {
        name: "read-deep",
        about: "the same with 16 in flight on each connection",
        keys: THOUSAND,
        fill: Some(&["--data-size=32"]),
        load: &[
            "--threads=1",
            "--clients=50",
            "--pipeline=16",
            "--ratio=0:1",
            "--data-size=32",
        ],
        ours: &[],
    },
    Script {
        name: "zipf",
        about: "one write to nine reads of 256 bytes, Zipf 0.99 over a million keys",
        keys: ZIPF,
        fill: Some(&["--data-size=256"]),
        load: &[
            "--threads=1",
            "--clients=50",
            "--pipeline=8",
            "--ratio=1:9",
            "--data-size=256",
            "--key-pattern=Z:Z",
            "--distinct-client-seed",
        ],
        ours: &[],
    },
    Script {
        name: "gauss",
        about: "the same with popularity as a Gaussian around the middle key",
        keys: MILLION,
        fill: Some(&["--data-size=256"]),
        load: &[
            "--threads=1",
            "--clients=50",
            "--pipeline=8",
            "--ratio=1:9",
            "--data-size=256",
            "--key-pattern=G:G",
            "--distinct-client-seed",
        ],
        ours: &[],
    },
    Script {
        name: "write",
        about: "nine writes to one read of 128 bytes, 16 in flight",
        keys: MILLION,
        fill: Some(&["--data-size=128"]),
        load: &[
            "--threads=1",
            "--clients=50",
            "--pipeline=16",
            "--ratio=9:1",
            "--data-size=128",
            "--distinct-client-seed",
        ],
        ours: &[],
    },
    Script {
        name: "large",
        about: "one write to nineteen reads of 64 KiB",
        keys: &["--key-minimum=1", "--key-maximum=2000"],
        fill: Some(&["--data-size=65536"]),
        load: &[
            "--threads=1",
            "--clients=16",
            "--ratio=1:19",
            "--data-size=65536",
            "--distinct-client-seed",
        ],
        ours: &[],
    },
    Script {
        name: "sizes",
        about: "values between 1 and 4096 bytes",
        keys: MILLION,
        fill: Some(&["--data-size-range=1-4096", "--data-size-pattern=S"]),
        load: &[
            "--threads=1",
            "--clients=50",
            "--ratio=1:9",
            "--data-size-range=1-4096",
            "--data-size-pattern=S",
            "--distinct-client-seed",
        ],
        ours: &[],
    },
    Script {
        name: "many",
        about: "reads over 2000 connections",
        keys: THOUSAND,
        fill: Some(&["--data-size=32"]),
        load: &[
            "--threads=1",
            "--clients=2000",
            "--ratio=0:1",
            "--data-size=32",
        ],
        ours: &[],
    },
    Script {
        name: "limited",
        about: "reads over 50 connections, each held to 200 a second: memtier waits between its requests, strata-load measures from when each was due",
        keys: THOUSAND,
        fill: Some(&["--data-size=32"]),
        load: &[
            "--threads=1",
            "--clients=50",
            "--ratio=0:1",
            "--data-size=32",
            "--rate-limiting=200",
        ],
        ours: &[],
    },
];

/// Which program makes the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tool {
    /// strata-load, built from this workspace
    Strata,
    /// memtier_benchmark from the PATH
    Memtier,
    /// In turn, and then the comparison
    Both,
}

/// What is a record instead of a script.
#[derive(Subcommand)]
enum Recorded {
    /// Measure both tools on one core each against the null responders, and write the record
    Speed(speed::Options),
}

/// What to run against what.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    recorded: Option<Recorded>,
    /// The load by name; without one all are listed
    name: Option<String>,
    /// Compare two result files instead
    #[arg(long, num_args = 2, value_names = ["FILE", "FILE"], conflicts_with = "name")]
    compare: Option<Vec<PathBuf>>,
    /// Who makes the load
    #[arg(long, default_value = "strata")]
    tool: Tool,
    /// Server
    #[arg(long, default_value = "127.0.0.1")]
    server: String,
    /// Port
    #[arg(long, default_value_t = 11211)]
    port: u16,
    /// Measured seconds of each run
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Runs of each tool; with both they take turns, and the medians are compared [default: 1, with both 5]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Folder of the result files NAME.TOOL.ROUND.json [default: load in the target folder]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Print the command lines and run nothing
    #[arg(long)]
    dry: bool,
    /// More options for the run, after `--`
    #[arg(last = true)]
    more: Vec<String>,
}

/// Lists, runs or compares.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if let Some(Recorded::Speed(options)) = &options.recorded {
        return speed::run(workspace, options);
    }
    if let Some([one, other]) = options.compare.as_deref() {
        print!("{}", compare::files(one, other)?);
        return Ok(());
    }
    let Some(name) = &options.name else {
        for script in SCRIPTS {
            println!("{:<16} {}", script.name, script.about);
        }
        return Ok(());
    };
    let names = || {
        let all: Vec<&str> = SCRIPTS.iter().map(|script| script.name).collect();
        all.join(", ")
    };
    let script = SCRIPTS
        .iter()
        .find(|script| script.name == name)
        .with_context(|| format!("no load {name:?}; there are {}", names()))?;
    let folder = match &options.folder {
        Some(folder) => folder.clone(),
        None => workspace.target.join("load"),
    };
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let (tools, rounds) = match options.tool {
        Tool::Both => (vec![Tool::Memtier, Tool::Strata], ROUNDS_OF_BOTH),
        one => (vec![one], 1),
    };
    let programs = tools
        .iter()
        .map(|tool| Ok((*tool, tool.program(workspace, options.dry)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut files = vec![Vec::new(); tools.len()];
    for round in 0..options.rounds.unwrap_or(rounds) {
        for place in in_turn(round, programs.len()) {
            let (tool, program) = &programs[place];
            files[place].push(script.run(*tool, program, round, options, &folder)?);
        }
    }
    if let [one, other] = &files[..]
        && !options.dry
    {
        print!(
            "{}",
            compare::rounds(tools[0].word(), one, tools[1].word(), other)?
        );
    }
    Ok(())
}

/// In which order the tools run in a round: who was first in one is last in the next, so that a
/// machine that gets slower or faster favours neither.
fn in_turn(round: u32, tool_count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tool_count).collect();
    if !round.is_multiple_of(2) {
        order.reverse();
    }
    order
}

impl Tool {
    fn word(self) -> &'static str {
        match self {
            Tool::Memtier => "memtier",
            _ => "strata",
        }
    }

    fn program(self, workspace: &Workspace, dry: bool) -> Result<PathBuf> {
        match self {
            Tool::Memtier => memtier(dry),
            _ => strata(workspace, dry),
        }
    }
}

impl Script {
    /// Runs it with one tool and gives the result file.
    fn run(
        &self,
        tool: Tool,
        program: &Path,
        round: u32,
        options: &Options,
        folder: &Path,
    ) -> Result<PathBuf> {
        let name = format!("{}.{}.{}.json", self.name, tool.word(), round + 1);
        let file = folder.join(name);
        if !options.dry && file.exists() {
            // What is there afterwards is this run's.
            std::fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
        let mut lines = Vec::new();
        lines.extend(self.fill_arguments(options));
        lines.push(self.load_arguments(tool, options, &file));
        for line in lines {
            println!("{} {}", program.display(), line.join(" "));
            if options.dry {
                continue;
            }
            let status = Command::new(program)
                .args(&line)
                .status()
                .with_context(|| format!("cannot start {}", program.display()))?;
            // An invalid run has a result that says so, and is compared like any other.
            let judged = tool != Tool::Memtier && status.code() == Some(1) && file.exists();
            ensure!(status.success() || judged, "it ended with {status}");
        }
        Ok(file)
    }

    fn server_arguments(&self, options: &Options) -> Vec<String> {
        let mut line = vec![
            format!("--server={}", options.server),
            format!("--port={}", options.port),
            "--protocol=memcache_text".into(),
        ];
        line.extend(self.keys.iter().map(|word| word.to_string()));
        line
    }

    fn fill_arguments(&self, options: &Options) -> Option<Vec<String>> {
        let values = self.fill?;
        let mut line = self.server_arguments(options);
        // One connection walks all keys, so that each is written once.
        line.extend(["--threads=1", "--clients=1"].map(String::from));
        line.extend(FILL.iter().chain(values).map(|word| word.to_string()));
        Some(line)
    }

    fn load_arguments(&self, tool: Tool, options: &Options, file: &Path) -> Vec<String> {
        let mut line = self.server_arguments(options);
        line.extend(self.load.iter().map(|word| word.to_string()));
        if tool != Tool::Memtier {
            line.extend(self.ours.iter().map(|word| word.to_string()));
        }
        line.push(format!("--test-time={}", options.seconds));
        line.push("--hide-histogram".into());
        line.push(format!("--json-out-file={}", file.display()));
        line.extend(options.more.iter().cloned());
        line
    }
}

fn memtier(dry: bool) -> Result<PathBuf> {
    const NAME: &str = "memtier_benchmark";
    if dry {
        return Ok(NAME.into());
    }
    find_program(NAME).with_context(|| {
        format!("no {NAME} on the PATH; it is at github.com/RedisLabs/memtier_benchmark")
    })
}

fn strata(workspace: &Workspace, dry: bool) -> Result<PathBuf> {
    if dry {
        return Ok("strata-load".into());
    }
    workspace.build("strata-load", "strata-load", true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_every_load_is_explained() {
        for (index, script) in SCRIPTS.iter().enumerate() {
            assert!(!script.about.is_empty(), "{}", script.name);
            let others = &SCRIPTS[index + 1..];
            assert!(others.iter().all(|other| other.name != script.name));
        }
    }

    #[test]
    fn tools_take_turns_in_being_first() {
        assert_eq!(in_turn(0, 2), [0, 1]);
        assert_eq!(in_turn(1, 2), [1, 0]);
        assert_eq!(in_turn(5, 1), [0]);
    }

    #[test]
    fn a_fill_and_its_run_name_the_same_keys_and_sizes() {
        for script in SCRIPTS {
            let Some(fill) = script.fill else { continue };
            for word in fill {
                assert!(script.load.contains(word), "{}: {word}", script.name);
            }
        }
    }
}
