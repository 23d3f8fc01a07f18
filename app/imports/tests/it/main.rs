//! Imports on both databases, with a real engine and a real worker.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod bed;
mod cancelling;
mod running;
mod surviving;
