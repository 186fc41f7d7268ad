//! The `memcache` crate as its users use it, in either protocol: every command, random data of every size, threads.
//!
//! A check that fails panics, so that the program ends with an error at the first thing that is wrong. The seed of the
//! random data is printed.

use std::collections::HashMap;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use memcache::{Client, CommandError, MemcacheError, ToMemcacheValue};

/// Bytes of the largest value that fits the default item size together with a key.
const LARGEST_VALUE: usize = (1 << 20) - 512;

/// Which server, which protocol and which random data.
#[derive(Clone, Copy)]
struct Options {
    port: u16,
    seed: u64,
    binary: bool,
}

impl Options {
    fn read() -> Self {
        let mut words = std::env::args().skip(1);
        let (mut port, mut seed, mut binary) = (None, None, false);
        let number = |word: Option<String>| word.and_then(|word| word.parse::<u64>().ok());
        while let Some(word) = words.next() {
            match word.as_str() {
                "--port" => port = number(words.next()),
                "--seed" => seed = number(words.next()),
                "--binary" => binary = true,
                _ => panic!("{word} is no option; there are --port, --seed and --binary"),
            }
        }
        let port = port.and_then(|port| u16::try_from(port).ok());
        Self {
            port: port.expect("--port PORT"),
            seed: seed.unwrap_or_else(|| fastrand::u64(..)),
            binary,
        }
    }

    /// A client of so many connections.
    fn connect(&self, connections: u32) -> Client {
        let protocol = if self.binary { "binary" } else { "ascii" };
        let url = format!(
            "memcache://127.0.0.1:{}?timeout=20&protocol={protocol}",
            self.port
        );
        Client::with_pool_size(url, connections).expect("a connection")
    }

    fn rng(&self) -> Rng {
        Rng::with_seed(self.seed)
    }
}

/// One check after another of what belongs together.
type Test = fn(Options);

fn main() {
    let options = Options::read();
    println!("seed {}", options.seed);
    let tests: [(&str, Test); 9] = [
        ("stores", stores),
        ("types", types),
        ("counting", counting),
        ("compare_and_swap", compare_and_swap),
        ("lifetimes", lifetimes),
        ("sizes", sizes),
        ("random_data", random_data),
        ("threads", threads),
        ("managing", managing),
    ];
    for (name, test) in tests {
        let start = Instant::now();
        test(options);
        println!("  {name}: {:.2} s", start.elapsed().as_secs_f64());
    }
}

/// What the client makes of an answer that is not the wanted one.
fn refusal<T>(outcome: Result<T, MemcacheError>) -> Option<CommandError> {
    match outcome {
        Ok(_) => None,
        Err(MemcacheError::CommandError(error)) => Some(error),
        Err(other) => panic!("{other}"),
    }
}

fn text(client: &Client, key: &str) -> Option<String> {
    client.get(key).expect("get")
}

fn stores(options: Options) {
    let client = options.connect(1);
    client.set("k", "v", 0).expect("set");
    assert_eq!(text(&client, "k").as_deref(), Some("v"));
    // In text the client takes NOT_STORED for a success; the item shows that it was none.
    let exists = options.binary.then_some(CommandError::KeyExists);
    assert_eq!(refusal(client.add("k", "x", 0)), exists, "add over an item");
    assert_eq!(refusal(client.add("new", "x", 0)), None, "add");
    assert_eq!(refusal(client.replace("k", "w", 0)), None, "replace");
    let missing = options.binary.then_some(CommandError::KeyNotFound);
    assert_eq!(
        refusal(client.replace("missing", "w", 0)),
        missing,
        "replace of nothing"
    );
    client.append("k", "-end").expect("append");
    client.prepend("k", "start-").expect("prepend");
    assert_eq!(text(&client, "k").as_deref(), Some("start-w-end"));
    let not_stored = options.binary.then_some(CommandError::Unknown(5));
    assert_eq!(
        refusal(client.append("missing", "x")),
        not_stored,
        "append to nothing"
    );
    assert_eq!(text(&client, "missing"), None);
    assert!(client.delete("k").expect("delete"));
    assert!(!client.delete("k").expect("delete of nothing"));
    assert_eq!(text(&client, "k"), None);
}

fn types(options: Options) {
    let client = options.connect(1);
    client.set("flag", true, 0).expect("set");
    assert_eq!(client.get("flag").expect("get"), Some(true));
    client.set("float", -0.25, 0).expect("set");
    assert_eq!(client.get("float").expect("get"), Some(-0.25));
    let bytes: &[u8] = b"\0\r\nEND\r\n\xff";
    client.set("bytes", bytes, 0).expect("set");
    assert_eq!(
        client.get::<Vec<u8>>("bytes").expect("get").as_deref(),
        Some(bytes)
    );
    client.set("text", "schl\u{fc}ssel", 0).expect("set");
    assert_eq!(text(&client, "text").as_deref(), Some("schl\u{fc}ssel"));
    // The client's own types all have flags of 0.
    client
        .set("marked", Marked(bytes, 0xdead_beef), 0)
        .expect("set");
    let found: Option<(Vec<u8>, u32)> = client.get("marked").expect("get");
    assert_eq!(found, Some((bytes.to_vec(), 0xdead_beef)));
}

/// A type of the user's: bytes with flags.
struct Marked<'a>(&'a [u8], u32);

impl<W: Write> ToMemcacheValue<W> for Marked<'_> {
    fn get_flags(&self) -> u32 {
        self.1
    }

    fn get_length(&self) -> usize {
        self.0.len()
    }

    fn write_to(&self, stream: &mut W) -> io::Result<()> {
        stream.write_all(self.0)
    }
}

fn counting(options: Options) {
    let client = options.connect(4);
    client.set("n", 10, 0).expect("set");
    assert_eq!(client.increment("n", 5).expect("increment"), 15);
    assert_eq!(client.decrement("n", 20).expect("decrement"), 0);
    assert_eq!(
        client.increment("n", u64::MAX).expect("increment"),
        u64::MAX
    );
    assert_eq!(client.increment("n", 2).expect("increment wraps"), 1);
    // In binary the client asks for a counter of 0 where there is none.
    if options.binary {
        assert_eq!(client.increment("begun", 5).expect("increment"), 0);
    } else {
        let outcome = refusal(client.increment("begun", 5));
        assert_eq!(outcome, Some(CommandError::KeyNotFound));
    }
    client.set("word", "abc", 0).expect("set");
    assert!(
        client.increment("word", 1).is_err(),
        "a word was counted with"
    );
    client.set("sum", 0, 0).expect("set");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    client.increment("sum", 3).expect("increment");
                }
            });
        }
    });
    assert_eq!(client.get("sum").expect("get"), Some(6000_u64));
}

fn compare_and_swap(options: Options) {
    let client = options.connect(4);
    let read = |key: &str| -> (u64, u64) {
        let found: Option<(u64, u32, Option<u64>)> = client.get(key).expect("get");
        let (value, _, unique) = found.expect("an item");
        (value, unique.expect("a unique"))
    };
    client.set("c", 1, 0).expect("set");
    let (value, unique) = read("c");
    assert_eq!(value, 1);
    assert!(client.cas("c", 2, 0, unique).expect("cas"));
    assert!(!client.cas("c", 3, 0, unique).expect("cas, old unique"));
    assert_eq!(read("c").0, 2);
    assert!(!client.cas("missing", 3, 0, unique).expect("cas of nothing"));
    client.set("race", 0, 0).expect("set");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    loop {
                        let (value, unique) = read("race");
                        if client.cas("race", value + 1, 0, unique).expect("cas") {
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(read("race").0, 200, "increments by cas");
}

fn lifetimes(options: Options) {
    let client = options.connect(1);
    client.set("short", "v", 1).expect("set");
    client.set("long", "v", 1000).expect("set");
    // The clock may strike before the touch.
    client.set("kept", "v", 3).expect("set");
    assert!(client.touch("kept", 1000).expect("touch"));
    assert!(!client.touch("missing", 1000).expect("touch of nothing"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while text(&client, "short").is_some() {
        assert!(Instant::now() < deadline, "short is still there");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(text(&client, "kept").as_deref(), Some("v"));
    assert_eq!(text(&client, "long").as_deref(), Some("v"));
}

fn sizes(options: Options) {
    let client = options.connect(1);
    let mut rng = options.rng();
    for size in [
        0,
        1,
        1023,
        1024,
        1025,
        16_384,
        65_536,
        524_288,
        LARGEST_VALUE,
    ] {
        let value = bytes(&mut rng, size);
        client.set("size", value.as_slice(), 0).expect("set");
        let found: Option<Vec<u8>> = client.get("size").expect("get");
        assert!(found == Some(value), "a value of {size} bytes");
    }
    let large = vec![0_u8; 2 << 20];
    let outcome = options.connect(1).set("size", large.as_slice(), 0);
    assert!(outcome.is_err(), "two mebibytes were stored");
    assert_eq!(text(&client, "size"), None, "after a set that failed");
}

/// 3000 random keys and values, stored one by one, read one by one and a hundred at a time.
fn random_data(options: Options) {
    let client = options.connect(1);
    let mut rng = options.rng();
    let mut model = HashMap::new();
    while model.len() < 3000 {
        let key = random_key(&mut rng);
        let value = random_value(&mut rng);
        client.set(&key, value.as_slice(), 0).expect("set");
        model.insert(key, value);
    }
    let keys: Vec<&str> = model.keys().map(String::as_str).collect();
    let mut found = 0;
    for batch in keys.chunks(100) {
        let values: HashMap<String, Vec<u8>> = client.gets(batch).expect("gets");
        for (key, value) in &values {
            assert!(model[key] == *value, "a wrong value of {key}");
        }
        found += values.len();
    }
    println!(
        "    {} of {} were evicted",
        model.len() - found,
        model.len()
    );
    assert!(found > model.len() / 2, "more than half is gone: {found}");
    for key in &keys[..500] {
        let value: Option<Vec<u8>> = client.get(key).expect("get");
        assert!(
            value.is_none_or(|value| value == model[*key]),
            "a wrong value of {key}"
        );
    }
}

/// Each thread's own keys, all at once, through one pool.
fn threads(options: Options) {
    let client = options.connect(8);
    thread::scope(|scope| {
        for number in 0..8_u64 {
            let client = &client;
            scope.spawn(move || {
                let mut rng = Rng::with_seed(options.seed ^ number);
                for step in 0..300 {
                    let key = format!("t{number}-{}", step % 50);
                    let length = rng.usize(..2000);
                    let value = bytes(&mut rng, length);
                    client.set(&key, value.as_slice(), 0).expect("set");
                    let found: Option<Vec<u8>> = client.get(&key).expect("get");
                    assert!(found == Some(value), "{key} has another thread's value");
                }
            });
        }
    });
}

fn managing(options: Options) {
    let client = options.connect(1);
    assert!(!client.version().expect("version")[0].1.is_empty());
    // In text the client reads one line of the statistics and takes the others for later answers.
    if options.binary {
        let stats = client.stats().expect("stats");
        assert_ne!(stats[0].1["curr_items"], "0");
    }
    client.flush_with_delay(1000).expect("flush with a delay");
    assert_eq!(text(&client, "long").as_deref(), Some("v"));
    client.flush().expect("flush");
    assert_eq!(text(&client, "long"), None);
}

fn bytes(rng: &mut Rng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rng.fill(&mut bytes);
    bytes
}

/// A key of 1 to 250 printable characters.
fn random_key(rng: &mut Rng) -> String {
    let length = [1, 8, 16, 32, 100, 250][rng.usize(..6)];
    (0..length).map(|_| rng.alphanumeric()).collect()
}

/// A value of random bytes: mostly small, now and then up to a mebibyte, and sometimes empty.
fn random_value(rng: &mut Rng) -> Vec<u8> {
    let length = match rng.u32(..1000) {
        0..50 => 0,
        50..950 => rng.usize(1..1000),
        950..995 => rng.usize(1000..100_000),
        _ => rng.usize(100_000..LARGEST_VALUE),
    };
    bytes(rng, length)
}
