//! `stats detail`: commands counted by the prefix of their keys, while somebody wants that.
//!
//! Always true: a worker counts at most [`PREFIXES_MAX`] prefixes; keys with further ones, and keys
//! without a delimiter, are not counted.

use std::collections::HashMap;
use std::io::Write;

use strata_protocol::reply::{self, Sink};

use super::lines;
use crate::config::PREFIXES_MAX;

/// What is counted, in the order it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A key asked for and not found.
    Miss,
    /// A key asked for and found.
    Hit,
    /// A storage command.
    Set,
    /// A `delete`, whether or not there was something.
    Delete,
}

/// The counts of one worker.
#[derive(Debug, Default)]
pub struct Prefixes {
    /// Gets, hits, sets, deletes.
    counts: HashMap<Box<[u8]>, [u64; 4]>,
}

impl Prefixes {
    /// Counts a command on a key. False when there is no room for its prefix.
    #[must_use]
    pub fn count(&mut self, delimiter: u8, key: &[u8], what: Counted) -> bool {
        let Some(end) = key.iter().position(|byte| *byte == delimiter) else {
            return true;
        };
        let prefix = &key[..end];
        if !self.counts.contains_key(prefix) {
            if self.counts.len() >= PREFIXES_MAX {
                return false;
            }
            self.counts.insert(prefix.into(), [0; 4]);
        }
        if let Some([gets, hits, sets, deletes]) = self.counts.get_mut(prefix) {
            match what {
                Counted::Miss => *gets += 1,
                Counted::Hit => (*gets, *hits) = (*gets + 1, *hits + 1),
                Counted::Set => *sets += 1,
                Counted::Delete => *deletes += 1,
            }
        }
        true
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.clear();
    }

    /// This worker's part of the dump, to be added up.
    pub fn part(&self, text: &mut Vec<u8>) {
        for (prefix, [gets, hits, sets, deletes]) in &self.counts {
            // An empty prefix would be no word; the delimiter is in no prefix, so it can stand for it.
            text.extend_from_slice(if prefix.is_empty() { b"\r" } else { prefix });
            let _ = writeln!(text, " {gets} {hits} {sets} {deletes}");
        }
    }
}

/// The dump of all workers together.
pub(super) fn dump(text: &[u8], out: &mut impl Sink) {
    for (prefix, [gets, hits, sets, deletes]) in lines::sum(text) {
        out.put(b"PREFIX ");
        out.put(if prefix == b"\r" { b"" } else { &prefix });
        let counts = format!(" get {gets} hit {hits} set {sets} del {deletes}\r\n");
        out.put(counts.as_bytes());
    }
    out.put(reply::END);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_counted_up_to_their_bound() {
        let mut prefixes = Prefixes::default();
        for (key, what) in [
            ("a:1", Counted::Hit),
            ("a:2", Counted::Miss),
            ("a:2:3", Counted::Set),
            (":x", Counted::Delete),
            ("plain", Counted::Set),
        ] {
            assert!(prefixes.count(b':', key.as_bytes(), what), "{key}");
        }
        let mut text = Vec::new();
        prefixes.part(&mut text);
        prefixes.part(&mut text);
        let mut out = Vec::new();
        dump(&text, &mut |bytes: &[u8]| out.extend_from_slice(bytes));
        assert_eq!(
            String::from_utf8_lossy(&out),
            "PREFIX  get 0 hit 0 set 0 del 2\r\nPREFIX a get 4 hit 2 set 2 del 0\r\nEND\r\n"
        );
        let further = 0..2 * PREFIXES_MAX;
        let counted =
            further.filter(|at| prefixes.count(b':', format!("p{at}:x").as_bytes(), Counted::Set));
        // "" and "a" are there already.
        assert_eq!(counted.count(), PREFIXES_MAX - 2);
        assert_eq!(prefixes.counts.len(), PREFIXES_MAX);
        assert!(prefixes.count(b':', b"a:1", Counted::Set));
    }
}
