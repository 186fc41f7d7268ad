//! Commands that look after a running server: watching it, listing its items, and orders to parts that memcached has.
//!
//! memcached takes any beginning of most of the words here, and counts words exactly in some places; so does this.
//! An order to a part that only memcached has (slabs, LRU lists, flash) is checked as memcached checks it and is then [`Request::Moot`].

use crate::command::{Line, loud, refuse};
use crate::error::ClientError;
use crate::number::{strict_i32, strict_u32};
use crate::request::{ClockStep, CrawlScope, CrawlerOrder, Request, WatchKinds};
use crate::token::Tokens;

/// memcached's item classes have numbers below this.
const CLASSES_MAX: u32 = 64;

/// Longest pause of the search between two items.
const CRAWLER_SLEEP_MAX_US: u32 = 1_000_000;

/// What hot and warm items together may have of memory, in percent.
const LRU_PCT_MAX: u64 = 80;

/// `watch [kind]...`
pub(crate) fn watch(line: &[u8]) -> Line<'_> {
    let tokens = Tokens::split(line);
    let noreply = tokens.noreply();
    let mut kinds = WatchKinds::NONE;
    for index in 1..tokens.count() {
        let Some(kind) = tokens.get(index).and_then(WatchKinds::named) else {
            return refuse(ClientError::UnknownCommand, noreply);
        };
        kinds = kinds.and(kind);
    }
    if tokens.count() == 1 {
        kinds = WatchKinds::FETCHERS;
    }
    Request::Watch { kinds }.into()
}

/// `lru_crawler` and its orders.
pub(crate) fn lru_crawler<'a>(tokens: &Tokens<'a>, noreply: bool) -> Line<'a> {
    let is = |word: &[u8]| {
        tokens
            .get(1)
            .is_some_and(|beginning| word.starts_with(beginning))
    };
    let number = || tokens.get(2).and_then(strict_u32);
    let order = match tokens.count() {
        2 if is(b"enable") => CrawlerOrder::Enable,
        2 if is(b"disable") => CrawlerOrder::Disable,
        3 if is(b"crawl") => CrawlerOrder::Crawl(scope(tokens.get(2))),
        3 if is(b"metadump") => CrawlerOrder::Metadump(scope(tokens.get(2))),
        3 if is(b"mgdump") => CrawlerOrder::Mgdump(scope(tokens.get(2))),
        3 if is(b"tocrawl") => match number() {
            Some(_) => return Request::Moot { noreply }.into(),
            None => return refuse(ClientError::BadFormat, noreply),
        },
        3 if is(b"sleep") => match number() {
            Some(0..=CRAWLER_SLEEP_MAX_US) => return Request::Moot { noreply }.into(),
            Some(_) => return refuse(ClientError::CrawlerSleep, noreply),
            None => return refuse(ClientError::BadFormat, noreply),
        },
        _ => return refuse(ClientError::UnknownCommand, noreply),
    };
    Request::Crawler { order, noreply }.into()
}

fn scope(word: Option<&[u8]>) -> CrawlScope {
    match word {
        Some(b"all") => CrawlScope::Classes(u64::MAX),
        Some(b"hash") => CrawlScope::Hash,
        Some(list) => {
            let mut classes = 0u64;
            for number in list.split(|&byte| byte == b',').filter(|n| !n.is_empty()) {
                match strict_u32(number) {
                    Some(class @ 1..CLASSES_MAX) => classes |= 1 << class,
                    _ => return CrawlScope::BadClass,
                }
            }
            CrawlScope::Classes(classes)
        }
        None => CrawlScope::BadClass,
    }
}

/// `slabs reassign` and `slabs automove`.
pub(crate) fn slabs<'a>(tokens: &Tokens<'a>, noreply: bool) -> Line<'a> {
    let is = |word: &[u8]| {
        tokens
            .get(1)
            .is_some_and(|beginning| word.starts_with(beginning))
    };
    let number = |index| tokens.get(index).and_then(strict_i32);
    let moot = || Request::Moot { noreply }.into();
    if tokens.count() == 4 && is(b"reassign") {
        let (Some(from), Some(to)) = (number(2), number(3)) else {
            return refuse(ClientError::BadFormat, noreply);
        };
        return Request::SlabsReassign { from, to, noreply }.into();
    }
    if tokens.count() < 3 || !is(b"automove") {
        return refuse(ClientError::UnknownCommand, noreply);
    }
    let what = |word: &[u8]| {
        tokens
            .get(2)
            .is_some_and(|beginning| word.starts_with(beginning))
    };
    if what(b"ratio") || what(b"freeratio") {
        return match tokens.get(3).and_then(real) {
            Some(_) => moot(),
            None => refuse(ClientError::UnknownCommand, noreply),
        };
    }
    if what(b"window") {
        return match tokens.get(3).and_then(strict_u32) {
            Some(3..=1800) => moot(),
            Some(_) => refuse(ClientError::AutomoveWindow, noreply),
            None => refuse(ClientError::BadFormat, noreply),
        };
    }
    match tokens.get(2).and_then(strict_u32) {
        Some(0..=2) => moot(),
        Some(_) => refuse(ClientError::UnknownCommand, noreply),
        None => refuse(ClientError::BadFormat, noreply),
    }
}

/// `lru tune`, `lru mode` and `lru temp_ttl`.
pub(crate) fn lru<'a>(tokens: &Tokens<'a>, noreply: bool) -> Line<'a> {
    let is = |word: &[u8]| {
        tokens
            .get(1)
            .is_some_and(|beginning| word.starts_with(beginning))
    };
    let valid = if tokens.count() >= 6 && is(b"tune") {
        let percent = |index| tokens.get(index).and_then(strict_u32).map(u64::from);
        let factor = |index| tokens.get(index).and_then(real);
        match (percent(2), percent(3), factor(4), factor(5)) {
            (Some(hot), Some(warm), ..) if hot + warm > LRU_PCT_MAX => {
                return refuse(ClientError::LruPercents, noreply);
            }
            (Some(_), Some(_), Some(hot), Some(warm)) if hot > 0.0 && warm > 0.0 => true,
            (Some(_), Some(_), Some(_), Some(_)) => {
                return refuse(ClientError::LruFactors, noreply);
            }
            _ => false,
        }
    } else if tokens.count() >= 3 && is(b"mode") {
        matches!(tokens.get(2), Some(b"flat" | b"segmented"))
    } else {
        tokens.count() >= 3 && is(b"temp_ttl") && tokens.get(2).and_then(strict_i32).is_some()
    };
    match valid {
        true => Request::Moot { noreply }.into(),
        false => refuse(ClientError::UnknownCommand, noreply),
    }
}

/// `extstore` and its settings.
pub(crate) fn extstore<'a>(tokens: &Tokens<'a>, noreply: bool) -> Line<'a> {
    const WHOLE: [&[u8]; 8] = [
        b"item_size",
        b"item_age",
        b"low_ttl",
        b"recache_rate",
        b"compact_under",
        b"drop_under",
        b"max_sleep",
        b"drop_unread",
    ];
    let number = |index| tokens.get(index).and_then(strict_u32);
    let valid = match tokens.get(1) {
        Some(word) if tokens.count() >= 3 => {
            if tokens.count() > 3 && b"free_memchunks".starts_with(word) {
                number(2).is_some_and(|class| class < CLASSES_MAX) && number(3).is_some()
            } else if WHOLE[..7].iter().any(|name| name.starts_with(word)) {
                number(2).is_some()
            } else if b"max_frag".starts_with(word) {
                tokens.get(2).and_then(real).is_some()
            } else {
                WHOLE[7].starts_with(word) && number(2).is_some()
            }
        }
        _ => false,
    };
    match valid {
        true => Request::Moot { noreply }.into(),
        false => refuse(ClientError::UnknownCommand, noreply),
    }
}

/// `debugtime p|r|N`
pub(crate) fn debugtime<'a>(tokens: &Tokens<'a>, noreply: bool) -> Line<'a> {
    let step = match tokens.get(1) {
        Some(b"p") => ClockStep::Pause,
        Some(b"r") => ClockStep::Resume,
        Some(word) => match strict_u32(word) {
            Some(seconds) => ClockStep::Forward(seconds),
            None => return refuse(ClientError::UnknownCommand, noreply),
        },
        None => return loud(ClientError::UnknownCommand),
    };
    Request::DebugTime { step, noreply }.into()
}

fn real(word: &[u8]) -> Option<f64> {
    core::str::from_utf8(word)
        .ok()?
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}
