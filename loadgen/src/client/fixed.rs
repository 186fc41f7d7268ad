//! Texts that are the same in every request or reply, appended and compared as machine words: a copy or a
//! comparison of a length that only the run knows is a call, and there are several for each request.
//!
//! Always true: the result is that of `extend_from_slice` and `strip_prefix`, whatever the length.

/// Texts up to this length are handled as words; the longer ones as any other.
const WORDS_BYTES: usize = 32;
const WORDS: usize = WORDS_BYTES / 8;

/// One such text.
pub struct Fixed {
    text: Box<[u8]>,
    /// Its bytes with zeros behind them, and which of them count.
    padded: [u8; WORDS_BYTES],
    words: [u64; WORDS],
    masks: [u64; WORDS],
}

impl Fixed {
    /// Prepares a text.
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        let text: Box<[u8]> = text.into().into();
        let (mut padded, mut mask) = ([0; WORDS_BYTES], [0; WORDS_BYTES]);
        for (index, byte) in text.iter().take(WORDS_BYTES).enumerate() {
            padded[index] = *byte;
            mask[index] = u8::MAX;
        }
        Self {
            text,
            padded,
            words: words(&padded),
            masks: words(&mask),
        }
    }

    /// Appends it.
    #[inline]
    pub fn append(&self, out: &mut Vec<u8>) {
        if self.text.len() > WORDS_BYTES {
            out.extend_from_slice(&self.text);
            return;
        }
        let end = out.len() + self.text.len();
        out.extend_from_slice(&self.padded);
        out.truncate(end);
    }

    /// What follows it at the front of `input`, if that is what stands there.
    #[inline]
    pub fn strip<'a>(&self, input: &'a [u8]) -> Option<&'a [u8]> {
        let front = match input.first_chunk() {
            Some(front) if self.text.len() <= WORDS_BYTES => front,
            _ => return input.strip_prefix(&*self.text),
        };
        let front = words(front);
        let mut differing = 0;
        for ((word, own), mask) in front.iter().zip(&self.words).zip(&self.masks) {
            differing |= (word ^ own) & mask;
        }
        (differing == 0).then(|| &input[self.text.len()..])
    }
}

#[inline]
fn words(bytes: &[u8; WORDS_BYTES]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight bytes"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_bytes_agree_at_every_length_and_byte() {
        let tape: Vec<u8> = (1..=200).collect();
        for length in 0..=WORDS_BYTES + 2 {
            let text = &tape[..length];
            let fixed = Fixed::new(text);
            let mut out = b"before".to_vec();
            fixed.append(&mut out);
            assert_eq!(out, [b"before", text].concat());
            for input_bytes in [length.saturating_sub(1), length, length + 1, length + 40] {
                let input = &tape[..input_bytes];
                assert_eq!(fixed.strip(input), input.strip_prefix(text), "{length}");
            }
            let mut input = tape.clone();
            for index in 0..tape.len() {
                input[index] ^= 0x80;
                assert_eq!(fixed.strip(&input), input.strip_prefix(text), "{length}");
                input[index] ^= 0x80;
            }
        }
    }
}
