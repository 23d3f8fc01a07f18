//! What a batch leaves behind.

use ratebox_intake::item_id;
use ratebox_kit::id;
use ratebox_store::{Batch, BatchCount, Finished, ItemRow, State};
use uuid::Uuid;

use crate::databases::{Fresh, both};
use crate::requests::request;

fn item(request: Uuid, no: u32, done: bool) -> ItemRow {
    ItemRow {
        id: item_id(request, no),
        request_id: request,
        item_no: no,
        payload: "{\"phone\":\"0912345678\"}".to_owned(),
        source: "api".to_owned(),
        done,
        result: Some("{\"verdict\":\"DONE\"}".to_owned()),
        error: (!done).then(|| "[{\"code\":200}]".to_owned()),
        phone: Some("+84912345678".to_owned()),
        bank_account: None,
        email: None,
        confidence: 0.95,
        owner: "me".to_owned(),
        stream_id: "1-1".to_owned(),
        retry_count: 0,
    }
}

fn finished(fresh: &Fresh, id: Uuid) -> Finished {
    Finished {
        id,
        owner: "me".to_owned(),
        source: "api".to_owned(),
        action: "validate",
        lane: "normal",
        profile: "classic",
        item_count: 2,
        external_ref: None,
        batch_id: None,
        state: "partial",
        response: "{\"v\":1,\"status\":\"partial\"}".to_owned(),
        accepted_at: fresh.clock.now(),
    }
}

async fn record(fresh: &Fresh, request: Uuid) {
    let now = fresh.clock.now();
    let mut batch = Batch::new("1.0.0", "group".into(), "worker".into(), now);
    batch.item(item(request, 0, true), "classic");
    batch.item(item(request, 1, false), "classic");
    batch.error(
        item_id(request, 1),
        0,
        200,
        Some("bank_account"),
        "Bank account is required",
    );
    batch.request(finished(fresh, request));
    let mut statements = batch.into_statements(now).unwrap();
    statements.push(fresh.store.count_batch(BatchCount {
        group: "group",
        consumer: "worker",
        stream: "requests",
        processed: 1,
        with_errors: 1,
        last_entry: "1-1".to_owned(),
        at: now,
    }));
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
            record(&fresh, id).await;
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
        record(&fresh, id).await;
        record(&fresh, id).await;
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
        record(&fresh, id).await;
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
