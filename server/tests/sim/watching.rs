//! Watchers and dumps on simulated connections: nobody waits for one that does not read, and each is
//! told the truth about what it lost.

use std::collections::HashSet;
use std::time::Duration;

use strata_server::config::{DUMP_PATIENCE_S, Settings};
use strata_server::io::sim::{ClientId, Dice};

use crate::figures::worker_figures;
use crate::server::{MEMORY_MB, Server};

/// A server with so few places and so little room for lines that both run out.
fn narrow(workers: usize, slots: usize, seed: u64) -> Server {
    let mut settings = Settings::for_tests(workers);
    settings.memory_bytes = (MEMORY_MB << 20) * workers;
    settings.conns_max = 64;
    settings.watcher_log_bytes = 3000;
    settings.worker_log_bytes = 4000;
    settings.track_sizes = true;
    Server::with(settings, slots, seed)
}

/// A connection that watches the fetches of all workers.
fn watcher(server: &mut Server, window: usize) -> ClientId {
    let watcher = server.net.connect(window);
    server.net.write(watcher, b"watch fetchers\r\n");
    server.settle();
    assert_eq!(server.net.read(watcher, 100), b"OK\r\n");
    watcher
}

/// How many lines there are, and how many are said to be missing.
fn told_of(text: &[u8]) -> (u64, u64) {
    let (mut lines, mut skipped) = (0, 0);
    let mut numbers = HashSet::new();
    let text = std::str::from_utf8(text).expect("text");
    assert!(text.is_empty() || text.ends_with('\n'), "half a line");
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("skipped=") {
            skipped += count.parse::<u64>().expect("a number");
            continue;
        }
        let number = line.split_once(" gid=").expect("a number").1;
        let (number, event) = number.split_once(' ').expect("an event");
        assert!(numbers.insert(number.to_owned()), "{line} twice");
        assert!(event.starts_with("type=item_get key=k"), "{line}");
        lines += 1;
    }
    (lines, skipped)
}

/// Clients ask for keys of all workers; one watcher reads now and then, one not at all, one is cut.
#[test]
fn a_slow_watcher_loses_lines_and_is_told_how_many_while_no_worker_waits() {
    for seed in 900..920 {
        let mut dice = Dice::new(seed);
        let workers = 1 + dice.below(3);
        let mut server = narrow(workers, [2, 8, 64][dice.below(3)], seed);
        let slow = watcher(&mut server, 500);
        let quick = watcher(&mut server, 1 << 20);
        let cut = watcher(&mut server, 500);
        let clients: Vec<ClientId> = (0..5).map(|_| server.net.connect(1 << 20)).collect();
        let mut asked = 0;
        let mut heard = Vec::new();
        let mut replies = vec![0; clients.len()];
        for round in 0..300 {
            for client in &clients {
                let keys = 1 + dice.below(4);
                let mut line = b"get".to_vec();
                for _ in 0..keys {
                    line.extend_from_slice(format!(" k{}", dice.below(1000)).as_bytes());
                }
                line.extend_from_slice(b"\r\n");
                server.net.write(*client, &line);
                asked += keys as u64;
            }
            for _ in 0..dice.below(60) {
                let worker = dice.below(workers);
                server.tick(worker);
            }
            if dice.once_in(3) {
                heard.extend(server.net.read(quick, 1 + dice.below(5000)));
            }
            if round == 150 {
                server.net.reset(cut);
            }
            for (client, count) in clients.iter().zip(&mut replies) {
                *count += server.net.read(*client, usize::MAX).len();
            }
        }
        // The slow one has not read a byte, and everybody else has what they asked for.
        server.settle();
        for (client, count) in clients.iter().zip(&mut replies) {
            *count += server.net.read(*client, usize::MAX).len();
            assert_eq!(*count, 300 * b"END\r\n".len(), "seed {seed}");
        }
        let read_all = |server: &mut Server, watcher: ClientId, text: &mut Vec<u8>| {
            loop {
                let more = server.net.read(watcher, usize::MAX);
                if more.is_empty() {
                    break;
                }
                text.extend(more);
                server.settle();
            }
        };
        let mut late = Vec::new();
        read_all(&mut server, slow, &mut late);
        read_all(&mut server, quick, &mut heard);
        // What was lost is told before the next line, whichever worker it comes from.
        for at in 0..20 * workers {
            let request = format!("get k{at}\r\n");
            server.net.write(clients[0], request.as_bytes());
            asked += 1;
            server.settle();
            read_all(&mut server, slow, &mut late);
            read_all(&mut server, quick, &mut heard);
        }
        for (name, text) in [("slow", &late), ("quick", &heard)] {
            let (lines, skipped) = told_of(text);
            assert_eq!(lines + skipped, asked, "seed {seed}: the {name} one");
            assert!(name == "quick" || skipped > 0, "seed {seed}: too few lines");
        }
        for client in clients.into_iter().chain([slow, quick]) {
            server.net.end(client);
        }
        server.settle();
        server.assert_nothing_left();
    }
}

/// Keys that nobody touches are listed once each by every dump that is not cut, however little its
/// client takes at a time, while others store and delete.
#[test]
fn a_dump_is_complete_however_it_is_read_and_a_cut_costs_only_itself() {
    const KEYS: usize = 600;
    for seed in 950..970 {
        let mut dice = Dice::new(seed);
        let workers = 1 + dice.below(3);
        let mut server = narrow(workers, [2, 8, 64][dice.below(3)], seed);
        let client = server.net.connect(1 << 20);
        for at in 0..KEYS {
            let text = format!("set stays{at} 0 0 3\r\nabc\r\n");
            server.net.write(client, text.as_bytes());
        }
        server.settle();
        let _ = server.net.read(client, usize::MAX);
        let mut whole = 0;
        for round in 0..8 {
            let (order, end) = match dice.below(3) {
                0 => ("lru_crawler metadump all", "END\r\n"),
                1 => ("lru_crawler mgdump hash", "EN\r\n"),
                _ => ("stats sizes", "END\r\n"),
            };
            let dumper = server.net.connect(40 + dice.below(3000));
            server.net.write(dumper, format!("{order}\r\n").as_bytes());
            // Whatever is asked meanwhile is answered behind the end.
            let tail = format!("{end}MN\r\n");
            let cut = dice.once_in(3);
            let mut text = Vec::new();
            let mut asked_behind = false;
            for step in 0..200_000 {
                server.tick(dice.below(workers));
                if dice.once_in(20) {
                    let at = dice.below(100);
                    let other = format!("set goes{at} 0 0 1\r\nx\r\ndelete goes{at}\r\n");
                    server.net.write(client, other.as_bytes());
                }
                if dice.once_in(5) {
                    text.extend(server.net.read(dumper, 1 + dice.below(700)));
                }
                if !asked_behind && !text.is_empty() {
                    asked_behind = true;
                    server.net.write(dumper, b"mn\r\n");
                }
                if cut && step > 0 && dice.once_in(400) {
                    server.net.reset(dumper);
                    break;
                }
                if text.ends_with(tail.as_bytes()) {
                    break;
                }
            }
            server.settle();
            let answers = server.net.read(client, usize::MAX);
            assert!(!answers.is_empty() || round > 0, "nobody else is served");
            if text.ends_with(tail.as_bytes()) {
                whole += 1;
                let text = std::str::from_utf8(&text).expect("text");
                check_dump(order, text, KEYS, seed);
            } else {
                assert!(cut, "seed {seed}: {order} does not end");
            }
            server.net.end(dumper);
            server.settle();
        }
        assert!(whole > 0, "seed {seed}: every dump was cut");
        server.net.end(client);
        server.settle();
        server.assert_nothing_left();
    }
}

fn check_dump(order: &str, text: &str, keys: usize, seed: u64) {
    if order == "stats sizes" {
        let body = text.lines().filter_map(|line| line.strip_prefix("STAT "));
        let counts = body.map(|line| line.split_once(' ').expect("two words"));
        // All of them have 65 to 96 bytes by memcached's count.
        let of_96 = counts.map(|(size, count)| {
            assert_eq!(size, "96");
            count.parse::<usize>().expect("a number")
        });
        assert!(of_96.sum::<usize>() >= keys, "seed {seed}: {text}");
        return;
    }
    let mut seen = HashSet::new();
    for line in text.lines() {
        let key = line
            .strip_prefix("mg ")
            .or_else(|| line.strip_prefix("key=")?.split(' ').next());
        if let Some(key) = key.filter(|key| key.starts_with("stays")) {
            assert!(seen.insert(key), "seed {seed}: {key} twice");
        }
    }
    assert_eq!(seen.len(), keys, "seed {seed}: {order}");
}

#[test]
fn a_dump_that_stands_still_gives_way_to_another_after_a_while() {
    let mut server = narrow(2, 8, 7);
    let client = server.net.connect(1 << 20);
    for at in 0..2000 {
        let text = format!("set k{at} 0 0 1\r\nx\r\n");
        server.net.write(client, text.as_bytes());
    }
    server.settle();
    let _ = server.net.read(client, usize::MAX);
    let stalled = server.net.connect(100);
    server.net.write(stalled, b"lru_crawler metadump all\r\n");
    server.settle();
    let ask = |server: &mut Server, request: &[u8]| {
        server.net.write(client, request);
        server.settle();
        server.net.read(client, usize::MAX)
    };
    const BUSY: &[u8] = b"BUSY currently processing crawler request\r\n";
    server.elapsed += Duration::from_secs(u64::from(DUMP_PATIENCE_S) - 1);
    assert_eq!(ask(&mut server, b"lru_crawler mgdump all\r\n"), BUSY);
    // Sizes are nobody's turn.
    assert!(ask(&mut server, b"stats sizes\r\n").starts_with(b"STAT 64 1000\r\nSTAT 96 1000\r\n"));
    server.elapsed += Duration::from_secs(2);
    let whole = ask(&mut server, b"lru_crawler mgdump all\r\n");
    assert!(whole.starts_with(b"OK\r\nmg k") && whole.ends_with(b"EN\r\n"));
    // The one that stood still is told by the end of its connection that it is not complete.
    let mut text = Vec::new();
    while !server.net.closed(stalled) {
        text.extend(server.net.read(stalled, usize::MAX));
        server.settle();
    }
    text.extend(server.net.read(stalled, usize::MAX));
    assert!(text.starts_with(b"OK\r\nkey=k") && !text.ends_with(b"END\r\n"));
    let figures = worker_figures(&mut server, client);
    assert_eq!(figures["0:dumps_cut"] + figures["1:dumps_cut"], 1);
    server.net.end(client);
    server.settle();
    server.assert_nothing_left();
}
