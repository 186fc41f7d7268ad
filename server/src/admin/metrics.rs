//! The figures of `stats` in Prometheus' text form.
//!
//! A figure that only grows is a counter and ends in `_total`; the others are gauges. The zeros
//! that `stats` shows for memcached's slab and LRU machinery are left out: there is nothing here
//! that they could ever count.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::boot::Control;
use crate::latency::Class;
use crate::stats::{self, Figure, Snapshot, WorkerFigures};

/// Edges of the histograms: from a microsecond to eight seconds.
const EDGES_LOG2_NS: std::ops::RangeInclusive<u32> = 10..=33;

/// Name in `stats`, name as a metric, what it says.
const COUNTERS: &[(&str, &str, &str)] = &[
    (
        "total_connections",
        "connections_total",
        "Connections accepted.",
    ),
    (
        "rejected_connections",
        "rejected_connections_total",
        "Connections refused at the limit.",
    ),
    (
        "cmd_get",
        "get_keys_total",
        "Keys asked for by get and gets.",
    ),
    ("cmd_set", "set_commands_total", "Storage commands."),
    ("cmd_flush", "flush_commands_total", "flush_all commands."),
    (
        "cmd_flush_prefix",
        "flush_prefix_commands_total",
        "flush_prefix commands.",
    ),
    (
        "cmd_touch",
        "touch_keys_total",
        "touch commands, and keys asked for by gat and gats.",
    ),
    ("get_hits", "get_hits_total", "Keys of get found."),
    ("get_misses", "get_misses_total", "Keys of get not found."),
    (
        "get_expired",
        "get_expired_total",
        "Keys of get found expired.",
    ),
    (
        "get_flushed",
        "get_flushed_total",
        "Keys of get found flushed.",
    ),
    ("delete_hits", "delete_hits_total", "Items deleted."),
    ("delete_misses", "delete_misses_total", "delete of nothing."),
    ("incr_hits", "incr_hits_total", "incr done."),
    ("incr_misses", "incr_misses_total", "incr of nothing."),
    ("decr_hits", "decr_hits_total", "decr done."),
    ("decr_misses", "decr_misses_total", "decr of nothing."),
    ("cas_hits", "cas_hits_total", "cas that stored."),
    ("cas_misses", "cas_misses_total", "cas of nothing."),
    (
        "cas_badval",
        "cas_badval_total",
        "cas of an item that had changed.",
    ),
    (
        "touch_hits",
        "touch_hits_total",
        "Items given a new deadline.",
    ),
    ("touch_misses", "touch_misses_total", "touch of nothing."),
    (
        "store_too_large",
        "store_too_large_total",
        "Values refused for their size.",
    ),
    (
        "store_no_memory",
        "store_no_memory_total",
        "Values refused for want of memory.",
    ),
    (
        "auth_cmds",
        "auth_attempts_total",
        "Clients that said who they are.",
    ),
    (
        "auth_errors",
        "auth_failures_total",
        "Of those, clients that were not let in.",
    ),
    (
        "bytes_read",
        "read_bytes_total",
        "Bytes received from clients.",
    ),
    (
        "bytes_written",
        "written_bytes_total",
        "Bytes sent to clients.",
    ),
    (
        "conn_yields",
        "connection_yields_total",
        "Times a connection had to let others go first.",
    ),
    ("total_items", "items_stored_total", "Items ever stored."),
    (
        "evictions",
        "evictions_total",
        "Items dropped to make room.",
    ),
    (
        "evicted_unfetched",
        "evicted_unfetched_total",
        "Items dropped to make room that nobody had fetched.",
    ),
    (
        "ghost_hits",
        "ghost_hits_total",
        "Items stored whose key was dropped not long ago.",
    ),
    (
        "promotions",
        "promotions_total",
        "Items moved from the small queue to the main one because they were fetched, or are very small.",
    ),
    (
        "reinsertions",
        "reinsertions_total",
        "Items kept in the main queue because they were fetched.",
    ),
    (
        "expired_unfetched",
        "expired_unfetched_total",
        "Items expired that nobody had fetched.",
    ),
    (
        "reclaimed",
        "expired_total",
        "Items removed after their deadline.",
    ),
];

/// As `COUNTERS`.
const GAUGES: &[(&str, &str, &str)] = &[
    ("uptime", "uptime_seconds", "Seconds since the start."),
    (
        "max_connections",
        "connections_max",
        "Connections allowed at once.",
    ),
    ("curr_connections", "connections", "Connections open."),
    (
        "limit_maxbytes",
        "memory_limit_bytes",
        "Memory for items and table.",
    ),
    ("threads", "workers", "Workers."),
    ("hash_bytes", "table_bytes", "Memory the table uses."),
    ("bytes", "item_bytes", "Memory the items use."),
    (
        "curr_items",
        "items",
        "Items held, expired ones not yet removed included.",
    ),
    ("slab_global_page_pool", "pages_free", "Pages nobody uses."),
    (
        "read_buf_bytes",
        "intake_bytes",
        "Bytes of large values that are still arriving.",
    ),
];

/// The whole page.
pub fn render(sum: &Snapshot, control: &Control) -> String {
    let now = control.clock.now();
    let figures = stats::general(sum, &control.shared, &now);
    let value_of = |name: &str| {
        figures
            .iter()
            .find(|(figure, _)| *figure == name)
            .map(|(_, value)| value)
    };
    let mut page = String::new();
    for (kind, table) in [("counter", COUNTERS), ("gauge", GAUGES)] {
        for (figure, name, help) in table {
            let Some(Figure::Count(value)) = value_of(figure) else {
                panic!("stats has no count {figure}");
            };
            metric(&mut page, kind, name, help, value);
        }
    }
    let counters = &sum.counters;
    let operators = &control.shared.operators;
    let own: [(&str, &str, u64); 9] = [
        (
            "admin_refused_total",
            "Connections to this endpoint refused because there were too many.",
            operators.refused.load(Ordering::Relaxed),
        ),
        (
            "admin_cut_total",
            "Connections to this endpoint cut off because they took too long.",
            operators.cut.load(Ordering::Relaxed),
        ),
        (
            "auth_busy_total",
            "Passwords nobody looked at because too many others waited.",
            counters.auth_busy,
        ),
        (
            "access_denied_total",
            "Requests refused because their user has no right to them.",
            counters.access_denied,
        ),
        (
            "visits_total",
            "Requests sent from one worker to another.",
            counters.visits_sent,
        ),
        (
            "late_replies_total",
            "Replies for connections that were gone.",
            counters.late_replies,
        ),
        (
            "parked_total",
            "Times a connection waited for room at another worker.",
            counters.parked,
        ),
        ("ticks_total", "Ticks of all workers.", counters.ticks),
        ("wakes_total", "Sleeping workers woken.", counters.wakes),
    ];
    for (name, help, value) in own {
        metric(&mut page, "counter", name, help, &value);
    }
    workers(&mut page, sum);
    latency(&mut page, control);
    page
}

/// How long requests took inside the server, by class: histograms whose edges are powers of two of
/// nanoseconds, because those divide the counts exactly.
fn latency(page: &mut String, control: &Control) {
    const NAME: &str = "strata_request_duration_seconds";
    if !control.shared.process.settings.latency {
        let _ = writeln!(page, "# {NAME} is left out because of --no-latency.");
        return;
    }
    let _ = writeln!(page, "# HELP {NAME} Time of a request inside the server.");
    let _ = writeln!(page, "# TYPE {NAME} histogram");
    for class in Class::ALL {
        let durations = control.shared.durations(class, None);
        let name = class.name();
        for log2_ns in EDGES_LOG2_NS {
            let edge_s = (1_u64 << log2_ns) as f64 / 1e9;
            let count = durations.up_to(log2_ns);
            let _ = writeln!(
                page,
                "{NAME}_bucket{{command=\"{name}\",le=\"{edge_s}\"}} {count}"
            );
        }
        let (count, sum_s) = (durations.count, durations.sum_ns as f64 / 1e9);
        let _ = writeln!(
            page,
            "{NAME}_bucket{{command=\"{name}\",le=\"+Inf\"}} {count}"
        );
        let _ = writeln!(page, "{NAME}_sum{{command=\"{name}\"}} {sum_s}");
        let _ = writeln!(page, "{NAME}_count{{command=\"{name}\"}} {count}");
    }
}

/// What `stats workers` tells, with the worker as a label.
fn workers(page: &mut String, sum: &Snapshot) {
    let heads = sum.workers.first().map(WorkerFigures::numbers);
    let heads = heads.unwrap_or_default();
    for (at, (name, help, grows, _)) in heads.into_iter().enumerate() {
        let (kind, end) = if grows {
            ("counter", "_total")
        } else {
            ("gauge", "")
        };
        // Prometheus wants base units.
        let in_micros = name.strip_suffix("_us");
        let help = help.trim_end_matches(", in microseconds.");
        let help = help.trim_end_matches('.');
        let name = in_micros.map_or(name.to_owned(), |name| format!("{name}_seconds"));
        let _ = writeln!(page, "# HELP strata_worker_{name}{end} {help}.");
        let _ = writeln!(page, "# TYPE strata_worker_{name}{end} {kind}");
        for worker in &sum.workers {
            let (index, (_, _, _, number)) = (worker.index, worker.numbers()[at]);
            let number = match in_micros {
                Some(_) => (number as f64 / 1e6).to_string(),
                None => number.to_string(),
            };
            let _ = writeln!(
                page,
                "strata_worker_{name}{end}{{worker=\"{index}\"}} {number}"
            );
        }
    }
    for (way, help) in [
        ("to", "Most requests sent to a peer that had not come home."),
        ("from", "Most requests of a peer that waited to be served."),
    ] {
        let _ = writeln!(page, "# HELP strata_worker_queue_{way}_most {help}");
        let _ = writeln!(page, "# TYPE strata_worker_queue_{way}_most gauge");
        for worker in &sum.workers {
            let index = worker.index;
            for (peer, queue) in worker.queues.iter().enumerate() {
                if peer != index {
                    let number = if way == "to" { queue.to } else { queue.from };
                    let _ = writeln!(
                        page,
                        "strata_worker_queue_{way}_most{{worker=\"{index}\",peer=\"{peer}\"}} {number}"
                    );
                }
            }
        }
    }
}

fn metric(page: &mut String, kind: &str, name: &str, help: &str, value: &u64) {
    let _ = writeln!(page, "# HELP strata_{name} {help}");
    let _ = writeln!(page, "# TYPE strata_{name} {kind}");
    let _ = writeln!(page, "strata_{name} {value}");
}
