//! What a worker needs of the outside world, as one small trait.
//!
//! A back end owns the sockets. It hands received bytes up in its own buffers, takes the bytes to
//! send as owned buffers and gives each back when the kernel is done with it, so that no buffer
//! is ever shared with the kernel and with the worker at once. Three back ends:
//!
//! - [`uring`]: the data plane;
//! - [`epoll`]: readiness calls, where io_uring is refused, and the control of every comparison;
//! - [`sim`]: invented connections for tests, seeded.
//!
//! [`tls`] is a layer over any of them, and [`handshakes`] what it has made beside the worker.

pub mod epoll;
pub mod handshakes;
pub mod sim;
pub mod tls;
pub mod uring;

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{MsgFlags, send, sendmsg, setsockopt, sockopt};

use crate::tls::Guard;

/// Index of a connection inside one worker, below the worker's connection limit.
/// The worker chooses it with [`Io::adopt`] and may use it again after [`Event::Closed`].
pub type ConnIndex = u32;

/// A buffer of received bytes, valid until it is recycled.
pub type BufferId = u16;

/// What happened since the last look.
#[derive(Debug)]
pub enum Event {
    /// A listener produced a connection.
    Accepted {
        /// The connection.
        fd: OwnedFd,
        /// Which listener, in the order the back end was given them.
        listener: usize,
    },
    /// Bytes arrived; read them with [`Io::bytes`], then [`Io::recycle`] the buffer.
    Received {
        /// The connection.
        conn: ConnIndex,
        /// Where the bytes are.
        buffer: BufferId,
        /// How many, above zero.
        len: u32,
    },
    /// The peer will send no more (`failed` false), or the connection is broken (`failed` true).
    Ended {
        /// The connection.
        conn: ConnIndex,
        /// Whether sending is pointless as well.
        failed: bool,
    },
    /// A buffer given to [`Io::send`] was sent whole, or never will be (`failed`).
    Sent {
        /// The connection.
        conn: ConnIndex,
        /// The buffer, for use again.
        bytes: Vec<u8>,
        /// Whether the connection broke.
        failed: bool,
    },
    /// The connection's descriptor is closed and its index is free.
    Closed {
        /// The connection.
        conn: ConnIndex,
    },
    /// Somebody rang ([`Ringer::ring`]).
    Rung,
}

/// Wakes a worker from another thread.
pub trait Ringer: Send + Sync {
    /// Ends the worker's present or next wait, with [`Event::Rung`].
    fn ring(&self);
}

/// Wakes a worker that sleeps in the kernel: its back end waits for this eventfd too.
pub struct EventRinger(pub Arc<EventFd>);

impl Ringer for EventRinger {
    fn ring(&self) {
        // An error means the counter is full, and then the worker is being woken anyway.
        let _ = self.0.write(1);
    }
}

/// How long [`Io::submit`] may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// So many microseconds at most; a back end whose waits are coarser waits the shortest it can.
    Micros(u32),
    /// At most [`SLEEP_MAX_MS`](crate::config::SLEEP_MAX_MS).
    Long,
}

/// How often a back end held something back since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// Polls that brought as much as one may.
    pub full_polls: u32,
    /// Receives that found no buffer.
    pub buffers_short: u32,
    /// Connections that may no longer fill many buffers in one poll.
    pub tamed: u32,
}

/// A back end; see the module's page.
pub trait Io {
    /// Moves what happened since the last call to the end of `events`, a bounded number.
    fn poll(&mut self, events: &mut Vec<Event>);

    /// The bytes of an [`Event::Received`] whose buffer is not recycled yet.
    fn bytes(&self, buffer: BufferId, len: u32) -> &[u8];

    /// Gives a receive buffer back.
    fn recycle(&mut self, buffer: BufferId);

    /// Takes over a connected socket under a free index and starts receiving. `guard` is what its
    /// listener asks of clients; a back end without [`tls`] over it knows none but [`Guard::Open`].
    fn adopt(&mut self, conn: ConnIndex, fd: OwnedFd, guard: Guard);

    /// Says a last word to a connection that is not adopted, if it takes it at once, and closes it.
    fn reject(&mut self, fd: OwnedFd, words: &'static [u8]);

    /// Starts sending `bytes`. At most one send a connection is under way at any time; the
    /// answer is one [`Event::Sent`].
    fn send(&mut self, conn: ConnIndex, bytes: Vec<u8>);

    /// Sends as much of `parts`, one behind the other, as the socket takes at once, and says how
    /// many bytes that was; `None` when the connection is broken. The bytes are the kernel's copy
    /// when this returns, so that they may be anybody's; what was not sent is to be sent with
    /// [`Io::send`], which waits for room. `more` says that further bytes follow soon.
    fn send_parts(&mut self, conn: ConnIndex, parts: &[IoSlice<'_>], more: bool) -> Option<usize>;

    /// Stops receiving soon; what is already under way may still arrive.
    fn pause(&mut self, conn: ConnIndex);

    /// Receives again after [`Io::pause`].
    fn resume(&mut self, conn: ConnIndex);

    /// Whether somebody asks for little at a time, who should not wait for what others send without
    /// pause. A back end that takes a buffer of each connection in a poll has nothing to do.
    fn go_gently(&mut self, on: bool) {
        let _ = on;
    }

    /// What it held back since the last call.
    fn held_back(&mut self) -> HeldBack {
        HeldBack::default()
    }

    /// With `on`, no connection receives more than one buffer until the worker has seen it and
    /// could [`Io::pause`]. A back end that never does needs nothing.
    fn sip(&mut self, on: bool) {
        let _ = on;
    }

    /// Ends the connection; what is under way is answered first ([`Event::Sent`]), the last
    /// event is [`Event::Closed`].
    fn close(&mut self, conn: ConnIndex);

    /// Stops accepting on every listener.
    fn stop_listening(&mut self);

    /// Hands queued work to the kernel, and blocks until something happens, as far as `wait` lets it.
    fn submit(&mut self, wait: Wait);
}

/// Sets up a connected socket: replies leave at once. A unix socket refuses, and needs nothing.
fn tune(fd: &OwnedFd) {
    let _ = setsockopt(fd, sockopt::TcpNoDelay, &true);
}

/// Sends `words` if the socket takes them at once; the caller closes it.
fn last_words(fd: &OwnedFd, words: &[u8]) {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = send(fd.as_raw_fd(), words, flags);
}

/// Sends what the socket takes at once of `parts`; `None` when it is broken.
fn send_now(fd: RawFd, parts: &[IoSlice<'_>], more: bool) -> Option<usize> {
    let mut flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    flags.set(MsgFlags::from_bits_retain(libc::MSG_MORE), more);
    loop {
        match sendmsg::<()>(fd, parts, &[], flags, None) {
            Ok(len) => return Some(len),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Some(0),
            Err(_) => return None,
        }
    }
}
