//! Outbox, relay and inbox on a real PostgreSQL and a real SQLite file.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod adopt;
mod archive;
mod broker;
#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq"))]
mod brokers;
mod crashes;
mod databases;
mod dead_rows;
mod faults;
mod foreign;
#[cfg(feature = "kafka")]
mod forgetful_kafka;
mod foul;
mod handling;
mod inbox;
mod metrics;
mod operator;
mod outbox;
mod plans;
#[cfg(any(feature = "kafka", feature = "nats", feature = "rabbitmq"))]
mod poison;
mod predecessors;
#[cfg(any(feature = "kafka", feature = "rabbitmq"))]
mod python;
mod readme;
mod recovery;
mod relay;
mod spare;
mod streams;
mod unserved;
