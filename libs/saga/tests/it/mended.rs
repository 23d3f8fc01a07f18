//! Faults that were found by reading and by trying, mended, and are to stay so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use ratebox_db::Tx;
use ratebox_kit::Tasks;
use ratebox_saga::{
    By, Ctx, Engine, Journal, OnFailure, Retry, Saga, SqlStore, Status, StepError, StepResult,
};
use tokio::sync::Semaphore;

use crate::beds::databases;
use crate::brittle::Brittle;
use crate::world::World;

const NOW: Duration = Duration::ZERO;

/// What two steps in transactions and one that fails tell each other.
struct Race {
    begun: AtomicU32,
    first: Semaphore,
    failed: Semaphore,
}

/// One a database; steps in transactions are functions, which hold nothing.
static RACES: [Race; 2] = [const { Race::new() }; 2];

impl Race {
    const fn new() -> Self {
        Self {
            begun: AtomicU32::new(0),
            first: Semaphore::const_new(0),
            failed: Semaphore::const_new(0),
        }
    }
}

/// Lasts until the other step has failed.
async fn transacts(_: &mut Tx, _: Ctx, race: usize) -> StepResult<u32> {
    let race = &RACES[race];
    race.begun.fetch_add(1, Ordering::SeqCst);
    race.first.add_permits(1);
    drop(race.failed.acquire().await);
    Ok(1)
}

async fn fails_meanwhile(_: Ctx, race: usize) -> StepResult {
    drop(RACES[race].first.acquire().await);
    RACES[race].failed.add_permits(1);
    Err(StepError::rejected("no"))
}

/// Two steps in transactions can start; while the first runs, a third step fails. The second was
/// queued by then, and used to start all the same.
#[tokio::test]
async fn a_step_in_a_transaction_that_was_queued_is_not_started_after_the_saga_gave_up() {
    for (race, fresh) in databases().await.into_iter().enumerate() {
        let b = Saga::<usize>::builder("queued").on_failure(OnFailure::FailFast);
        let root = b.step("root", async |_: Ctx, n: usize| Ok(n)).read_only();
        b.after(root)
            .transaction("one", transacts)
            .no_undo("a test");
        b.after(root)
            .transaction("two", transacts)
            .no_undo("a test");
        b.after(root).step("fails", fails_meanwhile).read_only();
        let saga = b.build().unwrap();
        let tasks = Tasks::new();
        let journal = Journal::new(SqlStore::new(fresh.db.clone()));
        let engine = Engine::builder(&journal).start(&tasks).unwrap();
        let handle = engine.start(&saga, &race).await.unwrap();
        let status = handle.settled().await.unwrap();
        assert_eq!(status, Status::RolledBack, "{}", fresh.name);
        let begun = RACES[race].begun.load(Ordering::SeqCst);
        assert_eq!(begun, 1, "{}", fresh.name);
        tasks.join(Duration::from_secs(5)).await;
    }
}

/// The answer to a renewal comes after the lease was no longer certain, and before anybody took
/// the sagas: nothing started meanwhile, and nobody used to wake the sagas afterwards.
#[tokio::test(start_paused = true)]
async fn a_lease_that_comes_back_wakes_the_sagas_that_waited_for_it() {
    let world = World::new();
    let store = Brittle::new(world.store.clone());
    let journal = Journal::new(store.clone());
    let tasks = Tasks::new();
    let mut settings = world.settings();
    settings.lease = Duration::from_secs(3);
    settings.renew_every = Duration::from_secs(1);
    let engine = Engine::builder(&journal).settings(settings);
    let engine = engine.start(&tasks).unwrap();
    let (b, it) = (Saga::<u32>::builder("patient"), &world.ledger);
    // Ends at 3.2 s, when the lease that was asked for at 0 s is over.
    let long = b.step("long", it.step(Duration::from_millis(3_200)));
    b.after(long.read_only())
        .step("next", it.step(NOW))
        .read_only();
    let saga = b.build().unwrap();
    // Asked at 1 s, answered at 3.8 s: good until 4 s.
    store.faults.renewal_ms.store(2_800, Ordering::SeqCst);
    let handle = engine.start(&saga, &1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(it.lines(), ["do long"], "nothing starts without a lease");
    store.faults.renewal_ms.store(0, Ordering::SeqCst);
    let ended = tokio::time::timeout(Duration::from_secs(4), handle.wait()).await;
    ended.unwrap().unwrap();
    assert_eq!(it.lines(), ["do long", "do next"], "and once each");
}

/// What a fork runs was never started: it used to count as in doubt, and was undone when its first
/// attempt was rejected.
#[tokio::test(start_paused = true)]
async fn a_step_of_a_fork_that_is_rejected_was_never_in_doubt() {
    let world = World::new();
    let (engine, _tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("forked"), &world.ledger);
    let first = b.step("first", it.step(NOW)).undo(it.undo());
    let is_forked = Arc::new(AtomicBool::new(false));
    let (forked, ledger) = (Arc::clone(&is_forked), it.clone());
    let second = b.after(first).step("second", move |ctx: Ctx, _: u32| {
        let forked = forked.load(Ordering::SeqCst);
        ledger.note(format!("attempt {} of second", ctx.attempt()));
        async move {
            if forked {
                return Err(StepError::rejected("not again"));
            }
            Ok(1)
        }
    });
    second.retry(Retry::times(2)).undo(it.undo());
    let saga = b.build().unwrap();
    let handle = engine.start(&saga, &1).await.unwrap();
    handle.wait().await.unwrap();
    is_forked.store(true, Ordering::SeqCst);
    let by = By::new("jo", "once more");
    let fork = engine.fork(handle.id(), "second", &by).await.unwrap();
    let ended = async || engine.history(fork).await.unwrap().head.ended_at.is_some();
    while !ended().await {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        it.lines(),
        [
            "do first",
            "attempt 1 of second",
            "attempt 1 of second",
            "undo first"
        ]
    );
    let head = engine.history(fork).await.unwrap().head;
    assert_eq!(head.status, Status::RolledBack);
}

/// A takeover made the sagas this process' own; then the store did not answer when they were
/// loaded. Nobody named them again, and they used to rest until a restart.
#[tokio::test(start_paused = true)]
async fn sagas_whose_loading_failed_after_a_takeover_go_on() {
    let world = World::new();
    let (b, it) = (Saga::<u32>::builder("taken"), &world.ledger);
    let slow = b.step("slow", it.step(Duration::from_secs(2))).read_only();
    b.after(slow).step("end", it.step(NOW)).read_only();
    let saga = b.build().unwrap();
    let (dead, _tasks) = world.engine();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(dead.start(&saga, &1).await.unwrap().id());
    }
    dead.crash();
    let store = Brittle::new(world.store.clone());
    store.faults.loads.store(3, Ordering::SeqCst);
    let tasks = Tasks::new();
    let heir = Engine::builder(&Journal::new(store.clone())).settings(world.settings());
    let heir = heir.register(&saga).start(&tasks).unwrap();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(store.faults.loads.load(Ordering::SeqCst), 0, "loads failed");
    for id in ids {
        let head = heir.history(id).await.unwrap().head;
        assert_eq!(head.status, Status::Completed);
    }
    assert_eq!(it.count("do end"), 20);
}
