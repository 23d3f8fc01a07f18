//! A circuit breaker for one endpoint, and a set of them by name.
//!
//! [`Breaker::acquire`] gives a [`Permit`] or refuses at once; the permit is told how the call
//! ended. While the breaker is closed, asking costs one atomic load and two readings of the clock.
//! It keeps no timer and spawns nothing.
//!
//! It opens on failures in a row, on a rate of failures and on a rate of slow calls. Once the time
//! is up it gives out as many probe permits as the settings say, no more however many callers ask;
//! a probe that fails or is slow opens it again, a probe without an answer gives its permit to
//! another caller at its deadline. When all probes succeeded, a growing share of calls gets through.

mod core;
mod registry;
mod settings;
mod sync;
mod window;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::Clock;

use self::core::{Admitted, Core, Ending};
use self::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

pub use self::core::BreakerState;
pub use self::registry::Breakers;
pub use self::settings::BreakerSettings;

/// Guards one endpoint. Cheap to clone; clones share its state.
#[derive(Clone, Debug)]
pub struct Breaker {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: String,
    clock: Clock,
    /// The epoch while closed, else 0: the one thing that a call looks at in good times.
    gate: AtomicU64,
    core: Mutex<Core>,
    refused: metrics::Counter,
}

/// The breaker does not let the call through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint is given time to recover; try again in {} ms", retry_after.as_millis())]
pub struct Refused {
    /// When another try makes sense.
    pub retry_after: Duration,
}

/// Why a guarded call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// It was not made.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It was made and failed.
    #[error("the guarded call failed")]
    Failed(#[source] E),
}

/// Leave to make one call. Dropped without a word it counts for nothing when the call was short,
/// and as a slow call when it was not: callers with a deadline drop what hangs.
#[derive(Debug)]
#[must_use = "the breaker wants to know how the call ended"]
pub struct Permit {
    shared: Arc<Shared>,
    admitted: Admitted,
    started: Duration,
    told: bool,
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker. `endpoint` names it in metrics and in the log.
    pub fn new(endpoint: impl Into<String>, settings: BreakerSettings, clock: Clock) -> Self {
        let endpoint = endpoint.into();
        let core = Core::new(settings);
        let gate = AtomicU64::new(core.open_gate().unwrap_or(0));
        let refused = metrics::counter!("cache_breaker_refused_total",
            "endpoint" => endpoint.clone());
        let shared = Arc::new(Shared {
            endpoint,
            clock,
            gate,
            core: Mutex::new(core),
            refused,
        });
        Self { shared }
    }

    /// The name it was made with.
    pub fn endpoint(&self) -> &str {
        &self.shared.endpoint
    }

    /// What it does with calls. An open breaker whose time is up stays open here until somebody
    /// calls.
    pub fn state(&self) -> BreakerState {
        self.shared.lock().state()
    }

    /// Lets a call through, or refuses it at once.
    ///
    /// # Errors
    /// [`Refused`], with the time to wait.
    pub fn acquire(&self) -> Result<Permit, Refused> {
        let started = self.shared.clock.steady_time();
        let epoch = self.shared.gate.load(Ordering::Acquire);
        let admitted = match epoch {
            0 => self.shared.admit(started)?,
            epoch => Admitted { epoch, probe: None },
        };
        Ok(Permit {
            shared: Arc::clone(&self.shared),
            admitted,
            started,
            told: false,
        })
    }

    /// Makes one call. `is_failure` tells what the backend is to blame for from what is the
    /// caller's own fault: a row that does not exist is no reason to stop asking.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>>,
        is_failure: impl FnOnce(&E) -> bool,
    ) -> Result<T, CallError<E>> {
        let permit = self.acquire()?;
        let answer = work.await;
        match &answer {
            Err(error) if is_failure(error) => permit.failure(),
            Ok(_) | Err(_) => permit.success(),
        }
        answer.map_err(CallError::Failed)
    }
}

// === impl Permit ===

impl Permit {
    /// The call got its answer.
    pub fn success(mut self) {
        self.tell(Ending::Succeeded);
    }

    /// The backend failed.
    pub fn failure(mut self) {
        self.tell(Ending::Failed);
    }

    fn tell(&mut self, end: Ending) {
        self.told = true;
        let now = self.shared.clock.steady_time();
        let took = now.saturating_sub(self.started);
        let admitted = self.admitted;
        self.shared
            .change(|core| core.record(admitted, now, took, end));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.told {
            self.tell(Ending::Abandoned);
        }
    }
}

// === impl Shared ===

impl Shared {
    fn admit(&self, now: Duration) -> Result<Admitted, Refused> {
        self.change(|core| core.admit(now)).map_err(|retry_after| {
            self.refused.increment(1);
            Refused { retry_after }
        })
    }

    /// Runs one decision; says so when it moved the state.
    fn change<T>(&self, decide: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.lock();
        let before = core.state();
        let result = decide(&mut core);
        let after = core.state();
        if before != after {
            self.gate
                .store(core.open_gate().unwrap_or(0), Ordering::Release);
            drop(core);
            self.report(before, after);
        }
        result
    }

    fn report(&self, before: BreakerState, after: BreakerState) {
        metrics::counter!("cache_breaker_changes_total",
            "endpoint" => self.endpoint.clone(), "to" => after.word())
        .increment(1);
        match after {
            BreakerState::Open => {
                tracing::warn!(endpoint = %self.endpoint, "the breaker opened: no calls for a while");
            }
            BreakerState::Closed | BreakerState::HalfOpen | BreakerState::Ramp => {
                tracing::info!(endpoint = %self.endpoint, from = before.word(), to = after.word(),
                    "the breaker moved");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
