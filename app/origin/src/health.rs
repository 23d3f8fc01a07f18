//! `GET /healthz`: 200 while the shared tier answers, tokens can be looked up where they are needed, and no task has
//! died, else 503. Without the tier reads are served from the origins.

use std::time::Duration;

use axum::http::StatusCode;
use ratebox_cache::BreakerState;
use serde_json::{Map, Value};

use crate::problem::{self, Response};
use crate::service::Shared;

/// Longest wait for a sign of life.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// `GET /healthz`.
pub(crate) async fn all(shared: &Shared) -> Response {
    let (valkey, tokens) = tokio::join!(tier(shared), tokens(shared));
    let errors = errors(valkey, tokens, shared.tasks.failed().is_empty());
    let mut breakers = Map::new();
    let mut worst = if valkey {
        BreakerState::Closed
    } else {
        BreakerState::Open
    };
    for served in shared.all() {
        let state = served.resource.source.state();
        worst = worse(worst, state);
        breakers.insert(served.resource.name.clone(), state.word().into());
    }
    let mut shown = Map::new();
    shown.insert("ok".to_owned(), errors.is_empty().into());
    shown.insert("valkey".to_owned(), valkey.into());
    shown.insert("circuit_breaker".to_owned(), worst.word().into());
    shown.insert("origins".to_owned(), breakers.into());
    if let Some(tokens) = tokens {
        shown.insert("tokens".to_owned(), tokens.into());
    }
    if !errors.is_empty() {
        shown.insert("error".to_owned(), errors.join("; ").into());
    }
    let mut response = problem::json(Value::from(shown).to_string());
    if !errors.is_empty() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

/// Whether the shared tier answers.
async fn tier(shared: &Shared) -> bool {
    let asked = tokio::time::timeout(ANSWER_MAX, shared.tier.usage()).await;
    matches!(asked, Ok(Ok(_)))
}

/// Whether tokens can be looked up; `None` where nobody needs one.
async fn tokens(shared: &Shared) -> Option<bool> {
    let probe = shared.tokens.as_ref()?;
    let looked = tokio::time::timeout(ANSWER_MAX, probe()).await;
    Some(looked.unwrap_or(false))
}

fn errors(valkey: bool, tokens: Option<bool>, tasks: bool) -> Vec<&'static str> {
    let looked = [
        (
            valkey,
            "the cache's server does not answer; values come from the origins",
        ),
        (
            tokens != Some(false),
            "the store of the tokens does not answer; API tokens cannot be looked up",
        ),
        (tasks, "a background task panicked; see the log"),
    ];
    let failed = looked.into_iter().filter(|(well, _)| !well);
    failed.map(|(_, error)| error).collect()
}

fn worse(one: BreakerState, other: BreakerState) -> BreakerState {
    let rank = |state| match state {
        BreakerState::Closed => 0,
        BreakerState::Ramp => 1,
        BreakerState::HalfOpen => 2,
        BreakerState::Open => 3,
    };
    if rank(other) > rank(one) { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_that_is_not_well_is_told() {
        assert_eq!(errors(true, None, true), [""; 0]);
        assert_eq!(errors(true, Some(true), true), [""; 0]);
        assert_eq!(errors(false, Some(false), false).len(), 3);
        let [tokens] = errors(true, Some(false), true)[..] else {
            panic!("one part is not well");
        };
        assert!(tokens.contains("tokens"), "{tokens}");
    }
}
