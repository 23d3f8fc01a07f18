//! A store, a bus in memory, a worker that judges when it is told to, and processes with an engine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_db::{Db, PostgresSettings, Sql, SqliteSettings};
use ratebox_imports::{Desk, Import, Settings, Starter};
use ratebox_intake::{Cut, Part, Rules, Terms, parse_bulk};
use ratebox_kit::{Clock, Secret, Tasks, id};
use ratebox_outbox::{Broker, Event, Inbox, Outbox, Outgoing, PublishError, Relay, RelaySettings};
use ratebox_saga::{Engine, EngineSettings, Journal, Saga, SagaId, SqlStore};
use ratebox_store::{ImportStatus, NewImport, NewPart, NewRequest, State, Store};
use ratebox_stream::{
    Admin as _, Append, Entry, EntryId, Handler, Lane, Lanes, Log as _, MemoryLog, Outcome,
    StreamName,
};
use ratebox_testkit::{PostgresServer, TempDir, unique_name, wait_for, wait_until};
use ratebox_worker::{AnswerStreams, INBOX, Worker};
use serde_json::{Value, json};
use uuid::Uuid;

/// Patience of every wait.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// One world on one database.
pub(crate) struct Bed {
    pub(crate) name: &'static str,
    pub(crate) store: Store,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) worker: Arc<Worker>,
    pub(crate) tasks: Tasks,
    outbox: Outbox,
    _folder: TempDir,
}

/// What a process does for imports.
pub(crate) struct Process {
    pub(crate) engine: Engine,
    pub(crate) saga: Saga<Import>,
    pub(crate) starter: Starter,
}

/// How an import is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Together with its requests.
    AtOnce,
    /// As it came.
    AsItCame,
}

impl Bed {
    async fn new(name: &'static str, db: Db, folder: TempDir) -> Self {
        for (owner, migrations) in [
            (ratebox_outbox::OWNER, ratebox_outbox::MIGRATIONS),
            (ratebox_saga::OWNER, ratebox_saga::MIGRATIONS),
        ] {
            ratebox_db::migrate(&db, owner, migrations).await.unwrap();
        }
        let store = Store::new(db.clone(), Clock::system());
        store.migrate().await.unwrap();
        let (log, tasks) = (Arc::new(MemoryLog::new(Clock::system())), Tasks::new());
        let broker = Arc::new(Bus(Arc::clone(&log)));
        let outbox = ratebox_outbox::Settings {
            pre_lease: Duration::from_secs(1),
            ..ratebox_outbox::Settings::default()
        };
        let outbox = Outbox::new(db.clone(), Arc::clone(&broker) as _, outbox, &tasks);
        // What a dead process did not publish.
        let settings = RelaySettings::default();
        let relay = Relay::new(db, broker, "relay", settings, outbox.wake());
        tasks.spawn("relay", relay.run(tasks.shutdown()));
        let settings = ratebox_worker::Settings {
            stream: "requests".to_owned(),
            group: "workers".to_owned(),
            consumer: "one".to_owned(),
            rules: Rules::default(),
            foreign_owner: "bus".to_owned(),
            answers: AnswerStreams::default(),
        };
        let worker = Arc::new(Worker::new(store.clone(), outbox.clone(), settings));
        Self {
            name,
            store,
            log,
            worker,
            tasks,
            outbox,
            _folder: folder,
        }
    }

    /// One on SQLite alone.
    pub(crate) async fn sqlite() -> Self {
        let folder = TempDir::new().unwrap();
        let file = SqliteSettings::new(folder.path().join("test.db"));
        Self::new("SQLite", Db::sqlite(&file).unwrap(), folder).await
    }

    /// One on each database.
    pub(crate) async fn both() -> [Self; 2] {
        let (folder, unused) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let file = SqliteSettings::new(folder.path().join("test.db"));
        let server = PostgresServer::shared().unwrap();
        let dsn = server.create_database(&unique_name("imports")).unwrap();
        let server = PostgresSettings::new(Secret::new(dsn));
        [
            Self::new("SQLite", Db::sqlite(&file).unwrap(), folder).await,
            Self::new("PostgreSQL", Db::postgres(&server).unwrap(), unused).await,
        ]
    }

    /// The journal's store.
    pub(crate) fn sagas(&self) -> SqlStore {
        SqlStore::new(self.store.db().clone()).with_outbox(self.outbox.clone())
    }

    /// Starts what a process does, but for the starter, which tests call.
    pub(crate) fn process(&self) -> Process {
        self.process_on(self.sagas(), EngineSettings::default())
    }

    /// The saga alone.
    pub(crate) fn saga(&self) -> Saga<Import> {
        let settings = Settings {
            lanes: lanes(),
            responses: "importer_responses".to_owned(),
            tells_owner: false,
            look_every: Duration::from_millis(50),
            follow_every: Duration::from_millis(100),
        };
        let inbox = Inbox::new(INBOX, "requests");
        let shutdown = self.tasks.shutdown();
        let desk = Arc::new(Desk::new(self.store.clone(), inbox, settings, shutdown));
        desk.saga().unwrap()
    }

    /// As [`Bed::process`], on a journal of one's own making.
    pub(crate) fn process_on(
        &self,
        store: impl ratebox_saga::Store + 'static,
        engine: EngineSettings,
    ) -> Process {
        let saga = self.saga();
        let engine = Engine::builder(&Journal::new(store)).settings(engine);
        let engine = engine.register(&saga);
        let engine = engine.start(&self.tasks).unwrap();
        let starter = Starter::new(
            self.store.clone(),
            engine.clone(),
            saga.clone(),
            Arc::default(),
            Duration::from_millis(50),
        );
        Process {
            engine,
            saga,
            starter,
        }
    }

    /// Takes an import as a gateway does.
    pub(crate) async fn take(&self, datasets: &Value, taken: Taken) -> Uuid {
        let body = Bytes::from(json!({ "datasets": datasets }).to_string());
        let import = id::new();
        let cut = Cut {
            import,
            owner: "ann",
            defaults: &Terms::of_importer(None),
            traceparent: None,
            items_max: ratebox_intake::ITEMS_MAX,
        };
        let parts = cut.parts(parse_bulk(&body, 100, 1_000_000).unwrap());
        let new = NewImport {
            id: import,
            owner: "ann".to_owned(),
            item_count: parts.iter().map(items).sum(),
            body: (taken == Taken::AsItCame).then_some(body),
            profile: None,
            traceparent: None,
            accepted_at: self.store.clock().now(),
            parts: parts.iter().map(new_part).collect(),
        };
        let mut statements = self.store.insert_imports(&[&new]).unwrap();
        let mut events = Vec::new();
        if taken == Taken::AtOnce {
            let mut rows = Vec::new();
            for part in &parts {
                let envelope = Bytes::from(part.request.to_message());
                let id = part.request.request_id;
                events.push(Event::with_id(id, "{requests}:low", envelope.clone()));
                rows.push(NewRequest::of(&part.request, envelope));
            }
            statements.push(self.store.insert_requests(&rows).unwrap());
        }
        let (added, staged) = self.outbox.stage(events).unwrap();
        if taken == Taken::AtOnce {
            statements.push(added);
        }
        let (_, proof) = self.store.db().run(statements).await.unwrap();
        self.outbox.publish(staged, &proof).await;
        import
    }

    /// Requests that were published so far.
    pub(crate) async fn published(&self) -> Vec<Entry> {
        self.entries("{requests}:low").await
    }

    pub(crate) async fn entries(&self, stream: &str) -> Vec<Entry> {
        let stream = StreamName::new(stream);
        self.log.peek(&stream, EntryId::MIN, 10_000).await.unwrap()
    }

    pub(crate) async fn published_are(&self, count: usize) {
        self.published_at_least(count).await;
        assert_eq!(self.published().await.len(), count, "{}", self.name);
    }

    pub(crate) async fn published_at_least(&self, count: usize) {
        wait_until(SOON, "the requests are published", || async {
            self.published().await.len() >= count
        })
        .await;
    }

    /// The entries of an import's requests, in their order and each once, as soon as all are published.
    ///
    /// Acceptance does not promise them: where it takes long, the relay publishes, in an order of its own.
    pub(crate) async fn requests_of(&self, import: Uuid) -> Vec<Entry> {
        let parts = self.status(import).await.parts;
        let ids: Vec<String> = parts.iter().map(|it| it.request_id.to_string()).collect();
        wait_for(SOON, "an import's requests are published", || async {
            let mut published = self.published().await;
            let mut of = |id: &String| {
                let is_it = |it: &Entry| it.field("rb-id").is_some_and(|it| it == id.as_bytes());
                let at = published.iter().position(is_it)?;
                Some(published.swap_remove(at))
            };
            ids.iter().map(&mut of).collect()
        })
        .await
    }

    /// Has the worker judge entries; all are done with.
    pub(crate) async fn judge(&self, entries: Vec<Entry>) {
        for outcome in self.worker.handle(entries).await {
            assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
        }
    }

    pub(crate) async fn status(&self, import: Uuid) -> ImportStatus {
        self.store.import_report(import).await.unwrap().unwrap()
    }

    /// Waits for the end of an import.
    pub(crate) async fn ended(&self, import: Uuid) -> ImportStatus {
        let what = format!("an import ends on {}", self.name);
        wait_for(SOON, &what, || async {
            let status = self.status(import).await;
            status.state.is_terminal().then_some(status)
        })
        .await
    }

    /// Waits for the message that tells the end of an import; there is one.
    pub(crate) async fn told(&self, import: Uuid) -> Value {
        wait_for(SOON, "the end is told", || async {
            let entries = self.entries("importer_responses").await;
            let told = entries
                .iter()
                .filter_map(|entry| Some((entry.field("rb-id")?.clone(), entry.field("data")?)));
            let mut told: Vec<(Bytes, Value)> = told
                .map(|(id, body)| (id, serde_json::from_slice(body).unwrap()))
                .filter(|(_, it): &(Bytes, Value)| it["import_id"] == json!(import))
                .collect();
            // The bus may have a message twice, under one id.
            told.dedup_by(|a, b| a.0 == b.0);
            assert!(told.len() <= 1, "told twice");
            told.pop().map(|(_, it)| it)
        })
        .await
    }

    pub(crate) async fn count(&self, sql: &'static str) -> u64 {
        let rows = self.store.db().query(Sql::both(sql)).await;
        rows.unwrap()[0].get(0).unwrap()
    }

    /// Every published request was judged once or cancelled; nothing is left open.
    pub(crate) async fn is_whole(&self, import: Uuid) {
        let status = self.ended(import).await;
        let judged: u32 = status
            .parts
            .iter()
            .map(|part| part.done + part.failed)
            .sum();
        let of = |state: fn(State) -> bool| -> u32 {
            let parts = status.parts.iter().filter(|part| state(part.state));
            parts.map(|part| part.item_count).sum()
        };
        assert_eq!(judged, of(State::has_verdict), "{}", self.name);
        let cancelled = of(|state| state == State::Cancelled);
        assert_eq!(judged + cancelled, status.item_count, "{}", self.name);
        let items = self.count("SELECT count(*) FROM raw_items").await;
        assert_eq!(items, u64::from(judged), "{}", self.name);
    }
}

impl Process {
    /// The saga that looks after an import.
    pub(crate) async fn saga_of(&self, import: Uuid) -> SagaId {
        let key = import.to_string();
        let found = self.engine.find(ratebox_imports::NAME, &key).await;
        found.unwrap().unwrap()
    }
}

pub(crate) fn lanes() -> Lanes {
    Lanes::of(&StreamName::new("requests"))
}

/// A dataset of `n` items, of which every third has no bank account.
pub(crate) fn dataset(name: &str, n: usize) -> Value {
    let item = |i: usize| match i % 3 {
        2 => json!({"phone": "0912345678"}),
        _ => json!({"phone": "0912345678", "bank_account": "12345678901"}),
    };
    json!({"id": name, "items": (0..n).map(item).collect::<Vec<_>>()})
}

fn items(part: &Part) -> u32 {
    u32::try_from(part.request.items.len()).unwrap()
}

fn new_part(part: &Part) -> NewPart {
    NewPart {
        number: part.number,
        request_id: part.request.request_id,
        dataset_no: part.dataset,
        dataset: part.request.batch_id.clone().unwrap(),
        source: part.request.source.clone(),
        item_count: items(part),
    }
}

/// Publishes to the log.
struct Bus(Arc<MemoryLog>);

#[async_trait]
impl Broker for Bus {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let append = |it: Outgoing| Append::carried(StreamName::new(it.topic), it.message);
        let appends: Vec<Append> = messages.into_iter().map(append).collect();
        let answers = self.0.append(&appends).await;
        let down = |error: ratebox_stream::Error| PublishError::Down(error.to_string());
        answers
            .into_iter()
            .map(|it| it.map(drop).map_err(down))
            .collect()
    }
}

/// The low lane is where imports go.
#[test]
fn imports_go_to_the_low_lane() {
    assert_eq!(lanes().stream(Lane::Low).as_str(), "{requests}:low");
}
