//! The databases that every test of this crate runs on, with the crate's tables.

use ratebox_db::{Db, Leases, PostgresSettings, SqliteSettings, migrate};
use ratebox_kit::Secret;
use ratebox_outbox::{MIGRATIONS, OWNER};
use ratebox_testkit::{PostgresServer, TempDir, unique_name};

/// A fresh database of each kind. The folder must outlive the handle.
pub(crate) struct Fresh {
    pub(crate) name: &'static str,
    pub(crate) db: Db,
    /// Where it is, for [`scratch::open`] in another process.
    pub(crate) place: String,
    _folder: Option<TempDir>,
}

pub(crate) async fn both() -> Vec<Fresh> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("test.db").display().to_string();
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("outbox"))
        .unwrap();
    let (sqlite, postgres) = (scratch::open(&file), scratch::open(&dsn));
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
            place: file,
            _folder: Some(folder),
        },
        Fresh {
            name: "PostgreSQL",
            db: postgres,
            place: dsn,
            _folder: None,
        },
    ]
}

impl Fresh {
    /// The same PostgreSQL as a user who reads and writes rows, and makes no tables.
    pub(crate) async fn as_guest(&self) -> Db {
        let role = unique_name("guest");
        let grants = format!(
            "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA ratebox TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ratebox TO {role};"
        );
        self.db.script(grants).await.unwrap();
        let (before, after) = self.place.split_once("//").unwrap();
        let (_, host) = after.split_once('@').unwrap();
        scratch::open(&format!("{before}//{role}@{host}"))
    }
}

pub(crate) mod scratch {
    use super::*;

    /// A database by its DSN or file.
    pub(crate) fn open(place: &str) -> Db {
        if place.starts_with("postgres") {
            let settings = PostgresSettings::new(Secret::new(place.to_owned()));
            Db::postgres(&settings).unwrap()
        } else {
            Db::sqlite(&SqliteSettings::new(place)).unwrap()
        }
    }
}
