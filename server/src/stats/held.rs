//! `stats segments` and `stats ttl`: what the store is made of, and how long its items have to live.
//! Strata's own.

use std::io::Write;

use strata_protocol::reply::Sink;
use strata_store::TtlClass;

use super::{Snapshot, line, lines};

/// The pages of all shards, and what moved between them.
pub(super) fn segments(sum: &Snapshot, out: &mut impl Sink) {
    let (usage, counters) = (&sum.usage, &sum.store);
    let counts: [(&str, u64); 18] = [
        ("page_bytes", usage.page_bytes as u64),
        ("pages_total", usage.pages_total as u64),
        ("pages_absent", usage.pages_absent as u64),
        ("pages_free", usage.pages_free as u64),
        ("pages_segment", usage.pages_segment as u64),
        ("pages_small_queue", usage.pages_small as u64),
        ("pages_extension", usage.pages_extension as u64),
        ("pages_table", usage.pages_table as u64),
        ("pages_zombie", usage.pages_zombie as u64),
        ("pages_lent", usage.pages_lent as u64),
        ("hash_buckets", usage.hash_buckets as u64),
        ("hash_entries", usage.hash_entries as u64),
        ("ghosts", usage.ghosts as u64),
        ("side_bytes", usage.side_bytes as u64),
        ("items_moved", counters.moved),
        ("segments_reclaimed", counters.segments_reclaimed),
        ("table_evictions", counters.table_evictions),
        ("forced_reclaims", counters.forced_reclaims),
    ];
    for (name, count) in counts {
        line(out, name, count);
    }
}

/// One worker's part of `stats ttl`, to be added up.
pub fn ttl_part(class: &TtlClass, text: &mut Vec<u8>) {
    // The order of numbers is the order of the lines; those that never expire come last.
    let ttl = class.ttl_min.unwrap_or(u32::MAX);
    let _ = writeln!(
        text,
        "{ttl:010} {} {} {} 0",
        class.segments, class.items, class.bytes
    );
}

/// Segments, items and bytes by the shortest ttl of each TTL bucket, in seconds.
pub(super) fn ttls(text: &[u8], out: &mut impl Sink) {
    for (ttl, [segments, items, bytes, _]) in lines::sum(text) {
        let ttl = std::str::from_utf8(&ttl).unwrap_or_default();
        let ttl = match ttl.trim_start_matches('0') {
            "4294967295" => "never",
            "" => "0",
            seconds => seconds,
        };
        line(out, &format!("ttl:{ttl}:segments"), segments);
        line(out, &format!("ttl:{ttl}:items"), items);
        line(out, &format!("ttl:{ttl}:bytes"), bytes);
    }
}
