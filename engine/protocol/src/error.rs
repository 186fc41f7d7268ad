//! The errors of the protocol and their exact texts, each a full line.

/// What a client did wrong. It costs the client at most this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// No such command, or no such subject of `stats`.
    UnknownCommand,
    /// A line that is not as its command wants it.
    BadFormat,
    /// A retrieval line names a key of more than 250 bytes. memcached ends this line with two line ends; a client sees an empty line.
    GetKeyTooLong,
    /// The exptime of `touch`, `gat`, `gats` or `flush_all` is not a 32-bit number.
    BadExptime,
    /// The delta of `incr` or `decr` is not an unsigned 64-bit number.
    BadDelta,
    /// `incr` or `decr` of a value that is not an unsigned 64-bit number.
    NonNumeric,
    /// The data block does not end with `\r\n`.
    BadDataChunk,
    /// `flush_all` where it is disabled.
    FlushNotAllowed,
    /// `flush_prefix` where flushing is disabled.
    FlushPrefixNotAllowed,
    /// `cache_memlimit` of less than eight megabytes.
    MemoryLimitTooSmall,
    /// `cache_memlimit` of so many megabytes that bytes must have been meant.
    MemoryLimitInBytes,
    /// `cache_memlimit` of more or less than the server can have.
    MemoryLimitOutOfBounds,
    /// `shutdown` with an unknown mode.
    ShutdownMode,
    /// `stats cachedump` without a class and a limit.
    CachedumpUsage,
    /// `stats cachedump` of a class that cannot exist.
    CachedumpClass,
    /// `stats cachedump` where it is disabled.
    CachedumpNotAllowed,
    /// `stats hotkeys` where it is disabled.
    HotkeysNotAllowed,
    /// `watch hotkeys` where nobody looks for them.
    HotkeysOff,
    /// `stats detail` where it is disabled.
    DetailNotAllowed,
    /// `stats detail` without on, off or dump.
    DetailUsage,
    /// `watch` where it is disabled.
    WatchNotAllowed,
    /// `watch` behind commands whose replies are not sent.
    WatchPipelined,
    /// `watch` when there are as many watchers as there may be.
    WatchersMany,
    /// `lru_crawler enable` of one that is enabled.
    CrawlerEnabled,
    /// `lru_crawler` with something to search while it is disabled.
    CrawlerDisabled,
    /// `lru_crawler sleep` of more than a second.
    CrawlerSleep,
    /// A search while another one is under way.
    CrawlerBusy,
    /// A search of a class that cannot exist.
    CrawlerClass,
    /// `lru_crawler crawl hash`, which only dumps can.
    CrawlerUnknown,
    /// `lru_crawler metadump` where it is disabled.
    MetadumpNotAllowed,
    /// `lru_crawler mgdump` where it is disabled.
    MgdumpNotAllowed,
    /// `lru_crawler metadump` behind commands whose replies are not sent.
    MetadumpPipelined,
    /// `lru_crawler mgdump` behind commands whose replies are not sent.
    MgdumpPipelined,
    /// `slabs reassign` from a class to itself.
    SlabsSame,
    /// `slabs reassign` of a class that does not exist.
    SlabsClass,
    /// `slabs reassign` from a class that has no page to give.
    SlabsNoSpare,
    /// `slabs automove window` of less than 3 or more than 1800.
    AutomoveWindow,
    /// `lru tune` of more than 80 percent.
    LruPercents,
    /// `lru tune` with a factor of 0 or less.
    LruFactors,
    /// Anything but a name and password before they were right.
    Unauthenticated,
    /// A name and password of more than 16 KiB.
    AuthTooLong,
    /// A name and password without their line end.
    AuthTermination,
    /// A name without a password.
    AuthFormat,
    /// A name and password that are nobody's.
    AuthFailure,
    /// What a user asks for who may not do it.
    AccessDenied,
    /// More words than a meta line may have.
    OptionsTooLong,
    /// A flag stands twice in a meta line.
    DuplicateFlag,
    /// A flag that no meta command has.
    InvalidFlag,
    /// The number behind a meta flag is none.
    BadToken,
    /// The key of a meta command is not base64 although it should be.
    KeyEncoding,
    /// An opaque of more than 32 characters.
    OpaqueTooLong,
    /// The `J` of a meta command is not an unsigned 64-bit number.
    BadInitial,
    /// The `D` of a meta command is not an unsigned 64-bit number.
    BadMetaDelta,
    /// An `ms` in an unknown mode.
    StoreMode,
    /// An `ma` in an unknown mode.
    ArithMode,
    /// Anything wrong with the flags of an `ma`.
    ArithFlag,
}

impl ClientError {
    /// The reply, line end included.
    pub const fn wire(self) -> &'static [u8] {
        match self {
            ClientError::UnknownCommand => b"ERROR\r\n",
            ClientError::BadFormat => b"CLIENT_ERROR bad command line format\r\n",
            ClientError::GetKeyTooLong => b"CLIENT_ERROR bad command line format\r\n\r\n",
            ClientError::BadExptime => b"CLIENT_ERROR invalid exptime argument\r\n",
            ClientError::BadDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
            ClientError::NonNumeric => {
                b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
            }
            ClientError::BadDataChunk => b"CLIENT_ERROR bad data chunk\r\n",
            ClientError::FlushNotAllowed => b"CLIENT_ERROR flush_all not allowed\r\n",
            ClientError::FlushPrefixNotAllowed => b"CLIENT_ERROR flush_prefix not allowed\r\n",
            ClientError::MemoryLimitTooSmall => {
                b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"
            }
            ClientError::MemoryLimitInBytes => {
                b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"
            }
            ClientError::MemoryLimitOutOfBounds => {
                b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n"
            }
            ClientError::ShutdownMode => b"CLIENT_ERROR invalid shutdown mode\r\n",
            ClientError::CachedumpUsage => b"CLIENT_ERROR bad command line\r\n",
            ClientError::CachedumpClass => b"CLIENT_ERROR Illegal slab id\r\n",
            ClientError::CachedumpNotAllowed => b"CLIENT_ERROR stats cachedump not allowed\r\n",
            ClientError::HotkeysNotAllowed => b"CLIENT_ERROR stats hotkeys not allowed\r\n",
            ClientError::HotkeysOff => b"CLIENT_ERROR nobody looks for hot keys\r\n",
            ClientError::DetailNotAllowed => b"CLIENT_ERROR stats detail not allowed\r\n",
            ClientError::OptionsTooLong => b"CLIENT_ERROR options flags are too long\r\n",
            ClientError::DuplicateFlag => b"CLIENT_ERROR duplicate flag\r\n",
            ClientError::InvalidFlag => b"CLIENT_ERROR invalid flag\r\n",
            ClientError::BadToken => b"CLIENT_ERROR bad token in command line format\r\n",
            ClientError::KeyEncoding => b"CLIENT_ERROR error decoding key\r\n",
            ClientError::OpaqueTooLong => b"CLIENT_ERROR opaque token too long\r\n",
            ClientError::BadInitial => b"CLIENT_ERROR invalid numeric initial value\r\n",
            ClientError::BadMetaDelta => b"CLIENT_ERROR invalid numeric delta value\r\n",
            ClientError::StoreMode => b"CLIENT_ERROR invalid mode for ms M token\r\n",
            ClientError::ArithMode => b"CLIENT_ERROR invalid mode for ma M token\r\n",
            ClientError::ArithFlag => b"CLIENT_ERROR invalid or duplicate flag\r\n",
            ClientError::DetailUsage => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
            ClientError::WatchNotAllowed => b"CLIENT_ERROR watch commands not allowed\r\n",
            ClientError::WatchPipelined => b"ERROR cannot pipeline other commands before watch\r\n",
            ClientError::WatchersMany => b"WATCHER_TOO_MANY log watcher limit reached\r\n",
            ClientError::CrawlerEnabled => b"ERROR failed to start lru crawler thread\r\n",
            ClientError::CrawlerDisabled => b"CLIENT_ERROR lru crawler disabled\r\n",
            ClientError::CrawlerSleep => b"CLIENT_ERROR sleep must be one second or less\r\n",
            ClientError::CrawlerBusy => b"BUSY currently processing crawler request\r\n",
            ClientError::CrawlerClass => b"BADCLASS invalid class id\r\n",
            ClientError::CrawlerUnknown => b"ERROR an unknown error happened\r\n",
            ClientError::MetadumpNotAllowed => b"ERROR metadump not allowed\r\n",
            ClientError::MgdumpNotAllowed => b"ERROR key dump not allowed\r\n",
            ClientError::MetadumpPipelined => {
                b"ERROR cannot pipeline other commands before metadump\r\n"
            }
            ClientError::MgdumpPipelined => {
                b"ERROR cannot pipeline other commands before mgdump\r\n"
            }
            ClientError::SlabsSame => b"SAME src and dst class are identical\r\n",
            ClientError::SlabsClass => b"BADCLASS invalid src or dst class id\r\n",
            ClientError::SlabsNoSpare => b"NOSPARE source class has no spare pages\r\n",
            ClientError::AutomoveWindow => b"CLIENT_ERROR automove window too low or too high\r\n",
            ClientError::LruPercents => b"ERROR hot and warm pcts must not exceed 80\r\n",
            ClientError::LruFactors => b"ERROR hot/warm age factors must be greater than 0\r\n",
            ClientError::Unauthenticated => b"CLIENT_ERROR unauthenticated\r\n",
            ClientError::AuthTooLong => b"CLIENT_ERROR auth token too long\r\n",
            ClientError::AuthTermination => b"CLIENT_ERROR bad command line termination\r\n",
            ClientError::AuthFormat => b"CLIENT_ERROR bad authentication token format\r\n",
            ClientError::AuthFailure => b"CLIENT_ERROR authentication failure\r\n",
            ClientError::AccessDenied => b"CLIENT_ERROR access denied\r\n",
        }
    }
}

/// What the server could not do for a well-formed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerError {
    /// The item would exceed the largest one allowed.
    TooLarge,
    /// No room for the item, and nothing may be evicted for it.
    OutOfMemoryStoring,
    /// No room for the number that `incr` or `decr` makes.
    OutOfMemory,
    /// No room to answer a retrieval command.
    OutOfMemoryReplying,
    /// `shutdown` where it is not enabled. The colon is memcached's.
    ShutdownDisabled,
    /// More prefixes flushed than can be remembered until what has them is dropped.
    FlushesMany,
    /// A name and password while so many others are being checked that this one is not.
    LoginsMany,
}

impl ServerError {
    /// The reply, line end included.
    pub const fn wire(self) -> &'static [u8] {
        match self {
            ServerError::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
            ServerError::OutOfMemoryStoring => b"SERVER_ERROR out of memory storing object\r\n",
            ServerError::OutOfMemory => b"SERVER_ERROR out of memory\r\n",
            ServerError::OutOfMemoryReplying => {
                b"SERVER_ERROR out of memory writing get response\r\n"
            }
            ServerError::ShutdownDisabled => b"SERVER_ERROR: shutdown not enabled\r\n",
            ServerError::FlushesMany => b"SERVER_ERROR too many prefixes are being flushed\r\n",
            ServerError::LoginsMany => {
                b"SERVER_ERROR too many passwords wait to be checked, try again later\r\n"
            }
        }
    }
}
