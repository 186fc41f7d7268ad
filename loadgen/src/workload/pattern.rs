//! Which key comes next: memtier's patterns by their letters, and two of YCSB's beside them.
//!
//! Always true: a key drawn lies inside the range, and the sequence depends on the seed, the
//! pattern and the stream's number alone.

use rand_core::Rng;
use rand_distr::{Distribution, Normal, Zipf};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::keys::KeySpace;

/// How keys are chosen, with memtier's letters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pattern {
    /// `R`: each key equally likely.
    Uniform,
    /// `G`: a normal distribution over the indices; draws outside the range are drawn again.
    Gauss {
        /// The most likely index.
        median: f64,
        /// In indices.
        deviation: f64,
    },
    /// `S`: each connection walks the whole range in order.
    Sequential,
    /// `P`: the range is divided among the connections, each walks its part in order.
    Parallel,
    /// `Z`: the n-th key of the range is chosen with a probability proportional to n^-exponent.
    Zipf {
        /// Not negative, and below 5.
        exponent: f64,
    },
    /// `Y`: the same popularities, but spread over the range by a fixed permutation, as YCSB
    /// does: neighbours in popularity are not neighbours in the index.
    Scrambled {
        /// Not negative, and below 5.
        exponent: f64,
    },
    /// `L`: the most recently written keys of this stream are the most popular, with Zipf. Only
    /// for reads beside writes that walk (`S` or `P`).
    Latest {
        /// Not negative, and below 5.
        exponent: f64,
    },
}

impl Pattern {
    /// Its letter.
    pub fn letter(self) -> char {
        match self {
            Pattern::Uniform => 'R',
            Pattern::Gauss { .. } => 'G',
            Pattern::Sequential => 'S',
            Pattern::Parallel => 'P',
            Pattern::Zipf { .. } => 'Z',
            Pattern::Scrambled { .. } => 'Y',
            Pattern::Latest { .. } => 'L',
        }
    }
}

/// Draws the keys of one stream.
pub(super) enum Picker {
    Uniform {
        minimum: u64,
        count: u64,
    },
    Gauss {
        normal: Normal<f64>,
        minimum: f64,
        maximum: f64,
    },
    Walk {
        minimum: u64,
        maximum: u64,
        next: u64,
    },
    Zipf {
        zipf: Zipf<f64>,
        minimum: u64,
        scramble: Option<Scramble>,
    },
    Latest {
        zipf: Zipf<f64>,
        minimum: u64,
        count: u64,
    },
}

impl Picker {
    pub(super) fn new(
        pattern: Pattern,
        space: &KeySpace,
        connection: u64,
        connection_count: u64,
    ) -> Self {
        // More connections than keys: the surplus walks the whole range.
        let part = || {
            share(space, connection, connection_count).unwrap_or((space.minimum(), space.maximum()))
        };
        let zipf = |count: u64, exponent| {
            Zipf::new(count as f64, exponent).expect("the exponent was checked")
        };
        match pattern {
            Pattern::Uniform => Picker::Uniform {
                minimum: space.minimum(),
                count: space.count(),
            },
            Pattern::Gauss { median, deviation } => Picker::Gauss {
                normal: Normal::new(median, deviation).expect("the deviation was checked"),
                minimum: space.minimum() as f64,
                maximum: space.maximum() as f64,
            },
            Pattern::Sequential => Picker::walk(space.minimum(), space.maximum()),
            Pattern::Parallel => {
                let (minimum, maximum) = part();
                Picker::walk(minimum, maximum)
            }
            Pattern::Zipf { exponent } => Picker::Zipf {
                zipf: zipf(space.count(), exponent),
                minimum: space.minimum(),
                scramble: None,
            },
            Pattern::Scrambled { exponent } => Picker::Zipf {
                zipf: zipf(space.count(), exponent),
                minimum: space.minimum(),
                scramble: Some(Scramble::new(space.count())),
            },
            Pattern::Latest { exponent } => {
                let (minimum, maximum) = part();
                let count = maximum - minimum + 1;
                Picker::Latest {
                    zipf: zipf(count, exponent),
                    minimum,
                    count,
                }
            }
        }
    }

    pub(super) fn walk(minimum: u64, maximum: u64) -> Self {
        Picker::Walk {
            minimum,
            maximum,
            next: minimum,
        }
    }

    /// The next key. `written` is what the stream will write next, which only `Latest` looks at.
    #[inline]
    pub(super) fn pick(&mut self, random: &mut Xoshiro256PlusPlus, written: u64) -> u64 {
        match self {
            Picker::Uniform { minimum, count } => *minimum + below(random, *count),
            Picker::Walk {
                minimum,
                maximum,
                next,
            } => {
                let index = *next;
                *next = if index == *maximum {
                    *minimum
                } else {
                    index + 1
                };
                index
            }
            Picker::Zipf {
                zipf,
                minimum,
                scramble,
            } => {
                let rank = zipf.sample(random) as u64 - 1;
                *minimum + scramble.map_or(rank, |scramble| scramble.place(rank))
            }
            Picker::Gauss {
                normal,
                minimum,
                maximum,
            } => loop {
                let index = normal.sample(random).round();
                if index >= *minimum && index <= *maximum {
                    return index as u64;
                }
            },
            Picker::Latest {
                zipf,
                minimum,
                count,
            } => {
                let age = zipf.sample(random) as u64;
                *minimum + (written.saturating_sub(*minimum) % *count + *count - age) % *count
            }
        }
    }

    /// The key a walk comes to next; the smallest of the others.
    #[inline]
    pub(super) fn position(&self) -> u64 {
        match self {
            Picker::Walk { next, .. } => *next,
            Picker::Uniform { minimum, .. }
            | Picker::Zipf { minimum, .. }
            | Picker::Latest { minimum, .. } => *minimum,
            Picker::Gauss { minimum, .. } => *minimum as u64,
        }
    }
}

/// A fixed permutation of the numbers below a count: odd multiplications and shifts over the next
/// power of two, repeated until the result is below the count.
#[derive(Clone, Copy)]
pub(super) struct Scramble {
    count: u64,
    mask: u64,
    shift: u32,
}

impl Scramble {
    fn new(count: u64) -> Self {
        let bits = u64::BITS - (count - 1).leading_zeros();
        Self {
            count,
            mask: u64::MAX.checked_shr(u64::BITS - bits).unwrap_or(0),
            shift: (bits / 2).max(1),
        }
    }

    #[inline]
    fn place(self, rank: u64) -> u64 {
        let mut at = rank;
        loop {
            at = at.wrapping_add(0x5851_f42d_4c95_7f2d) & self.mask;
            at = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) & self.mask;
            at ^= at >> self.shift;
            at = at.wrapping_mul(0xbf58_476d_1ce4_e5b9) & self.mask;
            at ^= at >> self.shift;
            if at < self.count {
                return at;
            }
        }
    }
}

/// The part of the range that connection `connection` of `connection_count` walks alone: first
/// and last index, or `None` when there are more connections than keys and this one gets none.
pub fn share(space: &KeySpace, connection: u64, connection_count: u64) -> Option<(u64, u64)> {
    let cut =
        |n: u64| (u128::from(space.count()) * u128::from(n) / u128::from(connection_count)) as u64;
    let (first, end) = (cut(connection), cut(connection + 1));
    (first < end).then(|| (space.minimum() + first, space.minimum() + end - 1))
}

/// A number below `bound`, uniformly: the high half of a 128-bit product. The bias, at most
/// `bound / 2^64`, is far below what any run can see.
#[inline]
pub(super) fn below(random: &mut Xoshiro256PlusPlus, bound: u64) -> u64 {
    scale(random.next_u64(), bound)
}

/// The number below `bound` that stands where `draw` stands among all 64-bit numbers.
#[inline]
pub(super) fn scale(draw: u64, bound: u64) -> u64 {
    ((u128::from(draw) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_shares_cover_every_key_once() {
        for (key_count, connection_count) in [(1000, 7), (1000, 1), (3, 8)] {
            let space = KeySpace::new("k", 5, 4 + key_count);
            let mut seen: Vec<u64> = (0..connection_count)
                .filter_map(|connection| share(&space, connection, connection_count))
                .flat_map(|(first, last)| first..=last)
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (5..5 + key_count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_scramble_is_a_permutation_that_parts_neighbours() {
        for count in [1, 2, 3, 7, 64, 1000, 4097] {
            let scramble = Scramble::new(count);
            let places: Vec<u64> = (0..count).map(|rank| scramble.place(rank)).collect();
            let mut sorted = places.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..count).collect::<Vec<_>>());
            if count >= 1000 {
                let near = places
                    .windows(2)
                    .filter(|pair| pair[0].abs_diff(pair[1]) < count / 50)
                    .count();
                assert!(near < count as usize / 10, "{near} of {count}");
            }
        }
    }
}
