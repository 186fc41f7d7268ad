//! Which items a merge keeps: those fetched most for their size, about a quarter of the bytes.
//!
//! The measure is fetches per byte, as in the Segcache paper (NSDI '21, section 3.5). The cutoff that keeps the wanted
//! share is not known beforehand; it is steered while the segment is walked and carried on to the next one.
//!
//! Always true: an item never fetched since it was last looked at does not survive a merge of a full segment.

use crate::table::bucket::FREQUENCY_MAX;

/// A merge packs about this many segments into one.
pub(crate) const KEEP_ONE_IN: usize = 4;

/// While live items fill less than nineteen twentieths of the memory, segments with enough dead in them are packed before
/// anything is dropped: what was overwritten is room that costs nothing but moving its neighbours. How much that keeps is
/// in perf/notes/eviction-policies.md.
pub(crate) const PACK_BELOW: usize = 19;
/// See [`PACK_BELOW`].
pub(crate) const PACK_OF: usize = 20;
/// A segment is worth packing while it is alive to no more sixteenths than this: so many items have to move for one to
/// find room.
pub(crate) const PACK_ALIVE_SIXTEENTHS: usize = 15;
/// The same when pages run short and something may be dropped instead: what a store pays is enough for that many.
pub(crate) const PACK_ALIVE_SIXTEENTHS_WHEN_SHORT: usize = 14;

/// Fetches per byte are counted in units of 2^-20.
const SCORE_SHIFT: u32 = 20;
const CUTOFF_MAX: u32 = (FREQUENCY_MAX as u32) << SCORE_SHIFT;

/// What a sweep keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing: all in the segment is expired or flushed, or a page is needed at once.
    Nothing,
    /// Everything still visible.
    All,
    /// The popular ones: about `target_bytes` of the `live_bytes` at the start.
    Popular {
        target_bytes: usize,
        live_bytes: usize,
    },
    /// Those fetched often enough for their size beside the average since they were last looked at, up to `most_bytes` of
    /// them.
    Fetched {
        average_bytes: usize,
        most_bytes: usize,
    },
}

impl Keep {
    /// What to keep of a segment in a merge. One that is mostly dead already is moved as it is.
    pub fn of_merge(page_bytes: usize, live_bytes: usize) -> Self {
        let target_bytes = page_bytes / KEEP_ONE_IN;
        if live_bytes <= target_bytes {
            Self::All
        } else {
            Self::Popular {
                target_bytes,
                live_bytes,
            }
        }
    }
}

/// The steered bound.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cutoff {
    score: u32,
}

impl Default for Cutoff {
    fn default() -> Self {
        Self { score: 1 }
    }
}

impl Cutoff {
    /// Whether an item is popular enough.
    #[inline]
    pub fn keeps(&self, frequency: u8, size: usize) -> bool {
        frequency > 0 && (u32::from(frequency) << SCORE_SHIFT) / size as u32 >= self.score
    }

    /// Moves the bound by an eighth when the share kept so far is off by more than an eighth.
    pub fn adapt(
        &mut self,
        seen_bytes: usize,
        kept_bytes: usize,
        target_bytes: usize,
        live_bytes: usize,
    ) {
        let wanted = (seen_bytes as u64 * target_bytes as u64 / live_bytes.max(1) as u64) as usize;
        if kept_bytes > wanted + wanted / 8 {
            self.score = (self.score + self.score / 8 + 1).min(CUTOFF_MAX);
        } else if kept_bytes < wanted - wanted / 8 {
            self.score = (self.score - self.score / 8).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutoff_finds_the_share_to_keep() {
        let mut cutoff = Cutoff::default();
        let mut state = 1u64;
        let (mut seen, mut kept) = (0, 0);
        for segment in 0..40 {
            (seen, kept) = (0, 0);
            for i in 0..1000 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let (frequency, size) =
                    ((state >> 33) as u8 % 100, 50 + (state >> 50) as usize % 100);
                seen += size;
                kept += if cutoff.keeps(frequency, size) {
                    size
                } else {
                    0
                };
                if i % 16 == 15 {
                    cutoff.adapt(seen, kept, 25_000, 100_000);
                }
            }
            assert!(segment < 39 || seen > 0);
        }
        let share = kept as f64 / seen as f64;
        assert!((0.2..0.3).contains(&share), "kept {share}");
    }

    #[test]
    fn unfetched_items_never_pass() {
        assert!(!Cutoff::default().keeps(0, 9));
        assert!(Cutoff::default().keeps(1, 1 << 20));
    }
}
