//! The names of this crate's metrics; the predecessor's names are kept.

use metrics::{counter, gauge, histogram};

use crate::{Event, Status};

/// Names and meanings.
const COUNTERS: &[(&str, &str)] = &[
    (
        "outbox_published_events_total",
        "Events that a broker took, by way and type",
    ),
    (
        "outbox_failed_events_total",
        "Refusals of single events by a broker, by type",
    ),
    (
        "outbox_dead_letter_events_total",
        "Events that were given up, by type",
    ),
    (
        "outbox_retry_attempts_total",
        "Tries of a relay to publish an event again",
    ),
    (
        "outbox_optimistic_send_attempts_total",
        "Events that their sender tried to publish after its commit",
    ),
    (
        "outbox_optimistic_send_success_total",
        "Those of them that the broker took",
    ),
    (
        "outbox_optimistic_send_failures_total",
        "Those of them that were left to the relay, by reason",
    ),
    (
        "consumer_inbox_processed_total",
        "Messages that were new to a consumer, by type",
    ),
    (
        "consumer_inbox_duplicates_total",
        "Messages that a consumer had seen before, by type",
    ),
    (
        "consumer_inbox_parked_total",
        "Messages that a consumer set aside for an operator, by type",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    (
        "outbox_pending_events_total",
        "Events that wait for publication",
    ),
    ("outbox_events_by_state", "Events in the outbox by state"),
    (
        "outbox_oldest_event_age_seconds",
        "Age of the oldest event that waits",
    ),
    ("outbox_relays", "Relays that are alive"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    (
        "outbox_publish_duration_seconds",
        "Seconds of a call of the broker by a relay",
    ),
    (
        "outbox_optimistic_send_latency_seconds",
        "Seconds from a commit to the end of its publication",
    ),
    (
        "consumer_inbox_processing_duration_seconds",
        "Seconds in the handler of a consumer",
    ),
];

/// Tells the recorder what each metric means.
pub fn describe_metrics() {
    for (name, meaning) in COUNTERS {
        metrics::describe_counter!(*name, *meaning);
    }
    for (name, meaning) in GAUGES {
        metrics::describe_gauge!(*name, *meaning);
    }
    for (name, meaning) in HISTOGRAMS {
        metrics::describe_histogram!(*name, *meaning);
    }
}

/// Counts of events by their type. An event without one counts under the empty label, which is none
/// to Prometheus.
#[derive(Debug, Default)]
pub(crate) struct ByType(Vec<(String, u64)>);

impl ByType {
    pub(crate) fn of<'a>(events: impl Iterator<Item = &'a Event>) -> Self {
        let mut counts = Self::default();
        events.for_each(|event| counts.add(event));
        counts
    }

    pub(crate) fn add(&mut self, event: &Event) {
        let name = event.type_name();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => self.0.push((name.to_owned(), 1)),
        }
    }

    pub(crate) fn total(&self) -> usize {
        let counts = self.0.iter().map(|(_, count)| *count);
        usize::try_from(counts.sum::<u64>()).unwrap_or(usize::MAX)
    }

    fn each(self, tell: impl Fn(String, u64)) {
        self.0
            .into_iter()
            .for_each(|(name, count)| tell(name, count));
    }
}

pub(crate) fn published(events: ByType, via: &'static str) {
    events.each(|name, count| {
        counter!("outbox_published_events_total", "via" => via, "event_type" => name)
            .increment(count);
    });
}

pub(crate) fn failed(event_type: &str) {
    let name = event_type.to_owned();
    counter!("outbox_failed_events_total", "event_type" => name.clone()).increment(1);
    // What may come next is there before it happens, or its first increase would not be seen.
    counter!("outbox_dead_letter_events_total", "event_type" => name).increment(0);
}

pub(crate) fn retried() {
    counter!("outbox_retry_attempts_total").increment(1);
}

pub(crate) fn dead(event_type: &str) {
    counter!("outbox_dead_letter_events_total", "event_type" => event_type.to_owned()).increment(1);
}

/// One call of the broker by a relay, once for each type of event in it.
pub(crate) fn publish_seconds(events: ByType, seconds: f64) {
    events.each(|name, _| {
        histogram!("outbox_publish_duration_seconds", "event_type" => name).record(seconds);
    });
}

/// What the table holds: every process tells of the whole table.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
pub(crate) fn status(status: &Status) {
    gauge!("outbox_pending_events_total").set((status.pending + status.claimed) as f64);
    for (state, events) in [
        ("pending", status.pending),
        ("claimed", status.claimed),
        ("dead_letter", status.dead_letter),
    ] {
        gauge!("outbox_events_by_state", "state" => state).set(events as f64);
    }
    let oldest = status.oldest.unwrap_or_default().as_secs_f64();
    gauge!("outbox_oldest_event_age_seconds").set(oldest);
    gauge!("outbox_relays").set(status.relays as f64);
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
