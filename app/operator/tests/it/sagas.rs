//! Orders about sagas and the audit log: together, or not at all.

use std::time::Duration;

use ratebox_db::{Db, PostgresSettings, Sql, SqliteSettings, migrate};
use ratebox_kit::{Clock, Secret, Tasks};
use ratebox_operator::{Error, JournalIn, Many, SagaFilter, SagaOrder, SagaOutcome, Sagas};
use ratebox_saga::{
    Ctx, Desk, Engine, Journal, Retry, Saga, SqlStore, Status, StepError, StepResult, Time,
};
use ratebox_store::Store;
use ratebox_testkit::{PostgresServer, TempDir, unique_name};
use uuid::Uuid;

use crate::ward::by;

const PATIENCE: Duration = Duration::from_secs(10);

/// A store with a journal in it, and an engine whose sagas get stuck.
struct Yard {
    name: &'static str,
    store: Store,
    journal: Journal,
    sagas: Sagas,
    _folder: TempDir,
}

async fn yards() -> Vec<Yard> {
    let folder = TempDir::new().unwrap();
    let file = SqliteSettings::new(folder.path().join("store.db"));
    let sqlite = Db::sqlite(&file).unwrap();
    let dsn = PostgresServer::shared()
        .unwrap()
        .create_database(&unique_name("operator_sagas"))
        .unwrap();
    let postgres = Db::postgres(&PostgresSettings::new(Secret::new(dsn))).unwrap();
    let other = TempDir::new().unwrap();
    vec![
        yard("SQLite", sqlite, folder).await,
        yard("PostgreSQL", postgres, other).await,
    ]
}

async fn yard(name: &'static str, db: Db, folder: TempDir) -> Yard {
    migrate(&db, ratebox_saga::OWNER, ratebox_saga::MIGRATIONS)
        .await
        .unwrap();
    let store = Store::new(db.clone(), Clock::system());
    store.migrate().await.unwrap();
    let journal = Journal::new(SqlStore::new(db));
    let desk = Desk::new(&journal, Time::system());
    Yard {
        name,
        sagas: Sagas::new(desk, store.clone(), JournalIn::Store),
        store,
        journal,
        _folder: folder,
    }
}

/// After its pivot it waits for an operator.
fn stuck() -> Saga<u32> {
    let b = Saga::<u32>::builder("stuck");
    let pay = b.step("pay", async |_: Ctx, n: u32| Ok(n)).pivot();
    let mail = async |ctx: Ctx, _: u32| -> StepResult {
        match ctx.attempt() {
            1 => Err(StepError::rejected("no answer")),
            _ => Ok(()),
        }
    };
    b.after(pay).step("mail", mail).retry(Retry::times(1));
    b.build().unwrap()
}

impl Yard {
    /// So many parked sagas; the engine runs as long as the tasks.
    async fn parked(&self, count: u32) -> (Vec<Uuid>, Tasks) {
        let (tasks, saga) = (Tasks::new(), stuck());
        let engine = Engine::builder(&self.journal).register(&saga);
        let engine = engine.start(&tasks).unwrap();
        let mut ids = Vec::new();
        for number in 0..count {
            let handle = engine.start(&saga, &number).await.unwrap();
            handle.settled().await.unwrap();
            ids.push(handle.id().0);
        }
        (ids, tasks)
    }

    async fn supply(&self, id: Uuid, patience: Duration) -> Result<SagaOutcome, Error> {
        self.sagas.order(id, &supply(), &by(), patience).await
    }

    async fn count(&self, sql: Sql) -> u64 {
        self.store.db().query(sql).await.unwrap()[0].get(0).unwrap()
    }
}

fn supply() -> SagaOrder {
    SagaOrder::Supply {
        step: "mail".to_owned(),
        result: serde_json::json!({ "to": "an@example.com" }),
    }
}

#[tokio::test]
async fn an_order_and_its_line_in_the_audit_log_are_kept_together_or_not_at_all() {
    const LETTERS: Sql = Sql::both("SELECT count(*) FROM saga_letters");
    const LINES: Sql = Sql::both("SELECT count(*) FROM audit_log");
    for yard in yards().await {
        let (ids, tasks) = yard.parked(1).await;
        // Nobody is left to read.
        tasks.join(Duration::from_secs(5)).await;
        let order = yard.supply(ids[0], Duration::ZERO);
        assert_eq!(order.await.unwrap(), SagaOutcome::Waiting, "{}", yard.name);
        assert_eq!(yard.count(LETTERS).await, 1, "{}", yard.name);
        assert_eq!(yard.count(LINES).await, 1, "{}", yard.name);
        let gone = "ALTER TABLE audit_log RENAME TO gone".to_owned();
        yard.store.db().script(gone).await.unwrap();
        let order = yard.supply(ids[0], Duration::ZERO);
        assert!(order.await.is_err(), "{}", yard.name);
        assert_eq!(yard.count(LETTERS).await, 1, "{}", yard.name);
    }
}

#[tokio::test]
async fn what_an_order_carries_is_not_in_the_audit_log_and_who_and_why_are_in_the_saga() {
    for yard in yards().await {
        let (ids, tasks) = yard.parked(1).await;
        let order = yard.supply(ids[0], PATIENCE);
        assert_eq!(order.await.unwrap(), SagaOutcome::Done, "{}", yard.name);
        let seen = yard.sagas.show(ids[0], None).await.unwrap();
        let deed = &seen.deeds[0];
        assert_eq!(deed.action, "saga.supply", "{}", yard.name);
        let detail = deed.detail.clone().unwrap_or_default();
        assert!(
            detail.contains("mail") && !detail.contains("example"),
            "{detail}"
        );
        let mut records = seen.stored.records.iter();
        let record = records.find(|it| it.who.is_some()).unwrap();
        assert_eq!(record.who.as_deref(), Some("cli:test"), "{}", yard.name);
        assert_eq!(record.note.as_deref(), Some("a test"), "{}", yard.name);
        // It has ended: the same again is refused, and leaves no line.
        let again = yard.supply(ids[0], PATIENCE).await;
        assert!(matches!(again, Err(Error::Saga(_))), "{}", yard.name);
        let seen = yard.sagas.show(ids[0], None).await.unwrap();
        assert_eq!(seen.deeds.len(), 1, "{}", yard.name);
        tasks.join(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn all_parked_sagas_that_match_are_tried_again_with_one_call() {
    for yard in yards().await {
        let (ids, tasks) = yard.parked(3).await;
        let filter = SagaFilter {
            definition: Some("stuck".to_owned()),
            ..SagaFilter::default()
        };
        let first = yard.sagas.order_many(&filter, Many::Retry, 2, &by()).await;
        let first = first.unwrap();
        assert_eq!((first.matched, first.posted), (2, 2), "{}", yard.name);
        assert_eq!(first.next, Some(ids[1]), "{}", yard.name);
        let rest = SagaFilter {
            after: first.next,
            ..filter.clone()
        };
        let rest = yard.sagas.order_many(&rest, Many::Retry, 2, &by()).await;
        assert_eq!((rest.unwrap().posted), 1, "{}", yard.name);
        for id in ids {
            let seen = yard.sagas.show(id, None).await.unwrap();
            assert_eq!(seen.deeds[0].action, "saga.retry", "{}", yard.name);
        }
        tasks.join(Duration::from_secs(5)).await;
    }
}

/// Waits to be told something, until it is cancelled.
fn patient() -> Saga<u32> {
    let b = Saga::<u32>::builder("patient");
    let take = b.step("take", async |_: Ctx, n: u32| Ok(n));
    let take = take.undo(async |_: Ctx, _: u32, _: Option<u32>| Ok(()));
    b.after(take).signal::<u32>("go");
    b.build().unwrap()
}

#[tokio::test]
async fn all_sagas_of_a_definition_are_cancelled_or_given_up_with_one_call() {
    for yard in yards().await {
        let (parked, parked_tasks) = yard.parked(2).await;
        let (tasks, saga) = (Tasks::new(), patient());
        let engine = Engine::builder(&yard.journal).register(&saga);
        let engine = engine.start(&tasks).unwrap();
        let mut handles = Vec::new();
        for number in 0..3 {
            handles.push(engine.start(&saga, &number).await.unwrap());
        }
        let of = |name: &str| SagaFilter {
            definition: Some(name.to_owned()),
            ..SagaFilter::default()
        };
        let order = async |filter: SagaFilter, order| {
            yard.sagas.order_many(&filter, order, 10, &by()).await
        };
        // Whatever there is: not by accident.
        for many in [Many::Cancel, Many::Abandon] {
            let wide = order(SagaFilter::default(), many).await;
            assert!(matches!(wide, Err(Error::TooWide)), "{}", yard.name);
        }
        // What runs is not given up.
        let given_up = order(of("patient"), Many::Abandon).await.unwrap();
        assert_eq!((given_up.matched, given_up.posted), (3, 0), "{}", yard.name);
        let cancelled = order(of("patient"), Many::Cancel).await.unwrap();
        assert_eq!(cancelled.posted, 3, "{}", yard.name);
        for handle in &handles {
            let end = handle.settled().await.unwrap();
            assert_eq!(end, Status::RolledBack, "{}", yard.name);
        }
        // After its pivot there is no way back, and that is said of each.
        let late = order(of("stuck"), Many::Cancel).await.unwrap();
        assert_eq!(late.refused.len(), 2, "{}", yard.name);
        let given_up = order(of("stuck"), Many::Abandon).await.unwrap();
        assert_eq!(given_up.posted, 2, "{}", yard.name);
        for id in parked {
            let seen = yard.sagas.show(id, None).await.unwrap();
            assert_eq!(seen.deeds[0].action, "saga.abandon", "{}", yard.name);
        }
        parked_tasks.join(Duration::from_secs(5)).await;
        tasks.join(Duration::from_secs(5)).await;
    }
}
