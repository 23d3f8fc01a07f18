//! The relay: sends what its sender could not, in order within a key.
//!
//! Sixteen virtual partitions are leased to relays; a partition has one relay at a time. Rows are
//! read by existence in id order, never by a remembered id: ids are drawn before commits, so a
//! reader that remembers the last id loses what commits late.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ratebox_db::{Column, Db, Leases, Row};
use ratebox_kit::{Backoff, Causes, Shutdown, Stopwatch};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::event::PARTITIONS;
use crate::sweeper::{self, RowKey};
use crate::{Broker, Error, Event, Outgoing, PublishError, Result, sql, stats};

/// How a relay works.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// Events of one read.
    pub batch_max: i64,
    /// How often it looks without being woken.
    pub poll: Duration,
    /// How long a partition is leased; renewed at a third of it.
    pub lease: Duration,
    /// Tries before an event is dead.
    pub attempts_max: i64,
    /// Waits between tries of one event, and of everything while the broker is down.
    pub backoff: Backoff,
}

impl Default for RelaySettings {
    fn default() -> Self {
        Self {
            batch_max: 500,
            poll: Duration::from_secs(1),
            lease: Duration::from_secs(15),
            attempts_max: 10,
            backoff: Backoff {
                first: Duration::from_secs(2),
                max: Duration::from_secs(3600),
            },
        }
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sent this many events.
    Did(usize),
    /// Nothing to send, or another relay has the partitions.
    Idle,
    /// The broker is away; nothing was charged.
    Down,
}

/// Sends waiting events.
pub struct Relay {
    db: Db,
    broker: Arc<dyn Broker>,
    settings: RelaySettings,
    leases: Leases,
    wake: Arc<Notify>,
    held: Vec<i64>,
    renewed: Option<Stopwatch>,
}

/// A stored event that may be sent.
struct Due {
    key: RowKey,
    attempts: i64,
    event: Event,
}

impl Relay {
    /// A relay under a name that no other process has. `wake` is [`crate::Outbox::wake`] of the
    /// same process, if there is one.
    pub fn new(
        db: Db,
        broker: Arc<dyn Broker>,
        holder: &str,
        settings: RelaySettings,
        wake: Arc<Notify>,
    ) -> Self {
        let leases = Leases::new(db.clone(), holder, settings.lease);
        Self {
            db,
            broker,
            settings,
            leases,
            wake,
            held: Vec::new(),
            renewed: None,
        }
    }

    /// How many relays hold partitions now.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn alive(db: &Db) -> Result<u64> {
        Ok(Leases::holders(db, "outbox/").await?)
    }

    /// Works until it is asked to stop, then gives its partitions back.
    pub async fn run(mut self, shutdown: Shutdown) {
        let mut failures = 0;
        while !shutdown.is_stopping() {
            let pause = match self.step().await {
                Ok(Step::Did(_)) => Duration::ZERO,
                Ok(Step::Idle) => self.settings.poll,
                Ok(Step::Down) => Duration::from_millis(200),
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "the relay could not work; it tries again");
                    self.renewed = None;
                    Duration::from_millis(500)
                }
            };
            failures = if pause == Duration::from_millis(200) {
                failures + 1
            } else {
                0
            };
            let pause = pause * failures.clamp(1, 10);
            if !pause.is_zero() {
                let wake = Arc::clone(&self.wake);
                let _ = shutdown
                    .unless(tokio::time::timeout(pause, wake.notified()))
                    .await;
            }
        }
        let _ = self.leases.give_back().await;
    }

    /// One pass over the partitions that are ours.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn step(&mut self) -> Result<Step> {
        self.renew().await?;
        let due = self.due().await?;
        if due.is_empty() {
            return Ok(Step::Idle);
        }
        let mut sent = 0;
        let mut failed_keys = HashSet::new();
        for wave in waves(due) {
            let wave: Vec<Due> = wave
                .into_iter()
                .filter(|due| {
                    due.event
                        .key
                        .as_ref()
                        .is_none_or(|key| !failed_keys.contains(key))
                })
                .collect();
            if wave.is_empty() {
                continue;
            }
            match self.send(wave, &mut failed_keys).await? {
                Some(count) => sent += count,
                None => return Ok(Step::Down),
            }
        }
        Ok(Step::Did(sent))
    }

    /// Events that wait; also keeps the gauge.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn pending(db: &Db) -> Result<u64> {
        let rows = db.query(sql::COUNT).await?;
        let pending = rows.first().map_or(Ok(0), |row| row.get(0))?;
        stats::pending(pending);
        Ok(pending)
    }

    /// Whether an event was due `by` ago and is still here: the broker is away, or no relay runs.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn is_behind(db: &Db, by: Duration) -> Result<bool> {
        let values = vec![(by.as_secs_f64() * 1000.0).into()];
        let rows = db.query(sql::BEHIND.with(values)).await?;
        Ok(rows.first().map_or(Ok(false), |row| row.get(0))?)
    }

    async fn renew(&mut self) -> Result<()> {
        if self
            .renewed
            .is_some_and(|at| at.elapsed() < self.settings.lease / 3)
        {
            return Ok(());
        }
        let taken = Stopwatch::start();
        let names = (0..PARTITIONS)
            .map(|partition| format!("outbox/{partition:02}"))
            .collect();
        let leases = self.leases.take(names).await?;
        self.held = leases
            .iter()
            .filter_map(|lease| lease.name.get(7..)?.parse().ok())
            .collect();
        self.renewed = Some(taken);
        Ok(())
    }

    async fn due(&self) -> Result<Vec<Due>> {
        let columns = vec![Column::Int(self.held.clone())];
        if self.held.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .db
            .query(sql::DUE.rows(columns, vec![self.settings.batch_max.into()])?)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Sends one wave; `None` when the broker is down.
    async fn send(&self, wave: Vec<Due>, failed: &mut HashSet<String>) -> Result<Option<usize>> {
        let outgoing = wave
            .iter()
            .map(|due| Outgoing {
                topic: due.event.topic.clone(),
                message: due.event.message(),
            })
            .collect();
        let answers = self.broker.publish(outgoing).await;
        let mut sent: Vec<RowKey> = Vec::new();
        let mut down = false;
        for (due, answer) in wave.iter().zip(answers) {
            match answer {
                Ok(()) => sent.push(due.key),
                Err(PublishError::Down(_)) => down = true,
                Err(PublishError::Rejected(why)) => {
                    failed.extend(due.event.key.clone());
                    self.postpone(due, &why).await?;
                }
            }
        }
        sweeper::delete(&self.db, &sent).await?;
        stats::published(sent.len(), "relay");
        Ok(if down { None } else { Some(sent.len()) })
    }

    async fn postpone(&self, due: &Due, why: &str) -> Result<()> {
        stats::failed(1);
        let (partition, id) = due.key;
        let attempts = due.attempts + 1;
        if attempts >= self.settings.attempts_max {
            let bury = sql::BURY.with(vec![partition.into(), id.into(), why.into()]);
            let columns = vec![Column::Int(vec![partition]), Column::Uuid(vec![id])];
            self.db
                .run(vec![bury, sql::DELETE.rows(columns, Vec::new())?])
                .await?;
            tracing::error!(event.id = %id, attempts, "an event used up its attempts and is dead");
            stats::dead();
            return Ok(());
        }
        stats::retried();
        let wait = self
            .settings
            .backoff
            .jittered(u32::try_from(attempts).unwrap_or(u32::MAX));
        let wait_ms = wait.as_secs_f64() * 1000.0;
        let values = vec![partition.into(), id.into(), wait_ms.into(), why.into()];
        self.db.execute(sql::POSTPONE.with(values)).await?;
        Ok(())
    }
}

/// Splits events so that no wave holds two of one key: a refused event must hold back the later
/// ones of its key.
fn waves(due: Vec<Due>) -> Vec<Vec<Due>> {
    let mut waves: Vec<Vec<Due>> = Vec::new();
    let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    for due in due {
        let wave = match &due.event.key {
            None => 0,
            Some(key) => {
                let next = seen.entry(key.clone()).or_insert(0);
                *next += 1;
                *next - 1
            }
        };
        if waves.len() <= wave {
            waves.resize_with(wave + 1, Vec::new);
        }
        if let Some(wave) = waves.get_mut(wave) {
            wave.push(due);
        }
    }
    waves
}

fn read(row: &Row) -> Result<Due> {
    let id: Uuid = row.get(1)?;
    let headers: Option<String> = row.get(4)?;
    let headers = match headers {
        Some(text) => serde_json::from_str(&text).map_err(Error::Headers)?,
        None => Vec::new(),
    };
    let body: Bytes = row.get(5)?;
    let event = Event {
        id,
        topic: row.get(2)?,
        key: row.get(3)?,
        headers,
        body,
    };
    Ok(Due {
        key: (row.get(0)?, id),
        attempts: row.get(6)?,
        event,
    })
}
