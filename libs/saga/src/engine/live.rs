//! Which sagas this process holds in memory, who waits for them, and what is told to them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use crate::{Letter, SagaId, Status};

/// How a saga stopped: at an end, or parked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) status: Status,
    pub(crate) output: Option<Bytes>,
    pub(crate) error: Option<String>,
}

/// A saga in memory.
pub(crate) struct Live {
    letters: Mutex<Vec<Letter>>,
    told: Notify,
    _permit: OwnedSemaphorePermit,
}

/// All of them. Also who waits for sagas that may be elsewhere.
#[derive(Default)]
pub(crate) struct Lives {
    sagas: Mutex<HashMap<SagaId, Arc<Live>>>,
    waiters: Mutex<HashMap<SagaId, Vec<oneshot::Sender<Ending>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

// === impl Live ===

impl Live {
    /// Letters that came since the last call.
    pub(crate) fn take_letters(&self) -> Vec<Letter> {
        std::mem::take(&mut *lock(&self.letters))
    }

    /// Completes when a letter came.
    pub(crate) async fn told(&self) {
        self.told.notified().await;
    }
}

// === impl Lives ===

impl Lives {
    /// Notes that this process holds a saga; `None` when it does already.
    pub(crate) fn hold(&self, saga: SagaId, permit: OwnedSemaphorePermit) -> Option<Arc<Live>> {
        let mut sagas = lock(&self.sagas);
        if sagas.contains_key(&saga) {
            return None;
        }
        let live = Arc::new(Live {
            letters: Mutex::default(),
            told: Notify::new(),
            _permit: permit,
        });
        sagas.insert(saga, Arc::clone(&live));
        Some(live)
    }

    pub(crate) fn is_held(&self, saga: SagaId) -> bool {
        lock(&self.sagas).contains_key(&saga)
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.sagas).len()
    }

    /// Hands a letter to a saga in memory; false when it is not there.
    pub(crate) fn tell(&self, letter: &Letter) -> bool {
        let sagas = lock(&self.sagas);
        let Some(live) = sagas.get(&letter.saga) else {
            return false;
        };
        lock(&live.letters).push(letter.clone());
        live.told.notify_one();
        true
    }

    /// Lets a saga go unless a letter came meanwhile; true when it is gone.
    pub(crate) fn release(&self, saga: SagaId) -> bool {
        let mut sagas = lock(&self.sagas);
        let has_letters = sagas
            .get(&saga)
            .is_some_and(|live| !lock(&live.letters).is_empty());
        if !has_letters {
            sagas.remove(&saga);
        }
        !has_letters
    }

    /// Lets a saga go, whatever came, unless it is held anew.
    pub(crate) fn drop_saga(&self, saga: SagaId, live: &Arc<Live>) {
        let mut sagas = lock(&self.sagas);
        if sagas.get(&saga).is_some_and(|it| Arc::ptr_eq(it, live)) {
            sagas.remove(&saga);
        }
    }

    /// Lets all go: this process lost its authority.
    pub(crate) fn clear(&self) {
        lock(&self.sagas).clear();
    }

    /// Completes when the saga stops in this process.
    pub(crate) fn wait(&self, saga: SagaId) -> oneshot::Receiver<Ending> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = lock(&self.waiters);
        let of_saga = waiters.entry(saga).or_default();
        of_saga.retain(|it| !it.is_closed());
        of_saga.push(sender);
        receiver
    }

    /// Nobody waits for it any more, unless somebody does.
    pub(crate) fn forget(&self, saga: SagaId) {
        let mut waiters = lock(&self.waiters);
        if let Some(of_saga) = waiters.get_mut(&saga) {
            of_saga.retain(|it| !it.is_closed());
            if of_saga.is_empty() {
                waiters.remove(&saga);
            }
        }
    }

    /// Tells everybody who waits.
    pub(crate) fn announce(&self, saga: SagaId, ending: &Ending) {
        let waiters = lock(&self.waiters).remove(&saga);
        for waiter in waiters.unwrap_or_default() {
            let _ = waiter.send(ending.clone());
        }
    }
}
