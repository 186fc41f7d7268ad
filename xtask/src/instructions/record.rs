//! What was counted, as a table for people and as JSON for programs.
//!
//! Always true: a count stands beside its extremes; what a ratio of instructions is of the CPU names the record that told
//! the user's share.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::perf::workload::Workload;
use crate::record_file::Origin;
use crate::spread::{Spread, cell};

/// Counts of one subject under one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Count {
    /// What it is called.
    pub subject: String,
    /// Instructions of an operation, by repeat.
    pub per_operation: Vec<f64>,
}

/// Strata's instructions to those of a variant.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// The variant.
    pub subject: String,
    /// By repeat.
    pub instructions: Option<Spread>,
    /// Which part of the variant's CPU is in user mode.
    pub user: Option<Share>,
    /// The ratio of CPU that follows, if what the kernel does is the same and one instruction is as dear as another.
    pub cpu: Option<Spread>,
    /// The most that the ratio of CPU may be.
    pub at_most: Option<f64>,
}

/// The user's part of a server's CPU, as `cargo xtask perf` has measured it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The part.
    pub share: f64,
    /// The record that tells it.
    pub record: String,
}

/// All of one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Section {
    /// The workload's name.
    pub workload: String,
    /// What it is for.
    pub about: String,
    /// Strata's, and behind it those of its variants.
    pub counts: Vec<Count>,
    /// To each of the variants.
    pub ratios: Vec<Ratio>,
}

/// A whole record.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Where, when, what and how.
    #[serde(flatten)]
    pub origin: Origin,
    /// What valgrind calls itself.
    pub valgrind: String,
    /// How server and client were built.
    pub profile: String,
    /// What the server calls itself.
    pub version: String,
    /// How often each was counted.
    pub repeats: usize,
    /// Operations of the shorter load, about.
    pub shorter: u64,
    /// Operations of the longer load, about.
    pub longer: u64,
    /// By workload.
    pub sections: Vec<Section>,
}

impl Ratio {
    /// The first of `counts` to that of a variant.
    pub fn of(
        workload: &Workload,
        counts: &[Count],
        variant: &str,
        user: Option<Share>,
    ) -> Result<Self> {
        let of = |name: &str| counts.iter().find(|count| count.subject == name);
        let ours = counts.first().context("no counts")?;
        let theirs = of(variant).with_context(|| format!("no counts of {variant}"))?;
        let rounds = ours.per_operation.iter().zip(&theirs.per_operation);
        let ratios: Vec<f64> = rounds.map(|(one, other)| one / other).collect();
        let cpu = user.as_ref().and_then(|user| {
            let of_cpu = |ratio: &f64| 1.0 + (ratio - 1.0) * user.share;
            Spread::of(ratios.iter().map(of_cpu))
        });
        let goals = &workload.goals.cpu_to;
        let at_most = goals
            .iter()
            .find_map(|(name, most)| (workload.subject_of(name) == variant).then_some(*most));
        Ok(Self {
            subject: variant.to_owned(),
            instructions: Spread::of(ratios),
            user,
            cpu,
            at_most,
        })
    }

    /// Whether what it aims at is reached in each repeat; absent when nothing is aimed at or the share is not known.
    fn verdict(&self) -> &'static str {
        match (self.cpu, self.at_most) {
            (Some(cpu), Some(most)) if cpu.most <= most => "yes",
            (Some(cpu), Some(most)) if cpu.least > most => "NO",
            (Some(_), Some(_)) => "not decided",
            _ => "",
        }
    }
}

impl Share {
    /// What the records in a folder tell of a subject under a workload: that of the last day, and of several the one with
    /// the most runs that count.
    pub fn in_records(folder: &Path, workload: &str, subject: &str) -> Result<Option<Self>> {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Ok(None);
        };
        let mut best: Option<((String, usize), Self)> = None;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|ending| ending != "json") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let record: Value =
                serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            let shares = user_shares(&record, workload, subject);
            let Some(share) = Spread::of(shares) else {
                continue;
            };
            let date = record["date"].as_str().unwrap_or_default().to_owned();
            let rank = (date, share.count);
            if best.as_ref().is_none_or(|(best, _)| *best < rank) {
                let record = path.file_stem().unwrap_or_default();
                let record = record.to_string_lossy().into_owned();
                let share = share.median;
                best = Some((rank, Self { share, record }));
            }
        }
        Ok(best.map(|(_, share)| share))
    }
}

/// The user's share in each closed-loop run of a record that counts. A record of another command has none.
fn user_shares(record: &Value, workload: &str, subject: &str) -> Vec<f64> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let named = |value: &Value, what: &str, name: &str| value[what].as_str() == Some(name);
    let sections = list(&record["sections"]).into_iter();
    let series = sections
        .filter(|section| named(section, "workload", workload))
        .flat_map(|section| list(&section["series"]))
        .filter(|series| named(series, "subject", subject));
    let runs = series.flat_map(|series| list(&series["peak"]));
    runs.filter_map(|run| {
        let (user, system) = (run["user_us"].as_f64()?, run["system_us"].as_f64()?);
        let counts = list(&run["invalid"]).is_empty() && user + system > 0.0;
        counts.then(|| user / (user + system))
    })
    .collect()
}

/// The record as Markdown.
pub fn markdown(record: &Record) -> String {
    let mut out = String::new();
    write_record(record, &mut out).expect("a string takes any text");
    out
}

fn write_record(record: &Record, out: &mut String) -> std::fmt::Result {
    out.push_str(&record.origin.heading());
    writeln!(
        out,
        "Instructions of the server's process in user mode, all threads, counted by callgrind of {}; {}, profile {}, \
         `--io epoll`, because valgrind has no io_uring. Each count is the difference between a load of about {} operations \
         and one of about {}, divided by the operations between, so start, fill and end are not in it; an operation is a key \
         read or written. Middle of {} repeats, each with servers of its own, least and most in parentheses.\n\n\
         What it is *not*: time in the kernel, misses of caches and branches, the ring. There was no admin endpoint, \
         which needs a ring, and nothing was scraped. valgrind shows programs a processor without AVX-512.\n",
        record.valgrind,
        record.version,
        record.profile,
        record.shorter,
        record.longer,
        record.repeats
    )?;
    writeln!(out, "| workload | server | instructions an operation |")?;
    writeln!(out, "|---|---|---|")?;
    for section in &record.sections {
        for count in &section.counts {
            let spread = Spread::of(count.per_operation.iter().copied());
            let name = &section.workload;
            writeln!(out, "| {name} | {} | {} |", count.subject, cell(spread, 1))?;
        }
    }
    if record
        .sections
        .iter()
        .any(|section| !section.ratios.is_empty())
    {
        ratio_table(record, out)?;
    }
    writeln!(out)?;
    for section in &record.sections {
        writeln!(out, "- **{}**: {}.", section.workload, section.about)?;
    }
    Ok(())
}

fn ratio_table(record: &Record, out: &mut String) -> std::fmt::Result {
    writeln!(
        out,
        "\nStrata to its variants, within a repeat. *User share* is the part of the variant's CPU in user mode, as `cargo xtask \
         perf` measured it on io_uring. *CPU* is what follows for the whole, if the kernel does the same for both and one \
         instruction is as dear as another.\n"
    )?;
    writeln!(
        out,
        "| workload | ÷ | instructions | user share | CPU | at most | |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|")?;
    for section in &record.sections {
        for ratio in &section.ratios {
            let (share, cpu) = match &ratio.user {
                Some(user) => (
                    format!("{:.3} ({})", user.share, user.record),
                    cell(ratio.cpu, 4),
                ),
                None => ("not measured here".into(), String::new()),
            };
            writeln!(
                out,
                "| {} | {} | {} | {share} | {cpu} | {} | {} |",
                section.workload,
                ratio.subject,
                cell(ratio.instructions, 4),
                ratio.at_most.map_or(String::new(), |most| most.to_string()),
                ratio.verdict()
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counts() -> [Count; 2] {
        [("strata", [1010.0, 1020.0]), ("strata, bare", [1000.0; 2])].map(|(subject, counts)| {
            Count {
                subject: subject.into(),
                per_operation: counts.to_vec(),
            }
        })
    }

    fn ratio(user: Option<f64>, at_most: f64) -> Ratio {
        let text = format!(
            "about = \"a\"\n[load]\nconnections = 1\ndepth = 1\nkeys = 1\nvalue_bytes = 1\nratio = \"0:1\"\n\
             [[variants]]\nname = \"bare\"\n[goals.cpu_to]\nbare = {at_most}\n"
        );
        let workload: Workload = toml::from_str(&text).expect("a workload");
        let record = "one".to_owned();
        let user = user.map(|share| Share { share, record });
        Ratio::of(&workload, &counts(), "strata, bare", user).expect("counts of both")
    }

    #[test]
    fn a_ratio_is_of_the_cpu_by_the_users_share_and_decides_only_if_all_repeats_agree() {
        let of = ratio(Some(0.5), 1.01);
        let (instructions, cpu) = (of.instructions.expect("two"), of.cpu.expect("two"));
        assert!(
            (instructions.least - 1.01).abs() < 1e-9 && (instructions.most - 1.02).abs() < 1e-9
        );
        assert!((cpu.least - 1.005).abs() < 1e-9 && (cpu.most - 1.01).abs() < 1e-9);
        assert_eq!(ratio(Some(0.5), 1.011).verdict(), "yes");
        assert_eq!(ratio(Some(0.5), 1.007).verdict(), "not decided");
        assert_eq!(ratio(Some(0.5), 1.004).verdict(), "NO");
        // Without the share nothing is known of the CPU.
        let of = ratio(None, 1.5);
        assert_eq!((of.cpu, of.verdict()), (None, ""));
    }

    #[test]
    fn the_share_is_that_of_the_last_day_and_of_runs_that_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, date: &str, runs: Value| {
            let series = json!([{ "subject": "strata, bare", "peak": runs }]);
            let record =
                json!({ "date": date, "sections": [{ "workload": "w", "series": series }] });
            std::fs::write(folder.path().join(name), record.to_string()).expect("written");
        };
        let run = |user: f64, invalid: &[&str]| json!({ "user_us": user, "system_us": 1.0 - user, "invalid": invalid });
        write(
            "a.json",
            "2026-01-02",
            json!([run(0.1, &[]), run(0.1, &[]), run(0.1, &[])]),
        );
        write(
            "b.json",
            "2026-01-03",
            json!([run(0.2, &[]), run(0.9, &["It is off."])]),
        );
        write(
            "c.json",
            "2026-01-03",
            json!([run(0.3, &[]), run(0.4, &[]), run(0.5, &[])]),
        );
        // A record of something else.
        std::fs::write(folder.path().join("d.json"), "{\"date\": \"2026-01-04\"}")
            .expect("written");
        let of = |workload, subject| {
            Share::in_records(folder.path(), workload, subject).expect("readable")
        };
        let expected = Share {
            share: 0.4,
            record: "c".into(),
        };
        assert_eq!(of("w", "strata, bare"), Some(expected));
        assert_eq!(of("w", "strata"), None);
        assert_eq!(of("v", "strata, bare"), None);
        let nowhere = folder.path().join("nowhere");
        assert_eq!(Share::in_records(&nowhere, "w", "s").expect("none"), None);
    }
}
