//! Whether the process is ready, for whoever asks beside its metrics: a worker and a relay have no
//! other address.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::http::StatusCode;
use ratebox_kit::{Shutdown, Tasks};

/// Says what a role lacks for its work now, in the words that are answered; `None` when nothing.
pub type Lacks = Box<dyn Fn() -> Option<&'static str> + Send + Sync>;

/// Whether the process is ready. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    is_up: Arc<AtomicBool>,
    lacks: Arc<OnceLock<Lacks>>,
    tasks: Tasks,
    shutdown: Shutdown,
}

// === impl Readiness ===

impl Readiness {
    /// Of a process that starts and has these tasks.
    pub fn of(tasks: &Tasks) -> Self {
        Self {
            is_up: Arc::default(),
            lacks: Arc::default(),
            tasks: tasks.clone(),
            shutdown: tasks.shutdown(),
        }
    }

    /// Not while its role lacks something. A process that answers so has one role, so a second call
    /// changes nothing.
    pub fn unless(&self, lacks: Lacks) {
        let _first = self.lacks.set(lacks);
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
        } else if let Some(lack) = self.lacks.get().and_then(|lacks| lacks()) {
            not_ready(lack)
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

    #[tokio::test]
    async fn what_its_role_lacks_is_named_as_long_as_it_lacks_it() {
        let readiness = Readiness::of(&Tasks::new());
        let is_away = Arc::new(AtomicBool::new(true));
        let away = is_away.clone();
        readiness.unless(Box::new(move || {
            away.load(Ordering::SeqCst).then_some("the bus is away\n")
        }));
        assert_eq!(readiness.answer().1, "starting\n");
        readiness.is_up();
        let not_ready = (StatusCode::SERVICE_UNAVAILABLE, "the bus is away\n");
        assert_eq!(readiness.answer(), not_ready);
        is_away.store(false, Ordering::SeqCst);
        assert_eq!(readiness.answer(), (StatusCode::OK, "ready\n"));
    }
}
