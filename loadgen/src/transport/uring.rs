//! The fast transport: one io_uring per thread, a receive armed once per connection, one send
//! entry per connection and turn, one `enter` for all of them.
//!
//! Always true: memory the kernel may read or write (send buffers, receive buffers) stays in
//! place until the completion that gives it back, and is freed only after the ring has cancelled
//! everything; a receive that ended for a reason other than the connection's end is armed again.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::{Events, Transport};

/// Bytes of one receive buffer: a batch of 64 pipelined small replies fits.
const BUFFER_BYTES: usize = 16 * 1024;

/// Receive buffers of one ring. Few, so that they stay in the core's own cache; a burst that
/// finds none ends its receives, which are armed again at once.
const BUFFER_COUNT: u16 = 64;

/// Entries of the submission queue. A fuller queue is submitted early.
const SUBMISSIONS: u32 = 1024;

/// The kernel runs at most this many deferred completions in one pass, so a turn that saw as many
/// asks again without waiting for its flag.
const PASS_COMPLETIONS: usize = 20;

/// The only group of provided buffers.
const GROUP: u16 = 0;

const _: () = assert!(BUFFER_COUNT.is_power_of_two());

/// What a completion was for, in the upper half of its user data; the lower is the connection.
/// The bits above tell apart the sockets that had this place one after the other.
const RECEIVE: u64 = 0;
const SEND: u64 = 1 << 32;
const GENERATION_AT: u32 = 33;
const GENERATION_MASK: u32 = u32::MAX >> 1;

/// `MSG_NOSIGNAL | MSG_WAITALL`: no signal, and the kernel itself continues a short send.
const SEND_FLAGS: i32 = 0x4000 | 0x100;

/// A ring of provided buffers: the kernel takes from its head, we give back at its tail.
struct BufferPool {
    entries: NonNull<types::BufRingEntry>,
    buffers: NonNull<u8>,
    tail: u16,
}

impl BufferPool {
    fn entries_layout() -> Layout {
        let bytes = usize::from(BUFFER_COUNT) * size_of::<types::BufRingEntry>();
        Layout::from_size_align(bytes, 4096).expect("a page is a valid alignment")
    }

    fn buffers_layout() -> Layout {
        let bytes = usize::from(BUFFER_COUNT) * BUFFER_BYTES;
        Layout::from_size_align(bytes, 4096).expect("a page is a valid alignment")
    }

    fn new() -> Self {
        let allocate = |layout| {
            // SAFETY: neither layout has a size of zero; both sizes are products of constants
            // above zero.
            let memory = unsafe { alloc_zeroed(layout) };
            NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout))
        };
        let mut pool = Self {
            entries: allocate(Self::entries_layout()).cast(),
            buffers: allocate(Self::buffers_layout()),
            tail: 0,
        };
        for index in 0..BUFFER_COUNT {
            pool.give_back(index);
        }
        pool.publish();
        pool
    }

    fn bytes(&self, index: u16, count: usize) -> &[u8] {
        assert!(
            index < BUFFER_COUNT && count <= BUFFER_BYTES,
            "{count} bytes in buffer {index}"
        );
        // SAFETY: the assertion keeps the offset inside the allocation of `buffers_layout`.
        let start = unsafe { self.buffers.add(usize::from(index) * BUFFER_BYTES) };
        // SAFETY: the memory was zeroed when allocated, so all of it is initialised; the kernel
        // does not write to a buffer between its completion and `give_back`.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), count) }
    }

    fn give_back(&mut self, index: u16) {
        assert!(index < BUFFER_COUNT, "buffer {index} of {BUFFER_COUNT}");
        let slot = usize::from(self.tail & (BUFFER_COUNT - 1));
        // SAFETY: the mask keeps `slot` below the number of entries allocated.
        let mut entry = unsafe { self.entries.add(slot) };
        // SAFETY: the entry is ours until the tail passes it, and zeroed memory is a valid entry.
        let entry = unsafe { entry.as_mut() };
        // SAFETY: the assertion keeps the offset inside the allocation of `buffers_layout`.
        let start = unsafe { self.buffers.add(usize::from(index) * BUFFER_BYTES) };
        entry.set_addr(start.as_ptr() as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: `entries` points at a whole ring, whose first entry holds the tail.
        let tail = unsafe { types::BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is aligned, lives as long as the ring, and is shared with the kernel
        // only, which reads it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

impl Drop for BufferPool {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.entries.as_ptr().cast(), Self::entries_layout()) };
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.buffers.as_ptr(), Self::buffers_layout()) };
    }
}

struct Socket {
    fd: Option<OwnedFd>,
    /// Bytes the kernel is sending, and how many it has sent.
    flying: Vec<u8>,
    at: usize,
    in_flight: bool,
    /// How many sockets had this place before.
    generation: u32,
}

/// Sockets behind one io_uring.
pub struct Uring {
    // Dropped first, before any memory it knows.
    ring: IoUring,
    pool: Option<BufferPool>,
    sockets: Vec<Socket>,
    rearm: Vec<u32>,
    last_pass: usize,
}

impl Uring {
    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: send entries point into `flying` of a socket, receives into the pool; both
            // stay until their completion or until `Drop` has cancelled everything.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    fn arm(&mut self, connection: usize) -> io::Result<()> {
        let entry = opcode::RecvMulti::new(types::Fixed(connection as u32), GROUP)
            .build()
            .user_data(RECEIVE | self.tag(connection));
        self.push(&entry)
    }

    /// The part of the user data that names the socket.
    fn tag(&self, connection: usize) -> u64 {
        let generation = self.sockets[connection].generation & GENERATION_MASK;
        u64::from(generation) << GENERATION_AT | connection as u64
    }

    fn fly(&mut self, connection: usize) -> io::Result<()> {
        let tag = self.tag(connection);
        let socket = &mut self.sockets[connection];
        socket.in_flight = true;
        let bytes = &socket.flying[socket.at..];
        let entry = opcode::Send::new(
            types::Fixed(connection as u32),
            bytes.as_ptr(),
            bytes.len() as u32,
        )
        .flags(SEND_FLAGS)
        .build()
        .user_data(SEND | tag);
        self.push(&entry)
    }

    fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let outcome = match wait {
            Some(wait) => {
                let limit = types::Timespec::from(wait);
                let arguments = types::SubmitArgs::new().timespec(&limit);
                self.ring.submitter().submit_with_args(1, &arguments)
            }
            // A pass that was cut short leaves completions for which no flag is set.
            None if self.last_pass >= PASS_COMPLETIONS => {
                let to_submit = {
                    let mut queue = self.ring.submission();
                    queue.sync();
                    queue.len() as u32
                };
                // SAFETY: no argument block is passed; the flag asks for pending completions.
                unsafe {
                    self.ring
                        .submitter()
                        .enter::<types::Timespec>(to_submit, 0, 1, None)
                }
            }
            None => {
                let idle = {
                    let mut queue = self.ring.submission();
                    queue.sync();
                    queue.is_empty() && !queue.taskrun() && !queue.cq_overflow()
                };
                if idle {
                    return Ok(());
                }
                self.ring.submit()
            }
        };
        Self::unless_only_later(outcome)
    }

    /// What became of an `enter`: timed out, interrupted, or completions have to be taken first is no error.
    fn unless_only_later(outcome: io::Result<usize>) -> io::Result<()> {
        match outcome {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(ETIME | EINTR | EBUSY | EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    fn on_receive(
        &mut self,
        connection: usize,
        completion: &cqueue::Entry,
        events: &mut impl Events,
    ) {
        let result = completion.result();
        // What a socket that was replaced still had to say is not the new one's.
        let stale = completion.user_data() & !SEND != self.tag(connection);
        let open = self.sockets[connection].fd.is_some() && !stale;
        if let Some(index) = cqueue::buffer_select(completion.flags()) {
            let pool = self.pool.as_mut().expect("the pool lives until drop");
            if result > 0 && open {
                events.received(connection, pool.bytes(index, result as usize));
            }
            pool.give_back(index);
        }
        if cqueue::more(completion.flags()) || !open {
            return;
        }
        match result {
            0 => {
                self.close(connection);
                events.closed(connection, None);
            }
            _ if result > 0 || result == -ENOBUFS || result == -EINTR || result == -EAGAIN => {
                self.rearm.push(connection as u32);
            }
            _ => {
                self.close(connection);
                events.closed(connection, Some(io::Error::from_raw_os_error(-result)));
            }
        }
    }

    fn on_send(
        &mut self,
        connection: usize,
        result: i32,
        events: &mut impl Events,
    ) -> io::Result<()> {
        let socket = &mut self.sockets[connection];
        socket.in_flight = false;
        if result < 0 && result != -EINTR && result != -EAGAIN {
            if socket.fd.is_some() {
                self.close(connection);
                events.closed(connection, Some(io::Error::from_raw_os_error(-result)));
            }
            return Ok(());
        }
        socket.at += result.max(0) as usize;
        if socket.fd.is_some() && socket.at < socket.flying.len() {
            return self.fly(connection);
        }
        socket.flying.clear();
        socket.at = 0;
        events.sent(connection);
        Ok(())
    }
}

const EINTR: i32 = rustix::io::Errno::INTR.raw_os_error();
const EAGAIN: i32 = rustix::io::Errno::AGAIN.raw_os_error();
const EBUSY: i32 = rustix::io::Errno::BUSY.raw_os_error();
const ETIME: i32 = rustix::io::Errno::TIME.raw_os_error();
const ENOBUFS: i32 = rustix::io::Errno::NOBUFS.raw_os_error();

impl Transport for Uring {
    type Setup = ();

    fn new(sockets: Vec<OwnedFd>, (): &()) -> io::Result<Self> {
        let completions = (sockets.len() as u32 * 2).max(4096).next_power_of_two();
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(completions)
            .setup_clamp()
            .build(SUBMISSIONS)?;
        let descriptors: Vec<i32> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
        if !descriptors.is_empty() {
            ring.submitter().register_files(&descriptors)?;
        }
        let pool = BufferPool::new();
        // SAFETY: the entries are page-aligned, as many as announced, and live in `pool`, which
        // `Drop` frees only after the ring has cancelled everything that uses it.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                pool.entries.as_ptr() as u64,
                BUFFER_COUNT,
                GROUP,
                0,
            )?;
        }
        let mut uring = Self {
            ring,
            pool: Some(pool),
            sockets: sockets
                .into_iter()
                .map(|fd| Socket {
                    fd: Some(fd),
                    flying: Vec::new(),
                    at: 0,
                    in_flight: false,
                    generation: 0,
                })
                .collect(),
            rearm: Vec::new(),
            last_pass: 0,
        };
        for connection in 0..uring.sockets.len() {
            uring.arm(connection)?;
        }
        Ok(uring)
    }

    fn send(&mut self, connection: usize, bytes: &mut Vec<u8>) -> bool {
        let socket = &mut self.sockets[connection];
        if socket.fd.is_none() {
            bytes.clear();
            return true;
        }
        if socket.in_flight || !socket.flying.is_empty() {
            return false;
        }
        std::mem::swap(&mut socket.flying, bytes);
        socket.at = 0;
        if self.fly(connection).is_err() {
            // The ring refuses to submit: the next turn meets the same error and reports it.
            self.sockets[connection].in_flight = false;
        }
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        let to_submit = {
            let mut queue = self.ring.submission();
            queue.sync();
            queue.len() as u32
        };
        if to_submit == 0 {
            return Ok(());
        }
        // SAFETY: no argument block is passed. Without the flag that asks for completions, deferred receives stay where
        // they are until a turn.
        let outcome = unsafe {
            self.ring
                .submitter()
                .enter::<types::Timespec>(to_submit, 0, 0, None)
        };
        Self::unless_only_later(outcome)
    }

    fn turn(&mut self, wait: Option<Duration>, events: &mut impl Events) -> io::Result<usize> {
        while let Some(connection) = self.rearm.pop() {
            if self.sockets[connection as usize].fd.is_some() {
                self.arm(connection as usize)?;
            }
        }
        self.enter(wait)?;
        let mut count = 0;
        loop {
            // Taken one by one: handling one may push entries, which needs the ring.
            let Some(completion) = self.ring.completion().next() else {
                break;
            };
            count += 1;
            let connection = completion.user_data() as u32 as usize;
            if completion.user_data() & SEND != 0 {
                self.on_send(connection, completion.result(), events)?;
            } else {
                self.on_receive(connection, &completion, events);
            }
        }
        if count > 0 {
            self.pool
                .as_ref()
                .expect("the pool lives until drop")
                .publish();
        }
        self.last_pass = count;
        Ok(count)
    }

    fn is_sending(&self, connection: usize) -> bool {
        let socket = &self.sockets[connection];
        socket.in_flight || !socket.flying.is_empty()
    }

    fn replace(&mut self, connection: usize, socket: OwnedFd) -> io::Result<()> {
        assert!(
            !self.is_sending(connection),
            "connection {connection} is sending"
        );
        // The ring waits for a socket that would block only if the socket itself would wait.
        rustix::io::ioctl_fionbio(&socket, false)?;
        self.close(connection);
        self.rearm.retain(|&armed| armed as usize != connection);
        // A receive of the old socket that was pushed must not be submitted for the new one.
        self.ring.submit()?;
        self.ring
            .submitter()
            .register_files_update(connection as u32, &[socket.as_raw_fd()])?;
        let place = &mut self.sockets[connection];
        place.generation = place.generation.wrapping_add(1);
        place.fd = Some(socket);
        self.arm(connection)
    }

    fn close(&mut self, connection: usize) {
        if let Some(fd) = self.sockets[connection].fd.take() {
            // The ring holds its own reference; shutting down ends what is in flight.
            let _ = rustix::net::shutdown(&fd, rustix::net::Shutdown::Both);
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        for connection in 0..self.sockets.len() {
            self.close(connection);
        }
        let cancelled = self
            .ring
            .submitter()
            .register_sync_cancel(None, types::CancelBuilder::any());
        let none_left = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(rustix::io::Errno::NOENT.raw_os_error()),
        };
        if !none_left {
            // The kernel may still hold addresses of these: leaking them is the safe end.
            std::mem::forget(self.pool.take());
            for socket in &mut self.sockets {
                std::mem::forget(std::mem::take(&mut socket.flying));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_without_sockets_can_be_made_and_dropped() {
        // What decides between the transports; a host without io_uring refuses both calls alike.
        let refused = IoUring::new(8).is_err();
        assert_eq!(Uring::new(Vec::new(), &()).is_err(), refused);
    }

    #[test]
    fn completions_of_sends_and_receives_are_told_apart() {
        assert_eq!(RECEIVE & SEND, 0);
        assert_eq!((SEND | u64::from(u32::MAX)) as u32, u32::MAX);
        let highest = u64::from(GENERATION_MASK) << GENERATION_AT;
        assert_eq!(highest & (SEND | u64::from(u32::MAX)), 0);
    }
}
