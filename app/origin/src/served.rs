//! A resource with its cache.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use ratebox_cache::{Cache, Loaded};

use crate::resource::{Key, Resource};

/// A resource with its cache. The values are JSON texts, and never change in place.
pub(crate) struct Served {
    pub(crate) resource: Resource,
    pub(crate) cache: Cache<Key, Bytes>,
    /// The caches that its values are made from.
    pub(crate) sources: Vec<Cache<Key, Bytes>>,
}

// === impl Served ===

impl Served {
    /// What a loader brought, with everything that it depends on.
    pub(crate) fn loaded(&self, key: &Key, value: Option<Bytes>) -> Loaded<Bytes> {
        let loaded = Loaded::from(value);
        self.sources.iter().fold(loaded, |loaded, source| {
            loaded.depends_on(source.name_of(key))
        })
    }

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
            let value = served.resource.source.get(&wanted).await?;
            Ok::<_, crate::SourceError>(served.loaded(&wanted, value))
        };
        cache.get_or_load(key, load).await
    }
}
