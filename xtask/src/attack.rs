//! `cargo xtask attack`: what well-behaved clients and the server's memory feel of clients that are not.
//!
//! Each attack has a freshly started server of one worker. An open loop of 50 connections measures it, and again while
//! the attack is under way, in some rounds of both; the peak of the server's memory is read at the end. The attacker is a
//! process of its own on the *server's* core, with the kernel's idle priority: it takes what the server leaves and
//! nothing of the client's core, so that the client measures the server and not itself. The kernel's part of what
//! the attacker sends is paid on the server's core, as that of a network card would be. So that an attacker does not
//! even help by keeping that core from sleeping, a process that does nothing keeps it awake, with the same priority, before
//! and during each attack.
//!
//! With `--memcached` the same is done to a memcached wherever it has what is attacked: what both feel is the machine's,
//! whose one core does the attacker's part in the kernel too, and not the server's.
//!
//! What is compared is the p99 of the middle one of all windows of a tenth of a second: a machine that takes a core away
//! for milliseconds now and then spoils a few windows and not the run, before as during. That hides what strikes
//! fewer than half of the windows, so the window that a tenth of them exceed stands beside it.
//!
//! Always true: no window is left out; a client counts from when a request was due, so its own lateness can only make
//! what it saw during the attack longer, and what it was late before is taken off; a run whose client was not
//! answered rightly is marked with the reason and meets no goal.

mod attacker;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::Value;

use crate::perf::usage::Usage;
use crate::process::{Memcached, Server, favoured, run_bounded, with_parent_death};
use crate::record_file::{self, Origin};
use crate::report::reasons;
use crate::workspace::{Workspace, find_program, run as run_command};
use attacker::{ATTACKS, Attack, MANY};

/// The p99 of the well-behaved may become so many times what it was.
const P99_TIMES_MAX: f64 = 2.0;
/// How long a window is, in seconds.
const WINDOW_S: f64 = 0.1;
/// How the client says that it was late in too many windows, which decides nothing here.
const LATE: &str = "The generator was in time in only";
/// What a process of ours has besides the memory it promises at its start.
const PROCESS_SLACK_MIB: u64 = 24;
/// Idle connections may cost so much each.
const IDLE_BYTES_MAX: u64 = 1024;
/// Memory of the server, in MiB.
const MEMORY_MIB: u64 = 64;
/// Keys of the well-behaved.
const KEYS: u64 = 10_000;
/// Unmeasured seconds before each measurement.
const WARMUP_S: f64 = 0.5;
/// How much longer than it measures a client may take.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// How long the server may take to answer for its counters.
const STATS_PATIENCE: Duration = Duration::from_secs(10);
/// Descriptors that the attacks with very many connections need, on either side.
const FILES_MIN: u64 = MANY as u64 + 1000;

/// Which attacks, and how.
#[derive(Args)]
pub struct Options {
    /// Attacks by name [default: all]
    attacks: Vec<String>,
    /// Measured seconds before and during each attack, in each round
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// Rounds of both
    #[arg(long, default_value_t = 3)]
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

/// What a well-behaved client saw in one window of its time, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    /// How late it was itself.
    lag_p99_ms: f64,
}

/// What it saw in one or several rounds.
#[derive(Clone, Debug, Default)]
struct Rounds {
    windows: Vec<Window>,
    /// Cores that the host took away meanwhile, for each round.
    stolen_cores: Vec<f64>,
    /// Why it is not to be believed.
    invalid: Vec<String>,
}

/// The same in a few figures, of the middle window unless they say otherwise.
#[derive(Clone, Debug, Default, Serialize)]
struct Seen {
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    /// The p99 that a tenth of the windows exceed.
    slow_p99_ms: f64,
    /// How late it was itself.
    lag_p99_ms: f64,
    windows: usize,
    stolen_cores: f64,
    invalid: Vec<String>,
}

impl Rounds {
    fn add(&mut self, mut round: Self) {
        self.windows.append(&mut round.windows);
        self.stolen_cores.append(&mut round.stolen_cores);
        self.invalid.append(&mut round.invalid);
    }

    /// What so great a part of the windows does not exceed.
    fn at(&self, part: f64, of: fn(&Window) -> f64) -> f64 {
        let mut all: Vec<f64> = self.windows.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        let rank = (all.len() as f64 * part) as usize;
        all.get(rank).or(all.last()).copied().unwrap_or_default()
    }

    fn seen(mut self) -> Seen {
        if self.windows.is_empty() {
            self.invalid.push("There is no window.".into());
        }
        self.invalid.dedup();
        let rounds = self.stolen_cores.len().max(1) as f64;
        Seen {
            p50_ms: self.at(0.5, |window| window.p50_ms),
            p99_ms: self.at(0.5, |window| window.p99_ms),
            p999_ms: self.at(0.5, |window| window.p999_ms),
            slow_p99_ms: self.at(0.9, |window| window.p99_ms),
            lag_p99_ms: self.at(0.5, |window| window.lag_p99_ms),
            windows: self.windows.len(),
            stolen_cores: self.stolen_cores.iter().sum::<f64>() / rounds,
            invalid: self.invalid,
        }
    }
}

/// What the well-behaved saw of a server.
#[derive(Clone, Debug, Default, Serialize)]
struct Both {
    before: Seen,
    during: Seen,
}

impl Both {
    /// How many times the p99 became, at worst.
    fn times(&self) -> f64 {
        let before_ms = self.before.p99_ms - self.before.lag_p99_ms;
        self.during.p99_ms / before_ms.max(0.001)
    }

    /// Why it is not to be believed.
    fn invalid(&self) -> Option<String> {
        let both = [("before", &self.before), ("during", &self.during)];
        let reasons: Vec<String> = both
            .into_iter()
            .flat_map(|(when, seen)| seen.invalid.iter().map(move |why| format!("{when}: {why}")))
            .collect();
        (!reasons.is_empty()).then(|| reasons.join(" "))
    }
}

/// What came of one attack.
#[derive(Debug, Default, Serialize)]
struct Run {
    attack: &'static str,
    tells: &'static str,
    limit: &'static str,
    #[serde(flatten)]
    seen: Both,
    /// The same of the memcached.
    memcached: Option<Both>,
    /// The longest tick of the server during the attack, and what it did.
    longest_tick: String,
    resident_before_kib: u64,
    resident_during_kib: u64,
    peak_kib: u64,
    promised_kib: u64,
    /// Figures of `stats` at the end of the attack.
    counters: BTreeMap<String, String>,
    /// What the attacker says.
    did: String,
}

#[derive(Serialize)]
struct Record {
    #[serde(flatten)]
    origin: Origin,
    seconds: f64,
    rounds: usize,
    rate: u32,
    cores: String,
    /// The version of the memcached, if there was one.
    memcached: Option<String>,
    runs: Vec<Run>,
}

impl Run {
    fn is_bounded(&self) -> bool {
        self.peak_kib <= self.promised_kib
    }

    fn verdict(&self) -> &'static str {
        let is_quick = self.seen.times() <= P99_TIMES_MAX;
        match (self.seen.invalid(), is_quick, self.is_bounded()) {
            (Some(_), _, false) => "INVALID, memory exceeded",
            (Some(_), _, true) => "INVALID",
            (None, true, true) => "reached",
            (None, false, true) => "p99 missed",
            (None, true, false) => "memory missed",
            (None, false, false) => "both missed",
        }
    }
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
            eprintln!(
                "{:<18} p99 {:.3} -> {:.3} ms ({:.1} times{}), peak {} of {} MiB: {}; {}",
                run.attack,
                run.seen.before.p99_ms,
                run.seen.during.p99_ms,
                run.seen.times(),
                match &run.memcached {
                    Some(seen) => format!(", memcached's {:.1}", seen.times()),
                    None => String::new(),
                },
                run.peak_kib >> 10,
                run.promised_kib >> 10,
                run.verdict(),
                run.seen.invalid().unwrap_or_else(|| run.did.clone()),
            );
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
        STATS_PATIENCE,
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
        let build = |package, program| -> Result<PathBuf> {
            let words = [
                "build",
                "--profile",
                profile,
                "-p",
                package,
                "--bin",
                program,
            ];
            run_command(&mut workspace.cargo(&words))?;
            Ok(workspace.target.join(profile).join(program))
        };
        let folder = tempfile::tempdir().context("a folder for certificates and reports")?;
        let field = Self {
            strata: build("strata-server", "strata")?,
            load: build("strata-load", "strata-load")?,
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
        let (mut before, mut during) = (Rounds::default(), Rounds::default());
        for round in 0..self.options.rounds {
            before.add(self.measure(attack, &server, round == 0)?);
            let resident_kib = server.resident_kib()?;
            let (address, admin) = (Some(server.address()), admin_of(&said)?);
            let attacker = Attacker::start(self.options, attack.name, address, admin)?;
            // Later rounds find what the first one took.
            if round == 0 {
                run.resident_before_kib = resident_kib;
                run.resident_during_kib = server.resident_kib()?;
            }
            door.ask("stats latency reset")?;
            during.add(self.measure(attack, &server, false)?);
            run.longest_tick = longest_tick(&door.ask("stats latency")?);
            let stats = door.ask("stats")?;
            run.counters = attack
                .counters
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), stats.get(*name)?.clone())))
                .collect();
            run.did = attacker.end()?;
            until_alone(&door)?;
        }
        run.peak_kib = server.peak_kib()?;
        run.seen = Both {
            before: before.seen(),
            during: during.seen(),
        };
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
        let mut command = favoured(&self.options.server_core.to_string())
            .map(str::to_owned)
            .to_vec();
        command.extend(memcached.command());
        let mut words: Vec<String> = ["-t", "1", "-m", &MEMORY_MIB.to_string()]
            .map(str::to_owned)
            .into();
        words.extend(attack.server.split_whitespace().map(str::to_owned));
        let server = Server::start(&command, &words)?;
        let (mut before, mut during) = (Rounds::default(), Rounds::default());
        for round in 0..self.options.rounds {
            before.add(self.measure(attack, &server, round == 0)?);
            let address = Some(server.address());
            let attacker = Attacker::start(self.options, attack.name, address, None)?;
            during.add(self.measure(attack, &server, false)?);
            attacker.end()?;
            until_alone(&Door::Tcp(server.address()))?;
        }
        Ok(Some(Both {
            before: before.seen(),
            during: during.seen(),
        }))
    }

    fn start(&self, attack: &Attack, socket: &Path) -> Result<Server> {
        let core = self.options.server_core.to_string();
        let strata = self.strata.display().to_string();
        let mut command = favoured(&core).map(str::to_owned).to_vec();
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
    fn measure(&self, attack: &Attack, server: &Server, fill: bool) -> Result<Rounds> {
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
        let limit = CLIENT_PATIENCE + Duration::from_secs_f64(options.seconds);
        let (began, usage) = (Instant::now(), Usage::of(std::process::id())?);
        // An invalid run ends with a failure too, and its report says why.
        let ended = run_bounded(&mut command, limit);
        let used = Usage::of(std::process::id())?.since(usage);
        let stolen_cores = used.machine_stolen_s / began.elapsed().as_secs_f64();
        let mut round = match std::fs::read_to_string(&report) {
            Ok(text) => round(&serde_json::from_str(&text)?)?,
            Err(_) => Rounds {
                invalid: vec![format!("The client made no report: {ended:?}.")],
                ..Rounds::default()
            },
        };
        round.stolen_cores.push(stolen_cores);
        Ok(round)
    }
}

/// What the client's report says of its windows.
fn round(report: &Value) -> Result<Rounds> {
    let of_windows = &report["Strata"]["windows"];
    let each = of_windows["each"].as_array().context("no windows")?;
    let window = |window: &Value| -> Option<Window> {
        let at = |what: &str, name: &str| window[what][name].as_f64();
        let latency = "latency, due to done (msec)";
        Some(Window {
            p50_ms: at(latency, "p50.00")?,
            p99_ms: at(latency, "p99.00")?,
            p999_ms: at(latency, "p99.90")?,
            lag_p99_ms: at("lateness (msec)", "p99.00")?,
        })
    };
    let windows: Option<Vec<Window>> = each.iter().map(window).collect();
    Ok(Rounds {
        windows: windows.context("a window without its figures")?,
        stolen_cores: Vec::new(),
        invalid: reasons(of_windows)?
            .into_iter()
            .filter(|why| !why.starts_with(LATE))
            .collect(),
    })
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

/// The memory a server says at its start that it may use: that for items and that for buffers.
fn promised_mib(said: &str) -> Result<u64> {
    let line = said
        .lines()
        .find(|line| line.contains("for buffers"))
        .context("the server does not say how much memory it may use")?;
    let number = |end: &str| -> Option<u64> {
        let (front, _) = line.split_once(end)?;
        front.rsplit(' ').next()?.parse().ok()
    };
    let items = number(" MiB for items").context("no memory for items")?;
    let buffers = number(" MiB for buffers").context("no memory for buffers")?;
    Ok(items + buffers)
}

/// Where a server says that its admin endpoint is.
fn admin_of(said: &str) -> Result<Option<SocketAddr>> {
    let place = said
        .lines()
        .find_map(|line| line.split_once("admin endpoint on http://"));
    match place {
        Some((_, address)) => Ok(Some(address.trim().parse().context(address.to_owned())?)),
        None => Ok(None),
    }
}

/// Where a server is asked for its figures.
enum Door<'a> {
    /// Its unix socket, which has no TLS and is not what is attacked.
    Unix(&'a Path),
    /// Its only port.
    Tcp(SocketAddr),
}

impl Door<'_> {
    /// The figures that answer a question.
    fn ask(&self, question: &str) -> Result<BTreeMap<String, String>> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).context("the server's unix socket")?;
                stream.set_read_timeout(Some(STATS_PATIENCE))?;
                figures(stream, question)
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, STATS_PATIENCE)?;
                stream.set_read_timeout(Some(STATS_PATIENCE))?;
                figures(stream, question)
            }
        }
    }
}

fn figures(mut stream: impl Read + Write, question: &str) -> Result<BTreeMap<String, String>> {
    stream.write_all(format!("{question}\r\n").as_bytes())?;
    let mut figures = BTreeMap::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        match line
            .strip_prefix("STAT ")
            .and_then(|rest| rest.split_once(' '))
        {
            Some((name, value)) => figures.insert(name.to_owned(), value.to_owned()),
            None => break,
        };
    }
    Ok(figures)
}

/// What `stats latency` says of the longest tick.
fn longest_tick(figures: &BTreeMap<String, String>) -> String {
    let number = |name: &str| figures.get(&format!("long_tick_0:{name}"));
    let Some(took_us) = number("us") else {
        return String::new();
    };
    let did = ["events", "commands", "read_bytes", "lent_bytes", "evicted"]
        .iter()
        .filter_map(|name| Some((name, number(name)?)))
        .filter(|(_, count)| *count != "0")
        .map(|(name, count)| format!(", {name} {count}"));
    format!("{took_us} us{}", did.collect::<String>())
}

/// Waits until the server has forgotten everybody else.
fn until_alone(door: &Door<'_>) -> Result<()> {
    let began = Instant::now();
    loop {
        let stats = door.ask("stats")?;
        // Whoever asks is one.
        if stats
            .get("curr_connections")
            .is_some_and(|open| open == "1")
        {
            return Ok(());
        }
        ensure!(
            began.elapsed() < STATS_PATIENCE,
            "the attacker's connections are still open"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn markdown(record: &Record) -> Result<String> {
    let mut text = record.origin.heading();
    writeln!(
        text,
        "A well-behaved open loop of {} requests a second over 50 connections (a tenth of them sets, 32-byte values), {} s \
         before and {} s during each attack, in {} rounds of both; {}, `-t 1 -m {MEMORY_MIB}`. Figures are of the middle \
         one of all windows of a tenth of a second, which hides what strikes fewer than half of them, the machine's \
         gaps among it; *slow p99* is what a tenth of the windows exceed. The attacker has the kernel's idle priority: it \
         takes what the server leaves of its core and nothing of the client's, while the kernel's part of what it \
         sends is paid on the server's core. A process of the same priority keeps that core awake in both. The client's own lateness before is taken off \
         the p99 that is doubled. *Stolen* is what the \
         host took of the machine's cores during the attack. Goal: the p99 of the well-behaved at most doubles, and the peak of the server's \
         resident memory stays within what it promises at its start and {PROCESS_SLACK_MIB} MiB for the process.{}\n",
        record.rate,
        record.seconds,
        record.seconds,
        record.rounds,
        record.cores,
        match &record.memcached {
            Some(version) => format!(
                " *memcached's* are the times of memcached {version}, attacked in the same way a moment before: what it feels \
                 too is the machine's."
            ),
            None => String::new(),
        }
    )?;
    writeln!(
        text,
        "| attack | p50 ms | p99 ms | p99.9 ms | slow p99 ms | p99 times | memcached's | stolen | peak MiB | allowed MiB | goal |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    for run in &record.runs {
        let pair = |of: fn(&Seen) -> f64| {
            format!("{:.3} → {:.3}", of(&run.seen.before), of(&run.seen.during))
        };
        let control = match &run.memcached {
            None => "-".to_owned(),
            Some(seen) if seen.invalid().is_some() => "invalid".to_owned(),
            Some(seen) => format!("{:.2}", seen.times()),
        };
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.2} | {control} | {:.2} | {} | {} | {} |",
            run.attack,
            pair(|seen| seen.p50_ms),
            pair(|seen| seen.p99_ms),
            pair(|seen| seen.p999_ms),
            pair(|seen| seen.slow_p99_ms),
            run.seen.times(),
            run.seen.during.stolen_cores,
            run.peak_kib >> 10,
            run.promised_kib >> 10,
            run.verdict()
        )?;
    }
    writeln!(text)?;
    for run in &record.runs {
        let counters: Vec<String> = run
            .counters
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        writeln!(
            text,
            "- **{}**: {}. Limit: {}. The attacker: {}. `stats`: {}. Longest tick: {}.",
            run.attack,
            run.tells,
            run.limit,
            run.did,
            counters.join(", "),
            run.longest_tick
        )?;
        if run.attack == "idle_10000" {
            let grown = run
                .resident_during_kib
                .saturating_sub(run.resident_before_kib);
            let each = (grown << 10) / MANY as u64;
            let goal = if each <= IDLE_BYTES_MAX {
                "reached"
            } else {
                "missed"
            };
            writeln!(
                text,
                "  Resident memory grew by {grown} KiB, {each} bytes a connection; goal {IDLE_BYTES_MAX}: {goal}."
            )?;
        }
        if let Some(why) = run.seen.invalid() {
            writeln!(text, "  INVALID: {why}")?;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(before_ms: f64, during_ms: f64, peak_kib: u64) -> Run {
        let seen = |p99_ms| Seen {
            p99_ms,
            ..Seen::default()
        };
        Run {
            seen: Both {
                before: seen(before_ms),
                during: seen(during_ms),
            },
            peak_kib,
            promised_kib: 100,
            ..Run::default()
        }
    }

    #[test]
    fn a_goal_is_reached_by_both_figures_or_not() {
        assert_eq!(run(0.1, 0.19, 100).verdict(), "reached");
        assert_eq!(run(0.1, 0.21, 100).verdict(), "p99 missed");
        assert_eq!(run(0.1, 0.1, 101).verdict(), "memory missed");
        assert_eq!(run(0.1, 0.3, 101).verdict(), "both missed");
    }

    #[test]
    fn an_invalid_run_reaches_no_goal() {
        let mut late = run(0.1, 0.1, 1);
        late.seen.during.invalid.push("A reply was wrong.".into());
        assert_eq!(late.verdict(), "INVALID");
        assert_eq!(
            late.seen.invalid().as_deref(),
            Some("during: A reply was wrong.")
        );
    }

    #[test]
    fn what_the_client_was_late_before_makes_no_goal_easier() {
        let mut late = run(0.1, 0.1, 1);
        late.seen.before.lag_p99_ms = 0.04;
        assert_eq!(late.verdict(), "reached");
        late.seen.before.lag_p99_ms = 0.06;
        assert_eq!(late.verdict(), "p99 missed");
    }

    #[test]
    fn figures_are_those_of_the_middle_window_over_all_rounds() {
        let window = |p99_ms| Window {
            p50_ms: p99_ms / 2.0,
            p99_ms,
            p999_ms: 2.0 * p99_ms,
            lag_p99_ms: 0.01,
        };
        let mut all = Rounds::default();
        for round in [[1.0, 9.0, 2.0, 4.0, 3.0], [5.0, 6.0, 900.0, 7.0, 8.0]] {
            all.add(Rounds {
                windows: round.map(window).to_vec(),
                stolen_cores: vec![round[0]],
                invalid: Vec::new(),
            });
        }
        let seen = all.seen();
        assert_eq!((seen.p50_ms, seen.p99_ms, seen.p999_ms), (3.0, 6.0, 12.0));
        assert_eq!((seen.slow_p99_ms, seen.lag_p99_ms), (900.0, 0.01));
        assert_eq!((seen.windows, seen.stolen_cores), (10, 3.0));
        assert_eq!(Rounds::default().seen().invalid, ["There is no window."]);
    }

    #[test]
    fn the_longest_tick_is_told_with_what_it_did() {
        let said = [("us", "2320.8"), ("events", "108"), ("evicted", "0")];
        let figures = said.map(|(name, value)| (format!("long_tick_0:{name}"), value.to_owned()));
        assert_eq!(longest_tick(&figures.into()), "2320.8 us, events 108");
        assert_eq!(longest_tick(&BTreeMap::new()), "");
    }

    #[test]
    fn what_a_server_says_at_its_start_is_read() {
        let said = "strata: 64 MiB for items and table with 0 MiB on huge pages, and up to 131 MiB for buffers\n\
                    strata: admin endpoint on http://127.0.0.1:4321\n";
        assert_eq!(promised_mib(said).expect("a promise"), 195);
        let admin = admin_of(said).expect("an address");
        assert_eq!(admin, Some(SocketAddr::from(([127, 0, 0, 1], 4321))));
        assert_eq!(admin_of("nothing").expect("none"), None);
    }

    #[test]
    fn a_report_is_read() {
        let curve = serde_json::json!({ "p50.00": 0.1, "p99.00": 0.2, "p99.90": 0.3 });
        let window = serde_json::json!({
            "counts": false,
            "latency, due to done (msec)": curve,
            "lateness (msec)": { "p99.00": 0.05 },
        });
        let late = format!("{LATE} 1 of 9 windows.");
        let report = serde_json::json!({ "Strata": { "windows": {
            "invalid": [late, "A reply was wrong."],
            "each": [window],
        }}});
        let round = round(&report).expect("figures");
        let expected = Window {
            p50_ms: 0.1,
            p99_ms: 0.2,
            p999_ms: 0.3,
            lag_p99_ms: 0.05,
        };
        assert_eq!(round.windows, [expected]);
        assert_eq!(round.invalid, ["A reply was wrong."]);
    }
}
