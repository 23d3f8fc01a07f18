//! Writing through: the origin first, then the cache.
//!
//! A writer takes the right to fill from whoever loads, and removes the entry, before it writes. If
//! it still has the right afterwards, nobody else wrote or invalidated meanwhile and its value is
//! the one that is there; if not, what is there is removed. So whatever the order in which two
//! writers reach the origin and the cache, no value stays that is older than the last write.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use ratebox_kit::id;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::tags::{self, entry_tag};
use super::{Engine, cells};
use crate::Error;
use crate::entry::Tagged;
use crate::error::Cause;
use crate::generations::Moment;
use crate::held::Held;
use crate::loaded::Loaded;
use crate::policy::Policy;

/// Writes to where values come from, and answers what a loader would bring now.
pub(crate) type Write<V> = BoxFuture<'static, Result<Loaded<V>, Cause>>;

/// What is to be filled: a value, and what of it goes with it.
struct Fill<'a, V> {
    name: &'a str,
    loaded: &'a Loaded<V>,
    /// The tags that were known before the value, with their counts.
    tags: Vec<Tagged>,
    /// A change after this may be one that the value does not have.
    at: Moment,
}

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// Runs a write in a task of its own, so that its end is seen whoever waits for it.
    pub(crate) async fn write_through(
        self: &Arc<Self>,
        key: &str,
        policy: &Arc<Policy>,
        write: Write<V>,
    ) -> Result<Option<Arc<V>>, Error> {
        let (answer, answered) = oneshot::channel();
        let (engine, name, policy) = (Arc::clone(self), self.name_of(key), Arc::clone(policy));
        let fits = self.check_key(key).is_ok();
        self.tasks.spawn("cache write", async move {
            let written = engine.write(&name, &policy, write, fits).await;
            // Nobody waits any more: the write is done all the same.
            let _ = answer.send(written);
        });
        answered.await.unwrap_or(Err(Error::GivenUp))
    }

    async fn write(
        &self,
        name: &str,
        policy: &Policy,
        write: Write<V>,
        fits: bool,
    ) -> Result<Option<Arc<V>>, Error> {
        let token = id::new();
        let seized = fits && self.seize(name, token, policy).await;
        // Before the write: a tag that changes after it may do so because of a newer one.
        let life = policy.ttl.max(policy.negative_ttl) + policy.stale;
        let tags = self.sample(self.tags_of(policy, name), life).await;
        let at = self.tier.view.generations.now();
        let held = seized.then_some(token);
        let written = tokio::select! {
            written = write => written,
            never = self.renew(name, held, policy.lease) => match never {},
        };
        let mut loaded = match written {
            Ok(loaded) => loaded,
            Err(cause) => {
                // It may have been written nevertheless.
                let _ = self.invalidate(&[name.to_owned()], &[]).await;
                return Err(Error::Write(cause));
            }
        };
        let filled = match tags {
            Ok(tags) if seized => {
                let fill = Fill {
                    name,
                    loaded: &loaded,
                    tags,
                    at,
                };
                self.put(token, policy, fill).await
            }
            _ => false,
        };
        let told = match filled {
            true => {
                self.tier.replaced(name);
                self.invalidate(&[], &[entry_tag(name)]).await
            }
            false => self.invalidate(&[name.to_owned()], &[]).await,
        };
        // The origin has it. What the tier could not be told is told later.
        if let Err(error) = told {
            tracing::debug!(cache.name = %self.cache, error = %error, "a write is told later");
        }
        Ok(loaded.value.take().map(Arc::new))
    }

    /// Takes the right to fill; false when the tier does not give it.
    async fn seize(&self, name: &str, token: Uuid, policy: &Policy) -> bool {
        let Ok(Some(store)) = self.tier.live() else {
            return false;
        };
        self.tier.view.changed(name);
        let seized = store.seize(name, token, policy.lease).await;
        self.tier.view.changed(name);
        if seized.is_err() {
            self.tier_failed();
        }
        seized.is_ok()
    }

    /// Fills what was written, if the right is still ours.
    async fn put(&self, token: Uuid, policy: &Policy, fill: Fill<'_, V>) -> bool {
        let Ok(Some(store)) = self.tier.live() else {
            return false;
        };
        let name = fill.name;
        let (entry, life) = match self.packed(token, policy, fill).await {
            Ok(Some(packed)) => packed,
            Ok(None) => return false,
            Err(Error::Encode(_) | Error::TooLarge { .. } | Error::Settings { .. }) => {
                return false;
            }
            Err(_) => {
                self.tier_failed();
                return false;
            }
        };
        self.tier.view.changed(name);
        let filled = store.fill(name, token, entry, life).await;
        self.tier.view.changed(name);
        match filled {
            Ok(filled) => filled,
            Err(_) => {
                self.tier_failed();
                false
            }
        }
    }

    /// The entry of a value that was not loaded, and how long the tier keeps it; `None` when it is
    /// not to be kept, or one of its tags changed meanwhile.
    async fn packed(
        &self,
        stamp: Uuid,
        policy: &Policy,
        fill: Fill<'_, V>,
    ) -> Result<Option<(Bytes, Duration)>, Error> {
        let Fill {
            name,
            loaded,
            mut tags,
            at,
        } = fill;
        let remembered = loaded.value.is_some() || !policy.negative_ttl.is_zero();
        if !(loaded.kept && remembered) {
            return Ok(None);
        }
        let encoded = match &loaded.value {
            Some(value) => Some(self.codec.encode(value).map_err(Error::Encode)?),
            None => None,
        };
        let bytes = encoded.as_ref().map_or(0, Vec::len);
        let bytes_max = self.limits.value_bytes_max;
        if bytes > bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        let times = loaded.times(policy, self.clock.now_ms());
        let life = times.life();
        let named = self.named(policy, loaded, name)?;
        if !self.add_late(&mut tags, &named, at, life).await? {
            return Ok(None);
        }
        let entry = self.entry(stamp, times, 0, &tags, encoded.as_deref());
        Ok(Some((entry, life)))
    }

    /// Replaces the value of a key.
    pub(crate) async fn set(
        &self,
        key: &str,
        policy: &Policy,
        loaded: Loaded<V>,
    ) -> Result<(), Error> {
        let name = self.name_of(key);
        self.check_key(key)?;
        if self.tier.store.is_none() {
            return self.set_in_memory(key, &name, policy, loaded);
        }
        match self.set_in_tier(&name, policy, &loaded).await {
            Ok(true) => {
                self.tier.replaced(&name);
                self.invalidate(&[], &[entry_tag(&name)]).await
            }
            Ok(false) => self.invalidate(&[name], &[]).await,
            Err(error) => {
                // What is there is older than what was asked for.
                let _ = self.invalidate(&[name], &[]).await;
                Err(error)
            }
        }
    }

    fn set_in_memory(
        &self,
        key: &str,
        name: &str,
        policy: &Policy,
        mut loaded: Loaded<V>,
    ) -> Result<(), Error> {
        let view = &self.tier.view;
        // Voids the loads that are under way, and what depends on the value.
        view.changed(name);
        view.tag_changed(&entry_tag(name));
        let remembered = loaded.value.is_some() || !policy.negative_ttl.is_zero();
        if !(loaded.kept && remembered) {
            return Ok(());
        }
        let named = self.named(policy, &loaded, name)?;
        let weight = loaded.value.as_ref().map_or(0, self.weigh);
        let times = loaded.times(policy, self.clock.now_ms());
        let value = loaded.value.take().map(Arc::new);
        let mut held = Held::new(value, view.generations.now(), times);
        held.weight = weight;
        let mut tags = self.tags_of(policy, name);
        named.add_to(&mut tags);
        let own = cells(tags.iter().map(|tag| &**tag));
        held.tags = view.inherit(&own, &named.depends_on);
        tags::check_all(held.tags.iter().count())?;
        self.memory.keep(key, name, &Arc::new(held), view);
        Ok(())
    }

    /// False when it is not kept.
    async fn set_in_tier(
        &self,
        name: &str,
        policy: &Policy,
        loaded: &Loaded<V>,
    ) -> Result<bool, Error> {
        let life = policy.ttl.max(policy.negative_ttl) + policy.stale;
        let tags = self.sample(self.tags_of(policy, name), life).await?;
        let at = self.tier.view.generations.now();
        let fill = Fill {
            name,
            loaded,
            tags,
            at,
        };
        let Some((entry, life)) = self.packed(id::new(), policy, fill).await? else {
            return Ok(false);
        };
        let Some(store) = self.tier.live()? else {
            return Ok(false);
        };
        self.tier.view.changed(name);
        let told = store.set(name, entry, life).await;
        self.tier.view.changed(name);
        told.map(|()| true)
    }
}
