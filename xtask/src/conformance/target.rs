//! A server to play transcripts to: how to start it, and which lines are for it.

use anyhow::Result;

use super::transcript::{Only, Transcript};
use crate::process::{Memcached, Server, Version};

/// A kind of server, started anew for every play.
pub struct Target {
    /// For people.
    pub name: String,
    /// How many threads serve, where we decide that; 0 where we do not.
    pub workers: usize,
    command: Vec<String>,
    /// None is Strata, which counts as newer than every memcached.
    memcached: Option<Version>,
}

impl Target {
    /// Strata, or something that claims to be as good, with this many workers.
    pub fn strata(command: &[String], workers: usize) -> Self {
        let mut command = command.to_vec();
        command.extend(["-t".to_owned(), workers.to_string()]);
        Self {
            name: format!("strata -t {workers}"),
            workers,
            command,
            memcached: None,
        }
    }

    /// A memcached, as its makers start it.
    pub fn memcached(memcached: &Memcached) -> Self {
        let version = memcached.version.map(|number| number.to_string()).join(".");
        Self {
            name: format!("memcached {version}"),
            workers: 0,
            command: memcached.command(),
            memcached: Some(memcached.version),
        }
    }

    /// Starts it with further flags.
    pub fn start(&self, flags: &[String]) -> Result<Server> {
        Server::start(&self.command, flags)
    }

    /// Whether the whole transcript is for it.
    pub fn plays_transcript(&self, transcript: &Transcript) -> bool {
        transcript
            .since
            .is_none_or(|since| self.plays(Only::From(since)))
    }

    /// Whether a line is for it.
    pub fn plays(&self, only: Only) -> bool {
        match (only, self.memcached) {
            (Only::All, _) | (Only::From(_) | Only::Strata, None) | (Only::Memcached, Some(_)) => {
                true
            }
            (Only::Before(_) | Only::Memcached, None) | (Only::Strata, Some(_)) => false,
            (Only::From(first), Some(version)) => version >= first,
            (Only::Before(first), Some(version)) => version < first,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strata_counts_as_the_newest_memcached() {
        let strata = Target::strata(&["strata".into()], 1);
        let old = Target {
            name: String::new(),
            workers: 0,
            command: Vec::new(),
            memcached: Some([1, 6, 18]),
        };
        let cases = [
            (Only::From([1, 6, 45]), true, false),
            (Only::Before([1, 6, 45]), false, true),
            (Only::From([1, 6, 18]), true, true),
            (Only::Strata, true, false),
            (Only::Memcached, false, true),
        ];
        for (only, for_strata, for_old) in cases {
            assert_eq!(
                (strata.plays(only), old.plays(only)),
                (for_strata, for_old),
                "{only:?}"
            );
        }
    }
}
