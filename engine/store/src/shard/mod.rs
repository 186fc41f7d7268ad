//! The shard: the only type that sees the table, the segments and the time together.
//!
//! ```text
//! read      lookups, fetch frequencies, CAS uniques
//! write     every command that makes an item: set and its kin, append, arith
//! room      where a new item goes: the open segment of its TTL bucket, or a page won for it
//! deadline  touch, and how an item tells when it dies
//! relocate  an item moves to another segment
//! limit     how much memory is in use: it grows and shrinks
//! remove    delete, flush, and how an item leaves
//! prefix    flushes of one prefix of the keys
//! meta      what the meta commands ask beyond that: stale items, winners, last access, uniques that clients choose
//! ```
//!
//! Always true between two calls: every item not marked dead has one entry in the table and every entry leads to such
//! an item; the notes of each page agree with the items in it (`audit` recounts both).

mod deadline;
mod inspect;
mod limit;
mod meta;
mod prefix;
mod read;
mod relocate;
mod remove;
mod room;
mod write;

pub use inspect::{Evicted, Peek, ScanPlace, SegmentSight, Sight, TtlClass};

use crate::counters::{Counters, Usage};
use crate::item;
use crate::key::{KEY_BYTES_MAX, KeyHasher};
use crate::reclaim::Reclaim;
use crate::segment::arena::{Arena, Kind, Memory, PAGE_BYTES_MIN, granule_shift_for};
use crate::segment::chains::Chains;
use crate::table::{LINE_BYTES, Table};
use crate::ttl::{Deadline, NEVER, TtlBuckets};

pub use limit::LimitOutOfRange;
pub use meta::{
    CountOutcome, Counted, Counting, Fetch, Fetched, Inspected, Invalidation, InvalidationOutcome,
    MetaSet, MetaSetOutcome, SetMode, Vivify,
};
pub use prefix::FlushesMany;
pub use read::Probe;
pub(crate) use relocate::moved_size;

/// What memcached charges an item besides key, value and flags: its header, the CAS unique, the key's NUL, and CR LF.
const MEMCACHED_ITEM_BYTES: usize = 48 + 8 + 1 + 2;
/// The least memory a shard works in.
const MEMORY_BYTES_MIN: usize = 1 << 20;
/// The largest item limit.
const ITEM_MAX_BYTES: u32 = 1 << 30;

/// What happens when memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// The popular items of old segments are packed together and the others dropped; a store always finds room.
    Merge,
    /// New items wait in a small queue; those fetched there move to the main queue, where they stay as long as they are
    /// fetched; the others are dropped, and remembered for a while. A store always finds room.
    S3Fifo,
    /// The oldest segment is dropped whole, whatever was fetched of it; a store always finds room.
    Fifo,
    /// Nothing is dropped; a store that finds no room answers [`SetOutcome::NoMemory`].
    None,
}

/// What a shard is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct ShardConfig {
    /// The largest item, counted as memcached counts (see [`Shard::item_max_value`]): 1 KiB to 1 GiB, and no more than
    /// half of the shard's memory.
    pub item_max_bytes: u32,
    /// What happens when memory is full.
    pub eviction: Eviction,
    /// Seeds the sampling of fetch frequencies. Not the hash: that is the [`KeyHasher`]'s.
    pub seed: u64,
}

/// The memory is too small for a shard with these limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooSmall {
    /// Bytes passed in.
    pub have_bytes: usize,
    /// Bytes needed: 1 MiB, or twice the largest item.
    pub need_bytes: usize,
}

impl std::fmt::Display for TooSmall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a shard needs {} bytes of memory (at least twice the largest item) but has {}",
            self.need_bytes, self.have_bytes
        )
    }
}

impl std::error::Error for TooSmall {}

/// What is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewItem<'a> {
    /// Opaque to the store; costs four bytes unless zero.
    pub flags: u32,
    /// When the item dies. One that has passed already removes the old item and stores nothing.
    pub deadline: Deadline,
    /// The value.
    pub value: &'a [u8],
}

/// Whether a lookup hands out the CAS unique. One that is handed out may cost the item eight bytes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// [`crate::Hit::cas`] is zero.
    Unasked,
    /// [`crate::Hit::cas`] is the unique.
    Wanted,
}

/// How a store ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetOutcome {
    /// The item is there (or was stored with a deadline in the past).
    Stored,
    /// The condition of add, replace, append or prepend was not met.
    NotStored,
    /// The CAS unique is another one by now.
    Exists,
    /// Compare-and-swap of an item that is not there.
    NotFound,
    /// Larger than the limit. A set also removed the old item.
    TooLarge,
    /// No room, and nothing may be (or, with too many loans, could be) dropped. A set also removed the old item.
    NoMemory,
}

/// How a delete ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// It was there.
    Deleted,
    /// It was not.
    NotFound,
}

/// How a touch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TouchOutcome {
    /// The item has the new deadline.
    Touched,
    /// There is no such item.
    NotFound,
    /// The item would have had to move and there was no room; it keeps its old deadline.
    NoMemory,
}

/// Which way a number goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// Up, wrapping at 2^64.
    Incr,
    /// Down, stopping at 0.
    Decr,
}

/// How incr or decr ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArithOutcome {
    /// The new number.
    Value(u64),
    /// There is no such item.
    NotFound,
    /// The value is not a number as memcached reads it, or is large.
    NonNumeric,
    /// The number grew and there was no room for it; the old one stays.
    NoMemory,
}

/// Why an item leaves the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Command,
    Expired,
    Flushed,
    Evicted,
}

/// There is no room and none can be made.
pub(crate) struct NoMemory;

/// One shard of the cache. `M` is its memory: any slice of bytes, whose contents at the start do not matter.
pub struct Shard<M> {
    pub(crate) arena: Arena<M>,
    pub(crate) table: Table,
    pub(crate) chains: Chains,
    pub(crate) ttl: TtlBuckets,
    pub(crate) hasher: KeyHasher,
    pub(crate) eviction: Eviction,
    pub(crate) counters: Counters,
    pub(crate) reclaim: Reclaim,
    /// What is noted of evictions, for who watches.
    pub(crate) witness: inspect::Witness,
    item_max_bytes: usize,
    /// The memory limit at the start.
    first_limit_bytes: usize,
    /// Epoch of the next segment opened.
    next_epoch: u64,
    /// Items of segments of an earlier epoch are flushed.
    pub(crate) flush_epoch: u64,
    /// Items of segments of an earlier epoch may be flushed, by that flush or by one of their prefix.
    pub(crate) suspect_epoch: u64,
    prefixes: prefix::PrefixFlushes,
    /// When a delayed flush comes due; `NEVER` when none is pending.
    flush_at: u32,
    random: u64,
    /// Until when new items get a place to note when they were last fetched.
    pub(crate) access_noted_until: u32,
    /// Bytes a prefetch of an item asks for: those of an average one.
    prefetch_bytes: usize,
}

impl<M: Memory> Shard<M> {
    /// A shard that uses all of `memory`. Allocates its notes (64 bytes a page and some more) here and nothing later.
    ///
    /// # Errors
    /// [`TooSmall`] when `memory` is less than 1 MiB or less than twice the largest item.
    ///
    /// # Panics
    /// When the item limit is not between 1 KiB and 1 GiB.
    pub fn new(memory: M, hasher: KeyHasher, config: ShardConfig) -> Result<Self, TooSmall> {
        let limit_bytes = memory.as_ref().len();
        Self::with_limit(memory, limit_bytes, hasher, config)
    }

    /// As [`Shard::new`], but uses only the first `limit_bytes` of `memory` for now; it can grow later
    /// ([`Shard::set_memory_limit`]). The sizes of pages and table follow the limit. What lies beyond it costs nothing
    /// but addresses, in `memory` as well as in the notes.
    ///
    /// # Errors
    /// [`TooSmall`] when the limit is less than 1 MiB or less than twice the largest item.
    ///
    /// # Panics
    /// When the item limit is not between 1 KiB and 1 GiB.
    pub fn with_limit(
        memory: M,
        limit_bytes: usize,
        hasher: KeyHasher,
        config: ShardConfig,
    ) -> Result<Self, TooSmall> {
        let granule_shift = granule_shift_for(memory.as_ref().len());
        Self::with_granule(memory, limit_bytes, hasher, config, granule_shift)
    }

    /// As [`Shard::with_limit`], with the granule of larger memory.
    pub(crate) fn with_granule(
        memory: M,
        limit_bytes: usize,
        hasher: KeyHasher,
        config: ShardConfig,
        granule_shift: u32,
    ) -> Result<Self, TooSmall> {
        assert!(
            (1024..=ITEM_MAX_BYTES).contains(&config.item_max_bytes),
            "the item limit of {} bytes is not between 1 KiB and 1 GiB",
            config.item_max_bytes
        );
        let have_bytes = memory.as_ref().len().min(limit_bytes);
        let need_bytes = MEMORY_BYTES_MIN.max(2 * config.item_max_bytes as usize);
        if have_bytes < need_bytes {
            return Err(TooSmall {
                have_bytes,
                need_bytes,
            });
        }
        let mut arena = Arena::new(memory, have_bytes, granule_shift);
        let table = Table::new(&mut arena);
        let ttl = TtlBuckets::new(arena.page_count());
        Ok(Self {
            table,
            chains: Chains::new(ttl.count()),
            ttl,
            hasher,
            eviction: config.eviction,
            counters: Counters::default(),
            reclaim: Reclaim::new(arena.page_count(), config.eviction),
            witness: inspect::Witness::default(),
            item_max_bytes: config.item_max_bytes as usize,
            first_limit_bytes: have_bytes,
            next_epoch: 1,
            flush_epoch: 0,
            suspect_epoch: 0,
            prefixes: prefix::PrefixFlushes::new(),
            flush_at: NEVER,
            random: config.seed | 1,
            access_noted_until: 0,
            prefetch_bytes: LINE_BYTES,
            arena,
        })
    }

    /// The largest value accepted for a key of `key_len` bytes: memcached's own sum, so that both refuse the same
    /// items. (With the default of 1 MiB: 1 048 517 less the key, less 4 when flags are not 0.) Saturates at 0.
    #[must_use]
    pub fn item_max_value(&self, key_len: usize, flags: u32) -> usize {
        let flags_bytes = if flags == 0 { 0 } else { item::FLAGS_BYTES };
        self.item_max_bytes
            .saturating_sub(MEMCACHED_ITEM_BYTES + key_len + flags_bytes)
    }

    /// Totals and present state.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sets the totals of [`Shard::counters`] to zero; what is held now stays counted.
    pub fn reset_counters(&mut self) {
        self.counters.reset();
    }

    /// How the memory is used. Walks the notes of all pages.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage {
            page_bytes: self.arena.page_bytes(),
            pages_total: self.arena.present_count(),
            pages_absent: self.arena.most() - self.arena.present_count(),
            pages_free: self.arena.free_count(),
            pages_lent: self.arena.lent_count(),
            items: self.counters.items,
            bytes: self.counters.bytes,
            hash_buckets: self.table.bucket_count(),
            hash_entries: self.table.entries(),
            ghosts: self.table.ghosts(),
            pages_small: self.chains.small_pages,
            side_bytes: size_of_val(&self.arena.pages.list[..])
                + size_of_val(&self.chains.chains[..])
                + self.table.side_bytes()
                + self.prefixes.side_bytes(),
            prefixes_flushed: self.prefixes.count(),
            ..Usage::default()
        };
        for page in &self.arena.pages.list {
            match page.kind {
                Kind::Free | Kind::Absent => {}
                Kind::Table => usage.pages_table += 1,
                Kind::Open | Kind::Sealed | Kind::Target => usage.pages_segment += 1,
                Kind::Extension => usage.pages_extension += 1,
                Kind::Zombie => usage.pages_zombie += 1,
            }
        }
        usage
    }
}

const _: () = assert!(PAGE_BYTES_MIN > item::HEADER_BYTES + KEY_BYTES_MAX + 33);
