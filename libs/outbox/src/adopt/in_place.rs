//! Serving the predecessor's `saga_outbox` where it is, while its programs go on writing to it.
//!
//! One relay at a time, by a lease, keeps the order of an aggregate; rows are held by locks of one
//! short transaction, which workers of the predecessor skip and which end with the process. So
//! nothing is claimed by a dead relay, and a relay that stood still can change nothing. The state
//! words stay theirs: `sent` rows stay for a time and move to `saga_outbox_archive`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ratebox_db::{Column, Db, Dialect, Leases, Row, Statement, Tx};
use ratebox_kit::{Causes, Shutdown, Stopwatch};
use uuid::Uuid;

use super::{event, postgres};
use crate::relay::{Due, LOOK_AGAIN, NO_ANSWER, Outage, waves};
use crate::stats::{self, ByType};
use crate::{Broker, Event, PublishError, RelaySettings, Result, Step, broker, text};

/// What only one relay at a time may serve.
const LEASE: &str = "saga_outbox";
/// Time between looks for what dead workers left, and for what is old.
const CHORES: Duration = Duration::from_secs(60);
/// Sent events stay in the hot table for so long, as they did.
const ARCHIVE: Duration = Duration::from_secs(7 * 86_400);
/// A batch is committed after so long, however much of it is left: its rows are locked meanwhile, and a
/// death of the relay sends again what was sent of it.
const BATCH: Duration = Duration::from_secs(5);
/// Longest wait for a broker that is away.
const AWAY_MAX: Duration = Duration::from_secs(2);

/// A relay for the predecessor's table.
pub struct SagaOutbox {
    db: Db,
    broker: Arc<dyn Broker>,
    settings: RelaySettings,
    leases: Leases,
    route: String,
    archive: Duration,
    renewed: Option<Stopwatch>,
    chores: Option<Stopwatch>,
    outage: Outage,
}

/// What became of the events of one transaction.
#[derive(Default)]
struct Settled {
    sent: Vec<Uuid>,
    statements: Vec<Statement>,
    failed_keys: HashSet<String>,
    types: ByType,
    /// Why the broker takes nothing for now.
    down: Option<String>,
}

impl SagaOutbox {
    /// A relay under a name that no other process has. Of the settings, `batch_max`, `poll`,
    /// `lease`, `attempts_max`, `backoff` and `publish_timeout` count.
    pub fn new(db: Db, broker: Arc<dyn Broker>, holder: &str, settings: RelaySettings) -> Self {
        Self {
            leases: Leases::new(db.clone(), format!("{holder}/saga_outbox"), settings.lease),
            db,
            broker,
            settings,
            route: String::new(),
            archive: ARCHIVE,
            renewed: None,
            chores: None,
            outage: Outage::default(),
        }
    }

    /// Topics begin with this, such as `kafka:` for a broker of a [`Router`](crate::Router); else
    /// they are the events' types alone.
    #[must_use]
    pub fn routed(mut self, route: impl Into<String>) -> Self {
        self.route = route.into();
        self
    }

    /// Sent events move to the archive after this (7 days), if that table is there.
    #[must_use]
    pub fn archive_after(mut self, archive: Duration) -> Self {
        self.archive = archive;
        self
    }

    /// Works until it is asked to stop.
    pub async fn run(mut self, shutdown: Shutdown) {
        let (mut quiet, mut away) = (LOOK_AGAIN, LOOK_AGAIN);
        while !shutdown.is_stopping() {
            let pause = match self.step().await {
                Ok(Step::Did(_)) => {
                    (quiet, away) = (LOOK_AGAIN, LOOK_AGAIN);
                    continue;
                }
                Ok(Step::Idle) => {
                    quiet = (quiet * 2).min(self.settings.poll);
                    quiet
                }
                Ok(Step::Down) => {
                    away = (away * 2).min(AWAY_MAX);
                    away
                }
                Err(error) => {
                    tracing::warn!(error = %Causes(&error), "saga_outbox could not be served; it is tried again");
                    self.renewed = None;
                    Duration::from_millis(500)
                }
            };
            shutdown.sleep(pause).await;
        }
        let _ = self.leases.give_back().await;
    }

    /// One batch, if the table is this relay's and there.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn step(&mut self) -> Result<Step> {
        // On the heap: whoever waits for a step need not make room for all of it.
        Box::pin(self.pass()).await
    }

    async fn pass(&mut self) -> Result<Step> {
        if self.db.dialect() == Dialect::Sqlite || !self.is_ours().await? {
            return Ok(Step::Idle);
        }
        self.chores().await?;
        self.db.execute(postgres::RELEASE).await?;
        let mut tx = self.db.begin().await?;
        let due = self.due(&mut tx).await?;
        if due.is_empty() {
            tx.rollback().await?;
            return Ok(Step::Idle);
        }
        let mut settled = Settled::default();
        let watch = Stopwatch::start();
        for wave in waves(due) {
            // The rows that are left are free again after the commit, and come with the next step.
            if settled.down.is_some()
                || watch.elapsed() > BATCH
                || !self.keeps().await.unwrap_or(false)
            {
                break;
            }
            self.send(wave, &mut settled).await;
        }
        let (sent, is_down) = (settled.sent.len(), settled.down.is_some());
        match &settled.down {
            Some(why) => self.outage.lasts(why),
            None if sent > 0 => self.outage.ended(),
            None => {}
        }
        let mut statements = settled.statements;
        statements.push(postgres::SENT.rows(vec![Column::Uuid(settled.sent)], Vec::new())?);
        tx.commit_after(statements).await?;
        stats::published(settled.types, "saga_outbox");
        Ok(match (is_down, sent) {
            (true, 0) => Step::Down,
            (_, sent) => Step::Did(sent),
        })
    }

    /// Whether the lease lasts for another wave; it is renewed beside the transaction that holds the
    /// rows. Another relay would pass over them, and publish what follows them.
    async fn keeps(&mut self) -> Result<bool> {
        Ok(self.is_ours().await? && !self.left().is_zero())
    }

    /// How long the lease is certainly ours.
    fn left(&self) -> Duration {
        let renewed = self.renewed.as_ref().map(Stopwatch::elapsed);
        renewed.map_or(Duration::ZERO, |it| self.leases.length().saturating_sub(it))
    }

    async fn is_ours(&mut self) -> Result<bool> {
        let third = self.leases.length() / 3;
        if self.renewed.as_ref().is_some_and(|at| at.elapsed() < third) {
            return Ok(true);
        }
        self.renewed = None;
        let since = Stopwatch::start();
        let rows = self.db.query(postgres::OLD_TABLES).await?;
        let is_there = rows.first().map_or(Ok(false), |row| row.get(0))?;
        if is_there && !self.leases.take(vec![LEASE.to_owned()]).await?.is_empty() {
            self.renewed = Some(since);
        }
        Ok(self.renewed.is_some())
    }

    /// Revives what dead workers left and moves what is old.
    async fn chores(&mut self) -> Result<()> {
        if self.chores.as_ref().is_some_and(|at| at.elapsed() < CHORES) {
            return Ok(());
        }
        self.db.execute(postgres::REVIVE).await?;
        let rows = self.db.query(postgres::OLD_TABLES).await?;
        let has_archive = rows.first().map_or(Ok(false), |row| row.get(1))?;
        let age_ms = self.archive.as_secs_f64() * 1000.0;
        let archive = || postgres::ARCHIVE.with(vec![age_ms.into()]);
        let mut is_left = has_archive;
        while is_left {
            is_left = self.db.execute(archive()).await? > 0;
        }
        self.chores = Some(Stopwatch::start());
        Ok(())
    }

    /// Rows that are due, held by `tx`; one that cannot be read is tried again like one refused.
    async fn due(&self, tx: &mut Tx) -> Result<Vec<Due>> {
        let limit = self.settings.batch_max.into();
        let rows = tx.query(postgres::DUE.with(vec![limit])).await?;
        let mut due = Vec::with_capacity(rows.len());
        for row in &rows {
            let (id, attempts): (Uuid, i64) = (row.get(0)?, row.get(8)?);
            match self.event(row, id) {
                Ok(event) => due.push(Due {
                    key: (0, id),
                    attempts,
                    started: 0,
                    events: vec![event],
                }),
                Err(error) => {
                    let refused = self.refused(id, attempts, "", &error.to_string());
                    tx.execute(refused).await?;
                }
            }
        }
        Ok(due)
    }

    fn event(&self, row: &Row, id: Uuid) -> Result<Event> {
        let mut event = event(row)?;
        // The same at every publication, and what their consumers know it by.
        event.id = id;
        event.topic = format!("{}{}", self.route, event.topic);
        Ok(event)
    }

    /// Publishes one wave and notes what became of it.
    async fn send(&self, mut wave: Vec<Due>, settled: &mut Settled) {
        wave.retain(|due| {
            due.order()
                .is_none_or(|key| !settled.failed_keys.contains(key))
        });
        if wave.is_empty() {
            return;
        }
        let events: Vec<&Event> = wave.iter().flat_map(|due| &due.events).collect();
        let watch = Stopwatch::start();
        let call = broker::publish(&*self.broker, &events);
        // What is published after the lease's end may be another relay's.
        let limit = self.settings.publish_timeout.min(self.left());
        let answers = tokio::time::timeout(limit, call).await.unwrap_or_default();
        let types = ByType::of(wave.iter().flat_map(|due| &due.events));
        stats::publish_seconds(types, watch.elapsed().as_secs_f64());
        let mut answers = answers.into_iter();
        for due in wave {
            let Some(event) = due.events.first() else {
                continue;
            };
            match answers.next() {
                Some(Ok(())) => {
                    settled.types.add(event);
                    settled.sent.push(due.key.1);
                }
                Some(Err(PublishError::Rejected(why))) => {
                    settled.failed_keys.extend(due.order().cloned());
                    let name = event.type_name();
                    let refused = self.refused(due.key.1, due.attempts, name, &why);
                    settled.statements.push(refused);
                }
                Some(Err(PublishError::Down(why))) => settled.down = Some(why),
                None => settled.down = Some(NO_ANSWER.to_owned()),
            }
        }
    }

    fn refused(&self, id: Uuid, attempts: i64, event_type: &str, why: &str) -> Statement {
        stats::failed(event_type);
        let attempts = attempts + 1;
        if attempts >= self.settings.attempts_max {
            tracing::error!(event.id = %id, attempts, "an event used up its attempts and is dead");
            stats::dead(event_type);
            return postgres::BURY.with(vec![id.into(), text::reason(why).into()]);
        }
        stats::retried();
        let attempt = u32::try_from(attempts).unwrap_or(u32::MAX);
        let wait_ms = self.settings.backoff.jittered(attempt).as_secs_f64() * 1000.0;
        let said = text::reason(why).into();
        postgres::POSTPONE.with(vec![id.into(), wait_ms.into(), said])
    }
}
