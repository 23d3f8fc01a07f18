//! Changes: a value is replaced, or keys and tags are invalidated.
//!
//! Every change is made known in this process before and after the tier is told of it: what is read
//! in between may be from before. A change that the tier could not be told of is remembered, and
//! told when it is back; until then this process believes nothing that the tier holds.

use std::sync::Arc;
use std::time::Duration;

use ratebox_kit::id;

use super::tags::entry_tag;
use super::{Engine, cells};
use crate::Error;
use crate::entry::{Head, Packing, Times, encode};
use crate::held::Held;
use crate::policy::Policy;

/// How long a raised count is kept at least: longer than what was built under the one before.
const COUNT_LIFE: Duration = Duration::from_secs(24 * 3_600);

// === impl Engine ===

impl<V: Send + Sync + 'static> Engine<V> {
    /// Replaces the value of a key.
    pub(crate) async fn set(
        &self,
        key: &str,
        policy: &Policy,
        value: Option<V>,
    ) -> Result<(), Error> {
        let name = self.name_of(key);
        self.check_key(key)?;
        let created_ms = self.clock.now_ms();
        let usual = match value {
            Some(_) => policy.ttl,
            None => policy.negative_ttl,
        };
        let soft_ms = created_ms.saturating_add(policy.life_ms(usual, fastrand::f64()));
        let times = Times {
            created_ms,
            soft_ms,
            hard_ms: soft_ms.saturating_add(policy.life_ms(policy.stale, 0.0)),
        };
        let Some(_) = &self.tier.store else {
            self.set_in_memory(key, &name, value, times, &self.tags_of(policy));
            return Ok(());
        };
        let done = self.set_in_tier(&name, policy, value, times).await;
        if done.is_err() {
            // What is there is older than what was asked for.
            let _ = self.invalidate(&[name], &[]).await;
        }
        done
    }

    fn set_in_memory(
        &self,
        key: &str,
        name: &str,
        value: Option<V>,
        times: Times,
        tags: &[String],
    ) {
        let view = &self.tier.view;
        // Voids the loads that are under way.
        view.changed(name);
        let weight = value.as_ref().map_or(0, self.weigh);
        let mut held = Held::new(value.map(Arc::new), view.generations.now(), times);
        held.weight = weight;
        held.tags = cells(tags.iter().map(String::as_str));
        self.memory.keep(key, name, &Arc::new(held), view);
    }

    async fn set_in_tier(
        &self,
        name: &str,
        policy: &Policy,
        value: Option<V>,
        times: Times,
    ) -> Result<(), Error> {
        let life_ms = times.hard_ms.saturating_sub(times.created_ms).max(1);
        let life = Duration::from_millis(life_ms.unsigned_abs());
        let encoded = match &value {
            Some(value) => Some(self.codec.encode(value).map_err(Error::Encode)?),
            None => None,
        };
        let bytes = encoded.as_ref().map_or(0, Vec::len);
        if bytes > self.limits.value_bytes_max {
            let bytes_max = self.limits.value_bytes_max;
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        let tags = self.sample(self.tags_of(policy), life).await?;
        let head = Head {
            stamp: id::new(),
            times,
            cost_us: 0,
            codec: self.codec.id(),
            packing: Packing::Plain,
        };
        let entry = encode(&head, &tags, encoded.as_deref());
        let Some(store) = self.tier.live()? else {
            return Ok(());
        };
        self.tier.view.changed(name);
        let told = store.set(name, entry, life).await;
        self.tier.view.changed(name);
        told
    }

    /// Invalidates entries by name with what depends on them, and tags.
    pub(crate) async fn invalidate(&self, names: &[String], tags: &[String]) -> Result<(), Error> {
        self.figures
            .invalidations
            .many((names.len() + tags.len()) as u64);
        let dependents = names.iter().map(|name| entry_tag(name));
        let tags: Vec<String> = dependents.chain(tags.iter().cloned()).collect();
        self.tell(names, &tags);
        let told = match self.tier.live() {
            Ok(None) => return Ok(()),
            Ok(Some(store)) => store.remove(names, &tags, COUNT_LIFE).await,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            self.figures.tier_errors.one();
            self.tier.repairs.add(names, &tags);
            self.tier.set_behind();
            return Err(error);
        }
        self.tell(names, &tags);
        Ok(())
    }

    /// Invalidates all entries of the cache.
    pub(crate) async fn invalidate_all(&self) -> Result<(), Error> {
        let told = self.invalidate(&[], &[self.version.to_string()]).await;
        self.memory.clear();
        told
    }

    /// Makes a change known in this process.
    fn tell(&self, names: &[String], tags: &[String]) {
        for name in names {
            self.tier.view.changed(name);
        }
        for tag in tags {
            self.tier.view.tag_changed(tag);
        }
    }

    pub(crate) fn check_key(&self, key: &str) -> Result<(), Error> {
        let (bytes, bytes_max) = (key.len(), self.limits.key_bytes_max);
        match bytes > bytes_max {
            true => Err(Error::KeyTooLong { bytes, bytes_max }),
            false => Ok(()),
        }
    }
}
