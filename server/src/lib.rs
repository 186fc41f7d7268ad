//! The server shell.
#![allow(missing_docs)]
pub mod admin;
pub mod args;
pub mod boot;
pub mod clock;
pub mod config;
pub mod execute;
pub mod io;
pub mod mailbox;
pub mod memory;
pub mod mesh;
pub mod message;
pub mod session;
pub mod shared;
pub mod stats;
mod sync;
pub mod worker;
