//! What is known of a phone, a bank account or an e-mail, kept in a cache.
//!
//! An answer is never older than `max_age`, whatever becomes of the workers; before that, a worker
//! that records a value invalidates its bucket ([`ratebox_intake::LookupKind::bucket`]), a tag of
//! all entries in it. Before a load reads the store it says which bucket it is about
//! ([`LookupWatch`]), so a worker that commits later finds the bucket watched: no answer from before
//! a commit outlives the invalidation that follows it.
//!
//! The cache's keys are digests; what it keeps are counts and the names of sources.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use ratebox_cache::{Cache, Early, Limits, Loaded, MemoryLimits, Policy, Stats, Tier};
use ratebox_intake::{LookupKey, LookupKind, Rules};
use ratebox_kit::{Clock, Stopwatch, Tasks, Timestamp, id};
use ratebox_store::{LookupScope, Sightings, Store};
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::problem::ApiError;
use crate::settings::{LookupSettings, WhoseRecords};

/// The name of the cache; the workers invalidate by it.
pub const LOOKUP_CACHE: &str = "lookups";

/// Part of the cache's entries: another one forgets those of older versions.
const FORMAT: &str = "1";

/// The tag of a bucket, on every entry in it.
pub fn lookup_tag(bucket: u16) -> String {
    format!("b{bucket:04x}")
}

/// Tells the workers which buckets somebody looks into.
#[async_trait]
pub trait LookupWatch: Send + Sync {
    /// From now on for some seconds, workers tell of what they record in these buckets. Where that
    /// fails, answers live for their longest age.
    async fn watch(&self, buckets: &[u16]);
}

/// What look-ups need from the server.
#[derive(Clone)]
pub struct LookupDeps {
    /// Where answers are shared between gateways, or nowhere.
    pub tier: Tier,
    /// Who tells the workers; `None` = answers live for their longest age.
    pub watch: Option<Arc<dyn LookupWatch>>,
    /// By which values are read: those of the workers.
    pub rules: Rules,
}

/// What is known of a value, and since when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) seen: u64,
    pub(crate) at_least: bool,
    pub(crate) done: u64,
    pub(crate) error: u64,
    pub(crate) sources: Vec<(String, u64)>,
    pub(crate) other_sources: u64,
    pub(crate) first_at: Option<Timestamp>,
    pub(crate) last_at: Option<Timestamp>,
    /// When the store was asked.
    pub(crate) as_of: Timestamp,
}

impl Known {
    fn of(it: Sightings, as_of: Timestamp) -> Self {
        Self {
            seen: it.seen,
            at_least: it.at_least,
            done: it.done,
            error: it.error,
            sources: it.sources,
            other_sources: it.other_sources,
            first_at: it.first_at,
            last_at: it.last_at,
            as_of,
        }
    }

    /// Bytes in memory, about, where nothing is encoded.
    fn weight(&self) -> u64 {
        let sources = self.sources.iter().map(|(name, _)| name.len() + 32);
        (std::mem::size_of::<Self>() + sources.sum::<usize>()) as u64
    }
}

/// Looks values up.
pub(crate) struct Lookups {
    cache: Cache<str, Known>,
    loader: Arc<Loader>,
    rules: Rules,
    key: hmac::Key,
}

impl Lookups {
    pub(crate) fn new(
        deps: LookupDeps,
        settings: LookupSettings,
        (store, clock): (Store, Clock),
        tasks: &Tasks,
    ) -> Self {
        let builder = Cache::builder(LOOKUP_CACHE, &deps.tier)
            .policy(policy(&settings))
            .limits(limits(&settings))
            .clock(clock.clone())
            .tasks(tasks)
            .weigh(Known::weight);
        let cache = builder.build();
        let key = hmac::Key::new(hmac::HMAC_SHA256, settings.digest_key.reveal().as_bytes());
        Self {
            cache: cache.expect("the name and the limits are of this file"),
            loader: Arc::new(Loader {
                store,
                clock,
                watch: deps.watch,
                settings,
            }),
            rules: deps.rules,
            key,
        }
    }

    /// What the cache counted, and the tier below.
    pub(crate) fn stats(&self) -> (Stats, &Tier) {
        (self.cache.stats(), self.cache.tier())
    }

    /// A value in its normal form; `None` when it cannot be read.
    pub(crate) fn read(&self, kind: LookupKind, text: &str) -> Option<LookupKey> {
        LookupKey::read(kind, text, &self.rules)
    }

    /// What `owner` may know of a value; `None` when nothing is known.
    ///
    /// # Errors
    /// 503 when neither cache nor store answers.
    pub(crate) async fn one(
        &self,
        key: LookupKey,
        owner: &str,
    ) -> Result<Option<Arc<Known>>, ApiError> {
        let name = self.name(&key, owner);
        let (loader, owner) = (Arc::clone(&self.loader), owner.to_owned());
        let load = move || async move { loader.one(&key, &owner).await };
        let known = self.cache.get_or_load(name.as_str(), load).await;
        known.map_err(unavailable)
    }

    /// The same for many values, in order.
    ///
    /// # Errors
    /// As [`Lookups::one`].
    pub(crate) async fn many(
        &self,
        keys: Vec<LookupKey>,
        owner: &str,
    ) -> Result<Vec<Option<Arc<Known>>>, ApiError> {
        let names: Vec<String> = keys.iter().map(|key| self.name(key, owner)).collect();
        let by_name: HashMap<_, _> = names.iter().cloned().zip(keys).collect();
        let by_name = Arc::new(by_name);
        let (loader, owner): (_, Arc<str>) = (Arc::clone(&self.loader), owner.into());
        let load = move |names: Vec<String>| {
            let (loader, owner) = (Arc::clone(&loader), Arc::clone(&owner));
            let by_name = Arc::clone(&by_name);
            async move { loader.many(names, &by_name, &owner).await }
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let known = self.cache.get_many_or_load(&names, load).await;
        known.map_err(unavailable)
    }

    /// The name of a value in the cache, from which the value cannot be read. Owners have entries
    /// of their own unless everybody's records are counted for everybody.
    fn name(&self, key: &LookupKey, owner: &str) -> String {
        let owner = self.loader.settings.whose.owner(owner).unwrap_or_default();
        let mut digest = hmac::Context::with_key(&self.key);
        for part in [FORMAT, owner, key.value()] {
            digest.update(part.as_bytes());
            digest.update(&[0]);
        }
        let digest = id::hex(digest.sign().as_ref());
        format!("{}/{digest}", key.kind().word())
    }
}

/// Reads the store.
struct Loader {
    store: Store,
    clock: Clock,
    watch: Option<Arc<dyn LookupWatch>>,
    settings: LookupSettings,
}

impl Loader {
    async fn one(
        &self,
        key: &LookupKey,
        owner: &str,
    ) -> Result<Loaded<Known>, ratebox_store::Error> {
        let (as_of, watch) = (self.clock.now(), Stopwatch::start());
        self.say(&[key.bucket()]).await;
        let found = self
            .store
            .sightings(key.kind(), key.value(), self.scope(owner))
            .await?;
        Ok(self.keep(found, key, as_of, &watch))
    }

    /// One statement for each kind of value among them.
    async fn many(
        &self,
        names: Vec<String>,
        by_name: &HashMap<String, LookupKey>,
        owner: &str,
    ) -> Result<HashMap<String, Loaded<Known>>, ratebox_store::Error> {
        let (as_of, watch) = (self.clock.now(), Stopwatch::start());
        let wanted: Vec<(String, &LookupKey)> = names
            .into_iter()
            .filter_map(|name| by_name.get(&name).map(|key| (name, key)))
            .collect();
        let buckets: Vec<u16> = wanted.iter().map(|(_, key)| key.bucket()).collect();
        self.say(&buckets).await;
        let mut loaded = HashMap::with_capacity(wanted.len());
        for kind in LookupKind::ALL {
            let of_kind = || wanted.iter().filter(|(_, key)| key.kind() == kind);
            let values: Vec<String> = of_kind().map(|(_, key)| key.value().to_owned()).collect();
            if values.is_empty() {
                continue;
            }
            let found = self
                .store
                .sightings_of_many(kind, values, self.scope(owner))
                .await?;
            for (name, key) in of_kind() {
                let found = found.get(key.value()).cloned();
                loaded.insert(name.clone(), self.keep(found, key, as_of, &watch));
            }
        }
        Ok(loaded)
    }

    async fn say(&self, buckets: &[u16]) {
        if let Some(watch) = &self.watch {
            watch.watch(buckets).await;
        }
    }

    fn scope<'a>(&self, owner: &'a str) -> LookupScope<'a> {
        LookupScope {
            owner: self.settings.whose.owner(owner),
            rows_max: self.settings.rows_max,
        }
    }

    /// The answer with what is left of its life: its age counts from before the store was asked.
    fn keep(
        &self,
        found: Option<Sightings>,
        key: &LookupKey,
        as_of: Timestamp,
        watch: &Stopwatch,
    ) -> Loaded<Known> {
        let known = found.map(|found| Known::of(found, as_of));
        let loaded = Loaded::from(known).tag(lookup_tag(key.bucket()));
        match self.settings.max_age.checked_sub(watch.elapsed()) {
            Some(left) if !left.is_zero() => loaded.ttl(left),
            Some(_) | None => loaded.not_kept(),
        }
    }
}

/// An answer is fresh for its longest age and refreshed behind the reader's back in the second half
/// of it; after that it only stands in for a store that does not answer.
fn policy(settings: &LookupSettings) -> Policy {
    Policy {
        ttl: settings.max_age,
        negative_ttl: settings.max_age,
        stale: settings.stale_on_error,
        jitter: 0.0,
        soft_timeout: Some(settings.store_patience),
        hard_timeout: settings.store_patience.max(Policy::default().hard_timeout),
        early: Early::Share(0.5),
        away_ttl: settings.max_age,
        ..Policy::default()
    }
}

fn limits(settings: &LookupSettings) -> Limits {
    Limits {
        memory: MemoryLimits {
            bytes_max: settings.memory_max_bytes,
            ..MemoryLimits::default()
        },
        loads_max: settings.loads_max.max(1),
        bulk_keys_max: settings.values_max,
        ..Limits::default()
    }
}

fn unavailable(error: ratebox_cache::Error) -> ApiError {
    let detail = "nothing can be looked up just now";
    ApiError::unavailable("lookup.unavailable", detail).caused_by(error)
}

// === impl WhoseRecords ===

impl WhoseRecords {
    /// The owner whose records are counted for a caller; `None` = everybody's.
    fn owner(self, caller: &str) -> Option<&str> {
        match self {
            Self::Own => Some(caller),
            Self::All => None,
        }
    }
}
