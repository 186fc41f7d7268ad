//! Watchers and dumps: complete while they are kept up with, honest about what they lose, and in
//! nobody's way.

use std::collections::HashSet;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::client::{Client, Neighbour, hit, set, value};
use crate::server::{Server, until, variants};

fn watch(server: &Server, kinds: &str) -> Client {
    let mut watcher = server.client();
    watcher.ask(format!("watch {kinds}\r\n").as_bytes(), b"OK\r\n");
    watcher
}

/// The next line without its time and number.
fn told(watcher: &mut Client) -> String {
    let line = watcher.line();
    let (head, rest) = line.split_once(" gid=").expect("a number");
    assert!(head.starts_with("ts="), "{line}");
    rest.split_once(' ').expect("a text").1.to_owned()
}

/// The same without the number of the connection.
fn told_of_anyone(watcher: &mut Client) -> String {
    let text = told(watcher);
    let words = text.split(' ').filter(|word| !word.starts_with("cfd="));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_watcher_is_told_what_memcached_tells() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let mut watcher = watch(&server, "fetchers mutations deletions");
        let mut client = server.client();
        for (request, reply, lines) in [
            (
                "set a%20 0 0 3\r\nabc\r\n",
                "STORED\r\n",
                &[
                    "type=item_get key=a%2520 status=not_found clsid=0 size=0",
                    "type=item_store key=a%2520 status=stored cmd=set ttl=0 clsid=1 size=3",
                ][..],
            ),
            (
                "get a%20 miss\r\n",
                "VALUE a%20 0 3\r\nabc\r\nEND\r\n",
                &["type=item_get key=a%2520 status=found clsid=1 size=3"],
            ),
            (
                "cas zz 0 10 1 9999\r\nx\r\n",
                "NOT_FOUND\r\n",
                &[
                    "type=item_get key=zz status=not_found clsid=0 size=0",
                    "type=item_store key=zz status=not_found cmd=cas ttl=10 clsid=1 size=1",
                ],
            ),
            (
                "append a%20 0 0 1\r\nx\r\n",
                "STORED\r\n",
                &[
                    "type=item_get key=a%2520 status=found clsid=1 size=3",
                    "type=item_store key=a%2520 status=stored cmd=append ttl=0 clsid=1 size=4",
                ],
            ),
            (
                "delete a%20\r\n",
                "DELETED\r\n",
                &[
                    "type=item_get key=a%2520 status=found clsid=1 size=4",
                    "type=deleted key=a%2520 cmd=delete clsid=1 size=4",
                ],
            ),
            (
                "delete a%20 noreply\r\nmn\r\n",
                "MN\r\n",
                &["type=item_get key=a%2520 status=not_found clsid=0 size=0"],
            ),
        ] {
            client.ask(request.as_bytes(), reply.as_bytes());
            let mut got: Vec<String> = lines.iter().map(|_| told_of_anyone(&mut watcher)).collect();
            if request.contains("miss") {
                // Two keys may be two workers', whose lines come when they come.
                got.push(told_of_anyone(&mut watcher));
                let other = "type=item_get key=miss status=not_found clsid=0 size=0";
                assert!(got.iter().any(|line| line == other), "{got:?}");
                got.retain(|line| line != other);
            }
            assert_eq!(got, lines, "{request:?}");
        }
        let mut second = server.client();
        second.ask(
            b"version\r\nwatch\r\n",
            b"VERSION 1.6.45 strata-0.1.0\r\nERROR cannot pipeline other commands before watch\r\n",
        );
        second.ask(b"watch foo\r\n", b"ERROR\r\n");
        drop((watcher, client, second));
        server.finish();
    }
    let server = Server::start("-W");
    let mut client = server.client();
    client.ask(b"watch\r\n", b"CLIENT_ERROR watch commands not allowed\r\n");
    drop(client);
    server.finish();
}

#[test]
fn no_line_is_lost_while_the_watcher_keeps_up() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let mut watchers = [watch(&server, "mutations"), watch(&server, "mutations")];
        let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for round in 0..100 {
            for (at, client) in clients.iter_mut().enumerate() {
                client.round_trip(&format!("k{at}-{round}"), b"v");
            }
            for watcher in &mut watchers {
                let mut keys: Vec<String> = (0..4).map(|_| told(watcher)).collect();
                keys.sort();
                for (at, line) in keys.iter().enumerate() {
                    assert!(line.contains(&format!("key=k{at}-{round} ")), "{line}");
                }
            }
        }
        let stats = clients[0].stats();
        assert_eq!(stats["log_watchers"], "2");
        assert_eq!(stats["log_watcher_sent"], "800");
        assert_eq!(
            (
                &stats["log_watcher_skipped"][..],
                &stats["log_worker_dropped"][..]
            ),
            ("0", "0")
        );
        drop(watchers);
        until("the watchers are forgotten", || {
            (clients[0].stats()["log_watchers"] == "0").then_some(())
        });
        drop(clients);
        server.finish();
    }
}

#[test]
fn a_watcher_that_does_not_read_loses_lines_and_is_told_how_many() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} -o watcher_logbuf_size=64"));
        let mut watcher = watch(&server, "fetchers");
        let neighbour = Neighbour::start(&server);
        let mut client = server.client();
        let key = "k".repeat(200);
        let gets = format!("get {key}\r\n").repeat(1000);
        let replies = b"END\r\n".repeat(1000);
        let mut asked = 0u64;
        until("lines are lost", || {
            client.ask(gets.as_bytes(), &replies);
            asked += 1000;
            let skipped = client.stats()["log_watcher_skipped"].parse::<u64>();
            (skipped.expect("a number") > 1000).then_some(())
        });
        neighbour.stop();
        // Now it reads, and one more line comes with the count before it.
        let (mut seen, mut lost) = (0u64, 0u64);
        client.ask(b"mn\r\n", b"MN\r\n");
        let mut marker = server.client();
        let (end, ended) = channel::<()>();
        let marking = std::thread::spawn(move || {
            while ended.recv_timeout(Duration::from_millis(1)) == Err(RecvTimeoutError::Timeout) {
                marker.ask(b"get marker\r\n", b"END\r\n");
            }
        });
        loop {
            let line = watcher.line();
            if let Some(count) = line.strip_prefix("skipped=") {
                lost += count.parse::<u64>().expect("a number");
            } else if line.contains("key=marker ") && lost > 0 {
                break;
            } else if line.contains("key=kkk") {
                seen += 1;
            }
        }
        drop(end);
        marking.join().expect("its answers");
        assert!(
            lost > 1000 && seen > 100,
            "{seen} seen, {lost} lost of {asked}"
        );
        drop((watcher, client));
        server.finish();
    }
}

#[test]
fn connections_commands_and_evictions_are_told() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} -m 6 -I 100k"));
        let mut watcher = watch(&server, "connevents");
        let mut client = server.client();
        client.ask(b"mn\r\n", b"MN\r\n");
        let opened = told(&mut watcher);
        assert!(
            opened.starts_with("type=conn_new rip=127.0.0.1 rport="),
            "{opened}"
        );
        assert!(opened.contains(" transport=tcp cfd="), "{opened}");
        client.send(b"quit\r\n");
        let closed = told(&mut watcher);
        assert!(
            closed.starts_with("type=conn_close rip=127.0.0.1 rport="),
            "{closed}"
        );
        assert!(
            closed.contains(" transport=tcp reason=normal cfd="),
            "{closed}"
        );
        let mut local = server.unix_client();
        local.ask(b"mn\r\n", b"MN\r\n");
        let opened = told(&mut watcher);
        assert!(
            opened.starts_with("type=conn_new rip=unix rport=0 transport=local"),
            "{opened}"
        );
        drop((watcher, client, local));

        let mut watcher = watch(&server, "rawcmds");
        let mut client = server.client();
        let long = [&b"set long 0 0 20000\r\n"[..], &value(1, 20_000), b"\r\n"].concat();
        client.ask(
            b"set a 0 0 3\r\nabc\r\nget a b c\r\n",
            b"STORED\r\nVALUE a 0 3\r\nabc\r\nEND\r\n",
        );
        client.ask(&long, b"STORED\r\n");
        client.ask(b"bogus x\r\n", b"ERROR\r\n");
        for line in ["set a 0 0 3", "get a b c", "set long 0 0 20000", "bogus x"] {
            let text = told(&mut watcher);
            let (fd, command) = text.split_once(' ').expect("two words");
            assert!(fd.starts_with('<'), "{text}");
            assert_eq!(command, line);
        }
        drop(watcher);

        let mut watcher = watch(&server, "evictions");
        for at in 0..6000 {
            client.ask(&set(&format!("e{at}"), &value(at, 2000)), b"STORED\r\n");
        }
        let line = told(&mut watcher);
        assert!(line.starts_with("type=eviction key="), "{line}");
        assert!(
            line.contains(" fetch=") && line.contains(" ttl=-1 la=0 clsid=1 size="),
            "{line}"
        );
        drop((watcher, client));
        server.finish();
    }
}

#[test]
fn there_are_twenty_watchers_at_most() {
    let server = Server::start("-t 2");
    let mut watchers: Vec<Client> = (0..20).map(|_| watch(&server, "")).collect();
    let mut late = server.client();
    late.ask(
        b"watch\r\n",
        b"WATCHER_TOO_MANY log watcher limit reached\r\n",
    );
    watchers.pop();
    until("room for another", || {
        late.send(b"watch\r\n");
        (late.line() == "OK").then_some(())
    });
    drop((watchers, late));
    server.finish();
}

fn dump(client: &mut Client, form: &str, end: &str) -> Vec<String> {
    client.ask(format!("lru_crawler {form} all\r\n").as_bytes(), b"OK\r\n");
    let mut lines = Vec::new();
    loop {
        let line = client.line();
        if line == end {
            return lines;
        }
        lines.push(line);
    }
}

#[test]
fn a_dump_has_every_item_once_while_others_are_served() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let mut client = server.client();
        let count = 20_000;
        let mut batch = Vec::new();
        for at in 0..count {
            let exptime = if at % 2 == 0 { 0 } else { 1000 };
            batch.extend_from_slice(
                format!("set key{at} 7 {exptime} 3 noreply\r\nabc\r\n").as_bytes(),
            );
        }
        batch.extend_from_slice(b"mn\r\n");
        client.ask(&batch, b"MN\r\n");
        client.ask(b"get key0\r\n", b"VALUE key0 7 3\r\nabc\r\nEND\r\n");
        let neighbour = Neighbour::start(&server);
        let mut dumper = server.client();
        let lines = dump(&mut dumper, "metadump", "END");
        let keys: HashSet<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix("key=")?.split(' ').next())
            .filter(|key| key.starts_with("key"))
            .collect();
        assert_eq!(keys.len(), count);
        let own = lines
            .iter()
            .filter(|line| line.starts_with("key=key"))
            .count();
        assert_eq!(own, count, "some twice");
        for line in lines.iter().filter(|line| line.starts_with("key=key")) {
            let words: Vec<&str> = line.split(' ').collect();
            let names: Vec<&str> = words
                .iter()
                .filter_map(|word| word.split('=').next())
                .collect();
            assert_eq!(
                names,
                ["key", "exp", "la", "cas", "fetch", "cls", "size", "flags"]
            );
            let number: usize = words[0]["key=key".len()..].parse().expect("a number");
            assert_eq!(words[1] == "exp=-1", number.is_multiple_of(2), "{line}");
            assert_eq!(words[4] == "fetch=yes", number == 0, "{line}");
            let size = 48 + 8 + words[0].len() - 4 + 1 + 3 + 2 + 4;
            assert_eq!(words[6], format!("size={size}"), "{line}");
            assert_eq!(words[7], "flags=7");
        }
        // What was asked meanwhile is answered behind the last line.
        dumper.send(b"lru_crawler mgdump hash\r\nget key0\r\n");
        dumper.expect(b"OK\r\n");
        let mut keys = HashSet::new();
        loop {
            let line = dumper.line();
            match line.strip_prefix("mg ") {
                Some(key) => drop(keys.insert(key.to_owned())),
                None => {
                    assert_eq!(line, "EN");
                    break;
                }
            }
        }
        assert!(keys.len() >= count);
        dumper.expect(b"VALUE key0 7 3\r\nabc\r\nEND\r\n");
        neighbour.stop();
        dumper.ask(b"lru_crawler metadump 2\r\n", b"OK\r\nEND\r\n");
        dumper.ask(
            b"lru_crawler metadump 99\r\n",
            b"BADCLASS invalid class id\r\n",
        );
        drop((client, dumper));
        server.finish();
    }
}

#[test]
fn a_dump_that_nobody_reads_holds_little_and_stops_nothing_but_other_dumps() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} -m 64"));
        let mut client = server.client();
        let mut batch = Vec::new();
        for at in 0..100_000 {
            batch.extend_from_slice(format!("set key{at} 0 0 1 noreply\r\nx\r\n").as_bytes());
        }
        batch.extend_from_slice(b"mn\r\n");
        client.ask(&batch, b"MN\r\n");
        let mut dumper = server.client();
        dumper.ask(b"lru_crawler metadump all\r\n", b"OK\r\n");
        server.until_at_rest();
        client.round_trip("k", b"v");
        // One goes on at a time.
        for order in ["metadump all", "mgdump hash", "crawl 1"] {
            client.ask(
                format!("lru_crawler {order}\r\n").as_bytes(),
                b"BUSY currently processing crawler request\r\n",
            );
        }
        drop(dumper);
        until("the turn of a dump that is gone is free", || {
            client.send(b"lru_crawler metadump 2\r\n");
            (client.line() == "OK").then_some(())
        });
        client.expect(b"END\r\n");
        client.ask(b"lru_crawler crawl 1\r\n", b"OK\r\n");
        drop(client);
        // The memory it has promised is checked here.
        server.finish();
    }
}

#[test]
fn dumps_can_be_refused_and_switched_off() {
    let server = Server::start("-X -t 2");
    let mut client = server.client();
    for (request, reply) in [
        ("lru_crawler metadump all", "ERROR metadump not allowed"),
        ("lru_crawler mgdump all", "ERROR key dump not allowed"),
        (
            "stats cachedump 1 0",
            "CLIENT_ERROR stats cachedump not allowed",
        ),
        ("stats detail on", "CLIENT_ERROR stats detail not allowed"),
        (
            "lru_crawler enable",
            "ERROR failed to start lru crawler thread",
        ),
        ("lru_crawler disable", "OK"),
        (
            "lru_crawler metadump all",
            "CLIENT_ERROR lru crawler disabled",
        ),
        ("lru_crawler enable", "OK"),
        ("lru_crawler crawl 1", "OK"),
    ] {
        client.ask(
            format!("{request}\r\n").as_bytes(),
            format!("{reply}\r\n").as_bytes(),
        );
    }
    client.ask(b"get k\r\n", b"END\r\n");
    drop(client);
    server.finish();
}

#[test]
fn verbose_servers_say_something() {
    let server = Server::start("-t 2 -v");
    let mut client = server.client();
    client.ask(b"get quiet\r\n", b"END\r\n");
    until("a connection is told of", || {
        server
            .said()
            .contains("type=conn_new rip=127.0.0.1")
            .then_some(())
    });
    assert!(!server.said().contains("get quiet"));
    client.ask(b"verbosity 2\r\n", b"OK\r\n");
    until("commands are told of", || {
        client.ask(b"get loud\r\n", b"END\r\n");
        std::thread::sleep(Duration::from_millis(1));
        server.said().contains(" get loud").then_some(())
    });
    client.ask(b"verbosity 0\r\n", b"OK\r\n");
    client.ask(b"set k 0 0 1\r\nv\r\n", b"STORED\r\n");
    client.ask(b"get k\r\n", &hit("k", b"v"));
    drop(client);
    server.finish();
}
