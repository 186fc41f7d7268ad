//! The real binary as a child of a test: started on ports the kernel chooses, told apart by its
//! own process id, bounded in time, and gone when the test is.

use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::Client;

/// How long anything a test waits for may take; far above what it takes on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a server may live.
const LIFE_MAX: Duration = Duration::from_secs(120);

/// Memory of the process outside of the printed budget: program, stacks, the shards' own
/// bookkeeping, and what the allocator holds between its users.
const PROCESS_SLACK_BYTES: u64 = 24 << 20;

/// How long a stop may take, as promised to operators.
const STOP_MAX: Duration = Duration::from_secs(5);

/// How long it may take to see that a stopped process has ended.
const STOP_SLACK: Duration = Duration::from_secs(2);

/// The back ends and numbers of workers that every claim is tested with.
pub fn variants() -> Vec<(&'static str, &'static str)> {
    let mut list = Vec::new();
    match strata_server::io::uring::UringIo::probe() {
        Ok(()) => list.extend([("uring", "1"), ("uring", "3")]),
        Err(error) => eprintln!("io_uring is not tested: this host refuses it ({error})"),
    }
    list.extend([("epoll", "1"), ("epoll", "2")]);
    list
}

/// Looks again and again until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory of one test, removed with it.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("strata-sockets-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new directory");
        Self(path)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The binary with `words` behind it, its standard error in a file, dying with its test.
pub fn command(words: &str, stderr: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_strata"));
    command
        .args(words.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(stderr).expect("a file for standard error"));
    // SAFETY: between fork and exec only a system call is made, which allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?));
    }
    command
}

/// Lets a server that is to become another user leave its port in the folder it was given.
pub fn open_folder(command: &mut Command) {
    let mut names = command.get_envs();
    let (_, ports) = names
        .find(|(name, _)| *name == "MEMCACHED_PORT_FILENAME")
        .expect("set");
    let place = Path::new(ports.expect("a path")).parent();
    let mode = PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(place.expect("a directory"), mode).expect("our own directory");
}

/// Hands sockets over to the server as systemd does, from descriptor 3 on. Which process they are for
/// is left open: nobody knows its id before it runs.
pub fn hand_over(command: &mut Command, sockets: &[RawFd], names: &str) {
    command
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names);
    let sockets = sockets.to_vec();
    let dup = |from: RawFd, to: RawFd| {
        // SAFETY: a system call on plain numbers.
        match unsafe { libc::dup2(from, to) } {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    let place = move || {
        // First out of each other's way.
        for (at, fd) in (0..).zip(&sockets) {
            dup(*fd, 100 + at)?;
        }
        for (at, _) in (0..).zip(&sockets) {
            dup(100 + at, 3 + at)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only system calls are made, which allocate nothing.
    unsafe { command.pre_exec(place) };
}

/// Runs the binary where it must refuse to start; what it says and its exit code.
pub fn refused(words: &str, prepare: impl FnOnce(&mut Command)) -> (String, i32) {
    let folder = Folder::new();
    let stderr = folder.file("stderr");
    let mut command = command(words, &stderr);
    prepare(&mut command);
    let mut child = command.spawn().expect("the binary starts");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our own child") {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            let said = std::fs::read_to_string(&stderr).unwrap_or_default();
            panic!("strata {words} did not refuse to start; it said: {said}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let said = std::fs::read_to_string(&stderr).expect("standard error");
    (said, status.code().unwrap_or(-1))
}

/// A running server.
pub struct Server {
    child: Option<Child>,
    pub pid: Pid,
    pub port: u16,
    pub unix: PathBuf,
    pub words: String,
    pub folder: Folder,
    watchdog: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Server {
    /// Starts the binary on a port and a unix socket of its own.
    pub fn start(words: &str) -> Self {
        Self::start_with(words, |_| {})
    }

    /// As [`Server::start`], with more done to the command.
    pub fn start_with(words: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = Folder::new();
        let unix = folder.file("socket");
        // What a server that was killed leaves behind is in nobody's way.
        drop(UnixListener::bind(&unix).expect("a path for a socket"));
        let words = format!("-p -1 -s {} --no-pin {words}", unix.display());
        let mut command = command(&words, &folder.file("stderr"));
        let ports = folder.file("ports");
        command.env("MEMCACHED_PORT_FILENAME", &ports);
        prepare(&mut command);
        let child = command.spawn().expect("the binary starts");
        let pid = Pid::from_raw(child.id() as i32);
        let (alive, life) = channel();
        // A child that was not waited for keeps its id, so this can hit nobody else: it is waited
        // for only once this thread has ended.
        let watchdog = std::thread::spawn(move || {
            if life.recv_timeout(LIFE_MAX) == Err(RecvTimeoutError::Timeout) {
                eprintln!("server {pid} outlived its test");
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let mut server = Self {
            child: Some(child),
            pid,
            port: 0,
            unix,
            words,
            folder,
            watchdog: Some((alive, watchdog)),
        };
        server.port = until("the port file", || {
            if let Some(child) = &mut server.child
                && let Ok(Some(status)) = child.try_wait()
            {
                let said = std::fs::read_to_string(server.folder.file("stderr"));
                panic!("strata {} ended with {status}: {said:?}", server.words);
            }
            let text = std::fs::read_to_string(&ports).ok()?;
            text.lines().next()?.rsplit(' ').next()?.parse().ok()
        });
        server
    }

    /// The ports of its listeners, in the order they were named.
    pub fn ports(&self) -> Vec<u16> {
        let text = std::fs::read_to_string(self.folder.file("ports")).expect("it is listening");
        let port = |line: &str| line.rsplit(' ').next()?.parse().ok();
        text.lines().filter_map(port).collect()
    }

    /// What it has said on standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.folder.file("stderr")).unwrap_or_default()
    }

    /// A new connection over TCP.
    pub fn client(&self) -> Client {
        Client::tcp(self.port)
    }

    /// A new connection over the unix socket.
    pub fn unix_client(&self) -> Client {
        Client::unix(&self.unix)
    }

    /// The number behind a field of `/proc/pid/status`, in bytes.
    pub fn memory_bytes(&self, field: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid))
            .expect("the server is alive");
        let line = text.lines().find(|line| line.starts_with(field));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.and_then(|kib| kib.parse::<u64>().ok())
            .expect("a number of kB")
            << 10
    }

    /// Processor time used so far.
    pub fn cpu_time(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .expect("the server is alive");
        let (_, fields) = text.rsplit_once(')').expect("a name in parentheses");
        let mut ticks = fields.split_whitespace().skip(11);
        let mut next = || ticks.next().and_then(|ticks| ticks.parse::<u64>().ok());
        let sum = next().zip(next()).map(|(user, system)| user + system);
        Duration::from_millis(sum.expect("two numbers of ticks of 10 ms") * 10)
    }

    /// Sets how many descriptors the server may have, for what it opens from now on.
    pub fn limit_files(&self, limit: u64) {
        // The server has inherited ours.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("our own limit");
        let limit = libc::rlimit {
            rlim_cur: limit.min(hard),
            rlim_max: hard,
        };
        let resource = libc::RLIMIT_NOFILE;
        // SAFETY: the limit lives until the call returns, and the old one is not asked for.
        let done =
            unsafe { libc::prlimit(self.pid.as_raw(), resource, &limit, std::ptr::null_mut()) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// The largest descriptor that is open.
    pub fn last_file(&self) -> u64 {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid))
            .expect("the server is alive")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .max()
            .expect("an open file")
    }

    /// Waits until the server uses hardly any processor time.
    pub fn until_at_rest(&self) {
        // A window of time is what is measured here; what was sent before may still be worked on
        // in the first ones.
        until("the server comes to rest", || {
            let before = self.cpu_time();
            std::thread::sleep(Duration::from_millis(300));
            (self.cpu_time() - before <= Duration::from_millis(30)).then_some(())
        });
    }

    /// Open descriptors.
    pub fn file_count(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid))
            .expect("the server is alive")
            .count()
    }

    /// The memory it promised at its start to stay within.
    pub fn budget_bytes(&self) -> u64 {
        let said = self.said();
        let line = said.lines().find(|line| line.contains("for buffers"));
        let numbers = line.expect("the line about memory").split(' ');
        let mib: u64 = numbers.filter_map(|word| word.parse::<u64>().ok()).sum();
        mib << 20
    }

    /// Checks that the server is well and that nothing of its clients is left, now that all of
    /// them have gone; then stops it.
    pub fn finish(mut self) {
        let mut client = self.client();
        let last = std::cell::RefCell::new(String::new());
        until("all other connections are forgotten", || {
            let stats = client.stats();
            *last.borrow_mut() = stats.get("curr_connections")?.clone();
            (*last.borrow() == "1").then_some(())
        });
        client.round_trip("neighbour", b"is well");
        self.assert_within_budget();
        drop(client);
        self.stop(Signal::SIGTERM);
    }

    /// Checks that it never had more memory than it promised at its start.
    pub fn assert_within_budget(&self) {
        let peak = self.memory_bytes("VmHWM");
        let most = self.budget_bytes() + PROCESS_SLACK_BYTES;
        assert!(
            peak <= most,
            "strata {}: {} MiB were resident, {} MiB are promised with all slack",
            self.words,
            peak >> 20,
            most >> 20
        );
    }

    /// Ends the server as [`Server::finish`] does, without a client that looks first.
    pub fn stop_unasked(mut self) {
        self.stop(Signal::SIGTERM);
    }

    /// Ends the server with a signal, in the time promised.
    pub fn stop(&mut self, signal: Signal) {
        kill(self.pid, signal).expect("the server is alive");
        self.assert_ends_well();
    }

    /// Waits for the server to end by itself, in the time promised, with exit code 0.
    pub fn assert_ends_well(&mut self) {
        let started = Instant::now();
        let status = self.wait();
        let took = started.elapsed();
        assert!(
            status.code() == Some(0),
            "strata {} ended with {status} (signal {:?}) and said: {}",
            self.words,
            status.signal(),
            self.said()
        );
        assert!(took < STOP_MAX + STOP_SLACK, "the stop took {took:?}");
    }

    /// Waits for the end; the watchdog's patience bounds it.
    fn wait(&mut self) -> ExitStatus {
        // The child is looked at without reaping it while the watchdog may still use its id.
        let pid = self.pid;
        until("the server's end", || {
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (_, state) = state.rsplit_once(") ")?;
            state.starts_with('Z').then_some(())
        });
        self.end_watchdog();
        let mut child = self.child.take().expect("stopped once");
        child.wait().expect("our own child")
    }

    fn end_watchdog(&mut self) {
        if let Some((alive, thread)) = self.watchdog.take() {
            drop(alive);
            let _ = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end_watchdog();
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            eprintln!("strata {} said: {}", self.words, self.said());
        }
    }
}
