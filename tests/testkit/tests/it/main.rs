//! The test kit tested: what it starts runs, breaks as told and goes away.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod guard;
mod http_client;
mod postgres;
mod proxy;
mod ratebox;
mod redis;
mod waiting;
