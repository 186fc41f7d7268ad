//! `cargo xtask clients`: do real clients, unchanged, get on with the real binary?
//!
//! Python libraries drive every command with random data, one of them in both protocols and one by meta commands alone, and `memccapable` of
//! libmemcached checks each protocol its own way. Each client gets a server of its own, so that one cannot spoil the other's counters.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{Memcached, Server, run_bounded};
use crate::setup;
use crate::stage::Outcome;
use crate::workspace::{Workspace, find_program};

/// The scripts, below the workspace root.
const SCRIPTS: &str = "xtask/clients";
/// How long one client may take.
const LIMIT: Duration = Duration::from_secs(180);

/// Which server to try them on.
#[derive(Args, Default)]
pub struct Options {
    /// `strata`, `memcached`, or a command line that starts a server; Strata when it is not given.
    #[arg(long)]
    server: Option<String>,
    /// Only clients whose name contains this: pymemcache, pylibmc, bmemcached, meta-memcache, memccapable;
    /// those that speak the binary protocol have `binary` in it.
    #[arg(long)]
    filter: Option<String>,
    /// The seed of the random data; every run prints its own.
    #[arg(long)]
    seed: Option<u32>,
}

/// Runs every client; an error if one failed, and not-run if one is missing.
pub fn run(workspace: &Workspace, options: &Options) -> Result<Outcome> {
    let server = server_command(workspace, options)?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u32(..));
    let (mut failed, mut missing) = (Vec::new(), Vec::new());
    for client in CLIENTS {
        if options
            .filter
            .as_ref()
            .is_some_and(|filter| !client.name.contains(filter.as_str()))
        {
            continue;
        }
        if !(client.is_there)(workspace) {
            missing.push(client.name);
            continue;
        }
        eprintln!("{}:", client.name);
        if let Err(error) = try_client(workspace, client, &server, seed) {
            eprintln!("{} FAILED: {error:#}", client.name);
            failed.push(client.name);
        }
    }
    if !failed.is_empty() {
        bail!("{} failed; repeat with --seed {seed}", failed.join(", "));
    }
    if !missing.is_empty() {
        return Ok(Outcome::NotRun(format!(
            "{} missing; `cargo xtask setup` installs them",
            missing.join(", ")
        )));
    }
    Ok(Outcome::Passed)
}

fn server_command(workspace: &Workspace, options: &Options) -> Result<Vec<String>> {
    match options.server.as_deref() {
        None | Some("strata") => {
            let strata = workspace.build_server(true)?.to_string_lossy().into_owned();
            // Two workers on any machine, so that keys travel between them.
            Ok([&strata, "-t", "2"].map(str::to_owned).to_vec())
        }
        Some("memcached") => {
            let path = find_program("memcached").context("no memcached on the PATH")?;
            let mut command = Memcached::at(&path)?.command();
            // Large values among small ones can exhaust a slab class, which memcached reports as out of memory.
            command.extend(["-m".into(), "1024".into()]);
            Ok(command)
        }
        Some(command) => Ok(command.split_whitespace().map(str::to_owned).collect()),
    }
}

/// A client: what it is called, whether it is installed, and how it is told the port.
struct Client {
    name: &'static str,
    is_there: fn(&Workspace) -> bool,
    command: fn(&Workspace, port: u16, seed: u32) -> Command,
}

const CLIENTS: &[Client] = &[
    Client {
        name: "pymemcache",
        is_there: setup::has_python_clients,
        command: |workspace, port, seed| script(workspace, "pymemcache_client.py", port, seed),
    },
    Client {
        name: "pylibmc",
        is_there: setup::has_python_clients,
        command: |workspace, port, seed| script(workspace, "pylibmc_client.py", port, seed),
    },
    Client {
        name: "meta-memcache",
        is_there: setup::has_python_clients,
        command: |workspace, port, seed| script(workspace, "meta_memcache_client.py", port, seed),
    },
    Client {
        name: "pylibmc binary",
        is_there: setup::has_python_clients,
        command: |workspace, port, seed| {
            let mut command = script(workspace, "pylibmc_client.py", port, seed);
            command.arg("--binary");
            command
        },
    },
    Client {
        name: "bmemcached binary",
        is_there: setup::has_python_clients,
        command: |workspace, port, seed| script(workspace, "bmemcached_client.py", port, seed),
    },
    Client {
        name: "memccapable",
        is_there: |_| find_program("memccapable").is_some(),
        command: |_, port, _| memccapable("-a", port),
    },
    Client {
        name: "memccapable binary",
        is_there: |_| find_program("memccapable").is_some(),
        command: |_, port, _| memccapable("-b", port),
    },
];

fn memccapable(protocol: &str, port: u16) -> Command {
    let mut command = Command::new("memccapable");
    // -v says which expectation failed, -t is its patience with one answer.
    command.args(["-v", "-t", "10", protocol, "-h", "127.0.0.1"]);
    command.args(["-p", &port.to_string()]);
    command
}

fn script(workspace: &Workspace, name: &str, port: u16, seed: u32) -> Command {
    let mut command = Command::new(workspace.python());
    command.arg(workspace.root.join(Path::new(SCRIPTS)).join(name));
    command.args(["--port", &port.to_string(), "--seed", &seed.to_string()]);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn try_client(workspace: &Workspace, client: &Client, server: &[String], seed: u32) -> Result<()> {
    let mut server = Server::start(server, &[])?;
    let outcome = run_bounded(
        &mut (client.command)(workspace, server.address().port(), seed),
        LIMIT,
    );
    if let Some(status) = server.ended()? {
        bail!("the server ended with {status}\n{}", server.log());
    }
    outcome
}
