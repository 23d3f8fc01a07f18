//! W5, dead rows: how long a relay looks for work while an old snapshot keeps vacuum from taking away
//! what it has sent.

use std::sync::Arc;

use anyhow::{Result, ensure};
use ratebox_db::{Db, Sql, Tx};
use ratebox_kit::{Stopwatch, Tasks};
use ratebox_outbox::{Event, Outbox, Relay, RelaySettings, Settings, Step};
use ratebox_stream::RedisLog;

use super::{STREAM, Streams, connect};
use crate::Bench;
use crate::meter::Meter;
use crate::report::{Line, rounded};

/// Rows that are sent under the snapshot, and how many come at a time.
const ROWS: usize = 100_000;
const AT_ONCE: usize = 500;

/// Measures a relay's looks that find nothing, between the batches of a hundred thousand rows.
///
/// # Errors
/// When a row is not sent.
pub(crate) async fn run(bench: &Bench) -> Result<Line> {
    let servers = bench.servers()?;
    let fresh = servers.fresh().await?;
    let db = servers.open(&fresh, 4)?;
    servers.settle().await?;
    let snapshot = old_snapshot(&db).await?;
    let tasks = Tasks::new();
    let broker = Arc::new(Streams(RedisLog::new(connect(servers).await?)));
    let settings = Settings {
        optimistic: false,
        ..Settings::default()
    };
    let outbox = Outbox::new(db.clone(), broker.clone(), settings, &tasks);
    let settings = RelaySettings::default();
    let mut relay = Relay::new(db.clone(), broker, "bench", settings, Arc::default());
    let meter = Meter::start(Some(servers), &[])?;
    let (mut sent, mut looks) = (0, Vec::with_capacity(ROWS / AT_ONCE));
    while sent < ROWS {
        // Each has an aggregate, so that each has a row.
        let event = |number| Event::new(STREAM, super::payload(0)).aggregate("order", number);
        let (insert, _left) = outbox.stage((sent..sent + AT_ONCE).map(event).collect())?;
        db.run(vec![insert]).await?;
        while let Step::Did(count) = relay.step().await? {
            sent += count;
        }
        let watch = Stopwatch::start();
        let found = relay.step().await?;
        looks.push(watch.elapsed().as_secs_f64() * 1e3);
        ensure!(found == Step::Idle, "a look found {found:?}");
    }
    snapshot.rollback().await?;
    looks.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let index = (looks.len() * percent / 100).min(looks.len().saturating_sub(1));
        rounded(looks.get(index).copied().unwrap_or(f64::NAN), 3)
    };
    let line = Line::new("W5", "dead-rows")
        .with("part", "claim")
        .with("events", sent)
        .with("claim_p50_ms", at(50))
        .with("claim_p99_ms", at(99))
        .with("claim_max_ms", at(100));
    meter.finish(line)
}

/// A transaction that still sees what is there now.
async fn old_snapshot(db: &Db) -> Result<Tx> {
    let mut snapshot = db.begin().await?;
    let isolation = Sql::both("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    snapshot.execute(isolation).await?;
    snapshot
        .query(Sql::both("SELECT count(*) FROM pg_class"))
        .await?;
    Ok(snapshot)
}
