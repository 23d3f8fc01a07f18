//! The handle: which database, and how to reach it.

use std::path::Path;
use std::sync::Arc;

use crate::insert::Form;
use crate::postgres::Postgres;
use crate::room::Room;
use crate::sqlite::Sqlite;
use crate::{Committed, PostgresSettings, Result, Row, SqliteSettings, Statement, Tx};

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL 13 or newer.
    Postgres,
    /// SQLite 3.38 or newer; the bundled one is.
    Sqlite,
}

/// A database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Db {
    kind: Kind,
    room: Arc<Room>,
}

#[derive(Clone, Debug)]
enum Kind {
    Postgres(Arc<Postgres>),
    Sqlite(Arc<Sqlite>),
}

impl Db {
    /// Prepares a pool for PostgreSQL. Connections are made when needed, so this succeeds while
    /// the server is away; [`Db::ping`] tells.
    ///
    /// # Errors
    /// [`crate::Error::Settings`] when the DSN cannot be read.
    pub fn postgres(settings: &PostgresSettings) -> Result<Self> {
        Ok(Self::of(Kind::Postgres(Arc::new(Postgres::new(settings)?))))
    }

    /// Opens or creates a SQLite file and starts its writer thread.
    ///
    /// # Errors
    /// [`crate::Error::Connection`] when the file cannot be opened.
    pub fn sqlite(settings: &SqliteSettings) -> Result<Self> {
        Ok(Self::of(Kind::Sqlite(Arc::new(Sqlite::open(settings)?))))
    }

    fn of(kind: Kind) -> Self {
        let room = Arc::new(Room::new());
        Self { kind, room }
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        match &self.kind {
            Kind::Postgres(_) => Dialect::Postgres,
            Kind::Sqlite(_) => Dialect::Sqlite,
        }
    }

    /// Opens a transaction. Dropped without a commit, it leaves nothing behind.
    ///
    /// On SQLite it holds the one writer until it ends: never wait for anything but its own
    /// statements while it is open; after 5 s without a statement it is rolled back.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn begin(&self) -> Result<Tx> {
        match &self.kind {
            Kind::Postgres(db) => Ok(Tx::postgres(db.begin().await?)),
            Kind::Sqlite(db) => Ok(Tx::sqlite(db.begin().await?)),
        }
    }

    /// Runs statements as one transaction and commits them; returns the rows that each changed.
    /// On SQLite this joins the group commit without holding the writer.
    ///
    /// # Errors
    /// Nothing was kept unless the error is an outage, when it is unknown.
    pub async fn run(&self, statements: Vec<Statement>) -> Result<(Vec<u64>, Committed)> {
        let outcome = match &self.kind {
            Kind::Postgres(db) => match db.begin().await {
                Ok(tx) => tx.commit_after(statements).await,
                Err(error) => Err(error),
            },
            Kind::Sqlite(db) => db.run(statements).await,
        };
        self.room.note(&outcome);
        outcome
    }

    /// Runs one statement in a transaction of its own; returns the rows it changed.
    ///
    /// # Errors
    /// As [`Db::run`].
    pub async fn execute(&self, statement: impl Into<Statement>) -> Result<u64> {
        let (counts, _) = self.run(vec![statement.into()]).await?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    /// Reads rows outside any transaction.
    ///
    /// # Errors
    /// When the database cannot be reached or refuses the statement.
    pub async fn query(&self, statement: impl Into<Statement>) -> Result<Vec<Row>> {
        match &self.kind {
            Kind::Postgres(db) => db.query(statement.into()).await,
            Kind::Sqlite(db) => db.query(statement.into()).await,
        }
    }

    /// Hears what is notified on a channel, on a connection of its own; `None` on SQLite. The
    /// name goes into the statement as it is.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn listen(&self, channel: &'static str) -> Result<Option<crate::Listener>> {
        match &self.kind {
            Kind::Postgres(db) => db.listen(channel).await.map(Some),
            Kind::Sqlite(_) => Ok(None),
        }
    }

    /// Connects so many times ahead, as far as the pool goes: to make a connection takes PostgreSQL
    /// some 10 ms, which the first transactions need not wait for. SQLite has nothing to do.
    ///
    /// # Errors
    /// When the database cannot be reached; it is tried again with the first transaction.
    pub async fn warm_up(&self, connections: usize) -> Result<()> {
        match &self.kind {
            Kind::Postgres(db) => db.warm_up(connections).await,
            Kind::Sqlite(_) => Ok(()),
        }
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// When there is none. [`crate::Error::Gone`] when the file of a SQLite database was removed under
    /// it. [`crate::Error::Full`] or [`crate::Error::Refused`] when it answers, but the last [`Db::run`]
    /// of the last ten seconds found no room, or a server that takes no writes.
    pub async fn ping(&self) -> Result<()> {
        if let Kind::Sqlite(db) = &self.kind {
            db.check_file()?;
        }
        self.query(crate::Sql::both("SELECT 1")).await?;
        self.room.check()
    }

    /// Writes a sound copy of a SQLite database, as of one moment, into a file that is not there yet,
    /// whoever works on it meanwhile. What fails may leave a part of that file behind.
    ///
    /// # Errors
    /// When the copy cannot be written, or the database is damaged. [`crate::Error::Settings`] on
    /// PostgreSQL, which has tools of its own.
    pub async fn copy_to(&self, file: &Path) -> Result<()> {
        match &self.kind {
            Kind::Postgres(_) => Err(crate::Error::Settings {
                what: "a PostgreSQL is copied by pg_dump".to_owned(),
            }),
            Kind::Sqlite(db) => db.copy_to(file).await,
        }
    }

    /// What is wrong with the file of a SQLite database, all of which is read for that; nothing when
    /// it is sound, and of PostgreSQL.
    ///
    /// # Errors
    /// When it cannot be read: [`crate::Error::Damaged`] when that is for damage.
    pub async fn damage(&self) -> Result<Vec<String>> {
        match &self.kind {
            Kind::Postgres(_) => Ok(Vec::new()),
            Kind::Sqlite(db) => db.damage().await,
        }
    }

    /// Checks that the database understands a statement, without running it. For tests that
    /// prepare every statement of a crate.
    ///
    /// # Errors
    /// When it does not.
    pub async fn prepare(&self, sql: &crate::Sql) -> Result<()> {
        match &self.kind {
            Kind::Postgres(db) => db.prepare(sql.postgres).await,
            Kind::Sqlite(db) => db.prepare(sql.sqlite).await,
        }
    }

    /// As [`Db::prepare`], for all forms of an insert; its columns must be of the types that it says.
    ///
    /// # Errors
    /// When the database does not understand one of them.
    pub async fn prepare_insert(&self, insert: &'static crate::Insert) -> Result<()> {
        match &self.kind {
            Kind::Postgres(db) => db.prepare_insert(insert).await,
            Kind::Sqlite(db) => db.prepare(insert.text(Form::Row)).await,
        }
    }

    /// Runs a script of several statements outside any transaction of ours, with no limit of time:
    /// migrations and partitions only.
    ///
    /// # Errors
    /// [`crate::Error::Settings`] with the server's own words, or an outage.
    pub async fn script(&self, text: String) -> Result<()> {
        match &self.kind {
            Kind::Postgres(db) => db.script(&text).await,
            Kind::Sqlite(db) => db.script(text).await,
        }
    }
}
