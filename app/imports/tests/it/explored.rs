//! Every fault at every step of an import's saga, in virtual time, on a database.

use std::sync::Arc;
use std::time::Duration;

use ratebox_imports::Import;
use ratebox_saga::{Explore, Harm, Journal, Status};
use ratebox_store::{ImportFilter, ImportSummary, State};
use serde_json::json;

use crate::bed::{Bed, Taken, dataset};

/// Following waits for workers for as long as it likes: one that hangs is ended by a kill alone.
const ENDLESS: &[(&str, Harm)] = &[("follow", Harm::Hang)];

/// A worker that judges whatever comes.
async fn works(bed: Arc<Bed>) {
    let mut judged = 0;
    loop {
        let entries = bed.published().await.split_off(judged);
        judged += entries.len();
        bed.judge(entries).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_step_of_an_import_keeps_every_promise() {
    let bed = Arc::new(Bed::sqlite().await);
    let (saga, shutdown) = (bed.saga(), bed.tasks.shutdown());
    let worker = works(Arc::clone(&bed));
    bed.tasks.spawn("worker", async move {
        shutdown.unless(worker).await;
    });
    let journal = Journal::new(bed.sagas());
    let import = || {
        let bed = Arc::clone(&bed);
        async move {
            let datasets = json!([dataset("a", 1), dataset("b", 2)]);
            let import = bed.take(&datasets, Taken::AsItCame).await;
            Import { import }
        }
    };
    let nothing = Import {
        import: ratebox_kit::id::new(),
    };
    let explore = Explore::new(&saga, &nothing).on(&journal, import);
    let explore = explore.except(ENDLESS);
    // All pairs take their time: so many runs.
    let pairs = std::env::var_os("RATEBOX_TEST_PAIRS").is_some();
    let explore = match pairs {
        true => explore,
        false => explore.singles(),
    };
    let report = explore.run().await;
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.runs > 50, "{report}");
    let ended = |status| report.ends.get(&status).copied().unwrap_or(0);
    assert!(
        ended(Status::Completed) > 0 && ended(Status::RolledBack) > 0,
        "{report}"
    );
    // And what the owners of the imports see: each has its end, and no item is left over. But for
    // those whose saga was refused before it had done anything: the relay's chores end them.
    let imports = bed.store.imports(&ImportFilter::default(), 10_000).await;
    let imports = imports.unwrap();
    assert_eq!(imports.len(), report.runs);
    let is_open = |it: &&ImportSummary| !it.state.is_terminal();
    let left = imports.iter().filter(is_open).count();
    assert!(if pairs { left > 1 } else { left == 1 }, "{left} are open");
    for import in imports {
        let items = import.items_done + import.items_cancelled;
        if !import.state.is_terminal() {
            assert_eq!(items, 0, "{import:?}");
            continue;
        }
        assert!(
            items == import.item_count || import.state == State::Dead,
            "{import:?}"
        );
        assert_eq!(import.done + import.failed, import.items_done, "{import:?}");
        assert_eq!(bed.told(import.id).await["status"], import.state.as_str());
    }
}
