//! Clients with accounts: the knock, the answer, and what a user with fewer rights may not ask for.
//!
//! Always true: between the knock and its answer nothing of the session is read, and its index may have
//! gone to another by then, who hears nothing of it; and a request that is refused is replaced in its
//! place in the plan, so that replies keep their order.

use super::requests::Planned;
use super::*;
use crate::access::{Guest, Knock, Rights};
use crate::session::Intent;

impl Worker {
    /// Hands a name and password to whoever checks them.
    #[cold]
    pub(super) fn knock(&mut self, now: &Now, conn: ConnIndex, user: &[u8], password: &[u8]) {
        self.keeper.counters.auth_cmds += 1;
        let session = &mut self.sessions[conn as usize];
        let Role::Stranger(door) = session.role else {
            panic!("connection {conn} says who it is and is no stranger");
        };
        let guest = Guest {
            worker: self.index,
            conn,
            generation: session.generation,
        };
        let knock = Knock {
            guest,
            peer: stats::conns::peer(session.fd),
            user: user.into(),
            password: password.into(),
        };
        session.role = Role::Guest(door);
        let door = self.door.as_mut();
        let taken = door.is_some_and(|door| door.send(Job::Knock(knock)).is_ok());
        if !taken {
            self.admit(now, conn, guest.generation, Admission::Busy);
        }
    }

    /// Tells a session what came of its knock.
    #[cold]
    pub(super) fn admit(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        generation: u32,
        admission: Admission,
    ) {
        let session = &mut self.sessions[conn as usize];
        if session.generation != generation || session.closing {
            return;
        }
        let Role::Guest(door) = session.role else {
            return;
        };
        session.asked_s = now.seconds.0;
        let (role, text) = match admission {
            Admission::In(None) => (Role::Client, reply::STORED),
            Admission::In(Some(rights)) => (Role::Limited(rights), reply::STORED),
            Admission::Out => (Role::Stranger(door), ClientError::AuthFailure.wire()),
            Admission::Busy => (Role::Stranger(door), ServerError::LoginsMany.wire()),
        };
        let counters = &mut self.keeper.counters;
        counters.auth_errors += u64::from(matches!(role, Role::Stranger(_)));
        counters.auth_busy += u64::from(text == ServerError::LoginsMany.wire());
        session.role = role;
        self.furnish(conn);
        self.answer(conn, text);
        self.count_replies(conn);
        self.look_at(conn);
    }

    /// Puts refusals in the place of what the session's user may not do.
    #[cold]
    #[inline(never)]
    pub(super) fn restrict(&mut self, conn: ConnIndex, plan: &mut [Planned<'_>]) {
        let Role::Limited(rights) = &self.sessions[conn as usize].role else {
            return;
        };
        for planned in plan {
            let refusal = match planned {
                Planned::Get(get, _) | Planned::Away(get, ..) => refused_get(rights, get),
                Planned::Other(Intent::Get(get), ..) => refused_get(rights, get),
                Planned::Set(store, ..) => (!rights.allow_store(store.key)).then(|| {
                    let text = ClientError::AccessDenied.wire();
                    Intent::Answer(if store.noreply { b"" } else { text })
                }),
                Planned::Other(intent, ..) => (!rights.allow(intent)).then(|| refusal(intent)),
            };
            if let Some(intent) = refusal {
                self.keeper.counters.access_denied += 1;
                *planned = Planned::Other(intent, KeyHash::default(), None);
            }
        }
    }
}

/// What stands in the place of a key that may not be asked for. One of several is left out as if it were not
/// there: what was found before it may be on its way already.
fn refused_get(rights: &Rights, get: &GetKey<'_>) -> Option<Intent<'static>> {
    if rights.allow_get(get.key, get.kind.touches()) {
        return None;
    }
    Some(match (get.first, get.last) {
        (true, true) => Intent::Answer(ClientError::AccessDenied.wire()),
        (_, true) => Intent::Answer(reply::END),
        (_, false) => Intent::More,
    })
}

/// The answer to anything else that may not be done.
fn refusal(intent: &Intent<'_>) -> Intent<'static> {
    let packet = match intent {
        Intent::Packet(request, _) | Intent::PacketTooLarge(request) => Some(request.head),
        Intent::Taken(intake) | Intent::NoRoom(intake) => intake.packet,
        _ => None,
    };
    if let Some(head) = packet {
        return Intent::PacketRefused {
            head,
            status: binary::Status::Refused,
            last: false,
        };
    }
    let noreply = match intent {
        Intent::Store(store, _) | Intent::TooLarge(store) => store.noreply,
        // Of a meta command this is its q, which silences no error.
        Intent::Taken(intake) | Intent::NoRoom(intake) => intake.noreply && intake.meta.is_none(),
        Intent::Request(
            Request::Delete { noreply, .. }
            | Request::Arith { noreply, .. }
            | Request::Touch { noreply, .. }
            | Request::FlushAll { noreply, .. }
            | Request::FlushPrefix { noreply, .. }
            | Request::Verbosity { noreply, .. }
            | Request::MemoryLimit { noreply, .. }
            | Request::Shutdown { noreply, .. }
            | Request::Crawler { noreply, .. }
            | Request::SlabsReassign { noreply, .. }
            | Request::Moot { noreply }
            | Request::DebugTime { noreply, .. },
        ) => *noreply,
        _ => false,
    };
    Intent::Answer(match noreply {
        true => b"",
        false => ClientError::AccessDenied.wire(),
    })
}
