//! `GET /healthz`: 200 while the shared tier answers and no task has died, else 503. Reads are served from the
//! origins in both cases.

use std::time::Duration;

use axum::http::StatusCode;
use ratebox_cache::BreakerState;
use serde_json::{Map, json};

use crate::problem::{self, Response};
use crate::service::Shared;

/// Longest wait for a sign of life.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// `GET /healthz`.
pub(crate) async fn all(shared: &Shared) -> Response {
    let asked = tokio::time::timeout(ANSWER_MAX, shared.tier.usage()).await;
    let valkey = matches!(asked, Ok(Ok(_)));
    let failed = shared.tasks.failed();
    let ok = valkey && failed.is_empty();
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
    let mut shown = json!({
        "ok": ok, "valkey": valkey, "circuit_breaker": worst.word(), "origins": breakers,
    });
    let error = match (valkey, failed.is_empty()) {
        (false, _) => Some("the cache's server does not answer; values come from the origins"),
        (true, false) => Some("a background task panicked; see the log"),
        (true, true) => None,
    };
    if let (Some(error), Some(shown)) = (error, shown.as_object_mut()) {
        shown.insert("error".to_owned(), error.into());
    }
    let mut response = problem::json(shown.to_string());
    if !ok {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
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
