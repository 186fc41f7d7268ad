//! A server under test: started on a port of its own choosing, ended by its own process id, whatever happens.
//!
//! Dropping a `Server` ends it, and where the kernel allows the server also ends with the thread that started it, so
//! that an interrupted run leaves nothing behind. Every wait here has a deadline.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::workspace::find_program;

/// How long a server may take to listen, and to end when it was asked to.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a wait looks again.
const GLANCE: Duration = Duration::from_millis(2);

/// Words that run the program behind them on some cores, where others wait for it as far as that is allowed: what
/// else the machine does would be seen in the tail of whoever it meets.
pub fn favoured(cores: &str) -> [&str; 6] {
    ["nice", "-n", "-20", "taskset", "--cpu-list", cores]
}

/// The same as [`favoured`], at once: however low its priority, what runs already keeps a core from a favoured
/// program until its slice is over, which takes milliseconds, but not from this one (perf/notes/tails.md). Only for
/// programs that sleep now and then, because the kernel keeps a part of each second for others. Where it is
/// forbidden, as favoured.
pub fn urgent(cores: &str) -> [&str; 6] {
    if may_be_urgent() {
        ["chrt", "--fifo", "1", "taskset", "--cpu-list", cores]
    } else {
        favoured(cores)
    }
}

/// Whether programs may run at a real-time priority here; tried once.
pub fn may_be_urgent() -> bool {
    static ALLOWED: LazyLock<bool> = LazyLock::new(|| {
        let tried = Command::new("chrt").args(["--fifo", "1", "true"]).output();
        tried.is_ok_and(|output| output.status.success())
    });
    *ALLOWED
}

/// A running server.
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// Holds the port file and what the server printed; goes with the server.
    folder: TempDir,
}

impl Server {
    /// Starts `command` (a program and its arguments) on an ephemeral port of the loopback address, and waits until
    /// it says which.
    ///
    /// # Errors
    /// The program cannot be started, ends, or does not name its port in time; the message has what it printed.
    pub fn start(command: &[String], arguments: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the server")?;
        let port_file = folder.path().join("port");
        let log = File::create(folder.path().join("log"))?;
        let mut process = with_parent_death(command);
        process
            .args(["-l", "127.0.0.1", "-p", "-1"])
            .args(arguments);
        process.env("MEMCACHED_PORT_FILENAME", &port_file);
        process
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = process
            .spawn()
            .with_context(|| format!("cannot start {}", command.join(" ")))?;
        let mut server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            folder,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(port) = read_port(&port_file) {
                server.address.set_port(port);
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait()? {
                bail!(
                    "{} ended with {status} before it listened\n{}",
                    command.join(" "),
                    server.log()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "{} named no port within {PATIENCE:?}\n{}",
                    command.join(" "),
                    server.log()
                );
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How much of it is in memory, in KiB.
    pub fn resident_kib(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// How much of it was in memory when it had most, in KiB.
    pub fn peak_kib(&self) -> Result<u64> {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, name: &str) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .context("its status")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .with_context(|| format!("no {name} in its status"))?;
        let kib = line
            .split_whitespace()
            .next()
            .and_then(|number| number.parse::<u64>().ok());
        kib.with_context(|| format!("{name} {line}"))
    }

    /// How it ended, if it did by itself.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until the server ends by itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        wait(&mut self.child, PATIENCE)?.context("the server still runs")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and `wait` only collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end, or ends it when `limit` has passed.
///
/// # Errors
/// It cannot be started, fails, or takes longer.
pub fn run_bounded(command: &mut Command, limit: Duration) -> Result<()> {
    run_quietly(command, Duration::ZERO, limit)
}

/// As [`run_bounded`], without a look at it before `quiet` has passed: who looks every moment wakes on the core of
/// one of those that are measured.
pub fn run_quietly(command: &mut Command, quiet: Duration, limit: Duration) -> Result<()> {
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    std::thread::sleep(quiet);
    let status = wait(&mut child, limit);
    if !matches!(status, Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
    let status = status?.with_context(|| format!("it did not end within {limit:?}"))?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// How a process ended, if it does within `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            return Ok(None);
        }
        std::thread::sleep(GLANCE);
    }
}

/// Sends a signal to a process.
pub fn signal(id: u32, signal: Signal) -> Result<()> {
    Ok(kill(Pid::from_raw(id.try_into()?), signal)?)
}

/// The command itself, wrapped so that the kernel ends it when we die without a chance to. `setpriv` becomes the
/// program, so the process id is the program's own.
pub fn with_parent_death(command: &[String]) -> Command {
    let mut process = match find_program("setpriv") {
        Some(setpriv) => {
            let mut process = Command::new(setpriv);
            process.args(["--pdeathsig", "KILL", "--"]).arg(&command[0]);
            process
        }
        None => Command::new(&command[0]),
    };
    process.args(&command[1..]);
    process
}

/// The first TCP port in a port file, once its line is complete.
fn read_port(path: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split_once("TCP INET: ")?
        .1
        .split_once('\n')?
        .0
        .trim()
        .parse()
        .ok()
}

/// A memcached and what it calls itself.
#[derive(Clone)]
pub struct Memcached {
    /// Where it is.
    pub path: PathBuf,
    /// Major, minor, patch.
    pub version: Version,
}

/// A version of memcached, in the order of its numbers.
pub type Version = [u32; 3];

impl Memcached {
    /// Asks the program for its version.
    pub fn at(path: &Path) -> Result<Self> {
        let output = Command::new(path)
            .arg("-V")
            .output()
            .with_context(|| path.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let word = text.split_whitespace().nth(1).unwrap_or_default();
        let version =
            parse_version(word).with_context(|| format!("{} -V says {text:?}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            version,
        })
    }

    /// The command that runs it; it refuses to run as root unless it is told to.
    pub fn command(&self) -> Vec<String> {
        let path = self.path.to_string_lossy().into_owned();
        [&path, "-u", "root", "-U", "0"].map(str::to_owned).to_vec()
    }
}

/// Reads `1.6.45`.
pub fn parse_version(text: &str) -> Option<Version> {
    let numbers: Vec<u32> = text
        .split('.')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    numbers.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_only_from_a_complete_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("port");
        assert_eq!(read_port(&path), None);
        std::fs::write(&path, "TCP INET: 112").expect("written");
        assert_eq!(read_port(&path), None);
        std::fs::write(&path, "TCP INET: 11211\nTCP INET6: 5\n").expect("written");
        assert_eq!(read_port(&path), Some(11211));
    }

    #[test]
    fn a_server_that_ends_at_once_is_an_error_with_its_words() {
        let command = ["sh", "-c", "echo cannot serve; exit 3"].map(str::to_owned);
        let error = Server::start(&command, &[])
            .err()
            .expect("no server")
            .to_string();
        assert!(
            error.contains("cannot serve") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let error =
            run_bounded(Command::new("sleep").arg("60"), Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert!(parse_version("1.6.45") > parse_version("1.6.9"));
        assert_eq!(parse_version("1.6"), None);
    }
}
