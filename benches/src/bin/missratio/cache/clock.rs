//! The invented clock of a library that reads the system's, and the way out of a loop it cannot leave.
//!
//! The segcache crate asks `clock_gettime` for the coarse monotonic time, in whole seconds. This file defines that
//! function for the whole program: it answers this one clock with the second of the calling thread's replay, once
//! there is one, and hands every other question to the kernel.
//!
//! The crate waits for other threads by yielding. In a replay there are none, so a thread that yields again and again
//! within one request waits for ever: this file defines `sched_yield` too, and ends the process with [`STUCK`]. That is
//! why each replay of the crate has a process of its own.
//!
//! Always true: a thread sees its own replay's seconds and no other's; time measured with other clocks stays real.

use std::cell::Cell;

thread_local! {
    static SECOND: Cell<Option<u32>> = const { Cell::new(None) };
    static YIELDS: Cell<u32> = const { Cell::new(0) };
}

/// Exit code of a process whose replay waits for ever.
pub const STUCK: i32 = 77;
/// Yields within one request after which nothing else can come.
const YIELDS_MAX: u32 = 10_000;

/// Added to every second, so that times before the start of a replay can be told too.
const START_SECONDS: i64 = 1 << 20;

/// Sets the coarse monotonic clock of this thread.
pub fn set(second: u32) {
    SECOND.set(Some(second));
}

/// Tells that another request begins.
#[inline]
pub fn begin_request() {
    YIELDS.set(0);
}

/// In place of the system's function: as a thread alone has it, until it is clear that the wait has no end.
#[unsafe(no_mangle)]
#[allow(unsafe_code)]
extern "C" fn sched_yield() -> libc::c_int {
    let yields = YIELDS.try_with(|yields| {
        yields.set(yields.get() + 1);
        yields.get()
    });
    let replays = SECOND
        .try_with(Cell::get)
        .is_ok_and(|second| second.is_some());
    if replays && yields.is_ok_and(|yields| yields > YIELDS_MAX) {
        std::process::exit(STUCK);
    }
    // SAFETY: the call has no arguments that could be wrong.
    unsafe { libc::syscall(libc::SYS_sched_yield) as libc::c_int }
}

/// The system's function, with this thread's second in the place of the coarse monotonic clock.
///
/// # Safety
/// `time` must be valid for a write, as POSIX asks of its callers.
#[unsafe(no_mangle)]
#[allow(unsafe_code)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    if clock == libc::CLOCK_MONOTONIC_COARSE
        && let Ok(Some(second)) = SECOND.try_with(Cell::get)
    {
        let answer = libc::timespec {
            tv_sec: START_SECONDS + i64::from(second),
            tv_nsec: 0,
        };
        // SAFETY: the caller promises that `time` may be written.
        unsafe { time.write(answer) };
        return 0;
    }
    // SAFETY: the kernel checks the pointer itself and fails with EFAULT.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn other_clocks_stay_real() {
        let before = Instant::now();
        set(1_000_000);
        assert!(before.elapsed() < Duration::from_secs(1000));
        SECOND.set(None);
    }
}
