//! Bytes between pipelines and sockets, in two ways: [`uring`] and, where the kernel or a
//! container refuses that, [`epoll`]; with [`tls`] over either of them.
//!
//! Always true: the bytes of one connection arrive in the order sent, at most one send per
//! connection is in flight, and a connection that was reported closed is never reported again.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::sockopt::{set_tcp_nodelay, socket_error};
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, getpeername, socket_with,
};

pub mod epoll;
pub mod tls;
pub mod uring;

/// How often one who waits for a connection looks whether to stop.
const STOP_LOOK: Duration = Duration::from_millis(100);

/// Where the server is.
#[derive(Clone, Debug)]
pub enum Address {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// Path of a unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The option that names it.
    pub fn option(&self) -> &'static str {
        match self {
            Address::Tcp(..) => "--server",
            Address::Unix(_) => "--unix-socket",
        }
    }
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

/// Opens one connection, without delay of small segments. Gives up when told to `stop`, though not
/// while a name is looked up.
pub fn connect(
    address: &Address,
    family: Family,
    timeout: Option<Duration>,
    stop: &AtomicBool,
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
        match connect_to(&address.into(), timeout, stop) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Begins to connect and waits until that is done.
fn connect_to(
    peer: &SocketAddrAny,
    timeout: Option<Duration>,
    stop: &AtomicBool,
) -> io::Result<OwnedFd> {
    let socket = begin_connect(peer)?;
    let begun = Instant::now();
    let slice = timeout.map_or(STOP_LOOK, |timeout| timeout.min(STOP_LOOK));
    let slice = Timespec::try_from(slice).map_err(io::Error::other)?;
    loop {
        let mut waited_for = [PollFd::new(&socket, PollFlags::OUT)];
        match poll(&mut waited_for, Some(&slice)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => break,
            Err(error) => return Err(error.into()),
        }
        if stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            return Err(io::Error::other("connection timed out"));
        }
    }
    socket_error(&socket)??;
    ioctl_fionbio(&socket, false)?;
    Ok(socket)
}

/// Where a connected socket leads.
pub fn peer(socket: &OwnedFd) -> io::Result<SocketAddrAny> {
    getpeername(socket)?.ok_or_else(|| io::Error::other("a connected socket has no peer"))
}

/// Begins to connect to where another socket was connected, and does not wait until it is: what is
/// sent meanwhile goes when it is, and when the server does not want it the transport says so.
pub fn begin_connect(peer: &SocketAddrAny) -> io::Result<OwnedFd> {
    let family = peer.address_family();
    let local = family == AddressFamily::UNIX;
    // A unix socket is connected at once, unless the server's queue is full.
    let flags = match local {
        true => SocketFlags::CLOEXEC,
        false => SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
    };
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    if !local {
        set_tcp_nodelay(&socket, true)?;
    }
    match rustix::net::connect(&socket, peer) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
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
    /// What it takes besides sockets.
    type Setup: Sync;

    /// Takes over connected sockets.
    fn new(sockets: Vec<OwnedFd>, setup: &Self::Setup) -> io::Result<Self>;

    /// Sends `bytes` and leaves an empty buffer in their place. Returns `false` and takes nothing
    /// while an earlier send is in flight; [`Events::sent`] then tells when it is over.
    fn send(&mut self, connection: usize, bytes: &mut Vec<u8>) -> bool;

    /// Hands to the kernel what [`send`](Transport::send) took, and receives nothing.
    fn flush(&mut self) -> io::Result<()>;

    /// Moves bytes and reports what happened; waits up to `wait` if there is nothing to report.
    /// Returns how many events there were.
    fn turn(&mut self, wait: Option<Duration>, events: &mut impl Events) -> io::Result<usize>;

    /// Ends one connection. It is not reported.
    fn close(&mut self, connection: usize);

    /// Whether a send is in flight.
    fn is_sending(&self, connection: usize) -> bool;

    /// Puts another socket, connected or about to be, in the place of a connection on which
    /// nothing is awaited any more and no send is in flight, and ends the old one without a report.
    fn replace(&mut self, connection: usize, socket: OwnedFd) -> io::Result<()>;
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::transport::epoll::Epoll;
    use crate::transport::uring::Uring;

    /// What happened to one connection.
    #[derive(Default)]
    struct Seen {
        bytes: Vec<u8>,
        closed: bool,
    }

    impl Events for Seen {
        fn received(&mut self, _connection: usize, bytes: &[u8]) {
            self.bytes.extend_from_slice(bytes);
        }

        fn sent(&mut self, _connection: usize) {}

        fn closed(&mut self, _connection: usize, _error: Option<io::Error>) {
            self.closed = true;
        }
    }

    /// A listener that has room for one connection it has not accepted, with that room taken.
    fn full_listener() -> (TcpListener, OwnedFd, TcpStream) {
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        rustix::net::bind(&socket, &any).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let first: OwnedFd = TcpStream::connect(address).unwrap().into();
        let (accepted, _) = listener.accept().unwrap();
        (listener, first, accepted)
    }

    fn a_socket_may_be_given_before_it_is_connected<T: Transport<Setup = ()>>() {
        use std::io::{Read, Write};
        let (listener, first, accepted) = full_listener();
        let address = listener.local_addr().unwrap();
        let peer = peer(&first).unwrap();
        let mut transport = T::new(vec![first], &()).unwrap();
        // Takes the only place, so that the next one has to wait for it.
        let filler = TcpStream::connect(address).unwrap();
        let waiting = begin_connect(&peer).unwrap();
        assert!(!transport.is_sending(0));
        transport.replace(0, waiting).unwrap();
        let mut request = b"ping".to_vec();
        assert!(transport.send(0, &mut request));
        let mut seen = Seen::default();
        for _ in 0..100 {
            transport.turn(None, &mut seen).unwrap();
        }
        assert!(!seen.closed && seen.bytes.is_empty());
        // Now there is room. The kernel asks again after a second.
        drop(accepted);
        let server = std::thread::spawn(move || {
            let (_filled, _) = listener.accept().unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(&asked).unwrap();
            stream
        });
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while seen.bytes.len() < 4 {
            assert!(std::time::Instant::now() < deadline, "no answer came");
            let wait = Some(Duration::from_millis(50));
            transport.turn(wait, &mut seen).unwrap();
            assert!(!seen.closed);
        }
        assert_eq!(seen.bytes, b"ping");
        drop((server.join().unwrap(), filler));
    }

    fn what_is_flushed_arrives_without_a_turn<T: Transport<Setup = ()>>() {
        use std::io::Read;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut transport = T::new(vec![client.into()], &()).unwrap();
        let mut request = b"ping".to_vec();
        assert!(transport.send(0, &mut request));
        transport.flush().unwrap();
        let limit = Some(Duration::from_secs(10));
        server.set_read_timeout(limit).unwrap();
        let mut asked = [0; 4];
        server.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"ping");
    }

    #[test]
    fn one_who_waits_for_a_connection_can_be_stopped() {
        let (listener, _first, _accepted) = full_listener();
        let address = listener.local_addr().unwrap();
        // Takes the only place, so that the next one has to wait for it.
        let _filler = TcpStream::connect(address).unwrap();
        let address = Address::Tcp(address.ip().to_string(), address.port());
        let connect =
            |timeout, stop| connect(&address, Family::Any, timeout, &AtomicBool::new(stop));
        let said = connect(None, true).unwrap_err().to_string();
        assert_eq!(said, "interrupted");
        let limit = Some(Duration::from_millis(1));
        let said = connect(limit, false).unwrap_err().to_string();
        assert_eq!(said, "connection timed out");
    }

    #[test]
    fn what_epoll_flushes_arrives_without_a_turn() {
        what_is_flushed_arrives_without_a_turn::<Epoll>();
    }

    #[test]
    fn what_a_ring_flushes_arrives_without_a_turn() {
        // A host that refuses io_uring has the other transport.
        if Uring::new(Vec::new(), &()).is_ok() {
            what_is_flushed_arrives_without_a_turn::<Uring>();
        }
    }

    #[test]
    fn a_socket_may_be_given_to_epoll_before_it_is_connected() {
        a_socket_may_be_given_before_it_is_connected::<Epoll>();
    }

    #[test]
    fn a_socket_may_be_given_to_a_ring_before_it_is_connected() {
        // A host that refuses io_uring has the other transport.
        if Uring::new(Vec::new(), &()).is_ok() {
            a_socket_may_be_given_before_it_is_connected::<Uring>();
        }
    }
}
