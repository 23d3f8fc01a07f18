//! The names of this crate's metrics; the predecessor's names are kept.

use metrics::{counter, gauge, histogram};

use crate::Status;

fn name(saga: &str) -> [(&'static str, String); 1] {
    [("saga_name", saga.to_owned())]
}

pub(crate) fn ended(saga: &str, status: Status, seconds: f64) {
    counter!("saga_execution_total",
        "saga_name" => saga.to_owned(), "status" => status.as_str())
    .increment(1);
    histogram!("saga_execution_duration_seconds", &name(saga)).record(seconds);
}

/// A saga began to be undone; once a saga.
pub(crate) fn compensating(saga: &str) {
    counter!("saga_compensations_total", &name(saga)).increment(1);
}

pub(crate) fn parked(saga: &str) {
    counter!("saga_parked_total", &name(saga)).increment(1);
}

pub(crate) fn step(saga: &str, step: &str, seconds: f64) {
    histogram!("saga_step_duration_seconds",
        "saga_name" => saga.to_owned(), "step_name" => step.to_owned())
    .record(seconds);
}

pub(crate) fn retried(saga: &str, step: &str) {
    counter!("saga_step_retries_total",
        "saga_name" => saga.to_owned(), "step_name" => step.to_owned())
    .increment(1);
}

/// Sagas in memory.
pub(crate) fn active(saga: &str, change: f64) {
    gauge!("saga_active_count", &name(saga)).increment(change);
}

pub(crate) fn adopted(sagas: usize) {
    counter!("saga_adopted_total").increment(sagas as u64);
}

pub(crate) fn panicked() {
    counter!("saga_engine_panics_total").increment(1);
}
