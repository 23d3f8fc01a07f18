//! A store of sagas whose process dies at a chosen entry: before it is on disk, or right after.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::{Db, Tx};
use ratebox_kit::Timestamp;
use ratebox_saga::{
    Adopted, Count, Engine, Entry, Filter, Head, Letter, Outline, Owner, Posted, Result, SagaId,
    SqlStore, Store, Stored, Written, WrittenIn,
};

/// On which side of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

/// Counts the entries of its process and kills it at one of them.
#[derive(Clone)]
pub(crate) struct Doomed {
    inner: SqlStore,
    at: usize,
    side: Side,
    seen: Arc<AtomicUsize>,
    engine: Arc<OnceLock<Engine>>,
}

impl Doomed {
    pub(crate) fn new(inner: SqlStore, at: usize, side: Side) -> Self {
        Self {
            inner,
            at,
            side,
            seen: Arc::default(),
            engine: Arc::default(),
        }
    }

    /// Whom to kill.
    pub(crate) fn arm(&self, engine: &Engine) {
        let armed = self.engine.set(engine.clone());
        assert!(armed.is_ok(), "armed once");
    }

    /// Whether it came to that.
    pub(crate) fn has_died(&self) -> bool {
        self.seen.load(Ordering::SeqCst) > self.at
    }

    /// One more entry; whether it is the one.
    fn is_it(&self) -> bool {
        self.seen.fetch_add(1, Ordering::SeqCst) == self.at
    }

    /// What is asked of a dead process never ends.
    async fn die<T>(&self) -> T {
        if let Some(engine) = self.engine.get() {
            engine.crash();
        }
        std::future::pending().await
    }
}

#[async_trait]
impl Store for Doomed {
    async fn write(&self, owner: Owner, batch: &[&Entry]) -> Result<Vec<Written>> {
        let is_it = self.is_it();
        if is_it && self.side == Side::Before {
            return self.die().await;
        }
        let written = self.inner.write(owner, batch).await;
        match is_it {
            true => self.die().await,
            false => written,
        }
    }

    /// Dead before its commit is dead before it.
    async fn write_in(
        &self,
        tx: &mut Tx,
        owner: Option<Owner>,
        entry: &Entry,
    ) -> Result<WrittenIn> {
        if self.is_it() {
            return self.die().await;
        }
        self.inner.write_in(tx, owner, entry).await
    }

    fn database(&self) -> Option<&Db> {
        self.inner.database()
    }

    async fn join(&self, process: &str, lease: Duration) -> Result<Owner> {
        self.inner.join(process, lease).await
    }

    async fn renew(&self, owner: Owner, lease: Duration) -> Result<()> {
        self.inner.renew(owner, lease).await
    }

    async fn leave(&self, owner: Owner) -> Result<()> {
        self.inner.leave(owner).await
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
