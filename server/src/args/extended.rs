//! memcached's extended options, `-o name[=value],...`.
//!
//! Always true: a name or value that memcached refuses is refused, so that a command line is right
//! on both or on neither; the proxy, which a memcached may be built with, is refused too.

use crate::config::{WATCHER_LOG_BYTES_DEFAULT, WORKER_LOG_BYTES_DEFAULT};
use crate::tls::{KeyFormat, TLS_12, TLS_13, TlsSettings};

/// What the extended options ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extended {
    pub idle_timeout_s: u32,
    pub watcher_log_bytes: usize,
    pub worker_log_bytes: usize,
    /// What `ssl_` options say, whether or not TLS is asked for.
    pub tls: TlsSettings,
    pub track_sizes: bool,
    /// Names of valid options that have no effect here.
    pub unheeded: Vec<String>,
}

/// What may stand behind a name.
#[derive(Clone, Copy)]
enum Value {
    /// Anything, and nobody looks at it.
    Unread,
    /// Something.
    Some,
    /// A whole number between these two.
    Whole(i64, i64),
    /// As before, or nothing.
    WholeOrNothing(i64, i64),
    /// A number above the first and up to the second.
    Real(f64, f64),
    /// One of these words.
    Word(&'static [&'static str]),
}

use Value::{Real, Some as Something, Unread, Whole, WholeOrNothing, Word};

const U32: Value = Whole(0, u32::MAX as i64);

/// Options that mean something here, and what memcached takes behind them.
const HEEDED: &[(&str, Value)] = &[
    ("idle_timeout", Whole(0, i32::MAX as i64)),
    ("watcher_logbuf_size", Whole(1, 1 << 20)),
    ("worker_logbuf_size", Whole(1, 1 << 20)),
    ("track_sizes", Unread),
    ("ssl_chain_cert", Something),
    ("ssl_key", Something),
    ("ssl_keyformat", Whole(1, 2)),
    ("ssl_verify_mode", Whole(0, 3)),
    ("ssl_ciphers", Something),
    ("ssl_ca_cert", Something),
    ("ssl_session_cache", Unread),
    ("ssl_min_version", Whole(0, TLS_13 as i64)),
    ("ssl_wbuf_size", U32),
    ("ssl_kernel_tls", Unread),
];

/// What holds of those that have a number anyway.
pub(super) const DEFAULTS: [(&str, usize); 3] = [
    ("idle_timeout", 0),
    ("watcher_logbuf_size", WATCHER_LOG_BYTES_DEFAULT >> 10),
    ("worker_logbuf_size", WORKER_LOG_BYTES_DEFAULT >> 10),
];

/// Options about parts that Strata does not have, as memcached checks them.
const UNHEEDED: &[(&str, Value)] = &[
    ("maxconns_fast", Unread),
    ("no_maxconns_fast", Unread),
    ("hashpower", Whole(12, 32)),
    ("no_hashexpand", Unread),
    ("slab_reassign", Unread),
    ("no_slab_reassign", Unread),
    ("slab_automove", WholeOrNothing(0, 2)),
    ("no_slab_automove", Unread),
    ("slab_automove_ratio", Real(0.0, 1.0)),
    ("slab_automove_freeratio", Real(0.0, f64::MAX)),
    ("slab_automove_window", Whole(3, 1800)),
    ("slab_sizes", Something),
    ("slab_chunk_max", Whole(1, 1024)),
    ("no_chunked_items", Unread),
    ("tail_repair_time", Whole(10, i32::MAX as i64)),
    ("hash_algorithm", Word(&["jenkins", "murmur3", "xxh3"])),
    ("lru_crawler", Unread),
    ("no_lru_crawler", Unread),
    ("lru_crawler_sleep", Whole(0, 1_000_000)),
    ("lru_crawler_tocrawl", U32),
    ("lru_maintainer", Unread),
    ("no_lru_maintainer", Unread),
    ("hot_lru_pct", Whole(1, 79)),
    ("warm_lru_pct", Whole(1, 79)),
    ("hot_max_factor", Real(0.0, f64::MAX)),
    ("warm_max_factor", Real(0.0, f64::MAX)),
    ("temporary_ttl", Whole(i32::MIN as i64, i32::MAX as i64)),
    ("inline_ascii_resp", Unread),
    ("no_inline_ascii_resp", Unread),
    ("modern", Unread),
    ("no_modern", Unread),
    ("drop_privileges", Unread),
    ("no_drop_privileges", Unread),
    ("resp_obj_mem_limit", Unread),
    ("read_buf_mem_limit", U32),
    ("sock_cookie_id", Something),
    ("ext_path", Something),
    ("ext_page_size", U32),
    ("ext_wbuf_size", U32),
    ("ext_threads", U32),
    ("ext_io_depth", U32),
    ("ext_item_size", U32),
    ("ext_item_age", U32),
    ("ext_low_ttl", U32),
    ("ext_recache_rate", U32),
    ("ext_compact_under", U32),
    ("ext_drop_under", U32),
    ("ext_max_sleep", U32),
    ("ext_max_frag", Real(0.0, f64::MAX)),
    ("ext_drop_unread", Unread),
];

/// memcached's buffer for what it encrypts, in kilobytes.
const WBUF_KIB_DEFAULT: u32 = 16;

/// What hot and warm items together may have of memory, in percent.
const LRU_PCT_MAX: i64 = 80;

impl Extended {
    /// Reads the options in order; of one given twice the last counts.
    pub fn read(options: &[String]) -> Result<Self, String> {
        let mut extended = Self {
            idle_timeout_s: 0,
            watcher_log_bytes: WATCHER_LOG_BYTES_DEFAULT,
            worker_log_bytes: WORKER_LOG_BYTES_DEFAULT,
            tls: TlsSettings {
                min_version: TLS_12,
                wbuf_kib: WBUF_KIB_DEFAULT,
                ..TlsSettings::default()
            },
            track_sizes: false,
            unheeded: Vec::new(),
        };
        let (mut hot_pct, mut warm_pct) = (20, 40);
        for option in options.iter().filter(|option| !option.is_empty()) {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option.as_str(), None),
            };
            if name.starts_with("proxy_") {
                return Err(format!("-o {option}: there is no proxy in this server"));
            }
            let wanted =
                wanted(name).ok_or_else(|| format!("-o: Illegal suboption \"{option}\""))?;
            let number = check(wanted, value).map_err(|reason| format!("-o {option}: {reason}"))?;
            match name {
                "idle_timeout" => extended.idle_timeout_s = number as u32,
                "watcher_logbuf_size" => extended.watcher_log_bytes = (number as usize) << 10,
                "worker_logbuf_size" => extended.worker_log_bytes = (number as usize) << 10,
                "track_sizes" => extended.track_sizes = true,
                _ if name.starts_with("ssl_") => {
                    extended.read_tls(name, value.unwrap_or_default(), number);
                }
                _ => {
                    match name {
                        "hot_lru_pct" => hot_pct = number,
                        "warm_lru_pct" => warm_pct = number,
                        _ => {}
                    }
                    extended.unheeded.push(name.to_owned());
                }
            }
        }
        if hot_pct + warm_pct > LRU_PCT_MAX {
            return Err(format!(
                "-o: hot_lru_pct and warm_lru_pct cannot be more than {LRU_PCT_MAX} together"
            ));
        }
        Ok(extended)
    }

    /// Takes over an option about TLS, which has been checked.
    fn read_tls(&mut self, name: &str, text: &str, number: i64) {
        let tls = &mut self.tls;
        match name {
            "ssl_chain_cert" => tls.chain_cert = text.into(),
            "ssl_key" => tls.key = Some(text.into()),
            "ssl_keyformat" => {
                tls.key_format = match number {
                    1 => KeyFormat::Pem,
                    _ => KeyFormat::Der,
                }
            }
            "ssl_verify_mode" => tls.verify_mode = number as u8,
            "ssl_ciphers" => tls.ciphers = Some(text.to_owned()),
            "ssl_ca_cert" => tls.ca_cert = Some(text.into()),
            "ssl_session_cache" => tls.session_cache = true,
            "ssl_min_version" => {
                tls.min_version = number as u8;
                if tls.min_version < TLS_12 {
                    self.unheeded.push("ssl_min_version below TLS 1.2".into());
                }
            }
            "ssl_wbuf_size" => {
                tls.wbuf_kib = number as u32;
                self.unheeded.push(name.to_owned());
            }
            "ssl_kernel_tls" => {
                tls.kernel_tls = true;
                self.unheeded.push(name.to_owned());
            }
            _ => panic!("{name} is among the options that mean something, and nothing is done"),
        }
    }
}

/// Every option there is, and whether it is a mere switch.
pub(super) fn names() -> impl Iterator<Item = (&'static str, bool)> {
    let all = HEEDED.iter().chain(UNHEEDED);
    all.map(|(name, wanted)| (*name, matches!(wanted, Unread)))
}

fn wanted(name: &str) -> Option<Value> {
    let mut all = HEEDED.iter().chain(UNHEEDED);
    all.find(|(known, _)| *known == name)
        .map(|(_, wanted)| *wanted)
}

/// Checks the value of one option by itself.
pub(super) fn check_one(name: &str, value: Option<&str>) -> Result<(), String> {
    let wanted = wanted(name).ok_or("there is no such option")?;
    check(wanted, value).map(|_| ())
}

/// Checks a value; the number it is, or 0 where it is none.
fn check(wanted: Value, value: Option<&str>) -> Result<i64, String> {
    match (wanted, value) {
        (Unread, _) | (WholeOrNothing(..), None) | (Something, Some(_)) => Ok(0),
        (_, None) => Err("a value is missing".into()),
        (Whole(least, most) | WholeOrNothing(least, most), Some(text)) => {
            let number = text.parse().ok();
            number
                .filter(|number| (least..=most).contains(number))
                .ok_or_else(|| format!("{text} is no number from {least} to {most}"))
        }
        (Real(above, most), Some(text)) => match text.parse::<f64>() {
            Ok(number) if number > above && number <= most => Ok(0),
            _ => Err(format!("{text} is no number above {above}")),
        },
        (Word(words), Some(text)) => match words.contains(&text) {
            true => Ok(0),
            false => Err(format!("{text} is none of {}", words.join(", "))),
        },
    }
}
