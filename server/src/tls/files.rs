//! From the operator's files to what a handshake takes.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::{KeyFormat, Terms, TlsSettings, Verify};

/// The suites of TLS 1.2 there are, by the names that OpenSSL and the standard have for them.
const SUITES: [(CipherSuite, &str, &str); 6] = [
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// Words of OpenSSL's that ask for no more and no less than what is there.
const ALL_SUITES: [&str; 5] = ["ALL", "DEFAULT", "HIGH", "ECDHE", "kECDHE"];

/// Suites that are not there in any case, so that leaving them out is done.
const NEVER_THERE: [&str; 16] = [
    "aNULL", "eNULL", "NULL", "MD5", "SHA1", "RC4", "DES", "3DES", "EXP", "EXPORT", "LOW",
    "MEDIUM", "PSK", "SRP", "kRSA", "ADH",
];

/// Reads everything anew.
///
/// # Errors
/// A sentence that names the file or option.
pub(super) fn terms(settings: &TlsSettings) -> Result<Terms, String> {
    let provider = Arc::new(provider(settings.ciphers.as_deref())?);
    let verifier = |optional| verifier(settings, &provider, optional);
    let config = |verifier| config(settings, &provider, verifier);
    let nobody = || Arc::new(NoClientAuth) as Arc<dyn ClientCertVerifier>;
    let with_peer = verifier(false)?;
    let usual = match settings.verify() {
        Verify::None => Some(nobody()),
        Verify::Request => verifier(true)?,
        Verify::Require => with_peer.clone(),
    };
    let usual = usual.ok_or_else(|| {
        format!(
            "-o ssl_verify_mode={} asks for certificates of clients, and nothing says which; name their authorities with -o ssl_ca_cert=FILE",
            settings.verify_mode
        )
    })?;
    Ok(Terms {
        usual: config(usual)?,
        without_peer: config(nobody())?,
        with_peer: with_peer.map(config).transpose()?,
    })
}

fn config(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, String> {
    let versions: &[&SupportedProtocolVersion] = match settings.only_13() {
        true => &[&TLS13],
        false => &[&TLS13, &TLS12],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(|error| format!("-o ssl_ciphers: {error}"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(settings)?, key(settings)?)
        .map_err(|error| format!("Error validating the certificate: {error}"))?;
    // Each has keys of its own: a ticket of a listener that asks for nothing opens no other.
    config.ticketer =
        ring::Ticketer::new().map_err(|error| format!("no session tickets: {error}"))?;
    if !settings.session_cache {
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(Arc::new(config))
}

fn chain(settings: &TlsSettings) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates(&settings.chain_cert, "certificate chain")
}

fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |reason: &dyn std::fmt::Display| {
        format!("Error loading the {what}: {} : {reason}", path.display())
    };
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(&error))?;
    if found.is_empty() {
        return Err(failed(&"there is no certificate in it"));
    }
    Ok(found)
}

fn key(settings: &TlsSettings) -> Result<PrivateKeyDer<'static>, String> {
    let path = settings.key.as_ref().unwrap_or(&settings.chain_cert);
    let key = match settings.key_format {
        KeyFormat::Pem => PrivateKeyDer::from_pem_file(path).map_err(|error| error.to_string()),
        KeyFormat::Der => std::fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| PrivateKeyDer::try_from(bytes).map_err(str::to_owned)),
    };
    key.map_err(|reason| format!("Error loading the key: {} : {reason}", path.display()))
}

/// Who looks at the certificates of clients; None when no authority is known.
fn verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
    optional: bool,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let Some(path) = &settings.ca_cert else {
        return Ok(None);
    };
    let failed = |reason: &dyn std::fmt::Display| {
        format!(
            "Error loading the CA certificate: {} : {reason}",
            path.display()
        )
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, "CA certificate")? {
        roots.add(certificate).map_err(|error| failed(&error))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match optional {
        true => builder.allow_unauthenticated(),
        false => builder,
    };
    let verifier = builder.build().map_err(|error| failed(&error))?;
    Ok(Some(verifier))
}

/// The cryptography, with the wanted suites of TLS 1.2; those of 1.3 are always there, as with
/// OpenSSL's list.
fn provider(ciphers: Option<&str>) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    let Some(ciphers) = ciphers else {
        return Ok(provider);
    };
    let mut wanted = Vec::new();
    let mut all = false;
    for word in ciphers
        .split([':', ',', ' '])
        .filter(|word| !word.is_empty())
    {
        let left_out = word.strip_prefix(['!', '-']);
        let suite = SUITES
            .iter()
            .find(|(_, openssl, standard)| word == *openssl || word == *standard);
        match suite {
            Some((suite, ..)) => wanted.push(*suite),
            None if ALL_SUITES.contains(&word) => all = true,
            None if left_out.is_some_and(|word| NEVER_THERE.contains(&word)) => {}
            None if word.starts_with('@') || word.starts_with("TLS_") => {}
            None => {
                let names: Vec<&str> = SUITES.iter().map(|(_, name, _)| *name).collect();
                return Err(format!(
                    "-o ssl_ciphers: {word} is not there; there are {}",
                    names.join(" ")
                ));
            }
        }
    }
    if !all {
        provider
            .cipher_suites
            .retain(|suite| suite.version() == &TLS13 || wanted.contains(&suite.suite()));
    }
    Ok(provider)
}
