//! Sagas that fail: strategies, undo, pivots, operators.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ratebox_saga::{
    By, Class, Ctx, Error, OnFailure, OnStuck, Retry, Saga, Status, StepError, StepResult,
    StepState,
};
use tokio::time::Instant;

use crate::world::World;

const NOW: Duration = Duration::ZERO;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[tokio::test(start_paused = true)]
async fn a_rejected_step_undoes_those_before_it_in_reverse_order() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("back"), &world.ledger);
    let a = b.step("a", it.step(NOW)).undo(it.undo());
    let l = b.after(a).step("l", it.step(NOW)).undo(it.undo());
    let r = b.after(a).step("r", it.step(NOW)).undo(it.undo());
    b.after((l, r))
        .step("z", it.failing(StepError::rejected("no")))
        .undo(it.undo());
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    let error = handle.wait().await.unwrap_err();
    let Error::Ended { status, error, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((status, error.as_str()), (Status::RolledBack, "z: no"));
    let view = engine.view(handle.id(), None).await.unwrap();
    let states: Vec<_> = view.steps.iter().map(|it| it.state).collect();
    let undone = StepState::Undone;
    // It is seen which one failed.
    assert_eq!(states, [undone, undone, undone, StepState::Failed]);
    // What was rejected had no effect: nothing of it is undone.
    assert_eq!(it.count("undo z") + it.count("undo unknown z"), 0);
    assert!(it.at("undo a") > it.at("undo l") && it.at("undo a") > it.at("undo r"));
}

#[tokio::test(start_paused = true)]
async fn an_undo_has_a_time_limit_and_retries_of_its_own() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("late"), &world.ledger);
    let ledger = it.clone();
    let a = b.step("a", it.step(NOW)).undo_timeout(ms(500));
    let a = a.undo_retry(Retry::times(2)).undo(move |ctx: Ctx, _, _| {
        ledger.ran(&ctx, "undo");
        async move {
            if ctx.attempt() < 3 {
                tokio::time::sleep(Duration::from_secs(3_600)).await;
            }
            Ok(())
        }
    });
    b.after(a)
        .step("z", it.failing(StepError::rejected("no")))
        .read_only();
    let saga = b.build().unwrap();
    let began = Instant::now();
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::RolledBack);
    assert_eq!(it.count("undo a"), 3);
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[tokio::test(start_paused = true)]
async fn branches_are_undone_at_the_same_time() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("beside"), &world.ledger);
    let slow = || {
        async |_: Ctx, _: u32, _: Option<u32>| -> StepResult {
            tokio::time::sleep(Duration::from_secs(10)).await;
            Ok(())
        }
    };
    let a = b.step("a", it.step(NOW)).undo(it.undo());
    let l = b.after(a).step("l", it.step(NOW)).undo(slow());
    let r = b.after(a).step("r", it.step(NOW)).undo(slow());
    b.after((l, r))
        .step("z", it.failing(StepError::rejected("no")))
        .read_only();
    let saga = b.build().unwrap();
    let began = Instant::now();
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::RolledBack);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn timeouts_panics_and_silence_leave_the_effect_unknown_and_are_undone() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    for way in ["timeout", "panic", "silence"] {
        let (b, it) = (Saga::<String>::builder(way), &world.ledger);
        let hang = |_: Ctx, way: String| async move {
            assert_ne!(way, "panic", "told to");
            std::future::pending::<StepResult<u32>>().await
        };
        let step = b.step(way, hang).undo(it.undo()).retry(Retry::none());
        let step = step.timeout(Duration::from_secs(50));
        if way == "silence" {
            let _ = step.heartbeat(Duration::from_secs(5));
        }
        let saga = b.build().unwrap();
        let began = Instant::now();
        let handle = engine.start(&saga, &way.to_owned()).await.unwrap();
        assert_eq!(handle.settled().await.unwrap(), Status::RolledBack, "{way}");
        assert_eq!(it.count(&format!("undo unknown {way}")), 1, "{way}");
        let records = engine.history(handle.id()).await.unwrap().records;
        assert_eq!(records[0].class, Some(Class::Unknown));
        let limit = Duration::from_secs(if way == "silence" { 6 } else { 51 });
        assert!(began.elapsed() < limit, "{way} took {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_three_strategies_meet_a_failure_as_their_table_says() {
    for (on_failure, slow_done, late_done) in [
        (OnFailure::FailFast, false, false),
        (OnFailure::FailFastWithGrace(ms(2_000)), true, false),
        (OnFailure::WaitAll, true, true),
    ] {
        let world = World::new();
        let (engine, _tasks) = world.engine();
        let b = Saga::<u32>::builder("three").on_failure(on_failure);
        let it = &world.ledger;
        let root = b.step("root", it.step(NOW)).undo(it.undo());
        let bad = b
            .after(root)
            .step("bad", it.failing(StepError::rejected("no")));
        let bad = bad.undo(it.undo());
        // Ends after one and a half seconds: past the second that a cancelled step has.
        let slow = b
            .after(root)
            .step("slow", it.step(ms(1_500)))
            .undo(it.undo());
        let late = b.after(slow).step("late", it.step(NOW)).undo(it.undo());
        b.after((bad, late))
            .step("never", it.step(NOW))
            .undo(it.undo());
        let saga = b.build().unwrap();
        let handle = engine.start(&saga, &1).await.unwrap();
        assert_eq!(handle.settled().await.unwrap(), Status::RolledBack);
        let what = on_failure.as_str();
        assert_eq!(it.count("do slow"), usize::from(slow_done), "{what}");
        assert_eq!(it.count("undo slow"), usize::from(slow_done), "{what}");
        assert_eq!(
            it.count("undo unknown slow"),
            usize::from(!slow_done),
            "{what}"
        );
        assert_eq!(it.count("do late"), usize::from(late_done), "{what}");
        assert_eq!(it.count("undo late"), usize::from(late_done), "{what}");
        assert_eq!(it.count("do never"), 0, "{what}");
        assert_eq!(it.count("undo root"), 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_step_is_told_and_may_end_by_itself() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("told"), &world.ledger);
    let b = b.on_failure(OnFailure::FailFast);
    let root = b.step("root", it.step(NOW)).undo(it.undo());
    b.after(root)
        .step("bad", it.failing(StepError::rejected("no")))
        .undo(it.undo());
    b.after(root)
        .step("polite", |ctx: Ctx, _| async move {
            ctx.cancelled().await;
            Err::<u32, _>(StepError::rejected("nothing done"))
        })
        .undo(it.undo());
    let saga = b.build().unwrap();
    let began = Instant::now();
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::RolledBack);
    assert!(began.elapsed() < ms(900), "{:?}", began.elapsed());
    assert_eq!(it.count("undo unknown polite"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failed_undo_parks_and_an_operator_decides() {
    for deed in ["retry", "supply", "skip"] {
        let world = World::new();
        let (engine, _tasks) = world.engine();
        let (b, it) = (Saga::<u32>::builder("stuck"), &world.ledger);
        let a = b.step("a", it.step(NOW)).undo(it.undo());
        let broken = Arc::new(AtomicU32::new(0));
        let tries = Arc::clone(&broken);
        let c = b.after(a).step("c", it.step(NOW));
        let c = c.undo_retry(Retry::times(1)).undo(move |_, _, _| {
            let number = tries.fetch_add(1, Ordering::SeqCst);
            async move {
                if number < 2 {
                    return Err(StepError::retryable("the door is shut"));
                }
                Ok(())
            }
        });
        let side = b.after(a).step("side", it.step(NOW)).undo(it.undo());
        b.after((c, side))
            .step("z", it.failing(StepError::rejected("no")))
            .undo(it.undo());
        let saga = b.build().unwrap();
        let handle = engine.start(&saga, &1).await.unwrap();
        assert_eq!(handle.settled().await.unwrap(), Status::Parked);
        // The other branch is undone; what comes before the parked one waits.
        assert_eq!((it.count("undo side"), it.count("undo a")), (1, 0));
        let head = engine.history(handle.id()).await.unwrap().head;
        assert_eq!(
            head.error.as_deref(),
            Some("z: no"),
            "the first error stays"
        );
        let by = By::new("jo", "looked at it");
        let (id, null) = (handle.id(), serde_json::Value::Null);
        match deed {
            "retry" => engine.retry(id, "c", &by).await.unwrap(),
            "supply" => engine.supply(id, "c", &null, &by).await.unwrap(),
            _ => engine.skip(id, "c", &by).await.unwrap(),
        }
        let end = engine_end(&handle).await;
        let skipped = deed == "skip";
        assert_eq!(
            end,
            if skipped {
                Status::Failed
            } else {
                Status::RolledBack
            },
            "{deed}"
        );
        assert_eq!(it.count("undo a"), 1, "{deed}");
        let records = engine.history(id).await.unwrap().records;
        let order = records.iter().find(|it| it.who.is_some()).unwrap();
        assert_eq!(order.who.as_deref(), Some("jo"));
        assert_eq!(order.note.as_deref(), Some("looked at it"));
    }
}

async fn engine_end<O: serde::de::DeserializeOwned>(handle: &ratebox_saga::Handle<O>) -> Status {
    let day = Duration::from_secs(86_400);
    match tokio::time::timeout(day, handle.wait()).await {
        Ok(Ok(_)) => Status::Completed,
        Ok(Err(Error::Ended { status, .. })) => status,
        Ok(Err(other)) => panic!("{other}"),
        Err(_) => panic!("it never ended"),
    }
}

#[tokio::test(start_paused = true)]
async fn best_effort_goes_on_past_a_failed_undo_and_parks_all_the_same() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("effort"), &world.ledger);
    let b = b.on_stuck(OnStuck::BestEffort);
    let a = b.step("a", it.step(NOW)).undo(it.undo());
    let c = b.after(a).step("c", it.step(NOW));
    let (tries, ledger) = (Arc::new(AtomicU32::new(0)), it.clone());
    let c = c.undo(move |ctx, _, _| {
        let number = tries.fetch_add(1, Ordering::SeqCst);
        let ledger = ledger.clone();
        async move {
            if number == 0 {
                return Err(StepError::rejected("not now"));
            }
            ledger.ran(&ctx, "undo");
            Ok(())
        }
    });
    b.after(c)
        .step("z", it.failing(StepError::rejected("no")))
        .undo(it.undo());
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::Parked);
    assert_eq!(it.count("undo a"), 1);
    // Tried again, it is waited for although everything else is undone.
    let by = By::new("jo", "repaired");
    engine.retry(handle.id(), "c", &by).await.unwrap();
    assert_eq!(engine_end(&handle).await, Status::RolledBack);
    assert_eq!(it.count("undo c"), 1);
}

#[tokio::test(start_paused = true)]
async fn after_the_pivot_every_failure_has_a_way_on() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("onward"), &world.ledger);
    let reserve = b.step("reserve", it.step(NOW)).undo(it.undo());
    let charge = b.after(reserve).step("charge", it.step(NOW)).pivot();
    let no = || StepError::rejected("no");
    let ship = b.after(charge).step("ship", it.failing(no()));
    let ship = ship.or_else(|ctx: Ctx, charged: u32| async move {
        assert_eq!((ctx.step(), charged), ("ship", 1));
        Ok(7)
    });
    let mail = b.after(charge).step("mail", it.failing(no())).or_value(&9);
    let manual = b.after(charge).step("manual", it.failing(no()));
    let sum = b
        .after((ship, mail, manual))
        .step("sum", |_, (a, b, c)| async move { Ok((a, b, c)) });
    let saga = b.returns(sum).build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::Parked);
    let by = By::new("jo", "by hand");
    let refused = engine.cancel(handle.id(), &by).await;
    assert!(matches!(refused, Err(Error::Refused { .. })));
    let needed = engine.skip(handle.id(), "manual", &by).await;
    assert!(matches!(needed, Err(Error::Refused { .. })), "sum reads it");
    let value = serde_json::json!(5);
    engine
        .supply(handle.id(), "manual", &value, &by)
        .await
        .unwrap();
    assert_eq!(handle.wait().await.unwrap(), (7, 9, 5));
    assert_eq!(it.count("undo reserve"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pivot_that_nobody_knows_of_parks_instead_of_guessing() {
    for (deed, end) in [("supply", Status::Completed), ("skip", Status::RolledBack)] {
        let world = World::new();
        let (engine, _tasks) = world.engine();
        let (b, it) = (Saga::<u32>::builder("doubt"), &world.ledger);
        let a = b.step("a", it.step(NOW)).undo(it.undo());
        let lost = it.failing(StepError::unknown("the answer was lost"));
        b.after(a).step("pay", lost).pivot().retry(Retry::times(1));
        let saga = b.build().unwrap();
        let handle = engine.start(&saga, &1).await.unwrap();
        assert_eq!(handle.settled().await.unwrap(), Status::Parked);
        assert_eq!((it.count("do pay"), it.count("undo a")), (2, 0));
        let by = By::new("jo", "asked the other side");
        match deed {
            "supply" => {
                let value = serde_json::json!(1);
                engine
                    .supply(handle.id(), "pay", &value, &by)
                    .await
                    .unwrap();
            }
            _ => engine.skip(handle.id(), "pay", &by).await.unwrap(),
        }
        assert_eq!(engine_end(&handle).await, end);
        assert_eq!(it.count("undo a"), usize::from(end == Status::RolledBack));
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_saga_and_an_order_to_stop_undo_it() {
    for cancelled in [true, false] {
        let world = World::new();
        let (engine, _tasks) = world.engine();
        let (b, it) = (Saga::<u32>::builder("late"), &world.ledger);
        let b = b.deadline(Duration::from_secs(100));
        let a = b.step("a", it.step(NOW)).undo(it.undo());
        b.after(a).sleep("long", Duration::from_secs(1_000));
        let saga = b.build().unwrap();
        let began = Instant::now();
        let handle = engine.start(&saga, &1).await.unwrap();
        if cancelled {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let by = By::new("jo", "not wanted any more");
            engine.cancel(handle.id(), &by).await.unwrap();
        }
        let Err(Error::Ended { status, error, .. }) = handle.wait().await else {
            panic!("it completed");
        };
        assert_eq!(status, Status::RolledBack);
        assert_eq!(it.count("undo a"), 1);
        let (why, after) = if cancelled {
            ("not wanted any more", 30)
        } else {
            ("its deadline has passed", 100)
        };
        assert_eq!(error, why);
        let took = began.elapsed().as_secs();
        assert!((after..after + 3).contains(&took), "{took} s");
    }
}

#[tokio::test(start_paused = true)]
async fn a_completed_saga_can_be_undone_and_a_fork_keeps_what_was_before() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("done"), &world.ledger);
    let a = b.step("a", it.step(NOW)).undo(it.undo());
    let c = b.after(a).step("c", it.step(NOW)).undo(it.undo());
    let saga = b.returns(c).build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    handle.wait().await.unwrap();
    let by = By::new("jo", "wrong order");
    let fork = engine.fork(handle.id(), "c", &by).await.unwrap();
    while engine.history(fork).await.unwrap().head.status != Status::Completed {
        tokio::time::sleep(ms(10)).await;
    }
    assert_eq!((it.count("do a"), it.count("do c")), (1, 2));
    engine.compensate(handle.id(), &by).await.unwrap();
    while engine.history(handle.id()).await.unwrap().head.status != Status::RolledBack {
        tokio::time::sleep(ms(10)).await;
    }
    assert_eq!(it.lines()[3..], ["undo c", "undo a"]);
}
