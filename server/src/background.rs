//! Threads that only work while no worker on their core has anything to do.
//!
//! Pages for operators, lines for standard error and hashes of passwords take milliseconds of a processor
//! in pieces that nobody waits for as a client waits for a reply. Where such a thread shares a core with a
//! worker, the kernel would let it finish a slice of milliseconds while the worker has requests: a lower nice value
//! changes how large its part is and not when it ends. With the policy SCHED_IDLE a worker that wakes takes
//! the core at once.
//!
//! Always true: such a thread holds nothing that a worker waits for in its tick. On a machine whose every core is
//! busy it gets a part in three hundred of one, so nobody may rely on it to be quick.

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
