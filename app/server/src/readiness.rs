//! Whether the process is ready, for whoever asks beside its metrics: a worker and a relay have no
//! other address.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::http::StatusCode;
use ratebox_kit::{Shutdown, Tasks};

/// Whether the process is ready. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    is_up: Arc<AtomicBool>,
    tasks: Tasks,
    shutdown: Shutdown,
}

// === impl Readiness ===

impl Readiness {
    /// Of a process that starts and has these tasks.
    pub fn of(tasks: &Tasks) -> Self {
        Self {
            is_up: Arc::default(),
            tasks: tasks.clone(),
            shutdown: tasks.shutdown(),
        }
    }

    /// It has started.
    pub fn is_up(&self) {
        self.is_up.store(true, Ordering::SeqCst);
    }

    /// As it is told: a status and a word.
    pub fn answer(&self) -> (StatusCode, &'static str) {
        let not_ready = |why| (StatusCode::SERVICE_UNAVAILABLE, why);
        if !self.is_up.load(Ordering::SeqCst) {
            not_ready("starting\n")
        } else if self.shutdown.is_stopping() {
            not_ready("stopping\n")
        } else if !self.tasks.failed().is_empty() {
            not_ready("a background task panicked; see the log\n")
        } else {
            (StatusCode::OK, "ready\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_from_its_start_to_its_stop() {
        let tasks = Tasks::new();
        let readiness = Readiness::of(&tasks);
        let said = |readiness: &Readiness| readiness.answer().1.trim();
        assert_eq!(said(&readiness), "starting");
        readiness.is_up();
        assert_eq!(readiness.answer(), (StatusCode::OK, "ready\n"));
        tasks.stop();
        assert_eq!(said(&readiness), "stopping");
    }
}
