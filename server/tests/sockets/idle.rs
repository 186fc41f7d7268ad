//! What a connection costs that does nothing.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::client::{Client, hit, set, value};
use crate::server::{Server, variants};

/// Connections at once, as far as the limit of open files lets this process and the server have
/// them.
const CONNECTIONS: u64 = 10_000;

/// Memory of the server for each of them; the kernel's comes on top of it.
const CONNECTION_MAX_BYTES: u64 = 1 << 10;

/// Has a connection do what leaves traces: a pipeline over the keys of all workers, and a request
/// in two parts.
fn use_it(client: &mut Client) {
    let gets: Vec<u8> = (0..100)
        .flat_map(|at| format!("get k{at}\r\n").into_bytes())
        .collect();
    let replies: Vec<u8> = (0..100)
        .flat_map(|at| hit(&format!("k{at}"), &value(at, 20)))
        .collect();
    client.ask(&gets, &replies);
    let text = set("k0", &value(0, 20));
    client.send(&[&b"mn\r\n"[..], &text[..10]].concat());
    client.expect(b"MN\r\n");
    client.ask(&text[10..], b"STORED\r\n");
}

#[test]
fn an_idle_connection_costs_less_than_a_kibibyte() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("our own limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("up to the hard limit");
    let count = CONNECTIONS.min(hard.saturating_sub(500));
    assert!(
        count >= 500,
        "only {hard} files may be open, which shows nothing"
    );
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} -m 64 -c {}", count + 200));
        let mut first: Vec<Client> = (0..100).map(|_| server.client()).collect();
        for at in 0..100 {
            first[0].ask(&set(&format!("k{at}"), &value(at, 20)), b"STORED\r\n");
        }
        // What all connections share is there before the first of those that count.
        first.iter_mut().for_each(use_it);
        let before = server.memory_bytes("VmRSS");
        let mut idle: Vec<Client> = Vec::new();
        for _ in 0..count {
            let mut client = server.client();
            use_it(&mut client);
            idle.push(client);
        }
        let each = server.memory_bytes("VmRSS").saturating_sub(before) / count;
        eprintln!("--io {io} -t {threads}: {count} idle connections cost {each} bytes each");
        assert!(each <= CONNECTION_MAX_BYTES, "{each} bytes each");
        // All of them are alive.
        for client in idle.iter_mut().step_by(97) {
            client.ask(b"mn\r\n", b"MN\r\n");
        }
        drop((first, idle));
        server.finish();
    }
}
