//! The attacks, each as a client process of its own that does its worst until its standard input ends.
//!
//! It says `ready` once the attack is under way, and at the end a line about what it did. Everything a client can be is
//! here by hand, TLS included, because what is sent is what no library would send.
//!
//! Who has many connections does a little with each in turn, spread evenly over time, as many clients that know
//! nothing of each other would: a thousand bytes at the same moment are a burst of the attacker's own making, and so is
//! a call that hands the kernel hundreds of kilobytes.
//!
//! Always true: an attacker never waits for the server without a bound, and ends soon after it is told to.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A connection that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often one that has nothing to do looks again, at least.
const GLANCE: Duration = Duration::from_millis(2);
/// How often a slow client sends its byte, or reads a little.
const SLOW_STEP: Duration = Duration::from_millis(100);
/// What is given to the kernel in one call. It copies that on the server's core and does nothing else meanwhile,
/// as no network card would.
const PACKET_BYTES: usize = 16 << 10;
/// What only keeps a core awake is called.
pub const NOTHING: &str = "nothing";
/// 100 000 a minute.
const CONNECTS_PER_S: f64 = 100_000.0 / 60.0;
/// Connections of the attacks with very many.
pub const MANY: usize = 10_000;
/// Half-open connections, and those with slow headers.
const CROWD: usize = 1_000;
/// Connections of the attack on a server that takes 2000: nearly all that the well-behaved leave.
const CROWDED: usize = 1_940;
/// Connections that are kept beside those.
const BEYOND: usize = 200;
/// Values that clients ask for and do not read, or send slowly.
const LARGE_BYTES: usize = (1 << 20) - 200;
/// Keys of large values.
const LARGE_KEYS: usize = 8;

/// One attack.
pub struct Attack {
    pub name: &'static str,
    /// What the attacker does.
    pub tells: &'static str,
    /// What keeps it within bounds, with the names by which it is seen.
    pub limit: &'static str,
    /// Further arguments of the server.
    pub server: &'static str,
    /// Whether the server has TLS on its port.
    pub tls: bool,
    /// Figures of `stats` or `stats workers` that show it.
    pub counters: &'static [&'static str],
    run: fn(&Scene) -> Result<String>,
}

/// All attacks, in the order they are made.
pub const ATTACKS: [Attack; 18] = [
    Attack {
        name: "slow_handshakes",
        tells: "500 TLS connections send a ClientHello a byte each 100 ms, and come again when they are cut off",
        limit: "a handshake is given up after 10 s: `ssl_handshake_errors`",
        server: "",
        tls: true,
        counters: &["ssl_handshake_errors", "total_connections"],
        run: slow_handshakes,
    },
    Attack {
        name: "handshake_flood",
        tells: "whole ClientHellos that make the server sign, 1667 a second, each abandoned at once",
        limit: "costly steps wait for a thread beside the worker: `ssl_handshakes_waiting`, `ssl_handshake_wait_max_us`",
        server: "",
        tls: true,
        counters: &["ssl_handshake_errors", "total_connections"],
        run: handshake_flood,
    },
    Attack {
        name: "tls_fuzz",
        tells: "ClientHellos with some bytes changed, records of any type and length, noise",
        limit: "its own connection: `ssl_handshake_errors`",
        server: "",
        tls: true,
        counters: &["ssl_handshake_errors", "total_connections"],
        run: tls_fuzz,
    },
    Attack {
        name: "slow_headers",
        tells: "1000 connections send a command a byte each 100 ms and never end the line",
        limit: "a line ends at 2 KiB or costs its connection; `-o idle_timeout`: `idle_kicks`",
        server: "-c 4000",
        tls: false,
        counters: &["curr_connections", "read_buf_bytes"],
        run: slow_headers,
    },
    Attack {
        name: "half_open",
        tells: "1000 connections end their side in the middle of a command, come again when the server ends its own (up to 1667 a second), and 1000 say nothing",
        limit: "`-c`: `curr_connections`, `max_connections`, `rejected_connections`",
        server: "-c 4000",
        tls: false,
        counters: &[
            "curr_connections",
            "total_connections",
            "rejected_connections",
            "full_polls",
        ],
        run: half_open,
    },
    Attack {
        name: "connect_storm",
        tells: "100 000 connects a minute, each with one request",
        limit: "`-c`: `total_connections`, `rejected_connections`; a connect counts for 17 completions of a tick: `full_polls`",
        server: "",
        tls: false,
        counters: &["total_connections", "rejected_connections", "full_polls"],
        run: connect_storm,
    },
    Attack {
        name: "connection_limit",
        tells: "nearly all connections of `-c 2000` are taken, and 1667 more a second are tried",
        limit: "`-c`: refused with a sentence: `rejected_connections`",
        server: "-c 2000",
        tls: false,
        counters: &["curr_connections", "rejected_connections"],
        run: connection_limit,
    },
    Attack {
        name: "deaf_readers",
        tells: "100 connections ask for values of 1 MiB without pause and never read",
        limit: "32 MiB of replies a worker; a session whose replies are not taken makes no further request: `replies_full`, then `input_full`",
        server: "",
        tls: false,
        counters: &[
            "curr_connections",
            "replies_full",
            "input_full",
            "lent_waits",
        ],
        run: deaf_readers,
    },
    Attack {
        name: "slow_readers",
        tells: "100 connections ask for values of 1 MiB and read 1 KiB each 100 ms",
        limit: "as for those that never read; values are lent, not copied",
        server: "",
        tls: false,
        counters: &[
            "curr_connections",
            "replies_full",
            "input_full",
            "lent_waits",
        ],
        run: slow_readers,
    },
    Attack {
        name: "trickled_values",
        tells: "500 connections send a value of 1 MiB, half of it at once and then a byte a second",
        limit: "33 MiB of such values a worker, the slowest cut off: `read_buf_bytes`, `store_no_memory`",
        server: "",
        tls: false,
        counters: &["read_buf_bytes", "store_no_memory", "total_connections"],
        run: trickled_values,
    },
    Attack {
        name: "oversized",
        tells: "keys, lines, values, numbers and meta flags larger than allowed",
        limit: "an answer, or its own connection: `store_too_large`",
        server: "",
        tls: false,
        counters: &["store_too_large", "total_connections"],
        run: oversized,
    },
    Attack {
        name: "pipelines",
        tells: "20 connections send requests without pause and read the answers",
        limit: "`-R` requests of a connection a tick, fewer beside others: `conn_yields`, `gentle_ticks`",
        server: "",
        tls: false,
        counters: &["conn_yields", "gentle_ticks", "cmd_get"],
        run: pipelines,
    },
    Attack {
        name: "never_read_values",
        tells: "memory is filled, many times over, with values of 1 KiB that nobody asks for",
        limit: "`-m`: `evictions`, `evicted_unfetched`; items asked for stay; a buffer a tick beside others: `receives_tamed`",
        server: "",
        tls: false,
        counters: &[
            "cmd_set",
            "evictions",
            "evicted_unfetched",
            "receives_tamed",
            "buffers_short",
        ],
        run: never_read_values,
    },
    Attack {
        name: "log_flood",
        tells: "with `-v`, malformed commands without pause on connections that come and go",
        limit: "lines a worker and tick, batches that wait for standard error: `log_worker_dropped`",
        server: "-v",
        tls: false,
        counters: &["log_worker_written", "log_worker_dropped"],
        run: log_flood,
    },
    Attack {
        name: "admin_load",
        tells: "`/metrics`, `/stats.json` and `/hotkeys` asked for without pause by four clients",
        limit: "one thread apart from the workers, 32 connections, 503 beyond: `admin_refused`",
        server: "--admin 127.0.0.1:0",
        tls: false,
        counters: &["curr_connections", "admin_refused", "admin_cut"],
        run: admin_load,
    },
    Attack {
        name: "admin_garbage",
        tells: "malformed, endless and slow HTTP at the admin endpoint",
        limit: "heads of 8 KiB and 64 lines, in five seconds, 32 at once: `admin_cut`, `admin_refused`",
        server: "--admin 127.0.0.1:0",
        tls: false,
        counters: &["curr_connections", "admin_refused", "admin_cut"],
        run: admin_garbage,
    },
    Attack {
        name: "idle_10000",
        tells: "10 000 connections say nothing",
        limit: "`-c`; 1 KiB each beyond the kernel's",
        server: "-c 12000",
        tls: false,
        counters: &["curr_connections"],
        run: idle_10000,
    },
    Attack {
        name: "active_10000",
        tells: "10 000 connections ask in turn, 5000 requests a second together",
        limit: "none is starved: the slowest answer is told",
        server: "-c 12000",
        tls: false,
        counters: &["curr_connections", "cmd_get"],
        run: active_10000,
    },
];

/// Whom an attack is made on, and whether it goes on.
struct Scene {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    stop: Arc<AtomicBool>,
}

/// Makes one attack, or does nothing without rest, until standard input ends.
pub fn make(name: &str, address: SocketAddr, admin: Option<SocketAddr>) -> Result<()> {
    let run = match name {
        NOTHING => stay_awake,
        _ => {
            let attack = ATTACKS.iter().find(|attack| attack.name == name);
            attack.with_context(|| format!("no attack {name:?}"))?.run
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
        told.store(true, Ordering::Relaxed);
    });
    let scene = Scene {
        address,
        admin,
        stop,
    };
    println!("{}", run(&scene)?);
    Ok(())
}

impl Scene {
    /// The attack is under way.
    fn ready(&self) {
        println!("ready");
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> Result<TcpStream> {
        connect(self.address)
    }

    fn crowd(&self, count: usize) -> Result<Vec<TcpStream>> {
        (0..count).map(|_| self.connect()).collect()
    }

    fn admin(&self) -> Result<SocketAddr> {
        self.admin.context("this attack needs the admin endpoint")
    }

    /// Does something at a rate until the end; returns how often.
    fn at_rate(&self, per_s: f64, mut act: impl FnMut(u64) -> Result<()>) -> Result<u64> {
        self.ready();
        let started = Instant::now();
        let mut done = 0;
        while self.goes_on() {
            let due = (started.elapsed().as_secs_f64() * per_s) as u64;
            if done >= due {
                let next = Duration::from_secs_f64((done + 1) as f64 / per_s);
                std::thread::sleep(next.saturating_sub(started.elapsed()).min(GLANCE));
                continue;
            }
            act(done)?;
            done += 1;
        }
        Ok(done)
    }

    /// Does something with each of `crowd` in turn, each once in `step`, until the end.
    fn in_turn<T>(
        &self,
        crowd: &mut [T],
        step: Duration,
        mut act: impl FnMut(usize, &mut T) -> Result<()>,
    ) -> Result<u64> {
        let count = crowd.len();
        self.at_rate(count as f64 / step.as_secs_f64(), |turn| {
            let at = turn as usize % count;
            act(at, &mut crowd[at])
        })
    }

    /// Large values that deaf and slow clients ask for.
    fn store_large(&self) -> Result<()> {
        let mut stream = self.connect()?;
        let value = vec![b'v'; LARGE_BYTES];
        for key in 0..LARGE_KEYS {
            write!(stream, "set large{key} 0 0 {LARGE_BYTES}\r\n")?;
            stream.write_all(&value)?;
            stream.write_all(b"\r\n")?;
            let mut answer = [0; 8];
            stream.read_exact(&mut answer)?;
            anyhow::ensure!(&answer == b"STORED\r\n", "a large value was not stored");
        }
        Ok(())
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Writes what the socket takes now; how much, or `None` when the connection is gone.
fn push(stream: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    let _ = stream.set_nonblocking(true);
    let mut sent = 0;
    for packet in bytes.chunks(PACKET_BYTES) {
        match stream.write(packet) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return None,
        }
        if sent % PACKET_BYTES != 0 {
            break;
        }
    }
    Some(sent)
}

/// Reads what there is now; how much, or `None` when the connection is gone.
fn pull(stream: &mut TcpStream, room: &mut [u8]) -> Option<usize> {
    let _ = stream.set_nonblocking(true);
    match stream.read(room) {
        Ok(0) => None,
        Ok(count) => Some(count),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Some(0),
        Err(_) => None,
    }
}

/// A ClientHello of TLS 1.3 that a server answers with its whole flight: a share of x25519 and what else it needs.
fn client_hello() -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, body: &[u8]| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend((body.len() as u16).to_be_bytes());
        extensions.extend(body);
    };
    // Versions, groups, signatures (of elliptic curves and RSA), and the share: any 32 bytes are a point.
    extension(43, &[2, 3, 4]);
    extension(10, &[0, 2, 0, 29]);
    extension(13, &[0, 6, 4, 3, 8, 4, 8, 7]);
    extension(51, &[&[0, 36, 0, 29, 0, 32][..], &[9; 32]].concat());
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    // No session, three suites, no compression.
    body.push(0);
    body.extend([0, 6, 19, 1, 19, 2, 19, 3, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// Many connections send a byte each now and then, from the beginning when they are cut off.
fn slowly(scene: &Scene, count: usize, text: &[u8], last: usize) -> Result<String> {
    let mut crowd: Vec<(TcpStream, usize)> = scene
        .crowd(count)?
        .into_iter()
        .map(|stream| (stream, 0))
        .collect();
    let (mut sent, mut cut_off) = (0_u64, 0_u64);
    scene.in_turn(&mut crowd, SLOW_STEP, |_, (stream, at)| {
        let mut room = [0; 256];
        let gone = push(stream, &text[*at..=*at]).is_none() || pull(stream, &mut room).is_none();
        if gone {
            cut_off += 1;
            (*stream, *at) = (scene.connect()?, 0);
        } else {
            sent += 1;
            // The last byte would complete what is sent.
            *at = (*at + 1).min(last);
        }
        Ok(())
    })?;
    Ok(format!("{sent} bytes, cut off {cut_off} times"))
}

fn stay_awake(scene: &Scene) -> Result<String> {
    scene.ready();
    while scene.goes_on() {
        // A kernel may let a woken server wait until we enter it.
        std::thread::yield_now();
    }
    Ok(String::new())
}

fn slow_handshakes(scene: &Scene) -> Result<String> {
    let hello = client_hello();
    slowly(scene, 500, &hello, hello.len() - 2)
}

fn handshake_flood(scene: &Scene) -> Result<String> {
    let hello = client_hello();
    // Kept open for a moment, so that the server does its part.
    let mut open = std::collections::VecDeque::new();
    let (mut answered, mut room) = (0_u64, [0; 4096]);
    let made = scene.at_rate(CONNECTS_PER_S, |_| {
        let mut stream = scene.connect()?;
        push(&mut stream, &hello);
        open.push_back(stream);
        if open.len() > 200
            && let Some(mut oldest) = open.pop_front()
        {
            // An alert is shorter than a flight.
            answered += u64::from(pull(&mut oldest, &mut room).is_some_and(|count| count > 500));
        }
        Ok(())
    })?;
    Ok(format!(
        "{made} handshakes begun, {answered} seen answered with a flight"
    ))
}

fn tls_fuzz(scene: &Scene) -> Result<String> {
    let hello = client_hello();
    let mut dice = fastrand::Rng::with_seed(1);
    let made = scene.at_rate(CONNECTS_PER_S, |_| {
        let mut bytes = hello.clone();
        match dice.u8(..4) {
            0 => bytes = (0..dice.usize(1..2000)).map(|_| dice.u8(..)).collect(),
            1 => bytes[0] = dice.u8(..),
            2 => {
                let length = dice.u16(..).to_be_bytes();
                bytes[3..5].copy_from_slice(&length);
                bytes.extend((0..dice.usize(..20_000)).map(|_| dice.u8(..)));
            }
            _ => {
                for _ in 0..dice.usize(1..6) {
                    let at = dice.usize(..bytes.len());
                    bytes[at] = dice.u8(..);
                }
            }
        }
        let mut stream = scene.connect()?;
        push(&mut stream, &bytes);
        Ok(())
    })?;
    Ok(format!("{made} connections"))
}

fn slow_headers(scene: &Scene) -> Result<String> {
    let line = [b"get ", &[b'k'; 249][..], &[b' '; 1000]].concat();
    let last = line.len() - 1;
    slowly(scene, CROWD, &line, last)
}

fn half_open(scene: &Scene) -> Result<String> {
    let silent = scene.crowd(CROWD)?;
    let begin = || -> Result<TcpStream> {
        let mut stream = scene.connect()?;
        push(&mut stream, b"get a\r\nset b 0 0 100\r\nhalf");
        stream.shutdown(Shutdown::Write)?;
        Ok(stream)
    };
    let mut half: Vec<TcpStream> = (0..CROWD).map(|_| begin()).collect::<Result<_>>()?;
    let mut again = 0_u64;
    let mut room = [0; 64];
    scene.at_rate(CONNECTS_PER_S, |turn| {
        let stream = &mut half[turn as usize % CROWD];
        if pull(stream, &mut room).is_none() {
            again += 1;
            *stream = begin()?;
        }
        Ok(())
    })?;
    drop(silent);
    Ok(format!("half-open ones came again {again} times"))
}

fn connect_storm(scene: &Scene) -> Result<String> {
    let mut failed = 0_u64;
    let made = scene.at_rate(CONNECTS_PER_S, |_| {
        match scene.connect() {
            Ok(mut stream) => drop(push(&mut stream, b"get a\r\nquit\r\n")),
            Err(_) => failed += 1,
        }
        Ok(())
    })?;
    Ok(format!("{made} connects, {failed} failed"))
}

fn connection_limit(scene: &Scene) -> Result<String> {
    // The well-behaved come when this is ready, and find room because they come before the storm.
    let crowd = scene.crowd(CROWDED)?;
    scene.ready();
    std::thread::sleep(5 * SLOW_STEP);
    // Each is kept until so many have come after it, so that some of them are beyond the limit.
    let mut kept = VecDeque::new();
    let made = scene.at_rate(CONNECTS_PER_S, |_| {
        kept.push_back(scene.connect());
        if kept.len() > BEYOND {
            kept.pop_front();
        }
        Ok(())
    })?;
    drop(crowd);
    Ok(format!("{made} connects beyond"))
}

fn deaf_readers(scene: &Scene) -> Result<String> {
    scene.store_large()?;
    let gets: Vec<u8> = (0..2000)
        .flat_map(|at| format!("get large{}\r\n", at % LARGE_KEYS).into_bytes())
        .collect();
    let mut crowd = scene.crowd(100)?;
    let mut sent = 0;
    scene.in_turn(&mut crowd, SLOW_STEP, |_, stream| {
        sent += push(stream, &gets).unwrap_or(0);
        Ok(())
    })?;
    Ok(format!("{sent} bytes of requests, nothing read"))
}

fn slow_readers(scene: &Scene) -> Result<String> {
    scene.store_large()?;
    let mut crowd = scene.crowd(100)?;
    for stream in &mut crowd {
        push(stream, b"get large0 large1 large2 large3\r\n");
    }
    let (mut read, mut room) = (0, [0; 1024]);
    scene.in_turn(&mut crowd, SLOW_STEP, |_, stream| {
        read += pull(stream, &mut room).unwrap_or(0);
        Ok(())
    })?;
    Ok(format!("{read} bytes read"))
}

fn trickled_values(scene: &Scene) -> Result<String> {
    let half = vec![b'v'; LARGE_BYTES / 2];
    let begin = |at: usize| -> Result<TcpStream> {
        let mut stream = scene.connect()?;
        push(
            &mut stream,
            format!("set trickle{at} 0 0 {LARGE_BYTES}\r\n").as_bytes(),
        );
        push(&mut stream, &half);
        Ok(stream)
    };
    let mut crowd: Vec<TcpStream> = (0..500).map(begin).collect::<Result<_>>()?;
    let (mut again, mut room) = (0_u64, [0; 256]);
    scene.in_turn(&mut crowd, 10 * SLOW_STEP, |at, stream| {
        // One that was refused begins anew, in the hope of room.
        let refused = !matches!(pull(stream, &mut room), Some(0));
        if refused || push(stream, b"v").is_none() {
            again += 1;
            *stream = begin(at)?;
        }
        Ok(())
    })?;
    Ok(format!("begun anew {again} times"))
}

fn oversized(scene: &Scene) -> Result<String> {
    let words: Vec<Vec<u8>> = vec![
        [b"get ", &[b'k'; 300_000][..], b"\r\n"].concat(),
        [b"set ", &[b'k'; 300_000][..], b" 0 0 1\r\n"].concat(),
        [b"set k 0 0 3000000\r\n", &[b'v'; 300_000][..]].concat(),
        b"set k 0 0 99999999999999999999\r\nset k 0 0 -1\r\nset k 0 0 2147483647\r\n".to_vec(),
        [b"mg k ", &b"O123456789 ".repeat(20_000)[..], b"\r\n"].concat(),
        [b"mg k O", &[b'o'; 60_000][..], b"\r\n"].concat(),
        [b"ms k S", &[b'9'; 60_000][..], b"\r\n"].concat(),
        [b"get", &b" k".repeat(100_000)[..], b"\r\n"].concat(),
        [
            &[0x80, 1, 0, 3, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..],
            &[b'v'; 300_000],
        ]
        .concat(),
    ];
    let made = scene.at_rate(200.0, |at| {
        let mut stream = scene.connect()?;
        let bytes = &words[at as usize % words.len()];
        let (mut sent, mut room) = (0, vec![0; 1 << 16]);
        for _ in 0..50 {
            match push(&mut stream, &bytes[sent..]) {
                Some(count) => sent += count,
                None => break,
            }
            if sent == bytes.len() || pull(&mut stream, &mut room).is_none() {
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    })?;
    Ok(format!("{made} connections"))
}

fn pipelines(scene: &Scene) -> Result<String> {
    let gets = b"get nokey\r\n".repeat(5000);
    let mut crowd: Vec<(TcpStream, usize)> = scene
        .crowd(20)?
        .into_iter()
        .map(|stream| (stream, 0))
        .collect();
    let (mut sent, mut room) = (0_u64, vec![0; 2 * PACKET_BYTES]);
    scene.ready();
    while scene.goes_on() {
        for (stream, at) in &mut crowd {
            if let Some(count) = push(stream, &gets[*at..]) {
                *at = (*at + count) % gets.len();
                sent += count as u64;
            }
            pull(stream, &mut room);
        }
    }
    let requests = sent / b"get nokey\r\n".len() as u64;
    Ok(format!("{requests} requests sent"))
}

fn never_read_values(scene: &Scene) -> Result<String> {
    let mut stream = scene.connect()?;
    let value = vec![b'v'; 1024];
    let mut stored = 0_u64;
    scene.ready();
    while scene.goes_on() {
        let mut batch = Vec::new();
        for _ in 0..10 {
            stored += 1;
            write!(batch, "set unread{stored} 0 0 1024 noreply\r\n")?;
            batch.extend_from_slice(&value);
            batch.extend_from_slice(b"\r\n");
        }
        stream.write_all(&batch)?;
    }
    Ok(format!("{stored} values"))
}

fn log_flood(scene: &Scene) -> Result<String> {
    let text = b"bogus\r\nset k 0 0 x\r\nget\r\nincr k x\r\n".repeat(50);
    let made = scene.at_rate(CONNECTS_PER_S, |_| {
        let mut stream = scene.connect()?;
        push(&mut stream, &text);
        Ok(())
    })?;
    Ok(format!("{made} connections, {} lines", made * 200))
}

fn admin_load(scene: &Scene) -> Result<String> {
    let admin = scene.admin()?;
    let (asked, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    scene.ready();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut text = Vec::new();
                while scene.goes_on() {
                    for path in ["/metrics", "/stats.json", "/hotkeys"] {
                        asked.fetch_add(1, Ordering::Relaxed);
                        let Ok(mut stream) = connect(admin) else {
                            continue;
                        };
                        text.clear();
                        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
                        let done = stream.write_all(head.as_bytes()).is_ok()
                            && stream.read_to_end(&mut text).is_ok();
                        let ok = done && text.starts_with(b"HTTP/1.1 200");
                        answered.fetch_add(u64::from(ok), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (asked, answered) = (asked.into_inner(), answered.into_inner());
    Ok(format!(
        "{asked} pages asked for, {answered} answered with 200"
    ))
}

fn admin_garbage(scene: &Scene) -> Result<String> {
    let admin = scene.admin()?;
    let heads: Vec<Vec<u8>> = vec![
        [b"GET /", &[b'a'; 100_000][..]].concat(),
        [b"GET / HTTP/1.1\r\n", &b"X: y\r\n".repeat(10_000)[..]].concat(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        b"GET /../../etc/passwd HTTP/1.1\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n".to_vec(),
        b"GET".to_vec(),
    ];
    // Those that never end stay open, and the oldest goes.
    let mut open = std::collections::VecDeque::new();
    let mut failed = 0_u64;
    let made = scene.at_rate(500.0, |at| {
        match connect(admin) {
            Ok(mut stream) => {
                push(&mut stream, &heads[at as usize % heads.len()]);
                open.push_back(stream);
            }
            Err(_) => failed += 1,
        }
        if open.len() > 200 {
            open.pop_front();
        }
        Ok(())
    })?;
    Ok(format!("{made} requests, {failed} not accepted"))
}

fn idle_10000(scene: &Scene) -> Result<String> {
    let crowd = scene.crowd(MANY)?;
    scene.ready();
    while scene.goes_on() {
        std::thread::sleep(SLOW_STEP);
    }
    Ok(format!("{} connections", crowd.len()))
}

fn active_10000(scene: &Scene) -> Result<String> {
    const BATCH: usize = 5;
    let mut crowd = scene.crowd(MANY)?;
    let (mut waits, mut at) = (Vec::new(), 0);
    scene.at_rate(5000.0 / BATCH as f64, |_| {
        let started = Instant::now();
        let batch = &mut crowd[at..at + BATCH];
        for stream in &mut *batch {
            stream.write_all(b"get nokey\r\n")?;
        }
        for stream in batch {
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            waits.push(started.elapsed());
        }
        at = (at + BATCH) % MANY;
        Ok(())
    })?;
    waits.sort_unstable();
    let ms = |wait: Option<&Duration>| wait.map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
    Ok(format!(
        "{} requests; p99 {:.2} ms, slowest {:.2} ms as the attacker sees them",
        waits.len(),
        ms(waits.get(waits.len() * 99 / 100)),
        ms(waits.last())
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_have_names_of_their_own() {
        let names: std::collections::HashSet<_> =
            ATTACKS.iter().map(|attack| attack.name).collect();
        assert_eq!(names.len(), ATTACKS.len());
    }

    #[test]
    fn a_hello_tells_its_own_lengths() {
        let hello = client_hello();
        let length = |at: usize| usize::from(u16::from_be_bytes([hello[at], hello[at + 1]]));
        assert_eq!(length(3), hello.len() - 5);
        assert_eq!(length(7), hello.len() - 9);
        // Version, random, session, suites, compression.
        assert_eq!(length(9 + 2 + 32 + 1 + 8 + 2), hello.len() - 9 - 47);
    }
}
