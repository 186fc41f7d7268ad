//! A client that knows what to expect: every answer is checked to the byte, and none may take
//! longer than the tests' patience.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::server::{PATIENCE, Server};

/// What a connection runs over.
pub trait Stream: Read + Write + AsFd + Send {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// One connection.
pub struct Client {
    stream: Box<dyn Stream>,
    /// Bytes received and not used.
    ahead: Vec<u8>,
}

impl Client {
    pub fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        Self::new(Box::new(stream))
    }

    pub fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server accepts");
        Self::new(Box::new(stream))
    }

    /// A connection over anything that is a socket below.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        let client = Self {
            stream,
            ahead: Vec::new(),
        };
        client.set_patience(PATIENCE);
        client
    }

    fn socket(&self) -> SockRef<'_> {
        SockRef::from(&self.stream)
    }

    fn set_patience(&self, patience: Duration) {
        let socket = self.socket();
        socket.set_read_timeout(Some(patience)).expect("a socket");
        socket.set_write_timeout(Some(patience)).expect("a socket");
    }

    /// Sends all of `bytes`, which the server must take.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends as much of `bytes` as the server takes, until it takes nothing for a while or has
    /// closed the connection. How much it was.
    pub fn send_until_stuck(&mut self, bytes: &[u8]) -> usize {
        self.set_patience(Duration::from_millis(300));
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(len) => sent += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.set_patience(PATIENCE);
        sent
    }

    /// Sends as much of `bytes` as the socket takes without waiting.
    pub fn send_at_once(&mut self, bytes: &[u8]) {
        self.socket().set_nonblocking(true).expect("a socket");
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(len) => sent += len,
                Err(_) => break,
            }
        }
        self.socket().set_nonblocking(false).expect("a socket");
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&mut self) {
        let _ = self.socket().shutdown(std::net::Shutdown::Write);
    }

    /// Ends the connection with a reset, or over a unix socket as abruptly as that goes.
    pub fn reset(self) {
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Vec<u8> {
        let mut room = vec![0; 64 << 10];
        while self.ahead.len() < len {
            let got = loop {
                match self.stream.read(&mut room) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read.expect("an answer in time"),
                }
            };
            assert!(got > 0, "closed after {} of {len} bytes", self.ahead.len());
            self.ahead.extend_from_slice(&room[..got]);
        }
        let rest = self.ahead.split_off(len);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Drops the next `len` bytes; false when the server closes before, and then none is dropped.
    pub fn skip(&mut self, len: usize) -> bool {
        let mut room = [0; 4096];
        while self.ahead.len() < len {
            match self.stream.read(&mut room) {
                Ok(got) if got > 0 => self.ahead.extend_from_slice(&room[..got]),
                _ => return false,
            }
        }
        self.ahead.drain(..len);
        true
    }

    /// The next line, without its end.
    pub fn line(&mut self) -> String {
        let mut room = [0; 4096];
        loop {
            if let Some(at) = self.ahead.iter().position(|byte| *byte == b'\n') {
                let line = self.take(at + 1);
                return String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            let got = loop {
                match self.stream.read(&mut room) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read.expect("an answer in time"),
                }
            };
            assert!(got > 0, "closed inside a line");
            self.ahead.extend_from_slice(&room[..got]);
        }
    }

    /// Expects exactly `reply` next; says so at the first byte that differs.
    pub fn expect(&mut self, reply: &[u8]) {
        let mut at = 0;
        while at < reply.len() {
            let got = self.some(reply.len() - at);
            let wanted = &reply[at..at + got.len()];
            if got != wanted {
                let same = got.iter().zip(wanted).take_while(|(a, b)| a == b).count();
                let near = |bytes: &[u8]| {
                    let range = same.saturating_sub(40)..(same + 40).min(bytes.len());
                    String::from_utf8_lossy(&bytes[range]).into_owned()
                };
                panic!(
                    "byte {} of {} differs: {:?} instead of {:?}",
                    at + same,
                    reply.len(),
                    near(&got),
                    near(wanted)
                );
            }
            at += got.len();
        }
    }

    /// At least one and at most `most` of the next bytes.
    fn some(&mut self, most: usize) -> Vec<u8> {
        if self.ahead.is_empty() {
            let mut room = vec![0; 64 << 10];
            let got = loop {
                match self.stream.read(&mut room) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    read => break read.expect("an answer in time"),
                }
            };
            assert!(got > 0, "closed instead of an answer");
            self.ahead.extend_from_slice(&room[..got]);
        }
        let rest = self.ahead.split_off(most.min(self.ahead.len()));
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Sends a request and expects exactly one reply.
    pub fn ask(&mut self, request: &[u8], reply: &[u8]) {
        self.send(request);
        self.expect(reply);
    }

    /// Whether the server answers `request` with a line; the line. None when it closes instead.
    pub fn answer(&mut self, request: &[u8]) -> Option<String> {
        let mut line = Vec::new();
        self.stream.write_all(request).ok()?;
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).ok()?;
            line.push(byte[0]);
        }
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Everything until the server closes, orderly or not; `None` if it does not in time.
    pub fn drain(&mut self) -> Option<Vec<u8>> {
        let mut all = std::mem::take(&mut self.ahead);
        let mut room = vec![0; 64 << 10];
        loop {
            match self.stream.read(&mut room) {
                Ok(0) => return Some(all),
                Ok(got) => all.extend_from_slice(&room[..got]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return None;
                }
                Err(_) => return Some(all),
            }
        }
    }

    /// Sets a key and reads it back.
    pub fn round_trip(&mut self, key: &str, value: &[u8]) {
        self.ask(&set(key, value), b"STORED\r\n");
        self.ask(format!("get {key}\r\n").as_bytes(), &hit(key, value));
    }

    /// The server's own figures.
    pub fn stats(&mut self) -> HashMap<String, String> {
        self.stats_of("")
    }

    /// The figures of one subject of `stats`.
    pub fn stats_of(&mut self, subject: &str) -> HashMap<String, String> {
        self.send(format!("stats {subject}\r\n").as_bytes());
        let mut stats = HashMap::new();
        loop {
            let line = self.line();
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("STAT"), Some(name), Some(value)) => {
                    stats.insert(name.to_owned(), value.to_owned());
                }
                _ => {
                    assert_eq!(line, "END");
                    return stats;
                }
            }
        }
    }
}

/// A `set` of a value.
pub fn set(key: &str, value: &[u8]) -> Vec<u8> {
    let mut request = format!("set {key} 0 0 {}\r\n", value.len()).into_bytes();
    request.extend_from_slice(value);
    request.extend_from_slice(b"\r\n");
    request
}

/// What a `get` of that value answers, `END` included.
pub fn hit(key: &str, value: &[u8]) -> Vec<u8> {
    let mut reply = format!("VALUE {key} 0 {}\r\n", value.len()).into_bytes();
    reply.extend_from_slice(value);
    reply.extend_from_slice(b"\r\nEND\r\n");
    reply
}

/// A value of any length that differs from others of its length and is no reply.
pub fn value(seed: usize, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| b'a' + ((seed + at / 7) % 26) as u8)
        .collect()
}

/// Numbers that look random and are the same each time.
pub struct Dice(u64);

impl Dice {
    /// `seed` is not zero.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// A well-behaved client beside an attack: it asks all the time and must be answered rightly and
/// within a bounded time.
pub struct Neighbour {
    end: Sender<()>,
    thread: JoinHandle<(u64, Duration)>,
}

/// How long a neighbour may wait for an answer. The tests share two cores with each other and
/// with whatever else the machine does, so this tells a stall from a busy moment and no more.
pub const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Neighbour {
    pub fn start(server: &Server) -> Self {
        let mut client = server.client();
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            let (mut rounds, mut longest) = (0, Duration::ZERO);
            // At least one round, however soon the attack is over.
            loop {
                let started = Instant::now();
                client.round_trip(&format!("neighbour{}", rounds % 50), &value(rounds, 100));
                longest = longest.max(started.elapsed() / 2);
                rounds += 1;
                // The pause leaves the processor to the attack.
                let pause = Duration::from_millis(2);
                if ended.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            (rounds as u64, longest)
        });
        Self { end, thread }
    }

    /// Ends it and checks how it fared.
    pub fn stop(self) {
        drop(self.end);
        let (rounds, longest) = match self.thread.join() {
            Ok(figures) => figures,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        assert!(rounds > 0, "the neighbour was never answered");
        assert!(longest < ANSWER_MAX, "the neighbour waited for {longest:?}");
    }
}
