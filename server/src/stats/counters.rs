//! What each worker counts, in plain numbers of its own.
//!
//! Always true: a number is counted by exactly one worker, so the sum over all workers is what the
//! clients did, to the request.

macro_rules! counters {
    ($(#[$doc:meta] $name:ident,)*) => {
        /// What the commands of one worker did since its start or the last `stats reset`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $(#[$doc] pub $name: u64,)*
        }

        impl Counters {
            /// Adds another worker's.
            pub fn add(&mut self, other: &Counters) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Keys asked for by `get` and `gets`.
    cmd_get,
    /// Storage commands that reached a shard.
    cmd_set,
    /// `flush_all`, refused ones too.
    cmd_flush,
    /// `flush_prefix`, refused ones too.
    cmd_flush_prefix,
    /// `touch`, and keys asked for by `gat` and `gats`.
    cmd_touch,
    /// Meta commands.
    cmd_meta,
    /// Keys of `get` found.
    get_hits,
    /// Keys of `get` not found.
    get_misses,
    /// `delete` of nothing.
    delete_misses,
    /// Items deleted.
    delete_hits,
    /// `incr` of nothing.
    incr_misses,
    /// `incr` done.
    incr_hits,
    /// `decr` of nothing.
    decr_misses,
    /// `decr` done.
    decr_hits,
    /// `cas` of nothing.
    cas_misses,
    /// `cas` that stored.
    cas_hits,
    /// `cas` of an item that had changed.
    cas_badval,
    /// Items given a new deadline.
    touch_hits,
    /// `touch` of nothing.
    touch_misses,
    /// Values refused for their size.
    store_too_large,
    /// Values refused for want of memory.
    store_no_memory,
    /// Clients that said who they are.
    auth_cmds,
    /// Of those, clients that were not let in.
    auth_errors,
    /// Of those, clients whose password nobody looked at because too many others waited.
    auth_busy,
    /// Requests refused because their user has no right to them.
    access_denied,
    /// Log lines that found no room on their way to watchers.
    log_worker_dropped,
    /// Log lines written.
    log_worker_written,
    /// Lines that a watcher was too slow for.
    log_watcher_skipped,
    /// Lines that a watcher was given.
    log_watcher_sent,
    /// Bytes received from clients.
    bytes_read,
    /// Bytes sent to clients.
    bytes_written,
    /// Times a session with more requests had to let the others go first.
    conn_yields,
    /// Connections accepted.
    total_connections,
    /// Connections refused because there were too many.
    rejected_connections,
    /// Connections closed because they made no request for too long.
    idle_kicks,
    /// Connections closed in the middle of a large value that took up room for too long.
    intake_cuts,
    /// Commands with a key that a client gave to the worker that owns it.
    commands_local,
    /// Commands with a key that a client gave to another worker, which sent them to the owner.
    commands_remote,
    /// Commands with a key that came from other workers.
    commands_served,
    /// Requests sent to other workers: remote commands, pieces of lent values, questions.
    visits_sent,
    /// Requests of other workers served.
    visits_served,
    /// Replies that came home to a session that was gone.
    late_replies,
    /// Times a session had to wait because another worker had no room.
    parked,
    /// Times a connection made no further request because its replies had reached a bound.
    replies_full,
    /// Times a connection was not received from because too much of its input waited.
    input_full,
    /// Times a lent value waited for a later tick.
    lent_waits,
    /// Times it began to receive in small sips.
    sips,
    /// Dumps that were ended because their client did not read.
    dumps_cut,
    /// Commands whose prefix found no room among those that are counted.
    prefixes_uncounted,
    /// Ticks that were kept short for those who ask for little at a time.
    gentle_ticks,
    /// Times more had happened than one tick takes.
    full_polls,
    /// Times a receive found all receive buffers in use.
    buffers_short,
    /// Connections that lost a receive that goes on by itself because it filled many buffers.
    receives_tamed,
    /// Ticks.
    ticks,
    /// Other workers woken.
    wakes,
    /// Times it was rung awake, by another worker or by the control plane.
    rings,
}

impl Counters {
    /// Sets everything to zero.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
