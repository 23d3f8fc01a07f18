//! Joins the parts: the only place that names concrete backends.

pub mod cache;
pub mod imports;
pub mod jwt;
pub mod operator;
pub mod saga;

mod connection;
mod keys;
mod lookups;
mod patience;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ratebox_cache::Limiter;
use ratebox_db::{Db, Leases, Migration, SqliteSettings, Unknown};
use ratebox_gateway::IdempotencyKeys;
use ratebox_kit::{Clock, Secret, Tasks};
use ratebox_outbox::{Broker, Outbox};
use ratebox_store::Store;
use ratebox_stream::{
    Admin, Backlogs, ConsumerName, Dispatcher, GroupName, Limits, Log, RedisLog, Rooms, SqliteLog,
    Subscription,
};
use ratebox_valkey::{Ability, ServerInfo, Valkey};
use tokio::sync::Notify;

pub use self::lookups::Lookups;
use crate::broker::{self, StreamBroker};
use crate::config::Config;
use crate::readiness::Readiness;

pub use patience::Patience;

/// The embedded bus, in the data folder.
const BUS_FILE: &str = "bus.db";
/// The embedded store, in the data folder.
const STORE_FILE: &str = "ratebox.db";

/// What every role is made of. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// The settings.
    pub config: Arc<Config>,
    /// The machine's clock.
    pub clock: Clock,
    /// Owns the background tasks.
    pub tasks: Tasks,
    /// Whether the process is up, for whoever asks from outside.
    pub readiness: Readiness,
    /// What is remembered.
    pub store: Store,
    /// The bus.
    pub log: Arc<dyn Log>,
    /// The operator's side of the bus.
    pub admin: Arc<dyn Admin>,
    /// What goes beyond a log: limits, rooms, backlogs.
    pub sides: Sides,
    /// Where the outbox's events go.
    pub broker: Arc<dyn Broker>,
    /// Which bus it is.
    pub bus: Bus,
    /// This process as a member of the workers' group.
    pub subscription: Subscription,
    /// The cache of look-ups, once a role has asked for it.
    lookups: Arc<OnceLock<Lookups>>,
    /// Told by the gateway of this process that an import was taken.
    pub imports: Arc<Notify>,
}

/// What the bus does beyond a log.
#[derive(Clone)]
pub struct Sides {
    /// Limits over all workers.
    pub limits: Arc<dyn Limits>,
    /// Rooms in which owners wait.
    pub rooms: Arc<dyn Rooms>,
    /// What the workers are behind by.
    pub backlogs: Arc<dyn Backlogs>,
    /// Orders of operators.
    pub dispatcher: Arc<dyn Dispatcher>,
}

impl Sides {
    fn of<L: Limits + Rooms + Backlogs + Dispatcher + 'static>(log: &Arc<L>) -> Self {
        Self {
            limits: log.clone(),
            rooms: log.clone(),
            backlogs: log.clone(),
            dispatcher: log.clone(),
        }
    }
}

/// Log, operator's side, and what goes beyond.
type Opened = (Arc<dyn Log>, Arc<dyn Admin>, Sides, Bus);

/// Which bus runs.
#[derive(Clone)]
pub enum Bus {
    /// SQLite in this process.
    Embedded,
    /// A server.
    Server {
        /// Its connection.
        valkey: Valkey,
        /// What it says of itself.
        info: ServerInfo,
    },
}

/// Connects everything that the settings name, waiting for a bus that is away.
///
/// # Errors
/// When the bus would lose data by its settings, refuses us, or stays away for too long.
pub async fn connect(
    config: Config,
    tasks: Tasks,
    readiness: Readiness,
    patience: &Patience,
) -> Result<Parts> {
    let clock = Clock::system();
    let store = Store::new(database(&config)?, clock.clone());
    let reach = async || bus(&config).await;
    let (log, admin, sides, bus) = patience.until("the bus", reach).await?;
    let subscription = Subscription::new(
        config.bus.lanes(),
        GroupName::new(&config.bus.group),
        ConsumerName::unique(&config.bus.consumer),
    );
    let broker = broker::with_others(
        own_broker(&config, log.clone(), &sides, &subscription),
        &config.brokers,
    )?;
    let config = Arc::new(config);
    Ok(Parts {
        config,
        clock,
        tasks,
        readiness,
        store,
        log,
        admin,
        sides,
        broker,
        bus,
        subscription,
        lookups: Arc::default(),
        imports: Arc::default(),
    })
}

impl Parts {
    /// An outbox; one a role is enough.
    pub fn outbox(&self) -> Outbox {
        let settings = self.config.outbox.settings(&self.config.bus);
        Outbox::new(
            self.store.db().clone(),
            self.broker.clone(),
            settings,
            &self.tasks,
        )
    }

    /// Where the stream mode keeps idempotency keys.
    pub fn keys(&self) -> Arc<dyn IdempotencyKeys> {
        match &self.bus {
            Bus::Embedded => Arc::new(keys::StoreKeys(self.store.clone())),
            Bus::Server { valkey, .. } => Arc::new(keys::ValkeyKeys(valkey.clone())),
        }
    }

    /// The cache of look-ups, one for all roles of the process.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn lookups(&self) -> Result<Lookups> {
        if let Some(there) = self.lookups.get() {
            return Ok(there.clone());
        }
        let made = Lookups::new(self)?;
        Ok(self.lookups.get_or_init(|| made).clone())
    }

    /// The limiter that all gateways share; `None` = each counts for itself.
    ///
    /// # Errors
    /// When there is no server to count on.
    pub fn limiter(&self) -> Result<Option<Limiter>> {
        lookups::limiter(self)
    }

    /// The log of the gateway: where requests are accepted on the bus, it may wait for its disk.
    ///
    /// # Errors
    /// When it is to wait and the bus cannot tell when its disk has something.
    pub async fn accept_log(&self) -> Result<Arc<dyn Log>> {
        let wait_ms = self.config.gateway.accept_disk_wait_ms;
        let Bus::Server { valkey, info } = &self.bus else {
            return Ok(self.log.clone());
        };
        if wait_ms == 0 {
            return Ok(self.log.clone());
        }
        let can_wait = info.aof_enabled && valkey.has(Ability::WaitAof).await;
        ensure!(
            can_wait,
            "gateway.accept_disk_wait_ms needs a bus with an append-only file and WAITAOF (from Redis \
             or Valkey 7.2 on), and a user who may run COMMAND; set it to 0"
        );
        let log = RedisLog::new(valkey.separate());
        Ok(Arc::new(log.on_disk(Duration::from_millis(wait_ms))?))
    }

    /// Where the records are, for people.
    pub fn places(&self) -> String {
        let dir = self.config.server.data_dir.display();
        let bus = match &self.bus {
            Bus::Embedded => format!("SQLite in {dir}/bus.db"),
            Bus::Server { info, .. } => format!("{:?} {}", info.flavour, info.version),
        };
        let store = match self.store.db().dialect() {
            ratebox_db::Dialect::Postgres => "PostgreSQL".to_owned(),
            ratebox_db::Dialect::Sqlite => format!("SQLite in {dir}/ratebox.db"),
        };
        format!("bus: {bus}; store: {store}")
    }
}

/// The broker over our own bus.
fn own_broker(
    config: &Config,
    log: Arc<dyn Log>,
    sides: &Sides,
    subscription: &Subscription,
) -> StreamBroker {
    let bus = &config.bus;
    let mut bounded = vec![
        bus.extension_responses.clone(),
        bus.importer_responses.clone(),
    ];
    bounded.extend(bus.answer_streams_allowed.clone());
    let keep = bus.answers_max;
    let broker = StreamBroker::new(log, bounded.into_iter().map(|it| (it, keep)));
    if bus.fair {
        broker.fair(sides.rooms.clone(), subscription.clone())
    } else {
        broker
    }
}

/// The store alone, for commands that need no bus.
///
/// # Errors
/// When it cannot be opened or reached.
pub async fn store(config: &Config) -> Result<Store> {
    let store = Store::new(database(config)?, Clock::system());
    store
        .db()
        .ping()
        .await
        .context("the store cannot be reached")?;
    let usable = ratebox_db::check_schema(store.db()).await;
    usable.context("the store cannot be used")?;
    Ok(store)
}

/// Whose tables there are, in the order in which they are made.
pub const OWNERS: [(&str, &[Migration]); 4] = [
    (Leases::OWNER, Leases::MIGRATIONS),
    (ratebox_outbox::OWNER, ratebox_outbox::MIGRATIONS),
    (ratebox_saga::OWNER, ratebox_saga::MIGRATIONS),
    (ratebox_store::OWNER, ratebox_store::MIGRATIONS),
];

/// Brings all tables up to date: leases, outbox, sagas, store. Returns the versions that were applied
/// now, by owner.
///
/// # Errors
/// When a migration fails; what was applied before stays.
pub async fn migrate(store: &Store) -> Result<Vec<(&'static str, Vec<i64>)>> {
    let mut applied = Vec::with_capacity(OWNERS.len());
    for (owner, migrations) in OWNERS {
        let versions = ratebox_db::migrate(store.db(), owner, migrations)
            .await
            .with_context(|| format!("migrating the tables of {owner}"))?;
        applied.push((owner, versions));
    }
    // Only the partitions are left for the store to do.
    store.migrate().await.context("making the partitions")?;
    Ok(applied)
}

/// Makes sure that all tables are there, as this version needs them, and changes nothing.
///
/// # Errors
/// When the store cannot be reached, or a migration is missing.
pub async fn migrated(store: &Store) -> Result<()> {
    for (owner, migrations) in OWNERS {
        let there = match ratebox_db::applied(store.db(), owner).await {
            // Never migrated: there is not even the table of migrations.
            Err(error) if operator::lacks_tables_in(&error) => Vec::new(),
            there => there.context("the store cannot be reached")?,
        };
        let is_there = |it: &Migration| there.contains(&it.version);
        ensure!(
            migrations.iter().all(is_there),
            "{} (store.migrate_at_start is false)",
            operator::LACKS_TABLES
        );
    }
    Ok(())
}

/// Migrations of our tables that this program does not know: a newer release has been here. Tables
/// that were never made are not newer.
///
/// # Errors
/// When the store cannot be reached.
pub async fn newer(store: &Store) -> Result<Vec<Unknown>> {
    let mut newer = Vec::new();
    for (owner, migrations) in OWNERS {
        let unknown = match ratebox_db::unknown(store.db(), owner, migrations).await {
            Err(error) if operator::lacks_tables_in(&error) => Vec::new(),
            unknown => unknown.context("the store cannot be reached")?,
        };
        newer.extend(unknown);
    }
    Ok(newer)
}

/// Such migrations in one line, for people.
pub fn listed(newer: &[Unknown]) -> String {
    let names: Vec<String> = newer.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Whether the addresses of servers and the files that belong to them can be read; nobody is asked
/// anything.
///
/// # Errors
/// What cannot be read.
pub fn check(config: &Config) -> Result<()> {
    if let Some(dsn) = config.store.dsn()? {
        Db::postgres(&config.store.postgres(dsn)).context("store.url")?;
    }
    if let Some(url) = config.bus.address()? {
        Valkey::lazy(&connection::settings(config, &url)?).context("bus.url")?;
    }
    broker::check(&config.brokers)?;
    saga::check(config)?;
    cache::check(config)
}

fn database(config: &Config) -> Result<Db> {
    let opened = match config.store.dsn()? {
        Some(dsn) => Db::postgres(&config.store.postgres(dsn)),
        None => Db::sqlite(&config.store.sqlite(&in_data_dir(config, STORE_FILE)?)),
    };
    opened.context("the store cannot be opened")
}

async fn bus(config: &Config) -> Result<Opened> {
    match config.bus.address()? {
        Some(url) => server_bus(config, &url).await,
        None => {
            let path = in_data_dir(config, BUS_FILE)?;
            let db = Db::sqlite(&SqliteSettings::new(path)).context("the bus cannot be opened")?;
            let log = Arc::new(SqliteLog::open(db, Clock::system()).await?);
            let newer = log.newer().await?;
            if !newer.is_empty() {
                let names = listed(&newer);
                tracing::warn!(
                    "the embedded bus is of a newer release: this one does not know {names}, and goes \
                     on; run the newer release, unless you went back on purpose"
                );
            }
            Ok((log.clone(), log.clone(), Sides::of(&log), Bus::Embedded))
        }
    }
}

async fn server_bus(config: &Config, url: &Secret) -> Result<Opened> {
    let settings = connection::settings(config, url)?;
    let valkey = Valkey::connect(&settings)
        .await
        .context("the bus cannot be reached")?;
    let info = valkey
        .server_info()
        .await
        .context("the bus does not tell its settings")?;
    connection::check_topology(config, &info)?;
    match info.check_for_bus() {
        Ok(None) => {}
        Ok(Some(warning)) => tracing::warn!("{warning}"),
        Err(refused) => bail!(refused),
    }
    let log = Arc::new(RedisLog::new(valkey.clone()));
    let sides = Sides::of(&log);
    Ok((log.clone(), log, sides, Bus::Server { valkey, info }))
}

/// A file of the data folder, which is made where it is missing: records are in it, so it is its
/// owner's alone.
pub fn in_data_dir(config: &Config, file: &str) -> Result<std::path::PathBuf> {
    let dir: &Path = &config.server.data_dir;
    let mut maker = std::fs::DirBuilder::new();
    maker
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .with_context(|| format!("cannot make the data folder {}", dir.display()))?;
    Ok(dir.join(file))
}
