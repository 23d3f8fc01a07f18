//! Transactions that an event can join: ours, and those of the caller's own driver.
//!
//! The trait is one insert and a commit, so that an outbox works inside a program that has its
//! database layer already. A connection of such a driver must see the outbox's tables; they are
//! named with [`Settings::schema`](crate::Settings::schema) on PostgreSQL.

mod postgres;
mod sqlite;
#[cfg(feature = "sqlx")]
mod sqlx;

use ratebox_db::{Committed, TxId};

use crate::bundle::NewRow;
use crate::{Result, sql};

/// An open transaction. Implemented for `ratebox_db::Tx`, `tokio_postgres::Transaction`,
/// `rusqlite::Transaction` (whose futures never wait) and, with the feature `sqlx`,
/// `sqlx::Transaction<'_, sqlx::Postgres>`.
pub trait Transaction: Sized {
    /// Its commit is what a driver that is not ours says: before an event is published, its row is
    /// looked for.
    const IS_FOREIGN: bool = true;

    /// Which one it is, where its commit says so, too.
    fn id(&self) -> Option<TxId> {
        None
    }

    /// Adds a row; answers the milliseconds for which only its sender may send it, 0 when it must
    /// leave it to the relay.
    ///
    /// # Errors
    /// When the database refuses; the transaction can then only be given up.
    fn insert(&mut self, row: &NewRow<'_>) -> impl Future<Output = Result<i64>>;

    /// Commits.
    ///
    /// # Errors
    /// Nothing was kept unless the link broke, when it is unknown.
    fn commit(self) -> impl Future<Output = Result<Committed>>;
}

/// What PostgreSQL answers in a transaction in which a statement has failed.
const FAILED: &str = "25P02";
/// Why a commit of a foreign driver counts as one.
const FOREIGN: &str = "the caller's driver reported its commit";

impl Transaction for ratebox_db::Tx {
    const IS_FOREIGN: bool = false;

    fn id(&self) -> Option<TxId> {
        Some(Self::id(self))
    }

    async fn insert(&mut self, row: &NewRow<'_>) -> Result<i64> {
        let add = sql::ADD_ONE.with(row.values());
        let add = match row.event.key {
            Some(_) => add.planned_anew(),
            None => add,
        };
        let rows = self.query(add).await?;
        Ok(rows.first().map_or(Ok(0), |row| row.get(0))?)
    }

    async fn commit(self) -> Result<Committed> {
        Ok(self.commit().await?)
    }
}

impl NewRow<'_> {
    /// The insert with the schema's name in it.
    fn postgres_text(&self) -> Result<String> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !self.schema.bytes().all(is_plain) {
            let what = "the schema's name may hold a-z, 0-9 and _".to_owned();
            return Err(ratebox_db::Error::Settings { what }.into());
        }
        let table = format!("{}.outbox", self.schema);
        Ok(sql::ADD_ONE.postgres.replace("outbox", &table))
    }
}
