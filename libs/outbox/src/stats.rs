//! The names of this crate's metrics; the predecessor's names are kept.

use metrics::{counter, gauge, histogram};

pub(crate) fn published(events: usize, via: &'static str) {
    counter!("outbox_published_events_total", "via" => via).increment(events as u64);
}

pub(crate) fn failed(events: usize) {
    counter!("outbox_failed_events_total").increment(events as u64);
}

pub(crate) fn retried() {
    counter!("outbox_retry_attempts_total").increment(1);
}

pub(crate) fn dead() {
    counter!("outbox_dead_letter_events_total").increment(1);
}

/// One call of the broker by a relay.
pub(crate) fn publish_seconds(seconds: f64) {
    histogram!("outbox_publish_duration_seconds").record(seconds);
}

pub(crate) fn pending(events: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!("outbox_pending_events_total").set(events as f64);
}

pub(crate) fn optimistic(attempted: usize, succeeded: usize, seconds: f64) {
    counter!("outbox_optimistic_send_attempts_total").increment(attempted as u64);
    counter!("outbox_optimistic_send_success_total").increment(succeeded as u64);
    histogram!("outbox_optimistic_send_latency_seconds").record(seconds);
}

pub(crate) fn optimistic_failed(events: usize, reason: &'static str) {
    counter!("outbox_optimistic_send_failures_total", "reason" => reason).increment(events as u64);
}

/// An empty label is none to Prometheus.
pub(crate) fn inbox(consumer: &str, event_type: &str, fresh: usize, duplicates: usize) {
    let labels = || {
        [
            ("consumer_name", consumer.to_owned()),
            ("event_type", event_type.to_owned()),
        ]
    };
    counter!("consumer_inbox_processed_total", &labels()).increment(fresh as u64);
    if duplicates > 0 {
        counter!("consumer_inbox_duplicates_total", &labels()).increment(duplicates as u64);
    }
}

pub(crate) fn handled(consumer: &str, event_type: &str, seconds: f64) {
    histogram!("consumer_inbox_processing_duration_seconds",
        "consumer_name" => consumer.to_owned(), "event_type" => event_type.to_owned())
    .record(seconds);
}

pub(crate) fn parked(consumer: &str, event_type: &str) {
    counter!("consumer_inbox_parked_total",
        "consumer_name" => consumer.to_owned(), "event_type" => event_type.to_owned())
    .increment(1);
}
