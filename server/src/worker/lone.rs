//! The short way of what most clients do most of the time: one get of one key, and nothing before it is
//! answered.
//!
//! Always true: what is done here is what a turn, its settling and a look at the session would do for the
//! same bytes. Where one of them would do anything else the answer is false, nothing has been done, and
//! the long way is taken; it alone knows all that a session can be in. At one request in flight on each
//! connection the long way has a third more instructions for each get (perf/notes/ring-settings.md).

use super::*;
use crate::latency::Class;
use crate::worker::requests::Planned;

impl Worker {
    /// Answers a receipt that is one get of a key of ours, from a session that waits for nothing.
    #[inline]
    pub(super) fn lone_get(&mut self, now: &Now, conn: ConnIndex, bytes: &[u8]) -> bool {
        let session = &mut self.sessions[conn as usize];
        let watched = self.observer.on || self.observer.watches(WatchKinds::RAWCMDS);
        let crowded = self.reply_bytes >= REPLIES_MAX_BYTES;
        if !session.rests() || watched || crowded || self.stopping {
            return false;
        }
        let Some(get) = session.reader.lone_get(bytes) else {
            return false;
        };
        let hash = self.hasher.hash(get.key);
        if self.route.owner(hash, get.key) != self.index {
            return false;
        }
        session.asked_s = now.seconds.0;
        let probe = self.keeper.shard.prefetch_buckets(hash);
        self.furnish_ready(conn);
        if let Some(hot_keys) = &mut self.hot_keys
            && !hot_keys.pass(1)
        {
            self.sample_keys(now, &[Planned::Get(get, probe)]);
        }
        self.keeper.counters.commands_local += 1;
        // Not by `get_here`: called from two places it is inlined in neither, and every get of a pipeline pays
        // for the call.
        let (keeper, session) = (&mut self.keeper, &mut self.sessions[conn as usize]);
        let out = &mut Tail(&mut session.replies.out);
        let outcome = keeper.get(now, probe, get.key, get.kind.wants_cas(), true, out);
        self.lend_if_asked(conn, outcome);
        self.timing.count(Class::Get, 1);
        // A value that is lent is not answered yet.
        self.turned(now, conn, bytes.len(), 0, Pause::Empty);
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
