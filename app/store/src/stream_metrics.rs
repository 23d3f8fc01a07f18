//! Figures of the streams over time: what the relay notes once a minute, and monitors read.

use ratebox_db::{Column, Conflict, Insert, Sql};
use ratebox_kit::Timestamp;

use crate::{Result, Store};

/// One figure of one stream at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamMetric {
    /// The stream.
    pub stream: String,
    /// Which figure, with its unit: `oldest_pending_ms`.
    pub metric: String,
    /// The figure.
    pub value: i64,
    /// When it was so.
    pub at: Timestamp,
    /// What it is of, as a JSON object: the group, the lane.
    pub tags: String,
}

pub(crate) static INSERT: Insert = Insert::new(
    "stream_processing_metrics",
    &[
        ("stream_name", "text"),
        ("metric_name", "text"),
        ("metric_value", "bigint"),
        ("metric_timestamp", "timestamptz"),
        ("tags", "jsonb"),
    ],
    Conflict::Fail,
);

const LATEST: Sql = Sql {
    postgres: "SELECT stream_name, metric_name, metric_value, metric_timestamp, tags::text
        FROM stream_processing_metrics ORDER BY id DESC LIMIT $1",
    sqlite: "SELECT stream_name, metric_name, metric_value, metric_timestamp, tags
        FROM stream_processing_metrics ORDER BY id DESC LIMIT ?1",
};

/// One stream and figure at a time, so that the index finds the old ones.
const FORGET: Sql = Sql {
    postgres: "DELETE FROM stream_processing_metrics m USING unnest($1::text[], $2::text[])
            AS n (stream, metric)
        WHERE m.stream_name = n.stream AND m.metric_name = n.metric AND m.metric_timestamp < $3",
    sqlite: "DELETE FROM stream_processing_metrics
        WHERE stream_name = ?1 AND metric_name = ?2 AND metric_timestamp < ?3",
};

pub(crate) const STATEMENTS: &[Sql] = &[LATEST, FORGET];

/// Rows that a look at the latest figures reads: a few minutes of any bus.
const LATEST_MAX: u32 = 500;

impl Store {
    /// Notes figures, and forgets those of the same streams that are older than `forget_before`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn note_stream_metrics(
        &self,
        metrics: &[StreamMetric],
        forget_before: Timestamp,
    ) -> Result<()> {
        if metrics.is_empty() {
            return Ok(());
        }
        let mut rows = INSERT.rows();
        for it in metrics {
            rows.push(it.stream.as_str()).push(it.metric.as_str());
            rows.push(it.value).push(it.at);
            rows.push_json(Some(&it.tags));
        }
        let names = |of: fn(&StreamMetric) -> &String| {
            Column::Text(metrics.iter().map(|it| of(it).clone()).collect())
        };
        let columns = vec![names(|it| &it.stream), names(|it| &it.metric)];
        let forget = FORGET.rows(columns, vec![forget_before.into()])?;
        self.db().run(vec![rows.into_statement()?, forget]).await?;
        Ok(())
    }

    /// The newest figure of each kind, for streams that were noted since `since`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn latest_stream_metrics(&self, since: Timestamp) -> Result<Vec<StreamMetric>> {
        let rows = self
            .db()
            .query(LATEST.with(vec![LATEST_MAX.into()]))
            .await?;
        let mut latest: Vec<StreamMetric> = Vec::new();
        for row in &rows {
            let metric = StreamMetric {
                stream: row.get(0)?,
                metric: row.get(1)?,
                value: row.get(2)?,
                at: row.get(3)?,
                tags: row.get(4)?,
            };
            let is_known = |it: &StreamMetric| {
                it.stream == metric.stream && it.metric == metric.metric && it.tags == metric.tags
            };
            if metric.at >= since && !latest.iter().any(is_known) {
                latest.push(metric);
            }
        }
        Ok(latest)
    }
}
