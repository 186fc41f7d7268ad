//! `stats`: memcached 1.6.45's figures in its order, and then Strata's own.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::{Snapshot, VERSION};
use crate::clock::Now;
use crate::shared::Shared;

/// A figure of `stats`: most are counts, a few are words.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// A count.
    Count(u64),
    /// Anything else.
    Text(String),
}

impl Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Figure::Count(count) => count.fmt(f),
            Figure::Text(text) => text.fmt(f),
        }
    }
}

fn cpu_seconds(micros: i64) -> Figure {
    Figure::Text(format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000))
}

/// The figures of `stats`, with memcached 1.6.45's names, in its order, and then Strata's own.
#[must_use]
pub fn general(sum: &Snapshot, shared: &Shared, now: &Now) -> Vec<(&'static str, Figure)> {
    use Figure::{Count, Text};
    let settings = &shared.process.settings;
    let (counters, items, usage) = (&sum.counters, &sum.store, &sum.usage);
    let (user, system) = getrusage(UsageWho::RUSAGE_SELF).map_or((0, 0), |usage| {
        (
            usage.user_time().num_microseconds(),
            usage.system_time().num_microseconds(),
        )
    });
    let zero = Count(0);
    let yes_no = |flag: bool| Count(u64::from(flag));
    let mut figures = vec![
        ("pid", Count(u64::from(std::process::id()))),
        ("uptime", Count(u64::from(now.uptime_s()))),
        ("time", Count(now.unix_s)),
        ("version", Text(VERSION.into())),
        ("libevent", Text("none".into())),
        ("pointer_size", Count(u64::from(usize::BITS))),
        ("rusage_user", cpu_seconds(user)),
        ("rusage_system", cpu_seconds(system)),
        ("max_connections", Count(settings.conns_max as u64)),
        ("curr_connections", Count(sum.sessions)),
        ("total_connections", Count(counters.total_connections)),
        ("rejected_connections", Count(counters.rejected_connections)),
        ("connection_structures", Count(sum.sessions)),
        ("response_obj_oom", zero.clone()),
        ("response_obj_count", zero.clone()),
        ("response_obj_bytes", zero.clone()),
        ("read_buf_count", zero.clone()),
        ("read_buf_bytes", Count(sum.intake_bytes)),
        ("read_buf_bytes_free", zero.clone()),
        ("read_buf_oom", zero.clone()),
        ("reserved_fds", zero.clone()),
        ("cmd_get", Count(counters.cmd_get)),
        ("cmd_set", Count(counters.cmd_set)),
        ("cmd_flush", Count(counters.cmd_flush)),
        ("cmd_touch", Count(counters.cmd_touch)),
        ("cmd_meta", Count(counters.cmd_meta)),
        ("get_hits", Count(counters.get_hits)),
        ("get_misses", Count(counters.get_misses)),
        ("get_expired", Count(items.get_expired)),
        ("get_flushed", Count(items.get_flushed)),
        ("delete_misses", Count(counters.delete_misses)),
        ("delete_hits", Count(counters.delete_hits)),
        ("incr_misses", Count(counters.incr_misses)),
        ("incr_hits", Count(counters.incr_hits)),
        ("decr_misses", Count(counters.decr_misses)),
        ("decr_hits", Count(counters.decr_hits)),
        ("cas_misses", Count(counters.cas_misses)),
        ("cas_hits", Count(counters.cas_hits)),
        ("cas_badval", Count(counters.cas_badval)),
        ("touch_hits", Count(counters.touch_hits)),
        ("touch_misses", Count(counters.touch_misses)),
        ("store_too_large", Count(counters.store_too_large)),
        ("store_no_memory", Count(counters.store_no_memory)),
        ("auth_cmds", Count(counters.auth_cmds)),
        ("auth_errors", Count(counters.auth_errors)),
        ("bytes_read", Count(counters.bytes_read)),
        ("bytes_written", Count(counters.bytes_written)),
        ("limit_maxbytes", Count(shared.memory_limit() as u64)),
        ("accepting_conns", yes_no(true)),
        ("listen_disabled_num", zero.clone()),
        ("time_in_listen_disabled_us", zero.clone()),
        ("threads", Count(settings.workers as u64)),
        ("conn_yields", Count(counters.conn_yields)),
        (
            "hash_power_level",
            Count(u64::from((usage.hash_buckets.max(1) as u64).ilog2())),
        ),
        (
            "hash_bytes",
            Count((usage.pages_table * usage.page_bytes) as u64),
        ),
        ("hash_is_expanding", zero.clone()),
        ("slab_reassign_rescues", zero.clone()),
        ("slab_reassign_chunk_rescues", zero.clone()),
        ("slab_reassign_inline_reclaim", zero.clone()),
        ("slab_reassign_busy_items", zero.clone()),
        ("slab_reassign_busy_deletes", zero.clone()),
        ("slab_reassign_busy_nomem", zero.clone()),
        ("slab_reassign_last_busy_status", Text("none".into())),
        ("slab_reassign_running", zero.clone()),
        ("slabs_moved", zero.clone()),
        ("lru_crawler_running", zero.clone()),
        ("lru_crawler_starts", zero.clone()),
        ("lru_maintainer_juggles", zero.clone()),
        ("malloc_fails", zero.clone()),
        ("log_worker_dropped", Count(counters.log_worker_dropped)),
        ("log_worker_written", Count(counters.log_worker_written)),
        ("log_watcher_skipped", Count(counters.log_watcher_skipped)),
        ("log_watcher_sent", Count(counters.log_watcher_sent)),
        ("log_watchers", Count(shared.watch.count() as u64)),
        ("unexpected_napi_ids", zero.clone()),
        ("round_robin_fallback", zero.clone()),
        ("bytes", Count(usage.bytes)),
        ("curr_items", Count(usage.items)),
        ("total_items", Count(items.total_items)),
        ("slab_global_page_pool", Count(usage.pages_free as u64)),
        ("expired_unfetched", Count(items.expired_unfetched)),
        ("evicted_unfetched", Count(items.evicted_unfetched)),
        (
            "evicted_active",
            Count(items.evictions - items.evicted_unfetched),
        ),
        ("evictions", Count(items.evictions)),
        ("reclaimed", Count(items.expired)),
        ("crawler_reclaimed", zero.clone()),
        ("crawler_items_checked", zero.clone()),
        ("lrutail_reflocked", zero.clone()),
        ("moves_to_cold", zero.clone()),
        ("moves_to_warm", zero.clone()),
        ("moves_within_lru", zero.clone()),
        ("direct_reclaims", zero.clone()),
        ("lru_bumps_dropped", zero),
        // Not memcached's.
        ("ghost_hits", Count(items.ghost_hits)),
        ("promotions", Count(items.promotions)),
        ("reinsertions", Count(items.reinsertions)),
        ("cmd_flush_prefix", Count(counters.cmd_flush_prefix)),
        ("flushed_prefixes", Count(usage.prefixes_flushed as u64)),
    ];
    if let Some(longest_us) = sum.longest_tick_us() {
        figures.push(("longest_tick_us", Count(longest_us)));
    }
    if let Some(tls) = &shared.tls {
        let after = figures.iter().position(|(name, _)| *name == "log_watchers");
        let at = after.map_or(figures.len(), |at| at + 1);
        let tls_figures = tls.figures(now.seconds.0);
        let mut lines = vec![
            ("ssl_handshake_errors", Count(tls_figures.handshake_errors)),
            ("ssl_proto_errors", Count(tls_figures.proto_errors)),
            ("ssl_handshakes_waiting", Count(tls_figures.waiting)),
            ("ssl_handshake_wait_max_us", Count(tls_figures.wait_max_us)),
            ("ssl_handshakes_overdue", Count(tls_figures.overdue)),
            (
                "time_since_server_cert_refresh",
                Count(u64::from(tls_figures.since_refresh_s)),
            ),
        ];
        if tls.settings().session_cache {
            lines.insert(0, ("ssl_new_sessions", Count(tls_figures.new_sessions)));
        }
        figures.splice(at..at, lines);
    }
    if settings.has_accounts() {
        let after = figures.iter().position(|(name, _)| *name == "auth_errors");
        let at = after.map_or(figures.len(), |at| at + 1);
        let lines = [
            ("auth_busy", Count(counters.auth_busy)),
            ("access_denied", Count(counters.access_denied)),
        ];
        figures.splice(at..at, lines);
    }
    if settings.admin.is_some() {
        let count = |of: &AtomicU64| Count(of.load(Ordering::Relaxed));
        figures.push(("admin_refused", count(&shared.operators.refused)));
        figures.push(("admin_cut", count(&shared.operators.cut)));
    }
    if settings.idle_timeout_s > 0 {
        let after = figures.iter().position(|(name, _)| *name == "auth_errors");
        let at = after.map_or(figures.len(), |at| at + 1);
        figures.insert(at, ("idle_kicks", Count(counters.idle_kicks)));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::stats::Process;
    use std::time::Duration;

    #[test]
    fn stats_has_memcacheds_93_figures_and_then_ours() {
        let process = Process {
            settings: Settings::for_tests(1),
            bound: Vec::new(),
            shards_bound: Vec::new(),
        };
        let now = Now::after(1_700_000_000, Duration::from_secs(5));
        let shared = Shared::new(process, crossbeam_channel::bounded(1).0);
        let figures = general(&Snapshot::default(), &shared, &now);
        assert_eq!(figures[92].0, "lru_bumps_dropped");
        let own: Vec<&str> = figures[93..].iter().map(|(name, _)| *name).collect();
        assert_eq!(
            own,
            [
                "ghost_hits",
                "promotions",
                "reinsertions",
                "cmd_flush_prefix",
                "flushed_prefixes"
            ]
        );
    }
}
