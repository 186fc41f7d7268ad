//! A small memcached that can misbehave on purpose, for the tests of the load generator.
//!
//! Always true: it listens on a port of the kernel's choosing and ends with its test; and what it
//! keeps is a plain map, so that what it says is easy to believe.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use strata_load::cli::Args;
use strata_load::plan::Plan;
use strata_load::run::{Outcome, run};
use strata_load::verdict;

/// What the server does wrong.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// One byte of every value is flipped.
    WrongByte,
    /// Every tenth get misses.
    MissingItem,
    /// Of two pipelined gets the second is answered first.
    SwappedReply,
    /// Connections end after a hundred commands.
    EarlyClose,
    /// Writes are refused.
    OutOfMemory,
    /// Nothing is answered in the first 100 of every 1000 milliseconds.
    Stall,
    /// Each command takes this many microseconds.
    Slow(u64),
    /// Commands are read and never answered.
    Mute,
    /// Of each hundred commands of a connection the first takes 60 ms, the next nine 20 ms, and
    /// the others 2 ms.
    Steps,
    /// Opaques of the meta protocol are one too high.
    WrongOpaque,
}

const STALL: Duration = Duration::from_millis(100);
const STALL_EVERY: Duration = Duration::from_millis(1000);

pub struct Server {
    pub port: u16,
    ending: Arc<AtomicBool>,
    connections: Arc<AtomicU64>,
    log: Arc<Mutex<Vec<String>>>,
}

struct State {
    fault: Fault,
    started: Instant,
    items: Mutex<HashMap<String, Item>>,
    uniques: AtomicU64,
    commands: AtomicU64,
    log: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone, Default)]
struct Item {
    value: Vec<u8>,
    unique: u64,
}

impl Server {
    pub fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ending = Arc::new(AtomicBool::new(false));
        let log = Arc::new(Mutex::new(Vec::new()));
        let state = Arc::new(State {
            fault,
            started: Instant::now(),
            items: Mutex::default(),
            uniques: AtomicU64::new(1),
            commands: AtomicU64::new(0),
            log: Arc::clone(&log),
        });
        let told = Arc::clone(&ending);
        let connections = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                counted.fetch_add(1, Ordering::Relaxed);
                let state = Arc::clone(&state);
                let stream = stream.unwrap();
                thread::spawn(move || {
                    // A client that hangs up ends its own thread only.
                    let _ = serve(&stream, &state);
                });
            }
        });
        Self {
            port,
            ending,
            connections,
            log,
        }
    }

    /// How many connections it had.
    pub fn connection_count(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The command lines it saw.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees that it is to end.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: &TcpStream, state: &State) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut held: Option<Vec<u8>> = None;
    let mut served = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let block = match words[..] {
            ["set" | "add" | "cas", _, _, _, length, ..] | ["ms", _, length, ..] => {
                let mut block = vec![0; length.parse::<usize>().unwrap() + 2];
                reader.read_exact(&mut block)?;
                block.truncate(block.len() - 2);
                block
            }
            _ => Vec::new(),
        };
        let mut reply = if words[0].len() == 2 {
            state.meta(&words, block)
        } else {
            state.classic(&words, block)
        };
        state.log.lock().unwrap().push(line.trim_end().to_string());
        served += 1;
        match state.fault {
            Fault::EarlyClose if served == 100 => return Ok(()),
            Fault::Mute => continue,
            Fault::Slow(delay_us) => thread::sleep(Duration::from_micros(delay_us)),
            Fault::Steps => thread::sleep(Duration::from_millis(match served % 100 {
                1 => 60,
                2..=10 => 20,
                _ => 2,
            })),
            Fault::Stall => {
                let into = state.started.elapsed().as_micros() % STALL_EVERY.as_micros();
                let left = STALL.as_micros().saturating_sub(into);
                thread::sleep(Duration::from_micros(left as u64));
            }
            Fault::SwappedReply if words[0] == "get" => match held.take() {
                None => {
                    held = Some(reply);
                    continue;
                }
                Some(first) => reply.extend(first),
            },
            _ => {}
        }
        writer.write_all(&reply)?;
    }
}

impl State {
    fn put(&self, key: &str, value: Vec<u8>) {
        let unique = self.uniques.fetch_add(1, Ordering::Relaxed);
        let mut items = self.items.lock().unwrap();
        items.insert(key.into(), Item { value, unique });
    }

    fn find(&self, key: &str) -> Option<Item> {
        self.items.lock().unwrap().get(key).cloned()
    }

    /// The value as the fault has it.
    fn seen(&self, item: Item) -> Item {
        let mut item = item;
        if self.fault == Fault::WrongByte {
            *item.value.last_mut().unwrap() ^= 1;
        }
        item
    }

    fn classic(&self, words: &[&str], block: Vec<u8>) -> Vec<u8> {
        let mut reply = Vec::new();
        match *words {
            ["get" | "gets", ref keys @ ..] | ["gat", _, ref keys @ ..] => {
                let command = self.commands.fetch_add(1, Ordering::Relaxed);
                let missing = self.fault == Fault::MissingItem && command.is_multiple_of(10);
                for key in keys {
                    let Some(item) = self.find(key).filter(|_| !missing) else {
                        continue;
                    };
                    let item = self.seen(item);
                    let unique = match words[0] {
                        "gets" => format!(" {}", item.unique),
                        _ => String::new(),
                    };
                    write!(reply, "VALUE {key} 0 {}{unique}\r\n", item.value.len()).unwrap();
                    reply.extend(item.value);
                    reply.extend(b"\r\n");
                }
                reply.extend(b"END\r\n");
            }
            ["set", ..] if self.fault == Fault::OutOfMemory => {
                reply.extend(b"SERVER_ERROR out of memory storing object\r\n");
            }
            ["set", key, ..] => {
                self.put(key, block);
                reply.extend(b"STORED\r\n");
            }
            ["add", key, ..] => {
                let absent = self.find(key).is_none();
                if absent {
                    self.put(key, block);
                }
                reply.extend(if absent {
                    &b"STORED\r\n"[..]
                } else {
                    b"NOT_STORED\r\n"
                });
            }
            ["cas", key, _, _, _, unique] => {
                let unique: u64 = unique.parse().unwrap();
                reply.extend(match self.find(key) {
                    None => &b"NOT_FOUND\r\n"[..],
                    Some(item) if item.unique != unique => b"EXISTS\r\n",
                    Some(_) => {
                        self.put(key, block);
                        b"STORED\r\n"
                    }
                });
            }
            ["delete", key] => {
                let removed = self.items.lock().unwrap().remove(key).is_some();
                reply.extend(if removed {
                    &b"DELETED\r\n"[..]
                } else {
                    b"NOT_FOUND\r\n"
                });
            }
            ["touch", key, _] => {
                let found = self.find(key).is_some();
                reply.extend(if found {
                    &b"TOUCHED\r\n"[..]
                } else {
                    b"NOT_FOUND\r\n"
                });
            }
            ["incr", key, by] => match self.find(key) {
                None => reply.extend(b"NOT_FOUND\r\n"),
                Some(item) => {
                    let number: u64 = String::from_utf8(item.value).unwrap().parse().unwrap();
                    let number = (number + by.parse::<u64>().unwrap()).to_string();
                    self.put(key, number.clone().into_bytes());
                    write!(reply, "{number}\r\n").unwrap();
                }
            },
            _ => panic!("{words:?}"),
        }
        reply
    }

    fn meta(&self, words: &[&str], block: Vec<u8>) -> Vec<u8> {
        let (verb, key) = (words[0], words[1]);
        let flag = |letter: char| words[2..].iter().find_map(|word| word.strip_prefix(letter));
        let mut flags = String::new();
        if verb == "mg" && flag('k').is_some() {
            flags += &format!(" k{key}");
        }
        if let Some(opaque) = flag('O') {
            let opaque: u32 = opaque.parse().unwrap();
            flags += &format!(" O{}", opaque + u32::from(self.fault == Fault::WrongOpaque));
        }
        let found = self.find(key);
        match (verb, found) {
            ("mg", None) => format!("EN{flags}\r\n").into_bytes(),
            ("mg", Some(_)) if flag('v').is_none() => format!("HD{flags}\r\n").into_bytes(),
            ("mg", Some(item)) => {
                let item = self.seen(item);
                if flag('c').is_some() {
                    flags += &format!(" c{}", item.unique);
                }
                let mut reply = format!("VA {}{flags}\r\n", item.value.len()).into_bytes();
                reply.extend(item.value);
                reply.extend(b"\r\n");
                reply
            }
            ("ms", found) => {
                let wanted = flag('C').map(|unique| unique.parse::<u64>().unwrap());
                let code = match (flag('M'), wanted, found) {
                    (Some("E"), _, Some(_)) => "NS",
                    (_, Some(_), None) => "NF",
                    (_, Some(unique), Some(item)) if item.unique != unique => "EX",
                    _ => {
                        self.put(key, block);
                        "HD"
                    }
                };
                format!("{code}{flags}\r\n").into_bytes()
            }
            ("md", found) => {
                self.items.lock().unwrap().remove(key);
                let code = if found.is_some() { "HD" } else { "NF" };
                format!("{code}{flags}\r\n").into_bytes()
            }
            ("ma", None) => format!("NF{flags}\r\n").into_bytes(),
            ("ma", Some(item)) => {
                let number: u64 = String::from_utf8(item.value).unwrap().parse().unwrap();
                let number = (number + 1).to_string();
                self.put(key, number.clone().into_bytes());
                format!("VA {}{flags}\r\n{number}\r\n", number.len()).into_bytes()
            }
            _ => panic!("{words:?}"),
        }
    }
}

pub fn plan(server: &Server, arguments: &str) -> Plan {
    // A trace has keys of its own.
    let keys = match arguments.contains("--trace") {
        true => "",
        false => "--key-maximum 99",
    };
    let all = format!(
        "strata-load -s 127.0.0.1 -p {} -t 1 {keys} {arguments}",
        server.port
    );
    let args = Args::try_parse_from(all.split_whitespace()).unwrap();
    args.plan().unwrap()
}

pub fn measure(server: &Server, arguments: &str) -> (Outcome, Vec<String>) {
    let plan = plan(server, arguments);
    let mut outcome = run(&plan, &AtomicBool::new(false), &|_| {}).unwrap();
    let reasons = verdict::reasons(&plan, &mut outcome);
    (outcome, reasons)
}

pub fn assert_says(reasons: &[String], part: &str) {
    assert!(
        reasons.iter().any(|reason| reason.contains(part)),
        "no {part:?} in {reasons:#?}"
    );
}

/// Runs the binary.
pub fn binary(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strata-load"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}
