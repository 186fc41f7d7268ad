//! The command line: memcached's flags where they mean something here, and a few of our own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;

use strata_store::Eviction;

use crate::config::{
    BACKLOG_DEFAULT, CONNS_MAX, EVICTION_DEFAULT, EVICTIONS, IoChoice, REQUESTS_PER_TICK_DEFAULT,
    SHARD_MIN_MIB, Settings, WORKERS_MAX,
};

/// memcached's port.
pub const PORT_DEFAULT: u16 = 11211;

/// A memcached-compatible cache: one shard and one ring a core.
#[derive(Parser, Debug)]
#[command(name = "strata", version = crate::stats::VERSION, disable_help_flag = true, disable_version_flag = true)]
pub struct Args {
    /// TCP port; -1 lets the kernel choose, 0 turns TCP off
    #[arg(short = 'p', long = "port", value_name = "NUM", default_value_t = i32::from(PORT_DEFAULT), allow_negative_numbers = true)]
    port: i32,

    /// Address to listen on, with or without a port; may be given several times or as a list with
    /// commas. An unauthenticated cache is reachable by whoever reaches its address
    #[arg(
        short = 'l',
        long = "listen",
        value_name = "ADDR",
        value_delimiter = ',',
        default_value = "127.0.0.1"
    )]
    listen: Vec<String>,

    /// Path of a unix socket to listen on as well
    #[arg(short = 's', long = "unix-socket", value_name = "FILE")]
    unix_socket: Option<PathBuf>,

    /// Access mask of the unix socket, in octal
    #[arg(short = 'a', long = "unix-mask", value_name = "MASK", default_value = "0700", value_parser = octal)]
    unix_mask: u32,

    /// Memory for items and their table, in megabytes
    #[arg(
        short = 'm',
        long = "memory-limit",
        value_name = "MB",
        default_value_t = 64
    )]
    memory_mb: usize,

    /// Answer with an error instead of evicting when memory is full
    #[arg(short = 'M', long = "disable-evictions")]
    disable_evictions: bool,

    /// What a full cache drops: merge, s3fifo, fifo, or none (which is -M); default: s3fifo
    #[arg(long = "eviction", value_name = "POLICY", value_parser = eviction)]
    eviction: Option<Eviction>,

    /// Workers, each with a core, a shard and a ring; default: one for each core we may use
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

    /// Of memcached's extended options, idle_timeout=SECONDS: close TCP connections that make no
    /// request for longer; 0 never does
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

    /// Refuse flush_all
    #[arg(short = 'F', long = "disable-flush-all")]
    disable_flush_all: bool,

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

    /// Say more on standard error; up to three times
    #[arg(short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    verbose: u8,

    /// Address of the admin endpoint (/health, /metrics); off unless given
    #[arg(long = "admin", value_name = "ADDR:PORT")]
    admin: Option<SocketAddr>,

    /// What carries the connections
    #[arg(long = "io", value_enum, default_value_t = IoChoice::Auto)]
    io: IoChoice,

    /// Listen on a port for each worker as well, the next ones above each TCP port, and give each
    /// worker the keys that libmemcached's CRC hash and modula distribution give it
    #[arg(long = "shard-ports")]
    shard_ports: bool,

    /// Do not pin workers to cores
    #[arg(long = "no-pin")]
    no_pin: bool,

    /// Have one worker stand still for 100 ms once a second, to see what the others make of it
    #[arg(long = "debug-stall", value_name = "WORKER", hide = true)]
    debug_stall: Option<usize>,

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

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
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

/// The addresses one `-l` names, with `port` where it names none.
fn addresses(text: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if text == "*" {
        return Ok(vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)]);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) => match digits.parse() {
            Ok(port) => (host, port),
            Err(_) => return Err(format!("-l {text}: {digits} is no port")),
        },
        None => (text, port),
    };
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, port))
        .map_err(|error| format!("-l {text}: {error}"))?;
    Ok(found.collect())
}

/// The number of seconds of `idle_timeout`, the only one of the extended options.
fn idle_timeout(options: &[String]) -> Result<u32, String> {
    let mut seconds = 0;
    for option in options {
        let Some(digits) = option.strip_prefix("idle_timeout=") else {
            return Err(format!(
                "-o {option}: of the extended options only idle_timeout=SECONDS is there"
            ));
        };
        seconds = digits
            .parse()
            .map_err(|_| format!("-o {option}: {digits} is no number of seconds"))?;
    }
    Ok(seconds)
}

impl Args {
    /// Checks the options against each other and against the machine.
    ///
    /// # Errors
    /// A sentence that names the option.
    pub fn settings(&self, cores: usize) -> Result<Settings, String> {
        if self.udp_port != 0 {
            return Err(format!(
                "-U {}: UDP is not supported, because a UDP cache can be used to amplify attacks; use -U 0",
                self.udp_port
            ));
        }
        let port = match self.port {
            -1 => Some(0),
            0 => None,
            port => Some(u16::try_from(port).map_err(|_| format!("-p {port} is no port"))?),
        };
        let mut listen = Vec::new();
        if let Some(port) = port {
            for text in &self.listen {
                listen.extend(addresses(text, port)?);
            }
        }
        if listen.is_empty() && self.unix_socket.is_none() {
            return Err("-p 0 turns TCP off and no unix socket (-s) is given".into());
        }
        let workers = self.threads.unwrap_or(cores);
        if workers == 0 || workers > WORKERS_MAX {
            return Err(format!("-t {workers}: 1 to {WORKERS_MAX} workers"));
        }
        let memory_bytes = self
            .memory_mb
            .checked_mul(1 << 20)
            .ok_or_else(|| format!("-m {} is too much", self.memory_mb))?;
        if self.memory_mb < workers * SHARD_MIN_MIB {
            return Err(format!(
                "-m {}: every one of {workers} workers needs {SHARD_MIN_MIB} MB; raise -m or lower -t",
                self.memory_mb
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
            unix_path: self.unix_socket.clone(),
            unix_mask: self.unix_mask,
            memory_bytes,
            eviction,
            workers,
            pin: !self.no_pin,
            conns_max: self.conn_limit,
            item_max_bytes: self.max_item_size,
            requests_per_tick: self.max_reqs_per_event,
            idle_timeout_s: idle_timeout(&self.extended)?,
            backlog: self.listen_backlog,
            cas: !self.disable_cas,
            flush: !self.disable_flush_all,
            shutdown: self.enable_shutdown,
            verbosity: self.verbose,
            admin: self.admin,
            lock_memory: self.lock_memory,
            io: self.io,
            shard_ports: self.shard_ports,
            stalled_worker: self.debug_stall,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(words: &str) -> Result<Settings, String> {
        let words = std::iter::once("strata").chain(words.split_whitespace());
        Args::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .settings(2)
    }

    #[test]
    fn defaults_are_memcacheds_on_loopback() {
        let settings = settings("").expect("no option is needed");
        assert_eq!(settings.listen, ["127.0.0.1:11211".parse().expect("valid")]);
        assert_eq!(settings.memory_bytes, 64 << 20);
        assert_eq!((settings.workers, settings.conns_max), (2, 1024));
        assert_eq!(settings.item_max_bytes, 1 << 20);
    }

    #[test]
    fn addresses_come_in_lists_with_and_without_ports() {
        let settings = settings("-l 127.0.0.1,[::1]:4000 -l 127.0.0.2 -p -1").expect("valid");
        let expected = ["127.0.0.1:0", "[::1]:4000", "127.0.0.2:0"];
        let expected: Vec<SocketAddr> = expected.map(|text| text.parse().expect("valid")).into();
        assert_eq!(settings.listen, expected);
    }

    #[test]
    fn nonsense_names_its_option() {
        for (words, part) in [
            ("-U 11211", "UDP"),
            ("-m 1 -t 2", "-m 1"),
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
            ("-o modern", "-o modern"),
            ("-M --eviction s3fifo", "-M forbids"),
            ("--eviction lru", "merge, s3fifo, fifo, none"),
        ] {
            let error = settings(words).expect_err(words);
            assert!(error.contains(part), "{words}: {error}");
        }
    }

    #[test]
    fn connections_may_idle_for_ever_unless_told_otherwise() {
        assert_eq!(settings("").expect("valid").idle_timeout_s, 0);
        let settings = settings("-o idle_timeout=90").expect("valid");
        assert_eq!(settings.idle_timeout_s, 90);
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
    fn sizes_take_units() {
        assert_eq!(item_size("2m"), Ok(2 << 20));
        assert_eq!(item_size("512k"), Ok(512 << 10));
        assert_eq!(item_size("1024"), Ok(1024));
        assert!(item_size("2g").is_err() && item_size("").is_err());
    }
}
