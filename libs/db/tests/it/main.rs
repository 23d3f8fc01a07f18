//! The database layer on a real PostgreSQL and a real SQLite file.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod databases;
mod files;
mod inserts;
mod leases;
mod migrations;
mod outages;
mod plans;
mod transactions;
mod turns;
mod values;
