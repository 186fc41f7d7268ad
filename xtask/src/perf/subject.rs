//! What is measured: a server, how to start it on its core, and how to be rid of it.
//!
//! Always true: a started server ends with its guard, by its own process id, and where the kernel
//! allows also with us; whoever asks it for metrics has ended before it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::workload::Workload;
use crate::process::{signal, wait, with_parent_death};

/// How long a server may take to listen, and to end when it was asked to.
const PATIENCE: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(5);

/// What our own server is called in tables.
pub const STRATA: &str = "strata";

/// The least that a cache does, on the ring of the null responder.
pub const THIN: &str = "thin-ring";

/// Subjects that need no `--peer`.
pub const OURS: [&str; 6] = [
    STRATA,
    "memcached",
    "null-ring",
    THIN,
    "null-epoll",
    "null-glommio",
];

/// How often neighbouring ports are looked for.
const PORT_TRIES: usize = 50;

/// A server that can take part.
#[derive(Clone, Debug)]
pub struct Subject {
    /// What it is called in tables.
    pub name: String,
    /// What it says it is, without any path.
    pub version: String,
    /// Program and arguments; `{port}`, `{threads}`, `{memory}` and `{cores}` are filled in.
    command: Vec<String>,
    /// Gives the same hit to any line, and keeps nothing.
    pub canned: bool,
    /// Whether it can do no more than answer gets of what a client has filled in, if that.
    pub for_gets_alone: bool,
    /// Whether it understands the further arguments of a workload.
    takes_arguments: bool,
    /// Whether it takes memcached's options for TLS.
    pub takes_tls: bool,
    /// Whether it stands in for another of its name under TLS, and there alone.
    pub for_tls_alone: bool,
}

impl Subject {
    /// A server with memcached's command line.
    pub fn like_memcached(name: &str, program: &str) -> Result<Self> {
        let output = Command::new(program)
            .arg("-V")
            .output()
            .with_context(|| format!("{name}: cannot start {program}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().unwrap_or_default();
        let help = Command::new(program).arg("-h").output()?.stdout;
        let command = format!(
            "{program} -u root -U 0 -l 127.0.0.1 -p {{port}} -t {{threads}} -m {{memory}} -c 16384"
        );
        Ok(Self {
            name: name.into(),
            version: line.trim().into(),
            command: words(&command),
            canned: false,
            for_gets_alone: false,
            takes_arguments: true,
            takes_tls: String::from_utf8_lossy(&help).contains("--enable-ssl"),
            for_tls_alone: false,
        })
    }

    /// A null responder of the given kind.
    pub fn null(kind: &str, program: &str) -> Self {
        Self {
            name: format!("null-{kind}"),
            version: "canned answer, no store".into(),
            command: words(&format!("{program} --kind {kind} --port {{port}}")),
            canned: true,
            for_gets_alone: true,
            takes_arguments: false,
            takes_tls: false,
            for_tls_alone: false,
        }
    }

    /// The least that a cache does, by the program of the null responders.
    pub fn thin(program: &str) -> Self {
        Self {
            name: THIN.into(),
            version: "a table and nothing else".into(),
            command: words(&format!("{program} --kind thin --port {{port}}")),
            canned: false,
            ..Self::null("ring", program)
        }
    }

    /// Whether it was given as a peer.
    pub fn is_peer(&self) -> bool {
        !OURS.contains(&self.name.as_str()) && !self.name.starts_with(STRATA)
    }

    /// A peer given as `name=command with {port}`.
    pub fn peer(text: &str) -> Result<Self> {
        let (name, command) = text
            .split_once('=')
            .with_context(|| format!("--peer: {text:?} is not name=command"))?;
        ensure!(
            !name.starts_with(STRATA) && !OURS.contains(&name),
            "--peer {name}: the name is taken"
        );
        ensure!(
            command.contains("{port}"),
            "--peer {name}: the command does not say where {{port}} goes"
        );
        let command = words(command);
        // Where a program lies on this machine is nobody's business in a record.
        let mut shown = command.clone();
        if let Some(program) = shown.first_mut() {
            *program = program.rsplit('/').next().unwrap_or_default().into();
        }
        Ok(Self {
            name: name.into(),
            version: shown.join(" "),
            command,
            canned: false,
            for_gets_alone: false,
            takes_arguments: false,
            takes_tls: false,
            for_tls_alone: false,
        })
    }

    /// Starts it for a workload on the given cores, and waits until it accepts a connection. `before` are the words that
    /// its command begins with, each of which becomes the next: what puts it there, or what watches it.
    pub fn start(&self, workload: &Workload, cores: &str, before: &[String]) -> Result<Running> {
        // A server with a port for each shard takes the next ones for them; the last is the admin
        // endpoint's.
        let threads = workload.server.threads;
        let port = free_ports(2 + threads)?;
        let admin_port = port + 1 + threads as u16;
        let folder = tempfile::tempdir().context("a folder for the server")?;
        let mut words = before.to_vec();
        words.extend(self.command.iter().cloned());
        if self.takes_arguments {
            words.extend(workload.server.arguments.iter().cloned());
        }
        if self.name.starts_with(STRATA) {
            words.extend(workload.server.strata_arguments.iter().cloned());
            if workload.load.shards.is_some() {
                words.push("--shard-ports".into());
            }
        }
        if workload.server.tls {
            words.extend(tls_arguments(folder.path())?);
        }
        for word in &mut words {
            *word = word
                .replace("{port}", &port.to_string())
                .replace("{admin}", &admin_port.to_string())
                .replace("{threads}", &threads.to_string())
                .replace("{memory}", &workload.server.memory_mb.to_string())
                .replace("{cores}", cores);
        }
        let log = File::create(folder.path().join("log"))?;
        let mut command = with_parent_death(&words);
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("{}: cannot start {}", self.name, words.join(" ")))?;
        let mut running = Running {
            name: self.name.clone(),
            child,
            port,
            folder,
            scraper: None,
        };
        // Nobody else has an admin endpoint.
        let scraped = workload.server.scrape_s;
        let scraped = scraped.filter(|_| self.name.starts_with(STRATA));
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The admin endpoint comes after the clients' port.
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
                && (scraped.is_none() || scrape(admin_port).is_ok())
            {
                let every = scraped.map(Duration::from_secs_f64);
                running.scraper = every.map(|every| Scraper::start(admin_port, every));
                return Ok(running);
            }
            running.blame(Ok(()))?;
            if Instant::now() > deadline {
                bail!("{} does not listen\n{}", self.name, running.log());
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// A server that runs.
pub struct Running {
    /// What it is called in tables.
    name: String,
    child: Child,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// Holds what the server printed; goes with it.
    folder: TempDir,
    /// Who asks it for its metrics.
    scraper: Option<Scraper>,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What somebody says who uses it, unless it has ended by itself: then that is a consequence.
    pub fn blame<T>(&mut self, said: Result<T>) -> Result<T> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended with {status}\n{}", self.name, self.log()),
            None => said,
        }
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) -> Result<()> {
        drop(self.scraper.take());
        signal(self.id(), Signal::SIGTERM)?;
        let status = wait(&mut self.child, PATIENCE)?.context("it does not end")?;
        ensure!(status.success(), "it ended with {status}\n{}", self.log());
        Ok(())
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

#[cfg(test)]
impl Running {
    /// A program that is no server.
    pub fn of(command: &mut Command) -> Result<Self> {
        Ok(Self {
            name: "a program".into(),
            child: command.spawn()?,
            port: 0,
            folder: tempfile::tempdir()?,
            scraper: None,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.scraper.take());
        // It may have ended already; then there is nothing to kill and `wait` only collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks an admin endpoint for all metrics again and again, as a monitoring system does, until it is dropped.
struct Scraper {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Scraper {
    fn start(port: u16, every: Duration) -> Self {
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                // One that fails costs the server as much, and the next one comes soon.
                let _ = scrape(port);
            }
        });
        Self {
            end: Some(end),
            thread: Some(thread),
        }
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads all metrics once.
fn scrape(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "it says {answer}");
    Ok(())
}

/// Makes a certificate in a folder, and gives memcached's options that name it.
fn tls_arguments(folder: &Path) -> Result<[String; 3]> {
    let at = |name: &str| folder.join(name).display().to_string();
    let (chain, key) = (at("chain.pem"), at("key.pem"));
    let line = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost -keyout {key} -out {chain}"
    );
    let made = Command::new("openssl").args(words(&line)).output();
    let made = made.context("openssl makes the certificates, and cannot be started")?;
    let said = String::from_utf8_lossy(&made.stderr);
    ensure!(made.status.success(), "openssl made no certificate: {said}");
    Ok([
        "-Z".into(),
        "-o".into(),
        format!("ssl_chain_cert={chain},ssl_key={key}"),
    ])
}

fn words(command: &str) -> Vec<String> {
    command.split_whitespace().map(str::to_owned).collect()
}

/// The first of `count` neighbouring ports nobody listens on at the moment. They are below those that the kernel gives to
/// clients: where thousands of these have just gone, hardly a port among them has a free neighbour.
fn free_ports(count: usize) -> Result<u16> {
    for _ in 0..PORT_TRIES {
        let drawn = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let first = drawn.local_addr()?.port() / 2;
        let free = |at| TcpListener::bind((Ipv4Addr::LOCALHOST, first + at)).is_ok();
        if (0..count as u16).all(free) {
            return Ok(first);
        }
    }
    bail!("no {count} neighbouring ports are free");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_recorded_without_its_path() {
        let peer = Subject::peer("other=/some/where/otherd --port {port}").expect("a peer");
        assert_eq!(peer.name, "other");
        assert_eq!(peer.version, "otherd --port {port}");
    }

    #[test]
    fn a_peer_with_a_name_of_ours_is_refused() {
        for name in ["memcached", "strata, roomy"] {
            let refused = Subject::peer(&format!("{name}=otherd {{port}}")).expect_err("refused");
            assert!(refused.to_string().contains("taken"), "{refused}");
        }
    }

    #[test]
    fn a_peer_without_a_port_is_refused() {
        let error = Subject::peer("other=otherd")
            .expect_err("refused")
            .to_string();
        assert!(error.contains("{port}"), "{error}");
    }
}
