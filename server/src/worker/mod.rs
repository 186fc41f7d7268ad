//! A worker: the one that holds both sessions and a shard, and the tick that drives them.
//!
//! ```text
//! now = clock
//! 1 events        what the back end saw: finished sends, new and closed connections, bytes: parse, plan,
//!                 execute
//! 2 visitors      requests from other workers: execute, reply (a credit guarantees the room)
//! 3 homecoming    replies from other workers: into their slots, credits back
//! 4 sessions      those with something to do: parse, plan, execute; streams; finished ones end
//! 5 publish       one store a touched peer; wake those asleep
//! 6 send          one send a session whose front replies are ready
//! 7 upkeep        expiry, eviction, and memory that comes or goes, within budgets, so that no tick
//!                 stalls
//! ```
//!
//! The worker reads the clock once a tick; that is the only time inside the tick. A request is
//! planned with others of its session (hash, prefetch), or where gets come one by one with those of
//! other sessions, so that their cache misses overlap, and then executed at once when its key is
//! ours or sent to the owner when it is not.
//!
//! What stops a session from being parsed: its replies have reached a bound, or a peer has no
//! credit. Then its socket is read until [`CARRY_PAUSE_BYTES`] wait, and after that TCP pushes
//! back on that client alone.

mod access;
mod apart;
mod dump;
mod hot;
mod lone;
mod manage;
mod metas;
mod overdue;
mod packets;
mod requests;
mod sessions;
mod spares;
mod timing;
mod visits;
mod watch;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam_channel::Sender;
use strata_protocol::binary::{self, Head};
use strata_protocol::reply::{self, Sink};
use strata_protocol::{
    ClientError, DetailSwitch, GetKey, MetaVerb, Request, ServerError, ShutdownMode, StatsSubject,
    Store, WatchKinds,
};
use strata_store::{Key, KeyHash, KeyHasher, Probe, ScanPlace, Seconds, Shard};

use crate::access::{Admission, Job};
use crate::clock::Now;
use crate::config::{
    BATCH_MAX, BESIDE_OTHERS_US, CACHEDUMP_BUCKETS, CARRY_MAX_BYTES, CARRY_PAUSE_BYTES, Entry,
    HOLD_MAX_BYTES, HOLD_MAX_US, INTAKE_MAX_BYTES, LATE_INPUT_MAX_BYTES, LENT_BESIDE_OTHERS_BYTES,
    LENT_PER_TICK_BYTES, LITTLE_BYTES, MEMORY_STEP_BYTES, OUT_HIGH_BYTES, QUIET_TICKS,
    REPLIES_MAX_BYTES, REQUESTS_BESIDE_OTHERS, REQUESTS_PER_TICK_ALL, REQUESTS_SHARE_MIN,
    UPKEEP_ITEMS, VISITORS_PER_TICK,
};
use crate::execute::{Keeper, Outcome};
use crate::hotkeys::HotKeys;
use crate::io::{BufferId, ConnIndex, Event, HeldBack, Io, Wait};
use crate::lanes::{Lane, Lanes};
use crate::memory::Memory;
use crate::mesh::Peers;
use crate::message::{Extra, Homecoming, Op, Ticket, Visit};
use crate::observe::Observer;
use crate::route::Route;
use crate::session::{Intake, IntakeLimits, Intent, Reader, Role, Session, Stream, Tail};
use crate::shared::Shared;
use crate::stats::{self, Gather, Question, QueueMarks, Snapshot, Topic, WorkerFigures};
use crate::users::Users;
use lone::{Receipt, Receipts};
use overdue::{Half, IdleSweep};
pub(crate) use requests::key_of;
use spares::Spares;
use timing::Timing;

/// What the control plane may ask of a worker.
///
/// Whoever asks gives a channel with room for the answer, and only looks there for it, now and then: who
/// waits at a channel holds a lock of it for a moment, which the answering worker would wait for.
#[derive(Debug)]
pub enum Ask {
    /// Report.
    Snapshot(Sender<Box<Snapshot>>),
    /// Tell something as text.
    Tell(Topic, Sender<Vec<u8>>),
    /// Take no more, and finish what is in flight.
    Stop,
    /// Let these clients in from now on.
    Users(Arc<Users>),
    /// What a connection is told that has said who it is.
    Admit {
        /// Its index.
        conn: ConnIndex,
        /// Which use of the index it was.
        generation: u32,
        /// What it is told.
        admission: Admission,
    },
    /// End.
    End,
}

/// What a worker is made of.
pub struct Parts {
    /// Its index, below the number of workers.
    pub index: usize,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Its shard, empty.
    pub shard: Shard<Memory>,
    /// The hash all workers use.
    pub hasher: KeyHasher,
    /// Its mailboxes.
    pub peers: Peers,
    /// Questions from the control plane.
    pub asks: Lanes<Ask>,
    /// To whoever checks hashed passwords, where clients are asked for such.
    pub door: Option<Lane<Job>>,
    /// To whoever writes what is watched to standard error, if somebody does.
    pub stderr: Option<Lane<Vec<u8>>>,
    /// Who may come in, where the settings have clients asked for a password.
    pub users: Arc<Users>,
    /// How connections of each of its listeners begin.
    pub entries: Vec<Entry>,
    /// Its listeners' descriptors, which name them in `stats conns`.
    pub listener_fds: Vec<RawFd>,
    /// How many of its listeners' connections are dealt out to all workers; those of the others,
    /// which come behind them, stay.
    pub open_listeners: usize,
}

/// See the module's page.
pub struct Worker {
    index: usize,
    shared: Arc<Shared>,
    keeper: Keeper,
    hasher: KeyHasher,
    route: Route,
    peers: Peers,
    asks: Lanes<Ask>,
    door: Option<Lane<Job>>,
    stderr: Option<Lane<Vec<u8>>>,
    users: Arc<Users>,
    /// Looks at commands for whoever watches.
    observer: Observer,
    /// What of [`Watch`](crate::watch::Watch) it has seen.
    watch_epoch: u64,
    /// Its watchers, and what they want.
    watchers: Vec<(ConnIndex, WatchKinds)>,
    /// Lines that were lost on the way to the watchers of each worker and not told there yet.
    lines_kept_back: Vec<u64>,
    /// The same of those for standard error.
    lines_not_said: u64,
    /// The time of this tick, while somebody watches.
    watched_at: Option<Now>,
    sessions: Vec<Session>,
    free_sessions: Vec<ConnIndex>,
    /// Sessions to look at in this tick, each at most once.
    queue: Vec<ConnIndex>,
    /// Sessions with a lent value to send for which this tick had no bytes left; first in the next.
    unsent: Vec<ConnIndex>,
    /// Bytes of lent values that this tick may send, and what is left of them.
    lent_budget: usize,
    lent_left: usize,
    /// Until when others count as asking for small values, by the replies they get: that bounds what
    /// is lent. Who asks for one large value after the other sends little too, and is alone.
    others_until_ns: u64,
    /// Until when somebody counts as asking for little at a time, by what they send: that bounds what
    /// is received and made. A deep pipeline of small gets has small replies too, and is not meant.
    little_until_ns: u64,
    /// Sessions that have used up their share of this tick.
    yielded: Vec<ConnIndex>,
    /// Sessions that wait for a peer's credit, each at most once, in the order they came: else
    /// those in front would take every credit that comes back, and the others never get one.
    parked: VecDeque<ConnIndex>,
    /// Sessions that hold replies, or did, each at most once.
    held: Vec<ConnIndex>,
    /// When the first of them was put there.
    held_since_ns: u64,
    /// How many of them do.
    holding: usize,
    /// Lent values of sessions that are gone, to be given back to their owners.
    orphans: VecDeque<Stream>,
    /// Connections handed over by the accepting worker.
    adopted: Vec<(OwnedFd, Entry)>,
    events: Vec<Event>,
    /// Buffers for another use.
    spares: Spares,
    /// Bytes of half-received large values of all sessions.
    intake_bytes: usize,
    /// Those values, oldest first; some of them are done.
    halves: VecDeque<Half>,
    /// The search for idle sessions.
    idle_sweep: IdleSweep,
    /// Room taken by replies of all sessions, also by those being sent.
    reply_bytes: usize,
    /// Room taken by waiting input of all sessions.
    carry_bytes: usize,
    /// The back end was asked to receive in small sips.
    sipping: bool,
    /// Requests each session may make in this tick.
    share: usize,
    /// Requests each session may make in this tick because others wait for credits too.
    credit_share: usize,
    /// See [`Parts::entries`].
    entries: Vec<Entry>,
    /// See [`Parts::listener_fds`].
    listener_fds: Vec<RawFd>,
    /// See [`Parts::open_listeners`].
    open_listeners: usize,
    /// The worker that gets the next accepted connection.
    next_home: usize,
    /// What it notes of the time its requests take.
    timing: Timing,
    /// The keys its clients ask for most, unless nobody wants to know.
    hot_keys: Option<HotKeys>,
    /// When watchers were last told of them.
    hot_told: Seconds,
    /// The most that the mailboxes with each peer have held since then.
    marks: Vec<QueueMarks>,
    /// No further connections and requests are taken.
    stopping: bool,
    ended: bool,
}

/// What a worker still holds for its clients; all zero when the last is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Sessions open.
    pub sessions: usize,
    /// Bytes of half-received large values.
    pub intake_bytes: usize,
    /// Bytes of replies.
    pub reply_bytes: usize,
    /// Room taken by waiting input.
    pub carry_bytes: usize,
    /// Sessions with requests that are not answered.
    pub waits: usize,
    /// Values on loan, or waiting to be given back.
    pub loans: usize,
    /// Whether a visit has not come home.
    pub credits_out: bool,
}

/// Why a session's turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// It has no further complete request.
    Empty,
    /// Its replies have reached a bound.
    Full,
    /// A peer has no credit.
    NoCredit,
    /// Others come first.
    Yield,
    /// It ends.
    End,
}

impl Worker {
    /// A worker without sessions.
    #[must_use]
    pub fn new(mut parts: Parts) -> Self {
        let cas = parts.shared.process.settings.cas;
        let settings = &parts.shared.process.settings;
        let observer = Observer::new(settings.worker_log_bytes, settings.prefix_delimiter);
        parts.shard.delimit_prefixes(settings.prefix_delimiter);
        let marks = vec![QueueMarks::default(); parts.peers.len()];
        let board = settings.latency.then(|| parts.shared.board(parts.index));
        let timing = Timing::on(board);
        let hot_keys = settings
            .hot_keys
            .then(|| HotKeys::new(parts.index as u64 + 1));
        parts.shared.bound_memory(&parts.shard.memory_limits());
        Self {
            index: parts.index,
            keeper: Keeper::new(parts.shard, cas),
            hasher: parts.hasher,
            route: Route::new(parts.peers.len(), parts.shared.process.settings.shard_ports),
            peers: parts.peers,
            asks: parts.asks,
            door: parts.door,
            stderr: parts.stderr,
            users: parts.users,
            observer,
            watch_epoch: 0,
            watchers: Vec::new(),
            lines_kept_back: vec![0; marks.len()],
            lines_not_said: 0,
            watched_at: None,
            shared: parts.shared,
            sessions: Vec::new(),
            free_sessions: Vec::new(),
            queue: Vec::new(),
            unsent: Vec::new(),
            lent_budget: 0,
            lent_left: 0,
            others_until_ns: 0,
            little_until_ns: 0,
            yielded: Vec::new(),
            parked: VecDeque::new(),
            held: Vec::new(),
            held_since_ns: 0,
            holding: 0,
            orphans: VecDeque::new(),
            adopted: Vec::new(),
            events: Vec::new(),
            spares: Spares::default(),
            intake_bytes: 0,
            halves: VecDeque::new(),
            idle_sweep: IdleSweep::default(),
            reply_bytes: 0,
            carry_bytes: 0,
            sipping: false,
            share: REQUESTS_SHARE_MIN,
            credit_share: usize::MAX,
            entries: parts.entries,
            listener_fds: parts.listener_fds,
            open_listeners: parts.open_listeners,
            next_home: parts.index,
            timing,
            hot_keys,
            hot_told: Seconds(0),
            marks,
            stopping: false,
            ended: false,
        }
    }

    /// One tick. True when there is more to do at once; else the worker may sleep until the back
    /// end or a peer has something.
    pub fn tick(&mut self, io: &mut impl Io, now: &Now) -> bool {
        self.keeper.counters.ticks += 1;
        self.look_for_watchers(now);
        let mut events = std::mem::take(&mut self.events);
        io.poll(&mut events);
        self.tick_begins(now, events.len());
        let received = |event: &&Event| matches!(event, Event::Received { .. });
        let active = events.iter().filter(received).count() + self.queue.len();
        let most = self.shared.process.settings.requests_per_tick;
        let beside_little = now.elapsed_ns < self.little_until_ns;
        self.share = sessions::share(active, beside_little, most);
        io.go_gently(beside_little);
        self.count_limits(io.held_back(), beside_little);
        let mut receipts = Receipts::new();
        for event in events.drain(..) {
            self.event(io, now, event, &mut receipts);
        }
        self.take_receipts(io, now, &mut receipts);
        self.events = events;
        let more_visitors = self.visitors(now);
        self.homecoming(now);
        self.adopt_all(io, now);
        self.let_out(now);
        let more_farewells = self.stopping && self.see_off();
        self.serve_sessions(io, now);
        let more_idle = self.sweep_idle(io, now);
        self.watch_carry(io);
        self.return_orphans();
        self.send_log(now);
        self.publish();
        let more_upkeep = self.keeper.shard.upkeep(now.seconds, UPKEEP_ITEMS);
        let more_memory = self.move_memory();
        // Credits that those let on did not use are for the next ones.
        let more_parked = !self.parked.is_empty() && self.credits() > Some(0);
        more_visitors
            || more_upkeep
            || more_memory
            || more_parked
            || more_idle
            || more_farewells
            || !self.queue.is_empty()
    }

    /// Counts what bounds this tick and the back end's part of it.
    #[inline]
    fn count_limits(&mut self, held_back: HeldBack, gentle: bool) {
        let counters = &mut self.keeper.counters;
        counters.gentle_ticks += u64::from(gentle);
        counters.full_polls += u64::from(held_back.full_polls);
        counters.buffers_short += u64::from(held_back.buffers_short);
        counters.receives_tamed += u64::from(held_back.tamed);
    }

    /// How long the worker may sleep when a tick has left it nothing to do.
    #[inline]
    #[must_use]
    pub fn patience(&self) -> Wait {
        if self.holding > 0 {
            return Wait::Micros(HOLD_MAX_US as u32);
        }
        Wait::Long
    }

    /// Takes up the limit that was set for all workers; the memory follows tick by tick.
    fn follow_memory_limit(&mut self) {
        let bytes = self.shared.memory_share();
        if let Err(error) = self.keeper.shard.set_memory_limit(bytes) {
            panic!("worker {}: {error}", self.index);
        }
    }

    /// Brings memory into use or gives it back to the system, as far as the limit asks for it and
    /// one tick allows. True when there is more to do.
    fn move_memory(&mut self) -> bool {
        let shard = &mut self.keeper.shard;
        for _ in 0..(MEMORY_STEP_BYTES / shard.page_bytes()).max(1) {
            let moved = shard.admit_page(Memory::take_up) || shard.discard_page(Memory::give_up);
            if !moved {
                return false;
            }
        }
        true
    }

    /// Whether a peer has published something since the last tick.
    pub fn has_mail(&mut self) -> bool {
        self.peers.iter_mut().flatten().any(|peer| peer.has_mail())
    }

    /// Whether the worker has been told to end.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Sessions open now.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len() - self.free_sessions.len()
    }

    /// What must be balanced once all clients are gone.
    #[must_use]
    pub fn leftovers(&self) -> Leftovers {
        Leftovers {
            sessions: self.session_count(),
            intake_bytes: self.intake_bytes,
            reply_bytes: self.reply_bytes,
            carry_bytes: self.carry_bytes,
            waits: self.timing.waiting.count(),
            loans: self.keeper.loans() + self.orphans.len(),
            credits_out: !self.peers.iter().flatten().all(|peer| peer.idle()),
        }
    }

    /// The shard's memory limit and the memory it has in use, in bytes.
    #[must_use]
    pub fn memory(&self) -> (usize, usize) {
        let usage = self.keeper.shard.usage();
        let present_bytes = usage.pages_total * usage.page_bytes;
        (self.keeper.shard.memory_limit(), present_bytes)
    }

    /// The shard's recount of itself; see `Shard::audit`.
    ///
    /// # Errors
    /// What does not agree.
    pub fn audit(&self) -> Result<(), String> {
        self.keeper.shard.audit()
    }

    /// Takes up an event. What is received is gathered in `receipts`, as far as one event of it comes behind
    /// the other.
    fn event(&mut self, io: &mut impl Io, now: &Now, event: Event, receipts: &mut Receipts) {
        if !matches!(event, Event::Received { .. }) {
            self.take_receipts(io, now, receipts);
        }
        match event {
            Event::Received { conn, buffer, len } => {
                receipts.push(Receipt { conn, buffer, len });
                if receipts.is_full() {
                    self.take_receipts(io, now, receipts);
                }
            }
            Event::Sent {
                conn,
                bytes,
                failed,
            } => {
                self.keeper.counters.bytes_written += bytes.len() as u64;
                self.spares.keep_large(bytes);
                let session = &mut self.sessions[conn as usize];
                session.sending = false;
                session.sending_bytes = 0;
                self.count_replies(conn);
                if failed {
                    self.end(io, conn);
                } else if !self.sessions[conn as usize].rests() {
                    self.look_at(conn);
                }
            }
            Event::Ended { conn, failed } => {
                let session = &mut self.sessions[conn as usize];
                session.ended = true;
                if failed {
                    self.end(io, conn);
                } else {
                    self.look_at(conn);
                }
            }
            Event::Accepted { fd, listener } => {
                let stays = listener >= self.open_listeners;
                self.accepted(io, now, fd, self.entries[listener], stays);
            }
            Event::Closed { conn } => {
                let session = &mut self.sessions[conn as usize];
                assert!(session.closing, "connection {conn} closed by itself");
                session.open = false;
                self.free_sessions.push(conn);
                self.shared.gate.leave();
            }
            Event::Rung => {
                self.keeper.counters.rings += 1;
                while let Some(ask) = self.asks.take() {
                    match ask {
                        Ask::Snapshot(answer) => {
                            // Whoever asked may have given up; that is not the worker's concern.
                            let _ = answer.try_send(Box::new(self.snapshot()));
                        }
                        Ask::Tell(topic, answer) => {
                            let mut text = Vec::new();
                            self.tell(now, topic, &mut text);
                            let _ = answer.try_send(text);
                        }
                        Ask::Stop => self.stop(io),
                        Ask::Users(users) => self.users = users,
                        Ask::Admit {
                            conn,
                            generation,
                            admission,
                        } => self.admit(now, conn, generation, admission),
                        Ask::End => self.ended = true,
                    }
                }
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            counters: self.keeper.counters,
            store: *self.keeper.shard.counters(),
            usage: self.keeper.shard.usage(),
            sessions: self.session_count() as u64,
            loans: self.keeper.loans() as u64,
            intake_bytes: self.intake_bytes as u64,
            workers: vec![WorkerFigures {
                index: self.index,
                counters: self.keeper.counters,
                connections: self.session_count() as u64,
                longest_tick_us: self.timing.longest_us(),
                long_ticks: self.timing.longest.list().to_vec(),
                queues: self.marks.clone(),
            }],
        }
    }

    /// Sets to zero what `stats reset` sets to zero and the keeper does not count. What the queues
    /// hold at present counts again at once.
    fn reset_marks(&mut self) {
        self.timing.reset();
        self.marks.fill(QueueMarks::default());
    }

    /// Tells its part of something that all workers tell together.
    fn tell(&self, now: &Now, topic: Topic, text: &mut Vec<u8>) {
        match topic {
            Topic::Connections => self.list_connections(now, text),
            Topic::Prefixes => self.observer.prefixes.part(text),
            Topic::Ttl => {
                let shard = &self.keeper.shard;
                shard.ttl_classes(|class| stats::held::ttl_part(&class, text));
            }
            Topic::Ages => {
                let mut ages = stats::held::Ages::default();
                self.keeper
                    .shard
                    .segments(|segment| ages.add(&segment, now.seconds));
                ages.part(text);
            }
            Topic::Hotkeys => {
                if let Some(hot_keys) = &self.hot_keys {
                    hot_keys.part(now.seconds, text);
                }
            }
            Topic::Cachedump(limit) => {
                let share = stats::cachedump_share(self.peers.len());
                let most = if limit == 0 { u32::MAX } else { limit };
                let mut shown = 0;
                let from = ScanPlace::default();
                let shard = &self.keeper.shard;
                let _ = shard.scan(from, CACHEDUMP_BUCKETS, now.seconds, |item| {
                    if shown < most {
                        stats::cachedump_part(&item, now, share, text);
                        shown += 1;
                    }
                });
            }
        }
    }

    fn list_connections(&self, now: &Now, text: &mut Vec<u8>) {
        if !self.stopping {
            for fd in &self.listener_fds {
                stats::listener(*fd, now.uptime_s(), text);
            }
        }
        for session in &self.sessions {
            if session.open && !session.closing {
                let idle_s = now.seconds.0.saturating_sub(session.asked_s);
                stats::connection(session, idle_s, text);
            }
        }
    }

    /// Begins to stop: no new connections, and each session ends when it is quiet; what is in flight
    /// is answered.
    pub fn stop(&mut self, io: &mut impl Io) {
        if !self.stopping {
            self.stopping = true;
            io.stop_listening();
        }
    }
}
