//! TLS over any back end: the worker sees plain bytes, the back end below carries records.
//!
//! ```text
//!   worker    Received "get k\r\n"            send "VALUE k ..."
//!                ^                                |
//!   TlsIo     plain buffer <- records         records -> buffer of its own
//!                ^                                v
//!   below     Received 17 03 03 ..            send 17 03 03 ..
//! ```
//!
//! Connections of listeners without TLS go straight through, and a server that has no listener with
//! it does not have this layer at all.
//!
//! A handshake costs as much as thousands of requests. Its bytes therefore wait until they are whole
//! records, and these for their turn. A step that is *costly*, because keys are agreed on, signatures made
//! or certificates looked at, is made by a thread beside the worker ([`handshakes`](super::handshakes)); of
//! the others a tick makes [`HANDSHAKE_STEPS_PER_TICK`], and of all where there is no such thread. However many
//! clients shake hands, those that have done so are served in between. A handshake that is not done in
//! [`HANDSHAKE_MAX_S`] is given up.
//!
//! What waits is bounded by [`HANDSHAKE_INPUT_MAX_BYTES`]. Who has sent more before the server's first answer is
//! given up. Later a client may rightly send its requests right behind its last word: then the step is made
//! at once, or, while one is away, its socket is not read; what the back end had received by then is kept.
//!
//! Always true: at most one send a connection is under way below; a buffer that the worker gave to be
//! sent is given back when the last record made of it is sent; nothing is decrypted of a connection
//! that has ended or is to be closed; once a handshake is done nothing of its connection waits here.

mod records;

use std::io::IoSlice;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{HandshakeKind, ServerConnection};

use super::handshakes::{Entry, Helper, Line, Step};
use super::{BufferId, ConnIndex, Event, HeldBack, Io, Wait};
use crate::config::{
    HANDSHAKE_INPUT_MAX_BYTES, HANDSHAKE_MAX_S, HANDSHAKE_STEPS_PER_TICK, HANDSHAKES_OVERDUE_MS,
    RECEIVE_BUFFERS, RECORDS_KEEP_BYTES, RECORDS_SPARE_MAX,
};
use crate::tls::{Guard, Tls};
pub(super) use records::open;
use records::{whole_records, write_plain};

/// Buffers from here on hold plain bytes, those before it are of the back end below.
const PLAIN_FIRST: BufferId = 1 << 15;
const _: () = assert!(RECEIVE_BUFFERS < PLAIN_FIRST as usize);

/// One connection with TLS.
struct Secured {
    /// None while a step of its handshake is away.
    tls: Option<ServerConnection>,
    /// No other connection has had it: an index is used again.
    number: u64,
    /// Its listener asks for a certificate, which has to be looked at.
    asks_peer: bool,
    /// Records of a handshake that wait for their end or their turn.
    input: Vec<u8>,
    /// The number of its place in the line of those with whole records, while it is in one.
    turn: Option<u64>,
    /// Since when, or since when a step has been due that is away.
    since: Instant,
    /// Its socket is not read, because too much waits behind a step that is away.
    held: bool,
    /// The worker does not want it read.
    paused: bool,
    /// The peer sends no more; told to the worker when what waits has been looked at.
    ends: bool,
    /// The worker knows that there is nothing more to receive.
    ended: bool,
    /// It broke the protocol, or did not get through its handshake.
    broken: bool,
    /// The worker wants it gone.
    closing: bool,
    /// The worker's buffer, whose records are not all sent.
    sending: Option<Vec<u8>>,
    /// That buffer came while a step was away: nothing of it is a record yet.
    unwritten: bool,
    /// A send is under way below.
    sending_below: bool,
}

impl Secured {
    fn is_shaking(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_handshaking())
    }

    fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Whether the keys are not agreed on, or not known to be.
    fn is_new(&self) -> bool {
        let group = |tls: &ServerConnection| tls.negotiated_key_exchange_group();
        self.tls.as_ref().and_then(group).is_none()
    }
}

/// Where a connection is, if it has TLS.
type Place = Option<Box<Secured>>;

/// See the module's page.
pub struct TlsIo<I> {
    below: I,
    tls: Arc<Tls>,
    conns: Vec<Place>,
    next_number: u64,
    /// Those whose handshake is not done.
    shaking: Line,
    /// Those with a costly step to be made, and those with another.
    costly: Line,
    light: Line,
    /// Who makes costly steps, if there is somebody.
    helper: Option<Helper>,
    /// How many of them wait, as it was told last.
    told_waiting: usize,
    plain: Vec<Vec<u8>>,
    free: Vec<BufferId>,
    /// Buffers of records that were sent.
    spares: Vec<Vec<u8>>,
    events_below: Vec<Event>,
    /// Events made without the back end below.
    local: Vec<Event>,
}

impl<I: Io> TlsIo<I> {
    /// TLS over `below`.
    pub fn new(below: I, tls: Arc<Tls>) -> Self {
        Self {
            below,
            tls,
            conns: Vec::new(),
            next_number: 0,
            shaking: Line::default(),
            costly: Line::default(),
            light: Line::default(),
            helper: None,
            told_waiting: 0,
            plain: Vec::new(),
            free: Vec::new(),
            spares: Vec::new(),
            events_below: Vec::new(),
            local: Vec::new(),
        }
    }

    /// Has costly steps of handshakes made by `helper`'s thread from now on.
    pub fn help(&mut self, helper: Helper) {
        self.helper = Some(helper);
    }

    /// The back end below.
    pub fn below(&self) -> &I {
        &self.below
    }

    fn secured(&mut self, conn: ConnIndex) -> Option<&mut Secured> {
        self.conns.get_mut(conn as usize)?.as_deref_mut()
    }

    fn received(&mut self, conn: ConnIndex, buffer: BufferId, len: u32, events: &mut Vec<Event>) {
        let Some(Some(secured)) = self.conns.get_mut(conn as usize) else {
            events.push(Event::Received { conn, buffer, len });
            return;
        };
        let bytes = self.below.bytes(buffer, len);
        if secured.closing || secured.ended {
        } else if secured.is_shaking() {
            secured.input.extend_from_slice(bytes);
            self.line_up(conn, events);
        } else if let Some(tls) = &mut secured.tls {
            let at = free_buffer(&mut self.plain, &mut self.free);
            let opened = open(tls, bytes, &mut self.plain[at]);
            self.opened(conn, at, opened, events);
        }
        self.below.recycle(buffer);
    }

    /// Sees to it that what a handshake has received is looked at in its turn, and is not too much.
    fn line_up(&mut self, conn: ConnIndex, events: &mut Vec<Event>) {
        let Some(Some(secured)) = self.conns.get_mut(conn as usize) else {
            return;
        };
        let too_much = secured.input.len() > HANDSHAKE_INPUT_MAX_BYTES;
        if secured.tls.is_none() {
            if too_much && !std::mem::replace(&mut secured.held, true) && !secured.paused {
                self.below.pause(conn);
            }
        } else if too_much && secured.is_new() {
            self.give_up(conn, events);
        } else if too_much {
            secured.turn = None;
            self.step_here(conn, events);
        } else if secured.turn.is_none() && whole_records(&secured.input) > 0 {
            let entry = Entry {
                conn,
                number: self.next_number,
                since: Instant::now(),
            };
            self.next_number += 1;
            secured.turn = Some(entry.number);
            secured.since = entry.since;
            let line = match secured.is_new() || secured.asks_peer {
                true => &mut self.costly,
                false => &mut self.light,
            };
            let conns = &self.conns;
            line.push(entry, conns.len(), |entry| has_turn(conns, entry));
        }
    }

    /// Has handshakes go on: costly steps beside the worker as far as there is somebody for them, the
    /// others here.
    fn shake_hands(&mut self, events: &mut Vec<Event>) {
        for _ in 0..HANDSHAKE_STEPS_PER_TICK {
            if let Some(conn) = next(&mut self.light, &mut self.conns) {
                self.step_here(conn, events);
            }
        }
        if !self.is_helped() && self.costly.is_empty() && self.told_waiting == 0 {
            return;
        }
        match self.helper.take() {
            Some(mut helper) => {
                self.hand_over(&mut helper, events);
                self.helper = Some(helper);
            }
            None => {
                for _ in 0..HANDSHAKE_STEPS_PER_TICK {
                    if let Some(conn) = next(&mut self.costly, &mut self.conns) {
                        self.step_here(conn, events);
                    }
                }
            }
        }
        let waiting = self.costly.len() + usize::from(self.is_helped());
        let before = std::mem::replace(&mut self.told_waiting, waiting);
        self.tls.count_waiting(before, waiting);
    }

    /// Whether a step is away.
    fn is_helped(&self) -> bool {
        self.helper.as_ref().is_some_and(Helper::is_busy)
    }

    /// Takes what the helper's thread has made, and gives it what has waited longest.
    fn hand_over(&mut self, helper: &mut Helper, events: &mut Vec<Event>) {
        let now = Instant::now();
        if let Some(step) = helper.take(now) {
            self.came_back(*step, now, events);
        }
        helper.give(now, || self.next_step());
        if helper.is_overdue(now)
            && let Some(conn) = next(&mut self.costly, &mut self.conns)
        {
            if let Some(Some(secured)) = self.conns.get(conn as usize) {
                self.tls.count_step(now - secured.since, true);
            }
            self.step_here(conn, events);
        }
    }

    /// The costly step that has waited longest.
    fn next_step(&mut self) -> Option<Box<Step>> {
        let conn = next(&mut self.costly, &mut self.conns)?;
        let secured = self.secured(conn)?;
        let tls = secured.tls.take()?;
        let rest = secured.input.split_off(whole_records(&secured.input));
        Some(Box::new(Step {
            conn,
            number: secured.number,
            tls,
            input: std::mem::replace(&mut secured.input, rest),
            plain: Vec::new(),
            opened: Ok(false),
        }))
    }

    /// Takes the next step of a handshake here.
    fn step_here(&mut self, conn: ConnIndex, events: &mut Vec<Event>) {
        let Some(Some(secured)) = self.conns.get_mut(conn as usize) else {
            return;
        };
        let Some(tls) = &mut secured.tls else {
            return;
        };
        let at = free_buffer(&mut self.plain, &mut self.free);
        let whole = whole_records(&secured.input);
        let opened = open(tls, &secured.input[..whole], &mut self.plain[at]);
        secured.input.drain(..whole);
        self.stepped(conn, at, opened, events);
    }

    /// Takes up a step that was away, unless its connection has gone meanwhile.
    fn came_back(&mut self, step: Step, now: Instant, events: &mut Vec<Event>) {
        let Step {
            conn,
            number,
            mut tls,
            plain,
            opened,
            ..
        } = step;
        let secured = self.conns.get_mut(conn as usize).and_then(Option::as_mut);
        let Some(secured) = secured.filter(|secured| secured.number == number) else {
            return;
        };
        self.tls.count_step(now - secured.since, false);
        if std::mem::take(&mut secured.unwritten)
            && let Some(bytes) = &secured.sending
        {
            write_plain(&mut tls, bytes, conn);
        }
        secured.tls = Some(tls);
        if secured.closing || secured.ended {
            return;
        }
        let at = free_buffer(&mut self.plain, &mut self.free);
        self.plain[at].extend_from_slice(&plain);
        self.stepped(conn, at, opened, events);
    }

    /// Tells what a step of a handshake brought, and goes on with what came behind it.
    fn stepped(
        &mut self,
        conn: ConnIndex,
        at: usize,
        opened: Result<bool, rustls::Error>,
        events: &mut Vec<Event>,
    ) {
        let Some(Some(secured)) = self.conns.get_mut(conn as usize) else {
            return;
        };
        let done = !secured.is_shaking();
        let kind = secured.tls.as_ref().and_then(|tls| tls.handshake_kind());
        if done && opened.is_ok() && kind != Some(HandshakeKind::Resumed) {
            self.tls.count_session();
        }
        self.opened(conn, at, opened, events);
        if done {
            self.open_rest(conn, events);
        } else if self.goes_on(conn).is_some() {
            self.line_up(conn, events);
        }
        let Some(secured) = self.goes_on(conn) else {
            return;
        };
        if secured.held && secured.input.len() <= HANDSHAKE_INPUT_MAX_BYTES {
            secured.held = false;
            if !secured.paused {
                self.below.resume(conn);
            }
        }
        if let Some(secured) = self.goes_on(conn)
            && secured.ends
            && secured.turn.is_none()
        {
            secured.ends = false;
            if done {
                secured.ended = true;
                let failed = false;
                events.push(Event::Ended { conn, failed });
            } else {
                self.give_up(conn, events);
            }
        }
    }

    /// The connection, if it has neither ended nor is to be closed.
    fn goes_on(&mut self, conn: ConnIndex) -> Option<&mut Secured> {
        let secured = self.secured(conn)?;
        (!secured.ended && !secured.closing).then_some(secured)
    }

    /// Decrypts what came behind a handshake that is done.
    fn open_rest(&mut self, conn: ConnIndex, events: &mut Vec<Event>) {
        let Some(secured) = self.goes_on(conn) else {
            return;
        };
        let input = std::mem::take(&mut secured.input);
        if input.is_empty() {
            return;
        }
        let Some(Some(Secured { tls: Some(tls), .. })) =
            self.conns.get_mut(conn as usize).map(Option::as_deref_mut)
        else {
            return;
        };
        let at = free_buffer(&mut self.plain, &mut self.free);
        let opened = open(tls, &input, &mut self.plain[at]);
        self.opened(conn, at, opened, events);
    }

    /// Tells what records brought: plain buffer `at`, perhaps the end, and records to send.
    fn opened(
        &mut self,
        conn: ConnIndex,
        at: usize,
        opened: Result<bool, rustls::Error>,
        events: &mut Vec<Event>,
    ) {
        let len = self.plain[at].len() as u32;
        let buffer = PLAIN_FIRST + at as BufferId;
        if len > 0 {
            events.push(Event::Received { conn, buffer, len });
        } else {
            self.free.push(buffer);
        }
        match opened {
            Err(_) => self.give_up(conn, events),
            Ok(last) => {
                self.flush(conn);
                if last
                    && let Some(secured) = self.secured(conn)
                    && !std::mem::replace(&mut secured.ended, true)
                {
                    let failed = false;
                    events.push(Event::Ended { conn, failed });
                }
            }
        }
    }

    /// Ends a connection that broke the protocol or did not get through its handshake, with an alert
    /// if there is one and the socket takes it.
    fn give_up(&mut self, conn: ConnIndex, events: &mut Vec<Event>) {
        let Some(Some(secured)) = self.conns.get_mut(conn as usize) else {
            return;
        };
        if std::mem::replace(&mut secured.ended, true) {
            return;
        }
        self.tls.count_error(secured.is_shaking());
        secured.broken = true;
        secured.input = Vec::new();
        last_records(&mut self.below, conn, secured);
        let failed = true;
        events.push(Event::Ended { conn, failed });
    }

    /// Sends what records there are, unless a send is under way.
    fn flush(&mut self, conn: ConnIndex) {
        let Some(Some(secured)) = self.conns.get_mut(conn as usize) else {
            return;
        };
        if secured.sending_below || secured.closing || !secured.wants_write() {
            return;
        }
        let mut records = self.spares.pop().unwrap_or_default();
        write_records(secured, &mut records);
        secured.sending_below = true;
        self.below.send(conn, records);
    }

    fn sent(&mut self, conn: ConnIndex, bytes: Vec<u8>, failed: bool, events: &mut Vec<Event>) {
        let Some(Some(secured)) = self.conns.get_mut(conn as usize) else {
            events.push(Event::Sent {
                conn,
                bytes,
                failed,
            });
            return;
        };
        if self.spares.len() < RECORDS_SPARE_MAX && bytes.capacity() <= RECORDS_KEEP_BYTES {
            let mut records = bytes;
            records.clear();
            self.spares.push(records);
        }
        secured.sending_below = false;
        let failed = failed || secured.closing;
        if !failed && secured.wants_write() {
            self.flush(conn);
            return;
        }
        // A buffer that waits for a handshake to be done has no records yet.
        if (failed || !secured.is_shaking())
            && let Some(bytes) = secured.sending.take()
        {
            events.push(Event::Sent {
                conn,
                bytes,
                failed,
            });
        } else if failed && !secured.closing && !std::mem::replace(&mut secured.ended, true) {
            events.push(Event::Ended { conn, failed });
        }
    }

    fn ended(&mut self, conn: ConnIndex, failed: bool, events: &mut Vec<Event>) {
        let Some(secured) = self.secured(conn) else {
            events.push(Event::Ended { conn, failed });
            return;
        };
        if secured.ended || secured.closing {
            return;
        }
        if (secured.turn.is_some() || secured.tls.is_none()) && !failed {
            secured.ends = true;
        } else if secured.is_shaking() {
            self.give_up(conn, events);
        } else {
            secured.ended = true;
            events.push(Event::Ended { conn, failed });
        }
    }

    /// How long the worker may sleep that wants to sleep so long.
    fn wait(&self, wait: Wait) -> Wait {
        let away = self.is_helped();
        match wait {
            _ if !self.local.is_empty() || !self.light.is_empty() => Wait::No,
            _ if !away && !self.costly.is_empty() => Wait::No,
            // Its thread rings when it has made a step; when it does not, somebody has to see that.
            Wait::Long if away => Wait::Micros(1000 * HANDSHAKES_OVERDUE_MS as u32),
            wait => wait,
        }
    }

    /// Gives up handshakes that take too long.
    fn look_at_the_clock(&mut self, events: &mut Vec<Event>) {
        if self.shaking.is_empty() {
            return;
        }
        let (now, most) = (Instant::now(), Duration::from_secs(HANDSHAKE_MAX_S));
        let late = |line: &mut Line, conns: &[Place]| {
            line.next_late(now, most, |entry| is_shaking(conns, entry))
        };
        while let Some(Entry { conn, .. }) = late(&mut self.shaking, &self.conns) {
            self.give_up(conn, events);
        }
    }
}

/// A plain buffer that nobody reads, empty.
fn free_buffer(plain: &mut Vec<Vec<u8>>, free: &mut Vec<BufferId>) -> usize {
    match free.pop() {
        Some(buffer) => usize::from(buffer - PLAIN_FIRST),
        None => {
            plain.push(Vec::new());
            plain.len() - 1
        }
    }
}

/// Whether somebody still waits for its turn.
fn has_turn(conns: &[Place], entry: &Entry) -> bool {
    let secured = conns[entry.conn as usize].as_deref();
    secured.is_some_and(|secured| {
        secured.turn == Some(entry.number) && !secured.closing && !secured.ended
    })
}

/// Whether this connection is still there and shakes hands.
fn is_shaking(conns: &[Place], entry: &Entry) -> bool {
    let secured = conns[entry.conn as usize].as_deref();
    secured.is_some_and(|secured| secured.number == entry.number && secured.is_shaking())
}

/// The first of a line that still waits, whose turn it is now.
fn next(line: &mut Line, conns: &mut [Place]) -> Option<ConnIndex> {
    let Entry { conn, .. } = line.next(|entry| has_turn(conns, entry))?;
    if let Some(secured) = &mut conns[conn as usize] {
        secured.turn = None;
    }
    Some(conn)
}

fn write_records(secured: &mut Secured, records: &mut Vec<u8>) {
    let Some(tls) = &mut secured.tls else {
        return;
    };
    while tls.wants_write() {
        let written = tls.write_tls(records);
        debug_assert!(written.is_ok(), "a vector takes everything");
    }
}

/// Sends the records that are left, as many as the socket takes at once.
fn last_records(below: &mut impl Io, conn: ConnIndex, secured: &mut Secured) {
    if secured.sending_below || !secured.wants_write() {
        return;
    }
    let mut records = Vec::new();
    write_records(secured, &mut records);
    let _ = below.send_parts(conn, &[IoSlice::new(&records)], false);
}

impl<I: Io> Io for TlsIo<I> {
    fn poll(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.local);
        let mut below = std::mem::take(&mut self.events_below);
        self.below.poll(&mut below);
        for event in below.drain(..) {
            match event {
                Event::Received { conn, buffer, len } => self.received(conn, buffer, len, events),
                Event::Sent {
                    conn,
                    bytes,
                    failed,
                } => self.sent(conn, bytes, failed, events),
                Event::Ended { conn, failed } => self.ended(conn, failed, events),
                Event::Closed { conn } => {
                    if let Some(place) = self.conns.get_mut(conn as usize) {
                        *place = None;
                    }
                    events.push(event);
                }
                Event::Accepted { .. } | Event::Rung => events.push(event),
            }
        }
        self.events_below = below;
        self.shake_hands(events);
        self.look_at_the_clock(events);
    }

    fn bytes(&self, buffer: BufferId, len: u32) -> &[u8] {
        match buffer.checked_sub(PLAIN_FIRST) {
            None => self.below.bytes(buffer, len),
            Some(at) => &self.plain[usize::from(at)][..len as usize],
        }
    }

    fn recycle(&mut self, buffer: BufferId) {
        match buffer.checked_sub(PLAIN_FIRST) {
            None => self.below.recycle(buffer),
            Some(at) => {
                self.plain[usize::from(at)].clear();
                self.free.push(buffer);
            }
        }
    }

    fn adopt(&mut self, conn: ConnIndex, fd: OwnedFd, guard: Guard) {
        if let Some(mut tls) = self.tls.connection(guard) {
            if self.conns.len() <= conn as usize {
                self.conns.resize_with(conn as usize + 1, || None);
            }
            // What is written is bounded by what the worker gives to be sent, a buffer at a time.
            tls.set_buffer_limit(None);
            let entry = Entry {
                conn,
                number: self.next_number,
                since: Instant::now(),
            };
            self.next_number += 1;
            self.conns[conn as usize] = Some(Box::new(Secured {
                tls: Some(tls),
                number: entry.number,
                asks_peer: self.tls.asks_peer(guard),
                input: Vec::new(),
                turn: None,
                since: entry.since,
                held: false,
                paused: false,
                ends: false,
                ended: false,
                broken: false,
                closing: false,
                sending: None,
                unwritten: false,
                sending_below: false,
            }));
            let conns = &self.conns;
            self.shaking
                .push(entry, conns.len(), |entry| is_shaking(conns, entry));
        }
        self.below.adopt(conn, fd, guard);
    }

    fn reject(&mut self, fd: OwnedFd, words: &'static [u8]) {
        self.below.reject(fd, words);
    }

    fn send(&mut self, conn: ConnIndex, bytes: Vec<u8>) {
        let Some(Some(secured)) = self.conns.get_mut(conn as usize) else {
            self.below.send(conn, bytes);
            return;
        };
        assert!(
            secured.sending.is_none(),
            "connection {conn}: a second send at once"
        );
        match &mut secured.tls {
            Some(tls) => write_plain(tls, &bytes, conn),
            None => secured.unwritten = true,
        }
        secured.sending = Some(bytes);
        self.flush(conn);
    }

    /// Nothing is taken at once: the value is copied and sent as any reply is, because what is
    /// encrypted has to lie somewhere.
    fn send_parts(&mut self, conn: ConnIndex, parts: &[IoSlice<'_>], more: bool) -> Option<usize> {
        match self.secured(conn) {
            None => self.below.send_parts(conn, parts, more),
            Some(_) => Some(0),
        }
    }

    fn pause(&mut self, conn: ConnIndex) {
        if let Some(secured) = self.secured(conn) {
            secured.paused = true;
        }
        self.below.pause(conn);
    }

    fn resume(&mut self, conn: ConnIndex) {
        if let Some(secured) = self.secured(conn) {
            secured.paused = false;
            if secured.held {
                return;
            }
        }
        self.below.resume(conn);
    }

    fn go_gently(&mut self, on: bool) {
        self.below.go_gently(on);
    }

    fn held_back(&mut self) -> HeldBack {
        self.below.held_back()
    }

    fn sip(&mut self, on: bool) {
        self.below.sip(on);
    }

    fn close(&mut self, conn: ConnIndex) {
        if let Some(Some(secured)) = self.conns.get_mut(conn as usize) {
            if !secured.broken
                && let Some(tls) = &mut secured.tls
            {
                tls.send_close_notify();
                last_records(&mut self.below, conn, secured);
            }
            secured.closing = true;
            secured.input = Vec::new();
            if !secured.sending_below
                && let Some(bytes) = secured.sending.take()
            {
                self.local.push(Event::Sent {
                    conn,
                    bytes,
                    failed: true,
                });
            }
        }
        self.below.close(conn);
    }

    fn stop_listening(&mut self) {
        self.below.stop_listening();
    }

    fn submit(&mut self, wait: Wait) {
        let wait = self.wait(wait);
        self.below.submit(wait);
    }
}

#[cfg(test)]
mod tests;
