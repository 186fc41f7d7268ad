//! What a process has used, read from `/proc`.
//!
//! Always true: readings only grow, so a difference of two is what was used between them.

use anyhow::{Context, Result};

/// Clock ticks a second in `/proc/<pid>/stat`: fixed by the kernel's interface on all machines
/// Strata runs on.
const TICKS: f64 = 100.0;

/// Counters of one process at one moment, and the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Seconds in user mode.
    pub user_s: f64,
    /// Seconds in the kernel on its behalf.
    pub system_s: f64,
    /// Context switches of all its threads.
    pub switches: u64,
    /// Resident memory in KiB. Not a counter: the latest reading.
    pub resident_kib: u64,
    /// Seconds that all cores together were busy, with anything.
    pub machine_busy_s: f64,
    /// Seconds that all cores together were taken by the host.
    pub machine_stolen_s: f64,
}

impl Usage {
    /// Reads all counters of process `id`.
    pub fn of(id: u32) -> Result<Self> {
        let read = |path: String| std::fs::read_to_string(&path).context(path);
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
        let (machine_busy_s, machine_stolen_s) =
            machine(&read("/proc/stat".into())?).context("/proc/stat")?;
        Ok(Self {
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
        Self {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
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

/// Busy and stolen seconds of all cores: the first line counts user, nice, system, idle, iowait,
/// irq, softirq, steal.
fn machine(stat: &str) -> Option<(f64, f64)> {
    let numbers: Vec<f64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect();
    let [user, nice, system, _, _, irq, softirq, steal, ..] = numbers[..] else {
        return None;
    };
    Some((
        (user + nice + system + irq + softirq) / TICKS,
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
        assert!(used.user_s + used.system_s > 0.0);
        assert!(used.machine_busy_s > 0.0);
        assert!(used.resident_kib > 100);
    }

    #[test]
    fn the_machines_first_line_is_summed_without_idleness() {
        let stat = "cpu  100 200 300 9999 9999 10 20 40 0 0\ncpu0 1 2 3\n";
        let (busy_s, stolen_s) = machine(stat).expect("numbers");
        assert!((busy_s - 6.3).abs() < 1e-9);
        assert!((stolen_s - 0.4).abs() < 1e-9);
    }
}
