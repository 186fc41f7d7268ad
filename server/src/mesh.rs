//! All the mailboxes between the workers, dealt out so that each worker holds the four ends it
//! shares with each peer.
//!
//! ```text
//!   worker A   --- visits --->     worker B
//!              <-- homecomings --
//! ```
//!
//! A visit takes a credit, and its homecoming returns it. There are as many credits as slots in
//! either mailbox, so that neither a visit with a credit nor any homecoming ever finds its
//! mailbox full. Commands of one session reach one shard in the order sent, because the mailbox
//! keeps order and there is only one.

use std::sync::Arc;

use crate::config::mailbox_slots;
use crate::io::Ringer;
use crate::mailbox::{Bell, Receiver, Sender, mailbox};
use crate::message::{Homecoming, Visit};

/// What wakes one worker.
#[derive(Clone)]
pub struct Waker {
    /// Whether it sleeps.
    pub bell: Arc<Bell>,
    /// What ends its wait.
    pub ringer: Arc<dyn Ringer>,
}

impl Waker {
    /// Wakes the worker if it sleeps; to be called after mail was published.
    #[inline]
    pub fn wake(&self) -> bool {
        let asleep = self.bell.must_ring();
        if asleep {
            self.ringer.ring();
        }
        asleep
    }
}

/// The ends of the four mailboxes one worker shares with one peer.
pub struct Peer {
    visits: Sender<Visit>,
    homecomings: Receiver<Homecoming>,
    /// Requests of the peer.
    pub visitors: Receiver<Visit>,
    /// Replies to the peer.
    pub replies: Sender<Homecoming>,
    credits: usize,
    capacity: usize,
    waker: Waker,
}

impl Peer {
    /// Visits that may be sent before one comes home.
    #[inline]
    #[must_use]
    pub fn credits(&self) -> usize {
        self.credits
    }

    /// Visits that have not come home.
    #[inline]
    #[must_use]
    pub fn visits_out(&self) -> usize {
        self.capacity - self.credits
    }

    /// Whether every visit has come home.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.credits == self.capacity
    }

    /// Sends a visit; the caller has looked at [`Peer::credits`].
    #[inline]
    pub fn visit(&mut self, fill: impl FnOnce(&mut Visit)) {
        assert!(self.credits > 0, "a visit without a credit");
        self.credits -= 1;
        let staged = self.visits.stage(fill);
        assert!(
            staged,
            "a visit found no slot with {} of {} credits left",
            self.credits, self.capacity
        );
    }

    /// Takes the next reply, if there is one, and its credit.
    #[inline]
    pub fn come_home<R>(&mut self, read: impl FnOnce(&mut Homecoming) -> R) -> Option<R> {
        let result = self.homecomings.take(read)?;
        self.credits += 1;
        Some(result)
    }

    /// Gives the slots of the replies taken back to the peer.
    #[inline]
    pub fn release_homecomings(&mut self) {
        self.homecomings.release();
    }

    /// Shows the peer what was staged for it and wakes it if it sleeps. True when it was woken.
    #[inline]
    pub fn publish(&mut self) -> bool {
        let visits = self.visits.publish();
        let replies = self.replies.publish();
        (visits || replies) && self.waker.wake()
    }

    /// Whether something of the peer's waits to be read.
    #[inline]
    pub fn has_mail(&mut self) -> bool {
        self.homecomings.has_mail() || self.visitors.has_mail()
    }
}

/// One worker's ends, by peer; its own place is empty. Boxed, because a worker takes a peer out of
/// its place while it serves it.
pub type Peers = Vec<Option<Box<Peer>>>;

/// Builds the mailboxes between workers that `wakers` wake, and deals them out.
#[must_use]
pub fn mesh(wakers: &[Waker]) -> Vec<Peers> {
    mesh_of(wakers, mailbox_slots(wakers.len()))
}

/// As [`mesh`], with mailboxes of `slots` slots.
#[must_use]
pub fn mesh_of(wakers: &[Waker], slots: usize) -> Vec<Peers> {
    let count = wakers.len();
    let mut all: Vec<Peers> = (0..count)
        .map(|_| (0..count).map(|_| None).collect())
        .collect();
    for low in 0..count {
        for high in low + 1..count {
            let (low_visits, high_visitors) = mailbox(slots);
            let (high_visits, low_visitors) = mailbox(slots);
            let (low_replies, high_homecomings) = mailbox(slots);
            let (high_replies, low_homecomings) = mailbox(slots);
            all[low][high] = Some(Box::new(Peer {
                visits: low_visits,
                homecomings: low_homecomings,
                visitors: low_visitors,
                replies: low_replies,
                credits: slots,
                capacity: slots,
                waker: wakers[high].clone(),
            }));
            all[high][low] = Some(Box::new(Peer {
                visits: high_visits,
                homecomings: high_homecomings,
                visitors: high_visitors,
                replies: high_replies,
                credits: slots,
                capacity: slots,
                waker: wakers[low].clone(),
            }));
        }
    }
    all
}
