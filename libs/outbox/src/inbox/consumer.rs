//! A consumer that handles messages, each in one transaction with its mark.

use std::time::Duration;

use ratebox_db::{Column, Committed, Db, Statement, Tx};
use ratebox_kit::{Stopwatch, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::effect::Effect;
use super::handled::{Handled, Outcome};
use super::received::Received;
use super::sql;
use crate::text::storable;
use crate::{Error, Failure, Inbox, Outbox, Result, stats};

/// Attempts before a message is parked.
const ATTEMPTS_MAX: u32 = 10;
/// How long a message is known.
const WINDOW: Duration = Duration::from_secs(7 * 86_400);

/// Why a delivery that comes too late counts as committed.
const SETTLED: &str = "the transaction that settled the message has committed";

/// Whether a message is new.
enum Taken {
    New,
    /// It was marked, with this result.
    Before(Option<String>),
    /// It is parked, or was marked just now.
    Unclear,
}

/// Makes consumers over one database. Cheap to clone.
#[derive(Clone)]
pub struct Inboxes {
    db: Db,
    outbox: Option<Outbox>,
}

impl Inboxes {
    /// Consumers whose effects are in `db`.
    pub fn new(db: Db) -> Self {
        Self { db, outbox: None }
    }

    /// Sends the events of handlers through this outbox, whose rows must be in the same database.
    #[must_use]
    pub fn sending(mut self, outbox: Outbox) -> Self {
        self.outbox = Some(outbox);
        self
    }

    /// A consumer. Two consumers with different names each handle every message once; processes
    /// that use the same name share the work.
    pub fn consumer(&self, name: impl Into<String>) -> Consumer {
        Consumer {
            inboxes: self.clone(),
            name: name.into(),
            window: WINDOW,
            attempts_max: ATTEMPTS_MAX,
            keeps_results: false,
        }
    }
}

/// Handles messages of one name, each once as long as it is known.
#[derive(Clone)]
pub struct Consumer {
    pub(super) inboxes: Inboxes,
    pub(super) name: String,
    window: Duration,
    pub(super) attempts_max: u32,
    keeps_results: bool,
}

impl Consumer {
    /// How long a message is known (7 days). Must exceed every way in which it can come again.
    #[must_use]
    pub fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Attempts before a message is parked (10).
    #[must_use]
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = attempts.max(1);
        self
    }

    /// Keeps what handlers return, as JSON, and gives it to duplicates. Never for personal data.
    #[must_use]
    pub fn keep_results(mut self) -> Self {
        self.keeps_results = true;
        self
    }

    /// Handles one message: mark, effect and outgoing events in one transaction. A delivery of the
    /// same message at the same time waits for this one. A message that is no JSON of an `E` is
    /// parked.
    ///
    /// On SQLite the transaction holds the only writer: the effect may wait for nothing but its
    /// own statements.
    ///
    /// # Errors
    /// [`Error::Handler`] when the handler failed, or what it did cannot be kept, and the message
    /// should come again; [`Error::Db`] when the database is away. Do not acknowledge.
    pub async fn handle<E, T, F>(&self, received: &Received, effect: F) -> Result<Handled<T>>
    where
        E: DeserializeOwned,
        T: Serialize + DeserializeOwned,
        F: AsyncFnOnce(&mut Effect, E) -> Result<T, Failure>,
    {
        let id = received.event_id();
        if received.deliveries > 1
            && let Some(parked) = self.begin_attempt(received, id).await?
        {
            return Ok(parked);
        }
        let mut tx = self.db().begin().await?;
        match self.take_one(&mut tx, received, id).await? {
            Taken::New => {}
            Taken::Before(result) => {
                tx.rollback().await?;
                return self.duplicate(received, result);
            }
            Taken::Unclear => {
                tx.rollback().await?;
                return self.known(received, id).await;
            }
        }
        let watch = Stopwatch::start();
        let Ok(event) = serde_json::from_slice(&received.message.body) else {
            tx.rollback().await?;
            return self
                .park(received, id, "the body is no JSON of the expected shape")
                .await;
        };
        let mut work = Effect::new(tx).following(received);
        let kept = match effect(&mut work, event).await {
            Ok(value) => self.keep(work, id, &watch, value).await,
            Err(failure) => {
                // The connection is worth more than the wait.
                let _ = work.tx.rollback().await;
                Err(failure)
            }
        };
        match kept {
            Ok((value, proof)) => {
                self.count(received, 1, 0);
                stats::handled(
                    &self.name,
                    &received.event_type,
                    watch.elapsed().as_secs_f64(),
                );
                Ok(Handled {
                    outcome: Outcome::Processed(value),
                    proof,
                })
            }
            Err(failure) => self.failed(received, id, failure).await,
        }
    }

    /// Commits an effect with what its handler returned. What cannot be kept counts as a failure
    /// of the handler, unless the database is away.
    async fn keep<T: Serialize>(
        &self,
        work: Effect,
        id: Uuid,
        watch: &Stopwatch,
        value: T,
    ) -> Result<(T, Committed), Failure> {
        let result = self.keeps_results.then(|| serde_json::to_string(&value));
        let result = match result.transpose() {
            Ok(result) => result,
            Err(error) => {
                let _ = work.tx.rollback().await;
                return Err(Failure::of(Error::Result(error)));
            }
        };
        let settle = sql::SETTLE.with(vec![
            self.name.as_str().into(),
            id.into(),
            u64::try_from(watch.elapsed().as_millis())
                .unwrap_or(u64::MAX)
                .into(),
            result.into(),
        ]);
        let clear = self.clear(vec![id]).map_err(Failure::of)?;
        let committed = self.commit(work, vec![settle, clear]).await;
        Ok((value, committed.map_err(Failure::of)?))
    }

    /// Forgets what is outside the window; call it now and then. On PostgreSQL whole weeks are
    /// dropped, and the next ones are made.
    ///
    /// # Errors
    /// When the database refuses or is away.
    pub async fn forget(&self, now: Timestamp) -> Result<u64> {
        let before = now.checked_sub(self.window).unwrap_or(Timestamp::MIN);
        let values = vec![self.name.as_str().into(), before.into()];
        self.db().execute(sql::FORGET_ATTEMPTS.with(values)).await?;
        let inbox = Inbox::new(self.name.as_str(), "");
        inbox.forget(self.db(), now, self.window).await
    }

    pub(super) fn db(&self) -> &Db {
        &self.inboxes.db
    }

    async fn take_one(&self, tx: &mut Tx, received: &Received, id: Uuid) -> Result<Taken> {
        let values = vec![
            self.name.as_str().into(),
            id.into(),
            storable(&received.topic).into_owned().into(),
            storable(&received.event_type).into_owned().into(),
        ];
        let rows = tx.query(sql::TAKE_ONE.with(values)).await?;
        Ok(match rows.first() {
            None => Taken::Unclear,
            Some(row) if row.get(0)? => Taken::New,
            Some(row) => Taken::Before(row.get(1)?),
        })
    }

    /// Marks messages; answers those that are new.
    pub(super) async fn take(&self, tx: &mut Tx, received: &[Received]) -> Result<Vec<Uuid>> {
        let ids = received.iter().map(Received::event_id).collect();
        let clean = |text: &str| storable(text).into_owned();
        let topics = received.iter().map(|it| clean(&it.topic)).collect();
        let types = received.iter().map(|it| Some(clean(&it.event_type)));
        let columns = vec![
            Column::Uuid(ids),
            Column::Text(topics),
            Column::MaybeText(types.collect()),
        ];
        let rows = tx
            .query(sql::TAKE.rows(columns, vec![self.name.as_str().into()])?)
            .await?;
        let ids = rows.iter().map(|row| row.get(0));
        Ok(ids.collect::<ratebox_db::Result<_>>()?)
    }

    /// Commits an effect with what else belongs to it, and publishes its events.
    pub(super) async fn commit(
        &self,
        work: Effect,
        mut statements: Vec<Statement>,
    ) -> Result<Committed> {
        let Effect { tx, events, .. } = work;
        if events.is_empty() {
            return Ok(tx.commit_after(statements).await?.1);
        }
        let Some(outbox) = self.inboxes.outbox.as_ref() else {
            let _ = tx.rollback().await;
            return Err(Error::NoOutbox);
        };
        let (insert, staged) = outbox.stage(events)?;
        statements.push(insert);
        let (_, proof) = tx.commit_after(statements).await?;
        outbox.publish(staged, &proof).await;
        Ok(proof)
    }

    pub(super) fn clear(&self, ids: Vec<Uuid>) -> Result<Statement> {
        Ok(sql::CLEAR.rows(vec![Column::Uuid(ids)], vec![self.name.as_str().into()])?)
    }

    /// A delivery that was not new: its effect stands already, or it is parked.
    async fn known<T: DeserializeOwned>(
        &self,
        received: &Received,
        id: Uuid,
    ) -> Result<Handled<T>> {
        let values = vec![self.name.as_str().into(), id.into()];
        let rows = self.db().query(sql::RESULT.with(values)).await?;
        if let Some(row) = rows.first() {
            return self.duplicate(received, row.get(0)?);
        }
        Ok(Handled {
            outcome: Outcome::Parked,
            proof: Committed::outside(SETTLED),
        })
    }

    /// Its effect stands already; `result` is what it left.
    fn duplicate<T: DeserializeOwned>(
        &self,
        received: &Received,
        result: Option<String>,
    ) -> Result<Handled<T>> {
        self.count(received, 0, 1);
        let result = result.map(|json| serde_json::from_str(&json));
        Ok(Handled {
            outcome: Outcome::Duplicate(result.transpose().map_err(Error::Result)?),
            proof: Committed::outside(SETTLED),
        })
    }

    pub(super) fn count(&self, received: &Received, fresh: usize, duplicates: usize) {
        stats::inbox(&self.name, &received.event_type, fresh, duplicates);
    }
}
