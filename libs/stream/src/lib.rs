//! A log with consumer groups on Redis or Valkey Streams, SQLite or memory.
//!
//! [`Log`] is the small port that a backend fills; [`Consumer`] is everything that turns it into
//! reliable delivery: lanes, leases with a heartbeat, claim, retry with backoff outside the
//! pending list, poison detection, dead letters, a breaker, and a shutdown that hands work back.
//!
//! Delivery is at least once. An entry is acknowledged only with the proof that its effects are
//! committed ([`Outcome::Done`]); with an inbox mark in that commit, effects are applied once.

mod admin;
mod breaker;
#[cfg(feature = "testing")]
pub mod conformance;
mod control;
mod credit;
mod dead_letter;
mod delivery;
mod dispatch;
mod entry;
mod error;
mod group;
mod heartbeat;
mod held;
mod inflow;
mod lane;
mod log;
mod memory;
mod name;
mod offer;
mod outcome;
mod pace;
pub mod policy;
mod producer;
mod redis;
mod retry;
mod scaling;
mod shared;
mod slots;
mod sqlite;
mod standing;
pub mod stats;
mod work;

pub use admin::Admin;
pub use admin::ConsumerInfo;
pub use admin::Delayed;
pub use admin::FLOOR_SCAN_MAX;
pub use admin::GroupInfo;
pub use admin::LaneFloor;
pub use admin::Retention;
pub use admin::StreamInfo;
pub use admin::Trimmed;
pub use control::CANCEL_FOR;
pub use control::Cancelled;
pub use control::Control;
pub use control::ORDERS_MAX;
pub use control::Order;
pub use control::Orders;
pub use control::PROGRESS_FOR;
pub use control::PROGRESS_MAX;
pub use control::Progress;
pub use delivery::Delivery;
pub use delivery::Load;
pub use delivery::Scheduled;
pub use dispatch::DEDUPE_KEY_MAX;
pub use dispatch::Dedupe;
pub use dispatch::Dispatch;
pub use dispatch::Place;
pub use dispatch::Receipt;
pub use dispatch::Sent;
pub use dispatch::When;
pub use entry::Entry;
pub use entry::EntryId;
pub use entry::NotAnEntryId;
pub use entry::field;
pub use error::Cause;
pub use error::Error;
pub use group::Consumer;
pub use group::Step;
pub use lane::Lane;
pub use lane::Lanes;
pub use log::Append;
pub use log::ClaimScope;
pub use log::Claimed;
pub use log::Keep;
pub use log::LaneQuota;
pub use log::Log;
pub use log::Settlement;
pub use log::Subscription;
pub use log::Tail;
pub use memory::MemoryLog;
pub use name::ConsumerName;
pub use name::GroupName;
pub use name::StreamName;
pub use outcome::Handler;
pub use outcome::Outcome;
pub use policy::Expired;
pub use policy::Policy;
pub use policy::Retries;
pub use policy::RetryRule;
pub use producer::LOAD_FRESH;
pub use producer::Limits;
pub use producer::Producer;
pub use redis::RedisLog;
pub use scaling::Scaling;
pub use sqlite::SqliteLog;
pub use stats::describe_metrics;
