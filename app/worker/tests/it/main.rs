//! The worker on a real PostgreSQL and a real SQLite file.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod bench;
mod chores;
mod lookups;
mod recording;
mod republish;
