//! Queues between workers and threads that give way to them, in which nobody waits for anybody.
//!
//! ```text
//!   worker 0     -- Lane: one mailbox --\
//!   worker 1     -- Lane: one mailbox ----> Inbox: one thread, asleep while all are empty
//!   other threads - Mutex<Lane> --------/
//!
//!   other threads - Mutex<Lane> ----------> Lanes: a worker, whose bell is rung
//! ```
//!
//! A thread of lower class ([`crate::background`]) may lose its core at any instruction, and while a worker on
//! that core is awake it does not get it back. Channels for many senders have places that are taken first and
//! filled afterwards; who meets one in between spins until it is filled, and a worker that spins keeps the core
//! from just the thread it waits for (perf/notes/tls.md). A [mailbox](crate::mailbox) has one writer, who shows a
//! message when it is whole, and one reader, who gives a slot back when it is empty: whatever the other end
//! was about to do, this one finds a queue as it was before.
//!
//! Always true: no end of a lane waits for the other; a message is in its lane before its receiver is rung,
//! so nobody sleeps on one; messages of one lane keep their order. Where threads share an end they lock it,
//! and no worker is among them.

use std::sync::OnceLock;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, Thread};
use std::time::Instant;

use crate::io::Ringer;
use crate::mailbox::{Receiver, Sender, mailbox};
use crate::sync::{Arc, AtomicUsize, Ordering, fence};

/// Whoever is rung, as the mesh shares it.
type Bell = std::sync::Arc<dyn Ringer>;

/// The end that sends.
pub struct Lane<T> {
    mail: Sender<Option<T>>,
    bell: Bell,
    /// How many lanes the receiver has that may still bring something.
    open: Arc<AtomicUsize>,
}

impl<T> Lane<T> {
    /// Sends a message and rings the receiver.
    ///
    /// # Errors
    /// The message, when the lane is full.
    pub fn send(&mut self, message: T) -> Result<(), T> {
        let mut message = Some(message);
        // What is taken leaves nothing behind, so a free slot has nothing in it.
        self.mail.stage(|slot| std::mem::swap(slot, &mut message));
        if let Some(message) = message {
            return Err(message);
        }
        self.mail.publish();
        self.bell.ring();
        Ok(())
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Release);
        self.bell.ring();
    }
}

/// The end that receives, of any number of lanes.
pub struct Lanes<T> {
    mails: Box<[Receiver<Option<T>>]>,
    /// The lane to be looked at first, so that none is passed over for long.
    next: usize,
    open: Arc<AtomicUsize>,
}

/// So many lanes of so many slots each, a power of two, to one receiver that `bell` wakes.
#[must_use]
pub fn lanes<T: Send>(count: usize, slots: usize, bell: &Bell) -> (Vec<Lane<T>>, Lanes<T>) {
    let open = Arc::new(AtomicUsize::new(count));
    let pairs = (0..count).map(|_| {
        let (mail, mails) = mailbox(slots);
        let lane = Lane {
            mail,
            bell: Bell::clone(bell),
            open: Arc::clone(&open),
        };
        (lane, mails)
    });
    let (senders, mails): (Vec<_>, Vec<_>) = pairs.unzip();
    let receiver = Lanes {
        mails: mails.into(),
        next: 0,
        open,
    };
    (senders, receiver)
}

/// One lane.
///
/// # Panics
/// Never: one of one is there.
#[must_use]
pub fn lane<T: Send>(slots: usize, bell: &Bell) -> (Lane<T>, Lanes<T>) {
    let (mut senders, receiver) = lanes(1, slots, bell);
    (senders.pop().expect("one"), receiver)
}

impl<T> Lanes<T> {
    /// The next message, if there is one.
    pub fn take(&mut self) -> Option<T> {
        let count = self.mails.len();
        for _ in 0..count {
            let mail = &mut self.mails[self.next];
            self.next = (self.next + 1) % count;
            if let Some(message) = mail.take(Option::take) {
                mail.release();
                return message;
            }
        }
        None
    }

    /// How many messages wait.
    pub fn waiting(&mut self) -> usize {
        self.mails.iter_mut().map(Receiver::waiting).sum()
    }

    /// Whether nobody is left who could send; what was sent before is there then.
    fn is_deserted(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }
}

/// Wakes a thread that says who it is when it begins to receive.
#[derive(Default)]
struct Sleeper(OnceLock<Thread>);

impl Ringer for Sleeper {
    fn ring(&self) {
        // The message before the look at the name, as in `receive` the name before the look for messages:
        // one of the two sees the other.
        fence(Ordering::SeqCst);
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

/// Lanes to one thread, which sleeps while they are empty.
pub struct Inbox<T> {
    lanes: Lanes<T>,
    sleeper: std::sync::Arc<Sleeper>,
}

/// So many lanes of so many slots each, a power of two, to a thread.
#[must_use]
pub fn inbox<T: Send>(count: usize, slots: usize) -> (Vec<Lane<T>>, Inbox<T>) {
    let sleeper = std::sync::Arc::new(Sleeper::default());
    let bell: Bell = std::sync::Arc::clone(&sleeper) as Bell;
    let (senders, lanes) = lanes(count, slots, &bell);
    (senders, Inbox { lanes, sleeper })
}

impl<T> Inbox<T> {
    /// The next message; sleeps until there is one, or until a moment. All calls come from one thread.
    ///
    /// # Errors
    /// When there was none, or when none will come any more.
    pub fn receive(&mut self, until: Option<Instant>) -> Result<T, RecvTimeoutError> {
        let thread = self.sleeper.0.get_or_init(thread::current);
        debug_assert_eq!(
            thread.id(),
            thread::current().id(),
            "another thread is rung"
        );
        fence(Ordering::SeqCst);
        loop {
            let deserted = self.lanes.is_deserted();
            if let Some(message) = self.lanes.take() {
                return Ok(message);
            }
            if deserted {
                return Err(RecvTimeoutError::Disconnected);
            }
            let Some(until) = until else {
                thread::park();
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RecvTimeoutError::Timeout);
            }
            thread::park_timeout(left);
        }
    }

    /// As [`Lanes::take`].
    pub fn take(&mut self) -> Option<T> {
        self.lanes.take()
    }

    /// As [`Lanes::waiting`].
    pub fn waiting(&mut self) -> usize {
        self.lanes.waiting()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_full_lane_gives_the_message_back_and_takes_the_next_once_one_is_taken() {
        let (mut senders, mut inbox) = inbox(2, 2);
        for message in 0..2 {
            assert_eq!(senders[0].send(message), Ok(()));
        }
        assert_eq!(senders[0].send(9), Err(9));
        // The other has room of its own, and its turn.
        assert_eq!(senders[1].send(7), Ok(()));
        assert_eq!(inbox.waiting(), 3);
        let taken: Vec<_> = std::iter::from_fn(|| inbox.take()).collect();
        assert_eq!(taken, [0, 7, 1]);
        assert_eq!(senders[0].send(2), Ok(()));
        assert_eq!(inbox.take(), Some(2));
    }

    #[test]
    fn every_message_of_many_senders_arrives_in_order_and_then_the_end() {
        const SENDERS: usize = 3;
        const EACH: usize = 5_000;
        let (senders, mut inbox) = inbox(SENDERS, 4);
        let threads: Vec<_> = (0..SENDERS)
            .zip(senders)
            .map(|(sender, mut lane)| {
                thread::spawn(move || {
                    for number in 0..EACH {
                        while lane.send((sender, number)).is_err() {
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut next = [0; SENDERS];
        let outcome = loop {
            match inbox.receive(Some(Instant::now() + Duration::from_secs(60))) {
                Ok((sender, number)) => {
                    assert_eq!(number, next[sender]);
                    next[sender] += 1;
                }
                Err(outcome) => break outcome,
            }
        };
        assert_eq!(
            (outcome, next),
            (RecvTimeoutError::Disconnected, [EACH; SENDERS])
        );
        for thread in threads {
            thread.join().expect("it ends");
        }
    }

    #[test]
    fn who_waits_until_a_moment_waits_no_longer() {
        let (_senders, mut inbox) = inbox::<()>(1, 1);
        let until = Instant::now() + Duration::from_millis(5);
        assert_eq!(inbox.receive(Some(until)), Err(RecvTimeoutError::Timeout));
        assert!(Instant::now() >= until);
    }

    /// What the whole module is for: an end that has lost its core in the middle of anything holds nobody up.
    #[test]
    fn an_end_that_stands_still_inside_is_not_waited_for() {
        let (mut senders, mut inbox) = inbox(2, 1);
        let mut other = senders.pop().expect("two");
        let mut stuck = senders.pop().expect("two");
        stuck.mail.stage(|slot| {
            *slot = Some("half");
            assert_eq!(inbox.take(), None);
            assert_eq!(other.send("whole"), Ok(()));
            assert_eq!(inbox.take(), Some("whole"));
        });
        assert_eq!(inbox.take(), None);
        stuck.mail.publish();
        inbox.lanes.mails[0].take(|slot| {
            assert_eq!(stuck.send("more"), Err("more"));
            assert_eq!(other.send("more"), Ok(()));
            assert_eq!(slot.take(), Some("half"));
        });
    }
}

/// Every interleaving of two senders with one slot each, and of the end.
#[cfg(all(test, loom))]
mod interleavings {
    use super::*;
    use loom::thread;

    /// Wakes loom's thread, which is known from the start.
    struct Rings(loom::thread::Thread);

    impl Ringer for Rings {
        fn ring(&self) {
            self.0.unpark();
        }
    }

    #[test]
    fn nobody_sleeps_on_a_message_or_on_the_end() {
        loom::model(|| {
            let bell: Bell = std::sync::Arc::new(Rings(thread::current()));
            let (senders, mut lanes) = lanes::<usize>(2, 1, &bell);
            let threads: Vec<_> = (1..3)
                .zip(senders)
                .map(|(message, mut lane)| {
                    thread::spawn(move || assert_eq!(lane.send(message), Ok(())))
                })
                .collect();
            // As `receive` does; a wake-up that is lost is a deadlock, which loom reports.
            let mut sum = 0;
            loop {
                let deserted = lanes.is_deserted();
                match lanes.take() {
                    Some(message) => sum += message,
                    None if deserted => break,
                    None => thread::park(),
                }
            }
            assert_eq!(sum, 3);
            for thread in threads {
                thread.join().expect("it ends");
            }
        });
    }
}
