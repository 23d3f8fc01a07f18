//! How a cache is made.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use ratebox_kit::{Clock, Tasks};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::codec::{Codec, Json};
use crate::engine::{Complaint, Engine, Filled, Outlook, version_tag};
use crate::entry::NAMED_MAX;
use crate::events::{Event, Listener};
use crate::flight::Flights;
use crate::key::{Whole, whole};
use crate::memory::Memory;
use crate::packing::Packer;
use crate::stats::Figures;
use crate::view::Forget;
use crate::write_queue::WriteQueue;
use crate::{Cache, Compression, Early, Error, Limits, Policy, Tier};

/// Makes a cache.
pub struct Builder<K: ?Sized, V> {
    name: String,
    tier: Tier,
    policy: Policy,
    limits: Limits,
    clock: Clock,
    tasks: Option<Tasks>,
    made_from: Vec<String>,
    weigh: fn(&V) -> u64,
    queue: Option<Arc<dyn WriteQueue>>,
    packer: Packer,
    listener: Option<Listener>,
    whole: Option<Whole<K>>,
}

// === impl Builder ===

impl<K: Display + ?Sized, V: Send + Sync + 'static> Builder<K, V> {
    pub(crate) fn new(name: String, tier: Tier) -> Self
    where
        K: 'static,
    {
        Self {
            name,
            tier,
            policy: Policy::default(),
            limits: Limits::default(),
            clock: Clock::system(),
            tasks: None,
            made_from: Vec::new(),
            weigh: |_| std::mem::size_of::<V>() as u64,
            queue: None,
            packer: Packer::default(),
            listener: None,
            whole: whole(),
        }
    }

    /// How long values live, and how long readers wait.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// What the cache takes at most.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where the time comes from.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Who owns the loads.
    #[must_use]
    pub fn tasks(mut self, tasks: &Tasks) -> Self {
        self.tasks = Some(tasks.clone());
        self
    }

    /// Each value is made from those of the same key in these caches over the tier, by name: it goes
    /// when one of them is invalidated, alone or with its whole cache, and with anything that they
    /// depend on. As [`crate::Loaded::depends_on`] from every loader and writer, but known before the
    /// load, so that the first one is kept however new the dependency is. At most 16, with the tags
    /// of the policy and of the loader.
    #[must_use]
    pub fn made_from(mut self, caches: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.made_from = caches.into_iter().map(Into::into).collect();
        self
    }

    /// What a value weighs in memory, in bytes, where there is no shared tier to encode it for.
    #[must_use]
    pub fn weigh(mut self, weigh: fn(&V) -> u64) -> Self {
        self.weigh = weigh;
        self
    }

    /// Where [`Cache::write_behind`] leaves its writes. Every process that reads the cache needs the
    /// same queue: it is asked before the origin.
    #[must_use]
    pub fn write_queue(mut self, queue: Arc<dyn WriteQueue>) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Values of at least so many bytes, encoded, are made smaller for the shared tier, unless that
    /// would save less than a tenth. What others packed is read whatever is set here, if this
    /// program has the feature.
    #[must_use]
    pub fn compress(mut self, way: Compression, bytes_min: usize) -> Self {
        self.packer = Packer {
            way: Some(way),
            bytes_min,
        };
        self
    }

    /// Hears of what happens, while it happens: it must be quick and must not call the cache.
    #[must_use]
    pub fn listener(mut self, listener: impl Fn(&Event<'_>) + Send + Sync + 'static) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// A cache whose values are kept as JSON in the shared tier.
    ///
    /// # Errors
    /// [`Error::Settings`] with what to change.
    pub fn build(self) -> Result<Cache<K, V>, Error>
    where
        V: Serialize + DeserializeOwned,
    {
        self.build_with(Json)
    }

    /// A cache whose values are kept by a codec of one's own.
    ///
    /// # Errors
    /// [`Error::Settings`] with what to change.
    pub fn build_with(self, codec: impl Codec<V>) -> Result<Cache<K, V>, Error> {
        check(&self.name, &self.policy, &self.limits)?;
        check_sources(&self.name, &self.policy, &self.made_from)?;
        let memory = Arc::new(Memory::new(&self.limits.memory, self.policy.early)?);
        let glance = memory.glance(self.policy.early);
        let told: Arc<dyn Forget> = Arc::clone(&memory) as Arc<dyn Forget>;
        self.tier.view.add(&self.name, Arc::downgrade(&told));
        let engine = Engine {
            version: version_tag(&self.name).into(),
            made_from: self.made_from.into_iter().map(Into::into).collect(),
            figures: Figures::new(&self.name),
            cache: self.name.into(),
            tier: self.tier,
            memory,
            flights: Arc::new(Flights::new()),
            filled: Filled::default(),
            codec: Arc::new(codec),
            weigh: self.weigh,
            packer: self.packer,
            listener: self.listener,
            queue: self.queue,
            permits: Semaphore::new(self.limits.loads_max.min(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            outlook: Outlook::default(),
            complaint: Complaint::default(),
            limits: self.limits,
            clock: self.clock,
            tasks: self.tasks.unwrap_or_default(),
        };
        Ok(Cache {
            engine: Arc::new(engine),
            policy: Arc::new(self.policy),
            glance,
            whole: self.whole,
        })
    }
}

fn wrong(what: &str) -> Result<(), Error> {
    Err(Error::Settings {
        what: what.to_owned(),
    })
}

/// Whether a cache may have this name.
fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    !name.is_empty() && name.len() <= 100 && name.chars().all(plain)
}

fn check_sources(name: &str, policy: &Policy, made_from: &[String]) -> Result<(), Error> {
    if policy.tags.len() + made_from.len() > NAMED_MAX {
        return wrong(
            "a policy names more than 16 tags, with the caches that values are made from",
        );
    }
    match made_from.iter().all(|it| is_name(it) && it != name) {
        true => Ok(()),
        false => wrong("values are made from those of other caches, which are named without a key"),
    }
}

fn check(name: &str, policy: &Policy, limits: &Limits) -> Result<(), Error> {
    if !is_name(name) {
        return wrong(
            "the name of a cache is 1 to 100 letters, digits, dots, dashes and underscores",
        );
    }
    if limits.loads_max == 0 {
        return wrong("at least one load must be allowed at a time");
    }
    if policy.lease.as_millis() < 10 {
        return wrong("a lease of less than 10 ms ends before any load");
    }
    let share = 0.0..=1.0;
    if !share.contains(&policy.jitter) {
        return wrong("jitter is a share of a life, from 0 to 1");
    }
    match policy.early {
        Early::Share(of) if !share.contains(&of) => {
            wrong("an early refresh begins at a share of a life, from 0 to 1")
        }
        Early::Chance(beta) if !(beta.is_finite() && beta >= 0.0) => {
            wrong("the chance of an early refresh is a number from 0 on")
        }
        Early::Never | Early::Share(_) | Early::Chance(_) => Ok(()),
    }
}
