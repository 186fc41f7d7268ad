//! Watchers: connections that have become a stream of what happens on all workers.
//!
//! Always true: a watcher that reads too slowly loses lines and is told how many before the next one
//! it gets; it holds [`watcher_log_bytes`](crate::config::Settings::watcher_log_bytes) at most, and
//! as much again on its way. A worker that has no credit for the way to a watcher loses the lines
//! too, and tells so with the next ones that go that way, and on no other. Standard error is one more
//! way, whose writer has room for so many batches.

use std::io::Write;

use nix::sys::socket::{SockaddrStorage, getpeername};
use strata_protocol::WatchKinds;

use super::*;
use crate::config::{EVICTIONS_NOTED_MAX, WATCHERS_MAX};
use crate::observe::{Peer as Remote, add_lost, lines_of, lost_of};
use crate::session::Watcher;

impl Worker {
    /// Sees once a tick what is watched now.
    #[inline]
    pub(super) fn look_for_watchers(&mut self, now: &Now) {
        if self.observer.kinds != WatchKinds::NONE {
            self.watched_at = Some(*now);
        }
        let epoch = self.shared.watch.epoch();
        if epoch != self.watch_epoch {
            self.watch_epoch = epoch;
            self.follow_watchers();
            self.watched_at = Some(*now);
        }
    }

    #[cold]
    fn follow_watchers(&mut self) {
        let observer = &mut self.observer;
        observer.kinds = self.shared.watch.kinds();
        observer.count_prefixes = self.shared.watch.prefixes();
        let of_commands = WatchKinds::FETCHERS
            .and(WatchKinds::MUTATIONS)
            .and(WatchKinds::DELETIONS);
        observer.on = observer.count_prefixes || observer.watches(of_commands);
        let evictions = observer.watches(WatchKinds::EVICTIONS);
        let room = if evictions { EVICTIONS_NOTED_MAX } else { 0 };
        self.keeper.shard.watch_evictions(room);
    }

    /// Begins to turn a session into a watcher, once every worker has heard of it.
    pub(super) fn watch(&mut self, now: &Now, conn: ConnIndex, kinds: WatchKinds) {
        if !self.shared.process.settings.watch {
            self.answer(conn, ClientError::WatchNotAllowed.wire());
        } else if kinds.meets(WatchKinds::HOTKEYS) && self.hot_keys.is_none() {
            self.answer(conn, ClientError::HotkeysOff.wire());
        } else if self.is_pipelined(conn) {
            self.answer(conn, ClientError::WatchPipelined.wire());
        } else if !self.shared.watch.enter(WATCHERS_MAX) {
            self.answer(conn, ClientError::WatchersMany.wire());
        } else {
            self.sessions[conn as usize].role = Role::Watcher(Watcher::default());
            self.watchers.push((conn, kinds));
            self.tell_what_is_watched();
            self.ask_all(now, conn, Op::Attend, Question::Watch(kinds));
        }
    }

    /// Whether replies to earlier commands have not left yet.
    pub(super) fn is_pipelined(&self, conn: ConnIndex) -> bool {
        let replies = &self.sessions[conn as usize].replies;
        !replies.out.is_empty() || !replies.settled()
    }

    /// Every worker has heard of a watcher: from now on it gets lines.
    pub(super) fn watcher_ready(&mut self, conn: ConnIndex, kinds: WatchKinds) {
        if let Role::Watcher(watcher) = &mut self.sessions[conn as usize].role {
            watcher.kinds = kinds;
        }
    }

    /// A session is gone that was a watcher.
    pub(super) fn watcher_gone(&mut self, conn: ConnIndex) {
        self.watchers.retain(|(watcher, _)| *watcher != conn);
        self.shared.watch.leave();
        self.tell_what_is_watched();
    }

    fn tell_what_is_watched(&self) {
        let kinds = self.watchers.iter().map(|(_, kinds)| *kinds);
        let kinds = kinds.fold(WatchKinds::NONE, WatchKinds::and);
        self.shared.watch.set_kinds(self.index, kinds);
    }

    /// Sends the lines of this tick to where watchers are.
    #[inline]
    pub(super) fn send_log(&mut self, now: &Now) {
        if self.observer.kinds != WatchKinds::NONE {
            self.send_log_now(now);
        }
    }

    #[cold]
    fn send_log_now(&mut self, now: &Now) {
        let observer = &mut self.observer;
        if observer.watches(WatchKinds::EVICTIONS) {
            let shard = &mut self.keeper.shard;
            let missed = shard.take_evictions(|item| observer.evicted(now, item));
            observer.lost(missed);
        }
        if observer.watches(WatchKinds::HOTKEYS) {
            self.tell_hot_keys(now);
        }
        let observer = &mut self.observer;
        if observer.log.is_empty() {
            return;
        }
        let (batch, kinds, written, lost) = observer.log.take();
        self.keeper.counters.log_worker_written += written;
        self.keeper.counters.log_worker_dropped += lost;
        let all = |kinds| {
            if lost > 0 {
                WatchKinds::from_bits(u16::MAX)
            } else {
                kinds
            }
        };
        for worker in 0..self.peers.len() {
            let watched = self.shared.watch.kinds_of(worker);
            if watched == WatchKinds::NONE {
                self.lines_kept_back[worker] = 0;
            }
            if !watched.meets(all(kinds)) {
                continue;
            }
            match &mut self.peers[worker] {
                None => self.deliver(&batch),
                Some(peer) if peer.credits() > 0 => {
                    self.keeper.counters.visits_sent += 1;
                    let mut batch = batch.clone();
                    add_lost(
                        &mut batch,
                        std::mem::take(&mut self.lines_kept_back[worker]),
                    );
                    peer.visit(|visit| {
                        visit.errand(Ticket::NOBODY, Op::Lines);
                        visit.parcel.adopt(batch);
                    });
                }
                Some(_) => {
                    self.keeper.counters.log_worker_dropped += written;
                    self.lines_kept_back[worker] += written + lost;
                }
            }
        }
        let wanted = self.shared.watch.stderr_kinds();
        if wanted == WatchKinds::NONE {
            self.lines_not_said = 0;
        }
        if wanted.meets(all(kinds)) {
            let mut batch = batch;
            add_lost(&mut batch, self.lines_not_said);
            let said = self.stderr.as_mut();
            if said.is_some_and(|stderr| stderr.send(batch).is_ok()) {
                self.lines_not_said = 0;
            } else {
                self.keeper.counters.log_worker_dropped += written;
                self.lines_not_said += written + lost;
            }
        }
    }

    /// Gives lines to the watchers of this worker.
    pub(super) fn deliver(&mut self, batch: &[u8]) {
        let most = self.shared.process.settings.watcher_log_bytes;
        let lost = lost_of(batch);
        for at in 0..self.watchers.len() {
            let (conn, _) = self.watchers[at];
            let session = &mut self.sessions[conn as usize];
            let Role::Watcher(watcher) = &mut session.role else {
                panic!("connection {conn} is no watcher");
            };
            if watcher.kinds == WatchKinds::NONE {
                continue;
            }
            watcher.skipped += lost;
            let out = &mut session.replies.out;
            for (kinds, line) in lines_of(batch) {
                if !watcher.kinds.meets(kinds) {
                    continue;
                }
                if out.len() + line.len() > most {
                    watcher.skipped += 1;
                    self.keeper.counters.log_watcher_skipped += 1;
                    continue;
                }
                if watcher.skipped > 0 {
                    let _ = writeln!(out, "skipped={}", watcher.skipped);
                    watcher.skipped = 0;
                }
                out.extend_from_slice(line);
                self.keeper.counters.log_watcher_sent += 1;
            }
            self.count_replies(conn);
            self.look_at(conn);
        }
    }

    /// Tells of a connection that begins, or ends for a reason.
    #[cold]
    pub(super) fn observe_connection(&mut self, conn: ConnIndex, ended: Option<&str>) {
        let fd = self.sessions[conn as usize].fd;
        if let Some(now) = self.watched_at {
            self.observer.connection(&now, fd, &remote_of(fd), ended);
        }
    }
}

fn remote_of(fd: std::os::fd::RawFd) -> Remote {
    let Ok(name) = getpeername::<SockaddrStorage>(fd) else {
        return Remote {
            ip: "unknown".into(),
            port: 0,
        };
    };
    if let Some(v4) = name.as_sockaddr_in() {
        return Remote {
            ip: v4.ip().to_string(),
            port: v4.port(),
        };
    }
    match name.as_sockaddr_in6() {
        Some(v6) => Remote {
            ip: v6.ip().to_string(),
            port: v6.port(),
        },
        None => Remote {
            ip: "unix".into(),
            port: 0,
        },
    }
}
