//! Breakers by endpoint.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ratebox_kit::Clock;

use super::{Breaker, BreakerSettings, BreakerState};

/// Breakers kept at most. Endpoints come from the configuration, not from requests; who passes
/// more gets breakers that are not shared.
const ENDPOINTS_MAX: usize = 1_024;

/// One breaker for each endpoint, made when first asked for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Breakers {
    settings: BreakerSettings,
    clock: Clock,
    known: Arc<RwLock<HashMap<String, Breaker>>>,
}

// === impl Breakers ===

impl Breakers {
    /// No endpoints yet.
    pub fn new(settings: BreakerSettings, clock: Clock) -> Self {
        Self {
            settings,
            clock,
            known: Arc::default(),
        }
    }

    /// The breaker of an endpoint.
    pub fn of(&self, endpoint: &str) -> Breaker {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = known.get(endpoint) {
            return breaker.clone();
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = known.get(endpoint) {
            return breaker.clone();
        }
        let breaker = Breaker::new(endpoint, self.settings, self.clock.clone());
        if known.len() < ENDPOINTS_MAX {
            known.insert(endpoint.to_owned(), breaker.clone());
        }
        breaker
    }

    /// Every endpoint and its state, in order of name.
    pub fn states(&self) -> Vec<(String, BreakerState)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut states: Vec<_> = known
            .iter()
            .map(|(endpoint, breaker)| (endpoint.clone(), breaker.state()))
            .collect();
        states.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        states
    }
}
