//! One process at a time, for work of many transactions on several connections.
//!
//! PostgreSQL's own lock, held by an open transaction that does nothing else: whoever dies leaves it
//! behind in no case, and nobody waits for a lease to end. It takes one connection of the pool.

use crate::{Db, Dialect, Result, Sql, Tx};

/// The one whose turn it is, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    /// Its end is the lock's. SQLite needs none: its one writer must not be held.
    _tx: Option<Tx>,
}

/// The transaction may be idle for as long as the work takes.
const TAKE: Sql = Sql {
    postgres: "SELECT pg_try_advisory_xact_lock($1),
        set_config('idle_in_transaction_session_timeout', '0', true)",
    sqlite: "SELECT true WHERE ?1 = ?1",
};

impl Turn {
    /// Takes the turn with this number, unless another process or task has it. On SQLite everybody
    /// gets it.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn take(db: &Db, number: i64) -> Result<Option<Self>> {
        if db.dialect() == Dialect::Sqlite {
            return Ok(Some(Self { _tx: None }));
        }
        let mut tx = db.begin().await?;
        let rows = tx.query(TAKE.with(vec![number.into()])).await?;
        if rows.first().map_or(Ok(false), |row| row.get::<bool>(0))? {
            return Ok(Some(Self { _tx: Some(tx) }));
        }
        tx.rollback().await?;
        Ok(None)
    }
}
