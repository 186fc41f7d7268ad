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

    /// Appends the key of `index` to `out`.
    #[inline]
    pub fn append(&self, index: u64, out: &mut Vec<u8>) {
        match &self.names {
            Names::Numbered(prefix) => {
                let mut number = itoa::Buffer::new();
                out.extend_from_slice(prefix.as_bytes());
                out.extend_from_slice(number.format(index).as_bytes());
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

    /// What follows the key `index` at the front of `input`, if that is what stands there. With
    /// `any`, bytes of the same number will do.
    #[inline]
    pub fn after_key<'a>(&self, index: u64, any: bool, input: &'a [u8]) -> Option<&'a [u8]> {
        match &self.names {
            Names::Numbered(prefix) => {
                let mut number = itoa::Buffer::new();
                let digits = number.format(index).as_bytes();
                let prefix = prefix.as_bytes();
                let (key, rest) = input.split_at_checked(prefix.len() + digits.len())?;
                let (front, back) = key.split_at(prefix.len());
                (any || (*front == *prefix && *back == *digits)).then_some(rest)
            }
            Names::Listed(texts) => {
                let text = texts.get(index);
                let (key, rest) = input.split_at_checked(text.len())?;
                (any || key == text).then_some(rest)
            }
        }
    }
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
        let mut appended = Vec::new();
        space.append(20, &mut appended);
        assert_eq!(appended, space.key(20).as_ref());
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
        assert_eq!(space.after_key(0, false, b"one 0"), Some(&b" 0"[..]));
        assert_eq!(space.after_key(0, false, b"two 0"), None);
        assert_eq!(space.after_key(0, true, b"two 0"), Some(&b" 0"[..]));
    }
}
