//! Bytes of a stranger against the parser of the binary protocol.
//!
//! However a stream is cut, it is the same requests and refusals and the same number of bytes; nothing panics; nothing consumes more than there is or waits
//! with a full buffer; and what is read of a packet has the lengths its command is promised.
#![no_main]

use libfuzzer_sys::fuzz_target;
use strata_protocol::KEY_MAX_BYTES;
use strata_protocol::binary::{Arith, HEADER_BYTES, REQUEST_MAGIC, Step};

#[path = "../../protocol/tests/stream/packets.rs"]
mod packets;

/// A stream in which `\xfe`, three bytes and a length of body begin a packet that is nearly right, so that random bytes get past the first one.
fn unfold(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = data;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match (byte, tail) {
            (0xfe, [opcode, key, extras, more, tail @ ..]) => {
                let body = usize::from(*key) + usize::from(*extras) + usize::from(*more);
                let mut header = [0; HEADER_BYTES];
                header[..5].copy_from_slice(&[REQUEST_MAGIC, *opcode, 0, *key, *extras]);
                header[8..12].copy_from_slice(&(body as u32).to_be_bytes());
                out.extend(header);
                // The body follows, or is missing.
                if tail.first().is_none_or(|next| *next < 0xf0) {
                    out.extend(std::iter::repeat_n(*more, body));
                }
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

fuzz_target!(|data: &[u8]| {
    // The first byte says how many of the next ones are sizes of pieces.
    let Some((&count, data)) = data.split_first() else {
        return;
    };
    let (sizes, data) = data.split_at(usize::from(count % 16).min(data.len()));
    let stream = unfold(data);

    let whole = packets::run(&stream, []);
    for (_, step) in &whole.steps {
        let Step::Request(request) = step else {
            continue;
        };
        assert!(request.key().len() <= KEY_MAX_BYTES);
        assert!(!request.command.has_key() || !request.key().is_empty());
        let _ = (request.flags(), request.exptime());
        if request.command.arith_verb().is_some() {
            let _ = Arith::read(request.extras());
        }
    }
    let pieces = sizes
        .iter()
        .map(|&size| usize::from(size) * usize::from(size) / 16 + 1);
    assert_eq!(whole, packets::run(&stream, pieces));
    if stream.len() < 600 {
        assert_eq!(
            whole,
            packets::run(&stream, std::iter::repeat_n(1, stream.len()))
        );
    }
});
