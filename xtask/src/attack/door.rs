//! What a server under attack says of itself: at its start, and when it is asked.
//!
//! Always true: nobody waits for an answer without a bound.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long a server may take to answer for its counters.
const STATS_PATIENCE: Duration = Duration::from_secs(10);

/// Figures by name.
pub type Figures = BTreeMap<String, String>;

/// Where a server is asked for its figures.
pub enum Door<'a> {
    /// Its unix socket, which has no TLS and is not what is attacked.
    Unix(&'a Path),
    /// Its only port.
    Tcp(SocketAddr),
}

impl Door<'_> {
    /// The figures that answer a question.
    pub fn ask(&self, question: &str) -> Result<Figures> {
        match self {
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).context("the server's unix socket")?;
                stream.set_read_timeout(Some(STATS_PATIENCE))?;
                figures(stream, question)
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, STATS_PATIENCE)?;
                stream.set_read_timeout(Some(STATS_PATIENCE))?;
                figures(stream, question)
            }
        }
    }

    /// Waits until the server has forgotten everybody else.
    pub fn until_alone(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let stats = self.ask("stats")?;
            // Whoever asks is one.
            if stats
                .get("curr_connections")
                .is_some_and(|open| open == "1")
            {
                return Ok(());
            }
            ensure!(
                began.elapsed() < STATS_PATIENCE,
                "the attacker's connections are still open"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn figures(mut stream: impl Read + Write, question: &str) -> Result<Figures> {
    stream.write_all(format!("{question}\r\n").as_bytes())?;
    let mut figures = Figures::new();
    for line in BufReader::new(stream).lines() {
        let line = line?;
        match line
            .strip_prefix("STAT ")
            .and_then(|rest| rest.split_once(' '))
        {
            Some((name, value)) => figures.insert(name.to_owned(), value.to_owned()),
            None => break,
        };
    }
    Ok(figures)
}

/// The memory a server says at its start that it may use: that for items and that for buffers.
pub fn promised_mib(said: &str) -> Result<u64> {
    let line = said
        .lines()
        .find(|line| line.contains("for buffers"))
        .context("the server does not say how much memory it may use")?;
    let number = |end: &str| -> Option<u64> {
        let (front, _) = line.split_once(end)?;
        front.rsplit(' ').next()?.parse().ok()
    };
    let items = number(" MiB for items").context("no memory for items")?;
    let buffers = number(" MiB for buffers").context("no memory for buffers")?;
    Ok(items + buffers)
}

/// Where a server says that its admin endpoint is.
pub fn admin_of(said: &str) -> Result<Option<SocketAddr>> {
    let place = said
        .lines()
        .find_map(|line| line.split_once("admin endpoint on http://"));
    match place {
        Some((_, address)) => Ok(Some(address.trim().parse().context(address.to_owned())?)),
        None => Ok(None),
    }
}

/// The longest of some ticks, in microseconds, and what it did.
#[derive(Debug, Default, PartialEq)]
pub struct LongTick {
    pub us: f64,
    pub did: String,
}

impl LongTick {
    /// What `stats latency` says of the longest tick, if there was one.
    pub fn of(figures: &Figures) -> Option<Self> {
        let number = |name: &str| figures.get(&format!("long_tick_0:{name}"));
        let us = number("us")?;
        let did = ["events", "commands", "read_bytes", "lent_bytes", "evicted"]
            .iter()
            .filter_map(|name| Some((name, number(name)?)))
            .filter(|(_, count)| *count != "0")
            .map(|(name, count)| format!(", {name} {count}"));
        Some(Self {
            us: us.parse().ok()?,
            did: format!("{us} us{}", did.collect::<String>()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_tick_is_told_with_what_it_did() {
        let said = [("us", "2320.8"), ("events", "108"), ("evicted", "0")];
        let figures = said.map(|(name, value)| (format!("long_tick_0:{name}"), value.to_owned()));
        let tick = LongTick::of(&figures.into()).expect("a tick");
        assert_eq!(tick.did, "2320.8 us, events 108");
        assert_eq!(tick.us, 2320.8);
        assert_eq!(LongTick::of(&Figures::new()), None);
    }

    #[test]
    fn what_a_server_says_at_its_start_is_read() {
        let said = "strata: 64 MiB for items and table with 0 MiB on huge pages, and up to 131 MiB for buffers\n\
                    strata: admin endpoint on http://127.0.0.1:4321\n";
        assert_eq!(promised_mib(said).expect("a promise"), 195);
        let admin = admin_of(said).expect("an address");
        assert_eq!(admin, Some(SocketAddr::from(([127, 0, 0, 1], 4321))));
        assert_eq!(admin_of("nothing").expect("none"), None);
    }
}
