//! A migrated store on each database.

use ratebox_db::{Db, PostgresSettings, SqliteSettings};
use ratebox_kit::{Clock, Secret};
use ratebox_store::Store;
use ratebox_testkit::{PostgresServer, TempDir, unique_name};

/// A fresh store of each kind. The folder must outlive the handle.
pub(crate) struct Fresh {
    pub(crate) name: &'static str,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    _folder: Option<TempDir>,
}

pub(crate) async fn both() -> Vec<Fresh> {
    let folder = TempDir::new().unwrap();
    let sqlite = Db::sqlite(&SqliteSettings::new(folder.path().join("test.db"))).unwrap();
    vec![
        Fresh {
            _folder: Some(folder),
            ..fresh("SQLite", sqlite).await
        },
        fresh("PostgreSQL", postgres()).await,
    ]
}

pub(crate) fn postgres() -> Db {
    Db::postgres(&postgres_settings()).unwrap()
}

pub(crate) fn postgres_settings() -> PostgresSettings {
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("store"))
        .unwrap();
    PostgresSettings::new(Secret::new(dsn))
}

pub(crate) async fn fresh(name: &'static str, db: Db) -> Fresh {
    let clock = Clock::manual(Clock::system().now());
    let store = Store::new(db, clock.clone());
    store.migrate().await.unwrap();
    Fresh {
        name,
        store,
        clock,
        _folder: None,
    }
}
