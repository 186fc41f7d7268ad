//! The keys of a run: numbers on the inside, text on the wire.
//!
//! Always true: different numbers have different texts, every text is a key memcached takes, and
//! the text of a counter is no other key's.

use std::sync::Arc;

use strata_protocol::KEY_MAX_BYTES;

/// What stands at the end of a counter's key: counters hold numbers, so they are keys of their
/// own beside the values.
const COUNTER_MARK: u8 = b'#';

/// Keys by number. Either a prefix followed by a decimal index, or texts out of a trace.
#[derive(Clone, Debug)]
pub struct KeySpace {
    names: Names,
    minimum: u64,
    maximum: u64,
}

#[derive(Clone, Debug)]
enum Names {
    Numbered(Box<str>),
    Listed(Arc<Texts>),
}

/// Texts one after the other, each with its end.
#[derive(Debug, Default)]
pub struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u64>,
}

impl Texts {
    /// Adds one; its number is how many there were before.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len() as u64);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// One of them.
    #[inline]
    pub fn get(&self, index: u64) -> &[u8] {
        let index = index as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start as usize..self.ends[index] as usize]
    }
}

impl KeySpace {
    /// Keys `{prefix}{minimum}` to `{prefix}{maximum}`, both included. Panics when the range is
    /// empty or a key would be longer than [`KEY_MAX_BYTES`].
    pub fn new(prefix: &str, minimum: u64, maximum: u64) -> Self {
        assert!(minimum <= maximum, "keys {minimum}..={maximum}");
        let space = Self {
            names: Names::Numbered(prefix.into()),
            minimum,
            maximum,
        };
        let longest = space.key_bytes_max();
        assert!(longest <= KEY_MAX_BYTES, "keys of {longest} bytes");
        space
    }

    /// The keys of a list, numbered from 0. Panics when there is none.
    pub fn listed(texts: Arc<Texts>) -> Self {
        assert!(texts.count() > 0, "a list of no keys");
        Self {
            minimum: 0,
            maximum: texts.count() as u64 - 1,
            names: Names::Listed(texts),
        }
    }

    /// How many keys there are.
    pub fn count(&self) -> u64 {
        self.maximum - self.minimum + 1
    }

    /// What every key begins with; nothing for a list.
    pub fn prefix(&self) -> &str {
        match &self.names {
            Names::Numbered(prefix) => prefix,
            Names::Listed(_) => "",
        }
    }

    /// The smallest index.
    pub fn minimum(&self) -> u64 {
        self.minimum
    }

    /// The largest index.
    pub fn maximum(&self) -> u64 {
        self.maximum
    }

    fn key_bytes_max(&self) -> usize {
        self.prefix().len() + itoa::Buffer::new().format(self.maximum).len()
    }

    /// The key of `index`. A numbered space names keys beyond its end too: those that are new.
    #[inline]
    pub fn key(&self, index: u64) -> Key {
        let mut key = Key {
            bytes: [0; KEY_MAX_BYTES],
            length: 0,
        };
        match &self.names {
            Names::Numbered(prefix) => {
                let mut number = itoa::Buffer::new();
                key.push(prefix.as_bytes());
                key.push(number.format(index).as_bytes());
            }
            Names::Listed(texts) => key.push(texts.get(index)),
        }
        key
    }

    /// Appends what follows the prefix in the key of `index` to `out`.
    #[inline]
    pub fn append_name(&self, index: u64, out: &mut Vec<u8>) {
        match &self.names {
            Names::Numbered(_) if index <= DIGITS_MAX => {
                let (text, length) = digits(index as u32);
                let end = out.len() + length;
                out.extend_from_slice(&text.to_le_bytes());
                out.truncate(end);
            }
            Names::Numbered(_) => {
                out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
            }
            Names::Listed(texts) => out.extend_from_slice(texts.get(index)),
        }
    }

    /// The key of the counter `index`.
    pub fn counter(&self, index: u64) -> Key {
        let mut key = self.key(index);
        // A key without room is marked in its last place: still a key, though perhaps shared.
        key.length = key.length.min(KEY_MAX_BYTES as u8 - 1);
        key.push(&[COUNTER_MARK]);
        key
    }

    /// What follows the key of `index` behind its prefix at the front of `input`, if that is what stands there.
    #[inline]
    pub fn after_name<'a>(&self, index: u64, input: &'a [u8]) -> Option<&'a [u8]> {
        match &self.names {
            Names::Numbered(_) => {
                if index <= DIGITS_MAX
                    && let Some(front) = input.first_chunk()
                {
                    let (text, length) = digits(index as u32);
                    let unused = u64::BITS - 8 * length as u32;
                    let same = (u64::from_le_bytes(*front) ^ text) << unused == 0;
                    return same.then(|| &input[length..]);
                }
                input.strip_prefix(itoa::Buffer::new().format(index).as_bytes())
            }
            Names::Listed(texts) => input.strip_prefix(texts.get(index)),
        }
    }

    /// What follows the first bytes of `input`, as many as the key of `index` has.
    #[inline]
    pub fn after_any<'a>(&self, index: u64, input: &'a [u8]) -> Option<&'a [u8]> {
        let key_bytes = match &self.names {
            Names::Numbered(prefix) if index <= DIGITS_MAX => prefix.len() + digits(index as u32).1,
            Names::Numbered(prefix) => prefix.len() + itoa::Buffer::new().format(index).len(),
            Names::Listed(texts) => texts.get(index).len(),
        };
        input.get(key_bytes..)
    }
}

/// Largest number [`digits`] takes.
const DIGITS_MAX: u64 = 99_999_999;

/// The decimal text of a number up to [`DIGITS_MAX`], its first digit in the lowest byte and zeros above the last,
/// and how many digits there are. All eight are made at once: halves of four digits, quarters of two, then each.
#[inline]
fn digits(number: u32) -> (u64, usize) {
    let halves = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    // Multiplying and shifting divides by 100, exactly for less than 10 000, and below by 10 for less than 100.
    let upper = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let quarters = upper | (halves - 100 * upper) << 16;
    let upper = ((quarters * 103) >> 10) & 0x000f_000f_000f_000f;
    let eight = upper | (quarters - 10 * upper) << 8;
    let leading = (eight.trailing_zeros() / 8).min(7);
    let text = (eight | 0x3030_3030_3030_3030) >> (8 * leading);
    (text, 8 - leading as usize)
}

/// The text of one key.
#[derive(Clone, Copy)]
pub struct Key {
    bytes: [u8; KEY_MAX_BYTES],
    length: u8,
}

const _: () = assert!(KEY_MAX_BYTES <= u8::MAX as usize);

impl Key {
    #[inline]
    fn push(&mut self, bytes: &[u8]) {
        let from = usize::from(self.length);
        self.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }
}

impl AsRef<[u8]> for Key {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_prefix_and_its_index() {
        let space = KeySpace::new("memtier-", 1, 200);
        assert_eq!(space.key(20).as_ref(), b"memtier-20");
        assert_eq!(space.counter(20).as_ref(), b"memtier-20#");
        let longest = KeySpace::new(&"x".repeat(KEY_MAX_BYTES - 1), 1, 9);
        assert_eq!(longest.key(9).as_ref().len(), KEY_MAX_BYTES);
        assert_eq!(longest.counter(9).as_ref().len(), KEY_MAX_BYTES);
    }

    #[test]
    fn a_listed_key_is_its_text() {
        let mut texts = Texts::default();
        texts.push(b"one");
        texts.push(b"another");
        let space = KeySpace::listed(Arc::new(texts));
        assert_eq!((space.minimum(), space.maximum()), (0, 1));
        assert_eq!(space.key(1).as_ref(), b"another");
        let mut appended = Vec::new();
        space.append_name(1, &mut appended);
        assert_eq!(appended, b"another");
        assert_eq!(space.after_name(0, b"one 0"), Some(&b" 0"[..]));
        assert_eq!(space.after_name(0, b"two 0"), None);
        assert_eq!(space.after_any(0, b"two 0"), Some(&b" 0"[..]));
    }

    #[test]
    fn names_are_numbers_however_many_digits_they_have() {
        let space = KeySpace::new("k", 0, u64::MAX - 1);
        let mut numbers = vec![DIGITS_MAX, DIGITS_MAX + 1, u64::MAX - 1];
        for power in 0..10 {
            let ten = 10_u64.pow(power);
            numbers.extend([ten - 1, ten, ten + 1, 7 * ten, ten * 1234 / 1000]);
        }
        numbers.extend((0..100_000).chain((0..100_000).map(|step| step * 997)));
        for number in numbers {
            let text = number.to_string();
            let mut appended = Vec::new();
            space.append_name(number, &mut appended);
            assert_eq!(appended, text.as_bytes());
            for behind in ["", " ", " 0 32 behind"] {
                let input = format!("{text}{behind}");
                let rest = space.after_name(number, input.as_bytes());
                assert_eq!(rest, Some(behind.as_bytes()), "{input}");
                let with_prefix = format!("?{input}");
                let rest = space.after_any(number, with_prefix.as_bytes());
                assert_eq!(rest, Some(behind.as_bytes()), "{input}");
                let other = (number ^ 1).to_string() + behind;
                assert_eq!(space.after_name(number, other.as_bytes()), None, "{input}");
            }
            assert_eq!(space.after_name(number, &text.as_bytes()[1..]), None);
        }
    }
}
