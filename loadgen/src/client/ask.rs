//! The asking half of a [`Pipeline`]: requests become bytes, and are remembered as outstanding.
//!
//! Always true: what is appended to `out` and what is remembered are the same requests in the same
//! order.

use strata_protocol::client as wire;
use strata_protocol::{ArithVerb, GetKind, Store, StoreVerb};

use super::meta::{self, Condition};
use super::{Dialect, FollowUp, Outstanding, Pipeline, Terms, Then};
use crate::kind::Kind;
use crate::workload::{Ask, Requests};

/// What a new counter holds.
const COUNTER_START: &[u8] = b"0";

impl Pipeline {
    /// Appends the request that a reply has led to, if there is one, and says when it was due.
    pub fn offer_follow_up(
        &mut self,
        terms: &Terms,
        sent_ns: u64,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        let next = self.follow_ups.pop_front()?;
        let before = out.len();
        if next.kind == Kind::Add {
            let key = terms.keys.counter(next.key);
            self.store(
                Kind::Add,
                key.as_ref(),
                &next,
                COUNTER_START.len(),
                terms,
                out,
            );
            out.extend_from_slice(COUNTER_START);
        } else {
            let key = terms.keys.key(next.key);
            let value_bytes = next.value_bytes as usize;
            self.store(next.kind, key.as_ref(), &next, value_bytes, terms, out);
            self.version += 1;
            terms.tape.render(next.key, value_bytes, self.version, out);
        }
        out.extend_from_slice(b"\r\n");
        self.outstanding.push_back(Outstanding {
            due_ns: next.due_ns,
            sent_ns,
            key: next.key,
            bytes: (out.len() - before) as u32,
            key_count: 1,
            value_bytes: next.value_bytes,
            exptime: next.exptime,
            kind: next.kind,
            then: Then::Nothing,
        });
        Some(next.due_ns)
    }

    /// The line of a write.
    fn store(
        &mut self,
        kind: Kind,
        key: &[u8],
        write: &FollowUp,
        value_bytes: usize,
        terms: &Terms,
        out: &mut Vec<u8>,
    ) {
        if terms.dialect == Dialect::Meta {
            let condition = match kind {
                Kind::Add => Condition::Absent,
                Kind::Cas => Condition::Unique(write.unique),
                _ => Condition::None,
            };
            let opaque = self.next_opaque();
            meta::store_line(
                out,
                key,
                value_bytes as u32,
                write.exptime,
                condition,
                opaque,
            );
            return;
        }
        let line = Store {
            verb: match kind {
                Kind::Add => StoreVerb::Add,
                Kind::Cas => StoreVerb::Cas,
                _ => StoreVerb::Set,
            },
            key,
            flags: 0,
            exptime: write.exptime.into(),
            value_bytes: value_bytes as u32,
            cas: write.unique,
            noreply: false,
        };
        wire::store_line(&mut |bytes: &[u8]| out.extend_from_slice(bytes), &line);
    }

    fn next_opaque(&mut self) -> u32 {
        self.opaque_sent = self.opaque_sent.wrapping_add(1);
        self.opaque_sent
    }

    /// Appends the request `ask` to `out`. Further keys of a retrieval come from `requests`.
    #[inline]
    pub fn offer(
        &mut self,
        ask: &Ask,
        requests: &mut Requests,
        terms: &Terms,
        due_ns: u64,
        sent_ns: u64,
        out: &mut Vec<u8>,
    ) {
        debug_assert!(self.has_room());
        if ask.kind != Kind::Get || ask.key_count != 1 || terms.dialect != Dialect::Classic {
            self.offer_any(ask, requests, terms, due_ns, sent_ns, out);
            return;
        }
        // By far the most frequent request, rendered without a copy of its key.
        let before = out.len();
        self.keys.push_back(ask.key);
        terms.get_head.append(out);
        terms.keys.append_name(ask.key, out);
        out.extend_from_slice(b"\r\n");
        self.outstanding.push_back(Outstanding {
            due_ns,
            sent_ns,
            key: ask.key,
            bytes: (out.len() - before) as u32,
            key_count: 1,
            value_bytes: ask.value_bytes,
            exptime: ask.exptime,
            kind: Kind::Get,
            then: match self.set_on_miss {
                true => Then::SetOnMiss,
                false => Then::Nothing,
            },
        });
    }

    /// Any request. Apart, because the keys it copies make for a large frame.
    #[inline(never)]
    fn offer_any(
        &mut self,
        ask: &Ask,
        requests: &mut Requests,
        terms: &Terms,
        due_ns: u64,
        sent_ns: u64,
        out: &mut Vec<u8>,
    ) {
        let before = out.len();
        let (kind, then) = match ask.kind {
            Kind::Cas => (Kind::Get, Then::Cas),
            Kind::Get if self.set_on_miss && ask.key_count == 1 => (Kind::Get, Then::SetOnMiss),
            Kind::Incr => (Kind::Incr, Then::AddCounter),
            kind => (kind, Then::Nothing),
        };
        match kind {
            Kind::Get | Kind::Gat => {
                if terms.dialect == Dialect::Meta {
                    self.meta_get(ask, then, requests, terms, out);
                } else {
                    let keys = &mut self.keys;
                    let drawn = (0..ask.key_count).map(|index| {
                        let key = if index == 0 {
                            ask.key
                        } else {
                            requests.get_key()
                        };
                        keys.push_back(key);
                        terms.keys.key(key)
                    });
                    let verb = match (kind, then) {
                        (Kind::Gat, _) => GetKind::Gat,
                        (_, Then::Cas) => GetKind::Gets,
                        _ => GetKind::Get,
                    };
                    let mut sink = |bytes: &[u8]| out.extend_from_slice(bytes);
                    wire::retrieve(&mut sink, verb, ask.exptime.into(), drawn);
                }
            }
            Kind::Set | Kind::Add | Kind::Cas => {
                let write = FollowUp {
                    kind,
                    key: ask.key,
                    unique: 0,
                    value_bytes: ask.value_bytes,
                    exptime: ask.exptime,
                    due_ns,
                };
                let key = terms.keys.key(ask.key);
                let value_bytes = ask.value_bytes as usize;
                self.store(kind, key.as_ref(), &write, value_bytes, terms, out);
                terms.tape.render(ask.key, value_bytes, ask.version, out);
                out.extend_from_slice(b"\r\n");
            }
            Kind::Delete | Kind::Incr | Kind::Touch => self.other(kind, ask, terms, out),
        }
        self.outstanding.push_back(Outstanding {
            due_ns,
            sent_ns,
            key: ask.key,
            bytes: (out.len() - before) as u32,
            key_count: ask.key_count,
            value_bytes: ask.value_bytes,
            exptime: ask.exptime,
            kind,
            then,
        });
    }

    fn meta_get(
        &mut self,
        ask: &Ask,
        then: Then,
        requests: &mut Requests,
        terms: &Terms,
        out: &mut Vec<u8>,
    ) {
        let exptime = (ask.kind == Kind::Gat).then_some(ask.exptime);
        for index in 0..ask.key_count {
            let key = if index == 0 {
                ask.key
            } else {
                requests.get_key()
            };
            self.keys.push_back(key);
            let opaque = self.next_opaque();
            let key = terms.keys.key(key);
            meta::get(out, key.as_ref(), then == Then::Cas, exptime, opaque);
        }
    }

    fn other(&mut self, kind: Kind, ask: &Ask, terms: &Terms, out: &mut Vec<u8>) {
        let key = match kind {
            Kind::Incr => terms.keys.counter(ask.key),
            _ => terms.keys.key(ask.key),
        };
        let key = key.as_ref();
        if terms.dialect == Dialect::Meta {
            let opaque = self.next_opaque();
            match kind {
                Kind::Delete => meta::delete(out, key, opaque),
                Kind::Touch => meta::touch(out, key, ask.exptime, opaque),
                _ => meta::incr(out, key, opaque),
            }
            return;
        }
        let mut sink = |bytes: &[u8]| out.extend_from_slice(bytes);
        match kind {
            Kind::Delete => wire::delete(&mut sink, key, false),
            Kind::Touch => wire::touch(&mut sink, key, ask.exptime.into(), false),
            _ => wire::arith(&mut sink, ArithVerb::Incr, key, 1, false),
        }
    }
}
