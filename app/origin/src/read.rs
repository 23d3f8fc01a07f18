//! `GET /{resource}/{key}`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::Uri;

use crate::params::Params;
use crate::problem::{Problem, Response, json};
use crate::resource::Key;
use crate::served::Served;
use crate::service::Shared;
use crate::strategy::Strategy;

/// Seconds that a value may be fresh.
const TTL_MAX_S: u64 = 86_400;
/// Unless the request says otherwise.
pub(crate) const TTL_S: u64 = 900;
/// Seconds after its end that a value may stand in.
const GRACE_MAX_S: u64 = 3_600;
/// Unless the request says otherwise.
pub(crate) const GRACE_S: u64 = 30;

/// One value, by the strategy that the request names.
///
/// # Errors
/// 400 for an unknown strategy, 404, 422 for what is out of range, 503.
pub(crate) async fn one(
    shared: &Shared,
    served: &Arc<Served>,
    key: &Key,
    uri: &Uri,
) -> Result<Response, Problem> {
    let mut params = Params::of(uri)?;
    let strategy = strategy(&mut params)?;
    let ttl = ttl(&mut params)?;
    let grace = params.number("stale_grace", 0..=GRACE_MAX_S, GRACE_S)?;
    params.finish()?;
    let policy = strategy.policy(ttl, Duration::from_secs(grace), shared.settings.manner());
    let own = Arc::new(AtomicBool::new(false));
    let cache = served.cache.with_policy(policy);
    let found = served.read(&cache, key, &own).await;
    let figures = shared.figures.of(strategy);
    figures.read(own.load(Ordering::Relaxed), &found);
    match found.map_err(Problem::cache)? {
        Some(value) => Ok(json(value.as_ref().clone())),
        None => Err(Problem::no_value()),
    }
}

/// Seconds of `ttl`.
pub(crate) fn ttl(params: &mut Params) -> Result<Duration, Problem> {
    let seconds = params.number("ttl", 1..=TTL_MAX_S, TTL_S)?;
    Ok(Duration::from_secs(seconds))
}

fn strategy(params: &mut Params) -> Result<Strategy, Problem> {
    let Some(word) = params.text("strategy") else {
        return Ok(Strategy::Singleflight);
    };
    Strategy::of(&word).ok_or_else(|| {
        let detail = format!("Invalid strategy. Must be one of: {}", Strategy::words());
        Problem::malformed("strategy.unknown", detail)
    })
}
