//! What a shard counts, and how its memory is used.
//!
//! Always true: `items` and `bytes` are what a recount of all segments gives; the others only grow.

use crate::table::bucket::SLOTS;

/// Plain totals since the start, except `items` and `bytes`, which are the present state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Items in the table, also those expired or flushed that upkeep has not met yet.
    pub items: u64,
    /// Bytes of those items: header, key, value, and whole extension pages of large values.
    pub bytes: u64,
    /// Items ever stored (memcached's `total_items`): sets and everything else that writes an item anew.
    pub total_items: u64,
    /// Items dropped to make room.
    pub evictions: u64,
    /// Of `evictions`, those never fetched.
    pub evicted_unfetched: u64,
    /// Items removed because their deadline passed.
    pub expired: u64,
    /// Of `expired`, those never fetched.
    pub expired_unfetched: u64,
    /// Items removed because of a flush.
    pub flushed: u64,
    /// Commands that met an expired item (memcached's `get_expired`).
    pub get_expired: u64,
    /// Commands, other than plain sets, that met a flushed item (memcached's `get_flushed`).
    pub get_flushed: u64,
    /// Items moved to another segment by merge or compaction.
    pub moved: u64,
    /// Stores of a key that was dropped and is still remembered; they go to the main queue.
    pub ghost_hits: u64,
    /// Items moved from the small queue to the main one because they were fetched, or are very small. Part of `moved`.
    pub promotions: u64,
    /// Items kept in the main queue because they were fetched. Part of `moved`.
    pub reinsertions: u64,
    /// Segments given back after all in them died or moved away.
    pub segments_reclaimed: u64,
    /// Evictions because both hash buckets of a key were full and the table could not grow. Part of `evictions`.
    pub table_evictions: u64,
    /// Stores refused for lack of memory.
    pub no_memory: u64,
    /// Stores refused because the item is larger than the limit.
    pub too_large: u64,
    /// Calls that had to reclaim on the spot because the reserve of free pages was used up.
    pub forced_reclaims: u64,
}

/// How the memory of a shard is used at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of one page.
    pub page_bytes: usize,
    /// All pages present. `page_bytes * pages_total` is the memory a shard works in.
    pub pages_total: usize,
    /// Pages of the memory passed in that are not in use, because of the memory limit.
    pub pages_absent: usize,
    /// Pages nobody uses.
    pub pages_free: usize,
    /// Pages that are segments.
    pub pages_segment: usize,
    /// Pages that are chunks of the table.
    pub pages_table: usize,
    /// Pages that hold parts of large values.
    pub pages_extension: usize,
    /// Dead pages that a loan still reads.
    pub pages_zombie: usize,
    /// Pages pinned by a loan, in whatever state.
    pub pages_lent: usize,
    /// Items in the table.
    pub items: u64,
    /// Bytes of those items.
    pub bytes: u64,
    /// Hash buckets of 64 bytes.
    pub hash_buckets: usize,
    /// Entries of the table.
    pub hash_entries: usize,
    /// Ghosts in empty slots of the table.
    pub ghosts: usize,
    /// Prefixes flushed whose items upkeep has not all dropped yet.
    pub prefixes_flushed: usize,
    /// Pages of the small queue: its segments and the extension pages of its large values.
    pub pages_small: usize,
    /// Bytes of notes kept outside the memory that was passed in (pages, chains, directory).
    pub side_bytes: usize,
}

impl Counters {
    /// Adds another shard's.
    pub fn add(&mut self, other: &Counters) {
        let Counters {
            items,
            bytes,
            total_items,
            evictions,
            evicted_unfetched,
            expired,
            expired_unfetched,
            flushed,
            get_expired,
            get_flushed,
            moved,
            ghost_hits,
            promotions,
            reinsertions,
            segments_reclaimed,
            table_evictions,
            no_memory,
            too_large,
            forced_reclaims,
        } = other;
        self.items += items;
        self.bytes += bytes;
        self.total_items += total_items;
        self.evictions += evictions;
        self.evicted_unfetched += evicted_unfetched;
        self.expired += expired;
        self.expired_unfetched += expired_unfetched;
        self.flushed += flushed;
        self.get_expired += get_expired;
        self.get_flushed += get_flushed;
        self.moved += moved;
        self.ghost_hits += ghost_hits;
        self.promotions += promotions;
        self.reinsertions += reinsertions;
        self.segments_reclaimed += segments_reclaimed;
        self.table_evictions += table_evictions;
        self.no_memory += no_memory;
        self.too_large += too_large;
        self.forced_reclaims += forced_reclaims;
    }

    /// Forgets the totals and keeps the present state.
    pub fn reset(&mut self) {
        *self = Counters {
            items: self.items,
            bytes: self.bytes,
            ..Counters::default()
        };
    }
}

impl Usage {
    /// Entries of the table for each that there is room for.
    #[must_use]
    pub fn table_load(&self) -> f64 {
        self.hash_entries as f64 / (self.hash_buckets * SLOTS).max(1) as f64
    }

    /// Adds another shard's; the page size stays that of the larger, and of the prefixes, which each shard flushes, those
    /// of the one that has most.
    pub fn add(&mut self, other: &Usage) {
        self.page_bytes = self.page_bytes.max(other.page_bytes);
        self.pages_total += other.pages_total;
        self.pages_absent += other.pages_absent;
        self.pages_free += other.pages_free;
        self.pages_segment += other.pages_segment;
        self.pages_table += other.pages_table;
        self.pages_extension += other.pages_extension;
        self.pages_zombie += other.pages_zombie;
        self.pages_lent += other.pages_lent;
        self.items += other.items;
        self.bytes += other.bytes;
        self.hash_buckets += other.hash_buckets;
        self.hash_entries += other.hash_entries;
        self.ghosts += other.ghosts;
        self.prefixes_flushed = self.prefixes_flushed.max(other.prefixes_flushed);
        self.pages_small += other.pages_small;
        self.side_bytes += other.side_bytes;
    }
}
