//! A resource with its cache.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use ratebox_cache::{Cache, Loaded, WriteQueue};
use ratebox_kit::{Causes, PortError};

use crate::overlay::{over, whole};
use crate::pending::PendingWrite;
use crate::resource::{Key, Resource};
use crate::source::SourceError;

/// How often a value is put together again because what waits has changed meanwhile. The cache keeps
/// none of a load that a change overtook, however often.
const TRIES: usize = 3;

/// How long a value is kept while it is not known what waits.
const BLIND: Duration = Duration::from_secs(1);

/// A resource with its cache. The values are JSON texts, and never change in place.
pub(crate) struct Served {
    pub(crate) resource: Resource,
    pub(crate) cache: Cache<Key, Bytes>,
    /// What was answered and waits for the origin; none of what cannot be written.
    pub(crate) queue: Option<Arc<dyn WriteQueue>>,
}

/// The texts that wait for the origin; empty when none does.
type Texts = Vec<Option<String>>;

// === impl Served ===

impl Served {
    /// A value by the policy of `cache`; `own` is set when this very call had to load it.
    pub(crate) async fn read(
        self: &Arc<Self>,
        cache: &Cache<Key, Bytes>,
        key: &Key,
        own: &Arc<AtomicBool>,
    ) -> Result<Option<Arc<Bytes>>, ratebox_cache::Error> {
        let (served, wanted, own) = (Arc::clone(self), key.clone(), Arc::clone(own));
        let load = move || async move {
            own.store(true, std::sync::atomic::Ordering::Relaxed);
            served.load(&wanted).await
        };
        cache.get_or_load(key, load).await
    }

    /// The value as it is when all that was answered is applied.
    async fn load(&self, key: &Key) -> Result<Loaded<Bytes>, SourceError> {
        let Ok(mut waiting) = self.waiting(key).await else {
            let value = self.resource.source.get(key).await?;
            return Ok(blind(Loaded::from(value)));
        };
        let declared = &self.resource.declaration;
        for _ in 0..TRIES {
            if let Some(value) = whole(declared, key, &waiting) {
                return Ok(Loaded::from(Some(value)));
            }
            let value = self.resource.source.get(key).await?;
            if waiting.is_empty() {
                return Ok(Loaded::from(value));
            }
            // What the origin says may be older or newer than what waited before it was asked.
            let Ok(after) = self.waiting(key).await else {
                let value = over(declared, key, value.as_ref(), &waiting);
                return Ok(blind(Loaded::from(value)));
            };
            if after == waiting {
                let value = over(declared, key, value.as_ref(), &waiting);
                return Ok(Loaded::from(value));
            }
            waiting = after;
        }
        let value = self.resource.source.get(key).await?;
        let value = match waiting.is_empty() {
            true => value,
            false => over(declared, key, value.as_ref(), &waiting),
        };
        Ok(Loaded::<Bytes>::from(value).not_kept())
    }

    /// One whose value another question to the origin has brought already.
    pub(crate) async fn load_with(
        &self,
        key: &Key,
        value: Option<Bytes>,
        waited: &Result<Texts, PortError>,
    ) -> Result<Loaded<Bytes>, SourceError> {
        match waited {
            Ok(waiting) if waiting.is_empty() => Ok(Loaded::from(value)),
            Ok(_) => self.load(key).await,
            Err(_) => Ok(blind(Loaded::from(value))),
        }
    }

    /// What waits for the origin. Asked before the origin: what is applied in between, it has.
    pub(crate) async fn waiting(&self, key: &Key) -> Result<Texts, PortError> {
        let Some(queue) = &self.queue else {
            return Ok(Vec::new());
        };
        let newest = queue.newest(&self.resource.name, &key.to_string()).await;
        let newest = newest.inspect_err(|error| {
            tracing::debug!(error = %Causes(error), "what waits for the origin is not known");
        })?;
        let write = newest.and_then(|write| PendingWrite::read(&write.value?));
        Ok(write.map(|write| write.fields).unwrap_or_default())
    }
}

/// Kept for a moment: a write that was answered may be missing in it.
fn blind(loaded: Loaded<Bytes>) -> Loaded<Bytes> {
    loaded.ttl(BLIND).stale(Duration::ZERO)
}
