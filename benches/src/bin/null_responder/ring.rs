//! The floor of io_uring: multishot accept and receive into provided buffers, one send per
//! connection and loop, one `enter` per loop.
//!
//! What is answered is a [`Service`]'s to say. Always true: sends point into memory that stays where it is until they
//! are done, and receive buffers are given back as soon as the service has read them, so no memory the kernel uses
//! ever moves.

use std::alloc::{Layout, alloc_zeroed};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::{CONNECTIONS_MAX, Debt};

const SUBMISSIONS: u32 = 1024;
const COMPLETIONS: u32 = 2 * CONNECTIONS_MAX as u32;
const BUFFER_BYTES: usize = 4096;
const BUFFER_COUNT: u16 = 256;
const GROUP: u16 = 0;

const _: () = assert!(BUFFER_COUNT.is_power_of_two());

/// What a completion was for, in the upper half of its user data; the lower is the connection.
const RECEIVE: u64 = 0;
const SEND: u64 = 1;
const ACCEPT: u64 = 2;

/// `MSG_NOSIGNAL | MSG_WAITALL`: no signal, and the kernel itself continues a short send.
const SEND_FLAGS: i32 = 0x4000 | 0x100;

const ENOBUFS: i32 = rustix::io::Errno::NOBUFS.raw_os_error();

/// What is answered, and what a connection is owed meanwhile.
///
/// # Safety
/// The bytes that `next` gives stay where they are and what they are, wherever the debt itself is moved to, until so
/// many are paid or the debt is dropped.
pub unsafe trait Service {
    /// What one connection is owed.
    type Debt: Default;

    /// Takes what a connection sent; false when it cannot be followed any further.
    fn receive(&mut self, debt: &mut Self::Debt, bytes: &[u8]) -> bool;

    /// The next bytes to send, none if nothing is owed.
    fn next<'a>(&'a self, debt: &'a mut Self::Debt) -> &'a [u8];

    /// Takes off what was sent of them.
    fn paid(debt: &mut Self::Debt, count: usize);
}

/// The same hit for every line, from replies that are in memory for the life of the process.
pub struct Canned(pub &'static [u8]);

// SAFETY: the replies are never written to and never freed.
unsafe impl Service for Canned {
    type Debt = Debt;

    fn receive(&mut self, debt: &mut Debt, bytes: &[u8]) -> bool {
        debt.add(bytes);
        true
    }

    fn next<'a>(&'a self, debt: &'a mut Debt) -> &'a [u8] {
        debt.next(self.0)
    }

    fn paid(debt: &mut Debt, count: usize) {
        debt.paid(count);
    }
}

#[derive(Default)]
struct Connection<D> {
    debt: D,
    in_flight: bool,
    receiving: bool,
    over: bool,
    listed: bool,
}

/// Receive buffers and the ring that hands them to the kernel, for the life of the process.
struct Buffers {
    entries: &'static mut [types::BufRingEntry],
    memory: &'static [u8],
    tail: u16,
}

impl Buffers {
    fn new() -> Self {
        let count = usize::from(BUFFER_COUNT);
        let bytes = count * size_of::<types::BufRingEntry>();
        let layout = Layout::from_size_align(bytes, 4096).expect("a page is a valid alignment");
        // SAFETY: the size is a product of constants above zero.
        let entries = unsafe { alloc_zeroed(layout) };
        assert!(!entries.is_null(), "{bytes} bytes of memory");
        // SAFETY: freshly allocated for `count` entries, page-aligned, zeroed, which is a valid
        // entry, and never freed.
        let entries = unsafe { std::slice::from_raw_parts_mut(entries.cast(), count) };
        let mut buffers = Self {
            entries,
            memory: vec![0; count * BUFFER_BYTES].leak(),
            tail: 0,
        };
        for index in 0..BUFFER_COUNT {
            buffers.give_back(index);
        }
        buffers.publish();
        buffers
    }

    fn bytes(&self, index: u16, count: usize) -> &[u8] {
        let start = usize::from(index) * BUFFER_BYTES;
        &self.memory[start..start + count]
    }

    fn give_back(&mut self, index: u16) {
        let address = self.memory[usize::from(index) * BUFFER_BYTES..].as_ptr();
        let entry = &mut self.entries[usize::from(self.tail & (BUFFER_COUNT - 1))];
        entry.set_addr(address as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(index);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the slice is a whole ring, whose first entry holds the tail.
        let tail = unsafe { types::BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is aligned, never freed, and shared with the kernel only, which reads
        // it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Serves until the process is ended.
pub fn serve<S: Service>(listener: TcpListener, mut service: S) -> io::Result<()> {
    // Leaked so that the parts below live as long as the process: the registered descriptor of
    // the ring is remembered by one submitter only.
    let ring: &'static mut IoUring = Box::leak(Box::new(
        IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .setup_clamp()
            .build(SUBMISSIONS)?,
    ));
    let (mut submitter, mut queue, mut completions) = ring.split();
    // Not every kernel has it; without it each enter looks the descriptor up.
    let _ = submitter.register_ring_fd();
    submitter.register_files_sparse(CONNECTIONS_MAX as u32)?;
    let mut buffers = Buffers::new();
    // SAFETY: entries and buffers live as long as the process.
    unsafe {
        submitter.register_buf_ring_with_flags(
            buffers.entries.as_ptr() as u64,
            BUFFER_COUNT,
            GROUP,
            0,
        )?;
    }
    // Leaked as well, because the kernel may still read what they own when this function ends.
    let mut connections: Vec<Connection<S::Debt>> = Vec::new();
    connections.resize_with(CONNECTIONS_MAX, Connection::default);
    let connections = connections.leak();
    let mut to_do: Vec<usize> = Vec::with_capacity(CONNECTIONS_MAX);
    let accept = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
        .allocate_file_index(true)
        .build()
        .user_data(ACCEPT << 32);
    push(&mut queue, &submitter, &accept)?;
    loop {
        queue.sync();
        match submitter.submit_and_wait(1) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {}
            Err(error) => return Err(error),
        }
        completions.sync();
        for completion in &mut completions {
            let (what, index) = (
                completion.user_data() >> 32,
                completion.user_data() as u32 as usize,
            );
            let more = cqueue::more(completion.flags());
            if what == ACCEPT {
                if completion.result() >= 0 {
                    let index = completion.result() as usize;
                    connections[index] = Connection::default();
                    list(connections, &mut to_do, index);
                }
                if !more {
                    push(&mut queue, &submitter, &accept)?;
                }
                continue;
            }
            let connection = &mut connections[index];
            if what == SEND {
                connection.in_flight = false;
                match completion.result() {
                    count @ 0.. => S::paid(&mut connection.debt, count as usize),
                    _ => connection.over = true,
                }
            } else {
                if let Some(buffer) = cqueue::buffer_select(completion.flags()) {
                    let count = completion.result().max(0) as usize;
                    let bytes = buffers.bytes(buffer, count);
                    connection.over =
                        connection.over || !service.receive(&mut connection.debt, bytes);
                    buffers.give_back(buffer);
                }
                if !more {
                    connection.receiving = false;
                    let result = completion.result();
                    connection.over |= result == 0 || (result < 0 && result != -ENOBUFS);
                }
            }
            list(connections, &mut to_do, index);
        }
        buffers.publish();
        for index in to_do.drain(..) {
            let connection = &mut connections[index];
            connection.listed = false;
            if connection.over {
                // Closed when nothing of it is in the ring any more.
                if !connection.in_flight && !connection.receiving {
                    connection.receiving = true;
                    let entry = opcode::Close::new(types::Fixed(index as u32))
                        .build()
                        .flags(squeue::Flags::SKIP_SUCCESS);
                    push(&mut queue, &submitter, &entry)?;
                }
                continue;
            }
            if !connection.receiving {
                connection.receiving = true;
                let entry = opcode::RecvMulti::new(types::Fixed(index as u32), GROUP)
                    .build()
                    .user_data(RECEIVE << 32 | index as u64);
                push(&mut queue, &submitter, &entry)?;
            }
            if connection.in_flight {
                continue;
            }
            let bytes = service.next(&mut connection.debt);
            if !bytes.is_empty() {
                connection.in_flight = true;
                let entry = opcode::Send::new(
                    types::Fixed(index as u32),
                    bytes.as_ptr(),
                    bytes.len() as u32,
                )
                .flags(SEND_FLAGS)
                .build()
                .user_data(SEND << 32 | index as u64);
                push(&mut queue, &submitter, &entry)?;
            }
        }
    }
}

fn list<D>(connections: &mut [Connection<D>], to_do: &mut Vec<usize>, index: usize) {
    if !connections[index].listed {
        connections[index].listed = true;
        to_do.push(index);
    }
}

fn push(
    queue: &mut squeue::SubmissionQueue,
    submitter: &io_uring::Submitter,
    entry: &squeue::Entry,
) -> io::Result<()> {
    loop {
        // SAFETY: receive buffers are leaked, and a service keeps in place what it has sent; its debts, of connections
        // that are leaked, are dropped when nothing of theirs is in the ring.
        if unsafe { queue.push(entry) }.is_ok() {
            return Ok(());
        }
        queue.sync();
        submitter.submit()?;
        queue.sync();
    }
}
