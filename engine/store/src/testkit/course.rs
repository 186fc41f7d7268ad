//! The steps that no client asks for: time passes, memory grows and shrinks, all is flushed, much is stored.

use super::{BURST_STORES_MAX, Rig, Seeded, Source, UNUSED, any_prefix, any_ttl};
use crate::{KeyHash, Seconds};

/// Flushed prefixes that a shard remembers.
const PREFIXES_MAX: usize = 4096;

impl Rig {
    /// Changes the memory limit now and then, and lets some pages come and go.
    pub(super) fn step_limit(&mut self, source: &mut impl Source) -> Option<()> {
        if source.below(30)? == 0 {
            let limits = self.shard.memory_limits();
            let (least, most) = (*limits.start(), *limits.end());
            let bytes = match source.below(8)? {
                0 => least,
                1 => most,
                2 => most + 1,
                3 => least - 1,
                _ => least + source.below((most - least) as u32 + 1)? as usize,
            };
            let before = self.shard.memory_limit();
            let set = self.shard.set_memory_limit(bytes);
            assert_eq!(set.is_ok(), limits.contains(&bytes), "{set:?}");
            let now = self.shard.memory_limit();
            match set {
                Ok(()) => assert!(now <= bytes && bytes - now < self.page_bytes as usize),
                Err(_) => assert_eq!(now, before),
            }
            self.limit_changes += 1;
            self.audit();
        }
        let page_bytes = self.page_bytes as usize;
        let unused = &mut self.unused;
        for _ in 0..source.below(6)? {
            let admitted = self.shard.admit_page(|memory, range| {
                assert!(range.start.is_multiple_of(page_bytes) && range.len() == page_bytes);
                let page = range.start / page_bytes;
                assert!(unused[page], "page {page} comes into use twice");
                unused[page] = false;
                assert!(memory[range].iter().all(|&byte| byte == UNUSED));
            });
            let usage = self.shard.usage();
            let present_bytes = usage.pages_total * page_bytes;
            let limit = self.shard.memory_limit();
            assert!(present_bytes <= limit || !admitted);
            assert!(present_bytes >= limit || admitted);
        }
        for _ in 0..source.below(6)? {
            self.shard.discard_page(|memory, range| {
                assert!(range.start.is_multiple_of(page_bytes) && range.len() == page_bytes);
                let page = range.start / page_bytes;
                assert!(!unused[page], "page {page} leaves use twice");
                unused[page] = true;
                memory[range].fill(UNUSED);
            });
        }
        Some(())
    }

    /// Flushes a prefix, unless as many as can be remembered are flushed already.
    fn flush_prefix(&mut self, prefix: KeyHash) -> bool {
        let flushed = self.shard.flush_prefix(prefix, Seconds(self.model.now));
        assert!(flushed.is_ok() || self.shard.usage().prefixes_flushed == PREFIXES_MAX);
        flushed.is_ok()
    }

    /// Flushes prefixes that no key has, until there may be too many to be remembered.
    fn flush_strange_prefixes(&mut self, source: &mut impl Source) -> Option<()> {
        for number in 0..source.below(5000)? {
            let prefix = format!("strange{number}");
            self.flush_prefix(self.hasher.hash(prefix.as_bytes()));
        }
        Some(())
    }

    /// Stores item after item, more than the choices left would do for.
    pub(super) fn step_burst(&mut self, source: &mut impl Source) -> Option<()> {
        let count = source.below(BURST_STORES_MAX)?;
        let mut stores = Seeded::new(source.next()?.into());
        for _ in 0..count {
            self.step_store(&mut stores, 0)?;
        }
        Some(())
    }

    pub(super) fn step_time(&mut self, source: &mut impl Source, choice: u32) -> Option<()> {
        let now = self.model.now;
        match choice {
            87..95 => {
                if self.rules.grow_times > 1 {
                    self.step_limit(source)?;
                }
                let budget = if source.below(4)? == 0 {
                    source.below(2000)?
                } else {
                    source.below(20)?
                };
                self.shard.upkeep(Seconds(now), budget);
            }
            95 if self.rules.flushes && source.below(8)? == 0 => {
                let at = if source.below(2)? == 0 {
                    now
                } else {
                    now + source.below(30)?
                };
                self.shard.flush(Seconds(at), Seconds(now));
                self.model.flush_at = Some(at);
                self.model.pass_time(now);
            }
            96 if self.rules.prefixes => {
                let prefix = any_prefix(source.next()?);
                let hash = self.hasher.hash(prefix.as_bytes());
                if self.flush_prefix(hash) {
                    let mut start = prefix.into_bytes();
                    start.push(self.rules.delimiter);
                    self.model.items.retain(|key, _| !key.starts_with(&start));
                    self.prefix_flushes += 1;
                }
                if source.below(32)? == 0 {
                    self.flush_strange_prefixes(source)?;
                }
            }
            _ => {
                // Far jumps take a share of the time left, so that time does not run out.
                let far = u64::from((1u32 << 31).saturating_sub(now)) / 16;
                let step = if source.below(30)? == 0 {
                    any_ttl(source)?.min(far)
                } else {
                    u64::from(source.below(3)?)
                };
                self.model.pass_time(now + step as u32);
            }
        }
        Some(())
    }
}
