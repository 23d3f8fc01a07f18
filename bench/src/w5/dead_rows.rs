//! W5, dead rows: how long a relay looks for work while an old snapshot keeps vacuum from taking away
//! what it has sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
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
/// Between two looks of a relay beside another one.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// How long a relay may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Measures a relay's looks that find nothing, between the batches of a hundred thousand rows; and
/// then those of another relay that looks all the time.
///
/// # Errors
/// When a row is not sent.
pub(crate) async fn run(bench: &Bench) -> Result<Vec<Line>> {
    Ok(vec![claim(bench).await?, beside(bench).await?])
}

/// Looks between batches.
async fn claim(bench: &Bench) -> Result<Line> {
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
    meter.finish(told(Line::new("W5", "dead-rows"), sent, looks))
}

/// Looks of one relay while another one sends, and replaces the file whenever it is time: whoever
/// comes just then waits for its lock.
async fn beside(bench: &Bench) -> Result<Line> {
    let servers = bench.servers()?;
    let fresh = servers.fresh().await?;
    let db = servers.open(&fresh, 8)?;
    servers.settle().await?;
    let snapshot = old_snapshot(&db).await?;
    let tasks = Tasks::new();
    let broker = Arc::new(Streams(RedisLog::new(connect(servers).await?)));
    let settings = Settings {
        optimistic: false,
        ..Settings::default()
    };
    let outbox = Outbox::new(db.clone(), broker.clone(), settings, &tasks);
    let sent = Arc::new(AtomicUsize::new(0));
    let relay = |name| {
        let (settings, sent) = (RelaySettings::default(), sent.clone());
        Relay::new(db.clone(), broker.clone(), name, settings, Arc::default()).telling(move |ids| {
            sent.fetch_add(ids.len(), Ordering::Relaxed);
        })
    };
    let mut looking = relay("looks");
    looking.step().await?;
    tasks.spawn("relay", relay("sends").run(tasks.shutdown()));
    let meter = Meter::start(Some(servers), &[])?;
    let writing = async {
        for first in (0..ROWS).step_by(AT_ONCE) {
            let event = |number| Event::new(STREAM, super::payload(0)).aggregate("order", number);
            let (insert, _left) = outbox.stage((first..first + AT_ONCE).map(event).collect())?;
            db.run(vec![insert]).await?;
            while sent.load(Ordering::Relaxed) < first + AT_ONCE {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        anyhow::Ok(())
    };
    let mut writing = std::pin::pin!(writing);
    let mut looks = Vec::new();
    loop {
        let look = async {
            tokio::time::sleep(LOOK_EVERY).await;
            let watch = Stopwatch::start();
            let found = looking.step().await?;
            anyhow::Ok((found, watch.elapsed().as_secs_f64() * 1e3))
        };
        tokio::select! {
            done = &mut writing => break done?,
            look = look => match look? {
                (Step::Idle, took) => looks.push(took),
                // It has a share of the partitions, and sends what is in them.
                (Step::Did(_), _) => {}
                (Step::Down, _) => bail!("the broker is away"),
            },
        }
    }
    tasks.stop();
    tasks.join(STOP_MAX).await;
    snapshot.rollback().await?;
    meter.finish(told(Line::new("W5", "dead-rows-beside"), ROWS, looks))
}

fn told(line: Line, events: usize, mut looks: Vec<f64>) -> Line {
    looks.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let index = (looks.len() * percent / 100).min(looks.len().saturating_sub(1));
        rounded(looks.get(index).copied().unwrap_or(f64::NAN), 3)
    };
    line.with("part", "claim")
        .with("events", events)
        .with("looks", looks.len())
        .with("claim_p50_ms", at(50))
        .with("claim_p99_ms", at(99))
        .with("claim_max_ms", at(100))
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
