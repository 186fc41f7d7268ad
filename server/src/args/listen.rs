//! What one `-l` names: addresses, with a port or without, and what memcached lets stand before
//! them.
//!
//! ```text
//! [notls: | btls: | mtls:] [proto[ascii]:] [tag[NAME]: | tag_NAME_:] HOST[:PORT]
//! ```
//!
//! The tag means something to memcached's proxy alone, so it is checked and dropped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Longest tag.
const TAG_MAX_BYTES: usize = 8;

/// The addresses one `-l` names, with `port` where it names none.
pub(super) fn addresses(texts: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let mut found = Vec::new();
    for text in texts.split(';').filter(|text| !text.is_empty()) {
        let host = without_prefixes(text).map_err(|reason| format!("-l {text}: {reason}"))?;
        found.extend(host_addresses(host, port)?);
    }
    Ok(found)
}

fn without_prefixes(text: &str) -> Result<&str, String> {
    if let Some(word) = ["notls", "btls", "mtls"]
        .into_iter()
        .find(|word| text.starts_with(word))
    {
        return Err(format!("{word} is about TLS, which is not there yet"));
    }
    let mut rest = text;
    if let Some(name) = rest.strip_prefix("proto[") {
        let (name, behind) = name.split_once(']').ok_or("proto[ has no end")?;
        rest = behind.strip_prefix(':').unwrap_or(behind);
        match name {
            // Every listener speaks what -B says.
            "ascii" | "binary" | "negotiating" => {}
            "proxy" => return Err("there is no proxy in this server".into()),
            _ => {
                return Err(format!(
                    "{name} is no protocol: ascii, binary or negotiating"
                ));
            }
        }
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
    Ok(rest)
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
