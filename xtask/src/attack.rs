//! `cargo xtask attack`: what well-behaved clients and the server's memory feel of clients that are not.
//!
//! Each attack has a freshly started server of one worker. An open loop of 50 connections measures it, then again while
//! the attack is under way, and so on in turn ([`seen`] says what is made of it); the peak of the server's memory is
//! read at the end. The attacker is a process of its own on the *server's* core, with the kernel's idle priority: it
//! takes what the server leaves and nothing of the client's core, so that the client measures the server and not
//! itself. The kernel's part of what the attacker sends is paid on the server's core, as that of a network card would
//! be. So that an attacker does not even help by keeping that core from sleeping, a process that does nothing keeps it
//! awake, with the same priority, before and during each attack.
//!
//! The server has a real-time priority where that is allowed: what else wakes on its core, and be it our own look
//! whether the client has ended, would be taken for what the attack does (perf/notes/attacks.md).
//!
//! With `--memcached` the same is done to a memcached wherever it has what is attacked: what both feel is the machine's,
//! whose one core does the attacker's part in the kernel too, and not the server's.
//!
//! Always true: a client counts from when a request was due, so its own lateness can only make longer what it sees;
//! a server is attacked only while somebody well-behaved is measured, and the next measurement begins when it has
//! forgotten the attackers.

mod attacker;
mod door;
mod record;
mod seen;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::perf::usage::Usage;
use crate::process::{
    Memcached, Server, favoured, run_bounded, run_quietly, urgent, with_parent_death,
};
use crate::record_file::{self, Origin};
use crate::report::strata_of;
use crate::workspace::{Workspace, find_program};
use attacker::{ATTACKS, Attack, MANY};
use door::{Door, Figures, LongTick, admin_of, promised_mib};
use record::{Record, Run, markdown};
use seen::{Block, Both};

/// How long a window is, in seconds.
const WINDOW_S: f64 = 0.1;
/// What a process of ours has besides the memory it promises at its start.
const PROCESS_SLACK_MIB: u64 = 24;
/// Memory of the server, in MiB.
const MEMORY_MIB: u64 = 64;
/// Keys of the well-behaved.
const KEYS: u64 = 10_000;
/// Unmeasured seconds before each measurement.
const WARMUP_S: f64 = 0.2;
/// How much longer than it measures a client may take.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// How long a program that only sets something may take.
const TOOL_PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors that the attacks with very many connections need, on either side.
const FILES_MIN: u64 = MANY as u64 + 1000;

/// Which attacks, and how.
#[derive(Args)]
pub struct Options {
    /// Attacks by name [default: all]
    attacks: Vec<String>,
    /// Measured seconds before and during each attack, in each round
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// Rounds of both
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Requests a second of the well-behaved
    #[arg(long, default_value_t = 10_000)]
    rate: u32,
    /// Core of the server and the attacker
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the well-behaved
    #[arg(long, default_value_t = 1)]
    client_core: usize,
    /// Profile that server and client are built with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Name of the machine, the folder of perf/records [default: from processor, cores and kernel]
    #[arg(long)]
    machine: Option<String>,
    /// A memcached to attack as well, where it has what is attacked
    #[arg(long)]
    memcached: Option<PathBuf>,
    /// Print the table only
    #[arg(long)]
    no_record: bool,
    /// Be the attacker on a server at this address
    #[arg(long, hide = true)]
    on: Option<SocketAddr>,
    /// And at this admin endpoint
    #[arg(long, hide = true)]
    on_admin: Option<SocketAddr>,
}

/// Attacks, prints, and writes the record; or is the attacker.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    if let Some(address) = options.on {
        let name = options.attacks.first().context("which attack?")?;
        return attacker::make(name, address, options.on_admin);
    }
    ensure!(
        options.server_core != options.client_core,
        "--client-core: server and client on one core measure each other"
    );
    for program in ["taskset", "chrt", "prlimit"] {
        ensure!(
            find_program(program).is_some(),
            "{program} is not on the PATH; it comes with util-linux"
        );
    }
    let known = || ATTACKS.iter().map(|attack| attack.name);
    for name in &options.attacks {
        ensure!(
            known().any(|one| one == name),
            "no attack {name:?}; there are {}",
            known().collect::<Vec<_>>().join(", ")
        );
    }
    raise_file_limit()?;
    let field = Field::new(workspace, options)?;
    let mut record = Record {
        origin: Origin {
            folder: options.machine.clone(),
            ..Origin::here(workspace)?
        },
        seconds: options.seconds,
        rounds: options.rounds,
        rate: options.rate,
        cores: format!(
            "server and attacker on core {}, client on core {}",
            options.server_core, options.client_core
        ),
        memcached: field.memcached.as_ref().map(|memcached| {
            let numbers = memcached.version.map(|number| number.to_string());
            numbers.join(".")
        }),
        runs: Vec::new(),
    };
    for attack in &ATTACKS {
        if options.attacks.is_empty() || options.attacks.iter().any(|name| name == attack.name) {
            let run = field.run(attack).with_context(|| attack.name.to_owned())?;
            eprintln!("{}", run.line());
            record.runs.push(run);
        }
    }
    let text = markdown(&record)?;
    println!("{text}");
    if !options.no_record {
        record_file::write(workspace, &record.origin, Some("attack"), &record, &text)?;
    }
    Ok(())
}

/// Lets this process, and those it starts, have as many descriptors as it may.
fn raise_file_limit() -> Result<()> {
    let limits = std::fs::read_to_string("/proc/self/limits")?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .context("no limit of open files in /proc/self/limits")?;
    let most = line.split_whitespace().nth(1).unwrap_or_default();
    let enough = most == "unlimited" || most.parse().is_ok_and(|most: u64| most >= FILES_MIN);
    ensure!(
        enough,
        "the hard limit of open files is {most}; these attacks need {FILES_MIN} (ulimit -Hn)"
    );
    let mut command = Command::new("prlimit");
    command.arg(format!("--pid={}", std::process::id()));
    run_bounded(
        command.arg(format!("--nofile={most}:{most}")),
        TOOL_PATIENCE,
    )
}

/// Where the attacks are made.
struct Field<'a> {
    options: &'a Options,
    strata: PathBuf,
    load: PathBuf,
    memcached: Option<Memcached>,
    /// Holds the server's certificate, its unix socket and reports.
    folder: tempfile::TempDir,
}

impl<'a> Field<'a> {
    fn new(workspace: &Workspace, options: &'a Options) -> Result<Self> {
        let profile = &options.profile;
        let folder = tempfile::tempdir().context("a folder for certificates and reports")?;
        let field = Self {
            strata: workspace.build_with("strata-server", "strata", profile)?,
            load: workspace.build_with("strata-load", "strata-load", profile)?,
            memcached: options
                .memcached
                .as_deref()
                .map(Memcached::at)
                .transpose()?,
            options,
            folder,
        };
        let mut command = Command::new("openssl");
        command
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout"])
            .arg(field.file("key.pem"))
            .arg("-out")
            .arg(field.file("chain.pem"))
            .stderr(Stdio::null());
        run_bounded(&mut command, CLIENT_PATIENCE).context("openssl makes the certificate")?;
        Ok(field)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, attack: &Attack) -> Result<Run> {
        let socket = self.file("socket");
        let _awake = Attacker::start(self.options, attacker::NOTHING, None, None)?;
        let _ = std::fs::remove_file(&socket);
        let mut run = Run {
            attack: attack.name,
            tells: attack.tells,
            limit: attack.limit,
            memcached: self.control(attack)?,
            ..Run::default()
        };
        let server = self.start(attack, &socket)?;
        let said = server.log();
        run.promised_kib = (promised_mib(&said)? + PROCESS_SLACK_MIB) << 10;
        let door = Door::Unix(&socket);
        let (address, admin) = (Some(server.address()), admin_of(&said)?);
        let mut rounds = Vec::new();
        let mut longest = LongTick::default();
        for round in 0..self.options.rounds {
            let before = self.measure(attack, &server, round == 0)?;
            let resident_kib = server.resident_kib()?;
            let attacker = Attacker::start(self.options, attack.name, address, admin)?;
            // Later rounds find what the first one took.
            if round == 0 {
                run.resident_before_kib = resident_kib;
                run.resident_during_kib = server.resident_kib()?;
            }
            door.ask("stats latency reset")?;
            rounds.push((before, self.measure(attack, &server, false)?));
            let tick = LongTick::of(&door.ask("stats latency")?);
            longest = tick.filter(|tick| tick.us > longest.us).unwrap_or(longest);
            run.counters = counters(attack, &door)?;
            run.did = attacker.end()?;
            door.until_alone()?;
        }
        run.longest_tick = longest.did;
        run.peak_kib = server.peak_kib()?;
        run.seen = Both::of(&rounds);
        Ok(run)
    }

    /// What the well-behaved see of the same attack on the memcached; `None` without one, and where it has not
    /// what is attacked.
    fn control(&self, attack: &Attack) -> Result<Option<Both>> {
        let Some(memcached) = &self.memcached else {
            return Ok(None);
        };
        if attack.tls || attack.server.contains("--") {
            return Ok(None);
        }
        let core = self.options.server_core.to_string();
        let mut command = urgent(&core).map(str::to_owned).to_vec();
        command.extend(memcached.command());
        let mut words: Vec<String> = ["-t", "1", "-m", &MEMORY_MIB.to_string()]
            .map(str::to_owned)
            .into();
        words.extend(attack.server.split_whitespace().map(str::to_owned));
        let server = Server::start(&command, &words)?;
        let door = Door::Tcp(server.address());
        let mut rounds = Vec::new();
        for round in 0..self.options.rounds {
            let before = self.measure(attack, &server, round == 0)?;
            let address = Some(server.address());
            let attacker = Attacker::start(self.options, attack.name, address, None)?;
            rounds.push((before, self.measure(attack, &server, false)?));
            attacker.end()?;
            door.until_alone()?;
        }
        Ok(Some(Both::of(&rounds)))
    }

    fn start(&self, attack: &Attack, socket: &Path) -> Result<Server> {
        let core = self.options.server_core.to_string();
        let strata = self.strata.display().to_string();
        let mut command = urgent(&core).map(str::to_owned).to_vec();
        command.push(strata);
        let memory = MEMORY_MIB.to_string();
        let mut words: Vec<String> = ["-t", "1", "-m", &memory, "-s"].map(str::to_owned).into();
        words.push(socket.display().to_string());
        words.extend(attack.server.split_whitespace().map(str::to_owned));
        if attack.tls {
            words.extend(["-Z".to_owned(), "-o".to_owned()]);
            words.push(format!(
                "ssl_chain_cert={},ssl_key={}",
                self.file("chain.pem").display(),
                self.file("key.pem").display()
            ));
        }
        Server::start(&command, &words)
    }

    /// What a well-behaved client sees.
    fn measure(&self, attack: &Attack, server: &Server, fill: bool) -> Result<Block> {
        let options = self.options;
        let report = self.file("report.json");
        let _ = std::fs::remove_file(&report);
        let core = options.client_core.to_string();
        let mut words = favoured(&core).map(str::to_owned).to_vec();
        words.push(self.load.display().to_string());
        let mut command = with_parent_death(&words);
        command
            .args([
                "-s",
                "127.0.0.1",
                "-p",
                &server.address().port().to_string(),
            ])
            .args([
                "-t",
                "1",
                "-c",
                "50",
                "--ratio",
                "1:9",
                "-d",
                "32",
                "--hide-histogram",
            ])
            .args(["--key-minimum", "1", "--key-maximum", &KEYS.to_string()])
            .args(["--rate", &options.rate.to_string(), "--pin", &core])
            .args(["--test-time", &options.seconds.to_string()])
            .args(["--window", &WINDOW_S.to_string()])
            .args(["--warmup", &WARMUP_S.to_string(), "--json-out-file"])
            .arg(&report)
            .args(["--protocol", "memcache_text"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if fill {
            command.arg("--fill");
        }
        if attack.tls {
            command.args(["--tls", "--tls-skip-verify"]);
        }
        let measured = Duration::from_secs_f64(WARMUP_S + options.seconds);
        let (began, usage) = (Instant::now(), Usage::of(std::process::id())?);
        // An invalid run ends with a failure too, and its report says why.
        let ended = run_quietly(&mut command, measured, measured + CLIENT_PATIENCE);
        let used = Usage::of(std::process::id())?.since(usage);
        let mut block = match strata_of(&report) {
            Ok(said) => Block::read(&said)?,
            Err(_) => Block {
                invalid: vec![format!("The client made no report: {ended:?}.")],
                ..Block::default()
            },
        };
        block.stolen_cores = used.machine_stolen_s / began.elapsed().as_secs_f64();
        Ok(block)
    }
}

/// The figures that show the attack's limit, of `stats` or of the only worker.
fn counters(attack: &Attack, door: &Door<'_>) -> Result<Figures> {
    let (stats, workers) = (door.ask("stats")?, door.ask("stats workers")?);
    let figure = |name: &&str| {
        let of_worker = || workers.get(&format!("0:{name}"));
        let value = stats.get(*name).or_else(of_worker)?;
        Some(((*name).to_owned(), value.clone()))
    };
    Ok(attack.counters.iter().filter_map(figure).collect())
}

/// The attacker's process.
struct Attacker {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Attacker {
    /// Starts it and waits until the attack is under way.
    fn start(
        options: &Options,
        name: &str,
        server: Option<SocketAddr>,
        admin: Option<SocketAddr>,
    ) -> Result<Self> {
        let ours = std::env::current_exe()?.display().to_string();
        let core = options.server_core.to_string();
        // Who does nothing needs no server.
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let address = server.unwrap_or(nowhere).to_string();
        let mut words: Vec<String> = [
            "chrt",
            "--idle",
            "0",
            "taskset",
            "--cpu-list",
            &core,
            &ours,
            "attack",
            name,
            "--on",
            &address,
        ]
        .map(str::to_owned)
        .into();
        if let Some(admin) = admin {
            words.extend(["--on-admin".to_owned(), admin.to_string()]);
        }
        let mut child = with_parent_death(&words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the attacker")?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("its output is piped")?;
        let mut attacker = Self {
            child,
            input,
            output: BufReader::new(output),
        };
        let mut line = String::new();
        attacker.output.read_line(&mut line)?;
        ensure!(line == "ready\n", "the attacker says {line:?}");
        Ok(attacker)
    }

    /// Ends the attack; what it did.
    fn end(mut self) -> Result<String> {
        drop(self.input.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        Ok(text.lines().last().unwrap_or_default().to_owned())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill and `wait` only collects it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
