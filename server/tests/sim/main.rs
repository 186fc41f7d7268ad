//! The whole server on simulated I/O, in one thread: every request answered exactly once and in
//! order, or its connection closed, and nothing left over.
//!
//! A run is its seed: `STRATA_SIM_SEED=7 cargo test --test sim` repeats one, and a failure names
//! its own. Each client keeps to keys of its own, so that its replies are known to the byte,
//! whichever worker owns the keys and in whatever order the workers move.

mod client;
mod server;
mod watching;

use std::collections::HashMap;
use std::time::Duration;

use strata_server::config::{HOLD_MAX_US, Settings};
use strata_server::io::Wait;
use strata_server::io::sim::{ClientId, Dice};
use strata_server::latency::Class;
use strata_server::route::Route;
use strata_server::worker::Ask;
use strata_store::KeyHasher;

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
    let plan = Plan {
        workers: 1,
        clients: 4,
        requests: 150,
        memory_bytes: MEMORY_MB << 20,
        slots: 64,
        cuts: false,
        stalls: false,
        passwords: false,
    };
    run_seeds(1, 15, &plan);
}

#[test]
fn two_workers_answer_everything_in_order() {
    let plan = Plan {
        workers: 2,
        clients: 5,
        requests: 150,
        memory_bytes: MEMORY_MB << 20,
        slots: 64,
        cuts: false,
        stalls: false,
        passwords: false,
    };
    run_seeds(100, 15, &plan);
}

#[test]
fn three_workers_with_tiny_queues_and_stalls_answer_everything_in_order() {
    let plan = Plan {
        workers: 3,
        clients: 6,
        requests: 120,
        memory_bytes: MEMORY_MB << 20,
        slots: 2,
        cuts: false,
        stalls: true,
        passwords: false,
    };
    run_seeds(200, 15, &plan);
}

#[test]
fn cut_connections_cost_only_themselves() {
    let plan = Plan {
        workers: 3,
        clients: 8,
        requests: 120,
        memory_bytes: MEMORY_MB << 20,
        slots: 4,
        cuts: true,
        stalls: true,
        passwords: false,
    };
    run_seeds(300, 30, &plan);
}

#[test]
fn a_parked_password_neither_loses_nor_reorders_requests() {
    let plan = Plan {
        workers: 2,
        clients: 6,
        requests: 60,
        memory_bytes: MEMORY_MB << 20,
        slots: 4,
        cuts: false,
        stalls: true,
        passwords: true,
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

#[test]
fn a_stop_answers_what_is_in_flight_and_closes_everything() {
    for seed in 400..420 {
        let mut dice = Dice::new(seed);
        let mut server = Server::new(2, MEMORY_MB << 20, 8, seed);
        let mut clients: Vec<Client> = Vec::new();
        for name in 0..4 {
            let mut client = Client::new(&server.net, name, 2, &mut dice);
            for _ in 0..40 {
                client.add_request(&mut dice);
            }
            server.net.write(client.id, &client.script);
            clients.push(client);
        }
        for _ in 0..dice.below(400) {
            let worker = dice.below(2);
            server.tick(worker);
        }
        for (ask, waker) in server.asks.iter().zip(&server.wakers) {
            ask.try_send(Ask::Stop).expect("room for one");
            waker.ringer.ring();
        }
        for _ in 0..20_000 {
            let worker = dice.below(2);
            server.tick(worker);
            for client in &mut clients {
                client.got.extend(server.net.read(client.id, 10_000));
            }
        }
        for client in &clients {
            assert!(
                client.expected.starts_with(&client.heard()),
                "seed {seed}: client {} has wrong replies",
                client.name
            );
        }
        server.assert_nothing_left();
    }
}

#[test]
fn what_arrives_no_later_than_the_stop_is_answered() {
    for seed in 420..440 {
        let mut server = Server::new(2, MEMORY_MB << 20, 8, seed);
        let clients: Vec<ClientId> = (0..4).map(|_| server.net.connect(1 << 20)).collect();
        server.settle();
        for (ask, waker) in server.asks.iter().zip(&server.wakers) {
            ask.try_send(Ask::Stop).expect("room for one");
            waker.ringer.ring();
        }
        for client in &clients {
            server.net.write(*client, &b"touch k 0\r\n".repeat(200));
        }
        server.settle();
        for client in &clients {
            let heard = server.net.read(*client, usize::MAX);
            assert_eq!(heard, b"NOT_FOUND\r\n".repeat(200), "seed {seed}");
            assert!(server.net.closed(*client), "seed {seed}");
        }
        server.assert_nothing_left();
    }
}

#[test]
fn a_client_that_never_pauses_is_cut_off_by_a_stop() {
    let mut server = Server::new(1, MEMORY_MB << 20, 8, 1);
    let client = server.net.connect(usize::MAX);
    server.settle();
    server.asks[0].try_send(Ask::Stop).expect("room for one");
    server.wakers[0].ringer.ring();
    let requests = b"touch k 0\r\n".repeat(100);
    let mut sent = 0;
    while !server.net.closed(client) {
        server.net.write(client, &requests);
        sent += requests.len();
        assert!(sent < 100 << 20, "it is still served");
        server.tick(0);
        let _ = server.net.read(client, usize::MAX);
    }
    server.settle();
    server.assert_nothing_left();
}

#[test]
fn a_client_over_the_limit_is_told_so() {
    let mut server = Server::new(1, 1 << 20, 8, 1);
    let clients: Vec<ClientId> = (0..65).map(|_| server.net.connect(1000)).collect();
    for _ in 0..1000 {
        server.tick(0);
    }
    let refused: Vec<ClientId> = clients
        .iter()
        .copied()
        .filter(|client| server.net.closed(*client))
        .collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(
        server.net.read(refused[0], 1000),
        b"ERROR Too many open connections\r\n"
    );
}

/// The figures of `stats workers`, asked by a client of its own.
fn worker_figures(server: &mut Server, client: ClientId) -> HashMap<String, u64> {
    server.net.write(client, b"stats workers\r\n");
    server.settle();
    let text = String::from_utf8(server.net.read(client, usize::MAX)).expect("text");
    let body = text.strip_suffix("END\r\n").expect("a whole reply");
    body.lines()
        .map(|line| {
            let mut words = line.split(' ').skip(1);
            let mut word = || words.next().expect("three words").to_owned();
            (word(), word().parse().expect("a number"))
        })
        .collect()
}

#[test]
fn the_figures_of_two_workers_add_up_to_what_was_asked() {
    let mut server = Server::new(2, 16 << 20, 8, 11);
    let clients: Vec<ClientId> = (0..2).map(|_| server.net.connect(1 << 20)).collect();
    // Dealt out one to each while there is credit for it.
    server.settle();
    for round in 0..100 {
        for client in &clients {
            let text = format!("set k{round} 0 0 1\r\nv\r\nget k{round} none{round}\r\nmn\r\n");
            server.net.write(*client, text.as_bytes());
        }
    }
    server.settle();
    server.tick_ns[1] = 77_000;
    server.tick(1);
    server.tick_ns[1] = 5_000;
    server.tick(1);
    for client in &clients {
        let _ = server.net.read(*client, usize::MAX);
    }
    let figures = worker_figures(&mut server, clients[0]);
    let both = |name: &str| figures[&format!("0:{name}")] + figures[&format!("1:{name}")];
    assert_eq!(both("commands_local") + both("commands_remote"), 600);
    for (worker, peer) in [(0, 1), (1, 0)] {
        let own = |name: &str| figures[&format!("{worker}:{name}")];
        assert_eq!(own("connections"), 1);
        assert_eq!(
            own("commands_served"),
            figures[&format!("{peer}:commands_remote")]
        );
        assert!(own("commands_served") > 0);
        let all = own("commands_local") + own("commands_remote");
        assert_eq!(own("local_percent"), own("commands_local") * 100 / all);
        // Batches of more requests than the queue has slots.
        assert_eq!(own(&format!("queue_to_{peer}_most")), 8);
        assert!((1..=8).contains(&own(&format!("queue_from_{peer}_most"))));
    }
    assert_eq!(figures["1:longest_tick_us"], 77);
    server.tick_ns = vec![0; 2];
    server.net.write(clients[1], b"stats reset\r\n");
    server.settle();
    assert_eq!(server.net.read(clients[1], usize::MAX), b"RESET\r\n");
    let figures = worker_figures(&mut server, clients[0]);
    for worker in 0..2 {
        let own = |name: &str| figures[&format!("{worker}:{name}")];
        let sum = own("commands_local") + own("commands_remote") + own("commands_served");
        assert_eq!(sum + own("longest_tick_us"), 0);
        assert!(own(&format!("queue_to_{}_most", 1 - worker)) <= 1);
    }
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

/// A line with a key of the connection's own worker and one of the other's.
#[test]
fn a_ready_reply_waits_for_one_in_the_making_but_not_for_a_stalled_worker() {
    for seed in 720..732 {
        let mut server = Server::new(2, 4 << 20, 64, seed);
        let client = server.net.connect(1 << 20);
        server.settle();
        let home = usize::from(server.workers[1].session_count() == 1);
        let hasher = KeyHasher::new([seed, 2, 3, 4, 5, 6, 7, 8]);
        let key_of = |owner: usize| {
            (0..)
                .map(|count| format!("key{count}"))
                .find(|key| {
                    let hash = hasher.hash(key.as_bytes());
                    Route::new(2, false).owner(hash, key.as_bytes()) == owner
                })
                .expect("each worker owns some key")
        };
        let (ours, theirs) = (key_of(home), key_of(1 - home));
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

/// Values of a mebibyte that arrive half and then no further, in more connections than there is
/// room for.
#[test]
fn half_sent_values_give_way_to_whole_ones_oldest_first() {
    let mut settings = Settings::for_tests(1);
    settings.conns_max = 64;
    let mut server = Server::with(settings, 8, 21);
    let watcher = server.net.connect(1 << 20);
    let half = [b"set half 0 0 1000000\r\n".to_vec(), vec![b'h'; 900_000]].concat();
    let mut halves = Vec::new();
    for at in 0..38 {
        let client = server.net.connect(1 << 20);
        server.net.write(client, &half);
        server.settle();
        halves.push(client);
        if at == 20 {
            server.elapsed += Duration::from_secs(1);
        }
    }
    let whole = [
        b"set k 0 0 1000000\r\n".to_vec(),
        vec![b'w'; 1_000_000],
        b"\r\n".to_vec(),
    ]
    .concat();
    let (no, yes) = (
        &b"SERVER_ERROR out of memory storing object\r\n"[..],
        &b"STORED\r\n"[..],
    );
    let store = |server: &mut Server, reply: &[u8]| {
        let client = server.net.connect(1 << 20);
        server.net.write(client, &whole);
        server.settle();
        assert_eq!(server.net.read(client, 1000), reply);
        server.net.end(client);
        server.settle();
    };
    // As long as nobody has taken too long, the newcomer is the one that finds no room.
    server.elapsed += Duration::from_secs(1);
    store(&mut server, no);
    assert_eq!(worker_figures(&mut server, watcher)["0:intake_cuts"], 0);
    server.elapsed += Duration::from_secs(1);
    store(&mut server, yes);
    let cut = |server: &Server| -> Vec<usize> {
        let closed = |at: &usize| server.net.closed(halves[*at]);
        (0..halves.len()).filter(closed).collect()
    };
    let gone = cut(&server);
    assert!(gone == [0], "{gone:?}");
    let cuts = worker_figures(&mut server, watcher)["0:intake_cuts"];
    assert_eq!(cuts, gone.len() as u64);
    // The others are whole once their rest has come.
    for (at, client) in halves.iter().enumerate().skip(gone.len()).take(5) {
        let rest = [vec![b'h'; 100_000], b"\r\n".to_vec()].concat();
        server.net.write(*client, &rest);
        server.settle();
        assert_eq!(server.net.read(*client, 1000), yes, "half {at}");
    }
    for client in halves.iter().chain([&watcher]) {
        server.net.end(*client);
    }
    server.settle();
    server.assert_nothing_left();
}

#[test]
fn connections_without_a_request_are_closed_after_the_idle_timeout() {
    let mut settings = Settings::for_tests(2);
    settings.idle_timeout_s = 5;
    let mut server = Server::with(settings, 64, 31);
    let busy = server.net.connect(1 << 20);
    let dripping = server.net.connect(1 << 20);
    // Sends half a line now and then, which is no request.
    let mumbling = server.net.connect(1 << 20);
    // Has asked for more than it takes.
    let deaf = server.net.connect(10);
    server.net.write(dripping, b"set drip 0 0 20000\r\n");
    server.net.write(deaf, b"mn\r\nmn\r\nmn\r\nmn\r\n");
    let silent: Vec<ClientId> = (0..600).map(|_| server.net.connect(100)).collect();
    server.settle();
    for second in 0..6 {
        let closed = silent.iter().filter(|id| server.net.closed(**id)).count();
        assert_eq!(closed, 0, "after {second} seconds");
        server.net.write(busy, b"mn\r\n");
        server.net.write(dripping, b"x");
        server.net.write(mumbling, b"g");
        server.settle();
        server.elapsed += Duration::from_secs(1);
    }
    // A tick looks at a part of them only.
    server.tick(0);
    server.tick(0);
    let open = server.workers[0].leftovers().sessions;
    assert!(open > 20, "{open} of 300 are open");
    server.settle();
    for (name, client, closed) in [
        ("busy", busy, false),
        ("dripping", dripping, false),
        ("mumbling", mumbling, true),
        ("deaf", deaf, false),
    ] {
        assert_eq!(server.net.closed(client), closed, "{name}");
    }
    assert!(silent.iter().all(|id| server.net.closed(*id)));
    server.net.write(busy, b"stats\r\n");
    server.settle();
    let text = String::from_utf8(server.net.read(busy, usize::MAX)).expect("text");
    assert!(text.contains("STAT idle_kicks 601\r\n"), "{text}");
    for client in [busy, dripping, deaf] {
        server.net.reset(client);
    }
    server.settle();
    server.assert_nothing_left();
}

/// Clients ask for large values, read little or nothing of them, and vanish.
#[test]
fn readers_that_vanish_give_their_loans_back() {
    let mut lent_in_some_run = 0;
    for seed in 500..540 {
        let mut dice = Dice::new(seed);
        let mut server = Server::new(3, MEMORY_MB << 20, 4, seed);
        let writer = server.net.connect(1 << 20);
        for key in 0..12 {
            let line = format!("set large{key} 0 0 200000\r\n");
            server.net.write(writer, line.as_bytes());
            server.net.write(writer, &vec![b'v'; 200_000]);
            server.net.write(writer, b"\r\n");
        }
        server.settle();
        assert_eq!(
            server.net.read(writer, usize::MAX),
            b"STORED\r\n".repeat(12)
        );
        let readers: Vec<ClientId> = (0..6).map(|_| server.net.connect(5000)).collect();
        for reader in &readers {
            let keys: Vec<String> = (0..1 + dice.below(4))
                .map(|_| format!(" large{}", dice.below(12)))
                .collect();
            let line = format!("get{}\r\n", keys.concat());
            server.net.write(*reader, line.as_bytes());
        }
        for _ in 0..dice.below(600) {
            let worker = dice.below(3);
            server.tick(worker);
            let reader = readers[dice.below(readers.len())];
            let _ = server.net.read(reader, dice.below(3000));
        }
        lent_in_some_run += server
            .workers
            .iter()
            .map(|worker| worker.leftovers().loans)
            .sum::<usize>();
        for reader in readers {
            server.net.reset(reader);
        }
        server.net.end(writer);
        server.settle();
        server.assert_nothing_left();
    }
    assert!(
        lent_in_some_run > 40,
        "only {lent_in_some_run} loans were out"
    );
}

/// Whoever is last counts, at every worker.
#[test]
fn workers_agree_on_the_limit_whoever_sets_it_at_a_time() {
    let mut winners = [0; 3];
    for seed in 700..760 {
        let mut dice = Dice::new(seed);
        let mut server = Server::new(3, MEMORY_MB << 20, 2, seed);
        let limits = [24, 60, 96];
        for megabytes in limits {
            let client = server.net.connect(1 << 20);
            let line = format!("cache_memlimit {megabytes}\r\n");
            server.net.write(client, line.as_bytes());
        }
        for _ in 0..dice.below(60) {
            let worker = dice.below(3);
            server.tick(worker);
        }
        server.settle();
        let limit = server.shared.memory_limit();
        for worker in &server.workers {
            assert_eq!(worker.memory(), (limit / 3, limit / 3), "seed {seed}");
        }
        let winner = limits.iter().position(|mb| mb << 20 == limit);
        winners[winner.expect("one of them")] += 1;
    }
    assert!(
        winners.iter().filter(|wins| **wins > 0).count() > 1,
        "{winners:?}"
    );
}

/// A store that is far too small forgets, but what it returns is what was stored.
#[test]
fn a_full_store_answers_with_the_stored_value_or_none() {
    for seed in 600..610 {
        let mut dice = Dice::new(seed);
        let mut server = Server::new(2, 1 << 20, 16, seed);
        let client = server.net.connect(1 << 20);
        let (mut hits, mut misses) = (0, 0);
        for round in 0..3000 {
            let key = dice.below(30_000);
            let value = format!("value of {key}, ").repeat(1 + key % 20);
            let text = format!(
                "set key{key} {key} 0 {}\r\n{value}\r\nget key{}\r\n",
                value.len(),
                dice.below(30_000)
            );
            server.net.write(client, text.as_bytes());
            if round % 50 < 49 {
                continue;
            }
            server.settle();
            let text = server.net.read(client, usize::MAX);
            let text = String::from_utf8(text).expect("only text was stored");
            let mut lines = text.lines();
            while let Some(line) = lines.next() {
                match line.strip_prefix("VALUE key") {
                    None => {
                        assert!(line == "STORED" || line == "END", "seed {seed}: {line}");
                        misses += usize::from(line == "END");
                    }
                    Some(head) => {
                        let key: usize = head
                            .split(' ')
                            .next()
                            .and_then(|key| key.parse().ok())
                            .expect("a key of ours");
                        let value = format!("value of {key}, ").repeat(1 + key % 20);
                        assert_eq!(head, format!("{key} {key} {}", value.len()));
                        assert_eq!(lines.next(), Some(value.as_str()), "seed {seed}");
                        hits += 1;
                    }
                }
            }
        }
        assert!(hits > 50 && misses > 50, "{hits} hits, {misses} misses");
        server.net.end(client);
        server.settle();
        server.assert_nothing_left();
    }
}

/// A key of the given worker's.
fn key_owned_by(worker: usize, workers: usize, seed: u64) -> String {
    let hasher = KeyHasher::new([seed, 2, 3, 4, 5, 6, 7, 8]);
    let route = Route::new(workers, false);
    let owned = |key: &String| route.owner(hasher.hash(key.as_bytes()), key.as_bytes()) == worker;
    let mut keys = (0..1000).map(|at| format!("key{at}"));
    keys.find(owned).expect("one of a thousand keys")
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

#[test]
fn a_key_that_all_clients_ask_for_is_told_on_request_and_to_watchers() {
    let mut server = Server::new(2, 16 << 20, 8, 5);
    let clients: Vec<ClientId> = (0..3).map(|_| server.net.connect(1 << 20)).collect();
    server.settle();
    server.net.write(clients[2], b"watch hotkeys\r\n");
    server.settle();
    assert_eq!(server.net.read(clients[2], usize::MAX), b"OK\r\n");
    for round in 0..4_000 {
        for client in &clients[..2] {
            // A fifth of the keys of each line, and one in ten of them written.
            let text = match round % 10 {
                0 => "set hot%key 0 0 1\r\nv\r\nget hot%key a1 a2 a3\r\n".to_owned(),
                _ => format!("get b{round} c{round} hot%key d{round} e{round}\r\n"),
            };
            server.net.write(*client, text.as_bytes());
        }
        server.elapsed += Duration::from_millis(1);
        if round % 50 == 0 {
            server.settle();
            let _ = server.net.read(clients[0], usize::MAX);
            let _ = server.net.read(clients[1], usize::MAX);
        }
    }
    server.settle();
    let _ = server.net.read(clients[0], usize::MAX);
    let mut ask = |text: &[u8]| {
        server.net.write(clients[0], text);
        server.settle();
        let text = server.net.read(clients[0], usize::MAX);
        String::from_utf8(text).expect("text")
    };
    let told = ask(b"stats hotkeys\r\n");
    assert!(told.contains("STAT 1:key hot%25key\r\n"), "{told}");
    let number = |name: &str| -> f64 {
        let line = told
            .lines()
            .find(|line| line.starts_with(&format!("STAT {name} ")));
        let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        number.expect("a number")
    };
    // 40 000 requests, of which 8 800 are for this key and 800 of those write it.
    assert!(number("sampled") > 120.0, "{told}");
    assert!((14.0..30.0).contains(&number("1:percent")), "{told}");
    assert!((1.0..30.0).contains(&number("1:writes_percent")), "{told}");
    assert!(!told.contains(":key b"), "asked for once: {told}");
    assert_eq!(
        ask(b"stats hotkeys x\r\n"),
        "CLIENT_ERROR bad command line format\r\n"
    );
    let watched = server.net.read(clients[2], usize::MAX);
    let watched = String::from_utf8(watched).expect("text");
    assert!(watched.lines().count() >= 4, "{watched}");
    for worker in 0..2 {
        let line = format!(" type=hot_key key=hot%25key worker={worker} percent=");
        assert!(watched.contains(&line), "{line} in {watched}");
    }
}
