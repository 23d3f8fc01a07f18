//! Monthly partitions, made ahead.
//!
//! A partition is a range of UUIDv7 keys: the id carries its time, so the primary key stays
//! global and a look-up by id reads one partition.

use std::collections::HashSet;

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use ratebox_db::{Dialect, Sql};
use ratebox_kit::{Timestamp, id};

use crate::{Result, Store};

/// Months after the current one that have their partitions.
pub(crate) const MONTHS_AHEAD: i32 = 3;

const TABLES: [&str; 3] = ["raw_items", "raw_item_errors", "validation_responses"];

impl Store {
    /// Makes the partitions of `now`'s month and of the `ahead` next ones. Safe to call from
    /// several processes. SQLite has none.
    ///
    /// # Errors
    /// When the database is away, or refuses one of them; all others are made then.
    pub async fn ensure_partitions(&self, now: Timestamp, ahead: i32) -> Result<()> {
        let first = month_of(now);
        let months = (0..=ahead).map(|ahead| first.saturating_add(ahead.months()));
        self.ensure_months(months).await
    }

    /// Makes the partitions of these months, given by their first days. SQLite has none.
    ///
    /// # Errors
    /// When the database is away. When it refuses one, as it does for a month whose rows are in a
    /// DEFAULT partition already: that costs no other table and no other month its own.
    pub(crate) async fn ensure_months(&self, months: impl Iterator<Item = Date>) -> Result<()> {
        if self.db().dialect() == Dialect::Sqlite {
            return Ok(());
        }
        // Who may make no table needs none when all are there.
        let there = self.partitions().await?;
        let mut refused = Vec::new();
        for start in months {
            for table in TABLES {
                let name = partition(table, start);
                if there.contains(&name) {
                    continue;
                }
                match self.make(&name, table, start).await {
                    Ok(()) => {}
                    Err(error @ ratebox_db::Error::Settings { .. }) => refused.push((name, error)),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        match refused.first() {
            None => Ok(()),
            Some((_, why)) => {
                let names: Vec<&str> = refused.iter().map(|(name, _)| name.as_str()).collect();
                let what = format!("{} could not be made: {why}", names.join(", "));
                Err(ratebox_db::Error::Settings { what }.into())
            }
        }
    }

    async fn make(&self, name: &str, table: &str, start: Date) -> ratebox_db::Result<()> {
        let (first, end) = (lowest_id(start), lowest_id(start.saturating_add(1.month())));
        let script = format!(
            "BEGIN; SELECT pg_advisory_xact_lock(7261746563);
             CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table}
                FOR VALUES FROM ('{first}') TO ('{end}');
             COMMIT;"
        );
        self.db().script(script).await
    }

    /// The names of the partitions that are there.
    async fn partitions(&self) -> Result<HashSet<String>> {
        let rows = self.db().query(PARTITIONS).await?;
        let names = rows.iter().map(|row| row.get(0));
        Ok(names.collect::<ratebox_db::Result<_>>()?)
    }

    /// Partition months missing among the current and the next one, and rows that fell into a
    /// DEFAULT partition: what an operator must hear of. Empty on SQLite.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn partition_complaints(&self, now: Timestamp) -> Result<Vec<String>> {
        if self.db().dialect() == Dialect::Sqlite {
            return Ok(Vec::new());
        }
        let names = self.partitions().await?;
        let mut complaints = Vec::new();
        for months in 0..=1 {
            let month = month_of(now).saturating_add(months.months());
            for table in TABLES {
                let name = partition(table, month);
                if !names.contains(&name) {
                    complaints.push(format!(
                        "partition {name} is missing; run `ratebox migrate`"
                    ));
                }
            }
        }
        let rows = self.db().query(DEFAULTS_USED).await?;
        for (table, row) in TABLES.iter().zip(0..) {
            if rows
                .first()
                .is_some_and(|it| it.get::<bool>(row).unwrap_or(false))
            {
                complaints.push(format!(
                    "{table}_default holds rows whose month had no partition"
                ));
            }
        }
        Ok(complaints)
    }
}

const PARTITIONS: Sql = Sql::both(
    "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent IN ('raw_items'::regclass, 'raw_item_errors'::regclass,
        'validation_responses'::regclass)",
);

const DEFAULTS_USED: Sql = Sql::both(
    "SELECT EXISTS (SELECT 1 FROM raw_items_default),
        EXISTS (SELECT 1 FROM raw_item_errors_default),
        EXISTS (SELECT 1 FROM validation_responses_default)",
);

/// The name of a month's partition.
fn partition(table: &str, month: Date) -> String {
    format!("{table}_{:04}_{:02}", month.year(), month.month())
}

pub(crate) fn month_of(time: Timestamp) -> Date {
    time.to_zoned(TimeZone::UTC).date().first_of_month()
}

fn lowest_id(day: Date) -> uuid::Uuid {
    let start = day
        .to_zoned(TimeZone::UTC)
        .map(|it| it.timestamp())
        .unwrap_or(Timestamp::MAX);
    id::lowest_at(start)
}
