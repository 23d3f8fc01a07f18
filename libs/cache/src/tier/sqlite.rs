//! A tier in a database file, for one process that wants to find its cache again after a restart.
//!
//! Nothing tells other processes of changes, so only one may use the tables; PostgreSQL is refused
//! for that reason.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use ratebox_db::{Db, Dialect, Migration, Sql, Value};
use ratebox_kit::{Causes, Clock, Shutdown, Tasks};
use uuid::Uuid;

use super::{Ensured, Store, Taken, Tier, Usage, watch};
use crate::Error;
use crate::entry::stamp_of;

/// The owner name of the migrations.
pub const OWNER: &str = "cache";

/// All migrations, in order.
pub const MIGRATIONS: &[Migration] = &[TABLES];

/// How often what has ended is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(10);

/// How often the file is asked for a sign of life, apart from calls that failed.
const WATCH_EVERY: Duration = Duration::from_secs(10);

/// Rows that one sweep removes at most.
const SWEEP_MAX: i64 = 1_000;

const TABLES: Migration = Migration {
    version: 1,
    name: "entries, leases and counts",
    postgres: "
        CREATE TABLE cache_entries (name text PRIMARY KEY, entry bytea NOT NULL, ends_ms bigint NOT NULL);
        CREATE INDEX cache_entries_ends ON cache_entries (ends_ms);
        CREATE TABLE cache_leases (name text PRIMARY KEY, token bytea NOT NULL, ends_ms bigint NOT NULL);
        CREATE TABLE cache_counts (tag text PRIMARY KEY, count bigint NOT NULL, ends_ms bigint NOT NULL);",
    sqlite: "
        CREATE TABLE cache_entries (name TEXT PRIMARY KEY, entry BLOB NOT NULL, ends_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE INDEX cache_entries_ends ON cache_entries (ends_ms);
        CREATE TABLE cache_leases (name TEXT PRIMARY KEY, token BLOB NOT NULL, ends_ms INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE cache_counts (tag TEXT PRIMARY KEY, count INTEGER NOT NULL, ends_ms INTEGER NOT NULL) WITHOUT ROWID;",
};

const GET: Sql = Sql {
    postgres: "SELECT entry FROM cache_entries WHERE name = $1 AND ends_ms > $2",
    sqlite: "SELECT entry FROM cache_entries WHERE name = ?1 AND ends_ms > ?2",
};

const TAKE: Sql = Sql {
    postgres: "INSERT INTO cache_leases (name, token, ends_ms) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET token = excluded.token, ends_ms = excluded.ends_ms
        WHERE cache_leases.ends_ms <= $4",
    sqlite: "INSERT INTO cache_leases (name, token, ends_ms) VALUES (?1, ?2, ?3)
        ON CONFLICT (name) DO UPDATE SET token = excluded.token, ends_ms = excluded.ends_ms
        WHERE cache_leases.ends_ms <= ?4",
};

const SEIZE: Sql = Sql {
    postgres: "INSERT INTO cache_leases (name, token, ends_ms) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET token = excluded.token, ends_ms = excluded.ends_ms",
    sqlite: "INSERT INTO cache_leases (name, token, ends_ms) VALUES (?1, ?2, ?3)
        ON CONFLICT (name) DO UPDATE SET token = excluded.token, ends_ms = excluded.ends_ms",
};

const LEFT: Sql = Sql {
    postgres: "SELECT ends_ms FROM cache_leases WHERE name = $1",
    sqlite: "SELECT ends_ms FROM cache_leases WHERE name = ?1",
};

const RENEW: Sql = Sql {
    postgres: "UPDATE cache_leases SET ends_ms = $3 WHERE name = $1 AND token = $2 AND ends_ms > $4",
    sqlite: "UPDATE cache_leases SET ends_ms = ?3 WHERE name = ?1 AND token = ?2 AND ends_ms > ?4",
};

const FILL: Sql = Sql {
    postgres: "INSERT INTO cache_entries (name, entry, ends_ms)
        SELECT name, $3, $4 FROM cache_leases WHERE name = $1 AND token = $2 AND ends_ms > $5
        ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, ends_ms = excluded.ends_ms",
    sqlite: "INSERT INTO cache_entries (name, entry, ends_ms)
        SELECT name, ?3, ?4 FROM cache_leases WHERE name = ?1 AND token = ?2 AND ends_ms > ?5
        ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, ends_ms = excluded.ends_ms",
};

const SET: Sql = Sql {
    postgres: "INSERT INTO cache_entries (name, entry, ends_ms) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, ends_ms = excluded.ends_ms",
    sqlite: "INSERT INTO cache_entries (name, entry, ends_ms) VALUES (?1, ?2, ?3)
        ON CONFLICT (name) DO UPDATE SET entry = excluded.entry, ends_ms = excluded.ends_ms",
};

const GIVE_BACK: Sql = Sql {
    postgres: "DELETE FROM cache_leases WHERE name = $1 AND token = $2",
    sqlite: "DELETE FROM cache_leases WHERE name = ?1 AND token = ?2",
};

const REMOVE_LEASE: Sql = Sql {
    postgres: "DELETE FROM cache_leases WHERE name = $1",
    sqlite: "DELETE FROM cache_leases WHERE name = ?1",
};

const REMOVE_ENTRY: Sql = Sql {
    postgres: "DELETE FROM cache_entries WHERE name = $1",
    sqlite: "DELETE FROM cache_entries WHERE name = ?1",
};

/// A count follows the clock's microseconds, so that one which was lost never comes back.
const RAISE: Sql = Sql {
    postgres: "INSERT INTO cache_counts (tag, count, ends_ms) VALUES ($1, $2, $3)
        ON CONFLICT (tag) DO UPDATE SET count = greatest(cache_counts.count + 1, excluded.count),
        ends_ms = greatest(cache_counts.ends_ms, excluded.ends_ms)",
    sqlite: "INSERT INTO cache_counts (tag, count, ends_ms) VALUES (?1, ?2, ?3)
        ON CONFLICT (tag) DO UPDATE SET count = max(cache_counts.count + 1, excluded.count),
        ends_ms = max(cache_counts.ends_ms, excluded.ends_ms)",
};

const ENSURE: Sql = Sql {
    postgres: "INSERT INTO cache_counts (tag, count, ends_ms) VALUES ($1, $2, $3)
        ON CONFLICT (tag) DO UPDATE SET ends_ms = greatest(cache_counts.ends_ms, excluded.ends_ms)",
    sqlite: "INSERT INTO cache_counts (tag, count, ends_ms) VALUES (?1, ?2, ?3)
        ON CONFLICT (tag) DO UPDATE SET ends_ms = max(cache_counts.ends_ms, excluded.ends_ms)",
};

const COUNT: Sql = Sql {
    postgres: "SELECT count FROM cache_counts WHERE tag = $1",
    sqlite: "SELECT count FROM cache_counts WHERE tag = ?1",
};

const USAGE: Sql = Sql::both(
    "SELECT count(*), CAST(coalesce(sum(length(entry)), 0) AS bigint) FROM cache_entries",
);

const SWEEP_ENTRIES: Sql = Sql {
    postgres: "DELETE FROM cache_entries WHERE name IN
        (SELECT name FROM cache_entries WHERE ends_ms <= $1 ORDER BY ends_ms LIMIT $2)",
    sqlite: "DELETE FROM cache_entries WHERE name IN
        (SELECT name FROM cache_entries WHERE ends_ms <= ?1 ORDER BY ends_ms LIMIT ?2)",
};

const SWEEP_LEASES: Sql = Sql {
    postgres: "DELETE FROM cache_leases WHERE ends_ms <= $1",
    sqlite: "DELETE FROM cache_leases WHERE ends_ms <= ?1",
};

const SWEEP_COUNTS: Sql = Sql {
    postgres: "DELETE FROM cache_counts WHERE ends_ms <= $1",
    sqlite: "DELETE FROM cache_counts WHERE ends_ms <= ?1",
};

/// What is nearest to its end goes first.
const SHRINK: Sql = Sql {
    postgres: "DELETE FROM cache_entries WHERE name IN
        (SELECT name FROM cache_entries ORDER BY ends_ms
         LIMIT greatest(0, (SELECT count(*) FROM cache_entries) - $1))",
    sqlite: "DELETE FROM cache_entries WHERE name IN
        (SELECT name FROM cache_entries ORDER BY ends_ms
         LIMIT max(0, (SELECT count(*) FROM cache_entries) - ?1))",
};

/// Reads nothing, and fails where a table is missing.
const LOOK: Sql = Sql::both(
    "SELECT (SELECT count(*) FROM cache_entries WHERE name = '')
        + (SELECT count(*) FROM cache_leases WHERE name = '')
        + (SELECT count(*) FROM cache_counts WHERE tag = '')",
);

/// Every statement of this file.
#[cfg(test)]
const ALL: [Sql; 17] = [
    LOOK,
    GET,
    TAKE,
    SEIZE,
    LEFT,
    RENEW,
    FILL,
    SET,
    GIVE_BACK,
    REMOVE_LEASE,
    REMOVE_ENTRY,
    RAISE,
    ENSURE,
    COUNT,
    USAGE,
    SWEEP_ENTRIES,
    SHRINK,
];

struct OnSqlite {
    db: Db,
    clock: Clock,
    entries_max: i64,
}

// === impl Tier ===

impl Tier {
    /// A tier in a SQLite file whose tables are there ([`MIGRATIONS`]). As long as they are not it
    /// counts as away, and the log says once what is missing. Above `entries_max`, those
    /// that are nearest to their end are removed within seconds.
    ///
    /// # Errors
    /// [`Error::Settings`] when the database is no SQLite file.
    pub fn sqlite(db: Db, entries_max: u32, clock: Clock, tasks: &Tasks) -> Result<Self, Error> {
        if db.dialect() != Dialect::Sqlite {
            return Err(Error::Settings {
                what: "PostgreSQL does not tell other processes of changes; use Redis, Valkey or a SQLite file as the cache's shared tier".to_owned(),
            });
        }
        let store = Arc::new(OnSqlite {
            db,
            clock,
            entries_max: entries_max.into(),
        });
        let (swept, shutdown) = (Arc::clone(&store), tasks.shutdown());
        tasks.spawn("cache sweep", async move { swept.sweep(shutdown).await });
        let tier = Self::over(Some(Arc::clone(&store) as Arc<dyn Store>));
        let (watched, shutdown) = (tier.clone(), tasks.shutdown());
        tasks.spawn("cache watch", async move {
            watch::run(&watched, store.as_ref(), WATCH_EVERY, shutdown).await;
        });
        Ok(tier)
    }
}

// === impl OnSqlite ===

impl OnSqlite {
    async fn sweep(&self, shutdown: Shutdown) {
        let mut is_said = false;
        while shutdown.sleep(SWEEP_EVERY).await {
            let now = self.clock.now_ms();
            let statements = vec![
                SWEEP_ENTRIES.with(vec![now.into(), SWEEP_MAX.into()]),
                SWEEP_LEASES.with(vec![now.into()]),
                SWEEP_COUNTS.with(vec![now.into()]),
                SHRINK.with(vec![self.entries_max.into()]),
            ];
            let swept = self.db.run(statements).await;
            if let (Err(error), false) = (&swept, is_said) {
                tracing::warn!(error = %Causes(error), "the cache's tables were not swept");
            }
            is_said = swept.is_err();
        }
    }

    fn ends_ms(&self, life: Duration) -> i64 {
        let life = i64::try_from(life.as_millis()).unwrap_or(i64::MAX).max(1);
        self.clock.now_ms().saturating_add(life)
    }

    fn now_us(&self) -> i64 {
        self.clock.now().as_microsecond()
    }

    async fn lease_left(&self, name: &str) -> Result<Duration, Error> {
        let rows = self.db.query(LEFT.with(vec![name.into()])).await?;
        let ends_ms: i64 = match rows.first() {
            Some(row) => row.get(0)?,
            None => 0,
        };
        let left = ends_ms.saturating_sub(self.clock.now_ms()).max(0);
        Ok(Duration::from_millis(left.unsigned_abs()))
    }
}

fn token_value(token: Uuid) -> Value {
    Value::Uuid(token)
}

#[async_trait]
impl Store for OnSqlite {
    async fn ping(&self) -> Result<(), Error> {
        self.db.ping().await?;
        match self.db.query(LOOK).await {
            Ok(_) => Ok(()),
            Err(ratebox_db::Error::Statement { code }) => Err(Error::Settings {
                what: format!(
                    "the file lacks the cache's tables ({code}): run \
                     `migrate(&db, ratebox_cache::OWNER, ratebox_cache::MIGRATIONS)`"
                ),
            }),
            Err(error) => Err(error.into()),
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let values = vec![name.into(), self.clock.now_ms().into()];
        let rows = self.db.query(GET.with(values)).await?;
        match rows.first() {
            Some(row) => Ok(Some(row.get(0)?)),
            None => Ok(None),
        }
    }

    async fn get_many(&self, names: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        try_join_all(names.iter().map(|name| self.get(name))).await
    }

    async fn take(
        &self,
        name: &str,
        token: Uuid,
        lease: Duration,
        seen: &[u8],
    ) -> Result<Taken, Error> {
        let (ends, now) = (self.ends_ms(lease), self.clock.now_ms());
        let values = vec![name.into(), token_value(token), ends.into(), now.into()];
        if self.db.execute(TAKE.with(values)).await? == 0 {
            return Ok(Taken::Busy(self.lease_left(name).await?));
        }
        match self.get(name).await? {
            Some(entry) if stamp_of(&entry) != seen => {
                self.give_back(name, token).await?;
                Ok(Taken::Newer(entry))
            }
            _ => Ok(Taken::Ours),
        }
    }

    async fn renew(&self, name: &str, token: Uuid, lease: Duration) -> Result<bool, Error> {
        let (ends, now) = (self.ends_ms(lease), self.clock.now_ms());
        let values = vec![name.into(), token_value(token), ends.into(), now.into()];
        Ok(self.db.execute(RENEW.with(values)).await? > 0)
    }

    async fn fill(
        &self,
        name: &str,
        token: Uuid,
        entry: Bytes,
        life: Duration,
    ) -> Result<bool, Error> {
        let fill = FILL.with(vec![
            name.into(),
            token_value(token),
            entry.into(),
            self.ends_ms(life).into(),
            self.clock.now_ms().into(),
        ]);
        let give_back = GIVE_BACK.with(vec![name.into(), token_value(token)]);
        let (counts, _) = self.db.run(vec![fill, give_back]).await?;
        Ok(counts.first().is_some_and(|rows| *rows > 0))
    }

    async fn give_back(&self, name: &str, token: Uuid) -> Result<(), Error> {
        let values = vec![name.into(), token_value(token)];
        self.db.execute(GIVE_BACK.with(values)).await?;
        Ok(())
    }

    async fn seize(&self, name: &str, token: Uuid, lease: Duration) -> Result<(), Error> {
        let ends = self.ends_ms(lease);
        let seize = SEIZE.with(vec![name.into(), token_value(token), ends.into()]);
        let remove = REMOVE_ENTRY.with(vec![name.into()]);
        self.db.run(vec![remove, seize]).await?;
        Ok(())
    }

    async fn set(&self, name: &str, entry: Bytes, life: Duration) -> Result<(), Error> {
        let ends = self.ends_ms(life);
        let set = SET.with(vec![name.into(), entry.into(), ends.into()]);
        let remove = REMOVE_LEASE.with(vec![name.into()]);
        self.db.run(vec![remove, set]).await?;
        Ok(())
    }

    async fn remove(&self, names: &[String], tags: &[String], life: Duration) -> Result<(), Error> {
        let (now_us, ends) = (self.now_us(), self.ends_ms(life.saturating_mul(2)));
        let removed = names.iter().flat_map(|name| {
            let name = || vec![name.as_str().into()];
            [REMOVE_LEASE.with(name()), REMOVE_ENTRY.with(name())]
        });
        let raised = tags
            .iter()
            .map(|tag| RAISE.with(vec![tag.as_str().into(), now_us.into(), ends.into()]));
        self.db.run(removed.chain(raised).collect()).await?;
        Ok(())
    }

    async fn counts(&self, tags: &[String]) -> Result<Vec<Option<u64>>, Error> {
        let counts = tags.iter().map(async |tag| {
            let rows = self.db.query(COUNT.with(vec![tag.as_str().into()])).await?;
            match rows.first() {
                Some(row) => Ok(Some(row.get(0)?)),
                None => Ok(None),
            }
        });
        try_join_all(counts).await
    }

    async fn ensure(&self, tags: &[String], life: Duration) -> Result<Vec<Ensured>, Error> {
        let (now_us, ends) = (self.now_us(), self.ends_ms(life.saturating_mul(2)));
        let ensured = tags
            .iter()
            .map(|tag| ENSURE.with(vec![tag.as_str().into(), now_us.into(), ends.into()]));
        self.db.run(ensured.collect()).await?;
        let counts = self.counts(tags).await?;
        let ensured = counts.into_iter().map(|count| Ensured {
            count: count.unwrap_or_default(),
            is_told: false,
        });
        Ok(ensured.collect())
    }

    async fn usage(&self) -> Result<Usage, Error> {
        let rows = self.db.query(USAGE).await?;
        match rows.first() {
            Some(row) => Ok(Usage {
                keys: row.get(0)?,
                bytes: row.get(1)?,
            }),
            None => Ok(Usage::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ratebox_db::{PostgresSettings, SqliteSettings, migrate};
    use ratebox_kit::Secret;
    use ratebox_testkit::{PostgresServer, unique_name};

    use super::*;

    #[tokio::test]
    async fn both_databases_understand_every_statement() {
        let dsn = PostgresServer::shared()
            .unwrap()
            .create_database(&unique_name("cache"))
            .unwrap();
        let postgres = PostgresSettings {
            schema: "public".to_owned(),
            ..PostgresSettings::new(Secret::new(dsn))
        };
        for db in [
            Db::postgres(&postgres).unwrap(),
            Db::sqlite(&SqliteSettings::memory()).unwrap(),
        ] {
            migrate(&db, OWNER, MIGRATIONS).await.unwrap();
            for sql in ALL.iter().chain(&[SWEEP_LEASES, SWEEP_COUNTS]) {
                db.prepare(sql).await.unwrap();
            }
        }
    }
}
