//! One client connection without its socket: bytes in, ordered reply slots out.
//!
//! `reader` turns received bytes into [`Intent`]s, `replies` keeps the replies in the order of the
//! requests; what else belongs to a connection is here. A session never sees a shard.

mod reader;
mod replies;

use std::collections::BTreeMap;
use std::mem::offset_of;
use std::os::fd::RawFd;
use std::sync::Arc;

use strata_protocol::WatchKinds;
use strata_protocol::auth::Door;
use strata_protocol::binary::Head;
use strata_store::ScanPlace;

use crate::access::Rights;
use crate::latency::waiting::WaitIndex;

pub use reader::{Intake, IntakeLimits, Intent, Reader, item_bytes};
pub use replies::{Replies, Slot, Stream, Tail};

/// What a connection is for.
#[derive(Debug, Default)]
pub enum Role {
    /// Requests and replies.
    #[default]
    Client,
    /// It has not said yet who it is, and a password is asked for.
    Stranger(Door),
    /// It has said who it is, and that is being checked; what it says meanwhile waits.
    Guest(Door),
    /// A client that may not do everything.
    Limited(Arc<Rights>),
    /// It gets lines about what happens, and is not listened to.
    Watcher(Watcher),
    /// It gets all items as lines; its next request waits.
    Dump(Box<Dump>),
}

/// A connection that watches.
#[derive(Debug, Default)]
pub struct Watcher {
    /// What it is told of; nothing until every worker knows of it.
    pub kinds: WatchKinds,
    /// Lines it has lost since it last got one.
    pub skipped: u64,
}

/// What a walk through all items tells of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpForm {
    /// What is known of it.
    Meta,
    /// A command that fetches it.
    Mg,
    /// How large it is, four bytes that are counted and not sent.
    Size,
}

/// How far a walk through all items has come.
#[derive(Debug)]
pub struct Dump {
    /// What is told.
    pub form: DumpForm,
    /// The number of its turn, if it is one of those that go on one at a time.
    pub turn: Option<u64>,
    /// The packet that asked, if one did.
    pub packet: Option<Head>,
    /// Of the sizes met so far, rounded up to [`SIZE_STEP_BYTES`](crate::config::SIZE_STEP_BYTES),
    /// how many items have them. No more of them than sizes that an item can have.
    pub sizes: BTreeMap<u32, u64>,
    /// The worker whose shard is walked; behind the last one it is done.
    pub owner: usize,
    /// Where the next slice begins.
    pub place: ScanPlace,
    /// Whether another worker has been asked for it.
    pub asked: bool,
}

/// One client connection.
///
/// What every request touches comes first, so that it is four cache lines however many connections
/// there are; the compiler's own order spreads it over all of a session, across the bounds of lines.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct Session {
    /// Which use of this index it is; replies to an earlier one are dropped.
    pub generation: u32,
    /// When it last sent something, in seconds on the server's clock.
    pub active_s: u32,
    /// When it last made a request.
    pub asked_s: u32,
    /// The number of its descriptor, which names it in `stats conns`.
    pub fd: RawFd,
    /// Whether the index is in use.
    pub open: bool,
    /// The back end is sending a buffer of this session.
    pub sending: bool,
    /// The back end was asked to stop receiving.
    pub paused: bool,
    /// The client will send no more.
    pub ended: bool,
    /// No further request is read; the session closes when its replies are sent.
    pub draining: bool,
    /// The back end is closing the connection.
    pub closing: bool,
    /// It is in the worker's list of sessions to look at.
    pub queued: bool,
    /// It is in the worker's list of sessions that wait for a credit of a peer.
    pub parked: bool,
    /// It waits for a credit of a peer, or has used up its share of this tick.
    pub held_back: bool,
    /// Its ready replies wait for those behind them that other workers make.
    pub holding: bool,
    /// It is in the worker's list of sessions that have held replies.
    pub held_listed: bool,
    /// It has held replies for long enough: they go with the next look at it.
    pub let_out: bool,
    /// It has waited for a credit of a peer and has its share of them in this tick.
    pub let_on: bool,
    /// What it sent last was little.
    pub little: bool,
    /// What it sent last was the end of a large value.
    pub ended_large: bool,
    /// Ticks since the server began to stop in which nothing of it has arrived.
    pub quiet_ticks: u8,
    /// Since when its requests wait, of those that do.
    pub wait: WaitIndex,
    /// Received bytes that no intent has used yet.
    pub carry: Vec<u8>,
    /// Replies in order.
    pub replies: Replies,
    /// Bytes to intents.
    pub reader: Reader,
    /// What it is for.
    pub role: Role,
    /// Room that the buffer takes that is being sent.
    pub sending_bytes: usize,
    /// Its part of the worker's sum of reply bytes.
    pub counted_bytes: usize,
    /// Its part of the worker's sum of waiting input.
    pub counted_carry_bytes: usize,
    /// The number of its large value that is in the worker's list of those.
    pub listed_intake: Option<u32>,
    /// Bytes that have arrived since the server began to stop.
    pub late_bytes: usize,
    /// Why it ends, as a watcher is told; an error unless something else is known.
    pub ends_for: Option<&'static str>,
}

const _: () = assert!(offset_of!(Session, listed_intake) <= 4 * 64);

impl Session {
    /// Whether it has nothing to do until more of it arrives; asked when a send is done, and then
    /// that is so of every client that waits for its replies.
    #[inline]
    #[must_use]
    pub fn rests(&self) -> bool {
        self.replies.out.is_empty() && self.is_at_ease()
    }

    /// Whether it has nothing to do but to send the replies that are ready, if there are any: no input
    /// waits, no reply is being made or sent, and it holds nothing that others could use meanwhile.
    #[inline]
    #[must_use]
    pub fn is_at_ease(&self) -> bool {
        let goes_on = self.sending | self.paused | self.ended | self.draining | self.closing;
        let is_apart = self.held_back | self.holding | self.let_out;
        !(goes_on | is_apart)
            && self.carry.capacity() == 0
            && self.replies.is_bare()
            && self.wait.is_none()
            && matches!(self.role, Role::Client)
    }
}
