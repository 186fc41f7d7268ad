//! Where things are: the workspace root, the target folder, the crates, and how to run cargo on them.
//!
//! Every path comes from `cargo metadata`, so that `CARGO_TARGET_DIR` and a checkout anywhere just work.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{Metadata, MetadataCommand};

/// The workspace this command was built from.
pub struct Workspace {
    /// What cargo says about the member crates, without their dependencies' own metadata.
    pub metadata: Metadata,
    /// The folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// Where cargo builds.
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo about the workspace that contains this crate.
    pub fn find() -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .no_deps()
            .exec()
            .context("cargo metadata")?;
        let root = metadata.workspace_root.clone().into_std_path_buf();
        let target = metadata.target_directory.clone().into_std_path_buf();
        Ok(Self {
            metadata,
            root,
            target,
        })
    }

    /// A cargo command at the workspace root, with the cargo that runs us.
    pub fn cargo(&self, arguments: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(arguments).current_dir(&self.root);
        command
    }

    /// The Python of the environment that `cargo xtask setup` makes, whether or not it is there yet.
    pub fn python(&self) -> PathBuf {
        self.target.join("python").join("bin").join("python3")
    }

    /// Where `cargo xtask setup` installs the Node clients, whether or not they are there yet.
    pub fn node(&self) -> PathBuf {
        self.target.join("node")
    }

    /// Builds the server and gives its path. Without `release` it has its debug assertions on.
    pub fn build_server(&self, release: bool) -> Result<PathBuf> {
        self.build("strata-server", "strata", release)
    }

    /// Builds a program of ours and returns its path.
    pub fn build(&self, package: &str, program: &str, release: bool) -> Result<PathBuf> {
        self.build_with(package, program, if release { "release" } else { "dev" })
    }

    /// Builds a program of ours with a profile by its name, and returns its path.
    pub fn build_with(&self, package: &str, program: &str, profile: &str) -> Result<PathBuf> {
        let arguments = [
            "build",
            "--profile",
            profile,
            "--package",
            package,
            "--bin",
            program,
        ];
        run(&mut self.cargo(&arguments))?;
        let folder = if profile == "dev" { "debug" } else { profile };
        Ok(self.target.join(folder).join(program))
    }
}

/// Runs a command to its end with our own output streams; its failure is an error that names it.
pub fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let status = command
        .status()
        .with_context(|| format!("cannot start `{shown}`"))?;
    ensure!(status.success(), "`{shown}` ended with {status}");
    Ok(())
}

/// A program on the `PATH`, if it is there.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

/// A command as a person would type it, its program cut to the file name.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![
        program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy(),
    ];
    words.extend(
        command
            .get_args()
            .map(|argument| argument.to_string_lossy()),
    );
    words.join(" ")
}
