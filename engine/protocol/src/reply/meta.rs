//! Replies to meta commands: a code, what the flags asked for in their order, and for `mg` the marks.

use super::Sink;
use crate::meta::{Words, encode};
use crate::number::{DIGITS_MAX, write_before};

/// How the reply to a meta command begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// `VA` and the length of the value that follows the line.
    Value(usize),
    /// `HD`: done, and no value follows.
    Done,
    /// `EN`: nothing there, for `mg`.
    Miss,
    /// `NF`: nothing there, for the others.
    NotFound,
    /// `NS`: the condition of an `ms` does not hold.
    NotStored,
    /// `EX`: the item has another CAS unique.
    Exists,
}

/// The letters that a reply answers; a request may hold others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered(u64);

impl Answered {
    /// An `mg` that found something.
    pub const GET: Self = Self::of(b"kOstcflh");
    /// An `ms`, however it ended.
    pub const SET: Self = Self::of(b"kOsc");
    /// An `ma` that found or made something.
    pub const ARITH: Self = Self::of(b"kOtc");
    /// An `md`, and everything that found nothing.
    pub const KEY: Self = Self::of(b"kO");

    const fn of(letters: &[u8]) -> Self {
        let mut bits = 0;
        let mut at = 0;
        while at < letters.len() {
            bits |= 1 << (letters[at] - b'A');
            at += 1;
        }
        Self(bits)
    }

    fn has(self, letter: u8) -> bool {
        self.0 & 1 << (letter - b'A') != 0
    }
}

/// What there is to tell of an item. What no flag asks for is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Whether the request had it in base64.
    pub base64: bool,
    /// The CAS unique.
    pub cas: u64,
    /// The client flags.
    pub flags: u32,
    /// Length of the value in bytes.
    pub value_bytes: usize,
    /// Seconds to live; none for ever.
    pub ttl_s: Option<u32>,
    /// Seconds since the item was last fetched, or else written.
    pub idle_s: u32,
    /// Whether it was fetched before.
    pub fetched: bool,
}

/// What an `mg` tells without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// ` Z`: another client has been told to make the item anew.
    pub sent: bool,
    /// ` X`: the item is stale.
    pub stale: bool,
    /// ` W`: this client is to make it anew.
    pub won: bool,
}

/// The line of a reply, line end included.
#[inline]
pub fn line(
    out: &mut impl Sink,
    code: Code,
    words: Words<'_>,
    answered: Answered,
    facts: &Facts<'_>,
    marks: Marks,
) {
    match code {
        Code::Value(value_bytes) => {
            let mut head = [0; 3 + DIGITS_MAX];
            let start = write_before(&mut head, 3 + DIGITS_MAX, value_bytes as u64) - 3;
            head[start..start + 3].copy_from_slice(b"VA ");
            out.put(&head[start..]);
        }
        Code::Done => out.put(b"HD"),
        Code::Miss => out.put(b"EN"),
        Code::NotFound => out.put(b"NF"),
        Code::NotStored => out.put(b"NS"),
        Code::Exists => out.put(b"EX"),
    }
    let mut words = words;
    while let Some(word) = words.take() {
        if answered.has(word[0]) {
            flag(out, word, facts);
        }
    }
    if marks.sent {
        out.put(b" Z");
    }
    if marks.stale {
        out.put(b" X");
    }
    if marks.won {
        out.put(b" W");
    }
    out.put(b"\r\n");
}

fn flag(out: &mut impl Sink, word: &[u8], facts: &Facts<'_>) {
    let number = match word[0] {
        b'k' => {
            out.put(b" k");
            if facts.base64 {
                encode(out, facts.key);
                out.put(b" b");
            } else {
                out.put(facts.key);
            }
            return;
        }
        b'O' => {
            out.put(b" ");
            out.put(word);
            return;
        }
        b't' => match facts.ttl_s {
            None => return out.put(b" t-1"),
            Some(ttl_s) => u64::from(ttl_s),
        },
        b'c' => facts.cas,
        b'f' => u64::from(facts.flags),
        b's' => facts.value_bytes as u64,
        b'l' => u64::from(facts.idle_s),
        b'h' => u64::from(facts.fetched),
        letter => panic!("nothing is told for {}", letter.escape_ascii()),
    };
    let mut text = [0; 2 + DIGITS_MAX];
    let start = write_before(&mut text, 2 + DIGITS_MAX, number) - 2;
    text[start..start + 2].copy_from_slice(&[b' ', word[0]]);
    out.put(&text[start..]);
}

/// What `me` tells of an item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Debug<'a> {
    /// What `mg` tells too.
    pub facts: Facts<'a>,
    /// Bytes the item takes in memory.
    pub item_bytes: usize,
    /// The class it is counted in.
    pub class_id: u32,
}

/// The reply to an `me` that found something.
pub fn debug(out: &mut impl Sink, debug: &Debug<'_>) {
    let facts = &debug.facts;
    out.put(b"ME ");
    if facts.base64 {
        encode(out, facts.key);
    } else {
        out.put(facts.key);
    }
    match facts.ttl_s {
        None => out.put(b" exp=-1"),
        Some(ttl_s) => named(out, b" exp=", u64::from(ttl_s)),
    }
    named(out, b" la=", u64::from(facts.idle_s));
    named(out, b" cas=", facts.cas);
    out.put(if facts.fetched {
        b" fetch=yes"
    } else {
        b" fetch=no"
    });
    named(out, b" cls=", u64::from(debug.class_id));
    named(out, b" size=", debug.item_bytes as u64);
    out.put(b"\r\n");
}

fn named(out: &mut impl Sink, name: &[u8], value: u64) {
    let mut digits = [0; DIGITS_MAX];
    let start = write_before(&mut digits, DIGITS_MAX, value);
    out.put(name);
    out.put(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn written(
        code: Code,
        words: &[u8],
        answered: Answered,
        facts: Facts<'_>,
        marks: Marks,
    ) -> Vec<u8> {
        let mut text = Vec::new();
        let words = Words::of_text(words);
        let mut sink = |bytes: &[u8]| text.extend_from_slice(bytes);
        line(&mut sink, code, words, answered, &facts, marks);
        text
    }

    const FACTS: Facts<'static> = Facts {
        key: b"foo",
        base64: false,
        cas: 42,
        flags: 7,
        value_bytes: 2,
        ttl_s: None,
        idle_s: 9,
        fetched: true,
    };

    #[test]
    fn flags_are_answered_in_their_order_and_marks_behind_them() {
        let marks = Marks {
            sent: true,
            stale: true,
            won: true,
        };
        assert_eq!(
            written(
                Code::Value(2),
                b" t s  Oab c v f l h k q",
                Answered::GET,
                FACTS,
                marks
            ),
            b"VA 2 t-1 s2 Oab c42 f7 l9 h1 kfoo Z X W\r\n"
        );
        assert_eq!(
            written(
                Code::Done,
                b"c s t k",
                Answered::SET,
                FACTS,
                Marks::default()
            ),
            b"HD c42 s2 kfoo\r\n"
        );
        assert_eq!(
            written(
                Code::Miss,
                b"c s t k v O",
                Answered::KEY,
                FACTS,
                Marks::default()
            ),
            b"EN kfoo O\r\n"
        );
    }

    #[test]
    fn a_key_in_base64_is_answered_so() {
        let facts = Facts {
            base64: true,
            key: b"a",
            ttl_s: Some(30),
            ..FACTS
        };
        assert_eq!(
            written(
                Code::NotFound,
                b"b k Ox",
                Answered::KEY,
                facts,
                Marks::default()
            ),
            b"NF kYQ== b Ox\r\n"
        );
        let mut text = Vec::new();
        let told = Debug {
            facts,
            item_bytes: 70,
            class_id: 1,
        };
        debug(&mut |bytes: &[u8]| text.extend_from_slice(bytes), &told);
        assert_eq!(
            text,
            b"ME YQ== exp=30 la=9 cas=42 fetch=yes cls=1 size=70\r\n"
        );
    }
}
