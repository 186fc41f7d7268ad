//! Wrong passwords: how long their answers wait, and what the operator is told of them.
//!
//! Always true: an answer is the later the more wrong ones its address has had, up to a bound; the number of addresses
//! that are remembered is bounded, and the stalest is forgotten first; there is at most one line in each
//! [`DOOR_LOG_EVERY_MS`], which counts what it leaves out; and no password is in any.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::{
    DOOR_DELAY_FIRST_MS, DOOR_DELAY_MAX_MS, DOOR_FORGET_MS, DOOR_LOG_EVERY_MS, DOOR_PEERS_MAX,
};

/// All that are remembered. Times are in milliseconds since any moment.
#[derive(Debug, Default)]
pub struct Failures {
    /// By address or network; none is the unix socket.
    of: HashMap<Option<IpAddr>, Count>,
    /// A line for the operator, and when the last one was made.
    line: Option<String>,
    line_ms: Option<u64>,
    /// Failures that no line was made of.
    unsaid: u64,
}

/// The wrong passwords of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    count: u32,
    last_ms: u64,
}

impl Failures {
    /// Counts a wrong password; how long the answer is to wait. The user is given if there is one of that name.
    pub fn count(&mut self, user: Option<&[u8]>, peer: Option<IpAddr>, now_ms: u64) -> u64 {
        self.note(user, peer, now_ms);
        self.delay_ms(peer, now_ms)
    }

    /// A line that the operator should see.
    pub fn take_line(&mut self) -> Option<String> {
        self.line.take()
    }

    fn delay_ms(&mut self, peer: Option<IpAddr>, now_ms: u64) -> u64 {
        let forgotten = |failures: &Count| now_ms >= failures.last_ms + DOOR_FORGET_MS;
        if self.of.len() >= DOOR_PEERS_MAX && !self.of.contains_key(&peer) {
            self.of.retain(|_, failures| !forgotten(failures));
            if self.of.len() >= DOOR_PEERS_MAX {
                let stalest = self.of.iter();
                let stalest = stalest.min_by_key(|(_, failures)| failures.last_ms);
                let stalest = stalest.map(|(peer, _)| *peer);
                stalest.map(|peer| self.of.remove(&peer));
            }
        }
        let failures = self.of.entry(peer).or_default();
        if forgotten(failures) {
            failures.count = 0;
        }
        let doublings = failures.count.min(16);
        failures.count += 1;
        failures.last_ms = now_ms;
        (DOOR_DELAY_FIRST_MS << doublings).min(DOOR_DELAY_MAX_MS)
    }

    /// Makes a line of a failure, if the last one is long enough ago.
    fn note(&mut self, user: Option<&[u8]>, peer: Option<IpAddr>, now_ms: u64) {
        if self
            .line_ms
            .is_some_and(|last_ms| now_ms < last_ms + DOOR_LOG_EVERY_MS)
        {
            self.unsaid += 1;
            return;
        }
        let name = match user {
            Some(user) => format!("user {}", String::from_utf8_lossy(user)),
            None => "a name that is nobody's".into(),
        };
        let place = match peer {
            Some(IpAddr::V6(network)) => format!("{network}/64"),
            Some(address) => address.to_string(),
            None => "the unix socket".into(),
        };
        let others = match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            count => format!(", and {count} more since the last such line"),
        };
        self.line = Some(format!("wrong password for {name} from {place}{others}"));
        self.line_ms = Some(now_ms);
    }
}

/// What one client has at least: an address of version 4, or a network of version 6.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> Option<IpAddr> {
        address.parse().ok().map(network)
    }

    #[test]
    fn a_wrong_answer_is_the_later_the_more_an_address_has_had() {
        let mut failures = Failures::default();
        let mut delay = |peer: &str, now_ms: u64| failures.count(None, at(peer), now_ms);
        let delays: Vec<u64> = (0..9).map(|_| delay("10.0.0.1", 1000)).collect();
        let expected = [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000];
        assert_eq!(delays, expected);
        assert_eq!(delay("10.0.0.2", 1000), 100, "another address");
        assert_eq!(delay("unix", 1000), 100);
        assert_eq!(delay("2001:db8::1", 1000), 100);
        assert_eq!(delay("2001:db8::2", 1000), 200, "the same network");
        assert_eq!(delay("2001:db8:0:1::1", 1000), 100);
        assert_eq!(delay("::ffff:10.0.0.2", 1000), 200, "the same address");
        assert_eq!(delay("10.0.0.1", 1000 + DOOR_FORGET_MS), 100, "forgotten");
    }

    #[test]
    fn the_stalest_of_too_many_addresses_is_forgotten() {
        let mut failures = Failures::default();
        let peer = |number: u32| Some(std::net::Ipv4Addr::from(number).into());
        let many = DOOR_PEERS_MAX as u32;
        for number in 0..many + 10 {
            failures.count(None, peer(number), u64::from(number) / 100);
        }
        assert_eq!(failures.of.len(), DOOR_PEERS_MAX);
        let now_ms = u64::from(many + 10) / 100;
        assert_eq!(failures.count(None, peer(many + 9), now_ms), 200);
    }

    #[test]
    fn failures_are_said_once_a_second() {
        let mut failures = Failures::default();
        let mut lines = Vec::new();
        for now_ms in [10, 20, 900, 1500] {
            failures.count(Some(b"u"), at("10.0.0.1"), now_ms);
            lines.extend(failures.take_line());
        }
        failures.count(None, None, 9000);
        lines.extend(failures.take_line());
        let expected = [
            "wrong password for user u from 10.0.0.1",
            "wrong password for user u from 10.0.0.1, and 2 more since the last such line",
            "wrong password for a name that is nobody's from the unix socket",
        ];
        assert_eq!(lines, expected);
    }
}
