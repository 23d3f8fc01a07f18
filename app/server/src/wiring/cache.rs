//! The parts of the cache service: its server or this process, its resources, its queue of writes.

mod queue;
mod resources;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::FutureExt as _;
use ratebox_cache::{Limiter, LockSettings, Locks, Tier, ValkeyTier, WhenAway};
use ratebox_cache::{Limits, MemoryLimits};
use ratebox_db::{Db, PostgresSettings, SqliteSettings};
use ratebox_kit::{Clock, Quota, Secret, Tasks};
use ratebox_origin::{Deps, Probe, Service, Settings};
use ratebox_store::Store;
use ratebox_valkey::{
    Login, PORT, SENTINEL_PORT, Sentinels, Settings as ValkeySettings, Tls, Topology, Valkey,
};

use self::queue::Writes;
use super::connection::{addresses, pem};
use crate::config::{CacheAuth, CacheConfig, Config};

/// The embedded queue of writes, in the data folder.
pub(super) const WRITES_FILE: &str = "writes.db";
/// The embedded database of the resources, in the data folder.
pub(super) const ORIGIN_FILE: &str = "origin.db";
/// Bytes of the shared tier when there is no server.
const EMBEDDED_TIER_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Loads of a resource that wait together; what reaches an origin at once is another limit.
const LOADS_MAX: usize = 2_000;

/// The cache service with all that it stands on.
pub struct CacheParts {
    /// The service.
    pub service: Service,
    /// Where the values are, for people.
    pub values: String,
    /// Where writes wait that their origin does not have yet, for people.
    pub writes: String,
}

/// Makes the service and starts what runs beside it.
///
/// # Errors
/// When a setting cannot work, or the database of the resources cannot be reached.
pub async fn connect(
    config: &Config,
    store: &Store,
    metrics: Arc<dyn Fn() -> String + Send + Sync>,
    tasks: &Tasks,
) -> Result<CacheParts> {
    let (cache, clock) = (&config.cache, Clock::system());
    let valkey = valkey(cache)?;
    let tier = tier(cache, valkey.as_ref(), tasks)?;
    let writes = queue::open(config, valkey.as_ref(), &tier).await?;
    let service = Service::new(Deps {
        resources: resources::declared(config, &clock).await?,
        tier,
        limiter: limiter(cache, valkey.as_ref(), &clock),
        locks: locks(cache, valkey.as_ref(), &clock, tasks),
        queue: Some(Arc::new(writes.clone())),
        folder: folder(config, valkey.as_ref()),
        tokens: tokens(config, store),
        metrics: Some(metrics),
        clock: clock.clone(),
        tasks: tasks.clone(),
        settings: settings(cache)?,
    })?;
    service.tell_left().await;
    watch_reader(reader(cache)?, tasks);
    apply(&writes, &service, store, &clock, tasks)?;
    let values = match &valkey {
        Some(valkey) => valkey.to_string(),
        None => "this process".to_owned(),
    };
    Ok(CacheParts {
        service,
        values,
        writes: writes.place,
    })
}

/// Whether the addresses of the cache service and its files can be read; nobody is asked anything.
///
/// # Errors
/// What cannot be read.
pub fn check(config: &Config) -> Result<()> {
    valkey(&config.cache)?;
    reader(&config.cache)?;
    if let Some(dsn) = config.cache.origin()? {
        Db::postgres(&config.store.postgres(dsn)).context("cache.origin_url")?;
    }
    Ok(())
}

fn apply(
    writes: &Writes,
    service: &Service,
    store: &Store,
    clock: &Clock,
    tasks: &Tasks,
) -> Result<()> {
    let letters = Arc::new(store.clone());
    queue::apply(writes, service.clone(), letters, clock.clone(), tasks)
}

/// Where it is noted that others were not told of a change; values in this process end with it.
fn folder(config: &Config, valkey: Option<&Valkey>) -> Option<PathBuf> {
    valkey?;
    // With a server and PostgreSQL nothing else needs the folder, so it is no reason not to start.
    let folder = super::in_data_dir(config, "");
    let told = "a change that others were not told of is forgotten when this process ends";
    let folder = folder.inspect_err(|error| tracing::warn!("{told}: {error:#}"));
    folder.ok()
}

/// Whether the store finds a token, or that there is none: without it most callers are refused.
fn tokens(config: &Config, store: &Store) -> Option<Probe> {
    let store = store.clone();
    let probe: Probe = Arc::new(move || {
        let store = store.clone();
        async move { store.token("none").await.is_ok() }.boxed()
    });
    (config.cache.auth == CacheAuth::Token).then_some(probe)
}

fn settings(cache: &CacheConfig) -> Result<Settings> {
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    anyhow::ensure!(
        !cache.version.is_empty() && cache.version.chars().all(plain),
        "cache.version has letters, digits, dots, dashes and underscores only"
    );
    Ok(Settings {
        version: cache.version.clone(),
        jitter: cache.jitter,
        negative_ttl: Duration::from_secs(cache.negative_ttl_s),
        swr_lease: Duration::from_secs(cache.swr_lock_s),
        lease: Duration::from_secs(cache.rebuild_lock_s),
        limits: Limits {
            memory: MemoryLimits {
                bytes_max: cache.memory_max_bytes,
                ..MemoryLimits::default()
            },
            loads_max: LOADS_MAX,
            ..Limits::default()
        },
        identity_header: cache.identity_header.to_lowercase(),
    })
}

fn tier(cache: &CacheConfig, valkey: Option<&Valkey>, tasks: &Tasks) -> Result<Tier> {
    let Some(valkey) = valkey else {
        return Ok(Tier::memory(EMBEDDED_TIER_MAX_BYTES));
    };
    let settings = ValkeyTier {
        prefix: cache.prefix.clone(),
        timeout: Duration::from_millis(cache.away_after_ms),
        replica: reader(cache)?,
        ..ValkeyTier::default()
    };
    Tier::valkey(valkey, &settings, tasks).context("cache.prefix")
}

fn limiter(cache: &CacheConfig, valkey: Option<&Valkey>, clock: &Clock) -> Limiter {
    let quota = Quota {
        burst: cache.rate_burst,
        window: Duration::from_secs(cache.rate_window_s),
    };
    match valkey {
        Some(valkey) => {
            let prefix = format!("{}rate:", cache.prefix);
            Limiter::shared(
                valkey.separate(),
                prefix,
                quota,
                WhenAway::Local,
                clock.clone(),
            )
        }
        None => Limiter::local(quota, clock.clone()),
    }
}

fn locks(cache: &CacheConfig, valkey: Option<&Valkey>, clock: &Clock, tasks: &Tasks) -> Locks {
    match valkey {
        Some(valkey) => Locks::shared(
            valkey.separate(),
            format!("{}lock:", cache.prefix),
            LockSettings::default(),
            clock.clone(),
            tasks.clone(),
        ),
        None => Locks::local(clock.clone()),
    }
}

/// The server that takes writes; nothing is dialled yet, so it may be away.
pub(super) fn valkey(cache: &CacheConfig) -> Result<Option<Valkey>> {
    let Some(url) = cache.address()? else {
        return Ok(None);
    };
    let valkey = Valkey::lazy(&connection(cache, &url, topology(cache)?)?);
    Ok(Some(valkey.context("the address of the cache")?))
}

fn connection(cache: &CacheConfig, url: &Secret, topology: Topology) -> Result<ValkeySettings> {
    Ok(ValkeySettings {
        login: Login {
            user: cache.user.clone(),
            password: cache.password()?,
        },
        tls: Tls {
            ca: pem("cache.tls_ca_file", &cache.tls_ca_file)?,
            client: None,
            server_name: Some(cache.tls_server_name.clone()).filter(|name| !name.is_empty()),
        },
        topology,
        connect_timeout: Duration::from_millis(cache.connect_timeout_ms),
        response_timeout: Duration::from_millis(cache.response_timeout_ms),
        ..ValkeySettings::new(url.reveal())
    })
}

fn topology(cache: &CacheConfig) -> Result<Topology> {
    if cache.cluster {
        return Ok(Topology::Cluster(addresses("cache.url", &[], PORT)?));
    }
    if cache.sentinels.is_empty() {
        return Ok(Topology::Single);
    }
    Ok(Topology::Sentinel(Sentinels {
        primary: cache.sentinel_primary.clone(),
        addresses: addresses("cache.sentinels", &cache.sentinels, SENTINEL_PORT)?,
        login: Login {
            user: cache.sentinel_user.clone(),
            password: cache.sentinel_password()?,
        },
    }))
}

/// A replica: it serves what it is known to have. Nothing is dialled yet.
fn reader(cache: &CacheConfig) -> Result<Option<Valkey>> {
    let Some(url) = cache.reader_address() else {
        return Ok(None);
    };
    let valkey = Valkey::lazy(&connection(cache, &url, Topology::Single)?);
    Ok(Some(valkey.context("cache.reader")?))
}

/// Shows operators when the replica is gone.
fn watch_reader(reader: Option<Valkey>, tasks: &Tasks) {
    let Some(valkey) = reader else {
        return;
    };
    let shutdown = tasks.shutdown();
    tasks.spawn("cache reader", async move {
        loop {
            let up = valkey.ping().await.is_ok();
            metrics::gauge!("ratebox_cache_reader_up").set(f64::from(u8::from(up)));
            if !shutdown.sleep(Duration::from_secs(5)).await {
                return;
            }
        }
    });
}

/// The database of the resources. Tables of others are found where PostgreSQL puts them unless told otherwise;
/// those of the shipped example are in the product's schema.
fn origin(config: &Config) -> Result<Db> {
    let is_example = config.cache.resources_file.is_empty();
    let opened = match config.cache.origin()? {
        Some(dsn) if is_example => Db::postgres(&config.store.postgres(dsn)),
        Some(dsn) => Db::postgres(&PostgresSettings {
            schema: "public".to_owned(),
            ..config.store.postgres(dsn)
        }),
        None => Db::sqlite(&SqliteSettings::new(super::in_data_dir(
            config,
            ORIGIN_FILE,
        )?)),
    };
    opened.context("the database of the cache's resources cannot be opened")
}
