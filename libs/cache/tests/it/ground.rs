//! What tests stand on: an origin with versions, and processes that share a server.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ratebox_cache::{Cache, Error, Limits, MIGRATIONS, OWNER, Policy, Tier, ValkeyTier};
use ratebox_db::{Db, SqliteSettings, migrate};
use ratebox_kit::{Clock, Tasks};
use ratebox_testkit::{RedisServer, TempDir, unique_name, wait_until};
use ratebox_valkey::{Settings, Valkey};

/// Long enough that only a test that hangs reaches it.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A number that the environment may make larger.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|it| it.parse().ok()).unwrap_or(default)
}

/// Rows with versions, which only grow.
#[derive(Clone, Default)]
pub(crate) struct Origin {
    rows: Arc<Mutex<HashMap<String, u64>>>,
    loads: Arc<AtomicU64>,
    running: Arc<AtomicUsize>,
    running_max: Arc<AtomicUsize>,
    fails: Arc<AtomicUsize>,
}

// === impl Origin ===

impl Origin {
    /// Writes the next version of a row.
    pub(crate) fn write(&self, key: &str) -> u64 {
        let mut rows = self.rows.lock().unwrap();
        let version = rows.entry(key.to_owned()).or_default();
        *version += 1;
        *version
    }

    pub(crate) fn version(&self, key: &str) -> u64 {
        self.rows.lock().unwrap().get(key).copied().unwrap_or(0)
    }

    /// Reads a row, then takes its time to answer: what changes meanwhile is not in the answer.
    pub(crate) async fn read(&self, key: &str, takes: Duration) -> Result<u64, io::Error> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.running_max.fetch_max(running, Ordering::SeqCst);
        let version = self.version(key);
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        self.running.fetch_sub(1, Ordering::SeqCst);
        match self.fails.load(Ordering::SeqCst) {
            0 => Ok(version),
            _ => Err(io::Error::other("the origin is down")),
        }
    }

    pub(crate) fn fail(&self, fails: bool) {
        self.fails.store(usize::from(fails), Ordering::SeqCst);
    }

    pub(crate) fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }

    /// Most loads that ran at once.
    pub(crate) fn running_max(&self) -> usize {
        self.running_max.load(Ordering::SeqCst)
    }
}

/// One process of several: a tier of its own, a cache over it, and an origin that all share.
pub(crate) struct Node {
    pub(crate) tier: Tier,
    pub(crate) cache: Cache<str, u64>,
    pub(crate) origin: Origin,
    pub(crate) tasks: Tasks,
}

// === impl Node ===

impl Node {
    pub(crate) fn over(tier: Tier, tasks: Tasks, policy: Policy, origin: &Origin) -> Self {
        Self::with(tier, tasks, policy, Limits::default(), origin)
    }

    pub(crate) fn with(
        tier: Tier,
        tasks: Tasks,
        policy: Policy,
        limits: Limits,
        origin: &Origin,
    ) -> Self {
        let builder = Cache::builder("rows", &tier).policy(policy).limits(limits);
        let cache = builder.tasks(&tasks).build().unwrap();
        Self {
            tier,
            cache,
            origin: origin.clone(),
            tasks,
        }
    }

    /// Over no tier, or one in memory.
    pub(crate) fn alone(tier: Tier, policy: Policy) -> Self {
        Self::over(tier, Tasks::new(), policy, &Origin::default())
    }

    /// Reads through the cache; the origin takes its time.
    pub(crate) async fn read(&self, key: &str, takes: Duration) -> Result<u64, Error> {
        let (origin, row) = (self.origin.clone(), key.to_owned());
        let load = move || async move { origin.read(&row, takes).await };
        let value = self.cache.get_or_load(key, load).await?;
        Ok(*value.unwrap())
    }

    /// Writes to the origin, then invalidates.
    pub(crate) async fn write(&self, key: &str) -> Result<u64, Error> {
        let version = self.origin.write(key);
        self.cache.invalidate(key).await?;
        Ok(version)
    }
}

/// Processes over one key prefix of one server.
pub(crate) struct Place {
    url: String,
    prefix: String,
    timeout: Duration,
}

// === impl Place ===

impl Place {
    /// A prefix of its own on the Redis that tests share. It is never away: who waits long for it is on a
    /// machine that stands still.
    pub(crate) fn shared() -> Self {
        Self::waiting(RedisServer::shared().unwrap().url(), SOON)
    }

    pub(crate) fn shared_valkey() -> Self {
        Self::waiting(RedisServer::shared_valkey().unwrap().url(), SOON)
    }

    /// On a server that will be away.
    pub(crate) fn at(url: &str) -> Self {
        Self::waiting(url, Duration::from_millis(500))
    }

    fn waiting(url: &str, timeout: Duration) -> Self {
        Self {
            url: url.to_owned(),
            prefix: format!("{}:", unique_name("cache")),
            timeout,
        }
    }

    /// The same keys by another way.
    pub(crate) fn by(&self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            prefix: self.prefix.clone(),
            timeout: self.timeout,
        }
    }

    pub(crate) fn key(&self, rest: &str) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// A tier that may not be in touch with the server yet.
    pub(crate) fn lazy_tier(&self, tasks: &Tasks) -> Tier {
        let settings = Settings {
            connect_timeout: Duration::from_secs(1),
            ..Settings::new(self.url.as_str())
        };
        let valkey = Valkey::lazy(&settings).unwrap();
        let settings = ValkeyTier {
            prefix: self.prefix.clone(),
            timeout: self.timeout,
            heartbeat: Duration::from_millis(200),
            replica: None,
        };
        Tier::valkey(&valkey, &settings, tasks).unwrap()
    }

    /// A process that hears.
    pub(crate) async fn node(&self, policy: Policy, origin: &Origin) -> Node {
        let tasks = Tasks::new();
        let tier = self.lazy_tier(&tasks);
        wait_until(SOON, "the tier hears", || async { tier.is_watching() }).await;
        Node::over(tier, tasks, policy, origin)
    }
}

/// A tier of every kind with its name and its tasks, and the folder in which one of them lies.
pub(crate) async fn all_tiers(clock: &Clock) -> (Vec<(&'static str, Tier, Tasks)>, TempDir) {
    let mut tiers = vec![
        ("none", Tier::none(), Tasks::new()),
        ("memory", Tier::memory(1 << 20), Tasks::new()),
    ];
    let (folder, tasks) = (TempDir::new().unwrap(), Tasks::new());
    let db = Db::sqlite(&SqliteSettings::new(folder.join("cache.db"))).unwrap();
    migrate(&db, OWNER, MIGRATIONS).await.unwrap();
    let in_file = Tier::sqlite(db, 1_000, clock.clone(), &tasks).unwrap();
    tiers.push(("sqlite", in_file, tasks));
    for (name, place) in [
        ("redis", Place::shared()),
        ("valkey", Place::shared_valkey()),
    ] {
        let tasks = Tasks::new();
        let tier = place.lazy_tier(&tasks);
        wait_until(SOON, "the tier hears", || async { tier.is_watching() }).await;
        tiers.push((name, tier, tasks));
    }
    (tiers, folder)
}

/// Lets the other tasks of this thread run until each of them waits for something.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A policy without chance.
pub(crate) fn steady(ttl: Duration) -> Policy {
    Policy {
        jitter: 0.0,
        stale: Duration::ZERO,
        ..Policy::ttl(ttl)
    }
}

/// A clock that stands.
pub(crate) fn still() -> Clock {
    let start = ratebox_kit::Timestamp::from_second(1_800_000_000).unwrap();
    Clock::manual(start)
}
