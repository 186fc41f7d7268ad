//! The sessions of a worker: how they begin, are fed and sent for, and end.
//!
//! Always true: a session is in the queue at most once; its part in the worker's sums of reply
//! and input bytes is what it last counted; when it ends, all that it held is given back before
//! its index is free.

use strata_protocol::auth::Door;

use super::lone::Lone;
use super::*;

impl Worker {
    /// Puts a session on the list of this tick.
    #[inline]
    pub(super) fn look_at(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        if !session.queued {
            session.queued = true;
            self.queue.push(conn);
        }
    }

    /// Takes a new connection: `stays` for this worker, else for each worker in turn.
    pub(super) fn accepted(
        &mut self,
        io: &mut impl Io,
        now: &Now,
        fd: OwnedFd,
        entry: Entry,
        stays: bool,
    ) {
        if self.stopping {
            return;
        }
        if !self.shared.gate.enter() {
            self.keeper.counters.rejected_connections += 1;
            tracing::warn!("a connection was refused: there are as many as -c allows");
            io.reject(fd, b"ERROR Too many open connections\r\n");
            return;
        }
        self.keeper.counters.total_connections += 1;
        if stays {
            self.adopt(io, now, fd, entry);
            return;
        }
        let home = self.next_home;
        self.next_home = (home + 1) % self.peers.len();
        match &mut self.peers[home] {
            Some(peer) if peer.credits() > 0 => {
                self.keeper.counters.visits_sent += 1;
                peer.visit(|visit| {
                    visit.errand(Ticket::NOBODY, Op::Adopt(entry));
                    visit.fd = Some(fd);
                });
            }
            _ => self.adopt(io, now, fd, entry),
        }
    }

    pub(super) fn adopt_all(&mut self, io: &mut impl Io, now: &Now) {
        while let Some((fd, entry)) = self.adopted.pop() {
            self.adopt(io, now, fd, entry);
        }
    }

    pub(super) fn adopt(&mut self, io: &mut impl Io, now: &Now, fd: OwnedFd, entry: Entry) {
        let conn = self.free_sessions.pop().unwrap_or_else(|| {
            self.sessions.push(Session::default());
            self.sessions.len() as ConnIndex - 1
        });
        let session = &mut self.sessions[conn as usize];
        let (generation, queued, parked) = (session.generation, session.queued, session.parked);
        let held_listed = session.held_listed;
        *session = Session {
            generation,
            queued,
            parked,
            held_listed,
            open: true,
            active_s: now.seconds.0,
            asked_s: now.seconds.0,
            reader: Reader::speaking(entry.protocol),
            fd: fd.as_raw_fd(),
            role: match (&self.door, &self.shared.process.settings.auth_file) {
                (Some(_), _) => Role::Stranger(Door::polite()),
                (None, Some(_)) => Role::Stranger(Door::default()),
                (None, None) => Role::Client,
            },
            ..Session::default()
        };
        if self.observer.watches(WatchKinds::CONNEVENTS) {
            self.observe_connection(conn, None);
        }
        io.adopt(conn, fd, entry.guard);
    }

    /// Takes what a session has received; `lone` if that is one get whose lookup has begun.
    #[inline(always)]
    pub(super) fn received(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        bytes: &[u8],
        lone: Option<(&Lone<'_>, &Probe)>,
    ) {
        let session = &mut self.sessions[conn as usize];
        if session.closing || session.draining || (self.stopping && session.ended) {
            return;
        }
        if self.stopping {
            session.quiet_ticks = 0;
            session.late_bytes += bytes.len();
        }
        session.active_s = now.seconds.0;
        let little = bytes.len() <= LITTLE_BYTES;
        if little && session.little {
            self.little_until_ns = now.elapsed_ns + BESIDE_OTHERS_US * 1000;
        }
        session.little = little;
        session.ended_large = false;
        if let Some((lone, probe)) = lone
            && self.lone_get(now, conn, bytes.len(), lone, *probe)
        {
            return;
        }
        self.received_more(now, conn, bytes);
    }

    /// Takes what a session has received, whatever it is and whatever the session is doing.
    fn received_more(&mut self, now: &Now, conn: ConnIndex, bytes: &[u8]) {
        let session = &self.sessions[conn as usize];
        if !session.carry.is_empty() || session.replies.room() == 0 {
            self.carry(conn, bytes);
            self.input_waits(now, conn, bytes.len());
        } else {
            let (used, pause) = self.turn(now, conn, bytes);
            self.turned(now, conn, used, bytes.len() - used, pause);
            self.carry(conn, &bytes[used..]);
            self.settle(conn, pause);
        }
        self.count_carry(conn);
        self.look_at(conn);
    }

    /// While the server stops: has each session end once nothing more of it arrives, or too much
    /// has. What had reached this host before the stop is thus answered. True while some session is
    /// still looked at; one that is not received from, because its replies are not taken, is waited
    /// for without that.
    pub(super) fn see_off(&mut self) -> bool {
        let mut looks = false;
        for conn in 0..self.sessions.len() {
            let session = &mut self.sessions[conn];
            if !session.open || session.closing || session.ended || session.paused {
                continue;
            }
            session.quiet_ticks += 1;
            if session.quiet_ticks > QUIET_TICKS || session.late_bytes >= LATE_INPUT_MAX_BYTES {
                session.ended = true;
                self.look_at(conn as ConnIndex);
            } else {
                looks = true;
            }
        }
        looks
    }

    /// Does what the end of a turn asks for.
    pub(super) fn settle(&mut self, conn: ConnIndex, pause: Pause) {
        let session = &mut self.sessions[conn as usize];
        match pause {
            Pause::Empty => {
                if session.ended {
                    session.draining = true;
                }
            }
            Pause::Full => self.keeper.counters.replies_full += 1,
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

    /// Looks at every session that something happened to.
    pub(super) fn serve_sessions(&mut self, io: &mut impl Io, now: &Now) {
        self.lent_budget = self.lent_budget(now);
        self.lent_left = self.lent_budget;
        let mut queue = std::mem::take(&mut self.queue);
        for conn in queue.drain(..) {
            self.sessions[conn as usize].queued = false;
            self.serve_session(io, now, conn);
            self.sessions[conn as usize].let_on = false;
        }
        // What was added meanwhile waits for the next tick.
        queue.append(&mut self.unsent);
        queue.append(&mut self.queue);
        self.queue = queue;
        for conn in std::mem::take(&mut self.yielded) {
            self.sessions[conn as usize].held_back = false;
            self.look_at(conn);
        }
    }

    /// How many bytes of lent values this tick may send: all that one call should take while nobody
    /// asks for anything else, and little while somebody does.
    #[inline]
    fn lent_budget(&mut self, now: &Now) -> usize {
        if self.queue.iter().any(|conn| self.has_small(*conn)) {
            self.others_until_ns = now.elapsed_ns + BESIDE_OTHERS_US * 1000;
        }
        match now.elapsed_ns < self.others_until_ns {
            true => LENT_BESIDE_OTHERS_BYTES,
            false => LENT_PER_TICK_BYTES,
        }
    }

    /// Whether a session has replies to send and no lent value among them. That a large value is stored is a
    /// small reply too, but not to somebody who asks for little (perf/notes/large-replies.md).
    #[inline]
    fn has_small(&self, conn: ConnIndex) -> bool {
        let session = &self.sessions[conn as usize];
        let replies = &session.replies;
        !replies.out.is_empty() && !replies.lends() && !session.ended_large
    }

    pub(super) fn serve_session(&mut self, io: &mut impl Io, now: &Now, conn: ConnIndex) {
        if self.sends_only(io, conn) {
            return;
        }
        let session = &mut self.sessions[conn as usize];
        if !session.open || session.closing {
            return;
        }
        if session.replies.lends() {
            self.furnish(conn);
            if !self.pump_stream(io, conn) {
                self.end(io, conn);
                return;
            }
        }
        if !matches!(self.sessions[conn as usize].role, Role::Client) {
            self.furnish(conn);
            self.pump_dump(now, conn);
        }
        let session = &mut self.sessions[conn as usize];
        let has_input = !session.carry.is_empty() || session.ended;
        if has_input && !session.held_back && !session.draining && session.replies.room() > 0 {
            let mut carry = std::mem::take(&mut session.carry);
            let (used, pause) = self.turn(now, conn, &carry);
            self.turned(now, conn, used, carry.len() - used, pause);
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
            if self.has_small(conn) {
                self.others_until_ns = now.elapsed_ns + BESIDE_OTHERS_US * 1000;
            }
            self.settle(conn, pause);
            self.count_carry(conn);
            if self.sessions[conn as usize].replies.lends() && !self.pump_stream(io, conn) {
                self.end(io, conn);
                return;
            }
        }
        let holds = self.peers.len() > 1 && self.hold(now, conn);
        let session = &mut self.sessions[conn as usize];
        if !session.sending && !session.replies.out.is_empty() && !holds {
            let bytes = std::mem::take(&mut session.replies.out);
            session.sending = true;
            session.sending_bytes = bytes.capacity();
            io.send(conn, bytes);
        } else if session.replies.out.is_empty() {
            let unused = std::mem::take(&mut session.replies.out);
            self.spares.keep_large(unused);
        }
        self.handed_over(conn);
        self.rest(conn);
        self.count_replies(conn);
        let session = &mut self.sessions[conn as usize];
        if session.draining
            && !session.sending
            && session.replies.settled()
            && session.replies.out.is_empty()
        {
            if !self.stopping {
                session.ends_for = Some("normal");
            }
            self.end(io, conn);
            return;
        }
        let waiting = session.carry.len();
        if waiting >= CARRY_PAUSE_BYTES && !session.paused {
            session.paused = true;
            self.keeper.counters.input_full += 1;
            io.pause(conn);
        } else if waiting < CARRY_PAUSE_BYTES && session.paused {
            session.paused = false;
            io.resume(conn);
        }
    }

    /// Whether a session's ready replies wait for the next one, which another worker is making: sent
    /// apart they cost two sends, and a client that answers each with as many new requests sends
    /// ever smaller pieces from then on (perf/notes/remote-gets.md).
    fn hold(&mut self, now: &Now, conn: ConnIndex) -> bool {
        let session = &mut self.sessions[conn as usize];
        let let_out = std::mem::take(&mut session.let_out);
        let ready_bytes = session.replies.out.len();
        let holds = (1..HOLD_MAX_BYTES).contains(&ready_bytes)
            && session.replies.awaits_peer()
            && !session.sending
            && !let_out;
        if holds != session.holding {
            session.holding = holds;
            self.holding = self.holding + usize::from(holds) - usize::from(!holds);
        }
        if holds && !session.held_listed {
            session.held_listed = true;
            if self.held.is_empty() {
                self.held_since_ns = now.elapsed_ns;
            }
            self.held.push(conn);
        }
        holds
    }

    /// Lets the replies go that were held for [`HOLD_MAX_US`].
    pub(super) fn let_out(&mut self, now: &Now) {
        let overdue = now.elapsed_ns - self.held_since_ns >= HOLD_MAX_US * 1000;
        if self.held.is_empty() || (self.holding > 0 && !overdue) {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        for conn in held.drain(..) {
            let session = &mut self.sessions[conn as usize];
            session.held_listed = false;
            if session.holding {
                session.let_out = true;
                self.look_at(conn);
            }
        }
        self.held = held;
    }

    /// Brings the worker's sum of reply bytes up to date with one session.
    #[inline]
    pub(super) fn count_replies(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        let bytes = session.replies.bytes() + session.sending_bytes;
        self.reply_bytes = self.reply_bytes + bytes - session.counted_bytes;
        session.counted_bytes = bytes;
    }

    /// Brings the worker's sum of waiting input up to date with one session.
    #[inline]
    pub(super) fn count_carry(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        let bytes = session.carry.capacity();
        self.carry_bytes = self.carry_bytes + bytes - session.counted_carry_bytes;
        session.counted_carry_bytes = bytes;
    }

    /// Has the back end receive in small sips while much input waits, so that no further session
    /// adds more than a buffer beyond its bound.
    pub(super) fn watch_carry(&mut self, io: &mut impl Io) {
        let wanted = match self.sipping {
            false => self.carry_bytes >= CARRY_MAX_BYTES,
            true => self.carry_bytes >= CARRY_MAX_BYTES / 2,
        };
        if wanted != self.sipping {
            self.sipping = wanted;
            self.keeper.counters.sips += u64::from(wanted);
            io.sip(wanted);
        }
    }

    /// Gives a session what it needs for replies and has none of.
    #[inline]
    pub(super) fn furnish(&mut self, conn: ConnIndex) {
        self.furnish_ready(conn);
        let replies = &mut self.sessions[conn as usize].replies;
        // Only replies that wait for other workers need more than that.
        if self.peers.len() > 1 && replies.is_bare() {
            replies.furnish(self.spares.take_small(), self.spares.take_slots());
        }
    }

    /// Gives a session what it needs for replies that are ready at once.
    #[inline]
    pub(super) fn furnish_ready(&mut self, conn: ConnIndex) {
        let replies = &mut self.sessions[conn as usize].replies;
        if replies.out.capacity() == 0
            && let Some(spare) = self.spares.take_large()
        {
            replies.out = spare;
        }
    }

    /// Takes from a session what it has no use for until it is asked again.
    #[inline]
    fn rest(&mut self, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        if session.carry.is_empty() && session.carry.capacity() > 0 {
            self.spares.keep_small(std::mem::take(&mut session.carry));
            self.count_carry(conn);
        }
        let replies = &mut self.sessions[conn as usize].replies;
        if replies.settled() && !replies.is_bare() {
            let (held, slots) = replies.strip();
            self.spares.keep_small(held);
            self.spares.keep_slots(slots);
        }
    }

    /// Keeps received bytes until they can be used.
    #[inline]
    fn carry(&mut self, conn: ConnIndex, bytes: &[u8]) {
        let session = &mut self.sessions[conn as usize];
        if session.carry.capacity() == 0 && !bytes.is_empty() {
            session.carry = self.spares.take_small();
        }
        session.carry.extend_from_slice(bytes);
    }

    /// Ends a session at once, whatever it was doing.
    pub(super) fn end(&mut self, io: &mut impl Io, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        if session.closing {
            return;
        }
        session.closing = true;
        let reason = match session.ends_for {
            Some(reason) => reason,
            None if self.stopping => "shutdown",
            None => "error",
        };
        if matches!(session.role, Role::Watcher(_)) {
            self.watcher_gone(conn);
        }
        if self.observer.watches(WatchKinds::CONNEVENTS) {
            self.observe_connection(conn, Some(reason));
        }
        let session = &mut self.sessions[conn as usize];
        if let Role::Dump(dump) = &session.role
            && let Some(turn) = dump.turn
        {
            self.shared.dump_turn.leave(turn);
        }
        self.holding -= usize::from(std::mem::take(&mut session.holding));
        session.role = Role::Client;
        session.generation = session.generation.wrapping_add(1);
        self.intake_bytes -= session.reader.intake_bytes();
        session.reader = Reader::default();
        self.timing.waiting.forget(&mut session.wait);
        session.carry = Vec::new();
        self.orphans.extend(session.replies.abandon());
        self.count_carry(conn);
        self.count_replies(conn);
        io.close(conn);
    }
}

/// How many requests each of `active` sessions may make in a tick, beside somebody who asks for
/// little at a time or not.
pub(super) fn share(active: usize, beside_little: bool, most: u32) -> usize {
    let all = match beside_little {
        true => REQUESTS_BESIDE_OTHERS,
        false => REQUESTS_PER_TICK_ALL,
    };
    (all / active.max(1))
        .max(REQUESTS_SHARE_MIN)
        .min(most as usize)
}
