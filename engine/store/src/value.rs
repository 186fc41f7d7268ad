//! Values as they lie in memory: a part beside the item, then extension pages.
//!
//! ```text
//! segment:   | header | key | extras | first part |        (the whole value, unless it is large)
//! pages:     | second part, one page | -> | third part, one page | -> | the rest |
//! ```
//!
//! Always true: the parts in this order are the value; only the first may be of any length, the others are full pages
//! except the last.

use crate::item::{self, Header};
use crate::segment::arena::{Arena, Memory, NO_PAGE, Pages};
use crate::ttl::Deadline;

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Offset of the first part in the arena.
    pub head_at: usize,
    /// Length of the first part.
    pub head_len: usize,
    /// First extension page, or `NO_PAGE`.
    pub first_page: u32,
    /// Length of the whole value.
    pub len: usize,
}

impl Placement {
    /// The placement of the value of the item at `at`.
    #[inline(always)]
    pub fn of(memory: &[u8], at: usize, header: Header) -> Self {
        if header.has(item::LARGE) {
            let large = header.large(memory, at);
            Self {
                head_at: header.value_at(at),
                head_len: large.head_len as usize,
                first_page: large.first_page,
                len: large.value_len as usize,
            }
        } else {
            Self::beside(at, header)
        }
    }

    /// The placement of a value that is not large.
    #[inline(always)]
    pub fn beside(at: usize, header: Header) -> Self {
        let len = usize::from(header.value_len);
        Self {
            head_at: header.value_at(at),
            head_len: len,
            first_page: NO_PAGE,
            len,
        }
    }

    /// Where byte `offset` of the value lies and how many bytes follow it without a gap.
    pub fn run(&self, pages: &Pages, offset: usize) -> (usize, usize) {
        assert!(
            offset < self.len,
            "offset {offset} of a value of {} bytes",
            self.len
        );
        if offset < self.head_len {
            return (self.head_at + offset, self.head_len - offset);
        }
        let beyond = offset - self.head_len;
        let mut page = self.first_page;
        for _ in 0..beyond >> pages.shift {
            page = pages.list[page as usize].next;
        }
        let inside = beyond & ((1 << pages.shift) - 1);
        let left = (1usize << pages.shift) - inside;
        (
            ((page as usize) << pages.shift) + inside,
            left.min(self.len - offset),
        )
    }
}

/// How a value is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Bytes beside the item.
    pub head_len: usize,
    /// Bytes they take there.
    pub head_room: usize,
    /// Extension pages for the others.
    pub extensions: usize,
    /// Whether the item has to describe it.
    pub large: bool,
}

impl Cut {
    /// Cuts a value. `fixed` is what the item needs besides the value, without a deadline written out.
    ///
    /// Room for that, for a CAS unique and for what the meta commands note is left in the page, so that every item can be
    /// moved and take them along.
    #[inline(always)]
    pub fn new(page_bytes: usize, fixed: usize, value_len: usize) -> Self {
        let fixed = fixed + item::UNIQUE_BYTES + item::FAR_BYTES + item::EXT_BYTES;
        if value_len <= item::PLAIN_VALUE_MAX && fixed + value_len <= page_bytes {
            return Self {
                head_len: value_len,
                head_room: value_len,
                extensions: 0,
                large: false,
            };
        }
        let (pages, rest) = (value_len / page_bytes, value_len % page_bytes);
        let padded = rest.next_multiple_of(item::LARGE_UNIT_BYTES);
        let fits = fixed + item::LARGE_BYTES + padded <= page_bytes;
        Self {
            head_len: if fits { rest } else { 0 },
            head_room: if fits { padded } else { 0 },
            extensions: pages + usize::from(!fits),
            large: true,
        }
    }

    /// What the header of the item says of the length of its value.
    #[inline(always)]
    pub fn header_value_len(self) -> u16 {
        let unit = if self.large {
            item::LARGE_UNIT_BYTES
        } else {
            1
        };
        (self.head_room / unit) as u16
    }
}

/// Writes `bytes` into a value from `offset` on.
pub(crate) fn write<M: Memory>(
    arena: &mut Arena<M>,
    to: &Placement,
    mut offset: usize,
    mut bytes: &[u8],
) {
    if to.first_page == NO_PAGE {
        let at = to.head_at + offset;
        return arena.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }
    while !bytes.is_empty() {
        let (at, len) = to.run(&arena.pages, offset);
        let len = len.min(bytes.len());
        let (now, rest) = bytes.split_at(len);
        arena.bytes_mut()[at..at + len].copy_from_slice(now);
        bytes = rest;
        offset += len;
    }
}

/// Copies a whole value into another from `offset` on.
pub(crate) fn copy<M: Memory>(
    arena: &mut Arena<M>,
    from: &Placement,
    to: &Placement,
    offset: usize,
) {
    let mut done = 0;
    while done < from.len {
        let (source, source_len) = from.run(&arena.pages, done);
        let (target, target_len) = to.run(&arena.pages, offset + done);
        let len = source_len.min(target_len);
        arena.bytes_mut().copy_within(source..source + len, target);
        done += len;
    }
}

/// A value in place: one piece, or several when it is large.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    head: &'a [u8],
    memory: &'a [u8],
    pages: &'a Pages,
    first_page: u32,
    len: u32,
}

impl<'a> Value<'a> {
    #[inline(always)]
    pub(crate) fn new(memory: &'a [u8], pages: &'a Pages, placement: Placement) -> Self {
        Self {
            head: &memory[placement.head_at..placement.head_at + placement.head_len],
            memory,
            pages,
            first_page: placement.first_page,
            len: placement.len as u32,
        }
    }

    /// Length in bytes of the whole value.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether the value has no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole value, if it lies in one piece. Every value that fits a page does.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> Option<&'a [u8]> {
        (self.first_page == NO_PAGE).then_some(self.head)
    }

    /// The pieces in order; none is empty.
    #[inline]
    #[must_use]
    pub fn pieces(&self) -> Pieces<'a> {
        Pieces {
            value: *self,
            page: self.first_page,
            left: self.len(),
        }
    }

    /// A copy in one piece; allocates.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces().flatten().copied().collect()
    }
}

impl std::fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Value({} bytes)", self.len)
    }
}

/// The pieces of a [`Value`].
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    value: Value<'a>,
    page: u32,
    left: usize,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 {
            return None;
        }
        let value = &self.value;
        if self.left == value.len() && !value.head.is_empty() {
            self.left -= value.head.len();
            return Some(value.head);
        }
        let start = (self.page as usize) << value.pages.shift;
        let len = self.left.min(1 << value.pages.shift);
        self.page = value.pages.list[self.page as usize].next;
        self.left -= len;
        Some(&value.memory[start..start + len])
    }
}

/// Names an item just looked up, for [`crate::Shard::lend`]. Good until the shard is changed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemRef {
    pub(crate) location: usize,
    pub(crate) epoch: u64,
}

/// A lookup that found something.
#[derive(Clone, Copy, Debug)]
pub struct Hit<'a> {
    /// The client flags given when the item was stored.
    pub flags: u32,
    /// The CAS unique, never zero; zero when it was not asked for.
    pub cas: u64,
    /// When the item dies.
    pub deadline: Deadline,
    /// The value where it lies.
    pub value: Value<'a>,
    /// The item's name, for [`crate::Shard::lend`].
    pub item: ItemRef,
    /// Whether nobody had fetched the item before.
    pub first_fetch: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::arena::Kind;

    #[test]
    fn every_length_is_cut_so_that_it_fits() {
        for (page, step) in [(16 << 10, 7), (1 << 20, 997)] {
            let around_plain = item::PLAIN_VALUE_MAX - 40..item::PLAIN_VALUE_MAX + 40;
            for fixed in [7usize, 100, 260] {
                for value_len in (0..3 * page + 600)
                    .step_by(step)
                    .chain(around_plain.clone())
                {
                    let cut = Cut::new(page, fixed, value_len);
                    let (head, pages) = (cut.head_len, cut.extensions);
                    let most = item::UNIQUE_BYTES
                        + item::FAR_BYTES
                        + item::EXT_BYTES
                        + if cut.large { item::LARGE_BYTES } else { 0 };
                    assert!(fixed + most + cut.head_room <= page, "{fixed} {value_len}");
                    let unit = if cut.large { item::LARGE_UNIT_BYTES } else { 1 };
                    assert_eq!(usize::from(cut.header_value_len()) * unit, cut.head_room);
                    let padding = cut.head_room - head;
                    assert!(padding < if cut.large { item::LARGE_UNIT_BYTES } else { 1 });
                    assert!(
                        head + pages * page >= value_len
                            && (pages == 0 || head + (pages - 1) * page < value_len)
                    );
                }
            }
        }
    }

    #[test]
    fn a_value_in_pages_reads_back() {
        let mut arena = Arena::new(vec![0u8; 128 << 10], 128 << 10, 0);
        let pages: Vec<u32> = (0..3)
            .map(|_| arena.take(Kind::Extension).expect("free"))
            .collect();
        arena.page_mut(pages[1]).next = pages[2];
        let bytes: Vec<u8> = (0..20_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        let head_at = arena.start_of(pages[0]);
        let placement = Placement {
            head_at,
            head_len: 100,
            first_page: pages[1],
            len: bytes.len(),
        };
        write(&mut arena, &placement, 0, &bytes[..5]);
        write(&mut arena, &placement, 5, &bytes[5..]);
        let value = Value::new(arena.bytes(), &arena.pages, placement);
        assert_eq!(value.to_vec(), bytes);
        assert_eq!(
            value.pieces().map(<[u8]>::len).collect::<Vec<_>>(),
            [100, 16 << 10, 20_000 - 100 - (16 << 10)]
        );
        assert_eq!(value.as_slice(), None);
    }
}
