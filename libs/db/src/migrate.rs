//! Migrations, forward only, by owner.
//!
//! Each library owns its tables and ships their migrations under its own name, so libraries stay
//! usable alone. A migration runs once, in a transaction, and must work while the previous
//! version of the program still runs.

use ratebox_kit::Clock;

use crate::{Db, Dialect, Error, Result, Sql};

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
    let rows = db.query(APPLIED.with(vec![owner.into()])).await?;
    rows.iter().map(|row| row.get(0)).collect()
}

async fn prepare(db: &Db) -> Result<()> {
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
