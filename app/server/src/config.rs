//! All settings of the binary: one struct a concern, read by `load`, checked by `check`.
//!
//! `config.default.toml` holds every key, so the structs need no defaults of their own, and a key
//! that they do not know is an error.

mod brokers;
mod bus;
mod cache;
mod check;
mod gateway;
mod imports;
mod jwt;
mod load;
mod lookup;
mod mistyped;
mod old_broker;
mod relay;
mod rules;
mod saga;
mod server;
mod store;
mod worker;

use serde::Deserialize;

pub use brokers::BrokersConfig;
pub use bus::BusConfig;
pub use cache::{CacheAuth, CacheConfig};
pub use gateway::{Accept, GatewayConfig};
pub use imports::ImportsConfig;
pub use jwt::JwtConfig;
pub use load::{DEFAULT, Sources, is_setting, load, show, shown};
pub use lookup::LookupConfig;
pub use relay::{OutboxConfig, RelayConfig};
pub use rules::RulesConfig;
pub use saga::{JournalPlace, SagaConfig};
pub use server::{LogConfig, LogFormat, MetricsConfig, ServerConfig};
pub use store::StoreConfig;
pub use worker::WorkerConfig;

/// Everything that can be set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The process.
    pub server: ServerConfig,
    /// What is logged.
    pub log: LogConfig,
    /// What is measured.
    pub metrics: MetricsConfig,
    /// The database.
    pub store: StoreConfig,
    /// The bus.
    pub bus: BusConfig,
    /// The doors in.
    pub gateway: GatewayConfig,
    /// Bearer tokens that others sign.
    pub jwt: JwtConfig,
    /// Bulk imports.
    pub imports: ImportsConfig,
    /// Take, check, record, answer.
    pub worker: WorkerConfig,
    /// Brokers beside the bus.
    pub brokers: BrokersConfig,
    /// Sending events.
    pub outbox: OutboxConfig,
    /// Sending what its sender could not, and chores.
    pub relay: RelayConfig,
    /// How items are judged.
    pub rules: RulesConfig,
    /// The cache service.
    pub cache: CacheConfig,
    /// Look-ups of phones, accounts and e-mails.
    pub lookup: LookupConfig,
    /// Sagas.
    pub saga: SagaConfig,
}
