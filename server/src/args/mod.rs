//! What the operator asks for: every flag of memcached 1.6, and a few of our own, on the command line,
//! in the environment or in a file ([`layers`]).
//!
//! Always true: a flag of memcached that means something here does it; one about parts that Strata
//! does not have (slabs, LRU threads, flash) is checked as memcached checks it, and the start says
//! that it has no effect; one that asks for something that is not there and would be missed (TLS,
//! SASL, UDP) ends the start with a sentence.

mod extended;
mod file;
mod keys;
pub mod layers;
mod listen;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;

use strata_store::Eviction;

use crate::config::{
    BACKLOG_DEFAULT, CONNS_MAX, DRAIN_S_DEFAULT, DRAIN_S_MAX, EVICTION_DEFAULT, EVICTIONS,
    IoChoice, LogFormat, LogLevel, PREFIX_DELIMITER_DEFAULT, Protocol, REQUESTS_PER_TICK_DEFAULT,
    SHARD_MIN_MIB, STALL_MS_DEFAULT, Settings, Stall, TOKEN_MAX_BYTES, WORKERS_MAX, is_accounts,
};
use crate::host::Machine;
use extended::Extended;

/// memcached's port.
pub const PORT_DEFAULT: u16 = 11211;

/// Where TCP clients are listened for unless `-l` says otherwise.
const ADDRESS_DEFAULT: &str = "127.0.0.1";

/// A memcached-compatible cache: one shard and one ring a core.
#[derive(Parser, Debug)]
#[command(name = "strata", version = crate::stats::VERSION, disable_help_flag = true, disable_version_flag = true, args_override_self = true)]
pub struct Args {
    /// TCP port; -1 lets the kernel choose, 0 turns TCP off; default: 11211
    #[arg(
        short = 'p',
        long = "port",
        value_name = "NUM",
        allow_negative_numbers = true
    )]
    port: Option<i32>,

    /// Address to listen on, with or without a port, perhaps with proto[ascii]: or tag[NAME]: before
    /// it; may be given several times or as a list with commas; default: 127.0.0.1. An
    /// unauthenticated cache is reachable by whoever reaches its address
    #[arg(
        short = 'l',
        long = "listen",
        value_name = "ADDR",
        value_delimiter = ','
    )]
    listen: Vec<String>,

    /// Path of a unix socket to listen on, instead of TCP unless -p or -l asks for that as well
    #[arg(short = 's', long = "unix-socket", value_name = "FILE")]
    unix_socket: Option<PathBuf>,

    /// Access mask of the unix socket, in octal
    #[arg(short = 'a', long = "unix-mask", value_name = "MASK", default_value = "0700", value_parser = octal)]
    unix_mask: u32,

    /// Memory for items and their table, in megabytes; auto takes what the machine and its control
    /// groups have, less what the workers' buffers may need
    #[arg(
        short = 'm',
        long = "memory-limit",
        value_name = "MB",
        default_value = "64",
        value_parser = memory_limit
    )]
    memory: MemoryLimit,

    /// Answer with an error instead of evicting when memory is full
    #[arg(short = 'M', long = "disable-evictions")]
    disable_evictions: bool,

    /// What a full cache drops: merge, s3fifo, fifo, or none (which is -M); default: s3fifo
    #[arg(long = "eviction", value_name = "POLICY", value_parser = eviction)]
    eviction: Option<Eviction>,

    /// Workers, each with a core, a shard and a ring; default: one for each core we may use, within
    /// the processor time of our control groups
    #[arg(short = 't', long = "threads", value_name = "NUM")]
    threads: Option<usize>,

    /// Client connections at most
    #[arg(
        short = 'c',
        long = "conn-limit",
        value_name = "NUM",
        default_value_t = 1024
    )]
    conn_limit: usize,

    /// Largest item, with k or m behind the number for KiB or MiB
    #[arg(short = 'I', long = "max-item-size", value_name = "SIZE", default_value = "1m", value_parser = item_size)]
    max_item_size: u32,

    /// Requests one connection may make in one tick before others have their turn
    #[arg(short = 'R', long = "max-reqs-per-event", value_name = "NUM", default_value_t = REQUESTS_PER_TICK_DEFAULT)]
    max_reqs_per_event: u32,

    /// Connections that may wait to be accepted
    #[arg(short = 'b', long = "listen-backlog", value_name = "NUM", default_value_t = BACKLOG_DEFAULT)]
    listen_backlog: i32,

    /// What clients may speak; auto lets each connection's first byte decide
    #[arg(short = 'B', long = "protocol", value_enum, value_name = "PROTOCOL", default_value_t = Protocol::Auto)]
    protocol: Protocol,

    /// memcached's extended options. idle_timeout=SECONDS closes TCP connections that make no request
    /// for longer, watcher_logbuf_size=KB and worker_logbuf_size=KB bound what watchers may be late
    /// with; the others have no effect
    #[arg(
        short = 'o',
        long = "extended",
        value_name = "OPTION",
        value_delimiter = ','
    )]
    extended: Vec<String>,

    /// Keep no CAS uniques
    #[arg(short = 'C', long = "disable-cas")]
    disable_cas: bool,

    /// Refuse flush_all and flush_prefix
    #[arg(short = 'F', long = "disable-flush-all")]
    disable_flush_all: bool,

    /// Refuse stats cachedump and the dumps of lru_crawler
    #[arg(short = 'X', long = "disable-dumping")]
    disable_dumping: bool,

    /// Refuse watch
    #[arg(short = 'W', long = "disable-watch")]
    disable_watch: bool,

    /// Ask every client for a name and password of this file, with lines name:password, or in a file
    /// whose name ends in .toml with hashes (strata hash-password) and rights of each user; a hang-up
    /// signal has it read again
    #[arg(short = 'Y', long = "auth-file", value_name = "FILE")]
    auth_file: Option<PathBuf>,

    /// Character between a key's prefix and the rest; counts by prefix from the start
    #[arg(short = 'D', long = "delimiter", value_name = "CHAR")]
    delimiter: Option<String>,

    /// Allow the shutdown command
    #[arg(short = 'A', long = "enable-shutdown")]
    enable_shutdown: bool,

    /// Run in the background
    #[arg(short = 'd', long = "daemon")]
    pub daemon: bool,

    /// Write the process id to this file
    #[arg(short = 'P', long = "pidfile", value_name = "FILE")]
    pub pidfile: Option<PathBuf>,

    /// Become this user, when started as root
    #[arg(short = 'u', long = "user", value_name = "USER")]
    pub user: Option<String>,

    /// Lock all memory, so that nothing is swapped out
    #[arg(short = 'k', long = "lock-memory")]
    lock_memory: bool,

    /// Use huge pages; they are always used where the kernel gives them
    #[arg(short = 'L', long = "enable-largepages")]
    _enable_largepages: bool,

    /// UDP port; only 0 (off) is supported, because a UDP cache is an amplifier
    #[arg(
        short = 'U',
        long = "udp-port",
        value_name = "NUM",
        default_value_t = 0
    )]
    udp_port: u16,

    /// Leave a core file of any size on failure
    #[arg(short = 'r', long = "enable-coredumps")]
    pub core_files: bool,

    /// Of slabs: has no effect
    #[arg(short = 'f', long = "slab-growth-factor", value_name = "NUM")]
    slab_growth_factor: Option<f64>,

    /// Of slabs: has no effect
    #[arg(short = 'n', long = "slab-min-size", value_name = "BYTES")]
    slab_min_size: Option<u32>,

    /// Of restarts that keep the items: has no effect
    #[arg(short = 'e', long = "memory-file", value_name = "FILE")]
    memory_file: Option<PathBuf>,

    /// Of network cards: has no effect
    #[arg(
        short = 'N',
        long = "napi-ids",
        visible_alias = "napi_ids",
        value_name = "NUM"
    )]
    napi_ids: Option<u32>,

    /// TLS on TCP, with the certificates that -o ssl_chain_cert=FILE and ssl_key=FILE name; see also
    /// ssl_verify_mode, ssl_ca_cert, ssl_keyformat, ssl_ciphers, ssl_min_version, ssl_session_cache, and
    /// notls:, btls: and mtls: before an address of -l. A hang-up signal or refresh_certs has them read
    /// again
    #[arg(short = 'Z', long = "enable-ssl")]
    enable_ssl: bool,

    /// SASL: not there, and refused
    #[arg(short = 'S', long = "enable-sasl")]
    enable_sasl: bool,

    /// Say more on standard error: connections and events of the server; twice, every command
    #[arg(short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    verbose: u8,

    /// Address of the admin endpoint (a live page, /health, /ready, /metrics and more); a port alone is
    /// one of loopback; off unless given
    #[arg(long = "admin", value_name = "[ADDR:]PORT", value_parser = listen::admin_address)]
    admin: Option<SocketAddr>,

    /// File with the token that the admin endpoint asks for; /, /health and /ready need none
    #[arg(long = "admin-token-file", value_name = "FILE")]
    admin_token_file: Option<PathBuf>,

    /// What carries the connections
    #[arg(long = "io", value_enum, default_value_t = IoChoice::Auto)]
    io: IoChoice,

    /// Listen on a port for each worker as well, the next ones above each TCP port, and give each
    /// worker the keys that libmemcached's CRC hash and modula distribution give it
    #[arg(long = "shard-ports")]
    shard_ports: bool,

    /// What is said on standard error while the server runs, by how grave it is; -v adds memcached's
    /// lines to it
    #[arg(long = "log", value_enum, value_name = "LEVEL", default_value_t = LogLevel::Info)]
    log_level: LogLevel,

    /// For whom: people, or programs that read an object a line
    #[arg(long = "log-format", value_enum, value_name = "FORMAT", default_value_t = LogFormat::Human)]
    log_format: LogFormat,

    /// How long a stop may take until what is still in flight is cut off; a second signal does that at
    /// once
    #[arg(long = "drain", value_name = "SECONDS", default_value_t = DRAIN_S_DEFAULT,
        value_parser = clap::value_parser!(u32).range(..=i64::from(DRAIN_S_MAX)))]
    drain_s: u32,

    /// Do not pin workers to cores
    #[arg(long = "no-pin")]
    no_pin: bool,

    /// Do not count how long requests and ticks take: no stats latency, no histograms in /metrics
    #[arg(long = "no-latency")]
    no_latency: bool,

    /// Do not look for the keys asked for most: no stats hotkeys, no watch hotkeys
    #[arg(long = "no-hot-keys")]
    no_hot_keys: bool,

    /// Have one worker stand still once a second, for 100 ms unless told otherwise, to see what the
    /// others make of it
    #[arg(long = "debug-stall", value_name = "WORKER[:MS]", hide = true, value_parser = stall)]
    debug_stall: Option<Stall>,

    /// Let the test command debugtime move the server's clock
    #[arg(long = "debug-clock", hide = true)]
    debug_clock: bool,

    /// File of options in TOML, each under its long name with _ for -. What the environment says in
    /// STRATA_NAME goes before it, and flags before both
    #[arg(long = "config", value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the options in force and where each comes from, in the form of such a file, and end
    #[arg(long = "print-config")]
    pub print_config: bool,

    /// Print the licence and end
    #[arg(short = 'i', long = "license")]
    pub license: bool,

    /// Print the version and end
    #[arg(short = 'V', long = "version", action = clap::ArgAction::Version)]
    _version: Option<bool>,

    /// Print this help and end
    #[arg(short = 'h', long = "help", action = clap::ArgAction::Help)]
    _help: Option<bool>,
}

fn eviction(text: &str) -> Result<Eviction, String> {
    let found = EVICTIONS.iter().find(|(name, _)| *name == text);
    found.map(|(_, policy)| *policy).ok_or_else(|| {
        format!(
            "{text} is none of {}",
            EVICTIONS.map(|(name, _)| name).join(", ")
        )
    })
}

/// What `-m` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum MemoryLimit {
    Auto,
    Mib(usize),
}

fn memory_limit(text: &str) -> Result<MemoryLimit, String> {
    if text == "auto" {
        return Ok(MemoryLimit::Auto);
    }
    let mib = text.parse().map(MemoryLimit::Mib);
    mib.map_err(|_| format!("{text} is neither a number of megabytes nor auto"))
}

fn stall(text: &str) -> Result<Stall, String> {
    let (worker, ms) = match text.split_once(':') {
        None => (text.parse(), Ok(STALL_MS_DEFAULT)),
        Some((worker, ms)) => (worker.parse(), ms.parse()),
    };
    let (worker, ms) = worker.ok().zip(ms.ok()).ok_or("no WORKER[:MS]")?;
    Ok(Stall { worker, ms })
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text.strip_prefix("0o").unwrap_or(text), 8)
        .ok()
        .filter(|mask| *mask <= 0o777)
        .ok_or_else(|| format!("{text} is no access mask in octal, like 0700"))
}

fn item_size(text: &str) -> Result<u32, String> {
    let (digits, unit) = match text.chars().last() {
        Some('k' | 'K') => (&text[..text.len() - 1], 1 << 10),
        Some('m' | 'M') => (&text[..text.len() - 1], 1 << 20),
        _ => (text, 1u64),
    };
    let bytes = digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("{text} is no size, like 512k or 2m"))?;
    if bytes < 1 << 10 {
        return Err("Item max size cannot be less than 1024 bytes.".into());
    }
    if bytes > 1 << 30 {
        return Err("Cannot set item size limit higher than a gigabyte.".into());
    }
    u32::try_from(bytes).map_err(|error| error.to_string())
}

impl Args {
    /// Checks the options against each other and against the machine.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn settings(&self, machine: Machine) -> Result<Settings, String> {
        if self.enable_sasl {
            return Err(
                "-S: SASL is not there, and memcached has it for the binary protocol alone; -Y asks for passwords"
                    .into(),
            );
        }
        if self.udp_port != 0 {
            return Err(format!(
                "-U {}: UDP is not supported, because a UDP cache can be used to amplify attacks; use -U 0",
                self.udp_port
            ));
        }
        // As memcached: who names a unix socket and nothing else has no TCP, so that several servers
        // stand beside each other.
        let unix_alone =
            self.unix_socket.is_some() && self.port.is_none() && self.listen.is_empty();
        let port = match self.port.unwrap_or(PORT_DEFAULT.into()) {
            _ if unix_alone => None,
            -1 => Some(0),
            0 => None,
            port => Some(u16::try_from(port).map_err(|_| format!("-p {port} is no port"))?),
        };
        if self.admin_token_file.is_some() && self.admin.is_none() {
            return Err(
                "--admin-token-file guards the admin endpoint, which --admin turns on".into(),
            );
        }
        let extended = Extended::read(&self.extended)?;
        let unheeded = self.unheeded(&extended)?;
        // A password is asked for in text.
        let protocol = match (&self.auth_file, self.protocol) {
            (Some(_), Protocol::Binary) => {
                return Err("-Y asks for passwords in text, which -B binary forbids".into());
            }
            // Whoever has an account says so in text and may speak packets then.
            (Some(path), Protocol::Auto) if is_accounts(path) => Protocol::Auto,
            (Some(_), Protocol::Auto) => Protocol::Ascii,
            (_, protocol) => protocol,
        };
        let delimiter = match &self.delimiter {
            None => None,
            Some(text) => Some(
                *text
                    .as_bytes()
                    .first()
                    .ok_or("-D: No delimiter specified")?,
            ),
        };
        let mut listen = Vec::new();
        let mut listen_texts = Vec::new();
        let usual = |port| listen::Usual {
            port,
            protocol,
            tls: self.enable_ssl,
            passwords: self.auth_file.is_some(),
        };
        if let Some(port) = port {
            listen_texts = match self.listen.is_empty() {
                true => vec![ADDRESS_DEFAULT.to_owned()],
                false => self.listen.clone(),
            };
            for text in &listen_texts {
                listen.extend(listen::listeners(text, usual(port))?);
            }
        }
        if listen.is_empty() && self.unix_socket.is_none() {
            return Err("-p 0 turns TCP off and no unix socket (-s) is given".into());
        }
        if self.enable_ssl && listen.is_empty() {
            return Err("-Z: TLS needs a TCP port, and -p 0 turns TCP off".into());
        }
        if self.enable_ssl && extended.tls.chain_cert.as_os_str().is_empty() {
            return Err("-Z: TLS needs a certificate: -o ssl_chain_cert=FILE,ssl_key=FILE".into());
        }
        let workers = self.threads.unwrap_or(machine.cores.min(WORKERS_MAX));
        if workers == 0 || workers > WORKERS_MAX {
            return Err(format!("-t {workers}: 1 to {WORKERS_MAX} workers"));
        }
        let memory_mb = match self.memory {
            MemoryLimit::Mib(mib) => mib,
            MemoryLimit::Auto => machine.memory_for_items(workers)? >> 20,
        };
        let memory_bytes = memory_mb
            .checked_mul(1 << 20)
            .ok_or_else(|| format!("-m {memory_mb} is too much"))?;
        if memory_mb < workers * SHARD_MIN_MIB {
            return Err(format!(
                "-m {memory_mb}: every one of {workers} workers needs {SHARD_MIN_MIB} MB; raise -m or lower -t"
            ));
        }
        if u64::from(self.max_item_size) > (memory_bytes / workers / 2) as u64 {
            return Err(format!(
                "-I {}: the largest item must fit half of a worker's memory, {} bytes; raise -m or lower -t or -I",
                self.max_item_size,
                memory_bytes / workers / 2
            ));
        }
        let eviction = match (self.disable_evictions, self.eviction) {
            (false, choice) => choice.unwrap_or(EVICTION_DEFAULT),
            (true, None | Some(Eviction::None)) => Eviction::None,
            (true, Some(_)) => {
                return Err(
                    "-M forbids evicting and --eviction names a way to do it; give one of them"
                        .into(),
                );
            }
        };
        if self.conn_limit == 0 {
            return Err("Maximum connections must be greater than 0".into());
        }
        if self.conn_limit > CONNS_MAX {
            return Err(format!(
                "-c {}: a ring holds {CONNS_MAX} connections at most",
                self.conn_limit
            ));
        }
        if self.max_reqs_per_event == 0 {
            return Err("Number of requests per event must be greater than 0".into());
        }
        Ok(Settings {
            listen,
            listen_texts,
            unix_path: self.unix_socket.clone(),
            unix_mask: self.unix_mask,
            memory_bytes,
            eviction,
            workers,
            pin: !self.no_pin,
            conns_max: self.conn_limit,
            item_max_bytes: self.max_item_size,
            requests_per_tick: self.max_reqs_per_event,
            idle_timeout_s: extended.idle_timeout_s,
            backlog: self.listen_backlog,
            track_sizes: extended.track_sizes,
            cas: !self.disable_cas,
            flush: !self.disable_flush_all,
            shutdown: self.enable_shutdown,
            dump: !self.disable_dumping,
            watch: !self.disable_watch,
            watcher_log_bytes: extended.watcher_log_bytes,
            worker_log_bytes: extended.worker_log_bytes,
            auth_file: self.auth_file.clone(),
            prefix_delimiter: delimiter.unwrap_or(PREFIX_DELIMITER_DEFAULT),
            count_prefixes: delimiter.is_some(),
            debug_clock: self.debug_clock,
            unheeded,
            verbosity: self.verbose,
            admin: self.admin,
            admin_token: self.admin_token_file.as_deref().map(token).transpose()?,
            log_level: self.log_level,
            log_format: self.log_format,
            drain: Duration::from_secs(self.drain_s.into()),
            lock_memory: self.lock_memory,
            io: self.io,
            protocol,
            tls: self.enable_ssl.then_some(extended.tls),
            shard_ports: self.shard_ports,
            latency: !self.no_latency,
            hot_keys: !self.no_hot_keys,
            stall: self.debug_stall,
        })
    }

    /// The options that are valid and have no effect here.
    fn unheeded(&self, extended: &Extended) -> Result<Vec<String>, String> {
        if self.slab_growth_factor.is_some_and(|factor| factor <= 1.0) {
            return Err("-f: Factor must be greater than 1".into());
        }
        if self.slab_min_size == Some(0) {
            return Err("-n: Chunk size must be greater than 0".into());
        }
        if self.napi_ids == Some(0) {
            return Err("-N: Maximum number of NAPI IDs must be greater than 0".into());
        }
        let flags = [
            ("-f", self.slab_growth_factor.is_some()),
            ("-n", self.slab_min_size.is_some()),
            ("-e", self.memory_file.is_some()),
            ("-N", self.napi_ids.is_some()),
        ];
        let flags = flags.iter().filter(|(_, given)| *given);
        let options = extended.unheeded.iter();
        Ok(flags
            .map(|(flag, _)| (*flag).to_owned())
            .chain(options.map(|option| format!("-o {option}")))
            .collect())
    }
}

/// The token in the first line of a file.
fn token(path: &Path) -> Result<String, String> {
    let named = |what: &str| format!("--admin-token-file {}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error.to_string()))?;
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() || token.len() > TOKEN_MAX_BYTES {
        let want = format!("its first line must be a token of 1 to {TOKEN_MAX_BYTES} bytes");
        return Err(named(&want));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(named("a token has no blanks and nothing but ASCII in it"));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::WORKER_BUFFERS_MAX_BYTES;
    use crate::tls::Guard;

    fn settings(words: &str) -> Result<Settings, String> {
        let words = std::iter::once("strata").chain(words.split_whitespace());
        Args::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .settings(Machine {
                cores: 2,
                memory_bytes: Some(1 << 30),
            })
    }

    fn addresses(settings: &Settings) -> Vec<String> {
        let listen = settings.listen.iter();
        listen.map(|at| at.address.to_string()).collect()
    }

    #[test]
    fn defaults_are_memcacheds_on_loopback() {
        let settings = settings("").expect("no option is needed");
        assert_eq!(addresses(&settings), ["127.0.0.1:11211"]);
        assert_eq!(settings.memory_bytes, 64 << 20);
        assert_eq!((settings.workers, settings.conns_max), (2, 1024));
        assert_eq!(settings.item_max_bytes, 1 << 20);
    }

    #[test]
    fn memory_by_itself_leaves_room_for_the_buffers_of_the_workers() {
        let bytes = |words| settings(words).expect(words).memory_bytes;
        assert_eq!(
            bytes("-m auto -t 2"),
            (896 << 20) - 2 * WORKER_BUFFERS_MAX_BYTES
        );
        assert!(bytes("-m auto -t 1") > bytes("-m auto -t 2"));
    }

    #[test]
    fn addresses_come_in_lists_with_and_without_ports() {
        let settings = settings("-l 127.0.0.1,[::1]:4000 -l 127.0.0.2 -p -1").expect("valid");
        let expected = ["127.0.0.1:0", "[::1]:4000", "127.0.0.2:0"];
        assert_eq!(addresses(&settings), expected);
    }

    #[test]
    fn nonsense_names_its_option() {
        for (words, part) in [
            ("-U 11211", "UDP"),
            ("-m 1 -t 2", "-m 1"),
            ("-m most", "auto"),
            ("-m auto -t 16", "-m auto"),
            ("-I 100", "1024"),
            ("-I 40m", "-I"),
            ("-p 70000", "-p 70000"),
            ("-c 0", "connections"),
            ("-c 1048577", "1048576 connections"),
            ("-R 0", "requests"),
            ("-t 0", "-t 0"),
            ("-a 999", "octal"),
            ("-p 0", "-s"),
            ("-l 127.0.0.1:x", "-l"),
            ("-o idle_timeout=x", "idle_timeout=x"),
            ("-o bogus", "bogus"),
            ("-o ssl_verify_mode=4", "ssl_verify_mode=4"),
            ("-o ssl_keyformat=3", "ssl_keyformat=3"),
            ("-o ssl_chain_cert", "missing"),
            ("-o ssl_bogus=1", "ssl_bogus"),
            ("-o hashpower=9", "hashpower=9"),
            ("-o hashpower", "hashpower"),
            ("-o slab_automove=3", "slab_automove=3"),
            ("-o hash_algorithm=md5", "jenkins"),
            ("-o hot_lru_pct=50,warm_lru_pct=40", "80"),
            ("-f 1", "-f"),
            ("-n 0", "-n"),
            ("-Z", "ssl_chain_cert"),
            ("-Z -p 0 -s /x -o ssl_chain_cert=/x", "TCP"),
            ("-S", "SASL"),
            ("-Y /x -B binary", "-Y"),
            ("-Y /x -l proto[binary]:127.0.0.1", "-Y"),
            ("-l proto[proxy]:127.0.0.1", "proxy"),
            ("-l tag[muchtoolong]:127.0.0.1", "tag"),
            ("-l notls:127.0.0.1", "TLS"),
            ("-M --eviction s3fifo", "-M forbids"),
            ("-B redis", "auto, ascii, binary"),
            ("--eviction lru", "merge, s3fifo, fifo, none"),
        ] {
            let error = settings(words).expect_err(words);
            assert!(error.contains(part), "{words}: {error}");
        }
    }

    #[test]
    fn a_listener_may_say_its_protocol_and_a_tag() {
        let words = "-B binary -l proto[ascii]:tag[front]:127.0.0.1:4000;tag_b_:127.0.0.2 -l proto[negotiating]:[::1]:7";
        let settings = settings(words).expect("valid");
        let expected = ["127.0.0.1:4000", "127.0.0.2:11211", "[::1]:7"];
        assert_eq!(addresses(&settings), expected);
        let protocols: Vec<Protocol> = settings.listen.iter().map(|at| at.entry.protocol).collect();
        let expected = [Protocol::Ascii, Protocol::Binary, Protocol::Auto];
        assert_eq!(protocols, expected);
    }

    #[test]
    fn a_listener_may_go_without_tls_or_ask_for_certificates() {
        let words = "-Z -o ssl_chain_cert=/x,ssl_min_version=3 -l 127.0.0.1,notls:127.0.0.2,btls:127.0.0.3,mtls:proto[ascii]:127.0.0.4:7";
        let settings = settings(words).expect("valid");
        let guards: Vec<Guard> = settings.listen.iter().map(|at| at.entry.guard).collect();
        let expected = [
            Guard::Tls,
            Guard::Open,
            Guard::TlsWithoutPeer,
            Guard::TlsWithPeer,
        ];
        assert_eq!(guards, expected);
        assert!(settings.tls.expect("asked for").only_13());
    }

    #[test]
    fn options_of_parts_that_are_not_here_are_named_once() {
        let words = "-f 1.1 -n 96 -o modern,slab_reassign,hashpower=20,lru_crawler -o no_hashexpand,ext_path=/x:1G,idle_timeout=3";
        let settings = settings(words).expect("valid");
        let expected = [
            "-f",
            "-n",
            "-o modern",
            "-o slab_reassign",
            "-o hashpower",
            "-o lru_crawler",
            "-o no_hashexpand",
            "-o ext_path",
        ];
        assert_eq!(settings.unheeded, expected);
        assert_eq!(settings.idle_timeout_s, 3);
        assert!(!settings.track_sizes);
    }

    #[test]
    fn a_unix_socket_stands_alone_unless_tcp_is_asked_for() {
        for (words, addresses) in [
            ("-s /x", 0),
            ("-s /x -p 11211", 1),
            ("-s /x -l 127.0.0.1,::1", 2),
            ("-s /x -p 0 -l 127.0.0.1", 0),
        ] {
            let settings = settings(words).expect(words);
            assert_eq!(settings.listen.len(), addresses, "{words}");
        }
    }

    #[test]
    fn sizes_are_told_if_that_is_asked_for() {
        let settings = settings("-o track_sizes").expect("valid");
        assert!(settings.track_sizes && settings.unheeded.is_empty());
    }

    #[test]
    fn an_option_given_twice_counts_as_given_last() {
        let settings =
            settings("-m 64 -c 10 -m 128 -o idle_timeout=3,idle_timeout=4").expect("valid");
        assert_eq!((settings.memory_bytes, settings.conns_max), (128 << 20, 10));
        assert_eq!(settings.idle_timeout_s, 4);
    }

    #[test]
    fn a_delimiter_turns_counting_by_prefix_on() {
        let plain = settings("").expect("valid");
        assert_eq!(
            (plain.prefix_delimiter, plain.count_prefixes),
            (b':', false)
        );
        let given = settings("-D /x").expect("valid");
        assert_eq!((given.prefix_delimiter, given.count_prefixes), (b'/', true));
    }

    #[test]
    fn connections_may_idle_for_ever_unless_told_otherwise() {
        assert_eq!(settings("").expect("valid").idle_timeout_s, 0);
        let settings = settings("-o idle_timeout=90").expect("valid");
        assert_eq!(settings.idle_timeout_s, 90);
    }

    #[test]
    fn the_protocol_is_any_unless_told_otherwise() {
        for (words, protocol) in [
            ("", Protocol::Auto),
            ("-B auto", Protocol::Auto),
            ("-B ascii", Protocol::Ascii),
            ("--protocol=binary", Protocol::Binary),
        ] {
            let settings = settings(words).expect(words);
            assert_eq!(settings.protocol, protocol, "{words}");
        }
    }

    #[test]
    fn eviction_is_one_policy() {
        for (words, policy) in [
            ("", EVICTION_DEFAULT),
            ("-M", Eviction::None),
            ("-M --eviction none", Eviction::None),
            ("--eviction none", Eviction::None),
            ("--eviction merge", Eviction::Merge),
            ("--eviction s3fifo", Eviction::S3Fifo),
            ("--eviction fifo", Eviction::Fifo),
        ] {
            let settings = settings(words).expect(words);
            assert_eq!(settings.eviction, policy, "{words}");
            assert!(words.is_empty() || !settings.eviction_name().is_empty());
        }
    }

    #[test]
    fn the_guide_has_every_option_and_no_other() {
        use clap::CommandFactory;
        let guide = include_str!("../../README.md");
        let (_, table) = guide.split_once("## Options\n").expect("a section");
        let (table, _) = table.split_once("\n## ").expect("one more");
        let rows = table.lines().filter(|line| line.starts_with("| `-"));
        let mut told: Vec<&str> = rows.filter_map(|row| row.split(" | ").next()).collect();
        for option in Args::command().get_arguments() {
            let short = option.get_short().map(|short| format!("`-{short}`"));
            let long = option.get_long().map(|long| format!("`--{long}`"));
            let has = |row: &&str| short.iter().chain(&long).all(|name| row.contains(name));
            let at = told.iter().position(has);
            assert_eq!(at.is_some(), !option.is_hide_set(), "{}", option.get_id());
            at.map(|at| told.remove(at));
        }
        assert!(told.is_empty(), "{told:?}");
    }

    #[test]
    fn sizes_take_units() {
        assert_eq!(item_size("2m"), Ok(2 << 20));
        assert_eq!(item_size("512k"), Ok(512 << 10));
        assert_eq!(item_size("1024"), Ok(1024));
        assert!(item_size("2g").is_err() && item_size("").is_err());
    }
}
