//! A get that comes alone is answered on a short way of its own; here it is compared with the long way.

use std::collections::BTreeMap;
use std::time::Duration;

use strata_server::config::{BATCH_MAX, CARRY_STORE_BYTES, LEND_MIN_BYTES, REPLIES_MAX_BYTES};
use strata_server::io::sim::{ClientId, Dice};

use crate::figures::worker_figures;
use crate::server::Server;

/// Among them one that is lent and not copied.
const VALUES_BYTES: [usize; 4] = [0, 32, 700, 40_000];
const KEYS: usize = 40;
const GETS: usize = 3000;

/// Writes a line, in two pieces or as one, and reads the reply.
fn ask(server: &mut Server, client: ClientId, line: &str, cut: Option<usize>) -> Vec<u8> {
    let (first, second) = line.split_at(cut.unwrap_or(0));
    for piece in [first, second] {
        server.net.write(client, piece.as_bytes());
        server.settle();
    }
    server.net.read(client, usize::MAX)
}

/// What is told that both ways have to count alike.
fn figures(server: &mut Server, client: ClientId) -> BTreeMap<String, String> {
    let subjects = ["stats", "stats latency", "stats hotkeys", "stats workers"];
    let mut figures = BTreeMap::new();
    for subject in subjects {
        // The other way has this line in two pieces as well, so that it waits as long.
        let text = ask(server, client, &format!("{subject}\r\n"), Some(3));
        for line in String::from_utf8(text).expect("text").lines() {
            if let Some((name, figure)) = line.strip_prefix("STAT ").and_then(|l| l.split_once(' '))
            {
                figures.insert(format!("{subject} {name}"), figure.to_owned());
            }
        }
    }
    let alike = |name: &str| {
        [
            "stats cmd_get",
            "stats get_hits",
            "stats get_misses",
            "stats bytes_read",
            "stats bytes_written",
            "stats latency get:count",
            "stats workers 0:commands_local",
            "stats workers 0:commands_remote",
            "stats workers 1:commands_local",
        ]
        .contains(&name)
            || name.starts_with("stats hotkeys ")
    };
    figures.retain(|name, _| alike(name));
    figures
}

#[test]
fn a_get_that_comes_alone_is_answered_and_counted_as_one_that_comes_in_pieces() {
    for workers in 1..=2 {
        let mut servers = [(); 2].map(|()| Server::new(workers, 16 << 20, 8, 3));
        let clients = servers.each_mut().map(|server| {
            let client = server.net.connect(1 << 20);
            server.settle();
            client
        });
        for key in 0..KEYS {
            let value = "v".repeat(VALUES_BYTES[key % VALUES_BYTES.len()]);
            let set = format!("set k{key} 5 0 {}\r\n{value}\r\n", value.len());
            for (server, client) in servers.iter_mut().zip(clients) {
                assert_eq!(ask(server, client, &set, None), b"STORED\r\n");
            }
        }
        let mut dice = Dice::new(7);
        for _ in 0..GETS {
            let command = ["get", "gets"][dice.below(2)];
            let end = ["\r\n", "\n"][dice.below(2)];
            let line = format!("{command} k{}{end}", dice.below(KEYS + 4));
            let cut = 1 + dice.below(line.len() - 1);
            let whole = ask(&mut servers[0], clients[0], &line, None);
            let in_pieces = ask(&mut servers[1], clients[1], &line, Some(cut));
            assert!(whole.ends_with(b"END\r\n"), "{line}");
            assert!(whole == in_pieces, "{line}");
        }
        let [whole, in_pieces] = [0, 1].map(|at| figures(&mut servers[at], clients[at]));
        assert_eq!(whole, in_pieces, "{workers} workers");
        assert_eq!(whole["stats cmd_get"], GETS.to_string());
        assert_eq!(whole["stats latency get:count"], GETS.to_string());
        for (server, client) in servers.iter_mut().zip(clients) {
            server.net.end(client);
            server.settle();
            server.assert_nothing_left();
        }
    }
}

/// What a client asks for in one go, and what it is owed for that.
fn some_requests(dice: &mut Dice, client: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut asked, mut owed) = (Vec::new(), Vec::new());
    for _ in 0..1 + dice.below(3) {
        let key = format!("c{client}k{}", dice.below(3));
        let value = format!("VALUE {key} 0 {}\r\n{key}\r\n", key.len());
        let (line, answer) = match dice.below(8) {
            0 => ("mn\r\n".to_owned(), "MN\r\n".to_owned()),
            1 => (
                format!("set {key} 0 0 {}\r\n{key}\r\n", key.len()),
                "STORED\r\n".to_owned(),
            ),
            2 => (
                format!("get {key} none {key}\r\n"),
                format!("{value}{value}END\r\n"),
            ),
            3 => (format!("get none{client}\r\n"), "END\r\n".to_owned()),
            _ => (format!("get {key}\r\n"), format!("{value}END\r\n")),
        };
        asked.extend(line.bytes());
        owed.extend(answer.bytes());
    }
    (asked, owed)
}

#[test]
fn gets_of_many_connections_in_one_tick_are_answered_each_to_its_own() {
    for seed in 0..30 {
        let mut dice = Dice::new(seed);
        let mut server = Server::new(1 + seed as usize % 2, 16 << 20, 8, seed);
        let clients: Vec<ClientId> = (0..5).map(|_| server.net.connect(1 << 20)).collect();
        server.settle();
        for (at, client) in clients.iter().enumerate() {
            for key in 0..3 {
                let key = format!("c{at}k{key}");
                let set = format!("set {key} 0 0 {}\r\n{key}\r\n", key.len());
                let stored = ask(&mut server, *client, &set, None);
                assert_eq!(stored, b"STORED\r\n");
            }
        }
        let mut owed = vec![Vec::new(); clients.len()];
        for _ in 0..60 {
            for (at, client) in clients.iter().enumerate() {
                let (asked, answers) = some_requests(&mut dice, at);
                server.net.write(*client, &asked);
                owed[at].extend(answers);
            }
            // Some of it comes while replies to what was before are on their way.
            server.tick(0);
        }
        server.settle();
        for (client, owed) in clients.iter().zip(&owed) {
            let answers = server.net.read(*client, usize::MAX);
            assert!(
                answers == *owed,
                "seed {seed}: {}",
                String::from_utf8_lossy(&answers)
            );
        }
        for client in clients {
            server.net.end(client);
        }
        server.settle();
        server.assert_nothing_left();
    }
}

#[test]
fn more_gets_than_are_looked_up_together_come_in_one_tick() {
    let clients = 4 * BATCH_MAX;
    for seed in 0..10 {
        let mut settings = Server::settings(1, 16 << 20, seed);
        settings.conns_max = clients;
        let mut server = Server::with(settings, 64, seed);
        server.ios[0].widen(2 * clients);
        let clients: Vec<ClientId> = (0..clients).map(|_| server.net.connect(1 << 20)).collect();
        for (at, client) in clients.iter().enumerate() {
            let set = format!("set k{at} 0 0 3\r\n{at:03}\r\n");
            assert_eq!(ask(&mut server, *client, &set, None), b"STORED\r\n");
        }
        for (at, client) in clients.iter().enumerate() {
            server
                .net
                .write(*client, format!("get k{at}\r\n").as_bytes());
        }
        server.tick(0);
        server.settle();
        for (at, client) in clients.iter().enumerate() {
            let owed = format!("VALUE k{at} 0 3\r\n{at:03}\r\nEND\r\n");
            let answer = server.net.read(*client, usize::MAX);
            assert!(answer == owed.as_bytes(), "{at}, seed {seed}");
        }
    }
}

#[test]
fn lines_that_are_a_value_are_not_answered() {
    const LINE: &[u8] = b"get k\r\n";
    for seed in 0..100 {
        let mut server = Server::new(1, 16 << 20, 8, seed);
        let client = server.net.connect(1 << 20);
        // What it speaks is told by its first line.
        assert_eq!(ask(&mut server, client, "mn\r\n", None), b"MN\r\n");
        // So large that what has arrived of it does not wait with the input.
        let value = LINE.repeat(2 * CARRY_STORE_BYTES / LINE.len());
        let set = format!("set k 0 0 {}\r\n", value.len());
        server.net.write(client, set.as_bytes());
        let (lines, rest) = value.split_at(20 * LINE.len());
        for line in lines.chunks(LINE.len()) {
            server.net.write(client, line);
            server.tick(0);
        }
        server.net.write(client, rest);
        server.net.write(client, b"\r\n");
        server.settle();
        assert_eq!(server.net.read(client, usize::MAX), b"STORED\r\n");
        server.net.end(client);
        server.settle();
        server.assert_nothing_left();
    }
}

#[test]
fn replies_to_gets_that_came_alone_count_as_others_do() {
    let most = LEND_MIN_BYTES - 100;
    let clients = REPLIES_MAX_BYTES / most + 10;
    let mut settings = Server::settings(1, 16 << 20, 3);
    settings.conns_max = clients + 2;
    let mut server = Server::with(settings, 64, 3);
    let asker = server.net.connect(1 << 20);
    let set = format!("set k 0 0 {most}\r\n{}\r\n", "v".repeat(most));
    assert_eq!(ask(&mut server, asker, &set, None), b"STORED\r\n");
    let full = |server: &mut Server| {
        let answer = ask(server, asker, &"get none\r\n".repeat(3), None);
        assert_eq!(answer, b"END\r\n".repeat(3));
        worker_figures(server, asker)["0:replies_full"]
    };
    assert_eq!(full(&mut server), 0);
    // None of them takes its reply.
    let deaf: Vec<ClientId> = (0..clients).map(|_| server.net.connect(10)).collect();
    for line in ["mn\r\n", "get k\r\n"] {
        for client in &deaf {
            server.net.write(*client, line.as_bytes());
        }
        server.settle();
    }
    assert!(full(&mut server) > 0);
    for client in deaf {
        server.net.reset(client);
    }
    server.net.end(asker);
    server.settle();
    server.assert_nothing_left();
}

#[test]
fn a_lent_value_that_is_not_read_counts_as_unanswered_either_way() {
    let [whole, in_pieces] = [None, Some(3)].map(|cut| {
        let mut server = Server::new(1, 16 << 20, 8, 3);
        let asker = server.net.connect(1 << 20);
        let set = format!("set k 0 0 200000\r\n{}\r\n", "v".repeat(200_000));
        assert_eq!(ask(&mut server, asker, &set, None), b"STORED\r\n");
        let deaf = server.net.connect(10);
        assert_eq!(ask(&mut server, deaf, "mn\r\n", None), b"MN\r\n");
        server.elapsed += Duration::from_secs(3);
        assert_eq!(ask(&mut server, deaf, "get k\r\n", cut).len(), 10);
        server.elapsed += Duration::from_secs(2);
        let mut figures = figures(&mut server, asker);
        assert_eq!(figures["stats cmd_get"], "1");
        // How much of the value has left is the back end's dice.
        figures.remove("stats bytes_written");
        let conns = ask(&mut server, asker, "stats conns\r\n", Some(3));
        server.net.reset(deaf);
        server.settle();
        (figures, String::from_utf8(conns).expect("text"))
    });
    assert_eq!(whole, in_pieces);
    assert_eq!(whole.0.get("stats latency get:count"), None);
    // The deaf one made its last request two seconds ago.
    assert!(whole.1.contains("secs_since_last_cmd 2\r\n"), "{}", whole.1);
}
