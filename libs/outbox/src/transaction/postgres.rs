//! Transactions of tokio-postgres.

use ratebox_db::{Committed, Error as DbError};
use tokio_postgres::types::Type;

use super::{FAILED, FOREIGN, Transaction};
use crate::Result;
use crate::bundle::NewRow;

/// Fails in a transaction that has failed.
pub(super) const ALIVE: &str = "SELECT 1";

impl Transaction for tokio_postgres::Transaction<'_> {
    async fn insert(&mut self, row: &NewRow<'_>) -> Result<i64> {
        let text = row.postgres_text()?;
        let partition = i16::try_from(row.partition).unwrap_or(0);
        let lease = i32::try_from(row.pre_lease_ms).unwrap_or(i32::MAX);
        let about = row.event.about.as_deref();
        // In one round trip: nothing is prepared first.
        let rows = self
            .query_typed(
                &text,
                &[
                    (&partition, Type::INT2),
                    (&row.event.id, Type::UUID),
                    (&row.event.topic, Type::TEXT),
                    (&row.event.key, Type::TEXT),
                    (&row.headers, Type::TEXT),
                    (&row.event.body.as_ref(), Type::BYTEA),
                    (&lease, Type::INT4),
                    (
                        &about.and_then(|it| it.aggregate_type.as_deref()),
                        Type::TEXT,
                    ),
                    (&about.and_then(|it| it.event_type.as_deref()), Type::TEXT),
                    (&about.and_then(|it| it.routing_key.as_deref()), Type::TEXT),
                    (
                        &about.and_then(|it| it.partition_key.as_deref()),
                        Type::TEXT,
                    ),
                    (&row.delay_ms(), Type::INT8),
                ],
            )
            .await
            .map_err(error)?;
        let lease = rows.first().map_or(Ok(0), |row| row.try_get::<_, i32>(0));
        Ok(i64::from(lease.map_err(error)?))
    }

    async fn commit(self) -> Result<Committed> {
        // The server answers the commit of a failed transaction with success, and gives it up.
        self.batch_execute(ALIVE).await.map_err(error)?;
        self.commit().await.map_err(error)?;
        Ok(Committed::outside(FOREIGN))
    }
}

fn error(error: tokio_postgres::Error) -> DbError {
    match error.code() {
        Some(code) if code.code() == FAILED => DbError::Failed,
        _ => error.into(),
    }
}
