//! What the host and the control groups around this process let it have, read from the files in which the kernel says so.
//!
//! Always true: every path is taken below a root, so that a made-up tree is read like the real one; and a file that is
//! not there or cannot be understood limits nothing.

use std::path::{Path, PathBuf};

use crate::config::{
    CARRY_MAX_BYTES, INTAKE_MAX_BYTES, RECEIVE_BUFFER_BYTES, RECEIVE_BUFFERS, REPLIES_MAX_BYTES,
};

/// What the buffers of one worker may grow to beside the memory for items, for its largest parts.
pub const WORKER_BUFFERS_MAX_BYTES: usize =
    CARRY_MAX_BYTES + INTAKE_MAX_BYTES + REPLIES_MAX_BYTES + RECEIVE_BUFFERS * RECEIVE_BUFFER_BYTES;

/// `-m auto` leaves this part of the memory to everything that is neither items nor buffers of workers: connections,
/// what the kernel keeps for them, the program.
const OTHERS_PART: usize = 8;

/// What the settings are measured against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// Cores for workers.
    pub cores: usize,
    /// Memory we can have, where that is known.
    pub memory_bytes: Option<usize>,
}

impl Machine {
    /// What `-m auto` gives the items.
    ///
    /// # Errors
    /// A sentence, where the memory is not known or the buffers may need all of it.
    pub fn memory_for_items(self, workers: usize) -> Result<usize, String> {
        let all = self
            .memory_bytes
            .ok_or("-m auto: this system does not say how much memory there is; give a number")?;
        let buffers = workers * WORKER_BUFFERS_MAX_BYTES;
        (all - all / OTHERS_PART)
            .checked_sub(buffers)
            .ok_or_else(|| {
                format!(
                    "-m auto: of {} MB the buffers of {workers} workers may need {} and leave nothing for items; \
                     lower -t or give a number",
                    all >> 20,
                    buffers >> 20
                )
            })
    }
}

/// A tree of files that looks like `/`.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        Self::at("/")
    }

    /// Files below a root of one's own.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// What a file says, without the line's end behind it.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim_end().to_owned())
    }

    /// Names in a folder, in order.
    #[must_use]
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join(path))
            .into_iter()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether something is there.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The line of `/proc/meminfo` that begins with `name`, in bytes.
    #[must_use]
    pub fn meminfo(&self, name: &str) -> Option<usize> {
        let text = self.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    }

    /// How much memory this process can have at most: that of the machine, or of its control groups.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<usize> {
        let machine = self.meminfo("MemTotal:")?;
        Some(machine.min(self.group_memory_bytes().unwrap_or(usize::MAX)))
    }

    /// The lowest memory limit among the control groups this process is in and those around them.
    #[must_use]
    pub fn group_memory_bytes(&self) -> Option<usize> {
        let limits = self.groups("memory", |folder, second| {
            let file = match second {
                true => "memory.max",
                false => "memory.limit_in_bytes",
            };
            let text = std::fs::read_to_string(folder.join(file)).ok()?;
            text.trim().parse::<usize>().ok()
        });
        limits.into_iter().min()
    }

    /// The lowest number of cores whose time the control groups grant.
    #[must_use]
    pub fn group_cores(&self) -> Option<f64> {
        let limits = self.groups("cpu", |folder, second| {
            let read = |file| std::fs::read_to_string(folder.join(file)).ok();
            let text = match second {
                true => read("cpu.max")?,
                false => read("cpu.cfs_quota_us")? + " " + &read("cpu.cfs_period_us")?,
            };
            let mut words = text.split_whitespace();
            // No limit is `max`, or a quota of -1.
            let quota: u64 = words.next()?.parse().ok()?;
            let period: u64 = words.next()?.parse().ok()?;
            (period > 0).then(|| quota as f64 / period as f64)
        });
        limits.into_iter().min_by(f64::total_cmp)
    }

    /// What `read` finds in each control group of a controller that this process is in, and in those around it. It is
    /// told the group's folder and whether it is of the second version.
    fn groups<T>(&self, controller: &str, read: impl Fn(&Path, bool) -> Option<T>) -> Vec<T> {
        let mut found = Vec::new();
        let groups = self.text("proc/self/cgroup").unwrap_or_default();
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            let root = self.root.join("sys/fs/cgroup");
            // The second version has one tree, the first one for each set of controllers.
            let (top, second) = match controllers {
                "" => (root, true),
                _ if controllers.split(',').any(|name| name == controller) => {
                    let whole = root.join(controllers);
                    let top = if whole.exists() {
                        whole
                    } else {
                        root.join(controller)
                    };
                    (top, false)
                }
                _ => continue,
            };
            // In a container the path may be one that only the outside sees; then the top is ours.
            let path = Path::new(path.trim_start_matches('/'));
            found.extend(
                path.ancestors()
                    .filter_map(|group| read(&top.join(group), second)),
            );
        }
        found
    }

    /// Cores this process may run on.
    #[must_use]
    pub fn allowed_cores(&self) -> Option<Vec<usize>> {
        let status = self.text("proc/self/status")?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        cores(line)
    }

    /// What settings are measured against: whole cores only, because a worker on half a core stands still for the other
    /// half of the time.
    #[must_use]
    pub fn machine(&self) -> Machine {
        let allowed = self.allowed_cores().map_or(1, |cores| cores.len());
        let granted = self
            .group_cores()
            .map_or(usize::MAX, |cores| cores as usize);
        Machine {
            cores: allowed.min(granted).max(1),
            memory_bytes: self.memory_bytes(),
        }
    }
}

/// The numbers of a list like `0-3,8`.
#[must_use]
pub fn cores(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        cores.extend(first..=last);
    }
    Some(cores)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A made-up tree, gone with its guard.
    pub struct Tree(PathBuf);

    impl Tree {
        pub fn new(files: &[(&str, &str)]) -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("strata-host-{}-{number}", std::process::id());
            let root = std::env::temp_dir().join(name);
            std::fs::create_dir(&root).expect("a new directory");
            for (path, text) in files {
                let path = root.join(path);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("our directory");
                std::fs::write(path, text).expect("our own file");
            }
            Self(root)
        }

        pub fn host(&self) -> Host {
            Host::at(&self.0)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn in_groups(groups: &str) -> Tree {
        Tree::new(&[
            ("proc/self/cgroup", groups),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/memory.max", "5000\n"),
            ("sys/fs/cgroup/c/memory.max", "7000\n"),
            ("sys/fs/cgroup/memory/d/memory.limit_in_bytes", "3000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "350000 100000\n"),
            ("sys/fs/cgroup/a/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_quota_us", "150000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/d/cpu.cfs_period_us", "100000\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
            ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-5,8\n"),
            ("proc/meminfo", "MemTotal:        4 kB\n"),
        ])
    }

    #[test]
    fn the_lowest_limit_of_all_groups_around_counts() {
        let memory = |groups| in_groups(groups).host().group_memory_bytes();
        assert_eq!(memory("0::/a/b\n"), Some(5000));
        assert_eq!(memory("0::/c\n"), Some(7000));
        assert_eq!(memory("0::/elsewhere\n"), None);
        assert_eq!(memory("5:cpu:/c\n4:memory,x:/d\n0::/a\n"), Some(3000));
        assert_eq!(in_groups("0::/c\n").host().memory_bytes(), Some(4096));
        assert!(
            Host::here()
                .memory_bytes()
                .is_some_and(|bytes| bytes > 1 << 20)
        );
    }

    #[test]
    fn workers_are_as_many_as_groups_grant_whole_cores() {
        let machine = |groups| in_groups(groups).host().machine().cores;
        assert_eq!(machine("0::/elsewhere\n"), 7);
        assert_eq!(machine("0::/a/b\n"), 3);
        assert_eq!(machine("0::/a\n"), 7);
        assert_eq!(machine("3:cpu,cpuacct:/d\n"), 1);
        assert_eq!(machine("3:cpu,cpuacct:/only/outside\n"), 7);
        assert!(Host::here().machine().cores >= 1);
    }

    #[test]
    fn lists_of_cores_have_single_ones_and_ranges() {
        assert_eq!(cores("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cores(""), Some(Vec::new()));
        assert_eq!(cores("x"), None);
    }
}
