//! The short way of what most clients do most of the time: one get of one key, and nothing before it is
//! answered.
//!
//! ```text
//! receipts of a tick, of many connections:
//!   1 parse, hash         of each
//!   2 ask for the buckets of each
//!   3 ask for the item    of each
//!   4 answer              each, in their order
//! ```
//!
//! Each client asks for one key, so the lookups that overlap are those of different connections. Behind the
//! kernel's work for fifty replies little of the store is left in the near caches, and waits for memory, one
//! behind the other, were a third of what a get cost beside that work (perf/notes/ring-settings.md).
//!
//! Always true: a client is answered as on the long way (a turn, its settling, a look at the session), and
//! its requests are counted alike. Where a session is not at rest when its receipt's turn has come, the
//! lookup that has begun is dropped and the long way is taken; it alone knows all that a session can be in.
//! What the long way counts of a session that is held back, for want of room for replies or of a peer's
//! credit, is not counted of one that has nothing further to ask.

use super::*;
use crate::latency::Class;

/// Bytes of one connection that wait in a receive buffer.
#[derive(Debug)]
pub(super) struct Receipt {
    pub conn: ConnIndex,
    pub buffer: BufferId,
    pub len: u32,
}

/// Receipts whose lookups overlap.
pub(super) type Receipts = ArrayVec<Receipt, BATCH_MAX>;

/// A receipt that is one get of a key of ours.
pub(super) struct Lone<'a> {
    /// Which of the receipts.
    at: u8,
    with_cas: bool,
    key: &'a [u8],
    hash: KeyHash,
}

const _: () = assert!(BATCH_MAX <= u8::MAX as usize);

impl Worker {
    /// Takes what was received, in its order, which is that of each connection's bytes; none is left.
    #[inline]
    pub(super) fn take_receipts(&mut self, io: &mut impl Io, now: &Now, receipts: &mut Receipts) {
        if receipts.is_empty() {
            return;
        }
        self.read_receipts(io, now, receipts);
        for receipt in receipts.drain(..) {
            io.recycle(receipt.buffer);
        }
    }

    fn read_receipts(&mut self, io: &impl Io, now: &Now, receipts: &Receipts) {
        let mut lones = ArrayVec::<Lone<'_>, BATCH_MAX>::new();
        // Who watches sees every command on the long way.
        let ahead = if self.is_watched() { 0 } else { receipts.len() };
        for (at, receipt) in receipts.iter().take(ahead).enumerate() {
            let bytes = io.bytes(receipt.buffer, receipt.len);
            if let Some(lone) = self.lone(at as u8, receipt.conn, bytes) {
                lones.push(lone);
            }
        }
        let mut probes = ArrayVec::<Probe, BATCH_MAX>::new();
        for lone in &lones {
            probes.push(self.keeper.shard.prefetch_buckets(lone.hash));
        }
        if probes.len() > 1 {
            for probe in &probes {
                self.keeper.shard.prefetch_item(*probe);
            }
        }
        let mut lones = lones.iter().zip(&probes).peekable();
        for (at, receipt) in receipts.iter().enumerate() {
            self.keeper.counters.bytes_read += u64::from(receipt.len);
            let bytes = io.bytes(receipt.buffer, receipt.len);
            let lone = lones.next_if(|(lone, _)| usize::from(lone.at) == at);
            self.received(now, receipt.conn, bytes, lone);
        }
    }

    /// Whether somebody wants to see commands as they come.
    #[inline]
    fn is_watched(&self) -> bool {
        self.observer.on || self.observer.watches(WatchKinds::RAWCMDS)
    }

    /// What a session has received, if it looks like one get of a key of ours.
    #[inline(always)]
    fn lone<'a>(&self, at: u8, conn: ConnIndex, bytes: &'a [u8]) -> Option<Lone<'a>> {
        if bytes.len() > LITTLE_BYTES {
            return None;
        }
        let get = self.sessions[conn as usize].reader.lone_get(bytes)?;
        let hash = self.hasher.hash(get.key);
        (self.route.owner(hash, get.key) == self.index).then(|| Lone {
            at,
            with_cas: get.kind.wants_cas(),
            key: get.key,
            hash,
        })
    }

    /// Answers a get that came alone, unless its session is not at rest; true when that is done. Also while
    /// memory for replies is short: who rests may have one reply.
    #[inline]
    pub(super) fn lone_get(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        bytes: usize,
        lone: &Lone<'_>,
        probe: Probe,
    ) -> bool {
        let session = &self.sessions[conn as usize];
        let busy = !session.rests() || !session.reader.begins_a_line();
        if busy || self.is_watched() {
            return false;
        }
        let session = &mut self.sessions[conn as usize];
        session.asked_s = now.seconds.0;
        self.furnish_ready(conn);
        if let Some(hot_keys) = &mut self.hot_keys
            && !hot_keys.pass(1)
        {
            self.sample_keys(now, 1, |_| (Some(lone.key), false));
        }
        self.keeper.counters.commands_local += 1;
        // Not by `get_here`: called from two places it is inlined in neither, and every get of a pipeline pays
        // for the call.
        let (keeper, session) = (&mut self.keeper, &mut self.sessions[conn as usize]);
        let out = &mut Tail(&mut session.replies.out);
        let outcome = keeper.get(now, probe, lone.key, lone.with_cas, true, out);
        match outcome {
            Outcome::Done => self.timing.count_answered(Class::Get),
            Outcome::Lent(lent) => {
                session.replies.lend(Stream::new(self.index, lent));
                self.timing.count(Class::Get, 1);
                self.turned(now, conn, bytes, 0, Pause::Empty);
            }
        }
        self.count_replies(conn);
        self.look_at(conn);
        true
    }

    /// Sends the ready replies of a session that has nothing else to do.
    #[inline]
    pub(super) fn sends_only(&mut self, io: &mut impl Io, conn: ConnIndex) -> bool {
        let session = &mut self.sessions[conn as usize];
        if session.replies.out.is_empty() || !session.is_at_ease() {
            return false;
        }
        let bytes = std::mem::take(&mut session.replies.out);
        session.sending = true;
        // What it holds is as much as before, so the worker's sum of it stands.
        session.sending_bytes = bytes.capacity();
        io.send(conn, bytes);
        true
    }
}
