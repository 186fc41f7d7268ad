//! The admin endpoint, asked by tools and attacked by everybody else.

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::client::{Neighbour, set, value};
use crate::server::{Folder, PATIENCE, Server, until, variants};

/// Where operators read what each metric means.
const README: &str = include_str!("../../README.md");

/// Sends `request` and returns all of the answer.
fn http(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    // It may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    loop {
        match stream.read(&mut room) {
            Ok(0) => break,
            Ok(len) => answer.extend_from_slice(&room[..len]),
            // A read with a time limit is not begun again after a signal.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if answer.is_empty() => return format!("no answer: {error}"),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn with_admin(words: &str) -> (Server, u16) {
    let server = Server::start(&format!("{words} --admin 127.0.0.1:0"));
    let said = server.said();
    let line = said.lines().find(|line| line.contains("admin endpoint"));
    let port = line.and_then(|line| line.rsplit(':').next()?.parse().ok());
    (server, port.expect("the line with the admin endpoint"))
}

#[test]
fn health_and_metrics_answer_what_the_stats_say() {
    for (io, threads) in variants() {
        let (server, port) = with_admin(&format!("--io {io} -t {threads}"));
        let mut client = server.client();
        for at in 0..20 {
            client.round_trip(&format!("k{at}"), b"v");
        }
        let health = http(port, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(health.starts_with("HTTP/1.1 200 OK\r\n"), "{health}");
        assert!(health.ends_with("\r\n\r\nok\n"), "{health}");
        let metrics = http(port, b"GET /metrics?x=1 HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, body) = metrics.split_once("\r\n\r\n").expect("head and body");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{head}"
        );
        let mut names = 0;
        for line in body.lines().filter(|line| !line.starts_with('#')) {
            let (name, number) = line.rsplit_once(' ').expect("a name and a number");
            let word = name.split('{').next().expect("a name");
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
            assert!(word.bytes().all(plain), "{line}");
            assert!(number.parse::<f64>().is_ok(), "{line}");
            names += 1;
        }
        assert!(names > 20, "only {names} figures");
        let hits = |line: &&str| line.contains("get_hits") && !line.starts_with('#');
        let line = body.lines().find(hits).expect("the hits");
        assert!(line.ends_with(" 20"), "{line}");
        drop(client);
        server.finish();
    }
}

#[test]
fn a_bad_or_slow_operator_hurts_nobody() {
    let (server, port) = with_admin("-t 2");
    let neighbour = Neighbour::start(&server);
    for (request, status) in [
        (&b"\x00\x01\x02\r\n\r\n"[..], "400"),
        (b"GET\r\n\r\n", "400"),
        (b"GET /none HTTP/1.1\r\n\r\n", "404"),
        (
            b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            "405",
        ),
        (&[b"GET /".to_vec(), vec![b'a'; 8187]].concat(), "431"),
        (
            &[b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(100)].concat(),
            "431",
        ),
    ] {
        let answer = http(port, request);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{status}: {answer:?}");
    }
    let head = http(port, b"HEAD /health HTTP/1.1\r\n\r\n");
    assert!(head.contains("Content-Length: 3\r\n"), "{head:?}");
    assert!(
        head.ends_with("\r\n\r\n"),
        "an answer to HEAD has no body: {head:?}"
    );
    // Many that say half a sentence; those who ask properly are served again once they are gone
    // or have taken too long.
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
        let _ = stream.write_all(b"GET /hea");
        slow.push(stream);
    }
    until("health in spite of them", || {
        http(port, b"GET /health HTTP/1.1\r\n\r\n")
            .ends_with("ok\n")
            .then_some(())
    });
    // Many that ask and leave.
    for _ in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
        let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
    }
    until("metrics after them", || {
        http(port, b"GET /metrics HTTP/1.1\r\n\r\n")
            .starts_with("HTTP/1.1 200")
            .then_some(())
    });
    drop(slow);
    neighbour.stop();
    server.finish();
}

#[test]
fn operators_beyond_the_limit_are_told_so_and_counted_and_so_are_slow_ones() {
    let (server, port) = with_admin("-t 1");
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    let mut silent: Vec<TcpStream> = (0..32).map(|_| connect()).collect();
    let mut client = server.client();
    for refused in 1..=5 {
        let answer = http(port, b"");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
        assert!(answer.ends_with("try again later\n"), "{answer:?}");
        assert_eq!(client.stats()["admin_refused"], refused.to_string());
    }
    assert_eq!(client.stats()["admin_cut"], "0");
    // They are closed when their time is over.
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        assert!(matches!(stream.read(&mut [0]), Ok(0)));
    }
    let metrics = get(port, "/metrics");
    assert!(metrics.contains("\nstrata_admin_refused_total 5\n"));
    assert!(metrics.contains("\nstrata_admin_cut_total 32\n"));
    drop(client);
    server.finish();
}

/// The body of a good answer to a GET.
fn get(port: u16, path: &str) -> String {
    let answer = http(
        port,
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
    );
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n"),
        "{path}: {answer}"
    );
    answer
        .split_once("\r\n\r\n")
        .expect("head and body")
        .1
        .to_owned()
}

fn json(port: u16, path: &str) -> Value {
    let body = get(port, path);
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error} in {body}"))
}

/// What <https://prometheus.io/docs/practices/naming> and the text format ask for, as far as a
/// program can tell.
#[test]
fn metrics_are_named_and_formed_as_prometheus_wants_them() {
    let (server, port) = with_admin("-t 2");
    let mut client = server.client();
    for at in 0..50 {
        client.round_trip(&format!("k{at}"), b"v");
    }
    let page = get(port, "/metrics");
    let (mut kinds, mut helped) = (HashMap::new(), HashSet::new());
    let mut seen = HashSet::new();
    let mut buckets: HashMap<String, Vec<(f64, u64)>> = HashMap::new();
    let mut counts = HashMap::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a text");
            assert!(helped.insert(name.to_owned()), "{name} is explained twice");
            assert!(text.ends_with('.') && text.len() > 4, "{line}");
            continue;
        }
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert!(helped.contains(name), "{name} has no help before its type");
            kinds.insert(name.to_owned(), kind.to_owned());
            assert!(
                README.contains(&format!("`{name}`")),
                "{name} is not in the README"
            );
            assert!(
                name.starts_with("strata_") && name == name.to_ascii_lowercase(),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            for unit in [
                "_us", "_ms", "_ns", "_kb", "_kib", "_mb", "_percent", "_minutes",
            ] {
                assert!(!name.contains(unit), "{name}: not a base unit");
            }
            continue;
        }
        let (series, number) = line.rsplit_once(' ').expect("a number");
        let number: f64 = number.parse().expect("a number");
        assert!(seen.insert(series.to_owned()), "{series} is told twice");
        let name = series.split('{').next().expect("a name");
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|end| name.strip_suffix(end))
            .find(|family| kinds.get(*family).is_some_and(|kind| kind == "histogram"));
        assert!(
            kinds.contains_key(family.unwrap_or(name)),
            "{name} has no type"
        );
        if family.is_some() && name.ends_with("_bucket") {
            let (labels, le) = series.split_once(",le=\"").expect("an edge");
            let le = le.trim_end_matches("\"}").replace("+Inf", "inf");
            let edge = (le.parse().expect("an edge"), number as u64);
            buckets
                .entry(labels.replace("_bucket", ""))
                .or_default()
                .push(edge);
        } else if family.is_some() && name.ends_with("_count") {
            counts.insert(series.replace("_count", "").replace('}', ""), number as u64);
        }
    }
    assert!(
        kinds.len() > 50 && buckets.len() == 6,
        "{} {}",
        kinds.len(),
        buckets.len()
    );
    for (labels, edges) in &buckets {
        assert!(
            edges.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
            "{labels}: {edges:?}"
        );
        assert_eq!(
            edges.last(),
            Some(&(f64::INFINITY, counts[labels])),
            "{labels}"
        );
    }
    assert_eq!(
        counts["strata_request_duration_seconds{command=\"get\""],
        50
    );
    drop(client);
    server.finish();
}

#[test]
fn programs_are_told_what_the_server_does_and_how_it_is_set() {
    for (io, threads) in variants() {
        let (server, port) = with_admin(&format!("--io {io} -t {threads} -c 77"));
        let mut client = server.client();
        client.ask(b"set for_a_day 0 86400 5\r\nvalue\r\n", b"STORED\r\n");
        for _ in 0..3_000 {
            client.round_trip("hot \"key\"".replace(' ', "_").as_str(), b"v");
        }
        let told = json(port, "/stats.json");
        assert_eq!(told["stats"]["cmd_set"], 3_001);
        assert_eq!(told["stats"]["max_connections"], 77);
        assert_eq!(told["latency"]["get"]["count"], 3_000);
        let buckets = told["latency"]["set"]["buckets"]
            .as_array()
            .expect("a list");
        let sum: u64 = buckets
            .iter()
            .map(|pair| pair[1].as_u64().expect("a count"))
            .sum();
        assert_eq!(sum, 3_001);
        let count: usize = threads.parse().expect("a number");
        assert_eq!(told["workers"].as_array().expect("a list").len(), count);
        let items = |list: &str| -> u64 {
            let list = told[list].as_array().expect("a list");
            list.iter()
                .map(|class| class["items"].as_u64().expect("a count"))
                .sum()
        };
        assert_eq!((items("ttl"), items("ages")), (2, 2), "{told}");
        assert!(
            told["ttl"].to_string().contains("null"),
            "one never expires"
        );
        assert!(told["long_ticks"][0]["took_us"].as_f64().expect("a number") > 0.0);
        let hot = json(port, "/hotkeys?n=1");
        assert_eq!(hot["hot_keys"][0]["key"], "hot_%22key%22", "{hot}");
        let config = json(port, "/config");
        assert_eq!(config["maxconns"], 77);
        assert_eq!(config["num_threads"], count);
        assert_eq!(config["admin_token"], false);
        let page = get(port, "/");
        assert!(page.starts_with("<!doctype html>"));
        for outside in ["http://", "https://", "//cdn", "@import", "url("] {
            let page = page.replace("http://www.w3.org/2000/svg", "");
            assert!(!page.contains(outside), "the page needs {outside}");
        }
        drop(client);
        server.finish();
    }
}

#[test]
fn what_nobody_counts_is_said_to_be_off_and_not_told_as_zero() {
    for (io, threads) in variants() {
        let words = format!("--io {io} -t {threads} --no-latency --no-hot-keys");
        let (server, port) = with_admin(&words);
        let mut client = server.client();
        for _ in 0..3_000 {
            client.round_trip("key", b"v");
        }
        let off: &[u8] = b"STAT latency_status disabled\r\nEND\r\n";
        client.ask(b"stats latency\r\n", off);
        client.ask(b"stats latency reset\r\n", b"RESET\r\n");
        let off: &[u8] = b"STAT hotkeys_status disabled\r\nEND\r\n";
        client.ask(b"stats hotkeys\r\n", off);
        let off = b"CLIENT_ERROR nobody looks for hot keys\r\n";
        client.ask(b"watch hotkeys\r\n", off);
        assert!(!client.stats().contains_key("longest_tick_us"));
        let metrics = get(port, "/metrics");
        assert!(
            metrics.contains("strata_get_hits_total 3000\n"),
            "{metrics}"
        );
        for name in ["strata_request_duration_seconds", "longest_tick"] {
            let told = |line: &str| line.contains(name) && !line.contains("--no-latency");
            assert!(!metrics.lines().any(told), "{name} in {metrics}");
        }
        assert!(metrics.contains("left out because of --no-latency"));
        let told = json(port, "/stats.json");
        assert!(told["latency"].is_null() && told["hot_keys"].is_null());
        assert_eq!(told["long_ticks"], Value::Array(Vec::new()));
        assert_eq!(told["stats"]["get_hits"], 3_000);
        let config = json(port, "/config");
        assert_eq!(config["latency_enabled"], "no");
        assert_eq!(config["hotkeys_enabled"], "no");
        let hot = http(port, b"GET /hotkeys HTTP/1.1\r\n\r\n");
        assert!(
            hot.contains("404") && hot.contains("--no-hot-keys"),
            "{hot}"
        );
        drop(client);
        server.finish();
    }
}

#[test]
fn a_token_is_asked_for_where_figures_are_told() {
    let folder = Folder::new();
    let file = folder.file("token");
    std::fs::write(&file, "s3cret-token\n").expect("a file");
    let (server, port) = with_admin(&format!("--admin-token-file {}", file.display()));
    let with = |path: &str, header: &str| {
        let answer = http(
            port,
            format!("GET {path} HTTP/1.1\r\n{header}\r\n").as_bytes(),
        );
        answer.get(9..12).unwrap_or_default().to_owned()
    };
    for path in ["/metrics", "/stats.json", "/hotkeys", "/config", "/none"] {
        for wrong in [
            "",
            "Authorization: Bearer s3cret-tokem\r\n",
            "Authorization: Bearer s3cret-token2\r\n",
            "Authorization: Bearer\r\n",
            "Authorization: Basic s3cret-token\r\n",
            "Authorization: Bearer \r\n",
        ] {
            assert_eq!(with(path, wrong), "401", "{path} {wrong}");
        }
        let status = if path == "/none" { "404" } else { "200" };
        for right in [
            "Authorization: Bearer s3cret-token\r\n",
            "authorization: bearer  s3cret-token\r\n",
        ] {
            assert_eq!(with(path, right), status, "{path} {right}");
        }
    }
    for path in ["/", "/health", "/ready"] {
        assert_eq!(with(path, ""), "200", "{path}");
    }
    assert!(!server.said().contains("s3cret"));
    server.finish();
}

#[test]
fn a_server_that_stops_is_healthy_and_not_ready() {
    let (mut server, port) = with_admin("-t 2");
    assert_eq!(get(port, "/ready"), "ok\n");
    let mut client = server.client();
    client.ask(&set("large", &value(2, 1_000_000)), b"STORED\r\n");
    // Its answers are waited for, for a while.
    client.send_until_stuck(&b"get large\r\n".repeat(1000));
    kill(server.pid, Signal::SIGTERM).expect("it is alive");
    until("it is not ready any more", || {
        http(port, b"GET /ready HTTP/1.1\r\n\r\n")
            .starts_with("HTTP/1.1 503 ")
            .then_some(())
    });
    assert_eq!(get(port, "/health"), "ok\n");
    server.stop(Signal::SIGTERM);
}
