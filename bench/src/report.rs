//! Lines of results: one JSON object each, with the keys that the peers' lines have, and a table
//! of them for people.

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::Value;

/// One result, its keys in the order in which they were added.
#[derive(Clone, Debug)]
pub(crate) struct Line(Vec<(&'static str, Value)>);

impl Line {
    /// A result of ours; the peer's name is `ratebox-<case>`.
    pub(crate) fn new(workload: &'static str, case: &str) -> Self {
        Self(Vec::new())
            .with("workload", workload)
            .with("peer", format!("ratebox-{case}"))
            .with("case", case)
    }

    #[must_use]
    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((key, value.into()));
        self
    }

    /// Adds the percentiles of latencies in milliseconds.
    #[must_use]
    pub(crate) fn with_latencies(self, latencies: &mut [f64]) -> Self {
        latencies.sort_by(f64::total_cmp);
        let at = |percent| percentile(latencies, percent);
        let (p50, p95, p99, max) = (at(50), at(95), at(99), at(100));
        self.with("p50_ms", p50)
            .with("p95_ms", p95)
            .with("p99_ms", p99)
            .with("max_ms", max)
    }
}

/// The value below which so many of a hundred lie; `sorted` is in order.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    rounded(sorted.get(index).copied().unwrap_or(f64::NAN), 3)
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// A number as it is shown: no more digits than mean something.
pub(crate) fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (number * scale).round() / scale
}

/// The columns of a workload for people: heading, keys.
const TABLES: [(&str, &[&str]); 9] = [
    (
        "W1",
        &[
            "items_per_s",
            "drain_s",
            "cpu_us_per_item",
            "worker_rss_mib",
            "redis_cpu_s",
            "pg_cpu_s",
            "rows_ok",
        ],
    ),
    (
        "W2",
        &[
            "conc",
            "req_per_s",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "worker_cpu_us_per_req",
        ],
    ),
    (
        "W3",
        &[
            "req_per_s",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "errors",
            "server_cpu_us_per_req",
            "server_rss_mib",
            "outbox_drained_s",
        ],
    ),
    (
        "W4",
        &[
            "conc",
            "sagas_per_s",
            "p50_ms",
            "p95_ms",
            "p99_ms",
            "cpu_us_per_saga",
            "pg_cpu_us",
            "commits_per_saga",
            "wal_bytes_per_saga",
        ],
    ),
    (
        "W5",
        &[
            "part",
            "from_commit_p50_ms",
            "from_commit_p99_ms",
            "p50_ms",
            "p99_ms",
            "drain_events_per_s",
            "new_events_per_s",
            "worker_cpu_us_per_event",
            "inversions",
        ],
    ),
    (
        "W6",
        &[
            "ops_per_s",
            "hit_p50_ms",
            "hit_p99_ms",
            "loader_calls",
            "hit_ratio",
            "cpu_us_per_op",
            "stampede_1p_calls",
            "stampede_2p_calls",
            "stampede_1p_errors",
        ],
    ),
    (
        "WCACHE",
        &[
            "ops_per_s",
            "cpu_us_per_op",
            "bare_get_per_s",
            "share_of_bare",
            "limiter_us",
            "breaker_us",
            "limiter_shared_p99_ms",
            "p50_ms",
            "p99_ms",
            "over_origin_p50_ms",
            "races",
            "stale",
            "loader_calls",
            "reached",
        ],
    ),
    (
        "EMB",
        &[
            "first_verdict_ms",
            "first_start_sample_ms",
            "items_per_s",
            "p50_ms",
            "p99_ms",
            "cpu_us_per_item",
            "idle_rss_mib",
            "rss_mib",
        ],
    ),
    (
        "BUS",
        &[
            "msg_per_s",
            "client_cpu_us",
            "server_cpu_us",
            "stored_bytes",
            "left",
            "backlog_per_s",
            "p50_ms",
            "p99_ms",
        ],
    ),
];

/// All lines as tables.
pub(crate) fn table(lines: &[Value]) -> String {
    let mut text = String::new();
    for (workload, keys) in TABLES {
        let keys: Vec<&str> = keys.iter().copied().chain(["other_share"]).collect();
        let mut rows = vec![heading(&keys)];
        let of_workload = lines.iter().filter(|line| line["workload"] == workload);
        rows.extend(of_workload.map(|line| row(line, &keys)));
        if rows.len() > 1 {
            text.push_str(&format!("{workload}\n{}\n", aligned(&rows)));
        }
    }
    text
}

fn heading(keys: &[&str]) -> Vec<String> {
    ["run", "peer"]
        .iter()
        .chain(keys)
        .map(|key| (*key).to_owned())
        .collect()
}

fn row(line: &Value, keys: &[&str]) -> Vec<String> {
    ["run", "peer"]
        .iter()
        .chain(keys)
        .map(|key| match &line[*key] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect()
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row.get(column).map_or(0, String::len))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("  {cell:>width$}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_peers() {
        let mut latencies: Vec<f64> = (0..200).rev().map(f64::from).collect();
        let line = Line::new("W2", "bus").with_latencies(&mut latencies);
        let line = serde_json::to_value(&line).unwrap();
        assert_eq!(
            (&line["p50_ms"], &line["p99_ms"], &line["max_ms"]),
            (&100.0.into(), &198.0.into(), &199.0.into())
        );
    }
}
