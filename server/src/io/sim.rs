//! Invented connections, for tests: the same events in every order a kernel could make them.
//!
//! A [`Net`] holds the clients' ends; each worker's [`SimIo`] serves the connections it adopts.
//! From a seed it splits and delays what is received and sent, delivers bytes after a pause, and
//! answers a close late. Nothing here is a thread or a clock: the test decides who moves when.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{BufferId, ConnIndex, Event, Io, Ringer, Wait};
use crate::tls::Guard;

/// Receive buffers of one simulated back end, unless there is more room: few, so that they run out.
const BUFFERS: usize = 4;

/// Bytes of each: few, so that requests are cut.
const BUFFER_BYTES: usize = 700;

/// Input that may arrive line by line.
const FEW_BYTES: usize = 100;

/// Events of one poll at most, unless there is more room.
const POLL_MAX: usize = 6;

/// A small generator of test randomness (xorshift64*).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed rolls the same.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`, which is above zero.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize) % bound
    }

    /// True once in `n`.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// One connection, as both ends see it.
#[derive(Debug, Default)]
struct Pipe {
    to_server: VecDeque<u8>,
    to_client: Vec<u8>,
    /// Bytes the client's side takes before it has read some.
    window: usize,
    /// The client sends no more.
    ended: bool,
    /// The client is gone.
    reset: bool,
    /// The server has closed.
    closed: bool,
}

#[derive(Debug, Default)]
struct Inner {
    pipes: Vec<Pipe>,
    waiting: VecDeque<(usize, OwnedFd)>,
    by_fd: HashMap<RawFd, usize>,
}

/// All connections of one simulation; clones are the same net.
#[derive(Clone, Debug, Default)]
pub struct Net(Rc<RefCell<Inner>>);

/// Which client of a [`Net`].
pub type ClientId = usize;

impl Net {
    /// A new client, connecting. The server can send it `window` bytes ahead of its reading.
    ///
    /// # Panics
    /// When the null device cannot be opened: a descriptor stands in for the socket.
    pub fn connect(&self, window: usize) -> ClientId {
        let mut net = self.0.borrow_mut();
        let id = net.pipes.len();
        net.pipes.push(Pipe {
            window,
            ..Pipe::default()
        });
        let file = File::open("/dev/null").expect("the null device opens");
        net.waiting.push_back((id, file.into()));
        id
    }

    /// The client sends.
    pub fn write(&self, client: ClientId, bytes: &[u8]) {
        self.0.borrow_mut().pipes[client].to_server.extend(bytes);
    }

    /// The client reads at most `most` bytes.
    #[must_use]
    pub fn read(&self, client: ClientId, most: usize) -> Vec<u8> {
        let mut net = self.0.borrow_mut();
        let pipe = &mut net.pipes[client];
        let take = most.min(pipe.to_client.len());
        pipe.to_client.drain(..take).collect()
    }

    /// The client has sent all it will.
    pub fn end(&self, client: ClientId) {
        self.0.borrow_mut().pipes[client].ended = true;
    }

    /// The client vanishes.
    pub fn reset(&self, client: ClientId) {
        self.0.borrow_mut().pipes[client].reset = true;
    }

    /// Whether the server has closed, or refused, the client's connection.
    #[must_use]
    pub fn closed(&self, client: ClientId) -> bool {
        self.0.borrow().pipes[client].closed
    }

    /// Bytes the client has sent that the server has not received.
    #[must_use]
    pub fn unread(&self, client: ClientId) -> usize {
        self.0.borrow().pipes[client].to_server.len()
    }
}

/// Wakes a simulated worker: sets a flag that the test looks at.
#[derive(Clone, Debug, Default)]
pub struct SimRinger(Arc<AtomicBool>);

impl Ringer for SimRinger {
    fn ring(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl SimRinger {
    /// Whether it rang since the last call.
    #[must_use]
    pub fn rang(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Conn {
    pipe: ClientId,
    /// Held so that the number is not given out again while the connection lives.
    _fd: OwnedFd,
    paused: bool,
    ended: bool,
    closing: bool,
    sending: Option<(Vec<u8>, usize)>,
}

/// One worker's simulated back end.
#[derive(Debug)]
pub struct SimIo {
    net: Net,
    dice: Dice,
    accepts: bool,
    conns: Vec<Option<Conn>>,
    buffers: Vec<Vec<u8>>,
    free: Vec<BufferId>,
    closed: Vec<ConnIndex>,
    /// Events of one poll at most.
    poll_max: usize,
    /// No connection receives more than one buffer in a poll.
    sipping: bool,
    ringer: SimRinger,
}

impl SimIo {
    /// A back end of `net` that accepts its new connections if `accepts`.
    #[must_use]
    pub fn new(net: Net, seed: u64, accepts: bool, ringer: SimRinger) -> Self {
        Self {
            net,
            dice: Dice::new(seed),
            accepts,
            conns: Vec::new(),
            buffers: vec![vec![0; BUFFER_BYTES]; BUFFERS],
            free: (0..BUFFERS as BufferId).collect(),
            closed: Vec::new(),
            poll_max: POLL_MAX,
            sipping: false,
            ringer,
        }
    }

    /// Whether anything could happen here without another worker's or a client's help.
    #[must_use]
    pub fn idle(&self) -> bool {
        let net = self.net.0.borrow();
        let quiet = |conn: &Conn| {
            let pipe = &net.pipes[conn.pipe];
            let receivable = !conn.paused
                && !conn.ended
                && (!pipe.to_server.is_empty() || pipe.ended || pipe.reset);
            let sendable =
                conn.sending.is_some() && (pipe.reset || pipe.to_client.len() < pipe.window);
            !receivable && !sendable && !conn.closing
        };
        self.closed.is_empty()
            && (!self.accepts || net.waiting.is_empty())
            && self.conns.iter().flatten().all(quiet)
    }

    /// Whether a connection is not to be read.
    #[must_use]
    pub fn is_paused(&self, conn: ConnIndex) -> bool {
        let state = self.conns.get(conn as usize).and_then(Option::as_ref);
        state.is_some_and(|state| state.paused)
    }

    /// Receive buffers the worker has not given back; none between two ticks.
    #[must_use]
    pub fn buffers_out(&self) -> usize {
        self.buffers.len() - self.free.len()
    }

    /// Brings so many events in a poll, and has a receive buffer for each.
    pub fn widen(&mut self, poll_max: usize) {
        assert_eq!(self.buffers_out(), 0, "the worker reads some");
        self.poll_max = poll_max;
        self.buffers = vec![vec![0; BUFFER_BYTES]; poll_max];
        self.free = (0..poll_max as BufferId).collect();
    }

    fn conn(&mut self, conn: ConnIndex) -> &mut Conn {
        match &mut self.conns[conn as usize] {
            Some(state) => state,
            None => panic!("connection {conn} is not open"),
        }
    }

    fn receive(&mut self, conn: ConnIndex, events: &mut Vec<Event>) {
        let net = Rc::clone(&self.net.0);
        let mut net = net.borrow_mut();
        // A receive under way when the pause came may still deliver.
        let late = self.dice.once_in(3);
        let state = self.conn(conn);
        if state.ended || state.closing || (state.paused && !late) {
            return;
        }
        let pipe = &mut net.pipes[state.pipe];
        if pipe.reset {
            state.ended = true;
            events.push(Event::Ended { conn, failed: true });
            return;
        }
        if pipe.to_server.is_empty() {
            if pipe.ended {
                state.ended = true;
                events.push(Event::Ended {
                    conn,
                    failed: false,
                });
            }
            return;
        }
        let Some(buffer) = self.free.pop() else {
            return;
        };
        let most = pipe.to_server.len().min(BUFFER_BYTES);
        let take = match self.dice.below(4) {
            0 => 1 + self.dice.below(most),
            // As if the few lines that wait were a packet each.
            1 if most <= FEW_BYTES => {
                let line_end = pipe.to_server.iter().position(|byte| *byte == b'\n');
                line_end.map_or(most, |at| (at + 1).min(most))
            }
            _ => most,
        };
        for (slot, byte) in self.buffers[usize::from(buffer)]
            .iter_mut()
            .zip(pipe.to_server.drain(..take))
        {
            *slot = byte;
        }
        events.push(Event::Received {
            conn,
            buffer,
            len: take as u32,
        });
    }

    fn push_out(&mut self, conn: ConnIndex, events: &mut Vec<Event>) {
        let net = Rc::clone(&self.net.0);
        let mut net = net.borrow_mut();
        let part = self.dice.below(4);
        let roll = self.dice.below(1 << 20);
        let state = self.conn(conn);
        let pipe = &mut net.pipes[state.pipe];
        let Some((bytes, sent)) = &mut state.sending else {
            return;
        };
        let mut failed = pipe.reset || state.closing;
        if !failed {
            let room = pipe.window.saturating_sub(pipe.to_client.len());
            let most = room.min(bytes.len() - *sent);
            let take = if part == 0 && most > 0 {
                roll % most
            } else {
                most
            };
            pipe.to_client
                .extend_from_slice(&bytes[*sent..*sent + take]);
            *sent += take;
            if *sent < bytes.len() {
                return;
            }
            failed = false;
        }
        if let Some((bytes, _)) = state.sending.take() {
            events.push(Event::Sent {
                conn,
                bytes,
                failed,
            });
        }
    }
}

impl Io for SimIo {
    fn poll(&mut self, events: &mut Vec<Event>) {
        if self.ringer.rang() {
            events.push(Event::Rung);
        }
        for conn in std::mem::take(&mut self.closed) {
            events.push(Event::Closed { conn });
        }
        if self.accepts && !self.dice.once_in(3) {
            let mut net = self.net.0.borrow_mut();
            if let Some((pipe, fd)) = net.waiting.pop_front() {
                net.by_fd.insert(fd.as_raw_fd(), pipe);
                events.push(Event::Accepted { fd, listener: 0 });
            }
        }
        if self.conns.is_empty() {
            return;
        }
        // Somewhere in the list, so that no connection is always first.
        let start = self.dice.below(self.conns.len());
        // All that is sent before all that is received, as a ring has it, or both of each connection.
        let passes: &[(bool, bool)] = match self.dice.once_in(2) {
            true => &[(true, true)],
            false => &[(true, false), (false, true)],
        };
        for (sends, receives) in passes {
            for step in 0..self.conns.len() {
                if events.len() >= self.poll_max {
                    break;
                }
                let conn = ((start + step) % self.conns.len()) as ConnIndex;
                if self.conns[conn as usize].is_none() || self.dice.once_in(4) {
                    continue;
                }
                if *sends {
                    self.push_out(conn, events);
                }
                if *receives {
                    self.receive(conn, events);
                    if !self.sipping && self.dice.once_in(3) {
                        self.receive(conn, events);
                    }
                }
                let state = self.conn(conn);
                if state.closing && state.sending.is_none() {
                    let pipe = state.pipe;
                    self.net.0.borrow_mut().pipes[pipe].closed = true;
                    self.conns[conn as usize] = None;
                    self.closed.push(conn);
                }
            }
        }
    }

    fn bytes(&self, buffer: BufferId, len: u32) -> &[u8] {
        &self.buffers[usize::from(buffer)][..len as usize]
    }

    fn recycle(&mut self, buffer: BufferId) {
        assert!(!self.free.contains(&buffer), "buffer {buffer} twice");
        // Whoever reads it now reads rubbish.
        self.buffers[usize::from(buffer)].fill(0xee);
        self.free.push(buffer);
    }

    fn adopt(&mut self, conn: ConnIndex, fd: OwnedFd, _guard: Guard) {
        if self.conns.len() <= conn as usize {
            self.conns.resize_with(conn as usize + 1, || None);
        }
        assert!(
            self.conns[conn as usize].is_none(),
            "connection {conn} is in use"
        );
        let pipe = self.net.0.borrow().by_fd[&fd.as_raw_fd()];
        self.conns[conn as usize] = Some(Conn {
            pipe,
            _fd: fd,
            paused: false,
            ended: false,
            closing: false,
            sending: None,
        });
    }

    fn reject(&mut self, fd: OwnedFd, words: &'static [u8]) {
        let mut net = self.net.0.borrow_mut();
        let pipe = net.by_fd[&fd.as_raw_fd()];
        net.pipes[pipe].to_client.extend_from_slice(words);
        net.pipes[pipe].closed = true;
    }

    fn send(&mut self, conn: ConnIndex, bytes: Vec<u8>) {
        assert!(!bytes.is_empty(), "connection {conn} sends nothing");
        let state = self.conn(conn);
        assert!(
            state.sending.is_none(),
            "connection {conn}: a second send at once"
        );
        state.sending = Some((bytes, 0));
    }

    fn send_parts(&mut self, conn: ConnIndex, parts: &[IoSlice<'_>], _more: bool) -> Option<usize> {
        let part = self.dice.below(4);
        let roll = self.dice.below(1 << 20);
        let net = Rc::clone(&self.net.0);
        let mut net = net.borrow_mut();
        let state = self.conn(conn);
        assert!(
            state.sending.is_none(),
            "connection {conn}: a second send at once"
        );
        let pipe = &mut net.pipes[state.pipe];
        if pipe.reset {
            return None;
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        assert!(len > 0, "connection {conn} sends nothing");
        let most = len.min(pipe.window.saturating_sub(pipe.to_client.len()));
        let take = if part == 0 && most > 0 {
            roll % most
        } else {
            most
        };
        let bytes = parts.iter().flat_map(|part| part.iter());
        pipe.to_client.extend(bytes.take(take));
        Some(take)
    }

    fn pause(&mut self, conn: ConnIndex) {
        self.conn(conn).paused = true;
    }

    fn resume(&mut self, conn: ConnIndex) {
        self.conn(conn).paused = false;
    }

    fn close(&mut self, conn: ConnIndex) {
        let state = self.conn(conn);
        assert!(!state.closing, "connection {conn} closes twice");
        state.closing = true;
    }

    fn sip(&mut self, on: bool) {
        self.sipping = on;
    }

    fn stop_listening(&mut self) {
        self.accepts = false;
    }

    fn submit(&mut self, _wait: Wait) {}
}
