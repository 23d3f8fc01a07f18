//! Changes that are gathered while a transaction goes on, and made known after its commit.

use std::collections::BTreeSet;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::engine::{entry_tag, user_tag, version_tag};
use crate::{Cache, Error, Tier};

/// Keys, tags and whole caches that a transaction changes.
///
/// Gather them while it goes on, and [`Changes::tell`] them once it is committed: readers keep what
/// they have until then. Dropped without that, as after a rollback, nothing happens.
///
/// A process that dies between its commit and its `tell` tells nobody. Where that matters, write
/// the changes (they are serde values) as an event into an outbox within the same transaction, and
/// have whoever receives it tell them: telling them twice costs a load and nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    names: BTreeSet<String>,
    tags: BTreeSet<String>,
}

// === impl Changes ===

impl Changes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a key, and everything that depends on it.
    pub fn key<K: Display + ?Sized, V: Send + Sync + 'static>(
        &mut self,
        cache: &Cache<K, V>,
        key: &K,
    ) -> &mut Self {
        let name = cache.name_of(key);
        self.tags.insert(entry_tag(&name));
        self.names.insert(name);
        self
    }

    /// Whatever carries a tag, in all caches.
    pub fn tag(&mut self, tag: &str) -> &mut Self {
        self.tags.insert(user_tag(tag));
        self
    }

    /// All values of the cache of this name.
    pub fn cache(&mut self, name: &str) -> &mut Self {
        self.tags.insert(version_tag(name));
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.tags.is_empty()
    }

    /// Makes them known: to this process, to the tier, and through it to all others. Those of
    /// caches over other tiers are told to each.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn tell(&self, tier: &Tier) -> Result<(), Error> {
        let names: Vec<String> = self.names.iter().cloned().collect();
        let tags: Vec<String> = self.tags.iter().cloned().collect();
        tier.tell(&names, &tags).await
    }
}
