//! Does it hold on a real kernel? The real binary, attacked over real sockets, on every back end.
//!
//! Whatever one client does costs at most its own connection: meanwhile a neighbour gets right
//! answers in bounded time, resident memory stays inside what the server printed at its start,
//! and afterwards nothing of the client is left ([`server::Server::finish`] checks the last two).
//! Only loopback and unix sockets; every port is the kernel's choice.

mod access;
mod admin;
mod attack;
mod client;
mod counters;
mod idle;
mod limit;
#[path = "../common/packet.rs"]
mod packet;
mod packets;
mod secure;
mod server;
mod service;
mod sharing;
mod start_stop;
mod surface;
mod watching;
mod workers;
