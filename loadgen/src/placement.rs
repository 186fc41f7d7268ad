//! Which of several servers is asked for a key.
//!
//! Always true: the answer depends on the key and on what the servers are called, or on their
//! order, alone, so that what one client wrote another finds.

use crate::ketama::Ring;
use crate::transport::Address;

/// The rule, as the user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// libmemcached's weighted ketama.
    #[default]
    Ketama,
    /// libmemcached's CRC hash with modula distribution.
    Modula,
}

impl Distribution {
    /// The rule by name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ketama" => Some(Self::Ketama),
            "modula" => Some(Self::Modula),
            _ => None,
        }
    }
}

/// The rule for the servers of a run.
#[derive(Clone, Debug)]
pub enum Placement {
    /// By the servers' names.
    Ketama(Ring),
    /// By the servers' order; how many there are.
    Modula(usize),
}

impl Placement {
    /// How these servers share the keys.
    pub fn new(distribution: Distribution, servers: &[Address]) -> Self {
        match distribution {
            Distribution::Ketama => Self::Ketama(Ring::new(servers)),
            Distribution::Modula => Self::Modula(servers.len()),
        }
    }

    /// How many servers there are.
    pub fn server_count(&self) -> usize {
        match self {
            Self::Ketama(ring) => ring.server_count(),
            Self::Modula(count) => *count,
        }
    }

    /// The server that has the key, by its place in the list.
    pub fn server_of(&self, key: &[u8]) -> usize {
        match self {
            Self::Ketama(ring) => ring.server_of(key),
            Self::Modula(count) => (crc32fast::hash(key) >> 16 & 0x7fff) as usize % count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hashes are libmemcached's: `memcached_generate_hash_value` with `MEMCACHED_HASH_CRC`.
    #[test]
    fn modula_places_keys_as_libmemcached_does() {
        for (key, hash) in [("", 0), ("a", 26_807), ("key", 2_704), ("memtier-1", 6_055)] {
            for count in [1, 2, 3, 64] {
                let placement = Placement::Modula(count);
                assert_eq!(
                    placement.server_of(key.as_bytes()),
                    hash % count,
                    "{key:?} of {count}"
                );
            }
        }
    }
}
