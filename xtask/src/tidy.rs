//! `cargo xtask tidy`: the rules of this project that no compiler checks.
//!
//! Each rule is one function from files to findings, so that each has a test which shows it a bad sample. A rule
//! finds everything wrong at once; a run fails if any rule found anything.

mod arrows;
mod code;
pub mod files;
mod rust;
mod text;

use std::fmt;

use anyhow::{Result, ensure};

use crate::workspace::Workspace;
use files::Files;

/// Something that must change: where, and why.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: String,
    line: usize,
    what: String,
}

/// A rule over the files: everything wrong that it sees.
type Rule = fn(&Files) -> Vec<Finding>;

const RULES: &[Rule] = &[
    rust::module_comments,
    rust::pure_engine,
    rust::safe_protocol,
    rust::listed_unsafe,
    rust::no_loose_ends,
    text::no_machine_paths,
    text::clean_text,
    text::shared_lints,
    text::readme_commands,
];

/// Applies every rule; an error if any of them found something.
pub fn run(workspace: &Workspace) -> Result<()> {
    let files = Files::read(&workspace.root)?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&files)).collect();
    findings.extend(arrows::findings(&arrows::of_workspace(workspace)?));
    findings.sort();
    for finding in &findings {
        eprintln!("{finding}");
    }
    ensure!(findings.is_empty(), "{} finding(s)", findings.len());
    eprintln!(
        "tidy: {} files, {} rules, nothing found",
        files.all.len(),
        RULES.len() + 1
    );
    Ok(())
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

impl Finding {
    /// A finding that belongs to a file as a whole stands on its first line.
    pub fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::files::File;
    use super::*;

    /// What a rule says about a project of these files, as `path:line`.
    pub fn found(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
        let all = files
            .iter()
            .map(|(path, text)| File {
                path: (*path).into(),
                text: (*text).into(),
            })
            .collect();
        rule(&Files { all })
            .iter()
            .map(|finding| format!("{}:{}", finding.path, finding.line))
            .collect()
    }
}
