//! The names of this crate's metrics; the predecessor's names are kept.

use std::sync::Arc;

use metrics::{counter, gauge, histogram};

use crate::Status;

/// Tells the recorder what each metric means.
pub fn describe_metrics() {
    let counters = [
        ("saga_execution_total", "Ended sagas by name and state"),
        ("saga_compensations_total", "Sagas that began to be undone"),
        (
            "saga_parked_total",
            "Sagas that were parked for an operator",
        ),
        (
            "saga_step_retries_total",
            "Tries of a step after its first one",
        ),
        (
            "saga_adopted_total",
            "Sagas taken over from processes that died",
        ),
        ("saga_engine_panics_total", "Panics of the engine"),
    ];
    for (name, meaning) in counters {
        metrics::describe_counter!(name, meaning);
    }
    let gauges = [
        ("saga_active_count", "Sagas in the memory of this process"),
        (
            "saga_parked_count",
            "Sagas that are parked now, in the whole journal",
        ),
    ];
    for (name, meaning) in gauges {
        metrics::describe_gauge!(name, meaning);
    }
    let histograms = [
        (
            "saga_execution_duration_seconds",
            "Seconds from the start of a saga to its end",
        ),
        ("saga_step_duration_seconds", "Seconds of a step"),
    ];
    for (name, meaning) in histograms {
        metrics::describe_histogram!(name, meaning);
    }
}

/// Measures, or does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stats {
    pub(crate) is_on: bool,
}

fn name(saga: &str) -> [(&'static str, String); 1] {
    [("saga_name", saga.to_owned())]
}

// === impl Stats ===

impl Stats {
    pub(crate) fn ended(self, saga: &str, status: Status, seconds: f64) {
        if !self.is_on {
            return;
        }
        counter!("saga_execution_total",
            "saga_name" => saga.to_owned(), "status" => status.as_str())
        .increment(1);
        histogram!("saga_execution_duration_seconds", &name(saga)).record(seconds);
    }

    /// A saga began to be undone; once a saga.
    pub(crate) fn compensating(self, saga: &str) {
        if !self.is_on {
            return;
        }
        counter!("saga_compensations_total", &name(saga)).increment(1);
    }

    pub(crate) fn parked(self, saga: &str) {
        if !self.is_on {
            return;
        }
        counter!("saga_parked_total", &name(saga)).increment(1);
    }

    pub(crate) fn step(self, saga: &str, step: &str, seconds: f64) {
        if !self.is_on {
            return;
        }
        histogram!("saga_step_duration_seconds",
            "saga_name" => saga.to_owned(), "step_name" => step.to_owned())
        .record(seconds);
    }

    pub(crate) fn retried(self, saga: &str, step: &str) {
        if !self.is_on {
            return;
        }
        counter!("saga_step_retries_total",
            "saga_name" => saga.to_owned(), "step_name" => step.to_owned())
        .increment(1);
    }

    pub(crate) fn adopted(self, sagas: usize) {
        if !self.is_on {
            return;
        }
        counter!("saga_adopted_total").increment(sagas as u64);
    }

    pub(crate) fn panicked(self) {
        if !self.is_on {
            return;
        }
        counter!("saga_engine_panics_total").increment(1);
    }

    /// Counts a saga in memory until it is dropped.
    pub(crate) fn active(self, saga: &Arc<str>) -> Option<Active> {
        self.is_on.then(|| Active::new(Arc::clone(saga)))
    }
}

/// How many sagas of a definition are parked in the whole journal.
pub(crate) fn parked_now(saga: &str, sagas: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    gauge!("saga_parked_count", &name(saga)).set(sagas as f64);
}

/// Counts a saga in memory for as long as it lives, however it goes.
pub(crate) struct Active(Arc<str>);

impl Active {
    fn new(saga: Arc<str>) -> Self {
        gauge!("saga_active_count", &name(&saga)).increment(1.0);
        Self(saga)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        gauge!("saga_active_count", &name(&self.0)).decrement(1.0);
    }
}
