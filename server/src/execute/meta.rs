//! The meta commands: flags x shard x now -> reply.
//!
//! The flags come as they were sent, whoever carries them out, and are read here. Flags act in their order, so where two
//! of them say when an item dies, or one asks for what another changes, it matters which stands first.
//!
//! Always true: what is counted is what memcached counts. An `mg` with `T` is a touch if it finds something, otherwise a
//! get; an item made by a miss is a hit of `mg` and nothing at all for `ma`.

use strata_protocol::meta::{Options, Words};
use strata_protocol::reply::meta::{Answered, Code, Debug, Facts, Marks, debug, line};
use strata_protocol::reply::{Sink, digits};
use strata_protocol::{ClientError, MetaVerb, ServerError};
use strata_store::{
    Arithmetic, CountOutcome, Counting, Deadline, Fetch, Invalidation, InvalidationOutcome, Key,
    MetaSet, NewItem, SetMode, SetOutcome, Vivify,
};

use super::{Keeper, Outcome};
use crate::clock::Now;
use crate::config::LEND_MIN_BYTES;

/// The class that all items are counted in.
const CLASS_ID: u32 = 1;

/// What a meta command asks of the shard.
#[derive(Clone, Copy)]
pub struct MetaCall<'a> {
    /// Which command.
    pub verb: MetaVerb,
    /// Whether the request had the key in base64.
    pub base64: bool,
    /// The flags.
    pub words: Words<'a>,
    /// What is to be stored.
    pub value: &'a [u8],
}

impl Keeper {
    /// Carries out a meta command and writes the reply, nothing if its flags ask for none.
    #[inline]
    pub fn execute_meta(
        &mut self,
        now: &Now,
        key: Key<'_>,
        call: MetaCall<'_>,
        out: &mut impl Sink,
    ) -> Outcome {
        match call.verb {
            MetaVerb::Get => return self.meta_get(now, key, call, out),
            MetaVerb::Set => self.meta_set(now, key, call, out),
            MetaVerb::Delete => self.meta_delete(now, key, call, out),
            MetaVerb::Arith => self.meta_arith(now, key, call, out),
            MetaVerb::Debug => self.meta_debug(now, key, call, out),
        }
        Outcome::Done
    }

    fn meta_get(
        &mut self,
        now: &Now,
        key: Key<'_>,
        call: MetaCall<'_>,
        out: &mut impl Sink,
    ) -> Outcome {
        let options = Options::read(call.words);
        let order = Order { now, call, options };
        let mut how = Fetch {
            unique: self.unique(options.has_any(b"cC")),
            counts: !options.has(b'u'),
            idle: options.has(b'l'),
            ..Fetch::default()
        };
        if options.has_any(b"TRN") {
            how.deadline = options
                .has(b'T')
                .then(|| now.deadline(options.exptime.into()));
            // A time of 0 is none, and nothing dies before that.
            how.recache = match now.deadline(options.recache.into()) {
                Deadline::Never => None,
                limit => Some(limit),
            };
            how.recache_after = order.is_before(b'T', b'R');
            how.vivify = options.has(b'N').then(|| Vivify {
                deadline: order.deadline_of_made(None),
                unique: self.chosen(options.unique),
            });
        }
        let mut facts = Facts {
            key: key.bytes,
            base64: call.base64,
            ..Facts::default()
        };
        let Some(found) = self.shard.fetch_meta(key, &how, now.seconds) else {
            self.counters.cmd_get += 1;
            self.counters.get_misses += 1;
            if !options.has(b'q') {
                let marks = Marks::default();
                line(out, Code::Miss, call.words, Answered::KEY, &facts, marks);
            }
            return Outcome::Done;
        };
        let hits = if options.has(b'T') {
            self.counters.cmd_touch += 1;
            &mut self.counters.touch_hits
        } else {
            self.counters.cmd_get += 1;
            &mut self.counters.get_hits
        };
        *hits += 1;

        let hit = found.hit;
        let deadline = match (found.made, order.is_before(b'T', b't')) {
            (true, _) => order.deadline_of_made(Some(b't')),
            (false, true) => hit.deadline,
            (false, false) => found.deadline_before,
        };
        facts.cas = hit.cas;
        facts.flags = hit.flags;
        facts.value_bytes = hit.value.len();
        facts.ttl_s = ttl_s(deadline, now);
        facts.idle_s = found.idle_seconds;
        facts.fetched = !hit.first_fetch;
        let marks = Marks {
            sent: found.sent,
            stale: found.stale,
            won: found.won,
        };
        // Whoever has this very item already needs no value.
        let has_it = options.has(b'C') && options.compare == hit.cas;
        if !options.has(b'v') || has_it {
            line(out, Code::Done, call.words, Answered::GET, &facts, marks);
            return Outcome::Done;
        }
        let code = Code::Value(facts.value_bytes);
        if facts.value_bytes > LEND_MIN_BYTES {
            let item = hit.item;
            let Some(lent) = self.lend_out(item, facts.value_bytes, b"\r\n") else {
                out.put(ServerError::OutOfMemoryReplying.wire());
                return Outcome::Done;
            };
            line(out, code, call.words, Answered::GET, &facts, marks);
            return Outcome::Lent(lent);
        }
        line(out, code, call.words, Answered::GET, &facts, marks);
        for piece in hit.value.pieces() {
            out.put(piece);
        }
        out.put(b"\r\n");
        Outcome::Done
    }

    fn meta_set(&mut self, now: &Now, key: Key<'_>, call: MetaCall<'_>, out: &mut impl Sink) {
        let options = Options::read(call.words);
        let how = MetaSet {
            mode: match options.mode {
                b'E' => SetMode::Add,
                b'A' => SetMode::Append,
                b'P' => SetMode::Prepend,
                b'R' => SetMode::Replace,
                _ => SetMode::Set,
            },
            compare: options.has(b'C').then(|| self.chosen(options.compare)),
            stale: options.has(b'I'),
            unique: self.chosen(options.unique),
            vivify: options
                .has(b'N')
                .then(|| now.deadline(options.vivify.into())),
            wanted: self.unique(options.has(b'c')),
        };
        let item = NewItem {
            flags: options.client_flags,
            deadline: now.deadline(options.exptime.into()),
            value: call.value,
        };
        let stored = self.shard.set_meta(key, item, &how, now.seconds);
        let counters = &mut self.counters;
        counters.cmd_set += u64::from(stored.outcome != SetOutcome::TooLarge);
        if how.compare.is_some() && matches!(how.mode, SetMode::Set | SetMode::Replace) {
            match stored.outcome {
                SetOutcome::Stored => counters.cas_hits += 1,
                SetOutcome::Exists => counters.cas_badval += 1,
                SetOutcome::NotFound => counters.cas_misses += 1,
                _ => {}
            }
        }
        let code = match stored.outcome {
            SetOutcome::Stored if options.has(b'q') => return,
            SetOutcome::Stored => Code::Done,
            SetOutcome::NotStored => Code::NotStored,
            SetOutcome::Exists => Code::Exists,
            SetOutcome::NotFound => Code::NotFound,
            SetOutcome::TooLarge => {
                counters.store_too_large += 1;
                return out.put(ServerError::TooLarge.wire());
            }
            SetOutcome::NoMemory => {
                counters.store_no_memory += 1;
                return out.put(ServerError::OutOfMemoryStoring.wire());
            }
        };
        let facts = Facts {
            key: key.bytes,
            base64: call.base64,
            cas: stored.unique,
            value_bytes: stored.value_bytes,
            ..Facts::default()
        };
        let marks = Marks::default();
        line(out, code, call.words, Answered::SET, &facts, marks);
    }

    fn meta_delete(&mut self, now: &Now, key: Key<'_>, call: MetaCall<'_>, out: &mut impl Sink) {
        let options = Options::read(call.words);
        // Without uniques every item's is 0.
        let meets = !self.cas && options.compare == 0;
        let how = Invalidation {
            compare: (options.has(b'C') && !meets).then(|| self.chosen(options.compare)),
            stale: options.has(b'I'),
            clear: options.has(b'x').then_some(options.client_flags),
            deadline: options
                .has(b'T')
                .then(|| now.deadline(options.exptime.into())),
            unique: self.chosen(options.unique),
        };
        let counters = &mut self.counters;
        let code = match self.shard.invalidate(key, &how, now.seconds) {
            InvalidationOutcome::Done => {
                counters.delete_hits += u64::from(!how.stale);
                if options.has(b'q') {
                    return;
                }
                Code::Done
            }
            InvalidationOutcome::NotFound => {
                counters.delete_misses += 1;
                Code::NotFound
            }
            InvalidationOutcome::Exists => {
                counters.delete_misses += 1;
                Code::Exists
            }
            InvalidationOutcome::NoMemory => return out.put(ServerError::OutOfMemory.wire()),
        };
        key_line(out, code, key, call);
    }

    fn meta_arith(&mut self, now: &Now, key: Key<'_>, call: MetaCall<'_>, out: &mut impl Sink) {
        let options = Options::read(call.words);
        let order = Order { now, call, options };
        let down = matches!(options.mode, b'D' | b'-');
        let how = Counting {
            arithmetic: if down {
                Arithmetic::Decr
            } else {
                Arithmetic::Incr
            },
            delta: options.delta,
            // Without uniques every item's is 0, and none the shard makes is this one.
            compare: match options.compare {
                0 => 0,
                unique => {
                    if self.cas {
                        unique
                    } else {
                        u64::MAX
                    }
                }
            },
            unique: self.chosen(options.unique),
            deadline: options
                .has(b'T')
                .then(|| now.deadline(options.exptime.into())),
            vivify: options
                .has(b'N')
                .then(|| (options.initial, order.deadline_of_made(None))),
            wanted: self.unique(options.has(b'c')),
        };
        let counters = &mut self.counters;
        let (hits, misses) = if down {
            (&mut counters.decr_hits, &mut counters.decr_misses)
        } else {
            (&mut counters.incr_hits, &mut counters.incr_misses)
        };
        let counted = match self.shard.count(key, &how, now.seconds) {
            CountOutcome::Counted(counted) => counted,
            CountOutcome::NotFound => {
                *misses += 1;
                return key_line(out, Code::NotFound, key, call);
            }
            CountOutcome::Exists => return key_line(out, Code::Exists, key, call),
            CountOutcome::NonNumeric => return out.put(ClientError::NonNumeric.wire()),
            CountOutcome::NoMemory => return out.put(ServerError::OutOfMemory.wire()),
        };
        *hits += u64::from(!counted.made);
        if options.has(b'q') {
            return;
        }
        let deadline = match (counted.made, how.deadline) {
            (true, _) => order.deadline_of_made(Some(b't')),
            (false, Some(deadline)) if order.is_before(b'T', b't') => deadline,
            (false, _) => counted.deadline_before,
        };
        let facts = Facts {
            key: key.bytes,
            base64: call.base64,
            cas: counted.unique,
            ttl_s: ttl_s(deadline, now),
            ..Facts::default()
        };
        let marks = Marks::default();
        if options.has(b'v') {
            digits(counted.value, |digits| {
                let code = Code::Value(digits.len());
                line(out, code, call.words, Answered::ARITH, &facts, marks);
                out.put(digits);
                out.put(b"\r\n");
            });
        } else {
            line(out, Code::Done, call.words, Answered::ARITH, &facts, marks);
        }
    }

    fn meta_debug(&mut self, now: &Now, key: Key<'_>, call: MetaCall<'_>, out: &mut impl Sink) {
        self.counters.cmd_meta += 1;
        let Some(inspected) = self.shard.inspect(key, now.seconds) else {
            return out.put(b"EN\r\n");
        };
        let facts = Facts {
            key: key.bytes,
            base64: call.base64,
            cas: if self.cas { inspected.unique } else { 0 },
            ttl_s: ttl_s(inspected.deadline, now),
            idle_s: inspected.idle_seconds,
            fetched: inspected.fetched,
            ..Facts::default()
        };
        let told = Debug {
            facts,
            item_bytes: inspected.item_bytes,
            class_id: CLASS_ID,
        };
        debug(out, &told);
    }

    /// A unique as a client gave it; 0 where there are no uniques.
    fn chosen(&self, unique: u64) -> u64 {
        if self.cas { unique } else { 0 }
    }
}

/// The reply that has nothing to tell but the key.
fn key_line(out: &mut impl Sink, code: Code, key: Key<'_>, call: MetaCall<'_>) {
    let facts = Facts {
        key: key.bytes,
        base64: call.base64,
        ..Facts::default()
    };
    let marks = Marks::default();
    line(out, code, call.words, Answered::KEY, &facts, marks);
}

/// Seconds left to live; none for ever. What has died just now has 0.
fn ttl_s(deadline: Deadline, now: &Now) -> Option<u32> {
    match deadline {
        Deadline::Never => None,
        Deadline::At(at) => Some(at.0.saturating_sub(now.seconds.0)),
    }
}

/// What depends on the order of the flags.
struct Order<'a> {
    now: &'a Now,
    call: MetaCall<'a>,
    options: Options,
}

impl Order<'_> {
    /// Whether both letters are there, and in this order.
    fn is_before(&self, first: u8, second: u8) -> bool {
        self.options.has(first)
            && self.options.has(second)
            && self
                .call
                .words
                .letters()
                .find(|&letter| letter == first || letter == second)
                == Some(first)
    }

    /// The deadline that an item made by a miss has when the flags before `end`, or all of them, have acted: `N` and `T`
    /// each give it one.
    fn deadline_of_made(&self, end: Option<u8>) -> Deadline {
        let mut exptime = 0;
        for letter in self.call.words.letters() {
            match letter {
                b'N' => exptime = self.options.vivify,
                b'T' => exptime = self.options.exptime,
                letter if Some(letter) == end => break,
                _ => {}
            }
        }
        self.now.deadline(exptime.into())
    }
}
