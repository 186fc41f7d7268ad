//! `lru_crawler metadump` and `mgdump`, all items as lines, and `stats sizes`, all items counted,
//! without stopping the service.
//!
//! The session asks one shard after the other for a slice of its table, each when the lines of the
//! one before have gone on their way, so it holds a bounded number of lines however slowly its
//! client reads, and a shard never works on more than one slice of it in a tick.
//!
//! Always true: lines come in one piece between `OK` and `END` (or `EN`); the client's next commands
//! wait until then. What a line says was true in the tick that wrote it. Sizes are as memcached counts
//! them, each item's as its slice met it.

use std::collections::BTreeMap;
use std::io::Write;

use strata_protocol::CrawlScope;
use strata_store::{Deadline, ScanPlace, Sight};

use super::*;
use crate::config::{DUMP_SLICE_BUCKETS, SIZE_STEP_BYTES};
use crate::observe::uri_encode;
use crate::session::{Dump, DumpForm, item_bytes};

/// The one class of items there is.
const ITEM_CLASS: u64 = 1;

impl Worker {
    /// Begins a dump, or says why not.
    pub(super) fn dump(&mut self, now: &Now, conn: ConnIndex, form: DumpForm, scope: CrawlScope) {
        let (refused, pipelined) = match form {
            DumpForm::Mg => (ClientError::MgdumpNotAllowed, ClientError::MgdumpPipelined),
            _ => (
                ClientError::MetadumpNotAllowed,
                ClientError::MetadumpPipelined,
            ),
        };
        let error = match scope {
            _ if !self.shared.process.settings.dump => Some(refused),
            _ if self.is_pipelined(conn) => Some(pipelined),
            CrawlScope::BadClass => Some(ClientError::CrawlerClass),
            _ => None,
        };
        if let Some(error) = error {
            self.answer(conn, error.wire());
            return;
        }
        let Some(turn) = self.shared.dump_turn.take(now.seconds) else {
            self.answer(conn, ClientError::CrawlerBusy.wire());
            return;
        };
        self.answer(conn, reply::OK);
        let nothing = matches!(scope, CrawlScope::Classes(bits) if bits & 1 << ITEM_CLASS == 0);
        let owner = if nothing { self.peers.len() } else { 0 };
        self.walk(conn, form, owner, Some(turn), None);
    }

    /// `stats sizes`, by a packet or by a line.
    pub(super) fn sizes(&mut self, conn: ConnIndex, packet: Option<Head>) {
        if self.shared.process.settings.track_sizes {
            self.walk(conn, DumpForm::Size, 0, None, packet);
        } else {
            self.write(conn, |out| {
                stats::figures(packet, stats::SIZES_DISABLED, out);
            });
        }
    }

    fn walk(
        &mut self,
        conn: ConnIndex,
        form: DumpForm,
        owner: usize,
        turn: Option<u64>,
        packet: Option<Head>,
    ) {
        self.sessions[conn as usize].role = Role::Dump(Box::new(Dump {
            form,
            turn,
            packet,
            sizes: BTreeMap::new(),
            owner,
            place: ScanPlace::default(),
            asked: false,
        }));
        self.look_at(conn);
    }

    /// Has a dump go on as far as its client reads.
    #[cold]
    pub(super) fn pump_dump(&mut self, now: &Now, conn: ConnIndex) {
        let session = &mut self.sessions[conn as usize];
        let Role::Dump(dump) = &session.role else {
            return;
        };
        let (owner, place, form) = (dump.owner, dump.place, dump.form);
        if let Some(turn) = dump.turn
            && !self.shared.dump_turn.go_on(turn, now.seconds)
        {
            session.role = Role::Client;
            session.draining = true;
            self.keeper.counters.dumps_cut += 1;
            return;
        }
        let scarce = self.reply_bytes >= REPLIES_MAX_BYTES && session.sending;
        if dump.asked || session.replies.out.len() >= OUT_HIGH_BYTES || scarce {
            return;
        }
        if owner == self.peers.len() {
            let Role::Dump(dump) = std::mem::take(&mut session.role) else {
                panic!("connection {conn} has no dump to end");
            };
            if let Some(turn) = dump.turn {
                self.shared.dump_turn.leave(turn);
            }
            match form {
                DumpForm::Meta => self.answer(conn, b"END\r\n"),
                DumpForm::Mg => self.answer(conn, b"EN\r\n"),
                DumpForm::Size => {
                    let lines = stats::sizes(&dump.sizes);
                    self.write(conn, |out| stats::figures(dump.packet, &lines, out));
                }
            }
            // What came meanwhile is read now.
            self.look_at(conn);
        } else if owner == self.index {
            let next = if form == DumpForm::Size {
                let mut sizes = Vec::new();
                let next = self.dump_slice(now, form, place, &mut sizes);
                self.count_sizes(conn, &sizes);
                next
            } else {
                let mut text = std::mem::take(&mut session.replies.out);
                let next = self.dump_slice(now, form, place, &mut text);
                self.sessions[conn as usize].replies.out = text;
                next
            };
            self.dump_went_on(conn, next);
        } else if self.peers[owner]
            .as_ref()
            .is_some_and(|peer| peer.credits() > 0)
        {
            if let Role::Dump(dump) = &mut session.role {
                dump.asked = true;
            }
            let ticket = self.ticket(conn);
            self.visit(owner, |visit| {
                visit.errand(ticket, Op::Scan { form, place })
            });
        } else {
            self.park(conn);
        }
    }

    /// Counts the sizes of a slice; false if the session wants its text instead.
    pub(super) fn count_sizes(&mut self, conn: ConnIndex, slice: &[u8]) -> bool {
        match &mut self.sessions[conn as usize].role {
            Role::Dump(dump) if dump.form == DumpForm::Size => {
                let (sizes, rest) = slice.as_chunks();
                assert!(rest.is_empty(), "{} bytes are no sizes", slice.len());
                for size in sizes {
                    *dump.sizes.entry(u32::from_le_bytes(*size)).or_default() += 1;
                }
                true
            }
            _ => false,
        }
    }

    /// A slice has been added to a dump's replies; `next` is where its shard goes on.
    pub(super) fn dump_went_on(&mut self, conn: ConnIndex, next: Option<ScanPlace>) {
        if let Role::Dump(dump) = &mut self.sessions[conn as usize].role {
            dump.asked = false;
            match next {
                Some(place) => dump.place = place,
                None => {
                    dump.owner += 1;
                    dump.place = ScanPlace::default();
                }
            }
            self.look_at(conn);
        }
    }

    /// The lines of the next slice of this worker's shard.
    pub(super) fn dump_slice(
        &self,
        now: &Now,
        form: DumpForm,
        place: ScanPlace,
        text: &mut Vec<u8>,
    ) -> Option<ScanPlace> {
        let shard = &self.keeper.shard;
        shard.scan(place, DUMP_SLICE_BUCKETS, now.seconds, |item| match form {
            DumpForm::Meta => meta_line(&item, now, self.shared.process.settings.cas, text),
            DumpForm::Mg => {
                text.extend_from_slice(b"mg ");
                text.extend_from_slice(item.key);
                text.extend_from_slice(b"\r\n");
            }
            DumpForm::Size => {
                let size = item_bytes(item.key.len(), item.value_bytes as u64, item.flags);
                let size = size.next_multiple_of(SIZE_STEP_BYTES) as u32;
                text.extend_from_slice(&size.to_le_bytes());
            }
        })
    }
}

/// What memcached says of an item, its size as memcached counts it. When it was last asked for is
/// as true as `mg` with `l` is.
fn meta_line(item: &Sight<'_>, now: &Now, cas: bool, text: &mut Vec<u8>) {
    text.extend_from_slice(b"key=");
    uri_encode(item.key, text);
    let _ = match item.deadline {
        Deadline::Never => write!(text, " exp=-1"),
        Deadline::At(at) => write!(text, " exp={}", now.unix_of(at)),
    };
    let fetched = if item.fetched { "yes" } else { "no" };
    let _ = writeln!(
        text,
        " la={} cas={} fetch={fetched} cls={ITEM_CLASS} size={} flags={} ",
        now.unix_of(item.accessed),
        if cas { item.unique } else { 0 },
        item_bytes(item.key.len(), item.value_bytes as u64, item.flags),
        item.flags
    );
}
