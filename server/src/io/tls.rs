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
//! A handshake costs as much as thousands of requests. Its bytes therefore wait for their turn, and a
//! tick makes [`HANDSHAKE_STEPS_PER_TICK`]: however many clients shake hands, those that have done so
//! are served in between. What waits is bounded, and a handshake that is not done in
//! [`HANDSHAKE_MAX_S`] is given up.
//!
//! Always true: at most one send a connection is under way below; a buffer that the worker gave to be
//! sent is given back when the last record made of it is sent; nothing is decrypted of a connection
//! that has ended or is to be closed.

use std::collections::VecDeque;
use std::io::{BufRead, IoSlice, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{HandshakeKind, ServerConnection};

use super::{BufferId, ConnIndex, Event, HeldBack, Io, Wait};
use crate::config::{
    HANDSHAKE_INPUT_MAX_BYTES, HANDSHAKE_MAX_S, HANDSHAKE_STEPS_PER_TICK, RECEIVE_BUFFERS,
    RECORDS_KEEP_BYTES, RECORDS_SPARE_MAX,
};
use crate::tls::{Guard, Tls};

/// Buffers from here on hold plain bytes, those before it are of the back end below.
const PLAIN_FIRST: BufferId = 1 << 15;
const _: () = assert!(RECEIVE_BUFFERS < PLAIN_FIRST as usize);

/// One connection with TLS.
struct Secured {
    tls: ServerConnection,
    /// No other connection has had it: an index is used again.
    number: u64,
    /// Records of a handshake that wait for their turn.
    input: Vec<u8>,
    /// It is in the list of those with such records.
    waits: bool,
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
    /// A send is under way below.
    sending_below: bool,
}

/// A handshake that is not done.
struct Shaking {
    conn: ConnIndex,
    number: u64,
    since: Instant,
}

/// See the module's page.
pub struct TlsIo<I> {
    below: I,
    tls: Arc<Tls>,
    conns: Vec<Option<Box<Secured>>>,
    next_number: u64,
    /// Oldest first; some are done or gone.
    shaking: VecDeque<Shaking>,
    /// Those with records to look at, in the order they came.
    waiting: VecDeque<ConnIndex>,
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
            shaking: VecDeque::new(),
            waiting: VecDeque::new(),
            plain: Vec::new(),
            free: Vec::new(),
            spares: Vec::new(),
            events_below: Vec::new(),
            local: Vec::new(),
        }
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
        } else if secured.tls.is_handshaking() || secured.waits {
            if secured.input.len() + bytes.len() > HANDSHAKE_INPUT_MAX_BYTES {
                self.give_up(conn, events);
            } else {
                secured.input.extend_from_slice(bytes);
                if !std::mem::replace(&mut secured.waits, true) {
                    self.waiting.push_back(conn);
                }
            }
        } else {
            let at = free_buffer(&mut self.plain, &mut self.free);
            let plain = &mut self.plain[at];
            let opened = open(&mut secured.tls, bytes, plain);
            self.opened(conn, at, opened, events);
        }
        self.below.recycle(buffer);
    }

    /// Takes the next step of the handshake that has waited longest.
    fn shake(&mut self, events: &mut Vec<Event>) {
        let Some(conn) = self.waiting.pop_front() else {
            return;
        };
        let Some(Some(secured)) = self.conns.get_mut(conn as usize) else {
            return;
        };
        if !secured.waits {
            return;
        }
        secured.waits = false;
        if secured.closing || secured.ended {
            return;
        }
        let input = std::mem::take(&mut secured.input);
        let at = free_buffer(&mut self.plain, &mut self.free);
        let opened = open(&mut secured.tls, &input, &mut self.plain[at]);
        let done = !secured.tls.is_handshaking();
        if done && opened.is_ok() && secured.tls.handshake_kind() != Some(HandshakeKind::Resumed) {
            self.tls.count_session();
        }
        self.opened(conn, at, opened, events);
        if let Some(secured) = self.secured(conn)
            && secured.ends
            && !secured.ended
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
        self.tls.count_error(secured.tls.is_handshaking());
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
        if secured.sending_below || secured.closing || !secured.tls.wants_write() {
            return;
        }
        let mut records = self.spares.pop().unwrap_or_default();
        write_records(&mut secured.tls, &mut records);
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
        if !failed && secured.tls.wants_write() {
            self.flush(conn);
            return;
        }
        // A buffer that waits for a handshake to be done has no records yet.
        if (failed || !secured.tls.is_handshaking())
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
        if secured.waits && !failed {
            secured.ends = true;
        } else if secured.tls.is_handshaking() {
            self.give_up(conn, events);
        } else {
            secured.ended = true;
            events.push(Event::Ended { conn, failed });
        }
    }

    /// Gives up handshakes that take too long.
    fn look_at_the_clock(&mut self, events: &mut Vec<Event>) {
        if self.shaking.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(shaking) = self.shaking.front() {
            let &Shaking {
                conn,
                number,
                since,
            } = shaking;
            let secured = self.conns[conn as usize].as_deref();
            let open = secured
                .is_some_and(|secured| secured.number == number && secured.tls.is_handshaking());
            if open && now.duration_since(since) < Duration::from_secs(HANDSHAKE_MAX_S) {
                return;
            }
            self.shaking.pop_front();
            if open {
                self.give_up(conn, events);
            }
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

/// Decrypts `records` to the end of `plain`. True when the peer has said that it sends no more.
fn open(
    tls: &mut ServerConnection,
    mut records: &[u8],
    plain: &mut Vec<u8>,
) -> Result<bool, rustls::Error> {
    while !records.is_empty() {
        let read = tls.read_tls(&mut records);
        let state = tls.process_new_packets()?;
        if state.plaintext_bytes_to_read() > 0 {
            let mut reader = tls.reader();
            while let Ok(chunk) = reader.fill_buf() {
                let len = chunk.len();
                if len == 0 {
                    break;
                }
                plain.extend_from_slice(chunk);
                reader.consume(len);
            }
        }
        if state.peer_has_closed() {
            return Ok(true);
        }
        if let Err(error) = read {
            return Err(rustls::Error::General(error.to_string()));
        }
    }
    Ok(false)
}

fn write_records(tls: &mut ServerConnection, records: &mut Vec<u8>) {
    while tls.wants_write() {
        let written = tls.write_tls(records);
        debug_assert!(written.is_ok(), "a vector takes everything");
    }
}

/// Sends the records that are left, as many as the socket takes at once.
fn last_records(below: &mut impl Io, conn: ConnIndex, secured: &mut Secured) {
    if secured.sending_below || !secured.tls.wants_write() {
        return;
    }
    let mut records = Vec::new();
    write_records(&mut secured.tls, &mut records);
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
        for _ in 0..HANDSHAKE_STEPS_PER_TICK {
            self.shake(events);
        }
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
            let number = self.next_number;
            self.next_number += 1;
            self.shaking.push_back(Shaking {
                conn,
                number,
                since: Instant::now(),
            });
            self.conns[conn as usize] = Some(Box::new(Secured {
                tls,
                number,
                input: Vec::new(),
                waits: false,
                ends: false,
                ended: false,
                broken: false,
                closing: false,
                sending: None,
                sending_below: false,
            }));
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
        // Without a limit it takes everything.
        let written = secured.tls.writer().write_all(&bytes);
        debug_assert!(written.is_ok(), "connection {conn}: {written:?}");
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
        self.below.pause(conn);
    }

    fn resume(&mut self, conn: ConnIndex) {
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
            if !secured.broken {
                secured.tls.send_close_notify();
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
        let idle = self.waiting.is_empty() && self.local.is_empty();
        self.below.submit(if idle { wait } else { Wait::No });
    }
}

#[cfg(test)]
mod tests;
