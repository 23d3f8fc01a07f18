//! Leased ownership with fencing, written once for everything that one process at a time may do.
//!
//! A lease has a name, a holder, an epoch and an end. The database's own clock decides. Each
//! change of holder raises the epoch: whoever writes under a lease carries its epoch, so a holder
//! that slept through its end can be told from the new one (Lamport's fencing token, as described
//! by Martin Kleppmann, "How to do distributed locking", 2016).

use std::time::Duration;

use crate::{Db, Migration, Result, Sql};

/// A lease that this process holds, as of the last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What is leased.
    pub name: String,
    /// Grows with every change of holder.
    pub epoch: i64,
}

/// Takes, renews and gives back leases under one holder's name.
#[derive(Clone, Debug)]
pub struct Leases {
    db: Db,
    holder: String,
    length: Duration,
}

const TAKE: Sql = Sql {
    postgres: "INSERT INTO leases (name, holder, epoch, ends_at)
        SELECT name, $2, 1, clock_timestamp() + $3 * interval '1 millisecond'
        FROM unnest($1::text[]) AS name ORDER BY name
        ON CONFLICT (name) DO UPDATE SET
            epoch = leases.epoch + CASE WHEN leases.holder = $2 THEN 0 ELSE 1 END,
            holder = excluded.holder, ends_at = excluded.ends_at
        WHERE leases.holder = $2 OR leases.ends_at < clock_timestamp()
        RETURNING name, epoch",
    sqlite: "INSERT INTO leases (name, holder, epoch, ends_at)
        VALUES (?1, ?2, 1, CAST(unixepoch('subsec') * 1000000 AS INTEGER) + ?3 * 1000)
        ON CONFLICT (name) DO UPDATE SET
            epoch = leases.epoch + CASE WHEN leases.holder = ?2 THEN 0 ELSE 1 END,
            holder = excluded.holder, ends_at = excluded.ends_at
        WHERE leases.holder = ?2
            OR leases.ends_at < CAST(unixepoch('subsec') * 1000000 AS INTEGER)
        RETURNING name, epoch",
};

const GIVE_BACK: Sql = Sql {
    postgres: "UPDATE leases SET ends_at = clock_timestamp() - interval '1 second'
        WHERE holder = $1",
    sqlite: "UPDATE leases SET ends_at = 0 WHERE holder = ?1",
};

const GIVE_BACK_SOME: Sql = Sql {
    postgres: "UPDATE leases SET ends_at = clock_timestamp() - interval '1 second'
        WHERE name IN (SELECT name FROM unnest($1::text[]) AS name) AND holder = $2",
    sqlite: "UPDATE leases SET ends_at = 0 WHERE name = ?1 AND holder = ?2",
};

const LIVE: Sql = Sql {
    postgres: "SELECT name, holder, epoch FROM leases
        WHERE name LIKE $1 AND ends_at > clock_timestamp() ORDER BY name",
    sqlite: "SELECT name, holder, epoch FROM leases
        WHERE name LIKE ?1 AND ends_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER)
        ORDER BY name",
};

const HOLDERS: Sql = Sql {
    postgres: "SELECT count(DISTINCT holder) FROM leases
        WHERE name LIKE $1 AND ends_at > clock_timestamp()",
    sqlite: "SELECT count(DISTINCT holder) FROM leases
        WHERE name LIKE ?1 AND ends_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
};

impl Leases {
    /// The owner name of this table's migrations.
    pub const OWNER: &'static str = "db";

    /// The table behind the leases.
    pub const MIGRATIONS: &'static [Migration] = &[Migration {
        version: 1,
        name: "leases",
        postgres: "CREATE TABLE leases (name text PRIMARY KEY, holder text NOT NULL,
            epoch bigint NOT NULL, ends_at timestamptz NOT NULL) WITH (fillfactor = 50)",
        sqlite: "CREATE TABLE leases (name TEXT PRIMARY KEY, holder TEXT NOT NULL,
            epoch INTEGER NOT NULL, ends_at INTEGER NOT NULL) WITHOUT ROWID",
    }];

    /// Every statement of this file, for tests that prepare them.
    pub const STATEMENTS: &'static [Sql] = &[TAKE, GIVE_BACK, GIVE_BACK_SOME, LIVE, HOLDERS];

    /// Leases of `length` under a name that no other process has.
    pub fn new(db: Db, holder: impl Into<String>, length: Duration) -> Self {
        Self {
            db,
            holder: holder.into(),
            length,
        }
    }

    /// Who takes them.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// Takes or renews what is free, ours, or past its end; returns what is ours now.
    ///
    /// # Errors
    /// When the database cannot be reached: treat every lease as lost.
    pub async fn take(&self, names: Vec<String>) -> Result<Vec<Lease>> {
        let length = i64::try_from(self.length.as_millis()).unwrap_or(i64::MAX);
        let columns = vec![crate::Column::Text(names)];
        let values = vec![self.holder.as_str().into(), (length as f64).into()];
        let mut tx = self.db.begin().await?;
        let rows = tx.query(TAKE.rows(columns, values)?).await?;
        tx.commit().await?;
        rows.iter()
            .map(|row| {
                Ok(Lease {
                    name: row.get(0)?,
                    epoch: row.get(1)?,
                })
            })
            .collect()
    }

    /// Gives everything of this holder back, so that others need not wait for the end.
    ///
    /// # Errors
    /// When the database cannot be reached; the leases then end by themselves.
    pub async fn give_back(&self) -> Result<()> {
        self.db
            .execute(GIVE_BACK.with(vec![self.holder.as_str().into()]))
            .await
            .map(drop)
    }

    /// Gives some of this holder's leases back.
    ///
    /// # Errors
    /// When the database cannot be reached; the leases then end by themselves.
    pub async fn give_back_some(&self, names: Vec<String>) -> Result<()> {
        let values = vec![self.holder.as_str().into()];
        let mut tx = self.db.begin().await?;
        tx.execute(GIVE_BACK_SOME.rows(vec![crate::Column::Text(names)], values)?)
            .await?;
        tx.commit().await.map(drop)
    }

    /// The live leases whose names begin with `prefix`, with their holders, in order of name. In
    /// the prefix `_` stands for any one character.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn live(db: &Db, prefix: &str) -> Result<Vec<(Lease, String)>> {
        let rows = db
            .query(LIVE.with(vec![format!("{prefix}%").into()]))
            .await?;
        let live = |row: &crate::Row| {
            let (name, holder, epoch) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok((Lease { name, epoch }, holder))
        };
        rows.iter().map(live).collect()
    }

    /// How many different holders have live leases whose names begin with `prefix`.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn holders(db: &Db, prefix: &str) -> Result<u64> {
        let rows = db
            .query(HOLDERS.with(vec![format!("{prefix}%").into()]))
            .await?;
        rows.first().map_or(Ok(0), |row| row.get(0))
    }
}
