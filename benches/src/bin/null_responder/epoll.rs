//! The floor of an epoll loop: one wait, then a `recv` and a `send` for each ready connection.
//!
//! Always true: interest in writability exists only while a connection is owed bytes.

use std::io;
use std::net::{TcpListener, TcpStream};

use rustix::event::epoll;

use crate::{CONNECTIONS_MAX, Debt, replies};

const LISTENER: u64 = u64::MAX;
const EVENTS_MAX: usize = 256;
const READ_BYTES: usize = 16 * 1024;

struct Connection {
    stream: TcpStream,
    debt: Debt,
    blocked: bool,
}

/// Serves until the process is ended.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    let replies = replies();
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    listener.set_nonblocking(true)?;
    let data = epoll::EventData::new_u64(LISTENER);
    epoll::add(&epoll, &listener, data, epoll::EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut ready = Vec::with_capacity(EVENTS_MAX);
    let mut read = vec![0; READ_BYTES];
    loop {
        ready.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut ready), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &ready {
            let token = event.data.u64();
            if token == LISTENER {
                accept(&listener, &epoll, &mut connections, &mut free)?;
                continue;
            }
            let index = token as usize;
            let Some(connection) = &mut connections[index] else {
                continue;
            };
            if !answer(connection, &epoll, token, &mut read, replies)? {
                connections[index] = None;
                free.push(index);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    epoll: &std::os::fd::OwnedFd,
    connections: &mut Vec<Option<Connection>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    let stream = match listener.accept() {
        Ok((stream, _)) => stream,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    let index = free.pop().unwrap_or(connections.len());
    if index == CONNECTIONS_MAX {
        return Ok(());
    }
    stream.set_nonblocking(true)?;
    let data = epoll::EventData::new_u64(index as u64);
    epoll::add(epoll, &stream, data, epoll::EventFlags::IN)?;
    let connection = Connection {
        stream,
        debt: Debt::default(),
        blocked: false,
    };
    if index == connections.len() {
        connections.push(Some(connection));
    } else {
        connections[index] = Some(connection);
    }
    Ok(())
}

/// Reads once and sends what is owed; `false` when the connection is over.
fn answer(
    connection: &mut Connection,
    epoll: &std::os::fd::OwnedFd,
    token: u64,
    read: &mut [u8],
    replies: &[u8],
) -> io::Result<bool> {
    let stream = &connection.stream;
    match rustix::net::recv(stream, &mut *read, rustix::net::RecvFlags::empty()) {
        Ok((0, _)) => return Ok(false),
        Ok((count, _)) => connection.debt.add(&read[..count]),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
        Err(_) => return Ok(false),
    }
    let mut blocked = false;
    while connection.debt.bytes > 0 && !blocked {
        let bytes = connection.debt.next(replies);
        match rustix::net::send(stream, bytes, rustix::net::SendFlags::NOSIGNAL) {
            Ok(count) => connection.debt.paid(count),
            Err(rustix::io::Errno::AGAIN) => blocked = true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return Ok(false),
        }
    }
    if blocked != connection.blocked {
        connection.blocked = blocked;
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, blocked);
        epoll::modify(epoll, stream, epoll::EventData::new_u64(token), flags)?;
    }
    Ok(true)
}
