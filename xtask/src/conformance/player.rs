//! Plays one transcript to one running server and says where the two first differ.
//!
//! Nothing waits without a deadline, and nothing sleeps to give the server time: what a line expects is read until it
//! is there, differs, or is overdue.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::packet::{self, Direction};
use super::pattern::{Names, Part, Pattern, accept, accept_number, matches_line};
use super::target::Target;
use super::transcript::{Action, Deed, Operand, Step, Transcript};
use crate::process::Server;

/// How long an expected byte may be overdue.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before asking again whether an item is gone.
const PAUSE: Duration = Duration::from_millis(20);
/// After how long a server that takes nothing holds the client back.
const HELD_BACK: Duration = Duration::from_millis(300);
/// How many bytes of a difference are shown on each side of it.
const SHOWN_BYTES: usize = 160;

/// How the requests are cut on their way.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Not at all: what is sent together goes in one write.
    Whole,
    /// Into single bytes.
    Bytes,
    /// Into pieces of random length from this seed.
    Random(u64),
}

/// What came of a play without a difference.
#[derive(Default)]
pub struct Played {
    /// Lines that are not for this server.
    pub skipped_lines: usize,
}

/// The first difference.
pub struct Difference {
    /// The transcript's line.
    pub line: usize,
    /// The dialogue before it, the line itself, and what came instead.
    pub story: String,
}

/// Plays the transcript to its end or to the first difference.
pub fn play(
    transcript: &Transcript,
    target: &Target,
    server: &mut Server,
    cut: Cut,
) -> Result<Played, Difference> {
    let mut player = Player {
        address: server.address(),
        cutter: Cutter::new(cut),
        connections: BTreeMap::new(),
        names: Names::new(),
    };
    let mut played = Played::default();
    let mut told: Vec<&str> = Vec::new();
    for step in &transcript.steps {
        if !target.plays(step.only) {
            played.skipped_lines += 1;
            continue;
        }
        let outcome = player.step(step, server);
        outcome.map_err(|what| difference(step.line, &told, &step.text, &what))?;
        told.push(&step.text);
    }
    let line = transcript.steps.last().map_or(0, |step| step.line);
    player
        .all_quiet()
        .map_err(|what| difference(line, &told, "(the end)", &what))?;
    if !transcript
        .steps
        .iter()
        .any(|step| matches!(step.action, Action::ServerExits))
        && let Ok(Some(status)) = server.ended()
    {
        let what = format!("the server ended with {status}\n{}", server.log());
        return Err(difference(line, &told, "(the end)", &what));
    }
    Ok(played)
}

fn difference(line: usize, told: &[&str], failed: &str, what: &str) -> Difference {
    const SHOWN_LINES: usize = 30;
    let mut story = String::new();
    let hidden = told.len().saturating_sub(SHOWN_LINES);
    if hidden > 0 {
        story.push_str(&format!("      ... {hidden} lines before\n"));
    }
    let shorten = |line: &str| line.chars().take(SHOWN_BYTES).collect::<String>();
    for line in &told[hidden..] {
        story.push_str(&format!("      {}\n", shorten(line)));
    }
    story.push_str(&format!("    > {}\n", shorten(failed)));
    for line in what.lines() {
        story.push_str(&format!("        {line}\n"));
    }
    Difference { line, story }
}

struct Player {
    address: SocketAddr,
    cutter: Cutter,
    connections: BTreeMap<char, Connection>,
    names: Names,
}

impl Player {
    fn step(&mut self, step: &Step, server: &mut Server) -> Result<(), String> {
        let sending = match &step.action {
            Action::On(client, Deed::Send(_) | Deed::SendPacket(_)) => Some(*client),
            _ => None,
        };
        // Requests in a row on one connection are one pipeline; anything else sees them sent.
        for (client, connection) in &mut self.connections {
            if sending != Some(*client) {
                connection.flush(&mut self.cutter)?;
            }
        }
        match &step.action {
            Action::On(client, deed) => self.deed(*client, deed),
            Action::ServerExits => {
                let status = server.wait().map_err(|error| format!("{error:#}"))?;
                if status.success() {
                    Ok(())
                } else {
                    Err(format!("it ended with {status}\n{}", server.log()))
                }
            }
            Action::MemoryBelow(limit) => {
                let found = server
                    .resident_kib()
                    .map_err(|error| format!("{error:#}"))?
                    / 1024;
                if found < *limit {
                    Ok(())
                } else {
                    Err(format!("it has {found} MiB"))
                }
            }
            Action::Assert(left, holds, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                if holds(&left, &right) {
                    Ok(())
                } else {
                    Err(format!("they are {left} and {right}"))
                }
            }
        }
    }

    fn value(&self, operand: &Operand) -> Result<u64, String> {
        match operand {
            Operand::Number(number) => Ok(*number),
            Operand::Name(name) => self
                .names
                .get(name)
                .copied()
                .ok_or_else(|| format!("no number is named {name} yet")),
        }
    }

    fn deed(&mut self, client: char, deed: &Deed) -> Result<(), String> {
        if !self.connections.contains_key(&client) {
            self.connections
                .insert(client, Connection::open(self.address)?);
        }
        let connection = self.connections.get_mut(&client).expect("it is there now");
        let names = &mut self.names;
        match deed {
            Deed::Send(pattern) => {
                connection.outgoing.extend(pattern.bytes(names)?);
                Ok(())
            }
            Deed::SendPacket(pattern) => {
                connection.speaks_packets = true;
                connection.outgoing.extend(pattern.bytes(names)?);
                Ok(())
            }
            Deed::ExpectPackets(end) => connection.expect_packets(*end),
            Deed::Expect(pattern) => connection.expect(pattern, names),
            Deed::ExpectUntil(end) => connection.expect_until(end, names),
            Deed::Has(pattern) => {
                if connection
                    .block
                    .iter()
                    .any(|line| matches_line(pattern, line, &mut names.clone()))
                {
                    // Once more, so that the names of the line that matched become known and no others.
                    let line = connection
                        .block
                        .iter()
                        .find(|line| matches_line(pattern, line, &mut names.clone()));
                    matches_line(pattern, line.expect("one matched"), names);
                    return Ok(());
                }
                Err(format!(
                    "no such line, but\n{}",
                    connection.lines_like(pattern)
                ))
            }
            Deed::Lacks(pattern) => {
                let found = connection
                    .block
                    .iter()
                    .find(|line| matches_line(pattern, line, &mut names.clone()));
                found.map_or(Ok(()), |line| {
                    Err(format!("there is {}", line.escape_ascii()))
                })
            }
            Deed::Fill(count, size, end) => connection.fill(*count, *size, end.as_ref(), names),
            Deed::Flood(count, pattern) => connection.flood(*count, &pattern.bytes(names)?),
            Deed::UntilMiss(get) => connection.until_miss(&get.bytes(names)?, &mut self.cutter),
            Deed::Quiet => connection.quiet(),
            Deed::Closed => {
                connection.closed()?;
                self.connections.remove(&client);
                Ok(())
            }
            Deed::Close => {
                self.connections.remove(&client);
                Ok(())
            }
        }
    }

    fn all_quiet(&mut self) -> Result<(), String> {
        for (client, connection) in &mut self.connections {
            connection.flush(&mut self.cutter)?;
            connection
                .quiet()
                .map_err(|what| format!("{client} is not quiet: {what}"))?;
        }
        Ok(())
    }
}

/// One client's connection: what it has yet to send, and what it has received and not yet expected.
struct Connection {
    stream: TcpStream,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// The lines of the last `<...`.
    block: Vec<Vec<u8>>,
    /// It has sent a packet.
    speaks_packets: bool,
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Self, String> {
        let stream =
            TcpStream::connect(address).map_err(|error| format!("cannot connect: {error}"))?;
        // A cut is only a cut if the kernel does not glue the pieces together again.
        let set = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        set.map_err(|error| format!("cannot set up the connection: {error}"))?;
        Ok(Self {
            stream,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            block: Vec::new(),
            speaks_packets: false,
        })
    }

    fn flush(&mut self, cutter: &mut Cutter) -> Result<(), String> {
        let outgoing = std::mem::take(&mut self.outgoing);
        let mut rest = outgoing.as_slice();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(cutter.next_length(outgoing.len()).min(rest.len()));
            match self.stream.write_all(piece) {
                Ok(()) => {}
                // The server may have closed while we still talk; what it said before that is what counts.
                Err(error) if is_closed(error.kind()) => return Ok(()),
                Err(error) => return Err(format!("cannot send: {error}")),
            }
            rest = after;
        }
        Ok(())
    }

    /// Reads once. False when the server has closed.
    fn read(&mut self, deadline: Instant) -> Result<bool, String> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("nothing came in time".into());
        }
        self.stream
            .set_read_timeout(Some(left))
            .map_err(|error| error.to_string())?;
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.incoming.extend_from_slice(&buffer[..count]);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_closed(error.kind()) => return Ok(false),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err("nothing came in time".into());
                }
                Err(error) => return Err(format!("cannot receive: {error}")),
            }
        }
    }

    /// Makes sure that byte `index` is there.
    fn reach(&mut self, index: usize, deadline: Instant) -> Result<(), String> {
        while self.incoming.len() <= index {
            if !self.read(deadline)? {
                return Err("the server closed the connection".into());
            }
        }
        Ok(())
    }

    fn expect(&mut self, pattern: &Pattern, names: &mut Names) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        let mut at = 0;
        for part in &pattern.parts {
            let start = at;
            let outcome = match part {
                Part::Literal(literal) => self.expect_literal(literal, &mut at, deadline),
                Part::Number(_) => self.skip_while(&mut at, deadline, |byte| byte.is_ascii_digit()),
                Part::Wide(_) => {
                    at += 8;
                    self.reach(at - 1, deadline)
                }
                Part::Text => {
                    self.skip_while(&mut at, deadline, |byte| !matches!(byte, b'\r' | b'\n'))
                }
            };
            let wrong = |what: &str, incoming: &[u8]| {
                let expected = match part {
                    Part::Literal(literal) => shown(literal, at - start),
                    other => format!("{other:?}"),
                };
                format!(
                    "{what}\nexpected {expected}\nreceived {}",
                    shown(&incoming[start..], at - start)
                )
            };
            outcome.map_err(|what| wrong(&what, &self.incoming))?;
            let received = &self.incoming[start..at];
            let (name, accepted) = match part {
                Part::Number(name) => (name, accept_number(name.as_deref(), received, names)),
                Part::Wide(name) => {
                    let number = received
                        .iter()
                        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                    (name, accept(name.as_deref(), number, names))
                }
                Part::Literal(_) | Part::Text => continue,
            };
            if !accepted {
                let known = name.as_ref().and_then(|name| names.get(name));
                return Err(wrong(
                    &format!("not that number, known is {known:?}"),
                    &self.incoming,
                ));
            }
        }
        self.incoming.drain(..at);
        Ok(())
    }

    /// Moves `at` over the literal, or to the first byte that differs from it.
    fn expect_literal(
        &mut self,
        literal: &[u8],
        at: &mut usize,
        deadline: Instant,
    ) -> Result<(), String> {
        let mut rest = literal;
        while !rest.is_empty() {
            self.reach(*at, deadline)?;
            let here = &self.incoming[*at..];
            let same = here
                .iter()
                .zip(rest)
                .take_while(|(is, wanted)| is == wanted)
                .count();
            *at += same;
            if same < rest.len() && same < here.len() {
                return Err(format!(
                    "byte {} differs",
                    literal.len() - rest.len() + same
                ));
            }
            rest = &rest[same..];
        }
        Ok(())
    }

    fn skip_while(
        &mut self,
        at: &mut usize,
        deadline: Instant,
        wanted: fn(&u8) -> bool,
    ) -> Result<(), String> {
        loop {
            self.reach(*at, deadline)?;
            if !wanted(&self.incoming[*at]) {
                return Ok(());
            }
            *at += 1;
        }
    }

    /// Takes one line, without its end.
    fn take_line(&mut self, deadline: Instant) -> Result<Vec<u8>, String> {
        let mut at = 0;
        self.skip_while(&mut at, deadline, |byte| *byte != b'\n')
            .map_err(|what| format!("{what}, after {}", shown(&self.incoming, 0)))?;
        let mut line: Vec<u8> = self.incoming.drain(..=at).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }

    fn expect_until(&mut self, end: &Pattern, names: &mut Names) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        self.block.clear();
        loop {
            let line = self
                .take_line(deadline)
                .map_err(|what| format!("{what}\n{}", self.shown_block()))?;
            // An error instead of the block would only be overdue; say it now.
            let is_error = ["ERROR", "CLIENT_ERROR", "SERVER_ERROR"]
                .iter()
                .any(|text| line.starts_with(text.as_bytes()));
            let is_end = matches_line(end, &line, names);
            self.block.push(line);
            if is_end {
                return Ok(());
            }
            if is_error {
                return Err(self.shown_block());
            }
        }
    }

    /// Takes packets, as lines, up to and with one of this opcode.
    fn expect_packets(&mut self, end: u8) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        self.block.clear();
        loop {
            let Some((bytes, opcode, line)) = packet::take(&self.incoming) else {
                let before = self.incoming.len();
                self.reach(before, deadline).map_err(|what| {
                    format!(
                        "{what}, after {}\n{}",
                        shown(&self.incoming, 0),
                        self.shown_block()
                    )
                })?;
                continue;
            };
            self.incoming.drain(..bytes);
            self.block.push(line);
            if opcode == end {
                return Ok(());
            }
        }
    }

    /// The lines that begin as the pattern does up to its second word, or how many lines there are.
    fn lines_like(&self, pattern: &Pattern) -> String {
        let Some(Part::Literal(literal)) = pattern.parts.first() else {
            return self.shown_block();
        };
        let words: Vec<&[u8]> = literal.splitn(3, |byte| *byte == b' ').take(2).collect();
        let start = words.join(&b' ');
        let alike = self.block.iter().filter(|line| line.starts_with(&start));
        let alike: String = alike
            .map(|line| format!("{}\n", line.escape_ascii()))
            .collect();
        if alike.is_empty() {
            format!("{} other lines", self.block.len())
        } else {
            alike
        }
    }

    fn shown_block(&self) -> String {
        self.block
            .iter()
            .map(|line| format!("{}\n", line.escape_ascii()))
            .collect()
    }

    fn fill(
        &mut self,
        count: usize,
        size: usize,
        end: Option<&Pattern>,
        names: &mut Names,
    ) -> Result<(), String> {
        let value = vec![b'f'; size];
        for number in 0..count {
            let mut request = format!("set fill-{number} 0 0 {size}\r\n").into_bytes();
            request.extend_from_slice(&value);
            request.extend_from_slice(b"\r\n");
            self.stream
                .write_all(&request)
                .map_err(|error| format!("cannot send item {number}: {error}"))?;
            let line = self.take_line(Instant::now() + PATIENCE)?;
            if line == b"STORED" {
                continue;
            }
            let mut answer = line;
            answer.extend_from_slice(b"\r\n");
            return match end {
                Some(end) if matches_line(end, &answer, names) => Ok(()),
                _ => Err(format!(
                    "item {number} of {count}: {}",
                    answer.escape_ascii()
                )),
            };
        }
        end.map_or(Ok(()), |_| Err(format!("all {count} items were stored")))
    }

    /// Sends until everything is sent or the server has taken nothing for a while: then it holds this client back,
    /// which is what it should do.
    fn flood(&mut self, count: usize, bytes: &[u8]) -> Result<(), String> {
        const PIECE_BYTES: usize = 64 << 10;
        let set = self.stream.set_write_timeout(Some(HELD_BACK));
        set.map_err(|error| format!("cannot set up the connection: {error}"))?;
        let at_once = (PIECE_BYTES / bytes.len().max(1)).clamp(1, count);
        let piece = bytes.repeat(at_once);
        for _ in 0..count.div_ceil(at_once) {
            match self.stream.write_all(&piece) {
                Ok(()) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(());
                }
                Err(error) if is_closed(error.kind()) => return Ok(()),
                Err(error) => return Err(format!("cannot send: {error}")),
            }
        }
        Ok(())
    }

    fn until_miss(&mut self, get: &[u8], cutter: &mut Cutter) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.outgoing.extend_from_slice(get);
            self.flush(cutter)?;
            let first = self.take_line(deadline)?;
            if first == b"END" {
                return Ok(());
            }
            if !first.starts_with(b"VALUE ") {
                return Err(format!("received {}", first.escape_ascii()));
            }
            while self.take_line(deadline)? != b"END" {}
            if Instant::now() > deadline {
                return Err("it is still there".into());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// `mn` asks for two letters, and a noop for an empty packet, so anything the server still owed comes before them.
    fn quiet(&mut self) -> Result<(), String> {
        let (question, answer) = if self.speaks_packets {
            let noop = |direction| packet::parse("noop opaque=0x0ff", direction);
            (noop(Direction::Request)?, noop(Direction::Reply)?)
        } else {
            let line = |text| Pattern::parse(text, b"\r\n");
            (line("mn")?, line("MN")?)
        };
        let question = question.bytes(&Names::new())?;
        self.stream
            .write_all(&question)
            .map_err(|error| format!("cannot send: {error}"))?;
        self.expect(&answer, &mut Names::new())?;
        if self.incoming.is_empty() {
            return Ok(());
        }
        Err(format!("received more: {}", shown(&self.incoming, 0)))
    }

    fn closed(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while self.incoming.is_empty() {
            if !self
                .read(deadline)
                .map_err(|_| "the connection is still open")?
            {
                return Ok(());
            }
        }
        Err(format!("received {}", shown(&self.incoming, 0)))
    }
}

fn is_closed(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}

/// Bytes around `at`, escaped.
fn shown(bytes: &[u8], at: usize) -> String {
    let from = at.saturating_sub(SHOWN_BYTES / 2);
    let to = bytes.len().min(from + SHOWN_BYTES);
    let before = if from > 0 {
        format!("({from} bytes) ")
    } else {
        String::new()
    };
    let after = if to < bytes.len() {
        format!(" ({} bytes more)", bytes.len() - to)
    } else {
        String::new()
    };
    format!("{before}\"{}\"{after}", bytes[from..to].escape_ascii())
}

/// Decides how long the next piece of a request is.
enum Cutter {
    Whole,
    Bytes,
    Random(fastrand::Rng),
}

impl Cutter {
    fn new(cut: Cut) -> Self {
        match cut {
            Cut::Whole => Self::Whole,
            Cut::Bytes => Self::Bytes,
            Cut::Random(seed) => Self::Random(fastrand::Rng::with_seed(seed)),
        }
    }

    /// At least 1. `total` is what is sent together; large amounts are cut into at most some hundred pieces, because
    /// a million writes show nothing that a hundred do not.
    fn next_length(&mut self, total: usize) -> usize {
        const PIECES: usize = 400;
        let unit = total / PIECES + 1;
        match self {
            Self::Whole => total,
            Self::Bytes if total > 64 << 10 => unit,
            Self::Bytes => 1,
            Self::Random(random) => {
                let longest = if random.bool() { 8 } else { 64 };
                random.usize(1..=longest) * unit.div_ceil(8)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    /// A connection to somebody who says `words` once, reads what it is sent up to a line, and hangs up.
    fn connected(words: &'static [u8]) -> (Connection, JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
            stream.write_all(words).expect("said");
            let mut byte = [0];
            while stream
                .read(&mut byte)
                .is_ok_and(|count| count == 1 && byte[0] != b'\n')
            {}
        });
        (Connection::open(address).expect("connected"), server)
    }

    fn expect(connection: &mut Connection, line: &str) -> Result<(), String> {
        connection.expect(
            &Pattern::parse(line, b"\r\n").expect("a pattern"),
            &mut Names::new(),
        )
    }

    #[test]
    fn the_expected_bytes_are_taken_and_no_more() {
        let (mut connection, server) = connected(b"STORED\r\nVALUE k 0 12\r\nMN\r\n");
        expect(&mut connection, "STORED").expect("as said");
        expect(&mut connection, "VALUE k 0 {num}").expect("as said");
        connection.quiet().expect("nothing else was said");
        server.join().expect("served");
    }

    #[test]
    fn a_byte_that_differs_is_found() {
        let (mut connection, server) = connected(b"STORED\nEND\r\n");
        let error = expect(&mut connection, "STORED").expect_err("no carriage return");
        assert!(error.contains("byte 6 differs"), "{error}");
        drop(connection);
        server.join().expect("served");
    }

    #[test]
    fn a_word_too_many_is_not_quiet() {
        for words in [b"END\r\nMN\r\n".as_slice(), b"MN\r\nEND\r\n"] {
            let (mut connection, server) = connected(words);
            // Both lines are there before the question, so that the answer cannot come first.
            connection
                .reach(words.len() - 1, Instant::now() + PATIENCE)
                .expect("both lines");
            connection.quiet().expect_err("there is more than MN");
            server.join().expect("served");
        }
    }

    #[test]
    fn a_last_word_is_not_a_closed_connection() {
        let (mut connection, server) = connected(b"ERROR\r\n");
        connection.outgoing.extend(b"quit\n");
        connection
            .flush(&mut Cutter::new(Cut::Bytes))
            .expect("sent");
        connection.closed().expect_err("it said something first");
        expect(&mut connection, "ERROR").expect("as said");
        connection.closed().expect("it has hung up");
        server.join().expect("served");
    }

    #[test]
    fn pieces_are_never_empty_and_bytes_are_single() {
        let mut cutter = Cutter::new(Cut::Random(7));
        assert!((0..1000).all(|total| cutter.next_length(total) > 0));
        assert_eq!(Cutter::new(Cut::Bytes).next_length(1000), 1);
        assert_eq!(Cutter::new(Cut::Whole).next_length(1000), 1000);
    }
}
