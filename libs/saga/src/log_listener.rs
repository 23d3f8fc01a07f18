//! Writes what sagas do into the log, for people who follow along.

use crate::listener::{About, Heard, Listener};
use crate::{Record, Status};

/// Logs the beginning and the end of sagas as information, and failures as warnings. Never what a
/// saga carries: ids, names, and the words of errors.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogListener;

impl Listener for LogListener {
    fn on_saga_start(&self, about: About<'_>) -> Heard {
        tracing::info!(saga.id = %about.saga, saga.name = about.name, "a saga was started");
        Ok(())
    }

    fn on_step_success(&self, about: About<'_>, record: &Record) -> Heard {
        tracing::debug!(saga.id = %about.saga, saga.name = about.name, saga.step.name = &*record.step,
            took_us = record.took_us, "a step is done");
        Ok(())
    }

    fn on_step_failure(&self, about: About<'_>, record: &Record) -> Heard {
        let error = record.note.as_deref().unwrap_or_default();
        tracing::warn!(saga.id = %about.saga, saga.name = about.name, saga.step.name = &*record.step,
            attempt = record.attempt, outcome = record.kind.as_str(), error, "an attempt failed");
        Ok(())
    }

    fn on_compensation_start(&self, about: About<'_>, cause: &str) -> Heard {
        tracing::warn!(saga.id = %about.saga, saga.name = about.name, cause, "a saga is being undone");
        Ok(())
    }

    fn on_saga_complete(&self, about: About<'_>) -> Heard {
        tracing::info!(saga.id = %about.saga, saga.name = about.name, "a saga completed");
        Ok(())
    }

    fn on_saga_failed(&self, about: About<'_>, status: Status, cause: &str) -> Heard {
        tracing::warn!(saga.id = %about.saga, saga.name = about.name, status = status.as_str(), cause,
            "a saga did not complete");
        Ok(())
    }
}
