//! The thread that checks passwords, and what it decides by.
//!
//! Always true: every knock is answered once; whoever has proved a password once comes in again without
//! Argon2, so that a thousand connections at once cost one computation, and a flood of wrong passwords
//! keeps nobody out who was in before; what waits for a computation is bounded, of one address more
//! narrowly; Argon2 has half of a core at most; and a wrong answer waits for as long as [`failures`] says.
//!
//! A [`Doorman`] reads no clock and sends nothing: [`start`] gives it the time and takes its answers.
//! Of a password proved it keeps a keyed digest, under a key that was drawn at the start.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use ring::hmac;
use tracing::warn;

use super::failures::{self, Failures};
use super::{Accounts, Admission, Guest, Job, Knock, Rights};
use crate::background::yield_to_workers;
use crate::boot::Control;
use crate::config::{DOOR_CHECKS_MAX, DOOR_CHECKS_PER_PEER_MAX, DOOR_GUESTS_MAX, DOOR_RETRY_MS};
use crate::lanes::Inbox;
use crate::worker::Ask;

/// A name and password, as the doorman remembers them.
type Digest = [u8; 32];

/// One computation that is due, and who waits for it.
#[derive(Debug)]
struct Check {
    digest: Digest,
    user: Box<[u8]>,
    password: Box<[u8]>,
    /// Of the first that asked for it.
    peer: Option<IpAddr>,
    guests: Vec<(Guest, Option<IpAddr>)>,
}

/// An answer and when it is to be given; the number keeps the order of those of one moment.
type Answer = (u64, u64);

/// See the module's page. Times are in milliseconds since any moment.
#[derive(Debug)]
pub struct Doorman {
    accounts: Arc<Accounts>,
    seal: hmac::Key,
    /// Who came in with what, at most one for each account.
    proved: HashMap<Digest, Option<Arc<Rights>>>,
    checks: VecDeque<Check>,
    /// Guests of all checks and answers.
    guests: usize,
    failures: Failures,
    /// Answers in the order of their time; what they say is beside it.
    order: BinaryHeap<Reverse<Answer>>,
    answers: HashMap<u64, (Guest, Admission)>,
    last_answer: u64,
}

impl Doorman {
    /// With these users, and a key that nobody else knows.
    #[must_use]
    pub fn new(accounts: Arc<Accounts>, key: &[u8; 32]) -> Self {
        Self {
            accounts,
            seal: hmac::Key::new(hmac::HMAC_SHA256, key),
            proved: HashMap::new(),
            checks: VecDeque::new(),
            guests: 0,
            failures: Failures::default(),
            order: BinaryHeap::new(),
            answers: HashMap::new(),
            last_answer: 0,
        }
    }

    /// Takes a job. What needs no computation is answered at once.
    pub fn take(&mut self, job: Job, now_ms: u64) {
        match job {
            Job::Knock(knock) => self.hear(knock, now_ms),
            Job::Accounts(accounts) => {
                self.accounts = accounts;
                self.proved.clear();
            }
        }
    }

    fn hear(&mut self, knock: Knock, now_ms: u64) {
        let Knock {
            guest,
            peer,
            user,
            password,
        } = knock;
        let digest = self.digest(&user, &password);
        if let Some(rights) = self.proved.get(&digest) {
            let admission = Admission::In(rights.clone());
            self.answer(guest, admission, now_ms);
            return;
        }
        let peer = peer.map(failures::network);
        if self.guests >= DOOR_GUESTS_MAX {
            self.answer(guest, Admission::Busy, now_ms);
            return;
        }
        let mut of_peer = 0;
        for check in &mut self.checks {
            if check.digest == digest {
                check.guests.push((guest, peer));
                self.guests += 1;
                return;
            }
            of_peer += usize::from(check.peer == peer);
        }
        if self.checks.len() >= DOOR_CHECKS_MAX || of_peer >= DOOR_CHECKS_PER_PEER_MAX {
            self.answer(guest, Admission::Busy, now_ms);
            return;
        }
        self.guests += 1;
        self.checks.push_back(Check {
            digest,
            user,
            password,
            peer,
            guests: vec![(guest, peer)],
        });
    }

    /// Whether a computation is due.
    #[must_use]
    pub fn has_check(&self) -> bool {
        !self.checks.is_empty()
    }

    /// Makes one computation. `clock` tells the time behind it.
    pub fn check_one(&mut self, clock: impl FnOnce() -> u64) {
        let Some(check) = self.checks.pop_front() else {
            return;
        };
        let admitted = self.accounts.admit(&check.user, &check.password);
        let now_ms = clock();
        self.guests -= check.guests.len();
        match admitted {
            Some(rights) => {
                self.proved.insert(check.digest, rights.clone());
                for (guest, _) in check.guests {
                    self.answer(guest, Admission::In(rights.clone()), now_ms);
                }
            }
            None => {
                // Who types the password first has it where a name belongs.
                let known = self.accounts.knows(&check.user).then_some(&*check.user);
                for (guest, peer) in check.guests {
                    let delay_ms = self.failures.count(known, peer, now_ms);
                    self.answer(guest, Admission::Out, now_ms + delay_ms);
                }
            }
        }
    }

    /// The next answer whose time has come.
    pub fn next_answer(&mut self, now_ms: u64) -> Option<(Guest, Admission)> {
        let Reverse((due_ms, number)) = self.order.peek()?;
        if *due_ms > now_ms {
            return None;
        }
        let number = *number;
        self.order.pop();
        self.guests -= 1;
        self.answers.remove(&number)
    }

    /// When that will be.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// Has an answer given at a later time.
    pub fn answer(&mut self, guest: Guest, admission: Admission, due_ms: u64) {
        self.last_answer += 1;
        self.guests += 1;
        self.order.push(Reverse((due_ms, self.last_answer)));
        self.answers.insert(self.last_answer, (guest, admission));
    }

    /// A line that the operator should see.
    pub fn take_line(&mut self) -> Option<String> {
        self.failures.take_line()
    }

    fn digest(&self, user: &[u8], password: &[u8]) -> Digest {
        let mut context = hmac::Context::with_key(&self.seal);
        context.update(&(user.len() as u64).to_le_bytes());
        context.update(user);
        context.update(password);
        let mut digest = Digest::default();
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

/// Begins to check what comes over `jobs`.
///
/// # Errors
/// When the system gives no thread or no key.
pub fn start(accounts: Accounts, jobs: Inbox<Job>, control: Control) -> Result<(), String> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| format!("the kernel gives no key: {error}"))?;
    let doorman = Doorman::new(Arc::new(accounts), &key);
    thread::Builder::new()
        .name("doorman".into())
        .spawn(move || work(doorman, jobs, &control))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(())
}

fn work(mut doorman: Doorman, mut jobs: Inbox<Job>, control: &Control) {
    yield_to_workers();
    let started = Instant::now();
    let clock = || started.elapsed().as_millis() as u64;
    // When Argon2 may be computed again.
    let mut rested_ms = 0;
    loop {
        let now_ms = clock();
        while let Some((guest, admission)) = doorman.next_answer(now_ms) {
            let Guest {
                worker,
                conn,
                generation,
            } = guest;
            let question = Ask::Admit {
                conn,
                generation,
                admission: admission.clone(),
            };
            if !control.ask(worker, question) {
                // Others have filled its channel for a moment.
                doorman.answer(guest, admission, now_ms + DOOR_RETRY_MS);
            }
        }
        if doorman.has_check() && now_ms >= rested_ms {
            doorman.check_one(clock);
            let done_ms = clock();
            rested_ms = done_ms + (done_ms - now_ms);
            if let Some(line) = doorman.take_line() {
                warn!("{line}");
            }
        }
        let rest_ms = doorman.has_check().then_some(rested_ms);
        let next_ms = rest_ms.into_iter().chain(doorman.next_due_ms()).min();
        let until = next_ms.map(|next_ms| started + Duration::from_millis(next_ms));
        match jobs.receive(until) {
            Ok(job) => doorman.take(job, clock()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Some(job) = jobs.take() {
            doorman.take(job, clock());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::accounts::tests::quick_hash;
    use super::*;

    fn accounts(password: &str) -> Arc<Accounts> {
        let hash = quick_hash(password);
        let text = format!("[users.u]\npassword = \"{hash}\"\naccess = \"read-write\"\n");
        Arc::new(Accounts::parse(&text).expect("a user"))
    }

    fn knock(doorman: &mut Doorman, number: u32, peer: &str, password: &str, now_ms: u64) {
        let guest = Guest {
            worker: 0,
            conn: number,
            generation: 0,
        };
        let knock = Knock {
            guest,
            peer: peer.parse().ok(),
            user: b"u"[..].into(),
            password: password.as_bytes().into(),
        };
        doorman.take(Job::Knock(knock), now_ms);
    }

    /// All answers up to a time, as the number of the connection and what it is told.
    fn answers(doorman: &mut Doorman, now_ms: u64) -> Vec<(u32, Admission)> {
        let next = || doorman.next_answer(now_ms);
        std::iter::from_fn(next)
            .map(|(guest, admission)| (guest.conn, admission))
            .collect()
    }

    #[test]
    fn a_thousand_equal_knocks_cost_one_computation() {
        let mut doorman = Doorman::new(accounts("pw"), &[1; 32]);
        for number in 0..1000 {
            knock(&mut doorman, number, "10.0.0.1", "pw", 0);
        }
        assert!(answers(&mut doorman, 0).is_empty() && doorman.has_check());
        doorman.check_one(|| 5);
        assert!(!doorman.has_check());
        let told = answers(&mut doorman, 5);
        assert_eq!(told.len(), 1000);
        assert!(
            told.iter()
                .all(|(_, admission)| *admission == Admission::In(None))
        );
        // And the next one costs none.
        knock(&mut doorman, 7, "10.0.0.2", "pw", 6);
        assert!(!doorman.has_check());
        assert_eq!(answers(&mut doorman, 6), [(7, Admission::In(None))]);
        assert_eq!(doorman.guests, 0);
        // Other users make everything to be proved again.
        doorman.take(Job::Accounts(accounts("new")), 7);
        knock(&mut doorman, 8, "10.0.0.2", "pw", 8);
        doorman.check_one(|| 9);
        assert_eq!(answers(&mut doorman, 99_999), [(8, Admission::Out)]);
    }

    #[test]
    fn what_waits_is_bounded_and_leaves_others_room() {
        let mut doorman = Doorman::new(accounts("pw"), &[1; 32]);
        let busy = |doorman: &mut Doorman| {
            let told = answers(doorman, 0);
            assert!(
                told.iter()
                    .all(|(_, admission)| *admission == Admission::Busy)
            );
            told.len()
        };
        for number in 0..100 {
            knock(&mut doorman, number, "10.0.0.1", &format!("{number}"), 0);
        }
        assert_eq!(busy(&mut doorman), 100 - DOOR_CHECKS_PER_PEER_MAX);
        for number in 0..1000 {
            let peer = format!("10.0.1.{}", number % 250);
            knock(&mut doorman, number, &peer, &format!("{number}"), 0);
        }
        assert_eq!(doorman.checks.len(), DOOR_CHECKS_MAX);
        assert!(busy(&mut doorman) > 0);
        for _ in 0..DOOR_CHECKS_MAX {
            doorman.check_one(|| 0);
        }
        assert!(!doorman.has_check());
        answers(&mut doorman, u64::MAX);
        assert_eq!((doorman.guests, doorman.answers.len()), (0, 0));
    }

    #[test]
    fn a_wrong_password_waits_for_its_answer_and_a_right_one_does_not() {
        let mut doorman = Doorman::new(accounts("pw"), &[1; 32]);
        for (number, password, due_ms) in [(1, "no", 1100), (2, "no", 1200), (3, "pw", 1000)] {
            knock(&mut doorman, number, "10.0.0.1", password, 1000);
            doorman.check_one(|| 1000);
            assert_eq!(doorman.next_due_ms(), Some(due_ms));
            let admission = match password {
                "pw" => Admission::In(None),
                _ => Admission::Out,
            };
            assert_eq!(answers(&mut doorman, due_ms), [(number, admission)]);
        }
    }

    #[test]
    fn a_name_that_is_nobodys_is_not_said() {
        let mut doorman = Doorman::new(accounts("pw"), &[1; 32]);
        for (user, part) in [
            (&b"u"[..], "for user u from"),
            (b"hunter2", "nobody's from"),
        ] {
            let guest = Guest {
                worker: 0,
                conn: 9,
                generation: 0,
            };
            let knock = Knock {
                guest,
                peer: None,
                user: user.into(),
                password: b"hunter2"[..].into(),
            };
            doorman.take(Job::Knock(knock), 0);
            let now_ms = u64::from(user != b"u") * 9000;
            doorman.check_one(|| now_ms);
            let line = doorman.take_line().expect("a line");
            assert!(line.contains(part) && !line.contains("hunter2"), "{line}");
        }
    }
}
