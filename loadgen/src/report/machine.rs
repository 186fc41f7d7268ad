//! What a run ran on, for reports.

use std::path::Path;

/// Name and value, one line of a report each.
pub fn describe() -> Vec<(&'static str, String)> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let first_line = |path: &str| read(path).lines().next().unwrap_or("unknown").to_string();
    let processor = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown".into(), |rest| {
            rest.trim_start_matches([' ', '\t', ':']).to_string()
        });
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    vec![
        (
            "Generator",
            format!("strata-load {}", env!("CARGO_PKG_VERSION")),
        ),
        (
            "Processor",
            format!("{processor}, {cores} cores for this process"),
        ),
        ("Kernel", first_line("/proc/sys/kernel/osrelease")),
        ("Host", first_line("/proc/sys/kernel/hostname")),
    ]
}
