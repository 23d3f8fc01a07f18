//! The cache and its guards on real servers.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod breaker;
mod bulk;
mod entries;
mod extras;
mod file;
mod fills;
mod ground;
mod limiter;
mod lock;
mod outages;
mod places;
mod processes;
mod races;
mod reads;
mod register;
mod stopped;
mod tags;
mod traces;
mod tracking;
mod waiting;
mod write_behind;
mod writes;
