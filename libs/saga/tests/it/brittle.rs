//! A store in memory whose calls can be made to fail or to take long.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{PortError, Timestamp};
use ratebox_saga::{
    Adopted, Count, Entry, Error, Filter, Head, Letter, MemoryStore, Outline, Owner, Posted,
    Result, SagaId, Store, Stored, Written,
};

/// Faults and the store under them. Clones share.
#[derive(Clone)]
pub(crate) struct Brittle {
    pub(crate) inner: MemoryStore,
    pub(crate) faults: std::sync::Arc<Faults>,
}

/// What goes wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// So many loads fail from now on.
    pub(crate) loads: AtomicU32,
    /// Renewals take this long, in milliseconds.
    pub(crate) renewal_ms: AtomicU64,
    /// Nobody can join.
    pub(crate) is_shut: AtomicBool,
    /// It takes no messages to others.
    pub(crate) no_outbox: AtomicBool,
    /// It never takes a message of the topic `never`, which only it knows.
    pub(crate) is_choosy: AtomicBool,
}

impl Brittle {
    pub(crate) fn new(inner: MemoryStore) -> Self {
        Self {
            inner,
            faults: std::sync::Arc::default(),
        }
    }
}

#[async_trait]
impl Store for Brittle {
    fn has_outbox(&self) -> bool {
        !self.faults.no_outbox.load(Ordering::SeqCst)
    }

    async fn join(&self, process: &str, lease: Duration) -> Result<Owner> {
        if self.faults.is_shut.load(Ordering::SeqCst) {
            let cause = std::io::Error::other("it is shut");
            return Err(Error::Store(PortError::new("a test's store", cause)));
        }
        self.inner.join(process, lease).await
    }

    async fn renew(&self, owner: Owner, lease: Duration) -> Result<()> {
        let wait = self.faults.renewal_ms.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        self.inner.renew(owner, lease).await
    }

    async fn leave(&self, owner: Owner) -> Result<()> {
        self.inner.leave(owner).await
    }

    async fn write(&self, owner: Owner, batch: &[&Entry]) -> Result<Vec<Written>> {
        let is_foul = |it: &&Entry| match it {
            Entry::Append(append) => append.follow_ups.iter().any(|it| it.topic == "never"),
            Entry::Start(_) => false,
        };
        if self.faults.is_choosy.load(Ordering::SeqCst) && batch.iter().any(is_foul) {
            let why = "not this topic".to_owned();
            return Err(Error::Refused { why });
        }
        self.inner.write(owner, batch).await
    }

    async fn adopt(&self, owner: Owner, limit: usize) -> Result<Adopted> {
        self.inner.adopt(owner, limit).await
    }

    async fn claim(&self, owner: Owner, saga: SagaId) -> Result<bool> {
        self.inner.claim(owner, saga).await
    }

    async fn take_parked(&self, owner: Owner, saga: SagaId) -> Result<bool> {
        self.inner.take_parked(owner, saga).await
    }

    async fn due(&self, owner: Owner, until: Timestamp, limit: usize) -> Result<Vec<SagaId>> {
        self.inner.due(owner, until, limit).await
    }

    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<Stored>> {
        let take = |left: u32| left.checked_sub(1);
        let fails = &self.faults.loads;
        if fails
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .is_ok()
        {
            let cause = std::io::Error::other("on purpose");
            return Err(Error::Store(PortError::new("a test's store", cause)));
        }
        self.inner.load(sagas).await
    }

    async fn post(&self, letter: &Letter) -> Result<Posted> {
        self.inner.post(letter).await
    }

    async fn mail(&self, owner: Owner, limit: usize) -> Result<Vec<Letter>> {
        self.inner.mail(owner, limit).await
    }

    async fn find(&self, definition: &str, key: &str) -> Result<Option<SagaId>> {
        self.inner.find(definition, key).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<Head>> {
        self.inner.list(filter).await
    }

    async fn counts(&self) -> Result<Vec<Count>> {
        self.inner.counts().await
    }

    async fn ended(&self, before: Timestamp, limit: usize) -> Result<Vec<SagaId>> {
        self.inner.ended(before, limit).await
    }

    async fn delete(&self, sagas: &[SagaId]) -> Result<u64> {
        self.inner.delete(sagas).await
    }

    async fn describe(&self, outlines: &[Outline]) -> Result<()> {
        self.inner.describe(outlines).await
    }

    async fn outline(&self, name: &str, hash: &str) -> Result<Option<Outline>> {
        self.inner.outline(name, hash).await
    }

    async fn outlines(&self, name: Option<&str>, limit: usize) -> Result<Vec<Outline>> {
        self.inner.outlines(name, limit).await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}
