//! The listening sockets, and the file that names their ports.
//!
//! Always true: all of them are bound before privileges are dropped, and none takes a connection
//! before every worker is ready.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{StartError, service};
use crate::config::{Entry, Listener, Settings};
use crate::tls::Guard;

/// A listening socket and how its connections begin.
pub(super) struct Bound {
    pub socket: OwnedFd,
    pub entry: Entry,
}

/// The listening sockets, bound before privileges are dropped.
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
}

/// Binds all listeners, or takes those that a service manager has bound, which the settings then
/// name. To be called before any thread exists: the manager speaks through the environment.
///
/// # Errors
/// When an address or path cannot be had.
pub fn listen(settings: &mut Settings) -> Result<Listeners, StartError> {
    if let Some(listeners) = service::handed_over(settings)? {
        return Ok(listeners);
    }
    let mut listeners = Listeners::none(settings.workers);
    for (at, Listener { address, entry }) in settings.listen.iter().enumerate() {
        let (socket, bound) = bind_tcp(*address, settings)?;
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
            let (socket, bound) = bind_tcp(SocketAddr::new(address.ip(), port), settings)?;
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
        let socket = listen_unix(path, settings).map_err(|error| {
            let advice = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "; another server has it: stop that one or choose another path with -s"
                }
                _ => "",
            };
            format!("cannot listen on {}: {error}{advice}", path.display())
        })?;
        let entry = Entry {
            protocol: settings.protocol,
            guard: Guard::Open,
        };
        let socket = socket.into();
        listeners.sockets.push(Bound { socket, entry });
    }
    Ok(listeners)
}

/// Listens on an address; the socket, and the address with the port it really has.
fn bind_tcp(address: SocketAddr, settings: &Settings) -> Result<(OwnedFd, SocketAddr), StartError> {
    let socket = listen_tcp(address, settings.backlog).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; another server has it: stop that one or choose another port with -p"
            }
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need root",
            std::io::ErrorKind::AddrNotAvailable => "; this host has no such address",
            _ => "",
        };
        format!("cannot listen on {address}: {error}{advice}")
    })?;
    let bound = socket
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .unwrap_or(address);
    Ok((socket.into(), bound))
}

fn listen_tcp(address: SocketAddr, backlog: i32) -> std::io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

fn listen_unix(path: &Path, settings: &Settings) -> std::io::Result<Socket> {
    use std::os::unix::fs::FileTypeExt;
    let address = SockAddr::unix(path)?;
    // A socket file that nobody serves any more is in the way; anything else is not ours.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let probe = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
        match probe.connect(&address) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            // Anything but a refusal is an answer: it is served, or not ours to judge.
            _ => return Err(std::io::ErrorKind::AddrInUse.into()),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    socket.bind(&address)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(settings.unix_mask))?;
    socket.listen(settings.backlog)?;
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
