//! The back end of readiness calls: where io_uring is refused, and the control of every
//! comparison.
//!
//! Level-triggered epoll; one `recv` a readable connection and wake-up; sends go out at once and
//! wait for writability only when the socket is full. The events look to the worker exactly as
//! the ring's do.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::SockRef;

use super::{BufferId, ConnIndex, Event, HeldBack, Io, Wait};
use crate::config::{EVENTS_MAX, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, SLEEP_MAX_MS};
use crate::tls::Guard;

const KIND_CONN: u64 = 0;
const KIND_LISTENER: u64 = 1;
const KIND_BELL: u64 = 2;

const _: () = assert!(SLEEP_MAX_MS <= u16::MAX as u64);
const SLEEP_MS: u16 = SLEEP_MAX_MS as u16;
const DEAF_MAX: Duration = Duration::from_millis(SLEEP_MAX_MS);

fn tag(kind: u64, index: usize) -> u64 {
    kind << 56 | index as u64
}

struct Conn {
    fd: Option<OwnedFd>,
    paused: bool,
    ended: bool,
    sending: Option<(Vec<u8>, usize)>,
    /// The readiness asked for at present.
    interest: EpollFlags,
}

impl Conn {
    fn new(fd: Option<OwnedFd>, interest: EpollFlags) -> Self {
        Self {
            fd,
            paused: false,
            ended: false,
            sending: None,
            interest,
        }
    }
}

/// See the module's page.
pub struct EpollIo {
    epoll: Epoll,
    conns: Vec<Conn>,
    listeners: Vec<OwnedFd>,
    /// Listeners that are not watched because an accept failed for want of descriptors or memory:
    /// they would be ready all the time. They are watched again when a connection is closed, and
    /// after a while, because other workers close connections too.
    deaf: Vec<usize>,
    /// Since when.
    deaf_since: Instant,
    bell: Arc<EventFd>,
    buffers: Vec<u8>,
    free: Vec<BufferId>,
    /// What the last wait returned and was not looked at yet.
    ready: VecDeque<(u64, EpollFlags)>,
    /// What nobody was told of yet.
    held_back: HeldBack,
    /// Events made at once, such as a send that went out whole.
    local: Vec<Event>,
    scratch: Vec<EpollEvent>,
}

impl EpollIo {
    /// A back end that accepts on `listeners` and is woken by `bell`.
    ///
    /// # Errors
    /// What the kernel answers when it refuses.
    pub fn new(bell: Arc<EventFd>, listeners: Vec<OwnedFd>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(
            &*bell,
            EpollEvent::new(EpollFlags::EPOLLIN, tag(KIND_BELL, 0)),
        )?;
        for (index, listener) in listeners.iter().enumerate() {
            SockRef::from(listener).set_nonblocking(true)?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, tag(KIND_LISTENER, index));
            epoll.add(listener, event)?;
        }
        Ok(Self {
            epoll,
            conns: Vec::new(),
            listeners,
            deaf: Vec::new(),
            deaf_since: Instant::now(),
            bell,
            buffers: vec![0; RECEIVE_BUFFERS * RECEIVE_BUFFER_BYTES],
            free: (0..RECEIVE_BUFFERS as BufferId).rev().collect(),
            ready: VecDeque::with_capacity(EVENTS_MAX),
            held_back: HeldBack::default(),
            local: Vec::new(),
            scratch: vec![EpollEvent::empty(); EVENTS_MAX],
        })
    }

    /// Asks for what the connection's state calls for.
    fn update(&mut self, conn: ConnIndex) {
        let state = &mut self.conns[conn as usize];
        let Some(fd) = &state.fd else { return };
        let mut wanted = EpollFlags::empty();
        if !state.paused && !state.ended {
            wanted |= EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        }
        if state.sending.is_some() {
            wanted |= EpollFlags::EPOLLOUT;
        }
        if wanted != state.interest {
            state.interest = wanted;
            let mut event = EpollEvent::new(wanted, tag(KIND_CONN, conn as usize));
            if let Err(error) = self.epoll.modify(fd, &mut event) {
                panic!("connection {conn} cannot be watched: {error}");
            }
        }
    }

    fn receive(&mut self, conn: ConnIndex, broken: bool, events: &mut Vec<Event>) {
        let state = &mut self.conns[conn as usize];
        if state.ended {
            return;
        }
        if state.paused {
            // Nothing was asked for, so this is a broken connection, which is always reported.
            if broken {
                state.ended = true;
                events.push(Event::Ended { conn, failed: true });
            }
            return;
        }
        let Some(fd) = &state.fd else { return };
        // Without a free buffer the bytes stay in the kernel and the next wait names them again.
        let Some(buffer) = self.free.pop() else {
            return;
        };
        let start = usize::from(buffer) * RECEIVE_BUFFER_BYTES;
        let room = &mut self.buffers[start..start + RECEIVE_BUFFER_BYTES];
        match recv(fd.as_raw_fd(), room, MsgFlags::MSG_DONTWAIT) {
            Ok(len) if len > 0 => {
                let len = len as u32;
                events.push(Event::Received { conn, buffer, len });
                return;
            }
            Ok(_) => {
                state.ended = true;
                events.push(Event::Ended {
                    conn,
                    failed: false,
                });
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(_) => {
                state.ended = true;
                events.push(Event::Ended { conn, failed: true });
            }
        }
        self.free.push(buffer);
        self.update(conn);
    }

    /// Sends what the socket takes; answers when all is sent or never will be.
    fn push_out(&mut self, conn: ConnIndex) -> Option<Event> {
        let state = &mut self.conns[conn as usize];
        let fd = state.fd.as_ref()?.as_raw_fd();
        let (bytes, sent) = state.sending.as_mut()?;
        let mut failed = false;
        while *sent < bytes.len() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(fd, &bytes[*sent..], flags) {
                Ok(len) => *sent += len,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return None,
                Err(_) => {
                    failed = true;
                    break;
                }
            }
        }
        let (bytes, _) = state.sending.take()?;
        Some(Event::Sent {
            conn,
            bytes,
            failed,
        })
    }

    fn accept(&mut self, index: usize, events: &mut Vec<Event>) {
        let Some(listener) = self.listeners.get(index) else {
            return;
        };
        match SockRef::from(listener).accept() {
            Ok((socket, _)) => events.push(Event::Accepted {
                fd: socket.into(),
                listener: index,
            }),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
                ) =>
            {
                if self.epoll.delete(listener).is_ok() {
                    self.deaf.push(index);
                    self.deaf_since = Instant::now();
                }
            }
            // The client has gone meanwhile, or a signal came.
            Err(_) => {}
        }
    }

    /// Watches the listeners again that lacked a descriptor.
    fn listen_again(&mut self) {
        let (epoll, listeners) = (&self.epoll, &self.listeners);
        self.deaf.retain(|index| {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, tag(KIND_LISTENER, *index));
            epoll.add(&listeners[*index], event).is_err()
        });
    }
}

impl Io for EpollIo {
    fn poll(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.local);
        while let Some((data, flags)) = self.ready.pop_front() {
            let index = (data & 0xffff_ffff) as usize;
            match data >> 56 {
                KIND_LISTENER => self.accept(index, events),
                KIND_BELL => {
                    // Only this thread reads it, and it is readable, so this does not block.
                    let _ = self.bell.read();
                    events.push(Event::Rung);
                }
                _ => {
                    let conn = index as ConnIndex;
                    if flags.contains(EpollFlags::EPOLLOUT)
                        && let Some(event) = self.push_out(conn)
                    {
                        events.push(event);
                        self.update(conn);
                    }
                    let broken = flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
                    let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
                    if broken || flags.intersects(readable) {
                        self.receive(conn, broken, events);
                    }
                }
            }
        }
    }

    fn bytes(&self, buffer: BufferId, len: u32) -> &[u8] {
        let start = usize::from(buffer) * RECEIVE_BUFFER_BYTES;
        &self.buffers[start..start + len as usize]
    }

    fn recycle(&mut self, buffer: BufferId) {
        self.free.push(buffer);
    }

    fn adopt(&mut self, conn: ConnIndex, fd: OwnedFd, _guard: Guard) {
        if self.conns.len() <= conn as usize {
            self.conns
                .resize_with(conn as usize + 1, || Conn::new(None, EpollFlags::empty()));
        }
        super::tune(&fd);
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP;
        let event = EpollEvent::new(interest, tag(KIND_CONN, conn as usize));
        if let Err(error) = self.epoll.add(&fd, event) {
            panic!("connection {conn} cannot be watched: {error}");
        }
        let state = &mut self.conns[conn as usize];
        assert!(state.fd.is_none(), "connection {conn} is in use");
        *state = Conn::new(Some(fd), interest);
    }

    fn reject(&mut self, fd: OwnedFd, words: &'static [u8]) {
        super::last_words(&fd, words);
    }

    fn send(&mut self, conn: ConnIndex, bytes: Vec<u8>) {
        let state = &mut self.conns[conn as usize];
        assert!(
            state.sending.is_none(),
            "connection {conn}: a second send at once"
        );
        if state.fd.is_none() {
            self.local.push(Event::Sent {
                conn,
                bytes,
                failed: true,
            });
            return;
        }
        state.sending = Some((bytes, 0));
        match self.push_out(conn) {
            Some(event) => self.local.push(event),
            None => self.update(conn),
        }
    }

    fn send_parts(&mut self, conn: ConnIndex, parts: &[IoSlice<'_>], more: bool) -> Option<usize> {
        let state = &mut self.conns[conn as usize];
        assert!(
            state.sending.is_none(),
            "connection {conn}: a second send at once"
        );
        let fd = state.fd.as_ref()?.as_raw_fd();
        super::send_now(fd, parts, more)
    }

    fn pause(&mut self, conn: ConnIndex) {
        self.conns[conn as usize].paused = true;
        self.update(conn);
    }

    fn resume(&mut self, conn: ConnIndex) {
        self.conns[conn as usize].paused = false;
        self.update(conn);
    }

    fn close(&mut self, conn: ConnIndex) {
        let state = &mut self.conns[conn as usize];
        if let Some((bytes, _)) = state.sending.take() {
            self.local.push(Event::Sent {
                conn,
                bytes,
                failed: true,
            });
        }
        if state.fd.take().is_some() {
            // Readiness of the closed descriptor must not reach the index's next user.
            let own = tag(KIND_CONN, conn as usize);
            self.ready.retain(|(data, _)| *data != own);
            self.local.push(Event::Closed { conn });
            self.listen_again();
        }
    }

    fn stop_listening(&mut self) {
        for listener in &self.listeners {
            let _ = self.epoll.delete(listener);
        }
        self.ready.retain(|(data, _)| data >> 56 != KIND_LISTENER);
        self.listeners.clear();
        self.deaf.clear();
    }

    fn held_back(&mut self) -> HeldBack {
        std::mem::take(&mut self.held_back)
    }

    fn submit(&mut self, wait: Wait) {
        if !self.deaf.is_empty() && self.deaf_since.elapsed() >= DEAF_MAX {
            self.listen_again();
        }
        if !self.ready.is_empty() {
            return;
        }
        let timeout = match wait {
            Wait::Long if self.local.is_empty() => EpollTimeout::from(SLEEP_MS),
            Wait::Micros(us) if self.local.is_empty() => {
                EpollTimeout::try_from(us.div_ceil(1000)).unwrap_or(EpollTimeout::ZERO)
            }
            _ => EpollTimeout::ZERO,
        };
        match self.epoll.wait(&mut self.scratch, timeout) {
            Ok(count) => {
                self.held_back.full_polls += u32::from(count == EVENTS_MAX);
                let events = self.scratch[..count].iter();
                self.ready
                    .extend(events.map(|event| (event.data(), event.events())));
            }
            Err(Errno::EINTR) => {}
            Err(error) => panic!("epoll_wait failed: {error}"),
        }
    }
}
