//! TLS on client connections: who the server says it is, whom it lets in, and both anew when the
//! files have changed.
//!
//! `options` reads what the operator wants, `files` makes it what a handshake needs, and
//! [`crate::io::tls`] carries the bytes. Always true: a connection keeps the certificates that it
//! began with; what cannot be read leaves the present ones in place; a session is resumed only
//! on listeners that ask the same of their clients.

mod files;
mod options;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

pub use options::{KeyFormat, TLS_12, TLS_13, TlsSettings, Verify};

/// What a listener asks of its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// Nothing: bytes travel as they are.
    #[default]
    Open,
    /// TLS, and of a client's certificate what `ssl_verify_mode` says.
    Tls,
    /// TLS, and no certificate (`btls:`).
    TlsWithoutPeer,
    /// TLS, and a certificate in any case (`mtls:`).
    TlsWithPeer,
}

/// What a handshake takes, for each kind of listener.
pub(crate) struct Terms {
    usual: Arc<ServerConfig>,
    without_peer: Arc<ServerConfig>,
    /// None when no authority is known that could vouch for a client.
    with_peer: Option<Arc<ServerConfig>>,
}

/// What all workers share of TLS.
pub struct Tls {
    settings: TlsSettings,
    terms: RwLock<Terms>,
    refreshed_s: AtomicU32,
    /// Handshakes that made a session rather than resumed one.
    new_sessions: AtomicU64,
    handshake_errors: AtomicU64,
    proto_errors: AtomicU64,
    waiting: AtomicU64,
    wait_max_us: AtomicU64,
    overdue: AtomicU64,
}

/// Counts of TLS since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsFigures {
    /// Handshakes that made a session rather than resumed one.
    pub new_sessions: u64,
    /// Handshakes that failed, or were given up.
    pub handshake_errors: u64,
    /// Connections that broke the protocol afterwards.
    pub proto_errors: u64,
    /// Handshakes that wait for a costly step at present, or have it made.
    pub waiting: u64,
    /// The longest that one of them has waited, in microseconds.
    pub wait_max_us: u64,
    /// Costly steps that workers made themselves, because nobody else had time.
    pub overdue: u64,
    /// Seconds since the certificates were read.
    pub since_refresh_s: u32,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads certificates and keys; `guards` are those of the listeners.
    ///
    /// # Errors
    /// A sentence that names the file or option.
    pub fn load(settings: TlsSettings, guards: &[Guard], now_s: u32) -> Result<Self, String> {
        let terms = files::terms(&settings)?;
        if guards.contains(&Guard::TlsWithPeer) && terms.with_peer.is_none() {
            return Err("mtls: asks for certificates of clients, and nothing says which; name their authorities with -o ssl_ca_cert=FILE".into());
        }
        Ok(Self {
            settings,
            terms: RwLock::new(terms),
            refreshed_s: AtomicU32::new(now_s),
            new_sessions: AtomicU64::new(0),
            handshake_errors: AtomicU64::new(0),
            proto_errors: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            wait_max_us: AtomicU64::new(0),
            overdue: AtomicU64::new(0),
        })
    }

    /// Reads the files again, for connections to come.
    ///
    /// # Errors
    /// A sentence that names the file; then nothing has changed.
    pub fn refresh(&self, now_s: u32) -> Result<(), String> {
        let terms = files::terms(&self.settings)?;
        let mut present = self.terms.write().unwrap_or_else(PoisonError::into_inner);
        *present = terms;
        self.refreshed_s.store(now_s, Ordering::Relaxed);
        Ok(())
    }

    /// The server's side of a new connection; None where the listener has no TLS.
    ///
    /// # Panics
    /// When a listener asks for certificates that [`Tls::load`] was not told of.
    #[must_use]
    pub fn connection(&self, guard: Guard) -> Option<ServerConnection> {
        let terms = self.terms.read().unwrap_or_else(PoisonError::into_inner);
        let config = match guard {
            Guard::Open => return None,
            Guard::Tls => &terms.usual,
            Guard::TlsWithoutPeer => &terms.without_peer,
            Guard::TlsWithPeer => terms
                .with_peer
                .as_ref()
                .expect("looked at when the server started"),
        };
        let connection = ServerConnection::new(Arc::clone(config));
        Some(connection.expect("a configuration that was accepted when it was made"))
    }

    /// Whether a listener asks its clients for certificates.
    #[must_use]
    pub fn asks_peer(&self, guard: Guard) -> bool {
        match guard {
            Guard::Open | Guard::TlsWithoutPeer => false,
            Guard::Tls => self.settings.verify() != Verify::None,
            Guard::TlsWithPeer => true,
        }
    }

    /// What the operator asked for.
    #[must_use]
    pub fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    /// Counts so far.
    #[must_use]
    pub fn figures(&self, now_s: u32) -> TlsFigures {
        TlsFigures {
            new_sessions: self.new_sessions.load(Ordering::Relaxed),
            handshake_errors: self.handshake_errors.load(Ordering::Relaxed),
            proto_errors: self.proto_errors.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            wait_max_us: self.wait_max_us.load(Ordering::Relaxed),
            overdue: self.overdue.load(Ordering::Relaxed),
            since_refresh_s: now_s.saturating_sub(self.refreshed_s.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn count_session(&self) {
        self.new_sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// So many handshakes of a worker waited for a costly step, and now so many do.
    pub(crate) fn count_waiting(&self, before: usize, now: usize) {
        match now.checked_sub(before) {
            Some(more) => self.waiting.fetch_add(more as u64, Ordering::Relaxed),
            None => self
                .waiting
                .fetch_sub((before - now) as u64, Ordering::Relaxed),
        };
    }

    /// A costly step is made; `overdue` when a worker had to.
    pub(crate) fn count_step(&self, waited: Duration, overdue: bool) {
        let waited_us = waited.as_micros() as u64;
        self.wait_max_us.fetch_max(waited_us, Ordering::Relaxed);
        self.overdue
            .fetch_add(u64::from(overdue), Ordering::Relaxed);
    }

    /// A connection broke; `shaking` when its handshake was not done.
    pub(crate) fn count_error(&self, shaking: bool) {
        let counter = match shaking {
            true => &self.handshake_errors,
            false => &self.proto_errors,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
