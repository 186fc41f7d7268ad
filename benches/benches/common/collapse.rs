//! Huge pages under memory that somebody else mapped.
//!
//! Always true: no byte changes; where the kernel refuses, the pages stay as they are and the caller is told.

use std::ffi::c_void;

/// Has the kernel put huge pages under every private anonymous map of this process of at least `bytes_min`. Gives the
/// bytes it did that for.
pub fn collapse_large_maps(bytes_min: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines()
        .filter_map(anonymous_range)
        .filter(|(start, end)| end - start >= bytes_min)
        .filter(|&(start, end)| collapse(start, end))
        .map(|(start, end)| end - start)
        .sum()
}

/// The addresses of a line of `/proc/self/maps`, if it is writable memory without a file.
fn anonymous_range(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let writable = fields.next()? == "rw-p";
    let inode = fields.nth(2)?;
    let named = fields.next().is_some();
    (writable && inode == "0" && !named).then_some(())?;
    Some((
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    ))
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn collapse(start: usize, end: usize) -> bool {
    const HUGE_BYTES: usize = 2 << 20;
    let start = start.next_multiple_of(HUGE_BYTES);
    let end = end / HUGE_BYTES * HUGE_BYTES;
    if start >= end {
        return false;
    }
    // SAFETY: the advice keeps contents and addresses as they are, and the kernel checks the range itself.
    let advise = |advice| unsafe { libc::madvise(start as *mut c_void, end - start, advice) };
    advise(libc::MADV_HUGEPAGE);
    advise(libc::MADV_COLLAPSE) == 0
}
