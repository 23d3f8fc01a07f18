//! Getting rid of dead rows that vacuum may not take away.
//!
//! Rows live for milliseconds, so the table's file is mostly dead rows. Vacuum removes them, but
//! not while an old snapshot is open anywhere in the database; reading past 100,000 of them takes
//! 100 ms. So a file that has become slow to read and holds hardly a live row is left behind: a
//! spare table takes the live rows and the place of the first one, which is emptied afterwards; where
//! that cannot be, the table itself is truncated (see `sql.rs`).
//!
//! The relay looks on meanwhile, unless a look takes longer than that. A lock that is asked for
//! holds up everybody who comes after, so it is taken in the first place only when it is free at
//! once; readers are shut out when all that is left to do is the exchange of names (measured: 0.7 ms)
//! or the truncation and its way to the disk (5 ms and more).

mod sql;

use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ratebox_db::{Db, Dialect};
use ratebox_kit::{Causes, Stopwatch};

use crate::Result;

pub(crate) use self::sql::OUTBOX_FILE;

/// A read of few rows that takes longer has dead rows to pass.
const SLOW: Duration = Duration::from_millis(2);
/// A read that takes longer gains by waiting for a replacement, and would be in its way.
const SLOWER_THAN_REPLACING: Duration = Duration::from_millis(5);
/// Rows that a slow read may have found.
const FEW: usize = 100;
/// Rest after the file was looked after: a lock holds up senders for a moment.
const REST: Duration = Duration::from_millis(250);
/// Rest after it could not be.
const REST_FAILED: Duration = Duration::from_secs(5);
/// A smaller file is not worth it: some thousand rows. As in [`sql::TURN`].
const BYTES_MIN: i64 = 1 << 20;

/// Watches how reads go, and replaces the file beside them.
#[derive(Default)]
pub(super) struct Rotation {
    slow: u32,
    /// How long the last read took.
    took: Duration,
    /// Since the last replacement, and how long to rest after it.
    tried: Option<(Stopwatch, Duration)>,
    /// A replacement, which ends with the rest after it. Nobody shares it; the lock only tells the
    /// compiler so.
    running: Mutex<Option<BoxFuture<'static, Duration>>>,
}

impl Rotation {
    /// Takes note of a read; begins to replace the file when it is time.
    pub(super) fn note(&mut self, db: &Db, took: Duration, rows: usize) {
        self.took = took;
        self.slow = if took > SLOW && rows < FEW {
            self.slow + 1
        } else {
            0
        };
        let rests = |(at, rest): &(Stopwatch, Duration)| at.elapsed() < *rest;
        let rests = self.tried.as_ref().is_some_and(rests) || self.running().is_some();
        if self.slow < 2 || rests || db.dialect() == Dialect::Sqlite {
            return;
        }
        self.slow = 0;
        let db = db.clone();
        *self.running() = Some(Box::pin(async move {
            match replace(&db).await {
                // A small one has just been replaced by another relay, or is slow for a while.
                Ok(_) => REST,
                // Somebody writes to it all the time, or holds it open.
                Err(error) => {
                    tracing::debug!(error = %Causes(&error), "the outbox's file could not be replaced yet");
                    REST_FAILED
                }
            }
        }));
    }

    /// Waits for a replacement, if that is quicker than another look; where others are in its way it
    /// takes longer, and goes on beside the look.
    pub(super) async fn ready(&mut self) {
        if self.took > SLOWER_THAN_REPLACING
            && let Some(running) = self.running()
            && let Ok(rest) = tokio::time::timeout(SLOWER_THAN_REPLACING, running).await
        {
            self.ended(rest);
        }
    }

    /// Does other work; what is being replaced meanwhile goes on, if need be beside the next one.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        if let Some(running) = self.running() {
            let rest = tokio::select! {
                biased;
                done = &mut work => return done,
                rest = running => rest,
            };
            self.ended(rest);
        }
        work.await
    }

    fn ended(&mut self, rest: Duration) {
        self.tried = Some((Stopwatch::start(), rest));
        *self.running() = None;
    }

    fn running(&mut self) -> &mut Option<BoxFuture<'static, Duration>> {
        let running = self.running.get_mut();
        running.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces the file, if that is worth it.
async fn replace(db: &Db) -> Result<bool> {
    let rows = db.query(OUTBOX_FILE).await?;
    let Some(outbox) = rows.first() else {
        return Ok(false);
    };
    if outbox.get::<i64>(0)? < BYTES_MIN {
        return Ok(false);
    }
    if outbox.get::<bool>(1)? {
        // A relay that died after the tables turned has left it full.
        db.script(sql::EMPTY.to_owned()).await?;
        db.script(sql::TURN.to_owned()).await?;
        // If somebody reads it just now, the next replacement empties it.
        let _ = db.script(sql::EMPTY.to_owned()).await;
    } else {
        db.script(sql::TRUNCATE.to_owned()).await?;
    }
    tracing::debug!("the outbox's file was full of dead rows and is replaced");
    Ok(true)
}
