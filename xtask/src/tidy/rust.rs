//! Rules about Rust files: what they open with, what the engine may use, where unsafe code may live, and that nothing in
//! them is unfinished.

use super::files::Files;
use super::{Finding, code};

/// Every Rust file says first what it is for.
pub fn module_comments(files: &Files) -> Vec<Finding> {
    let silent = files.rust().filter(|file| !file.text.starts_with("//! "));
    silent
        .map(|file| Finding::new(&file.path, 1, "does not open with a `//!` comment"))
        .collect()
}

/// The engine computes from its arguments alone: a clock, a thread, a socket, a file or a random seed inside it would
/// make its tests depend on the machine. Its own tests and test kit may use what they like.
pub fn pure_engine(files: &Files) -> Vec<Finding> {
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
pub fn safe_protocol(files: &Files) -> Vec<Finding> {
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
pub fn listed_unsafe(files: &Files) -> Vec<Finding> {
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
pub fn no_loose_ends(files: &Files) -> Vec<Finding> {
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

#[cfg(test)]
mod tests {
    use super::super::tests::found;
    use super::*;

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
}
