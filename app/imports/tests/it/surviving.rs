//! Processes die; another one finishes what they began.

use std::time::Duration;

use ratebox_store::State;
use serde_json::json;

use crate::bed::{Bed, SOON, Taken, dataset};

#[tokio::test]
async fn an_import_whose_process_dies_is_finished_by_another() {
    for bed in Bed::both().await {
        let first = bed.process();
        let mut imports = Vec::new();
        for n in 0..4 {
            let taken = if n % 2 == 0 {
                Taken::AtOnce
            } else {
                Taken::AsItCame
            };
            imports.push(
                bed.take(&json!([dataset("a", 4), dataset("b", 2)]), taken)
                    .await,
            );
        }
        first.starter.step().await.unwrap();
        bed.published_are(8).await;
        let mut entries = bed.published().await;
        let rest = entries.split_off(3);
        bed.judge(entries).await;
        first.engine.crash();
        let _second = bed.process();
        bed.judge(rest).await;
        for import in imports {
            assert_eq!(
                bed.ended(import).await.state,
                State::Partial,
                "{}",
                bed.name
            );
            bed.told(import).await;
        }
        assert_eq!(bed.count("SELECT count(*) FROM raw_items").await, 24);
        bed.published_are(8).await;
    }
}

#[tokio::test]
async fn a_process_that_dies_at_any_moment_of_the_cut_leaves_each_item_judged_once() {
    for bed in Bed::both().await {
        let mut imports = Vec::new();
        for round in 0..6_u64 {
            let doomed = bed.process();
            let datasets = json!([dataset("a", 1500)]);
            imports.push(bed.take(&datasets, Taken::AsItCame).await);
            let _ = doomed.starter.step().await;
            tokio::time::sleep(Duration::from_millis(round * 5)).await;
            doomed.engine.crash();
        }
        // Any of them may have died before its saga was on disk.
        let heir = bed.process();
        heir.starter.step().await.unwrap();
        for import in imports {
            let judged = async {
                while !bed.status(import).await.state.is_terminal() {
                    // What a dead process published may come twice.
                    bed.judge(bed.published().await).await;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            let in_time = tokio::time::timeout(SOON, judged).await;
            assert!(in_time.is_ok(), "an import has no end on {}", bed.name);
            assert_eq!(bed.status(import).await.state, State::Partial);
            bed.told(import).await;
        }
        let items = bed.count("SELECT count(*) FROM raw_items").await;
        assert_eq!(items, 9_000, "{}", bed.name);
        let requests = bed.count("SELECT count(*) FROM validation_requests").await;
        assert_eq!(requests, 12, "{}", bed.name);
    }
}

#[tokio::test]
async fn a_stop_waits_for_no_verdict() {
    for bed in Bed::both().await {
        let process = bed.process();
        bed.take(&json!([dataset("a", 4)]), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(process);
        let watch = ratebox_kit::Stopwatch::start();
        let tasks = bed.tasks.clone();
        let Bed { name, .. } = bed;
        assert_eq!(
            tasks.join(Duration::from_secs(20)).await,
            Vec::<String>::new(),
            "{name}"
        );
        assert!(
            watch.elapsed() < Duration::from_secs(4),
            "{name}: {:?}",
            watch.elapsed()
        );
    }
}
