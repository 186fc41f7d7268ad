//! Runs against a small server that can misbehave on purpose: whatever it does wrong has to end
//! in the sentence that says so.

mod stub;

use std::sync::atomic::{AtomicBool, Ordering};

use strata_load::kind::Kind;
use strata_load::run::run;
use strata_load::windows::Figures;
use stub::{Fault, Server, assert_says, binary, measure, plan};

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
            assert_eq!(tally.count(), expected, "{arguments}");
        }
    }
}

/// How often a claim about time is tried before it counts as wrong: a machine that does something
/// else for a while can spoil one run.
const ATTEMPTS: usize = 8;

#[test]
fn a_stall_shows_from_due_to_done_and_not_from_sent_to_done() {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let server = Server::start(Fault::Stall);
        let arguments =
            "-c 4 --ratio 0:1 --rate 1000 --arrival constant --pipeline 1 --test-time 1.7";
        let (mut outcome, _) = measure(&server, arguments);
        if outcome.tally.unsent > 0 {
            // It began so late that it ended in a stall. What was never sent counts with its age,
            // whatever the latency of the others runs from, and would prove nothing.
            seen.push((0.0, 0.0));
            continue;
        }
        let gets = outcome.tally.of_mut(Kind::Get);
        let p99_ms = |latencies: &hdrhistogram::Histogram<u64>| {
            latencies.value_at_quantile(0.99) as f64 / 1e6
        };
        let due_ms = p99_ms(gets.latency.histogram());
        let sent_ms = p99_ms(gets.service.histogram());
        // Of 1700 requests 100 are due during the stall in the midst of the run, so one in a
        // hundred of all waits for more than 80 of its 100 ms: noise can only add to that.
        assert!(due_ms >= 80.0, "due to done: {due_ms} ms");
        // Sent are only 4 of 1000 each stall, one per connection.
        if sent_ms < due_ms / 3.0 {
            return;
        }
        seen.push((due_ms, sent_ms));
    }
    panic!("the stall shows in the service too: {seen:?}");
}

#[test]
fn a_stall_shows_in_the_windows_it_strikes_and_not_in_the_middle_one() {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let server = Server::start(Fault::Stall);
        let arguments = "-c 4 --ratio 0:1 --rate 2000 --arrival constant --test-time 2 \
             --window 0.1 --per-connection";
        let (mut outcome, _) = measure(&server, arguments);
        let figures = outcome.tally.windows.figures();
        assert_eq!(figures.len(), 20);
        // There are one or two stalls in two seconds, and each lies in two windows at most.
        let longest = |one: &Figures| one.latency_ns[2];
        assert!(figures.iter().any(|one| longest(one) > 80_000_000));
        let slowest = outcome.tally.fairness.slowest().expect("connections");
        // One in twenty of each connection's requests is due in a stall.
        assert_eq!(slowest.of, 4);
        assert!(slowest.p99_ns >= 50_000_000, "{slowest:?}");
        let whole = outcome.tally.of_mut(Kind::Get).latency.histogram();
        assert!(whole.value_at_quantile(0.99) > 50_000_000);
        // Of all windows: in how many the generator is in time is the machine's affair.
        let mut all: Vec<u64> = figures.iter().map(longest).collect();
        all.sort_unstable();
        if all[all.len() / 2] < 40_000_000 {
            return;
        }
        seen.push(all);
    }
    panic!("the stall shows in the middle window too: {seen:?}");
}

#[test]
fn percentiles_of_a_server_of_known_delays_are_those_delays() {
    let mut seen = Vec::new();
    for _ in 0..ATTEMPTS {
        let server = Server::start(Fault::Steps);
        let arguments = "-c 4 --ratio 0:1 -n 100 --pipeline 1";
        let (mut outcome, reasons) = measure(&server, arguments);
        assert!(reasons.is_empty(), "{reasons:#?}");
        let latency = outcome.tally.of_mut(Kind::Get).latency.histogram();
        assert_eq!(latency.len(), 400);
        let at = |quantile: f64| latency.value_at_quantile(quantile) as f64 / 1e6;
        let found = [at(0.5), at(0.95), at(0.995)];
        let delays = [2.0, 20.0, 60.0];
        // A delay is never shorter than asked; the histogram rounds to 3 digits.
        let above = found
            .iter()
            .zip(delays)
            .all(|(found, delay)| *found >= delay * 0.999);
        assert!(above, "{found:?}");
        // How much longer a sleep takes is the machine's affair, but not half as long again.
        if found
            .iter()
            .zip(delays)
            .all(|(found, delay)| *found < delay * 1.5 + 1.0)
        {
            return;
        }
        seen.push(found);
    }
    panic!("{seen:?}");
}

#[test]
fn a_wrong_byte_makes_the_run_invalid() {
    let server = Server::start(Fault::WrongByte);
    // Found in the sample already.
    let (_, reasons) = measure(&server, "-c 2 -n 100 --fill --ratio 0:1");
    let ends_there = |reason: &String| reason.ends_with("wrong values.");
    assert!(reasons.iter().any(ends_there), "{reasons:#?}");
    assert_says(&reasons, "has a wrong byte");
    // What this run has not written may be another's.
    let (_, reasons) = measure(&server, "-c 2 -n 100 --ratio 0:1 --data-verify");
    assert_says(&reasons, "wrong values. If something else wrote them");
}

#[test]
fn a_missing_item_misses_the_expected_hit_ratio() {
    let server = Server::start(Fault::MissingItem);
    let arguments = "-c 1 -n 200 --fill --ratio 0:1 --expect-hits 1";
    let (outcome, reasons) = measure(&server, arguments);
    assert_eq!(outcome.tally.of(Kind::Get).misses, 20);
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
        // Of a closed loop they are in no latency.
        let aged = reasons.iter().any(|reason| reason.contains("age"));
        assert!(!aged, "{reasons:#?}");
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
fn an_interrupted_fill_tells_what_it_has_stored() {
    let server = Server::start(Fault::Slow(2000));
    let plan = plan(&server, "-c 1 -n 10 --fill");
    let stop = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while server.log().len() < 20 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        run(&plan, &stop, &|_| {}).unwrap()
    });
    assert!(outcome.interrupted);
    let filled = outcome.filled.unwrap();
    assert!((1..100).contains(&filled), "{filled}");
    assert!(!outcome.fill_time.is_zero());
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
    assert_says(
        &reasons,
        "never answered; in the latencies they count with their age",
    );
    // On a busy machine the last may not even be sent in time.
    assert_eq!(outcome.tally.unanswered + outcome.tally.unsent, 20);
    let latency = outcome.tally.of_mut(Kind::Get).latency.histogram();
    assert_eq!(latency.len(), 20);
    assert!(latency.min() >= 1_000_000_000, "{}", latency.min());
}

#[test]
fn a_server_that_falls_silent_is_given_up_where_no_time_ends_the_wait() {
    let path = std::env::temp_dir().join(format!("strata-load-silence-{}", std::process::id()));
    std::fs::write(&path, "0,key,3,10,1,get,0\n".repeat(5)).unwrap();
    let trace = format!("--trace {} --trace-speed 1", path.display());
    for (length, owed) in [("-n 10 --pipeline 3", 6), (&*trace, 5)] {
        let server = Server::start(Fault::Mute);
        let arguments = format!("-c 2 --silence 0.2 {length}");
        let (_, reasons) = measure(&server, &arguments);
        let said = format!("the server said nothing for 200ms and owed {owed} replies");
        assert_says(&reasons, &said);
        assert_says(&reasons, &format!("{owed} requests were never answered"));
    }
    std::fs::remove_file(&path).unwrap();
    let server = Server::start(Fault::Mute);
    let plan = plan(&server, "-c 1 --test-time 60 --fill --silence 0.2");
    let failed = run(&plan, &AtomicBool::new(false), &|_| {});
    let sentence = failed.map(drop).unwrap_err();
    assert!(
        sentence.starts_with("--fill: the server said nothing"),
        "{sentence}"
    );
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
fn a_server_without_tls_is_told_with_the_option() {
    let server = Server::start(Fault::None);
    let port = server.port;
    let output = binary(&format!(
        "-s 127.0.0.1 -p {port} -t 1 -c 1 -n 1 --tls --tls-skip-verify"
    ));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    let sentence = format!("--tls: no handshake with 127.0.0.1:{port}: ");
    assert!(text.contains(&sentence), "{text}");
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
