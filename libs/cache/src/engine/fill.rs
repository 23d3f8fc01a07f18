//! What a loader brought on its way into the shared tier and into memory.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::cells;
use super::load::{Brought, Rest};
use super::tags::{self, Named};
use crate::Error;
use crate::entry::Tagged;
use crate::events::Event;
use crate::held::Held;
use crate::loaded::Loaded;

/// What is left to do before a value is kept.
enum Ready {
    /// Fill the shared tier with it.
    Entry(Bytes, Uuid),
    Nothing,
    /// Something changed since the load began.
    Outrun,
}

// === impl Rest ===

impl<V: Send + Sync + 'static> Rest<V> {
    /// Keeps what was brought wherever it may be kept, and makes the answer of it. `tell` gets the
    /// answer while a server is filled, if nobody is to wait for that.
    pub(super) async fn keep(
        &self,
        brought: Brought<V>,
        token: Option<Uuid>,
        tell: impl FnOnce(&Arc<Held<V>>),
    ) -> Arc<Held<V>> {
        let Brought {
            mut loaded,
            at,
            tags,
            took,
        } = brought;
        let engine = &self.engine;
        let times = loaded.times(&self.policy, engine.clock.now_ms());
        let value = loaded.value.take().map(Arc::new);
        let mut held = Held::new(value, at, times);
        held.cost_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        held.trusted_ms = engine.trusted_ms();
        let remembered = held.value.is_some() || !self.policy.negative_ttl.is_zero();
        let (bytes, bytes_max) = (self.key.len(), engine.limits.key_bytes_max);
        if !(loaded.kept && remembered && bytes <= bytes_max) {
            if loaded.kept && remembered {
                engine.complain(&Error::KeyTooLong { bytes, bytes_max });
            }
            self.give_back(token).await;
            return Arc::new(held);
        }
        let ready = self.make_ready(&mut held, &loaded, tags, token).await;
        let held = Arc::new(held);
        let filled = match ready {
            Ok(Ready::Entry(entry, token)) => self.fill(&held, entry, token, tell).await,
            Ok(Ready::Nothing) => Ok(true),
            Ok(Ready::Outrun) => Ok(false),
            Err(error) => Err(error),
        };
        self.note(&held, token, filled).await;
        held
    }

    /// Keeps in memory what was filled; gives the right back to what was not.
    async fn note(&self, held: &Arc<Held<V>>, token: Option<Uuid>, filled: Result<bool, Error>) {
        let engine = &self.engine;
        match filled.map(|filled| filled && self.remember(held, token)) {
            Ok(true) => {
                engine.figures.fills.one();
                engine.event(|| Event::Kept {
                    key: &self.key,
                    bytes: held.weight,
                });
                return;
            }
            Ok(false) => {
                engine.figures.fills_refused.one();
                engine.event(|| Event::Outrun { key: &self.key });
            }
            Err(error) => {
                engine.figures.fills_failed.one();
                engine.complain(&error);
                tracing::debug!(cache.name = %engine.cache, error = %error, "a value was not kept");
            }
        }
        self.give_back(token).await;
    }

    /// Keeps a value in memory; false when it is kept nowhere, as something changed since its load
    /// began.
    fn remember(&self, held: &Arc<Held<V>>, token: Option<Uuid>) -> bool {
        let engine = &self.engine;
        if token.is_some() && engine.confirm_later(self, held) {
            return true;
        }
        let memory = &engine.memory;
        let kept = memory.keep(&self.key, &self.name, held, &engine.tier.view);
        kept || engine.tier.store.is_some()
    }

    /// Makes a value ready for where it will be kept.
    async fn make_ready(
        &self,
        held: &mut Held<V>,
        loaded: &Loaded<V>,
        tags: Result<Vec<Tagged>, Error>,
        token: Option<Uuid>,
    ) -> Result<Ready, Error> {
        let engine = &self.engine;
        let encoded = match &held.value {
            Some(value) if engine.tier.store.is_some() => {
                Some(engine.codec.encode(value).map_err(Error::Encode)?)
            }
            _ => None,
        };
        let bytes = encoded.as_ref().map_or(0, Vec::len);
        held.weight = match (&encoded, &held.value) {
            (None, Some(value)) => (engine.weigh)(value),
            _ => bytes as u64,
        };
        if bytes > engine.limits.value_bytes_max {
            let bytes_max = engine.limits.value_bytes_max;
            return Err(Error::TooLarge { bytes, bytes_max });
        }
        let named = engine.named(&self.policy, loaded, &self.name)?;
        let store = match engine.tier.live() {
            Ok(store) => store,
            Err(Error::Away) if !self.policy.away_ttl.is_zero() => {
                self.make_stopgap(held, &named);
                return Ok(Ready::Nothing);
            }
            Err(error) => return Err(error),
        };
        let (mut tags, life) = (tags?, held.times.life());
        let add_late = engine.add_late(&mut tags, &named, held.at, life);
        if !add_late.await? {
            return Ok(Ready::Outrun);
        }
        held.tags = cells(tags.iter().map(|tagged| &*tagged.tag));
        if store.is_none() {
            // A tier would have told the tags of what it depends on.
            held.tags = engine.tier.view.inherit(&held.tags, &named.depends_on);
            tags::check_all(held.tags.iter().count())?;
        }
        match (store, token) {
            (Some(_), Some(token)) => {
                held.stamp = token;
                let value = encoded.as_deref();
                let entry = engine.entry(token, held.times, held.cost_us, &tags, value);
                Ok(Ready::Entry(entry, token))
            }
            // The tier failed when the right was asked for.
            (Some(_), None) => Err(Error::Away),
            (None, _) => Ok(Ready::Nothing),
        }
    }

    /// Fills the shared tier; false when something changed since the load began.
    async fn fill(
        &self,
        held: &Arc<Held<V>>,
        entry: Bytes,
        token: Uuid,
        tell: impl FnOnce(&Arc<Held<V>>),
    ) -> Result<bool, Error> {
        let engine = &self.engine;
        let Some(store) = engine.tier.live()? else {
            return Ok(true);
        };
        if self.policy.fill_behind && engine.tier.is_far() {
            // Who asks again before it has arrived finds the right to fill taken, and waits for it.
            tell(held);
        }
        let filled = store.fill(&self.name, token, entry, held.times.life());
        filled.await.inspect_err(|_| engine.tier_failed())
    }

    /// For as long as the tier is away, and a moment only. What changes in this process meanwhile is
    /// known of tags as well as of keys.
    fn make_stopgap(&self, held: &mut Held<V>, named: &Named) {
        let engine = &self.engine;
        let mut tags = engine.tags_of(&self.policy, &self.name);
        named.add_to(&mut tags);
        held.tags = cells(tags.iter().map(|tag| &**tag));
        let end = engine.in_ms(self.policy.away_ttl);
        held.is_stopgap = true;
        held.times.soft_ms = held.times.soft_ms.min(end);
        held.times.hard_ms = held.times.soft_ms;
    }
}
