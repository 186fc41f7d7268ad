//! Time: seconds, deadlines, and the TTL buckets that keep items of similar deadline together.
//!
//! TTL buckets are logarithmic: each doubling of the ttl is cut into equal widths. They only place items; that an
//! item dies in its exact second is the item's own business, so few and wide TTL buckets cost no exactness.
//!
//! Always true: the ttls of one TTL bucket differ by less than its width, and a width fits the item's delta four
//! times.

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

/// Widest TTL bucket, as a power of two: 48 days.
const WIDTH_SHIFT_MAX: u32 = 22;

/// An open segment is sealed at this age at the earliest. Sparse short ttls would otherwise open one every second.
const SEAL_AGE_MIN_SECONDS: u32 = 16;

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

    /// How many there are. The last index is the one of items that never expire.
    pub fn count(self) -> usize {
        self.index(NEVER, 0) + 1
    }

    /// The TTL bucket for a deadline still to come.
    #[inline]
    pub fn index(self, deadline: u32, now: u32) -> usize {
        if deadline == NEVER {
            return self.of_ttl(u32::MAX) + 1;
        }
        debug_assert!(deadline > now, "deadline {deadline} has passed at {now}");
        self.of_ttl(deadline - now)
    }

    #[inline]
    fn width_shift(self, ttl: u32) -> u32 {
        (31 - (ttl | 1).leading_zeros())
            .saturating_sub(self.split_shift)
            .min(WIDTH_SHIFT_MAX)
    }

    #[inline]
    fn of_ttl(self, ttl: u32) -> usize {
        // With the width of its octave a ttl has `split_shift + 1` significant bits; the octaves below it hold
        // `1 << split_shift` TTL buckets each.
        let shift = self.width_shift(ttl);
        ((ttl >> shift) + (shift << self.split_shift)) as usize
    }

    /// At what age an open segment takes no more items, so that its first item does not wait long for its last.
    #[inline]
    pub fn seal_age(self, ttl: u32) -> u32 {
        (2u32 << self.width_shift(ttl)).max(SEAL_AGE_MIN_SECONDS)
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
            for ttl in (1..1 << 20).chain(
                (20..32).flat_map(|s| (0..64).map(move |k| (1u32 << s) + k * ((1u32 << s) / 64))),
            ) {
                let index = buckets.of_ttl(ttl);
                assert!(
                    index == last || index == last + 1 || ttl >= 1 << 20 && index >= last,
                    "ttl {ttl}: {last} then {index}"
                );
                last = index;
            }
            assert!(buckets.of_ttl(u32::MAX) + 2 == buckets.count());
            assert!(buckets.count() <= 1300, "{}", buckets.count());
        }
    }

    #[test]
    fn one_bucket_is_narrow() {
        let buckets = TtlBuckets::new(512);
        for ttl in [9u32, 100, 1000, 86_400, 2_592_000, 100_000_000] {
            let width = 1u32 << buckets.width_shift(ttl);
            assert!(width <= (ttl / 8).max(1), "ttl {ttl} width {width}");
            assert_ne!(buckets.of_ttl(ttl), buckets.of_ttl(ttl + width));
        }
    }

    #[test]
    fn far_deadlines_still_fit_the_delta() {
        let buckets = TtlBuckets::new(512);
        assert!(
            u64::from(buckets.seal_age(u32::MAX)) + (2 << WIDTH_SHIFT_MAX)
                <= u64::from(crate::item::DELTA_MAX) + 2
        );
    }
}
