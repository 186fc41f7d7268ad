//! The least that a cache does: it finds the key in a line, hashes it, looks it up, copies what it finds into the
//! connection's own reply buffer and counts a hit. What a whole cache costs beyond this is its own; what this costs
//! beyond a canned answer is any cache's.
//!
//! Always true: requests are answered in order, each once it has arrived whole; a key is answered with what it was last
//! set to. Nothing expires and nothing is evicted: where there is no room a set is refused. A get asks for one key.
//!
//! ```text
//!   table    | hash, where, how long | ...            open addressing, never more than half full
//!   items    VALUE key flags length\r\nvalue\r\nEND\r\n ...      a hit as it is sent
//! ```

use std::io::Write;
use std::ops::Range;

use crate::ring::Service;

/// Items kept, at most: as many as the loads have that it is for, so that the table, which is there from the start, takes no
/// more of the processor's caches than it must.
const ITEMS_MAX: usize = 1 << 12;
const SLOTS: usize = 2 * ITEMS_MAX;
/// Bytes of items, also of those that were replaced, at most.
const ITEMS_MAX_BYTES: usize = 256 << 20;
const KEY_MAX_BYTES: usize = 250;
const VALUE_MAX_BYTES: usize = 64 << 10;
/// Bytes that wait for the rest of their request, at most: a line and its value.
const CARRY_MAX_BYTES: usize = VALUE_MAX_BYTES + 1024;
/// Bytes of replies that wait for those before them to be sent, at most.
const OUT_MAX_BYTES: usize = 4 << 20;

const _: () = assert!(SLOTS.is_power_of_two());
const _: () = assert!(ITEMS_MAX_BYTES <= u32::MAX as usize);

const HEAD: &[u8] = b"VALUE ";
const MISS: &[u8] = b"END\r\n";
const STORED: &[u8] = b"STORED\r\n";
const UNKNOWN: &[u8] = b"ERROR\r\n";
const FULL: &[u8] = b"SERVER_ERROR out of memory storing object\r\n";

/// See the module's page.
pub struct Thin {
    table: Box<[Slot]>,
    items: Vec<u8>,
    count: usize,
    hits: u64,
}

/// A place in the table; empty where the item has no bytes.
#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u64,
    start: u32,
    bytes: u32,
}

impl Slot {
    fn range(self) -> Range<usize> {
        self.start as usize..(self.start + self.bytes) as usize
    }
}

/// One connection's bytes.
#[derive(Default)]
pub struct Debt {
    /// The beginning of a request.
    carry: Vec<u8>,
    /// Replies behind those being sent.
    out: Vec<u8>,
    /// Replies being sent, and how much of them is.
    sending: Vec<u8>,
    sent: usize,
}

/// What the front of some input is.
enum Step {
    /// A request of so many bytes, which is answered.
    Done(usize),
    /// The beginning of one.
    More,
    /// Nothing that could be followed.
    Lost,
}

impl Thin {
    /// A cache without items.
    pub fn new() -> Self {
        Self {
            table: vec![Slot::default(); SLOTS].into(),
            items: Vec::new(),
            count: 0,
            hits: 0,
        }
    }

    /// Answers what has arrived whole, and says how much of the input that is; `None` when it cannot be followed.
    fn answer(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut used = 0;
        while used < input.len() {
            match self.step(&input[used..], out) {
                Step::Done(bytes) => used += bytes,
                Step::More => break,
                Step::Lost => return None,
            }
        }
        Some(used)
    }

    #[inline]
    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Step {
        let Some(feed) = memchr::memchr(b'\n', input) else {
            return Step::More;
        };
        let line = input[..feed].strip_suffix(b"\r").unwrap_or(&input[..feed]);
        let Some(key) = line.strip_prefix(b"get ") else {
            return self.step_of_others(line, &input[feed + 1..], feed + 1, out);
        };
        match self.find(key, hash(key)) {
            Ok(slot) => {
                self.hits += 1;
                out.extend_from_slice(&self.items[slot.range()]);
            }
            Err(_) => out.extend_from_slice(MISS),
        }
        Step::Done(feed + 1)
    }

    #[cold]
    fn step_of_others(
        &mut self,
        line: &[u8],
        rest: &[u8],
        line_bytes: usize,
        out: &mut Vec<u8>,
    ) -> Step {
        if line == b"stats" {
            let hits = self.hits;
            // Writing to memory does not fail.
            let _ = write!(out, "STAT get_hits {hits}\r\nEND\r\n");
            return Step::Done(line_bytes);
        }
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [b"set", key, flags, _exptime, length] = words[..] else {
            out.extend_from_slice(UNKNOWN);
            return Step::Done(line_bytes);
        };
        let length = std::str::from_utf8(length).ok();
        let length = length.and_then(|text| text.parse::<usize>().ok());
        let Some(length) = length.filter(|length| *length <= VALUE_MAX_BYTES) else {
            return Step::Lost;
        };
        if key.is_empty() || key.len() > KEY_MAX_BYTES {
            return Step::Lost;
        }
        let Some(block) = rest.get(..length + 2) else {
            return Step::More;
        };
        if !block.ends_with(b"\r\n") {
            return Step::Lost;
        }
        out.extend_from_slice(match self.set(key, flags, block) {
            true => STORED,
            false => FULL,
        });
        Step::Done(line_bytes + block.len())
    }

    /// Keeps a value, given with its line end, unless there is no room.
    fn set(&mut self, key: &[u8], flags: &[u8], block: &[u8]) -> bool {
        let length = (block.len() - 2).to_string();
        let parts = [
            HEAD,
            key,
            b" ",
            flags,
            b" ",
            length.as_bytes(),
            b"\r\n",
            block,
            MISS,
        ];
        let item = parts.concat();
        let hash = hash(key);
        let index = match self.find(key, hash) {
            Ok(slot) if slot.bytes as usize == item.len() => {
                self.items[slot.range()].copy_from_slice(&item);
                return true;
            }
            Ok(slot) => self.index_of(slot),
            Err(_) if self.count == ITEMS_MAX => return false,
            Err(index) => index,
        };
        if self.items.len() + item.len() > ITEMS_MAX_BYTES {
            return false;
        }
        self.count += usize::from(self.table[index].bytes == 0);
        self.table[index] = Slot {
            hash,
            start: self.items.len() as u32,
            bytes: item.len() as u32,
        };
        self.items.extend_from_slice(&item);
        true
    }

    /// The place of a key, or that where it would be.
    #[inline]
    fn find(&self, key: &[u8], hash: u64) -> Result<Slot, usize> {
        let mut index = hash as usize % SLOTS;
        loop {
            let slot = self.table[index];
            if slot.bytes == 0 {
                return Err(index);
            }
            // An item is longer than its head, its key and the space behind that.
            let name = slot.start as usize + HEAD.len();
            if slot.hash == hash
                && self.items[name..].starts_with(key)
                && self.items[name + key.len()] == b' '
            {
                return Ok(slot);
            }
            index = (index + 1) % SLOTS;
        }
    }

    fn index_of(&self, slot: Slot) -> usize {
        let mut index = slot.hash as usize % SLOTS;
        while self.table[index].start != slot.start {
            index = (index + 1) % SLOTS;
        }
        index
    }
}

// SAFETY: what `next` gives lies in `sending`, which nobody writes to before all of it is paid; a vector's bytes stay in
// place when the vector itself is moved.
unsafe impl Service for Thin {
    type Debt = Debt;

    #[inline]
    fn receive(&mut self, debt: &mut Debt, bytes: &[u8]) -> bool {
        if debt.carry.is_empty() {
            let Some(used) = self.answer(bytes, &mut debt.out) else {
                return false;
            };
            debt.carry.extend_from_slice(&bytes[used..]);
        } else {
            debt.carry.extend_from_slice(bytes);
            let Some(used) = self.answer(&debt.carry, &mut debt.out) else {
                return false;
            };
            debt.carry.drain(..used);
        }
        debt.carry.len() <= CARRY_MAX_BYTES && debt.out.len() <= OUT_MAX_BYTES
    }

    #[inline]
    fn next<'a>(&'a self, debt: &'a mut Debt) -> &'a [u8] {
        if debt.sent == debt.sending.len() {
            std::mem::swap(&mut debt.out, &mut debt.sending);
            debt.out.clear();
            debt.sent = 0;
        }
        &debt.sending[debt.sent..]
    }

    #[inline]
    fn paid(debt: &mut Debt, count: usize) {
        debt.sent += count;
    }
}

/// Eight bytes at a time, each multiplied and folded; keys are nobody's weapon here.
#[inline]
fn hash(key: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(ODD);
        product as u64 ^ (product >> 64) as u64
    };
    let (words, rest) = key.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let state = words.iter().fold(key.len() as u64, |state, word| {
        fold(state, u64::from_le_bytes(*word))
    });
    fold(state, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection gets that sends these pieces.
    fn replies(thin: &mut Thin, pieces: &[&[u8]]) -> Vec<u8> {
        let (mut debt, mut sent) = (Debt::default(), Vec::new());
        for piece in pieces {
            assert!(thin.receive(&mut debt, piece), "{}", piece.escape_ascii());
            loop {
                let next = thin.next(&mut debt);
                let count = next.len().min(7);
                sent.extend_from_slice(&next[..count]);
                if count == 0 {
                    break;
                }
                Thin::paid(&mut debt, count);
            }
        }
        sent
    }

    #[test]
    fn a_key_is_answered_with_what_it_was_last_set_to() {
        let mut thin = Thin::new();
        for value in ["one", "two", "three"] {
            let set = format!("set a 7 0 {}\r\n{value}\r\nget a\r\nget b\r\n", value.len());
            let hit = format!(
                "STORED\r\nVALUE a 7 {}\r\n{value}\r\nEND\r\nEND\r\n",
                value.len()
            );
            assert_eq!(replies(&mut thin, &[set.as_bytes()]), hit.as_bytes());
        }
        assert_eq!(
            replies(&mut thin, &[b"stats\r\n"]),
            b"STAT get_hits 3\r\nEND\r\n"
        );
    }

    #[test]
    fn as_many_keys_as_fit_are_told_apart_and_one_more_is_refused() {
        let mut thin = Thin::new();
        for key in 0..ITEMS_MAX {
            let set = format!("set key{key} 0 0 5\r\n{key:05}\r\n");
            assert_eq!(replies(&mut thin, &[set.as_bytes()]), STORED);
        }
        for key in 0..ITEMS_MAX {
            let hit = format!("VALUE key{key} 0 5\r\n{key:05}\r\nEND\r\n");
            let get = format!("get key{key}\r\n");
            assert_eq!(replies(&mut thin, &[get.as_bytes()]), hit.as_bytes());
        }
        let more = b"set more 0 0 1\r\nv\r\n";
        assert_eq!(replies(&mut thin, &[more]), FULL);
    }

    #[test]
    fn any_cut_of_the_requests_gives_the_same_replies() {
        let requests = b"set k 0 0 4\r\n\r\nv\n\r\nget k\r\nquux\r\nget k\r\n";
        let whole = replies(&mut Thin::new(), &[requests]);
        let hit = b"VALUE k 0 4\r\n\r\nv\n\r\nEND\r\n".as_slice();
        assert_eq!(whole, [STORED, hit, UNKNOWN, hit].concat());
        for at in 0..requests.len() {
            let (first, second) = requests.split_at(at);
            assert_eq!(
                replies(&mut Thin::new(), &[first, second]),
                whole,
                "cut at {at}"
            );
        }
    }

    #[test]
    fn what_cannot_be_followed_ends_the_connection() {
        for request in [
            b"set k 0 0 65537\r\n".as_slice(),
            b"set k 0 0 1\r\nvvv",
            b"set k 0 0 -1\r\n",
            &[b'x'; CARRY_MAX_BYTES + 1],
        ] {
            assert!(!Thin::new().receive(&mut Debt::default(), request));
        }
    }
}
