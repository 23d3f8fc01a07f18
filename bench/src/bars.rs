//! The bars that RateBox sets itself: in absolute figures, and beside its peers of the same run.

use std::fmt::Write as _;

use serde_json::Value;

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// One figure of one peer.
#[derive(Clone, Copy, Debug)]
struct Figure {
    workload: &'static str,
    peer: &'static str,
    /// Requests at a time, where a peer has several lines.
    conc: Option<u64>,
    key: &'static str,
}

/// A figure, or its ratio to a peer's, and its limit.
#[derive(Clone, Copy, Debug)]
struct Bar {
    ours: Figure,
    against: Option<&'static str>,
    limit: Limit,
}

const BARS: &[Bar] = &[
    bar(
        "W1",
        "ratebox-1-item",
        "items_per_s",
        Limit::AtLeast(25_000.0),
    ),
    bar("W1", "ratebox-1-item", "items_per_s", Limit::AtLeast(5.0)).against("bullmq-c64"),
    bar("W1", "ratebox-1-item", "items_per_s", Limit::AtLeast(18.0)).against("python-seed-1w"),
    bar(
        "W1",
        "ratebox-1-item",
        "cpu_us_per_item",
        Limit::AtMost(10.0),
    ),
    bar(
        "W1",
        "ratebox-1-item",
        "worker_rss_mib",
        Limit::AtMost(60.0),
    ),
    bar(
        "W1",
        "ratebox-100-items",
        "items_per_s",
        Limit::AtLeast(60_000.0),
    ),
    bar(
        "W1",
        "ratebox-100-items",
        "worker_rss_mib",
        Limit::AtMost(60.0),
    ),
    bar("W2", "ratebox-bus", "p50_ms", Limit::AtMost(0.5))
        .at(1)
        .against("bullmq"),
    bar("W2", "ratebox-bus", "p99_ms", Limit::AtMost(0.25))
        .at(64)
        .against("bullmq"),
    bar("W2", "ratebox-bus", "req_per_s", Limit::AtLeast(5.0))
        .at(64)
        .against("bullmq"),
    bar("W3", "ratebox-stream", "req_per_s", Limit::AtLeast(2.0)).against("fastify2"),
    bar("W3", "ratebox-stream", "req_per_s", Limit::AtLeast(20.0)).against("strapi"),
    bar("W3", "ratebox-stream", "p99_ms", Limit::AtMost(25.0)),
    bar("W3", "ratebox-stream", "errors", Limit::AtMost(0.0)),
    bar("W3", "ratebox-durable", "req_per_s", Limit::AtLeast(0.5)).against("fastify2"),
    bar("W3", "ratebox-durable", "p99_ms", Limit::AtMost(25.0)),
    bar("W3", "ratebox-durable", "errors", Limit::AtMost(0.0)),
    bar(
        "W3",
        "ratebox-durable",
        "outbox_drained_s",
        Limit::AtMost(10.0),
    ),
    bar(
        "EMB",
        "ratebox-sqlite",
        "first_verdict_ms",
        Limit::AtMost(1000.0),
    ),
    bar(
        "EMB",
        "ratebox-sqlite",
        "items_per_s",
        Limit::AtLeast(10_000.0),
    ),
    bar("EMB", "ratebox-sqlite", "idle_rss_mib", Limit::AtMost(40.0)),
    bar("BUS", "ratebox-drain", "client_cpu_us", Limit::AtMost(5.0)),
    bar("BUS", "ratebox-drain", "server_cpu_us", Limit::AtMost(4.0)),
    bar(
        "BUS",
        "ratebox-drain",
        "msg_per_s",
        Limit::AtLeast(100_000.0),
    ),
    bar("BUS", "ratebox-drain", "stored_bytes", Limit::AtMost(400.0)),
    bar("BUS", "ratebox-drain", "left", Limit::AtMost(0.0)),
    bar("BUS", "ratebox-drain", "msg_per_s", Limit::AtLeast(6.0)).against("bullmq-official-c32"),
    bar("BUS", "ratebox-pickup", "p99_ms", Limit::AtMost(3.0)),
    bar("BUS", "ratebox-urgent-steady", "p99_ms", Limit::AtMost(3.0))
        .against("ratebox-urgent-idle"),
    bar(
        "BUS",
        "ratebox-delayed",
        "promoted_per_s",
        Limit::AtLeast(50_000.0),
    ),
    bar("BUS", "ratebox-urgent-busy", "p99_ms", Limit::AtMost(3.0)).against("ratebox-urgent-idle"),
    bar("W4", "ratebox-postgres-c1", "p50_ms", Limit::AtMost(1.0)).against("restate-c1"),
    bar(
        "W4",
        "ratebox-postgres-c32",
        "sagas_per_s",
        Limit::AtLeast(50.0),
    )
    .against("dbos"),
    bar(
        "W4",
        "ratebox-postgres-c32",
        "sagas_per_s",
        Limit::AtLeast(7.0),
    )
    .against("restate"),
    bar(
        "W4",
        "ratebox-postgres-c32",
        "sagas_per_s",
        Limit::AtLeast(1.0),
    )
    .against("sagaz-postgres"),
    bar(
        "W4",
        "ratebox-postgres-c32",
        "sagas_per_s",
        Limit::AtLeast(5.0),
    )
    .against("steno-postgres-c32"),
    bar(
        "W4",
        "ratebox-postgres-c64",
        "sagas_per_s",
        Limit::AtLeast(5.0),
    )
    .against("steno-postgres-c64"),
    bar(
        "W4",
        "ratebox-postgres-c32",
        "cpu_us_per_saga",
        Limit::AtMost(1000.0),
    ),
    bar(
        "W4",
        "ratebox-postgres-c64",
        "sagas_per_s",
        Limit::AtLeast(50.0),
    )
    .against("dbos-c64"),
    bar(
        "W4",
        "ratebox-postgres-c64",
        "sagas_per_s",
        Limit::AtLeast(1.7),
    )
    .against("sagaz-postgres-c64"),
    bar(
        "W4",
        "ratebox-postgres-c64",
        "sagas_per_s",
        Limit::AtLeast(7.0),
    )
    .against("restate-c64"),
    bar(
        "W4",
        "ratebox-postgres-c64",
        "sagas_per_s",
        Limit::AtLeast(1500.0),
    ),
    bar("W4", "ratebox-postgres-c64", "p99_ms", Limit::AtMost(100.0)),
    bar(
        "W4",
        "ratebox-postgres-c256",
        "sagas_per_s",
        Limit::AtLeast(4000.0),
    ),
    bar(
        "W4",
        "ratebox-sqlite-c64",
        "sagas_per_s",
        Limit::AtLeast(1000.0),
    ),
    bar(
        "W5",
        "ratebox-optimistic",
        "from_commit_p50_ms",
        Limit::AtMost(0.4),
    ),
    bar(
        "W5",
        "ratebox-optimistic",
        "from_commit_p99_ms",
        Limit::AtMost(5.0),
    ),
    bar(
        "W5",
        "ratebox-relay",
        "from_commit_p50_ms",
        Limit::AtMost(5.0),
    ),
    bar(
        "W5",
        "ratebox-relay",
        "from_commit_p99_ms",
        Limit::AtMost(20.0),
    ),
    bar(
        "W5",
        "ratebox-relay",
        "drain_events_per_s",
        Limit::AtLeast(0.85),
    )
    .against("sql"),
    bar(
        "W5",
        "ratebox-relay",
        "drain_events_per_s",
        Limit::AtLeast(10.0),
    )
    .against("sagaz"),
    bar("W5", "ratebox-relay", "inversions", Limit::AtMost(0.0)),
    bar(
        "W5",
        "ratebox-inbox",
        "new_events_per_s",
        Limit::AtLeast(5_000.0),
    ),
    bar("W5", "ratebox-inbox", "p50_ms", Limit::AtMost(0.3)),
    bar(
        "W5",
        "ratebox-dead-rows",
        "claim_p99_ms",
        Limit::AtMost(5.0),
    ),
    bar(
        "W5",
        "ratebox-dead-rows-beside",
        "claim_p99_ms",
        Limit::AtMost(5.0),
    ),
    bar("W6", "ratebox-l1l2", "cpu_us_per_op", Limit::AtMost(0.2)).against("bentocache-l1l2"),
    bar("W6", "ratebox-l1l2", "hit_p99_ms", Limit::AtMost(1.0)).against("bentocache-l1l2"),
    bar(
        "W6",
        "ratebox-l1l2",
        "stampede_1p_calls",
        Limit::AtMost(1.0),
    ),
    bar(
        "W6",
        "ratebox-l1l2",
        "stampede_2p_calls",
        Limit::AtMost(1.0),
    ),
    bar("W6", "ratebox-l2", "stampede_2p_calls", Limit::AtMost(1.0)),
    bar("WCACHE", "ratebox-l1", "cpu_us_per_op", Limit::AtMost(0.3)),
    bar(
        "WCACHE",
        "ratebox-l1",
        "cpu_us_per_op",
        Limit::AtMost(1.0 / 15.0),
    )
    .against("bentocache-l1"),
    bar(
        "WCACHE",
        "ratebox-l2",
        "share_of_bare",
        Limit::AtLeast(0.85),
    ),
    bar("WCACHE", "ratebox-l2", "ops_per_s", Limit::AtLeast(4.0)).against("cashews-l2"),
    bar("WCACHE", "ratebox-l2", "ops_per_s", Limit::AtLeast(2.0)).against("bentocache-l2"),
    bar("WCACHE", "ratebox-guards", "limiter_us", Limit::AtMost(1.0)),
    bar("WCACHE", "ratebox-guards", "breaker_us", Limit::AtMost(1.0)),
    bar(
        "WCACHE",
        "ratebox-guards",
        "limiter_shared_p99_ms",
        Limit::AtMost(1.0),
    ),
    bar(
        "WCACHE",
        "ratebox-service-hit",
        "p99_ms",
        Limit::AtMost(5.0),
    ),
    bar(
        "WCACHE",
        "ratebox-service-miss",
        "over_origin_p50_ms",
        Limit::AtMost(2.0),
    ),
    bar(
        "WCACHE",
        "ratebox-races-1p",
        "races",
        Limit::AtLeast(10_000.0),
    ),
    bar("WCACHE", "ratebox-races-1p", "stale", Limit::AtMost(0.0)),
    bar(
        "WCACHE",
        "ratebox-races-2p",
        "races",
        Limit::AtLeast(10_000.0),
    ),
    bar("WCACHE", "ratebox-races-2p", "stale", Limit::AtMost(0.0)),
    bar("WCACHE", "ratebox-tags", "p99_ms", Limit::AtMost(50.0)),
    bar("WCACHE", "ratebox-tags", "stale", Limit::AtMost(0.0)),
    bar("WCACHE", "ratebox-cut-link", "stale", Limit::AtMost(0.0)),
    // Recovery within two seconds.
    bar(
        "WCACHE",
        "ratebox-cut-link",
        "max_ms",
        Limit::AtMost(2_000.0),
    ),
    bar(
        "WCACHE",
        "ratebox-crowd",
        "loader_calls",
        Limit::AtMost(1.0),
    ),
    // As many as the breaker lets probe by default.
    bar("WCACHE", "ratebox-half-open", "reached", Limit::AtMost(3.0)),
    // Not bars of ours, but what a reader asks next.
    bar("BUS", "ratebox-drain", "msg_per_s", Limit::AtLeast(0.0)).against("ruststream-pipeline"),
    bar("W1", "ratebox-1-item", "items_per_s", Limit::AtLeast(0.0)).against("python-unnest-1w"),
    bar("W1", "ratebox-1-item", "items_per_s", Limit::AtLeast(0.0)).against("python-copy-1w"),
    bar("W3", "ratebox-stream", "req_per_s", Limit::AtLeast(0.0)).against("axum"),
    bar("W3", "ratebox-durable", "req_per_s", Limit::AtLeast(0.0)).against("fastapi"),
];

const fn bar(workload: &'static str, peer: &'static str, key: &'static str, limit: Limit) -> Bar {
    let ours = Figure {
        workload,
        peer,
        conc: None,
        key,
    };
    Bar {
        ours,
        against: None,
        limit,
    }
}

impl Bar {
    const fn against(mut self, peer: &'static str) -> Self {
        self.against = Some(peer);
        self
    }

    const fn at(mut self, conc: u64) -> Self {
        self.ours.conc = Some(conc);
        self
    }

    /// One line, when the lines hold what it takes.
    fn judge(&self, lines: &[Value]) -> Option<String> {
        let ours = self.ours.median(lines)?;
        let (value, name) = match self.against {
            None => (ours, String::new()),
            Some(peer) => {
                let theirs = Figure { peer, ..self.ours }.median(lines)?;
                (ours / theirs, format!(" / {peer}"))
            }
        };
        let (met, limit) = match self.limit {
            Limit::AtLeast(limit) => (value >= limit, format!("≥ {limit}")),
            Limit::AtMost(limit) => (value <= limit, format!("≤ {limit}")),
        };
        let verdict = match (met, limit == "≥ 0") {
            (_, true) => "",
            (true, _) => "  met",
            (false, _) => "  NOT MET",
        };
        let conc = self.ours.conc.map(|conc| format!(" ({conc} at a time)"));
        Some(format!(
            "{} {}{} {}{name} = {value:.2}, bar {limit}{verdict}",
            self.ours.workload,
            self.ours.peer,
            conc.unwrap_or_default(),
            self.ours.key
        ))
    }
}

impl Figure {
    /// The median of the runs.
    fn median(&self, lines: &[Value]) -> Option<f64> {
        let mut values: Vec<f64> = lines
            .iter()
            .filter(|line| line["workload"] == self.workload && line["peer"] == self.peer)
            .filter(|line| self.conc.is_none_or(|conc| line["conc"] == conc))
            .filter_map(|line| line[self.key].as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => None,
            count if count % 2 == 1 => values.get(middle).copied(),
            _ => Some((values.get(middle - 1)? + values.get(middle)?) / 2.0),
        }
    }
}

/// Every bar that the lines can be held against.
pub(crate) fn judge(lines: &[Value]) -> String {
    let judged = BARS.iter().filter_map(|bar| bar.judge(lines));
    judged.fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{line}"); // Writing to a string cannot fail.
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_ratio_is_that_of_the_medians() {
        let line =
            |peer: &str, value: u64| json!({"workload": "W1", "peer": peer, "items_per_s": value});
        let lines = [
            line("ratebox-1-item", 30_000),
            line("ratebox-1-item", 20_000),
            line("bullmq-c64", 5_000),
        ];
        let told = judge(&lines);
        assert!(
            told.contains("items_per_s / bullmq-c64 = 5.00, bar ≥ 5  met"),
            "{told}"
        );
        assert!(
            told.contains("items_per_s = 25000.00, bar ≥ 25000  met"),
            "{told}"
        );
        assert_eq!(told.lines().count(), 2);
    }
}
