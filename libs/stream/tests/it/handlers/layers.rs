//! Layers around handlers, ours and those of tower.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_kit::Message;
use ratebox_outbox::Inbox;
use ratebox_stream::handler::{
    Delivery, Failure, Idempotent, Meta, NoEffects, Router, State, TraceContext,
};
use ratebox_stream::layers::{Count, Next, Once, Timeout, Trace, from_fn};
use ratebox_stream::testing::{Ending, TestBus};
use tracing_subscriber::fmt::MakeWriter;

use super::sql::both;

type Seen = Arc<Mutex<Vec<String>>>;

#[tokio::test]
async fn a_handler_that_takes_too_long_is_stopped_and_tried_again() {
    async fn hangs() -> NoEffects {
        std::future::pending().await
    }
    let limit = Timeout::after(Duration::from_millis(20));
    let bus = TestBus::new().worker("s", "g", Router::new().on("n", hangs).layer(limit));
    let id = bus.send("s", "n", &1).await;
    bus.run_until_idle().await;
    let code = "handler.timeout".to_owned();
    assert_eq!(bus.outcomes(&id)[0].ending, Ending::Retry { code });
}

#[tokio::test]
async fn a_timeout_of_tower_itself_fits_too() {
    async fn hangs() -> NoEffects {
        std::future::pending().await
    }
    let limit = tower::timeout::TimeoutLayer::new(Duration::from_millis(20));
    let bus = TestBus::new().worker("s", "g", Router::new().on("n", hangs).layer(limit));
    let id = bus.send("s", "n", &1).await;
    bus.run_until_idle().await;
    let code = "handler.timeout".to_owned();
    assert_eq!(bus.outcomes(&id)[0].ending, Ending::Retry { code });
}

#[tokio::test]
async fn the_last_layer_is_the_outermost_and_a_layer_may_decide_alone() {
    async fn handler(State(seen): State<Seen>) -> NoEffects {
        seen.lock().unwrap().push("handler".to_owned());
        NoEffects
    }
    let seen = Seen::default();
    let note = |name: &'static str| {
        let seen = Arc::clone(&seen);
        from_fn(move |delivery: Delivery, next: Next| {
            let seen = Arc::clone(&seen);
            async move {
                seen.lock().unwrap().push(format!("{name} in"));
                let handled = next.run(delivery).await;
                seen.lock().unwrap().push(format!("{name} out"));
                handled
            }
        })
    };
    let guard = from_fn(|delivery: Delivery, next: Next| async move {
        match delivery.meta.header("source") {
            Some("ours") => next.run(delivery).await,
            _ => Err(Failure::dead("source.foreign", "not ours")),
        }
    });
    let router = Router::with_state(Arc::clone(&seen)).on("n", handler);
    let router = router
        .layer(note("inner"))
        .layer(guard)
        .layer(note("outer"));
    let bus = TestBus::new().worker("s", "g", router);
    let message = Message::new("ours", "").with_header("type", "n");
    bus.send_message("s", message.with_header("source", "ours"))
        .await;
    bus.run_until_idle().await;
    let order = ["outer in", "inner in", "handler", "inner out", "outer out"];
    assert_eq!(*seen.lock().unwrap(), order);
    let foreign = bus.send("s", "n", &1).await;
    bus.run_until_idle().await;
    bus.assert_dead(&foreign, "source.foreign");
    assert_eq!(seen.lock().unwrap().len(), 7);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn every_attempt_is_a_span_in_the_trace_of_the_sender() {
    async fn fails_once(meta: Meta) -> Result<NoEffects, Failure> {
        let current = TraceContext::current().unwrap();
        tracing::info!(current = %current, "at work");
        match meta.attempt() {
            0 => Err(Failure::retry("first", "on purpose")),
            _ => Ok(NoEffects),
        }
    }
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(lines.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let bus = TestBus::new().worker("s", "g", Router::new().on("n", fails_once).layer(Trace));
    let sender = TraceContext::new();
    let message = sender.stamp(Message::new("m", "").with_header("type", "n"));
    bus.send_message("s", message).await;
    bus.advance(Duration::from_secs(60)).await;
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let spans: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["fields"]["message"] == "at work")
        .collect();
    assert_eq!(spans.len(), 2, "{text}");
    for (attempt, line) in spans.iter().enumerate() {
        let span = &line["span"];
        assert_eq!(span["trace_id"], sender.trace_id());
        assert_eq!(span["parent_span_id"], sender.span_id());
        assert_eq!(span["attempt"], attempt);
        assert!(span["entry.id"].is_string(), "{span}");
        let current = TraceContext::parse(line["fields"]["current"].as_str().unwrap()).unwrap();
        assert_eq!(span["span_id"], current.span_id());
    }
    assert_ne!(spans[0]["span"]["span_id"], spans[1]["span"]["span_id"]);
}

/// It may be somebody's telephone number or address.
#[tokio::test]
async fn an_id_that_a_sender_chose_is_in_no_log() {
    async fn fails(meta: Meta) -> Result<NoEffects, Failure> {
        tracing::info!(?meta, "at work");
        match meta.attempt() {
            0 => Err(Failure::retry("first", "on purpose")),
            _ => Err(Failure::dead("second", "on purpose")),
        }
    }
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(lines.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let bus = TestBus::new().worker("s", "g", Router::new().on("n", fails).layer(Trace));
    let message = Message::new("ann@example.org", "").with_header("type", "n");
    let id = bus.send_message("s", message).await;
    bus.advance(Duration::from_secs(60)).await;
    bus.assert_dead(&id, "second");
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains("ann@example.org"), "{text}");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let told: Vec<_> = lines
        .filter(|line| line["fields"]["entry.first"].is_string())
        .map(|line| line["fields"].clone())
        .collect();
    assert_eq!(told.len(), 2, "{text}");
    assert_eq!(told[0]["entry.id"], told[0]["entry.first"]);
    assert_eq!(told[1]["message"], "became a dead letter: on purpose");
    assert_eq!(told[1]["entry.first"], told[0]["entry.id"]);
    assert_ne!(told[1]["entry.id"], told[0]["entry.id"], "a retry's own");
}

#[test]
fn messages_are_counted_by_declared_type_and_outcome() {
    async fn fails(meta: Meta) -> Result<NoEffects, Failure> {
        match meta.header("mood") {
            Some("bad") => Err(Failure::dead("mood.bad", "bad")),
            _ => Ok(NoEffects),
        }
    }
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let router = Router::new().on("n", fails).otherwise(fails).layer(Count);
            let bus = TestBus::new().worker("s", "g", router);
            for (number, mood) in ["good", "bad", "good"].into_iter().enumerate() {
                let message = Message::new(number.to_string(), "").with_header("mood", mood);
                let message = message.with_header("type", if number == 2 { "x" } else { "n" });
                bus.send_message("s", message).await;
            }
            bus.run_until_idle().await;
        });
    });
    let text = handle.render();
    for line in [
        r#"ratebox_stream_handled_total{type="n",outcome="done"} 1"#,
        r#"ratebox_stream_handled_total{type="n",outcome="dead"} 1"#,
        r#"ratebox_stream_handled_total{type="other",outcome="done"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_message_that_was_done_before_does_not_reach_its_handler() {
    async fn handler(
        State(calls): State<Arc<AtomicUsize>>,
        meta: Meta,
    ) -> Result<Idempotent, Failure> {
        calls.fetch_add(1, Ordering::SeqCst);
        match meta.attempt() {
            0 => Err(Failure::retry("first", "on purpose")),
            _ => Ok(Idempotent::because("a test")),
        }
    }
    for fresh in both().await {
        let calls = Arc::new(AtomicUsize::new(0));
        let once = Once::new(fresh.db.clone(), Inbox::new("mailer", "s"));
        let router = Router::with_state(Arc::clone(&calls))
            .on("n", handler)
            .layer(once);
        let bus = TestBus::new().worker("s", "g", router);
        let message = Message::new("m", "").with_header("type", "n");
        let id = bus.send_message("s", message.clone()).await;
        bus.advance(Duration::from_secs(60)).await;
        bus.assert_retried(&id, 1);
        bus.assert_done(&id);
        bus.send_message("s", message).await;
        bus.run_until_idle().await;
        assert_eq!(bus.outcomes(&id).len(), 3);
        assert_eq!(calls.load(Ordering::SeqCst), 2, "{}", fresh.name);
    }
}
