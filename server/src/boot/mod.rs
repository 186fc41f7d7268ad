//! Start and stop: what the host must grant, the listeners, one thread a worker, signals.
//!
//! Whatever the host refuses ends the start with a [`StartError`]: one sentence that says what to
//! do. Nothing is served before every worker has its memory and its ring.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use crossbeam_channel::{Sender, bounded};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use strata_store::{HASH_SEED_WORDS, KeyHasher, Shard, ShardConfig};

use crate::clock::Clock;
use crate::config::{
    ASKS_MAX, BATCH_MAX, CARRY_MAX_BYTES, CARRY_PAUSE_BYTES, DRAIN_MAX_MS, END_MAX_MS,
    INTAKE_MAX_BYTES, IoChoice, LEND_MIN_BYTES, MEMORY_ROOM_TIMES, RECEIVE_BUFFER_BYTES,
    RECEIVE_BUFFERS, REPLIES_MAX_BYTES, SPARE_MAX_BYTES, SPARE_SMALL_MAX_BYTES, SPILL_KEEP_BYTES,
    STALL_MS, Settings, mailbox_slots,
};
use crate::io::epoll::EpollIo;
use crate::io::uring::UringIo;
use crate::io::{EventRinger, Io};
use crate::mailbox::Bell;
use crate::memory::{Memory, available_bytes};
use crate::mesh::{Peers, Waker, mesh};
use crate::message::{Homecoming, Visit};
use crate::shared::Shared;
use crate::stats::Process;
use crate::worker::{Ask, Parts, Worker};

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

/// Descriptors the server needs besides its clients': listeners, rings, eventfds, the admin
/// endpoint, standard streams.
const RESERVED_FILES: u64 = 64;

/// The listening sockets, bound before privileges are dropped.
pub struct Listeners {
    sockets: Vec<OwnedFd>,
    bound: Vec<SocketAddr>,
    /// Each worker's own.
    shards: Vec<Vec<OwnedFd>>,
    shards_bound: Vec<SocketAddr>,
}

/// Makes sure that as many descriptors may be opened as there may be connections.
///
/// # Errors
/// When the limit is lower and may not be raised.
pub fn raise_file_limit(settings: &Settings) -> Result<(), StartError> {
    let conns_max = settings.conns_max;
    let shard_ports = if settings.shard_ports {
        settings.workers * settings.listen.len()
    } else {
        0
    };
    let wanted = (conns_max + shard_ports) as u64 + RESERVED_FILES;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|error| format!("the limit of open files cannot be read: {error}"))?;
    if soft >= wanted {
        return Ok(());
    }
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open");
    let most = most.ok().and_then(|text| text.trim().parse::<u64>().ok());
    if let Some(most) = most.filter(|most| *most < wanted) {
        return Err(StartError(format!(
            "-c {conns_max} needs {wanted} open files and this kernel lets a process have {most}; \
             lower -c or raise fs.nr_open (sysctl fs.nr_open={wanted})"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).map_err(|_| {
        StartError(format!(
            "-c {conns_max} needs {wanted} open files and the limit is {hard}; \
             raise it (ulimit -n {wanted}, LimitNOFILE= in a unit file) or lower -c"
        ))
    })
}

/// Binds all listeners.
///
/// # Errors
/// When an address or path cannot be had.
pub fn listen(settings: &Settings) -> Result<Listeners, StartError> {
    let mut listeners = Listeners {
        sockets: Vec::new(),
        bound: Vec::new(),
        shards: (0..settings.workers).map(|_| Vec::new()).collect(),
        shards_bound: Vec::new(),
    };
    for (at, address) in settings.listen.iter().enumerate() {
        let (socket, bound) = bind_tcp(*address, settings)?;
        listeners.bound.push(bound);
        listeners.sockets.push(socket);
        if !settings.shard_ports {
            continue;
        }
        for (worker, own) in listeners.shards.iter_mut().enumerate() {
            // Where the kernel chooses the first port, it chooses the others too.
            let port = match address.port() {
                0 => 0,
                first => u16::try_from(usize::from(first) + 1 + worker).map_err(|_| {
                    format!("--shard-ports: there is no port {first} + {worker} + 1; lower -p")
                })?,
            };
            let (socket, bound) = bind_tcp(SocketAddr::new(address.ip(), port), settings)?;
            own.push(socket);
            if at == 0 {
                listeners.shards_bound.push(bound);
            }
        }
    }
    if let Some(path) = &settings.unix_path {
        let socket = listen_unix(path, settings).map_err(|error| {
            let advice = match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "; another server has it: stop that one or choose another path with -s"
                }
                _ => "",
            };
            format!("cannot listen on {}: {error}{advice}", path.display())
        })?;
        listeners.sockets.push(socket.into());
    }
    Ok(listeners)
}

/// Listens on an address; the socket, and the address with the port it really has.
fn bind_tcp(address: SocketAddr, settings: &Settings) -> Result<(OwnedFd, SocketAddr), StartError> {
    let socket = listen_tcp(address, settings.backlog).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                "; another server has it: stop that one or choose another port with -p"
            }
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 need root",
            std::io::ErrorKind::AddrNotAvailable => "; this host has no such address",
            _ => "",
        };
        format!("cannot listen on {address}: {error}{advice}")
    })?;
    let bound = socket
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket())
        .unwrap_or(address);
    Ok((socket.into(), bound))
}

fn listen_tcp(address: SocketAddr, backlog: i32) -> std::io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket)
}

fn listen_unix(path: &Path, settings: &Settings) -> std::io::Result<Socket> {
    use std::os::unix::fs::FileTypeExt;
    let address = SockAddr::unix(path)?;
    // A socket file that nobody serves any more is in the way; anything else is not ours.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let probe = Socket::new(Domain::UNIX, Type::STREAM.cloexec().nonblocking(), None)?;
        match probe.connect(&address) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            // Anything but a refusal is an answer: it is served, or not ours to judge.
            _ => return Err(std::io::ErrorKind::AddrInUse.into()),
        }
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    socket.bind(&address)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(settings.unix_mask))?;
    socket.listen(settings.backlog)?;
    Ok(socket)
}

/// Goes into the background; to be called before any thread exists.
///
/// # Errors
/// When the system does not let it.
pub fn detach() -> Result<(), StartError> {
    nix::unistd::daemon(true, false)
        .map_err(|error| StartError(format!("-d: cannot go into the background: {error}")))
}

/// Writes the process id to a file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_pid_file(path: &Path) -> Result<(), StartError> {
    std::fs::write(path, format!("{}\n", std::process::id()))
        .map_err(|error| StartError(format!("-P: cannot write {}: {error}", path.display())))
}

/// Gives up root's rights for those of a user; does nothing when not started as root.
///
/// # Errors
/// When there is no such user, or the system does not let it.
pub fn become_user(name: &str) -> Result<(), StartError> {
    use nix::unistd::{User, geteuid, initgroups, setgid, setuid};
    if !geteuid().is_root() {
        return Ok(());
    }
    let user = User::from_name(name)
        .ok()
        .flatten()
        .ok_or_else(|| format!("-u: there is no user {name}"))?;
    let c_name = std::ffi::CString::new(name).map_err(|error| format!("-u {name}: {error}"))?;
    initgroups(&c_name, user.gid)
        .and_then(|()| setgid(user.gid))
        .and_then(|()| setuid(user.uid))
        .map_err(|error| StartError(format!("-u: cannot become {name}: {error}")))
}

/// Tells tests and scripts the ports the kernel chose, as memcached does.
///
/// # Errors
/// When the file that `MEMCACHED_PORT_FILENAME` names cannot be written.
fn write_port_file(bound: &[SocketAddr]) -> Result<(), StartError> {
    let Some(path) = std::env::var_os("MEMCACHED_PORT_FILENAME") else {
        return Ok(());
    };
    let path = Path::new(&path);
    // Whoever waits for the file must never see half of it.
    let part = path.with_extension("part");
    let mut text = Vec::new();
    for address in bound {
        let family = if address.is_ipv6() { "INET6" } else { "INET" };
        let _ = writeln!(text, "TCP {family}: {}", address.port());
    }
    std::fs::write(&part, text)
        .and_then(|()| std::fs::rename(&part, path))
        .map_err(|error| StartError(format!("cannot write {}: {error}", path.display())))
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
        Some(libc::ENOSYS | libc::EINVAL) => {
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
            eprintln!(
                "strata: {}. Falling back to epoll, which serves the same at a higher cost.",
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

struct Handle {
    asks: Sender<Ask>,
    waker: Waker,
}

/// The control plane's way to the workers.
#[derive(Clone)]
pub struct Control {
    workers: Arc<Vec<Handle>>,
    /// What workers share.
    pub shared: Arc<Shared>,
    /// The server's clock.
    pub clock: Clock,
}

impl Control {
    /// Puts a question to one worker and wakes it. False when its channel is full.
    pub fn ask(&self, worker: usize, ask: Ask) -> bool {
        let handle = &self.workers[worker];
        let asked = handle.asks.try_send(ask).is_ok();
        handle.waker.ringer.ring();
        asked
    }

    /// How many workers there are.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }
}

/// Everything one worker's thread starts with.
struct Start {
    index: usize,
    core: Option<CoreId>,
    bell: Arc<Bell>,
    eventfd: Arc<EventFd>,
    listeners: Vec<OwnedFd>,
    open_listeners: usize,
    peers: Peers,
    asks: crossbeam_channel::Receiver<Ask>,
    shared: Arc<Shared>,
    hasher: KeyHasher,
    seed: u64,
    io: IoChoice,
    clock: Clock,
    /// Told that the worker is ready, or why it cannot start.
    ready: Sender<Result<(), String>>,
}

/// Serves until a signal or a client ends it.
///
/// # Errors
/// When the server cannot start.
pub fn run(settings: Settings, listeners: Listeners) -> Result<(), StartError> {
    let mut settings = settings;
    settings.io = choose_io(settings.io)?;
    let count = settings.workers;
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

    let (stop_sender, stop) = bounded(4);
    let clock = Clock::start();
    let process = Process {
        settings: settings.clone(),
        bound: listeners.bound.clone(),
        shards_bound: listeners.shards_bound,
    };
    let shared = Arc::new(Shared::new(process, stop_sender.clone()));
    let signals = catch_signals(stop_sender)?;

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
    let mut handles = Vec::new();
    let mut threads = Vec::new();
    let mut sockets = listeners.sockets;
    let mut own_sockets = listeners.shards.into_iter();
    for (index, peers) in mesh(&wakers).into_iter().enumerate() {
        // The first worker accepts for all and deals connections out in turn.
        let mut listeners = std::mem::take(&mut sockets);
        let open_listeners = listeners.len();
        listeners.extend(own_sockets.next().unwrap_or_default());
        let (asks_sender, asks) = bounded(ASKS_MAX);
        let waker = wakers[index].clone();
        let start = Start {
            index,
            core: pinned.then(|| cores[index]),
            bell: Arc::clone(&waker.bell),
            eventfd: Arc::clone(&eventfds[index]),
            listeners,
            open_listeners,
            peers,
            asks,
            shared: Arc::clone(&shared),
            hasher: hasher.clone(),
            seed: seed[0].wrapping_add(index as u64),
            io: settings.io,
            clock,
            ready: ready_sender.clone(),
        };
        handles.push(Handle {
            asks: asks_sender,
            waker,
        });
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || work(start))
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        threads.push(thread);
    }
    drop(ready_sender);

    for _ in 0..count {
        match ready.recv() {
            Ok(Ok(())) => {}
            Ok(Err(sentence)) => return Err(StartError(sentence)),
            Err(_) => return Err(StartError("a worker ended while it was starting".into())),
        }
    }
    let control = Control {
        workers: Arc::new(handles),
        shared: Arc::clone(&shared),
        clock,
    };
    let admin = match settings.admin {
        Some(address) => Some(crate::admin::start(address, control.clone())?),
        None => None,
    };
    let used: Vec<CoreId> = cores.into_iter().take(count).collect();
    announce(&shared, admin, pinned.then_some(&used[..]));
    write_port_file(&shared.process.bound)?;

    // Ends with the first signal or `shutdown`; the senders live as long as this function.
    let _ = stop.recv();
    drain(&control);
    for thread in threads {
        if thread.join().is_err() {
            return Err(StartError("a worker has failed".into()));
        }
    }
    signals.close();
    if let Some(path) = &settings.unix_path {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn catch_signals(stop: Sender<()>) -> Result<signal_hook::iterator::Handle, StartError> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP])
        .map_err(|error| format!("signals cannot be caught: {error}"))?;
    let handle = signals.handle();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in &mut signals {
                // A hang-up asks memcached to read its files again; there are none to read.
                if signal != SIGHUP {
                    let _ = stop.try_send(());
                }
            }
        })
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    Ok(handle)
}

/// Lets the workers answer what is in flight, for a bounded time, then ends them.
fn drain(control: &Control) {
    let deadline = Instant::now() + Duration::from_millis(DRAIN_MAX_MS);
    insist(control, deadline, || Ask::Stop);
    while control.shared.gate.count() > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
    let cut_off = control.shared.gate.count();
    if cut_off > 0 {
        eprintln!("strata: {cut_off} connections did not take their replies in time");
    }
    let deadline = deadline.max(Instant::now() + Duration::from_millis(END_MAX_MS));
    if !insist(control, deadline, || Ask::End) {
        // A worker that does not even listen cannot be waited for.
        eprintln!("strata: a worker does not answer; the process ends without it");
        std::process::exit(70);
    }
}

/// Asks every worker, again where its channel is full of other questions. False when one of them
/// has not taken the question by the deadline.
fn insist(control: &Control, deadline: Instant, question: impl Fn() -> Ask) -> bool {
    let mut all = true;
    for worker in 0..control.worker_count() {
        let mut asked = control.ask(worker, question());
        while !asked && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
            asked = control.ask(worker, question());
        }
        all &= asked;
    }
    all
}

fn announce(shared: &Shared, admin: Option<SocketAddr>, cores: Option<&[CoreId]>) {
    let process = &shared.process;
    let settings = &process.settings;
    for address in &process.bound {
        eprintln!("strata: listening on {address}");
        if !address.ip().is_loopback() {
            eprintln!(
                "strata: WARNING: whoever reaches {address} can read and change everything; \
                 there is no authentication"
            );
        }
    }
    if let Some(path) = &settings.unix_path {
        eprintln!("strata: listening on {}", path.display());
    }
    if let Some(address) = admin {
        eprintln!("strata: admin endpoint on http://{address}");
    }
    let backend = match settings.io {
        IoChoice::Epoll => "epoll",
        IoChoice::Auto | IoChoice::Uring => "io_uring",
    };
    let placement = match cores {
        Some(cores) => {
            let numbers: Vec<String> = cores.iter().map(|core| core.id.to_string()).collect();
            format!("pinned to cores {}", numbers.join(","))
        }
        None => "not pinned".into(),
    };
    eprintln!(
        "strata: {} workers on {backend}, {placement}",
        settings.workers
    );
    let pages = match huge_bytes() {
        Some(0) => "on small pages (transparent huge pages are off or scarce)".into(),
        Some(bytes) => format!("with {} MiB on huge pages", bytes >> 20),
        None => "on pages of unknown size".into(),
    };
    eprintln!(
        "strata: {} MiB for items and table {pages}, and up to {} MiB for buffers",
        settings.memory_bytes >> 20,
        buffers_max_bytes(settings) >> 20
    );
    if shared.memory_most() > settings.memory_bytes {
        eprintln!(
            "strata: cache_memlimit can raise the first to {} MiB; until then that takes addresses \
             and no memory",
            shared.memory_most() >> 20
        );
    }
}

/// How much memory the shards may grow to, in bytes.
fn room_bytes(settings: &Settings) -> usize {
    // Room counts as locked although nothing is behind it, and must not use up what may be locked.
    let locked_max = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
    if settings.lock_memory && locked_max != nix::sys::resource::RLIM_INFINITY {
        return settings.memory_bytes;
    }
    let most = settings.memory_bytes.saturating_mul(MEMORY_ROOM_TIMES);
    let available = available_bytes().unwrap_or(0);
    most.min(available).max(settings.memory_bytes)
}

/// How much of the process's memory is on transparent huge pages, as the kernel counts it.
fn huge_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// What the server may use besides items and table: receive buffers, mailboxes, half-received
/// large values, and the replies and carried input of every session at their bounds.
fn buffers_max_bytes(settings: &Settings) -> usize {
    let workers = settings.workers;
    let receive = RECEIVE_BUFFERS * RECEIVE_BUFFER_BYTES;
    let slots = mailbox_slots(workers) * (workers - 1);
    let mailboxes = slots * (size_of::<Visit>() + size_of::<Homecoming>() + 2 * SPILL_KEEP_BYTES);
    let intake = INTAKE_MAX_BYTES + settings.item_max_bytes as usize;
    // What the ring hands over before it is told to sip comes on top of it, twice at most: the
    // buffers seen in a tick, and those filled meanwhile.
    let carry = CARRY_MAX_BYTES + 2 * receive;
    // What is on its way home when the bound is met comes on top of it.
    let replies = REPLIES_MAX_BYTES + (BATCH_MAX + slots) * LEND_MIN_BYTES;
    let spare = SPARE_MAX_BYTES + 2 * SPARE_SMALL_MAX_BYTES;
    let session = CARRY_PAUSE_BYTES + RECEIVE_BUFFER_BYTES + LEND_MIN_BYTES;
    workers * (receive + mailboxes + intake + carry + replies + spare)
        + settings.conns_max * session
}

/// A worker that panics takes the server with it: half a cache answers wrongly by not answering.
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
        bell,
        eventfd,
        listeners,
        open_listeners,
        peers,
        asks,
        shared,
        hasher,
        seed,
        io,
        clock,
        ready,
        ..
    } = start;
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
    let worker = Worker::new(Parts {
        index,
        shared: Arc::clone(&shared),
        shard,
        hasher,
        peers,
        asks,
        open_listeners,
    });
    let failed = |error| {
        let _ = ready.send(Err(format!("worker {index} cannot start: {error}")));
    };
    let stalls = settings.stalled_worker == Some(index);
    match io {
        IoChoice::Epoll => match EpollIo::new(eventfd, listeners) {
            Ok(io) => {
                let _ = ready.send(Ok(()));
                drive(worker, io, &bell, clock, stalls);
            }
            Err(error) => failed(error.to_string()),
        },
        IoChoice::Uring | IoChoice::Auto => {
            match UringIo::new(settings.conns_max, eventfd, listeners) {
                Ok(io) => {
                    let _ = ready.send(Ok(()));
                    drive(worker, io, &bell, clock, stalls);
                }
                Err(error) => failed(uring_advice(&error)),
            }
        }
    }
}

/// Ticks until told to end; sleeps in the back end when there is nothing to do.
///
/// A tick lasts from one reading of the clock to the next. While ticks follow each other that is
/// the reading each tick makes anyway, and covers its hand-over to the kernel; only before a sleep
/// the clock is read once more, so that the sleep does not count. With `stalls`, the first tick of
/// each second stands still, as if its processor had been taken away.
fn drive<I: Io>(mut worker: Worker, mut io: I, bell: &Bell, clock: Clock, stalls: bool) {
    let mut now = clock.now();
    let mut stalled = now.seconds;
    while !worker.ended() {
        let busy = worker.tick(&mut io, &now);
        let started_us = now.elapsed_us;
        if stalls && stalled != now.seconds {
            stalled = now.seconds;
            thread::sleep(Duration::from_millis(STALL_MS));
        }
        if busy {
            io.submit(false);
            now = clock.now();
            worker.ticked(now.elapsed_us - started_us);
            continue;
        }
        worker.ticked(clock.now().elapsed_us - started_us);
        bell.doze();
        if worker.has_mail() {
            bell.rise();
            io.submit(false);
        } else {
            io.submit(true);
            bell.rise();
        }
        now = clock.now();
    }
}
