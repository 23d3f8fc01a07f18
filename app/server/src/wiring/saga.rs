//! The journal of sagas: where it is, its tables, the operators' side of it, and engines over it.

use std::time::Duration;

use anyhow::{Context, Result};
use ratebox_db::{Db, PostgresSettings, SqliteSettings};
use ratebox_kit::{Clock, Secret};
use ratebox_operator::{JournalIn, Sagas};
use ratebox_saga::{
    Desk, Engine, EngineBuilder, EngineSettings, FolderArchive, Journal, LogListener, MIGRATIONS,
    OWNER, ParkedWatch, RedisStore, SqlStore, Time,
};
use ratebox_store::Store;
use ratebox_valkey::Valkey;

use super::Parts;
use crate::config::{Config, JournalPlace};

/// Between two looks at how many sagas are parked.
const PARKED_EVERY: Duration = Duration::from_secs(15);

/// The operators' side of the journal that the settings name.
///
/// # Errors
/// When the settings do not fit, or a database cannot be opened.
pub async fn sagas(config: &Config, store: &Store) -> Result<Sagas> {
    let (journal, place) = journal(config, store).await?;
    let desk = Desk::new(&journal, Time::clock(Clock::system()));
    Ok(Sagas::new(desk, store.clone(), place))
}

/// Measures from now on how many sagas of the journal that the settings name are parked, be their
/// engines in whatever process. A journal that is away is waited for.
pub fn watch_parked(parts: &Parts) {
    if !parts.config.saga.metrics {
        return;
    }
    let (watched, shutdown) = (parts.clone(), parts.tasks.shutdown());
    parts.tasks.spawn("parked sagas", async move {
        loop {
            let opened = Box::pin(journal(&watched.config, &watched.store));
            let opened = shutdown.unless(opened);
            match opened.await {
                None => return,
                Some(Ok((journal, _))) => {
                    let watch = ParkedWatch::new(&journal);
                    return watch.run(PARKED_EVERY, shutdown).await;
                }
                Some(Err(error)) => tracing::warn!("parked sagas cannot be counted: {error:#}"),
            }
            if !shutdown.sleep(PARKED_EVERY).await {
                return;
            }
        }
    });
}

/// The journal that the settings name: in the store's database unless they say otherwise. A
/// database of its own gets its tables here.
///
/// # Errors
/// When the settings do not fit, a database cannot be opened, or its tables cannot be made.
pub async fn journal(config: &Config, store: &Store) -> Result<(Journal, JournalIn)> {
    match config.saga.place()? {
        JournalPlace::Store => {
            let journal = Journal::new(SqlStore::new(store.db().clone()));
            Ok((journal, JournalIn::Store))
        }
        JournalPlace::Postgres(dsn) => {
            let db = Db::postgres(&PostgresSettings {
                dsn,
                ..config.store.postgres(Secret::new(""))
            });
            elsewhere(db.context("saga.store_url cannot be opened")?).await
        }
        JournalPlace::Sqlite(path) => {
            let db = Db::sqlite(&SqliteSettings::new(path));
            elsewhere(db.context("saga.store_url cannot be opened")?).await
        }
        JournalPlace::Redis(url) => {
            let settings = ratebox_valkey::Settings::new(url.reveal());
            let valkey = Valkey::lazy(&settings).context("saga.store_url cannot be used")?;
            let journal = Journal::new(RedisStore::new(valkey, "saga"));
            Ok((journal, JournalIn::Elsewhere))
        }
    }
}

/// Whether the address of a journal of its own can be read; nobody is asked anything.
///
/// # Errors
/// What cannot be read.
pub fn check(config: &Config) -> Result<()> {
    match config.saga.place()? {
        JournalPlace::Postgres(dsn) => {
            Db::postgres(&config.store.postgres(dsn)).context("saga.store_url")?;
        }
        JournalPlace::Redis(url) => {
            let settings = ratebox_valkey::Settings::new(url.reveal());
            Valkey::lazy(&settings).context("saga.store_url")?;
        }
        JournalPlace::Store | JournalPlace::Sqlite(_) => {}
    }
    Ok(())
}

/// An engine over the journal, as the settings have it, for the process of this name: register
/// definitions, then start it.
///
/// # Errors
/// When the folder of the archive cannot be made.
pub fn engine(config: &Config, journal: &Journal, process: String) -> Result<EngineBuilder> {
    let saga = &config.saga;
    let settings = EngineSettings {
        process,
        ..saga.engine()
    };
    let mut engine = Engine::builder(journal).settings(settings);
    if !saga.archive_dir.is_empty() {
        let archive = FolderArchive::new(&saga.archive_dir);
        engine = engine.archive(archive.context("saga.archive_dir cannot be made")?);
    }
    if saga.logging {
        engine = engine.listen(LogListener);
    }
    Ok(engine)
}

async fn elsewhere(db: Db) -> Result<(Journal, JournalIn)> {
    ratebox_db::migrate(&db, OWNER, MIGRATIONS)
        .await
        .context("migrating the tables of saga")?;
    Ok((Journal::new(SqlStore::new(db)), JournalIn::Elsewhere))
}

/// Whether the journal failed because its tables are missing or old.
pub fn lacks_tables(error: &ratebox_saga::Error) -> bool {
    match error {
        ratebox_saga::Error::Db(error) => super::operator::lacks_tables_in(error),
        _ => false,
    }
}
