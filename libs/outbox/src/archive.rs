//! What was sent, kept for a time.
//!
//! A sent row moves from the hot table to `outbox_sent` in the statement that deletes it. On
//! PostgreSQL a day is a partition, made two days ahead and dropped as a whole; on SQLite old rows
//! are deleted. Several events that shared a row share it here. What was sent of a row that came
//! apart, because a neighbour was refused, is not kept.

mod postgres;
mod sqlite;

use std::time::Duration;

use ratebox_db::{Db, Dialect};

use crate::Result;

const DAY_S: u64 = 86_400;

/// Makes room for the next days and forgets what was sent longer ago than `keep`.
pub(crate) async fn tidy(db: &Db, keep: Duration) -> Result<()> {
    match db.dialect() {
        Dialect::Postgres => {
            let days = keep.as_secs().div_ceil(DAY_S);
            Ok(db.script(postgres::tidy(days)).await?)
        }
        Dialect::Sqlite => {
            let keep_us = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
            while db
                .execute(sqlite::FORGET.with(vec![keep_us.into()]))
                .await?
                > 0
            {}
            Ok(())
        }
    }
}
