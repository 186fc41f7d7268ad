//! Decimal numbers, in the two dialects of the protocol and back.
//!
//! Strict numbers are digits and nothing else, with a limit on their length. Storage lines read flags and exptime as C's library does.

/// Longest strict 32-bit number, in characters.
const CHARS_MAX_32: usize = 11;
/// Longest strict 64-bit number, in characters.
const CHARS_MAX_64: usize = 22;

/// Adds up digits. None if something else is among them or the sum does not fit.
fn digits(word: &[u8]) -> Option<u64> {
    word.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A strict unsigned 64-bit number.
pub(crate) fn strict_u64(word: &[u8]) -> Option<u64> {
    if word.len() > CHARS_MAX_64 {
        None
    } else {
        digits(word)
    }
}

/// A strict unsigned 32-bit number.
pub(crate) fn strict_u32(word: &[u8]) -> Option<u32> {
    if word.len() > CHARS_MAX_32 {
        None
    } else {
        digits(word)?.try_into().ok()
    }
}

/// A strict signed 32-bit number. A lone `-` is 0, as in memcached.
pub(crate) fn strict_i32(word: &[u8]) -> Option<i32> {
    if word.len() > CHARS_MAX_32 {
        return None;
    }
    match word {
        [b'-', magnitude @ ..] => i32::try_from(-i64::try_from(digits(magnitude)?).ok()?).ok(),
        _ => digits(word)?.try_into().ok(),
    }
}

/// What C calls white space.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Reads a sign and digits from the front of `text` as C's `strtol` does, and wants white space, a zero byte or the end behind them.
/// Returns the sign and the magnitude.
fn c_number(text: &[u8]) -> Option<(bool, u64)> {
    let start = text.iter().position(|&byte| !is_space(byte))?;
    let text = &text[start..];
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let end = text
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(text.len());
    let ends_well = text
        .get(end)
        .is_none_or(|&byte| is_space(byte) || byte == 0);
    if end == 0 || !ends_well {
        return None;
    }
    Some((negative, digits(&text[..end])?))
}

/// Client flags: `strtoul`, truncated to 32 bits. A minus sign is an error only if the negated number has its top bit set, as in memcached.
pub(crate) fn c_flags(text: &[u8]) -> Option<u32> {
    let (negative, magnitude) = c_number(text)?;
    let value = if negative {
        magnitude.wrapping_neg()
    } else {
        magnitude
    };
    if negative && value >> 63 == 1 {
        None
    } else {
        Some(value as u32)
    }
}

/// The exptime of a storage line: `strtol`, truncated to 32 bits.
pub(crate) fn c_exptime(text: &[u8]) -> Option<i32> {
    let (negative, magnitude) = c_number(text)?;
    let value = if negative {
        0i128 - i128::from(magnitude)
    } else {
        i128::from(magnitude)
    };
    Some(i64::try_from(value).ok()? as i32)
}

/// Most digits a plain number has. Any more, and a rule about lengths or ranges could apply.
const PLAIN_DIGITS_MAX: usize = 10;

/// Reads one to ten digits at `at` and moves it behind them. What follows them is not looked at, so an eleventh digit is the caller's to refuse.
#[inline]
pub(crate) fn plain(text: &[u8], at: &mut usize) -> Option<u64> {
    let start = *at;
    let mut value = 0u64;
    for &byte in text.get(start..text.len().min(start + PLAIN_DIGITS_MAX))? {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value * 10 + u64::from(digit);
        *at += 1;
    }
    if *at == start { None } else { Some(value) }
}

/// Reads one to ten digits and the space behind them.
#[inline]
pub(crate) fn plain_word(text: &[u8], at: &mut usize) -> Option<u64> {
    let value = plain(text, at)?;
    if text.get(*at) != Some(&b' ') {
        return None;
    }
    *at += 1;
    Some(value)
}

/// Most digits a number has.
pub(crate) const DIGITS_MAX: usize = 20;

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut value = 0;
    while value < 100 {
        pairs[value] = [b'0' + (value / 10) as u8, b'0' + (value % 10) as u8];
        value += 1;
    }
    pairs
};

/// Writes `value` in decimal so that it ends at `end`, and returns where it starts. `end` must be at least [`DIGITS_MAX`], or as much as the digits need.
#[inline]
pub(crate) fn write_before(out: &mut [u8], end: usize, mut value: u64) -> usize {
    let mut start = end;
    while value >= 100 {
        start -= 2;
        out[start..start + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value >= 10 {
        start -= 2;
        out[start..start + 2].copy_from_slice(&PAIRS[value as usize]);
    } else {
        start -= 1;
        out[start] = b'0' + value as u8;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn strict_numbers_have_memcacheds_limits() {
        assert_eq!(strict_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(strict_u32(b"4294967296"), None);
        assert_eq!(strict_u32(b"00000000001"), Some(1));
        assert_eq!(strict_u32(b"000000000001"), None);
        assert_eq!(strict_u32(b"-1"), None);
        assert_eq!(strict_u32(b"+1"), None);
        assert_eq!(strict_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(strict_u64(b"18446744073709551616"), None);
        assert_eq!(strict_u64(b"0018446744073709551615"), Some(u64::MAX));
        assert_eq!(strict_u64(b"00018446744073709551615"), None);
        assert_eq!(strict_i32(b"-2147483648"), Some(i32::MIN));
        assert_eq!(strict_i32(b"-2147483649"), None);
        assert_eq!(strict_i32(b"2147483647"), Some(i32::MAX));
        assert_eq!(strict_i32(b"2147483648"), None);
        assert_eq!(strict_i32(b"-"), Some(0));
        assert_eq!(strict_i32(b"1a"), None);
    }

    #[test]
    fn flags_and_exptime_read_as_c_does() {
        assert_eq!(c_flags(b"4294967296 0"), Some(0));
        assert_eq!(c_flags(b"18446744073709551615 0"), Some(u32::MAX));
        assert_eq!(c_flags(b"18446744073709551616 0"), None);
        assert_eq!(c_flags(b"-1 0"), None);
        assert_eq!(c_flags(b"-0 0"), Some(0));
        assert_eq!(c_flags(b"-9223372036854775809 0"), Some(u32::MAX));
        assert_eq!(c_flags(b"+1 0"), Some(1));
        assert_eq!(c_flags(b"5\tq 0"), Some(5));
        assert_eq!(c_flags(b"\t 7 1"), Some(7));
        assert_eq!(c_flags(b"0x10 0"), None);
        assert_eq!(c_flags(b"- 0"), None);
        assert_eq!(c_exptime(b"4294967297 1"), Some(1));
        assert_eq!(c_exptime(b"99999999999 1"), Some(1215752191));
        assert_eq!(c_exptime(b"9223372036854775807 1"), Some(-1));
        assert_eq!(c_exptime(b"-9223372036854775808 1"), Some(0));
        assert_eq!(c_exptime(b"9223372036854775808 1"), None);
        assert_eq!(c_exptime(b"-1 1"), Some(-1));
    }

    #[test]
    fn written_numbers_read_back() {
        let mut value = 0u64;
        loop {
            for value in [value, value.wrapping_add(1), value.wrapping_sub(1)] {
                let mut out = [0; DIGITS_MAX];
                let start = write_before(&mut out, DIGITS_MAX, value);
                assert_eq!(out[start..], *value.to_string().as_bytes());
            }
            value = match value.checked_mul(10) {
                None => break,
                Some(0) => 1,
                Some(more) => more,
            };
        }
    }
}
