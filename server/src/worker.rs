//! A worker: the one that holds both sessions and a shard, and the tick that drives them.
//!
//! ```text
//! now = clock
//! 1 events        what the back end saw: bytes, finished sends, new and closed connections
//! 2 visitors      requests from other workers: execute, reply (a credit guarantees the room)
//! 3 homecoming    replies from other workers: into their slots, credits back
//! 4 sessions      those with something to do: parse, plan, execute; streams; finished ones end
//! 5 publish       one store a touched peer; wake those asleep
//! 6 send          one send a session whose front replies are ready
//! 7 upkeep        expiry and eviction within a budget, so that no tick stalls
//! ```
//!
//! The worker reads the clock once a tick; that is the only time inside the tick. A request is
//! planned with others of its session (hash, prefetch), so that their cache misses overlap, and
//! then executed at once when its key is ours or sent to the owner when it is not.
//!
//! What stops a session from being parsed: its replies have reached a bound, or a peer has no
//! credit. Then its socket is read until [`CARRY_PAUSE_BYTES`] wait, and after that TCP pushes
//! back on that client alone.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use arrayvec::ArrayVec;
use crossbeam_channel::{Receiver, Sender};
use strata_protocol::reply::{self, Sink};
use strata_protocol::{ClientError, Request, ServerError, ShutdownMode, StatsSubject};
use strata_store::{Key, KeyHash, KeyHasher, Shard};

use crate::clock::Now;
use crate::config::{
    BATCH_MAX, CARRY_MAX_BYTES, CARRY_PAUSE_BYTES, INTAKE_MAX_BYTES, OUT_HIGH_BYTES,
    REPLIES_MAX_BYTES, REQUESTS_PER_TICK_ALL, REQUESTS_SHARE_MIN, SPARE_KEEP_BYTES,
    SPARE_MAX_BYTES, UPKEEP_ITEMS, VISITORS_PER_TICK,
};
use crate::execute::{Keeper, Outcome};
use crate::io::{ConnIndex, Event, Io};
use crate::memory::Memory;
use crate::mesh::{Peer, Peers};
use crate::message::{Homecoming, Op, Ticket, Visit};
use crate::session::{Intake, IntakeLimits, Intent, Reader, Session, Stream, Tail};
use crate::shared::Shared;
use crate::stats::{self, Gather, Question, Snapshot};

/// What the control plane may ask of a worker.
#[derive(Debug)]
pub enum Ask {
    /// Report.
    Snapshot(Sender<Box<Snapshot>>),
    /// Take no more, and finish what is in flight.
    Stop,
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
    pub asks: Receiver<Ask>,
}

/// See the module's page.
pub struct Worker {
    index: usize,
    shared: Arc<Shared>,
    keeper: Keeper,
    hasher: KeyHasher,
    peers: Peers,
    asks: Receiver<Ask>,
    sessions: Vec<Session>,
    free_sessions: Vec<ConnIndex>,
    /// Sessions to look at in this tick, each at most once.
    queue: Vec<ConnIndex>,
    /// Sessions that have used up their share of this tick.
    yielded: Vec<ConnIndex>,
    /// Sessions that wait for a peer's credit, each at most once, in the order they came: else
    /// those in front would take every credit that comes back, and the others never get one.
    parked: VecDeque<ConnIndex>,
    /// Lent values of sessions that are gone, to be given back to their owners.
    orphans: VecDeque<Stream>,
    /// Connections handed over by the accepting worker.
    adopted: Vec<OwnedFd>,
    events: Vec<Event>,
    /// Send buffers for another use, and the sum of their capacities.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
    /// Bytes of half-received large values of all sessions.
    intake_bytes: usize,
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
    /// The worker that gets the next accepted connection.
    next_home: usize,
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
    /// Values on loan, or waiting to be given back.
    pub loans: usize,
    /// Whether a visit has not come home.
    pub credits_out: bool,
}

struct Planned<'a> {
    intent: Intent<'a>,
    hash: KeyHash,
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
    pub fn new(parts: Parts) -> Self {
        let cas = parts.shared.process.settings.cas;
        Self {
            index: parts.index,
            keeper: Keeper::new(parts.shard, cas),
            hasher: parts.hasher,
            peers: parts.peers,
            asks: parts.asks,
            shared: parts.shared,
            sessions: Vec::new(),
            free_sessions: Vec::new(),
            queue: Vec::new(),
            yielded: Vec::new(),
            parked: VecDeque::new(),
            orphans: VecDeque::new(),
            adopted: Vec::new(),
            events: Vec::new(),
            spare: Vec::new(),
            spare_bytes: 0,
            intake_bytes: 0,
            reply_bytes: 0,
            carry_bytes: 0,
            sipping: false,
            share: REQUESTS_SHARE_MIN,
            credit_share: usize::MAX,
            next_home: parts.index,
            stopping: false,
            ended: false,
        }
    }

    /// One tick. True when there is more to do at once; else the worker may sleep until the back
    /// end or a peer has something.
    pub fn tick(&mut self, io: &mut impl Io, now: &Now) -> bool {
        self.keeper.counters.ticks += 1;
        let mut events = std::mem::take(&mut self.events);
        io.poll(&mut events);
        let active = events.len() + self.queue.len();
        self.share = share(active, self.shared.process.settings.requests_per_tick);
        for event in events.drain(..) {
            self.event(io, now, event);
        }
        self.events = events;
        let more_visitors = self.visitors(now);
        self.homecoming(now);
        self.adopt_all(io, now);
        self.serve_sessions(io, now);
        self.watch_carry(io);
        self.return_orphans();
        self.publish();
        let more_upkeep = self.keeper.shard.upkeep(now.seconds, UPKEEP_ITEMS);
        // Credits that those let on did not use are for the next ones.
        let more_parked = !self.parked.is_empty() && self.credits() > Some(0);
        more_visitors || more_upkeep || more_parked || !self.queue.is_empty()
    }

    /// Whether a peer has published something since the last tick.
    pub fn has_mail(&mut self) -> bool {
        self.peers.iter_mut().flatten().any(Peer::has_mail)
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
            loans: self.keeper.loans() + self.orphans.len(),
            credits_out: !self.peers.iter().flatten().all(Peer::idle),
        }
    }

    /// The shard's recount of itself; see `Shard::audit`.
    ///
    /// # Errors
    /// What does not agree.
    pub fn audit(&self) -> Result<(), String> {
        self.keeper.shard.audit()
    }

    fn event(&mut self, io: &mut impl Io, now: &Now, event: Event) {
        match event {
            Event::Received { conn, buffer, len } => {
                self.keeper.counters.bytes_read += u64::from(len);
                self.received(io, now, conn, buffer, len);
                io.recycle(buffer);
            }
            Event::Sent {
                conn,
                bytes,
                failed,
            } => {
                self.keeper.counters.bytes_written += bytes.len() as u64;
                self.spare_buffer(bytes);
                let session = &mut self.sessions[conn as usize];
                session.sending = false;
                session.sending_bytes = 0;
                self.count_replies(conn);
                if failed {
                    self.end(io, conn);
                } else {
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
            Event::Accepted(fd) => self.accepted(io, now, fd),
            Event::Closed { conn } => {
                let session = &mut self.sessions[conn as usize];
                assert!(session.closing, "connection {conn} closed by itself");
                session.open = false;
                self.free_sessions.push(conn);
                self.shared.gate.leave();
            }
            Event::Rung => {
                while let Ok(ask) = self.asks.try_recv() {
                    match ask {
                        Ask::Snapshot(answer) => {
                            // Whoever asked may have given up; that is not the worker's concern.
                            let _ = answer.try_send(Box::new(self.snapshot()));
                        }
                        Ask::Stop => self.stop(io),
                        Ask::End => self.ended = true,
                    }
                }
            }
        }
    }

    /// Puts a session on the list of this tick.
    #[inline]
    fn look_at(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        if !session.queued {
            session.queued = true;
            self.queue.push(conn);
        }
    }

    fn accepted(&mut self, io: &mut impl Io, now: &Now, fd: OwnedFd) {
        if self.stopping {
            return;
        }
        if !self.shared.gate.enter() {
            self.keeper.counters.rejected_connections += 1;
            io.reject(fd, b"ERROR Too many open connections\r\n");
            return;
        }
        self.keeper.counters.total_connections += 1;
        let home = self.next_home;
        self.next_home = (home + 1) % self.peers.len();
        match &mut self.peers[home] {
            Some(peer) if peer.credits() > 0 => {
                self.keeper.counters.visits_sent += 1;
                peer.visit(|visit| {
                    visit.ticket = Ticket::NOBODY;
                    visit.op = Op::Adopt;
                    visit.fd = Some(fd);
                    visit.key_bytes = 0;
                    visit.parcel.clear();
                });
            }
            _ => self.adopt(io, now, fd),
        }
    }

    fn adopt_all(&mut self, io: &mut impl Io, now: &Now) {
        while let Some(fd) = self.adopted.pop() {
            self.adopt(io, now, fd);
        }
    }

    fn adopt(&mut self, io: &mut impl Io, now: &Now, fd: OwnedFd) {
        let conn = self.free_sessions.pop().unwrap_or_else(|| {
            self.sessions.push(Session::default());
            self.sessions.len() as ConnIndex - 1
        });
        let session = &mut self.sessions[conn as usize];
        let (generation, queued, parked) = (session.generation, session.queued, session.parked);
        *session = Session {
            generation,
            queued,
            parked,
            open: true,
            active_s: now.seconds.0,
            fd: fd.as_raw_fd(),
            ..Session::default()
        };
        io.adopt(conn, fd);
        if self.stopping {
            self.sessions[conn as usize].draining = true;
            self.look_at(conn);
        }
    }

    fn received(
        &mut self,
        io: &mut impl Io,
        now: &Now,
        conn: ConnIndex,
        buffer: crate::io::BufferId,
        len: u32,
    ) {
        let bytes = io.bytes(buffer, len);
        let session = &mut self.sessions[conn as usize];
        // A client that never pauses must not hold up a stop with ever more requests.
        if session.closing || session.draining || self.stopping {
            return;
        }
        session.active_s = now.seconds.0;
        if !session.carry.is_empty() || session.replies.room() == 0 {
            session.carry.extend_from_slice(bytes);
        } else {
            let (used, pause) = self.turn(now, conn, bytes);
            let session = &mut self.sessions[conn as usize];
            session.carry.extend_from_slice(&bytes[used..]);
            self.settle(conn, pause);
        }
        self.count_carry(conn);
        self.look_at(conn);
    }

    /// Does what the end of a turn asks for.
    fn settle(&mut self, conn: ConnIndex, pause: Pause) {
        let session = &mut self.sessions[conn as usize];
        match pause {
            Pause::Empty => {
                if session.ended {
                    session.draining = true;
                }
            }
            Pause::Full => {}
            Pause::NoCredit => {
                self.keeper.counters.parked += 1;
                session.held_back = true;
                self.park(conn);
            }
            Pause::Yield => {
                self.keeper.counters.conn_yields += 1;
                session.held_back = true;
                self.yielded.push(conn);
            }
            Pause::End => session.draining = true,
        }
        let session = &mut self.sessions[conn as usize];
        if session.draining {
            session.carry = Vec::new();
        }
    }

    /// Parses and executes as many requests of `input` as may be done now; returns how many bytes
    /// they used.
    fn turn(&mut self, now: &Now, conn: ConnIndex, input: &[u8]) -> (usize, Pause) {
        let mut used = 0;
        let mut left = self.share;
        let mut credits_left = self.credit_share;
        self.furnish(conn);
        loop {
            let session = &mut self.sessions[conn as usize];
            let room = session.replies.room();
            if room == 0 {
                return (used, Pause::Full);
            }
            if left == 0 {
                return (used, Pause::Yield);
            }
            // Short of memory for replies, a session has one at a time.
            let credits = self.credits();
            let session = &mut self.sessions[conn as usize];
            let scarce = self.reply_bytes >= REPLIES_MAX_BYTES;
            let replies = &session.replies;
            if scarce && (session.sending || !replies.out.is_empty() || !replies.settled()) {
                return (used, Pause::Full);
            }
            let most = if scarce { 1 } else { BATCH_MAX };
            let credits = credits.unwrap_or(BATCH_MAX).min(credits_left);
            let batch = most.min(left).min(room).min(credits);
            if batch == 0 {
                return (used, Pause::NoCredit);
            }
            let intake_before = session.reader.intake_bytes();
            let limits = IntakeLimits {
                item_max_bytes: self.shared.process.settings.item_max_bytes,
                room: (INTAKE_MAX_BYTES + self.shared.process.settings.item_max_bytes as usize)
                    .saturating_sub(self.intake_bytes),
            };
            let mut plan: ArrayVec<Planned<'_>, BATCH_MAX> = ArrayVec::new();
            let mut pause = None;
            while plan.len() < batch && pause.is_none() {
                let (n, intent) = session.reader.next(&input[used..], &limits);
                used += n;
                match intent {
                    Intent::More => pause = Some(Pause::Empty),
                    Intent::Lost | Intent::Request(Request::Quit) => pause = Some(Pause::End),
                    intent => {
                        let hash = match key_of(&intent) {
                            Some(key) => {
                                let hash = self.hasher.hash(key);
                                self.keeper.shard.prefetch_buckets(hash);
                                hash
                            }
                            None => KeyHash::default(),
                        };
                        plan.push(Planned { intent, hash });
                    }
                }
            }
            self.intake_bytes = self.intake_bytes + session.reader.intake_bytes() - intake_before;
            left -= plan.len();
            credits_left -= plan.len();
            if plan.len() > 1 {
                for planned in &plan {
                    self.keeper.shard.prefetch_item(planned.hash);
                }
            }
            for planned in plan {
                self.perform(now, conn, planned);
            }
            self.count_replies(conn);
            if let Some(pause) = pause {
                return (used, pause);
            }
        }
    }

    /// Brings the worker's sum of reply bytes up to date with one session.
    #[inline]
    fn count_replies(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        let bytes = session.replies.bytes() + session.sending_bytes;
        self.reply_bytes = self.reply_bytes + bytes - session.counted_bytes;
        session.counted_bytes = bytes;
    }

    /// Brings the worker's sum of waiting input up to date with one session.
    #[inline]
    fn count_carry(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        let bytes = session.carry.capacity();
        self.carry_bytes = self.carry_bytes + bytes - session.counted_carry_bytes;
        session.counted_carry_bytes = bytes;
    }

    /// Has the back end receive in small sips while much input waits, so that no further session
    /// adds more than a buffer beyond its bound.
    fn watch_carry(&mut self, io: &mut impl Io) {
        let wanted = match self.sipping {
            false => self.carry_bytes >= CARRY_MAX_BYTES,
            true => self.carry_bytes >= CARRY_MAX_BYTES / 2,
        };
        if wanted != self.sipping {
            self.sipping = wanted;
            io.sip(wanted);
        }
    }

    /// Carries out one planned intent.
    #[inline]
    fn perform(&mut self, now: &Now, conn: ConnIndex, planned: Planned<'_>) {
        let Planned { intent, hash } = planned;
        match intent {
            Intent::Get(get) => {
                let op = if get.kind.touches() {
                    Op::GetAndTouch {
                        with_cas: get.kind.wants_cas(),
                        deadline: now.deadline(get.exptime),
                    }
                } else {
                    Op::Get {
                        with_cas: get.kind.wants_cas(),
                    }
                };
                self.command(now, conn, op, hash, get.key, &[], false);
                if get.last {
                    self.answer(conn, reply::END);
                }
            }
            Intent::Store(store, value) => {
                let op = Op::Store {
                    verb: store.verb,
                    flags: store.flags,
                    deadline: now.deadline(store.exptime),
                    unique: store.cas,
                };
                self.command(now, conn, op, hash, store.key, value, store.noreply);
            }
            Intent::Taken(intake) => self.store_taken(now, conn, hash, *intake),
            Intent::TooLarge(store) => {
                let op = Op::Refuse {
                    verb: store.verb,
                    too_large: true,
                };
                self.command(now, conn, op, hash, store.key, &[], store.noreply);
            }
            Intent::NoRoom(intake) => {
                let op = Op::Refuse {
                    verb: intake.verb,
                    too_large: false,
                };
                let key = &intake.bytes[..intake.key_bytes];
                self.command(now, conn, op, hash, key, &[], intake.noreply);
            }
            Intent::Request(request) => self.request(now, conn, hash, request),
            Intent::Answer(text) => self.answer(conn, text),
            Intent::More | Intent::Lost => {}
        }
    }

    fn request(&mut self, now: &Now, conn: ConnIndex, hash: KeyHash, request: Request<'_>) {
        let settings = &self.shared.process.settings;
        match request {
            Request::Delete { key, noreply } => {
                self.command(now, conn, Op::Delete, hash, key, &[], noreply);
            }
            Request::Arith {
                verb,
                key,
                delta,
                noreply,
            } => {
                let op = Op::Arith { verb, delta };
                self.command(now, conn, op, hash, key, &[], noreply);
            }
            Request::Touch {
                key,
                exptime,
                noreply,
            } => {
                let deadline = now.deadline(exptime);
                self.command(now, conn, Op::Touch { deadline }, hash, key, &[], noreply);
            }
            Request::FlushAll { exptime, noreply } => {
                self.keeper.counters.cmd_flush += 1;
                if settings.flush {
                    let at = now.flush_at(exptime);
                    let text = if noreply { b"" } else { reply::OK };
                    self.ask_all(now, conn, Op::Flush { at }, Question::Done(text));
                } else if !noreply {
                    self.answer(conn, ClientError::FlushNotAllowed.wire());
                }
            }
            Request::Version => self.write(conn, |out| reply::version(out, stats::VERSION)),
            Request::Verbosity { level, noreply } => {
                self.shared.set_verbosity(level.min(2) as u8);
                if !noreply {
                    self.answer(conn, reply::OK);
                }
            }
            Request::Nop => self.answer(conn, reply::MN),
            Request::Stats(subject) => self.stats(now, conn, subject),
            Request::Shutdown { mode, noreply } => {
                let text = match mode {
                    _ if !settings.shutdown => ServerError::ShutdownDisabled.wire(),
                    ShutdownMode::Unknown => ClientError::ShutdownMode.wire(),
                    ShutdownMode::Immediate | ShutdownMode::Graceful => {
                        self.shared.request_stop();
                        return;
                    }
                };
                if !noreply {
                    self.answer(conn, text);
                }
            }
            Request::Quit | Request::Get(_) | Request::Store(_) => {
                panic!("{request:?} is planned elsewhere")
            }
        }
    }

    fn stats(&mut self, now: &Now, conn: ConnIndex, subject: StatsSubject) {
        match subject {
            StatsSubject::General => self.ask_all(now, conn, Op::Snapshot, Question::General),
            StatsSubject::Items => self.ask_all(now, conn, Op::Snapshot, Question::Items),
            StatsSubject::Slabs => self.ask_all(now, conn, Op::Snapshot, Question::Slabs),
            StatsSubject::Conns => {
                self.ask_all(now, conn, Op::Connections, Question::Connections);
            }
            StatsSubject::Reset => {
                self.ask_all(now, conn, Op::ResetStats, Question::Done(reply::RESET));
            }
            StatsSubject::Settings => {
                let shared = Arc::clone(&self.shared);
                self.write(conn, |out| {
                    stats::settings(&shared.process, shared.verbosity(), out);
                });
            }
            StatsSubject::Sizes => self.answer(conn, b"STAT sizes_status disabled\r\nEND\r\n"),
            StatsSubject::Detail(_) | StatsSubject::Cachedump { .. } | StatsSubject::Unknown => {
                self.answer(conn, reply::ERROR);
            }
        }
    }

    /// Adds a fixed reply.
    #[inline]
    fn answer(&mut self, conn: ConnIndex, text: &[u8]) {
        self.write(conn, |out| out.put(text));
    }

    /// Adds a reply that is made here and now.
    #[inline]
    fn write(&mut self, conn: ConnIndex, write: impl FnOnce(&mut Tail<'_>)) {
        self.sessions[conn as usize].replies.ready(write);
    }

    /// Executes a command here, or sends it to the key's owner.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn command(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        op: Op,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
        quiet: bool,
    ) {
        let owner = self.owner(hash);
        if owner == self.index {
            self.command_here(now, conn, op, hash, key, value, quiet);
            return;
        }
        let ticket = self.ticket(conn);
        self.visit(owner, |visit| {
            visit.ticket = ticket;
            visit.hash = hash;
            visit.op = op;
            visit.quiet = quiet;
            visit.key_bytes = key.len() as u8;
            visit.parcel.clear();
            visit.parcel.put(key);
            visit.parcel.put(value);
        });
    }

    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn command_here(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        op: Op,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
        quiet: bool,
    ) {
        let key = Key { hash, bytes: key };
        let keeper = &mut self.keeper;
        let replies = &mut self.sessions[conn as usize].replies;
        let outcome = replies.ready(|out| keeper.execute(now, op, key, value, quiet, out));
        if let Outcome::Lent(loan, value_bytes) = outcome {
            replies.lend(Stream {
                owner: self.index,
                loan,
                at: 0,
                value_bytes,
                asked: false,
            });
        }
    }

    /// Stores a large value that has arrived whole; its buffer travels, it is not copied.
    fn store_taken(&mut self, now: &Now, conn: ConnIndex, hash: KeyHash, intake: Intake) {
        let Intake {
            verb,
            flags,
            exptime,
            unique,
            noreply,
            key_bytes,
            bytes,
            ..
        } = intake;
        let op = Op::Store {
            verb,
            flags,
            deadline: now.deadline(exptime),
            unique,
        };
        let owner = self.owner(hash);
        if owner == self.index {
            let (key, value) = bytes.split_at(key_bytes);
            self.command_here(now, conn, op, hash, key, value, noreply);
            return;
        }
        let ticket = self.ticket(conn);
        self.visit(owner, |visit| {
            visit.ticket = ticket;
            visit.hash = hash;
            visit.op = op;
            visit.quiet = noreply;
            visit.key_bytes = key_bytes as u8;
            visit.parcel.adopt(bytes);
        });
    }

    #[inline]
    fn owner(&self, hash: KeyHash) -> usize {
        if self.peers.len() == 1 {
            return 0;
        }
        hash.shard(self.peers.len())
    }

    /// A place for the reply of a command that is sent elsewhere.
    fn ticket(&mut self, conn: ConnIndex) -> Ticket {
        let session = &mut self.sessions[conn as usize];
        Ticket {
            session: conn,
            generation: session.generation,
            slot: session.replies.wait(),
        }
    }

    #[inline]
    fn visit(&mut self, owner: usize, fill: impl FnOnce(&mut Visit)) {
        self.keeper.counters.visits_sent += 1;
        match &mut self.peers[owner] {
            Some(peer) => peer.visit(fill),
            None => panic!("worker {} visits itself", self.index),
        }
    }

    /// Asks every worker, this one included, for a part of one reply.
    fn ask_all(&mut self, now: &Now, conn: ConnIndex, op: Op, question: Question) {
        let mut gather = Box::new(Gather {
            question,
            awaited: self.peers.len() - 1,
            sum: Snapshot::default(),
            text: Vec::new(),
        });
        match op {
            Op::Snapshot => gather.sum.add(&self.snapshot()),
            Op::Connections => self.list_connections(now, &mut gather.text),
            _ => {
                let key = Key {
                    hash: KeyHash::default(),
                    bytes: b"",
                };
                let mut nothing = |_: &[u8]| {};
                self.keeper.execute(now, op, key, &[], true, &mut nothing);
            }
        }
        let session = &mut self.sessions[conn as usize];
        let ticket = Ticket {
            session: conn,
            generation: session.generation,
            slot: session.replies.gather(gather),
        };
        for owner in 0..self.peers.len() {
            if owner != self.index {
                self.visit(owner, |visit| {
                    visit.ticket = ticket;
                    visit.op = op;
                    visit.key_bytes = 0;
                    visit.quiet = true;
                    visit.parcel.clear();
                });
            }
        }
        self.finish_gathering(now, conn, ticket.slot);
    }

    fn finish_gathering(&mut self, now: &Now, conn: ConnIndex, slot: u32) {
        let replies = &mut self.sessions[conn as usize].replies;
        if replies
            .gathering(slot)
            .is_some_and(|gather| gather.awaited == 0)
        {
            let process = &self.shared.process;
            replies.gathered(slot, |gather, out| {
                stats::render(&gather, process, now, out);
            });
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
        }
    }

    fn list_connections(&self, now: &Now, text: &mut Vec<u8>) {
        for session in &self.sessions {
            if session.open && !session.closing {
                let idle_s = now.seconds.0.saturating_sub(session.active_s);
                stats::connection(session, idle_s, text);
            }
        }
    }

    /// Serves the requests of other workers. True when some are left for the next tick.
    fn visitors(&mut self, now: &Now) -> bool {
        let mut more = false;
        for at in 0..self.peers.len() {
            let Some(mut peer) = self.peers[at].take() else {
                continue;
            };
            let mut served = 0;
            while served < VISITORS_PER_TICK {
                let visited = peer.visitors.take(|visit| {
                    let done = peer.replies.stage(|home| {
                        home.ticket = visit.ticket;
                        home.parcel.clear();
                        home.lent = None;
                        home.snapshot = None;
                        self.serve(now, visit, home);
                    });
                    assert!(done, "worker {at} has more visits out than credits");
                });
                if visited.is_none() {
                    break;
                }
                served += 1;
            }
            self.keeper.counters.visits_served += served as u64;
            more |= served == VISITORS_PER_TICK && peer.visitors.has_mail();
            peer.visitors.release();
            self.peers[at] = Some(peer);
        }
        more
    }

    fn serve(&mut self, now: &Now, visit: &mut Visit, home: &mut Homecoming) {
        match visit.op {
            Op::Snapshot => home.snapshot = Some(Box::new(self.snapshot())),
            Op::Connections => {
                let mut text = Vec::new();
                self.list_connections(now, &mut text);
                home.parcel.adopt(text);
            }
            Op::Adopt => self.adopted.extend(visit.fd.take()),
            op => {
                let (key, value) = visit.parcel.bytes().split_at(usize::from(visit.key_bytes));
                let key = Key {
                    hash: visit.hash,
                    bytes: key,
                };
                let outcome =
                    self.keeper
                        .execute(now, op, key, value, visit.quiet, &mut home.parcel);
                if let Outcome::Lent(loan, value_bytes) = outcome {
                    home.lent = Some((loan, value_bytes));
                }
                // A large value's buffer is not kept until the slot's next use.
                visit.parcel.clear();
            }
        }
    }

    /// Takes the replies of other workers home.
    fn homecoming(&mut self, now: &Now) {
        for owner in 0..self.peers.len() {
            let Some(mut peer) = self.peers[owner].take() else {
                continue;
            };
            while peer
                .come_home(|home| self.welcome(now, owner, home))
                .is_some()
            {}
            peer.release_homecomings();
            self.peers[owner] = Some(peer);
        }
        self.unpark();
    }

    /// Credits that every peer has left.
    fn credits(&self) -> Option<usize> {
        self.peers.iter().flatten().map(Peer::credits).min()
    }

    /// Has a session wait for a credit.
    fn park(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        if !session.parked {
            session.parked = true;
            self.parked.push_back(conn);
        }
    }

    /// Lets parked sessions on, as many as there are credits, and shares those out evenly: a
    /// newcomer with one request waits for one turn of each other session, however deep their
    /// pipelines are.
    fn unpark(&mut self) {
        self.credit_share = usize::MAX;
        if self.parked.is_empty() {
            return;
        }
        let credits = self.credits().unwrap_or(0);
        self.credit_share = (credits / self.parked.len()).max(1);
        for _ in 0..credits.min(self.parked.len()) {
            let Some(conn) = self.parked.pop_front() else {
                return;
            };
            let session = &mut self.sessions[conn as usize];
            session.parked = false;
            session.held_back = false;
            self.look_at(conn);
        }
    }

    fn welcome(&mut self, now: &Now, owner: usize, home: &mut Homecoming) {
        let Ticket {
            session: conn,
            generation,
            slot,
        } = home.ticket;
        let lent = home.lent.take().map(|(loan, value_bytes)| Stream {
            owner,
            loan,
            at: 0,
            value_bytes,
            asked: false,
        });
        let snapshot = home.snapshot.take();
        let Some(session) = self
            .sessions
            .get_mut(conn as usize)
            .filter(|session| session.generation == generation)
        else {
            if home.ticket != Ticket::NOBODY {
                self.keeper.counters.late_replies += 1;
            }
            self.orphans.extend(lent);
            return;
        };
        match session.replies.gathering(slot) {
            Some(gather) => {
                gather.awaited -= 1;
                if let Some(snapshot) = snapshot {
                    gather.sum.add(&snapshot);
                }
                gather.text.extend_from_slice(home.parcel.bytes());
                self.finish_gathering(now, conn, slot);
            }
            None => session.replies.fill(slot, home.parcel.bytes(), lent),
        }
        self.look_at(conn);
    }

    /// Looks at every session that something happened to.
    fn serve_sessions(&mut self, io: &mut impl Io, now: &Now) {
        let mut queue = std::mem::take(&mut self.queue);
        for conn in queue.drain(..) {
            self.sessions[conn as usize].queued = false;
            self.serve_session(io, now, conn);
        }
        // What was added meanwhile waits for the next tick.
        std::mem::swap(&mut queue, &mut self.queue);
        self.queue.append(&mut queue);
        for conn in std::mem::take(&mut self.yielded) {
            self.sessions[conn as usize].held_back = false;
            self.look_at(conn);
        }
    }

    fn serve_session(&mut self, io: &mut impl Io, now: &Now, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        if !session.open || session.closing {
            return;
        }
        self.furnish(conn);
        self.pump_stream(conn);
        let session = &mut self.sessions[conn as usize];
        let has_input = !session.carry.is_empty() || session.ended;
        if has_input && !session.held_back && !session.draining && session.replies.room() > 0 {
            let mut carry = std::mem::take(&mut session.carry);
            let (used, pause) = self.turn(now, conn, &carry);
            if used == carry.len() && carry.capacity() > CARRY_PAUSE_BYTES {
                carry = Vec::new();
            } else {
                carry.drain(..used);
                // The room of a great pile goes as the pile does.
                if carry.capacity() > 4 * carry.len().max(CARRY_PAUSE_BYTES) {
                    carry.shrink_to(2 * carry.len().max(CARRY_PAUSE_BYTES));
                }
            }
            self.sessions[conn as usize].carry = carry;
            self.settle(conn, pause);
            self.count_carry(conn);
            self.pump_stream(conn);
        }
        let session = &mut self.sessions[conn as usize];
        if !session.sending && !session.replies.out.is_empty() {
            let bytes = std::mem::take(&mut session.replies.out);
            session.sending = true;
            session.sending_bytes = bytes.capacity();
            io.send(conn, bytes);
        } else if session.replies.out.is_empty() {
            // An idle session keeps no buffer.
            let unused = std::mem::take(&mut session.replies.out);
            self.spare_buffer(unused);
        }
        self.count_replies(conn);
        let session = &mut self.sessions[conn as usize];
        if session.draining
            && !session.sending
            && session.replies.settled()
            && session.replies.out.is_empty()
        {
            self.end(io, conn);
            return;
        }
        let waiting = session.carry.len();
        if waiting >= CARRY_PAUSE_BYTES && !session.paused {
            session.paused = true;
            io.pause(conn);
        } else if waiting < CARRY_PAUSE_BYTES && session.paused {
            session.paused = false;
            io.resume(conn);
        }
    }

    /// Moves a lent value at the front of a session's replies on, as far as the client reads.
    fn pump_stream(&mut self, conn: ConnIndex) {
        loop {
            let session = &mut self.sessions[conn as usize];
            let generation = session.generation;
            let front = session.replies.front();
            let Some((stream, out)) = session.replies.streaming() else {
                return;
            };
            if out.len() >= OUT_HIGH_BYTES {
                return;
            }
            if stream.owner == self.index {
                while stream.at < stream.value_bytes && out.len() < OUT_HIGH_BYTES {
                    let before = out.len();
                    self.keeper
                        .read_loan(stream.loan, stream.at, &mut Tail(out));
                    stream.at += (out.len() - before) as u32;
                }
                if stream.at < stream.value_bytes {
                    return;
                }
                session.replies.end_stream_if_done();
                continue;
            }
            if stream.asked {
                return;
            }
            let Some(peer) = &mut self.peers[stream.owner] else {
                panic!("worker {} lent to itself as to a peer", self.index);
            };
            if peer.credits() == 0 {
                self.park(conn);
                return;
            }
            stream.asked = true;
            let op = Op::ReadLoan {
                loan: stream.loan,
                offset: stream.at,
            };
            self.keeper.counters.visits_sent += 1;
            peer.visit(|visit| {
                visit.ticket = Ticket {
                    session: conn,
                    generation,
                    slot: front,
                };
                visit.op = op;
                visit.key_bytes = 0;
                visit.quiet = false;
                visit.parcel.clear();
            });
            return;
        }
    }

    /// Gives loans of sessions that are gone back to the workers that made them.
    fn return_orphans(&mut self) {
        for _ in 0..self.orphans.len() {
            let Some(stream) = self.orphans.pop_front() else {
                return;
            };
            match &mut self.peers[stream.owner] {
                None => self.keeper.drop_loan(stream.loan),
                Some(peer) if peer.credits() > 0 => {
                    self.keeper.counters.visits_sent += 1;
                    peer.visit(|visit| {
                        visit.ticket = Ticket::NOBODY;
                        visit.op = Op::DropLoan { loan: stream.loan };
                        visit.key_bytes = 0;
                        visit.quiet = true;
                        visit.parcel.clear();
                    });
                }
                Some(_) => self.orphans.push_back(stream),
            }
        }
    }

    fn publish(&mut self) {
        for peer in self.peers.iter_mut().flatten() {
            if peer.publish() {
                self.keeper.counters.wakes += 1;
            }
        }
    }

    /// Ends a session at once, whatever it was doing.
    fn end(&mut self, io: &mut impl Io, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        if session.closing {
            return;
        }
        session.closing = true;
        session.generation = session.generation.wrapping_add(1);
        self.intake_bytes -= session.reader.intake_bytes();
        session.reader = Reader::default();
        session.carry = Vec::new();
        self.orphans.extend(session.replies.abandon());
        self.count_carry(conn);
        self.count_replies(conn);
        io.close(conn);
    }

    /// Begins to stop: no new connections, no further requests; what is in flight is answered.
    pub fn stop(&mut self, io: &mut impl Io) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        io.stop_listening();
        for conn in 0..self.sessions.len() {
            if self.sessions[conn].open {
                self.sessions[conn].ended = true;
                self.look_at(conn as ConnIndex);
            }
        }
    }

    /// Gives a session a buffer for its replies if it has none.
    #[inline]
    fn furnish(&mut self, conn: ConnIndex) {
        let out = &mut self.sessions[conn as usize].replies.out;
        if out.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            self.spare_bytes -= spare.capacity();
            *out = spare;
        }
    }

    fn spare_buffer(&mut self, mut bytes: Vec<u8>) {
        let capacity = bytes.capacity();
        let room = SPARE_MAX_BYTES - self.spare_bytes;
        if 0 < capacity && capacity <= SPARE_KEEP_BYTES.min(room) {
            bytes.clear();
            self.spare_bytes += capacity;
            self.spare.push(bytes);
        }
    }
}

/// How many requests each of `active` sessions may make in a tick.
fn share(active: usize, most: u32) -> usize {
    (REQUESTS_PER_TICK_ALL / active.max(1))
        .max(REQUESTS_SHARE_MIN)
        .min(most as usize)
}

/// The key an intent is about.
fn key_of<'a>(intent: &'a Intent<'_>) -> Option<&'a [u8]> {
    match intent {
        Intent::Get(get) => Some(get.key),
        Intent::Store(store, _) | Intent::TooLarge(store) => Some(store.key),
        Intent::Taken(intake) | Intent::NoRoom(intake) => Some(&intake.bytes[..intake.key_bytes]),
        Intent::Request(
            Request::Delete { key, .. } | Request::Arith { key, .. } | Request::Touch { key, .. },
        ) => Some(key),
        _ => None,
    }
}
