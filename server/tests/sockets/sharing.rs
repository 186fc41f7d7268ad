//! Many connections on the same keys, owned by whichever worker: counts must come out exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::client::{Client, hit, set, value};
use crate::server::{Server, until, variants};

/// Runs `each` in several threads with a connection of their own, then looks at the outcome.
fn together(clients: usize, each: fn(usize, &mut Client), check: fn(&mut Client)) {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let mut first = server.client();
        first.ask(&set("count", b"0"), b"STORED\r\n");
        first.ask(&set("text", b""), b"STORED\r\n");
        let threads: Vec<_> = (0..clients)
            .map(|at| {
                let mut client = match at % 2 {
                    0 => server.client(),
                    _ => server.unix_client(),
                };
                thread::spawn(move || each(at, &mut client))
            })
            .collect();
        for thread in threads {
            thread.join().expect("a client");
        }
        check(&mut first);
        drop(first);
        server.finish();
    }
}

#[test]
fn every_increment_counts_once() {
    together(
        6,
        |_, client| {
            for _ in 0..20 {
                client.send(&b"incr count 1\r\n".repeat(100));
                for _ in 0..100 {
                    assert!(client.line().parse::<u64>().is_ok_and(|n| n <= 12_000));
                }
            }
        },
        |client| client.ask(b"get count\r\n", &hit("count", b"12000")),
    );
}

/// Every connection asks for one key and counts for itself in between, while the worker that may own
/// the key stands still for 100 ms once a second.
#[test]
fn a_hot_key_and_a_stalled_worker_lose_and_reorder_no_reply() {
    for (io, threads) in variants() {
        let workers: usize = threads.parse().expect("a number");
        for stalled in (0..workers).step_by((workers - 1).max(1)) {
            let words = format!("--io {io} -t {threads} --debug-stall {stalled}");
            let server = Server::start(&words);
            let mut watcher = server.client();
            watcher.ask(&set("hot", b"the hot one"), b"STORED\r\n");
            let stop = Arc::new(AtomicBool::new(false));
            let clients: Vec<_> = (0..8)
                .map(|at| {
                    let (mut client, stop) = (server.client(), Arc::clone(&stop));
                    thread::spawn(move || {
                        client.ask(&set(&format!("own{at}"), b"0"), b"STORED\r\n");
                        let mut count = 0;
                        while !stop.load(Ordering::Relaxed) {
                            let (mut asked, mut expected) = (Vec::new(), Vec::new());
                            for _ in 0..40 {
                                count += 1;
                                let pair = format!("get hot\r\nincr own{at} 1\r\n");
                                asked.extend_from_slice(pair.as_bytes());
                                expected.extend_from_slice(&hit("hot", b"the hot one"));
                                expected.extend_from_slice(format!("{count}\r\n").as_bytes());
                            }
                            client.ask(&asked, &expected);
                        }
                        count
                    })
                })
                .collect();
            let name = format!("{stalled}:longest_tick_us");
            watcher.ask(b"stats reset\r\n", b"RESET\r\n");
            until("a stall under load", || {
                let stats = watcher.stats_of("workers");
                let longest: u64 = stats[&name].parse().expect("a number");
                (longest >= 100_000).then_some(())
            });
            stop.store(true, Ordering::Relaxed);
            for client in clients {
                assert!(client.join().expect("a client") > 0);
            }
            drop(watcher);
            server.finish();
        }
    }
}

#[test]
fn every_accepted_cas_counts_once() {
    together(
        4,
        |_, client| {
            let mut done = 0;
            while done < 150 {
                client.send(b"gets count\r\n");
                let head = client.line();
                let unique = head.rsplit(' ').next().expect("a unique").to_owned();
                let count: u64 = client.line().parse().expect("a number");
                assert_eq!(client.line(), "END");
                let text = (count + 1).to_string();
                let line = format!("cas count 0 0 {} {unique}\r\n{text}\r\n", text.len());
                client.send(line.as_bytes());
                match client.line().as_str() {
                    "STORED" => done += 1,
                    other => assert_eq!(other, "EXISTS"),
                }
            }
        },
        |client| client.ask(b"get count\r\n", &hit("count", b"600")),
    );
}

#[test]
fn appends_of_many_clients_are_all_there_and_whole() {
    together(
        4,
        |at, client| {
            for round in 0..200 {
                let verb = if round % 2 == 0 { "append" } else { "prepend" };
                let part = format!("<{at}:{round:03}>");
                let line = format!("{verb} text 0 0 {}\r\n{part}\r\n", part.len());
                client.ask(line.as_bytes(), b"STORED\r\n");
            }
        },
        |client| {
            client.send(b"get text\r\n");
            let head = client.line();
            assert_eq!(head, format!("VALUE text 0 {}", 4 * 200 * 7));
            let text = client.line();
            let mut parts: Vec<&str> = text.split_inclusive('>').collect();
            parts.sort_unstable();
            parts.dedup();
            assert_eq!(parts.len(), 800, "a part is missing or torn");
            client.expect(b"END\r\n");
        },
    );
}

#[test]
fn a_connection_reads_its_own_writes_whoever_owns_the_key() {
    together(
        4,
        |at, client| {
            for round in 0..40 {
                let (mut requests, mut replies) = (Vec::new(), Vec::new());
                for key in 0..25 {
                    let name = format!("own{at}-{key}");
                    let len =
                        [5, 300, 17_000, 70_000][(key + round) % 4] * usize::from(key < 5) + key;
                    let text = value(at + round, len);
                    requests.extend_from_slice(&set(&name, &text));
                    requests.extend_from_slice(format!("get {name}\r\n").as_bytes());
                    replies.extend_from_slice(b"STORED\r\n");
                    replies.extend_from_slice(&hit(&name, &text));
                    if key % 3 == 0 {
                        let rest = format!("delete {name}\r\nget {name}\r\n");
                        requests.extend_from_slice(rest.as_bytes());
                        replies.extend_from_slice(b"DELETED\r\nEND\r\n");
                    }
                }
                client.ask(&requests, &replies);
            }
        },
        |client| client.ask(b"mn\r\n", b"MN\r\n"),
    );
}
