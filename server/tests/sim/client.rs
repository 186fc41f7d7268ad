//! A client of a simulation, and what it knows beforehand: random requests in either protocol, and
//! the replies to the byte.

use std::collections::HashMap;

use strata_server::io::sim::{ClientId, Dice, Net};

use crate::packet::{Packet, REQUEST};
use crate::server::{ITEM_MAX_BYTES, MEMORY_MB};

/// Prefixes that the keys of a client have.
const PREFIXES: usize = 2;

/// One client: what it still has to send, what it expects in return.
pub struct Client {
    pub id: ClientId,
    pub name: usize,
    /// How many workers it talks to.
    workers: usize,
    pub script: Vec<u8>,
    pub sent: usize,
    pub expected: Vec<u8>,
    pub got: Vec<u8>,
    model: HashMap<Vec<u8>, (u32, Vec<u8>)>,
    /// The connection was cut before its end; what came must be a beginning of what was expected.
    pub cut: bool,
    /// The client stopped sending.
    pub done: bool,
    /// It speaks the binary protocol.
    packets: bool,
    /// What of the replies comes before that, in text.
    greeting_bytes: usize,
    /// Its user may do nothing that concerns everybody.
    limited: bool,
}

/// A packet of a request, or of a reply without its unique; the opaque is the opcode once more.
fn packet(magic: u8, opcode: u8, status: u16, extras: &[u8], key: &[u8], value: &[u8]) -> Vec<u8> {
    Packet {
        magic,
        opcode,
        status,
        opaque: opcode.into(),
        cas: 0,
        extras,
        key,
        value,
    }
    .bytes()
}

/// Replies without the uniques in them, which no client can know beforehand.
fn without_uniques(mut replies: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while replies.len() - at >= 24 {
        let body: [u8; 4] = replies[at + 8..at + 12].try_into().expect("four bytes");
        replies[at + 16..at + 24].fill(0);
        at = (at + 24 + u32::from_be_bytes(body) as usize).min(replies.len());
    }
    // A unique may be cut.
    if replies.len() - at > 16 {
        replies[at + 16..].fill(0);
    }
    replies
}

impl Client {
    pub fn new(net: &Net, name: usize, workers: usize, dice: &mut Dice) -> Self {
        let window = [200, 5_000, 1 << 20][dice.below(3)];
        Self {
            id: net.connect(window),
            name,
            workers,
            script: Vec::new(),
            sent: 0,
            expected: Vec::new(),
            got: Vec::new(),
            model: HashMap::new(),
            cut: false,
            done: false,
            packets: dice.once_in(2),
            greeting_bytes: 0,
            limited: false,
        }
    }

    /// Says who it is, wrongly a few times, before any request.
    pub fn add_knocks(&mut self, dice: &mut Dice) {
        for _ in 0..dice.below(3) {
            let (password, answer) = [
                ("wrong", "CLIENT_ERROR authentication failure\r\n"),
                (
                    "busy",
                    "SERVER_ERROR too many passwords wait to be checked, try again later\r\n",
                ),
            ][dice.below(2)];
            self.knock("all", password, answer);
            self.say(b"get k\r\n");
            self.expected
                .extend_from_slice(b"CLIENT_ERROR unauthenticated\r\n");
        }
        self.limited = dice.once_in(2);
        let user = if self.limited { "some" } else { "all" };
        self.knock(user, "right", "STORED\r\n");
        self.greeting_bytes = self.expected.len();
    }

    fn knock(&mut self, user: &str, password: &str, answer: &str) {
        let pair = format!("{user} {password}");
        self.say(format!("set x 0 0 {}\r\n{pair}\r\n", pair.len()).as_bytes());
        self.expected.extend_from_slice(answer.as_bytes());
    }

    /// What has come, as far as it is known beforehand.
    pub fn heard(&self) -> Vec<u8> {
        if self.packets {
            let greeting = self.greeting_bytes.min(self.got.len());
            let (greeting, packets) = self.got.split_at(greeting);
            [greeting, &without_uniques(packets.to_vec())].concat()
        } else {
            self.got.clone()
        }
    }

    fn key(&self, dice: &mut Dice) -> Vec<u8> {
        let prefix = dice.below(PREFIXES);
        format!("client{}.{prefix}:key{}", self.name, dice.below(6)).into_bytes()
    }

    fn value(dice: &mut Dice) -> Vec<u8> {
        let len = match dice.below(20) {
            0 => dice.below(150_000),
            1 => dice.below(30_000),
            2 => 0,
            3 => dice.below(9_000),
            _ => dice.below(120),
        };
        let first = dice.below(256);
        (0..len).map(|i| (first + i * 7) as u8).collect()
    }

    fn say(&mut self, text: &[u8]) {
        self.script.extend_from_slice(text);
    }

    fn hear(&mut self, text: &[u8]) {
        self.expected.extend_from_slice(text);
    }

    /// Adds one random meta request, or a few that belong together, and the replies.
    fn add_meta_request(&mut self, dice: &mut Dice, name: &str) {
        let key = name.as_bytes().to_vec();
        let base64 = dice.once_in(3);
        // The key as it is written, the flag that says so, and the key as it is answered.
        let (wire, b, told) = if base64 {
            let wire = base64_of(&key);
            (wire.clone(), " b", format!("{wire} b"))
        } else {
            (name.to_owned(), "", name.to_owned())
        };
        let quiet = dice.once_in(4);
        let q = if quiet { " q" } else { "" };
        let had = self.model.get(&key).cloned();
        match dice.below(8) {
            0..=2 => {
                self.say(format!("mg {wire} k v f{b} s t Oab{q}\r\n").as_bytes());
                match had {
                    Some((flags, value)) => {
                        let len = value.len();
                        let head = format!("VA {len} k{told} f{flags} s{len} t-1 Oab\r\n");
                        self.hear(head.as_bytes());
                        self.hear(&value);
                        self.hear(b"\r\n");
                    }
                    None if quiet => {}
                    None => self.hear(format!("EN k{told} Oab\r\n").as_bytes()),
                }
            }
            3..=4 => {
                let modes = ["", " MS", " ME", " MR", " MA", " MP", " MA N0", " MP N0"];
                let mode = modes[dice.below(modes.len())];
                let value = Self::value(dice);
                let flags = dice.below(3) as u32;
                let len = value.len();
                self.say(format!("ms {wire} {len}{mode}{b} s F{flags} k{q}\r\n").as_bytes());
                self.say(&value);
                self.say(b"\r\n");
                let new = match (mode, had) {
                    ("" | " MS", _) | (" ME", None) | (" MR", Some(_)) => Some((flags, value)),
                    (" MA N0" | " MP N0", None) => Some((flags, value)),
                    (" MA" | " MA N0", Some((flags, had))) => Some((flags, [had, value].concat())),
                    (" MP" | " MP N0", Some((flags, had))) => Some((flags, [value, had].concat())),
                    _ => None,
                };
                let fits = |flags: u32, value: &Vec<u8>| {
                    strata_server::session::item_bytes(key.len(), value.len() as u64, flags)
                        <= u64::from(ITEM_MAX_BYTES)
                };
                match new {
                    Some((flags, value)) if fits(flags, &value) => {
                        if !quiet {
                            self.hear(format!("HD s{} k{told}\r\n", value.len()).as_bytes());
                        }
                        self.model.insert(key, (flags, value));
                    }
                    _ => self.hear(format!("NS s{len} k{told}\r\n").as_bytes()),
                }
            }
            5 => {
                self.say(format!("md {wire}{b} k{q}\r\n").as_bytes());
                match self.model.remove(&key) {
                    Some(_) if quiet => {}
                    Some(_) => self.hear(format!("HD k{told}\r\n").as_bytes()),
                    None => self.hear(format!("NF k{told}\r\n").as_bytes()),
                }
            }
            6 => {
                // A life in full: made by a miss, filled, out of date, made anew.
                let value = Self::value(dice);
                let len = value.len();
                self.say(format!("md {wire}{b} q\r\nmn\r\n").as_bytes());
                self.say(format!("mg {wire}{b} v N0\r\nmg {wire}{b} N0\r\n").as_bytes());
                self.say(format!("ms {wire} {len}{b}\r\n").as_bytes());
                self.say(&value);
                self.say(format!("\r\nmd {wire}{b} I\r\nmg {wire}{b} v\r\n").as_bytes());
                self.say(format!("mg {wire}{b}\r\nms {wire} 1{b}\r\n7\r\n").as_bytes());
                self.say(format!("ma {wire}{b} v N0\r\n").as_bytes());
                if had.is_none() {
                    self.hear(b"NF\r\n");
                }
                self.hear(b"MN\r\nVA 0 W\r\n\r\nHD Z\r\nHD\r\nHD\r\n");
                self.hear(format!("VA {len} X W\r\n").as_bytes());
                self.hear(&value);
                self.hear(b"\r\nHD Z X\r\nHD\r\nVA 1\r\n8\r\n");
                self.model.insert(key, (0, b"8".to_vec()));
            }
            _ => {
                let len = ITEM_MAX_BYTES as usize + dice.below(1000);
                self.say(format!("ms {wire} {len} {b}{q}\r\n").as_bytes());
                self.say(&vec![b'x'; len]);
                self.say(b"\r\nms k 5 v v\r\n\r\nmn!\r\nmg k Tx\r\n");
                self.model.remove(&key);
                self.hear(b"SERVER_ERROR object too large for cache\r\n");
                self.hear(b"CLIENT_ERROR duplicate flag\r\n");
                self.hear(b"CLIENT_ERROR bad token in command line format\r\n");
            }
        }
    }

    /// Adds one random request and its reply.
    pub fn add_request(&mut self, dice: &mut Dice) {
        if self.packets {
            self.add_packet(dice);
        } else {
            self.add_line(dice);
        }
    }

    fn ask(&mut self, opcode: u8, extras: &[u8], key: &[u8], value: &[u8]) {
        self.say(&packet(REQUEST, opcode, 0, extras, key, value));
    }

    fn refused(&mut self, opcode: u8, status: u16, text: &str) {
        self.hear(&packet(0x81, opcode, status, b"", b"", text.as_bytes()));
    }

    fn add_packet(&mut self, dice: &mut Dice) {
        const NOOP: u8 = 0x0a;
        let key = self.key(dice);
        match dice.below(14) {
            0..=4 => self.add_store_packet(dice, key),
            5..=8 => {
                let most = if dice.once_in(5) { 40 } else { 3 };
                for _ in 0..1 + dice.below(most) {
                    let key = self.key(dice);
                    // Opcode, quiet, names the key, returns the value, has an exptime.
                    let (opcode, quiet, named, valued, touches) = [
                        (0x00, false, false, true, false),
                        (0x09, true, false, true, false),
                        (0x0c, false, true, true, false),
                        (0x0d, true, true, true, false),
                        (0x1c, false, false, false, true),
                        (0x1d, false, false, true, true),
                        (0x1e, true, false, true, true),
                        (0x23, false, true, true, true),
                        (0x24, true, true, true, true),
                    ][dice.below(9)];
                    self.ask(opcode, if touches { &[0; 4] } else { b"" }, &key, b"");
                    let name = if named { &key[..] } else { b"" };
                    match self.model.get(&key).cloned() {
                        Some((flags, value)) => {
                            let value = if valued { &value[..] } else { b"" };
                            let flags = flags.to_be_bytes();
                            self.hear(&packet(0x81, opcode, 0, &flags, name, value));
                        }
                        None if quiet => {}
                        None if named => self.hear(&packet(0x81, opcode, 1, b"", name, b"")),
                        None => self.refused(opcode, 1, "Not found"),
                    }
                }
                self.ask(NOOP, b"", b"", b"");
                self.refused(NOOP, 0, "");
            }
            9 => {
                let quiet = dice.once_in(2);
                let opcode = if quiet { 0x14 } else { 0x04 };
                self.ask(opcode, b"", &key, b"");
                match self.model.remove(&key) {
                    None => self.refused(opcode, 1, "Not found"),
                    Some(_) if quiet => {}
                    Some(_) => self.refused(opcode, 0, ""),
                }
            }
            10 => {
                let key = format!("client{}-number", self.name).into_bytes();
                let quiet = dice.once_in(2);
                let opcode = if quiet { 0x15 } else { 0x05 };
                let (delta, initial) = (dice.below(1000) as u64, dice.below(1000) as u64);
                let extras = [delta.to_be_bytes(), initial.to_be_bytes()].concat();
                self.ask(opcode, &[&extras[..], &[0; 4]].concat(), &key, b"");
                let number = match self.model.get(&key) {
                    None => initial,
                    Some((_, old)) => {
                        let old = str::from_utf8(old).expect("digits");
                        old.parse::<u64>().expect("a number") + delta
                    }
                };
                self.model.insert(key, (0, number.to_string().into_bytes()));
                if !quiet {
                    self.hear(&packet(0x81, opcode, 0, b"", b"", &number.to_be_bytes()));
                }
            }
            11 => {
                // Nobody knows the opcode, but everybody where the packet ends.
                self.ask(0x60, b"four", &key, &vec![b'x'; dice.below(40_000)]);
                self.refused(0x60, 0x81, "Unknown command");
            }
            12 => {
                let len = ITEM_MAX_BYTES as usize + dice.below(1000);
                let opcode = [0x01, 0x11, 0x0e, 0x1a][dice.below(4)];
                let is_set = matches!(opcode, 0x01 | 0x11);
                self.ask(
                    opcode,
                    if is_set { &[0; 8] } else { b"" },
                    &key,
                    &vec![b'x'; len],
                );
                if is_set {
                    self.model.remove(&key);
                }
                self.refused(opcode, 3, "Too large.");
            }
            _ => {
                // No item has this unique.
                let opcode = [0x01, 0x13, 0x04, 0x14][dice.below(4)];
                let extras: &[u8] = if matches!(opcode, 0x01 | 0x13) {
                    &[0; 8]
                } else {
                    b""
                };
                let mut asked = packet(REQUEST, opcode, 0, extras, &key, b"");
                asked[23] = 1;
                self.say(&asked);
                if self.model.contains_key(&key) {
                    self.refused(opcode, 2, "Data exists for key.");
                } else {
                    self.refused(opcode, 1, "Not found");
                }
            }
        }
    }

    fn add_store_packet(&mut self, dice: &mut Dice, key: Vec<u8>) {
        let verbs = [
            (0x01, 0x11),
            (0x02, 0x12),
            (0x03, 0x13),
            (0x0e, 0x19),
            (0x0f, 0x1a),
        ];
        let (loud, quietly) = verbs[dice.below(verbs.len())];
        let quiet = dice.once_in(2);
        let opcode = if quiet { quietly } else { loud };
        let value = Self::value(dice);
        let flags = dice.below(3) as u32;
        let extras = [flags.to_be_bytes(), [0; 4]].concat();
        self.ask(
            opcode,
            if loud < 0x0e { &extras } else { b"" },
            &key,
            &value,
        );
        let old = self.model.get(&key).cloned();
        let new = match (loud, old) {
            (0x01, _) | (0x02, None) | (0x03, Some(_)) => Ok((flags, value)),
            (0x0e, Some((flags, old))) => Ok((flags, [old, value].concat())),
            (0x0f, Some((flags, old))) => Ok((flags, [value, old].concat())),
            (0x02, _) => Err((2, "Data exists for key.")),
            (0x03, _) => Err((1, "Not found")),
            _ => Err((5, "Not stored.")),
        };
        match new {
            Ok((flags, value)) => {
                let bytes =
                    strata_server::session::item_bytes(key.len(), value.len() as u64, flags);
                if bytes > u64::from(ITEM_MAX_BYTES) {
                    self.refused(opcode, 5, "Not stored.");
                    return;
                }
                self.model.insert(key, (flags, value));
                if !quiet {
                    self.refused(opcode, 0, "");
                }
            }
            Err((status, text)) => self.refused(opcode, status, text),
        }
    }

    /// Asks for the end, as clients of the binary protocol can.
    pub fn add_quit(&mut self, dice: &mut Dice) {
        if self.packets && dice.once_in(2) {
            self.ask(0x07, b"", b"", b"");
            self.refused(0x07, 0, "");
            // What follows is not read.
            self.ask(0x0a, b"", b"", b"");
        }
    }

    /// Forgets all keys of a prefix, on whichever workers they are.
    fn add_flush(&mut self, dice: &mut Dice) {
        let prefix = format!("client{}.{}", self.name, dice.below(PREFIXES));
        let quiet = dice.once_in(3);
        let word = if quiet { " noreply" } else { "" };
        self.say(format!("flush_prefix {prefix}{word}\r\n").as_bytes());
        if !self.limited {
            let flushed = format!("{prefix}:").into_bytes();
            self.model.retain(|key, _| !key.starts_with(&flushed));
        }
        match (quiet, self.limited) {
            (true, _) => {}
            (false, true) => self.hear(b"CLIENT_ERROR access denied\r\n"),
            (false, false) => self.hear(b"OK\r\n"),
        }
    }

    fn add_line(&mut self, dice: &mut Dice) {
        let key = self.key(dice);
        let name = String::from_utf8(key.clone()).expect("plain");
        match dice.below(24) {
            23 => self.add_flush(dice),
            17..=22 => self.add_meta_request(dice, &name),
            0..=3 => {
                let verbs = ["set", "add", "replace", "append", "prepend"];
                let verb = verbs[dice.below(verbs.len())];
                let value = Self::value(dice);
                let flags = dice.below(3) as u32;
                let quiet = dice.once_in(4);
                let word = if quiet { " noreply" } else { "" };
                self.say(format!("{verb} {name} {flags} 0 {}{word}\r\n", value.len()).as_bytes());
                self.say(&value);
                self.say(b"\r\n");
                let old = self.model.get(&key).cloned();
                let new = match (verb, old) {
                    ("set", _) | ("add", None) | ("replace", Some(_)) => Some((flags, value)),
                    ("append", Some((flags, old))) => Some((flags, [old, value].concat())),
                    ("prepend", Some((flags, old))) => Some((flags, [value, old].concat())),
                    _ => None,
                };
                // Appended beyond the largest item: refused as not stored, the old value stays.
                let fits = |value: &Vec<u8>, flags: u32| {
                    strata_server::session::item_bytes(key.len(), value.len() as u64, flags)
                        <= u64::from(ITEM_MAX_BYTES)
                };
                let stored = match new {
                    Some((flags, value)) if fits(&value, flags) => {
                        self.model.insert(key, (flags, value));
                        true
                    }
                    _ => false,
                };
                if !quiet {
                    self.hear(if stored {
                        b"STORED\r\n"
                    } else {
                        b"NOT_STORED\r\n"
                    });
                }
            }
            4..=8 => {
                let most = if dice.once_in(5) { 40 } else { 3 };
                let count = 1 + dice.below(most);
                let verb = if dice.once_in(4) { "gat 0" } else { "get" };
                let mut line = verb.to_owned();
                let mut reply = Vec::new();
                for _ in 0..count {
                    let key = self.key(dice);
                    let name = String::from_utf8(key.clone()).expect("plain");
                    line += &format!(" {name}");
                    if let Some((flags, value)) = self.model.get(&key) {
                        reply.extend_from_slice(
                            format!("VALUE {name} {flags} {}\r\n", value.len()).as_bytes(),
                        );
                        reply.extend_from_slice(value);
                        reply.extend_from_slice(b"\r\n");
                    }
                }
                self.say(line.as_bytes());
                self.say(if dice.once_in(2) { b"\r\n" } else { b"\n" });
                self.hear(&reply);
                self.hear(b"END\r\n");
            }
            9 => {
                self.say(format!("delete {name}\r\n").as_bytes());
                let found = self.model.remove(&key).is_some();
                self.hear(if found {
                    b"DELETED\r\n"
                } else {
                    b"NOT_FOUND\r\n"
                });
            }
            10 => {
                self.say(format!("touch {name} 0\r\n").as_bytes());
                let found = self.model.contains_key(&key);
                self.hear(if found {
                    b"TOUCHED\r\n"
                } else {
                    b"NOT_FOUND\r\n"
                });
            }
            11 => {
                let name = format!("client{}-number", self.name);
                let number = dice.below(1000) as u64;
                let delta = dice.below(1000) as u64;
                self.say(
                    format!(
                        "set {name} 0 0 {}\r\n{number}\r\nincr {name} {delta}\r\n",
                        number.to_string().len()
                    )
                    .as_bytes(),
                );
                self.hear(format!("STORED\r\n{}\r\n", number + delta).as_bytes());
            }
            12 => {
                self.say(b"bogus\r\nget\r\n");
                self.hear(b"ERROR\r\nCLIENT_ERROR bad command line format\r\n");
            }
            13 => {
                let len = ITEM_MAX_BYTES as usize + dice.below(1000);
                self.say(format!("set {name} 0 0 {len}\r\n").as_bytes());
                self.say(&vec![b'x'; len]);
                self.say(b"\r\n");
                self.model.remove(&key);
                self.hear(b"SERVER_ERROR object too large for cache\r\n");
            }
            14 => {
                // Between what every server here starts with and all its room: nothing is
                // forgotten for it, however often it changes.
                let megabytes = self.workers * MEMORY_MB + dice.below(self.workers * MEMORY_MB + 1);
                self.say(format!("cache_memlimit {megabytes}\r\n").as_bytes());
                self.hear(match self.limited {
                    true => b"CLIENT_ERROR access denied\r\n",
                    false => b"OK\r\n",
                });
            }
            15 => {
                self.say(format!("set {name} 0 -1 1\r\nx\r\nmn\r\n").as_bytes());
                self.model.remove(&key);
                self.hear(b"STORED\r\nMN\r\n");
            }
            _ => {
                self.say(b"set bad 0 0 3\r\nabcd\n");
                self.hear(b"CLIENT_ERROR bad data chunk\r\n");
                // What is left of the block is a line of one character.
                self.hear(b"CLIENT_ERROR bad command line format\r\n");
                self.say(b"\r\n");
            }
        }
    }
}

/// Written another way than the server writes it.
fn base64_of(bytes: &[u8]) -> String {
    let alphabet: Vec<char> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['+', '/'])
        .collect();
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits: String = group.iter().map(|byte| format!("{byte:08b}")).collect();
        let sixes: Vec<char> = bits.chars().collect();
        for six in sixes.chunks(6) {
            let digits: String = six.iter().chain([&'0'; 5]).take(6).collect();
            text.push(alphabet[usize::from_str_radix(&digits, 2).expect("binary")]);
        }
    }
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}
