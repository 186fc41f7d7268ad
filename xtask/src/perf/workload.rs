//! A file of `perf/workloads`: what the server is given and what is asked of it.
//!
//! Always true: a file with a field nobody knows is refused, so that a misspelt one is not a
//! default in disguise.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

/// One workload, named by its file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// What it is for, in one sentence.
    pub about: String,
    /// What the server is given.
    #[serde(default)]
    pub server: Server,
    /// What is asked.
    pub load: Load,
    /// Whether latency is measured too, at a fixed rate.
    pub latency: Option<Latency>,
}

/// What the server is given.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Worker threads.
    pub threads: usize,
    /// `-m`.
    pub memory_mb: u32,
    /// More arguments, in the words of memcached.
    pub arguments: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            threads: 1,
            memory_mb: 256,
            arguments: Vec::new(),
        }
    }
}

/// What is asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Connections.
    pub connections: usize,
    /// Requests in flight on each.
    pub depth: usize,
    /// Keys, all of them 16 bytes long, each written once before the run.
    pub keys: u64,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Writes to reads.
    pub ratio: String,
    /// Patterns of writes and reads in memtier's letters.
    #[serde(default = "uniform")]
    pub pattern: String,
    /// Exponent of pattern Z.
    pub zipf_exponent: Option<f64>,
    /// Keys on one get.
    #[serde(default = "one")]
    pub keys_per_get: u32,
    /// Seconds that writes live, from a to b.
    pub exptime: Option<String>,
    /// Lowest share of hits of a valid run. Absent where items expire or are evicted.
    pub expect_hits: Option<f64>,
}

/// At which rate latency is measured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Share of the closed-loop rate of the subject that all are compared with.
    pub share_of_peak: f64,
}

fn uniform() -> String {
    "R:R".into()
}

fn one() -> u32 {
    1
}

impl Workload {
    /// Reads one file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut workload: Self =
            toml::from_str(&text).with_context(|| path.display().to_string())?;
        workload.name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        ensure!(
            workload.load.keys <= KEYS_MAX,
            "{}: at most {KEYS_MAX} keys have 16 bytes",
            workload.name
        );
        Ok(workload)
    }

    /// Reads all files of a folder, by name.
    pub fn read_all(folder: &Path) -> Result<Vec<Self>> {
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Whether a server that always gives the same hit of 32 bytes can take part.
    pub fn suits_a_canned_answer(&self) -> bool {
        let load = &self.load;
        load.ratio.starts_with("0:") && load.keys_per_get == 1 && load.value_bytes == 32
    }

    /// Arguments of the load generator, but for address, pace and length.
    pub fn load_arguments(&self, canned: bool) -> Vec<String> {
        let load = &self.load;
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |option: &str, value: String| {
            arguments.push(option.into());
            arguments.push(value);
        };
        add("--threads", "1".into());
        add("--clients", load.connections.to_string());
        add("--ratio", load.ratio.clone());
        add("--data-size", load.value_bytes.to_string());
        // Eight letters and eight digits.
        add("--key-prefix", "memtier-".into());
        add("--key-minimum", KEY_MINIMUM.to_string());
        add("--key-maximum", (KEY_MINIMUM + load.keys - 1).to_string());
        add("--key-pattern", load.pattern.clone());
        if let Some(exponent) = load.zipf_exponent {
            add("--key-zipf-exp", exponent.to_string());
        }
        if load.keys_per_get > 1 {
            add("--multi-key-get", load.keys_per_get.to_string());
        }
        if let Some(exptime) = &load.exptime {
            add("--expiry-range", exptime.clone());
        }
        if canned {
            add("--verify", "nothing".into());
        } else if let Some(ratio) = load.expect_hits {
            add("--expect-hits", ratio.to_string());
        }
        arguments.push("--distinct-client-seed".into());
        if !canned {
            arguments.push("--fill".into());
        }
        arguments
    }
}

const KEY_MINIMUM: u64 = 10_000_000;
const KEYS_MAX: u64 = 90_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_of_the_project_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/workloads");
        let workloads = Workload::read_all(&folder).expect("readable");
        assert!(workloads.len() >= 14, "{}", workloads.len());
        for workload in workloads {
            assert!(!workload.about.is_empty(), "{}", workload.name);
        }
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("odd.toml");
        let text = "about = \"x\"\n[load]\nconnections = 1\ndepht = 1\n";
        std::fs::write(&path, text).expect("written");
        let error = format!("{:#}", Workload::read(&path).expect_err("refused"));
        assert!(error.contains("depht"), "{error}");
    }

    #[test]
    fn keys_have_sixteen_bytes() {
        for key in [KEY_MINIMUM, KEY_MINIMUM + KEYS_MAX - 1] {
            assert_eq!(format!("memtier-{key}").len(), 16);
        }
    }
}
