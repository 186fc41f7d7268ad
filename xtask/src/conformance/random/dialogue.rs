//! A random dialogue: what is sent, in pieces that can be left out one by one.
//!
//! Always true: what a dialogue sends depends on itself, on the stamp that makes its keys its own, and on the uniques
//! the server has shown so far, and on nothing else; so it can be played again on keys nobody has used.

use std::fmt::Write as _;

/// Bytes of a stamp, which every key begins with. A multiple of three, so that keys in base64 begin alike too.
pub const STAMP_BYTES: usize = 6;
/// What is certainly not too long for a line. Longer data must stay data: read as a line, it costs the connection or not
/// by how it was cut.
const LINE_BYTES: usize = 1900;
/// Several answers with so much data each may be more than the host takes at once.
const LARGE_BYTES: usize = 16 << 10;
/// What stands for a unique before the server has shown one. Not one that a server gives.
const UNKNOWN_UNIQUE: u64 = 3_000_000_000_000_000_007;

/// Makes the keys of one play its own.
#[derive(Clone, Copy)]
pub struct Stamp(pub u32);

impl Stamp {
    /// The letters that begin each key.
    pub fn bytes(self) -> [u8; STAMP_BYTES] {
        let mut number = self.0;
        let mut bytes = [b'a'; STAMP_BYTES];
        for byte in bytes.iter_mut().rev() {
            *byte = b'a' + (number % 26) as u8;
            number /= 26;
        }
        bytes
    }
}

/// What a play knows when it writes a command.
pub struct Context<'a> {
    /// Begins every key.
    pub stamp: Stamp,
    /// The distinct uniques this server has shown, the first one first.
    pub uniques: &'a [u64],
}

impl Context<'_> {
    /// The unique shown so many distinct ones ago.
    fn unique(&self, ago: usize) -> u64 {
        match self.uniques.len() {
            0 => UNKNOWN_UNIQUE,
            count => self.uniques[count - 1 - ago % count],
        }
    }
}

/// What a word of a line says.
#[derive(Clone, PartialEq)]
pub enum Word {
    /// These bytes.
    Text(Vec<u8>),
    /// A key: the stamp and these bytes.
    Key(Vec<u8>),
    /// A key in base64.
    Base64(Vec<u8>),
    /// Letters, then the unique that was shown so many distinct ones ago, and a bit more.
    Unique {
        lead: Vec<u8>,
        ago: usize,
        more: u64,
    },
}

impl Word {
    fn put(&self, context: &Context<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::Key(name) => {
                out.extend_from_slice(&context.stamp.bytes());
                out.extend_from_slice(name);
            }
            Self::Base64(name) => {
                let key = [&context.stamp.bytes()[..], name].concat();
                out.extend_from_slice(&base64(&key));
            }
            Self::Unique { lead, ago, more } => {
                out.extend_from_slice(lead);
                let unique = context.unique(*ago).wrapping_add(*more);
                out.extend_from_slice(unique.to_string().as_bytes());
            }
        }
    }
}

/// A line of the text protocols, with the data behind it.
#[derive(Clone)]
pub struct Line {
    /// What stands before each word, and the word.
    pub words: Vec<(Vec<u8>, Word)>,
    /// How the line ends.
    pub end: Vec<u8>,
    /// The data, its own end included.
    pub data: Vec<u8>,
}

/// A packet of the binary protocol.
#[derive(Clone, Default)]
pub struct Packet {
    /// What is asked.
    pub opcode: u8,
    /// What stands before the key.
    pub extras: Vec<u8>,
    /// The key, if there is one.
    pub key: Option<Word>,
    /// What stands behind it.
    pub value: Vec<u8>,
    /// The unique it names: none, or a word that is a number.
    pub cas: Option<Word>,
    /// What the reply repeats.
    pub opaque: u32,
    /// By how much the key's length is less than it says.
    pub lie: u16,
}

/// One request.
#[derive(Clone)]
pub enum Command {
    /// In text.
    Line(Line),
    /// In binary.
    Packet(Packet),
}

impl Command {
    /// What is sent.
    pub fn bytes(&self, context: &Context<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Line(line) => {
                for (at, (before, word)) in line.words.iter().enumerate() {
                    out.extend_from_slice(before);
                    if matches!(word, Word::Unique { .. }) && !line.is_unique_at(at) {
                        out.extend_from_slice(UNKNOWN_UNIQUE.to_string().as_bytes());
                    } else {
                        word.put(context, &mut out);
                    }
                }
                out.extend_from_slice(&line.end);
                out.extend_from_slice(&line.data);
            }
            Self::Packet(packet) => packet.put(context, &mut out),
        }
        out
    }

    /// Whether it counts a number up or down.
    fn counts(&self) -> bool {
        match self {
            Self::Line(_) => self.begins_with(&[b"incr", b"decr", b"ma"]),
            Self::Packet(packet) => matches!(packet.opcode, 0x05 | 0x06 | 0x15 | 0x16),
        }
    }

    /// Whether an answer to it holds an item.
    fn gets(&self) -> bool {
        match self {
            Self::Line(_) => self.begins_with(&[b"get", b"gat", b"mg"]),
            Self::Packet(packet) => matches!(
                packet.opcode,
                0x00 | 0x09 | 0x0c | 0x0d | 0x1c | 0x1d | 0x1e | 0x23 | 0x24
            ),
        }
    }

    /// Whether it is a get that names a key that is too long.
    fn gets_too_long(&self) -> bool {
        let is_long = |word: &[u8]| word.len() > 250;
        let context = Context {
            stamp: Stamp(0),
            uniques: &[],
        };
        matches!(self, Self::Line(_))
            && self.begins_with(&[b"get", b"gat"])
            && self
                .bytes(&context)
                .split(|&byte| byte == b' ')
                .any(is_long)
    }

    /// Whether it ends the connection.
    fn quits(&self) -> bool {
        match self {
            Self::Line(_) => self.begins_with(&[b"quit"]),
            Self::Packet(packet) => matches!(packet.opcode, 0x07 | 0x17),
        }
    }

    /// How much data it brings.
    fn data_bytes(&self) -> usize {
        match self {
            Self::Line(line) => line.data.len(),
            Self::Packet(packet) => packet.value.len(),
        }
    }

    fn begins_with(&self, starts: &[&[u8]]) -> bool {
        let bytes = self.bytes(&Context {
            stamp: Stamp(0),
            uniques: &[],
        });
        starts.iter().any(|start| bytes.starts_with(start))
    }

    /// What it would be with less to it, the boldest first.
    pub fn simpler(&self) -> Vec<Self> {
        match self {
            Self::Line(line) => line.simpler().into_iter().map(Self::Line).collect(),
            Self::Packet(packet) => packet.simpler().into_iter().map(Self::Packet).collect(),
        }
    }
}

impl Line {
    /// A line of these words with one blank between them.
    pub fn of(words: Vec<Word>) -> Self {
        let before = |at: usize| if at == 0 { Vec::new() } else { b" ".to_vec() };
        let words = words.into_iter().enumerate();
        Self {
            words: words.map(|(at, word)| (before(at), word)).collect(),
            end: b"\r\n".to_vec(),
            data: Vec::new(),
        }
    }

    /// Whether a unique at this word would be read as one. Elsewhere it would be a key, an exptime or a length, and not
    /// the same one for both servers.
    fn is_unique_at(&self, at: usize) -> bool {
        let is_apart =
            |before: &[u8]| !before.is_empty() && before.iter().all(|&byte| byte == b' ');
        let is_one = |word: &Word| match word {
            Word::Text(text) => !text.is_empty() && !text.contains(&b' '),
            _ => true,
        };
        let are_apart = self.words[1..]
            .iter()
            .all(|(before, word)| is_apart(before) && is_one(word));
        let is_first = self.words[0].0.is_empty();
        let Word::Text(command) = &self.words[0].1 else {
            return false;
        };
        are_apart
            && is_first
            && match (&command[..], &self.words[at].1) {
                (b"cas", Word::Unique { lead, .. }) => lead.is_empty() && at == 5,
                (b"mg" | b"md" | b"ma", Word::Unique { lead, .. }) => lead == b"C" && at >= 2,
                (b"ms", Word::Unique { lead, .. }) => lead == b"C" && at >= 3,
                _ => false,
            }
    }

    fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        if self.data.len() > LINE_BYTES {
            return self.with_shorter_data().into_iter().collect();
        }
        let mut with = |change: &dyn Fn(&mut Self)| {
            let mut line = self.clone();
            change(&mut line);
            all.push(line);
        };
        for at in (1..self.words.len()).rev() {
            with(&|line| drop(line.words.remove(at)));
        }
        if self.end != b"\r\n" {
            with(&|line| line.end = b"\r\n".to_vec());
        }
        for (at, (before, word)) in self.words.iter().enumerate() {
            if at > 0 && before != b" " {
                with(&|line| line.words[at].0 = b" ".to_vec());
            }
            if at == 0 && !before.is_empty() {
                with(&|line| line.words[at].0.clear());
            }
            match word {
                Word::Key(name) | Word::Base64(name) if name.len() > 1 => {
                    with(&|line| line.words[at].1 = Word::Key(b"k".to_vec()));
                    if matches!(word, Word::Base64(_)) {
                        with(&|line| line.words[at].1 = Word::Base64(b"b".to_vec()));
                    }
                }
                Word::Unique { ago, more, .. } if *ago > 0 || *more > 0 => {
                    with(&|line| {
                        if let Word::Unique { ago, more, .. } = &mut line.words[at].1 {
                            (*ago, *more) = (0, 0);
                        }
                    });
                }
                Word::Text(text) if at > 0 && text.len() > 1 => {
                    with(&|line| line.words[at].1 = Word::Text(b"0".to_vec()));
                    with(&|line| line.words[at].1 = Word::Text(text[..1].to_vec()));
                    with(&|line| line.words[at].1 = Word::Text([&text[..1], b"1"].concat()));
                }
                _ => {}
            }
        }
        if let Some(shorter) = self.with_shorter_data() {
            all.push(shorter);
        }
        all
    }

    /// The same with an empty block of data, if its length is where a length stands.
    fn with_shorter_data(&self) -> Option<Self> {
        let bytes = self.data.strip_suffix(b"\r\n")?;
        let length = Word::Text(bytes.len().to_string().into_bytes());
        let at = self.words.iter().rposition(|(_, word)| *word == length)?;
        let half = bytes.len() / 2;
        if half == bytes.len() {
            return None;
        }
        let mut line = self.clone();
        line.words[at].1 = Word::Text(half.to_string().into_bytes());
        line.data = [&bytes[..half], b"\r\n"].concat();
        Some(line)
    }
}

impl Packet {
    fn put(&self, context: &Context<'_>, out: &mut Vec<u8>) {
        let mut key = Vec::new();
        if let Some(word) = &self.key {
            word.put(context, &mut key);
        }
        let mut cas = Vec::new();
        if let Some(word) = &self.cas {
            word.put(context, &mut cas);
        }
        let cas: u64 = std::str::from_utf8(&cas)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let body_bytes = self.extras.len() + key.len() + self.value.len();
        out.extend([0x80, self.opcode]);
        out.extend((key.len() as u16 + self.lie).to_be_bytes());
        out.extend([self.extras.len() as u8, 0, 0, 0]);
        out.extend((body_bytes as u32).to_be_bytes());
        out.extend(self.opaque.to_be_bytes());
        out.extend(cas.to_be_bytes());
        out.extend_from_slice(&self.extras);
        out.extend_from_slice(&key);
        out.extend_from_slice(&self.value);
    }

    fn simpler(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut with = |is_change: bool, change: &dyn Fn(&mut Self)| {
            if is_change {
                let mut packet = self.clone();
                change(&mut packet);
                all.push(packet);
            }
        };
        with(self.cas.is_some(), &|packet| packet.cas = None);
        with(self.key.is_some(), &|packet| packet.key = None);
        with(!self.value.is_empty(), &|packet| packet.value.clear());
        with(!self.extras.is_empty(), &|packet| packet.extras.clear());
        with(self.extras.iter().any(|&byte| byte != 0), &|packet| {
            packet.extras.fill(0);
        });
        with(self.lie != 0, &|packet| packet.lie = 0);
        let half = self.value.len() / 2;
        with(half > 0, &|packet| packet.value.truncate(half));
        all
    }
}

/// What is sent on one connection before its replies are read.
#[derive(Clone, Default)]
pub struct Turn {
    /// Which connection.
    pub connection: usize,
    /// The pipeline.
    pub commands: Vec<Command>,
    /// The seed of the cuts; none sends everything at once.
    pub cut: Option<u64>,
}

/// What is played to both servers.
#[derive(Clone)]
pub struct Dialogue {
    /// One after the other.
    pub turns: Vec<Turn>,
    /// Whether it speaks packets. A connection speaks one protocol or the other.
    pub binary: bool,
    /// Whether a command may ask for more data than it brings.
    pub odd: bool,
}

impl Dialogue {
    /// Ends a turn where memcached's answer depends on whether those before it have been sent yet. It pads a number in
    /// place with blanks only while no waiting answer holds the item, a get of a key that is too long drops all
    /// answers that wait, and a quit what the host had no room for.
    pub fn split(&mut self) {
        let mut turns = Vec::with_capacity(self.turns.len());
        let commands = || self.turns.iter().flat_map(|turn| &turn.commands);
        let is_large = commands().any(|command| command.data_bytes() >= LARGE_BYTES);
        for turn in self.turns.drain(..) {
            let empty = || Turn {
                commands: Vec::new(),
                ..turn
            };
            let (mut part, mut is_held) = (empty(), false);
            for command in &turn.commands {
                let loses = command.counts() || (is_large && command.quits());
                if (is_held && loses) || command.gets_too_long() {
                    turns.push(std::mem::replace(&mut part, empty()));
                    is_held = false;
                }
                is_held |= command.gets();
                part.commands.push(command.clone());
            }
            turns.push(part);
        }
        turns.retain(|turn| !turn.commands.is_empty());
        self.turns = turns;
    }

    /// Whether an `ms` with `I` names a unique and not all keys are one. Strata knows which uniques came before the
    /// present item, not whose they were; memcached knows neither, and compares numbers.
    pub fn has_foreign_unique(&self) -> bool {
        let commands = || self.turns.iter().flat_map(|turn| &turn.commands);
        let words = |command: &Command| match command {
            Command::Line(line) => line.words.iter().map(|(_, word)| word.clone()).collect(),
            Command::Packet(_) => Vec::new(),
        };
        let mut keys: Vec<Word> = commands().flat_map(words).collect();
        keys.retain(|word| matches!(word, Word::Key(_) | Word::Base64(_)));
        let is_one = keys.windows(2).all(|pair| pair[0] == pair[1]);
        !is_one
            && commands().any(|command| {
                let words = words(command);
                command.begins_with(&[b"ms "])
                    && words.iter().any(|word| matches!(word, Word::Unique { .. }))
                    && words
                        .iter()
                        .any(|word| matches!(word, Word::Text(text) if text.first() == Some(&b'I')))
            })
    }

    /// How many commands it has.
    pub fn command_count(&self) -> usize {
        self.turns.iter().map(|turn| turn.commands.len()).sum()
    }
}

/// Bytes for people, one line of the stream each, so much of them.
pub fn shown(bytes: &[u8], indent: &str, most: usize) -> String {
    let mut text = String::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        let (head, rest) = line.split_at(line.len().min(most));
        let more = if rest.is_empty() {
            String::new()
        } else {
            format!(" ... {} bytes more", rest.len())
        };
        writeln!(text, "{indent}{}{more}", head.escape_ascii()).expect("a String takes everything");
    }
    text
}

/// Base64 with padding.
pub fn base64(bytes: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::new();
    for group in bytes.chunks(3) {
        let mut wide = [0; 4];
        wide[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(wide);
        for at in 0..4 {
            let digit = (bits >> (18 - 6 * at)) as usize & 63;
            text.push(if at <= group.len() {
                ALPHABET[digit]
            } else {
                b'='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_with_its_own_keys_and_its_servers_uniques() {
        let mut line = Line::of(vec![
            Word::Text(b"md".to_vec()),
            Word::Base64(b"\x01".to_vec()),
            Word::Unique {
                lead: b"C".to_vec(),
                ago: 1,
                more: 1,
            },
            Word::Key(b"k".to_vec()),
        ]);
        line.data = b"v\r\n".to_vec();
        let context = Context {
            stamp: Stamp(27),
            uniques: &[5, 9],
        };
        let bytes = Command::Line(line).bytes(&context);
        assert_eq!(
            bytes.escape_ascii().to_string(),
            "md YWFhYWJiAQ== C6 aaaabbk\\r\\nv\\r\\n"
        );
    }

    #[test]
    fn a_unique_out_of_its_place_is_none() {
        let unique = Word::Unique {
            lead: Vec::new(),
            ago: 0,
            more: 0,
        };
        let context = Context {
            stamp: Stamp(0),
            uniques: &[5],
        };
        let words = "cas k 0 0 1".split(' ');
        let mut all: Vec<Word> = words.map(|word| Word::Text(word.into())).collect();
        all.push(unique.clone());
        assert!(
            Command::Line(Line::of(all.clone()))
                .bytes(&context)
                .ends_with(b" 1 5\r\n")
        );
        all.remove(2);
        assert!(
            !Command::Line(Line::of(all))
                .bytes(&context)
                .ends_with(b" 5\r\n")
        );
    }

    #[test]
    fn a_turn_ends_between_a_get_and_a_count() {
        let command = |text: &str| Command::Line(Line::of(vec![Word::Text(text.into())]));
        let mut dialogue = Dialogue {
            turns: vec![Turn {
                connection: 1,
                commands: ["incr", "get", "set", "decr", "ma", "mg"]
                    .map(command)
                    .to_vec(),
                cut: None,
            }],
            binary: false,
            odd: false,
        };
        dialogue.split();
        let counts: Vec<usize> = dialogue
            .turns
            .iter()
            .map(|turn| turn.commands.len())
            .collect();
        assert_eq!(counts, [3, 3]);
    }

    #[test]
    fn a_quit_waits_for_answers_only_where_they_may_be_large() {
        for (bytes, turns) in [(LARGE_BYTES, 2), (LARGE_BYTES - 1, 1)] {
            let mut lines =
                ["set", "get", "quit"].map(|text| Line::of(vec![Word::Text(text.into())]));
            lines[0].data = vec![b'v'; bytes];
            let mut dialogue = Dialogue {
                turns: vec![Turn {
                    connection: 0,
                    commands: lines.map(Command::Line).to_vec(),
                    cut: None,
                }],
                binary: false,
                odd: false,
            };
            dialogue.split();
            assert_eq!(dialogue.turns.len(), turns);
        }
    }

    #[test]
    fn every_simpler_command_is_another_one() {
        let mut line = Line::of(vec![
            Word::Text(b"set".to_vec()),
            Word::Key(b"long".to_vec()),
            Word::Text(b"4".to_vec()),
        ]);
        line.data = b"data\r\n".to_vec();
        let context = Context {
            stamp: Stamp(0),
            uniques: &[],
        };
        let command = Command::Line(line);
        let bytes = command.bytes(&context);
        let simpler = command.simpler();
        assert!(simpler.len() >= 4);
        assert!(simpler.iter().all(|other| other.bytes(&context) != bytes));
        let halved = simpler.last().expect("some").bytes(&context);
        assert_eq!(halved, b"set aaaaaalong 2\r\nda\r\n");
    }
}
