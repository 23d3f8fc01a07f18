//! Rolling deploys: processes that have a definition beside processes that do not, on one journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratebox_kit::Tasks;
use ratebox_saga::{
    Append, By, Ctx, Desk, Engine, Error, Kind, Order, Outcome, ParkedWatch, Retry, Saga, SagaId,
    Status, StepError, StepResult, Wake, Written,
};

use crate::beds::{self, LONG, change, letter, nothing, record};
use crate::world::World;

const NOW: Duration = Duration::ZERO;
/// Patience of orders, in virtual time.
const SOON: Duration = Duration::from_secs(10);

/// Waits until a saga has this status.
async fn becomes(engine: &Engine, id: SagaId, status: Status) {
    let look = async {
        while engine.history(id).await.unwrap().head.status != status {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), look).await;
    assert!(waited.is_ok(), "it never became {status}");
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_another_process_parked_goes_on_where_its_definition_is() {
    let world = World::new();
    let (old, _old_tasks) = world.engine();
    let (b, it) = (Saga::<u32>::builder("moving"), &world.ledger);
    let a = b.step("a", it.step(NOW)).undo(it.undo());
    b.after(a)
        .step("slow", it.step(Duration::from_secs(20)))
        .undo(it.undo());
    let saga = b.build().unwrap();
    let id = old.start(&saga, &1).await.unwrap().id();
    tokio::time::sleep(Duration::from_secs(1)).await;
    old.crash();
    // Of the next release, and alive all the time.
    let (new, _new_tasks) = world.engine();
    becomes(&new, id, Status::Parked).await;
    // Of the old release, started late, or simply the next one to look.
    let tasks = Tasks::new();
    let other = world.builder().register(&saga).start(&tasks).unwrap();
    becomes(&other, id, Status::Completed).await;
    assert_eq!((it.count("do a"), it.count("do slow")), (1, 1));
    let records = other.history(id).await.unwrap().records;
    let resumed = records.iter().find(|it| it.kind == Kind::Resumed).unwrap();
    assert!(resumed.who.is_some());
    assert_eq!(resumed.note.as_deref(), Some("its definition is here"));
    // Its record says so once, however often somebody looks.
    assert_eq!(
        records.iter().filter(|it| it.kind == Kind::Resumed).count(),
        1
    );
}

/// Its last step waits for an operator until it is repaired.
fn stuck(is_repaired: &Arc<AtomicBool>) -> Saga<u32> {
    let b = Saga::<u32>::builder("stuck");
    let pay = b.step("pay", async |_: Ctx, n: u32| Ok(n)).pivot();
    let repaired = Arc::clone(is_repaired);
    let mail = move |_: Ctx, _: u32| {
        let is_repaired = repaired.load(Ordering::SeqCst);
        async move {
            let outcome: StepResult = match is_repaired {
                true => Ok(()),
                false => Err(StepError::rejected("no answer")),
            };
            outcome
        }
    };
    b.after(pay).step("mail", mail).retry(Retry::times(1));
    b.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_order_that_came_to_a_process_without_the_definition_is_carried_out_by_one_with_it() {
    let (world, repaired) = (World::new(), Arc::new(AtomicBool::new(false)));
    let saga = stuck(&repaired);
    let tasks = Tasks::new();
    let old = world.builder().register(&saga).start(&tasks).unwrap();
    let handle = old.start(&saga, &1).await.unwrap();
    let id = handle.id();
    assert_eq!(handle.settled().await.unwrap(), Status::Parked);
    old.crash();
    let (new, _new_tasks) = world.engine();
    let before = new.history(id).await.unwrap().head.owner;
    while new.history(id).await.unwrap().head.owner == before {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The only process that is alive cannot read the order.
    repaired.store(true, Ordering::SeqCst);
    let (desk, by) = (
        Desk::new(&world.journal, world.time.clone()),
        By::new("jo", "mended"),
    );
    let retry = Order::Retry {
        step: "mail".to_owned(),
    };
    let sent = desk.prepare(id, &retry, &by).await.unwrap();
    desk.send(&sent).await.unwrap();
    assert_eq!(desk.settled(&sent, SOON).await.unwrap(), Outcome::Waiting);
    let other = world.builder().register(&saga).start(&tasks).unwrap();
    becomes(&other, id, Status::Completed).await;
    assert_eq!(desk.settled(&sent, SOON).await.unwrap(), Outcome::Done);
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_waits_for_an_operator_stays_with_its_owner() {
    let (world, repaired) = (World::new(), Arc::new(AtomicBool::new(false)));
    let saga = stuck(&repaired);
    let (tasks, others) = (Tasks::new(), Tasks::new());
    let one = world.builder().register(&saga).start(&tasks).unwrap();
    let handle = one.start(&saga, &1).await.unwrap();
    assert_eq!(handle.settled().await.unwrap(), Status::Parked);
    let before = one.history(handle.id()).await.unwrap();
    let _other = world.builder().register(&saga).start(&others).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(one.history(handle.id()).await.unwrap(), before);
}

/// A record that says that the saga is parked as a whole.
fn parked(saga: SagaId, seq: u32) -> Append {
    let record = ratebox_saga::Record {
        kind: Kind::Parked,
        step: "".into(),
        payload: None,
        ..record(seq)
    };
    Append {
        records: vec![record],
        head: Some(change(Status::Parked, Wake::Letter)),
        ..nothing(saga)
    }
}

#[tokio::test]
async fn only_what_is_parked_as_a_whole_is_taken_from_a_living_process() {
    for bed in beds::all().await {
        let (owner, heir) = (bed.join().await, bed.join().await);
        let (whole, step, running) = (
            bed.started(owner).await,
            bed.started(owner).await,
            bed.started(owner).await,
        );
        bed.append(owner, beds::records(whole, 0..1)).await;
        bed.append(owner, parked(whole, 1)).await;
        bed.append(owner, beds::records(step, 0..12)).await;
        bed.change(owner, step, Status::Parked, Wake::Letter).await;
        let told = letter(whole, "go");
        bed.store.post(&told).await.unwrap();
        assert_eq!(bed.store.mail(owner, 10).await.unwrap().len(), 1);
        for (id, taken) in [(whole, true), (step, false), (running, false)] {
            let is_mine = bed.store.take_parked(heir, id).await.unwrap();
            assert_eq!(is_mine, taken, "{}", bed.name);
        }
        // What it was told comes along, and its owner can write no more.
        let mail = bed.store.mail(heir, 10).await.unwrap();
        assert_eq!(mail, [told], "{}", bed.name);
        let late = bed.append(owner, beds::records(whole, 2..3)).await;
        assert_eq!(late, Written::NotYours, "{}", bed.name);
        assert_eq!(
            bed.append(heir, beds::records(whole, 2..3)).await,
            Written::Kept
        );
        // It goes on, so nobody takes it any more.
        assert!(
            !bed.store.take_parked(owner, whole).await.unwrap(),
            "{}",
            bed.name
        );
        let counts = bed.store.parked().await.unwrap();
        assert_eq!((counts.len(), counts[0].sagas), (1, 2), "{}", bed.name);
    }
}

#[tokio::test]
async fn a_fenced_process_takes_nothing_that_is_parked() {
    for bed in beds::all().await {
        let (owner, late, other) = (bed.join().await, bed.join_late().await, bed.join().await);
        let id = bed.started(owner).await;
        bed.append(owner, parked(id, 0)).await;
        let fence = async {
            loop {
                bed.store.adopt(other, 0).await.unwrap();
                match bed.store.take_parked(late, id).await {
                    Err(Error::Fenced) => return,
                    taken => assert!(taken.unwrap(), "{}", bed.name),
                }
            }
        };
        tokio::time::timeout(LONG, fence).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn parked_sagas_are_measured_where_no_engine_runs() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let figures = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let (world, repaired) = (World::new(), Arc::new(AtomicBool::new(false)));
    let saga = stuck(&repaired);
    let tasks = Tasks::new();
    let engine = world.builder().register(&saga).start(&tasks).unwrap();
    for number in [1, 2] {
        let handle = engine.start(&saga, &number).await.unwrap();
        assert_eq!(handle.settled().await.unwrap(), Status::Parked);
    }
    engine.crash();
    let mut watch = ParkedWatch::new(&world.journal);
    watch.step().await.unwrap();
    let line = |count: u32| format!("saga_parked_count{{saga_name=\"stuck\"}} {count}\n");
    assert!(figures.render().contains(&line(2)), "{}", figures.render());
    // An operator ends both, by a process that knows the definition.
    let others = Tasks::new();
    let heir = world.builder().register(&saga).start(&others).unwrap();
    let filter = ratebox_saga::Filter {
        limit: 10,
        ..ratebox_saga::Filter::default()
    };
    for head in heir.list(&filter).await.unwrap() {
        heir.abandon(head.id, &By::new("jo", "closed"))
            .await
            .unwrap();
        becomes(&heir, head.id, Status::Failed).await;
    }
    watch.step().await.unwrap();
    assert!(figures.render().contains(&line(0)), "{}", figures.render());
}
