//! Bytes between pipelines and sockets, in two ways: [`uring`] and, where the kernel or a
//! container refuses that, [`epoll`].
//!
//! Always true: the bytes of one connection arrive in the order sent, at most one send per
//! connection is in flight, and a connection that was reported closed is never reported again.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

pub mod epoll;
pub mod uring;

/// Where the server is.
#[derive(Clone, Debug)]
pub enum Address {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Path of a unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What addresses a name may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Whatever there is.
    Any,
    /// Version 4 only.
    V4,
    /// Version 6 only.
    V6,
}

/// Opens one connection, without delay of small segments.
pub fn connect(
    address: &Address,
    family: Family,
    timeout: Option<Duration>,
) -> io::Result<OwnedFd> {
    let (host, port) = match address {
        Address::Tcp(host, port) => (host.as_str(), *port),
        Address::Unix(path) => return Ok(UnixStream::connect(path)?.into()),
    };
    let fits = |address: &SocketAddr| match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    let mut last = io::Error::other("the name has no address of the family asked for");
    for address in (host, port).to_socket_addrs()?.filter(fits) {
        let opened = match timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout),
            None => TcpStream::connect(address),
        };
        match opened {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream.into());
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// What a transport reports during a turn.
pub trait Events {
    /// Bytes came on this connection.
    fn received(&mut self, connection: usize, bytes: &[u8]);
    /// An earlier send has finished: the connection can send again.
    fn sent(&mut self, connection: usize);
    /// The connection is over; the server closed it when `error` is `None`.
    fn closed(&mut self, connection: usize, error: Option<io::Error>);
}

/// The sockets of one thread. Connections are named by their index in the list it was made from.
pub trait Transport: Sized {
    /// Takes over connected sockets.
    fn new(sockets: Vec<OwnedFd>) -> io::Result<Self>;

    /// Sends `bytes` and leaves an empty buffer in their place. Returns `false` and takes nothing
    /// while an earlier send is in flight; [`Events::sent`] then tells when it is over.
    fn send(&mut self, connection: usize, bytes: &mut Vec<u8>) -> bool;

    /// Moves bytes and reports what happened; waits up to `wait` if there is nothing to report.
    /// Returns how many events there were.
    fn turn(&mut self, wait: Option<Duration>, events: &mut impl Events) -> io::Result<usize>;

    /// Ends one connection. It is not reported.
    fn close(&mut self, connection: usize);

    /// Puts another connected socket in the place of a connection on which nothing is awaited any
    /// more, and ends the old one without a report. Gives the socket back while a send is in
    /// flight.
    fn replace(&mut self, connection: usize, socket: OwnedFd) -> io::Result<Option<OwnedFd>>;
}
