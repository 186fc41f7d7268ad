//! Which column of the table holds which tags.
//!
//! The tags fall into 4096 classes by their upper bits. A class belongs to one column; when a column is added it takes
//! an equal number of classes from each of the others, so all columns stay equally full whatever their number is, and
//! an entry's tag alone tells whether it moves.
//!
//! Always true: with `n` columns each owns `4096 / n` classes, rounded up or down; adding a column only moves classes
//! to it, and taking it away moves them back to where they were.

use super::bucket::{self, Bucket, SLOTS};

/// Classes of tags.
const CLASS_COUNT: usize = 1 << 12;
const CLASS_SHIFT: u32 = 16 - 12;

/// Bytes of what is kept of all classes.
const CLASSES_BYTES: usize = 3 * CLASS_COUNT;

/// Most columns: their number fits a byte.
pub(crate) const COLUMNS_MAX: usize = 255;

/// Classes that change their owner until there are [`COLUMNS_MAX`] columns and one more: each column's share of them.
const STOLEN_MAX: usize = {
    let (mut sum, mut columns) = (0, 2);
    while columns <= COLUMNS_MAX + 1 {
        sum += CLASS_COUNT / columns;
        columns += 1;
    }
    sum
};

/// The class of a tag.
#[inline(always)]
fn class(tag: u16) -> usize {
    usize::from(tag >> CLASS_SHIFT) & (CLASS_COUNT - 1)
}

/// The owners of all classes, before and after the next column.
pub(crate) struct Owners {
    /// For each class the owner among the columns of before, and among those and one more.
    pairs: Box<[[u8; 2]; CLASS_COUNT]>,
    /// For each class 1 if the next column gets it, otherwise 0.
    leaving: Box<[u8; CLASS_COUNT]>,
    /// Columns of before.
    columns: usize,
    /// From whom each class was stolen, in the order of the thefts: what it takes to undo them.
    stolen_from: Vec<u8>,
}

impl Owners {
    /// One column, and the second as the next.
    pub fn new() -> Self {
        let mut owners = Self {
            pairs: Box::new([[0; 2]; CLASS_COUNT]),
            leaving: Box::new([0; CLASS_COUNT]),
            columns: 1,
            stolen_from: Vec::with_capacity(STOLEN_MAX),
        };
        owners.steal();
        owners
    }

    /// Bytes of it beside itself.
    pub fn side_bytes(&self) -> usize {
        CLASSES_BYTES + self.stolen_from.len()
    }

    /// The columns of a tag: before the next column is added, and after.
    #[inline(always)]
    pub fn of(&self, tag: u16) -> [u8; 2] {
        self.pairs[class(tag)]
    }

    /// The slots of a bucket, a bit each, whose tags change to the next column. An empty slot may count as one of them.
    #[inline(always)]
    pub fn leaving(&self, of: &Bucket) -> u32 {
        (0..SLOTS).rev().fold(0, |slots, slot| {
            slots << 1 | u32::from(self.leaving[class(bucket::tag(of, slot))])
        })
    }

    /// The next column is there; prepares for the one after it.
    pub fn advance(&mut self) {
        for pair in &mut self.pairs[..] {
            pair[0] = pair[1];
        }
        self.columns += 1;
        self.steal();
    }

    /// The last column has gone: undoes `advance`.
    pub fn retreat(&mut self) {
        let stolen_by = |pairs: &[[u8; 2]], side: usize, thief: usize| {
            let is_thief = |pair: &&[u8; 2]| usize::from(pair[side]) == thief;
            pairs.iter().filter(is_thief).count()
        };
        // What the next column was to get stays where it is.
        let kept = self.stolen_from.len() - stolen_by(&self.pairs[..], 1, self.columns);
        self.stolen_from.truncate(kept);
        // And the last column is the next one again: it is known whom it robs.
        let thief = self.columns - 1;
        let mut theft = kept - stolen_by(&self.pairs[..], 0, thief);
        for pair in &mut self.pairs[..] {
            pair[1] = pair[0];
            if usize::from(pair[1]) == thief {
                pair[0] = self.stolen_from[theft];
                theft += 1;
            }
        }
        self.columns -= 1;
        self.note_leaving();
    }

    fn steal(&mut self) {
        let after = self.columns + 1;
        let share = |column: usize| CLASS_COUNT / after + usize::from(column < CLASS_COUNT % after);
        let mut owned = [0usize; COLUMNS_MAX + 1];
        for pair in &self.pairs[..] {
            owned[usize::from(pair[0])] += 1;
        }
        let mut stolen = 0;
        for pair in &mut self.pairs[..] {
            let owner = usize::from(pair[0]);
            pair[1] = pair[0];
            if owned[owner] > share(owner) && stolen < share(self.columns) {
                owned[owner] -= 1;
                stolen += 1;
                pair[1] = self.columns as u8;
                self.stolen_from.push(pair[0]);
            }
        }
        self.note_leaving();
    }

    fn note_leaving(&mut self) {
        for (leaving, pair) in self.leaving.iter_mut().zip(&self.pairs[..]) {
            *leaving = u8::from(pair[0] != pair[1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_own_equal_shares_and_only_the_new_one_gains() {
        let mut owners = Owners::new();
        for columns in 1..COLUMNS_MAX {
            let mut counts = vec![0usize; columns + 1];
            for tag in (0..=u16::MAX).step_by(1 << CLASS_SHIFT) {
                let [before, after] = owners.of(tag);
                assert!(usize::from(before) < columns);
                assert!(after == before || usize::from(after) == columns);
                counts[usize::from(after)] += 1;
            }
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(
                most - least <= 1,
                "{columns} columns and one: {least} to {most}"
            );
            owners.advance();
        }
    }

    #[test]
    fn tags_leave_for_the_next_column_and_no_other() {
        let mut owners = Owners::new();
        let mut tags = 1..=u16::MAX;
        for columns in 1..COLUMNS_MAX {
            let mut bucket = [0xa5; bucket::BUCKET_BYTES];
            let mut expected = 0;
            for slot in 0..SLOTS {
                let tag = tags.next().expect("enough tags").wrapping_mul(0x9e37) | 1;
                bucket[slot * 2..][..2].copy_from_slice(&tag.to_le_bytes());
                let leaves = usize::from(owners.of(tag)[1]) == columns;
                expected |= u32::from(leaves) << slot;
            }
            assert_eq!(owners.leaving(&bucket), expected, "{columns} columns");
            owners.advance();
        }
    }

    #[test]
    fn retreat_undoes_advance() {
        let states = |owners: &Owners| (*owners.pairs, *owners.leaving, owners.stolen_from.clone());
        let mut owners = Owners::new();
        let mut seen = Vec::new();
        for _ in 1..COLUMNS_MAX {
            seen.push(states(&owners));
            owners.advance();
        }
        assert_eq!(
            owners.stolen_from.len(),
            STOLEN_MAX,
            "no more is ever needed"
        );
        for before in seen.iter().rev() {
            owners.retreat();
            assert!(states(&owners) == *before, "{} columns", owners.columns);
        }
    }
}
