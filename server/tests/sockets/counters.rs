//! What `stats` tells adds up over all workers, to the request, and its subjects keep the form that
//! memcached's tools read.

use std::collections::HashMap;

use crate::client::{Client, hit, set, value};
use crate::server::{Server, until, variants};

/// Every counter of `stats` that a client's commands move.
const MOVED: [&str; 26] = [
    "cmd_get",
    "cmd_set",
    "cmd_flush",
    "cmd_touch",
    "cmd_meta",
    "get_hits",
    "get_misses",
    "get_expired",
    "get_flushed",
    "delete_misses",
    "delete_hits",
    "incr_misses",
    "incr_hits",
    "decr_misses",
    "decr_hits",
    "cas_misses",
    "cas_hits",
    "cas_badval",
    "touch_hits",
    "touch_misses",
    "store_too_large",
    "store_no_memory",
    "auth_cmds",
    "auth_errors",
    "total_items",
    "curr_items",
];

#[test]
fn every_counter_adds_up_over_all_workers() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} --debug-clock"));
        let mut clients: Vec<Client> = (0..5).map(|_| server.client()).collect();
        let mut expected: HashMap<&str, u64> = MOVED.iter().map(|name| (*name, 0)).collect();
        let mut count = |names: &[&'static str]| {
            for name in names {
                *expected.get_mut(name).expect("a counter") += 1;
            }
        };
        clients[0].ask(b"debugtime p\r\n", b"OK\r\n");
        for at in 0..60 {
            let client = &mut clients[at % 5];
            let key = format!("key{at}");
            client.ask(&set(&key, b"10"), b"STORED\r\n");
            count(&["cmd_set", "total_items"]);
            client.ask(format!("get {key}\r\n").as_bytes(), &hit(&key, b"10"));
            count(&["cmd_get", "get_hits"]);
            client.ask(format!("get no{at}\r\n").as_bytes(), b"END\r\n");
            count(&["cmd_get", "get_misses"]);
            client.ask(format!("incr {key} 1\r\n").as_bytes(), b"11\r\n");
            count(&["incr_hits"]);
            client.ask(format!("decr {key} 1\r\n").as_bytes(), b"10\r\n");
            count(&["decr_hits"]);
            client.ask(
                format!("incr no{at} 1\r\ndecr no{at} 1\r\n").as_bytes(),
                b"NOT_FOUND\r\nNOT_FOUND\r\n",
            );
            count(&["incr_misses", "decr_misses"]);
            client.ask(format!("touch {key} 0\r\n").as_bytes(), b"TOUCHED\r\n");
            count(&["cmd_touch", "touch_hits"]);
            client.ask(format!("touch no{at} 0\r\n").as_bytes(), b"NOT_FOUND\r\n");
            count(&["cmd_touch", "touch_misses"]);
            client.ask(format!("gat 0 {key}\r\n").as_bytes(), &hit(&key, b"10"));
            count(&["cmd_touch", "touch_hits"]);
            client.ask(format!("gat 0 no{at}\r\n").as_bytes(), b"END\r\n");
            count(&["cmd_touch", "touch_misses"]);
            client.send(format!("gets {key}\r\n").as_bytes());
            let unique = client
                .line()
                .rsplit(' ')
                .next()
                .expect("a unique")
                .to_owned();
            client.expect(b"10\r\nEND\r\n");
            count(&["cmd_get", "get_hits"]);
            let cas = |unique: &str| format!("cas {key} 0 0 2 {unique}\r\n10\r\n");
            client.ask(cas(&unique).as_bytes(), b"STORED\r\n");
            count(&["cmd_set", "cas_hits", "total_items"]);
            client.ask(cas(&unique).as_bytes(), b"EXISTS\r\n");
            count(&["cmd_set", "cas_badval"]);
            client.ask(
                format!("cas no{at} 0 0 1 7\r\nx\r\n").as_bytes(),
                b"NOT_FOUND\r\n",
            );
            count(&["cmd_set", "cas_misses"]);
            client.ask(
                format!("add {key} 0 0 1\r\nx\r\n").as_bytes(),
                b"NOT_STORED\r\n",
            );
            count(&["cmd_set"]);
            client.ask(format!("delete no{at}\r\n").as_bytes(), b"NOT_FOUND\r\n");
            count(&["delete_misses"]);
            client.ask(&set(&format!("gone{at}"), b"v"), b"STORED\r\n");
            client.ask(format!("delete gone{at}\r\n").as_bytes(), b"DELETED\r\n");
            count(&["cmd_set", "total_items", "delete_hits"]);
            if at % 10 == 0 {
                let large = value(at, 2 << 20);
                client.ask(
                    &set(&format!("large{at}"), &large),
                    b"SERVER_ERROR object too large for cache\r\n",
                );
                count(&["store_too_large"]);
            }
            count(&["curr_items"]);
        }
        // What has expired is counted by whoever meets it, once.
        for at in 0..30 {
            let client = &mut clients[at % 5];
            client.ask(
                format!("set e{at} 0 10 1\r\nv\r\n").as_bytes(),
                b"STORED\r\n",
            );
            count(&["cmd_set", "total_items"]);
        }
        clients[0].ask(b"debugtime 10\r\n", b"OK\r\n");
        for at in 0..30 {
            let client = &mut clients[at % 5];
            match at % 3 {
                0 => {
                    client.ask(format!("get e{at}\r\n").as_bytes(), b"END\r\n");
                    count(&["cmd_get", "get_misses"]);
                }
                1 => {
                    client.ask(format!("gat 0 e{at}\r\n").as_bytes(), b"END\r\n");
                    count(&["cmd_touch", "touch_misses"]);
                }
                _ => {
                    client.ask(format!("touch e{at} 0\r\n").as_bytes(), b"NOT_FOUND\r\n");
                    count(&["cmd_touch", "touch_misses"]);
                }
            }
        }
        let stats = clients[3].stats();
        let number = |name: &str| stats[name].parse::<u64>().expect("a number");
        // Upkeep may have met some of them first; together they are all of them.
        assert_eq!(number("reclaimed"), 30, "{io} {threads}");
        assert!(number("get_expired") <= 30);
        expected.remove("get_expired");
        assert_eq!(
            (number("total_connections"), number("curr_connections")),
            (5, 5)
        );
        assert_eq!(
            (number("rejected_connections"), number("threads")),
            (0, threads.parse().expect("a number"))
        );
        for name in MOVED {
            if let Some(want) = expected.get(name) {
                assert_eq!(number(name), *want, "{name} with {io} {threads}");
            }
        }
        clients[0].ask(b"flush_all\r\n", b"OK\r\n");
        assert_eq!(clients[1].stats()["cmd_flush"], "1");
        clients[1].ask(b"stats reset\r\n", b"RESET\r\n");
        let stats = clients[2].stats();
        for name in &MOVED[..24] {
            assert_eq!(stats[*name], "0", "{name} after a reset");
        }
        drop(clients);
        server.finish();
    }
}

#[test]
fn a_prefix_is_flushed_on_all_workers() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let (mut client, mut other) = (server.client(), server.client());
        for round in 0..3 {
            for at in 0..40 {
                client.round_trip(&format!("a:{at}"), b"v");
                client.round_trip(&format!("b:{at}"), b"v");
            }
            client.ask(b"flush_prefix a\r\n", b"OK\r\n");
            for at in 0..40 {
                other.ask(format!("get a:{at}\r\n").as_bytes(), b"END\r\n");
                let key = format!("b:{at}");
                other.ask(format!("get {key}\r\n").as_bytes(), &hit(&key, b"v"));
            }
            until("upkeep has dropped what was flushed", || {
                let stats = other.stats();
                assert_eq!(stats["cmd_flush_prefix"], (round + 1).to_string());
                (stats["flushed_prefixes"] == "0" && stats["curr_items"] == "40").then_some(())
            });
        }
        drop((client, other));
        server.finish();
    }
}

#[test]
fn more_prefixes_than_can_be_flushed_at_a_time_are_refused_by_a_sentence() {
    let server = Server::start("-t 2");
    let mut client = server.client();
    // All in one piece, and so without upkeep in between but for what fits into a tick.
    let asked = 40_000;
    let flushes: String = (0..asked)
        .map(|at| format!("flush_prefix p{at}\r\n"))
        .collect();
    client.send(flushes.as_bytes());
    let refused = b"SERVER_ERROR too many prefixes are being flushed";
    for _ in 0..asked {
        let line = client.line();
        assert!(line == "OK" || line.as_bytes() == refused, "{line}");
    }
    until("upkeep has been round", || {
        (client.stats()["flushed_prefixes"] == "0").then_some(())
    });
    client.ask(b"flush_prefix last\r\n", b"OK\r\n");
    drop(client);
    server.finish();
}

#[test]
fn prefixes_add_up_over_all_workers() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let mut client = server.client();
        client.ask(&set("a:0", b"v"), b"STORED\r\n");
        client.ask(b"stats detail on\r\n", b"OK\r\n");
        for at in 0..40 {
            client.round_trip(&format!("a:{at}"), b"v");
            client.ask(format!("get a:no{at}\r\n").as_bytes(), b"END\r\n");
            client.ask(format!("delete b:{at}\r\n").as_bytes(), b"NOT_FOUND\r\n");
            client.round_trip(&format!("plain{at}"), b"v");
        }
        let dump =
            b"PREFIX a get 80 hit 40 set 40 del 0\r\nPREFIX b get 0 hit 0 set 0 del 40\r\nEND\r\n";
        client.ask(b"stats detail dump\r\n", dump);
        client.ask(b"stats detail off\r\n", b"OK\r\n");
        client.round_trip("a:x", b"v");
        client.ask(b"stats detail dump\r\n", dump);
        client.ask(b"stats reset\r\nstats detail dump\r\n", b"RESET\r\nEND\r\n");
        drop(client);
        server.finish();
    }
    let server = Server::start("-D /");
    let mut client = server.client();
    client.round_trip("a/b:c", b"v");
    client.ask(
        b"stats detail dump\r\n",
        b"PREFIX a get 1 hit 1 set 1 del 0\r\nEND\r\n",
    );
    let settings = client.stats_of("settings");
    assert_eq!(
        (
            &settings["stat_key_prefix"][..],
            &settings["detail_enabled"][..]
        ),
        ("/", "yes")
    );
    drop(client);
    server.finish();
}

/// What prometheus' memcached_exporter and memcached-tool do with the answers.
#[test]
fn exporters_and_tools_find_what_they_parse() {
    let server = Server::start("-t 2 -m 64");
    let mut client = server.client();
    for at in 0..2000 {
        let request = format!("set key{at} 0 {} 100\r\n", [0, 60, 5000][at % 3]);
        let whole = [request.as_bytes(), &value(at, 100), b"\r\n"].concat();
        client.ask(&whole, b"STORED\r\n");
    }
    for subject in [
        "", "slabs", "items", "settings", "workers", "segments", "ttl",
    ] {
        let stats = client.stats_of(subject);
        assert!(!stats.is_empty(), "stats {subject}");
        for (name, number) in &stats {
            // Values are numbers wherever the name is of a class.
            if name.contains(':') {
                assert!(number.parse::<f64>().is_ok(), "{name} {number}");
            }
        }
    }
    // The exporter cuts names of slabs and items at colons, and wants an unsigned class.
    for (name, _) in client.stats_of("slabs") {
        let words: Vec<&str> = name.split(':').collect();
        assert!(
            words.len() == 1 || words[0].parse::<u32>().is_ok(),
            "{name}"
        );
    }
    for (name, _) in client.stats_of("items") {
        let words: Vec<&str> = name.split(':').collect();
        assert!(words.len() == 3 && words[0] == "items" && words[1].parse::<u32>().is_ok());
    }
    let ttl = client.stats_of("ttl");
    let items: u64 = ttl
        .iter()
        .filter(|(name, _)| name.ends_with(":items"))
        .map(|(_, number)| number.parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(items, 2000);
    assert!(ttl.contains_key("ttl:never:items"));
    client.send(b"stats cachedump 1 100\r\n");
    let mut shown = 0;
    loop {
        let line = client.line();
        if line == "END" {
            break;
        }
        assert!(
            line.starts_with("ITEM key") && line.contains(" [100 b; "),
            "{line}"
        );
        shown += 1;
    }
    assert_eq!(shown, 100);
    client.ask(b"stats cachedump 2 100\r\n", b"END\r\n");
    drop(client);
    server.finish();
}
