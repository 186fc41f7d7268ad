//! The admin endpoint, asked by tools and attacked by everybody else.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::client::Neighbour;
use crate::server::{PATIENCE, Server, until, variants};

/// Sends `request` and returns all of the answer.
fn http(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    // It may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    while let Ok(len) = stream.read(&mut room) {
        if len == 0 {
            break;
        }
        answer.extend_from_slice(&room[..len]);
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
        (b"GET / HTTP/1.1\r\n\r\n", "404"),
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
