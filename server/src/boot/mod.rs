//! Start and stop: what the host must grant, the listeners, one thread a worker, signals.
//!
//! Whatever the host refuses ends the start with a [`StartError`]: one sentence that says what to
//! do. Nothing is served, and every connection refused, before every worker has its memory. `host` asks the host,
//! `listeners` binds, `announce` says what came of it, `service` speaks with a service manager.

mod announce;
mod host;
mod listeners;
mod service;

use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::mman::{MlockAllFlags, mlockall};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use strata_store::{HASH_SEED_WORDS, KeyHasher, Shard, ShardConfig};
use tracing::{error, info, warn};

use crate::access::{self, Accounts, Job};
use crate::background::yield_to_workers;
use crate::clock::Clock;
use crate::config::{
    ASKS_MAX, DOOR_JOBS_MAX, END_MAX_MS, IoChoice, LOG_FLUSH_MAX_MS, LogFormat, STDERR_BATCHES_MAX,
    Settings, TELL_MAX_MS,
};
use crate::io::epoll::EpollIo;
use crate::io::handshakes::{self, Helper};
use crate::io::tls::TlsIo;
use crate::io::uring::UringIo;
use crate::io::{EventRinger, Io, Wait};
use crate::lanes::{Inbox, Lane, Lanes, inbox, lane};
use crate::log::{Log, Voice};
use crate::mailbox::Bell;
use crate::memory::Memory;
use crate::mesh::{Peers, Waker, mesh};
use crate::observe::{lines_of, lost_of};
use crate::shared::{Notice, Shared};
use crate::stats::Process;
use crate::tls::{Guard, Tls};
use crate::users::Users;
use crate::watch::Watch;
use crate::worker::{Ask, Parts, Worker};

pub use host::{
    allow_core_files, become_user, detach, raise_file_limit, raise_lock_limit, write_pid_file,
};
pub use listeners::{Listeners, bind};

use announce::{announce, room_bytes};
use listeners::{Bound, write_port_file};
use service::Manager;

/// Why the server did not start, as a sentence for the operator.
#[derive(Debug)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<String> for StartError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Says what an io_uring refusal means on this host.
pub(crate) fn uring_advice(error: &std::io::Error) -> String {
    let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = sysctl.is_ok_and(|text| text.trim() != "0");
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) if disabled => {
            "the kernel refuses io_uring: kernel.io_uring_disabled is not 0; \
             set it to 0 (sysctl kernel.io_uring_disabled=0)"
                .into()
        }
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is refused, probably by a seccomp profile (a container's default does); \
             allow io_uring_setup, io_uring_enter and io_uring_register"
                .into()
        }
        Some(libc::ENOMEM) => {
            "the ring's memory may not be locked; raise the limit (ulimit -l, LimitMEMLOCK=)".into()
        }
        // Podman's and buildah's profiles answer as a kernel does that has never heard of it.
        Some(libc::ENOSYS) => {
            "there is no io_uring: a seccomp profile hides it (a container's default does), or this \
             kernel was built without it; Linux 6.1 or later has it, and a profile has to allow \
             io_uring_setup, io_uring_enter and io_uring_register"
                .into()
        }
        Some(libc::EINVAL) => {
            format!("this kernel's io_uring is too old ({error}); Linux 6.1 or later has all of it")
        }
        _ => format!("io_uring cannot be set up: {error}"),
    }
}

/// Decides for a back end by trying io_uring once.
fn choose_io(choice: IoChoice) -> Result<IoChoice, StartError> {
    if choice == IoChoice::Epoll {
        return Ok(choice);
    }
    match UringIo::probe() {
        Ok(()) => Ok(IoChoice::Uring),
        Err(error) if choice == IoChoice::Auto => {
            warn!(
                "{}. Falling back to epoll, which serves the same at a higher cost.",
                uring_advice(&error)
            );
            Ok(IoChoice::Epoll)
        }
        Err(error) => Err(StartError(format!(
            "{}, or run with --io epoll",
            uring_advice(&error)
        ))),
    }
}

/// How often, while memory is being taken, a service manager is told that the start goes on; and
/// after how long the operator is told what it waits for.
const STARTING_TELL: Duration = Duration::from_secs(1);
/// How often it is looked whether all connections are gone, all workers have answered, or there is room for
/// a question.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// One worker's lane, which all threads that may wait for each other share.
type Asks = Mutex<Lane<Ask>>;

/// The control plane's way to the workers.
#[derive(Clone)]
pub struct Control {
    workers: Arc<Vec<Asks>>,
    /// What workers share.
    pub shared: Arc<Shared>,
    /// The server's clock.
    pub clock: Clock,
}

impl Control {
    /// Puts a question to one worker and wakes it. False when its lane is full.
    pub fn ask(&self, worker: usize, ask: Ask) -> bool {
        let asks = self.workers[worker].lock();
        asks.unwrap_or_else(PoisonError::into_inner)
            .send(ask)
            .is_ok()
    }

    /// Whether every worker answers within a time.
    #[must_use]
    pub fn all_answer(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let count = self.worker_count();
        let (sender, answers) = bounded(count);
        if !insist(self, deadline, || Ask::Snapshot(sender.clone())) {
            return false;
        }
        // Only looked at, as `Ask` wants it.
        while answers.len() < count && Instant::now() < deadline {
            thread::sleep(LOOK_EVERY);
        }
        answers.len() == count
    }

    /// How many workers there are.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }
}

/// What the operator's files say.
pub struct Files {
    users: Arc<Users>,
    accounts: Option<Accounts>,
    tls: Option<Arc<Tls>>,
}

/// Reads the operator's files; to be called before privileges are dropped, because a private key is
/// often root's alone.
///
/// # Errors
/// When one of them cannot be read or understood.
pub fn read_files(settings: &Settings) -> Result<Files, StartError> {
    let mut files = Files {
        users: Arc::default(),
        accounts: None,
        tls: None,
    };
    match &settings.auth_file {
        Some(path) if settings.has_accounts() => files.accounts = Some(Accounts::load(path)?),
        Some(path) => files.users = Arc::new(Users::load(path)?),
        None => {}
    }
    if let Some(tls) = &settings.tls {
        let guards: Vec<Guard> = settings.listen.iter().map(|at| at.entry.guard).collect();
        let tls = Tls::load(tls.clone(), &guards, Clock::start().now().seconds.0)?;
        files.tls = Some(Arc::new(tls));
    }
    Ok(files)
}

/// Everything one worker's thread starts with.
struct Start {
    index: usize,
    core: Option<CoreId>,
    /// There are more workers than cores, so that some take turns on one.
    crowded: bool,
    bell: Arc<Bell>,
    eventfd: Arc<EventFd>,
    peers: Peers,
    asks: Lanes<Ask>,
    door: Option<Lane<Job>>,
    stderr: Lane<Vec<u8>>,
    voice: Voice,
    users: Arc<Users>,
    shared: Arc<Shared>,
    hasher: KeyHasher,
    seed: u64,
    io: IoChoice,
    clock: Clock,
    /// Who makes costly steps of its handshakes, where there are any.
    helper: Option<Helper>,
    /// Told that the worker has its memory, then that it serves; or why it cannot.
    ready: Sender<Result<(), String>>,
    /// What it is to accept on, once all have their memory.
    accepts_on: Receiver<AcceptsOn>,
}

/// The listening sockets of one worker.
struct AcceptsOn {
    listeners: Vec<Bound>,
    /// How many of them, in front, take connections for all workers.
    open_listeners: usize,
}

/// Serves until a signal or a client ends it.
///
/// # Errors
/// When the server cannot start.
pub fn run(settings: Settings, listeners: Listeners, files: Files) -> Result<(), StartError> {
    let count = settings.workers;
    let (log, voices) = Log::start(settings.log_format, settings.log_level.level(), count)?;
    let mut settings = settings;
    if let Err(error) = read_files(&settings) {
        warn!("{error}: with the rights the server has now it will not be read again");
    }
    settings.io = choose_io(settings.io)?;
    if settings.lock_memory {
        // What comes later is locked when it is first touched: room for growth takes no memory.
        let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
        mlockall(MlockAllFlags::MCL_CURRENT)
            .and_then(|()| mlockall(MlockAllFlags::MCL_FUTURE | on_fault))
            .map_err(|error| {
            format!("-k: memory cannot be locked ({error}); raise the limit (ulimit -l, LimitMEMLOCK=) or leave -k out")
        })?;
    }
    let random_failed = |error| StartError(format!("the kernel gives no random seed: {error}"));
    let mut seed = [0; HASH_SEED_WORDS];
    for word in &mut seed {
        *word = getrandom::u64().map_err(random_failed)?;
    }
    let hasher = KeyHasher::new(seed);

    let (notices_sender, notices) = bounded(4);
    let clock = match settings.debug_clock {
        true => Clock::start_movable(),
        false => Clock::start(),
    };
    let process = Process {
        settings: settings.clone(),
        bound: listeners.bound.clone(),
        shards_bound: listeners.shards_bound.clone(),
    };
    let mut shared = Shared::new(process, notices_sender.clone());
    let (verbosity, prefixes) = (settings.verbosity, settings.count_prefixes);
    shared.watch = Watch::new(count, verbosity, prefixes, true);
    shared.clock = settings.debug_clock.then_some(clock);
    shared.tls = files.tls;
    let shared = Arc::new(shared);
    let (stderr, batches) = inbox(count, STDERR_BATCHES_MAX);
    // One more, for whoever reads the file again.
    let (mut doors, jobs) = inbox(count + 1, DOOR_JOBS_MAX);
    let mut door = doors.pop().filter(|_| files.accounts.is_some());
    let own_lanes = doors.into_iter().zip(stderr).zip(voices);
    let watched_written = write_watched(Arc::clone(&shared), batches)?;
    let signals = catch_signals(notices_sender)?;

    let mut eventfds = Vec::new();
    let mut wakers = Vec::new();
    for _ in 0..count {
        // Blocking, because the ring answers a read of a non-blocking one with "try again".
        let eventfd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC)
            .map_err(|error| format!("no eventfd: {error}"))?;
        let eventfd = Arc::new(eventfd);
        wakers.push(Waker {
            bell: Arc::new(Bell::default()),
            ringer: Arc::new(EventRinger(Arc::clone(&eventfd))),
        });
        eventfds.push(eventfd);
    }

    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let pinned = settings.pin && count <= cores.len();
    let (ready_sender, ready) = bounded(count);
    let mut askers = Vec::new();
    let mut threads = Vec::new();
    let mut to_accept_on = Vec::new();
    let ends = mesh(&wakers).into_iter().zip(own_lanes);
    for (index, (peers, ((door, stderr), voice))) in ends.enumerate() {
        let (sender, accepts_on) = bounded(1);
        to_accept_on.push(sender);
        let waker = wakers[index].clone();
        let (asker, asks) = lane(ASKS_MAX, &waker.ringer);
        askers.push(Mutex::new(asker));
        let helper = match &shared.tls {
            Some(_) => Some(shake_hands_for(index, &waker)?),
            None => None,
        };
        let start = Start {
            index,
            core: pinned.then(|| cores[index]),
            crowded: count > cores.len().max(1),
            bell: Arc::clone(&waker.bell),
            eventfd: Arc::clone(&eventfds[index]),
            peers,
            asks,
            door: files.accounts.is_some().then_some(door),
            stderr,
            voice,
            users: Arc::clone(&files.users),
            shared: Arc::clone(&shared),
            hasher: hasher.clone(),
            seed: seed[0].wrapping_add(index as u64),
            io: settings.io,
            clock,
            helper,
            ready: ready_sender.clone(),
            accepts_on,
        };
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || work(start))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        threads.push(thread);
    }
    drop(ready_sender);

    let manager = Manager::here();
    let starting = Starting {
        count,
        ready,
        notices: &notices,
        manager: &manager,
        memory_bytes: settings.memory_bytes,
    };
    let told_to_end = || {
        info!("told to end before anything was served");
        remove_unix_path(&settings);
        Ok(())
    };
    if !starting.all_are_ready()? {
        return told_to_end();
    }
    listeners.open(&settings)?;
    let handed_over = listeners.handed_over;
    let mut sockets = listeners.sockets;
    for (sender, own) in to_accept_on.iter().zip(listeners.shards) {
        // The first worker accepts for all and deals connections out in turn.
        let mut listeners = std::mem::take(&mut sockets);
        let open_listeners = listeners.len();
        listeners.extend(own);
        // A worker that has ended meanwhile is missed right below.
        let _ = sender.send(AcceptsOn {
            listeners,
            open_listeners,
        });
    }
    if !starting.all_are_ready()? {
        return told_to_end();
    }
    let control = Control {
        workers: Arc::new(askers),
        shared: Arc::clone(&shared),
        clock,
    };
    if let Some(accounts) = files.accounts {
        access::start(accounts, jobs, control.clone())?;
    }
    let admin = match settings.admin {
        Some(address) => Some(crate::admin::start(address, control.clone())?),
        None => None,
    };
    let used: Vec<CoreId> = cores.into_iter().take(count).collect();
    let serving = announce(&shared, handed_over, admin, pinned.then_some(&used[..]));
    // Whoever waits for the start may look at what it said.
    log.flush();
    write_port_file(&shared.process.bound)?;
    manager.ready(&serving);
    Manager::watch(control.clone())?;

    // Ends with the first signal or `shutdown`; the senders live as long as this function.
    while let Ok(Notice::Reload) = notices.recv() {
        manager.reloading();
        reload(&control, door.as_mut());
        manager.ready(&serving);
    }
    manager.stopping("answering what is in flight");
    drain(&control, &notices, &log);
    for thread in threads {
        if thread.join().is_err() {
            return Err(StartError("a worker has failed".into()));
        }
    }
    // Their lanes are closed: what is left in them is written, as far as somebody reads.
    let _ = watched_written.recv_timeout(Duration::from_millis(LOG_FLUSH_MAX_MS));
    signals.close();
    remove_unix_path(&settings);
    Ok(())
}

fn remove_unix_path(settings: &Settings) {
    if let Some(path) = &settings.unix_path {
        let _ = std::fs::remove_file(path);
    }
}

/// Workers on their way to serving, and who wants to know.
struct Starting<'a> {
    count: usize,
    ready: Receiver<Result<(), String>>,
    notices: &'a Receiver<Notice>,
    manager: &'a Manager,
    memory_bytes: usize,
}

impl Starting<'_> {
    /// Waits until every worker has said that it is ready. False when the server is told to end
    /// before. Whoever has to wait is told for what.
    fn all_are_ready(&self) -> Result<bool, StartError> {
        let mut told = false;
        let mut missing = self.count;
        while missing > 0 {
            select! {
                recv(self.ready) -> said => match said {
                    Ok(Ok(())) => missing -= 1,
                    Ok(Err(sentence)) => return Err(StartError(sentence)),
                    Err(_) => return Err(StartError("a worker ended while it was starting".into())),
                },
                // The files that a reload reads have just been read.
                recv(self.notices) -> notice => if notice != Ok(Notice::Reload) {
                    return Ok(false);
                },
                default(STARTING_TELL) => {
                    let status = format!(
                        "taking {} MiB of memory from the kernel before anybody is served",
                        self.memory_bytes >> 20
                    );
                    self.manager.starting(&status, 4 * STARTING_TELL);
                    if !told {
                        info!("{status}");
                        told = true;
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Starts the thread that makes the costly steps of a worker's handshakes, and ends with the worker. It is not
/// bound to a core.
fn shake_hands_for(index: usize, waker: &Waker) -> Result<Helper, StartError> {
    let (helper, hand) = handshakes::pair(&waker.ringer);
    let work = move || {
        let _guard = EndsProcess;
        hand.work();
    };
    thread::Builder::new()
        .name(format!("handshakes-{index}"))
        .spawn(work)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(helper)
}

/// Writes what `-v` asks for to standard error, in memcached's lines or those lines in objects, on a
/// thread of its own: whoever reads that may be slow, and no worker waits for it. The channel that comes
/// back is closed when all workers have ended and all they sent is written.
fn write_watched(
    shared: Arc<Shared>,
    mut batches: Inbox<Vec<u8>>,
) -> Result<Receiver<()>, StartError> {
    let (writes, written) = bounded(0);
    let write = move || {
        yield_to_workers();
        while let Ok(batch) = batches.receive(None) {
            let wanted = shared.watch.stderr_kinds();
            let mut text = Vec::new();
            let mut add = |line: &[u8]| match shared.process.settings.log_format {
                LogFormat::Human => text.extend_from_slice(line),
                LogFormat::Json => {
                    let line = String::from_utf8_lossy(line);
                    let object = serde_json::json!({
                        "level": "DEBUG",
                        "target": "strata_server::watch",
                        "message": line.trim_end(),
                    });
                    let _ = writeln!(text, "{object}");
                }
            };
            match lost_of(&batch) {
                0 => {}
                lost => add(format!("skipped={lost}\n").as_bytes()),
            }
            for (kinds, line) in lines_of(&batch) {
                if wanted.meets(kinds) {
                    add(line);
                }
            }
            let _ = std::io::stderr().write_all(&text);
        }
        drop(writes);
    };
    thread::Builder::new()
        .name("watched".into())
        .spawn(write)
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(written)
}

/// Reads the operator's files again. What cannot be read leaves everything as it was.
fn reload(control: &Control, door: Option<&mut Lane<Job>>) {
    if let Some(tls) = &control.shared.tls {
        match tls.refresh(control.clock.now().seconds.0) {
            Ok(()) => info!("the certificates were read again"),
            Err(sentence) => error!("{sentence}; those known before stay"),
        }
    }
    let Some(path) = &control.shared.process.settings.auth_file else {
        return;
    };
    let deadline = Instant::now() + Duration::from_millis(TELL_MAX_MS);
    let told = match door {
        // Nobody else sends over this lane, so there is room once the one before is read.
        Some(door) => Accounts::load(path).map(|accounts| {
            let accounts = Job::Accounts(Arc::new(accounts));
            door.send(accounts).is_ok()
        }),
        None => Users::load(path).map(|users| {
            let users = Arc::new(users);
            insist(control, deadline, || Ask::Users(Arc::clone(&users)))
        }),
    };
    match told {
        Ok(told) => {
            let done = if told {
                "read again"
            } else {
                "read again, but not everybody who should know does"
            };
            info!("{} was {done}", path.display());
        }
        Err(sentence) => error!("{sentence}; the names known before stay"),
    }
}

fn catch_signals(notices: Sender<Notice>) -> Result<signal_hook::iterator::Handle, StartError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP])
        .map_err(|error| format!("signals cannot be caught: {error}"))?;
    let handle = signals.handle();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in &mut signals {
                // A full channel means that the same was asked already, or that the end is near.
                let _ = notices.try_send(match signal {
                    SIGHUP => Notice::Reload,
                    _ => Notice::Signal,
                });
            }
        })
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(handle)
}

/// Lets the workers answer what is in flight, for a bounded time or until a signal says that it is
/// enough, then ends them.
fn drain(control: &Control, notices: &Receiver<Notice>, log: &Log) {
    let shared = &control.shared;
    shared.begin_stop();
    let most = shared.process.settings.drain;
    info!(
        "stopping: {} connections have {} seconds to take their replies",
        shared.gate.count(),
        most.as_secs()
    );
    let deadline = Instant::now() + most;
    insist(control, deadline, || Ask::Stop);
    while shared.gate.count() > 0 && Instant::now() < deadline {
        // Whatever else comes now comes too late.
        if notices.recv_timeout(LOOK_EVERY) == Ok(Notice::Signal) {
            warn!("a second signal: what is in flight is cut off");
            break;
        }
    }
    let cut_off = shared.gate.count();
    if cut_off > 0 {
        warn!("{cut_off} connections did not take their replies in time");
    }
    let deadline = Instant::now() + Duration::from_millis(END_MAX_MS);
    if !insist(control, deadline, || Ask::End) {
        // A worker that does not even listen cannot be waited for.
        error!("a worker does not answer; the process ends without it");
        log.flush();
        std::process::exit(70);
    }
}

/// Asks every worker, again where its lane is full of other questions. False when one of them
/// has not taken the question by the deadline.
fn insist(control: &Control, deadline: Instant, question: impl Fn() -> Ask) -> bool {
    let mut all = true;
    for worker in 0..control.worker_count() {
        let mut asked = control.ask(worker, question());
        while !asked && Instant::now() < deadline {
            thread::sleep(LOOK_EVERY);
            asked = control.ask(worker, question());
        }
        all &= asked;
    }
    all
}

/// A worker that panics, or a thread that makes its handshakes, takes the server with it: half a cache answers wrongly by not answering.
struct EndsProcess;

impl Drop for EndsProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::exit(70);
        }
    }
}

fn work(start: Start) {
    let _guard = EndsProcess;
    if let Some(core) = start.core {
        core_affinity::set_for_current(core);
    }
    let Start {
        index,
        crowded,
        bell,
        eventfd,
        peers,
        asks,
        door,
        stderr,
        voice,
        users,
        shared,
        hasher,
        seed,
        io,
        clock,
        helper,
        ready,
        accepts_on,
        ..
    } = start;
    voice.begin();
    let settings = &shared.process.settings;
    let bytes = settings.memory_bytes / settings.workers;
    // Touched here, so that the memory is on the node of the core that uses it.
    let room = room_bytes(settings) / settings.workers;
    let memory = match Memory::reserve_with_room(bytes, room, true) {
        Ok(memory) => memory,
        Err(error) => {
            let _ = ready.send(Err(format!(
                "no memory of {} MiB for worker {index} ({error}); lower -m",
                bytes >> 20
            )));
            return;
        }
    };
    let config = ShardConfig {
        item_max_bytes: settings.item_max_bytes,
        eviction: settings.eviction,
        seed,
    };
    let shard = match Shard::with_limit(memory, bytes, hasher.clone(), config) {
        Ok(shard) => shard,
        Err(error) => {
            let _ = ready.send(Err(format!("-m is too small: {error}")));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    // None come when the start has failed elsewhere.
    let Ok(AcceptsOn {
        listeners,
        open_listeners,
    }) = accepts_on.recv()
    else {
        return;
    };
    let listener_fds = listeners
        .iter()
        .map(|bound| bound.socket.as_raw_fd())
        .collect();
    let (listeners, entries) = listeners
        .into_iter()
        .map(|Bound { socket, entry }| (socket, entry))
        .unzip();
    let worker = Worker::new(Parts {
        index,
        shared: Arc::clone(&shared),
        shard,
        hasher,
        peers,
        asks,
        door,
        stderr: Some(stderr),
        users,
        entries,
        listener_fds,
        open_listeners,
    });
    let failed = |error| {
        let _ = ready.send(Err(format!("worker {index} cannot start: {error}")));
    };
    let stall = settings.stall.filter(|stall| stall.worker == index);
    let pace = Pace {
        clock,
        stall: stall.map(|stall| Duration::from_millis(stall.ms)),
        crowded,
    };
    match io {
        IoChoice::Epoll => match EpollIo::new(eventfd, listeners) {
            Ok(io) => {
                let _ = ready.send(Ok(()));
                drive_with_tls(worker, io, &shared, helper, &bell, pace);
            }
            Err(error) => failed(error.to_string()),
        },
        IoChoice::Uring | IoChoice::Auto => {
            match UringIo::new(settings.conns_max, eventfd, listeners) {
                Ok(io) => {
                    let _ = ready.send(Ok(()));
                    drive_with_tls(worker, io, &shared, helper, &bell, pace);
                }
                Err(error) => failed(uring_advice(&error)),
            }
        }
    }
}

/// What paces a worker's ticks.
#[derive(Clone, Copy)]
struct Pace {
    clock: Clock,
    /// How long it stands still each second.
    stall: Option<Duration>,
    /// See [`Start::crowded`].
    crowded: bool,
}

/// As [`drive`], with TLS over the back end where there is any.
fn drive_with_tls<I: Io>(
    worker: Worker,
    io: I,
    shared: &Shared,
    helper: Option<Helper>,
    bell: &Bell,
    pace: Pace,
) {
    match &shared.tls {
        None => drive(worker, io, bell, pace),
        Some(tls) => {
            let mut io = TlsIo::new(io, Arc::clone(tls));
            if let Some(helper) = helper {
                io.help(helper);
            }
            drive(worker, io, bell, pace);
        }
    }
}

/// Ticks until told to end; sleeps in the back end when there is nothing to do.
///
/// A tick lasts from one reading of the clock to the next. While ticks follow each other that is
/// the reading each tick makes anyway, and covers its hand-over to the kernel; only before a sleep
/// the clock is read once more, so that the sleep does not count, unless nobody counts. With `stall`,
/// the first tick of each second stands still, as if its processor had been taken away.
fn drive<I: Io>(mut worker: Worker, mut io: I, bell: &Bell, pace: Pace) {
    let Pace {
        clock,
        stall,
        crowded,
    } = pace;
    let mut now = clock.now();
    let mut stalled = now.seconds;
    while !worker.ended() {
        let busy = worker.tick(&mut io, &now);
        if let Some(stall) = stall.filter(|_| stalled != now.seconds) {
            stalled = now.seconds;
            thread::sleep(stall);
        }
        if busy {
            io.submit(Wait::No);
            now = clock.now();
            worker.ticked(now.elapsed_ns);
            continue;
        }
        if worker.is_timed() {
            worker.ticked(clock.now().elapsed_ns);
        }
        let give_turn = || {
            io.submit(Wait::No);
            thread::yield_now();
        };
        if !may_sleep(crowded, give_turn, || worker.has_mail()) {
            now = clock.now();
            continue;
        }
        bell.doze();
        if worker.has_mail() {
            bell.rise();
            io.submit(Wait::No);
        } else {
            io.submit(worker.patience());
            bell.rise();
        }
        now = clock.now();
    }
}

/// Whether a worker that has nothing to do sleeps now. Where workers take turns on a core, it lets the others
/// have theirs first: what they then have sent it costs nobody a wake-up (perf/notes/remote-gets.md).
fn may_sleep(crowded: bool, give_turn: impl FnOnce(), has_mail: impl FnOnce() -> bool) -> bool {
    if !crowded {
        return true;
    }
    give_turn();
    !has_mail()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn who_shares_a_core_gives_a_turn_and_sleeps_only_if_that_brought_nothing() {
        let sleeps = |crowded, others_send| {
            let (turns, mail) = (Cell::new(0), Cell::new(false));
            let give_turn = || {
                turns.set(turns.get() + 1);
                mail.set(others_send);
            };
            (may_sleep(crowded, give_turn, || mail.get()), turns.get())
        };
        assert_eq!(sleeps(true, true), (false, 1));
        assert_eq!(sleeps(true, false), (true, 1));
        // Else a turn is a system call for nobody.
        assert_eq!(sleeps(false, false), (true, 0));
    }

    /// What a start of one worker comes to that hears all of `notices` before the worker speaks.
    fn outcome(notices: &[Notice], said: Result<(), String>) -> Result<bool, StartError> {
        let (ready_sender, ready) = bounded(1);
        let (notices_sender, heard) = bounded(4);
        for notice in notices {
            notices_sender.send(*notice).expect("room");
        }
        let speaker = thread::spawn(move || {
            while !notices_sender.is_empty() {
                thread::yield_now();
            }
            let _ = ready_sender.send(said);
            notices_sender
        });
        let starting = Starting {
            count: 1,
            ready,
            notices: &heard,
            manager: &Manager::here(),
            memory_bytes: 64 << 20,
        };
        let outcome = starting.all_are_ready();
        speaker.join().expect("ended");
        outcome
    }

    #[test]
    fn a_signal_ends_a_start_and_a_reload_does_not() {
        assert!(outcome(&[Notice::Reload], Ok(())).expect("started"));
        assert!(!outcome(&[Notice::Signal], Ok(())).expect("ended"));
        assert!(!outcome(&[Notice::Reload, Notice::Stop], Ok(())).expect("ended"));
    }

    #[test]
    fn a_worker_that_cannot_start_says_why() {
        let StartError(sentence) = outcome(&[], Err("no memory".into())).expect_err("refused");
        assert_eq!(sentence, "no memory");
    }
}
