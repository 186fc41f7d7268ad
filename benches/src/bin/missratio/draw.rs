//! Drawing: ranks by popularity, and what an object has by its number.
//!
//! Always true: the same seed gives the same ranks; size, key and lifetime of an object follow from its number alone.

use rand_core::Rng;
use rand_distr::{Distribution, Zipf};

use crate::workload::{Bytes, DEVIATION, Popularity, Ttl};

/// Values are cut here: every store of the comparison can have segments of 64 KiB.
pub const VALUE_BYTES_MAX: u32 = 60_000;

/// Turns a number into one that looks random; the same for the same (splitmix64's finish).
#[inline]
pub fn mix(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A number from 0 up to but without 1.
#[inline]
pub fn unit(word: u64) -> f64 {
    (word >> 11) as f64 / (1u64 << 53) as f64
}

/// A number below `count`.
#[inline]
pub fn below(random: &mut impl Rng, count: usize) -> usize {
    ((u128::from(random.next_u64()) * count as u128) >> 64) as usize
}

/// Draws ranks, the most popular is 0.
pub enum Ranks {
    /// By Zipf's law.
    Zipf(Zipf<f64>),
    /// By pieces: share of the requests up to here, first rank, how many.
    Pieces(Vec<(f64, usize, usize)>),
}

impl Ranks {
    /// For `count` objects.
    pub fn new(popularity: Popularity, count: usize) -> Self {
        match popularity {
            Popularity::Zipf(exponent) => {
                Self::Zipf(Zipf::new(count as f64, exponent).expect("an exponent from 0 on"))
            }
            Popularity::Curve(points) => {
                let mut first = 0;
                let pieces = points.iter().map(|&(share, requests)| {
                    let end = ((share * count as f64).round() as usize).max(first + 1);
                    let piece = (requests, first, end - first);
                    first = end;
                    piece
                });
                Self::Pieces(pieces.collect())
            }
        }
    }

    /// Draws one.
    #[inline]
    pub fn draw(&self, random: &mut impl Rng) -> usize {
        match self {
            Self::Zipf(zipf) => zipf.sample(random) as usize - 1,
            Self::Pieces(pieces) => {
                let at = unit(random.next_u64());
                let index = pieces.partition_point(|&(requests, ..)| requests <= at);
                let (_, first, count) = pieces[index.min(pieces.len() - 1)];
                first + below(random, count)
            }
        }
    }
}

/// The size an object has; `salt` tells its key's from its value's.
pub fn bytes_of(bytes: Bytes, object: u32, salt: u64) -> u32 {
    let word = mix(u64::from(object) ^ (salt << 40));
    let size = match bytes {
        Bytes::Fixed(size) => f64::from(size),
        Bytes::Between(least, most) => {
            f64::from(least) + (unit(word) * f64::from(most - least + 1)).floor()
        }
        Bytes::Mean(mean) => {
            // Box and Muller.
            let (one, two) = (1.0 - unit(word), unit(mix(word)));
            let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos();
            let middle = mean.ln() - DEVIATION * DEVIATION / 2.0;
            (middle + DEVIATION * normal).exp().round()
        }
        Bytes::Quantiles(points) => {
            let at = unit(word);
            let above = points
                .partition_point(|&(share, _)| share <= at)
                .clamp(1, points.len() - 1);
            let ((low, from), (high, to)) = (points[above - 1], points[above]);
            let part = (at - low) / (high - low);
            (from.ln() + part * (to.ln() - from.ln())).exp().round()
        }
    };
    (size as u32).clamp(1, VALUE_BYTES_MAX)
}

/// The lifetime of an object in seconds; 0 is for ever.
pub fn ttl_of(ttls: &[Ttl], object: u32) -> u32 {
    let word = mix(u64::from(object) ^ (3 << 40));
    let whole: f64 = ttls.iter().map(|ttl| ttl.share).sum();
    let mut at = unit(word) * whole;
    for ttl in ttls {
        if at < ttl.share {
            let width = f64::from(ttl.most - ttl.least + 1);
            return ttl.least + (unit(mix(word)) * width) as u32;
        }
        at -= ttl.share;
    }
    ttls[ttls.len() - 1].least
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    #[test]
    fn ranks_follow_zipfs_law_at_exponents_below_at_and_above_one() {
        const COUNT: usize = 50;
        const DRAWS: usize = 400_000;
        for exponent in [0.0, 0.3048, 0.99, 1.0, 1.2117, 1.4908] {
            let ranks = Ranks::new(Popularity::Zipf(exponent), COUNT);
            let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
            let mut seen = [0usize; COUNT];
            for _ in 0..DRAWS {
                seen[ranks.draw(&mut random)] += 1;
            }
            let weights: Vec<f64> = (1..=COUNT).map(|r| (r as f64).powf(-exponent)).collect();
            let whole: f64 = weights.iter().sum();
            for (rank, weight) in weights.iter().enumerate() {
                let wanted = weight / whole * DRAWS as f64;
                let off = (seen[rank] as f64 - wanted).abs();
                // Five standard deviations: one seed in ten thousand would fail.
                assert!(
                    off < 5.0 * wanted.sqrt(),
                    "exponent {exponent}, rank {rank}: {} drawn, {wanted:.0} expected",
                    seen[rank]
                );
            }
        }
    }

    #[test]
    fn ranks_follow_a_curve() {
        let curve = Popularity::Curve(&[(0.01, 0.5), (0.1, 0.8), (1.0, 1.0)]);
        let ranks = Ranks::new(curve, 1000);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
        let mut seen = [0usize; 3];
        for _ in 0..100_000 {
            let rank = ranks.draw(&mut random);
            assert!(rank < 1000);
            seen[usize::from(rank >= 10) + usize::from(rank >= 100)] += 1;
        }
        for (seen, wanted) in seen.into_iter().zip([50_000.0, 30_000.0, 20_000.0]) {
            assert!((seen as f64 - wanted).abs() < 1000.0, "{seen} of {wanted}");
        }
    }

    #[test]
    fn sizes_and_lifetimes_have_their_means_and_shares() {
        let count = 200_000;
        let mean = |bytes| {
            let sum: u64 = (0..count).map(|o| u64::from(bytes_of(bytes, o, 2))).sum();
            sum as f64 / f64::from(count)
        };
        assert!((mean(Bytes::Mean(273.0)) - 273.0).abs() < 5.0);
        assert!((mean(Bytes::Between(16, 250)) - 133.0).abs() < 1.0);
        let short = |share, seconds| Ttl {
            share,
            least: seconds,
            most: seconds + 9,
        };
        let ttls = [short(0.6, 100), short(0.3, 1000)];
        let first = (0..count).filter(|&o| ttl_of(&ttls, o) < 110).count();
        let share = first as f64 / f64::from(count);
        assert!((share - 2.0 / 3.0).abs() < 0.01, "{share}");
        assert!((0..count).all(|o| matches!(ttl_of(&ttls, o), 100..110 | 1000..1010)));
    }
}
