//! Connections for commands that look and repair: each part by itself, lazily, so that one works
//! while the other is away.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ratebox_db::{Db, SqliteSettings, Unknown};
use ratebox_kit::{Clock, Timestamp};
use ratebox_store::Store;
use ratebox_stream::{Admin, Dispatcher, Log, RedisLog, SqliteLog, StreamName};
pub use ratebox_valkey::{Ability, Appendfsync, ServerInfo};
use ratebox_valkey::{Script, Valkey};

use super::cache::{ORIGIN_FILE, WRITES_FILE};
use super::{BUS_FILE, STORE_FILE, connection, database, in_data_dir};
use crate::config::{Config, JournalPlace};

/// What to do about an embedded database that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// Make it.
    Make,
    /// Say so: whoever only looks leaves nothing behind.
    Refuse,
}

/// The bus as operators see it.
pub struct OperatorBus {
    /// For appending.
    pub log: Arc<dyn Log>,
    /// For looking.
    pub admin: Arc<dyn Admin>,
    /// For orders to consumers.
    pub dispatcher: Arc<dyn Dispatcher>,
    server: Option<Valkey>,
    file: Option<Arc<SqliteLog>>,
}

/// The store that the settings name. Nothing is asked of a server yet.
///
/// # Errors
/// When the settings do not fit, or an embedded store cannot be opened.
pub fn store(config: &Config, if_missing: IfMissing) -> Result<Store> {
    if embedded_store(config)?.is_some() {
        present(config, STORE_FILE, if_missing)?;
    }
    Ok(Store::new(database(config)?, Clock::system()))
}

/// The bus that the settings name. Nothing is asked of a server yet.
///
/// # Errors
/// When the settings do not fit, or an embedded bus cannot be opened.
pub async fn bus(config: &Config, if_missing: IfMissing) -> Result<OperatorBus> {
    if let Some(url) = config.bus.address()? {
        let valkey =
            Valkey::lazy(&connection::settings(config, &url)?).context("the bus cannot be used")?;
        let log = Arc::new(RedisLog::new(valkey.clone()));
        return Ok(OperatorBus {
            log: log.clone(),
            admin: log.clone(),
            dispatcher: log,
            server: Some(valkey),
            file: None,
        });
    }
    let path = present(config, BUS_FILE, if_missing)?;
    let db = Db::sqlite(&SqliteSettings::new(path)).context("the bus cannot be opened")?;
    let log = Arc::new(SqliteLog::open(db, Clock::system()).await?);
    Ok(OperatorBus {
        log: log.clone(),
        admin: log.clone(),
        dispatcher: log.clone(),
        server: None,
        file: Some(log),
    })
}

/// The file of the embedded bus, there or not; `None` when the bus is a server.
///
/// # Errors
/// When the file that holds the address cannot be read.
pub fn embedded_bus(config: &Config) -> Result<Option<PathBuf>> {
    let embedded = config.bus.address()?.is_none();
    Ok(embedded.then(|| config.server.data_dir.join(BUS_FILE)))
}

/// The file of the embedded store, there or not; `None` when the store is a server.
///
/// # Errors
/// When the file that holds the DSN cannot be read.
pub fn embedded_store(config: &Config) -> Result<Option<PathBuf>> {
    let embedded = config.store.dsn()?.is_none();
    Ok(embedded.then(|| config.server.data_dir.join(STORE_FILE)))
}

/// The embedded databases, those that hold messages first and those that hold what became of them
/// last: the order in which they are copied. The cache service's and a journal of sagas of its own are
/// among them where they are there.
///
/// # Errors
/// When the bus or the store is embedded and not there yet, or two files would have one name.
pub fn embedded_files(config: &Config) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if embedded_bus(config)?.is_some() {
        files.push(present(config, BUS_FILE, IfMissing::Refuse)?);
    }
    let of_cache = |file: &str| Some(config.server.data_dir.join(file)).filter(|it| it.exists());
    files.extend(of_cache(WRITES_FILE));
    // A step that the journal does not know yet is done again, and finds that it was done; one that it
    // knows too early would be passed over.
    let journal = own_journal(config)?;
    files.extend(journal.clone());
    if embedded_store(config)?.is_some() {
        files.push(present(config, STORE_FILE, IfMissing::Refuse)?);
    }
    files.extend(of_cache(ORIGIN_FILE));
    if let Some(journal) = journal {
        let namesakes = files
            .iter()
            .filter(|it| it.file_name() == journal.file_name());
        ensure!(
            namesakes.count() == 1,
            "the journal of sagas ({}) has the name of another database: give its file another one, \
             and correct saga.store_url",
            journal.display()
        );
    }
    Ok(files)
}

/// The file of the sagas' journal, when it has one of its own, beside the store's, and that is there.
///
/// # Errors
/// When the settings of the journal cannot be read.
pub fn own_journal(config: &Config) -> Result<Option<PathBuf>> {
    Ok(match config.saga.place()? {
        JournalPlace::Sqlite(file) => {
            let whole = |file: &Path| std::fs::canonicalize(file).ok();
            let store = embedded_store(config)?.and_then(|it| whole(&it));
            Some(file).filter(|it| it.exists() && whole(it) != store)
        }
        JournalPlace::Store | JournalPlace::Postgres(_) | JournalPlace::Redis(_) => None,
    })
}

/// One of these files, as it is.
///
/// # Errors
/// When it cannot be opened.
pub fn file(file: &Path) -> Result<Db, ratebox_db::Error> {
    Db::sqlite(&SqliteSettings::new(file))
}

fn present(config: &Config, file: &str, if_missing: IfMissing) -> Result<PathBuf> {
    let path = config.server.data_dir.join(file);
    if if_missing == IfMissing::Make {
        return in_data_dir(config, file);
    }
    ensure!(
        path.exists(),
        "there is no {} yet: `ratebox up` makes it, or name another folder with --data-dir or \
         servers with --redis-url and --database-url",
        path.display()
    );
    Ok(path)
}

/// What is said where tables are missing.
pub const LACKS_TABLES: &str = "the tables are missing or old; run `ratebox migrate`";

/// Whether the store failed because its tables are missing or old.
pub fn lacks_tables(error: &ratebox_store::Error) -> bool {
    matches!(error, ratebox_store::Error::Db(error) if lacks_tables_in(error))
}

/// Whether a database failed because tables are missing or old.
pub fn lacks_tables_in(error: &ratebox_db::Error) -> bool {
    /// PostgreSQL's codes for an unknown table and an unknown column, and SQLite's for both.
    const CODES: [&str; 3] = ["42P01", "42703", "1"];
    matches!(error, ratebox_db::Error::Statement { code } if CODES.contains(&code.as_str()))
}

impl OperatorBus {
    /// What the server says of itself; `None` when the bus is embedded.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn server_info(&self) -> Result<Option<ServerInfo>> {
        match &self.server {
            Some(valkey) => Ok(Some(valkey.server_info().await?)),
            None => Ok(None),
        }
    }

    /// Migrations of an embedded bus that this program does not know: a newer release has been here.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub async fn newer(&self) -> Result<Vec<Unknown>> {
        match &self.file {
            Some(log) => Ok(log.newer().await?),
            None => Ok(Vec::new()),
        }
    }

    /// What the server can do beyond what is needed; `None` when the bus is embedded or the server
    /// does not let its user ask.
    pub async fn abilities(&self) -> Option<Vec<Ability>> {
        match &self.server {
            Some(valkey) => valkey.abilities().await.ok(),
            None => None,
        }
    }

    /// The server's clock; `None` when the bus is embedded.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn server_time(&self) -> Result<Option<Timestamp>> {
        match &self.server {
            Some(valkey) => Ok(Some(valkey.server_time().await?)),
            None => Ok(None),
        }
    }

    /// Appends an entry of exactly these fields, as producers without our library do.
    ///
    /// # Errors
    /// When the bus is embedded, or the server does not take the entry.
    pub async fn append_fields(
        &self,
        stream: &StreamName,
        fields: &[(String, String)],
    ) -> Result<()> {
        let valkey = self.server.as_ref().context(
            "the embedded bus always writes a field `data`; this shape needs --redis-url",
        )?;
        let script = Script::new("return redis.call('XADD', KEYS[1], '*', unpack(ARGV))");
        let mut call = script.call().key(stream.as_str());
        for (name, value) in fields {
            call.push(name.as_str());
            call.push(value.as_str());
        }
        valkey
            .run(&call)
            .await
            .map(drop)
            .context("the bus did not take an entry")
    }
}
