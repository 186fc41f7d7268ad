//! What is not asked, because the answers are known to differ: each with its reason.
//!
//! Always true: a command is left out only where its own bytes say so, and every one left out is counted under its
//! reason, so that a rule that swallows half of what is drawn is seen.

use crate::process::Version;

/// A kind of line whose answers differ for a known reason.
pub struct Explained {
    /// Why they differ.
    pub why: &'static str,
    /// Memcacheds from this version on answer as Strata does; none if no version does.
    pub until: Option<Version>,
    /// Whether a line, split at its blanks, with the data behind it is of this kind.
    pub is: fn(&[&[u8]], &[u8]) -> bool,
}

/// All that is known.
pub const EXPLAINED: &[Explained] = &[
    Explained {
        why: "memcached no longer counts the words of `delete`; libmemcached's test asks for the refusal",
        until: None,
        is: |words, _| words[0] == b"delete" && words.len() > 3,
    },
    Explained {
        why: "an opaque that is too long is refused before anything is done, by memcached in the midst of it",
        until: None,
        is: |words, _| {
            words[0].len() == 2
                && words[0][0] == b'm'
                && words.iter().any(|word| word.len() > 32 && word[0] == b'O')
        },
    },
    Explained {
        why: "`k` answers a key in base64 if it was asked for so, memcached if the item was stored so, \
              and an item that `N` made, that `ma` made longer, that something was put before or behind or that `md` \
              with `x` emptied never was",
        until: None,
        is: |words, _| {
            words[0].len() == 2
                && words[0][0] == b'm'
                && words.iter().skip(2).any(|word| word.starts_with(b"b"))
                && (words.iter().any(|word| word.starts_with(b"N"))
                    || (words[0] == b"ma" && !counts_down(words))
                    || (words[0] == b"ms" && puts_beside(words))
                    || (words[0] == b"md" && words.iter().skip(2).any(|word| word == b"x")))
        },
    },
    Explained {
        why: "where an `ma` with `T` or `E` makes a number longer, memcached gives the time and the unique to the \
              item it replaces",
        until: None,
        is: |words, _| {
            let gives = |word: &&[u8]| word.starts_with(b"T") || word.starts_with(b"E");
            words[0] == b"ma" && words.iter().skip(2).any(gives) && !counts_down(words)
        },
    },
    Explained {
        why: "a get of several keys of which one is too long does nothing; memcached has fetched and touched \
              those before it",
        until: None,
        is: |words, _| {
            (words[0].starts_with(b"get") || words[0].starts_with(b"gat"))
                && words.len() > 2
                && words.iter().any(|word| word.len() > 250)
        },
    },
    Explained {
        why: "a flush that is to come undoes the one before in memcached, whose items are back until it comes",
        until: None,
        is: |words, _| {
            let delay = words.get(1).and_then(|word| number(word));
            words[0] == b"flush_all" && delay.is_some_and(|delay| (1..1 << 31).contains(&delay))
        },
    },
    Explained {
        why: "`I` and a unique that no server gave: which uniques are older is each server's own",
        until: None,
        is: |words, _| {
            let has_stale = words.iter().skip(3).any(|word| word.starts_with(b"I"));
            let unique = words.iter().skip(3).find(|word| word.starts_with(b"C"));
            words[0] == b"ms"
                && has_stale
                && unique
                    .and_then(|word| number(&word[1..]))
                    .is_some_and(|unique| (2..1_000_000_000_000_000).contains(&unique))
        },
    },
    Explained {
        why: "`E0` gives memcached's item the unique 0; in Strata no item has that, and `E0` asks for nothing",
        until: None,
        is: |words, _| {
            let is_zero = |word: &&[u8]| word.starts_with(b"E") && number(&word[1..]) == Some(0);
            words[0].len() == 2 && words[0][0] == b'm' && words.iter().skip(2).any(is_zero)
        },
    },
    Explained {
        why: "the `E` of an `ms` whose data is refused is the unique of memcached's next store on that connection",
        until: None,
        is: |words, data| {
            let gives = words.iter().skip(3).any(|word| word.starts_with(b"E"));
            let stated = words.get(2).and_then(|word| number(word));
            let fits = |stated: u64| {
                data.len() as u64 == stated.saturating_add(2) && data.ends_with(b"\r\n")
            };
            words[0] == b"ms" && gives && stated.is_some_and(|stated| !fits(stated))
        },
    },
    Explained {
        why: "how far a memory limit can move depends on how the memory is had, and a moved one evicts",
        until: None,
        is: |words, _| {
            let megabytes = words.get(1).and_then(|word| number(word));
            words[0] == b"cache_memlimit"
                && megabytes.is_some_and(|megabytes| (8..=1_000_000_000).contains(&megabytes))
        },
    },
    Explained {
        why: "a memcached that was built without TLS does not know `refresh_certs`",
        until: None,
        is: |words, _| words[0] == b"refresh_certs",
    },
    Explained {
        why: "what `stats` says of a server, its items and its connections is its own",
        until: None,
        is: |words, _| {
            let begins =
                |name: &[u8], at: usize| words.get(at).is_some_and(|word| name.starts_with(word));
            if words[0] != b"stats" {
                return false;
            }
            // The first of these that begins with the word, as both servers look for it.
            let subjects = [
                &b"reset"[..],
                b"detail",
                b"settings",
                b"cachedump",
                b"conns",
            ];
            match subjects.into_iter().find(|subject| begins(subject, 1)) {
                Some(b"reset") => false,
                Some(b"detail") => begins(b"on", 2) || begins(b"off", 2) || begins(b"dump", 2),
                Some(b"cachedump") => {
                    let class = words.get(2).and_then(|word| number(word));
                    words.len() > 3 && class.is_some_and(|class| class < 64)
                }
                Some(_) => true,
                None => words.len() == 1 || [&b"items"[..], b"slabs", b"sizes"].contains(&words[1]),
            }
        },
    },
];

/// Whether an `ma` makes a number smaller, which never makes it longer.
fn counts_down(words: &[&[u8]]) -> bool {
    words
        .iter()
        .skip(2)
        .any(|word| word.starts_with(b"MD") || word.starts_with(b"M-"))
}

/// Whether an `ms` appends or prepends.
fn puts_beside(words: &[&[u8]]) -> bool {
    let modes = [b"MA", b"Ma", b"MP", b"Mp"];
    words
        .iter()
        .skip(3)
        .any(|word| modes.iter().any(|mode| word.starts_with(*mode)))
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Why a dialogue is not played.
pub const FOREIGN_UNIQUE: &str =
    "`ms` with `I` and a unique of another key: older and newer are told apart for one key only";

/// Why a command, a line with its data, is not asked of this memcached, if so.
pub fn reason(command: &[u8], version: Version) -> Option<&'static str> {
    let line_end = command.iter().position(|&byte| byte == b'\n');
    let (line, data) = command.split_at(line_end.map_or(command.len(), |at| at + 1));
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let words: Vec<&[u8]> = line
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
        .collect();
    if words.is_empty() {
        return None;
    }
    let known = EXPLAINED
        .iter()
        .filter(|known| known.until.is_none_or(|until| version < until));
    known
        .filter(|known| (known.is)(&words, data))
        .map(|known| known.why)
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_in_question_are_left_out() {
        let version = [1, 6, 45];
        assert!(reason(b"delete k b c\r\n", version).is_some());
        assert!(reason(b"delete k 0\r\n", version).is_none());
        assert!(reason(b"cache_memlimit 8\r\n", version).is_some());
        assert!(reason(b"cache_memlimit 7\r\n", version).is_none());
        assert!(reason(b"refresh_certs\r\n", version).is_some());
        assert!(reason(b"stats\r\n", version).is_some());
        assert!(reason(b"stats c 1 1\r\n", version).is_some());
        assert!(reason(b"stats c 64 1\r\n", version).is_none());
        assert!(reason(b"stats cachedump 1\r\n", version).is_none());
        assert!(reason(b"ms k 1 E0\r\n", version).is_some());
        assert!(reason(b"ms k 1 E10\r\nv\r\n", version).is_none());
        assert!(reason(b"stats co\r\n", version).is_some());
        assert!(reason(b"stats reset\r\n", version).is_none());
        assert!(reason(b"\r\n", version).is_none());
        assert!(reason(b"mg aw== b N30 k\r\n", version).is_some());
        assert!(reason(b"mg aw== b k\r\n", version).is_none());
        assert!(reason(b"ms aw== 1 b MA\r\n", version).is_some());
        assert!(reason(b"ms aw== 1 b MS\r\n", version).is_none());
        assert!(reason(b"md aw== b x\r\n", version).is_some());
        assert!(reason(b"md aw== b\r\n", version).is_none());
        assert!(reason(b"ma k E7\r\n", version).is_some());
        assert!(reason(b"ma k E7 MD\r\n", version).is_none());
        assert!(reason(b"ms k 1 E7\r\nv\r\n", version).is_none());
        assert!(reason(b"ms k 1 E7\r\nvv\r\n", version).is_some());
        assert!(reason(b"ms k 1\r\nvv\r\n", version).is_none());
    }
}
