//! A stop in the middle of everything: what has arrived is answered, and every connection is closed.

use strata_server::io::sim::{ClientId, Dice};
use strata_server::worker::Ask;

use crate::client::Client;
use crate::server::{MEMORY_MB, Server};

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
        for ask in &mut server.asks {
            ask.send(Ask::Stop).expect("room for one");
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
        for ask in &mut server.asks {
            ask.send(Ask::Stop).expect("room for one");
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
    server.asks[0].send(Ask::Stop).expect("room for one");
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
