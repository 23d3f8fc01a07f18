//! A cache in two tiers that never fills with a value older than an invalidation, and the guards
//! that stand before a backend: locks with fencing, a rate limiter, a circuit breaker.
//!
//! A [`Cache`] keeps values in this process' memory and in a shared [`Tier`] (Redis, Valkey, a
//! SQLite file), and loads what is in neither, once for all who ask. A [`Policy`] says how long
//! values live and how long readers wait; [`Limits`] what is kept at most.

mod breaker;
#[cfg(feature = "broken")]
mod broken;
mod builder;
mod cache;
mod changes;
mod codec;
mod engine;
mod entry;
mod error;
mod events;
mod flight;
mod generations;
mod held;
mod key;
mod limiter;
mod limits;
mod loaded;
mod lock;
mod memory;
mod packing;
mod policy;
mod scope;
mod stats;
mod tier;
mod view;
mod warm;
mod write_queue;

pub use breaker::Breaker;
pub use breaker::BreakerSettings;
pub use breaker::BreakerState;
pub use breaker::Breakers;
pub use breaker::CallError;
pub use breaker::Permit;
pub use breaker::Refused;
#[cfg(feature = "broken")]
pub use broken::Guard;
pub use builder::Builder;
pub use cache::Cache;
pub use cache::Lookup;
pub use changes::Changes;
pub use codec::Codec;
pub use codec::Json;
#[cfg(feature = "postcard")]
pub use codec::Postcard;
pub use codec::Raw;
pub use error::Cause;
pub use error::Error;
pub use events::Event;
pub use limiter::CountedBy;
pub use limiter::Limiter;
pub use limiter::Ruling;
pub use limiter::WhenAway;
pub use limits::Limits;
pub use loaded::Loaded;
pub use lock::Fences;
pub use lock::LockGuard;
pub use lock::LockSettings;
pub use lock::Locks;
pub use lock::Lost;
pub use memory::Eviction;
pub use memory::MemoryLimits;
pub use packing::Compression;
pub use policy::Early;
pub use policy::Policy;
pub use scope::RequestScope;
pub use stats::Stats;
pub use tier::MIGRATIONS;
pub use tier::OWNER;
pub use tier::Tier;
pub use tier::Usage;
pub use tier::ValkeyTier;
pub use warm::Warmed;
pub use write_queue::Apply;
pub use write_queue::DeadWrite;
pub use write_queue::Due;
pub use write_queue::Known;
pub use write_queue::MemoryQueue;
pub use write_queue::MemoryQueueSettings;
pub use write_queue::Place;
pub use write_queue::QueuedWrite;
pub use write_queue::SqliteWaiting;
pub use write_queue::Text;
pub use write_queue::ValkeyWaiting;
pub use write_queue::Waiting;
pub use write_queue::WriteQueue;
