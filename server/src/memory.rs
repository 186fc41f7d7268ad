//! The memory of a shard: one anonymous map, on huge pages where the kernel gives them, touched
//! once by the core that will use it, so that no request ever meets a page fault.
//!
//! ```text
//! | in use, on huge pages | room: addresses without memory behind them ... |
//! ```
//!
//! The map is larger than what is in use, so that a shard can grow in place. Growth is touched
//! page by page before it comes into use; what leaves use is given back to the system.
//!
//! What is taken up after it was given up stands on small pages until the kernel joins them.
//!
//! Always true: memory is behind what is in use, and behind the room only where a huge page
//! reaches over the border.

use std::io;
use std::ops::Range;

use memmap2::{Advice, MmapMut, MmapOptions};

/// What the kernel is asked to back in one call. For as long as a call lasts no other thread of the
/// process can map memory, and so neither start nor take memory of its own.
const TOUCH_MAX_BYTES: usize = 32 << 20;

/// Memory for one shard.
pub struct Memory {
    map: MmapMut,
    /// Where what has never been touched begins.
    fresh_from: usize,
    /// Bytes given back and not taken into use again.
    given_up_bytes: usize,
}

impl Memory {
    /// Reserves `bytes` and, with `touch`, has the kernel back every page now.
    ///
    /// # Errors
    /// What the kernel answers when it does not give the memory.
    pub fn reserve(bytes: usize, touch: bool) -> io::Result<Self> {
        Self::reserve_with_room(bytes, bytes, touch)
    }

    /// As `reserve`, in the first `bytes` of a map of `room_bytes`, or of as much less as the
    /// kernel has addresses for.
    ///
    /// # Errors
    /// What the kernel answers when it does not give `bytes`.
    pub fn reserve_with_room(bytes: usize, room_bytes: usize, touch: bool) -> io::Result<Self> {
        let mut room_bytes = room_bytes.max(bytes);
        // Without a reserve in swap: the room may be more than there is.
        let map = loop {
            let mut options = MmapOptions::new();
            match options.len(room_bytes).no_reserve_swap().map_anon() {
                Ok(map) => break map,
                Err(error) if room_bytes == bytes => return Err(error),
                Err(_) => room_bytes = (room_bytes / 2).max(bytes),
            }
        };
        // Refused where transparent huge pages are compiled out or off; then 4 KiB pages serve.
        let _ = map.advise(Advice::HugePage);
        let mut memory = Self {
            map,
            fresh_from: bytes,
            given_up_bytes: 0,
        };
        if touch {
            memory.touch(0..bytes);
        }
        Ok(memory)
    }

    fn touch(&mut self, range: Range<usize>) {
        for start in range.clone().step_by(TOUCH_MAX_BYTES) {
            let len = TOUCH_MAX_BYTES.min(range.end - start);
            if self
                .map
                .advise_range(Advice::PopulateWrite, start, len)
                .is_err()
            {
                // Kernels before 5.14 do not know the advice.
                for page in self.map[start..start + len].chunks_mut(4096) {
                    page[0] = 0;
                }
            }
        }
    }

    /// Has the kernel back a range that comes into use.
    pub fn take_up(&mut self, range: Range<usize>) {
        if range.end <= self.fresh_from {
            self.given_up_bytes = self.given_up_bytes.saturating_sub(range.len());
            if self.given_up_bytes == 0 {
                let _ = self.map.advise(Advice::HugePage);
            }
        } else {
            self.fresh_from = range.end;
        }
        self.touch(range);
    }

    /// Gives the memory behind a range back to the system. Its bytes read as zero afterwards.
    pub fn give_up(&mut self, range: Range<usize>) {
        if self.given_up_bytes == 0 {
            // Or the kernel would by and by put huge pages where the holes are. Those that are
            // there stay as far as there is no hole in them.
            let _ = self.map.advise(Advice::NoHugePage);
        }
        self.given_up_bytes += range.len();
        let bytes = &mut self.map[range];
        let (start, len) = (bytes.as_mut_ptr().cast(), bytes.len());
        // A huge page with a hole in it would be kept whole until memory is scarce everywhere; this
        // has the kernel cut it up, though not if it is locked: perf/notes/memory-limit.md
        // SAFETY: `bytes` is all of the range, borrowed mutably for the time of the call, of a
        // private anonymous map: the most that can happen to them is that they become zero.
        let _ = unsafe { libc::madvise(start, len, libc::MADV_FREE) };
        // SAFETY: as before; they become zero. Memory that is locked (`-k`) is given back too, from
        // Linux 5.18 on.
        let locked = unsafe { libc::madvise(start, len, libc::MADV_DONTNEED_LOCKED) };
        if locked != 0 {
            // SAFETY: as before. Older kernels refuse it for locked memory, which then stays.
            let _ = unsafe { libc::madvise(start, len, libc::MADV_DONTNEED) };
        }
    }
}

impl AsRef<[u8]> for Memory {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl AsMut<[u8]> for Memory {
    #[inline]
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_reads_as_zero_and_the_rest_stays() {
        let mut memory = Memory::reserve_with_room(4 << 20, 8 << 20, true).expect("memory");
        memory.as_mut()[..4 << 20].fill(7);
        memory.give_up(1 << 20..2 << 20);
        memory.take_up(1 << 20..2 << 20);
        memory.take_up(4 << 20..5 << 20);
        let expected = |at: usize| u8::from(!(1 << 20..2 << 20).contains(&at)) * 7;
        let (used, grown) = memory.as_ref()[..5 << 20].split_at(4 << 20);
        assert!(
            used.iter()
                .enumerate()
                .all(|(at, byte)| *byte == expected(at))
        );
        assert!(grown.iter().all(|byte| *byte == 0));
        assert_eq!(memory.given_up_bytes, 0);
    }

    #[test]
    fn room_beyond_all_addresses_is_left_out() {
        let memory = Memory::reserve_with_room(1 << 20, 1 << 60, false).expect("memory");
        assert!(memory.as_ref().len() >= 1 << 20);
        assert!(memory.as_ref().len() < 1 << 60);
    }
}
