//! Stream mode: no row, only the bus.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use ratebox_gateway::{AcceptMode, IdempotencyKeys};
use ratebox_kit::{Clock, PortError};
use ratebox_stream::RedisLog;
use ratebox_testkit::{RedisOptions, RedisServer, wait_until};
use ratebox_valkey::{Settings, Valkey};
use serde_json::json;

use crate::door::{
    BATCH, Door, IMPORT, ITEM, Plan, STATUS, VALIDATE, code_of, id_of, post, post_with,
};
use crate::judge::Tell;

/// Keys in memory.
#[derive(Default)]
struct Keys {
    kept: Mutex<HashMap<String, String>>,
    /// Outcomes are forgotten, as by a crash after the append.
    forgets: bool,
}

#[async_trait]
impl IdempotencyKeys for Keys {
    async fn keep_if_absent(
        &self,
        key: &str,
        value: &str,
        _kept: Duration,
    ) -> Result<Option<String>, PortError> {
        let mut kept = self.kept.lock().unwrap();
        if let Some(there) = kept.get(key) {
            return Ok(Some(there.clone()));
        }
        kept.insert(key.to_owned(), value.to_owned());
        Ok(None)
    }

    async fn keep(&self, key: &str, value: &str, _kept: Duration) -> Result<(), PortError> {
        if !self.forgets {
            self.kept
                .lock()
                .unwrap()
                .insert(key.to_owned(), value.to_owned());
        }
        Ok(())
    }
}

fn stream_mode(plan: &mut Plan) {
    plan.settings.accept.mode = AcceptMode::Stream;
    plan.settings.accept.loss_window = Some(Duration::from_secs(1));
    plan.keys = Some(Arc::new(Keys::default()));
}

/// Stream mode in which no key ever has an outcome.
pub(crate) fn forgetful(plan: &mut Plan) {
    stream_mode(plan);
    plan.keys = Some(Arc::new(Keys {
        forgets: true,
        ..Keys::default()
    }));
}

#[tokio::test]
async fn a_request_is_only_on_the_bus_and_found_through_its_location() {
    let door = Door::with(stream_mode).await;
    let (ann, bob) = (door.client("ann").await, door.client("bob").await);
    for (path, lane) in [
        (VALIDATE, "validation_requests"),
        (IMPORT, "{validation_requests}:low"),
    ] {
        let answer = post(&ann, path, ITEM.as_bytes()).await;
        let id = id_of(&answer);
        assert_eq!(door.bus.entries(lane).await.len(), 1);
        let location = answer.header("location").unwrap().to_owned();
        let status = ann.get(&location).await.unwrap();
        assert_eq!(status.status, 200, "{location}");
        let status = status.json().unwrap();
        assert_eq!(
            (&status["status"], &status["item_count"]),
            (&json!("queued"), &json!(1))
        );
        assert_eq!(status["request_id"], id.as_str());
        // Without the entry nothing is known yet, and the entry is no key to others' requests.
        let plain = location.split('?').next().unwrap();
        assert_eq!(ann.get(plain).await.unwrap().status, 404);
        let theirs = bob.get(&location).await.unwrap();
        assert_eq!(
            (theirs.status, theirs.body),
            (404, bob.get(plain).await.unwrap().body)
        );
        let other = location.replace(&id, &ratebox_kit::id::new().to_string());
        assert_eq!(ann.get(&other).await.unwrap().status, 404);
    }
    assert_eq!(door.requests().await, 0);
    door.judge_all(Tell::StoreAndStream).await;
    assert_eq!(door.requests().await, 2);
}

#[tokio::test]
async fn only_the_lanes_can_be_looked_into() {
    let door = Door::with(stream_mode).await;
    let client = door.client("ann").await;
    let answer = post(&client, VALIDATE, ITEM.as_bytes()).await;
    let id = id_of(&answer);
    let entry = door.bus.entries("validation_requests").await.remove(0).id;
    for (stream, status) in [
        ("other", 404),
        ("validation_dlq", 404),
        ("validation_requests%00", 400),
        ("", 404),
    ] {
        let path = format!("{STATUS}{id}?entry={stream}/{entry}");
        assert_eq!(client.get(&path).await.unwrap().status, status, "{stream}");
    }
}

#[tokio::test]
async fn the_answer_comes_to_who_waits() {
    let door = Door::with(stream_mode).await;
    let client = door.client("ann").await;
    let answer = post(&client, VALIDATE, ITEM.as_bytes()).await;
    let path = format!("{}&wait=20", answer.header("location").unwrap());
    let (answer, _) = tokio::join!(client.get(&path), door.judge_all(Tell::StoreAndStream));
    assert_eq!(answer.unwrap().json().unwrap()["status"], "success");
}

#[tokio::test]
async fn a_bus_that_takes_nothing_is_503() {
    let door = Door::with(stream_mode).await;
    let client = door.client("ann").await;
    door.bus.set_full(true);
    let answer = post(&client, VALIDATE, ITEM.as_bytes()).await;
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (503, "accept.bus_unavailable")
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(!answer.text().contains("OOM"));
    door.bus.set_full(false);
    assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
    assert_eq!(door.bus.entries("validation_requests").await.len(), 1);
    door.bus.deny();
    let answer = post(&client, VALIDATE, ITEM.as_bytes()).await;
    assert_eq!(code_of(&answer), "accept.bus_unavailable");
}

#[tokio::test]
async fn concurrent_requests_share_their_appends() {
    let door = Door::with(|plan| {
        stream_mode(plan);
        plan.settings.accept.in_flight_max = 1;
    })
    .await;
    let client = door.client("ann").await;
    let answers = join_all((0..100).map(|_| post(&client, VALIDATE, ITEM.as_bytes()))).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    assert_eq!(door.bus.entries("validation_requests").await.len(), 100);
    assert!(door.bus.appends() < 100, "{} appends", door.bus.appends());
}

#[tokio::test]
async fn keys_work_without_a_store() {
    let door = Door::with(stream_mode).await;
    let client = door.client("ann").await;
    let key = [("idempotency-key", "k")];
    let first = post_with(&client, VALIDATE, &key, ITEM.as_bytes()).await;
    let second = post_with(&client, VALIDATE, &key, ITEM.as_bytes()).await;
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.body, second.body);
    assert_eq!(first.header("location"), second.header("location"));
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    let other = post_with(&client, VALIDATE, &key, b"{\"phone\":\"2\"}").await;
    assert_eq!(
        (other.status, code_of(&other).as_str()),
        (422, "idempotency.mismatch")
    );
    let batch = br#"{"batches":[{"items":[{}]},{"items":[{}]}]}"#;
    let key = [("idempotency-key", "k2")];
    let answers = join_all((0..10).map(|_| post_with(&client, BATCH, &key, batch))).await;
    for answer in &answers {
        assert!(matches!(answer.status, 202 | 409), "{}", answer.text());
    }
    assert_eq!(door.bus.entries("validation_requests").await.len(), 3);
}

#[tokio::test]
async fn a_claim_without_an_outcome_is_taken_up_with_the_same_ids() {
    let clock = Clock::manual(Clock::system().now());
    let held = clock.clone();
    let door = Door::with(|plan| {
        forgetful(plan);
        plan.clock = held;
    })
    .await;
    let client = door.client("ann").await;
    let key = [("idempotency-key", "k")];
    let first = post_with(&client, VALIDATE, &key, ITEM.as_bytes()).await;
    let id = id_of(&first);
    let early = post_with(&client, VALIDATE, &key, ITEM.as_bytes()).await;
    assert_eq!(
        (early.status, code_of(&early).as_str()),
        (409, "idempotency.in_progress")
    );
    clock.advance(Duration::from_secs(31));
    let again = post_with(&client, VALIDATE, &key, ITEM.as_bytes()).await;
    assert_eq!(id_of(&again), id);
    // Twice on the bus, but one message to the inbox of the worker.
    let entries = door.bus.entries("validation_requests").await;
    let ids: Vec<_> = entries
        .iter()
        .map(|entry| entry.message_id().into_owned())
        .collect();
    assert_eq!(ids, [id.clone(), id.clone()]);
    for entry in &entries {
        let decoded = ratebox_intake::decode(&entry.fields, 10).unwrap();
        assert_eq!(decoded.request_id_given, Some(id.clone()));
    }
}

#[tokio::test]
async fn a_key_is_refused_where_none_can_be_kept() {
    let door = Door::with(|plan| {
        stream_mode(plan);
        plan.keys = None;
    })
    .await;
    let client = door.client("ann").await;
    let answer = post_with(
        &client,
        VALIDATE,
        &[("idempotency-key", "k")],
        ITEM.as_bytes(),
    )
    .await;
    assert_eq!(answer.status, 503);
    assert_eq!(post(&client, VALIDATE, ITEM.as_bytes()).await.status, 202);
}

#[tokio::test]
async fn the_loss_window_follows_the_settings_of_the_bus_and_outlives_its_absence() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    let valkey = Valkey::connect(&Settings::new(server.url())).await.unwrap();
    let log = Arc::new(RedisLog::new(valkey));
    let door = Door::with(|plan| {
        stream_mode(plan);
        plan.settings.accept.loss_window_every = Some(Duration::from_millis(20));
        plan.redis = Some(log);
    })
    .await;
    let told = async |seconds: Option<f64>| {
        wait_until(Duration::from_secs(20), "the window is told", || async {
            let health = door.anybody().get("/api/health").await.unwrap();
            health.json().unwrap()["accept"]["loss_window_seconds"].as_f64() == seconds
        })
        .await;
    };
    told(Some(1.0)).await;
    for (name, value, seconds) in [
        ("appendonly", "no", None),
        ("appendonly", "yes", Some(1.0)),
        ("appendfsync", "always", Some(0.0)),
    ] {
        let words = ["CONFIG", "SET", name, value];
        server.command(&words).unwrap();
        told(seconds).await;
    }
    server.kill9();
    told(Some(0.0)).await;
    // With the settings that it was started with.
    server.restart().unwrap();
    told(Some(1.0)).await;
}
