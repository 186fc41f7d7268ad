//! Starts that are refused with a sentence, and ends that lose nothing that was asked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::{Client, hit, set, value};
use crate::server::{Folder, PATIENCE, Server, refused, until, variants};

#[test]
fn a_signal_lets_answers_in_flight_complete_and_ends_with_zero() {
    for ((io, threads), signal) in variants()
        .into_iter()
        .zip([Signal::SIGTERM, Signal::SIGINT].into_iter().cycle())
    {
        let mut server = Server::start(&format!("--io {io} -t {threads}"));
        let large = value(2, 1_000_000);
        let mut client = server.client();
        client.ask(&set("large", &large), b"STORED\r\n");
        client.ask(&set("small", b"v"), b"STORED\r\n");
        // Idle, inside a command, and with a large value on its way to a slow reader.
        let idle = server.client();
        let mut inside = server.client();
        inside.send(b"set small 0 0 10\r\nabc");
        let mut slow: Vec<Client> = vec![server.client(), server.unix_client()];
        for client in &mut slow {
            client.send(&b"get large\r\n".repeat(3));
            client.expect(b"VALUE large 0 1000000\r\n");
        }
        // Load that goes on until the connection ends.
        let reply = hit("small", b"v");
        let loads: Vec<_> = (0..4)
            .map(|_| {
                let mut client = server.client();
                std::thread::spawn(move || {
                    let requests = b"get small\r\n".repeat(50);
                    let whole = hit("small", b"v").len() * 50;
                    while client.send_until_stuck(&requests) == requests.len() && client.skip(whole)
                    {
                    }
                    client.drain()
                })
            })
            .collect();
        client.round_trip("under", b"load");
        kill(server.pid, signal).expect("the server is alive");
        for client in &mut slow {
            let rest = client.drain().expect("the server closes");
            let all = [b"VALUE large 0 1000000\r\n".to_vec(), rest].concat();
            let whole = hit("large", &large).repeat(3);
            assert!(all == whole, "{} bytes of {} came", all.len(), whole.len());
        }
        for load in loads {
            let got = load.join().expect("a client").expect("the server closes");
            assert!(
                got.chunks(reply.len()).all(|chunk| chunk == reply),
                "strata {}: a reply is torn",
                server.words
            );
        }
        server.assert_ends_well();
        assert!(!server.unix.exists(), "the unix socket is still there");
        drop((idle, inside));
    }
}

#[test]
fn a_client_that_never_reads_does_not_hold_up_the_end() {
    for (io, threads) in variants() {
        let mut server = Server::start(&format!("--io {io} -t {threads}"));
        let mut client = server.client();
        client.ask(&set("large", &value(2, 1_000_000)), b"STORED\r\n");
        client.send_until_stuck(&b"get large\r\n".repeat(1000));
        server.stop(Signal::SIGTERM);
    }
}

#[test]
fn a_client_that_never_pauses_does_not_hold_up_the_end() {
    for (io, threads) in variants() {
        let mut server = Server::start(&format!("--io {io} -t {threads}"));
        server.client().round_trip("k", b"v");
        let floods: Vec<_> = (0..3)
            .map(|_| {
                let mut reader = TcpStream::connect(("127.0.0.1", server.port)).expect("accepted");
                reader.set_read_timeout(Some(PATIENCE)).expect("a socket");
                let mut writer = reader.try_clone().expect("a second handle");
                let gets = b"get k\r\n".repeat(500);
                // Ends with the connection.
                std::thread::spawn(move || while writer.write_all(&gets).is_ok() {});
                reader.read_exact(&mut [0; 1000]).expect("answers");
                std::thread::spawn(move || {
                    let mut room = [0; 65536];
                    while reader.read(&mut room).is_ok_and(|len| len > 0) {}
                })
            })
            .collect();
        server.stop(Signal::SIGTERM);
        for flood in floods {
            flood.join().expect("a reader");
        }
        let said = server.said();
        assert!(!said.contains("in time"), "{}: {said}", server.words);
    }
}

#[test]
fn shutdown_ends_the_server_when_it_is_allowed() {
    for (io, threads) in variants() {
        let mut server = Server::start(&format!("--io {io} -t {threads} -A"));
        let mut client = server.client();
        client.ask(b"mn\r\n", b"MN\r\n");
        client.send(b"shutdown\r\n");
        assert_eq!(client.drain().as_deref(), Some(&b""[..]));
        server.assert_ends_well();
    }
    let server = Server::start("");
    let mut client = server.client();
    client.ask(b"shutdown\r\n", b"SERVER_ERROR: shutdown not enabled\r\n");
    drop(client);
    server.finish();
}

#[test]
fn both_kinds_of_socket_see_the_same_items() {
    for (io, threads) in variants() {
        let server = Server::start(&format!("--io {io} -t {threads} -a 0600"));
        let (mut tcp, mut unix) = (server.client(), server.unix_client());
        for at in 0..50 {
            let (key, text) = (format!("k{at}"), value(at, at * 1000));
            unix.ask(&set(&key, &text), b"STORED\r\n");
            tcp.ask(format!("get {key}\r\n").as_bytes(), &hit(&key, &text));
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&server.unix)
                .expect("the socket")
                .permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
        drop((tcp, unix));
        server.finish();
    }
}

#[test]
fn a_taken_port_is_refused_with_advice() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (said, code) = refused(&format!("-p {port}"), |_| {});
    assert!(
        said.contains(&port.to_string()) && said.contains("-p"),
        "{said}"
    );
    assert_eq!(code, 71);
    let (said, code) = refused(&format!("-p -1 --admin 127.0.0.1:{port}"), |_| {});
    assert!(
        said.contains("--admin") && said.contains(&port.to_string()),
        "{said}"
    );
    assert_eq!(code, 71);
}

#[test]
fn a_unix_path_that_is_taken_is_refused_with_advice() {
    let folder = Folder::new();
    let path = folder.file("taken");
    let listener = UnixListener::bind(&path).expect("a socket");
    let words = format!("-p 0 -s {}", path.display());
    let (said, code) = refused(&words, |_| {});
    assert!(said.contains("taken") && said.contains("-s"), "{said}");
    assert_eq!(code, 71);
    assert!(path.exists(), "it belongs to somebody else");
    drop(listener);
    let (said, _) = refused(&format!("-p 0 -s {}", folder.0.display()), |_| {});
    assert!(said.contains("cannot listen"), "{said}");
}

#[test]
fn an_address_this_host_lacks_is_refused_with_advice() {
    let (said, code) = refused("-p -1 -l 192.0.2.1", |_| {});
    assert!(
        said.contains("192.0.2.1") && said.contains("no such address"),
        "{said}"
    );
    assert_eq!(code, 71);
    let (said, code) = refused("-p -1 -l not.a.name.invalid", |_| {});
    assert!(said.contains("not.a.name.invalid"), "{said}");
    assert_eq!(code, 64);
}

/// Lowers a limit of the child for good, and takes away root's right to raise it again.
fn limit(command: &mut Command, resource: nix::sys::resource::Resource, limit: u64) {
    let restrict = move || {
        nix::sys::resource::setrlimit(resource, limit, limit)?;
        // CAP_SYS_RESOURCE (24); refused to those who have nothing to drop.
        // SAFETY: a system call on plain numbers.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, 24, 0, 0, 0) };
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, which allocate nothing.
    unsafe { command.pre_exec(restrict) };
}

#[test]
fn more_connections_than_files_are_refused_with_advice() {
    let (said, code) = refused("-p -1 -c 5000", |command| {
        limit(command, nix::sys::resource::Resource::RLIMIT_NOFILE, 1000);
    });
    assert!(
        said.contains("-c 5000") && said.contains("ulimit -n"),
        "{said}"
    );
    assert_eq!(code, 71);
}

#[test]
fn more_connections_than_any_kernel_gives_are_refused_with_advice() {
    let (said, code) = refused("-p -1 -c 1048577", |_| {});
    assert!(
        said.contains("-c 1048577") && said.contains("1048576"),
        "{said}"
    );
    assert_eq!(code, 64);
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").expect("every Linux has it");
    if most.trim() == "1048576" {
        let (said, code) = refused("-p -1 -c 1048576", |_| {});
        assert!(said.contains("fs.nr_open"), "{said}");
        assert_eq!(code, 71);
    }
}

/// Has the kernel refuse io_uring to the child, as a container's seccomp profile does.
fn without_io_uring(command: &mut Command) {
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let ret = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k: u32, jt, jf| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        // The number of the system call is the first word of what a filter sees.
        step(load, 0, 0, 0),
        step(jump_equal, libc::SYS_io_uring_setup as u32, 0, 1),
        step(ret, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0),
        step(ret, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let restrict = move || {
        let program = libc::sock_fprog {
            len: filter.len() as u16,
            filter: filter.as_mut_ptr(),
        };
        nix::sys::prctl::set_no_new_privs()?;
        let mode = libc::SECCOMP_MODE_FILTER;
        // SAFETY: the filter lives in this closure, and the kernel copies it before it returns.
        if unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &program, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, which allocate nothing.
    unsafe { command.pre_exec(restrict) };
}

#[test]
fn a_refused_ring_falls_back_to_epoll_and_says_so() {
    let server = Server::start_with("-t 2", without_io_uring);
    server.client().round_trip("k", b"v");
    let said = server.said();
    assert!(
        said.contains("io_uring is refused") && said.contains("seccomp"),
        "{said}"
    );
    assert!(said.contains("Falling back to epoll"), "{said}");
    assert!(said.contains("workers on epoll"), "{said}");
    server.finish();
    let (said, code) = refused("-p -1 --io uring", without_io_uring);
    assert!(
        said.contains("seccomp") && said.contains("--io epoll"),
        "{said}"
    );
    assert_eq!(code, 71);
}

#[test]
fn an_admin_endpoint_without_io_uring_is_refused_with_advice() {
    let (said, code) = refused("-p -1 --admin 127.0.0.1:0", without_io_uring);
    assert!(said.contains("leave --admin out"), "{said}");
    assert_eq!(code, 71);
}

/// A server in the background, ended by its own id.
struct Daemon(Pid);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
    }
}

#[test]
fn the_background_has_its_id_in_a_file_until_the_end() {
    let folder = Folder::new();
    let (pid_file, ports) = (folder.file("pid"), folder.file("ports"));
    let words = format!("-p -1 -d --no-pin -t 2 -P {}", pid_file.display());
    let mut command = crate::server::command(&words, &folder.file("stderr"));
    command.env("MEMCACHED_PORT_FILENAME", &ports);
    let status = command.status().expect("the binary starts");
    assert!(status.success());
    let pid = until("the process id's file", || {
        std::fs::read_to_string(&pid_file).ok()?.trim().parse().ok()
    });
    let daemon = Daemon(Pid::from_raw(pid));
    let port = until("the port file", || {
        let text = std::fs::read_to_string(&ports).ok()?;
        text.trim().rsplit(' ').next()?.parse().ok()
    });
    let mut client = Client::tcp(port);
    client.round_trip("k", b"v");
    assert_eq!(client.stats()["pid"], pid.to_string());
    // A second server that cannot start leaves the first one's file alone.
    let words = format!("-p {port} -P {}", pid_file.display());
    assert_eq!(refused(&words, |_| {}).1, 71);
    assert!(pid_file.exists(), "the file belongs to the first server");
    kill(daemon.0, Signal::SIGTERM).expect("it is alive");
    assert!(client.drain().is_some());
    until("the process id's file is removed", || {
        (!pid_file.exists()).then_some(())
    });
    std::mem::forget(daemon);
}

#[test]
fn root_becomes_the_user_it_is_told_to_be() {
    let (said, code) = refused("-p -1 -u nobody-of-this-name", |_| {});
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    assert!(
        said.contains("-u") && said.contains("nobody-of-this-name"),
        "{said}"
    );
    assert_eq!(code, 67);
    let user = nix::unistd::User::from_name("nobody").ok().flatten();
    let uid = user.expect("every system has nobody").uid;
    // Its files go where that user may write.
    let folder = Folder::new();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&folder.0, mode).expect("our own directory");
    let ports = folder.file("ports");
    let mut command =
        crate::server::command("-p -1 -t 1 --no-pin -u nobody", &folder.file("stderr"));
    command.env("MEMCACHED_PORT_FILENAME", &ports);
    let mut child = command.spawn().expect("the binary starts");
    let daemon = Daemon(Pid::from_raw(child.id() as i32));
    let port: u16 = until("the port file", || {
        let text = std::fs::read_to_string(&ports).ok()?;
        text.trim().rsplit(' ').next()?.parse().ok()
    });
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
    let status = status.expect("it is alive");
    let line = status.lines().find(|line| line.starts_with("Uid:"));
    let uids: Vec<&str> = line.expect("a line").split_whitespace().skip(1).collect();
    assert_eq!(uids, vec![uid.to_string(); 4]);
    Client::tcp(port).round_trip("k", b"v");
    kill(daemon.0, Signal::SIGTERM).expect("it is alive");
    let status = child.wait().expect("our own child");
    std::mem::forget(daemon);
    assert!(status.success());
}

#[test]
fn a_stop_takes_no_longer_with_nobody_connected() {
    let started = std::time::Instant::now();
    let mut server = Server::start("-t 2");
    server.stop(Signal::SIGTERM);
    assert!(started.elapsed() < PATIENCE + Duration::from_secs(1));
}

#[test]
fn the_strongest_of_file_environment_and_flag_is_in_force() {
    let folder = Folder::new();
    let file = folder.file("strata.toml");
    let text = "max_simultaneous_connections = 101\nidle_timeout = 102\nlisten_backlog = 103\n\
                max_reqs_per_event = 104\ncas_disabled = true\nwatcher_logbuf_size = 300\n";
    std::fs::write(&file, text).expect("a file");
    let words = format!("--io epoll -b 303 --config {}", file.display());
    let server = Server::start_with(&words, |command| {
        command
            .env("STRATA_MAX_REQS_PER_EVENT", "204")
            .env("STRATA_DISABLE_CAS", "false");
    });
    let settings = server.client().stats_of("settings");
    for (name, value) in [
        ("maxconns", "101"),
        ("idle_timeout", "102"),
        ("tcp_backlog", "303"),
        ("reqs_per_event", "204"),
        ("cas_enabled", "yes"),
        ("watcher_logbuf_size", "307200"),
    ] {
        assert_eq!(settings[name], value, "{name}");
    }
    server.finish();
    for (text, environment, part) in [
        (
            "memory_limit = 64\nmemroy_limit = 5\n",
            "",
            "strata.toml:2: memroy_limit",
        ),
        ("threads = \"x\"\n", "", "strata.toml:1: threads"),
        ("", "STRATA_THREDS", "STRATA_THREADS?"),
        ("-", "", "strata.toml:1: "),
    ] {
        std::fs::write(&file, text).expect("a file");
        let (said, code) = refused(&format!("--config {}", file.display()), |command| {
            if !environment.is_empty() {
                command.env(environment, "1");
            }
        });
        assert!(said.contains(part) && code == 64, "{code}: {said}");
    }
}

#[test]
fn what_is_printed_as_in_force_is_a_file_that_says_the_same() {
    let folder = Folder::new();
    let file = folder.file("strata.toml");
    let printed = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
        command.args(words.split_whitespace()).arg("--print-config");
        command.env("STRATA_CONN_LIMIT", "77");
        let output = command.output().expect("the binary starts");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let first = printed("-m 100 -l 127.0.0.1,[::1]:5");
    for line in [
        "conn_limit = 77  # STRATA_CONN_LIMIT",
        "memory_limit = 100  # flag",
        "listen = [\"127.0.0.1\", \"[::1]:5\"]  # flag",
        "max_item_size = \"1m\"  # default",
    ] {
        assert!(first.lines().any(|had| had == line), "no {line} in {first}");
    }
    std::fs::write(&file, &first).expect("a file");
    let second = printed(&format!("--config {}", file.display()));
    let values = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values = lines.map(|line| line.split("  #").next().unwrap_or("").to_owned());
        values.collect()
    };
    assert_eq!(values(&second), values(&first));
    assert!(second.contains("strata.toml:"), "{second}");
    let (said, code) = refused("--print-config -t 0", |_| {});
    assert!(said.contains("-t 0") && code == 64, "{code}: {said}");
}
