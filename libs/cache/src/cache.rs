//! The handle.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use futures_util::FutureExt as _;

use crate::builder::Builder;
use crate::engine::Look;
use crate::engine::{Engine, Load, LoadMany, cause};
use crate::key::{KeyText, Whole};
use crate::loaded::Loaded;
use crate::memory::Glance;
use crate::write_queue::{Applier, Apply, QueuedWrite, WriteOne};
use crate::{Error, Policy, Stats, Tier};

/// Values of one type by keys of one type, under a name of its own. Cheap to clone; clones share
/// everything but the policy.
pub struct Cache<K: ?Sized, V> {
    pub(crate) engine: Arc<Engine<V>>,
    pub(crate) policy: Arc<Policy>,
    /// Which of the values in memory it may answer without a closer look.
    pub(crate) glance: Glance,
    /// How its keys are seen as texts, if they are.
    pub(crate) whole: Option<Whole<K>>,
}

/// What a cache has of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<V> {
    /// A fresh value.
    Value(Arc<V>),
    /// It is known that there is no value.
    Absent,
    /// Nothing fresh.
    Miss,
}

impl<K: ?Sized, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            policy: Arc::clone(&self.policy),
            glance: self.glance,
            whole: self.whole,
        }
    }
}

// === impl Cache ===

impl<K: Display + ?Sized, V: Send + Sync + 'static> Cache<K, V> {
    /// A cache by this name over a tier. The name begins the names of its entries: letters, digits,
    /// `.`, `_` and `-`.
    pub fn builder(name: impl Into<String>, tier: &Tier) -> Builder<K, V>
    where
        K: 'static,
    {
        Builder::new(name.into(), tier.clone())
    }

    /// The same cache under another policy.
    #[must_use]
    pub fn with_policy(&self, policy: Policy) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
            glance: self.engine.memory.glance(policy.early),
            policy: Arc::new(policy),
            whole: self.whole,
        }
    }

    /// The policy of this handle.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The value of a key: from this process' memory, else from the shared tier, else from the
    /// loader, which runs once for all readers of all processes. `None` = there is none.
    ///
    /// The loader runs in a task of its own, so that it ends and fills the cache even when nobody
    /// waits any more. What it brings is kept only if nothing was invalidated since it began.
    ///
    /// # Errors
    /// When the loader fails or takes too long and no older value may stand in. A shared tier that
    /// is away is no reason: the loader is asked, at most [`crate::Limits::loads_max`] at a time.
    pub async fn get_or_load<F, Fut, T, E>(&self, key: &K, load: F) -> Result<Option<Arc<V>>, Error>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let text = KeyText::of(key, self.whole);
        let engine = &self.engine;
        if let Some(value) = engine.fresh(text.as_bytes(), self.glance) {
            engine.hit_by(&text);
            if value.is_none() {
                engine.figures.absent.one();
            }
            return Ok(value);
        }
        let key = text.as_str();
        let value = match engine.look(key, &self.policy) {
            Look::Fresh(value) => {
                engine.hit(key);
                value
            }
            Look::Due(held) => {
                engine.hit(key);
                let name = engine.name_of(key);
                engine.refresh(key, &name, &self.policy, &held, boxed(load));
                held.value.clone()
            }
            Look::Miss(spare) => {
                let held = engine.read(key, &self.policy, spare, boxed(load));
                Box::pin(held).await?.value.clone()
            }
        };
        if value.is_none() {
            engine.figures.absent.one();
        }
        Ok(value)
    }

    /// What the cache has of a key, without a loader.
    ///
    /// # Errors
    /// Never for a tier that is away: that is a miss.
    pub async fn get(&self, key: &K) -> Result<Lookup<V>, Error> {
        let text = KeyText::of(key, self.whole);
        let known = self.engine.get(text.as_str(), &self.policy).await;
        Ok(match known {
            None => Lookup::Miss,
            Some(Some(value)) => Lookup::Value(value),
            Some(None) => Lookup::Absent,
        })
    }

    /// Replaces the value of a key, for all processes. Loads that are under way do not fill over it.
    ///
    /// A [`Loaded`] says what a loader of this key would say of it: its life, tags, and what it depends
    /// on. Tags that are left out do not invalidate it.
    ///
    /// The order of two writers here need not be that of their writes to the origin; where there
    /// are several, use [`Cache::write_through`] or [`Cache::invalidate`].
    ///
    /// # Errors
    /// When the value cannot be kept. What was there is then invalidated.
    pub async fn set(&self, key: &K, value: impl Into<Loaded<V>>) -> Result<(), Error> {
        let text = KeyText::of(key, self.whole);
        let policy = &self.policy;
        self.engine.set(text.as_str(), policy, value.into()).await
    }

    /// Writes to the origin, then to the cache. What the writer answers is the value from now on;
    /// `None` = there is none any more. The write goes on to its end whoever waits for it.
    ///
    /// A [`Loaded`] says what a loader of this key would say of it: its life, tags, and what it depends
    /// on. Tags that are left out do not invalidate it.
    ///
    /// Several writers of one key, in any processes and any order, never leave an older value.
    ///
    /// # Errors
    /// [`Error::Write`] when the writer fails. Trouble with the shared tier is no error: the origin
    /// has the value, and the tier is told when it is back.
    pub async fn write_through<Fut, T, E>(
        &self,
        key: &K,
        write: Fut,
    ) -> Result<Option<Arc<V>>, Error>
    where
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let text = KeyText::of(key, self.whole);
        let write = async move { write.await.map(Into::into).map_err(cause) };
        let engine = &self.engine;
        engine
            .write_through(text.as_str(), &self.policy, write.boxed())
            .await
    }

    /// Gives a write to the queue that the cache was built with; the origin gets it later. Readers
    /// of all processes get it from now on. `None` = the key has no value any more. It goes on to its end
    /// whoever waits for it.
    ///
    /// # Errors
    /// [`Error::Queue`] when the queue did not take it for sure, [`Error::Settings`] without one.
    pub async fn write_behind(&self, key: &K, value: Option<&V>) -> Result<(), Error> {
        let text = KeyText::of(key, self.whole);
        self.engine.write_behind(text.as_str(), value).await
    }

    /// What brings queued writes of this cache to the origin, for whoever runs the queue. The writer
    /// may see a write more than once. What the cache has of a key is invalidated once more when its
    /// write is at the origin.
    pub fn applier<F, Fut, E>(&self, write: F) -> impl Apply + use<K, V, F, Fut, E>
    where
        F: Fn(QueuedWrite, Option<V>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let engine = Arc::clone(&self.engine);
        let write: WriteOne<V> = Box::new(move |queued, value| {
            let written = write(queued, value);
            async move { written.await.map_err(cause) }.boxed()
        });
        Applier { engine, write }
    }

    /// The values of several keys, in order; `None` where there is none. What is not cached is
    /// loaded in one call, which gets the texts of its keys and answers those that have a value;
    /// a key that somebody else loads already is waited for. The call may be repeated for keys
    /// whose load by another process came to nothing. A call that fails begins the pause
    /// ([`Policy::retry_pause`]) of each of its keys.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`]; [`Error::TooManyKeys`] above [`crate::Limits::bulk_keys_max`].
    pub async fn get_many_or_load<F, Fut, T, E>(
        &self,
        keys: &[&K],
        load: F,
    ) -> Result<Vec<Option<Arc<V>>>, Error>
    where
        F: Fn(Vec<String>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<String, T>, E>> + Send + 'static,
        T: Into<Loaded<V>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let texts: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let load: LoadMany<V> = Arc::new(move |keys| {
            let loaded = load(keys);
            let loaded = async move {
                let loaded = loaded.await.map_err(cause)?;
                let into = |(key, value): (String, T)| (key, value.into());
                Ok(loaded.into_iter().map(into).collect())
            };
            loaded.boxed()
        });
        let engine = &self.engine;
        Box::pin(engine.read_many(&texts, &self.policy, &load)).await
    }

    /// Notes that a key has no value.
    ///
    /// # Errors
    /// As [`Cache::set`].
    pub async fn set_absent(&self, key: &K) -> Result<(), Error> {
        let text = KeyText::of(key, self.whole);
        let absent = Loaded::absent();
        self.engine.set(text.as_str(), &self.policy, absent).await
    }

    /// Invalidates a key and everything that depends on it. Once this is answered, no reader of
    /// this process gets what was there, nor one of another process that asks the shared tier;
    /// their own memories follow as fast as the tier tells them.
    ///
    /// Call it after the origin's change was committed. Who stops to wait for it does not take it back:
    /// the tier is told all the same, and as if it had failed this process believes nothing that the
    /// tier holds until then.
    ///
    /// # Errors
    /// When the tier could not be told. It will be, as soon as it is back; until then this process
    /// believes nothing that the tier holds.
    pub async fn invalidate(&self, key: &K) -> Result<(), Error> {
        let text = KeyText::of(key, self.whole);
        let name = self.engine.name_of(text.as_str());
        self.engine.invalidate(&[name], &[]).await
    }

    /// Invalidates whatever carries a tag, in all caches over the tier.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn invalidate_tag(&self, tag: &str) -> Result<(), Error> {
        let tags = [crate::engine::user_tag(tag)];
        self.engine.invalidate(&[], &tags).await
    }

    /// Invalidates whatever carries one of several tags, in one go.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn invalidate_tags(&self, tags: &[String]) -> Result<(), Error> {
        let tags: Vec<String> = tags
            .iter()
            .map(|tag| crate::engine::user_tag(tag))
            .collect();
        self.engine.invalidate(&[], &tags).await
    }

    /// Invalidates every entry of this cache, in one step.
    ///
    /// # Errors
    /// As [`Cache::invalidate`].
    pub async fn invalidate_all(&self) -> Result<(), Error> {
        self.engine.invalidate_all().await
    }

    /// The name of a key's entry, for [`Loaded::depends_on`].
    pub fn name_of(&self, key: &K) -> String {
        self.engine.name_of(KeyText::of(key, self.whole).as_str())
    }

    /// What the cache counted since it was made.
    pub fn stats(&self) -> Stats {
        self.engine.figures.read(self.engine.memory.usage())
    }

    /// The tier below.
    pub fn tier(&self) -> &Tier {
        &self.engine.tier
    }
}

/// The loader without its types, so that all that follows is compiled once for each `V`.
fn boxed<V, F, Fut, T, E>(load: F) -> Load<V>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Into<Loaded<V>>,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Box::new(move || {
        let loaded = async move { load().await.map(Into::into).map_err(cause) };
        loaded.boxed()
    })
}
