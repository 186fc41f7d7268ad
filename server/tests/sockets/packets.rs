//! The binary protocol over real sockets: packets of every size, among clients that speak in lines.

use crate::client::{Client, hit, set, value};
use crate::packet::{Packet, REQUEST};
use crate::server::{Server, variants};

const GET_KEY: u8 = 0x0c;
const GET_KEY_QUIET: u8 = 0x0d;
const NOOP: u8 = 0x0a;
const QUIT: u8 = 0x07;
const SET: u8 = 0x01;
const SET_QUIET: u8 = 0x11;

fn packet(opcode: u8, cas: u64, extras: &[u8], key: &str, value: &[u8]) -> Vec<u8> {
    Packet {
        magic: REQUEST,
        opcode,
        opaque: opaque(opcode),
        cas,
        extras,
        key: key.as_bytes(),
        value,
        ..Packet::default()
    }
    .bytes()
}

/// What a request of this opcode carries to its reply.
fn opaque(opcode: u8) -> u32 {
    u32::from_be_bytes([b'o', b'p', b'a', opcode])
}

/// The next reply, which must be to this opcode: status, unique and body.
fn reply(client: &mut Client, opcode: u8) -> (u8, u64, Vec<u8>) {
    let header = client.take(24);
    assert_eq!(header[..2], [0x81, opcode]);
    assert_eq!(header[12..16], opaque(opcode).to_be_bytes());
    let body_bytes = u32::from_be_bytes(header[8..12].try_into().expect("four bytes"));
    let cas = u64::from_be_bytes(header[16..].try_into().expect("eight bytes"));
    (header[7], cas, client.take(body_bytes as usize))
}

#[test]
fn packets_of_every_size_come_back_and_lines_read_what_they_wrote() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let mut client = server.client();
        let mut reader = server.client();
        for round in 0..6 {
            let lens = [0, 10, 5_000, 9_000, 20_000, 100_000, 1_000_000];
            for (at, len) in lens.into_iter().enumerate() {
                let (key, value) = (format!("k{round}-{at}"), value(round, len));
                let opcode = if at % 2 == 0 { SET } else { SET_QUIET };
                let pipeline = [
                    packet(opcode, 0, &[0; 8], &key, &value),
                    packet(GET_KEY_QUIET, 0, b"", "missing", b""),
                    packet(GET_KEY, 0, b"", &key, b""),
                    packet(NOOP, 0, b"", "", b""),
                ];
                client.send(&pipeline.concat());
                let stored = (at % 2 == 0).then(|| reply(&mut client, SET));
                let (status, cas, body) = reply(&mut client, GET_KEY);
                assert!(stored.is_none_or(|stored| stored == (0, cas, Vec::new())));
                assert!(status == 0 && cas != 0);
                assert!(
                    body == [&[0; 4], key.as_bytes(), &value].concat(),
                    "{io} {key}"
                );
                assert_eq!(reply(&mut client, NOOP), (0, 0, Vec::new()));
            }
            for (at, len) in lens.into_iter().enumerate() {
                let (key, value) = (format!("k{round}-{at}"), value(round, len));
                reader.ask(format!("get {key}\r\n").as_bytes(), &hit(&key, &value));
            }
        }
        drop((client, reader));
        server.finish();
    }
}

#[test]
fn a_unique_from_either_protocol_is_met_by_a_packet() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let (mut client, mut other) = (server.client(), server.client());
        for number in 0..50 {
            let key = format!("k{number}");
            client.send(&packet(SET, 0, &[0; 8], &key, b"one"));
            let (_, first, _) = reply(&mut client, SET);
            other.ask(&set(&key, b"two"), b"STORED\r\n");
            client.send(&packet(SET, first, &[0; 8], &key, b"three"));
            assert_eq!(reply(&mut client, SET).0, 2);
            other.send(format!("gets {key}\r\n").as_bytes());
            let line = other.line();
            let second = line.rsplit(' ').next().and_then(|word| word.parse().ok());
            other.expect(b"two\r\nEND\r\n");
            client.send(&packet(
                SET,
                second.expect("a unique"),
                &[0; 8],
                &key,
                b"four",
            ));
            assert_eq!(reply(&mut client, SET).0, 0);
        }
        drop((client, other));
        server.finish();
    }
}

#[test]
fn a_quit_is_answered_and_ends_the_connection() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads}"));
        let mut client = server.client();
        let quit = packet(QUIT, 0, b"", "", b"");
        client.send(&[&packet(GET_KEY, 0, b"", "missing", b"")[..], &quit].concat());
        assert_eq!(reply(&mut client, GET_KEY), (1, 0, b"missing".to_vec()));
        assert_eq!(reply(&mut client, QUIT), (0, 0, Vec::new()));
        assert_eq!(client.drain().as_deref(), Some(&b""[..]), "{io} {threads}");
        server.finish();
    }
}
