//! What is done about imports that have ended: counted after a replay, listed, forgotten.

use std::time::Duration;

use ratebox_db::Sql;
use ratebox_store::{ImportFilter, State};
use ratebox_testkit::wait_until;
use serde_json::json;

use crate::bed::{Bed, SOON, Taken, dataset};

#[tokio::test]
async fn a_dead_letter_that_is_replayed_after_the_end_of_its_import_is_counted_after_all() {
    for bed in Bed::both().await {
        let process = bed.process();
        let datasets = json!([dataset("a", 1), dataset("b", 1)]);
        let import = bed.take(&datasets, Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        let mut entries = bed.requests_of(import).await;
        let late = entries.split_off(1);
        let dies = "UPDATE validation_requests SET state = 'dead' WHERE batch_id = 'b'";
        bed.store.db().script(dies.to_owned()).await.unwrap();
        bed.judge(entries).await;
        assert_eq!(
            bed.ended(import).await.state,
            State::Partial,
            "{}",
            bed.name
        );
        let told = bed.told(import).await;
        assert_eq!(process.starter.recount().await.unwrap(), 0, "{}", bed.name);
        // As a replay does, and then a worker.
        let replayed = "UPDATE validation_requests SET state = 'queued' WHERE state = 'dead'";
        bed.store.db().script(replayed.to_owned()).await.unwrap();
        bed.judge(late).await;
        assert_eq!(process.starter.recount().await.unwrap(), 1, "{}", bed.name);
        let status = bed.status(import).await;
        assert_eq!(status.state, State::Success, "{}", bed.name);
        let counted: Vec<_> = status.parts.iter().map(|it| (it.state, it.done)).collect();
        assert_eq!(counted, [(State::Success, 1); 2], "{}", bed.name);
        assert_eq!(process.starter.recount().await.unwrap(), 0, "{}", bed.name);
        // Its end is not told a second time.
        assert_eq!(bed.told(import).await, told, "{}", bed.name);
    }
}

#[tokio::test]
async fn an_import_that_cannot_be_counted_again_keeps_nobody_from_the_others() {
    for bed in Bed::both().await {
        let process = bed.process();
        // More requests than are looked at together.
        let many: Vec<_> = (0..17).map(|n| dataset(&format!("{n}"), 1)).collect();
        let sick = bed.take(&json!(many), Taken::AtOnce).await;
        let well = bed.take(&json!([dataset("x", 1)]), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        let mut entries = bed.requests_of(sick).await;
        entries.extend(bed.requests_of(well).await);
        let dies = "UPDATE validation_requests SET state = 'dead'".to_owned();
        bed.store.db().script(dies).await.unwrap();
        for import in [sick, well] {
            assert_eq!(bed.ended(import).await.state, State::Dead, "{}", bed.name);
            bed.told(import).await;
        }
        let replayed = "UPDATE validation_requests SET state = 'queued'".to_owned();
        bed.store.db().script(replayed).await.unwrap();
        bed.judge(entries).await;
        let sickens = Sql {
            postgres: "UPDATE imports SET state = 'unreadable' WHERE id = $1",
            sqlite: "UPDATE imports SET state = 'unreadable' WHERE id = ?1",
        };
        let sickens = sickens.with(vec![sick.into()]);
        bed.store.db().execute(sickens).await.unwrap();
        assert_eq!(process.starter.recount().await.unwrap(), 1, "{}", bed.name);
        assert_eq!(bed.status(well).await.state, State::Success, "{}", bed.name);
        // Nor is it given up.
        let heals = "UPDATE imports SET state = 'dead' WHERE state = 'unreadable'".to_owned();
        bed.store.db().script(heals).await.unwrap();
        assert_eq!(process.starter.recount().await.unwrap(), 17, "{}", bed.name);
        assert_eq!(bed.status(sick).await.state, State::Success, "{}", bed.name);
    }
}

#[tokio::test]
async fn an_import_that_was_cancelled_stays_so_whatever_is_replayed() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&json!([dataset("a", 1)]), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        bed.published_are(1).await;
        let dies = "UPDATE validation_requests SET state = 'dead'";
        bed.store.db().script(dies.to_owned()).await.unwrap();
        bed.ended(import).await;
        let cancelled = "UPDATE imports SET state = 'cancelled'".to_owned();
        bed.store.db().script(cancelled).await.unwrap();
        let replayed = "UPDATE validation_requests SET state = 'queued'".to_owned();
        bed.store.db().script(replayed).await.unwrap();
        bed.judge(bed.published().await).await;
        assert_eq!(process.starter.recount().await.unwrap(), 1, "{}", bed.name);
        let status = bed.status(import).await;
        assert_eq!(status.state, State::Cancelled, "{}", bed.name);
        assert_eq!(status.parts[0].done, 1, "{}", bed.name);
    }
}

#[tokio::test]
async fn imports_are_forgotten_some_time_after_their_end_and_open_ones_never() {
    for bed in Bed::both().await {
        let process = bed.process();
        let ended = bed.take(&json!([dataset("a", 2)]), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        bed.published_are(1).await;
        bed.judge(bed.published().await).await;
        bed.ended(ended).await;
        let open = bed.take(&json!([dataset("b", 2)]), Taken::AtOnce).await;
        assert_eq!(process.starter.forget().await.unwrap(), 0, "for ever");
        let starter = process.starter.keeping(Some(Duration::from_secs(3_600)));
        assert_eq!(starter.forget().await.unwrap(), 0, "{}", bed.name);
        let starter = starter.keeping(Some(Duration::from_millis(1)));
        let is_forgotten = || async {
            starter.forget().await.unwrap();
            bed.store.import_report(ended).await.unwrap().is_none()
        };
        Box::pin(wait_until(SOON, "it is forgotten", is_forgotten)).await;
        assert_eq!(bed.status(open).await.state, State::Queued, "{}", bed.name);
        let parts = "SELECT count(*) FROM import_parts";
        assert_eq!(bed.count(parts).await, 1, "{}", bed.name);
        // What was judged stays.
        let requests = "SELECT count(*) FROM validation_requests";
        assert_eq!(bed.count(requests).await, 2, "{}", bed.name);
    }
}

#[tokio::test]
async fn imports_are_listed_with_how_far_they_are() {
    for bed in Bed::both().await {
        let process = bed.process();
        let first = bed.take(&json!([dataset("a", 1500)]), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        bed.published_are(2).await;
        bed.judge(bed.published().await).await;
        bed.ended(first).await;
        let second = bed.take(&json!([dataset("b", 2)]), Taken::AsItCame).await;
        let list = async |filter: ImportFilter| bed.store.imports(&filter, 10).await.unwrap();
        let all = list(ImportFilter::default()).await;
        let ids: Vec<_> = all.iter().map(|it| it.id).collect();
        assert_eq!(ids, [second, first], "{}", bed.name);
        let whole = &all[1];
        assert_eq!(
            (whole.items_done, whole.done, whole.failed),
            (1500, 1000, 500)
        );
        let requests = (whole.requests, whole.requests_done, whole.requests_dead);
        assert_eq!(requests, (2, 2, 0), "{}", bed.name);
        assert!(
            whole.saga.is_some() && whole.finished_at.is_some(),
            "{}",
            bed.name
        );
        let open = list(ImportFilter {
            states: vec![State::Queued, State::Processing],
            ..ImportFilter::default()
        });
        let open = open.await;
        assert_eq!((open.len(), open[0].id, open[0].items_done), (1, second, 0));
        let theirs = ImportFilter {
            owner: Some("bob".to_owned()),
            ..ImportFilter::default()
        };
        assert!(list(theirs).await.is_empty(), "{}", bed.name);
        let older = ImportFilter {
            before: Some(second),
            ..ImportFilter::default()
        };
        assert_eq!(list(older).await.len(), 1, "{}", bed.name);
    }
}
