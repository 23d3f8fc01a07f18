//! Weekly partitions of the marks on PostgreSQL, made ahead and dropped as a whole.
//!
//! A partition is a range of UUIDv7 keys: the id carries its time. Ids of other kinds, and marks
//! from before there were partitions, are in the DEFAULT partition and are deleted by row. So are all
//! marks where the user may make no tables: that is no reason for housekeeping to stand still.

use ratebox_db::{Db, Dialect};
use ratebox_kit::{Timestamp, id};

use super::sql;
use crate::Result;

const WEEK_S: i64 = 7 * 86_400;
/// Weeks after the current one that have their partitions.
const WEEKS_AHEAD: i64 = 3;

/// Makes the partitions of this week and the next ones.
pub(crate) async fn keep(db: &Db, now: Timestamp) -> Result<()> {
    if db.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    let known = weeks(db).await?;
    let this = now.as_second().div_euclid(WEEK_S);
    let missing: Vec<String> = (this..=this + WEEKS_AHEAD)
        .filter(|week| known.iter().all(|(known, _)| *known != name(*week)))
        .map(create)
        .collect();
    if !missing.is_empty() && may_partition(db).await? {
        let script = format!(
            "BEGIN; SET LOCAL lock_timeout = '2s'; SELECT pg_advisory_xact_lock(7261746564);
             DO $$ BEGIN {} END $$; COMMIT;",
            missing.join(" ")
        );
        db.script(script).await?;
    }
    Ok(())
}

/// Drops the weeks that ended before `before` and hold marks of this consumer only, none of them
/// received later.
pub(crate) async fn drop_old(db: &Db, consumer: &str, before: Timestamp) -> Result<()> {
    if db.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    for (table, may_drop) in weeks(db).await? {
        let is_over = start_of(&table).is_some_and(|it| it + WEEK_S <= before.as_second());
        if !(may_drop && is_over) {
            continue;
        }
        let script = format!(
            "BEGIN; SET LOCAL lock_timeout = '2s'; SELECT pg_advisory_xact_lock(7261746564);
             DO $$ BEGIN
                IF to_regclass('{table}') IS NOT NULL AND NOT EXISTS (SELECT 1 FROM {table}
                    WHERE consumer <> '{}' OR received_at >= to_timestamp({}))
                THEN DROP TABLE {table}; END IF;
             END $$; COMMIT;",
            consumer.replace('\'', "''"),
            before.as_second(),
        );
        // A lock that somebody holds: the next round is as good.
        if let Err(error) = db.script(script).await {
            tracing::warn!(%error, table, "a week of inbox marks could not be dropped yet");
        }
    }
    Ok(())
}

/// The weeks' tables, and whether this user may drop them.
async fn weeks(db: &Db) -> Result<Vec<(String, bool)>> {
    let mut weeks = Vec::new();
    for row in db.query(sql::PARTITIONS).await? {
        weeks.push((row.get(0)?, row.get(1)?));
    }
    Ok(weeks)
}

async fn may_partition(db: &Db) -> Result<bool> {
    let rows = db.query(sql::MAY_PARTITION).await?;
    Ok(rows.first().map_or(Ok(false), |row| row.get(0))?)
}

/// A week's partition; one whose rows are in the DEFAULT partition already is left there.
fn create(week: i64) -> String {
    let (from, to) = (lowest(week), lowest(week + 1));
    let table = name(week);
    format!(
        "IF to_regclass('{table}') IS NULL AND NOT EXISTS (SELECT 1 FROM consumer_inbox_default
            WHERE event_id >= '{from}' AND event_id < '{to}')
         THEN CREATE TABLE {table} PARTITION OF consumer_inbox FOR VALUES FROM ('{from}') TO ('{to}');
         END IF;"
    )
}

fn lowest(week: i64) -> uuid::Uuid {
    id::lowest_at(Timestamp::from_second(week * WEEK_S).unwrap_or(Timestamp::MAX))
}

/// Named by its first day.
fn name(week: i64) -> String {
    let start = Timestamp::from_second(week * WEEK_S).unwrap_or(Timestamp::MAX);
    format!("consumer_inbox_{}", start.strftime("%Y%m%d"))
}

/// Seconds since 1970 at which a partition's week begins.
fn start_of(table: &str) -> Option<i64> {
    let day = table.strip_prefix("consumer_inbox_")?;
    let (year, month, day) = (day.get(..4)?, day.get(4..6)?, day.get(6..)?);
    let time: Timestamp = format!("{year}-{month}-{day}T00:00:00Z").parse().ok()?;
    Some(time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_week_is_named_by_its_first_day_and_known_by_its_name() {
        let week = 1_795_000_000 / WEEK_S;
        assert_eq!(start_of(&name(week)), Some(week * WEEK_S));
        assert_eq!(start_of("consumer_inbox_default"), None);
    }
}
