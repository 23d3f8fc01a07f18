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

/// What came of loading the declared keys.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    /// Those that are loaded now, absent ones among them.
    pub(crate) loaded: usize,
    /// Those that could not be loaded: their first readers load them.
    pub(crate) failed: usize,
    /// Why one of them was not.
    pub(crate) error: Option<ratebox_cache::Error>,
}

/// Forgets and loads.
///
/// # Errors
/// 423 while another does; 503 when the lock cannot be asked for, was lost, the tier is away, or a
/// declared key could not be loaded.
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
        Ok(Ok(loads)) => loads.answer(),
        Ok(Err(error)) => Err(unavailable("tier.away").caused_by(error)),
        Err(lost) => Err(unavailable("lock.lost").caused_by(lost)),
    }
}

async fn forget_and_load(shared: &Shared) -> Result<Loads, ratebox_cache::Error> {
    forget(shared).await?;
    let mut loads = Loads::default();
    for served in shared.all() {
        loads.add(warm(served).await);
    }
    Ok(loads)
}

/// Forgets everything, also what comes after one that others could not be told of.
///
/// # Errors
/// When they could not; it is noted, and they are told when the tier is back.
pub(crate) async fn forget(shared: &Shared) -> Result<(), ratebox_cache::Error> {
    let mut told = Ok(());
    for served in shared.all() {
        told = told.and(served.cache.invalidate_all().await);
    }
    if told.is_err() {
        shared.untold.note().await;
    }
    told
}

/// Loads the declared keys; one that cannot be loaded is loaded by its first reader.
pub(crate) async fn warm(served: &Arc<Served>) -> Loads {
    let mut loads = Loads::default();
    let declared = &served.resource.declaration;
    let parsed = declared.warm.iter().map(|key| declared.key.parse(key));
    let keys: Vec<Key> = parsed.flatten().collect();
    for some in keys.chunks(AT_ONCE) {
        for one in join_all(some.iter().map(|key| warm_one(served, key))).await {
            loads.add(one);
        }
    }
    loads
}

async fn warm_one(served: &Arc<Served>, key: &Key) -> Loads {
    let own = Arc::new(AtomicBool::new(false));
    let error = served.read(&served.cache, key, &own).await.err();
    Loads {
        loaded: usize::from(error.is_none()),
        failed: usize::from(error.is_some()),
        error,
    }
}

// === impl Loads ===

impl Loads {
    fn add(&mut self, more: Self) {
        self.loaded += more.loaded;
        self.failed += more.failed;
        self.error = self.error.take().or(more.error);
    }

    /// # Errors
    /// 503 when some could not be loaded.
    fn answer(self) -> Result<Response, Problem> {
        let Self { loaded, failed, .. } = self;
        match self.error {
            None => Ok(json(format!("{{\"ok\":true,\"loaded\":{loaded}}}"))),
            Some(error) => {
                let all = loaded + failed;
                let detail = format!(
                    "everything is forgotten, but only {loaded} of {all} declared keys could be \
                     loaded; the first readers of the others load them"
                );
                Err(Problem::not_loaded(error, detail))
            }
        }
    }
}
