//! `cargo xtask tidy`: the rules of this project that no compiler checks.
//!
//! Each rule is one function from files to findings, so that each has a test which shows it a bad sample. A rule
//! finds everything wrong at once; a run fails if any rule found anything.

mod arrows;
mod code;
pub mod files;

use std::fmt;

use anyhow::{Result, ensure};

use crate::workspace::Workspace;
use files::{File, Files};

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
    module_comments,
    pure_engine,
    safe_protocol,
    listed_unsafe,
    no_loose_ends,
    no_machine_paths,
    clean_text,
    shared_lints,
    readme_commands,
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

/// Every Rust file says first what it is for.
fn module_comments(files: &Files) -> Vec<Finding> {
    let silent = files.rust().filter(|file| !file.text.starts_with("//! "));
    silent
        .map(|file| Finding::new(&file.path, 1, "does not open with a `//!` comment"))
        .collect()
}

/// The engine computes from its arguments alone: a clock, a thread, a socket, a file or a random seed inside it would
/// make its tests depend on the machine. Its own tests and test kit may use what they like.
fn pure_engine(files: &Files) -> Vec<Finding> {
    const OUTSIDE: &[&str] = &[
        "time", "net", "thread", "fs", "io", "env", "process", "os", "sync",
    ];
    const ENTROPY: &[&str] = &[
        "getrandom",
        "thread_rng",
        "from_entropy",
        "from_os_rng",
        "OsRng",
        "RandomState",
    ];
    const SHARED: &[&str] = &[
        "AtomicBool",
        "AtomicU32",
        "AtomicU64",
        "AtomicUsize",
        "Mutex",
        "RwLock",
    ];
    let mut findings = Vec::new();
    let engine = files
        .rust()
        .filter(|file| is_engine(&file.path) && !file.path.contains("testkit"));
    for (file, tokens) in
        engine.filter_map(|file| Some((file, code::tokens(&file.text, false).ok()?)))
    {
        for module in OUTSIDE {
            for root in ["std", "core"] {
                for line in code::find_path(&tokens, root, module) {
                    findings.push(Finding::new(
                        &file.path,
                        line,
                        format!("the engine must not use {root}::{module}"),
                    ));
                }
            }
        }
        for word in ENTROPY.iter().chain(SHARED) {
            for line in code::find(&tokens, word) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("the engine must not use {word}"),
                ));
            }
        }
    }
    findings
}

fn is_engine(path: &str) -> bool {
    path.starts_with("engine/protocol/src/") || path.starts_with("engine/store/src/")
}

/// The parser meets every byte a stranger sends, so the compiler itself forbids it unsafe code and the outside world.
fn safe_protocol(files: &Files) -> Vec<Finding> {
    const PATH: &str = "engine/protocol/src/lib.rs";
    let Some(file) = files.find(PATH) else {
        return vec![Finding::new(PATH, 1, "is missing")];
    };
    let lacks = |attribute: &&&str| !file.text.lines().any(|line| line.trim_end() == **attribute);
    let wanted = ["#![no_std]", "#![forbid(unsafe_code)]"];
    wanted
        .iter()
        .filter(lacks)
        .map(|attribute| Finding::new(PATH, 1, format!("lacks `{attribute}`")))
        .collect()
}

/// Unsafe code lives only in files that the README lists in its section about it, so that a reader knows where to
/// look hard. A listed file without unsafe code is a list that drifted.
fn listed_unsafe(files: &Files) -> Vec<Finding> {
    let listed = files
        .find("README.md")
        .map(|readme| unsafe_section(&readme.text))
        .unwrap_or_default();
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for file in files.rust() {
        let Ok(tokens) = code::tokens(&file.text, true) else {
            findings.push(Finding::new(&file.path, 1, "cannot be read as Rust"));
            continue;
        };
        let lines = code::find(&tokens, "unsafe");
        let Some(&line) = lines.first() else { continue };
        used.push(file.path.as_str());
        if !listed.contains(&file.path) {
            let what =
                "has unsafe code, but the README's section on unsafe code does not list this file";
            findings.push(Finding::new(&file.path, line, what));
        }
    }
    for path in listed.iter().filter(|path| !used.contains(&path.as_str())) {
        findings.push(Finding::new(
            "README.md",
            1,
            format!("lists `{path}` for unsafe code, which has none"),
        ));
    }
    findings
}

/// The Rust paths in backticks below a heading that speaks of unsafe code, up to the next heading.
fn unsafe_section(readme: &str) -> Vec<String> {
    let mut inside = false;
    let mut paths = Vec::new();
    for line in readme.lines() {
        if line.starts_with('#') {
            inside = line.to_lowercase().contains("unsafe");
        } else if inside {
            let spans = line.split('`').skip(1).step_by(2);
            paths.extend(
                spans
                    .filter(|span| span.ends_with(".rs"))
                    .map(str::to_owned),
            );
        }
    }
    paths
}

/// No code that announces it is not finished, and no test that does not run.
fn no_loose_ends(files: &Files) -> Vec<Finding> {
    const LOOSE: &[&str] = &["todo !", "unimplemented !", "dbg !", "# [ ignore"];
    let mut findings = Vec::new();
    for (file, tokens) in files
        .rust()
        .filter_map(|file| Some((file, code::tokens(&file.text, true).ok()?)))
    {
        for pattern in LOOSE {
            for line in code::find(&tokens, pattern) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("`{}` is a loose end", pattern.replace(' ', "")),
                ));
            }
        }
    }
    findings
}

/// Paths of one machine mean nothing on another. Tests may use a temporary folder.
fn no_machine_paths(files: &Files) -> Vec<Finding> {
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
fn clean_text(files: &Files) -> Vec<Finding> {
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
fn shared_lints(files: &Files) -> Vec<Finding> {
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
fn readme_commands(files: &Files) -> Vec<Finding> {
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
    use super::*;

    /// What a rule says about a project of these files, as `path:line`.
    fn found(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
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

    #[test]
    fn a_file_without_a_module_comment_is_found() {
        let files = [
            ("a.rs", "//! Good.\nfn f() {}\n"),
            ("b.rs", "// Bad.\n"),
            ("c.txt", "prose\n"),
        ];
        assert_eq!(found(module_comments, &files), ["b.rs:1"]);
    }

    #[test]
    fn a_clock_in_the_engine_is_found_and_elsewhere_is_fine() {
        let clock = "//! x\nuse std::time::Instant;\n";
        let files = [
            ("engine/store/src/a.rs", clock),
            (
                "engine/protocol/src/b.rs",
                "//! x\nuse core::{mem, sync::atomic};\n",
            ),
            (
                "engine/store/src/c.rs",
                "//! std::time\n#[cfg(test)]\nmod tests { use std::time::Instant; }\n",
            ),
            ("engine/store/src/testkit.rs", clock),
            ("engine/store/tests/model.rs", clock),
            ("server/src/clock.rs", clock),
        ];
        assert_eq!(
            found(pure_engine, &files),
            ["engine/store/src/a.rs:2", "engine/protocol/src/b.rs:2"]
        );
    }

    #[test]
    fn entropy_and_atomics_in_the_engine_are_found() {
        let text = "//! x\nfn f() { getrandom(&mut seed); }\nstruct S { n: AtomicU64 }\n";
        let files = [("engine/store/src/a.rs", text)];
        assert_eq!(
            found(pure_engine, &files),
            ["engine/store/src/a.rs:2", "engine/store/src/a.rs:3"]
        );
    }

    #[test]
    fn a_protocol_that_may_be_unsafe_is_found() {
        let path = "engine/protocol/src/lib.rs";
        assert!(
            found(
                safe_protocol,
                &[(path, "//! x\n#![no_std]\n#![forbid(unsafe_code)]\n")]
            )
            .is_empty()
        );
        assert_eq!(
            found(safe_protocol, &[(path, "//! x\n#![no_std]\n")]).len(),
            1
        );
        assert_eq!(
            found(safe_protocol, &[(path, "//! `#![no_std]`\n")]).len(),
            2
        );
        assert_eq!(found(safe_protocol, &[]).len(), 1);
    }

    #[test]
    fn unsafe_code_outside_the_listed_files_is_found() {
        let readme =
            "# x\n`c.rs`\n## Unsafe code\n- `a.rs`: because\n- `d.rs`: because\n## More\n`b.rs`\n";
        let bad = "//! x\nunsafe fn f() {}\n";
        let files = [
            ("README.md", readme),
            ("a.rs", bad),
            ("b.rs", bad),
            ("c.rs", bad),
            ("d.rs", "//! unsafe\n"),
        ];
        assert_eq!(
            found(listed_unsafe, &files),
            ["b.rs:2", "c.rs:2", "README.md:1"]
        );
    }

    #[test]
    fn loose_ends_are_found_even_in_tests() {
        let text = concat!(
            "//! x\nfn f() { to",
            "do!() }\n#[test]\n#[ignore = \"slow\"]\nfn t() { dbg",
            "!(1); }\n"
        );
        assert_eq!(
            found(no_loose_ends, &[("a.rs", text)]),
            ["a.rs:2", "a.rs:5", "a.rs:4"]
        );
    }

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
