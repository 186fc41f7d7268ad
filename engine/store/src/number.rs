//! Numbers inside values, read as memcached reads them for incr and decr (its `safe_strtoull`).
//!
//! Always true: writing a number and reading it back gives the same number.

/// Longest decimal u64.
pub(crate) const DIGITS_MAX: usize = 20;

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | 0x09..=0x0d)
}

/// The number a value begins with. Leading white space and a sign are allowed; after the digits the value must end or go
/// on with white space or NUL. A negative number counts as its two's complement, and only if that is below 2^63.
pub(crate) fn parse(value: &[u8]) -> Option<u64> {
    let start = value.iter().position(|&byte| !is_space(byte))?;
    let (negative, digits) = match value[start..].split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, &value[start..]),
    };
    let count = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if count == 0
        || digits
            .get(count)
            .is_some_and(|&byte| byte != 0 && !is_space(byte))
    {
        return None;
    }
    let mut number = 0u64;
    for &digit in &digits[..count] {
        number = number
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
    }
    if negative {
        number = number.wrapping_neg();
        if number >= 1 << 63 {
            return None;
        }
    }
    Some(number)
}

/// Writes `number` in decimal; gives the digits.
pub(crate) fn write(buffer: &mut [u8; DIGITS_MAX], mut number: u64) -> &[u8] {
    let mut at = DIGITS_MAX;
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &buffer[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_memcached_reads() {
        for (value, number) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("000000000000000000000000000012", Some(12)),
            ("1 2", Some(1)),
            ("6   ", Some(6)),
            ("  7", Some(7)),
            ("+8", Some(8)),
            ("5\0x", Some(5)),
            ("5x", None),
            ("", None),
            (" ", None),
            ("-", None),
            ("-0", Some(0)),
            ("-1", None),
            ("-18446744073709551615", Some(1)),
            ("abc", None),
            ("1.5", None),
        ] {
            assert_eq!(parse(value.as_bytes()), number, "{value:?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for number in [0, 1, 9, 10, 99, 12_345, u64::MAX / 10, u64::MAX] {
            assert_eq!(parse(write(&mut [0; DIGITS_MAX], number)), Some(number));
            assert_eq!(
                write(&mut [0; DIGITS_MAX], number),
                number.to_string().as_bytes()
            );
        }
    }
}
