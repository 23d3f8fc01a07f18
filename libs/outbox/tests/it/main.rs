//! Outbox, relay and inbox on a real PostgreSQL and a real SQLite file.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod broker;
mod databases;
mod foreign;
mod handling;
mod inbox;
mod outbox;
mod relay;
