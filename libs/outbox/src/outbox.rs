//! The sending half: events join the caller's transaction and leave right after its commit.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Column, Committed, Db, Statement, Tx, TxId};
use ratebox_kit::{Stopwatch, Tasks};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::broker::Routes;
use crate::bundle::{self, Bundle, NewRow};
use crate::relay::Bell;
use crate::sweeper::{Sweeper, Trail};
use crate::{Broker, Event, PublishError, Result, Transaction, broker, sql, stats};

/// How events are sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Only the sender touches a row for this long after it was added.
    pub pre_lease: Duration,
    /// Publish right after the commit; off leaves everything to the relay.
    pub optimistic: bool,
    /// The sender gives up after this long; the relay takes over.
    pub optimistic_timeout: Duration,
    /// Sent events move to the archive, where relays forget them in time.
    pub archive: bool,
    /// Topics whose events leave nothing in the archive when they were sent, because what they carry is
    /// kept elsewhere; the same for all senders and relays of a table.
    pub unarchived: Arc<[String]>,
    /// Asks for the `traceparent` of what runs just now (from the program's tracing library); events
    /// that carry none get it.
    pub traceparent: Option<fn() -> Option<String>>,
    /// PostgreSQL schema of the tables, for transactions of the caller's own driver.
    pub schema: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pre_lease: Duration::from_secs(5),
            optimistic: true,
            optimistic_timeout: Duration::from_millis(500),
            archive: true,
            unarchived: Arc::default(),
            traceparent: None,
            schema: "ratebox".to_owned(),
        }
    }
}

/// Adds events to transactions and publishes them after the commit. Cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    db: Db,
    broker: Arc<dyn Broker>,
    settings: Settings,
    routes: Routes,
    sweeper: Sweeper,
    wake: Arc<Notify>,
    bell: Bell,
}

/// Events whose rows are in a transaction that has yet to commit.
#[derive(Debug)]
#[must_use = "publish it after the commit, or the relay does after the pre-lease"]
pub struct Staged {
    rows: Vec<Bundle>,
    since: Stopwatch,
    /// Where it is known: another one's commit says nothing about these rows.
    tx: Option<TxId>,
}

impl Staged {
    /// Both, when they are in the same transaction.
    pub fn and(mut self, mut other: Self) -> Self {
        if self.tx.is_some() && other.tx.is_some() && self.tx != other.tx {
            // Neither commit is that of all of them: the relay sends what is there.
            for row in self.rows.iter_mut().chain(&mut other.rows) {
                row.at_once = false;
            }
        }
        self.rows.extend(other.rows);
        self.tx = self.tx.or(other.tx);
        self
    }
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
        let sweeper = Sweeper::start(db.clone(), tasks);
        Self {
            routes: Routes::of(&*broker),
            broker,
            settings,
            sweeper,
            wake: Arc::default(),
            bell: Bell::start(db.clone(), tasks),
            db,
        }
    }

    /// Told whenever there is work for a relay in this process.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.wake)
    }

    /// Adds one event to the caller's transaction. An event with a key may be sent right after
    /// the commit, too, unless an older one of its key is still here.
    ///
    /// # Errors
    /// When the database refuses; the transaction can then only be dropped.
    pub async fn add<T: Transaction>(&self, tx: &mut T, event: Event) -> Result<Staged> {
        let event = self.traced(event);
        let since = Stopwatch::start();
        let base = self.routes.base(&event.topic);
        let row = NewRow::new(&event, &self.settings.schema, base, self.own_ms());
        let own_ms = tx.insert(&row).await?;
        let mut bundle = Bundle::new(event).based(base);
        bundle.at_once = own_ms > 0;
        let (rows, tx) = (vec![bundle], tx.id());
        Ok(Staged { rows, since, tx })
    }

    /// Commits, wakes the relay or publishes at once. A plain commit in its place is right, too:
    /// the events leave a little later. `staged` must be of this transaction; with a driver that is
    /// not ours, events whose rows cannot be seen after the commit are left to the relay.
    ///
    /// # Errors
    /// When the commit failed; what cannot be published is the relay's and no error.
    pub async fn commit<T: Transaction>(&self, tx: T, mut staged: Staged) -> Result<Published> {
        let proof = tx.commit().await?;
        if T::IS_FOREIGN {
            self.leave_unseen(&mut staged).await;
        }
        Ok(self.publish(staged, &proof).await)
    }

    /// Leaves to the relay what others cannot see: a foreign driver's commit may have been one of a
    /// savepoint, or of another transaction than that of the events.
    async fn leave_unseen(&self, staged: &mut Staged) {
        if !self.settings.optimistic || !staged.rows.iter().any(|row| row.at_once) {
            return;
        }
        let look = self.seen(&staged.rows);
        let seen = match tokio::time::timeout(self.settings.optimistic_timeout, look).await {
            Ok(Ok(seen)) => seen,
            // What cannot be known is left, too.
            Ok(Err(_)) | Err(_) => HashSet::new(),
        };
        for row in &mut staged.rows {
            row.at_once &= seen.contains(&row.key().1);
        }
    }

    /// The rows of these that are committed.
    async fn seen(&self, rows: &[Bundle]) -> Result<HashSet<Uuid>> {
        let (partitions, ids) = rows.iter().map(Bundle::key).unzip();
        let columns = vec![Column::Int(partitions), Column::Uuid(ids)];
        let present = sql::PRESENT.rows(columns, Vec::new())?.planned_anew();
        let found = self.db.query(present).await?;
        let ids = found.iter().map(|row| row.get(0));
        Ok(ids.collect::<ratebox_db::Result<_>>()?)
    }

    /// Waits until no other transaction holds this key and holds it until the end of this one:
    /// for senders that have no row of their own to lock. Make the event after it. On SQLite the
    /// one writer is lock enough.
    ///
    /// # Errors
    /// When the database refuses or is away.
    pub async fn lock(&self, tx: &mut Tx, key: &str) -> Result<()> {
        tx.query(sql::LOCK.with(vec![key.into()])).await?;
        Ok(())
    }

    /// The statement that adds events, to be run in the caller's transaction together with
    /// others in one round trip.
    ///
    /// # Errors
    /// Never for well-formed events; the columns are made here.
    pub fn stage(&self, events: Vec<Event>) -> Result<(Statement, Staged)> {
        let events = match self.settings.traceparent {
            None => events,
            Some(_) => events.into_iter().map(|it| self.traced(it)).collect(),
        };
        let mut rows = bundle::pack(events);
        if !self.routes.is_empty() {
            for row in &mut rows {
                let topic = row.events.first().map_or("", |first| first.topic.as_str());
                row.base = self.routes.base(topic);
            }
        }
        let own_ms = self.own_ms();
        let statement = bundle::insert(&rows, |row| if row.at_once { own_ms } else { 0 })?;
        let since = Stopwatch::start();
        let tx = None;
        Ok((statement, Staged { rows, since, tx }))
    }

    /// With the trace of what runs just now, unless it has one.
    fn traced(&self, event: Event) -> Event {
        match self.settings.traceparent {
            Some(now) if !event.is_traced() => match now() {
                Some(traceparent) => event.traced(traceparent),
                None => event,
            },
            _ => event,
        }
    }

    fn trail(&self, row: &Bundle) -> Trail {
        let topic = row.events.first().map_or("", |first| first.topic.as_str());
        Trail::of(self.settings.archive, &self.settings.unarchived, topic)
    }

    fn own_ms(&self) -> i64 {
        if self.settings.optimistic {
            i64::try_from(self.settings.pre_lease.as_millis()).unwrap_or(i64::MAX)
        } else {
            0
        }
    }

    /// Publishes what was staged in the transaction whose commit the proof comes from. What may
    /// not overtake an older event of its key, and what is delayed, is left to the relay, which is
    /// woken; so is everything when the proof is known to be another transaction's.
    ///
    /// Never fails: what cannot be sent now is sent by the relay.
    pub async fn publish(&self, staged: Staged, proof: &Committed) -> Published {
        let is_of_another = staged.tx.is_some_and(|tx| proof.is_of_another(tx));
        // Past the pre-lease the relay may be at it: what is sent now might be sent twice.
        let is_ours = self.settings.optimistic
            && !is_of_another
            && staged.since.elapsed() + self.settings.optimistic_timeout <= self.settings.pre_lease;
        let may_send = |row: &Bundle| is_ours && row.at_once;
        let (free, left): (Vec<Bundle>, Vec<Bundle>) = staged.rows.into_iter().partition(may_send);
        if !left.is_empty() {
            self.wake.notify_one();
            self.bell.ring();
        }
        let total = count(&left) + count(&free);
        let sent = if free.is_empty() {
            0
        } else {
            self.send(free).await
        };
        Published {
            sent,
            left: total - sent,
        }
    }

    async fn send(&self, rows: Vec<Bundle>) -> usize {
        let watch = Stopwatch::start();
        let attempted = count(&rows);
        // The next event of a key waits for the row of this one to go.
        let is_urgent = rows
            .iter()
            .flat_map(|row| &row.events)
            .any(|it| it.key.is_some());
        let events: Vec<&Event> = rows.iter().flat_map(|row| &row.events).collect();
        let call = broker::publish(&*self.broker, &events);
        let Ok(answers) = tokio::time::timeout(self.settings.optimistic_timeout, call).await else {
            stats::optimistic(attempted, 0, watch.elapsed().as_secs_f64());
            stats::optimistic_failed(attempted, "timeout");
            return 0;
        };
        let (mut done, mut sent) = (Vec::with_capacity(rows.len()), stats::ByType::default());
        let mut answers = answers.into_iter();
        for row in &rows {
            let before = sent.total();
            for (event, answer) in row.events.iter().zip(answers.by_ref()) {
                match answer {
                    Ok(()) => sent.add(event),
                    Err(PublishError::Down(_)) => stats::optimistic_failed(1, "down"),
                    Err(PublishError::Rejected(_)) => stats::optimistic_failed(1, "rejected"),
                }
            }
            // A row of which anything is left stays whole: the relay sends all of it again.
            if sent.total() - before == row.events.len() {
                done.push((row.key(), self.trail(row)));
            }
        }
        let count = sent.total();
        stats::optimistic(attempted, count, watch.elapsed().as_secs_f64());
        stats::published(sent, "optimistic");
        self.sweeper.sweep(done, is_urgent).await;
        count
    }
}

fn count(rows: &[Bundle]) -> usize {
    rows.iter().map(|row| row.events.len()).sum()
}
