//! What was measured: names and numbers, as a table or as JSON.

use serde_json::{Map, Value, json};
use std::{fmt::Write as _, time::Duration};

/// Rows of a name, a number and its unit.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<(String, f64, &'static str)>,
}

impl Report {
    /// Adds a number.
    pub(crate) fn add(&mut self, name: &str, value: f64, unit: &'static str) {
        self.rows.push((name.to_owned(), value, unit));
    }

    /// Adds the median, the 99th percentile and the maximum of some durations.
    pub(crate) fn add_durations(&mut self, name: &str, mut durations: Vec<Duration>) {
        durations.sort_unstable();
        for (label, percent) in [("p50", 50), ("p99", 99), ("max", 100)] {
            if let Some(duration) = percentile(&durations, percent) {
                self.add(&format!("{name} {label}"), duration.as_secs_f64() * 1000.0, "ms");
            }
        }
    }

    /// For people, and then for tools: the JSON in the last line.
    pub(crate) fn table(&self) -> String {
        let width = self.rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let mut table = String::new();
        for (name, value, unit) in &self.rows {
            writeln!(table, "{name:width$}  {value:>12.2} {unit}").expect("a String takes all");
        }
        table + &self.json()
    }

    /// For tools.
    pub(crate) fn json(&self) -> String {
        let rows: Map<String, Value> = self
            .rows
            .iter()
            .map(|(name, value, unit)| (name.clone(), json!({ "value": value, "unit": unit })))
            .collect();
        Value::Object(rows).to_string()
    }
}

/// The smallest of the sorted values that `percent` of them do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let values: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 50), Some(Duration::from_millis(100)));
        assert_eq!(percentile(&values, 99), Some(Duration::from_millis(198)));
        assert_eq!(percentile(&values, 100), Some(Duration::from_millis(200)));
        assert_eq!(percentile(&values[..1], 50), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 50), None);
    }
}
