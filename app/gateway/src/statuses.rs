//! Reads of requests. A request with a verdict never changes again, so it is read from the store
//! once; any other is read each time, or a client that knows of a change would read from before it.

use std::sync::Arc;
use std::time::Duration;

use ratebox_cache::{Cache, Lookup, Stats, Tier};
use ratebox_kit::Clock;
use ratebox_store::{Error, RequestStatus, State, Store};
use uuid::Uuid;

use crate::unshared;

/// A final status is kept for so long: clients that poll come back within it.
const KEPT: Duration = Duration::from_secs(60);

/// What is missing where a request is finished and its results are gone.
const RESULTS: &str = "verdict that has no row in validation_responses";

/// Statuses by request.
pub(crate) struct Statuses {
    finals: Cache<Uuid, Arc<RequestStatus>>,
}

impl Statuses {
    /// Keeps final statuses in at most `bytes_max`.
    pub(crate) fn new(clock: Clock, bytes_max: u64) -> Self {
        Self {
            finals: unshared::cache("statuses", clock, KEPT, (bytes_max, weight)),
        }
    }

    /// Where a request of `owner` stands; `None` also when it is somebody else's.
    ///
    /// # Errors
    /// When the store is away, or has the verdict without its results.
    pub(crate) async fn find(
        &self,
        store: &Store,
        id: Uuid,
        owner: &str,
    ) -> Result<Option<Arc<RequestStatus>>, Error> {
        let status = match self.finals.get(&id).await {
            Ok(Lookup::Value(status)) => Some(Arc::clone(status.as_ref())),
            Ok(Lookup::Absent | Lookup::Miss) | Err(_) => self.read(store, id).await?,
        };
        let status = status.filter(|status| status.owner == owner);
        // Both are written in one transaction. `success` without results would be taken for the
        // answer, so it is none.
        let is_torn = |it: &Arc<RequestStatus>| has_verdict(it.state) && !is_whole(it);
        if status.as_ref().is_some_and(is_torn) {
            return Err(Error::Unreadable { what: RESULTS });
        }
        Ok(status)
    }

    async fn read(&self, store: &Store, id: Uuid) -> Result<Option<Arc<RequestStatus>>, Error> {
        let status = store.status(id, None).await?.map(Arc::new);
        if let Some(status) = status.as_ref().filter(|it| is_whole(it)) {
            // Memory takes what fits; what does not is read again.
            let _ = self.finals.set(&id, Arc::clone(status)).await;
        }
        Ok(status)
    }

    /// What the cache counted.
    pub(crate) fn stats(&self) -> (Stats, &Tier) {
        (self.finals.stats(), self.finals.tier())
    }
}

/// A dead letter may be replayed, so a dead request is not the end; nor is a cancelled one while a
/// worker that had it may still end with a verdict.
fn has_verdict(state: State) -> bool {
    match state {
        State::Success | State::Partial | State::Error => true,
        State::Queued | State::Processing | State::Dead | State::Cancelled => false,
    }
}

/// With the results of its verdict.
fn is_whole(status: &RequestStatus) -> bool {
    has_verdict(status.state) && status.response.is_some()
}

fn weight(status: &Arc<RequestStatus>) -> u64 {
    let texts = [&status.response, &status.external_ref, &status.batch_id];
    let texts: usize = texts.into_iter().flatten().map(String::len).sum();
    (std::mem::size_of::<RequestStatus>() + status.owner.len() + status.source.len() + texts) as u64
}
