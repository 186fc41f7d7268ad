//! Where the choices of a run come from: a seed without end, or bytes as fuzzing has them.

/// Where the choices come from.
pub trait Source {
    /// The next choice; `None` when there are no more.
    fn next(&mut self) -> Option<u32>;

    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: u32) -> Option<u32> {
        Some(self.next()? % bound)
    }
}

/// Choices from a seed, without end.
#[derive(Clone, Debug)]
pub struct Seeded(u64);

impl Seeded {
    /// The same seed gives the same choices.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Source for Seeded {
    fn next(&mut self) -> Option<u32> {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some((word >> 32) as u32)
    }
}

/// Choices from bytes: two bytes each while they last.
#[derive(Clone, Debug)]
pub struct FromBytes<'a>(pub &'a [u8]);

impl Source for FromBytes<'_> {
    fn next(&mut self) -> Option<u32> {
        let (two, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        // Spread over all 32 bits, so that large bounds are reached too.
        Some(u32::from(u16::from_le_bytes(*two)).wrapping_mul(0x0001_0001))
    }
}
