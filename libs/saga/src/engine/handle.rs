//! What the starter of a saga holds.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Engine;
use super::live::Ending;
use crate::{Error, Result, SagaId, Status};

/// A saga that was started.
#[derive(Clone)]
pub struct Handle<O = ()> {
    engine: Engine,
    id: SagaId,
    output: PhantomData<fn() -> O>,
}

impl<O: DeserializeOwned> Handle<O> {
    pub(crate) fn new(engine: Engine, id: SagaId) -> Self {
        Self {
            engine,
            id,
            output: PhantomData,
        }
    }

    /// The saga.
    pub fn id(&self) -> SagaId {
        self.id
    }

    /// Waits until it ends, wherever it runs, and gives its output. A parked saga is waited for.
    ///
    /// # Errors
    /// [`Error::Ended`] when it did not complete.
    pub async fn wait(&self) -> Result<O> {
        let ending = self.engine.ending(self.id, |it| it.is_end()).await?;
        if ending.status != Status::Completed {
            return Err(Error::Ended {
                id: self.id,
                status: ending.status,
                error: ending.error.unwrap_or_default(),
            });
        }
        let output = ending.output.unwrap_or_else(|| "null".into());
        serde_json::from_slice(&output).map_err(Error::Json)
    }

    /// Waits until it ends or is parked, and tells which.
    ///
    /// # Errors
    /// When the journal does not have it.
    pub async fn settled(&self) -> Result<Status> {
        let is_settled = |it: Status| it.is_end() || it == Status::Parked;
        let ending = self.engine.ending(self.id, is_settled).await?;
        Ok(ending.status)
    }

    /// Sends it a signal; see [`Engine::signal`].
    ///
    /// # Errors
    /// As [`Engine::signal`].
    pub async fn signal<T: Serialize + Sync>(
        &self,
        name: &str,
        value: &T,
        who: &str,
    ) -> Result<()> {
        self.engine.signal(self.id, name, value, who).await
    }
}

impl Engine {
    /// Waits for a saga to come to a status that is waited for.
    pub(crate) async fn ending(
        &self,
        id: SagaId,
        is_it: impl Fn(Status) -> bool + Send,
    ) -> Result<Ending> {
        // It may run elsewhere.
        let look_every = self.0.settings.poll_every;
        loop {
            // Asked to be told before looking, so that nothing falls between.
            let told = self.0.lives.wait(id);
            let held = self.0.lives.is_held(id);
            if !held
                && let Some(ending) = self.look(id).await?
                && is_it(ending.status)
            {
                self.0.lives.forget(id);
                return Ok(ending);
            }
            match tokio::time::timeout(look_every, told).await {
                Ok(Ok(ending)) if is_it(ending.status) => return Ok(ending),
                Ok(Ok(_) | Err(_)) => {}
                Err(_) if self.0.kill.is_cancelled() => return Err(Error::Stopping),
                Err(_) => {}
            }
        }
    }

    async fn look(&self, id: SagaId) -> Result<Option<Ending>> {
        let stored = match self.0.store.load(&[id]).await {
            Ok(stored) => stored,
            // It is asked again.
            Err(error) if error.is_retryable() => return Ok(None),
            Err(error) => return Err(error),
        };
        let head = stored.into_iter().next().map(|it| it.head);
        let head = head.ok_or(Error::NoSuchSaga { id })?;
        Ok(Some(Ending {
            status: head.status,
            output: head.output,
            error: head.error,
        }))
    }
}
