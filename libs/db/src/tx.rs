//! A transaction over either database.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::postgres::PostgresTx;
use crate::sqlite::SqliteTx;
use crate::{Committed, Dialect, Result, Row, Statement};

/// An open transaction. Dropped without a commit, it leaves nothing behind.
#[derive(Debug)]
pub struct Tx {
    id: TxId,
    kind: Kind,
}

/// Tells the transactions of this process apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxId(u64);

#[derive(Debug)]
enum Kind {
    Postgres(Box<PostgresTx>),
    Sqlite(SqliteTx),
}

impl Tx {
    pub(crate) fn postgres(tx: PostgresTx) -> Self {
        Self::of(Kind::Postgres(Box::new(tx)))
    }

    pub(crate) fn sqlite(tx: SqliteTx) -> Self {
        Self::of(Kind::Sqlite(tx))
    }

    fn of(kind: Kind) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = TxId(NEXT.fetch_add(1, Ordering::Relaxed));
        Self { id, kind }
    }

    /// Which one it is: its commit says so, too ([`Committed::is_of_another`]).
    pub fn id(&self) -> TxId {
        self.id
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        match &self.kind {
            Kind::Postgres(_) => Dialect::Postgres,
            Kind::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Runs a statement and returns its rows (`RETURNING`, `SELECT`).
    ///
    /// # Errors
    /// After any error the transaction can only be dropped.
    pub async fn query(&mut self, statement: impl Into<Statement>) -> Result<Vec<Row>> {
        match &mut self.kind {
            Kind::Postgres(tx) => tx.query(statement.into()).await,
            Kind::Sqlite(tx) => tx.query(statement.into()).await,
        }
    }

    /// Runs a statement; returns the rows it changed.
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn execute(&mut self, statement: impl Into<Statement>) -> Result<u64> {
        let counts = self.execute_all(vec![statement.into()]).await?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    /// Runs statements in order, in one round trip; returns the rows that each changed.
    ///
    /// # Errors
    /// As [`Tx::query`].
    pub async fn execute_all(&mut self, statements: Vec<Statement>) -> Result<Vec<u64>> {
        match &mut self.kind {
            Kind::Postgres(tx) => tx.execute_all(statements).await,
            Kind::Sqlite(tx) => tx.execute_all(statements).await,
        }
    }

    /// Commits; on return everything is on disk.
    ///
    /// # Errors
    /// Nothing was kept unless the error is an outage, when it is unknown.
    pub async fn commit(self) -> Result<Committed> {
        self.commit_after(Vec::new())
            .await
            .map(|(_, committed)| committed)
    }

    /// Runs statements and commits, in one round trip; returns the rows that each changed.
    ///
    /// # Errors
    /// As [`Tx::commit`]. A failed statement is never committed around.
    pub async fn commit_after(self, statements: Vec<Statement>) -> Result<(Vec<u64>, Committed)> {
        let (counts, _) = match self.kind {
            Kind::Postgres(tx) => tx.commit_after(statements).await?,
            Kind::Sqlite(tx) => tx.commit_after(statements).await?,
        };
        Ok((counts, Committed::of_tx(self.id)))
    }

    /// Gives everything up. The same as dropping, but the connection is kept.
    ///
    /// # Errors
    /// When the database cannot be reached; it has given the transaction up then, too.
    pub async fn rollback(self) -> Result<()> {
        match self.kind {
            Kind::Postgres(tx) => tx.rollback().await,
            Kind::Sqlite(tx) => tx.rollback().await,
        }
    }
}
