//! What one `-l` names: addresses, with a port or without, and what memcached lets stand before
//! them.
//!
//! ```text
//! [notls: | btls: | mtls:] [proto[ascii]:] [tag[NAME]: | tag_NAME_:] HOST[:PORT]
//! ```
//!
//! What stands before them decides how connections begin that come this way. The tag means something to memcached's proxy alone, so it is checked and dropped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{Entry, Listener, Protocol};
use crate::tls::Guard;

/// Longest tag.
const TAG_MAX_BYTES: usize = 8;

/// What a listener is where its text says nothing.
#[derive(Clone, Copy)]
pub(super) struct Usual {
    pub port: u16,
    pub protocol: Protocol,
    /// Whether TLS is there (`-Z`).
    pub tls: bool,
    /// Whether passwords are asked for, which is done in text.
    pub passwords: bool,
}

/// The listeners that one `-l` names.
pub(super) fn listeners(texts: &str, usual: Usual) -> Result<Vec<Listener>, String> {
    let mut found = Vec::new();
    for text in texts.split(';').filter(|text| !text.is_empty()) {
        let (entry, host) =
            prefixes(text, usual).map_err(|reason| format!("-l {text}: {reason}"))?;
        let addresses = host_addresses(host, usual.port)?.into_iter();
        found.extend(addresses.map(|address| Listener { address, entry }));
    }
    Ok(found)
}

fn prefixes(text: &str, usual: Usual) -> Result<(Entry, &str), String> {
    let mut rest = text;
    let mut entry = Entry {
        protocol: usual.protocol,
        guard: if usual.tls { Guard::Tls } else { Guard::Open },
    };
    for (word, guard) in [
        ("notls", Guard::Open),
        ("btls", Guard::TlsWithoutPeer),
        ("mtls", Guard::TlsWithPeer),
    ] {
        if let Some(behind) = text.strip_prefix(word) {
            if !usual.tls {
                return Err(format!("{word} is about TLS, which -Z turns on"));
            }
            rest = behind.strip_prefix(':').unwrap_or(behind);
            entry.guard = guard;
        }
    }
    if let Some(name) = rest.strip_prefix("proto[") {
        let (name, behind) = name.split_once(']').ok_or("proto[ has no end")?;
        rest = behind.strip_prefix(':').unwrap_or(behind);
        entry.protocol = match name {
            "ascii" => Protocol::Ascii,
            "binary" if usual.passwords => {
                return Err("-Y asks for passwords in text, which proto[binary] forbids".into());
            }
            "binary" => Protocol::Binary,
            "negotiating" if usual.passwords => Protocol::Ascii,
            "negotiating" => Protocol::Auto,
            "proxy" => return Err("there is no proxy in this server".into()),
            _ => {
                return Err(format!(
                    "{name} is no protocol: ascii, binary or negotiating"
                ));
            }
        };
    }
    let tagged = rest
        .strip_prefix("tag[")
        .map(|name| (name, ']'))
        .or_else(|| rest.strip_prefix("tag_").map(|name| (name, '_')));
    if let Some((name, end)) = tagged {
        let (name, behind) = name.split_once(end).ok_or("tag has no end")?;
        if !(1..=TAG_MAX_BYTES).contains(&name.len()) {
            return Err(format!("a tag has 1 to {TAG_MAX_BYTES} characters"));
        }
        rest = behind.strip_prefix(':').unwrap_or(behind);
    }
    Ok((entry, rest))
}

fn host_addresses(text: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    if text == "*" {
        return Ok(vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)]);
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, digits)) => match digits.parse() {
            Ok(port) => (host, port),
            Err(_) => return Err(format!("-l {text}: {digits} is no port")),
        },
        None => (text, port),
    };
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, port))
        .map_err(|error| format!("-l {text}: {error}"))?;
    Ok(found.collect())
}
/// The address of the admin endpoint; a port alone is one of loopback.
pub(super) fn admin_address(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(SocketAddr::from(([127, 0, 0, 1], port))),
        Err(_) => text
            .parse()
            .map_err(|_| "neither ADDRESS:PORT nor a port".into()),
    }
}
