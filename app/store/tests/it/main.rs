//! The store on a real PostgreSQL and a real SQLite file.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod adopt;
mod care;
mod databases;
mod dead_letters;
mod idempotency;
mod lookups;
mod partitions;
mod requests;
mod results;
mod statements;
mod tokens;
