//! What a server tells of its workers and of hot keys: what was asked, exactly where it counts and nearly where it samples.

use std::collections::HashMap;
use std::time::Duration;

use strata_server::io::sim::ClientId;

use crate::server::Server;

/// The figures of `stats workers`, asked by a client of its own.
pub fn worker_figures(server: &mut Server, client: ClientId) -> HashMap<String, u64> {
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
