//! `cargo xtask setup`: brings a Debian machine to where no stage of `cargo xtask test` has to stay out.
//!
//! Nothing is done twice: packages that are there are not asked for again, so a second run needs no network.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::clients::SCRIPTS;
use crate::workspace::{Workspace, find_program, run as run_command};

/// The Debian packages: the reference server, the reference clients, and what Python's clients build against.
const PACKAGES: &[&str] = &[
    "memcached",
    "libmemcached-tools",
    "libmemcached-dev",
    "zlib1g-dev",
    "python3",
    "python3-dev",
    "python3-venv",
    // For certificates, and as a client of TLS.
    "openssl",
    // For memcached-tool.
    "perl",
    "liburi-perl",
];
/// Programs that many machines have from elsewhere, which Debian's packages would be at odds with; and those packages.
const PROGRAMS: &[(&str, &str)] = &[("node", "nodejs"), ("npm", "npm")];
/// The Python clients, from PyPI, at versions whose behaviour the scripts know.
const PYTHON_CLIENTS: &[&str] = &[
    "pymemcache==4.0.0",
    "pylibmc==1.6.3",
    "python-binary-memcached==0.33.0",
    "meta-memcache==4.3.0",
    "aiomcache==0.8.2",
    "Django==5.2.19",
];
/// The Node clients, at the versions of `package.json`.
const NODE_CLIENTS: &[&str] = &["memcached", "memjs"];
/// What pins them, and every package they use in turn by its hash.
const NODE_FILES: &[&str] = &["package.json", "package-lock.json"];

/// Installs what is missing.
pub fn run(workspace: &Workspace) -> Result<()> {
    install_packages()?;
    install_python_clients(workspace)?;
    install_node_clients(workspace)?;
    fetch_memcache_crate(workspace)
}

fn install_packages() -> Result<()> {
    let absent = PROGRAMS
        .iter()
        .filter(|(program, _)| find_program(program).is_none());
    let missing: Vec<&str> = PACKAGES
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .chain(absent.map(|(_, package)| *package))
        .collect();
    if missing.is_empty() {
        eprintln!("packages: all there");
        return Ok(());
    }
    if find_program("apt-get").is_none() {
        bail!(
            "this machine has no apt-get; install by hand what these Debian packages hold: {}",
            missing.join(" ")
        );
    }
    // Debian starts a memcached on its fixed port when the package is configured; a policy of 101 forbids that where
    // no service manager decides, and RUNLEVEL covers the rest.
    let mut words = if is_root() {
        vec!["env"]
    } else {
        vec!["sudo", "env"]
    };
    words.extend(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"]);
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new(words[0]);
        run_command(command.args(&words[1..]).args(arguments))
    };
    apt_get(&["update"])?;
    let mut install = vec!["install", "--yes", "--no-install-recommends"];
    install.extend(missing);
    apt_get(&install)
}

fn install_python_clients(workspace: &Workspace) -> Result<()> {
    let python = workspace.python();
    let names: Vec<&str> = PYTHON_CLIENTS
        .iter()
        .filter_map(|pin| Some(pin.split_once("==")?.0))
        .collect();
    if has_python(workspace, &names) {
        eprintln!("python clients: all there");
        return Ok(());
    }
    // An environment of its own, because Debian's Python refuses packages from elsewhere.
    let folder = workspace.target.join("python");
    run_command(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    run_command(
        Command::new(python)
            .args(["-m", "pip", "install", "--quiet"])
            .args(PYTHON_CLIENTS),
    )
}

/// Whether these Python packages are there, at the versions they are pinned to.
pub fn has_python(workspace: &Workspace, names: &[&str]) -> bool {
    const COMPARE: &str = "import importlib.metadata as packages, sys\n\
        for name, wanted in (pin.split('==') for pin in sys.argv[1:]):\n\
        \x20   if packages.version(name) != wanted: sys.exit(1)";
    let is_wanted = |pin: &&&str| {
        names
            .iter()
            .any(|name| pin.split("==").next() == Some(name))
    };
    let pins: Vec<_> = PYTHON_CLIENTS.iter().filter(is_wanted).collect();
    let all_known = pins.len() == names.len();
    all_known
        && quiet(
            Command::new(workspace.python())
                .args(["-c", COMPARE])
                .args(pins),
        )
}

fn install_node_clients(workspace: &Workspace) -> Result<()> {
    if NODE_CLIENTS.iter().all(|name| has_node(workspace, name)) {
        eprintln!("node clients: all there");
        return Ok(());
    }
    // In the target folder, so that the source tree stays as git has it.
    let folder = workspace.node();
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    for name in NODE_FILES {
        let from = workspace.root.join(SCRIPTS).join(name);
        fs::copy(&from, folder.join(name)).with_context(|| from.display().to_string())?;
    }
    let mut command = Command::new("npm");
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run_command(command.current_dir(folder))?;
    for name in NODE_CLIENTS {
        ensure!(
            has_node(workspace, name),
            "npm did not install {name} at the version of package.json"
        );
    }
    Ok(())
}

/// Whether there is a Node and this package of its at the version it is pinned to.
pub fn has_node(workspace: &Workspace, name: &str) -> bool {
    let read = |path: PathBuf| -> Option<serde_json::Value> {
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
    };
    let modules = workspace.node().join("node_modules");
    let versions = || {
        let ours = read(workspace.root.join(SCRIPTS).join("package.json"))?;
        let theirs = read(modules.join(name).join("package.json"))?;
        let wanted = ours.get("dependencies")?.get(name)?.as_str()?.to_owned();
        Some((wanted, theirs.get("version")?.as_str()?.to_owned()))
    };
    find_program("node").is_some() && versions().is_some_and(|(wanted, found)| wanted == found)
}

fn fetch_memcache_crate(workspace: &Workspace) -> Result<()> {
    if has_memcache_crate(workspace) {
        eprintln!("memcache crate: there");
        return Ok(());
    }
    let mut fetch = workspace.cargo(&["fetch", "--locked", "--manifest-path"]);
    run_command(fetch.arg(memcache_crate_manifest(workspace)))
}

/// Whether cargo has the sources of the memcache crate, and of what it uses, at the versions of its lock file.
pub fn has_memcache_crate(workspace: &Workspace) -> bool {
    let mut fetch = workspace.cargo(&["fetch", "--locked", "--offline", "--manifest-path"]);
    quiet(fetch.arg(memcache_crate_manifest(workspace)))
}

/// The program that drives the memcache crate: a workspace of its own.
pub fn memcache_crate_manifest(workspace: &Workspace) -> PathBuf {
    let folder = workspace.root.join(SCRIPTS).join("rust");
    folder.join("Cargo.toml")
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    query
        .stderr(Stdio::null())
        .output()
        .is_ok_and(|output| output.stdout == b"installed")
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout == b"0\n")
}

fn quiet(command: &mut Command) -> bool {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
