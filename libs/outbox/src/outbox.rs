//! The sending half: events join the caller's transaction and leave right after its commit.

use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Committed, Db, Statement, Tx};
use ratebox_kit::{Stopwatch, Tasks};
use tokio::sync::Notify;

use crate::bundle::{self, Bundle};
use crate::sweeper::{RowKey, Sweeper};
use crate::{Broker, Event, Outgoing, PublishError, Result, stats};

/// How events are sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Only the sender touches a row for this long after it was added.
    pub pre_lease: Duration,
    /// Publish right after the commit; off leaves everything to the relay.
    pub optimistic: bool,
    /// The sender gives up after this long; the relay takes over.
    pub optimistic_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pre_lease: Duration::from_secs(5),
            optimistic: true,
            optimistic_timeout: Duration::from_millis(500),
        }
    }
}

/// Adds events to transactions and publishes them after the commit. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    broker: Arc<dyn Broker>,
    settings: Settings,
    sweeper: Sweeper,
    wake: Arc<Notify>,
}

/// Events whose rows are in a transaction that has yet to commit.
#[derive(Debug)]
#[must_use = "publish it after the commit, or the relay does after the pre-lease"]
pub struct Staged {
    rows: Vec<Bundle>,
}

/// What became of staged events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Confirmed by the broker.
    pub sent: usize,
    /// Left to the relay.
    pub left: usize,
}

impl Outbox {
    /// An outbox whose rows are in `db` and whose events leave through `broker`.
    pub fn new(db: Db, broker: Arc<dyn Broker>, settings: Settings, tasks: &Tasks) -> Self {
        let sweeper = Sweeper::start(db, tasks);
        Self {
            broker,
            settings,
            sweeper,
            wake: Arc::default(),
        }
    }

    /// Told whenever there is work for a relay in this process.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Adds one event to the caller's transaction.
    ///
    /// # Errors
    /// When the database refuses; the transaction can then only be dropped.
    pub async fn add(&self, tx: &mut Tx, event: Event) -> Result<Staged> {
        let (statement, staged) = self.stage(vec![event])?;
        tx.execute(statement).await?;
        Ok(staged)
    }

    /// The statement that adds events, to be run in the caller's transaction together with
    /// others in one round trip.
    ///
    /// # Errors
    /// Never for well-formed events; the columns are made here.
    pub fn stage(&self, events: Vec<Event>) -> Result<(Statement, Staged)> {
        let rows = bundle::pack(events);
        let statement = bundle::insert(&rows, |event| self.pre_lease_ms(event))?;
        Ok((statement, Staged { rows }))
    }

    /// An event that its sender will not send is the relay's from the start.
    fn pre_lease_ms(&self, event: &Event) -> i64 {
        if event.key.is_none() && self.settings.optimistic {
            i64::try_from(self.settings.pre_lease.as_millis()).unwrap_or(i64::MAX)
        } else {
            0
        }
    }

    /// Publishes what was staged in the transaction whose commit the proof comes from. Events
    /// that ask for an order are left to the relay, which is woken.
    ///
    /// Never fails: what cannot be sent now is sent by the relay.
    pub async fn publish(&self, staged: Staged, _proof: &Committed) -> Published {
        let (ordered, free): (Vec<Bundle>, Vec<Bundle>) = staged
            .rows
            .into_iter()
            .partition(|row| row.events.iter().any(|event| event.key.is_some()));
        if !ordered.is_empty() || !self.settings.optimistic {
            self.wake.notify_one();
        }
        let total = count(&ordered) + count(&free);
        let sent = if self.settings.optimistic && !free.is_empty() {
            self.send(free).await
        } else {
            0
        };
        Published {
            sent,
            left: total - sent,
        }
    }

    async fn send(&self, rows: Vec<Bundle>) -> usize {
        let watch = Stopwatch::start();
        let attempted = count(&rows);
        let sizes: Vec<(RowKey, usize)> = rows
            .iter()
            .map(|row| (row.key(), row.events.len()))
            .collect();
        let outgoing = rows.into_iter().flat_map(|row| row.events).map(outgoing);
        let call = self.broker.publish(outgoing.collect());
        let Ok(answers) = tokio::time::timeout(self.settings.optimistic_timeout, call).await else {
            stats::optimistic(attempted, 0, watch.elapsed().as_secs_f64());
            stats::optimistic_failed(attempted, "timeout");
            return 0;
        };
        let (mut done, mut sent) = (Vec::with_capacity(sizes.len()), 0);
        let mut answers = answers.into_iter();
        for (key, size) in sizes {
            let row: Vec<_> = answers.by_ref().take(size).collect();
            let confirmed = row.iter().filter(|answer| answer.is_ok()).count();
            sent += confirmed;
            // A row of which anything is left stays whole: the relay sends all of it again.
            if confirmed == size {
                done.push(key);
            }
            for answer in row {
                match answer {
                    Ok(()) => {}
                    Err(PublishError::Down(_)) => stats::optimistic_failed(1, "down"),
                    Err(PublishError::Rejected(_)) => stats::optimistic_failed(1, "rejected"),
                }
            }
        }
        stats::optimistic(attempted, sent, watch.elapsed().as_secs_f64());
        stats::published(sent, "optimistic");
        self.sweeper.sweep(done).await;
        sent
    }
}

fn count(rows: &[Bundle]) -> usize {
    rows.iter().map(|row| row.events.len()).sum()
}

fn outgoing(event: Event) -> Outgoing {
    let message = event.message();
    Outgoing {
        topic: event.topic,
        message,
    }
}
