//! SQLite: one writer thread with group commit, and a pool of readers.

mod bind;
mod reader;
mod writer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use self::reader::Readers;
pub(crate) use self::writer::SqliteTx;
use self::writer::Writer;
use crate::{Committed, Error, Result, Row, Statement};

/// Where the file is and how many may read it at once.
#[derive(Clone, Debug)]
pub struct SqliteSettings {
    /// The database file; `None` keeps everything in memory, for tests.
    pub path: Option<PathBuf>,
    /// Connections that read at the same time.
    pub readers_max: usize,
    /// How long to wait for another process that writes the same file.
    pub busy_timeout: Duration,
}

impl SqliteSettings {
    /// Defaults for a file: 4 readers, 5 s of patience.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            ..Self::memory()
        }
    }

    /// A database that lives as long as its handle.
    pub fn memory() -> Self {
        Self {
            path: None,
            readers_max: 4,
            busy_timeout: Duration::from_secs(5),
        }
    }

    fn open(&self, name: &str) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let opened = match &self.path {
            Some(path) => Connection::open_with_flags(path, flags),
            None => Connection::open_with_flags(name, flags),
        };
        let connection = opened.map_err(|error| Error::Connection {
            what: match &self.path {
                Some(path) => format!("cannot open {}: {error}", path.display()),
                None => error.to_string(),
            },
        })?;
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(256);
        // FULL: a commit is on disk before it is answered. WAL: readers never wait for the writer.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA temp_store = MEMORY; PRAGMA cache_size = -8000;",
        )?;
        Ok(connection)
    }
}

/// The threads behind [`crate::Db`].
#[derive(Debug)]
pub(crate) struct Sqlite {
    writer: Writer,
    readers: Readers,
    /// Connections that share a database in memory lock each other's tables and fail at once, so
    /// there the writer reads as well.
    is_in_memory: bool,
}

impl Sqlite {
    pub(crate) fn open(settings: &SqliteSettings) -> Result<Self> {
        static MEMORIES: AtomicU64 = AtomicU64::new(0);
        let number = MEMORIES.fetch_add(1, Ordering::Relaxed);
        let name = format!("file:ratebox-{number}?mode=memory&cache=shared");
        let writer = Writer::start(settings.open(&name)?)?;
        let readers = Readers::new(settings.clone(), name);
        Ok(Self {
            writer,
            readers,
            is_in_memory: settings.path.is_none(),
        })
    }

    pub(crate) async fn begin(&self) -> Result<SqliteTx> {
        self.writer.begin().await
    }

    pub(crate) async fn run(&self, statements: Vec<Statement>) -> Result<(Vec<u64>, Committed)> {
        self.writer.run(statements).await
    }

    pub(crate) async fn query(&self, statement: Statement) -> Result<Vec<Row>> {
        if !self.is_in_memory {
            return self.readers.query(statement).await;
        }
        let mut tx = self.writer.begin().await?;
        let rows = tx.query(statement).await?;
        tx.rollback().await?;
        Ok(rows)
    }

    pub(crate) async fn prepare(&self, text: &'static str) -> Result<()> {
        self.readers.prepare(text).await
    }

    pub(crate) async fn script(&self, text: String) -> Result<()> {
        self.writer.script(text).await
    }
}
