//! Operators in a process that runs no engine: what they see, and what becomes of their orders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratebox_kit::{Tasks, Timestamp};
use ratebox_saga::{
    By, Ctx, Desk, Engine, EngineSettings, Error, Filter, Journal, MemoryStore, Order, Outcome,
    Outline, Retry, Saga, SqlStore, Status, StepError, StepResult, StepState, Time,
};

use crate::beds::{Fresh, databases};

const PATIENCE: Duration = Duration::from_secs(10);

/// Waits to be approved, is refused at the end, and cannot be undone until it is repaired.
fn stubborn(is_repaired: &Arc<AtomicBool>) -> Saga<u32> {
    let b = Saga::<u32>::builder("stubborn");
    let repaired = Arc::clone(is_repaired);
    let take = b.step("take", async |_: Ctx, n: u32| Ok(n));
    let take = take.undo_retry(Retry::none()).undo(move |_, _, _| {
        let is_repaired = repaired.load(Ordering::SeqCst);
        async move {
            if is_repaired {
                return Ok(());
            }
            Err(StepError::rejected("it is stuck"))
        }
    });
    let yes = b.after(take).approval("yes", Duration::from_secs(3_600));
    let fail = async |_: Ctx, _: u32| -> StepResult { Err(StepError::rejected("no")) };
    b.after(take).step("fail", fail).after_only(yes).read_only();
    b.build().unwrap()
}

/// The same journal as two processes have it.
struct Sides {
    name: &'static str,
    engine: Journal,
    desk: Desk,
    _fresh: Option<Fresh>,
}

async fn sides() -> Vec<Sides> {
    let memory = MemoryStore::new(Time::system());
    let mut sides = vec![Sides {
        name: "memory",
        engine: Journal::new(memory.clone()),
        desk: Desk::new(&Journal::new(memory), Time::system()),
        _fresh: None,
    }];
    for it in databases().await {
        let journal = || Journal::new(SqlStore::new(it.db.clone()));
        sides.push(Sides {
            name: it.name,
            engine: journal(),
            desk: Desk::new(&journal(), Time::system()),
            _fresh: Some(it),
        });
    }
    sides
}

#[tokio::test]
async fn orders_of_a_process_without_an_engine_are_carried_out_by_the_owner() {
    for it in sides().await {
        let (tasks, repaired) = (Tasks::new(), Arc::new(AtomicBool::new(false)));
        let saga = stubborn(&repaired);
        let engine = Engine::builder(&it.engine).register(&saga);
        let engine = engine.start(&tasks).unwrap();
        let handle = engine.start(&saga, &7).await.unwrap();
        let (id, by, desk) = (handle.id(), By::new("jo", "because"), &it.desk);
        let approve = Order::Approve {
            step: "yes".to_owned(),
            yes: true,
        };
        let sent = desk.prepare(id, &approve, &by).await.unwrap();
        desk.send(&sent).await.unwrap();
        let outcome = desk.settled(&sent, PATIENCE).await.unwrap();
        assert_eq!(outcome, Outcome::Done, "{}", it.name);
        assert_eq!(handle.settled().await.unwrap(), Status::Parked);
        // What cannot be done is refused before anything is written.
        let step = |step: &str| Order::Retry {
            step: step.to_owned(),
        };
        for order in [step("fail"), step("none"), Order::Resume, approve] {
            let refused = desk.prepare(id, &order, &by).await.unwrap_err();
            assert!(matches!(refused, Error::Refused { .. }), "{order:?}");
        }
        let stored = desk.stored(id).await.unwrap();
        let view = desk.view(stored, None).await.unwrap();
        assert_eq!(view, engine.view(id, None).await.unwrap(), "{}", it.name);
        assert_eq!(view.steps[0].state, StepState::Parked, "{}", it.name);
        repaired.store(true, Ordering::SeqCst);
        let sent = desk.prepare(id, &step("take"), &by).await.unwrap();
        desk.send(&sent).await.unwrap();
        let outcome = desk.settled(&sent, PATIENCE).await.unwrap();
        assert_eq!(outcome, Outcome::Done, "{}", it.name);
        assert_eq!(handle.settled().await.unwrap(), Status::RolledBack);
        let records = desk.stored(id).await.unwrap().records;
        let deed = records.iter().find(|it| it.who.as_deref() == Some("jo"));
        assert!(deed.is_some(), "{}", it.name);
        tasks.join(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn an_order_to_a_saga_that_nobody_runs_waits_until_somebody_does() {
    for it in sides().await {
        let repaired = Arc::new(AtomicBool::new(true));
        let b = Saga::<u32>::builder("quick");
        b.step("take", async |_: Ctx, n: u32| Ok(n))
            .undo(async |_, _, _| Ok(()));
        let saga = b.build().unwrap();
        let tasks = Tasks::new();
        let engine = Engine::builder(&it.engine).start(&tasks).unwrap();
        let handle = engine.start(&saga, &7).await.unwrap();
        assert_eq!(handle.settled().await.unwrap(), Status::Completed);
        // Described with the next look after the start that registered it.
        let seen = async || it.desk.outlines(None, 10).await.unwrap().len() == 1;
        while !seen().await {
            tokio::task::yield_now().await;
        }
        drop(engine);
        tasks.join(Duration::from_secs(5)).await;
        let by = By::new("jo", "not wanted");
        let sent = it.desk.prepare(handle.id(), &Order::Cancel, &by).await;
        let sent = sent.unwrap();
        it.desk.send(&sent).await.unwrap();
        let outcome = it.desk.settled(&sent, Duration::ZERO).await.unwrap();
        assert_eq!(outcome, Outcome::Waiting, "{}", it.name);
        // It has ended: nobody takes it over, but for the letter.
        let tasks = Tasks::new();
        let engine = Engine::builder(&it.engine)
            .register(&saga)
            .register(&stubborn(&repaired));
        let engine = engine.start(&tasks).unwrap();
        let outcome = it.desk.settled(&sent, PATIENCE).await.unwrap();
        assert_eq!(outcome, Outcome::Done, "{}", it.name);
        let undone = async || {
            let history = engine.history(handle.id()).await.unwrap();
            history.head.status == Status::RolledBack
        };
        while !undone().await {
            tokio::task::yield_now().await;
        }
        tasks.join(Duration::from_secs(5)).await;
    }
}

/// On PostgreSQL an order rings after its commit: nobody waits for the next look.
#[tokio::test]
async fn an_order_of_another_process_is_heard_long_before_the_next_look() {
    for it in databases().await {
        if it.db.dialect() == ratebox_db::Dialect::Sqlite {
            continue;
        }
        let journal = || Journal::new(SqlStore::new(it.db.clone()));
        let (tasks, saga) = (Tasks::new(), stubborn(&Arc::new(AtomicBool::new(true))));
        let settings = EngineSettings {
            poll_every: Duration::from_secs(600),
            ..EngineSettings::default()
        };
        let engine = Engine::builder(&journal()).settings(settings);
        let engine = engine.register(&saga).start(&tasks).unwrap();
        let handle = engine.start(&saga, &7).await.unwrap();
        let desk = Desk::new(&journal(), Time::system());
        let approve = Order::Approve {
            step: "yes".to_owned(),
            yes: true,
        };
        let by = By::new("jo", "fine");
        let sent = desk.prepare(handle.id(), &approve, &by).await.unwrap();
        desk.send(&sent).await.unwrap();
        let outcome = desk.settled(&sent, PATIENCE).await.unwrap();
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(handle.settled().await.unwrap(), Status::RolledBack);
        tasks.join(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_process_without_an_engine_sees_a_saga_as_it_was_and_none_before_its_start() {
    for it in sides().await {
        let b = Saga::<u32>::builder("slow");
        let take = async |_: Ctx, n: u32| -> StepResult<u32> {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(n)
        };
        let taken = b.step("take", take).undo(async |_, _, _| Ok(()));
        let saga = b.returns(taken).build().unwrap();
        let tasks = Tasks::new();
        let engine = Engine::builder(&it.engine).register(&saga);
        let engine = engine.start(&tasks).unwrap();
        let handle = engine.start(&saga, &7).await.unwrap();
        assert_eq!(handle.settled().await.unwrap(), Status::Completed);
        let described = async || it.desk.outlines(None, 10).await.unwrap().len() == 1;
        while !described().await {
            tokio::task::yield_now().await;
        }
        let id = handle.id();
        let head = it.desk.stored(id).await.unwrap().head;
        let view = async |at: Timestamp| {
            let stored = it.desk.stored(id).await.unwrap();
            it.desk.view(stored, Some(at)).await
        };
        let begun = head.created_at;
        let early = Timestamp::from_microsecond(begun.as_microsecond() - 1).unwrap();
        let unknown = view(early).await;
        assert!(matches!(unknown, Err(Error::NoSuchSaga { .. })));
        let then = view(begun).await.unwrap();
        assert_eq!(then, engine.view(id, Some(begun)).await.unwrap());
        let (status, state) = (then.head.status, then.steps[0].state);
        assert_eq!((status, state), (Status::Executing, StepState::Running));
        assert!(then.head.output.is_none() && then.head.ended_at.is_none());
        // Nothing was written since its end: all of its head is known.
        let then = view(head.updated_at).await.unwrap();
        assert_eq!(then.head, head, "{}", it.name);
        tasks.join(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn a_definition_is_drawn_and_foreseen_by_who_cannot_run_it() {
    for it in sides().await {
        let saga = stubborn(&Arc::new(AtomicBool::new(true)));
        let tasks = Tasks::new();
        let engine = Engine::builder(&it.engine).register(&saga);
        let engine = engine.start(&tasks).unwrap();
        let handle = engine.start(&saga, &1).await.unwrap();
        let filter = Filter {
            limit: 10,
            ..Filter::default()
        };
        assert_eq!(it.desk.list(&filter).await.unwrap().len(), 1);
        let found = async || it.desk.outlines(Some("stubborn"), 1).await.unwrap().pop();
        let outline: Outline = loop {
            if let Some(outline) = found().await {
                break outline;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(outline, saga.outline(), "{}", it.name);
        assert_eq!(outline.mermaid(), saga.mermaid(), "{}", it.name);
        let takes = |step: &str| (step == "fail").then_some(Duration::from_secs(3));
        let known = [("fail".to_owned(), Duration::from_secs(3))].into();
        assert_eq!(outline.dry_run(&known), saga.dry_run(takes), "{}", it.name);
        assert!(it.desk.outlines(Some("other"), 1).await.unwrap().is_empty());
        drop(handle);
        tasks.join(Duration::from_secs(5)).await;
    }
}
