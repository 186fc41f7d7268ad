//! What the flags of a meta line say, number by number.

use super::{Words, base64};
use crate::KEY_MAX_BYTES;
use crate::error::ClientError;
use crate::number::{strict_i32, strict_u32, strict_u64};

/// The flags of one line, read. A number whose flag is not there is 0, but for `delta`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The letters that are there.
    seen: u64,
    /// `N`: the exptime of an item that is made on a miss.
    pub vivify: i32,
    /// `T`: the new exptime.
    pub exptime: i32,
    /// `R`: who asks with less than this left to live is to make the item anew.
    pub recache: i32,
    /// `F`: the client flags.
    pub client_flags: u32,
    /// `C`: the unique the item must have.
    pub compare: u64,
    /// `E`: the unique that what is written gets.
    pub unique: u64,
    /// `J`: the number of an item that is made on a miss.
    pub initial: u64,
    /// `D`: by how much to count; 1 if not said.
    pub delta: u64,
    /// `M`: the mode's letter, or 0.
    pub mode: u8,
    /// Length of the opaque, its `O` included; 0 without one.
    pub opaque_bytes: usize,
}

const fn bit(letter: u8) -> u64 {
    1 << (letter - b'A')
}

impl Options {
    const NONE: Self = Self {
        seen: 0,
        vivify: 0,
        exptime: 0,
        recache: 0,
        client_flags: 0,
        compare: 0,
        unique: 0,
        initial: 0,
        delta: 1,
        mode: 0,
        opaque_bytes: 0,
    };

    /// Reads flags that a parser has found right.
    ///
    /// # Panics
    /// When they are not.
    #[inline]
    #[must_use]
    pub fn read(words: Words<'_>) -> Self {
        let mut options = Self::NONE;
        let mut words = words;
        while let Some(word) = words.take() {
            if let Err(error) = options.add(word) {
                panic!("{} is refused: {error:?}", word.escape_ascii());
            }
        }
        options
    }

    /// Whether a letter is there.
    #[inline]
    #[must_use]
    pub const fn has(&self, letter: u8) -> bool {
        self.seen & bit(letter) != 0
    }

    /// Whether any of these letters is there.
    #[inline]
    #[must_use]
    pub fn has_any<const COUNT: usize>(&self, letters: &[u8; COUNT]) -> bool {
        let mut wanted = 0;
        for letter in letters {
            wanted |= bit(*letter);
        }
        self.seen & wanted != 0
    }

    /// Reads the flags of a line with this key, at most `most` of them. A wrong number is found at once but told last: a letter
    /// that is unknown or stands twice goes before it, and of two wrong numbers the second is told.
    pub(super) fn check(wire: &[u8], words: Words<'_>, most: usize) -> Result<Self, ClientError> {
        if wire.len() > KEY_MAX_BYTES {
            return Err(ClientError::BadFormat);
        }
        let mut counted = words;
        for _ in 0..most {
            if counted.take().is_none() {
                break;
            }
        }
        if counted.take().is_some() {
            return Err(ClientError::OptionsTooLong);
        }
        let mut options = Self::NONE;
        let mut words = words;
        let mut wrong = None;
        while let Some(word) = words.take() {
            let result = match options.add(word) {
                Ok(()) if word[0] == b'b' && !decodes(wire) => {
                    Err(Wrong::Number(Some(ClientError::KeyEncoding)))
                }
                result => result,
            };
            match result {
                Ok(()) => {}
                Err(Wrong::Letter(error)) => return Err(error),
                Err(Wrong::Number(Some(error))) => wrong = Some(error),
                // Memcached has no text of its own for this one.
                Err(Wrong::Number(None)) => wrong = wrong.or(Some(ClientError::BadFormat)),
            }
        }
        wrong.map_or(Ok(options), Err)
    }

    #[inline]
    fn add(&mut self, word: &[u8]) -> Result<(), Wrong> {
        let (letter, value) = (word[0], &word[1..]);
        // Digits can begin a word but are no flags.
        if letter < b'A' {
            return Err(Wrong::Letter(ClientError::InvalidFlag));
        }
        if self.has(letter) {
            return Err(Wrong::Letter(ClientError::DuplicateFlag));
        }
        self.seen |= bit(letter);
        let token = Wrong::Number(Some(ClientError::BadToken));
        match letter {
            b'b' | b'k' | b's' | b't' | b'c' | b'f' | b'v' | b'h' | b'l' | b'u' | b'q' | b'x'
            | b'I' | b'P' | b'L' => {}
            b'O' => self.opaque_bytes = word.len(),
            b'N' => self.vivify = strict_i32(filled(value).ok_or(token)?).ok_or(token)?,
            b'T' => self.exptime = strict_i32(filled(value).ok_or(token)?).ok_or(token)?,
            b'R' => self.recache = strict_i32(filled(value).ok_or(token)?).ok_or(token)?,
            b'C' => self.compare = strict_u64(filled(value).ok_or(token)?).ok_or(token)?,
            b'E' => self.unique = strict_u64(filled(value).ok_or(token)?).ok_or(token)?,
            b'F' => {
                let flags = filled(value).and_then(strict_u32);
                self.client_flags = flags.ok_or(Wrong::Number(None))?;
            }
            b'J' => {
                let initial = filled(value).and_then(strict_u64);
                self.initial = initial.ok_or(Wrong::Number(Some(ClientError::BadInitial)))?;
            }
            b'D' => {
                let delta = filled(value).and_then(strict_u64);
                self.delta = delta.ok_or(Wrong::Number(Some(ClientError::BadMetaDelta)))?;
            }
            // A mode that is missing is as wrong as an unknown one; the blank stands for it.
            b'M' => self.mode = value.first().copied().unwrap_or(b' '),
            _ => return Err(Wrong::Letter(ClientError::InvalidFlag)),
        }
        Ok(())
    }
}

/// What can be wrong with one flag.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    /// The letter: nothing further is looked at.
    Letter(ClientError),
    /// What stands behind it.
    Number(Option<ClientError>),
}

fn filled(value: &[u8]) -> Option<&[u8]> {
    Some(value).filter(|value| !value.is_empty())
}

fn decodes(wire: &[u8]) -> bool {
    base64::decode(wire, &mut [0; KEY_MAX_BYTES]).is_some()
}
