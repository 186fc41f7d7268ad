//! Time: seconds, deadlines, and the TTL buckets that keep items of similar deadline together.
//!
//! TTL buckets are logarithmic: each doubling of the ttl is cut into equal widths. They only place items; that an
//! item dies in its exact second is the item's own business, so few and wide TTL buckets cost no exactness.
//!
//! Always true: the ttls of one TTL bucket differ by less than its width, but for those of months, which share one.

/// Seconds since a start the caller chose. Below `u32::MAX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(pub u32);

/// When an item stops being visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// It does not, as long as there is room for it.
    Never,
    /// It is visible while now is before this.
    At(Seconds),
}

/// A deadline as one number: `NEVER` sorts after every time.
pub(crate) const NEVER: u32 = u32::MAX;

impl Deadline {
    #[inline(always)]
    pub(crate) fn raw(self) -> u32 {
        match self {
            Self::Never => NEVER,
            Self::At(Seconds(at)) => at.min(NEVER - 1),
        }
    }

    #[inline(always)]
    pub(crate) fn from_raw(raw: u32) -> Self {
        if raw == NEVER {
            Self::Never
        } else {
            Self::At(Seconds(raw))
        }
    }
}

/// Ttls beyond this share a TTL bucket: 97 days.
const TTL_NEAR_MAX: u32 = 1 << 23;

/// An open segment is sealed at this age at the earliest. Sparse short ttls would otherwise open one every second.
const SEAL_AGE_MIN_SECONDS: u32 = 16;

/// And at this age at the latest.
const SEAL_AGE_MAX_SECONDS: u32 = 1 << 22;

/// So many groups of TTL buckets there are at most: one to the octave up to [`TTL_NEAR_MAX`], and two more.
pub(crate) const GROUP_COUNT: usize = 27;

/// How ttls map to TTL buckets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TtlBuckets {
    /// Each octave is cut into `1 << split_shift` TTL buckets.
    split_shift: u32,
}

impl TtlBuckets {
    /// Eight TTL buckets to the octave, fewer where pages are few: every TTL bucket in use holds an open segment.
    pub fn new(page_count: usize) -> Self {
        let split_shift = match page_count {
            0..128 => 0,
            128..256 => 1,
            256..512 => 2,
            _ => 3,
        };
        Self { split_shift }
    }

    /// How many there are. The last two are the one of far ttls and the one of items that never expire.
    pub fn count(self) -> usize {
        self.of_ttl(TTL_NEAR_MAX) + 3
    }

    /// The TTL bucket for a deadline still to come.
    #[inline]
    pub fn index(self, deadline: u32, now: u32) -> usize {
        debug_assert!(deadline > now, "deadline {deadline} has passed at {now}");
        if deadline - now <= TTL_NEAR_MAX {
            self.of_ttl(deadline - now)
        } else {
            self.count() - if deadline == NEVER { 1 } else { 2 }
        }
    }

    /// Neighbouring TTL buckets whose items may be packed together when each holds too little for a segment of its own:
    /// those of an octave. What expires keeps its bytes until all its segment has, so wider groups would fill memory with
    /// what nobody may see: perf/notes/eviction-policies.md. Items that never expire are a group of their own, and so are
    /// far ones.
    #[inline]
    pub fn group(self, index: usize) -> usize {
        match self.count() - index {
            1 => GROUP_COUNT - 1,
            2 => GROUP_COUNT - 2,
            _ => index >> self.split_shift,
        }
    }

    #[inline]
    fn width_shift(self, ttl: u32) -> u32 {
        (31 - (ttl | 1).leading_zeros()).saturating_sub(self.split_shift)
    }

    #[inline]
    fn of_ttl(self, ttl: u32) -> usize {
        // With the width of its octave a ttl has `split_shift + 1` significant bits; the octaves below it hold
        // `1 << split_shift` TTL buckets each.
        let shift = self.width_shift(ttl);
        ((ttl >> shift) + (shift << self.split_shift)) as usize
    }

    /// The shortest ttl of a TTL bucket; `None` for the one of items that never expire.
    pub fn shortest(self, index: usize) -> Option<u32> {
        match self.count() - index {
            1 => return None,
            2 => return Some(TTL_NEAR_MAX + 1),
            _ => {}
        }
        let shift = (index >> self.split_shift).saturating_sub(1);
        Some(((index - (shift << self.split_shift)) << shift) as u32)
    }

    /// At what age an open segment takes no more items, so that its first item does not wait long for its last.
    #[inline]
    pub fn seal_age(self, ttl: u32) -> u32 {
        (2u32 << self.width_shift(ttl.min(TTL_NEAR_MAX)))
            .clamp(SEAL_AGE_MIN_SECONDS, SEAL_AGE_MAX_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_grows_with_the_ttl_and_wastes_none() {
        for pages in [64, 128, 256, 512] {
            let buckets = TtlBuckets::new(pages);
            let mut last = buckets.of_ttl(1);
            for ttl in 1..=TTL_NEAR_MAX {
                let index = buckets.of_ttl(ttl);
                assert!(
                    index == last || index == last + 1,
                    "ttl {ttl}: {last} then {index}"
                );
                last = index;
            }
            assert_eq!(buckets.index(TTL_NEAR_MAX + 5, 4), last + 1);
            assert_eq!(buckets.index(NEVER - 1, 4), last + 1);
            assert_eq!(buckets.index(NEVER, 4), last + 2);
            assert_eq!(buckets.count(), last + 3);
        }
    }

    #[test]
    fn a_bucket_begins_with_its_shortest_ttl() {
        for pages in [64, 128, 256, 512] {
            let buckets = TtlBuckets::new(pages);
            for index in 1..buckets.count() - 2 {
                let ttl = buckets.shortest(index).expect("it is near");
                assert_eq!(buckets.of_ttl(ttl), index);
                assert_eq!(buckets.of_ttl(ttl - 1), index - 1, "{ttl} is the shortest");
            }
            assert_eq!(
                buckets.shortest(buckets.count() - 2),
                Some(TTL_NEAR_MAX + 1)
            );
            assert_eq!(buckets.shortest(buckets.count() - 1), None);
        }
    }

    #[test]
    fn one_bucket_is_narrow() {
        let buckets = TtlBuckets::new(512);
        for ttl in [9u32, 100, 1000, 86_400, 2_592_000] {
            let width = 1u32 << buckets.width_shift(ttl);
            assert!(width <= (ttl / 8).max(1), "ttl {ttl} width {width}");
            assert_ne!(buckets.of_ttl(ttl), buckets.of_ttl(ttl + width));
        }
    }

    #[test]
    fn groups_are_few_and_keep_never_apart() {
        for pages in [64, 128, 256, 512] {
            let buckets = TtlBuckets::new(pages);
            let group = |ttl| buckets.group(buckets.of_ttl(ttl));
            assert_eq!(group(40), group(50));
            assert_ne!(group(50), group(86_400));
            assert!(group(TTL_NEAR_MAX) < GROUP_COUNT - 2);
            assert_eq!(buckets.group(buckets.index(NEVER, 7)), GROUP_COUNT - 1);
            assert_eq!(buckets.group(buckets.index(NEVER - 1, 7)), GROUP_COUNT - 2);
        }
    }
}
