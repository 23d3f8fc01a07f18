//! Imports on both databases, with a real engine and a real worker.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod abandoned;
mod bed;
mod cancelling;
mod chores;
mod crash_points;
mod doomed;
mod explored;
mod running;
mod surviving;
