//! A one-way queue between two workers, and the bell that ends a worker's sleep.
//!
//! ```text
//!            released by the receiver          published by the sender
//!                     v                                 v
//!   slots  [ free | free | being read | being read | mail | mail | staged | free ]
//!                                 ^                                    ^
//!                        receiver's own head                 sender's own tail
//! ```
//!
//! A slot belongs to the sender from the moment the receiver has released it until the sender
//! publishes it, and to the receiver in between; `released <= head <= published <= tail` and
//! `tail - released <= capacity` hold always. Slots are filled and read in place and never moved,
//! so a message may own a buffer that is used again on the next lap.
//!
//! Both sides work on their own copy of the indices and tell the other side once a tick, so that
//! a batch of messages costs one transfer of the index's cache line each way.

use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, UnsafeCell, fence};

/// A value alone on its cache lines (two, because processors fetch lines in pairs).
#[repr(align(128))]
struct Alone<T>(T);

struct Ring<T> {
    slots: Box<[UnsafeCell<T>]>,
    /// One past the newest message the sender has published.
    published: Alone<AtomicUsize>,
    /// One past the newest message the receiver has released.
    released: Alone<AtomicUsize>,
}

// SAFETY: a slot is touched by one side at a time: the indices above hand it over with
// release/acquire pairs. The loom tests below check every interleaving of a ring of two.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: as above; the ring itself owns plain `T`s.
unsafe impl<T: Send> Send for Ring<T> {}

/// The end that writes.
pub struct Sender<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    published: usize,
    released_seen: usize,
}

/// The end that reads.
pub struct Receiver<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    released: usize,
    published_seen: usize,
}

/// A queue of `capacity` slots, a power of two, each holding a default `T` from the start.
pub fn mailbox<T: Default + Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(
        capacity.is_power_of_two(),
        "a mailbox of {capacity} slots: not a power of two"
    );
    let ring = Arc::new(Ring {
        slots: (0..capacity)
            .map(|_| UnsafeCell::new(T::default()))
            .collect(),
        published: Alone(AtomicUsize::new(0)),
        released: Alone(AtomicUsize::new(0)),
    });
    let sender = Sender {
        ring: Arc::clone(&ring),
        tail: 0,
        published: 0,
        released_seen: 0,
    };
    let receiver = Receiver {
        ring,
        head: 0,
        released: 0,
        published_seen: 0,
    };
    (sender, receiver)
}

impl<T> Sender<T> {
    /// Lets `fill` write the next slot. False, and `fill` is not called, when the queue is full.
    /// The receiver sees the message after the next [`Sender::publish`].
    #[inline]
    pub fn stage(&mut self, fill: impl FnOnce(&mut T)) -> bool {
        let capacity = self.ring.slots.len();
        if self.tail.wrapping_sub(self.released_seen) == capacity {
            self.released_seen = self.ring.released.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.released_seen) == capacity {
                return false;
            }
        }
        self.ring.slots[self.tail & (capacity - 1)].with_mut(|slot| {
            // SAFETY: `tail - released_seen < capacity`, so the receiver has released this slot
            // (acquired above or earlier) and sees it again only after `publish`.
            fill(unsafe { &mut *slot })
        });
        self.tail = self.tail.wrapping_add(1);
        true
    }

    /// Shows the staged messages to the receiver. True when there were any.
    #[inline]
    pub fn publish(&mut self) -> bool {
        if self.tail == self.published {
            return false;
        }
        self.published = self.tail;
        self.ring
            .published
            .0
            .store(self.published, Ordering::Release);
        true
    }
}

impl<T> Receiver<T> {
    /// Lets `read` look at the oldest message. None, and `read` is not called, when there is none.
    /// The slot goes back to the sender with the next [`Receiver::release`].
    #[inline]
    pub fn take<R>(&mut self, read: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.head == self.published_seen && !self.has_mail() {
            return None;
        }
        let at = self.head & (self.ring.slots.len() - 1);
        let result = self.ring.slots[at].with_mut(|slot| {
            // SAFETY: `head < published_seen`, so the sender has published this slot (acquired
            // in `has_mail`) and touches it again only after `release`.
            read(unsafe { &mut *slot })
        });
        self.head = self.head.wrapping_add(1);
        Some(result)
    }

    /// Lets `look` see the message `ahead` of the oldest without taking it. None, and `look` is not
    /// called, when there is none that far, as far as this side has seen.
    #[inline]
    pub fn peek<R>(&self, ahead: usize, look: impl FnOnce(&T) -> R) -> Option<R> {
        if ahead >= self.published_seen.wrapping_sub(self.head) {
            return None;
        }
        let at = self.head.wrapping_add(ahead) & (self.ring.slots.len() - 1);
        Some(self.ring.slots[at].with_mut(|slot| {
            // SAFETY: `head + ahead < published_seen`, so the sender has published this slot
            // (acquired in `has_mail` or `waiting`) and touches it again only after `release`.
            look(unsafe { &*slot })
        }))
    }

    /// Whether a message waits.
    #[inline]
    pub fn has_mail(&mut self) -> bool {
        if self.head == self.published_seen {
            self.published_seen = self.ring.published.0.load(Ordering::Acquire);
        }
        self.head != self.published_seen
    }

    /// How many messages wait.
    #[inline]
    pub fn waiting(&mut self) -> usize {
        self.published_seen = self.ring.published.0.load(Ordering::Acquire);
        self.published_seen.wrapping_sub(self.head)
    }

    /// Gives the slots read so far back to the sender.
    #[inline]
    pub fn release(&mut self) {
        if self.head != self.released {
            self.released = self.head;
            self.ring.released.0.store(self.released, Ordering::Release);
        }
    }
}

/// Tells a sleeping worker that there is mail, and costs nothing but a fence when it is awake.
///
/// The worker calls [`Bell::doze`], looks at its mailboxes once more, and only then blocks. A
/// sender publishes and then asks [`Bell::must_ring`]. The two fences order the worker's flag
/// before its last look and the sender's mail before its question, so at least one of the two
/// sees the other: a wake-up is never lost.
pub struct Bell {
    dozing: Alone<AtomicBool>,
}

impl Default for Bell {
    fn default() -> Self {
        Self {
            dozing: Alone(AtomicBool::new(false)),
        }
    }
}

impl Bell {
    /// The owner is about to look a last time and then to block.
    #[inline]
    pub fn doze(&self) {
        self.dozing.0.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake again.
    #[inline]
    pub fn rise(&self) {
        self.dozing.0.store(false, Ordering::Relaxed);
    }

    /// Whether the owner has to be woken; true for one caller a sleep.
    #[inline]
    pub fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.dozing.0.load(Ordering::Relaxed) && self.dozing.0.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_the_order_sent_over_many_laps() {
        let (mut sender, mut receiver) = mailbox::<u64>(8);
        let (mut sent, mut got) = (0, 0);
        for round in 0..1000 {
            for _ in 0..round % 9 {
                if sender.stage(|slot| *slot = sent) {
                    sent += 1;
                }
            }
            sender.publish();
            for _ in 0..round % 7 {
                if let Some(value) = receiver.take(|slot| *slot) {
                    assert_eq!(value, got);
                    got += 1;
                }
            }
            receiver.release();
        }
        assert!(got > 2000);
    }

    #[test]
    fn a_full_queue_refuses_until_slots_are_released() {
        let (mut sender, mut receiver) = mailbox::<u64>(2);
        assert!(sender.stage(|slot| *slot = 1));
        assert!(sender.stage(|slot| *slot = 2));
        assert!(!sender.stage(|_| unreachable!("the queue is full")));
        assert!(!receiver.has_mail(), "nothing is published yet");
        sender.publish();
        assert_eq!(receiver.take(|slot| *slot), Some(1));
        assert!(
            !sender.stage(|_| unreachable!("not released yet")),
            "a slot in the reader's hands is not free"
        );
        receiver.release();
        assert!(sender.stage(|slot| *slot = 3));
    }

    #[test]
    fn a_look_ahead_sees_what_is_taken_later_and_no_further() {
        let (mut sender, mut receiver) = mailbox::<u64>(4);
        for value in 1..=3 {
            assert!(sender.stage(|slot| *slot = value));
            if value == 2 {
                sender.publish();
            }
        }
        assert_eq!(receiver.peek(0, |slot| *slot), None, "nobody has looked");
        assert_eq!(receiver.waiting(), 2);
        assert_eq!(receiver.peek(0, |slot| *slot), Some(1));
        assert_eq!(receiver.peek(1, |slot| *slot), Some(2));
        assert_eq!(receiver.peek(2, |slot| *slot), None, "not published yet");
        assert_eq!(receiver.take(|slot| *slot), Some(1));
        assert_eq!(receiver.peek(0, |slot| *slot), Some(2));
    }

    #[test]
    fn a_bell_rings_once_a_sleep() {
        let bell = Bell::default();
        assert!(!bell.must_ring());
        bell.doze();
        assert!(bell.must_ring());
        assert!(!bell.must_ring());
        bell.doze();
        bell.rise();
        assert!(!bell.must_ring());
    }

    #[test]
    fn two_threads_pass_a_million_messages() {
        let (mut sender, mut receiver) = mailbox::<u64>(64);
        let writer = std::thread::spawn(move || {
            let mut next = 0u64;
            while next < 1_000_000 {
                while next < 1_000_000 && sender.stage(|slot| *slot = next) {
                    next += 1;
                }
                sender.publish();
                std::hint::spin_loop();
            }
        });
        let mut expected = 0u64;
        while expected < 1_000_000 {
            while let Some(value) = receiver.take(|slot| *slot) {
                assert_eq!(value, expected);
                expected += 1;
            }
            receiver.release();
            std::hint::spin_loop();
        }
        writer.join().expect("the writer ends");
    }
}

/// Every interleaving, on a ring of two: `RUSTFLAGS="--cfg loom" cargo test --lib mailbox`.
#[cfg(all(test, loom))]
mod interleavings {
    use super::*;
    use loom::thread;

    #[test]
    fn no_message_is_lost_torn_or_reordered() {
        loom::model(|| {
            let (mut sender, mut receiver) = mailbox::<usize>(2);
            let writer = thread::spawn(move || {
                let mut next = 1;
                while next <= 3 {
                    if sender.stage(|slot| *slot = next) {
                        next += 1;
                        sender.publish();
                    } else {
                        thread::yield_now();
                    }
                }
            });
            let mut expected = 1;
            while expected <= 3 {
                match receiver.take(|slot| *slot) {
                    Some(value) => {
                        assert_eq!(value, expected);
                        expected += 1;
                        receiver.release();
                    }
                    None => thread::yield_now(),
                }
            }
            writer.join().expect("the writer ends");
        });
    }

    #[test]
    fn a_batch_becomes_visible_as_a_whole() {
        loom::model(|| {
            let (mut sender, mut receiver) = mailbox::<usize>(2);
            let writer = thread::spawn(move || {
                assert!(sender.stage(|slot| *slot = 7));
                assert!(sender.stage(|slot| *slot = 8));
                sender.publish();
            });
            if receiver.has_mail() {
                assert_eq!(receiver.take(|slot| *slot), Some(7));
                assert_eq!(receiver.take(|slot| *slot), Some(8));
                receiver.release();
            }
            writer.join().expect("the writer ends");
        });
    }

    /// The sleeper either sees the mail in its last look or is rung; it never sleeps on mail.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let bell = Arc::new(Bell::default());
            let rung = Arc::new(AtomicBool::new(false));
            let (mut sender, mut receiver) = mailbox::<usize>(2);
            let writer = {
                let (bell, rung) = (Arc::clone(&bell), Arc::clone(&rung));
                thread::spawn(move || {
                    assert!(sender.stage(|slot| *slot = 1));
                    sender.publish();
                    if bell.must_ring() {
                        rung.store(true, Ordering::Release);
                    }
                })
            };
            bell.doze();
            let slept = !receiver.has_mail();
            writer.join().expect("the writer ends");
            assert!(
                !slept || rung.load(Ordering::Acquire),
                "asleep with mail and nobody rang"
            );
        });
    }

    /// Credits are what make a reply always fit: a reply ring as large as the credits never
    /// refuses, although its slots are released once a batch.
    #[test]
    fn a_credit_guarantees_room_for_the_reply() {
        // Three forced switches reach every ordering of two batched indices; without a bound
        // the two polling loops take minutes.
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(3);
        bounded.check(|| {
            let (mut ask, mut asked) = mailbox::<usize>(2);
            let (mut answer, mut answers) = mailbox::<usize>(2);
            let owner = thread::spawn(move || {
                let mut served = 0;
                while served < 3 {
                    match asked.take(|slot| *slot) {
                        Some(value) => {
                            asked.release();
                            assert!(answer.stage(|slot| *slot = value), "a reply did not fit");
                            answer.publish();
                            served += 1;
                        }
                        None => thread::yield_now(),
                    }
                }
            });
            let (mut credits, mut sent, mut home) = (2, 0, 0);
            while home < 3 {
                while credits > 0 && sent < 3 {
                    assert!(ask.stage(|slot| *slot = sent), "a request did not fit");
                    ask.publish();
                    credits -= 1;
                    sent += 1;
                }
                match answers.take(|slot| *slot) {
                    Some(value) => {
                        assert_eq!(value, home);
                        answers.release();
                        credits += 1;
                        home += 1;
                    }
                    None => thread::yield_now(),
                }
            }
            owner.join().expect("the owner ends");
        });
    }
}
