//! What is measured, and the alerts that are shipped for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use ratebox_kit::{Backoff, Tasks};
use ratebox_outbox::{Event, Inboxes, Outbox, Relay, RelaySettings, Settings};

use crate::broker::{FakeBroker, Mood};
use crate::databases::both;
use crate::handling::{charge, order, with_charges};
use crate::relay::add;

/// Sums and last values, by name and labels.
#[derive(Clone, Debug, Default)]
struct Seen(Arc<Mutex<BTreeMap<String, f64>>>);

struct One(Seen, String);

impl One {
    fn change(&self, by: impl FnOnce(f64) -> f64) {
        let mut all = self.0.0.lock().unwrap();
        let value = all.entry(self.1.clone()).or_default();
        *value = by(*value);
    }
}

impl metrics::CounterFn for One {
    fn increment(&self, by: u64) {
        self.change(|it| it + by as f64);
    }
    fn absolute(&self, value: u64) {
        self.change(|_| value as f64);
    }
}

impl metrics::GaugeFn for One {
    fn increment(&self, by: f64) {
        self.change(|it| it + by);
    }
    fn decrement(&self, by: f64) {
        self.change(|it| it - by);
    }
    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl metrics::HistogramFn for One {
    fn record(&self, _value: f64) {
        self.change(|it| it + 1.0);
    }
}

impl Seen {
    fn one(&self, key: &Key) -> Arc<One> {
        let labels = key
            .labels()
            .map(|it| format!("{}={}", it.key(), it.value()));
        let labels = labels.collect::<BTreeSet<_>>().into_iter();
        let name = format!("{}{{{}}}", key.name(), labels.collect::<Vec<_>>().join(","));
        Arc::new(One(self.clone(), name))
    }

    fn value(&self, name: &str) -> f64 {
        let all = self.0.lock().unwrap();
        *all.get(name)
            .unwrap_or_else(|| panic!("no {name} in {all:#?}"))
    }

    fn names(&self) -> BTreeSet<String> {
        let all = self.0.lock().unwrap();
        let name = |it: &String| it.split('{').next().unwrap_or_default().to_owned();
        all.keys().map(name).collect()
    }
}

impl Recorder for Seen {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.one(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.one(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.one(key))
    }
}

/// Everything that can happen to an event: sent by its sender, by the relay, refused, dead, left.
async fn a_life(seen: &Seen) {
    let _guard = metrics::set_default_local_recorder(seen);
    let fresh = both().await.remove(1);
    with_charges(&fresh.db).await;
    let (broker, tasks) = (FakeBroker::new(Mood::Picky), Tasks::new());
    let settings = Settings::default();
    let outbox = Outbox::new(fresh.db.clone(), broker.clone(), settings, &tasks);
    for body in ["good", "bad"] {
        let mut tx = fresh.db.begin().await.unwrap();
        let event = Event::new("t", body).of_type("order.created");
        let staged = outbox.add(&mut tx, event).await.unwrap();
        outbox.commit(tx, staged).await.unwrap();
    }
    let typed = |body: &'static str| Event::new("t", body).of_type("order.paid");
    let plain = || Event::new("t", "good");
    add(
        &fresh.db,
        vec![plain(), typed("good"), typed("good"), typed("bad")],
    )
    .await;
    let settings = RelaySettings {
        attempts_max: 2,
        backoff: Backoff {
            first: Duration::from_millis(1),
            max: Duration::from_millis(1),
        },
        ..RelaySettings::default()
    };
    let mut relay = Relay::new(fresh.db.clone(), broker, "r1", settings, outbox.wake());
    // The refused one of the sender stays its sender's for a while.
    while Relay::pending(&fresh.db).await.unwrap() > 1 {
        relay.step().await.unwrap();
    }
    let consumer = Inboxes::new(fresh.db.clone()).consumer("billing");
    let message = order(1);
    for _ in 0..3 {
        consumer.handle(&message, charge).await.unwrap();
    }
}

#[tokio::test]
async fn events_are_counted_by_type_and_way() {
    let seen = Seen::default();
    a_life(&seen).await;
    for (name, value) in [
        (
            "outbox_published_events_total{event_type=order.created,via=optimistic}",
            1.0,
        ),
        (
            "outbox_published_events_total{event_type=order.paid,via=relay}",
            2.0,
        ),
        ("outbox_published_events_total{event_type=,via=relay}", 1.0),
        ("outbox_failed_events_total{event_type=order.paid}", 2.0),
        (
            "outbox_dead_letter_events_total{event_type=order.paid}",
            1.0,
        ),
        ("outbox_retry_attempts_total{}", 1.0),
        ("outbox_pending_events_total{}", 1.0),
        ("outbox_events_by_state{state=claimed}", 1.0),
        ("outbox_events_by_state{state=dead_letter}", 1.0),
        ("outbox_relays{}", 1.0),
        ("outbox_optimistic_send_attempts_total{}", 2.0),
        ("outbox_optimistic_send_success_total{}", 1.0),
        (
            "outbox_optimistic_send_failures_total{reason=rejected}",
            1.0,
        ),
        ("outbox_optimistic_send_latency_seconds{}", 2.0),
        (
            "consumer_inbox_processed_total{consumer_name=billing,event_type=order.created}",
            1.0,
        ),
        (
            "consumer_inbox_duplicates_total{consumer_name=billing,event_type=order.created}",
            2.0,
        ),
        (
            "consumer_inbox_processing_duration_seconds{consumer_name=billing,event_type=order.created}",
            1.0,
        ),
    ] {
        assert!(
            (seen.value(name) - value).abs() < 0.1,
            "{name} is {}",
            seen.value(name)
        );
    }
    assert!(seen.value("outbox_publish_duration_seconds{event_type=order.paid}") >= 2.0);
    assert!(seen.value("outbox_oldest_event_age_seconds{}") > 0.0);
}

/// Names of metrics in the shipped rules; those of a histogram's parts without their ending.
fn named_in(rules: &str) -> BTreeSet<String> {
    let is_name = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let words = rules.split(|it: char| !is_name(it)).map(str::to_owned);
    let metrics = words.filter(|it| it.starts_with("outbox_") || it.starts_with("consumer_inbox_"));
    metrics
        .map(|it| it.strip_suffix("_bucket").unwrap_or(&it).to_owned())
        .collect()
}

#[tokio::test]
async fn the_shipped_alerts_keep_their_eight_names_and_ask_for_nothing_that_is_not_measured() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/prometheus/outbox.rules.yml"
    );
    let rules = std::fs::read_to_string(file).unwrap();
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    let known = [
        "OutboxHighLag",
        "OutboxWorkerDown",
        "OutboxHighErrorRate",
        "OutboxDeadLetterQueue",
        "OutboxHighLatency",
        "OutboxWorkerUnhealthy",
        "OutboxWorkerIdle",
        "OptimisticSendHighFailureRate",
    ];
    assert_eq!(alerts.collect::<Vec<_>>(), known);
    let named = named_in(&rules);
    assert!(named.len() >= 7, "{named:?}");
    let seen = Seen::default();
    a_life(&seen).await;
    let missing: Vec<_> = named.difference(&seen.names()).cloned().collect();
    assert!(missing.is_empty(), "not measured: {missing:?}");
    // Series with different labels meet only in sums.
    for line in rules.lines().filter(|line| line.contains("outbox_")) {
        assert!(line.contains("sum") || line.contains("max("), "{line}");
    }
}
