//! Quantities that differ from request to request or from key to key: bytes of a value, seconds
//! of a life.
//!
//! Always true: what is drawn by key is the same for that key in every run and on every thread,
//! so that a reader knows what a writer wrote; and drawing allocates nothing.

use std::sync::Arc;

use rand_core::Rng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::pattern::scale;
use super::values::mix;

/// Steps of a [`Spread::Table`]. The share of the distribution beyond its last step, one part in
/// 16 384, is told by that step.
const TABLE_STEPS: usize = 8192;

/// A distribution of whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Spread {
    /// Between two numbers, both included, each equally likely.
    Range(u32, u32),
    /// A few numbers, each with the sum of the weights up to and with its own.
    Weighted(Arc<[(u64, u32)]>),
    /// Equally likely steps, in order.
    Table(Arc<[u32]>),
}

impl Spread {
    /// The numbers of `list` with their weights. Panics when all weights are 0.
    pub fn weighted(list: &[(u32, u32)]) -> Self {
        let mut sum = 0;
        let list: Arc<[(u64, u32)]> = list
            .iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|&(number, weight)| {
                sum += u64::from(weight);
                (sum, number)
            })
            .collect();
        assert!(sum > 0, "a list of no weight");
        Spread::Weighted(list)
    }

    /// The distribution with the quantile function `quantile`, in equally likely steps.
    pub fn table(quantile: impl Fn(f64) -> f64) -> Self {
        let step = |index: usize| {
            let value = quantile((index as f64 + 0.5) / TABLE_STEPS as f64);
            value.round().clamp(0.0, f64::from(u32::MAX)) as u32
        };
        Spread::Table((0..TABLE_STEPS).map(step).collect())
    }

    /// The number at `draw`, which stands for the share `draw / 2^64` of the distribution.
    #[inline]
    pub fn at(&self, draw: u64) -> u32 {
        match self {
            Spread::Range(least, most) => least + scale(draw, u64::from(most - least) + 1) as u32,
            Spread::Weighted(list) => {
                let sum = list[list.len() - 1].0;
                let point = scale(draw, sum);
                list[list.partition_point(|&(until, _)| until <= point)].1
            }
            Spread::Table(steps) => steps[scale(draw, steps.len() as u64) as usize],
        }
    }

    /// The largest number.
    pub fn most(&self) -> u32 {
        match self {
            Spread::Range(_, most) => *most,
            Spread::Weighted(list) => list.iter().map(|&(_, number)| number).max().unwrap_or(0),
            Spread::Table(steps) => steps.iter().copied().max().unwrap_or(0),
        }
    }

    /// Whether the number can be drawn.
    pub fn holds(&self, number: u32) -> bool {
        match self {
            Spread::Range(least, most) => (*least..=*most).contains(&number),
            Spread::Weighted(list) => list.iter().any(|&(_, listed)| listed == number),
            Spread::Table(steps) => steps.contains(&number),
        }
    }
}

/// A quantity of a workload.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// Always the same.
    Fixed(u32),
    /// Drawn anew each time.
    Drawn(Spread),
    /// A function of the key that does not follow its index.
    ByKey(Spread),
    /// Growing with the index of the key over a range of keys, given by its first index and its
    /// count: memtier's size pattern `S`.
    Growing(Spread, u64, u64),
}

/// Sizes and lives of one key are drawn apart from each other by this.
pub(crate) const SIZE_SALT: u64 = 0x7369_7a65;
/// See [`SIZE_SALT`].
pub(super) const LIFE_SALT: u64 = 0x6c69_6665;

impl Amount {
    /// The amount for one request about `key`.
    #[inline]
    pub fn draw(&self, key: u64, salt: u64, random: &mut Xoshiro256PlusPlus) -> u32 {
        match self {
            Amount::Drawn(spread) => spread.at(random.next_u64()),
            _ => self.of_key(key, salt).unwrap_or(0),
        }
    }

    /// The amount that every request about `key` has, if there is one.
    #[inline]
    pub fn of_key(&self, key: u64, salt: u64) -> Option<u32> {
        match self {
            Amount::Fixed(number) => Some(*number),
            Amount::Drawn(_) => None,
            Amount::ByKey(spread) => Some(spread.at(mix(key ^ mix(salt)))),
            Amount::Growing(spread, first, count) => {
                // The middle of the part of the range that this key is.
                let part = (u128::from(key.saturating_sub(*first)) << 64) + (1 << 63);
                let draw = u64::try_from(part / u128::from(*count)).unwrap_or(u64::MAX);
                Some(spread.at(draw))
            }
        }
    }

    /// Whether a request about `key` can have this amount.
    #[inline]
    pub fn allows(&self, number: u32, key: u64, salt: u64) -> bool {
        match self {
            Amount::Drawn(spread) => spread.holds(number),
            _ => self.of_key(key, salt) == Some(number),
        }
    }

    /// The largest amount.
    pub fn most(&self) -> u32 {
        match self {
            Amount::Fixed(number) => *number,
            Amount::Drawn(spread) | Amount::ByKey(spread) | Amount::Growing(spread, ..) => {
                spread.most()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    fn mean(amount: &Amount) -> f64 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let sum: f64 = (0..200_000)
            .map(|key| f64::from(amount.draw(key, SIZE_SALT, &mut random)))
            .sum();
        sum / 200_000.0
    }

    #[test]
    fn a_range_reaches_both_ends_evenly() {
        let amount = Amount::Drawn(Spread::Range(10, 12));
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut seen = [0; 3];
        for key in 0..30_000 {
            seen[amount.draw(key, SIZE_SALT, &mut random) as usize - 10] += 1;
        }
        assert!(
            seen.iter().all(|&count| (9_500..10_500).contains(&count)),
            "{seen:?}"
        );
    }

    #[test]
    fn a_weighted_list_keeps_its_shares_drawn_or_by_key() {
        let spread = Spread::weighted(&[(100, 3), (0, 0), (1000, 1)]);
        for amount in [Amount::Drawn(spread.clone()), Amount::ByKey(spread.clone())] {
            let mean = mean(&amount);
            assert!((mean - 325.0).abs() < 5.0, "{mean}");
        }
        assert!(spread.holds(1000) && !spread.holds(0));
        assert_eq!(spread.most(), 1000);
    }

    #[test]
    fn a_table_has_the_mean_of_its_distribution() {
        // An exponential distribution of mean 500.
        let amount = Amount::ByKey(Spread::table(|share| -500.0 * (1.0 - share).ln()));
        let mean = mean(&amount);
        assert!((mean - 500.0).abs() < 5.0, "{mean}");
    }

    #[test]
    fn what_is_drawn_by_key_can_be_known_again() {
        let amount = Amount::ByKey(Spread::Range(1, 1000));
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        for key in 0..100 {
            let number = amount.draw(key, SIZE_SALT, &mut random);
            assert!(amount.allows(number, key, SIZE_SALT));
            assert!(!amount.allows(number + 1, key, SIZE_SALT));
        }
    }

    #[test]
    fn a_growing_amount_goes_from_end_to_end() {
        let amount = Amount::Growing(Spread::Range(0, 9), 100, 10);
        let all: Vec<u32> = (100..110)
            .filter_map(|key| amount.of_key(key, SIZE_SALT))
            .collect();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
