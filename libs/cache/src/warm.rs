//! Filling a cache before its first readers come.

use std::collections::HashMap;
use std::fmt::Display;

use crate::{Cache, Error, Loaded};

/// What a warming did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warmed {
    /// Keys that are cached now, absent ones among them.
    pub keys: usize,
    /// Keys whose load failed: their first readers load them.
    pub failed: usize,
}

// === impl Cache ===

impl<K: Display + ?Sized, V: Send + Sync + 'static> Cache<K, V> {
    /// Loads what is not cached of these keys, so many in one call and one call after the other,
    /// and what is cached is left as it is. A call that fails is counted and the next one is made.
    /// Several processes that start together load each key once.
    ///
    /// # Errors
    /// [`Error::TooManyKeys`] when a call would have more than [`crate::Limits::bulk_keys_max`].
    pub async fn warm<F, Fut, T, E>(
        &self,
        keys: &[&K],
        in_one_call: usize,
        load: F,
    ) -> Result<Warmed, Error>
    where
        F: Fn(Vec<String>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<String, T>, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut warmed = Warmed::default();
        for keys in keys.chunks(in_one_call.max(1)) {
            match self.get_many_or_load(keys, load.clone()).await {
                Ok(_) => warmed.keys += keys.len(),
                Err(error @ Error::TooManyKeys { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(cache.name = %self.engine.cache, error = %error,
                        "some keys could not be loaded ahead of their readers");
                    warmed.failed += keys.len();
                }
            }
        }
        Ok(warmed)
    }
}
