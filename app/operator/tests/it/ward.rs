//! A store, a bus, a consumer that fails on demand, and the operator's letters over them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_db::{Db, PostgresSettings, SqliteSettings, migrate};
use ratebox_intake::Request;
use ratebox_kit::{Clock, DeadLetterClass, Message, Secret, Tasks, id};
use ratebox_operator::{By, Letters};
use ratebox_outbox::{Broker, Inbox, Outbox, Outgoing, PublishError};
use ratebox_store::{NewRequest, Store};
use ratebox_stream::{
    Admin, Append, Consumer, ConsumerName, Entry, GroupName, Handler, Lanes, Log, Outcome, Policy,
    RedisLog, SqliteLog, Step, StreamName, Subscription,
};
use ratebox_testkit::{PostgresServer, RedisServer, TempDir, unique_name, wait_until};
use ratebox_valkey::{Settings, Valkey};
use uuid::Uuid;

/// Everything on one pair of backends.
pub(crate) struct Ward {
    pub(crate) name: &'static str,
    pub(crate) store: Store,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) admin: Arc<dyn Admin>,
    pub(crate) sub: Subscription,
    pub(crate) letters: Letters,
    pub(crate) doctor: Arc<Doctor>,
    consumer: Consumer,
    _folder: TempDir,
}

/// What the handler does with a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Fails for good, with this code.
    Refuse(&'static str),
    /// Fails in a way that may pass.
    Stumble(&'static str),
    /// Marks the inbox and is done.
    #[default]
    Cure,
}

/// A message's id and its fields.
type Cured = (String, Vec<(String, Bytes)>);

/// The handler: fails as it is told, else marks the inbox.
pub(crate) struct Doctor {
    store: Store,
    inbox: Inbox,
    mood: Mutex<Mood>,
    /// What was cured, each time.
    pub(crate) cured: Mutex<Vec<Cured>>,
}

impl Doctor {
    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

#[async_trait]
impl Handler for Doctor {
    async fn handle(&self, batch: Vec<Entry>) -> Vec<Outcome> {
        let mood = self.mood.lock().unwrap().clone();
        let mut outcomes = Vec::new();
        for entry in batch {
            outcomes.push(match &mood {
                Mood::Refuse(code) => Outcome::Dead {
                    entry,
                    class: DeadLetterClass::Permanent,
                    error: "refused on purpose".to_owned(),
                    code: (*code).to_owned(),
                },
                Mood::Stumble(code) => Outcome::Retry {
                    entry,
                    error: "stumbled on purpose".to_owned(),
                    code: (*code).to_owned(),
                },
                Mood::Cure => self.cure(entry).await,
            });
        }
        outcomes
    }
}

impl Doctor {
    async fn cure(&self, entry: Entry) -> Outcome {
        let message = entry.message_id().into_owned();
        let uuid = message.parse().unwrap_or_else(|_| foreign(&message));
        let mut tx = self.store.begin().await.unwrap();
        let fresh: HashSet<Uuid> = self.inbox.mark(&mut tx, &[uuid]).await.unwrap();
        let proof = tx.commit().await.unwrap();
        if fresh.contains(&uuid) {
            let cured = (message, owned(&entry));
            self.cured.lock().unwrap().push(cured);
        }
        Outcome::Done { entry, proof }
    }
}

/// The fields of an entry, names as texts.
pub(crate) fn owned(entry: &Entry) -> Vec<(String, Bytes)> {
    let fields = entry.fields.iter();
    fields
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect()
}

fn foreign(message: &str) -> Uuid {
    ratebox_intake::foreign_request_id(7, "s", message)
}

struct LogBroker(Arc<dyn Log>);

#[async_trait]
impl Broker for LogBroker {
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

/// The embedded backends, and servers.
pub(crate) async fn both() -> Vec<Ward> {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| SqliteSettings::new(folder.path().join(name));
    let embedded = Arc::new(
        SqliteLog::open(Db::sqlite(&file("bus.db")).unwrap(), Clock::system())
            .await
            .unwrap(),
    );
    let store = Db::sqlite(&file("store.db")).unwrap();
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("operator"))
        .unwrap();
    let postgres = Db::postgres(&PostgresSettings::new(Secret::new(dsn))).unwrap();
    let redis = RedisServer::shared().unwrap();
    let valkey = Valkey::connect(&Settings::new(redis.url())).await.unwrap();
    let server = Arc::new(RedisLog::new(valkey));
    let other = TempDir::new().unwrap();
    vec![
        ward("embedded", store, embedded.clone(), embedded, folder).await,
        ward(
            "Redis and PostgreSQL",
            postgres,
            server.clone(),
            server,
            other,
        )
        .await,
    ]
}

async fn ward(
    name: &'static str,
    db: Db,
    log: Arc<dyn Log>,
    admin: Arc<dyn Admin>,
    folder: TempDir,
) -> Ward {
    migrate(&db, ratebox_outbox::OWNER, ratebox_outbox::MIGRATIONS)
        .await
        .unwrap();
    let clock = Clock::system();
    let store = Store::new(db.clone(), clock.clone());
    store.migrate().await.unwrap();
    let tasks = Tasks::new();
    let broker = Arc::new(LogBroker(log.clone()));
    let outbox = Outbox::new(db, broker, ratebox_outbox::Settings::default(), &tasks);
    let stream = StreamName::new(unique_name("requests"));
    let sub = Subscription::new(
        Lanes::of(&stream),
        GroupName::new("g"),
        ConsumerName::new("doctor"),
    );
    log.ensure_group(&sub).await.unwrap();
    let policy = Policy {
        retry_max: 2,
        retry_backoff: ratebox_kit::Backoff {
            first: Duration::from_millis(1),
            max: Duration::from_millis(2),
        },
        block: Duration::from_millis(50),
        claim_every: Duration::from_millis(20),
        ..Policy::default()
    };
    let consumer = Consumer::new(
        log.clone(),
        Arc::new(store.clone()),
        sub.clone(),
        policy,
        clock,
    );
    let doctor = Arc::new(Doctor {
        inbox: Inbox::new("doctor", stream.as_str()),
        store: store.clone(),
        mood: Mutex::default(),
        cured: Mutex::default(),
    });
    Ward {
        letters: Letters::new(store.clone(), outbox),
        name,
        store,
        log,
        admin,
        sub,
        doctor,
        consumer,
        _folder: folder,
    }
}

impl Ward {
    /// Works until the bus owes nothing.
    pub(crate) async fn work(&self, mood: Mood) {
        self.doctor.set(mood);
        wait_until(Duration::from_secs(20), "nothing is owed", || async {
            while self.consumer.step(&*self.doctor).await.unwrap() != Step::Idle {}
            let floors = self.admin.floor(&self.sub).await.unwrap();
            floors.iter().all(|floor| floor.owed_from.is_none())
        })
        .await;
    }

    /// A request of ours, accepted and published; its id.
    pub(crate) async fn request(&self, owner: &str) -> Uuid {
        let id = id::new();
        let body = envelope(id, owner);
        let statement = self
            .store
            .insert_requests(&[NewRequest {
                id,
                owner: owner.to_owned(),
                source: "api".to_owned(),
                action: "validate",
                lane: "normal",
                profile: None,
                item_count: 1,
                external_ref: None,
                batch_id: None,
                body: body.clone(),
                accepted_at: self.store.clock().now(),
            }])
            .unwrap();
        self.store.db().execute(statement).await.unwrap();
        let message = Message::new(id.to_string(), body);
        self.append(Append::new(self.sub.lanes.base().clone(), message))
            .await;
        id
    }

    pub(crate) async fn append(&self, append: Append) {
        self.log.append(&[append]).await.remove(0).unwrap();
    }

    /// The only letter.
    pub(crate) async fn letter(&self) -> ratebox_store::LetterHead {
        let filter = ratebox_store::DeadLetterFilter {
            states: ratebox_store::LetterStates::Any,
            ..Default::default()
        };
        let mut letters = self.letters.list(&filter, 2).await.unwrap();
        assert_eq!(letters.len(), 1, "{}", self.name);
        letters.remove(0)
    }

    pub(crate) fn cured(&self) -> usize {
        self.doctor.cured.lock().unwrap().len()
    }
}

/// An envelope of ours with one item.
pub(crate) fn envelope(id: Uuid, owner: &str) -> Bytes {
    let body = br#"{"phone":"0909123456","bank_account":"12345678901"}"#;
    let submission = ratebox_intake::parse_validation(body, 10).unwrap();
    let request: Request = submission.into_request(id, owner, &ratebox_intake::Terms::default());
    Bytes::from(request.to_message())
}

pub(crate) fn by() -> By {
    By::new("cli:test", "a test").unwrap()
}
