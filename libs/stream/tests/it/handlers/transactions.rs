//! Handlers that take a transaction: effect, mark, follow-ups and answers commit together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ratebox_db::Committed;
use ratebox_kit::{FollowUp, Message, Tasks};
use ratebox_stream::handler::{
    Batch, Effects, Failure, FromRef, Gather, Idempotent, Json, Meta, NoEffects, Reply, Router,
    State, TraceContext, Tx,
};
use ratebox_stream::testing::TestBus;
use ratebox_stream::{EntryId, Log, StreamName};

use super::sql::{add, both};

#[derive(Clone)]
struct App {
    effects: Effects,
    calls: Arc<AtomicUsize>,
}

impl FromRef<App> for Effects {
    fn from_ref(app: &App) -> Self {
        app.effects.clone()
    }
}

impl FromRef<App> for Arc<AtomicUsize> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.calls)
    }
}

fn app(effects: Effects) -> App {
    App {
        effects,
        calls: Arc::default(),
    }
}

async fn bill(
    State(calls): State<Arc<AtomicUsize>>,
    meta: Meta,
    Json(cents): Json<i64>,
    mut tx: Tx,
) -> Result<Committed, Failure> {
    calls.fetch_add(1, Ordering::SeqCst);
    add(&mut tx, cents).await?;
    tx.send(FollowUp::new("receipts", cents.to_string()).with_header("type", "receipt"));
    tx.reply(Reply::new("answers", format!("billed {cents}")));
    if cents < 0 && meta.attempt() == 0 {
        return Err(Failure::retry("cents.negative", "on purpose"));
    }
    tx.commit().await
}

async fn bodies(log: &Arc<dyn Log>, stream: &str) -> Vec<(String, String)> {
    let stream = StreamName::new(stream);
    let tail = log
        .tail(&stream, Some(EntryId::MIN), 100, Duration::ZERO)
        .await
        .unwrap();
    let body = |entry: &ratebox_stream::Entry| {
        let data = entry.field("data").map(|data| data.to_vec()).unwrap();
        (
            entry.message_id().into_owned(),
            String::from_utf8(data).unwrap(),
        )
    };
    tail.entries.iter().map(body).collect()
}

#[tokio::test]
async fn effect_mark_follow_up_and_answer_commit_together() {
    for fresh in both().await {
        let tasks = Tasks::new();
        let (effects, log) = fresh.effects(&tasks);
        let app = app(effects);
        let router = Router::with_state(app.clone()).on("bill", bill);
        let bus = TestBus::new().worker("orders", "billing", router);
        let id = bus.send("orders", "bill", &250).await;
        bus.run_until_idle().await;
        bus.assert_done(&id);
        assert_eq!(fresh.effects_so_far().await, 1, "{}", fresh.name);
        let receipts = bodies(&log, "receipts").await;
        assert_eq!(receipts.len(), 1, "{}", fresh.name);
        assert_eq!(receipts[0].1, "250");
        let answers = bodies(&log, "answers").await;
        assert_eq!(
            answers,
            [(format!("{id}/reply-0"), "billed 250".to_owned())]
        );
    }
}

#[tokio::test]
async fn a_handler_that_fails_leaves_neither_effect_nor_mark_nor_follow_up() {
    for fresh in both().await {
        let tasks = Tasks::new();
        let (effects, log) = fresh.effects(&tasks);
        let app = app(effects);
        let router = Router::with_state(app.clone()).on("bill", bill);
        let bus = TestBus::new().worker("orders", "billing", router);
        let id = bus.send("orders", "bill", &-5).await;
        bus.run_until_idle().await;
        bus.assert_retried(&id, 1);
        assert_eq!(fresh.effects_so_far().await, 0, "{}", fresh.name);
        assert_eq!(fresh.rows_waiting().await, 0, "{}", fresh.name);
        assert!(bodies(&log, "receipts").await.is_empty());
        // The mark went, too: the retry is worked on.
        bus.advance(Duration::from_secs(60)).await;
        bus.assert_done(&id);
        assert_eq!(fresh.effects_so_far().await, 1, "{}", fresh.name);
        assert_eq!(bodies(&log, "receipts").await.len(), 1);
    }
}

#[tokio::test]
async fn a_second_delivery_is_answered_from_the_stored_result_without_working_again() {
    for fresh in both().await {
        let tasks = Tasks::new();
        let (effects, log) = fresh.effects(&tasks);
        let app = app(effects);
        let router = Router::with_state(app.clone()).on("bill", bill);
        let bus = TestBus::new().worker("orders", "billing", router);
        let message = Message::new("m-1", "250").with_header("type", "bill");
        // The same message three times, as a producer does that never saw its confirmation.
        for _ in 0..3 {
            bus.send_message("orders", message.clone()).await;
        }
        bus.run_until_idle().await;
        assert_eq!(app.calls.load(Ordering::SeqCst), 1, "{}", fresh.name);
        assert_eq!(fresh.effects_so_far().await, 1, "{}", fresh.name);
        let answers = bodies(&log, "answers").await;
        let same = ("m-1/reply-0".to_owned(), "billed 250".to_owned());
        assert_eq!(
            answers,
            [same.clone(), same.clone(), same],
            "{}",
            fresh.name
        );
        assert_eq!(bodies(&log, "receipts").await.len(), 1, "sent once");
    }
}

async fn bill_many(mut tx: Tx, batch: Batch<Json<i64>>) -> Result<Committed, Failure> {
    for item in &batch {
        add(&mut tx, item.value.0).await?;
        tx.reply_to(&item.meta, Reply::new("answers", item.value.0.to_string()));
    }
    tx.commit().await
}

#[tokio::test]
async fn a_batch_has_one_transaction_and_leaves_out_what_was_done_before() {
    for fresh in both().await {
        let tasks = Tasks::new();
        let (effects, log) = fresh.effects(&tasks);
        let router =
            Router::with_state(app(effects)).on_batch("bill", Gather::default(), bill_many);
        let bus = TestBus::new().worker("orders", "billing", router);
        let message = |id: &str| Message::new(id, "7").with_header("type", "bill");
        let first = bus.send_message("orders", message("a")).await;
        bus.run_until_idle().await;
        bus.send_message("orders", message("a")).await;
        let second = bus.send_message("orders", message("b")).await;
        bus.run_until_idle().await;
        bus.assert_done(&first);
        bus.assert_done(&second);
        assert_eq!(bus.outcomes(&first).len(), 2);
        assert_eq!(fresh.effects_so_far().await, 2, "{}", fresh.name);
        let answers = bodies(&log, "answers").await;
        let ids: Vec<&str> = answers.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(
            ids,
            ["a/reply-0", "a/reply-0", "b/reply-0"],
            "{}",
            fresh.name
        );
    }
}

#[tokio::test]
async fn follow_ups_stay_in_the_trace_of_the_message() {
    for fresh in both().await {
        let tasks = Tasks::new();
        let (effects, log) = fresh.effects(&tasks);
        let router = Router::with_state(app(effects)).on("bill", bill);
        let router = router.layer(ratebox_stream::layers::Trace);
        let bus = TestBus::new().worker("orders", "billing", router);
        let sender = TraceContext::new();
        let message = Message::new("m", "-5").with_header("type", "bill");
        // The first attempt fails: the trace goes on over the retry.
        let id = bus.send_message("orders", sender.stamp(message)).await;
        bus.advance(Duration::from_secs(60)).await;
        bus.assert_retried(&id, 1);
        bus.assert_done(&id);
        for stream in ["receipts", "answers"] {
            let stream = StreamName::new(stream);
            let tail = log
                .tail(&stream, Some(EntryId::MIN), 9, Duration::ZERO)
                .await
                .unwrap();
            let header = tail.entries[0].field(TraceContext::HEADER).unwrap();
            let sent = TraceContext::parse(std::str::from_utf8(header).unwrap()).unwrap();
            assert_eq!(sent.trace_id(), sender.trace_id(), "{stream}");
            assert_ne!(sent.span_id(), sender.span_id(), "{stream}");
        }
    }
}

#[tokio::test]
async fn a_follow_up_without_an_outbox_is_refused_before_anything_is_kept() {
    for fresh in both().await {
        let inbox = ratebox_outbox::Inbox::new("billing", "orders");
        let effects = Effects::new(fresh.db.clone(), inbox);
        let router = Router::with_state(app(effects)).on("bill", bill);
        let bus = TestBus::new().worker("orders", "billing", router);
        let id = bus.send("orders", "bill", &1).await;
        bus.run_until_idle().await;
        bus.assert_dead(&id, "handler.not_joined");
        assert_eq!(fresh.effects_so_far().await, 0, "{}", fresh.name);
    }
}

async fn forgets_to_commit(Json(cents): Json<i64>, mut tx: Tx) -> Result<Idempotent, Failure> {
    add(&mut tx, cents).await?;
    Ok(Idempotent::because("it says so"))
}

async fn gives_up_on_purpose(Json(cents): Json<i64>, mut tx: Tx) -> Result<NoEffects, Failure> {
    add(&mut tx, cents).await?;
    tx.roll_back().await?;
    Ok(NoEffects)
}

async fn forgets_all(mut tx: Tx, batch: Batch<Json<i64>>) -> Result<NoEffects, Failure> {
    for item in &batch {
        add(&mut tx, item.value.0).await?;
    }
    Ok(NoEffects)
}

async fn needs_no_transaction(_tx: Tx) -> NoEffects {
    NoEffects
}

#[tokio::test]
async fn a_message_whose_work_was_dropped_without_a_commit_is_not_acknowledged() {
    for fresh in both().await {
        let tasks = Tasks::new();
        let (effects, _log) = fresh.effects(&tasks);
        let router = Router::with_state(app(effects))
            .on("forgets", forgets_to_commit)
            .on("gives_up", gives_up_on_purpose)
            .on("idle", needs_no_transaction)
            .on_batch("forgets_all", Gather::default(), forgets_all);
        let bus = TestBus::new().worker("orders", "billing", router);
        let forgotten = bus.send("orders", "forgets", &1).await;
        let given_up = bus.send("orders", "gives_up", &1).await;
        let idle = bus.send("orders", "idle", &1).await;
        let batched = bus.send("orders", "forgets_all", &1).await;
        bus.run_until_idle().await;
        bus.assert_retried(&forgotten, 1);
        bus.assert_retried(&batched, 1);
        bus.assert_done(&given_up);
        bus.assert_done(&idle);
        bus.advance(Duration::from_secs(600)).await;
        bus.assert_dead(&forgotten, "handler.not_committed");
        assert_eq!(fresh.effects_so_far().await, 0, "{}", fresh.name);
    }
}
