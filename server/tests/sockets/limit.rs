//! `cache_memlimit` on a real kernel: memory comes and goes while clients are served.

use std::collections::HashMap;

use crate::client::{Client, Neighbour, hit, set, value};
use crate::server::{Server, until, variants};

const MIB: u64 = 1 << 20;

/// Sets many values of 1000 bytes without waiting for each.
fn fill(client: &mut Client, from: usize, count: usize) {
    for start in (from..from + count).step_by(1000) {
        let mut batch = Vec::new();
        for key in start..start + 1000 {
            batch.extend_from_slice(format!("set key{key} 0 0 1000 noreply\r\n").as_bytes());
            batch.extend_from_slice(&value(key, 1000));
            batch.extend_from_slice(b"\r\n");
        }
        client.send(&batch);
        client.ask(b"mn\r\n", b"MN\r\n");
    }
}

fn number(stats: &HashMap<String, String>, name: &str) -> u64 {
    stats[name].parse().expect("a count")
}

/// How many of some keys are there; each has the right value.
fn hits(client: &mut Client, keys: std::ops::Range<usize>) -> usize {
    keys.filter(|&key| {
        client.send(format!("get key{key}\r\n").as_bytes());
        let head = client.line();
        if head == "END" {
            return false;
        }
        let reply = hit(&format!("key{key}"), &value(key, 1000));
        let rest = &reply[head.len() + 2..];
        client.expect(rest);
        true
    })
    .count()
}

#[test]
fn memory_taken_away_goes_back_to_the_system_and_memory_given_holds_more() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} -m 64"));
        let neighbour = Neighbour::start(&server);
        let mut client = server.client();
        fill(&mut client, 0, 80_000);
        let full = number(&client.stats(), "curr_items");
        let resident = server.memory_bytes("VmRSS");
        assert!(resident > 64 * MIB, "{resident} bytes are resident");

        client.ask(b"cache_memlimit 16\r\n", b"OK\r\n");
        until("48 MiB are given back", || {
            (server.memory_bytes("VmRSS") + 46 * MIB < resident).then_some(())
        });
        let stats = client.stats();
        assert_eq!(number(&stats, "limit_maxbytes"), 16 * MIB);
        let small = number(&stats, "curr_items");
        assert!(
            small * 5 > full && small * 3 < full,
            "{full} items, then {small}"
        );
        let newest = hits(&mut client, 79_000..80_000);
        assert!(newest > 900, "{newest} of the last 1000 are there");

        client.ask(b"cache_memlimit 96\r\n", b"OK\r\n");
        until("80 MiB are taken up", || {
            (server.memory_bytes("VmRSS") > resident + 30 * MIB).then_some(())
        });
        fill(&mut client, 100_000, 120_000);
        let large = number(&client.stats(), "curr_items");
        assert!(large * 10 > full * 14, "{full} items, then {large}");
        let newest = hits(&mut client, 219_000..220_000);
        assert!(newest > 900, "{newest} of the last 1000 are there");
        neighbour.stop();
        drop(client);
        server.finish();
    }
}

#[test]
fn a_limit_no_shard_can_have_is_refused() {
    let server = Server::start("-t 2 -m 1024 --io epoll");
    let mut client = server.client();
    let refused = b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n";
    client.ask(b"cache_memlimit 1000000000\r\n", refused);
    client.ask(b"cache_memlimit 8\r\n", refused);
    client.ask(b"cache_memlimit 8 noreply\r\nmn\r\n", b"MN\r\n");
    assert_eq!(number(&client.stats(), "limit_maxbytes"), 1024 * MIB);
    drop(client);
    server.finish();
}

#[test]
fn locked_memory_is_given_back_too() {
    let status = std::fs::read_to_string("/proc/self/status").expect("our own status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = u64::from_str_radix(line.expect("a line").trim(), 16).expect("a mask");
    const CAP_IPC_LOCK: u64 = 1 << 14;
    if rights & CAP_IPC_LOCK == 0 {
        eprintln!("locked memory is not tested: we may not lock as much as we like");
        return;
    }
    let server = Server::start("-t 2 -m 64 -k --io epoll");
    assert!(server.memory_bytes("VmLck") >= 64 * MIB);
    let mut client = server.client();
    fill(&mut client, 0, 80_000);
    let resident = server.memory_bytes("VmRSS");
    client.ask(b"cache_memlimit 16\r\n", b"OK\r\n");
    until("48 MiB are given back", || {
        (server.memory_bytes("VmRSS") + 46 * MIB < resident).then_some(())
    });
    client.ask(b"cache_memlimit 64\r\n", b"OK\r\n");
    until("48 MiB are taken up", || {
        (server.memory_bytes("VmRSS") + 4 * MIB > resident).then_some(())
    });
    client.ask(&set("k", b"v"), b"STORED\r\n");
    client.ask(b"get k\r\n", &hit("k", b"v"));
    drop(client);
    server.finish();
}
