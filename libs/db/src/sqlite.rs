//! SQLite: one writer thread with group commit, and a pool of readers.

mod bind;
mod file;
mod reader;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use self::file::Opened;
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
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Some(path) = &self.path else {
            let flags = flags | OpenFlags::SQLITE_OPEN_URI;
            return Ok(self.set_up(Connection::open_with_flags(name, flags)?)?);
        };
        file::make_private(path);
        Connection::open_with_flags(file::absolute(path), flags)
            .and_then(|connection| self.set_up(connection))
            .map_err(|error| Error::from(error).of(path))
    }

    fn set_up(&self, connection: Connection) -> rusqlite::Result<Connection> {
        connection.busy_timeout(self.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(256);
        // FULL: a commit is on disk before it is answered. WAL: readers never wait for the writer;
        // after a burst its file is cut back to 64 MiB, which would else stay until a clean stop.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
             PRAGMA journal_size_limit = 67108864;
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
    file: Option<Opened>,
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
            file: settings.path.as_deref().map(Opened::new),
        })
    }

    /// Whether what is written is found again under the file's name.
    pub(crate) fn check_file(&self) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), Opened::check)
    }

    pub(crate) async fn copy_to(&self, to: &Path) -> Result<()> {
        let to = to.to_path_buf();
        let copy = self.readers.with(move |it| file::copy(it, &to));
        copy.await
    }

    pub(crate) async fn damage(&self) -> Result<Vec<String>> {
        self.readers.with(file::damage).await
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
