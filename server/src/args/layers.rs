//! Where options come from: a file, the environment, and the command line, each before the one above it.
//!
//! Always true: an option that stands in several places has the value of the strongest, whole (a list is
//! not joined); what is written in the file or the environment goes through the same parser as flags do;
//! a name that is none is an error with the nearest there is; and no option holds a secret, only files
//! that do are named, so all of them may be shown.
//!
//! ```text
//! default < file (--config or STRATA_CONFIG) < environment (STRATA_NAME) < flag
//! ```

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use super::keys::{ENVIRONMENT_PREFIX, Key, Keys, Kind, with_switches};
use super::{Args, extended, file};

/// A usage error, in the numbers of `sysexits.h` that memcached uses.
pub const EX_USAGE: u8 = 64;

/// What is in force.
pub struct Gathered<T> {
    /// The options.
    pub options: T,
    /// The same as a file of options, with the origin of each behind it.
    pub listing: String,
}

/// Why there are no options.
#[derive(Debug)]
pub enum Refusal {
    /// The command line is wrong, or asks for help.
    Words(clap::Error),
    /// Something else is, as a sentence.
    Sentence(String),
}

impl Refusal {
    /// Tells the operator; what the process ends with.
    #[must_use]
    pub fn tell(&self, program: &str) -> ExitCode {
        match self {
            Self::Words(error) => {
                let _ = error.print();
                match error.use_stderr() {
                    true => ExitCode::from(EX_USAGE),
                    false => ExitCode::SUCCESS,
                }
            }
            Self::Sentence(sentence) => {
                eprintln!("{program}: {sentence}");
                ExitCode::from(EX_USAGE)
            }
        }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug)]
enum Origin {
    File { path: PathBuf, line: usize },
    Environment(String),
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => {
                write!(f, "{}:{line}", path.display().to_string().escape_debug())
            }
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// The value of one option.
#[derive(Clone, Debug)]
struct Given {
    texts: Vec<String>,
    origin: Origin,
}

/// Values by the name of their key.
type Layer = BTreeMap<String, Given>;

/// Reads all places. The words begin with the program's name.
///
/// # Errors
/// See [`Refusal`].
pub fn gather<T: CommandFactory + FromArgMatches>(
    words: &[OsString],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Gathered<T>, Refusal> {
    let command = with_switches(T::command());
    let parse = |words: &[OsString]| {
        let parsed = command.clone().try_get_matches_from(words);
        parsed.map_err(Refusal::Words)
    };
    let flags = parse(words)?;
    let keys = Keys::new();
    let (from_environment, named) =
        environment_layer(&keys, environment).map_err(Refusal::Sentence)?;
    let path = flags.get_one::<PathBuf>("config").cloned().or(named);
    let mut given = match &path {
        Some(path) => file_layer(&keys, path).map_err(Refusal::Sentence)?,
        None => Layer::new(),
    };
    given.extend(from_environment);
    let from_flags = flag_layer(&keys, &flags);
    given.retain(|name, _| !from_flags.contains_key(name));
    let judge = with_switches(Args::command());
    let mut all: Vec<OsString> = words.iter().take(1).cloned().collect();
    for key in keys.iter() {
        if let Some(value) = given.get(&key.name) {
            let words = words_of(key, &value.texts);
            judge_alone(&judge, key, value, &words).map_err(Refusal::Sentence)?;
            all.extend(words);
        }
    }
    all.extend(words.iter().skip(1).cloned());
    given.extend(from_flags);
    let matches = parse(&all)?;
    Ok(Gathered {
        options: T::from_arg_matches(&matches).map_err(Refusal::Words)?,
        listing: listing(&keys, &given),
    })
}

fn insert(layer: &mut Layer, key: &Key, name: &str, given: Given) -> Result<(), String> {
    match layer.insert(key.name.clone(), given) {
        None => Ok(()),
        Some(other) => Err(format!(
            "{name} is another name of what {} says already",
            other.origin
        )),
    }
}

fn file_layer(keys: &Keys, path: &Path) -> Result<Layer, String> {
    let mut layer = Layer::new();
    for file::Entry { name, line, value } in file::read(path)? {
        let origin = Origin::File {
            path: path.to_owned(),
            line,
        };
        let place = format!("{}:{line}: {name}", path.display());
        let key = keys
            .find(&name, str::to_owned)
            .map_err(|reason| format!("{place}: {reason}"))?;
        let texts = value
            .texts(key.kind)
            .map_err(|reason| format!("{place}: {reason}"))?;
        insert(&mut layer, key, &place, Given { texts, origin })?;
    }
    Ok(layer)
}

/// The options that the environment has, and the file it names.
fn environment_layer(
    keys: &Keys,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Layer, Option<PathBuf>), String> {
    let (mut layer, mut path) = (Layer::new(), None);
    let written = |name: &str| format!("{ENVIRONMENT_PREFIX}{}", name.to_uppercase());
    let mut ours: Vec<(String, OsString)> = environment
        .into_iter()
        .filter_map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            name.starts_with(ENVIRONMENT_PREFIX)
                .then_some((name, value))
        })
        .collect();
    ours.sort();
    for (name, value) in ours {
        let behind = &name[ENVIRONMENT_PREFIX.len()..];
        if behind == "CONFIG" {
            path = Some(PathBuf::from(value));
            continue;
        }
        let found = keys.find(&behind.to_lowercase(), written);
        let known = found.and_then(|key| match written(&behind.to_lowercase()) == name {
            true => Ok(key),
            false => Err("there is no such option; names are in capitals".into()),
        });
        let key = known.map_err(|reason| format!("{name} in the environment: {reason}"))?;
        let text = value
            .into_string()
            .map_err(|_| format!("{name} in the environment is not UTF-8"))?;
        let texts = match (key.kind, &text[..]) {
            (Kind::Switch, "1") => vec!["true".into()],
            (Kind::Switch, "0") => vec!["false".into()],
            (Kind::List, _) => text.split(',').map(str::to_owned).collect(),
            _ => vec![text],
        };
        let origin = Origin::Environment(name.clone());
        insert(&mut layer, key, &name, Given { texts, origin })?;
    }
    Ok((layer, path))
}

/// What the command line says, to be shown; it is parsed as it is.
fn flag_layer(keys: &Keys, flags: &ArgMatches) -> Layer {
    let mut layer = Layer::new();
    let mut put = |name: &str, texts| {
        let origin = Origin::Flag;
        layer.insert(name.to_owned(), Given { texts, origin });
    };
    let lossy = |text: &OsStr| text.to_string_lossy().into_owned();
    for key in keys.iter() {
        let Some(flag) = &key.flag else { continue };
        if flags.value_source(&flag.id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let mut texts: Vec<String> = match key.kind {
            Kind::Count => vec![flags.get_count(&flag.id).to_string()],
            _ => flags
                .get_raw(&flag.id)
                .into_iter()
                .flatten()
                .map(lossy)
                .collect(),
        };
        if key.kind != Kind::List {
            texts.drain(..texts.len().saturating_sub(1));
        }
        put(&key.name, texts);
    }
    for option in flags.get_raw("extended").into_iter().flatten().map(lossy) {
        let (name, value) = option.split_once('=').unwrap_or((&option, ""));
        let switch = keys
            .iter()
            .any(|key| key.name == name && key.kind == Kind::Switch);
        let value = if switch { "true" } else { value };
        put(name, vec![value.to_owned()]);
    }
    layer
}

/// The words that say the same on the command line.
fn words_of(key: &Key, texts: &[String]) -> Vec<OsString> {
    let first = texts.first().map_or("", |text| text.as_str());
    let Some(flag) = &key.flag else {
        return match (key.kind, first) {
            (Kind::Switch, "false") => Vec::new(),
            (Kind::Switch, "true") | (_, "") => vec![format!("--extended={}", key.name).into()],
            _ => vec![format!("--extended={}={first}", key.name).into()],
        };
    };
    match key.kind {
        Kind::Count => {
            let times = first.parse::<u8>().unwrap_or(0);
            vec![format!("--{}", flag.long).into(); times.into()]
        }
        _ => {
            let word = |text: &String| format!("--{}={text}", flag.long).into();
            texts.iter().map(word).collect()
        }
    }
}

/// Checks one value from the file or the environment by itself, so that the error names its place.
fn judge_alone(
    command: &Command,
    key: &Key,
    given: &Given,
    words: &[OsString],
) -> Result<(), String> {
    let named = |reason: String| Err(format!("{}: {}: {reason}", given.origin, key.name));
    let first = given.texts.first().map_or("", |text| text.as_str());
    if key.flag.is_none() {
        if key.kind == Kind::Switch {
            return match first {
                "true" | "false" => Ok(()),
                _ => named(format!("{first} is neither true nor false")),
            };
        }
        if first.contains(',') {
            return named("a value of this option has no comma".into());
        }
        let value = Some(first).filter(|text| !text.is_empty());
        return extended::check_one(&key.name, value).or_else(named);
    }
    if key.kind == Kind::Count && first.parse::<u8>().is_err() {
        return named(format!("{first} is no number from 0 to {}", u8::MAX));
    }
    let program = OsStr::new("strata").to_owned();
    let words = std::iter::once(program).chain(words.iter().cloned());
    match command.clone().try_get_matches_from(words) {
        Ok(_) => Ok(()),
        // What another option has to be there for is judged when all are.
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let lines = text.lines().take_while(|line| !line.trim().is_empty());
            let lines: Vec<&str> = lines.map(str::trim).collect();
            named(lines.join(" ").trim_start_matches("error: ").to_owned())
        }
    }
}

/// All options as a file of options. One that holds nothing is a comment.
fn listing(keys: &Keys, given: &Layer) -> String {
    let mut text = String::new();
    for key in keys.iter() {
        let name = &key.name;
        let help = key.flag.as_ref().and_then(|flag| flag.help.as_deref());
        let option_default = extended::DEFAULTS.iter().find(|(option, _)| option == name);
        let default = match &key.flag {
            Some(flag) => flag.default.clone().filter(|_| help.is_some()),
            None => option_default.map(|(_, number)| number.to_string()),
        };
        let _ = match (given.get(name), default) {
            (Some(Given { texts, origin }), _) => {
                writeln!(text, "{name} = {}  # {origin}", shown(key.kind, texts))
            }
            (None, Some(default)) => {
                writeln!(text, "{name} = {}  # default", shown(key.kind, &[default]))
            }
            (None, None) => match help {
                Some(help) => writeln!(text, "# {name} is not set: {help}"),
                None => continue,
            },
        };
    }
    text
}

/// A value in TOML.
fn shown(kind: Kind, texts: &[String]) -> String {
    let quoted = |text: &String| toml::Value::from(text.as_str()).to_string();
    let first = texts.first().cloned().unwrap_or_default();
    match kind {
        Kind::List => {
            let texts: Vec<String> = texts.iter().map(quoted).collect();
            format!("[{}]", texts.join(", "))
        }
        Kind::Switch | Kind::Count => first,
        // A number that is written in another way, like a mask, stays a text.
        Kind::One
            if first
                .parse()
                .is_ok_and(|number: i64| number.to_string() == first) =>
        {
            first
        }
        Kind::One => quoted(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of options, removed with its test.
    struct Written(PathBuf);

    impl Written {
        fn new(text: &str) -> Self {
            use std::sync::atomic::{AtomicU32, Ordering};
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("strata-options-{}-{number}.toml", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).expect("a file");
            Self(path)
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// All three places at once; the environment as `NAME=value` words.
    fn asked(file: &str, environment: &str, words: &str) -> Result<Gathered<Args>, String> {
        let written = Written::new(file);
        let mut list = vec![OsString::from("strata")];
        if !file.is_empty() {
            list.extend(["--config".into(), written.0.clone().into()]);
        }
        list.extend(words.split_whitespace().map(OsString::from));
        let environment = environment.split_whitespace().map(|word| {
            let (name, value) = word.split_once('=').expect("NAME=value");
            (OsString::from(name), OsString::from(value))
        });
        gather(&list, environment).map_err(|refusal| match refusal {
            Refusal::Words(error) => error.to_string(),
            Refusal::Sentence(sentence) => {
                sentence.replace(&written.0.display().to_string(), "FILE")
            }
        })
    }

    /// The line of the listing about an option.
    fn line(gathered: &Gathered<Args>, name: &str) -> String {
        let start = format!("{name} = ");
        let mut lines = gathered.listing.lines();
        let found = lines.find_map(|line| line.strip_prefix(&start));
        let found = found.unwrap_or_else(|| panic!("no {name} in {}", gathered.listing));
        let (value, origin) = found.split_once("  # ").expect("an origin");
        let origin = match origin.rsplit_once(".toml:") {
            Some((_, number)) => format!("FILE:{number}"),
            None => origin.to_owned(),
        };
        format!("{value} {origin}")
    }

    #[test]
    fn each_place_goes_before_the_weaker_ones() {
        let file = "# a comment\nthreads = 2\n";
        for (file, environment, words, expected, threads) in [
            ("", "", "", None, None),
            (file, "", "", Some("2 FILE:2"), Some(2)),
            (
                "",
                "STRATA_THREADS=3",
                "",
                Some("3 STRATA_THREADS"),
                Some(3),
            ),
            ("", "", "-t 4", Some("4 flag"), Some(4)),
            (
                file,
                "STRATA_THREADS=3",
                "",
                Some("3 STRATA_THREADS"),
                Some(3),
            ),
            (file, "", "-t 4", Some("4 flag"), Some(4)),
            ("", "STRATA_THREADS=3", "-t 4", Some("4 flag"), Some(4)),
            (file, "STRATA_THREADS=3", "-t 4", Some("4 flag"), Some(4)),
        ] {
            let gathered = asked(file, environment, words).expect("valid");
            match expected {
                Some(expected) => assert_eq!(line(&gathered, "threads"), expected),
                None => assert!(gathered.listing.contains("# threads is not set: ")),
            }
            assert_eq!(gathered.options.threads, threads);
        }
        assert_eq!(
            line(&asked("", "", "").expect("valid"), "conn_limit"),
            "1024 default"
        );
    }

    #[test]
    fn a_switch_goes_off_again_in_a_stronger_place() {
        let file = "disable_cas = true\n";
        for (environment, words, off) in [
            ("", "", true),
            ("STRATA_DISABLE_CAS=0", "", false),
            ("STRATA_DISABLE_CAS=false", "-C", true),
            ("", "--disable-cas=false", false),
            ("", "-MCF", true),
        ] {
            let gathered = asked(file, environment, words).expect("valid");
            assert_eq!(gathered.options.disable_cas, off, "{environment} {words}");
            assert_eq!(gathered.options.disable_evictions, words == "-MCF");
        }
    }

    #[test]
    fn a_list_is_replaced_whole() {
        let file = "listen = [\"127.0.0.1:1\", \"[::1]:2\"]\n";
        let of = |environment, words| {
            let gathered = asked(file, environment, words).expect("valid");
            (line(&gathered, "listen"), gathered.options.listen)
        };
        let (shown, list) = of("", "");
        assert_eq!(shown, "[\"127.0.0.1:1\", \"[::1]:2\"] FILE:1");
        assert_eq!(list, ["127.0.0.1:1", "[::1]:2"]);
        let (shown, list) = of("STRATA_LISTEN=127.0.0.3,127.0.0.4", "");
        assert_eq!(shown, "[\"127.0.0.3\", \"127.0.0.4\"] STRATA_LISTEN");
        assert_eq!(list, ["127.0.0.3", "127.0.0.4"]);
        let (_, list) = of("STRATA_LISTEN=127.0.0.3", "-l 127.0.0.5");
        assert_eq!(list, ["127.0.0.5"]);
    }

    #[test]
    fn extended_options_are_keys_of_their_own() {
        let file = "idle_timeout = 9\ntrack_sizes = true\nmodern = false\nslab_automove = 2\n";
        let gathered = asked(
            file,
            "STRATA_WORKER_LOGBUF_SIZE=7",
            "-o idle_timeout=5,lru_crawler",
        );
        let gathered = gathered.expect("valid");
        let mut options = gathered.options.extended.clone();
        options.sort_unstable();
        let expected = [
            "idle_timeout=5",
            "lru_crawler",
            "slab_automove=2",
            "track_sizes",
            "worker_logbuf_size=7",
        ];
        assert_eq!(options, expected);
        assert_eq!(line(&gathered, "idle_timeout"), "5 flag");
        assert_eq!(line(&gathered, "track_sizes"), "true FILE:2");
        assert_eq!(line(&gathered, "watcher_logbuf_size"), "256 default");
        assert_eq!(
            line(&gathered, "worker_logbuf_size"),
            "7 STRATA_WORKER_LOGBUF_SIZE"
        );
    }

    #[test]
    fn names_of_parameter_groups_mean_what_they_mean_here() {
        let file = "max_simultaneous_connections = 77\nerror_on_memory_exhausted = 1\ncas_disabled = 1\n\
                    backlog_queue_limit = 99\nbinding_protocol = \"ascii\"\nmax_item_size = 2097152\n\
                    disable_flush_all = 1\nrequests_per_event = 21\nchunk_size_growth_factor = 1.25\n\
                    lock_down_paged_memory = 0\nmaxconns_fast = 1\nhash_algorithm = \"murmur3\"\n";
        let options = asked(file, "STRATA_LARGE_MEMORY_PAGES=1", "")
            .expect("valid")
            .options;
        assert_eq!((options.conn_limit, options.listen_backlog), (77, 99));
        assert!(options.disable_evictions && options.disable_cas && options.disable_flush_all);
        assert_eq!(options.protocol, crate::config::Protocol::Ascii);
        assert_eq!(
            (options.max_item_size, options.max_reqs_per_event),
            (2 << 20, 21)
        );
        assert_eq!(options.slab_growth_factor, Some(1.25));
        assert!(!options.lock_memory && options._enable_largepages);
        assert_eq!(
            options.extended,
            ["maxconns_fast", "hash_algorithm=murmur3"]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place_and_the_nearest_name() {
        for (file, environment, part) in [
            (
                "\nmemroy_limit = 5",
                "",
                "FILE:2: memroy_limit: there is no such option; did you mean memory_limit?",
            ),
            (
                "max_simultanous_connections = 5",
                "",
                "mean max_simultaneous_connections?",
            ),
            ("qqq = 5", "", "FILE:1: qqq: there is no such option"),
            ("config = \"x\"", "", "no such option"),
            ("extended = \"modern\"", "", "no such option"),
            ("idle_timout = 5", "", "idle_timeout?"),
            (
                "",
                "STRATA_THREDS=5",
                "STRATA_THREDS in the environment: there is no such option; did you mean STRATA_THREADS?",
            ),
            ("", "STRATA_threads=5", "capitals"),
            (
                "io = \"epoll\"\nthreads = \"four\"",
                "",
                "FILE:2: threads: invalid value 'four'",
            ),
            (
                "threads = [1]",
                "",
                "FILE:1: threads: a number or a string is wanted",
            ),
            ("threads = true", "", "this is a boolean"),
            (
                "disable_cas = \"yes\"",
                "",
                "FILE:1: disable_cas: true or false is wanted, and this is a string",
            ),
            ("disable_cas = 2", "", "this is a number"),
            ("listen = [1]", "", "a list of strings is wanted"),
            ("verbose = true", "", "FILE:1: verbose: a number is wanted"),
            ("verbose = 1000", "", "FILE:1: verbose: 1000"),
            ("[threads]\nx = 1", "", "this is a table"),
            (
                "io = \"carrier\"",
                "",
                "[possible values: auto, uring, epoll]",
            ),
            ("threads = 1\nthreads = 2", "", "FILE:2: duplicate key"),
            ("threads = ", "", "FILE:1: "),
            (
                "conn_limit = 5\nmax_simultaneous_connections = 6",
                "",
                "FILE:2: max_simultaneous_connections is another name",
            ),
            (
                "idle_timeout = \"x\"",
                "",
                "FILE:1: idle_timeout: x is no number",
            ),
            ("slab_sizes = \"1,2\"", "", "comma"),
            ("unix_mask = 999", "", "octal"),
            (
                "",
                "STRATA_DISABLE_CAS=perhaps",
                "STRATA_DISABLE_CAS: disable_cas: invalid value 'perhaps'",
            ),
            (
                "",
                "STRATA_TRACK_SIZES=perhaps",
                "perhaps is neither true nor false",
            ),
        ] {
            let error = asked(file, environment, "").err().expect("it is wrong");
            assert!(error.contains(part), "{file} {environment}: {error}");
        }
        let error = asked("", "STRATA_CONFIG=/nonexistent/strata.toml", "").err();
        assert!(
            error
                .expect("no such file")
                .contains("/nonexistent/strata.toml")
        );
    }

    #[test]
    fn the_listing_says_the_same_as_a_file() {
        let file = "unix_mask = 0o770\nunix_socket = \"/x \\\"y\\\"\"\nverbose = 2\nssl_session_cache = true\n";
        let words = "-m auto -l 127.0.0.1,[::1]:7 -o slab_automove -f 1.5 -D / --debug-clock -C";
        let first = asked(file, "STRATA_PORT=-1 STRATA_EVICTION=fifo", words).expect("valid");
        let second = asked(&first.listing, "", "").expect(&first.listing);
        let values = |listing: &str| -> Vec<String> {
            let lines = listing.lines();
            let values = lines.map(|line| line.split("  # ").next().unwrap_or("").to_owned());
            values.collect()
        };
        assert_eq!(values(&second.listing), values(&first.listing));
        let of = |options: &Args| {
            let machine = crate::host::Machine {
                cores: 2,
                memory_bytes: Some(1 << 30),
            };
            format!("{:#?}", options.settings(machine).expect("valid"))
        };
        assert_eq!(of(&second.options), of(&first.options));
        assert_eq!(first.options.unix_mask, 0o770);
        assert_eq!(first.options.verbose, 2);
    }

    #[test]
    fn wrong_words_are_clap_s_own_error() {
        assert!(
            asked("", "", "--threds 4")
                .err()
                .expect("no option")
                .contains("--threads")
        );
        assert!(asked("", "", "--threads four").is_err());
    }
}
