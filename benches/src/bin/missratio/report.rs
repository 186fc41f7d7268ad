//! What came out: a table for people, numbers for programs.
//!
//! Always true: a ratio stands beside the two numbers it is made of; what this kind of measurement cannot show stands
//! beside the table.

use std::fmt::Write;

use serde::Serialize;

/// A value this close to the lowest counts as the lowest.
pub const NEAR: f64 = 1.02;
/// The policy that is judged.
pub const OURS: &str = "strata-s3fifo";

/// A whole run.
#[derive(Serialize)]
pub struct Run {
    /// Processor, cores, kernel.
    pub machine: String,
    /// Day.
    pub date: String,
    /// Commit.
    pub commit: String,
    /// What to type to repeat it.
    pub command: String,
    /// Requests of a workload of length 1.
    pub requests: usize,
    /// Seed of all traces.
    pub seed: u64,
    /// By workload and drift.
    pub sections: Vec<Section>,
}

/// One workload with or without drift.
#[derive(Default, Serialize)]
pub struct Section {
    /// The workload's name.
    pub workload: String,
    /// What it is like.
    pub about: String,
    /// Ranks that change their object in an hour, in percent.
    pub drift_percent: f64,
    /// Requests replayed; a third of them before counting begins.
    pub requests: usize,
    /// Hours they stand for.
    pub hours: f64,
    /// Distinct objects requested.
    pub distinct: usize,
    /// Requests to a distinct object.
    pub mean_frequency: f64,
    /// The published one.
    pub published_mean_frequency: Option<f64>,
    /// Share of the distinct objects requested once.
    pub one_hit_share: f64,
    /// The published one.
    pub published_one_hit_share: Option<f64>,
    /// Gets counted.
    pub gets: u64,
    /// Keys and values alive in a store without limit, in MiB on average.
    pub live_mib: f64,
    /// What a store without limit misses.
    pub unlimited_miss_ratio: f64,
    /// By memory size.
    pub rows: Vec<Row>,
}

/// One memory size.
#[derive(Serialize)]
pub struct Row {
    /// Share of the live bytes.
    pub share: f64,
    /// Memory of each store in bytes, everything counted.
    pub memory_bytes: usize,
    /// By policy.
    pub results: Vec<Entry>,
}

/// One policy at one memory size.
#[derive(Clone, Serialize)]
pub struct Entry {
    /// The policy's name.
    pub policy: String,
    /// Misses to a get; none when the replay came to no end.
    pub miss_ratio: Option<f64>,
    /// Items held at the end, if the store tells.
    pub items: Option<u64>,
}

impl Row {
    /// The miss ratio of a policy that ran.
    pub fn of(&self, policy: &str) -> Option<f64> {
        let entry = self.results.iter().find(|entry| entry.policy == policy)?;
        entry.miss_ratio
    }

    /// The lowest miss ratio.
    pub fn lowest(&self) -> f64 {
        let ratios = self.results.iter().filter_map(|entry| entry.miss_ratio);
        ratios.fold(f64::INFINITY, f64::min)
    }

    /// Ours to the lowest, and ours to the LRU's.
    pub fn judged(&self) -> (Option<f64>, Option<f64>) {
        let ours = self.of(OURS);
        let lru = self.of("lru");
        (
            ours.map(|ours| quotient(ours, self.lowest())),
            ours.zip(lru).map(|(ours, lru)| quotient(ours, lru)),
        )
    }
}

fn quotient(one: f64, other: f64) -> f64 {
    if one == other { 1.0 } else { one / other }
}

impl Section {
    /// Name and drift.
    pub fn title(&self) -> String {
        if self.drift_percent > 0.0 {
            format!("{}, drift {} %/h", self.workload, self.drift_percent)
        } else {
            self.workload.clone()
        }
    }
}

/// A share as people write it.
pub fn fraction(share: f64) -> String {
    let whole = 1.0 / share;
    if (whole - whole.round()).abs() < 1e-9 {
        format!("1/{}", whole.round())
    } else {
        format!("{share:.3}")
    }
}

/// The rows of one section, as lines of the table.
pub fn lines(section: &Section, policies: &[&str]) -> String {
    let mut text = String::new();
    for row in &section.rows {
        let lowest = row.lowest();
        write!(
            text,
            "| {} | {:.1} ({}) |",
            section.title(),
            row.memory_bytes as f64 / f64::from(1 << 20),
            fraction(row.share)
        )
        .expect("a String takes everything");
        for policy in policies {
            let cell = match row.of(policy) {
                Some(ratio) if ratio == lowest => format!(" **{ratio:.4}** |"),
                Some(ratio) => format!(" {ratio:.4} |"),
                None => " stuck |".to_owned(),
            };
            text.push_str(&cell);
        }
        let (to_lowest, to_lru) = row.judged();
        for judged in [to_lowest, to_lru] {
            let cell = judged.map_or(String::new(), |ratio| format!("{ratio:.3}"));
            write!(text, " {cell} |").expect("a String takes everything");
        }
        writeln!(text, " {:.4} |", section.unlimited_miss_ratio)
            .expect("a String takes everything");
    }
    text
}

/// The head of that table.
pub fn head(policies: &[&str]) -> String {
    let mut text = "| workload | MiB (share of the live bytes) |".to_owned();
    for policy in policies {
        write!(text, " {policy} |").expect("a String takes everything");
    }
    text.push_str(" first ÷ lowest | first ÷ lru | unlimited |\n|");
    for _ in 0..policies.len() + 5 {
        text.push_str("---|");
    }
    text.push('\n');
    text
}

/// How often the goals are met.
fn verdict(run: &Run) -> String {
    let rows = || {
        let sections = run.sections.iter();
        sections.flat_map(|section| section.rows.iter().map(move |row| (section, row)))
    };
    let judged: Vec<_> = rows()
        .filter_map(|(section, row)| match row.judged() {
            (Some(lowest), Some(lru)) => Some((section, row, lowest, lru)),
            _ => None,
        })
        .collect();
    if judged.is_empty() {
        return String::new();
    }
    let near = judged.iter().filter(|(_, _, lowest, _)| *lowest <= NEAR);
    let below = judged.iter().filter(|(_, _, _, lru)| *lru < 1.0);
    let mut text = format!(
        "{OURS} is lowest or within 2 % of the lowest in {} of {} rows, and below the LRU in {}.\n",
        near.count(),
        judged.len(),
        below.count()
    );
    for (section, row, lowest, lru) in &judged {
        if *lowest > NEAR || *lru >= 1.0 {
            writeln!(
                text,
                "- Not so: {} at {}: {lowest:.3} of the lowest, {lru:.3} of the LRU.",
                section.title(),
                fraction(row.share)
            )
            .expect("a String takes everything");
        }
    }
    text
}

const WORDS: &str = "\
*Memory* is all a store uses: for Strata the shard's memory and its notes outside of it, for the segcache crate its \
segments, their headers and its table (the better of two sizes of table). The exact LRU and the plain S3-FIFO are \
computed, and charged key, value and 72 bytes an item, memcached's cost; their table, and the ghosts of S3-FIFO, are \
free. Both drop an item in the second it expires, which a real one does later or at a cost. Each size is a share of \
the keys and values alive in a store without limit, on average; *unlimited* is what such a store misses.

*Stuck* is a replay the segcache crate did not end: release 0.4.4 can mix up the chains of two ttls when segments \
expire under memory pressure, and then waits for ever (three tries each).

A miss of a get is followed by a set (not so for a share of kvcache's gets). Misses are counted over the gets of the \
last two thirds. A run is a spatial sample of a long real run: its requests stand for the hours given, so that \
lifetimes pass and popularity drifts as in that time. Size and ttl follow from the key. Values are lognormal with the \
published mean (deviation of the logarithm 0.75), at most 60 000 bytes; incr is a fetch that is not counted; cas stores \
if the key is there.

The Twitter workloads are synthetic, parameterised on the published row of a cluster. They are not the traces.

What this cannot show: requests are drawn independently of each other. Popularity stands still, or drifts by swapping \
random ranks, which flatters policies that count fetches. There are no loops, no bursts, no time of day, no objects \
whose requests come in a cluster and then never again, and no scans but in the workload of that name; sizes and \
lifetimes are independent of popularity. So the differences between policies are indicative; those that come from \
memory per item and from expiry carry over.
";

/// The record.
pub fn markdown(run: &Run, policies: &[&str], pictures: &[String]) -> String {
    let mut text = format!(
        "# Miss ratios: {}, {}\n\nCommit {}. Repeat with:\n\n    {}\n\n{WORDS}\n",
        run.machine, run.date, run.commit, run.command
    );
    text.push_str(&verdict(run));
    text.push('\n');
    for picture in pictures {
        writeln!(text, "![Miss ratio against memory]({picture})\n")
            .expect("a String takes everything");
    }
    text.push_str("## Miss ratios\n\nThe lowest of a row in bold; the two ratios are those of the first column.\n\n");
    text.push_str(&head(policies));
    for section in &run.sections {
        text.push_str(&lines(section, policies));
    }
    text.push_str("\n## The workloads as drawn\n\n");
    text.push_str(
        "| workload | like | requests | hours | distinct | requests each (published) | met once (published) | live MiB |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for section in &run.sections {
        let published =
            |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
        writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:.1} ({}) | {:.1} % ({} %) | {:.0} |",
            section.title(),
            section.about,
            section.requests,
            section.hours,
            section.distinct,
            section.mean_frequency,
            published(section.published_mean_frequency),
            section.one_hit_share * 100.0,
            published(section.published_one_hit_share.map(|share| share * 100.0)),
            section.live_mib
        )
        .expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(ratios: &[(&str, f64)]) -> Row {
        Row {
            share: 0.125,
            memory_bytes: 1 << 20,
            results: ratios
                .iter()
                .map(|&(policy, miss_ratio)| Entry {
                    policy: policy.into(),
                    miss_ratio: Some(miss_ratio),
                    items: None,
                })
                .collect(),
        }
    }

    #[test]
    fn ours_is_judged_against_the_lowest_and_the_lru() {
        let row = row(&[(OURS, 0.3), ("segcache", 0.25), ("lru", 0.4)]);
        let (lowest, lru) = row.judged();
        assert!((lowest.expect("ours ran") - 1.2).abs() < 1e-9);
        assert!((lru.expect("both ran") - 0.75).abs() < 1e-9);
        assert_eq!(fraction(row.share), "1/8");
    }

    #[test]
    fn nothing_is_judged_that_did_not_run() {
        assert_eq!(row(&[("lru", 0.4)]).judged(), (None, None));
    }
}
