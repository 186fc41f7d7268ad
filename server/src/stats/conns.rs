//! `stats conns`: the open connections, each told by the worker it lives on.

use std::os::fd::RawFd;

use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};

use super::line;
use crate::session::{Session, Tail};

fn address(name: Option<SockaddrStorage>) -> String {
    let Some(name) = name else {
        return "unknown".into();
    };
    if let Some(v4) = name.as_sockaddr_in() {
        return format!("tcp:{}:{}", v4.ip(), v4.port());
    }
    if let Some(v6) = name.as_sockaddr_in6() {
        return format!("tcp6:[{}]:{}", v6.ip(), v6.port());
    }
    match name.as_unix_addr().and_then(|unix| unix.path()) {
        Some(path) => format!("unix:{}", path.display()),
        None => "unix:".into(),
    }
}

/// Whether a connection came over the unix socket.
#[must_use]
pub fn is_unix(fd: RawFd) -> bool {
    getsockname::<SockaddrStorage>(fd).is_ok_and(|name| name.as_unix_addr().is_some())
}

/// The lines of `stats conns` about one session of `worker`.
pub fn connection(session: &Session, idle_s: u32, text: &mut Vec<u8>) {
    let fd = session.fd;
    let out = &mut Tail(text);
    line(out, &format!("{fd}:addr"), address(getpeername(fd).ok()));
    line(
        out,
        &format!("{fd}:listen_addr"),
        address(getsockname(fd).ok()),
    );
    let state = if session.sending {
        "conn_mwrite"
    } else if session.carry.is_empty() {
        "conn_read"
    } else {
        "conn_nread"
    };
    line(out, &format!("{fd}:state"), state);
    line(out, &format!("{fd}:secs_since_last_cmd"), idle_s);
}
