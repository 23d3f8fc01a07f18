//! `POST /recompute`: everything is forgotten and the declared keys are loaded again, by one caller
//! at a time over all processes.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::future::join_all;
use ratebox_cache::Locks;

use crate::problem::{Problem, Response, json};
use crate::resource::Key;
use crate::served::Served;
use crate::service::Shared;

/// Who asks within this time asks for the same recomputation.
const AT_LEAST: Duration = Duration::from_millis(200);

/// Keys that are loaded at once.
const AT_ONCE: usize = 16;

/// Forgets and loads.
///
/// # Errors
/// 423 while another does, 503 when the lock cannot be asked for, was lost, or the tier is away.
pub(crate) async fn all(shared: &Shared) -> Result<Response, Problem> {
    let unavailable =
        |code| Problem::unavailable(code, "a recomputation cannot be ordered just now");
    let lock = shared.locks.try_lock("recompute").await;
    let guard = lock.map_err(|error| unavailable("lock.unavailable").caused_by(error))?;
    let Some(guard) = guard else {
        return Err(Problem::new(
            StatusCode::LOCKED,
            "recompute.running",
            "recompute already running",
        ));
    };
    let work = async {
        let (done, ()) = tokio::join!(forget_and_load(shared), tokio::time::sleep(AT_LEAST));
        done
    };
    match Locks::run(guard, work).await {
        Ok(Ok(())) => Ok(json(&br#"{"ok":true}"#[..])),
        Ok(Err(error)) => Err(unavailable("tier.away").caused_by(error)),
        Err(lost) => Err(unavailable("lock.lost").caused_by(lost)),
    }
}

async fn forget_and_load(shared: &Shared) -> Result<(), ratebox_cache::Error> {
    for served in shared.all() {
        served.cache.invalidate_all().await?;
    }
    for served in shared.all() {
        warm(served).await;
    }
    Ok(())
}

/// Loads the declared keys; one that cannot be loaded is loaded by its first reader.
pub(crate) async fn warm(served: &Arc<Served>) {
    let declared = &served.resource.declaration;
    let parsed = declared.warm.iter().map(|key| declared.key.parse(key));
    let keys: Vec<Key> = parsed.flatten().collect();
    for some in keys.chunks(AT_ONCE) {
        join_all(some.iter().map(|key| warm_one(served, key))).await;
    }
}

async fn warm_one(served: &Arc<Served>, key: &Key) {
    let own = Arc::new(AtomicBool::new(false));
    if let Err(error) = served.read(&served.cache, key, &own).await {
        tracing::debug!(%error, "a declared key could not be loaded");
    }
}
