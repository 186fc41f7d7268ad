//! Bytes of a stranger against the parsers of both directions.
//!
//! However a stream is cut, it is the same requests and errors and the same number of bytes; nothing
//! panics; nothing consumes more than there is or waits with a full buffer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_protocol::client;

#[path = "../../protocol/tests/stream/mod.rs"]
mod stream;

/// Repetitions of one byte a stream can ask for, so that short inputs reach the limits on lines and keys.
const RUN_MAX_BYTES: usize = 4096;

/// A stream in which `\xfe`, a byte and a length stand for that many of that byte.
fn unfold(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = data;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (0xfe, [repeated, high, low, tail @ ..]) => {
                let bytes = usize::from(u16::from_be_bytes([*high, *low])) % RUN_MAX_BYTES;
                out.extend(std::iter::repeat_n(*repeated, bytes));
                tail
            }
            _ => {
                out.push(byte);
                tail
            }
        };
    }
    out
}

fn replies(mut input: &[u8]) {
    while let Some((consumed, _)) = client::reply(input) {
        assert!(
            consumed > 0 && consumed <= input.len(),
            "consumed {consumed} of {} bytes",
            input.len()
        );
        // A line is the same reply whatever follows it, and no reply at all while its end is missing.
        let line = &input[..consumed];
        assert_eq!(client::reply(line), client::reply(input));
        assert_eq!(client::reply(&line[..consumed - 1]), None);
        input = &input[consumed..];
    }
}

fuzz_target!(|data: &[u8]| {
    // The first byte says how many of the next ones are sizes of pieces.
    let Some((&count, data)) = data.split_first() else {
        return;
    };
    let (sizes, data) = data.split_at(usize::from(count % 16).min(data.len()));
    let stream = unfold(data);

    let whole = stream::run(&stream, []);
    let pieces = sizes
        .iter()
        .map(|&size| usize::from(size) * usize::from(size) / 16 + 1);
    assert_eq!(whole, stream::run(&stream, pieces));
    if stream.len() < 600 {
        assert_eq!(
            whole,
            stream::run(&stream, std::iter::repeat_n(1, stream.len()))
        );
    }
    replies(&stream);
});
