//! What an operator sees and does: how much waits, what is dead, and trying it again.

use std::time::Duration;

use ratebox_db::{Column, Db, Row};
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::broker::{self, Routes};
use crate::bundle::{self, Bundle};
use crate::event::PARTITIONS;
use crate::{Event, Relay, Result, relay, sql};

/// What the outbox holds, by the known words: pending, claimed, dead_letter. What is sent is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Events that wait for a relay, those that wait for their next try and delayed ones included.
    pub pending: u64,
    /// Events that only their senders may send, for some seconds after their commit.
    pub claimed: u64,
    /// Rows that were refused before and wait for their next try.
    pub failing: u64,
    /// Events that used up their tries.
    pub dead_letter: u64,
    /// Age of the oldest row that waits.
    pub oldest: Option<Duration>,
    /// Relays that live.
    pub relays: u64,
}

/// What waits for one broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its name, where it has partitions of its own; else the first one.
    pub broker: Option<String>,
    /// Events that wait, those that their senders may still send included.
    pub events: u64,
    /// Rows that were refused before and wait for their next try.
    pub failing: u64,
    /// For how long the oldest row could have been sent; `None` when none can be sent yet.
    pub oldest: Option<Duration>,
    /// What it said of one that it refused.
    pub last_error: Option<String>,
}

/// An event that used up its tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadEvent {
    /// The event as it was.
    pub event: Event,
    /// How often it was tried.
    pub attempts: u64,
    /// What the broker said last.
    pub last_error: Option<String>,
    /// When it was given up.
    pub died_at: Timestamp,
}

/// An event that was sent and is kept for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentEvent {
    /// The event as it was.
    pub event: Event,
    /// When its row left the outbox.
    pub sent_at: Timestamp,
}

/// The operator's side of an outbox.
#[derive(Clone, Debug)]
pub struct OutboxAdmin {
    db: Db,
    routes: Routes,
}

impl OutboxAdmin {
    /// For the outbox whose tables are in `db`.
    pub fn new(db: Db) -> Self {
        Self {
            db,
            routes: Routes::default(),
        }
    }

    /// Names of brokers beside the first one, as those of a [`Router`](crate::Router): what is given back
    /// to a topic of theirs goes to their partitions. Without it a relay moves it there that knows them.
    #[must_use]
    pub fn routed<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.routes = Routes::named(names);
        self
    }

    /// How much waits.
    ///
    /// # Errors
    /// When the database is away or has no tables; those of `ratebox_db::Leases` are needed, too.
    pub async fn status(&self) -> Result<Status> {
        let rows = self.db.query(sql::STATUS).await?;
        let number = |at: usize| rows.first().map_or(Ok(0), |row| row.get(at));
        let oldest_ms: Option<f64> = rows.first().map_or(Ok(None), |row| row.get(4))?;
        Ok(Status {
            pending: number(0)?,
            claimed: number(1)?,
            failing: number(2)?,
            dead_letter: number(3)?,
            oldest: oldest_ms.map(|ms| Duration::from_secs_f64(ms.max(0.0) / 1000.0)),
            relays: Relay::alive(&self.db).await?,
        })
    }

    /// What waits, for each broker that something waits for, the first one first.
    ///
    /// # Errors
    /// When the database is away or has no tables.
    pub async fn waiting(&self) -> Result<Vec<Waiting>> {
        let rows = self.db.query(sql::WAITING).await?;
        rows.iter().map(waiting).collect()
    }

    /// Dead events, oldest first.
    ///
    /// # Errors
    /// When the database is away, or another program wrote a row.
    pub async fn dead(&self, limit: u32) -> Result<Vec<DeadEvent>> {
        let rows = self.db.query(sql::DEAD.with(vec![limit.into()])).await?;
        rows.iter().map(dead).collect()
    }

    /// What was sent last, latest first, as far as it is archived. Events that shared a row come
    /// together, in their order; `rows` bounds the rows.
    ///
    /// # Errors
    /// When the database is away, or another program wrote a row.
    pub async fn sent(&self, rows: u32) -> Result<Vec<SentEvent>> {
        let rows = self.db.query(sql::SENT.with(vec![rows.into()])).await?;
        let mut all = Vec::new();
        for row in &rows {
            let sent_at = row.get(12)?;
            let events = relay::read(row)?.into_iter();
            all.extend(events.map(|event| SentEvent { event, sent_at }));
        }
        Ok(all)
    }

    /// Deletes dead events for good: these. Returns how many there were.
    ///
    /// # Errors
    /// When the database is away; nothing is changed then.
    pub async fn purge(&self, ids: &[Uuid]) -> Result<u64> {
        let columns = vec![Column::Uuid(ids.to_vec())];
        let purge = sql::EXHUME.rows(columns, Vec::new())?;
        Ok(self.db.execute(purge).await?)
    }

    /// Gives dead events to the relays again, with all their tries and the same ids: these, or the
    /// oldest ones. Returns which.
    ///
    /// # Errors
    /// When the database is away; nothing is changed then.
    pub async fn retry(&self, only: Option<&[Uuid]>, limit: u32) -> Result<Vec<Uuid>> {
        let mut tx = self.db.begin().await?;
        let wanted = match only {
            None => sql::DEAD_FOR_RETRY.with(vec![limit.into()]),
            Some(ids) => {
                let columns = vec![Column::Uuid(ids.to_vec())];
                sql::DEAD_BY_ID.rows(columns, Vec::new())?
            }
        };
        let rows = tx.query(wanted).await?;
        let dead = rows.iter().map(dead).collect::<Result<Vec<_>>>()?;
        let ids: Vec<Uuid> = dead.iter().map(|it| it.event.id).collect();
        let row = |it: DeadEvent| {
            let base = self.routes.base(&it.event.topic);
            Bundle::new(it.event).based(base)
        };
        let rows: Vec<Bundle> = dead.into_iter().map(row).collect();
        let exhume = sql::EXHUME.rows(vec![Column::Uuid(ids.clone())], Vec::new())?;
        tx.commit_after(vec![exhume, bundle::insert(&rows, |_| 0)?])
            .await?;
        Ok(ids)
    }
}

fn waiting(row: &Row) -> Result<Waiting> {
    let (base, topic): (i64, String) = (row.get(0)?, row.get(5)?);
    let oldest_ms: f64 = row.get(3)?;
    let name = topic.split_once(':').map_or("", |(name, _)| name);
    let broker = match base {
        0 => None,
        // Its partitions are those of the name that its topics begin with.
        base if base == broker::base(name) => Some(name.to_owned()),
        base => Some(format!("partitions {base} to {}", base + PARTITIONS - 1)),
    };
    Ok(Waiting {
        broker,
        events: row.get(1)?,
        failing: row.get(2)?,
        oldest: (oldest_ms >= 0.0).then(|| Duration::from_secs_f64(oldest_ms / 1000.0)),
        last_error: row.get(4)?,
    })
}

fn dead(row: &Row) -> Result<DeadEvent> {
    let mut events = relay::read(row)?;
    Ok(DeadEvent {
        event: events.pop().ok_or(crate::Error::Bundle)?,
        attempts: row.get(6)?,
        last_error: row.get(12)?,
        died_at: row.get(13)?,
    })
}
