//! Replies to bytes.
//!
//! ```
//! use strata_protocol::binary::{Head, Status, reply};
//!
//! let mut out = Vec::new();
//! let mut sink = |bytes: &[u8]| out.extend_from_slice(bytes);
//! let head = Head { opcode: 0x00, opaque: 42 };
//! reply::hit(&mut sink, head, 9, 7, b"", 5);
//! sink(b"hello");
//! reply::refusal(&mut sink, head, Status::NotFound);
//! assert_eq!(out, b"\x81\0\0\0\x04\0\0\0\0\0\0\x09\0\0\0\x2a\0\0\0\0\0\0\0\x09\0\0\0\x07hello\
//!     \x81\0\0\0\0\0\0\x01\0\0\0\x09\0\0\0\x2a\0\0\0\0\0\0\0\0Not found");
//! ```

use super::{HEADER_BYTES, Head, REPLY_MAGIC, Status};
use crate::reply::Sink;

/// The opcode of a Stat.
const STAT: u8 = 0x10;

/// A header for a body of these parts.
fn header(
    head: Head,
    status: Status,
    cas: u64,
    extras_bytes: u8,
    key_bytes: usize,
    value_bytes: usize,
) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = REPLY_MAGIC;
    header[1] = head.opcode;
    header[2..4].copy_from_slice(&(key_bytes as u16).to_be_bytes());
    header[4] = extras_bytes;
    header[6..8].copy_from_slice(&status.code().to_be_bytes());
    let body_bytes = usize::from(extras_bytes) + key_bytes + value_bytes;
    header[8..12].copy_from_slice(&(body_bytes as u32).to_be_bytes());
    header[12..16].copy_from_slice(&head.opaque.to_be_bytes());
    header[16..24].copy_from_slice(&cas.to_be_bytes());
    header
}

/// Success without a body. `cas` is the item's unique, 0 where there is none.
pub fn success(out: &mut impl Sink, head: Head, cas: u64) {
    out.put(&header(head, Status::Success, cas, 0, 0, 0));
}

/// Anything but success, with its text.
pub fn refusal(out: &mut impl Sink, head: Head, status: Status) {
    refusal_because(out, head, status, status.text());
}

/// Anything but success, with a text of its own.
pub fn refusal_because(out: &mut impl Sink, head: Head, status: Status, text: &[u8]) {
    out.put(&header(head, status, 0, 0, 0, text.len()));
    out.put(text);
}

/// The miss of a command that returns the key.
pub fn miss_of_key(out: &mut impl Sink, head: Head, key: &[u8]) {
    out.put(&header(head, Status::NotFound, 0, 0, key.len(), 0));
    out.put(key);
}

/// A hit up to its value, which follows; `key` is empty where the command does not return it.
#[inline]
pub fn hit(out: &mut impl Sink, head: Head, cas: u64, flags: u32, key: &[u8], value_bytes: usize) {
    let mut front = [0; HEADER_BYTES + 4];
    front[..HEADER_BYTES].copy_from_slice(&header(
        head,
        Status::Success,
        cas,
        4,
        key.len(),
        value_bytes,
    ));
    front[HEADER_BYTES..].copy_from_slice(&flags.to_be_bytes());
    out.put(&front);
    out.put(key);
}

/// The new value of a number.
pub fn number(out: &mut impl Sink, head: Head, cas: u64, value: u64) {
    out.put(&header(head, Status::Success, cas, 0, 0, 8));
    out.put(&value.to_be_bytes());
}

/// Success with a text.
pub fn text(out: &mut impl Sink, head: Head, text: &[u8]) {
    out.put(&header(head, Status::Success, 0, 0, 0, text.len()));
    out.put(text);
}

/// One figure of a Stat. After the last one comes a [`success`] with the same head.
pub fn stat(out: &mut impl Sink, opaque: u32, name: &[u8], value: &[u8]) {
    let head = Head {
        opcode: STAT,
        opaque,
    };
    out.put(&header(
        head,
        Status::Success,
        0,
        0,
        name.len(),
        value.len(),
    ));
    out.put(name);
    out.put(value);
}
