//! A recorded stream of requests, in the public form of Twitter's cache traces: one request a
//! line, `timestamp,key,key size,value size,client id,operation,TTL`, plain, gzip or zstd.
//!
//! Always true: requests for one key are sent in the order recorded, because all of them belong
//! to one stream and, while it has room, to one connection; and a line that cannot be read is refused with its number before anything is sent.
//!
//! A key shorter than its recorded size is lengthened with `_`. Of the operations `gets` reads
//! like `get`; `replace`, `append` and `prepend` write like `set`, since a value that grows could
//! not be checked; `cas` reads and then writes; `decr` counts like `incr`. An exptime beyond 30
//! days, which memcached would take for a date, becomes 30 days.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use strata_protocol::KEY_MAX_BYTES;

use super::keys::Texts;
use super::mix;
use crate::kind::Kind;

/// Most requests of a trace: they are held in memory, 32 bytes each beside the keys.
pub const RECORDS_MAX: usize = 100_000_000;

/// Longest line of a trace in bytes.
const LINE_BYTES_MAX: u64 = 4096;

/// The longest relative exptime of memcached, 30 days.
pub const EXPTIME_MAX: u32 = 30 * 24 * 3600;

/// Largest value a trace may write.
const VALUE_BYTES_MAX: u32 = 1 << 30;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was made, counted from the first. Requests of one second are spread over it.
    pub at_ns: u64,
    /// The number of its key.
    pub key: u32,
    /// Bytes of its value.
    pub value_bytes: u32,
    /// The exptime of a write.
    pub exptime: u32,
    /// What it was.
    pub kind: Kind,
}

/// A whole trace.
#[derive(Debug, Default)]
pub struct Trace {
    records: Vec<Record>,
    texts: Arc<Texts>,
    value_bytes_max: u32,
    /// The places of the records of each stream.
    parts: OnceLock<Vec<Vec<u32>>>,
}

impl PartialEq for Trace {
    fn eq(&self, other: &Self) -> bool {
        self.records == other.records
    }
}

impl Eq for Trace {}

impl Trace {
    /// Reads a file, compressed or not. The error is a sentence with the line's number.
    pub fn open(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let unreadable = |error: std::io::Error| format!("{name}: {error}");
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let start = file.fill_buf().map_err(unreadable)?;
        let reader: Box<dyn Read> = if start.starts_with(&[0x1f, 0x8b]) {
            Box::new(flate2::bufread::MultiGzDecoder::new(file))
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Box::new(ZstdFrames {
                decoder: FrameDecoder::new(),
                source: file,
            })
        } else {
            Box::new(file)
        };
        Self::read(BufReader::new(reader)).map_err(|sentence| format!("{name}: {sentence}"))
    }

    /// Reads lines. The error is a sentence with the line's number.
    pub fn read(mut lines: impl BufRead) -> Result<Self, String> {
        let mut known: HashMap<Box<[u8]>, u32> = HashMap::new();
        let mut texts = Texts::default();
        let mut records = Vec::new();
        let mut value_bytes_max = 0;
        let mut line = Vec::new();
        let mut number = 0_u64;
        let mut first_second = None;
        loop {
            number += 1;
            line.clear();
            let read = (&mut lines)
                .take(LINE_BYTES_MAX)
                .read_until(b'\n', &mut line)
                .map_err(|error| format!("line {number}: {error}"))?;
            if read == 0 {
                break;
            }
            if read as u64 == LINE_BYTES_MAX && line.last() != Some(&b'\n') {
                return Err(format!("line {number}: longer than {LINE_BYTES_MAX} bytes"));
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let (second, key, mut record) =
                parse(text).map_err(|what| format!("line {number}: {what}"))?;
            if records.len() == RECORDS_MAX {
                return Err(format!("line {number}: more than {RECORDS_MAX} requests"));
            }
            let first = *first_second.get_or_insert(second);
            let after = second
                .checked_sub(first)
                .ok_or_else(|| format!("line {number}: {second} is before the first timestamp"))?;
            record.at_ns = after.saturating_mul(1_000_000_000);
            record.key = match known.get(&*key) {
                Some(&index) => index,
                None => {
                    let index = texts.count() as u32;
                    texts.push(&key);
                    known.insert(key, index);
                    index
                }
            };
            value_bytes_max = value_bytes_max.max(record.value_bytes);
            records.push(record);
        }
        if records.is_empty() {
            return Err("there is no request in it".into());
        }
        spread_seconds(&mut records);
        Ok(Self {
            records,
            texts: Arc::new(texts),
            value_bytes_max,
            parts: OnceLock::new(),
        })
    }

    /// How many requests it has.
    pub fn count(&self) -> usize {
        self.records.len()
    }

    /// Its keys.
    pub fn texts(&self) -> Arc<Texts> {
        Arc::clone(&self.texts)
    }

    /// Whole requests a second on average, at least one.
    pub fn rate(&self) -> f64 {
        let last_ns = self.records.last().map_or(0, |record| record.at_ns);
        let rate = self.records.len() as f64 * 1e9 / (last_ns as f64).max(1e9);
        rate.round().max(1.0)
    }

    /// Bytes of its largest value.
    pub fn value_bytes_max(&self) -> u32 {
        self.value_bytes_max
    }

    /// Whether a request of this kind is in it.
    pub fn has(&self, kind: Kind) -> bool {
        self.records.iter().any(|record| record.kind == kind)
    }

    /// Divides the trace among `stream_count` streams when first called. Returns the stream's
    /// name in the other calls.
    pub(super) fn stream(&self, stream: u64, stream_count: u64) -> usize {
        let parts = self.parts.get_or_init(|| {
            let mut parts = vec![Vec::new(); stream_count as usize];
            for (place, record) in self.records.iter().enumerate() {
                let part = mix(u64::from(record.key)) % stream_count;
                parts[part as usize].push(place as u32);
            }
            parts
        });
        assert_eq!(parts.len() as u64, stream_count, "a trace is divided once");
        stream as usize
    }

    /// The places of a stream's requests.
    #[inline]
    pub(super) fn part(&self, stream: usize) -> &[u32] {
        &self.parts.get().expect("the stream was named")[stream]
    }

    /// A request of a stream.
    #[inline]
    pub(super) fn record(&self, stream: usize, index: usize) -> Record {
        self.records[self.part(stream)[index] as usize]
    }

    /// The due times of a stream.
    pub fn due_ns(
        self: &Arc<Self>,
        stream: u64,
        stream_count: u64,
    ) -> impl Iterator<Item = u64> + use<> {
        let stream = self.stream(stream, stream_count);
        let trace = Arc::clone(self);
        (0..self.part(stream).len()).map(move |index| trace.record(stream, index).at_ns)
    }
}

/// A zstd file of any number of frames, one after the other, as `zstd` itself reads it.
struct ZstdFrames<R> {
    decoder: FrameDecoder,
    source: R,
}

impl<R: BufRead> ZstdFrames<R> {
    /// Begins the next frame; `false` at the end of the file.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.source).take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.decoder.can_collect() == 0 {
            if self.decoder.is_finished() {
                if !self.begin()? {
                    return Ok(0);
                }
            } else {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(io::Error::other)?;
            }
        }
        self.decoder.read(out)
    }
}

/// Timestamps are whole seconds: requests that share one are spread over it evenly.
fn spread_seconds(records: &mut [Record]) {
    // A timestamp out of order keeps the time of the request before it.
    let mut latest_ns = 0;
    for record in records.iter_mut() {
        latest_ns = record.at_ns.max(latest_ns);
        record.at_ns = latest_ns;
    }
    for second in records.chunk_by_mut(|one, other| one.at_ns == other.at_ns) {
        let count = second.len() as u64;
        for (index, record) in second.iter_mut().enumerate() {
            record.at_ns += index as u64 * 1_000_000_000 / count;
        }
    }
}

/// The second, the key and the rest of one line.
fn parse(line: &[u8]) -> Result<(u64, Box<[u8]>, Record), String> {
    let mut words = line.split(|&byte| byte == b',');
    let mut word = |what: &str| words.next().ok_or_else(|| format!("the {what} is missing"));
    let second = number(word("timestamp")?, "timestamp")?;
    let key = word("key")?;
    let key_bytes = number(word("key size")?, "key size")? as usize;
    let value_bytes = number(word("value size")?, "value size")?;
    let _client = word("client id")?;
    let operation = word("operation")?;
    let exptime = number(word("TTL")?, "TTL")?;
    if words.next().is_some() {
        return Err("more than seven fields".into());
    }
    if key.is_empty() || key.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
        return Err(format!("{:?} is no key", key.escape_ascii().to_string()));
    }
    let length = key.len().max(key_bytes);
    if length > KEY_MAX_BYTES {
        return Err(format!(
            "a key of {length} bytes, and memcached takes {KEY_MAX_BYTES}"
        ));
    }
    if value_bytes > u64::from(VALUE_BYTES_MAX) {
        return Err(format!("a value of {value_bytes} bytes"));
    }
    let mut text = key.to_vec();
    text.resize(length, b'_');
    let kind = match operation {
        b"get" | b"gets" => Kind::Get,
        b"set" | b"replace" | b"append" | b"prepend" => Kind::Set,
        b"add" => Kind::Add,
        b"cas" => Kind::Cas,
        b"delete" => Kind::Delete,
        b"incr" | b"decr" => Kind::Incr,
        _ => {
            return Err(format!(
                "{:?} is no operation",
                operation.escape_ascii().to_string()
            ));
        }
    };
    let record = Record {
        at_ns: 0,
        key: 0,
        value_bytes: value_bytes as u32,
        exptime: exptime.min(u64::from(EXPTIME_MAX)) as u32,
        kind,
    };
    Ok((second, text.into(), record))
}

fn number(word: &[u8], what: &str) -> Result<u64, String> {
    std::str::from_utf8(word)
        .ok()
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| {
            format!(
                "the {what} {:?} is no number",
                word.escape_ascii().to_string()
            )
        })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LINES: &str = "100,abc,5,30,1,get,0\n100,x,1,10,2,set,60\n\n101,abc,5,30,1,cas,9999999\n";

    #[test]
    fn lines_become_requests_in_their_second() {
        let trace = Trace::read(LINES.as_bytes()).unwrap();
        let expected = [
            (0, 0, 30, 0, Kind::Get),
            (500_000_000, 1, 10, 60, Kind::Set),
            (1_000_000_000, 0, 30, EXPTIME_MAX, Kind::Cas),
        ];
        for (record, expected) in trace.records.iter().zip(expected) {
            let (at_ns, key, value_bytes, exptime, kind) = expected;
            let expected = Record {
                at_ns,
                key,
                value_bytes,
                exptime,
                kind,
            };
            assert_eq!(*record, expected);
        }
        assert_eq!(trace.count(), 3);
        assert_eq!(trace.texts.get(0), b"abc__");
        assert_eq!(trace.value_bytes_max(), 30);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        for (line, part) in [
            ("100,abc,3", "value size is missing"),
            ("x,abc,3,1,1,get,0", "timestamp \"x\""),
            ("100,abc,3,1,1,fetch,0", "\"fetch\" is no operation"),
            ("100,a c,3,1,1,get,0", "no key"),
            ("100,abc,300,1,1,get,0", "300 bytes"),
            ("100,abc,3,1,1,get,0,9", "more than seven"),
            ("99,abc,3,1,1,get,0", "before the first"),
        ] {
            let text = format!("{LINES}{line}\n");
            let sentence = Trace::read(text.as_bytes()).unwrap_err();
            assert!(sentence.starts_with("line 5: "), "{sentence}");
            assert!(sentence.contains(part), "{sentence}");
        }
        assert!(Trace::read(&b"\n\n"[..]).is_err());
    }

    #[test]
    fn gzip_and_zstd_of_any_frames_read_like_the_plain_text() {
        let folder = std::env::temp_dir();
        let path = folder.join(format!("strata-load-trace-{}", std::process::id()));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(LINES.as_bytes()).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(
            LINES.as_bytes(),
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        // The same in two halves, with a frame between them that says it is to be skipped.
        let (front, back) = LINES.as_bytes().split_at(LINES.len() / 2);
        let frame = |part| {
            ruzstd::encoding::compress_to_vec(part, ruzstd::encoding::CompressionLevel::Fastest)
        };
        let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        let frames = [frame(front), skipped, frame(back)].concat();
        let plain = LINES.as_bytes().to_vec();
        for bytes in [plain, gzip.finish().unwrap(), zstd, frames] {
            std::fs::write(&path, bytes).unwrap();
            let trace = Trace::open(&path);
            std::fs::remove_file(&path).unwrap();
            assert_eq!(trace.unwrap(), Trace::read(LINES.as_bytes()).unwrap());
        }
    }

    #[test]
    fn each_key_belongs_to_one_stream_and_keeps_its_order() {
        let text: String = (0..1000)
            .map(|index| format!("{},k{},1,1,1,set,{index}\n", index / 100, index % 37))
            .collect();
        let trace = Trace::read(text.as_bytes()).unwrap();
        let mut owner = HashMap::new();
        let mut count = 0;
        for stream in 0..4 {
            let stream = trace.stream(stream, 4);
            let mut last = HashMap::new();
            for index in 0..trace.part(stream).len() {
                let record = trace.record(stream, index);
                assert_eq!(*owner.entry(record.key).or_insert(stream), stream);
                if let Some(before) = last.insert(record.key, record.exptime) {
                    assert!(before < record.exptime);
                }
                count += 1;
            }
        }
        assert_eq!(count, 1000);
    }
}
