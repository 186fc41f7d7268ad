//! Which worker owns a key.
//!
//! Always true: the same key has the same owner on every worker, for as long as the server runs.

use strata_store::KeyHash;

/// The rule by which keys are dealt out.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    workers: usize,
    public: bool,
}

impl Route {
    /// Deals keys out to `workers`: by a rule that clients can know when it is `public`, else by the table's hash.
    #[must_use]
    pub fn new(workers: usize, public: bool) -> Self {
        Self { workers, public }
    }

    /// The owner of a key with this hash.
    #[inline]
    #[must_use]
    pub fn owner(self, hash: KeyHash, key: &[u8]) -> usize {
        if self.workers == 1 {
            return 0;
        }
        if self.public {
            return public_shard(key, self.workers);
        }
        hash.shard(self.workers)
    }
}

/// The shard of a key by a rule that clients can know: libmemcached's CRC hash, which many clients
/// have, and its modula distribution. The table's hash is keyed with a secret and cannot be told.
/// Whoever chooses keys by this rule can load one worker more than the others, and that is all: the
/// table never sees it.
fn public_shard(key: &[u8], shards: usize) -> usize {
    let hash = (crc32fast::hash(key) >> 16) & 0x7fff;
    hash as usize % shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_shard_is_libmemcacheds() {
        for (key, hash) in [("", 0), ("a", 26_807), ("key", 2_704), ("memtier-1", 6_055)] {
            for shards in [2, 3, 64] {
                assert_eq!(
                    public_shard(key.as_bytes(), shards),
                    hash % shards,
                    "{key:?}"
                );
            }
        }
    }
}
