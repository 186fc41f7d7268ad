//! `stats conns`: the listeners and the open connections, each told by the worker it lives on, in the
//! order of their descriptors.

use std::net::IpAddr;
use std::os::fd::RawFd;

use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};

use strata_protocol::reply::Sink;

use super::line;
use crate::session::{Role, Session, Tail};

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

/// Where a connection comes from; nothing of the unix socket.
#[must_use]
pub fn peer(fd: RawFd) -> Option<IpAddr> {
    let name = getpeername::<SockaddrStorage>(fd).ok()?;
    let v4 = name.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| name.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// Whether a connection came over the unix socket.
#[must_use]
pub fn is_unix(fd: RawFd) -> bool {
    getsockname::<SockaddrStorage>(fd).is_ok_and(|name| name.as_unix_addr().is_some())
}

/// The lines of `stats conns` about a listener, which has listened since the start.
pub fn listener(fd: RawFd, uptime_s: u32, text: &mut Vec<u8>) {
    let out = &mut Tail(text);
    line(out, &format!("{fd}:addr"), address(getsockname(fd).ok()));
    line(out, &format!("{fd}:state"), "conn_listening");
    line(out, &format!("{fd}:secs_since_last_cmd"), uptime_s);
}

/// The lines that the workers have told, those of a lower descriptor first.
pub(super) fn in_order(text: &[u8], out: &mut impl Sink) {
    let fd = |line: &&[u8]| {
        let behind = line.iter().skip("STAT ".len());
        behind
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0, |fd, digit| fd * 10 + u64::from(digit - b'0'))
    };
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort_by_key(fd);
    for line in lines {
        out.put(line);
    }
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
    let state = if matches!(session.role, Role::Watcher(_) | Role::Dump(_)) {
        "conn_watch"
    } else if session.sending {
        "conn_mwrite"
    } else if !session.replies.settled() {
        "conn_parse_cmd"
    } else if session.carry.is_empty() {
        "conn_read"
    } else {
        "conn_nread"
    };
    line(out, &format!("{fd}:state"), state);
    line(out, &format!("{fd}:secs_since_last_cmd"), idle_s);
}
