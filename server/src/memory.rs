//! The memory of a shard: one anonymous map, on huge pages where the kernel gives them, touched
//! once by the core that will use it, so that no request ever meets a page fault.

use std::io;

use memmap2::{Advice, MmapMut};

/// Memory for one shard.
pub struct Memory {
    map: MmapMut,
}

impl Memory {
    /// Reserves `bytes` and, with `touch`, has the kernel back every page now.
    ///
    /// # Errors
    /// What the kernel answers when it does not give the memory.
    pub fn reserve(bytes: usize, touch: bool) -> io::Result<Self> {
        let mut map = MmapMut::map_anon(bytes)?;
        // Refused where transparent huge pages are compiled out or off; then 4 KiB pages serve.
        let _ = map.advise(Advice::HugePage);
        if touch && map.advise(Advice::PopulateWrite).is_err() {
            // Kernels before 5.14 do not know the advice.
            for page in map.chunks_mut(4096) {
                page[0] = 0;
            }
        }
        Ok(Self { map })
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
