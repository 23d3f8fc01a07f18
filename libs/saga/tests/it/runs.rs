//! Sagas that run: forward, back, with time, signals, conditions, fan-outs, children.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ratebox_kit::Timestamp;
use ratebox_saga::{
    By, Class, Ctx, Error, Kind, OnFailure, OnStuck, Retry, Saga, Status, StepError, StepResult,
};
use tokio::time::Instant;

use crate::world::World;

const NOW: Duration = Duration::ZERO;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

async fn add(_: Ctx, (a, b): (u32, u32)) -> StepResult<u32> {
    Ok(a + b)
}

async fn double(_: Ctx, a: u32) -> StepResult<u32> {
    Ok(a * 2)
}

async fn back<A>(_: Ctx, _: A, _: Option<u32>) -> StepResult {
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn results_flow_along_the_handles_to_the_output() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let b = Saga::<u32>::builder("sum");
    let left = b.step("left", double).read_only();
    let right = b.step("right", double).read_only();
    let sum = b.after((left, right)).step("sum", add).read_only();
    let saga = b.returns(sum).build().unwrap();
    let handle = engine.start(&saga, &21).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), 84);
    let history = engine.history(handle.id()).await.unwrap();
    assert_eq!(history.head.status, Status::Completed);
    let kinds: Vec<Kind> = history.records.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Kind::Done; 3]);
}

#[tokio::test(start_paused = true)]
async fn one_key_is_one_saga_however_often_it_is_started() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (other, _other_tasks) = world.engine();
    let b = Saga::<u32>::builder("once");
    b.step("a", world.ledger.step(ms(10))).undo(back);
    let saga = b.build().unwrap();
    let starts = (0..20).map(|n| {
        let engine = if n % 2 == 0 { &engine } else { &other };
        engine.start(&saga, &1).key("order-42").into_future()
    });
    let handles = futures_util::future::join_all(starts).await;
    let ids: std::collections::HashSet<_> =
        handles.iter().map(|it| it.as_ref().unwrap().id()).collect();
    assert_eq!(ids.len(), 1);
    for handle in handles {
        handle.unwrap().wait().await.unwrap();
    }
    assert_eq!(world.ledger.count("do a"), 1);
    let bad = engine.start(&saga, &1).key("").await;
    assert!(matches!(bad, Err(Error::Refused { .. })));
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
    // What was rejected had no effect: nothing of it is undone.
    assert_eq!(it.count("undo z") + it.count("undo unknown z"), 0);
    assert!(it.at("undo a") > it.at("undo l") && it.at("undo a") > it.at("undo r"));
}

#[tokio::test(start_paused = true)]
async fn retries_come_later_and_later_and_keep_the_key() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let tries = Arc::new(AtomicU32::new(0));
    let (count, ledger) = (Arc::clone(&tries), world.ledger.clone());
    let b = Saga::<u32>::builder("again");
    b.step("flaky", move |ctx, _| {
        ledger.ran(&ctx, "do");
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if number < 3 {
                return Err(StepError::retryable("not yet"));
            }
            Ok(ctx.attempt())
        }
    })
    .retry(Retry::times(3).between(ms(1_000), ms(60_000)))
    .undo(back);
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    handle.wait().await.unwrap();
    assert_eq!(tries.load(Ordering::SeqCst), 4);
    let records = engine.history(handle.id()).await.unwrap().records;
    let kinds: Vec<Kind> = records.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Kind::Retry, Kind::Retry, Kind::Retry, Kind::Done]);
    assert!(
        records
            .windows(2)
            .all(|two| two[0].due.unwrap() <= two[1].at)
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_that_says_when_is_not_tried_earlier() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let b = Saga::<u32>::builder("wait");
    b.step("a", |ctx: Ctx, _| async move {
        if ctx.attempt() == 1 {
            return Err(StepError::retryable("busy").retry_after(Duration::from_secs(40)));
        }
        Ok(1_u32)
    })
    .undo(back);
    let saga = b.build().unwrap();
    let began = Instant::now();
    let handle = engine.start(&saga, &1).await.unwrap();
    handle.wait().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(40));
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
async fn a_step_that_gives_signs_of_life_is_let_work() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let b = Saga::<u32>::builder("alive");
    b.step("long", |ctx: Ctx, _| async move {
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            ctx.heartbeat();
        }
        Ok(1_u32)
    })
    .heartbeat(Duration::from_secs(5))
    .undo(back);
    let saga = b.build().unwrap();
    engine.start(&saga, &1).await.unwrap().wait().await.unwrap();
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
async fn conditions_leave_steps_out_and_later_steps_see_none() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let b = Saga::<u32>::builder("maybe");
    let a = b.step("a", double).read_only();
    let big = b.after(a).when(|a| *a > 10).step("big", double).undo(back);
    let end = b
        .after((a, big))
        .step("end", |_, pair: (u32, Option<u32>)| async move { Ok(pair) });
    let saga = b.returns(end.read_only()).build().unwrap();
    let run = async |input: u32| {
        engine
            .start(&saga, &input)
            .await
            .unwrap()
            .wait()
            .await
            .unwrap()
    };
    assert_eq!(run(1).await, (2, None));
    assert_eq!(run(10).await, (20, Some(40)));
}

#[tokio::test(start_paused = true)]
async fn a_fan_out_runs_so_many_at_once_and_each_item_is_undone_by_itself() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (b, it) = (Saga::<Vec<u32>>::builder("many"), &world.ledger);
    let (now, peak) = (Arc::clone(&running), Arc::clone(&most));
    let each = b
        .after(b.input())
        .for_each("each", 3, move |ctx: Ctx, n: u32| {
            let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
            async move {
                peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(ms(100)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                assert!(
                    ctx.idempotency_key()
                        .ends_with(&format!(":each#{}", ctx.item()))
                );
                if n == 99 {
                    return Err(StepError::rejected("99"));
                }
                Ok(n + 1)
            }
        });
    let each = each.undo(it.undo());
    let sum = b
        .after(each)
        .step("sum", |_, all: Vec<u32>| async move { Ok(all) });
    let saga = b.returns(sum.read_only()).build().unwrap();
    let handle = engine.start(&saga, &(1..=10).collect()).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), (2..=11).collect::<Vec<u32>>());
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let none = engine.start(&saga, &Vec::new()).await.unwrap();
    assert_eq!(none.wait().await.unwrap(), Vec::<u32>::new());
    let bad = engine.start(&saga, &vec![1, 2, 99, 4, 5, 6]).await.unwrap();
    assert_eq!(bad.settled().await.unwrap(), Status::RolledBack);
    assert_eq!(it.count("undo each"), 2, "{:?}", it.lines());
}

#[tokio::test(start_paused = true)]
async fn sleeps_approvals_and_signals_wait_without_being_held_in_memory() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let b = Saga::<u32>::builder("patient");
    let a = b.step("a", double).read_only();
    let slept = b.after(a).sleep("rest", Duration::from_secs(3_600));
    let yes = b.after(slept).approval("yes", Duration::from_secs(86_400));
    let price = b.after(yes).signal::<u32>("price");
    let end = b
        .after((a, yes, price))
        .step("end", |_, (a, yes, price)| async move {
            let yes: ratebox_saga::Approval = yes;
            Ok((a, yes.who, price))
        });
    let saga = b.returns(end.read_only()).build().unwrap();
    let began = Instant::now();
    let handle = engine.start(&saga, &1).await.unwrap();
    // Said before anybody waits for it: kept.
    handle.signal("price", &5_u32, "shop").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(engine.live_sagas(), 0);
    tokio::time::sleep(Duration::from_secs(4_000)).await;
    assert_eq!(engine.live_sagas(), 0, "it waits for a person now");
    let by = By::new("jo", "fine");
    engine.approve(handle.id(), "yes", true, &by).await.unwrap();
    assert_eq!(handle.wait().await.unwrap(), (2, "jo".to_owned(), 5));
    assert!(began.elapsed() >= Duration::from_secs(3_600));
}

#[tokio::test(start_paused = true)]
async fn a_refused_or_missing_approval_undoes_the_saga() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    for refused in [true, false] {
        let (b, it) = (Saga::<u32>::builder("asked"), &world.ledger);
        let a = b.step("a", it.step(NOW)).undo(it.undo());
        let yes = b.after(a).approval("yes", Duration::from_secs(600));
        b.after(yes).step("z", it.step(NOW)).undo(it.undo());
        let saga = b.build().unwrap();
        let handle = engine.start(&saga, &1).await.unwrap();
        if refused {
            let by = By::new("jo", "too dear");
            engine
                .approve(handle.id(), "yes", false, &by)
                .await
                .unwrap();
        }
        let Err(Error::Ended { status, error, .. }) = handle.wait().await else {
            panic!("it completed");
        };
        assert_eq!(status, Status::RolledBack);
        let why = if refused {
            "yes: jo refused: too dear"
        } else {
            "yes: nobody said anything in time"
        };
        assert_eq!(error, why);
    }
    assert_eq!(world.ledger.count("do z"), 0);
    assert_eq!(world.ledger.count("undo a"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_child_is_a_step_and_undoes_itself_with_its_parent() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let it = &world.ledger;
    let c = Saga::<u32>::builder("child");
    let inner = c.step("inner", it.step(ms(20))).undo(it.undo());
    let child = c.returns(inner).build().unwrap();
    for fails in [false, true] {
        let b = Saga::<u32>::builder(if fails { "bad" } else { "good" });
        let a = b.step("a", it.step(NOW)).undo(it.undo());
        let sub = b.after(a).child("sub", &child, |a| a + 1);
        let z = b.after(sub).step("z", move |_, got: u32| async move {
            if fails {
                Err(StepError::rejected("no"))
            } else {
                Ok(got)
            }
        });
        let saga = b.returns(z.undo(back)).build().unwrap();
        let handle = engine.start(&saga, &1).await.unwrap();
        let status = handle.settled().await.unwrap();
        let end = if fails {
            Status::RolledBack
        } else {
            Status::Completed
        };
        assert_eq!(status, end);
    }
    assert_eq!((it.count("do inner"), it.count("undo inner")), (2, 1));
    assert!(it.at("undo inner") < it.at("undo a"));
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

#[tokio::test(start_paused = true)]
async fn messages_of_a_step_leave_with_its_record_and_only_if_it_succeeds() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let b = Saga::<u32>::builder("news").events("saga-events");
    let a = b.step("a", |ctx: Ctx, _| async move {
        let what = format!("attempt {}", ctx.attempt());
        ctx.send(ratebox_kit::FollowUp::new("orders", what));
        if ctx.attempt() == 1 {
            return Err(StepError::retryable("no"));
        }
        Ok(1_u32)
    });
    a.undo(back);
    let saga = b.build().unwrap();
    engine.start(&saga, &1).await.unwrap().wait().await.unwrap();
    let sent = world.store.sent();
    let topics: Vec<&str> = sent.iter().map(|it| it.topic.as_str()).collect();
    assert_eq!(topics, ["orders", "saga-events", "saga-events"]);
    assert_eq!(sent[0].body, "attempt 2");
    let kinds: Vec<&str> = sent[1..]
        .iter()
        .map(|it| it.headers[0].1.as_str())
        .collect();
    assert_eq!(kinds, ["news.a.success", "news.completed"]);
}

#[tokio::test(start_paused = true)]
async fn a_view_of_an_earlier_time_shows_what_was_then() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("past"), &world.ledger);
    let a = b.step("a", it.step(Duration::from_secs(1))).undo(it.undo());
    b.after(a)
        .step("c", it.step(Duration::from_secs(1)))
        .undo(it.undo());
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    handle.wait().await.unwrap();
    let states = async |at: Option<Timestamp>| {
        let view = engine.view(handle.id(), at).await.unwrap();
        let states: Vec<&str> = view.steps.iter().map(|it| it.state.as_str()).collect();
        states.join(" ")
    };
    assert_eq!(states(None).await, "done done");
    let first = engine.history(handle.id()).await.unwrap().records[0].at;
    assert_eq!(states(Some(first)).await, "done running");
}

struct Bad;

impl ratebox_saga::Listener for Bad {
    fn on_saga_start(&self, _: ratebox_saga::About<'_>) -> ratebox_saga::Heard {
        Err("the listener is out of order".into())
    }

    fn on_step_success(
        &self,
        _: ratebox_saga::About<'_>,
        _: &ratebox_saga::Record,
    ) -> ratebox_saga::Heard {
        panic!("told to")
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_fails_or_panics_changes_nothing() {
    let world = World::new();
    let tasks = ratebox_kit::Tasks::new();
    let engine = world.builder().listen(Bad).start(&tasks).unwrap();
    let b = Saga::<u32>::builder("deaf");
    b.step("a", double).read_only();
    let saga = b.build().unwrap();
    engine.start(&saga, &1).await.unwrap().wait().await.unwrap();
    assert!(tasks.failed().is_empty());
}
