//! What the server says of itself while it runs: lines on standard error, for people or programs.
//!
//! Nothing is said of single requests. Whoever says something hands the finished line to a thread
//! that writes it, over a lane with a bound ([`crate::lanes`]). A worker has one of its own, the others share
//! one: no worker ever waits for whoever reads standard error, nor for another thread that says something.
//! Always true: of each kind of line (each place in the code that says one) no more than
//! [`LOG_BURST`] are said in [`LOG_WINDOW_S`] seconds; what is left out, and what is lost because
//! the writer is behind, is counted, and the count is said.
//!
//! ```text
//! warn!(..) --> Kinds: is it too much? --> Human or JSON --> lane --> thread --> standard error
//! ```

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::background::yield_to_workers;
use crate::config::{
    LOG_BURST, LOG_FLUSH_MAX_MS, LOG_KINDS_MAX, LOG_LINES_MAX, LOG_WINDOW_S, LogFormat,
};
use crate::lanes::{Inbox, Lane, inbox};

/// Says so much of other libraries and no more, whatever is wanted of the server.
const OTHERS: Level = Level::WARN;

/// Where our own lines come from: the names of our modules begin with it.
const OURS: &str = "strata";

/// The target of what the log says of itself, which is never left out.
const OF_THE_LOG: &str = "strata_server::log";

/// How often it is looked whether there is room for the wish to have all written.
const FLUSH_LOOK: Duration = Duration::from_millis(2);

/// One kind of line, and how many of it were said of late.
#[derive(Default)]
struct Kind {
    /// Which one, by its address, 0 for none yet; set once, by whoever says the first line of it.
    claimed: AtomicUsize,
    /// The same to be read, a little later: only who has claimed it sets it, so nobody waits for anybody.
    of: OnceLock<&'static Metadata<'static>>,
    window: AtomicU64,
    said: AtomicU64,
    left_out: AtomicU64,
}

/// All kinds of lines that were said, without a lock: workers say lines too.
struct Kinds {
    started: Instant,
    /// Those that find no place of their own share the last.
    kinds: Box<[Kind]>,
}

impl Kinds {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            kinds: (0..LOG_KINDS_MAX).map(|_| Kind::default()).collect(),
        }
    }

    fn kind(&self, of: &'static Metadata<'static>) -> &Kind {
        let address = std::ptr::from_ref(of).addr();
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        let is_its = |kind: &&Kind| {
            let claimed = &kind.claimed;
            match claimed.compare_exchange(0, address, success, failure) {
                Ok(_) => kind.of.set(of).is_ok(),
                Err(claimed) => claimed == address,
            }
        };
        let last = self.kinds.len() - 1;
        self.kinds.iter().find(is_its).unwrap_or(&self.kinds[last])
    }

    /// Whether one more line of a kind may be said at a time; counts it if not.
    fn passes(&self, of: &'static Metadata<'static>, at: Duration) -> bool {
        let kind = self.kind(of);
        // Never 0, which no line was said in.
        let window = at.as_secs() / LOG_WINDOW_S + 1;
        if kind.window.swap(window, Ordering::Relaxed) != window {
            kind.said.store(0, Ordering::Relaxed);
        }
        let passes = kind.said.fetch_add(1, Ordering::Relaxed) < LOG_BURST;
        if !passes {
            kind.left_out.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }

    /// Says how many lines were left out since this was last said.
    fn tell(&self) {
        for kind in &self.kinds {
            let left_out = kind.left_out.swap(0, Ordering::Relaxed);
            if let Some(of) = kind.of.get().filter(|_| left_out > 0) {
                let place = of.name().trim_start_matches("event ");
                tracing::warn!(target: OF_THE_LOG, left_out, "lines of {place} were left out, which says too many");
            }
        }
    }
}

/// Decides what is said.
struct Sieve {
    ours: Level,
    kinds: Arc<Kinds>,
}

impl<S> Filter<S> for Sieve {
    fn enabled(&self, of: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        let most = match of.target().starts_with(OURS) {
            true => self.ours,
            false => self.ours.min(OTHERS),
        };
        *of.level() <= most
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let of = event.metadata();
        of.target() == OF_THE_LOG || self.kinds.passes(of, self.kinds.started.elapsed())
    }
}

/// A line for people. Under systemd's journal, which has the time and knows levels by a number in
/// front, it goes without the first and with the second.
struct Human {
    for_journal: bool,
}

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (number, word) = match *event.metadata().level() {
            Level::ERROR => (3, "ERROR: "),
            Level::WARN => (4, "WARNING: "),
            Level::INFO => (6, ""),
            _ => (7, ""),
        };
        if self.for_journal {
            write!(line, "<{number}>")?;
        } else {
            SystemTime.format_time(&mut line)?;
            line.write_char(' ')?;
        }
        write!(line, "strata: {word}")?;
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// What the writing thread is given.
enum Job {
    Write(Vec<u8>),
    /// Answer when all before it is written.
    Flush(Sender<()>),
}

thread_local! {
    /// The lane of this thread, if it has one to itself.
    static OWN: RefCell<Option<Lane<Job>>> = const { RefCell::new(None) };
}

/// A worker's own lane to the log.
pub struct Voice(Lane<Job>);

impl Voice {
    /// From now on the calling thread says over this what it says.
    pub fn begin(self) {
        OWN.set(Some(self.0));
    }
}

/// Where finished lines go.
#[derive(Clone)]
struct Queue {
    /// Of all threads that have no lane to themselves.
    common: Arc<Mutex<Lane<Job>>>,
    lost: Arc<AtomicU64>,
}

impl Queue {
    fn send(&self, job: Job) -> Result<(), Job> {
        OWN.with_borrow_mut(|own| match own {
            Some(own) => own.send(job),
            None => {
                let common = self.common.lock();
                common.unwrap_or_else(PoisonError::into_inner).send(job)
            }
        })
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.send(Job::Write(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What the subscriber and the writing thread share.
struct Line {
    queue: Queue,
    jobs: Inbox<Job>,
    kinds: Arc<Kinds>,
}

impl Line {
    /// With so many lanes beside the common one.
    fn new(workers: usize) -> (Self, Vec<Voice>) {
        let (mut lanes, jobs) = inbox(workers + 1, LOG_LINES_MAX);
        let common = lanes.pop().expect("one more than workers");
        let line = Self {
            queue: Queue {
                common: Arc::new(Mutex::new(common)),
                lost: Arc::default(),
            },
            jobs,
            kinds: Arc::new(Kinds::new()),
        };
        (line, lanes.into_iter().map(Voice).collect())
    }

    fn subscriber(&self, format: LogFormat, level: Level) -> impl Subscriber + Send + Sync + use<> {
        let lines = tracing_subscriber::fmt::layer().with_writer(self.queue.clone());
        let sieve = Sieve {
            ours: level,
            kinds: Arc::clone(&self.kinds),
        };
        let for_journal = std::env::var_os("JOURNAL_STREAM").is_some();
        let lines = match format {
            LogFormat::Human => lines
                .with_ansi(false)
                .event_format(Human { for_journal })
                .boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(lines.with_filter(sieve))
    }

    /// Writes lines as they come, and says now and then what was left out.
    fn write_to(self, mut out: impl Write) {
        let Self {
            queue,
            mut jobs,
            kinds,
        } = self;
        let lost = queue.lost;
        // Else the lane would never be closed.
        drop(queue.common);
        let mut tell_at = None;
        loop {
            match jobs.receive(tell_at) {
                Ok(Job::Write(line)) => {
                    let _ = out.write_all(&line);
                    let window = Duration::from_secs(LOG_WINDOW_S);
                    tell_at = tell_at.or_else(|| Some(Instant::now() + window));
                }
                Ok(Job::Flush(done)) => {
                    tell(&kinds, &lost);
                    // What that said, and nothing that comes behind it.
                    for _ in 0..jobs.waiting() {
                        match jobs.take() {
                            Some(Job::Write(line)) => drop(out.write_all(&line)),
                            Some(Job::Flush(done)) => drop(done.try_send(())),
                            None => {}
                        }
                    }
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    tell_at = None;
                    tell(&kinds, &lost);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Says what was not said.
fn tell(kinds: &Kinds, lost: &AtomicU64) {
    kinds.tell();
    let lost = lost.swap(0, Ordering::Relaxed);
    if lost > 0 {
        tracing::warn!(target: OF_THE_LOG, lost, "lines were lost, because standard error is read too slowly");
    }
}

/// The log of this process; what waits is written before it is dropped, as far as somebody reads.
pub struct Log {
    queue: Queue,
}

impl Log {
    /// Begins to say what is at least as grave as `level`, and what so many workers say over lanes of their
    /// own.
    ///
    /// # Errors
    /// When there is a log already, or no thread for it.
    pub fn start(
        format: LogFormat,
        level: Level,
        workers: usize,
    ) -> Result<(Self, Vec<Voice>), String> {
        let (line, voices) = Line::new(workers);
        let queue = line.queue.clone();
        tracing::subscriber::set_global_default(line.subscriber(format, level))
            .map_err(|error| format!("no log: {error}"))?;
        thread::Builder::new()
            .name("log".into())
            .spawn(move || {
                yield_to_workers();
                line.write_to(io::stderr());
            })
            .map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok((Self { queue }, voices))
    }

    /// Waits until what was said is written, for a bounded time.
    pub fn flush(&self) {
        let deadline = Instant::now() + Duration::from_millis(LOG_FLUSH_MAX_MS);
        let (done, all) = bounded(1);
        let mut wish = Job::Flush(done);
        while let Err(refused) = self.queue.send(wish) {
            if Instant::now() >= deadline {
                return;
            }
            wish = refused;
            thread::sleep(FLUSH_LOOK);
        }
        let _ = all.recv_deadline(deadline);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// What was written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panics").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of what `say` says.
    fn said(format: LogFormat, level: Level, say: impl FnOnce()) -> String {
        let (line, _) = Line::new(0);
        let (page, kinds) = (Page::default(), Arc::clone(&line.kinds));
        let (out, lost) = (page.clone(), Arc::clone(&line.queue.lost));
        tracing::subscriber::with_default(line.subscriber(format, level), || {
            say();
            tell(&kinds, &lost);
        });
        // The subscriber is gone, so this ends with the last line.
        line.write_to(out);
        let bytes = page.0.lock().expect("nobody panics").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn people_get_a_time_a_level_and_a_sentence() {
        let text = said(LogFormat::Human, Level::INFO, || {
            tracing::info!("one");
            tracing::warn!(count = 2, "two");
            tracing::debug!("three");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].ends_with("Z strata: one"), "{text}");
        assert!(
            lines[1].ends_with("Z strata: WARNING: two count=2"),
            "{text}"
        );
    }

    #[test]
    fn programs_get_an_object_a_line() {
        let text = said(LogFormat::Json, Level::DEBUG, || {
            tracing::warn!(count = 2, "a \"word\"\nand a line");
            tracing::debug!("three");
        });
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object"))
            .collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["level"], "WARN");
        assert_eq!(lines[0]["message"], "a \"word\"\nand a line");
        assert_eq!(lines[0]["count"], 2);
        assert!(lines[0]["timestamp"].is_string());
    }

    #[test]
    fn a_flood_of_one_kind_is_cut_and_counted_and_others_are_not() {
        let text = said(LogFormat::Human, Level::INFO, || {
            for _ in 0..LOG_BURST + 7 {
                tracing::info!("flood");
            }
            tracing::info!("another");
        });
        let of = |part: &str| text.lines().filter(|line| line.ends_with(part)).count() as u64;
        assert_eq!((of(": flood"), of(": another")), (LOG_BURST, 1), "{text}");
        assert_eq!(of("left_out=7"), 1, "{text}");
    }

    #[test]
    fn a_kind_may_speak_again_in_the_next_window() {
        let kinds = Kinds::new();
        let many = |of, at| {
            let lines = 0..2 * LOG_BURST;
            lines.filter(|_| kinds.passes(of, at)).count() as u64
        };
        let _ = said(LogFormat::Human, Level::INFO, || {
            // Only where somebody listens is there one.
            let span = tracing::info_span!("any");
            let of = span.metadata().expect("somebody listens");
            assert_eq!(many(of, Duration::ZERO), LOG_BURST);
            assert_eq!(many(of, Duration::from_secs(LOG_WINDOW_S - 1)), 0);
            assert_eq!(many(of, Duration::from_secs(LOG_WINDOW_S)), LOG_BURST);
        });
    }

    #[test]
    fn lines_that_nobody_writes_are_lost_and_counted_and_hold_nobody_up() {
        let (line, voices) = Line::new(1);
        let mut queue = line.queue.clone();
        for _ in 0..LOG_LINES_MAX + 3 {
            queue.write_all(b"line\n").expect("it never fails");
        }
        assert_eq!(line.queue.lost.load(Ordering::Relaxed), 3);
        // Nor is a worker, whose lane is its own, and which does not ask whether another says something.
        let common = line.queue.common.lock().expect("nobody panics");
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                voices.into_iter().for_each(Voice::begin);
                queue.write_all(b"line\n").expect("it never fails");
            });
            worker.join().expect("it ends");
        });
        drop(common);
        assert_eq!(line.queue.lost.load(Ordering::Relaxed), 3);
    }
}
