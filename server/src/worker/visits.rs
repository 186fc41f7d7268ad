//! What goes to other workers and what comes from them.
//!
//! Always true: a visit is made only with a credit, every visit is answered by one homecoming, and
//! a homecoming whose session is gone is counted and dropped, except for a value it lends: that is
//! an orphan and goes back to its owner.

use super::*;

impl Worker {
    /// A place for the reply of a command that is sent elsewhere.
    #[inline]
    pub(super) fn ticket(&mut self, conn: ConnIndex) -> Ticket {
        let session = &mut self.sessions[conn as usize];
        Ticket {
            session: conn,
            generation: session.generation,
            slot: session.replies.wait(),
        }
    }

    #[inline]
    pub(super) fn visit(&mut self, owner: usize, fill: impl FnOnce(&mut Visit)) {
        self.keeper.counters.visits_sent += 1;
        match &mut self.peers[owner] {
            Some(peer) => peer.visit(fill),
            None => panic!("worker {} visits itself", self.index),
        }
    }

    /// Asks every worker, this one included, for a part of one reply.
    pub(super) fn ask_all(&mut self, now: &Now, conn: ConnIndex, op: Op, question: Question) {
        self.ask_all_for(now, conn, op, question, None);
    }

    /// As [`Worker::ask_all`]; what a packet has asked is answered in packets.
    pub(super) fn ask_all_for(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        op: Op,
        question: Question,
        packet: Option<Head>,
    ) {
        let gather = Box::new(Gather {
            question,
            packet,
            awaited: self.peers.len() - 1,
            sum: Snapshot::default(),
            text: Vec::new(),
        });
        let session = &mut self.sessions[conn as usize];
        let ticket = Ticket {
            session: conn,
            generation: session.generation,
            slot: session.replies.gather(gather),
        };
        let (mut sum, mut text) = (Snapshot::default(), Vec::new());
        match op {
            Op::Snapshot => sum = self.snapshot(),
            Op::Tell(topic) => self.tell(now, topic, &mut text),
            Op::MemoryLimit => self.follow_memory_limit(),
            Op::ResetLatency => self.timing.reset(),
            _ => {
                if op == Op::ResetStats {
                    self.reset_marks();
                    self.observer.prefixes.clear();
                }
                let key = Key {
                    hash: KeyHash::default(),
                    bytes: b"",
                };
                let mut part = |bytes: &[u8]| text.extend_from_slice(bytes);
                self.keeper.execute(now, op, key, &[], true, &mut part);
            }
        }
        let replies = &mut self.sessions[conn as usize].replies;
        if let Some(gather) = replies.gathering(ticket.slot) {
            gather.sum.add(&sum);
            gather.text = text;
        }
        for owner in 0..self.peers.len() {
            if owner != self.index {
                self.visit(owner, |visit| visit.errand(ticket, op));
            }
        }
        self.finish_gathering(now, conn, ticket.slot);
    }

    pub(super) fn finish_gathering(&mut self, now: &Now, conn: ConnIndex, slot: u32) {
        let replies = &mut self.sessions[conn as usize].replies;
        if replies
            .gathering(slot)
            .is_some_and(|gather| gather.awaited == 0)
        {
            let shared = &self.shared;
            let mut question = None;
            replies.gathered(slot, |gather, out| {
                question = Some(gather.question);
                stats::render(&gather, shared, now, out);
            });
            if let Some(Question::Watch(kinds)) = question {
                self.watcher_ready(conn, kinds);
            }
        }
    }

    /// Serves the requests of other workers. True when some are left for the next tick.
    pub(super) fn visitors(&mut self, now: &Now) -> bool {
        let mut more = false;
        for at in 0..self.peers.len() {
            let Some(mut peer) = self.peers[at].take() else {
                continue;
            };
            let marks = &mut self.marks[at];
            marks.from = marks.from.max(peer.visitors.waiting() as u64);
            let mut served = 0;
            let mut probes: ArrayVec<Probe, BATCH_MAX> = ArrayVec::new();
            while served < VISITORS_PER_TICK && peer.visitors.has_mail() {
                // Looked at ahead, so that the cache misses of a batch overlap.
                let batch = BATCH_MAX.min(VISITORS_PER_TICK - served);
                probes.clear();
                while probes.len() < batch
                    && let Some(hash) = peer.visitors.peek(probes.len(), |visit| visit.hash)
                {
                    probes.push(self.keeper.shard.prefetch_buckets(hash));
                }
                if probes.len() > 1 {
                    for probe in &probes {
                        self.keeper.shard.prefetch_item(*probe);
                    }
                }
                served += probes.len();
                for probe in &probes {
                    peer.visitors.take(|visit| {
                        let done = peer.replies.stage(|home| {
                            home.ticket = visit.ticket;
                            home.parcel.clear();
                            home.extra = Extra::Nothing;
                            self.serve(now, visit, *probe, home);
                        });
                        assert!(done, "worker {at} has more visits out than credits");
                    });
                }
            }
            self.keeper.counters.visits_served += served as u64;
            more |= served == VISITORS_PER_TICK && peer.visitors.has_mail();
            peer.visitors.release();
            self.peers[at] = Some(peer);
        }
        more
    }

    /// Serves one visit. `probe` is of use where it has a key.
    #[inline]
    fn serve(&mut self, now: &Now, visit: &mut Visit, probe: Probe, home: &mut Homecoming) {
        let Op::Get { with_cas, last } = visit.op else {
            self.serve_any(now, visit, home);
            return;
        };
        if self.observer.on {
            self.serve_any(now, visit, home);
            return;
        }
        self.keeper.counters.commands_served += 1;
        let key = visit.parcel.bytes();
        let out = &mut home.parcel;
        let outcome = self.keeper.get(now, probe, key, with_cas, last, out);
        if let Outcome::Lent(lent) = outcome {
            home.extra = Extra::Lent(lent);
        }
    }

    #[inline(never)]
    fn serve_any(&mut self, now: &Now, visit: &mut Visit, home: &mut Homecoming) {
        match visit.op {
            Op::Snapshot => home.extra = Extra::Snapshot(Box::new(self.snapshot())),
            Op::Tell(topic) => {
                let mut text = Vec::new();
                self.tell(now, topic, &mut text);
                home.parcel.adopt(text);
            }
            Op::Lines => {
                self.deliver(visit.parcel.bytes());
                visit.parcel.clear();
            }
            Op::Scan { form, place } => {
                let mut text = Vec::new();
                home.extra = Extra::Scanned(self.dump_slice(now, form, place, &mut text));
                home.parcel.adopt(text);
            }
            Op::MemoryLimit => self.follow_memory_limit(),
            Op::ResetLatency => self.timing.reset(),
            Op::Adopt(entry) => {
                let fd = visit.fd.take();
                self.adopted.extend(fd.map(|fd| (fd, entry)));
            }
            op => {
                if op == Op::ResetStats {
                    self.reset_marks();
                    self.observer.prefixes.clear();
                }
                // Errands have no key.
                self.keeper.counters.commands_served += u64::from(visit.key_bytes > 0);
                let (key, value) = visit.parcel.bytes().split_at(usize::from(visit.key_bytes));
                let key = Key {
                    hash: visit.hash,
                    bytes: key,
                };
                let (keeper, out) = (&mut self.keeper, &mut home.parcel);
                let outcome = if self.observer.on {
                    let observer = &mut self.observer;
                    observer.execute(keeper, now, visit.asker, op, key, value, visit.quiet, out)
                } else {
                    keeper.execute(now, op, key, value, visit.quiet, out)
                };
                if let Outcome::Lent(lent) = outcome {
                    home.extra = Extra::Lent(lent);
                }
                // A large value's buffer is not kept until the slot's next use.
                visit.parcel.used();
            }
        }
    }

    /// Takes the replies of other workers home.
    pub(super) fn homecoming(&mut self, now: &Now) {
        for owner in 0..self.peers.len() {
            let Some(mut peer) = self.peers[owner].take() else {
                continue;
            };
            // Visits are made before the homecoming and after it, so the most that are out is seen
            // here and where they are published.
            let marks = &mut self.marks[owner];
            marks.to = marks.to.max(peer.visits_out() as u64);
            while peer
                .come_home(|home| self.welcome(now, owner, home))
                .is_some()
            {}
            peer.release_homecomings();
            self.peers[owner] = Some(peer);
        }
        self.unpark();
    }

    pub(super) fn welcome(&mut self, now: &Now, owner: usize, home: &mut Homecoming) {
        let Ticket {
            session: conn,
            generation,
            slot,
        } = home.ticket;
        let session = self
            .sessions
            .get_mut(conn as usize)
            .filter(|session| session.generation == generation);
        let Some(session) = session else {
            if home.ticket != Ticket::NOBODY {
                self.keeper.counters.late_replies += 1;
            }
            if let Extra::Lent(lent) = home.extra {
                self.orphans.push_back(Stream::new(owner, lent));
            }
            return;
        };
        if session.replies.out.capacity() == 0
            && let Some(spare) = self.spares.take_large()
        {
            session.replies.out = spare;
        }
        let bytes = home.parcel.bytes();
        match &mut home.extra {
            Extra::Nothing if session.replies.fill_plain(slot, bytes) => {}
            extra => {
                let extra = std::mem::take(extra);
                self.welcome_any(now, owner, home.ticket, bytes, extra);
            }
        }
        self.look_at(conn);
    }

    /// Takes a reply home that is more than the bytes of one.
    #[inline(never)]
    fn welcome_any(&mut self, now: &Now, owner: usize, ticket: Ticket, bytes: &[u8], extra: Extra) {
        let Ticket {
            session: conn,
            slot,
            ..
        } = ticket;
        let (mut lent, mut snapshot, mut scanned) = (None, None, None);
        match extra {
            Extra::Nothing => {}
            Extra::Lent(of) => lent = Some(Stream::new(owner, of)),
            Extra::Snapshot(of) => snapshot = Some(of),
            Extra::Scanned(of) => scanned = Some(of),
        }
        let replies = &mut self.sessions[conn as usize].replies;
        match replies.gathering(slot) {
            Some(gather) => {
                gather.awaited -= 1;
                if let Some(snapshot) = snapshot {
                    gather.sum.add(&snapshot);
                }
                gather.text.extend_from_slice(bytes);
                self.finish_gathering(now, conn, slot);
            }
            None => {
                let counted = scanned.is_some() && self.count_sizes(conn, bytes);
                let bytes = if counted { b"" } else { bytes };
                let replies = &mut self.sessions[conn as usize].replies;
                replies.fill(slot, bytes, lent);
            }
        }
        if let Some(next) = scanned {
            self.dump_went_on(conn, next);
        }
    }

    /// Credits that every peer has left.
    pub(super) fn credits(&self) -> Option<usize> {
        self.peers.iter().flatten().map(|peer| peer.credits()).min()
    }

    /// Has a session wait for a credit.
    pub(super) fn park(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        if !session.parked {
            session.parked = true;
            self.parked.push_back(conn);
        }
    }

    /// Lets parked sessions on, as many as there are credits, and shares those out evenly: a
    /// newcomer with one request waits for one turn of each other session, however deep their
    /// pipelines are.
    pub(super) fn unpark(&mut self) {
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
            session.let_on = true;
            self.look_at(conn);
        }
    }

    /// Moves a lent value at the front of a session's replies on, as far as the client reads.
    /// False when the connection is broken.
    pub(super) fn pump_stream(&mut self, io: &mut impl Io, conn: ConnIndex) -> bool {
        loop {
            let session = &mut self.sessions[conn as usize];
            let generation = session.generation;
            let front = session.replies.front();
            let sending = session.sending;
            let Some((stream, out)) = session.replies.streaming() else {
                return true;
            };
            if stream.owner == self.index {
                if sending {
                    return true;
                }
                let rest = (stream.value_bytes - stream.at) as usize;
                // A value is not begun with what others left: at the head of a tick it goes out in one
                // call, which costs less than two (perf/notes/large-replies.md).
                let begun = self.lent_left < self.lent_budget;
                if self.lent_left == 0 || (begun && rest > self.lent_left) {
                    // Behind those that had nothing of this tick: else they would never have any.
                    if !session.queued {
                        session.queued = true;
                        self.unsent.push(conn);
                        self.keeper.counters.lent_waits += 1;
                    }
                    return true;
                }
                match self.send_lent(io, conn) {
                    None => return false,
                    // The rest of what was made ready is sent as any reply is.
                    Some(false) => return true,
                    Some(true) => {}
                }
                if self.lent_left == 0 {
                    self.look_at(conn);
                    return true;
                }
                continue;
            }
            if out.len() >= OUT_HIGH_BYTES {
                return true;
            }
            if stream.asked {
                return true;
            }
            let Some(peer) = &mut self.peers[stream.owner] else {
                panic!("worker {} lent to itself as to a peer", self.index);
            };
            if peer.credits() == 0 {
                self.park(conn);
                return true;
            }
            stream.asked = true;
            let op = Op::ReadLoan {
                loan: stream.loan,
                offset: stream.at,
            };
            self.keeper.counters.visits_sent += 1;
            let ticket = Ticket {
                session: conn,
                generation,
                slot: front,
            };
            peer.visit(|visit| visit.errand(ticket, op));
            return true;
        }
    }

    /// Sends a value that this worker has lent from where it lies, as far as this tick's bytes go,
    /// with what is ready before and behind it. False when the socket took less; then the next piece
    /// is copied, so that a slow reader is waited for as with any reply. `None` when the connection
    /// is broken.
    fn send_lent(&mut self, io: &mut impl Io, conn: ConnIndex) -> Option<bool> {
        let session = &mut self.sessions[conn as usize];
        let Some((&mut stream, _)) = session.replies.streaming() else {
            panic!("connection {conn} has no lent value to send");
        };
        let replies = &session.replies;
        let mut parts = ArrayVec::new();
        if !replies.out.is_empty() {
            parts.push(IoSlice::new(&replies.out));
        }
        let offered = self
            .keeper
            .loan_parts(stream.loan, stream.at, self.lent_left, &mut parts);
        self.lent_left -= offered;
        let whole = stream.at as usize + offered == stream.value_bytes as usize;
        if whole {
            parts.push(IoSlice::new(stream.tail));
            parts.push(IoSlice::new(replies.behind_stream()));
        }
        let all: usize = parts.iter().map(|part| part.len()).sum();
        let sent = io.send_parts(conn, &parts, !whole)?;
        drop(parts);
        self.keeper.counters.bytes_written += sent as u64;
        if session.replies.sent_parts(sent, offered) {
            self.keeper.drop_loan(stream.loan);
            // There is room for further replies again, and nothing else may come that says so.
            if !session.carry.is_empty() || session.ended {
                self.look_at(conn);
            }
        }
        let session = &mut self.sessions[conn as usize];
        if sent < all
            && session.replies.out.is_empty()
            && let Some((stream, out)) = session.replies.streaming()
        {
            self.keeper
                .read_loan(stream.loan, stream.at, &mut Tail(out));
            stream.at += out.len() as u32;
            session.replies.end_stream_if_done();
        }
        Some(sent == all)
    }

    /// Gives loans of sessions that are gone back to the workers that made them.
    pub(super) fn return_orphans(&mut self) {
        for _ in 0..self.orphans.len() {
            let Some(stream) = self.orphans.pop_front() else {
                return;
            };
            match &mut self.peers[stream.owner] {
                None => self.keeper.drop_loan(stream.loan),
                Some(peer) if peer.credits() > 0 => {
                    self.keeper.counters.visits_sent += 1;
                    let op = Op::DropLoan { loan: stream.loan };
                    peer.visit(|visit| visit.errand(Ticket::NOBODY, op));
                }
                Some(_) => self.orphans.push_back(stream),
            }
        }
    }

    pub(super) fn publish(&mut self) {
        for (peer, marks) in self.peers.iter_mut().zip(&mut self.marks) {
            let Some(peer) = peer else { continue };
            marks.to = marks.to.max(peer.visits_out() as u64);
            if peer.publish() {
                self.keeper.counters.wakes += 1;
            }
        }
    }
}
