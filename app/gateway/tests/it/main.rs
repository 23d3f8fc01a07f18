//! The gateway from outside: a real listener, the store on SQLite, the log in memory.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(
    clippy::large_futures,
    reason = "a test's future lives on one stack, once"
)]

mod auth;
mod bus;
mod caches;
mod canary;
mod commit;
mod dead_letters;
mod denied;
mod door;
mod framing;
mod health;
mod idempotency;
mod importer;
mod input;
mod judge;
mod jwt;
mod limits;
mod listener;
mod lookups;
mod openapi;
mod orders;
mod sagas;
mod stream_mode;
mod validation;
mod waiting;
