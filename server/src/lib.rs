//! The server shell: everything of Strata that touches a socket, a clock or a thread.
//!
//! # Two planes
//!
//! - **Data plane**: one pinned thread a core, a [`worker::Worker`]. It owns one shard of the
//!   keys (`strata-store`), its sessions, and one io_uring, and blocks only in that ring. No
//!   futures, no lock, no allocation a request.
//! - **Control plane**: one thread with a glommio executor, [`admin`]. It parks when nobody asks,
//!   and speaks to workers only over bounded [`lanes`]. It, the threads that write lines, the one that
//!   checks passwords and those that make handshakes only work while no worker on their core has anything to
//!   do ([`background`]), and no worker ever waits for them.
//!
//! # The way of a request
//!
//! ```text
//!  socket --> io (uring, epoll, sim) --> session::Reader --> worker: plan, hash, prefetch
//!                                                              |            |
//!                                              key is ours     |            | key is a peer's
//!                                                              v            v
//!                                                    execute::Keeper   mesh --> peer's Keeper
//!                                                              |                     |
//!  socket <-- io <-- session::Replies, in request order <------+---------------------+
//! ```
//!
//! What is rare has a way of its own: a session that is no client (a stranger before its password, one
//! that waits for [`access`], a watcher, a dump of all items) is a [`session::Role`], and while somebody watches, commands go
//! through an [`observe::Observer`] on their way to the keeper.
//!
//! A [`session::Session`] never sees a shard, and an [`execute::Keeper`] (a shard with its
//! counters) never sees a session; only the worker holds both. The worker's page draws its tick.
//!
//! # What always holds
//!
//! - Replies of one connection leave in the order of its requests, each exactly once.
//! - Commands of one connection reach any one shard in the order sent: it reads its own writes.
//! - Every queue, batch and buffer has a bound with a name in [`config`]; the start prints their
//!   sum.
//! - What a client does costs at most its own connection.
//!
//! [`host`] reads what the machine and its control groups grant; [`doctor`] says what of it will hurt.
//! [`log`] is what the server says of itself. [`latency`] says what the server knows of the time its requests take, [`hotkeys`] of the keys they
//! ask for.
//!
//! # Unsafe code
//!
//! [`background`] (a scheduling policy), [`mailbox`] (slots that two threads use in turn; loom explores every interleaving), [`memory`]
//! (pages given back to the kernel), and [`io::uring`] (memory and descriptors the kernel holds).
//! Everything else is safe code.

pub mod access;
pub mod admin;
pub mod args;
pub mod background;
pub mod boot;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod execute;
pub mod host;
pub mod hotkeys;
pub mod io;
pub mod lanes;
pub mod latency;
pub mod log;
pub mod mailbox;
pub mod memory;
pub mod mesh;
pub mod message;
pub mod observe;
#[cfg(test)]
#[path = "../tests/common/packet.rs"]
mod packet;
pub mod route;
pub mod session;
pub mod shared;
pub mod stats;
mod sync;
pub mod tls;
pub mod users;
pub mod watch;
pub mod worker;
