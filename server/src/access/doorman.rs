//! The thread that checks passwords, and what it decides by.
//!
//! Always true: every knock is answered once; whoever has proved a password once comes in again without
//! Argon2, so that a thousand connections at once cost one computation, and a flood of wrong passwords
//! keeps nobody out who was in before; what waits for a computation is bounded, of one address more
//! narrowly; Argon2 has half of a core at most; and a wrong answer is the later the more of them its
//! address has had, up to a bound.
//!
//! A [`Doorman`] reads no clock and sends nothing: [`start`] gives it the time and takes its answers.
//! Of a password proved it keeps a keyed digest, under a key that was drawn at the start.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use ring::hmac;
use tracing::warn;

use super::{Accounts, Admission, Guest, Job, Knock, Rights};
use crate::boot::Control;
use crate::config::{
    DOOR_CHECKS_MAX, DOOR_CHECKS_PER_PEER_MAX, DOOR_DELAY_FIRST_MS, DOOR_DELAY_MAX_MS,
    DOOR_FORGET_MS, DOOR_GUESTS_MAX, DOOR_LOG_EVERY_MS, DOOR_PEERS_MAX, DOOR_RETRY_MS,
};
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

/// The wrong passwords of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Failures {
    count: u32,
    last_ms: u64,
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
    failures: HashMap<Option<IpAddr>, Failures>,
    /// Answers in the order of their time; what they say is beside it.
    order: BinaryHeap<Reverse<Answer>>,
    answers: HashMap<u64, (Guest, Admission)>,
    last_answer: u64,
    /// A line for the operator, and when the last one was made.
    line: Option<String>,
    line_ms: Option<u64>,
    /// Failures that no line was made of.
    unsaid: u64,
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
            failures: HashMap::new(),
            order: BinaryHeap::new(),
            answers: HashMap::new(),
            last_answer: 0,
            line: None,
            line_ms: None,
            unsaid: 0,
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
        let peer = peer.map(network);
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
                for (guest, peer) in check.guests {
                    let delay_ms = self.failed(peer, now_ms);
                    self.note(&check.user, peer, now_ms);
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
        self.line.take()
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

    /// Counts a wrong password; how long the answer is to wait.
    fn failed(&mut self, peer: Option<IpAddr>, now_ms: u64) -> u64 {
        let forgotten = |failures: &Failures| now_ms >= failures.last_ms + DOOR_FORGET_MS;
        if self.failures.len() >= DOOR_PEERS_MAX && !self.failures.contains_key(&peer) {
            self.failures.retain(|_, failures| !forgotten(failures));
            if self.failures.len() >= DOOR_PEERS_MAX {
                let stalest = self.failures.iter();
                let stalest = stalest.min_by_key(|(_, failures)| failures.last_ms);
                let stalest = stalest.map(|(peer, _)| *peer);
                stalest.map(|peer| self.failures.remove(&peer));
            }
        }
        let failures = self.failures.entry(peer).or_default();
        if forgotten(failures) {
            failures.count = 0;
        }
        let doublings = failures.count.min(16);
        failures.count += 1;
        failures.last_ms = now_ms;
        (DOOR_DELAY_FIRST_MS << doublings).min(DOOR_DELAY_MAX_MS)
    }

    /// Makes a line of a failure, if the last one is long enough ago.
    fn note(&mut self, user: &[u8], peer: Option<IpAddr>, now_ms: u64) {
        if self
            .line_ms
            .is_some_and(|last_ms| now_ms < last_ms + DOOR_LOG_EVERY_MS)
        {
            self.unsaid += 1;
            return;
        }
        // Who types the password first has it where a name belongs.
        let name = match self.accounts.knows(user) {
            true => format!("user {}", String::from_utf8_lossy(user)),
            false => "a name that is nobody's".into(),
        };
        let place = match peer {
            Some(IpAddr::V6(network)) => format!("{network}/64"),
            Some(address) => address.to_string(),
            None => "the unix socket".into(),
        };
        let others = match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            count => format!(", and {count} more since the last such line"),
        };
        self.line = Some(format!("wrong password for {name} from {place}{others}"));
        self.line_ms = Some(now_ms);
    }
}

/// What one client has at least: an address of version 4, or a network of version 6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

/// Begins to check what comes over `jobs`.
///
/// # Errors
/// When the system gives no thread or no key.
pub fn start(accounts: Accounts, jobs: Receiver<Job>, control: Control) -> Result<(), String> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| format!("the kernel gives no key: {error}"))?;
    let doorman = Doorman::new(Arc::new(accounts), &key);
    thread::Builder::new()
        .name("doorman".into())
        .spawn(move || work(doorman, &jobs, &control))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(())
}

fn work(mut doorman: Doorman, jobs: &Receiver<Job>, control: &Control) {
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
        let job = match next_ms {
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(next_ms) => jobs.recv_deadline(started + Duration::from_millis(next_ms)),
        };
        match job {
            Ok(job) => doorman.take(job, clock()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Ok(job) = jobs.try_recv() {
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
    fn a_wrong_answer_is_the_later_the_more_an_address_has_had() {
        let mut doorman = Doorman::new(accounts("pw"), &[1; 32]);
        let mut delay = |peer: &str, now_ms: u64| {
            knock(&mut doorman, 1, peer, "no", now_ms);
            doorman.check_one(|| now_ms);
            let due_ms = doorman.next_due_ms().expect("an answer");
            assert_eq!(answers(&mut doorman, due_ms), [(1, Admission::Out)]);
            due_ms - now_ms
        };
        let delays: Vec<u64> = (0..9).map(|_| delay("10.0.0.1", 1000)).collect();
        let expected = [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000];
        assert_eq!(delays, expected);
        assert_eq!(delay("10.0.0.2", 1000), 100, "another address");
        assert_eq!(delay("unix", 1000), 100);
        assert_eq!(delay("2001:db8::1", 1000), 100);
        assert_eq!(delay("2001:db8::2", 1000), 200, "the same network");
        assert_eq!(delay("2001:db8:0:1::1", 1000), 100);
        assert_eq!(delay("::ffff:10.0.0.2", 1000), 200, "the same address");
        assert_eq!(delay("10.0.0.1", 1000 + DOOR_FORGET_MS), 100, "forgotten");
        // A right password waits for nothing.
        knock(&mut doorman, 2, "10.0.0.1", "pw", 100_000);
        doorman.check_one(|| 100_000);
        assert_eq!(answers(&mut doorman, 100_000), [(2, Admission::In(None))]);
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
        for number in 0..DOOR_PEERS_MAX as u32 + 10 {
            doorman.failed(
                Some(std::net::Ipv4Addr::from(number).into()),
                u64::from(number),
            );
        }
        assert_eq!(doorman.failures.len(), DOOR_PEERS_MAX);
    }

    #[test]
    fn failures_are_said_once_a_second_and_without_secrets() {
        let mut doorman = Doorman::new(accounts("pw"), &[1; 32]);
        let mut lines = Vec::new();
        for (number, now_ms) in [(0, 10), (1, 20), (2, 900), (3, 1500)] {
            knock(&mut doorman, number, "10.0.0.1", "hunter2", now_ms);
            doorman.check_one(|| now_ms);
            lines.extend(doorman.take_line());
        }
        let expected = [
            "wrong password for user u from 10.0.0.1",
            "wrong password for user u from 10.0.0.1, and 2 more since the last such line",
        ];
        assert_eq!(lines, expected);
        let guest = Guest {
            worker: 0,
            conn: 9,
            generation: 0,
        };
        doorman.take(
            Job::Knock(Knock {
                guest,
                peer: None,
                user: b"hunter2"[..].into(),
                password: b"u"[..].into(),
            }),
            9000,
        );
        doorman.check_one(|| 9000);
        let line = doorman.take_line().expect("a line");
        assert_eq!(
            line,
            "wrong password for a name that is nobody's from the unix socket"
        );
    }
}
