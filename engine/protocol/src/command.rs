//! One complete line and what it asks for: the table of commands.
//!
//! A line arrives here without its line end and is at most [`crate::LINE_MAX_BYTES`] long. The rules and their order are memcached's,
//! because the order decides which of two errors a client sees and whether `noreply` silences it.

use crate::error::ClientError;
use crate::manage;
use crate::meta::{self, MetaVerb};
use crate::number::{c_exptime, c_flags, strict_i32, strict_u32, strict_u64};
use crate::request::{
    ArithVerb, DetailSwitch, GetKind, Request, ShutdownMode, StatsSubject, Store, StoreVerb,
};
use crate::token::Tokens;
use crate::{KEY_MAX_BYTES, VALUE_MAX_BYTES, scan};

/// The least megabytes memcached lets itself be limited to.
const MEMORY_LIMIT_MIN_MB: u32 = 8;

/// What a line is.
pub(crate) enum Line<'a> {
    /// A request with everything in it.
    Request(Request<'a>),
    /// A retrieval line whose first key is `keys_at` bytes from the start of the line. No key of it is too long.
    Keys {
        kind: GetKind,
        exptime: i32,
        keys_at: usize,
    },
    /// Malformed: answer `error`, then swallow `skip` bytes behind the line.
    Invalid {
        error: Option<ClientError>,
        skip: u64,
    },
    /// Not worth an answer.
    Lost,
}

impl<'a> From<Request<'a>> for Line<'a> {
    fn from(request: Request<'a>) -> Self {
        Line::Request(request)
    }
}

/// Malformed, and said so whatever the line's last word is.
pub(crate) fn loud<'a>(error: ClientError) -> Line<'a> {
    Line::Invalid {
        error: Some(error),
        skip: 0,
    }
}

/// Malformed, and silent if the line ends with `noreply`.
pub(crate) fn refuse<'a>(error: ClientError, noreply: bool) -> Line<'a> {
    Line::Invalid {
        error: if noreply { None } else { Some(error) },
        skip: 0,
    }
}

/// Reads one line.
pub(crate) fn read(line: &[u8]) -> Line<'_> {
    let word_bytes = line
        .iter()
        .position(|&byte| byte == b' ')
        .unwrap_or(line.len());
    match &line[..word_bytes] {
        b"get" => keys(GetKind::Get, line),
        b"mg" => meta::read(MetaVerb::Get, line),
        b"ms" => meta::read(MetaVerb::Set, line),
        b"md" => meta::read(MetaVerb::Delete, line),
        b"ma" => meta::read(MetaVerb::Arith, line),
        b"me" => meta::read(MetaVerb::Debug, line),
        b"gets" => keys(GetKind::Gets, line),
        b"gat" => keys(GetKind::Gat, line),
        b"gats" => keys(GetKind::Gats, line),
        b"set" => store(StoreVerb::Set, line),
        b"add" => store(StoreVerb::Add, line),
        b"replace" => store(StoreVerb::Replace, line),
        b"append" => store(StoreVerb::Append, line),
        b"prepend" => store(StoreVerb::Prepend, line),
        b"cas" => store(StoreVerb::Cas, line),
        b"delete" => delete(line),
        b"incr" => arith(ArithVerb::Incr, line),
        b"decr" => arith(ArithVerb::Decr, line),
        b"touch" => touch(line),
        b"stats" => stats(line),
        b"version" => Request::Version.into(),
        b"quit" => Request::Quit.into(),
        b"watch" => manage::watch(line),
        b"mn" => Request::Nop.into(),
        _ => any(line),
    }
}

/// Commands that memcached looks up by the first word instead of by what stands before the first space, so that spaces before them do no harm; and everything unknown.
fn any(line: &[u8]) -> Line<'_> {
    let tokens = Tokens::split(line);
    let noreply = tokens.noreply();
    match tokens.get(0) {
        Some(b"flush_all") => flush_all(&tokens, noreply),
        Some(b"flush_prefix") => flush_prefix(&tokens, noreply),
        Some(b"verbosity") => match tokens.get(1).and_then(strict_u32) {
            Some(level) => Request::Verbosity { level, noreply }.into(),
            None => refuse(ClientError::BadFormat, noreply),
        },
        Some(b"cache_memlimit") => match tokens.get(1).and_then(strict_u32) {
            None => refuse(ClientError::UnknownCommand, noreply),
            Some(0..MEMORY_LIMIT_MIN_MB) => refuse(ClientError::MemoryLimitTooSmall, noreply),
            Some(1_000_000_001..) => refuse(ClientError::MemoryLimitInBytes, noreply),
            Some(megabytes) => Request::MemoryLimit { megabytes, noreply }.into(),
        },
        Some(b"shutdown") => shutdown(&tokens, noreply),
        Some(b"lru_crawler") => manage::lru_crawler(&tokens, noreply),
        Some(b"slabs") => manage::slabs(&tokens, noreply),
        Some(b"lru") => manage::lru(&tokens, noreply),
        Some(b"extstore") => manage::extstore(&tokens, noreply),
        Some(b"refresh_certs") => Request::RefreshCerts.into(),
        Some(b"debugtime") => manage::debugtime(&tokens, noreply),
        // A browser, or somebody who uses one to write into caches.
        _ if tokens.count() > 1 && tokens.last().is_some_and(|last| last.starts_with(b"HTTP/")) => {
            Line::Lost
        }
        _ => refuse(ClientError::UnknownCommand, noreply),
    }
}

fn keys(kind: GetKind, line: &[u8]) -> Line<'_> {
    let after_spaces = |at: usize| at + scan::spaces(&line[at..]);
    let after_word = |at: usize| {
        line[at..]
            .iter()
            .position(|&byte| byte == b' ')
            .map_or(line.len(), |bytes| at + bytes)
    };

    let mut keys_at = after_spaces(after_word(0));
    let mut exptime = Some(0);
    if kind.touches() {
        let end = after_word(keys_at);
        exptime = strict_i32(&line[keys_at..end]);
        keys_at = after_spaces(end);
    }
    if keys_at == line.len() {
        return loud(ClientError::BadFormat);
    }
    let Some(exptime) = exptime else {
        return loud(ClientError::BadExptime);
    };
    // The error comes instead of all hits, so it must be known before the first key leaves.
    if line.len() - keys_at > KEY_MAX_BYTES && has_long_key(&line[keys_at..]) {
        return loud(ClientError::GetKeyTooLong);
    }
    Line::Keys {
        kind,
        exptime,
        keys_at,
    }
}

fn has_long_key(mut keys: &[u8]) -> bool {
    while let Some(end) = scan::word_end(keys) {
        if end > KEY_MAX_BYTES {
            return true;
        }
        keys = &keys[end + 1..];
    }
    keys.len() > KEY_MAX_BYTES
}

fn store(verb: StoreVerb, line: &[u8]) -> Line<'_> {
    let tokens = Tokens::split(line);
    let (Some(key), Some(flags), Some(exptime), Some(bytes)) =
        (tokens.get(1), tokens.from(2), tokens.from(3), tokens.get(4))
    else {
        return loud(ClientError::BadFormat);
    };
    // Without a length nobody knows where the data ends, so nothing is swallowed and `noreply` is not heeded.
    let Some(value_bytes) = strict_i32(bytes)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|&bytes| bytes <= VALUE_MAX_BYTES)
    else {
        return loud(ClientError::BadFormat);
    };
    let noreply = tokens.noreply();
    let cas = if verb == StoreVerb::Cas {
        tokens.get(5).and_then(strict_u64)
    } else {
        Some(0)
    };
    match (c_flags(flags), c_exptime(exptime), cas) {
        (Some(flags), Some(exptime), Some(cas)) if key.len() <= KEY_MAX_BYTES => {
            Request::Store(Store {
                verb,
                key,
                flags,
                exptime: exptime.into(),
                value_bytes,
                cas,
                noreply,
            })
            .into()
        }
        _ => Line::Invalid {
            error: if noreply {
                None
            } else {
                Some(ClientError::BadFormat)
            },
            skip: u64::from(value_bytes) + 2,
        },
    }
}

fn delete(line: &[u8]) -> Line<'_> {
    let tokens = Tokens::split(line);
    let Some(key) = tokens.get(1) else {
        return loud(ClientError::BadFormat);
    };
    let noreply = tokens.noreply();
    // memcached 1.6.45 stopped counting the words here; the refusal of older versions is kept, because
    // libmemcached's conformance test asks for it and no client sends such a line in earnest.
    let extra = tokens.count() - 2;
    if key.len() > KEY_MAX_BYTES || extra > 1 + usize::from(noreply) {
        return refuse(ClientError::BadFormat, noreply);
    }
    Request::Delete { key, noreply }.into()
}

fn arith(verb: ArithVerb, line: &[u8]) -> Line<'_> {
    let tokens = Tokens::split(line);
    let (Some(key), Some(delta)) = (tokens.get(1), tokens.get(2)) else {
        return loud(ClientError::BadFormat);
    };
    let noreply = tokens.noreply();
    if key.len() > KEY_MAX_BYTES {
        return refuse(ClientError::BadFormat, noreply);
    }
    match strict_u64(delta) {
        Some(delta) => Request::Arith {
            verb,
            key,
            delta,
            noreply,
        }
        .into(),
        None => refuse(ClientError::BadDelta, noreply),
    }
}

fn touch(line: &[u8]) -> Line<'_> {
    let tokens = Tokens::split(line);
    let (Some(key), Some(exptime)) = (tokens.get(1), tokens.get(2)) else {
        return loud(ClientError::BadFormat);
    };
    let noreply = tokens.noreply();
    if key.len() > KEY_MAX_BYTES {
        return refuse(ClientError::BadFormat, noreply);
    }
    match strict_i32(exptime) {
        Some(exptime) => Request::Touch {
            key,
            exptime: exptime.into(),
            noreply,
        }
        .into(),
        None => refuse(ClientError::BadExptime, noreply),
    }
}

fn flush_all<'a>(tokens: &Tokens<'a>, noreply: bool) -> Line<'a> {
    let bare_count = if noreply { 2 } else { 1 };
    if tokens.count() == bare_count {
        return Request::FlushAll {
            exptime: Some(0),
            noreply,
        }
        .into();
    }
    // Where flushing is forbidden, that comes before what is wrong with the exptime.
    let exptime = tokens.get(1).and_then(strict_i32).map(i64::from);
    Request::FlushAll { exptime, noreply }.into()
}

fn flush_prefix<'a>(tokens: &Tokens<'a>, noreply: bool) -> Line<'a> {
    match tokens.get(1) {
        None => loud(ClientError::UnknownCommand),
        Some(prefix) if prefix.len() > KEY_MAX_BYTES => refuse(ClientError::BadFormat, noreply),
        // A last word that is the only one is the prefix.
        Some(prefix) => Request::FlushPrefix {
            prefix,
            noreply: noreply && tokens.count() > 2,
        }
        .into(),
    }
}

fn shutdown<'a>(tokens: &Tokens<'a>, noreply: bool) -> Line<'a> {
    let mode = match (tokens.count(), tokens.get(1)) {
        (1, _) => ShutdownMode::Immediate,
        (2, Some(mode)) if b"graceful".starts_with(mode) => ShutdownMode::Graceful,
        _ => ShutdownMode::Unknown,
    };
    Request::Shutdown { mode, noreply }.into()
}

fn stats(line: &[u8]) -> Line<'_> {
    let tokens = Tokens::split(line);
    let Some(subject) = tokens.get(1) else {
        return Request::Stats(StatsSubject::General).into();
    };
    // The first of these that begins with the word given; the order is memcached's.
    const BY_PREFIX: [&[u8]; 6] = [
        b"reset",
        b"detail",
        b"settings",
        b"cachedump",
        b"conns",
        b"extstore",
    ];
    let subject = BY_PREFIX
        .into_iter()
        .find(|name| name.starts_with(subject))
        .unwrap_or(subject);
    let subject = match subject {
        b"reset" => StatsSubject::Reset,
        b"settings" => StatsSubject::Settings,
        b"conns" => StatsSubject::Conns,
        b"workers" => StatsSubject::Workers,
        b"segments" => StatsSubject::Segments,
        b"ttl" => StatsSubject::Ttl,
        b"latency" => match tokens.get(2) {
            None => StatsSubject::Latency { reset: false },
            Some(b"reset") => StatsSubject::Latency { reset: true },
            Some(_) => StatsSubject::Unknown,
        },
        b"hotkeys" => match tokens.get(2).map(strict_u32) {
            None => StatsSubject::Hotkeys { limit: 0 },
            Some(Some(limit)) => StatsSubject::Hotkeys { limit },
            Some(None) => return loud(ClientError::BadFormat),
        },
        b"extstore" => StatsSubject::Extstore,
        b"items" => StatsSubject::Items,
        b"slabs" => StatsSubject::Slabs,
        b"sizes" => StatsSubject::Sizes,
        b"detail" => match tokens.get(2) {
            Some(word) if b"on".starts_with(word) => StatsSubject::Detail(DetailSwitch::On),
            Some(word) if b"off".starts_with(word) => StatsSubject::Detail(DetailSwitch::Off),
            Some(word) if b"dump".starts_with(word) => StatsSubject::Detail(DetailSwitch::Dump),
            _ => return loud(ClientError::DetailUsage),
        },
        b"cachedump" => {
            let (Some(class_id), Some(limit)) = (tokens.get(2), tokens.get(3)) else {
                return loud(ClientError::CachedumpUsage);
            };
            match (strict_u32(class_id), strict_u32(limit)) {
                (Some(class_id @ 0..64), Some(limit)) => {
                    StatsSubject::Cachedump { class_id, limit }
                }
                (Some(_), Some(_)) => return loud(ClientError::CachedumpClass),
                _ => return loud(ClientError::BadFormat),
            }
        }
        _ => StatsSubject::Unknown,
    };
    Request::Stats(subject).into()
}
