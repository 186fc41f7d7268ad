//! Two result files in memtier's JSON layout, side by side.
//!
//! Always true: a file of an invalid run is called so above the numbers, and a number that one
//! file has not is a dash, not a zero.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

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
    let read = |path: &Path| -> Result<Value> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{}: no JSON", path.display()))
    };
    let names = [one, other].map(|path| path.display().to_string());
    table([&names[0], &names[1]], [&read(one)?, &read(other)?])
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

fn table(names: [&str; 2], files: [&Value; 2]) -> Result<String> {
    let mut out = String::new();
    let mut sections = [&Value::Null; 2];
    for (index, letter) in ['A', 'B'].into_iter().enumerate() {
        let file = files[index];
        sections[index] = section(file)
            .with_context(|| format!("{}: neither ALL STATS nor an average in it", names[index]))?;
        // A file without our part is memtier's, which knows one loop.
        let kind = file["Strata"]["loop"].as_str().unwrap_or("closed");
        writeln!(out, "{letter} {} ({kind} loop)", names[index])?;
        if file["Strata"]["valid"] == false {
            let reasons = file["Strata"]["invalid"].as_array();
            writeln!(out, "{letter} INVALID")?;
            for reason in reasons.into_iter().flatten() {
                writeln!(out, "{letter} INVALID: {}", reason.as_str().unwrap_or("?"))?;
            }
        }
    }
    writeln!(
        out,
        "\n{:<8} {:<9} {:>14} {:>14} {:>8}",
        "", "", "A", "B", "B/A"
    )?;
    for row in ROWS {
        let counts = sections.map(|section| section[row]["Count"].as_f64().unwrap_or(0.0));
        if counts == [0.0, 0.0] {
            continue;
        }
        for (name, path) in COLUMNS {
            let found = sections.map(|section| {
                let value = path.iter().fold(&section[row], |value, step| &value[*step]);
                value.as_f64()
            });
            let shown = found.map(|number| match number {
                Some(number) => format!("{number:.4}"),
                None => "-".into(),
            });
            let ratio = match found {
                [Some(one), Some(other)] if one > 0.0 => format!("{:.3}", other / one),
                _ => "-".into(),
            };
            writeln!(
                out,
                "{row:<8} {name:<9} {:>14} {:>14} {ratio:>8}",
                shown[0], shown[1]
            )?;
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

    #[test]
    fn numbers_stand_beside_each_other_with_their_ratio() {
        let one = file("ALL STATS", 100.0);
        let mut other = file("AGGREGATED AVERAGE RESULTS (2 runs)", 150.0);
        other["Strata"] = json!({ "loop": "open", "valid": false, "invalid": ["It lagged."] });
        let text = table(["a.json", "b.json"], [&one, &other]).unwrap();
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
        let error = table(["a.json", "b.json"], [&json!({}), &json!({})]).unwrap_err();
        assert!(error.to_string().contains("a.json"), "{error}");
    }
}
