//! Processes that die, sleep through their lease, or come with another definition.

use std::time::Duration;

use ratebox_kit::id;
use ratebox_saga::{
    Append, By, Ctx, Entry, Error, Kind, Record, Retry, Saga, SagaId, Status, StepError,
    StepResult, Store, Written,
};
use tokio::time::Instant;

use crate::world::World;

const NOW: Duration = Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn a_dead_process_sagas_end_elsewhere_within_five_seconds() {
    let world = World::new();
    let (first, _first_tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("taken"), &world.ledger);
    let a = b.step("a", it.step(NOW)).undo(it.undo());
    let slow = b
        .after(a)
        .step("slow", it.step(Duration::from_secs(2)))
        .undo(it.undo());
    b.after(slow).step("z", it.step(NOW)).undo(it.undo());
    let saga = b.build().unwrap();
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(first.start(&saga, &1).await.unwrap().id());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    first.crash();
    let died = Instant::now();
    let second_tasks = ratebox_kit::Tasks::new();
    let second = world
        .builder()
        .register(&saga)
        .start(&second_tasks)
        .unwrap();
    while second.live_sagas() < 50 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(died.elapsed() < Duration::from_secs(5));
    }
    for id in ids {
        while second.history(id).await.unwrap().head.status != Status::Completed {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // What was recorded is not done again; what was not is, under the same key.
    assert_eq!(
        (it.count("do a"), it.count("do slow"), it.count("do z")),
        (50, 50, 50)
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_that_may_have_run_before_a_crash_is_undone_even_when_it_is_rejected_later() {
    let world = World::new();
    let (first, _first_tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("leak"), &world.ledger);
    let a = b.step("a", it.step(NOW)).undo(it.undo());
    let ledger = it.clone();
    let z = b.after(a).step("z", move |ctx, _| {
        let is_first = ledger.count("do z") == 0;
        ledger.ran(&ctx, "do");
        async move {
            if is_first {
                // Had its effect, and the process dies before it can be recorded.
                return std::future::pending::<StepResult<u32>>().await;
            }
            Err(StepError::rejected("no"))
        }
    });
    z.undo(it.undo());
    let saga = b.build().unwrap();
    let id = first.start(&saga, &1).await.unwrap().id();
    tokio::time::sleep(Duration::from_millis(100)).await;
    first.crash();
    let tasks = ratebox_kit::Tasks::new();
    let second = world.builder().register(&saga).start(&tasks).unwrap();
    while second.history(id).await.unwrap().head.status != Status::RolledBack {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(it.count("undo unknown z"), 1);
    assert_eq!(it.count("undo a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_slept_through_its_lease_writes_nothing_and_starts_nothing() {
    let world = World::new();
    let first = world
        .store
        .join("first", Duration::from_secs(3))
        .await
        .unwrap();
    let second = world
        .store
        .join("second", Duration::from_secs(3))
        .await
        .unwrap();
    world.store.expire(first);
    // Nobody noticed: it goes on.
    world
        .store
        .renew(first, Duration::from_secs(3))
        .await
        .unwrap();
    world.store.expire(first);
    world.store.adopt(second, 10).await.unwrap();
    let renewed = world.store.renew(first, Duration::from_secs(3)).await;
    assert!(matches!(renewed, Err(Error::Fenced)));
    let append = Entry::Append(Append {
        saga: SagaId::new(),
        records: Vec::new(),
        head: None,
        letters: vec![id::new()],
        follow_ups: Vec::new(),
    });
    let written = world.store.write(first, &[&append]).await;
    assert!(matches!(written, Err(Error::Fenced)));
    let written = world.store.write(second, &[&append]).await.unwrap();
    assert_eq!(written, [Written::NotYours]);
}

#[tokio::test(start_paused = true)]
async fn a_process_taken_for_dead_drops_its_sagas_and_joins_anew() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("zombie"), &world.ledger);
    let a = b
        .step("a", it.step(Duration::from_secs(10)))
        .undo(it.undo());
    b.after(a).step("z", it.step(NOW)).undo(it.undo());
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    let owner = engine
        .history(handle.id())
        .await
        .unwrap()
        .head
        .owner
        .unwrap();
    // Between two renewals.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let tasks = ratebox_kit::Tasks::new();
    let other = world.builder().register(&saga).start(&tasks).unwrap();
    world.store.expire(owner);
    handle.wait().await.unwrap();
    let head = other.history(handle.id()).await.unwrap().head;
    assert_ne!(head.owner, Some(owner));
    // The first attempt was dropped with the membership.
    assert_eq!((it.count("do a"), it.count("do z")), (1, 1));
    assert!(engine.start(&saga, &1).await.is_ok(), "it joined anew");
}

#[tokio::test(start_paused = true)]
async fn timers_and_retries_survive_the_process() {
    let world = World::new();
    let (first, _first_tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("timers"), &world.ledger);
    let a = b.step("a", it.step(NOW)).undo(it.undo());
    let slept = b.after(a).sleep("rest", Duration::from_secs(1_000));
    b.after(slept)
        .step("z", |ctx: ratebox_saga::Ctx, _| async move {
            if ctx.attempt() == 1 {
                let hour = Duration::from_secs(3_600);
                return Err(StepError::retryable("later").retry_after(hour));
            }
            Ok(ctx.attempt())
        })
        .retry(Retry::times(1))
        .undo(it.undo());
    let saga = b.build().unwrap();
    let began = Instant::now();
    let id = first.start(&saga, &1).await.unwrap().id();
    tokio::time::sleep(Duration::from_secs(100)).await;
    first.crash();
    let tasks = ratebox_kit::Tasks::new();
    let second = world.builder().register(&saga).start(&tasks).unwrap();
    tokio::time::sleep(Duration::from_secs(1_000)).await;
    second.crash();
    let tasks = ratebox_kit::Tasks::new();
    let third = world.builder().register(&saga).start(&tasks).unwrap();
    while third.history(id).await.unwrap().head.status != Status::Completed {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let took = began.elapsed().as_secs();
    assert!((4_600..4_610).contains(&took), "{took} s");
    assert_eq!(it.count("do a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_saga_whose_definition_is_not_here_is_parked_and_goes_on_when_it_is() {
    let world = World::new();
    let (first, _first_tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("unknown"), &world.ledger);
    let a = b.step("a", it.step(NOW)).undo(it.undo());
    b.after(a)
        .step("slow", it.step(Duration::from_secs(20)))
        .undo(it.undo());
    let saga = b.build().unwrap();
    let id = first.start(&saga, &1).await.unwrap().id();
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.crash();
    let (second, _tasks) = world.engine();
    while second.history(id).await.unwrap().head.status != Status::Parked {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let head = second.history(id).await.unwrap().head;
    assert!(head.error.unwrap().contains(saga.hash()));
    let by = By::new("jo", "deployed it");
    let early = second.resume(id, &by).await;
    assert!(matches!(early, Err(Error::NotRegistered { .. })));
    second.register(&saga).unwrap();
    second.resume(id, &by).await.unwrap();
    while second.history(id).await.unwrap().head.status != Status::Completed {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(it.count("do a"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_stops_lets_running_steps_end_and_leaves_at_once() {
    let world = World::new();
    let (first, tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("stop"), &world.ledger);
    let a = b.step("a", it.step(Duration::from_secs(2))).undo(it.undo());
    b.after(a).step("z", it.step(NOW)).undo(it.undo());
    let saga = b.build().unwrap();
    let id = first.start(&saga, &1).await.unwrap().id();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let late = tasks.join(Duration::from_secs(10)).await;
    assert!(late.is_empty(), "{late:?}");
    assert_eq!((it.count("do a"), it.count("do z")), (1, 0));
    let began = Instant::now();
    let tasks = ratebox_kit::Tasks::new();
    let second = world.builder().register(&saga).start(&tasks).unwrap();
    while second.history(id).await.unwrap().head.status != Status::Completed {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "nobody waited for a lease"
    );
    assert_eq!((it.count("do a"), it.count("do z")), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_record_written_twice_is_kept_once() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("twice"), &world.ledger);
    b.step("a", it.step(Duration::from_secs(60)))
        .undo(it.undo());
    let saga = b.build().unwrap();
    let id = engine.start(&saga, &1).await.unwrap().id();
    let owner = engine.history(id).await.unwrap().head.owner.unwrap();
    let record = Record {
        seq: 0,
        step: "a".into(),
        item: 0,
        kind: Kind::Started,
        class: None,
        attempt: 1,
        at: world.time.now(),
        took_us: 0,
        due: None,
        payload: None,
        note: None,
        who: None,
    };
    let append = Entry::Append(Append {
        saga: id,
        records: vec![record],
        head: None,
        letters: Vec::new(),
        follow_ups: vec![ratebox_kit::FollowUp::new("t", "x")],
    });
    for _ in 0..2 {
        let written = world.store.write(owner, &[&append]).await.unwrap();
        assert_eq!(written, [Written::Kept]);
    }
    assert_eq!(engine.history(id).await.unwrap().records.len(), 1);
    assert_eq!(world.store.sent().len(), 1);
}

/// The state in memory is gone when the saga is parked; what is read back must know of the attempt.
#[tokio::test(start_paused = true)]
async fn a_second_attempt_that_ran_when_another_step_failed_is_undone_after_a_reload() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("again"), &world.ledger);
    let ledger = it.clone();
    let at_once = Retry::times(1).between(Duration::from_millis(1), Duration::from_millis(1));
    let root = b.step("root", async |_: Ctx, n: u32| Ok(n)).read_only();
    let again = b.after(root).step("again", move |ctx, _| {
        let ledger = ledger.clone();
        async move {
            if ctx.attempt() == 1 {
                return Err(StepError::retryable("not yet"));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            ledger.ran(&ctx, "do");
            Ok(1)
        }
    });
    let ledger = it.clone();
    again
        .retry(at_once)
        .undo_retry(Retry::none())
        .undo(move |ctx, _, done: Option<u32>| {
            ledger.ran(
                &ctx,
                if done.is_some() {
                    "undo"
                } else {
                    "undo unknown"
                },
            );
            let is_first = ledger.count("undo again") == 1;
            async move {
                if is_first {
                    return Err(StepError::rejected("stuck"));
                }
                Ok(())
            }
        });
    let fails = b
        .after(root)
        .step("fails", async |_: Ctx, _: u32| -> StepResult {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Err(StepError::rejected("no"))
        });
    fails.read_only();
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::Parked);
    while engine.live_sagas() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let by = By::new("jo", "try again");
    engine.retry(handle.id(), "again", &by).await.unwrap();
    while engine.history(handle.id()).await.unwrap().head.status != Status::RolledBack {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(it.lines(), ["do again", "undo again", "undo again"]);
}
