//! The journal: a handle over a store, with group commit.
//!
//! All sagas of a process write through one bounded queue. A writer takes what is waiting and
//! commits it as one batch, so that a commit's price is shared by everything that happened during
//! the one before.

pub(crate) mod database;
pub(crate) mod memory;
pub(crate) mod redis;
pub(crate) mod store;
pub(crate) mod writer;

mod code;

use std::sync::Arc;

use crate::{MemoryStore, Store, Time};

/// Where sagas are kept. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    store: Arc<dyn Store>,
}

// === impl Journal ===

impl Journal {
    /// A journal in this store.
    pub fn new(store: impl Store + 'static) -> Self {
        Self {
            store: Arc::new(store),
        }
    }

    /// A journal in memory, which ends with the process.
    pub fn memory() -> Self {
        Self::new(MemoryStore::new(Time::system()))
    }

    /// The store itself.
    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    pub(crate) fn shared(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}
