//! The loop of one thread: offers requests to its pipelines, lets the transport move bytes, and
//! hands what came back to the pipelines.
//!
//! Always true: the clock is read once before requests are rendered and once after bytes have
//! arrived, so a batch of requests begins no later, and ends no earlier, than its own reading;
//! and the loop allocates nothing once its buffers have reached their sizes.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::net::SocketAddrAny;
use rustix::time::{ClockId, clock_gettime};

use crate::client::{Pipeline, Terms};
use crate::kind::Kind;
use crate::live::Pulse;
use crate::placement::Placement;
use crate::plan::{DRAIN, OUT_BYTES};
use crate::schedule::Schedule;
use crate::silence::Silence;
use crate::tally::Tally;
use crate::transport::{Events, Transport, begin_connect, peer};
use crate::workload::{Ask, Requests, Workload, mix};

/// How long an idle loop looks before it sleeps, unless it is told to sleep at once. Looking costs
/// the server nothing, while waking a sleeper is paid by the server's core and shows in the latency.
const LOOK_NS: u64 = 50_000;

/// An open loop does not sleep when a request is due within this time: on a virtual machine a
/// wake-up has been seen to take most of a millisecond.
const WAKE_NS: u64 = 2_000_000;

/// Longest sleep, so that a stop is noticed.
const SLEEP_NS: u64 = 100_000_000;

/// Requests an open loop offers before it looks for replies: a long catch-up must not starve them.
const TURN_REQUESTS: usize = 1024;

/// Times an open loop sends once more, because more has become due while it sent, before it looks for replies: taking
/// a reply late costs that one reply, sending late all requests that are due meanwhile.
const RUSH_TURNS: usize = 4;

/// Nanoseconds since the run began, the same for all of its threads.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    #[inline]
    pub fn now_ns(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Requests left to send on one connection without an end.
pub const ENDLESS: u64 = u64::MAX;

struct Connection {
    pipeline: Pipeline,
    /// Rendered, not yet taken by the transport.
    out: Vec<u8>,
    open: bool,
    touched: bool,
    /// Requests of the stream it may still carry before it is replaced.
    life: u64,
}

/// A stream of requests in a closed loop, and what is left of it. Its connections, one to each
/// server, stand one after the other.
struct Client {
    requests: Requests,
    left: u64,
    /// Drawn, but its connection could not take it yet.
    pending: Option<Ask>,
}

/// What the threads of a run have in common.
#[derive(Clone, Copy)]
pub struct Common<'a> {
    /// How replies are looked at.
    pub terms: &'a Terms,
    /// The run's time.
    pub clock: Clock,
    /// Ends the run early.
    pub stop: &'a AtomicBool,
    /// Which of several servers has a key.
    pub placement: Option<&'a Placement>,
    /// Servers.
    pub server_count: usize,
    /// Keys on the longest retrieval.
    pub keys_per_get: usize,
    /// Whether misses are followed by writes.
    pub set_on_miss: bool,
    /// Whether an open loop sends all requests for a key on one connection while that has room,
    /// so that the server sees them in order.
    pub key_keeps_client: bool,
    /// Whether an idle loop looks for a while before it sleeps.
    pub looks: bool,
    /// Requests after which a connection is replaced, if it is.
    pub reconnect_interval: Option<u64>,
    /// How long a server may say nothing where no time ends the wait.
    pub silence: Duration,
}

/// How a closed loop ended.
enum End {
    /// With its time or its requests, or because it was stopped.
    AsAsked,
    /// The server owes replies and has said nothing for too long.
    InSilence,
}

/// One thread's connections and their transport.
pub struct Driver<'a, T> {
    transport: T,
    connections: Vec<Connection>,
    clients: Vec<Client>,
    touched: Vec<usize>,
    /// Connections at the end of their life on which nothing is awaited.
    spent: Vec<usize>,
    /// Where connections that are replaced lead, by server.
    peers: Vec<SocketAddrAny>,
    common: Common<'a>,
    pulse: &'a Pulse,
    idle_since_ns: Option<u64>,
}

impl Connection {
    /// Whether it has to be replaced before it can be used again.
    #[inline]
    fn is_spent(&self) -> bool {
        self.life == 0 && self.pipeline.unfinished_count() == 0 && self.out.is_empty()
    }

    /// Counts a request of the stream.
    #[inline]
    fn spend(&mut self) {
        if self.life != ENDLESS {
            self.life -= 1;
        }
    }
}

/// Receives a turn's events.
struct Sink<'a> {
    connections: &'a mut [Connection],
    touched: &'a mut Vec<usize>,
    terms: &'a Terms,
    tally: &'a mut Tally,
    clock: Clock,
    now_ns: u64,
    hopeless: Vec<usize>,
}

/// Which server has the key of a request.
#[inline]
fn server_of(common: &Common, ask: &Ask) -> usize {
    let Some(placement) = common.placement else {
        return 0;
    };
    let key = match ask.kind {
        Kind::Incr => common.terms.keys.counter(ask.key),
        _ => common.terms.keys.key(ask.key),
    };
    placement.server_of(key.as_ref())
}

fn touch(connections: &mut [Connection], touched: &mut Vec<usize>, connection: usize) {
    let state = &mut connections[connection];
    if !state.touched && state.open {
        state.touched = true;
        touched.push(connection);
    }
}

impl Events for Sink<'_> {
    #[inline]
    fn received(&mut self, connection: usize, bytes: &[u8]) {
        if self.now_ns == 0 {
            self.now_ns = self.clock.now_ns();
        }
        let state = &mut self.connections[connection];
        if !state.open {
            return;
        }
        let outcome = state
            .pipeline
            .receive(bytes, self.now_ns, self.terms, self.tally);
        if outcome.is_err() {
            state.open = false;
            self.tally.faults.lost_connections += 1;
            self.hopeless.push(connection);
        }
        touch(self.connections, self.touched, connection);
    }

    fn sent(&mut self, connection: usize) {
        if !self.connections[connection].out.is_empty() {
            touch(self.connections, self.touched, connection);
        }
    }

    fn closed(&mut self, connection: usize, error: Option<io::Error>) {
        let state = &mut self.connections[connection];
        if !state.open {
            return;
        }
        state.open = false;
        self.tally.faults.lost_connections += 1;
        let outstanding = state.pipeline.outstanding_count();
        self.tally.faults.note(|| match error {
            Some(error) => format!("a connection broke: {error}"),
            None => format!(
                "the server closed a connection {}",
                if outstanding > 0 {
                    "that waited for replies"
                } else {
                    "before the run was over"
                }
            ),
        });
    }
}

impl<'a, T: Transport> Driver<'a, T> {
    /// A driver of connected `sockets`: for each client one to each server. `first` is the number
    /// of its first connection among those of all threads.
    pub fn new(
        sockets: Vec<OwnedFd>,
        first: usize,
        common: Common<'a>,
        pulse: &'a Pulse,
        setup: &T::Setup,
    ) -> io::Result<Self> {
        let count = sockets.len();
        let mut peers = Vec::new();
        if common.reconnect_interval.is_some() {
            for socket in &sockets[..common.server_count] {
                peers.push(peer(socket)?);
            }
        }
        let transport = T::new(sockets, setup)?;
        Ok(Self {
            transport,
            connections: (0..count)
                .map(|connection| Connection {
                    pipeline: Pipeline::new(
                        (first + connection) as u64,
                        1,
                        common.keys_per_get,
                        common.set_on_miss,
                    ),
                    out: Vec::new(),
                    open: true,
                    touched: false,
                    life: common.reconnect_interval.unwrap_or(ENDLESS),
                })
                .collect(),
            clients: Vec::new(),
            touched: Vec::with_capacity(count),
            spent: Vec::new(),
            peers,
            common,
            pulse,
            idle_since_ns: None,
        })
    }

    /// Writes keys `first..=last` of each client's range once, with `depth` requests outstanding for each. `ranges` has
    /// one entry per client.
    ///
    /// # Errors
    /// The transport fails, or the server owes replies and has fallen silent.
    pub fn fill(
        &mut self,
        workload: &Workload,
        stream: u64,
        ranges: &[Option<(u64, u64)>],
        depth: usize,
        tally: &mut Tally,
    ) -> io::Result<()> {
        let nothing = (workload.keys.minimum(), workload.keys.minimum());
        self.clients = ranges
            .iter()
            .enumerate()
            .map(|(index, range)| {
                let (first, last) = range.unwrap_or(nothing);
                Client {
                    requests: Requests::fill(workload, first, last, stream + index as u64),
                    left: range.map_or(0, |(first, last)| last - first + 1),
                    pending: None,
                }
            })
            .collect();
        self.set_depth(depth);
        match self.pump(depth, u64::MAX, tally)? {
            End::AsAsked => Ok(()),
            End::InSilence => Err(io::Error::other(self.silence())),
        }
    }

    /// Keeps `depth` requests outstanding for each client, until the tally's window ends or each
    /// has had `requests` answered or its stream ends. `streams` has one entry per client.
    pub fn closed_loop(
        &mut self,
        depth: usize,
        requests: Option<u64>,
        streams: Vec<Requests>,
        tally: &mut Tally,
    ) -> io::Result<()> {
        self.clients = streams
            .into_iter()
            .map(|stream| Client {
                left: requests.unwrap_or(ENDLESS).min(stream.left()),
                requests: stream,
                pending: None,
            })
            .collect();
        self.set_depth(depth);
        let end_ns = tally.window_ns.end;
        if let End::InSilence = self.pump(depth, end_ns, tally)? {
            tally.faults.note(|| self.silence());
        }
        self.drain(tally)
    }

    /// What is to be said of a server that has fallen silent.
    fn silence(&self) -> String {
        let open = self.connections.iter().filter(|each| each.open);
        let owed: usize = open.map(|each| each.pipeline.outstanding_count()).sum();
        format!(
            "the server said nothing for {:?} and owed {owed} replies",
            self.common.silence
        )
    }

    fn set_depth(&mut self, depth: usize) {
        for connection in &mut self.connections {
            connection
                .pipeline
                .set_depth(depth, self.common.keys_per_get);
        }
    }

    /// The closed loop: until `end_ns`, or until nothing is left to send and all is answered.
    fn pump(&mut self, depth: usize, end_ns: u64, tally: &mut Tally) -> io::Result<End> {
        for connection in 0..self.connections.len() {
            touch(&mut self.connections, &mut self.touched, connection);
        }
        let mut meter = Meter::new(tally.window_ns.clone(), self.pulse);
        let mut silence = Silence::new(self.common.silence, self.common.clock.now_ns());
        let end = loop {
            let now_ns = self.common.clock.now_ns();
            meter.turn(now_ns, tally);
            if now_ns >= end_ns || self.common.stop.load(Ordering::Relaxed) {
                break End::AsAsked;
            }
            let offered = self.top_up(depth, now_ns);
            self.renew(tally);
            let idle = offered == 0;
            let wait = self.wait(now_ns, idle, end_ns);
            let events = self.turn(wait, tally)?;
            let moved = offered + events > 0;
            meter.worked(moved);
            if self.finished() {
                break End::AsAsked;
            }
            if silence.is_too_long(now_ns, !moved) && end_ns == u64::MAX {
                break End::InSilence;
            }
        };
        meter.end(self.common.clock.now_ns(), tally);
        Ok(end)
    }

    fn finished(&self) -> bool {
        let own = self.connections.chunks(self.common.server_count);
        // The common case answers at the first client.
        own.zip(&self.clients).all(|(connections, client)| {
            (client.left == 0 || connections.iter().all(|connection| !connection.open))
                && connections.iter().all(|connection| {
                    !connection.open || connection.pipeline.unfinished_count() == 0
                })
        })
    }

    /// Fills touched pipelines and sends what they rendered; returns how many requests.
    fn top_up(&mut self, depth: usize, now_ns: u64) -> usize {
        let mut offered = 0;
        while let Some(index) = self.touched.pop() {
            let connection = &mut self.connections[index];
            connection.touched = false;
            if !connection.open {
                continue;
            }
            while connection
                .pipeline
                .offer_follow_up(self.common.terms, now_ns, &mut connection.out)
                .is_some()
            {
                offered += 1;
            }
            if self.connections[index].is_spent() {
                self.spent.push(index);
                continue;
            }
            offered += self.top_up_client(index, depth, now_ns);
            let connection = &mut self.connections[index];
            if !connection.out.is_empty() {
                // Not taken: `sent` will touch the connection again.
                self.transport.send(index, &mut connection.out);
            }
        }
        offered
    }

    /// Offers what the client of connection `index` may send; returns how many requests.
    #[inline]
    fn top_up_client(&mut self, index: usize, depth: usize, now_ns: u64) -> usize {
        let server_count = self.common.server_count;
        let client = &mut self.clients[index / server_count];
        let first = index - index % server_count;
        let mut offered = 0;
        while client.left > 0 {
            let own = &self.connections[first..first + server_count];
            let unfinished: usize = own
                .iter()
                .map(|connection| connection.pipeline.unfinished_count())
                .sum();
            if unfinished >= depth {
                break;
            }
            let ask = match client.pending.take() {
                Some(ask) => ask,
                None if self.connections[index].out.len() >= OUT_BYTES => break,
                None => client.requests.next_ask(),
            };
            let target = first + server_of(&self.common, &ask);
            let connection = &mut self.connections[target];
            if !connection.open {
                // One of its servers is gone: the client ends.
                client.left = 0;
                break;
            }
            if connection.out.len() >= OUT_BYTES || connection.life == 0 {
                client.pending = Some(ask);
                break;
            }
            connection.spend();
            connection.pipeline.offer(
                &ask,
                &mut client.requests,
                self.common.terms,
                now_ns,
                now_ns,
                &mut connection.out,
            );
            if client.left != ENDLESS {
                client.left -= 1;
            }
            offered += 1;
            if target != index {
                touch(&mut self.connections, &mut self.touched, target);
            }
        }
        offered
    }

    /// Sends what is due when it is due, until the tally's window ends or the stream does, with at
    /// most `depth` requests outstanding on each connection. `requests` is the stream of the whole
    /// thread.
    pub fn open_loop(
        &mut self,
        depth: usize,
        mut schedule: Schedule,
        start_ns: u64,
        requests: &mut Requests,
        tally: &mut Tally,
    ) -> io::Result<()> {
        self.set_depth(depth);
        let terms = self.common.terms;
        let end_ns = tally.window_ns.end;
        let client_count = self.connections.len() / self.common.server_count;
        let mut next = 0;
        let mut pending = None;
        // When every connection was last seen full: until then a request waits for the server.
        let mut blocked_ns = 0;
        // Times it has sent since it looked for replies.
        let mut rushed = 0;
        let mut meter = Meter::new(tally.window_ns.clone(), self.pulse);
        let mut silence = Silence::new(self.common.silence, self.common.clock.now_ns());
        loop {
            let now_ns = self.common.clock.now_ns();
            meter.turn(now_ns, tally);
            if now_ns >= end_ns || self.common.stop.load(Ordering::Relaxed) {
                break;
            }
            let mut offered = 0;
            while offered < TURN_REQUESTS {
                let due_ns = schedule.due_ns().saturating_add(start_ns);
                if due_ns > now_ns || due_ns >= end_ns {
                    break;
                }
                let ask: Ask = match pending.take() {
                    Some(ask) => ask,
                    None => requests.next_ask(),
                };
                let server = server_of(&self.common, &ask);
                if self.common.key_keeps_client {
                    next = (mix(ask.key) % client_count as u64) as usize;
                }
                let Some(index) = self.with_room(&mut next, server) else {
                    pending = Some(ask);
                    blocked_ns = now_ns;
                    break;
                };
                let connection = &mut self.connections[index];
                connection.spend();
                connection.pipeline.offer(
                    &ask,
                    requests,
                    terms,
                    due_ns,
                    now_ns,
                    &mut connection.out,
                );
                touch(&mut self.connections, &mut self.touched, index);
                tally.sent(due_ns, now_ns - due_ns.max(blocked_ns));
                schedule.advance();
                offered += 1;
            }
            while let Some(index) = self.touched.pop() {
                let connection = &mut self.connections[index];
                connection.touched = false;
                if !connection.open {
                    continue;
                }
                while let Some(due_ns) =
                    connection
                        .pipeline
                        .offer_follow_up(terms, now_ns, &mut connection.out)
                {
                    tally.sent(due_ns, now_ns.saturating_sub(due_ns));
                    offered += 1;
                }
                if !connection.out.is_empty() {
                    self.transport.send(index, &mut connection.out);
                } else if connection.is_spent() {
                    self.spent.push(index);
                }
            }
            self.renew(tally);
            if offered > 0 {
                self.transport.flush()?;
                let due_ns = schedule.due_ns().saturating_add(start_ns);
                if rushed < RUSH_TURNS && due_ns <= self.common.clock.now_ns() {
                    rushed += 1;
                    meter.worked(true);
                    continue;
                }
            }
            rushed = 0;
            let due_ns = schedule.due_ns().saturating_add(start_ns);
            let wait = self.wait(now_ns, offered == 0, due_ns.saturating_sub(WAKE_NS));
            let events = self.turn(wait, tally)?;
            let moved = offered + events > 0;
            meter.worked(moved);
            let is_answered = || {
                self.connections.iter().all(|connection| {
                    !connection.open || connection.pipeline.unfinished_count() == 0
                })
            };
            let ended = schedule.ended() && is_answered();
            if ended || self.connections.iter().all(|connection| !connection.open) {
                break;
            }
            // Only a run without an end in time waits for replies for ever.
            if end_ns == u64::MAX && silence.is_too_long(now_ns, !moved && !is_answered()) {
                tally.faults.note(|| self.silence());
                break;
            }
        }
        let ended_ns = self.common.clock.now_ns();
        meter.end(ended_ns, tally);
        self.drain(tally)?;
        // What was due and never sent counts as offered, with the age it reached.
        let now_ns = self.common.clock.now_ns();
        if !self.common.stop.load(Ordering::Relaxed) {
            loop {
                let due_ns = schedule.due_ns().saturating_add(start_ns);
                if schedule.ended() || due_ns >= end_ns {
                    break;
                }
                // Far beyond what can be sent this takes a while.
                if self.common.stop.load(Ordering::Relaxed) {
                    break;
                }
                let kind = match pending.take() {
                    Some(ask) => ask.kind,
                    None => requests.next_ask().kind,
                };
                if tally.window_ns.contains(&due_ns) {
                    let late_ns = ended_ns.saturating_sub(due_ns.max(blocked_ns));
                    tally.sent(due_ns, late_ns);
                    tally.gave_up(kind, due_ns, None, now_ns);
                }
                schedule.advance();
            }
        }
        Ok(())
    }

    /// The next connection in turn to this server that can take a request.
    fn with_room(&self, next: &mut usize, server: usize) -> Option<usize> {
        let client_count = self.connections.len() / self.common.server_count;
        for _ in 0..client_count {
            let index = *next * self.common.server_count + server;
            *next = if *next + 1 == client_count {
                0
            } else {
                *next + 1
            };
            let connection = &self.connections[index];
            if connection.open
                && connection.life > 0
                && connection.pipeline.has_room()
                && connection.out.len() < OUT_BYTES
            {
                return Some(index);
            }
        }
        None
    }

    /// Replaces connections at the end of their life.
    fn renew(&mut self, tally: &mut Tally) {
        let Some(interval) = self.common.reconnect_interval else {
            return;
        };
        for index in std::mem::take(&mut self.spent) {
            // It may be in the list twice.
            if !self.connections[index].open || !self.connections[index].is_spent() {
                continue;
            }
            if self.transport.is_sending(index) {
                // Its last send has not been reported yet.
                self.spent.push(index);
                continue;
            }
            let peer = &self.peers[index % self.common.server_count];
            let replaced =
                begin_connect(peer).and_then(|socket| self.transport.replace(index, socket));
            let connection = &mut self.connections[index];
            match replaced {
                Ok(()) => {
                    connection.life = interval;
                    touch(&mut self.connections, &mut self.touched, index);
                }
                Err(error) => {
                    connection.open = false;
                    self.transport.close(index);
                    tally.faults.lost_connections += 1;
                    tally
                        .faults
                        .note(|| format!("a connection could not be renewed: {error}"));
                }
            }
        }
    }

    /// How long the next turn may sleep: not at all while there is something to do, or shortly
    /// after there was.
    fn wait(&mut self, now_ns: u64, idle: bool, until_ns: u64) -> Option<Duration> {
        // A connection that was replaced this turn has something to send in the next.
        if !idle || !self.touched.is_empty() || !self.spent.is_empty() {
            self.idle_since_ns = None;
            return None;
        }
        let since_ns = *self.idle_since_ns.get_or_insert(now_ns);
        let look_ns = if self.common.looks { LOOK_NS } else { 0 };
        if now_ns - since_ns < look_ns || until_ns <= now_ns {
            return None;
        }
        Some(Duration::from_nanos((until_ns - now_ns).min(SLEEP_NS)))
    }

    #[inline]
    fn turn(&mut self, wait: Option<Duration>, tally: &mut Tally) -> io::Result<usize> {
        let mut sink = Sink {
            connections: &mut self.connections,
            touched: &mut self.touched,
            terms: self.common.terms,
            tally,
            clock: self.common.clock,
            now_ns: 0,
            hopeless: Vec::new(),
        };
        let count = self.transport.turn(wait, &mut sink)?;
        for connection in sink.hopeless {
            self.transport.close(connection);
        }
        Ok(count)
    }

    /// Waits for outstanding replies, at most [`DRAIN`], then gives up on the rest.
    fn drain(&mut self, tally: &mut Tally) -> io::Result<()> {
        let limit_ns = self.common.clock.now_ns() + DRAIN.as_nanos() as u64;
        loop {
            for index in 0..self.connections.len() {
                let connection = &mut self.connections[index];
                connection.touched = false;
                if connection.open && !connection.out.is_empty() {
                    self.transport.send(index, &mut connection.out);
                }
            }
            self.touched.clear();
            let now_ns = self.common.clock.now_ns();
            let waiting = self
                .connections
                .iter()
                .any(|connection| connection.open && connection.pipeline.outstanding_count() > 0);
            if !waiting || now_ns >= limit_ns {
                break;
            }
            self.turn(Some(Duration::from_nanos(limit_ns - now_ns)), tally)?;
        }
        let now_ns = self.common.clock.now_ns();
        for connection in &mut self.connections {
            connection.pipeline.give_up(now_ns, tally);
            connection.out.clear();
        }
        Ok(())
    }
}

/// CPU time and busy time of a thread inside the measured window.
struct Meter<'a> {
    window_ns: Range<u64>,
    pulse: &'a Pulse,
    cpu_from_ns: Option<u64>,
    turn_from_ns: u64,
    worked: bool,
}

impl<'a> Meter<'a> {
    fn new(window_ns: Range<u64>, pulse: &'a Pulse) -> Self {
        Self {
            window_ns,
            pulse,
            cpu_from_ns: None,
            turn_from_ns: 0,
            worked: false,
        }
    }

    #[inline]
    fn turn(&mut self, now_ns: u64, tally: &mut Tally) {
        self.pulse.beat(now_ns, tally);
        if now_ns < self.window_ns.start {
            return;
        }
        if self.cpu_from_ns.is_none() {
            self.cpu_from_ns = Some(thread_cpu_ns());
        } else {
            if self.worked {
                tally.busy_ns += now_ns - self.turn_from_ns;
            }
            tally.turns += 1;
        }
        self.turn_from_ns = now_ns;
    }

    fn worked(&mut self, worked: bool) {
        self.worked = worked;
    }

    fn end(&mut self, now_ns: u64, tally: &mut Tally) {
        self.turn(now_ns, tally);
        if let Some(from_ns) = self.cpu_from_ns {
            tally.cpu_ns += thread_cpu_ns() - from_ns;
        }
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
