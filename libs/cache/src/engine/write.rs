//! Writing through: the origin first, then the cache.
//!
//! A writer takes the right to fill from whoever loads, and removes the entry, before it writes. If
//! it still has the right afterwards, nobody else wrote or invalidated meanwhile and its value is
//! the one that is there; if not, what is there is removed. So whatever the order in which two
//! writers reach the origin and the cache, no value stays that is older than the last write.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ratebox_kit::id;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::tags::entry_tag;
use super::{Engine, cells};
use crate::Error;
use crate::entry::{Tagged, Times};
use crate::error::Cause;
use crate::held::Held;
use crate::policy::Policy;

/// Writes to where values come from; `None` when the value is gone afterwards.
pub(crate) type Write<V> = BoxFuture<'static, Result<Option<V>, Cause>>;

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
        let tags = self.sample(self.tags_of(policy), life).await;
        let held = seized.then_some(token);
        let written = tokio::select! {
            written = write => written,
            never = self.renew(name, held, policy.lease) => match never {},
        };
        let value = match written {
            Ok(value) => value.map(Arc::new),
            Err(cause) => {
                // It may have been written nevertheless.
                let _ = self.invalidate(&[name.to_owned()], &[]).await;
                return Err(Error::Write(cause));
            }
        };
        let filled = match tags {
            Ok(tags) if seized => self.put(name, token, policy, &tags, value.as_deref()).await,
            _ => false,
        };
        let told = match filled {
            true => self.invalidate(&[], &[entry_tag(name)]).await,
            false => self.invalidate(&[name.to_owned()], &[]).await,
        };
        // The origin has it. What the tier could not be told is told later.
        if let Err(error) = told {
            tracing::debug!(cache.name = %self.cache, error = %error, "a write is told later");
        }
        Ok(value)
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
    async fn put(
        &self,
        name: &str,
        token: Uuid,
        policy: &Policy,
        tags: &[Tagged],
        value: Option<&V>,
    ) -> bool {
        let Ok(Some(store)) = self.tier.live() else {
            return false;
        };
        let encoded = match value.map(|value| self.codec.encode(value)) {
            Some(Err(_)) => return false,
            Some(Ok(bytes)) if bytes.len() > self.limits.value_bytes_max => return false,
            Some(Ok(bytes)) => Some(bytes),
            None if policy.negative_ttl.is_zero() => return false,
            None => None,
        };
        let (times, life) = self.times_of_set(policy, value.is_some());
        let entry = self.entry(token, times, 0, tags, encoded.as_deref());
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

    /// The times of a value that was not loaded, and how long the tier keeps it.
    pub(super) fn times_of_set(&self, policy: &Policy, is_there: bool) -> (Times, Duration) {
        let created_ms = self.clock.now_ms();
        let usual = match is_there {
            true => policy.ttl,
            false => policy.negative_ttl,
        };
        let soft_ms = created_ms.saturating_add(policy.life_ms(usual, fastrand::f64()));
        let stale_ms = match policy.stale.is_zero() {
            true => 0,
            false => policy.life_ms(policy.stale, 0.0),
        };
        let hard_ms = soft_ms.saturating_add(stale_ms);
        let times = Times {
            created_ms,
            soft_ms,
            hard_ms,
        };
        let life_ms = hard_ms.saturating_sub(created_ms).max(1);
        (times, Duration::from_millis(life_ms.unsigned_abs()))
    }

    /// Replaces the value of a key.
    pub(crate) async fn set(
        &self,
        key: &str,
        policy: &Policy,
        value: Option<V>,
    ) -> Result<(), Error> {
        let name = self.name_of(key);
        self.check_key(key)?;
        if self.tier.store.is_none() {
            self.set_in_memory(key, &name, policy, value);
            return Ok(());
        }
        let done = self.set_in_tier(&name, policy, value).await;
        let told = match done {
            Ok(()) => self.invalidate(&[], &[entry_tag(&name)]).await,
            // What is there is older than what was asked for.
            Err(_) => self.invalidate(&[name], &[]).await,
        };
        done.and(told)
    }

    fn set_in_memory(&self, key: &str, name: &str, policy: &Policy, value: Option<V>) {
        let view = &self.tier.view;
        // Voids the loads that are under way, and what depends on the value.
        view.changed(name);
        view.tag_changed(&entry_tag(name));
        let weight = value.as_ref().map_or(0, self.weigh);
        let (times, _) = self.times_of_set(policy, value.is_some());
        let mut held = Held::new(value.map(Arc::new), view.generations.now(), times);
        held.weight = weight;
        held.tags = cells(self.tags_of(policy).iter().map(|tag| &**tag));
        self.memory.keep(key, name, &Arc::new(held), view);
    }

    async fn set_in_tier(
        &self,
        name: &str,
        policy: &Policy,
        value: Option<V>,
    ) -> Result<(), Error> {
        let encoded = match &value {
            Some(value) => Some(self.codec.encode(value).map_err(Error::Encode)?),
            None => None,
        };
        let (bytes, bytes_max) = (
            encoded.as_ref().map_or(0, Vec::len),
            self.limits.value_bytes_max,
        );
        if bytes > bytes_max {
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        let (times, life) = self.times_of_set(policy, value.is_some());
        let tags = self.sample(self.tags_of(policy), life).await?;
        let entry = self.entry(id::new(), times, 0, &tags, encoded.as_deref());
        let Some(store) = self.tier.live()? else {
            return Ok(());
        };
        self.tier.view.changed(name);
        let told = store.set(name, entry, life).await;
        self.tier.view.changed(name);
        told
    }
}
