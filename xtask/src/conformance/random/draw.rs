//! Draws dialogues in the text protocols: what a client would say, and now and then what none would.
//!
//! Few keys, so that commands meet each other's items; few numbers, most of them at an edge. Times are 0, past, or far
//! from now and from each other, so that no outcome depends on the second in which it is asked.

use fastrand::Rng;

use super::dialogue::{Command, Dialogue, Line, Turn, Word};
use super::packets;

/// Which protocol a dialogue speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    /// The classic text commands.
    Classic,
    /// The meta commands.
    Meta,
    /// Packets.
    Binary,
    /// Each of these, and both kinds of text in one dialogue.
    All,
}

/// Most turns of a dialogue, and most commands of a turn.
const TURNS_MAX: usize = 5;
const PIPELINE_MAX: usize = 8;
/// Connections of a dialogue.
const CONNECTIONS: usize = 2;
/// Longest key the protocol allows, without its stamp.
const LONG_NAME_BYTES: usize = 250 - super::dialogue::STAMP_BYTES;

/// Draws one dialogue. A `plain` one has no line that is out of order and no meta command: those are what versions of
/// memcached answer differently.
pub fn dialogue(rng: &mut Rng, dialect: Dialect, plain: bool) -> Dialogue {
    let dialect = match dialect {
        Dialect::All if plain => pick(rng, &[Dialect::Classic, Dialect::Classic, Dialect::Binary]),
        Dialect::All => pick(
            rng,
            &[
                Dialect::Classic,
                Dialect::Classic,
                Dialect::Meta,
                Dialect::Meta,
                Dialect::Binary,
                Dialect::All,
            ],
        ),
        one => one,
    };
    let mut draw = Draw {
        rng,
        plain,
        odd: false,
        keys: 0,
    };
    draw.keys = draw.rng.usize(1..=4);
    let turns = (0..draw.rng.usize(1..=TURNS_MAX))
        .map(|_| draw.turn(dialect))
        .collect();
    Dialogue {
        turns,
        binary: dialect == Dialect::Binary,
        odd: draw.odd,
    }
}

/// One of several.
pub fn pick<T: Copy>(rng: &mut Rng, all: &[T]) -> T {
    all[rng.usize(..all.len())]
}

struct Draw<'a> {
    rng: &'a mut Rng,
    /// Whether nothing odd is wanted.
    plain: bool,
    /// Whether anything odd was drawn.
    odd: bool,
    /// How many keys the dialogue is about.
    keys: usize,
}

impl Draw<'_> {
    fn turn(&mut self, dialect: Dialect) -> Turn {
        let count = self.rng.usize(1..=PIPELINE_MAX);
        let mut commands: Vec<Command> = (0..count).map(|_| self.command(dialect)).collect();
        // Values that fill a socket's buffers travel alone, so that neither side waits for the other to read.
        if dialect != Dialect::Binary && self.one_in(400) {
            commands = vec![self.large()];
        }
        Turn {
            connection: self.rng.usize(..CONNECTIONS),
            commands,
            cut: self.one_in(4).then(|| self.rng.u64(..)),
        }
    }

    fn command(&mut self, dialect: Dialect) -> Command {
        let is_meta = match dialect {
            Dialect::Binary => return Command::Packet(packets::draw(self.rng, self.keys)),
            Dialect::Classic => false,
            Dialect::Meta => !self.one_in(12),
            Dialect::All => self.rng.bool(),
        };
        let mut line = if is_meta { self.meta() } else { self.classic() };
        if !self.plain && self.one_in(7) {
            self.odd = true;
            for _ in 0..self.rng.usize(1..=2) {
                self.spoil(&mut line);
            }
        }
        Command::Line(line)
    }

    fn classic(&mut self) -> Line {
        match self.rng.u32(..100) {
            0..32 => self.store(),
            32..60 => {
                let verb = self.pick(&["get", "get", "gets", "gets", "gat", "gats"]);
                let mut words = vec![text(verb)];
                if verb.starts_with("gat") {
                    words.push(self.exptime());
                }
                let most = if self.one_in(20) { 40 } else { 3 };
                for _ in 0..self.rng.usize(1..=most) {
                    words.push(self.key());
                }
                Line::of(words)
            }
            60..68 => {
                let mut words = vec![text("delete"), self.key()];
                if self.one_in(6) {
                    words.push(text("0"));
                }
                self.line(words)
            }
            68..80 => {
                let words = vec![
                    text(self.pick(&["incr", "decr"])),
                    self.key(),
                    self.number(),
                ];
                self.line(words)
            }
            80..87 => {
                let words = vec![text("touch"), self.key(), self.exptime()];
                self.line(words)
            }
            87..89 => {
                let mut words = vec![text("flush_all")];
                if self.one_in(2) {
                    let times = ["0", "-1", "x", "4102444800", "", "00"];
                    let times = if self.plain { &times[..2] } else { &times[..] };
                    words.push(text(self.pick(times)));
                }
                self.line(words)
            }
            _ if self.plain => Line::of(vec![text(self.pick(&["version", "mn", "foo"]))]),
            _ => self.manage(),
        }
    }

    fn store(&mut self) -> Line {
        let verb = self.pick(&[
            "set", "set", "set", "add", "replace", "append", "prepend", "cas", "cas",
        ]);
        let flags = self.flags();
        let data = self.data();
        let mut words = vec![
            text(verb),
            self.key(),
            text(flags),
            self.exptime(),
            word(data.len().to_string().into_bytes()),
        ];
        if verb == "cas" {
            words.push(self.unique(b""));
        }
        let mut line = self.line(words);
        line.data = [&data[..], b"\r\n"].concat();
        line
    }

    fn manage(&mut self) -> Line {
        let lines = [
            "version",
            "version x",
            "verbosity 0",
            "verbosity 1",
            "verbosity 0 noreply",
            "verbosity",
            "verbosity x",
            "mn",
            "mn x",
            "stats reset",
            "stats r",
            "stats reset x",
            "stats nothing",
            "stats detail",
            "stats detail x",
            "stats extstore",
            "lru",
            "slabs",
            "slabs reassign",
            "refresh_certs x",
            "stats cachedump",
            "stats cachedump 1",
            "stats cachedump x 1",
            "stats cachedump 64 1",
            "stats cachedump 4294967296 1",
            "cache_memlimit",
            "cache_memlimit 7",
            "cache_memlimit x",
            "cache_memlimit 1000000001",
            "cache_memlimit 7 noreply",
            "shutdown",
            "shutdown x",
            "shutdown noreply",
            "get",
            "gets ",
            "gat 0",
            "gat",
            "set k",
            "set k 0 0",
            "cas k 0 0 1",
            "incr k",
            "touch k",
            "delete",
            "mg",
            "ms",
            "md",
            "ma",
            "me",
            "ms k",
            "foo",
            "foo bar noreply",
            "GET k",
            "get\tk",
            "",
            "x",
            "g",
            "  ",
            "noreply",
            "getk",
            "setq k 0 0 1",
            "incr k 1 2 3 noreply",
            "bget k",
            "mget k",
            "mx k",
            "m k",
        ];
        if self.one_in(40) {
            return Line::of(vec![text(self.pick(&["quit", "quit x", "quit noreply"]))]);
        }
        let line = self.pick(&lines);
        Line::of(line.split(' ').map(text).collect())
    }

    fn meta(&mut self) -> Line {
        let verb = match self.rng.u32(..100) {
            0..30 => "mg",
            30..60 => "ms",
            60..75 => "md",
            75..92 => "ma",
            92..97 => "me",
            _ => "mn",
        };
        if verb == "mn" {
            return Line::of(vec![text("mn")]);
        }
        let base64 = verb != "me" && self.one_in(8);
        let key = match self.key() {
            // Such keys have names of their own, because memcached answers `k` as an item was stored, not as asked.
            Word::Key(name) if base64 => Word::Base64([&b"\x01"[..], &name].concat()),
            key => key,
        };
        let mut words = vec![text(verb), key];
        let data = (verb == "ms").then(|| self.data());
        if let Some(data) = &data {
            words.push(word(data.len().to_string().into_bytes()));
        }
        let mut letters: Vec<u8> = match verb {
            "mg" => b"vvvvvtttccfsshhllkkqONNRRTTuECPL".to_vec(),
            "ms" => b"cccIIMMMTTFFqkOCCEEsbNPL".to_vec(),
            "md" => b"CCIITTqkOExPLF".to_vec(),
            "ma" => b"vvvvvtcNNNJJDDMMqkOCETPL".to_vec(),
            _ => Vec::new(),
        };
        letters.retain(|&letter| letter != b'b');
        if self.one_in(5) {
            letters.extend(b"abcdfghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ09_[");
        }
        if base64 {
            words.push(text("b"));
        }
        let most = if self.one_in(10) { 16 } else { 6 };
        let mut seen = Vec::new();
        for _ in 0..self.rng.usize(..=most) {
            if letters.is_empty() {
                break;
            }
            let letter = letters[self.rng.usize(..letters.len())];
            // A letter that stands twice is refused, so that is rare.
            if !seen.contains(&letter) || self.one_in(30) {
                seen.push(letter);
                words.push(self.flag(letter));
            }
        }
        self.rng
            .shuffle(&mut words[2 + usize::from(data.is_some())..]);
        let mut line = Line::of(words);
        if let Some(data) = data {
            line.data = [&data[..], b"\r\n"].concat();
        }
        line
    }

    /// A flag of a meta command and what stands behind it.
    fn flag(&mut self, letter: u8) -> Word {
        if self.one_in(40) {
            let value = self.pick(&[
                "",
                "x",
                "-1",
                "0",
                "18446744073709551616",
                "4294967296",
                "1x",
            ]);
            return word([&[letter], value.as_bytes()].concat());
        }
        let value: String = match letter {
            b'O' => {
                let value =
                    self.pick(&["1", "abc", "opaque", "", "0123456789012345678901234567890"]);
                value.into()
            }
            b'T' | b'N' => {
                let value = self.pick(&[
                    "0",
                    "0",
                    "4000",
                    "70000",
                    "-1",
                    "2592001",
                    "2000000000",
                    "4102444800",
                ]);
                value.into()
            }
            b'R' => self.pick(&["0", "30", "9000", "900000", "-1"]).into(),
            b'F' => self.pick(&["0", "1", "77", "4294967295"]).into(),
            b'C' => return self.unique(b"C"),
            b'E' => format!("{}", 1_000_000_000_000_000 + self.rng.u64(..6)),
            b'J' | b'D' => {
                let value = self.pick(&["0", "1", "5", "13", "18446744073709551615"]);
                value.into()
            }
            b'M' => {
                let value = self.pick(&[
                    "S", "E", "A", "P", "R", "I", "D", "+", "-", "incr", "s", "e", "a", "p", "r",
                    "i", "d", "set", "X", "",
                ]);
                value.into()
            }
            _ => String::new(),
        };
        word([&[letter], value.as_bytes()].concat())
    }

    /// A value too large to travel with others.
    fn large(&mut self) -> Command {
        let bytes = self.pick(&[
            2_000, 9_000, 20_000, 70_000, 300_000, 600_000, 1_000_000, 1_048_577, 1_100_000,
        ]);
        let data = vec![b'l'; bytes];
        let length = word(bytes.to_string().into_bytes());
        let mut words = if self.rng.bool() {
            let verb = self.pick(&["set", "set", "append", "prepend", "add"]);
            vec![text(verb), self.key(), text("3"), text("0"), length]
        } else {
            let mode = self.pick(&["MS", "MA", "MP", "ME"]);
            vec![text("ms"), self.key(), length, text(mode), text("c")]
        };
        if self.one_in(10) {
            words.push(text(if words.len() == 5 { "noreply" } else { "q" }));
        }
        let mut line = Line::of(words);
        line.data = [&data[..], b"\r\n"].concat();
        Command::Line(line)
    }

    fn line(&mut self, mut words: Vec<Word>) -> Line {
        if self.one_in(10) {
            words.push(text("noreply"));
        }
        Line::of(words)
    }

    fn key(&mut self) -> Word {
        if !self.plain && self.one_in(60) {
            let extra = self.rng.usize(..=2);
            return Word::Key(vec![b'l'; LONG_NAME_BYTES - 1 + extra]);
        }
        let key = self.rng.usize(..self.keys);
        Word::Key([&b"a"[..], b"bb", b"c-c", b"d\xff"][key].to_vec())
    }

    fn unique(&mut self, lead: &[u8]) -> Word {
        if !self.plain && self.one_in(12) {
            let value = self.pick(&[
                "0",
                "1",
                "1000000000000000",
                "1000000000000003",
                "18446744073709551615",
                "-1",
                "x",
            ]);
            return word([lead, value.as_bytes()].concat());
        }
        Word::Unique {
            lead: lead.to_vec(),
            ago: self.pick(&[0, 0, 0, 1, 1, 2, 3]),
            more: 0,
        }
    }

    fn exptime(&mut self) -> Word {
        // These would be lengths where a word before them is lost, and nobody sends so much data.
        if self.one_in(30) {
            return text(self.pick(&["2592000", "2592001"]));
        }
        let near = ["0", "0", "0", "0", "1500", "-1", "-1500"];
        let far = ["2000000000", "4102444800", "4294967296"];
        let far = if self.plain { &far[..1] } else { &far[..] };
        let all = if self.one_in(5) { far } else { &near[..] };
        text(self.pick(all))
    }

    fn flags(&mut self) -> &'static str {
        let edges = ["42", "65536", "4294967295", "4294967296", "-1"];
        let edges = if self.plain { &edges[..3] } else { &edges[..] };
        match self.rng.u32(..2) {
            0 => "0",
            _ => self.pick(edges),
        }
    }

    fn number(&mut self) -> Word {
        let edges = [
            "1",
            "5",
            "0",
            "90",
            "1000",
            "18446744073709551615",
            "18446744073709551616",
            "-1",
            "x",
            "1 2",
        ];
        let edges = if self.plain { &edges[..6] } else { &edges[..] };
        text(self.pick(edges))
    }

    /// A value. None is nothing but blanks and line ends: memcached reads on behind such a one when it looks for a number.
    fn data(&mut self) -> Vec<u8> {
        let rng = &mut *self.rng;
        match rng.u32(..20) {
            0..8 => pick(
                rng,
                &[
                    "0",
                    "1",
                    "9",
                    "10",
                    "99",
                    "100",
                    "007",
                    "5  ",
                    " 5",
                    "-1",
                    "+3",
                    "1x",
                    "18446744073709551615",
                    "18446744073709551614",
                    "18446744073709551616",
                    "00000000000000000000000000005",
                ],
            )
            .as_bytes()
            .to_vec(),
            8..10 => Vec::new(),
            10..12 => pick(rng, &["a\r\nb", "END\r\n", "\r\nx", "\0", "get a\r\n"])
                .as_bytes()
                .to_vec(),
            12..13 => vec![b'y'; rng.usize(200..1500)],
            _ => {
                let length = rng.usize(1..30);
                vec![rng.lowercase() as u8; length]
            }
        }
    }

    /// Does something to a line that no client would.
    fn spoil(&mut self, line: &mut Line) {
        let count = line.words.len();
        let at = self.rng.usize(..count);
        match self.rng.u32(..16) {
            0 | 1 if count > 1 => drop(line.words.remove(at)),
            2 => {
                let twice = line.words[at].clone();
                line.words.insert(at, (b" ".to_vec(), twice.1));
                if at == 0 {
                    line.words[0].0.clear();
                    line.words[1].0 = b" ".to_vec();
                }
            }
            3 if count > 2 => {
                let other = self.rng.usize(1..count);
                let at = at.max(1);
                let word = line.words[at].1.clone();
                line.words[at].1 = std::mem::replace(&mut line.words[other].1, word);
            }
            4 | 5 => {
                let junk = self.pick(&[
                    "0", "1", "-1", "x", "noreply", "b", "q", "HTTP/1.1", "\t", "-",
                ]);
                line.words.insert(at + 1, (b" ".to_vec(), text(junk)));
            }
            6 => {
                line.words[at].0 = self
                    .pick(&[&b"  "[..], b"   ", b" ", b"\t", b" \t"])
                    .to_vec()
            }
            7 => {
                line.end = self
                    .pick(&[&b"\n"[..], b" \r\n", b"\r\r\n", b" \n", b"\t\r\n"])
                    .to_vec()
            }
            8 if !line.data.is_empty() => {
                line.data.pop();
                line.data.pop();
                let end = self.pick(&[&b"\n"[..], b"", b"x\r\n", b"xx\r\n", b"\n\r\n", b"\r"]);
                line.data.extend_from_slice(end);
            }
            9 if !line.data.is_empty() => {
                // A byte more or less than was announced.
                if self.rng.bool() {
                    line.data.remove(0);
                } else {
                    line.data.insert(0, b'm');
                }
            }
            10 => {
                let lead = self.pick(&["", " ", "\t", "0", "+", "-", "00000000000"]);
                if let Word::Text(text) = &mut line.words[at].1 {
                    *text = [lead.as_bytes(), text].concat();
                }
            }
            11 => line.words[at].0 = Vec::new(),
            _ => {
                if let Word::Text(text) = &mut line.words[at].1
                    && !text.is_empty()
                {
                    let place = self.rng.usize(..text.len());
                    match self.rng.u32(..3) {
                        0 => drop(text.remove(place)),
                        1 => text[place] = self.rng.u8(0x20..0x7f),
                        _ => text.insert(place, self.rng.u8(0x20..0x7f)),
                    }
                }
            }
        }
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        pick(self.rng, all)
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(..count) == 0
    }
}

fn text(text: &str) -> Word {
    word(text.as_bytes().to_vec())
}

fn word(bytes: Vec<u8>) -> Word {
    Word::Text(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::random::dialogue::{Context, Stamp};

    fn bytes(seed: u64, dialect: Dialect) -> Vec<u8> {
        let context = Context {
            stamp: Stamp(0),
            uniques: &[],
        };
        let dialogue = dialogue(&mut Rng::with_seed(seed), dialect, false);
        let commands = dialogue.turns.iter().flat_map(|turn| &turn.commands);
        commands
            .flat_map(|command| command.bytes(&context))
            .collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_dialogue() {
        for dialect in [
            Dialect::Classic,
            Dialect::Meta,
            Dialect::Binary,
            Dialect::All,
        ] {
            assert_eq!(bytes(7, dialect), bytes(7, dialect));
            assert_ne!(bytes(7, dialect), bytes(8, dialect), "{dialect:?}");
        }
    }

    #[test]
    fn every_command_is_drawn() {
        let mut drawn: Vec<u8> = Vec::new();
        for seed in 0..300 {
            drawn.extend(bytes(seed, Dialect::All));
        }
        let drawn = String::from_utf8_lossy(&drawn);
        let commands = "set add replace append prepend cas get gets gat gats delete incr decr touch flush_all version \
                        verbosity cache_memlimit shutdown stats mg ms md ma me mn";
        for command in commands.split_whitespace() {
            assert!(drawn.contains(&format!("{command} ")), "{command}");
        }
    }
}
