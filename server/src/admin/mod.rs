//! The control plane: one thread with a glommio executor that answers operators over HTTP.
//!
//! It asks the workers over their bounded channels, adds their answers up, and never touches a
//! shard. It parks in its own ring when nobody asks.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health` | 200 and `ok` when every worker answers in time, else 503 |
//! | `GET /metrics` | the figures of `stats` as Prometheus text |

mod http;
mod metrics;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crossbeam_channel::{TryRecvError, bounded};
use glommio::net::{TcpListener, TcpStream};
use glommio::timer::{sleep, timeout};
use glommio::{LocalExecutorBuilder, Placement};

use crate::boot::{Control, StartError, uring_advice};
use crate::io::uring::UringIo;
use crate::stats::Snapshot;
use crate::worker::Ask;
use http::{Response, Status};

/// Operators' connections served at once; more are closed.
const CONNECTIONS_MAX: usize = 32;

/// How long one connection may take to ask and to take its answer.
const CONNECTION_MAX: Duration = Duration::from_secs(5);

/// How long a worker may take to answer before it counts as stuck.
const ANSWER_MAX: Duration = Duration::from_secs(1);

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
    let control = Rc::new(control);
    loop {
        let Ok(stream) = listener.accept().await else {
            // Out of descriptors for the moment.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        if Rc::strong_count(&open) > CONNECTIONS_MAX {
            continue;
        }
        let (open, control) = (Rc::clone(&open), Rc::clone(&control));
        glommio::spawn_local(async move {
            let _open = open;
            // An operator who takes too long, or is gone, is no news.
            let _ = timeout(CONNECTION_MAX, async move {
                converse(stream, &control).await;
                Ok(())
            })
            .await;
        })
        .detach();
    }
}

async fn converse(mut stream: TcpStream, control: &Control) {
    let request = http::read_request(&mut stream).await;
    let head_only = matches!(&request, Ok(request) if request.method == "HEAD");
    let response = match request {
        Ok(request) if request.method != "GET" && request.method != "HEAD" => {
            Response::text(Status::MethodNotAllowed, "only GET and HEAD\n")
        }
        Ok(request) => match request.path.as_str() {
            "/health" => match gather(control).await {
                Some(_) => Response::text(Status::Ok, "ok\n"),
                None => Response::text(Status::Unavailable, "a worker does not answer\n"),
            },
            "/metrics" => match gather(control).await {
                Some(sum) => Response::metrics(metrics::render(&sum, control)),
                None => Response::text(Status::Unavailable, "a worker does not answer\n"),
            },
            _ => Response::text(Status::NotFound, "try /health or /metrics\n"),
        },
        Err(Some(status)) => Response::text(status, "that is no request\n"),
        Err(None) => return,
    };
    http::respond(&mut stream, &response, head_only).await;
}

/// The sum of all workers' figures, or None when one of them does not answer in time.
async fn gather(control: &Control) -> Option<Snapshot> {
    let deadline = Instant::now() + ANSWER_MAX;
    let mut sum = Snapshot::default();
    let answers: Vec<_> = (0..control.worker_count())
        .map(|worker| {
            let (sender, answer) = bounded(1);
            control.ask(worker, Ask::Snapshot(sender)).then_some(answer)
        })
        .collect();
    for answer in answers {
        let answer = answer?;
        let snapshot = loop {
            match answer.try_recv() {
                Ok(snapshot) => break snapshot,
                Err(TryRecvError::Empty) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
                Err(_) => return None,
            }
        };
        sum.add(&snapshot);
    }
    Some(sum)
}
