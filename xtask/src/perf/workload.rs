//! A file of `perf/workloads`: what the server is given and what is asked of it.
//!
//! Always true: a file with a field nobody knows is refused, so that a misspelt one is not a
//! default in disguise.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::subject::{OURS, STRATA};

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
    /// Who takes part, where not everybody does; peers that are given do wherever Strata is not alone.
    #[serde(default)]
    pub subjects: Vec<String>,
    /// The same with something different, which Strata is measured under as well, in the same rounds.
    #[serde(default)]
    pub variants: Vec<Variant>,
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

impl Server {
    /// Whether Strata gets an admin endpoint.
    fn has_admin(&self) -> bool {
        self.strata_arguments
            .iter()
            .any(|word| word.contains("{admin}"))
    }
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

/// Strata again within the same rounds, with something different. What is absent stays as it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// What people call it.
    pub name: String,
    /// Worker threads.
    pub threads: Option<usize>,
    /// `-m`.
    pub memory_mb: Option<u32>,
    /// Instead of the arguments that Strata alone understands. Without `{admin}` among them nothing is scraped.
    pub strata_arguments: Option<Vec<String>>,
    /// Whose keys a worker is asked for.
    pub shards: Option<Shards>,
    /// Whether items live for ever.
    #[serde(default)]
    pub for_ever: bool,
}

impl Variant {
    /// Its name among the subjects.
    pub fn subject(&self) -> String {
        format!("{STRATA}, {}", self.name)
    }
}

/// What is aimed at, as the most that a ratio of Strata's to somebody else's may be. The others are subjects or
/// variants, by their names.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Goals {
    /// CPU an operation.
    pub cpu_to: BTreeMap<String, f64>,
    /// CPU an operation, to that of each peer that is given.
    pub cpu_to_peers: Option<f64>,
    /// The p99.9 in the open loop.
    pub p999_to: BTreeMap<String, f64>,
}

impl Load {
    /// Whether its closed loop may stand still now and then. Items that expire would do so meanwhile, and the latency of
    /// a connection has no figure then.
    pub fn bears_turns(&self) -> bool {
        self.exptime.is_none() && !self.per_connection
    }
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
        ensure!(
            workload.server.has_admin() || workload.server.scrape_s.is_none(),
            "{}: no {{admin}} to scrape",
            workload.name
        );
        workload.check_names()?;
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

    /// Reads those of these names, in their order.
    ///
    /// # Errors
    /// One of them cannot be read, or a name is nobody's.
    pub fn read_named(folder: &Path, names: &[&str]) -> Result<Vec<Self>> {
        let all = Self::read_all(folder)?;
        let known = || all.iter().map(|one| one.name.as_str());
        let of_name = |name: &&str| {
            let found = all.iter().find(|one| one.name == *name).cloned();
            found.with_context(|| {
                let known: Vec<&str> = known().collect();
                format!("no workload {name:?}; there are {}", known.join(", "))
            })
        };
        names.iter().map(of_name).collect()
    }

    /// That each name stands for one thing.
    fn check_names(&self) -> Result<()> {
        let mut names: Vec<&str> = OURS.to_vec();
        for variant in &self.variants {
            ensure!(
                !names.contains(&variant.name.as_str()),
                "{}: two things are called {:?}",
                self.name,
                variant.name
            );
            names.push(&variant.name);
        }
        for name in self.goals.cpu_to.keys().chain(self.goals.p999_to.keys()) {
            ensure!(
                name != STRATA && names.contains(&name.as_str()),
                "{}: a goal compares with {name:?}, which is neither a subject nor a variant",
                self.name
            );
        }
        Ok(())
    }

    /// The same for Strata alone with what is different in a variant.
    pub fn varied(&self, variant: &Variant) -> Self {
        let mut same = self.clone();
        let server = &mut same.server;
        if let Some(threads) = variant.threads {
            server.threads = threads;
        }
        if let Some(memory_mb) = variant.memory_mb {
            server.memory_mb = memory_mb;
        }
        if let Some(arguments) = &variant.strata_arguments {
            server.strata_arguments = arguments.clone();
            if !server.has_admin() {
                server.scrape_s = None;
            }
        }
        if variant.shards.is_some() {
            same.load.shards = variant.shards;
        }
        if variant.for_ever {
            same.load.exptime = None;
        }
        same
    }

    /// The subject that a goal calls by this name.
    pub fn subject_of(&self, name: &str) -> String {
        let variant = self.variants.iter().find(|one| one.name == name);
        variant.map_or_else(|| name.to_owned(), Variant::subject)
    }

    /// Requests in flight on each client of the generator, which has a connection to each of the
    /// servers it is told of.
    pub fn depth(&self) -> usize {
        self.load.depth * self.servers()
    }

    /// As many requests of each client as make about so many operations, all in flight whenever any is.
    pub fn requests_of_each_client(&self, operations: u64) -> u64 {
        let (clients, depth) = (self.load.connections / self.servers(), self.depth() as u64);
        let in_flight = clients as u64 * u64::from(self.load.keys_per_get) * depth;
        operations.div_ceil(in_flight) * depth
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

    /// Whether a subject that is given as a peer takes part: where Strata is beside itself alone, nobody else can.
    pub fn invites_peers(&self) -> bool {
        self.subjects.is_empty() || self.subjects.iter().any(|one| one != STRATA)
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
        let workloads = projects();
        assert!(workloads.len() >= 14, "{}", workloads.len());
        for workload in workloads {
            assert!(!workload.about.is_empty(), "{}", workload.name);
        }
    }

    #[test]
    fn requests_of_a_client_are_whole_pipelines_of_a_share_of_the_operations() {
        let mut workload = projects().remove(0);
        let load = &mut workload.load;
        (load.connections, load.depth, load.keys_per_get, load.shards) = (50, 16, 1, None);
        assert_eq!(workload.requests_of_each_client(16_000), 320);
        assert_eq!(workload.requests_of_each_client(16_001), 336);
        workload.load.keys_per_get = 100;
        assert_eq!(workload.requests_of_each_client(160_000), 32);
    }

    #[test]
    fn a_workload_of_another_name_is_refused_with_those_there_are() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/workloads");
        let read = |names: &[&str]| Workload::read_named(&folder, names);
        let names = ["write_heavy", "all_local"];
        let found = read(&names).expect("both");
        assert!(found.iter().map(|one| one.name.as_str()).eq(names));
        let error = read(&["write_havy"]).expect_err("refused").to_string();
        assert!(
            error.contains("write_havy") && error.contains("write_heavy"),
            "{error}"
        );
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

    fn projects() -> Vec<Workload> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../perf/workloads");
        Workload::read_all(&folder).expect("readable")
    }

    /// All variants of this name, with what they vary.
    fn variants(name: &str) -> Vec<(Workload, Workload)> {
        let mut found = Vec::new();
        for workload in projects() {
            let variant = workload.variants.iter().find(|one| one.name == name);
            if let Some(variant) = variant {
                found.push((workload.varied(variant), workload.clone()));
            }
        }
        found
    }

    #[test]
    fn with_room_nothing_is_evicted_and_nothing_expires() {
        let found = variants("roomy");
        assert!(found.len() >= 2, "{}", found.len());
        for (roomy, _) in found {
            assert_eq!(roomy.load.exptime, None, "{}", roomy.name);
            let bytes = roomy.load.keys * (roomy.load.value_bytes as u64 + 100);
            let memory = u64::from(roomy.server.memory_mb) << 20;
            assert!(bytes < memory, "{}", roomy.name);
        }
    }

    #[test]
    fn switched_off_nothing_watches_and_all_else_is_the_same() {
        let found = variants("bare");
        assert!(found.len() >= 4, "{}", found.len());
        for (bare, workload) in found {
            let words = bare.server.strata_arguments.join(" ");
            assert!(words.contains("--no-latency") && words.contains("--no-hot-keys"));
            assert!(!words.contains("--admin") && bare.server.scrape_s.is_none());
            assert!(workload.server.scrape_s.is_some(), "{}", workload.name);
            assert_eq!(bare.load_arguments(false), workload.load_arguments(false));
        }
    }

    #[test]
    fn one_worker_is_asked_for_the_same_as_two() {
        let found = variants("one worker");
        assert!(found.len() >= 2, "{}", found.len());
        for (one, two) in found {
            assert_eq!((one.server.threads, two.server.threads), (1, 2));
            assert_eq!(one.load_arguments(false), two.load_arguments(false));
        }
    }

    /// What reading a file with these words refuses.
    fn refusal(more: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("odd.toml");
        let load =
            "[load]\nconnections = 1\ndepth = 1\nkeys = 1\nvalue_bytes = 1\nratio = \"0:1\"\n";
        std::fs::write(&path, format!("about = \"x\"\n{load}{more}")).expect("written");
        format!("{:#}", Workload::read(&path).expect_err("refused"))
    }

    #[test]
    fn a_goal_that_compares_with_nobody_is_refused() {
        let variant = "[[variants]]\nname = \"roomy\"\n";
        for name in ["romy", "strata"] {
            let error = refusal(&format!("{variant}[goals.cpu_to]\n{name} = 1.0\n"));
            assert!(error.contains(name) && error.contains("neither"), "{error}");
        }
    }

    #[test]
    fn a_variant_with_a_taken_name_or_a_misspelt_field_is_refused() {
        let error = refusal("[[variants]]\nname = \"memcached\"\n");
        assert!(error.contains("two things"), "{error}");
        let error = refusal("[[variants]]\nname = \"x\"\nthread = 1\n");
        assert!(error.contains("thread"), "{error}");
    }

    #[test]
    fn nothing_is_scraped_without_an_admin_endpoint() {
        let error = refusal("[server]\nscrape_s = 1.0\n");
        assert!(error.contains("{admin}"), "{error}");
    }

    #[test]
    fn keys_have_sixteen_bytes() {
        for key in [KEY_MINIMUM, KEY_MINIMUM + KEYS_MAX - 1] {
            assert_eq!(format!("memtier-{key}").len(), 16);
        }
    }
}
