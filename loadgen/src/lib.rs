//! strata-load: a load generator for memcached servers whose tail can be believed.
//!
//! A generator that starts its clock when it sends hides the stalls of the server it measures:
//! while the server stalls nothing is sent, and the requests that would have shown it are never
//! made. With a rate given, this one sends what is due when it is due and measures from there.
//!
//! - [`workload`]: what is asked. Keys, values, lives and the mix, from a seed; presets and traces.
//! - [`schedule`]: when it is due.
//! - [`placement`] and [`ketama`]: which of several servers is asked.
//! - [`client`]: one connection without its socket: what is outstanding, whether the replies are
//!   right, and what they lead to.
//! - [`transport`]: bytes between connections and sockets, by io_uring or epoll.
//! - [`drive`]: the loop of one thread over all of these; [`silence`]: when it gives a server up.
//! - [`run`]: threads and phases: connect, fill, warm up, measure, drain.
//! - [`trial`]: repetitions, a sweep over rates, a search for the highest that holds.
//! - [`tally`], [`timeline`], [`verdict`], [`report`]: what was seen, whether to believe it, and
//!   how it is told. [`windows`] and [`fairness`]: the same by pieces of the time and by connection,
//!   where asked for. [`live`]: the same while it lasts.
//! - [`cli`] and [`plan`]: what was asked for, checked.
//!
//! ```text
//!            Requests ---ask---> Pipeline ---bytes---> Transport ---> server
//!  (seed, preset, trace)         |    ^                    |
//!                     follow-ups +----+ <-----bytes--------+
//!                                |
//!                                +--done---> Tally ---> verdict ---> reports
//! ```
//!
//! What a run does not have: authentication and the binary protocol. With several servers a
//! get of many keys becomes one request to each that has any of them, which is counted and timed
//! by itself; there is no latency of the whole. A trace is held in memory as a whole. All
//! connections are there before the first request; one that is replaced is connected while others
//! go on, and what waits for it shows in the latency. [`cli`]'s `--connection-timeout` is for the
//! first ones. An interrupt ends each phase and reports, but it does not end the look-up of a name.

pub mod cli;
pub mod client;
pub mod drive;
pub mod fairness;
pub mod ketama;
pub mod kind;
pub mod live;
pub mod placement;
pub mod plan;
pub mod report;
pub mod run;
pub mod schedule;
pub mod silence;
pub mod tally;
pub mod timeline;
pub mod transport;
pub mod trial;
pub mod verdict;
pub mod windows;
pub mod workload;
