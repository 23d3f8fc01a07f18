//! Durable mode: one commit for many, and nobody pays for a neighbour.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};

use crate::door::{Door, ITEM, VALIDATE, code_of, id_of, post, post_with};

/// Counts the records of one histogram; everything else goes nowhere.
#[derive(Clone, Default)]
struct Batches {
    commits: Arc<AtomicUsize>,
    submissions: Arc<AtomicUsize>,
}

impl HistogramFn for Batches {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small counts"
    )]
    fn record(&self, value: f64) {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.submissions.fetch_add(value as usize, Ordering::SeqCst);
    }
}

impl Recorder for Batches {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        match key.name() {
            "ratebox_accept_batch_submissions" => Histogram::from_arc(Arc::new(self.clone())),
            _ => Histogram::noop(),
        }
    }
}

#[tokio::test]
async fn concurrent_requests_share_their_commits() {
    let batches = Batches::default();
    // Handles are made when the door opens, on this thread.
    let guard = metrics::set_default_local_recorder(&batches);
    let door = Door::with(|plan| plan.settings.accept.in_flight_max = 1).await;
    drop(guard);
    let client = door.client("ann").await;
    post(&client, VALIDATE, ITEM.as_bytes()).await;
    let before = batches.commits.load(Ordering::SeqCst);
    let answers = join_all((0..100).map(|_| post(&client, VALIDATE, ITEM.as_bytes()))).await;
    assert!(answers.iter().all(|answer| answer.status == 202));
    let commits = batches.commits.load(Ordering::SeqCst) - before;
    assert_eq!(batches.submissions.load(Ordering::SeqCst), 101);
    assert!(
        (1..=40).contains(&commits),
        "{commits} commits for 100 requests"
    );
    assert_eq!(door.requests().await, 101);
    door.published("validation_requests", 101).await;
    door.outbox_is_empty().await;
}

/// Refuses rows of one source, as a constraint does.
const POISON: &str = "CREATE TRIGGER poison BEFORE INSERT ON validation_requests
    WHEN NEW.source = 'poison' BEGIN SELECT RAISE(ABORT, 'poison'); END";

#[tokio::test]
async fn one_bad_request_does_not_cost_its_neighbours() {
    let door = Door::with(|plan| plan.settings.accept.in_flight_max = 1).await;
    let client = door.client("ann").await;
    door.execute(POISON).await;
    let bad = r#"{"items":[{}],"source":"poison"}"#;
    for keyed in [false, true] {
        let posts = (0..60).map(|number| {
            let client = &client;
            async move {
                let body = if number % 20 == 7 { bad } else { ITEM };
                let key = format!("key-{number}");
                let headers = [("idempotency-key", key.as_str())];
                let headers = if keyed { &headers[..] } else { &[] };
                post_with(client, VALIDATE, headers, body.as_bytes()).await
            }
        });
        let answers = join_all(posts).await;
        for (number, answer) in answers.iter().enumerate() {
            if number % 20 == 7 {
                assert_eq!(
                    (answer.status, code_of(answer).as_str()),
                    (422, "request.not_storable")
                );
            } else {
                id_of(answer);
            }
        }
    }
    assert_eq!(door.requests().await, 2 * 57);
    door.outbox_is_empty().await;
}

#[tokio::test]
async fn a_store_that_is_full_is_503_and_keeps_nothing() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    id_of(&post(&client, VALIDATE, ITEM.as_bytes()).await);
    door.fill().await;
    let big = format!(r#"{{"items":[{{"name":"{}"}}]}}"#, "x".repeat(1 << 20));
    let answer = post(&client, VALIDATE, big.as_bytes()).await;
    assert_eq!(
        (answer.status, code_of(&answer).as_str()),
        (503, "accept.store_unavailable")
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(door.requests().await, 1);
    assert_eq!(door.bus.entries("validation_requests").await.len(), 1);
}

#[tokio::test]
async fn a_bus_that_is_away_does_not_matter_to_the_promise() {
    let door = Door::open().await;
    let client = door.client("ann").await;
    door.bus.set_full(true);
    let answer = post(&client, VALIDATE, ITEM.as_bytes()).await;
    id_of(&answer);
    assert_eq!(door.requests().await, 1);
    assert_eq!(door.count("SELECT count(*) FROM outbox").await, 1);
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_nothing() {
    use tokio::io::AsyncWriteExt;
    let door = Door::open().await;
    let token = door.token("ann", &["create"]).await;
    for _ in 0..20 {
        let mut stream = door.connect().await;
        let request = format!(
            "POST {VALIDATE} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{ITEM}",
            ITEM.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        drop(stream);
    }
    let client = door.client("bob").await;
    id_of(&post(&client, VALIDATE, ITEM.as_bytes()).await);
    // Whatever was kept is whole: a row and its event.
    let kept = door.requests().await;
    let events = usize::try_from(kept).unwrap();
    door.outbox_is_empty().await;
    door.published("validation_requests", events).await;
}
