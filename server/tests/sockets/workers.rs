//! What `stats workers` tells: counts that add up to what was asked, to the request.

use std::collections::HashMap;

use crate::client::{Client, hit, set, value};
use crate::server::{Server, variants};

/// The sum of one figure over all workers.
fn sum(stats: &HashMap<String, String>, name: &str) -> u64 {
    stats
        .iter()
        .filter(|(key, _)| key.split(':').nth(1) == Some(name))
        .map(|(_, number)| number.parse::<u64>().expect("a number"))
        .sum()
}

#[test]
fn the_commands_of_all_workers_add_up_to_those_sent() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let count: usize = threads.parse().expect("a number");
        let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
        let mut commands = 0;
        for round in 0..25 {
            for (at, client) in clients.iter_mut().enumerate() {
                // One small value in one piece, one that is taken in, one that is lent, a miss.
                for len in [10, 9_000, 40_000] {
                    let (key, text) = (format!("k{at}-{round}-{len}"), value(at + round, len));
                    client.ask(&set(&key, &text), b"STORED\r\n");
                    client.ask(format!("get {key}\r\n").as_bytes(), &hit(&key, &text));
                    commands += 2;
                }
                client.ask(
                    b"get none1 none2 none3\r\ndelete none\r\n",
                    b"END\r\nNOT_FOUND\r\n",
                );
                commands += 4;
            }
        }
        let stats = clients[0].stats_of("workers");
        let (local, remote) = (
            sum(&stats, "commands_local"),
            sum(&stats, "commands_remote"),
        );
        assert_eq!(local + remote, commands, "{io} {threads}: {stats:?}");
        assert_eq!(sum(&stats, "commands_served"), remote);
        assert_eq!(remote > 0, count > 1);
        assert_eq!(sum(&stats, "connections"), 4);
        assert!(sum(&stats, "ticks") > 0 && sum(&stats, "longest_tick_us") > 0);
        let queues: Vec<u64> = stats
            .iter()
            .filter(|(key, _)| key.contains(":queue_"))
            .map(|(_, number)| number.parse().expect("a number"))
            .collect();
        assert_eq!(queues.len(), 2 * count * (count - 1));
        assert!(
            queues.iter().all(|most| (1..=1024).contains(most)),
            "{queues:?}"
        );
        let longest = &clients[0].stats()["longest_tick_us"];
        assert!(longest.parse::<u64>().expect("a number") > 0);
        clients[1].ask(b"stats reset\r\n", b"RESET\r\n");
        let stats = clients[0].stats_of("workers");
        for name in ["commands_local", "commands_remote", "commands_served"] {
            assert_eq!(sum(&stats, name), 0, "{name} after a reset");
        }
        assert_eq!(sum(&stats, "connections"), 4);
        drop(clients);
        server.finish();
    }
}

/// What a shard-aware client does: the port of a key, by the rule that the settings tell.
#[test]
fn a_client_that_knows_the_shards_never_pays_a_hop() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} --shard-ports"));
        let count: usize = threads.parse().expect("a number");
        let mut plain = server.client();
        let settings = plain.stats_of("settings");
        assert_eq!(settings["shard_of_key"], "((crc32(key)>>16)&0x7fff)%shards");
        let ports = settings["shard_ports"].split(',');
        let mut shards: Vec<Client> = ports
            .map(|port| Client::tcp(port.parse().expect("a port")))
            .collect();
        assert_eq!(shards.len(), count);
        for at in 0..200 {
            let (key, text) = (format!("key{at}"), value(at, 20 + at * 100));
            let shard = ((crc32fast::hash(key.as_bytes()) >> 16) & 0x7fff) as usize % count;
            shards[shard].round_trip(&key, &text);
        }
        let stats = plain.stats_of("workers");
        assert_eq!(sum(&stats, "commands_remote"), 0, "{stats:?}");
        for worker in 0..count {
            assert_ne!(stats[&format!("{worker}:commands_local")], "0");
        }
        // Everybody else is answered everywhere all the same.
        for at in 0..200 {
            let (key, text) = (format!("key{at}"), value(at, 20 + at * 100));
            let reply = hit(&key, &text);
            plain.ask(format!("get {key}\r\n").as_bytes(), &reply);
            shards[at % count].ask(format!("get {key}\r\n").as_bytes(), &reply);
        }
        drop((plain, shards));
        server.finish();
    }
}
