//! A run from connecting to the merged tally: threads, phases, and the verdict.
//!
//! Always true: threads share nothing while measuring but a stop flag; all of them enter a phase
//! together; a failure of one ends the run for all.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::client::Terms;
use crate::drive::{Clock, Common, Driver};
use crate::fairness::Fairness;
use crate::live::{BEAT, Progress, Pulse};
use crate::placement::Placement;
use crate::plan::{Io, Length, Pace, Plan};
use crate::schedule::{Arrival, Schedule};
use crate::tally::Tally;
use crate::transport::epoll::Epoll;
use crate::transport::tls::Tls;
use crate::transport::uring::Uring;
use crate::transport::{Transport, connect};
use crate::windows::Windows;
use crate::workload::{Mix, Requests, mix, share};

/// Between the moment all threads are ready and the first request.
const LEAD_NS: u64 = 1_000_000;

/// A finished run.
#[derive(Clone)]
pub struct Outcome {
    /// What all threads saw, merged.
    pub tally: Tally,
    /// The measured time.
    pub measured: Duration,
    /// Wall-clock time at which it began.
    pub started: SystemTime,
    /// Keys the fill had acknowledged, if there was one.
    pub filled: Option<u64>,
    /// How long it took.
    pub fill_time: Duration,
    /// Ended by the user before its time.
    pub interrupted: bool,
    /// The transport used.
    pub io: &'static str,
}

/// A moment in a run that others may want to know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What happens from here on is measured.
    Measuring,
    /// Measuring has ended; outstanding replies are still waited for.
    Measured,
}

/// What a run lets others know while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// A phase has begun.
    Phase(Phase),
    /// How far it has come.
    Progress(&'a Progress),
}

/// What a thread brings home.
struct Part {
    tally: Tally,
    fill: Tally,
    fill_ns: u64,
    end_ns: u64,
}

/// Carries out `plan`. `stop` ends it early; `announce` is called now and then, outside the threads
/// that make the load. The error is a sentence for the user.
pub fn run(plan: &Plan, stop: &AtomicBool, announce: &dyn Fn(News)) -> Result<Outcome, String> {
    let uring = match plan.io {
        Io::Epoll => false,
        Io::Uring => {
            uring_works().map_err(|error| {
                format!(
                    "--io uring: the kernel refuses io_uring ({error}); \
                     check kernel.io_uring_disabled and the container's seccomp profile, or use --io epoll"
                )
            })?;
            true
        }
        Io::Auto => match uring_works() {
            Ok(()) => true,
            Err(error) => {
                eprintln!("strata-load: io_uring is refused ({error}); using epoll");
                false
            }
        },
    };
    raise_file_limit(plan.connection_count() as u64 + 64)?;
    match (uring, &plan.tls) {
        (true, None) => run_on::<Uring>(plan, stop, announce, "io_uring", &()),
        (false, None) => run_on::<Epoll>(plan, stop, announce, "epoll", &()),
        (true, Some(tls)) => run_on::<Tls<Uring>>(plan, stop, announce, "io_uring", tls),
        (false, Some(tls)) => run_on::<Tls<Epoll>>(plan, stop, announce, "epoll", tls),
    }
}

fn uring_works() -> io::Result<()> {
    Uring::new(Vec::new(), &()).map(drop)
}

fn raise_file_limit(needed: u64) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: limit.maximum.map(|maximum| maximum.max(needed)),
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| {
        format!("-c: {needed} open files are needed and the limit cannot be raised ({error}); see ulimit -n")
    })
}

fn run_on<T: Transport>(
    plan: &Plan,
    stop: &AtomicBool,
    announce: &dyn Fn(News),
    io_name: &'static str,
    setup: &T::Setup,
) -> Result<Outcome, String> {
    let workload = &plan.workload;
    let terms = Terms::new(workload, plan.dialect, plan.verify);
    let clock = Clock::start();
    let pulses: Vec<Pulse> = (0..plan.threads).map(|_| Pulse::default()).collect();
    let placement = (plan.addresses.len() > 1)
        .then(|| Arc::new(Placement::new(plan.distribution, &plan.addresses)));
    let shared = Shared {
        plan,
        common: Common {
            terms: &terms,
            clock,
            stop,
            placement: placement.as_deref(),
            server_count: plan.addresses.len(),
            keys_per_get: workload.mix.keys_per_get() as usize,
            set_on_miss: workload.set_on_miss,
            looks: plan.looks,
            silence: plan.silence,
            reconnect_interval: plan.reconnect_interval,
            key_keeps_client: matches!(workload.mix, Mix::Recorded(_)),
        },
        failure: Mutex::new(None),
        failed: AtomicBool::new(false),
        placement: placement.clone(),
        barrier: Barrier::new(plan.threads),
        start_ns: Mutex::new(None),
    };
    let (tell_window, window) = mpsc::channel();
    let parts: Vec<Option<Part>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let shared = &shared;
                let pulse = &pulses[thread];
                let tell_window = tell_window.clone();
                thread::Builder::new()
                    .name(format!("load-{thread}"))
                    .spawn_scoped(scope, move || {
                        thread_main::<T>(shared, thread, pulse, setup, &tell_window)
                    })
                    .expect("a thread can be started")
            })
            .collect();
        drop(tell_window);
        let show = |window: Option<&Range<u64>>| {
            let begun = window.is_some();
            let now = Duration::from_nanos(clock.now_ns());
            let of = window.filter(|window| window.end < u64::MAX).map(|window| {
                let at = now.as_nanos() as u64;
                let passed = at.clamp(window.start, window.end) - window.start;
                let whole = window.end - window.start;
                (
                    Duration::from_nanos(passed),
                    Duration::from_nanos(whole - passed),
                )
            });
            announce(News::Progress(&Progress::of(&pulses, now, begun, of)));
        };
        // Nobody sends a window when the run fails before it begins, and the last sender is
        // dropped when a run ends before its time.
        let window = loop {
            match window.recv_timeout(BEAT) {
                Ok(told) => break Some((told, window)),
                Err(mpsc::RecvTimeoutError::Timeout) => show(None),
                Err(mpsc::RecvTimeoutError::Disconnected) => break None,
            }
        };
        if let Some((told, window)) = window {
            wait_until(clock, told.start, &window, &|| show(Some(&told)));
            announce(News::Phase(Phase::Measuring));
            wait_until(clock, told.end, &window, &|| show(Some(&told)));
            announce(News::Phase(Phase::Measured));
        }
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a generator thread does not panic"))
            .collect()
    });
    if let Some(failure) = shared.failure.into_inner().expect("nobody panics with it") {
        return Err(failure);
    }
    let mut tally = Tally::default();
    let mut fill = Tally::default();
    let mut end_ns = 0;
    let mut fill_ns = 0;
    let mut window_ns = None;
    for part in parts.into_iter().flatten() {
        end_ns = end_ns.max(part.end_ns);
        fill_ns = fill_ns.max(part.fill_ns);
        // A thread that was stopped before it measured has none.
        if !part.tally.window_ns.is_empty() {
            window_ns.get_or_insert(part.tally.window_ns.clone());
        }
        tally.merge(part.tally);
        fill.merge(part.fill);
    }
    let window_ns: Range<u64> = window_ns.unwrap_or(0..0);
    tally.window_ns = window_ns.clone();
    let end_ns = end_ns.min(window_ns.end);
    tally.trim_timelines();
    // Faults of the fill are faults of the run.
    let filled = plan.fill.then_some(fill.stored);
    tally.faults.errors += fill.faults.errors;
    tally.faults.lost_connections += fill.faults.lost_connections;
    tally.faults.misplaced += fill.faults.misplaced;
    for sentence in fill.faults.first {
        tally.faults.note(|| sentence);
    }
    let measured = Duration::from_nanos(end_ns.saturating_sub(window_ns.start));
    Ok(Outcome {
        tally,
        measured,
        // By what has passed since, waiting for the last replies included.
        started: SystemTime::now()
            - Duration::from_nanos(clock.now_ns().saturating_sub(window_ns.start)),
        filled,
        fill_time: Duration::from_nanos(fill_ns),
        interrupted: stop.load(Ordering::Relaxed),
        io: io_name,
    })
}

/// Waits until `until_ns`, or until all threads have ended, and calls `show` now and then.
fn wait_until(clock: Clock, until_ns: u64, threads: &mpsc::Receiver<Range<u64>>, show: &dyn Fn()) {
    loop {
        let left = Duration::from_nanos(until_ns.saturating_sub(clock.now_ns()));
        match threads.recv_timeout(left.min(BEAT)) {
            // The other threads tell the same window.
            Ok(_) => {}
            Err(mpsc::RecvTimeoutError::Timeout) if left > BEAT => show(),
            Err(_) => return,
        }
    }
}

struct Shared<'a> {
    plan: &'a Plan,
    common: Common<'a>,
    failure: Mutex<Option<String>>,
    failed: AtomicBool,
    placement: Option<Arc<Placement>>,
    barrier: Barrier,
    start_ns: Mutex<Option<u64>>,
}

impl Shared<'_> {
    /// Remembers the first failure.
    fn fail(&self, sentence: String) {
        self.failed.store(true, Ordering::Relaxed);
        let mut failure = self.failure.lock().expect("nobody panics with it");
        failure.get_or_insert(sentence);
    }

    /// Waits for all threads; `false` when one of them has failed.
    fn together(&self) -> bool {
        self.barrier.wait();
        !self.failed.load(Ordering::Relaxed)
    }
}

fn thread_main<T: Transport>(
    shared: &Shared,
    thread: usize,
    pulse: &Pulse,
    setup: &T::Setup,
    tell_window: &mpsc::Sender<Range<u64>>,
) -> Option<Part> {
    let plan = shared.plan;
    if let Some(first) = plan.pin
        && let Err(error) = pin(first + thread)
    {
        shared.fail(format!("--pin: core {}: {error}", first + thread));
    }
    let Common { clock, stop, .. } = shared.common;
    let first_client = thread * plan.connections;
    let client_count = plan.client_count() as u64;
    let prepared = open_connections(plan, stop).and_then(|sockets| {
        let first_connection = first_client * plan.addresses.len();
        Driver::<T>::new(sockets, first_connection, shared.common, pulse, setup).map_err(|error| {
            match plan.tls {
                Some(_) => format!("--tls: no handshake with {}: {error}", plan.servers()),
                None => format!("cannot set up the sockets: {error}"),
            }
        })
    });
    let mut driver = match prepared {
        Ok(driver) => Some(driver),
        Err(sentence) => {
            shared.fail(sentence);
            None
        }
    };
    // All threads reach each of the barriers, whatever became of them.
    let ready = shared.together();
    let mut fill = Tally::new(0..0, false);
    let mut fill_ns = 0;
    if ready
        && plan.fill
        && let Some(driver) = &mut driver
    {
        let before_ns = clock.now_ns();
        let ranges: Vec<_> = (0..plan.connections)
            .map(|client| {
                let client = (first_client + client) as u64;
                share(&plan.workload.keys, client, client_count)
            })
            .collect();
        let (stream, depth) = (first_client as u64, plan.fill_depth());
        let outcome = driver.fill(&plan.workload, stream, &ranges, depth, &mut fill);
        if let Err(error) = outcome {
            shared.fail(format!("--fill: {error}"));
        }
        fill_ns = clock.now_ns() - before_ns;
    }
    let ready = shared.together();
    let start_ns = *shared
        .start_ns
        .lock()
        .expect("nobody panics with it")
        .get_or_insert_with(|| clock.now_ns() + LEAD_NS);
    let driver = driver.as_mut().filter(|_| ready)?;
    if stop.load(Ordering::Relaxed) {
        // What has been filled until then is still told.
        return Some(Part {
            tally: Tally::default(),
            fill,
            fill_ns,
            end_ns: 0,
        });
    }
    let warm_ns = start_ns + plan.warmup.as_nanos() as u64;
    let end_ns = match plan.length {
        Length::Time(time) => warm_ns + time.as_nanos() as u64,
        Length::Requests(_) | Length::Trace => u64::MAX,
    };
    let open = matches!(plan.pace, Pace::Open { .. });
    let mut tally = Tally::new(warm_ns..end_ns, open);
    tally.reserve_timelines(|kind| plan.workload.occurs(kind));
    if let (Some(window), Length::Time(time)) = (plan.window, plan.length) {
        tally.windows = Windows::new(window.as_nanos() as u64, time.as_nanos() as u64);
    }
    if plan.per_connection {
        let server_count = plan.addresses.len();
        tally.fairness =
            Fairness::new(first_client * server_count, plan.connections * server_count);
    }
    // Nobody listens any more only if the run is being torn down.
    let _ = tell_window.send(tally.window_ns.clone());
    while clock.now_ns() < start_ns {
        std::hint::spin_loop();
    }
    let stream_of = |stream: u64, count: u64| {
        let seed = stream_seed(plan, stream);
        let requests = Requests::new(&plan.workload, seed, stream, count);
        match &shared.placement {
            Some(placement) => requests.parted(&plan.workload, placement),
            None => requests,
        }
    };
    let outcome = match plan.pace {
        Pace::Closed { depth } => {
            let requests = match plan.length {
                Length::Requests(requests) => Some(requests),
                Length::Time(_) | Length::Trace => None,
            };
            let streams = (0..plan.connections)
                .map(|client| stream_of((first_client + client) as u64, client_count))
                .collect();
            driver.closed_loop(depth, requests, streams, &mut tally)
        }
        Pace::Open {
            rate,
            depth,
            arrival,
        } => {
            let stream = thread as u64;
            let thread_count = plan.threads as u64;
            let mut requests = stream_of(stream, thread_count);
            let schedule = match (&plan.workload.mix, arrival) {
                (Mix::Recorded(trace), Arrival::Recorded) => Schedule::recorded(
                    trace
                        .due_ns(stream, thread_count)
                        .map(|due_ns| (due_ns as f64 / plan.trace_speed) as u64)
                        .collect(),
                ),
                _ => {
                    let seed = mix(plan.seed ^ mix(stream + 1));
                    Schedule::new(arrival, rate, seed, stream, thread_count)
                        .of_at_most(requests.left())
                }
            };
            driver.open_loop(depth, schedule, start_ns, &mut requests, &mut tally)
        }
    };
    let end_ns = clock.now_ns();
    if let Err(error) = outcome {
        shared.fail(format!("the transport failed: {error}"));
    }
    Some(Part {
        tally,
        fill,
        fill_ns,
        end_ns,
    })
}

fn stream_seed(plan: &Plan, stream: u64) -> u64 {
    if plan.distinct_seeds {
        mix(plan.seed).wrapping_add(mix(stream))
    } else {
        mix(plan.seed)
    }
}

fn open_connections(plan: &Plan, stop: &AtomicBool) -> Result<Vec<OwnedFd>, String> {
    let clients = (0..plan.connections).flat_map(|_| &plan.addresses);
    clients
        .map(|address| {
            connect(address, plan.family, plan.connect_timeout, stop).map_err(|error| {
                format!("{}: cannot connect to {address}: {error}", address.option())
            })
        })
        .collect()
}

fn pin(core: usize) -> io::Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    if core >= rustix::thread::CpuSet::MAX_CPU {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}
