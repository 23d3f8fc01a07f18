//! Imports on both databases, with a real engine and a real worker.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(
    clippy::large_futures,
    reason = "a test's future lives on one stack, once"
)]

mod bed;
mod cancelling;
mod running;
mod surviving;
