//! The middle of several rounds, and how far they lie apart.
//!
//! Always true: there is none of no numbers, and a middle never goes without its extremes.

/// Middle, least and most of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
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
        let mut numbers: Vec<f64> = numbers.into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        let count = numbers.len();
        let (least, most) = (*numbers.first()?, *numbers.last()?);
        let median = (numbers[(count - 1) / 2] + numbers[count / 2]) / 2.0;
        Some(Self {
            median,
            least,
            most,
            count,
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
    fn the_middle_of_an_even_number_lies_between_two() {
        assert_eq!(Spread::of([]), None);
        let of_four = Spread::of([4.0, 1.0, 2.0, 10.0]).expect("four numbers");
        assert_eq!((of_four.median, of_four.count), (3.0, 4));
        assert_eq!(of_four.width(), 3.0);
        assert_eq!(cell(Some(of_four), 1), "3.0 (1.0..10.0)");
    }
}
