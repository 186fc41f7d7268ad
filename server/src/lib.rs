//! The server shell.
