//! The control plane: one thread with a glommio executor that answers operators over HTTP.
//!
//! It asks the workers over their bounded lanes, adds their answers up, and never touches a
//! shard. It parks in its own ring when nobody asks.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health` | 200 and `ok` when every worker answers in time, else 503 |
//! | `GET /ready` | the same, and 503 once the server is stopping |
//! | `GET /metrics` | the figures of `stats` and the latency histograms as Prometheus text |
//! | `GET /stats.json` | everything the page shows, for programs |
//! | `GET /hotkeys?n=N` | the keys asked for most |
//! | `GET /config` | the settings in force |
//! | `GET /` | a page that shows all this as it changes, and needs nothing but this endpoint |
//!
//! With a token (`--admin-token-file`) all but `/`, `/health` and `/ready` want it as
//! `Authorization: Bearer TOKEN`; the page, which holds no figure itself, asks its reader for it.
//!
//! Always true: a request's head, the connections at once and the time of each are bounded, one
//! answer ends a connection, and no request changes anything.

mod http;
mod json;
mod metrics;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TryRecvError, bounded};
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::{sleep, timeout};
use glommio::{LocalExecutorBuilder, Placement};

use crate::background::yield_to_workers;
use crate::boot::{Control, StartError, uring_advice};
use crate::config::HOT_KEYS_TOLD;
use crate::io::uring::UringIo;
use crate::stats::{Snapshot, Topic};
use crate::worker::Ask;
use http::{Request, Response, Status};

/// Operators' connections served at once; more are refused with 503.
const CONNECTIONS_MAX: usize = 32;

/// How long one connection may take to ask and to take its answer.
const CONNECTION_MAX: Duration = Duration::from_secs(5);

/// How long one that is refused may take to take that. It goes into a buffer of the kernel that is
/// empty, so this is never reached unless something is wrong.
const REFUSAL_MAX: Duration = Duration::from_millis(100);

/// How long a worker may take to answer before it counts as stuck.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// How old what is known of all segments may be when it is told.
const SHAPE_EVERY: Duration = Duration::from_secs(5);

/// The page.
const PAGE: &str = include_str!("page.html");

/// How often a pending answer is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Starts the control plane and returns the address it really listens on.
///
/// # Errors
/// When the executor cannot be set up or the address cannot be had.
pub fn start(address: SocketAddr, control: Control) -> Result<SocketAddr, StartError> {
    // The executor has no other back end, and panics where it is refused.
    UringIo::probe().map_err(|error| {
        StartError(format!(
            "--admin needs io_uring: {}, or leave --admin out",
            uring_advice(&error)
        ))
    })?;
    let (sender, bound) = bounded(1);
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("admin")
        .io_memory(64 << 10)
        .ring_depth(32)
        .spawn(move || async move {
            yield_to_workers();
            let listener = match TcpListener::bind(address) {
                Ok(listener) => listener,
                Err(error) => {
                    let _ = sender.send(Err(format!("--admin {address}: {error}")));
                    return;
                }
            };
            let _ = sender.send(Ok(listener.local_addr().unwrap_or(address)));
            serve(listener, control).await;
        })
        .map_err(|error| StartError(format!("--admin: the executor does not start: {error}")))?;
    let answer = bound
        .recv()
        .map_err(|_| StartError("--admin: the executor ended while starting".into()))?;
    answer.map_err(StartError)
}

async fn serve(listener: TcpListener, control: Control) {
    let open = Rc::new(());
    let desk = Rc::new(Desk {
        control,
        shape: RefCell::default(),
    });
    loop {
        let Ok(mut stream) = listener.accept().await else {
            // Out of descriptors for the moment.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let operators = &desk.control.shared.operators;
        if Rc::strong_count(&open) > CONNECTIONS_MAX {
            operators.refused.fetch_add(1, Ordering::Relaxed);
            let _ = timeout(REFUSAL_MAX, async move {
                let sentence = "too many connections, try again later\n";
                let refusal = Response::text(Status::Unavailable, sentence);
                http::respond(&mut stream, &refusal, false).await;
                Ok(())
            })
            .await;
            continue;
        }
        let (open, desk) = (Rc::clone(&open), Rc::clone(&desk));
        glommio::spawn_local(async move {
            let _open = open;
            let talk = timeout(CONNECTION_MAX, async {
                converse(stream, &desk).await;
                Ok(())
            });
            if talk.await.is_err() {
                let operators = &desk.control.shared.operators;
                operators.cut.fetch_add(1, Ordering::Relaxed);
            }
        })
        .detach();
    }
}

async fn converse(mut stream: TcpStream, desk: &Desk) {
    let request = http::read_request(&mut stream).await;
    let head_only = matches!(&request, Ok(request) if request.method == "HEAD");
    let response = match request {
        Ok(request) if request.method != "GET" && request.method != "HEAD" => {
            Response::text(Status::MethodNotAllowed, "only GET and HEAD\n")
        }
        Ok(request) => desk.answer(&request).await,
        Err(Some(status)) => Response::text(status, "that is no request\n"),
        Err(None) => return,
    };
    http::respond(&mut stream, &response, head_only).await;
}

/// What the workers said when they were asked.
struct Report {
    sum: Snapshot,
    /// Parts of `stats hotkeys`.
    hot: Vec<u8>,
    shape: Rc<Shape>,
}

/// What takes a walk over all segments to know, and so is asked for less often.
#[derive(Default)]
struct Shape {
    /// Parts of `stats ttl`.
    ttl: Vec<u8>,
    /// Parts of the ages of segments.
    ages: Vec<u8>,
}

/// Where operators are answered.
struct Desk {
    control: Control,
    shape: RefCell<Option<(Instant, Rc<Shape>)>>,
}

impl Desk {
    async fn answer(&self, request: &Request) -> Response {
        let control = &self.control;
        match request.path.as_str() {
            // Whoever sees to the process has no token, and the page holds no figure.
            "/" => return Response::page(PAGE),
            "/health" | "/ready" => {
                let ready = request.path == "/health" || !control.shared.stops();
                return match self.sum().await {
                    _ if !ready => Response::text(Status::Unavailable, "the server is stopping\n"),
                    Some(_) => Response::text(Status::Ok, "ok\n"),
                    None => silent(),
                };
            }
            _ if !self.lets_in(request) => {
                return Response::text(Status::Unauthorized, "this needs the token\n");
            }
            _ => {}
        }
        let answer = match request.path.as_str() {
            "/metrics" => self
                .sum()
                .await
                .map(|sum| Response::metrics(metrics::render(&sum, control))),
            "/stats.json" => self
                .report()
                .await
                .map(|report| Response::json(json::stats(&report, control))),
            "/hotkeys" if !control.shared.process.settings.hot_keys => Some(Response::text(
                Status::NotFound,
                "nobody looks for hot keys, because of --no-hot-keys\n",
            )),
            "/hotkeys" => self.tell(Topic::Hotkeys).await.map(|text| {
                let most = request.query.strip_prefix("n=").map(str::parse::<usize>);
                let most = most.and_then(Result::ok).unwrap_or(HOT_KEYS_TOLD);
                Response::json(json::hotkeys(&text, most))
            }),
            "/config" => Some(Response::json(json::config(control))),
            _ => Some(Response::text(
                Status::NotFound,
                "try / /health /ready /metrics /stats.json /hotkeys /config\n",
            )),
        };
        answer.unwrap_or_else(silent)
    }

    /// Whether a request has the token, if one is asked for.
    fn lets_in(&self, request: &Request) -> bool {
        let Some(token) = &self.control.shared.process.settings.admin_token else {
            return true;
        };
        // Every byte is looked at, so that the time taken tells nothing of how far they agree.
        let same = |sent: &Vec<u8>| {
            let differ = token.bytes().zip(sent).fold(0, |sum, (a, b)| sum | (a ^ b));
            token.len() == sent.len() && differ == 0
        };
        request.token.as_ref().is_some_and(same)
    }

    async fn report(&self) -> Option<Report> {
        Some(Report {
            sum: self.sum().await?,
            hot: self.tell(Topic::Hotkeys).await?,
            shape: self.shape().await?,
        })
    }

    /// The sum of all workers' figures, or None when one of them does not answer in time.
    async fn sum(&self) -> Option<Snapshot> {
        let mut sum = Snapshot::default();
        for snapshot in self.ask_all(Ask::Snapshot).await? {
            sum.add(&snapshot);
        }
        Some(sum)
    }

    async fn tell(&self, topic: Topic) -> Option<Vec<u8>> {
        let parts = self.ask_all(|answer| Ask::Tell(topic, answer)).await?;
        Some(parts.concat())
    }

    async fn shape(&self) -> Option<Rc<Shape>> {
        if let Some((asked, shape)) = &*self.shape.borrow()
            && asked.elapsed() < SHAPE_EVERY
        {
            return Some(Rc::clone(shape));
        }
        let shape = Rc::new(Shape {
            ttl: self.tell(Topic::Ttl).await?,
            ages: self.tell(Topic::Ages).await?,
        });
        *self.shape.borrow_mut() = Some((Instant::now(), Rc::clone(&shape)));
        Some(shape)
    }

    /// Asks every worker and waits for all answers. None when one of them does not answer in time.
    async fn ask_all<T>(&self, question: impl Fn(Sender<T>) -> Ask) -> Option<Vec<T>> {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut pending = Vec::new();
        for worker in 0..self.control.worker_count() {
            let (sender, answer) = bounded(1);
            // Other operators' questions may fill its channel for a moment.
            while !self.control.ask(worker, question(sender.clone())) {
                if Instant::now() > deadline {
                    return None;
                }
                sleep(LOOK_EVERY).await;
            }
            pending.push(answer);
        }
        let mut answers = Vec::new();
        for answer in pending {
            answers.push(loop {
                match answer.try_recv() {
                    Ok(answer) => break answer,
                    Err(TryRecvError::Empty) if Instant::now() < deadline => {
                        sleep(LOOK_EVERY).await;
                    }
                    Err(_) => return None,
                }
            });
        }
        Some(answers)
    }
}

fn silent() -> Response {
    Response::text(Status::Unavailable, "a worker does not answer\n")
}
