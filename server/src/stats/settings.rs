//! `stats settings`: memcached's keys in its order, without those of storage it does not have.

use std::path::PathBuf;

use strata_protocol::reply::{self, Sink};
use strata_store::Eviction;

use super::line;
use crate::shared::Shared;
use crate::tls::{KeyFormat, TlsSettings};

/// `stats settings`: memcached's keys in its order, without those of storage it does not have.
pub fn settings(shared: &Shared, out: &mut impl Sink) {
    let process = &shared.process;
    let settings = &process.settings;
    let yes_no = |flag: bool| if flag { "yes" } else { "no" };
    let port = process.bound.first().map_or(0, |address| address.port());
    let inter = if settings.listen_texts.is_empty() {
        "NULL".to_owned()
    } else {
        settings.listen_texts.join(",")
    };
    let unix = settings
        .unix_path
        .as_ref()
        .map_or("NULL".to_owned(), |path| path.display().to_string());
    line(out, "maxbytes", shared.memory_limit());
    line(out, "maxconns", settings.conns_max);
    line(out, "tcpport", port);
    line(out, "udpport", 0);
    line(out, "inter", inter);
    line(out, "verbosity", shared.watch.verbosity());
    line(out, "oldest", 0);
    let evicts = settings.eviction != Eviction::None;
    line(out, "evictions", if evicts { "on" } else { "off" });
    line(out, "domain_socket", unix);
    line(out, "umask", format_args!("{:o}", settings.unix_mask));
    line(out, "shutdown_command", yes_no(settings.shutdown));
    line(out, "growth_factor", "1.25");
    line(out, "chunk_size", 48);
    line(out, "num_threads", settings.workers);
    line(out, "num_threads_per_udp", 0);
    let delimiter = char::from(settings.prefix_delimiter);
    line(out, "stat_key_prefix", delimiter);
    line(out, "detail_enabled", yes_no(shared.watch.prefixes()));
    line(out, "reqs_per_event", settings.requests_per_tick);
    line(out, "cas_enabled", yes_no(settings.cas));
    line(out, "tcp_backlog", settings.backlog);
    line(out, "binding_protocol", settings.protocol.name());
    line(out, "auth_enabled_sasl", "no");
    let users = settings.auth_file.as_ref();
    let users = users.map_or("no".to_owned(), |path| path.display().to_string());
    line(out, "auth_enabled_ascii", users);
    line(out, "item_size_max", settings.item_max_bytes);
    line(out, "maxconns_fast", "yes");
    line(out, "hashpower_init", 0);
    line(out, "slab_reassign", "no");
    line(out, "slab_automove", 0);
    line(out, "slab_automove_ratio", "0.80");
    line(out, "slab_automove_window", 10);
    line(out, "slab_chunk_max", 524_288);
    line(out, "lru_crawler", yes_no(shared.crawler()));
    line(out, "lru_crawler_sleep", 100);
    line(out, "lru_crawler_tocrawl", 0);
    line(out, "tail_repair_time", 0);
    line(out, "flush_enabled", yes_no(settings.flush));
    line(out, "dump_enabled", yes_no(settings.dump));
    line(out, "hash_algorithm", "rapidhash");
    line(out, "lru_maintainer_thread", "no");
    line(out, "lru_segmented", "no");
    line(out, "hot_lru_pct", 20);
    line(out, "warm_lru_pct", 40);
    line(out, "hot_max_factor", "0.20");
    line(out, "warm_max_factor", "2.00");
    line(out, "temp_lru", "no");
    line(out, "temporary_ttl", 61);
    line(out, "idle_timeout", settings.idle_timeout_s);
    line(out, "watcher_logbuf_size", settings.watcher_log_bytes);
    line(out, "worker_logbuf_size", settings.worker_log_bytes);
    line(out, "read_buf_mem_limit", 0);
    line(out, "track_sizes", yes_no(settings.track_sizes));
    line(out, "inline_ascii_response", "no");
    if let Some(tls) = &settings.tls {
        tls_settings(tls, out);
    }
    line(out, "num_napi_ids", 0);
    line(out, "memory_file", "(null)");
    line(out, "client_flags_size", 4);
    if settings.shard_ports {
        let ports = process.shards_bound.iter();
        let ports: Vec<String> = ports.map(|address| address.port().to_string()).collect();
        line(out, "shard_ports", ports.join(","));
        line(out, "shard_of_key", "((crc32(key)>>16)&0x7fff)%shards");
    }
    // Not memcached's.
    line(out, "eviction_policy", settings.eviction_name());
    line(out, "latency_enabled", yes_no(settings.latency));
    line(out, "hotkeys_enabled", yes_no(settings.hot_keys));
    out.put(reply::END);
}

/// What the operator asked for of TLS; memcached writes OpenSSL's numbers.
fn tls_settings(tls: &TlsSettings, out: &mut impl Sink) {
    let yes_no = |flag: bool| if flag { "yes" } else { "no" };
    let path = |path: &Option<PathBuf>, none: &str| match path {
        Some(path) => path.display().to_string(),
        None => none.to_owned(),
    };
    line(out, "ssl_enabled", "yes");
    line(out, "ssl_chain_cert", tls.chain_cert.display());
    line(out, "ssl_key", path(&tls.key, "(null)"));
    line(
        out,
        "ssl_verify_mode",
        [0, 1, 3, 7][usize::from(tls.verify_mode)],
    );
    let format = match tls.key_format {
        KeyFormat::Pem => 1,
        KeyFormat::Der => 2,
    };
    line(out, "ssl_keyformat", format);
    line(out, "ssl_ciphers", tls.ciphers.as_deref().unwrap_or("NULL"));
    line(out, "ssl_ca_cert", path(&tls.ca_cert, "NULL"));
    line(out, "ssl_wbuf_size", u64::from(tls.wbuf_kib) << 10);
    line(out, "ssl_session_cache", yes_no(tls.session_cache));
    line(out, "ssl_kernel_tls", yes_no(tls.kernel_tls));
    let version = ["tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3"][usize::from(tls.min_version)];
    line(out, "ssl_min_version", version);
}
