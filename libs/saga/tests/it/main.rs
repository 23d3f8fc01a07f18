//! The engine in virtual time on the store in memory, and the stores on real servers.

#![expect(clippy::unwrap_used, reason = "tests")]

mod beds;
mod definitions;
mod drawing;
mod explored;
mod failures;
mod killed;
mod predecessors;
mod recovery;
mod runs;
mod store_databases;
mod store_letters;
mod store_lists;
mod store_owners;
mod store_writes;
mod transactions;
mod world;
