//! A worker over a fresh database, and a broker that remembers.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ratebox_intake::Rules;
use ratebox_kit::{Clock, Secret, Tasks};
use ratebox_outbox::{Broker, Outbox, Outgoing, PublishError};
use ratebox_store::{Db, Store};
use ratebox_stream::{Entry, EntryId, Handler, Lane, Outcome, StreamName};
use ratebox_testkit::{PostgresServer, TempDir, unique_name};
use ratebox_worker::{AnswerStreams, LookupCaches, Settings, Worker};

/// Takes every message.
#[derive(Default)]
pub(crate) struct Answers(Mutex<Vec<Outgoing>>);

#[async_trait]
impl Broker for Answers {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let answers = messages.iter().map(|_| Ok(())).collect();
        self.0.lock().unwrap().extend(messages);
        answers
    }
}

pub(crate) struct Bench {
    pub(crate) name: &'static str,
    pub(crate) store: Store,
    pub(crate) worker: Worker,
    pub(crate) answers: Arc<Answers>,
    tasks: Tasks,
    _folder: TempDir,
}

impl Bench {
    async fn new(name: &'static str, db: Db, folder: TempDir) -> Self {
        let store = Store::new(db.clone(), Clock::system());
        ratebox_db::migrate(&db, ratebox_outbox::OWNER, ratebox_outbox::MIGRATIONS)
            .await
            .unwrap();
        store.migrate().await.unwrap();
        let answers = Arc::new(Answers::default());
        let settings = ratebox_outbox::Settings::default();
        let tasks = Tasks::new();
        let outbox = Outbox::new(db, answers.clone(), settings, &tasks);
        let settings = Settings {
            stream: "raw_items".to_owned(),
            group: "workers".to_owned(),
            consumer: "one".to_owned(),
            rules: Rules::default(),
            foreign_owner: "bus".to_owned(),
            answers: AnswerStreams::default(),
        };
        Self {
            name,
            worker: Worker::new(store.clone(), outbox, settings),
            store,
            answers,
            tasks,
            _folder: folder,
        }
    }

    /// One on each database.
    pub(crate) async fn both() -> [Self; 2] {
        let (folder, unused) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let file = ratebox_db::SqliteSettings::new(folder.path().join("test.db"));
        let dsn = PostgresServer::shared()
            .unwrap()
            .create_database(&unique_name("worker"))
            .unwrap();
        let server = ratebox_db::PostgresSettings::new(Secret::new(dsn));
        [
            Self::new("SQLite", Db::sqlite(&file).unwrap(), folder).await,
            Self::new("PostgreSQL", Db::postgres(&server).unwrap(), unused).await,
        ]
    }

    /// The same, telling caches of look-ups.
    pub(crate) fn with_lookups(self, caches: Arc<dyn LookupCaches>) -> Self {
        Self {
            worker: self.worker.with_lookups(caches, &self.tasks),
            ..self
        }
    }

    /// Hands entries over; all must be done.
    pub(crate) async fn handle(&self, entries: Vec<Entry>) {
        let count = entries.len();
        let outcomes = self.worker.handle(entries).await;
        assert_eq!(outcomes.len(), count, "{}", self.name);
        for outcome in outcomes {
            assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        }
    }

    pub(crate) fn answered(&self) -> usize {
        self.answers.0.lock().unwrap().len()
    }

    /// Duplicates that the worker says it suppressed.
    pub(crate) async fn suppressed(&self) -> u64 {
        let told = "SELECT CAST(sum(messages_suppressed) AS bigint) FROM stream_consumer_stats";
        self.count(told).await
    }

    pub(crate) async fn count(&self, sql: &'static str) -> u64 {
        let rows = self.store.db().query(ratebox_db::Sql::both(sql)).await;
        rows.unwrap()[0].get(0).unwrap()
    }
}

/// A message of a foreign producer.
pub(crate) fn entry(number: u64) -> Entry {
    let data = format!(
        r#"{{"phone":"0912345{:03}","bank_account":"1234567890","email":"a{number}@b.vn","name":"An"}}"#,
        number % 1000
    );
    Entry {
        stream: StreamName::new("raw_items"),
        lane: Lane::Normal,
        id: EntryId::new(1_763_700_000_000 + number, 0),
        deliveries: 1,
        fields: vec![
            ("data".into(), data.into()),
            ("source".into(), "extension".into()),
        ],
    }
}
