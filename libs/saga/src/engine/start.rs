//! Starts sagas.

use std::future::{Future, IntoFuture};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use ratebox_db::{Committed, Tx};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::poll::activate;
use super::runner::{Job, Origin};
use super::session::Session;
use super::{Engine, Handle};
use crate::definition::plan::Plan;
use crate::journal::store::{Entry, NewSaga, Parent, Written};
use crate::listener::About;
use crate::{Error, Record, Result, Saga, SagaId, Status};

/// Longest key, in characters.
const KEY_CHARS_MAX: usize = 255;

/// A start that has yet to be awaited.
#[must_use = "await it, or nothing is started"]
pub struct Start<'e, I, O> {
    engine: &'e Engine,
    saga: Saga<I, O>,
    input: Result<Bytes>,
    key: Option<String>,
}

/// A saga in a transaction that has yet to commit.
#[must_use = "call `committed` after the commit, or the saga starts with the next look for such"]
pub struct Started<O> {
    engine: Engine,
    id: SagaId,
    output: PhantomData<fn() -> O>,
}

/// Everything a new saga is made of.
pub(crate) struct Order {
    pub(crate) id: SagaId,
    pub(crate) key: Option<String>,
    pub(crate) parent: Option<Parent>,
    pub(crate) input: Bytes,
    pub(crate) records: Vec<Record>,
}

impl<I, O> Start<'_, I, O> {
    /// At most one saga of a definition has this key, for as long as it is kept: a second start
    /// gives the handle of the first, whoever started it.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

impl<'e, I, O> IntoFuture for Start<'e, I, O>
where
    I: Send + 'e,
    O: DeserializeOwned + Send + 'static,
{
    type Output = Result<Handle<O>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'e>>;

    /// On return the saga is on disk.
    fn into_future(self) -> Self::IntoFuture {
        let plan = self.saga.plan();
        Box::pin(async move {
            self.engine.register_plan(&plan)?;
            let order = Order::new(self.input?, self.key)?;
            let id = self.engine.start_plan(&plan, order).await?;
            Ok(Handle::new(self.engine.clone(), id))
        })
    }
}

// === impl Order ===

impl Order {
    fn new(input: Bytes, key: Option<String>) -> Result<Self> {
        let fits = |key: &String| {
            let chars = key.chars().count();
            (1..=KEY_CHARS_MAX).contains(&chars) && !key.chars().any(char::is_control)
        };
        if key.as_ref().is_some_and(|key| !fits(key)) {
            let why = format!("a key has 1 to {KEY_CHARS_MAX} characters, none of them control");
            return Err(Error::Refused { why });
        }
        Ok(Self {
            id: SagaId::new(),
            key,
            parent: None,
            input,
            records: Vec::new(),
        })
    }

    fn into_new(self, plan: &Plan, status: Status, engine: &Engine) -> NewSaga {
        NewSaga {
            id: self.id,
            definition: Arc::clone(&plan.name),
            version: plan.version,
            hash: Arc::clone(&plan.hash),
            key: self.key,
            parent: self.parent,
            input: self.input,
            status,
            created_at: engine.now(),
            records: self.records,
        }
    }
}

// === impl Engine ===

impl Engine {
    /// Starts a saga; await the result. The handle can be awaited for the output.
    ///
    /// ```ignore
    /// let handle = engine.start(&trip, &order).key("order-42").await?;
    /// let booking = handle.wait().await?;
    /// ```
    pub fn start<I, O>(&self, saga: &Saga<I, O>, input: &I) -> Start<'_, I, O>
    where
        I: Serialize,
    {
        let input = serde_json::to_vec(input).map(Bytes::from);
        Start {
            engine: self,
            saga: saga.clone(),
            input: input.map_err(Error::Json),
            key: None,
        }
    }

    /// Starts a saga if, and only if, the caller's transaction commits. Tell the result of the
    /// commit, or it begins up to a poll later.
    ///
    /// # Errors
    /// When the store has no transactions, or the database refuses; the transaction can then only
    /// be dropped. [`Error::Refused`] when another saga has the key.
    pub async fn start_in<I, O>(
        &self,
        tx: &mut Tx,
        saga: &Saga<I, O>,
        input: &I,
        key: Option<String>,
    ) -> Result<Started<O>>
    where
        I: Serialize,
    {
        let plan = saga.plan();
        self.register_plan(&plan)?;
        let input = serde_json::to_vec(input).map_err(Error::Json)?;
        let order = Order::new(input.into(), key)?;
        let id = order.id;
        let entry = Entry::Start(Box::new(order.into_new(&plan, Status::Pending, self)));
        match self.0.store.write_in(tx, None, &entry).await?.written {
            Written::Kept => Ok(Started {
                engine: self.clone(),
                id,
                output: PhantomData,
            }),
            Written::Exists(_) | Written::NotYours => Err(Error::Refused {
                why: "another saga has this key".to_owned(),
            }),
        }
    }

    /// Room for one more saga in memory; waits for it a while.
    async fn room(&self) -> Result<OwnedSemaphorePermit> {
        let permits = Arc::clone(&self.0.permits);
        let wait = self.0.settings.start_wait;
        match tokio::time::timeout(wait, permits.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Error::Stopping),
            Err(_) => Err(Error::Busy {
                live_max: self.0.settings.live_max,
            }),
        }
    }

    /// Writes a new saga and runs it; the id of the one that has the key.
    pub(crate) async fn start_plan(&self, plan: &Arc<Plan>, order: Order) -> Result<SagaId> {
        let permit = self.room().await?;
        let session = self.session().await?;
        let id = order.id;
        let new = Box::new(order.into_new(plan, Status::Executing, self));
        // Held before it is on disk, so that no look for orphans can run it a second time.
        let Some(live) = self.0.lives.hold(id, permit) else {
            return Ok(id);
        };
        let entry = Entry::Start(new.clone());
        match session.writer.write(entry).await {
            Ok(Written::Kept) => {}
            Ok(Written::Exists(other)) => {
                self.0.lives.drop_saga(id, &live);
                return Ok(other);
            }
            Ok(Written::NotYours) | Err(Error::Fenced) => {
                // It may be on disk; then it is taken over, under the same id.
                self.0.lives.drop_saga(id, &live);
                session.lost.cancel();
                return Err(Error::Fenced);
            }
            Err(error) => {
                self.0.lives.drop_saga(id, &live);
                return Err(error);
            }
        }
        let about = About {
            saga: id,
            name: &plan.name,
        };
        self.0.listeners.tell(about, |it| it.on_saga_start(about));
        let origin = Origin::New(new, Arc::clone(plan));
        self.run(&session, Job { id, live, origin }).await;
        Ok(id)
    }

    /// Hands a saga to the session.
    pub(crate) async fn run(&self, session: &Arc<Session>, job: Job) {
        let (id, live) = (job.id, Arc::clone(&job.live));
        if session.jobs.send(job).await.is_err() {
            self.0.lives.drop_saga(id, &live);
        }
    }

    /// Takes a saga up that nobody runs; true when this process owns it.
    pub(crate) async fn take_up(&self, id: SagaId) -> Result<bool> {
        let session = self.session().await?;
        let is_own = self.0.store.claim(session.owner, id).await?;
        if is_own {
            activate(self, &session, &[id]).await?;
        }
        Ok(is_own)
    }
}

// === impl Started ===

impl<O: DeserializeOwned + Send + 'static> Started<O> {
    /// The saga's id, should the transaction commit.
    pub fn id(&self) -> SagaId {
        self.id
    }

    /// The transaction is committed: the saga begins now.
    ///
    /// # Errors
    /// When the journal is away; the saga begins later all the same.
    pub async fn committed(self, _proof: &Committed) -> Result<Handle<O>> {
        self.engine.take_up(self.id).await?;
        Ok(Handle::new(self.engine, self.id))
    }
}
