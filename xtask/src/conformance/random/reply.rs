//! What two servers answered, side by side: the same bytes, but for uniques, which each server chooses for itself, and
//! times, which differ by the moment in which a clock was read.
//!
//! Always true: a unique that one server repeats is repeated by the other, and new where the other's is new.

use std::collections::HashMap;

/// How far two times may be apart, in seconds: the clocks of two processes do not tick together.
const TIME_SLACK_S: u64 = 1;
/// What Strata names as the unique of an item that was gone as soon as it was stored. No item has it.
const GONE_UNIQUE: u64 = 1;
/// Bytes of a binary header.
const HEADER_BYTES: usize = 24;

/// A stretch of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes that must be the same.
    Same(Vec<u8>),
    /// The server's own choice.
    Unique(u64),
    /// Seconds, or -1.
    Time(i64),
}

/// The uniques of one dialogue.
#[derive(Default)]
pub struct Uniques {
    /// Those of the first server, in the order in which they were first shown.
    pub first: Vec<u64>,
    /// Those of the second, each at its partner's index.
    pub second: Vec<u64>,
    to_second: HashMap<u64, u64>,
    to_first: HashMap<u64, u64>,
}

impl Uniques {
    /// Whether two uniques can be partners; if both are new, they are from now on. Where the second server's shards count
    /// for themselves, two items may have the same unique there; `shared` allows that.
    fn pair(&mut self, first: u64, second: u64, shared: bool) -> bool {
        if second == GONE_UNIQUE {
            return true;
        }
        match (self.to_second.get(&first), self.to_first.get(&second)) {
            (Some(known), _) => *known == second,
            (None, Some(_)) if !shared => false,
            (None, _) => {
                self.to_second.insert(first, second);
                self.to_first.insert(second, first);
                self.first.push(first);
                self.second.push(second);
                true
            }
        }
    }
}

/// Whether two replies say the same.
pub fn agree(first: &[Piece], second: &[Piece], uniques: &mut Uniques, shared: bool) -> bool {
    first.len() == second.len()
        && first
            .iter()
            .zip(second)
            .all(|(first, second)| match (first, second) {
                (Piece::Same(first), Piece::Same(second)) => first == second,
                (Piece::Unique(first), Piece::Unique(second)) => {
                    uniques.pair(*first, *second, shared)
                }
                (Piece::Time(first), Piece::Time(second)) => {
                    // Memcached's seconds to live wrap around where the time has passed.
                    let first = if *first > i64::from(i32::MAX) {
                        &0
                    } else {
                        first
                    };
                    (*first < 0) == (*second < 0) && first.abs_diff(*second) <= TIME_SLACK_S
                }
                _ => false,
            })
}

/// Takes a stream of text replies apart.
pub fn read_lines(mut bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let end = bytes
            .iter()
            .position(|&byte| byte == b'\n')
            .map_or(bytes.len(), |at| at + 1);
        let (line, rest) = bytes.split_at(end);
        bytes = rest;
        let data_bytes = read_line(line, &mut pieces);
        if data_bytes > 0 {
            let (data, rest) = bytes.split_at(bytes.len().min(data_bytes));
            pieces.push(Piece::Same(data.to_vec()));
            bytes = rest;
        }
    }
    pieces
}

/// Takes one line apart; how many bytes of data follow it, their end included.
fn read_line(line: &[u8], pieces: &mut Vec<Piece>) -> usize {
    let body = line.strip_suffix(b"\r\n").unwrap_or(line);
    let words: Vec<&[u8]> = body.split(|&byte| byte == b' ').collect();
    let mut data_bytes = 0;
    match words[0] {
        b"VALUE" if words.len() >= 4 => {
            data_bytes = number(words[3]).map_or(0, |bytes| bytes as usize + 2);
            for (at, word) in words.iter().enumerate() {
                pieces.push(match number(word) {
                    Some(unique) if at == 4 => Piece::Unique(unique),
                    _ => Piece::Same(word.to_vec()),
                });
            }
        }
        b"VA" | b"HD" | b"EN" | b"NF" | b"NS" | b"EX" => {
            if words[0] == b"VA" {
                data_bytes = words
                    .get(1)
                    .and_then(|word| number(word))
                    .map_or(0, |bytes| bytes as usize + 2);
            }
            pieces.extend(words.iter().map(|word| meta_word(word)));
        }
        b"ME" => pieces.extend(words.iter().map(|word| debug_word(word))),
        // Each names its own.
        b"VERSION" => pieces.push(Piece::Same(b"VERSION".to_vec())),
        _ => pieces.push(Piece::Same(body.to_vec())),
    }
    pieces.push(Piece::Same(line[body.len()..].to_vec()));
    data_bytes
}

fn meta_word(word: &[u8]) -> Piece {
    let piece = match word.split_first() {
        Some((b'c', digits)) => number(digits).map(Piece::Unique),
        Some((b't' | b'l', digits)) => time(digits).map(Piece::Time),
        _ => None,
    };
    piece.unwrap_or_else(|| Piece::Same(word.to_vec()))
}

fn debug_word(word: &[u8]) -> Piece {
    let Some(at) = word.iter().position(|&byte| byte == b'=') else {
        return Piece::Same(word.to_vec());
    };
    let (name, value) = (&word[..at], &word[at + 1..]);
    let piece = match name {
        b"exp" | b"la" => time(value).map(Piece::Time),
        b"cas" => number(value).map(Piece::Unique),
        // Where and how large an item is kept is each server's own affair.
        b"cls" | b"size" => Some(Piece::Same(name.to_vec())),
        _ => None,
    };
    piece.unwrap_or_else(|| Piece::Same(word.to_vec()))
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn time(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Takes a stream of reply packets apart.
pub fn read_packets(mut bytes: &[u8]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
            pieces.push(Piece::Same(bytes.to_vec()));
            break;
        };
        let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
        let (body, rest) = rest.split_at(rest.len().min(length));
        bytes = rest;
        let (head, cas) = header.split_at(16);
        let unique = u64::from_be_bytes(cas.try_into().expect("eight bytes"));
        pieces.push(Piece::Same(head.to_vec()));
        // None at all is something else than one of the server's choice.
        pieces.push(match unique {
            0 => Piece::Same(cas.to_vec()),
            _ => Piece::Unique(unique),
        });
        // 0x0b is the version, which each names for itself, as long as it is.
        let is_version = header[1] == 0x0b && header[6..8] == [0, 0];
        if is_version {
            pieces.truncate(pieces.len() - 2);
            pieces.push(Piece::Same(b"version".to_vec()));
        } else {
            pieces.push(Piece::Same(body.to_vec()));
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alike(pairs: &[(&str, &str)], shared: bool) -> bool {
        let mut uniques = Uniques::default();
        pairs.iter().all(|(first, second)| {
            agree(
                &read_lines(first.as_bytes()),
                &read_lines(second.as_bytes()),
                &mut uniques,
                shared,
            )
        })
    }

    #[test]
    fn uniques_are_partners_for_good() {
        let value = |unique: u64| format!("VALUE k 0 1 {unique}\r\nv\r\nEND\r\n");
        let (a, b, c, d) = (value(1), value(2), value(70), value(80));
        assert!(alike(&[(&a, &c), (&b, &d), (&a, &c)], false));
        assert!(!alike(&[(&a, &c), (&a, &d)], true), "it changed");
        assert!(!alike(&[(&a, &c), (&b, &c)], false), "it did not change");
        assert!(alike(&[(&a, &c), (&b, &c)], true), "of two shards");
    }

    #[test]
    fn times_may_be_a_second_apart() {
        assert!(alike(&[("HD t30 l0\r\n", "HD t29 l1\r\n")], false));
        assert!(!alike(&[("HD t30\r\n", "HD t28\r\n")], false));
        assert!(!alike(&[("HD t-1\r\n", "HD t0\r\n")], false));
        assert!(alike(
            &[(
                "ME k exp=-1 la=0 cas=5 fetch=no cls=1 size=64\r\n",
                "ME k exp=-1 la=1 cas=9 fetch=no cls=2 size=20\r\n"
            )],
            false
        ));
    }

    #[test]
    fn data_is_compared_byte_for_byte_whatever_it_looks_like() {
        assert!(!alike(
            &[("VA 10\r\nHD c1 t100\r\n", "VA 10\r\nHD c2 t100\r\n")],
            false
        ));
        assert!(alike(&[("VERSION 1.6.45\r\n", "VERSION 0.1\r\n")], false));
        assert!(!alike(&[("ERROR\r\n", "ERROR\n")], false));
    }

    #[test]
    fn packets_agree_but_for_the_unique() {
        let mut first = vec![0x81; HEADER_BYTES];
        first[8..12].copy_from_slice(&1u32.to_be_bytes());
        let mut second = first.clone();
        second[23] ^= 1;
        first.push(b'v');
        second.push(b'v');
        let mut uniques = Uniques::default();
        assert!(agree(
            &read_packets(&first),
            &read_packets(&second),
            &mut uniques,
            false
        ));
        assert_eq!(uniques.first.len(), 1);
        second[HEADER_BYTES] = b'w';
        assert!(!agree(
            &read_packets(&first),
            &read_packets(&second),
            &mut uniques,
            false
        ));
    }
}
