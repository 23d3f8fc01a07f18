//! A table of effects for handlers under test, in both databases.

use std::sync::Arc;

use async_trait::async_trait;
use ratebox_db::{Db, Leases, Migration, PostgresSettings, Sql, SqliteSettings, migrate};
use ratebox_kit::{Clock, Secret, Tasks};
use ratebox_outbox::{Broker, Inbox, Outbox, Outgoing, PublishError};
use ratebox_stream::handler::{Effects, Failure, IntoFailure, Tx};
use ratebox_stream::layers::SqlResults;
use ratebox_stream::{Append, Log, MemoryLog, StreamName};
use ratebox_testkit::{PostgresServer, TempDir, unique_name};

const EFFECTS: &[Migration] = &[Migration {
    version: 1,
    name: "effects",
    postgres: "CREATE TABLE effects (number bigint NOT NULL)",
    sqlite: "CREATE TABLE effects (number INTEGER NOT NULL)",
}];

const ADD: Sql = Sql {
    postgres: "INSERT INTO effects (number) VALUES ($1)",
    sqlite: "INSERT INTO effects (number) VALUES (?1)",
};

/// A fresh database with inbox, outbox, answers and effects. The folder must outlive the handle.
pub(crate) struct Fresh {
    pub(crate) name: &'static str,
    pub(crate) db: Db,
    _folder: Option<TempDir>,
}

pub(crate) async fn both() -> Vec<Fresh> {
    let folder = TempDir::new().unwrap();
    let sqlite = Db::sqlite(&SqliteSettings::new(folder.path().join("test.db"))).unwrap();
    let server = PostgresServer::shared().unwrap();
    let dsn = server.create_database(&unique_name("handlers")).unwrap();
    let postgres = Db::postgres(&PostgresSettings::new(Secret::new(dsn))).unwrap();
    for db in [&sqlite, &postgres] {
        tables(db).await;
        for statement in SqlResults::STATEMENTS {
            db.prepare(statement).await.unwrap();
        }
    }
    let fresh = |name, db, folder| Fresh {
        name,
        db,
        _folder: folder,
    };
    vec![
        fresh("SQLite", sqlite, Some(folder)),
        fresh("PostgreSQL", postgres, None),
    ]
}

async fn tables(db: &Db) {
    migrate(db, Leases::OWNER, Leases::MIGRATIONS)
        .await
        .unwrap();
    migrate(db, ratebox_outbox::OWNER, ratebox_outbox::MIGRATIONS)
        .await
        .unwrap();
    migrate(db, "test", EFFECTS).await.unwrap();
    SqlResults::migrate(db).await.unwrap();
}

/// A server of one's own that can be killed, with the tables.
pub(crate) async fn killable() -> (PostgresServer, Fresh) {
    let server = PostgresServer::start().unwrap();
    let settings = PostgresSettings::new(Secret::new(server.dsn()));
    let db = Db::postgres(&settings).unwrap();
    tables(&db).await;
    let fresh = Fresh {
        name: "PostgreSQL",
        db,
        _folder: None,
    };
    (server, fresh)
}

impl Fresh {
    /// What a program joins, on a log in memory for everything that is sent.
    pub(crate) fn effects(&self, tasks: &Tasks) -> (Effects, Arc<dyn Log>) {
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(Clock::system()));
        let broker = Arc::new(LogBroker(Arc::clone(&log)));
        let outbox = Outbox::new(
            self.db.clone(),
            broker,
            ratebox_outbox::Settings::default(),
            tasks,
        );
        let effects = Effects::new(self.db.clone(), Inbox::new("billing", "orders"))
            .with_outbox(outbox)
            .with_answers(SqlResults::new("billing"), Arc::clone(&log));
        (effects, log)
    }

    pub(crate) async fn effects_so_far(&self) -> i64 {
        let rows = self
            .db
            .query(Sql::both("SELECT count(*) FROM effects"))
            .await
            .unwrap();
        rows[0].get(0).unwrap()
    }

    pub(crate) async fn rows_waiting(&self) -> u64 {
        ratebox_outbox::Relay::pending(&self.db).await.unwrap()
    }
}

/// The effect of a handler.
pub(crate) async fn add(tx: &mut Tx, number: i64) -> Result<(), Failure> {
    let added = tx.execute(ADD.with(vec![number.into()])).await;
    added.map(drop).map_err(IntoFailure::into_failure)
}

/// Publishes events onto a log, as a program joins outbox and stream.
struct LogBroker(Arc<dyn Log>);

#[async_trait]
impl Broker for LogBroker {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let append = |it: Outgoing| Append::new(StreamName::new(it.topic), it.message);
        let appends: Vec<Append> = messages.into_iter().map(append).collect();
        let answers = self.0.append(&appends).await.into_iter();
        let answer = |it: Result<_, ratebox_stream::Error>| {
            it.map(drop)
                .map_err(|error| PublishError::Down(error.to_string()))
        };
        answers.map(answer).collect()
    }
}
