//! The saga of an import, killed at each of its entries in turn, before and after it is on disk.

use std::time::Duration;

use ratebox_saga::EngineSettings;
use ratebox_store::State;
use ratebox_testkit::wait_until;
use serde_json::json;
use uuid::Uuid;

use crate::bed::{Bed, Process, SOON, Taken, dataset};
use crate::doomed::{Doomed, Side};

/// Items of an import, in two requests.
const ITEMS: u32 = 5;
/// Entries that the saga has in every run.
const ENTRIES_MIN: usize = 4;
/// More entries than the saga has in any run; the test says so if not.
const ENTRIES_MAX: usize = 30;

/// What becomes of the import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    /// It is judged.
    Judged,
    /// Its owner ends it before a worker comes.
    Cancelled,
}

fn soon() -> EngineSettings {
    EngineSettings {
        lease: Duration::from_millis(400),
        renew_every: Duration::from_millis(100),
        poll_every: Duration::from_millis(50),
        ..EngineSettings::default()
    }
}

/// Runs an import whose process dies at its entry number `at`; false when it lived on.
async fn dies(bed: &Bed, heir: &Process, road: Road, at: usize, side: Side) -> bool {
    let store = Doomed::new(bed.sagas(), at, side);
    let doomed = bed.process_on(store.clone(), soon());
    store.arm(&doomed.engine);
    let import = bed
        .take(&json!([dataset("a", 3), dataset("b", 2)]), Taken::AsItCame)
        .await;
    // A start whose process dies is never answered.
    let _ = tokio::time::timeout(Duration::from_secs(2), doomed.starter.step()).await;
    if road == Road::Cancelled {
        bed.store.ask_import_cancel(import, "ann").await.unwrap();
    }
    let ends = async {
        while !bed.status(import).await.state.is_terminal() {
            heir.starter.step().await.unwrap();
            if road == Road::Judged {
                bed.judge(bed.published().await).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let title = format!("{road:?}, {side:?} {at} on {}", bed.name);
    let ended = tokio::time::timeout(SOON, ends).await;
    assert!(ended.is_ok(), "no end: {title}");
    wait_until(SOON, &format!("its saga ends: {title}"), || async {
        bed.count("SELECT count(*) FROM sagas WHERE ended_at IS NULL")
            .await
            == 0
    })
    .await;
    is_right(bed, import, road, &title).await;
    let has_died = store.has_died();
    doomed.engine.crash();
    has_died
}

/// Every item was judged once or cancelled, and the end was told once.
async fn is_right(bed: &Bed, import: Uuid, road: Road, title: &str) {
    let status = bed.status(import).await;
    let parts = || status.parts.iter();
    let judged: u32 = parts().map(|it| it.done + it.failed).sum();
    let cancelled = parts().filter(|it| it.state == State::Cancelled);
    let cancelled: u32 = cancelled.map(|it| it.item_count).sum();
    let expected = match road {
        Road::Judged => (State::Partial, ITEMS, 0),
        Road::Cancelled => (State::Cancelled, 0, ITEMS),
    };
    assert_eq!((status.state, judged, cancelled), expected, "{title}");
    let told = bed.told(import).await;
    assert_eq!(told["status"], status.state.as_str(), "{title}");
    assert_eq!(told["items_done"], judged, "{title}");
}

async fn at_every_entry(road: Road) {
    for bed in Bed::both().await {
        let heir = bed.process_on(bed.sagas(), soon());
        let mut judged = 0;
        for side in [Side::Before, Side::After] {
            let (mut at, mut lost) = (0, 0);
            loop {
                assert!(at < ENTRIES_MAX, "it never ends on {}", bed.name);
                let died = dies(&bed, &heir, road, at, side).await;
                judged += u64::from(ITEMS);
                match died {
                    true => at += 1,
                    false if at >= ENTRIES_MIN => break,
                    // The heir has it: a machine that stood still for longer than a lease.
                    false => lost += 1,
                }
                assert!(lost < 10, "{at} entries only on {}", bed.name);
            }
        }
        if road == Road::Judged {
            let items = bed.count("SELECT count(*) FROM raw_items").await;
            assert_eq!(items, judged, "each item once on {}", bed.name);
        }
    }
}

#[tokio::test]
async fn an_import_survives_a_kill_at_each_of_its_entries() {
    Box::pin(at_every_entry(Road::Judged)).await;
}

#[tokio::test]
async fn an_import_that_is_cancelled_survives_a_kill_at_each_of_its_entries() {
    Box::pin(at_every_entry(Road::Cancelled)).await;
}
