//! What has no verdict when its owner asks for the end gets none, and everything else keeps it.

use futures_util::future::join_all;
use ratebox_saga::By;
use ratebox_store::{CancelAnswer, State};
use ratebox_stream::{Entry, Handler as _};
use ratebox_testkit::wait_until;
use serde_json::json;

use crate::bed::{Bed, SOON, Taken, dataset};

fn five() -> serde_json::Value {
    let names = ["a", "b", "c", "d", "e"];
    json!(names.map(|name| dataset(name, 3)))
}

#[tokio::test]
async fn what_was_not_judged_is_cancelled_and_never_judged() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&five(), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        let mut entries = bed.requests_of(import).await;
        let rest = entries.split_off(2);
        bed.judge(entries).await;
        let asked = bed.store.ask_import_cancel(import, "ann").await.unwrap();
        assert_eq!(asked, Some(CancelAnswer::Asked));
        let again = bed.store.ask_import_cancel(import, "ann").await.unwrap();
        assert_eq!(again, Some(CancelAnswer::Asked));
        let ended = bed.ended(import).await;
        assert_eq!(ended.state, State::Cancelled, "{}", bed.name);
        let states: Vec<_> = ended.parts.iter().map(|it| it.state).collect();
        let (judged, cancelled) = (State::Partial, State::Cancelled);
        assert_eq!(states, [judged, judged, cancelled, cancelled, cancelled]);
        let told = bed.told(import).await;
        assert_eq!(told["status"], "cancelled");
        assert_eq!(
            (&told["items_done"], &told["items_cancelled"]),
            (&json!(6), &json!(9))
        );
        assert_eq!(told["verdicts"], json!({"DONE": 4, "ERROR": 2}));
        // The bus still has them; a worker that takes them does nothing.
        bed.judge(rest).await;
        assert_eq!(bed.count("SELECT count(*) FROM raw_items").await, 6);
        bed.is_whole(import).await;
        let ended = bed.store.ask_import_cancel(import, "ann").await.unwrap();
        assert_eq!(ended, Some(CancelAnswer::Ended(State::Cancelled)));
    }
}

#[tokio::test]
async fn an_import_that_is_cancelled_before_it_is_cut_leaves_no_request() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&five(), Taken::AsItCame).await;
        bed.store.ask_import_cancel(import, "ann").await.unwrap();
        process.starter.step().await.unwrap();
        let ended = bed.ended(import).await;
        assert_eq!(
            (ended.state, ended.error),
            (State::Cancelled, None),
            "{}",
            bed.name
        );
        assert!(ended.parts.iter().all(|it| it.state == State::Cancelled));
        assert_eq!(
            bed.count("SELECT count(*) FROM validation_requests").await,
            0
        );
        assert_eq!(
            bed.count("SELECT count(*) FROM imports WHERE body IS NOT NULL")
                .await,
            0
        );
        assert_eq!(bed.told(import).await["items_cancelled"], 15);
        assert!(bed.published().await.is_empty());
    }
}

#[tokio::test]
async fn an_ended_import_stays_as_it_ended() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&five(), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        bed.judge(bed.requests_of(import).await).await;
        let ended = bed.ended(import).await.state;
        let answer = bed.store.ask_import_cancel(import, "ann").await.unwrap();
        assert_eq!(answer, Some(CancelAnswer::Ended(ended)), "{}", bed.name);
        bed.told(import).await;
        // Nor can an operator undo it.
        let saga = process.saga_of(import).await;
        let refused = process
            .engine
            .cancel(saga, &By::new("ops", "too late"))
            .await;
        assert!(refused.is_err(), "{}", bed.name);
        assert_eq!(bed.status(import).await.state, State::Partial);
    }
}

#[tokio::test]
async fn an_import_is_nobody_elses_to_cancel() {
    for bed in Bed::both().await {
        let import = bed.take(&five(), Taken::AtOnce).await;
        assert_eq!(
            bed.store.ask_import_cancel(import, "bob").await.unwrap(),
            None
        );
        assert!(
            bed.store
                .import_status(import, "bob")
                .await
                .unwrap()
                .is_none()
        );
        assert_eq!(
            bed.status(import).await.cancel_asked_at,
            None,
            "{}",
            bed.name
        );
    }
}

#[tokio::test]
async fn an_operator_who_undoes_the_saga_cancels_the_import() {
    for bed in Bed::both().await {
        let process = bed.process();
        let import = bed.take(&five(), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        let mut entries = bed.requests_of(import).await;
        entries.truncate(1);
        bed.judge(entries).await;
        wait_until(SOON, "the saga follows", || async {
            Box::pin(bed.status(import)).await.parts[0].done > 0
        })
        .await;
        let saga = process.saga_of(import).await;
        process
            .engine
            .cancel(saga, &By::new("ops", "a test"))
            .await
            .unwrap();
        assert_eq!(
            bed.ended(import).await.state,
            State::Cancelled,
            "{}",
            bed.name
        );
        bed.judge(bed.published().await).await;
        bed.is_whole(import).await;
    }
}

#[tokio::test]
async fn an_import_that_its_saga_left_open_ends_as_cancelled() {
    for bed in Bed::both().await {
        let process = bed.process();
        let gone = bed.take(&five(), Taken::AsItCame).await;
        bed.store.ask_import_cancel(gone, "ann").await.unwrap();
        process.starter.step().await.unwrap();
        bed.ended(gone).await;
        let ended = process.saga_of(gone).await;
        wait_until(SOON, "the saga's end", || async {
            let view = process.engine.view(ended, None).await.unwrap();
            view.head.status.is_end()
        })
        .await;
        // As after an operator who undid a saga that had yet to do anything.
        let mut left = Vec::new();
        for taken in [Taken::AtOnce, Taken::AsItCame] {
            let import = bed.take(&five(), taken).await;
            bed.store.attend_import(import, ended.0).await.unwrap();
            left.push(import);
        }
        let alive = bed.take(&five(), Taken::AtOnce).await;
        process.starter.step().await.unwrap();
        assert_eq!(process.starter.pick_up_left().await.unwrap(), 2);
        for import in left {
            assert_eq!(bed.ended(import).await.state, State::Cancelled);
            bed.is_whole(import).await;
        }
        assert_eq!(process.starter.pick_up_left().await.unwrap(), 0);
        let status = Box::pin(bed.status(alive)).await;
        assert!(!status.state.is_terminal(), "{}: {status:?}", bed.name);
    }
}

fn in_threes(mut entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut batches = Vec::new();
    while !entries.is_empty() {
        let rest = entries.split_off(entries.len().min(3));
        batches.push(entries);
        entries = rest;
    }
    batches
}

/// Whoever commits first has a request; nobody has it twice and none is lost.
#[tokio::test]
async fn workers_at_work_and_a_cancel_share_the_requests() {
    for bed in Bed::both().await {
        let process = bed.process();
        let mut judged_in_all = 0;
        for round in 0..8_usize {
            let names: Vec<_> = (0..24).map(|n| dataset(&format!("d{n}"), 2)).collect();
            let import = bed.take(&json!(names), Taken::AtOnce).await;
            process.starter.step().await.unwrap();
            let entries = bed.requests_of(import).await;
            let batches = in_threes(entries);
            let batches = batches.into_iter().map(|it| bed.worker.handle(it));
            let cancel = async {
                tokio::time::sleep(std::time::Duration::from_millis(round as u64 * 2)).await;
                bed.store.ask_import_cancel(import, "ann").await.unwrap()
            };
            let (_, answer) = tokio::join!(join_all(batches), cancel);
            let ended = bed.ended(import).await;
            // What a worker was kept from comes again.
            bed.judge(bed.requests_of(import).await).await;
            let expected = match answer {
                Some(CancelAnswer::Asked) => State::Cancelled,
                _ => State::Success,
            };
            assert_eq!(ended.state, expected, "{}", bed.name);
            let judged = ended
                .parts
                .iter()
                .filter(|it| it.state.has_verdict())
                .count();
            let cancelled = ended.parts.iter().filter(|it| it.state == State::Cancelled);
            assert_eq!(judged + cancelled.count(), 24, "{}", bed.name);
            judged_in_all += judged * 2;
            let items = bed.count("SELECT count(*) FROM raw_items").await;
            assert_eq!(items, judged_in_all as u64, "{} in round {round}", bed.name);
        }
    }
}
