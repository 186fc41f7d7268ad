//! `cargo xtask setup`: brings a Debian machine to where no stage of `cargo xtask test` has to stay out.
//!
//! Nothing is done twice: packages that are there are not asked for again, so a second run needs no network.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

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
];
/// The Python clients, from PyPI, at versions whose behaviour the scripts know.
const PYTHON_CLIENTS: &[&str] = &[
    "pymemcache==4.0.0",
    "pylibmc==1.6.3",
    "python-binary-memcached==0.33.0",
    "meta-memcache==4.3.0",
];

/// Installs what is missing.
pub fn run(workspace: &Workspace) -> Result<()> {
    install_packages()?;
    install_python_clients(workspace)
}

fn install_packages() -> Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
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
    if has_python_clients(workspace) {
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

/// Whether the Python clients can all be imported.
pub fn has_python_clients(workspace: &Workspace) -> bool {
    let imports = "import pymemcache, pylibmc, bmemcached, meta_memcache";
    quiet(Command::new(workspace.python()).args(["-c", imports]))
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
