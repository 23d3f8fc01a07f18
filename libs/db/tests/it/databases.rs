//! The databases that every test of this crate runs on.

use ratebox_db::{Db, PostgresSettings, SqliteSettings};
use ratebox_kit::Secret;
use ratebox_testkit::{PostgresServer, TempDir, unique_name};

/// A fresh database of each kind. The folder must outlive the handle.
pub(crate) struct Fresh {
    pub(crate) name: &'static str,
    pub(crate) db: Db,
    _folder: Option<TempDir>,
}

pub(crate) fn both() -> Vec<Fresh> {
    vec![sqlite(), postgres()]
}

pub(crate) fn sqlite() -> Fresh {
    let folder = TempDir::new().unwrap();
    let db = Db::sqlite(&SqliteSettings::new(folder.path().join("test.db"))).unwrap();
    Fresh {
        name: "SQLite",
        db,
        _folder: Some(folder),
    }
}

pub(crate) fn postgres() -> Fresh {
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("db"))
        .unwrap();
    // The schema that is there without a migration.
    let settings = PostgresSettings {
        schema: "public".to_owned(),
        ..PostgresSettings::new(Secret::new(dsn))
    };
    let db = Db::postgres(&settings).unwrap();
    Fresh {
        name: "PostgreSQL",
        db,
        _folder: None,
    }
}
