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

use crate::bundle::{self, Bundle};
use crate::event::PARTITIONS;
use crate::sweeper::{self, RowKey};
use crate::{About, Broker, Event, Outgoing, PublishError, Result, sql, stats};

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

/// A stored row that may be sent: one event, or several that ask for no order.
struct Due {
    key: RowKey,
    attempts: i64,
    events: Vec<Event>,
}

impl Due {
    /// The key whose order it keeps.
    fn order(&self) -> Option<&String> {
        self.events.first().and_then(|event| event.key.as_ref())
    }
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
                .filter(|due| due.order().is_none_or(|key| !failed_keys.contains(key)))
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
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            let (key, attempts) = ((row.get(0)?, row.get(1)?), row.get(6)?);
            match read(row) {
                Ok(events) => due.push(Due {
                    key,
                    attempts,
                    events,
                }),
                // Another program wrote it; it must not stop the others.
                Err(error) => self.postpone(key, attempts, &error.to_string()).await?,
            }
        }
        Ok(due)
    }

    /// Sends one wave; `None` when the broker is down.
    async fn send(&self, wave: Vec<Due>, failed: &mut HashSet<String>) -> Result<Option<usize>> {
        let events = wave.iter().flat_map(|due| &due.events);
        let outgoing = events.map(Outgoing::of).collect();
        let answers = self.broker.publish(outgoing).await;
        let mut answers = answers.into_iter();
        let (mut sent, mut count, mut down) = (Vec::new(), 0, false);
        for mut due in wave {
            let (mut refused, alone) = (None, due.events.len() == 1);
            let order = due.order().cloned();
            // What was not confirmed stays; a missing answer confirms nothing.
            due.events.retain(|_| match answers.next() {
                Some(Ok(())) => {
                    count += 1;
                    false
                }
                Some(Err(PublishError::Rejected(why))) => {
                    refused = Some(why);
                    true
                }
                Some(Err(PublishError::Down(_))) | None => {
                    down = true;
                    true
                }
            });
            match refused {
                None if due.events.is_empty() => sent.push(due.key),
                None => {}
                Some(why) => {
                    failed.extend(order);
                    self.refused(due, alone, &why).await?;
                }
            }
        }
        sweeper::delete(&self.db, &sent).await?;
        stats::published(count, "relay");
        Ok(if down { None } else { Some(count) })
    }

    /// An event that was refused is tried again by itself: a row of several comes apart, and what
    /// was sent of it goes.
    async fn refused(&self, due: Due, alone: bool, why: &str) -> Result<()> {
        if alone {
            return self.postpone(due.key, due.attempts, why).await;
        }
        let rows: Vec<Bundle> = due.events.into_iter().map(Bundle::new).collect();
        let apart = vec![
            sweeper::statement(&[due.key])?,
            bundle::insert(&rows, |_| 0)?,
        ];
        self.db.run(apart).await?;
        Ok(())
    }

    async fn postpone(&self, key: RowKey, attempts: i64, why: &str) -> Result<()> {
        stats::failed(1);
        let (partition, id) = key;
        let attempts = attempts + 1;
        if attempts >= self.settings.attempts_max {
            let bury = sql::BURY.with(vec![partition.into(), id.into(), why.into()]);
            self.db.run(vec![bury, sweeper::statement(&[key])?]).await?;
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
        let wave = match due.order() {
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

fn read(row: &Row) -> Result<Vec<Event>> {
    let topic: String = row.get(2)?;
    let body: Bytes = row.get(5)?;
    if row.get::<i64>(7)? > 1 {
        return bundle::unpack(&topic, body);
    }
    let headers: Option<String> = row.get(4)?;
    let about = About {
        aggregate_type: row.get(8)?,
        event_type: row.get(9)?,
        routing_key: row.get(10)?,
        partition_key: row.get(11)?,
        delay: None,
    };
    Ok(vec![Event {
        id: row.get(1)?,
        topic,
        key: row.get(3)?,
        headers: bundle::headers_of(headers.unwrap_or_default().as_bytes())?,
        body,
        about: Some(about)
            .filter(|it| *it != About::default())
            .map(Box::new),
    }])
}
