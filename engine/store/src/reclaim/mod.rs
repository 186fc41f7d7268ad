//! Getting pages back, a few items at a time: segments whose items have all expired or were flushed, and, when memory
//! is short, compaction or eviction.
//!
//! All are one thing, the *sweep*: a cursor walks a segment from its first byte; each item still in the table is
//! dropped, or moved to another segment, and when the cursor reaches the end the segment is free. Between two calls only
//! the cursor is remembered, so anything may happen to the items meanwhile: those deleted or replaced are marked dead and
//! passed over, those moved are in their new segment like in any other.
//!
//! ```text
//!             sweeps                                keeps                     moves it to
//! dead        what has expired or was flushed       nothing
//! compaction  the emptiest, while memory is roomy   all                       the target, of like lifetimes
//! merge       the oldest and its neighbours         a quarter, most fetched   the target, of the same TTL bucket
//! fifo        the oldest                            nothing
//! s3fifo      the oldest of a queue (`queues`)      fetched for its size      the main queue, same TTL bucket
//! ```
//!
//! Above its memory limit a shard is short of memory however much is free: it sweeps, and lets the free pages go beyond
//! its reserve, one at a time, until it is within the limit. Nothing else is different from eviction, so what goes is
//! what would be evicted next.
//!
//! Always true: a swept segment takes no new items; an item keeps its exact deadline wherever it moves; a call does a
//! bounded number of items, unless a store is out of pages altogether.

mod balance;
pub(crate) mod policy;
mod queues;

use crate::item::{self, Header};
use crate::segment::arena::{Kind, Memory, NO_PAGE, Queue};
use crate::shard::{Eviction, NoMemory, Reason, Shard, moved_size};
use crate::table::{Entry, bucket};
use crate::ttl::{GROUP_COUNT, Seconds};
use balance::Balance;
use policy::{Cutoff, Keep};

/// Items looked at together, so that their hash buckets load at the same time.
const BATCH_ITEMS: usize = 16;
/// Dead items passed over in one batch; they cost a header each.
const BATCH_DEAD_ITEMS: usize = 64;
/// Pages whose notes one step looks at for segments that have died.
const SCAN_PAGES: usize = 64;
/// Free pages kept so that a sweep always finds a target.
const SPARE_PAGES: usize = 1;
/// One page in so many is kept free besides. What a store owes to the sweep frees three pages in the time it takes to
/// fill one, so a single chain needs no more than one.
const LOW_WATER_ONE_IN: usize = 4096;
/// One page is kept free for each further chain with an open segment, up to so many: chains may need their next segments
/// at the same time.
const LOW_WATER_CHAINS_MAX: usize = 4;
/// Free pages that stay beyond the reserve while others leave: a store and a target that open at a time would use it up.
const LEAVING_SPARE_PAGES: usize = 2;
/// So many more where a sweep may free nothing, since all in the segment was fetched.
const AHEAD_PAGES: usize = 2;
/// Most segments packed into one target before the choice of chain is made anew.
const SOURCES_MAX: u32 = 8;
/// What a store owes for each item's worth of bytes, in items to sweep. A merge that keeps a quarter has to walk four
/// thirds as much as it frees, a compaction of segments that are seven eighths alive eight times as much.
const PACE_ITEMS: usize = 8;
/// Pages among which the next segment to pack is looked for: their notes are read in a few microseconds, however many
/// pages there are. The next search goes on behind them. In a shard of more pages where nothing may be evicted, a store can
/// so be refused although there is something to pack elsewhere; upkeep finds that in as many calls as it takes to go round.
const PACK_PAGES: usize = 1024;
/// Debt is paid in slices of this many items: enough to overlap their loads, little enough not to be felt.
const PACE_SLICE_ITEMS: usize = 32;
/// Most debt a single call is made to pay.
const PACE_MAX_ITEMS: usize = 160;

/// Where a sweep stands.
#[derive(Clone, Copy)]
struct Sweep {
    source: u32,
    queue: Queue,
    /// Offset of the next item in the arena.
    at: usize,
    keep: Keep,
    /// Bytes of live items walked and kept so far, for the cutoff.
    seen_bytes: usize,
    kept_bytes: usize,
}

/// An item of the batch at hand. The table neither grows nor shrinks during a batch, so its buckets stay where they are.
#[derive(Clone, Copy, Default)]
struct Swept {
    at: usize,
    buckets: (usize, usize),
    tag: u16,
}

/// The segment that takes survivors.
#[derive(Clone, Copy)]
struct Target {
    page: u32,
    sources: u32,
}

/// What is remembered between two calls.
pub(crate) struct Reclaim {
    sweep: Option<Sweep>,
    target: Option<Target>,
    cutoff: Cutoff,
    /// How two queues share the memory.
    balance: Balance,
    /// Whether items have ever been judged by their fetches. Until then the main queue is empty and there are no ghosts.
    has_judged: bool,
    /// Free pages below which memory is short.
    low_water: usize,
    /// Free pages below which stores pay for merge: the same, but without bound above the memory limit.
    pay_below: usize,
    /// Sweeps begun since a page last left, above the memory limit.
    fruitless: usize,
    /// Free pages below which a policy that keeps what is fetched keeps less.
    short_below: usize,
    /// Where the search for a segment to pack goes on.
    pack_cursor: usize,
    scan_now: u32,
    scan_cursor: usize,
    scan_left: usize,
    /// Bytes of items stores still owe to sweep.
    debt_bytes: usize,
    /// What an item has in bytes on average, as of the last payment.
    item_bytes: usize,
}

impl Reclaim {
    pub fn new(page_count: usize, eviction: Eviction) -> Self {
        let (short_below, low_water) = waters(page_count, 0, eviction);
        Self {
            sweep: None,
            target: None,
            cutoff: Cutoff::default(),
            balance: Balance::default(),
            has_judged: false,
            low_water,
            pay_below: low_water,
            fruitless: 0,
            short_below,
            pack_cursor: 0,
            scan_now: 0,
            scan_cursor: 0,
            scan_left: 0,
            debt_bytes: 0,
            item_bytes: 1,
        }
    }

    pub fn is_sweeping(&self, page: u32) -> bool {
        self.sweep.is_some_and(|sweep| sweep.source == page)
    }

    /// Makes the search for dead segments among `noted_count` pages start over.
    pub fn look_again(&mut self, noted_count: usize) {
        self.scan_left = noted_count;
    }
}

/// Of so many pages, with so many chains filling, how many must be free for a policy to keep all it would like to, and how
/// many are wanted.
fn waters(page_count: usize, open_count: usize, eviction: Eviction) -> (usize, usize) {
    // A TTL bucket fills one chain, or two where a policy has two queues.
    let (ahead, chains_of_one) = match eviction {
        Eviction::S3Fifo => (AHEAD_PAGES, 2),
        _ => (0, 1),
    };
    let further = open_count.saturating_sub(chains_of_one);
    let needed =
        SPARE_PAGES + 1 + page_count / LOW_WATER_ONE_IN + further.min(LOW_WATER_CHAINS_MAX);
    (needed + ahead / 2, needed + ahead)
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// This many items were handled, or as much other work was done.
    Did(usize),
    /// There is nothing to do.
    Idle,
}

impl<M: Memory> Shard<M> {
    /// Reclaims memory, about `budget_items` items' worth of work. `true` when there is more to do now.
    ///
    /// Called often with a small budget: expired segments are found here, items whose prefix was flushed are dropped, and
    /// when pages run short eviction begins here, before a store has to wait for it.
    pub fn upkeep(&mut self, now: Seconds, budget_items: u32) -> bool {
        self.pass_time(now.0);
        let mut left = budget_items as usize;
        // Half and half, because what is flushed must go even while every page is needed at once.
        left -= self.clean(left.div_ceil(2));
        while left > 0 {
            match self.reclaim_step(now.0, false) {
                Step::Did(items) => left = left.saturating_sub(items),
                Step::Idle => return self.is_to_clean(),
            }
        }
        true
    }

    /// Whether `count` pages can be taken and one is left for a sweep.
    pub(crate) fn may_take(&self, count: usize) -> bool {
        self.arena.free_count() >= count + SPARE_PAGES
    }

    /// Makes a store of `bytes` pay its share of the reclaim, if pages are short.
    #[inline(always)]
    pub(crate) fn keep_pace(&mut self, bytes: usize, now: u32) {
        if self.arena.free_count() < self.reclaim.pay_below {
            self.pay(bytes, now);
        }
    }

    /// Adapts to another number of pages, or another limit of them.
    pub(crate) fn follow_limit(&mut self) {
        self.follow_need();
        self.reclaim.fruitless = 0;
    }

    /// Adapts what is kept free to the memory and to the chains that are filling.
    pub(crate) fn follow_need(&mut self) {
        let open_count = self.chains.open_count;
        let (short_below, low_water) = waters(self.arena.page_count(), open_count, self.eviction);
        self.reclaim.short_below = short_below;
        self.reclaim.low_water = low_water;
        self.reclaim.pay_below = match self.arena.surplus() {
            0 => low_water,
            _ => usize::MAX,
        };
        self.table
            .follow_free(self.arena.free_count(), self.arena.page_count());
    }

    /// Debt is counted in bytes, so that a store that only adds to it divides nothing.
    fn pay(&mut self, bytes: usize, now: u32) {
        let reclaim = &mut self.reclaim;
        reclaim.debt_bytes += PACE_ITEMS * (bytes + reclaim.item_bytes);
        if reclaim.debt_bytes < PACE_SLICE_ITEMS * reclaim.item_bytes {
            return;
        }
        let average = (self.counters.bytes / self.counters.items.max(1)).max(1) as usize;
        reclaim.item_bytes = average;
        reclaim.debt_bytes = reclaim.debt_bytes.min(PACE_MAX_ITEMS * average);
        while self.reclaim.debt_bytes >= PACE_SLICE_ITEMS * average {
            let paid = match self.reclaim_step(now, false) {
                Step::Did(items) => items * average,
                Step::Idle => usize::MAX,
            };
            self.reclaim.debt_bytes = self.reclaim.debt_bytes.saturating_sub(paid);
        }
    }

    /// Reclaims until `need` pages can be taken, or gives up.
    pub(crate) fn reclaim_by_force(&mut self, need: usize, now: u32) -> Result<(), NoMemory> {
        self.counters.forced_reclaims += 1;
        // Each source frees a page or, at worst, turns it into a target. After one round of all pages nothing new can
        // come of going on, and whole segments are dropped; after two rounds the rest is lent.
        let rounds = self.arena.present_count();
        let mut started = 0;
        while !self.may_take(need) {
            let sweeping = self.reclaim.sweep.is_some();
            let drop_all = self.eviction != Eviction::None && started > rounds;
            if started > 2 * rounds + 2 || self.reclaim_step_by_force(now, drop_all) == Step::Idle {
                return Err(NoMemory);
            }
            // Other work comes to its end by itself.
            started += usize::from(!sweeping && self.reclaim.sweep.is_some());
        }
        Ok(())
    }

    fn reclaim_step_by_force(&mut self, now: u32, drop_all: bool) -> Step {
        if drop_all && let Some(sweep) = &mut self.reclaim.sweep {
            sweep.keep = Keep::Nothing;
        }
        self.reclaim_step(now, true)
    }

    /// One batch of the running sweep, or the search for something to sweep. Under force, segments are swept although
    /// enough pages may be free already, and open ones too.
    fn reclaim_step(&mut self, now: u32, force: bool) -> Step {
        if self.reclaim.sweep.is_some() {
            return self.sweep_batch(now);
        }
        if let Step::Did(work) = self.scan_for_dead(now) {
            return Step::Did(work);
        }
        if !force && self.arena.free_count() >= self.reclaim.low_water {
            if self.arena.surplus() == 0 {
                return Step::Idle;
            }
            if self.arena.free_count() > self.reclaim.low_water + LEAVING_SPARE_PAGES {
                return self.dismiss_page();
            }
        }
        // A page of the table is gained only after hundreds of buckets, so it is the last resort of a store in need.
        if !force && self.shrink_table() {
            Step::Did(2)
        } else if self.start_eviction(force) || !force && self.start_merge_to_leave() {
            Step::Did(1)
        } else if force && self.shrink_table() {
            Step::Did(2)
        } else {
            Step::Idle
        }
    }

    /// Takes one bucket from a table that is far too large.
    fn shrink_table(&mut self) -> bool {
        self.table.could_shrink() && self.table.shrink(&mut self.arena)
    }

    /// Lets a free page go that the memory limit does not allow. Not while a store is collecting pages by force, or it
    /// might never have enough.
    fn dismiss_page(&mut self) -> Step {
        self.arena.dismiss();
        self.follow_limit();
        Step::Did(1)
    }

    /// Chooses what to sweep above the memory limit when nothing is worth merging. As long as sweeps get pages free,
    /// open segments and lonely ones are packed together too; then whole segments are dropped where that is allowed.
    fn start_merge_to_leave(&mut self) -> bool {
        if self.arena.surplus() == 0 {
            return false;
        }
        let packed = self.reclaim.fruitless > self.arena.present_count();
        if packed && self.eviction == Eviction::None || !self.start_eviction(true) {
            return false;
        }
        self.reclaim.fruitless += 1;
        if packed && let Some(sweep) = &mut self.reclaim.sweep {
            sweep.keep = Keep::Nothing;
        }
        true
    }

    /// Looks at some pages for a segment in which nothing is visible any more. Once round at each new second.
    fn scan_for_dead(&mut self, now: u32) -> Step {
        let count = self.arena.pages.list.len();
        if now != self.reclaim.scan_now {
            self.reclaim.scan_now = now;
            self.reclaim.scan_left = count;
        }
        if self.reclaim.scan_left == 0 {
            return Step::Idle;
        }
        for _ in 0..self.reclaim.scan_left.min(SCAN_PAGES) {
            let page = self.reclaim.scan_cursor as u32;
            self.reclaim.scan_cursor = (self.reclaim.scan_cursor + 1) % count;
            self.reclaim.scan_left -= 1;
            let notes = self.arena.page(page);
            if notes.is_segment() && (notes.max_deadline <= now || notes.epoch < self.flush_epoch) {
                if self
                    .reclaim
                    .target
                    .is_some_and(|target| target.page == page)
                {
                    self.end_target();
                }
                // Ending a target frees it when nothing lives there.
                if self.arena.page(page).is_segment() {
                    if self.arena.page(page).kind == Kind::Open {
                        self.chains.seal(&mut self.arena, page);
                    }
                    self.start_sweep(page, Keep::Nothing);
                }
                break;
            }
        }
        Step::Did(1)
    }

    fn start_sweep(&mut self, page: u32, keep: Keep) {
        debug_assert_eq!(self.arena.page(page).kind, Kind::Sealed);
        self.chains.close(&self.arena, page);
        let at = self.arena.start_of(page);
        self.reclaim.sweep = Some(Sweep {
            source: page,
            queue: self.arena.page(page).queue,
            at,
            keep,
            seen_bytes: 0,
            kept_bytes: 0,
        });
    }

    /// Chooses the next segment to compact or evict from, as the policy has it.
    fn start_eviction(&mut self, force: bool) -> bool {
        // What is short may be only room between the dead, and nothing has to be dropped to get it.
        let pages = self.arena.page_count();
        let capacity = pages.saturating_sub(self.table.chunk_count()) * self.arena.page_bytes();
        let may_drop = self.eviction != Eviction::None;
        let compact = !may_drop
            || (self.counters.bytes as usize) < capacity / policy::PACK_OF * policy::PACK_BELOW;
        let compacted = if compact {
            self.choose_for_compaction(force)
        } else {
            None
        };
        let chosen = compacted.map(|page| (page, Keep::All));
        let chosen = chosen.or_else(|| match self.eviction {
            Eviction::Merge => {
                let page = self.choose_for_merge(force)?;
                let live_bytes = self.arena.page(page).live_bytes as usize;
                Some((page, Keep::of_merge(self.arena.page_bytes(), live_bytes)))
            }
            Eviction::Fifo => Some((self.oldest_of(Queue::Main, force)?, Keep::Nothing)),
            Eviction::S3Fifo => self.choose_of_queues(force),
            Eviction::None => None,
        });
        let Some((page, keep)) = chosen else {
            return false;
        };
        self.reclaim.has_judged |= matches!(keep, Keep::Fetched { .. });
        if self.arena.page(page).kind == Kind::Open {
            self.chains.seal(&mut self.arena, page);
        }
        if let Some(target) = &mut self.reclaim.target {
            target.sources += 1;
        }
        self.start_sweep(page, keep);
        true
    }

    /// The segment to merge next: the oldest of all, or its neighbours in the chain while a target has room.
    fn choose_for_merge(&self, force: bool) -> Option<u32> {
        if let Some(target) = self.reclaim.target
            && target.sources < SOURCES_MAX
        {
            let notes = self.arena.page(target.page);
            let page = self.oldest_sealed(usize::from(notes.ttl_bucket));
            if let Some(page) = page
                && self.arena.page(page).epoch < notes.epoch
            {
                return Some(page);
            }
        }
        let mut best: Option<(bool, u64, u32)> = None;
        let main = self.chains.of_queue(Queue::Main);
        for (index, chain) in self.chains.chains[main].iter().enumerate() {
            if chain.head == NO_PAGE {
                continue;
            }
            let Some(page) = self.oldest_sealed(index) else {
                continue;
            };
            let notes = self.arena.page(page);
            // Moving the little that lives in a chain's only segment frees a page and takes one.
            let alone = chain.len <= 2
                && notes.live_bytes as usize <= self.arena.page_bytes() / policy::KEEP_ONE_IN;
            let candidate = (alone, notes.epoch, page);
            if best.is_none_or(|best| (candidate.0, candidate.1) < (best.0, best.1)) {
                best = Some(candidate);
            }
        }
        if let Some((alone, _, page)) = best
            && (!alone || force)
        {
            return Some(page);
        }
        if force {
            self.oldest_open(Queue::Main)
        } else {
            None
        }
    }

    /// The oldest segment of a queue. One that still takes new items only under force and when there is no other.
    fn oldest_of(&self, queue: Queue, force: bool) -> Option<u32> {
        let sealed = self
            .chains
            .of_queue(queue)
            .filter_map(|chain| self.oldest_sealed(chain));
        let sealed = sealed.min_by_key(|&page| self.arena.page(page).epoch);
        sealed.or_else(|| if force { self.oldest_open(queue) } else { None })
    }

    /// The oldest segment of a queue that takes new items.
    fn oldest_open(&self, queue: Queue) -> Option<u32> {
        self.chains
            .of_queue(queue)
            .map(|chain| self.chains.chains[chain].open)
            .filter(|&open| open != NO_PAGE && self.arena.page(open).loans == 0)
            .min_by_key(|&open| self.arena.page(open).epoch)
    }

    /// The oldest segment of a chain that may be swept. Lent ones are passed over: sweeping them frees nothing yet.
    fn oldest_sealed(&self, chain: usize) -> Option<u32> {
        let mut page = self.chains.chains[chain].head;
        while page != NO_PAGE {
            let notes = self.arena.page(page);
            if notes.kind == Kind::Sealed && notes.loans == 0 {
                return Some(page);
            }
            page = notes.next;
        }
        None
    }

    /// The segment to compact next: the emptiest of the group of TTL buckets with most dead space, if compacting that
    /// group frees a page at all, looked for among the next [`PACK_PAGES`] pages. Under force open segments count too.
    fn choose_for_compaction(&mut self, force: bool) -> Option<u32> {
        let page_bytes = self.arena.page_bytes();
        let count = self.arena.pages.list.len();
        let short = self.arena.free_count() < self.reclaim.short_below;
        let alive_sixteenths = if short && self.eviction != Eviction::None {
            policy::PACK_ALIVE_SIXTEENTHS_WHEN_SHORT
        } else {
            policy::PACK_ALIVE_SIXTEENTHS
        };
        let look_at = count.min(PACK_PAGES);
        let from = self.reclaim.pack_cursor % count;
        self.reclaim.pack_cursor = from + look_at;
        let mut groups = [(0usize, usize::MAX, NO_PAGE); 2 * GROUP_COUNT];
        for page in (from..count).chain(0..from).take(look_at) {
            let notes = &self.arena.pages.list[page];
            // What is packed together stays in its queue.
            let queue = GROUP_COUNT * usize::from(notes.queue == Queue::Small);
            let (dead_bytes, emptiest, emptiest_page) =
                &mut groups[queue + self.ttl.group(usize::from(notes.ttl_bucket))];
            // Each item may grow by its unique when it moves.
            let moved = notes.live_bytes as usize + notes.live_items as usize * item::UNIQUE_BYTES;
            // A tail that the next item did not fit in comes again however often the items are packed. Were it not taken
            // for used, both in what there is to gain and in what is worth packing, full segments would be packed over and
            // over for nothing.
            let tail_bytes = page_bytes - notes.used as usize;
            let packed = moved + tail_bytes.min(2 * moved / notes.live_items.max(1) as usize);
            match notes.kind {
                Kind::Target => *dead_bytes += page_bytes - notes.used as usize,
                Kind::Sealed | Kind::Open
                    if notes.loans == 0
                        && packed <= page_bytes / 16 * alive_sixteenths
                        && (force || notes.kind == Kind::Sealed) =>
                {
                    *dead_bytes += page_bytes - packed;
                    if packed < *emptiest {
                        (*emptiest, *emptiest_page) = (packed, page as u32);
                    }
                }
                _ => {}
            }
        }
        groups
            .into_iter()
            .filter(|&(dead_bytes, _, page)| page != NO_PAGE && dead_bytes >= page_bytes)
            .max_by_key(|&(dead_bytes, _, _)| dead_bytes)
            .map(|(_, _, page)| page)
    }

    /// Seals the target. It is a segment like any other from now on.
    pub(crate) fn end_target(&mut self) {
        if let Some(target) = self.reclaim.target.take() {
            self.chains.seal(&mut self.arena, target.page);
            self.free_if_empty(target.page);
        }
    }

    fn sweep_batch(&mut self, now: u32) -> Step {
        let Some(mut sweep) = self.reclaim.sweep else {
            return Step::Idle;
        };
        let end = self.arena.start_of(sweep.source) + self.arena.page(sweep.source).used as usize;
        let mut batch = [Swept::default(); BATCH_ITEMS];
        let (mut items, mut dead_items) = (0, 0);
        while items < BATCH_ITEMS && dead_items < BATCH_DEAD_ITEMS && sweep.at < end {
            let memory = self.arena.bytes();
            let header = Header::read(memory, sweep.at);
            if header.has(item::DEAD) {
                dead_items += 1;
            } else {
                let hash = self.hasher.hash(item::key_at(memory, sweep.at));
                batch[items] = Swept {
                    at: sweep.at,
                    buckets: self.table.prefetch_buckets(memory, hash),
                    tag: hash.tag(),
                };
                items += 1;
            }
            sweep.at += self.arena.pages.padded(header.size());
        }
        for &item in &batch[..items] {
            if !self.sweep_item(&mut sweep, item, now) {
                // Nothing may be dropped and there is no room to move to: the segment stays as it is, its items that
                // have moved are dead here.
                self.reclaim.sweep = None;
                self.free_if_empty(sweep.source);
                return Step::Idle;
            }
        }
        if let Keep::Popular {
            target_bytes,
            live_bytes,
        } = sweep.keep
        {
            self.reclaim
                .cutoff
                .adapt(sweep.seen_bytes, sweep.kept_bytes, target_bytes, live_bytes);
        }
        if sweep.at >= end {
            self.reclaim.sweep = None;
            let notes = self.arena.page(sweep.source);
            assert_eq!(
                notes.live_items, 0,
                "segment {} was swept and still has live items",
                sweep.source
            );
            self.free_segment(sweep.source);
        } else {
            self.reclaim.sweep = Some(sweep);
        }
        Step::Did(items + dead_items / 8 + 1)
    }

    /// Drops or moves one item. `false` when it can be neither.
    fn sweep_item(&mut self, sweep: &mut Sweep, item: Swept, now: u32) -> bool {
        let at = item.at;
        let place = self
            .table
            .find_location_in(self.arena.bytes(), item.buckets, item.tag, at);
        let place =
            place.unwrap_or_else(|| panic!("the item at {at} is not dead and not in the table"));
        let entry = Entry {
            place,
            location: at,
        };
        let header = Header::read(self.arena.bytes(), at);
        let deadline = self.deadline_of(at, header);
        if let Some(reason) = self.gone(at, deadline, now) {
            self.bury(entry, header, reason);
            return true;
        }
        let size = header.size();
        sweep.seen_bytes += size;
        let frequency = bucket::frequency(
            bucket::view(self.arena.bytes(), place.bucket_at),
            place.slot,
        );
        let bytes = self.whole_bytes(at, header);
        let price = match sweep.keep {
            Keep::Fetched { average_bytes, .. } => queues::price(bytes, average_bytes),
            _ => 0,
        };
        let keep = match sweep.keep {
            Keep::Nothing => false,
            Keep::All => true,
            Keep::Popular { .. } => self.reclaim.cutoff.keeps(frequency, size),
            Keep::Fetched {
                average_bytes,
                most_bytes,
            } => {
                // Those fetched no more than they had to be leave room for the others.
                let most_bytes = if frequency <= price {
                    most_bytes / 2
                } else {
                    most_bytes
                };
                (frequency >= price || queues::is_given_a_chance(sweep.queue, bytes, average_bytes))
                    && sweep.kept_bytes + size <= most_bytes
            }
        };
        let queue = sweep.queue;
        if keep {
            let moved = moved_size(header);
            let page = match sweep.keep {
                Keep::Fetched { .. } => self.main_segment_for(sweep.source, moved, deadline, now),
                keep => self.target_for(sweep.source, keep, moved, deadline, now),
            };
            if let Some(page) = page {
                self.relocate(place, at, header, page, deadline);
                // An item has to be fetched again to survive again.
                let frequency = match sweep.keep {
                    Keep::Fetched { .. } => queues::frequency_after(queue, frequency, price),
                    // It has only been packed, and its turn to be judged is still to come.
                    _ if self.eviction == Eviction::S3Fifo => frequency,
                    _ => frequency / 2,
                };
                bucket::set_frequency(
                    self.arena.bytes_mut(),
                    place.bucket_at,
                    place.slot,
                    frequency,
                );
                self.counters.moved += 1;
                if let Keep::Fetched { .. } = sweep.keep {
                    match queue {
                        Queue::Small => self.counters.promotions += 1,
                        Queue::Main => self.counters.reinsertions += 1,
                    }
                }
                sweep.kept_bytes += size;
                return true;
            }
        }
        if self.eviction == Eviction::None {
            return false;
        }
        self.bury(entry, header, Reason::Evicted);
        if self.eviction == Eviction::S3Fifo {
            let items = self.counters.items;
            self.reclaim.balance.drop_from(queue, bytes, items);
            self.table
                .leave_ghost(self.arena.bytes_mut(), place, item.tag, queue);
        }
        true
    }

    /// Whether items of one TTL bucket may go to a target of another. The survivors of full segments stay among their
    /// like, so that they expire together; what little lives in sparse ones is packed more loosely, or sparse TTL
    /// buckets would fill memory with nearly empty segments.
    fn may_share(&self, target: u32, source: u32, keep: Keep) -> bool {
        let (target, source) = (self.arena.page(target), self.arena.page(source));
        let group = |ttl_bucket| self.ttl.group(usize::from(ttl_bucket));
        target.queue == source.queue
            && (target.ttl_bucket == source.ttl_bucket
                || keep == Keep::All && group(target.ttl_bucket) == group(source.ttl_bucket))
    }

    /// The target segment for an item from `source`, opened if need be.
    fn target_for(
        &mut self,
        source: u32,
        keep: Keep,
        size: usize,
        deadline: u32,
        now: u32,
    ) -> Option<u32> {
        if let Some(target) = self.reclaim.target {
            if self.may_share(target.page, source, keep) && self.fits(target.page, size, deadline) {
                return Some(target.page);
            }
            self.end_target();
        }
        let notes = self.arena.page(source);
        let (queue, ttl_bucket) = (notes.queue, usize::from(notes.ttl_bucket));
        let page = self.open_segment(Kind::Target, queue, ttl_bucket, deadline, now)?;
        self.reclaim.target = Some(Target { page, sources: 1 });
        Some(page)
    }
}
