//! Result files in memtier's JSON layout, side by side: two of them, or the medians of several
//! rounds of two tools.
//!
//! Always true: a file of an invalid run is called so above the numbers, and a number that one
//! file has not is a dash, not a zero.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::spread::Spread;

/// Rows of a section.
const ROWS: [&str; 9] = [
    "Sets", "Gets", "Adds", "Cas", "Deletes", "Incrs", "Touches", "Gats", "Totals",
];

/// Name in the table, and where the number is.
const COLUMNS: [(&str, &[&str]); 6] = [
    ("ops/s", &["Ops/sec"]),
    ("hits/s", &["Hits/sec"]),
    ("mean ms", &["Average Latency"]),
    ("p50 ms", &["Percentile Latencies", "p50.00"]),
    ("p99 ms", &["Percentile Latencies", "p99.00"]),
    ("p99.9 ms", &["Percentile Latencies", "p99.90"]),
];

/// Reads both and compares them.
pub fn files(one: &Path, other: &Path) -> Result<String> {
    table([&Side::read(&[one])?, &Side::read(&[other])?])
}

/// Reads the files of all rounds of two tools and compares their medians.
pub fn rounds(
    one: &str,
    of_one: &[impl AsRef<Path>],
    other: &str,
    of_other: &[impl AsRef<Path>],
) -> Result<String> {
    let mut sides = [Side::read(of_one)?, Side::read(of_other)?];
    for (side, tool) in sides.iter_mut().zip([one, other]) {
        side.title = format!("{tool}, {} rounds", side.files.len());
    }
    table([&sides[0], &sides[1]])
}

/// One column: a file, or several of which the medians count.
struct Side {
    title: String,
    files: Vec<(String, Value)>,
}

impl Side {
    fn read(paths: &[impl AsRef<Path>]) -> Result<Self> {
        let files = paths
            .iter()
            .map(|path| {
                let name = path.as_ref().display().to_string();
                let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
                let file =
                    serde_json::from_str(&text).with_context(|| format!("{name}: no JSON"))?;
                Ok((name, file))
            })
            .collect::<Result<Vec<_>>>()?;
        let title = files
            .first()
            .map_or_else(String::new, |(name, _)| name.clone());
        Ok(Self { title, files })
    }

    /// The results of each file.
    fn sections(&self) -> Result<Vec<&Value>> {
        let of = |(name, file)| {
            section(file).with_context(|| format!("{name}: neither ALL STATS nor an average in it"))
        };
        self.files
            .iter()
            .map(|(name, file)| of((name, file)))
            .collect()
    }
}

/// The results of a file: of its only run, or of all together.
fn section(file: &Value) -> Option<&Value> {
    let named = file.as_object()?.iter();
    file.get("ALL STATS").or_else(|| {
        named
            .filter(|(name, _)| name.starts_with("AGGREGATED AVERAGE"))
            .map(|(_, section)| section)
            .next_back()
    })
}

fn table(sides: [&Side; 2]) -> Result<String> {
    let mut out = String::new();
    let mut sections = Vec::new();
    for (side, letter) in sides.iter().zip(['A', 'B']) {
        sections.push(side.sections()?);
        // A file without our part is memtier's, which knows one loop.
        let kind = side
            .files
            .first()
            .and_then(|(_, file)| file["Strata"]["loop"].as_str())
            .unwrap_or("closed");
        writeln!(out, "{letter} {} ({kind} loop)", side.title)?;
        for (name, file) in &side.files {
            if file["Strata"]["valid"] != false {
                continue;
            }
            let of_file = if side.files.len() > 1 { name } else { "" };
            writeln!(out, "{letter} INVALID {of_file}")?;
            let reasons = file["Strata"]["invalid"].as_array();
            for reason in reasons.into_iter().flatten() {
                writeln!(out, "{letter} INVALID: {}", reason.as_str().unwrap_or("?"))?;
            }
        }
    }
    let repeated = sides.iter().any(|side| side.files.len() > 1);
    write!(
        out,
        "\n{:<8} {:<9} {:>14} {:>14} {:>8}",
        "", "", "A", "B", "B/A"
    )?;
    if repeated {
        write!(out, " {:>9} {:>9}", "spread A", "spread B")?;
    }
    writeln!(out)?;
    for row in ROWS {
        let done = |section: &&Value| section[row]["Count"].as_f64().unwrap_or(0.0) > 0.0;
        if !sections.iter().flatten().any(done) {
            continue;
        }
        for (name, path) in COLUMNS {
            let found: Vec<Option<Spread>> = sections
                .iter()
                .map(|of_side| {
                    let values = of_side.iter().filter_map(|section| {
                        path.iter()
                            .fold(&section[row], |value, step| &value[*step])
                            .as_f64()
                    });
                    Spread::of(values)
                })
                .collect();
            let shown = |index: usize| match found[index] {
                Some(spread) => format!("{:.4}", spread.median),
                None => "-".into(),
            };
            let ratio = match found[..] {
                [Some(one), Some(other)] if one.median > 0.0 => {
                    format!("{:.3}", other.median / one.median)
                }
                _ => "-".into(),
            };
            write!(
                out,
                "{row:<8} {name:<9} {:>14} {:>14} {ratio:>8}",
                shown(0),
                shown(1)
            )?;
            if repeated {
                for side in &found {
                    let spread = side.map_or("-".into(), |spread| {
                        format!("{:.1} %", spread.width() * 100.0)
                    });
                    write!(out, " {spread:>9}")?;
                }
            }
            writeln!(out)?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(title: &str, rate: f64) -> Value {
        json!({ title: { "Totals": {
            "Count": 10,
            "Ops/sec": rate,
            "Percentile Latencies": { "p99.00": 2.0 },
        } } })
    }

    fn side(files: &[(&str, Value)]) -> Side {
        Side {
            title: files[0].0.into(),
            files: files
                .iter()
                .map(|(name, file)| (name.to_string(), file.clone()))
                .collect(),
        }
    }

    #[test]
    fn of_several_rounds_the_medians_are_compared_and_the_spread_is_told() {
        let of = |rates: [f64; 3]| {
            let files = rates.map(|rate| ("x.json", file("ALL STATS", rate)));
            side(&files)
        };
        let mut other = of([300.0, 150.0, 140.0]);
        other.files[2].0 = "third.json".into();
        other.files[2].1["Strata"] = json!({ "valid": false, "invalid": ["It lagged."] });
        let text = table([&of([90.0, 1000.0, 100.0]), &other]).unwrap();
        assert!(text.contains("B INVALID third.json"), "{text}");
        let row = text.lines().find(|line| line.contains("ops/s")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        let expected = [
            "Totals", "ops/s", "100.0000", "150.0000", "1.500", "910.0", "%", "106.7", "%",
        ];
        assert_eq!(words, expected);
    }

    #[test]
    fn numbers_stand_beside_each_other_with_their_ratio() {
        let one = file("ALL STATS", 100.0);
        let mut other = file("AGGREGATED AVERAGE RESULTS (2 runs)", 150.0);
        other["Strata"] = json!({ "loop": "open", "valid": false, "invalid": ["It lagged."] });
        let text = table([&side(&[("a.json", one)]), &side(&[("b.json", other)])]).unwrap();
        assert!(text.contains("A a.json (closed loop)"), "{text}");
        assert!(text.contains("B b.json (open loop)"), "{text}");
        assert!(text.contains("B INVALID: It lagged."), "{text}");
        let row = text.lines().find(|line| line.contains("ops/s")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words, ["Totals", "ops/s", "100.0000", "150.0000", "1.500"]);
        let row = text.lines().find(|line| line.contains("p50")).unwrap();
        assert!(row.ends_with('-'), "{row}");
    }

    #[test]
    fn a_file_without_results_is_refused_by_name() {
        let nothing = side(&[("a.json", json!({}))]);
        let error = table([&nothing, &nothing]).unwrap_err();
        assert!(error.to_string().contains("a.json"), "{error}");
    }
}
