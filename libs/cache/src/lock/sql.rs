//! Fencing numbers in the database: the last line against a holder that comes late.

use ratebox_db::{Migration, Result, Sql, Tx, Value};

/// Keeps the highest number that each name was written under. Call [`Fences::pass`] first in the
/// transaction that writes under a lock; when it says no, give the transaction up.
#[derive(Clone, Copy, Debug)]
pub struct Fences;

const PASS: Sql = Sql {
    postgres: "INSERT INTO lock_fences (name, fence) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET fence = excluded.fence
        WHERE lock_fences.fence <= excluded.fence",
    sqlite: "INSERT INTO lock_fences (name, fence) VALUES (?1, ?2)
        ON CONFLICT (name) DO UPDATE SET fence = excluded.fence
        WHERE lock_fences.fence <= excluded.fence",
};

// === impl Fences ===

impl Fences {
    /// The owner name of this table's migrations.
    pub const OWNER: &'static str = "cache_locks";

    /// The table behind it.
    pub const MIGRATIONS: &'static [Migration] = &[Migration {
        version: 1,
        name: "fences",
        postgres: "CREATE TABLE lock_fences (name text PRIMARY KEY, fence bigint NOT NULL)
            WITH (fillfactor = 50)",
        sqlite: "CREATE TABLE lock_fences (name TEXT PRIMARY KEY, fence INTEGER NOT NULL)
            WITHOUT ROWID",
    }];

    /// Every statement of this file, for tests that prepare them.
    pub const STATEMENTS: &'static [Sql] = &[PASS];

    /// Whether nobody with a higher number has written under this name. The row stays locked
    /// until the transaction ends, so nobody does in between either.
    ///
    /// # Errors
    /// When the database cannot be reached; the transaction can then only be dropped.
    pub async fn pass(tx: &mut Tx, name: &str, fence: u64) -> Result<bool> {
        let fence = i64::try_from(fence).unwrap_or(i64::MAX);
        let values = vec![Value::Text(name.to_owned()), Value::Int(fence)];
        Ok(tx.execute(PASS.with(values)).await? > 0)
    }
}
