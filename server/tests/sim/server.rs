//! The server's half of a simulation: workers that take their turns in one thread, on invented
//! connections and an invented clock.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::bounded;
use strata_server::access::{Admission, Job, Knock, Rights};
use strata_server::clock::Now;
use strata_server::config::{Entry, Settings};
use strata_server::io::sim::{Dice, Net, SimIo, SimRinger};
use strata_server::io::{Io, Wait};
use strata_server::lanes::{Inbox, Lane, inbox, lane};
use strata_server::mailbox::Bell;
use strata_server::memory::Memory;
use strata_server::mesh::{Waker, mesh_of};
use strata_server::shared::Shared;
use strata_server::stats::Process;
use strata_server::worker::{Ask, Leftovers, Parts, Worker};
use strata_store::{Eviction, KeyHasher, Shard, ShardConfig};

/// The seed chooses among them.
const POLICIES: [Eviction; 3] = [Eviction::Merge, Eviction::S3Fifo, Eviction::Fifo];
pub const ITEM_MAX_BYTES: u32 = 256 << 10;

/// Memory of each worker where none may forget.
pub const MEMORY_MB: usize = 16;

pub struct Server {
    pub workers: Vec<Worker>,
    pub ios: Vec<SimIo>,
    pub wakers: Vec<Waker>,
    pub asks: Vec<Lane<Ask>>,
    /// Names and passwords on their way to be checked, and those that wait for an answer.
    jobs: Inbox<Job>,
    knocks: Vec<Knock>,
    pub shared: Arc<Shared>,
    pub net: Net,
    pub elapsed: Duration,
    /// How long a tick of each worker takes.
    pub tick_ns: Vec<u64>,
}

impl Server {
    pub fn new(workers: usize, memory_bytes: usize, slots: usize, seed: u64) -> Self {
        Self::with(Self::settings(workers, memory_bytes, seed), slots, seed)
    }

    /// What [`Server::new`] sets.
    pub fn settings(workers: usize, memory_bytes: usize, seed: u64) -> Settings {
        let mut settings = Settings::for_tests(workers);
        settings.memory_bytes = memory_bytes * workers;
        settings.item_max_bytes = ITEM_MAX_BYTES;
        settings.requests_per_tick = 20;
        settings.conns_max = 64;
        settings.eviction = POLICIES[seed as usize % POLICIES.len()];
        settings
    }

    pub fn with(settings: Settings, slots: usize, seed: u64) -> Self {
        let workers = settings.workers;
        let memory_bytes = settings.memory_bytes / workers;
        let item_max_bytes = settings.item_max_bytes;
        let process = Process {
            settings,
            bound: Vec::new(),
            shards_bound: Vec::new(),
        };
        let (stop, _) = bounded(1);
        let (doors, knocks) = inbox(workers, 64);
        let accounts = process.settings.has_accounts();
        let shared = Arc::new(Shared::new(process, stop));
        let ringers: Vec<SimRinger> = (0..workers).map(|_| SimRinger::default()).collect();
        let wakers: Vec<Waker> = ringers
            .iter()
            .map(|ringer| Waker {
                bell: Arc::new(Bell::default()),
                ringer: Arc::new(ringer.clone()),
            })
            .collect();
        let net = Net::default();
        let hasher = KeyHasher::new([seed, 2, 3, 4, 5, 6, 7, 8]);
        let mut server = Self {
            workers: Vec::new(),
            ios: Vec::new(),
            asks: Vec::new(),
            jobs: knocks,
            knocks: Vec::new(),
            shared: Arc::clone(&shared),
            net: net.clone(),
            elapsed: Duration::from_secs(10),
            tick_ns: vec![1000; workers],
            wakers: wakers.clone(),
        };
        let ends = mesh_of(&wakers, slots).into_iter().zip(doors);
        for (index, (peers, door)) in ends.enumerate() {
            let memory = Memory::reserve_with_room(memory_bytes, 2 * memory_bytes, false);
            let config = ShardConfig {
                item_max_bytes,
                eviction: shared.process.settings.eviction,
                seed,
            };
            let memory = memory.expect("memory");
            let shard = Shard::with_limit(memory, memory_bytes, hasher.clone(), config);
            let shard = shard.expect("large enough");
            let (ask, asks) = lane(4, &wakers[index].ringer);
            server.asks.push(ask);
            server.workers.push(Worker::new(Parts {
                index,
                shared: Arc::clone(&shared),
                shard,
                hasher: hasher.clone(),
                peers,
                asks,
                door: accounts.then_some(door),
                stderr: None,
                users: Arc::default(),
                entries: vec![Entry::default()],
                listener_fds: Vec::new(),
                open_listeners: 1,
            }));
            let ringer = ringers[index].clone();
            server.ios.push(SimIo::new(
                net.clone(),
                seed + index as u64,
                index == 0,
                ringer,
            ));
        }
        server
    }

    pub fn tick(&mut self, worker: usize) -> bool {
        let now = Now::after(1_700_000_000, self.elapsed);
        let busy = self.workers[worker].tick(&mut self.ios[worker], &now);
        assert_eq!(
            self.ios[worker].buffers_out(),
            0,
            "a receive buffer is lost"
        );
        self.ios[worker].submit(Wait::No);
        self.workers[worker].ticked(now.elapsed_ns + self.tick_ns[worker]);
        if !busy {
            self.wakers[worker].bell.doze();
            if self.workers[worker].has_mail() {
                self.wakers[worker].bell.rise();
            }
        }
        busy
    }

    /// Answers any one of those who wait.
    pub fn answer_a_knock(&mut self, dice: &mut Dice) {
        let count = self.count_knocks();
        if count > 0 {
            self.answer_knock(dice.below(count));
        }
    }

    /// How many wait for an answer.
    pub fn count_knocks(&mut self) -> usize {
        while let Some(job) = self.jobs.take() {
            match job {
                Job::Knock(knock) => self.knocks.push(knock),
                Job::Accounts(_) => panic!("nobody reads a file here"),
            }
        }
        self.knocks.len()
    }

    /// Answers one of those who wait, by what its password is.
    pub fn answer_knock(&mut self, at: usize) {
        let knock = self.knocks.swap_remove(at);
        let rights = match &knock.user[..] {
            b"all" => None,
            // Every request is looked at, and few are refused.
            _ => Some(Arc::new(Rights::new(true, Vec::new()))),
        };
        let admission = match &knock.password[..] {
            b"right" => Admission::In(rights),
            b"busy" => Admission::Busy,
            _ => Admission::Out,
        };
        let worker = knock.guest.worker;
        let ask = Ask::Admit {
            conn: knock.guest.conn,
            generation: knock.guest.generation,
            admission,
        };
        if self.asks[worker].send(ask).is_err() {
            self.knocks.push(knock);
        }
    }

    /// Ticks every worker until none has anything to do.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for worker in 0..self.workers.len() {
                moved |= self.tick(worker);
            }
            // Only now: a later worker may have sent mail to an earlier one.
            moved |= self.workers.iter_mut().any(Worker::has_mail);
            moved |= !self.ios.iter().all(SimIo::idle);
            if !moved {
                return;
            }
        }
        panic!("the server does not come to rest");
    }

    pub fn assert_nothing_left(&self) {
        for worker in &self.workers {
            assert_eq!(worker.leftovers(), Leftovers::default());
            worker.audit().expect("the shard agrees with its recount");
        }
        assert_eq!(self.shared.gate.count(), 0);
    }
}
