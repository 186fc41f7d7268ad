//! The whole server on simulated I/O, in one thread: every request answered exactly once and in
//! order, or its connection closed, and nothing left over.
//!
//! A run is its seed: `STRATA_SIM_SEED=7 cargo test --test sim` repeats one, and a failure names
//! its own. Each client keeps to keys of its own, so that its replies are known to the byte,
//! whichever worker owns the keys and in whatever order the workers move.

mod bounds;
mod client;
mod figures;
mod latency;
mod limits;
mod lone;
#[path = "../common/packet.rs"]
mod packet;
mod server;
mod stopping;
mod watching;

use std::time::Duration;

use strata_server::io::sim::{ClientId, Dice};

use client::Client;
use server::{MEMORY_MB, Server};

struct Plan {
    workers: usize,
    clients: usize,
    requests: usize,
    memory_bytes: usize,
    slots: usize,
    /// Whether clients are cut in the middle.
    cuts: bool,
    /// Whether a worker stands still for a while.
    stalls: bool,
    /// Whether clients are asked who they are, and wait for the answer.
    passwords: bool,
}

/// One worker with roomy queues, and clients to whom nothing happens.
const CALM: Plan = Plan {
    workers: 1,
    clients: 4,
    requests: 150,
    memory_bytes: MEMORY_MB << 20,
    slots: 64,
    cuts: false,
    stalls: false,
    passwords: false,
};

/// Runs one simulation; panics name the seed.
fn run(seed: u64, plan: &Plan) {
    let mut dice = Dice::new(seed);
    let mut settings = Server::settings(plan.workers, plan.memory_bytes, seed);
    settings.auth_file = plan.passwords.then(|| "users.toml".into());
    let mut server = Server::with(settings, plan.slots, seed);
    let mut clients: Vec<Client> = Vec::new();
    for name in 0..plan.clients {
        let mut client = Client::new(&server.net, name, plan.workers, &mut dice);
        if plan.passwords {
            client.add_knocks(&mut dice);
        }
        for _ in 0..plan.requests {
            client.add_request(&mut dice);
        }
        client.add_quit(&mut dice);
        clients.push(client);
    }
    let (mut stalled, mut stalled_until) = (usize::MAX, 0);
    for step in 0..4_000_000 {
        if plan.stalls && dice.once_in(2000) {
            stalled = dice.below(plan.workers);
            stalled_until = step + dice.below(1500);
        }
        let worker = dice.below(plan.workers);
        if worker != stalled || step >= stalled_until {
            server.tick(worker);
        }
        if dice.once_in(50) {
            server.elapsed += Duration::from_millis(200);
        }
        if plan.passwords && dice.once_in(100) {
            server.answer_a_knock(&mut dice);
        }
        let at = dice.below(clients.len());
        let client = &mut clients[at];
        let most = 1 + dice.below(50_000);
        client.got.extend(server.net.read(client.id, most));
        if !client.done && server.net.unread(client.id) < 100_000 {
            let left = client.script.len() - client.sent;
            let part = left.min(1 + dice.below(20_000));
            let bytes = &client.script[client.sent..client.sent + part];
            server.net.write(client.id, bytes);
            client.sent += part;
            if plan.cuts && dice.once_in(60) {
                client.cut = true;
                client.done = true;
                if dice.once_in(2) {
                    server.net.reset(client.id);
                } else {
                    server.net.end(client.id);
                }
            } else if client.sent == client.script.len() {
                client.done = true;
                server.net.end(client.id);
            }
        }
        if clients.iter().all(|client| server.net.closed(client.id)) {
            break;
        }
    }
    server.settle();
    for client in &mut clients {
        assert!(
            server.net.closed(client.id),
            "client {} is still open",
            client.name
        );
        client.got.extend(server.net.read(client.id, usize::MAX));
        let heard = client.heard();
        if client.cut {
            assert!(
                client.expected.starts_with(&heard),
                "client {}: wrong replies before its cut",
                client.name
            );
        } else {
            let differs = client.expected.iter().zip(&heard).position(|(a, b)| a != b);
            assert!(
                client.expected == heard,
                "client {}: {} bytes expected, {} came, first difference at {differs:?}",
                client.name,
                client.expected.len(),
                heard.len()
            );
        }
    }
    server.settle();
    server.assert_nothing_left();
}

/// Runs a range of seeds, or the one of `STRATA_SIM_SEED`.
fn run_seeds(first: u64, count: u64, plan: &Plan) {
    if let Ok(seed) = std::env::var("STRATA_SIM_SEED") {
        run(seed.parse().expect("a number"), plan);
        return;
    }
    for seed in first..first + count {
        let outcome = std::panic::catch_unwind(|| run(seed, plan));
        if let Err(panic) = outcome {
            eprintln!("the failing run: STRATA_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn one_worker_answers_everything_in_order() {
    run_seeds(1, 15, &CALM);
}

#[test]
fn two_workers_answer_everything_in_order() {
    let plan = Plan {
        workers: 2,
        clients: 5,
        ..CALM
    };
    run_seeds(100, 15, &plan);
}

#[test]
fn three_workers_with_tiny_queues_and_stalls_answer_everything_in_order() {
    let plan = Plan {
        workers: 3,
        clients: 6,
        requests: 120,
        slots: 2,
        stalls: true,
        ..CALM
    };
    run_seeds(200, 15, &plan);
}

#[test]
fn cut_connections_cost_only_themselves() {
    let plan = Plan {
        workers: 3,
        clients: 8,
        requests: 120,
        slots: 4,
        cuts: true,
        stalls: true,
        ..CALM
    };
    run_seeds(300, 30, &plan);
}

#[test]
fn a_parked_password_neither_loses_nor_reorders_requests() {
    let plan = Plan {
        workers: 2,
        clients: 6,
        requests: 60,
        slots: 4,
        stalls: true,
        passwords: true,
        ..CALM
    };
    run_seeds(900, 20, &plan);
    // Whoever goes while its password is checked leaves nothing behind.
    run_seeds(920, 20, &Plan { cuts: true, ..plan });
}

#[test]
fn the_answer_to_who_is_gone_lets_nobody_else_in() {
    let mut settings = Server::settings(1, MEMORY_MB << 20, 940);
    settings.auth_file = Some("users.toml".into());
    let mut server = Server::with(settings, 64, 940);
    let gone = server.net.connect(1000);
    server.net.write(gone, b"set x 0 0 9\r\nall right\r\n");
    server.settle();
    assert_eq!(server.count_knocks(), 1);
    server.net.reset(gone);
    server.settle();
    // It gets the place of the one that is gone, and waits as that one did.
    let next = server.net.connect(1000);
    server
        .net
        .write(next, b"set x 0 0 9\r\nall wrong\r\nget k\r\n");
    server.settle();
    assert_eq!(server.count_knocks(), 2);
    server.answer_knock(0);
    server.settle();
    assert_eq!(server.net.read(next, 1000), b"");
    server.answer_knock(0);
    server.settle();
    let refused = b"CLIENT_ERROR authentication failure\r\nCLIENT_ERROR unauthenticated\r\n";
    assert_eq!(server.net.read(next, 1000), refused);
    server.net.end(next);
    server.settle();
    server.assert_nothing_left();
}

/// Every connection asks for one key and counts for itself in between, while a worker, the key's
/// owner among them, stands still for 100 ms and thousands of steps of the others.
#[test]
fn a_hot_key_and_a_stalled_worker_lose_and_reorder_no_reply() {
    for seed in 700..712 {
        let mut dice = Dice::new(seed);
        let workers = 2 + dice.below(2);
        let mut server = Server::new(workers, 4 << 20, [2, 8, 64][dice.below(3)], seed);
        let setter = server.net.connect(1 << 20);
        server.net.write(setter, b"set hot 0 0 3\r\nyes\r\n");
        server.settle();
        assert_eq!(server.net.read(setter, 100), b"STORED\r\n");
        let clients: Vec<ClientId> = (0..12).map(|_| server.net.connect(1 << 20)).collect();
        let mut expected = Vec::new();
        for (at, client) in clients.iter().enumerate() {
            let (mut asked, mut replies) = (Vec::new(), Vec::new());
            asked.extend_from_slice(format!("set own{at} 0 0 1\r\n0\r\n").as_bytes());
            replies.extend_from_slice(b"STORED\r\n");
            for count in 1..=300 {
                asked.extend_from_slice(format!("get hot\r\nincr own{at} 1\r\n").as_bytes());
                let text = format!("VALUE hot 0 3\r\nyes\r\nEND\r\n{count}\r\n");
                replies.extend_from_slice(text.as_bytes());
            }
            server.net.write(*client, &asked);
            expected.push(replies);
        }
        for stalled in 0..workers {
            for _ in 0..dice.below(300) {
                let worker = dice.below(workers);
                server.tick(worker);
            }
            for _ in 0..4000 {
                let worker = dice.below(workers);
                if worker != stalled {
                    server.tick(worker);
                }
            }
            server.elapsed += Duration::from_millis(100);
        }
        server.settle();
        for (client, expected) in clients.iter().zip(&expected) {
            let got = server.net.read(*client, usize::MAX);
            assert!(got == *expected, "seed {seed}: client {client}");
            server.net.end(*client);
        }
        server.net.end(setter);
        server.settle();
        server.assert_nothing_left();
    }
}
