//! `stats items` and `stats slabs`: one class holds everything, and is there only while it holds
//! something.

use strata_protocol::reply::Sink;

use super::{Snapshot, line};

/// `stats items`: one class holds everything, and is there only while it holds something.
pub(super) fn items(sum: &Snapshot, out: &mut impl Sink) {
    let (items, usage) = (&sum.store, &sum.usage);
    if usage.items == 0 {
        return;
    }
    let counts: [(&str, u64); 28] = [
        ("number", usage.items),
        ("number_hot", 0),
        ("number_warm", 0),
        ("number_cold", usage.items),
        ("age_hot", 0),
        ("age_warm", 0),
        ("age", 0),
        ("mem_requested", usage.bytes),
        ("evicted", items.evictions),
        ("evicted_nonzero", 0),
        ("evicted_time", 0),
        ("outofmemory", sum.counters.store_no_memory),
        ("tailrepairs", 0),
        ("reclaimed", items.expired),
        ("expired_unfetched", items.expired_unfetched),
        ("evicted_unfetched", items.evicted_unfetched),
        ("evicted_active", items.evictions - items.evicted_unfetched),
        ("crawler_reclaimed", 0),
        ("crawler_items_checked", 0),
        ("lrutail_reflocked", 0),
        ("moves_to_cold", 0),
        ("moves_to_warm", 0),
        ("moves_within_lru", 0),
        ("direct_reclaims", 0),
        ("hits_to_hot", 0),
        ("hits_to_warm", 0),
        ("hits_to_cold", sum.counters.get_hits),
        ("hits_to_temp", 0),
    ];
    for (name, count) in counts {
        line(out, &format!("items:1:{name}"), count);
    }
}

/// `stats slabs`: the same one class, whose pages are the segments.
pub(super) fn slabs(sum: &Snapshot, out: &mut impl Sink) {
    let (counters, usage) = (&sum.counters, &sum.usage);
    if let Some(mean_bytes) = usage.bytes.checked_div(usage.items) {
        let chunk_bytes = mean_bytes.max(1);
        let pages = (usage.pages_segment + usage.pages_extension).max(1) as u64;
        let chunks_per_page = usage.page_bytes as u64 / chunk_bytes;
        let chunks = (pages * chunks_per_page).max(usage.items);
        let counts: [(&str, u64); 15] = [
            ("chunk_size", chunk_bytes),
            ("chunks_per_page", chunks_per_page),
            ("total_pages", pages),
            ("total_chunks", chunks),
            ("used_chunks", usage.items),
            ("free_chunks", chunks - usage.items),
            ("free_chunks_end", 0),
            ("get_hits", counters.get_hits),
            ("cmd_set", counters.cmd_set),
            ("delete_hits", counters.delete_hits),
            ("incr_hits", counters.incr_hits),
            ("decr_hits", counters.decr_hits),
            ("cas_hits", counters.cas_hits),
            ("cas_badval", counters.cas_badval),
            ("touch_hits", counters.touch_hits),
        ];
        for (name, count) in counts {
            line(out, &format!("1:{name}"), count);
        }
    }
    line(out, "active_slabs", u64::from(usage.items > 0));
    line(
        out,
        "total_malloced",
        (usage.pages_segment + usage.pages_extension) * usage.page_bytes,
    );
}
