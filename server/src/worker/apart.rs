//! Sessions that are not, or not yet, for requests and replies.
//!
//! Always true: a stranger's bytes reach no shard, and nothing but its name and password is read of
//! them, and where passwords are hashed `version` and `quit`; what stands behind the right password is read as any client's.

use strata_protocol::auth::Knock;

use super::*;

impl Worker {
    /// The turn of a session that is no client. How many bytes it used; without a pause the rest is
    /// a client's.
    #[cold]
    pub(super) fn turn_apart(
        &mut self,
        now: &Now,
        conn: ConnIndex,
        input: &[u8],
    ) -> (usize, Option<Pause>) {
        self.furnish(conn);
        let mut used = 0;
        for _ in 0..self.share {
            let session = &mut self.sessions[conn as usize];
            let scarce = self.reply_bytes >= REPLIES_MAX_BYTES && !session.replies.out.is_empty();
            if session.replies.room() == 0 || scarce {
                return (used, Some(Pause::Full));
            }
            let door = match &mut session.role {
                Role::Client | Role::Limited(_) => return (used, None),
                Role::Guest(_) => return (used, Some(Pause::Full)),
                Role::Stranger(door) => door,
                // What a watcher says is of no interest, as with memcached.
                Role::Watcher(_) => return (input.len(), Some(Pause::Empty)),
                Role::Dump(_) => return (used, Some(Pause::Full)),
            };
            let (taken, knock) = door.next(&input[used..]);
            used += taken;
            let text = match knock {
                Knock::More => return (used, Some(Pause::Empty)),
                Knock::Lost => return (used, Some(Pause::End)),
                Knock::Version => {
                    self.write(conn, |out| reply::version(out, stats::VERSION));
                    self.count_replies(conn);
                    continue;
                }
                Knock::Refused(error) => error.wire(),
                Knock::Name { user, password } if self.door.is_some() => {
                    self.knock(now, conn, user, password);
                    continue;
                }
                Knock::Name { user, password } => {
                    self.keeper.counters.auth_cmds += 1;
                    if self.users.know(user, password) {
                        session.role = Role::Client;
                        session.asked_s = now.seconds.0;
                        reply::STORED
                    } else {
                        self.keeper.counters.auth_errors += 1;
                        ClientError::AuthFailure.wire()
                    }
                }
            };
            self.answer(conn, text);
            self.count_replies(conn);
        }
        (used, Some(Pause::Yield))
    }
}
