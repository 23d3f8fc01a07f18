//! What a relay lacks for its work, for whoever answers for its process.

use std::sync::{Arc, Mutex, PoisonError};

/// What a relay lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Its database cannot be reached.
    Database,
    /// Its broker takes nothing. Of several it is the first one: each of the others has its own lane,
    /// and holds up only what goes to it.
    Broker,
}

/// What a relay lacks now. Cheap to clone; clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct RelayHealth(Arc<Mutex<Option<Lack>>>);

// === impl RelayHealth ===

impl RelayHealth {
    /// What it has lacked for seconds, in several tries, and lacked in the last one.
    pub fn lacks(&self) -> Option<Lack> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, lack: Option<Lack>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lack;
    }
}
