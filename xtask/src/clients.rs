//! `cargo xtask clients`: do real clients, unchanged, get on with the real binary?
//!
//! Python and Node libraries and a Rust crate drive every command with random data, in text, in the binary protocol and by meta commands
//! alone; Django keeps its cache and its sessions here; what `memcached-tool` prints is compared with what was stored; and `memccapable` of
//! libmemcached checks each protocol its own way. Each client gets a server of its own, so that one cannot spoil the other's counters.
//!
//! A client that is not installed is named, and the stage has then not run, whatever the others found.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::process::{Memcached, Server, run_bounded};
use crate::setup;
use crate::stage::Outcome;
use crate::workspace::{Workspace, find_program, run as run_command};

/// The scripts, and what the clients they drive are pinned by, below the workspace root.
pub const SCRIPTS: &str = "xtask/clients";
/// How long one client may take.
const LIMIT: Duration = Duration::from_secs(180);

/// Which server to try them on.
#[derive(Args, Default)]
pub struct Options {
    /// `strata`, `memcached`, or a command line that starts a server; Strata when it is not given.
    #[arg(long)]
    server: Option<String>,
    /// Only clients whose name contains this: pymemcache, pylibmc, bmemcached, meta-memcache, aiomcache, django, memcached-tool,
    /// npm memcached, npm memjs, memcache crate, memccapable, openssl s_client; those that speak the binary protocol have `binary` in it,
    /// and those that speak TLS `tls` or `openssl`.
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
            eprintln!("{} IS NOT INSTALLED AND WAS NOT TRIED", client.name);
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
    /// Whether its server has TLS, with certificates that [`certificates`] names.
    tls: bool,
    is_there: fn(&Workspace) -> bool,
    command: fn(&Workspace, port: u16, seed: u32) -> Result<Command>,
}

const CLIENTS: &[Client] = &[
    Client {
        tls: false,
        name: "pymemcache",
        is_there: |workspace| setup::has_python(workspace, &["pymemcache"]),
        command: |workspace, port, seed| Ok(python(workspace, "pymemcache_client.py", port, seed)),
    },
    Client {
        tls: true,
        name: "pymemcache over tls",
        is_there: |workspace| {
            let openssl = find_program("openssl").is_some();
            openssl && setup::has_python(workspace, &["pymemcache"])
        },
        command: |workspace, port, seed| {
            let mut command = python(workspace, "pymemcache_client.py", port, seed);
            command.arg("--ca").arg(certificates(workspace).0);
            Ok(command)
        },
    },
    Client {
        tls: true,
        name: "openssl s_client",
        is_there: |_| find_program("openssl").is_some() && find_program("python3").is_some(),
        command: |workspace, port, seed| {
            let mut command = python(workspace, "openssl_client.py", port, seed);
            command.arg("--ca").arg(certificates(workspace).0);
            Ok(command)
        },
    },
    Client {
        tls: true,
        name: "strata-load over tls",
        is_there: |_| find_program("openssl").is_some(),
        command: |workspace, port, seed| {
            let mut command = Command::new(workspace.build("strata-load", "strata-load", false)?);
            // As it would stand in a script for memtier_benchmark.
            let words = "-s 127.0.0.1 -P memcache_text --tls -t 2 -c 10 -n 2000 --ratio 1:3 --pipeline 4 -d 600 --key-maximum 1000";
            command.args(words.split(' ')).arg("--cacert");
            command.arg(certificates(workspace).0);
            command.args([
                "--data-verify",
                "--fill",
                "--expect-hits",
                "1",
                "--hide-histogram",
            ]);
            command.args(["-p", &port.to_string(), "--seed", &seed.to_string()]);
            Ok(command)
        },
    },
    Client {
        tls: false,
        name: "pylibmc",
        is_there: |workspace| setup::has_python(workspace, &["pylibmc"]),
        command: |workspace, port, seed| Ok(python(workspace, "pylibmc_client.py", port, seed)),
    },
    Client {
        tls: false,
        name: "meta-memcache",
        is_there: |workspace| setup::has_python(workspace, &["meta-memcache"]),
        command: |workspace, port, seed| {
            Ok(python(workspace, "meta_memcache_client.py", port, seed))
        },
    },
    Client {
        tls: false,
        name: "aiomcache",
        is_there: |workspace| setup::has_python(workspace, &["aiomcache"]),
        command: |workspace, port, seed| Ok(python(workspace, "aiomcache_client.py", port, seed)),
    },
    Client {
        tls: false,
        name: "django",
        is_there: |workspace| setup::has_python(workspace, &["Django", "pymemcache"]),
        command: |workspace, port, seed| Ok(python(workspace, "django_client.py", port, seed)),
    },
    Client {
        tls: false,
        name: "memcached-tool",
        is_there: |workspace| {
            let programs = memcached_tool().is_some() && find_program("perl").is_some();
            programs && setup::has_python(workspace, &["pymemcache"])
        },
        command: |workspace, port, seed| {
            let mut command = python(workspace, "memcached_tool.py", port, seed);
            let tool = memcached_tool().context("no memcached-tool")?;
            command.arg("--tool").arg(tool);
            Ok(command)
        },
    },
    Client {
        tls: false,
        name: "npm memcached",
        is_there: |workspace| setup::has_node(workspace, "memcached"),
        command: |workspace, port, seed| Ok(node(workspace, "memcached_client.js", port, seed)),
    },
    Client {
        tls: false,
        name: "memcache crate",
        is_there: setup::has_memcache_crate,
        command: memcache_crate,
    },
    Client {
        tls: false,
        name: "pylibmc binary",
        is_there: |workspace| setup::has_python(workspace, &["pylibmc"]),
        command: |workspace, port, seed| {
            let mut command = python(workspace, "pylibmc_client.py", port, seed);
            command.arg("--binary");
            Ok(command)
        },
    },
    Client {
        tls: false,
        name: "bmemcached binary",
        is_there: |workspace| setup::has_python(workspace, &["python-binary-memcached"]),
        command: |workspace, port, seed| Ok(python(workspace, "bmemcached_client.py", port, seed)),
    },
    Client {
        tls: false,
        name: "npm memjs binary",
        is_there: |workspace| setup::has_node(workspace, "memjs"),
        command: |workspace, port, seed| Ok(node(workspace, "memjs_client.js", port, seed)),
    },
    Client {
        tls: false,
        name: "memcache crate binary",
        is_there: setup::has_memcache_crate,
        command: |workspace, port, seed| {
            let mut command = memcache_crate(workspace, port, seed)?;
            command.arg("--binary");
            Ok(command)
        },
    },
    Client {
        tls: false,
        name: "memccapable",
        is_there: |_| find_program("memccapable").is_some(),
        command: |_, port, _| Ok(memccapable("-a", port)),
    },
    Client {
        tls: false,
        name: "memccapable binary",
        is_there: |_| find_program("memccapable").is_some(),
        command: |_, port, _| Ok(memccapable("-b", port)),
    },
];

fn memccapable(protocol: &str, port: u16) -> Command {
    let mut command = Command::new("memccapable");
    // -v says which expectation failed, -t is its patience with one answer.
    command.args(["-v", "-t", "10", protocol, "-h", "127.0.0.1"]);
    command.args(["-p", &port.to_string()]);
    command
}

fn python(workspace: &Workspace, name: &str, port: u16, seed: u32) -> Command {
    let mut command = script(Command::new(workspace.python()), workspace, name);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    told(command, port, seed)
}

fn node(workspace: &Workspace, name: &str, port: u16, seed: u32) -> Command {
    let mut node = Command::new("node");
    // The clients are older than what they are warned of.
    node.arg("--no-deprecation");
    let mut command = script(node, workspace, name);
    command.env("NODE_PATH", workspace.node().join("node_modules"));
    told(command, port, seed)
}

/// Builds the program that drives the crate, and gives the command that runs it.
fn memcache_crate(workspace: &Workspace, port: u16, seed: u32) -> Result<Command> {
    let target = workspace.target.join("clients");
    let mut build = workspace.cargo(&["build", "--quiet", "--locked", "--manifest-path"]);
    build.arg(setup::memcache_crate_manifest(workspace));
    run_command(build.arg("--target-dir").arg(&target))?;
    let program = target.join("debug").join("strata-client-check");
    Ok(told(Command::new(program), port, seed))
}

/// Where Debian puts the script that comes with memcached, unless it is on the `PATH`.
fn memcached_tool() -> Option<PathBuf> {
    let debian = Path::new("/usr/share/memcached/scripts/memcached-tool");
    find_program("memcached-tool").or_else(|| debian.is_file().then(|| debian.to_owned()))
}

fn script(mut interpreter: Command, workspace: &Workspace, name: &str) -> Command {
    interpreter.arg(workspace.root.join(SCRIPTS).join(name));
    interpreter
}

fn told(mut command: Command, port: u16, seed: u32) -> Command {
    command.args(["--port", &port.to_string(), "--seed", &seed.to_string()]);
    command
}

/// Where the certificate of a server with TLS is, which vouches for itself, and its key.
fn certificates(workspace: &Workspace) -> (PathBuf, PathBuf) {
    let folder = workspace.target.join("clients");
    (folder.join("certificate.pem"), folder.join("key.pem"))
}

/// Makes them anew; what the server is told of them.
fn make_certificates(workspace: &Workspace) -> Result<Vec<String>> {
    let (certificate, key) = certificates(workspace);
    std::fs::create_dir_all(workspace.target.join("clients"))?;
    let mut command = Command::new("openssl");
    command
        .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key);
    let made = command.output().context("openssl")?;
    if !made.status.success() {
        bail!("openssl: {}", String::from_utf8_lossy(&made.stderr));
    }
    let files = format!(
        "ssl_chain_cert={},ssl_key={}",
        certificate.display(),
        key.display()
    );
    Ok(["-Z", "-o", &files].map(str::to_owned).to_vec())
}

fn try_client(workspace: &Workspace, client: &Client, server: &[String], seed: u32) -> Result<()> {
    let words = match client.tls {
        true => make_certificates(workspace)?,
        false => Vec::new(),
    };
    let mut server = Server::start(server, &words)?;
    let mut command = (client.command)(workspace, server.address().port(), seed)?;
    let outcome = run_bounded(&mut command, LIMIT);
    if let Some(status) = server.ended()? {
        bail!("the server ended with {status}\n{}", server.log());
    }
    outcome
}
