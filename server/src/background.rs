//! Threads that only work while no worker on their core has anything to do.
//!
//! Pages for operators, lines for standard error and hashes of passwords take milliseconds of a processor
//! in pieces that nobody waits for as a client waits for a reply. Where such a thread shares a core with a
//! worker, the kernel would let it finish a slice of milliseconds while the worker has requests: a lower nice value
//! changes how large its part is and not when it ends. With the policy SCHED_IDLE a worker that wakes takes
//! the core at once.
//!
//! Always true: what such a thread and a worker hand each other goes over [`crate::lanes`], so that the thread holds
//! nothing of ours that a worker waits for. On a machine whose every core is busy it gets a part in three hundred
//! of one, so nobody may rely on it to be quick.
//!
//! What is not ours they do share: the allocator, which locks an arena when one frees what the other allocated, and
//! rustls' cache of TLS 1.2 sessions and keys of tickets, which the thread of a handshake locks for a moment and a
//! worker too in a step it makes itself. A worker that meets such a lock sleeps until it is free, and the thread
//! that has it then gets the core, unless others want it.

/// Makes the calling thread one of these. Where the kernel refuses it stays as it was, which costs
/// only what this saves.
pub fn yield_to_workers() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters live until the call has returned, which only reads them; 0 is the
    // calling thread.
    let _ = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &parameters) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_gives_way() {
        fn policy() -> i32 {
            // SAFETY: it has no memory of ours to touch; 0 is the calling thread.
            unsafe { libc::sched_getscheduler(0) }
        }
        let before = policy();
        let inside = std::thread::spawn(|| {
            yield_to_workers();
            policy()
        });
        assert_eq!(inside.join().expect("a policy"), libc::SCHED_IDLE);
        assert_eq!(policy(), before);
    }
}
