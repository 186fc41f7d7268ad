//! The listening sockets, and the file that names their ports.
//!
//! Always true: all of them are bound before privileges are dropped, and refuse connections until
//! every worker has its memory, which may take a while: a client that is refused asks elsewhere,
//! one that is accepted and not answered waits. Those that a service manager has opened are the
//! exception: whoever connects to one of them waits in its queue.

use std::io::{ErrorKind, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::{StartError, service};
use crate::config::{Entry, Listener, Settings};
use crate::tls::Guard;

/// A socket and how the connections it takes begin.
pub(super) struct Bound {
    pub socket: OwnedFd,
    pub entry: Entry,
}

/// Bound sockets, which nobody can connect to yet.
pub struct Listeners {
    pub(super) sockets: Vec<Bound>,
    pub(super) bound: Vec<SocketAddr>,
    /// Each worker's own.
    pub(super) shards: Vec<Vec<Bound>>,
    pub(super) shards_bound: Vec<SocketAddr>,
    /// How many of the sockets a service manager has opened.
    pub(super) handed_over: usize,
}

impl Listeners {
    /// Not one yet.
    pub(super) fn none(workers: usize) -> Self {
        Self {
            sockets: Vec::new(),
            bound: Vec::new(),
            shards: (0..workers).map(|_| Vec::new()).collect(),
            shards_bound: Vec::new(),
            handed_over: 0,
        }
    }

    /// Lets connections come. Those of a service manager come already.
    ///
    /// # Errors
    /// When somebody else has begun to listen on an address since it was bound.
    pub(super) fn open(&self, settings: &Settings) -> Result<(), StartError> {
        if self.handed_over > 0 {
            return Ok(());
        }
        for Bound { socket, .. } in self.sockets.iter().chain(self.shards.iter().flatten()) {
            let socket = SockRef::from(socket);
            socket.listen(settings.backlog).map_err(|error| {
                let address = socket.local_addr().ok();
                let path = settings.unix_path.as_deref().unwrap_or(Path::new(""));
                match address.and_then(|address| address.as_socket()) {
                    Some(address) => tcp_refused(address, &error),
                    None => unix_refused(path, &error),
                }
            })?;
        }
        Ok(())
    }
}

/// Binds all listeners, or takes those that a service manager has bound, which the settings then
/// name. To be called before any thread exists: the manager speaks through the environment.
///
/// # Errors
/// When an address or path cannot be had.
pub fn bind(settings: &mut Settings) -> Result<Listeners, StartError> {
    if let Some(listeners) = service::handed_over(settings)? {
        return Ok(listeners);
    }
    let mut listeners = Listeners::none(settings.workers);
    for (at, Listener { address, entry }) in settings.listen.iter().enumerate() {
        let (socket, bound) = bind_tcp(*address)?;
        listeners.bound.push(bound);
        listeners.sockets.push(Bound {
            socket,
            entry: *entry,
        });
        if !settings.shard_ports {
            continue;
        }
        for (worker, own) in listeners.shards.iter_mut().enumerate() {
            // Where the kernel chooses the first port, it chooses the others too.
            let port = match address.port() {
                0 => 0,
                first => u16::try_from(usize::from(first) + 1 + worker).map_err(|_| {
                    format!("--shard-ports: there is no port {first} + {worker} + 1; lower -p")
                })?,
            };
            let (socket, bound) = bind_tcp(SocketAddr::new(address.ip(), port))?;
            own.push(Bound {
                socket,
                entry: *entry,
            });
            if at == 0 {
                listeners.shards_bound.push(bound);
            }
        }
    }
    if let Some(path) = &settings.unix_path {
        let socket =
            bind_unix(path, settings.unix_mask).map_err(|error| unix_refused(path, &error))?;
        let entry = Entry {
            protocol: settings.protocol,
            guard: Guard::Open,
        };
        let socket = socket.into();
        listeners.sockets.push(Bound { socket, entry });
    }
    Ok(listeners)
}

/// Binds a socket to an address; the socket, and the address with the port it really has.
fn bind_tcp(address: SocketAddr) -> Result<(OwnedFd, SocketAddr), StartError> {
    let bind = || {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        Ok(socket)
    };
    let socket = bind().map_err(|error| tcp_refused(address, &error))?;
    let bound = socket
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .unwrap_or(address);
    Ok((socket.into(), bound))
}

fn tcp_refused(address: SocketAddr, error: &std::io::Error) -> StartError {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            "; another server has it: stop that one or choose another port with -p"
        }
        ErrorKind::PermissionDenied => "; ports below 1024 need root",
        ErrorKind::AddrNotAvailable => "; this host has no such address",
        _ => "",
    };
    StartError(format!("cannot listen on {address}: {error}{advice}"))
}

fn unix_refused(path: &Path, error: &std::io::Error) -> StartError {
    let advice = match error.kind() {
        ErrorKind::AddrInUse => {
            "; another server has it: stop that one or choose another path with -s"
        }
        _ => "",
    };
    let path = path.display();
    StartError(format!("cannot listen on {path}: {error}{advice}"))
}

fn bind_unix(path: &Path, mask: u32) -> std::io::Result<Socket> {
    use std::os::unix::fs::FileTypeExt;
    let address = SockAddr::unix(path)?;
    // A socket file that nobody serves any more is in the way; anything else is not ours.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let probe = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
        match probe.connect(&address) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            // Anything but a refusal is an answer: it is served, or not ours to judge.
            _ => return Err(ErrorKind::AddrInUse.into()),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    socket.bind(&address)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mask))?;
    Ok(socket)
}

/// Tells tests and scripts the ports the kernel chose, as memcached does.
///
/// # Errors
/// When the file that `MEMCACHED_PORT_FILENAME` names cannot be written.
pub(super) fn write_port_file(bound: &[SocketAddr]) -> Result<(), StartError> {
    let Some(path) = std::env::var_os("MEMCACHED_PORT_FILENAME") else {
        return Ok(());
    };
    let path = Path::new(&path);
    // Whoever waits for the file must never see half of it.
    let part = path.with_extension("part");
    let mut text = Vec::new();
    for address in bound {
        let family = if address.is_ipv6() { "INET6" } else { "INET" };
        let _ = writeln!(text, "TCP {family}: {}", address.port());
    }
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|error| StartError(format!("cannot write {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn nobody_is_let_in_before_the_listeners_are_opened() {
        let name = format!("strata-listeners-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut settings = Settings::for_tests(1);
        settings.unix_path = Some(path.clone());
        let listeners = bind(&mut settings).expect("bound");
        let address = listeners.bound[0];
        let refused = Some(ErrorKind::ConnectionRefused);
        assert_eq!(TcpStream::connect(address).err().map(|e| e.kind()), refused);
        assert_eq!(UnixStream::connect(&path).err().map(|e| e.kind()), refused);
        listeners.open(&settings).expect("open");
        TcpStream::connect(address).expect("let in");
        UnixStream::connect(&path).expect("let in");
        std::fs::remove_file(path).expect("ours");
    }

    #[test]
    fn an_address_that_another_has_opened_meanwhile_is_named() {
        let mut settings = Settings::for_tests(1);
        let ours = bind(&mut settings).expect("bound");
        settings.listen[0].address = ours.bound[0];
        let others = bind(&mut settings).expect("nobody listens there yet");
        others.open(&settings).expect("open");
        let StartError(sentence) = ours.open(&settings).expect_err("taken");
        assert!(sentence.contains(&ours.bound[0].to_string()), "{sentence}");
        assert!(sentence.contains("-p"), "{sentence}");
    }
}
