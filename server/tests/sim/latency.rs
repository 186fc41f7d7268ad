//! Who waits for whom, on an invented clock: a reply leaves when it can, and the time it took is told to the nanosecond.

use std::time::Duration;

use strata_server::config::HOLD_MAX_US;
use strata_server::io::Wait;
use strata_server::io::sim::{ClientId, Dice};
use strata_server::latency::Class;
use strata_server::route::Route;
use strata_store::KeyHasher;

use crate::server::Server;

/// A key of the given worker's.
fn key_owned_by(worker: usize, workers: usize, seed: u64) -> String {
    let hasher = KeyHasher::new([seed, 2, 3, 4, 5, 6, 7, 8]);
    let route = Route::new(workers, false);
    let owned = |key: &String| route.owner(hasher.hash(key.as_bytes()), key.as_bytes()) == worker;
    let mut keys = (0..1000).map(|at| format!("key{at}"));
    keys.find(owned).expect("one of a thousand keys")
}

/// A line with a key of the connection's own worker and one of the other's.
#[test]
fn a_ready_reply_waits_for_one_in_the_making_but_not_for_a_stalled_worker() {
    for seed in 720..732 {
        let mut server = Server::new(2, 4 << 20, 64, seed);
        let client = server.net.connect(1 << 20);
        server.settle();
        let home = usize::from(server.workers[1].session_count() == 1);
        let [ours, theirs] = [home, 1 - home].map(|owner| key_owned_by(owner, 2, seed));
        for key in [&ours, &theirs] {
            let line = format!("set {key} 0 0 1\r\nx\r\n");
            server.net.write(client, line.as_bytes());
        }
        server.settle();
        assert_eq!(server.net.read(client, 100), b"STORED\r\nSTORED\r\n");
        let (first, second) = (
            format!("VALUE {ours} 0 1\r\nx\r\n"),
            format!("VALUE {theirs} 0 1\r\nx\r\nEND\r\n"),
        );
        let asked = format!("get {ours} {theirs}\r\n");

        // The other worker stands still; the clock too.
        server.net.write(client, asked.as_bytes());
        for _ in 0..400 {
            server.tick(home);
        }
        assert!(server.workers[home].leftovers().credits_out, "seed {seed}");
        assert_eq!(server.net.read(client, 100), b"", "seed {seed}");
        let patience = Wait::Micros(HOLD_MAX_US as u32);
        assert_eq!(server.workers[home].patience(), patience);
        server.elapsed += Duration::from_micros(HOLD_MAX_US);
        for _ in 0..400 {
            server.tick(home);
        }
        assert_eq!(server.net.read(client, 100), first.as_bytes());
        assert_eq!(server.workers[home].patience(), Wait::Long);
        server.settle();
        assert_eq!(server.net.read(client, 100), second.as_bytes());

        // Nobody stands still, and no time needs to pass.
        server.net.write(client, asked.as_bytes());
        server.settle();
        let both = first + &second;
        assert_eq!(server.net.read(client, 100), both.as_bytes());
        assert_eq!(server.workers[home].patience(), Wait::Long);
        server.net.end(client);
        server.settle();
        server.assert_nothing_left();
    }
}

#[test]
fn a_stalled_peer_shows_in_the_latency_and_a_local_request_does_not_wait_for_it() {
    for seed in 1..30 {
        let mut server = Server::new(2, 16 << 20, 8, seed);
        let clients: Vec<ClientId> = (0..3).map(|_| server.net.connect(1 << 20)).collect();
        // Dealt out in turn: the first and the third live on worker 0.
        server.settle();
        let asks = format!("get {}\r\n", key_owned_by(1, 2, seed));
        server.net.write(clients[0], asks.as_bytes());
        let asks = format!("delete {}\r\n", key_owned_by(0, 2, seed));
        server.net.write(clients[2], asks.as_bytes());
        server.tick_ns[0] = 3_000;
        let mut seen_ms = 0;
        for ms in 1..=100 {
            server.elapsed += Duration::from_millis(1);
            server.tick(0);
            if seen_ms == 0 && server.net.unread(clients[0]) == 0 {
                seen_ms = ms;
            }
        }
        let gets = server.shared.durations(Class::Get, None);
        assert_eq!(gets.count, 0, "seed {seed}: nobody has answered it");
        server.settle();
        let gets = server.shared.durations(Class::Get, Some(0));
        let stalled_ns = (100 - seen_ms) * 1_000_000 + 3_000;
        assert_eq!((gets.count, gets.max_ns), (1, stalled_ns), "seed {seed}");
        let deletes = server.shared.durations(Class::Delete, None);
        assert_eq!((deletes.count, deletes.max_ns), (1, 3_000), "seed {seed}");
        assert_eq!(server.net.read(clients[0], 100), b"END\r\n");
    }
}

#[test]
fn a_reader_that_takes_its_time_shows_in_the_latency_of_its_own_requests() {
    for seed in 1..30 {
        let mut server = Server::new(1, 16 << 20, 8, seed);
        let slow = server.net.connect(1000);
        let value = vec![b'v'; 200_000];
        let head = format!("set k 0 0 {}\r\n", value.len());
        server.net.write(slow, head.as_bytes());
        server.net.write(slow, &value);
        server.net.write(slow, b"\r\n");
        server.settle();
        let sets = server.shared.durations(Class::Set, None);
        assert_eq!((sets.count, sets.max_ns), (1, 1_000), "seed {seed}");
        server.net.write(slow, b"get k\r\nmn\r\n");
        let mut got = 0;
        // What the kernel took counts as handed over, and so do the pieces it took at once.
        while got + 100_000 < value.len() {
            server.settle();
            let gets = server.shared.durations(Class::Get, None);
            assert_eq!(gets.count, 0, "seed {seed}: {got} bytes are taken");
            server.elapsed += Duration::from_millis(1);
            got += server.net.read(slow, 1000).len();
        }
        while server.shared.durations(Class::Other, None).count == 0 {
            server.settle();
            let _ = server.net.read(slow, 1000);
        }
        let gets = server.shared.durations(Class::Get, None);
        assert_eq!(gets.count, 1);
        assert!(gets.max_ns > 50_000_000, "seed {seed}: {}", gets.max_ns);
    }
}

#[test]
fn every_request_is_timed_once_whatever_it_waited_for() {
    for seed in 1..40 {
        let workers = 1 + seed as usize % 3;
        let mut server = Server::new(workers, 16 << 20, 2, seed);
        let mut dice = Dice::new(seed);
        let windows = [200, 5_000, 1 << 20];
        let clients: Vec<ClientId> = (0..4)
            .map(|_| server.net.connect(windows[dice.below(3)]))
            .collect();
        let (mut gets, mut sets, mut others) = (0, 0, 0);
        for round in 0..200 {
            let client = clients[dice.below(clients.len())];
            let key = dice.below(50);
            let text = match dice.below(4) {
                0 => {
                    sets += 1;
                    let value = "v".repeat([5, 9_000, 60_000][dice.below(3)]);
                    format!("set k{key} 0 0 {}\r\n{value}\r\n", value.len())
                }
                1 => {
                    gets += 1;
                    format!("get k{key} k1 k2 k3 k4 none{round}\r\n")
                }
                2 => {
                    gets += 1;
                    format!("mg k{key} v q\r\n")
                }
                _ => {
                    others += 1;
                    "stats settings\r\n".into()
                }
            };
            server.net.write(client, text.as_bytes());
            for _ in 0..dice.below(4) {
                server.elapsed += Duration::from_micros(dice.below(900) as u64);
                server.tick(dice.below(workers));
                let client = clients[dice.below(clients.len())];
                let _ = server.net.read(client, dice.below(3000));
            }
        }
        let counted = |server: &Server| {
            [Class::Get, Class::Set, Class::Other]
                .map(|class| server.shared.durations(class, None).count)
        };
        for _ in 0..100_000 {
            server.settle();
            let taken: usize = clients
                .iter()
                .map(|client| server.net.read(*client, usize::MAX).len())
                .sum();
            if taken == 0 {
                break;
            }
        }
        assert_eq!(counted(&server), [gets, sets, others], "seed {seed}");
        assert!(
            server
                .workers
                .iter()
                .all(|worker| worker.leftovers().waits == 0)
        );
    }
}

#[test]
fn the_latency_is_told_and_forgotten_on_all_workers() {
    let mut server = Server::new(2, 16 << 20, 8, 3);
    let clients: Vec<ClientId> = (0..2).map(|_| server.net.connect(1 << 20)).collect();
    server.settle();
    server.tick_ns = vec![5_000, 200_000];
    for client in &clients {
        for worker in 0..2 {
            let asks = format!("get {}\r\n", key_owned_by(worker, 2, 3));
            server.net.write(*client, asks.as_bytes());
        }
    }
    server.settle();
    let mut ask = |text: &[u8]| {
        server.net.write(clients[0], text);
        server.settle();
        let text = server.net.read(clients[0], usize::MAX);
        String::from_utf8(text).expect("text")
    };
    let told = ask(b"stats latency\r\n");
    for line in [
        "get:count 4",
        "get:max_us 200.0",
        "long_tick_0:us 200.0",
        "long_tick_0:worker 1",
    ] {
        assert!(
            told.contains(&format!("STAT {line}\r\n")),
            "{line} in {told}"
        );
    }
    assert!(told.ends_with("END\r\n"));
    assert_eq!(ask(b"stats latency reset\r\n"), "RESET\r\n");
    let told = ask(b"stats latency\r\n");
    assert!(!told.contains("get:"), "{told}");
    assert!(told.contains("other:count 1\r\n"), "{told}");
    assert_eq!(ask(b"stats latency now\r\n"), "ERROR\r\n");
}
