//! Users with hashed passwords and rights: what is answered before the password, who may do what, and that
//! nobody waits for anybody else's password.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::sys::signal::{Signal, kill};

use crate::client::{Client, hit, set, value};
use crate::packet::{Packet, REQUEST};
use crate::server::{Folder, Server, refused, until, variants};

const FAILURE: &[u8] = b"CLIENT_ERROR authentication failure\r\n";
const DENIED: &[u8] = b"CLIENT_ERROR access denied\r\n";
const STRANGER: &[u8] = b"CLIENT_ERROR unauthenticated\r\n";

/// The hash of a password, as the binary makes it.
fn hash(password: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_strata"))
        .arg("hash-password")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut stdin, format!("{password}\n").as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.starts_with("$argon2id$v=19$"), "{text}");
    text.trim_end().to_owned()
}

/// The users of most tests: the password of each is its name and ` pw`.
fn users(folder: &Folder) -> PathBuf {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        let user = |name: &str, access: &str, rest: &str| {
            let hash = hash(&format!("{name} pw"));
            format!("[users.{name}]\npassword = \"{hash}\"\naccess = \"{access}\"\n{rest}\n")
        };
        [
            user("root", "read-write", ""),
            user("reader", "read", ""),
            user("apart", "read-write", "prefixes = [\"a:\", \"common:\"]"),
        ]
        .concat()
    });
    let path = folder.file("users.toml");
    std::fs::write(&path, text).expect("a file");
    path
}

fn pair(user: &str, password: &str) -> Vec<u8> {
    let pair = format!("{user} {password}");
    format!("set x 0 0 {}\r\n{pair}\r\n", pair.len()).into_bytes()
}

/// A client that has said who it is.
fn known(mut client: Client, user: &str) -> Client {
    client.ask(&pair(user, &format!("{user} pw")), b"STORED\r\n");
    client
}

fn start(io: &str, threads: &str, file: &std::path::Path) -> Server {
    let file = file.display();
    Server::start(&format!("--io {io} -t {threads} -A --auth-file {file}"))
}

/// Stops a server whose clients have gone.
fn stop(mut server: Server) {
    let said = server.said();
    assert!(!said.contains(" pw") && !said.contains("argon2"), "{said}");
    server.assert_within_budget();
    server.stop(Signal::SIGTERM);
}

#[test]
fn before_the_password_there_is_the_version_and_the_way_out() {
    for (io, threads) in variants() {
        let folder = Folder::new();
        let server = start(io, threads, &users(&folder));
        for mut client in [server.client(), server.unix_client()] {
            let version = client.answer(b"version\r\n").expect("an answer");
            assert!(version.starts_with("VERSION "), "{version}");
            for request in [
                "get k",
                "stats",
                "mn no",
                "shutdown",
                "watch",
                "verbosity 1",
            ] {
                client.ask(format!("{request}\r\n").as_bytes(), STRANGER);
            }
            client.ask(&pair("root", "wrong"), FAILURE);
            client.ask(&pair("nobody", "root pw"), FAILURE);
            client.ask(
                &set("x", b"root"),
                b"CLIENT_ERROR bad authentication token format\r\n",
            );
            // What stands behind the password waits for it, and comes in order.
            let large = value(1, 100_000);
            let asked = [
                &pair("root", "root pw")[..],
                &set("k", &large),
                b"get k\r\nmn\r\n",
            ];
            client.send(&asked.concat());
            client.expect(&[b"STORED\r\nSTORED\r\n", &hit("k", &large)[..], b"MN\r\n"].concat());
        }
        let mut quits = server.client();
        quits.send(b"quit\r\nversion\r\n");
        assert_eq!(quits.drain().as_deref(), Some(&b""[..]));
        let mut client = known(server.client(), "root");
        let stats = client.stats();
        let figures = ["auth_cmds", "auth_errors", "auth_busy", "access_denied"];
        assert_eq!(figures.map(|name| &stats[name][..]), ["7", "4", "0", "0"]);
        let said = server.said();
        assert!(
            said.contains("wrong password for user root from 127.0.0.1"),
            "{said}"
        );
        client.ask(b"flush_all\r\n", b"OK\r\n");
        drop((client, quits));
        stop(server);
    }
}

#[test]
fn a_reader_changes_nothing() {
    for (io, threads) in variants() {
        let folder = Folder::new();
        let server = start(io, threads, &users(&folder));
        let mut root = known(server.client(), "root");
        root.ask(&set("k", b"v"), b"STORED\r\n");
        root.ask(&set("n", b"5"), b"STORED\r\n");
        let mut reader = known(server.client(), "reader");
        for (request, answer) in [
            (&b"get k\r\n"[..], &hit("k", b"v")[..]),
            (b"mg k v\r\n", b"VA 1\r\nv\r\n"),
            (
                b"get k none n\r\n",
                b"VALUE k 0 1\r\nv\r\nVALUE n 0 1\r\n5\r\nEND\r\n",
            ),
            (b"set k 0 0 1\r\nx\r\n", DENIED),
            (b"add z 0 0 1\r\nx\r\n", DENIED),
            (b"delete k\r\n", DENIED),
            (b"incr n 1\r\n", DENIED),
            (b"touch k 0\r\n", DENIED),
            (b"gat 0 k\r\n", DENIED),
            (b"gat 0 k n\r\n", b"END\r\n"),
            (b"ms k 1 q\r\nx\r\n", DENIED),
            (b"mg k N0 v\r\n", DENIED),
            (b"md k q\r\n", DENIED),
            (b"flush_all\r\n", DENIED),
            (b"stats reset\r\n", DENIED),
            (b"stats sizes\r\n", DENIED),
            (b"lru_crawler metadump all\r\n", DENIED),
            (b"watch fetchers\r\n", DENIED),
            (b"cache_memlimit 100\r\n", DENIED),
            (b"shutdown\r\n", DENIED),
            (b"bogus\r\n", b"ERROR\r\n"),
            // What asks for no reply gets none, and does nothing either.
            (
                b"set k 0 0 1 noreply\r\nx\r\ndelete k noreply\r\nmn\r\n",
                b"MN\r\n",
            ),
        ] {
            reader.ask(request, answer);
        }
        // A value that arrives in pieces is refused as well.
        let large = value(2, 300_000);
        reader.ask(&set("k", &large), DENIED);
        let mixed = b"get k\r\nset k 0 0 1\r\nx\r\nget k\r\ndelete k\r\nget n\r\n";
        let answers = [
            &hit("k", b"v")[..],
            DENIED,
            &hit("k", b"v"),
            DENIED,
            &hit("n", b"5"),
        ];
        for _ in 0..50 {
            reader.ask(mixed, &answers.concat());
        }
        root.ask(b"get k\r\n", &hit("k", b"v"));
        let denied: u32 = root.stats()["access_denied"].parse().expect("a number");
        assert!(denied > 100, "{denied}");
        drop((root, reader));
        stop(server);
    }
}

#[test]
fn a_user_sees_no_key_outside_its_prefixes() {
    for (io, threads) in variants() {
        let folder = Folder::new();
        let server = start(io, threads, &users(&folder));
        let mut root = known(server.client(), "root");
        for key in ["a:1", "a:2", "b:1", "common:1"] {
            root.ask(&set(key, b"v"), b"STORED\r\n");
        }
        let mut apart = known(server.client(), "apart");
        apart.round_trip("a:3", b"mine");
        apart.round_trip("common:3", b"ours");
        for (request, answer) in [
            (&b"get a:1\r\n"[..], &hit("a:1", b"v")[..]),
            (b"get b:1\r\n", DENIED),
            (b"get a\r\n", DENIED),
            // Of several keys those are left out.
            (b"get b:1 a:1 b:1 b:1\r\n", &hit("a:1", b"v")),
            (
                b"get a:1 b:1 a:2\r\n",
                b"VALUE a:1 0 1\r\nv\r\nVALUE a:2 0 1\r\nv\r\nEND\r\n",
            ),
            (b"get b:1 b:1\r\n", b"END\r\n"),
            (b"set b:1 0 0 1\r\nx\r\n", DENIED),
            (b"delete b:1\r\n", DENIED),
            (b"mg b:1 v\r\n", DENIED),
            // b:1 in base64.
            (b"mg Yjox b v\r\n", DENIED),
            (b"mg YTox b v\r\n", b"VA 1\r\nv\r\n"),
            (b"flush_all\r\n", DENIED),
        ] {
            apart.ask(request, answer);
        }
        // Packets: GetK of each, and of both the answer names what was asked.
        for (key, status) in [("a:1", 0), ("b:1", 0x20)] {
            let mut client = known(server.client(), "apart");
            let packet = Packet {
                magic: REQUEST,
                opcode: 0x0c,
                key: key.as_bytes(),
                ..Packet::default()
            };
            client.send(&packet.bytes());
            let head = client.take(24);
            assert_eq!((head[0], head[1], head[7]), (0x81, 0x0c, status), "{key}");
        }
        root.ask(b"get b:1\r\n", &hit("b:1", b"v"));
        drop((root, apart));
        stop(server);
    }
}

#[test]
fn a_wrong_password_waits_ever_longer_and_holds_up_nobody() {
    for (io, threads) in variants() {
        let folder = Folder::new();
        let server = start(io, threads, &users(&folder));
        let mut root = known(server.client(), "root");
        // Each of them alone would wait for seconds by the end.
        let mut wrong: Vec<Client> = (0..8).map(|_| server.client()).collect();
        for (number, client) in wrong.iter_mut().enumerate() {
            client.send(&pair("root", &format!("no {number}")));
            client.send(b"version\r\n");
        }
        let asked = std::time::Instant::now();
        for round in 0..100 {
            root.round_trip("k", format!("{round}").as_bytes());
        }
        // Who is known comes in at once, from the same address.
        drop(known(server.client(), "root"));
        for client in &mut wrong {
            client.expect(FAILURE);
            assert!(client.line().starts_with("VERSION "));
        }
        // Delays of 100, 200, 400 ... 5000 ms in turn.
        let waited = asked.elapsed().as_millis();
        assert!(waited >= 5000, "{waited} ms");
        drop((root, wrong));
        stop(server);
    }
}

#[test]
fn a_hang_up_reads_the_users_again_and_who_is_in_stays() {
    for (io, threads) in variants() {
        let folder = Folder::new();
        let path = users(&folder);
        let server = start(io, threads, &path);
        let mut inside = known(server.client(), "reader");
        let text = std::fs::read_to_string(&path).expect("the file");
        std::fs::write(&path, text.replace("[users.root]", "[users.other]")).expect("a file");
        kill(server.pid, Signal::SIGHUP).expect("the server is alive");
        until("the notice", || {
            server.said().contains("read again").then_some(())
        });
        server
            .client()
            .ask(&pair("other", "root pw"), b"STORED\r\n");
        server.client().ask(&pair("root", "root pw"), FAILURE);
        std::fs::write(&path, "[users.a]\npassword = \"root pw\"\n").expect("a file");
        kill(server.pid, Signal::SIGHUP).expect("the server is alive");
        until("the second notice", || {
            server.said().contains("user a").then_some(())
        });
        server
            .client()
            .ask(&pair("other", "root pw"), b"STORED\r\n");
        inside.ask(b"get k\r\n", b"END\r\n");
        inside.ask(b"delete k\r\n", DENIED);
        drop(inside);
        stop(server);
    }
}

#[test]
fn users_that_cannot_be_read_refuse_the_start() {
    let folder = Folder::new();
    let path = folder.file("users.toml");
    let words = format!("-p -1 --auth-file {}", path.display());
    for (text, part) in [
        (None, "cannot read"),
        (Some("u:hunter2\n"), "line 1"),
        (
            Some("[users.u]\npassword = \"hunter2\"\naccess = \"read\"\n"),
            "user u",
        ),
    ] {
        if let Some(text) = text {
            std::fs::write(&path, text).expect("a file");
        }
        let (said, code) = refused(&words, |_| {});
        assert!(said.contains(part) && code == 71, "{code}: {said}");
        assert!(!said.contains("hunter2"), "a secret: {said}");
    }
    let (said, code) = refused(&format!("{words} -B binary"), |_| {});
    assert!(said.contains("-B binary") && code == 64, "{code}: {said}");
}
