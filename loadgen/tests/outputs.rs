//! The binary's files and exit codes: each file is what its readers expect, and says INVALID when
//! the run is.

mod stub;

use std::path::PathBuf;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use stub::{Fault, Server, binary};

/// A folder of its own that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("strata-load-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind in the folder for temporary files harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn base(server: &Server) -> String {
    format!("-s 127.0.0.1 -p {} -t 1 --key-maximum 99", server.port)
}

fn decoded(text: &str) -> Histogram<u64> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(text.trim())
        .unwrap();
    Deserializer::new().deserialize(&mut &bytes[..]).unwrap()
}

#[test]
fn every_file_of_a_run_tells_the_same_requests() {
    let server = Server::start(Fault::None);
    let folder = Folder::new("files");
    let output = binary(&format!(
        "{} -c 2 -n 300 --fill --ratio 1:2 --json-out-file {} --hdr-file-prefix {} \
         --interval-log {} --report {} --out-file {}",
        base(&server),
        folder.path("a.json"),
        folder.path("a"),
        folder.path("a.hlog"),
        folder.path("a.html"),
        folder.path("a.out"),
    ));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(output.stdout.is_empty());
    assert!(folder.read("a.out").contains("ALL STATS"));

    let json: serde_json::Value = serde_json::from_str(&folder.read("a.json")).unwrap();
    assert_eq!(json["ALL STATS"]["Totals"]["Count"], 600);
    assert_eq!(json["ALL STATS"]["Sets"]["Count"], 200);
    let histogram = &json["ALL STATS"]["Gets"]["Percentile Latencies"]["Histogram log format"];
    let histogram = decoded(histogram["Compressed Histogram"].as_str().unwrap());
    assert_eq!(histogram.len(), 400);
    let series = json["ALL STATS"]["Totals"]["Time-Serie"]
        .as_object()
        .unwrap();
    let counted: u64 = series
        .values()
        .map(|point| point["Count"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, 600);

    for (stem, count) in [
        ("a_FULL_RUN_1", 600),
        ("a_SET_command_run_1", 200),
        ("a_GET_command_run_1", 400),
    ] {
        let spectrum = folder.read(&format!("{stem}.txt"));
        assert!(
            spectrum.contains(&format!("Total count    = {count:12}]")),
            "{spectrum}"
        );
        let log = folder.read(&format!("{stem}.hgrm"));
        let last = log.lines().last().unwrap();
        let fields: Vec<&str> = last.split(',').collect();
        assert_eq!(fields.len(), 4, "{last}");
        assert_eq!(decoded(fields[3]).len(), count);
    }

    let log = folder.read("a.hlog");
    let mut all = 0;
    let mut tagged = 0;
    for entry in IntervalLogIterator::new(log.as_bytes()) {
        if let LogEntry::Interval(interval) = entry.unwrap() {
            let count = decoded(interval.encoded_histogram()).len();
            match interval.tag() {
                None => all += count,
                Some(_) => tagged += count,
            }
        }
    }
    assert_eq!((all, tagged), (600, 600));

    let page = folder.read("a.html");
    assert!(
        page.contains("<svg") && page.contains("--hdr-file-prefix"),
        "{page}"
    );
    for outside in ["src=", "href=", "url(", "@import"] {
        assert!(
            !page.contains(outside),
            "the page refers to something: {outside}"
        );
    }
    assert!(!page.contains("INVALID") && !page.contains("NaN"), "{page}");
}

#[test]
fn an_invalid_run_is_called_so_in_every_report() {
    let server = Server::start(Fault::WrongByte);
    let folder = Folder::new("invalid");
    let output = binary(&format!(
        "{} -c 1 -n 100 --fill --ratio 0:1 --report {} --interval-log {} --json-out-file {} \
         --hdr-file-prefix {}",
        base(&server),
        folder.path("a.html"),
        folder.path("a.hlog"),
        folder.path("a.json"),
        folder.path("a"),
    ));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stdout)
            .unwrap()
            .starts_with("INVALID")
    );
    assert!(folder.read("a.html").contains("<strong>INVALID</strong>"));
    assert!(folder.read("a.hlog").contains("#INVALID: "));
    for name in ["a_FULL_RUN_1.txt", "a_GET_command_run_1.hgrm"] {
        let said = "#[INVALID: The server returned";
        assert!(folder.read(name).contains(said), "{name}");
    }
    let json: serde_json::Value = serde_json::from_str(&folder.read("a.json")).unwrap();
    assert_eq!(json["Strata"]["valid"], false);
}

#[test]
fn windows_and_the_slowest_connection_are_told_in_text_and_json() {
    let server = Server::start(Fault::None);
    let folder = Folder::new("windows");
    let output = binary(&format!(
        "{} -c 3 --ratio 0:1 --rate 1000 --test-time 0.5 --window 0.1 --per-connection --json-out-file {}",
        base(&server),
        folder.path("a.json"),
    ));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(" of 5 windows of 0.1 s"), "{said}");
    assert!(said.contains("Of 3 connections the slowest"), "{said}");
    let json: serde_json::Value = serde_json::from_str(&folder.read("a.json")).unwrap();
    let windows = &json["Strata"]["windows"];
    let each = windows["each"].as_array().unwrap();
    let sum = |of: &dyn Fn(&serde_json::Value) -> u64| each.iter().map(of).sum::<u64>();
    assert_eq!((each.len(), windows["of"].as_u64()), (5, Some(5)));
    assert_eq!(
        sum(&|one| one["requests"].as_u64().unwrap()),
        json["Strata"]["requests"].as_u64().unwrap()
    );
    assert_eq!(
        sum(&|one| u64::from(one["counts"].as_bool().unwrap())),
        windows["counted"].as_u64().unwrap()
    );
    // Fewer than half do not make a middle, and only then is it refused.
    let refused = !windows["invalid"].as_array().unwrap().is_empty();
    assert_eq!(refused, windows["counted"].as_u64().unwrap() < 3);
    let slowest = &json["Strata"]["slowest connection"];
    assert_eq!(slowest["connections"], 3);
    assert!(slowest["p99.00"].as_f64() >= slowest["p50.00"].as_f64());
    // A closed loop without them has neither.
    binary(&format!(
        "{} -c 1 -n 5 --json-out-file {}",
        base(&server),
        folder.path("b.json")
    ));
    let json: serde_json::Value = serde_json::from_str(&folder.read("b.json")).unwrap();
    assert!(json["Strata"]["windows"].is_null());
    assert!(json["Strata"]["slowest connection"].is_null());
}

#[test]
fn repeated_runs_have_a_best_a_worst_and_all_together() {
    let server = Server::start(Fault::None);
    let folder = Folder::new("repeated");
    let output = binary(&format!(
        "{} -c 1 -n 50 -x 3 --print-all-runs --fill --expect-hits 1 --ratio 0:1 \
         --json-out-file {} --hdr-file-prefix {}",
        base(&server),
        folder.path("a.json"),
        folder.path("a"),
    ));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    let json: serde_json::Value = serde_json::from_str(&folder.read("a.json")).unwrap();
    assert!(json.get("ALL STATS").is_none());
    let mut rates = Vec::new();
    for run in 1..=3 {
        let title = format!("RUN #{run} RESULTS");
        assert!(text.contains(&title), "{text}");
        rates.push(json[&title]["Totals"]["Ops/sec"].as_f64().unwrap());
    }
    let rate = |title: &str| json[title]["Totals"]["Ops/sec"].as_f64().unwrap();
    let most = rates.iter().copied().fold(0.0, f64::max);
    assert_eq!(rate("BEST RUN RESULTS"), most);
    assert!(rate("WORST RUN RESULTS") <= rate("BEST RUN RESULTS"));
    let all = &json["AGGREGATED AVERAGE RESULTS (3 runs)"];
    assert_eq!(all["Gets"]["Count"], 150);
    assert!(folder.read("a_FULL_RUN_3.txt").contains("Total count"));
}

#[test]
fn a_sweep_tells_each_of_its_rates() {
    let server = Server::start(Fault::None);
    let folder = Folder::new("sweep");
    let output = binary(&format!(
        "{} -c 2 --fill --ratio 0:1 --sweep 200:600:200 --test-time 0.2 --arrival constant \
         --json-out-file {} --report {}",
        base(&server),
        folder.path("a.json"),
        folder.path("a.html"),
    ));
    // Whether a busy machine makes a run invalid is not the claim.
    assert!(matches!(output.status.code(), Some(0 | 1)));
    let json: serde_json::Value = serde_json::from_str(&folder.read("a.json")).unwrap();
    let points = json["Strata"]["points"].as_array().unwrap();
    let rates: Vec<f64> = points
        .iter()
        .map(|point| point["rate"].as_f64().unwrap())
        .collect();
    assert_eq!(rates, [200.0, 400.0, 600.0]);
    assert!(
        points
            .iter()
            .all(|point| point["p99.00"].as_f64().unwrap() > 0.0)
    );
    assert!(folder.read("a.html").contains("Latency against load"));
}

#[test]
fn a_search_ends_below_what_the_server_can_do() {
    // One connection, two milliseconds a request: 500 a second is the most there is.
    let server = Server::start(Fault::Slow(2000));
    let folder = Folder::new("search");
    let output = binary(&format!(
        "{} -c 1 --fill --ratio 0:1 --search p50<40ms --test-time 0.3 --arrival constant --json-out-file {}",
        base(&server).replace("--key-maximum 99", "--key-maximum 9"),
        folder.path("a.json"),
    ));
    if output.status.code() != Some(0) {
        // The machine was too busy for any rate to hold; the sentence then says so.
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.contains("INVALID: --search: no rate held p50 below 40 ms"),
            "{said}"
        );
        return;
    }
    let json: serde_json::Value = serde_json::from_str(&folder.read("a.json")).unwrap();
    let found = json["Strata"]["open"]["rate"].as_f64().unwrap();
    assert!(found < 550.0, "{found}");
    let points = json["Strata"]["points"].as_array().unwrap();
    assert!(points.iter().any(|point| point["held"] == false));
    let said = json["Strata"]["conclusion"].as_str().unwrap();
    assert!(said.starts_with("p50 below 40 ms held up to"), "{said}");
}

#[test]
fn a_search_that_finds_nothing_still_reports_what_it_saw() {
    let server = Server::start(Fault::None);
    let folder = Folder::new("nothing");
    let output = binary(&format!(
        "{} -c 1 --ratio 0:1 --search p50<1ns --test-time 0.01 --json-out-file {} --report {}",
        base(&server),
        folder.path("a.json"),
        folder.path("a.html"),
    ));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let sentence = "INVALID: --search: no rate held p50 below 0.000001 ms; at ";
    assert!(text.contains(sentence), "{text}");
    assert!(text.contains("SEARCH") && text.contains("Totals"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&folder.read("a.json")).unwrap();
    assert_eq!(json["Strata"]["valid"], false);
    let points = json["Strata"]["points"].as_array().unwrap();
    let lowest = points.iter().map(|point| point["rate"].as_f64().unwrap());
    let lowest = lowest.fold(f64::INFINITY, f64::min);
    assert_eq!(json["Strata"]["open"]["rate"], lowest);
    assert!(folder.read("a.html").contains("<strong>INVALID</strong>"));
}

/// The names of a value's members, those of its members, and what kind of value each has.
fn layout(value: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    use serde_json::Value;
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                layout(member, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(members) => {
            if let Some(member) = members.first() {
                layout(member, &format!("{path}[]"), found);
            }
        }
        Value::Null => found.push(format!("{path} nothing")),
        Value::String(_) => found.push(format!("{path} text")),
        Value::Bool(_) => found.push(format!("{path} truth")),
        Value::Number(number) if number.is_f64() => found.push(format!("{path} fraction")),
        Value::Number(_) => found.push(format!("{path} number")),
    }
}

#[test]
fn a_reader_of_memtiers_json_finds_everything_it_knows() {
    /// What memtier_benchmark 2.2 writes for such a run, as lines of `layout`.
    const MEMTIERS: &str = include_str!("memtier_layout.txt");
    let server = Server::start(Fault::None);
    let folder = Folder::new("layout");
    binary(&format!(
        "{} -c 2 --ratio 1:3 --test-time 0.2 --key-minimum 1 --print-percentiles 50,95,99 \
         --json-out-file {}",
        base(&server),
        folder.path("a.json"),
    ));
    let json: serde_json::Value = serde_json::from_str(&folder.read("a.json")).unwrap();
    let mut found = Vec::new();
    layout(&json, "", &mut found);
    // This run takes part of a second.
    let found: Vec<String> = found
        .iter()
        .map(|line| line.replace("/Seconds fraction", "/Seconds number"))
        .map(|line| line.replace("/test_time fraction", "/test_time number"))
        .collect();
    let missing: Vec<&str> = MEMTIERS
        .lines()
        .filter(|line| !line.starts_with('#') && !found.iter().any(|own| own == line))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let asked_for = "/ALL STATS/Totals/Time-Serie/0/p95.00 fraction";
    assert!(found.iter().any(|own| own == asked_for), "{found:#?}");
}

#[test]
fn a_result_that_could_not_be_kept_is_refused_before_the_run() {
    let server = Server::start(Fault::None);
    let folder = Folder::new("unkept");
    for option in [
        "--out-file",
        "--json-out-file",
        "--report",
        "--interval-log",
        "--hdr-file-prefix",
    ] {
        let path = folder.path("no-such-folder/a");
        let output = binary(&format!("{} -c 1 -n 5 {option} {path}", base(&server)));
        assert_eq!(output.status.code(), Some(2), "{option}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("{option}: ")), "{said}");
    }
    assert!(server.log().is_empty());
    // A run that fails leaves what was there, and nothing new.
    std::fs::write(folder.0.join("old.json"), "old").unwrap();
    for name in ["old.json", "new.json"] {
        let path = folder.path(name);
        let output = binary(&format!(
            "-s 127.0.0.1 -p 1 -t 1 -c 1 --json-out-file {path}"
        ));
        assert_eq!(output.status.code(), Some(1));
    }
    assert_eq!(folder.read("old.json"), "old");
    assert!(!folder.0.join("new.json").exists());
}

#[test]
fn the_configuration_is_shown_before_the_run() {
    let output = binary("-s 127.0.0.1 -p 1 -t 2 -c 3 -n 7 --show-config --preset twitter-52");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    for line in [
        "threads = 2",
        "clients = 3",
        "requests = 7",
        "ops = get:9100,add:400,cas:200",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "no {line:?} in {text}"
        );
    }
}

#[test]
fn bad_input_is_refused_with_the_name_of_its_option_or_line() {
    let folder = Folder::new("bad");
    std::fs::write(folder.0.join("trace.csv"), "1,a,1,1,1,get,0\n1,a,1\n").unwrap();
    std::fs::write(
        folder.0.join("load.toml"),
        "about = \"x\"\n[load]\nkeys = \"many\"\n",
    )
    .unwrap();
    let trace = format!("--trace {}", folder.path("trace.csv"));
    let file = format!("--workload {}", folder.path("load.toml"));
    for (arguments, code, part) in [
        (trace.as_str(), 2, "line 2: the value size is missing"),
        (file.as_str(), 2, "line 3"),
        ("--select-db 1", 2, "--select-db: is for Redis alone"),
        ("--wait-ratio=1:1", 2, "--wait-ratio"),
        ("--piepline 4", 2, "--pipeline"),
        ("-P memcache_binary", 2, "memcache_meta"),
        (
            "-s no-such-host.invalid -c 1 -t 1 -n 1",
            1,
            "--server: cannot connect to no-such-host.invalid:11211",
        ),
        (
            "-S /no/such/socket -c 1 -t 1 -n 1",
            1,
            "--unix-socket: cannot connect to /no/such/socket",
        ),
    ] {
        let output = binary(arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
        assert!(text.contains(part), "{arguments}: {text}");
    }
}

#[test]
fn an_interrupted_run_still_reports() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Command, Stdio};

    let server = Server::start(Fault::None);
    let arguments = format!("{} -c 1 --test-time 600 --announce", base(&server));
    let mut child = Command::new(env!("CARGO_BIN_EXE_strata-load"))
        .args(arguments.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    let begun = told.any(|line| line.unwrap() == "phase: Measuring");
    assert!(begun, "it ended before it measured");
    // Something has to be there to report.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while server.log().len() < 100 {
        assert!(std::time::Instant::now() < deadline, "no load came");
        std::thread::yield_now();
    }
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{text}");
    assert!(text.contains("Interrupted before its end."), "{text}");
    assert!(text.contains("Totals"), "{text}");
}
