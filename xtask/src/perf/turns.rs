//! Closed loops of several subjects at once, of which one runs and all others stand still, by turns.
//!
//! One second of a shared machine is a sixth slower than the next, so whole runs behind each other meet different ones:
//! their ratios lie far apart where those of turns lie close (perf/notes/turns.md). A closed loop bears it: nobody
//! asks how long a request took, and a client that stands still sends nothing.
//!
//! Always true: a server runs only while its client does, and while no other pair does; each has as many turns as any
//! other, and comes as often before it as behind it; both of a pair end with it, stopped or not.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::client::{Client, MEASURED, MEASURING};
use super::order;
use super::subject::Running;
use super::usage::Usage;
use crate::process::signal;

/// How long a turn is. In a longer one the machine changes before the next; and who waits for six others is back before
/// TCP, after 200 ms without a word, begins anew with a small window.
pub const TURN: Duration = Duration::from_millis(25);

/// A server and the client that loads it, stopped but for their turns.
pub struct Pair {
    server: Running,
    client: Client,
    /// The server's, when its client began to measure.
    before: Usage,
    /// How long both ran since.
    ran: Duration,
}

/// What others had of the machine while turns were taken.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// Cores kept busy by no subject and no client.
    pub cores: f64,
    /// Cores taken by the host.
    pub stolen: f64,
}

impl Pair {
    /// Waits until the client measures, and stops both.
    pub fn ready(mut server: Running, mut client: Client, limit: Duration) -> Result<Self> {
        server.blame(client.reach(MEASURING, limit))?;
        let began = Instant::now();
        let before = Usage::of(server.id())?;
        let mut pair = Self {
            server,
            client,
            before,
            ran: Duration::ZERO,
        };
        pair.rest(began)?;
        Ok(pair)
    }

    /// Lets both run on, and the client end. Returns its report, what the server used, and how long both ran.
    pub fn finish(mut self, limit: Duration) -> Result<(Value, Usage, f64)> {
        let began = Instant::now();
        self.go()?;
        signal(self.client.id(), Signal::SIGTERM)?;
        self.server.blame(self.client.reach(MEASURED, limit))?;
        let used = Usage::of(self.server.id())?.since(self.before);
        let ran = self.ran + began.elapsed();
        Ok((self.client.report(limit)?, used, ran.as_secs_f64()))
    }

    fn turn(&mut self) -> Result<()> {
        let began = Instant::now();
        self.go()?;
        std::thread::sleep(TURN);
        self.rest(began)
    }

    /// The server first, so that it is there when its client asks.
    fn go(&self) -> Result<()> {
        signal(self.server.id(), Signal::SIGCONT)?;
        signal(self.client.id(), Signal::SIGCONT)
    }

    /// The client first, so that nothing more is asked.
    fn rest(&mut self, began: Instant) -> Result<()> {
        signal(self.client.id(), Signal::SIGSTOP)?;
        signal(self.server.id(), Signal::SIGSTOP)?;
        self.ran += began.elapsed();
        Ok(())
    }

    /// Seconds of CPU that both have used; none of one that has ended.
    fn cpu_s(&self) -> f64 {
        let of = |id| Usage::of(id).map_or(0.0, |usage| usage.cpu_s);
        of(self.server.id()) + of(self.client.id())
    }
}

/// Lets each pair run for `seconds` altogether. What they ran is for each to tell.
pub fn take_turns(pairs: &mut [&mut Pair], seconds: f64) -> Result<Others> {
    let ours = |pairs: &[&mut Pair]| pairs.iter().map(|pair| pair.cpu_s()).sum::<f64>();
    let mine = std::process::id();
    let (cpu_before_s, before) = (ours(pairs), Usage::of(mine)?);
    for pass in 0..(seconds / TURN.as_secs_f64()).ceil() as usize {
        for index in order(pairs.len(), pass) {
            pairs[index].turn()?;
        }
    }
    let passed = Usage::of(mine)?.since(before);
    let ours_s = ours(pairs) - cpu_before_s + passed.cpu_s;
    Ok(Others {
        cores: ((passed.machine_busy_s - ours_s) / passed.at_s).max(0.0),
        stolen: passed.machine_stolen_s / passed.at_s,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::client::tests::shell;
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn is_stopped(id: u32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("it is there");
        let (_, rest) = stat.rsplit_once(") ").expect("a name in parentheses");
        rest.starts_with('T')
    }

    /// Waits until both of a pair are stopped, or neither is.
    fn wait_until(stopped: bool, pair: &Pair) {
        let deadline = Instant::now() + LIMIT;
        let ids = [pair.server.id(), pair.client.id()];
        while ids.iter().any(|&id| is_stopped(id) != stopped) {
            assert!(Instant::now() < deadline, "stopped: {stopped}");
            std::thread::yield_now();
        }
    }

    /// A pair whose server does nothing and whose client measures until it is told to end.
    fn pair() -> Pair {
        let server = Running::of(Command::new("sleep").arg("60")).expect("a server");
        let client = shell(
            "trap 'echo phase: Measured >&2; echo \"{\\\"Strata\\\":7}\" >$3; exit' TERM; \
             echo phase: Measuring >&2; while :; do sleep 0.01; done",
        );
        Pair::ready(server, client, LIMIT).expect("a pair")
    }

    #[test]
    fn who_has_no_turn_stands_still() {
        let mut pair = pair();
        wait_until(true, &pair);
        pair.go().expect("they go on");
        wait_until(false, &pair);
        pair.rest(Instant::now()).expect("they rest");
        wait_until(true, &pair);
    }

    #[test]
    fn each_runs_for_its_time_and_tells_it() {
        let mut pairs = [pair(), pair()];
        let [one, other] = &mut pairs;
        take_turns(&mut [one, other], 0.1).expect("turns");
        for pair in pairs {
            wait_until(true, &pair);
            let (report, _, ran_s) = pair.finish(LIMIT).expect("a report");
            assert_eq!(report, 7);
            assert!(ran_s >= 0.1, "{ran_s}");
        }
    }

    #[test]
    fn a_server_that_has_ended_is_blamed() {
        let server = Running::of(&mut Command::new("false")).expect("a server");
        let client = shell("exit 1");
        let deadline = Instant::now() + LIMIT;
        while !std::fs::read_to_string(format!("/proc/{}/stat", server.id()))
            .is_ok_and(|stat| stat.contains(") Z "))
        {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
        let error = Pair::ready(server, client, LIMIT).err().expect("no pair");
        assert!(error.to_string().contains("ended with"), "{error}");
    }
}
