//! The shared tier behind a cache's own memory: Redis or Valkey, SQLite, memory, or none.
//!
//! [`Tier`] is a handle; what it stands on implements [`Store`]. A tier keeps three kinds of things:
//! *entries* by name; a *lease* by name, without which nothing may fill an entry (a change of the
//! entry voids it); and *counts* of tags, which a change of the tag raises.

mod change;
mod memory;
mod recent;
mod redis;
mod repair;
mod sqlite;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use crate::Error;
use crate::view::View;
pub(crate) use memory::Memory;
pub(crate) use recent::Recent;
pub use redis::ValkeyTier;
pub(crate) use repair::Repairs;
pub use sqlite::MIGRATIONS;
pub use sqlite::OWNER;

/// A shared tier, or none. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Tier {
    pub(crate) store: Option<Arc<dyn Store>>,
    pub(crate) view: Arc<View>,
    pub(crate) repairs: Arc<Repairs>,
    pub(crate) recent: Arc<Recent>,
}

/// What a load gets that asks for the right to fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The right, until the lease ends.
    Ours,
    /// Nothing: another has it, for so long at most.
    Busy(Duration),
    /// What somebody filled meanwhile.
    Newer(Bytes),
}

/// What was found of a name by whoever means to fill it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The entry, if there is one.
    pub(crate) entry: Option<Bytes>,
    /// Whether the right to fill it was free and is ours now.
    pub(crate) is_ours: bool,
}

/// The count of a tag, which is there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ensured {
    pub(crate) count: u64,
    /// It was made or given a longer life just now, and the tier tells this process of that as if the
    /// tag had changed.
    pub(crate) is_told: bool,
}

/// What a tier stands on. Every call ends within the backend's own timeout.
#[async_trait]
pub(crate) trait Store: Send + Sync {
    /// A sign of life, of the connection that changes are heard on.
    async fn ping(&self) -> Result<(), Error>;

    /// The entry of a name. Only this is on the path of a hit: it must be one plain read.
    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error>;

    /// Whether each call is a trip to another process, which tells us of what we fill ourselves as if
    /// another had.
    fn is_far(&self) -> bool {
        false
    }

    /// The entry of a name and the right to fill it, in one trip where the tier is far.
    async fn open(&self, name: &str, _token: Uuid, _lease: Duration) -> Result<Opened, Error> {
        let entry = self.get(name).await?;
        let is_ours = false;
        Ok(Opened { entry, is_ours })
    }

    /// The stamps of the entries of several names, in order, where the tier is far; empty where there
    /// is no entry.
    async fn stamps(&self, _names: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        Ok(Vec::new())
    }

    /// The entries of several names, in order.
    async fn get_many(&self, names: &[String]) -> Result<Vec<Option<Bytes>>, Error>;

    /// Asks for the right to fill, unless the entry is another than the one that was `seen` (its
    /// stamp; empty for none).
    async fn take(
        &self,
        name: &str,
        token: Uuid,
        lease: Duration,
        seen: &[u8],
    ) -> Result<Taken, Error>;

    /// Keeps the right for one lease more; false when it is lost.
    async fn renew(&self, name: &str, token: Uuid, lease: Duration) -> Result<bool, Error>;

    /// Fills the entry and gives the right back; false, and nothing is filled, when it was lost.
    async fn fill(
        &self,
        name: &str,
        token: Uuid,
        entry: Bytes,
        life: Duration,
    ) -> Result<bool, Error>;

    /// Gives the right back, if it is still ours.
    async fn give_back(&self, name: &str, token: Uuid) -> Result<(), Error>;

    /// Takes the right from whoever has it, and removes the entry: a writer is at work.
    async fn seize(&self, name: &str, token: Uuid, lease: Duration) -> Result<(), Error>;

    /// Replaces the entry and voids any right to fill it.
    async fn set(&self, name: &str, entry: Bytes, life: Duration) -> Result<(), Error>;

    /// Removes entries, voids any right to fill them, and raises the counts of tags.
    async fn remove(&self, names: &[String], tags: &[String], life: Duration) -> Result<(), Error>;

    /// The counts of tags, as far as there are any.
    async fn counts(&self, tags: &[String]) -> Result<Vec<Option<u64>>, Error>;

    /// The counts of tags, which are made where there are none; each is kept for `life` more.
    async fn ensure(&self, tags: &[String], life: Duration) -> Result<Vec<Ensured>, Error>;

    /// What the tier holds now.
    async fn usage(&self) -> Result<Usage, Error>;
}

/// What a tier holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Entries, or all keys of the server where it does not tell them apart.
    pub keys: u64,
    /// Bytes of memory or file that it uses.
    pub bytes: u64,
}

// === impl Tier ===

impl Tier {
    /// No shared tier: everything is in the cache's own memory.
    pub fn none() -> Self {
        Self::over(None)
    }

    /// A tier in this process, of at most `bytes_max`: for tests, and in place of a server.
    pub fn memory(bytes_max: u64) -> Self {
        Self::over(Some(Arc::new(Memory::new(bytes_max))))
    }

    fn over(store: Option<Arc<dyn Store>>) -> Self {
        Self {
            store,
            view: Arc::new(View::new()),
            repairs: Arc::default(),
            recent: Arc::default(),
        }
    }

    /// Whether there is a shared tier at all.
    pub fn is_shared(&self) -> bool {
        self.store.is_some()
    }

    /// Whether each of its calls is a trip.
    pub(crate) fn is_far(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.is_far())
    }

    /// Whether changes that others make are heard now; always true of a tier that nobody else has.
    pub fn is_watching(&self) -> bool {
        !self.view.is_blind()
    }

    /// Whether the tier does not answer.
    pub fn is_away(&self) -> bool {
        self.view.is_away()
    }

    /// What it holds; nothing without a shared tier.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn usage(&self) -> Result<Usage, Error> {
        match self.live()? {
            Some(store) => store.usage().await,
            None => Ok(Usage::default()),
        }
    }

    /// Whether there are changes that it could not be told of so far. They are told when it is back,
    /// while this process lives.
    pub fn has_untold(&self) -> bool {
        !self.repairs.is_empty()
    }

    /// How many changes it could not be told of so far.
    pub fn untold(&self) -> usize {
        self.repairs.count()
    }

    /// Tells it now what it could not be told of. It is told by itself while the tasks of this
    /// process run; this is for afterwards.
    ///
    /// # Errors
    /// When it does not answer; what was not told is told later still.
    pub async fn tell_untold(&self) -> Result<(), Error> {
        match &self.store {
            Some(store) => watch::look(self, store.as_ref()).await,
            None => Ok(()),
        }
    }

    /// The tier has yet to be told of a change: until then nothing that it holds is believed.
    pub(crate) fn set_behind(&self) {
        self.view.fall_behind();
        self.view.doubt();
    }

    /// The tier, if there is one; an error at once while it is known to be away.
    pub(crate) fn live(&self) -> Result<Option<&dyn Store>, Error> {
        match &self.store {
            Some(_) if self.view.is_away() => Err(Error::Away),
            Some(store) => Ok(Some(store.as_ref())),
            None => Ok(None),
        }
    }

    /// The same for who tells it of a change. One that answers again and is not believed yet takes it at
    /// once: were it remembered, nobody could ever tell all that was while changes go on.
    fn attentive(&self) -> Result<Option<&dyn Store>, Error> {
        match &self.store {
            Some(store) if self.view.is_answering() => Ok(Some(store.as_ref())),
            Some(_) | None => self.live(),
        }
    }
}

impl std::fmt::Debug for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tier")
            .field("shared", &self.store.is_some())
            .field("away", &self.is_away())
            .field("watching", &self.is_watching())
            .finish()
    }
}
