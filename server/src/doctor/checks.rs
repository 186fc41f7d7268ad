//! What is looked at on a host, and what is said of it.
//!
//! Always true: each check is a function of texts the kernel wrote and of the settings, so a test gives it any host; a
//! check says one thing in whole sentences, and where it asks for a change, it names the command; and what cannot be
//! read is told as unknown, never as fine.
//!
//! What it does not look at: the network between clients and server, which interrupt is served by which core (only
//! whether there are as many receive queues as workers, or the kernel spreads one over cores), and other processes.

use super::{Finding, Mark, finding};
use crate::config::{IoChoice, Settings};
use crate::host::{Host, Machine, WORKER_BUFFERS_MAX_BYTES, cores};

/// The oldest kernel whose io_uring has all that is asked of it.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Clocks that are read without a system call.
const FAST_CLOCKS: [&str; 4] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];

/// Descriptors besides those of clients.
const FILES_BESIDE: u64 = 64;

/// All checks. `ring_refused` is what the kernel said when it was asked for a ring, if it refused.
#[must_use]
pub fn examine(
    host: &Host,
    machine: Machine,
    settings: &Settings,
    ring_refused: Option<&str>,
) -> Vec<Finding> {
    let text = |path: &str| host.text(path);
    let limits = text("proc/self/limits");
    let limits = limits.as_deref();
    let disabled = text("proc/sys/kernel/io_uring_disabled");
    let siblings = |core: usize| {
        host.text(&format!(
            "sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"
        ))
    };
    let allowed = host.allowed_cores().unwrap_or_default();
    let siblings: Vec<String> = allowed.iter().filter_map(|core| siblings(*core)).collect();
    let governors: Vec<String> = allowed
        .iter()
        .filter_map(|core| {
            host.text(&format!(
                "sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"
            ))
        })
        .collect();
    vec![
        kernel(text("proc/sys/kernel/osrelease").as_deref()),
        ring(disabled.as_deref(), ring_refused, settings.io),
        files(limits, settings.conns_max),
        locked_memory(limits, settings),
        memory(host, settings),
        processor_time(host.group_cores(), settings.workers),
        allowed_cores(&allowed, machine.cores, settings.workers),
        threads_of_cores(&siblings, settings.workers),
        isolated(text("sys/devices/system/cpu/isolated").as_deref(), &allowed),
        governor(&governors),
        numa(text("sys/devices/system/node/online").as_deref()),
        huge_pages(text("sys/kernel/mm/transparent_hugepage/enabled").as_deref()),
        swap(
            text("proc/swaps").as_deref(),
            text("proc/sys/vm/swappiness").as_deref(),
            settings.lock_memory,
        ),
        backlog(
            text("proc/sys/net/core/somaxconn").as_deref(),
            settings.backlog,
        ),
        queues(&network_cards(host), settings.workers),
        clock(text("sys/devices/system/clocksource/clocksource0/current_clocksource").as_deref()),
    ]
}

fn kernel(release: Option<&str>) -> Finding {
    const WHAT: &str = "kernel";
    let Some(release) = release else {
        return finding(WHAT, Mark::Note, "its version cannot be read");
    };
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|word| word.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        return finding(
            WHAT,
            Mark::Note,
            format!("Linux {release} is no version that can be compared"),
        );
    };
    let (least_major, least_minor) = KERNEL_MIN;
    match (major, minor) >= KERNEL_MIN {
        true => finding(WHAT, Mark::Fine, format!("Linux {release}")),
        false => finding(
            WHAT,
            Mark::Hurts,
            format!(
                "Linux {release} is older than {least_major}.{least_minor}, from which on io_uring has what is used \
                 here; install a newer kernel, or accept epoll (--io epoll)"
            ),
        ),
    }
}

fn ring(disabled: Option<&str>, refused: Option<&str>, io: IoChoice) -> Finding {
    const WHAT: &str = "io_uring";
    if io == IoChoice::Epoll {
        return finding(WHAT, Mark::Fine, "not asked for (--io epoll)");
    }
    let Some(refused) = refused else {
        let more = match disabled {
            Some("1") => {
                "; kernel.io_uring_disabled is 1, so a user without CAP_SYS_ADMIN has to be in the group of \
                 kernel.io_uring_group: try this as the user of -u"
            }
            _ => "",
        };
        let mark = if more.is_empty() {
            Mark::Fine
        } else {
            Mark::Note
        };
        return finding(WHAT, mark, format!("the kernel gives a ring{more}"));
    };
    let why = match disabled {
        Some("2") => "set kernel.io_uring_disabled to 0 (sysctl)".into(),
        Some("1") => "set kernel.io_uring_disabled to 0 or put the user in the group of kernel.io_uring_group".into(),
        _ => format!(
            "{refused}; a container's seccomp filter does that: allow io_uring_setup, io_uring_enter and \
             io_uring_register"
        ),
    };
    let then = match io {
        IoChoice::Uring => "the server will not start",
        _ => "the server will use epoll, which costs more for each request",
    };
    finding(
        WHAT,
        Mark::Hurts,
        format!("the kernel refuses a ring and {then}; {why}"),
    )
}

/// The soft and hard limit in a line of `/proc/self/limits`; `None` inside is unlimited.
fn limit(limits: Option<&str>, name: &str) -> Option<(Option<u64>, Option<u64>)> {
    let line = limits?.lines().find_map(|line| line.strip_prefix(name))?;
    let mut words = line.split_whitespace();
    let mut number = || match words.next()? {
        "unlimited" => Some(None),
        word => word.parse().ok().map(Some),
    };
    Some((number()?, number()?))
}

fn files(limits: Option<&str>, conns_max: usize) -> Finding {
    const WHAT: &str = "open files";
    let wanted = conns_max as u64 + FILES_BESIDE;
    match limit(limits, "Max open files") {
        None => finding(WHAT, Mark::Note, "the limit cannot be read"),
        Some((_, Some(hard))) if hard < wanted => finding(
            WHAT,
            Mark::Hurts,
            format!(
                "-c {conns_max} needs {wanted} and the hard limit is {hard}; raise it (ulimit -Hn {wanted}, \
                 LimitNOFILE={wanted} in a unit file) or lower -c"
            ),
        ),
        Some(_) => finding(
            WHAT,
            Mark::Fine,
            format!("-c {conns_max} needs {wanted}, which may be opened"),
        ),
    }
}

fn locked_memory(limits: Option<&str>, settings: &Settings) -> Finding {
    const WHAT: &str = "locked memory";
    if !settings.lock_memory {
        return finding(WHAT, Mark::Fine, "none is asked for (-k is not given)");
    }
    let wanted = settings.memory_bytes as u64;
    match limit(limits, "Max locked memory") {
        None => finding(WHAT, Mark::Note, "the limit cannot be read"),
        Some((_, Some(hard))) if hard < wanted => finding(
            WHAT,
            Mark::Hurts,
            format!(
                "-k locks {} MB and the limit is {} KB; raise it (ulimit -l unlimited, LimitMEMLOCK=infinity in a unit \
                 file)",
                wanted >> 20,
                hard >> 10
            ),
        ),
        Some(_) => finding(WHAT, Mark::Fine, "-k may lock what it needs"),
    }
}

fn memory(host: &Host, settings: &Settings) -> Finding {
    const WHAT: &str = "memory";
    let wanted = settings.memory_bytes;
    let buffers = settings.workers * WORKER_BUFFERS_MAX_BYTES;
    let (mib, most_mib) = (wanted >> 20, (wanted + buffers) >> 20);
    let Some(bytes) = host.memory_bytes() else {
        return finding(
            WHAT,
            Mark::Note,
            "/proc/meminfo does not say how much there is",
        );
    };
    let whose = match host.group_memory_bytes() {
        Some(limit) if limit == bytes => "the control group allows",
        _ => "the machine has",
    };
    let has = bytes >> 20;
    if wanted > bytes {
        return finding(
            WHAT,
            Mark::Hurts,
            format!(
                "-m {mib} is more than the {has} MB that {whose}: the kernel will kill the server; lower -m, or say -m auto"
            ),
        );
    }
    if wanted + buffers > bytes {
        return finding(
            WHAT,
            Mark::Hurts,
            format!(
                "-m {mib} and full buffers of {} workers together may take {most_mib} MB, and {whose} {has}: under load \
                 the kernel may kill the server; lower -m or -t, or say -m auto",
                settings.workers
            ),
        );
    }
    if let Some(free) = host.meminfo("MemAvailable:")
        && wanted > free
    {
        return finding(
            WHAT,
            Mark::Note,
            format!(
                "-m {mib} is more than the {} MB that nobody uses now; end what uses the rest, or lower -m",
                free >> 20
            ),
        );
    }
    finding(
        WHAT,
        Mark::Fine,
        format!(
            "-m {mib} and full buffers of {} workers may take {most_mib} MB; {whose} {has}",
            settings.workers
        ),
    )
}

fn processor_time(granted: Option<f64>, workers: usize) -> Finding {
    const WHAT: &str = "processor time";
    match granted {
        None => finding(WHAT, Mark::Fine, "no control group limits it"),
        Some(granted) if granted < workers as f64 => finding(
            WHAT,
            Mark::Hurts,
            format!(
                "the control group grants the time of {granted:.2} cores to {workers} workers, so that all of them stand \
                 still when it is used up, for tens of milliseconds; lower -t to {} or raise the limit",
                (granted as usize).max(1)
            ),
        ),
        Some(granted) => finding(
            WHAT,
            Mark::Fine,
            format!(
                "the control group grants the time of {granted:.2} cores, for {workers} workers"
            ),
        ),
    }
}

fn allowed_cores(allowed: &[usize], usual: usize, workers: usize) -> Finding {
    const WHAT: &str = "cores";
    match allowed.len() {
        0 => finding(WHAT, Mark::Note, "which ones we may use cannot be read"),
        count if workers > count => finding(
            WHAT,
            Mark::Hurts,
            format!(
                "{workers} workers have {count} cores: those that share one wait for each other; -t {usual} gives each its own"
            ),
        ),
        count => finding(
            WHAT,
            Mark::Fine,
            format!("{workers} workers may use {count}"),
        ),
    }
}

fn threads_of_cores(siblings: &[String], workers: usize) -> Finding {
    const WHAT: &str = "threads of cores";
    let mut apart: Vec<&String> = siblings.iter().collect();
    apart.sort();
    apart.dedup();
    match apart.len() {
        0 => finding(WHAT, Mark::Note, "how the cores are built cannot be read"),
        count if count < siblings.len() && workers > count => finding(
            WHAT,
            Mark::Note,
            format!(
                "{workers} workers on {count} cores of several threads share execution units: the tail is longer than with \
                 -t {count} and one thread of each core (taskset)"
            ),
        ),
        count => finding(
            WHAT,
            Mark::Fine,
            format!("{count} cores that share nothing"),
        ),
    }
}

fn isolated(list: Option<&str>, allowed: &[usize]) -> Finding {
    const WHAT: &str = "isolated cores";
    let isolated = list.and_then(cores).unwrap_or_default();
    let ours = allowed
        .iter()
        .filter(|core| isolated.contains(core))
        .count();
    match (ours, allowed.len()) {
        (0, _) => finding(
            WHAT,
            Mark::Note,
            "other processes may run on the workers' cores; for the shortest tail keep them away (isolcpus= and nohz_full= \
             on the kernel's command line, or AllowedCPUs= of their slices)",
        ),
        (ours, all) if ours == all => finding(WHAT, Mark::Fine, format!("all {all} of ours are")),
        (ours, all) => finding(
            WHAT,
            Mark::Note,
            format!(
                "{ours} of the {all} cores we may use are isolated: start the server on those alone (taskset)"
            ),
        ),
    }
}

fn governor(governors: &[String]) -> Finding {
    const WHAT: &str = "frequency";
    match governors.iter().find(|governor| *governor != "performance") {
        _ if governors.is_empty() => finding(WHAT, Mark::Fine, "not in our hands (no cpufreq)"),
        None => finding(WHAT, Mark::Fine, "governor performance"),
        Some(other) => finding(
            WHAT,
            Mark::Note,
            format!(
                "governor {other}: a core that was idle answers slowly at first; cpupower frequency-set -g performance"
            ),
        ),
    }
}

fn numa(online: Option<&str>) -> Finding {
    const WHAT: &str = "memory nodes";
    match online.map(|list| cores(list).map_or(0, |nodes| nodes.len())) {
        None | Some(0) => finding(WHAT, Mark::Fine, "one (the kernel knows no others)"),
        Some(1) => finding(WHAT, Mark::Fine, "one"),
        Some(count) => finding(
            WHAT,
            Mark::Note,
            format!(
                "{count}: a request whose key belongs to a core of another node crosses between them; run a server for \
                 each node (numactl --cpunodebind=N --membind=N) and let clients spread their keys"
            ),
        ),
    }
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?
        .1
        .split_once(']')
        .map(|(word, _)| word)
}

fn huge_pages(enabled: Option<&str>) -> Finding {
    const WHAT: &str = "huge pages";
    match enabled.and_then(chosen) {
        Some("never") => finding(
            WHAT,
            Mark::Hurts,
            "never: most lookups miss the processor's table of pages; \
             echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
        Some(word) => finding(WHAT, Mark::Fine, format!("transparent, {word}")),
        None => finding(WHAT, Mark::Note, "this kernel has no transparent ones"),
    }
}

fn swap(swaps: Option<&str>, swappiness: Option<&str>, locked: bool) -> Finding {
    const WHAT: &str = "swap";
    let Some(swaps) = swaps else {
        return finding(WHAT, Mark::Note, "/proc/swaps cannot be read");
    };
    match swaps.lines().skip(1).count() {
        0 => finding(WHAT, Mark::Fine, "none"),
        _ if locked => finding(
            WHAT,
            Mark::Fine,
            "there is some, and -k keeps our memory out of it",
        ),
        _ if swappiness == Some("0") => finding(
            WHAT,
            Mark::Note,
            "there is some, for when nothing else is left (vm.swappiness is 0)",
        ),
        _ => finding(
            WHAT,
            Mark::Hurts,
            "items that are rarely read will be on disk, and a worker that fetches one stands still; swapoff -a, or -k",
        ),
    }
}

fn backlog(somaxconn: Option<&str>, backlog: i32) -> Finding {
    const WHAT: &str = "listen backlog";
    match somaxconn.and_then(|text| text.parse::<i64>().ok()) {
        None => finding(WHAT, Mark::Note, "net.core.somaxconn cannot be read"),
        Some(most) if most < i64::from(backlog) => finding(
            WHAT,
            Mark::Hurts,
            format!(
                "-b {backlog} is cut to {most}: when many connect at once some wait a second or more; \
                 sysctl net.core.somaxconn={backlog}"
            ),
        ),
        Some(most) => finding(WHAT, Mark::Fine, format!("-b {backlog} of at most {most}")),
    }
}

/// A network card: its name, its receive queues, and whether the kernel spreads what they receive over cores.
#[derive(Debug, PartialEq, Eq)]
struct Card {
    name: String,
    queues: usize,
    spread: bool,
}

fn network_cards(host: &Host) -> Vec<Card> {
    let folder = "sys/class/net";
    let mut cards = Vec::new();
    for name in host.names(folder) {
        // What has no device behind it is made of others.
        if !host.has(&format!("{folder}/{name}/device")) {
            continue;
        }
        let queues: Vec<String> = host
            .names(&format!("{folder}/{name}/queues"))
            .into_iter()
            .filter(|queue| queue.starts_with("rx-"))
            .collect();
        let spread = queues.iter().any(|queue| {
            let mask = host.text(&format!("{folder}/{name}/queues/{queue}/rps_cpus"));
            mask.is_some_and(|mask| mask.chars().any(|digit| !matches!(digit, '0' | ',')))
        });
        cards.push(Card {
            name,
            queues: queues.len(),
            spread,
        });
    }
    cards
}

fn queues(cards: &[Card], workers: usize) -> Finding {
    const WHAT: &str = "receive queues";
    let narrow = cards
        .iter()
        .find(|card| card.queues > 0 && card.queues < workers && !card.spread);
    match narrow {
        _ if cards.is_empty() => finding(WHAT, Mark::Note, "no network card to be seen"),
        None => finding(
            WHAT,
            Mark::Fine,
            "as many as workers, or spread by the kernel",
        ),
        Some(Card { name, queues, .. }) => finding(
            WHAT,
            Mark::Note,
            format!(
                "{name} has {queues} for {workers} workers, so that few cores do the network's work of all; \
                 ethtool -L {name} combined {workers}, or a mask of cores in /sys/class/net/{name}/queues/rx-*/rps_cpus"
            ),
        ),
    }
}

fn clock(source: Option<&str>) -> Finding {
    const WHAT: &str = "time source";
    match source {
        None => finding(WHAT, Mark::Note, "cannot be read"),
        Some(source) if FAST_CLOCKS.contains(&source) => finding(WHAT, Mark::Fine, source),
        Some(source) => finding(
            WHAT,
            Mark::Hurts,
            format!(
                "{source} is read by a system call, several times in each turn of a worker; \
                 /sys/devices/system/clocksource/clocksource0/available_clocksource has others"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Asked, as_text, hurts};
    use super::*;
    use crate::host::tests::Tree;
    use clap::Parser;

    /// A host with nothing to complain of: four cores of their own, 8 GB.
    const GOOD: &[(&str, &str)] = &[
        ("proc/sys/kernel/osrelease", "6.12.9-amd64\n"),
        ("proc/sys/kernel/io_uring_disabled", "0\n"),
        (
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units\n\
             Max open files            1024                 524288               files\n\
             Max locked memory         8388608              unlimited            bytes\n",
        ),
        (
            "proc/self/status",
            "Name:\tstrata\nCpus_allowed_list:\t0-3\n",
        ),
        (
            "proc/meminfo",
            "MemTotal:        8388608 kB\nMemAvailable:    8000000 kB\n",
        ),
        ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n"),
        ("proc/sys/net/core/somaxconn", "4096\n"),
        ("sys/devices/system/cpu/isolated", "0-3\n"),
        (
            "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
            "0\n",
        ),
        (
            "sys/devices/system/cpu/cpu1/topology/thread_siblings_list",
            "1\n",
        ),
        (
            "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
            "2\n",
        ),
        (
            "sys/devices/system/cpu/cpu3/topology/thread_siblings_list",
            "3\n",
        ),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "performance\n",
        ),
        ("sys/devices/system/node/online", "0\n"),
        (
            "sys/kernel/mm/transparent_hugepage/enabled",
            "always [madvise] never\n",
        ),
        ("sys/class/net/eth0/device/vendor", "0x1\n"),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "f\n"),
        ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc\n",
        ),
    ];

    fn examined(changes: &[(&str, &str)], words: &str, ring_refused: Option<&str>) -> Vec<Finding> {
        let tree = Tree::new(&[GOOD, changes].concat());
        let host = tree.host();
        let words = ["doctor"].into_iter().chain(words.split_whitespace());
        let asked = Asked::try_parse_from(words).expect("options");
        let settings = asked.server.settings(host.machine()).expect("settings");
        examine(&host, host.machine(), &settings, ring_refused)
    }

    #[test]
    fn a_good_host_has_nothing_but_ok() {
        let findings = examined(&[], "-k", None);
        let text = as_text(&findings);
        assert!(findings.iter().all(|one| one.mark == Mark::Fine), "{text}");
        assert!(!hurts(&findings));
        assert_eq!(text.lines().count(), findings.len());
        // A tree without files is a host nothing is known of, and not a good one.
        let settings = Asked::try_parse_from(["doctor"]).expect("no option is needed");
        let machine = Machine {
            cores: 1,
            memory_bytes: None,
        };
        let settings = settings.server.settings(machine).expect("settings");
        let findings = examine(&Tree::new(&[]).host(), machine, &settings, None);
        let unknown = findings.iter().filter(|one| one.mark == Mark::Note).count();
        assert!(unknown >= 8, "{}", as_text(&findings));
    }

    /// Files that differ, options, and of one check the mark and a part of its sentence.
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a str, Mark, &'a str, &'a str);

    #[test]
    fn each_flaw_is_found_and_named_with_what_to_do() {
        let cpu = "sys/fs/cgroup/cpu.max";
        let group = ("proc/self/cgroup", "0::/\n");
        let cases: &[Case] = &[
            (
                &[("proc/sys/kernel/osrelease", "5.15.0-91-generic\n")],
                "",
                Mark::Hurts,
                "kernel",
                "newer kernel",
            ),
            (
                &[("proc/sys/kernel/io_uring_disabled", "1\n")],
                "",
                Mark::Note,
                "io_uring",
                "io_uring_group",
            ),
            (
                &[],
                "-c 600000",
                Mark::Hurts,
                "open files",
                "LimitNOFILE=600064",
            ),
            (
                &[(
                    "proc/self/limits",
                    "Max open files            1024                 524288               files\n\
                     Max locked memory         8388608              8388608              bytes\n",
                )],
                "-k",
                Mark::Hurts,
                "locked memory",
                "LimitMEMLOCK",
            ),
            (&[], "-m 9000", Mark::Hurts, "memory", "-m auto"),
            (
                &[group, ("sys/fs/cgroup/memory.max", "536870912\n")],
                "-m 400",
                Mark::Hurts,
                "memory",
                "control group allows 512",
            ),
            (
                &[("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 9 kB\n")],
                "",
                Mark::Note,
                "memory",
                "lower -m",
            ),
            (
                &[group, (cpu, "150000 100000\n")],
                "-t 2",
                Mark::Hurts,
                "processor time",
                "lower -t to 1",
            ),
            (&[], "-t 5", Mark::Hurts, "cores", "-t 4"),
            (
                &[
                    (
                        "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
                        "0-1\n",
                    ),
                    (
                        "sys/devices/system/cpu/cpu1/topology/thread_siblings_list",
                        "0-1\n",
                    ),
                ],
                "",
                Mark::Note,
                "threads of cores",
                "-t 3",
            ),
            (
                &[("sys/devices/system/cpu/isolated", "\n")],
                "",
                Mark::Note,
                "isolated cores",
                "isolcpus=",
            ),
            (
                &[("sys/devices/system/cpu/isolated", "2-3\n")],
                "",
                Mark::Note,
                "isolated cores",
                "2 of the 4",
            ),
            (
                &[(
                    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                    "powersave\n",
                )],
                "",
                Mark::Note,
                "frequency",
                "cpupower",
            ),
            (
                &[("sys/devices/system/node/online", "0-1\n")],
                "",
                Mark::Note,
                "memory nodes",
                "numactl",
            ),
            (
                &[(
                    "sys/kernel/mm/transparent_hugepage/enabled",
                    "always madvise [never]\n",
                )],
                "",
                Mark::Hurts,
                "huge pages",
                "echo madvise",
            ),
            (
                &[("proc/swaps", "Filename\n/swap file 1 0 -2\n")],
                "",
                Mark::Hurts,
                "swap",
                "swapoff",
            ),
            (
                &[
                    ("proc/swaps", "Filename\n/swap file 1 0 -2\n"),
                    ("proc/sys/vm/swappiness", "0\n"),
                ],
                "",
                Mark::Note,
                "swap",
                "swappiness",
            ),
            (
                &[("proc/sys/net/core/somaxconn", "128\n")],
                "",
                Mark::Hurts,
                "listen backlog",
                "somaxconn=1024",
            ),
            (
                &[("sys/class/net/eth0/queues/rx-0/rps_cpus", "0,00\n")],
                "",
                Mark::Note,
                "receive queues",
                "ethtool -L eth0 combined 4",
            ),
            (
                &[(
                    "sys/devices/system/clocksource/clocksource0/current_clocksource",
                    "hpet\n",
                )],
                "",
                Mark::Hurts,
                "time source",
                "hpet",
            ),
        ];
        for (changes, words, mark, what, part) in cases {
            let findings = examined(changes, words, None);
            let found = findings.iter().find(|one| one.what == *what).expect(what);
            assert_eq!(found.mark, *mark, "{changes:?} {words}: {}", found.sentence);
            assert!(found.sentence.contains(part), "{}", found.sentence);
            let others: Vec<&Finding> = findings
                .iter()
                .filter(|one| one.what != *what && one.mark != Mark::Fine)
                .collect();
            assert!(others.is_empty(), "{changes:?} {words}: {others:?}");
        }
    }

    #[test]
    fn a_ring_that_is_refused_hurts_and_names_who_refuses() {
        for (disabled, words, part) in [
            ("2", "", "set kernel.io_uring_disabled to 0 (sysctl)"),
            ("0", "", "seccomp"),
            ("0", "--io uring", "will not start"),
        ] {
            let changes = [("proc/sys/kernel/io_uring_disabled", disabled)];
            let findings = examined(&changes, words, Some("Operation not permitted"));
            let found = findings
                .iter()
                .find(|one| one.what == "io_uring")
                .expect("it");
            assert_eq!(found.mark, Mark::Hurts);
            assert!(found.sentence.contains(part), "{}", found.sentence);
        }
        let findings = examined(&[], "--io epoll", Some("Operation not permitted"));
        assert!(!hurts(&findings));
    }
}
