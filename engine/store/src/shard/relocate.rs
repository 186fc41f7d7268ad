//! An item moves to another segment, because of a touch or a sweep.
//!
//! Always true: its value, its deadline (unless it moves to get another) and a CAS unique that somebody knows stay.

use super::Shard;
use super::deadline::delta_of;
use crate::item::{self, Ext, Header};
use crate::segment::arena::{Memory, Queue};
use crate::table::Place;

impl<M: Memory> Shard<M> {
    /// Writes an item again in another segment, perhaps with another deadline, and leads its entry there. The unique
    /// goes along if somebody knows it.
    ///
    /// The caller has made room for `moved_size` bytes, and for the deadline written out if the segment needs that.
    pub(crate) fn relocate(
        &mut self,
        place: Place,
        from: usize,
        header: Header,
        to_page: u32,
        deadline: u32,
    ) {
        let unique =
            (header.bits & (item::SEEN | item::CAS) != 0).then(|| self.unique_of(from, header));
        let ext = header.ext(self.arena.bytes(), from);
        self.relocate_as(place, from, header, to_page, deadline, unique, ext);
    }

    /// As `relocate`, with this unique and these notes instead of those it has; the caller has made room for
    /// `moved_size_as` bytes.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn relocate_as(
        &mut self,
        place: Place,
        from: usize,
        header: Header,
        to_page: u32,
        deadline: u32,
        unique: Option<u64>,
        ext: Option<Ext>,
    ) -> usize {
        let delta = delta_of(self.arena.page(to_page).base, deadline);
        let far = delta.is_none();
        let new_header = Header {
            bits: bits_as(header, unique.is_some(), ext.is_some())
                | if far { item::FAR } else { 0 },
            delta: delta.unwrap_or(0),
            ..header
        };
        let new_size = new_header.size();
        let to = self.reserve(to_page, new_size, deadline, None);
        let memory = self.arena.bytes_mut();
        memory.copy_within(from..header.far_at(from), to);
        new_header.write(memory, to);
        if far {
            item::write_u32(memory, new_header.far_at(to), deadline);
        }
        if let Some(unique) = unique {
            item::write_u64(memory, new_header.unique_at(to), unique);
        }
        if let Some(ext) = ext {
            new_header.set_ext(memory, to, ext);
        }
        memory.copy_within(
            header.rest_at(from)..from + header.size(),
            new_header.rest_at(to),
        );
        self.table.set_location(memory, place, to);
        Header {
            bits: header.bits | item::DEAD,
            ..header
        }
        .write_bits(memory, from);
        self.counters.bytes = self.counters.bytes + new_size as u64 - header.size() as u64;
        let page = self.arena.page_of(from);
        match (self.queue_of(from), self.queue_of(to)) {
            (Queue::Small, Queue::Main) => {
                self.chains.small_pages -= self.extensions_of(from, header);
            }
            // Making room for a touched item may have moved it to the main queue meanwhile.
            (Queue::Main, Queue::Small) => {
                self.chains.small_pages += self.extensions_of(from, header);
            }
            _ => {}
        }
        self.forget(page, header.size());
        to
    }
}

/// The bits of an item once it has moved, with a unique and with notes or without. Whether its deadline is written out is
/// for the new segment to say.
fn bits_as(header: Header, unique: bool, ext: bool) -> u8 {
    header.bits & !(item::FAR | item::CAS | item::EXT)
        | if unique { item::CAS } else { 0 }
        | if ext { item::EXT } else { 0 }
}

/// Bytes of an item once it has moved, with its unique if somebody knows it, and without its deadline if that has to be
/// written out.
pub(crate) fn moved_size(header: Header) -> usize {
    let known = header.bits & (item::SEEN | item::CAS) != 0;
    moved_size_as(header, known, header.has(item::EXT))
}

/// Bytes of an item once it has moved, with a unique and with notes or without.
pub(super) fn moved_size_as(header: Header, unique: bool, ext: bool) -> usize {
    Header {
        bits: bits_as(header, unique, ext),
        ..header
    }
    .size()
}

#[cfg(test)]
mod tests {
    use crate::item::{EXT, EXT_BYTES, Ext, Header};
    use crate::{
        Deadline, Eviction, Key, KeyHasher, NewItem, Seconds, SetOutcome, Shard, ShardConfig,
        TouchOutcome, Unique,
    };

    #[test]
    fn what_the_meta_commands_noted_moves_along() {
        let hasher = KeyHasher::new([9; 8]);
        let config = ShardConfig {
            item_max_bytes: 64 << 10,
            eviction: Eviction::None,
            seed: 1,
        };
        let mut shard = Shard::new(vec![0; 1 << 20], hasher.clone(), config).expect("enough");
        let key = Key {
            hash: hasher.hash(b"key"),
            bytes: b"key",
        };
        let item = NewItem {
            flags: 5,
            deadline: Deadline::At(Seconds(20)),
            value: b"-----value",
        };
        assert_eq!(shard.set(key, item, Seconds(1)), SetOutcome::Stored);
        // The first bytes of the value become the notes, so the item keeps its length.
        let ext = Ext {
            accessed: 0x1234_5678,
            state: 0x03,
        };
        let location = |shard: &Shard<Vec<u8>>| {
            let (memory, pair) = (shard.arena.bytes(), shard.table.pair(key.hash));
            let found = shard.table.find(memory, pair, key.hash, key.bytes);
            found.expect("there").location
        };
        let at = location(&shard);
        let mut header = Header::read(shard.arena.bytes(), at);
        header.bits |= EXT;
        header.value_len -= EXT_BYTES as u16;
        header.write(shard.arena.bytes_mut(), at);
        header.set_ext(shard.arena.bytes_mut(), at, ext);
        shard.audit().expect("an audit");

        let cas = |shard: &mut Shard<Vec<u8>>| {
            let hit = shard.get(key, Seconds(1), Unique::Wanted).expect("there");
            assert_eq!(hit.value.as_slice(), Some(&b"value"[..]));
            assert_eq!(hit.flags, 5);
            hit.cas
        };
        let before = cas(&mut shard);
        for deadline in [Deadline::At(Seconds(200_000)), Deadline::Never] {
            let (from, touched) = (location(&shard), shard.touch(key, deadline, Seconds(1)));
            assert_eq!(touched, TouchOutcome::Touched);
            let to = location(&shard);
            assert_ne!(from, to, "the item has moved");
            let header = Header::read(shard.arena.bytes(), to);
            let noted = header
                .ext(shard.arena.bytes(), to)
                .expect("a place for notes");
            assert_eq!((noted.accessed, noted.state), (1, ext.state));
            assert_eq!(cas(&mut shard), before);
            shard.audit().expect("an audit");
        }
    }
}
