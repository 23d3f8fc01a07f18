//! Migrations, forward only, by owner.
//!
//! Each library owns its tables and ships their migrations under its own name, so libraries stay
//! usable alone. A migration runs once, in a transaction, and must work while the previous
//! version of the program still runs.

use std::fmt;

use ratebox_kit::Clock;

use crate::error::DENIED;
use crate::{Db, Dialect, Error, Result, Row, Sql};

/// One step of an owner's schema, in both dialects.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Counts from 1 within its owner.
    pub version: i64,
    /// What it does, in a few words.
    pub name: &'static str,
    /// The script for PostgreSQL; tables go to the schema of the settings.
    pub postgres: &'static str,
    /// The script for SQLite.
    pub sqlite: &'static str,
}

/// A migration that the database has and this program does not know: a newer one has been here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Whose migration.
    pub owner: String,
    /// Which one.
    pub version: i64,
    /// What it did, in the newer program's words.
    pub name: String,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.owner, self.version, self.name)
    }
}

const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    owner text NOT NULL,
    version bigint NOT NULL,
    name text NOT NULL,
    applied_at_us bigint NOT NULL,
    PRIMARY KEY (owner, version)
);";

const APPLIED: Sql = Sql {
    postgres: "SELECT version FROM schema_migrations WHERE owner = $1 ORDER BY version",
    sqlite: "SELECT version FROM schema_migrations WHERE owner = ?1 ORDER BY version",
};

const NAMES: Sql = Sql {
    postgres: "SELECT version, name FROM schema_migrations WHERE owner = $1 ORDER BY version",
    sqlite: "SELECT version, name FROM schema_migrations WHERE owner = ?1 ORDER BY version",
};

/// Who asks, the schema of the settings, and whether he may use it; no row while it is not there.
const SCHEMA: Sql = Sql {
    postgres: "SELECT quote_ident(current_user), quote_ident(nspname),
            has_schema_privilege(oid, 'USAGE')
        FROM pg_namespace
        WHERE nspname = trim(split_part(current_setting('search_path'), ',', 1))",
    sqlite: "SELECT '', '', true WHERE false",
};

/// Brings an owner's schema up to date; returns the versions that were applied now. Several
/// processes may call it at once: one works, the others wait.
///
/// # Errors
/// [`Error::Migration`] with the server's words; what was applied before stays.
pub async fn migrate(db: &Db, owner: &str, migrations: &[Migration]) -> Result<Vec<i64>> {
    prepare(db).await?;
    let mut done = Vec::new();
    for migration in migrations {
        if applied(db, owner).await?.contains(&migration.version) {
            continue;
        }
        match apply(db, owner, migration).await {
            Ok(()) => done.push(migration.version),
            // Another process was quicker; its transaction holds what ours would have.
            Err(_) if applied(db, owner).await?.contains(&migration.version) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The versions of an owner that the database has.
///
/// # Errors
/// When the database cannot be reached or was never migrated.
pub async fn applied(db: &Db, owner: &str) -> Result<Vec<i64>> {
    let rows = ledger(db, APPLIED, owner).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

/// The migrations of an owner that the database has and `migrations` does not hold, in order.
///
/// # Errors
/// As [`applied`].
pub async fn unknown(db: &Db, owner: &str, migrations: &[Migration]) -> Result<Vec<Unknown>> {
    let mut unknown = Vec::new();
    for row in ledger(db, NAMES, owner).await? {
        let version: i64 = row.get(0)?;
        if migrations.iter().all(|it| it.version != version) {
            unknown.push(Unknown {
                owner: owner.to_owned(),
                version,
                name: row.get(1)?,
            });
        }
    }
    Ok(unknown)
}

/// Whether the user may use the schema of the settings, if it is there. Without that right
/// PostgreSQL speaks of tables that do not exist, or of no schema at all.
///
/// # Errors
/// [`Error::Refused`] with what to grant, or when the database cannot be reached.
pub async fn check_schema(db: &Db) -> Result<()> {
    if db.dialect() == Dialect::Sqlite {
        return Ok(());
    }
    for row in db.query(SCHEMA).await? {
        if !row.get::<bool>(2)? {
            let (user, schema): (String, String) = (row.get(0)?, row.get(1)?);
            let said = format!(
                "the user {user} has no USAGE on schema {schema}: \
                 GRANT USAGE ON SCHEMA {schema} TO {user}"
            );
            return Err(Error::Refused {
                code: DENIED.to_owned(),
                said: Some(said),
            });
        }
    }
    Ok(())
}

async fn ledger(db: &Db, statement: Sql, owner: &str) -> Result<Vec<Row>> {
    let asked = db.query(statement.with(vec![owner.into()])).await;
    if matches!(&asked, Err(error) if !error.is_outage()) {
        // It may only look as if there were no such table.
        check_schema(db).await?;
    }
    asked
}

async fn prepare(db: &Db) -> Result<()> {
    check_schema(db).await?;
    match db.dialect() {
        Dialect::Postgres => {
            // Two processes that create the same schema at once collide even with IF NOT EXISTS.
            // And IF NOT EXISTS asks for the right to create first.
            let schema = "DO $$ DECLARE
                    name text := trim(split_part(current_setting('search_path'), ',', 1));
                BEGIN PERFORM pg_advisory_xact_lock(7261746562);
                IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = name) THEN
                    EXECUTE format('CREATE SCHEMA %I', name);
                END IF;
                IF to_regclass('schema_migrations') IS NULL THEN";
            let script = format!("{schema} {CREATE_TABLE} END IF; END $$;");
            db.script(script).await
        }
        Dialect::Sqlite => db.script(CREATE_TABLE.to_owned()).await,
    }
}

async fn apply(db: &Db, owner: &str, migration: &Migration) -> Result<()> {
    let mark = format!(
        "INSERT INTO schema_migrations (owner, version, name, applied_at_us)
         VALUES ('{owner}', {}, '{}', {});",
        migration.version,
        migration.name.replace('\'', "''"),
        Clock::system().now().as_microsecond(),
    );
    let script = match db.dialect() {
        Dialect::Postgres => format!(
            "BEGIN; SELECT pg_advisory_xact_lock(7261746562); {mark} {} ; COMMIT;",
            migration.postgres
        ),
        Dialect::Sqlite => format!("BEGIN IMMEDIATE; {mark} {} ; COMMIT;", migration.sqlite),
    };
    let Err(error) = db.script(script).await else {
        return Ok(());
    };
    let what = match error {
        Error::Settings { what } => what,
        other => other.to_string(),
    };
    Err(Error::Migration {
        owner: owner.to_owned(),
        version: migration.version,
        what,
    })
}
