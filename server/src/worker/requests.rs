//! From received bytes to replies: a session's turn.
//!
//! A turn plans a batch (parse, hash, ask for the buckets, then for the items), so that the cache
//! misses of its requests overlap, and then performs it in order: here when the key is ours, as a
//! visit when it is another worker's. How long a turn lasts is bounded by the session's share of
//! the tick, by the room for its replies, and by the credits of the peers.

use super::*;
use crate::latency::Class;

/// A request of a batch.
pub(super) enum Planned<'a> {
    /// A get of a key of ours, whose lookup has begun.
    Get(GetKey<'a>, Probe),
    /// A get of another worker's key: its hash and that worker.
    Away(GetKey<'a>, KeyHash, usize),
    /// A set with its value and the hash of its key, and a lookup of that if it is ours.
    Set(Store<'a>, &'a [u8], KeyHash, Option<Probe>),
    /// Anything else, with the same.
    Other(Intent<'a>, KeyHash, Option<Probe>),
}

impl Planned<'_> {
    fn probe(&self) -> Option<Probe> {
        match self {
            Self::Get(_, probe) => Some(*probe),
            Self::Away(..) => None,
            Self::Set(_, _, _, probe) | Self::Other(_, _, probe) => *probe,
        }
    }

    /// Its key, if it has one, and whether it changes the item.
    fn key_and_write(&self) -> (Option<&[u8]>, bool) {
        match self {
            Self::Get(get, _) | Self::Away(get, ..) => (Some(get.key), false),
            Self::Set(store, ..) => (Some(store.key), true),
            Self::Other(intent, ..) => {
                let class = Class::of(intent);
                let write = matches!(class, Class::Set | Class::Delete | Class::Arith);
                (key_of(intent), write)
            }
        }
    }
}

impl Worker {
    /// Parses and executes as many requests of `input` as may be done now; returns how many bytes
    /// they used.
    pub(super) fn turn(&mut self, now: &Now, conn: ConnIndex, input: &[u8]) -> (usize, Pause) {
        let mut used = 0;
        let mut left = self.share;
        // Whoever has not waited for credits waits behind those who have. Else a session whose
        // replies come home takes the credits they free before the others have their turn.
        let let_on = self.sessions[conn as usize].let_on;
        let mut credits_left = match self.credit_share {
            usize::MAX => usize::MAX,
            share if let_on => share,
            _ => 0,
        };
        self.furnish(conn);
        let mut limited = false;
        loop {
            if !matches!(self.sessions[conn as usize].role, Role::Client) {
                let (taken, pause) = self.turn_apart(now, conn, &input[used..]);
                used += taken;
                if let Some(pause) = pause {
                    return (used, pause);
                }
                limited = matches!(self.sessions[conn as usize].role, Role::Limited(_));
            }
            let session = &self.sessions[conn as usize];
            let room = session.replies.room();
            if room == 0 {
                return (used, Pause::Full);
            }
            if left == 0 {
                return (used, Pause::Yield);
            }
            // Short of memory for replies, a session has one at a time.
            let scarce = self.reply_bytes >= REPLIES_MAX_BYTES;
            let replies = &session.replies;
            if scarce && (session.sending || !replies.out.is_empty() || !replies.settled()) {
                return (used, Pause::Full);
            }
            // One at a time also while somebody wants to see the lines as they come.
            let raw = self.observer.watches(WatchKinds::RAWCMDS);
            let most = if scarce || raw { 1 } else { BATCH_MAX };
            let before = used;
            let credits = self.credits().unwrap_or(BATCH_MAX).min(credits_left);
            let batch = most.min(left).min(room).min(credits);
            if batch == 0 {
                return (used, Pause::NoCredit);
            }
            let room = INTAKE_MAX_BYTES + self.shared.process.settings.item_max_bytes as usize;
            let wanted = input.len() - used;
            if self.intake_bytes + wanted > room {
                self.make_intake_room(now, conn, self.intake_bytes + wanted - room);
            }
            let session = &mut self.sessions[conn as usize];
            let intake_before = session.reader.intake_bytes();
            let limits = IntakeLimits {
                item_max_bytes: self.shared.process.settings.item_max_bytes,
                room: room.saturating_sub(self.intake_bytes),
            };
            let (route, index) = (self.route, self.index);
            let mut plan: ArrayVec<Planned<'_>, BATCH_MAX> = ArrayVec::new();
            let mut pause = None;
            while plan.len() < batch && pause.is_none() {
                // Most input ends with a request, and the long way to say so passes the shapes of all.
                if used == input.len() && session.reader.in_lines() {
                    pause = Some(Pause::Empty);
                    break;
                }
                if let Some((n, get)) = session.reader.next_get(&input[used..]) {
                    used += n;
                    let hash = self.hasher.hash(get.key);
                    let owner = route.owner(hash, get.key);
                    // Spelled out: an optional probe would be built in memory and moved.
                    plan.push(if get.kind.touches() {
                        let ours = owner == index;
                        let probe = ours.then(|| self.keeper.shard.prefetch_buckets(hash));
                        Planned::Other(Intent::Get(get), hash, probe)
                    } else if owner != index {
                        Planned::Away(get, hash, owner)
                    } else {
                        Planned::Get(get, self.keeper.shard.prefetch_buckets(hash))
                    });
                    continue;
                }
                if let Some((n, store, value)) = session.reader.next_set(&input[used..], &limits) {
                    used += n;
                    let hash = self.hasher.hash(store.key);
                    let probe = (route.owner(hash, store.key) == index)
                        .then(|| self.keeper.shard.prefetch_buckets(hash));
                    plan.push(Planned::Set(store, value, hash, probe));
                    continue;
                }
                let (n, intent) = session.reader.next(&input[used..], &limits);
                used += n;
                match intent {
                    Intent::More => pause = Some(Pause::Empty),
                    Intent::Lost | Intent::Request(Request::Quit) => pause = Some(Pause::End),
                    // One arm for all: what is matched by its parts is built anew and copied once more.
                    intent => {
                        let last = is_last_of_batch(&intent);
                        let key = key_of(&intent);
                        let hash = match key {
                            Some(key) => self.hasher.hash(key),
                            None => {
                                if ends_session(&intent) {
                                    pause = Some(Pause::End);
                                }
                                metas::decoded_hash(&self.hasher, &intent)
                            }
                        };
                        let probe = key
                            .filter(|key| route.owner(hash, key) == index)
                            .map(|_| self.keeper.shard.prefetch_buckets(hash));
                        plan.push(Planned::Other(intent, hash, probe));
                        if last {
                            break;
                        }
                    }
                }
            }
            self.intake_bytes = self.intake_bytes + session.reader.intake_bytes() - intake_before;
            let intake = session.reader.intake_number();
            if !plan.is_empty() {
                session.asked_s = now.seconds.0;
            }
            if intake.is_some() && intake != session.listed_intake {
                session.listed_intake = intake;
                let generation = session.generation;
                self.list_half(Half::new(conn, generation, intake, now));
            }
            if raw && intake_before == 0 && used > before {
                let begins = match plan.first() {
                    Some(
                        Planned::Get(get, _)
                        | Planned::Away(get, ..)
                        | Planned::Other(Intent::Get(get), ..),
                    ) => get.first,
                    // A packet has no line.
                    Some(Planned::Other(
                        Intent::Packet(..)
                        | Intent::PacketTooLarge(_)
                        | Intent::PacketRefused { .. },
                        ..,
                    )) => false,
                    Some(_) => true,
                    None => intake.is_some() || pause == Some(Pause::End),
                };
                if begins {
                    let fd = self.sessions[conn as usize].fd;
                    self.observer.command(now, fd, &input[before..]);
                }
            }
            if limited {
                self.restrict(conn, &mut plan);
            }
            left -= plan.len();
            credits_left -= plan.len();
            if plan.len() > 1 {
                for probe in plan.iter().filter_map(Planned::probe) {
                    self.keeper.shard.prefetch_item(probe);
                }
            }
            if let Some(hot_keys) = &mut self.hot_keys
                && !hot_keys.pass(plan.len())
            {
                self.sample_keys(now, plan.len(), |at| plan[at].key_and_write());
            }
            let (mut gets, mut sets) = (0, 0);
            // By reference: what is planned is large, and a get is a small part of it.
            for planned in &mut plan {
                match planned {
                    Planned::Get(get, probe) => {
                        gets += u32::from(get.last);
                        self.get_here(now, conn, get, *probe);
                    }
                    Planned::Away(get, hash, owner) => {
                        gets += u32::from(get.last);
                        self.get_away(conn, get, *hash, *owner);
                    }
                    Planned::Set(store, value, hash, _) => {
                        sets += 1;
                        self.store(now, conn, *hash, store, value);
                    }
                    Planned::Other(intent, hash, _) => {
                        let intent = std::mem::replace(intent, Intent::More);
                        self.count_intent(&intent);
                        self.perform(now, conn, intent, *hash);
                    }
                }
            }
            self.timing.count(Class::Get, gets);
            self.timing.count(Class::Set, sets);
            self.count_replies(conn);
            if let Some(pause) = pause {
                return (used, pause);
            }
        }
    }

    /// Answers a get of a key of ours.
    #[inline]
    fn get_here(&mut self, now: &Now, conn: ConnIndex, get: &GetKey<'_>, probe: Probe) {
        self.keeper.counters.commands_local += 1;
        if self.observer.on {
            self.get_observed(now, conn, get);
            return;
        }
        let keeper = &mut self.keeper;
        let replies = &mut self.sessions[conn as usize].replies;
        let (with_cas, last) = (get.kind.wants_cas(), get.last);
        let outcome = replies.ready(|out| keeper.get(now, probe, get.key, with_cas, last, out));
        if let Outcome::Lent(lent) = outcome {
            replies.lend(Stream::new(self.index, lent));
        }
    }

    /// Asks another worker for a key of its own.
    #[inline]
    fn get_away(&mut self, conn: ConnIndex, get: &GetKey<'_>, hash: KeyHash, owner: usize) {
        self.keeper.counters.commands_remote += 1;
        let ticket = self.ticket(conn);
        let asker = self.sessions[conn as usize].fd;
        self.visit(owner, |visit| {
            visit.ticket = ticket;
            visit.hash = hash;
            visit.op = Op::Get {
                with_cas: get.kind.wants_cas(),
                last: get.last,
            };
            visit.quiet = false;
            visit.asker = asker;
            visit.key_bytes = get.key.len() as u8;
            visit.parcel.clear();
            visit.parcel.put(get.key);
        });
    }

    /// As `get_here`, for whoever watches.
    #[cold]
    fn get_observed(&mut self, now: &Now, conn: ConnIndex, get: &GetKey<'_>) {
        let (with_cas, last) = (get.kind.wants_cas(), get.last);
        let hash = self.hasher.hash(get.key);
        self.command_here(
            now,
            conn,
            Op::Get { with_cas, last },
            hash,
            get.key,
            &[],
            false,
        );
    }

    /// Carries out a storage command whose value is here.
    #[inline]
    fn store(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        hash: KeyHash,
        store: &Store<'_>,
        value: &[u8],
    ) {
        let op = Op::Store {
            verb: store.verb,
            flags: store.flags,
            deadline: now.deadline(store.exptime),
            unique: store.cas,
        };
        self.command(now, conn, op, hash, store.key, value, store.noreply);
    }

    /// Carries out one planned intent that has no way of its own, outside of the turn: there each
    /// kind of intent more costs every request some moves.
    #[inline(never)]
    fn perform(&mut self, now: &Now, conn: ConnIndex, intent: Intent<'_>, hash: KeyHash) {
        match intent {
            Intent::Get(get) => {
                let (with_cas, last) = (get.kind.wants_cas(), get.last);
                let op = if get.kind.touches() {
                    Op::GetAndTouch {
                        with_cas,
                        deadline: now.deadline(get.exptime),
                        last,
                    }
                } else {
                    Op::Get { with_cas, last }
                };
                self.command(now, conn, op, hash, get.key, &[], false);
            }
            Intent::Store(store, value) => self.store(now, conn, hash, &store, value),
            Intent::Taken(intake) => self.store_taken(now, conn, hash, *intake),
            Intent::TooLarge(store) => {
                let op = Op::Refuse {
                    verb: store.verb,
                    too_large: true,
                };
                self.command(now, conn, op, hash, store.key, &[], store.noreply);
            }
            Intent::NoRoom(intake) => {
                let key = &intake.bytes[..intake.key_bytes];
                if let Some(head) = intake.packet {
                    self.refuse_value(now, conn, hash, head, key, false);
                    return;
                }
                let op = Op::Refuse {
                    verb: intake.verb,
                    too_large: false,
                };
                self.command(now, conn, op, hash, key, &[], intake.noreply);
            }
            Intent::Meta(meta, value) => self.meta(now, conn, hash, meta, value),
            Intent::MetaTooLarge(meta) => self.refuse_meta(now, conn, hash, meta.key()),
            Intent::Request(request) => self.request(now, conn, hash, request),
            Intent::Packet(request, value) => self.packet(now, conn, hash, request, value),
            Intent::PacketTooLarge(request) => {
                self.refuse_value(now, conn, hash, request.head, request.key(), true);
            }
            Intent::PacketRefused { head, status, .. } => self.refuse_packet(conn, head, status),
            Intent::Answer(text) => self.answer(conn, text),
            Intent::More | Intent::Lost => {}
        }
    }

    pub(super) fn request(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        hash: KeyHash,
        request: Request<'_>,
    ) {
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
                if let (true, Some(exptime)) = (settings.flush, exptime) {
                    if self.observer.watches(WatchKinds::SYSEVENTS) {
                        self.observer
                            .event(now, format_args!("type=flush_all delay={exptime}"));
                    }
                    let at = now.flush_at(exptime);
                    let text = if noreply { b"" } else { reply::OK };
                    self.ask_all(now, conn, Op::Flush { at }, Question::Done(text));
                } else if !noreply {
                    let error = match settings.flush {
                        true => ClientError::BadExptime,
                        false => ClientError::FlushNotAllowed,
                    };
                    self.answer(conn, error.wire());
                }
            }
            Request::FlushPrefix { prefix, noreply } => {
                self.flush_prefix(now, conn, prefix, noreply);
            }
            Request::Version => self.write(conn, |out| reply::version(out, stats::VERSION)),
            Request::Verbosity { level, noreply } => {
                self.shared.watch.set_verbosity(level.min(2) as u8);
                if !noreply {
                    self.answer(conn, reply::OK);
                }
            }
            Request::MemoryLimit { megabytes, noreply } => {
                if self.shared.set_memory_limit((megabytes as usize) << 20) {
                    if self.observer.watches(WatchKinds::SYSEVENTS) {
                        let event = format_args!("type=memory_limit megabytes={megabytes}");
                        self.observer.event(now, event);
                    }
                    let text = if noreply { b"" } else { reply::OK };
                    self.ask_all(now, conn, Op::MemoryLimit, Question::Done(text));
                } else if !noreply {
                    self.answer(conn, ClientError::MemoryLimitOutOfBounds.wire());
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
            Request::Watch { .. }
            | Request::Crawler { .. }
            | Request::SlabsReassign { .. }
            | Request::Moot { .. }
            | Request::RefreshCerts
            | Request::DebugTime { .. } => self.manage(now, conn, request),
            Request::Quit | Request::Get(_) | Request::Store(_) | Request::Meta(_) => {
                panic!("{request:?} is planned elsewhere")
            }
        }
    }

    fn flush_prefix(&mut self, now: &Now, conn: ConnIndex, prefix: &[u8], noreply: bool) {
        self.keeper.counters.cmd_flush_prefix += 1;
        let settings = &self.shared.process.settings;
        let refusal = if !settings.flush {
            Some(ClientError::FlushPrefixNotAllowed)
        } else if prefix.contains(&settings.prefix_delimiter) {
            Some(ClientError::BadFormat)
        } else {
            None
        };
        match refusal {
            Some(_) if noreply => {}
            Some(error) => self.answer(conn, error.wire()),
            None => {
                if self.observer.watches(WatchKinds::SYSEVENTS) {
                    let prefix = prefix.escape_ascii();
                    self.observer
                        .event(now, format_args!("type=flush_prefix prefix={prefix}"));
                }
                let prefix = self.hasher.hash(prefix);
                let question = match noreply {
                    true => Question::Done(b""),
                    false => Question::Agreed(reply::OK),
                };
                self.ask_all(now, conn, Op::FlushPrefix { prefix }, question);
            }
        }
    }

    pub(super) fn stats(&mut self, now: &Now, conn: ConnIndex, subject: StatsSubject) {
        match subject {
            StatsSubject::General => self.ask_all(now, conn, Op::Snapshot, Question::General),
            StatsSubject::Items => self.ask_all(now, conn, Op::Snapshot, Question::Items),
            StatsSubject::Slabs => self.ask_all(now, conn, Op::Snapshot, Question::Slabs),
            StatsSubject::Conns => {
                let op = Op::Tell(Topic::Connections);
                self.ask_all(now, conn, op, Question::Connections);
            }
            StatsSubject::Workers => self.ask_all(now, conn, Op::Snapshot, Question::Workers),
            StatsSubject::Latency { reset: false } => {
                self.ask_all(now, conn, Op::Snapshot, Question::Latency);
            }
            StatsSubject::Latency { reset: true } => {
                self.ask_all(now, conn, Op::ResetLatency, Question::Done(reply::RESET));
            }
            StatsSubject::Reset => {
                self.ask_all(now, conn, Op::ResetStats, Question::Done(reply::RESET));
            }
            StatsSubject::Settings => {
                let shared = Arc::clone(&self.shared);
                self.write(conn, |out| {
                    stats::settings(&shared, out);
                });
            }
            StatsSubject::Extstore => self.answer(conn, reply::END),
            StatsSubject::Segments => self.ask_all(now, conn, Op::Snapshot, Question::Segments),
            StatsSubject::Ttl => self.ask_all(now, conn, Op::Tell(Topic::Ttl), Question::Ttl),
            StatsSubject::Hotkeys { .. } if !self.shared.process.settings.dump => {
                self.answer(conn, ClientError::HotkeysNotAllowed.wire());
            }
            StatsSubject::Hotkeys { limit } => {
                let op = Op::Tell(Topic::Hotkeys);
                self.ask_all(now, conn, op, Question::Hotkeys(limit));
            }
            StatsSubject::Detail(_) if !self.shared.process.settings.dump => {
                self.answer(conn, ClientError::DetailNotAllowed.wire());
            }
            StatsSubject::Detail(DetailSwitch::Dump) => {
                let op = Op::Tell(Topic::Prefixes);
                self.ask_all(now, conn, op, Question::Prefixes);
            }
            StatsSubject::Detail(switch) => {
                self.shared.watch.set_prefixes(switch == DetailSwitch::On);
                self.ask_all(now, conn, Op::Attend, Question::Done(reply::OK));
            }
            StatsSubject::Cachedump { .. } if !self.shared.process.settings.dump => {
                self.answer(conn, ClientError::CachedumpNotAllowed.wire());
            }
            // All items are of the first class.
            StatsSubject::Cachedump { class_id: 1, limit } => {
                let op = Op::Tell(Topic::Cachedump(limit));
                self.ask_all(now, conn, op, Question::Cachedump(limit));
            }
            StatsSubject::Cachedump { .. } => self.answer(conn, reply::END),
            StatsSubject::Sizes => self.sizes(conn, None),
            StatsSubject::Unknown => self.answer(conn, reply::ERROR),
        }
    }

    /// Adds a fixed reply.
    #[inline]
    pub(super) fn answer(&mut self, conn: ConnIndex, text: &[u8]) {
        self.write(conn, |out| out.put(text));
    }

    /// Adds a reply that is made here and now.
    #[inline]
    pub(super) fn write(&mut self, conn: ConnIndex, write: impl FnOnce(&mut Tail<'_>)) {
        self.sessions[conn as usize].replies.ready(write);
    }

    /// Executes a command here, or sends it to the key's owner.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn command(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        op: Op,
        hash: KeyHash,
        key: &[u8],
        value: &[u8],
        quiet: bool,
    ) {
        let owner = self.route.owner(hash, key);
        if owner == self.index {
            self.keeper.counters.commands_local += 1;
            self.command_here(now, conn, op, hash, key, value, quiet);
            return;
        }
        self.keeper.counters.commands_remote += 1;
        let ticket = self.ticket(conn);
        let asker = self.sessions[conn as usize].fd;
        self.visit(owner, |visit| {
            visit.ticket = ticket;
            visit.hash = hash;
            visit.op = op;
            visit.quiet = quiet;
            visit.asker = asker;
            visit.key_bytes = key.len() as u8;
            visit.parcel.clear();
            visit.parcel.put(key);
            visit.parcel.put(value);
        });
    }

    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn command_here(
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
        let session = &mut self.sessions[conn as usize];
        let replies = &mut session.replies;
        let outcome = if self.observer.on {
            let (observer, fd) = (&mut self.observer, session.fd);
            replies.ready(|out| observer.execute(keeper, now, fd, op, key, value, quiet, out))
        } else {
            replies.ready(|out| keeper.execute(now, op, key, value, quiet, out))
        };
        self.lend_if_asked(conn, outcome);
    }

    /// Has a session send the value that follows the reply just written, if one does.
    #[inline]
    pub(super) fn lend_if_asked(&mut self, conn: ConnIndex, outcome: Outcome) {
        if let Outcome::Lent(lent) = outcome {
            let stream = Stream::new(self.index, lent);
            self.sessions[conn as usize].replies.lend(stream);
        }
    }

    /// Stores a large value that has arrived whole; its buffer travels, it is not copied.
    pub(super) fn store_taken(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        hash: KeyHash,
        intake: Intake,
    ) {
        self.sessions[conn as usize].ended_large = true;
        let Intake {
            verb,
            flags,
            exptime,
            unique,
            noreply,
            packet,
            meta,
            key_bytes,
            bytes,
            ..
        } = intake;
        let deadline = now.deadline(exptime);
        let op = match (packet, meta) {
            (Some(head), _) => Op::Packet {
                head,
                cas: unique,
                flags,
                deadline,
            },
            (None, Some((base64, words_bytes))) => Op::Meta {
                verb: MetaVerb::Set,
                base64,
                words_bytes,
            },
            (None, None) => Op::Store {
                verb,
                flags,
                deadline,
                unique,
            },
        };
        let owner = self.route.owner(hash, &bytes[..key_bytes]);
        if owner == self.index {
            let (key, value) = bytes.split_at(key_bytes);
            self.keeper.counters.commands_local += 1;
            self.command_here(now, conn, op, hash, key, value, noreply);
            return;
        }
        self.keeper.counters.commands_remote += 1;
        let ticket = self.ticket(conn);
        let asker = self.sessions[conn as usize].fd;
        self.visit(owner, |visit| {
            visit.ticket = ticket;
            visit.hash = hash;
            visit.op = op;
            visit.quiet = noreply;
            visit.asker = asker;
            visit.key_bytes = key_bytes as u8;
            visit.parcel.adopt(bytes);
        });
    }
}

/// The key an intent is about.
pub(crate) fn key_of<'a>(intent: &'a Intent<'_>) -> Option<&'a [u8]> {
    match intent {
        Intent::Get(get) => Some(get.key),
        Intent::Store(store, _) | Intent::TooLarge(store) => Some(store.key),
        Intent::Packet(request, _) | Intent::PacketTooLarge(request) => {
            request.command.has_key().then_some(request.key())
        }
        Intent::Meta(meta, _) | Intent::MetaTooLarge(meta) => meta.key().plain(),
        Intent::Taken(intake) | Intent::NoRoom(intake) => Some(&intake.bytes[..intake.key_bytes]),
        Intent::Request(
            Request::Delete { key, .. } | Request::Arith { key, .. } | Request::Touch { key, .. },
        ) => Some(key),
        _ => None,
    }
}

/// Whether what follows this intent is planned only when it is carried out: it is perhaps not a client's
/// any more.
fn is_last_of_batch(intent: &Intent<'_>) -> bool {
    match intent {
        Intent::Request(request) => matches!(
            request,
            Request::Watch { .. } | Request::Crawler { .. } | Request::Stats(StatsSubject::Sizes)
        ),
        Intent::Packet(request, _) => request.command == binary::Command::Stat,
        _ => false,
    }
}

/// Whether nothing that follows this intent is read.
fn ends_session(intent: &Intent<'_>) -> bool {
    match intent {
        Intent::Packet(request, _) => request.command == binary::Command::Quit,
        Intent::PacketRefused { last, .. } => *last,
        _ => false,
    }
}
