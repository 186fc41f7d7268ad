//! What the start promises and says: where it listens, what it runs on, and how much memory it may
//! take.

use std::net::SocketAddr;

use core_affinity::CoreId;
use nix::sys::resource::{Resource, getrlimit};
use tracing::{info, warn};

use crate::config::{
    BATCH_MAX, CARRY_MAX_BYTES, CARRY_PAUSE_BYTES, EVENTS_MAX, HANDSHAKE_INPUT_MAX_BYTES,
    INTAKE_MAX_BYTES, IoChoice, LEND_MIN_BYTES, LOG_LINE_MAX_BYTES, MEMORY_ROOM_TIMES,
    RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, RECORDS_KEEP_BYTES, RECORDS_SPARE_MAX,
    REPLIES_MAX_BYTES, SPARE_MAX_BYTES, SPARE_SMALL_MAX_BYTES, SPILL_KEEP_BYTES, Settings,
    TLS_SESSION_BYTES, USERS_HASH_MAX_BYTES, WATCHERS_MAX, mailbox_slots,
};
use crate::host::Host;
use crate::message::{Homecoming, Visit};
use crate::shared::Shared;
use crate::tls::Guard;

/// Tells the operator what was started; what it serves on, in a few words.
pub(super) fn announce(
    shared: &Shared,
    handed_over: usize,
    admin: Option<SocketAddr>,
    cores: Option<&[CoreId]>,
) -> String {
    let process = &shared.process;
    let settings = &process.settings;
    if !settings.unheeded.is_empty() {
        info!(
            "accepted, and without effect here: {}",
            settings.unheeded.join(" ")
        );
    }
    if handed_over > 0 {
        info!("the service manager has opened {handed_over} sockets; -p, -l and -s name none");
    }
    for (address, listener) in process.bound.iter().zip(&settings.listen) {
        let open = listener.entry.guard == Guard::Open;
        let with = if open { "" } else { " with TLS" };
        info!("listening on {address}{with}");
        if open && !address.ip().is_loopback() && settings.auth_file.is_none() {
            warn!(
                "whoever reaches {address} can read and change everything; \
                 there is neither authentication nor TLS"
            );
        }
    }
    if let Some(path) = &settings.unix_path {
        info!("listening on {}", path.display());
    }
    if let Some(address) = admin {
        info!("admin endpoint on http://{address}");
        if !address.ip().is_loopback() && settings.admin_token.is_none() {
            warn!(
                "whoever reaches {address} can read figures, settings and hot keys; \
                 --admin-token-file asks for a token"
            );
        }
    }
    let backend = match settings.io {
        IoChoice::Epoll => "epoll",
        IoChoice::Auto | IoChoice::Uring => "io_uring",
    };
    let placement = match cores {
        Some(cores) => {
            let numbers: Vec<String> = cores.iter().map(|core| core.id.to_string()).collect();
            format!("pinned to cores {}", numbers.join(","))
        }
        None => "not pinned".into(),
    };
    info!("{} workers on {backend}, {placement}", settings.workers);
    let pages = match huge_bytes() {
        Some(0) => "on small pages (transparent huge pages are off or scarce)".into(),
        Some(bytes) => format!("with {} MiB on huge pages", bytes >> 20),
        None => "on pages of unknown size".into(),
    };
    info!(
        "{} MiB for items and table {pages}, and up to {} MiB for buffers",
        settings.memory_bytes >> 20,
        buffers_max_bytes(settings) >> 20
    );
    if shared.memory_most() > settings.memory_bytes {
        info!(
            "cache_memlimit can raise the first to {} MiB; until then that takes addresses \
             and no memory",
            shared.memory_most() >> 20
        );
    }
    let listeners = process.bound.len() + usize::from(settings.unix_path.is_some());
    format!(
        "serving with {} workers on {backend}, {} listeners",
        settings.workers,
        listeners.max(handed_over)
    )
}

/// How much memory the shards may grow to, in bytes.
pub(super) fn room_bytes(settings: &Settings) -> usize {
    // Room counts as locked although nothing is behind it, and must not use up what may be locked.
    let locked_max = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
    if settings.lock_memory && locked_max != nix::sys::resource::RLIM_INFINITY {
        return settings.memory_bytes;
    }
    let most = settings.memory_bytes.saturating_mul(MEMORY_ROOM_TIMES);
    let available = Host::here().memory_bytes().unwrap_or(0);
    most.min(available).max(settings.memory_bytes)
}

/// How much of the process's memory is on transparent huge pages, as the kernel counts it.
fn huge_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// What the server may use besides items and table: receive buffers, mailboxes, half-received
/// large values, the replies and carried input of every session at their bounds, and the same again as
/// far as TLS holds it twice.
fn buffers_max_bytes(settings: &Settings) -> usize {
    let workers = settings.workers;
    let receive = RECEIVE_BUFFERS * RECEIVE_BUFFER_BYTES;
    let slots = mailbox_slots(workers) * (workers - 1);
    let mailboxes = slots * (size_of::<Visit>() + size_of::<Homecoming>() + 2 * SPILL_KEEP_BYTES);
    let intake = INTAKE_MAX_BYTES + settings.item_max_bytes as usize;
    // What the ring hands over before it is told to sip comes on top of it, twice at most: the
    // buffers seen in a tick, and those filled meanwhile.
    let carry = CARRY_MAX_BYTES + 2 * receive;
    // What is on its way home when the bound is met comes on top of it.
    let replies = REPLIES_MAX_BYTES + (BATCH_MAX + slots) * LEND_MIN_BYTES;
    let spare = SPARE_MAX_BYTES + 2 * SPARE_SMALL_MAX_BYTES;
    let session = CARRY_PAUSE_BYTES + RECEIVE_BUFFER_BYTES + LEND_MIN_BYTES;
    // What a watcher is late with, and as much again on its way.
    let watchers = 2 * WATCHERS_MAX * settings.watcher_log_bytes;
    let log = settings.worker_log_bytes + LOG_LINE_MAX_BYTES;
    let (tls, tls_session) = match settings.tls {
        None => (0, 0),
        Some(_) => {
            let plain = EVENTS_MAX * 2 * RECEIVE_BUFFER_BYTES;
            let records = REPLIES_MAX_BYTES + RECORDS_SPARE_MAX * RECORDS_KEEP_BYTES;
            let session = TLS_SESSION_BYTES + HANDSHAKE_INPUT_MAX_BYTES;
            (plain + records, session)
        }
    };
    let session = session + tls_session;
    // One password is checked at a time.
    let check = match settings.has_accounts() {
        true => USERS_HASH_MAX_BYTES,
        false => 0,
    };
    workers * (tls + receive + mailboxes + intake + carry + replies + spare + log)
        + watchers
        + check
        + settings.conns_max * session
}
