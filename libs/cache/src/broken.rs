//! Tiers that lack one of their guards. Tests that run over them must fail; without that nobody knows
//! what a test that passes is worth. And one that hangs where no server can be made to. Built for tests
//! only (feature `broken`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::Error;
use crate::tier::{Ensured, Opened, Store, Taken, Tier, Usage};
use crate::view::View;

/// What keeps stale values out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// A fill needs a lease that no change has voided.
    Leases,
    /// Changes by others are heard.
    Ear,
    /// What was asked for before a change of its key is not kept in memory.
    Fence,
    /// Memory is not believed after a link was lost.
    Doubt,
    /// Changes of tags are told.
    Counts,
    /// Changes that could not be told are told later, and nothing is believed until then.
    Repairs,
}

// === impl Tier ===

impl Tier {
    /// The same tier without one of its guards, before any cache is built over it.
    #[must_use]
    pub fn without(mut self, guard: Guard) -> Self {
        let lacks = &self.view.generations.lacks;
        let leave_out = |guard: &AtomicBool| guard.store(true, Ordering::Relaxed);
        match guard {
            Guard::Fence => leave_out(&lacks.fence),
            Guard::Doubt => leave_out(&lacks.doubt),
            Guard::Repairs => leave_out(&lacks.repairs),
            Guard::Ear => self.view = Arc::new(View::new()),
            Guard::Leases | Guard::Counts => return self.lacking(Lack::Guard(guard)),
        }
        self
    }

    /// The same tier, which never does nor answers a change, and does all else.
    #[must_use]
    pub fn deaf_to_changes(self) -> Self {
        self.lacking(Lack::Changes)
    }

    fn lacking(mut self, lack: Lack) -> Self {
        let lacking = |inner| Arc::new(Lacking { inner, lack }) as Arc<dyn Store>;
        self.store = self.store.map(lacking);
        self
    }
}

/// What a store does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lack {
    /// What this guard is for.
    Guard(Guard),
    /// To answer changes.
    Changes,
}

/// A store that does not do one thing.
struct Lacking {
    inner: Arc<dyn Store>,
    lack: Lack,
}

// === impl Lacking ===

#[async_trait]
impl Store for Lacking {
    async fn ping(&self) -> Result<(), Error> {
        self.inner.ping().await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        self.inner.get(name).await
    }

    fn is_far(&self) -> bool {
        self.inner.is_far()
    }

    async fn open(&self, name: &str, token: Uuid, lease: Duration) -> Result<Opened, Error> {
        self.inner.open(name, token, lease).await
    }

    async fn stamps(&self, names: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        self.inner.stamps(names).await
    }

    async fn get_many(&self, names: &[String]) -> Result<Vec<Option<Bytes>>, Error> {
        self.inner.get_many(names).await
    }

    async fn take(
        &self,
        name: &str,
        token: Uuid,
        lease: Duration,
        seen: &[u8],
    ) -> Result<Taken, Error> {
        self.inner.take(name, token, lease, seen).await
    }

    async fn renew(&self, name: &str, token: Uuid, lease: Duration) -> Result<bool, Error> {
        self.inner.renew(name, token, lease).await
    }

    async fn fill(
        &self,
        name: &str,
        token: Uuid,
        entry: Bytes,
        life: Duration,
    ) -> Result<bool, Error> {
        match self.lack {
            Lack::Guard(Guard::Leases) => {
                self.inner.set(name, entry, life).await?;
                Ok(true)
            }
            Lack::Guard(_) | Lack::Changes => self.inner.fill(name, token, entry, life).await,
        }
    }

    async fn give_back(&self, name: &str, token: Uuid) -> Result<(), Error> {
        self.inner.give_back(name, token).await
    }

    async fn seize(&self, name: &str, token: Uuid, lease: Duration) -> Result<(), Error> {
        self.inner.seize(name, token, lease).await
    }

    async fn set(&self, name: &str, entry: Bytes, life: Duration) -> Result<(), Error> {
        self.inner.set(name, entry, life).await
    }

    async fn remove(&self, names: &[String], tags: &[String], life: Duration) -> Result<(), Error> {
        match self.lack {
            Lack::Changes => std::future::pending().await,
            Lack::Guard(Guard::Counts) => self.inner.remove(names, &[], life).await,
            Lack::Guard(_) => self.inner.remove(names, tags, life).await,
        }
    }

    async fn counts(&self, tags: &[String]) -> Result<Vec<Option<u64>>, Error> {
        self.inner.counts(tags).await
    }

    async fn ensure(&self, tags: &[String], life: Duration) -> Result<Vec<Ensured>, Error> {
        self.inner.ensure(tags, life).await
    }

    async fn usage(&self) -> Result<Usage, Error> {
        self.inner.usage().await
    }
}
