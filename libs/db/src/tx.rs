//! A transaction over either database.

use crate::postgres::PostgresTx;
use crate::sqlite::SqliteTx;
use crate::{Committed, Dialect, Result, Row, Statement};

/// An open transaction. Dropped without a commit, it leaves nothing behind.
#[derive(Debug)]
pub struct Tx(Kind);

#[derive(Debug)]
enum Kind {
    Postgres(Box<PostgresTx>),
    Sqlite(SqliteTx),
}

impl Tx {
    pub(crate) fn postgres(tx: PostgresTx) -> Self {
        Self(Kind::Postgres(Box::new(tx)))
    }

    pub(crate) fn sqlite(tx: SqliteTx) -> Self {
        Self(Kind::Sqlite(tx))
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        match &self.0 {
            Kind::Postgres(_) => Dialect::Postgres,
            Kind::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Runs a statement and returns its rows (`RETURNING`, `SELECT`).
    ///
    /// # Errors
    /// After any error the transaction can only be dropped.
    pub async fn query(&mut self, statement: impl Into<Statement>) -> Result<Vec<Row>> {
        match &mut self.0 {
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
        match &mut self.0 {
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
        match self.0 {
            Kind::Postgres(tx) => tx.commit_after(statements).await,
            Kind::Sqlite(tx) => tx.commit_after(statements).await,
        }
    }

    /// Gives everything up. The same as dropping, but the connection is kept.
    ///
    /// # Errors
    /// When the database cannot be reached; it has given the transaction up then, too.
    pub async fn rollback(self) -> Result<()> {
        match self.0 {
            Kind::Postgres(tx) => tx.rollback().await,
            Kind::Sqlite(tx) => tx.rollback().await,
        }
    }
}
