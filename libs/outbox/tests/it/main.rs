//! Outbox, relay and inbox on a real PostgreSQL and a real SQLite file.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod adopt;
mod broker;
mod brokers;
mod databases;
mod foreign;
mod handling;
mod inbox;
mod operator;
mod outbox;
mod predecessors;
mod readme;
mod relay;
