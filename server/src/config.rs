//! Every bound of the server by name, and the settings an operator chooses.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strata_store::Eviction;

use crate::tls::{Guard, TlsSettings};

/// Connections that wait in the kernel to be accepted, unless `-b` says otherwise; memcached's.
pub const BACKLOG_DEFAULT: i32 = 1024;

/// Submission entries of a ring; completions have four times as many.
pub const RING_ENTRIES: u32 = 1024;

/// Completions a worker handles in one tick.
pub const EVENTS_MAX: usize = 256;

/// So many of those a connection's beginning or end counts for, in the ring: it costs calls of its
/// own, about as much as so many small requests. A storm of connects leaves ticks short. A receive
/// that ends while its connection stays counts as one.
pub const EVENTS_OF_A_CONNECT: usize = 16;

/// One receive buffer. Large enough for a deep pipeline of small requests, small enough to stay
/// in the second-level cache while it is parsed.
pub const RECEIVE_BUFFER_BYTES: usize = 16 << 10;

/// Receive buffers of one worker, shared by all its sessions.
pub const RECEIVE_BUFFERS: usize = 256;

/// How many of them the kernel has to choose from at first. It takes them in turn, so each of these
/// is touched, and has to stay in the caches, however few are needed at once; when it runs out it is
/// given twice as many.
pub const RECEIVE_BUFFERS_FIRST: usize = 32;

/// Receipts of at most [`SMALL_RECEIPT_BYTES`] by which a connection earns that its receive goes on by
/// itself while others ask for little at a time. Until then it has one buffer a tick beside them: one
/// that sends without pause would fill all there are in one, and they wait meanwhile
/// (perf/notes/attacks.md).
pub const MULTISHOT_EARNED_BY: u8 = 100;

/// See [`MULTISHOT_EARNED_BY`].
pub const SMALL_RECEIPT_BYTES: usize = 2 << 10;

/// Receive buffers that such a connection may fill in one tick beside them; with more it has to earn
/// it again.
pub const BURST_BUFFERS: u32 = 4;

/// Connections that must have sent something for the kernel to be given more receive buffers when it
/// has run out of them: a few would only fill them all.
pub const WIDEN_CONNS_MIN: usize = 8;

/// Requests of one session that are planned together: hashed, prefetched, then executed.
pub const BATCH_MAX: usize = 32;

/// Requests one session may make in one tick before others have their turn, unless `-R` says
/// otherwise. memcached takes 20; a worker here answers every session once a tick, so a larger
/// share costs the others less.
pub const REQUESTS_PER_TICK_DEFAULT: u32 = 512;

/// Requests all sessions of a worker together may make in one tick, as far as
/// [`REQUESTS_SHARE_MIN`] lets it: a newcomer waits for no more than that. It is shared out evenly
/// among those that have sent something.
pub const REQUESTS_PER_TICK_ALL: usize = 16 << 10;

/// The same while somebody asks for little at a time, who would wait for the pipelines of the others
/// (perf/notes/attacks.md).
pub const REQUESTS_BESIDE_OTHERS: usize = 512;

/// Who twice in a row has sent at most this asks for little at a time. Less than what is left of a
/// pipeline that was answered in shares of [`REQUESTS_SHARE_MIN`], else such shares would go on for ever.
pub const LITTLE_BYTES: usize = 128;

/// Requests a session may make in one tick however many others have some; memcached's number.
pub const REQUESTS_SHARE_MIN: usize = 20;

/// Replies of one session that may wait for other workers or behind such a reply.
pub const SLOTS_MAX: usize = 512;

/// Bytes of finished replies behind an unfinished one, above which a session stops to read.
pub const HELD_MAX_BYTES: usize = 64 << 10;

/// Reply bytes ready to send above which a session stops to read.
pub const OUT_HIGH_BYTES: usize = 64 << 10;

/// How long, at most, replies that are ready wait for those behind them that other workers are
/// making, so that one send takes them all; twice as long when the worker sleeps meanwhile.
pub const HOLD_MAX_US: u64 = 200;

/// Ready replies of one session that do not wait any more.
pub const HOLD_MAX_BYTES: usize = 16 << 10;

/// Input that waits in a stopped session above which the socket is no longer read.
pub const CARRY_PAUSE_BYTES: usize = 16 << 10;

/// Bytes of waiting input of all stopped sessions of one worker, above which it receives in small
/// sips: until then the kernel may hand over all that a socket holds before it is told to stop.
pub const CARRY_MAX_BYTES: usize = 16 << 20;

/// A storage command whose line and data block are at most this long waits in the carry buffer
/// for its end; a longer one is taken in piece by piece ([`INTAKE_MAX_BYTES`]).
pub const CARRY_STORE_BYTES: usize = 8 << 10;

/// Bytes of half-received large values that one worker holds for all its sessions, besides one
/// value of the largest size. What does not fit is refused as memcached refuses for want of
/// memory.
pub const INTAKE_MAX_BYTES: usize = 32 << 20;

/// How long a large value may take to arrive while others lack the room it takes up. It has a
/// second more for each [`INTAKE_PACE_BYTES`] that are here.
pub const INTAKE_PATIENCE_S: u32 = 2;

/// A large value that arrives at this many bytes a second is never cut off.
pub const INTAKE_PACE_BYTES: usize = 1 << 20;

/// Half-received large values that are looked at, oldest first, for one that may be cut off.
pub const INTAKE_LOOK_MAX: usize = 64;

/// Sessions that one tick looks at in search of those that have been idle for too long.
pub const IDLE_LOOK_MAX: usize = 256;

/// Reply bytes that one worker holds for all its sessions, in `out`, `held` and in the kernel's
/// hands. Beyond it a session makes its next request only when its last reply is sent.
pub const REPLIES_MAX_BYTES: usize = 32 << 20;

/// Values larger than this are lent by the store rather than copied whole, so that a slow reader
/// holds no copy of them.
pub const LEND_MIN_BYTES: usize = 16 << 10;

/// A value lent by another worker, or to a slow reader, is copied to its session in pieces of this
/// size.
pub const PIECE_BYTES: usize = 64 << 10;

/// Bytes of values lent by a worker to its own sessions that all of them together hand to the
/// kernel in one tick, because the kernel copies them meanwhile. A value of the default largest
/// size goes out in one call, which costs less than several (perf/notes/large-replies.md).
pub const LENT_PER_TICK_BYTES: usize = 1 << 20;

/// The same while others ask for small values: a mebibyte into sockets that have to grow for it takes
/// milliseconds (perf/notes/attacks.md).
pub const LENT_BESIDE_OTHERS_BYTES: usize = 64 << 10;

/// How long others count as asking after their last small request or reply.
pub const BESIDE_OTHERS_US: u64 = 10_000;

/// Parts of one vectored send: what goes before the value, pieces of the value, and two behind it.
pub const PARTS_MAX: usize = 64;

/// Message bytes that need no buffer of their own.
pub const INLINE_BYTES: usize = 192;

/// The largest buffer a message slot keeps for its next use.
pub const SPILL_KEEP_BYTES: usize = 4 << 10;

/// Slots of all mailboxes towards one worker together; they are shared out evenly.
pub const MAILBOX_SLOTS: usize = 1024;

/// The fewest and the most slots of one mailbox.
pub const MAILBOX_SLOTS_MIN: usize = 64;
/// See [`MAILBOX_SLOTS_MIN`].
pub const MAILBOX_SLOTS_MAX: usize = 1024;

/// Visitors one worker serves in one tick, of each peer.
pub const VISITORS_PER_TICK: usize = 256;

/// The largest buffer of replies behind an unfinished one that a session keeps for its next use.
pub const HELD_KEEP_BYTES: usize = 4 << 10;

/// Bytes of idle send buffers a worker keeps. A buffer that is given back to the system and
/// asked for again costs a page fault for every 4 KiB (perf/notes/large-replies.md).
pub const SPARE_MAX_BYTES: usize = 8 << 20;

/// Bytes of small buffers, and of places for replies, that a worker keeps of sessions at rest, so
/// that an idle connection has none of its own and an active one asks for none each time.
pub const SPARE_SMALL_MAX_BYTES: usize = 1 << 20;

/// The largest buffer that is kept for another use: a piece of a lent value with its line.
pub const SPARE_KEEP_BYTES: usize = 4 * PIECE_BYTES;

/// Items the upkeep of the store looks at in one tick.
pub const UPKEEP_ITEMS: u32 = 48;

/// Memory that one tick brings into use or gives back, but at least one page of the store (up to
/// 256 KiB): the kernel clears it meanwhile.
pub const MEMORY_STEP_BYTES: usize = 256 << 10;

/// `cache_memlimit` can raise the memory to so many times `-m`, if the machine has that much.
/// Until then it costs addresses.
pub const MEMORY_ROOM_TIMES: usize = 16;

/// What a watcher may be late with before it loses lines, unless `-o watcher_logbuf_size` says
/// otherwise; memcached's.
pub const WATCHER_LOG_BYTES_DEFAULT: usize = 256 << 10;

/// Log lines of one worker in one tick, unless `-o worker_logbuf_size` says otherwise; memcached's.
pub const WORKER_LOG_BYTES_DEFAULT: usize = 64 << 10;

/// A log line at most.
pub const LOG_LINE_MAX_BYTES: usize = 1024;

/// Evictions of one worker that are noted in one tick.
pub const EVICTIONS_NOTED_MAX: usize = 512;

/// Watchers of the whole server at most; memcached's.
pub const WATCHERS_MAX: usize = 20;

/// Lines that the server says of itself and that wait to be written to standard error: of each worker, and of
/// everybody else.
pub const LOG_LINES_MAX: usize = 1024;

/// Kinds of such lines that are told apart.
pub const LOG_KINDS_MAX: usize = 128;

/// Lines of one kind that are said in one window of time.
pub const LOG_BURST: u64 = 20;

/// How long such a window is, in seconds.
pub const LOG_WINDOW_S: u64 = 10;

/// How long the end of the server waits for lines to be written.
pub const LOG_FLUSH_MAX_MS: u64 = 500;

/// Batches of lines of one worker that wait to be written to standard error.
pub const STDERR_BATCHES_MAX: usize = 16;

/// Hash buckets, of nine items at most, that one tick walks for one dump of all items.
pub const DUMP_SLICE_BUCKETS: usize = 64;

/// How long the one dump that goes on at a time may stand still because its client does not read,
/// until another takes its place.
pub const DUMP_PATIENCE_S: u32 = 60;

/// Bytes that sizes of items are told apart by in `stats sizes`; memcached's.
pub const SIZE_STEP_BYTES: u64 = 32;

/// Hash buckets of one worker that `stats cachedump` looks at, in one tick.
pub const CACHEDUMP_BUCKETS: usize = 512;

/// The reply of `stats cachedump` at most; memcached's.
pub const CACHEDUMP_MAX_BYTES: usize = 2 << 20;

/// The longest ticks that one worker remembers.
pub const LONG_TICKS_KEPT: usize = 8;

/// Receipts of waiting input that are told apart in one session, to know since when it waits.
pub const RECEIPTS_MAX: usize = 4;

/// Groups of unanswered requests that are told apart in one session, to know since when they wait.
pub const GROUPS_MAX: usize = 4;

/// A token of the admin endpoint at most.
pub const TOKEN_MAX_BYTES: usize = 256;

/// Requests of which one is sampled, on average, to find the keys asked for most.
pub const SAMPLE_EVERY: u32 = 256;

/// Keys of which one worker keeps how often they were sampled.
pub const HOT_KEYS_KEPT: usize = 256;

/// Keys asked for most that are told unless another number is asked for.
pub const HOT_KEYS_TOLD: usize = 20;

/// The counts of samples are halved whenever so many seconds have passed.
pub const HALVE_EVERY_S: u32 = 30;

/// Prefixes that one worker counts commands by.
pub const PREFIXES_MAX: usize = 4096;

/// Between a key's prefix and the rest, unless `-D` says otherwise; memcached's.
pub const PREFIX_DELIMITER_DEFAULT: u8 = b':';

/// Size of a file of options at most.
pub const CONFIG_FILE_MAX_BYTES: u64 = 1 << 20;

/// A user's name at most, in a file with hashes.
pub const USER_NAME_MAX_BYTES: usize = 128;

/// A password that is hashed at most; with its name it fits what a client may say at once.
pub const PASSWORD_MAX_BYTES: usize = 512;

/// Memory that one check of a hashed password may take.
pub const USERS_HASH_MAX_BYTES: usize = 64 << 20;

/// Names and passwords that one worker has handed over and nobody has looked at.
pub const DOOR_JOBS_MAX: usize = 1024;

/// Different names and passwords that wait to be checked.
pub const DOOR_CHECKS_MAX: usize = 256;

/// Of those, what one address has waiting.
pub const DOOR_CHECKS_PER_PEER_MAX: usize = 32;

/// Connections that wait for what a check says, or for the moment it is told.
pub const DOOR_GUESTS_MAX: usize = 1 << 16;

/// How long the answer to an address's first wrong password waits; each further one waits twice as long,
/// up to [`DOOR_DELAY_MAX_MS`].
pub const DOOR_DELAY_FIRST_MS: u64 = 100;
/// See [`DOOR_DELAY_FIRST_MS`].
pub const DOOR_DELAY_MAX_MS: u64 = 5000;

/// How long after its last wrong password an address is as good as any other.
pub const DOOR_FORGET_MS: u64 = 60_000;

/// Addresses whose wrong passwords are remembered.
pub const DOOR_PEERS_MAX: usize = 4096;

/// A line about wrong passwords is written this often at most.
pub const DOOR_LOG_EVERY_MS: u64 = 1000;

/// When an answer is tried again that a worker had no room for.
pub const DOOR_RETRY_MS: u64 = 2;

/// Size of a file of names and passwords at most.
pub const USERS_FILE_MAX_BYTES: u64 = 1 << 20;

/// The line of a name and password at most; memcached's.
pub const USER_LINE_MAX_BYTES: usize = 256;

/// Steps of handshakes that a worker makes in one tick: those that cost little, and all of them where no
/// thread makes them.
pub const HANDSHAKE_STEPS_PER_TICK: usize = 1;

/// When the thread that makes the others has brought nothing for so long, because no core has time left for
/// it, the worker makes one itself: 200 a second, and three hundredths of its time, however busy everybody is.
pub const HANDSHAKES_OVERDUE_MS: u64 = 5;

/// Records of one handshake that wait for their turn; a client's certificates fit in several times. With
/// more, and a step of it away, its socket is not read.
pub const HANDSHAKE_INPUT_MAX_BYTES: usize = 32 << 10;

/// Seconds after which a handshake that is not done is given up.
pub const HANDSHAKE_MAX_S: u64 = 10;

/// What the state of one TLS connection takes, records that are not whole included: 8 KiB were measured of
/// one at rest.
pub const TLS_SESSION_BYTES: usize = 40 << 10;

/// The largest buffer of records that is kept for the next ones, and how many a worker keeps.
pub const RECORDS_KEEP_BYTES: usize = 64 << 10;
/// See [`RECORDS_KEEP_BYTES`].
pub const RECORDS_SPARE_MAX: usize = 32;

/// Questions from the control plane that wait for one worker.
pub const ASKS_MAX: usize = 16;

/// How long a worker sleeps at most: second-exact deadlines need no more, and a missed wake-up
/// would cost no more.
pub const SLEEP_MAX_MS: u64 = 1000;

/// How long a worker stands still that is made to for a test, unless that says otherwise.
pub const STALL_MS_DEFAULT: u64 = 100;

/// How long a stop may take until what is still in flight is cut off, in seconds.
pub const DRAIN_S_DEFAULT: u32 = 5;

/// The longest that may be asked for (`--drain`).
pub const DRAIN_S_MAX: u32 = 3600;

/// How long a worker may take to see what it is told about a file that was read again.
pub const TELL_MAX_MS: u64 = 4000;

/// Ticks in which nothing of a connection arrives before a stop takes it for quiet. One would do on
/// a kernel that shows at once what it has; a receive that has to be armed again takes two.
pub const QUIET_TICKS: u8 = 8;

/// Bytes of one connection that are still taken once a stop has begun: about what the kernel may
/// hold for it by then. A client that never pauses must not hold up a stop with ever more requests.
pub const LATE_INPUT_MAX_BYTES: usize = 1 << 20;

/// How long a service manager may take to take what it is told.
pub const MANAGER_MAX_MS: u64 = 1000;

/// How much longer a worker may take to see that it is to end.
pub const END_MAX_MS: u64 = 500;

/// Client connections at most: what the kernel lets one ring hold.
pub const CONNS_MAX: usize = 1 << 20;

/// Workers at most: each ordered pair has two mailboxes.
pub const WORKERS_MAX: usize = 64;

/// Memory of one shard at least, in MiB.
pub const SHARD_MIN_MIB: usize = 1;

/// Slots of each mailbox between two of `workers` workers.
#[must_use]
pub fn mailbox_slots(workers: usize) -> usize {
    let share = MAILBOX_SLOTS / workers.max(1);
    share
        .next_power_of_two()
        .clamp(MAILBOX_SLOTS_MIN, MAILBOX_SLOTS_MAX)
}

/// The policies of `--eviction`, by name.
pub const EVICTIONS: [(&str, Eviction); 4] = [
    ("merge", Eviction::Merge),
    ("s3fifo", Eviction::S3Fifo),
    ("fifo", Eviction::Fifo),
    ("none", Eviction::None),
];

/// The policy when none is named.
pub const EVICTION_DEFAULT: Eviction = Eviction::S3Fifo;

/// What the operator has chosen. One for the whole server; workers share it read-only.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where to listen for TCP connections (`-l`, `-p`).
    pub listen: Vec<Listener>,
    /// The same as the operator wrote it; empty without TCP.
    pub listen_texts: Vec<String>,
    /// Unix socket path (`-s`).
    pub unix_path: Option<PathBuf>,
    /// Access mask of the unix socket (`-a`).
    pub unix_mask: u32,
    /// Memory for items and table of all shards at the start, in bytes (`-m`).
    pub memory_bytes: usize,
    /// What a full store drops (`--eviction`, or nothing by `-M`).
    pub eviction: Eviction,
    /// Workers (`-t`).
    pub workers: usize,
    /// Whether each worker is pinned to a core of its own.
    pub pin: bool,
    /// Client connections at most (`-c`).
    pub conns_max: usize,
    /// Largest item in bytes, counted as memcached counts (`-I`).
    pub item_max_bytes: u32,
    /// Requests of one session in one tick (`-R`).
    pub requests_per_tick: u32,
    /// Seconds without a request after which a TCP connection is closed; 0 never
    /// (`-o idle_timeout=`).
    pub idle_timeout_s: u32,
    /// Listen backlog (`-b`).
    pub backlog: i32,
    /// Whether `stats sizes` tells how many items are of which size (`-o track_sizes`).
    pub track_sizes: bool,
    /// Whether uniques are kept (`-C` turns it off).
    pub cas: bool,
    /// Whether `flush_all` is allowed (`-F` turns it off).
    pub flush: bool,
    /// Whether `shutdown` is allowed (`-A`).
    pub shutdown: bool,
    /// Whether items may be listed (`-X` turns it off).
    pub dump: bool,
    /// Whether `watch` is allowed (`-W` turns it off).
    pub watch: bool,
    /// What one watcher may be late with (`-o watcher_logbuf_size=`).
    pub watcher_log_bytes: usize,
    /// Log lines of one worker in one tick (`-o worker_logbuf_size=`).
    pub worker_log_bytes: usize,
    /// Names and passwords that clients are asked for (`-Y`); hashes and rights as well in a file whose
    /// name ends in `.toml`.
    pub auth_file: Option<PathBuf>,
    /// What ends a key's prefix (`-D`).
    pub prefix_delimiter: u8,
    /// Whether commands are counted by prefix from the start (`-D`).
    pub count_prefixes: bool,
    /// Whether `debugtime` moves the clock, for tests.
    pub debug_clock: bool,
    /// Options that were given and have no effect.
    pub unheeded: Vec<String>,
    /// How much is said on standard error (`-v`).
    pub verbosity: u8,
    /// Address of the admin endpoint, if any (`--admin`).
    pub admin: Option<SocketAddr>,
    /// What the admin endpoint's requests must name, if anything (`--admin-token-file`).
    pub admin_token: Option<String>,
    /// What is said while the server runs (`--log`).
    pub log_level: LogLevel,
    /// How (`--log-format`).
    pub log_format: LogFormat,
    /// How long a stop may take until what is still in flight is cut off (`--drain`).
    pub drain: Duration,
    /// Whether all memory is locked (`-k`).
    pub lock_memory: bool,
    /// Which back end carries the connections.
    pub io: IoChoice,
    /// What clients may speak, where their listener does not say otherwise (`-B`).
    pub protocol: Protocol,
    /// Certificates and what else TLS takes, where it is asked for (`-Z`).
    pub tls: Option<TlsSettings>,
    /// Whether each worker also listens on a port of its own (`--shard-ports`).
    pub shard_ports: bool,
    /// Whether it is counted how long requests and ticks take (`--no-latency` turns it off).
    pub latency: bool,
    /// Whether the keys asked for most are looked for (`--no-hot-keys` turns it off).
    pub hot_keys: bool,
    /// A worker that stands still once a second, for tests.
    pub stall: Option<Stall>,
}

/// A worker that stands still once a second (`--debug-stall`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Which one.
    pub worker: usize,
    /// For how long, in milliseconds.
    pub ms: u64,
}

/// Which back end carries the connections (`--io`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, epoll with a notice where not.
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll.
    Epoll,
}

/// How grave a line must be to be said (`--log`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// Only what ends the server or costs clients something.
    Error,
    /// What an operator should look at.
    Warn,
    /// What the server does: start, stop, files read again.
    Info,
    /// What helps those who look for a mistake.
    Debug,
}

/// For whom lines are written (`--log-format`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// For programs: an object a line.
    Json,
}

impl LogLevel {
    /// As the log's library has it.
    #[must_use]
    pub fn level(self) -> tracing::Level {
        match self {
            LogLevel::Error => tracing::Level::ERROR,
            LogLevel::Warn => tracing::Level::WARN,
            LogLevel::Info => tracing::Level::INFO,
            LogLevel::Debug => tracing::Level::DEBUG,
        }
    }
}

/// What clients may speak (`-B`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// Each connection's first byte decides.
    #[default]
    Auto,
    /// The text protocol.
    Ascii,
    /// The binary protocol.
    Binary,
}

/// Where to listen for TCP connections, and what connections from there may expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// The address; a port of 0 lets the kernel choose.
    pub address: SocketAddr,
    /// How its connections begin.
    pub entry: Entry,
}

/// How a connection begins, which its listener decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What the client may speak.
    pub protocol: Protocol,
    /// Whether the bytes are those of TLS.
    pub guard: Guard,
}

impl Protocol {
    /// As `stats settings` has it, which is memcached's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Auto => "auto-negotiate",
            Protocol::Ascii => "ascii",
            Protocol::Binary => "binary",
        }
    }
}

/// Whether a file of users has hashes and rights.
#[must_use]
pub fn is_accounts(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "toml")
}

impl Settings {
    /// The name of the eviction policy.
    #[must_use]
    pub fn eviction_name(&self) -> &'static str {
        let named = EVICTIONS
            .iter()
            .find(|(_, policy)| *policy == self.eviction);
        named.map_or("", |(name, _)| name)
    }

    /// Whether passwords are hashed and users have rights.
    #[must_use]
    pub fn has_accounts(&self) -> bool {
        let path = self.auth_file.as_deref();
        path.is_some_and(is_accounts)
    }

    /// Every file that is named.
    pub fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self.tls.iter_mut().flat_map(|tls| {
            let key_and_ca = tls.key.iter_mut().chain(&mut tls.ca_cert);
            key_and_ca.chain([&mut tls.chain_cert])
        });
        self.unix_path
            .iter_mut()
            .chain(&mut self.auth_file)
            .chain(tls)
    }

    /// memcached's defaults, on a loopback address and an ephemeral port: what tests start from.
    #[must_use]
    pub fn for_tests(workers: usize) -> Self {
        Self {
            listen: vec![Listener {
                address: SocketAddr::from(([127, 0, 0, 1], 0)),
                entry: Entry::default(),
            }],
            listen_texts: Vec::new(),
            unix_path: None,
            unix_mask: 0o700,
            memory_bytes: 64 << 20,
            eviction: EVICTION_DEFAULT,
            workers,
            pin: false,
            conns_max: 1024,
            item_max_bytes: 1 << 20,
            requests_per_tick: REQUESTS_PER_TICK_DEFAULT,
            idle_timeout_s: 0,
            backlog: BACKLOG_DEFAULT,
            track_sizes: false,
            cas: true,
            flush: true,
            shutdown: false,
            dump: true,
            watch: true,
            watcher_log_bytes: WATCHER_LOG_BYTES_DEFAULT,
            worker_log_bytes: WORKER_LOG_BYTES_DEFAULT,
            auth_file: None,
            prefix_delimiter: PREFIX_DELIMITER_DEFAULT,
            count_prefixes: false,
            debug_clock: false,
            unheeded: Vec::new(),
            verbosity: 0,
            admin: None,
            admin_token: None,
            log_level: LogLevel::Info,
            log_format: LogFormat::Human,
            drain: Duration::from_secs(DRAIN_S_DEFAULT.into()),
            lock_memory: false,
            io: IoChoice::Auto,
            protocol: Protocol::Auto,
            tls: None,
            shard_ports: false,
            latency: true,
            hot_keys: true,
            stall: None,
        }
    }
}
