//! Records: where they end, and the way of bytes through them.

use std::io::{BufRead, Write};

use rustls::ServerConnection;

use crate::config::HANDSHAKE_INPUT_MAX_BYTES;

/// The bytes before a record's own, and the most that these may be.
const RECORD_HEADER_BYTES: usize = 5;
const RECORD_MAX_BYTES: usize = (16 << 10) + 2048;
/// Whose input is too long has a step to be made, so that it does not wait for ever.
const _: () = assert!(RECORD_HEADER_BYTES + RECORD_MAX_BYTES <= HANDSHAKE_INPUT_MAX_BYTES);

/// How many bytes of `input` are whole records; all of it when what follows them is no record, because that
/// needs no end to be refused.
pub(super) fn whole_records(input: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(&[kind, major, _, high, low]) = input[whole..].first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        if !(20..=24).contains(&kind) || major != 3 || len > RECORD_MAX_BYTES {
            return input.len();
        }
        if input.len() - whole < RECORD_HEADER_BYTES + len {
            break;
        }
        whole += RECORD_HEADER_BYTES + len;
    }
    whole
}

/// Decrypts `records` to the end of `plain`. True when the peer has said that it sends no more.
pub(in crate::io) fn open(
    tls: &mut ServerConnection,
    mut records: &[u8],
    plain: &mut Vec<u8>,
) -> Result<bool, rustls::Error> {
    while !records.is_empty() {
        let read = tls.read_tls(&mut records);
        let state = tls.process_new_packets()?;
        if state.plaintext_bytes_to_read() > 0 {
            let mut reader = tls.reader();
            while let Ok(chunk) = reader.fill_buf() {
                let len = chunk.len();
                if len == 0 {
                    break;
                }
                plain.extend_from_slice(chunk);
                reader.consume(len);
            }
        }
        if state.peer_has_closed() {
            return Ok(true);
        }
        if let Err(error) = read {
            return Err(rustls::Error::General(error.to_string()));
        }
    }
    Ok(false)
}

/// Has `bytes` encrypted; without a limit the connection takes everything.
pub(super) fn write_plain(tls: &mut ServerConnection, bytes: &[u8], conn: super::ConnIndex) {
    let written = tls.writer().write_all(bytes);
    debug_assert!(written.is_ok(), "connection {conn}: {written:?}");
}
