//! The engine in virtual time on the store in memory, and the stores on real servers.

#![expect(clippy::unwrap_used, reason = "tests")]

mod beds;
mod brittle;
mod definitions;
mod deploys;
mod desk;
mod drawing;
mod explored;
mod failures;
mod killed;
mod mended;
mod predecessors;
mod recovery;
mod refused;
mod runs;
mod store_databases;
mod store_letters;
mod store_lists;
mod store_owners;
mod store_writes;
mod taken_over;
mod transactions;
mod world;
