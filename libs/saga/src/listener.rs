//! Who wants to hear what sagas do. Nothing that a listener does can fail a saga.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::{Record, SagaId, Status};

/// What a listener returns; an error is logged and has no other effect.
pub type Heard = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Which saga it is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Which saga.
    pub saga: SagaId,
    /// Its definition's name.
    pub name: &'a str,
}

/// Hears what happens to sagas, after it is on disk, in the task of the saga: it must not block.
/// After a crash something may be heard twice, or not at all; for what must be heard use messages
/// ([`crate::Ctx::send`], `Builder::events`).
pub trait Listener: Send + Sync {
    /// A saga was started.
    fn on_saga_start(&self, _about: About<'_>) -> Heard {
        Ok(())
    }

    /// An attempt begins (not: is on disk).
    fn on_step_enter(&self, _about: About<'_>, _step: &str, _attempt: u32) -> Heard {
        Ok(())
    }

    /// A step is done.
    fn on_step_success(&self, _about: About<'_>, _record: &Record) -> Heard {
        Ok(())
    }

    /// An attempt failed; `record.kind` tells whether for good.
    fn on_step_failure(&self, _about: About<'_>, _record: &Record) -> Heard {
        Ok(())
    }

    /// A step is over, whichever way.
    fn on_step_exit(&self, _about: About<'_>, _record: &Record) -> Heard {
        Ok(())
    }

    /// The saga begins to be undone.
    fn on_compensation_start(&self, _about: About<'_>, _cause: &str) -> Heard {
        Ok(())
    }

    /// A step was undone.
    fn on_compensation_complete(&self, _about: About<'_>, _record: &Record) -> Heard {
        Ok(())
    }

    /// The saga completed.
    fn on_saga_complete(&self, _about: About<'_>) -> Heard {
        Ok(())
    }

    /// The saga ended otherwise, or is parked.
    fn on_saga_failed(&self, _about: About<'_>, _status: Status, _cause: &str) -> Heard {
        Ok(())
    }
}

/// All listeners of an engine.
#[derive(Clone, Default)]
pub(crate) struct Listeners(pub(crate) Arc<[Arc<dyn Listener>]>);

impl Listeners {
    /// Tells each of them; their errors and panics are logged.
    pub(crate) fn tell(&self, about: About<'_>, tell: impl Fn(&dyn Listener) -> Heard) {
        for listener in self.0.iter() {
            let error = match catch_unwind(AssertUnwindSafe(|| tell(&**listener))) {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it panicked".to_owned(),
            };
            tracing::warn!(saga.id = %about.saga, saga.name = about.name, error, "a listener failed");
        }
    }
}
