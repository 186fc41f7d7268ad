//! A get that comes alone is answered on a short way of its own; here it is compared with the long way.

use std::collections::BTreeMap;

use strata_server::io::sim::{ClientId, Dice};

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
