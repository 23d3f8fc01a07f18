//! The gateway from outside: a real listener, the store on SQLite, the log in memory.

mod auth;
mod bus;
mod canary;
mod commit;
mod door;
mod framing;
mod health;
mod idempotency;
mod importer;
mod input;
mod judge;
mod limits;
mod listener;
mod openapi;
mod stream_mode;
mod validation;
mod waiting;
