//! The shapes of requests. A request borrows its key from the input it was parsed from and is otherwise plain numbers.

use crate::meta::Meta;

/// One request, as far as the protocol can tell; whether it succeeds is for whoever holds the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// One key of a retrieval line.
    Get(GetKey<'a>),
    /// The line of a storage command. Its data block follows in the input and is the caller's to take.
    Store(Store<'a>),
    /// Remove an item.
    Delete {
        /// 1 to 250 bytes.
        key: &'a [u8],
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// Add to or subtract from a number in decimal digits.
    Arith {
        /// Which of the two.
        verb: ArithVerb,
        /// 1 to 250 bytes.
        key: &'a [u8],
        /// The amount.
        delta: u64,
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// Give an item a new deadline.
    Touch {
        /// 1 to 250 bytes.
        key: &'a [u8],
        /// The exptime; see [`crate::Expiry`].
        exptime: i64,
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// Make every item that is older than a point in time a miss.
    FlushAll {
        /// The exptime from which on it holds; `None` when it is no number. Absent is 0; 0 and less mean now.
        exptime: Option<i64>,
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// Make every item a miss whose key begins with a prefix and the delimiter; Strata's own.
    FlushPrefix {
        /// 1 to 250 bytes.
        prefix: &'a [u8],
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// Ask for the version. Has a reply even when `noreply` is given.
    Version,
    /// Set the verbosity of the log.
    Verbosity {
        /// As given; memcached takes 2 for anything larger.
        level: u32,
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// Set how much memory the cache may use.
    MemoryLimit {
        /// In units of 2^20 bytes; at least 8 and at most 1 000 000 000.
        megabytes: u32,
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// Close the connection once the earlier replies are sent.
    Quit,
    /// Ask for statistics. Has a reply even when `noreply` is given.
    Stats(StatsSubject),
    /// End the server, if it allows that.
    Shutdown {
        /// How to end it.
        mode: ShutdownMode,
        /// Whether a refusal is to be left out.
        noreply: bool,
    },
    /// A meta command about a key. The data block of an `ms` follows in the input and is the caller's to take.
    Meta(Meta<'a>),
    /// `mn`: does nothing, is answered with `MN`, and asks for earlier replies to be sent at once.
    Nop,
    /// Become a stream of what happens. Has a reply even when `noreply` is given.
    Watch {
        /// What of it.
        kinds: WatchKinds,
    },
    /// An order about the search through all items.
    Crawler {
        /// Which.
        order: CrawlerOrder,
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// Give pages of one item class to another.
    SlabsReassign {
        /// From this class.
        from: i32,
        /// To this one.
        to: i32,
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// A well-formed order to a part that only memcached has: `OK`, and nothing to do.
    Moot {
        /// Whether the reply is to be left out.
        noreply: bool,
    },
    /// Read the certificates of TLS again. There is no way to have the reply left out.
    RefreshCerts,
    /// Move the server's clock, for tests.
    DebugTime {
        /// How.
        step: ClockStep,
        /// Whether the reply is to be left out.
        noreply: bool,
    },
}

/// One key of a retrieval line. A line of `n` keys is `n` of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetKey<'a> {
    /// Which retrieval command the line is.
    pub kind: GetKind,
    /// The new exptime for `gat` and `gats`, 0 otherwise; see [`crate::Expiry`].
    pub exptime: i64,
    /// 1 to 250 bytes, with no space and no `\n` in it.
    pub key: &'a [u8],
    /// Whether this is the first key of its line.
    pub first: bool,
    /// Whether this is the last key of its line: `END` follows its reply.
    pub last: bool,
}

/// The four retrieval commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GetKind {
    /// Return the value.
    Get,
    /// Return the value and its CAS unique.
    Gets,
    /// Return the value and give the item a new exptime.
    Gat,
    /// Return the value and its CAS unique, and give the item a new exptime.
    Gats,
}

impl GetKind {
    /// Whether the reply names the CAS unique.
    pub fn wants_cas(self) -> bool {
        matches!(self, GetKind::Gets | GetKind::Gats)
    }

    /// Whether the item gets a new exptime.
    pub fn touches(self) -> bool {
        matches!(self, GetKind::Gat | GetKind::Gats)
    }
}

/// The line of a storage command, without its data block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store<'a> {
    /// Which storage command it is.
    pub verb: StoreVerb,
    /// 1 to 250 bytes, with no space and no `\n` in it.
    pub key: &'a [u8],
    /// Opaque to the server.
    pub flags: u32,
    /// The exptime, truncated to 32 bits as memcached does; see [`crate::Expiry`].
    pub exptime: i64,
    /// Length of the value in bytes, at most [`crate::VALUE_MAX_BYTES`].
    pub value_bytes: u32,
    /// The unique the item must have, for `cas`; 0 otherwise.
    pub cas: u64,
    /// Whether the reply is to be left out, errors about the data block included.
    pub noreply: bool,
}

impl Store<'_> {
    /// How many bytes of the input the data block is: the value and its line end. Whoever refuses the value still takes them all.
    pub fn block_bytes(&self) -> u64 {
        u64::from(self.value_bytes) + 2
    }
}

/// The six storage commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreVerb {
    /// Store whether or not the key exists.
    Set,
    /// Store if the key does not exist.
    Add,
    /// Store if the key exists.
    Replace,
    /// Put the data behind what is there; flags and exptime of the request are ignored.
    Append,
    /// Put the data before what is there; flags and exptime of the request are ignored.
    Prepend,
    /// Store if the item still has the given CAS unique.
    Cas,
}

/// Whether the two bytes behind a value are the line end they must be. A bare `\n` is not.
pub fn block_ends_well(tail: [u8; 2]) -> bool {
    tail == *b"\r\n"
}

/// The two arithmetic commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithVerb {
    /// Add, wrapping at 2^64.
    Incr,
    /// Subtract, stopping at 0.
    Decr,
}

/// What statistics are asked for. memcached takes any prefix of most of these words, and so does the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatsSubject {
    /// `stats` alone.
    General,
    /// Set the counters to zero.
    Reset,
    /// The settings in force.
    Settings,
    /// Counters by item class.
    Items,
    /// Counters by memory class.
    Slabs,
    /// Histogram of item sizes.
    Sizes,
    /// The open connections.
    Conns,
    /// Figures of each worker; Strata's own word.
    Workers,
    /// The segments of the store; Strata's own word.
    Segments,
    /// How long the items have to live; Strata's own word.
    Ttl,
    /// How long requests take inside the server; Strata's own word.
    Latency {
        /// Forget what was recorded, instead of telling it.
        reset: bool,
    },
    /// The keys asked for most; Strata's own word.
    Hotkeys {
        /// At most this many, 0 for the usual number.
        limit: u32,
    },
    /// The flash storage, of which there is nothing to say.
    Extstore,
    /// Counters by key prefix.
    Detail(DetailSwitch),
    /// List items of one class.
    Cachedump {
        /// The class; below 64.
        class_id: u32,
        /// At most this many items, 0 for no limit.
        limit: u32,
    },
    /// A word that names nothing: the answer is `ERROR`.
    Unknown,
}

/// What to do with the counters by key prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetailSwitch {
    /// Begin counting.
    On,
    /// Stop counting.
    Off,
    /// Print the counters.
    Dump,
}

/// How the server is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// At once.
    Immediate,
    /// After putting its state in order.
    Graceful,
    /// A word that names no mode. It is an error only where shutdown is allowed at all, so the caller decides:
    /// [`crate::ServerError::ShutdownDisabled`] or [`crate::ClientError::ShutdownMode`].
    Unknown,
}

/// What a watcher is told of, a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchKinds(u16);

impl WatchKinds {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Commands as they come.
    pub const RAWCMDS: Self = Self(1);
    /// Items dropped to make room.
    pub const EVICTIONS: Self = Self(1 << 1);
    /// Items asked for.
    pub const FETCHERS: Self = Self(1 << 2);
    /// Items stored.
    pub const MUTATIONS: Self = Self(1 << 3);
    /// What the server does by itself.
    pub const SYSEVENTS: Self = Self(1 << 4);
    /// Connections that begin and end.
    pub const CONNEVENTS: Self = Self(1 << 5);
    /// Items deleted.
    pub const DELETIONS: Self = Self(1 << 6);
    /// Keys asked for most, once a second; Strata's own.
    pub const HOTKEYS: Self = Self(1 << 7);

    /// The kind that memcached finds by this word or the beginning of it. Those of its proxy are taken, and never happen.
    pub fn named(word: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], WatchKinds); 11] = [
            (b"rawcmds", WatchKinds::RAWCMDS),
            (b"evictions", WatchKinds::EVICTIONS),
            (b"fetchers", WatchKinds::FETCHERS),
            (b"mutations", WatchKinds::MUTATIONS),
            (b"sysevents", WatchKinds::SYSEVENTS),
            (b"connevents", WatchKinds::CONNEVENTS),
            (b"proxyreqs", WatchKinds::NONE),
            (b"proxyevents", WatchKinds::NONE),
            (b"proxyuser", WatchKinds::NONE),
            (b"deletions", WatchKinds::DELETIONS),
            (b"hotkeys", WatchKinds::HOTKEYS),
        ];
        let found = NAMES.iter().find(|(name, _)| name.starts_with(word));
        found.map(|(_, kind)| *kind)
    }

    /// The kinds of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the two have a kind in common.
    #[inline]
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// As a number, to be kept where only numbers can be.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The kinds that [`WatchKinds::bits`] gave.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

/// An order about the search through all items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrawlerOrder {
    /// Allow it.
    Enable,
    /// Forbid it.
    Disable,
    /// Search for what has expired.
    Crawl(CrawlScope),
    /// List all items with what is known of them.
    Metadump(CrawlScope),
    /// List all keys as commands that fetch them.
    Mgdump(CrawlScope),
}

/// Where the search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrawlScope {
    /// Through the hash table.
    Hash,
    /// Through the item classes whose bits are set.
    Classes(u64),
    /// To a class that cannot exist.
    BadClass,
}

/// How the clock of a test moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockStep {
    /// It stands still.
    Pause,
    /// It goes on.
    Resume,
    /// So many seconds ahead, on top of all steps before.
    Forward(u32),
}
