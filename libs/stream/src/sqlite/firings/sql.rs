//! The table of last moments and its statements. SQLite only, as the log.

use ratebox_db::{Migration, Sql};

pub(super) const OWNER: &str = "stream_cron";

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "firings",
    postgres: "SELECT 1",
    sqlite: "CREATE TABLE log_firings (stream TEXT NOT NULL, job TEXT NOT NULL,
        last_ms INTEGER NOT NULL, PRIMARY KEY (stream, job)) WITHOUT ROWID;",
}];

/// Keeps the first moment where there is none, and returns the last.
pub(super) const BEGIN: Sql = Sql {
    postgres: "",
    sqlite: "INSERT INTO log_firings (stream, job, last_ms) VALUES (?1, ?2, ?3)
        ON CONFLICT (stream, job) DO UPDATE SET last_ms = last_ms RETURNING last_ms",
};

/// Changes a row only where the moment is later than the last.
pub(super) const FIRE: Sql = Sql {
    postgres: "",
    sqlite: "INSERT INTO log_firings (stream, job, last_ms) VALUES (?1, ?2, ?3)
        ON CONFLICT (stream, job) DO UPDATE SET last_ms = excluded.last_ms
        WHERE log_firings.last_ms < excluded.last_ms",
};
