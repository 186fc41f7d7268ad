//! Meta commands: a line and its value to the keeper, here or at the key's owner.
//!
//! Another worker gets the key itself, the flags as they were sent, and the value, one behind the other in the parcel; it
//! answers with the bytes of the reply, none if the flags ask for none.

use strata_protocol::meta::MetaKey;
use strata_protocol::{KEY_MAX_BYTES, Meta, StoreVerb};

use super::*;
use crate::execute::MetaCall;

impl Worker {
    /// Carries out a meta command.
    #[inline]
    pub(super) fn meta(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        hash: KeyHash,
        meta: Meta<'_>,
        value: &[u8],
    ) {
        let call = MetaCall {
            verb: meta.verb,
            base64: meta.key().is_base64(),
            words: meta.words,
            value,
        };
        match meta.key().plain() {
            Some(key) => self.meta_of(now, conn, hash, key, call),
            None => {
                let mut buffer = [0; KEY_MAX_BYTES];
                let key = meta.key().bytes(&mut buffer);
                self.meta_of(now, conn, hash, key, call);
            }
        }
    }

    #[inline]
    fn meta_of(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        hash: KeyHash,
        key: &[u8],
        call: MetaCall<'_>,
    ) {
        let owner = self.route.owner(hash, key);
        if owner == self.index {
            self.keeper.counters.commands_local += 1;
            self.meta_here(now, conn, hash, key, call);
            return;
        }
        self.keeper.counters.commands_remote += 1;
        let ticket = self.ticket(conn);
        let words = call.words.text();
        let asker = self.sessions[conn as usize].fd;
        self.visit(owner, |visit| {
            visit.asker = asker;
            visit.ticket = ticket;
            visit.hash = hash;
            visit.op = Op::Meta {
                verb: call.verb,
                base64: call.base64,
                words_bytes: words.len() as u16,
            };
            visit.quiet = false;
            visit.key_bytes = key.len() as u8;
            visit.parcel.clear();
            visit.parcel.put(key);
            visit.parcel.put(words);
            visit.parcel.put(call.value);
        });
    }

    fn meta_here(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        hash: KeyHash,
        key: &[u8],
        call: MetaCall<'_>,
    ) {
        if self.observer.on {
            // The way of a command of another worker's client tells of it.
            let words = call.words.text();
            let op = Op::Meta {
                verb: call.verb,
                base64: call.base64,
                words_bytes: words.len() as u16,
            };
            let value = [words, call.value].concat();
            self.command_here(now, conn, op, hash, key, &value, false);
            return;
        }
        let key = Key { hash, bytes: key };
        let keeper = &mut self.keeper;
        let replies = &mut self.sessions[conn as usize].replies;
        let outcome = replies.ready(|out| keeper.execute_meta(now, key, call, out));
        self.lend_if_asked(conn, outcome);
    }

    /// Refuses an `ms` whose value is larger than an item may be. As memcached does, whatever the mode.
    pub(super) fn refuse_meta(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        hash: KeyHash,
        key: MetaKey<'_>,
    ) {
        let op = Op::Refuse {
            verb: StoreVerb::Set,
            too_large: true,
        };
        let mut buffer = [0; KEY_MAX_BYTES];
        let key = key.bytes(&mut buffer);
        self.command(now, conn, op, hash, key, &[], false);
    }
}

/// The hash of the key of an intent that has one in base64; nothing in particular for the others.
#[cold]
pub(super) fn decoded_hash(hasher: &KeyHasher, intent: &Intent<'_>) -> KeyHash {
    let (Intent::Meta(meta, _) | Intent::MetaTooLarge(meta)) = intent else {
        return KeyHash::default();
    };
    let mut buffer = [0; KEY_MAX_BYTES];
    hasher.hash(meta.key().bytes(&mut buffer))
}
