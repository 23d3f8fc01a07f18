//! The databases that every test of this crate runs on, with the crate's tables.

use ratebox_db::{Db, Leases, PostgresSettings, SqliteSettings, migrate};
use ratebox_kit::Secret;
use ratebox_outbox::{MIGRATIONS, OWNER};
use ratebox_testkit::{PostgresServer, TempDir, unique_name};

/// A fresh database of each kind. The folder must outlive the handle.
pub(crate) struct Fresh {
    pub(crate) name: &'static str,
    pub(crate) db: Db,
    _folder: Option<TempDir>,
}

pub(crate) async fn both() -> Vec<Fresh> {
    let folder = TempDir::new().unwrap();
    let sqlite = Db::sqlite(&SqliteSettings::new(folder.path().join("test.db"))).unwrap();
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("outbox"))
        .unwrap();
    let postgres = Db::postgres(&PostgresSettings::new(Secret::new(dsn))).unwrap();
    for db in [&sqlite, &postgres] {
        migrate(db, Leases::OWNER, Leases::MIGRATIONS)
            .await
            .unwrap();
        migrate(db, OWNER, MIGRATIONS).await.unwrap();
    }
    vec![
        Fresh {
            name: "SQLite",
            db: sqlite,
            _folder: Some(folder),
        },
        Fresh {
            name: "PostgreSQL",
            db: postgres,
            _folder: None,
        },
    ]
}
