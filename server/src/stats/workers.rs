//! `stats workers`: what is told of each worker by itself, and the queues between each two.

use strata_protocol::reply::Sink;

use super::{Counters, Snapshot, line};
use crate::latency::ticks::LongTick;

/// The most that the mailboxes between one worker and one peer have held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueMarks {
    /// Requests sent to the peer that had not come home.
    pub to: u64,
    /// Requests of the peer that waited to be served.
    pub from: u64,
}

/// What `stats workers` tells of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerFigures {
    /// Which worker.
    pub index: usize,
    /// What it counted.
    pub counters: Counters,
    /// Connections that live on it.
    pub connections: u64,
    /// Its longest tick, in microseconds, if ticks are timed.
    pub longest_tick_us: Option<u64>,
    /// Its longest ticks, the longest first.
    pub long_ticks: Vec<LongTick>,
    /// Its queues, by peer; its own place is zero.
    pub queues: Vec<QueueMarks>,
}

impl WorkerFigures {
    /// The figures that are one number for each worker: name, what it says, whether it only
    /// grows, and the number.
    #[must_use]
    pub fn numbers(&self) -> Vec<(&'static str, &'static str, bool, u64)> {
        let counters = &self.counters;
        let mut numbers = vec![
            ("connections", "Connections.", false, self.connections),
            (
                "commands_local",
                "Commands of its clients whose key it owns.",
                true,
                counters.commands_local,
            ),
            (
                "commands_remote",
                "Commands of its clients that it sent to the key's owner.",
                true,
                counters.commands_remote,
            ),
            (
                "commands_served",
                "Commands of other workers' clients.",
                true,
                counters.commands_served,
            ),
            ("ticks", "Ticks.", true, counters.ticks),
            ("wakes_sent", "Other workers woken.", true, counters.wakes),
            ("wakes_received", "Times rung awake.", true, counters.rings),
            (
                "parked",
                "Times a connection waited for room at another worker.",
                true,
                counters.parked,
            ),
            (
                "idle_kicks",
                "Connections closed for want of requests.",
                true,
                counters.idle_kicks,
            ),
            (
                "intake_cuts",
                "Connections closed in the middle of a large value that took up room for too long.",
                true,
                counters.intake_cuts,
            ),
            (
                "replies_full",
                "Times a connection made no further request because its replies had reached a bound.",
                true,
                counters.replies_full,
            ),
            (
                "input_full",
                "Times a connection was not received from because too much of its input waited.",
                true,
                counters.input_full,
            ),
            (
                "lent_waits",
                "Times a large value waited for a later tick.",
                true,
                counters.lent_waits,
            ),
            (
                "sips",
                "Times it began to receive in small sips.",
                true,
                counters.sips,
            ),
            (
                "dumps_cut",
                "Dumps that were ended because their client did not read.",
                true,
                counters.dumps_cut,
            ),
            (
                "prefixes_uncounted",
                "Commands whose prefix found no room among those that are counted.",
                true,
                counters.prefixes_uncounted,
            ),
            (
                "gentle_ticks",
                "Ticks that were kept short for those who ask for little at a time.",
                true,
                counters.gentle_ticks,
            ),
            (
                "full_polls",
                "Times more had happened than one tick takes.",
                true,
                counters.full_polls,
            ),
            (
                "buffers_short",
                "Times a receive found all receive buffers in use.",
                true,
                counters.buffers_short,
            ),
            (
                "receives_tamed",
                "Connections that had filled many buffers in one tick beside others, and have one a tick since then.",
                true,
                counters.receives_tamed,
            ),
        ];
        if let Some(longest_us) = self.longest_tick_us {
            let help = "Longest tick since the last reset, in microseconds.";
            numbers.push(("longest_tick_us", help, false, longest_us));
        }
        numbers
    }
}

/// `stats workers`: each worker's figures by its index, and the queues between each two.
pub(super) fn workers(sum: &Snapshot, out: &mut impl Sink) {
    let mut list: Vec<&WorkerFigures> = sum.workers.iter().collect();
    list.sort_by_key(|worker| worker.index);
    for worker in list {
        let index = worker.index;
        for (name, _, _, number) in worker.numbers() {
            line(out, &format!("{index}:{name}"), number);
        }
        let counters = &worker.counters;
        let commands = counters.commands_local + counters.commands_remote;
        let share = |part: u64| part * 100 / commands.max(1);
        line(
            out,
            &format!("{index}:local_percent"),
            share(counters.commands_local),
        );
        for (peer, queue) in worker.queues.iter().enumerate() {
            if peer != index {
                line(out, &format!("{index}:queue_to_{peer}_most"), queue.to);
                line(out, &format!("{index}:queue_from_{peer}_most"), queue.from);
            }
        }
    }
}
