//! What operators do, on SQLite with the embedded bus, and on PostgreSQL with Redis.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod letters;
mod replays;
mod sagas;
mod streams;
mod ward;
