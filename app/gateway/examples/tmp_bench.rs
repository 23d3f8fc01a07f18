//! temporary
use async_trait::async_trait;
use ratebox_db::{Db, PostgresSettings, SqliteSettings, migrate};
use ratebox_gateway::*;
use ratebox_kit::{Clock, Tasks};
use ratebox_outbox::{Broker, Outbox, Outgoing, PublishError};
use ratebox_store::{NewToken, Store};
use ratebox_stream::*;
use std::sync::Arc;
use std::time::Duration;

struct Null(MemoryLog, std::sync::atomic::AtomicU64);
#[async_trait]
impl Log for Null {
    async fn append(&self, entries: &[Append]) -> Vec<std::result::Result<EntryId, Error>> {
        tokio::task::yield_now().await;
        entries
            .iter()
            .map(|_| {
                Ok(EntryId::new(
                    1,
                    self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
                ))
            })
            .collect()
    }
    async fn ensure_group(&self, s: &Subscription) -> Result<(), Error> {
        self.0.ensure_group(s).await
    }
    async fn read(
        &self,
        s: &Subscription,
        q: &[LaneQuota],
        w: Duration,
    ) -> Result<Vec<Entry>, Error> {
        self.0.read(s, q, w).await
    }
    async fn claim(
        &self,
        s: &Subscription,
        l: Lane,
        c: EntryId,
        sc: ClaimScope<'_>,
        m: usize,
    ) -> Result<Claimed, Error> {
        self.0.claim(s, l, c, sc, m).await
    }
    async fn touch(
        &self,
        s: &Subscription,
        h: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        self.0.touch(s, h).await
    }
    async fn settle(&self, s: &Subscription, x: &[Settlement<'_>]) -> Result<(), Error> {
        self.0.settle(s, x).await
    }
    async fn promote(&self, s: &Subscription, m: usize) -> Result<usize, Error> {
        self.0.promote(s, m).await
    }
    async fn tail(
        &self,
        s: &StreamName,
        a: Option<EntryId>,
        m: usize,
        w: Duration,
    ) -> Result<Tail, Error> {
        self.0.tail(s, a, m, w).await
    }
}
struct NullBroker;
#[async_trait]
impl Broker for NullBroker {
    async fn publish(&self, m: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        m.iter().map(|_| Ok(())).collect()
    }
}
fn main() {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let dsn = args.next();
    let rt = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    rt.block_on(async move {
        let tasks = Tasks::new();
        let db = match dsn {
            Some(d) if d.starts_with("postgres") || d.contains("host=") => {
                Db::postgres(&PostgresSettings::new(ratebox_kit::Secret::new(d))).unwrap()
            }
            Some(p) => Db::sqlite(&SqliteSettings::new(p)).unwrap(),
            None => Db::sqlite(&SqliteSettings::memory()).unwrap(),
        };
        migrate(&db, ratebox_outbox::OWNER, ratebox_outbox::MIGRATIONS)
            .await
            .unwrap();
        let clock = Clock::system();
        let store = Store::new(db.clone(), clock.clone());
        store.migrate().await.unwrap();
        let null = Arc::new(Null(MemoryLog::new(clock.clone()), 0.into()));
        let admin = Arc::new(MemoryLog::new(clock.clone()));
        let mut settings = Settings::default();
        if mode == "stream" {
            settings.accept.mode = AcceptMode::Stream;
        }
        let (_, secret) = store
            .create_token(NewToken {
                owner: "bench".into(),
                name: "b".into(),
                scopes: vec!["admin".into()],
                profile: None,
                limit_per_minute: Some(1_000_000_000),
                live: true,
                expires_at: None,
            })
            .await
            .unwrap();
        println!("{}", secret.reveal());
        let gw = Gateway::new(Deps {
            store,
            outbox: Outbox::new(db, Arc::new(NullBroker), Default::default(), &tasks),
            log: null,
            admin,
            lanes: Lanes::of(&"validation_requests".into()),
            keys: None,
            clock,
            health: Health::new(),
            settings: settings.clone(),
            tasks: tasks.clone(),
        });
        let l = tokio::net::TcpListener::bind("127.0.0.1:18099")
            .await
            .unwrap();
        serve(l, gw.router(), settings.listen, &tasks);
        drop(gw);
        tokio::signal::ctrl_c().await.unwrap();
        println!("late {:?}", tasks.join(Duration::from_secs(10)).await);
    });
}
