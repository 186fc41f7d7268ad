//! Compares all nine tags of a hash bucket at once.
//!
//! Always true: `matches` gives what `matches_plain` gives, on every tag.
#![allow(unsafe_code)]

use super::bucket::Bucket;
#[cfg(any(test, not(target_arch = "x86_64")))]
use super::bucket::SLOTS;
use super::bucket::tag;

/// The slots whose tag is this one, a bit each.
#[inline(always)]
pub(crate) fn matches(bucket: &Bucket, wanted: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: the only demand is SSE2, and every x86_64 processor has it.
        unsafe { matches_sse2(bucket, wanted) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    matches_plain(bucket, wanted)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn matches_sse2(bucket: &Bucket, wanted: u16) -> u32 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi64x, _mm_set1_epi16,
        _mm_setzero_si128,
    };
    let low = u64::from_le_bytes(bucket[..8].try_into().expect("eight bytes"));
    let high = u64::from_le_bytes(bucket[8..16].try_into().expect("eight bytes"));
    let tags = _mm_set_epi64x(high.cast_signed(), low.cast_signed());
    let equal = _mm_cmpeq_epi16(tags, _mm_set1_epi16(wanted.cast_signed()));
    let eight = _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())).cast_unsigned();
    // The ninth does not fill a vector.
    eight | u32::from(tag(bucket, 8) == wanted) << 8
}

/// The same, one tag after the other.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn matches_plain(bucket: &Bucket, wanted: u16) -> u32 {
    (0..SLOTS)
        .filter(|&slot| tag(bucket, slot) == wanted)
        .fold(0, |mask, slot| mask | 1 << slot)
}

#[cfg(test)]
mod tests {
    use super::super::bucket::BUCKET_BYTES;
    use super::*;

    #[test]
    fn scan_equals_its_plain_twin_on_every_tag() {
        let mut state = 0x1234_5678_9abc_def1u64;
        // What stands behind the tags must not count.
        let mut bucket = [0xa5u8; BUCKET_BYTES];
        for tag in 0..=u16::MAX {
            for slot in 0..SLOTS {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let other = match state >> 62 {
                    0 => tag,
                    1 => tag ^ 1 << (state & 15),
                    2 => 0,
                    _ => state as u16,
                };
                bucket[slot * 2..][..2].copy_from_slice(&other.to_le_bytes());
            }
            assert_eq!(
                matches(&bucket, tag),
                matches_plain(&bucket, tag),
                "tag {tag:#06x} in {bucket:02x?}"
            );
        }
    }
}
