//! The test kit tested: what it starts runs, breaks as told and goes away.

mod guard;
mod http_client;
mod postgres;
mod proxy;
mod redis;
mod waiting;
