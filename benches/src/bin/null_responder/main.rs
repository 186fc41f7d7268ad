//! A server without a server: answers every line with the same hit. What it costs is what the
//! kernel and the way of talking to it cost, the floor under any server on this machine.
//!
//! Always true: one reply for each line feed received, in order, and at most one send per
//! connection in flight; nothing is looked up, parsed or copied. One kind is no null responder but
//! the least that a cache does, beside which the two halves of a cache's cost can be told apart.
//!
//! ```text
//! null_responder --kind ring --port-file PATH [--cpu N]
//! null_responder --kind rest --rest-us 1000 --port-file PATH
//! ```

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

mod epoll;
mod glommio_sockets;
mod rest;
mod ring;
mod thin;

/// The reply to a get of a 16-byte key with a value of 32 bytes: the one that strata-load writes to this key in its
/// first version, so that a client that asks for no other can check what it gets.
const REPLY: &[u8] = b"VALUE memtier-10000000 0 32\r\n\
    \xdfTn2h\xe2\x8d\xe8^\xab\x13\x88x^^\xd6\xba\xeb7~\xfc\xea\xdcr\x9d\xdd \x7b\xc8\x12\x0c\xc3\r\n\
    END\r\n";

/// Replies sent in one go, at most.
const REPLIES_MAX: usize = 1024;

/// Connections served at the same time, at most.
const CONNECTIONS_MAX: usize = 16 * 1024;

/// Answers every line with the same hit, by the chosen way of talking to the kernel.
#[derive(Parser)]
struct Args {
    /// How bytes are moved
    #[arg(long)]
    kind: Kind,
    /// Where to write the port, once it is open
    #[arg(long, value_name = "PATH")]
    port_file: Option<PathBuf>,
    /// Port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Core to run on
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Microseconds between a request and its reply, of the kind that rests
    #[arg(long, value_name = "N", default_value_t = 1000)]
    rest_us: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// One io_uring, multishot accept and receive, provided buffers
    Ring,
    /// The same ring, answering from a table that clients fill: the least that a cache does
    Thin,
    /// One epoll instance, recv and send
    Epoll,
    /// TCP streams of glommio
    Glommio,
    /// Blocking, a thread for each connection, which rests before it answers: for clients whose latency is compared
    Rest,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("null_responder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &Args) -> std::io::Result<()> {
    if let Some(cpu) = args.cpu {
        let mut cores = rustix::thread::CpuSet::new();
        cores.set(cpu);
        rustix::thread::sched_setaffinity(None, &cores)?;
    }
    let listener = TcpListener::bind(("127.0.0.1", args.port))?;
    // Accepted sockets inherit it, which saves a call on each.
    rustix::net::sockopt::set_tcp_nodelay(&listener, true)?;
    let port = listener.local_addr()?.port();
    if let Some(path) = &args.port_file {
        // Renamed into place, so that a reader never finds half a number.
        let unfinished = path.with_extension("unfinished");
        std::fs::write(&unfinished, format!("{port}\n"))?;
        std::fs::rename(&unfinished, path)?;
    }
    println!("listening on 127.0.0.1:{port}");
    match args.kind {
        Kind::Ring => ring::serve(listener, ring::Canned(replies())),
        Kind::Thin => ring::serve(listener, thin::Thin::new()),
        Kind::Epoll => epoll::serve(listener),
        Kind::Glommio => glommio_sockets::serve(listener),
        Kind::Rest => rest::serve(&listener, Duration::from_micros(args.rest_us)),
    }
}

/// What one connection is owed. The replies are one endless periodic stream, of which any stretch
/// can be sent from the same memory.
#[derive(Clone, Copy, Default)]
pub struct Debt {
    /// Bytes not sent yet.
    bytes: u64,
    /// Where in a reply the next one is.
    phase: usize,
}

impl Debt {
    /// Adds one reply for each line in `received`.
    fn add(&mut self, received: &[u8]) {
        let lines = memchr::memchr_iter(b'\n', received).count();
        self.bytes += (lines * REPLY.len()) as u64;
    }

    /// The next bytes to send, a stretch of `replies`.
    fn next<'a>(&self, replies: &'a [u8]) -> &'a [u8] {
        let length = (replies.len() - self.phase).min(self.bytes as usize);
        &replies[self.phase..self.phase + length]
    }

    /// Takes off what was sent.
    fn paid(&mut self, count: usize) {
        self.bytes -= count as u64;
        self.phase = (self.phase + count) % REPLY.len();
    }
}

/// [`REPLIES_MAX`] replies in a row, for the life of the process.
fn replies() -> &'static [u8] {
    REPLY.repeat(REPLIES_MAX).leak()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_paid_in_any_pieces_is_whole_replies() {
        let replies = replies();
        let mut debt = Debt::default();
        debt.add(b"get a\r\nget b\r\nget");
        debt.add(b" c\r\n");
        let mut sent = Vec::new();
        while debt.bytes > 0 {
            let piece = debt.next(replies);
            let piece = &piece[..piece.len().min(7)];
            sent.extend_from_slice(piece);
            debt.paid(piece.len());
        }
        assert_eq!(sent, REPLY.repeat(3));
    }

    #[test]
    fn the_reply_is_a_hit_of_32_bytes() {
        let rest = REPLY
            .strip_prefix(b"VALUE memtier-10000000 0 32\r\n")
            .unwrap();
        assert_eq!(&rest[32..], b"\r\nEND\r\n");
    }
}
