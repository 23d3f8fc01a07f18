//! Extractors, outcomes and routes, on a bus without a server.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use ratebox_kit::{DeadLetterClass, Message};
use ratebox_stream::handler::{
    Delivery, Failure, FromDelivery, FromRef, Idempotent, IntoFailure, Json, Meta, NoEffects,
    OrFail, Router, Settled, State,
};
use ratebox_stream::testing::{Ending, TestBus};
use ratebox_stream::{Lane, Policy};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    number: u32,
}

type Seen = Arc<Mutex<Vec<String>>>;

#[derive(Clone)]
struct App {
    seen: Seen,
    calls: Arc<AtomicUsize>,
}

impl FromRef<App> for Seen {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.seen)
    }
}

fn app() -> App {
    App {
        seen: Seen::default(),
        calls: Arc::default(),
    }
}

/// An extractor of the program's own.
struct Tenant(String);

impl<S: Sync> FromDelivery<S> for Tenant {
    async fn from_delivery(delivery: &mut Delivery, _state: &S) -> Result<Self, Settled> {
        let tenant = delivery.meta.header("tenant");
        let tenant = tenant.ok_or_else(|| Failure::malformed("tenant.missing", "no tenant"))?;
        Ok(Self(tenant.to_owned()))
    }
}

async fn everything(
    State(app): State<App>,
    State(seen): State<Seen>,
    meta: Meta,
    Tenant(tenant): Tenant,
    body: Bytes,
    Json(order): Json<Order>,
) -> Idempotent {
    app.calls.fetch_add(1, Ordering::SeqCst);
    let headers: Vec<_> = meta
        .headers()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let (id, lane, bytes) = (meta.id(), meta.lane(), body.len());
    seen.lock().unwrap().push(format!(
        "{id} {lane} {tenant} {} {bytes} {} {} {}",
        order.number,
        meta.attempt(),
        meta.deliveries(),
        headers.join(",")
    ));
    Idempotent::because("a test")
}

#[tokio::test]
async fn a_handler_gets_body_headers_id_lane_and_state_by_asking_for_them() {
    let app = app();
    let router = Router::with_state(app.clone()).on("order", everything);
    let bus = TestBus::new().worker("orders", "g", router);
    let message = Message::new("m-1", r#"{"number":7}"#)
        .with_header("type", "order")
        .with_header("tenant", "acme");
    let id = bus.send_message("{orders}:high", message).await;
    bus.run_until_idle().await;
    bus.assert_done(&id);
    let seen = app.seen.lock().unwrap().clone();
    assert_eq!(seen, ["m-1 high acme 7 12 0 1 type=order,tenant=acme"]);
    assert_eq!(Lane::High.as_str(), "high");
}

#[tokio::test]
async fn a_corrupt_payload_is_a_dead_letter_that_says_where_and_quotes_nothing() {
    async fn handler(Json(_order): Json<Order>) -> NoEffects {
        NoEffects
    }
    let bus = TestBus::new().worker("orders", "g", Router::new().on("order", handler));
    for body in [r#"{"number":"hunter2"}"#, r#"{"number":"#, "hunter2"] {
        let message = Message::new(body, body).with_header("type", "order");
        let id = bus.send_message("orders", message).await;
        bus.run_until_idle().await;
        bus.assert_dead(&id, "payload.json");
        let letters = bus.dead_letters();
        let letter = letters.iter().find(|it| it.message_id == id.0).unwrap();
        assert_eq!(letter.class, DeadLetterClass::Malformed);
        assert!(letter.error.contains("line 1"), "{}", letter.error);
        assert!(!letter.error.contains("hunter2"), "{}", letter.error);
        let kept = letter
            .fields
            .iter()
            .find(|(name, _)| name == "data")
            .unwrap();
        assert_eq!(&kept.1[..], body.as_bytes());
    }
}

#[tokio::test]
async fn an_extractor_that_refuses_decides_before_the_handler_runs() {
    let app = app();
    let router = Router::with_state(app.clone()).on("order", everything);
    let bus = TestBus::new().worker("orders", "g", router);
    let id = bus.send("orders", "order", &Order { number: 1 }).await;
    bus.run_until_idle().await;
    bus.assert_dead(&id, "tenant.missing");
    assert_eq!(app.calls.load(Ordering::SeqCst), 0);
}

#[derive(Debug)]
enum Trouble {
    Busy,
    Unknown,
}

impl IntoFailure for Trouble {
    fn into_failure(self) -> Failure {
        match self {
            Self::Busy => Failure::retry("ledger.busy", "the ledger is busy"),
            Self::Unknown => Failure::dead("account.unknown", "no such account"),
        }
    }
}

#[tokio::test]
async fn an_error_type_says_whether_a_message_is_tried_again_or_dead() {
    async fn handler(meta: Meta, Json(order): Json<Order>) -> Result<NoEffects, Trouble> {
        match (order.number, meta.attempt()) {
            (0, _) => Err(Trouble::Unknown),
            (1, 0 | 1) => Err(Trouble::Busy),
            (2, _) => Err(Trouble::Busy),
            _ => Ok(NoEffects),
        }
    }
    let bus = TestBus::new().worker("orders", "g", Router::new().on("order", handler));
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(bus.send("orders", "order", &Order { number }).await);
    }
    bus.run_until_idle().await;
    bus.assert_dead(&ids[0], "account.unknown");
    bus.advance(Duration::from_secs(600)).await;
    bus.assert_retried(&ids[1], 2);
    bus.assert_done(&ids[1]);
    bus.assert_retried(&ids[2], 4);
    bus.assert_dead(&ids[2], "ledger.busy");
    let classes: Vec<_> = bus.dead_letters().iter().map(|it| it.class).collect();
    assert_eq!(
        classes,
        [DeadLetterClass::Permanent, DeadLetterClass::Transient]
    );
}

#[tokio::test]
async fn what_is_away_pauses_and_charges_nobody() {
    async fn handler(State(away): State<Arc<AtomicUsize>>) -> Result<NoEffects, Failure> {
        let left = away.load(Ordering::SeqCst);
        if left > 0 {
            away.store(left - 1, Ordering::SeqCst);
            return Err::<NoEffects, _>("refused").or_pause("shop.away");
        }
        Ok(NoEffects)
    }
    let away = Arc::new(AtomicUsize::new(5));
    let router = Router::with_state(away).on("order", handler);
    let bus = TestBus::new().worker("orders", "g", router);
    let id = bus.send("orders", "order", &Order { number: 1 }).await;
    bus.advance(Duration::from_secs(120)).await;
    bus.assert_done(&id);
    let outcomes = bus.outcomes(&id);
    assert_eq!(outcomes.len(), 6);
    assert!(outcomes.iter().all(|it| it.attempt == 0), "{outcomes:?}");
    let code = "shop.away".to_owned();
    assert_eq!(outcomes[0].ending, Ending::Pause { code });
}

#[tokio::test]
async fn a_message_that_is_put_off_comes_again_without_using_an_attempt() {
    async fn handler(meta: Meta) -> Result<NoEffects, Failure> {
        match meta.snoozes() {
            0..5 => Err(Failure::snooze(Duration::from_secs(3_600))),
            _ => Ok(NoEffects),
        }
    }
    let bus = TestBus::new().worker("s", "g", Router::new().on("n", handler));
    let id = bus.send("s", "n", &1).await;
    bus.advance(Duration::from_secs(6 * 3_600)).await;
    bus.assert_done(&id);
    let outcomes = bus.outcomes(&id);
    assert_eq!(outcomes.len(), 6);
    assert!(outcomes.iter().all(|it| it.attempt == 0), "{outcomes:?}");
    let apart = outcomes[1].at.duration_since(outcomes[0].at).as_secs();
    assert!((3_600..3_660).contains(&apart), "{apart}");
}

#[tokio::test]
async fn a_message_without_a_handler_is_a_dead_letter_unless_told_otherwise() {
    async fn handler() -> NoEffects {
        NoEffects
    }
    let router = || Router::new().on("known", handler);
    let bus = TestBus::new()
        .worker("s", "strict", router())
        .worker("s", "lax", router().ignore_others())
        .worker("s", "all", router().otherwise(handler));
    let id = bus.send("s", "unknown", &1).await;
    let untyped = bus.send_message("s", Message::new("untyped", "1")).await;
    bus.run_until_idle().await;
    for id in [&id, &untyped] {
        let endings: Vec<_> = bus
            .outcomes(id)
            .into_iter()
            .map(|it| (it.group.to_string(), it.ending))
            .collect();
        let dead = Ending::Dead {
            class: DeadLetterClass::Permanent,
            code: "message.unknown_type".to_owned(),
        };
        assert!(
            endings.contains(&("strict".to_owned(), dead)),
            "{endings:?}"
        );
        assert!(
            endings.contains(&("lax".to_owned(), Ending::Done)),
            "{endings:?}"
        );
        assert!(
            endings.contains(&("all".to_owned(), Ending::Done)),
            "{endings:?}"
        );
    }
}

#[tokio::test]
async fn a_panic_costs_its_message_an_attempt_and_its_neighbours_nothing() {
    async fn handler(Json(order): Json<Order>) -> NoEffects {
        assert_ne!(order.number, 2, "on purpose");
        NoEffects
    }
    let bus = TestBus::new().worker("orders", "g", Router::new().on("order", handler));
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(bus.send("orders", "order", &Order { number }).await);
    }
    bus.run_until_idle().await;
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(bus.outcomes(id).len(), 1, "each was called once");
        if number == 2 {
            let code = "handler.panicked".to_owned();
            assert_eq!(bus.outcomes(id)[0].ending, Ending::Retry { code });
        } else {
            bus.assert_done(id);
        }
    }
}

#[tokio::test]
async fn a_clone_of_the_meta_data_that_escapes_decides_nothing() {
    async fn handler(State(kept): State<Arc<Mutex<Vec<Meta>>>>, meta: Meta) -> NoEffects {
        kept.lock().unwrap().push(meta);
        NoEffects
    }
    let kept = Arc::new(Mutex::new(Vec::new()));
    let router = Router::with_state(Arc::clone(&kept)).on("order", handler);
    let bus = TestBus::new().worker("orders", "g", router);
    let id = bus.send("orders", "order", &1).await;
    bus.run_until_idle().await;
    bus.assert_done(&id);
    assert_eq!(kept.lock().unwrap()[0].id(), id.0);
}

#[tokio::test]
async fn with_one_handler_at_a_time_messages_keep_their_order() {
    async fn handler(State(seen): State<Seen>, meta: Meta) -> NoEffects {
        tokio::task::yield_now().await;
        seen.lock().unwrap().push(meta.id().to_owned());
        NoEffects
    }
    let seen = Seen::default();
    let router = Router::with_state(Arc::clone(&seen))
        .on("n", handler)
        .concurrency(1);
    let bus = TestBus::new().worker("s", "g", router);
    let mut sent = Vec::new();
    for number in 0..50 {
        sent.push(bus.send("s", "n", &number).await.0);
    }
    bus.run_until_idle().await;
    assert_eq!(*seen.lock().unwrap(), sent);
}

#[tokio::test]
async fn no_more_handlers_run_at_once_than_allowed() {
    #[derive(Clone, Default)]
    struct Load {
        now: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }
    async fn handler(State(load): State<Load>) -> NoEffects {
        let now = load.now.fetch_add(1, Ordering::SeqCst) + 1;
        load.most.fetch_max(now, Ordering::SeqCst);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        load.now.fetch_sub(1, Ordering::SeqCst);
        NoEffects
    }
    let load = Load::default();
    let router = Router::with_state(load.clone())
        .on("n", handler)
        .concurrency(4);
    let policy = Policy {
        batch_max: 100,
        ..Policy::default()
    };
    let bus = TestBus::new().worker_with("s", "g", policy, router);
    for number in 0..100 {
        bus.send("s", "n", &number).await;
    }
    bus.run_until_idle().await;
    assert_eq!(load.most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn an_optional_argument_is_none_when_the_message_does_not_have_it() {
    async fn handler(tenant: Option<Tenant>) -> Result<NoEffects, Failure> {
        let none = tenant.is_none();
        none.then_some(NoEffects)
            .ok_or_else(|| Failure::dead("tenant.there", "a tenant"))
    }
    let bus = TestBus::new().worker("s", "g", Router::new().on("n", handler));
    let id = bus.send("s", "n", &1).await;
    bus.run_until_idle().await;
    bus.assert_done(&id);
}

#[test]
#[should_panic(expected = "order has a handler already")]
fn two_handlers_of_one_type_are_refused() {
    async fn handler() -> NoEffects {
        NoEffects
    }
    let _ = Router::new().on("order", handler).on("order", handler);
}
