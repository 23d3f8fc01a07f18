//! Steps in transactions, starts in transactions, and sagas that die there, on real databases.

use std::time::Duration;

use ratebox_db::{Db, Sql, Tx};
use ratebox_kit::Tasks;
use ratebox_saga::{
    Ctx, Engine, Error, Journal, Kind, Retry, Saga, SagaId, SqlStore, Status, StepError, StepResult,
};

use crate::beds::databases;

const ADD: Sql = Sql {
    postgres: "INSERT INTO effects (saga, what) VALUES ($1, $2)",
    sqlite: "INSERT INTO effects (saga, what) VALUES (?1, ?2)",
};

const ALL: Sql = Sql::both("SELECT what FROM effects ORDER BY what");

async fn effects(db: &Db) -> Vec<String> {
    let rows = db.query(ALL).await.unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

async fn note(tx: &mut Tx, saga: SagaId, what: &str) -> StepResult {
    tx.execute(ADD.with(vec![saga.to_string().into(), what.into()]))
        .await?;
    Ok(())
}

async fn debit(tx: &mut Tx, ctx: Ctx, amount: u32) -> StepResult<u32> {
    note(tx, ctx.saga(), "debit").await?;
    Ok(amount)
}

async fn credit_back(tx: &mut Tx, ctx: Ctx, _: u32, debited: Option<u32>) -> StepResult {
    assert!(debited.is_some(), "a transaction leaves no doubt");
    note(tx, ctx.saga(), "undo debit").await
}

/// Has its effect, and then says that it failed.
async fn fails_late(tx: &mut Tx, ctx: Ctx, _: u32) -> StepResult<u32> {
    note(tx, ctx.saga(), "never").await?;
    Err(StepError::unknown("after the effect"))
}

async fn plain(_: Ctx, amount: u32) -> StepResult<u32> {
    Ok(amount)
}

async fn on_both(test: impl AsyncFn(&Db, &Journal)) {
    for fresh in databases().await {
        let create = "CREATE TABLE effects (saga text, what text)".to_owned();
        fresh.db.script(create).await.unwrap();
        let journal = Journal::new(SqlStore::new(fresh.db.clone()));
        test(&fresh.db, &journal).await;
    }
}

fn money(fails: bool) -> Saga<u32> {
    let b = Saga::<u32>::builder(if fails { "money-back" } else { "money" });
    let side = b.step("side", plain).read_only();
    let taken = b.after(b.input()).transaction("debit", debit);
    let taken = taken.undo_in(credit_back);
    if fails {
        let both = b.after(taken).transaction("late", fails_late);
        let both = both.undo_in(credit_back).retry(Retry::none());
        let _ = both.after_only(side);
    } else {
        b.after((taken, side))
            .step("end", |_, (a, _): (u32, u32)| async move { Ok(a) })
            .read_only();
    }
    b.build().unwrap()
}

#[tokio::test]
async fn a_step_in_a_transaction_is_kept_with_its_record_or_leaves_nothing() {
    on_both(async |db, journal| {
        let tasks = Tasks::new();
        let engine = Engine::builder(journal).start(&tasks).unwrap();
        let good = engine.start(&money(false), &7).await.unwrap();
        good.wait().await.unwrap();
        assert_eq!(effects(db).await, ["debit"]);
        let bad = engine.start(&money(true), &7).await.unwrap();
        assert_eq!(bad.settled().await.unwrap(), Status::RolledBack);
        assert_eq!(effects(db).await, ["debit", "debit", "undo debit"]);
        let records = engine.history(bad.id()).await.unwrap().records;
        let of = |kind| records.iter().filter(|it| it.kind == kind).count();
        assert_eq!((of(Kind::Failed), of(Kind::Undone)), (1, 1), "{records:?}");
        tasks.join(Duration::from_secs(5)).await;
    })
    .await;
}

#[tokio::test]
async fn a_saga_started_in_a_transaction_begins_if_and_only_if_it_commits() {
    on_both(async |db, journal| {
        let tasks = Tasks::new();
        let engine = Engine::builder(journal).start(&tasks).unwrap();
        let saga = money(false);
        let mut tx = db.begin().await.unwrap();
        let given_up = engine.start_in(&mut tx, &saga, &1, None).await.unwrap();
        let gone = given_up.id();
        tx.rollback().await.unwrap();
        let mut tx = db.begin().await.unwrap();
        let key = Some("order-1".to_owned());
        let started = engine.start_in(&mut tx, &saga, &2, key).await.unwrap();
        let committed = tx.commit().await.unwrap();
        let handle = started.committed(&committed).await.unwrap();
        handle.wait().await.unwrap();
        let missing = engine.history(gone).await;
        assert!(matches!(missing, Err(Error::NoSuchSaga { .. })));
        // Nobody told of this commit: it is found all the same.
        let mut tx = db.begin().await.unwrap();
        let untold = engine.start_in(&mut tx, &saga, &3, None).await.unwrap();
        let id = untold.id();
        tx.commit().await.unwrap();
        drop(untold);
        let ended = async {
            while engine.history(id).await.unwrap().head.status != Status::Completed {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), ended).await;
        assert!(in_time.is_ok(), "it was never taken up");
        tasks.join(Duration::from_secs(5)).await;
    })
    .await;
}

#[tokio::test]
async fn many_sagas_with_transactions_and_plain_steps_do_not_wait_for_themselves() {
    on_both(async |db, journal| {
        let tasks = Tasks::new();
        let engine = Engine::builder(journal).start(&tasks).unwrap();
        let saga = money(false);
        let starts = (0..50).map(|n| engine.start(&saga, &n).into_future());
        let handles = futures_util::future::join_all(starts).await;
        for handle in handles {
            handle.unwrap().wait().await.unwrap();
        }
        assert_eq!(effects(db).await.len(), 50);
        tasks.join(Duration::from_secs(5)).await;
    })
    .await;
}

#[tokio::test]
async fn a_saga_goes_on_elsewhere_when_its_process_is_gone() {
    on_both(async |db, journal| {
        let b = Saga::<u32>::builder("elsewhere");
        let taken = b.after(b.input()).transaction("debit", debit);
        let taken = taken.undo_in(credit_back);
        let slow = b.after(taken).step("slow", |_, n: u32| async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(n)
        });
        b.after(slow.read_only())
            .transaction("again", debit)
            .no_undo("a test");
        let saga = b.build().unwrap();
        let tasks = Tasks::new();
        let first = Engine::builder(journal).start(&tasks).unwrap();
        let mut ids = Vec::new();
        for n in 0..20 {
            ids.push(first.start(&saga, &n).await.unwrap().id());
        }
        first.crash();
        let second = Engine::builder(journal).register(&saga);
        let second = second.start(&tasks).unwrap();
        let all_done = async {
            for id in &ids {
                while second.history(*id).await.unwrap().head.status != Status::Completed {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), all_done).await;
        assert!(in_time.is_ok(), "they did not end");
        // Two effects a saga, each once, although the first process died on the way.
        assert_eq!(effects(db).await.len(), 40);
        tasks.join(Duration::from_secs(5)).await;
    })
    .await;
}

#[tokio::test]
async fn a_store_without_transactions_refuses_what_needs_them() {
    let tasks = Tasks::new();
    let engine = Engine::builder(&Journal::memory()).start(&tasks).unwrap();
    let refused = engine.register(&money(false));
    assert!(matches!(refused, Err(Error::NoTransactions)));
}
