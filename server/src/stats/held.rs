//! `stats segments` and `stats ttl`: what the store is made of, how long its items have to live, and
//! how old its segments are.
//! Strata's own.

use std::io::Write;

use strata_protocol::reply::Sink;
use strata_store::{Seconds, SegmentSight, TtlClass};

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

/// The youngest age of each class of segments, in seconds.
pub const AGES_S: [u32; 9] = [0, 15, 60, 300, 900, 3600, 21_600, 86_400, 604_800];

/// Segments, items and bytes by the age of the segments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ages([[u64; 3]; AGES_S.len()]);

impl Ages {
    /// Adds a segment.
    pub fn add(&mut self, segment: &SegmentSight, now: Seconds) {
        let age_s = now.0.saturating_sub(segment.opened_at.0);
        // The first class begins at 0.
        let class = AGES_S.partition_point(|least_s| *least_s <= age_s) - 1;
        let [segments, items, bytes] = &mut self.0[class];
        *segments += 1;
        *items += segment.items;
        *bytes += segment.bytes;
    }

    /// One worker's part, to be added up.
    pub fn part(&self, text: &mut Vec<u8>) {
        for (least_s, [segments, items, bytes]) in AGES_S.iter().zip(self.0) {
            if segments > 0 {
                let _ = writeln!(text, "{least_s:010} {segments} {items} {bytes} 0");
            }
        }
    }
}

/// The sums of parts of `stats ttl`, or of ages: seconds, segments, items, bytes. Of what never
/// expires the seconds are missing.
pub fn by_seconds(text: &[u8]) -> Vec<(Option<u32>, [u64; 3])> {
    let sums = lines::sum(text).into_iter();
    let sums = sums.map(|(name, [segments, items, bytes, _])| {
        let seconds = std::str::from_utf8(&name).unwrap_or_default().parse().ok();
        let seconds = seconds.filter(|seconds| *seconds != u32::MAX);
        (seconds, [segments, items, bytes])
    });
    sums.collect()
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
    for (ttl, [segments, items, bytes]) in by_seconds(text) {
        let ttl = ttl.map_or("never".to_owned(), |seconds| seconds.to_string());
        line(out, &format!("ttl:{ttl}:segments"), segments);
        line(out, &format!("ttl:{ttl}:items"), items);
        line(out, &format!("ttl:{ttl}:bytes"), bytes);
    }
}
