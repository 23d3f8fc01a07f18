//! A gateway on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ratebox_cache::Tier;
use ratebox_db::{Db, SqliteSettings, migrate};
use ratebox_gateway::{Deps, Gateway, Health, IdempotencyKeys, LookupDeps, Settings, bind, serve};
use ratebox_intake::Rules;
use ratebox_kit::{Clock, Tasks, Timestamp};
use ratebox_operator::{JournalIn, Sagas};
use ratebox_outbox::Outbox;
use ratebox_saga::{Desk, Journal, SqlStore, Time};
use ratebox_store::{NewToken, Store};
use ratebox_stream::{Admin, Dispatcher, Lanes, MemoryLog, RedisLog, StreamName};
use ratebox_testkit::{HttpClient, wait_until};
use tokio::net::TcpStream;

use crate::bus::{Bus, BusBroker};

pub(crate) const VALIDATE: &str = "/api/validation/validate";
pub(crate) const BATCH: &str = "/api/validation/batch";
pub(crate) const IMPORT: &str = "/api/importer/import";
pub(crate) const BULK: &str = "/api/importer/bulk";
pub(crate) const STATUS: &str = "/api/validation/status/";
pub(crate) const IMPORT_STATUS: &str = "/api/importer/status/";
pub(crate) const IMPORT_CANCEL: &str = "/api/importer/cancel/";
/// A body that is taken.
pub(crate) const ITEM: &str = r#"{"phone":"0909123456","bank_account":"12345678901"}"#;

pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    pub(crate) bus: Arc<Bus>,
    pub(crate) lanes: Lanes,
    pub(crate) tasks: Tasks,
    /// Of sagas.
    pub(crate) journal: Journal,
}

/// What a test changes before the door opens.
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) health: Health,
    pub(crate) keys: Option<Arc<dyn IdempotencyKeys>>,
    pub(crate) clock: Clock,
    pub(crate) lookups: LookupDeps,
    pub(crate) limiter: Option<ratebox_cache::Limiter>,
    /// Where operators look and order, in place of the log in memory.
    pub(crate) redis: Option<Arc<RedisLog>>,
    /// A file instead of memory.
    pub(crate) database: SqliteSettings,
}

impl Plan {
    fn operators(&self, bus: &Arc<Bus>) -> (Arc<dyn Admin>, Arc<dyn Dispatcher>) {
        match &self.redis {
            Some(log) => (log.clone(), log.clone()),
            None => (bus.clone(), Arc::new(MemoryLog::new(self.clock.clone()))),
        }
    }
}

impl Door {
    pub(crate) async fn open() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Plan {
            settings: Settings::default(),
            health: Health::new(),
            keys: None,
            clock: Clock::system(),
            lookups: LookupDeps {
                tier: Tier::none(),
                watch: None,
                rules: Rules::default(),
            },
            limiter: None,
            redis: None,
            database: SqliteSettings::memory(),
        };
        change(&mut plan);
        let tasks = Tasks::new();
        let db = Db::sqlite(&plan.database).unwrap();
        migrate(&db, ratebox_outbox::OWNER, ratebox_outbox::MIGRATIONS)
            .await
            .unwrap();
        migrate(&db, ratebox_saga::OWNER, ratebox_saga::MIGRATIONS)
            .await
            .unwrap();
        let journal = Journal::new(SqlStore::new(db.clone()));
        let store = Store::new(db.clone(), plan.clock.clone());
        store.migrate().await.unwrap();
        let bus = Bus::new();
        let lanes = Lanes::of(&StreamName::new("validation_requests"));
        let broker = Arc::new(BusBroker(Arc::clone(&bus)));
        let (admin, dispatcher) = plan.operators(&bus);
        let gateway = Gateway::new(Deps {
            store: store.clone(),
            outbox: Outbox::new(db, broker, ratebox_outbox::Settings::default(), &tasks),
            log: Arc::clone(&bus) as _,
            admin,
            dispatcher,
            lanes: lanes.clone(),
            sagas: Sagas::new(
                Desk::new(&journal, Time::clock(plan.clock.clone())),
                store.clone(),
                JournalIn::Store,
            ),
            keys: plan.keys,
            lookups: plan.lookups,
            limiter: plan.limiter,
            imports: Arc::default(),
            clock: plan.clock,
            health: plan.health,
            settings: plan.settings.clone(),
            tasks: tasks.clone(),
        });
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, gateway.router(), plan.settings.listen, &tasks);
        Self {
            address,
            store,
            bus,
            lanes,
            tasks,
            journal,
        }
    }

    /// A token with a limit that tests do not reach.
    pub(crate) async fn token(&self, owner: &str, scopes: &[&str]) -> String {
        self.make_token(owner, scopes, |new| new.limit_per_minute = Some(1_000_000))
            .await
    }

    pub(crate) async fn make_token(
        &self,
        owner: &str,
        scopes: &[&str],
        change: impl FnOnce(&mut NewToken),
    ) -> String {
        let mut new = NewToken {
            owner: owner.to_owned(),
            name: "test".to_owned(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            profile: None,
            limit_per_minute: None,
            live: false,
            expires_at: None,
        };
        change(&mut new);
        let (_, secret) = self.store.create_token(new).await.unwrap();
        secret.reveal().to_owned()
    }

    pub(crate) fn anybody(&self) -> HttpClient {
        HttpClient::new(&format!("http://{}", self.address))
    }

    /// A client of `owner` that may do everything but administrate.
    pub(crate) async fn client(&self, owner: &str) -> HttpClient {
        let scopes = [
            "validation:read",
            "validation:write",
            "import:read",
            "import:write",
        ];
        let token = self.token(owner, &scopes).await;
        self.anybody().with_token(&token)
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Rows of a table.
    pub(crate) async fn count(&self, sql: &'static str) -> u64 {
        let rows = self
            .store
            .db()
            .query(ratebox_db::Sql::both(sql))
            .await
            .unwrap();
        rows[0].get(0).unwrap()
    }

    /// Waits until a stream holds `count` entries.
    pub(crate) async fn published(&self, stream: &str, count: usize) {
        let what = format!("{stream} holds {count} entries");
        wait_until(Duration::from_secs(10), &what, || async {
            self.bus.entries(stream).await.len() == count
        })
        .await;
    }

    /// Waits until nothing is left to be published.
    pub(crate) async fn outbox_is_empty(&self) {
        wait_until(Duration::from_secs(10), "the outbox is empty", || async {
            self.count("SELECT count(*) FROM outbox").await == 0
        })
        .await;
    }

    /// Leaves the database no room to grow.
    pub(crate) async fn fill(&self) {
        // Rounded up to what is used already.
        let mut tx = self.store.begin().await.unwrap();
        tx.query(ratebox_db::Sql::both("PRAGMA max_page_count = 1"))
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }

    /// Runs a statement that breaks something.
    pub(crate) async fn execute(&self, sql: &'static str) {
        self.store
            .db()
            .execute(ratebox_db::Sql::both(sql))
            .await
            .unwrap();
    }

    pub(crate) async fn requests(&self) -> u64 {
        self.count("SELECT count(*) FROM validation_requests").await
    }

    /// Stops as a process does; returns the tasks that were late.
    pub(crate) async fn close(&self) -> Vec<String> {
        self.tasks.join(Duration::from_secs(20)).await
    }
}

pub(crate) fn a_while_ago(clock: &Clock) -> Timestamp {
    clock.now() - Duration::from_secs(60)
}

/// Posts a body as it is.
pub(crate) async fn post(client: &HttpClient, path: &str, body: &[u8]) -> ratebox_testkit::Answer {
    post_with(client, path, &[], body).await
}

pub(crate) async fn post_with(
    client: &HttpClient,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> ratebox_testkit::Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    client.request("POST", path, &all, body).await.unwrap()
}

/// The id of what was taken.
pub(crate) fn id_of(answer: &ratebox_testkit::Answer) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    answer.json().unwrap()["request_id"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// The stable code of a refusal.
pub(crate) fn code_of(answer: &ratebox_testkit::Answer) -> String {
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{}",
        answer.text()
    );
    let problem = answer.json().unwrap();
    assert_eq!(problem["status"], answer.status);
    problem["code"].as_str().unwrap().to_owned()
}
