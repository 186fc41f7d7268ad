//! What a process has used, read from `/proc`.
//!
//! Always true: readings only grow, so a difference of two is what was used between them; what a process used is
//! counted in nanoseconds, what the machine did in hundredths of a second of all cores together.

use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::time::ClockId;
use nix::unistd::Pid;

/// Clock ticks a second in `/proc/<pid>/stat`: fixed by the kernel's interface on all machines
/// Strata runs on.
const TICKS: f64 = 100.0;

/// Counters of one process at one moment, and the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// When it was read, in seconds since some moment.
    pub at_s: f64,
    /// Seconds in user mode and in the kernel on its behalf, exactly.
    pub cpu_s: f64,
    /// Those in user mode. Ticks of the clock share the exact time out between the two.
    pub user_s: f64,
    /// Those in the kernel.
    pub system_s: f64,
    /// Context switches of all its threads.
    pub switches: u64,
    /// Resident memory in KiB. Not a counter: the latest reading.
    pub resident_kib: u64,
    /// Seconds that all cores together were busy, with anything, since some moment.
    pub machine_busy_s: f64,
    /// Seconds that all cores together were taken by the host.
    pub machine_stolen_s: f64,
}

impl Usage {
    /// Reads all counters of process `id`.
    pub fn of(id: u32) -> Result<Self> {
        let read = |path: String| std::fs::read_to_string(&path).context(path);
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(id.try_into()?))?.now()?;
        let (user_s, system_s) = cpu(&read(format!("/proc/{id}/stat"))?).context("/proc stat")?;
        let mut switches = 0;
        for task in std::fs::read_dir(format!("/proc/{id}/task"))? {
            // A thread may end while we look.
            if let Ok(status) = std::fs::read_to_string(task?.path().join("status")) {
                switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
                switches += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
            }
        }
        let status = read(format!("/proc/{id}/status"))?;
        let at_s = BEGINNING.elapsed().as_secs_f64();
        let (machine_busy_s, machine_stolen_s) =
            machine(&read("/proc/stat".into())?, at_s).context("/proc/stat")?;
        Ok(Self {
            at_s,
            cpu_s: std::time::Duration::from(clock).as_secs_f64(),
            user_s,
            system_s,
            switches,
            resident_kib: field(&status, "VmRSS:").unwrap_or(0),
            machine_busy_s,
            machine_stolen_s,
        })
    }

    /// What was used since an earlier reading.
    pub fn since(self, earlier: Self) -> Self {
        let cpu_s = self.cpu_s - earlier.cpu_s;
        let (user_s, system_s) = (
            self.user_s - earlier.user_s,
            self.system_s - earlier.system_s,
        );
        // Less than a tick goes to user mode.
        let user_share = if user_s + system_s > 0.0 {
            user_s / (user_s + system_s)
        } else {
            1.0
        };
        Self {
            at_s: self.at_s - earlier.at_s,
            cpu_s,
            user_s: cpu_s * user_share,
            system_s: cpu_s * (1.0 - user_share),
            switches: self.switches.saturating_sub(earlier.switches),
            resident_kib: self.resident_kib,
            machine_busy_s: self.machine_busy_s - earlier.machine_busy_s,
            machine_stolen_s: self.machine_stolen_s - earlier.machine_stolen_s,
        }
    }
}

/// User and system seconds of a `stat` line. The second word is the program's name in
/// parentheses and may hold anything, so fields are counted behind its end.
fn cpu(stat: &str) -> Option<(f64, f64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user / TICKS, system / TICKS))
}

/// The number behind a name at the beginning of a line.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What times are counted from, so that they are small.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Busy and stolen seconds of all cores at a time: the first line counts user, nice, system, idle, iowait, irq,
/// softirq, steal. Busy is what is neither idle nor stolen: the kernel times idleness, but charges a whole tick to whoever
/// it finds at work, which told up to a seventh of a core of a server whose threads wake each other.
fn machine(stat: &str, now_s: f64) -> Option<(f64, f64)> {
    let numbers: Vec<f64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect();
    let [_, _, _, idle, iowait, _, _, steal, ..] = numbers[..] else {
        return None;
    };
    let is_core = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
    };
    let cores = stat.lines().filter(is_core).count() as f64;
    Some((
        cores * now_s - (idle + iowait + steal) / TICKS,
        steal / TICKS,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 1 1 0 -1 4194304 1 2 3 4 150 250 0 0 20 0 1 0 100";
        assert_eq!(cpu(stat), Some((1.5, 2.5)));
    }

    #[test]
    fn our_own_use_is_counted() {
        let before = Usage::of(std::process::id()).expect("/proc");
        let mut number = 1_u64;
        let mut after = before;
        // One tick is ten milliseconds; this ends as soon as one has been used. The kernel keeps the machine's ticks apart
        // from ours, so one may be counted before the other.
        while after.user_s + after.system_s <= before.user_s + before.system_s
            || after.machine_busy_s <= before.machine_busy_s
        {
            for _ in 0..1_000_000 {
                number = std::hint::black_box(number.wrapping_mul(3));
            }
            after = Usage::of(std::process::id()).expect("/proc");
        }
        let used = after.since(before);
        assert!(used.cpu_s > 0.0);
        assert!(used.machine_busy_s > 0.0);
        assert!(used.resident_kib > 100);
    }

    #[test]
    fn the_machine_is_busy_when_it_is_neither_idle_nor_stolen() {
        let at = |idle: u32, steal: u32, now_s: f64| {
            let stat = format!("cpu  1 2 3 {idle} 100 6 7 {steal} 0 0\ncpu0 1\ncpu11 1\nintr 7\n");
            machine(&stat, now_s).expect("numbers")
        };
        let (before, after) = (at(300, 40, 10.0), at(350, 60, 11.0));
        // Two cores for one second, of which half a second was idle and a fifth stolen.
        assert!((after.0 - before.0 - 1.3).abs() < 1e-9);
        assert!((after.1 - before.1 - 0.2).abs() < 1e-9);
    }

    #[test]
    fn ticks_share_out_the_exact_time() {
        let reading = |cpu_s, user_s, system_s| Usage {
            cpu_s,
            user_s,
            system_s,
            ..Usage::default()
        };
        let used = reading(5.5, 1.25, 4.0).since(reading(4.5, 1.0, 3.25));
        assert_eq!((used.cpu_s, used.user_s, used.system_s), (1.0, 0.25, 0.75));
        let used = reading(4.501, 1.0, 3.25).since(reading(4.5, 1.0, 3.25));
        assert!((used.user_s - 0.001).abs() < 1e-9 && used.system_s == 0.0);
    }
}
