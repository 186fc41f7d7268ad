//! Clients that send what no client should, do not read, or leave.

use std::time::Instant;

use crate::client::{ANSWER_MAX, Client, Dice, Neighbour, hit, set, value};
use crate::server::{PATIENCE, Server, until, variants};

/// Runs an attack on every back end, beside a neighbour that must not notice.
fn attacked(words: &str, attack: impl Fn(&Server)) {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} {words}"));
        let neighbour = Neighbour::start(&server);
        attack(&server);
        neighbour.stop();
        server.finish();
    }
}

#[test]
fn garbage_costs_at_most_its_own_connection() {
    attacked("", |server| {
        let mut dice = Dice::new(0x9e37_79b9);
        let mut garbage: Vec<Vec<u8>> = vec![
            vec![0; 100_000],
            vec![b'\n'; 100_000],
            vec![b' '; 300_000],
            vec![b'a'; 300_000],
            b"get ".repeat(50_000),
            [b"get ".to_vec(), vec![b'k'; 300_000]].concat(),
            [b"set ".to_vec(), vec![b'k'; 300_000]].concat(),
            [b"set k 0 0 5 ".to_vec(), b"noreply ".repeat(40_000)].concat(),
            b"set k 0 0 -1\r\nset k 0 0 99999999999999999999\r\nset k 0 0 4294967295\r\nxx"
                .to_vec(),
            b"set k 0 0 2147483647 noreply\r\n".repeat(3),
            b"incr k 99999999999999999999999\r\ndecr k -1\r\ntouch k x\r\n".repeat(1000),
            b"stats\r\nstats conns\r\nstats items\r\n".repeat(300),
            b"\x80\x01\x00\x03\x00\x00\x00\x00\x00\x00\x00\x08\xff\xff\xff\xff".repeat(2000),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".repeat(500),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(500),
            b"quit\r\n".repeat(20_000),
            b"verbosity 4000000000\r\nflush_all x\r\ncas k 0 0 1\r\n".to_vec(),
        ];
        for _ in 0..60 {
            let len = dice.below(20_000);
            garbage.push(dice.bytes(len));
            // Random, and yet lines of words.
            let alphabet = b"get set cas incr stats noreply 0 1 -5 k k2 \r\n\r\n\t\0\xff";
            let words = (0..len).map(|_| alphabet[dice.below(alphabet.len())]);
            garbage.push(words.collect());
            // Random, and yet packets, whose values may be longer than what comes.
            let mut packets = Vec::new();
            while packets.len() < len {
                let (opcode, extras) = (dice.below(0x26) as u8, [0, 4, 8, 20][dice.below(4)]);
                packets.extend([0x80, opcode, 0, 1, extras, 0, 0, 0, 0, 0]);
                packets.extend([dice.below(64) as u8, dice.below(256) as u8]);
                let rest = dice.below(300);
                packets.extend(dice.bytes(rest));
            }
            garbage.push(packets);
        }
        for bytes in &garbage {
            let mut client = server.client();
            let _ = client.send_until_stuck(bytes);
            client.half_close();
            assert!(
                client.drain().is_some(),
                "a connection is still open {PATIENCE:?} after {:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(60)])
            );
        }
    });
}

#[test]
fn a_value_larger_than_announced_spoils_only_its_own_command() {
    attacked("", |server| {
        let mut client = server.client();
        client.send(b"set k 0 0 5\r\nabcdefghijkl\r\nmn\r\n");
        assert_eq!(client.line(), "CLIENT_ERROR bad data chunk");
        until("the connection finds its way back", || {
            (client.line() == "MN").then_some(())
        });
        client.ask(b"get k\r\n", b"END\r\n");
        let mut request = b"set large 0 0 5000000\r\n".to_vec();
        request.extend_from_slice(&value(1, 5_000_000));
        request.extend_from_slice(b"\r\nmn\r\n");
        client.ask(
            &request,
            b"SERVER_ERROR object too large for cache\r\nMN\r\n",
        );
        // More than announced, in the middle of a value that is taken in piece by piece.
        let mut request = b"set large 0 0 100000\r\n".to_vec();
        request.extend_from_slice(&value(1, 100_050));
        client.ask(&request, b"CLIENT_ERROR bad data chunk\r\n");
    });
}

#[test]
fn half_a_value_then_silence_or_departure_leaves_nothing_behind() {
    attacked("-I 1m", |server| {
        let half = [b"set half 0 0 1000000\r\n".to_vec(), value(1, 500_000)].concat();
        // Together more than the server takes in at once.
        let mut silent: Vec<Client> = Vec::new();
        for at in 0..120 {
            let mut client = match at % 2 {
                0 => server.client(),
                _ => server.unix_client(),
            };
            client.send_until_stuck(&half);
            silent.push(client);
        }
        server.client().round_trip("small", &value(3, 5000));
        for (at, client) in silent.into_iter().enumerate() {
            match at % 3 {
                0 => client.reset(),
                1 => drop(client),
                _ => {
                    let mut client = client;
                    client.half_close();
                    assert!(
                        client.drain().is_some(),
                        "half a value keeps its connection"
                    );
                }
            }
        }
        // All of the room for values under way is free again.
        let mut client = server.client();
        until("room for a large value", || {
            client.send(&set("whole", &value(4, 1_000_000)));
            (client.line() == "STORED").then_some(())
        });
        client.ask(b"get half\r\n", b"END\r\n");
        client.ask(b"get whole\r\n", &hit("whole", &value(4, 1_000_000)));
    });
}

#[test]
fn half_sent_values_do_not_keep_others_from_storing_large_ones() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let workers: usize = threads.parse().expect("a number");
        let half = [b"set half 0 0 1000000\r\n".to_vec(), value(1, 900_000)].concat();
        // Each worker has room for 33 MiB of them.
        let mut silent: Vec<Client> = (0..45 * workers).map(|_| server.client()).collect();
        for client in &mut silent {
            client.send_until_stuck(&half);
        }
        // Clients in turn belong to each worker.
        for at in 0..workers {
            for len in [20_000, 1_000_000] {
                let mut client = server.client();
                until("room for a large value", || {
                    client.send(&set(&format!("whole{at}"), &value(at, len)));
                    (client.line() == "STORED").then_some(())
                });
            }
        }
        drop(silent);
        server.finish();
    }
}

#[test]
fn idle_connections_are_closed_when_they_are_to_be() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} -o idle_timeout=1"));
        let mut idle: Vec<Client> = (0..50).map(|_| server.client()).collect();
        let mut unix = server.unix_client();
        let mut busy = server.client();
        until("the idle connections are closed", || {
            let stats = busy.stats();
            (stats.get("idle_kicks")? == "50").then_some(())
        });
        for client in &mut idle {
            assert_eq!(client.drain().as_deref(), Some(&b""[..]));
        }
        unix.round_trip("k", b"v");
        let settings = busy.stats_of("settings");
        assert_eq!(settings["idle_timeout"], "1");
        drop((unix, busy));
        server.finish();
    }
}

#[test]
fn out_of_descriptors_newcomers_wait_without_cost_until_there_are_some() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let mut clients: Vec<Client> = (0..40).map(|_| server.client()).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            client.round_trip(&format!("k{at}"), b"v");
        }
        // Numbers that are free below the last one may still be given out.
        server.limit_files(server.last_file() + 1);
        let mut waiting: Vec<Client> = (0..30).map(|_| server.client()).collect();
        for client in &mut waiting {
            client.send(b"mn\r\n");
        }
        server.until_at_rest();
        clients[0].round_trip("k", b"served meanwhile");
        drop(clients.split_off(5));
        for client in &mut waiting {
            client.expect(b"MN\r\n");
        }
        // The same when nobody leaves and the limit is raised.
        server.limit_files(3);
        let mut late = server.client();
        late.send(b"mn\r\n");
        server.until_at_rest();
        server.limit_files(2000);
        late.expect(b"MN\r\n");
        drop((clients, waiting, late));
        server.finish();
    }
}

#[test]
fn unread_answers_stop_only_their_own_connection() {
    for (len, clients) in [(10, 4), (100 << 10, 4), ((1 << 20) - 100, 4)] {
        attacked("", |server| {
            let text = value(len, len);
            server.client().ask(&set("k", &text), b"STORED\r\n");
            let gets = b"get k\r\n".repeat(100_000);
            let mut deaf: Vec<(Client, usize)> = Vec::new();
            for at in 0..clients {
                let mut client = match at % 2 {
                    0 => server.client(),
                    _ => server.unix_client(),
                };
                let sent = client.send_until_stuck(&gets);
                deaf.push((client, sent));
            }
            // Whoever begins to read gets every answer after all.
            let (mut client, sent) = deaf.remove(0);
            let reply = hit("k", &text);
            let count = (sent / 7).min((20 << 20) / reply.len());
            for _ in 0..count {
                client.expect(&reply);
            }
            for (at, (client, _)) in deaf.into_iter().enumerate() {
                if at % 2 == 0 {
                    client.reset();
                }
            }
        });
    }
}

#[test]
fn many_unread_pipelines_stay_inside_the_memory_promised() {
    for len in [15_000, 700_000] {
        attacked("-c 400", |server| {
            let mut client = server.client();
            for key in 0..16 {
                client.ask(&set(&format!("k{key}"), &value(key, len)), b"STORED\r\n");
            }
            let gets: Vec<u8> = (0..100_000)
                .flat_map(|at| format!("get k{}\r\n", at % 16).into_bytes())
                .collect();
            let writers: Vec<_> = (0..4)
                .map(|_| {
                    let mut clients: Vec<Client> = (0..50).map(|_| server.client()).collect();
                    let gets = gets.clone();
                    std::thread::spawn(move || {
                        for client in &mut clients {
                            // One write, as much at once as the socket takes.
                            client.send_at_once(&gets);
                        }
                        clients
                    })
                })
                .collect();
            let clients: Vec<Client> = writers
                .into_iter()
                .flat_map(|writer| writer.join().expect("a writer"))
                .collect();
            server.client().round_trip("between", b"them");
            drop(clients);
        });
    }
}

#[test]
fn busy_pipelines_do_not_starve_a_newcomer() {
    attacked("-c 400", |server| {
        // One key, so that with several workers most requests need a credit of the same peer.
        let gets = b"get nokey\r\n".repeat(200_000);
        let mut busy: Vec<Client> = (0..200).map(|_| server.client()).collect();
        for client in &mut busy {
            client.send_at_once(&gets);
        }
        for at in 0..10 {
            let started = Instant::now();
            server
                .client()
                .round_trip(&format!("k{at}"), &value(at, 20_000));
            let took = started.elapsed();
            assert!(took < ANSWER_MAX, "a newcomer waited for {took:?}");
        }
    });
}

#[test]
fn a_connection_may_end_at_any_byte() {
    let mut session = set("k", &value(1, 50));
    session.extend_from_slice(b"get k nokey\r\ngets k\r\nincr k 5\r\nset l 0 0 9000\r\n");
    session.extend_from_slice(&value(2, 9000));
    session.extend_from_slice(b"\r\nget l l\r\nstats\r\ndelete k\r\n");
    let cuts: Vec<usize> = (0..130)
        .chain((130..session.len()).step_by(997))
        .chain(session.len() - 40..=session.len())
        .collect();
    attacked("", |server| {
        for (at, cut) in cuts.iter().enumerate() {
            let mut client = match at % 5 {
                0 => server.unix_client(),
                _ => server.client(),
            };
            client.send(&session[..*cut]);
            match at % 3 {
                0 => client.reset(),
                1 => drop(client),
                _ => {
                    client.half_close();
                    assert!(client.drain().is_some(), "cut at {cut}: still open");
                }
            }
        }
    });
}

#[test]
fn a_large_value_may_arrive_in_tiny_pieces() {
    attacked("", |server| {
        let text = value(5, (1 << 20) - 100);
        let request = set("tiny", &text);
        let mut client = server.client();
        let (mut at, mut step) = (0, 1);
        while at < request.len() {
            let end = (at + step).min(request.len());
            client.send(&request[at..end]);
            (at, step) = (end, step % 251 + 1);
        }
        client.expect(b"STORED\r\n");
        client.ask(b"get tiny\r\n", &hit("tiny", &text));
    });
}

#[test]
fn thousands_of_connections_come_and_go() {
    attacked("", |server| {
        // The neighbour is accepted before this one.
        let mut first = server.client();
        first.round_trip("first", b"v");
        let files = server.file_count();
        for round in 0..8 {
            let mut clients: Vec<Client> = (0..150).map(|_| server.client()).collect();
            clients.extend((0..50).map(|_| server.unix_client()));
            for (at, mut client) in clients.into_iter().enumerate() {
                match (at + round) % 5 {
                    0 => client.reset(),
                    1 => drop(client),
                    2 => client.round_trip(&format!("k{at}"), b"v"),
                    3 => client.send(b"get k1 k2 k3\r\nget"),
                    _ => {
                        client.send(b"quit\r\n");
                        assert_eq!(client.drain().as_deref(), Some(&b""[..]));
                    }
                }
            }
        }
        until("all descriptors are closed", || {
            (server.file_count() <= files).then_some(())
        });
    });
}

#[test]
fn the_connection_limit_refuses_with_a_word_and_recovers() {
    attacked("-c 12", |server| {
        // The neighbour is the twelfth.
        let mut clients: Vec<Client> = (0..11).map(|_| server.client()).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            client.round_trip(&format!("k{at}"), b"v");
        }
        for _ in 0..50 {
            let mut late = server.client();
            assert_eq!(
                late.drain().as_deref(),
                Some(&b"ERROR Too many open connections\r\n"[..])
            );
        }
        let stats = clients[0].stats();
        assert_eq!(stats["curr_connections"], "12");
        assert_eq!(stats["rejected_connections"], "50");
        drop(clients.pop());
        until("a place is free again", || {
            let mut client = server.client();
            client.send_until_stuck(b"mn\r\nquit\r\n");
            (client.drain().as_deref() == Some(b"MN\r\n")).then_some(())
        });
    });
}

#[test]
fn one_line_may_name_a_hundred_thousand_keys() {
    attacked("", |server| {
        let mut client = server.client();
        let (mut line, mut reply) = (b"get".to_vec(), Vec::new());
        for at in 0..100_000 {
            line.extend_from_slice(format!(" key{at}").as_bytes());
            if at % 100 == 0 {
                let len = if at % 10_000 == 0 { 50_000 } else { 100 };
                let text = value(at, len);
                client.ask(&set(&format!("key{at}"), &text), b"STORED\r\n");
                reply.extend_from_slice(format!("VALUE key{at} 0 {len}\r\n").as_bytes());
                reply.extend_from_slice(&text);
                reply.extend_from_slice(b"\r\n");
            }
        }
        line.extend_from_slice(b"\r\n");
        reply.extend_from_slice(b"END\r\n");
        client.ask(&line, &reply);
        // The same without reading, and then gone.
        server.unix_client().send_until_stuck(&line.repeat(2));
    });
}

#[test]
fn writing_far_more_than_the_memory_forgets_but_never_lies() {
    attacked("-m 8 -I 512k", |server| {
        let mut client = server.client();
        for round in 0..3 {
            let mut batch = Vec::new();
            for at in 0..4000 {
                let key = round * 4000 + at;
                let len = if at % 100 == 0 { 300_000 } else { key % 3000 };
                let mut request = set(&format!("k{key}"), &value(key, len));
                let line_end = request.iter().position(|byte| *byte == b'\r');
                let line_end = line_end.expect("a line");
                request.splice(line_end..line_end, b" noreply".iter().copied());
                batch.extend_from_slice(&request);
            }
            client.send(&batch);
            client.ask(b"mn\r\n", b"MN\r\n");
            let mut hits = 0;
            for at in (0..4000).step_by(7) {
                let key = round * 4000 + at;
                let len = if at % 100 == 0 { 300_000 } else { key % 3000 };
                client.send(format!("get k{key}\r\n").as_bytes());
                let head = client.line();
                if head == "END" {
                    continue;
                }
                assert_eq!(head, format!("VALUE k{key} 0 {len}"));
                client.expect(&[&value(key, len)[..], b"\r\nEND\r\n"].concat());
                hits += 1;
            }
            assert!(hits > 50, "only {hits} of what was just written are there");
        }
    });
}

#[test]
fn silent_and_stuck_connections_cost_no_processor_time() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let text = value(1, 1_000_000);
        let mut client = server.client();
        client.ask(&set("k", &text), b"STORED\r\n");
        let mut stuck: Vec<Client> = Vec::new();
        for at in 0..30 {
            let mut client = match at % 2 {
                0 => server.client(),
                _ => server.unix_client(),
            };
            match at % 5 {
                0 => {}
                1 => client.send(b"get "),
                2 => client.send(b"set half 0 0 100000\r\nabc"),
                3 => {
                    client.send_until_stuck(&b"get k\r\n".repeat(20_000));
                }
                _ => {
                    client.send_until_stuck(&b"get k\r\n".repeat(100));
                    client.half_close();
                }
            }
            stuck.push(client);
        }
        client.round_trip("after", b"them");
        server.until_at_rest();
        drop((client, stuck));
        server.finish();
    }
}
