//! The handle.

use std::time::Duration;

use ratebox_db::{Db, Leases, Tx, migrate};
use ratebox_kit::Clock;

use crate::{MIGRATIONS, OWNER, Result};

/// Everything that is remembered. Cheap to clone; what it does stands in the files by noun.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    clock: Clock,
}

impl Store {
    /// A store in `db`.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// The database, for what shares a transaction with the store.
    pub fn db(&self) -> &Db {
        &self.db
    }

    /// The clock that stamps rows.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Opens a transaction.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(self.db.begin().await?)
    }

    /// Brings the tables of the leases and the store up to date and makes the partitions.
    /// The outbox brings its own.
    ///
    /// # Errors
    /// When a migration fails; what was applied before stays.
    pub async fn migrate(&self) -> Result<()> {
        migrate(&self.db, Leases::OWNER, Leases::MIGRATIONS).await?;
        migrate(&self.db, OWNER, MIGRATIONS).await?;
        self.ensure_partitions(self.clock.now(), crate::partitions::MONTHS_AHEAD)
            .await
    }

    /// Takes or renews a duty that one process at a time has, such as `housekeeping`; true when
    /// `holder` has it now.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn take_duty(&self, duty: &str, holder: &str, length: Duration) -> Result<bool> {
        let leases = Leases::new(self.db.clone(), holder, length);
        Ok(!leases.take(vec![format!("duty/{duty}")]).await?.is_empty())
    }

    /// Forgets what has outlived its use: idempotency keys after `keys_after`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn forget_old(&self, keys_after: Duration) -> Result<u64> {
        let before = self.clock.now().checked_sub(keys_after).unwrap_or_default();
        self.forget_keys(before).await
    }
}
