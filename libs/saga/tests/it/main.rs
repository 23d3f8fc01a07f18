//! Sagas on the journal in memory, in virtual time: definitions, runs, failures, recovery.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod definitions;
mod drawing;
mod explored;
mod failures;
mod predecessors;
mod recovery;
mod runs;
mod world;
