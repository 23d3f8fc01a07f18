//! The receiving half: an effect once, however often its message comes.

mod attempts;
mod batch;
mod consumer;
mod effect;
mod failure;
mod handled;
mod postgres;
mod received;
pub(crate) mod sql;

use std::collections::HashSet;
use std::time::Duration;

use ratebox_db::{Column, Committed, Db, Statement, Tx};
use ratebox_kit::Timestamp;
use uuid::Uuid;

pub use consumer::Consumer;
pub use consumer::Inboxes;
pub use effect::Effect;
pub use failure::Failure;
pub use handled::Handled;
pub use handled::Outcome;
pub use handled::Parked;
pub use received::Received;

use crate::{Result, sql as statements, stats};

/// Marks messages of one consumer. The mark must be made in the transaction of the effect.
#[derive(Clone, Debug)]
pub struct Inbox {
    consumer: String,
    topic: String,
}

impl Inbox {
    /// The inbox of `consumer` for messages of `topic`. Two consumers with different names each
    /// get every message.
    pub fn new(consumer: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            consumer: consumer.into(),
            topic: topic.into(),
        }
    }

    /// Marks messages and returns those that are new; the others had their effect before. Count
    /// them with [`marked`](Self::marked) once the transaction is committed. A transaction that
    /// marks the same message at the same time is waited for.
    ///
    /// # Errors
    /// When the database refuses or is away; the transaction can then only be dropped.
    pub async fn mark(&self, tx: &mut Tx, messages: &[Uuid]) -> Result<HashSet<Uuid>> {
        let columns = vec![Column::Uuid(in_order(messages))];
        let values = vec![self.consumer.as_str().into(), self.topic.as_str().into()];
        let rows = tx.query(statements::MARK.rows(columns, values)?).await?;
        let fresh = rows.iter().map(|row| row.get(0));
        Ok(fresh.collect::<ratebox_db::Result<_>>()?)
    }

    /// The statement that marks messages which are most likely new, to travel with the effect in
    /// one round trip. It fails with an error that [`is_duplicate`](ratebox_db::Error::is_duplicate)
    /// when one of them was marked before: nothing is kept then, and [`mark`](Self::mark) tells
    /// which. A transaction that marks the same message at the same time is waited for.
    ///
    /// # Errors
    /// Never; the rows are made here.
    pub fn claim(&self, messages: &[Uuid], at: Timestamp) -> Result<Statement> {
        let mut rows = statements::CLAIM.rows();
        for id in in_order(messages) {
            rows.push(id);
        }
        rows.push_alike(self.consumer.as_str());
        rows.push_alike(self.topic.as_str()).push_alike(at);
        Ok(rows.into_statement()?)
    }

    /// Counts what a committed transaction marked: messages that were new, and duplicates that it
    /// suppressed. What was marked and not committed will be met again and counted then.
    pub fn marked(&self, fresh: usize, duplicates: usize, _proof: &Committed) {
        stats::inbox(&self.consumer, "", fresh, duplicates);
    }

    /// Forgets marks from before `now - window`; returns how many were deleted by row. The window
    /// must exceed the time in which a message can come again. On PostgreSQL weeks that are over
    /// for everyone are dropped as a whole, and the next ones are made.
    ///
    /// # Errors
    /// When the database refuses or is away.
    pub async fn forget(&self, db: &Db, now: Timestamp, window: Duration) -> Result<u64> {
        let before = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        postgres::keep(db, now).await?;
        postgres::drop_old(db, &self.consumer, before).await?;
        Ok(db
            .execute(statements::FORGET.with(vec![self.consumer.as_str().into(), before.into()]))
            .await?)
    }
}

/// Two transactions that mark the same messages wait for each other in this order, and never both.
fn in_order(messages: &[Uuid]) -> Vec<Uuid> {
    let mut ids = messages.to_vec();
    ids.sort_unstable();
    ids
}
