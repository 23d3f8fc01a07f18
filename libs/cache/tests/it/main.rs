//! The cache and its guards on real servers.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod ground;
mod races;
mod reads;
