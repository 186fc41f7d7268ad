//! What all connections of a run share: the keys, the values, and how replies are looked at.

use super::fixed::Fixed;
use crate::workload::spread::SIZE_SALT;
use crate::workload::values::Tape;
use crate::workload::{Amount, KeySpace, Mix, Workload};

/// How closely replies are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Only that they are replies to a request of that kind: for responders with a canned answer.
    Nothing,
    /// Keys and lengths always, the bytes of one hit in eight.
    Sampled,
    /// Keys, lengths and all bytes.
    Everything,
}

/// Which of memcached's languages is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `get`, `set` and so on.
    Classic,
    /// `mg`, `ms` and so on, with an opaque on each request.
    Meta,
}

/// What all connections of a run share.
pub struct Terms {
    /// The keys.
    pub keys: KeySpace,
    /// Where values come from.
    pub tape: Tape,
    /// How closely replies are looked at.
    pub verify: Verify,
    /// What is spoken.
    pub dialect: Dialect,
    /// Bytes of values; `None` where any length will do.
    sizes: Option<Amount>,
    /// Bytes of the values, where all have the same.
    pub(super) fixed_bytes: Option<usize>,
    /// What stands before the part of the key that differs, in a get and in a hit.
    pub(super) get_head: Fixed,
    pub(super) hit_head: Fixed,
    /// What stands between the key and the value of a hit, where all values have the same length.
    pub(super) value_head: Fixed,
}

impl Terms {
    /// The terms of a workload.
    pub fn new(workload: &Workload, dialect: Dialect, verify: Verify) -> Self {
        let recorded = matches!(workload.mix, Mix::Recorded(_));
        let fixed_bytes = match workload.sizes {
            Amount::Fixed(bytes) if !recorded && dialect == Dialect::Classic => {
                Some(bytes as usize)
            }
            _ => None,
        };
        Self {
            keys: workload.keys.clone(),
            tape: Tape::new(workload.value_bytes_max()),
            verify,
            dialect,
            sizes: (!recorded).then(|| workload.sizes.clone()),
            fixed_bytes,
            get_head: Fixed::new(format!("get {}", workload.keys.prefix())),
            hit_head: Fixed::new(format!("VALUE {}", workload.keys.prefix())),
            value_head: Fixed::new(format!(" 0 {}\r\n", fixed_bytes.unwrap_or(0))),
        }
    }

    /// Whether a value of `key` can have this length.
    pub(super) fn allows(&self, key: u64, value_bytes: u32) -> bool {
        match &self.sizes {
            Some(sizes) => sizes.allows(value_bytes, key, SIZE_SALT),
            None => self.tape.holds(value_bytes as usize),
        }
    }

    /// What the length of a value of `key` has to be, in words.
    pub(super) fn expected_bytes(&self, key: u64) -> String {
        match self
            .sizes
            .as_ref()
            .and_then(|sizes| sizes.of_key(key, SIZE_SALT))
        {
            Some(bytes) => bytes.to_string(),
            None => "one that was written".into(),
        }
    }
}
