//! What an operator asks of a drop-in: options, passwords, signals, and a clock for tests.

use std::io::Write;

use nix::sys::signal::{Signal, kill};

use crate::client::{Client, hit, set};
use crate::packet::{Packet, REQUEST};
use crate::server::{Folder, Server, refused, until, variants};

/// Says who it is.
fn knock(client: &mut Client, pair: &str, reply: &[u8]) {
    client.ask(
        format!("set x 0 0 {}\r\n{pair}\r\n", pair.len()).as_bytes(),
        reply,
    );
}

#[test]
fn options_of_other_parts_are_named_in_one_line() {
    let words = "-f 1.1 -n 96 -N 1 -e /tmp/none -R 20 -o modern,slab_reassign,no_lru_crawler,hashpower=16 -L -r -D /";
    let server = Server::start(words);
    let said = server.said();
    let lines = said.lines().filter(|line| line.contains("without effect"));
    let lines: Vec<&str> = lines.collect();
    let expected = "strata: accepted, and without effect here: -f -n -e -N -o modern -o slab_reassign -o no_lru_crawler -o hashpower";
    assert!(lines.len() == 1 && lines[0].ends_with(expected), "{said}");
    server.finish();
}

#[test]
fn nonsense_on_the_command_line_ends_with_64() {
    for (words, part) in [
        ("-p -1 -o bogus", "bogus"),
        ("-p -1 -o hashpower=99", "hashpower"),
        ("-p -1 -Z", "TLS"),
        ("-p -1 -S", "SASL"),
        ("-U 11211", "amplify"),
        ("--no-such-flag", "no-such-flag"),
        ("-t x", "x"),
        ("-c 0", "connections"),
    ] {
        let (said, code) = refused(words, |_| {});
        assert!(said.contains(part), "{words}: {said}");
        assert_eq!(code, 64, "{words}: {said}");
    }
}

#[test]
fn each_listener_is_listed_and_speaks_its_protocol() {
    for (io, threads) in variants() {
        let listeners =
            "-l proto[ascii]:127.0.0.1,proto[binary]:127.0.0.1 -l tag[a]:127.0.0.1 -B ascii";
        let server = Server::start(&format!("--io {io} -t {threads} {listeners}"));
        let mut client = server.client();
        let conns = client.stats_of("conns");
        let state = |fd: &str| conns[&format!("{fd}:state")].clone();
        let mut fds: Vec<u32> = Vec::new();
        let mut ports: Vec<u16> = Vec::new();
        for (name, addr) in &conns {
            let Some(fd) = name.strip_suffix(":addr") else {
                continue;
            };
            fds.push(fd.parse().expect("a number"));
            let port = addr.strip_prefix("tcp:127.0.0.1:");
            if let ("conn_listening", Some(port)) = (&state(fd)[..], port) {
                assert!(!conns.contains_key(&format!("{fd}:listen_addr")));
                ports.push(port.parse().expect("a port"));
            }
        }
        // Three TCP listeners, one unix socket, and whoever asks.
        assert_eq!((fds.len(), ports.len()), (5, 3), "{conns:?}");
        let noop = Packet {
            magic: REQUEST,
            opcode: 0x0a,
            ..Packet::default()
        };
        let noop = noop.bytes();
        let speaks = |port: u16| {
            // Some connections stay with the worker that accepts, some do not.
            let each = |request: &[u8], reply: &[u8]| {
                let spoken = (0..3).filter(|_| {
                    let mut client = Client::tcp(port);
                    client.send(request);
                    client.half_close();
                    client.drain().as_deref() == Some(reply)
                });
                spoken.count()
            };
            let mut answer = noop.clone();
            answer[0] = 0x81;
            (each(b"mn\r\n", b"MN\r\n"), each(&noop, &answer))
        };
        ports.sort_by_key(|port| *port != server.port);
        assert_eq!(speaks(ports[0]), (3, 0), "proto[ascii]");
        let mut others = [speaks(ports[1]), speaks(ports[2])];
        others.sort_unstable();
        assert_eq!(others, [(0, 3), (3, 0)], "proto[binary], and -B ascii");
        let inter = &client.stats_of("settings")["inter"];
        assert_eq!(
            inter,
            "proto[ascii]:127.0.0.1,proto[binary]:127.0.0.1,tag[a]:127.0.0.1"
        );
        drop(client);
        server.finish();
    }
}

#[test]
fn nothing_is_answered_before_the_password_is_right() {
    for (io, threads) in variants() {
        let folder = Folder::new();
        let users = folder.file("users");
        std::fs::write(&users, "u:pw\nbob:a secret: word\n").expect("a file");
        let words = format!("--io {io} -t {threads} -A -Y {}", users.display());
        let server = Server::start(&words);
        for mut client in [server.client(), server.unix_client()] {
            for request in [
                &b"version\r\n"[..],
                b"get k\r\n",
                b"shutdown\r\n",
                b"stats\r\n",
            ] {
                client.ask(request, b"CLIENT_ERROR unauthenticated\r\n");
            }
            knock(
                &mut client,
                "u pwx",
                b"CLIENT_ERROR authentication failure\r\n",
            );
            knock(
                &mut client,
                "bob pw",
                b"CLIENT_ERROR authentication failure\r\n",
            );
            knock(
                &mut client,
                &"u".repeat(9000),
                b"CLIENT_ERROR bad authentication token format\r\n",
            );
            client.ask(
                b"set x 0 0 16385\r\n",
                b"CLIENT_ERROR auth token too long\r\n",
            );
            knock(&mut client, "bob a secret: word", b"STORED\r\n");
            client.round_trip("key", b"value");
            // What a client of the others would send is a value like any other now.
            knock(&mut client, "u pw", b"STORED\r\n");
            client.ask(b"get x\r\n", &hit("x", b"u pw"));
            // Behind the password at once.
            let mut eager = server.client();
            eager.send(b"set x 0 0 4\r\nu pw\r\nget key\r\n");
            eager.expect(&[b"STORED\r\n", &hit("key", b"value")[..]].concat());
        }
        let mut short = server.client();
        short.send(b"mn\r\n");
        assert_eq!(short.drain().as_deref(), Some(&b""[..]));
        let mut endless = server.client();
        endless.send_until_stuck(&[b's'; 4096]);
        assert_eq!(endless.drain().as_deref(), Some(&b""[..]));
        let mut client = server.client();
        knock(&mut client, "u pw", b"STORED\r\n");
        let stats = client.stats();
        assert_eq!(
            (&stats["auth_cmds"][..], &stats["auth_errors"][..]),
            ("9", "4")
        );
        assert_eq!(
            client.stats_of("settings")["auth_enabled_ascii"],
            users.display().to_string()
        );
        drop((client, short, endless));
    }
}

#[test]
fn a_hang_up_reads_the_passwords_again() {
    for (io, threads) in variants() {
        let folder = Folder::new();
        let users = folder.file("users");
        std::fs::write(&users, "u:old\n").expect("a file");
        let server = Server::start(&format!("--io {io} -t {threads} -Y {}", users.display()));
        let mut inside = server.client();
        knock(&mut inside, "u old", b"STORED\r\n");
        std::fs::write(&users, "u:new\n").expect("a file");
        let mut outside = server.client();
        knock(
            &mut outside,
            "u new",
            b"CLIENT_ERROR authentication failure\r\n",
        );
        kill(server.pid, Signal::SIGHUP).expect("the server is alive");
        until("the new password is known", || {
            let mut client = server.client();
            client.send(b"set x 0 0 5\r\nu new\r\n");
            (client.line() == "STORED").then_some(())
        });
        // A file that cannot be read leaves those known that were, and who is in stays in.
        let mut file = std::fs::File::create(&users).expect("a file");
        file.write_all(b"nonsense").expect("room");
        kill(server.pid, Signal::SIGHUP).expect("the server is alive");
        until("the notice", || {
            server.said().contains("line 1").then_some(())
        });
        until("every worker has heard", || {
            let mut client = server.client();
            client.send(b"set x 0 0 5\r\nu new\r\n");
            (client.line() == "STORED").then_some(())
        });
        assert!(!server.said().contains("nonsense"), "a secret in the log");
        inside.round_trip("k", b"v");
    }
}

#[test]
fn passwords_that_cannot_be_read_refuse_the_start() {
    let folder = Folder::new();
    let users = folder.file("users");
    let words = format!("-p -1 -Y {}", users.display());
    let (said, code) = refused(&words, |_| {});
    assert!(said.contains("-Y") && code == 71, "{code}: {said}");
    std::fs::write(&users, "u:pw\nnobody\n").expect("a file");
    let (said, code) = refused(&words, |_| {});
    assert!(said.contains("line 2") && code == 71, "{code}: {said}");
}

#[test]
fn a_test_moves_the_clock_of_every_worker_at_once() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} --debug-clock"));
        let mut client = server.client();
        client.ask(b"debugtime p\r\n", b"OK\r\n");
        for round in 0..20 {
            let keys: Vec<String> = (0..20).map(|at| format!("k{round}-{at}")).collect();
            for key in &keys {
                let request = format!("set {key} 0 100 1\r\nv\r\n");
                client.ask(request.as_bytes(), b"STORED\r\n");
            }
            client.ask(b"debugtime 99\r\n", b"OK\r\n");
            for key in &keys {
                client.ask(format!("get {key}\r\n").as_bytes(), &hit(key, b"v"));
            }
            client.ask(b"debugtime 1\r\n", b"OK\r\n");
            for key in &keys {
                client.ask(format!("get {key}\r\n").as_bytes(), b"END\r\n");
            }
        }
        client.ask(b"debugtime r\r\n", b"OK\r\n");
        client.ask(b"debugtime x\r\n", b"ERROR\r\n");
        drop(client);
        server.finish();
    }
    let server = Server::start("");
    let mut client = server.client();
    client.ask(b"debugtime 5\r\n", b"ERROR\r\n");
    client.ask(&set("k", b"v"), b"STORED\r\n");
    drop(client);
    server.finish();
}
