//! `cargo xtask held`: how many items a server holds in its memory, beside a real memcached.
//!
//! Each server is filled far past its memory over one connection; then every key is asked for, and what comes back is
//! counted and compared. Memory is the resident memory of the process, so everything is in the figure: headers, table,
//! notes, unused tails, buffers, and the program itself.
//!
//! Always true: an item counts only if its whole value is the one its key was stored with.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::process::{Memcached, Server};
use crate::record_file::{self, Origin};
use crate::workspace::{Workspace, find_program};

/// Keys are numbers of so many digits.
const KEY_BYTES: usize = 16;
/// Filled with this many times what the memory could hold if an item cost only its key and value.
const TIMES_OVER: u64 = 3;
/// Keys to one `get`.
const GET_KEYS: u64 = 100;
/// Sets written at once.
const SET_BATCH: u64 = 512;
/// One day, which no run lasts.
const TTL_SECONDS: u32 = 86_400;
/// A server that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to fill, and beside whom.
#[derive(Args)]
pub struct Options {
    /// Memory of each server (`-m`), in MiB
    #[arg(long, default_value_t = 1024)]
    memory: u64,
    /// Bytes of the values, one run for each
    #[arg(long, value_delimiter = ',', default_values_t = [32, 64, 128, 512])]
    values: Vec<usize>,
    /// The memcached to compare with [default: from PATH]
    #[arg(long, value_name = "PATH")]
    memcached: Option<PathBuf>,
    /// Print the table only
    #[arg(long)]
    no_record: bool,
}

/// What one server held.
#[derive(Serialize)]
struct Held {
    server: String,
    value_bytes: usize,
    stored: u64,
    held: u64,
    resident_kib: u64,
}

impl Held {
    fn per_mib(&self) -> f64 {
        self.held as f64 * 1024.0 / self.resident_kib as f64
    }

    /// Bytes an item costs besides its key and value.
    fn overhead(&self) -> f64 {
        self.resident_kib as f64 * 1024.0 / self.held as f64 - (KEY_BYTES + self.value_bytes) as f64
    }
}

#[derive(Serialize)]
struct Record {
    #[serde(flatten)]
    origin: Origin,
    memory_mib: u64,
    runs: Vec<Held>,
}

/// Fills, counts, prints, and writes the record.
pub fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let memcached = match &options.memcached {
        Some(path) => path.clone(),
        None => find_program("memcached")
            .context("no memcached on the PATH: name one with --memcached")?,
    };
    let memcached = Memcached::at(&memcached)?;
    let [major, minor, patch] = memcached.version;
    let strata = workspace.build_server(true)?;
    let servers = [
        ("strata".to_owned(), vec![strata.display().to_string()]),
        (
            format!("memcached {major}.{minor}.{patch}"),
            memcached.command(),
        ),
    ];
    let mut runs = Vec::new();
    for &value_bytes in &options.values {
        ensure!(
            value_bytes >= KEY_BYTES,
            "--values: a value repeats its key and so has {KEY_BYTES} bytes at least, not {value_bytes}"
        );
        for (name, command) in &servers {
            let held = fill_and_count(name, command, options.memory, value_bytes)
                .with_context(|| format!("{name} with values of {value_bytes} bytes"))?;
            eprintln!(
                "{name}: {} of {} items of {value_bytes} B, {} KiB resident",
                held.held, held.stored, held.resident_kib
            );
            runs.push(held);
        }
    }
    let record = Record {
        origin: Origin::here(workspace)?,
        memory_mib: options.memory,
        runs,
    };
    let text = markdown(&record)?;
    println!("{text}");
    if !options.no_record {
        record_file::write(workspace, &record.origin, Some("held"), &record, &text)?;
    }
    Ok(())
}

fn fill_and_count(
    name: &str,
    command: &[String],
    memory_mib: u64,
    value_bytes: usize,
) -> Result<Held> {
    let memory = memory_mib.to_string();
    let arguments = ["-m", &memory, "-t", "1"].map(str::to_owned);
    let server = Server::start(command, &arguments)?;
    let stream = TcpStream::connect(server.address())?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let stored = TIMES_OVER * (memory_mib << 20) / (KEY_BYTES + value_bytes) as u64;
    let mut client = Client {
        input: BufReader::with_capacity(1 << 18, stream.try_clone()?),
        output: stream,
    };
    client.fill(stored, value_bytes)?;
    let held = client.count(stored, value_bytes)?;
    Ok(Held {
        server: name.to_owned(),
        value_bytes,
        stored,
        held,
        resident_kib: server.resident_kib()?,
    })
}

/// One connection that speaks the classic text protocol.
struct Client {
    input: BufReader<TcpStream>,
    output: TcpStream,
}

impl Client {
    /// Stores items `0..count`, and sees to it that none was refused.
    fn fill(&mut self, count: u64, value_bytes: usize) -> Result<()> {
        let mut batch = Vec::new();
        let padding = vec![b'v'; value_bytes - KEY_BYTES];
        for index in 0..count {
            write!(
                batch,
                "set {index:016} 0 {TTL_SECONDS} {value_bytes} noreply\r\n{index:016}"
            )?;
            batch.extend_from_slice(&padding);
            batch.extend_from_slice(b"\r\n");
            if (index + 1) % SET_BATCH == 0 || index + 1 == count {
                // A refusal is answered even here, so nothing may come before the answer to `mn`.
                batch.extend_from_slice(b"mn\r\n");
                self.output.write_all(&batch)?;
                batch.clear();
                let line = self.line()?;
                ensure!(line == "MN", "a set was answered with {line:?}");
            }
        }
        Ok(())
    }

    /// How many of the items `0..count` have their value.
    fn count(&mut self, count: u64, value_bytes: usize) -> Result<u64> {
        let mut held = 0;
        let mut value = vec![0; value_bytes + 2];
        let mut first = 0;
        while first < count {
            let end = count.min(first + GET_KEYS);
            let mut request = String::from("get");
            for index in first..end {
                write!(request, " {index:016}")?;
            }
            request.push_str("\r\n");
            self.output.write_all(request.as_bytes())?;
            loop {
                let line = self.line()?;
                if line == "END" {
                    break;
                }
                let mut words = line.split(' ');
                let (Some("VALUE"), Some(key), Some("0"), Some(length), None) = (
                    words.next(),
                    words.next(),
                    words.next(),
                    words.next(),
                    words.next(),
                ) else {
                    bail!("a get was answered with {line:?}");
                };
                ensure!(
                    length.parse() == Ok(value_bytes),
                    "{key} has {length} bytes"
                );
                self.input.read_exact(&mut value)?;
                ensure!(
                    value.starts_with(key.as_bytes()) && value.ends_with(b"\r\n"),
                    "{key} has the value of another key"
                );
                held += 1;
            }
            first = end;
        }
        Ok(held)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.input.read_line(&mut line)?;
        ensure!(line.ends_with("\r\n"), "the server hung up");
        line.truncate(line.len() - 2);
        Ok(line)
    }
}

fn markdown(record: &Record) -> Result<String> {
    let mut text = record.origin.heading();
    writeln!(
        text,
        "Each server has `-m {} -t 1`, is filled {TIMES_OVER} times over with items of one ttl and keys of {KEY_BYTES} \
         bytes, and is then asked for every key. *Overhead* is resident memory of the process, less keys and values, for \
         each item that was read back.\n",
        record.memory_mib
    )?;
    writeln!(
        text,
        "| value | server | items held | resident MiB | overhead B/item | items/MiB | ÷ memcached |"
    )?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for run in &record.runs {
        let peer = record
            .runs
            .iter()
            .find(|one| one.value_bytes == run.value_bytes && one.server.starts_with("memcached"))
            .context("memcached was measured too")?;
        writeln!(
            text,
            "| {} B | {} | {} | {:.1} | {:.1} | {:.0} | {:.2} |",
            run.value_bytes,
            run.server,
            run.held,
            run.resident_kib as f64 / 1024.0,
            run.overhead(),
            run.per_mib(),
            run.per_mib() / peer.per_mib(),
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(server: &str, held: u64) -> Held {
        Held {
            server: server.into(),
            value_bytes: 32,
            stored: 10 * held,
            held,
            resident_kib: 1024,
        }
    }

    #[test]
    fn overhead_is_all_that_is_not_key_or_value() {
        let run = held("strata", 1 << 14);
        assert_eq!(run.overhead(), 64.0 - 48.0);
        assert_eq!(run.per_mib(), 16384.0);
    }

    #[test]
    fn the_table_names_each_ratio() {
        let record = Record {
            origin: Origin::default(),
            memory_mib: 1,
            runs: vec![held("strata", 16_000), held("memcached 1.6.45", 8_000)],
        };
        let text = markdown(&record).expect("a table");
        assert!(
            text.contains("| 32 B | strata | 16000 | 1.0 | 17.5 | 16000 | 2.00 |"),
            "{text}"
        );
    }
}
