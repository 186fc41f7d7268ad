//! Where a record goes and what it says of its origin: machine, day, commit, and the command that repeats it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::workspace::Workspace;

/// What every record begins with.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Origin {
    /// Processor, cores, kernel.
    pub machine: String,
    /// The day, in UTC.
    pub date: String,
    /// The commit measured, marked when the tree had changes.
    pub commit: String,
    /// What repeats it.
    pub command: String,
    /// Name of the machine's folder, where it is not told by the machine.
    #[serde(skip)]
    pub folder: Option<String>,
}

impl Origin {
    /// This machine, today, at the present commit, by our own command line.
    pub fn here(workspace: &Workspace) -> Result<Self> {
        Ok(Self {
            machine: machine()?,
            date: output("date", &["-u", "+%F"])?,
            commit: commit(workspace),
            command: command_line(),
            folder: None,
        })
    }

    /// The first lines of the record.
    pub fn heading(&self) -> String {
        format!(
            "# {}, {}\n\nCommit {}. Repeat with:\n\n    {}\n\n",
            self.machine, self.date, self.commit, self.command
        )
    }
}

/// Writes a record as JSON and Markdown beside earlier ones of the machine; one of the same day, commit and `kind` is
/// replaced.
pub fn write(
    workspace: &Workspace,
    origin: &Origin,
    kind: Option<&str>,
    record: &impl Serialize,
    text: &str,
) -> Result<()> {
    let json = serde_json::to_string_pretty(record)?;
    let stem = stem(workspace, origin, kind)?;
    for (ending, text) in [("json", &format!("{json}\n")), ("md", &text.to_owned())] {
        // Not `set_extension`: the stem may have dots.
        let path = PathBuf::from(format!("{}.{ending}", stem.display()));
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// The path of a record without its ending; its folder is there afterwards.
pub fn stem(workspace: &Workspace, origin: &Origin, kind: Option<&str>) -> Result<PathBuf> {
    let folder = folder(workspace, origin);
    std::fs::create_dir_all(&folder)?;
    let kind = kind.map(|kind| format!("-{kind}")).unwrap_or_default();
    Ok(folder.join(format!("{}-{}{kind}", origin.date, origin.commit)))
}

/// Where the records of a machine are.
pub fn folder(workspace: &Workspace, origin: &Origin) -> PathBuf {
    let named = origin.folder.clone();
    let machine = named.unwrap_or_else(|| slug(&origin.machine));
    workspace.root.join("perf/records").join(machine)
}

fn machine() -> Result<String> {
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let cores = std::thread::available_parallelism()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // Behind the numbers stands the name of whoever built the kernel.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    Ok(format!("{model}, {cores} cores, Linux {kernel}"))
}

/// A folder's name for a machine's.
fn slug(machine: &str) -> String {
    let letters = machine.chars().map(|letter| match letter {
        letter if letter.is_ascii_alphanumeric() || letter == '.' => letter.to_ascii_lowercase(),
        _ => ' ',
    });
    let spaced: String = letters.collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    words.join("-")
}

fn commit(workspace: &Workspace) -> String {
    let root = workspace.root.to_string_lossy().into_owned();
    output(
        "git",
        &[
            "-C",
            &root,
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
        ],
    )
    .unwrap_or_else(|_| "unknown".into())
}

/// Our own command line as somebody else would type it.
fn command_line() -> String {
    let mut words = vec!["cargo xtask".to_owned()];
    words.extend(std::env::args().skip(1).map(|word| {
        let shown = match word.split_once('=') {
            Some((name, command)) => format!("{name}={}", without_folder(command)),
            None => without_folder(&word),
        };
        if shown.contains(' ') {
            format!("'{shown}'")
        } else {
            shown
        }
    }));
    words.join(" ")
}

/// A command or path without the folder it begins with.
fn without_folder(text: &str) -> String {
    let (program, rest) = text.split_once(' ').unwrap_or((text, ""));
    let name = program.rsplit('/').next().unwrap_or_default();
    format!("{name} {rest}").trim_end().to_owned()
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    ensure!(
        output.status.success(),
        "{program} ended with {}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_become_folders_and_commands_lose_theirs() {
        assert_eq!(
            slug("Intel(R) Xeon(R) Processor, 2 cores, Linux 6.18.44"),
            "intel-r-xeon-r-processor-2-cores-linux-6.18.44"
        );
        assert_eq!(without_folder("/a/b/memcached"), "memcached");
        assert_eq!(without_folder("/a/b/otherd -p {port}"), "otherd -p {port}");
        assert_eq!(without_folder("get_depth_1"), "get_depth_1");
    }
}
