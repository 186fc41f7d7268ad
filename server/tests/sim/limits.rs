//! Limits that refuse nothing and only hold somebody back: each is counted where `stats workers` tells it.

use std::time::Duration;

use strata_server::config::{CARRY_MAX_BYTES, CARRY_PAUSE_BYTES, OUT_HIGH_BYTES, PREFIXES_MAX};
use strata_server::io::sim::ClientId;

use crate::figures::worker_figures;
use crate::server::{MEMORY_MB, Server};

/// A server of one worker, somebody who asks it for figures, and a value of so many bytes as `k`.
fn server_with(value_bytes: usize, conns_max: usize) -> (Server, ClientId) {
    server_of(3, value_bytes, conns_max)
}

/// The same by another seed.
fn server_of(seed: u64, value_bytes: usize, conns_max: usize) -> (Server, ClientId) {
    let mut settings = Server::settings(1, MEMORY_MB << 20, seed);
    settings.conns_max = conns_max;
    let mut server = Server::with(settings, 64, seed);
    let asker = server.net.connect(1 << 20);
    let set = format!("set k 0 0 {value_bytes}\r\n");
    server.net.write(asker, set.as_bytes());
    server.net.write(asker, &vec![b'v'; value_bytes]);
    server.net.write(asker, b"\r\n");
    server.settle();
    assert_eq!(server.net.read(asker, 100), b"STORED\r\n");
    (server, asker)
}

fn figure(server: &mut Server, asker: ClientId, name: &str) -> u64 {
    worker_figures(server, asker)[&format!("0:{name}")]
}

/// A client that asks for more than it reads and sends more than waits.
fn deaf(server: &mut Server, value_bytes: usize) -> ClientId {
    let client = server.net.connect(10);
    let gets = 2 * OUT_HIGH_BYTES / value_bytes;
    server.net.write(client, &b"get k\r\n".repeat(gets));
    server
        .net
        .write(client, &b"mn\r\n".repeat(CARRY_PAUSE_BYTES));
    client
}

#[test]
fn a_client_that_does_not_read_is_seen_by_replies_and_by_input_that_wait() {
    let (mut server, asker) = server_with(10_000, 64);
    for name in ["replies_full", "input_full", "sips"] {
        assert_eq!(figure(&mut server, asker, name), 0, "{name}");
    }
    let client = deaf(&mut server, 10_000);
    server.settle();
    assert!(figure(&mut server, asker, "replies_full") > 0);
    assert!(figure(&mut server, asker, "input_full") > 0);
    assert_eq!(figure(&mut server, asker, "sips"), 0);
    server.net.reset(client);
    server.settle();
}

#[test]
fn so_many_of_them_that_all_are_received_from_in_sips_are_seen() {
    let clients = CARRY_MAX_BYTES / CARRY_PAUSE_BYTES + 100;
    let (mut server, asker) = server_with(10_000, clients + 10);
    let clients: Vec<ClientId> = (0..clients).map(|_| deaf(&mut server, 10_000)).collect();
    server.settle();
    assert_eq!(figure(&mut server, asker, "sips"), 1);
    for client in clients {
        server.net.reset(client);
    }
    server.settle();
    assert_eq!(figure(&mut server, asker, "sips"), 1);
}

#[test]
fn a_large_value_that_waits_for_a_later_tick_is_seen() {
    let (mut server, asker) = server_with(250_000, 64);
    let readers: Vec<ClientId> = (0..4).map(|_| server.net.connect(1 << 30)).collect();
    for reader in &readers {
        server.net.write(*reader, &b"get k\r\n".repeat(5));
    }
    server.settle();
    assert!(figure(&mut server, asker, "lent_waits") > 0);
    for reader in readers {
        assert!(server.net.read(reader, usize::MAX).len() > 5 * 250_000);
    }
}

#[test]
fn ticks_kept_short_are_seen_once_somebody_asks_for_little() {
    let mut none_before = 0;
    for seed in 0..20 {
        let (mut server, asker) = server_of(seed, 10, 64);
        server.elapsed += Duration::from_secs(1);
        // A line that comes in two pieces is little twice.
        let before = figure(&mut server, asker, "gentle_ticks");
        none_before += usize::from(before == 0);
        server.net.write(asker, b"mn\r\n");
        server.settle();
        let _ = server.net.read(asker, 100);
        let after = figure(&mut server, asker, "gentle_ticks");
        assert!(after > before, "{before} and {after}, seed {seed}");
    }
    assert!(none_before > 5, "{none_before} of 20");
}

#[test]
fn commands_whose_prefix_finds_no_room_are_seen() {
    let (mut server, asker) = server_with(10, 64);
    server.net.write(asker, b"stats detail on\r\n");
    server.settle();
    assert_eq!(server.net.read(asker, 100), b"OK\r\n");
    for at in 0..PREFIXES_MAX + 7 {
        let get = format!("get p{at}:x\r\n");
        server.net.write(asker, get.as_bytes());
    }
    server.settle();
    let _ = server.net.read(asker, usize::MAX);
    assert_eq!(figure(&mut server, asker, "prefixes_uncounted"), 7);
}
