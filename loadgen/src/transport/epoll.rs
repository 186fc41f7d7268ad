//! The plain transport: one epoll instance, one `recv` and one `send` call per ready connection.
//!
//! Always true: sockets do not block; interest in writability exists only while a send is
//! unfinished.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{Events, Transport};

/// Bytes read from one connection in one call.
const READ_BYTES: usize = 64 * 1024;

/// Connections looked at in one turn.
const EVENTS_MAX: usize = 256;

struct Socket {
    fd: Option<OwnedFd>,
    /// What a send could not take, and how much of it has gone since.
    left: Vec<u8>,
    at: usize,
    /// A send has failed; reported with the next turn.
    error: Option<io::Error>,
}

/// Sockets behind one epoll instance.
pub struct Epoll {
    epoll: OwnedFd,
    sockets: Vec<Socket>,
    ready: Vec<epoll::Event>,
    read: Vec<u8>,
    failed: Vec<usize>,
}

impl Epoll {
    fn interest(&self, connection: usize, flags: epoll::EventFlags) {
        if let Some(fd) = &self.sockets[connection].fd {
            // The descriptor is registered for as long as it is open, so this can only fail for
            // want of kernel memory; the connection then stalls and the run says so.
            let _ = epoll::modify(
                &self.epoll,
                fd,
                epoll::EventData::new_u64(connection as u64),
                flags,
            );
        }
    }

    /// Sends what is left; `true` when all of it has gone.
    fn push(socket: &mut Socket) -> io::Result<bool> {
        let Some(fd) = &socket.fd else {
            return Ok(true);
        };
        while socket.at < socket.left.len() {
            match send(fd, &socket.left[socket.at..], SendFlags::NOSIGNAL) {
                Ok(count) => socket.at += count,
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        socket.left.clear();
        socket.at = 0;
        Ok(true)
    }
}

impl Transport for Epoll {
    type Setup = ();

    fn new(sockets: Vec<OwnedFd>, (): &()) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (connection, fd) in sockets.iter().enumerate() {
            rustix::io::ioctl_fionbio(fd, true)?;
            epoll::add(
                &epoll,
                fd,
                epoll::EventData::new_u64(connection as u64),
                epoll::EventFlags::IN,
            )?;
        }
        Ok(Self {
            epoll,
            sockets: sockets
                .into_iter()
                .map(|fd| Socket {
                    fd: Some(fd),
                    left: Vec::new(),
                    at: 0,
                    error: None,
                })
                .collect(),
            ready: Vec::with_capacity(EVENTS_MAX),
            read: Vec::with_capacity(READ_BYTES),
            failed: Vec::new(),
        })
    }

    fn send(&mut self, connection: usize, bytes: &mut Vec<u8>) -> bool {
        let socket = &mut self.sockets[connection];
        if socket.fd.is_none() {
            bytes.clear();
            return true;
        }
        if !socket.left.is_empty() {
            return false;
        }
        std::mem::swap(&mut socket.left, bytes);
        match Self::push(socket) {
            Ok(true) => {}
            Ok(false) => self.interest(connection, epoll::EventFlags::IN | epoll::EventFlags::OUT),
            Err(error) => {
                socket.error = Some(error);
                self.failed.push(connection);
            }
        }
        true
    }

    fn flush(&mut self) -> io::Result<()> {
        // `send` already has.
        Ok(())
    }

    fn turn(&mut self, wait: Option<Duration>, events: &mut impl Events) -> io::Result<usize> {
        for connection in std::mem::take(&mut self.failed) {
            let error = self.sockets[connection].error.take();
            if self.sockets[connection].fd.is_some() {
                self.close(connection);
                events.closed(connection, error);
            }
        }
        let wait = wait.unwrap_or(Duration::ZERO);
        let timeout = Timespec {
            tv_sec: wait.as_secs() as _,
            tv_nsec: wait.subsec_nanos() as _,
        };
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&timeout)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        for index in 0..self.ready.len() {
            let event = self.ready[index];
            let flags = event.flags;
            let connection = event.data.u64() as usize;
            if flags.contains(epoll::EventFlags::OUT) {
                match Self::push(&mut self.sockets[connection]) {
                    Ok(true) => {
                        self.interest(connection, epoll::EventFlags::IN);
                        events.sent(connection);
                    }
                    Ok(false) => {}
                    Err(error) => {
                        self.close(connection);
                        events.closed(connection, Some(error));
                        continue;
                    }
                }
            }
            let Some(fd) = &self.sockets[connection].fd else {
                continue;
            };
            self.read.clear();
            match recv(fd, spare_capacity(&mut self.read), RecvFlags::empty()) {
                Ok((0, _)) => {
                    self.close(connection);
                    events.closed(connection, None);
                }
                Ok(_) => events.received(connection, &self.read),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => {
                    self.close(connection);
                    events.closed(connection, Some(error.into()));
                }
            }
        }
        Ok(self.ready.len())
    }

    fn is_sending(&self, connection: usize) -> bool {
        !self.sockets[connection].left.is_empty()
    }

    fn replace(&mut self, connection: usize, socket: OwnedFd) -> io::Result<()> {
        assert!(
            !self.is_sending(connection),
            "connection {connection} is sending"
        );
        // Closing the old one also takes it out of the instance.
        self.close(connection);
        rustix::io::ioctl_fionbio(&socket, true)?;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(connection as u64),
            epoll::EventFlags::IN,
        )?;
        self.sockets[connection].fd = Some(socket);
        Ok(())
    }

    fn close(&mut self, connection: usize) {
        let socket = &mut self.sockets[connection];
        socket.fd = None;
        socket.left.clear();
        socket.at = 0;
    }
}
