//! Figures for the monitor's report.

use std::time::Duration;

use ratebox_db::Sql;
use ratebox_kit::{Timestamp, id};

use crate::{Result, Store};

/// Items by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ItemCounts {
    /// All items with a verdict.
    pub total: u64,
    /// DONE.
    pub done: u64,
    /// ERROR.
    pub error: u64,
    /// Items of requests that wait for their verdict.
    pub pending: u64,
    /// Messages that consumers have finished.
    pub stream_processed: u64,
}

/// One consumer.
#[derive(Clone, Debug)]
pub struct ConsumerPerformance {
    /// Its name.
    pub name: String,
    /// Messages it finished.
    pub processed: u64,
    /// Share of these with an item in error, in percent.
    pub error_rate_percent: f64,
    /// When it finished the last one.
    pub last_processed_at: Timestamp,
}

/// Items of the last hour in one state.
#[derive(Clone, Debug)]
pub struct Activity {
    /// `success` or `error`.
    pub status: String,
    /// How many.
    pub count: u64,
    /// Mean time from start to verdict, in seconds.
    pub mean_seconds: f64,
}

/// A frequent error of the last hour.
#[derive(Clone, Debug)]
pub struct TopError {
    /// The code.
    pub code: i64,
    /// The field.
    pub field: Option<String>,
    /// How often.
    pub count: u64,
    /// One of its messages; mask it before showing.
    pub message: String,
}

const COUNTS: Sql = Sql::both(
    "SELECT count(*), count(*) FILTER (WHERE status = 'success'),
        count(*) FILTER (WHERE status = 'error'),
        (SELECT coalesce(sum(item_count), 0) FROM validation_requests WHERE body IS NOT NULL),
        (SELECT CAST(coalesce(sum(messages_processed), 0) AS bigint) FROM stream_consumer_stats)
     FROM raw_items",
);

const CONSUMERS: Sql = Sql::both(
    "SELECT consumer_name, messages_processed, CAST(error_rate_percent AS double precision),
        last_processed_at
     FROM v_consumer_performance LIMIT 50",
);

const ACTIVITY: Sql = Sql {
    postgres: "SELECT status, count(*), CAST(avg(extract(epoch FROM
            processing_completed_at - processing_started_at)) AS double precision)
        FROM raw_items WHERE id >= $1 GROUP BY status ORDER BY status",
    sqlite: "SELECT status, count(*),
            avg(processing_completed_at - processing_started_at) / 1000000.0
        FROM raw_items WHERE id >= ?1 GROUP BY status ORDER BY status",
};

const TOP_ERRORS: Sql = Sql {
    postgres: "SELECT error_code, field, count(*), min(message) FROM raw_item_errors
        WHERE item_id >= $1 GROUP BY error_code, field ORDER BY count(*) DESC, error_code LIMIT 5",
    sqlite: "SELECT error_code, field, count(*), min(message) FROM raw_item_errors
        WHERE item_id >= ?1 GROUP BY error_code, field ORDER BY count(*) DESC, error_code LIMIT 5",
};

pub(crate) const STATEMENTS: &[Sql] = &[COUNTS, CONSUMERS, ACTIVITY, TOP_ERRORS];

/// How far back activity and errors are counted.
const WINDOW: Duration = Duration::from_secs(3600);

impl Store {
    /// Items by what became of them.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn item_counts(&self) -> Result<ItemCounts> {
        let rows = self.db().query(COUNTS).await?;
        let Some(row) = rows.first() else {
            return Ok(ItemCounts::default());
        };
        Ok(ItemCounts {
            total: row.get(0)?,
            done: row.get(1)?,
            error: row.get(2)?,
            pending: row.get(3)?,
            stream_processed: row.get(4)?,
        })
    }

    /// Consumers, the one that worked last first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn consumer_performance(&self) -> Result<Vec<ConsumerPerformance>> {
        let rows = self.db().query(CONSUMERS).await?;
        let read = |row: &ratebox_db::Row| {
            Ok(ConsumerPerformance {
                name: row.get(0)?,
                processed: row.get(1)?,
                error_rate_percent: row.get(2)?,
                last_processed_at: row.get(3)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Items of the last hour by state.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn recent_activity(&self) -> Result<Vec<Activity>> {
        let rows = self
            .db()
            .query(ACTIVITY.with(vec![self.window_start().into()]))
            .await?;
        let read = |row: &ratebox_db::Row| {
            Ok(Activity {
                status: row.get(0)?,
                count: row.get(1)?,
                mean_seconds: row.get(2)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The five most frequent errors of the last hour.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn top_errors(&self) -> Result<Vec<TopError>> {
        let rows = self
            .db()
            .query(TOP_ERRORS.with(vec![self.window_start().into()]))
            .await?;
        let read = |row: &ratebox_db::Row| {
            Ok(TopError {
                code: row.get(0)?,
                field: row.get(1)?,
                count: row.get(2)?,
                message: row.get(3)?,
            })
        };
        rows.iter().map(read).collect()
    }

    fn window_start(&self) -> uuid::Uuid {
        id::lowest_at(self.clock().now().checked_sub(WINDOW).unwrap_or_default())
    }
}
