//! The middle of several rounds, and how far they lie apart.
//!
//! Always true: there is none of no numbers, and a middle never goes without its extremes or the limits it lies
//! between.

use serde::Serialize;

/// How surely the limits of an [`Estimate`] hold the middle, if there are enough rounds for it.
const SURELY: f64 = 0.95;

/// Middle, least and most of some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// Of these numbers, if there are any.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let numbers = sorted(numbers);
        Some(Self {
            median: middle(&numbers)?,
            least: *numbers.first()?,
            most: *numbers.last()?,
            count: numbers.len(),
        })
    }

    /// By how much of the middle they differ from each other.
    pub fn width(self) -> f64 {
        if self.median > 0.0 {
            (self.most - self.least) / self.median
        } else {
            0.0
        }
    }
}

/// The middle of what the rounds are a sample of, as far as they tell it.
///
/// The limits are two of the numbers themselves. Each number lies below the true middle as likely as above it, so how
/// surely the limits hold it between them is counted as tosses of a coin are: nothing is assumed of how the numbers are
/// distributed, but that each round tosses anew.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The middle number, or the mean of the two in the middle.
    pub median: f64,
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
    /// How surely the true middle lies between them: 0.95 at least, or as far as least and most can tell.
    pub confidence: f64,
    /// How many numbers there are.
    pub rounds: usize,
}

impl Estimate {
    /// From these numbers, if there are any.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let numbers = sorted(numbers);
        let rounds = numbers.len();
        let median = middle(&numbers)?;
        // With `rank` numbers left out on either side the limits miss if at most so many tosses came out one way.
        let (mut rank, mut missed) = (0, 2.0 * 0.5_f64.powi(rounds as i32));
        let (mut next, mut missed_next) = (missed, missed);
        for left_out in 1..rounds.div_ceil(2) {
            next *= (rounds + 1 - left_out) as f64 / left_out as f64;
            missed_next += next;
            if missed_next > 1.0 - SURELY {
                break;
            }
            (rank, missed) = (left_out, missed_next);
        }
        Some(Self {
            median,
            low: numbers[rank],
            high: numbers[rounds - 1 - rank],
            confidence: 1.0 - missed,
            rounds,
        })
    }

    /// Whether the limits, which hold the middle surely enough, have `value` outside.
    pub fn decides(self, value: f64) -> bool {
        self.confidence >= SURELY && (self.high <= value || self.low > value)
    }
}

fn sorted(numbers: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut numbers: Vec<f64> = numbers.into_iter().collect();
    numbers.sort_by(f64::total_cmp);
    numbers
}

/// The middle of sorted numbers, or the mean of the two in the middle; none of none.
fn middle(sorted: &[f64]) -> Option<f64> {
    let count = sorted.len();
    let upper = sorted.get(count / 2)?;
    Some((sorted[(count - 1) / 2] + upper) / 2.0)
}

/// A cell of a table: the middle, and the extremes in parentheses.
pub fn cell(spread: Option<Spread>, digits: usize) -> String {
    match spread {
        None => "invalid".into(),
        Some(Spread {
            median,
            least,
            most,
            ..
        }) => format!("{median:.digits$} ({least:.digits$}..{most:.digits$})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_tables_of_the_sign_test() {
        // Numbers left out on either side, and the certainty that leaves.
        for (rounds, left_out, confidence) in [
            (1, 0, 0.0),
            (3, 0, 0.75),
            (5, 0, 0.9375),
            (6, 0, 0.96875),
            (8, 0, 0.9921875),
            (9, 1, 0.9609375),
            (15, 3, 0.964844),
            (25, 7, 0.956715),
        ] {
            let of = Estimate::of((0..rounds).rev().map(|number| number as f64));
            let of = of.expect("numbers");
            let limits = (of.low, of.high);
            let expected = (left_out as f64, (rounds - 1 - left_out) as f64);
            assert_eq!(limits, expected, "{rounds}");
            assert!((of.confidence - confidence).abs() < 1e-6, "{of:?}");
            assert_eq!(of.rounds, rounds);
        }
        assert_eq!(Estimate::of([]), None);
    }

    #[test]
    fn limits_hold_the_middle_about_as_often_as_they_say() {
        let mut random = fastrand::Rng::with_seed(1);
        let samples = 4000;
        let held = (0..samples)
            .filter(|_| {
                // Skewed, as times are: its middle is at ln 2.
                let numbers = (0..9).map(|_| -(1.0 - random.f64()).ln());
                let of = Estimate::of(numbers).expect("numbers");
                (of.low..=of.high).contains(&std::f64::consts::LN_2)
            })
            .count();
        let share = held as f64 / f64::from(samples);
        assert!((share - 0.961).abs() < 0.015, "{share}");
    }

    #[test]
    fn few_rounds_decide_nothing_and_many_what_lies_outside() {
        let of = |count: usize| Estimate::of((0..count).map(|number| number as f64));
        let (few, many) = (of(5).expect("numbers"), of(6).expect("numbers"));
        assert!(!few.decides(9.0) && !few.decides(-1.0));
        assert!(many.decides(5.0) && many.decides(-1.0));
        assert!(!many.decides(0.0) && !many.decides(4.9));
    }

    #[test]
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_eq!(Spread::of([]), None);
        let of_four = Spread::of([4.0, 1.0, 2.0, 10.0]).expect("four numbers");
        assert_eq!((of_four.median, of_four.count), (3.0, 4));
        assert_eq!(of_four.width(), 3.0);
        assert_eq!(cell(Some(of_four), 1), "3.0 (1.0..10.0)");
    }
}
