//! What a batch leaves behind.

use ratebox_intake::item_id;
use ratebox_kit::{Timestamp, id};
use ratebox_store::{Batch, BatchCount, Finished, ItemRow, Rewrite, Stamp, State, Statement};
use uuid::Uuid;

use crate::databases::{Fresh, both};
use crate::requests::request;

fn item(request: Uuid, no: u32, done: bool) -> ItemRow<'static> {
    ItemRow {
        id: item_id(request, no),
        request_id: request,
        item_no: no,
        payload: "{\"phone\":\"0912345678\"}",
        source: "api",
        done,
        result: Some("{\"verdict\":\"DONE\"}"),
        error: (!done).then_some("[{\"code\":200}]"),
        phone: Some("+84912345678"),
        bank_account: None,
        email: None,
        profile: "classic",
        confidence: 0.95,
        owner: "me",
        stream_id: "1-1",
        retry_count: 0,
    }
}

fn finished(id: Uuid, accepted_at: Timestamp, is_foreign: bool) -> Finished<'static> {
    Finished {
        id,
        is_foreign,
        owner: "me",
        source: "api",
        action: "validate",
        lane: "normal",
        profile: "classic",
        item_count: 2,
        external_ref: None,
        batch_id: None,
        state: "partial",
        response: "{\"v\":1,\"status\":\"partial\"}",
        accepted_at,
    }
}

fn statements(fresh: &Fresh, requests: &[(Uuid, bool)], rewrite: Rewrite) -> Vec<Statement> {
    let now = fresh.clock.now();
    let mut batch = Batch::new(rewrite);
    let stamp = Stamp {
        ruleset: "1.0.0",
        group: "group",
        consumer: "worker",
        started_at: now,
        completed_at: now,
    };
    for (request, is_foreign) in requests {
        batch.item(&item(*request, 0, true));
        batch.item(&item(*request, 1, false));
        let (field, message) = (Some("bank_account"), "Bank account is required");
        batch.error(item_id(*request, 1), 0, 200, field, message);
        batch.request(&finished(*request, now, *is_foreign));
    }
    let mut statements = batch.into_statements(&stamp).unwrap();
    for slot in [0, 1] {
        let count = BatchCount {
            group: "group",
            consumer: "worker",
            stream: "requests",
            slot,
            processed: slot.into(),
            with_errors: slot.into(),
            suppressed: 0,
            last_entry: format!("1-{slot}"),
            at: now,
        };
        statements.push(count.statement().unwrap());
    }
    statements
}

async fn record(fresh: &Fresh, request: Uuid, rewrite: Rewrite) {
    let statements = statements(fresh, &[(request, false)], rewrite);
    fresh.store.db().run(statements).await.unwrap();
}

#[tokio::test]
async fn a_verdict_finishes_our_own_request_and_makes_the_row_of_a_foreign_one() {
    for fresh in both().await {
        let own = request(&fresh, "me");
        let statement = fresh
            .store
            .insert_requests(std::slice::from_ref(&own))
            .unwrap();
        fresh.store.db().execute(statement).await.unwrap();
        for id in [own.id, id::new()] {
            record(&fresh, id, Rewrite::Never).await;
            let status = fresh.store.status(id, Some("me")).await.unwrap().unwrap();
            assert_eq!(status.state, State::Partial, "{}", fresh.name);
            let response: serde_json::Value =
                serde_json::from_str(&status.response.unwrap()).unwrap();
            assert_eq!(response["status"], "partial");
            assert!(status.finished_at.is_some());
        }
        let later = fresh
            .clock
            .now()
            .checked_add(std::time::Duration::from_secs(9))
            .unwrap();
        assert!(
            fresh
                .store
                .unfinished_before("normal", later, 10)
                .await
                .unwrap()
                .is_empty()
        );
    }
}

#[tokio::test]
async fn the_same_batch_twice_leaves_the_same_rows() {
    for fresh in both().await {
        let id = id::new();
        record(&fresh, id, Rewrite::Never).await;
        let again = statements(&fresh, &[(id, false)], Rewrite::Never);
        let error = fresh.store.db().run(again).await.unwrap_err();
        assert!(error.is_duplicate(), "{}: {error}", fresh.name);
        record(&fresh, id, Rewrite::Allowed).await;
        let counts = fresh.store.item_counts().await.unwrap();
        assert_eq!(
            (counts.total, counts.done, counts.error),
            (2, 1, 1),
            "{}",
            fresh.name
        );
        assert_eq!(counts.stream_processed, 2);
    }
}

#[tokio::test]
async fn the_monitor_sees_what_happened() {
    for fresh in both().await {
        let id = id::new();
        record(&fresh, id, Rewrite::Never).await;
        let store = &fresh.store;
        let codes = store
            .code_counts(vec![item_id(id, 0), item_id(id, 1)])
            .await
            .unwrap();
        assert_eq!((codes[0].code, codes[0].count), (200, 1), "{}", fresh.name);
        let consumers = store.consumer_performance().await.unwrap();
        assert_eq!(
            (consumers[0].name.as_str(), consumers[0].processed),
            ("worker", 1)
        );
        assert!((consumers[0].error_rate_percent - 100.0).abs() < 0.01);
        let activity = store.recent_activity().await.unwrap();
        assert_eq!(activity.iter().map(|it| it.count).sum::<u64>(), 2);
        let errors = store.top_errors().await.unwrap();
        assert_eq!(
            (errors[0].code, errors[0].field.as_deref()),
            (200, Some("bank_account"))
        );
    }
}

#[tokio::test]
async fn a_large_batch_of_own_and_foreign_requests_leaves_a_row_of_each() {
    for fresh in both().await {
        let requests: Vec<(Uuid, bool)> = (0..200).map(|no| (id::new(), no % 2 == 0)).collect();
        let first = statements(&fresh, &requests, Rewrite::Never);
        fresh.store.db().run(first).await.unwrap();
        let again = statements(&fresh, &requests, Rewrite::Allowed);
        fresh.store.db().run(again).await.unwrap();
        let counts = fresh.store.item_counts().await.unwrap();
        let found = (counts.total, counts.done, counts.error);
        assert_eq!(found, (400, 200, 200), "{}", fresh.name);
        for (id, _) in requests {
            let status = fresh.store.status(id, Some("me")).await.unwrap().unwrap();
            assert_eq!(status.state, State::Partial);
        }
    }
}
