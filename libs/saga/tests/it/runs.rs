//! Sagas that run: results, retries, time, signals, conditions, fan-outs, children, listeners.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ratebox_kit::Timestamp;
use ratebox_saga::{By, Ctx, Error, Kind, Retry, Saga, Status, StepError, StepResult};
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
async fn a_diamond_of_five_steps_takes_four_commits_and_five_records() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let b = Saga::<u32>::builder("diamond");
    let a = b.step("a", double).undo(back);
    let [x, y, z] = ["x", "y", "z"].map(|name| b.after(a).step(name, double).undo(back));
    b.after((x, y, z))
        .step("end", |_, (x, _, _)| async move { Ok::<u32, StepError>(x) })
        .undo(back);
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    handle.wait().await.unwrap();
    assert_eq!(world.store.commits(), 4);
    let records = engine.history(handle.id()).await.unwrap().records;
    assert_eq!(records.len(), 5);
    let ran: Vec<u32> = records.iter().map(|it| it.seq).collect();
    assert_eq!(ran, [0, 1, 2, 3, 4]);
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

/// Takes a second.
async fn slowly_back(_: Ctx, _: u32, _: Option<u32>) -> StepResult {
    tokio::time::sleep(ms(1_000)).await;
    Ok(())
}

/// Takes a second, and fails.
async fn slow_no(_: Ctx, _: u32) -> StepResult {
    tokio::time::sleep(ms(1_000)).await;
    Err(StepError::rejected("no"))
}

#[tokio::test(start_paused = true)]
async fn the_head_of_an_earlier_time_knows_nothing_of_what_came_later() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let b = Saga::<u32>::builder("past");
    let a = b.step("a", world.ledger.step(ms(1_000))).undo(slowly_back);
    b.after(a).step("c", slow_no).read_only();
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::RolledBack);
    let now = engine.history(handle.id()).await.unwrap();
    let begun = now.head.created_at;
    let at: Vec<Timestamp> = now.records.iter().map(|it| it.at).collect();
    assert_eq!(at.len(), 3, "a done, c failed, a undone");
    let view = async |at: Timestamp| engine.view(handle.id(), Some(at)).await;
    for (at, records, status, error) in [
        (begun, 0, Status::Executing, None),
        (at[0], 1, Status::Executing, None),
        (at[1], 2, Status::Compensating, Some("c: no")),
        (at[2], 3, Status::RolledBack, Some("c: no")),
    ] {
        let then = view(at).await.unwrap();
        assert_eq!(then.records.len(), records);
        let head = then.head;
        assert_eq!((head.status, head.error.as_deref()), (status, error));
        assert_eq!(head.ended_at.is_some(), status.is_end(), "{status}");
        assert_eq!(head.updated_at.min(at), head.updated_at, "{status}");
    }
    let early = Timestamp::from_microsecond(begun.as_microsecond() - 1).unwrap();
    let unknown = view(early).await;
    assert!(matches!(unknown, Err(Error::NoSuchSaga { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_was_undone_after_its_end_had_completed_at_a_time_between() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let b = Saga::<u32>::builder("regretted");
    let a = b.step("a", world.ledger.step(NOW)).undo(back);
    let saga = b.returns(a).build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::Completed);
    let id = handle.id();
    let ended = engine.history(id).await.unwrap().head;
    tokio::time::sleep(ms(10_000)).await;
    let by = By::new("jo", "not wanted");
    engine.cancel(id, &by).await.unwrap();
    while engine.history(id).await.unwrap().head.status != Status::RolledBack {
        tokio::time::sleep(ms(100)).await;
    }
    let then = engine.view(id, Some(ended.updated_at)).await.unwrap().head;
    assert_eq!((then.status, then.error), (Status::Completed, None));
    assert!(then.output.is_some() && then.ended_at.is_some());
    assert_eq!(then.output, ended.output);
    let now = engine.view(id, None).await.unwrap().head;
    assert_eq!(now.error.as_deref(), Some("not wanted"));
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
