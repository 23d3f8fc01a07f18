//! Leased ownership with fencing, written once for everything that one process at a time may do.
//!
//! A lease has a name, a holder, an epoch and an end. The database's own clock decides. Each
//! change of holder raises the epoch: whoever writes under a lease carries its epoch, so a holder
//! that slept through its end can be told from the new one (Lamport's fencing token, as described
//! by Martin Kleppmann, "How to do distributed locking", 2016).
//!
//! A lease whose end lies more than eleven minutes ahead is over, too: a clock that was set back since
//! wrote it. So nothing stands still until that clock has come round again.

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

/// What lies a minute further ahead was written before the clock was set back: the eleven minutes of
/// the statements.
const LENGTH_MAX: Duration = Duration::from_secs(600);

const TAKE: Sql = Sql {
    postgres: "INSERT INTO leases (name, holder, epoch, ends_at)
        SELECT name, $2, 1, clock_timestamp() + $3 * interval '1 millisecond'
        FROM unnest($1::text[]) AS name ORDER BY name
        ON CONFLICT (name) DO UPDATE SET
            epoch = leases.epoch + CASE WHEN leases.holder = $2 THEN 0 ELSE 1 END,
            holder = excluded.holder, ends_at = excluded.ends_at
        WHERE leases.holder = $2 OR leases.ends_at < clock_timestamp()
            OR leases.ends_at > clock_timestamp() + interval '11 minutes'
        RETURNING name, epoch",
    sqlite: "INSERT INTO leases (name, holder, epoch, ends_at)
        VALUES (?1, ?2, 1, CAST(unixepoch('subsec') * 1000000 AS INTEGER) + ?3 * 1000)
        ON CONFLICT (name) DO UPDATE SET
            epoch = leases.epoch + CASE WHEN leases.holder = ?2 THEN 0 ELSE 1 END,
            holder = excluded.holder, ends_at = excluded.ends_at
        WHERE leases.holder = ?2
            OR leases.ends_at < CAST(unixepoch('subsec') * 1000000 AS INTEGER)
            OR leases.ends_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER) + 660000000
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
        WHERE name LIKE $1 AND ends_at > clock_timestamp()
            AND ends_at <= clock_timestamp() + interval '11 minutes' ORDER BY name",
    sqlite: "SELECT name, holder, epoch FROM leases
        WHERE name LIKE ?1 AND ends_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER)
            AND ends_at <= CAST(unixepoch('subsec') * 1000000 AS INTEGER) + 660000000
        ORDER BY name",
};

/// The row stays as it is until the transaction ends, so that nobody takes over meanwhile.
const CONFIRM: Sql = Sql {
    postgres: "SELECT epoch FROM leases WHERE name = $1 AND holder = $2 AND epoch = $3
        AND ends_at > clock_timestamp() FOR SHARE",
    sqlite: "SELECT epoch FROM leases WHERE name = ?1 AND holder = ?2 AND epoch = ?3
        AND ends_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
};

const HOLDERS: Sql = Sql {
    postgres: "SELECT count(DISTINCT holder) FROM leases
        WHERE name LIKE $1 AND ends_at > clock_timestamp()
            AND ends_at <= clock_timestamp() + interval '11 minutes'",
    sqlite: "SELECT count(DISTINCT holder) FROM leases
        WHERE name LIKE ?1 AND ends_at > CAST(unixepoch('subsec') * 1000000 AS INTEGER)
            AND ends_at <= CAST(unixepoch('subsec') * 1000000 AS INTEGER) + 660000000",
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
    pub const STATEMENTS: &'static [Sql] =
        &[TAKE, GIVE_BACK, GIVE_BACK_SOME, LIVE, CONFIRM, HOLDERS];

    /// Leases of `length`, ten minutes at most, under a name that no other process has.
    pub fn new(db: Db, holder: impl Into<String>, length: Duration) -> Self {
        Self {
            db,
            holder: holder.into(),
            length: length.min(LENGTH_MAX),
        }
    }

    /// How long they last.
    pub fn length(&self) -> Duration {
        self.length
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

    /// Whether a lease is ours still, and stays so until `tx` ends: what is written in that
    /// transaction is written by its holder.
    ///
    /// # Errors
    /// When the database cannot be reached; the transaction can then only be dropped.
    pub async fn confirm(&self, tx: &mut crate::Tx, lease: &Lease) -> Result<bool> {
        let values = vec![
            lease.name.as_str().into(),
            self.holder.as_str().into(),
            lease.epoch.into(),
        ];
        Ok(!tx.query(CONFIRM.with(values)).await?.is_empty())
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
