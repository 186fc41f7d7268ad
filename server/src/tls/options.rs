//! What the operator wants of TLS: memcached's `-o ssl_*`.

use std::path::PathBuf;

/// What is asked of a client's certificate (`ssl_verify_mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// It is not asked for (0).
    #[default]
    None,
    /// It is asked for, and looked at if there is one (1).
    Request,
    /// It is asked for, and there has to be one (2, and 3, which differ only where a connection
    /// could be negotiated twice).
    Require,
}

/// What the file of the private key holds (`ssl_keyformat`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyFormat {
    /// Text (1).
    #[default]
    Pem,
    /// Bytes (2).
    Der,
}

/// See the module's page. The numbers are as they were given, for `stats settings`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate and those that vouch for it, in PEM.
    pub chain_cert: PathBuf,
    /// The private key; else it is looked for in the file of the certificates.
    pub key: Option<PathBuf>,
    /// What that file holds.
    pub key_format: KeyFormat,
    /// What is asked of clients, by its number; see [`TlsSettings::verify`].
    pub verify_mode: u8,
    /// Who vouches for clients, in PEM.
    pub ca_cert: Option<PathBuf>,
    /// Cipher suites of TLS 1.2.
    pub ciphers: Option<String>,
    /// Whether sessions are kept for those that come again without a ticket.
    pub session_cache: bool,
    /// The oldest version that is spoken, by memcached's numbers: 2 is TLS 1.2, and less is the same.
    pub min_version: u8,
    /// Kilobytes, without effect.
    pub wbuf_kib: u32,
    /// Without effect.
    pub kernel_tls: bool,
}

/// TLS 1.2 and 1.3 by memcached's numbers.
pub const TLS_12: u8 = 2;
/// See [`TLS_12`].
pub const TLS_13: u8 = 3;

impl TlsSettings {
    /// What is asked of clients.
    #[must_use]
    pub fn verify(&self) -> Verify {
        match self.verify_mode {
            0 => Verify::None,
            1 => Verify::Request,
            _ => Verify::Require,
        }
    }

    /// Whether TLS 1.2 is refused.
    #[must_use]
    pub fn only_13(&self) -> bool {
        self.min_version >= TLS_13
    }
}
