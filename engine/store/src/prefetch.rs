//! Asks the processor to load a cache line early. A hint: it changes no value, so the crate's only unsafe code is here.
//!
//! Always true: only lines inside the given slice are named; an index outside it is ignored.
#![allow(unsafe_code)]

/// Starts loading the line that holds `bytes[at]`.
#[inline(always)]
pub(crate) fn line(bytes: &[u8], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(byte) = bytes.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: `get` returned Some, so the pointer comes from a reference to a byte of the slice; SSE, which the
        // instruction needs, is part of x86_64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
    }
    // Elsewhere the hint is not given and everything else stays the same.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, at);
}
