//! A file of `perf/workloads`: what the server is given and what is asked of it.
//!
//! Always true: a file with a field nobody knows is refused, so that a misspelt one is not a
//! default in disguise.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::record;

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
    /// Who takes part, where not everybody does; peers that are given always do.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// The same without what makes it hard, which Strata is measured under as well.
    pub roomy: Option<Roomy>,
    /// The same with everything switched off that can be, which Strata is measured under as well.
    pub bare: Option<Bare>,
    /// What is aimed at.
    #[serde(default)]
    pub goals: Goals,
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
    /// More arguments that Strata alone understands; `{admin}` is the port of its admin endpoint.
    pub strata_arguments: Vec<String>,
    /// Whether clients speak TLS 1.3. Servers without it are left out.
    pub tls: bool,
    /// How often the admin endpoint is asked for all metrics, in seconds.
    pub scrape_s: Option<f64>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            threads: 1,
            memory_mb: 256,
            arguments: Vec::new(),
            strata_arguments: Vec::new(),
            tls: false,
            scrape_s: None,
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
    /// Connections go to the workers' own ports: each worker is asked for its own keys alone, or
    /// for those of the others alone.
    pub shards: Option<Shards>,
    /// Whether the connection that is served worst has figures of its own.
    #[serde(default)]
    pub per_connection: bool,
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

/// Whose keys a worker is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shards {
    /// Its own.
    Own,
    /// Those of the next worker.
    Other,
}

/// What is different where nothing is evicted and nothing expires.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roomy {
    /// `-m`, if it is another.
    pub memory_mb: Option<u32>,
    /// Whether items live for ever.
    #[serde(default)]
    pub for_ever: bool,
}

/// What is different where everything is switched off that can be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bare {
    /// Instead of those that Strata alone understands.
    pub strata_arguments: Vec<String>,
}

/// What is aimed at, as the most a ratio may be.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goals {
    /// Strata's CPU an operation to memcached's.
    pub cpu_to_memcached: Option<f64>,
    /// To that of the null responder on a ring.
    pub cpu_to_floor: Option<f64>,
    /// To Strata's own under another workload.
    pub cpu_to: Option<CpuTo>,
    /// To Strata's own with everything switched off ([`Workload::bare`]).
    pub cpu_to_bare: Option<f64>,
    /// Strata's p99.9 in the open loop to memcached's.
    pub p999_to_memcached: Option<f64>,
    /// To Strata's own with room ([`Workload::roomy`]).
    pub p999_to_roomy: Option<f64>,
}

/// Another workload, and the ratio to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuTo {
    /// The other workload.
    pub workload: String,
    /// The most that is aimed at.
    pub at_most: f64,
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
            workload.load.shards.is_none() || workload.subjects == ["strata"],
            "{}: only Strata has a port for each shard",
            workload.name
        );
        ensure!(
            workload.load.keys <= KEYS_MAX,
            "{}: at most {KEYS_MAX} keys have 16 bytes",
            workload.name
        );
        let asks = |word: &String| word.contains("{admin}");
        let has_admin = workload.server.strata_arguments.iter().any(asks);
        ensure!(
            has_admin || workload.server.scrape_s.is_none(),
            "{}: no {{admin}} to scrape",
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

    /// The same where nothing is evicted and nothing expires, if there is such a thing.
    pub fn with_room(&self) -> Option<Self> {
        let roomy = self.roomy.as_ref()?;
        let mut same = self.clone();
        if let Some(memory_mb) = roomy.memory_mb {
            same.server.memory_mb = memory_mb;
        }
        if roomy.for_ever {
            same.load.exptime = None;
        }
        Some(same)
    }

    /// The same with everything switched off, if there is such a thing.
    pub fn switched_off(&self) -> Option<Self> {
        let bare = self.bare.as_ref()?;
        let mut same = self.clone();
        same.server.strata_arguments = bare.strata_arguments.clone();
        same.server.scrape_s = None;
        Some(same)
    }

    /// The workloads that Strata alone is measured under as well, by the names it then has in tables.
    pub fn of_strata_alone(&self) -> impl Iterator<Item = (&'static str, Self)> {
        let with_room = self.with_room().map(|same| (record::ROOMY, same));
        let switched_off = self.switched_off().map(|same| (record::BARE, same));
        with_room.into_iter().chain(switched_off)
    }

    /// Requests in flight on each client of the generator, which has a connection to each of the
    /// servers it is told of.
    pub fn depth(&self) -> usize {
        self.load.depth * self.servers()
    }

    /// How many servers the generator is told of.
    fn servers(&self) -> usize {
        match self.load.shards {
            Some(_) => self.server.threads,
            None => 1,
        }
    }

    /// Arguments that name the server to the load generator.
    pub fn address_arguments(&self, port: u16) -> Vec<String> {
        let Some(shards) = self.load.shards else {
            return ["--server", "127.0.0.1", "--port", &port.to_string()]
                .map(str::to_owned)
                .to_vec();
        };
        // The ports of the workers follow the common one.
        let mut own: Vec<String> = (1..=self.server.threads)
            .map(|worker| format!("127.0.0.1:{}", usize::from(port) + worker))
            .collect();
        if shards == Shards::Other {
            own.rotate_left(1);
        }
        ["--server", &own.join(","), "--distribution", "modula"]
            .map(str::to_owned)
            .to_vec()
    }

    /// Whether a subject that is not given as a peer takes part.
    pub fn invites(&self, subject: &str) -> bool {
        self.subjects.is_empty() || self.subjects.iter().any(|one| one == subject)
    }

    /// Whether a server that always gives the same hit of 32 bytes can take part.
    pub fn suits_a_canned_answer(&self) -> bool {
        let load = &self.load;
        load.shards.is_none()
            && load.ratio.starts_with("0:")
            && load.keys_per_get == 1
            && load.value_bytes == 32
            && !self.server.tls
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
        add("--clients", (load.connections / self.servers()).to_string());
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
        if self.server.tls {
            add("--tls-protocols", "TLSv1.3".into());
            arguments.extend(["--tls", "--tls-skip-verify"].map(str::to_owned));
        }
        arguments.push("--distinct-client-seed".into());
        if load.per_connection {
            arguments.push("--per-connection".into());
        }
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
    fn a_client_of_shards_is_told_of_each_and_keeps_the_connections_and_the_depth() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/workloads");
        let mut workload = Workload::read(&folder.join("all_remote.toml")).expect("readable");
        assert_eq!(workload.server.threads, 2);
        let address = |workload: &Workload| workload.address_arguments(10)[1].clone();
        assert_eq!(address(&workload), "127.0.0.1:12,127.0.0.1:11");
        workload.load.shards = Some(Shards::Own);
        assert_eq!(address(&workload), "127.0.0.1:11,127.0.0.1:12");
        let arguments = workload.load_arguments(false);
        let at = arguments.iter().position(|word| word == "--clients");
        let clients: usize = arguments[at.expect("said") + 1].parse().expect("a number");
        assert_eq!(clients * 2, workload.load.connections);
        assert_eq!(workload.depth(), 2 * workload.load.depth);
    }

    #[test]
    fn with_room_nothing_is_evicted_and_nothing_expires() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/workloads");
        for workload in Workload::read_all(&folder).expect("readable") {
            let Some(roomy) = workload.with_room() else {
                assert_eq!(workload.goals.p999_to_roomy, None, "{}", workload.name);
                continue;
            };
            assert_eq!(roomy.load.exptime, None, "{}", workload.name);
            let bytes = roomy.load.keys * (roomy.load.value_bytes as u64 + 100);
            let memory = u64::from(roomy.server.memory_mb) << 20;
            assert!(bytes < memory, "{}", workload.name);
        }
    }

    #[test]
    fn switched_off_nothing_watches_and_all_else_is_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/workloads");
        let mut found = 0;
        for workload in Workload::read_all(&folder).expect("readable") {
            let Some(bare) = workload.switched_off() else {
                assert_eq!(workload.goals.cpu_to_bare, None, "{}", workload.name);
                continue;
            };
            let words = bare.server.strata_arguments.join(" ");
            assert!(words.contains("--no-latency") && words.contains("--no-hot-keys"));
            assert!(!words.contains("--admin") && bare.server.scrape_s.is_none());
            assert!(workload.server.scrape_s.is_some(), "{}", workload.name);
            assert_eq!(bare.load_arguments(false), workload.load_arguments(false));
            found += 1;
        }
        assert!(found >= 4, "{found}");
    }

    #[test]
    fn nothing_is_scraped_without_an_admin_endpoint() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("odd.toml");
        let load =
            "[load]\nconnections = 1\ndepth = 1\nkeys = 1\nvalue_bytes = 1\nratio = \"0:1\"\n";
        let text = format!("about = \"x\"\n[server]\nscrape_s = 1.0\n{load}");
        std::fs::write(&path, text).expect("written");
        let error = format!("{:#}", Workload::read(&path).expect_err("refused"));
        assert!(error.contains("{admin}"), "{error}");
    }

    #[test]
    fn keys_have_sixteen_bytes() {
        for key in [KEY_MINIMUM, KEY_MINIMUM + KEYS_MAX - 1] {
            assert_eq!(format!("memtier-{key}").len(), 16);
        }
    }
}
