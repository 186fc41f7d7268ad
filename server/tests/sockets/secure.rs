//! Claims about TLS: real handshakes with the real binary, on both back ends.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use crate::client::{Client, Dice, Stream, hit, set, value};
use crate::server::{Folder, Server, hand_over, open_folder, refused, until, variants};

/// An authority, and files of certificates that it vouches for.
struct Authority {
    folder: Folder,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A name's certificate and key, in PEM.
struct Paper {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let authority = Self {
            folder: Folder::new(),
            issuer,
        };
        std::fs::write(authority.folder.file("ca.pem"), authority.issuer.pem()).expect("a file");
        authority.write_server_paper();
        authority
    }

    fn paper(&self, name: &str) -> Paper {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("it signs");
        Paper {
            certificate: signed.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A new certificate for the server.
    fn write_server_paper(&self) {
        let paper = self.paper("localhost");
        std::fs::write(self.folder.file("chain.pem"), paper.certificate).expect("a file");
        std::fs::write(self.folder.file("key.pem"), paper.key).expect("a file");
    }

    /// What a server is told to have TLS.
    fn words(&self, more: &str) -> String {
        let file = |name| self.folder.file(name).display().to_string();
        format!(
            "-Z -o ssl_chain_cert={},ssl_key={},ssl_ca_cert={}{more}",
            file("chain.pem"),
            file("key.pem"),
            file("ca.pem")
        )
    }

    fn config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        paper: Option<&Paper>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match paper {
            None => builder.with_no_client_auth(),
            Some(paper) => {
                let chain = CertificateDer::from_pem_slice(paper.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(paper.key.as_bytes());
                builder
                    .with_client_auth_cert(vec![chain.expect("PEM")], key.expect("PEM"))
                    .expect("they belong together")
            }
        }
    }

    fn usual(&self) -> Arc<ClientConfig> {
        Arc::new(self.config(&[&TLS13, &TLS12], None))
    }
}

struct Secured(StreamOwned<ClientConnection, TcpStream>);

impl Read for Secured {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Secured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl AsFd for Secured {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.sock.as_fd()
    }
}

impl Stream for Secured {}

/// A new client's side of a connection.
fn side(config: &Arc<ClientConfig>) -> ClientConnection {
    let name = ServerName::try_from("localhost").expect("a name");
    ClientConnection::new(Arc::clone(config), name).expect("a client")
}

/// Both halves of a connection that has shaken hands.
fn shaken(port: u16, config: &Arc<ClientConfig>) -> std::io::Result<(ClientConnection, TcpStream)> {
    let mut tls = side(config);
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(crate::server::PATIENCE))?;
    while tls.is_handshaking() || tls.wants_write() {
        tls.complete_io(&mut socket)?;
    }
    Ok((tls, socket))
}

/// Shakes hands; the connection, and how it began.
fn shake(
    port: u16,
    config: &Arc<ClientConfig>,
) -> std::io::Result<(Client, HandshakeKind, Vec<u8>)> {
    let (tls, socket) = shaken(port, config)?;
    let kind = tls.handshake_kind().expect("it is done");
    let paper = tls.peer_certificates().expect("it is done")[0].to_vec();
    let client = Client::new(Box::new(Secured(StreamOwned::new(tls, socket))));
    Ok((client, kind, paper))
}

/// The records that a client's side has to send.
fn records(tls: &mut ClientConnection) -> Vec<u8> {
    let mut records = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut records).expect("a vector");
    }
    records
}

fn secured(port: u16, config: &Arc<ClientConfig>) -> Client {
    shake(port, config).expect("it is let in").0
}

#[test]
fn a_client_over_tls_is_served_as_any_other() {
    let authority = Authority::new();
    for (io, workers) in variants() {
        let server = Server::start(&format!("--io {io} -t {workers} {}", authority.words("")));
        for versions in [[&TLS13], [&TLS12]] {
            let config = Arc::new(authority.config(&versions, None));
            let mut client = secured(server.port, &config);
            client.round_trip("small", b"value");
            let large: Vec<u8> = (0..1_000_000u32).map(|at| at as u8).collect();
            client.round_trip("large", &large);
            let mut pipeline = Vec::new();
            let mut expected = Vec::new();
            for _ in 0..3000 {
                pipeline.extend_from_slice(b"get small\r\nmn\r\n");
                expected.extend_from_slice(b"VALUE small 0 5\r\nvalue\r\nEND\r\nMN\r\n");
            }
            client.ask(&pipeline, &expected);
        }
        let mut neighbour = server.unix_client();
        neighbour.round_trip("plain", b"on the unix socket");
        let stats = neighbour.stats();
        assert_eq!(stats["ssl_handshake_errors"], "0");
        assert_eq!(stats["ssl_proto_errors"], "0");
        drop(neighbour);
        finish_secured(server, &authority);
    }
}

/// Checks what [`Server::finish`] does, with TLS where that has none.
fn finish_secured(mut server: Server, authority: &Authority) {
    let mut client = secured(server.port, &authority.usual());
    until("all other connections are forgotten", || {
        (client.stats().get("curr_connections")? == "1").then_some(())
    });
    server.assert_within_budget();
    drop(client);
    server.stop(Signal::SIGTERM);
}

#[test]
fn who_does_not_speak_tls_loses_no_more_than_its_connection() {
    let authority = Authority::new();
    for (io, workers) in variants() {
        let server = Server::start(&format!("--io {io} -t {workers} {}", authority.words("")));
        let mut client = secured(server.port, &authority.usual());
        for bytes in [&b"get key\r\n"[..], &[0x16, 3, 1, 0, 2, 1, 0], &[0; 70_000]] {
            let mut stranger = Client::tcp(server.port);
            stranger.send_until_stuck(bytes);
            stranger.half_close();
            assert!(stranger.drain().is_some(), "it is not closed");
        }
        client.round_trip("key", b"value");
        let errors = &client.stats()["ssl_handshake_errors"];
        assert_eq!(errors, "3");
    }
}

#[test]
fn records_changed_on_their_way_cost_their_own_connection_and_are_counted() {
    let authority = Authority::new();
    let config = authority.usual();
    for (io, workers) in variants() {
        let server = Server::start(&format!("--io {io} -t {workers} {}", authority.words("")));
        let mut neighbour = secured(server.port, &config);
        let mut dice = Dice::new(0x7154);
        let (mut shaking, mut shook) = (0, 0);
        for round in 0..120 {
            let (mut stranger, mut bytes) = match round % 3 {
                // What is no beginning of anything.
                0 => {
                    let len = 5 + dice.below(3000);
                    (Client::tcp(server.port), dice.bytes(len))
                }
                // One byte of a first flight, whose client never answers.
                1 => (Client::tcp(server.port), records(&mut side(&config))),
                // A request whose record is not what it was.
                _ => {
                    let (mut tls, socket) = shaken(server.port, &config).expect("it is let in");
                    tls.writer().write_all(b"get key\r\n").expect("room");
                    (Client::new(Box::new(socket)), records(&mut tls))
                }
            };
            if round % 3 == 2 {
                // Behind the head, which says what is to come: nothing but the tag can tell.
                let at = 5 + dice.below(bytes.len() - 5);
                bytes[at] ^= 1 << dice.below(8);
                shook += 1;
            } else {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
                shaking += 1;
            }
            stranger.send_until_stuck(&bytes);
            stranger.half_close();
            assert!(
                stranger.drain().is_some(),
                "round {round}: it is not closed"
            );
            if round % 10 == 0 {
                neighbour.round_trip("key", b"value");
            }
        }
        let stats = neighbour.stats();
        let count = |name: &str| stats[name].parse::<usize>().expect("a count");
        assert_eq!(count("ssl_handshake_errors"), shaking);
        assert_eq!(count("ssl_proto_errors"), shook);
        drop(neighbour);
        finish_secured(server, &authority);
    }
}

#[test]
fn a_socket_that_is_handed_over_has_the_tls_that_its_name_says() {
    let authority = Authority::new();
    let sockets: Vec<TcpListener> = (0..4)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
        .collect();
    let port = |at: usize| sockets[at].local_addr().expect("bound").port();
    let numbers: Vec<_> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let server = Server::start_with(&authority.words(""), |command| {
        hand_over(command, &numbers, "any.socket:notls:btls:mtls");
    });
    let known = authority.paper("a client");
    let known = Arc::new(authority.config(&[&TLS13, &TLS12], Some(&known)));
    let nobody = authority.usual();
    Client::tcp(port(1)).round_trip("plain", b"value");
    for (at, config, welcome) in [
        (0, &nobody, true),
        (1, &nobody, false),
        (2, &nobody, true),
        (3, &nobody, false),
        (3, &known, true),
    ] {
        let answered = shake(port(at), config).is_ok_and(|(mut client, ..)| {
            client.answer(b"mn\r\n").is_some_and(|line| line == "MN")
        });
        assert_eq!(answered, welcome, "socket {at}");
    }
    for at in [0, 2, 3] {
        let mut plain = Client::tcp(port(at));
        plain.send(b"mn\r\n");
        let heard = plain.drain().expect("it is closed");
        assert!(!heard.starts_with(b"MN"), "socket {at}");
    }
    drop(server);
}

#[test]
fn a_key_that_only_root_reads_serves_a_server_that_is_root_no_longer() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let authority = Authority::new();
    for name in ["chain.pem", "key.pem"] {
        let mode = PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(authority.folder.file(name), mode).expect("our own file");
    }
    let words = format!("-t 1 -u nobody {}", authority.words(""));
    let server = Server::start_with(&words, open_folder);
    let shown = || shake(server.port, &authority.usual()).expect("it is let in");
    let (mut client, _, first) = shown();
    client.round_trip("k", b"v");
    let said = server.said();
    assert!(said.contains("it will not be read again"), "{said}");
    kill(server.pid, Signal::SIGHUP).expect("it is alive");
    until("the certificates stay", || {
        let said = server.said();
        let line = said
            .lines()
            .find(|line| line.contains("those known before stay"))?;
        assert!(
            line.contains("chain.pem : ") && line.contains("ermission denied"),
            "{line}"
        );
        Some(())
    });
    let answer = client.answer(b"refresh_certs\r\n").expect("an answer");
    assert!(answer.starts_with("Error loading the "), "{answer}");
    assert_eq!(shown().2, first);
    drop(client);
    finish_secured(server, &authority);
}

#[test]
fn each_listener_asks_for_what_it_was_told_to_ask_for() {
    let authority = Authority::new();
    let words = authority.words(",ssl_verify_mode=1");
    let listen = "-l 127.0.0.1,notls:127.0.0.1,btls:127.0.0.1,mtls:127.0.0.1";
    let server = Server::start(&format!("{words} {listen}"));
    let ports = server.ports();
    let [asks, open, never, always] = ports[..] else {
        panic!("{ports:?}");
    };
    let nobody = authority.usual();
    let known = authority.paper("a client");
    let known = Arc::new(authority.config(&[&TLS13, &TLS12], Some(&known)));
    let foreign = Authority::new().paper("a client");
    let foreign = Arc::new(authority.config(&[&TLS13, &TLS12], Some(&foreign)));
    Client::tcp(open).round_trip("plain", b"value");
    for (port, config, welcome) in [
        (asks, &nobody, true),
        (asks, &known, true),
        (asks, &foreign, false),
        (never, &nobody, true),
        (never, &foreign, true),
        (always, &nobody, false),
        (always, &known, true),
        (always, &foreign, false),
    ] {
        // In TLS 1.3 a client is done before the server has looked at its certificate.
        let answered = shake(port, config).is_ok_and(|(mut client, ..)| {
            client.answer(b"mn\r\n").is_some_and(|line| line == "MN")
        });
        assert_eq!(answered, welcome, "port {port} of {ports:?}");
    }
}

#[test]
fn a_listener_that_asks_for_certificates_takes_no_ticket_of_one_that_does_not() {
    let authority = Authority::new();
    let listen = "-l btls:127.0.0.1,mtls:127.0.0.1";
    let server = Server::start(&format!(
        "{} {listen}",
        authority.words(",ssl_session_cache")
    ));
    let ports = server.ports();
    for versions in [[&TLS13], [&TLS12]] {
        let config = Arc::new(authority.config(&versions, None));
        // Twice, so that there is a ticket for certain.
        for _ in 0..2 {
            secured(ports[0], &config).round_trip("key", b"value");
        }
        let answered = shake(ports[1], &config)
            .is_ok_and(|(mut client, ..)| client.answer(b"mn\r\n").is_some());
        assert!(!answered);
    }
}

#[test]
fn a_session_is_resumed_and_counted_once() {
    let authority = Authority::new();
    for (io, workers) in variants() {
        let words = authority.words(",ssl_session_cache");
        let server = Server::start(&format!("--io {io} -t {workers} {words}"));
        for versions in [[&TLS13], [&TLS12]] {
            let mut config = authority.config(&versions, None);
            config.resumption = Resumption::in_memory_sessions(8);
            let config = Arc::new(config);
            let (mut client, first, _) = shake(server.port, &config).expect("it is let in");
            // The tickets come with the first reply.
            client.round_trip("key", b"value");
            let (mut client, second, _) = shake(server.port, &config).expect("it is let in");
            client.round_trip("key", b"value");
            assert_eq!(first, HandshakeKind::Full);
            assert_eq!(second, HandshakeKind::Resumed);
        }
        assert_eq!(server.unix_client().stats()["ssl_new_sessions"], "2");
    }
}

#[test]
fn new_certificates_are_taken_up_without_losing_a_connection() {
    let authority = Authority::new();
    for (io, workers) in variants() {
        let server = Server::start(&format!("--io {io} -t {workers} {}", authority.words("")));
        let shown = || {
            shake(server.port, &authority.usual())
                .expect("it is let in")
                .2
        };
        let (mut client, _, first) = shake(server.port, &authority.usual()).expect("it is let in");
        client.round_trip("key", b"value");
        assert_eq!(shown(), first);

        authority.write_server_paper();
        client.ask(b"refresh_certs\r\n", b"OK\r\n");
        let second = shown();
        assert_ne!(second, first);

        authority.write_server_paper();
        kill(server.pid, Signal::SIGHUP).expect("the server is alive");
        until("the hang-up signal is heeded", || {
            (shown() != second).then_some(())
        });
        let third = shown();

        std::fs::write(authority.folder.file("chain.pem"), "no certificate").expect("a file");
        let answer = client.answer(b"refresh_certs\r\n").expect("an answer");
        assert!(
            answer.starts_with("Error loading the certificate chain: "),
            "{answer}"
        );
        assert_eq!(shown(), third);
        client.round_trip("key", b"of the oldest connection");
        authority.write_server_paper();
    }
    let server = Server::start("");
    let mut client = server.client();
    client.ask(b"refresh_certs\r\n", b"Error TLS not enabled\r\n");
}

#[test]
fn handshakes_that_are_not_finished_hold_nobody_up_and_are_given_up() {
    let authority = Authority::new();
    // At once, because each waits for as long as a handshake may take.
    std::thread::scope(|scope| {
        for (io, workers) in variants() {
            let authority = &authority;
            scope.spawn(move || leave_handshakes_unfinished(authority, io, workers));
        }
    });
}

fn leave_handshakes_unfinished(authority: &Authority, io: &str, workers: &str) {
    let server = Server::start(&format!("--io {io} -t {workers} {}", authority.words("")));
    let mut client = secured(server.port, &authority.usual());
    let idle: Vec<Client> = (0..200)
        .map(|_| {
            let hello = records(&mut side(&authority.usual()));
            let mut client = Client::tcp(server.port);
            client.send(&hello);
            client
        })
        .collect();
    client.round_trip("key", b"value");
    for mut client in idle {
        assert!(client.drain().is_some(), "it is not given up");
    }
    client.round_trip("key", b"value");
    assert_eq!(client.stats()["ssl_handshake_errors"], "200");
}

#[test]
fn requests_right_behind_the_handshake_are_served_however_long() {
    let authority = Authority::new();
    let paper = authority.paper("client");
    let value = value(1, 900_000);
    for (io, workers) in variants() {
        // Whose certificate has to be looked at has a step away when its requests arrive.
        for (paper, mode) in [(None, 0), (Some(&paper), 2)] {
            let words = authority.words(&format!(",ssl_verify_mode={mode}"));
            let server = Server::start(&format!("--io {io} -t {workers} {words}"));
            let config = Arc::new(authority.config(&[&TLS13], paper));
            let mut tls = side(&config);
            tls.set_buffer_limit(None);
            let mut socket = TcpStream::connect(("127.0.0.1", server.port)).expect("a socket");
            socket
                .set_read_timeout(Some(crate::server::PATIENCE))
                .expect("a socket");
            socket.write_all(&records(&mut tls)).expect("it listens");
            while tls.is_handshaking() {
                tls.read_tls(&mut socket).expect("it answers");
                tls.process_new_packets().expect("it speaks TLS");
            }
            tls.writer()
                .write_all(&set("key", &value))
                .expect("a client");
            socket.write_all(&records(&mut tls)).expect("it reads on");
            let mut client = Client::new(Box::new(Secured(StreamOwned::new(tls, socket))));
            client.expect(b"STORED\r\n");
            client.ask(b"get key\r\n", &hit("key", &value));
            assert_eq!(client.stats()["ssl_handshake_errors"], "0");
        }
    }
}

#[test]
fn a_flood_of_handshakes_delays_neither_neighbours_nor_new_certificates_nor_the_end() {
    let authority = Authority::new();
    let hello = records(&mut side(&authority.usual()));
    for (io, workers) in variants() {
        let mut server = Server::start(&format!("--io {io} -t {workers} {}", authority.words("")));
        let mut neighbour = secured(server.port, &authority.usual());
        let flood = || -> Vec<TcpStream> {
            let one = || {
                let mut socket = TcpStream::connect(("127.0.0.1", server.port)).expect("a socket");
                socket.write_all(&hello).expect("it takes it");
                socket
            };
            (0..200).map(|_| one()).collect()
        };
        let sockets = flood();
        neighbour.round_trip("key", b"value");
        neighbour.ask(b"refresh_certs\r\n", b"OK\r\n");
        secured(server.port, &authority.usual()).round_trip("key", b"value");
        for mut socket in sockets {
            socket
                .set_read_timeout(Some(crate::server::PATIENCE))
                .expect("a socket");
            let mut first = [0];
            socket.read_exact(&mut first).expect("each is answered");
            assert_eq!(first, [22]);
        }
        let stats = until("no step is due", || {
            let stats = neighbour.stats();
            (stats["ssl_handshakes_waiting"] == "0").then_some(stats)
        });
        assert_ne!(stats["ssl_handshake_wait_max_us"], "0");
        let _sockets = flood();
        server.stop(Signal::SIGTERM);
    }
}

#[test]
fn what_tls_lacks_is_said_at_the_start() {
    let authority = Authority::new();
    let file = |name| authority.folder.file(name).display().to_string();
    let (chain, key) = (file("chain.pem"), file("key.pem"));
    let foreign = file("foreign.pem");
    std::fs::write(&foreign, authority.paper("other").key).expect("a file");
    for (words, part) in [
        (
            "-o ssl_chain_cert=/nowhere".to_owned(),
            "certificate chain: /nowhere",
        ),
        (
            format!("-o ssl_chain_cert={chain}"),
            "Error loading the key",
        ),
        (
            format!("-o ssl_chain_cert={chain},ssl_key={foreign}"),
            "validating",
        ),
        (
            format!("-o ssl_chain_cert={chain},ssl_key={key},ssl_verify_mode=2"),
            "ssl_ca_cert",
        ),
        (
            format!("-l mtls:127.0.0.1 -o ssl_chain_cert={chain},ssl_key={key}"),
            "ssl_ca_cert",
        ),
        (
            format!("-o ssl_chain_cert={chain},ssl_key={key},ssl_ciphers=RC4-MD5"),
            "RC4-MD5",
        ),
    ] {
        let (said, code) = refused(&format!("-p -1 -Z {words}"), |_| {});
        assert!(said.contains(part) && code != 0, "{words}: {code}, {said}");
    }
}
