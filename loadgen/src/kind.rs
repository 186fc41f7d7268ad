//! The kinds of request that reports tell apart.

/// One kind of request. The first two are memtier's; they stand in every report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A write without a condition.
    Set,
    /// A retrieval of one or more keys.
    Get,
    /// A write of what is not there.
    Add,
    /// A write of what has not changed since it was read.
    Cas,
    /// A removal.
    Delete,
    /// An addition to a counter.
    Incr,
    /// A new exptime.
    Touch,
    /// A retrieval of one key that gives it a new exptime.
    Gat,
}

/// How many kinds there are.
pub const KIND_COUNT: usize = Kind::ALL.len();

impl Kind {
    /// All of them, in the order of reports.
    pub const ALL: [Kind; 8] = [
        Kind::Set,
        Kind::Get,
        Kind::Add,
        Kind::Cas,
        Kind::Delete,
        Kind::Incr,
        Kind::Touch,
        Kind::Gat,
    ];

    /// The command's word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Set => "set",
            Kind::Get => "get",
            Kind::Add => "add",
            Kind::Cas => "cas",
            Kind::Delete => "delete",
            Kind::Incr => "incr",
            Kind::Touch => "touch",
            Kind::Gat => "gat",
        }
    }

    /// The row of a report, as memtier writes its own: `Sets`.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Set => "Sets",
            Kind::Get => "Gets",
            Kind::Add => "Adds",
            Kind::Cas => "Cas",
            Kind::Delete => "Deletes",
            Kind::Incr => "Incrs",
            Kind::Touch => "Touches",
            Kind::Gat => "Gats",
        }
    }

    /// Whether its replies carry values, and its misses count against the expected hits.
    pub fn reads(self) -> bool {
        matches!(self, Kind::Get | Kind::Gat)
    }

    /// Its place in [`Kind::ALL`].
    #[inline]
    pub fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_stands_where_its_index_says() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), index);
        }
    }
}
