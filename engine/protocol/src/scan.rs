//! Finding the byte that ends something, eight at a time. Every search returns the first match, as the plain loop would.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Marks the bytes of `word` that equal `byte` by their high bit. The lowest mark is always right;
/// a borrow may set false marks, but only above a right one.
const fn marks(word: u64, byte: u8) -> u64 {
    let zeroed = word ^ (ONES * byte as u64);
    zeroed.wrapping_sub(ONES) & !zeroed & HIGHS
}

#[inline(always)]
fn find(bytes: &[u8], mark: impl Fn(u64) -> u64, is: impl Fn(u8) -> bool) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let marked = mark(u64::from_le_bytes(*word));
        if marked != 0 {
            return Some(index * 8 + marked.trailing_zeros() as usize / 8);
        }
    }
    let tail_at = words.len() * 8;
    tail.iter()
        .position(|&byte| is(byte))
        .map(|at| tail_at + at)
}

/// Where the first `\n` is.
pub(crate) fn newline(bytes: &[u8]) -> Option<usize> {
    find(bytes, |word| marks(word, b'\n'), |byte| byte == b'\n')
}

/// Where the first space or `\n` is.
#[inline]
pub(crate) fn word_end(bytes: &[u8]) -> Option<usize> {
    find(
        bytes,
        |word| marks(word, b' ') | marks(word, b'\n'),
        |byte| byte == b' ' || byte == b'\n',
    )
}

/// How many spaces `bytes` begins with.
#[inline]
pub(crate) fn spaces(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|&byte| byte != b' ')
        .unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn searches_agree_with_the_plain_loop() {
        // Neighbours of the wanted bytes, and bytes that make a subtraction borrow.
        let alphabet = [
            b' ', b'\n', b'\t', 0x0b, b'!', 0x1f, 0, 1, 0x7f, 0x80, 0x81, 0x8a, 0xa0, 0xff, b'a',
        ];
        let mut seed = 1u64;
        for round in 0..50_000 {
            let mut bytes = Vec::new();
            for _ in 0..round % 40 {
                seed = seed
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                bytes.push(alphabet[(seed >> 33) as usize % alphabet.len()]);
            }
            assert_eq!(
                newline(&bytes),
                bytes.iter().position(|&b| b == b'\n'),
                "{bytes:?}"
            );
            assert_eq!(
                word_end(&bytes),
                bytes.iter().position(|&b| b == b' ' || b == b'\n'),
                "{bytes:?}"
            );
        }
    }
}
