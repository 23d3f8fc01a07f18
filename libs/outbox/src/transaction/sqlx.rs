//! Transactions of sqlx, PostgreSQL only: its SQLite and ours would be linked twice.

use ratebox_db::{Committed, Error as DbError};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{AssertSqlSafe, Encode, Postgres, Row as _, Type};
use uuid::Uuid;

use super::{FAILED, FOREIGN, Transaction};
use crate::Result;
use crate::bundle::NewRow;

impl Transaction for sqlx::Transaction<'_, Postgres> {
    async fn insert(&mut self, row: &NewRow<'_>) -> Result<i64> {
        let about = row.event.about.as_deref();
        let text = row.postgres_text()?;
        // The text is ours but for the schema's name, which is checked.
        let answered = sqlx::query(AssertSqlSafe(text))
            // A plan that was kept would hurt events with a key (see `sql.rs`).
            .persistent(false)
            .bind(i16::try_from(row.partition).unwrap_or(0))
            .bind(Id(row.event.id))
            .bind(&row.event.topic)
            .bind(row.event.key.as_deref())
            .bind(row.headers.as_deref())
            .bind(row.event.body.as_ref())
            .bind(i32::try_from(row.pre_lease_ms).unwrap_or(i32::MAX))
            .bind(about.and_then(|it| it.aggregate_type.as_deref()))
            .bind(about.and_then(|it| it.event_type.as_deref()))
            .bind(about.and_then(|it| it.routing_key.as_deref()))
            .bind(about.and_then(|it| it.partition_key.as_deref()))
            .bind(row.delay_ms())
            .fetch_one(&mut **self)
            .await
            .map_err(error)?;
        Ok(i64::from(answered.try_get::<i32, _>(0).map_err(error)?))
    }

    async fn commit(mut self) -> Result<Committed> {
        // The server answers the commit of a failed transaction with success, and gives it up.
        let alive = sqlx::query(super::postgres::ALIVE)
            .execute(&mut *self)
            .await;
        alive.map_err(error)?;
        self.commit().await.map_err(error)?;
        Ok(Committed::outside(FOREIGN))
    }
}

/// A UUID. The feature of sqlx for it names its SQLite, too.
struct Id(Uuid);

impl Type<Postgres> for Id {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(2950))
    }
}

impl Encode<'_, Postgres> for Id {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

/// The server's words may quote the data, so only its code is told.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn error(error: sqlx::Error) -> DbError {
    let Some(server) = error.as_database_error() else {
        return DbError::Connection {
            what: "the link to PostgreSQL broke".to_owned(),
        };
    };
    let code = server.code().unwrap_or_default().into_owned();
    let constraint = server.constraint().unwrap_or(&code).to_owned();
    of_code(code, constraint)
}

/// As `ratebox_db` reads the codes of tokio-postgres.
fn of_code(code: String, constraint: String) -> DbError {
    match (code.get(..2).unwrap_or_default(), code.as_str()) {
        (_, FAILED) => DbError::Failed,
        ("28" | "3D", _) | (_, "25006" | "42501") => DbError::Refused { code, said: None },
        ("22" | "54" | "P0", _) => DbError::Value { code },
        (_, "23505") => DbError::Exists { constraint },
        ("23", _) => DbError::Constraint { constraint },
        ("40" | "55", _) => DbError::Contention { code },
        ("08" | "25" | "57" | "58", _) | (_, "53300") => DbError::Connection {
            what: format!("PostgreSQL ended the call ({code})"),
        },
        ("53", _) => DbError::Full { code },
        _ => DbError::Statement { code },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_work_the_next_time_is_known_by_its_code() {
        let of = |code: &str| of_code(code.to_owned(), String::new());
        for code in [
            "40001", "40P01", "55P03", "57P01", "08006", "53300", "58030",
        ] {
            assert!(of(code).is_retryable(), "{code}");
        }
        for code in ["25P02", "22021", "23505", "23514", "42P01"] {
            assert!(!of(code).is_retryable(), "{code}");
        }
    }
}
