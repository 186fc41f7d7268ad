//! The data plane's back end: one io_uring, driven by the worker that owns it.
//!
//! - One receive a connection, multishot or not, into a ring of provided buffers; one multishot accept a
//!   listener; one send a connection at a time.
//! - DEFER_TASKRUN with SINGLE_ISSUER: completions are made in this thread, when it asks.
//! - The ring's own descriptor and the connections are registered, which saves a look-up in the
//!   process's table each time; and the wake-up once a second is one repeating timeout in the
//!   ring, because a time limit on each wait costs a timer each time
//!   (perf/notes/uring-registered.md).
//! - A multishot receive goes on for as long as there are bytes and buffers, so one connection could
//!   fill all buffers in one enter. While somebody asks for little at a time, only who does so too has
//!   one; the others are received from a buffer at a time, as the other back ends do with everybody.
//! - A request's `user_data` is its kind and the connection's index. An index is free only when
//!   all requests of its last user are answered, so a late completion can not reach a new
//!   connection.
//!
//! ```text
//!   user_data   | kind (8 bits) | 0 (24 bits) | index of connection or listener (32 bits) |
//! ```

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd, Fixed, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{CompletionQueue, IoUring, SubmissionQueue, Submitter, cqueue, opcode, squeue};
use nix::sys::eventfd::EventFd;

use super::{BufferId, ConnIndex, Event, HeldBack, Io, Wait};
use crate::config::{
    BURST_BUFFERS, EVENTS_MAX, EVENTS_OF_A_CONNECT, MULTISHOT_EARNED_BY, RECEIVE_BUFFER_BYTES,
    RECEIVE_BUFFERS, RECEIVE_BUFFERS_FIRST, RING_ENTRIES, SLEEP_MAX_MS, SMALL_RECEIPT_BYTES,
    WIDEN_CONNS_MIN,
};
use crate::tls::Guard;

const KIND_ACCEPT: u64 = 1;
const KIND_RECEIVE: u64 = 2;
const KIND_SEND: u64 = 3;
const KIND_CANCEL: u64 = 4;
const KIND_RING: u64 = 5;
const KIND_TIME: u64 = 6;

/// The only group of provided buffers of a ring.
const BUFFER_GROUP: u16 = 0;

fn tag(kind: u64, index: u32) -> u64 {
    kind << 56 | u64::from(index)
}

/// Adds an event, having made room for it first: one that a list may have to drop because it cannot grow
/// is built in memory and copied from there at once, for which the processor waits.
#[inline(always)]
fn add(events: &mut Vec<Event>, event: impl FnOnce() -> Event) {
    events.reserve(1);
    assert!(events.len() < events.capacity(), "room was made");
    events.push(event());
}

/// One connection's requests in the ring, on a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Conn {
    fd: Option<OwnedFd>,
    /// A receive is in the ring.
    receiving: bool,
    /// That receive goes on until it is cancelled.
    multishot: bool,
    /// The worker wants no more bytes now.
    paused: bool,
    /// The peer has ended; nothing is left to receive.
    ended: bool,
    /// The worker wants it gone.
    closing: bool,
    /// Small receipts by which it has not yet earned that its receive goes on by itself.
    to_earn: u8,
    /// The last poll that brought something of it, and how many buffers that was.
    poll: u64,
    filled: u32,
    /// The buffer in the kernel's hands and how much of it is sent.
    sending: Option<(Vec<u8>, usize)>,
}

const _: () = assert!(size_of::<Conn>() == 64);

/// See the module's page.
///
/// The ring and its buffers live as long as the process, as the worker does.
pub struct UringIo {
    submitter: Submitter<'static>,
    queue: SubmissionQueue<'static>,
    completions: CompletionQueue<'static>,
    buffers: ProvidedBuffers,
    conns: Vec<Conn>,
    listeners: Vec<OwnedFd>,
    listening: bool,
    bell: Arc<EventFd>,
    /// Where the ring's read of the eventfd puts the counter; boxed, so that it stays in place.
    bell_count: Box<[u8; 8]>,
    /// How long a wait lasts at most; boxed, because the ring's timeout points at it.
    sleep: Box<Timespec>,
    /// Whether that timeout repeats by itself.
    repeating: bool,
    /// Entries that wait for room in the submission queue.
    backlog: Vec<squeue::Entry>,
    /// Connections whose receive has ended, to be armed again when the worker has seen what it
    /// brought and there are buffers again.
    unarmed: Vec<ConnIndex>,
    /// Receives are armed for one buffer each.
    sipping: bool,
    /// Somebody asks for little at a time.
    gentle: bool,
    /// Polls so far, connections that the present one brings something of, and those that fill many
    /// buffers in it.
    polls: u64,
    senders: usize,
    bursts: Vec<ConnIndex>,
    /// What nobody was told of yet.
    held_back: HeldBack,
    /// Listeners whose accept failed for want of descriptors or memory, to be armed again when a
    /// connection is closed and once a second: at once it would only fail again.
    deaf: Vec<usize>,
    /// Connections that became free since the last poll.
    closed: Vec<ConnIndex>,
    /// Events made without the kernel (a send on a broken connection).
    local: Vec<Event>,
}

impl UringIo {
    fn ring() -> io::Result<IoUring> {
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(RING_ENTRIES * 4)
            .dontfork()
            .build(RING_ENTRIES)
    }

    /// Whether this kernel gives such a ring and takes its buffers.
    ///
    /// # Errors
    /// What the kernel answers when it does not.
    pub fn probe() -> io::Result<()> {
        let ring = Self::ring()?;
        ProvidedBuffers::new(&ring).map(drop)
    }

    /// A ring for `conns_max` connections that accepts on `listeners` and is woken by `bell`. To
    /// be made by the thread that will use it: the kernel takes submissions from no other.
    ///
    /// # Errors
    /// What the kernel answers when it refuses the ring or its buffers.
    pub fn new(conns_max: usize, bell: Arc<EventFd>, listeners: Vec<OwnedFd>) -> io::Result<Self> {
        let ring = Box::leak(Box::new(Self::ring()?));
        let buffers = ProvidedBuffers::new(ring)?;
        let (mut submitter, queue, completions) = ring.split();
        submitter.register_files_sparse(conns_max as u32)?;
        // Not every kernel has it; without it each enter looks the descriptor up.
        let _ = submitter.register_ring_fd();
        let mut io = Self {
            submitter,
            queue,
            completions,
            buffers,
            conns: Vec::new(),
            listeners,
            listening: true,
            bell,
            bell_count: Box::new([0; 8]),
            repeating: true,
            sleep: Box::new(Timespec::from(Duration::from_millis(SLEEP_MAX_MS))),
            backlog: Vec::new(),
            unarmed: Vec::new(),
            sipping: false,
            gentle: false,
            polls: 0,
            senders: 0,
            bursts: Vec::new(),
            held_back: HeldBack::default(),
            deaf: Vec::new(),
            closed: Vec::new(),
            local: Vec::new(),
        };
        for index in 0..io.listeners.len() {
            io.arm_accept(index);
        }
        io.arm_bell();
        io.arm_timeout();
        Ok(io)
    }

    fn push(&mut self, entry: squeue::Entry) {
        if !self.backlog.is_empty() {
            self.backlog.push(entry);
            return;
        }
        // SAFETY: every entry made below refers to descriptors and memory that live until its
        // completion is seen: descriptors in `conns`/`listeners` are closed only then, a send's
        // buffer is kept in `Conn::sending`, the bell's counter in a box of this struct.
        if unsafe { self.queue.push(&entry) }.is_err() {
            self.backlog.push(entry);
        }
    }

    /// Moves waiting entries into the submission queue as far as there is room.
    fn drain_backlog(&mut self) {
        let mut moved = 0;
        for entry in &self.backlog {
            // SAFETY: as in `push`, where the entry came from.
            if unsafe { self.queue.push(entry) }.is_err() {
                break;
            }
            moved += 1;
        }
        self.backlog.drain(..moved);
    }

    fn arm_accept(&mut self, index: usize) {
        let fd = Fd(self.listeners[index].as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd)
            .flags(libc::SOCK_CLOEXEC)
            .build()
            .user_data(tag(KIND_ACCEPT, index as u32));
        self.push(entry);
    }

    fn arm_bell(&mut self) {
        let entry = opcode::Read::new(
            Fd(self.bell.as_raw_fd()),
            self.bell_count.as_mut_ptr(),
            self.bell_count.len() as u32,
        )
        .build()
        .user_data(tag(KIND_RING, 0));
        self.push(entry);
    }

    fn arm_timeout(&mut self) {
        let flags = if self.repeating {
            TimeoutFlags::MULTISHOT
        } else {
            TimeoutFlags::empty()
        };
        let entry = opcode::Timeout::new(&*self.sleep)
            .flags(flags)
            .build()
            .user_data(tag(KIND_TIME, 0));
        self.push(entry);
    }

    fn raw_fd(&self, conn: ConnIndex) -> RawFd {
        match &self.conns[conn as usize].fd {
            Some(fd) => fd.as_raw_fd(),
            None => panic!("connection {conn} has no descriptor"),
        }
    }

    fn arm_receive(&mut self, conn: ConnIndex) {
        let state = &mut self.conns[conn as usize];
        state.receiving = true;
        let a_buffer_at_a_time = self.sipping || self.gentle && state.to_earn > 0;
        state.multishot = !a_buffer_at_a_time;
        let entry = if !state.multishot {
            opcode::Recv::new(
                Fixed(conn),
                std::ptr::null_mut(),
                RECEIVE_BUFFER_BYTES as u32,
            )
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
        } else {
            opcode::RecvMulti::new(Fixed(conn), BUFFER_GROUP).build()
        };
        self.push(entry.user_data(tag(KIND_RECEIVE, conn)));
    }

    fn arm_send(&mut self, conn: ConnIndex) {
        let Some((bytes, sent)) = &self.conns[conn as usize].sending else {
            panic!("connection {conn} has nothing to send");
        };
        let rest = &bytes[*sent..];
        let entry = opcode::Send::new(Fixed(conn), rest.as_ptr(), rest.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data(tag(KIND_SEND, conn));
        self.push(entry);
    }

    fn cancel_receive(&mut self, conn: ConnIndex) {
        let entry = opcode::AsyncCancel::new(tag(KIND_RECEIVE, conn))
            .build()
            .user_data(tag(KIND_CANCEL, conn));
        self.push(entry);
    }

    /// Frees the index when nothing of it is left in the ring.
    fn maybe_free(&mut self, conn: ConnIndex) {
        let state = &mut self.conns[conn as usize];
        let in_ring = state.receiving || state.sending.is_some();
        if state.closing && !in_ring && state.fd.is_some() {
            state.fd = None;
            self.register(conn, -1);
            self.closed.push(conn);
            self.listen_again();
        }
    }

    /// Arms the listeners again that lacked a descriptor.
    fn listen_again(&mut self) {
        while let Some(listener) = self.deaf.pop() {
            self.arm_accept(listener);
        }
    }

    /// Puts a descriptor into the connection's place in the ring's table; -1 empties it.
    fn register(&mut self, conn: ConnIndex, fd: RawFd) {
        if let Err(error) = self.submitter.register_files_update(conn, &[fd]) {
            panic!("place {conn} of the ring's table cannot be set to {fd}: {error}");
        }
    }

    /// Whether a receive's completion costs what a connection's end does. One that found no buffer, or
    /// was cancelled so that the connection is received from otherwise, is only armed anew.
    fn is_an_end(&self, entry: &cqueue::Entry, conn: ConnIndex) -> bool {
        match entry.result() {
            1.. => false,
            result if result == -libc::ENOBUFS || result == -libc::ECANCELED => {
                self.conns[conn as usize].closing
            }
            _ => true,
        }
    }

    fn received(&mut self, entry: &cqueue::Entry, conn: ConnIndex, events: &mut Vec<Event>) {
        let (result, flags) = (entry.result(), entry.flags());
        let state = &mut self.conns[conn as usize];
        if !cqueue::more(flags) {
            state.receiving = false;
        }
        if state.poll != self.polls {
            (state.poll, state.filled) = (self.polls, 0);
            self.senders += 1;
        }
        if result > 0 {
            state.filled += 1;
            if state.filled == BURST_BUFFERS + 1 {
                self.bursts.push(conn);
            }
            if result as usize <= SMALL_RECEIPT_BYTES {
                state.to_earn = state.to_earn.saturating_sub(1);
            }
            let Some(buffer) = cqueue::buffer_select(flags) else {
                panic!("a receive of {result} bytes named no buffer (flags {flags:#x})");
            };
            self.buffers.taken();
            if state.closing {
                self.recycle(buffer);
            } else {
                add(events, || Event::Received {
                    conn,
                    buffer,
                    len: result as u32,
                });
            }
        } else if result == 0 {
            state.ended = true;
            if !state.closing {
                events.push(Event::Ended {
                    conn,
                    failed: false,
                });
            }
        } else if result == -libc::ENOBUFS {
            self.held_back.buffers_short += 1;
            if self.senders >= WIDEN_CONNS_MIN {
                self.buffers.widen();
            }
        } else if result != -libc::ECANCELED {
            state.ended = true;
            if !state.closing {
                events.push(Event::Ended { conn, failed: true });
            }
        }
        let state = &self.conns[conn as usize];
        if state.closing {
            self.maybe_free(conn);
        } else if !state.receiving && !state.paused && !state.ended {
            self.unarmed.push(conn);
        }
    }

    /// Has those that filled many buffers in this poll beside others earn again what let them.
    fn tame(&mut self) {
        while let Some(conn) = self.bursts.pop() {
            let state = &mut self.conns[conn as usize];
            if self.gentle && !state.closing && !state.ended {
                self.held_back.tamed += 1;
                state.to_earn = MULTISHOT_EARNED_BY;
                if state.receiving && state.multishot {
                    self.cancel_receive(conn);
                }
            }
        }
    }

    fn sent(&mut self, result: i32, conn: ConnIndex, events: &mut Vec<Event>) {
        let state = &mut self.conns[conn as usize];
        let Some((bytes, sent)) = &mut state.sending else {
            panic!("connection {conn}: a send was answered that was never made");
        };
        let failed = result <= 0 && result != -libc::EINTR && result != -libc::EAGAIN;
        if result > 0 {
            *sent += result as usize;
        }
        if !failed && *sent < bytes.len() && !state.closing {
            self.arm_send(conn);
            return;
        }
        let failed = failed || *sent < bytes.len();
        if let Some((bytes, _)) = state.sending.take() {
            add(events, || Event::Sent {
                conn,
                bytes,
                failed,
            });
        }
        self.maybe_free(conn);
    }
}

impl Io for UringIo {
    fn poll(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.local);
        self.completions.sync();
        self.polls += 1;
        self.senders = 0;
        let mut weight = 0;
        while weight < EVENTS_MAX {
            let Some(entry) = self.completions.next() else {
                break;
            };
            weight += 1;
            let index = entry.user_data() as u32;
            match entry.user_data() >> 56 {
                KIND_RECEIVE => {
                    if self.is_an_end(&entry, index) {
                        weight += EVENTS_OF_A_CONNECT;
                    }
                    self.received(&entry, index, events);
                }
                KIND_SEND => self.sent(entry.result(), index, events),
                KIND_ACCEPT => {
                    weight += EVENTS_OF_A_CONNECT;
                    if entry.result() >= 0 {
                        // SAFETY: the kernel has just made this descriptor for us alone.
                        let fd = unsafe { OwnedFd::from_raw_fd(entry.result()) };
                        let listener = index as usize;
                        events.push(Event::Accepted { fd, listener });
                    }
                    if !cqueue::more(entry.flags()) && self.listening {
                        if entry.result() >= 0 {
                            self.arm_accept(index as usize);
                        } else {
                            self.deaf.push(index as usize);
                        }
                    }
                }
                KIND_RING => {
                    events.push(Event::Rung);
                    self.arm_bell();
                }
                KIND_TIME => {
                    self.listen_again();
                    // Kernels before 6.4 know no repeating timeout.
                    self.repeating &= entry.result() != -libc::EINVAL;
                    if !cqueue::more(entry.flags()) {
                        self.arm_timeout();
                    }
                }
                _ => {}
            }
        }
        self.held_back.full_polls += u32::from(weight >= EVENTS_MAX);
        self.tame();
        for conn in self.closed.drain(..) {
            events.push(Event::Closed { conn });
        }
    }

    fn bytes(&self, buffer: BufferId, len: u32) -> &[u8] {
        self.buffers.bytes(buffer, len)
    }

    fn recycle(&mut self, buffer: BufferId) {
        self.buffers.recycle(buffer);
    }

    fn adopt(&mut self, conn: ConnIndex, fd: OwnedFd, _guard: Guard) {
        if self.conns.len() <= conn as usize {
            self.conns.resize_with(conn as usize + 1, Conn::default);
        }
        let state = &mut self.conns[conn as usize];
        assert!(state.fd.is_none(), "connection {conn} is in use");
        super::tune(&fd);
        let raw = fd.as_raw_fd();
        *state = Conn {
            fd: Some(fd),
            to_earn: MULTISHOT_EARNED_BY,
            ..Conn::default()
        };
        self.register(conn, raw);
        self.arm_receive(conn);
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
        if state.closing {
            self.local.push(Event::Sent {
                conn,
                bytes,
                failed: true,
            });
            return;
        }
        state.sending = Some((bytes, 0));
        self.arm_send(conn);
    }

    // A call of its own beside the ring: what it costs is little against the copy of so many bytes,
    // and no page of the store is in the kernel's hands when it returns.
    fn send_parts(&mut self, conn: ConnIndex, parts: &[IoSlice<'_>], more: bool) -> Option<usize> {
        let fd = self.raw_fd(conn);
        let state = &mut self.conns[conn as usize];
        assert!(
            state.sending.is_none(),
            "connection {conn}: a second send at once"
        );
        super::send_now(fd, parts, more)
    }

    fn pause(&mut self, conn: ConnIndex) {
        let state = &mut self.conns[conn as usize];
        if !state.paused {
            state.paused = true;
            if state.receiving {
                self.cancel_receive(conn);
            }
        }
    }

    fn resume(&mut self, conn: ConnIndex) {
        let state = &mut self.conns[conn as usize];
        if state.paused {
            state.paused = false;
            // A cancelled receive that is not answered yet is armed again once it is.
            if !state.receiving && !state.ended && !state.closing {
                self.arm_receive(conn);
            }
        }
    }

    fn go_gently(&mut self, on: bool) {
        self.gentle = on;
    }

    fn held_back(&mut self) -> HeldBack {
        std::mem::take(&mut self.held_back)
    }

    fn sip(&mut self, on: bool) {
        self.sipping = on;
        // One-shot receives need no end; they are armed anew as what is wanted by then.
        for conn in 0..self.conns.len() {
            if on && self.conns[conn].receiving && self.conns[conn].multishot {
                self.cancel_receive(conn as ConnIndex);
            }
        }
    }

    fn close(&mut self, conn: ConnIndex) {
        let fd = self.raw_fd(conn);
        let state = &mut self.conns[conn as usize];
        if state.closing {
            return;
        }
        state.closing = true;
        let receiving = state.receiving;
        // Ends a send that the peer never reads.
        if state.sending.is_some() {
            let _ = nix::sys::socket::shutdown(fd, nix::sys::socket::Shutdown::Both);
        }
        if receiving {
            self.cancel_receive(conn);
        }
        self.maybe_free(conn);
    }

    fn stop_listening(&mut self) {
        self.listening = false;
        self.deaf.clear();
        for index in 0..self.listeners.len() {
            let entry = opcode::AsyncCancel::new(tag(KIND_ACCEPT, index as u32))
                .build()
                .user_data(tag(KIND_CANCEL, 0));
            self.push(entry);
        }
    }

    fn submit(&mut self, wait: Wait) {
        // By now the worker has given back every buffer of this tick.
        let mut unarmed = std::mem::take(&mut self.unarmed);
        for conn in unarmed.drain(..) {
            let state = &self.conns[conn as usize];
            let idle = state.fd.is_some() && !state.receiving && !state.paused;
            if idle && !state.ended && !state.closing {
                self.arm_receive(conn);
            }
        }
        self.unarmed = unarmed;
        self.buffers.publish();
        self.queue.sync();
        self.drain_backlog();
        self.queue.sync();
        self.completions.sync();
        let pending = !self.queue.is_empty() || self.queue.taskrun() || self.queue.cq_overflow();
        let blocking = wait != Wait::No
            && self.backlog.is_empty()
            && self.closed.is_empty()
            && self.local.is_empty()
            && self.completions.is_empty();
        if !pending && !blocking {
            return;
        }
        let entered = match wait {
            Wait::Micros(us) if blocking => {
                let limit = Timespec::from(Duration::from_micros(u64::from(us)));
                let arguments = SubmitArgs::new().timespec(&limit);
                self.submitter.submit_with_args(1, &arguments)
            }
            _ => self.submitter.submit_and_wait(usize::from(blocking)),
        };
        match entered {
            Ok(_) => {}
            // The time is over, a signal came, or the kernel is short of memory for a moment or wants its
            // completions fetched first: the next tick tries again.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)
                ) => {}
            Err(error) => panic!("io_uring_enter failed: {error}"),
        }
    }
}

/// The ring of receive buffers the kernel takes from and the worker gives back to.
///
/// Always true: each buffer is the kernel's, a spare one, or being read by the worker.
struct ProvidedBuffers {
    /// `RECEIVE_BUFFERS` entries, then the buffers themselves; an anonymous map, page aligned.
    memory: memmap2::MmapMut,
    /// How many the kernel has, and how many it is to have.
    offered: usize,
    wanted: usize,
    /// Those it does not have and nobody reads, the last one used on top.
    spare: Vec<BufferId>,
    /// The tail as this side knows it; published once a tick.
    tail: u16,
    published: u16,
}

const ENTRIES_BYTES: usize = RECEIVE_BUFFERS * size_of::<BufRingEntry>();
const _: () = assert!(RECEIVE_BUFFERS.is_power_of_two() && RECEIVE_BUFFERS <= 1 << 15);
const _: () = assert!(size_of::<BufRingEntry>() == 16);

impl ProvidedBuffers {
    fn new(ring: &IoUring) -> io::Result<Self> {
        let bytes = ENTRIES_BYTES + RECEIVE_BUFFERS * RECEIVE_BUFFER_BYTES;
        let memory = memmap2::MmapMut::map_anon(bytes)?;
        let mut buffers = Self {
            memory,
            offered: 0,
            wanted: RECEIVE_BUFFERS_FIRST,
            spare: Vec::with_capacity(RECEIVE_BUFFERS),
            tail: 0,
            published: 0,
        };
        // SAFETY: the map is page aligned and holds the entries first. It is not unmapped before
        // the ring is gone: `probe` drops it with its ring, which nothing uses, and a worker's
        // ring and buffers live as long as the process.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.memory.as_mut_ptr() as u64,
                RECEIVE_BUFFERS as u16,
                BUFFER_GROUP,
                0,
            )?;
        }
        for buffer in (0..RECEIVE_BUFFERS).rev() {
            buffers.recycle(buffer as BufferId);
        }
        buffers.publish();
        Ok(buffers)
    }

    fn offset(buffer: BufferId) -> usize {
        let index = usize::from(buffer);
        assert!(
            index < RECEIVE_BUFFERS,
            "buffer {index} of {RECEIVE_BUFFERS}"
        );
        ENTRIES_BYTES + index * RECEIVE_BUFFER_BYTES
    }

    fn bytes(&self, buffer: BufferId, len: u32) -> &[u8] {
        let start = Self::offset(buffer);
        assert!(
            len as usize <= RECEIVE_BUFFER_BYTES,
            "{len} bytes in a buffer of {RECEIVE_BUFFER_BYTES}"
        );
        &self.memory[start..start + len as usize]
    }

    /// Notes that the kernel has filled one.
    fn taken(&mut self) {
        assert!(self.offered > 0, "a buffer that the kernel did not have");
        self.offered -= 1;
    }

    /// Takes a buffer back that nobody reads any more: for the kernel, as long as it has too few.
    fn recycle(&mut self, buffer: BufferId) {
        if self.offered < self.wanted {
            self.offer(buffer);
        } else {
            self.spare.push(buffer);
        }
    }

    /// Gives the kernel, which has run out of buffers, more of them from now on.
    fn widen(&mut self) {
        self.wanted = (2 * self.wanted).min(RECEIVE_BUFFERS);
        while self.offered < self.wanted
            && let Some(buffer) = self.spare.pop()
        {
            self.offer(buffer);
        }
    }

    fn offer(&mut self, buffer: BufferId) {
        self.offered += 1;
        let start = Self::offset(buffer);
        let address = self.memory[start..].as_ptr() as u64;
        let slot = usize::from(self.tail) & (RECEIVE_BUFFERS - 1);
        let entry = self.memory[slot * size_of::<BufRingEntry>()..]
            .as_mut_ptr()
            .cast::<BufRingEntry>();
        // SAFETY: `slot` is below RECEIVE_BUFFERS, so the entry lies in the map's first part and
        // is aligned; the kernel does not read it before `publish` moves the tail past it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(RECEIVE_BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the recycled buffers to the kernel.
    fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        self.published = self.tail;
        let entries = self.memory.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `entries` is the start of a registered buffer ring.
        let tail = unsafe { BufRingEntry::tail(entries) }.cast::<AtomicU16>();
        // SAFETY: the tail lies in the reserved part of the first entry, which is in the map and
        // aligned to two bytes; the kernel only reads it.
        let tail = unsafe { &*tail };
        tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A ring, if this host has such a thing.
    fn ring(listeners: Vec<OwnedFd>) -> Option<UringIo> {
        if let Err(error) = UringIo::probe() {
            // Past the test's captured output, which nobody sees who has no failure.
            let _ = writeln!(
                io::stderr(),
                "io_uring is not tested: this host refuses it ({error})"
            );
            return None;
        }
        let bell = EventFd::new().expect("an eventfd");
        Some(UringIo::new(64, Arc::new(bell), listeners).expect("a ring"))
    }

    /// A client of a ring; connection `conn`.
    fn client(io: &mut UringIo, conn: ConnIndex) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        theirs.set_nonblocking(true).expect("it does not block");
        io.adopt(conn, ours.into(), Guard::Open);
        theirs
    }

    /// Writes as much as the socket takes.
    fn flood(client: &mut UnixStream) {
        let bytes = vec![b'x'; 4 * RECEIVE_BUFFER_BYTES];
        loop {
            match client.write(&bytes) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("a flood ends: {error}"),
            }
        }
    }

    /// Buffers that one tick brings of each of `conns` connections.
    fn tick(io: &mut UringIo, conns: usize) -> Vec<usize> {
        let (mut events, mut filled) = (Vec::new(), vec![0; conns]);
        io.poll(&mut events);
        for event in events {
            match event {
                Event::Received { conn, buffer, .. } => {
                    filled[conn as usize] += 1;
                    io.recycle(buffer);
                }
                other => panic!("{other:?}"),
            }
        }
        io.submit(Wait::No);
        filled
    }

    #[test]
    fn who_fills_many_buffers_beside_others_gets_one_a_tick() {
        let Some(mut io) = ring(Vec::new()) else {
            return;
        };
        let (mut greedy, mut modest) = (client(&mut io, 0), client(&mut io, 1));
        // With nobody else it takes what comes.
        let mut most = 0;
        for _ in 0..100 {
            flood(&mut greedy);
            most = most.max(tick(&mut io, 2)[0]);
        }
        assert!(most > BURST_BUFFERS as usize, "{most} buffers at most");
        io.go_gently(true);
        let mut seen_modest = 0;
        for at in 0..200 {
            flood(&mut greedy);
            modest.write_all(b"x").expect("there is room");
            let filled = tick(&mut io, 2);
            seen_modest += filled[1];
            // By then it has been seen beside the other, and its receive has ended.
            assert!(at < 20 || filled[0] <= 1, "{filled:?} in tick {at}");
        }
        assert!(seen_modest > 100, "{seen_modest} times");
        assert_eq!(io.held_back().tamed, 1);
        // Who has just come has one buffer a tick as well.
        let mut newcomer = client(&mut io, 2);
        for _ in 0..100 {
            flood(&mut newcomer);
            assert!(tick(&mut io, 3)[2] <= 1);
        }
        // And when it has sent little for long enough, as before.
        while tick(&mut io, 3) != [0, 0, 0] {}
        for _ in 0..2 * usize::from(MULTISHOT_EARNED_BY) {
            newcomer.write_all(b"x").expect("there is room");
            tick(&mut io, 3);
        }
        assert!(io.conns[2].receiving && io.conns[2].multishot);
        assert!(!io.conns[0].multishot);
    }

    #[test]
    fn a_few_that_fill_all_buffers_are_given_no_more() {
        let Some(mut io) = ring(Vec::new()) else {
            return;
        };
        // Together their sockets hold more than all buffers.
        let mut greedy: Vec<UnixStream> = (0..WIDEN_CONNS_MIN - 1)
            .map(|conn| client(&mut io, conn as ConnIndex))
            .collect();
        for _ in 0..200 {
            greedy.iter_mut().for_each(flood);
            let filled: usize = tick(&mut io, greedy.len()).iter().sum();
            assert!(filled <= RECEIVE_BUFFERS_FIRST, "{filled} buffers");
        }
        assert_eq!(io.buffers.wanted, RECEIVE_BUFFERS_FIRST);
        assert!(io.held_back().buffers_short > 0);
        assert_eq!(io.held_back(), HeldBack::default());
    }

    #[test]
    fn a_receive_without_a_buffer_leaves_a_poll_as_long_as_it_was() {
        const SENDERS: usize = 20;
        let Some(mut io) = ring(Vec::new()) else {
            return;
        };
        let mut clients: Vec<UnixStream> = (0..SENDERS)
            .map(|conn| client(&mut io, conn as ConnIndex))
            .collect();
        clients.iter_mut().for_each(flood);
        tick(&mut io, SENDERS);
        // Less than all of them have buffers, and what they have is far from what a poll may bring.
        let filled = tick(&mut io, SENDERS);
        assert!(filled.iter().sum::<usize>() <= RECEIVE_BUFFERS_FIRST);
        let held_back = io.held_back();
        assert!(held_back.buffers_short as usize > EVENTS_MAX / EVENTS_OF_A_CONNECT);
        assert_eq!(held_back.full_polls, 0, "{held_back:?}");
    }

    #[test]
    fn a_storm_of_connects_leaves_polls_short() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
        let address = listener.local_addr().expect("an address");
        let Some(mut io) = ring(vec![listener.into()]) else {
            return;
        };
        let clients: Vec<TcpStream> = (0..50)
            .map(|_| TcpStream::connect(address).expect("there is room"))
            .collect();
        let (mut accepted, mut full_polls) = (0, 0);
        while accepted < clients.len() {
            let mut events = Vec::new();
            io.poll(&mut events);
            let most = EVENTS_MAX / EVENTS_OF_A_CONNECT;
            assert!(events.len() <= most, "{} at once", events.len());
            accepted += events.len();
            full_polls += io.held_back().full_polls;
            io.submit(Wait::Long);
        }
        assert!(full_polls > 0);
    }
}
