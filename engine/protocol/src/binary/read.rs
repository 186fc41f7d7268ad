//! From bytes to packets.
//!
//! What it always keeps true: a step depends on the stream alone, never on how it was cut, because nothing is decided before a number of bytes has arrived
//! that only the header says.

use super::{
    BODY_MAX_BYTES, Command, HEADER_BYTES, Head, REQUEST_MAGIC, Request, Status, number_at,
};
use crate::{INPUT_MIN_BYTES, KEY_MAX_BYTES};

const _: () = assert!(HEADER_BYTES + u8::MAX as usize + KEY_MAX_BYTES <= INPUT_MIN_BYTES);

/// What the front of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A request.
    Request(Request<'a>),
    /// More bytes are needed; none is consumed.
    Incomplete,
    /// Not a request that can be carried out.
    Refused {
        /// What the reply repeats.
        head: Head,
        /// What to answer.
        status: Status,
        /// How many bytes of the stream, behind those consumed, the caller must drop before it reads on.
        skip: u64,
        /// Whether the connection is over when the reply is sent.
        last: bool,
    },
    /// Close the connection without a word: this is no packet.
    Lost,
}

/// Reads at the front of `input`, which is every byte of the stream that is not consumed yet. Returns how many bytes of it are consumed, and what they were;
/// [`INPUT_MIN_BYTES`] are always enough for a step that is not [`Step::Incomplete`].
///
/// After [`Step::Lost`], a last reply and a [`Command::Quit`] the connection is over, and what follows means nothing.
#[must_use]
pub fn read(input: &[u8]) -> (usize, Step<'_>) {
    let Some(header) = input.first_chunk::<HEADER_BYTES>() else {
        return (0, Step::Incomplete);
    };
    if header[0] != REQUEST_MAGIC {
        return (0, Step::Lost);
    }
    let key_bytes = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let extras_bytes = usize::from(header[4]);
    let body_bytes = number_at(header, 8);
    let head = Head {
        opcode: header[1],
        opaque: number_at(header, 12),
    };
    let cas = u64::from(number_at(header, 16)) << 32 | u64::from(number_at(header, 20));

    // A key that is too long need not fit the caller's buffer.
    let consumed = (HEADER_BYTES + extras_bytes + key_bytes).min(INPUT_MIN_BYTES);
    let Some(front) = input.get(HEADER_BYTES..consumed) else {
        return (0, Step::Incomplete);
    };
    let refuse = |status, skip, last| {
        let step = Step::Refused {
            head,
            status,
            skip,
            last,
        };
        (consumed, step)
    };
    let Some(value_bytes) = (body_bytes as usize).checked_sub(extras_bytes + key_bytes) else {
        return refuse(Status::UnknownCommand, 0, true);
    };
    if body_bytes > BODY_MAX_BYTES || key_bytes > KEY_MAX_BYTES {
        return refuse(Status::Invalid, 0, true);
    }
    let Some((command, quiet)) = Command::of(head.opcode) else {
        let malformed = match head.opcode {
            // SASL's list of mechanisms, beginning and step.
            0x20 => body_bytes != 0,
            0x21 | 0x22 => extras_bytes != 0 || key_bytes == 0,
            _ => false,
        };
        if malformed {
            return refuse(Status::Invalid, 0, true);
        }
        return refuse(Status::UnknownCommand, value_bytes as u64, false);
    };
    if !fits(command, extras_bytes, key_bytes, value_bytes) {
        return refuse(Status::Invalid, 0, true);
    }
    let request = Request {
        head,
        command,
        quiet,
        cas,
        front,
        extras_bytes: header[4],
        value_bytes: match command.store_verb() {
            Some(_) => value_bytes as u32,
            None => 0,
        },
    };
    (consumed, Step::Request(request))
}

/// Whether the three lengths are what the command wants.
fn fits(command: Command, extras: usize, key: usize, value: usize) -> bool {
    match command {
        Command::Get | Command::GetKey | Command::Delete => extras == 0 && key > 0 && value == 0,
        Command::Set | Command::Add | Command::Replace => extras == 8 && key > 0,
        Command::Append | Command::Prepend => extras == 0 && key > 0,
        Command::Increment | Command::Decrement => extras == 20 && key > 0 && value == 0,
        Command::Touch | Command::GetAndTouch | Command::GetKeyAndTouch => extras == 4 && key > 0,
        Command::Flush => (extras == 0 || extras == 4) && key == 0 && value == 0,
        Command::Noop | Command::Version | Command::Quit => extras == 0 && key == 0 && value == 0,
        Command::Stat => extras == 0,
    }
}
