//! What a database says of itself, for those who look after it.

use ratebox_db::{Dialect, Sql};
use ratebox_kit::Timestamp;

use crate::{Result, Store};

/// What PostgreSQL says of its version and its promises.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Such as 150018 for 15.18.
    pub version_number: i64,
    /// `on` or `off`.
    pub fsync: String,
    /// `on`, `off`, `local`, ….
    pub synchronous_commit: String,
    /// `on` or `off`.
    pub full_page_writes: String,
    /// It is a standby, or set to take no writes.
    pub is_read_only: bool,
    /// Whether the user may write what requests leave; said of tables that are there.
    pub may_write: bool,
    /// Its clock.
    pub clock: Timestamp,
}

const SETTINGS: Sql = Sql::both(
    "SELECT current_setting('server_version_num')::bigint, current_setting('fsync'),
        current_setting('synchronous_commit'), current_setting('full_page_writes'),
        current_setting('transaction_read_only') = 'on',
        coalesce(has_table_privilege(to_regclass('validation_requests')::oid, 'INSERT')
            AND has_table_privilege(to_regclass('validation_requests')::oid, 'UPDATE'), true),
        clock_timestamp()",
);

impl Store {
    /// What the server says of itself; `None` on SQLite, whose promises are ours.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn server_settings(&self) -> Result<Option<ServerSettings>> {
        if self.db().dialect() == Dialect::Sqlite {
            return Ok(None);
        }
        let rows = self.db().query(SETTINGS).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(ServerSettings {
            version_number: row.get(0)?,
            fsync: row.get(1)?,
            synchronous_commit: row.get(2)?,
            full_page_writes: row.get(3)?,
            is_read_only: row.get(4)?,
            may_write: row.get(5)?,
            clock: row.get(6)?,
        }))
    }

    /// Migrations of the store that the database lacks.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn missing_migrations(&self) -> Result<Vec<i64>> {
        // A database that was never migrated has no table of migrations.
        let there = ratebox_db::applied(self.db(), crate::OWNER).await;
        let there = match there {
            Ok(versions) => versions,
            Err(error) if error.is_outage() => return Err(error.into()),
            Err(_) => Vec::new(),
        };
        let all = crate::MIGRATIONS.iter().map(|migration| migration.version);
        Ok(all.filter(|version| !there.contains(version)).collect())
    }
}
