//! Every verb, both dialects, several servers and traces, against a small server whose contents
//! are a plain map: runs are valid, every byte checked.

mod stub;

use strata_load::kind::Kind;
use stub::{Fault, Server, assert_says, measure};

const ALL: &str = "--ops get:40,set:20,add:5,cas:10,delete:5,incr:5,touch:5,gat:5,mget3:5";

#[test]
fn every_verb_gives_a_valid_run_in_both_dialects() {
    for protocol in ["memcache_text", "memcache_meta"] {
        for io in ["auto", "epoll"] {
            let server = Server::start(Fault::None);
            let arguments = format!(
                "-P {protocol} --io {io} -c 3 -n 2000 --pipeline 4 --fill --data-verify {ALL} \
                 --data-size-range 0-300"
            );
            let (outcome, reasons) = measure(&server, &arguments);
            assert!(reasons.is_empty(), "{arguments}: {reasons:#?}");
            for kind in Kind::ALL {
                let of_kind = outcome.tally.of(kind);
                assert!(of_kind.count > 50, "{kind:?} {}", of_kind.count);
                assert!(of_kind.hits > 0, "{kind:?} took no effect");
            }
            // Beside the 6000 of the streams, each cas that found its item, and each counter
            // that was not there.
            let cas = outcome.tally.of(Kind::Cas).count;
            assert!(outcome.tally.count() > 6000 + cas / 2);
        }
    }
}

#[test]
fn a_lonely_connection_never_loses_a_cas() {
    let server = Server::start(Fault::None);
    let arguments = "-c 1 -n 200 --fill --ops cas:1 --pipeline 1";
    let (outcome, reasons) = measure(&server, arguments);
    assert!(reasons.is_empty(), "{reasons:#?}");
    let cas = outcome.tally.of(Kind::Cas);
    assert_eq!((cas.count, cas.hits), (200, 200));
    assert_eq!(outcome.tally.of(Kind::Get).hits, 200);
}

#[test]
fn what_a_get_misses_is_written_and_found_the_next_time() {
    for pace in ["-n 400", "--rate 1000 --test-time 0.5"] {
        let server = Server::start(Fault::None);
        let arguments = format!("-c 1 --ratio 0:1 --key-pattern S:S --set-on-miss {pace}");
        let (outcome, _) = measure(&server, &arguments);
        let gets = outcome.tally.of(Kind::Get);
        // 100 keys, walked again and again.
        assert_eq!(gets.misses, 100);
        assert!(gets.hits >= 100, "{}", gets.hits);
        assert_eq!(outcome.tally.of(Kind::Set).count, 100);
        assert!(outcome.tally.faults.none());
    }
}

#[test]
fn a_wrong_opaque_makes_the_run_invalid() {
    let server = Server::start(Fault::WrongOpaque);
    let (_, reasons) = measure(&server, "-P memcache_meta -c 1 -n 10 --ratio 1:1");
    assert_says(&reasons, "replies belonged to another request");
    assert_says(&reasons, "request 1 was answered with the opaque of 2");
}

#[test]
fn a_wrong_byte_is_found_in_the_meta_protocol_too() {
    let server = Server::start(Fault::WrongByte);
    let arguments = "-P memcache_meta -c 2 -n 100 --fill --ratio 0:1";
    let (_, reasons) = measure(&server, arguments);
    assert_says(&reasons, "has a wrong byte");
}

#[test]
fn each_key_goes_to_its_server_and_is_found_there() {
    let servers = [(); 3].map(|()| Server::start(Fault::None));
    let ports: Vec<String> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port))
        .collect();
    for pace in ["-n 300 --pipeline 8", "--rate 2000 --test-time 0.3"] {
        let arguments = format!(
            "-s {} -c 2 --fill --ratio 1:4 --data-verify --expect-hits 1 {pace}",
            ports.join(",")
        );
        let (outcome, reasons) = measure(&servers[0], &arguments);
        // A busy machine may make an open loop late, which is not the claim.
        assert!(outcome.tally.faults.none(), "{reasons:#?}");
        assert_eq!(outcome.tally.hits_and_misses().1, 0);
        assert_eq!(outcome.filled, Some(100));
    }
    let mut seen = std::collections::HashMap::new();
    for (index, server) in servers.iter().enumerate() {
        let log = server.log();
        assert!(log.len() > 50, "server {index} saw {} requests", log.len());
        for line in log {
            let key = line.split(' ').nth(1).unwrap().to_string();
            assert_eq!(*seen.entry(key).or_insert(index), index, "{line}");
        }
    }
    assert_eq!(seen.len(), 100);
}

#[test]
fn a_get_of_many_keys_asks_each_server_for_those_it_has() {
    let servers = [(); 3].map(|()| Server::start(Fault::None));
    let ports: Vec<String> = servers
        .iter()
        .map(|server| format!("127.0.0.1:{}", server.port))
        .collect();
    for (protocol, pace) in [
        ("memcache_text", "-n 300 --pipeline 8"),
        ("memcache_meta", "-n 300 --pipeline 3"),
        ("memcache_text", "--rate 2000 --test-time 0.3"),
    ] {
        let arguments = format!(
            "-s {} -P {protocol} -c 2 --fill --ops mget10:4,set:1 --data-verify --expect-hits 1 \
             --data-size-range 1-200 {pace}",
            ports.join(",")
        );
        let (outcome, reasons) = measure(&servers[0], &arguments);
        // A busy machine may make an open loop late, which is not the claim.
        assert!(outcome.tally.faults.none(), "{reasons:#?}");
        assert_eq!(outcome.tally.hits_and_misses().1, 0);
        let gets = outcome.tally.of(Kind::Get);
        // Ten keys lie on two or three of the servers, three to five on each.
        let keys_per_get = gets.key_count as f64 / gets.count as f64;
        assert!((3.0..5.0).contains(&keys_per_get), "{keys_per_get}");
    }
    let mut seen = std::collections::HashMap::new();
    for (index, server) in servers.iter().enumerate() {
        for line in server.log() {
            let keys = match line.strip_prefix("get ") {
                Some(keys) => keys.split(' ').collect(),
                None => vec![line.split(' ').nth(1).unwrap()],
            };
            for key in keys {
                assert_eq!(
                    *seen.entry(key.to_string()).or_insert(index),
                    index,
                    "{line}"
                );
            }
        }
    }
    assert_eq!(seen.len(), 100);
}

#[test]
fn a_trace_is_replayed_to_its_end_key_by_key_in_order() {
    let path = std::env::temp_dir().join(format!("strata-load-replay-{}", std::process::id()));
    let lines: String = (0..900)
        .map(|index| {
            let verb = ["set", "get", "get"][index % 3];
            format!(
                "{},key{},6,{},1,{verb},0\n",
                index / 300,
                index / 3 % 50,
                10 + index % 90
            )
        })
        .collect();
    std::fs::write(&path, lines).unwrap();
    for pace in ["", "--pipeline 4", "--trace-speed 4"] {
        let server = Server::start(Fault::None);
        let arguments = format!("-c 3 --data-verify --trace {} {pace}", path.display());
        let (outcome, _) = measure(&server, &arguments);
        assert!(
            outcome.tally.faults.none(),
            "{pace}: {:?}",
            outcome.tally.faults
        );
        assert_eq!(outcome.tally.of(Kind::Set).count, 300, "{pace}");
        assert_eq!(outcome.tally.of(Kind::Get).count, 600, "{pace}");
        // Each key has one connection, so every get comes after its set.
        assert_eq!(outcome.tally.of(Kind::Get).misses, 0, "{pace}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn presets_run() {
    for preset in [
        "ycsb-a",
        "ycsb-d",
        "etc",
        "twitter-52",
        "twitter-22",
        "twitter-14",
    ] {
        let server = Server::start(Fault::None);
        // A hundred keys from the first on, where the preset would have a million.
        let arguments = format!("--preset {preset} --key-minimum 0 -c 2 -n 500 --data-verify");
        let (outcome, reasons) = measure(&server, &arguments);
        assert!(reasons.is_empty(), "{preset}: {reasons:#?}");
        assert!(outcome.tally.count() >= 1000, "{preset}");
    }
}

#[test]
fn a_replaced_connection_is_used_at_once() {
    for io in ["auto", "epoll"] {
        let server = Server::start(Fault::None);
        let arguments =
            format!("--io {io} --wait sleep -c 1 -n 500 --ratio 0:1 --reconnect-interval 5");
        let (outcome, reasons) = measure(&server, &arguments);
        assert!(reasons.is_empty(), "{reasons:#?}");
        // Of a hundred connections each that had to wait for the longest sleep would take a tenth
        // of a second.
        assert!(
            outcome.measured.as_secs_f64() < 5.0,
            "{io}: {:?}",
            outcome.measured
        );
    }
}

#[test]
fn connections_are_replaced_after_so_many_requests() {
    for io in ["auto", "epoll"] {
        for (pace, depth) in [
            ("-n 100", 1),
            ("-n 100", 7),
            ("--rate 1000 --test-time 0.2", 3),
        ] {
            let server = Server::start(Fault::None);
            let arguments = format!(
                "--io {io} -c 2 --ratio 1:3 --data-verify --reconnect-interval 10 --pipeline {depth} {pace}"
            );
            let (outcome, _) = measure(&server, &arguments);
            assert!(
                outcome.tally.faults.none(),
                "{arguments}: {:?}",
                outcome.tally.faults
            );
            let requests = server.log().len() as u64;
            let least = requests / 10;
            let seen = server.connection_count();
            assert!(
                (least..=least + 4).contains(&seen),
                "{arguments}: {seen} for {requests}"
            );
            if pace.starts_with("-n") {
                assert_eq!(outcome.tally.count(), 200, "{arguments}");
            }
        }
    }
}
