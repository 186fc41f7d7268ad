//! Runs against a small server that can misbehave on purpose: whatever it does wrong has to end
//! in the sentence that says so.
//!
//! Always true: the server listens on a port of the kernel's choosing and ends with its test.

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
enum Fault {
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
    /// Nothing is answered in the first 100 of every 500 milliseconds.
    Stall,
    /// Each command takes this many microseconds.
    Slow(u64),
    /// Commands are read and never answered.
    Mute,
}

const STALL: Duration = Duration::from_millis(100);
const STALL_EVERY: Duration = Duration::from_millis(500);

struct Server {
    port: u16,
    ending: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<String>>>,
}

struct State {
    fault: Fault,
    started: Instant,
    items: Mutex<HashMap<String, Vec<u8>>>,
    commands: AtomicU64,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ending = Arc::new(AtomicBool::new(false));
        let log = Arc::new(Mutex::new(Vec::new()));
        let state = Arc::new(State {
            fault,
            started: Instant::now(),
            items: Mutex::default(),
            commands: AtomicU64::new(0),
            log: Arc::clone(&log),
        });
        let told = Arc::clone(&ending);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&state);
                let stream = stream.unwrap();
                thread::spawn(move || {
                    // A client that hangs up ends its own thread only.
                    let _ = serve(&stream, &state);
                });
            }
        });
        Self { port, ending, log }
    }

    fn log(&self) -> Vec<String> {
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
        let mut reply = Vec::new();
        match words[..] {
            ["get", ref keys @ ..] => {
                let command = state.commands.fetch_add(1, Ordering::Relaxed);
                for key in keys {
                    let found = state.items.lock().unwrap().get(*key).cloned();
                    if let Some(mut value) = found
                        && !(state.fault == Fault::MissingItem && command.is_multiple_of(10))
                    {
                        if state.fault == Fault::WrongByte {
                            *value.last_mut().unwrap() ^= 1;
                        }
                        write!(reply, "VALUE {key} 0 {}\r\n", value.len())?;
                        reply.extend(value);
                        reply.extend(b"\r\n");
                    }
                }
                reply.extend(b"END\r\n");
            }
            ["set", key, _, _, length] => {
                let mut block = vec![0; length.parse::<usize>().unwrap() + 2];
                reader.read_exact(&mut block)?;
                block.truncate(block.len() - 2);
                if state.fault == Fault::OutOfMemory {
                    reply.extend(b"SERVER_ERROR out of memory storing object\r\n");
                } else {
                    state.items.lock().unwrap().insert(key.into(), block);
                    reply.extend(b"STORED\r\n");
                }
            }
            _ => panic!("{line:?}"),
        }
        state.log.lock().unwrap().push(line.trim_end().to_string());
        served += 1;
        match state.fault {
            Fault::EarlyClose if served == 100 => return Ok(()),
            Fault::Mute => continue,
            Fault::Slow(delay_us) => thread::sleep(Duration::from_micros(delay_us)),
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

fn plan(server: &Server, arguments: &str) -> Plan {
    let all = format!(
        "strata-load -s 127.0.0.1 -p {} -t 1 --key-maximum 99 {arguments}",
        server.port
    );
    let args = Args::try_parse_from(all.split_whitespace()).unwrap();
    args.plan().unwrap()
}

fn measure(server: &Server, arguments: &str) -> (Outcome, Vec<String>) {
    let plan = plan(server, arguments);
    let mut outcome = run(&plan, &AtomicBool::new(false), &|_| {}).unwrap();
    let reasons = verdict::reasons(&plan, &mut outcome);
    (outcome, reasons)
}

fn assert_says(reasons: &[String], part: &str) {
    assert!(
        reasons.iter().any(|reason| reason.contains(part)),
        "no {part:?} in {reasons:#?}"
    );
}

#[test]
fn a_right_server_gives_a_valid_run_on_both_transports() {
    for io in ["auto", "epoll"] {
        for mix in [
            "--ratio 1:3 --pipeline 8",
            "--ratio 0:4 --multi-key-get 4 --pipeline 3",
            "-d 0",
            "-d 5 --pipeline 2",
            "-d 200000 -n 20",
        ] {
            let server = Server::start(Fault::None);
            let arguments =
                format!("--io {io} -c 3 -n 300 --fill --data-verify --expect-hits 1 {mix}");
            let (outcome, reasons) = measure(&server, &arguments);
            assert!(reasons.is_empty(), "{arguments}: {reasons:#?}");
            assert_eq!(outcome.filled, Some(100));
            let expected = if mix.contains("-n") { 60 } else { 900 };
            let tally = &outcome.tally;
            assert_eq!(tally.sets.count + tally.gets.count, expected, "{arguments}");
        }
    }
}

#[test]
fn a_stall_shows_from_due_to_done_and_not_from_sent_to_done() {
    let server = Server::start(Fault::Stall);
    let (mut outcome, _) = measure(
        &server,
        "-c 4 --ratio 0:1 --rate 2000 --arrival constant --pipeline 1 --test-time 2",
    );
    let gets = &mut outcome.tally.gets;
    let p99_ms =
        |latencies: &hdrhistogram::Histogram<u64>| latencies.value_at_quantile(0.99) / 1_000_000;
    // A fifth of all requests are due during a stall, so one in a hundred waits above 90 ms.
    let due_ms = p99_ms(gets.latency.histogram());
    let sent_ms = p99_ms(gets.service.histogram());
    assert!(due_ms >= 90, "due to done: {due_ms} ms");
    assert!(sent_ms < 50, "sent to done: {sent_ms} ms");
}

#[test]
fn a_wrong_byte_makes_the_run_invalid() {
    let server = Server::start(Fault::WrongByte);
    // Found in the sample already.
    let (_, reasons) = measure(&server, "-c 2 -n 100 --fill --ratio 0:1");
    assert_says(&reasons, "wrong value");
    assert_says(&reasons, "has a wrong byte");
}

#[test]
fn a_missing_item_misses_the_expected_hit_ratio() {
    let server = Server::start(Fault::MissingItem);
    let arguments = "-c 1 -n 200 --fill --ratio 0:1 --expect-hits 1";
    let (outcome, reasons) = measure(&server, arguments);
    assert_eq!(outcome.tally.gets.misses, 20);
    assert_says(&reasons, "below the expected 1");
    let (_, reasons) = measure(&server, "-c 1 -n 200 --ratio 0:1 --expect-hits 0.85");
    assert!(reasons.is_empty(), "{reasons:#?}");
}

#[test]
fn swapped_replies_make_the_run_invalid() {
    let server = Server::start(Fault::SwappedReply);
    let arguments = "-c 1 -n 100 --fill --ratio 0:1 --pipeline 2 --key-pattern S:S";
    let (_, reasons) = measure(&server, arguments);
    assert_says(&reasons, "replies belonged to another request");
    assert_says(
        &reasons,
        "a get of memtier-0 was answered with the key memtier-1",
    );
}

#[test]
fn an_early_close_makes_the_run_invalid() {
    for io in ["auto", "epoll"] {
        let server = Server::start(Fault::EarlyClose);
        let arguments = format!("-c 2 -n 1000 --ratio 1:1 --pipeline 4 --io {io}");
        let (_, reasons) = measure(&server, &arguments);
        assert_says(&reasons, "2 of 2 connections ended before the run did");
        // An end of file, or a reset when the server left requests unread.
        let how = ["the server closed a connection", "a connection broke"];
        assert!(
            reasons
                .iter()
                .any(|reason| how.iter().any(|how| reason.contains(how))),
            "{reasons:#?}"
        );
    }
}

#[test]
fn refused_writes_fail_the_fill_and_the_run() {
    let server = Server::start(Fault::OutOfMemory);
    let (_, reasons) = measure(&server, "-c 2 -n 10 --fill --ratio 0:1");
    assert_says(&reasons, "The fill stored 0 of 100 keys");
    assert_says(&reasons, "out of memory storing object");
}

#[test]
fn a_server_slower_than_the_rate_makes_the_run_invalid() {
    let server = Server::start(Fault::Slow(2000));
    let arguments = "-c 1 --ratio 0:1 --rate 1000 --test-time 0.5";
    let (_, reasons) = measure(&server, arguments);
    assert_says(&reasons, "were answered in time");
}

#[test]
fn requests_never_answered_count_with_their_age() {
    let server = Server::start(Fault::Mute);
    let arguments = "-c 1 --ratio 0:1 --rate 100 --arrival constant --test-time 0.2";
    let (mut outcome, reasons) = measure(&server, arguments);
    assert_says(&reasons, "never answered");
    // On a busy machine the last may not even be sent in time.
    assert_eq!(outcome.tally.unanswered + outcome.tally.unsent, 20);
    let latency = outcome.tally.gets.latency.histogram();
    assert_eq!(latency.len(), 20);
    assert!(latency.min() >= 1_000_000_000, "{}", latency.min());
}

#[test]
fn same_seed_offers_the_same_requests_in_the_same_order() {
    let offered = |seed: u32, pace: &str| {
        let server = Server::start(Fault::None);
        let arguments = format!("-c 1 --seed {seed} --ratio 1:2 {pace}");
        measure(&server, &arguments);
        let mut log = server.log();
        // How far an open loop comes in its time is the machine's affair.
        log.truncate(40);
        assert_eq!(log.len(), 40);
        log
    };
    for pace in ["-n 40 --pipeline 4", "--rate 2000 --test-time 0.2"] {
        let once = offered(1, pace);
        assert_eq!(once, offered(1, pace));
        assert_ne!(once, offered(2, pace));
    }
}

fn binary(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_strata-load"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

#[test]
fn an_invalid_run_exits_with_1_and_says_so_in_text_and_json() {
    let server = Server::start(Fault::WrongByte);
    let json_file = std::env::temp_dir().join(format!("strata-load-{}.json", std::process::id()));
    let output = binary(&format!(
        "-s 127.0.0.1 -p {} -t 1 -c 1 -n 50 --key-maximum 9 --fill --ratio 0:1 --json-out-file {}",
        server.port,
        json_file.display()
    ));
    let json = std::fs::read_to_string(&json_file).unwrap();
    std::fs::remove_file(&json_file).unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("INVALID: "), "{text}");
    assert!(text.contains("Closed loop: "), "{text}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["Strata"]["valid"], false);
    assert_eq!(json["Strata"]["loop"], "closed");
    assert_eq!(json["ALL STATS"]["Gets"]["Count"], 50);
    assert_eq!(json["run information"]["Format version"], 2);
}

#[test]
fn bad_usage_exits_with_2_and_an_unreachable_server_with_1() {
    for (arguments, code, part) in [
        ("--ratio 0:0", 2, "--ratio"),
        ("--no-such-option", 2, "--no-such-option"),
        (
            "-s 127.0.0.1 -p 1 -t 2 -c 1 -n 1",
            1,
            "cannot connect to 127.0.0.1:1",
        ),
    ] {
        let output = binary(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(part), "{arguments}: {text}");
    }
}
