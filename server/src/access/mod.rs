//! Who may come in and do what: the users of `--auth-file FILE.toml`.
//!
//! ```text
//! worker: name and password --> Knock --> doorman's thread: Argon2 --> Ask::Admit --> worker
//! ```
//!
//! Always true: a password is checked on a thread of its own, and the connection that said it waits
//! parked, with what it sent behind it, while its worker serves the others; a password and a hash are
//! in no log and no error; who may do everything is a client like any other from then on, and costs
//! what a client costs; and what somebody with fewer rights asks for is looked at before it reaches a
//! shard: whatever is not known to be harmless needs all rights.
//!
//! `accounts` reads the file, `doorman` checks, `hash` makes what stands in the file.

mod accounts;
mod doorman;
mod failures;
mod hash;

use std::net::IpAddr;
use std::sync::Arc;

use strata_protocol::binary::Command;
use strata_protocol::{KEY_MAX_BYTES, Meta, MetaVerb, Request, StatsSubject};

use crate::io::ConnIndex;
use crate::session::Intent;

pub use accounts::Accounts;
pub use doorman::{Doorman, start};
pub use hash::{COMMAND as HASH_COMMAND, run as hash_password};

/// What the doorman is told.
#[derive(Debug)]
pub enum Job {
    /// Somebody says who it is.
    Knock(Knock),
    /// These are the users from now on.
    Accounts(Arc<Accounts>),
}

/// Somebody who says who it is.
#[derive(Debug)]
pub struct Knock {
    /// Who waits for the answer.
    pub guest: Guest,
    /// Where it comes from; nothing of a unix socket.
    pub peer: Option<IpAddr>,
    /// The name.
    pub user: Box<[u8]>,
    /// The password.
    pub password: Box<[u8]>,
}

/// A connection that waits at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its worker.
    pub worker: usize,
    /// Its index there.
    pub conn: ConnIndex,
    /// Which use of the index it is.
    pub generation: u32,
}

/// The doorman's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Come in, and do everything, or what these rights allow.
    In(Option<Arc<Rights>>),
    /// This is nobody.
    Out,
    /// Too many others wait; nothing was checked.
    Busy,
}

/// What a user may do who may not do everything.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Whether anything may be changed.
    write: bool,
    /// What keys must begin with; any key if there is nothing here.
    prefixes: Vec<Box<[u8]>>,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    Read,
    Write,
    /// All rights: it is about everybody's items, or about other clients.
    All,
}

impl Rights {
    /// Rights to keys that begin with one of these, or to all if there are none.
    #[must_use]
    pub fn new(write: bool, prefixes: Vec<Box<[u8]>>) -> Self {
        Self { write, prefixes }
    }

    fn cover(&self, need: Need, key: &[u8]) -> bool {
        let known = || {
            let mut prefixes = self.prefixes.iter();
            self.prefixes.is_empty() || prefixes.any(|prefix| key.starts_with(prefix))
        };
        match need {
            Need::Nothing => true,
            Need::Read => known(),
            Need::Write => self.write && known(),
            Need::All => false,
        }
    }

    /// Whether this may be done.
    #[must_use]
    pub fn allow(&self, intent: &Intent<'_>) -> bool {
        let need = need_of(intent);
        match intent {
            Intent::Meta(meta, _) | Intent::MetaTooLarge(meta) => {
                let mut buffer = [0; KEY_MAX_BYTES];
                self.cover(need, meta.key().bytes(&mut buffer))
            }
            _ => self.cover(need, crate::worker::key_of(intent).unwrap_or_default()),
        }
    }

    /// Whether a key may be read, or given a new deadline as well.
    #[must_use]
    pub fn allow_get(&self, key: &[u8], touches: bool) -> bool {
        let need = if touches { Need::Write } else { Need::Read };
        self.cover(need, key)
    }

    /// Whether a key may be stored.
    #[must_use]
    pub fn allow_store(&self, key: &[u8]) -> bool {
        self.cover(Need::Write, key)
    }
}

fn need_of(intent: &Intent<'_>) -> Need {
    match intent {
        Intent::Get(get) if get.kind.touches() => Need::Write,
        Intent::Get(_) => Need::Read,
        Intent::Store(..) | Intent::Taken(_) | Intent::TooLarge(_) | Intent::NoRoom(_) => {
            Need::Write
        }
        Intent::Meta(meta, _) => meta_need(meta),
        Intent::MetaTooLarge(_) | Intent::PacketTooLarge(_) => Need::Write,
        Intent::Request(request) => request_need(request),
        Intent::Packet(packet, _) => match packet.command {
            Command::Noop | Command::Version | Command::Quit => Need::Nothing,
            Command::Get | Command::GetKey => Need::Read,
            Command::Stat => match packet.key() {
                b"" | b"items" | b"slabs" | b"workers" | b"latency" | b"settings" => Need::Nothing,
                _ => Need::All,
            },
            command if command.has_key() => Need::Write,
            _ => Need::All,
        },
        // These reach no item: the protocol has refused them already.
        Intent::PacketRefused { .. } | Intent::Answer(_) | Intent::More | Intent::Lost => {
            Need::Nothing
        }
    }
}

fn meta_need(meta: &Meta<'_>) -> Need {
    // With these a get makes an item, moves its deadline, or claims that it will be made anew.
    let changes = |letter| matches!(letter, b'N' | b'T' | b'R' | b'E');
    match meta.verb {
        MetaVerb::Debug => Need::Read,
        MetaVerb::Get if !meta.words.letters().any(changes) => Need::Read,
        _ => Need::Write,
    }
}

fn request_need(request: &Request<'_>) -> Need {
    match request {
        Request::Version | Request::Nop | Request::Quit => Need::Nothing,
        Request::Delete { .. } | Request::Arith { .. } | Request::Touch { .. } => Need::Write,
        Request::Stats(
            StatsSubject::General
            | StatsSubject::Settings
            | StatsSubject::Items
            | StatsSubject::Slabs
            | StatsSubject::Workers
            | StatsSubject::Segments
            | StatsSubject::Ttl
            | StatsSubject::Latency { reset: false }
            | StatsSubject::Extstore
            | StatsSubject::Unknown,
        ) => Need::Nothing,
        // Also the other statistics: keys and addresses of others, walks through all items, and resets.
        _ => Need::All,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;
    use crate::packet::{Packet, REQUEST};
    use crate::session::{IntakeLimits, Reader};

    /// What a request may be for a reader and a writer of keys that begin with `a:`, and a writer of all.
    fn verdicts(request: &[u8]) -> [bool; 3] {
        let prefixes = || vec![b"a:"[..].into(), b"common"[..].into()];
        let rights = [
            Rights::new(false, prefixes()),
            Rights::new(true, prefixes()),
            Rights::new(true, Vec::new()),
        ];
        let limits = IntakeLimits {
            item_max_bytes: 1 << 20,
            room: 1 << 20,
        };
        let (used, intent) = Reader::speaking(Protocol::Auto).next(request, &limits);
        assert!(used > 0, "{}", request.escape_ascii());
        rights.map(|rights| rights.allow(&intent))
    }

    #[test]
    fn every_request_needs_what_it_does() {
        const ANYBODY: [bool; 3] = [true; 3];
        const WRITERS: [bool; 3] = [false, true, true];
        const ALL_KEYS: [bool; 3] = [false, false, true];
        const NOBODY: [bool; 3] = [false; 3];
        for (line, expected) in [
            ("get a:1", ANYBODY),
            ("gets common", ANYBODY),
            ("get b:1", ALL_KEYS),
            ("get a", ALL_KEYS),
            ("gat 0 a:1", WRITERS),
            ("gat 0 b:1", ALL_KEYS),
            ("set a:1 0 0 1\r\nv", WRITERS),
            ("set b 0 0 1\r\nv", ALL_KEYS),
            ("cas a:1 0 0 1 7\r\nv", WRITERS),
            ("append b 0 0 1\r\nv", ALL_KEYS),
            ("set a:1 0 0 2000000", WRITERS),
            ("delete a:1", WRITERS),
            ("delete b", ALL_KEYS),
            ("incr a:1 1", WRITERS),
            ("decr b 1", ALL_KEYS),
            ("touch a:1 0", WRITERS),
            ("mg a:1 v t f", ANYBODY),
            ("mg a:1 v T0", WRITERS),
            ("mg a:1 v N0", WRITERS),
            ("mg a:1 v R9", WRITERS),
            ("mg b v", ALL_KEYS),
            // a:1 and b:1 in base64.
            ("mg YTox b v", ANYBODY),
            ("mg Yjox b v", ALL_KEYS),
            ("ms YTox 1 b\r\nv", WRITERS),
            ("ms Yjox 1 b\r\nv", ALL_KEYS),
            ("md a:1", WRITERS),
            ("ma a:1", WRITERS),
            ("me a:1", ANYBODY),
            ("me b", ALL_KEYS),
            ("mn", ANYBODY),
            ("version", ANYBODY),
            ("stats", ANYBODY),
            ("stats settings", ANYBODY),
            ("stats latency", ANYBODY),
            ("stats bogus", ANYBODY),
            ("bogus", ANYBODY),
            ("stats reset", NOBODY),
            ("stats latency reset", NOBODY),
            ("stats conns", NOBODY),
            ("stats sizes", NOBODY),
            ("stats cachedump 1 0", NOBODY),
            ("stats detail dump", NOBODY),
            ("stats hotkeys", NOBODY),
            ("flush_all", NOBODY),
            ("flush_prefix a", NOBODY),
            ("verbosity 1", NOBODY),
            ("cache_memlimit 100", NOBODY),
            ("shutdown", NOBODY),
            ("watch", NOBODY),
            ("lru_crawler metadump all", NOBODY),
            ("lru tune 10 25 0.1 2.0", NOBODY),
            ("slabs reassign 1 2", NOBODY),
            ("refresh_certs", NOBODY),
            ("debugtime p", NOBODY),
        ] {
            let request = [line.as_bytes(), b"\r\n"].concat();
            assert_eq!(verdicts(&request), expected, "{line}");
        }
        for (opcode, extras_bytes, key, expected) in [
            (0x00, 0, "a:1", ANYBODY),
            (0x0c, 0, "b", ALL_KEYS),
            (0x01, 8, "a:1", WRITERS),
            (0x01, 8, "b", ALL_KEYS),
            (0x1c, 4, "a:1", WRITERS),
            (0x1d, 4, "b", ALL_KEYS),
            (0x04, 0, "a:1", WRITERS),
            (0x05, 20, "a:1", WRITERS),
            (0x0a, 0, "", ANYBODY),
            (0x0b, 0, "", ANYBODY),
            (0x08, 0, "", NOBODY),
            (0x10, 0, "", ANYBODY),
            (0x10, 0, "reset", NOBODY),
            (0x10, 0, "sizes", NOBODY),
        ] {
            let packet = Packet {
                magic: REQUEST,
                opcode,
                extras: &[0; 20][..extras_bytes],
                key: key.as_bytes(),
                ..Packet::default()
            };
            assert_eq!(verdicts(&packet.bytes()), expected, "{opcode:#x} {key}");
        }
    }
}
