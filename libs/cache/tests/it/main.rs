//! The cache and its guards on real servers.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod breaker;
mod ground;
mod limiter;
mod lock;
mod races;
mod reads;
