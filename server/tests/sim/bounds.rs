//! What there is too much of: connections, values, loans and items give way, and whoever stays is answered rightly.

use std::time::Duration;

use strata_server::config::{
    LENT_BESIDE_OTHERS_BYTES, PIECE_BYTES, REQUESTS_PER_TICK_DEFAULT, Settings,
};
use strata_server::io::sim::{ClientId, Dice};

use crate::figures::worker_figures;
use crate::server::{MEMORY_MB, Server};

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

/// Who is there beside a reader of large values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nobody,
    /// A client that asks for little at a time.
    Asker,
    /// A client that stores one large value after the other.
    Writer,
}

/// The most that one tick sends a reader of large values.
fn most_lent_in_a_tick(seed: u64, beside: Beside) -> usize {
    const VALUE_BYTES: usize = 250_000;
    let mut server = Server::new(1, MEMORY_MB << 20, 64, seed);
    let (reader, other) = (server.net.connect(1 << 30), server.net.connect(1 << 20));
    let set = |key| {
        let line = format!("set {key} 0 0 {VALUE_BYTES}\r\n");
        [line.as_bytes(), &[b'v'; VALUE_BYTES], b"\r\n"].concat()
    };
    server.net.write(other, &set("k"));
    server.settle();
    assert_eq!(server.net.read(other, 100), b"STORED\r\n");
    if beside == Beside::Asker {
        server.net.write(other, b"mn\r\n");
        server.settle();
    }
    let gets = 20;
    server.net.write(reader, &b"get k\r\n".repeat(gets));
    let (mut most, mut all, mut asked, mut answered) = (0, 0, 0, 0);
    let reply_bytes = format!("VALUE k 0 {VALUE_BYTES}\r\n\r\nEND\r\n").len() + VALUE_BYTES;
    while all < gets * reply_bytes {
        if beside == Beside::Asker {
            server.net.write(other, b"mn\r\n");
            asked += 1;
        }
        if beside == Beside::Writer && answered >= asked * b"STORED\r\n".len() {
            server.net.write(other, &set("other"));
            asked += 1;
        }
        server.tick(0);
        let sent = server.net.read(reader, usize::MAX).len();
        (most, all) = (most.max(sent), all + sent);
        answered += server.net.read(other, usize::MAX).len();
    }
    server.settle();
    answered += server.net.read(other, usize::MAX).len();
    assert!(
        answered >= 4 * asked,
        "{answered} bytes of answers to {asked}"
    );
    most
}

#[test]
fn a_reader_of_large_values_leaves_others_short_ticks() {
    for seed in 0..20 {
        for beside in [Beside::Nobody, Beside::Writer] {
            let most = most_lent_in_a_tick(seed, beside);
            assert!(most > 200_000, "{most} bytes in one tick, seed {seed}");
        }
        let beside = most_lent_in_a_tick(seed, Beside::Asker);
        // What a tick lends, and a copied piece that the poll before it has sent.
        let most = LENT_BESIDE_OTHERS_BYTES + PIECE_BYTES + 1000;
        assert!(beside < most, "{beside} bytes in one tick, seed {seed}");
    }
}

/// How often ten deep pipelines gave way, beside a client that asks for little at a time or alone.
fn times_pipelines_gave_way(seed: u64, beside: bool) -> usize {
    let settings = Settings {
        requests_per_tick: REQUESTS_PER_TICK_DEFAULT,
        ..Server::settings(1, MEMORY_MB << 20, seed)
    };
    let mut server = Server::with(settings, 64, seed);
    let other = server.net.connect(1 << 20);
    let pipelines: Vec<ClientId> = (0..10).map(|_| server.net.connect(1 << 20)).collect();
    server.settle();
    let asked = if beside { 2 } else { 0 };
    for _ in 0..asked {
        server.net.write(other, b"mn\r\n");
        server.settle();
    }
    for client in &pipelines {
        server.net.write(*client, &b"mn\r\n".repeat(2000));
    }
    server.settle();
    for client in &pipelines {
        let answers = server.net.read(*client, usize::MAX);
        assert_eq!(answers.len(), b"MN\r\n".len() * 2000);
    }
    assert_eq!(server.net.read(other, 100).len(), b"MN\r\n".len() * asked);
    server.net.write(other, b"stats\r\n");
    server.settle();
    let answer = String::from_utf8(server.net.read(other, usize::MAX)).expect("text");
    let yields = answer
        .lines()
        .find_map(|line| line.strip_prefix("STAT conn_yields "));
    yields
        .and_then(|yields| yields.parse().ok())
        .expect(&answer)
}

#[test]
fn deep_pipelines_give_way_to_who_asks_for_little() {
    let times = |beside| -> usize {
        (0..20)
            .map(|seed| times_pipelines_gave_way(seed, beside))
            .sum()
    };
    let (alone, beside) = (times(false), times(true));
    assert!(beside > 2 * alone, "{alone} and {beside} times");
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
