//! Reading what strata-load reports as JSON.
//!
//! Always true: what is not there is an error that names it, never a default.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// What a report says in strata-load's own words, beside those it shares with memtier_benchmark.
pub fn strata_of(report: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(report).context("there is no report")?;
    let mut whole: Value = serde_json::from_str(&text)?;
    let ours = whole.get_mut("Strata").map(Value::take);
    ours.context("no words of strata-load's in the report")
}

/// A number of a report.
pub fn number(value: &Value, name: &str) -> Result<f64> {
    value[name]
        .as_f64()
        .with_context(|| format!("no {name:?} in the report"))
}

/// Why what is told here does not count; empty when it does.
pub fn reasons(of: &Value) -> Result<Vec<String>> {
    let reasons = of["invalid"]
        .as_array()
        .context("no verdict in the report")?;
    reasons
        .iter()
        .map(|reason| {
            Ok(reason
                .as_str()
                .context("a reason without words")?
                .to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reasons_are_taken_as_they_are_and_a_report_without_a_verdict_is_refused() {
        let of = json!({ "invalid": ["It was late.", "It lied."] });
        assert_eq!(
            reasons(&of).expect("a verdict"),
            ["It was late.", "It lied."]
        );
        let refused = |of: Value| reasons(&of).expect_err("refused").to_string();
        assert!(refused(json!({})).contains("no verdict"));
        assert!(refused(json!({ "invalid": [3] })).contains("without words"));
        let error = number(&of, "keys").expect_err("no number").to_string();
        assert!(error.contains("keys"), "{error}");
    }
}
