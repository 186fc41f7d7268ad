//! Buffers that sessions hand in when they have no use for them, for whoever needs one next.
//!
//! Always true: what is kept of each kind is within its bound; every buffer here is empty.

use std::collections::VecDeque;

use crate::config::{CARRY_PAUSE_BYTES, SPARE_KEEP_BYTES, SPARE_MAX_BYTES, SPARE_SMALL_MAX_BYTES};
use crate::session::Slot;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Spares {
    /// For replies that are sent, and the sum of their capacities.
    large: Vec<Vec<u8>>,
    large_bytes: usize,
    /// For input that waits, and for replies that do.
    small: Vec<Vec<u8>>,
    small_bytes: usize,
    /// Places for replies.
    slots: Vec<VecDeque<Slot>>,
    slots_bytes: usize,
}

impl Spares {
    pub fn keep_large(&mut self, mut bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        let room = SPARE_MAX_BYTES - self.large_bytes;
        if 0 < capacity && capacity <= SPARE_KEEP_BYTES.min(room) {
            bytes.clear();
            self.large_bytes += capacity;
            self.large.push(bytes);
        }
    }

    pub fn take_large(&mut self) -> Option<Vec<u8>> {
        let spare = self.large.pop()?;
        self.large_bytes -= spare.capacity();
        Some(spare)
    }

    pub fn keep_small(&mut self, mut bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        let room = SPARE_SMALL_MAX_BYTES - self.small_bytes;
        if 0 < capacity && capacity <= CARRY_PAUSE_BYTES.min(room) {
            bytes.clear();
            self.small_bytes += capacity;
            self.small.push(bytes);
        }
    }

    /// A buffer, without room if none is kept.
    pub fn take_small(&mut self) -> Vec<u8> {
        let spare = self.small.pop().unwrap_or_default();
        self.small_bytes -= spare.capacity();
        spare
    }

    pub fn keep_slots(&mut self, slots: VecDeque<Slot>) {
        let bytes = slots.capacity() * size_of::<Slot>();
        if 0 < bytes && bytes <= SPARE_SMALL_MAX_BYTES - self.slots_bytes {
            debug_assert!(slots.is_empty());
            self.slots_bytes += bytes;
            self.slots.push(slots);
        }
    }

    /// Places, none if none are kept.
    pub fn take_slots(&mut self) -> VecDeque<Slot> {
        let spare = self.slots.pop().unwrap_or_default();
        self.slots_bytes -= spare.capacity() * size_of::<Slot>();
        spare
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_empty_and_within_its_bounds() {
        let mut spares = Spares::default();
        for _ in 0..200 {
            spares.keep_small(vec![1; CARRY_PAUSE_BYTES]);
            spares.keep_small(vec![1; CARRY_PAUSE_BYTES + 1]);
            spares.keep_large(vec![1; SPARE_KEEP_BYTES]);
            spares.keep_large(vec![1; SPARE_KEEP_BYTES + 1]);
            spares.keep_slots(VecDeque::with_capacity(512));
        }
        assert_eq!(spares.small_bytes, SPARE_SMALL_MAX_BYTES);
        assert_eq!(spares.large_bytes, SPARE_MAX_BYTES);
        assert!(spares.slots_bytes <= SPARE_SMALL_MAX_BYTES && spares.slots.len() > 10);
        while let Some(spare) = spares.take_large() {
            assert!(spare.is_empty());
        }
        while spares.take_small().capacity() > 0 {}
        while spares.take_slots().capacity() > 0 {}
        let sums = spares.small_bytes + spares.large_bytes + spares.slots_bytes;
        assert_eq!(sums, 0);
    }
}
