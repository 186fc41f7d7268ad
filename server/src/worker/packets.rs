//! Packets of the binary protocol: those that need no shard, and what of the others is this side's.
//!
//! A packet about a key goes to the key's owner as one operation, [`Op::Packet`], and comes back as
//! the bytes of its reply, none if it is quiet and ends as expected. So nothing of the protocol is
//! remembered here while it travels.

use strata_protocol::binary::{Command, Request, Status, reply};

use super::*;

impl Worker {
    /// Carries out one packet.
    pub(super) fn packet(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        hash: KeyHash,
        request: Request<'_>,
        value: &[u8],
    ) {
        let (head, quiet) = (request.head, request.quiet);
        match request.command {
            Command::Noop => self.write(conn, |out| reply::success(out, head, 0)),
            Command::Version => {
                self.write(conn, |out| {
                    reply::text(out, head, stats::VERSION.as_bytes())
                });
            }
            Command::Quit if quiet => {}
            Command::Quit => self.write(conn, |out| reply::success(out, head, 0)),
            Command::Flush if !self.shared.process.settings.flush => {
                self.write(conn, |out| reply::refusal(out, head, Status::Refused));
            }
            Command::Flush => {
                self.keeper.counters.cmd_flush += 1;
                let at = now.flush_at(request.exptime());
                let text = if quiet {
                    b""
                } else {
                    ::strata_protocol::reply::OK
                };
                self.ask_all_for(
                    now,
                    conn,
                    Op::Flush { at },
                    Question::Done(text),
                    Some(head),
                );
            }
            Command::Stat => self.stat_packet(now, conn, head, request.key()),
            command => {
                let op = Op::Packet {
                    head,
                    cas: request.cas,
                    flags: request.flags(),
                    deadline: now.deadline(request.exptime()),
                };
                let value = match command.arith_verb() {
                    Some(_) => request.extras(),
                    None => value,
                };
                self.command(now, conn, op, hash, request.key(), value, quiet);
            }
        }
    }

    /// Answers a packet that cannot be carried out.
    #[cold]
    pub(super) fn refuse_packet(&mut self, conn: ConnIndex, head: Head, status: Status) {
        self.write(conn, |out| reply::refusal(out, head, status));
    }

    /// Has the key's owner refuse a packet whose value is not taken: a failing Set leaves no stale
    /// value behind.
    #[cold]
    pub(super) fn refuse_value(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        hash: KeyHash,
        head: Head,
        key: &[u8],
        too_large: bool,
    ) {
        let op = Op::RefusePacket { head, too_large };
        self.command(now, conn, op, hash, key, &[], false);
    }

    /// Statistics by their name, which is memcached's for this protocol: not all of those that the
    /// text protocol has. Of three of them the beginning of what is asked is enough.
    fn stat_packet(&mut self, now: &Now, conn: ConnIndex, head: Head, subject: &[u8]) {
        let (op, question) = match subject {
            b"" => (Op::Snapshot, Question::General),
            b"items" => (Op::Snapshot, Question::Items),
            b"slabs" => (Op::Snapshot, Question::Slabs),
            b"workers" => (Op::Snapshot, Question::Workers),
            b"latency" => (Op::Snapshot, Question::Latency),
            b"sizes" => return self.sizes(conn, Some(head)),
            _ if subject.starts_with(b"detail") && self.shared.process.settings.dump => {
                let behind = &subject[b"detail".len()..];
                if behind.starts_with(b" dump") {
                    (Op::Tell(Topic::Prefixes), Question::Prefixes)
                } else if behind.starts_with(b" on") || behind.starts_with(b" off") {
                    self.shared.watch.set_prefixes(behind.starts_with(b" on"));
                    let done = Question::Done(::strata_protocol::reply::OK);
                    (Op::Attend, done)
                } else {
                    return self.refuse_packet(conn, head, Status::NotFound);
                }
            }
            _ if subject.starts_with(b"reset") => (
                Op::ResetStats,
                Question::Done(::strata_protocol::reply::RESET),
            ),
            _ => {
                let mut lines = Vec::new();
                if subject.starts_with(b"settings") {
                    stats::settings(&self.shared, &mut Tail(&mut lines));
                }
                self.write(conn, |out| {
                    if lines.is_empty() {
                        reply::refusal(out, head, Status::NotFound);
                    } else {
                        stats::packets(head, &lines, out);
                    }
                });
                return;
            }
        };
        self.ask_all_for(now, conn, op, question, Some(head));
    }
}
