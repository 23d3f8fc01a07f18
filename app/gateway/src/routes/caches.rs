//! The caches of the process that answers.

use axum::http::StatusCode;
use ratebox_cache::{Stats, Tier};
use serde_json::{Value, json};

use crate::gateway::Shared;
use crate::params::Params;
use crate::problem::ApiError;
use crate::router::Call;
use crate::routes::json as answer;
use crate::service::Response;

/// `GET /api/monitoring/cache`
pub(crate) async fn caches(shared: &Shared, call: &Call) -> Result<Response, ApiError> {
    Params::of(&call.parts.uri)?.finish()?;
    let mut caches = vec![
        cache("lookups", shared.lookups.stats()),
        cache("statuses", shared.statuses.stats()),
        cache("tokens", shared.auth.stats()),
    ];
    caches.extend(shared.auth.jwks_stats().map(|it| cache("jwks", it)));
    Ok(answer(
        StatusCode::OK,
        json!({ "caches": caches }).to_string(),
    ))
}

fn cache(name: &str, (stats, tier): (Stats, &Tier)) -> Value {
    json!({
        "name": name,
        "shared": tier.is_shared(),
        "away": tier.is_away(),
        "watching": tier.is_watching(),
        "reads": {
            "memory": stats.memory_hits,
            "tier": stats.tier_hits,
            "stale": stats.stale,
            "miss": stats.misses,
            "absent": stats.absent,
        },
        "loads": stats.loads,
        "load_failures": stats.load_failures,
        "shared_loads": stats.shared_loads,
        "fills": stats.fills,
        "fills_refused": stats.fills_refused,
        "fills_failed": stats.fills_failed,
        "invalidations": stats.invalidations,
        "tier_errors": stats.tier_errors,
        "memory_values": stats.memory_values,
        "memory_bytes": stats.memory_bytes,
    })
}
