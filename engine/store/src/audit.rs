//! Recounts everything from the bytes and compares it with what is noted.

use crate::item::{self, Header, LARGE_UNIT_BYTES};
use crate::segment::arena::{Kind, Memory, NO_PAGE, Queue};
use crate::segment::chains::Chains;
use crate::shard::{Eviction, Shard};
use crate::table::bucket::{self, SLOTS};
use crate::table::{Place, ghosts::ghosts_in};

macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

impl<M: Memory> Shard<M> {
    /// Recounts items, bytes, pages, chains, loans, table entries and ghosts, and compares. For tests: it walks all memory and
    /// allocates.
    ///
    /// # Errors
    /// The first disagreement, with numbers.
    pub fn audit(&self) -> Result<(), String> {
        let page_count = self.arena.pages.list.len();
        let (free, absent) = self.arena.walk_lists()?;
        let kinds = |kind| {
            self.arena
                .pages
                .list
                .iter()
                .filter(|page| page.kind == kind)
                .count()
        };
        ensure!(
            free == self.arena.free_count() && free == kinds(Kind::Free),
            "{free} pages on the free list, {} noted, {} of that kind",
            self.arena.free_count(),
            kinds(Kind::Free)
        );
        ensure!(
            absent == kinds(Kind::Absent) && self.arena.present_count() + absent == page_count,
            "{absent} pages on the lists of absent ones, {} of that kind, {} of {page_count} present",
            kinds(Kind::Absent),
            self.arena.present_count()
        );
        ensure!(
            page_count <= self.arena.most() && self.arena.limit() <= self.arena.most(),
            "{page_count} pages noted, {} allowed, there is room for {}",
            self.arena.limit(),
            self.arena.most()
        );
        let lent = self
            .arena
            .pages
            .list
            .iter()
            .filter(|page| page.loans > 0)
            .count();
        ensure!(
            lent == self.arena.lent_count(),
            "{lent} pages lent, {} noted",
            self.arena.lent_count()
        );
        ensure!(
            self.arena
                .pages
                .list
                .iter()
                .all(|page| page.kind != Kind::Zombie || page.loans > 0),
            "a zombie page nobody reads"
        );

        let mut chained = vec![false; page_count];
        for (index, chain) in self.chains.chains.iter().enumerate() {
            let (mut page, mut previous, mut len, mut epoch) = (chain.head, NO_PAGE, 0, 0);
            while page != NO_PAGE {
                let notes = self.arena.page(page);
                ensure!(
                    notes.is_segment(),
                    "page {page} in chain {index} is {:?}",
                    notes.kind
                );
                ensure!(
                    Chains::index_of(notes) == index,
                    "page {page} of {:?} {} in chain {index}",
                    notes.queue,
                    notes.ttl_bucket
                );
                ensure!(
                    notes.prev == previous,
                    "page {page} points back to {}, not {previous}",
                    notes.prev
                );
                ensure!(
                    notes.epoch > epoch,
                    "epoch {} after {epoch} in chain {index}",
                    notes.epoch
                );
                ensure!(!chained[page as usize], "page {page} is chained twice");
                ensure!(
                    (notes.kind == Kind::Open) == (chain.open == page),
                    "page {page} is {:?}, open is {}",
                    notes.kind,
                    chain.open
                );
                chained[page as usize] = true;
                (previous, page, len, epoch) = (page, notes.next, len + 1, notes.epoch);
            }
            if chain.remnant != NO_PAGE {
                let notes = self.arena.page(chain.remnant);
                ensure!(
                    notes.kind == Kind::Sealed
                        && Chains::index_of(notes) == index
                        && !self.reclaim.is_sweeping(chain.remnant),
                    "the remnant of chain {index} is {notes:?}"
                );
            }
            ensure!(
                chain.tail == previous && chain.len == len,
                "chain {index}: {chain:?} walked {len} to {previous}"
            );
        }

        let open = kinds(Kind::Open);
        ensure!(
            open == self.chains.open_count,
            "{open} open segments, {} noted",
            self.chains.open_count
        );

        let (mut items, mut bytes) = (0u64, 0u64);
        let mut extension_seen = vec![false; page_count];
        let mut small_pages = 0;
        for (index, notes) in self.arena.pages.list.iter().enumerate() {
            ensure!(
                notes.is_segment() == chained[index],
                "page {index} is {:?}, chained: {}",
                notes.kind,
                chained[index]
            );
            if !notes.is_segment() {
                continue;
            }
            let small = usize::from(notes.queue == Queue::Small);
            small_pages += small;
            let start = self.arena.start_of(index as u32);
            let (mut at, mut live_items, mut live_bytes) = (start, 0u32, 0u32);
            while at < start + notes.used as usize {
                let header = Header::read(self.arena.bytes(), at);
                if !header.has(item::DEAD) {
                    live_items += 1;
                    live_bytes += self.arena.pages.padded(header.size()) as u32;
                    bytes += header.size() as u64;
                    self.audit_item(at, header, notes.max_deadline)?;
                    if header.has(item::LARGE) {
                        let large = header.large(self.arena.bytes(), at);
                        let (mut page, mut len) = (large.first_page, large.head_len as usize);
                        ensure!(
                            header.head_room() == len.next_multiple_of(LARGE_UNIT_BYTES),
                            "item {at}: room for {} bytes of a value, {len} stand there",
                            header.head_room()
                        );
                        while page != NO_PAGE {
                            let extension = self.arena.page(page);
                            ensure!(
                                extension.kind == Kind::Extension,
                                "item {at}: page {page} is {:?}",
                                extension.kind
                            );
                            ensure!(
                                !extension_seen[page as usize],
                                "page {page} belongs to two items"
                            );
                            extension_seen[page as usize] = true;
                            small_pages += small;
                            bytes += self.arena.page_bytes() as u64;
                            len += self.arena.page_bytes();
                            page = extension.next;
                        }
                        let value_len = large.value_len as usize;
                        ensure!(
                            len >= value_len && len - value_len < self.arena.page_bytes(),
                            "item {at}: {len} bytes of space for a value of {value_len}"
                        );
                    }
                }
                at += self.arena.pages.padded(header.size());
            }
            ensure!(
                at == start + notes.used as usize,
                "segment {index} of {} bytes ends at {}",
                notes.used,
                at - start
            );
            ensure!(
                (live_items, live_bytes) == (notes.live_items, notes.live_bytes),
                "segment {index}: {live_items} items of {live_bytes} bytes, noted {notes:?}"
            );
            items += u64::from(live_items);
        }
        ensure!(
            kinds(Kind::Extension) == extension_seen.iter().filter(|&&seen| seen).count(),
            "an extension page belongs to no item"
        );
        ensure!(
            (items, bytes) == (self.counters.items, self.counters.bytes),
            "{items} items of {bytes} bytes, counted {} of {}",
            self.counters.items,
            self.counters.bytes
        );
        ensure!(
            small_pages == self.chains.small_pages
                && (small_pages == 0 || self.eviction == Eviction::S3Fifo),
            "{small_pages} pages of the small queue, {} noted",
            self.chains.small_pages
        );
        self.audit_table(items)
    }

    fn audit_item(&self, at: usize, header: Header, max_deadline: u32) -> Result<(), String> {
        let hash = self.hasher.hash(item::key_at(self.arena.bytes(), at));
        ensure!(
            self.table
                .find_location(self.arena.bytes(), hash, at)
                .is_some(),
            "item {at} is not dead and not in the table"
        );
        let deadline = self.deadline_of(at, header);
        ensure!(
            deadline <= max_deadline,
            "item {at} dies at {deadline}, its segment at {max_deadline}"
        );
        ensure!(
            !header.has(item::CAS) || header.has(item::SEEN) && self.unique_of(at, header) != 0,
            "item {at} has a unique of its own that nobody knows, or none"
        );
        let state = header
            .ext(self.arena.bytes(), at)
            .map_or(0, |ext| ext.state);
        ensure!(
            state & !(item::STALE | item::SENT) == 0,
            "item {at} is in state {state:#x}"
        );
        Ok(())
    }

    fn audit_table(&self, items: u64) -> Result<(), String> {
        let (mut entries, mut ghosts) = (0, 0);
        let mut locations = Vec::new();
        ensure!(
            self.table.buckets().count() == self.table.bucket_count(),
            "the table counts its buckets wrong"
        );
        for index in self.table.buckets() {
            let bucket = bucket::view(self.arena.bytes(), index);
            ghosts += ghosts_in(bucket);
            for slot in (0..SLOTS).filter(|&slot| bucket::tag(bucket, slot) != 0) {
                entries += 1;
                let bucket_at = index;
                let location = self
                    .table
                    .location_at(self.arena.bytes(), Place { bucket_at, slot });
                locations.push(location);
                let page = self.arena.page(self.arena.page_of(location));
                ensure!(
                    page.is_segment(),
                    "the hash bucket at {index} leads to page {} that is {:?}",
                    self.arena.page_of(location),
                    page.kind
                );
                let header = Header::read(self.arena.bytes(), location);
                ensure!(
                    !header.has(item::DEAD),
                    "the hash bucket at {index} leads to the dead item {location}"
                );
            }
        }
        locations.sort_unstable();
        ensure!(
            locations.windows(2).all(|pair| pair[0] != pair[1]),
            "two entries lead to one item"
        );
        ensure!(
            entries == self.table.entries() && entries as u64 == items,
            "{entries} entries, {} noted, {items} items",
            self.table.entries()
        );
        self.audit_prefixes()?;
        ensure!(
            ghosts == self.table.ghosts() && (ghosts == 0 || self.eviction == Eviction::S3Fifo),
            "{ghosts} ghosts, {} noted",
            self.table.ghosts()
        );
        let chunks = self
            .arena
            .pages
            .list
            .iter()
            .filter(|page| page.kind == Kind::Table)
            .count();
        ensure!(
            chunks == self.table.chunk_count(),
            "{chunks} table pages, {} in the directory",
            self.table.chunk_count()
        );
        ensure!(
            self.table.chunks().iter().all(|&start| self
                .arena
                .page(self.arena.page_of(start))
                .kind
                == Kind::Table),
            "the directory names a page that is no chunk"
        );
        Ok(())
    }
}
