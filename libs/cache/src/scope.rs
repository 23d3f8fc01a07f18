//! What one request has read already.
//!
//! Within a request every reader of a key gets the same value, and what is computed twice is computed
//! once. A scope lives as long as its request and is shared by nobody else.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::{Cache, Error, Loaded};

/// Keys that a scope remembers; beyond it, values are computed each time.
const KEYS_MAX: usize = 10_000;

/// The value of a key, or the knowledge that there is none; empty while it is read.
type Cell<V> = Arc<OnceCell<Option<Arc<V>>>>;

/// What one request has read already.
pub struct RequestScope<V> {
    cells: Mutex<HashMap<String, Cell<V>>>,
}

impl<V> Default for RequestScope<V> {
    fn default() -> Self {
        Self::new()
    }
}

// === impl RequestScope ===

impl<V> RequestScope<V> {
    /// Nothing was read yet.
    pub fn new() -> Self {
        Self {
            cells: Mutex::default(),
        }
    }

    /// The value of a key, computed on the first call. The computation may ask the scope itself.
    pub fn memo<K>(&self, key: &K, compute: impl FnOnce() -> V) -> Arc<V>
    where
        K: Display + ?Sized,
    {
        let cell = self.cell(&key.to_string());
        if let Some(Some(known)) = cell.get() {
            return Arc::clone(known);
        }
        let computed = Arc::new(compute());
        // Another may have been quicker: the first one counts.
        let _ = cell.set(Some(Arc::clone(&computed)));
        match cell.get() {
            Some(Some(first)) => Arc::clone(first),
            _ => computed,
        }
    }

    /// The value of a key in a cache, which is asked on the first call. An error is not remembered.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`].
    pub async fn get_or_load<K, F, Fut, T, E>(
        &self,
        cache: &Cache<K, V>,
        key: &K,
        load: F,
    ) -> Result<Option<Arc<V>>, Error>
    where
        K: Display + ?Sized,
        V: Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let cell = self.cell(&cache.name_of(key));
        let value = cell.get_or_try_init(|| cache.get_or_load(key, load));
        Ok(value.await?.clone())
    }

    fn cell(&self, key: &str) -> Cell<V> {
        let mut cells = self.cells();
        if let Some(cell) = cells.get(key) {
            return Arc::clone(cell);
        }
        let cell = Cell::default();
        if cells.len() < KEYS_MAX {
            cells.insert(key.to_owned(), Arc::clone(&cell));
        }
        cell
    }

    fn cells(&self) -> MutexGuard<'_, HashMap<String, Cell<V>>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fibonacci(scope: &RequestScope<u64>, n: u64, calls: &mut u64) -> u64 {
        *scope.memo(&n, || {
            *calls += 1;
            match n {
                0 | 1 => n,
                _ => fibonacci(scope, n - 1, calls) + fibonacci(scope, n - 2, calls),
            }
        })
    }

    #[test]
    fn what_a_request_computes_twice_is_computed_once() {
        let (scope, mut calls) = (RequestScope::new(), 0);
        assert_eq!(fibonacci(&scope, 90, &mut calls), 2_880_067_194_370_816_120);
        assert_eq!(calls, 91);
    }
}
