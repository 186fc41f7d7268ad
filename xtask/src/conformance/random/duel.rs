//! Two servers that are asked the same, and whether they answer the same.
//!
//! Always true: after each turn both servers have answered everything, because a last request that nothing else looks
//! like asks for an answer; so which connection was served first never decides. A connection on which that answer does
//! not come is closed on both sides and counts as an answer too.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::dialogue::{Context, Dialogue, Stamp, Turn, shown};
use super::reply::{Uniques, agree, read_lines, read_packets};
use crate::process::Server;

/// How long an answer may take; a server that was asked for more data than it got answers nothing at all.
const PATIENCE: Duration = Duration::from_millis(300);
/// The same when a difference is made sure of: then a slow machine must not look like one.
const LONG_PATIENCE: Duration = Duration::from_secs(3);
/// Swallowed as data where a line asked for more than it brought; otherwise a line that nobody knows.
const PADDING_BYTES: usize = 1900;
/// Connections to each server: some for text, as many for packets.
const CONNECTIONS: usize = 4;
/// How many bytes of a line are shown.
const SHOWN_BYTES: usize = 200;

/// A memcached and a Strata.
pub struct Duel {
    sides: [Side; 2],
    /// Whether the second server's shards count uniques each for itself.
    shared_uniques: bool,
    fence: u32,
    stamp: u32,
}

struct Side {
    name: &'static str,
    address: SocketAddr,
    connections: [Option<TcpStream>; CONNECTIONS],
    /// Holds the process.
    server: Server,
}

/// What came back in a turn.
#[derive(Default)]
struct Answer {
    bytes: Vec<u8>,
    end: End,
}

/// Why no more came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Answered,
    Closed,
    Silent,
}

impl Duel {
    /// Sets one against the other.
    pub fn new(memcached: Server, strata: Server, shared_uniques: bool) -> Self {
        let side = |name, server: Server| Side {
            name,
            address: server.address(),
            connections: Default::default(),
            server,
        };
        Self {
            sides: [side("memcached", memcached), side("strata", strata)],
            shared_uniques,
            fence: 0,
            stamp: 0,
        }
    }

    /// Plays a dialogue on fresh keys; the story of the first turn whose answers differ, if one does.
    pub fn differs(&mut self, dialogue: &Dialogue, make_sure: bool) -> Result<Option<String>> {
        let patience = if make_sure { LONG_PATIENCE } else { PATIENCE };
        let stamp = Stamp(self.stamp);
        self.stamp += 1;
        let mut uniques = Uniques::default();
        let mut story = String::new();
        for turn in &dialogue.turns {
            let sent = [&uniques.first, &uniques.second].map(|uniques| {
                let context = Context { stamp, uniques };
                let commands = turn.commands.iter();
                commands
                    .flat_map(|command| command.bytes(&context))
                    .collect::<Vec<u8>>()
            });
            let answers = self.ask(dialogue, turn, &sent, patience)?;
            for side in &mut self.sides {
                if let Some(status) = side.server.ended()? {
                    let log = side.server.log();
                    anyhow::bail!(
                        "{} ended with {status}\n{log}\n{}{}",
                        side.name,
                        story,
                        shown(&sent[1], "    ", SHOWN_BYTES)
                    );
                }
            }
            let read = if dialogue.binary {
                read_packets
            } else {
                read_lines
            };
            let (first, mut second) = (read(&answers[0].bytes), read(&answers[1].bytes));
            // While memcached waits for data it holds back the answers before, and when it hangs up it drops them.
            if answers[0].end != End::Answered {
                second.truncate(first.len());
            }
            let same = answers[0].end == answers[1].end
                && agree(&first, &second, &mut uniques, self.shared_uniques);
            let cut = if turn.cut.is_some() {
                ", in pieces"
            } else {
                ""
            };
            story.push_str(&format!("  connection {}{cut}\n", turn.connection));
            story.push_str(&shown(&sent[1], "    ", SHOWN_BYTES));
            if !same {
                for (side, answer) in self.sides.iter().zip(&answers) {
                    story.push_str(&format!("  {} ({:?})\n", side.name, answer.end));
                    story.push_str(&shown(&answer.bytes, "    ", SHOWN_BYTES));
                }
                return Ok(Some(story));
            }
        }
        Ok(None)
    }

    /// Sends a turn to both servers and reads both answers.
    fn ask(
        &mut self,
        dialogue: &Dialogue,
        turn: &Turn,
        sent: &[Vec<u8>; 2],
        patience: Duration,
    ) -> Result<[Answer; 2]> {
        self.fence += 1;
        let (fence, expected) = fence(self.fence, dialogue);
        let at = turn.connection + if dialogue.binary { CONNECTIONS / 2 } else { 0 };
        for (side, sent) in self.sides.iter_mut().zip(sent) {
            side.send(at, &[sent, &fence[..]].concat(), turn.cut)?;
        }
        let mut answers: [Answer; 2] = Default::default();
        let start = Instant::now();
        for (side, answer) in self.sides.iter_mut().zip(&mut answers) {
            side.read(at, &expected, start + patience, answer)?;
        }
        // Where one of them has answered, the other is waited for in earnest.
        if answers[0].end != answers[1].end {
            for (side, answer) in self.sides.iter_mut().zip(&mut answers) {
                if answer.end == End::Silent {
                    answer.end = End::Answered;
                    side.read(at, &expected, start + LONG_PATIENCE, answer)?;
                }
            }
        }
        if answers.iter().any(|answer| answer.end != End::Answered) {
            for side in &mut self.sides {
                side.connections[at] = None;
            }
        }
        Ok(answers)
    }
}

/// What ends a turn, and how the answer to it begins or, for text, what it is.
fn fence(number: u32, dialogue: &Dialogue) -> (Vec<u8>, Vec<u8>) {
    if dialogue.binary {
        let mut noop = vec![0x80, 0x0a];
        noop.resize(12, 0);
        noop.extend((number | 1 << 31).to_be_bytes());
        noop.resize(24, 0);
        let mut reply = noop.clone();
        reply[0] = 0x81;
        return (noop, reply);
    }
    let mut text = Vec::new();
    if dialogue.odd {
        // A line that lost its end ends here; one as long as both together would cost the connection.
        text.extend_from_slice(b"\r\n");
        text.resize(PADDING_BYTES, b'z');
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("ms fence 0 Ofence{number}\r\n\r\n").as_bytes());
    (text, format!("HD Ofence{number}\r\n").into_bytes())
}

impl Side {
    fn send(&mut self, at: usize, bytes: &[u8], cut: Option<u64>) -> Result<()> {
        if self.connections[at].is_none() {
            let stream = TcpStream::connect(self.address).context(self.name)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(LONG_PATIENCE))?;
            self.connections[at] = Some(stream);
        }
        let Some(stream) = &mut self.connections[at] else {
            return Ok(());
        };
        let mut rng = cut.map(fastrand::Rng::with_seed);
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = rest.len();
            let length = match &mut rng {
                // Many small pieces of a large value would only be slow.
                Some(rng) => rng.usize(1..40).max(most / 50).min(most),
                None => most,
            };
            // A server that hung up takes nothing more; what it answered before is read all the same.
            if stream.write_all(&rest[..length]).is_err() {
                break;
            }
            rest = &rest[length..];
        }
        Ok(())
    }

    fn read(
        &mut self,
        at: usize,
        expected: &[u8],
        deadline: Instant,
        answer: &mut Answer,
    ) -> Result<()> {
        let Some(stream) = &mut self.connections[at] else {
            return Ok(());
        };
        let mut buffer = vec![0; 1 << 16];
        loop {
            if answer.bytes.ends_with(expected) {
                answer.bytes.truncate(answer.bytes.len() - expected.len());
                return Ok(());
            }
            let left = deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut buffer) {
                Ok(0) => answer.end = End::Closed,
                Ok(count) => {
                    answer.bytes.extend_from_slice(&buffer[..count]);
                    continue;
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    answer.end = End::Silent;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // It closed with our bytes unread.
                Err(_) => answer.end = End::Closed,
            }
            return Ok(());
        }
    }
}
