//! Packet x shard x now -> reply packet.
//!
//! A command does here what its namesake of the text protocol does, and counts the same. What the
//! binary protocol adds is put together from that: a unique that must be met before anything but a
//! store, a number that is created where there is none, and the unique of what was written in the
//! reply. So a client of this protocol has seen the unique of every item it has written or read
//! loudly; that is what it costs (see `strata_store::Unique`), and a quiet write does not have it.
//!
//! Always true: a quiet command whose outcome is the expected one writes nothing, and every other
//! one exactly one packet.

use arrayvec::ArrayVec;
use strata_protocol::binary::{Arith, Command, Head, Status, reply};
use strata_protocol::reply::{self as words, Sink};
use strata_protocol::{ArithVerb, StoreVerb};
use strata_store::{CountOutcome, DeleteOutcome, Key, NewItem, SetOutcome};

use super::{Keeper, Outcome};
use crate::clock::Now;
use crate::config::LEND_MIN_BYTES;

/// Longest number as a line of the text protocol.
const NUMBER_LINE_MAX_BYTES: usize = 22;

/// What a reply names as the unique of an item that was stored with a deadline in the past. No
/// item has it, so whoever asks for it meets nothing or another item, and never no condition.
const GONE_UNIQUE: u64 = 1;

/// What no item has as its unique: the shard's own do not come so far.
const NO_UNIQUE: u64 = u64::MAX;

/// What memcached says of an item that it has no memory for.
const NO_ROOM_FOR_ITEM: &[u8] = b"Out of memory allocating item";

impl Keeper {
    /// Does what a packet asks and writes the reply. `item` is what it brings, as far as it brings
    /// something; of an Increment or Decrement its value is the packet's extras.
    pub(super) fn execute_packet(
        &mut self,
        now: &Now,
        head: Head,
        cas: u64,
        key: Key<'_>,
        item: NewItem<'_>,
        out: &mut impl Sink,
    ) -> Outcome {
        let Some((command, quiet)) = Command::of(head.opcode) else {
            panic!("opcode {:#x} is refused by the parser", head.opcode);
        };
        let status = match command {
            Command::Get
            | Command::GetKey
            | Command::Touch
            | Command::GetAndTouch
            | Command::GetKeyAndTouch => {
                return self.get_packet(now, head, command, quiet, key, item, out);
            }
            Command::Delete => self.delete_unique(now, key, cas),
            Command::Increment => {
                return self.count_packet(now, head, ArithVerb::Incr, quiet, cas, key, item, out);
            }
            Command::Decrement => {
                return self.count_packet(now, head, ArithVerb::Decr, quiet, cas, key, item, out);
            }
            Command::Set | Command::Add | Command::Replace | Command::Append | Command::Prepend => {
                let status = self.store_unique(now, command, key, item, cas);
                if status == Status::Success && !quiet {
                    let unique = self.unique_shown(now, key);
                    reply::success(out, head, unique);
                    return Outcome::Done;
                }
                status
            }
            Command::Flush | Command::Noop | Command::Version | Command::Stat | Command::Quit => {
                panic!("{command:?} is not for the shard")
            }
        };
        match status {
            Status::Success if quiet => {}
            Status::Success => reply::success(out, head, 0),
            Status::OutOfMemory => no_memory(out, head, NO_ROOM_FOR_ITEM),
            _ => reply::refusal(out, head, status),
        }
        Outcome::Done
    }

    #[allow(clippy::too_many_arguments)]
    fn get_packet(
        &mut self,
        now: &Now,
        head: Head,
        command: Command,
        quiet: bool,
        key: Key<'_>,
        item: NewItem<'_>,
        out: &mut impl Sink,
    ) -> Outcome {
        let hit = if command.touches() {
            self.fetch_and_touch(now, key, item.deadline, true)
        } else {
            let probe = self.shard.prefetch_buckets(key.hash);
            self.fetch(now, probe, key.bytes, true)
        };
        let named: &[u8] = if command.returns_key() {
            key.bytes
        } else {
            b""
        };
        let Some(hit) = hit else {
            match (quiet, command.returns_key()) {
                (true, _) => {}
                (false, true) => reply::miss_of_key(out, head, named),
                (false, false) => reply::refusal(out, head, Status::NotFound),
            }
            return Outcome::Done;
        };
        // Zero where uniques are off.
        let unique = hit.cas;
        if command == Command::Touch {
            reply::hit(out, head, unique, hit.flags, named, 0);
            return Outcome::Done;
        }
        let value_bytes = hit.value.len();
        if value_bytes <= LEND_MIN_BYTES {
            reply::hit(out, head, unique, hit.flags, named, value_bytes);
            for piece in hit.value.pieces() {
                out.put(piece);
            }
            return Outcome::Done;
        }
        let (item, flags) = (hit.item, hit.flags);
        // Nothing stands between a value and the next packet.
        let Some(lent) = self.lend_out(item, value_bytes, b"") else {
            no_memory(out, head, Status::OutOfMemory.text());
            return Outcome::Done;
        };
        reply::hit(out, head, unique, flags, named, value_bytes);
        Outcome::Lent(lent)
    }

    fn store_unique(
        &mut self,
        now: &Now,
        command: Command,
        key: Key<'_>,
        item: NewItem<'_>,
        cas: u64,
    ) -> Status {
        let Some(verb) = command.store_verb() else {
            panic!("{command:?} brings no value");
        };
        // Without uniques, one that is asked for is not looked at, as in memcached.
        let cas = if self.cas { cas } else { 0 };
        let outcome = match verb {
            StoreVerb::Append | StoreVerb::Prepend if cas != 0 => {
                match self.shard.unique(key, now.seconds) {
                    Some(unique) if unique != cas => {
                        self.counters.cmd_set += 1;
                        SetOutcome::Exists
                    }
                    _ => self.store(now, key, verb, item, 0),
                }
            }
            StoreVerb::Set | StoreVerb::Add | StoreVerb::Replace if cas != 0 => {
                self.store(now, key, StoreVerb::Cas, item, cas)
            }
            _ => self.store(now, key, verb, item, 0),
        };
        match (outcome, verb) {
            (SetOutcome::Stored, _) => Status::Success,
            (SetOutcome::NotStored, StoreVerb::Add) | (SetOutcome::Exists, _) => Status::Exists,
            (SetOutcome::NotStored, StoreVerb::Replace) | (SetOutcome::NotFound, _) => {
                Status::NotFound
            }
            (SetOutcome::NotStored, _) => Status::NotStored,
            (SetOutcome::TooLarge, _) => Status::TooLarge,
            (SetOutcome::NoMemory, _) => Status::OutOfMemory,
        }
    }

    /// Answers a packet whose value was not taken.
    pub(super) fn refuse_packet(
        &mut self,
        now: &Now,
        head: Head,
        too_large: bool,
        key: Key<'_>,
        out: &mut impl Sink,
    ) {
        let command = Command::of(head.opcode).map(|(command, _)| command);
        let Some(verb) = command.and_then(Command::store_verb) else {
            panic!("opcode {:#x} brings no value", head.opcode);
        };
        self.refuse(now, key, verb, too_large);
        if too_large {
            reply::refusal(out, head, Status::TooLarge);
        } else {
            no_memory(out, head, NO_ROOM_FOR_ITEM);
        }
    }

    fn delete_unique(&mut self, now: &Now, key: Key<'_>, cas: u64) -> Status {
        if self.has_another_unique(now, key, cas) {
            return Status::Exists;
        }
        match self.delete(now, key) {
            DeleteOutcome::Deleted => Status::Success,
            DeleteOutcome::NotFound => Status::NotFound,
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn count_packet(
        &mut self,
        now: &Now,
        head: Head,
        verb: ArithVerb,
        quiet: bool,
        cas: u64,
        key: Key<'_>,
        item: NewItem<'_>,
        out: &mut impl Sink,
    ) -> Outcome {
        let arith = Arith::read(item.value);
        // The shard compares, because an empty value is no number whatever its unique is.
        let compare = if self.cas || cas == 0 { cas } else { NO_UNIQUE };
        let counted = match self.arith(now, key, verb, arith.delta, compare) {
            CountOutcome::Counted(counted) => Ok(counted.value),
            CountOutcome::Exists => Err(Status::Exists),
            CountOutcome::NonNumeric => Err(Status::NonNumeric),
            CountOutcome::NoMemory => Err(Status::OutOfMemory),
            CountOutcome::NotFound => match arith.initial {
                Some(initial) => self.begin_with(now, key, initial, item),
                None => {
                    self.miss_number(verb);
                    Err(Status::NotFound)
                }
            },
        };
        match counted {
            Ok(_) if quiet => {}
            Ok(value) => {
                let unique = self.unique_shown(now, key);
                reply::number(out, head, unique, value);
            }
            Err(Status::OutOfMemory) => no_memory(out, head, b"Out of memory incrementing value"),
            Err(status) => reply::refusal(out, head, status),
        }
        Outcome::Done
    }

    /// Stores the number that counting begins with. It counts as no command of its own.
    fn begin_with(
        &mut self,
        now: &Now,
        key: Key<'_>,
        initial: u64,
        item: NewItem<'_>,
    ) -> Result<u64, Status> {
        let mut line: ArrayVec<u8, NUMBER_LINE_MAX_BYTES> = ArrayVec::new();
        words::number(
            &mut |bytes: &[u8]| line.extend(bytes.iter().copied()),
            initial,
        );
        let item = NewItem {
            flags: 0,
            deadline: item.deadline,
            value: line.trim_ascii_end(),
        };
        match self.shard.set(key, item, now.seconds) {
            SetOutcome::Stored => Ok(initial),
            _ => Err(Status::OutOfMemory),
        }
    }

    /// Whether the item is there and its unique is not `cas`, which is 0 when any will do. With
    /// uniques off every item's is 0, and none is met.
    fn has_another_unique(&mut self, now: &Now, key: Key<'_>, cas: u64) -> bool {
        if cas == 0 {
            return false;
        }
        let unique = self.shard.unique(key, now.seconds);
        unique.is_some_and(|unique| !self.cas || unique != cas)
    }

    /// The unique of what was just written, for its writer.
    fn unique_shown(&mut self, now: &Now, key: Key<'_>) -> u64 {
        if !self.cas {
            return 0;
        }
        self.shard.unique(key, now.seconds).unwrap_or(GONE_UNIQUE)
    }
}

fn no_memory(out: &mut impl Sink, head: Head, text: &[u8]) {
    reply::refusal_because(out, head, Status::OutOfMemory, text);
}
