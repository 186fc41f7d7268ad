//! A transcript: a dialogue between clients and a server, written by hand, byte for byte.
//!
//! ```text
//! # What this shows, in a sentence.
//! server: -I 2k -F        flags for the server besides address and threads
//! since: 1.6.20           a memcached older than this does not take part
//! play: whole             only uncut, because here the cut changes the answer
//!
//! A> set k 0 0 2          client A sends this line and CRLF
//! A>> raw\n               client A sends exactly these bytes
//! A< STORED               client A receives this line and CRLF
//! A<< raw\n               client A receives exactly these bytes
//! A<... END               client A receives lines up to and with this one
//! A packet> get key=k     client A sends this packet; it speaks the binary protocol, and nothing else
//! A packet< get value=v   client A receives this packet
//! A packet<... noop       client A receives packets up to and with one of this opcode; what follows sees them as lines
//! A has STAT pid {num}    such a line was among them
//! A lacks STAT pid {text} no such line was among them
//! A fill 300 1000         sets 300 keys to 1000 bytes each, expecting STORED
//! A fill 300 1000 < TEXT  the same, but ends with the reply TEXT before all are set
//! A flood 9000> get k     sends the line 9000 times and reads nothing; stops early if the server takes no more
//! A flood 9000>> raw      the same with exactly these bytes
//! A until-miss> get k     asks again and again until the answer is a miss
//! A quiet                 the server has nothing more to say: `mn` is answered by `MN` at once, or a noop by a noop
//! A closed                the server has closed the connection without another byte
//! A close                 client A closes it
//! server memory < 300     the server has less than 300 MiB in memory now
//! server exits            the server ends by itself
//! assert a < b            numbers, or names of numbers: == != < <= > >=
//! ```
//!
//! A client is one capital letter and connects when it is first named. Requests that follow each other on one
//! connection are sent in one piece: that is a pipeline. A line may be marked with what it is for:
//! `[>=1.6.45]` and `[<1.6.45]` (Strata counts as the newest), `[strata]`, `[memcached]`. At the end every open
//! connection has to be quiet. `super::pattern` says how bytes are written, `super::packet` how packets are.

use super::packet::{self, Direction};
use super::pattern::Pattern;
use crate::process::{Version, parse_version};

/// A dialogue and what it needs.
pub struct Transcript {
    /// The file's name without its ending.
    pub name: String,
    /// Further flags for the server.
    pub flags: Vec<String>,
    /// The first memcached that behaves so.
    pub since: Option<Version>,
    /// Whether its requests may be cut anywhere.
    pub may_be_cut: bool,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One line of the dialogue.
pub struct Step {
    /// Where it stands, from 1.
    pub line: usize,
    /// As it stands.
    pub text: String,
    /// The servers that it is for.
    pub only: Only,
    /// What to do.
    pub action: Action,
}

/// Which servers a line is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Only {
    /// Every server.
    All,
    /// This version and newer ones.
    From(Version),
    /// Versions older than this.
    Before(Version),
    /// Strata.
    Strata,
    /// memcached, in any version.
    Memcached,
}

/// What a line asks for.
pub enum Action {
    /// Something on one connection.
    On(char, Deed),
    /// The server ends.
    ServerExits,
    /// The server has less than this many MiB in memory.
    MemoryBelow(u64),
    /// A comparison of numbers.
    Assert(Operand, Comparison, Operand),
}

/// What a client does or expects.
pub enum Deed {
    /// Sends these bytes.
    Send(Pattern),
    /// Sends these bytes, which are a packet.
    SendPacket(Pattern),
    /// Receives these bytes.
    Expect(Pattern),
    /// Receives lines up to and with this one.
    ExpectUntil(Pattern),
    /// Receives packets up to and with one of this opcode.
    ExpectPackets(u8),
    /// Such a line was among them.
    Has(Pattern),
    /// No such line was.
    Lacks(Pattern),
    /// Sets this many keys to this many bytes each, until this reply if one is given.
    Fill(usize, usize, Option<Pattern>),
    /// Sends these bytes so many times without reading.
    Flood(usize, Pattern),
    /// Repeats a get until it misses.
    UntilMiss(Pattern),
    /// The server has nothing more to say.
    Quiet,
    /// The server has closed.
    Closed,
    /// The client closes.
    Close,
}

/// A number, or the name of one.
pub enum Operand {
    /// Itself.
    Number(u64),
    /// The number a pattern gave this name to.
    Name(String),
}

/// How two numbers compare.
pub type Comparison = fn(&u64, &u64) -> bool;

impl Transcript {
    /// Reads a transcript.
    ///
    /// # Errors
    /// A line that is not one of the above; the message starts with its number.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut transcript = Self {
            name: name.into(),
            flags: Vec::new(),
            since: None,
            may_be_cut: true,
            steps: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |what: String| format!("{name}:{}: {what}", index + 1);
            if !transcript.header(line).map_err(at)? {
                let (only, rest) = parse_only(line).map_err(at)?;
                let action = parse_action(rest).map_err(at)?;
                transcript.steps.push(Step {
                    line: index + 1,
                    text: line.into(),
                    only,
                    action,
                });
            }
        }
        Ok(transcript)
    }

    /// Takes a line of the head; false if it is a step.
    fn header(&mut self, line: &str) -> Result<bool, String> {
        let Some((word, value)) = line
            .split_once(": ")
            .filter(|(word, _)| !word.contains(' ') && word.len() > 1)
        else {
            return Ok(false);
        };
        if !self.steps.is_empty() {
            return Err(format!("`{word}:` must stand before the dialogue"));
        }
        match (word, value.trim()) {
            ("server", flags) => self
                .flags
                .extend(flags.split_whitespace().map(str::to_owned)),
            ("since", version) => self.since = Some(parse_version(version).ok_or("not a version")?),
            ("play", "whole") => self.may_be_cut = false,
            _ => return Err(format!("no such head line: {line}")),
        }
        Ok(true)
    }
}

fn parse_only(line: &str) -> Result<(Only, &str), String> {
    let Some(marked) = line.strip_prefix('[') else {
        return Ok((Only::All, line));
    };
    let (mark, rest) = marked.split_once("] ").ok_or("a mark without an end")?;
    let version = |text| parse_version(text).ok_or_else(|| format!("not a version: {text}"));
    let only = match mark {
        "strata" => Only::Strata,
        "memcached" => Only::Memcached,
        _ => match (mark.strip_prefix(">="), mark.strip_prefix('<')) {
            (Some(text), _) => Only::From(version(text)?),
            (_, Some(text)) => Only::Before(version(text)?),
            _ => return Err(format!("no such mark: [{mark}]")),
        },
    };
    Ok((only, rest))
}

fn parse_action(line: &str) -> Result<Action, String> {
    if line == "server exits" {
        return Ok(Action::ServerExits);
    }
    if let Some(limit) = line.strip_prefix("server memory < ") {
        return limit
            .parse()
            .map(Action::MemoryBelow)
            .map_err(|_| format!("not a number of MiB: {limit}"));
    }
    if let Some(comparison) = line.strip_prefix("assert ") {
        return parse_assertion(comparison);
    }
    let client = line
        .chars()
        .next()
        .filter(char::is_ascii_uppercase)
        .ok_or_else(|| format!("no such line: {line}"))?;
    let (word, rest) = line[1..].split_once(' ').unwrap_or((&line[1..], ""));
    let deed = match (word, rest) {
        (">", line) => Deed::Send(Pattern::parse(line, b"\r\n")?),
        (">>", bytes) => Deed::Send(Pattern::parse(bytes, b"")?),
        ("<", line) => Deed::Expect(Pattern::parse(line, b"\r\n")?),
        ("<<", bytes) => Deed::Expect(Pattern::parse(bytes, b"")?),
        ("<...", line) => Deed::ExpectUntil(Pattern::parse(line, b"")?),
        ("", phrase) => parse_phrase(phrase)?,
        _ => return Err(format!("no such line: {line}")),
    };
    Ok(Action::On(client, deed))
}

fn parse_phrase(phrase: &str) -> Result<Deed, String> {
    let (word, rest) = phrase.split_once(' ').unwrap_or((phrase, ""));
    Ok(match (word, rest) {
        ("packet>", text) => Deed::SendPacket(packet::parse(text, Direction::Request)?),
        ("packet<", text) => Deed::Expect(packet::parse(text, Direction::Reply)?),
        ("packet<...", name) => Deed::ExpectPackets(packet::opcode(name)?),
        ("has", line) => Deed::Has(Pattern::parse(line, b"")?),
        ("lacks", line) => Deed::Lacks(Pattern::parse(line, b"")?),
        ("until-miss>", line) => Deed::UntilMiss(Pattern::parse(line, b"\r\n")?),
        ("flood", rest) => {
            let (count, line) = rest.split_once('>').ok_or("a flood of what?")?;
            let count = count.parse().map_err(|_| format!("not a count: {count}"))?;
            let pattern = match line.strip_prefix("> ") {
                Some(bytes) => Pattern::parse(bytes, b"")?,
                None => Pattern::parse(line.trim_start(), b"\r\n")?,
            };
            Deed::Flood(count, pattern)
        }
        ("quiet", "") => Deed::Quiet,
        ("closed", "") => Deed::Closed,
        ("close", "") => Deed::Close,
        ("fill", rest) => {
            let (numbers, end) = match rest.split_once(" < ") {
                Some((numbers, end)) => (numbers, Some(Pattern::parse(end, b"\r\n")?)),
                None => (rest, None),
            };
            let wrong = || format!("not a count and a size: {numbers}");
            let (count, size) = numbers.split_once(' ').ok_or_else(wrong)?;
            Deed::Fill(
                count.parse().map_err(|_| wrong())?,
                size.parse().map_err(|_| wrong())?,
                end,
            )
        }
        _ => return Err(format!("no such phrase: {phrase}")),
    })
}

fn parse_assertion(text: &str) -> Result<Action, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let &[left, comparison, right] = words.as_slice() else {
        return Err(format!("not a comparison: {text}"));
    };
    let operand = |word: &str| match word.parse() {
        Ok(number) => Operand::Number(number),
        Err(_) => Operand::Name(word.into()),
    };
    let comparison: Comparison = match comparison {
        "==" => u64::eq,
        "!=" => u64::ne,
        "<" => u64::lt,
        "<=" => u64::le,
        ">" => u64::gt,
        ">=" => u64::ge,
        _ => return Err(format!("no such comparison: {comparison}")),
    };
    Ok(Action::Assert(operand(left), comparison, operand(right)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_read_and_the_dialogue_keeps_its_lines() {
        let text =
            "# Says.\nserver: -F -m 8\nsince: 1.6.20\nplay: whole\n\nA> get k\n[<1.6.45] A< END\n";
        let transcript = Transcript::parse("t", text).expect("a transcript");
        assert_eq!(transcript.flags, ["-F", "-m", "8"]);
        assert_eq!(transcript.since, Some([1, 6, 20]));
        assert!(!transcript.may_be_cut);
        let lines: Vec<(usize, Only)> = transcript
            .steps
            .iter()
            .map(|step| (step.line, step.only))
            .collect();
        assert_eq!(lines, [(6, Only::All), (7, Only::Before([1, 6, 45]))]);
    }

    #[test]
    fn a_line_with_a_colon_in_it_is_still_a_step() {
        let transcript = Transcript::parse("t", "A> get a: b\n").expect("a transcript");
        assert_eq!(transcript.steps.len(), 1);
    }

    #[test]
    fn what_is_not_a_line_is_an_error_with_its_number() {
        for line in [
            "get k",
            "a> get k",
            "A get k",
            "assert 1 = 1",
            "[1.6] A> x",
            "A> x\nplay: whole",
            "pley: whole",
        ] {
            let error = Transcript::parse("t", line)
                .err()
                .unwrap_or_else(|| panic!("{line} is no error"));
            assert!(error.starts_with("t:"), "{error}");
        }
    }
}
