//! The load generator as a process: started for one run, heard when it says that measuring begins and ends, and read
//! when it has ended.
//!
//! Always true: no wait for it is without end, and it ends with its guard, stopped or not.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::with_parent_death;
use crate::report::strata_of;

/// The report's name in its folder.
const REPORT: &str = "report.json";

/// What it says with `--announce`.
pub const MEASURING: &str = "phase: Measuring";
pub const MEASURED: &str = "phase: Measured";

/// A client that runs.
pub struct Client {
    child: Child,
    lines: Receiver<String>,
    /// Holds its report; goes with it.
    folder: TempDir,
    /// All that it said but for phases.
    words: String,
}

impl Client {
    /// Starts it: a program and its arguments, behind which stands where the report goes.
    pub fn start(words: &[String]) -> Result<Self> {
        let folder = tempfile::tempdir().context("a folder for the report")?;
        let mut child = with_parent_death(words)
            .args(["--announce", "--hide-histogram", "--json-out-file"])
            .arg(folder.path().join(REPORT))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start strata-load")?;
        let stream = child.stderr.take().context("its standard error is piped")?;
        let (sender, lines) = channel();
        // A pipe has no read with a time limit, a channel has. The thread ends with the pipe, so with the client.
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            lines,
            folder,
            words: String::new(),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is in `phase`.
    ///
    /// # Errors
    /// It ended instead, or `limit` has passed.
    pub fn reach(&mut self, phase: &str, limit: Duration) -> Result<()> {
        if self.hear(Some(phase), limit)? {
            return Ok(());
        }
        bail!(
            "{}",
            self.last_words("strata-load did not say when it measured")
        )
    }

    /// Waits until it has ended. Returns what its report says in its own words.
    ///
    /// # Errors
    /// It has not ended when `limit` has passed, or wrote none.
    pub fn report(mut self, limit: Duration) -> Result<Value> {
        self.hear(None, limit)?;
        // An invalid run ends with a failure too, and its report says why.
        self.child.wait()?;
        strata_of(&self.folder.path().join(REPORT))
            .with_context(|| self.last_words("strata-load gave up"))
    }

    /// What it said last, which is why, before all that it said.
    fn last_words(&self, otherwise: &str) -> String {
        let last = self.words.lines().next_back().unwrap_or(otherwise);
        format!("{last}\n{}", self.words)
    }

    /// Listens for a phase, or to the end; whether it was said.
    fn hear(&mut self, phase: Option<&str>, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if Some(line.as_str()) == phase => return Ok(true),
                Ok(line) if line == MEASURING || line == MEASURED => {}
                Ok(line) => {
                    self.words.push_str(&line);
                    self.words.push('\n');
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {
                    bail!("strata-load did not end within {limit:?}\n{}", self.words);
                }
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and `wait` only collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// A shell in whose script `$3` is where the report goes.
    pub fn shell(script: &str) -> Client {
        let words = ["sh", "-c", script].map(str::to_owned);
        Client::start(&words).expect("a shell")
    }

    #[test]
    fn phases_are_heard_and_the_report_is_read() {
        let mut client = shell(
            "echo a >&2; echo 'phase: Measuring' >&2; echo b >&2; echo 'phase: Measured' >&2; echo '{\"Strata\":7}' >$3",
        );
        client.reach(MEASURING, LIMIT).expect("measuring");
        client.reach(MEASURED, LIMIT).expect("measured");
        assert_eq!(client.report(LIMIT).expect("a report"), 7);
    }

    #[test]
    fn what_a_client_that_dies_said_is_why() {
        let script = "echo hello >&2; echo no such host >&2; exit 3";
        let error = shell(script).reach(MEASURING, LIMIT).expect_err("it died");
        assert_eq!(error.to_string(), "no such host\nhello\nno such host\n");
        let error = shell(script).report(LIMIT).expect_err("it died");
        assert_eq!(error.to_string(), "no such host\nhello\nno such host\n");
    }

    #[test]
    fn a_client_that_hangs_is_given_up() {
        let client = shell("exec sleep 60");
        let error = client
            .report(Duration::from_millis(20))
            .expect_err("it hangs");
        assert!(error.to_string().contains("did not end"), "{error}");
    }
}
