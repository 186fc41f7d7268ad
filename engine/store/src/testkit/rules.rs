//! What kind of run it is: the shard, the sizes, and what the model lets the shard do.

use super::Source;
use crate::Eviction;

/// What kind of run it is.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Bytes of memory.
    pub memory_bytes: usize,
    /// The item limit.
    pub item_max_bytes: u32,
    /// What the shard does when full.
    pub eviction: Eviction,
    /// Number of different keys.
    pub keys: u32,
    /// Most values are shorter than this.
    pub value_bytes: u32,
    /// One value in so many is of any length up to the limit; 0 for none.
    pub large_one_in: u32,
    /// Whether items may be missing, as long as evictions account for it.
    pub may_forget: bool,
    /// Whether stores may be refused for lack of memory.
    pub may_refuse: bool,
    /// `audit` after every so many operations.
    pub audit_every: u64,
    /// How many of four items never expire; time empties memory otherwise.
    pub lasting_of_four: u32,
    /// Whether flushes are drawn: they empty everything, so a run that is to fill memory goes without.
    pub flushes: bool,
    /// Whether some keys have prefixes, and flushes of those are drawn.
    pub prefixes: bool,
    /// What ends a prefix.
    pub delimiter: u8,
    /// The shard is given so many times its memory, and its limit is changed now and then; 1 for neither.
    pub grow_times: u32,
    /// Items begin at multiples of `1 << granule_shift` bytes, as in a shard of more than 16 GiB.
    pub granule_shift: u32,
}

impl Rules {
    /// Any kind of small shard. `None` when the source has too few choices left.
    pub fn draw(source: &mut impl Source) -> Option<Self> {
        let policies = [
            Eviction::None,
            Eviction::Merge,
            Eviction::S3Fifo,
            Eviction::Fifo,
        ];
        let eviction = policies[source.below(policies.len() as u32)? as usize];
        let flushes;
        Some(Self {
            memory_bytes: (1 << 20) + source.below(1 << 16)? as usize,
            item_max_bytes: 1024 << source.below(10)?,
            eviction,
            keys: [3, 40, 500, 5000][source.below(4)? as usize],
            value_bytes: [20, 300, 4000][source.below(3)? as usize],
            large_one_in: [0, 2, 20][source.below(3)? as usize],
            may_forget: eviction != Eviction::None,
            may_refuse: true,
            audit_every: 64,
            lasting_of_four: source.below(5)?,
            prefixes: {
                flushes = source.below(4)?;
                flushes < 2
            },
            flushes: flushes.is_multiple_of(2),
            delimiter: [b':', b'/'][source.below(2)? as usize],
            grow_times: source.below(4)? + 1,
            granule_shift: [0, 0, 1, 6][source.below(4)? as usize],
        })
    }
}
