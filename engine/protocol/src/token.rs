//! The words of one line. Words are separated by spaces alone; at most [`TOKENS_MAX`] of them are seen.

use crate::{TOKENS_MAX, scan};

/// Where the words of a line are. The line is at most [`crate::LINE_MAX_BYTES`] long, so 16 bits name a place in it.
pub(crate) struct Tokens<'a> {
    line: &'a [u8],
    bounds: [(u16, u16); TOKENS_MAX],
    count: usize,
}

const _: () = assert!(crate::LINE_MAX_BYTES <= u16::MAX as usize);

impl<'a> Tokens<'a> {
    /// Splits a line, given without its line end.
    pub(crate) fn split(line: &'a [u8]) -> Self {
        let mut tokens = Tokens {
            line,
            bounds: [(0, 0); TOKENS_MAX],
            count: 0,
        };
        let mut at = 0;
        while tokens.count < TOKENS_MAX {
            at += scan::spaces(&line[at..]);
            if at == line.len() {
                break;
            }
            // A line holds no `\n`, so a word ends at a space.
            let end = scan::word_end(&line[at..]).map_or(line.len(), |bytes| at + bytes);
            tokens.bounds[tokens.count] = (at as u16, end as u16);
            tokens.count += 1;
            at = end;
        }
        tokens
    }

    /// How many words there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The word at `index`; none if there are not that many.
    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        let (start, end) = *self.bounds[..self.count].get(index)?;
        Some(&self.line[start as usize..end as usize])
    }

    /// The line from the word at `index` on, for numbers that are read as C reads them.
    pub(crate) fn from(&self, index: usize) -> Option<&'a [u8]> {
        let (start, _) = *self.bounds[..self.count].get(index)?;
        Some(&self.line[start as usize..])
    }

    /// The last word that is seen.
    pub(crate) fn last(&self) -> Option<&'a [u8]> {
        self.get(self.count.checked_sub(1)?)
    }

    /// Whether the last word asks for silence.
    pub(crate) fn noreply(&self) -> bool {
        self.last() == Some(b"noreply")
    }
}
