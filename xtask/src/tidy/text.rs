//! Rules about files of any kind: text without what a reader cannot see or use, manifests, and the README.

use super::Finding;
use super::files::{File, Files};

/// Paths of one machine mean nothing on another. Tests may use a temporary folder.
pub fn no_machine_paths(files: &Files) -> Vec<Finding> {
    // Put together here, so that this file does not find itself.
    let forbidden = [
        concat!("/", "work"),
        concat!("/", "root"),
        concat!("/", "tmp"),
    ];
    let mut findings = Vec::new();
    for file in files
        .all
        .iter()
        .filter(|file| is_kept_by_hand(&file.path) || file.path.ends_with(".md"))
    {
        for (index, line) in file.text.lines().enumerate() {
            for path in forbidden {
                let is_test = file.path.contains("/tests/") || file.path.contains("/clients/");
                if names_path(line, path) && !(is_test && path.ends_with("tmp")) {
                    findings.push(Finding::new(
                        &file.path,
                        index + 1,
                        format!("names the machine path {path}"),
                    ));
                }
            }
        }
    }
    findings
}

/// Whether `path` stands in the line as the start of an absolute path: `a/work` and `/workers` are other things.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + path.len()..].chars().next();
        let starts = before.is_none_or(|c| c.is_whitespace() || "\"'`=(:<[".contains(c));
        starts && after.is_none_or(|c| !c.is_alphanumeric() && c != '-' && c != '_')
    })
}

/// No tabs, no blanks at line ends, a newline at the end of the file: nothing a reader cannot see.
pub fn clean_text(files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    for File { path, text } in files.all.iter().filter(|file| is_kept_by_hand(&file.path)) {
        for (index, line) in text.split_terminator('\n').enumerate() {
            if line.contains('\t') {
                findings.push(Finding::new(path, index + 1, "has a tab"));
            }
            if line.ends_with([' ', '\r']) {
                findings.push(Finding::new(path, index + 1, "ends in blanks"));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            findings.push(Finding::new(
                path,
                text.lines().count(),
                "does not end with a newline",
            ));
        }
    }
    findings
}

fn is_kept_by_hand(path: &str) -> bool {
    let is_transcript = path.starts_with("server/transcripts/");
    is_transcript
        || path.starts_with(".ci/")
        || [".rs", ".toml", ".py", ".js", ".sh"]
            .iter()
            .any(|end| path.ends_with(end))
}

/// Every crate takes the workspace's lints; a crate that does not would quietly be held to less.
pub fn shared_lints(files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files
        .all
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"))
    {
        let Ok(manifest) = file.text.parse::<toml::Table>() else {
            findings.push(Finding::new(&file.path, 1, "cannot be read as TOML"));
            continue;
        };
        let inherits = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace")?.as_bool())
            == Some(true);
        // engine/fuzz is a workspace of its own, because cargo-fuzz builds it with another compiler.
        let stands_alone =
            manifest.contains_key("workspace") || file.path.starts_with("engine/fuzz/");
        if !inherits && !stands_alone {
            findings.push(Finding::new(
                &file.path,
                1,
                "does not inherit the workspace's lints",
            ));
        }
    }
    findings
}

/// A stranger needs two commands: one that serves and one that proves.
pub fn readme_commands(files: &Files) -> Vec<Finding> {
    const PATH: &str = "README.md";
    let Some(readme) = files.find(PATH) else {
        return vec![Finding::new(PATH, 1, "is missing")];
    };
    let commands = ["cargo run --release", "cargo xtask test"];
    let unnamed = commands
        .iter()
        .filter(|command| !readme.text.contains(**command));
    unnamed
        .map(|command| Finding::new(PATH, 1, format!("does not name `{command}`")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

    #[test]
    fn machine_paths_are_found_and_their_lookalikes_are_not() {
        let text = format!("a{0}/b\n{0}ers\n\"{0}/c\"\n", concat!("/", "work"));
        assert_eq!(found(no_machine_paths, &[("a.rs", &text)]), ["a.rs:3"]);
        let temporary = concat!("open('/", "tmp/x')\n");
        let files = [
            ("server/tests/a.rs", temporary),
            ("server/src/b.rs", temporary),
        ];
        assert_eq!(found(no_machine_paths, &files), ["server/src/b.rs:1"]);
    }

    #[test]
    fn invisible_characters_are_found() {
        let files = [
            ("a.rs", "//! x\n\tfn\nx \ny"),
            ("b.md", "hard break  \n"),
            (".ci/run", "x \n"),
        ];
        assert_eq!(
            found(clean_text, &files),
            ["a.rs:2", "a.rs:3", "a.rs:4", ".ci/run:1"]
        );
    }

    #[test]
    fn a_crate_with_lints_of_its_own_is_found() {
        let files = [
            ("Cargo.toml", "[workspace]\n"),
            ("a/Cargo.toml", "[lints]\nworkspace = true\n"),
            ("b/Cargo.toml", "[package]\nname = \"b\"\n"),
            ("engine/fuzz/Cargo.toml", "[package]\nname = \"f\"\n"),
        ];
        assert_eq!(found(shared_lints, &files), ["b/Cargo.toml:1"]);
    }

    #[test]
    fn a_readme_that_hides_a_command_is_found() {
        let readme = "Run `cargo run --release`.\n";
        assert_eq!(found(readme_commands, &[("README.md", readme)]).len(), 1);
        assert!(
            found(
                readme_commands,
                &[("README.md", &format!("{readme}cargo xtask test\n"))]
            )
            .is_empty()
        );
    }
}
