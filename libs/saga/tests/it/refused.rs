//! Errors after an effect, messages that cannot be sent, and a journal that cannot be joined.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ratebox_kit::{FollowUp, Tasks};
use ratebox_saga::{Ctx, Engine, Error, Journal, Retry, Saga, Status, StepError, StepResult};
use tokio::time::Instant;

use crate::brittle::Brittle;
use crate::world::{Ledger, World};

/// Something goes wrong after the effect; the step says nothing of it.
#[derive(Clone, Copy, Debug)]
enum Late {
    Json,
    Database,
    Result,
}

/// Keys that are no texts cannot be written as JSON.
type Unwritable = HashMap<(u8, u8), u8>;

async fn late(ledger: Ledger, ctx: Ctx, what: Late) -> StepResult<Unwritable> {
    ledger.ran(&ctx, "do");
    match what {
        Late::Json => {
            serde_json::from_str::<u8>("x")?;
        }
        Late::Database => {
            let constraint = "orders_pkey".to_owned();
            return Err(ratebox_db::Error::Exists { constraint }.into());
        }
        Late::Result => {}
    }
    Ok(HashMap::from([((1, 2), 3)]))
}

async fn back(ledger: Ledger, ctx: Ctx, done: Option<Unwritable>) -> StepResult {
    assert!(done.is_none(), "nobody could read it");
    ledger.ran(&ctx, "undo unknown");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_step_that_fails_after_its_effect_without_a_word_of_it_is_undone() {
    for what in [Late::Json, Late::Database, Late::Result] {
        let world = World::new();
        let (engine, _tasks) = world.engine();
        let b = Saga::<u32>::builder("late-error");
        let (forward, backward) = (world.ledger.clone(), world.ledger.clone());
        let a = b.step("a", move |ctx: Ctx, _| late(forward.clone(), ctx, what));
        a.retry(Retry::none())
            .undo(move |ctx: Ctx, _, done| back(backward.clone(), ctx, done));
        let saga = b.build().unwrap();
        let handle = engine.start(&saga, &1).await.unwrap();
        assert_eq!(handle.settled().await.unwrap(), Status::RolledBack);
        assert_eq!(world.ledger.lines(), ["do a", "undo unknown a"], "{what:?}");
    }
}

fn on(world: &World, store: &Brittle, tasks: &Tasks) -> Engine {
    let journal = Journal::new(store.clone());
    let engine = Engine::builder(&journal).settings(world.settings());
    engine.start(tasks).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_step_that_sends_where_there_is_no_outbox_is_undone_and_the_cause_is_told() {
    let (world, tasks) = (World::new(), Tasks::new());
    let store = Brittle::new(world.store.clone());
    store.faults.no_outbox.store(true, Ordering::SeqCst);
    let engine = on(&world, &store, &tasks);
    let b = Saga::<u32>::builder("sends");
    let a = b.step("a", |ctx: Ctx, _| async move {
        ctx.send(FollowUp::new("orders", "one".to_owned()));
        Ok::<u32, StepError>(1)
    });
    a.retry(Retry::none()).undo(world.ledger.undo());
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    let error = handle.wait().await.unwrap_err().to_string();
    assert!(error.contains("no outbox"), "{error}");
    assert_eq!(world.ledger.lines(), ["undo unknown a"]);
    // Each of its records would be a message.
    let b = Saga::<u32>::builder("tells").events("saga-events");
    b.step("a", world.ledger.step(Duration::ZERO)).read_only();
    let refused = engine.start(&b.build().unwrap(), &1).await;
    assert!(matches!(refused, Err(Error::Refused { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_a_while_for_a_journal_that_cannot_be_joined_and_says_why() {
    let (world, tasks) = (World::new(), Tasks::new());
    let store = Brittle::new(world.store.clone());
    store.faults.is_shut.store(true, Ordering::SeqCst);
    let engine = on(&world, &store, &tasks);
    let b = Saga::<u32>::builder("early");
    b.step("a", world.ledger.step(Duration::ZERO)).read_only();
    let saga = b.build().unwrap();
    let began = Instant::now();
    let Err(error) = engine.start(&saga, &1).await else {
        panic!("it was started nowhere");
    };
    assert_eq!(began.elapsed().as_secs(), 5);
    assert!(matches!(error, Error::NotJoined { .. }) && error.is_retryable());
    assert!(error.to_string().contains("it is shut"), "{error}");
    store.faults.is_shut.store(false, Ordering::SeqCst);
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::Completed);
}

/// A step that sends a message of this topic, after its effect.
fn sends(
    ledger: &Ledger,
    topic: &'static str,
) -> impl Fn(Ctx, u32) -> std::pin::Pin<Box<dyn Future<Output = StepResult<u32>> + Send>>
+ Send
+ Sync
+ 'static {
    let ledger = ledger.clone();
    move |ctx, _| {
        let ledger = ledger.clone();
        Box::pin(async move {
            ledger.ran(&ctx, "do");
            ctx.send(FollowUp::new(topic, "one".to_owned()));
            Ok(1)
        })
    }
}

/// Steps that end in the same moment, each with an undo and one attempt; `foul` sends to `topic`.
fn foul(world: &World, name: &str, topic: &'static str) -> Saga<u32> {
    let b = Saga::<u32>::builder(name);
    let first = b
        .step("first", world.ledger.step(Duration::ZERO))
        .read_only();
    b.after(first)
        .step("foul", sends(&world.ledger, topic))
        .retry(Retry::none())
        .undo(world.ledger.undo());
    for step in ["b", "c"] {
        b.after(first)
            .step(step, world.ledger.step(Duration::ZERO))
            .retry(Retry::none())
            .undo(world.ledger.undo());
    }
    b.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_message_that_no_store_could_keep_fails_its_step() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let saga = foul(&world, "nul", "a\0b");
    let handle = engine.start(&saga, &1).await.unwrap();
    let error = handle.wait().await.unwrap_err().to_string();
    assert!(error.contains("U+0000"), "{error}");
    assert_eq!(world.ledger.count("undo unknown foul"), 1);
}

/// The journal knew no end of it: the saga lay in the process that had it until that was restarted,
/// and there again.
#[tokio::test(start_paused = true)]
async fn what_the_journal_never_takes_fails_the_step_that_left_it_and_no_other() {
    let (world, tasks) = (World::new(), Tasks::new());
    let store = Brittle::new(world.store.clone());
    store.faults.is_choosy.store(true, Ordering::SeqCst);
    let engine = on(&world, &store, &tasks);
    let saga = foul(&world, "choosy", "never");
    let handle = engine.start(&saga, &1).await.unwrap();
    let error = handle.wait().await.unwrap_err().to_string();
    assert!(error.contains("not this topic"), "{error}");
    let ledger = &world.ledger;
    assert_eq!(ledger.count("undo unknown foul"), 1, "{:?}", ledger.lines());
    assert_eq!([ledger.count("undo b"), ledger.count("undo c")], [1, 1]);
    // The others of its process never noticed.
    let fine = foul(&world, "fine", "orders");
    let handle = engine.start(&fine, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::Completed);
}

/// A step that sends what the journal never takes, and the next time fails by itself.
async fn sends_once(ledger: Ledger, ctx: Ctx) -> StepResult<u32> {
    ledger.ran(&ctx, "do");
    if ledger.count("do foul") > 1 {
        return Err(StepError::unknown("it broke"));
    }
    ctx.send(FollowUp::new("never", "one".to_owned()));
    Ok(1)
}

/// Its undo was taken for the outcome that had been refused, and parked the saga.
#[tokio::test(start_paused = true)]
async fn what_was_refused_of_a_step_is_not_held_against_its_undo() {
    let (world, tasks) = (World::new(), Tasks::new());
    let store = Brittle::new(world.store.clone());
    store.faults.is_choosy.store(true, Ordering::SeqCst);
    let engine = on(&world, &store, &tasks);
    let b = Saga::<u32>::builder("once");
    let ledger = world.ledger.clone();
    b.step("foul", move |ctx: Ctx, _| sends_once(ledger.clone(), ctx))
        .retry(Retry::none())
        .undo(world.ledger.undo())
        .undo_retry(Retry::none());
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::RolledBack);
    let lines = world.ledger.lines();
    assert_eq!(lines, ["do foul", "do foul", "undo unknown foul"]);
}
