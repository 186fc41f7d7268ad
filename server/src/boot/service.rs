//! A service manager, systemd or another that speaks its two small protocols: what it is told of
//! the server's life, and the sockets it hands over.
//!
//! Always true: without a manager nothing here does anything; what it is told is true when it is
//! told it; and it hears of the watchdog only while every worker answers.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::thread;
use std::time::Duration;

use listenfd::ListenFd;
use nix::time::{ClockId, clock_gettime};
use socket2::Socket;

use super::{Control, StartError};
use crate::config::{Entry, Listener, MANAGER_MAX_MS, Settings};
use crate::tls::Guard;

use super::listeners::{Bound, Listeners};

/// Where the manager listens (`NOTIFY_SOCKET`), if there is one.
pub(super) struct Manager(Option<UnixDatagram>);

impl Manager {
    /// The one that has started us.
    pub fn here() -> Self {
        Self(std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let name = Path::new(&name);
            let address = match name.as_os_str().as_encoded_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
                _ => SocketAddr::from_pathname(name),
            };
            let socket = UnixDatagram::unbound().ok()?;
            socket.connect_addr(&address.ok()?).ok()?;
            let most = Some(Duration::from_millis(MANAGER_MAX_MS));
            socket.set_write_timeout(most).ok()?;
            Some(socket)
        }))
    }

    /// Tells it something. A manager that does not listen is not our concern.
    fn tell(&self, lines: &str) {
        if let Some(socket) = &self.0 {
            let _ = socket.send(lines.as_bytes());
        }
    }

    /// The server is not ready yet, but is at work and will say so again within `most`.
    pub fn starting(&self, status: &str, most: Duration) {
        let us = most.as_micros();
        self.tell(&format!("EXTEND_TIMEOUT_USEC={us}\nSTATUS={status}"));
    }

    /// The server takes connections.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The operator's files are being read; to be followed by [`Manager::ready`].
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let us = now.as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    /// The server has begun to stop.
    pub fn stopping(&self, status: &str) {
        self.tell(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// Tells the manager again and again that the server lives, if it asks for that
    /// (`WATCHDOG_USEC`), but not while a worker does not answer.
    ///
    /// # Errors
    /// When there is no thread to do it.
    pub fn watch(control: Control) -> Result<(), StartError> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let pid = u64::from(std::process::id());
        let ours = number("WATCHDOG_PID").is_none_or(|told| told == pid);
        let Some(most_us) = number("WATCHDOG_USEC").filter(|us| ours && *us > 0) else {
            return Ok(());
        };
        // Two of these are well within the manager's patience.
        let part = Duration::from_micros(most_us) / 4;
        let manager = Self::here();
        let watch = move || {
            loop {
                if control.all_answer(part) {
                    manager.tell("WATCHDOG=1");
                } else {
                    tracing::error!(
                        "a worker has not answered for {part:?}; the watchdog is not told that all is well"
                    );
                }
                thread::sleep(part);
            }
        };
        thread::Builder::new()
            .name("watchdog".into())
            .spawn(watch)
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(())
    }
}

/// The sockets that a manager has opened for us (`LISTEN_FDS`), which then take the place of those
/// that `-p`, `-l` and `-s` name. A socket's name (`LISTEN_FDNAMES`) may say what its clients are
/// asked for: `notls`, `btls` or `mtls`, as before an address of `-l`.
///
/// # Errors
/// When one of them is no listening stream socket, or cannot be what its name says.
pub(super) fn handed_over(settings: &mut Settings) -> Result<Option<Listeners>, StartError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = ListenFd::from_env();
    if handed.len() == 0 {
        return Ok(None);
    }
    if settings.shard_ports {
        let text = "--shard-ports opens ports of its own and the service manager hands sockets over; have one of them";
        return Err(StartError(text.into()));
    }
    settings.listen.clear();
    settings.listen_texts.clear();
    settings.unix_path = None;
    let mut listeners = Listeners::none(settings.workers);
    for index in 0..handed.len() {
        let name = names.next().unwrap_or_default();
        let (socket, address) = take(&mut handed, index).map_err(|reason| {
            format!("socket {index} of the service manager ({name}): {reason}")
        })?;
        let entry = Entry {
            protocol: settings.protocol,
            guard: match address {
                Some(_) => guard(name, settings.tls.is_some())?,
                None => Guard::Open,
            },
        };
        if let Some(address) = address {
            settings.listen.push(Listener { address, entry });
            listeners.bound.push(address);
        }
        let socket = socket.into();
        listeners.sockets.push(Bound { socket, entry });
    }
    listeners.handed_over = handed.len();
    Ok(Some(listeners))
}

/// Takes a socket, and its address if it is one of TCP.
fn take(
    handed: &mut ListenFd,
    index: usize,
) -> Result<(Socket, Option<std::net::SocketAddr>), String> {
    let tcp = handed.take_tcp_listener(index).ok().flatten();
    let unix = |handed: &mut ListenFd| handed.take_unix_listener(index).ok().flatten();
    let socket = match tcp.map(Socket::from) {
        Some(socket) => Some(socket),
        None => unix(handed).map(Socket::from),
    };
    let socket = socket.ok_or("it is neither of TCP nor a unix stream socket")?;
    let told = |error: std::io::Error| error.to_string();
    if !socket.is_listener().map_err(told)? {
        return Err("nobody listens on it; Accept=yes is for other programs".into());
    }
    // A ring takes "try again" for an answer where the descriptor says so.
    socket.set_nonblocking(false).map_err(told)?;
    let address = socket.local_addr().map_err(told)?.as_socket();
    Ok((socket, address))
}

/// What a socket's name asks of its clients.
fn guard(name: &str, tls: bool) -> Result<Guard, StartError> {
    match name {
        "notls" | "btls" | "mtls" if !tls => Err(StartError(format!(
            "a socket of the service manager is named {name}, which is about TLS; -Z turns it on"
        ))),
        "notls" => Ok(Guard::Open),
        "btls" => Ok(Guard::TlsWithoutPeer),
        "mtls" => Ok(Guard::TlsWithPeer),
        _ if tls => Ok(Guard::Tls),
        _ => Ok(Guard::Open),
    }
}
