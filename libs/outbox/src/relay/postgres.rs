//! Getting rid of dead rows that vacuum may not take away.
//!
//! Rows live for milliseconds, so the table's file is mostly dead rows. Vacuum removes them, but
//! not while an old snapshot is open anywhere in the database; reading past 100,000 of them takes
//! 100 ms. So a file that has become slow to read and holds hardly a live row is replaced: the live
//! rows are taken up, the table is truncated, and they are put back, in one transaction and under
//! a lock for which it waits 50 ms at most.

use std::time::Duration;

use ratebox_db::{Db, Dialect};
use ratebox_kit::Stopwatch;

use crate::{Result, sql};

/// A read of few rows that takes longer has dead rows to pass.
const SLOW: Duration = Duration::from_millis(2);
/// Rows that a slow read may have found.
const FEW: usize = 100;
/// Rest after the file was replaced: its lock holds up senders for a moment.
const REST: Duration = Duration::from_millis(250);
/// Rest after it could not be.
const REST_FAILED: Duration = Duration::from_secs(5);
/// A smaller file is not worth it: some thousand rows.
const BYTES_MIN: i64 = 1 << 20;

const REPLACE: &str = "
    BEGIN;
    SET LOCAL lock_timeout = '50ms';
    LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE;
    DO $$
    DECLARE live outbox[];
    BEGIN
        live := ARRAY(SELECT o FROM outbox o LIMIT 1001);
        IF cardinality(live) <= 1000 THEN
            TRUNCATE outbox;
            INSERT INTO outbox SELECT (row).* FROM unnest(live) AS row;
        END IF;
    END $$;
    COMMIT;";

/// Watches how reads go.
#[derive(Default)]
pub(super) struct Rotation {
    slow: u32,
    /// Since the last attempt, and how long to rest after it.
    tried: Option<(Stopwatch, Duration)>,
}

impl Rotation {
    /// Takes note of a read; replaces the file when it is time.
    pub(super) async fn after(&mut self, db: &Db, took: Duration, rows: usize) -> Result<()> {
        self.slow = if took > SLOW && rows < FEW {
            self.slow + 1
        } else {
            0
        };
        let rests = |(at, rest): &(Stopwatch, Duration)| at.elapsed() < *rest;
        let rests = self.tried.as_ref().is_some_and(rests);
        if self.slow < 2 || rests || db.dialect() == Dialect::Sqlite {
            return Ok(());
        }
        self.slow = 0;
        self.tried = Some((Stopwatch::start(), REST_FAILED));
        let size = db.query(sql::FILE_SIZE).await?;
        if size.first().map_or(Ok(0), |row| row.get::<i64>(0))? < BYTES_MIN {
            return Ok(());
        }
        match db.script(REPLACE.to_owned()).await {
            Ok(()) => {
                self.tried = Some((Stopwatch::start(), REST));
                tracing::debug!("the outbox's file was full of dead rows and is replaced");
            }
            // Somebody writes to it just now, or holds it open.
            Err(error) => tracing::debug!(%error, "the outbox's file could not be replaced yet"),
        }
        Ok(())
    }
}
