//! A service manager played by the test: what it is told, and the sockets it hands over.

use std::io::{BufRead, BufReader, PipeReader};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::signal::{Signal, kill};

use crate::client::{Client, Neighbour, set, value};
use crate::server::{Folder, PATIENCE, Server, hand_over, open_folder, refused, until, variants};

/// Where a server tells what becomes of it.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new(folder: &Folder) -> Self {
        let path = folder.file("notify");
        let socket = UnixDatagram::bind(&path).expect("a path for a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { socket, path }
    }

    /// Has a server speak to it, which expects to hear of it every so many microseconds.
    fn starts(&self, command: &mut Command, watchdog_us: Option<u32>) {
        command.env("NOTIFY_SOCKET", &self.path);
        if let Some(us) = watchdog_us {
            command.env("WATCHDOG_USEC", us.to_string());
        }
    }

    fn hear(&self) -> Option<String> {
        let mut room = [0; 1000];
        let len = self.socket.recv(&mut room).ok()?;
        Some(String::from_utf8_lossy(&room[..len]).into_owned())
    }

    /// Waits for what begins so.
    fn expect(&self, start: &str) -> String {
        loop {
            let heard = self.hear();
            let heard = heard.unwrap_or_else(|| panic!("nothing with {start} was told"));
            if heard.starts_with(start) {
                return heard;
            }
        }
    }
}

#[test]
fn a_manager_is_told_of_the_start_of_files_read_again_and_of_the_end() {
    for (io, threads) in variants() {
        let folder = Folder::new();
        let manager = Manager::new(&folder);
        let words = format!("--io {io} -t {threads}");
        let mut server = Server::start_with(&words, |command| manager.starts(command, None));
        let ready = manager.hear().expect("the start");
        let serving = format!("READY=1\nSTATUS=serving with {threads} workers on ");
        assert!(ready.starts_with(&serving), "{ready}");
        kill(server.pid, Signal::SIGHUP).expect("it is alive");
        let reloading = manager.hear().expect("the files");
        let us = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(
            us.is_some_and(|us| us.parse::<u64>().is_ok()),
            "{reloading}"
        );
        assert_eq!(manager.hear().expect("the files"), ready);
        server.stop(Signal::SIGTERM);
        let stopping = manager.hear().expect("the end");
        assert!(stopping.starts_with("STOPPING=1\n"), "{stopping}");
    }
}

#[test]
fn a_manager_may_have_a_name_without_a_file() {
    let name = format!("strata-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("nobody has it");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let server = Server::start_with("-t 1", |command| {
        command.env("NOTIFY_SOCKET", format!("@{name}"));
    });
    let mut room = [0; 7];
    socket.recv(&mut room).expect("the start");
    assert_eq!(&room, b"READY=1");
    server.finish();
}

#[test]
fn the_watchdog_is_told_that_all_is_well_whether_or_not_anything_is_asked() {
    let folder = Folder::new();
    let manager = Manager::new(&folder);
    let server = Server::start_with("-t 2", |command| manager.starts(command, Some(400_000)));
    for _ in 0..5 {
        assert_eq!(manager.expect("WATCHDOG"), "WATCHDOG=1");
    }
    let mut client = server.client();
    for _ in 0..5 {
        client.round_trip("k", b"v");
        assert_eq!(manager.expect("WATCHDOG"), "WATCHDOG=1");
    }
    drop(client);
    server.finish();
}

#[test]
fn the_watchdog_is_told_nothing_while_a_worker_stands_still() {
    for (io, threads) in [("epoll", "2"), ("auto", "2")] {
        let folder = Folder::new();
        let manager = Manager::new(&folder);
        let words = format!("--io {io} -t {threads} --debug-stall 1:8000");
        // Twenty times a second, while all is well.
        let server = Server::start_with(&words, |command| manager.starts(command, Some(200_000)));
        manager.expect("READY");
        manager.expect("WATCHDOG");
        let short = Some(Duration::from_secs(3));
        manager.socket.set_read_timeout(short).expect("a socket");
        until("it goes quiet", || manager.hear().is_none().then_some(()));
        // It knows why.
        until("it says so", || {
            server
                .said()
                .contains("a worker has not answered")
                .then_some(())
        });
        kill(server.pid, Signal::SIGKILL).expect("it is alive");
    }
}

#[test]
fn sockets_that_are_handed_over_take_the_place_of_others() {
    for (io, threads) in variants() {
        let folder = Folder::new();
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        // As a manager may open it.
        tcp.set_nonblocking(true).expect("a socket");
        let port = tcp.local_addr().expect("bound").port();
        let path = folder.file("handed");
        let unix = UnixListener::bind(&path).expect("a path");
        let sockets: Vec<OwnedFd> = vec![tcp.into(), unix.into()];
        let numbers: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        let words = format!("--io {io} -t {threads}");
        let mut server =
            Server::start_with(&words, |command| hand_over(command, &numbers, "any:any"));
        assert_eq!(server.port, port);
        for at in 0..20 {
            let (mut tcp, mut unix) = (server.client(), Client::unix(&path));
            tcp.round_trip(&format!("k{at}"), b"v");
            unix.ask(format!("get k{at}\r\n").as_bytes(), b"VALUE");
            drop((tcp, unix));
        }
        assert!(server.said().contains("has opened 2 sockets"));
        server.stop(Signal::SIGTERM);
        assert!(path.exists(), "the socket's file belongs to the manager");
        drop(sockets);
    }
}

#[test]
fn what_is_handed_over_must_be_listeners_and_fit_the_options() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = UnixDatagram::unbound().expect("a socket");
    let connected = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
    let connected = connected.expect("it listens");
    for (words, fd, names, part) in [
        ("", other.as_raw_fd(), "any", "neither of TCP nor"),
        ("", connected.as_raw_fd(), "any", "nobody listens"),
        ("", listener.as_raw_fd(), "mtls", "-Z turns it on"),
        (
            "--shard-ports",
            listener.as_raw_fd(),
            "any",
            "--shard-ports",
        ),
    ] {
        let (said, code) = refused(words, |command| hand_over(command, &[fd], names));
        assert!(said.contains(part), "{part}: {said}");
        assert_eq!(code, 71);
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let server = Server::start_with("-t 1", |command| {
        command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    });
    assert!(!server.said().contains("service manager"));
    server.finish();
}

#[test]
fn what_has_reached_the_server_before_a_stop_is_answered() {
    for (io, threads) in variants() {
        let mut server = Server::start(&format!("--io {io} -t {threads}"));
        let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
        clients[0].ask(&set("k", b"v"), b"STORED\r\n");
        // More than the server receives at a time.
        let count = 20_000;
        for client in &mut clients {
            client.send(&b"touch k 0\r\n".repeat(count));
        }
        kill(server.pid, Signal::SIGTERM).expect("it is alive");
        for client in &mut clients {
            let replies = client.drain().expect("the server closes");
            let whole = b"TOUCHED\r\n".len() * count;
            assert_eq!(replies.len(), whole, "{}", server.words);
        }
        server.assert_ends_well();
    }
}

/// A client that has asked for more than it takes.
fn stuck(server: &Server) -> Client {
    let mut client = server.client();
    client.ask(&set("large", &value(2, 1_000_000)), b"STORED\r\n");
    client.send_until_stuck(&b"get large\r\n".repeat(1000));
    client
}

#[test]
fn a_second_signal_ends_at_once_what_one_would_wait_for() {
    for (io, threads) in variants() {
        let mut server = Server::start(&format!("--io {io} -t {threads} --drain 3600"));
        let client = stuck(&server);
        kill(server.pid, Signal::SIGTERM).expect("it is alive");
        until("it begins to stop", || {
            server.said().contains("stopping").then_some(())
        });
        server.stop(Signal::SIGTERM);
        assert!(server.said().contains("a second signal"));
        drop(client);
    }
}

#[test]
fn a_stop_waits_no_longer_than_it_is_told_to() {
    for (io, threads) in variants() {
        let mut server = Server::start(&format!("--io {io} -t {threads} --drain 1"));
        let client = stuck(&server);
        server.stop(Signal::SIGTERM);
        assert!(server.said().contains("1 connections did not take"));
        drop(client);
    }
}

#[test]
fn programs_can_read_every_line_of_the_log() {
    let server = Server::start("-t 2 -vv --log-format json");
    server.client().round_trip("k", b"v");
    kill(server.pid, Signal::SIGHUP).expect("it is alive");
    until("a command is told", || {
        server.said().contains("set").then_some(())
    });
    let (mut levels, said) = (Vec::new(), server.said());
    for line in said.lines().filter(|line| line.ends_with('}')) {
        let object: serde_json::Value = serde_json::from_str(line).expect("an object");
        assert!(object["message"].is_string(), "{line}");
        levels.push(object["level"].as_str().expect("a level").to_owned());
    }
    assert!(levels.contains(&"INFO".to_owned()) && levels.contains(&"DEBUG".to_owned()));
    server.stop_unasked();
}

/// Commands of a flood: their lines are several times what waits for standard error.
const FLOOD: usize = 300_000;

/// A server that says every command, and was flooded with them while nobody read what it says.
fn flooded(io: &str, threads: &str) -> (Server, PipeReader) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let server = Server::start_with(&format!("--io {io} -t {threads} -vv"), |command| {
        command.stderr(writer);
    });
    let neighbour = Neighbour::start(&server);
    let mut client = server.client();
    client.round_trip("before", b"v");
    let resident = server.memory_bytes("VmRSS");
    for _ in 0..FLOOD / 1000 {
        client.ask(&b"get flood\r\n".repeat(1000), &b"END\r\n".repeat(1000));
    }
    let grown = server.memory_bytes("VmHWM").saturating_sub(resident);
    assert!(grown < 16 << 20, "{} MiB more for lines", grown >> 20);
    neighbour.stop();
    let dropped: usize = client.stats()["log_worker_dropped"]
        .parse()
        .expect("a count");
    assert!(dropped > FLOOD / 2, "{dropped} of {FLOOD}");
    (server, reader)
}

#[test]
fn lines_that_nobody_reads_hold_nobody_up_and_each_is_written_or_counted() {
    for (io, threads) in variants() {
        let (mut server, reader) = flooded(io, threads);
        let (lines, skipped) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for line in BufReader::new(reader).lines() {
                    let line = line.expect("a line");
                    if let Some(count) = line.strip_prefix("skipped=") {
                        skipped.fetch_add(count.parse().expect("a count"), Ordering::Relaxed);
                    }
                    lines.fetch_add(usize::from(line.contains("flood")), Ordering::Relaxed);
                }
            });
            // What was lost is told with the next line of the same worker for which there is room; when
            // the thread that writes comes to it is nobody's promise.
            until("each line is written or counted", || {
                let mut clients: Vec<Client> = (0..6).map(|_| server.client()).collect();
                for client in &mut clients {
                    client.ask(b"get after\r\n", b"END\r\n");
                }
                let sum = lines.load(Ordering::Relaxed) + skipped.load(Ordering::Relaxed);
                (sum >= FLOOD).then_some(())
            });
            server.stop(Signal::SIGTERM);
        });
        let (lines, skipped) = (lines.into_inner(), skipped.into_inner());
        assert!(skipped > 0 && lines > 0, "{lines} lines, {skipped} skipped");
    }
}

#[test]
fn lines_that_wait_are_written_before_the_end() {
    for (io, threads) in variants() {
        let mut server = Server::start(&format!("--io {io} -t {threads} -vv"));
        let mut client = server.client();
        let count = 100;
        client.ask(&b"get line\r\n".repeat(count), &b"END\r\n".repeat(count));
        server.stop(Signal::SIGTERM);
        let said = server.said();
        let lines = said
            .lines()
            .filter(|line| line.contains("get line"))
            .count();
        assert_eq!(lines, count, "{}", server.words);
    }
}

#[test]
fn a_stop_does_not_wait_for_who_reads_the_log() {
    for (io, threads) in variants() {
        let (mut server, reader) = flooded(io, threads);
        server.stop(Signal::SIGTERM);
        drop(reader);
    }
}

#[test]
fn memory_is_locked_for_whom_root_becomes_or_the_start_says_what_to_raise() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // Whether root may raise its limits: not in every container.
    let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).expect("our own limit");
    let status = std::fs::read_to_string("/proc/self/status").expect("our own status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let rights = u64::from_str_radix(line.expect("a line").trim(), 16).expect("a mask");
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    let words = "-t 2 -m 32 -k -u nobody";
    if rights & CAP_SYS_RESOURCE == 0 && hard != RLIM_INFINITY {
        let (said, code) = refused(&format!("-p -1 {words}"), |_| {});
        assert!(said.contains("-k: memory cannot be locked"), "{said}");
        assert!(said.contains("LimitMEMLOCK="), "{said}");
        assert_eq!(code, 71);
        return;
    }
    let server = Server::start_with(words, open_folder);
    let locked = server.memory_bytes("VmLck");
    assert!(locked >= 32 << 20, "{} MiB are locked", locked >> 20);
    let mut client = server.client();
    // Room that is taken later is locked too.
    client.ask(b"cache_memlimit 64\r\n", b"OK\r\n");
    for at in 0..60 {
        let key = format!("k{at}");
        client.ask(&set(&key, &value(at, 1_000_000)), b"STORED\r\n");
    }
    let locked = server.memory_bytes("VmLck");
    assert!(locked >= 50 << 20, "{} MiB are locked", locked >> 20);
    drop(client);
    server.finish();
}

#[test]
fn what_is_not_grave_enough_is_not_said() {
    let server = Server::start("-t 1 --log warn -n 96");
    assert_eq!(server.said(), "");
    server.stop_unasked();
}

#[test]
fn a_file_that_only_root_reads_serves_a_server_that_is_root_no_longer() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let folder = Folder::new();
    let users = folder.file("users");
    std::fs::write(&users, "name:secret\n").expect("a file");
    let mode = PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&users, mode).expect("our own file");
    let words = format!("-t 1 -u nobody -Y {}", users.display());
    let server = Server::start_with(&words, open_folder);
    let mut client = server.client();
    client.ask(b"set x 0 0 11\r\nname secret\r\n", b"STORED\r\n");
    let said = server.said();
    assert!(said.contains("it will not be read again"), "{said}");
    kill(server.pid, Signal::SIGHUP).expect("it is alive");
    until("the names stay", || {
        server
            .said()
            .contains("the names known before stay")
            .then_some(())
    });
    client.round_trip("k", b"v");
    drop(client);
    server.stop_unasked();
}
