//! The names of this crate's metrics.

use metrics::{Counter, Histogram, counter, histogram};
use ratebox_kit::Timestamp;

use crate::kept::Tally;

/// Tells the recorder what each metric means.
pub fn describe_metrics() {
    let counters = [
        ("ratebox_items_total", "Judged items by verdict"),
        ("ratebox_item_errors_total", "Violated rules by code"),
        (
            "ratebox_batches_split_total",
            "Batches that were halved because a message in them was refused",
        ),
        (
            "ratebox_requests_republished_total",
            "Unfinished requests whose entry had vanished from the bus",
        ),
    ];
    for (name, meaning) in counters {
        metrics::describe_counter!(name, meaning);
    }
    let histograms = [
        (
            "ratebox_end_to_end_seconds",
            "Seconds from the acceptance of a request to its verdict",
        ),
        (
            "ratebox_batch_seconds",
            "Seconds to judge and record one batch",
        ),
    ];
    for (name, meaning) in histograms {
        metrics::describe_histogram!(name, meaning);
    }
}

/// Handles that every batch uses.
#[derive(Clone)]
pub(crate) struct Stats {
    done: Counter,
    error: Counter,
    end_to_end: Histogram,
    batch: Histogram,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            done: counter!("ratebox_items_total", "verdict" => "DONE"),
            error: counter!("ratebox_items_total", "verdict" => "ERROR"),
            end_to_end: histogram!("ratebox_end_to_end_seconds"),
            batch: histogram!("ratebox_batch_seconds"),
        }
    }

    pub(crate) fn batch(&self, seconds: f64) {
        self.batch.record(seconds);
    }

    /// Counts requests that were new.
    pub(crate) fn judged(&self, tally: &Tally, now: Timestamp) {
        self.done.increment(tally.done);
        self.error.increment(tally.errors);
        for (code, count) in &tally.codes {
            counter!("ratebox_item_errors_total", "code" => code.to_string()).increment(*count);
        }
        for accepted_at in &tally.accepted {
            let waited = now.duration_since(*accepted_at);
            self.end_to_end.record(waited.as_secs_f64().max(0.0));
        }
    }
}

pub(crate) fn split() {
    counter!("ratebox_batches_split_total").increment(1);
}

pub(crate) fn republished(requests: usize) {
    counter!("ratebox_requests_republished_total").increment(requests as u64);
}
