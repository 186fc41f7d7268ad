//! Counters, and the texts of `stats` made of them.
//!
//! Each worker counts in plain numbers of its own. Whoever wants to know asks all workers, adds
//! their [`Snapshot`]s up, and renders the sum with memcached's names in memcached's order, so
//! that its tools and exporters read it. What Strata has no such thing of is zero.

use std::fmt::Display;
use std::io::Write;
use std::os::fd::RawFd;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};
use nix::sys::time::TimeValLike;
use strata_protocol::reply::{self, Sink};
use strata_store as store;
use strata_store::Eviction;

use crate::clock::Now;
use crate::config::Settings;
use crate::session::{Session, Tail};
use crate::shared::Shared;

/// What `version` and `stats` say: the memcached release whose behaviour this is, because
/// clients decide by its number what they may send, and behind a space what it really is.
pub const VERSION: &str = concat!("1.6.45 strata-", env!("CARGO_PKG_VERSION"));

macro_rules! counters {
    ($(#[$doc:meta] $name:ident,)*) => {
        /// What the commands of one worker did since its start or the last `stats reset`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $(#[$doc] pub $name: u64,)*
        }

        impl Counters {
            /// Adds another worker's.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Keys asked for by `get` and `gets`.
    cmd_get,
    /// Storage commands that reached a shard.
    cmd_set,
    /// `flush_all`, refused ones too.
    cmd_flush,
    /// `touch`, and keys asked for by `gat` and `gats`.
    cmd_touch,
    /// Meta commands.
    cmd_meta,
    /// Keys of `get` found.
    get_hits,
    /// Keys of `get` not found.
    get_misses,
    /// `delete` of nothing.
    delete_misses,
    /// Items deleted.
    delete_hits,
    /// `incr` of nothing.
    incr_misses,
    /// `incr` done.
    incr_hits,
    /// `decr` of nothing.
    decr_misses,
    /// `decr` done.
    decr_hits,
    /// `cas` of nothing.
    cas_misses,
    /// `cas` that stored.
    cas_hits,
    /// `cas` of an item that had changed.
    cas_badval,
    /// Items given a new deadline.
    touch_hits,
    /// `touch` of nothing.
    touch_misses,
    /// Values refused for their size.
    store_too_large,
    /// Values refused for want of memory.
    store_no_memory,
    /// Clients that said who they are.
    auth_cmds,
    /// Of those, clients that were not let in.
    auth_errors,
    /// Bytes received from clients.
    bytes_read,
    /// Bytes sent to clients.
    bytes_written,
    /// Times a session with more requests had to let the others go first.
    conn_yields,
    /// Connections accepted.
    total_connections,
    /// Connections refused because there were too many.
    rejected_connections,
    /// Connections closed because they made no request for too long.
    idle_kicks,
    /// Connections closed in the middle of a large value that took up room for too long.
    intake_cuts,
    /// Commands with a key that a client gave to the worker that owns it.
    commands_local,
    /// Commands with a key that a client gave to another worker, which sent them to the owner.
    commands_remote,
    /// Commands with a key that came from other workers.
    commands_served,
    /// Requests sent to other workers: remote commands, pieces of lent values, questions.
    visits_sent,
    /// Requests of other workers served.
    visits_served,
    /// Replies that came home to a session that was gone.
    late_replies,
    /// Times a session had to wait because another worker had no room.
    parked,
    /// Ticks.
    ticks,
    /// Other workers woken.
    wakes,
    /// Times it was rung awake, by another worker or by the control plane.
    rings,
}

impl Counters {
    /// Sets everything to zero.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// The most that the mailboxes between one worker and one peer have held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueMarks {
    /// Requests sent to the peer that had not come home.
    pub to: u64,
    /// Requests of the peer that waited to be served.
    pub from: u64,
}

/// What `stats workers` tells of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerFigures {
    /// Which worker.
    pub index: usize,
    /// What it counted.
    pub counters: Counters,
    /// Connections that live on it.
    pub connections: u64,
    /// Its longest tick, in microseconds.
    pub longest_tick_us: u64,
    /// Its queues, by peer; its own place is zero.
    pub queues: Vec<QueueMarks>,
}

impl WorkerFigures {
    /// The figures that are one number for each worker: name, what it says, whether it only
    /// grows, and the number.
    #[must_use]
    pub fn numbers(&self) -> [(&'static str, &'static str, bool, u64); 11] {
        let counters = &self.counters;
        [
            ("connections", "Connections.", false, self.connections),
            (
                "commands_local",
                "Commands of its clients whose key it owns.",
                true,
                counters.commands_local,
            ),
            (
                "commands_remote",
                "Commands of its clients that it sent to the key's owner.",
                true,
                counters.commands_remote,
            ),
            (
                "commands_served",
                "Commands of other workers' clients.",
                true,
                counters.commands_served,
            ),
            ("ticks", "Ticks.", true, counters.ticks),
            (
                "longest_tick_us",
                "Longest tick since the last reset, in microseconds.",
                false,
                self.longest_tick_us,
            ),
            ("wakes_sent", "Other workers woken.", true, counters.wakes),
            ("wakes_received", "Times rung awake.", true, counters.rings),
            (
                "parked",
                "Times a connection waited for room at another worker.",
                true,
                counters.parked,
            ),
            (
                "idle_kicks",
                "Connections closed for want of requests.",
                true,
                counters.idle_kicks,
            ),
            (
                "intake_cuts",
                "Connections closed in the middle of a large value that took up room for too long.",
                true,
                counters.intake_cuts,
            ),
        ]
    }
}

/// One worker's figures, or the sum of several.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What the commands did.
    pub counters: Counters,
    /// What the store did.
    pub store: store::Counters,
    /// What the store holds.
    pub usage: store::Usage,
    /// Sessions open now.
    pub sessions: u64,
    /// Values on loan to readers now.
    pub loans: u64,
    /// Bytes of half-received large values now.
    pub intake_bytes: u64,
    /// What is told of each worker by itself, in the order they answered.
    pub workers: Vec<WorkerFigures>,
}

impl Snapshot {
    /// Adds another worker's.
    pub fn add(&mut self, other: &Snapshot) {
        self.counters.add(&other.counters);
        self.store.add(&other.store);
        self.usage.add(&other.usage);
        self.sessions += other.sessions;
        self.loans += other.loans;
        self.intake_bytes += other.intake_bytes;
        self.workers.extend_from_slice(&other.workers);
    }

    /// The longest tick of all workers, in microseconds.
    #[must_use]
    pub fn longest_tick_us(&self) -> u64 {
        let longest = self.workers.iter().map(|worker| worker.longest_tick_us);
        longest.max().unwrap_or(0)
    }
}

/// What is made of the answers of all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// A fixed reply once all have answered; empty for `noreply`.
    Done(&'static [u8]),
    /// `stats`.
    General,
    /// `stats items`.
    Items,
    /// `stats slabs`.
    Slabs,
    /// `stats conns`.
    Connections,
    /// `stats workers`.
    Workers,
}

/// A reply that all workers make together.
#[derive(Debug)]
pub struct Gather {
    /// What was asked.
    pub question: Question,
    /// Workers that have not answered.
    pub awaited: usize,
    /// The sum of the snapshots that have come.
    pub sum: Snapshot,
    /// The texts that have come.
    pub text: Vec<u8>,
}

/// Facts about the process that `stats` mentions and no worker counts.
#[derive(Clone, Debug)]
pub struct Process {
    /// The settings in force.
    pub settings: Settings,
    /// The addresses really listened on, in the order given.
    pub bound: Vec<std::net::SocketAddr>,
    /// Where each worker listens for itself at the first of them; empty without `--shard-ports`.
    pub shards_bound: Vec<std::net::SocketAddr>,
}

fn line(out: &mut impl Sink, name: &str, value: impl Display) {
    // Statistics are rare and rendered off any request's path, so a formatted line may allocate.
    let mut text = Vec::with_capacity(64);
    let _ = write!(text, "STAT {name} {value}\r\n");
    out.put(&text);
}

/// Writes the reply of a complete gathering.
pub fn render(gather: &Gather, shared: &Shared, now: &Now, out: &mut impl Sink) {
    match gather.question {
        Question::Done(text) => out.put(text),
        Question::General => {
            for (name, value) in general(&gather.sum, shared, now) {
                line(out, name, value);
            }
            out.put(reply::END);
        }
        Question::Items => {
            items(&gather.sum, out);
            out.put(reply::END);
        }
        Question::Slabs => {
            slabs(&gather.sum, out);
            out.put(reply::END);
        }
        Question::Connections => {
            out.put(&gather.text);
            out.put(reply::END);
        }
        Question::Workers => {
            workers(&gather.sum, out);
            out.put(reply::END);
        }
    }
}

/// A figure of `stats`: most are counts, a few are words.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// A count.
    Count(u64),
    /// Anything else.
    Text(String),
}

impl Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Figure::Count(count) => count.fmt(f),
            Figure::Text(text) => text.fmt(f),
        }
    }
}

fn cpu_seconds(micros: i64) -> Figure {
    Figure::Text(format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000))
}

/// The figures of `stats`, with memcached 1.6.45's names, in its order, and then Strata's own.
#[must_use]
pub fn general(sum: &Snapshot, shared: &Shared, now: &Now) -> Vec<(&'static str, Figure)> {
    use Figure::{Count, Text};
    let settings = &shared.process.settings;
    let (counters, items, usage) = (&sum.counters, &sum.store, &sum.usage);
    let (user, system) = getrusage(UsageWho::RUSAGE_SELF).map_or((0, 0), |usage| {
        (
            usage.user_time().num_microseconds(),
            usage.system_time().num_microseconds(),
        )
    });
    let zero = Count(0);
    let yes_no = |flag: bool| Count(u64::from(flag));
    let mut figures = vec![
        ("pid", Count(u64::from(std::process::id()))),
        ("uptime", Count(u64::from(now.uptime_s()))),
        ("time", Count(now.unix_s)),
        ("version", Text(VERSION.into())),
        ("libevent", Text("none".into())),
        ("pointer_size", Count(u64::from(usize::BITS))),
        ("rusage_user", cpu_seconds(user)),
        ("rusage_system", cpu_seconds(system)),
        ("max_connections", Count(settings.conns_max as u64)),
        ("curr_connections", Count(sum.sessions)),
        ("total_connections", Count(counters.total_connections)),
        ("rejected_connections", Count(counters.rejected_connections)),
        ("connection_structures", Count(sum.sessions)),
        ("response_obj_oom", zero.clone()),
        ("response_obj_count", zero.clone()),
        ("response_obj_bytes", zero.clone()),
        ("read_buf_count", zero.clone()),
        ("read_buf_bytes", Count(sum.intake_bytes)),
        ("read_buf_bytes_free", zero.clone()),
        ("read_buf_oom", zero.clone()),
        ("reserved_fds", zero.clone()),
        ("cmd_get", Count(counters.cmd_get)),
        ("cmd_set", Count(counters.cmd_set)),
        ("cmd_flush", Count(counters.cmd_flush)),
        ("cmd_touch", Count(counters.cmd_touch)),
        ("cmd_meta", Count(counters.cmd_meta)),
        ("get_hits", Count(counters.get_hits)),
        ("get_misses", Count(counters.get_misses)),
        ("get_expired", Count(items.get_expired)),
        ("get_flushed", Count(items.get_flushed)),
        ("delete_misses", Count(counters.delete_misses)),
        ("delete_hits", Count(counters.delete_hits)),
        ("incr_misses", Count(counters.incr_misses)),
        ("incr_hits", Count(counters.incr_hits)),
        ("decr_misses", Count(counters.decr_misses)),
        ("decr_hits", Count(counters.decr_hits)),
        ("cas_misses", Count(counters.cas_misses)),
        ("cas_hits", Count(counters.cas_hits)),
        ("cas_badval", Count(counters.cas_badval)),
        ("touch_hits", Count(counters.touch_hits)),
        ("touch_misses", Count(counters.touch_misses)),
        ("store_too_large", Count(counters.store_too_large)),
        ("store_no_memory", Count(counters.store_no_memory)),
        ("auth_cmds", Count(counters.auth_cmds)),
        ("auth_errors", Count(counters.auth_errors)),
        ("bytes_read", Count(counters.bytes_read)),
        ("bytes_written", Count(counters.bytes_written)),
        ("limit_maxbytes", Count(shared.memory_limit() as u64)),
        ("accepting_conns", yes_no(true)),
        ("listen_disabled_num", zero.clone()),
        ("time_in_listen_disabled_us", zero.clone()),
        ("threads", Count(settings.workers as u64)),
        ("conn_yields", Count(counters.conn_yields)),
        (
            "hash_power_level",
            Count(u64::from((usage.hash_buckets.max(1) as u64).ilog2())),
        ),
        (
            "hash_bytes",
            Count((usage.pages_table * usage.page_bytes) as u64),
        ),
        ("hash_is_expanding", zero.clone()),
        ("slab_reassign_rescues", zero.clone()),
        ("slab_reassign_chunk_rescues", zero.clone()),
        ("slab_reassign_inline_reclaim", zero.clone()),
        ("slab_reassign_busy_items", zero.clone()),
        ("slab_reassign_busy_deletes", zero.clone()),
        ("slab_reassign_busy_nomem", zero.clone()),
        ("slab_reassign_last_busy_status", Text("none".into())),
        ("slab_reassign_running", zero.clone()),
        ("slabs_moved", zero.clone()),
        ("lru_crawler_running", zero.clone()),
        ("lru_crawler_starts", zero.clone()),
        ("lru_maintainer_juggles", zero.clone()),
        ("malloc_fails", zero.clone()),
        ("log_worker_dropped", zero.clone()),
        ("log_worker_written", zero.clone()),
        ("log_watcher_skipped", zero.clone()),
        ("log_watcher_sent", zero.clone()),
        ("log_watchers", zero.clone()),
        ("unexpected_napi_ids", zero.clone()),
        ("round_robin_fallback", zero.clone()),
        ("bytes", Count(usage.bytes)),
        ("curr_items", Count(usage.items)),
        ("total_items", Count(items.total_items)),
        ("slab_global_page_pool", Count(usage.pages_free as u64)),
        ("expired_unfetched", Count(items.expired_unfetched)),
        ("evicted_unfetched", Count(items.evicted_unfetched)),
        (
            "evicted_active",
            Count(items.evictions - items.evicted_unfetched),
        ),
        ("evictions", Count(items.evictions)),
        ("reclaimed", Count(items.expired)),
        ("crawler_reclaimed", zero.clone()),
        ("crawler_items_checked", zero.clone()),
        ("lrutail_reflocked", zero.clone()),
        ("moves_to_cold", zero.clone()),
        ("moves_to_warm", zero.clone()),
        ("moves_within_lru", zero.clone()),
        ("direct_reclaims", zero.clone()),
        ("lru_bumps_dropped", zero),
        // Not memcached's.
        ("ghost_hits", Count(items.ghost_hits)),
        ("promotions", Count(items.promotions)),
        ("reinsertions", Count(items.reinsertions)),
        ("longest_tick_us", Count(sum.longest_tick_us())),
    ];
    if settings.idle_timeout_s > 0 {
        let after = figures.iter().position(|(name, _)| *name == "auth_errors");
        let at = after.map_or(figures.len(), |at| at + 1);
        figures.insert(at, ("idle_kicks", Count(counters.idle_kicks)));
    }
    figures
}

/// `stats workers`: each worker's figures by its index, and the queues between each two.
fn workers(sum: &Snapshot, out: &mut impl Sink) {
    let mut list: Vec<&WorkerFigures> = sum.workers.iter().collect();
    list.sort_by_key(|worker| worker.index);
    for worker in list {
        let index = worker.index;
        for (name, _, _, number) in worker.numbers() {
            line(out, &format!("{index}:{name}"), number);
        }
        let counters = &worker.counters;
        let commands = counters.commands_local + counters.commands_remote;
        let share = |part: u64| part * 100 / commands.max(1);
        line(
            out,
            &format!("{index}:local_percent"),
            share(counters.commands_local),
        );
        for (peer, queue) in worker.queues.iter().enumerate() {
            if peer != index {
                line(out, &format!("{index}:queue_to_{peer}_most"), queue.to);
                line(out, &format!("{index}:queue_from_{peer}_most"), queue.from);
            }
        }
    }
}

/// `stats items`: one class holds everything, and is there only while it holds something.
fn items(sum: &Snapshot, out: &mut impl Sink) {
    let (items, usage) = (&sum.store, &sum.usage);
    if usage.items == 0 {
        return;
    }
    let counts: [(&str, u64); 28] = [
        ("number", usage.items),
        ("number_hot", 0),
        ("number_warm", 0),
        ("number_cold", usage.items),
        ("age_hot", 0),
        ("age_warm", 0),
        ("age", 0),
        ("mem_requested", usage.bytes),
        ("evicted", items.evictions),
        ("evicted_nonzero", 0),
        ("evicted_time", 0),
        ("outofmemory", sum.counters.store_no_memory),
        ("tailrepairs", 0),
        ("reclaimed", items.expired),
        ("expired_unfetched", items.expired_unfetched),
        ("evicted_unfetched", items.evicted_unfetched),
        ("evicted_active", items.evictions - items.evicted_unfetched),
        ("crawler_reclaimed", 0),
        ("crawler_items_checked", 0),
        ("lrutail_reflocked", 0),
        ("moves_to_cold", 0),
        ("moves_to_warm", 0),
        ("moves_within_lru", 0),
        ("direct_reclaims", 0),
        ("hits_to_hot", 0),
        ("hits_to_warm", 0),
        ("hits_to_cold", sum.counters.get_hits),
        ("hits_to_temp", 0),
    ];
    for (name, count) in counts {
        line(out, &format!("items:1:{name}"), count);
    }
}

/// `stats slabs`: the same one class, whose pages are the segments.
fn slabs(sum: &Snapshot, out: &mut impl Sink) {
    let (counters, usage) = (&sum.counters, &sum.usage);
    if let Some(mean_bytes) = usage.bytes.checked_div(usage.items) {
        let chunk_bytes = mean_bytes.max(1);
        let pages = (usage.pages_segment + usage.pages_extension).max(1) as u64;
        let chunks_per_page = usage.page_bytes as u64 / chunk_bytes;
        let chunks = (pages * chunks_per_page).max(usage.items);
        let counts: [(&str, u64); 15] = [
            ("chunk_size", chunk_bytes),
            ("chunks_per_page", chunks_per_page),
            ("total_pages", pages),
            ("total_chunks", chunks),
            ("used_chunks", usage.items),
            ("free_chunks", chunks - usage.items),
            ("free_chunks_end", 0),
            ("get_hits", counters.get_hits),
            ("cmd_set", counters.cmd_set),
            ("delete_hits", counters.delete_hits),
            ("incr_hits", counters.incr_hits),
            ("decr_hits", counters.decr_hits),
            ("cas_hits", counters.cas_hits),
            ("cas_badval", counters.cas_badval),
            ("touch_hits", counters.touch_hits),
        ];
        for (name, count) in counts {
            line(out, &format!("1:{name}"), count);
        }
    }
    line(out, "active_slabs", u64::from(usage.items > 0));
    line(
        out,
        "total_malloced",
        (usage.pages_segment + usage.pages_extension) * usage.page_bytes,
    );
}

fn address(name: Option<SockaddrStorage>) -> String {
    let Some(name) = name else {
        return "unknown".into();
    };
    if let Some(v4) = name.as_sockaddr_in() {
        return format!("tcp:{}:{}", v4.ip(), v4.port());
    }
    if let Some(v6) = name.as_sockaddr_in6() {
        return format!("tcp6:[{}]:{}", v6.ip(), v6.port());
    }
    match name.as_unix_addr().and_then(|unix| unix.path()) {
        Some(path) => format!("unix:{}", path.display()),
        None => "unix:".into(),
    }
}

/// Whether a connection came over the unix socket.
#[must_use]
pub fn is_unix(fd: RawFd) -> bool {
    getsockname::<SockaddrStorage>(fd).is_ok_and(|name| name.as_unix_addr().is_some())
}

/// The lines of `stats conns` about one session of `worker`.
pub fn connection(session: &Session, idle_s: u32, text: &mut Vec<u8>) {
    let fd = session.fd;
    let out = &mut Tail(text);
    line(out, &format!("{fd}:addr"), address(getpeername(fd).ok()));
    line(
        out,
        &format!("{fd}:listen_addr"),
        address(getsockname(fd).ok()),
    );
    let state = if session.sending {
        "conn_mwrite"
    } else if session.carry.is_empty() {
        "conn_read"
    } else {
        "conn_nread"
    };
    line(out, &format!("{fd}:state"), state);
    line(out, &format!("{fd}:secs_since_last_cmd"), idle_s);
}

/// `stats settings`: memcached's keys in its order, without those of storage it does not have.
pub fn settings(shared: &Shared, out: &mut impl Sink) {
    let process = &shared.process;
    let settings = &process.settings;
    let yes_no = |flag: bool| if flag { "yes" } else { "no" };
    let port = process.bound.first().map_or(0, |address| address.port());
    let inter = if settings.listen.is_empty() {
        "NULL".to_owned()
    } else {
        let hosts: Vec<String> = settings
            .listen
            .iter()
            .map(|address| address.ip().to_string())
            .collect();
        hosts.join(",")
    };
    let unix = settings
        .unix_path
        .as_ref()
        .map_or("NULL".to_owned(), |path| path.display().to_string());
    line(out, "maxbytes", shared.memory_limit());
    line(out, "maxconns", settings.conns_max);
    line(out, "tcpport", port);
    line(out, "udpport", 0);
    line(out, "inter", inter);
    line(out, "verbosity", shared.verbosity());
    line(out, "oldest", 0);
    let evicts = settings.eviction != Eviction::None;
    line(out, "evictions", if evicts { "on" } else { "off" });
    line(out, "domain_socket", unix);
    line(out, "umask", format_args!("{:o}", settings.unix_mask));
    line(out, "shutdown_command", yes_no(settings.shutdown));
    line(out, "growth_factor", "1.25");
    line(out, "chunk_size", 48);
    line(out, "num_threads", settings.workers);
    line(out, "num_threads_per_udp", 0);
    let delimiter = char::from(settings.prefix_delimiter);
    line(out, "stat_key_prefix", delimiter);
    line(out, "detail_enabled", "no");
    line(out, "reqs_per_event", settings.requests_per_tick);
    line(out, "cas_enabled", yes_no(settings.cas));
    line(out, "tcp_backlog", settings.backlog);
    line(out, "binding_protocol", "ascii");
    line(out, "auth_enabled_sasl", "no");
    let users = settings.auth_file.as_ref();
    let users = users.map_or("no".to_owned(), |path| path.display().to_string());
    line(out, "auth_enabled_ascii", users);
    line(out, "item_size_max", settings.item_max_bytes);
    line(out, "maxconns_fast", "yes");
    line(out, "hashpower_init", 0);
    line(out, "slab_reassign", "no");
    line(out, "slab_automove", 0);
    line(out, "slab_automove_ratio", "0.80");
    line(out, "slab_automove_window", 10);
    line(out, "slab_chunk_max", 524_288);
    line(out, "lru_crawler", yes_no(shared.crawler()));
    line(out, "lru_crawler_sleep", 100);
    line(out, "lru_crawler_tocrawl", 0);
    line(out, "tail_repair_time", 0);
    line(out, "flush_enabled", yes_no(settings.flush));
    line(out, "dump_enabled", yes_no(settings.dump));
    line(out, "hash_algorithm", "rapidhash");
    line(out, "lru_maintainer_thread", "no");
    line(out, "lru_segmented", "no");
    line(out, "hot_lru_pct", 20);
    line(out, "warm_lru_pct", 40);
    line(out, "hot_max_factor", "0.20");
    line(out, "warm_max_factor", "2.00");
    line(out, "temp_lru", "no");
    line(out, "temporary_ttl", 61);
    line(out, "idle_timeout", settings.idle_timeout_s);
    line(out, "watcher_logbuf_size", settings.watcher_log_bytes);
    line(out, "worker_logbuf_size", settings.worker_log_bytes);
    line(out, "read_buf_mem_limit", 0);
    line(out, "track_sizes", yes_no(settings.track_sizes));
    line(out, "inline_ascii_response", "no");
    line(out, "num_napi_ids", 0);
    line(out, "memory_file", "(null)");
    line(out, "client_flags_size", 4);
    if settings.shard_ports {
        let ports = process.shards_bound.iter();
        let ports: Vec<String> = ports.map(|address| address.port().to_string()).collect();
        line(out, "shard_ports", ports.join(","));
        line(out, "shard_of_key", "((crc32(key)>>16)&0x7fff)%shards");
    }
    // Not memcached's.
    line(out, "eviction_policy", settings.eviction_name());
    out.put(reply::END);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn stats_has_memcacheds_93_figures_and_then_ours() {
        let process = Process {
            settings: Settings::for_tests(1),
            bound: Vec::new(),
            shards_bound: Vec::new(),
        };
        let now = Now::after(1_700_000_000, Duration::from_secs(5));
        let shared = Shared::new(process, crossbeam_channel::bounded(1).0);
        let figures = general(&Snapshot::default(), &shared, &now);
        assert_eq!(figures[92].0, "lru_bumps_dropped");
        let own: Vec<&str> = figures[93..].iter().map(|(name, _)| *name).collect();
        assert_eq!(
            own,
            [
                "ghost_hits",
                "promotions",
                "reinsertions",
                "longest_tick_us"
            ]
        );
    }
}
