//! Keys in base64, for those that hold blanks or line ends.
//!
//! Always true: what [`encode`] writes, [`decode`] reads back. Decoding is memcached's, which is laxer than the standard: characters that are not of
//! the alphabet are passed over, and what stands behind the first padded group is not looked at.

use crate::KEY_MAX_BYTES;
use crate::reply::Sink;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What a character stands for; [`NONE`] if nothing. Padding stands for 0.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < ALPHABET.len() {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values[b'=' as usize] = 0;
    values
};

const NONE: u8 = 0x80;

/// Decodes `text`, at most [`KEY_MAX_BYTES`] long, into `key` and returns how many bytes that are: at least one.
/// None if the characters are no whole groups of four, or a group is padding but for one character.
pub(super) fn decode(text: &[u8], key: &mut [u8; KEY_MAX_BYTES]) -> Option<usize> {
    let known = |&&byte: &&u8| VALUES[usize::from(byte)] != NONE;
    let count = text.iter().filter(known).count();
    if count == 0 || !count.is_multiple_of(4) || text.len() > KEY_MAX_BYTES {
        return None;
    }
    let (mut len, mut group, mut in_group, mut padding) = (0, 0u32, 0, 0);
    for &byte in text.iter().filter(known) {
        group = group << 6 | u32::from(VALUES[usize::from(byte)]);
        padding += usize::from(byte == b'=');
        in_group += 1;
        if in_group == 4 {
            let [_, bytes @ ..] = group.to_be_bytes();
            key[len..len + 3].copy_from_slice(&bytes);
            len += 3;
            if padding > 0 {
                return if padding > 2 {
                    None
                } else {
                    Some(len - padding)
                };
            }
            (group, in_group) = (0, 0);
        }
    }
    Some(len)
}

/// Writes `key` in base64, with padding.
pub(crate) fn encode(out: &mut impl Sink, key: &[u8]) {
    for group in key.chunks(3) {
        let mut bytes = [0; 4];
        bytes[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bytes);
        let mut text = [b'='; 4];
        for (at, character) in text.iter_mut().enumerate().take(group.len() + 1) {
            *character = ALPHABET[(bits >> (18 - 6 * at)) as usize & 63];
        }
        out.put(&text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn decoded(text: &[u8]) -> Option<Vec<u8>> {
        let mut key = [0; KEY_MAX_BYTES];
        decode(text, &mut key).map(|len| key[..len].to_vec())
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for len in 1..=187usize {
            let key: Vec<u8> = (0..len).map(|at| (at * 37 + len) as u8).collect();
            let mut text = Vec::new();
            encode(&mut |bytes: &[u8]| text.extend_from_slice(bytes), &key);
            assert_eq!(text.len(), len.div_ceil(3) * 4);
            if text.len() <= KEY_MAX_BYTES {
                assert_eq!(decoded(&text), Some(key));
            }
        }
    }

    #[test]
    fn decoding_is_as_lax_as_memcacheds() {
        assert_eq!(decoded(b"Zm9v"), Some(b"foo".to_vec()));
        assert_eq!(decoded(b"Z-m_9!v"), Some(b"foo".to_vec()));
        assert_eq!(decoded(b"YQ==YWFh"), Some(b"a".to_vec()));
        assert_eq!(decoded(b"=AAA"), Some([0, 0].to_vec()));
        for text in [&b""[..], b"Z", b"Zm9", b"Zm9vY", b"!!!!", b"A===", b"===="] {
            assert_eq!(decoded(text), None, "{}", text.escape_ascii());
        }
    }
}
