//! An item moves to another segment, because of a touch or a sweep.
//!
//! Always true: its value, its deadline (unless it moves to get another) and a CAS unique that somebody knows stay.

use super::Shard;
use super::deadline::{NEAR, delta_of};
use crate::item::{self, Header};
use crate::segment::arena::{Memory, Queue};
use crate::table::{Place, bucket};
use crate::ttl::TtlBuckets;

impl<M: Memory> Shard<M> {
    /// Writes an item again in another segment, perhaps with another deadline, and leads its entry there. The unique
    /// goes along if somebody knows it.
    ///
    /// The caller has made room for `moved_size` bytes.
    pub(crate) fn relocate(
        &mut self,
        place: Place,
        from: usize,
        header: Header,
        to_page: u32,
        deadline: u32,
        now: u32,
    ) {
        let unique = self.unique_of(from, header);
        let new_size = moved_size(header, deadline, now);
        let to = self.reserve(to_page, new_size, deadline);
        let far = TtlBuckets::is_far(deadline, now);
        let new_header = Header {
            bits: header.bits & !(item::FAR | item::CAS)
                | if far { item::FAR } else { 0 }
                | if header.bits & (item::SEEN | item::CAS) == 0 {
                    0
                } else {
                    item::CAS
                },
            delta: if far {
                0
            } else {
                delta_of(self.arena.page(to_page).base, deadline).expect(NEAR)
            },
            ..header
        };
        let memory = self.arena.bytes_mut();
        memory.copy_within(from..header.far_at(from), to);
        new_header.write(memory, to);
        if far {
            item::write_u32(memory, new_header.far_at(to), deadline);
        }
        if new_header.has(item::CAS) {
            item::write_u64(memory, new_header.unique_at(to), unique);
        }
        memory.copy_within(
            header.rest_at(from)..from + header.size(),
            new_header.rest_at(to),
        );
        bucket::set_location(memory, place.bucket_at, place.slot, to);
        Header {
            bits: header.bits | item::DEAD,
            ..header
        }
        .write(memory, from);
        self.counters.bytes = self.counters.bytes + new_size as u64 - header.size() as u64;
        let page = self.arena.page_of(from);
        if (self.queue_of(from), self.queue_of(to)) == (Queue::Small, Queue::Main) {
            self.chains.small_pages -= self.extensions_of(from, header);
        }
        self.forget(page, header.size());
    }
}

/// Bytes of an item once it has moved: with its unique if somebody knows it, and with a far deadline written out.
pub(crate) fn moved_size(header: Header, deadline: u32, now: u32) -> usize {
    let bits = header.bits & !(item::FAR | item::CAS)
        | if TtlBuckets::is_far(deadline, now) {
            item::FAR
        } else {
            0
        }
        | if header.bits & (item::SEEN | item::CAS) == 0 {
            0
        } else {
            item::CAS
        };
    Header { bits, ..header }.size()
}
