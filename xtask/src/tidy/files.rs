//! The files a tidy rule may look at: every text file the project keeps, and no build output.
//!
//! Paths are relative to the root and use `/`, so that a rule can name a folder.

use std::path::Path;

use anyhow::{Context, Result};
use ignore::WalkBuilder;

/// The project's text files, in the order of their paths.
#[derive(Default)]
pub struct Files {
    /// All of them.
    pub all: Vec<File>,
}

/// One text file.
pub struct File {
    /// Relative to the root, with `/` between folders.
    pub path: String,
    /// What is in it.
    pub text: String,
}

impl Files {
    /// Reads everything below `root` that git would not ignore and that is UTF-8.
    pub fn read(root: &Path) -> Result<Self> {
        let mut all = Vec::new();
        // Hidden files belong to the project too: .ci, .cargo.
        let walk = WalkBuilder::new(root)
            .hidden(false)
            .filter_entry(|entry| entry.file_name() != ".git")
            .build();
        for entry in walk {
            let entry = entry.context("walking the project")?;
            if !entry.file_type().is_some_and(|kind| kind.is_file()) {
                continue;
            }
            let bytes =
                std::fs::read(entry.path()).with_context(|| entry.path().display().to_string())?;
            if let Ok(text) = String::from_utf8(bytes) {
                let path = entry
                    .path()
                    .strip_prefix(root)
                    .expect("the walk stays below its root");
                all.push(File {
                    path: path.to_string_lossy().replace('\\', "/"),
                    text,
                });
            }
        }
        all.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { all })
    }

    /// The Rust sources among them.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.all.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// One file by its path.
    pub fn find(&self, path: &str) -> Option<&File> {
        self.all.iter().find(|file| file.path == path)
    }
}
