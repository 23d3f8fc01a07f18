//! A log with consumer groups on Redis or Valkey Streams, SQLite or memory.
//!
//! [`Log`] is the small port that a backend fills; [`Consumer`] is everything that turns it into
//! reliable delivery: lanes, leases with a heartbeat, claim, retry with backoff outside the
//! pending list, poison detection, dead letters, a breaker, and a shutdown that hands work back.
//!
//! Delivery is at least once. An entry is acknowledged only with the proof that its effects are
//! committed ([`Outcome::Done`]); with an inbox mark in that commit, effects are applied once.

mod abandoned;
mod admin;
mod breaker;
#[cfg(feature = "testing")]
pub mod conformance;
mod credit;
mod dead_letter;
mod entry;
mod error;
mod fence;
mod field_name;
mod gate;
mod group;
mod heartbeat;
mod held;
mod in_line;
mod inflow;
mod key_order;
mod lane;
pub mod limits;
mod log;
mod memory;
mod name;
mod outcome;
mod ownership;
pub mod partitioned;
mod partitions;
pub mod policy;
mod redis;
mod retry;
pub mod rooms;
mod shared;
mod sqlite;
pub mod stats;
mod trim;
mod work;

pub use abandoned::GroupWatch;
pub use admin::Admin;
pub use admin::ConsumerInfo;
pub use admin::Delayed;
pub use admin::FLOOR_SCAN_MAX;
pub use admin::GroupInfo;
pub use admin::LaneFloor;
pub use admin::Retention;
pub use admin::StreamInfo;
pub use admin::Trimmed;
pub use entry::Entry;
pub use entry::EntryId;
pub use entry::NotAnEntryId;
pub use entry::field;
pub use error::Cause;
pub use error::Error;
pub use fence::Fence;
pub use field_name::FieldName;
pub use group::Consumer;
pub use group::Step;
pub use key_order::KeyOrder;
pub use lane::Lane;
pub use lane::Lanes;
pub use limits::Limit;
pub use limits::Limits;
pub use limits::Rate;
pub use limits::Rules;
pub use limits::Scope;
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
pub use ownership::Owner;
pub use ownership::Ownership;
pub use partitioned::Backends;
pub use partitioned::Handlers;
pub use partitioned::PartitionedConsumer;
pub use partitioned::Terms;
pub use partitions::Chooser;
pub use partitions::PARTITIONS_MAX;
pub use partitions::Partitions;
pub use partitions::key_hash;
pub use policy::Policy;
pub use redis::RedisLog;
pub use rooms::Door;
pub use rooms::Entered;
pub use rooms::Entrant;
pub use rooms::Room;
pub use rooms::Rooms;
pub use sqlite::SqliteLog;
pub use stats::describe_metrics;
pub use trim::TrimOrder;
pub use trim::trim;
